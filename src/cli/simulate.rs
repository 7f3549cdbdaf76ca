//! `proxima simulate`: rehearse a scenario with a configuration, or many random worlds.

use crate::domain::hash::fnv1a;
use crate::simulate::{
    Cast, Cell, Coverage, Failure, Finished, Gap, Honest, NoWorld, Report, Scenario, Swept, Writes,
    aimed_seed, load, play, plot, shortest, sweep,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The scenario file; without one, `--seed` or `--seeds` make worlds and faults of their own.
    scenario: Option<PathBuf>,
    /// The configuration that is rehearsed.
    #[arg(long = "config", value_name = "FILE", default_value = "proxima.toml")]
    config: PathBuf,
    /// The seed of one run; else the scenario's.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Play so many seeds on all cores, and cut the first failure down.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "seeds")]
    first: u64,
    /// Write the report of one run as JSON.
    #[arg(long, value_name = "FILE.json", conflicts_with = "seeds")]
    report: Option<PathBuf>,
    /// Write a plot of the traffic of one run.
    #[arg(long, value_name = "FILE.svg", conflicts_with = "seeds")]
    svg: Option<PathBuf>,
    /// Print all that every edge decides in one run.
    #[arg(long, conflicts_with = "seeds")]
    log: bool,
    /// Keep what is done in this file, and go on from there.
    #[arg(long, value_name = "FILE", requires = "seeds")]
    resume: Option<PathBuf>,
    /// Fail unless each combination of fault, transition and refusal was seen so often.
    #[arg(long, value_name = "N", requires = "seeds")]
    coverage: Option<u32>,
    /// After the seeds play up to so many worlds for each combination that was seen too rarely, made to meet it.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "coverage")]
    aimed: u64,
}

/// What ends a command early: it was told already, or is to be told.
enum Stop {
    Told,
    Because(String),
}

impl From<NoWorld> for Stop {
    fn from(error: NoWorld) -> Self {
        match error {
            NoWorld::Config(problems) => match problems.to_stderr() {
                Ok(()) => Self::Told,
                Err(error) => Self::Because(error.to_string()),
            },
            NoWorld::Lacks(what) => Self::Because(what),
        }
    }
}

/// Exit code 0; 1 when an invariant, an expectation or the coverage did not hold; 2 for a bad file.
pub fn run(arguments: &Arguments) -> ExitCode {
    let done = match arguments.seeds {
        Some(seeds) => many(arguments, seeds),
        None => one(arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(stop) => {
            if let Stop::Because(why) = stop {
                eprintln!("proxima simulate: {why}");
            }
            ExitCode::from(2)
        }
    }
}

/// The scenario of a seed: from the file, or made of it.
fn scenario(arguments: &Arguments) -> Result<Option<Scenario>, Stop> {
    let Some(path) = &arguments.scenario else { return Ok(None) };
    Ok(Some(load(path, Cast::load(&arguments.config)?)?))
}

fn one(arguments: &Arguments) -> Result<bool, Stop> {
    let scenario = match (scenario(arguments)?, arguments.seed) {
        (Some(scenario), seed) => Scenario { seed: seed.unwrap_or(scenario.seed), ..scenario },
        (None, Some(seed)) => Scenario::generate(seed)?,
        (None, None) => {
            return Err(Stop::Because("name a scenario file, or say --seed or --seeds".to_owned()));
        }
    };
    let finished = play(&scenario, &Honest, Writes { log: arguments.log, record: true, coverage: false });
    out!("{}{scenario}", finished.log);
    told(arguments, &scenario, &finished)
}

fn told(arguments: &Arguments, scenario: &Scenario, finished: &Finished) -> Result<bool, Stop> {
    let Some(record) = &finished.record else { return Ok(finished.violation.is_none()) };
    let report = Report::new(scenario, finished, record);
    out!("\n{report}");
    if let Some(path) = &arguments.report {
        let json = serde_json::to_string_pretty(&report).map_err(|error| Stop::Because(error.to_string()))?;
        written(path, &json)?;
    }
    if let Some(path) = &arguments.svg {
        written(path, &plot(scenario, record))?;
    }
    Ok(report.held())
}

fn written(path: &Path, text: &str) -> Result<(), Stop> {
    fs::write(path, text).map_err(|error| Stop::Because(format!("{}: {error}", path.display())))
}

/// Seeds that are played before what was found is kept.
const CHUNK: u64 = 500;

/// What a sweep has found so far.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// Of the program and the scenario: another one begins anew.
    of: u64,
    first: u64,
    /// The next seed.
    next: u64,
    seen: BTreeMap<String, u64>,
    coverage: Coverage,
    /// Worlds that were aimed at a combination, by its place.
    #[serde(default)]
    aimed: BTreeMap<usize, u64>,
}

impl Progress {
    fn add(&mut self, seen: BTreeMap<String, u64>, coverage: &Coverage) {
        for (what, times) in seen {
            *self.seen.entry(what).or_insert(0) += times;
        }
        self.coverage.add(coverage);
    }
}

fn many(arguments: &Arguments, seeds: u64) -> Result<bool, Stop> {
    let base = scenario(arguments)?;
    let make = |seed: u64| match &base {
        Some(base) => Ok(Scenario { seed, ..base.clone() }),
        None => Scenario::generate(seed),
    };
    let end = arguments.first.saturating_add(seeds);
    let mut progress = begin(arguments)?;
    let bar = Bar::new(seeds, progress.next - arguments.first);
    while progress.next < end {
        let until = end.min(progress.next + CHUNK);
        let played = || bar.played();
        let Swept { seen, coverage, failure } =
            sweep(progress.next..until, &make, &Honest, &|_| true, &played)?;
        if let Some(failure) = failure {
            bar.end();
            outln!("{}", shown(arguments, &failure));
            return Ok(false);
        }
        progress.add(seen, &coverage);
        progress.next = until;
        keep(arguments, &progress)?;
    }
    bar.end();
    if let Some(least) = arguments.coverage.filter(|_| arguments.scenario.is_none())
        && let Some(failure) = fill(arguments, &mut progress, least)?
    {
        outln!("{}", shown(arguments, &failure));
        return Ok(false);
    }
    outln!("{seeds} seeds from {}: every invariant held", arguments.first);
    for (what, times) in &progress.seen {
        outln!("  {what:22}{times:12}");
    }
    Ok(arguments.coverage.is_none_or(|least| covered(&progress.coverage, least)))
}

/// Plays worlds that are aimed at what was seen too rarely; the first failure.
fn fill(arguments: &Arguments, progress: &mut Progress, least: u32) -> Result<Option<Failure>, Stop> {
    loop {
        let (gaps, possible) = progress.coverage.gaps(least);
        let tries = |gap: &Gap| progress.aimed.get(&gap.cell.place()).copied().unwrap_or(0);
        let mut open: Vec<(u64, Cell)> = gaps.iter().map(|gap| (tries(gap), gap.cell)).collect();
        open.retain(|(tries, _)| *tries < arguments.aimed);
        if open.is_empty() {
            return Ok(None);
        }
        eprintln!("aimed: {} of {possible} combinations are left, {} to be tried", gaps.len(), open.len());
        open.sort();
        open.truncate(CHUNK as usize);
        let make = |nth: u64| {
            let (tries, cell) = open[nth as usize];
            Scenario::generate(aimed_seed(cell, tries))
        };
        let Swept { seen, coverage, failure } =
            sweep(0..open.len() as u64, &make, &Honest, &|_| true, &|| {})?;
        if failure.is_some() {
            return Ok(failure);
        }
        progress.add(seen, &coverage);
        for (_, cell) in open {
            *progress.aimed.entry(cell.place()).or_insert(0) += 1;
        }
        keep(arguments, progress)?;
    }
}

/// Prints what was seen too rarely, and what should not be seen; whether that is nothing.
fn covered(coverage: &Coverage, least: u32) -> bool {
    let (gaps, possible) = coverage.gaps(least);
    outln!("transitions by refusal, whatever the fault:");
    for ((transition, refusal), hits) in coverage.pairs() {
        outln!("  {transition:22}{refusal:16}{hits:12}");
    }
    for gap in &gaps {
        let Gap { cell, hits } = gap;
        outln!("  {} x {} x {}: {hits} times", cell.fault(), cell.transition(), cell.refusal());
    }
    let wrong = coverage.contradictions();
    for (Gap { cell, hits }, why) in &wrong {
        let (fault, transition, refusal) = (cell.fault(), cell.transition(), cell.refusal());
        outln!("  {fault} x {transition} x {refusal}: {hits} times, which was taken for impossible: {why}");
    }
    outln!("{} of {possible} combinations were seen {least} times or more", possible - gaps.len());
    gaps.is_empty() && wrong.is_empty()
}

fn shown(arguments: &Arguments, failure: &Failure) -> String {
    let seed = failure.scenario.seed;
    let again = match &arguments.scenario {
        Some(path) => format!(
            "proxima simulate {} --config {} --seed {seed} --log",
            path.display(),
            arguments.config.display()
        ),
        None => format!("proxima simulate --seed {seed} --log"),
    };
    shortest(&failure.scenario, &failure.violation, &Honest, &again)
}

/// What an earlier call has done of the same sweep, if it may go on.
fn begin(arguments: &Arguments) -> Result<Progress, Stop> {
    let fresh = Progress {
        of: identity(arguments)?,
        first: arguments.first,
        next: arguments.first,
        ..Progress::default()
    };
    let Some(path) = &arguments.resume else { return Ok(fresh) };
    let kept = match fs::read_to_string(path) {
        Ok(text) => text,
        // Whether it can be written is known before anything is played.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return keep(arguments, &fresh).map(|()| fresh);
        }
        Err(error) => return Err(Stop::Because(format!("{}: {error}", path.display()))),
    };
    match serde_json::from_str::<Progress>(&kept) {
        Ok(kept) if (kept.of, kept.first) == (fresh.of, fresh.first) => {
            eprintln!("goes on with seed {}", kept.next);
            Ok(kept)
        }
        Ok(_) => {
            // Hours of playing may be in it.
            let aside = path.with_extension("old");
            fs::rename(path, &aside)
                .map_err(|error| Stop::Because(format!("{}: {error}", aside.display())))?;
            eprintln!(
                "{}: of another build or scenario; begins anew, and keeps it as {}",
                path.display(),
                aside.display()
            );
            Ok(fresh)
        }
        Err(error) => Err(Stop::Because(format!("{}: {error}; remove it to begin anew", path.display()))),
    }
}

/// Of this very program and what it was asked to play.
fn identity(arguments: &Arguments) -> Result<u64, Stop> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| Stop::Because(format!("{path}: {error}"))
    };
    if arguments.resume.is_none() {
        return Ok(0);
    }
    let program = std::env::current_exe().map_err(failed(Path::new("the program")))?;
    let metadata = fs::metadata(&program).map_err(failed(&program))?;
    let modified = metadata.modified().map_err(failed(&program))?;
    let mut text = format!("{modified:?} {}", metadata.len());
    for path in arguments.scenario.iter().chain(arguments.scenario.as_ref().map(|_| &arguments.config)) {
        text += &fs::read_to_string(path).map_err(failed(path))?;
    }
    Ok(fnv1a(&text))
}

/// Written whole: a run that is ended in the middle leaves the last one.
fn keep(arguments: &Arguments, progress: &Progress) -> Result<(), Stop> {
    let Some(path) = &arguments.resume else { return Ok(()) };
    let json = serde_json::to_string(progress).map_err(|error| Stop::Because(error.to_string()))?;
    let beside = path.with_extension("part");
    written(&beside, &json)?;
    fs::rename(&beside, path).map_err(|error| Stop::Because(format!("{}: {error}", path.display())))
}

/// How far a sweep is, on standard error: a bar on a terminal, else a line for each twentieth.
struct Bar {
    total: u64,
    played: AtomicU64,
    terminal: bool,
}

const BAR: usize = 40;

impl Bar {
    fn new(total: u64, played: u64) -> Self {
        Self { total: total.max(1), played: AtomicU64::new(played), terminal: io::stderr().is_terminal() }
    }

    fn played(&self) {
        let played = self.played.fetch_add(1, Ordering::Relaxed) + 1;
        let each = if self.terminal { (self.total / 1000).max(1) } else { (self.total / 20).max(1) };
        if played.is_multiple_of(each) || played == self.total {
            self.show(played);
        }
    }

    fn show(&self, played: u64) {
        let percent = played * 100 / self.total;
        if self.terminal {
            let full = (played as usize * BAR / self.total as usize).min(BAR);
            let (full, empty) = ("#".repeat(full), ".".repeat(BAR - full));
            eprint!("\r[{full}{empty}] {percent:3}% {played} of {} seeds", self.total);
        } else {
            eprintln!("{percent:3}% {played} of {} seeds", self.total);
        }
    }

    fn end(&self) {
        if self.terminal {
            eprintln!();
        }
    }
}
