//! A local Route 53: its HTTP API with its strict rules, its health checks, and
//! the zone's DNS, in one process.
//!
//! The embedded world stands on the other side of the wire: the code that moves
//! the planet talks to this through the AWS SDK and cannot tell the difference.
//! What decides is pure (`rules`, `store`, `answer`, `health`); the rest
//! is HTTP, DNS and the checkers around it.
//!
//! # Limits
//! A, AAAA, CNAME, NS, SOA and TXT; simple, weighted and latency records, alias
//! records within one zone and to load balancers that the settings name; HTTP and
//! TCP checks. Wildcards, private
//! zones, the other routing policies and calculated checks are refused by name.
//! Deleting the target of an alias is allowed and leaves the alias unanswered.

mod answer;
mod api;
mod balancers;
mod checker;
mod dns;
mod health;
mod history;
mod name;
mod places;
mod record;
mod refusal;
mod rules;
mod shape;
mod state;
mod store;
mod wire;

use crate::rtt_table::{self, RttTable};
use hickory_server::Server;
use ipnet::IpNet;
use name::{Name, NameError};
use places::Places;
use rand::SeedableRng;
use rand::rngs::StdRng;
use state::{Parts, State};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use store::{NewZone, Store};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A DNS client over TCP that says nothing for this long is left.
const DNS_TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers waiting to be written to one TCP client.
const DNS_TCP_ANSWERS: usize = 64;
/// Attempts to find a port that is free for UDP and TCP alike.
const PORT_ATTEMPTS: usize = 16;
/// The bounds of a health interval, and the upper one of an INSYNC delay.
const HEALTH_INTERVAL_MIN: Duration = Duration::from_millis(1);
const SPAN_MAX: Duration = Duration::from_secs(3600);
/// Open calls may end within this at shutdown.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

/// How a server runs; [`Settings::default`] is a loopback server on free ports.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the HTTP API listens; port 0 picks one.
    pub api: SocketAddr,
    /// Where DNS listens, UDP and TCP; port 0 picks one.
    pub dns: SocketAddr,
    /// A zone to create at the start.
    pub zone: Option<String>,
    /// Load balancers that alias records may name.
    pub load_balancers: Vec<LoadBalancer>,
    /// Address blocks and the AWS region that each is nearest to.
    pub places: Vec<(IpNet, String)>,
    /// From accepted to INSYNC, when DNS answers by a change; an hour at most.
    pub insync_delay: Duration,
    /// What 10 seconds of Route 53's health check interval take here; 30 take three times as long.
    /// From a millisecond to an hour.
    pub health_interval: Duration,
    /// Decides ids and the draws of weighted sets.
    pub seed: u64,
    /// Whether the account is held to five requests a second.
    pub throttle: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            api: loopback,
            dns: loopback,
            zone: None,
            load_balancers: Vec::new(),
            places: Vec::new(),
            insync_delay: Duration::from_millis(300),
            health_interval: Duration::from_secs(1),
            seed: 1,
            throttle: false,
        }
    }
}

/// A load balancer of AWS, as far as Route 53 sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancer {
    pub name: String,
    /// Of load balancers of its region, not of its users' names.
    pub zone_id: String,
    pub addresses: Vec<IpAddr>,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen for {what} on {address}")]
    Bind {
        what: &'static str,
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("'{text}' is no name")]
    ZoneName {
        text: String,
        #[source]
        source: NameError,
    },
    #[error("the {what} is {given:?}, want {least:?} to {SPAN_MAX:?}")]
    Span { what: &'static str, given: Duration, least: Duration },
    #[error("the measured RTT table is damaged")]
    Rtts(#[from] rtt_table::Error),
    #[error("place '{0}' is not in the RTT table")]
    UnknownPlace(String),
    #[error("the zone cannot be created")]
    Zone(#[from] refusal::Refusal),
}

/// The server; see [`ZoneServer::start`].
#[derive(Debug)]
pub struct ZoneServer;

/// A running server. Dropping it stops its listeners; [`Running::shutdown`] also waits.
#[derive(Debug)]
pub struct Running {
    api: SocketAddr,
    dns: SocketAddr,
    zone_id: Option<String>,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl ZoneServer {
    /// Binds, creates the zone if one is set, and serves until shut down.
    ///
    /// # Errors
    /// An address that cannot be bound, a bad zone name, an unknown place, a span out of bounds.
    pub async fn start(settings: Settings) -> Result<Running, Error> {
        within("INSYNC delay", Duration::ZERO, settings.insync_delay)?;
        within("health interval", HEALTH_INTERVAL_MIN, settings.health_interval)?;
        let rtts = RttTable::measured()?;
        if let Some((_, unknown)) = settings.places.iter().find(|(_, place)| !rtts.regions().contains(place))
        {
            return Err(Error::UnknownPlace(unknown.clone()));
        }
        let mut store = Store::new(settings.seed, settings.insync_delay);
        let zone_id = settings.zone.map(|text| preload(&mut store, text)).transpose()?;
        for LoadBalancer { name, zone_id, addresses } in settings.load_balancers {
            let parsed = Name::parse(&name).map_err(|source| Error::ZoneName { text: name, source })?;
            store.add_balancer(zone_id, parsed, addresses);
        }
        let (udp, tcp) = bind_dns(settings.dns).await?;
        let listener = TcpListener::bind(settings.api).await.map_err(bind_error("the API", settings.api))?;
        let api = listener.local_addr().map_err(bind_error("the API", settings.api))?;
        let dns = udp.local_addr().map_err(bind_error("DNS", settings.dns))?;

        let (stop, stopped) = watch::channel(false);
        let state = Arc::new(State::new(Parts {
            store,
            // Another stream than the ids': a query more must not change them.
            draws: StdRng::seed_from_u64(settings.seed ^ 0x5eed),
            throttle: settings.throttle,
            places: Places::new(settings.places),
            rtts,
            shutdown: stopped,
            health_interval: settings.health_interval,
        }));
        let tasks =
            [tokio::spawn(serve_api(Arc::clone(&state), listener)), tokio::spawn(serve_dns(state, udp, tcp))];
        Ok(Running { api, dns, zone_id, stop, tasks })
    }
}

impl Running {
    /// Where the HTTP API listens.
    #[must_use]
    pub fn api_addr(&self) -> SocketAddr {
        self.api
    }

    /// Where DNS listens, UDP and TCP.
    #[must_use]
    pub fn dns_addr(&self) -> SocketAddr {
        self.dns
    }

    /// The id of the zone that the settings asked for.
    #[must_use]
    pub fn zone_id(&self) -> Option<&str> {
        self.zone_id.as_deref()
    }

    /// Stops listening, lets open calls end for a moment, and waits for the tasks.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        for mut task in self.tasks {
            if tokio::time::timeout(SHUTDOWN_PATIENCE, &mut task).await.is_err() {
                task.abort(); // A client that keeps its connection open must not hold the process.
            }
        }
    }
}

fn preload(store: &mut Store, text: String) -> Result<String, Error> {
    let name = Name::parse(&text).map_err(|source| Error::ZoneName { text, source })?;
    let caller_reference = "preloaded".to_owned();
    let new = NewZone { name, caller_reference, comment: None };
    let (zone, _) = store.create_zone(new, Duration::ZERO)?;
    Ok(zone.id)
}

fn within(what: &'static str, least: Duration, given: Duration) -> Result<(), Error> {
    if (least..=SPAN_MAX).contains(&given) { Ok(()) } else { Err(Error::Span { what, given, least }) }
}

fn bind_error(what: &'static str, address: SocketAddr) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Bind { what, address, source }
}

/// Binds UDP and TCP to one port; with port 0, to the first that is free for both.
async fn bind_dns(address: SocketAddr) -> Result<(UdpSocket, TcpListener), Error> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let udp = UdpSocket::bind(address).await.map_err(bind_error("DNS over UDP", address))?;
        let bound = udp.local_addr().map_err(bind_error("DNS over UDP", address))?;
        match TcpListener::bind(bound).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(_) if address.port() == 0 && attempt < PORT_ATTEMPTS => {}
            Err(source) => return Err(Error::Bind { what: "DNS over TCP", address: bound, source }),
        }
    }
}

async fn serve_api(state: Arc<State>, listener: TcpListener) {
    let mut shutdown = state.shutdown.clone();
    let served = Arc::clone(&state);
    let router = axum::Router::new().fallback(move |request| api::serve(Arc::clone(&served), request));
    let stopped = async move {
        // An error means that `Running` is gone: the same thing.
        drop(shutdown.wait_for(|stop| *stop).await);
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
        tracing::error!(%error, "the zone server's API stopped");
    }
}

async fn serve_dns(state: Arc<State>, udp: UdpSocket, tcp: TcpListener) {
    let mut shutdown = state.shutdown.clone();
    let mut server = Server::new(dns::Handler { state });
    server.register_socket(udp);
    server.register_listener(tcp, DNS_TCP_IDLE, DNS_TCP_ANSWERS);
    drop(shutdown.wait_for(|stop| *stop).await);
    if let Err(error) = server.shutdown_gracefully().await {
        tracing::error!(%error, "the zone server's DNS stopped");
    }
}
