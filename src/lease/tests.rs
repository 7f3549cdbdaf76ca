//! Pods that ask one another, in virtual time.

use super::*;
use std::collections::BTreeMap;

const INTERVAL_MS: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(5);

fn at(pod: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, pod], 8443))
}

/// Pods by their last octet, who is in DNS, and who cannot reach whom.
#[derive(Default)]
struct Region {
    pods: BTreeMap<u8, Election>,
    cut: BTreeSet<(u8, u8)>,
    /// What the Lease says to pods; of the others it says nothing.
    rulings: BTreeMap<u8, Ruling>,
    second: u64,
    boots: u64,
    asked: usize,
}

impl Region {
    fn of(pods: &[u8]) -> Self {
        let mut region = Self::default();
        pods.iter().for_each(|pod| region.start(*pod));
        region
    }

    fn start(&mut self, pod: u8) {
        self.boots += 1;
        self.pods.insert(pod, Election::new(self.boots, PATIENCE));
        self.resolve();
    }

    fn kill(&mut self, pod: u8) {
        self.pods.remove(&pod);
    }

    /// DNS has noticed who lives.
    fn resolve(&mut self) {
        let all: Vec<SocketAddr> = self.pods.keys().map(|pod| at(*pod)).collect();
        self.pods.values_mut().for_each(|pod| pod.resolved(&all));
    }

    /// One interval: each pod in turn asks whom it wants to.
    fn turn(&mut self) {
        self.second += 1;
        self.asked = 0;
        let now = Time::from_millis(self.second * INTERVAL_MS);
        for pod in self.pods.keys().copied().collect::<Vec<_>>() {
            let ruling = self.ruling(pod);
            self.pods.get_mut(&pod).unwrap().ruled(ruling, now);
            self.pods.get_mut(&pod).unwrap().begin(now);
            while let Some(to) = self.pods.get_mut(&pod).unwrap().ask() {
                self.asked += 1;
                let other = self.pods.keys().copied().find(|other| at(*other) == to);
                let heard = other.filter(|other| !self.cut.contains(&(pod, *other)));
                let said = heard.map(|other| Said {
                    boot: self.pods[&other].boot,
                    standing: self.pods[&other].standing(),
                    ruled: self.ruling(other) != Ruling::Elect,
                });
                self.pods.get_mut(&pod).unwrap().answered(to, said, now);
            }
        }
    }

    fn ruling(&self, pod: u8) -> Ruling {
        self.rulings.get(&pod).copied().unwrap_or_default()
    }

    /// The Lease names this pod to these ones, itself perhaps among them.
    fn lease_names(&mut self, holder: u8, to: &[u8]) {
        let named = Holder { address: at(holder), boot: self.pods[&holder].boot };
        let until = Time::from_millis(1_000_000);
        for pod in to {
            let ruling = if *pod == holder { Ruling::Hold { until } } else { Ruling::Follow(named) };
            self.rulings.insert(*pod, ruling);
        }
    }

    fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    fn holders(&self) -> Vec<u8> {
        let holding = self.pods.iter().filter(|(_, pod)| pod.standing() == Standing::Holding);
        holding.map(|(pod, _)| *pod).collect()
    }

    fn followers_of(&self, holder: u8) -> usize {
        let follows =
            |pod: &&Election| matches!(pod.standing(), Standing::Following(h) if h.address == at(holder));
        self.pods.values().filter(follows).count()
    }
}

#[test]
fn the_first_address_holds_the_lease_and_the_others_follow_it() {
    let mut region = Region::of(&[3, 1, 2]);
    region.turns(2);
    assert_eq!((region.holders(), region.followers_of(1)), (vec![1], 2));
    let mut alone = Region::of(&[7]);
    alone.turn();
    assert_eq!(alone.holders(), [7]);
}

#[test]
fn nobody_holds_it_before_the_name_of_the_siblings_is_resolved() {
    let mut pod = Election::new(1, PATIENCE);
    for second in 0..10 {
        pod.begin(Time::from_millis(second * INTERVAL_MS));
        assert_eq!((pod.ask(), pod.standing()), (None, Standing::Seeking));
    }
}

#[test]
fn a_new_pod_does_not_take_the_lease_from_a_living_holder() {
    let mut region = Region::of(&[5, 6, 7]);
    region.turns(3);
    region.start(1);
    for _ in 0..20 {
        region.turn();
        assert_eq!(region.holders(), [5]);
    }
    assert_eq!(region.followers_of(5), 3);
    // Nor does one that has come back at its old address.
    region.kill(1);
    region.start(1);
    region.turns(2);
    assert_eq!((region.holders(), region.followers_of(5)), (vec![5], 3));
}

#[test]
fn a_dead_holder_is_followed_by_the_next_address_after_the_patience_and_three_turns() {
    let mut region = Region::of(&[1, 2, 3, 4, 5]);
    region.turns(3);
    region.kill(1);
    // DNS still names it.
    region.turns(5 + 3);
    assert_eq!((region.holders(), region.followers_of(2)), (vec![2], 3));
    // One that restarts at its address within the patience is no holder any more.
    region.kill(2);
    region.start(2);
    region.turns(3);
    assert_eq!((region.holders().len(), region.pods.len()), (1, 4));
}

#[test]
fn three_hundred_pods_do_not_storm_one_another_when_their_holder_dies() {
    let pods: Vec<u8> = (1..=250).collect();
    let mut region = Region::of(&pods);
    region.turns(3);
    assert_eq!(region.holders(), [1]);
    region.turn();
    assert_eq!(region.asked, 250, "at rest each asks one");
    region.kill(1);
    for _ in 0..12 {
        region.turn();
        // Itself, the dead one, three who know no holder, and whom they name.
        assert!(region.asked <= 250 * 7, "{} questions in a turn", region.asked);
    }
    assert_eq!((region.holders(), region.followers_of(2)), (vec![2], 248));
}

#[test]
fn two_holders_that_hear_of_each_other_become_one() {
    let mut region = Region::of(&[1, 2, 3, 4]);
    for (here, there) in [(1, 3), (1, 4), (2, 3), (2, 4)] {
        region.cut.extend([(here, there), (there, here)]);
    }
    region.turns(4);
    assert_eq!(region.holders(), [1, 3], "each half has its own");
    region.cut.clear();
    region.turns(6);
    assert_eq!((region.holders(), region.followers_of(1)), (vec![1], 3));
}

#[test]
fn a_pod_that_cannot_reach_a_living_holder_takes_nothing() {
    let mut region = Region::of(&[1, 2, 3, 4]);
    region.turns(3);
    region.cut.insert((2, 1));
    region.turns(20);
    assert_eq!(region.holders(), [1]);
    assert_eq!(region.pods[&2].standing(), Standing::Seeking, "it measures for itself");
    region.cut.clear();
    region.turns(1);
    assert_eq!(region.followers_of(1), 3);
}

#[test]
fn the_lease_says_who_holds_it_whatever_the_addresses_say() {
    let mut region = Region::of(&[1, 2, 3]);
    region.lease_names(3, &[1, 2, 3]);
    region.turn();
    assert_eq!((region.holders(), region.followers_of(3), region.asked), (vec![3], 2, 2));
    // A holder that is silent is the Lease's business.
    region.cut.extend([(1, 3), (2, 3)]);
    region.turns(20);
    assert_eq!((region.holders(), region.followers_of(3)), (vec![3], 2));
    // Nobody holds it, and nobody asks around.
    region.rulings = [1, 2, 3].map(|pod| (pod, Ruling::Wait)).into();
    region.turn();
    assert_eq!((region.holders(), region.asked), (vec![], 0));
}

#[test]
fn a_hold_that_is_over_is_none_whatever_it_was() {
    let mut pod = Election::new(1, PATIENCE);
    let until = Time::from_millis(5000);
    pod.ruled(Ruling::Hold { until }, Time::from_millis(4999));
    assert_eq!(pod.standing(), Standing::Holding);
    pod.ruled(Ruling::Hold { until }, until);
    assert_eq!(pod.standing(), Standing::Seeking);
}

#[test]
fn a_pod_that_alone_has_lost_the_api_is_not_elected_and_follows_the_lease_s_holder() {
    let mut region = Region::of(&[1, 2, 3]);
    // The first address hears nothing of the Lease, while the others wait for it to be taken.
    region.rulings = [2, 3].map(|pod| (pod, Ruling::Wait)).into();
    region.turns(20);
    assert_eq!(region.holders(), Vec::<u8>::new());
    region.lease_names(3, &[2, 3]);
    region.turns(2);
    assert_eq!((region.holders(), region.followers_of(3)), (vec![3], 2));
    // Cut off from that one, too, it waits all the same.
    region.cut.insert((1, 3));
    region.turns(20);
    assert_eq!((region.holders(), region.pods[&1].standing()), (vec![3], Standing::Seeking));
}

#[test]
fn without_the_lease_one_is_elected_and_gives_way_to_a_holder_by_the_lease() {
    let mut region = Region::of(&[1, 2, 3]);
    region.lease_names(3, &[1, 2, 3]);
    region.turns(2);
    region.rulings.clear();
    // The others follow the last one to hold it by the Lease, and nobody says otherwise.
    region.turn();
    assert_eq!((region.holders(), region.followers_of(3)), (vec![3], 2));
    // The API is back for one of them, and names it.
    region.lease_names(2, &[2]);
    region.turns(4);
    assert_eq!((region.holders(), region.followers_of(2)), (vec![2], 2));
}
