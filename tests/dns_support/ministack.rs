//! ministack, an AWS stand-in that knows part of Route 53's rules, as a process.

use own_address::loopback;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

#[allow(clippy::duplicate_mod)] // Some suites have `run_support`, too.
#[path = "../run_support/own_address.rs"]
mod own_address;

/// A running ministack; it ends with this value.
pub struct Ministack {
    pub address: SocketAddr,
    _process: Child,
}

#[allow(dead_code)] // Each suite starts it its own way.
impl Ministack {
    /// Starts the one that `make test` installs, or that `PROXIMA_MINISTACK` names, with these settings.
    ///
    /// `None`, said aloud, where there is none; a failure under `PROXIMA_REQUIRE_TOOLS=1`.
    pub async fn start(settings: &[(&str, &str)]) -> Option<Self> {
        let program = program()?;
        Some(Self::run(|| Command::new(&program), settings).await)
    }

    /// The same by `tests/aws/stand_in.py`, which judges policies by Route 53's own condition keys, too, and writes a
    /// line into `calls` for each call that it judged.
    pub async fn judging(settings: &[(&str, &str)], calls: &Path) -> Option<Self> {
        // Of the environment that ministack is installed in.
        let python = program()?.with_file_name("python");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aws/stand_in.py");
        let command = || {
            let mut command = Command::new(&python);
            command.arg("-B").arg(&script).env("PROXIMA_CALLS", calls);
            command
        };
        Some(Self::run(command, settings).await)
    }

    async fn run(command: impl Fn() -> Command, settings: &[(&str, &str)]) -> Self {
        // Not at a free port of 127.0.0.1, which others may take until it listens. (Edges that have the same address
        // listen at other ports.)
        let address = SocketAddr::from((loopback(), 4566));
        let process = command()
            .envs(settings.iter().copied())
            .env("BIND_HOST", address.ip().to_string())
            .env("GATEWAY_PORT", address.port().to_string())
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env_remove("AWS_SESSION_TOKEN")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { address, _process: ready(address, process).await }
    }
}

fn program() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/ministack");
    let program = std::env::var_os("PROXIMA_MINISTACK").map_or(installed, PathBuf::from);
    if program.exists() {
        return Some(program);
    }
    let missing = format!("no ministack at {}; `make test` installs it", program.display());
    assert!(std::env::var_os("PROXIMA_REQUIRE_TOOLS").is_none_or(|v| v != "1"), "{missing}");
    eprintln!("SKIPPED: {missing}");
    None
}

/// The process once it listens.
async fn ready(address: SocketAddr, mut process: Child) -> Child {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none(), "ministack ends: {ended:?}");
        if TcpStream::connect(address).await.is_ok() {
            return process;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("ministack does not listen on {address} within 30 s");
}
