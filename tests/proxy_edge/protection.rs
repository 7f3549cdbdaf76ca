//! What keeps services from too much: rates, requests in flight, retries.

use crate::client::{Answer, get, one_answer};
use crate::origin::{Origin, Refusing, Reply, Seen, ok};
use crate::support::{Authority, Plan, Running, SOON, eventually, start_with};
use proxima::config::{Config, Environment};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

/// A configuration whose service `web` has more to it, and more sections at the end.
pub async fn edge(authority: &Authority, service: &str, more: &str) -> Running {
    let config = config(authority, service, more);
    start_with(config).await.unwrap()
}

fn config(authority: &Authority, service: &str, more: &str) -> Arc<Config> {
    let text = Plan::default().toml(authority).replacen(
        "[services.other]",
        &format!("{service}\n[services.other]"),
        1,
    );
    let text = format!("{text}\n{more}");
    let config = Config::from_text("proxima.toml", &text, &Environment::default());
    Arc::new(config.unwrap_or_else(|problems| panic!("{problems}\n{text}")))
}

const RATES: &str = r#"
[[rate_limits]]
name = "three"
key = "client"
requests = 3
per = "1h"
[[rate_limits]]
name = "by-key"
key = "header:x-api-key"
requests = 2
per = "1h"
keys_max = 1024
[[rate_limits]]
name = "by-route"
key = "route"
requests = 2
per = "1h"
[[routes]]
name = "limited"
hosts = ["www.example.com"]
path_prefix = "/limited"
service = "web"
rate_limits = ["three"]
[[routes]]
name = "keyed"
hosts = ["www.example.com"]
path_prefix = "/keyed"
service = "web"
rate_limits = ["by-key"]
[[routes]]
name = "whole"
hosts = ["www.example.com"]
path_prefix = "/whole"
service = "web"
rate_limits = ["by-route"]
[[routes]]
name = "other-whole"
hosts = ["www.example.com"]
path_prefix = "/whole/other"
service = "web"
rate_limits = ["by-route"]
"#;

fn limited(edge: &Running, name: &str) -> f64 {
    edge.metric(&format!("proxima_rate_limited_total{{limit=\"{name}\"}}"))
}

/// A client with another address of this machine.
pub async fn get_from(source: &str, to: SocketAddr, path: &str, headers: &str) -> Answer {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: www.example.com\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    one_answer(&mut stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_too_often_is_told_when_to_come_again_and_a_reload_forgives_nobody() {
    let authority = Authority::new();
    let edge = edge(&authority, "", RATES).await;
    let origin = Origin::start(|_, _| ok("in")).await;
    edge.route(&[("home", &[origin.address])]);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(get(edge.http(), "/limited", "").await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    let last = get(edge.http(), "/limited", "").await;
    let wait: u64 = last.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1200).contains(&wait), "{wait} seconds, where one passes in twenty minutes");
    // Another client has a count of its own.
    assert_eq!(get_from("127.0.0.2", edge.http(), "/limited", "").await.status, 200);
    // Another key, another count; another route, none.
    for (key, status) in [("a", 200), ("a", 200), ("a", 429), ("b", 200)] {
        let header = format!("x-api-key: {key}\r\n");
        assert_eq!(get(edge.http(), "/keyed", &header).await.status, status, "{key}");
    }
    assert_eq!(get(edge.http(), "/", "").await.status, 200);
    assert_eq!(edge.metric("proxima_requests_rejected_total{reason=\"rate_limited\"}"), 3.0);
    assert_eq!(
        (limited(&edge, "three"), limited(&edge, "by-key"), limited(&edge, "by-route")),
        (2.0, 1.0, 0.0)
    );

    edge.edge.apply(&config(&authority, "", RATES)).await.unwrap();
    assert_eq!(get(edge.http(), "/limited", "").await.status, 429, "the same rule goes on");
    edge.edge.apply(&config(&authority, "", &RATES.replace("requests = 3", "requests = 4"))).await.unwrap();
    assert_eq!(get(edge.http(), "/limited", "").await.status, 200, "another rule begins anew");
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_by_route_counts_all_clients_of_a_route_together() {
    let edge = edge(&Authority::new(), "", RATES).await;
    let origin = Origin::start(|_, _| ok("in")).await;
    edge.route(&[("home", &[origin.address])]);
    for (client, path, status) in [
        ("127.0.0.2", "/whole/a", 200),
        ("127.0.0.3", "/whole/b", 200),
        ("127.0.0.4", "/whole/c", 429),
        ("127.0.0.2", "/whole/a", 429),
        // Another route has a count of its own, by the same limit.
        ("127.0.0.2", "/whole/other", 200),
    ] {
        assert_eq!(get_from(client, edge.http(), path, "").await.status, status, "{client} {path}");
    }
    assert_eq!(limited(&edge, "by-route"), 2.0);
    assert_eq!(origin.seen().len(), 3, "what comes too often costs the service nothing");
    edge.close().await;
}

/// Who varies the header has a new count each time; the table says when it is too small for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_varies_the_header_is_not_limited_by_it_and_a_full_table_is_told() {
    let edge = edge(&Authority::new(), "", RATES).await;
    let origin = Origin::start(|_, _| ok("in")).await;
    edge.route(&[("home", &[origin.address])]);
    let forgotten = || edge.metric("proxima_rate_keys_forgotten_total{limit=\"by-key\"}");
    let mut stream = TcpStream::connect(edge.http()).await.unwrap();
    for key in 0..1100 {
        let request = format!("GET /keyed HTTP/1.1\r\nhost: www.example.com\r\nx-api-key: {key}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(one_answer(&mut stream).await.status, 200, "{key}");
        assert!(key > 8 || forgotten() == 0.0, "a place for eight, whoever they are");
    }
    assert!(forgotten() >= 76.0, "{} of 1100 keys do not fit 1024 places", forgotten());
    assert_eq!(limited(&edge, "by-key"), 0.0);
    edge.close().await;
}

pub const BOUND: &str =
    "[services.web.concurrency]\nkind = \"fixed\"\nlimit = 10\nnormal_share = 0.5\nsheddable_share = 0.2";
pub const CLASSES: &str = r#"
[[routes]]
name = "dear"
hosts = ["www.example.com"]
path_prefix = "/dear"
service = "web"
priority = "critical"
[[routes]]
name = "cheap"
hosts = ["www.example.com"]
path_prefix = "/cheap"
service = "web"
priority = "sheddable"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_for_a_service_is_shed_the_cheapest_first() {
    let edge = edge(&Authority::new(), BOUND, CLASSES).await;
    let slow = Origin::start(|_, _| Reply::Silence).await;
    edge.route(&[("home", &[slow.address])]);
    let at = edge.http();
    let hold = |path: &'static str| tokio::spawn(async move { get(at, path, "").await });
    let mut held = vec![hold("/cheap"), hold("/cheap")];
    eventually("two are in flight", || slow.seen().len() == 2).await;
    let busy = get(at, "/cheap", "").await;
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("1")));
    held.extend([hold("/"), hold("/"), hold("/")]);
    eventually("five are in flight", || slow.seen().len() == 5).await;
    assert_eq!(get(at, "/", "").await.status, 503, "normal ones may use half of the bound");
    held.extend((0..5).map(|_| hold("/dear")));
    eventually("ten are in flight", || slow.seen().len() == 10).await;
    assert_eq!(get(at, "/dear", "").await.status, 503);
    assert_eq!(slow.seen().len(), 10, "what is shed costs the service nothing");
    assert_eq!(edge.metric("proxima_requests_rejected_total{reason=\"overloaded\"}"), 3.0);
    for class in ["sheddable", "normal", "critical"] {
        let shed = format!("proxima_requests_shed_total{{priority=\"{class}\",service=\"web\"}}");
        assert_eq!(edge.metric(&shed), 1.0, "{class}");
    }
    assert_eq!(edge.metric("proxima_concurrency_limit{service=\"web\"}"), 10.0);
    // A client that leaves makes room.
    for held in held {
        held.abort();
    }
    let well = Origin::start(|_, _| ok("in")).await;
    edge.route(&[("home", &[well.address])]);
    let served = async {
        while get(at, "/cheap", "").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, served).await.expect("room again");
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_request_that_is_too_much_is_served_by_the_next_region() {
    let authority = Authority::new();
    let bound = BOUND.replace("limit = 10", "limit = 1").replace("0.5", "1.0");
    let home = edge(&authority, "", "").await;
    let away = {
        let plan = Plan { own: "away", ..Plan::default() };
        let text =
            plan.toml(&authority).replacen("[services.other]", &format!("{bound}\n[services.other]"), 1);
        start_with(Arc::new(Config::from_text("away.toml", &text, &Environment::default()).unwrap()))
            .await
            .unwrap()
    };
    let slow = Origin::start(|_, _| Reply::Silence).await;
    let own = Origin::start(|_, _| ok("home")).await;
    away.route(&[("away", &[slow.address])]);
    home.route(&[("away", &[away.peer()]), ("home", &[own.address])]);
    let at = home.http();
    let held = tokio::spawn(async move { get(at, "/", "").await });
    eventually("one is in flight there", || slow.seen().len() == 1).await;
    let answer = get(at, "/", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "home"));
    assert_eq!(slow.seen().len(), 1);
    held.abort();
    home.close().await;
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_cost_a_dying_service_no_more_than_their_budget() {
    let budget = "[services.web.retry_budget]\nratio = 0.1\nmin_per_second = 1.0\nwindow = \"10s\"";
    let edge = edge(&Authority::new(), budget, "").await;
    let ill: Vec<Refusing> = (0..3).map(|_| Refusing::new()).collect();
    let addresses: Vec<_> = ill.iter().map(|ill| ill.address).collect();
    edge.route(&[("home", &addresses)]);
    let asked = 200_u32;
    for _ in 0..asked {
        let Answer { status, .. } = get(edge.http(), "/", "").await;
        assert_eq!(status, 502);
    }
    let retries = edge.metric("proxima_retries_total{reason=\"connect\",service=\"web\"}");
    // A tenth of the requests, and one a second for the window.
    assert!((1.0..=f64::from(asked) * 0.1 + 10.0 + 1.0).contains(&retries), "{retries} retries");
    assert!(edge.metric("proxima_retries_denied_total{service=\"web\"}") >= f64::from(asked) * 0.7);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_with_as_many_connections_as_it_may_is_busy_and_no_failure_of_it() {
    let authority = Authority::new();
    let mut edge = edge(&authority, "max_connections_per_endpoint = 1", "").await;
    let hold = |seen: &Seen, _| if seen.head.starts_with("GET /hold") { Reply::Silence } else { ok("free") };
    let (one, other) = (Origin::start(hold).await, Origin::start(hold).await);
    edge.route(&[("home", &[one.address, other.address])]);
    // The second one is sent to the other endpoint, whichever was picked first.
    let mut held = Vec::new();
    for count in 1..=2 {
        let mut client = TcpStream::connect(edge.http()).await.unwrap();
        client.write_all(b"GET /hold HTTP/1.1\r\nhost: www.example.com\r\n\r\n").await.unwrap();
        held.push(client);
        eventually("it is held", || one.seen().len() + other.seen().len() == count).await;
    }
    assert_eq!((one.seen().len(), other.seen().len()), (1, 1));
    for _ in 0..5 {
        let answer = get(edge.http(), "/", "").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    }
    assert_eq!(edge.metric("proxima_requests_rejected_total{reason=\"overloaded\"}"), 5.0);
    assert!(edge.metric("proxima_retries_total{reason=\"busy\",service=\"web\"}") >= 5.0);
    assert!(edge.no_outcome(), "nothing is said of an endpoint that was not asked");
    // A seat is free as soon as its connection has ended, and a kept connection takes none anew.
    held.pop();
    let mut free = false;
    while !free {
        free = get(edge.http(), "/", "").await.status == 200;
    }
    for _ in 0..5 {
        assert_eq!(get(edge.http(), "/", "").await.body, "free");
    }
    drop(held);
    edge.close().await;
}
