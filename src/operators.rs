//! The desk of operators: takes their acts, has the core judge them, hands them to whoever carries
//! them into the control records, and keeps account.
//!
//! ```text
//! admin listener -> submit -> core (in force here, or refused) -> waiting -> DNS side -> written -> INSYNC
//! ```
//!
//! Every step is told to the audit log. Acts live in this process: one that could not be written before
//! it ends is lost, and whoever gave it was told that it was not written yet.

use crate::clock::Clock;
use crate::domain::fleet::Input;
use crate::domain::name::DnsName;
use crate::domain::operator::{ActRefusal, OperatorAct};
use crate::domain::plan::Generation;
use audit::{Audit, Event};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

pub mod audit;
pub mod wire;

/// Acts whose account is kept.
const KEPT: usize = 256;
/// For the core to judge an act; it takes a millisecond.
const JUDGE_PATIENCE: Duration = Duration::from_secs(5);

/// How far an act has come for one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Progress {
    /// In force here, not in the control record; why not, if it was tried.
    Waiting { why: Option<String> },
    /// In force here, and nowhere else as long as this holds.
    Local { why: String },
    /// In the control record; `in_sync`: on all servers of Route 53. `None`: nobody can tell.
    Written { generation: u64, in_sync: Option<bool> },
    /// A later act on the same thing came before it was written.
    Superseded,
}

/// An act that waits to be written for one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    pub name: DnsName,
    pub act: OperatorAct<Duration>,
}

/// An act's account.
#[derive(Debug, Clone)]
pub struct Account {
    pub act: OperatorAct<Duration>,
    pub progress: BTreeMap<DnsName, Progress>,
}

/// Why an act was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error(transparent)]
    Refused(#[from] ActRefusal),
    #[error("the core does not answer")]
    Silent,
}

/// Shared by the admin listener, the control task and the DNS side.
#[derive(Debug)]
pub struct Desk {
    clock: Clock,
    inputs: mpsc::Sender<Input>,
    audit: Arc<Audit>,
    inner: Mutex<Inner>,
    pending: watch::Sender<Arc<Vec<Pending>>>,
}

#[derive(Debug, Default)]
struct Inner {
    asked: BTreeMap<u64, oneshot::Sender<Result<(), ActRefusal>>>,
    accounts: VecDeque<Account>,
    /// Why nothing is written; `None`: it is.
    unwritable: Option<&'static str>,
}

/// Wall clock since 1970, in whole milliseconds, as control records hold it.
#[allow(clippy::disallowed_methods)] // Acts are dated for people and for other processes.
pub fn wall_clock() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

impl Desk {
    pub fn new(clock: Clock, inputs: mpsc::Sender<Input>, audit: Arc<Audit>) -> Self {
        let (pending, _) = watch::channel(Arc::default());
        Self { clock, inputs, audit, inner: Mutex::default(), pending }
    }

    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Has the core judge an act; in force here when it returns.
    ///
    /// # Errors
    /// The core's refusal, or that it is silent.
    pub async fn submit(&self, act: OperatorAct<Duration>, from: &str) -> Result<Account, SubmitError> {
        let (answer, answered) = oneshot::channel();
        self.inner().asked.insert(act.id, answer);
        let (now, wall) = (self.clock.now(), wall_clock());
        let told = act.map(|at| now.before(wall.saturating_sub(at)) + at.saturating_sub(wall));
        let judged = async {
            self.inputs.send(Input::Operator(told)).await.ok()?;
            answered.await.ok()
        };
        let judged = timeout(JUDGE_PATIENCE, judged).await.ok().flatten();
        self.inner().asked.remove(&act.id);
        match judged {
            Some(Ok(())) => {
                self.audit.tell(&Event::of(&act, "accepted").from(from)).await;
                Ok(self.take(act))
            }
            Some(Err(refusal)) => {
                let why = refusal.to_string();
                self.audit.tell(&Event::of(&act, "refused").from(from).because(&why)).await;
                Err(refusal.into())
            }
            None => {
                self.audit.tell(&Event::of(&act, "unanswered").from(from)).await;
                Err(SubmitError::Silent)
            }
        }
    }

    /// The core's answer to an act.
    pub fn judged(&self, id: u64, result: Result<(), ActRefusal>) {
        let asked = self.inner().asked.remove(&id);
        if asked.is_some_and(|asked| asked.send(result).is_err()) {
            tracing::warn!(id, "nobody waits for the answer to an operator's act any more");
        }
    }

    fn take(&self, act: OperatorAct<Duration>) -> Account {
        let mut inner = self.inner();
        let first = match inner.unwritable {
            Some(why) => Progress::Local { why: why.to_owned() },
            None => Progress::Waiting { why: None },
        };
        let progress = act.names.iter().map(|name| (name.clone(), first.clone())).collect();
        for earlier in inner.accounts.iter_mut().filter(|a| act.order.supersedes(&a.act.order)) {
            for (_, progress) in earlier.progress.iter_mut().filter(|(name, _)| act.names.contains(*name)) {
                if matches!(progress, Progress::Waiting { .. } | Progress::Local { .. }) {
                    *progress = Progress::Superseded;
                }
            }
        }
        let account = Account { act, progress };
        // What still waits is bounded by the core, name by name; it is not forgotten.
        if inner.accounts.len() >= KEPT
            && let Some(done) = inner.accounts.iter().position(|account| !account.waits())
        {
            inner.accounts.remove(done);
        }
        inner.accounts.push_back(account.clone());
        self.publish(&inner);
        account
    }

    fn publish(&self, inner: &Inner) {
        let waiting = inner.accounts.iter().flat_map(|account| {
            let names = account.progress.iter().filter(|(_, p)| p.waits()).map(|(name, _)| name);
            names.map(|name| Pending { name: name.clone(), act: account.act.clone() })
        });
        let waiting: Vec<Pending> = waiting.collect();
        self.pending.send_if_modified(|before| {
            let differs = **before != waiting;
            if differs {
                *before = Arc::new(waiting);
            }
            differs
        });
    }

    /// What waits to be written, in the order in which it was said.
    pub fn pending(&self) -> watch::Receiver<Arc<Vec<Pending>>> {
        self.pending.subscribe()
    }

    /// The DNS side says whether it writes at all; `Some`: why not.
    pub fn writable(&self, why_not: Option<&'static str>) {
        let mut inner = self.inner();
        inner.unwritable = why_not;
        for account in &mut inner.accounts {
            for progress in account.progress.values_mut().filter(|progress| progress.waits()) {
                *progress = match why_not {
                    Some(why) => Progress::Local { why: why.to_owned() },
                    None => Progress::Waiting { why: None },
                };
            }
        }
        self.publish(&inner);
    }

    /// A name could not be written, and is tried again.
    pub fn delayed(&self, name: &DnsName, why: &str) {
        let mut inner = self.inner();
        for account in &mut inner.accounts {
            if let Some(progress @ Progress::Waiting { .. }) = account.progress.get_mut(name) {
                *progress = Progress::Waiting { why: Some(why.to_owned()) };
            }
        }
    }

    /// These acts are in the control record of a name from this generation on.
    ///
    /// `in_sync`: `Some(false)` when it can be asked for.
    pub async fn written(&self, name: &DnsName, ids: &[u64], generation: Generation, in_sync: Option<bool>) {
        let mut told = Vec::new();
        {
            let mut inner = self.inner();
            for account in inner.accounts.iter_mut().filter(|account| ids.contains(&account.act.id)) {
                let written = Progress::Written { generation: generation.get(), in_sync };
                account.progress.insert(name.clone(), written);
                told.push(account.act.clone());
            }
            self.publish(&inner);
        }
        for act in &told {
            self.audit.tell(&Event::of(act, "written").at(name, generation)).await;
        }
    }

    /// A generation reached all servers of Route 53.
    pub fn in_sync(&self, name: &DnsName, generation: Generation) {
        for account in &mut self.inner().accounts {
            match account.progress.get_mut(name) {
                Some(Progress::Written { generation: written, in_sync }) if *written == generation.get() => {
                    *in_sync = Some(true);
                }
                _ => {}
            }
        }
    }

    /// The account of an act; `None`: unknown, or long ago.
    pub fn account(&self, id: u64) -> Option<Account> {
        self.inner().accounts.iter().find(|account| account.act.id == id).cloned()
    }

    /// The accounts of the last acts, in their order.
    pub fn accounts(&self) -> Vec<Account> {
        self.inner().accounts.iter().cloned().collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Whole whenever the lock is free.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn waits(&self) -> bool {
        self.progress.values().any(Progress::waits)
    }
}

impl Progress {
    /// Whether it is to be written as soon as that is possible.
    const fn waits(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::Local { .. })
    }
}
