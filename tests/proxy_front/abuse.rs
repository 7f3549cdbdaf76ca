//! HTTP/2 clients that make work without asking for anything: raw frames, and a good client beside.

use crate::client::one_answer;
use crate::origin::{Origin, answer};
use crate::support::{Authority, Running, SOON, eventually};
use crate::{front, fronted};
use bytes::Bytes;
use std::future::poll_fn;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// GET (or what else stands at 2 and 3 of the static table) / of www.example.com.
fn request(stream: u32, flags: u8, method: u8) -> Vec<u8> {
    frame(HEADERS, flags, stream, &[&[method, 0x86, 0x84, 0x41, 15], &b"www.example.com"[..]].concat())
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A client that writes any frames it likes.
struct Raw(TcpStream);

impl Raw {
    async fn connect(edge: &Running) -> Self {
        let mut stream = TcpStream::connect(front(edge)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        Self(stream)
    }

    /// The next frame: kind, flags, payload; `None`: the end.
    async fn next(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((head[3], head[4], payload))
    }

    /// Waits for the answer to a PING: everything before it was read.
    async fn settled(&mut self) -> Option<()> {
        self.0.write_all(&frame(PING, 0, 0, &[7; 8])).await.ok()?;
        while self.next().await?.0 != PING {}
        Some(())
    }

    /// The code of GOAWAY with which it ends; `None`: it was reset before it could be read.
    async fn end(mut self) -> Option<u32> {
        let reading = async {
            let mut code = None;
            while let Some((kind, _, payload)) = self.next().await {
                if kind == GOAWAY {
                    code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                }
            }
            code
        };
        timeout(SOON, reading).await.expect("closed")
    }

    /// Writes the same again and again until nobody takes it, and tells how it ended.
    async fn flood(self, bytes: &[u8]) -> Option<u32> {
        let (reading, mut writing) = self.0.into_split();
        let many = bytes.repeat(64);
        let flooding = async { while writing.write_all(&many).await.is_ok() {} };
        let mut reader = Vec::new();
        let mut reading = reading;
        let (_, read) =
            tokio::join!(timeout(SOON, flooding), timeout(SOON, reading.read_to_end(&mut reader)));
        drop(read.expect("closed"));
        // The last GOAWAY of what came: frames are whole but for the last one.
        let (mut at, mut code) = (0, None);
        while let Some(head) = reader.get(at..at + 9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some(payload) = reader.get(at + 9..at + 9 + length) else { break };
            if head[3] == GOAWAY {
                code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
            at += 9 + length;
        }
        code
    }
}

fn cut(edge: &Running, reason: &str) -> f64 {
    edge.metric(&format!("proxima_http2_cut_total{{listener=\"http\",reason=\"{reason}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_that_ask_for_nothing_are_cut_and_counted() {
    let authority = Authority::new();
    let edge = fronted(&authority, "").await;
    let endless = request(1, 0, GET);
    for (name, before, bytes, reason) in [
        ("PING, CVE-2019-9512", &[][..], frame(PING, 0, 0, &[1; 8]), "ping"),
        ("answers to no PING", &[], frame(PING, 1, 0, &[1; 8]), "ping"),
        ("SETTINGS, CVE-2019-9515", &[], frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]), "settings"),
        ("PRIORITY", &[], frame(PRIORITY, 0, 5, &[0, 0, 0, 0, 9]), "priority"),
        ("WINDOW_UPDATE", &[], frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), "window_update"),
        ("of no known kind", &[], frame(0x77, 0, 0, &[]), "other"),
        ("empty DATA, CVE-2019-9518", &request(1, END_HEADERS, POST), frame(DATA, 0, 1, &[]), "calm"),
        (
            "CONTINUATION, CVE-2024-27316",
            &endless,
            frame(CONTINUATION, 0, 1, &[0x10, 1, b'a', 1, b'b']),
            "calm",
        ),
    ] {
        let earlier = cut(&edge, reason);
        let mut raw = Raw::connect(&edge).await;
        raw.0.write_all(before).await.unwrap();
        let code = raw.flood(&bytes).await;
        assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{name}: {code:?}");
        eventually(name, || cut(&edge, reason) == earlier + 1.0).await;
        eventually(name, || edge.edge.activity().connections == 0).await;
    }
    edge.close().await;
}

/// Each request is taken up before it is given up, so that no queue fills: only the ledger sees it.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_given_up_again_and_again_are_cut() {
    let authority = Authority::new();
    let edge = fronted(&authority, "").await;
    let reset = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    let mut raw = Raw::connect(&edge).await;
    let mut given_up = 0;
    for stream in (1..).step_by(2).take(2000) {
        raw.0.write_all(&request(stream, END_HEADERS, POST)).await.ok();
        if raw.settled().await.is_none() || raw.0.write_all(&reset(stream)).await.is_err() {
            break;
        }
        given_up += 1;
    }
    assert!((400..=1000).contains(&given_up), "{given_up}");
    eventually("counted", || cut(&edge, "reset") == 1.0).await;
    // All at once: the h2 crate's own bound on those that nobody has taken up yet.
    let mut raw = Raw::connect(&edge).await;
    let all: Vec<u8> =
        (1..).step_by(2).take(400).flat_map(|n| [request(n, END_HEADERS, POST), reset(n)].concat()).collect();
    raw.0.write_all(&all).await.ok();
    raw.end().await;
    eventually("counted", || cut(&edge, "calm") + cut(&edge, "reset") >= 2.0).await;
    edge.close().await;
}

/// CVE-2025-8671: the client breaks rules so that this edge gives the request up.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_the_edge_give_them_up_are_cut() {
    let authority = Authority::new();
    let edge = fronted(&authority, "").await;
    for (name, bad, reason) in [
        ("a window that overflows", frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff]), "calm"),
        ("no increment", frame(WINDOW_UPDATE, 0, 1, &[0; 4]), "calm"),
        ("it depends on itself", frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 9]), "calm"),
    ] {
        let mut raw = Raw::connect(&edge).await;
        let earlier = cut(&edge, reason) + cut(&edge, "protocol");
        for stream in (1..400_u32).step_by(2) {
            let mut bad = bad.clone();
            bad[5..9].copy_from_slice(&stream.to_be_bytes());
            if bad[3] == PRIORITY {
                bad[9..13].copy_from_slice(&stream.to_be_bytes());
            }
            let asked = [request(stream, END_HEADERS, POST), bad].concat();
            if raw.0.write_all(&asked).await.is_err() {
                break;
            }
        }
        raw.end().await;
        eventually(name, || cut(&edge, reason) + cut(&edge, "protocol") == earlier + 1.0).await;
    }
    // Refused by this edge itself, each with a status.
    let mut raw = Raw::connect(&edge).await;
    for stream in (1..200_u32).step_by(2) {
        let connect = frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x42\x07CONNECT\x41\x01a");
        if raw.0.write_all(&connect).await.is_err() || raw.settled().await.is_none() {
            break;
        }
    }
    eventually("malformed", || cut(&edge, "malformed") == 1.0).await;
    edge.close().await;
}

/// CVE-2019-9516: names of no length.
#[tokio::test(flavor = "multi_thread")]
async fn headers_without_a_name_are_refused() {
    let authority = Authority::new();
    let edge = fronted(&authority, "").await;
    let mut raw = Raw::connect(&edge).await;
    let mut block = vec![GET, 0x86, 0x84, 0x41, 1, b'a'];
    // A literal with an empty name and an empty value, not indexed.
    block.extend([0, 0, 0].repeat(2000));
    raw.0.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await.unwrap();
    let answered = timeout(SOON, async {
        loop {
            match raw.next().await {
                Some((HEADERS, ..)) => return true,
                Some((RST_STREAM | GOAWAY, ..)) | None => return false,
                Some(_) => {}
            }
        }
    });
    assert!(!answered.await.unwrap());
    edge.close().await;
}

/// Nothing is asked for, and PINGs are no question.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_streams_goes_at_the_idle_timeout_however_it_pings() {
    let authority = Authority::new();
    let edge = fronted(&authority, "idle_timeout = \"600ms\"").await;
    for asks in [false, true] {
        let (mut raw, began) = (Raw::connect(&edge).await, Instant::now());
        if asks {
            raw.0.write_all(&request(1, END_HEADERS | END_STREAM, GET)).await.unwrap();
        }
        let pinging = async {
            while raw.settled().await.is_some() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(SOON, pinging).await.expect("closed");
        let took = began.elapsed();
        // The idle timeout, and a second for a request that crosses GOAWAY on its way.
        assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(5), "{took:?}");
    }
    edge.close().await;
}

/// Its streams end when their last bytes wait in this edge, and the client is still reading then.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_read_slowly_outlive_the_idle_timeout() {
    const LENGTH: usize = 250_000;
    // More than the kernel holds for a connection.
    const STREAMS: u32 = 40;
    let authority = Authority::new();
    let edge = fronted(&authority, "idle_timeout = \"300ms\"").await;
    let large = "x".repeat(LENGTH);
    let origin = Origin::start(move |_, _| answer("200 OK", "", &large)).await;
    edge.route(&[("home", &[origin.address])]);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut raw = Raw(socket.connect(front(&edge)).await.unwrap());
    let window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0x10, 0, 0]);
    let more = frame(WINDOW_UPDATE, 0, 0, &[1, 0, 0, 0]);
    let asked = (0..STREAMS).flat_map(|n| request(2 * n + 1, END_HEADERS | END_STREAM, GET));
    raw.0.write_all(&[PREFACE, &window, &more, &asked.collect::<Vec<u8>>()].concat()).await.unwrap();
    eventually("its requests have ended", || {
        let begun = edge.metric("proxima_requests_served_total") == f64::from(STREAMS);
        begun && edge.edge.activity().requests == 0
    })
    .await;
    let (began, mut read) = (Instant::now(), 0);
    while read < LENGTH * STREAMS as usize {
        let (kind, _, payload) = timeout(SOON, raw.next()).await.unwrap().expect("cut in its answers");
        if kind == DATA {
            read += payload.len();
            sleep(Duration::from_millis(payload.len() as u64 / 4000)).await;
        }
    }
    // Longer than the timeout, and the second that follows it.
    assert!(began.elapsed() > Duration::from_millis(1800), "{:?}", began.elapsed());
    edge.close().await;
}

/// Uploads, downloads, PINGs and requests that are given up, as a busy client does them.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_client_is_not_cut() {
    let authority = Authority::new();
    let edge = fronted(&authority, "").await;
    let large = "x".repeat(200 * 1024);
    let origin = Origin::start(move |_, _| answer("200 OK", "", &large)).await;
    edge.route(&[("home", &[origin.address])]);
    let stream = TcpStream::connect(front(&edge)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut builder = h2::client::Builder::new();
    // Small windows: an update for every few kilobytes.
    builder.initial_window_size(16_384).initial_connection_window_size(65_535);
    let (mut client, mut connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let driving = tokio::spawn(connection);
    let pinging = tokio::spawn(async move {
        // Each waits for the one before: as many as there are round trips, and fewer than a flood.
        for _ in 0..500 {
            pings.ping(h2::Ping::opaque()).await.unwrap();
        }
    });
    for round in 0..200 {
        let request = http::Request::post("http://www.example.com/").body(()).unwrap();
        poll_fn(|context| client.poll_ready(context)).await.unwrap();
        let (answering, mut body) = client.send_request(request, false).unwrap();
        if round % 10 == 0 {
            body.send_reset(h2::Reason::CANCEL);
            continue;
        }
        body.send_data(Bytes::from_static(&[b'u'; 1000]), true).unwrap();
        let mut got = timeout(SOON, answering).await.unwrap().unwrap().into_body();
        let mut read = 0;
        while let Some(data) = timeout(SOON, got.data()).await.unwrap() {
            let data = data.unwrap();
            read += data.len();
            got.flow_control().release_capacity(data.len()).unwrap();
            if round % 10 == 1 && read > 20_000 {
                // Enough of it.
                break;
            }
        }
    }
    pinging.await.unwrap();
    for reason in ["ping", "settings", "window_update", "reset", "calm", "other", "protocol"] {
        assert_eq!(cut(&edge, reason), 0.0, "{reason}");
    }
    drop(client);
    driving.abort();
    // And a client of HTTP/1 beside all that.
    let mut other = TcpStream::connect(front(&edge)).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n").await.unwrap();
    assert_eq!(one_answer(&mut other).await.status, 200);
    edge.close().await;
}
