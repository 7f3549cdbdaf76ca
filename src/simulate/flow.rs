//! Where users are and what they meet: resolvers that keep answers for their TTL, Route 53's choice
//! of a region for each place, and the way of requests through an edge. Flows are rates, not requests.
//!
//! Source of Route 53's choice: developer guide, "How Amazon Route 53 chooses records when health
//! checking is configured": the nearest entry of which any record is healthy; in it, the healthy
//! records by weight; when nothing is healthy, everything counts as healthy.

use super::cast::{Cast, Users};
use super::event::Event;
use super::invariants::Held;
use super::run::{Process, Run};
use super::world::Check;
use crate::domain::fleet::{Input, OutcomeResult, ServiceLoad};
use crate::domain::name::EntryId;
use crate::domain::snapshot::{Candidate, Gate, Place, ServiceSnapshot};
use crate::domain::time::Time;
use crate::domain::weights::WeightedSet;
use std::collections::BTreeMap;
use std::time::Duration;

/// Groups of resolvers of a place, whose answers expire one after the other.
const COHORTS: u32 = 6;
/// What a service takes for a request while it has room.
const SERVICE: Duration = Duration::from_millis(20);
/// Queues make a service this much slower at most.
const SLOWER_MAX: f64 = 20.0;

/// Resolvers with one answer: shares of their users by region.
#[derive(Debug, Clone)]
struct Cohort {
    until: Time,
    shares: Vec<(usize, f64)>,
}

/// What lasts from one look at the users to the next.
#[derive(Debug)]
pub(super) struct Flow {
    /// place -> name -> cohort.
    resolvers: Vec<Vec<Vec<Cohort>>>,
    /// `/health/gate` of each name, by region: the check attached to its records.
    gates: Vec<Vec<Check>>,
    /// Requests a second that reached each region's services.
    offered: Vec<f64>,
    served: Vec<Vec<Served>>,
}

impl Flow {
    pub(super) fn new(cast: &Cast) -> Self {
        let cohorts = |ttl: Duration| {
            let until = |k: u32| Time::ZERO + ttl * k / COHORTS;
            (0..COHORTS).map(|k| Cohort { until: until(k), shares: Vec::new() }).collect()
        };
        let names = || cast.names.iter().map(|name| cohorts(name.ttl)).collect();
        Self {
            resolvers: cast.users.iter().map(|_| names()).collect(),
            gates: vec![vec![Check::START; cast.regions.len()]; cast.names.len()],
            offered: vec![0.0; cast.regions.len()],
            served: Vec::new(),
        }
    }
}

/// What a share of the requests for one service meets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) share: f64,
    /// Beyond the way to the region.
    pub(super) latency: Duration,
    pub(super) answered: bool,
}

/// What requests that enter at one region meet.
#[derive(Debug, Clone, Default)]
struct Served {
    pieces: Vec<Piece>,
    /// Share that reached each region's service.
    lands: Vec<(usize, f64)>,
}

/// One attempt at one candidate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    /// Share that is answered well.
    well: f64,
    refused: bool,
    /// Reached the service, if only to be shed.
    lands: bool,
    latency: Duration,
    failed: Duration,
}

impl Attempt {
    /// What one request of many meets; `draw` is in 0..1.
    pub(super) fn outcome(&self, draw: f64) -> OutcomeResult {
        match self {
            Self { refused: true, .. } => OutcomeResult::Refused,
            _ if draw < self.well => OutcomeResult::Success,
            _ => OutcomeResult::Failure,
        }
    }
}

/// The share of what a region is asked that is not turned away.
fn admitted(offered_rps: f64, capacity_rps: Option<f64>) -> f64 {
    capacity_rps.map_or(1.0, |capacity| (capacity / offered_rps.max(1e-9)).clamp(0.0, 1.0))
}

impl Run<'_> {
    /// Looks at all users once.
    pub(super) fn flow(&mut self) -> Held {
        let after = self.cast.pace.flow;
        self.schedule(self.now + after, Event::Flow);
        self.world.check(self.now);
        self.see_gates();
        let mut flow = std::mem::replace(&mut self.flow, Flow::new_empty());
        self.resolve(&mut flow);
        flow.served.clear();
        for region in 0..self.cast.regions.len() {
            let served = (0..self.cast.services.len()).map(|s| self.served(region, s, &flow.offered));
            flow.served.push(served.collect());
        }
        let mut loads = vec![vec![ServiceLoad::default(); self.cast.services.len()]; self.cast.regions.len()];
        let mut names = vec![vec![0.0; self.cast.names.len()]; self.cast.regions.len()];
        self.send(&mut flow, &mut loads, &mut names);
        for (region, loads) in loads.iter_mut().enumerate() {
            let capacity = self.capacity(region);
            self.world.overloaded[region] = capacity.is_some_and(|c| flow.offered[region] > c * 1.001);
            let admitted = admitted(flow.offered[region], capacity);
            for load in loads {
                load.shed_rps = load.served_rps * (1.0 - admitted);
                load.served_rps *= admitted;
                load.in_flight = (load.served_rps * SERVICE.as_secs_f64()) as u32;
            }
        }
        let offered = flow.offered.clone();
        self.flow = flow;
        for edge in 0..self.edges.len() {
            // The processes of a region share what they count.
            let region = self.cast.region_of(edge);
            let served_rps = offered[region];
            let entered_rps = names[region].iter().sum();
            let names =
                self.cast.names.iter().map(|n| n.name.clone()).zip(names[region].iter().copied()).collect();
            let ids = self.cast.services.iter().map(|s| s.id.clone());
            let services = ids.zip(loads[region].iter().copied()).collect();
            self.feed(edge, Input::Load { entered_rps, names, served_rps, services })?;
        }
        Ok(())
    }

    fn see_gates(&mut self) {
        for (index, name) in self.cast.names.iter().enumerate() {
            for region in 0..self.cast.regions.len() {
                let asked = Some(name.name.as_str());
                let gate = self
                    .process_of(region)
                    .and_then(|p| Some(p.snapshot.as_ref()?.gate(asked, self.now.since(p.decided))));
                let closed = gate == Some(Gate::Closed);
                let seen = self.world.answers_checks(region) && !closed;
                self.flow.gates[index][region].sees(seen, self.cast.pace.witness_lag, self.now);
            }
        }
    }

    /// Resolvers whose answer is too old ask again.
    fn resolve(&self, flow: &mut Flow) {
        let lag = self.cast.pace.witness_lag;
        for (users, names) in self.cast.users.iter().zip(&mut flow.resolvers) {
            for (index, cohorts) in names.iter_mut().enumerate() {
                let name = &self.cast.names[index];
                let mut answer = None;
                for cohort in cohorts.iter_mut() {
                    // The first time all ask; from then on one after the other.
                    let first = cohort.shares.is_empty();
                    let over = cohort.until <= self.now;
                    if !first && !over {
                        continue;
                    }
                    let green = |region: usize| flow.gates[index][region].green(lag, self.now);
                    let shares = answer
                        .get_or_insert_with(|| route(&self.cast, users, &self.store.published[index], green));
                    cohort.shares.clone_from(shares);
                    if over {
                        cohort.until = self.now + name.ttl;
                    }
                }
            }
        }
    }

    /// Sends every user's requests the way that resolvers say; adds up what enters each region for each name, a
    /// second.
    fn send(&mut self, flow: &mut Flow, loads: &mut [Vec<ServiceLoad>], entered: &mut [Vec<f64>]) {
        flow.offered.fill(0.0);
        let parts = self.cast.names.len() as f64;
        for place in 0..self.cast.users.len() {
            let rps = self.demand(place) / parts;
            for (index, cohorts) in flow.resolvers[place].iter().enumerate() {
                let services = &self.cast.names[index].services;
                for (region, share) in cohorts.iter().flat_map(|c| &c.shares) {
                    let rps = rps * share / f64::from(COHORTS);
                    entered[*region][index] += rps;
                    let rps = rps / services.len().max(1) as f64;
                    let way = self.cast.users[place].rtt[*region];
                    for service in services {
                        let served = &flow.served[*region][*service];
                        loads[*region][*service].entered_rps += rps;
                        for (to, share) in &served.lands {
                            flow.offered[*to] += rps * share;
                            loads[*to][*service].served_rps += rps * share;
                        }
                        self.recorder.served(self.now, place, (rps, way), &served.pieces);
                    }
                }
            }
        }
        let entered: Vec<f64> = entered.iter().map(|names| names.iter().sum()).collect();
        self.recorder.entered(self.now, &entered);
    }

    /// Requests a second that users of a place send now.
    fn demand(&self, place: usize) -> f64 {
        const DAY: f64 = 86_400.0;
        let users = &self.cast.users[place];
        let hour = self.now.since(Time::ZERO).as_secs_f64() / DAY * std::f64::consts::TAU;
        users.rps * (1.0 + users.swing * hour.sin()) * self.world.surge[place]
    }

    /// Requests a second that a region serves in truth.
    fn capacity(&self, region: usize) -> Option<f64> {
        self.cast.capacity[region].map(|capacity| capacity * self.world.capacity[region])
    }

    /// The process of a region that answers checks and forwarded requests.
    pub(super) fn process_of(&self, region: usize) -> Option<&Process> {
        if self.world.silent[region] {
            return None;
        }
        self.cast.edges_of(region).find_map(|edge| self.edges[edge].as_ref())
    }

    /// What requests for a service that enter at a region meet.
    fn served(&self, region: usize, service: usize, offered: &[f64]) -> Served {
        let cast = &self.cast.services[service];
        let mut served = Served::default();
        let ready = |edge: &usize| {
            let process = self.edges[*edge].as_ref().filter(|_| !self.world.silent[region])?;
            process.snapshot.as_ref()?.services.get(&cast.id).map(|s| (*edge, s))
        };
        let processes: Vec<_> = self.cast.edges_of(region).filter_map(|edge| ready(&edge)).collect();
        for (edge, snapshot) in &processes {
            let attempts: Vec<(usize, Attempt)> = snapshot
                .candidates
                .iter()
                .map(|c| (self.cast.region(&c.region), self.attempt(*edge, c, service, offered)))
                .collect();
            served.add(snapshot, &attempts, cast.attempts, 1.0 / processes.len() as f64);
        }
        let found: f64 = served.pieces.iter().map(|p| p.share).sum();
        if found < 0.999 {
            let latency = cast.connect_timeout;
            served.pieces.push(Piece { share: 1.0 - found, latency, answered: false });
        }
        served
    }

    /// What one attempt at a candidate comes to.
    pub(super) fn attempt(
        &self,
        edge: usize,
        candidate: &Candidate,
        service: usize,
        offered: &[f64],
    ) -> Attempt {
        let (from, to) = (self.cast.region_of(edge), self.cast.region(&candidate.region));
        let connect = self.cast.services[service].connect_timeout;
        let lost = Attempt { well: 0.0, refused: false, lands: false, latency: connect, failed: connect };
        if to >= self.cast.regions.len() {
            return lost;
        }
        let own = candidate.place == Place::Own;
        let mut way = Duration::ZERO;
        if !own {
            let reached = self.world.passes(from, to).zip(self.world.passes(to, from));
            let Some((there, back)) = reached else { return lost };
            way = self.cast.rtt[from][to] + there + back;
            let Some(process) = self.process_of(to) else { return Attempt { failed: way, ..lost } };
            let of =
                |p: &Process| p.snapshot.as_ref()?.services.get(&self.cast.services[service].id).cloned();
            if !of(process).is_some_and(|s| s.accepts_forwarded) {
                return Attempt { refused: true, failed: way, ..lost };
            }
        }
        let up = |e: usize| self.world.pod_up(to, service, e);
        let up = if own {
            let known = candidate.endpoints.iter().filter_map(|e| self.cast.endpoint(e.address()));
            known.filter(|e| up(*e)).count() as f64 / candidate.endpoints.len().max(1) as f64
        } else {
            f64::from(u8::from(self.world.service_up(to, service)))
        };
        let gray = self.world.gray[to][service];
        let poisoned = self.world.poisoned(from, to, service);
        let capacity = self.capacity(to);
        let load = capacity.map_or(0.0, |capacity| offered[to] / capacity.max(1e-9));
        let admitted = admitted(offered[to], capacity);
        let well = if poisoned { 0.0 } else { up * (1.0 - gray.failing) * admitted };
        let slower = (1.0 / (1.0 - load).max(1e-9)).clamp(1.0, SLOWER_MAX);
        Attempt {
            well,
            refused: false,
            lands: up > 0.0,
            latency: way + SERVICE.mul_f64(slower) + gray.slower,
            failed: way + Duration::from_millis(5),
        }
    }

    /// By region, requests a second that reached its services at the last look.
    pub(super) fn offered(&self) -> &[f64] {
        &self.flow.offered
    }
}

impl Flow {
    fn new_empty() -> Self {
        Self { resolvers: Vec::new(), gates: Vec::new(), offered: Vec::new(), served: Vec::new() }
    }
}

impl Served {
    /// Adds the way of a share of the requests through one process: those that take a candidate try
    /// it first, then the others in their order.
    fn add(&mut self, snapshot: &ServiceSnapshot, attempts: &[(usize, Attempt)], tries: usize, weight: f64) {
        let mut left = weight;
        for (index, candidate) in snapshot.candidates.iter().enumerate() {
            let takes = left * candidate.share.clamp(0.0, 1.0);
            left -= takes;
            self.try_from(index, attempts, tries, takes);
        }
        self.try_from(0, attempts, tries, left);
    }

    fn try_from(&mut self, first: usize, attempts: &[(usize, Attempt)], tries: usize, share: f64) {
        if share < 1e-6 || attempts.is_empty() {
            return;
        }
        let (mut left, mut late) = (share, Duration::ZERO);
        let others = (0..attempts.len()).filter(|i| *i != first);
        for index in std::iter::once(first).chain(others).take(tries) {
            let (region, attempt) = &attempts[index];
            if attempt.lands {
                self.lands.push((*region, left));
            }
            let answered = left * attempt.well;
            if answered > 0.0 {
                let latency = late + attempt.latency;
                self.pieces.push(Piece { share: answered, latency, answered: true });
            }
            left -= answered;
            late += attempt.failed;
            if left < 1e-6 {
                return;
            }
        }
        self.pieces.push(Piece { share: left, latency: late, answered: false });
    }
}

/// What Route 53 answers the resolvers of a place: shares by region.
fn route(
    cast: &Cast,
    users: &Users,
    sets: &BTreeMap<EntryId, WeightedSet>,
    green: impl Fn(usize) -> bool,
) -> Vec<(usize, f64)> {
    // An entry lies where its region is; the one entry of the simple form lies everywhere.
    let distance = |entry: &EntryId| {
        let region = cast.regions.iter().position(|r| r.as_str() == entry.as_str());
        region.map_or(Duration::ZERO, |r| users.rtt[r])
    };
    let healthy = |set: &WeightedSet| set.iter().any(|(region, _)| green(cast.region(region)));
    let known = |set: &WeightedSet| set.iter().all(|(region, _)| cast.region(region) < cast.regions.len());
    let mut entries: Vec<_> = sets.iter().filter(|(_, set)| known(set)).collect();
    entries.sort_by_key(|(entry, _)| distance(entry));
    let nearest = entries.iter().find(|(_, set)| healthy(set)).or(entries.first());
    let Some((_, set)) = nearest else { return Vec::new() };
    let all = !healthy(set);
    let answering = set.iter().map(|(region, weight)| (cast.region(region), f64::from(weight.get())));
    let answering: Vec<_> = answering.filter(|(region, _)| all || green(*region)).collect();
    let total: f64 = answering.iter().map(|(_, weight)| weight).sum();
    answering.into_iter().map(|(region, weight)| (region, weight / total)).collect()
}
