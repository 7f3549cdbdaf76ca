//! What happens to a running process under load costs no request: its end, and reloads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

use run_support::*;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

const CLIENTS: usize = 64;

/// Clients that ask one request after the other over connections that they keep while they may.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Option<String>>>,
}

impl Load {
    fn start(at: SocketAddr) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = |_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || client(at, &stop, &served))
        };
        Self { clients: (0..CLIENTS).map(client).collect(), stop, served }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// Waits until so many more requests are served.
    fn go_on(&self, more: usize) {
        let until = self.served() + more;
        eventually("requests are served", || (self.served() >= until).then_some(()));
    }

    /// Ends it; what went wrong for each client.
    fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        let failed = self.clients.into_iter().filter_map(|client| client.join().unwrap()).collect();
        (self.served.load(Ordering::SeqCst), failed)
    }
}

/// Asks until told to stop, or until nobody listens any more; `Some`: a request that failed.
fn client(at: SocketAddr, stop: &AtomicBool, served: &AtomicUsize) -> Option<String> {
    while !stop.load(Ordering::SeqCst) {
        // Nobody accepts any more: users are elsewhere by now.
        let Ok(stream) = TcpStream::connect(at) else { return None };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = BufReader::new(stream);
        loop {
            match ask(&mut stream) {
                Ok(keep) => {
                    served.fetch_add(1, Ordering::SeqCst);
                    if !keep || stop.load(Ordering::SeqCst) {
                        break;
                    }
                }
                Err(error) => return Some(error.to_string()),
            }
        }
    }
    None
}

/// One request; whether the connection may be used again.
fn ask(stream: &mut BufReader<TcpStream>) -> io::Result<bool> {
    stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")?;
    let (mut length, mut keep, mut line) = (0, true, String::new());
    stream.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("answered {line:?}")));
    }
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() {
            break;
        }
        if let Some(value) = text.strip_prefix("content-length: ") {
            length = value.parse().map_err(io::Error::other)?;
        }
        keep &= text != "connection: close";
    }
    stream.read_exact(&mut vec![0; length])?;
    Ok(keep)
}

#[test]
fn sigterm_in_the_middle_of_load_fails_no_request() {
    let (folder, web) = (Folder::new(), Service::start("web"));
    let mut edge = Edge::ready(&folder.write("proxima.toml", &single(web.address, "")));
    until_served(&edge, "/", "web");
    let load = Load::start(edge.address("http"));
    load.go_on(CLIENTS * 10);
    edge.signal("TERM");
    assert_eq!(edge.ended().code(), Some(0));
    let (served, failed) = load.end();
    assert!(failed.is_empty(), "{} of {served} failed: {failed:?}", failed.len());
}

/// A configuration with 10,000 routes, of which `generation` is a part.
fn many_routes(web: SocketAddr, generation: usize) -> String {
    let mut text = single(web, "");
    for host in 0..1000 {
        for path in 0..10 {
            write!(
                text,
                "[[routes]]\nname = \"r{host}-{path}\"\nhosts = [\"h{host}.example.com\"]\npath_prefix = \"/{path}/{generation}\"\nservice = \"web\"\n"
            )
            .unwrap();
        }
    }
    text
}

fn resident_kib(edge: &Edge) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", edge.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn reloads_of_ten_thousand_routes_under_load_fail_no_request_and_leave_nothing_behind() {
    const RELOADS: usize = 16;
    let (folder, web) = (Folder::new(), Service::start("web"));
    let edge = Edge::ready(&folder.write("proxima.toml", &many_routes(web.address, 0)));
    until_served(&edge, "/", "web");
    let load = Load::start(edge.address("http"));
    let mut resident = Vec::new();
    for generation in 1..=RELOADS {
        folder.write("proxima.toml", &many_routes(web.address, generation));
        edge.signal("HUP");
        edge.until_metric(r#"proxima_reloads_total{result="applied"}"#, generation as f64);
        load.go_on(CLIENTS);
        resident.push(resident_kib(&edge));
    }
    let (served, failed) = load.end();
    assert!(failed.is_empty(), "{} of {served} failed: {failed:?}", failed.len());
    // A reading has one configuration or two in it, and what the allocator keeps back. What each reload left behind
    // would be in the least of the last readings twelve times more often than in the first ones.
    let quarters: Vec<&[u64]> = resident.chunks(RELOADS / 4).collect();
    let settled = quarters[0].iter().max().copied().unwrap();
    let then = quarters[3].iter().min().copied().unwrap();
    assert!(then < settled + settled / 5, "resident after each reload: {resident:?} KiB");
}
