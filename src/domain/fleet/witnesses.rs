//! Whose users reach it: what Route 53's checkers say of each region, as any edge has read it.
//!
//! Every reading costs a request of an account that takes five a second. Edges say in their
//! views what they have read, and the newest reading counts: the writer need not wait for its
//! own, and an edge whose API is out of reach still has evidence. A reading is only ever
//! evidence beside a majority of votes (see `votes`), never a vote.

use super::Fleet;
use crate::domain::name::RegionId;
use crate::domain::time::Time;
use crate::domain::view::WitnessView;
use crate::domain::votes::Witness;
use std::collections::BTreeMap;
use std::time::Duration;

/// A reading of another edge that is older says nothing: checkers look every ten or thirty seconds.
/// Source: Route 53 developer guide, "Values that you specify when you create or update health checks".
const OLD: Duration = Duration::from_secs(60);

/// What this edge has read itself.
#[derive(Debug, Default)]
pub(super) struct Readings(BTreeMap<RegionId, (Witness, Time)>);

impl Readings {
    pub(super) fn note(&mut self, region: RegionId, witness: Witness, now: Time) {
        self.0.insert(region, (witness, now));
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&RegionId) -> bool) {
        self.0.retain(|region, _| keep(region));
    }

    /// For the own view: what is known, and how old it is.
    pub(super) fn said(&self, now: Time) -> BTreeMap<RegionId, WitnessView> {
        let known = self.0.iter().filter(|(_, (witness, _))| *witness != Witness::Unknown);
        known
            .map(|(region, (witness, at))| {
                let age_ms = u32::try_from(now.since(*at).as_millis()).unwrap_or(u32::MAX);
                (region.clone(), WitnessView { witness: *witness, age_ms })
            })
            .collect()
    }
}

impl Fleet {
    /// The newest reading of a region's `/health/edge`, by this edge or one that decides as it does.
    pub(super) fn witness(&self, region: &RegionId, now: Time) -> Witness {
        let own = self.readings.0.get(region).copied().filter(|(witness, _)| *witness != Witness::Unknown);
        let theirs = self.peers.values().filter_map(|peer| {
            let heard = peer.fresh(&self.policy, now).filter(|h| h.view.policy == self.agreement)?;
            let said = heard.view.witnesses.get(region)?;
            let at = heard.at.before(Duration::from_millis(said.age_ms.into()));
            (now.since(at) <= OLD && said.witness != Witness::Unknown).then_some((said.witness, at))
        });
        // Of two of the same moment the own one counts.
        own.into_iter()
            .chain(theirs)
            .reduce(|a, b| if b.1 > a.1 { b } else { a })
            .map_or(Witness::Unknown, |r| r.0)
    }
}
