//! The Kubernetes API: endpoints from EndpointSlices, and the Lease of the region's pods.
//!
//! Nothing here is needed to serve: while the API is slow, away or denies what is asked, everything
//! stays as it was learnt last, and `/ready` knows nothing of it. Without `[kubernetes]` nothing is asked.

mod book;
mod client;
mod endpoints;
mod error;

pub mod lease;
pub mod rights;
pub mod slices;

pub use client::{Access, connect};
pub use error::Error;
