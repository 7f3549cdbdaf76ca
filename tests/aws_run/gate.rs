//! A door before a server: open, shut, or with an answer of its own to everybody or to who changes records.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What happens to connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Open,
    /// Closed at once.
    Shut,
    /// Answered with this, whatever is asked.
    Says(&'static str),
    /// Changes of records are answered with this, everything else passes.
    SaysToChanges(&'static str),
}

/// Throttled, as Route 53 says it.
const RATE_EXCEEDED: &str = "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>";
pub const THROTTLED: Door = Door::Says(RATE_EXCEEDED);
pub const CHANGES_THROTTLED: Door = Door::SaysToChanges(RATE_EXCEEDED);

/// A running gate.
pub struct Gate {
    pub address: SocketAddr,
    door: Arc<Mutex<Door>>,
    knocks: Arc<AtomicUsize>,
}

impl Gate {
    pub fn before(server: SocketAddr, door: Door) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (door, knocks) = (Arc::new(Mutex::new(door)), Arc::new(AtomicUsize::new(0)));
        let (now, count) = (Arc::clone(&door), Arc::clone(&knocks));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let now = Arc::clone(&now);
                thread::spawn(move || pass(client, server, &now));
            }
        });
        Self { address, door, knocks }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn turn(&self, door: Door) {
        *self.door.lock().unwrap() = door;
    }

    /// Connections so far.
    pub fn knocks(&self) -> usize {
        self.knocks.load(Ordering::SeqCst)
    }
}

/// A request up to its body.
pub fn head(client: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// One request a connection: so the door stands as it stands now for each.
fn pass(mut client: TcpStream, server: SocketAddr, door: &Mutex<Door>) -> Option<()> {
    let door = *door.lock().unwrap();
    if door == Door::Shut {
        return client.shutdown(Shutdown::Both).ok();
    }
    let text = head(&mut client)?;
    let field = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.to_ascii_lowercase().strip_prefix(name)?.trim().parse::<usize>().ok())
    };
    let mut body = vec![0; field("content-length:").unwrap_or(0)];
    client.read_exact(&mut body).ok()?;
    let mut answer = Vec::new();
    let (first, rest) = text.split_once("\r\n").unwrap();
    let refusal = match door {
        Door::Says(said) => Some(said),
        Door::SaysToChanges(said) => {
            Some(said).filter(|_| first.starts_with("POST ") && first.contains("/rrset"))
        }
        Door::Open | Door::Shut => None,
    };
    match refusal {
        Some(said) => {
            let length = said.len();
            write!(
                answer,
                "HTTP/1.1 400 Bad Request\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{said}"
            )
            .ok()?;
        }
        None => {
            let mut upstream = TcpStream::connect(server).ok()?;
            write!(upstream, "{first}\r\nconnection: close\r\n{rest}").ok()?;
            upstream.write_all(&body).ok()?;
            upstream.read_to_end(&mut answer).ok()?;
        }
    }
    client.write_all(&answer).ok()
}
