//! A configuration in a bucket: looked for by its ETag, at a pace, with the last good one at hand.
//!
//! S3 hands an object out whole or not at all, so nothing half written is ever seen.
//! What is wrong with the bucket changes nothing: the text that was read last stays.

use super::last_good::{LastGood, Version};
use super::source::ConfigFrom;
use crate::aws::Sessions;
use crate::aws::object::{Bucket, ObjectError, ObjectErrorKind};
use crate::clock::wall_clock;
use crate::config::{Aws, BYTES_MAX, Environment, ObjectUrl, Written};
use crate::error_chain::chain;
use crate::metrics::aws::AwsMetrics;
use crate::metrics::config_object::{ConfigObjectMetrics, Look};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// Where S3 is asked first when nothing says where this process is; it then says where the bucket is.
const ANYWHERE: &str = "us-east-1";
/// Looks at the start when there is nothing on disk, and the pause between them.
const FIRST_LOOKS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// An object that holds the configuration.
#[derive(Debug)]
pub(super) struct Remote {
    url: ObjectUrl,
    bucket: Bucket,
    folder: PathBuf,
    last_good: Option<LastGood>,
    metrics: ConfigObjectMetrics,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    /// The last one that was read, good or not.
    version: Option<Arc<Version>>,
    /// When to look again.
    due: Option<Instant>,
    /// What is wrong with the bucket, as it was told last.
    trouble: Option<String>,
}

/// Where S3 is asked for what says where this process is: by its region, if that is AWS's name for it.
pub fn place(environment: &Environment) -> &str {
    let region = environment.region.as_deref().unwrap_or_default();
    let like_aws = region.split('-').count() >= 3 && region.ends_with(|c: char| c.is_ascii_digit());
    if like_aws { region } else { ANYWHERE }
}

impl Remote {
    /// Reads it for the first time, if it can be had.
    pub(super) async fn open(
        url: ObjectUrl,
        from: &ConfigFrom,
        environment: &Environment,
        (credentials, metrics): (AwsMetrics, ConfigObjectMetrics),
    ) -> Self {
        // What the configuration says of credentials is not known yet.
        let session = Sessions::new(credentials).at(&Aws::default(), place(environment)).await;
        let last_good = from.state.as_deref().map(|folder| LastGood::new(folder, &url));
        if last_good.is_none() {
            tracing::warn!("no --state-dir: an edge that starts while {url} is away has no configuration");
        }
        let bucket = Bucket::of(session, &url);
        let remote =
            Self { url, bucket, folder: from.folder.clone(), last_good, metrics, now: Mutex::default() };
        for looked in 1..=FIRST_LOOKS {
            remote.look().await;
            if remote.current().is_some() || remote.kept().await.is_some() || looked == FIRST_LOOKS {
                break;
            }
            sleep(FIRST_PAUSE).await;
        }
        remote
    }

    pub(super) fn metrics(&self) -> &ConfigObjectMetrics {
        &self.metrics
    }

    fn with<T>(&self, act: impl FnOnce(&mut Now) -> T) -> T {
        act(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn current(&self) -> Option<Arc<Version>> {
        self.with(|now| now.version.clone())
    }

    /// The text that was read last.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn written(&self) -> Result<Written, String> {
        let (version, trouble) = self.with(|now| (now.version.clone(), now.trouble.clone()));
        let version =
            version.ok_or_else(|| trouble.unwrap_or_else(|| format!("{} was not read", self.url)))?;
        let (name, folder) = (self.url.to_string(), self.folder.clone());
        Ok(Written { name, folder, text: Arc::clone(&version.text) })
    }

    /// Looks for another version when it is time to.
    pub(super) async fn look_when_due(&self, pause: Duration) {
        let due = self.with(|now| {
            let due = now.due.is_some_and(|at| at <= Instant::now());
            if due || now.due.is_none() {
                now.due = Some(Instant::now() + pause.mul_f64(0.8 + 0.4 * rand::random::<f64>()));
            }
            due
        });
        if due {
            self.look().await;
        }
    }

    /// Looks for another version now.
    pub(super) async fn look(&self) {
        let known = self.current().map(|version| version.etag.clone());
        let looked = match self.bucket.get(&self.url.key, known.as_deref(), BYTES_MAX).await {
            Ok(None) => Ok(Look::Unchanged),
            Ok(Some(object)) => match String::from_utf8(object.bytes) {
                Ok(text) => {
                    let version =
                        Version { text: text.into(), etag: object.etag, id: object.version, kept_at: None };
                    let (etag, sha256) = (&version.etag, version.sha256());
                    let id = version.id.as_deref();
                    tracing::info!(%etag, version = id, %sha256, "another version of {}", self.url);
                    self.with(|now| now.version = Some(Arc::new(version)));
                    Ok(Look::New)
                }
                Err(error) => Err((Look::Failed, format!("not UTF-8 text: {error}"))),
            },
            Err(error @ ObjectError { kind: ObjectErrorKind::Missing, .. }) => {
                Err((Look::Missing, error.to_string()))
            }
            Err(error) => Err((Look::Failed, chain(&error))),
        };
        match looked {
            Ok(look) => {
                self.metrics.looked(look);
                self.metrics.confirmed(wall_clock());
                if self.with(|now| now.trouble.take()).is_some() {
                    tracing::info!("{}: can be read again", self.url);
                }
            }
            Err((look, why)) => {
                self.metrics.looked(look);
                let news = self.with(|now| now.trouble.replace(why.clone()).as_ref() != Some(&why));
                if news {
                    tracing::warn!("{}: {why}; what was read last stays", self.url);
                }
            }
        }
    }

    /// Takes the last good one from the disk; `false` when there is none, or none other than the current one.
    pub(super) async fn go_back(&self) -> bool {
        let Some(kept) = self.kept().await else { return false };
        if self.current().is_some_and(|current| current.text == kept.text) {
            return false;
        }
        let age = wall_clock().saturating_sub(kept.kept_at.unwrap_or_default());
        let (etag, sha256, version) = (&kept.etag, kept.sha256(), kept.id.as_deref());
        tracing::error!(
            age_seconds = age.as_secs(), %etag, version, %sha256,
            "starting with the last good configuration from the disk, {}",
            ago(age)
        );
        self.with(|now| now.version = Some(Arc::new(kept)));
        true
    }

    async fn kept(&self) -> Option<Version> {
        let last_good = self.last_good.clone()?;
        match spawn_blocking(move || last_good.read()).await {
            Ok(Ok(version)) => Some(version),
            Ok(Err(error)) => {
                tracing::warn!("no last good configuration: {}", chain(&error));
                None
            }
            Err(_) => None, // The process ends.
        }
    }

    /// The current version is in force: keeps it for the next start.
    pub(super) async fn accepted(&self) {
        let Some(version) = self.current() else { return };
        let (etag, sha256, id) = (&version.etag, version.sha256(), version.id.as_deref());
        tracing::info!(%etag, version = id, %sha256, from_disk = version.kept_at.is_some(), "in force: {}", self.url);
        self.metrics.from_disk(version.kept_at.is_some());
        let Some(last_good) = self.last_good.clone().filter(|_| version.kept_at.is_none()) else { return };
        // The outer error: the process ends.
        let written = spawn_blocking(move || last_good.write(&version, wall_clock())).await;
        if let Ok(Err(error)) = written {
            tracing::error!("the last good configuration is not kept: {}", chain(&error));
        }
    }
}

/// How long ago, for people.
fn ago(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("accepted {minutes} min ago"),
        (0, hours, minutes) => format!("accepted {hours} h {minutes} min ago"),
        (days, hours, _) => format!("accepted {days} d {hours} h ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_units() {
        for (minutes, told) in [
            (0, "accepted 0 min ago"),
            (59, "accepted 59 min ago"),
            (125, "accepted 2 h 5 min ago"),
            (3000, "accepted 2 d 2 h ago"),
        ] {
            assert_eq!(ago(Duration::from_secs(minutes * 60)), told);
        }
    }

    #[test]
    fn s3_is_asked_in_the_own_region_where_that_is_one_of_aws() {
        for (region, asked) in [
            (Some("eu-west-1"), "eu-west-1"),
            (Some("dublin"), ANYWHERE),
            (Some("imds"), ANYWHERE),
            (None, ANYWHERE),
        ] {
            let environment = Environment { region: region.map(str::to_owned), zone: None };
            assert_eq!(place(&environment), asked);
        }
    }
}
