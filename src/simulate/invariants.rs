//! What must hold after every step, checked against the truth.
//!
//! Bounds are the sums of what detection may take at the world's pace; each
//! says what it adds up.

use super::cast::Cast;
use super::fabric::Fabric;
use super::store::{Sent, Store, Stored};
use super::world::{Trouble, World};
use crate::domain::name::{EntryId, RegionId, ServiceId};
use crate::domain::plan::{HOUR, Plan, Reason};
use crate::domain::snapshot::Snapshot;
use crate::domain::time::Time;
use crate::domain::votes::Verdict;
use crate::domain::weights::WeightedSet;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

mod grounds;
mod lasting;

use grounds::{gains_of_home, min_live};

/// The rules by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// A ramp step came when the hour had seen all the changes that it may.
    MaxChanges,
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
    /// An ejected region stands above a healthy one.
    Ranked,
    /// A region was evacuated without a majority of votes against it.
    Minority,
    /// A plan overloads a region, by its own inputs, while others have room.
    Capacity,
    /// A plan was submitted after its expiry.
    Expired,
    /// A gate stays closed though nothing calls for it.
    GateLatched,
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
        let pace = &self.cast.pace;
        (pace.probe * (self.cast.health().fall + 1)).mul_f64(1.1)
            + pace.probe_timeout
            + Duration::from_millis(500)
    }

    /// The longest that a dead service is a candidate elsewhere: noticed there, then here; or,
    /// when nobody decides there any more, its last view grown old and then noticed here.
    fn told(&self) -> Duration {
        self.noticed() + self.noticed().max(self.cast.failover().view_fresh + self.cast.pace.probe)
    }

    /// The same for one region. Where the control tasks of several processes stand still, each may be heard for the
    /// first time in a while, and its last word counts as news: probes choose among them by chance, and miss one of two
    /// ten times in a row in one case of a thousand.
    fn told_of(&self, region: usize) -> Duration {
        let stands =
            self.world.stalled[region] || self.now.since(self.world.awake_since[region]) <= self.told();
        let late = if stands && self.cast.processes > 1 { self.cast.pace.probe * 10 } else { Duration::ZERO };
        self.told() + late
    }

    /// The longest that a dead region may be voted up: told to every voter, and their votes grown old.
    fn voted(&self) -> Duration {
        self.told() + self.cast.failover().view_fresh + Duration::from_secs(1)
    }

    /// The longest that a change may rest on trouble that is over: the checkers' lag and the poll
    /// that tells of it, or word by views until they have grown old.
    fn remembered(&self) -> Duration {
        let pace = &self.cast.pace;
        let witness = pace.witness_lag + pace.dns_poll.mul_f64(1.1) + pace.api_timeout;
        witness.max(self.noticed() + self.cast.failover().view_fresh) + Duration::from_secs(1)
    }

    /// The longest that a plain death may go without evacuation: votes or witness, a plan in
    /// flight, one writer's patience, two rounds of the API.
    fn evacuated(&self) -> Duration {
        let (failover, pace) = (self.cast.failover(), &self.cast.pace);
        self.told().max(pace.witness_lag + pace.dns_poll)
            + failover.down_after
            + failover.plan_expiry
            + failover.writer_patience
            + pace.dns_poll * 2
            + Duration::from_secs(1)
    }
}

/// Readers take two claims that are less apart for one: that of a change which leaves all sets as they were.
const ONE_CLAIM: Duration = Duration::from_secs(1);

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

/// A plan that came back as a conflict.
#[derive(Debug, Clone, Copy)]
struct RefusedPlan {
    told: Time,
    /// Which one it was, among those that would change the same.
    expires_at: Time,
}

/// What must be remembered between steps.
#[derive(Debug, Default)]
pub struct Invariants {
    /// By name: when the last change was sent, by its writer's clock.
    last_stamp: Vec<Option<Time>>,
    /// By name: when its control record was changed, in the last hour.
    changes: Vec<VecDeque<Time>>,
    /// By name: when a plan was applied, in the last hour.
    moves: Vec<VecDeque<Time>>,
    /// By edge and hash: plans that Route 53 refused to it.
    refused: Vec<BTreeMap<u64, RefusedPlan>>,
    /// By name: when a hand moved users.
    edited: Vec<Time>,
    /// By edge: since when its process runs, and whether it has seen what each entry sends.
    started: Vec<Time>,
    knows_demand: Vec<bool>,
    /// The last time that a name was not as at home, or a region not well.
    unsteady_at: Time,
    /// After the last fault: since when an edge sees a service in a region as not healthy.
    ill_since: BTreeMap<(usize, ServiceId, RegionId), Time>,
    /// The greatest error of a clock that a fault has brought.
    skew_max: Duration,
    /// By edge and name: since when a gate is closed and nothing calls for it.
    latched: Vec<Vec<Option<Time>>>,
}

impl Invariants {
    pub fn new(cast: &Cast) -> Self {
        Self {
            last_stamp: vec![None; cast.names.len()],
            changes: vec![VecDeque::new(); cast.names.len()],
            moves: vec![VecDeque::new(); cast.names.len()],
            refused: vec![BTreeMap::new(); cast.edges()],
            edited: vec![Time::ZERO; cast.names.len()],
            started: vec![Time::ZERO; cast.edges()],
            knows_demand: vec![false; cast.edges()],
            unsteady_at: Time::ZERO,
            ill_since: BTreeMap::new(),
            skew_max: Duration::ZERO,
            latched: vec![vec![None; cast.names.len()]; cast.edges()],
        }
    }

    pub fn restarted(&mut self, edge: usize, now: Time) {
        self.refused[edge].clear();
        self.started[edge] = now;
        self.knows_demand[edge] = false;
        self.latched[edge].fill(None);
    }

    /// Counts a change of a name's control record; an operator's act may count, too, for who reads it together
    /// with other news.
    pub fn changed(&mut self, name: usize, now: Time) {
        let changes = &mut self.changes[name];
        changes.retain(|at| now.since(*at) < HOUR);
        changes.push_back(now);
    }

    /// Whether a name has had all the changes that it may have in an hour, as an edge may count that has started since:
    /// the first generation, too.
    pub fn spent(&self, truth: &Truth<'_>) -> bool {
        let recent =
            |changes: &VecDeque<Time>| changes.iter().filter(|at| truth.now.since(**at) < HOUR).count();
        self.changes.iter().any(|changes| recent(changes) + 1 >= truth.cast.failover().max_changes_per_hour)
    }

    pub fn skewed(&mut self, by: Duration) {
        self.skew_max = self.skew_max.max(by);
    }

    pub fn skew_max(&self) -> Duration {
        self.skew_max
    }

    pub fn conflicted(&mut self, edge: usize, plan: &Plan, now: Time) {
        self.refused[edge].insert(plan.hash(), RefusedPlan { told: now, expires_at: plan.expires_at });
    }

    pub fn edited(&mut self, name: usize, now: Time) {
        self.edited[name] = now;
    }

    /// When a plan goes to the API, `expires_in` by its writer's clock.
    pub fn submitted(
        &self,
        truth: &Truth<'_>,
        edge: usize,
        plan: &Plan,
        proposed: Time,
        expires_in: Duration,
    ) -> Held {
        // Records that a hand took away and put back are the same again, and so may the plan be: if that
        // was after the refusal, or while it was on its way. And one that was under way when an earlier
        // one like it was refused is refused by the fence.
        let way = truth.cast.pace.api_timeout;
        let edited = truth.cast.name(&plan.name).map(|name| self.edited[name]);
        let again = self.refused[edge].get(&plan.hash()).is_some_and(|refused| {
            let anew = proposed >= refused.told || plan.expires_at == refused.expires_at;
            anew && edited.is_none_or(|at| at + way < refused.told)
        });
        truth.require(!again, Rule::Resubmitted, || {
            let region = &truth.cast.regions[truth.cast.region_of(edge)];
            format!("{region} sends again what was refused as a conflict: {plan:?}")
        })?;
        truth.require(!expires_in.is_zero(), Rule::Expired, || format!("{plan:?}"))
    }

    /// When an edge proposes: on what ground.
    pub fn proposed(&self, truth: &Truth<'_>, edge: usize, plan: &Plan, snapshot: Option<&Snapshot>) -> Held {
        let n = truth.cast.regions.len();
        let verdicts = snapshot.and_then(|s| s.names.get(&plan.name)).map(|status| &status.verdicts);
        let up = verdicts.iter().flat_map(|v| v.values()).filter(|v| **v == Verdict::Up).count();
        truth.require(up >= truth.cast.failover().min_live, Rule::MinLive, || {
            let region = &truth.cast.regions[truth.cast.region_of(edge)];
            format!("{region} holds {up} regions for up and proposes {plan:?}")
        })?;
        self.unconfirmed(truth, plan, snapshot)?;
        grounds::majority(truth, plan, snapshot)?;
        // Nobody knows of a hand's edit before the next reading.
        let read = truth.cast.pace.dns_poll.mul_f64(1.1) + truth.cast.pace.api_timeout;
        let edited = self.edited.iter().copied().max().unwrap_or(Time::ZERO);
        if self.knows_demand[edge] && truth.now.since(edited) > read {
            grounds::capacity(truth, plan, snapshot)?;
        }
        if n == 2 {
            return Ok(());
        }
        // A view's age at its arrival: it is made up to a quarter second before, and travels.
        let span =
            truth.cast.failover().view_fresh + truth.cast.pace.probe_timeout + Duration::from_millis(500);
        let heard = 1 + truth.fabric.fresh(edge, span, truth.now);
        truth.require(heard > n / 2, Rule::CutOffWriter, || {
            let writer = &truth.cast.regions[truth.cast.region_of(edge)];
            format!(
                "{writer} has fresh news of {heard} of {n} regions, itself included, and proposes {plan:?}"
            )
        })
    }

    /// Without a verdict a region loses users only to their home. A plan that the store will refuse
    /// is not judged: its writer has not read the last drains.
    fn unconfirmed(&self, truth: &Truth<'_>, plan: &Plan, snapshot: Option<&Snapshot>) -> Held {
        let Some(name) = truth.cast.name(&plan.name) else { return Ok(()) };
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
        self.max_changes(truth, *name, plan)?;
        self.changed(*name, truth.now);
        let previous = self.last_stamp[*name].replace(sent.stamp);
        if plan.reason == Reason::Ramp {
            let pause = previous.map(|at| sent.stamp.since(at));
            let hold_down = truth.cast.failover().hold_down;
            truth.require(
                pause.is_none_or(|p| p + ONE_CLAIM + truth.cast.pace.skew * 2 + self.skew_max >= hold_down),
                Rule::HoldDown,
                || format!("{pause:?} after the last change: {plan:?}"),
            )?;
        }
        min_live(truth, applied)
    }

    /// Counts a plan that was applied. Its writer had read all that was applied before; of what came before its
    /// start it knows less.
    fn max_changes(&mut self, truth: &Truth<'_>, name: usize, plan: &Plan) -> Held {
        let writer = truth.cast.region(&plan.writer);
        let started = truth.cast.edges_of(writer).map(|edge| self.started[edge]).max().unwrap_or_default();
        let moves = &mut self.moves[name];
        moves.retain(|at| truth.now.since(*at) < HOUR);
        let seen = moves.iter().filter(|at| **at >= started).count();
        moves.push_back(truth.now);
        let most = truth.cast.failover().max_changes_per_hour;
        truth.require(plan.reason == Reason::Evacuation || seen < most, Rule::MaxChanges, || {
            format!("{seen} changes in the last hour: {plan:?}")
        })
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
        let remembered = truth.remembered() + waited;
        let troubled = truth.any(*name, region, |t| t.within(remembered, truth.now))
            || truth.world.suspect[region].within(remembered, truth.now);
        if has > had {
            let dead = truth.any(*name, region, |t| t.longer_than(truth.voted() + waited, truth.now));
            let well = (0..truth.cast.regions.len()).any(|r| !truth.any(*name, r, |t| t.now));
            truth.require(!(dead && well), Rule::IntoDead, || format!("long down: {}", moves()))?;
            truth.require(!drained, Rule::IntoDead, || format!("drained: {}", moves()))?;
        }
        let home = truth.cast.names[*name].home.get(entry).map_or(0.0, |set| set.share(id));
        if has + POINT < had && has + POINT < home {
            // Where room is bounded, users of a full region may give way, by ramp, to others who have nowhere nearer.
            let for_room = plan.reason == Reason::Ramp && !truth.cast.steady;
            truth.require(drained || troubled || for_room, Rule::AwayFromWell, moves)?;
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
                let bound = truth.cast.failover().max_shift.max(POINT) + POINT;
                truth.require(has - had <= bound, Rule::MaxShift, moves)
            }
            Reason::Evacuation => {
                let called_for = has + POINT >= had || (has == 0.0 && troubled);
                truth.require(called_for, Rule::AwayFromWell, || format!("no evacuation: {}", moves()))
            }
        }
    }
}
