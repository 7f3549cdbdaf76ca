//! Session tickets: openssl comes back with one, before and after a reload.

use crate::origin::{Origin, ok, tool};
use crate::support::{Authority, Plan, Running, start_with};
use proxima::config::{Config, Environment};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

fn config(authority: &Authority) -> Arc<Config> {
    let text = Plan::default().toml(authority);
    Arc::new(Config::from_text("proxima.toml", &text, &Environment::default()).unwrap())
}

async fn edge(authority: &Authority) -> Running {
    let edge = start_with(config(authority)).await.unwrap();
    let origin = Origin::start(|_, _| ok("served")).await;
    edge.route(&[("home", &[origin.address])]);
    edge
}

/// One request by `openssl s_client`, with a session from or into a file; what it says.
async fn ask(edge: &Running, version: &str, session: [&str; 2]) -> Option<String> {
    let at = edge.https().to_string();
    let mut client = Command::new(tool("openssl")?)
        .args(["s_client", "-connect", &at, "-servername", "www.example.com", version, "-ign_eof"])
        .args(session)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // TLS 1.3 sends tickets after the handshake: they have come when the answer has.
    let request = b"GET / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n";
    let mut input = client.stdin.take().unwrap();
    input.write_all(request).await.unwrap();
    let said = client.wait_with_output().await.unwrap();
    drop(input);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("HTTP/1.1 200"), "{version} {session:?}: {said}");
    Some(said)
}

fn resumed(said: &str) -> bool {
    let (new, reused) = (said.contains("\nNew, "), said.contains("\nReused, "));
    assert!(new != reused, "{said}");
    reused
}

fn file(folder: &Path, version: &str) -> String {
    folder.join(format!("session{version}")).to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed_by_its_ticket_after_a_reload_with_a_renewed_certificate() {
    let authority = Authority::new();
    let edge = edge(&authority).await;
    for version in ["-tls1_2", "-tls1_3"] {
        let session = file(&authority.folder, version);
        let Some(first) = ask(&edge, version, ["-sess_out", &session]).await else { return };
        assert!(!resumed(&first), "{version}: the first one is new");
        assert!(resumed(&ask(&edge, version, ["-sess_in", &session]).await.unwrap()), "{version}");
        // The configuration signs its certificates anew.
        edge.edge.apply(&config(&authority)).await.unwrap();
        let again = ask(&edge, version, ["-sess_in", &session]).await.unwrap();
        assert!(resumed(&again), "{version}: after a reload");
    }
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_one_process_s_own_and_another_edge_shakes_hands_anew() {
    let authority = Authority::new();
    let (one, other) = (edge(&authority).await, edge(&authority).await);
    for version in ["-tls1_2", "-tls1_3"] {
        let session = file(&authority.folder, version);
        let Some(first) = ask(&one, version, ["-sess_out", &session]).await else { return };
        assert!(!resumed(&first), "{version}");
        let there = ask(&other, version, ["-sess_in", &session]).await.unwrap();
        assert!(!resumed(&there), "{version}: it is served all the same");
    }
    one.close().await;
    other.close().await;
}
