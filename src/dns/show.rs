//! A name's control record and sets, for people.

use super::api::Api;
use super::batch::weights;
use super::checks::Checks;
use super::layout::Layout;
use super::reader::{ReadError, read};
use super::wall::wall_clock;
use crate::clock::Clock;

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
    if let Some(reason) = &control.freeze {
        line("FROZEN", reason.clone());
    }
    if !control.drains.is_empty() {
        line("draining", control.drains.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    }
    for (entry, set) in &reading.state.sets {
        line("set", format!("{entry}: {}", weights(set)));
    }
    Ok(text)
}
