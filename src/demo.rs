//! The whole planet on one machine.

pub mod certificates;
pub mod edge_config;
pub mod event;
pub mod faults;
pub mod http;
pub mod ledger;
pub mod lookup;
pub mod relay;
pub mod service;
pub mod settings;
pub mod world;
