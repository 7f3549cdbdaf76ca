//! After a drain the clients who keep their connections are let go at a pace, and how many still come is shown.

use super::world::World;
use crate::NAME;
use crate::run_support::{Edge, PATIENCE, eventually};
use bytes::Bytes;
use h2::client::SendRequest;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::time::Instant;

const OWN: &str = "eu-west-1";
/// HTTP/2 connections: that all of them are let go in one second of eight is as good as impossible.
const IDLE: usize = 24;

/// One keep-alive connection over HTTP/1: requests on it are answered until it is told to go.
struct KeptAlive {
    stream: BufReader<TcpStream>,
}

impl KeptAlive {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Asks once; whether the connection goes on. Every request is answered, the last one too.
    fn ask(&mut self) -> bool {
        write!(self.stream.get_mut(), "GET / HTTP/1.1\r\nhost: {NAME}\r\n\r\n").unwrap();
        let (mut length, mut goes_on, mut head) = (0, true, String::new());
        while !head.ends_with("\r\n\r\n") {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "cut off in {head:?}");
            let line = line.to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            goes_on &= !(line.starts_with("connection:") && line.contains("close"));
            head.push_str(&line);
        }
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        assert_eq!(body, b"web");
        if !goes_on {
            assert_eq!(self.stream.read(&mut [0]).unwrap(), 0, "it is closed after its last answer");
        }
        goes_on
    }
}

/// A user who asks ten times a second on one connection until it is told to go, and counts that.
fn user(address: SocketAddr, asked: Arc<AtomicUsize>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut kept = KeptAlive::open(address);
        while kept.ask() {
            asked.fetch_add(1, SeqCst);
            thread::park_timeout(Duration::from_millis(100));
        }
    })
}

/// A connection over HTTP/2 that has asked once and asks nothing more; `gone` counts its end by GOAWAY.
async fn idle(address: SocketAddr, gone: Arc<AtomicUsize>) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        // An end without GOAWAY is an error, and is not counted.
        connection.await.unwrap();
        gone.fetch_add(1, SeqCst);
    });
    let mut client = client.ready().await.unwrap();
    let request = http::Request::get(format!("http://{NAME}/")).body(()).unwrap();
    assert_eq!(client.send_request(request, true).unwrap().0.await.unwrap().status(), 200);
    client
}

/// An upgraded connection that says something every tenth of a second, and must hear it again, until it is closed.
fn upgraded(address: SocketAddr, heard: Arc<AtomicUsize>) -> JoinHandle<()> {
    let mut stream = BufReader::new(TcpStream::connect(address).unwrap());
    stream.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("GET /echo HTTP/1.1\r\nhost: {NAME}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    stream.get_mut().write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut answer).unwrap() > 0, "cut off in {answer:?}");
    }
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    thread::spawn(move || {
        let mut line = String::new();
        // A closed connection takes a word and never gives it back.
        while stream.get_mut().write_all(b"word\n").is_ok()
            && stream.read_line(&mut line).is_ok_and(|n| n > 0)
        {
            heard.fetch_add(1, SeqCst);
            thread::park_timeout(Duration::from_millis(100));
        }
        assert!(line.lines().all(|word| word == "word"), "what was said was changed");
    })
}

fn share(edge: &Edge) -> Option<f64> {
    edge.metric(&format!("proxima_dns_moved_traffic_share{{name=\"{NAME}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_drain_connections_are_let_go_one_after_the_other_and_the_share_that_still_comes_falls() {
    let world = World::closing_over("8s").await;
    let (edge, address) = (&world.edges[1], world.edges[1].address("http"));
    let (asked, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let user = user(address, Arc::clone(&asked));
    let heard = Arc::new(AtomicUsize::new(0));
    let upgraded = upgraded(address, Arc::clone(&heard));
    let mut clients = Vec::new();
    for _ in 0..IDLE {
        clients.push(idle(address, Arc::clone(&gone)).await);
    }
    // So much traffic that a share of it can be told.
    eventually("traffic comes", || (asked.load(SeqCst) >= 60).then_some(()));
    assert_eq!(share(edge), None, "nobody is led away yet");
    let entered = edge.metric(&format!("proxima_name_requests_entered_total{{name=\"{NAME}\"}}"));
    assert!(entered.unwrap() >= 60.0, "{entered:?}");
    eventually("the edge says how much enters for the name", || {
        let view = &edge.snapshot()["view"];
        let (all, named) = (view["entered_rps"].as_f64()?, view["entered_by_name"][NAME].as_f64()?);
        (named > 1.0 && (named - all).abs() < 0.1).then_some(())
    });

    let drained = world.proxima(&["drain", OWN, "--reason", "upgrade"]);
    assert_eq!(drained.code, Some(0), "{}{}", drained.out, drained.error);
    let first = eventually("the share is told", || share(edge));
    assert!(first > 0.9, "before anybody has left all still come: {first}");
    // Nobody is let go as long as DNS leads somebody here.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (gone, left) = (gone.load(SeqCst), user.is_finished());
        if world.sent_to(OWN).await.iter().all(|region| region != OWN) {
            break;
        }
        assert_eq!((gone, left), (0, false), "let go while DNS leads here");
        assert!(Instant::now() < deadline, "DNS leads here for ever");
    }
    let mut counts = BTreeSet::new();
    eventually("all are told to go", || {
        counts.insert(gone.load(SeqCst));
        (gone.load(SeqCst) == IDLE && user.is_finished()).then_some(())
    });
    assert!(counts.len() >= 4, "at a pace, not all at once: {counts:?}");
    // Every request was answered, the last one with the word that it is the last.
    user.join().unwrap();
    let moved = |kind: &str| edge.metric(&format!("proxima_connections_moved_total{{kind=\"{kind}\"}}"));
    assert_eq!((moved("http1"), moved("http2")), (Some(1.0), Some(IDLE as f64)));
    // What was upgraded goes on for a while, so that it can end by itself.
    let before = heard.load(SeqCst);
    eventually("an upgraded connection goes on", || (heard.load(SeqCst) > before + 5).then_some(()));
    for below in [0.9, 0.5] {
        eventually("what is left falls", || share(edge).filter(|share| *share < below));
    }
    let status = world.proxima(&["operator", "status"]);
    assert!(status.out.contains("\"traffic_share\": 0."), "{}", status.out);
    drop(clients);
    let ended = tokio::task::spawn_blocking(move || upgraded.join().unwrap());
    tokio::time::timeout(4 * PATIENCE, ended).await.expect("it is closed in the end").unwrap();
    assert_eq!(moved("upgrade"), Some(1.0));

    // Who is led back here is let go no more.
    let back = world.proxima(&["undrain", OWN]);
    assert_eq!(back.code, Some(0), "{}{}", back.out, back.error);
    eventually("nobody is led away", || share(edge).is_none().then_some(()));
    let mut kept = KeptAlive::open(address);
    assert!(kept.ask() && kept.ask(), "it is kept again");
}
