//! What must hold after every step, checked against the truth.
//!
//! Bounds are the sums of what detection may take at the harness's pace; each
//! says what it adds up.

use super::cast::{Cast, pace};
use super::fabric::Fabric;
use super::store::{Sent, Store, Stored};
use super::world::{Trouble, World};
use proxima::domain::health::State;
use proxima::domain::name::{EntryId, RegionId};
use proxima::domain::plan::{Plan, Reason};
use proxima::domain::snapshot::{Candidate, Place, ServiceSnapshot, Snapshot};
use proxima::domain::time::Time;
use proxima::domain::votes::Verdict;
use proxima::domain::weights::WeightedSet;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// The rules by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A set lost its last live region while it had one, or a plan changes nothing.
    EmptySet,
    /// Users were sent to a region that had long been down, or is drained.
    IntoDead,
    /// Users were taken from a region that was well, and neither sent home nor nearer to it.
    AwayFromWell,
    /// Users were taken, not to be sent home, from a region that the writer did not hold for down.
    AwayFromUnconfirmed,
    /// A cut-off region proposed a change.
    CutOffWriter,
    /// A ramp step came before the hold-down was over.
    HoldDown,
    /// A ramp step moved more than `max_shift`.
    MaxShift,
    /// A change was not conditional on what it replaced.
    Fence,
    /// A refused plan came again as it was.
    Resubmitted,
    /// A frozen name was changed.
    Frozen,
    /// Users were moved while fewer than `min_live` regions were up.
    MinLive,
    /// A dead region kept its users though everyone could see it.
    NotEvacuated,
    /// All is well again but not back to normal.
    NotHome,
    /// A snapshot that no request should read.
    Snapshot,
}

/// What was broken, when and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    pub rule: Rule,
    pub at: Time,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at.since(Time::ZERO).as_secs_f64();
        write!(f, "{:?} at {seconds:.3} s: {}", self.rule, self.text)
    }
}

pub type Held = Result<(), Violation>;

/// Everything that is true at one moment.
#[derive(Clone, Copy)]
pub struct Truth<'a> {
    pub cast: &'a Cast,
    pub world: &'a World,
    pub fabric: &'a Fabric,
    pub store: &'a Store,
    pub now: Time,
}

impl Truth<'_> {
    fn broken(&self, rule: Rule, text: String) -> Held {
        Err(Violation { rule, at: self.now, text })
    }

    fn require(&self, holds: bool, rule: Rule, text: impl FnOnce() -> String) -> Held {
        if holds { Ok(()) } else { self.broken(rule, text()) }
    }

    fn any(&self, name: usize, region: usize, of: impl Fn(&Trouble) -> bool) -> bool {
        self.world.any(region, &self.cast.names[name].services, of)
    }

    /// An edge notices its own pod, or another edge's silence: failed probes in a row, each late
    /// by its jitter and timeout, and the next evaluation.
    fn noticed(&self) -> Duration {
        (pace::PROBE * (self.cast.health.fall + 1)).mul_f64(1.1)
            + pace::PROBE_TIMEOUT
            + Duration::from_millis(500)
    }

    /// The longest that a dead service is a candidate elsewhere: noticed there, then here; or,
    /// when nobody decides there any more, its last view grown old and then noticed here.
    fn told(&self) -> Duration {
        self.noticed() + self.noticed().max(self.cast.failover.view_fresh + pace::PROBE)
    }

    /// The longest that a dead region may be voted up: told to every voter, and their votes grown old.
    fn voted(&self) -> Duration {
        self.told() + self.cast.failover.view_fresh + Duration::from_secs(1)
    }

    /// The longest that a change may rest on trouble that is over: the checkers' lag and the poll
    /// that tells of it, or word by views until they have grown old.
    fn remembered(&self) -> Duration {
        let witness = pace::WITNESS_LAG + pace::DNS_POLL.mul_f64(1.1) + pace::API_TIMEOUT;
        witness.max(self.noticed() + self.cast.failover.view_fresh) + Duration::from_secs(1)
    }

    /// The longest that a plain death may go without evacuation: votes or witness, a plan in
    /// flight, one writer's patience, two rounds of the API.
    fn evacuated(&self) -> Duration {
        let failover = &self.cast.failover;
        self.told()
            + failover.down_after
            + failover.plan_expiry
            + failover.writer_patience
            + pace::DNS_POLL * 2
            + Duration::from_secs(1)
    }
}

/// What rounding to whole points of a hundred may add to a change or hide in it.
const POINT: f64 = 0.01 + 1e-9;

/// A change that the store took.
#[derive(Debug)]
pub struct Applied<'a> {
    pub name: usize,
    pub before: &'a Stored,
    pub plan: &'a Plan,
    pub sent: Sent,
}

/// What must be remembered between steps.
#[derive(Debug)]
pub struct Invariants {
    /// By name: when the last change was sent, by its writer's clock.
    last_stamp: Vec<Option<Time>>,
    /// By edge: plans that Route 53 refused to it.
    refused: Vec<BTreeSet<u64>>,
    /// By name: when a hand moved users.
    edited: Vec<Time>,
}

impl Invariants {
    pub fn new(cast: &Cast) -> Self {
        Self {
            last_stamp: vec![None; cast.names.len()],
            refused: vec![BTreeSet::new(); cast.regions.len()],
            edited: vec![Time::ZERO; cast.names.len()],
        }
    }

    pub fn restarted(&mut self, edge: usize) {
        self.refused[edge].clear();
    }

    pub fn conflicted(&mut self, edge: usize, plan: &Plan) {
        self.refused[edge].insert(plan.hash());
    }

    pub fn edited(&mut self, name: usize, now: Time) {
        self.edited[name] = now;
    }

    /// When a plan goes to the API.
    pub fn submitted(&self, truth: &Truth<'_>, edge: usize, plan: &Plan) -> Held {
        truth.require(!self.refused[edge].contains(&plan.hash()), Rule::Resubmitted, || {
            format!("{} sends again what was refused as a conflict: {plan:?}", truth.cast.regions[edge])
        })
    }

    /// When an edge proposes: on what ground.
    pub fn proposed(&self, truth: &Truth<'_>, edge: usize, plan: &Plan, snapshot: Option<&Snapshot>) -> Held {
        let n = truth.cast.regions.len();
        let verdicts = snapshot.and_then(|s| s.names.get(&plan.name)).map(|status| &status.verdicts);
        let up = verdicts.iter().flat_map(|v| v.values()).filter(|v| **v == Verdict::Up).count();
        truth.require(up >= truth.cast.failover.min_live, Rule::MinLive, || {
            format!("{} holds {up} regions for up and proposes {plan:?}", truth.cast.regions[edge])
        })?;
        self.unconfirmed(truth, plan, snapshot)?;
        if n == 2 {
            return Ok(());
        }
        // A view's age at its arrival: it is made up to a quarter second before, and travels.
        let span = truth.cast.failover.view_fresh + pace::PROBE_TIMEOUT + Duration::from_millis(500);
        let heard = 1 + truth.fabric.fresh(edge, span, truth.now);
        truth.require(heard > n / 2, Rule::CutOffWriter, || {
            let writer = &truth.cast.regions[edge];
            format!(
                "{writer} has fresh news of {heard} of {n} regions, itself included, and proposes {plan:?}"
            )
        })
    }

    /// Without a verdict a region loses users only to their home. A plan that the store will refuse
    /// is not judged: its writer has not read the last drains.
    fn unconfirmed(&self, truth: &Truth<'_>, plan: &Plan, snapshot: Option<&Snapshot>) -> Held {
        let name = truth.cast.name(&plan.name);
        let stored = &truth.store.names[name];
        let verdicts = snapshot.and_then(|s| s.names.get(&plan.name)).map(|status| &status.verdicts);
        let Some(verdicts) = verdicts.filter(|_| stored.fence == plan.fence) else { return Ok(()) };
        for (entry, change) in &plan.changes {
            let home = truth.cast.names[name].home.get(entry);
            let lost = |region: &RegionId| change.from.share(region) - change.to.share(region);
            let known = |region: &RegionId| {
                matches!(verdicts.get(region), Some(Verdict::Up | Verdict::Down))
                    || stored.drains.contains(region)
            };
            let home_gains = gains_of_home(truth, home, (&change.from, &change.to));
            for region in truth.cast.regions.iter().filter(|r| !known(r)) {
                truth.require(lost(region) <= home_gains + POINT, Rule::AwayFromUnconfirmed, || {
                    let verdict = verdicts.get(region);
                    format!("{region} is {verdict:?} and loses users of {entry}: {plan:?}")
                })?;
            }
        }
        Ok(())
    }

    /// After the store took a change.
    pub fn applied(&mut self, truth: &Truth<'_>, applied: &Applied<'_>) -> Held {
        let Applied { name, before, plan, sent } = applied;
        let changes = plan.changes.values().any(|change| change.from != change.to);
        truth.require(changes, Rule::EmptySet, || format!("no change in {plan:?}"))?;
        let fenced = before.fence == plan.fence
            && truth.store.names[*name].fence.generation == before.fence.generation.next()
            && plan.changes.iter().all(|(entry, change)| before.sets.get(entry) == Some(&change.from));
        truth.require(fenced, Rule::Fence, || format!("stored was {before:?}, applied was {plan:?}"))?;
        truth.require(!before.frozen, Rule::Frozen, || format!("{plan:?}"))?;
        for (entry, change) in &plan.changes {
            let waited = truth.now.since(sent.proposed);
            let dead = |id: &RegionId| {
                let region = truth.cast.region(id);
                truth.any(*name, region, |t| t.longer_than(truth.voted() + waited, truth.now))
            };
            let live = |set: &WeightedSet| set.iter().any(|(id, _)| !dead(id));
            truth.require(!live(&change.from) || live(&change.to), Rule::EmptySet, || {
                format!("nobody lives in entry {entry} any more: {plan:?}")
            })?;
            for region in 0..truth.cast.regions.len() {
                self.moved(truth, applied, entry, (&change.from, &change.to), region)?;
            }
        }
        let previous = self.last_stamp[*name].replace(sent.stamp);
        if plan.reason == Reason::Ramp {
            let pause = previous.map(|at| sent.stamp.since(at));
            let hold_down = truth.cast.failover.hold_down;
            truth.require(pause.is_none_or(|p| p + pace::SKEW * 2 >= hold_down), Rule::HoldDown, || {
                format!("{pause:?} after the last change: {plan:?}")
            })?;
        }
        min_live(truth, applied)
    }

    /// One region's share in one entry of a change.
    fn moved(
        &self,
        truth: &Truth<'_>,
        applied: &Applied<'_>,
        entry: &EntryId,
        (from, to): (&WeightedSet, &WeightedSet),
        region: usize,
    ) -> Held {
        let Applied { name, before, plan, sent } = applied;
        let id = &truth.cast.regions[region];
        let (had, has) = (from.share(id), to.share(id));
        let moves = || format!("{id} goes from {had:.2} to {has:.2} in entry {entry}: {plan:?}");
        let drained = before.drains.contains(id);
        let waited = truth.now.since(sent.proposed);
        let troubled = truth.any(*name, region, |t| t.within(truth.remembered() + waited, truth.now));
        if has > had {
            let dead = truth.any(*name, region, |t| t.longer_than(truth.voted() + waited, truth.now));
            let well = (0..truth.cast.regions.len()).any(|r| !truth.any(*name, r, |t| t.now));
            truth.require(!(dead && well), Rule::IntoDead, || format!("long down: {}", moves()))?;
            truth.require(!drained, Rule::IntoDead, || format!("drained: {}", moves()))?;
        }
        let home = truth.cast.names[*name].home.get(entry).map_or(0.0, |set| set.share(id));
        if has + POINT < had && has + POINT < home {
            let makes_room = truth.cast.tight && plan.reason == Reason::Ramp;
            truth.require(drained || troubled || makes_room, Rule::AwayFromWell, moves)?;
        }
        let guest = truth.cast.steady && !drained && !troubled && has + POINT < had;
        if guest && let Some(from_home) = truth.cast.regions.iter().position(|r| r.as_str() == entry.as_str())
        {
            let home_gains = gains_of_home(truth, truth.cast.names[*name].home.get(entry), (from, to));
            let distance = |to: usize| truth.fabric.distance(from_home, to);
            let nearer = |(other, id): (usize, &RegionId)| {
                to.share(id) > from.share(id) && distance(other) <= distance(region)
            };
            let sent_nearer = truth.cast.regions.iter().enumerate().any(nearer);
            let fits = had - has <= home_gains + POINT || sent_nearer;
            truth.require(fits, Rule::AwayFromWell, || format!("sent farther: {}", moves()))?;
        }
        match plan.reason {
            Reason::Ramp => {
                let bound = truth.cast.failover.max_shift.max(POINT) + POINT;
                truth.require(has - had <= bound, Rule::MaxShift, moves)
            }
            Reason::Evacuation => {
                let called_for = has + POINT >= had || (has == 0.0 && troubled);
                truth.require(called_for, Rule::AwayFromWell, || format!("no evacuation: {}", moves()))
            }
        }
    }

    /// From time to time: whether a dead region's users were moved.
    pub fn audited(&self, truth: &Truth<'_>) -> Held {
        let n = truth.cast.regions.len();
        for (name, stored) in truth.store.names.iter().enumerate() {
            let well = (0..n).filter(|r| !truth.any(name, *r, |t| t.now)).count();
            let enough = (n == 2 && well == 1) || well > n / 2;
            let plain = truth.world.plain && !stored.frozen && stored.drains.is_empty();
            if !plain || !enough || well < truth.cast.failover.min_live {
                continue;
            }
            let calm = truth.world.changed_at.max(self.edited[name]);
            let young = self.last_stamp[name].is_some_and(|at| {
                let since = truth.now.since(at);
                since < truth.evacuated() + truth.cast.failover.hold_down
            });
            // Undoing another region's change has to wait for the hold-down.
            let patience =
                truth.evacuated() + if young { truth.cast.failover.hold_down } else { Duration::ZERO };
            for (region, id) in truth.cast.regions.iter().enumerate() {
                let dead = truth.any(name, region, |t| t.longer_than(patience, truth.now));
                let holds = stored.sets.values().any(|set| set.get(id).is_some());
                if dead && holds && truth.now.since(calm) > patience {
                    let sets = &stored.sets;
                    let text = format!("{id} is dead for more than {patience:?} and has users: {sets:?}");
                    return truth.broken(Rule::NotEvacuated, text);
                }
            }
        }
        Ok(())
    }

    /// Every snapshot that an edge publishes.
    pub fn published(&self, truth: &Truth<'_>, edge: usize, snapshot: &Snapshot) -> Held {
        for (index, id) in truth.cast.services.iter().enumerate() {
            let Some(service) = snapshot.services.get(id) else {
                return truth.broken(Rule::Snapshot, format!("{id} is missing"));
            };
            let shown = || format!("edge {}, {service:?}", truth.cast.regions[edge]);
            let known = !service.endpoints.is_empty() || snapshot.peers.values().any(|p| !p.is_empty());
            truth.require(!known || !service.candidates.is_empty(), Rule::Snapshot, || {
                format!("no candidate: {}", shown())
            })?;
            consistent(service, &snapshot.own)
                .or_else(|text| truth.broken(Rule::Snapshot, format!("{text}: {}", shown())))?;
            for candidate in service.candidates.iter().filter(|c| c.place == Place::Peer && !service.panic) {
                let trouble = truth.world.trouble[truth.cast.region(&candidate.region)][index];
                let awake = truth.now.since(truth.world.awake_since[edge]) > truth.told();
                let stale = awake && trouble.longer_than(truth.told(), truth.now);
                truth.require(!stale, Rule::Snapshot, || {
                    format!("{} is long dead and a candidate: {}", candidate.region, shown())
                })?;
            }
        }
        Ok(())
    }

    /// Why all is not back to normal yet; `None` when it is.
    pub fn unsettled(&self, truth: &Truth<'_>, snapshots: &[Option<&Snapshot>]) -> Option<String> {
        for (cast, stored) in truth.cast.names.iter().zip(&truth.store.names) {
            let away = cast
                .home
                .iter()
                .find(|(entry, home)| !stored.sets.get(*entry).is_some_and(|set| set.agrees(home)));
            if let Some((entry, _)) = away {
                return Some(format!("entry {entry} of {} holds {:?}", cast.name, stored.sets.get(entry)));
            }
        }
        for (edge, snapshot) in snapshots.iter().enumerate() {
            let edge = &truth.cast.regions[edge];
            let Some(snapshot) = snapshot else { return Some(format!("edge {edge} publishes nothing")) };
            for service in snapshot.services.values() {
                if let Some((region, state)) = service.states.iter().find(|(_, s)| **s != State::Healthy) {
                    return Some(format!("edge {edge} sees {} in {region} as {state:?}", service.id));
                }
                if service.candidates.first().is_none_or(|c| c.place != Place::Own) {
                    return Some(format!("edge {edge} does not serve {} itself", service.id));
                }
            }
            for (name, status) in &snapshot.names {
                if let Some((region, verdict)) = status.verdicts.iter().find(|(_, v)| **v != Verdict::Up) {
                    return Some(format!("edge {edge} sees {region} for {name} as {verdict:?}"));
                }
            }
        }
        None
    }
}

/// What a snapshot must show by itself.
fn consistent(service: &ServiceSnapshot, own: &RegionId) -> Result<(), &'static str> {
    let state = |region: &RegionId| service.states.get(region).copied().unwrap_or(State::Unknown);
    let first = service.candidates.first().map(|c| &c.region);
    let own_well = state(own).usable() && !service.endpoints.is_empty();
    if own_well && first != Some(own) {
        return Err("the own region is well but not first");
    }
    // A drained own region stays as the last resort, without a share.
    let last = |c: &Candidate| c.place == Place::Own && state(own) == State::Draining && c.share == 0.0;
    if !service.panic && service.candidates.iter().any(|c| !state(&c.region).usable() && !last(c)) {
        return Err("a candidate is not usable and this is no panic");
    }
    if service.candidates.iter().any(|c| c.endpoints.is_empty()) {
        return Err("a candidate without endpoints");
    }
    let regions: BTreeSet<&RegionId> = service.candidates.iter().map(|c| &c.region).collect();
    if regions.len() != service.candidates.len() {
        return Err("a region twice");
    }
    Ok(())
}

/// The share of users that a change sends home.
fn gains_of_home(
    truth: &Truth<'_>,
    home: Option<&WeightedSet>,
    (from, to): (&WeightedSet, &WeightedSet),
) -> f64 {
    let gain = |region: &RegionId| {
        let due = home.map_or(0.0, |set| set.share(region));
        (to.share(region).min(due) - from.share(region)).max(0.0)
    };
    truth.cast.regions.iter().map(gain).sum()
}

/// At least `min_live` regions were up when users were moved.
fn min_live(truth: &Truth<'_>, applied: &Applied<'_>) -> Held {
    let least = truth.cast.failover.min_live.max(1);
    let waited = truth.now.since(applied.sent.proposed);
    let up = (0..truth.cast.regions.len())
        .filter(|r| !truth.any(applied.name, *r, |t| t.longer_than(truth.voted() + waited, truth.now)))
        .count();
    truth.require(up >= least, Rule::MinLive, || format!("only {up} were up for {:?}", applied.plan))
}
