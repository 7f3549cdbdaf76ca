//! Every metric name, one place: a file an area, one registry.
//!
//! `proxima_<noun>_<unit>` and `_total`; labels only from closed sets (region,
//! service, route, class, rule), never a path, host or error text.

pub mod archive;
pub mod aws;
pub mod config_object;
pub mod control;
pub mod dns;
pub mod journal;
pub mod kube;
pub mod lease;
pub mod moves;
pub mod request;
pub mod snapshot;
