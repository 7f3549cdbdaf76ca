//! A task for each thing that is followed: begun when the thing is wanted, told when something else is wanted of
//! it, aborted when it no longer is.

use std::collections::BTreeMap;
use std::convert::Infallible;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// The running tasks; all end when it is dropped.
pub struct Followers<K, S> {
    running: BTreeMap<K, (watch::Sender<S>, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl<K, S> Default for Followers<K, S> {
    fn default() -> Self {
        Self { running: BTreeMap::new(), tasks: JoinSet::new() }
    }
}

impl<K: Ord, S: PartialEq> Followers<K, S> {
    /// Makes the tasks those of `wanted`. `begin` is asked for each new one; `ended` is told of each that is
    /// aborted, with what was wanted of it last.
    pub fn reconcile<F>(
        &mut self,
        wanted: BTreeMap<K, S>,
        mut begin: impl FnMut(&K, watch::Receiver<S>) -> F,
        mut ended: impl FnMut(&K, &S),
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        self.running.retain(|key, (current, task)| {
            let keep = wanted.contains_key(key);
            if !keep {
                task.abort();
                ended(key, &current.borrow());
            }
            keep
        });
        for (key, spec) in wanted {
            if let Some((current, _)) = self.running.get(&key) {
                current.send_if_modified(|current| {
                    let differs = *current != spec;
                    if differs {
                        *current = spec;
                    }
                    differs
                });
                continue;
            }
            let (sender, specs) = watch::channel(spec);
            let task = self.tasks.spawn(begin(&key, specs));
            self.running.insert(key, (sender, task));
        }
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// Looks after the tasks for as long as it is awaited; nothing is lost when it is dropped.
    ///
    /// # Panics
    /// When a task panicked: its panic is passed on, so that the process ends instead of running on with
    /// something that nobody follows any more.
    pub async fn supervise(&mut self) -> Infallible {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    /// Followers that tell each text that is wanted, and `-` when they are ended.
    fn followed(wanted: &[(u8, &'static str)]) -> BTreeMap<u8, &'static str> {
        wanted.iter().copied().collect()
    }

    async fn tell(key: u8, mut specs: watch::Receiver<&'static str>, told: mpsc::Sender<(u8, &'static str)>) {
        loop {
            let spec = *specs.borrow_and_update();
            if told.send((key, spec)).await.is_err() || specs.changed().await.is_err() {
                return;
            }
        }
    }

    #[tokio::test]
    async fn only_what_changes_is_told_begun_and_ended() {
        let (sender, mut told) = mpsc::channel(8);
        let mut followers = Followers::default();
        let mut ended = Vec::new();
        let mut settle = |wanted: &[(u8, &'static str)], followers: &mut Followers<u8, &'static str>| {
            let begin = |key: &u8, specs| tell(*key, specs, sender.clone());
            followers.reconcile(followed(wanted), begin, |key, spec| ended.push((*key, *spec)));
        };
        settle(&[(1, "a"), (2, "b")], &mut followers);
        let mut first = [told.recv().await, told.recv().await];
        first.sort();
        assert_eq!(first, [Some((1, "a")), Some((2, "b"))]);
        settle(&[(2, "c"), (3, "d")], &mut followers);
        let mut second = [told.recv().await, told.recv().await];
        second.sort();
        assert_eq!(second, [Some((2, "c")), Some((3, "d"))]);
        settle(&[(2, "c"), (3, "d")], &mut followers);
        assert_eq!(followers.count(), 2);
        drop((followers, sender));
        assert_eq!(told.recv().await, None, "what stays as it is is not told again");
        assert_eq!(ended, [(1, "a")]);
    }

    #[tokio::test]
    #[should_panic(expected = "a follower that gives up")]
    async fn a_panic_is_passed_on() {
        let mut followers = Followers::default();
        let begin = |_: &u8, _| async { panic!("a follower that gives up") };
        followers.reconcile(followed(&[(1, "a")]), begin, |_, _| {});
        match followers.supervise().await {}
    }
}
