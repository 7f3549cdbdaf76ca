//! The journal: every input of the core and what came of it, so that it can be run again.
//!
//! ```text
//! control -> Journal -> bounded queue -> writer thread -> folder of files, each complete by itself
//! ```
//!
//! Control never waits for it: when the queue is full, turns are dropped and counted until the whole
//! state of the core can be written anew; the gap is told at the head of the next file. So a replay
//! says where it does not know, and is exact everywhere else.

use crate::clock::Clock;
use crate::config::{self, ConfigText};
use crate::domain::fleet::{Fleet, Input, Output};
use crate::domain::name::RegionId;
use crate::domain::policy::Policy;
use crate::domain::time::Time;
use crate::metrics::journal::{JournalMetrics, JournalResult};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

mod blocks;
mod folder;
mod record;
mod replay;
mod writer;

pub use blocks::BlockError;
pub use folder::{closed, files, wall_of_text, wall_text};
pub use record::{Configuration, Head, Record, Shown, State, Turn, TurnInput};
pub use replay::{Begins, Difference, Event, Replay, ReplayError, Span, Turned};

/// Turns that may wait for the disk.
const QUEUE: usize = 2048;
/// Pause between two attempts to begin anew after a gap.
const RETRY: Duration = Duration::from_secs(1);
/// Configurations that may be on their way through the core.
const TEXTS: usize = 8;

/// What the writer is told.
enum Message {
    Turn { at: Time, input: Written, outputs: Vec<Output> },
    Begin { at: Time, policy: Arc<Policy>, state: State, lost: u64 },
}

/// An input, taken down before the core had it.
pub struct Taken(Written);

enum Written {
    Plain(Vec<u8>),
    Configured(Arc<Policy>),
}

/// The texts that policies were made from: told by whoever hands a policy to the core, before.
#[derive(Debug, Clone, Default)]
pub struct Texts(Arc<Mutex<Vec<Told>>>);

/// A policy, and what it was made from.
type Told = (Weak<Policy>, ConfigText);

impl Texts {
    /// Tells what a policy was made from. Only the last few are kept, and none of a policy that is gone:
    /// ten thousand routes are not kept for their text's sake.
    pub fn tell(&self, policy: &Arc<Policy>, text: &ConfigText) {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts.retain(|(known, _)| known.strong_count() > 0);
        if texts.len() == TEXTS {
            texts.remove(0);
        }
        texts.push((Arc::downgrade(policy), text.clone()));
    }

    fn of(&self, policy: &Arc<Policy>) -> Option<ConfigText> {
        let texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts
            .iter()
            .find(|(known, _)| Weak::as_ptr(known) == Arc::as_ptr(policy))
            .map(|(_, text)| text.clone())
    }
}

/// The control task's end.
pub struct Journal {
    queue: SyncSender<Message>,
    /// The writer asks for the state of the core: it wants to begin a file.
    wanted: Arc<AtomicBool>,
    metrics: JournalMetrics,
    /// `None`: what is handed over follows on what was before.
    gap: Option<Gap>,
}

/// Turns that were dropped.
struct Gap {
    lost: u64,
    /// When to try again to begin anew.
    retry: Time,
}

/// What the writer needs to know of the process.
pub struct Process {
    pub clock: Clock,
    pub own: RegionId,
    /// The random number of the process's start, as the core has it.
    pub boot: u64,
    pub texts: Texts,
    pub metrics: JournalMetrics,
}

/// The thread that writes; waited for at the end of the process.
#[derive(Debug)]
pub struct Writer {
    /// Ends with the thread.
    ended: Receiver<()>,
}

impl Writer {
    /// Returns when everything is written that was handed over by journals which are dropped by now,
    /// or when `patience` is over: a disk that stands still does not hold the process.
    pub fn join(self, patience: Duration) {
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the journal is not written to its end");
        }
    }
}

impl Journal {
    /// Starts the writer.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(config: &config::Journal, process: Process) -> io::Result<(Self, Writer)> {
        let (journal, messages) = Self::queued(QUEUE, process.metrics.clone());
        let disk = writer::Disk::new(config.clone(), process, Arc::clone(&journal.wanted));
        let (alive, ended) = sync_channel(0);
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            disk.run(&messages);
            drop(alive);
        })?;
        Ok((journal, Writer { ended }))
    }

    fn queued(length: usize, metrics: JournalMetrics) -> (Self, Receiver<Message>) {
        let (queue, messages) = sync_channel(length);
        (Self { queue, wanted: Arc::default(), metrics, gap: None }, messages)
    }

    /// The first words: a core that knows nothing yet.
    pub fn begin(&mut self, policy: &Arc<Policy>, at: Time) {
        self.send_begin(policy, State::Fresh, at);
    }

    /// Takes an input down before the core gets it; `None` where it would be of no use.
    pub fn take(&self, input: &Input) -> Option<Taken> {
        if self.gap.is_some() {
            return None;
        }
        let written = match input {
            Input::Configure(policy) => Written::Configured(Arc::clone(policy)),
            input => Written::Plain(postcard::to_stdvec(input).ok()?),
        };
        Some(Taken(written))
    }

    /// Hands over what was taken down, with what came of it.
    pub fn turned(&mut self, at: Time, taken: Option<Taken>, outputs: &[Output]) {
        match (taken, &mut self.gap) {
            (Some(Taken(input)), None) => {
                self.send(Message::Turn { at, input, outputs: outputs.to_vec() }, at);
            }
            (_, Some(gap)) => {
                gap.lost += 1;
                self.metrics.records(JournalResult::Dropped, 1);
            }
            (None, None) => self.lost(1, at),
        }
    }

    /// Hands the state of the core over where it is wanted: for a new file, or after a gap.
    pub fn keep_up(&mut self, fleet: &Fleet, at: Time) {
        let due = match &self.gap {
            Some(gap) => at >= gap.retry,
            None => self.wanted.load(Relaxed),
        };
        if !due {
            return;
        }
        let Some(state) = fleet.saved() else { return };
        if let Ok(state) = postcard::to_stdvec(state) {
            self.wanted.store(false, Relaxed);
            self.send_begin(fleet.policy(), State::Saved(state), at);
        }
    }

    fn send_begin(&mut self, policy: &Arc<Policy>, state: State, at: Time) {
        let lost = self.gap.take().map_or(0, |gap| gap.lost);
        let begin = Message::Begin { at, policy: Arc::clone(policy), state, lost };
        if !self.send(begin, at)
            && let Some(gap) = &mut self.gap
        {
            gap.lost += lost;
        }
    }

    fn send(&mut self, message: Message, at: Time) -> bool {
        let turns = u64::from(matches!(message, Message::Turn { .. }));
        match self.queue.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost(turns, at);
                false
            }
        }
    }

    fn lost(&mut self, turns: u64, at: Time) {
        self.metrics.records(JournalResult::Dropped, turns);
        if turns > 0 {
            tracing::warn!("the journal has a gap: its writer is behind");
        }
        self.gap = Some(Gap { lost: turns, retry: at + RETRY });
    }
}

#[cfg(test)]
mod tests;
