//! The access log of a running process: what is in it, and how it is rotated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

use run_support::*;
use serde_json::Value;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

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
