//! What operators ask an edge's admin listener, and how its refusals are told.

use crate::cli::admin_client::{AdminClient, Error, TlsFiles};
use crate::error_chain::chain;
use crate::operators::wire::Answer;
use http::StatusCode;

/// What went wrong, in full.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String);

#[derive(Debug)]
pub(super) struct Client {
    admin: AdminClient,
    token: Option<String>,
}

impl Client {
    pub(super) async fn of(url: &str, files: &TlsFiles, token: Option<String>) -> Result<Self, Failure> {
        let admin = AdminClient::of(url, files).await.map_err(|error| Failure(chain(&error)))?;
        Ok(Self { admin, token: token.map(|token| token.trim().to_owned()) })
    }

    /// The text of a good answer.
    pub(super) async fn get(&self, path: &str) -> Result<String, Failure> {
        self.send("GET", path, String::new()).await
    }

    /// An act's account.
    pub(super) async fn answer(&self, method: &str, path: &str, body: String) -> Result<Answer, Failure> {
        let text = self.send(method, path, body).await?;
        serde_json::from_str(&text).map_err(|error| self.failure(&format!("an answer that is none: {error}")))
    }

    fn failure(&self, what: &str) -> Failure {
        Failure(format!("{}: {what}", self.admin.url()))
    }

    async fn send(&self, method: &str, path: &str, body: String) -> Result<String, Failure> {
        let sent = self.admin.send(method, path, self.token.as_deref(), body).await;
        let (status, body) = sent.map_err(|error| match &error {
            Error::Connect(_) | Error::Timeout => {
                self.failure(&format!("{}; see --admin, or --direct if no edge is left", chain(&error)))
            }
            _ => self.failure(&chain(&error)),
        })?;
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        // An operator's answer is JSON, another page's is plain text: both are told.
        let told = serde_json::from_str::<serde_json::Value>(&text);
        let told = told.as_ref().ok().and_then(|told| told["error"].as_str()).unwrap_or(text.trim());
        Err(Failure(match status {
            StatusCode::UNAUTHORIZED => format!("{told}; see --token-file and --cert"),
            StatusCode::CONFLICT => format!("refused: {told}"),
            StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => told.to_owned(),
            _ => format!("{status}: {told}"),
        }))
    }
}
