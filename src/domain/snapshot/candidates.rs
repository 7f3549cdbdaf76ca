//! Where requests for a service may go, in parts that services which stand alike share.

use super::{Candidate, Place};
use crate::domain::health::State;
use crate::domain::name::RegionId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, Index};
use std::sync::Arc;

/// Candidates in the order to try: those in other regions, and the own region's among them.
///
/// A thousand services over tens of regions mostly stand alike; what differs is the own endpoints.
/// So a change of one region makes a few new lists, not a thousand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Candidates {
    own: Option<Candidate>,
    /// How many of the others come before the own one.
    before_own: usize,
    others: Others,
}

/// Candidates in other regions, the nearest first; services that stand alike share them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Arc<[Candidate]>", into = "Arc<[Candidate]>")]
pub struct Others {
    list: Arc<[Candidate]>,
    /// Whether each takes all of its turns: known once, not anew for every request.
    whole: bool,
}

impl From<Arc<[Candidate]>> for Others {
    fn from(list: Arc<[Candidate]>) -> Self {
        let whole = list.iter().all(Candidate::is_whole);
        Self { list, whole }
    }
}

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.fmt(f)
    }
}

impl From<Others> for Arc<[Candidate]> {
    fn from(others: Others) -> Self {
        others.list
    }
}

impl FromIterator<Candidate> for Others {
    fn from_iter<T: IntoIterator<Item = Candidate>>(candidates: T) -> Self {
        let list: Arc<[Candidate]> = candidates.into_iter().collect();
        list.into()
    }
}

impl Deref for Others {
    type Target = [Candidate];

    fn deref(&self) -> &Self::Target {
        &self.list
    }
}

impl PartialEq for Others {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.list, &other.list) || self.list == other.list
    }
}

impl Candidates {
    /// The own region first.
    pub fn own_first(own: Option<Candidate>, others: Others) -> Self {
        Self { own, before_own: 0, others }
    }

    /// The own region after all others.
    pub fn own_last(own: Option<Candidate>, others: Others) -> Self {
        Self { own, before_own: others.len(), others }
    }

    /// Whether every candidate takes all of its turns.
    pub fn are_whole(&self) -> bool {
        self.others.whole && self.own.as_ref().is_none_or(Candidate::is_whole)
    }

    pub fn len(&self) -> usize {
        self.others.len() + usize::from(self.own.is_some())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, index: usize) -> Option<&Candidate> {
        match &self.own {
            Some(own) if index == self.before_own => Some(own),
            Some(_) if index > self.before_own => self.others.get(index - 1),
            _ => self.others.get(index),
        }
    }

    pub fn first(&self) -> Option<&Candidate> {
        self.get(0)
    }

    pub fn last(&self) -> Option<&Candidate> {
        self.get(self.len().checked_sub(1)?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Candidate> {
        let (before, after) = self.others.split_at(self.before_own.min(self.others.len()));
        before.iter().chain(&self.own).chain(after)
    }

    /// The own region.
    pub fn own(&self) -> Option<&Candidate> {
        self.own.as_ref()
    }

    /// The place of the own region.
    pub fn own_index(&self) -> Option<usize> {
        self.own.as_ref().map(|_| self.before_own)
    }
}

impl Default for Candidates {
    fn default() -> Self {
        Self::own_first(None, Others::from_iter([]))
    }
}

impl Index<usize> for Candidates {
    type Output = Candidate;

    fn index(&self, index: usize) -> &Candidate {
        match &self.own {
            Some(own) if index == self.before_own => own,
            Some(_) if index > self.before_own => &self.others[index - 1],
            _ => &self.others[index],
        }
    }
}

impl FromIterator<Candidate> for Candidates {
    fn from_iter<T: IntoIterator<Item = Candidate>>(candidates: T) -> Self {
        let mut all: Vec<Candidate> = candidates.into_iter().collect();
        let at = all.iter().position(|candidate| candidate.place == Place::Own);
        let own = at.map(|at| all.remove(at));
        Self { own, before_own: at.unwrap_or(0), others: Others::from_iter(all) }
    }
}

impl PartialEq for Candidates {
    fn eq(&self, other: &Self) -> bool {
        self.before_own == other.before_own && self.own == other.own && self.others == other.others
    }
}

/// State of a service in each region; services that stand alike share one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct States(Arc<BTreeMap<RegionId, State>>);

impl Deref for States {
    type Target = BTreeMap<RegionId, State>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl FromIterator<(RegionId, State)> for States {
    fn from_iter<T: IntoIterator<Item = (RegionId, State)>>(states: T) -> Self {
        Self(Arc::new(states.into_iter().collect()))
    }
}

impl<const N: usize> From<[(RegionId, State); N]> for States {
    fn from(states: [(RegionId, State); N]) -> Self {
        states.into_iter().collect()
    }
}

impl PartialEq for States {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, place: Place) -> Candidate {
        Candidate {
            region: RegionId::parse(name).unwrap(),
            place,
            share: 1.0,
            endpoints: Arc::new([]),
            zones: Arc::new([]),
        }
    }

    #[test]
    fn the_own_region_is_found_wherever_it_stands() {
        for (names, own) in
            [("abc", Some(0)), ("bac", Some(1)), ("bca", Some(2)), ("bc", None), ("a", Some(0)), ("", None)]
        {
            let place = |name: &str| if name == "a" { Place::Own } else { Place::Peer };
            let all: Candidates = names
                .chars()
                .map(|name| name.to_string())
                .map(|name| candidate(&name, place(&name)))
                .collect();
            let by_walk: String = all.iter().map(|c| c.region.to_string()).collect();
            let by_index: String = (0..all.len()).map(|n| all[n].region.to_string()).collect();
            let by_get: String = (0..9).filter_map(|n| all.get(n)).map(|c| c.region.to_string()).collect();
            assert_eq!([by_walk, by_index, by_get], [names; 3], "{names}");
            assert_eq!(all.own_index(), own, "{names}");
            assert_eq!(all.last().map(|c| c.region.to_string()), names.chars().last().map(String::from));
        }
    }
}
