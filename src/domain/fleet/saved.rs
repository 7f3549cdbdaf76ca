//! A fleet's state as a value: what a journal begins a file with, so that a replay can begin there.
//!
//! The configuration is not in it: whoever resumes a fleet brings it, made from the same text.

use super::Fleet;
use crate::domain::name::RegionId;
use crate::domain::policy::Policy;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// The state of a fleet; without a configuration it decides nothing.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct SavedFleet(Fleet);

/// The state was made under another configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state was saved under another configuration: membership or rules differ")]
pub struct OtherPolicy;

impl Fleet {
    /// The state to save; `None` while a change waits for its decision, which is a tenth of a second at most.
    pub fn saved(&self) -> Option<&(impl Serialize + use<>)> {
        // What is published then has the routes of the configuration, which are not written.
        (!self.dirty && self.published.is_some()).then_some(self)
    }
}

impl SavedFleet {
    /// The fleet, as it was.
    ///
    /// # Errors
    /// `OtherPolicy` when the state was not made under this configuration.
    pub fn resume(self, policy: Arc<Policy>) -> Result<Fleet, OtherPolicy> {
        let mut fleet = self.0;
        if fleet.policy.own != policy.own || fleet.agreement != policy.agreement_hash() {
            return Err(OtherPolicy);
        }
        if let Some(published) = fleet.published.as_mut().map(Arc::make_mut) {
            published.routes = Arc::clone(&policy.routes);
        }
        fleet.services.resume(&fleet.ids);
        fleet.peers.values_mut().for_each(|peer| peer.resume(&fleet.ids));
        for (id, service) in fleet.services.iter_mut() {
            service.published = fleet.published.as_ref().and_then(|last| last.services.get(id).cloned());
        }
        fleet.policy = policy;
        Ok(fleet)
    }
}

/// Of the configuration only whose it is.
pub(super) fn write_own<S: Serializer>(policy: &Policy, to: S) -> Result<S::Ok, S::Error> {
    policy.own.serialize(to)
}

pub(super) fn read_own<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Policy>, D::Error> {
    RegionId::deserialize(from).map(|own| Arc::new(Policy::alone(own)))
}
