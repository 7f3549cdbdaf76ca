//! What lies between a `Fleet` and its world, where a bug can be planted to show that it is found.

use super::invariants::Violation;
use crate::domain::plan::Plan;
use crate::domain::policy::Policy;
use crate::domain::snapshot::Snapshot;
use crate::domain::view::View;
use crate::domain::votes::Witness;
use std::sync::Arc;

/// The places. Every default is honest.
pub trait Seams: Sync {
    /// The policy that edges get (the invariants keep the real one).
    fn policy(&self, _policy: &mut Policy) {}

    /// A plan on its way to the DNS side; false: it never gets there.
    fn plan(&self, _plan: &mut Plan, _snapshot: Option<&Snapshot>) -> bool {
        true
    }

    /// A view on its way to other edges.
    fn view(&self, view: Arc<View>, _snapshot: Option<&Snapshot>) -> Arc<View> {
        view
    }

    /// A snapshot on its way to requests, users and invariants.
    fn snapshot(&self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        snapshot
    }

    /// What is reported of a region's health check.
    fn witness(&self, _region: usize, truth: Witness) -> Witness {
        truth
    }

    /// Whether a failed probe brings the last view again with a new number.
    fn replays_views(&self) -> bool {
        false
    }

    /// Whether a conflict is reported and the records read again; else the batch is sent once more.
    fn heeds_conflicts(&self) -> bool {
        true
    }

    /// Whether a plan that has expired stays where it is.
    fn heeds_expiry(&self) -> bool {
        true
    }

    /// Whether the store compares before it swaps.
    fn fenced(&self) -> bool {
        true
    }

    /// Whether a broken invariant is told.
    fn tells(&self, _violation: &Violation) -> bool {
        true
    }
}

/// Nothing planted.
#[derive(Debug, Clone, Copy)]
pub struct Honest;
impl Seams for Honest {}
