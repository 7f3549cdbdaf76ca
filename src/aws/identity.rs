//! Who AWS takes this process for.

use super::{Session, no_credentials};
use crate::error_chain::chain;
use aws_sdk_sts::error::ProvideErrorMetadata;

/// An identity at AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub account: String,
    pub arn: String,
}

/// Why it is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// There are no credentials.
    #[error("{0}")]
    Credentials(String),
    /// STS takes none of these credentials.
    #[error("GetCallerIdentity: {0}")]
    Refused(String),
    #[error("STS cannot be reached: {0}")]
    Unreachable(String),
}

/// Asks STS; every identity may.
///
/// # Errors
/// Why there is no answer.
pub async fn whoami(session: &Session) -> Result<Identity, Unknown> {
    match aws_sdk_sts::Client::new(session.sdk()).get_caller_identity().send().await {
        Ok(answer) => {
            Ok(Identity { account: answer.account.unwrap_or_default(), arn: answer.arn.unwrap_or_default() })
        }
        Err(error) if no_credentials(&error) => Err(Unknown::Credentials(chain(&error))),
        Err(error) => Err(match (error.code(), error.message()) {
            (Some(code), message) => Unknown::Refused(format!("{code}: {}", message.unwrap_or_default())),
            _ => Unknown::Unreachable(chain(&error)),
        }),
    }
}
