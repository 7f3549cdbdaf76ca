//! The whole planet on one machine.

pub mod certificates;
pub mod http;
pub mod lookup;
pub mod relay;
pub mod service;
pub mod world;
