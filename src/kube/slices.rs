//! Follows the EndpointSlices of the namespaces that services name, a watch each, and tells the core.
//!
//! List, then watch from there; an orderly end of a watch is gone on from, anything else begins with a list
//! again, after a pause that grows and is jittered. Not by `kube::runtime::watcher`: it lists without a gap,
//! too, but it does not tell when a watch stands again after a failure, waits for ever for a list that does not
//! come, asks again and again for a version that the server has refused with a status, and has no pause
//! between watches that end at once.
//!
//! A service is told when its namespace has been listed, even if that is nothing; until then, and while the API
//! is away, the core keeps what it has.

use super::book::{Book, selector};
use super::endpoints::{ADDRESSES_MAX, Found};
use super::{Access, Error, connect};
use crate::config::{ClusterService, Config, Kubernetes};
use crate::domain::fleet::{Input, Target};
use crate::domain::name::{ServiceId, Zone};
use crate::error_chain::chain;
use crate::followers::Followers;
use crate::metrics::kube::{KubeMetrics, WatchFailure};
use futures_util::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// For one page of a list, and for the beginning of a watch.
const ANSWER: Duration = Duration::from_secs(15);
/// Slices a page: some megabytes at most, since the controller puts up to 100 endpoints into one.
const PAGE: u32 = 100;
/// Pages of one listing: more is no listing of this world.
const PAGES_MAX: usize = 1000;
/// A server ends a watch after so many seconds, which is how one that has fallen silent is noticed: by
/// the watch that has not ended. Up to a quarter more, so that edges do not all come at once.
const WATCH_SECONDS: u32 = 60;
/// Beyond the time that a watch was asked for.
const SILENCE: Duration = Duration::from_secs(10);
/// A watch that stood this long was a good one.
const STOOD: Duration = Duration::from_secs(5);
/// Pauses after failures: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A server that asks for patience gets this much at most.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// How often the age of what is known is told.
const TOLD: Duration = Duration::from_secs(1);

/// The ends that the followers hold.
pub struct Wiring {
    pub config: watch::Receiver<Arc<Config>>,
    pub inputs: mpsc::Sender<Input>,
    pub metrics: KubeMetrics,
}

/// Follows until the configuration's writer is gone; idle where no service names a cluster.
///
/// # Panics
/// When a follower panicked: its panic is passed on, so that the process ends instead of running on with
/// endpoints that nobody renews.
pub async fn run(mut wiring: Wiring) {
    let mut followers = Followers::default();
    loop {
        let wanted = wanted(&wiring.config.borrow_and_update());
        let wanted = wanted.into_iter().map(|(namespace, spec)| (namespace, Arc::new(spec))).collect();
        let begin = |namespace: &String, specs| Follower::new(namespace.clone(), &wiring).run(specs);
        let forget = |namespace: &String, spec: &Arc<Spec>| {
            wiring.metrics.forget(namespace);
            spec.services.keys().for_each(|id| wiring.metrics.forget_service(id.as_str()));
        };
        followers.reconcile(wanted, begin, forget);
        tokio::select! {
            changed = wiring.config.changed() => if changed.is_err() { return },
            never = followers.supervise() => match never {},
        }
    }
}

/// What is wanted of a namespace.
#[derive(Debug, PartialEq)]
struct Spec {
    api: Kubernetes,
    services: BTreeMap<ServiceId, ClusterService>,
    /// Names of Services in the cluster.
    names: BTreeSet<String>,
    /// Of this edge.
    zone: Option<Zone>,
}

/// By namespace. `Config` has no such services without the section that says how to reach them.
fn wanted(config: &Config) -> BTreeMap<String, Spec> {
    let mut wanted: BTreeMap<String, Spec> = BTreeMap::new();
    let Some(api) = &config.kubernetes else { return wanted };
    for (id, service) in &config.services {
        let Some(of) = &service.kubernetes else { continue };
        let spec = wanted.entry(of.namespace.clone()).or_insert_with(|| Spec {
            api: api.clone(),
            services: BTreeMap::new(),
            names: BTreeSet::new(),
            zone: config.policy.steering.zone.clone(),
        });
        spec.names.insert(of.name.clone());
        spec.services.insert(id.clone(), of.clone());
    }
    wanted
}

/// Keeps the endpoints of one namespace's services current.
struct Follower {
    namespace: String,
    access: Option<Access>,
    /// The whole namespace as it is known; `None` until it was listed once.
    book: Option<Book>,
    /// Where a watch goes on; `None`: with a list.
    version: Option<String>,
    /// What the core was told last.
    told: BTreeMap<ServiceId, Found>,
    /// The settings and services of `access`, `book` and `version`.
    taken: Option<Arc<Spec>>,
    link: Link,
    inputs: mpsc::Sender<Input>,
    metrics: KubeMetrics,
}

/// How the API is doing, as seen from here.
struct Link {
    state: LinkState,
    /// In a row.
    failures: u32,
    /// What was logged last.
    logged: Option<WatchFailure>,
}

#[derive(Clone, Copy)]
enum LinkState {
    /// Since when there is a watch.
    Stands(Instant),
    /// Since when there is none.
    Away(Instant),
}

/// Why a namespace is not followed at the moment.
enum Ended {
    Failed(Error),
    CoreGone,
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<mpsc::error::SendError<Input>> for Ended {
    fn from(_: mpsc::error::SendError<Input>) -> Self {
        Self::CoreGone
    }
}

impl Follower {
    fn new(namespace: String, wiring: &Wiring) -> Self {
        wiring.metrics.begin(&namespace);
        Self {
            namespace,
            access: None,
            book: None,
            version: None,
            told: BTreeMap::new(),
            taken: None,
            link: Link { state: LinkState::Away(Instant::now()), failures: 0, logged: None },
            inputs: wiring.inputs.clone(),
            metrics: wiring.metrics.clone(),
        }
    }

    async fn run(mut self, mut specs: watch::Receiver<Arc<Spec>>) {
        loop {
            let spec = Arc::clone(&specs.borrow_and_update());
            let ended = tokio::select! {
                ended = self.follow(&spec) => ended,
                changed = specs.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            let Err(Ended::Failed(error)) = ended else { return };
            let pause = self.failed(&error);
            tokio::select! {
                () = self.wait(pause) => {}
                changed = specs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Lists and watches until something is wrong. Dropped at any point, it is gone on from there.
    async fn follow(&mut self, spec: &Arc<Spec>) -> Result<Infallible, Ended> {
        self.take(spec).await?;
        let access = match &self.access {
            Some(access) => access.clone(),
            None => self.access.insert(connect(&spec.api).await?).clone(),
        };
        let api: Api<EndpointSlice> = Api::namespaced(access.client, &self.namespace);
        loop {
            let version = match self.version.clone() {
                Some(version) => version,
                None => self.list(&api, spec).await?,
            };
            self.watch(&api, spec, version).await?;
        }
    }

    /// Leaves what other settings and services brought; tells at once what can be told without the API.
    async fn take(&mut self, spec: &Arc<Spec>) -> Result<(), Ended> {
        let before = self.taken.replace(Arc::clone(spec));
        let Some(before) = before.filter(|before| !Arc::ptr_eq(before, spec)) else { return Ok(()) };
        if before.api != spec.api {
            self.access = None;
        }
        if before.api != spec.api || before.names != spec.names {
            self.version = None;
        }
        let metrics = &self.metrics;
        self.told.retain(|id, _| {
            let keep = spec.services.get(id).is_some_and(|of| before.services.get(id) == Some(of));
            if !keep {
                metrics.forget_service(id.as_str());
            }
            keep
        });
        let known = |of: &&ClusterService| before.names.contains(&of.name);
        let known: BTreeSet<String> =
            spec.services.values().filter(known).map(|of| of.name.clone()).collect();
        self.tell(spec, &known).await
    }

    /// The version from which a watch goes on.
    async fn list(&mut self, api: &Api<EndpointSlice>, spec: &Spec) -> Result<String, Ended> {
        let (mut listed, mut token) = (Book::default(), None);
        for _ in 0..PAGES_MAX {
            let mut params = ListParams::default().labels(&selector(&spec.names)).limit(PAGE);
            params.continue_token = token;
            let page = timeout(ANSWER, api.list(&params)).await;
            let page = page.map_err(|_| Error::Timeout(ANSWER))?.map_err(Error::from)?;
            for slice in &page.items {
                listed.apply(slice, &spec.names);
            }
            token = page.metadata.continue_.filter(|token| !token.is_empty());
            if token.is_some() {
                continue;
            }
            let version = page.metadata.resource_version.filter(|version| !version.is_empty());
            let version = version.ok_or_else(|| refused("a list without a version"))?;
            if listed.left_out() > 0 {
                let (namespace, left_out) = (&self.namespace, listed.left_out());
                tracing::warn!(namespace, left_out, "too many EndpointSlices");
            }
            self.book = Some(listed);
            self.version = Some(version.clone());
            self.tell(spec, &spec.names).await?;
            return Ok(version);
        }
        Err(refused("a list without an end").into())
    }

    /// `Ok` when the server ended the watch in an orderly way; `self.version` is where to go on.
    async fn watch(&mut self, api: &Api<EndpointSlice>, spec: &Spec, from: String) -> Result<(), Ended> {
        let seconds = WATCH_SECONDS + rand::random_range(0..WATCH_SECONDS / 4);
        let params = WatchParams::default().labels(&selector(&spec.names)).timeout(seconds);
        let events = timeout(ANSWER, api.watch(&params, &from)).await;
        let mut events = pin!(events.map_err(|_| Error::Timeout(ANSWER))?.map_err(Error::from)?);
        self.stands();
        let began = Instant::now();
        let silence = Duration::from_secs(seconds.into()) + SILENCE;
        loop {
            let event = timeout(silence, events.next()).await.map_err(|_| Error::Timeout(silence))?;
            let (slice, gone) = match event {
                Some(Ok(WatchEvent::Added(slice) | WatchEvent::Modified(slice))) => (slice, false),
                Some(Ok(WatchEvent::Deleted(slice))) => (slice, true),
                Some(Ok(WatchEvent::Bookmark(mark))) => {
                    self.version = Some(mark.metadata.resource_version);
                    continue;
                }
                Some(Ok(WatchEvent::Error(status))) => return Err(Error::from(*status).into()),
                Some(Err(error)) => return Err(Error::from(error).into()),
                None if began.elapsed() >= STOOD => return Ok(()),
                None => return Err(refused("a watch that ended at once").into()),
            };
            self.version = slice.metadata.resource_version.clone();
            self.metrics.changed(&self.namespace);
            let book = self.book.get_or_insert_default();
            let concerned = if gone { book.remove(&slice) } else { book.apply(&slice, &spec.names) };
            self.tell(spec, &concerned).await?;
        }
    }

    /// Tells the core what has changed of the services behind these names.
    async fn tell(&mut self, spec: &Spec, names: &BTreeSet<String>) -> Result<(), Ended> {
        let Some(book) = &self.book else { return Ok(()) };
        self.metrics.slices(&self.namespace, book.len());
        for (id, of) in spec.services.iter().filter(|(_, of)| names.contains(&of.name)) {
            let found = book.found(of, spec.zone.as_ref());
            let before = self.told.get(id);
            if before == Some(&found) {
                continue;
            }
            let addresses = found.addresses.len();
            if found.left_out > 0 && before.is_none_or(|before| before.left_out == 0) {
                let (left_out, kept) = (found.left_out, ADDRESSES_MAX);
                tracing::warn!(service = %id, cluster = %of, left_out, kept, "too many addresses");
            }
            self.metrics.left_out(id.as_str(), found.left_out);
            tracing::info!(service = %id, cluster = %of, addresses, "the cluster has told endpoints");
            // Zones first: addresses are told apart by them.
            if before.is_none_or(|before| before.zones != found.zones) {
                let zones = found.zones.clone();
                self.inputs.send(Input::Zoned { service: id.clone(), zones }).await?;
            }
            if before.is_none_or(|before| before.addresses != found.addresses) {
                let (target, addresses) = (Target::Service(id.clone()), found.addresses.clone());
                self.inputs.send(Input::Resolved { target, addresses }).await?;
            }
            self.told.insert(id.clone(), found);
        }
        Ok(())
    }

    /// There is a watch.
    fn stands(&mut self) {
        if let LinkState::Away(since) = self.link.state {
            let (namespace, failures, away) = (&self.namespace, self.link.failures, since.elapsed());
            tracing::info!(namespace, failures, ?away, "the cluster's endpoints are followed");
            self.link.state = LinkState::Stands(Instant::now());
            self.link.logged = None;
        }
        self.metrics.connected(&self.namespace, true);
        self.metrics.away(&self.namespace, Duration::ZERO);
    }

    /// Notes a failure, and tells how long to wait.
    fn failed(&mut self, error: &Error) -> Duration {
        let reason = reason(error);
        if let LinkState::Stands(since) = self.link.state {
            if since.elapsed() >= STOOD {
                self.link.failures = 0;
            }
            self.link.state = LinkState::Away(Instant::now());
        }
        self.link.failures = self.link.failures.saturating_add(1);
        self.version = None;
        self.metrics.failed(&self.namespace, reason);
        self.metrics.connected(&self.namespace, false);
        if self.link.logged != Some(reason) {
            self.link.logged = Some(reason);
            self.log(reason, &chain(error));
        }
        // A kubeconfig, or what it names, may have been made right meanwhile.
        if reason == WatchFailure::Settings {
            self.access = None;
        }
        let asked = match error {
            Error::Busy { retry_after, .. } => retry_after.map(|after| after.min(RETRY_AFTER_MAX)),
            _ => None,
        };
        pause(self.link.failures, rand::random()).max(asked.unwrap_or_default())
    }

    fn log(&self, reason: WatchFailure, error: &str) {
        let namespace = &self.namespace;
        match (reason, &self.book) {
            (WatchFailure::Expired, _) => {
                tracing::info!(namespace, error, "the cluster's endpoints are listed again");
            }
            (_, Some(_)) => {
                let stays = "the cluster's endpoints cannot be followed; the last good ones stay";
                tracing::warn!(namespace, error, "{stays}");
            }
            (_, None) => {
                let waits = "waiting for the Kubernetes API: its services have no endpoints here until then, \
                             other regions serve them";
                tracing::warn!(namespace, error, "{waits}");
            }
        }
    }

    /// Waits, and tells meanwhile how old the endpoints are.
    async fn wait(&self, pause: Duration) {
        let until = Instant::now() + pause;
        loop {
            if let LinkState::Away(since) = self.link.state {
                self.metrics.away(&self.namespace, since.elapsed());
            }
            let next = until.min(Instant::now() + TOLD);
            sleep_until(next).await;
            if next == until {
                return;
            }
        }
    }
}

fn refused(message: &str) -> Error {
    Error::Refused { code: 200, message: message.to_owned() }
}

const fn reason(error: &Error) -> WatchFailure {
    match error {
        Error::Settings(_) => WatchFailure::Settings,
        Error::Unreachable(_) => WatchFailure::Unreachable,
        Error::Timeout(_) => WatchFailure::Timeout,
        Error::Denied(_) => WatchFailure::Denied,
        Error::Busy { .. } => WatchFailure::Busy,
        Error::Expired(_) => WatchFailure::Expired,
        Error::Conflict(_) | Error::Missing(_) | Error::Refused { .. } => WatchFailure::Refused,
    }
}

/// How long to wait after so many failures in a row: twice as long each time, of which the second half is
/// left to `random`, 0 to 1, so that edges that lost the API together do not come back together.
fn pause(failures: u32, random: f64) -> Duration {
    let longest = PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(PAUSE_MAX);
    longest.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_are_jittered() {
        for (failures, longest) in [(1, 500), (2, 1000), (3, 2000), (6, 15_000), (u32::MAX, 15_000)] {
            let longest = Duration::from_millis(longest);
            assert_eq!(pause(failures, 1.0), longest, "{failures} failures");
            assert_eq!(pause(failures, 0.0), longest / 2, "{failures} failures");
        }
    }
}
