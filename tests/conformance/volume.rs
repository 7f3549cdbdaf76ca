//! Large bodies, and sides that do not read: memory stays flat.

use crate::origin::tool;
use crate::peers::{self, run};
use crate::run_support::{Folder, PATIENCE, eventually, served};
use crate::world::World;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub const HUGE: u64 = 300 * 1024 * 1024;
/// By how much a process may grow, whatever the size of a body.
const FLAT_KIB: u64 = 24 * 1024;
/// What may be on its way where nobody reads: the buffers of the kernel on both sides, and ours.
const BUFFERED: u64 = 24 * 1024 * 1024;

/// An origin that counts: `/flood` sends 300 MB, everything else is read and answered by its length.
/// `/held` is read only once it is let go.
struct Counting {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Counting {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, sent) = (listener.local_addr().unwrap(), Arc::<AtomicU64>::default());
        let gate = Arc::<(Mutex<bool>, Condvar)>::default();
        let (count, open) = (Arc::clone(&sent), Arc::clone(&gate));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (count, open) = (Arc::clone(&count), Arc::clone(&open));
                // A client that leaves ends its thread: that is its right.
                thread::spawn(move || exchange(stream, &count, &open));
            }
        });
        Self { address, sent, gate }
    }

    /// Lets what is held be read.
    fn let_go(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

fn exchange(mut stream: TcpStream, sent: &AtomicU64, gate: &(Mutex<bool>, Condvar)) -> Option<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    if head.starts_with("get /flood") {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {HUGE}\r\nconnection: close\r\n\r\n").ok()?;
        let piece = vec![0; 64 * 1024];
        for _ in 0..HUGE / piece.len() as u64 {
            stream.write_all(&piece).ok()?;
            sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
        return Some(());
    }
    if head.contains("/held") {
        let open = gate.0.lock().ok()?;
        drop(gate.1.wait_while(open, |open| !*open).ok()?);
    }
    let got = if head.contains("transfer-encoding: chunked") {
        chunked(&mut stream)?
    } else {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink()).ok()?
    };
    let text = got.to_string();
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len())
        .ok()
}

/// The length of a chunked body without trailers.
fn chunked(stream: &mut TcpStream) -> Option<u64> {
    use std::io::BufRead;
    let (mut reader, mut all) = (std::io::BufReader::new(stream), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = u64::from_str_radix(line.trim(), 16).ok()?;
        all += length;
        std::io::copy(&mut (&mut reader).take(length + 2), &mut std::io::sink()).ok()?;
        if length == 0 {
            return Some(all);
        }
    }
}

/// How bodies go: where to, how, and what of it has to be told.
const WAYS: [(&str, &[&str]); 4] = [
    ("http", &["--http1.1"]),
    ("https", &["--http1.1"]),
    ("http", &["--http2-prior-knowledge"]),
    ("https", &["--http2"]),
];

/// Runs curl; what it printed of the transfer.
fn transfer(world: &World, curl: &Path, listener: &str, path: &str, flags: &[&str]) -> String {
    let ask = world.ask(listener, path);
    let ask: Vec<&str> = ask.iter().map(String::as_str).collect();
    let common = ["--silent", "--show-error", "--noproxy", "*", "--max-time", "60"];
    run(curl, 70, &[&common[..], flags, &ask].concat()).held(path)
}

/// Does it, and tells by how many KiB the process had grown at most.
fn growth(world: &World, what: impl FnOnce()) -> u64 {
    world.forget_peak();
    let before = world.resident();
    what();
    world.peak().saturating_sub(before)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn downloads_of_300_mb_arrive_whole_and_memory_stays_flat() {
    let (Some(curl), Some(nginx)) = (tool("curl"), peers::nginx().await) else { return };
    let world = World::start(&served("web", "here", nginx.address, "/"));
    let told = ["--output", "/dev/null", "--write-out", "%{http_code} %{size_download}"];
    for (listener, flags) in WAYS {
        transfer(&world, &curl, listener, "/files/words", &[&told[..], flags].concat());
        let grown = growth(&world, || {
            let got = transfer(&world, &curl, listener, "/files/huge", &[&told[..], flags].concat());
            assert_eq!(got, format!("200 {HUGE}"), "{listener} {flags:?}");
        });
        eprintln!("a download by {listener} {flags:?}: {grown} KiB more");
        assert!(grown < FLAT_KIB, "{listener} {flags:?}: {grown} KiB more");
    }
}

#[test]
#[ignore = "make conformance"]
fn uploads_of_300_mb_arrive_whole_and_memory_stays_flat() {
    let Some(curl) = tool("curl") else { return };
    let (folder, origin) = (Folder::new(), Counting::start());
    let world = World::start(&served("web", "here", origin.address, "/"));
    let (small, huge) = (folder.write("small", "x"), folder.path().join("huge"));
    // Of zeros that take no room.
    std::fs::File::create(&huge).unwrap().set_len(HUGE).unwrap();
    for (listener, flags) in WAYS {
        for chunked in [&[][..], &["--header", "Transfer-Encoding: chunked"]] {
            let with = |file: &Path| {
                let file = file.to_str().unwrap();
                transfer(&world, &curl, listener, "/", &[flags, chunked, &["--upload-file", file]].concat())
            };
            assert_eq!(with(&small), "1");
            let grown = growth(&world, || {
                assert_eq!(with(&huge), HUGE.to_string(), "{listener} {flags:?} {chunked:?}");
            });
            eprintln!("an upload by {listener} {flags:?} {chunked:?}: {grown} KiB more");
            assert!(grown < FLAT_KIB, "{listener} {flags:?} {chunked:?}: {grown} KiB more");
        }
    }
}

/// Waits until a number has not changed for a second.
fn settled(number: impl Fn() -> u64) -> u64 {
    let (mut last, mut since) = (number(), Instant::now());
    eventually("it comes to rest", || {
        let now = number();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_secs(1) && now > 0).then_some(now)
    })
}

#[test]
#[ignore = "make conformance"]
fn a_client_that_does_not_read_stops_the_service_and_gets_the_rest_later() {
    let origin = Counting::start();
    let world = World::start(&served("web", "here", origin.address, "/"));
    let mut client = TcpStream::connect(world.address("http")).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let grown = growth(&world, || {
        write!(client, "GET /flood HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n").unwrap();
        let sent = settled(|| origin.sent.load(Ordering::SeqCst));
        assert!(sent < BUFFERED, "the service sent {sent} bytes to nobody");
    });
    assert!(grown < FLAT_KIB, "{grown} KiB more");
    let all = std::io::copy(&mut client, &mut std::io::sink()).unwrap();
    assert!(all > HUGE && all < HUGE + 4096, "{all} bytes with the head");
}

/// The client gives no more credit than HTTP/2 begins with.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn streams_of_http_2_whose_client_gives_no_credit_stop_the_service_each_by_itself() {
    let origin = Counting::start();
    let world = World::start(&served("web", "here", origin.address, "/"));
    let stream = tokio::net::TcpStream::connect(world.address("http")).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut stuck = Vec::new();
    world.forget_peak();
    let before = world.resident();
    for _ in 0..8 {
        let request = http::Request::get("http://www.example.com/flood").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        stuck.push(response.await.unwrap().into_body());
    }
    let sent = tokio::task::block_in_place(|| settled(|| origin.sent.load(Ordering::SeqCst)));
    assert!(sent < 8 * BUFFERED, "the service sent {sent} bytes to nobody");
    let grown = world.peak().saturating_sub(before);
    assert!(grown < FLAT_KIB, "{grown} KiB more");
}

#[test]
#[ignore = "make conformance"]
fn a_service_that_does_not_read_stops_the_client_and_gets_the_rest_later() {
    let origin = Counting::start();
    let world = World::start(&served("web", "here", origin.address, "/"));
    let client = TcpStream::connect(world.address("http")).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (written, whole) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let grown = growth(&world, || {
            scope.spawn(|| {
                let mut client = &client;
                let head = "PUT /held HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n";
                write!(client, "{head}content-length: {HUGE}\r\n\r\n").unwrap();
                let piece = vec![0; 64 * 1024];
                for _ in 0..HUGE / piece.len() as u64 {
                    client.write_all(&piece).unwrap();
                    written.fetch_add(piece.len() as u64, Ordering::SeqCst);
                }
                whole.store(true, Ordering::SeqCst);
            });
            let sent = settled(|| written.load(Ordering::SeqCst));
            assert!(sent < BUFFERED, "the client could send {sent} bytes to nobody");
        });
        assert!(grown < FLAT_KIB, "{grown} KiB more");
        assert!(!whole.load(Ordering::SeqCst));
        origin.let_go();
    });
    let mut answer = String::new();
    (&client).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&format!("\r\n\r\n{HUGE}")), "{answer}");
}
