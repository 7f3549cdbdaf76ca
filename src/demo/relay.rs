//! The distance between places: a TCP relay that keeps bytes back for half a
//! round trip each way, and that can swallow a region whole.
//!
//! Setting up a connection costs a round trip before the first byte travels, as
//! TCP's handshake does. A black hole drops everything, both ways: open
//! connections freeze, with no RST and no FIN; new ones hang.
//!
//! # Limits
//! The kernel accepts a connection on loopback at once, so `connect` succeeds
//! where a real one would wait; what follows takes its time or stays silent as
//! it should. When a black hole ends, connections that it froze are reset (the
//! other end has forgotten them) and those that began in it go on, as after a
//! repeated SYN. Loss, jitter and bandwidth are not modelled.

use bytes::{Bytes, BytesMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Most connections that one relay carries; more wait unaccepted.
const CONNECTIONS_MAX: usize = 1024;
/// Bytes read at once, and pieces on their way in one direction: together 4 MiB.
const PIECE_BYTES: usize = 16 * 1024;
const PIECES_MAX: usize = 256;
/// After a failed accept (out of file descriptors), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The switch of one region's black hole.
#[derive(Debug)]
pub struct Hole(watch::Sender<bool>);

impl Default for Hole {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Hole {
    /// From now on nothing gets in or out.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub fn close(&self) {
        self.0.send_replace(false);
    }

    /// For the relays that it swallows.
    pub fn watch(&self) -> Silence {
        Silence(self.0.subscribe())
    }
}

/// Whether a black hole is open, as a relay sees it.
#[derive(Debug, Clone)]
pub struct Silence(watch::Receiver<bool>);

impl Silence {
    async fn begins(&mut self) {
        self.becomes(true).await;
    }

    async fn ends(&mut self) {
        self.becomes(false).await;
    }

    async fn becomes(&mut self, silent: bool) {
        if self.0.wait_for(|now| *now == silent).await.is_err() {
            // The switch is gone: nothing will change any more.
            std::future::pending::<()>().await;
        }
    }
}

/// One relay: a listener, what stands behind it, and how far that is from whom.
pub struct Relay {
    pub listener: TcpListener,
    pub target: SocketAddr,
    /// Round trip by the client's address.
    pub rtt: Arc<dyn Fn(IpAddr) -> Duration + Send + Sync>,
    /// The region behind, and for links between regions the one before.
    pub silences: Vec<Silence>,
}

impl Relay {
    /// Carries connections until dropped.
    pub async fn run(self) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut carried = JoinSet::new();
        // The semaphore is never closed, so this ends only by being dropped.
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            while carried.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((client, from)) => {
                    let way = Way {
                        target: self.target,
                        rtt: (self.rtt)(from.ip()),
                        silences: self.silences.clone(),
                    };
                    carried.spawn(async move {
                        way.carry(client).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, target = %self.target, "a relay could not accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The way of one connection.
struct Way {
    target: SocketAddr,
    rtt: Duration,
    silences: Vec<Silence>,
}

/// The connection ended otherwise than by both sides closing it.
struct Broken;

impl Way {
    async fn carry(mut self, mut client: TcpStream) {
        self.silence_ends().await;
        let established = Instant::now() + self.rtt;
        sleep(self.rtt / 2).await;
        let Ok(mut server) = TcpStream::connect(self.target).await else {
            sleep_until(established).await;
            self.silence_ends().await;
            reset(client);
            return;
        };
        for stream in [&client, &server] {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a relayed connection keeps Nagle's delay");
            }
        }
        let half = self.rtt / 2;
        let ended = {
            let (client_read, client_write) = client.split();
            let (server_read, server_write) = server.split();
            let there = Stretch { delay: half, not_before: established };
            let back = Stretch { delay: half, not_before: Instant::now() };
            tokio::select! {
                ended = async {
                    tokio::try_join!(there.pump(client_read, server_write), back.pump(server_read, client_write))
                } => Some(ended),
                () = silence_begins(&mut self.silences) => None,
            }
        };
        match ended {
            Some(Ok(_)) => {}
            Some(Err(Broken)) => {
                reset(client);
                reset(server);
            }
            None => {
                self.silence_ends().await;
                reset(client);
                reset(server);
            }
        }
    }

    async fn silence_ends(&mut self) {
        for silence in &mut self.silences {
            silence.ends().await;
        }
    }
}

/// Returns when any of the black holes is open.
async fn silence_begins(silences: &mut [Silence]) {
    match silences {
        [] => std::future::pending().await,
        [one] => one.begins().await,
        [one, rest @ ..] => {
            tokio::select! {
                () = one.begins() => {}
                () = Box::pin(silence_begins(rest)) => {}
            }
        }
    }
}

/// Closes with RST instead of FIN.
fn reset(stream: TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a relayed connection ends with FIN instead of RST");
    }
}

/// One direction of a connection.
#[derive(Clone, Copy)]
struct Stretch {
    delay: Duration,
    /// No byte leaves before: the handshake takes its round trip.
    not_before: Instant,
}

/// What travels; the end of the stream travels too.
enum Piece {
    Bytes(Bytes),
    End,
    Broken,
}

impl Stretch {
    async fn pump(self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Result<(), Broken> {
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        let take = async {
            self.take(from, sender).await;
            // What was taken is still to be delivered.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            delivered = deliver(receiver, to) => delivered,
            () = take => Err(Broken),
        }
    }

    async fn take(self, mut from: ReadHalf<'_>, sender: mpsc::Sender<(Instant, Piece)>) {
        loop {
            let mut buffer = BytesMut::with_capacity(PIECE_BYTES);
            let piece = match from.read_buf(&mut buffer).await {
                Ok(0) => Piece::End,
                Ok(_) => Piece::Bytes(buffer.freeze()),
                Err(_) => Piece::Broken,
            };
            let last = !matches!(piece, Piece::Bytes(_));
            let due = Instant::now().max(self.not_before) + self.delay;
            if sender.send((due, piece)).await.is_err() || last {
                return;
            }
        }
    }
}

async fn deliver(
    mut receiver: mpsc::Receiver<(Instant, Piece)>,
    mut to: WriteHalf<'_>,
) -> Result<(), Broken> {
    while let Some((due, piece)) = receiver.recv().await {
        sleep_until(due).await;
        match piece {
            Piece::Bytes(bytes) => to.write_all(&bytes).await.map_err(|_| Broken)?,
            Piece::End => return to.shutdown().await.map_err(|_| Broken),
            Piece::Broken => return Err(Broken),
        }
    }
    Ok(())
}
