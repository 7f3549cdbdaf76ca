//! What the world looks like now, as far as it was seen, and what is worth telling of it.

use super::event::{Change, Event, Reading, Weights};
use super::timeline;
use super::world::{Region, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A line to print, with its moment.
pub type Line = (Duration, String);

/// What several edges came to see within one second.
type Shared = BTreeMap<(Region, &'static str, String), (Duration, BTreeSet<Region>)>;

/// The last thing seen of everything.
#[derive(Debug)]
pub struct Scene {
    world: Arc<World>,
    sets: BTreeMap<Region, Weights>,
    /// Last DNS answer by place, and by entry.
    names: BTreeMap<Region, Vec<Region>>,
    answers: BTreeMap<Region, Vec<Region>>,
    readings: BTreeMap<Region, Option<Reading>>,
    /// The last word of an edge on a region that was worth telling: (edge, region, kind).
    told: BTreeMap<(Region, Region, &'static str), String>,
    truth: BTreeMap<Region, bool>,
    shared: Shared,
    home_since: Option<Duration>,
    /// States of weighted sets that were seen at the zone server.
    pub states: u64,
    sets_ever_empty: u64,
    empty_answers: u64,
}

impl Scene {
    pub fn new(world: Arc<World>) -> Self {
        Self {
            world,
            sets: BTreeMap::new(),
            names: BTreeMap::new(),
            answers: BTreeMap::new(),
            readings: BTreeMap::new(),
            told: BTreeMap::new(),
            truth: BTreeMap::new(),
            shared: Shared::new(),
            home_since: None,
            states: 0,
            sets_ever_empty: 0,
            empty_answers: 0,
        }
    }

    /// Sets without a record at the zone server, and DNS answers without an address.
    pub fn empty_sets(&self) -> u64 {
        self.sets_ever_empty + self.empty_answers
    }

    /// Every entry's set names its own region alone, at the zone server and in DNS.
    pub fn weights_home(&self) -> bool {
        self.world.regions().all(|region| {
            self.sets.get(&region).is_some_and(|w| w.len() == 1 && w.contains_key(&region))
                && self.answers.get(&region).is_some_and(|a| *a == [region])
        })
    }

    /// Since when all is well: weights at home, DNS answers nearest, every edge sees every
    /// region healthy and up and serves at home.
    pub fn home_since(&self) -> Option<Duration> {
        self.home_since
    }

    /// What is not well yet, for people.
    pub fn away(&self) -> Vec<String> {
        let told = |region| self.problem(region).map(|what| format!("{}: {what}", self.world.name(region)));
        self.world.regions().filter_map(told).collect()
    }

    fn problem(&self, region: Region) -> Option<&'static str> {
        if self.names.get(&region).is_none_or(|n| *n != [region]) {
            Some("DNS does not keep its users there")
        } else if self.sets.get(&region).is_none_or(|w| w.len() != 1 || !w.contains_key(&region)) {
            Some("its weights are not at home")
        } else if !self.content(region) {
            Some("its edge does not see everyone healthy and up")
        } else {
            None
        }
    }

    fn content(&self, region: Region) -> bool {
        let Some(Some(reading)) = self.readings.get(&region) else { return false };
        let all = |words: &BTreeMap<Region, String>, word: &str| {
            self.world.regions().all(|r| words.get(&r).is_some_and(|w| w == word))
        };
        reading.serves_at_home && all(&reading.states, "healthy") && all(&reading.verdicts, "up")
    }

    /// Takes note of an event; returns what to tell at once.
    pub fn notice(&mut self, event: &Event, now: Duration) -> Option<Line> {
        let line = match event {
            Event::Truth { at, region, answers } => self.truth(*at, *region, *answers),
            Event::Name { at, place, regions } => self.name(*at, *place, regions),
            Event::Set { entry, regions, .. } => {
                self.empty_answers += u64::from(regions.is_empty());
                self.answers.insert(*entry, regions.clone());
                None
            }
            Event::Edge { at, region, reading } => {
                self.edge(*at, *region, reading.as_ref());
                None
            }
            Event::Changed(change) => self.changed(change),
            Event::SetsEverEmpty(count) => {
                self.sets_ever_empty = *count;
                None
            }
            Event::Request(_) => return None,
        };
        if self.world.regions().all(|region| self.problem(region).is_none()) {
            self.home_since.get_or_insert(now);
        } else {
            self.home_since = None;
        }
        line
    }

    fn truth(&mut self, at: Duration, region: Region, answers: bool) -> Option<Line> {
        let before = self.truth.insert(region, answers);
        let name = self.world.name(region);
        let says = if answers { "answers" } else { "is dead" };
        before.map(|_| (at, format!("service of {name} {says}")))
    }

    fn name(&mut self, at: Duration, place: Region, regions: &[Region]) -> Option<Line> {
        self.empty_answers += u64::from(regions.is_empty());
        let before = self.names.insert(place, regions.to_vec())?;
        // A set of several regions answers by lot: its weights tell it better.
        let single = self.sets.get(&place).is_none_or(|weights| weights.len() == 1);
        (before != regions && single).then(|| {
            let to: Vec<&str> = regions.iter().map(|r| self.world.name(*r)).collect();
            (at, format!("DNS sends users of {} to {}", self.world.name(place), to.join(", ")))
        })
    }

    fn changed(&mut self, change: &Change) -> Option<Line> {
        self.states += 1;
        let mut parts = Vec::new();
        for (entry, (before, after)) in &change.sets {
            self.sets.insert(*entry, after.clone());
            // The first weights are no news.
            if !before.is_empty() {
                let show = |weights| timeline::weights(&self.world, weights);
                parts.push(format!("{}: {} -> {}", self.world.name(*entry), show(before), show(after)));
            }
        }
        (!parts.is_empty()).then(|| (change.submitted_at, format!("weights of {}", parts.join("; "))))
    }

    fn edge(&mut self, at: Duration, edge: Region, reading: Option<&Reading>) {
        self.readings.insert(edge, reading.cloned());
        let Some(reading) = reading else { return };
        for (kind, words) in [("state", &reading.states), ("verdict", &reading.verdicts)] {
            for (target, word) in words {
                // Everything else is on the way from one of these to another.
                if !["healthy", "probation", "ejected", "up", "down"].contains(&word.as_str()) {
                    continue;
                }
                let before = self.told.insert((edge, *target, kind), word.clone());
                // What an edge sees first is no news.
                if before.is_some_and(|before| before != *word) {
                    let key = (*target, kind, word.clone());
                    self.shared.entry(key).or_insert_with(|| (at, BTreeSet::new())).1.insert(edge);
                }
            }
        }
    }

    /// What the edges came to see since the last call, one line for all that see the same.
    pub fn seen_by_edges(&mut self) -> Vec<Line> {
        let mut lines: Vec<Line> = std::mem::take(&mut self.shared)
            .into_iter()
            .map(|((target, kind, word), (at, edges))| {
                let who = if edges.len() == self.world.len() {
                    "all edges".to_owned()
                } else {
                    let names: Vec<&str> = edges.iter().map(|r| self.world.name(*r)).collect();
                    format!("edges of {}", names.join(", "))
                };
                (at, format!("{kind} of {}: {word} ({who})", self.world.name(target)))
            })
            .collect();
        lines.sort();
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn all_well(scene: &mut Scene, world: &World) {
        let words = |word: &str| world.regions().map(|r| (r, word.to_owned())).collect();
        for region in world.regions() {
            let reading = Reading { states: words("healthy"), verdicts: words("up"), serves_at_home: true };
            let home = Weights::from([(region, 100)]);
            let change =
                Change { submitted_at: ms(1), sets: BTreeMap::from([(region, (Weights::new(), home))]) };
            for event in [
                Event::Changed(change),
                Event::Name { at: ms(1), place: region, regions: vec![region] },
                Event::Set { at: ms(1), entry: region, regions: vec![region] },
                Event::Edge { at: ms(1), region, reading: Some(reading) },
            ] {
                scene.notice(&event, ms(5));
            }
        }
    }

    #[test]
    fn all_is_well_only_when_weights_answers_and_every_edge_say_so() {
        let world = Arc::new(World::new(4).unwrap());
        let r: Vec<Region> = world.regions().collect();
        let mut scene = Scene::new(Arc::clone(&world));
        assert!(!scene.away().is_empty(), "nothing was seen yet");
        all_well(&mut scene, &world);
        assert_eq!((scene.away(), scene.home_since()), (Vec::new(), Some(ms(5))));
        assert!(scene.weights_home());
        scene.notice(&Event::Edge { at: ms(9), region: r[2], reading: None }, ms(9));
        assert_eq!(scene.home_since(), None);
        assert!(scene.weights_home());
        let away =
            BTreeMap::from([(r[0], (Weights::from([(r[0], 100)]), Weights::from([(r[0], 66), (r[3], 34)])))]);
        let line =
            scene.notice(&Event::Changed(Change { submitted_at: ms(10), sets: away }), ms(10)).unwrap();
        assert_eq!(line.1, "weights of us-east-1: us-east-1 100 -> us-east-1 66, us-west-2 34");
        assert!(!scene.weights_home());
    }

    #[test]
    fn a_set_without_answer_counts_as_empty() {
        let world = Arc::new(World::new(4).unwrap());
        let region = world.regions().next().unwrap();
        let mut scene = Scene::new(world);
        scene.notice(&Event::Set { at: ms(1), entry: region, regions: Vec::new() }, ms(1));
        scene.notice(&Event::SetsEverEmpty(2), ms(1));
        assert_eq!(scene.empty_sets(), 3);
    }

    #[test]
    fn edges_that_see_the_same_share_a_line() {
        let world = Arc::new(World::new(4).unwrap());
        let mut scene = Scene::new(Arc::clone(&world));
        all_well(&mut scene, &world);
        assert_eq!(scene.seen_by_edges(), Vec::new());
        let r: Vec<Region> = world.regions().collect();
        for (at, edge) in [(20, r[1]), (30, r[2])] {
            let mut reading = scene.readings[&edge].clone().unwrap();
            reading.states.insert(r[0], "ejected".to_owned());
            scene.notice(&Event::Edge { at: ms(at), region: edge, reading: Some(reading) }, ms(at));
        }
        let lines = scene.seen_by_edges();
        assert_eq!(
            lines,
            [(ms(20), "state of us-east-1: ejected (edges of eu-west-2, ap-northeast-1)".to_owned())]
        );
        assert_eq!(scene.seen_by_edges(), Vec::new());
    }
}
