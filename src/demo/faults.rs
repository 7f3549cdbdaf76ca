//! How the world answers a fault, moment by moment, as it is seen from outside.

use super::event::Event;
use super::ledger::Request;
use super::world::Region;
use std::collections::BTreeSet;
use std::time::Duration;

/// What was done to a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its service is dead, its edge lives.
    Service,
    /// Nothing comes out of it.
    Region,
}

/// Moments since the fault began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// The edges that could send it requests had taken it out: its own for a service, every
    /// living one for a region.
    pub ejected: Option<Duration>,
    /// The first good answer from elsewhere for a user who lives there.
    pub first_rerouted: Option<Duration>,
    /// The first edge with the verdict "down".
    pub verdict: Option<Duration>,
    /// The zone accepted a change that takes users away from it.
    pub dns_submitted: Option<Duration>,
    /// A DNS answer left it out while its own entry's set still named it.
    pub moved_by_health_check: Option<Duration>,
    /// Its entry's set answers without it.
    pub moved_by_weights: Option<Duration>,
    /// When the last request that failed was sent.
    pub last_failed: Option<Duration>,
}

/// A fault and what has been seen of it so far.
#[derive(Debug, Clone)]
pub struct Fault {
    pub kind: Kind,
    pub region: Region,
    pub began: Duration,
    pub marks: Marks,
    /// Answers that had begun and were not whole when a service was killed.
    pub answers_cut: u32,
    edges: BTreeSet<Region>,
    ejected_by: BTreeSet<Region>,
    /// An answer left it out; by whose doing, the next look at its entry's set tells.
    left_out: Option<Duration>,
}

impl Fault {
    /// `all`: every region of the world.
    pub fn begin(kind: Kind, region: Region, began: Duration, all: impl Iterator<Item = Region>) -> Self {
        let edges = match kind {
            Kind::Service => BTreeSet::from([region]),
            Kind::Region => all.filter(|other| *other != region).collect(),
        };
        Self {
            kind,
            region,
            began,
            marks: Marks::default(),
            answers_cut: 0,
            edges,
            ejected_by: BTreeSet::new(),
            left_out: None,
        }
    }

    /// When DNS first sent its users elsewhere, by whichever means.
    pub fn detected(&self) -> Option<Duration> {
        match (self.marks.moved_by_health_check, self.marks.moved_by_weights) {
            (Some(check), Some(weights)) => Some(check.min(weights)),
            (check, weights) => check.or(weights),
        }
    }

    /// Takes note of what bears on the fault.
    pub fn notice(&mut self, event: &Event) {
        let (began, dead) = (self.began, self.region);
        let mark = |mark: &mut Option<Duration>, at: Duration| {
            if at >= began {
                mark.get_or_insert(at - began);
            }
        };
        let marks = &mut self.marks;
        match event {
            Event::Request(request) => self.request(request),
            Event::Edge { at, region, reading: Some(reading) } => {
                // What a dead region's own edge said last is no news.
                if self.kind == Kind::Region && *region == dead {
                    return;
                }
                if reading.verdicts.get(&dead).is_some_and(|v| v == "down") {
                    mark(&mut marks.verdict, *at);
                }
                let ejected = reading.states.get(&dead).is_some_and(|s| s == "ejected");
                if ejected && self.edges.contains(region) {
                    self.ejected_by.insert(*region);
                }
                if self.ejected_by == self.edges {
                    mark(&mut marks.ejected, *at);
                }
            }
            Event::Name { at, place, regions } => {
                let moved = *place == dead && !regions.is_empty() && !regions.contains(&dead);
                if moved && marks.moved_by_weights.is_none() {
                    self.left_out.get_or_insert(*at);
                }
            }
            Event::Set { at, entry, regions } => {
                if *entry != dead || regions.is_empty() {
                    return;
                }
                let left_out = self.left_out.take();
                if !regions.contains(&dead) {
                    mark(&mut marks.moved_by_weights, *at);
                } else if let Some(at) = left_out {
                    mark(&mut marks.moved_by_health_check, at);
                }
            }
            Event::Changed(change) => {
                let share = |weights: &super::event::Weights| share_of(weights, dead);
                if change.sets.values().any(|(before, after)| share(after) < share(before)) {
                    mark(&mut marks.dns_submitted, change.submitted_at);
                }
            }
            Event::Edge { reading: None, .. } | Event::Truth { .. } | Event::SetsEverEmpty(_) => {}
        }
    }

    fn request(&mut self, request: &Request) {
        if request.done < self.began {
            return;
        }
        let since = |at: Duration| at.saturating_sub(self.began);
        if request.failure.is_some() {
            let before = self.marks.last_failed.unwrap_or_default();
            self.marks.last_failed = Some(before.max(since(request.sent)));
        } else if request.place == self.region && request.served.is_some_and(|r| r != self.region) {
            self.marks.first_rerouted.get_or_insert(since(request.done));
        }
    }
}

/// The share of a set that a region has, 0..=1.
pub fn share_of(weights: &super::event::Weights, region: Region) -> f64 {
    let total: u32 = weights.values().map(|w| u32::from(*w)).sum();
    let own = weights.get(&region).copied().unwrap_or(0);
    if total == 0 { 0.0 } else { f64::from(own) / f64::from(total) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::event::{Change, Reading, Weights};
    use crate::demo::ledger::Failure;
    use crate::demo::world::World;
    use std::collections::BTreeMap;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn fault(kind: Kind) -> (Fault, Vec<Region>) {
        let regions: Vec<Region> = World::new(4).unwrap().regions().collect();
        (Fault::begin(kind, regions[0], ms(1000), regions.iter().copied()), regions)
    }

    fn sees(at: u64, edge: Region, dead: Region, state: &str, verdict: &str) -> Event {
        let reading = Reading {
            states: BTreeMap::from([(dead, state.to_owned())]),
            verdicts: BTreeMap::from([(dead, verdict.to_owned())]),
            serves_at_home: true,
        };
        Event::Edge { at: ms(at), region: edge, reading: Some(reading) }
    }

    #[test]
    fn a_silent_region_is_ejected_when_every_living_edge_says_so() {
        let (mut fault, r) = fault(Kind::Region);
        fault.notice(&sees(1100, r[0], r[0], "ejected", "down"));
        assert_eq!(fault.marks, Marks::default(), "its own edge is dead");
        fault.notice(&sees(3000, r[1], r[0], "ejected", "split"));
        fault.notice(&sees(3100, r[2], r[0], "ejected", "down"));
        assert_eq!((fault.marks.ejected, fault.marks.verdict), (None, Some(ms(2100))));
        fault.notice(&sees(3300, r[3], r[0], "ejected", "split"));
        assert_eq!(fault.marks.ejected, Some(ms(2300)));
    }

    #[test]
    fn a_dead_service_is_ejected_when_its_own_edge_says_so() {
        let (mut fault, r) = fault(Kind::Service);
        fault.notice(&sees(1050, r[1], r[0], "ejected", "split"));
        assert_eq!(fault.marks.ejected, None);
        fault.notice(&sees(1200, r[0], r[0], "ejected", "split"));
        assert_eq!(fault.marks.ejected, Some(ms(200)));
    }

    #[test]
    fn an_answer_without_the_region_is_the_health_checks_doing_until_the_weights_moved() {
        let (mut fault, r) = fault(Kind::Region);
        let name = |at, to| Event::Name { at: ms(at), place: r[0], regions: vec![to] };
        let set = |at, to| Event::Set { at: ms(at), entry: r[0], regions: vec![to] };
        fault.notice(&name(1500, r[0]));
        fault.notice(&set(1500, r[0]));
        fault.notice(&name(4000, r[3]));
        fault.notice(&set(4001, r[0]));
        fault.notice(&set(6000, r[3]));
        assert_eq!(fault.marks.moved_by_health_check, Some(ms(3000)));
        assert_eq!(fault.marks.moved_by_weights, Some(ms(5000)));
        assert_eq!(fault.detected(), Some(ms(3000)));

        let (mut fault, _) = self::fault(Kind::Service);
        fault.notice(&name(2000, r[3]));
        fault.notice(&set(2000, r[3]));
        fault.notice(&set(9000, r[0]));
        assert_eq!(fault.marks.moved_by_health_check, None, "the weights had moved");
        assert_eq!(fault.detected(), Some(ms(1000)));
    }

    #[test]
    fn only_a_change_that_takes_users_away_is_its_submission() {
        let (mut fault, r) = fault(Kind::Service);
        let weights = |of: &[(Region, u8)]| of.iter().copied().collect::<Weights>();
        let change = |at, before, after| {
            Event::Changed(Change { submitted_at: ms(at), sets: BTreeMap::from([(r[0], (before, after))]) })
        };
        let (home, away) = (weights(&[(r[0], 100)]), weights(&[(r[3], 100)]));
        fault.notice(&change(900, home.clone(), away.clone()));
        fault.notice(&change(1500, away.clone(), home.clone()));
        assert_eq!(fault.marks.dns_submitted, None);
        fault.notice(&change(2500, home, away));
        assert_eq!(fault.marks.dns_submitted, Some(ms(1500)));
    }

    #[test]
    fn failures_are_dated_by_their_sending_and_those_before_the_fault_are_not_its() {
        let (mut fault, r) = fault(Kind::Region);
        let failed = |sent, done| {
            Event::Request(Request {
                sent: ms(sent),
                done: ms(done),
                place: r[0],
                entered: Some(r[0]),
                served: None,
                failure: Some(Failure::Timeout),
            })
        };
        fault.notice(&failed(100, 900));
        assert_eq!(fault.marks.last_failed, None);
        fault.notice(&failed(950, 2950));
        assert_eq!(fault.marks.last_failed, Some(ms(0)), "in flight when it began");
        fault.notice(&failed(3000, 5000));
        fault.notice(&failed(2000, 5500));
        assert_eq!(fault.marks.last_failed, Some(ms(2000)));
    }
}
