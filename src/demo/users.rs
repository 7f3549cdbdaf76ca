//! Users: they live in a place, ask DNS, honour its TTL, and send requests at a steady rate.
//!
//! A user keeps one connection to the address that DNS gave. Like a real client
//! with a cached answer, it goes on with a dead address until the TTL is over;
//! it never retries a request.

use super::event::Event;
use super::http::{self, Connection};
use super::ledger::{Failure, Request};
use super::lookup::lookup;
use super::settings::{ANSWER_BYTES, REQUEST_EVERY};
use super::world::{NAME, Region, World};
use hyper::StatusCode;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// What all users share.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub world: Arc<World>,
    pub started: Instant,
    pub dns: SocketAddr,
    /// Port of every region's public address.
    pub port: u16,
    /// How long they wait for a whole answer.
    pub patience: Duration,
    pub events: mpsc::Sender<Event>,
}

/// One user.
pub struct User {
    surroundings: Surroundings,
    place: Region,
    source: Ipv4Addr,
    /// The address that DNS gave, and until when it may be used.
    cached: Option<(Ipv4Addr, Instant)>,
    connection: Option<(Ipv4Addr, Connection)>,
}

impl User {
    pub fn new(surroundings: Surroundings, place: Region, number: u8) -> Self {
        Self { surroundings, place, source: place.user(number), cached: None, connection: None }
    }

    /// Lives until nobody listens any more; the first request is sent after `offset`.
    pub async fn live(mut self, offset: Duration) {
        let mut ticks = interval_at(Instant::now() + offset, REQUEST_EVERY);
        // A request that waits long costs the next ones, as with a person.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let request = self.request().await;
            if self.surroundings.events.send(Event::Request(request)).await.is_err() {
                return;
            }
        }
    }

    async fn request(&mut self) -> Request {
        let address = self.address().await;
        let started = self.surroundings.started;
        let sent = started.elapsed();
        let result = match address {
            Some(address) => {
                let patience = self.surroundings.patience;
                let asked = timeout(patience, self.ask(address)).await;
                asked.unwrap_or(Err(Failure::Timeout))
            }
            None => Err(Failure::Resolve),
        };
        if result.is_err() {
            self.connection = None;
        }
        Request {
            sent,
            done: started.elapsed(),
            place: self.place,
            entered: address.and_then(|address| self.surroundings.world.entered(address)),
            served: result.as_ref().ok().copied(),
            failure: result.err(),
        }
    }

    /// From the cache, or from DNS when its time is over.
    async fn address(&mut self) -> Option<Ipv4Addr> {
        if let Some((address, until)) = self.cached
            && Instant::now() < until
        {
            return Some(address);
        }
        self.cached = None;
        match lookup(self.surroundings.dns, self.source, NAME).await {
            Ok(answer) => {
                let address = answer.addresses.first().copied()?;
                self.cached = Some((address, Instant::now() + answer.ttl));
                Some(address)
            }
            Err(error) => {
                tracing::debug!(%error, source = %self.source, "a user got no address");
                None
            }
        }
    }

    async fn ask(&mut self, address: Ipv4Addr) -> Result<Region, Failure> {
        if self.connection.as_ref().is_none_or(|(to, _)| *to != address) {
            self.connection = None;
            let target = (address, self.surroundings.port).into();
            let opened = Connection::open(Some(self.source), target).await.map_err(failure)?;
            self.connection = Some((address, opened));
        }
        let Some((_, connection)) = &mut self.connection else { return Err(Failure::Connect) };
        let path = format!("/?bytes={ANSWER_BYTES}");
        let answer = connection.get(NAME, &path).await.map_err(failure)?;
        if answer.status != StatusCode::OK {
            return Err(Failure::Status(answer.status.as_u16()));
        }
        // An answer that nobody signed or that is short is no good answer.
        let region = answer.region.and_then(|name| self.surroundings.world.named(&name));
        region.filter(|_| answer.body.len() == ANSWER_BYTES).ok_or(Failure::Broken)
    }
}

fn failure(error: http::Error) -> Failure {
    match error {
        http::Error::Connect(_) => Failure::Connect,
        http::Error::Timeout => Failure::Timeout,
        http::Error::Broken(_) | http::Error::Body(_) | http::Error::Request(_) => Failure::Broken,
    }
}
