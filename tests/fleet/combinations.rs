//! Every pair of conditions in worlds of one to five regions, and every three of them: what edge `a` concludes and does.
//!
//! The expected outcome is that of docs/failover.md, "When several things are wrong at once": each condition
//! takes away a vote, a word or a reading, and the verdict table is read with what is left.

use super::edge::{Edge, pod, policy, region, web, www};
use proxima::domain::fleet::{DnsReport, Input, Probe, ProbeFailure, RegionAnswer, Target};
use proxima::domain::health::Word;
use proxima::domain::latency::Rtt;
use proxima::domain::name::{EntryId, RegionId};
use proxima::domain::operator::OperatorState;
use proxima::domain::plan::{Fence, Generation, NameState};
use proxima::domain::policy::{NamePolicy, Policy, RegionPolicy};
use proxima::domain::time::Time;
use proxima::domain::view::{ServiceView, View};
use proxima::domain::votes::{Undecided, Verdict, Witness};
use proxima::domain::weights::WeightedSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const REGIONS: [&str; 5] = ["a", "b", "c", "d", "e"];
const FRESH: Duration = Duration::from_secs(2);
const HOLD_DOWN: Duration = Duration::from_secs(14);
/// Between two readings of the records.
const POLL: Duration = Duration::from_secs(2);

/// Whom a condition is about: the last region, whose users may be moved, or `b`, who votes on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    Voter,
    Target,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// It reaches `a`, `a` does not reach it.
    Unreached(Whom),
    /// `a` reaches it, it reaches nobody.
    ReachesNobody(Whom),
    /// What it answers is older than what it answered before.
    Replays(Whom),
    /// It answers the same for ever.
    StandsStill(Whom),
    /// It has started again a while ago.
    Restarted(Whom),
    /// Each of its answers is the first one of its process.
    KeepsRestarting(Whom),
    /// Its views say what this version has no word for.
    Newer(Whom),
    /// Its views lack all that was not there from the beginning.
    Older(Whom),
    OtherPolicy(Whom),
    /// `a` itself starts again, between two readings of the records.
    OwnRestart,
    /// The clock of the last writer, against that of `a`, in milliseconds.
    Clock(i64),
}

use Condition::*;

const YEAR_MS: i64 = 365 * 86_400_000;

fn conditions() -> Vec<Condition> {
    let of = |whom| {
        [
            Unreached(whom),
            ReachesNobody(whom),
            Replays(whom),
            StandsStill(whom),
            Restarted(whom),
            KeepsRestarting(whom),
            Newer(whom),
            Older(whom),
            OtherPolicy(whom),
        ]
    };
    let own = [OwnRestart, Clock(YEAR_MS), Clock(500), Clock(-500), Clock(-YEAR_MS)];
    of(Whom::Voter).into_iter().chain(of(Whom::Target)).chain(own).collect()
}

/// What becomes of the target's users while the conditions hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    /// Silent to all, and red at Route 53.
    Dead,
    /// Silent to all, and green.
    Silent,
    /// It says itself that its service is down; nobody has asked Route 53.
    Sick,
    /// Its service is well, and red: users do not reach it.
    Red,
    /// It is well again; its users are elsewhere, and the hold-down runs.
    Returning,
}

struct World {
    regions: usize,
    fate: Fate,
    conditions: Vec<Condition>,
}

/// What a world comes to.
#[derive(Debug, PartialEq)]
struct Outcome {
    verdicts: BTreeMap<RegionId, Verdict>,
    moved: bool,
    refusal: Option<&'static str>,
}

impl World {
    fn names(&self) -> &'static [&'static str] {
        &REGIONS[..self.regions]
    }

    fn target(&self) -> &'static str {
        REGIONS[self.regions - 1]
    }

    fn has(&self, name: &str, condition: impl Fn(Whom) -> Condition) -> bool {
        let holds = |whom| self.conditions.contains(&condition(whom));
        (name == "b" && holds(Whom::Voter)) || (name == self.target() && name != "a" && holds(Whom::Target))
    }

    fn ahead_ms(&self) -> i64 {
        self.conditions.iter().map(|c| if let Clock(ms) = c { *ms } else { 0 }).sum()
    }
}

/// The rule of docs/failover.md.
impl World {
    fn ill(&self) -> bool {
        !matches!(self.fate, Fate::Well | Fate::Red | Fate::Returning)
    }

    /// Whether `a` gets answers that it can take for answers of now, if not of a voter.
    fn answers(&self, name: &str) -> bool {
        let silent = name == self.target() && matches!(self.fate, Fate::Dead | Fate::Silent);
        let anew = self.has(name, KeepsRestarting);
        let old = self.has(name, Replays) || self.has(name, StandsStill);
        name == "a" || !(silent || self.has(name, Unreached) || (old && !anew))
    }

    /// Whether its votes and its word count.
    fn counts(&self, name: &str) -> bool {
        name == "a" || (self.answers(name) && !self.has(name, KeepsRestarting))
    }

    fn says(&self, voter: &str, of: &str) -> Word {
        let is_ill = of == self.target() && self.ill();
        let down = match voter {
            _ if voter == of => is_ill,
            "a" => is_ill || !self.answers(of),
            _ => is_ill || self.has(voter, ReachesNobody),
        };
        if down { Word::Down } else { Word::Up }
    }

    fn witness(&self, name: &str) -> Witness {
        match self.fate {
            Fate::Dead | Fate::Red if name == self.target() => Witness::Red,
            Fate::Sick if name == self.target() => Witness::Unknown,
            _ => Witness::Green,
        }
    }

    fn verdict(&self, of: &str) -> Verdict {
        let voters: Vec<&str> = self.names().iter().copied().filter(|name| self.counts(name)).collect();
        let share = |word| voters.iter().filter(|voter| self.says(voter, of) == word).count();
        let majority = |word| match self.regions {
            2 => self.says("a", of) == word,
            _ => share(word) * 2 > self.regions,
        };
        let red = self.witness(of) == Witness::Red;
        let evidence = red || (self.counts(of) && self.says(of, of) == Word::Down);
        if self.regions == 1 {
            Verdict::Undecided(Undecided::SingleRegion)
        } else if voters.iter().any(|name| self.has(name, OtherPolicy)) {
            Verdict::Undecided(Undecided::Disagreement)
        } else if self.regions > 2 && voters.len() * 2 <= self.regions {
            Verdict::Undecided(Undecided::NoMajority)
        } else if majority(Word::Down) && evidence {
            Verdict::Down
        } else if majority(Word::Down) && self.witness(of) == Witness::Green {
            Verdict::Isolated
        } else if majority(Word::Down) {
            Verdict::Undecided(Undecided::NoEvidence)
        } else if majority(Word::Up) && !red {
            Verdict::Up
        } else {
            Verdict::Undecided(Undecided::Split)
        }
    }

    fn expected(&self) -> Outcome {
        let verdicts: BTreeMap<RegionId, Verdict> =
            self.names().iter().map(|name| (region(name), self.verdict(name))).collect();
        let up = verdicts.values().any(|verdict| *verdict == Verdict::Up);
        let on_target = verdicts[&region(self.target())];
        let shown = |why| verdicts.values().any(|verdict| *verdict == Verdict::Undecided(why));
        let (moved, refusal) = match (self.fate, on_target) {
            (_, Verdict::Down) => (up, (!up).then_some("min_live")),
            _ if self.goes_home_early() => (true, None),
            (Fate::Returning, Verdict::Up) => (true, None),
            _ if shown(Undecided::Disagreement) => (false, Some("disagreement")),
            _ if shown(Undecided::NoMajority) => (false, Some("no_majority")),
            _ if shown(Undecided::NoEvidence) => (false, Some("no_evidence")),
            _ => (false, None),
        };
        Outcome { verdicts, moved, refusal }
    }

    /// The only three that say more than each of them: an edge that has just started cannot tell that the first view
    /// of a region is an old one, nor that the last writer's clock is, and takes one step by them before it does.
    fn goes_home_early(&self) -> bool {
        let old = self.has(self.target(), Replays) || self.has(self.target(), StandsStill);
        let long_ago = self.ahead_ms() < -(HOLD_DOWN.as_millis() as i64);
        self.fate == Fate::Returning && old && long_ago && self.conditions.contains(&OwnRestart)
    }

    /// Until when the last change holds a return back: it counts as its writer says, but not from before
    /// the reading that did not show it yet, nor from after the first one that did.
    fn held_until(&self, claimed: Time, read_at: Time) -> Time {
        let earliest = if self.conditions.contains(&OwnRestart) { Time::ZERO } else { read_at.before(POLL) };
        claimed.max(earliest).min(read_at) + HOLD_DOWN
    }
}

/// How the world comes about.
struct Run<'a> {
    world: &'a World,
    edge: Edge,
    second: u64,
    /// Whether the conditions hold, and whether the fate has come.
    wrong: bool,
    fated: bool,
    first_plan: Option<Time>,
}

fn home(names: &[&str]) -> BTreeMap<EntryId, WeightedSet> {
    names.iter().map(|n| (EntryId::parse(n).unwrap(), WeightedSet::only(region(n)))).collect()
}

fn policy_of(names: &[&str]) -> Policy {
    let mut policy = policy();
    policy.regions = names.iter().map(|n| (region(n), RegionPolicy::default())).collect();
    let entries = home(names);
    policy.names = BTreeMap::from([(
        www(),
        NamePolicy { entries: Arc::new(entries), services: BTreeSet::from([web()]) },
    )]);
    policy.failover.view_fresh = FRESH;
    policy.failover.down_after = FRESH;
    policy.failover.hold_down = HOLD_DOWN;
    policy
}

fn edge_of(names: &[&str], now: Time) -> Edge {
    let mut edge = Edge::new(policy_of(names));
    edge.now = now;
    for (n, name) in (21..).zip(names.iter().skip(1)) {
        edge.tell(Input::Resolved { target: Target::Peer(region(name)), addresses: vec![pod(n)] });
    }
    edge
}

impl Run<'_> {
    fn has(&self, name: &str, condition: impl Fn(Whom) -> Condition) -> bool {
        self.wrong && self.world.has(name, condition)
    }

    /// A region's view as it comes over the wire.
    fn view(&self, name: &str) -> View {
        let world = self.world;
        let ill = |of: &str| self.fated && world.ill() && of == world.target();
        let word = |down: bool| if down { Word::Down } else { Word::Up };
        let says = |of: &&str| word(ill(of) || (*of != name && self.has(name, ReachesNobody)));
        let votes = world.names().iter().map(|of| (region(of), says(of)));
        let votes = Arc::new(votes.collect());
        let view = View {
            boot: match () {
                () if self.has(name, KeepsRestarting) => 1_000 + self.second,
                () if self.has(name, Restarted) => 10,
                () => 9,
            },
            sequence: match () {
                () if self.has(name, Replays) => 10_000 - self.second,
                () if self.has(name, StandsStill) => 50_000,
                () => 20_000 + self.second,
            },
            policy: self.edge.policy.agreement_hash() + u64::from(self.has(name, OtherPolicy)),
            services: BTreeMap::from([(web(), ServiceView::of(word(ill(name))))]).into(),
            votes: BTreeMap::from([(www(), votes)]),
            ..View::first(region(name), 0, 0)
        };
        let mut json = serde_json::to_value(&view).unwrap();
        if self.has(name, Older) {
            let strip = |object: &mut serde_json::Value, fields: &[&str]| {
                let object = object.as_object_mut().unwrap();
                fields.iter().for_each(|field| assert!(object.remove(*field).is_some(), "{field}"));
            };
            strip(&mut json, &["witnesses", "draining", "load", "spare_rps", "content", "entered_by_name"]);
            strip(&mut json["services"]["web"], &["draining", "load", "asks", "grants", "spare_rps"]);
        }
        if self.has(name, Newer) {
            json["mood"] = serde_json::json!({ "of": ["tomorrow"] });
            json["services"]["web"]["colour"] = "blue".into();
            json["services"]["unheard-of"] = serde_json::json!({ "word": "down" });
            json["votes"]["new.example.com"] = serde_json::json!({ "a": "down" });
            json["votes"]["www.example.com"]["atlantis"] = "down".into();
        }
        serde_json::from_slice(&serde_json::to_vec(&json).unwrap()).unwrap()
    }

    fn seconds(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.second += 1;
            let (world, ill) = (self.world, self.fated && self.world.ill());
            self.edge.pods(!(ill && world.target() == "a"));
            for name in world.names().iter().skip(1) {
                let gone = matches!(world.fate, Fate::Dead | Fate::Silent) && ill && *name == world.target();
                if gone || self.has(name, Unreached) {
                    self.edge.silent(name);
                } else {
                    let answer = RegionAnswer { rtt: Some(Rtt::millis(20)), view: Arc::new(self.view(name)) };
                    let (region, result) = (region(name), Ok::<_, ProbeFailure>(answer));
                    self.edge.tell(Input::Probed(Probe::Region { region, result }));
                }
            }
            for _ in 0..2 {
                self.edge.now = self.edge.now + Duration::from_millis(500);
                self.edge.tell(Input::Tick);
                if self.first_plan.is_none() && !self.edge.plans.is_empty() {
                    self.first_plan = Some(self.edge.now);
                }
            }
        }
    }

    /// The checkers' answers and the records are read.
    fn read(&mut self, generation: u64, returning: bool, changed_at: Time) {
        for name in self.world.names() {
            let witness = if self.fated { self.world.witness(name) } else { Witness::Green };
            self.edge.tell(Input::Dns(DnsReport::Witness { region: region(name), witness }));
        }
        let mut sets = home(self.world.names());
        if returning {
            sets.insert(EntryId::parse(self.world.target()).unwrap(), WeightedSet::only(region("a")));
        }
        let state = NameState {
            fence: Fence { epoch: "e".into(), generation: Generation::new(generation) },
            writer: Some(region("b")),
            changed_at: Some(changed_at),
            claim: Some(changed_at.since(Time::ZERO)),
            operator: OperatorState::default(),
            sets,
        };
        self.edge.tell(Input::Dns(DnsReport::Read { name: www(), state: Box::new(state) }));
    }
}

/// Runs a world; returns its outcome, when a plan came, and the two moments between which a return is due.
fn run(world: &World) -> (Outcome, Option<Time>, [Time; 2]) {
    let edge = edge_of(world.names(), Time::from_millis(2 * YEAR_MS as u64));
    let mut run = Run { world, edge, second: 0, wrong: false, fated: false, first_plan: None };
    run.seconds(4);
    run.wrong = true;
    run.seconds(8);
    let bootstrap = run.edge.now.before(Duration::from_secs(3600));
    run.read(1, false, bootstrap);
    run.seconds(1);
    let moment = run.edge.now;
    if world.conditions.contains(&OwnRestart) {
        run.edge = edge_of(world.names(), run.edge.now);
    }
    run.seconds(1);
    let read_at = run.edge.now;
    let ahead = Duration::from_millis(world.ahead_ms().unsigned_abs());
    let claimed = if world.ahead_ms() < 0 { moment.before(ahead) } else { moment + ahead };
    run.fated = true;
    for _ in 0..18 / POLL.as_secs() {
        run.read(2, world.fate == Fate::Returning, claimed);
        run.seconds(POLL.as_secs());
    }
    let status = run.edge.snapshot.as_ref().unwrap().names[&www()].clone();
    let moved = run.first_plan.is_some();
    let outcome = Outcome { verdicts: status.verdicts.clone(), moved, refusal: status.refusal };
    let held_until = world.held_until(claimed, read_at);
    // Who starts again needs some seconds to hear of everyone and to see that it is awake.
    let awake = if world.conditions.contains(&OwnRestart) { moment + 3 * FRESH } else { Time::ZERO };
    (outcome, run.first_plan, [held_until, held_until.max(awake) + POLL + Duration::from_millis(500)])
}

const FATES: [Fate; 6] = [Fate::Well, Fate::Red, Fate::Returning, Fate::Dead, Fate::Silent, Fate::Sick];

/// So many conditions, in every way.
fn sets(size: usize) -> Vec<Vec<Condition>> {
    let all = conditions();
    let mut sets = vec![Vec::new()];
    for _ in 0..size {
        let later = |set: &Vec<Condition>| {
            set.last().and_then(|last| all.iter().position(|c| c == last)).map_or(0, |n| n + 1)
        };
        let longer = |set: &Vec<Condition>| {
            let with = |one: &Condition| set.iter().chain([one]).copied().collect();
            all[later(set)..].iter().map(with).collect::<Vec<Vec<_>>>()
        };
        sets = sets.iter().flat_map(longer).collect();
    }
    sets
}

/// Runs worlds of so many regions; returns the refusals that were seen.
fn all_have_the_documented_outcome(regions: usize) -> BTreeSet<&'static str> {
    let at_most_two = [sets(0), sets(1), sets(2)].concat();
    have_the_documented_outcome(regions, &FATES, &at_most_two)
}

fn have_the_documented_outcome(
    regions: usize,
    fates: &[Fate],
    sets: &[Vec<Condition>],
) -> BTreeSet<&'static str> {
    let mut seen = BTreeSet::new();
    let of = |fate: &Fate| {
        let fate = *fate;
        sets.iter().map(move |conditions| World { regions, fate, conditions: conditions.clone() })
    };
    for world in fates.iter().flat_map(of) {
        let (outcome, first_plan, [from, to]) = run(&world);
        let World { fate, conditions, .. } = &world;
        let row = format!("{regions} regions, {fate:?}, {conditions:?}");
        assert_eq!(outcome, world.expected(), "{row}");
        seen.extend(outcome.refusal);
        // Evacuations do not wait; a return waits for the hold-down, and for nothing else then.
        match (fate, first_plan) {
            (Fate::Returning, Some(at)) => {
                assert!((from..=to).contains(&at), "{row}: {at:?}, not in {from:?}..={to:?}");
            }
            (_, Some(at)) if !conditions.contains(&OwnRestart) => {
                assert!(at < from, "{row}: it waited for the hold-down");
            }
            _ => {}
        }
    }
    seen
}

#[test]
fn one_region_concludes_nothing_whatever_else_is_wrong() {
    let seen = all_have_the_documented_outcome(1);
    assert_eq!(Vec::from_iter(seen), [] as [&str; 0]);
}

#[test]
fn every_pair_of_conditions_among_two_regions_has_its_outcome() {
    let seen = all_have_the_documented_outcome(2);
    assert_eq!(Vec::from_iter(seen), ["disagreement", "no_evidence"] as [&str; 2]);
}

#[test]
fn every_pair_of_conditions_among_three_regions_has_its_outcome() {
    let seen = all_have_the_documented_outcome(3);
    assert_eq!(Vec::from_iter(seen), ["disagreement", "min_live", "no_evidence", "no_majority"] as [&str; 4]);
}

#[test]
fn every_pair_of_conditions_among_four_regions_has_its_outcome() {
    let seen = all_have_the_documented_outcome(4);
    assert_eq!(Vec::from_iter(seen), ["disagreement", "min_live", "no_evidence", "no_majority"] as [&str; 4]);
}

#[test]
fn every_pair_of_conditions_among_five_regions_has_its_outcome() {
    let seen = all_have_the_documented_outcome(5);
    assert_eq!(Vec::from_iter(seen), ["disagreement", "no_evidence"] as [&str; 2]);
}

#[test]
fn every_three_conditions_have_their_outcome_while_one_of_three_regions_is_ill() {
    have_the_documented_outcome(3, &FATES[3..], &sets(3));
}

#[test]
fn every_three_conditions_have_their_outcome_while_one_of_three_regions_is_well_red_or_comes_back() {
    have_the_documented_outcome(3, &FATES[..3], &sets(3));
}

/// Of three regions all are above; these are some of the others, for the time that they take.
#[test]
fn every_thirteenth_three_conditions_have_their_outcome_among_two_four_and_five_regions() {
    let some: Vec<_> = sets(3).into_iter().step_by(13).collect();
    for regions in [2, 4, 5] {
        have_the_documented_outcome(regions, &FATES, &some);
    }
}
