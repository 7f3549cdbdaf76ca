//! What protects services from too much: the counters behind `domain::limit`.
//!
//! Shared by all requests, and kept across reloads while their rules are the
//! same: a reload forgives nobody.

use crate::config::Config;
use crate::config::limits::{Protection, RateBy, RateLimit};
use crate::domain::hash::HashKey;
use crate::domain::limit::affinity::Affinity;
use crate::domain::limit::budget::Budget;
use crate::domain::limit::concurrency::{Bound, Limiter};
use crate::domain::limit::hedge::Hedge;
use crate::domain::limit::rate::{RateAnswer, RateKey, RateTable};
use crate::domain::name::{RouteId, ServiceId};
use crate::domain::time::Time;
use crate::metrics::request::RequestMetrics;
use crate::proxy::policy::SessionRule;
use http::HeaderMap;
use prometheus::IntCounter;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// What keys the hashes of sessions, by service.
pub type Secrets = BTreeMap<ServiceId, HashKey>;

/// Every guard of a configuration.
#[derive(Debug, Default)]
pub struct Guards {
    rates: BTreeMap<String, NamedRate>,
    services: BTreeMap<ServiceId, ServiceGuards>,
}

#[derive(Debug, Clone)]
struct NamedRate {
    limit: RateLimit,
    table: Arc<RateTable>,
    /// Requests that it refused.
    refused: IntCounter,
    /// Keys that its table forgot too early.
    forgotten: IntCounter,
}

/// The guards of one service.
#[derive(Debug, Clone)]
pub struct ServiceGuards {
    rules: Protection,
    pub retries: Arc<Budget>,
    /// `None`: any number in flight.
    pub concurrency: Option<Arc<Limiter>>,
    /// `None`: every request goes where it is served best.
    pub sessions: Option<SessionRule>,
    /// `None`: slow requests are waited for.
    pub hedge: Option<Arc<Hedge>>,
}

impl ServiceGuards {
    /// Whether a request counts as in flight to the end of its answer; an adaptive bound learns
    /// from heads, and a long stream must not use it up.
    pub fn counts_to_the_end(&self) -> bool {
        self.rules.concurrency.is_some_and(|policy| matches!(policy.bound, Bound::Fixed(_)))
    }
}

/// Whose request a rate limit counts.
#[derive(Debug, Clone, Copy)]
pub struct RateFacts<'a> {
    pub route: &'a RouteId,
    /// Those without an address count as one.
    pub client: Option<IpAddr>,
    pub headers: &'a HeaderMap,
}

impl Guards {
    /// Those of `config`; what `before` has under the same rules goes on. `random` keys the tables,
    /// so that nobody can choose who shares a place with whom.
    pub fn new(
        config: &Config,
        secrets: &Secrets,
        before: &Self,
        metrics: &RequestMetrics,
        random: (u64, u64),
        now: Time,
    ) -> Self {
        let rates = config.rate_limits.iter().map(|(name, limit)| {
            let known = before.rates.get(name).filter(|known| known.limit == *limit).cloned();
            let new = || {
                let secret = HashKey::new(random.0, random.1).derive(name);
                let table = Arc::new(RateTable::new(limit.rate, limit.keys_max, secret));
                let (refused, forgotten) = metrics.rate_limit(name);
                NamedRate { limit: limit.clone(), table, refused, forgotten }
            };
            (name.clone(), known.unwrap_or_else(new))
        });
        let services = config.services.iter().map(|(id, service)| {
            let rules = &service.protection;
            let known = before.services.get(id);
            let retries = known.filter(|known| known.rules.retry_budget == rules.retry_budget);
            let retries = retries.map(|known| Arc::clone(&known.retries));
            let bound = known.filter(|known| known.rules.concurrency == rules.concurrency);
            let bound = bound.map(|known| known.concurrency.clone());
            // Without a secret all edges hash alike, too: nothing that the client sees is made of it.
            let secret = secrets.get(id).copied().unwrap_or(HashKey::new(0, 0));
            let sessions = rules.affinity.as_ref().map(|rule| SessionRule {
                affinity: Affinity::new(secret, id.as_str()),
                by: rule.by.clone(),
            });
            let hedge = known.filter(|known| known.rules.hedging == rules.hedging);
            let hedge = hedge.map(|known| known.hedge.clone());
            let guards = ServiceGuards {
                sessions,
                hedge: hedge.unwrap_or_else(|| rules.hedging.map(|policy| Arc::new(Hedge::new(policy)))),
                rules: rules.clone(),
                retries: retries.unwrap_or_else(|| Arc::new(Budget::new(rules.retry_budget))),
                concurrency: bound.unwrap_or_else(|| {
                    rules.concurrency.map(|policy| Arc::new(Limiter::new(policy, random.0, now)))
                }),
            };
            (id.clone(), guards)
        });
        Self { rates: rates.collect(), services: services.collect() }
    }

    pub fn service(&self, service: &ServiceId) -> Option<&ServiceGuards> {
        self.services.get(service)
    }

    /// Counts a request against named limits; `Some`: it comes too early, and when to come again.
    pub fn rated(&self, names: &[String], facts: RateFacts<'_>, now: Time) -> Option<Duration> {
        names.iter().filter_map(|name| self.rates.get(name)).find_map(|named| {
            let client = facts.client.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            let key = match &named.limit.key {
                RateBy::Client => RateKey::Client(client),
                RateBy::Route => RateKey::Route(facts.route.as_str()),
                RateBy::Header(name) => facts
                    .headers
                    .get(name)
                    .map_or(RateKey::Client(client), |value| RateKey::Header(value.as_bytes())),
            };
            let answer = named.table.check(key, now);
            named.forgotten.inc_by(named.table.take_forgotten());
            match answer {
                RateAnswer::Allowed => None,
                RateAnswer::Limited { retry_after } => {
                    named.refused.inc();
                    Some(retry_after)
                }
            }
        })
    }
}
