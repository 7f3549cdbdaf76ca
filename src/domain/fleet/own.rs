//! Services in the own region: endpoints, and what they add up to.

use super::{
    EndpointAnswer, Fleet, Outcome, OutcomeResult, OutcomeRun, Output, ProbeFailure, Target, Transition,
    watch,
};
use crate::domain::endpoint::Endpoint;
use crate::domain::health::{EjectionReason, Health, HealthPolicy, Room, State, Word};
use crate::domain::limit::outlier::{Observation, outliers, room, slow_start};
use crate::domain::name::ServiceId;
use crate::domain::policy::Policy;
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One service in the own region.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct OwnService {
    pub(super) endpoints: BTreeMap<SocketAddr, OwnEndpoint>,
    /// Active side: from the endpoints' probes. Passive side: from outcomes of all of them.
    pub(super) health: Health,
    shown: Option<State>,
    /// When the endpoints were last compared.
    compared: Time,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OwnEndpoint {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) health: Health,
    /// Outcomes since the endpoints were last compared.
    good: u32,
    bad: u32,
    /// Of the good ones.
    latency_sum: Duration,
    start: Start,
}

/// Whether an endpoint starts slowly.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Start {
    /// It was there first, or has started: nobody else could take its part.
    Done,
    /// It joined others, and has not served yet.
    Joined,
    Serving {
        since: Time,
    },
}

impl OwnEndpoint {
    fn new(address: SocketAddr, start: Start) -> Self {
        let endpoint = Arc::new(Endpoint::new(address));
        Self { endpoint, health: Health::default(), good: 0, bad: 0, latency_sum: Duration::ZERO, start }
    }

    /// Hands its share to those who pick: of a return, or of a first start.
    fn share(&mut self, now: Time, policy: &HealthPolicy) {
        if !self.health.state().usable() {
            // As a last resort all are alike.
            self.endpoint.set_share(1.0);
            return;
        }
        let started = match self.start {
            Start::Done => 1.0,
            Start::Joined => {
                self.start = Start::Serving { since: now };
                slow_start(Duration::ZERO, policy.probation)
            }
            Start::Serving { since } => slow_start(now.since(since), policy.probation),
        };
        if started >= 1.0 {
            self.start = Start::Done;
        }
        self.endpoint.set_share(started.min(self.health.share(now, policy)));
    }

    /// What was seen since the last call; nothing of one that does not serve.
    fn observe(&mut self) -> Observation {
        let (good, bad) = (std::mem::take(&mut self.good), std::mem::take(&mut self.bad));
        let latency = std::mem::take(&mut self.latency_sum).checked_div(good);
        if self.health.state().usable() { Observation { good, bad, latency } } else { Observation::default() }
    }
}

impl OwnService {
    /// Up while any endpoint is, down when all are known to be, else unknown.
    fn endpoints_word(&self) -> Word {
        let words = || self.endpoints.values().map(|e| e.health.word().0);
        if words().any(|word| word == Word::Up) {
            Word::Up
        } else if !self.endpoints.is_empty() && words().all(|word| word == Word::Down) {
            Word::Down
        } else {
            Word::Unknown
        }
    }

    /// The active side follows the endpoints at once; they were counted by `fall` and `rise` already.
    fn follow(&mut self, policy: &Policy, now: Time) {
        match (self.endpoints_word(), self.health.word().0) {
            (Word::Up, Word::Unknown) => self.health.probe_succeeded(now, &policy.health),
            (Word::Up, Word::Down) => self.health.declared_up(now, &policy.health),
            (Word::Down, Word::Unknown | Word::Up) => self.health.declared_down(now, &policy.health),
            (Word::Up, Word::Up) | (Word::Down, Word::Down) | (Word::Unknown, _) => {}
        }
    }

    /// How many more endpoints outcomes may eject.
    fn room(&self, policy: &HealthPolicy) -> usize {
        let ejected = self.endpoints.values().filter(|e| e.health.ejected_by_outcomes()).count();
        room(self.endpoints.len(), ejected, &policy.outlier)
    }

    /// Ejects those that do worse than the others, once in a window; by their indices.
    fn compare(&mut self, policy: &HealthPolicy, now: Time) -> BTreeMap<usize, EjectionReason> {
        if now.since(self.compared) < policy.failure_window {
            return BTreeMap::new();
        }
        self.compared = now;
        let room = self.room(policy);
        let observations: Vec<Observation> = self.endpoints.values_mut().map(OwnEndpoint::observe).collect();
        let ejected: BTreeMap<_, _> =
            outliers(&observations, &policy.outlier).into_iter().take(room).collect();
        for (index, endpoint) in self.endpoints.values_mut().enumerate() {
            if ejected.contains_key(&index) {
                endpoint.health.eject(now, policy);
            }
        }
        ejected
    }

    /// Lets time pass and tells a change of state.
    pub(super) fn advance(&mut self, id: &ServiceId, policy: &Policy, now: Time, outputs: &mut Vec<Output>) {
        let before: Vec<State> = self.endpoints.values().map(|e| e.health.state()).collect();
        let ejected = self.compare(&policy.health, now);
        for (index, ((address, endpoint), from)) in self.endpoints.iter_mut().zip(before).enumerate() {
            endpoint.health.advance(now, &policy.health);
            endpoint.share(now, &policy.health);
            let moved = (from, endpoint.health.state());
            tell_endpoint(id, *address, moved, ejected.get(&index).copied(), outputs);
        }
        self.follow(policy, now);
        self.health.advance(now, &policy.health);
        let to = self.health.state();
        let from = self.shown.replace(to).unwrap_or(State::Unknown);
        if from != to {
            let (service, region) = (id.clone(), policy.own.clone());
            outputs.push(Output::Moved(Transition::Service { service, region, from, to }));
        }
    }

    /// Endpoints to send requests to: the usable ones; when those are none, or fail one and all,
    /// every one that probes do not hold down; without any of those, all.
    pub(super) fn serving(&self, policy: &HealthPolicy) -> Arc<[Arc<Endpoint>]> {
        let filtered = |keep: &dyn Fn(&OwnEndpoint) -> bool| -> Vec<Arc<Endpoint>> {
            self.endpoints.values().filter(|e| keep(e)).map(|e| Arc::clone(&e.endpoint)).collect()
        };
        // When whoever is left fails, too, the fault is not the endpoints', and few must not carry all.
        let serves = |e: &OwnEndpoint| e.health.state().usable();
        if self.endpoints.values().any(|e| serves(e) && !e.health.failing(policy)) {
            return filtered(&serves).into();
        }
        let not_down = filtered(&|e| e.health.word().0 != Word::Down);
        if !not_down.is_empty() {
            return not_down.into();
        }
        filtered(&|_| true).into()
    }
}

/// `reason`: of an ejection, if it is one.
fn tell_endpoint(
    service: &ServiceId,
    address: SocketAddr,
    (from, to): (State, State),
    reason: Option<EjectionReason>,
    outputs: &mut Vec<Output>,
) {
    if from != to {
        let (service, ejected) = (service.clone(), reason.filter(|_| to == State::Ejected));
        outputs.push(Output::Moved(Transition::Endpoint { service, address, from, to, ejected }));
    }
}

impl Fleet {
    /// Statistics and health of addresses that stay are carried over.
    pub(super) fn resolved(&mut self, target: &Target, addresses: Vec<SocketAddr>) {
        self.dirty = true;
        match target {
            Target::Service(service) => {
                let Some(own) = self.services.get_mut(service) else { return };
                own.endpoints.retain(|address, _| addresses.contains(address));
                let start = if own.endpoints.is_empty() { Start::Done } else { Start::Joined };
                for address in addresses {
                    own.endpoints.entry(address).or_insert_with(|| OwnEndpoint::new(address, start));
                }
                // As before the first address: nothing is known of it, and nothing is said.
                if own.endpoints.is_empty() {
                    own.health = Health::default();
                }
            }
            Target::Peer(region) => {
                // A region without an address is no news: the last good answer stays.
                if addresses.is_empty() {
                    return;
                }
                let Some(peer) = self.peers.get_mut(region) else { return };
                peer.resolved(&addresses);
            }
        }
    }

    pub(super) fn endpoint_probed(
        &mut self,
        (service, address): (&ServiceId, SocketAddr),
        result: Result<EndpointAnswer, ProbeFailure>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let policy = &self.policy.health;
        let Some(own) = self.services.get_mut(service) else { return };
        let Some(endpoint) = own.endpoints.get_mut(&address) else { return };
        let from = endpoint.health.state();
        match result {
            Ok(answer) => {
                endpoint.health.probe_succeeded(now, policy);
                endpoint.health.says_draining(answer == EndpointAnswer::Draining);
            }
            Err(_) => endpoint.health.probe_failed(now, policy),
        }
        let to = endpoint.health.state();
        self.dirty |= from != to;
        tell_endpoint(service, address, (from, to), Some(EjectionReason::Probes), outputs);
    }

    /// The same as each of them by itself, in order.
    pub(super) fn outcomes(&mut self, runs: &[OutcomeRun], now: Time, outputs: &mut Vec<Output>) {
        for run in runs {
            let own = self.services.get_mut(&run.outcome.service);
            let endpoint = own.and_then(|own| own.endpoints.get_mut(&run.outcome.address));
            let own_region = run.outcome.region == self.policy.own;
            if let Some(endpoint) = endpoint.filter(|_| own_region && run.is_success()) {
                endpoint.latency_sum = endpoint.latency_sum.saturating_add(run.latency);
            }
            for _ in 0..run.count {
                self.outcome(&run.outcome, now, outputs);
            }
        }
    }

    fn outcome(&mut self, outcome: &Outcome, now: Time, outputs: &mut Vec<Output>) {
        let policy = &self.policy.health;
        let success = outcome.result == OutcomeResult::Success;
        if outcome.region != self.policy.own {
            let Some(peer) = self.peers.get_mut(&outcome.region) else { return };
            self.dirty |= peer.outcome(&outcome.service, outcome.result, now, policy);
            return;
        }
        let Some(own) = self.services.get_mut(&outcome.service) else { return };
        self.dirty |= watch(&mut own.health, |health| health.outcome(success, now, policy));
        let room = if success || own.room(policy) > 0 { Room::Free } else { Room::Full };
        if let Some(endpoint) = own.endpoints.get_mut(&outcome.address) {
            let from = endpoint.health.state();
            let count = if success { &mut endpoint.good } else { &mut endpoint.bad };
            *count = count.saturating_add(1);
            let reason = endpoint.health.outcome_with(room, success, now, policy);
            let to = endpoint.health.state();
            self.dirty |= from != to || room == Room::Full;
            tell_endpoint(&outcome.service, outcome.address, (from, to), reason, outputs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fleet::{Input, Probe};
    use crate::domain::name::RegionId;
    use crate::domain::policy::{FailoverPolicy, RegionPolicy, Steering};
    use crate::domain::selection::Margin;

    /// One region, one service; what happens to its endpoints.
    struct Case {
        fleet: Fleet,
        now: Time,
        /// Of ejections, in their order.
        reasons: Vec<EjectionReason>,
    }

    fn web() -> ServiceId {
        ServiceId::parse("web").unwrap()
    }

    fn here() -> RegionId {
        RegionId::parse("here").unwrap()
    }

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 8080))
    }

    impl Case {
        fn new(endpoints: u8) -> Self {
            let policy = Policy {
                own: here(),
                regions: [(here(), RegionPolicy::default())].into(),
                services: [web()].into(),
                routes: Arc::default(),
                names: BTreeMap::new(),
                health: HealthPolicy::default(),
                margin: Margin::default(),
                rtt_window: Duration::from_secs(30),
                failover: FailoverPolicy::default(),
                steering: Steering::default(),
            };
            let (fleet, now) = (Fleet::new(Arc::new(policy), 1), Time::from_millis(1));
            let mut case = Self { fleet, now, reasons: Vec::new() };
            case.resolve(endpoints);
            case
        }

        fn resolve(&mut self, endpoints: u8) {
            let addresses: Vec<SocketAddr> = (0..endpoints).map(address).collect();
            self.handle(Input::Resolved { target: Target::Service(web()), addresses: addresses.clone() });
            for address in addresses {
                self.handle(Input::Probed(Probe::Endpoint {
                    service: web(),
                    address,
                    result: Ok(EndpointAnswer::Well),
                }));
            }
        }

        fn handle(&mut self, input: Input) {
            for output in self.fleet.handle(input, self.now) {
                if let Output::Moved(Transition::Endpoint { ejected, .. }) = output {
                    self.reasons.extend(ejected);
                }
            }
        }

        /// Lets a second pass.
        fn tick(&mut self) {
            for _ in 0..4 {
                self.now = self.now + Duration::from_millis(250);
                self.handle(Input::Tick);
            }
        }

        fn outcome(&mut self, n: u8, latency: Option<u64>) {
            let result = if latency.is_some() { OutcomeResult::Success } else { OutcomeResult::Failure };
            let outcome = Outcome { service: web(), region: here(), address: address(n), result };
            let latency = Duration::from_millis(latency.unwrap_or_default());
            self.handle(Input::Outcomes(vec![OutcomeRun::one(outcome, latency)]));
        }

        fn ejected(&self) -> Vec<u8> {
            let endpoints = self.fleet.services[&web()].endpoints.values();
            let ejected = endpoints.enumerate().filter(|(_, e)| e.health.state() == State::Ejected);
            ejected.map(|(n, _)| n as u8).collect()
        }

        fn share(&self, n: u8) -> f64 {
            self.fleet.services[&web()].endpoints[&address(n)].endpoint.share()
        }
    }

    #[test]
    fn an_endpoint_that_fails_more_than_the_others_is_ejected_though_no_bound_of_its_own_is_broken() {
        let mut case = Case::new(4);
        for request in 0..200 {
            for n in 0..4 {
                case.outcome(n, (n != 2 || request % 4 != 0).then_some(10));
            }
        }
        assert_eq!(case.ejected(), Vec::<u8>::new());
        (0..11).for_each(|_| case.tick());
        assert_eq!((case.ejected(), case.reasons), (vec![2], vec![EjectionReason::SuccessRate]));
    }

    #[test]
    fn an_endpoint_that_is_far_slower_than_the_others_is_ejected_and_comes_back_slowly() {
        let mut case = Case::new(4);
        for _ in 0..100 {
            (0..4).for_each(|n| case.outcome(n, Some(if n == 1 { 400 } else { 20 })));
        }
        (0..11).for_each(|_| case.tick());
        assert_eq!(case.ejected(), [1]);
        (0..10).for_each(|_| case.tick());
        assert_eq!(case.ejected(), Vec::<u8>::new());
        assert!(case.share(1) < 0.3, "{}", case.share(1));
        (0..25).for_each(|_| case.tick());
        assert_eq!(case.share(1), 1.0);
        assert_eq!(case.reasons, [EjectionReason::Latency]);
    }

    #[test]
    fn when_all_fail_no_more_than_the_share_is_ejected() {
        let mut case = Case::new(6);
        for _ in 0..20 {
            (0..6).for_each(|n| case.outcome(n, None));
        }
        assert_eq!(case.ejected().len(), 3);
        assert_eq!(case.reasons, [EjectionReason::ConsecutiveFailures; 3]);
    }

    #[test]
    fn who_joins_others_starts_slowly_and_the_first_ones_do_not() {
        let mut case = Case::new(2);
        case.tick();
        assert_eq!((case.share(0), case.share(1)), (1.0, 1.0));
        case.resolve(3);
        case.tick();
        assert!(case.share(2) < 0.2, "{}", case.share(2));
        (0..20).for_each(|_| case.tick());
        assert_eq!(case.share(2), 1.0);
    }
}
