//! One thing a service: by its place where all are walked, by name elsewhere.

use crate::domain::name::ServiceId;
use serde::{Deserialize, Serialize};
use std::ops::Index;
use std::sync::Arc;

/// One `T` for each configured service, in the order of their names.
///
/// With thousands of services and tens of regions, a look-up by name for each pair would cost more
/// than the decision itself. All of a fleet have the same order, so that one place means one service.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ByService<T> {
    /// Not written with each of them: a fleet that is resumed hands its own list to all.
    #[serde(skip)]
    ids: Arc<[ServiceId]>,
    items: Vec<T>,
}

impl<T> Default for ByService<T> {
    fn default() -> Self {
        Self { ids: Arc::new([]), items: Vec::new() }
    }
}

impl<T: Default> ByService<T> {
    /// One for each of `ids`, which are in order; what is known of those that stay is kept.
    pub(super) fn configure(&mut self, ids: &Arc<[ServiceId]>) {
        let before = std::mem::take(&mut self.items);
        let mut known = self.ids.iter().zip(before).peekable();
        self.items = ids
            .iter()
            .map(|id| {
                while known.next_if(|(other, _)| *other < id).is_some() {}
                known.next_if(|(other, _)| *other == id).map(|(_, item)| item).unwrap_or_default()
            })
            .collect();
        self.ids = Arc::clone(ids);
    }
}

impl<T> ByService<T> {
    /// Brings the list back that was not written.
    pub(super) fn resume(&mut self, ids: &Arc<[ServiceId]>) {
        self.ids = Arc::clone(ids);
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The place of a service.
    pub(super) fn place(&self, id: &ServiceId) -> Option<usize> {
        self.ids.binary_search(id).ok()
    }

    pub(super) fn at(&self, place: usize) -> Option<&T> {
        self.items.get(place)
    }

    pub(super) fn at_mut(&mut self, place: usize) -> Option<&mut T> {
        self.items.get_mut(place)
    }

    pub(super) fn get(&self, id: &ServiceId) -> Option<&T> {
        self.at(self.place(id)?)
    }

    pub(super) fn get_mut(&mut self, id: &ServiceId) -> Option<&mut T> {
        self.at_mut(self.place(id)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ServiceId, &T)> {
        self.ids.iter().zip(&self.items)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&ServiceId, &mut T)> {
        self.ids.iter().zip(&mut self.items)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }
}

impl<T> Index<&ServiceId> for ByService<T> {
    type Output = T;

    fn index(&self, id: &ServiceId) -> &T {
        let place = self.ids.binary_search(id).unwrap_or(usize::MAX);
        &self.items[place]
    }
}

/// Services whose part of the snapshot may be another one since it was last made.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Stale {
    services: Vec<bool>,
    any: bool,
}

impl Stale {
    /// All of so many services.
    pub(super) fn all(services: usize) -> Self {
        Self { services: vec![true; services], any: services > 0 }
    }

    pub(super) fn mark(&mut self, place: usize) {
        if let Some(stale) = self.services.get_mut(place) {
            *stale = true;
            self.any = true;
        }
    }

    pub(super) fn mark_all(&mut self) {
        self.services.fill(true);
        self.any = !self.services.is_empty();
    }

    /// The places of those that are stale, which then are no more.
    pub(super) fn take(&mut self) -> Vec<usize> {
        if !std::mem::take(&mut self.any) {
            return Vec::new();
        }
        let stale = self.services.iter_mut().enumerate();
        stale.filter_map(|(place, stale)| std::mem::take(stale).then_some(place)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Arc<[ServiceId]> {
        names.iter().map(|name| ServiceId::parse(name).unwrap()).collect()
    }

    #[test]
    fn what_is_known_of_services_that_stay_is_kept() {
        let mut numbers = ByService::<u32>::default();
        numbers.configure(&ids(&["b", "d", "f"]));
        (0..3).for_each(|place| *numbers.at_mut(place).unwrap() = place as u32 + 1);
        numbers.configure(&ids(&["a", "b", "c", "f", "g"]));
        assert_eq!(numbers.values().copied().collect::<Vec<_>>(), [0, 1, 0, 3, 0]);
        assert_eq!(numbers.get(&ServiceId::parse("f").unwrap()), Some(&3));
        assert_eq!(numbers.get(&ServiceId::parse("d").unwrap()), None);
    }
}
