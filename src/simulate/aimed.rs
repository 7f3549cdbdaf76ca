//! Worlds aimed at what random ones hardly meet: one combination of fault, transition and refusal each.
//!
//! A round of half a minute is played again and again: what brings the refusal about begins, then what brings the
//! transition about, under the fault. The seed says which combination, and draws the rest.

use super::cast::Cast;
use super::coverage::{Cell, cells};
use super::faults::{Fault, Step};
use super::generate::{Shape, WARM_UP};
use super::noise::Dice;
use crate::domain::policy::FailoverPolicy;
use std::time::Duration;

/// Seeds from here on are aimed.
const FIRST: u64 = 1 << 40;
/// From the beginning of one round to that of the next, in milliseconds.
const ROUND_MS: u64 = 26_000;
const ROUNDS: u64 = 21;

/// The seed of the `nth` world that is aimed at a combination.
pub fn aimed_seed(cell: Cell, nth: u64) -> u64 {
    FIRST + cell.place() as u64 + nth * cells() as u64
}

/// What a seed aims at; `None`: it is a random one.
pub(super) fn aim(seed: u64) -> Option<Cell> {
    let index = seed.checked_sub(FIRST)? % cells() as u64;
    usize::try_from(index).ok().map(Cell::at)
}

/// A world in which the combination may be met.
pub(super) fn shape(aim: Cell, dice: &mut Dice) -> Shape {
    let capacity = match aim.fault() {
        // Who is drained and taken back again must not have to wait for room.
        _ if aim.transition() == UNKNOWN => None,
        // Nor may room call for a change where none is to be called for.
        _ if aim.refusal() == "no_evidence" => dice.pick(&[None, None, Some(150)]),
        "surge" | "capacity-loss" | "checks-under-load" => Some(dice.pick(&[110, 120, 150])),
        _ => dice.pick(&[None, Some(150)]),
    };
    // So many that a majority is left without a region that nobody hears, one whose vote is not known yet, and one
    // that is left to the fault.
    let many = matches!(aim.transition(), UNKNOWN | "verdict isolated")
        || aim.refusal() == "no_evidence"
        || few_receive(aim)
        || APART.contains(&aim.fault());
    let regions = if many { 5 } else { dice.pick(&[3, 4, 4, 5]) };
    Shape { regions, services: 1, names: 1, simple: dice.below(4) == 0, capacity }
}

/// The transition that takes the most to bring about.
const UNKNOWN: &str = "service unknown";

/// Faults of paths and policies that would forbid most of the rest, if they did not keep to one region.
const APART: [&str; 3] = ["isolated", "split", "bad-push"];

/// Faults of the records that hold every change back once they are read.
const HELD: [&str; 2] = ["freeze", "entry-lost"];

/// A gate closes only while enough others say that they are well; that too few may receive users must come of
/// drains, then.
fn few_receive(aim: Cell) -> bool {
    aim.refusal() == "min_live" && aim.transition().starts_with("gate")
}

/// The rules that only some settings bring about.
pub(super) fn tune(cast: &mut Cast, aim: Cell) {
    let regions = cast.regions.len();
    if aim.refusal() == "not_holder" {
        (cast.processes, cast.leased) = (2, true);
    }
    for FailoverPolicy { min_live, require_operator_below, max_changes_per_hour, max_shift, .. } in
        cast.policies.iter_mut().map(|policy| &mut policy.failover)
    {
        match aim.refusal() {
            // A region that is drained no longer counts again once the drain is over.
            "min_live" if aim.transition() == UNKNOWN => *min_live = regions,
            // One of those who are well may be left to the fault.
            "min_live" if few_receive(aim) => *min_live = regions - 2,
            "min_live" => *min_live = regions - 1,
            "needs_operator" => *require_operator_below = regions,
            "max_changes_per_hour" => *max_changes_per_hour = 2,
            _ => {}
        }
        // All users of one round are back before the next.
        if aim.transition() == UNKNOWN {
            *max_shift = 1.0;
        }
    }
}

pub(super) fn steps(cast: &Cast, aim: Cell, dice: &mut Dice) -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..ROUNDS {
        let begins = WARM_UP + Duration::from_millis(round * ROUND_MS) + dice.between(0, 2_000);
        let region = match aim.refusal() {
            // The first in the order of writers: it is the one that proposes, for its own sake.
            "unread" if aim.transition().starts_with("gate") => 0,
            // The first writes while this one starts, and the next one is drained.
            "undoes_other" if aim.transition() == UNKNOWN => 1 + dice.index(cast.regions.len() - 2),
            _ => dice.index(cast.regions.len()),
        };
        let at = match aim.refusal() {
            // A majority must have found by then that a region is silent.
            "no_evidence" if aim.transition() == UNKNOWN => dice.between(8_500, 9_500),
            _ => dice.between(6_000, 9_000),
        };
        let at = at.as_millis() as u64;
        let mut round = Round { cast, aim, region, at, begins, steps: Vec::new() };
        round.condition(dice);
        round.trigger(dice);
        round.fault(dice);
        steps.append(&mut round.steps);
    }
    steps.sort_by_key(|step| step.at);
    steps
}

/// What happens in one round.
struct Round<'a> {
    cast: &'a Cast,
    aim: Cell,
    /// To which the transition is to happen.
    region: usize,
    /// About when, in milliseconds from the beginning.
    at: u64,
    begins: Duration,
    steps: Vec<Step>,
}

impl Round<'_> {
    /// Times in milliseconds, from the beginning of the round.
    fn add(&mut self, at: u64, lasts: u64, fault: Fault) {
        let (at, lasts) = (self.begins + Duration::from_millis(at), Duration::from_millis(lasts));
        self.steps.push(Step { at, lasts, fault });
    }

    /// Another region than the round's.
    fn other(&self, nth: usize) -> usize {
        let n = self.cast.regions.len();
        (self.region + 1 + nth % (n - 1)) % n
    }

    /// The region that has the least to do with the rest of the round.
    fn bystander(&self) -> usize {
        self.other(self.cast.regions.len() - 2)
    }

    fn everywhere(&mut self, at: u64, lasts: u64, fault: impl Fn(usize) -> Fault) {
        for region in 0..self.cast.regions.len() {
            self.add(at, lasts, fault(region));
        }
    }

    /// What makes the transition happen in the round's region, around its middle.
    fn trigger(&mut self, dice: &mut Dice) {
        let (region, other, at) = (self.region, self.other(0), self.at);
        match self.aim.transition() {
            UNKNOWN => self.unknown(dice),
            "service draining" => self.add(at, 8_000, Fault::Drain { name: 0, region }),
            "gate closed" | "gate open" if self.aim.refusal() == "unread" => {
                // Its own plan has failed by then; it closes after a hold-down and opens with the service.
                self.add(500, 13_000, Fault::ServiceDown { region, service: 0 });
            }
            "gate closed" if self.aim.refusal() == "just_woke" => {
                self.add(at, 8_000, Fault::Drain { name: 0, region });
            }
            "gate open" if self.aim.refusal() == "just_woke" => {
                self.add(at - 6_000, 6_000, Fault::Drain { name: 0, region });
            }
            "gate closed" | "gate open" if few_receive(self.aim) => {
                self.add(at, 6_000, Fault::Drain { name: 0, region });
            }
            // Whoever is drained has users left when its gate closes, so that a change is called for.
            "gate closed" | "gate open" if self.aim.refusal() != "no_evidence" && dice.below(3) == 0 => {
                self.add(at, 6_000, Fault::Drain { name: 0, region });
            }
            "gate closed" | "gate open" => {
                self.add(at - 5_000, 12_500, Fault::ServiceDown { region, service: 0 });
            }
            "verdict isolated" => self.add(at, 7_500, Fault::Isolated { region }),
            "verdict no_majority" => {
                let side = (1 << (self.cast.regions.len() / 2)) - 1;
                self.add(at, 7_000, Fault::Split { side });
            }
            "verdict disagreement" => {
                self.add(at, 5_000, Fault::BadPush { region });
                if dice.below(2) == 0 {
                    // Nobody refuses anything before the records were read once.
                    self.add(at - 3_500, 9_000, Fault::ApiDown { region: other });
                    self.add(at - 2_000, 1_000, Fault::EdgeStopped { region: other });
                }
            }
            "verdict no_evidence" => {
                self.everywhere(at, 8_500, |region| Fault::WitnessBlind { region });
                self.add(at, 8_000, Fault::RegionSilent { region });
            }
            "verdict down" if self.aim.refusal() == "no_evidence" => {
                // Nobody is there any more who would have to be moved.
                self.add(500, 18_000, Fault::Drain { name: 0, region });
                self.add(at, 6_000, Fault::ServiceDown { region, service: 0 });
            }
            _ => self.add(at, 6_000, Fault::ServiceDown { region, service: 0 }),
        }
    }

    /// Whoever starts while a region is drained, and does not reach it, knows nothing of it when the drain ends, until
    /// enough probes have failed: the records are read once before and once after that.
    fn unknown(&mut self, dice: &mut Dice) {
        let (region, other, at) = (self.region, self.other(0), self.at);
        let (begins, lasts) = match self.aim.refusal() {
            // The other's users are moved between the two readings.
            "undoes_other" => {
                let ago = dice.between(2_100, 3_100).as_millis() as u64;
                (at - ago, ago - dice.between(800, 1_200).as_millis() as u64)
            }
            _ => (at - 5_000, 3_400),
        };
        self.add(begins, lasts, Fault::Drain { name: 0, region: other });
        self.add(at - 4_000, 9_000, Fault::Cut { from: region, to: other });
        self.add(at - 3_500, 1_000, Fault::EdgeStopped { region });
    }

    /// What makes the rule refuse, from before that until after it.
    fn condition(&mut self, dice: &mut Dice) {
        let (region, at) = (self.region, self.at);
        let unknown = self.aim.transition() == UNKNOWN;
        // The first of the others is drained there, and is not heard.
        let (other, third) =
            if unknown { (self.other(1), self.other(2)) } else { (self.other(0), self.other(1)) };
        let entry = dice.index(self.cast.names[0].home.len());
        let by_hand = Fault::HandEdit { name: 0, entry, to: other };
        match self.aim.refusal() {
            "foreign" => self.add(3_000, 16_000, Fault::EntryLost { name: 0, entry }),
            "disagreement" => self.add(3_000, 14_000, Fault::BadPush { region: other }),
            "no_majority" => {
                self.add(4_000, 10_000, Fault::RegionSilent { region: other });
                self.add(4_000, 10_000, Fault::RegionSilent { region: third });
            }
            "no_evidence" => self.unheard(),
            "frozen" => {
                self.add(1_000, 0, by_hand);
                self.add(1_500, 20_000, Fault::Freeze { name: 0 });
            }
            "min_live" if few_receive(self.aim) => {
                for nth in 0..3 {
                    let region = self.other(nth);
                    self.add(500, 17_000, Fault::Drain { name: 0, region });
                }
            }
            "min_live" | "needs_operator" => {
                let begins = if unknown { 500 } else { 2_000 };
                self.add(begins, 15_000, Fault::ServiceDown { region: other, service: 0 });
            }
            // Whoever starts must see users moved, by another, between its first two readings.
            "undoes_other" if unknown => {}
            "undoes_other" => {
                // One region evacuates, its writer is lost, and the next has to move the same users again.
                self.add(1_000, 5_000, Fault::ServiceDown { region: other, service: 0 });
                self.add(6_000, 9_000, Fault::RegionLost { region: third });
            }
            "just_woke" if self.aim.transition().starts_with("gate") => {
                // It wakes to a drain that began or ended meanwhile.
                let ends = at + dice.between(0, 1_200).as_millis() as u64;
                self.add(ends - 2_500, 2_500, Fault::ControlStalled { region });
            }
            "just_woke" => {
                if !unknown {
                    // Users who must stay where they do not belong: there is something to refuse all the time.
                    self.add(1_000, 0, by_hand);
                    self.add(1_500, 20_000, Fault::Freeze { name: 0 });
                }
                self.wake(dice);
            }
            "unread" => self.unread(entry, dice),
            "not_holder" if unknown => self.add(at - 3_000, 0, by_hand),
            "hold_down" | "not_writer" | "not_holder" | "max_changes_per_hour" => {
                self.add(2_000, 0, by_hand);
                if dice.below(2) == 0 {
                    self.add(3_000, 0, Fault::HandEdit { name: 0, entry: 0, to: third });
                }
            }
            _ => {}
        }
    }

    /// Others wake, and the transition is what they find.
    fn wake(&mut self, dice: &mut Dice) {
        let all = self.cast.regions.len() - 1;
        let (from, to, wakers) = match self.aim.transition() {
            // The others have found it meanwhile.
            "verdict isolated" if dice.below(2) == 0 => (self.at + 4_000, self.at + 6_500, 1),
            // The service has come back meanwhile.
            "service probation" | "vote up" => (self.at + 6_500, self.at + 9_500, all),
            "service healthy" => (self.at + 9_500, self.at + 12_500, all),
            _ => (7_500, 11_000, all),
        };
        let ends = dice.between(from, to).as_millis() as u64;
        for nth in 0..wakers {
            self.add(ends - 2_500, 2_500, Fault::ControlStalled { region: self.other(nth) });
        }
    }

    /// A region that nobody hears, and of which Route 53 tells nothing either.
    fn unheard(&mut self) {
        let other = self.other(0);
        // Whoever starts must hear of it in time.
        let begins = if self.aim.transition() == UNKNOWN { 0 } else { 2_000 };
        match self.aim.transition() {
            // Which Route 53 must show to be well.
            "verdict isolated" => self.add(begins, 15_000, Fault::WitnessBlind { region: other }),
            _ => self.everywhere(begins, 15_000, |region| Fault::WitnessBlind { region }),
        }
        self.add(begins + 500, 14_000, Fault::RegionSilent { region: other });
    }

    /// Plans that meet a conflict, or expire, while the records cannot be read again.
    fn unread(&mut self, entry: usize, dice: &mut Dice) {
        let (region, other) = (self.region, self.other(0));
        if self.aim.transition().starts_with("gate") {
            // Nothing is called for any more once a region that was not left is well again, but for this.
            self.add(800, 0, Fault::HandEdit { name: 0, entry, to: other });
            self.everywhere(2_500, 16_000, |region| Fault::ApiDown { region });
        } else if dice.below(2) == 0 {
            self.add(500, 17_000, Fault::ServiceDown { region: other, service: 0 });
            // The round's own region goes on reading: that it is drained must become known.
            for nth in 0..self.cast.regions.len() - 1 {
                self.add(2_500, 16_000, Fault::ApiDown { region: self.other(nth) });
            }
            self.add(2_500, 5_000, Fault::ApiDown { region });
        } else {
            let every = Duration::from_millis(1_200);
            self.add(3_000, 14_000, Fault::TwoWriters { name: 0, entry, to: other, every });
            self.add(3_000, 14_000, Fault::ApiThrottled { percent: 60 });
        }
    }

    /// Shortly before the round's region is well again, where that is the transition.
    fn comes_back(&self) -> Option<u64> {
        match (self.aim.transition(), self.aim.refusal()) {
            ("gate open", "unread") => Some(12_500),
            ("gate open", "just_woke") => Some(self.at - 500),
            ("gate open" | "service probation" | "vote up", _) => Some(self.at + 5_500),
            ("service healthy", _) => Some(self.at + 9_500),
            _ => None,
        }
    }

    /// The fault itself: over the whole of it, around the moment, or again and again, where nothing would be known
    /// otherwise.
    fn fault(&mut self, dice: &mut Dice) {
        let bystander = self.bystander();
        let gate = self.aim.transition().starts_with("gate");
        let (begins, lasts) = match dice.below(2) {
            // Whom it sends elsewhere must be there before.
            _ if self.aim.transition() == UNKNOWN && self.aim.fault() == "drain" => (500, 19_000),
            // What was heard before is still fresh at the moment, and the next thing is heard after it.
            _ if self.aim.transition() == UNKNOWN => (self.at - 1_300, 2_500),
            // Nobody may know of it before the records can't be read any more.
            _ if self.aim.refusal() == "unread" && HELD.contains(&self.aim.fault()) => (3_500, 15_500),
            // Whoever is down has been left by then.
            _ if gate && self.aim.refusal() == "no_evidence" && HELD.contains(&self.aim.fault()) => {
                (self.at + 500, 12_000)
            }
            0 => (500, 19_000),
            _ if self.aim.transition() == "service healthy" => (self.at + 8_000, 8_000),
            _ if gate => (self.at - 2_000, 12_000),
            _ => (self.at - 2_000, 8_000),
        };
        // The others find in time that only this one is well again, and it before them.
        let left = self.comes_back().filter(|_| self.aim.fault() == "service-left");
        if let Some(at) = left {
            return self.add(at, 7_000, Fault::ServiceLeft { service: 0, only: self.region });
        }
        match self.aim.fault() {
            "isolated" => self.add(begins, lasts, Fault::Isolated { region: bystander }),
            "split" => self.add(begins, lasts, Fault::Split { side: 1 << bystander }),
            "drain" if self.aim.transition() == UNKNOWN => {
                self.add(begins, lasts, Fault::Drain { name: 0, region: bystander });
            }
            // Whom the others do not hear does not keep them from agreeing.
            "bad-push" if dice.below(4) > 0 => {
                self.add(begins, lasts, Fault::BadPush { region: bystander });
                self.add(begins - 100, lasts + 200, Fault::Isolated { region: bystander });
            }
            kind @ ("api-outage" | "api-slow") => {
                let (first, times) = match self.aim.transition() {
                    UNKNOWN => (self.at - 1_700, 3),
                    // Whoever is down can be left before.
                    _ if gate && self.aim.refusal() == "no_evidence" => (self.at, 14),
                    _ => (self.at - 5_500, 14),
                };
                for nth in 0..times {
                    let fault = super::generate::of_kind(kind, self.cast, dice);
                    let late = dice.between(0, 500).as_millis() as u64;
                    self.add(first + nth * 1_000 + late, 450, fault);
                }
            }
            kind => {
                let fault = super::generate::of_kind(kind, self.cast, dice);
                self.add(begins, lasts, fault);
            }
        }
    }
}
