//! Medians as a table for people and as JSON for machines.

use crate::jobs::{All, CONNECTIONS, Job, Plan, Results, Sample};
use crate::peers::{BODY_BYTES, Peer};
use crate::process::Cpus;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::fs;

pub struct Report {
    cpus: Cpus,
    plan: Plan,
    all: All,
    /// Of the machine, before its own load fades.
    load_average: String,
}

/// Of the rounds' figures.
#[derive(Debug, Clone, Copy)]
struct Median {
    median: f64,
    least: f64,
    most: f64,
}

fn median(values: impl Iterator<Item = Option<f64>>) -> Option<Median> {
    let mut values: Vec<f64> = values.flatten().collect();
    values.sort_unstable_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let half = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
    Some(Median { median, least, most })
}

/// A figure of one sample.
type Figure = fn(&Sample) -> Option<f64>;

const CPU_US: Figure = Sample::cpu_us;
const P50_US: Figure = |sample| sample.p50_us.map(f64::from);
const P99_US: Figure = |sample| sample.p99_us.map(f64::from);
const PER_SECOND: Figure = |sample| Some(sample.answers as f64 / sample.took.as_secs_f64());
const IDLE_KB: Figure = |sample| sample.idle_bytes.map(|bytes| bytes / 1024.0);
const BUSY: Figure = |sample| Some(sample.cpu.used_ns as f64 / 1e9 / sample.took.as_secs_f64());
const BUSY_PERCENT: Figure = |sample| BUSY(sample).map(|cpus| cpus * 100.0);
const WAITED_US: Figure =
    |sample| (sample.answers > 0).then(|| sample.cpu.waited_ns as f64 / 1e3 / sample.answers as f64);
const SENT_LATE: Figure = |sample| Some(sample.sent_late as f64 / sample.answers as f64 * 100.0);

/// The columns of the table: heading, job, figure, decimals, whether the ratio to nginx is told.
const COLUMNS: [(&str, Job, Figure, usize, bool); 10] = [
    ("CPU us/req", Job::Closed, CPU_US, 1, true),
    ("req/s", Job::Closed, PER_SECOND, 0, false),
    ("busy %", Job::Closed, BUSY_PERCENT, 0, false),
    ("CPU us at rate", Job::Fixed, CPU_US, 1, true),
    ("p50 us", Job::Fixed, P50_US, 0, false),
    ("p99 us", Job::Fixed, P99_US, 0, false),
    ("wait us", Job::Fixed, WAITED_US, 1, false),
    ("TLS CPU us", Job::Tls, CPU_US, 1, true),
    ("h2c CPU us", Job::H2c, CPU_US, 1, true),
    ("idle KB", Job::Idle, IDLE_KB, 1, false),
];

impl Report {
    pub fn new(cpus: &Cpus, plan: Plan, all: All) -> Self {
        let load_average = fs::read_to_string("/proc/loadavg").unwrap().trim().to_owned();
        Self { cpus: cpus.clone(), plan, all, load_average }
    }

    /// Whether any request failed; a peer that is missing is no failure.
    pub fn has_failures(&self) -> bool {
        self.all.peers.values().flat_map(|results| results.samples.values().flatten()).any(|s| s.failures > 0)
    }

    /// Over the undisturbed rounds, if there are any.
    fn figure(&self, peer: Peer, job: Job, figure: Figure) -> Option<Median> {
        let good = self.all.peers.get(&peer)?.samples.get(&job)?.iter().filter(|s| s.failures == 0);
        let calm = median(good.clone().filter(|s| !s.is_disturbed()).map(figure));
        calm.or_else(|| median(good.map(figure)))
    }

    /// Rounds in which neither HTTP/1.1 job was disturbed, and all.
    fn calm_rounds(results: &Results) -> (usize, usize) {
        let of = |job| results.samples.get(&job).map_or(&[][..], Vec::as_slice);
        let pairs = of(Job::Closed).iter().zip(of(Job::Fixed));
        (
            pairs.clone().filter(|(one, other)| !one.is_disturbed() && !other.is_disturbed()).count(),
            pairs.count(),
        )
    }

    /// One row a proxy.
    pub fn table(&self) -> String {
        let mut text = self.introduction();
        let mut lines =
            vec![["proxy"].into_iter().chain(COLUMNS.map(|column| column.0)).map(str::to_owned).collect()];
        for (peer, results) in &self.all.peers {
            if results.missing.is_none() {
                lines.push(self.line(*peer));
            }
        }
        text.push_str(&markdown(&lines));
        for (peer, results) in &self.all.peers {
            let (calm, rounds) = Self::calm_rounds(results);
            if calm < rounds {
                let name = peer.name();
                writeln!(text, "{name}: something else took the CPU in {} of {rounds} rounds", rounds - calm)
                    .unwrap();
            }
            let Results { missing, samples } = results;
            if let Some(why) = missing {
                writeln!(text, "{} was SKIPPED: {why}", peer.name()).unwrap();
            }
            for (job, sample) in
                samples.iter().flat_map(|(job, all)| all.iter().map(move |sample| (job, sample)))
            {
                if let Some(why) = &sample.failure {
                    writeln!(text, "{} FAILED {} in {}: {why}", peer.name(), sample.failures, job.name())
                        .unwrap();
                }
            }
        }
        text
    }

    fn introduction(&self) -> String {
        let Plan { rounds, rate, idle_connections, .. } = self.plan;
        let mut text = format!(
            "\nGET of {BODY_BYTES} bytes, {CONNECTIONS} connections, one worker each, medians of the undisturbed of {rounds} rounds; \
             (x) is the ratio to nginx.\nAt rate: {rate} requests a second. wait: ready to run but without a CPU, \
             a request. busy: of one CPU, at full load. Idle: of {idle_connections} connections.\n"
        );
        if let Some(p99) = median(self.all.direct.iter().map(P99_US))
            && let Some(p50) = median(self.all.direct.iter().map(P50_US))
        {
            let (p50, p99) = (p50.median, p99.median);
            writeln!(text, "The origin asked directly at that rate: p50 {p50:.0} us, p99 {p99:.0} us.")
                .unwrap();
        }
        match &self.cpus.peer {
            Some(cpu) => {
                writeln!(text, "The proxy ran on CPU {cpu}, origin and load on the others.\n").unwrap()
            }
            None => writeln!(text, "Nothing was pinned.\n").unwrap(),
        }
        text
    }

    fn line(&self, peer: Peer) -> Vec<String> {
        let mut cells = vec![peer.name().to_owned()];
        for (_, job, figure, decimals, ratio) in COLUMNS {
            let Some(own) = self.figure(peer, job, figure) else {
                cells.push("-".to_owned());
                continue;
            };
            let mut cell = format!("{:.*}", decimals, own.median);
            if ratio && let Some(nginx) = self.figure(Peer::Nginx, job, figure) {
                write!(cell, " ({:.2}x)", own.median / nginx.median).unwrap();
            }
            cells.push(cell);
        }
        cells
    }

    pub fn json(&self) -> String {
        let peers: Map<String, Value> = self
            .all
            .peers
            .iter()
            .map(|(peer, results)| (peer.name().to_owned(), self.peer(*peer, results)))
            .collect();
        let Plan { rounds, closed, fixed, rate, h2load_requests, idle_connections } = self.plan;
        let report = json!({
            "plan": {
                "rounds": rounds, "closed_loop_s": closed.as_secs_f64(), "fixed_rate_s": fixed.as_secs_f64(),
                "fixed_rate_per_s": rate, "h2load_requests": h2load_requests, "idle_connections": idle_connections,
                "connections": CONNECTIONS, "body_bytes": BODY_BYTES,
            },
            "machine": {
                "cpu": cpu_model(), "kernel": read("/proc/sys/kernel/osrelease"), "load_average": self.load_average,
                "proxy_on_cpus": self.cpus.peer, "rest_on_cpus": self.cpus.rest,
            },
            "origin_directly": { "p50_us": list(&self.all.direct, P50_US), "p99_us": list(&self.all.direct, P99_US) },
            "peers": peers,
        });
        format!("{report:#}\n")
    }

    fn peer(&self, peer: Peer, results: &Results) -> Value {
        let jobs: Map<String, Value> = Job::ALL
            .into_iter()
            .filter_map(|job| Some((job.name().to_owned(), self.job(peer, job, results.samples.get(&job)?))))
            .collect();
        json!({ "version": peer.version(), "skipped": results.missing, "jobs": jobs })
    }

    fn job(&self, peer: Peer, job: Job, samples: &[Sample]) -> Value {
        let figures: &[(&str, Figure)] = match job {
            Job::Idle => &[("kb_per_connection", IDLE_KB)],
            Job::Fixed => &[
                ("cpu_us_per_request", CPU_US),
                ("p50_us", P50_US),
                ("p99_us", P99_US),
                ("waited_us_per_request", WAITED_US),
                ("sent_late_percent", SENT_LATE),
            ],
            Job::Closed | Job::Tls | Job::H2c => {
                &[("cpu_us_per_request", CPU_US), ("requests_per_s", PER_SECOND), ("cpus_busy", BUSY)]
            }
        };
        let mut value = Map::new();
        for (name, figure) in figures {
            let of = self.figure(peer, job, *figure);
            let Some(Median { median, least, most }) = of else { continue };
            let rounds = list(samples, *figure);
            value.insert(
                (*name).to_owned(),
                json!({"median": median, "least": least, "most": most, "rounds": rounds}),
            );
        }
        let failures: Vec<&String> = samples.iter().filter_map(|sample| sample.failure.as_ref()).collect();
        let disturbed: Vec<bool> = samples.iter().map(Sample::is_disturbed).collect();
        value.insert("disturbed".to_owned(), json!(disturbed));
        value.insert("failures".to_owned(), json!(failures));
        Value::Object(value)
    }
}

fn list(samples: &[Sample], figure: Figure) -> Vec<Option<f64>> {
    samples.iter().map(figure).collect()
}

/// Columns as wide as their widest cell; it can be pasted into a document.
fn markdown(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|n| lines.iter().map(|line| line[n].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            write!(text, "| {cell:width$} ").unwrap();
        }
        text.push_str("|\n");
        if n == 0 {
            for width in &widths {
                write!(text, "|{}", "-".repeat(width + 2)).unwrap();
            }
            text.push_str("|\n");
        }
    }
    text
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn cpu_model() -> String {
    let text = read("/proc/cpuinfo");
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown", |(_, name)| name).to_owned()
}
