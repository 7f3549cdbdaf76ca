//! The access log of a running process: what is in it, and how it is rotated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

use run_support::authority::Authority;
use run_support::*;
use serde_json::Value;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    // The last line may be on its way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An address where nobody listens.
fn free() -> SocketAddr {
    TcpListener::bind((loopback(), 0)).unwrap().local_addr().unwrap()
}

#[test]
fn requests_are_told_with_their_route_and_attempts_and_the_file_may_be_rotated() {
    let (folder, web) = (Folder::new(), Service::start("web"));
    let dead = free();
    // An endpoint that refuses: the attempt at it is told, too.
    let dead_too = single(web.address, "").replace(
        &format!("[{:?}]", web.address.to_string()),
        &format!("[{:?}, {:?}]", web.address.to_string(), dead.to_string()),
    );
    // Probes must not find it before a request does.
    let dead_too = dead_too.replace("timeout = \"150ms\"", "timeout = \"150ms\"\nfall = 20");
    assert!(dead_too.contains(&dead.to_string()) && dead_too.contains("fall"), "{dead_too}");
    let log = "[access_log]\noutput = \"access.log\"\nquery = true\n";
    let mut edge = Edge::ready(&folder.write("proxima.toml", &format!("{dead_too}{log}")));
    until_served(&edge, "/first?q=1", "web");
    let file = folder.path().join("access.log");
    eventually("an attempt that failed is told beside the one that did not", || {
        get(edge.address("http"), "/again");
        lines(&file).into_iter().find(|line| line["attempts"].as_array().unwrap().len() == 2)
    });
    let line = lines(&file).into_iter().find(|line| line["status"] == 200 && line["query"] == "q=1").unwrap();
    for (key, value) in [
        ("listener", "http"),
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("path", "/first"),
        ("protocol", "HTTP/1.1"),
        ("service", "web"),
        ("region", "here"),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert_eq!(line["request_id"].as_str().unwrap().len(), 32);
    assert!(
        line["duration_ms"].as_f64().unwrap() > 0.0 && line["bytes_sent"].as_u64().unwrap() > 0,
        "{line}"
    );
    let failed: Vec<Value> =
        lines(&file).iter().flat_map(|line| line["attempts"].as_array().unwrap().clone()).collect();
    assert!(
        failed.iter().any(|a| a["failed"] == "connect" && a["endpoint"] == dead.to_string()),
        "{failed:?}"
    );

    // As logrotate does it.
    fs::rename(&file, folder.path().join("access.log.1")).unwrap();
    edge.signal("HUP");
    eventually("a new file is there", || file.exists().then_some(()));
    get(edge.address("http"), "/rotated");
    edge.signal("TERM");
    assert_eq!(edge.ended().code(), Some(0));
    let rotated: Vec<String> = lines(&file).iter().map(|line| line["path"].to_string()).collect();
    assert_eq!(rotated, ["\"/rotated\""], "the end of the process loses no line");
}

#[test]
fn health_checks_are_not_logged_and_failures_are_whatever_the_sample_says() {
    let (folder, web) = (Folder::new(), Service::start("web"));
    let log = "[access_log]\noutput = \"access.log\"\nsample = 0.0\n";
    let edge = Edge::ready(&folder.write("proxima.toml", &format!("{}{log}", single(free(), ""))));
    drop(web);
    assert_eq!(get(edge.address("http"), "/health/edge").status, 200);
    let status = get(edge.address("http"), "/fails?secret=1").status;
    assert!(status >= 500, "{status}");
    let file = folder.path().join("access.log");
    let line = eventually("the failure is told", || lines(&file).into_iter().next());
    assert_eq!((line["path"].as_str(), line["status"].as_u64()), (Some("/fails"), Some(status.into())));
    assert_eq!(line["query"], Value::Null);
    assert_eq!(lines(&file).len(), 1);
}

#[test]
fn a_log_that_cannot_be_opened_is_one_clear_line() {
    let (folder, web) = (Folder::new(), Service::start("web"));
    let good = single(web.address, "");
    let bad = format!("{good}[access_log]\noutput = \"no/such/folder/access.log\"\n");
    let mut edge = Edge::spawn(&folder.write("bad.toml", &bad));
    assert_eq!(edge.ended().code(), Some(1));
    assert!(edge.log().contains("no/such/folder/access.log cannot be opened"), "{}", edge.log());
    // In a reload it is refused, and the configuration in force stays.
    let file = folder.write("proxima.toml", &good);
    let edge = Edge::ready(&file);
    folder.write("proxima.toml", &bad);
    edge.until_metric(r#"proxima_reloads_total{result="refused"}"#, 1.0);
    until_served(&edge, "/", "web");
}

#[test]
fn a_route_says_itself_how_much_of_it_is_told() {
    let (folder, web, api) = (Folder::new(), Service::start("web"), Service::start("api"));
    let quiet = |share: &str| format!("{}sample = {share}\n", served("api", "here", api.address, "/api"));
    let config = |general: &str, share: &str| {
        let log = format!("[access_log]\noutput = \"access.log\"\nsample = {general}\n");
        single(web.address, &format!("{}{log}", quiet(share)))
    };
    let told = |path: &str| lines(&folder.path().join("access.log")).iter().any(|line| line["path"] == path);
    let edge = Edge::ready(&folder.write("proxima.toml", &config("1.0", "0.0")));
    until_served(&edge, "/api/ready", "api");
    for n in 0..20 {
        get(edge.address("http"), &format!("/api/{n}"));
    }
    get(edge.address("http"), "/last");
    eventually("the other route is told", || told("/last").then_some(()));
    assert!((0..20).all(|n| !told(&format!("/api/{n}"))), "nothing of the quiet one");

    // The other way round, by a reload.
    folder.write("proxima.toml", &config("0.0", "1.0"));
    edge.until_metric(r#"proxima_reloads_total{result="applied"}"#, 1.0);
    // The core publishes routes a moment after the reload.
    eventually("now that one is told", || {
        get(edge.address("http"), "/api/seen");
        told("/api/seen").then_some(())
    });
    get(edge.address("http"), "/unseen");
    get(edge.address("http"), "/api/last");
    eventually("what comes after it is told", || told("/api/last").then_some(()));
    assert!(!told("/unseen"));
}

#[test]
fn a_line_has_the_times_of_its_attempts_the_trace_and_what_tls_has_shown() {
    let (folder, web, authority) = (Folder::new(), Service::start("web"), Authority::new());
    authority.sign(&folder, "server", "www.example.com");
    authority.sign(&folder, "client", "client.example.net");
    let more = r#"
[[listeners]]
name = "https"
address = "127.0.0.1:0"
protocol = "https"
[tls]
certificate = "server.pem"
key = "server.key"
client_auth = "optional"
client_ca = "client-ca.pem"
[access_log]
output = "access.log"
"#;
    let edge = Edge::ready(&folder.write("proxima.toml", &single(web.address, more)));
    until_served(&edge, "/", "web");
    let Some(curl) = tool("curl") else { return };
    let (https, path) = (edge.address("https"), |name: &str| folder.path().join(name));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let asked = Command::new(curl)
        .args(["--silent", "--show-error", "--max-time", "10", "--http2", "--data", "seven b"])
        .arg("--resolve")
        .arg(format!("www.example.com:{}:127.0.0.1", https.port()))
        .arg("--cacert")
        .arg(path("server-ca.pem"))
        .arg("--cert")
        .arg(path("client.pem"))
        .arg("--key")
        .arg(path("client.key"))
        .args(["--header", "x-request-id: mine-1"])
        .args(["--header", &format!("traceparent: 00-{trace}-00f067aa0ba902b7-01")])
        .arg(format!("https://www.example.com:{}/told", https.port()))
        .output()
        .unwrap();
    assert_eq!(asked.stdout, b"web", "{}", String::from_utf8_lossy(&asked.stderr));
    let line = eventually("it is told", || {
        lines(&folder.path().join("access.log")).into_iter().find(|line| line["path"] == "/told")
    });
    for (key, value) in [
        ("listener", "https"),
        ("client", "127.0.0.1"),
        ("tls", "TLSv1_3"),
        ("alpn", "h2"),
        ("sni", "www.example.com"),
        ("client_certificate", "CN=client.example.net"),
        ("protocol", "HTTP/2"),
        ("method", "POST"),
        ("route", "web"),
        ("service", "web"),
        ("region", "here"),
        ("request_id", "mine-1"),
        ("trace_id", trace),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert!(line["cipher"].as_str().unwrap().starts_with("TLS13_"), "{line}");
    assert_eq!(line["sampled"], true, "{line}");
    assert_eq!(line["bytes_received"], 7, "{line}");
    assert!(line["bytes_sent"].as_u64().unwrap() >= 3, "{line}");
    assert_eq!(line["attempts"].as_array().unwrap().len(), 1, "{line}");
    let attempt = &line["attempts"][0];
    assert_eq!((&attempt["region"], &attempt["status"]), (&"here".into(), &200.into()), "{line}");
    assert_eq!(attempt["endpoint"], web.address.to_string(), "{line}");
    the_times_fit_together(&line);
}

fn the_times_fit_together(line: &Value) {
    let attempt = &line["attempts"][0];
    let times: Vec<f64> = ["began_ms", "connect_ms", "first_byte_ms", "total_ms"]
        .map(|key| attempt[key].as_f64().unwrap_or_else(|| panic!("{key}: {line}")))
        .into();
    let whole = line["duration_ms"].as_f64().unwrap();
    assert!(times[1] > 0.0 && times[1] <= times[2] && times[2] <= times[3], "{line}");
    assert!(times[0] + times[3] <= whole + 0.01, "{line}");
}
