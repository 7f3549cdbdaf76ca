//! Services behind TLS: real nginx, verified and resumed, never by the connection of another trust.

use crate::client::{get, post};
use crate::origin::Nginx;
use crate::support::{Authority, Files, Plan, Running, start_with};
use proxima::config::{ClientIdentity, Config, Environment};
use proxima::domain::fleet::OutcomeResult;
use std::path::Path;
use std::sync::Arc;

/// The name of the service's certificates.
const NAME: &str = "web.internal.example.net";

/// The configuration of a plan whose service `web` is reached over TLS.
fn config(plan: &Plan, authority: &Authority, ca: &Path, more: &str) -> Arc<Config> {
    let text = plan.toml(authority);
    let text = format!("{text}[services.web.tls]\nca = {ca:?}\nserver_name = {NAME:?}\n{more}");
    let config = Config::from_text("proxima.toml", &text, &Environment::default());
    Arc::new(config.unwrap_or_else(|problems| panic!("{problems}\n{text}")))
}

fn plan(protocol: &'static str) -> Plan {
    Plan { protocol, ..Plan::default() }
}

/// The words of an answer: connection, whether the session was resumed, protocol, name.
async fn words(edge: &Running) -> Vec<String> {
    let answer = get(edge.http(), "/", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body.split_whitespace().map(str::to_owned).collect()
}

fn failures(edge: &Running, reason: &str) -> f64 {
    edge.metric(&format!("proxima_upstream_handshake_failures_total{{reason={reason:?},service=\"web\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_reached_over_tls_and_its_connections_are_kept() {
    let (authority, services) = (Authority::new(), Authority::new());
    let files = services.sign(NAME);
    for (protocol, listen, said) in [("http1", "", "HTTP/1.1"), ("http2", "http2", "HTTP/2.0")] {
        let Some(nginx) = Nginx::tls(&files, listen, "").await else { return };
        let edge = start_with(config(&plan(protocol), &authority, &services.roots(), "")).await.unwrap();
        edge.route(&[("home", &[nginx.address])]);
        let first = words(&edge).await;
        assert_eq!(first[1..], [".", said, NAME], "{protocol}");
        assert_eq!(words(&edge).await[0], first[0], "{protocol}: one connection for both");
        edge.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_with_services_are_resumed_even_after_a_reload_until_the_trust_changes() {
    let (authority, services, others) = (Authority::new(), Authority::new(), Authority::new());
    let files = services.sign(NAME);
    // Each request makes a connection of its own.
    for protocols in ["TLSv1.2", "TLSv1.3"] {
        let more = format!("keepalive_timeout 0; ssl_protocols {protocols};");
        let Some(nginx) = Nginx::tls(&files, "", &more).await else { return };
        let before = config(&plan("http1"), &authority, &services.roots(), "");
        let edge = start_with(Arc::clone(&before)).await.unwrap();
        edge.route(&[("home", &[nginx.address])]);
        assert_eq!(words(&edge).await[1], ".", "{protocols}: the first one is whole");
        assert_eq!(words(&edge).await[1], "r", "{protocols}");
        edge.edge.apply(&before).await.unwrap();
        assert_eq!(words(&edge).await[1], "r", "{protocols}: the reload changed nothing");
        edge.edge.apply(&with_roots(&before, &both(&services, &others))).await.unwrap();
        assert_eq!(words(&edge).await[1], ".", "{protocols}: verified anew");
        edge.close().await;
    }
}

/// Roots of two authorities in one file.
fn both(one: &Authority, other: &Authority) -> std::path::PathBuf {
    let path = one.folder.join("both.pem");
    let roots = [one, other].map(|authority| std::fs::read_to_string(authority.roots()).unwrap());
    std::fs::write(&path, roots.concat()).unwrap();
    path
}

fn change(config: &Arc<Config>, change: impl FnOnce(&mut proxima::config::UpstreamTls)) -> Arc<Config> {
    let mut config = Config::clone(config);
    let web = config.services.iter_mut().find(|(id, _)| id.as_str() == "web").unwrap().1;
    change(web.tls.as_mut().unwrap());
    Arc::new(config)
}

fn with_roots(config: &Arc<Config>, ca: &Path) -> Arc<Config> {
    change(config, |tls| tls.ca = ca.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_one_trust_verified_never_serves_under_another() {
    let (authority, services, others) = (Authority::new(), Authority::new(), Authority::new());
    let files = services.sign(NAME);
    for (protocol, listen) in [("http1", ""), ("http2", "http2")] {
        let Some(nginx) = Nginx::tls(&files, listen, "").await else { return };
        let before = config(&plan(protocol), &authority, &services.roots(), "");
        let mut edge = start_with(Arc::clone(&before)).await.unwrap();
        edge.route(&[("home", &[nginx.address])]);
        let first = words(&edge).await[0].clone();
        edge.edge.apply(&before).await.unwrap();
        assert_eq!(words(&edge).await[0], first, "{protocol}: a reload that changes nothing keeps it");
        for _ in 0..2 {
            assert_eq!(edge.outcome().await.1, OutcomeResult::Success);
        }
        // It is still there and idle, but its certificate is not believed any more.
        edge.edge.apply(&with_roots(&before, &others.roots())).await.unwrap();
        assert_eq!(get(edge.http(), "/", "").await.status, 502, "{protocol}");
        assert_eq!(edge.outcome().await.1, OutcomeResult::Failure);
        assert_eq!(failures(&edge, "unknown_issuer"), 1.0, "{protocol}");
        // Believed again, by other files: a connection of its own.
        edge.edge.apply(&with_roots(&before, &both(&services, &others))).await.unwrap();
        assert_ne!(words(&edge).await[0], first, "{protocol}");
        // The name is part of it, too.
        edge.edge.apply(&change(&before, |tls| tls.server_name = "db.example.net".to_owned())).await.unwrap();
        assert_eq!(get(edge.http(), "/", "").await.status, 502, "{protocol}");
        assert_eq!(failures(&edge, "wrong_name"), 1.0, "{protocol}");
        edge.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_cannot_be_trusted_is_like_one_that_cannot_be_connected_to() {
    let (authority, services, lapsed) = (Authority::new(), Authority::new(), Authority::new());
    let strangers = Authority::new();
    let believed = both(&services, &lapsed);
    let Some(well) = Nginx::tls(&services.sign(NAME), "", "").await else { return };
    let without_tls = Nginx::logging().await.unwrap();
    let behind = |files: Files| async move { Nginx::tls(&files, "", "").await.unwrap() };
    let ill = [
        ("unknown_issuer", &behind(strangers.sign(NAME)).await),
        ("wrong_name", &behind(services.sign("db.internal.example.net")).await),
        ("expired", &behind(lapsed.sign_expired(NAME)).await),
        ("other", &without_tls),
    ];
    let edge = start_with(config(&plan("http1"), &authority, &believed, "")).await.unwrap();
    for (reason, nginx) in ill {
        edge.route(&[("home", &[nginx.address])]);
        let answer = get(edge.http(), "/", "").await;
        assert_eq!((answer.status, failures(&edge, reason)), (502, 1.0), "{reason}");
        for word in ["certificate", "issuer", "expired", "tls", NAME] {
            assert!(!answer.body.to_ascii_lowercase().contains(word), "{reason}: {}", answer.body);
        }
        // Nothing was sent: any request may go to the next endpoint.
        edge.route(&[("home", &[nginx.address, well.address])]);
        for _ in 0..8 {
            assert_eq!(post(edge.http(), "once").await.status, 200, "{reason}");
        }
    }
    let log = without_tls.log();
    assert!(!log.contains("GET") && !log.contains("POST"), "never without TLS: {log}");
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_asks_for_a_certificate_is_shown_the_one_that_is_configured() {
    let (authority, services) = (Authority::new(), Authority::new());
    let (files, shown) = (services.sign(NAME), services.sign("edge.example.net"));
    let ca = services.roots();
    for (protocol, listen) in [("http1", ""), ("http2", "http2")] {
        let more = format!("ssl_verify_client on; ssl_client_certificate {};", ca.display());
        let Some(nginx) = Nginx::tls(&files, listen, &more).await else { return };
        let without = config(&plan(protocol), &authority, &ca, "");
        let edge = start_with(Arc::clone(&without)).await.unwrap();
        edge.route(&[("home", &[nginx.address])]);
        let answer = get(edge.http(), "/", "").await;
        assert_eq!(answer.status, 400, "{protocol}: {}", answer.body);
        assert!(answer.body.contains("No required SSL certificate"), "{}", answer.body);
        let identity = ClientIdentity { certificate: shown.certificate.clone(), key: shown.key.clone() };
        let with = change(&without, |tls| tls.identity = Some(identity));
        edge.edge.apply(&with).await.unwrap();
        let first = words(&edge).await;
        assert_eq!(first[4], "CN=edge.example.net", "{protocol}");
        assert_eq!(words(&edge).await[0], first[0], "{protocol}: one connection for both");
        // A renewed one is shown at once.
        services.sign("edge.example.net");
        edge.edge.apply(&with).await.unwrap();
        assert_ne!(words(&edge).await[0], first[0], "{protocol}");
        edge.close().await;
    }
}
