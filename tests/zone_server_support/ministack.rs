//! ministack, an AWS stand-in that knows part of Route 53's rules, as a process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// A running ministack; it ends with this value.
pub struct Ministack {
    pub address: SocketAddr,
    _process: Child,
}

impl Ministack {
    /// Starts the ministack that `make test` installs; `None`, said aloud, where it is absent.
    pub async fn start() -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/ministack");
        if !program.exists() {
            eprintln!("SKIPPED: no ministack at {}; `make test` installs it", program.display());
            return None;
        }
        // Free now; ministack says nothing about its port, so it must be told one.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let process = Command::new(program)
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", address.port().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "ministack does not listen on {address}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(Self { address, _process: process })
    }
}
