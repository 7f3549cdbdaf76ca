//! Reloads of a running process: applied whole or refused whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

use run_support::authority::Authority;
use run_support::nginx::Nginx;
use run_support::*;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::process::Command;

const APPLIED: &str = r#"proxima_reloads_total{result="applied"}"#;
const REFUSED: &str = r#"proxima_reloads_total{result="refused"}"#;
const UNCHANGED: &str = r#"proxima_reloads_total{result="unchanged"}"#;

/// A second service under `/api`.
fn with_api(web: SocketAddr, api: SocketAddr) -> String {
    single(web, &served("api", "here", api, "/api"))
}

#[test]
fn a_changed_file_is_applied_by_itself_and_on_sighup() {
    let (folder, web, api) = (Folder::new(), Service::start("web"), Service::start("api"));
    let file = folder.write("proxima.toml", &single(web.address, ""));
    let edge = Edge::ready(&file);
    until_served(&edge, "/api", "web");
    let before = edge.metric("proxima_config_hash");

    folder.write("proxima.toml", &with_api(web.address, api.address));
    until_served(&edge, "/api", "api");
    until_served(&edge, "/", "web");
    assert_eq!(edge.metric(APPLIED), Some(1.0));
    assert_ne!(edge.metric("proxima_config_hash"), before);

    folder.write("proxima.toml", &single(web.address, ""));
    edge.signal("HUP");
    until_served(&edge, "/api", "web");
    assert_eq!(edge.metric(APPLIED), Some(2.0));
    assert_eq!(edge.metric("proxima_config_hash"), before);
    assert_eq!(edge.metric("proxima_probe_targets"), Some(1.0), "the probe of what left has ended");

    edge.signal("HUP");
    edge.until_metric(UNCHANGED, 1.0);
    assert_eq!(edge.metric(APPLIED), Some(2.0), "unchanged content is no reload");
}

#[test]
fn a_volume_swapped_by_a_symbolic_link_is_seen() {
    let (folder, web, api) = (Folder::new(), Service::start("web"), Service::start("api"));
    // As Kubernetes mounts it: file -> ..data/file, ..data -> a dated folder that is swapped.
    for (date, text) in [("..1", single(web.address, "")), ("..2", with_api(web.address, api.address))] {
        fs::create_dir(folder.path().join(date)).unwrap();
        fs::write(folder.path().join(date).join("proxima.toml"), text).unwrap();
    }
    symlink("..1", folder.path().join("..data")).unwrap();
    symlink("..data/proxima.toml", folder.path().join("proxima.toml")).unwrap();
    let edge = Edge::ready(&folder.path().join("proxima.toml"));
    until_served(&edge, "/api", "web");
    symlink("..2", folder.path().join("..data_tmp")).unwrap();
    fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    until_served(&edge, "/api", "api");
}

#[test]
fn a_bad_file_is_refused_with_its_problems_and_traffic_goes_on() {
    let (folder, web, api) = (Folder::new(), Service::start("web"), Service::start("api"));
    let good = single(web.address, "");
    let edge = Edge::ready(&folder.write("proxima.toml", &good));
    until_served(&edge, "/", "web");
    let hash = edge.metric("proxima_config_hash");
    let wrong = [
        ("misspelt", good.replace("health.path", "health_pth"), "health_pth"),
        ("cut in the middle", good[..good.len() / 2].to_owned(), ""),
        ("another region", good.replace("here", "there"), "edge.region cannot change while running"),
        (
            "another listener",
            good.replace("name = \"http\"", "name = \"other\""),
            "listeners cannot change while running",
        ),
    ];
    for (count, (what, text, word)) in wrong.iter().enumerate() {
        folder.write("proxima.toml", text);
        edge.until_metric(REFUSED, count as f64 + 1.0);
        assert!(edge.log().contains(word), "{what}: {}", edge.log());
        assert_eq!(get(edge.address("http"), "/").body, "web", "{what}");
        assert_eq!(get(edge.address("admin"), "/ready").status, 200, "{what}");
        assert_eq!(edge.metric("proxima_config_hash"), hash, "{what}");
    }
    fs::remove_file(folder.path().join("proxima.toml")).unwrap();
    edge.until_metric(REFUSED, wrong.len() as f64 + 1.0);
    assert_eq!(get(edge.address("http"), "/").body, "web", "a file that is gone");

    assert_eq!(edge.metric(APPLIED), Some(0.0));
    folder.write("proxima.toml", &with_api(web.address, api.address));
    until_served(&edge, "/api", "api");
}

#[test]
fn a_stop_signal_during_a_reload_that_hangs_drains_at_once() {
    let (folder, web) = (Folder::new(), Service::start("web"));
    let file = folder.write("proxima.toml", &single(web.address, ""));
    let mut edge = Edge::ready(&file);
    until_served(&edge, "/", "web");
    // A file that is never at its end, as on a mount that hangs.
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::rename(&pipe, &file).unwrap();
    let _writer = fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
    edge.signal("HUP");
    eventually("it reloads", || edge.log().contains("asked to reload").then_some(()));
    edge.signal("TERM");
    assert_eq!(edge.ended().code(), Some(0));
    assert!(edge.log().contains("drained"), "{}", edge.log());
}

#[test]
fn a_refused_file_is_taken_when_the_certificate_that_it_waits_for_is_there() {
    let (folder, web) = (Folder::new(), Service::start("web"));
    let good = single(web.address, "");
    let edge = Edge::ready(&folder.write("proxima.toml", &good));
    until_served(&edge, "/", "web");
    let tls = "[tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n";
    folder.write("proxima.toml", &format!("{good}{tls}"));
    edge.until_metric(REFUSED, 1.0);
    assert!(edge.log().contains("server.pem: there is no such file"), "{}", edge.log());

    // A stranger's key is one more refusal; the right pair is taken; nobody sends a signal.
    let (signed, strange) = (Folder::new(), Folder::new());
    for folder in [&signed, &strange] {
        Authority::new().sign(folder, "server", "www.example.com");
    }
    let read = |folder: &Folder, name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    folder.write("server.key", &read(&strange, "server.key"));
    folder.write("server.pem", &read(&signed, "server.pem"));
    eventually("the pair is refused", || {
        edge.log().contains("server.key: is not the key of the certificate").then_some(())
    });
    assert_eq!(edge.metric(APPLIED), Some(0.0));
    folder.write("server.key", &read(&signed, "server.key"));
    edge.until_metric(APPLIED, 1.0);
    assert_eq!(edge.metric(UNCHANGED), Some(0.0));
}

#[test]
fn what_is_logged_changes_with_a_reload_and_not_when_the_command_line_says_it() {
    let folder = Folder::new();
    // Nobody listens there: at `debug` each request that fails is told.
    let dead = TcpListener::bind((loopback(), 0)).unwrap().local_addr().unwrap();
    let config = |filter: &str| single(dead, &format!("[log]\nfilter = {filter:?}\n"));
    let debug_lines = |edge: &Edge| edge.log().lines().filter(|line| line.contains("\"DEBUG\"")).count();
    let file = folder.write("proxima.toml", &config("info"));
    let edge = Edge::ready(&file);
    let fixed = Edge::ready_with(&folder.write("fixed.toml", &config("info")), &["--log", "info"]);
    assert!(get(edge.address("http"), "/").status >= 500);
    assert_eq!(debug_lines(&edge), 0, "{}", edge.log());
    folder.write("proxima.toml", &config("debug"));
    eventually("a request that fails is told", || {
        get(edge.address("http"), "/");
        (debug_lines(&edge) > 0).then_some(())
    });
    folder.write("proxima.toml", &config("error"));
    edge.until_metric(APPLIED, 2.0);
    let quiet = edge.log().lines().count();
    folder.write(
        "proxima.toml",
        &config("error").replace("drain_notice = \"300ms\"", "drain_notice = \"301ms\""),
    );
    edge.until_metric(APPLIED, 3.0);
    assert_eq!(edge.log().lines().count(), quiet, "not even a reload is told at `error`: {}", edge.log());

    folder.write("fixed.toml", &config("debug"));
    eventually("it says so", || {
        fixed.log().contains("the log filter of --log or RUST_LOG stays").then_some(())
    });
    fixed.until_metric(APPLIED, 1.0);
    get(fixed.address("http"), "/");
    assert_eq!(debug_lines(&fixed), 0, "{}", fixed.log());
}

#[test]
fn other_roots_of_a_service_are_taken_by_themselves_and_the_log_says_what_is_not_trusted() {
    let (folder, strange) = (Folder::new(), Folder::new());
    Authority::new().sign(&folder, "service", "web.internal.example.net");
    Authority::new().sign(&strange, "service", "web.internal.example.net");
    let server =
        "ssl_certificate service.pem; ssl_certificate_key service.key; location / { return 200 web; }";
    let Some(nginx) = Nginx::start(&folder, "ssl", server) else { return };
    let tls = "[services.web.tls]\nca = \"service-ca.pem\"\nserver_name = \"web.internal.example.net\"\n";
    let right = fs::read_to_string(folder.path().join("service-ca.pem")).unwrap();
    let other = fs::read_to_string(strange.path().join("service-ca.pem")).unwrap();
    let edge = Edge::ready(&folder.write("proxima.toml", &single(nginx.address, tls)));
    until_served(&edge, "/", "web");

    folder.write("service-ca.pem", &other);
    edge.until_metric(APPLIED, 1.0);
    eventually("it is not trusted", || (get(edge.address("http"), "/").status >= 502).then_some(()));
    eventually("the log says why", || {
        let log = edge.log();
        let mut told = log.lines().filter(|line| line.contains("TLS handshake failed with service `web`"));
        told.any(|line| line.contains("unknown_issuer") && line.contains(&nginx.address.to_string()))
            .then_some(())
    });
    let snapshot = || edge.snapshot().to_string();
    eventually("its probes fail, too", || snapshot().contains("ejected").then_some(()));

    // Half a file is refused, and the roots in force stay.
    folder.write("service-ca.pem", "-----BEGIN CERTIFICATE-----");
    edge.until_metric(REFUSED, 1.0);
    folder.write("service-ca.pem", &right);
    edge.until_metric(APPLIED, 2.0);
    until_served(&edge, "/", "web");
}
