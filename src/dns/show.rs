//! A name's control record and sets, for people.

use super::api::Api;
use super::batch::weights;
use super::checks::Checks;
use super::layout::Layout;
use super::reader::{ReadError, read};
use super::wall::wall_clock;
use crate::clock::Clock;
use crate::domain::operator::{OperatorState, Said};
use std::time::Duration;

/// A name as it is, for `proxima dns show`.
///
/// # Errors
/// As for reading: what does not match the configuration is named.
pub async fn show(api: &Api, layout: &Layout, checks: &Checks, clock: &Clock) -> Result<String, ReadError> {
    let reading = read(api, layout, checks, clock).await?;
    let control = &reading.control;
    let mut text = format!("{}\n", layout.name);
    let mut line = |key: &str, value: String| text.push_str(&format!("  {key:<11}{value}\n"));
    line("epoch", control.fence.epoch.clone());
    line("generation", control.fence.generation.get().to_string());
    line("writer", control.writer.as_ref().map_or_else(|| "bootstrap".to_owned(), ToString::to_string));
    if let Some(at) = control.changed_at {
        line("changed", format!("{} s ago", wall_clock().saturating_sub(at).as_secs()));
    }
    for (key, value) in said(&control.operator, wall_clock()) {
        line(key, value);
    }
    for (entry, set) in &reading.state.sets {
        line("set", format!("{entry}: {}", weights(set)));
    }
    Ok(text)
}

/// What operators have said, a line each: what, and the rest of it.
pub fn said(operator: &OperatorState<Duration>, wall: Duration) -> Vec<(&'static str, String)> {
    let freeze = operator.freeze.iter().map(|freeze| ("FROZEN", described(&freeze.said, None, wall)));
    let drains = operator.drains.iter().map(|(region, drain)| {
        ("draining", format!("{region}: {}", described(&drain.said, drain.expires_at, wall)))
    });
    let overrides = operator.overrides.iter().map(|(rule, over)| {
        ("overridden", format!("{rule}: {}", described(&over.said, Some(over.expires_at), wall)))
    });
    freeze.chain(drains).chain(overrides).collect()
}

fn described(said: &Said, expires_at: Option<Duration>, wall: Duration) -> String {
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let mut text = format!("{} (by {}", or(&said.reason, "no reason"), or(&said.by, "hand"));
    if let Some(since) = said.since {
        text.push_str(&format!(", for {} s", wall.saturating_sub(since).as_secs()));
    }
    match expires_at {
        Some(at) if at <= wall => text.push_str(", expired"),
        Some(at) => text.push_str(&format!(", {} s left", (at - wall).as_secs())),
        None => {}
    }
    text + ")"
}
