//! A front before a server: notes each request, and does to some what a network can do.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify};

/// What happens to a request.
#[derive(Clone)]
pub enum Fate {
    Pass,
    /// Carried out; then the connection is closed without an answer.
    LoseAnswer,
    /// The same, and the connection is closed only after this time.
    LoseAnswerAfter(Duration),
    /// Not carried out: the connection is closed without an answer.
    LoseRequest,
    /// The same, and the connection is closed only after this time.
    LoseRequestAfter(Duration),
    /// Not carried out: answered with this status.
    Status(u16),
    /// Carried out, and then answered with this status.
    ThenStatus(u16),
    /// Not asked: the change is still PENDING.
    StayPending,
    /// Refused with this error code, not carried out.
    Refuse(&'static str),
    /// Waits until as many as the barrier wants have come.
    Meet(Arc<Barrier>),
    /// Waits until told, after saying that it waits.
    Hold {
        reached: Arc<Notify>,
        go: Arc<Notify>,
    },
    /// Carried out; the answer waits likewise.
    HoldAnswer {
        reached: Arc<Notify>,
        go: Arc<Notify>,
    },
}

/// Which requests a fate is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum For {
    Changes,
    /// Listings of record sets.
    Listings,
    /// Listings of health checks.
    Checks,
    /// Questions whether a change is INSYNC.
    Progress,
}

impl For {
    /// By the first line of a request.
    pub fn of(first: &str) -> Option<Self> {
        match (first.starts_with("POST"), first) {
            (true, path) if path.contains("/rrset") => Some(Self::Changes),
            (false, path) if path.contains("/rrset") => Some(Self::Listings),
            (false, path) if path.contains("/healthcheck?") => Some(Self::Checks),
            (false, path) if path.contains("/change/") => Some(Self::Progress),
            _ => None,
        }
    }
}

/// A running front.
pub struct Front {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    fates: Mutex<VecDeque<(For, Fate)>>,
    /// After the queue: the fate of all further requests of a kind.
    rest: Mutex<Vec<(For, Fate)>>,
    seen: Mutex<Vec<String>>,
    changes: Mutex<Vec<(String, u16)>>,
}

struct Message {
    first: String,
    bytes: Vec<u8>,
}

impl Front {
    /// Before `server`, an `http://` address.
    pub async fn before(server: &str) -> Self {
        let upstream: SocketAddr = server.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, upstream, Arc::clone(&accepting)));
            }
        });
        Self { address, shared }
    }

    /// The next request of this kind that has no fate yet meets this one.
    pub fn next(&self, kind: For, fate: Fate) {
        self.shared.fates.lock().unwrap().push_back((kind, fate));
    }

    /// Every request of this kind beyond those meets this fate.
    pub fn every(&self, kind: For, fate: Fate) {
        self.shared.rest.lock().unwrap().push((kind, fate));
    }

    /// Request lines since the start, in order.
    pub fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Each change as it was sent, and the status that the server gave it.
    pub fn changes_answered(&self) -> Vec<(String, u16)> {
        self.shared.changes.lock().unwrap().clone()
    }

    pub fn changes_seen(&self) -> usize {
        self.seen().iter().filter(|line| For::of(line) == Some(For::Changes)).count()
    }
}

impl Shared {
    fn fate(&self, first: &str) -> Fate {
        self.seen.lock().unwrap().push(first.to_owned());
        let Some(kind) = For::of(first) else { return Fate::Pass };
        let mut fates = self.fates.lock().unwrap();
        if let Some(at) = fates.iter().position(|(k, _)| *k == kind) {
            return fates.remove(at).unwrap().1;
        }
        let rest = self.rest.lock().unwrap();
        rest.iter().find(|(k, _)| *k == kind).map_or(Fate::Pass, |(_, fate)| fate.clone())
    }
}

async fn serve(client: TcpStream, upstream: SocketAddr, shared: Arc<Shared>) {
    let mut client = BufReader::new(client);
    let mut server = BufReader::new(TcpStream::connect(upstream).await.unwrap());
    while let Some(request) = message(&mut client).await {
        let fate = shared.fate(&request.first);
        if let Fate::Hold { reached, go } = &fate {
            reached.notify_one();
            go.notified().await;
        }
        if let Fate::Meet(barrier) = &fate {
            barrier.wait().await;
        }
        if let Fate::Refuse(code) = fate {
            let body = format!(
                "<?xml version=\"1.0\"?>\n<ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
                 <Error><Type>Sender</Type><Code>{code}</Code><Message>by the front</Message></Error>\
                 <RequestId>x</RequestId></ErrorResponse>"
            );
            let head = format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/xml\r\nContent-Length: {}",
                body.len()
            );
            client.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
            continue;
        }
        if let Fate::LoseRequestAfter(time) = fate {
            tokio::time::sleep(time).await;
            return;
        }
        if matches!(fate, Fate::LoseRequest) {
            return;
        }
        if let Fate::Status(status) = fate {
            client.write_all(answered(status, "<html>unavailable</html>").as_bytes()).await.unwrap();
            continue;
        }
        if matches!(fate, Fate::StayPending) {
            let body = "<GetChangeResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeInfo>\
                 <Id>/change/C1</Id><Status>PENDING</Status><SubmittedAt>2026-01-01T00:00:00Z</SubmittedAt>\
                 </ChangeInfo></GetChangeResponse>";
            client.write_all(answered(200, body).as_bytes()).await.unwrap();
            continue;
        }
        server.write_all(&request.bytes).await.unwrap();
        let Some(mut answer) = message(&mut server).await else { return };
        if For::of(&request.first) == Some(For::Changes) {
            let status = answer.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
            let sent = String::from_utf8_lossy(&request.bytes).into_owned();
            shared.changes.lock().unwrap().push((sent, status));
        }
        if let Fate::HoldAnswer { reached, go } = &fate {
            reached.notify_one();
            go.notified().await;
        }
        if let Fate::ThenStatus(status) = fate {
            answer.bytes = answered(status, "<html>unavailable</html>").into_bytes();
        }
        if let Fate::LoseAnswerAfter(time) = fate {
            tokio::time::sleep(time).await;
            return;
        }
        if matches!(fate, Fate::LoseAnswer) || client.write_all(&answer.bytes).await.is_err() {
            return;
        }
    }
}

fn answered(status: u16, body: &str) -> String {
    let head = format!("HTTP/1.1 {status} By The Front\r\nContent-Type: text/xml");
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// One HTTP/1.1 message with a Content-Length or chunks; `None` at the end of the connection.
async fn message(stream: &mut BufReader<TcpStream>) -> Option<Message> {
    let (mut first, mut bytes, mut length, mut chunked) = (String::new(), Vec::new(), 0, false);
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_ascii_lowercase();
        if first.is_empty() {
            first = String::from_utf8_lossy(&line).trim_end().to_owned();
        }
        bytes.extend_from_slice(&line);
        if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        chunked |= text.starts_with("transfer-encoding:") && text.contains("chunked");
        if text.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    bytes.extend_from_slice(&body);
    while chunked {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await.ok()?;
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await.ok()?;
        bytes.extend_from_slice(&line);
        bytes.extend_from_slice(&chunk);
        chunked = size > 0;
    }
    Some(Message { first, bytes })
}
