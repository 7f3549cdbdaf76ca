//! One configuration's way to its names: the zone's API, the layouts, the health checks found.

use super::api::Api;
use super::checks::{CheckSpec, Checks};
use super::error::ApiError;
use super::layout::{Layout, edges};
use super::pace::{Pace, Rank};
use super::reader::{ReadError, Reading, read};
use super::seen::Seen;
use super::writer::{Writer, Written};
use crate::aws::Session;
use crate::clock::Clock;
use crate::clock::wall_clock;
use crate::config::{Config, Dns};
use crate::domain::name::DnsName;
use crate::domain::plan::Plan;
use crate::domain::policy::Policy;
use crate::error_chain::chain;
use crate::metrics::dns::DnsMetrics;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tracing::{error, warn};

/// Everything about the zone that one configuration asks for.
#[derive(Debug)]
pub struct Provider {
    pub api: Api,
    pub dns: Dns,
    pub policy: Arc<Policy>,
    pub clock: Clock,
    layouts: BTreeMap<DnsName, Layout>,
    /// The witnesses of the other regions that any name uses.
    edges: Vec<CheckSpec>,
    checks: ArcSwap<Checks>,
    seen: Mutex<Seen>,
    /// Asks the poll to read at once.
    pub nudge: Notify,
    /// Plans that were found to rest on old records: a reading that began before is older than that.
    pub conflicts: AtomicU64,
}

impl Provider {
    /// `None` when the configuration has no `[dns]`.
    pub fn of(config: &Config, session: &Session, clock: Clock, metrics: Arc<DnsMetrics>) -> Option<Self> {
        let dns = config.dns.clone()?;
        let own = &config.policy.own;
        let mut layouts = BTreeMap::new();
        for name in config.policy.names.keys() {
            match Layout::of(config, name) {
                Ok(layout) => {
                    layouts.insert(name.clone(), layout);
                }
                Err(problem) => error!(%name, "left alone: {}", chain(&problem)),
            }
        }
        let edges = edges(config, layouts.values()).into_iter();
        let edges = edges.filter(|edge| edge.region != *own).collect();
        let pace = Pace::shared(dns.requests_per_second, config.regions.len());
        Some(Self {
            api: Api::connect(&dns, session, metrics).paced(pace),
            dns,
            policy: Arc::clone(&config.policy),
            clock,
            layouts,
            edges,
            checks: ArcSwap::default(),
            seen: Mutex::default(),
            nudge: Notify::new(),
            conflicts: AtomicU64::new(0),
        })
    }

    /// Goes on with what `before`, of the configuration before, has found out at the same server.
    pub fn take_over(&mut self, before: &Self) {
        if self.dns.endpoint != before.dns.endpoint || self.dns.zone_id != before.dns.zone_id {
            return;
        }
        self.checks.store(before.checks());
        let seen = before.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.seen = Mutex::new(seen);
    }

    pub fn layouts(&self) -> impl Iterator<Item = &Layout> {
        self.layouts.values()
    }

    pub fn layout(&self, name: &DnsName) -> Option<&Layout> {
        self.layouts.get(name)
    }

    pub fn edges(&self) -> &[CheckSpec] {
        &self.edges
    }

    pub fn checks(&self) -> Arc<Checks> {
        self.checks.load_full()
    }

    /// Whether a check that the configuration asks for has not been found yet.
    pub fn lacks_checks(&self) -> bool {
        let checks = self.checks();
        let gates = self.layouts.values().flat_map(Layout::gates);
        self.edges.iter().chain(gates).any(|spec| checks.find(spec).is_none())
    }

    /// Forgets checks that Route 53 does not know any more, so that they are looked up again.
    pub fn forget<'a>(&self, gone: impl IntoIterator<Item = &'a str>) {
        let gone: Vec<&str> = gone.into_iter().collect();
        if !gone.is_empty() {
            self.checks.rcu(|checks| checks.without(&gone));
        }
    }

    /// Looks the health checks up anew.
    ///
    /// # Errors
    /// Those of the listing; the checks known before stay.
    pub async fn refresh_checks(&self) -> Result<(), ApiError> {
        self.checks.store(Arc::new(Checks::read(&self.api).await?));
        Ok(())
    }

    /// Reads one name and shows it in the metrics.
    ///
    /// # Errors
    /// What [`read`] has against it.
    pub async fn read(&self, layout: &Layout) -> Result<Reading, ReadError> {
        let mut reading = read(&self.api, layout, &self.checks(), &self.clock).await;
        if let Ok(reading) = &mut reading {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let edits = seen.note(&layout.name, &mut reading.state);
            drop(seen);
            for edit in edits {
                warn!(name = %layout.name, "weights edited by hand, taken as they are: {edit}");
            }
        }
        let metrics = self.api.metrics();
        match &reading {
            Ok(reading) => {
                let state = &reading.state;
                metrics.drifted(&layout.name, 0);
                metrics.read(&layout.name, state.fence.generation, state.operator.is_frozen(), wall_clock());
                if let Some(policy) = self.policy.names.get(&layout.name) {
                    metrics.applied(&layout.name, policy, &state.sets);
                }
            }
            Err(error) => {
                if let ReadError::Records(records) = error {
                    metrics.drifted(&layout.name, records.len());
                }
                metrics.read_failed();
            }
        }
        reading
    }

    /// Carries out a plan, whatever the mode.
    pub async fn submit(&self, plan: &Plan) -> Written {
        let written = match self.layout(&plan.name) {
            Some(layout) => {
                let checks = self.checks();
                let api = self.api.ranked(Rank::Write);
                let writer = Writer { api: &api, layout, checks: &checks, clock: &self.clock };
                let written = writer.submit(plan).await;
                if matches!(written, Written::Gone(_)) {
                    self.forget(layout.gates().filter_map(|gate| checks.id(gate)));
                }
                written
            }
            None => Written::Failed(format!("'{}' is not configured", plan.name)),
        };
        self.api.metrics().changed(written.as_str());
        written
    }
}
