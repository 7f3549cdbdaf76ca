//! The relay on real sockets: distance, order, black holes.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proxima::demo::relay::{Hole, Relay};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// An echo server behind a relay.
struct Bench {
    address: SocketAddr,
    hole: Hole,
    /// Stops everything when dropped.
    _tasks: JoinSet<()>,
}

async fn bench(rtt: Duration) -> Bench {
    let mut tasks = JoinSet::new();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = server.local_addr().unwrap();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = server.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                // A reset ends the copy: nobody is left to tell.
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hole = Hole::default();
    let relay = Relay { listener, target, rtt: Arc::new(move |_| rtt), silences: vec![hole.watch()] };
    tasks.spawn(relay.run());
    Bench { address, hole, _tasks: tasks }
}

async fn echo(stream: &mut TcpStream, text: &str) -> Duration {
    let sent = Instant::now();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, text.as_bytes());
    sent.elapsed()
}

const RTT: Duration = Duration::from_millis(120);
/// A busy machine may be this late; it is never early.
const LATE: Duration = Duration::from_millis(100);
/// Long enough to see that nothing comes.
const SILENCE: Duration = Duration::from_millis(400);

#[tokio::test]
async fn the_first_exchange_takes_two_round_trips_and_the_next_ones_one() {
    let bench = bench(RTT).await;
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    let first = echo(&mut stream, "hello").await;
    assert!((2 * RTT..2 * RTT + LATE).contains(&first), "handshake and exchange: {first:?}");
    for _ in 0..3 {
        let next = echo(&mut stream, "again").await;
        assert!((RTT..RTT + LATE).contains(&next), "exchange: {next:?}");
    }
}

#[tokio::test]
async fn megabytes_pass_in_order_and_the_end_of_the_stream_with_them() {
    let bench = bench(Duration::from_millis(20)).await;
    let data: Vec<u8> = (0..6_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let stream = TcpStream::connect(bench.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sent = data.clone();
    let sender = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    timeout(Duration::from_secs(20), read.read_to_end(&mut back)).await.unwrap().unwrap();
    sender.await.unwrap();
    assert!(back == data, "{} of {} bytes came back, or out of order", back.len(), data.len());
}

#[tokio::test]
async fn a_black_hole_freezes_open_connections_and_resets_them_at_its_end() {
    let bench = bench(Duration::from_millis(10)).await;
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    echo(&mut stream, "before").await;
    bench.hole.open();
    stream.write_all(b"into the void").await.unwrap();
    let mut buffer = [0; 16];
    let heard = timeout(SILENCE, stream.read(&mut buffer)).await;
    assert!(heard.is_err(), "neither data nor FIN nor RST: {heard:?}");
    bench.hole.close();
    let ended = timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_connection_begun_in_a_black_hole_hangs_and_goes_on_after_it() {
    let bench = bench(Duration::from_millis(10)).await;
    bench.hole.open();
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 5];
    let heard = timeout(SILENCE, stream.read_exact(&mut buffer)).await;
    assert!(heard.is_err(), "{heard:?}");
    bench.hole.close();
    timeout(Duration::from_secs(5), stream.read_exact(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer, b"hello");
}

#[tokio::test]
async fn nobody_behind_the_relay_is_a_reset_after_a_round_trip() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = closed.local_addr().unwrap();
    drop(closed);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let relay = Relay { listener, target, rtt: Arc::new(|_| RTT), silences: Vec::new() };
    let _task = {
        let mut tasks = JoinSet::new();
        tasks.spawn(relay.run());
        tasks
    };
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let ended = stream.read(&mut [0; 1]).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!((RTT..RTT + LATE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}
