//! Everything that can happen to a core, drawn by a seed: the edge of one region of three.

use super::*;
use crate::domain::fleet::{
    DnsReport, EndpointAnswer, Lease, Outcome, OutcomeResult, OutcomeRun, Probe, ProbeFailure, RegionAnswer,
    SampleSource, ServiceLoad, Shared, SharedAnswer, SharedProbe, Target, add_outcome,
};
use crate::domain::health::Word;
use crate::domain::latency::Rtt;
use crate::domain::name::{DnsName, EntryId, ServiceId, Zone};
use crate::domain::operator::OperatorState;
use crate::domain::plan::{Fence, Generation, NameState};
use crate::domain::view::{ServiceView, View};
use crate::domain::votes::Witness;
use crate::domain::weights::WeightedSet;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// A drawn input after another.
pub(super) struct World {
    seed: u64,
    policy: Arc<Policy>,
    sequence: u64,
    generation: u64,
    /// What is broken for the moment: a peer, the own endpoints, nothing.
    fault: u64,
}

impl World {
    pub(super) fn new(seed: u64, policy: &Arc<Policy>) -> Self {
        Self { seed, policy: Arc::clone(policy), sequence: 0, generation: 1, fault: 0 }
    }

    /// Source: SplitMix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn peer(&mut self) -> RegionId {
        let peers: Vec<_> = self.policy.regions.keys().filter(|r| **r != self.policy.own).cloned().collect();
        let at = self.below(peers.len() as u64);
        peers[at as usize].clone()
    }

    fn service(&mut self) -> ServiceId {
        let all: Vec<_> = self.policy.services.iter().cloned().collect();
        let at = self.below(all.len() as u64);
        all[at as usize].clone()
    }

    fn pod(&mut self) -> SocketAddr {
        ([10, 0, 0, self.below(4) as u8], 8080).into()
    }

    /// How long until the next input, in microseconds.
    pub(super) fn pause(&mut self) -> u64 {
        if self.below(500) == 0 { 2_000_000 } else { self.below(60_000) }
    }

    pub(super) fn input(&mut self) -> Input {
        if self.below(400) == 0 {
            self.fault = self.below(4);
        }
        match self.below(100) {
            0 => {
                let addresses = (0..=self.below(4) as u8).map(|n| ([10, 0, 0, n], 8080).into()).collect();
                Input::Resolved { target: Target::Service(self.service()), addresses }
            }
            1 => {
                let addresses = (0..=self.below(2) as u8).map(|n| ([10, 1, 0, n], 8443).into()).collect();
                Input::Resolved { target: Target::Peer(self.peer()), addresses }
            }
            2..=29 => self.probe_region(),
            30..=54 => {
                let bad = self.fault == 1 || self.below(20) == 0;
                let result = if bad { Err(ProbeFailure::Timeout) } else { Ok(EndpointAnswer::Well) };
                Input::Probed(Probe::Endpoint { service: self.service(), address: self.pod(), result })
            }
            55..=74 => self.outcomes(),
            75..=78 => self.load(),
            79..=83 => self.dns(),
            84..=86 => {
                let rtt = Rtt::new(Duration::from_nanos(15_000_000 + self.below(20_000_000)));
                let source = [SampleSource::Tcp, SampleSource::FirstByte][self.below(2) as usize];
                Input::Sample { region: self.peer(), rtt, source }
            }
            87 => self.zoned(),
            88..=90 => self.shared(),
            91 if self.below(4) == 0 => Input::Lease(Lease { held: self.below(2) == 0 }),
            92 if self.below(40) == 0 => Input::Leaving,
            _ => Input::Tick,
        }
    }

    fn rps(&mut self, most: u64) -> f64 {
        self.below(most * 7) as f64 / 7.0
    }

    /// Now less than the capacities, now more.
    fn load(&mut self) -> Input {
        let mut services = BTreeMap::new();
        for service in self.policy.services.clone() {
            let load = ServiceLoad {
                entered_rps: self.rps(6_000),
                served_rps: self.rps(4_000),
                shed_rps: if self.below(3) == 0 { self.rps(200) } else { 0.0 },
                in_flight: self.below(90) as u32,
            };
            if self.below(8) > 0 {
                services.insert(service, load);
            }
        }
        let names: Vec<_> = self.policy.names.keys().cloned().collect();
        let names = names.into_iter().map(|name| (name, self.rps(9_000))).collect();
        Input::Load { entered_rps: self.rps(9_000), names, served_rps: self.rps(9_000), services }
    }

    fn zoned(&mut self) -> Input {
        let names = ["eu-west-1a", "eu-west-1b"];
        let zones = (0..4u8).filter_map(|n| {
            let zone = Zone::parse(names.get(self.below(3) as usize)?).ok()?;
            Some((([10, 0, 0, n], 8080).into(), zone))
        });
        let zones = zones.collect();
        Input::Zoned { service: self.service(), zones }
    }

    /// What another pod of the own region says that it measured.
    fn shared(&mut self) -> Input {
        self.sequence += 1;
        let mut view = View::first(self.policy.own.clone(), 90, self.policy.agreement_hash());
        view.sequence = self.sequence;
        let peer = self.peer();
        let result = match self.below(9) {
            0 => Err(ProbeFailure::Timeout),
            n => Ok(SharedAnswer {
                rtt: Some(Rtt::new(Duration::from_nanos(18_000_000 + self.below(15_000_000)))),
                view: (n > 3).then(|| Arc::new(self.view(&peer))),
            }),
        };
        let probe = SharedProbe { number: self.sequence, age_us: self.below(300_000), result };
        Input::Shared(Box::new(Shared {
            view,
            transit_us: self.below(2_000),
            regions: [(peer, vec![probe])].into(),
        }))
    }

    fn probe_region(&mut self) -> Input {
        let region = self.peer();
        if self.fault == 2 || self.below(30) == 0 {
            return Input::Probed(Probe::Region { region, result: Err(ProbeFailure::Connect) });
        }
        let view = Arc::new(self.view(&region));
        let rtt = Some(Rtt::new(Duration::from_nanos(20_000_000 + self.below(9_000_000))));
        Input::Probed(Probe::Region { region, result: Ok(RegionAnswer { rtt, view }) })
    }

    fn view(&mut self, region: &RegionId) -> View {
        self.sequence += 1;
        let mut view = View::first(region.clone(), 3, self.policy.agreement_hash());
        view.sequence = self.sequence;
        let words = [Word::Up, Word::Up, Word::Up, Word::Down, Word::Unknown];
        for service in self.policy.services.clone() {
            let at = if self.fault == 3 { 3 } else { self.below(5).min(self.below(5)) };
            let mut said = ServiceView::of(words[at as usize]);
            if self.below(3) == 0 {
                said.asks.insert(self.policy.own.clone(), self.rps(900));
            }
            match self.below(4) {
                0 => _ = said.grants.insert(self.policy.own.clone(), self.rps(900)),
                1 => said.spare_rps = Some(self.rps(900)),
                _ => said.draining = self.below(12) == 0,
            }
            Arc::make_mut(&mut view.services).insert(service, said);
        }
        for (name, of) in self.policy.names.clone() {
            let regions = of.regions().into_iter().cloned();
            let votes = regions.map(|r| (r, words[self.below(5).min(self.below(4)) as usize])).collect();
            view.votes.insert(name, Arc::new(votes));
        }
        view.entered_rps = self.below(1_000_000) as f64 / 11.0;
        view.spare_rps = (self.below(3) == 0).then(|| self.rps(2_000));
        view.draining = self.below(40) == 0;
        view
    }

    fn outcomes(&mut self) -> Input {
        let mut runs = Vec::new();
        for _ in 0..=self.below(20) {
            let results = [OutcomeResult::Success, OutcomeResult::Failure, OutcomeResult::Refused];
            let bad = if self.fault == 1 { self.below(3) } else { self.below(40) / 38 };
            let (region, address) = if self.below(3) == 0 {
                (self.peer(), ([10, 1, 0, 0], 8443).into())
            } else {
                (self.policy.own.clone(), self.pod())
            };
            let outcome = Outcome { service: self.service(), region, address, result: results[bad as usize] };
            let latency = Duration::from_nanos(self.below(90_000_000));
            add_outcome(&mut runs, OutcomeRun::one(outcome, latency));
        }
        Input::Outcomes(runs)
    }

    fn dns(&mut self) -> Input {
        let names: Vec<DnsName> = self.policy.names.keys().cloned().collect();
        let at = self.below(names.len() as u64);
        let name = names[at as usize].clone();
        if self.below(3) == 0 {
            let witness = [Witness::Green, Witness::Red, Witness::Unknown][self.below(3) as usize];
            return Input::Dns(DnsReport::Witness { region: self.peer(), witness });
        }
        self.generation += self.below(8) / 7;
        let mut sets: BTreeMap<EntryId, WeightedSet> = BTreeMap::clone(&self.policy.names[&name].entries);
        if self.below(4) == 0 {
            let region = self.peer();
            sets.values_mut().for_each(|set| *set = WeightedSet::only(region.clone()));
        }
        let writer = Some(self.peer());
        let changed_at = Time::from_millis(self.below(1_000_000));
        let state = NameState {
            fence: Fence { epoch: "e".to_owned(), generation: Generation::new(self.generation) },
            writer,
            changed_at: Some(changed_at),
            claim: Some(changed_at.since(Time::ZERO)),
            operator: OperatorState::default(),
            sets,
        };
        Input::Dns(DnsReport::Read { name, state: Box::new(state) })
    }
}
