//! The configuration as it is watched: read, told from what is in force, and read again.
//!
//! It is compared by content every second, which sees what no file event does
//! reliably: a Kubernetes volume swapped by a symbolic link, a certificate that
//! was renewed in place, a network file system.

use super::remote::Remote;
use crate::aws::imds::Whereabouts;
use crate::config::{Checked, Config, Environment, NamedFiles, Place, Problems, Written};
use crate::metrics::aws::AwsMetrics;
use crate::metrics::config_object::ConfigObjectMetrics;
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::task::spawn_blocking;

/// More than any configuration or certificate; the rest of a larger file is not compared.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The content of the file and of the certificates that it names, as one number each.
///
/// Of a refused file, too: the certificate that it waits for may come any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    text: [u8; 32],
    named: [u8; 32],
}

impl Fingerprint {
    /// Both as one number.
    pub(super) fn hash(&self) -> [u8; 32] {
        Sha256::new().chain_update(self.text).chain_update(self.named).finalize().into()
    }
}

/// One reading of the file, well or not.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) result: Result<Arc<Config>, LoadError>,
    /// What is right of it, but may not be what was meant.
    pub(super) notes: Option<Problems>,
    /// What was there just before it was read.
    pub(super) fingerprint: Fingerprint,
    /// The files that it names, as far as it can be read.
    pub(super) named: Vec<PathBuf>,
}

impl Attempt {
    /// Logs what `proxima check` would say of a right file.
    pub(super) fn tell_notes(&self) {
        if let Some(notes) = &self.notes {
            tracing::warn!(count = notes.count(), "notes on the configuration:\n{notes}");
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Wrong(#[from] Problems),
    #[error("{0}")]
    Away(String),
    #[error("reading it was cut short")]
    Cut(#[from] tokio::task::JoinError),
}

/// Where the configuration comes from, as it was asked for.
#[derive(Debug, Clone)]
pub struct ConfigFrom {
    pub place: Place,
    /// What relative paths in an object are taken from.
    pub folder: PathBuf,
    /// Where the last good version of an object is kept.
    pub state: Option<PathBuf>,
}

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    origin: Origin,
    environment: Environment,
    whereabouts: Whereabouts,
}

#[derive(Debug, Clone)]
enum Origin {
    File(PathBuf),
    Object(Arc<Remote>),
}

impl Source {
    /// # Errors
    /// Those of the metrics.
    pub(super) async fn open(from: ConfigFrom, environment: Environment) -> Result<Self, prometheus::Error> {
        let origin = match &from.place {
            Place::File(path) => Origin::File(path.clone()),
            Place::Object(url) => {
                // Counted apart from those of the session that everything else uses.
                let credentials = AwsMetrics::register(&prometheus::Registry::new())?;
                let metrics = (credentials, ConfigObjectMetrics::new()?);
                Origin::Object(Arc::new(Remote::open(url.clone(), &from, &environment, metrics).await))
            }
        };
        Ok(Self { origin, environment, whereabouts: Whereabouts::default() })
    }

    /// # Errors
    /// `prometheus::Error` when a name is registered already.
    pub(super) fn register(&self, registry: &prometheus::Registry) -> Result<(), prometheus::Error> {
        match &self.origin {
            Origin::File(_) => Ok(()),
            Origin::Object(remote) => remote.metrics().register(registry),
        }
    }

    /// The first reading; of a bucket that is away or holds nothing good, the last good one that is on disk.
    pub(super) async fn first(&self) -> Attempt {
        let attempt = self.load().await;
        let (Origin::Object(remote), Err(error)) = (&self.origin, &attempt.result) else { return attempt };
        if !remote.go_back().await {
            return attempt;
        }
        tracing::error!("configuration refused: {}", super::chain(error));
        self.load().await
    }

    /// Looks now whether there is something new.
    pub(super) async fn refresh(&self) {
        if let Origin::Object(remote) = &self.origin {
            remote.look().await;
        }
    }

    /// What was read last is in force.
    pub(super) async fn accepted(&self) {
        if let Origin::Object(remote) = &self.origin {
            remote.accepted().await;
        }
    }

    /// Reads the configuration and every file that it names.
    pub(super) async fn load(&self) -> Attempt {
        // Hashed before it is read: if it changes in between, the next comparison sees a
        // difference and reads again; the other way round a change would be lost.
        let text = self.text().await;
        let read = async {
            let written = self.written().await?;
            let naming = written.clone();
            let named = spawn_blocking(move || naming.named_files()).await?;
            Ok::<_, LoadError>((written, named))
        };
        let (written, named) = match read.await {
            Ok(read) => read,
            Err(error) => {
                let fingerprint = Fingerprint { text, named: digest::<&Path>(&[]).await };
                return Attempt { result: Err(error), notes: None, fingerprint, named: Vec::new() };
            }
        };
        let fingerprint = Fingerprint { text, named: digest(&named).await };
        let environment = self.whereabouts.settle(&written, &self.environment).await;
        let checked = spawn_blocking(move || written.check(&environment, NamedFiles::Read));
        let (result, notes) = match checked.await {
            Ok(Ok(Checked { config, notes })) => (Ok(Arc::new(config)), notes),
            Ok(Err(problems)) => (Err(LoadError::Wrong(problems)), None),
            Err(cut) => (Err(cut.into()), None),
        };
        Attempt { result, notes, fingerprint, named }
    }

    /// The content as it is now, with that of the files in `named`; `pause`: between two looks at a bucket.
    pub(super) async fn fingerprint(&self, named: &[PathBuf], pause: Duration) -> Fingerprint {
        if let Origin::Object(remote) = &self.origin {
            remote.look_when_due(pause).await;
        }
        Fingerprint { text: self.text().await, named: digest(named).await }
    }

    async fn written(&self) -> Result<Written, LoadError> {
        match &self.origin {
            Origin::File(path) => {
                let path = path.clone();
                Ok(spawn_blocking(move || Written::read(&path)).await??)
            }
            Origin::Object(remote) => remote.written().map_err(LoadError::Away),
        }
    }

    async fn text(&self) -> [u8; 32] {
        match &self.origin {
            Origin::File(path) => digest(&[path]).await,
            Origin::Object(remote) => {
                let version = remote.current();
                Sha256::digest(version.as_ref().map_or("", |version| &version.text)).into()
            }
        }
    }
}

async fn digest<P: AsRef<Path>>(paths: &[P]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for path in paths {
        match content(path.as_ref()).await {
            Ok(content) => {
                hasher.update((content.len() as u64).to_be_bytes());
                hasher.update(&content);
            }
            // A file that can't be read is a state as well, and another one than "empty".
            Err(error) => hasher.update(format!("{:?}", error.kind())),
        }
    }
    hasher.finalize().into()
}

async fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    tokio::fs::File::open(path).await?.take(BYTES_MAX).read_to_end(&mut content).await?;
    Ok(content)
}

/// Tells a change of the content once it has settled.
#[derive(Debug)]
pub(super) struct Watcher {
    /// What was last acted on, well or not: it is not tried again by itself.
    tried: Fingerprint,
    /// Another content that was seen at the last look.
    candidate: Option<Fingerprint>,
}

impl Watcher {
    pub(super) fn new(applied: Fingerprint) -> Self {
        Self { tried: applied, candidate: None }
    }

    /// Whether the content is new and the same twice in a row.
    ///
    /// Half a file, while an editor is writing it, may be a valid one with half the services.
    pub(super) fn settled(&mut self, now: Fingerprint) -> bool {
        if now == self.tried {
            self.candidate = None;
            return false;
        }
        self.candidate.replace(now) == Some(now)
    }

    /// What was found was acted on.
    pub(super) fn tried(&mut self, now: Fingerprint) {
        self.tried = now;
        self.candidate = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(text: u8) -> Fingerprint {
        Fingerprint { text: [text; 32], named: [0; 32] }
    }

    #[test]
    fn a_file_that_is_still_being_written_is_left_alone() {
        let mut watcher = Watcher::new(print(1));
        assert!(!watcher.settled(print(2)), "seen once");
        assert!(!watcher.settled(print(3)), "still changing");
        assert!(watcher.settled(print(3)), "the same twice");
    }

    #[test]
    fn a_refused_content_is_not_tried_again_but_its_successor_is() {
        let mut watcher = Watcher::new(print(1));
        watcher.tried(print(2));
        assert!(!watcher.settled(print(2)) && !watcher.settled(print(2)), "refused before");
        assert!(!watcher.settled(print(1)) && watcher.settled(print(1)), "the old content is back");
    }

    #[tokio::test]
    async fn a_renewed_certificate_changes_the_fingerprint_and_a_missing_one_is_not_an_empty_one() {
        let folder = std::env::temp_dir().join(format!("proxima-source-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("tls.pem");
        std::fs::write(&file, "one").unwrap();
        let first = digest(&[&file]).await;
        std::fs::write(&file, "two").unwrap();
        assert_ne!(first, digest(&[&file]).await);
        std::fs::write(&file, "").unwrap();
        let empty = digest(&[&file]).await;
        std::fs::remove_dir_all(&folder).unwrap();
        assert_ne!(empty, digest(&[&file]).await);
    }
}
