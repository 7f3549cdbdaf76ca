//! The whole planet on one machine: regions, users in them, a zone, distance
//! between all of them, and a script that breaks some of it.
//!
//! Everything that carries a request is real: edges are processes that run the
//! code of `proxima run`, DNS is asked by UDP, weights change by the AWS SDK.
//! What is made up is the distance ([`relay`]), the scale of time
//! ([`settings`]), and Route 53 ([`crate::zone_server`]). The result is judged
//! by what was seen ([`event`], [`ledger`], [`faults`]), not by what the script
//! ([`director`]) did.
//!
//! # Limits
//! DNS queries and calls of the zone server's API have no distance. Needs
//! Linux's loopback, which has all of `127.0.0.0/8`.

pub mod certificates;
pub mod children;
pub mod director;
pub mod edge_config;
pub mod event;
pub mod faults;
mod halting;
pub mod http;
pub mod ledger;
pub mod lookup;
pub mod observers;
pub mod relay;
pub mod report;
pub mod scene;
pub mod service;
pub mod settings;
pub mod stage;
pub mod timeline;
pub mod users;
pub mod world;

use children::Folder;
use director::Director;
use settings::{Pace, Setting, Wish, differing};
use stage::Stage;
use std::path::PathBuf;
use std::sync::Arc;
use timeline::Timeline;
use tokio::time::Instant;
use world::World;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    World(#[from] world::Error),
    #[error(transparent)]
    Folder(#[from] children::Error),
    #[error(transparent)]
    Stage(#[from] stage::Error),
    #[error(transparent)]
    Run(#[from] director::Error),
    #[error("the report has no JSON form")]
    Json(#[from] serde_json::Error),
    #[error("cannot write the report to {}", path.display())]
    Report {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Builds the world, plays the script (or holds the world up), and says whether every
/// expectation held. Dropping the future ends every child.
///
/// # Errors
/// The world could not be built or run; what was seen until then is lost.
pub async fn run(wish: Wish) -> Result<bool, Error> {
    let started = Instant::now();
    let mut timeline = Timeline::new(started);
    let world = Arc::new(World::new(wish.regions)?);
    let settings = differing(&world, wish.pace);
    introduce(&mut timeline, &world, &settings, &wish);
    let mut folder = Folder::new()?;
    let played = play(&wish, &world, &settings, &mut folder, timeline, started).await;
    if !matches!(played, Ok(true)) {
        folder.keep();
        eprintln!("proxima demo: logs and configuration files are kept in {}", folder.path().display());
    }
    played
}

async fn play(
    wish: &Wish,
    world: &Arc<World>,
    settings: &[Setting],
    folder: &mut Folder,
    mut timeline: Timeline,
    started: Instant,
) -> Result<bool, Error> {
    let stage = Stage::build(world, wish, settings, folder, &mut timeline).await?;
    let mut director = Director::new(Arc::clone(world), wish, stage, timeline, started);
    if wish.hold {
        director.hold().await?;
        return Ok(true);
    }
    director.play().await?;
    director.conclude().await;
    let (report, expectations) = {
        let seen = director.seen(settings);
        (seen.report(), seen.expectations())
    };
    director.timeline().plain("");
    for line in report::summary(&report, &expectations) {
        director.timeline().plain(&line);
    }
    if let Some(path) = &wish.report {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").map_err(|source| Error::Report { path: path.clone(), source })?;
    }
    let verdict = if report.ok { "every expectation held" } else { "an expectation was broken" };
    director.timeline().plain("");
    director.timeline().say(&format!("{verdict}; seed {}", wish.seed));
    director.strike().await?;
    Ok(report.ok)
}

fn introduce(timeline: &mut Timeline, world: &World, settings: &[Setting], wish: &Wish) {
    let names: Vec<&str> = world.regions().map(|region| world.name(region)).collect();
    timeline.plain(&format!("proxima demo: {} regions on loopback, seed {}", world.len(), wish.seed));
    timeline.plain(&format!("  {}", names.join(", ")));
    let why = match wish.pace {
        Pace::Minute => "since a planet has to fit into a minute",
        Pace::Defaults => "and no others; the deaths take about five minutes",
    };
    timeline.plain(&format!("\nSettings that differ from the defaults, {why}:"));
    for Setting { key, value, default, why } in settings {
        timeline.plain(&format!("  {key:<32} {value:>12}  (default {default}) {why}"));
    }
    timeline.plain("");
}
