//! Running a journal again: the same inputs at the same moments, and every output compared.
//!
//! A file begins with the whole state, so a replay can begin at any. Where one file follows on
//! another without a gap, the state that was run up to must be the one that is written.

use super::blocks::{BlockError, Unpacker};
use super::record::{Configuration, Head, Record, Shown, State, Turn, TurnInput};
use super::wall_text;
use crate::domain::fleet::{Fleet, Input, OtherPolicy, Output, SavedFleet};
use crate::domain::policy::Policy;
use crate::domain::time::Time;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which part of a journal is asked for: nanoseconds since the beginning of 1970, both included.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    pub from: Option<u64>,
    pub until: Option<u64>,
}

/// What a replay comes by.
#[derive(Debug)]
pub enum Event<'a> {
    /// A file begins.
    File {
        path: &'a Path,
        head: &'a Head,
        begins: Begins,
    },
    Turned(Turned<'a>),
    /// A file cannot be read on; the next one begins anew.
    Broken {
        path: &'a Path,
        error: &'a BlockError,
    },
    /// The process ended in order.
    End {
        wall: u64,
    },
}

/// How a file stands to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// A process starts.
    Process,
    /// Nothing lies between.
    Follows,
    /// Nothing before it was looked at.
    Here,
    /// So many turns are missing between, if that is known.
    Gap { lost: Option<u64> },
}

/// A turn that came out as it is written.
#[derive(Debug)]
pub struct Turned<'a> {
    pub wall: u64,
    pub outputs: &'a [Output],
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{path}: {error}")]
    Unreadable { path: PathBuf, error: BlockError },
    #[error(
        "{path}: its configuration is refused by this program (the journal is of proxima {program}):\n{problems}"
    )]
    Configuration { path: PathBuf, program: String, problems: String },
    #[error(
        "{path}: its configuration means something else to this program (the journal is of proxima {program})"
    )]
    OtherMeaning { path: PathBuf, program: String },
    #[error("{path}: its state cannot be read by this program (the journal is of proxima {program})")]
    State { path: PathBuf, program: String },
    #[error("{path}: {error}")]
    OtherPolicy { path: PathBuf, error: OtherPolicy },
    #[error(
        "{path}: record {record} holds an input that this program does not know (the journal is of proxima {program})"
    )]
    Input { path: PathBuf, record: u64, program: String },
    #[error(transparent)]
    Difference(Box<Difference>),
    #[error("the journal holds nothing of that time")]
    Nothing,
}

/// The first decision that came out differently.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}, record {record} ({}): {input}\n  expected {expected}\n  got      {got}",
    path.display(),
    wall_text(*wall)
)]
pub struct Difference {
    pub path: PathBuf,
    /// Counts the turns of the file, from 1.
    pub record: u64,
    pub wall: u64,
    pub input: String,
    pub expected: String,
    pub got: String,
}

/// What a replay came to.
#[derive(Debug, Default)]
pub struct Replay {
    fleet: Option<Fleet>,
    head: Option<Head>,
    at: Time,
    /// Turns that were run again.
    pub turns: u64,
    /// Decisions that were compared.
    pub outputs: u64,
    pub files: u64,
    pub gaps: u64,
    /// Files that were damaged, not only cut short.
    pub damaged: u64,
}

impl Replay {
    /// Runs the files of a journal again, in their order.
    ///
    /// # Errors
    /// `ReplayError`: at the first difference, or where nothing can be read.
    pub fn run(files: &[PathBuf], span: Span, see: &mut dyn FnMut(&Event<'_>)) -> Result<Self, ReplayError> {
        let mut replay = Self::default();
        for path in beginning(files, span.from) {
            let opened = File::open(path).map_err(BlockError::from);
            let unpacker = opened.and_then(|file| Unpacker::open(BufReader::new(file)));
            if !replay.file(path, unpacker, span, see)? {
                break;
            }
        }
        if replay.fleet.is_some() { Ok(replay) } else { Err(ReplayError::Nothing) }
    }

    /// Runs one file, given as its octets, again.
    ///
    /// # Errors
    /// Like [`Replay::run`].
    pub fn run_octets(octets: &[u8], see: &mut dyn FnMut(&Event<'_>)) -> Result<Self, ReplayError> {
        let mut replay = Self::default();
        replay.file(Path::new("journal"), Unpacker::open(octets), Span::default(), see)?;
        if replay.fleet.is_some() { Ok(replay) } else { Err(ReplayError::Nothing) }
    }

    /// The core at the end of the replay, and the moment on its clock.
    pub fn fleet(&self) -> Option<(&Fleet, Time)> {
        self.fleet.as_ref().map(|fleet| (fleet, self.at))
    }

    /// The last turn's time; nanoseconds since the beginning of 1970.
    pub fn wall(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.wall_of(self.at))
    }

    /// The core at a later moment: time goes on, and nothing happens.
    ///
    /// `None`: nothing was run, or only what came after it.
    pub fn at(&self, wall: u64) -> Option<(&Fleet, Time)> {
        let head = self.head.as_ref().filter(|head| head.wall <= wall)?;
        let at = head.moment_of(wall).max(self.at);
        self.fleet.as_ref().map(|fleet| (fleet, at))
    }

    /// `false`: what was asked for ends in this file.
    fn file<R: Read>(
        &mut self,
        path: &Path,
        unpacker: Result<Unpacker<R>, BlockError>,
        span: Span,
        see: &mut dyn FnMut(&Event<'_>),
    ) -> Result<bool, ReplayError> {
        let first = unpacker.and_then(|mut unpacker| Ok((unpacker.next::<Head>()?, unpacker)));
        let (head, mut unpacker) = match first {
            Ok((Some(head), unpacker)) => (head, unpacker),
            Ok((None, _)) => return self.broken(path, BlockError::Cut, see),
            Err(error @ (BlockError::Cut | BlockError::Damaged { .. })) => {
                return self.broken(path, error, see);
            }
            Err(error) => return Err(ReplayError::Unreadable { path: path.to_owned(), error }),
        };
        if span.until.is_some_and(|until| head.wall > until) && self.fleet.is_some() {
            return Ok(false);
        }
        self.begin(path, head, see)?;
        let mut record = 0;
        loop {
            match unpacker.next::<Record>() {
                Ok(Some(Record::Turn(turn))) => {
                    record += 1;
                    let wall = self.head.as_ref().map_or(0, |head| head.wall_of(turn.at));
                    if span.until.is_some_and(|until| wall > until) {
                        return Ok(false);
                    }
                    self.turn(path, record, (turn, wall), see)?;
                }
                Ok(Some(Record::End)) => see(&Event::End { wall: self.wall() }),
                Ok(None) => return Ok(true),
                Err(error) => return self.broken(path, error, see),
            }
        }
    }

    fn broken(
        &mut self,
        path: &Path,
        error: BlockError,
        see: &mut dyn FnMut(&Event<'_>),
    ) -> Result<bool, ReplayError> {
        self.damaged += u64::from(matches!(error, BlockError::Damaged { .. }));
        see(&Event::Broken { path, error: &error });
        // What follows in the next file may lie behind records that were not read.
        self.head = self.head.take().map(|head| Head { file: 0, ..head });
        Ok(true)
    }

    fn begin(&mut self, path: &Path, head: Head, see: &mut dyn FnMut(&Event<'_>)) -> Result<(), ReplayError> {
        let program = || head.program.clone();
        let policy = rebuilt(path, &program(), &head.configuration)?;
        let begins = match &self.head {
            _ if head.state == State::Fresh => Begins::Process,
            None => Begins::Here,
            Some(before) if before.boot == head.boot && before.file + 1 == head.file && head.lost == 0 => {
                Begins::Follows
            }
            Some(_) => Begins::Gap { lost: (head.lost > 0).then_some(head.lost) },
        };
        self.files += 1;
        self.gaps += u64::from(matches!(begins, Begins::Gap { .. }));
        see(&Event::File { path, head: &head, begins });
        match &head.state {
            State::Fresh => self.fleet = Some(Fleet::new(policy, head.boot)),
            State::Saved(octets) => {
                if begins == Begins::Follows {
                    self.same_state(path, &head, octets)?;
                }
                let unknown = |_| ReplayError::State { path: path.to_owned(), program: program() };
                let saved: SavedFleet = postcard::from_bytes(octets).map_err(unknown)?;
                let other = |error| ReplayError::OtherPolicy { path: path.to_owned(), error };
                self.fleet = Some(saved.resume(policy).map_err(other)?);
            }
        }
        self.at = head.at;
        self.head = Some(head);
        Ok(())
    }

    fn same_state(&self, path: &Path, head: &Head, written: &[u8]) -> Result<(), ReplayError> {
        let run = self.fleet.as_ref().and_then(|fleet| postcard::to_stdvec(fleet.saved()?).ok());
        if run.as_deref() == Some(written) {
            return Ok(());
        }
        Err(ReplayError::Difference(Box::new(Difference {
            path: path.to_owned(),
            record: 0,
            wall: head.wall,
            input: "the state at the beginning of the file".to_owned(),
            expected: format!("{} octets, as written", written.len()),
            got: run.map_or("a state that cannot be written".to_owned(), |run| {
                let same = run.iter().zip(written).take_while(|(a, b)| a == b).count();
                format!("{} octets, others from the {same}th on", run.len())
            }),
        })))
    }

    fn turn(
        &mut self,
        path: &Path,
        record: u64,
        (turn, wall): (Turn, u64),
        see: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), ReplayError> {
        let program = || self.head.as_ref().map(|head| head.program.clone()).unwrap_or_default();
        let unknown = || ReplayError::Input { path: path.to_owned(), record, program: program() };
        let input = match &turn.input {
            TurnInput::Plain(octets) => postcard::from_bytes(octets).map_err(|_| unknown())?,
            TurnInput::Configured(of) => Input::Configure(rebuilt(path, &program(), of)?),
        };
        let Some(fleet) = &mut self.fleet else { return Err(ReplayError::Nothing) };
        let told = format!("{input:?}");
        let outputs = fleet.handle(input, turn.at);
        let shown: Result<Vec<Shown>, _> = outputs.iter().map(Shown::of).collect();
        let shown = shown.map_err(|_| unknown())?;
        if shown != turn.outputs {
            let place = shown.iter().zip(&turn.outputs).take_while(|(a, b)| a == b).count();
            let say =
                |of: &[Shown]| of.get(place).map_or("nothing more".to_owned(), |shown| format!("{shown:?}"));
            return Err(ReplayError::Difference(Box::new(Difference {
                path: path.to_owned(),
                record,
                wall,
                input: told.chars().take(INPUT_CHARS_MAX).collect(),
                expected: say(&turn.outputs),
                got: say(&shown),
            })));
        }
        self.at = turn.at;
        self.turns += 1;
        self.outputs += u64::try_from(outputs.len()).unwrap_or(0);
        see(&Event::Turned(Turned { wall, outputs: &outputs }));
        Ok(())
    }
}

/// Of an input that is shown.
const INPUT_CHARS_MAX: usize = 400;

/// The policy that a configuration makes; it must be the one that was in force.
fn rebuilt(path: &Path, program: &str, configuration: &Configuration) -> Result<Arc<Policy>, ReplayError> {
    let refused = |problems| ReplayError::Configuration {
        path: path.to_owned(),
        program: program.to_owned(),
        problems: format!("{problems}"),
    };
    let policy = configuration.text.policy().map_err(refused)?;
    let same =
        policy.agreement_hash() == configuration.agreement && policy.whole_hash() == configuration.whole;
    if same {
        Ok(policy)
    } else {
        Err(ReplayError::OtherMeaning { path: path.to_owned(), program: program.to_owned() })
    }
}

/// The files from the last one on that begins before a moment: each is complete by itself.
fn beginning(files: &[PathBuf], from: Option<u64>) -> &[PathBuf] {
    let Some(from) = from else { return files };
    let begins = |path: &PathBuf| -> Option<u64> {
        let mut unpacker = Unpacker::open(BufReader::new(File::open(path).ok()?)).ok()?;
        unpacker.next::<Head>().ok()?.map(|head| head.wall)
    };
    let last = files.iter().rposition(|path| begins(path).is_some_and(|wall| wall <= from));
    files.get(last.unwrap_or(0)..).unwrap_or_default()
}
