//! Faults begin, change and end: what each does beside the state of the world.

use super::event::Event;
use super::faults::Fault;
use super::invariants::Held;
use super::run::Run;
use super::store::Stored;
use super::world::Active;
use crate::domain::fleet::Input;
use crate::domain::weights::WeightedSet;
use std::sync::Arc;

impl Run<'_> {
    pub(super) fn begin(&mut self, step: usize) -> Held {
        self.active.push(Active { step, phase: 0 });
        let scenario = self.scenario;
        let fault = &scenario.steps[step].fault;
        self.note(|| format!("begins: {}", fault.shown(&scenario.cast)));
        match *fault {
            Fault::Drain { name, region } => {
                let region = self.cast.regions[region].clone();
                self.operate(name, |s| {
                    s.drains.insert(region);
                });
            }
            Fault::Freeze { name } => self.operate(name, |s| s.frozen = true),
            Fault::HandEdit { name, entry, to } | Fault::TwoWriters { name, entry, to, .. } => {
                self.hand_edit(name, entry, to);
            }
            Fault::EntryLost { name, entry } => {
                // The last records of a name are not deleted by anyone.
                let lost = self.cast.names[name].home.keys().nth(entry);
                let sets = &mut self.store.names[name].sets;
                let last = sets.len() <= 1;
                if lost.filter(|_| !last).is_some_and(|entry| sets.remove(entry).is_some()) {
                    self.edited(name);
                }
            }
            _ => {}
        }
        if let Some(every) = fault.beat() {
            self.schedule(self.now + every, Event::Beat(step));
        }
        self.changed(fault)
    }

    pub(super) fn beat(&mut self, step: usize) -> Held {
        let Some(active) = self.active.iter_mut().find(|active| active.step == step) else { return Ok(()) };
        active.phase += 1;
        let fault = &self.scenario.steps[step].fault;
        if let Fault::TwoWriters { name, entry, to, .. } = *fault {
            self.hand_edit(name, entry, to);
        }
        if let Some(every) = fault.beat() {
            self.schedule(self.now + every, Event::Beat(step));
        }
        self.changed(fault)
    }

    pub(super) fn end(&mut self, step: usize) -> Held {
        self.active.retain(|active| active.step != step);
        let scenario = self.scenario;
        let fault = &scenario.steps[step].fault;
        self.note(|| format!("ends: {}", fault.shown(&scenario.cast)));
        let still = self.active.iter().any(|a| scenario.steps[a.step].fault == *fault);
        match *fault {
            Fault::Drain { name, region } => {
                let region = self.cast.regions[region].clone();
                self.operate(name, |s| {
                    s.drains.retain(|r| still || *r != region);
                });
            }
            Fault::Freeze { name } => self.operate(name, |s| s.frozen = still),
            Fault::EntryLost { name, entry } if !still => {
                let home = self.cast.names[name].home.iter().nth(entry);
                let sets = &mut self.store.names[name].sets;
                if let Some((entry, set)) = home.filter(|(entry, _)| !sets.contains_key(*entry)) {
                    sets.insert(entry.clone(), set.clone());
                    self.edited(name);
                }
            }
            _ => {}
        }
        self.changed(fault)
    }

    /// Someone sends an entry's users to one region, past the control record.
    fn hand_edit(&mut self, name: usize, entry: usize, to: usize) {
        let only = WeightedSet::only(self.cast.regions[to].clone());
        let sets = &mut self.store.names[name].sets;
        let count = sets.len().max(1);
        let changed = sets.values_mut().nth(entry % count).filter(|set| **set != only);
        if let Some(set) = changed {
            *set = only;
            self.count("hand edits");
            self.edited(name);
        }
    }

    /// An operator's act.
    fn operate(&mut self, name: usize, edit: impl FnOnce(&mut Stored)) {
        self.store.operate(name, edit);
        self.invariants.changed(name, self.now);
    }

    fn edited(&mut self, name: usize) {
        self.propagate(name);
        self.recorder.edited(self.now, name, &self.store.names[name]);
        self.invariants.edited(name, self.now);
    }

    /// Makes world and edges what the active faults say.
    fn changed(&mut self, fault: &Fault) -> Held {
        self.change_world();
        self.invariants.skewed(self.world.skew.iter().copied().max().unwrap_or_default());
        self.settle_edges()?;
        if let Fault::BadPush { region } = *fault {
            for edge in self.cast.edges_of(region) {
                let policy = Arc::new(self.policy(region));
                self.feed(edge, Input::Configure(policy))?;
            }
        }
        Ok(())
    }
}
