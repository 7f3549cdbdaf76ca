//! Probes: asks every region for its view and every own endpoint whether it is well.
//!
//! A region is asked over HTTPS at its peer listener, an endpoint at its health
//! path as requests reach it, over TLS or without; both jittered, on a kept connection that is
//! replaced from time to time. A kept connection behind a load balancer
//! measures one node for ever, and says nothing of who can still connect.
//!
//! It decides nothing: results go to the core as they are. One task a target,
//! made and ended as configuration and snapshot name them.

use crate::clock::Clock;
use crate::config::{Config, Probes, Question, Service, UpstreamProtocol};
use crate::domain::fleet::{Input, Probe, ProbeFailure, RegionAnswer};
use crate::domain::latency::Rtt;
use crate::domain::name::{RegionId, ServiceId};
use crate::domain::snapshot::{ProbePace, ServiceSnapshot, Snapshot};
use crate::domain::view::View;
use crate::error_chain::chain;
use crate::followers::Followers;
use crate::metrics::control::ControlMetrics;
use crate::peer::{Board, VIEW_BYTES_MAX, VIEW_PATH};
use crate::trust::{Speech, Trusts};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

mod exchange;
mod grpc;
mod prober;
pub mod siblings;
mod verdict;

use prober::{Answer, Dial, Pace, Prober};

/// Most bytes of an endpoint's answer that are read; a longer one is well, but costs its connection.
const ENDPOINT_BYTES_MAX: usize = 64 * 1024;

/// The ends that the probes hold.
pub struct Wiring {
    pub config: watch::Receiver<Arc<Config>>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Changes when a snapshot is published.
    pub published: watch::Receiver<u64>,
    pub inputs: mpsc::Sender<Input>,
    pub metrics: ControlMetrics,
    /// What the region's other pods are told of the results.
    pub board: Arc<Board>,
    pub clock: Clock,
}

/// Probes until the configuration's or the snapshot's writer is gone.
///
/// # Panics
/// When a probe task panicked: its panic is passed on, so that the process ends
/// instead of running on with a region that nobody asks.
pub async fn run(mut wiring: Wiring) {
    let mut trusts = Trusts::default();
    let mut config = wiring.config.borrow_and_update().clone();
    renew(&mut trusts, &config).await;
    let mut followers = Followers::default();
    let mut seen: Option<Arc<Snapshot>> = None;
    loop {
        wiring.published.borrow_and_update();
        let snapshot = wiring.snapshot.load_full();
        if !seen.is_some_and(|seen| asks_the_same(&seen, &snapshot)) {
            reconcile(&mut followers, wanted(&config, &snapshot, &trusts), &wiring);
        }
        seen = Some(snapshot);
        tokio::select! {
            changed = wiring.published.changed() => if changed.is_err() { return },
            changed = wiring.config.changed() => {
                if changed.is_err() {
                    return;
                }
                config = wiring.config.borrow_and_update().clone();
                renew(&mut trusts, &config).await;
                seen = None;
            }
            never = followers.supervise() => match never {},
        }
    }
}

/// Reads the certificates again; what was read before stays when that fails.
async fn renew(trusts: &mut Trusts, config: &Config) {
    match Trusts::load(config, trusts).await {
        Ok(fresh) => *trusts = fresh,
        Err(error) => tracing::error!("certificates for probes stay as they are: {}", chain(&error)),
    }
}

/// What is probed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Region(RegionId),
    Endpoint(ServiceId, SocketAddr),
}

/// Whether both name the same targets: most snapshots are published for something else.
fn asks_the_same(a: &Snapshot, b: &Snapshot) -> bool {
    let addresses = |service: &ServiceSnapshot| {
        service.endpoints.iter().map(|s| s.endpoint.address()).collect::<Vec<_>>()
    };
    let peers = a.peers.len() == b.peers.len()
        && a.peers.iter().zip(&b.peers).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1));
    let paces = |snapshot: &Snapshot| snapshot.regions.values().map(|region| region.pace).collect::<Vec<_>>();
    peers
        && paces(a) == paces(b)
        && a.services.len() == b.services.len()
        && a.services.iter().zip(&b.services).all(|((a, one), (b, other))| {
            a == b && (Arc::ptr_eq(one, other) || addresses(one) == addresses(other))
        })
}

fn wanted(config: &Config, snapshot: &Snapshot, trusts: &Trusts) -> BTreeMap<Target, Dial> {
    let mut wanted = BTreeMap::new();
    for (region, endpoints) in &snapshot.peers {
        let settings = config.regions.get(region).and_then(|region| region.peer.as_ref());
        let Some((settings, trust)) = settings.zip(trusts.region(region)) else { continue };
        let dial = Dial {
            addresses: endpoints.iter().map(|endpoint| endpoint.address()).collect(),
            speech: Speech::Http1,
            trust: Some(Arc::clone(trust)),
            authority: format!("{}:{}", settings.server_name, settings.at.port),
            question: Question::get(VIEW_PATH),
            told: None,
            body_max: VIEW_BYTES_MAX,
            probes: config.probes.clone(),
            pace: snapshot.regions.get(region).map_or(ProbePace::Full, |status| status.pace),
        };
        if !dial.addresses.is_empty() {
            wanted.insert(Target::Region(region.clone()), dial);
        }
    }
    for (id, service) in &snapshot.services {
        let Some(settings) = config.services.get(id) else { continue };
        let trust = trusts.service(id);
        if settings.tls.is_some() != trust.is_some() {
            // Its files could not be read: never without TLS where the configuration asks for it.
            continue;
        }
        for address in service.endpoints.iter().map(|status| status.endpoint.address()) {
            let dial = Dial {
                addresses: vec![asked_at(settings, address)],
                trust: trust.cloned(),
                speech: match settings.protocol {
                    UpstreamProtocol::Http1 => Speech::Http1,
                    UpstreamProtocol::Http2 => Speech::Http2,
                },
                authority: authority(settings, address),
                question: settings.health.question.clone(),
                told: None,
                body_max: ENDPOINT_BYTES_MAX,
                probes: Probes {
                    interval: settings.health.interval.unwrap_or(config.probes.interval),
                    timeout: settings.health.timeout.unwrap_or(config.probes.timeout),
                    ..config.probes.clone()
                },
                pace: ProbePace::Full,
            };
            wanted.insert(Target::Endpoint(id.clone(), address), dial);
        }
    }
    wanted
}

/// Where an endpoint is asked: at the port of its own for that, if it has one.
fn asked_at(service: &Service, address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), service.health.port.unwrap_or(address.port()))
}

/// Whom an endpoint is asked as: as the configuration says, else over TLS by the name that its certificate
/// carries, else by its address.
fn authority(service: &Service, address: SocketAddr) -> String {
    let at = asked_at(service, address);
    if let Question::Http(asked) = &service.health.question
        && let Some(host) = &asked.host
    {
        return host.clone();
    }
    service.tls.as_ref().map_or_else(|| at.to_string(), |tls| format!("{}:{}", tls.server_name, at.port()))
}

fn reconcile(followers: &mut Followers<Target, Dial>, wanted: BTreeMap<Target, Dial>, wiring: &Wiring) {
    let begin = |target: &Target, dials| {
        let reporter = Reporter {
            inputs: wiring.inputs.clone(),
            metrics: wiring.metrics.clone(),
            board: Arc::clone(&wiring.board),
            clock: wiring.clock,
            unfit: None,
        };
        probe(target.clone(), dials, reporter)
    };
    followers.reconcile(wanted, begin, |target, _| {
        if let Target::Region(region) = target {
            wiring.board.forget(region);
        }
    });
    wiring.metrics.probe_targets(followers.count());
}

/// Probes one target until it is aborted or nobody listens.
async fn probe(target: Target, mut dials: watch::Receiver<Dial>, mut reporter: Reporter) {
    let mut prober = Prober::default();
    let mut pace = Pace::start(&dials.borrow().probes);
    loop {
        tokio::select! {
            () = sleep_until(pace.next()) => {}
            changed = dials.changed() => {
                if changed.is_err() {
                    return;
                }
                pace.adjust(&dials.borrow_and_update());
                continue;
            }
        }
        let started = Instant::now();
        let dial = dials.borrow_and_update().clone();
        let (result, setup) = prober.probe(&dial).await;
        // A first answer on a fresh connection tells no round trip: ask again soon.
        let incomplete = result.as_ref().is_ok_and(|answer| !answer.warm);
        pace.advance(started, &dial, incomplete && matches!(target, Target::Region(_)));
        if let Some(took) = setup
            && let Target::Region(region) = &target
        {
            reporter.metrics.connection_set_up(region, took);
        }
        let probe = match &target {
            Target::Region(region) => reporter.region(region, result),
            Target::Endpoint(service, address) => reporter.endpoint(service, *address, result),
        };
        if reporter.inputs.send(Input::Probed(probe)).await.is_err() {
            return;
        }
    }
}

struct Reporter {
    inputs: mpsc::Sender<Input>,
    metrics: ControlMetrics,
    board: Arc<Board>,
    clock: Clock,
    /// What was wrong with the last view, so that it is told once and not at every probe.
    unfit: Option<&'static str>,
}

impl Reporter {
    fn region(&mut self, region: &RegionId, result: Result<Answer, ProbeFailure>) -> Probe {
        let result = result.and_then(|answer| {
            let view = self.view(region, &answer)?;
            let rtt = answer.warm.then_some(answer.took);
            Ok((rtt, Arc::new(view)))
        });
        self.metrics.region_probed(region, result.as_ref().map(|(rtt, _)| *rtt).map_err(|failure| *failure));
        if let Err(failure) = &result {
            tracing::debug!(%region, failure = failure.as_str(), "probe failed");
        }
        let told = result.as_ref().map(|(rtt, view)| (rtt.map(Rtt::new), view)).map_err(|failure| *failure);
        self.board.probed(region, told, self.clock.now());
        let result = result.map(|(rtt, view)| RegionAnswer { rtt: rtt.map(Rtt::new), view });
        Probe::Region { region: region.clone(), result }
    }

    fn endpoint(
        &self,
        service: &ServiceId,
        address: SocketAddr,
        result: Result<Answer, ProbeFailure>,
    ) -> Probe {
        self.metrics.endpoint_probed(service, result.as_ref().map(|_| ()).map_err(|failure| *failure));
        Probe::Endpoint { service: service.clone(), address, result: result.map(|answer| answer.said) }
    }

    /// The view in an answer.
    ///
    /// Whose it is, the core looks at: the certificate says only that it is a peer, and a peer
    /// address that was mixed up must not pass one region's health as another's.
    fn view(&mut self, region: &RegionId, answer: &Answer) -> Result<View, ProbeFailure> {
        let Some(body) = &answer.body else {
            if self.newly("too large") {
                tracing::warn!(%region, bytes_max = VIEW_BYTES_MAX, "the view in the answer is too large");
            }
            return Err(ProbeFailure::Malformed);
        };
        match serde_json::from_slice::<View>(body) {
            Ok(view) if view.region == *region => {
                self.unfit = None;
                Ok(view)
            }
            Ok(view) => {
                if self.newly("another region's") {
                    let answered = &view.region;
                    tracing::warn!(%region, %answered, "another region answers at this region's peer address");
                }
                Ok(view)
            }
            Err(error) => {
                if self.newly("no view") {
                    tracing::warn!(%region, %error, "answer is no view");
                }
                Err(ProbeFailure::Malformed)
            }
        }
    }

    fn newly(&mut self, unfit: &'static str) -> bool {
        self.unfit.replace(unfit) != Some(unfit)
    }
}
