//! Votes and verdicts: what this edge says of each (DNS name, region), and what all say together.

use super::witnesses::Witnesses;
use super::{Fleet, Output, Transition};
use crate::domain::health::Word;
use crate::domain::name::{DnsName, RegionId};
use crate::domain::policy::NamePolicy;
use crate::domain::snapshot::Gate;
use crate::domain::time::Time;
use crate::domain::view::Words;
use crate::domain::votes::{Ballot, Verdict, decide};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Fresh votes: voter -> target -> word.
pub(super) type Votes = BTreeMap<RegionId, Arc<Words>>;

impl Fleet {
    /// Renews own votes, verdicts and gates of every name.
    pub(super) fn agree(&mut self, witnesses: &Witnesses, now: Time, outputs: &mut Vec<Output>) {
        let policy = Arc::clone(&self.policy);
        let agreed = self
            .peers
            .values()
            .filter_map(|p| p.fresh(&policy, now))
            .all(|h| h.view.policy == self.agreement);
        for (name, name_policy) in &policy.names {
            // Of one that has no place nothing is known.
            let place = |service| self.services.place(service).unwrap_or(usize::MAX);
            let services: Vec<usize> = name_policy.services.iter().map(place).collect();
            let own = |region| (region, self.own_vote(&services, region, now));
            let own: Vec<_> = policy.regions.keys().map(own).collect();
            let Some(record) = self.names.get_mut(name) else { continue };
            let own = record.vote(name, &own, outputs);
            let votes = self.fresh_votes(name, own, now);
            let verdict = |region| (region, decide(&self.ballot(region, &votes, agreed, witnesses)));
            let verdicts: Vec<_> = policy.regions.keys().map(verdict).collect();
            let gate = self.gate(name, name_policy, &votes, now);
            if let Some(record) = self.names.get_mut(name) {
                record.votes = votes;
                record.decided(name, &verdicts, gate, outputs);
            }
        }
    }

    /// What this edge says of a region: down only after `down_after` that it was awake for, up only when all
    /// services are.
    ///
    /// `services`: what the name needs, by their places.
    fn own_vote(&self, services: &[usize], region: &RegionId, now: Time) -> Word {
        let peer = self.peers.get(region);
        let words = || {
            services.iter().map(|place| {
                let health = match peer {
                    Some(peer) => peer.services.at(*place).map(|remote| &remote.health),
                    None => self.services.at(*place).map(|own| &own.health),
                };
                health.map_or((Word::Unknown, Time::ZERO), |h| h.word())
            })
        };
        let down = |said| self.down_for(said, self.policy.failover.down_after, now);
        if words().any(down) {
            Word::Down
        } else if words().all(|(word, _)| word == Word::Up) {
            Word::Up
        } else {
            Word::Unknown
        }
    }

    /// Whether a word has been "down" for so long. What a process that was stopped knows is as old as the
    /// stop: nothing has lasted while it slept.
    fn down_for(&self, (word, since): (Word, Time), span: Duration, now: Time) -> bool {
        word == Word::Down && now.since(since.max(self.awake_since)) >= span
    }

    fn fresh_votes(&self, name: &DnsName, own: Arc<Words>, now: Time) -> Votes {
        let mut votes = Votes::from([(self.policy.own.clone(), own)]);
        for (region, peer) in &self.peers {
            if let Some(theirs) = peer.fresh(&self.policy, now).and_then(|h| h.view.votes.get(name)) {
                votes.insert(region.clone(), Arc::clone(theirs));
            }
        }
        votes
    }

    fn ballot(&self, target: &RegionId, votes: &Votes, agreed: bool, witnesses: &Witnesses) -> Ballot {
        let said = |words: &Arc<Words>| words.get(target).copied().unwrap_or(Word::Unknown);
        let word = |voter: &RegionId| votes.get(voter).map_or(Word::Unknown, said);
        Ballot {
            configured: self.policy.regions.len(),
            votes: votes.values().map(said).collect(),
            own: word(&self.policy.own),
            target: word(target),
            witness: witnesses.at(target),
            agreed,
        }
    }

    /// Closed only for the own region's sake and only while enough peers are well:
    /// it can't latch, since nothing of it comes back as an input.
    fn gate(&self, name: &DnsName, policy: &NamePolicy, votes: &Votes, now: Time) -> Gate {
        let own = &self.policy.own;
        let failover = &self.policy.failover;
        let down_long = policy.services.iter().any(|service| {
            self.services
                .get(service)
                .is_some_and(|s| self.down_for(s.health.word(), failover.hold_down, now))
        });
        let drained = self.names.get(name).is_some_and(|record| record.drained(now).contains(own));
        let well = votes
            .iter()
            .filter(|(voter, words)| *voter != own && words.get(*voter) == Some(&Word::Up))
            .count();
        if (down_long || drained) && well >= failover.min_live { Gate::Closed } else { Gate::Open }
    }
}

impl super::names::NameRecord {
    /// Takes over what this edge says of each region, in their order; the same allocation while nothing changes.
    fn vote(&mut self, name: &DnsName, own: &[(&RegionId, Word)], outputs: &mut Vec<Output>) -> Arc<Words> {
        if !self.own_votes.iter().eq(own.iter().map(|(region, word)| (*region, word))) {
            for (region, to) in own {
                let from = self.own_votes.get(*region).copied().unwrap_or(Word::Unknown);
                if from != *to {
                    let (name, region, to) = (name.clone(), (*region).clone(), *to);
                    outputs.push(Output::Moved(Transition::Vote { name, region, from, to }));
                }
            }
            self.own_votes = Arc::new(own.iter().map(|(region, word)| ((*region).clone(), *word)).collect());
        }
        Arc::clone(&self.own_votes)
    }

    /// Takes over what all say together.
    fn decided(
        &mut self,
        name: &DnsName,
        verdicts: &[(&RegionId, Verdict)],
        gate: Gate,
        outputs: &mut Vec<Output>,
    ) {
        if !self.verdicts.iter().eq(verdicts.iter().map(|(region, verdict)| (*region, verdict))) {
            for (region, to) in verdicts {
                let from = self.verdicts.get(*region).copied();
                if from != Some(*to) {
                    let (name, region, to) = (name.clone(), (*region).clone(), *to);
                    outputs.push(Output::Moved(Transition::Verdict { name, region, from, to }));
                }
            }
            self.at_rest = None;
            self.verdicts = verdicts.iter().map(|(region, verdict)| ((*region).clone(), *verdict)).collect();
        }
        if gate != self.gate {
            let closed = gate == Gate::Closed;
            outputs.push(Output::Moved(Transition::Gate { name: name.clone(), closed }));
        }
        self.gate = gate;
    }
}
