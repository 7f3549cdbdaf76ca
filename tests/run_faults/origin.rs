//! Origins in this process: one kind of fault each, and one with a gate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// What an origin does with everything but probes, which it answers unless it says so.
#[derive(Debug, Clone)]
pub enum Way {
    Well,
    Status(u16),
    /// This status to one request in so many, 200 to the others.
    Sometimes(u16, usize),
    /// Well, but probes are told otherwise while this is set.
    Sick(Arc<AtomicBool>),
    /// RST, nothing sent.
    Reset,
    /// Nothing, ever.
    Hang,
    /// At most so many at once, each for this long; the others wait in order. It works on for
    /// clients that have left, as real services do.
    Gate(Arc<Semaphore>, Duration),
    /// 101, then every byte back.
    Echo,
}

pub struct Origin {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Origin {
    pub async fn start(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // An error is a client that has gone, which is its right.
                let (way, count) = (way.clone(), Arc::clone(&count));
                tokio::spawn(async move { serve(stream, way, &count).await.ok() });
            }
        });
        Self { address, asked }
    }

    /// Requests that arrived, probes left out.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, way: Way, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut line) = (String::new(), String::new());
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
        }
        let mut status = 200;
        if first.starts_with("GET /health ") {
            if matches!(&way, Way::Sick(sick) if sick.load(Ordering::SeqCst)) {
                status = 503;
            }
        } else {
            let before = asked.fetch_add(1, Ordering::SeqCst);
            match &way {
                Way::Well | Way::Sick(_) => {}
                Way::Status(other) => status = *other,
                Way::Sometimes(other, one_in) if before.is_multiple_of(*one_in) => status = *other,
                Way::Sometimes(..) => {}
                Way::Reset => return stream.get_ref().set_zero_linger(),
                Way::Hang => std::future::pending().await,
                Way::Gate(places, service) => {
                    let _place = places.acquire().await.map_err(std::io::Error::other)?;
                    tokio::time::sleep(*service).await;
                }
                Way::Echo => {
                    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                    stream.get_mut().write_all(head.as_bytes()).await?;
                    let mut bytes = [0; 64];
                    loop {
                        let read = stream.read(&mut bytes).await?;
                        if read == 0 {
                            return Ok(());
                        }
                        stream.get_mut().write_all(&bytes[..read]).await?;
                    }
                }
            }
        }
        let answer = format!("HTTP/1.1 {status} Status\r\ncontent-length: 2\r\n\r\nok");
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
}
