//! Programs that others wrote, each bounded in time.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::origin::{self, tool};
use crate::run_support::{Folder, eventually};

/// The Python of `make conformance`, with the libraries of tests/conformance/requirements.txt;
/// `None`, said aloud, where it is missing.
pub fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin/python");
    if python.is_file() {
        return Some(python);
    }
    let required = std::env::var("PROXIMA_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(!required, "{} is missing: run `make conformance`, which installs it", python.display());
    eprintln!("SKIPPED: {} is missing; `make conformance` installs it", python.display());
    None
}

/// A file beside this one.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name)
}

/// What a program said, and whether it was content.
#[derive(Debug)]
pub struct Said {
    pub well: bool,
    pub output: String,
    pub errors: String,
}

impl Said {
    /// What it said, if it was content.
    pub fn held(self, of: &str) -> String {
        assert!(self.well, "{of}\n{}\n{}", self.output, self.errors);
        self.output
    }
}

/// Runs a program to its end, or to the end of its time.
pub fn run(program: &Path, seconds: u32, arguments: &[&str]) -> Said {
    let output = bounded(program, seconds).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { well: output.status.success(), output: text(&output.stdout), errors: text(&output.stderr) }
}

/// The same program, which ends after so many seconds whatever becomes of it.
pub fn bounded(program: &Path, seconds: u32) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg(seconds.to_string()).arg(program);
    command
}

/// Runs a Python script of this folder.
pub fn run_script(name: &str, arguments: &[&str]) -> Option<Said> {
    let (python, script) = (python()?, script(name));
    Some(run(&python, 60, &[&[script.to_str().unwrap()], arguments].concat()))
}

/// A server in Python, which ends with this value, or with this process.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a script of this folder that says `listening ADDRESS`; `None`: there is no Python for it.
    pub fn start(name: &str) -> Option<Self> {
        Self::start_with(name, &[])
    }

    /// The same, with further arguments.
    pub fn start_with(name: &str, arguments: &[&Path]) -> Option<Self> {
        let mut child = Command::new(python()?)
            .arg(script(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening ").map(|address| address.parse().unwrap());
        Some(Self { address: address.unwrap_or_else(|| panic!("{name} said {line:?}")), child })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    child
        .kill()
        .and_then(|()| child.wait())
        .map(drop)
        .unwrap_or_else(|error| eprintln!("not killed: {error}"));
}

/// A real haproxy; killed when dropped.
pub struct Haproxy(Child);

impl Haproxy {
    /// Starts one with this configuration, and waits until it listens; `None`: there is none here.
    pub fn start(folder: &Folder, configuration: &str, address: SocketAddr) -> Option<Self> {
        let program = tool("haproxy")?;
        let file = folder.write("haproxy.cfg", configuration);
        let child =
            Command::new(program).arg("-db").arg("-f").arg(file).stdin(Stdio::null()).spawn().unwrap();
        let mut haproxy = Self(child);
        eventually("haproxy listens", || {
            assert!(haproxy.0.try_wait().unwrap().is_none(), "it ended; see above");
            std::net::TcpStream::connect(address).ok()
        });
        Some(haproxy)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// nginx with small answers, one of 300 MB, one that tells of its request, and one after a whole body; `None`: there is none here.
pub async fn nginx() -> Option<origin::Nginx> {
    let nginx = origin::Nginx::with(
        "access_log off;",
        "",
        "location / { return 200 \"ok\\n\"; }
         location /told { return 200 \"$request_method $http_host $http_x_forwarded_proto $http_x_forwarded_for\\n\"; }
         location /taken { proxy_request_buffering on; proxy_pass http://ADDRESS/; }
         location /files { root html; }",
    )
    .await?;
    let files = nginx.folder.join("html/files");
    std::fs::create_dir_all(&files).unwrap();
    std::fs::write(files.join("words"), "0123456789").unwrap();
    // Of zeros that take no room.
    std::fs::File::create(files.join("huge")).unwrap().set_len(crate::volume::HUGE).unwrap();
    Some(nginx)
}
