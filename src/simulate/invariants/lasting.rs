//! What must hold for as long as something lasts: who is moved in the end, what requests read, and
//! that all comes home.

use super::grounds::{consistent, is_home, ranked};
use super::{Held, Invariants, Rule, Truth};
use crate::domain::health::State;
use crate::domain::name::{RegionId, ServiceId};
use crate::domain::snapshot::{Gate, NameStatus, Place, Snapshot};
use crate::domain::votes::Verdict;
use crate::simulate::cast::NameCast;
use crate::simulate::store::Stored;
use crate::simulate::world::Trouble;
use std::time::Duration;

impl Invariants {
    /// From time to time: what only time shows.
    pub fn audited(&mut self, truth: &Truth<'_>, snapshots: &[Option<&Snapshot>]) -> Held {
        let n = truth.cast.regions.len();
        let at_home = |(cast, stored): (&NameCast, &Stored)| {
            cast.home.iter().all(|(entry, home)| stored.sets.get(entry).is_some_and(|set| is_home(set, home)))
        };
        let home = truth.cast.names.iter().zip(&truth.store.names).all(at_home);
        let well = (0..n).all(|r| truth.world.trouble[r].iter().all(|t| !t.now));
        let world = truth.world;
        let usual = world.plain && world.surge.iter().all(|s| *s == 1.0);
        if !home || !well || !usual || world.suspect.iter().any(|s| s.now) {
            self.unsteady_at = truth.now;
        }
        // Caches have expired and every edge has told what enters there.
        let settles = truth.cast.pace.flow * 3
            + truth.cast.failover().view_fresh
            + truth.cast.names.iter().map(|n| n.ttl).max().unwrap_or_default();
        let steady = truth.now.since(self.unsteady_at) > settles;
        // An edge takes what enters for what entries send while all sets are at home. Health checks that
        // already turn users away then make it take the wrong number.
        let hold_down = truth.cast.failover().hold_down;
        let turned_away = (0..n).any(|r| {
            let closes = |t: &Trouble| t.longer_than(hold_down / 2, truth.now);
            !world.green(r, truth.now) || world.trouble[r].iter().any(closes)
        }) || truth.store.names.iter().any(|stored| !stored.drains.is_empty());
        let usual = usual && !(home && turned_away);
        for (knows, started) in self.knows_demand.iter_mut().zip(&self.started) {
            let seen = steady && truth.now.since(*started) > settles;
            *knows = usual && (*knows || seen);
        }
        self.latched(truth, snapshots)?;
        self.evacuated(truth)
    }

    /// Whether a gate has been closed for longer than anything could call for it.
    fn latched(&mut self, truth: &Truth<'_>, snapshots: &[Option<&Snapshot>]) -> Held {
        for (edge, snapshot) in snapshots.iter().enumerate() {
            let region = truth.cast.region_of(edge);
            let world = truth.world;
            // Its gate is open then, whatever its last snapshot says.
            let stalled = world.stalled[region] || truth.now.since(world.awake_since[region]) <= truth.told();
            let deaf = !world.reaches_api(region) || world.api_slow || world.throttled_percent > 0;
            for (name, cast) in truth.cast.names.iter().enumerate() {
                let status = snapshot.and_then(|s| s.names.get(&cast.name));
                let closed = status.is_some_and(|status| status.gate == Gate::Closed);
                let drained = truth.store.names[name].drains.contains(&truth.cast.regions[region]);
                // Who cannot read does not know that a drain is over.
                let holds = |s: &NameStatus| s.operator.drains.contains_key(&truth.cast.regions[region]);
                let unread = deaf && status.is_some_and(holds);
                let called = drained || unread || stalled || truth.any(name, region, |t| t.now);
                let since = &mut self.latched[edge][name];
                *since = if closed && !called { since.or(Some(truth.now)) } else { None };
                // A drain that is over is told by the next read that succeeds.
                let over = truth.told() + truth.cast.pace.dns_poll + truth.cast.pace.api_timeout;
                let odd = truth.world.odd_at.is_some_and(|at| truth.now.since(at) <= over);
                let latched = since.is_some_and(|at| truth.now.since(at) > over) && !odd;
                truth.require(!latched, Rule::GateLatched, || {
                    format!("{} has closed the gate of {}", truth.cast.regions[region], cast.name)
                })?;
            }
        }
        Ok(())
    }

    /// Whether a dead region's users were moved.
    fn evacuated(&self, truth: &Truth<'_>) -> Held {
        let n = truth.cast.regions.len();
        for (name, stored) in truth.store.names.iter().enumerate() {
            let well = (0..n).filter(|r| !truth.any(name, *r, |t| t.now)).count();
            let enough = (n == 2 && well == 1) || well > n / 2;
            let plain = truth.world.plain && !stored.frozen && stored.drains.is_empty();
            let least = truth.cast.failover().min_live.max(truth.cast.failover().require_operator_below);
            if !plain || !enough || well < least {
                continue;
            }
            let calm = truth.world.changed_at.max(self.edited[name]);
            let young = self.last_stamp[name].is_some_and(|at| {
                let since = truth.now.since(at);
                since < truth.evacuated() + truth.cast.failover().hold_down
            });
            // Undoing another region's change has to wait for the hold-down.
            let patience =
                truth.evacuated() + if young { truth.cast.failover().hold_down } else { Duration::ZERO };
            for (region, id) in truth.cast.regions.iter().enumerate() {
                let dead = truth.any(name, region, |t| t.longer_than(patience, truth.now));
                let holds = stored.sets.values().any(|set| set.get(id).is_some());
                if dead && holds && truth.now.since(calm) > patience {
                    let sets = &stored.sets;
                    let text = format!("{id} is dead for more than {patience:?} and has users: {sets:?}");
                    return truth.broken(Rule::NotEvacuated, text);
                }
            }
        }
        Ok(())
    }

    /// Every snapshot that an edge publishes.
    pub fn published(&self, truth: &Truth<'_>, edge: usize, snapshot: &Snapshot) -> Held {
        let own = truth.cast.region_of(edge);
        for (index, cast) in truth.cast.services.iter().enumerate() {
            let id = &cast.id;
            let Some(service) = snapshot.services.get(id) else {
                return truth.broken(Rule::Snapshot, format!("{id} is missing"));
            };
            let shown = || format!("edge {}, {service:?}", truth.cast.regions[own]);
            ranked(service).or_else(|text| truth.broken(Rule::Ranked, format!("{text}: {}", shown())))?;
            let known = !service.endpoints.is_empty() || snapshot.peers.values().any(|p| !p.is_empty());
            truth.require(!known || !service.candidates.is_empty(), Rule::Snapshot, || {
                format!("no candidate: {}", shown())
            })?;
            consistent(service, &snapshot.own)
                .or_else(|text| truth.broken(Rule::Snapshot, format!("{text}: {}", shown())))?;
            for candidate in service.candidates.iter().filter(|c| c.place == Place::Peer && !service.panic) {
                let trouble = truth.world.trouble[truth.cast.region(&candidate.region)][index];
                // One that starts takes what it first hears for better than nothing, whatever its age.
                let since = truth.world.awake_since[own].max(self.started[edge]);
                let awake = truth.now.since(since) > truth.told();
                let stale = awake
                    && trouble.longer_than(truth.told_of(truth.cast.region(&candidate.region)), truth.now);
                truth.require(!stale, Rule::Snapshot, || {
                    format!("{} is long dead and a candidate: {}", candidate.region, shown())
                })?;
            }
        }
        Ok(())
    }

    /// Whether an edge sees a service in a region as it should be when all is well: where packets are lost, three
    /// probes in a row fail now and then, and a region that has often been down waits for long after each time.
    fn excused(&mut self, of: (usize, &ServiceId, &RegionId), state: State, truth: &Truth<'_>) -> bool {
        let (edge, service, region) = of;
        let of = (edge, service.clone(), region.clone());
        if state == State::Healthy {
            self.ill_since.remove(&of);
            return true;
        }
        let since = *self.ill_since.entry(of).or_insert(truth.now);
        let health = truth.cast.health();
        let patience = health.ejection_max + health.probation + truth.noticed();
        truth.world.loss_percent > 0 && truth.now.since(since) <= patience
    }

    /// Why all is not back to normal yet; `None` when it is.
    pub fn unsettled(&mut self, truth: &Truth<'_>, snapshots: &[Option<&Snapshot>]) -> Option<String> {
        for (cast, stored) in truth.cast.names.iter().zip(&truth.store.names) {
            let away = cast
                .home
                .iter()
                .find(|(entry, home)| !stored.sets.get(*entry).is_some_and(|set| is_home(set, home)));
            if let Some((entry, _)) = away {
                return Some(format!("entry {entry} of {} holds {:?}", cast.name, stored.sets.get(entry)));
            }
        }
        for (number, snapshot) in snapshots.iter().enumerate() {
            let own = truth.cast.region_of(number);
            let edge = &truth.cast.regions[own];
            let Some(snapshot) = snapshot else { return Some(format!("edge {edge} publishes nothing")) };
            for cast in &truth.cast.services {
                let Some(service) = snapshot.services.get(&cast.id) else { continue };
                let has = |region: &RegionId| cast.regions.get(truth.cast.region(region)) == Some(&true);
                let mut states = service.states.iter();
                let bad = states.find(|(r, s)| !self.excused((number, &cast.id, r), **s, truth) && has(r));
                if let Some((region, state)) = bad {
                    return Some(format!("edge {edge} sees {} in {region} as {state:?}", service.id));
                }
                if cast.regions[own] && service.candidates.first().is_none_or(|c| c.place != Place::Own) {
                    return Some(format!("edge {edge} does not serve {} itself", service.id));
                }
            }
            for (name, status) in &snapshot.names {
                let home = truth.cast.name(name).map(|name| &truth.cast.names[name].home);
                let holds = |region: &RegionId| {
                    home.is_some_and(|home| home.values().any(|set| set.get(region).is_some()))
                };
                let bad = status.verdicts.iter().find(|(region, v)| **v != Verdict::Up && holds(region));
                if let Some((region, verdict)) = bad {
                    return Some(format!("edge {edge} sees {region} for {name} as {verdict:?}"));
                }
            }
        }
        None
    }
}
