//! Closed files of the decision journal, and the audit log, to S3.
//!
//! A task beside everything: nothing waits for it. What is not uploaded yet stays on
//! the disk within the journal's own bound (and `AUDIT_BYTES_MAX` of audit logs); then
//! the oldest makes room, and is counted. Files go oldest first, one at a time, and one
//! that is there already is left alone, so an upload that was repeated changes nothing.

mod shelf;

use crate::aws::Sessions;
use crate::aws::object::{Bucket, ObjectError};
use crate::clock::wall_clock;
use crate::config::{Archive, Config};
use crate::journal;
use crate::metrics::archive::{ArchiveMetrics, Archived, Kind};
use crate::operators::audit::Audit;
use shelf::Shelf;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// Between two looks for closed files.
const LOOK: Duration = Duration::from_secs(5);
/// After an upload that failed, doubled each time up to the second.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Of parts of the audit log that wait.
const AUDIT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A part of the audit log that is as large is set aside before its time.
const AUDIT_PART_BYTES: u64 = 1024 * 1024;
/// For all that waits, at the end of the process.
const LAST: Duration = Duration::from_secs(5);
/// In the journal's folder: names of files that are uploaded and still there.
const DONE: &str = "archived";

/// What the task works with.
#[derive(Debug, Clone)]
pub struct Wiring {
    pub config: watch::Receiver<Arc<Config>>,
    pub sessions: Sessions,
    pub audit: Arc<Audit>,
    pub metrics: ArchiveMetrics,
}

/// Uploads what was written last, when everything else of the process has ended: its disk may end with it.
pub async fn finish(wiring: &Wiring) {
    let config = wiring.config.borrow().clone();
    let Some(archive) = &config.archive else { return };
    let bucket = Bucket::of(wiring.sessions.of(&config).await, &archive.to);
    let at_once = Archive { audit_every: Duration::ZERO, ..archive.clone() };
    let last = async {
        let mut work = Work::new();
        work.recall(&config).await;
        work.round(wiring, &config, &at_once, &bucket).await;
    };
    if timeout(LAST, last).await.is_err() {
        warn!(
            "the archive may lack what was written last: the bucket did not take it within {} s",
            LAST.as_secs()
        );
    }
}

/// Runs until it is dropped.
pub async fn run(mut wiring: Wiring) {
    let mut work = Work::new();
    loop {
        let config = wiring.config.borrow_and_update().clone();
        let Some(archive) = &config.archive else {
            if wiring.config.changed().await.is_err() {
                return std::future::pending().await; // The process ends.
            }
            continue;
        };
        let bucket = Bucket::of(wiring.sessions.of(&config).await, &archive.to);
        work.recall(&config).await;
        let mut next = wiring.config.clone();
        let serving = async {
            loop {
                sleep(work.round(&wiring, &config, archive, &bucket).await).await;
            }
        };
        tokio::select! {
            never = serving => never,
            changed = next.changed() => if changed.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

struct Work {
    shelves: BTreeMap<Kind, Shelf>,
    /// When the audit log was last set aside.
    aside_at: Instant,
    pause: Duration,
    /// As it was told last.
    trouble: Option<String>,
}

impl Work {
    fn new() -> Self {
        Self { shelves: BTreeMap::default(), aside_at: Instant::now(), pause: PAUSE_MIN, trouble: None }
    }

    /// What an earlier process has done.
    async fn recall(&mut self, config: &Config) {
        let Some(journal) = &config.journal else { return };
        let path = journal.path.join(DONE);
        let text = match tokio::fs::read_to_string(&path).await {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            // Files that went before go again, and are there already.
            Err(error) => {
                self.troubled(format!("{}: {error}", path.display()));
                String::new()
            }
        };
        self.shelves.entry(Kind::Journal).or_default().done_before(text.lines().map(str::to_owned));
    }

    /// Looks what is there and uploads it; how long to wait.
    async fn round(
        &mut self,
        wiring: &Wiring,
        config: &Config,
        archive: &Archive,
        bucket: &Bucket,
    ) -> Duration {
        if let Some(path) = &config.audit {
            self.set_aside(&wiring.audit, path, archive.audit_every).await;
        }
        for kind in Kind::ALL {
            let closed = match closed(kind, config).await {
                Ok(closed) => closed,
                Err(error) => {
                    self.troubled(format!("{} files cannot be listed: {error}", kind.as_str()));
                    continue;
                }
            };
            let gone = self.shelves.entry(kind).or_default().found(closed);
            wiring.metrics.count(kind, Archived::Dropped, gone);
            if let Err(error) = self.upload(kind, wiring, (config, archive), bucket).await {
                wiring.metrics.count(kind, Archived::Failed, 1);
                self.troubled(error);
                let pause = self.pause.mul_f64(0.8 + 0.4 * rand::random::<f64>());
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                return pause;
            }
        }
        self.pause = PAUSE_MIN;
        LOOK
    }

    /// Uploads all that waits of a kind.
    async fn upload(
        &mut self,
        kind: Kind,
        wiring: &Wiring,
        (config, archive): (&Config, &Archive),
        bucket: &Bucket,
    ) -> Result<(), String> {
        let shelf = self.shelves.entry(kind).or_default();
        wiring.metrics.pending(kind, shelf.waiting());
        while let Some((name, path)) = shelf.next() {
            let (name, path) = (name.to_owned(), path.to_owned());
            let key = key(archive, config, kind, &name);
            if !tokio::fs::try_exists(&path).await.unwrap_or(true) {
                return Ok(()); // Room was made: the next look counts it.
            }
            bucket.put(&key, &path).await.map_err(|error: ObjectError| format!("{key}: {error}"))?;
            shelf.uploaded(&name);
            wiring.metrics.count(kind, Archived::Uploaded, 1);
            wiring.metrics.uploaded(wall_clock());
            wiring.metrics.pending(kind, shelf.waiting());
            let kept = match (kind, &config.journal) {
                (Kind::Journal, Some(journal)) => remember(&journal.path, shelf).await,
                (Kind::Journal, None) => Ok(()),
                // It is safe now, and nobody else looks for it here.
                (Kind::Audit, _) => tokio::fs::remove_file(&path).await,
            };
            kept.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if self.trouble.take().is_some() {
            info!("the archive takes files again");
        }
        Ok(())
    }

    /// Begins a new audit log when the old one is large or old enough, within the bound of what waits.
    async fn set_aside(&mut self, audit: &Audit, path: &Path, every: Duration) {
        let bytes = tokio::fs::metadata(path).await.map_or(0, |metadata| metadata.len());
        if bytes == 0 {
            // Its time begins with its first line.
            self.aside_at = Instant::now();
            return;
        }
        if bytes < AUDIT_PART_BYTES && self.aside_at.elapsed() < every {
            return;
        }
        let part = path.with_file_name(part_name(path));
        match audit.set_aside(path, &part).await {
            Ok(()) => self.aside_at = Instant::now(),
            Err(error) => self.troubled(format!("{}: {error}", path.display())),
        }
        let parts = path.to_owned();
        // What cannot be removed is tried again at the next part.
        if let Ok(Err(error)) = spawn_blocking(move || make_room(&parts)).await {
            self.troubled(format!("{}: {error}", path.display()));
        }
    }

    /// Told when it is news.
    fn troubled(&mut self, why: String) {
        if self.trouble.as_ref() != Some(&why) {
            warn!("the archive lags behind: {why}");
            self.trouble = Some(why);
        }
    }
}

/// Where a file goes: `PREFIX/REGION/KIND/NAME`.
fn key(archive: &Archive, config: &Config, kind: Kind, name: &str) -> String {
    let prefix = archive.to.key.trim_end_matches('/');
    format!("{prefix}/{}/{}/{name}", config.policy.own, kind.as_str())
}

/// Files that nobody writes to any more, oldest first.
async fn closed(kind: Kind, config: &Config) -> io::Result<Vec<PathBuf>> {
    let look: Box<dyn FnOnce() -> io::Result<Vec<PathBuf>> + Send> = match kind {
        Kind::Journal => match config.journal.clone() {
            None => return Ok(Vec::new()),
            Some(journal) => Box::new(move || match journal::closed(&journal.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                other => other,
            }),
        },
        Kind::Audit => match config.audit.clone() {
            None => return Ok(Vec::new()),
            Some(path) => Box::new(move || Ok(parts(&path)?.into_iter().map(|(path, _)| path).collect())),
        },
    };
    spawn_blocking(look).await.map_err(io::Error::other)?
}

/// The name of the next part of an audit log: in their order parts are in their order, and those of
/// two pods of a region have different ones.
fn part_name(path: &Path) -> String {
    let log = path.file_name().map_or_else(|| "audit".into(), |name| name.to_string_lossy());
    format!("{log}.{:013}-{:016x}.part", wall_clock().as_millis(), rand::random::<u64>())
}

/// Parts of an audit log with their sizes, oldest first.
fn parts(path: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let (Some(folder), Some(log)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let begin = format!("{}.", log.to_string_lossy());
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&begin) && name.ends_with(".part") {
            parts.push((entry.path(), entry.metadata()?.len()));
        }
    }
    parts.sort();
    Ok(parts)
}

/// Removes the oldest parts beyond the bound; the next look counts them.
fn make_room(path: &Path) -> io::Result<()> {
    let parts = parts(path)?;
    let mut bytes: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    for (part, size) in parts {
        if bytes <= AUDIT_BYTES_MAX {
            break;
        }
        std::fs::remove_file(part)?;
        bytes -= size;
    }
    Ok(())
}

/// Writes down what is done, whole.
async fn remember(folder: &Path, shelf: &Shelf) -> io::Result<()> {
    let text: String = shelf.done().flat_map(|name| [name, "\n"]).collect();
    let (path, draft) = (folder.join(DONE), folder.join(format!("{DONE}.draft")));
    tokio::fs::write(&draft, text).await?;
    tokio::fs::rename(&draft, &path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_audit_log_stay_within_their_bound_and_the_oldest_go_first() {
        let folder = std::env::temp_dir().join(format!("proxima-archive-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let log = folder.join("audit.log");
        for (name, bytes) in
            [("1", AUDIT_BYTES_MAX / 2), ("2", AUDIT_BYTES_MAX / 2), ("3", AUDIT_BYTES_MAX / 4)]
        {
            let file = std::fs::File::create(folder.join(format!("audit.log.{name}.part"))).unwrap();
            file.set_len(bytes).unwrap();
        }
        std::fs::write(&log, "a line\n").unwrap();
        make_room(&log).unwrap();
        let left: Vec<PathBuf> = parts(&log).unwrap().into_iter().map(|(path, _)| path).collect();
        assert_eq!(left, [folder.join("audit.log.2.part"), folder.join("audit.log.3.part")]);
        assert!(log.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
