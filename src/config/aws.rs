//! How AWS is reached: whose credentials are shown.

use crate::config::ObjectUrl;
use crate::config::file::FromFile;
use std::time::Duration;

/// What all calls to AWS go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aws {
    /// `None`: whichever of the first four is there.
    pub credentials: Option<CredentialSource>,
    /// Between two looks for another version of a configuration that is in a bucket.
    pub config_poll: Duration,
}

impl Default for Aws {
    fn default() -> Self {
        Self { credentials: None, config_poll: Duration::from_secs(30) }
    }
}

/// Where closed files of the journal, and the audit log, are kept for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// What the keys begin with.
    pub to: ObjectUrl,
    /// The longest that a line of the audit log waits.
    pub audit_every: Duration,
}

/// Where credentials for AWS come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialSource {
    /// Access keys in the environment.
    Environment,
    /// EKS Pod Identity (or another agent that the container is told of): an endpoint on the node that asks for a token.
    PodIdentity,
    /// A token of the cluster's, changed for a role's credentials at STS (IRSA).
    WebIdentity,
    /// A profile in AWS's shared files.
    Profile,
    /// The role of the instance, by the instance metadata service.
    Node,
}

impl CredentialSource {
    /// All, in the order in which they are looked for; [`Self::Node`] never is.
    pub const ALL: [Self; 5] =
        [Self::Environment, Self::PodIdentity, Self::WebIdentity, Self::Profile, Self::Node];

    /// As files, logs and the environment spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::PodIdentity => "pod_identity",
            Self::WebIdentity => "web_identity",
            Self::Profile => "profile",
            Self::Node => "node",
        }
    }

    /// `None` for a text that is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == text)
    }
}

impl std::fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromFile for CredentialSource {
    const RULE: &'static str = r#""pod_identity", "web_identity" (IRSA), "environment", "profile" or "node""#;

    fn from_text(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl FromFile for ObjectUrl {
    const RULE: &'static str = ObjectUrl::RULE;

    fn from_text(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}
