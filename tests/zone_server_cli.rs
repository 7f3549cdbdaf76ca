//! `proxima zone-server` as a process: one readable line, served addresses, exit 0 on a signal.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod zone_server_support;

use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use zone_server_support::sdk;

/// Starts the program on free ports; returns it and the line that it prints.
async fn started() -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_proxima"))
        .args(["zone-server", "--api", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--zone", "example.test"])
        .args(["--place", "127.1.0.0/16=eu-west-1", "--insync-delay", "10ms", "--health-interval", "1s"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line =
        tokio::time::timeout(Duration::from_secs(10), lines.next_line()).await.unwrap().unwrap().unwrap();
    (child, line)
}

/// The value of `key=` in the line.
fn field<'a>(line: &'a str, key: &str) -> &'a str {
    line.split(' ')
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("{line}"))
}

#[tokio::test]
async fn prints_its_addresses_serves_there_and_exits_0_on_either_signal() {
    for signal in ["-TERM", "-INT"] {
        let (mut child, line) = started().await;
        let api = field(&line, "api").strip_prefix("http://").unwrap().parse().unwrap();
        let zone = sdk(api).get_hosted_zone().id(field(&line, "id")).send().await.unwrap();
        assert_eq!(zone.hosted_zone.unwrap().name, "example.test.");
        let pid = child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
        let status =
            tokio::time::timeout(Duration::from_secs(10), child.wait()).await.expect(signal).unwrap();
        assert_eq!(status.code(), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn wrong_settings_exit_with_a_reason() {
    for (arguments, reason) in [
        (["--place", "10.0.0.0/8=mars"], "'mars' is not in the RTT table"),
        (["--zone", "a b"], "'a b' is no name"),
        (["--api", "192.0.2.1:1"], "cannot listen for the API on 192.0.2.1:1"),
        (["--place", "nowhere"], "want BLOCK=REGION"),
        (["--insync-delay", "5"], "want ms or s after the number"),
        (["--insync-delay", "3601s"], "the INSYNC delay is 3601s, want 0ns to 3600s"),
        (["--health-interval", "0s"], "the health interval is 0ns, want 1ms to 3600s"),
        (
            ["--health-interval", "18446744073709551615s"],
            "the health interval is 18446744073709551615s, want",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_proxima"))
            .args(["zone-server", "--dns", "127.0.0.1:0"])
            .args(arguments)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(10), output).await.expect(reason).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{arguments:?}: {said}");
    }
}
