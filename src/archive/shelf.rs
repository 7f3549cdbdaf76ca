//! What is to be archived of one kind: which closed files wait, which are done, which are gone.
//!
//! Pure: folders are listed elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The files of one kind, by name; names in their order are files in their order.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    waiting: BTreeMap<String, PathBuf>,
    /// Uploaded, and still on the disk.
    done: BTreeSet<String>,
}

impl Shelf {
    /// Goes on with what was done by an earlier process.
    pub(super) fn done_before(&mut self, names: impl IntoIterator<Item = String>) {
        self.done.extend(names);
    }

    /// The closed files as they are now; how many went before they were uploaded.
    pub(super) fn found(&mut self, closed: impl IntoIterator<Item = PathBuf>) -> u64 {
        let now: BTreeMap<String, PathBuf> =
            closed.into_iter().filter_map(|path| Some((name(&path)?, path))).collect();
        let gone = self.waiting.keys().filter(|name| !now.contains_key(*name)).count();
        self.done.retain(|name| now.contains_key(name));
        self.waiting = now.into_iter().filter(|(name, _)| !self.done.contains(name)).collect();
        u64::try_from(gone).unwrap_or(u64::MAX)
    }

    /// The oldest that waits.
    pub(super) fn next(&self) -> Option<(&str, &Path)> {
        self.waiting.first_key_value().map(|(name, path)| (name.as_str(), path.as_path()))
    }

    pub(super) fn uploaded(&mut self, name: &str) {
        if self.waiting.remove(name).is_some() {
            self.done.insert(name.to_owned());
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Names of what is done, for the next process.
    pub(super) fn done(&self) -> impl Iterator<Item = &str> {
        self.done.iter().map(String::as_str)
    }
}

fn name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| Path::new("folder").join(name)).collect()
    }

    #[test]
    fn the_oldest_goes_first_nothing_twice_and_what_went_unseen_is_counted() {
        let mut shelf = Shelf::default();
        shelf.done_before(["1".to_owned()]);
        assert_eq!(shelf.found(paths(&["3", "1", "2"])), 0);
        assert_eq!(shelf.next(), Some(("2", Path::new("folder/2"))));
        shelf.uploaded("2");
        assert_eq!(shelf.next().map(|(name, _)| name), Some("3"));
        assert_eq!(shelf.found(paths(&["2", "3", "4"])), 0, "1 was done");
        assert_eq!((shelf.waiting(), shelf.done().collect::<Vec<_>>()), (2, vec!["2"]));
        assert_eq!(shelf.found(paths(&["4"])), 1, "3 was never uploaded");
        shelf.uploaded("4");
        assert_eq!(shelf.next(), None);
        assert_eq!(shelf.found(paths(&[])), 0);
        assert_eq!(shelf.done().count(), 0);
    }
}
