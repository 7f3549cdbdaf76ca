//! Drift: a record under a name of Proxima's that something else has changed.
//!
//! Who wins: weights edited by hand are the present state, and plans move on
//! from them. Anything else (another target, TTL, health check or kind, a
//! record too many or one that is missing) is foreign: nothing is planned for
//! that name until an operator repairs it.

use serde::{Deserialize, Serialize};

/// One record, what the configuration asks of it and what was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Drift {
    /// Name, type and set identifier.
    pub record: String,
    pub expected: String,
    pub found: String,
}
