//! Proxima: a global traffic-routing edge proxy.
//!
//! Dependencies point inward: `main -> cli -> app -> adapters -> {config,
//! metrics, peer} -> domain`. Adapters never import one another; they meet as
//! channel ends that [`app`] hands out. `tests/architecture.rs` holds this.

pub mod access_log;
pub mod admin;
pub mod app;
pub mod archive;
pub mod aws;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dns;
pub mod domain;
pub mod error_chain;
pub mod followers;
pub mod inquiry;
pub mod journal;
pub mod kube;
pub mod lease;
pub mod metrics;
pub mod operators;
pub mod otlp;
pub mod peer;
pub mod probe;
pub mod proxy;
pub mod resolve;
pub mod rtt_table;
pub mod simulate;
pub mod trust;
#[cfg(feature = "demo")]
pub mod zone_server;
