//! From plain HTTP to TLS: redirects, and what tells browsers to come by TLS at once.

use crate::client::{curl, get, parse, raw};
use crate::origin::{Origin, answer, ok};
use crate::support::{Authority, Plan, Running, start_with};
use crate::{front, started};
use proxima::config::{Config, Environment};
use std::sync::Arc;

async fn redirecting(authority: &Authority, lines: &str) -> Running {
    let lines = format!("address = \"127.0.0.1:0\"\nhttps_redirect = true\n{lines}");
    let edge = started(authority, &lines, "trusted_proxies = [\"127.0.0.2\"]").await.unwrap();
    let origin = Origin::start(|_, _| ok("served")).await;
    edge.route(&[("home", &[origin.address])]);
    edge
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_without_tls_is_sent_to_the_same_place_with_it() {
    let authority = Authority::new();
    for (port_line, port) in [("", ""), ("https_port = 8443", ":8443")] {
        let edge = redirecting(&authority, port_line).await;
        let place = front(&edge);
        let (to, url) =
            (format!("::127.0.0.1:{}", place.port()), format!("http://www.example.com:{}", place.port()));
        let ask = async |path: &str, flags: &[&str]| {
            let url = format!("{url}{path}");
            curl(&[&["--path-as-is", "--connect-to", &to, &url], flags].concat()).await
        };
        for flags in [&["--http1.1"][..], &["--http2-prior-knowledge"]] {
            let Some(moved) = ask("/a%20b/c?d=e&f", flags).await else { return };
            assert_eq!(moved.status, 301, "{flags:?}: {}", moved.error);
            let location = format!("https://www.example.com{port}/a%20b/c?d=e&f");
            assert_eq!(moved.header("location"), Some(location.as_str()), "{flags:?}");
            let posted = ask("/form", &[flags, &["--data", "a=b"]].concat()).await.unwrap();
            assert_eq!(posted.status, 308, "a POST stays one");
            for (path, status, body) in [
                ("/health/edge", 200, "serving\n"),
                ("/.well-known/acme-challenge/token", 200, "served"),
                ("/.well-known/acme-challenge/../../private", 301, "see the location\n"),
                ("/.well-known/acme-challenges", 301, "see the location\n"),
                ("/healthy", 301, "see the location\n"),
            ] {
                let answer = ask(path, flags).await.unwrap();
                assert_eq!((answer.status, answer.body.as_str()), (status, body), "{path}");
            }
        }
        let redirects = edge.metric("proxima_https_redirects_total");
        assert_eq!(redirects, 10.0);
        // Without a host there is no place to send anyone to, and nothing is told over plain HTTP.
        let nameless = parse(&raw(place, "GET /private HTTP/1.0\r\n\r\n").await);
        assert_eq!((nameless.status, nameless.header("location")), (400, None), "{nameless:?}");
        edge.close().await;
    }
}

/// A proxy in front that speaks TLS would be sent in circles.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_trusted_proxy_got_by_tls_is_served() {
    let authority = Authority::new();
    let edge = redirecting(&authority, "").await;
    let url = format!("http://127.0.0.1:{}/", front(&edge).port());
    for (from, words, status) in [
        ("127.0.0.2", &["--header", "x-forwarded-proto: https"][..], 200),
        ("127.0.0.2", &["--header", "x-forwarded-proto: http"], 301),
        ("127.0.0.2", &[], 301),
        ("127.0.0.3", &["--header", "x-forwarded-proto: https"], 301),
    ] {
        let Some(answer) = curl(&[&["--interface", from, &url], words].concat()).await else { return };
        assert_eq!(answer.status, status, "{from} {words:?}: {}", answer.error);
    }
    edge.close().await;
}

/// The load balancer's word on TLS (PROXY v2, SSL field) counts as its word on the address does.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_load_balancer_got_by_tls_is_served() {
    let authority = Authority::new();
    let edge = redirecting(&authority, "proxy_protocol = true\ntrusted = [\"127.0.0.1\"]").await;
    let header = |by_tls: u8| {
        let addresses = [203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb];
        let ssl = [0x20, 0, 5, by_tls, 0, 0, 0, 1];
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14"[..], &addresses, &ssl].concat()
    };
    for (by_tls, status) in [(1, 200), (0, 301)] {
        use tokio::io::AsyncWriteExt;
        let mut stream = tokio::net::TcpStream::connect(front(&edge)).await.unwrap();
        stream.write_all(&header(by_tls)).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let answer = parse(&crate::client::rest(&mut stream).await);
        assert_eq!(answer.status, status, "{by_tls}");
    }
    edge.close().await;
}

const HSTS: &str = "strict-transport-security";

#[tokio::test(flavor = "multi_thread")]
async fn answers_over_tls_ask_for_tls_unless_they_say_their_own() {
    let authority = Authority::new();
    let hsts = "[tls]\nhsts = { max_age = \"365d\", include_subdomains = true }\n";
    let own_route = "[[routes]]\nname = \"own\"\nhosts = [\"www.example.com\"]\npath_prefix = \"/route\"\nservice = \"web\"\n\
                     response_headers = { set = { strict-transport-security = \"max-age=7\" } }\n";
    let text = format!("{}{own_route}", Plan::default().toml(&authority).replace("[tls]\n", hsts));
    let config = Config::from_text("proxima.toml", &text, &Environment::default());
    let edge = start_with(Arc::new(config.unwrap_or_else(|p| panic!("{p}")))).await.unwrap();
    let origin = Origin::start(|seen, _| match seen.head.contains("/own") {
        true => answer("200 OK", "strict-transport-security: max-age=5\r\n", "its own"),
        false => ok("served"),
    });
    edge.route(&[("home", &[origin.await.address])]);
    let (roots, port) = (authority.roots(), edge.https().port());
    let to = format!("::127.0.0.1:{port}");
    let ours = "max-age=31536000; includeSubDomains";
    for (host, path, status, told) in [
        ("www.example.com", "/", 200, ours),
        ("www.example.com", "/own", 200, "max-age=5"),
        ("www.example.com", "/route", 200, "max-age=7"),
        ("www.example.com", "/health/edge", 200, ours),
        // Nobody routes it.
        ("www.example.net", "/", 404, ours),
    ] {
        for version in ["--http1.1", "--http2"] {
            let (url, host) = (format!("https://www.example.com:{port}{path}"), format!("host: {host}"));
            let flags =
                ["--cacert", roots.to_str().unwrap(), "--connect-to", &to, "--header", &host, version, &url];
            let Some(answer) = curl(&flags).await else { return };
            let got = (answer.status, answer.header(HSTS));
            assert_eq!(got, (status, Some(told)), "{host} {path} {version}: {}", answer.error);
        }
    }
    // RFC 6797, section 7.2: never without TLS.
    for path in ["/", "/health/edge"] {
        assert_eq!(get(edge.http(), path, "").await.header(HSTS), None, "{path}");
    }
    edge.close().await;
}
