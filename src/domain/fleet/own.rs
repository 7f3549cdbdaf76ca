//! Services in the own region: endpoints, and what they add up to.

use super::{Fleet, Outcome, OutcomeResult, Output, Target, Transition, watch};
use crate::domain::endpoint::Endpoint;
use crate::domain::health::{Health, State, Word};
use crate::domain::name::ServiceId;
use crate::domain::policy::Policy;
use crate::domain::time::Time;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// One service in the own region.
#[derive(Debug, Default)]
pub(super) struct OwnService {
    pub(super) endpoints: BTreeMap<SocketAddr, OwnEndpoint>,
    /// Active side: from the endpoints' probes. Passive side: from outcomes of all of them.
    pub(super) health: Health,
    shown: Option<State>,
}

#[derive(Debug)]
pub(super) struct OwnEndpoint {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) health: Health,
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
            (Word::Up, Word::Down) => self.health.declared_up(now),
            (Word::Down, Word::Unknown | Word::Up) => self.health.declared_down(now),
            (Word::Up, Word::Up) | (Word::Down, Word::Down) | (Word::Unknown, _) => {}
        }
    }

    /// Lets time pass and tells a change of state.
    pub(super) fn advance(&mut self, id: &ServiceId, policy: &Policy, now: Time, outputs: &mut Vec<Output>) {
        for (address, endpoint) in &mut self.endpoints {
            let from = endpoint.health.state();
            endpoint.health.advance(now, &policy.health);
            tell_endpoint(id, *address, from, endpoint.health.state(), outputs);
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

    /// Endpoints to send requests to: the usable ones; without any, all that probes do not
    /// hold down; without any of those, all (percentage panic is for later, this is its floor).
    pub(super) fn serving(&self) -> Arc<[Arc<Endpoint>]> {
        let filtered = |keep: &dyn Fn(&OwnEndpoint) -> bool| -> Vec<Arc<Endpoint>> {
            self.endpoints.values().filter(|e| keep(e)).map(|e| Arc::clone(&e.endpoint)).collect()
        };
        let usable = filtered(&|e| e.health.state().usable());
        if !usable.is_empty() {
            return usable.into();
        }
        let not_down = filtered(&|e| e.health.word().0 != Word::Down);
        if !not_down.is_empty() {
            return not_down.into();
        }
        filtered(&|_| true).into()
    }
}

fn tell_endpoint(
    service: &ServiceId,
    address: SocketAddr,
    from: State,
    to: State,
    outputs: &mut Vec<Output>,
) {
    if from != to {
        let service = service.clone();
        outputs.push(Output::Moved(Transition::Endpoint { service, address, from, to }));
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
                for address in addresses {
                    own.endpoints.entry(address).or_insert_with(|| OwnEndpoint {
                        endpoint: Arc::new(Endpoint::new(address)),
                        health: Health::default(),
                    });
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
        service: &ServiceId,
        address: SocketAddr,
        success: bool,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let policy = &self.policy.health;
        let Some(own) = self.services.get_mut(service) else { return };
        let Some(endpoint) = own.endpoints.get_mut(&address) else { return };
        let from = endpoint.health.state();
        if success {
            endpoint.health.probe_succeeded(now, policy);
        } else {
            endpoint.health.probe_failed(now, policy);
        }
        let to = endpoint.health.state();
        self.dirty |= from != to;
        tell_endpoint(service, address, from, to, outputs);
    }

    pub(super) fn outcome(&mut self, outcome: &Outcome, now: Time, outputs: &mut Vec<Output>) {
        let policy = &self.policy.health;
        let success = outcome.result == OutcomeResult::Success;
        if outcome.region != self.policy.own {
            let Some(peer) = self.peers.get_mut(&outcome.region) else { return };
            self.dirty |= peer.outcome(&outcome.service, outcome.result, now, policy);
            return;
        }
        let Some(own) = self.services.get_mut(&outcome.service) else { return };
        self.dirty |= watch(&mut own.health, |health| health.outcome(success, now, policy));
        if let Some(endpoint) = own.endpoints.get_mut(&outcome.address) {
            let from = endpoint.health.state();
            endpoint.health.outcome(success, now, policy);
            let to = endpoint.health.state();
            self.dirty |= from != to;
            tell_endpoint(&outcome.service, outcome.address, from, to, outputs);
        }
    }
}
