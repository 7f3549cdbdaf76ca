//! A map from texts that never changes: one probe or two whatever its size.
//!
//! `std`'s hash map is seeded at random and refused in the domain; an ordered map
//! compares a dozen texts where this one compares one. Keys come from the
//! configuration only, so nobody can choose them to collide.

use crate::domain::hash::fnv1a;

/// Open addressing with linear probing, at most half full.
#[derive(Debug, Clone)]
pub(super) struct Lookup<V> {
    /// Indices into `entries`, plus one; 0 is free. The length is a power of two.
    slots: Box<[u32]>,
    entries: Box<[(Box<str>, V)]>,
    longest: usize,
}

impl<V> Lookup<V> {
    /// Of entries whose keys differ; of equal keys the first one is found.
    pub(super) fn new(entries: Vec<(Box<str>, V)>) -> Self {
        let length = (entries.len() * 2).next_power_of_two();
        let mut slots = vec![0; length].into_boxed_slice();
        for (number, (key, _)) in (1..).zip(&entries) {
            let start = start(key, length);
            let free = (0..length).map(|step| (start + step) % length).find(|at| slots.get(*at) == Some(&0));
            if let Some(slot) = free.and_then(|at| slots.get_mut(at)) {
                *slot = number;
            }
        }
        let longest = entries.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        Self { slots, entries: entries.into_boxed_slice(), longest }
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        self.probed(key).find(|(known, _)| **known == *key).map(|(_, value)| value)
    }

    /// The entries that a key may be: where it would have been put, up to the first free place.
    pub(super) fn probed(&self, key: &str) -> impl Iterator<Item = &(Box<str>, V)> {
        let length = self.slots.len();
        let steps = if key.len() > self.longest || self.entries.is_empty() { 0 } else { length };
        let start = start(key, length);
        (0..steps).map_while(move |step| {
            let number = *self.slots.get((start + step) % length)?;
            self.entries.get((number as usize).checked_sub(1)?)
        })
    }

    /// Bytes of the longest key.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }
}

impl<V> Default for Lookup<V> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

fn start(key: &str, length: usize) -> usize {
    let hash = fnv1a(key);
    // The high bits of FNV-1a are the better mixed ones.
    ((hash ^ (hash >> 32)) as usize) & (length - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_no_other() {
        for count in [0, 1, 2, 3, 100, 1_000] {
            let entries = (0..count).map(|n| (format!("host-{n}").into(), n)).collect();
            let lookup = Lookup::new(entries);
            for n in 0..count {
                assert_eq!(lookup.get(&format!("host-{n}")), Some(&n), "of {count}");
            }
            for other in ["", "host-", "host-x", "host-1000", "a much longer key than any"] {
                assert_eq!(lookup.get(other), None, "{other} of {count}");
            }
        }
    }
}
