//! Each kind of probe against servers that are well, ill and about to end; and over IPv6.

use super::*;

/// Probes whose service is asked in this way.
fn asked(protocol: &str, health: &str) -> Probing {
    Probing::with(protocol, "30s", health)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_must_be_as_it_was_asked_for_and_may_say_that_the_endpoint_is_about_to_end() {
    const HEALTH: &str = r#"health = { path = "/up", status = ["200-299", 401], headers = [{ name = "x-role", value = "primary" }], body = "ok" }"#;
    let said = |status: &str, more: &str, body: &str| {
        always(format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len()))
    };
    let primary = "x-role: primary\r\n";
    for (what, script, expected) in [
        ("as asked for", said("200 OK", primary, "all ok"), Ok(EndpointAnswer::Well)),
        ("a status of its own", said("401 Who", primary, "ok"), Ok(EndpointAnswer::Well)),
        ("another status", said("302 There", primary, "ok"), Err(ProbeFailure::Status)),
        ("another value", said("200 OK", "x-role: replica\r\n", "ok"), Err(ProbeFailure::Header)),
        ("another body", said("200 OK", primary, "ill"), Err(ProbeFailure::Body)),
        ("too much body", said("200 OK", primary, &"ok".repeat(40_000)), Err(ProbeFailure::Body)),
        (
            "about to end",
            said("200 OK", "x-role: primary\r\nX-Proxima-Draining: 1\r\n", "ok"),
            Ok(EndpointAnswer::Draining),
        ),
        (
            "about to end, to Envoy",
            said("200 OK", "x-role: primary\r\nx-envoy-immediate-health-check-fail: true\r\n", "ok"),
            Ok(EndpointAnswer::Draining),
        ),
    ] {
        let mut probing = asked("http1", HEALTH);
        let server = Server::start(None, false, script).await;
        probing.publish(&[], &[server.address]);
        for _ in 0..2 {
            assert_eq!(probing.endpoint().await, expected, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_no_body_to_wait_for_and_a_service_may_be_asked_at_another_port() {
    // It says how long a GET's answer would be, and sends none of it.
    let script = always("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_owned());
    let server = Server::start(None, false, script).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let health = format!("health = {{ method = \"HEAD\", port = {} }}", server.address.port());
    let mut probing = asked("http1", &health);
    probing.publish(&[], &[closed]);
    for _ in 0..3 {
        assert_eq!(probing.endpoint().await, Ok(EndpointAnswer::Well));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "it is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_enough_where_tcp_is_asked_for() {
    let mut probing = asked("http1", "health.kind = \"tcp\"");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    probing.publish(&[], &[address]);
    for _ in 0..3 {
        assert_eq!(probing.endpoint().await, Ok(EndpointAnswer::Well));
    }
    drop(silent);
    let refused = async { while probing.endpoint().await != Err(ProbeFailure::Connect) {} };
    timeout(PATIENCE, refused).await.expect("nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_is_enough_where_tls_is_asked_for_and_only_with_whom_is_believed() {
    let script: Script = Arc::new(|_| None);
    for (what, tls, expected) in [
        ("as it is configured", TLS.to_owned(), Ok(EndpointAnswer::Well)),
        ("another name", TLS.replace("there", "elsewhere"), Err(ProbeFailure::Tls)),
    ] {
        let mut probing = asked("http1", &format!("health.kind = \"tls\"\n{tls}"));
        let server = Server::start(Some(probing.tls.clone()), false, Arc::clone(&script)).await;
        probing.publish(&[], &[server.address]);
        for _ in 0..2 {
            assert_eq!(probing.endpoint().await, expected, "{what}");
        }
        assert_eq!(server.requests.load(Ordering::SeqCst), 0, "{what}: nothing is asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_and_endpoints_are_asked_over_ipv6_as_well() {
    let (good, there) = (always(answer("204 No Content", "")), always(answer("200 OK", &view("there"))));
    let mut probing = Probing::new("http1", "30s");
    let acceptor = probing.tls.clone();
    let Some(pod) = Server::listen("[::1]:0", None, false, good).await else {
        return eprintln!("SKIPPED: this machine has no IPv6 loopback");
    };
    let region = Server::listen("[::1]:0", Some(acceptor), false, there).await.unwrap();
    probing.publish(&[region.address], &[pod.address]);
    let (mut samples, mut well) = (0, 0);
    while samples < 3 || well < 3 {
        match probing.next().await {
            Probe::Region { result, .. } => samples += usize::from(result.unwrap().rtt.is_some()),
            Probe::Endpoint { result, address, .. } => {
                assert_eq!((result, address), (Ok(EndpointAnswer::Well), pod.address));
                well += 1;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_handshakes_are_made_over_ipv6_as_well() {
    for (kind, more, wrong) in [("tcp", "", ProbeFailure::Connect), ("tls", TLS, ProbeFailure::Tls)] {
        let mut probing = asked("http1", &format!("health.kind = \"{kind}\"\n{more}"));
        let (tls, script): (_, Script) = ((kind == "tls").then(|| probing.tls.clone()), Arc::new(|_| None));
        let Some(well) = Server::listen("[::1]:0", tls, false, script).await else {
            return eprintln!("SKIPPED: this machine has no IPv6 loopback");
        };
        probing.publish(&[], &[well.address]);
        for _ in 0..2 {
            assert_eq!(probing.endpoint().await, Ok(EndpointAnswer::Well), "{kind}");
        }
        // Nobody listens, or nobody speaks TLS.
        let ill = TcpListener::bind("[::1]:0").await.unwrap();
        let address = ill.local_addr().unwrap();
        match kind {
            "tcp" => drop(ill),
            _ => _ = tokio::spawn(async move { while ill.accept().await.is_ok() {} }),
        }
        probing.publish(&[], &[address]);
        let told = async { while probing.endpoint().await != Err(wrong) {} };
        timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("{kind}: it is ill"));
    }
}
