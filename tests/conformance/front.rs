//! A load balancer in front that tells the client's address: haproxy with `send-proxy-v2`.

use crate::client::curl;
use crate::peers::{self, Haproxy};
use crate::run_support::{eventually, get, loopback, served};
use crate::world::{TRUSTED, World};
use std::net::SocketAddr;

fn configuration(world: &World, front: SocketAddr) -> String {
    let edge = |listener: &str| world.address(listener);
    let (plain, encrypted) = (front.port(), front.port() + 1);
    let at = front.ip();
    let stats = front.port() + 2;
    format!(
        "defaults
           mode tcp
           timeout connect 5s
           timeout client 20s
           timeout server 20s
         listen plain
           bind {at}:{plain}
           option httpchk GET /health/edge
           server edge {} send-proxy-v2 source {TRUSTED} check inter 100ms check-send-proxy
         listen encrypted
           bind {at}:{encrypted}
           option httpchk GET /health/edge
           server edge {} send-proxy-v2 source {TRUSTED} check inter 100ms check-send-proxy check-ssl verify none check-sni www.example.com
         frontend up
           mode http
           bind {at}:{stats}
           http-request return status 200 content-type text/plain lf-string \"%[nbsrv(plain)] %[nbsrv(encrypted)]\"\n",
        edge("front"),
        edge("front-tls")
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn behind_haproxy_the_client_is_whom_its_header_names_and_its_own_checks_pass() {
    const CLIENT: &str = "127.0.0.2";
    let Some(nginx) = peers::nginx().await else { return };
    let world = World::start(&served("web", "here", nginx.address, "/"));
    let front = SocketAddr::from((loopback(), 8000));
    let Some(_haproxy) = Haproxy::start(&world.folder, &configuration(&world, front), front) else { return };
    let asked = |offset: u16, encrypted: bool, more: &[&str]| {
        let to = SocketAddr::new(front.ip(), front.port() + offset);
        let mut arguments = world.ask_at(to, encrypted, "/told");
        arguments.extend(more.iter().map(|&flag| flag.to_owned()));
        arguments
    };
    for (offset, scheme, version, flag) in [
        (0, "http", "1.1", "--http1.1"),
        (0, "http", "2", "--http2-prior-knowledge"),
        (1, "https", "1.1", "--http1.1"),
        (1, "https", "2", "--http2"),
    ] {
        let arguments = asked(offset, offset == 1, &["--interface", CLIENT, flag]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let Some(answer) = curl(&arguments).await else { return };
        let port = front.port() + offset;
        let expected = format!("GET www.example.com:{port} {scheme} {CLIENT}\n");
        let got = (answer.status, answer.version.as_str(), answer.body.as_str());
        assert_eq!(got, (200, version, &*expected), "{}", answer.error);
    }
    // Its health checks say LOCAL: they are served, as a connection of haproxy itself.
    let checks = SocketAddr::new(front.ip(), front.port() + 2);
    eventually("haproxy sees both listeners up", || {
        let answer = tokio::task::block_in_place(|| get(checks, "/"));
        (answer.body == "1 1").then_some(())
    });
    // Whoever comes past haproxy is not let in.
    for listener in ["front", "front-tls"] {
        let arguments = world.ask(listener, "/told");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let past = curl(&[&arguments[..], &["--haproxy-protocol"]].concat()).await.unwrap();
        assert_eq!(past.status, 0, "{listener}: {}", past.body);
    }
}
