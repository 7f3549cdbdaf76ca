//! The pure core: what is healthy, what is near, who serves, which weights.
//!
//! Nothing here reads a clock, a socket, a file, the environment or a random
//! source: time and randomness are arguments, so a run can be replayed exactly.
//! Maps are ordered (`BTreeMap`), so nothing depends on hash order.

pub mod capacity;
pub mod drift;
pub mod endpoint;
pub mod explain;
pub mod fleet;
pub mod hash;
pub mod health;
pub mod latency;
pub mod limit;
pub mod name;
pub mod operator;
pub mod plan;
pub mod policy;
pub mod routing;
pub mod selection;
pub mod snapshot;
pub mod time;
pub mod trace;
pub mod view;
pub mod votes;
pub mod weights;
pub mod zones;
