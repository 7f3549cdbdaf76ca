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
    let loaded = matches!(aim.fault(), "surge" | "capacity-loss" | "checks-under-load");
    let capacity = if loaded { Some(dice.pick(&[110, 120, 150])) } else { dice.pick(&[None, Some(150)]) };
    Shape { regions: dice.pick(&[3, 4, 4, 5]), services: 1, names: 1, simple: dice.below(4) == 0, capacity }
}

/// The rules that only some settings bring about.
pub(super) fn tune(cast: &mut Cast, aim: Cell) {
    let regions = cast.regions.len();
    if aim.refusal() == "not_holder" {
        (cast.processes, cast.leased) = (2, true);
    }
    for FailoverPolicy { min_live, require_operator_below, max_changes_per_hour, .. } in
        cast.policies.iter_mut().map(|policy| &mut policy.failover)
    {
        match aim.refusal() {
            "min_live" => *min_live = regions - 1,
            "needs_operator" => *require_operator_below = regions,
            "max_changes_per_hour" => *max_changes_per_hour = 2,
            _ => {}
        }
    }
}

pub(super) fn steps(cast: &Cast, aim: Cell, dice: &mut Dice) -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..ROUNDS {
        let begins = WARM_UP + Duration::from_millis(round * ROUND_MS) + dice.between(0, 2_000);
        let mut round = Round { cast, region: dice.index(cast.regions.len()), begins, steps: Vec::new() };
        round.condition(aim.refusal(), dice);
        round.trigger(aim.transition(), dice);
        round.fault(aim.fault(), dice);
        steps.append(&mut round.steps);
    }
    steps.sort_by_key(|step| step.at);
    steps
}

/// What happens in one round.
struct Round<'a> {
    cast: &'a Cast,
    /// To which the transition is to happen.
    region: usize,
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

    fn everywhere(&mut self, at: u64, lasts: u64, fault: impl Fn(usize) -> Fault) {
        for region in 0..self.cast.regions.len() {
            self.add(at, lasts, fault(region));
        }
    }

    /// What makes the transition happen in the round's region, around its middle.
    fn trigger(&mut self, transition: &str, dice: &mut Dice) {
        let (region, other) = (self.region, self.other(0));
        let at = dice.between(6_000, 9_000).as_millis() as u64;
        match transition {
            "service unknown" => {
                // Whoever starts while a region is drained, and does not reach it, knows nothing of it when the drain
                // ends, until enough probes have failed: the records are read once before and once after that.
                self.add(at - 5_000, 3_400, Fault::Drain { name: 0, region: other });
                self.add(at - 4_000, 9_000, Fault::Cut { from: region, to: other });
                self.add(at - 3_500, 1_000, Fault::EdgeStopped { region });
            }
            "service draining" => self.add(at, 8_000, Fault::Drain { name: 0, region }),
            "gate closed" | "gate open" if dice.below(3) == 0 => {
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
            _ => self.add(at, 6_000, Fault::ServiceDown { region, service: 0 }),
        }
    }

    /// What makes the rule refuse, from before that until after it.
    fn condition(&mut self, refusal: &str, dice: &mut Dice) {
        let (other, third) = (self.other(0), self.other(1));
        let entry = dice.index(self.cast.names[0].home.len());
        let by_hand = Fault::HandEdit { name: 0, entry, to: other };
        match refusal {
            "foreign" => self.add(3_000, 16_000, Fault::EntryLost { name: 0, entry }),
            "disagreement" => self.add(3_000, 14_000, Fault::BadPush { region: other }),
            "no_majority" => {
                self.add(4_000, 10_000, Fault::RegionSilent { region: other });
                self.add(4_000, 10_000, Fault::RegionSilent { region: third });
            }
            "no_evidence" => {
                self.everywhere(2_000, 15_000, |region| Fault::WitnessBlind { region });
                self.add(2_500, 14_000, Fault::RegionSilent { region: other });
            }
            "frozen" => {
                self.add(1_000, 0, by_hand);
                self.add(1_500, 20_000, Fault::Freeze { name: 0 });
            }
            "min_live" | "needs_operator" => {
                self.add(2_000, 15_000, Fault::ServiceDown { region: other, service: 0 });
            }
            "undoes_other" => {
                // One region evacuates, its writer is lost, and the next has to move the same users again.
                self.add(1_000, 5_000, Fault::ServiceDown { region: other, service: 0 });
                self.add(6_000, 9_000, Fault::RegionLost { region: third });
            }
            "just_woke" => {
                let ends = dice.between(7_500, 11_000).as_millis() as u64;
                for nth in 0..self.cast.regions.len() - 1 {
                    self.add(ends - 2_500, 2_500, Fault::ControlStalled { region: self.other(nth) });
                }
            }
            "unread" => {
                let every = Duration::from_millis(1_200);
                self.add(3_000, 14_000, Fault::TwoWriters { name: 0, entry, to: other, every });
                self.add(3_000, 14_000, Fault::ApiThrottled { percent: 60 });
            }
            "hold_down" | "not_writer" | "not_holder" | "max_changes_per_hour" => {
                self.add(2_000, 0, by_hand);
                if dice.below(2) == 0 {
                    self.add(3_000, 0, Fault::HandEdit { name: 0, entry: 0, to: third });
                }
            }
            _ => {}
        }
    }

    /// The fault itself, over the whole of it.
    fn fault(&mut self, kind: &str, dice: &mut Dice) {
        let fault = super::generate::of_kind(kind, self.cast, dice);
        self.add(500, 19_000, fault);
    }
}
