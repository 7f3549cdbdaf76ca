//! The world around the core: many real `Fleet`s in virtual time, users, resolvers, Route 53 and
//! faults, with what must hold checked after every step.
//!
//! It decides nothing that an edge decides: edges are `domain::fleet::Fleet`, the same code as in
//! production. What it models is everything else, each part in a file of its own: messages
//! (`fabric`), the zone (`store`), the DNS side of an edge (`provider`), users and resolvers (`flow`),
//! faults (`faults`, `world`). It reads no clock and no randomness: a seed gives the same run.

mod aimed;
mod cast;
mod coverage;
mod edge;
mod event;
mod fabric;
mod faults;
mod flow;
mod generate;
mod happening;
mod invariants;
mod log;
mod noise;
mod provider;
mod record;
mod report;
mod run;
mod scenario;
mod seams;
mod shrink;
mod store;
mod svg;
mod sweep;
mod world;

pub use aimed::aimed_seed;
pub use cast::{Cast, NoWorld};
pub use coverage::{Cell, Coverage, Gap, TRANSITIONS};
pub use faults::{Expect, Fault, Scenario, Step};
pub use invariants::{Held, Rule, Violation};
pub use record::{Record, Tally};
pub use report::Report;
pub use run::{Finished, Writes, play};
pub use scenario::load;
pub use seams::{Honest, Seams};
pub use shrink::{Shrunk, report as shortest, shrink};
pub use svg::plot;
pub use sweep::{Failure, Swept, sweep};
