//! The folder of a journal: which files are in it, in which order, and which are the oldest.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const ENDING: &str = "journal";

/// The name of a file: names in their order are files in their order, those of processes that started in one second
/// apart. `wall`: nanoseconds since the beginning of 1970.
pub(super) fn name(wall: u64, boot: u64, number: u64) -> String {
    format!("{:012}-{boot:016x}-{number:08}.{ENDING}", wall / 1_000_000_000)
}

/// The files of a journal, oldest first: those of a folder, or the one that is named.
///
/// # Errors
/// When there are none, or they cannot be listed.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let files: Vec<PathBuf> = sizes(path)?.into_iter().map(|(path, _)| path).collect();
    if files.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no file of it ends in .{ENDING}")));
    }
    Ok(files)
}

/// Marks a file that was just made as one that is written, for all processes that share the folder, until it is closed.
///
/// A disk without locks has no marks: there, [`closed`] goes by the order of names alone.
pub(super) fn mark(file: &File) {
    if let Err(error) = file.try_lock() {
        tracing::debug!(%error, "the disk has no locks");
    }
}

/// The files of a folder that nobody writes to any more, oldest first.
///
/// # Errors
/// When the folder cannot be listed.
pub fn closed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = sizes(folder)?;
    let newest = files.last().map(|(path, _)| path.clone());
    files.retain(|(path, bytes)| {
        // Made a moment ago, and not marked yet.
        *bytes > 0
            && match File::open(path).map(|file| file.try_lock_shared()) {
                Ok(Ok(())) => true,
                Ok(Err(TryLockError::WouldBlock)) => false,
                Ok(Err(TryLockError::Error(_))) => Some(path) != newest.as_ref(),
                // Gone, or for another user.
                Err(_) => false,
            }
    });
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

fn sizes(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() && entry.path().extension().is_some_and(|ending| ending == ENDING) {
            files.push((entry.path(), metadata.len()));
        }
    }
    files.sort();
    Ok(files)
}

/// Whole files of the folder, oldest first, whoever wrote them.
#[derive(Debug, Default)]
pub(super) struct Kept {
    files: VecDeque<(PathBuf, u64)>,
}

impl Kept {
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        Ok(Self { files: sizes(folder)?.into() })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Removes the oldest until they and `own` octets of the file that is written stay within `max`.
    pub(super) fn make_room(&mut self, own: u64, max: u64, open: &Path) -> io::Result<()> {
        self.files.retain(|(path, _)| path != open);
        while self.bytes().saturating_add(own) > max {
            let Some((path, _)) = self.files.pop_front() else { return Ok(()) };
            match fs::remove_file(&path) {
                // Somebody else made room.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// A moment such as `2026-01-31T12:00:00Z`, as nanoseconds since the beginning of 1970.
///
/// # Errors
/// What would be right.
pub fn wall_of_text(text: &str) -> Result<u64, &'static str> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok();
    let nanos = moment.and_then(|moment| u64::try_from(moment.unix_timestamp_nanos()).ok());
    nanos.ok_or("expected a moment such as 2026-01-31T12:00:00Z or 2026-01-31T13:00:00.250+01:00")
}

/// Nanoseconds since the beginning of 1970 as RFC 3339 has it, to the millisecond.
pub fn wall_text(wall: u64) -> String {
    let millis = i128::from(wall / 1_000_000) * 1_000_000;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(millis).ok();
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{wall} ns"))
}
