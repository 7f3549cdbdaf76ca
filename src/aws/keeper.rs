//! Keeps credentials until they end: renewed early, and the last good ones used while that fails.
//!
//! AWS's own cache drops what it has when a renewal fails. An STS that is down for
//! half an hour would then be an outage of every call, with credentials at hand that
//! are still good. Token files are read at each renewal, so that a rotated one is seen.

use super::EARLY;
use crate::clock::wall_clock;
use crate::error_chain::chain;
use crate::metrics::aws::{AwsMetrics, Renewal};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::timeout;
use tracing::{info, warn};

/// For one renewal, attempts and all.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);
/// After a renewal that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// A source of credentials, and the last ones it gave.
#[derive(Debug)]
pub(super) struct Keeper {
    source: SharedCredentialsProvider,
    kept: Mutex<Kept>,
    metrics: AwsMetrics,
}

/// Pure: the wall clock (since 1970), which the ends of credentials are told by, is an argument.
#[derive(Debug, Default)]
struct Kept {
    last: Option<Credentials>,
    /// When a renewal failed since the last that did not, and why.
    failed: Option<(Duration, String)>,
}

/// What to do about a question for credentials.
#[derive(Debug, PartialEq)]
enum Turn {
    Give(Credentials),
    Ask,
    /// A renewal failed a moment ago, and there is nothing to go on with.
    Refuse(String),
}

impl Kept {
    /// The last ones, unless they have ended.
    fn usable(&self, now: Duration) -> Option<&Credentials> {
        self.last.as_ref().filter(|last| end(last).is_none_or(|end| now < end))
    }

    fn turn(&self, now: Duration) -> Turn {
        let usable = self.usable(now);
        if let Some(last) = usable.filter(|last| end(last).is_none_or(|end| now + EARLY < end)) {
            return Turn::Give(last.clone());
        }
        match (&self.failed, usable) {
            (Some((at, _)), Some(last)) if now < *at + PAUSE => Turn::Give(last.clone()),
            (Some((at, why)), None) if now < *at + PAUSE => Turn::Refuse(why.clone()),
            _ => Turn::Ask,
        }
    }

    fn renewed(&mut self, credentials: Credentials) {
        *self = Self { last: Some(credentials), failed: None };
    }

    /// The last ones, if they still hold.
    fn not_renewed(&mut self, why: String, now: Duration) -> Option<Credentials> {
        self.failed = Some((now, why));
        self.usable(now).cloned()
    }
}

/// Since 1970; `None`: never.
fn end(credentials: &Credentials) -> Option<Duration> {
    Some(credentials.expiry()?.duration_since(UNIX_EPOCH).unwrap_or_default())
}

impl Keeper {
    pub(super) fn new(source: SharedCredentialsProvider, metrics: AwsMetrics) -> Self {
        Self { source, kept: Mutex::default(), metrics }
    }

    async fn give(&self) -> Result<Credentials, CredentialsError> {
        match self.with(|kept| kept.turn(wall_clock())) {
            Turn::Give(credentials) => return Ok(credentials),
            Turn::Refuse(why) => return Err(CredentialsError::provider_error(why)),
            Turn::Ask => {}
        }
        let why = match timeout(PATIENCE, self.source.provide_credentials()).await {
            Ok(Ok(credentials)) => {
                if self.with(|kept| kept.failed.is_some()) {
                    info!("credentials for AWS: renewed again");
                }
                self.metrics.asked(Renewal::Renewed);
                self.metrics.expire(end(&credentials));
                self.with(|kept| kept.renewed(credentials.clone()));
                return Ok(credentials);
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        let news = self.with(|kept| kept.failed.as_ref().is_none_or(|(_, before)| *before != why));
        let last = self.with(|kept| kept.not_renewed(why.clone(), wall_clock()));
        self.metrics.asked(if last.is_some() { Renewal::Kept } else { Renewal::Failed });
        match last {
            Some(last) => {
                if news {
                    warn!(
                        "credentials for AWS cannot be renewed, those from before go on until they end: {why}"
                    );
                }
                Ok(last)
            }
            None => {
                self.metrics.expire(None);
                Err(CredentialsError::provider_error(why))
            }
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Kept) -> T) -> T {
        act(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ProvideCredentials for Keeper {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.give())
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.with(|kept| kept.usable(wall_clock()).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn credentials(end: Option<Duration>) -> Credentials {
        Credentials::new("key", "secret", None, end.map(|end| UNIX_EPOCH + end), "test")
    }

    #[test]
    fn credentials_are_renewed_early_and_go_on_until_they_end_when_that_fails() {
        let (mut kept, second) = (Kept::default(), Duration::from_secs(1));
        assert_eq!(kept.turn(HOUR), Turn::Ask);
        let good = credentials(Some(HOUR * 2));
        kept.renewed(good.clone());
        assert_eq!(kept.turn(HOUR), Turn::Give(good.clone()));
        assert_eq!(kept.turn(HOUR * 2 - EARLY), Turn::Ask, "early");
        let failed_at = HOUR * 2 - EARLY;
        assert_eq!(kept.not_renewed("STS is down".to_owned(), failed_at), Some(good.clone()));
        assert_eq!(kept.turn(failed_at + second), Turn::Give(good.clone()), "not asked again at once");
        assert_eq!(kept.turn(failed_at + PAUSE), Turn::Ask);
        assert_eq!(kept.not_renewed("STS is down".to_owned(), HOUR * 2 - second), Some(good));
        assert_eq!(kept.not_renewed("STS is down".to_owned(), HOUR * 2), None, "they have ended");
        assert_eq!(kept.turn(HOUR * 2 + second), Turn::Refuse("STS is down".to_owned()));
        assert_eq!(kept.turn(HOUR * 2 + PAUSE), Turn::Ask);
    }

    #[test]
    fn keys_without_an_end_are_asked_for_once() {
        let mut kept = Kept::default();
        kept.renewed(credentials(None));
        assert_eq!(kept.turn(HOUR * 100_000), Turn::Give(credentials(None)));
    }
}
