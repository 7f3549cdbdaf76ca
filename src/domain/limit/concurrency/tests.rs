//! Claims about bounds; the adaptive one against simulated origins, event by event.

use super::*;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

fn limiter(policy: ConcurrencyPolicy) -> Arc<Limiter> {
    Arc::new(Limiter::new(policy, 0x5555_5555_5555_5555, Time::ZERO))
}

#[test]
fn a_fixed_bound_holds_and_a_released_or_dropped_permit_frees_a_place() {
    let limiter = limiter(ConcurrencyPolicy::fixed(2));
    let first = limiter.try_acquire(Priority::Critical, Time::ZERO).unwrap();
    let second = limiter.try_acquire(Priority::Critical, Time::ZERO).unwrap();
    assert_eq!(limiter.try_acquire(Priority::Critical, Time::ZERO).unwrap_err(), Shed { limit: 2 });
    drop(first);
    let third = limiter.try_acquire(Priority::Critical, Time::ZERO).unwrap();
    assert!(limiter.try_acquire(Priority::Critical, Time::ZERO).is_err());
    second.release(Served::Answered, Time::from_millis(5));
    third.release(Served::Overloaded, Time::from_millis(5));
    assert_eq!(limiter.in_flight(), 0);
}

#[test]
fn lower_classes_are_shed_first_each_at_its_share() {
    let limiter = limiter(ConcurrencyPolicy::fixed(100));
    let mut held = Vec::new();
    for (priority, expected) in [(Priority::Sheddable, 50), (Priority::Normal, 90), (Priority::Critical, 100)]
    {
        while let Ok(permit) = limiter.try_acquire(priority, Time::ZERO) {
            held.push(permit);
        }
        assert_eq!(held.len(), expected, "{}", priority.as_str());
    }
    assert!(limiter.try_acquire(Priority::Sheddable, Time::ZERO).is_err());
}

#[test]
fn the_smallest_bound_still_serves_every_class_with_a_share() {
    let limiter = limiter(ConcurrencyPolicy::fixed(1));
    for priority in Priority::ALL {
        drop(limiter.try_acquire(priority, Time::ZERO).unwrap());
    }
}

/// What the origin does with a request that finds all its places taken.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Gate {
    /// It waits, in order.
    Queue,
    /// It is answered 503 after a millisecond.
    Refuse,
}

/// How long a request takes in the origin, in nanoseconds.
#[derive(Debug, Clone, Copy)]
enum Work {
    Constant(u64),
    Exponential(u64),
    /// One in ten takes the second.
    Mixed(u64, u64),
}

impl Work {
    fn mean(self) -> f64 {
        match self {
            Self::Constant(mean) | Self::Exponential(mean) => mean as f64,
            Self::Mixed(one, other) => 0.9 * one as f64 + 0.1 * other as f64,
        }
    }

    fn draw(self, random: &mut Random) -> u64 {
        match self {
            Self::Constant(nanos) => nanos,
            Self::Exponential(mean) => random.exponential(mean as f64) as u64,
            Self::Mixed(one, other) => {
                if random.unit() < 0.9 {
                    one
                } else {
                    other
                }
            }
        }
    }
}

struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// A request (by its place in `requests`) leaves the origin.
    Done(usize),
    Refused(usize),
    /// The client of a request leaves, if it has no answer yet.
    Left(usize),
}

/// One run: `load` times what the origin can do, for `seconds`.
#[derive(Debug, Clone, Copy)]
struct Scene {
    places: usize,
    work: Work,
    gate: Gate,
    load: f64,
    seconds: u64,
    /// From then on the work takes so many times as long.
    slower: Option<(u64, f64)>,
    /// Clients leave after `PATIENCE`; what still waits in the origin then is not begun.
    leave: bool,
    policy: ConcurrencyPolicy,
}

/// What came of it, each second.
#[derive(Debug, Default, Clone, Copy)]
struct Second {
    /// Answered within `PATIENCE`.
    good: u32,
    /// By the normal and the critical class.
    critical_shed: u32,
    critical: u32,
    limit: u32,
}

/// A client does not wait longer.
const PATIENCE: Duration = Duration::from_millis(500);
const SECOND: u64 = 1_000_000_000;

fn run(scene: Scene) -> Vec<Second> {
    let limiter = limiter(scene.policy);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut events = BinaryHeap::from([Reverse((0u64, Event::Arrival))]);
    let mut requests: Vec<(u64, Option<Permit>)> = Vec::new();
    let (mut busy, mut waiting) = (0usize, VecDeque::new());
    let mut seconds = vec![Second::default(); scene.seconds as usize];
    let capacity = scene.places as f64 / scene.work.mean();
    let work = |random: &mut Random, now: u64| {
        let factor = scene.slower.filter(|(from, _)| now >= from * SECOND).map_or(1.0, |(_, factor)| factor);
        (scene.work.draw(random) as f64 * factor) as u64
    };
    while let Some(Reverse((now, event))) = events.pop() {
        let Some(second) = seconds.get_mut((now / SECOND) as usize) else { break };
        second.limit = limiter.limit();
        let at = Time::from_nanos(now);
        match event {
            Event::Arrival => {
                let next = now + random.exponential(1.0 / (capacity * scene.load)) as u64;
                events.push(Reverse((next, Event::Arrival)));
                // A tenth of the traffic is critical.
                let critical = random.unit() < 0.1;
                let priority = if critical { Priority::Critical } else { Priority::Normal };
                second.critical += u32::from(critical);
                let Ok(permit) = limiter.try_acquire(priority, at) else {
                    second.critical_shed += u32::from(critical);
                    continue;
                };
                let id = requests.len();
                requests.push((now, Some(permit)));
                if scene.leave {
                    events.push(Reverse((now + PATIENCE.as_nanos() as u64, Event::Left(id))));
                }
                if busy < scene.places {
                    busy += 1;
                    events.push(Reverse((now + work(&mut random, now), Event::Done(id))));
                } else if scene.gate == Gate::Queue {
                    waiting.push_back(id);
                } else {
                    events.push(Reverse((now + 1_000_000, Event::Refused(id))));
                }
            }
            Event::Done(id) => {
                let (began, permit) = &mut requests[id];
                if let Some(permit) = permit.take() {
                    second.good += u32::from(now - *began <= PATIENCE.as_nanos() as u64);
                    permit.release(Served::Answered, at);
                }
                match waiting.pop_front() {
                    Some(next) => {
                        events.push(Reverse((now + work(&mut random, now), Event::Done(next))));
                    }
                    None => busy -= 1,
                }
            }
            Event::Left(id) => {
                if let Some(permit) = requests[id].1.take() {
                    waiting.retain(|waits| *waits != id);
                    permit.release(Served::Left, at);
                }
            }
            Event::Refused(id) => requests[id].1.take().unwrap().release(Served::Overloaded, at),
        }
    }
    seconds
}

const MS: u64 = 1_000_000;

const fn scene(work: Work, places: usize, gate: Gate) -> Scene {
    let policy = ConcurrencyPolicy::adaptive(AdaptivePolicy {
        min: 4,
        max: 1000,
        initial: 100,
        tolerance: 1.5,
        window: Duration::from_millis(100),
        probe: Duration::from_secs(30),
    });
    Scene { places, work, gate, load: 5.0, seconds: 120, slower: None, leave: false, policy }
}

/// Goodput of some seconds as a share of what the origin can do.
fn goodput(scene: &Scene, seconds: &[Second]) -> f64 {
    let good: u32 = seconds.iter().map(|second| second.good).sum();
    let capacity = scene.places as f64 / scene.work.mean() * SECOND as f64;
    f64::from(good) / (capacity * seconds.len() as f64)
}

fn limits(seconds: &[Second]) -> Vec<u32> {
    seconds.iter().map(|second| second.limit).collect()
}

#[test]
fn goodput_stays_above_90_percent_at_five_times_the_load() {
    for (name, scene) in [
        ("constant work", scene(Work::Constant(10 * MS), 10, Gate::Queue)),
        ("exponential work", scene(Work::Exponential(10 * MS), 20, Gate::Queue)),
        ("mixed work", scene(Work::Mixed(5 * MS, 60 * MS), 20, Gate::Queue)),
        ("large", scene(Work::Exponential(20 * MS), 200, Gate::Queue)),
        ("slow", scene(Work::Exponential(60 * MS), 30, Gate::Queue)),
        ("refusing", scene(Work::Exponential(10 * MS), 20, Gate::Refuse)),
    ] {
        let seconds = run(scene);
        let (from_start, settled) = (goodput(&scene, &seconds), goodput(&scene, &seconds[10..]));
        // Within two and a half times what keeps all places busy: the queue stays short.
        let deepest = seconds[10..].iter().map(|second| second.limit).max().unwrap();
        assert!(deepest <= scene.places as u32 * 5 / 2, "{name}: a bound of {deepest}");
        assert!(settled >= 0.9 && from_start >= 0.9, "{name}: {from_start} in all, {settled} settled");
    }
}

#[test]
fn without_a_bound_the_same_load_leaves_no_goodput() {
    let mut scene = scene(Work::Exponential(10 * MS), 20, Gate::Queue);
    scene.policy = ConcurrencyPolicy::fixed(u32::MAX);
    scene.seconds = 20;
    let seconds = run(scene);
    let late = goodput(&scene, &seconds[5..]);
    assert!(late < 0.05, "{late}: the simulation shows no collapse, so it proves nothing");
}

#[test]
fn the_bound_finds_its_way_from_far_too_low() {
    let mut scene = scene(Work::Exponential(20 * MS), 200, Gate::Queue);
    let Bound::Adaptive(policy) = scene.policy.bound else { panic!() };
    scene.policy = ConcurrencyPolicy::adaptive(AdaptivePolicy { initial: 4, ..policy });
    let seconds = run(scene);
    let settled = goodput(&scene, &seconds[30..]);
    assert!(settled >= 0.9, "{settled}: {:?}", limits(&seconds));
}

#[test]
fn the_bound_finds_its_way_from_far_too_high_though_clients_leave_before_their_answers() {
    for (initial, work) in [
        (100, Work::Constant(50 * MS)),
        (200, Work::Exponential(50 * MS)),
        (1000, Work::Exponential(50 * MS)),
    ] {
        let mut scene = scene(work, 10, Gate::Queue);
        let Bound::Adaptive(policy) = scene.policy.bound else { panic!() };
        scene.policy = ConcurrencyPolicy::adaptive(AdaptivePolicy { initial, ..policy });
        (scene.leave, scene.seconds) = (true, 60);
        let seconds = run(scene);
        let settled = goodput(&scene, &seconds[10..]);
        assert!(settled >= 0.9, "from {initial}: {settled}: {:?}", limits(&seconds));
    }
}

#[test]
fn clients_that_leave_soon_say_nothing_of_a_service() {
    let limiter = limiter(ConcurrencyPolicy::adaptive(AdaptivePolicy::default()));
    for millis in (0..20_000u64).step_by(10) {
        let permit = limiter.try_acquire(Priority::Normal, Time::from_millis(millis)).unwrap();
        permit.release(Served::Left, Time::from_millis(millis + 9));
    }
    assert_eq!(limiter.limit(), 100);
}

#[test]
fn a_service_that_becomes_slower_for_good_is_measured_again() {
    let mut scene = scene(Work::Exponential(10 * MS), 20, Gate::Queue);
    scene.slower = Some((40, 4.0));
    let seconds = run(scene);
    let slow = goodput(&scene, &seconds[60..]) * 4.0;
    assert!(slow >= 0.9, "{slow}: {:?}", limits(&seconds));
}

#[test]
fn critical_requests_pass_while_normal_ones_are_shed() {
    let mut scene = scene(Work::Exponential(10 * MS), 50, Gate::Queue);
    scene.load = 3.0;
    let seconds = run(scene);
    let (shed, all) = seconds[10..]
        .iter()
        .fold((0, 0), |(shed, all), second| (shed + second.critical_shed, all + second.critical));
    let share = f64::from(shed) / f64::from(all);
    assert!(share < 0.1, "{share} of the critical requests were shed, {shed} of {all}");
}

#[test]
fn light_traffic_is_never_shed_and_moves_nothing() {
    let mut scene = scene(Work::Mixed(5 * MS, 100 * MS), 100, Gate::Queue);
    scene.load = 0.1;
    let seconds = run(scene);
    assert!(goodput(&scene, &seconds) > 0.095);
    assert!(seconds.iter().all(|second| second.limit == 100), "{seconds:?}");
}

/// A window that ends before its slow answers are there takes the fast ones for all of them.
#[test]
fn a_window_lasts_as_many_medians_as_slow_answers_need_within_its_bounds() {
    let ms = Duration::from_millis;
    let policy = AdaptivePolicy::default();
    let window = |median: u64, peak: u32| Window {
        median: Some(ms(median)),
        answered: 200,
        overloaded: 0,
        peak,
        lasted: ms(500),
    };
    let at = |millis: u64| Time::from_millis(millis);
    let new = Adaptive::new(&policy, 0, Time::ZERO);
    assert_eq!(new.window_min(&policy), ms(500), "five usual ones while nothing is known");
    // Light traffic tells the base: four medians of it, and never less than the usual window.
    let light = |median: u64| new.after(&window(median, 1), &policy, at(500));
    assert_eq!(light(200).window_min(&policy), ms(800));
    assert_eq!(light(10).window_min(&policy), ms(100));
    assert_eq!(light(3000).window_min(&policy), super::adaptive::WINDOW_MAX);
    // A step of a descent: eight medians of the step before, however short that is.
    let descending = |median: u64| new.after(&window(median, 100), &policy, at(500));
    assert_eq!(descending(200).window_min(&policy), ms(1600));
    assert_eq!(descending(5).window_min(&policy), ms(40));
    assert_eq!((light(200).samples_wanted(), descending(200).samples_wanted()), (50, 100));
}
