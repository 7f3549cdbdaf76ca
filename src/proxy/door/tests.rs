use super::*;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

fn door(limits: ListenerLimits, trusted: Option<&str>) -> Arc<Door> {
    let metrics = RequestMetrics::register(&prometheus::Registry::new()).unwrap();
    let proxy_protocol = trusted.map(|net| ProxyProtocol { trusted: vec![net.parse().unwrap()] });
    Arc::new(Door::new(ListenerKind::Http, Rules::new(&limits, proxy_protocol.as_ref()), &metrics))
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn each_refusal_has_a_label_of_its_own() {
    let labels: std::collections::BTreeSet<_> = Refusal::labels().into();
    assert_eq!(labels.len(), Refusal::COUNT);
    assert!(!labels.contains(""));
}

#[test]
fn a_full_listener_lets_nobody_in_until_somebody_leaves() {
    let door = door(ListenerLimits { max_connections: Some(2), ..Default::default() }, None);
    let first = door.enter(ip("192.0.2.1")).unwrap();
    let _second = door.enter(ip("192.0.2.1")).unwrap();
    assert_eq!(door.enter(ip("192.0.2.2")).unwrap_err(), Refusal::Full);
    drop(first);
    door.enter(ip("192.0.2.2")).unwrap();
}

#[test]
fn other_rules_are_for_whoever_comes_after_them() {
    let door = door(ListenerLimits { max_connections: Some(1), ..Default::default() }, None);
    let first = door.enter(ip("192.0.2.1")).unwrap();
    assert_eq!(door.enter(ip("192.0.2.2")).unwrap_err(), Refusal::Full);
    let wider = ListenerLimits { max_connections: Some(2), max_streams: 7, ..Default::default() };
    door.change(Rules::new(&wider, None));
    let second = door.enter(ip("192.0.2.2")).unwrap();
    assert_eq!(second.rules.bounds.max_streams, 7);
    assert_ne!(first.rules.bounds.max_streams, 7, "whoever was inside keeps theirs");
    assert_eq!(door.enter(ip("192.0.2.3")).unwrap_err(), Refusal::Full);
}

#[test]
fn a_client_is_an_ipv4_address_or_a_64_of_ipv6() {
    let limits = ListenerLimits { max_connections_per_client: Some(1), ..Default::default() };
    for (first, second, same) in [
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("2001:db8::1", "2001:db8::ffff:0:0:2", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
    ] {
        let door = door(limits.clone(), None);
        let inside = door.enter(ip(first)).unwrap();
        let refusal = door.enter(ip(second)).err();
        assert_eq!(refusal, same.then_some(Refusal::ClientFull), "{first} {second}");
        drop(inside);
        door.enter(ip(first)).unwrap();
        assert!(door.clients().is_empty(), "{first}: whoever left is not remembered");
        assert_eq!(door.open.load(Relaxed), 0);
    }
}

#[test]
fn a_proxied_client_counts_by_what_the_header_says() {
    let limits = ListenerLimits { max_connections_per_client: Some(1), ..Default::default() };
    let door = door(limits, Some("10.0.0.0/8"));
    assert_eq!(door.enter(ip("192.0.2.1")).unwrap_err(), Refusal::Untrusted);
    let mut first = door.enter(ip("10.0.0.1")).unwrap();
    first.name(ip("192.0.2.1")).unwrap();
    let mut second = door.enter(ip("::ffff:10.0.0.1")).unwrap();
    assert_eq!(second.name(ip("192.0.2.1")), Err(Refusal::ClientFull));
    second.name(ip("192.0.2.2")).unwrap();
}

#[test]
fn who_comes_by_a_unix_socket_is_no_client_s_share_until_a_header_names_him() {
    let limits = ListenerLimits { max_connections_per_client: Some(1), ..Default::default() };
    let open = door(limits.clone(), None);
    let _unknown = [open.enter(None).unwrap(), open.enter(None).unwrap()];
    let proxied = door(limits, Some("10.0.0.0/8"));
    let mut first = proxied.enter(None).unwrap();
    first.name(ip("192.0.2.1")).unwrap();
    assert_eq!(proxied.enter(None).unwrap().name(ip("192.0.2.1")), Err(Refusal::ClientFull));
}

/// A header cut at every place, and bytes that follow it at once.
#[tokio::test]
async fn what_follows_a_header_is_left_in_the_socket() {
    let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for cut in 0..line.len() {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let mut server = Socket::from(listener.accept().await.unwrap().0);
        let reading = tokio::spawn(async move { (header(&mut server).await, server) });
        client.write_all(&line[..cut]).await.unwrap();
        tokio::task::yield_now().await;
        client.write_all(&[&line[cut..], b"GET /"].concat()).await.unwrap();
        client.shutdown().await.unwrap();
        let (header, mut server) = reading.await.unwrap();
        let header = header.unwrap().unwrap();
        assert_eq!(header.addresses.unwrap().source, "192.0.2.1:56324".parse().unwrap(), "{cut}");
        let mut rest = String::new();
        server.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "GET /", "{cut}");
    }
}
