//! Load protection: what a service is spared, and what its endpoints are judged by.
//!
//! Each module is one idea, pure: time is a [`Time`](crate::domain::time::Time)
//! argument, random numbers are arguments. They are shared by all requests, so
//! their state is atomics; nothing allocates for a request, nothing waits, and
//! every table has a bound.
//!
//! - `rate`: requests a second by client, header value or route (429)
//! - `budget`: how many retries or hedges the traffic of a service pays for
//! - `concurrency`: requests in flight, fixed or adaptive, by priority (503)
//! - `outlier`: endpoints that do worse than the others
//! - `hedge`: when a second attempt is worth its load
//! - `affinity`: the endpoint that a session stays with

pub mod affinity;
pub mod budget;
pub mod concurrency;
pub mod hedge;
pub mod histogram;
pub mod outlier;
pub mod rate;
