//! Load protection, as configured: what the modules of `domain::limit` are built from.

use crate::domain::limit::budget::BudgetPolicy;
use crate::domain::limit::concurrency::ConcurrencyPolicy;
use crate::domain::limit::hedge::HedgePolicy;
use crate::domain::limit::rate::Rate;
use std::path::PathBuf;
use std::time::Duration;

/// What protects a service.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Protection {
    pub retry_budget: BudgetPolicy,
    /// `None`: any number in flight.
    pub concurrency: Option<ConcurrencyPolicy>,
    /// `None`: every request goes where it is served best.
    pub affinity: Option<Affinity>,
    /// `None`: slow requests are waited for.
    pub hedging: Option<HedgePolicy>,
}

/// What keeps a session at its endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affinity {
    pub by: AffinityBy,
    /// A file whose bytes key the hashes; the same on all edges. `Some` with a cookie.
    pub secret: Option<PathBuf>,
}

/// How requests of one session are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AffinityBy {
    /// A cookie of ours. Without `max_age` it ends with the client's session.
    Cookie {
        name: String,
        max_age: Option<Duration>,
    },
    Client,
    /// The value of this header, in lower case.
    Header(String),
}

/// A named limit that routes refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    pub key: RateBy,
    pub rate: Rate,
    /// Keys that are remembered at once.
    pub keys_max: u32,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateBy {
    Client,
    Route,
    /// The value of this header, in lower case. Requests without it count by client.
    Header(String),
}
