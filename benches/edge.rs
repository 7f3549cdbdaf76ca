//! Proxima beside nginx, haproxy and a bare Pingora proxy: `make bench`.
//!
//! Each runs with one worker, does the same work (see `peers`), and is measured by its own
//! process accounting, in interleaved rounds; figures are medians. A table goes to the
//! terminal, everything to `target/bench/report.json`. `--quick` is a smoke test of a minute.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
#![allow(clippy::let_underscore_must_use)] // A process that has ended already is as good as ended.

use jobs::{Plan, measure};
use peers::{Peer, Peers};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[path = "edge/accounting.rs"]
mod accounting;
#[path = "edge/bare.rs"]
mod bare;
#[path = "edge/jobs.rs"]
mod jobs;
#[path = "edge/load.rs"]
mod load;
#[path = "edge/peers.rs"]
mod peers;
#[path = "edge/process.rs"]
mod process;
#[path = "edge/report.rs"]
mod report;

const USAGE: &str = "usage: make bench ARGS='[--quick] [--rounds N] [--only PEER,PEER] [--hold PEER]'
  --quick    a minute instead of five
  --rounds   rounds of each job
  --only     of nginx, haproxy, pingora, proxima
  --hold     start one peer and its origin, tell their addresses and wait: for perf and the like";

struct Arguments {
    plan: Plan,
    only: Vec<Peer>,
    hold: Option<Peer>,
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("--bare-pingora", rest)) = given.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        bare::run(rest);
    }
    let arguments = match parse(&given) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            std::process::exit(2);
        }
    };
    let folder = folder();
    let cpus = process::divide_cpus();
    let mut peers = Peers::start_origin(&folder, cpus.clone());
    if let Some(peer) = arguments.hold {
        let held = peers.start(peer).unwrap_or_else(|why| panic!("{}: {why}", peer.name()));
        println!("{} is {} at http://{}; Enter ends it", peer.name(), held.process.id(), held.plain);
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let results = measure(&mut peers, &arguments.only, arguments.plan);
    let report = report::Report::new(&cpus, arguments.plan, results);
    println!("{}", report.table());
    let file = folder.join("report.json");
    fs::write(&file, report.json()).unwrap();
    println!("everything: {}", file.display());
    if report.has_failures() {
        std::process::exit(1);
    }
}

/// `None`: called by `cargo test --benches`, which only wants to know that it starts.
fn parse(given: &[String]) -> Result<Option<Arguments>, String> {
    let mut arguments = Arguments { plan: Plan::full(), only: Peer::ALL.to_vec(), hold: None };
    let mut given = given.iter().map(String::as_str);
    let mut bench = false;
    while let Some(word) = given.next() {
        let mut value = || given.next().ok_or(format!("{word} wants a value"));
        match word {
            "--bench" => bench = true,
            "--quick" => arguments.plan = Plan::quick(),
            "--rounds" => arguments.plan.rounds = value()?.parse().map_err(|_| "--rounds wants a number")?,
            "--only" => arguments.only = value()?.split(',').map(Peer::parse).collect::<Result<_, _>>()?,
            "--hold" => arguments.hold = Some(Peer::parse(value()?)?),
            "--help" => return Err("Proxima beside its peers".to_owned()),
            other => return Err(format!("what is {other}?")),
        }
    }
    if arguments.plan.rounds == 0 {
        return Err("no rounds, no figures".to_owned());
    }
    Ok(bench.then_some(arguments))
}

/// `target/bench`, where the configurations of all processes stay for whoever wants to see them.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// How long anything may take to start or end.
const PATIENCE: Duration = Duration::from_secs(20);
