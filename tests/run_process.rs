//! `proxima run` as a process: start, signals, drain, operators' endpoints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

use run_support::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

#[test]
fn sigterm_finishes_a_slow_answer_and_exits_0_as_soon_as_nothing_is_left() {
    let (folder, service) = (Folder::new(), Service::start("web"));
    let mut edge = Edge::ready(&folder.write("proxima.toml", &single(service.address, "")));
    until_served(&edge, "/", "web");
    let mut stream = send(edge.address("http"), "/slow").unwrap();
    service.until_slow();
    let (admin, http) = (edge.address("admin"), edge.address("http"));
    edge.signal("TERM");
    eventually("not ready while draining", || (get(admin, "/ready").status == 503).then_some(()));
    assert_eq!(get(admin, "/live").status, 200, "the admin listener outlives the drain");
    eventually("the listeners close after the notice", || (get(http, "/").status == 0).then_some(()));
    assert!(edge.running(), "a request is left");
    assert_eq!(edge.metric("proxima_requests_in_flight"), Some(1.0));

    service.release();
    let released = Instant::now();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with(SLOW_WHOLE), "{text}");
    assert_eq!(edge.ended().code(), Some(0));
    assert!(released.elapsed() < Duration::from_secs(3), "the deadline of 10 s was waited for");
}

#[test]
fn a_process_that_says_ready_serves_its_first_request_and_a_name_that_is_nowhere_keeps_it_out_for_seconds_only()
 {
    let (folder, service) = (Folder::new(), Service::start("web"));
    let text = single(service.address, "");
    let edge = Edge::ready(&folder.write("proxima.toml", &text));
    assert_eq!(get(edge.address("http"), "/").status, 200);
    drop(edge);
    let nowhere = text.replace(&service.address.to_string(), "nowhere.invalid:80");
    let edge = Edge::ready(&folder.write("proxima.toml", &nowhere));
    assert_eq!(get(edge.address("http"), "/").status, 503);
}

#[test]
fn requests_are_served_during_the_notice() {
    let (folder, service) = (Folder::new(), Service::start("web"));
    let text = single(service.address, "").replace("\"300ms\"", "\"60s\"");
    let mut edge = Edge::ready(&folder.write("proxima.toml", &text));
    until_served(&edge, "/", "web");
    edge.signal("TERM");
    eventually("draining", || (get(edge.address("admin"), "/ready").status == 503).then_some(()));
    assert_eq!(get(edge.address("http"), "/").body, "web");
    assert!(edge.running());
    edge.signal("TERM");
    assert_eq!(
        edge.ended().code(),
        Some(1),
        "a second signal exits at once, and says that it cut something short"
    );
}

#[test]
fn the_drain_deadline_cuts_what_never_ends() {
    let (folder, service) = (Folder::new(), Service::start("web"));
    let text = single(service.address, "").replace("\"10s\"", "\"700ms\"");
    let mut edge = Edge::ready(&folder.write("proxima.toml", &text));
    until_served(&edge, "/", "web");
    let _stream = send(edge.address("http"), "/slow").unwrap();
    service.until_slow();
    edge.signal("TERM");
    assert_eq!(edge.ended().code(), Some(0));
    assert!(edge.log().contains("cut off"), "{}", edge.log());
}

#[test]
fn a_port_in_use_is_one_clear_line_and_exit_1() {
    let (folder, service) = (Folder::new(), Service::start("web"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let good = single(service.address, "");
    let (head, tail) = good.split_once("[admin]").unwrap();
    let admin = format!("{head}[admin]{}", tail.replace("127.0.0.1:0", &address.to_string()));
    let http = format!("{}[admin]{tail}", head.replace("127.0.0.1:0", &address.to_string()));
    for (listener, text) in [("http", http), ("admin", admin)] {
        let mut edge = Edge::spawn(&folder.write("proxima.toml", &text));
        assert_eq!(edge.ended().code(), Some(1));
        let said =
            format!("cannot start: listener `{listener}` cannot listen on {address}: Address already in use");
        eventually(&format!("{said}\nin\n{}", edge.log()), || edge.log().contains(&said).then_some(()));
    }
}

#[test]
fn a_wrong_configuration_is_told_whole_and_exit_1() {
    let (folder, service) = (Folder::new(), Service::start("web"));
    let text =
        single(service.address, "").replace("health.path = \"/\"", "health.path = \"/\"\nhealth_pth = 1");
    let text = text.replace("service = \"web\"", "service = \"wob\"");
    let mut edge = Edge::spawn(&folder.write("proxima.toml", &text));
    assert_eq!(edge.ended().code(), Some(1));
    eventually("both problems with their places are told", || {
        let log = edge.log();
        ["health_pth", "wob", "proxima.toml:"].iter().all(|word| log.contains(word)).then_some(())
    });
    for problem in ["error: unknown key `services.web.health_pth`", "error: there is no service `wob`"] {
        assert_eq!(edge.log().matches(problem).count(), 1, "{problem}: once\n{}", edge.log());
    }
}

#[test]
fn operators_see_a_ready_process_and_metrics_that_promtool_accepts() {
    let (folder, service) = (Folder::new(), Service::start("web"));
    let edge = Edge::ready(&folder.write("proxima.toml", &single(service.address, "")));
    until_served(&edge, "/", "web");
    let admin = edge.address("admin");
    assert!(get(admin, "/").body.contains("/snapshot"));
    for path in ["/health/edge", "/health/gate", "/health/gate/www.example.com"] {
        assert_eq!(get(admin, path).status, 200, "{path}");
    }
    assert_eq!(get(admin, "/nothing").status, 404);
    edge.until_metric(r#"proxima_service_state{region="here",service="web",state="healthy"}"#, 1.0);
    edge.until_metric(r#"proxima_requests_total{class="2xx",region="here",service="web"}"#, 1.0);
    edge.until_metric(r#"proxima_endpoint_probes_total{result="success",service="web"}"#, 1.0);
    assert!(edge.metric("proxima_control_idle_seconds").unwrap() < 2.0);
    let snapshot = edge.snapshot();
    assert_eq!(snapshot["own"], "here");
    assert_eq!(snapshot["services"]["web"]["candidates"][0]["endpoints"][0], service.address.to_string());
    let listeners: Vec<_> = snapshot["listeners"].as_array().unwrap().iter().map(|l| &l["address"]).collect();
    assert!(listeners.contains(&&edge.address("http").to_string().into()), "{listeners:?}");

    let Some(promtool) = tool("promtool") else { return };
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(get(admin, "/metrics").body.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn operators_that_say_nothing_lose_their_connections_and_lock_nobody_out() {
    let (folder, service) = (Folder::new(), Service::start("web"));
    let edge = Edge::ready(&folder.write("proxima.toml", &single(service.address, "")));
    let admin = edge.address("admin");
    let mut half = TcpStream::connect(admin).unwrap();
    half.write_all(b"GET /live HTTP/1.1\r\nHost: x\r\n").unwrap();
    let mut idle: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(admin).unwrap()).collect();
    eventually("it answers beside them", || (get(admin, "/live").status == 200).then_some(()));
    idle.push(half);
    for stream in &mut idle {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Closed with or without an answer, but closed: a time-out would be an error.
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn nothing_is_ready_before_it_can_decide_and_a_dead_service_does_not_change_that() {
    let folder = Folder::new();
    // Nobody listens there: the region is ill, the process is not.
    let edge = Edge::ready(&folder.write("proxima.toml", &single("127.0.0.1:1".parse().unwrap(), "")));
    edge.until_metric(r#"proxima_endpoint_probes_total{result="connect",service="web"}"#, 3.0);
    assert_eq!(get(edge.address("admin"), "/ready").status, 200);
}
