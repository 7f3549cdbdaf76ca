//! The whole planet on one machine.

pub mod certificates;
pub mod children;
pub mod edge_config;
pub mod event;
pub mod faults;
pub mod http;
pub mod ledger;
pub mod lookup;
pub mod observers;
pub mod relay;
pub mod service;
pub mod settings;
pub mod timeline;
pub mod users;
pub mod world;
