//! Certificates by name, and of clients.

use crate::client::{Answer, curl, get, identity, raw};
use crate::origin::{Origin, ok};
use crate::support::{Authority, Files, Plan, Running, eventually, start_with};
use proxima::config::{Config, Environment};
use std::path::Path;
use std::sync::Arc;

/// An edge with these lines after [tls]; its default certificate is for www.example.com.
async fn serving(authority: &Authority, lines: &str) -> Running {
    let text = Plan::default().toml(authority).replace("[peer]", &format!("{lines}\n[peer]"));
    let config = Config::from_text("proxima.toml", &text, &Environment::default());
    let edge = start_with(Arc::new(config.unwrap_or_else(|p| panic!("{p}")))).await.unwrap();
    let origin = Origin::start(|_, _| ok("served")).await;
    edge.route(&[("home", &[origin.address])]);
    edge
}

fn entry(files: &Files, more: &str) -> String {
    let Files { certificate, key } = files;
    format!("[[tls.certificates]]\ncertificate = {certificate:?}\nkey = {key:?}\n{more}\n")
}

/// A GET for a host on a connection for another name, or the same; `None`: there is no curl.
async fn ask(edge: &Running, roots: &Path, sni: &str, host: &str, flags: &[&str]) -> Option<Answer> {
    let port = edge.https().port();
    let (to, url) = (format!("::127.0.0.1:{port}"), format!("https://{sni}:{port}/"));
    let host = format!("host: {host}");
    let arguments = ["--cacert", roots.to_str().unwrap(), "--connect-to", &to, "--header", &host, &url];
    curl(&[&arguments[..], flags].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_is_served_by_its_certificate_and_a_host_of_another_one_is_misdirected() {
    let authority = Authority::new();
    let (exact, wild) = (authority.sign("api.example.com"), authority.sign("*.example.com"));
    let edge = serving(&authority, &[entry(&exact, ""), entry(&wild, "")].concat()).await;
    let roots = authority.roots();
    for version in ["--http1.1", "--http2"] {
        for name in ["www.example.com", "api.example.com", "any.example.com"] {
            // curl verifies that the certificate is for the name.
            let Some(answer) = ask(&edge, &roots, name, name, &[version]).await else { return };
            assert_eq!((answer.status, answer.body.as_str()), (200, "served"), "{name}: {}", answer.error);
        }
        let before = edge.metric("proxima_requests_rejected_total{reason=\"misdirected\"}");
        let wrong = ask(&edge, &roots, "any.example.com", "api.example.com", &[version]).await.unwrap();
        assert_eq!(wrong.status, 421, "{version} {}", wrong.error);
        let same = ask(&edge, &roots, "any.example.com", "some.example.com", &[version]).await.unwrap();
        assert_eq!(same.status, 200, "{version}: one certificate serves both");
        let rejected = || edge.metric("proxima_requests_rejected_total{reason=\"misdirected\"}");
        assert_eq!(rejected() - before, 1.0, "{version}");
    }
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_asked_for_its_certificate_where_its_name_demands_it() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let ca = format!("client_ca = {:?}\n", clients.roots());
    let (closed, open) = (authority.sign("closed.example.com"), authority.sign("open.example.com"));
    let lines = [
        entry(&closed, &format!("client_auth = \"required\"\n{ca}")),
        entry(&open, &format!("client_auth = \"optional\"\n{ca}")),
    ];
    let edge = serving(&authority, &lines.concat()).await;
    let roots = authority.roots();
    let (ours, theirs) = (clients.sign("client.example.net"), strangers.sign("client.example.net"));
    let ours = identity(&ours.certificate, &ours.key);
    let theirs = identity(&theirs.certificate, &theirs.key);
    let mut failed = 0.0;
    for (name, shown, status) in [
        ("www.example.com", &[][..], 200),
        ("open.example.com", &[], 200),
        ("open.example.com", &ours, 200),
        ("open.example.com", &theirs, 0),
        ("closed.example.com", &[], 0),
        ("closed.example.com", &theirs, 0),
        ("closed.example.com", &ours, 200),
    ] {
        for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            let flags = [shown, version].concat();
            let Some(answer) = ask(&edge, &roots, name, name, &flags).await else { return };
            assert_eq!(answer.status, status, "{name} {shown:?} {version:?}: {}", answer.error);
            failed += f64::from(u8::from(status == 0));
        }
    }
    let failures = || edge.metric("proxima_handshake_failures_total{listener=\"https\"}");
    eventually("they are counted", || failures() == failed).await;
    // By the open door to the closed room: the request never gets there.
    let around = ask(&edge, &roots, "www.example.com", "closed.example.com", &[]).await.unwrap();
    assert_eq!(around.status, 421);
    let plain = get(edge.http(), "/", "").await;
    assert_eq!(plain.status, 200, "www.example.com has no such rule");
    let request = "GET / HTTP/1.1\r\nhost: closed.example.com\r\nconnection: close\r\n\r\n";
    assert!(raw(edge.http(), request).await.starts_with("HTTP/1.1 403 "), "by the plain listener neither");
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_host_comes_in_by_the_default_certificate_s_rule() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let default = format!("client_auth = \"required\"\nclient_ca = {:?}\n", clients.roots());
    let route = "[[routes]]\nname = \"any\"\nservice = \"web\"\n";
    let edge = serving(&authority, &(default + route)).await;
    for request in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nhost: unknown.example.com\r\n\r\n"] {
        let answer = raw(edge.http(), request).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{request:?}: {answer}");
    }
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_a_wildcard_that_wants_certificates_nobody_comes_in_without_however_deep_the_name() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let ca = format!("client_ca = {:?}\n", clients.roots());
    let wild = authority.sign("*.partners.example.com");
    let edge = serving(&authority, &entry(&wild, &format!("client_auth = \"required\"\n{ca}"))).await;
    let roots = authority.roots();
    let ours = clients.sign("client.example.net");
    let ours = identity(&ours.certificate, &ours.key);
    let name = "a.partners.example.com";
    let Some(shown) = ask(&edge, &roots, name, name, &ours).await else { return };
    assert_eq!(shown.status, 200);
    // The default certificate is shown, which is for another name: a client that does not mind gets no further.
    let deep = "a.b.partners.example.com";
    let insecure = ask(&edge, &roots, deep, deep, &["--insecure"]).await.unwrap();
    assert_eq!(insecure.status, 421);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_lets_in_who_has_shown_a_certificate_and_nobody_else() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let open = authority.sign("open.example.com");
    let ca = format!("client_auth = \"optional\"\nclient_ca = {:?}\n", clients.roots());
    let route = "[[routes]]\nname = \"closed\"\nhosts = [\"open.example.com\"]\npath_prefix = \"/\"\n\
                 service = \"web\"\nclient_certificate = \"required\"\n";
    let edge = serving(&authority, &(entry(&open, &ca) + route)).await;
    let roots = authority.roots();
    let ours = clients.sign("client.example.net");
    let ours = identity(&ours.certificate, &ours.key);
    let name = "open.example.com";
    let Some(shown) = ask(&edge, &roots, name, name, &ours).await else { return };
    assert_eq!(shown.status, 200);
    assert_eq!(ask(&edge, &roots, name, name, &[]).await.unwrap().status, 403);
    let request = "GET / HTTP/1.1\r\nhost: open.example.com\r\nconnection: close\r\n\r\n";
    assert!(raw(edge.http(), request).await.starts_with("HTTP/1.1 403 "), "nor by the plain listener");
    assert_eq!(edge.metric("proxima_requests_rejected_total{reason=\"no_certificate\"}"), 2.0);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_modern_policy_speaks_tls_1_3_only() {
    let authority = Authority::new();
    let roots = authority.roots();
    let old: &[&str] = &["--tls-max", "1.2"];
    let name = "www.example.com";
    for (policy, status) in [("modern", 0), ("intermediate", 200)] {
        let edge = serving(&authority, &format!("policy = {policy:?}")).await;
        let Some(answer) = ask(&edge, &roots, name, name, old).await else { return };
        assert_eq!(answer.status, status, "{policy}: {}", answer.error);
        assert_eq!(ask(&edge, &roots, name, name, &["--tlsv1.3"]).await.unwrap().status, 200, "{policy}");
        edge.close().await;
    }
}
