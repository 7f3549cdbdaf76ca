//! Between regions: forwarded over mutual TLS, served or refused, never forwarded again.

use crate::client::{curl, get, identity, parse, post};
use crate::origin::{Origin, Refusing, Relay, Reply, http2, ok};
use crate::support::{Authority, Plan, Running, region, start, start_with};
use proxima::config::{Config, Environment};
use proxima::domain::fleet::{Input, OutcomeResult, SampleSource};
use proxima::domain::health::State;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Edges of two regions under one authority.
async fn two(authority: &Authority) -> (Running, Running) {
    let home = start(&Plan::default(), authority).await;
    let away = start(&Plan { own: "away", ..Plan::default() }, authority).await;
    (home, away)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_forwarded_over_mutual_tls_and_served_there() {
    let authority = Authority::new();
    let (mut home, mut away) = two(&authority).await;
    let origin = Origin::start(|seen, _| ok(&format!("far {}", seen.body))).await;
    home.route(&[("away", &[away.peer()])]);
    away.route(&[("away", &[origin.address])]);
    let answer = post(home.http(), "payload").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "far payload"));
    let seen = &origin.seen()[0];
    for (name, value) in [
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("www.example.com")),
        ("host", Some("www.example.com")),
        ("via", Some("1.1 proxima, 2 proxima")),
        ("x-proxima-forwarded-by", None),
        ("x-proxima-service", None),
        ("x-request-id", answer.header("x-request-id")),
    ] {
        assert_eq!(seen.header(name), value, "{name}\n{}", seen.head);
    }
    assert_eq!(home.outcome().await, ("away".to_owned(), OutcomeResult::Success));
    assert_eq!(away.outcome().await, ("away".to_owned(), OutcomeResult::Success));
    assert_eq!((home.metrics.entered_total(), home.metrics.served_total()), (1, 0));
    assert_eq!((away.metrics.entered_total(), away.metrics.served_total()), (0, 1));
    let line = "proxima_requests_total{class=\"2xx\",region=\"away\",service=\"web\"}";
    assert_eq!(home.metric(line), 1.0);
    // The connection between the regions is kept.
    assert_eq!(get(home.http(), "/", "").await.status, 200);
    assert_eq!(away.edge.activity().connections, 1);
    home.close().await;
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_one_through_two_regions_even_where_clients_are_not_believed() {
    let authority = Authority::new();
    let traced = |own: &'static str, sample: &str| {
        let text = Plan { own, ..Plan::default() }.toml(&authority);
        let text = format!("{text}[tracing]\nsample = {sample}\nclients = \"restart\"\n");
        Arc::new(Config::from_text("proxima.toml", &text, &Environment::default()).unwrap())
    };
    // The second region would not sample it: the first one has decided.
    let home = start_with(traced("home", "1.0")).await.unwrap();
    let away = start_with(traced("away", "0.0")).await.unwrap();
    let (near, far) = (Origin::start(|_, _| ok("near")).await, Origin::start(|_, _| ok("far")).await);
    let told = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n";
    home.route(&[("away", &[away.peer()])]);
    away.route(&[("away", &[far.address])]);
    assert_eq!(get(home.http(), "/", told).await.body, "far");
    let parent = far.seen()[0].header("traceparent").unwrap().to_owned();
    assert!(!parent.contains("4bf92f3577b34da6"), "{parent}");
    assert!(parent.ends_with("-01"), "sampled by the first region, and the second believes it: {parent}");
    // Where it is served at home, one that begins there is sampled by that region's share.
    away.route(&[("away", &[near.address])]);
    assert_eq!(get(away.http(), "/", told).await.body, "near");
    let own = near.seen()[0].header("traceparent").unwrap().to_owned();
    assert!(own.ends_with("-00") && own[3..35] != parent[3..35], "{own}");
    home.close().await;
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_503_goes_to_the_next_region_for_any_method() {
    let authority = Authority::new();
    let (mut home, away) = two(&authority).await;
    let far = start(&Plan { own: "far", ..Plan::default() }, &authority).await;
    let origin = Origin::start(|seen, _| ok(&seen.body)).await;
    home.route(&[("away", &[away.peer()]), ("far", &[far.peer()])]);
    far.route(&[("far", &[origin.address])]);
    for (state, reason) in [(State::Healthy, "no_room"), (State::Ejected, "no_service")] {
        away.change(|of, own| {
            of.accepts_forwarded = false;
            of.states = [(own.clone(), state)].into();
        });
        let answer = post(home.http(), "payload").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "payload"), "{reason}");
        assert_eq!(home.outcome().await, ("away".to_owned(), OutcomeResult::Refused));
        assert_eq!(home.outcome().await, ("far".to_owned(), OutcomeResult::Success));
        let line = format!("proxima_forwarded_refused_total{{reason={reason:?}}}");
        assert_eq!(away.metric(&line), 1.0);
    }
    assert_eq!(home.metric("proxima_retries_total{reason=\"refused\",service=\"web\"}"), 2.0);
    for edge in [home, away, far] {
        edge.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_the_last_region_is_a_plain_503_to_the_client() {
    let authority = Authority::new();
    let (mut home, away) = two(&authority).await;
    home.route(&[("away", &[away.peer()])]);
    away.change(|of, _| of.accepts_forwarded = false);
    let answer = get(home.http(), "/", "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.headers.keys().all(|name| !name.starts_with("x-proxima-")), "{answer:?}");
    assert_eq!(home.outcome().await, ("away".to_owned(), OutcomeResult::Refused));
    home.close().await;
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_request_is_never_forwarded_again() {
    let authority = Authority::new();
    let (home, away) = two(&authority).await;
    // Each believes that the other one serves: a loop, if anything were forwarded twice.
    home.route(&[("away", &[away.peer()])]);
    away.route(&[("home", &[home.peer()])]);
    away.change(|of, own| {
        of.accepts_forwarded = true;
        of.states = [(own.clone(), State::Healthy)].into();
    });
    assert_eq!(get(home.http(), "/", "").await.status, 503);
    assert_eq!(away.metric("proxima_attempts_total{service=\"web\"}"), 0.0);
    assert_eq!(home.metric("proxima_attempts_total{service=\"web\"}"), 1.0);
    home.close().await;
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_endpoints_there_send_the_request_on_to_the_next_region() {
    let authority = Authority::new();
    let (mut home, away) = two(&authority).await;
    let far = start(&Plan { own: "far", ..Plan::default() }, &authority).await;
    let (dead, origin) = (Refusing::new(), Origin::start(|_, _| ok("far")).await);
    home.route(&[("away", &[away.peer()]), ("far", &[far.peer()])]);
    away.route(&[("away", &[dead.address])]);
    far.route(&[("far", &[origin.address])]);
    assert_eq!(post(home.http(), "x").await.body, "far");
    assert_eq!(home.outcome().await, ("away".to_owned(), OutcomeResult::Refused));
    for edge in [home, away, far] {
        edge.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_own_endpoints_send_the_request_to_another_region_within_the_budget() {
    let authority = Authority::new();
    let (home, away) = two(&authority).await;
    let origin = Origin::start(|_, _| ok("away")).await;
    let dead: Vec<_> = (0..5).map(|_| Refusing::new()).collect();
    let addresses: Vec<SocketAddr> = dead.iter().map(|d| d.address).collect();
    home.route(&[("home", &addresses), ("away", &[away.peer()])]);
    away.route(&[("away", &[origin.address])]);
    for _ in 0..5 {
        assert_eq!(post(home.http(), "x").await.body, "away");
    }
    home.close().await;
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_before_its_answer_costs_an_idempotent_request_nothing() {
    let authority = Authority::new();
    let (home, away) = two(&authority).await;
    let killed = Origin::start(|_, _| Reply::Reset).await;
    let origin = Origin::start(|_, _| ok("away")).await;
    home.route(&[("home", &[killed.address]), ("away", &[away.peer()])]);
    away.route(&[("away", &[origin.address])]);
    for _ in 0..20 {
        assert_eq!(get(home.http(), "/", "").await.body, "away");
    }
    home.close().await;
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_gets_the_view_and_only_from_a_peer() {
    let authority = Authority::new();
    let away = start(&Plan { own: "away", ..Plan::default() }, &authority).await;
    let (name, port) = ("peer.away.example.net", away.peer().port());
    let url = format!("https://{name}:{port}/.proxima/view");
    let resolve = format!("{name}:{port}:127.0.0.1");
    let roots = authority.roots();
    let base = ["--resolve", &resolve, "--cacert", roots.to_str().unwrap(), &url];
    let probe = authority.sign("peer.home.example.net");
    let with = [&base[..], &identity(&probe.certificate, &probe.key)[..]].concat();
    for version in ["--http1.1", "--http2"] {
        let Some(answer) = curl(&[&with[..], &[version]].concat()).await else { return };
        assert_eq!(answer.status, 200, "{version} {}", answer.error);
        let view: proxima::domain::view::View = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(view, **away.view.load());
        assert_eq!(view.region, region("away"));
    }
    let nobody = curl(&base).await.unwrap();
    assert_eq!(nobody.status, 0, "without a certificate: {nobody:?}");
    let stranger = Authority::new();
    let theirs = stranger.sign("peer.home.example.net");
    let other = [&base[..], &identity(&theirs.certificate, &theirs.key)[..]].concat();
    assert_eq!(curl(&other).await.unwrap().status, 0, "under another authority");
    assert_eq!(away.metric("proxima_handshake_failures_total{listener=\"peer\"}"), 2.0);
    // A client listener knows no such path, and a stray request is no forwarded one.
    assert_eq!(get(away.http(), "/.proxima/view", "").await.status, 503);
    let stray = url.replace("/.proxima/view", "/");
    let stray = [&base[..4], &identity(&probe.certificate, &probe.key)[..], &[&stray]].concat();
    assert_eq!(curl(&stray).await.unwrap().status, 400);
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_the_wrong_name_or_authority_is_not_spoken_to() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut home = start(&Plan::default(), &authority).await;
    let far = start(&Plan { own: "far", ..Plan::default() }, &authority).await;
    let impostor = start(&Plan { own: "away", ..Plan::default() }, &stranger).await;
    let origin = Origin::start(|_, _| ok("never")).await;
    far.route(&[("far", &[origin.address])]);
    impostor.route(&[("away", &[origin.address])]);
    for address in [far.peer(), impostor.peer()] {
        home.route(&[("away", &[address])]);
        assert_eq!(get(home.http(), "/", "").await.status, 502);
        assert_eq!(home.outcome().await, ("away".to_owned(), OutcomeResult::Failure));
    }
    assert!(origin.seen().is_empty());
    for edge in [home, far, impostor] {
        edge.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_passes_from_region_to_region() {
    let authority = Authority::new();
    let (home, away) = two(&authority).await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    let origin = Origin::start(move |_, _| Reply::Echo(switch.to_owned())).await;
    home.route(&[("away", &[away.peer()])]);
    away.route(&[("away", &[origin.address])]);
    let mut client = TcpStream::connect(home.http()).await.unwrap();
    let request =
        "GET /ws HTTP/1.1\r\nhost: www.example.com\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(client.read_buf(&mut head).await.unwrap() > 0, "closed");
    }
    let answer = parse(&String::from_utf8(head).unwrap());
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
    for message in ["ping", "pong"] {
        client.write_all(message.as_bytes()).await.unwrap();
        let mut back = [0; 4];
        client.read_exact(&mut back).await.unwrap();
        assert_eq!(back, message.as_bytes());
    }
    drop(client);
    home.close().await;
    away.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_passes_from_region_to_region_with_its_trailers() {
    let authority = Authority::new();
    let plan = |own| Plan { own, protocol: "http2", ..Plan::default() };
    let (home, away) = (start(&plan("home"), &authority).await, start(&plan("away"), &authority).await);
    let (origin, _) = http2(false).await;
    home.route(&[("away", &[away.peer()])]);
    away.route(&[("away", &[origin])]);
    let stream = TcpStream::connect(home.http()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://www.example.com/Greeter/Hello").header("te", "trailers");
    let (answer, mut upload) =
        client.ready().await.unwrap().send_request(request.body(()).unwrap(), false).unwrap();
    upload.send_data("question".into(), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.headers()["x-te"], "trailers");
    let mut body = answer.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "message");
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.unwrap().expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    home.close().await;
    away.close().await;
}

/// No RST, no FIN: only the ping on the connection between the regions notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_falls_silent_costs_an_idempotent_request_time_but_not_its_answer() {
    let authority = Authority::new();
    let plan = |own| Plan { own, read_timeout: "60s", ..Plan::default() };
    let (mut home, away) = (start(&plan("home"), &authority).await, start(&plan("away"), &authority).await);
    let far = start(&plan("far"), &authority).await;
    let origin = Origin::start(|_, _| ok("served")).await;
    let relay = Relay::start(away.peer()).await;
    home.route(&[("away", &[relay.address]), ("far", &[far.peer()])]);
    away.route(&[("away", &[origin.address])]);
    far.route(&[("far", &[origin.address])]);
    assert_eq!(get(home.http(), "/", "").await.body, "served");
    assert_eq!(home.outcome().await.0, "away");
    relay.fall_silent();
    assert_eq!(get(home.http(), "/", "").await.body, "served");
    assert_eq!(home.outcome().await, ("away".to_owned(), OutcomeResult::Failure));
    assert_eq!(home.outcome().await, ("far".to_owned(), OutcomeResult::Success));
    for edge in [home, far] {
        edge.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_body_by_its_nature_passes_between_regions_and_the_connection_goes_on() {
    let authority = Authority::new();
    let (home, away) = two(&authority).await;
    let origin = Origin::start(|seen, _| {
        let path = seen.head.split(' ').nth(1).unwrap_or_default();
        match path {
            "/head" => Reply::Send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_owned()),
            "/unchanged" => Reply::Send("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n".to_owned()),
            "/empty" => Reply::Send("HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
            _ => ok("last"),
        }
    })
    .await;
    home.route(&[("away", &[away.peer()])]);
    away.route(&[("away", &[origin.address])]);
    let ask = |method: &str, path: &str, end: &str| {
        format!("{method} {path} HTTP/1.1\r\nhost: www.example.com\r\n{end}\r\n")
    };
    let requests = [
        ask("HEAD", "/head", ""),
        ask("GET", "/unchanged", ""),
        ask("DELETE", "/empty", ""),
        ask("GET", "/last", "connection: close\r\n"),
    ];
    let answers = crate::client::raw(home.http(), &requests.concat()).await;
    let heads: Vec<&str> = answers.matches("HTTP/1.1 ").collect();
    assert_eq!(heads.len(), 4, "{answers}");
    let blocks: Vec<&str> = answers.split("\r\n\r\n").collect();
    assert_eq!(blocks.len(), 5, "{answers}");
    for (block, status, length) in [
        (blocks[0], "200", Some("5")),
        (blocks[1], "304", Some("5")),
        (blocks[2], "204", None),
        (blocks[3], "200", Some("4")),
    ] {
        assert!(block.starts_with(&format!("HTTP/1.1 {status} ")), "{answers}");
        let told = block.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(told, length, "{answers}");
        assert!(!block.contains("transfer-encoding"), "{answers}");
    }
    assert_eq!(blocks[4], "last");
    home.close().await;
    away.close().await;
}

/// The next round trip of this kind that the core is told.
#[cfg(target_os = "linux")]
async fn sampled(home: &mut Running, wanted: SampleSource) -> Duration {
    loop {
        let sample = timeout(Duration::from_secs(10), home.samples.recv()).await.expect("no sample");
        let Some(Input::Sample { region: of, rtt, source }) = sample else { panic!("{sample:?}") };
        assert_eq!(of, region("away"));
        if source == wanted {
            return rtt.duration();
        }
    }
}

/// The way to the other region goes over a relay that ends the connection and adds a delay, so that the kernel
/// measures this machine, and the first byte the distance.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn forwarded_traffic_tells_the_kernel_s_round_trip_apart_from_the_time_to_the_first_byte() {
    const FAR: Duration = Duration::from_millis(80);
    let authority = Authority::new();
    let (mut home, away) = two(&authority).await;
    let origin = Origin::start(|_, _| ok("far")).await;
    away.route(&[("away", &[origin.address])]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = listener.local_addr().unwrap();
    let way = proxima::demo::relay::Relay {
        listener,
        target: away.peer(),
        rtt: Arc::new(|_| FAR),
        silences: Vec::new(),
    };
    let relaying = tokio::spawn(way.run());
    home.route(&[("away", &[relay])]);
    assert_eq!(get(home.http(), "/", "").await.status, 200);
    let kernel = sampled(&mut home, SampleSource::Tcp).await;
    assert!(kernel > Duration::ZERO && kernel < FAR, "of the connection to the relay: {kernel:?}");
    // Its pause is over when another one is told.
    let first_byte = loop {
        assert_eq!(get(home.http(), "/", "").await.status, 200);
        if let Ok(Input::Sample { rtt, source: SampleSource::FirstByte, .. }) = home.samples.try_recv() {
            break rtt.duration();
        }
    };
    assert!(first_byte >= FAR, "{first_byte:?}");
    assert!(home.metric("proxima_forward_first_byte_seconds_count{region=\"away\"}") >= 2.0);
    relaying.abort();
    home.close().await;
    away.close().await;
}
