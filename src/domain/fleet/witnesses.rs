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
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A reading of another edge that is older says nothing: checkers look every ten or thirty seconds.
/// Source: Route 53 developer guide, "Values that you specify when you create or update health checks".
const OLD: Duration = Duration::from_secs(60);

/// What this edge has read itself.
#[derive(Debug, Default, Serialize, Deserialize)]
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

/// The newest reading of each region's `/health/edge`, as far as one is known.
#[derive(Debug)]
pub(super) struct Witnesses(BTreeMap<RegionId, (Witness, Time)>);

impl Witnesses {
    pub(super) fn at(&self, region: &RegionId) -> Witness {
        self.0.get(region).map_or(Witness::Unknown, |(witness, _)| *witness)
    }

    /// Regions of which this is the reading.
    pub(super) fn of(&self, which: Witness) -> impl Iterator<Item = &RegionId> {
        self.0.iter().filter(move |(_, (witness, _))| *witness == which).map(|(region, _)| region)
    }
}

impl Fleet {
    /// What is known now: read by this edge or by one that decides as it does.
    pub(super) fn witnesses(&self, now: Time) -> Witnesses {
        let known = |(_, (witness, _)): &(&RegionId, &(Witness, Time))| *witness != Witness::Unknown;
        let own = self.readings.0.iter().filter(known);
        let mut newest: BTreeMap<RegionId, (Witness, Time)> =
            own.map(|(region, reading)| (region.clone(), *reading)).collect();
        for peer in self.peers.values() {
            let heard = peer.fresh(&self.policy, now).filter(|heard| heard.view.policy == self.agreement);
            let Some(heard) = heard else { continue };
            for (region, said) in &heard.view.witnesses {
                let at = heard.at.before(Duration::from_millis(said.age_ms.into()));
                if said.witness == Witness::Unknown || now.since(at) > OLD {
                    continue;
                }
                // Of two of the same moment the own one counts, or the first.
                match newest.get_mut(region) {
                    Some(known) if at > known.1 => *known = (said.witness, at),
                    Some(_) => {}
                    None => _ = newest.insert(region.clone(), (said.witness, at)),
                }
            }
        }
        Witnesses(newest)
    }
}
