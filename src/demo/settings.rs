//! What a run is asked for, and the settings of its edges.
//!
//! A planet's time scale does not fit into a minute, so the edges of the demo
//! run with smaller ones. Each that differs from the default is listed here
//! once: it is printed, reported, and written into the configuration files.

use super::world::World;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// How fast the world turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Pace {
    /// A planet's failover in a minute, back home included.
    #[default]
    Minute,
    /// The edges run by their defaults, and Route 53 is as slow as the real one: five minutes to see
    /// both deaths. What comes back would take four times the hold-down and is not waited for.
    Defaults,
}

impl Pace {
    /// What users may keep an address for.
    pub const fn ttl(self) -> Duration {
        match self {
            Self::Minute => Duration::from_secs(2),
            Self::Defaults => Duration::from_secs(60),
        }
    }

    /// From accepted to INSYNC at the zone server. Route 53 takes up to a minute.
    pub const fn insync(self) -> Duration {
        match self {
            Self::Minute => Duration::from_millis(300),
            Self::Defaults => Duration::from_secs(30),
        }
    }

    /// Between two looks of a health checker.
    pub const fn health_interval(self) -> Duration {
        match self {
            Self::Minute => Duration::from_secs(1),
            Self::Defaults => Duration::from_secs(10),
        }
    }
}

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    pub regions: usize,
    pub seed: u64,
    pub pace: Pace,
    /// Stay up after the start and run no script.
    pub hold: bool,
    pub report: Option<PathBuf>,
}

/// Users who live in each region, and how often each asks.
pub const USERS_PER_REGION: u8 = 8;
pub const REQUEST_EVERY: Duration = Duration::from_millis(500);
/// Bytes of an ordinary answer.
pub const ANSWER_BYTES: usize = 2048;
/// How long a service pauses between the first bytes of an answer and the rest.
pub const PAUSE: Duration = Duration::from_millis(40);

/// A setting that differs from its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its key in the edges' TOML, or in words where it is not theirs.
    #[serde(skip)]
    pub key: String,
    pub value: String,
    pub default: String,
    pub why: &'static str,
}

/// How long a user waits for an answer: several of the longest round trips.
pub fn request_timeout(world: &World) -> Duration {
    Duration::from_millis(1500) + 2 * world.rtt_max()
}

/// How long an edge waits for a probe: a fresh TLS connection takes three round trips.
pub fn probe_timeout(world: &World) -> Duration {
    let millis = 3 * world.rtt_max().as_millis() + 250;
    // Rounded up to 50 ms, for people.
    Duration::from_millis(u64::try_from(millis.div_ceil(50) * 50).unwrap_or(u64::MAX))
}

/// All settings of the edges and of Route 53 that differ from their defaults.
pub fn differing(world: &World, pace: Pace) -> Vec<Setting> {
    let timeout = probe_timeout(world);
    let interval = Duration::from_secs(1).max(timeout + Duration::from_millis(50));
    let mut all = vec![
        row("probes.interval", &text(interval), "1s", "above the timeout"),
        row("probes.timeout", &text(timeout), "800ms", "three of the longest round trips, for TCP and TLS"),
        row("dns.mode", "act", "observe", "it is the demo's zone"),
        row("Route 53: requests a second", "not bounded", "5", "all edges read by one account"),
    ];
    if pace == Pace::Minute {
        all.extend(hurried(pace));
    }
    all.into_iter().filter(|setting| canonical(&setting.value) != canonical(&setting.default)).collect()
}

/// What makes a planet fit into a minute.
fn hurried(pace: Pace) -> [Setting; 13] {
    [
        row("probes.fall", "2", "3", "seen down after two missed probes"),
        row("ejection.ejection", "2s", "10s", "seconds of ejection instead of many"),
        row("ejection.probation", "5s", "20s", "back at full share sooner"),
        row("failover.down_after", "1s", "5s", "votes sooner"),
        row("failover.max_shift", "0.34", "0.25", "home in three steps instead of four"),
        row("failover.hold_down", "3s", "3m", "TTL and INSYNC take less"),
        row("failover.max_changes_per_hour", "1000", "20", "hours of faults in two minutes"),
        row("names.ttl", &format!("{}s", pace.ttl().as_secs()), "60s", "users ask DNS again sooner"),
        row("dns.poll", "500ms", "10s", "the writer sees the records sooner"),
        row("dns.insync_poll", "100ms", "2s", "INSYNC comes sooner"),
        row("dns.insync_allowance", "500ms", "60s", "INSYNC comes sooner"),
        row("Route 53: time to INSYNC", &text(pace.insync()), "up to 60s", "of the zone server"),
        row("Route 53: health check interval", &text(pace.health_interval()), "10s", "of the zone server"),
    ]
}

fn row(key: &str, value: &str, default: &str, why: &'static str) -> Setting {
    Setting { key: key.to_owned(), value: value.to_owned(), default: default.to_owned(), why }
}

fn text(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// One second is a second, however it is written.
fn canonical(text: &str) -> String {
    match text.strip_suffix("ms").and_then(|number| number.parse::<u64>().ok()) {
        Some(ms) if ms % 1000 == 0 => format!("{}s", ms / 1000),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::world::REGIONS_MAX;

    #[test]
    fn the_named_defaults_are_those_of_the_annotated_configuration() {
        let text = include_str!("../../config/proxima.toml");
        let file: toml::Table = toml::from_str(text).unwrap();
        for setting in differing(&World::new(REGIONS_MAX).unwrap(), Pace::Minute) {
            let Some((table, key)) = setting.key.split_once('.') else { continue };
            let value = match table {
                "names" => &file["names"]["www.example.com"][key],
                _ => &file[table][key],
            };
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(canonical(&shown), canonical(&setting.default), "{}", setting.key);
        }
    }

    #[test]
    fn what_equals_the_default_is_not_listed() {
        let small = differing(&World::new(5).unwrap(), Pace::Minute);
        assert!(small.iter().all(|s| s.key != "probes.interval"), "{small:?}");
        let large = differing(&World::new(REGIONS_MAX).unwrap(), Pace::Minute);
        assert!(large.iter().any(|s| s.key == "probes.interval"), "{large:?}");
    }

    #[test]
    fn a_fresh_probe_across_the_world_fits_its_timeout() {
        for size in 4..=REGIONS_MAX {
            let world = World::new(size).unwrap();
            assert!(probe_timeout(&world) > 3 * world.rtt_max(), "{size} regions");
        }
    }
}
