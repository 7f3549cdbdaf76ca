//! What routes say, carried out: rewrites, header changes, redirects and answers.

use crate::client::get;
use crate::origin::{Origin, answer};
use crate::support::{Authority, Plan, Running, start_with};
use proxima::config::{Config, Environment};
use std::sync::Arc;

const ROUTES: &str = r#"
[[routes]]
name = "api"
hosts = ["www.example.com"]
path_prefix = "/api"
service = "web"
rewrite = { path_prefix = "/v2", host = "internal.example.com" }
request_headers = { set = { x-tenant = "shop" }, add = { x-seen = "edge" }, remove = ["cookie", "via"] }
response_headers = { set = { x-frame-options = "DENY" }, remove = ["server"] }

[[routes]]
name = "endpoint-host"
hosts = ["www.example.com"]
path = "/endpoint-host"
service = "web"
rewrite = { upstream_host = true }

[[routes]]
name = "old"
hosts = ["www.example.com"]
path_regex = "/item-([0-9]+)"
redirect = { status = 301, scheme = "https", replacement = "/items/$1" }
response_headers = { set = { cache-control = "max-age=60" } }

[[routes]]
name = "gone"
hosts = ["www.example.com"]
path = "/gone"
respond = { status = 410, text = "{}", content_type = "application/json" }

[[routes]]
name = "beacon"
hosts = ["www.example.com"]
path = "/beacon"
respond = { status = 204 }
"#;

async fn edge(authority: &Authority) -> Running {
    let text = Plan::default().toml(authority) + ROUTES;
    let config = Config::from_text("proxima.toml", &text, &Environment::default());
    start_with(Arc::new(config.unwrap_or_else(|problems| panic!("{problems}")))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_gets_what_the_route_makes_of_a_request_and_the_client_of_the_answer() {
    let authority = Authority::new();
    let edge = edge(&authority).await;
    let origin =
        Origin::start(|_, _| answer("200 OK", "server: secret\r\nx-frame-options: no\r\n", "x")).await;
    edge.route(&[("home", &[origin.address])]);
    let got =
        get(edge.http(), "/x/../api/%61%2fb?q=%61", "cookie: c\r\nx-tenant: other\r\nx-seen: me\r\n").await;
    assert_eq!((got.status, got.header("x-frame-options")), (200, Some("DENY")));
    assert_eq!(got.header("server"), None);
    let seen = &origin.seen()[0];
    assert!(seen.head.starts_with("GET /v2/a%2Fb?q=%61 HTTP/1.1\r\n"), "{}", seen.head);
    for (name, value) in [
        ("host", Some("internal.example.com")),
        ("x-forwarded-host", Some("www.example.com")),
        ("x-tenant", Some("shop")),
        ("cookie", None),
        ("via", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}\n{}", seen.head);
    }
    let lines = seen.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("x-seen:")).count();
    assert_eq!(lines, 2, "{}", seen.head);
    // Another route: its normal path, nothing else.
    get(edge.http(), "/%7euser/./a", "").await;
    assert!(origin.seen()[1].head.starts_with("GET /~user/a HTTP/1.1\r\n"), "{}", origin.seen()[1].head);
    get(edge.http(), "/endpoint-host", "").await;
    assert_eq!(origin.seen()[2].header("host"), Some(origin.address.to_string().as_str()));
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_and_an_answer_of_a_route_reach_no_service() {
    let authority = Authority::new();
    let edge = edge(&authority).await;
    let origin = Origin::start(|_, _| answer("200 OK", "", "x")).await;
    edge.route(&[("home", &[origin.address])]);
    let got = get(edge.http(), "/item-7?a=b", "").await;
    let location = got.header("location");
    assert_eq!((got.status, location), (301, Some("https://www.example.com/items/7?a=b")));
    assert_eq!(got.header("cache-control"), Some("max-age=60"));
    let got = get(edge.http(), "/gone", "").await;
    assert_eq!((got.status, got.header("content-type")), (410, Some("application/json")));
    assert_eq!(got.body, "{}");
    // No way out of the root, to no service.
    assert_eq!(get(edge.http(), "/api/%2e%2e/..", "").await.status, 400);
    assert!(origin.seen().is_empty());
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_route_that_has_no_body_says_so() {
    let edge = edge(&Authority::new()).await;
    let request = "GET /beacon HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n";
    let answer = crate::client::raw(edge.http(), request).await;
    assert!(answer.starts_with("HTTP/1.1 204 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("content-length"), "{answer}");
    edge.close().await;
}

const GUARDED: &str = r#"
[[routes]]
name = "reports"
hosts = ["www.example.com"]
path_prefix = "/reports"
service = "web"
deny = ["127.0.0.0/8"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn another_spelling_of_a_path_is_no_way_around_its_rule_where_such_paths_are_refused() {
    let authority = Authority::new();
    let text = Plan::default().toml(&authority) + GUARDED;
    let strict = text.replacen("[edge]", "[edge]\nambiguous_paths = \"refuse\"", 1);
    let config = |text: &str| {
        let config = Config::from_text("proxima.toml", text, &Environment::default());
        Arc::new(config.unwrap_or_else(|problems| panic!("{problems}")))
    };
    let edge = start_with(config(&strict)).await.unwrap();
    let origin = Origin::start(|_, _| answer("200 OK", "", "secret")).await;
    edge.route(&[("home", &[origin.address])]);
    for path in ["//reports/x", "/a/..%2freports/x", "/a/..;/reports/x", "/%5Creports"] {
        assert_eq!(get(edge.http(), path, "").await.status, 400, "{path}");
    }
    for path in ["/reports/x", "/a/../reports/x", "/%72eports/x"] {
        assert_eq!(get(edge.http(), path, "").await.status, 403, "{path}");
    }
    assert!(origin.seen().is_empty());
    assert_eq!(get(edge.http(), "/other;v=1/100%25", "").await.status, 200);
    edge.close().await;
    // Where they are told apart by the service, they may pass.
    let edge = start_with(config(&text)).await.unwrap();
    edge.route(&[("home", &[origin.address])]);
    assert_eq!(get(edge.http(), "//reports/x", "").await.status, 200);
    edge.close().await;
}
