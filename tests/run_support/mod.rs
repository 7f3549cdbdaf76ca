//! `proxima run` as a process, a service whose answers the test holds back, and a plain client.
#![allow(dead_code, unused_imports)] // Each test file uses its part.

pub mod authority;
pub mod client;
pub mod nginx;
#[allow(clippy::duplicate_mod)] // Some suites have `ministack`, too.
mod own_address;
pub mod tls;

pub use own_address::loopback;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::time::Instant;

/// Longer than anything here should take, shorter than patience.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Asks until the answer is `Some`, with a deadline.
#[allow(clippy::disallowed_methods)] // Polls other processes from a plain thread, with a deadline.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A folder of its own for one test; removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("run-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file whole, by renaming, and tells its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        let draft = self.0.join(format!("{name}.draft"));
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, &path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_else(|error| eprintln!("{}: {error}", self.0.display()));
    }
}

/// A running `proxima run`; killed when dropped.
pub struct Edge {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    listeners: BTreeMap<String, SocketAddr>,
}

impl Edge {
    /// Starts it and waits until all listeners are bound.
    pub fn start(file: &Path) -> Self {
        Self::spawn(file).bound_all()
    }

    /// Waits until all listeners are bound.
    pub fn bound_all(mut self) -> Self {
        let edge = &mut self;
        let admin = eventually("the admin listener is bound", || {
            assert!(edge.child.try_wait().unwrap().is_none(), "it ended:\n{}", edge.log());
            edge.bound("admin")
        });
        edge.listeners.insert("admin".to_owned(), admin);
        self
    }

    /// Starts it and waits until it is ready and serves.
    pub fn ready(file: &Path) -> Self {
        Self::ready_with(file, &[])
    }

    /// The same, with further arguments.
    pub fn ready_with(file: &Path, arguments: &[&str]) -> Self {
        let edge = Self::spawn_with(file, arguments).bound_all();
        eventually("it is ready", || (get(edge.address("admin"), "/ready").status == 200).then_some(()));
        edge
    }

    /// Starts it, whatever becomes of it.
    pub fn spawn(file: &Path) -> Self {
        Self::spawn_with(file, &[])
    }

    fn spawn_with(file: &Path, arguments: &[&str]) -> Self {
        Self::of(Self::command(file, arguments))
    }

    /// What starts it, for tests that change its environment.
    pub fn command(file: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
        command
            .arg("run")
            .arg(file)
            .args(arguments)
            .env_remove("PROXIMA_REGION")
            .env_remove("RUST_LOG")
            // To sign with, where there is a zone server.
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env_remove("AWS_SESSION_TOKEN");
        command
    }

    /// Starts it, whatever becomes of it.
    pub fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                shared.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { child, log, listeners: BTreeMap::new() }
    }

    /// The address that a listener is bound to, by its log line.
    fn bound(&self, listener: &str) -> Option<SocketAddr> {
        let log = self.log.lock().unwrap();
        let events = log.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut mine = events.filter(|e| e["message"] == "listening" && e["listener"] == listener);
        mine.next().map(|event| event["address"].as_str().unwrap().parse().unwrap())
    }

    pub fn address(&self, listener: &str) -> SocketAddr {
        self.listeners.get(listener).copied().or_else(|| self.bound(listener)).unwrap()
    }

    /// Everything that it said.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the process ends", || child.try_wait().unwrap())
    }

    /// Of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The value of a metric; labels as they are spelled in the exposition.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = get(self.address("admin"), "/metrics").body;
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|l| l.starts_with(' ')))?;
        Some(line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Waits until a metric is at least `value`.
    pub fn until_metric(&self, series: &str, value: f64) {
        eventually(&format!("{series} is {value}\n{}", self.log()), || {
            (self.metric(series)? >= value).then_some(())
        });
    }

    pub fn snapshot(&self) -> serde_json::Value {
        serde_json::from_str(&get(self.address("admin"), "/snapshot").body).unwrap()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let killed = self.child.kill().and_then(|()| self.child.wait());
            killed.map(drop).unwrap_or_else(|error| eprintln!("not killed: {error}"));
        }
        if thread::panicking() {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("--- proxima run ---\n{}", log.join("\n"));
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// One GET on a connection of its own; status 0 when the connection broke before an answer.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    let exchange = || -> std::io::Result<String> {
        let mut stream = send(address, path)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = exchange().unwrap_or_default();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Waits until requests are answered by `body`.
pub fn until_served(edge: &Edge, path: &str, body: &str) {
    eventually(&format!("{path} is answered by {body}"), || {
        let answer = get(edge.address("http"), path);
        (answer.status == 200 && answer.body == body).then_some(())
    });
}

/// Waits until requests are answered with this status.
pub fn until_status(edge: &Edge, path: &str, status: u16) {
    eventually(&format!("{path} is answered with {status}"), || {
        (get(edge.address("http"), path).status == status).then_some(())
    });
}

/// Sends a GET and leaves its answer to the caller.
pub fn send(address: SocketAddr, path: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    Ok(stream)
}

/// A service: `/slow` sends half of its answer and waits for `release`, `/echo` sends back what comes, everything else is
/// its name.
pub struct Service {
    pub address: SocketAddr,
    held: Arc<(Mutex<bool>, Condvar)>,
    slow: Arc<AtomicUsize>,
}

pub const SLOW_HALF: &str = "first half,";
pub const SLOW_WHOLE: &str = "first half, second half";

impl Service {
    pub fn start(name: &'static str) -> Self {
        Self::start_at("127.0.0.1:0", name)
    }

    pub fn start_at(address: &str, name: &'static str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let held = Arc::new((Mutex::new(true), Condvar::new()));
        let slow = Arc::new(AtomicUsize::new(0));
        let (gate, count) = (Arc::clone(&held), Arc::clone(&slow));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
                thread::spawn(move || answer(stream, name, &gate, &count));
            }
        });
        Self { address, held, slow }
    }

    /// Lets the slow answers end.
    pub fn release(&self) {
        *self.held.0.lock().unwrap() = false;
        self.held.1.notify_all();
    }

    /// Waits until a slow answer has begun.
    pub fn until_slow(&self) {
        eventually("a slow request arrived", || (self.slow.load(Ordering::SeqCst) > 0).then_some(()));
    }
}

/// Errors end the connection: the other side has gone, which is its right.
fn answer(
    mut stream: TcpStream,
    name: &str,
    gate: &(Mutex<bool>, Condvar),
    slow: &AtomicUsize,
) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    if head.starts_with(b"GET /echo") {
        // Upgraded, it sends back what comes.
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(switch.as_bytes()).ok()?;
        return std::io::copy(&mut stream.try_clone().ok()?, &mut stream).ok().map(drop);
    }
    // What was sent with it is taken first: an answer before that could end the request with its body unsent.
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(Ok(0), |length| length.trim().parse()).ok()?;
    std::io::copy(&mut Read::by_ref(&mut stream).take(length), &mut std::io::sink()).ok()?;
    if !head.starts_with("get /slow") {
        let length = name.len();
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{name}");
        return stream.write_all(text.as_bytes()).ok();
    }
    let length = SLOW_WHOLE.len();
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{SLOW_HALF}");
    stream.write_all(text.as_bytes()).ok()?;
    slow.fetch_add(1, Ordering::SeqCst);
    let held = gate.0.lock().ok()?;
    drop(gate.1.wait_while(held, |held| *held).ok()?);
    stream.write_all(&SLOW_WHOLE.as_bytes()[SLOW_HALF.len()..]).ok()
}

/// A program on PATH or unpacked by `make test`; `None`, said aloud, where there
/// is none; a failure where tools are required.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin");
    let found = std::env::split_paths(&path)
        .chain([unpacked])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        let required = std::env::var("PROXIMA_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
        assert!(!required, "{name} is missing: run `make test`, which installs it");
        eprintln!("SKIPPED: {name} is missing; `make test` installs it");
    }
    found
}

/// A configuration of one region in front of `service`; `more` is appended.
pub fn single(service: SocketAddr, more: &str) -> String {
    format!(
        r#"
[edge]
region = "here"
drain_notice = "300ms"
drain_deadline = "10s"
[[listeners]]
name = "http"
address = "127.0.0.1:0"
[regions.here]
[probes]
interval = "200ms"
timeout = "150ms"
[admin]
address = "127.0.0.1:0"
{web}
{more}
"#,
        web = served("web", "here", service, "/")
    )
}

/// The sections of a service with one endpoint in `region`, under `prefix`.
pub fn served(name: &str, region: &str, endpoint: SocketAddr, prefix: &str) -> String {
    format!(
        r#"
[services.{name}]
endpoints.{region} = ["{endpoint}"]
health.path = "/"
[[routes]]
name = "{name}"
path_prefix = "{prefix}"
service = "{name}"
"#
    )
}
