//! Objects in S3: read when they have changed, with a bound on their size; written whole.

use super::{Session, no_credentials};
use crate::config::ObjectUrl;
use crate::error_chain::chain;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Region;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use std::error::Error;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// For the content, after the head of the answer.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// For a whole file on its way there.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Says where a bucket is that was asked for elsewhere. Source: Amazon S3 API reference, HeadBucket.
const BUCKET_REGION: &str = "x-amz-bucket-region";

/// A bucket, wherever in the world it is.
#[derive(Debug)]
pub struct Bucket {
    session: Session,
    name: String,
    client: Mutex<Client>,
}

/// An object as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub bytes: Vec<u8>,
    /// Of its content; what it is compared by.
    pub etag: String,
    /// Of a bucket that keeps versions.
    pub version: Option<String>,
}

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {kind}: {detail}")]
pub struct ObjectError {
    pub action: &'static str,
    pub kind: ObjectErrorKind,
    /// For people.
    pub detail: String,
}

/// Sorted by what people do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectErrorKind {
    /// There is no such object, or no such bucket.
    Missing,
    /// These credentials may not. S3 says so of a missing object, too, to who may not list the bucket.
    Denied,
    Credentials,
    TooLarge,
    /// No answer, or one that says nothing.
    Unanswered,
    Refused,
}

impl std::fmt::Display for ObjectErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Denied => "denied",
            Self::Credentials => "credentials",
            Self::TooLarge => "too large",
            Self::Unanswered => "unanswered",
            Self::Refused => "refused",
        })
    }
}

impl Bucket {
    pub fn new(session: Session, name: &str) -> Self {
        let client = Mutex::new(Client::new(session.sdk()));
        Self { session, name: name.to_owned(), client }
    }

    /// The bucket of an object.
    pub fn of(session: Session, url: &ObjectUrl) -> Self {
        Self::new(session, &url.bucket)
    }

    /// An object of at most `bytes_max`; `None` when it is still the one with this ETag.
    ///
    /// # Errors
    /// Any kind.
    pub async fn get(
        &self,
        key: &str,
        known: Option<&str>,
        bytes_max: u64,
    ) -> Result<Option<Object>, ObjectError> {
        const ACTION: &str = "GetObject";
        let ask = |client: Client| {
            client.get_object().bucket(&self.name).key(key).set_if_none_match(known.map(str::to_owned)).send()
        };
        let mut answer = ask(self.client()).await;
        if let Some(client) = answer.as_ref().err().and_then(|error| self.elsewhere(error)) {
            answer = ask(client).await;
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.raw_response().is_some_and(|raw| raw.status().as_u16() == 304) => {
                return Ok(None);
            }
            Err(error) => return Err(ObjectError::of(ACTION, &error)),
        };
        let told = answer.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
        if told > bytes_max {
            return Err(ObjectError::too_large(ACTION, told, bytes_max));
        }
        match timeout(BODY_TIMEOUT, collect(answer, bytes_max)).await {
            Ok(object) => object.map(Some),
            Err(_) => {
                let detail = format!("the content did not come within {} s", BODY_TIMEOUT.as_secs());
                Err(ObjectError { action: ACTION, kind: ObjectErrorKind::Unanswered, detail })
            }
        }
    }

    /// Stores a file under a key where nothing is yet; what is there already is left alone.
    ///
    /// # Errors
    /// Any kind but `Missing` of the object and `TooLarge`.
    pub async fn put(&self, key: &str, file: &Path) -> Result<(), ObjectError> {
        const ACTION: &str = "PutObject";
        let ask = async |client: Client| {
            let body = ByteStream::from_path(file).await.map_err(|error| ObjectError {
                action: ACTION,
                kind: ObjectErrorKind::Refused,
                detail: format!("{}: {}", file.display(), chain(&error)),
            })?;
            let timeouts = TimeoutConfig::builder().operation_attempt_timeout(UPLOAD_TIMEOUT).build();
            let slower = aws_sdk_s3::config::Builder::new().timeout_config(timeouts);
            let call = client.put_object().bucket(&self.name).key(key).if_none_match("*").body(body);
            Ok::<_, ObjectError>(call.customize().config_override(slower).send().await)
        };
        let mut answer = ask(self.client()).await?;
        if let Some(client) = answer.as_ref().err().and_then(|error| self.elsewhere(error)) {
            answer = ask(client).await?;
        }
        match answer {
            Ok(_) => Ok(()),
            Err(error) if error.raw_response().is_some_and(|raw| raw.status().as_u16() == 412) => Ok(()),
            Err(error) => Err(ObjectError::of(ACTION, &error)),
        }
    }

    /// Whether objects may be stored under a key: by a content that S3 must refuse, after it has looked at the rights.
    ///
    /// # Errors
    /// `Denied`, and every kind but `TooLarge`.
    pub async fn may_put(&self, key: &str) -> Result<(), ObjectError> {
        const ACTION: &str = "PutObject";
        // The digest of something else: Amazon S3 API reference, PutObject, "BadDigest".
        const OTHER_DIGEST: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";
        let ask = |client: Client| {
            let call = client.put_object().bucket(&self.name).key(key).if_none_match("*");
            call.content_md5(OTHER_DIGEST)
                .body(ByteStream::from_static(b"proxima doctor: to be refused"))
                .send()
        };
        let mut answer = ask(self.client()).await;
        if let Some(client) = answer.as_ref().err().and_then(|error| self.elsewhere(error)) {
            answer = ask(client).await;
        }
        match answer {
            Err(error) if error.code() == Some("BadDigest") => Ok(()),
            Err(error) => Err(ObjectError::of(ACTION, &error)),
            Ok(_) => {
                let detail = "the server took a content whose digest is wrong: not S3".to_owned();
                Err(ObjectError { action: ACTION, kind: ObjectErrorKind::Refused, detail })
            }
        }
    }

    fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client for the region that the bucket is in, when the error is that it was asked for in another.
    fn elsewhere<E>(&self, error: &SdkError<E, HttpResponse>) -> Option<Client> {
        let region = error.raw_response()?.headers().get(BUCKET_REGION)?.to_owned();
        let client = self.client();
        if client.config().region().is_some_and(|now| now.as_ref() == region) {
            return None;
        }
        let config = aws_sdk_s3::config::Builder::from(self.session.sdk()).region(Region::new(region));
        let client = Client::from_conf(config.build());
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client.clone();
        Some(client)
    }
}

async fn collect(mut answer: GetObjectOutput, bytes_max: u64) -> Result<Object, ObjectError> {
    const ACTION: &str = "GetObject";
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.body.next().await {
        let chunk = chunk.map_err(|error| ObjectError {
            action: ACTION,
            kind: ObjectErrorKind::Unanswered,
            detail: chain(&error),
        })?;
        bytes.extend_from_slice(&chunk);
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length > bytes_max {
            return Err(ObjectError::too_large(ACTION, length, bytes_max));
        }
    }
    // Versions of a bucket that keeps none are called "null".
    let version = answer.version_id.filter(|version| version != "null");
    Ok(Object { bytes, etag: answer.e_tag.unwrap_or_default(), version })
}

impl ObjectError {
    fn too_large(action: &'static str, bytes: u64, bytes_max: u64) -> Self {
        let detail = format!("{bytes} bytes; at most {bytes_max} are taken");
        Self { action, kind: ObjectErrorKind::TooLarge, detail }
    }

    /// Sorts the SDK's error.
    fn of<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let Some(raw) = error.raw_response() else {
            let kind = if no_credentials(error) {
                ObjectErrorKind::Credentials
            } else {
                ObjectErrorKind::Unanswered
            };
            return Self { action, kind, detail: chain(error) };
        };
        let status = raw.status().as_u16();
        let detail = match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => format!("HTTP status {status}"),
        };
        Self { action, kind: kind_of(error.code(), status), detail }
    }
}

/// Source: Amazon S3 API reference, "Error responses".
fn kind_of(code: Option<&str>, status: u16) -> ObjectErrorKind {
    match (code, status) {
        (Some("ExpiredToken" | "InvalidAccessKeyId" | "InvalidToken"), _) => ObjectErrorKind::Credentials,
        (_, 404) => ObjectErrorKind::Missing,
        (_, 401 | 403) => ObjectErrorKind::Denied,
        (_, 429 | 500..) => ObjectErrorKind::Unanswered,
        _ => ObjectErrorKind::Refused,
    }
}
