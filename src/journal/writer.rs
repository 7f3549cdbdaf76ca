//! The writer: its own thread, the only one that waits for the disk.

use super::blocks::{Packer, signature};
use super::folder::{self, Kept};
use super::record::{Configuration, Head, Record, Shown, State, Turn, TurnInput};
use super::{Message, Process, Written};
use crate::clock::wall_clock;
use crate::config;
use crate::domain::policy::Policy;
use crate::domain::time::Time;
use crate::metrics::journal::JournalResult;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Octets that are packed at once: more pack better, fewer are lost when the process dies.
const BLOCK_BYTES: usize = 256 * 1024;
/// The longest that a record waits for others.
const BLOCK_TIME: Duration = Duration::from_secs(1);
/// After the disk refused something: trying again at once would only make it busier.
const PAUSE: Duration = Duration::from_secs(5);

/// The folder, and the file that is being written.
pub(super) struct Disk {
    config: config::Journal,
    process: Process,
    wanted: Arc<AtomicBool>,
    open: Option<Open>,
    kept: Kept,
    /// Files of this process so far.
    number: u64,
    /// Turns that are in no file, since the last one.
    lost: u64,
    /// When to ask for a new beginning, after the disk refused something.
    retry: Option<Time>,
    /// The last attempt to write failed: told once, not each time.
    failing: bool,
}

struct Open {
    file: File,
    path: PathBuf,
    bytes: u64,
    packer: Packer,
    /// When the oldest record that is not packed came.
    since: Time,
    /// A new file was asked for.
    asked: bool,
}

impl Disk {
    pub(super) fn new(config: config::Journal, process: Process, wanted: Arc<AtomicBool>) -> Self {
        Self {
            config,
            process,
            wanted,
            open: None,
            kept: Kept::default(),
            number: 0,
            lost: 0,
            retry: None,
            failing: false,
        }
    }

    /// Writes until the journal is dropped.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(BLOCK_TIME) {
                Ok(message) => self.told(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tend();
        }
        self.close(true);
    }

    pub(super) fn told(&mut self, message: Message) {
        match message {
            Message::Turn { at, input, outputs } => {
                let written = outputs.iter().map(Shown::of).collect::<Result<Vec<_>, _>>();
                let input = match input {
                    Written::Plain(octets) => Some(TurnInput::Plain(octets)),
                    Written::Configured(policy) => self.configuration(&policy).map(TurnInput::Configured),
                };
                let turn = input.zip(written.ok()).map(|(input, outputs)| Turn { at, input, outputs });
                self.turn(turn);
            }
            Message::Begin { at, policy, state, lost } => {
                self.close(false);
                self.lost += lost;
                if let Err(error) = self.begin(at, &policy, state) {
                    self.failed(0, &error);
                }
            }
        }
    }

    /// `None`: it cannot be written, so nothing after it could be replayed.
    fn turn(&mut self, turn: Option<Turn>) {
        let now = self.process.clock.now();
        let Some(open) = &mut self.open else {
            self.lost += 1;
            self.process.metrics.records(JournalResult::Failed, 1);
            return;
        };
        if open.packer.bytes() == 0 {
            open.since = now;
        }
        let added = match turn {
            Some(turn) => open.packer.add(&Record::Turn(turn)),
            None => Err(io::Error::other("the text of a configuration is not known")),
        };
        if let Err(error) = added {
            self.failed(1, &error);
        }
    }

    /// What time brings: blocks to write, files to begin.
    fn tend(&mut self) {
        let now = self.process.clock.now();
        if let Some(open) = &self.open {
            let waits = open.packer.bytes() > 0 && now.since(open.since) >= BLOCK_TIME;
            if waits || open.packer.bytes() >= BLOCK_BYTES {
                self.write();
            }
        }
        if self.retry.is_some_and(|retry| now >= retry) {
            self.retry = None;
            self.wanted.store(true, Relaxed);
        }
    }

    /// Begins a file. Its first block is on the disk when this returns.
    fn begin(&mut self, at: Time, policy: &Arc<Policy>, state: State) -> io::Result<()> {
        let Some(configuration) = self.configuration(policy) else {
            return Err(io::Error::other("the text of the configuration is not known"));
        };
        std::fs::create_dir_all(&self.config.path)?;
        self.kept = Kept::read(&self.config.path)?;
        self.number += 1;
        let wall = wall_clock().saturating_sub(self.process.clock.now().since(at));
        let wall = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        let path = self.config.path.join(folder::name(wall, self.process.boot, self.number));
        // It says what an edge sees and how it is configured: for its user alone.
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        folder::mark(&file);
        let head = Head {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            own: self.process.own.clone(),
            boot: self.process.boot,
            file: self.number,
            lost: self.lost,
            at,
            wall,
            configuration,
            state,
        };
        let mut packer = Packer::default();
        packer.add(&head)?;
        let (block, _) = packer.block()?;
        let since = self.process.clock.now();
        self.open = Some(Open { file, path, bytes: 0, packer, since, asked: false });
        let first = [signature(), block].concat();
        self.put(&first)?;
        self.lost = 0;
        self.retry = None;
        self.failing = false;
        Ok(())
    }

    fn configuration(&self, policy: &Arc<Policy>) -> Option<Configuration> {
        let text = self.process.texts.of(policy)?;
        Some(Configuration { text, agreement: policy.agreement_hash(), whole: policy.whole_hash() })
    }

    /// Packs what waits and writes it.
    pub(super) fn write(&mut self) {
        let Some(open) = &mut self.open else { return };
        match open.packer.block() {
            Ok((block, records)) => match self.put(&block) {
                Ok(()) => self.process.metrics.records(JournalResult::Written, records),
                Err(error) => self.failed(records, &error),
            },
            Err(error) => self.failed(0, &error),
        }
    }

    /// Writes octets; older files make room for them.
    fn put(&mut self, octets: &[u8]) -> io::Result<()> {
        let count = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        let Some(open) = &mut self.open else { return Ok(()) };
        let own = open.bytes.saturating_add(count);
        self.kept.make_room(own, self.config.max_bytes, &open.path)?;
        if own > self.config.max_bytes {
            return Err(io::Error::other("the state of the core alone is larger than journal.max_bytes"));
        }
        open.file.write_all(octets)?;
        open.bytes = own;
        self.process.metrics.wrote(count, self.kept.bytes() + own);
        if own >= self.config.file_bytes && !open.asked {
            open.asked = true;
            self.wanted.store(true, Relaxed);
        }
        Ok(())
    }

    /// Nothing can follow in this file; `records` of those handed over are not in it.
    fn failed(&mut self, records: u64, error: &io::Error) {
        let waiting = self.open.take().map_or(0, |open| open.packer.records());
        let lost = records + waiting;
        self.lost += lost;
        self.process.metrics.records(JournalResult::Failed, lost);
        self.retry = Some(self.process.clock.now() + PAUSE);
        let folder = self.config.path.display();
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(%folder, %error, "the journal has a gap: it cannot be written");
        }
    }

    /// Writes what waits. `ended`: nothing comes any more.
    fn close(&mut self, ended: bool) {
        if let Some(open) = self.open.as_mut().filter(|_| ended)
            && let Err(error) = open.packer.add(&Record::End)
        {
            self.failed(0, &error);
        }
        if self.open.as_ref().is_some_and(|open| open.packer.bytes() > 0) {
            self.write();
        }
        self.open = None;
    }
}
