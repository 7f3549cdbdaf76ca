//! The tasks of the process by name: which one ended, and how.

use std::collections::BTreeMap;
use std::future::pending;
use tokio::task::{Id, JoinSet};

/// Named tasks; all are aborted when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    set: JoinSet<()>,
    names: BTreeMap<Id, &'static str>,
}

/// A task that is no more.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) name: &'static str,
    pub(super) how: How,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum How {
    Returned,
    /// With what it said.
    Panicked(String),
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Returned => f.write_str("returned"),
            Self::Panicked(what) => write!(f, "panicked: {what}"),
        }
    }
}

impl Tasks {
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    pub(super) fn running(&self, name: &str) -> bool {
        self.names.values().any(|running| *running == name)
    }

    /// The next task that ends; waits for ever when there is none.
    pub(super) async fn ended(&mut self) -> Ended {
        let (id, how) = match self.set.join_next_with_id().await {
            None => return pending().await,
            Some(Ok((id, ()))) => (id, How::Returned),
            Some(Err(error)) => (error.id(), How::Panicked(said(error))),
        };
        Ended { name: self.names.remove(&id).unwrap_or("unknown"), how }
    }
}

fn said(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Err(cancelled) => cancelled.to_string(),
        Ok(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_is_named_when_it_returns_and_when_it_panics() {
        let mut tasks = Tasks::default();
        tasks.spawn("first", async {});
        assert!(tasks.running("first"));
        let ended = tasks.ended().await;
        assert_eq!((ended.name, ended.how), ("first", How::Returned));
        assert!(!tasks.running("first"));
        tasks.spawn("second", async { panic!("no {}", 7) });
        let ended = tasks.ended().await;
        assert_eq!((ended.name, ended.how), ("second", How::Panicked("no 7".to_owned())));
    }
}
