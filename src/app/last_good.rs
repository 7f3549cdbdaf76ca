//! The last good configuration of a bucket, kept on disk, so that a restart needs no bucket.
//!
//! One file, written whole and renamed: a line that says what it is, then the text
//! as it was, so that `proxima check` reads it as well.

use crate::config::ObjectUrl;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const FILE: &str = "last-good.toml";
const MARK: &str = "# proxima: the last good configuration, ";

/// A version of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) text: Arc<str>,
    pub(super) etag: String,
    /// Of a bucket that keeps versions.
    pub(super) id: Option<String>,
    /// When it was accepted, since 1970; `None`: it is not from the disk.
    pub(super) kept_at: Option<Duration>,
}

impl Version {
    pub(super) fn sha256(&self) -> String {
        sha256(&self.text)
    }
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
        // Into a String it cannot fail.
        write!(hex, "{byte:02x}").map_or_else(|_| String::new(), |()| hex)
    })
}

/// The line before the text.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    url: String,
    etag: String,
    version: Option<String>,
    sha256: String,
    /// Seconds since 1970.
    accepted: u64,
}

/// Where the last good one is kept.
#[derive(Debug, Clone)]
pub(super) struct LastGood {
    folder: PathBuf,
    url: String,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum LastGoodError {
    #[error("{}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {what}", path.display())]
    Broken { path: PathBuf, what: &'static str },
}

impl LastGood {
    pub(super) fn new(folder: &Path, url: &ObjectUrl) -> Self {
        Self { folder: folder.to_owned(), url: url.to_string() }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// What was kept of the same object.
    ///
    /// # Errors
    /// When it is not there, not whole, or of another object.
    pub(super) fn read(&self) -> Result<Version, LastGoodError> {
        let path = self.path();
        let broken = |what| LastGoodError::Broken { path: path.clone(), what };
        let content =
            fs::read_to_string(&path).map_err(|source| LastGoodError::Io { path: path.clone(), source })?;
        let (first, text) = content.split_once('\n').ok_or_else(|| broken("has no first line"))?;
        let head = first.strip_prefix(MARK).and_then(|json| serde_json::from_str::<Head>(json).ok());
        let head = head.ok_or_else(|| broken("does not say what it is"))?;
        if head.url != self.url {
            return Err(broken("is of another object"));
        }
        if head.sha256 != sha256(text) {
            return Err(broken("is not what was written"));
        }
        Ok(Version {
            text: text.into(),
            etag: head.etag,
            id: head.version,
            kept_at: Some(Duration::from_secs(head.accepted)),
        })
    }

    /// Keeps a version, in the place of the one before.
    ///
    /// # Errors
    /// Those of the file system; the one before then stays.
    pub(super) fn write(&self, version: &Version, wall: Duration) -> Result<(), LastGoodError> {
        let head = Head {
            url: self.url.clone(),
            etag: version.etag.clone(),
            version: version.id.clone(),
            sha256: version.sha256(),
            accepted: wall.as_secs(),
        };
        let path = self.path();
        // Of its own each time: during an update two pods may share the folder, and each is process 1 of its own.
        let draft = path.with_extension(format!("{:016x}.draft", rand::random::<u64>()));
        let written = || -> io::Result<()> {
            fs::create_dir_all(&self.folder)?;
            // For the user of the process alone: the text may hold what others need not know.
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            writeln!(file, "{MARK}{}", serde_json::to_string(&head)?)?;
            file.write_all(version.text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            // The renaming itself, for a machine that loses its power.
            File::open(&self.folder)?.sync_all()
        };
        written().map_err(|source| {
            // Not an error beside that one: most likely it could not be made.
            fs::remove_file(&draft).ok();
            LastGoodError::Io { path: path.clone(), source }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back_whole_and_anything_else_is_refused() {
        let folder = std::env::temp_dir().join(format!("proxima-last-good-{}", std::process::id()));
        let url = ObjectUrl::parse("s3://bucket/proxima.toml").unwrap();
        let kept = LastGood::new(&folder, &url);
        assert!(matches!(kept.read(), Err(LastGoodError::Io { .. })), "nothing yet");
        let text = "[edge]\nregion = \"a\"\n";
        let version =
            |text: &str| Version { text: text.into(), etag: "\"e\"".to_owned(), id: None, kept_at: None };
        let wall = Duration::from_secs(1_700_000_000);
        kept.write(&version("old"), wall).unwrap();
        kept.write(&version(text), wall).unwrap();
        assert_eq!(kept.read().unwrap(), Version { kept_at: Some(wall), ..version(text) });

        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| (0..25).for_each(|_| kept.write(&version(text), wall).unwrap()));
            }
        });
        assert_eq!(kept.read().unwrap().text.as_ref(), text, "several pods at once");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");

        let other = LastGood::new(&folder, &ObjectUrl::parse("s3://bucket/other.toml").unwrap());
        assert!(other.read().unwrap_err().to_string().contains("another object"));
        let whole = fs::read_to_string(kept.path()).unwrap();
        for (what, content) in
            [("cut off", &whole[..whole.len() - 4]), ("somebody else's", text), ("empty", "")]
        {
            fs::write(kept.path(), content).unwrap();
            assert!(matches!(kept.read(), Err(LastGoodError::Broken { .. })), "{what}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
