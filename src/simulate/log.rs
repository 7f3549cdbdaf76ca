//! What a run writes down for people, when asked to.

use super::run::Run;
use crate::domain::fleet::Output;
use crate::domain::time::Time;
use std::fmt::Write as _;

impl Run<'_> {
    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let at = self.now.since(Time::ZERO).as_secs_f64();
            log_line(log, at, &text());
        }
    }

    pub(super) fn log_output(&mut self, edge: usize, output: &Output) {
        let id = self.edge_name(edge);
        match output {
            Output::View(view) => self.note(|| format!("{id} view {view:?}")),
            Output::Publish(snapshot) => self.note(|| format!("{id} publish {snapshot:?}")),
            Output::Propose(plan) => self.note(|| format!("{id} propose {plan:?}")),
            Output::Moved(transition) => self.note(|| format!("{id} moved {transition:?}")),
            Output::Operated { result, .. } => self.note(|| format!("{id} operated {result:?}")),
        }
    }

    fn edge_name(&self, edge: usize) -> String {
        let region = &self.cast.regions[self.cast.region_of(edge)];
        match self.cast.processes {
            1 => region.to_string(),
            several => format!("{region}/{}", edge % several),
        }
    }

    /// Adds a line about the DNS side to the log.
    pub(super) fn note_dns(&mut self, edge: usize, text: impl FnOnce() -> String) {
        if self.log.is_some() {
            let id = self.edge_name(edge);
            self.note(|| format!("{id} dns {}", text()));
        }
    }
}

/// Writing to a `String` does not fail.
fn log_line(log: &mut String, at: f64, text: &str) {
    if writeln!(log, "{at:8.3} -- {text}").is_err() {
        log.push('\n');
    }
}
