//! Pods, an API server, a network that loses, delays and splits, and the siblings' election, at random.

use super::super::*;
use crate::lease::{Election, Said, Standing};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

const STEP_MS: u64 = 50;
const LASTS: Duration = Duration::from_secs(15);
const ASKED_EACH: Duration = Duration::from_secs(1);

/// The record in the API.
#[derive(Debug, Clone)]
struct Stored {
    version: u64,
    named: Named,
    lasts: Duration,
}

#[derive(Debug, Default)]
struct Server {
    stored: Option<Stored>,
    versions: u64,
}

impl Server {
    fn write(&mut self, named: Named, lasts: Duration) -> Answer {
        self.versions += 1;
        self.stored = Some(Stored { version: self.versions, named, lasts });
        Answer::Written { version: self.versions.to_string() }
    }

    fn apply(&mut self, ask: &Ask) -> Answer {
        let stored = self.stored.clone();
        let is = |version: &str| stored.as_ref().is_some_and(|stored| stored.version.to_string() == version);
        match ask {
            Ask::Look => stored.map_or(Answer::Absent, |stored| Answer::Found {
                version: stored.version.to_string(),
                named: stored.named,
                lasts: Some(stored.lasts),
            }),
            Ask::Create(_) if stored.is_some() => Answer::Conflict,
            Ask::Create(term) => self.write(Named::Pod(term.holder), term.lasts),
            Ask::Replace { version, term } if is(version) => self.write(Named::Pod(term.holder), term.lasts),
            Ask::Release { version } if is(version) => self.write(Named::Nobody, Duration::from_secs(1)),
            Ask::Replace { .. } | Ask::Release { .. } => Answer::Conflict,
        }
    }
}

/// A request under way.
struct Flight {
    ask: Ask,
    sent: Time,
    /// When it is applied, and when its answer is there; `None`: it is lost before that.
    applied: Option<Time>,
    answered: Option<Time>,
    answer: Option<Answer>,
}

struct Pod {
    claim: Claim,
    election: Election,
    /// What its clock shows beyond the world's: no two are ever compared.
    ahead: Duration,
    flight: Option<Flight>,
    next: Time,
    ask_next: Time,
    /// Stopped until then.
    stopped: Time,
    /// The API is out of its reach until then.
    cut: Time,
}

impl Pod {
    fn clock(&self, now: Time) -> Time {
        now + self.ahead
    }

    fn holds(&self, now: Time) -> bool {
        matches!(self.claim.ruling(self.clock(now)), Ruling::Hold { .. })
    }
}

struct World {
    now: Time,
    random: StdRng,
    server: Server,
    pods: BTreeMap<u8, Pod>,
    /// The API answers nobody until then.
    away: Time,
    boots: u64,
    pauses: bool,
    requests: usize,
}

fn address(pod: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, pod], 8443))
}

impl World {
    fn new(seed: u64, pauses: bool) -> Self {
        let mut world = Self {
            now: Time::from_millis(1),
            random: StdRng::seed_from_u64(seed),
            server: Server::default(),
            pods: BTreeMap::new(),
            away: Time::ZERO,
            boots: 0,
            pauses,
            requests: 0,
        };
        (1..=5).for_each(|pod| world.start(pod));
        world
    }

    fn start(&mut self, pod: u8) {
        self.boots += 1;
        let mut claim = Claim::new(self.boots, LASTS);
        claim.at(address(pod));
        let election = Election::new(self.boots, Duration::from_secs(5));
        let ahead = Duration::from_millis(self.random.random_range(0..10_000_000));
        let (next, past) = (self.now, Time::ZERO);
        self.pods.insert(
            pod,
            Pod { claim, election, ahead, flight: None, next, ask_next: next, stopped: past, cut: past },
        );
    }

    fn chance(&mut self, of: u32) -> bool {
        self.random.random_range(0..of) == 0
    }

    fn millis(&mut self, up_to: u64) -> Duration {
        Duration::from_millis(self.random.random_range(0..up_to))
    }

    /// Something that happens to somebody.
    fn disturb(&mut self) {
        let pod: u8 = self.random.random_range(1..=5);
        let until = self.now + self.millis(60_000);
        match self.random.random_range(0..6) {
            0 if self.pauses => {
                self.pods.entry(pod).and_modify(|pod| pod.stopped = until);
            }
            1 => {
                self.pods.entry(pod).and_modify(|pod| pod.cut = until);
            }
            2 => self.away = until,
            3 => {
                self.pods.remove(&pod);
            }
            4 => {
                self.pods.entry(pod).and_modify(|pod| pod.claim.leave());
            }
            _ => self.start(pod),
        }
    }

    fn step(&mut self, calm: bool) {
        self.now = self.now + Duration::from_millis(STEP_MS);
        // Every four seconds or so.
        if !calm && self.chance(80) {
            self.disturb();
        }
        for n in self.pods.keys().copied().collect::<Vec<_>>() {
            self.arrive(n);
            if self.pods[&n].stopped <= self.now {
                self.request(n, calm);
                self.elect(n);
            }
        }
    }

    /// What is under way reaches the server, whether or not its sender runs.
    fn arrive(&mut self, n: u8) {
        let now = self.now;
        let Some(flight) = self.pods.get_mut(&n).and_then(|pod| pod.flight.as_mut()) else { return };
        if flight.answer.is_none() && flight.applied.is_some_and(|at| at <= now) {
            flight.answer = Some(self.server.apply(&flight.ask));
        }
    }

    fn request(&mut self, n: u8, calm: bool) {
        let (now, jitter) = (self.now, self.random.random_range(0.9..1.1));
        let Some(pod) = self.pods.get_mut(&n) else { return };
        let elected = pod.election.standing() == Standing::Holding;
        let (clock, retry) = (pod.clock(now), pod.claim.retry());
        if let Some(flight) = pod.flight.take() {
            let timed_out = now.since(flight.sent) > retry;
            let answered = flight.answered.is_some_and(|at| at <= now) && flight.answer.is_some();
            if !timed_out && !answered {
                pod.flight = Some(flight);
                return;
            }
            let answer = flight.answer.filter(|_| answered).unwrap_or(Answer::Failed);
            pod.claim.answered(&flight.ask, flight.sent + pod.ahead, answer, elected, clock);
        } else if now >= pod.next {
            pod.next = now + retry.mul_f64(jitter);
            pod.claim.begin();
        } else {
            return;
        }
        let Some(ask) = pod.claim.ask(clock) else { return };
        let reachable = self.away <= now && pod.cut <= now;
        self.requests += 1;
        let (lost, echo_lost) = (!calm && self.chance(20), !calm && self.chance(20));
        // Mostly at once, sometimes later than it is waited for.
        let slow = if !calm && self.chance(10) { 3_000 } else { 100 };
        let applied = now + self.millis(slow);
        let answered = applied + self.millis(slow);
        let flight = Flight {
            ask,
            sent: now,
            applied: Some(applied).filter(|_| reachable && !lost),
            answered: Some(answered).filter(|_| !echo_lost),
            answer: None,
        };
        self.pods.entry(n).and_modify(|pod| pod.flight = Some(flight));
    }

    /// As the task for siblings does it, with a network among pods that is well.
    fn elect(&mut self, n: u8) {
        let (now, pause) = (self.now, ASKED_EACH + self.millis(100));
        let listed: Vec<SocketAddr> = (1..=5).map(address).collect();
        let Some(pod) = self.pods.get_mut(&n) else { return };
        let clock = pod.clock(now);
        pod.election.ruled(pod.claim.ruling(clock), clock);
        if now < pod.ask_next {
            return;
        }
        pod.ask_next = now + pause;
        pod.election.resolved(&listed);
        pod.election.begin(clock);
        while let Some(to) = self.pods.get_mut(&n).and_then(|pod| pod.election.ask()) {
            let other = self.pods.iter().find(|(other, _)| address(**other) == to);
            let said = other.filter(|(_, other)| other.stopped <= now).map(|(_, other)| {
                let ruling = other.claim.ruling(other.clock(now));
                let standing = match other.election.standing() {
                    Standing::Holding if !ruling.permits(other.clock(now)) => Standing::Seeking,
                    standing => standing,
                };
                Said { boot: other.claim.boot, standing, ruled: ruling != Ruling::Elect }
            });
            let Some(pod) = self.pods.get_mut(&n) else { return };
            pod.election.answered(to, said, clock);
        }
    }

    /// Who believes to hold the lease by the word of the Lease, would it look now.
    fn holders(&self) -> Vec<u8> {
        self.pods.iter().filter(|(_, pod)| pod.holds(self.now)).map(|(n, _)| *n).collect()
    }

    /// Who speaks for the region, by Lease or election.
    fn voices(&self) -> Vec<u8> {
        let speaks = |pod: &Pod| pod.election.standing() == Standing::Holding;
        self.pods.iter().filter(|(_, pod)| speaks(pod)).map(|(n, _)| *n).collect()
    }

    /// Whoever left has ended, nobody is stopped or cut off, and all five live.
    fn settle(&mut self) {
        for pod in 1..=5 {
            if self.pods.get(&pod).is_none_or(|pod| pod.claim.leaving) {
                self.start(pod);
            }
        }
        self.pods.values_mut().for_each(|pod| (pod.stopped, pod.cut) = (Time::ZERO, Time::ZERO));
    }

    fn run(&mut self, time: Duration, calm: bool, mut look: impl FnMut(&Self)) {
        let end = self.now + time;
        while self.now < end {
            self.step(calm);
            look(self);
        }
    }
}

const WORLDS: u64 = 300;
const TROUBLE: Duration = Duration::from_secs(300);
/// For the last one's time to end, for another to take the lease, and for all to see it.
const SOON: Duration = Duration::from_secs(3 * 15 + 10);

#[test]
fn never_two_pods_hold_the_lease_and_after_trouble_one_does() {
    for seed in 0..WORLDS {
        // A stopped process believes nothing; it is asked what it would believe if it woke now.
        let mut world = World::new(seed, seed % 2 == 0);
        let mut taken = BTreeSet::new();
        world.run(TROUBLE, false, |world| {
            let holders = world.holders();
            assert!(holders.len() <= 1, "seed {seed}, at {:?}: {holders:?} hold the lease", world.now);
            taken.extend(holders);
        });
        assert!(!taken.is_empty(), "seed {seed}: nobody ever held it");
        world.settle();
        world.away = Time::ZERO;
        world.run(SOON, true, |world| assert!(world.holders().len() <= 1, "seed {seed}"));
        assert_eq!((world.holders().len(), world.voices().len()), (1, 1), "seed {seed}: {:?}", world.now);
    }
}

#[test]
fn with_the_api_away_one_pod_speaks_and_when_it_is_back_the_lease_rules_again() {
    for seed in 0..WORLDS {
        let mut world = World::new(seed, true);
        world.run(TROUBLE, false, |_| {});
        world.settle();
        world.away = world.now + Duration::from_secs(100);
        world.run(Duration::from_secs(100) - LASTS, true, |_| {});
        // From its end an election lasts a few turns.
        world.run(LASTS, true, |world| {
            assert!(world.holders().is_empty(), "seed {seed}");
            assert_eq!(world.voices().len(), 1, "seed {seed}, {:?}", world.now);
        });
        world.run(SOON, true, |world| assert!(world.holders().len() <= 1, "seed {seed}"));
        assert_eq!(world.holders(), world.voices(), "seed {seed}");
        assert_eq!(world.voices().len(), 1, "seed {seed}");
    }
}

#[test]
fn a_pod_asks_the_api_once_a_turn_at_rest() {
    let mut world = World::new(1, false);
    world.run(Duration::from_secs(60), true, |_| {});
    let (before, seconds) = (world.requests, 140_u32);
    world.run(Duration::from_secs(seconds.into()), true, |_| {});
    let turns = f64::from(5 * seconds) / (LASTS / 7).as_secs_f64();
    let asked = (world.requests - before) as f64;
    assert!((asked / turns - 1.0).abs() < 0.05, "{asked} requests in {turns} turns");
}
