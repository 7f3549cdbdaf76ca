//! Plans: what each name calls for now, and what of it this edge may propose.

use super::names::{NameRecord, Pending};
use super::witnesses::Witnesses;
use super::{Fleet, Output};
use crate::domain::name::{DnsName, RegionId};
use crate::domain::plan::{Distances, Generation, Judgement, Refusal, Room, Situation, Turn, judge};
use crate::domain::policy::NamePolicy;
use crate::domain::time::Time;
use crate::domain::votes::Verdict;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Fleet {
    /// Proposes what the rules allow now, and names the rule where they do not.
    pub(super) fn plan(&mut self, witnesses: &Witnesses, now: Time, outputs: &mut Vec<Output>) {
        let policy = Arc::clone(&self.policy);
        let mut distances = None;
        for name in policy.names.keys() {
            self.measure_demand(name, witnesses, now);
        }
        self.renew_bounds(now);
        let mut taken = self.taken(now);
        for (name, name_policy) in &policy.names {
            let room = self.room_for(name, &taken);
            let rests = self.names.get(name).is_some_and(|record| record.rests(&room));
            debug_assert!(
                !rests || self.rests_still((name, name_policy), &room, now),
                "{name} was not at rest"
            );
            let judgement = (!rests).then(|| {
                let distances = distances.get_or_insert_with(|| self.distances());
                self.judgement((name, name_policy), (&room, distances), now)
            });
            let awake = now.since(self.awake_since) >= policy.failover.view_fresh;
            let Some(record) = self.names.get_mut(name) else { continue };
            let mut called_for = false;
            if let Some(judgement) = judgement.flatten() {
                called_for = judgement.called_for;
                let home = !called_for && Arc::ptr_eq(&judgement.wanted, &name_policy.entries);
                record.at_rest = (home && record.is_untimed()).then_some(room);
                record.judged(name, judgement, now, outputs);
            }
            record.content = !called_for && record.is_clear(awake);
            self.taken_again(&mut taken, name, now);
        }
    }

    /// What is to be done about a name; `None`: its records were never read.
    fn judgement(
        &self,
        (name, name_policy): (&DnsName, &NamePolicy),
        (room, distances): (&Room, &Distances),
        now: Time,
    ) -> Option<Judgement> {
        let record = self.names.get(name)?;
        Some(judge(&Situation {
            name,
            own: &self.policy.own,
            policy: name_policy,
            failover: &self.policy.failover,
            verdicts: &record.verdicts,
            state: record.state.as_ref()?,
            operator: &record.operator_for_plans(),
            drifted: record.drift.len(),
            last: record.last.as_ref(),
            changes: &record.changes,
            distances,
            room,
            margin: self.policy.margin,
            content: self.content_before(name, now).as_ref(),
            turn: Turn {
                rank: self.writer_rank(name, now),
                waiting_since: record.needed_since,
                awake_since: self.awake_since,
                holds: self.sharing.lease.held,
                read: !record.must_read,
                read_at: record.read_at,
            },
            now,
        }))
    }

    /// Whether a judgement that is not made again would be the same.
    fn rests_still(&self, of: (&DnsName, &NamePolicy), room: &Room, now: Time) -> bool {
        let again = self.judgement(of, (room, &self.distances()), now);
        again.zip(self.names.get(of.0)).is_some_and(|(again, record)| {
            (again.called_for, &again.wanted) == (false, &record.wanted)
                && (again.refusal(), &*again.checks) == (record.refusal, &*record.checks)
                && again.loads == *record.loads
        })
    }

    /// How many live regions stand before this one in the order of writers.
    pub(super) fn writer_rank(&self, name: &DnsName, now: Time) -> u32 {
        let Some(record) = self.names.get(name) else { return 0 };
        let live = |region: &RegionId, peer: &super::Peer| {
            peer.fresh(&self.policy, now).is_some() && record.verdicts.get(region) != Some(&Verdict::Down)
        };
        let before = self.peers.iter().filter(|(r, p)| **r < self.policy.own && live(r, p)).count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    /// A live region that stands before this one and would change nothing of the name, by what it says of
    /// the records as this edge knows them.
    fn content_before(&self, name: &DnsName, now: Time) -> Option<RegionId> {
        let generation = self.names.get(name)?.generation()?;
        let content = |peer: &super::Peer| {
            let heard = peer.fresh(&self.policy, now).filter(|heard| heard.view.policy == self.agreement);
            heard.and_then(|heard| heard.view.content.get(name)).is_some_and(|judged| *judged >= generation)
        };
        let mut before = self.peers.range(..self.policy.own.clone());
        before.find(|(_, peer)| content(peer)).map(|(region, _)| region.clone())
    }

    /// How this pod answers for its region: as the holder of the lease does while its word is fresh.
    pub(super) fn spoken_content(&self, now: Time) -> BTreeMap<DnsName, Generation> {
        if let Some(view) = self.holder_word(now) {
            return view.content.clone();
        }
        let content = |(name, record): (&DnsName, &NameRecord)| {
            Some((name.clone(), record.generation().filter(|_| record.content)?))
        };
        self.names.iter().filter_map(content).collect()
    }

    fn distances(&self) -> Distances {
        let mut distances = Distances::default();
        for (region, policy) in &self.policy.regions {
            distances.bias(region, policy.bias);
        }
        for (region, peer) in &self.peers {
            if let Some(rtt) = peer.latency.median() {
                distances.add(&self.policy.own, region, rtt);
            }
            // A silent region's last view still tells where it lies.
            if let Some(heard) = &peer.heard {
                distances.all_of(region, &heard.view.rtts);
            }
        }
        distances
    }
}

impl NameRecord {
    /// Whether the last judgement would be made again: with everyone at home, and room for them there, it rests on
    /// nothing but what resets it, and on what operators say for a time.
    fn rests(&self, room: &Room) -> bool {
        self.at_rest.as_ref() == Some(room) && self.is_untimed()
    }

    /// Whether operators have said nothing that ends by itself.
    fn is_untimed(&self) -> bool {
        self.operator.drains.is_empty() && self.operator.overrides.is_empty()
    }

    /// Whether this edge sees all that it takes to tell that nothing is called for. Whoever does not see clearly calls
    /// for nothing either, and says nothing by that.
    ///
    /// `awake`: this edge has run for long enough to have heard everyone.
    fn is_clear(&self, awake: bool) -> bool {
        let clear = self.verdicts.values().all(|verdict| matches!(verdict, Verdict::Up | Verdict::Down));
        clear && awake && !self.must_read && self.refusal.is_none()
    }

    /// Takes over what was judged, and proposes the plan, if there is one.
    fn judged(&mut self, name: &DnsName, judgement: Judgement, now: Time, outputs: &mut Vec<Output>) {
        let refusal = judgement.refusal();
        let waits = matches!(refusal, None | Some(Refusal::NotWriter | Refusal::Unread));
        // Nobody is waited for who would not move: the time of its own begins when it would.
        if judgement.called_for && waits && !judgement.overrules() {
            self.needed_since.get_or_insert(now);
        } else {
            self.needed_since = None;
        }
        self.wanted = judgement.wanted;
        if *self.checks != *judgement.checks {
            self.checks = judgement.checks.into();
        }
        if *self.loads != judgement.loads {
            self.loads = Arc::new(judgement.loads);
        }
        self.refuse(name, refusal, outputs);
        let Some(plan) = judgement.plan else { return };
        if self.pending.as_ref().is_some_and(|p| now < p.until) {
            return;
        }
        let mut sets = self.state.as_ref().map(|state| state.sets.clone()).unwrap_or_default();
        sets.extend(plan.changes.iter().map(|(entry, change)| (entry.clone(), change.to.clone())));
        let generation = plan.fence.generation.next();
        self.pending = Some(Pending { generation, sets, until: plan.expires_at });
        outputs.push(Output::Propose(plan));
    }
}
