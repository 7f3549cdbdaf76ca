//! Load: raw HTTP/1.1 over kept-alive connections, one write and one read a request.
//!
//! As fast as possible it is one thread with an event loop: a proxy that answers a busy thread
//! does not pay for waking it up. At a fixed rate it is a thread for each connection: the kernel
//! wakes one within tens of microseconds, where Tokio's timers have milliseconds.
//! HTTP/2 and TLS are h2load's.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
    inbox: Inbox,
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
        Ok(Self { stream, inbox: Inbox::default() })
    }

    /// One small GET; an error unless the answer is 200 and whole.
    pub fn get(&mut self) -> io::Result<()> {
        self.stream.write_all(REQUEST)?;
        let sizes = self.read()?;
        self.inbox.check(sizes)
    }

    fn read(&mut self) -> io::Result<Sizes> {
        self.inbox.filled = 0;
        loop {
            let n = self.stream.read(&mut self.inbox.bytes[self.inbox.filled..])?;
            if let Some(sizes) = self.inbox.take(n)? {
                return Ok(sizes);
            }
        }
    }
}

/// Bytes of an answer's head and body.
type Sizes = (usize, usize);

/// One answer, as far as it has come.
struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { bytes: vec![0; 4096], filled: 0 }
    }
}

impl Inbox {
    /// Takes note of `n` bytes more; tells the sizes once the answer is whole.
    fn take(&mut self, n: usize) -> io::Result<Option<Sizes>> {
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.filled += n;
        match sizes(&self.bytes[..self.filled])? {
            Some((head, body)) if head + body == self.filled => Ok(Some((head, body))),
            Some((head, body)) if head + body < self.filled => {
                Err(Error::new(ErrorKind::InvalidData, "more than one answer"))
            }
            _ if self.filled == self.bytes.len() => Err(ErrorKind::OutOfMemory.into()),
            _ => Ok(None),
        }
    }

    fn check(&self, (head, body): Sizes) -> io::Result<()> {
        if !self.bytes[..head].starts_with(b"HTTP/1.1 200 ") || body != crate::peers::BODY_BYTES {
            return Err(Error::new(ErrorKind::InvalidData, "not the answer that was asked for"));
        }
        Ok(())
    }
}

/// Bytes of the head, and the length that it announces; `None`: the head is not whole yet.
fn sizes(bytes: &[u8]) -> io::Result<Option<Sizes>> {
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
    let text = String::from_utf8_lossy(&client.inbox.bytes[..head]).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok(Answer { status, head: text, body: client.inbox.bytes[head..head + length].to_vec() })
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

/// Every connection asks as soon as it is answered.
pub fn closed(address: SocketAddr, connections: u32, time: Duration) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap();
    let end = Instant::now() + time;
    let mut all = Seen::default();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(keep_asking(address, end));
        }
        // Whoever gets no answer at all must not hold up everything.
        let joined = tokio::time::timeout(time + ANSWER_PATIENCE, async {
            while let Some(seen) = tasks.join_next().await {
                all.add(seen.unwrap());
            }
        });
        if joined.await.is_err() {
            all.failed(&ErrorKind::TimedOut.into());
        }
    });
    all
}

async fn keep_asking(address: SocketAddr, end: Instant) -> Seen {
    let mut seen = Seen::default();
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut inbox = Inbox::default();
        while Instant::now() < end {
            stream.write_all(REQUEST).await?;
            inbox.filled = 0;
            let sizes = loop {
                let n = stream.read(&mut inbox.bytes[inbox.filled..]).await?;
                if let Some(sizes) = inbox.take(n)? {
                    break sizes;
                }
            };
            inbox.check(sizes)?;
            seen.answers += 1;
        }
        Ok::<(), Error>(())
    };
    if let Err(error) = asked.await {
        seen.failed(&error);
    }
    seen
}

/// `rate` requests a second, over all connections, whether or not the answers keep up.
pub fn fixed(address: SocketAddr, connections: u32, rate: u32, time: Duration) -> Seen {
    // All connect and are answered once before the first one begins.
    let ready = Arc::new(Barrier::new(connections as usize + 1));
    let pause = Duration::from_secs(1) * connections / rate;
    let threads: Vec<_> = (0..connections)
        .map(|n| {
            let ready = Arc::clone(&ready);
            let work = move || {
                let client = Client::connect(address).and_then(|mut client| client.get().map(|()| client));
                ready.wait();
                let begin = Instant::now();
                match client {
                    Ok(client) => ask_on_time(client, begin + pause * n / connections, pause, begin + time),
                    Err(error) => {
                        let mut seen = Seen::default();
                        seen.failed(&error);
                        seen
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

/// Asks at fixed times, `pause` apart; a time that passes while an answer is out stays the
/// beginning of the next request (no coordinated omission). A wake-up that comes late is this
/// generator's fault and not counted against the proxy: the clock runs from the wake-up then.
fn ask_on_time(mut client: Client, first: Instant, pause: Duration, end: Instant) -> Seen {
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
