//! Asks the API for the Lease of the region's pods, and says what that rules.
//!
//! Carries out what [`crate::lease::claim`] decides: one turn of requests in each seventh of
//! `kubernetes.lease_duration`, jittered. At rest that is one request: the holder's write, the look of anyone else, which
//! the server may answer from its memory. A refusal is said once, and again when it is another one.

use super::{Access, Error, connect};
use crate::clock::{Clock, wall_clock};
use crate::config::{Config, Kubernetes};
use crate::error_chain::chain;
use crate::lease::claim::{Answer, Ask, Claim, Named, Ruling, Term};
use crate::metrics::lease::{LeaseMetrics, LeaseRequest};
use crate::peer::Board;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{GetParams, ObjectMeta, PostParams};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Who wrote a field, as the API's server keeps it.
const WRITER: &str = "proxima";
/// Siblings that a route is looked for to, before this pod's own address is known.
const ROUTES_MAX: usize = 16;

/// The ends that the task holds.
pub struct Wiring {
    pub config: watch::Receiver<Arc<Config>>,
    /// Addresses of all pods of the region.
    pub addresses: watch::Receiver<Vec<SocketAddr>>,
    pub ruling: watch::Sender<Ruling>,
    /// Knows whom the siblings elected.
    pub board: Arc<Board>,
    pub clock: Clock,
    /// Random number of this process's start.
    pub boot: u64,
    /// True: this process ends.
    pub draining: watch::Receiver<bool>,
    pub metrics: LeaseMetrics,
}

/// What there is to begin with, before the API is asked.
pub fn first_ruling(config: &Config) -> Ruling {
    match lease_of(config) {
        Some(_) => Ruling::Wait,
        None => Ruling::Elect,
    }
}

/// Contends for the Lease until the configuration's writer is gone; idle where none is configured.
pub async fn run(mut wiring: Wiring) {
    loop {
        let settings = lease_of(&wiring.config.borrow_and_update()).cloned();
        let ended = match settings {
            Some(settings) => Contender::new(&wiring, settings).run(&mut wiring).await,
            None => {
                wiring.ruling.send_replace(Ruling::Elect);
                wiring.metrics.rules(false);
                wiring.config.changed().await.is_err()
            }
        };
        if ended {
            return;
        }
    }
}

fn lease_of(config: &Config) -> Option<&Kubernetes> {
    config.kubernetes.as_ref().filter(|settings| settings.lease.is_some())
}

enum Event {
    Draining,
    /// There is another configuration, or none any more.
    Configured {
        ended: bool,
    },
}

/// One pod's claim to one Lease.
struct Contender {
    settings: Kubernetes,
    claim: Claim,
    clock: Clock,
    metrics: LeaseMetrics,
    access: Option<Access>,
    /// The record as it was read or written last: what is not ours in it stays.
    seen: Option<Lease>,
    /// What was said last.
    shown: (Option<String>, bool),
}

impl Contender {
    fn new(wiring: &Wiring, settings: Kubernetes) -> Self {
        Self {
            claim: Claim::new(wiring.boot, settings.lease_duration),
            settings,
            clock: wiring.clock,
            metrics: wiring.metrics.clone(),
            access: None,
            seen: None,
            shown: (None, true),
        }
    }

    /// Until the configuration names another Lease, or none; true: its writer is gone.
    async fn run(mut self, wiring: &mut Wiring) -> bool {
        loop {
            let next = Instant::now() + self.claim.retry().mul_f64(rand::random_range(0.9..1.1));
            self.turn(wiring).await;
            let leaving = self.claim.is_leaving();
            let event = tokio::select! {
                () = sleep_until(next) => continue,
                _ = wiring.draining.wait_for(|draining| *draining), if !leaving => Event::Draining,
                changed = wiring.config.changed() => Event::Configured { ended: changed.is_err() },
            };
            let ended = match event {
                Event::Draining => None,
                Event::Configured { ended } => {
                    let wanted = lease_of(&wiring.config.borrow_and_update()).cloned();
                    if let Some(wanted) = wanted.filter(|wanted| !ended && same_lease(wanted, &self.settings))
                    {
                        self.claim.last(wanted.lease_duration);
                        self.settings = wanted;
                        continue;
                    }
                    Some(ended)
                }
            };
            // It holds nothing from here on, and only then says so.
            self.claim.leave();
            self.tell(wiring);
            if let Some(ended) = ended {
                self.turn(wiring).await;
                return ended;
            }
        }
    }

    async fn turn(&mut self, wiring: &Wiring) {
        let peer = wiring.config.borrow().peer.as_ref().map(|peer| peer.address);
        if let Some(own) = peer.and_then(|peer| own_address(peer, &wiring.addresses.borrow())) {
            self.claim.at(own);
        }
        self.claim.begin();
        self.tell(wiring);
        while let Some(ask) = self.claim.ask(self.clock.now()) {
            let sent = self.clock.now();
            let patience = self.claim.retry();
            let answer = match timeout(patience, self.request(&ask)).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::Timeout(patience)),
            };
            let answer = self.judged(answer);
            self.claim.answered(&ask, sent, answer, wiring.board.elected(), self.clock.now());
            self.tell(wiring);
        }
    }

    /// What the claim is told of an answer.
    fn judged(&mut self, answer: Result<Answer, Error>) -> Answer {
        let (result, answer, trouble) = match answer {
            Ok(answer @ Answer::Written { .. }) => (LeaseRequest::Written, answer, None),
            Ok(answer) => (LeaseRequest::Read, answer, None),
            Err(Error::Conflict(_)) => (LeaseRequest::Conflict, Answer::Conflict, None),
            Err(Error::Missing(_)) => (LeaseRequest::Missing, Answer::Absent, None),
            Err(error @ Error::Denied(_)) => {
                let rule = format!(
                    "the role of this pod's service account must allow to get and update the Lease `{}`, \
                     and to create Leases (coordination.k8s.io); the chart's does where `kubernetes.lease` is set",
                    self.settings.lease.as_deref().unwrap_or_default(),
                );
                (LeaseRequest::Denied, Answer::Failed, Some(format!("{}; {rule}", chain(&error))))
            }
            Err(error) => {
                // Files that were missing or wrong may be right next time.
                if matches!(error, Error::Settings(_)) {
                    self.access = None;
                }
                (LeaseRequest::Failed, Answer::Failed, Some(chain(&error).to_string()))
            }
        };
        self.metrics.asked(result);
        if self.shown.0 != trouble {
            match &trouble {
                Some(trouble) => tracing::warn!("the Lease cannot be asked for: {trouble}"),
                None => tracing::info!("the Lease can be asked for again"),
            }
            self.shown.0 = trouble;
        }
        answer
    }

    /// Says what is ruled now.
    fn tell(&mut self, wiring: &Wiring) {
        let ruling = self.claim.ruling(self.clock.now());
        wiring.ruling.send_if_modified(|told| std::mem::replace(told, ruling) != ruling);
        let rules = ruling != Ruling::Elect;
        self.metrics.rules(rules);
        if self.shown.1 != rules {
            self.shown.1 = rules;
            if rules {
                tracing::info!("the Lease says again who speaks for the region");
            } else {
                tracing::warn!("no word of the Lease: the pods elect who speaks for the region");
            }
        }
    }

    async fn request(&mut self, ask: &Ask) -> Result<Answer, Error> {
        let Access { client, namespace } = match self.access.clone() {
            Some(access) => access,
            None => self.access.insert(connect(&self.settings).await?).clone(),
        };
        let name = self.settings.lease.clone().unwrap_or_default();
        let leases: Api<Lease> = Api::namespaced(client, &namespace);
        let params = PostParams { field_manager: Some(WRITER.to_owned()), ..PostParams::default() };
        let (term, written) = match ask {
            Ask::Look => {
                // Any version will do: one that is too old is refused where it is written on.
                let found = leases.get_with(&name, &GetParams::at("0")).await?;
                let answer = found_in(&found);
                self.seen = Some(found);
                return Ok(answer);
            }
            Ask::Create(term) => {
                let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
                let mut lease = Lease { metadata, ..Lease::default() };
                fill(lease.spec.get_or_insert_default(), Some(term), now());
                (Some(term), leases.create(&params, &lease).await?)
            }
            Ask::Replace { version, term } => {
                let lease = self.filled(version, Some(term));
                (Some(term), leases.replace(&name, &params, &lease).await?)
            }
            Ask::Release { version } => {
                let lease = self.filled(version, None);
                (None, leases.replace(&name, &params, &lease).await?)
            }
        };
        let version = written.metadata.resource_version.clone().unwrap_or_default();
        self.seen = Some(written);
        tracing::debug!(held = term.is_some(), version, "Lease written");
        Ok(Answer::Written { version })
    }

    /// The record as it was seen, with another holder.
    fn filled(&self, version: &str, term: Option<&Term>) -> Lease {
        let mut lease = self.seen.clone().unwrap_or_default();
        lease.metadata.resource_version = Some(version.to_owned());
        // The server's own business, and large.
        lease.metadata.managed_fields = None;
        fill(lease.spec.get_or_insert_default(), term, now());
        lease
    }
}

/// Two settings that are of one record.
fn same_lease(one: &Kubernetes, other: &Kubernetes) -> bool {
    (&one.lease, &one.namespace, &one.kubeconfig) == (&other.lease, &other.namespace, &other.kubeconfig)
}

/// Times are for people who read the record: no pod goes by them.
fn fill(spec: &mut LeaseSpec, term: Option<&Term>, now: Option<MicroTime>) {
    let identity = term.map(|term| term.holder.to_string());
    if spec.holder_identity != identity {
        if identity.is_some() {
            let before = spec.acquire_time.is_some();
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(before.into()));
            spec.acquire_time = now.clone();
        }
        spec.holder_identity = identity;
    }
    spec.renew_time = now;
    // One that nobody holds need not be waited for.
    let seconds = term.map_or(1, |term| term.lasts.as_secs());
    spec.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
}

fn found_in(lease: &Lease) -> Answer {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    Answer::Found {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        named: Named::parse(spec.and_then(|spec| spec.holder_identity.as_deref())),
        lasts: seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
    }
}

fn now() -> Option<MicroTime> {
    let micros = i64::try_from(wall_clock().as_micros()).ok()?;
    Timestamp::from_microsecond(micros).ok().map(MicroTime)
}

/// Where siblings find this pod: the address that its peer listener is bound to, or else the one of theirs that
/// this machine's routes lead from.
fn own_address(peer: SocketAddr, siblings: &[SocketAddr]) -> Option<SocketAddr> {
    if !peer.ip().is_unspecified() {
        return Some(peer);
    }
    siblings.iter().take(ROUTES_MAX).find_map(|sibling| {
        let from = source_towards(*sibling)?;
        siblings.iter().copied().find(|own| own.ip() == from)
    })
}

/// The address that packets to that one leave from. Nothing is sent.
fn source_towards(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Holder;

    fn term(boot: u64) -> Term {
        let holder = Holder { address: SocketAddr::from(([10, 0, 0, 1], 8443)), boot };
        Term { holder, lasts: Duration::from_secs(15) }
    }

    #[test]
    fn a_record_says_who_holds_it_and_how_often_that_has_changed() {
        let mut lease = Lease::default();
        let spec = lease.spec.get_or_insert_default();
        for (of, transitions) in [(Some(1), 0), (Some(1), 0), (Some(2), 1), (None, 1), (Some(2), 2)] {
            let term = of.map(term);
            fill(spec, term.as_ref(), now());
            assert_eq!(spec.lease_transitions, Some(transitions), "{of:?}");
            let named = Named::parse(spec.holder_identity.as_deref());
            assert_eq!(named, term.map_or(Named::Nobody, |term| Named::Pod(term.holder)));
            assert!(spec.renew_time.is_some() && spec.acquire_time.is_some());
        }
        assert_eq!(spec.lease_duration_seconds, Some(15));
        fill(spec, None, now());
        lease.metadata.resource_version = Some("7".to_owned());
        let free = Answer::Found {
            version: "7".to_owned(),
            named: Named::Nobody,
            lasts: Some(Duration::from_secs(1)),
        };
        assert_eq!(found_in(&lease), free);
    }

    #[test]
    fn a_pod_that_listens_everywhere_knows_its_address_by_its_siblings() {
        let at = |octets: [u8; 4]| SocketAddr::from((octets, 8443));
        let own = at([127, 0, 0, 1]);
        let any = SocketAddr::from(([0, 0, 0, 0], 9000));
        assert_eq!(own_address(any, &[own]), Some(own));
        // A documentation address (RFC 5737), which is nobody's here.
        assert_eq!(own_address(any, &[at([192, 0, 2, 1])]), None);
        assert_eq!(own_address(at([10, 1, 1, 1]), &[]), Some(at([10, 1, 1, 1])));
    }
}
