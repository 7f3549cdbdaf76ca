//! What Route 53 says when it refuses, by its own error codes.

/// A refused call: its variants are Route 53's error codes.
///
/// Source: API reference, "Errors" of each action, and "Common errors".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The batch breaks rules; one text a broken rule. Nothing was changed.
    #[error("[{}]", .0.join(", "))]
    InvalidChangeBatch(Vec<String>),
    #[error("{0}")]
    InvalidInput(String),
    #[error("{0}")]
    InvalidDomainName(String),
    #[error("No hosted zone found with ID: {0}")]
    NoSuchHostedZone(String),
    #[error("A change with id {0} could not be found.")]
    NoSuchChange(String),
    #[error("A health check with id {0} does not exist.")]
    NoSuchHealthCheck(String),
    #[error(
        "A health check was created with caller reference '{0}' before: with another configuration, or it was deleted."
    )]
    HealthCheckAlreadyExists(String),
    #[error("This account has reached its limit of {0} health checks.")]
    TooManyHealthChecks(usize),
    #[error("A hosted zone has already been created with the specified caller reference.")]
    HostedZoneAlreadyExists,
    #[error("Rate exceeded")]
    Throttling,
    #[error("The request was rejected because Route 53 was still processing a prior request.")]
    PriorRequestNotComplete,
    #[error("Missing Authentication Token")]
    MissingAuthenticationToken,
    #[error("The zone server does not carry this call.")]
    UnknownOperation,
    #[error("The service is unavailable; a fault was asked for.")]
    ServiceUnavailable,
}

impl Refusal {
    /// Route 53's error code, on which SDKs pick their typed error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidChangeBatch(_) => "InvalidChangeBatch",
            Self::InvalidInput(_) => "InvalidInput",
            Self::InvalidDomainName(_) => "InvalidDomainName",
            Self::NoSuchHostedZone(_) => "NoSuchHostedZone",
            Self::NoSuchChange(_) => "NoSuchChange",
            Self::NoSuchHealthCheck(_) => "NoSuchHealthCheck",
            Self::HealthCheckAlreadyExists(_) => "HealthCheckAlreadyExists",
            Self::TooManyHealthChecks(_) => "TooManyHealthChecks",
            Self::HostedZoneAlreadyExists => "HostedZoneAlreadyExists",
            Self::Throttling => "Throttling",
            Self::PriorRequestNotComplete => "PriorRequestNotComplete",
            Self::MissingAuthenticationToken => "MissingAuthenticationToken",
            Self::UnknownOperation => "UnknownOperationException",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }

    /// The HTTP status that Route 53 sends with the code.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::NoSuchHostedZone(_)
            | Self::NoSuchChange(_)
            | Self::NoSuchHealthCheck(_)
            | Self::UnknownOperation => 404,
            Self::HealthCheckAlreadyExists(_) | Self::HostedZoneAlreadyExists => 409,
            Self::MissingAuthenticationToken => 403,
            Self::ServiceUnavailable => 503,
            _ => 400,
        }
    }
}
