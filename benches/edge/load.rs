//! Load: raw HTTP/1.1 over kept-alive connections, each a plain thread with blocking reads.
//!
//! One write and one read a request, no event loop: as cheap as it gets, and the kernel wakes a
//! sleeping thread within tens of microseconds, where a timer wheel has milliseconds. HTTP/2
//! and TLS are h2load's.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

const REQUEST: &[u8] = b"GET /catalogue/items?page=2 HTTP/1.1\r\nHost: www.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) bench\r\nAccept: text/html,application/json\r\n\
Accept-Encoding: gzip, br\r\nAccept-Language: en\r\n\r\n";

/// A thread does nothing but wait, write and read.
const STACK_BYTES: usize = 128 * 1024;
/// Of one answer; whoever takes longer is counted as failed.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// A connection that asks and reads whole answers.
pub struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
        Ok(Self { stream, bytes: vec![0; 4096] })
    }

    /// One small GET; an error unless the answer is 200 and whole.
    pub fn get(&mut self) -> io::Result<()> {
        self.stream.write_all(REQUEST)?;
        let (head, length) = self.read()?;
        if !self.bytes[..head].starts_with(b"HTTP/1.1 200 ") || length != crate::peers::BODY_BYTES {
            return Err(Error::new(ErrorKind::InvalidData, "not the answer that was asked for"));
        }
        Ok(())
    }

    /// Reads one answer with a length; the bytes of its head and of its body.
    fn read(&mut self) -> io::Result<(usize, usize)> {
        let mut filled = 0;
        let mut whole = None;
        loop {
            let n = self.stream.read(&mut self.bytes[filled..])?;
            if n == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            filled += n;
            if whole.is_none() {
                whole = sizes(&self.bytes[..filled])?;
            }
            match whole {
                Some((head, length)) if head + length == filled => return Ok((head, length)),
                Some((head, length)) if head + length < filled => {
                    return Err(Error::new(ErrorKind::InvalidData, "more than one answer"));
                }
                _ if filled == self.bytes.len() => return Err(ErrorKind::OutOfMemory.into()),
                _ => {}
            }
        }
    }
}

/// Bytes of the head, and the length that it announces; `None`: the head is not whole yet.
fn sizes(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    const NAME: &[u8] = b"content-length:";
    let mut start = 0;
    let mut length = None;
    while let Some(n) = bytes[start..].windows(2).position(|two| two == b"\r\n") {
        let line = &bytes[start..start + n];
        start += n + 2;
        if line.is_empty() {
            let missing = || Error::new(ErrorKind::InvalidData, "an answer without a length");
            return length.map(|length| Some((start, length))).ok_or_else(missing);
        }
        if line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
            length = std::str::from_utf8(&line[NAME.len()..]).ok().and_then(|text| text.trim().parse().ok());
        }
    }
    Ok(None)
}

/// One request to a path on a connection of its own.
pub fn ask(address: SocketAddr, path: &str) -> io::Result<Answer> {
    let mut client = Client::connect(address)?;
    write!(client.stream, "GET {path} HTTP/1.1\r\nhost: www.example.com\r\n\r\n")?;
    let (head, length) = client.read()?;
    let text = String::from_utf8_lossy(&client.bytes[..head]).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok(Answer { status, head: text, body: client.bytes[head..head + length].to_vec() })
}

/// What one connection, or all together, have seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub answers: u64,
    pub failures: u64,
    /// Of the first failure.
    pub failure: Option<String>,
    pub took_us: Vec<u32>,
    /// Requests that this generator itself sent late by more than 1 ms: it got no CPU.
    pub sent_late: u64,
}

impl Seen {
    fn failed(&mut self, error: &Error) {
        self.failures += 1;
        self.failure.get_or_insert_with(|| error.to_string());
    }

    fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.failures += other.failures;
        self.failure = self.failure.take().or(other.failure);
        self.took_us.extend(other.took_us);
        self.sent_late += other.sent_late;
    }
}

/// How much load.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// Every connection asks as soon as it is answered.
    Closed,
    /// Requests a second, over all connections, whether or not the answers keep up.
    Fixed(u32),
}

/// Loads `address` for a time, over so many connections.
pub fn run(address: SocketAddr, connections: u32, load: Load, time: Duration) -> Seen {
    // All connect and are answered once before the first one begins.
    let ready = Arc::new(Barrier::new(connections as usize + 1));
    let threads: Vec<_> = (0..connections)
        .map(|n| {
            let ready = Arc::clone(&ready);
            let work = move || {
                let client = Client::connect(address).and_then(|mut client| client.get().map(|()| client));
                ready.wait();
                let begin = Instant::now();
                match (client, load) {
                    (Err(error), _) => {
                        let mut seen = Seen::default();
                        seen.failed(&error);
                        seen
                    }
                    (Ok(client), Load::Closed) => closed(client, begin + time),
                    (Ok(client), Load::Fixed(rate)) => {
                        let pause = Duration::from_secs(1) * connections / rate;
                        fixed(client, begin + pause * n / connections, pause, begin + time)
                    }
                }
            };
            thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap()
        })
        .collect();
    ready.wait();
    let mut all = Seen::default();
    for thread in threads {
        all.add(thread.join().unwrap());
    }
    all.took_us.sort_unstable();
    all
}

fn closed(mut client: Client, end: Instant) -> Seen {
    let mut seen = Seen::default();
    while Instant::now() < end {
        match client.get() {
            Ok(()) => seen.answers += 1,
            Err(error) => {
                seen.failed(&error);
                break;
            }
        }
    }
    seen
}

/// Asks at fixed times, `pause` apart; a time that passes while an answer is out stays the
/// beginning of the next request (no coordinated omission). A wake-up that comes late is this
/// generator's fault and not counted against the proxy: the clock runs from the wake-up then.
fn fixed(mut client: Client, first: Instant, pause: Duration, end: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut due = first;
    while due < end {
        let now = Instant::now();
        let mut began = due;
        if now < due {
            thread::sleep(due - now);
            began = Instant::now();
            seen.sent_late += u64::from(began - due > Duration::from_millis(1));
        }
        if let Err(error) = client.get() {
            seen.failed(&error);
            break;
        }
        seen.answers += 1;
        seen.took_us.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
        due += pause;
    }
    seen
}
