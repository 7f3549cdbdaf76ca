//! Listeners: TLS, HTTP versions, deadlines, reload.

use crate::client::{curl, get, one_answer, parse, raw, rest};
use crate::origin::{Origin, Reply, hinting, ok};
use crate::support::{Authority, Plan, Running, eventually, start, start_with};
use bytes::Bytes;
use proxima::config::{Config, Environment};
use proxima::proxy::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// An edge before an origin that tells the scheme.
async fn fronted(authority: &Authority) -> Running {
    let edge = start(&Plan::default(), authority).await;
    let origin = Origin::start(|seen, _| ok(seen.header("x-forwarded-proto").unwrap())).await;
    edge.route(&[("home", &[origin.address])]);
    edge
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_spoken_on_every_listener() {
    let authority = Authority::new();
    let edge = fronted(&authority).await;
    let (plain, tls) = (edge.http().port(), edge.https().port());
    let plain = format!("http://www.example.com:{plain}/");
    let secure = format!("https://www.example.com:{tls}/");
    let roots = authority.roots();
    let to = |address: SocketAddr| format!("::127.0.0.1:{}", address.port());
    for (url, flags, to, version, scheme) in [
        (&plain, &["--http1.1"][..], to(edge.http()), "1.1", "http"),
        (&plain, &["--http2-prior-knowledge"][..], to(edge.http()), "2", "http"),
        (&plain, &["--http1.0"][..], to(edge.http()), "1.1", "http"),
        (&secure, &["--http1.1"][..], to(edge.https()), "1.1", "https"),
        (&secure, &["--http2"][..], to(edge.https()), "2", "https"),
        (&secure, &["--tls-max", "1.2"][..], to(edge.https()), "2", "https"),
    ] {
        let arguments = ["--cacert", roots.to_str().unwrap(), "--connect-to", &to, url];
        let Some(answer) = curl(&[&arguments[..], flags].concat()).await else { return };
        let got = (answer.status, answer.version.as_str(), answer.body.as_str());
        assert_eq!(got, (200, version, scheme), "{flags:?} {url} {}", answer.error);
    }
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_shorter_than_the_preface_of_http2_and_slow_ones_are_answered() {
    let authority = Authority::new();
    let edge = fronted(&authority).await;
    assert!(raw(edge.http(), "GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1."));
    let mut stream = TcpStream::connect(edge.http()).await.unwrap();
    for part in ["P", "OST / HTTP/1.1\r\nhost: www.exa", "mple.com\r\ncontent-length: 0\r\n\r\n"] {
        stream.write_all(part.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(one_answer(&mut stream).await.status, 200);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_many_requests_pipelined_ones_too() {
    let authority = Authority::new();
    let edge = fronted(&authority).await;
    let mut stream = TcpStream::connect(edge.http()).await.unwrap();
    let request = "GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n";
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = one_answer(&mut stream).await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
    }
    assert_eq!(edge.metric("proxima_connections_active{listener=\"http\"}"), 1.0);
    let last = "GET / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n";
    stream.write_all(format!("{request}{request}{last}").as_bytes()).await.unwrap();
    let answers = rest(&mut stream).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
    eventually("the connection ends", || edge.edge.activity().connections == 0).await;
    assert_eq!(edge.metric("proxima_connections_active{listener=\"http\"}"), 0.0);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_requests_share_one_connection_and_go_on_over_http2() {
    let authority = Authority::new();
    // Behind this edge is another one, spoken to by prior knowledge.
    let behind = fronted(&authority).await;
    let edge = start(&Plan { protocol: "http2", ..Plan::default() }, &authority).await;
    edge.route(&[("home", &[behind.http()])]);
    let stream = TcpStream::connect(edge.http()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..20 {
        let request = http::Request::get("http://www.example.com/").body(()).unwrap();
        client = client.ready().await.unwrap();
        answers.push(client.send_request(request, true).unwrap().0);
    }
    for answer in answers {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        let bytes: Bytes = body.data().await.unwrap().unwrap();
        assert_eq!(bytes, "http");
    }
    assert_eq!(edge.edge.activity().connections, 1);
    drop(client);
    edge.close().await;
    behind.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_without_a_restart() {
    let authority = Authority::new();
    let plan = Plan::default();
    let edge = fronted(&authority).await;
    let roots = authority.roots();
    let to = format!("::127.0.0.1:{}", edge.https().port());
    let url = format!("https://new.example.com:{}/", edge.https().port());
    let arguments = ["--cacert", roots.to_str().unwrap(), "--connect-to", &to, &url];
    let Some(before) = curl(&arguments).await else { return };
    assert_eq!(before.status, 0, "the certificate is for another name");
    // The plan signs anew; the file of the server is then overwritten by one for another name.
    let mut config = Config::clone(&plan.config(&authority));
    let new = authority.sign("new.example.com");
    let default = &mut config.tls.as_mut().unwrap().default;
    (default.certificate, default.key) = (new.certificate, new.key);
    edge.edge.apply(&Arc::new(config.clone())).await.unwrap();
    let after = curl(&arguments).await.unwrap();
    assert_eq!(after.status, 200, "{}", after.error);
    // A bad file is refused and changes nothing.
    std::fs::write(&config.tls.as_ref().unwrap().default.key, "nonsense").unwrap();
    let e = edge.edge.apply(&Arc::new(config)).await.unwrap_err();
    assert!(matches!(e, Error::Tls { .. }), "{e}");
    assert_eq!(curl(&arguments).await.unwrap().status, 200);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_meet_under_new_roots_after_a_reload_and_old_connections_are_not_used_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let home = start(&Plan::default(), &old).await;
    let plan_away = Plan { own: "away", ..Plan::default() };
    let away = start(&plan_away, &old).await;
    let origin = Origin::start(|_, _| ok("away")).await;
    home.route(&[("away", &[away.peer()])]);
    away.route(&[("away", &[origin.address])]);
    assert_eq!(get(home.http(), "/", "").await.status, 200);
    // Only the roots change: Pingora by itself would go on with the connection that the old ones verified.
    let mut only_roots = Config::clone(&home.config);
    only_roots.peer.as_mut().unwrap().ca = new.roots();
    home.edge.apply(&Arc::new(only_roots)).await.unwrap();
    let status = get(home.http(), "/", "").await.status;
    assert_eq!(status, 502, "the peer's certificate is under the old roots");
    home.edge.apply(&Plan::default().config(&new)).await.unwrap();
    away.edge.apply(&plan_away.config(&new)).await.unwrap();
    assert_eq!(get(home.http(), "/", "").await.status, 200);
    home.close().await;
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_leaves_the_trust_alone_keeps_connections_between_regions() {
    let authority = Authority::new();
    let home = start(&Plan::default(), &authority).await;
    let away = start(&Plan { own: "away", ..Plan::default() }, &authority).await;
    let origin = Origin::start(|_, _| ok("away")).await;
    home.route(&[("away", &[away.peer()])]);
    away.route(&[("away", &[origin.address])]);
    assert_eq!(get(home.http(), "/", "").await.status, 200);
    let other = home.config.peer.as_ref().unwrap().clone();
    let reload = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::clone(&home.config);
        change(&mut config);
        Arc::new(config)
    };
    // Other settings, and the same content in files of other names.
    let copy = authority.folder.join("copy-of-ca.pem");
    std::fs::copy(&other.ca, &copy).unwrap();
    for config in [
        reload(&|config| config.drain.notice *= 2),
        reload(&|config| config.peer.as_mut().unwrap().ca.clone_from(&copy)),
    ] {
        home.edge.apply(&config).await.unwrap();
        assert_eq!(get(home.http(), "/", "").await.status, 200);
        assert_eq!(away.edge.activity().connections, 1, "the connection is used on");
    }
    // Another certificate of its own, under the same roots: a new connection.
    let renewed = authority.sign("peer.home.example.net");
    let config = reload(&|config| config.peer.as_mut().unwrap().certificate.clone_from(&renewed.certificate));
    home.edge.apply(&config).await.unwrap();
    assert_eq!(get(home.http(), "/", "").await.status, 200);
    assert_eq!(away.edge.activity().connections, 2, "the old one is left to end by itself");
    home.close().await;
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_bound_or_read_is_an_error_with_its_place() {
    let authority = Authority::new();
    let plan = Plan::default();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = Config::clone(&plan.config(&authority));
    config.listeners[0].address = taken.local_addr().unwrap().into();
    let e = start_with(Arc::new(config)).await.err().unwrap();
    assert!(matches!(&e, Error::Bind { listener, .. } if listener == "http"), "{e}");
    assert!(e.to_string().contains(&taken.local_addr().unwrap().to_string()), "{e}");

    let mut config = Config::clone(&plan.config(&authority));
    std::fs::write(&config.tls.as_mut().unwrap().default.certificate, "not a certificate").unwrap();
    let e = start_with(Arc::new(config)).await.err().unwrap();
    assert!(matches!(&e, Error::Tls { listener, .. } if listener == "https"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_listeners_need_a_restart_and_nothing_of_that_reload_is_applied() {
    let authority = Authority::new();
    let edge = fronted(&authority).await;
    let text = Plan::default().toml(&authority).replace("name = \"http\"", "name = \"web\"");
    let config = Config::from_text("proxima.toml", &text, &Environment::default()).unwrap();
    let e = edge.edge.apply(&Arc::new(config)).await.unwrap_err();
    assert!(
        matches!(&e, Error::NeedsRestart { what } if what == "the names, addresses and protocols of listeners"),
        "{e}"
    );
    assert_eq!(get(edge.http(), "/", "").await.status, 200);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_continue_and_early_hints_pass_without_ending_the_exchange() {
    let authority = Authority::new();
    let edge = start(&Plan::default(), &authority).await;
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nx-proxima-refused: no_room\r\n\r\n\
                 HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let origin = Origin::start(move |_, _| crate::origin::Reply::Send(hints.to_owned())).await;
    edge.route(&[("home", &[origin.address])]);
    let text = raw(edge.http(), "GET / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 103"), "{text}");
    assert!(!text.contains("x-proxima"), "{text}");
    assert_eq!(parse(&text).body, "ok");
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn early_hints_of_an_http_2_service_reach_clients_even_of_another_region() {
    let authority = Authority::new();
    let plan = |own| Plan { own, protocol: "http2", ..Plan::default() };
    let (home, away) = (start(&plan("home"), &authority).await, start(&plan("away"), &authority).await);
    let origin = hinting().await;
    away.route(&[("away", &[origin])]);
    for (region, address) in [("home", origin), ("away", away.peer())] {
        home.route(&[(region, &[address])]);
        let request = "GET / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n";
        let text = raw(home.http(), request).await;
        assert!(text.starts_with("HTTP/1.1 103") && text.contains("link: </style.css>"), "{region}: {text}");
        let answer = parse(&text);
        assert!(answer.status == 200 && answer.body.contains("styled"), "{region}: {text}");
    }
    home.close().await;
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_its_connection_is_chunked_so_that_a_broken_one_does_not_look_whole() {
    let edge = start(&Plan::default(), &Authority::new()).await;
    let whole =
        Origin::start(|_, _| Reply::SendAndClose("HTTP/1.1 200 OK\r\n\r\nall of it".to_owned())).await;
    let ask =
        |version: &str| format!("GET / HTTP/{version}\r\nhost: www.example.com\r\nconnection: close\r\n\r\n");
    edge.route(&[("home", &[whole.address])]);
    let answer = raw(edge.http(), &ask("1.1")).await;
    assert!(
        answer.contains("transfer-encoding: chunked\r\n") && answer.ends_with("\r\n0\r\n\r\n"),
        "{answer}"
    );
    // HTTP/1.0 has no chunks: the end of the connection is the end of the answer.
    let old = raw(edge.http(), &ask("1.0")).await;
    assert!(!old.contains("transfer-encoding") && old.ends_with("\r\n\r\nall of it"), "{old}");
    // An origin that says that more comes, and breaks off.
    let broken = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n".to_owned();
    let broken = Origin::start(move |_, _| Reply::SendAndClose(broken.clone())).await;
    edge.route(&[("home", &[broken.address])]);
    let answer = raw(edge.http(), &ask("1.1")).await;
    assert!(answer.contains("part") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    assert_eq!(edge.metric("proxima_answers_cut_total{reason=\"cut\",service=\"web\"}"), 1.0);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_serves_ipv6_and_tells_services_such_a_client_s_address() {
    if let Err(error) = tokio::net::TcpListener::bind("[::1]:0").await {
        eprintln!("SKIPPED: no IPv6 on this machine: {error}");
        return;
    }
    let authority = Authority::new();
    let text = Plan::default().toml(&authority);
    let text = text.replacen("address = \"127.0.0.1:0\"", "address = \"[::1]:0\"", 1);
    let config = Config::from_text("proxima.toml", &text, &Environment::default()).unwrap();
    let edge = start_with(Arc::new(config)).await.unwrap();
    let origin = Origin::start(|_, _| ok("by IPv6")).await;
    edge.route(&[("home", &[origin.address])]);
    assert!(edge.http().is_ipv6());
    assert_eq!(get(edge.http(), "/", "").await.body, "by IPv6");
    let seen = &origin.seen()[0];
    assert_eq!(seen.header("x-forwarded-for"), Some("::1"));
    assert!(seen.header("forwarded").is_some_and(|told| told.starts_with("for=\"[::1]\";")), "{}", seen.head);
    edge.close().await;
}
