//! Listeners of a running process: sockets that outlive it or not, and what is told of their clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

use run_support::authority::Authority;
use run_support::*;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n";

/// The status of an answer to these bytes; 0: none came.
fn status(mut stream: impl Read + Write, bytes: &[u8]) -> u16 {
    let mut text = String::new();
    // Closed with bytes unread, it may be reset.
    drop(stream.write_all(bytes).and_then(|()| stream.read_to_string(&mut text)));
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// A listener at `edge.sock` beside the one at a port.
fn with_socket(service: SocketAddr, more: &str) -> String {
    let listener = "[[listeners]]\nname = \"local\"\naddress = \"unix:edge.sock\"\nmode = \"0600\"\n";
    single(service, &format!("{listener}{more}"))
}

fn ask(socket: &Path) -> u16 {
    UnixStream::connect(socket).map_or(0, |stream| status(stream, GET))
}

#[test]
fn a_socket_goes_with_its_process_and_a_killed_one_s_is_taken_over() {
    let (folder, web) = (Folder::new(), Service::start("web"));
    let file = folder.write("proxima.toml", &with_socket(web.address, ""));
    let socket = folder.path().join("edge.sock");
    let mut edge = Edge::ready(&file);
    until_served(&edge, "/", "web");
    assert_eq!(ask(&socket), 200);
    let addresses = edge.snapshot()["listeners"].to_string();
    assert!(addresses.contains(&format!("unix:{}", socket.display())), "{addresses}");
    // A second process at the same place is told why not; the first goes on.
    let mut second = Edge::spawn(&file);
    assert_eq!(second.ended().code(), Some(1));
    let said = second.log();
    assert!(
        said.contains("listener `local` cannot listen on unix:") && said.contains("another process"),
        "{said}"
    );
    assert_eq!(ask(&socket), 200);
    edge.signal("KILL");
    edge.ended();
    assert!(socket.exists() && ask(&socket) == 0, "its file is left behind, and dead");
    let mut edge = Edge::ready(&file);
    until_served(&edge, "/", "web");
    assert_eq!(ask(&socket), 200);
    edge.signal("TERM");
    assert_eq!(edge.ended().code(), Some(0));
    assert!(!socket.exists());
}

/// From 203.0.113.7, by a VPC endpoint and by TLS, with an id.
fn header() -> Vec<u8> {
    let addresses = [203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb];
    let field = |kind: u8, value: &[u8]| [&[kind, 0, u8::try_from(value.len()).unwrap()], value].concat();
    let ssl = [&[1, 0, 0, 0, 1][..], &field(0x21, b"TLSv1.3"), &field(0x23, b"AES")].concat();
    let fields = [
        field(0xea, b"\x01vpce-08d2bf15f"),
        field(2, b"shop.example.com"),
        field(5, &[1, 0xab]),
        field(0x20, &ssl),
    ];
    let rest = [&addresses[..], &fields.concat()].concat();
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &length, &rest].concat()
}

#[test]
fn what_a_load_balancer_says_of_a_client_is_in_the_access_log() {
    let (folder, web) = (Folder::new(), Service::start("web"));
    let more = "proxy_protocol = true\n[access_log]\noutput = \"access.log\"\n";
    let mut edge = Edge::ready(&folder.write("proxima.toml", &with_socket(web.address, more)));
    until_served(&edge, "/first", "web");
    let socket = folder.path().join("edge.sock");
    let told = status(UnixStream::connect(&socket).unwrap(), &[&header(), GET].concat());
    let local = status(UnixStream::connect(&socket).unwrap(), &[b"PROXY UNKNOWN\r\n", GET].concat());
    assert_eq!((told, local), (200, 200));
    edge.signal("TERM");
    assert_eq!(edge.ended().code(), Some(0));
    let log = fs::read_to_string(folder.path().join("access.log")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = lines.iter().find(|line| line["client"] == "203.0.113.7").expect(&log);
    for (key, value) in [
        ("remote", "203.0.113.7:4711"),
        ("vpc_endpoint", "vpce-08d2bf15f"),
        ("proxy_authority", "shop.example.com"),
        ("proxy_unique_id", "01ab"),
        ("proxy_tls", "TLSv1.3"),
        ("proxy_cipher", "AES"),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert!(lines.iter().any(|line| line["remote"] == "unix" && line["client"].is_null()), "{log}");
}

/// The header lines of `/health/edge`; `None`: there is no curl.
fn head(edge: &Edge) -> Option<String> {
    let url = format!("https://{}/health/edge", edge.address("tls"));
    let said = Command::new(tool("curl")?).args(["--silent", "--insecure", "--head", &url]).output().unwrap();
    Some(String::from_utf8(said.stdout).unwrap().to_ascii_lowercase())
}

#[test]
fn a_reload_changes_what_listeners_ask_but_not_where_they_are() {
    let (folder, web) = (Folder::new(), Service::start("web"));
    Authority::new().sign(&folder, "server", "www.example.com");
    let plain = "[[listeners]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
                 [tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n";
    let before = with_socket(web.address, plain);
    let file = folder.write("proxima.toml", &before);
    let edge = Edge::ready(&file);
    let Some(said) = head(&edge) else { return };
    assert!(said.starts_with("http/2 200") && !said.contains("strict-transport-security"), "{said}");
    folder.write("proxima.toml", &format!("{before}hsts = {{ max_age = \"1d\" }}\n"));
    eventually("it is told without a restart", || {
        head(&edge)?.contains("strict-transport-security: max-age=86400\r\n").then_some(())
    });
    let limited = before.replace("mode = \"0600\"", "mode = \"0600\"\nhttps_redirect = true");
    folder.write("proxima.toml", &limited);
    let socket = folder.path().join("edge.sock");
    eventually("what a listener asks changes without a restart", || (ask(&socket) == 301).then_some(()));
    folder.write("proxima.toml", &before.replace("mode = \"0600\"", "mode = \"0660\""));
    edge.until_metric(r#"proxima_reloads_total{result="refused"}"#, 1.0);
    let why =
        "the names, addresses and protocols of listeners cannot change while running; restart to apply it";
    assert!(edge.log().contains(why), "{}", edge.log());
}
