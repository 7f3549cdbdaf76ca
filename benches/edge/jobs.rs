//! The jobs, and the rounds in which every proxy does them in turn.

use crate::accounting::{Cpu, cpu, pss};
use crate::load::{self, Client, Seen};
use crate::peers::{Peer, Peers, Running};
use crate::process::find;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Client connections of HTTP/1.1 rows.
pub const CONNECTIONS: u32 = 64;
/// The same of h2load's rows, and the streams on each of HTTP/2.
const H2LOAD_CONNECTIONS: &str = "16";
const STREAMS: &str = "8";
const H2LOAD_WARM_UP: u32 = 1_000;
/// Memory is looked at when a process has come to rest.
const REST: Duration = Duration::from_millis(500);
/// Before a job is measured: connections to the origin, caches, branch predictors.
const WARM_UP: Duration = Duration::from_millis(300);

/// Of the time of a job, that a proxy may be kept waiting for its CPU. Alone on it, it waits for
/// one part in a thousand; beside a compiler for a third.
const WAIT_SHARE_MAX: f64 = 0.03;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    pub closed: Duration,
    pub fixed: Duration,
    /// Requests a second at a fixed rate: far below what any of the peers can do.
    pub rate: u32,
    pub h2load_requests: u32,
    pub idle_connections: u64,
}

impl Plan {
    pub const fn full() -> Self {
        Self {
            rounds: 5,
            closed: Duration::from_secs(3),
            fixed: Duration::from_secs(4),
            rate: 2_000,
            h2load_requests: 30_000,
            idle_connections: 2_000,
        }
    }

    pub const fn quick() -> Self {
        Self {
            rounds: 2,
            closed: Duration::from_secs(1),
            fixed: Duration::from_secs(2),
            h2load_requests: 10_000,
            ..Self::full()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// Small GETs over HTTP/1.1 as fast as they are answered.
    Closed,
    /// The same at a fixed rate.
    Fixed,
    /// As `Closed`, over TLS.
    Tls,
    /// As `Closed`, HTTP/2 by prior knowledge.
    H2c,
    /// Connections that have carried one request and wait.
    Idle,
}

impl Job {
    pub const ALL: [Self; 5] = [Self::Closed, Self::Fixed, Self::Tls, Self::H2c, Self::Idle];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "http1_closed_loop",
            Self::Fixed => "http1_fixed_rate",
            Self::Tls => "https1_closed_loop",
            Self::H2c => "h2c_closed_loop",
            Self::Idle => "idle_connections",
        }
    }
}

/// One job, done once.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    pub answers: u64,
    pub failures: u64,
    pub failure: Option<String>,
    pub took: Duration,
    pub cpu: Cpu,
    /// At a fixed rate: latencies, and requests that the generator sent late.
    pub p50_us: Option<u32>,
    pub p99_us: Option<u32>,
    pub sent_late: u64,
    /// Of `Idle`: memory that one connection adds.
    pub idle_bytes: Option<f64>,
}

impl Sample {
    pub fn cpu_us(&self) -> Option<f64> {
        (self.answers > 0 && self.cpu.used_ns > 0)
            .then(|| self.cpu.used_ns as f64 / 1e3 / self.answers as f64)
    }

    /// Something else took the CPU away: latencies then tell of that, and unsaturated work costs
    /// more (more wake-ups, colder caches).
    pub fn is_disturbed(&self) -> bool {
        self.cpu.waited_ns as f64 / 1e9 > WAIT_SHARE_MAX * self.took.as_secs_f64()
    }

    fn of(seen: Seen, took: Duration, cpu: Cpu) -> Self {
        let rank = |share: f64| {
            let last = seen.took_us.len().checked_sub(1)?;
            Some(seen.took_us[(last as f64 * share) as usize])
        };
        Self {
            p50_us: rank(0.5),
            p99_us: rank(0.99),
            answers: seen.answers,
            failures: seen.failures,
            failure: seen.failure,
            sent_late: seen.sent_late,
            took,
            cpu,
            idle_bytes: None,
        }
    }

    fn failed(why: String) -> Self {
        Self { failures: 1, failure: Some(why), ..Self::default() }
    }
}

/// All rounds of one proxy; what it couldn't do is in `missing`, with the reason.
#[derive(Debug, Default)]
pub struct Results {
    pub samples: BTreeMap<Job, Vec<Sample>>,
    pub missing: Option<String>,
}

/// What was measured.
pub struct All {
    pub peers: BTreeMap<Peer, Results>,
    /// The origin asked directly, at the same fixed rate: the noise that all figures share.
    pub direct: Vec<Sample>,
}

/// Every proxy does every job in every round; each round begins with another proxy.
pub fn measure(peers: &mut Peers, only: &[Peer], plan: Plan) -> All {
    let h2load = find("h2load");
    if h2load.is_none() {
        eprintln!("bench: no h2load here: no TLS and HTTP/2 rows; run: scripts/setup.sh bench");
    }
    let begin = Instant::now();
    let mut all = All { peers: BTreeMap::new(), direct: Vec::new() };
    for round in 0..plan.rounds {
        let seen = load::fixed(peers.origin, CONNECTIONS, plan.rate, plan.fixed / 2);
        all.direct.push(Sample::of(seen, plan.fixed / 2, Cpu::default()));
        for n in 0..only.len() {
            let peer = only[(n + round) % only.len()];
            let results = all.peers.entry(peer).or_default();
            if results.missing.is_some() {
                continue;
            }
            eprint!("round {} of {}: {:8} ", round + 1, plan.rounds, peer.name());
            match peers.start(peer) {
                Ok(running) => turn(&running, h2load.as_deref(), plan, results),
                Err(why) => {
                    eprintln!("SKIPPED: {why}");
                    results.missing = Some(why);
                    continue;
                }
            }
            eprintln!("({} s so far)", begin.elapsed().as_secs());
        }
    }
    all
}

/// All jobs of one proxy in one round.
fn turn(running: &Running, h2load: Option<&str>, plan: Plan, results: &mut Results) {
    for job in [Job::Idle, Job::Closed, Job::Fixed, Job::Tls, Job::H2c] {
        let sample = match (job, h2load) {
            (Job::Idle, _) => idle(running, plan.idle_connections),
            (Job::Closed, _) => http1(running, |at| load::closed(at, CONNECTIONS, plan.closed)),
            (Job::Fixed, _) => http1(running, |at| load::fixed(at, CONNECTIONS, plan.rate, plan.fixed)),
            (Job::Tls | Job::H2c, None) => continue,
            (Job::Tls | Job::H2c, Some(program)) => with_h2load(program, running, job, plan.h2load_requests),
        };
        match (&sample.failure, sample.idle_bytes, sample.cpu_us()) {
            (Some(why), _, _) => eprint!(" {}: FAILED {}: {why} ", job.name(), sample.failures),
            (None, Some(bytes), _) => eprint!(" {:.1} KB", bytes / 1024.0),
            (None, None, Some(us)) => eprint!(" {us:.1}"),
            (None, None, None) => {}
        }
        results.samples.entry(job).or_default().push(sample);
    }
    eprint!(" us ");
}

fn http1(running: &Running, load: impl FnOnce(SocketAddr) -> Seen) -> Sample {
    let warm = load::closed(running.plain, CONNECTIONS, WARM_UP);
    if let Some(failure) = warm.failure {
        return Sample::failed(failure);
    }
    measured(running, || load(running.plain))
}

/// CPU and time of the proxy around a load.
fn measured(running: &Running, load: impl FnOnce() -> Seen) -> Sample {
    let (begin, before) = (Instant::now(), cpu(running.process.id()));
    let seen = load();
    let used = cpu(running.process.id()) - before;
    Sample::of(seen, begin.elapsed(), used)
}

/// Connections one after the other, each with one request, all kept.
fn idle(running: &Running, connections: u64) -> Sample {
    let open = || {
        let mut client = Client::connect(running.plain)?;
        client.get()?;
        Ok::<_, std::io::Error>(client)
    };
    // What is paid once was paid by the requests that told that it serves.
    let mut kept = Vec::new();
    sleep(REST);
    let before = pss(running.process.id());
    for _ in 0..connections {
        match open() {
            Ok(client) => kept.push(client),
            Err(error) => return Sample::failed(error.to_string()),
        }
    }
    sleep(REST);
    let grown = pss(running.process.id()).saturating_sub(before);
    // They must be there still: a proxy that closes idle connections needs no memory for them.
    if let Some(error) = kept.iter_mut().find_map(|client| client.get().err()) {
        return Sample::failed(format!("an idle connection was closed: {error}"));
    }
    Sample { answers: connections, idle_bytes: Some(grown as f64 / connections as f64), ..Sample::default() }
}

fn with_h2load(program: &str, running: &Running, job: Job, requests: u32) -> Sample {
    let (scheme, address, options): (_, _, &[&str]) = match job {
        Job::Tls => ("https", running.tls, &["--h1"]),
        _ => ("http", running.h2c, &["-m", STREAMS]),
    };
    let url = format!("{scheme}://www.example.com/catalogue/items?page=2");
    let run = |requests| h2load(program, address, &url, options, requests);
    if let Some(failure) = run(H2LOAD_WARM_UP).0.failure {
        return Sample::failed(failure);
    }
    // Its own clock tells the time without its start and end.
    let mut inside = None;
    let sample = measured(running, || {
        let (seen, took) = run(requests);
        inside = took;
        seen
    });
    Sample { took: inside.unwrap_or(sample.took), ..sample }
}

/// What h2load saw, and how long it took by its own clock.
fn h2load(
    program: &str,
    address: SocketAddr,
    url: &str,
    options: &[&str],
    requests: u32,
) -> (Seen, Option<Duration>) {
    let output = Command::new(program)
        .args(["-t", "1", "-c", H2LOAD_CONNECTIONS, "-n", &requests.to_string()])
        .arg(format!("--connect-to={address}"))
        .args(options)
        .arg(url)
        .output();
    let text = match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => error.to_string(),
    };
    let after = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix));
    let answers =
        after("status codes: ").and_then(|rest| rest.split_once(" 2xx")?.0.parse().ok()).unwrap_or(0);
    let took = after("finished in ").and_then(|rest| duration(rest.split_once(',')?.0));
    let failures = u64::from(requests).saturating_sub(answers);
    let failure = (failures > 0).then(|| after("requests: ").unwrap_or("h2load did not run").to_owned());
    (Seen { answers, failures, failure, ..Seen::default() }, took)
}

/// As h2load writes it: 1.23s, 12.34ms.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let seconds = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        _ => return None,
    };
    Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * seconds))
}
