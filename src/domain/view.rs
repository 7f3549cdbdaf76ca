//! What a region says of itself and of the others when it is probed.
//!
//! Probing is the exchange of views. Unknown fields are tolerated, so that a
//! newer edge can be probed by an older one; `peer` bounds the size.

use crate::domain::health::Word;
use crate::domain::latency::Rtt;
use crate::domain::name::{DnsName, RegionId, ServiceId};
use crate::domain::plan::Generation;
use crate::domain::time::Time;
use crate::domain::votes::Witness;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What one region says of each.
pub type Words = BTreeMap<RegionId, Word>;

/// One region's view of the world, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub region: RegionId,
    /// Random number of this process's start; with `sequence` it refuses replays.
    pub boot: u64,
    pub sequence: u64,
    /// Hash of membership and policy: only equal ones decide together.
    pub policy: u64,
    pub services: Arc<BTreeMap<ServiceId, ServiceView>>,
    pub rtts: Arc<BTreeMap<RegionId, Rtt>>,
    pub votes: BTreeMap<DnsName, Arc<Words>>,
    /// Requests a second that clients sent to this region (not forwarded ones).
    pub entered_rps: f64,
    /// The same for each name. One that is left out counts as all of them.
    #[serde(default)]
    pub entered_by_name: BTreeMap<DnsName, f64>,
    /// Requests a second that the region may still take; `None` without a known capacity.
    pub headroom_rps: Option<f64>,
    /// What this edge itself has read of others' `/health/edge` at Route 53.
    #[serde(default)]
    pub witnesses: BTreeMap<RegionId, WitnessView>,
    /// Whoever says this is about to end: it finishes what it has and should get nothing new.
    #[serde(default)]
    pub draining: bool,
    /// What the region does.
    #[serde(default)]
    pub load: LoadView,
    /// Names whose records are as it would have them, and the generation of the control record that it
    /// judged; those of which it cannot tell are left out.
    #[serde(default)]
    pub content: BTreeMap<DnsName, Generation>,
    /// Requests a second, of all services together, that each region which asks for nothing may send.
    #[serde(default)]
    pub spare_rps: Option<f64>,
}

/// A reading of a region's health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessView {
    pub witness: Witness,
    /// How long before the view it was read.
    pub age_ms: u32,
}

/// What a region or one of its services does.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LoadView {
    /// Requests a second that own endpoints are asked for.
    pub rps: f64,
    pub in_flight: u32,
    /// Requests a second that were turned away because too many were in flight.
    pub shed_rps: f64,
    /// Requests a second that can be served, and how that is known.
    pub capacity: Option<CapacityView>,
}

/// A capacity in requests a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CapacityView {
    pub rps: f64,
    pub source: CapacitySource,
}

/// How a capacity is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapacitySource {
    Configured,
    /// From what was served while requests were turned away.
    Measured,
}

impl CapacitySource {
    pub const ALL: [Self; 2] = [Self::Configured, Self::Measured];

    /// The source as metrics and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Measured => "measured",
        }
    }
}

impl View {
    /// What is said before the first decision: nothing but who speaks.
    pub fn first(region: RegionId, boot: u64, policy: u64) -> Self {
        Self {
            region,
            boot,
            sequence: 0,
            policy,
            services: Arc::default(),
            rtts: Arc::default(),
            votes: BTreeMap::new(),
            entered_rps: 0.0,
            entered_by_name: BTreeMap::new(),
            headroom_rps: None,
            witnesses: BTreeMap::new(),
            draining: false,
            load: LoadView::default(),
            content: BTreeMap::new(),
            spare_rps: None,
        }
    }

    /// Field names, own region, and the numbers at their longest.
    const FRAME_BYTES_MAX: usize = 500;

    /// The most bytes that a view over these takes as JSON.
    ///
    /// Votes are over every region for every name; each number and word counts at its longest.
    pub fn bytes_max<'a>(
        names: impl Iterator<Item = &'a DnsName>,
        regions: impl Iterator<Item = &'a RegionId> + Clone,
        services: impl Iterator<Item = &'a ServiceId>,
    ) -> usize {
        let votes: usize = regions.clone().map(|r| r.as_str().len() + r#""":"unknown","#.len()).sum();
        let content = r#""":18446744073709551615,"#.len();
        let entered = r#""":,"#.len() + RATE_BYTES_MAX;
        let name = |n: &DnsName| 3 * n.as_str().len() + r#""":{},"#.len() + votes + content + entered;
        let names: usize = names.map(name).sum();
        let witness = r#""":{"witness":"unknown","age_ms":4294967295},"#.len();
        let witnesses: usize = regions.clone().map(|r| r.as_str().len() + witness).sum();
        let rtts: usize = regions.clone().map(|r| r.as_str().len() + r#""":4294967295,"#.len()).sum();
        let longest = regions.map(|r| r.as_str().len()).max().unwrap_or(0);
        let rates =
            (ServiceView::ASKS_MAX + ServiceView::GRANTS_MAX) * (longest + r#""":,"#.len() + RATE_BYTES_MAX);
        let services: usize = services.map(|s| s.as_str().len() + SERVICE_BYTES_MAX + rates).sum();
        Self::FRAME_BYTES_MAX + names + rtts + witnesses + services
    }
}

/// Longest spelling of what [`rate`] makes.
const RATE_BYTES_MAX: usize = "-999999999.9".len();
/// A service without its name, asks and grants.
const SERVICE_BYTES_MAX: usize = r#""":{"word":"unknown","draining":false,"load":{"rps":-999999999.9,"in_flight":4294967295,"shed_rps":-999999999.9,"capacity":{"rps":-999999999.9,"source":"configured"}},"entered_rps":-999999999.9,"asks":{},"grants":{},"spare_rps":-999999999.9},"#.len();

/// Requests a second as views say it: to a tenth, within a thousand million.
pub fn rate(rps: f64) -> f64 {
    (rps.clamp(-999_999_999.9, 999_999_999.9) * 10.0).round() / 10.0
}

/// A service as its own region sees it.
///
/// Asks and grants are how regions share room: whoever has more than it can serve asks the next
/// region for what it would send there, and sends no more than that region grants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    pub word: Word,
    /// Its endpoints, or the whole region, finish what they have and should get nothing new. No ground
    /// of a vote: `word` stays what it is.
    #[serde(default)]
    pub draining: bool,
    #[serde(default)]
    pub load: Option<LoadView>,
    /// Requests a second that clients sent to this region.
    #[serde(default)]
    pub entered_rps: f64,
    /// Requests a second that this region would send to others.
    #[serde(default)]
    pub asks: BTreeMap<RegionId, f64>,
    /// Requests a second that those who asked may send here.
    #[serde(default)]
    pub grants: BTreeMap<RegionId, f64>,
    /// Requests a second that each region which asks for nothing may send; `None`: no bound is known.
    #[serde(default)]
    pub spare_rps: Option<f64>,
}

impl ServiceView {
    /// Most regions that a service asks for room: who has asked these and still has too much is in
    /// trouble that more forwarding would not end.
    pub const ASKS_MAX: usize = 4;
    /// Most regions that are granted room by name; the others have the spare.
    pub const GRANTS_MAX: usize = 8;

    /// Whether it tells a capacity that was configured.
    pub fn is_bounded(&self) -> bool {
        let capacity = self.load.and_then(|load| load.capacity);
        capacity.is_some_and(|capacity| capacity.source == CapacitySource::Configured)
    }

    /// Nothing but a word.
    pub const fn of(word: Word) -> Self {
        Self {
            word,
            draining: false,
            load: None,
            entered_rps: 0.0,
            asks: BTreeMap::new(),
            grants: BTreeMap::new(),
            spare_rps: None,
        }
    }
}

/// Refuses views that were seen before: the last answer of each of the last processes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReplayGuard {
    answers: VecDeque<Answer>,
}

/// The last answer of one process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Answer {
    boot: u64,
    sequence: u64,
    at: Time,
}

impl ReplayGuard {
    /// Pods of a region that may answer in turn behind its load balancer.
    const BOOTS_MAX: usize = 256;

    /// How the view stands to those seen before; remembers it.
    ///
    /// Whoever answered a while ago with its last view made any newer one since then. So a
    /// newer view is at most as old as that answer is, which must be within `fresh`.
    pub fn admit(&mut self, view: &View, now: Time, fresh: Duration) -> Admission {
        let answer = Answer { boot: view.boot, sequence: view.sequence, at: now };
        if let Some(last) = self.answers.iter_mut().find(|last| last.boot == view.boot) {
            let admission = match view.sequence.cmp(&last.sequence) {
                Ordering::Less => return Admission::Replayed,
                Ordering::Equal => Admission::Repeated,
                Ordering::Greater if now.since(last.at) > fresh => Admission::First,
                Ordering::Greater => Admission::New,
            };
            *last = answer;
            return admission;
        }
        if self.answers.len() == Self::BOOTS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back(answer);
        Admission::First
    }
}

/// How a view stands to those seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The first one of its process for long: it may be of any age, since a process whose
    /// control task stalls goes on showing its last view.
    First,
    /// Known to be made a short while ago.
    New,
    /// The last one again: its region has had nothing to add.
    Repeated,
    /// Older than one seen before.
    Replayed,
}

/// A view with the moment it came.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heard {
    pub view: Arc<View>,
    pub at: Time,
    /// Whether it is known to be made shortly before it came.
    pub recent: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(boot: u64, sequence: u64) -> View {
        View { sequence, ..View::first(RegionId::parse("a").unwrap(), boot, 1) }
    }

    #[test]
    fn a_replayed_or_older_view_is_refused_and_another_pod_is_not() {
        let mut guard = ReplayGuard::default();
        for (second, boot, sequence, expected) in [
            (0, 1, 5, Admission::First),
            (1, 1, 5, Admission::Repeated),
            (2, 1, 4, Admission::Replayed),
            (3, 1, 6, Admission::New),
            // Another pod, or a restart.
            (4, 2, 1, Admission::First),
            (5, 2, 2, Admission::New),
            (6, 1, 7, Admission::New),
            // Silent for long: what it shows now may have been made at any time since.
            (16, 1, 8, Admission::First),
            (17, 1, 9, Admission::New),
        ] {
            let now = Time::from_millis(second * 1000);
            let admission = guard.admit(&view(boot, sequence), now, Duration::from_secs(5));
            assert_eq!(admission, expected, "{boot} {sequence} at {second} s");
        }
    }
}
