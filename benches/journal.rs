//! What the journal of a busy edge of a large fleet weighs, and what it costs the control task.
//!
//! `cargo bench --bench journal`. The load: 33 regions, 100 services, one probe a second of each region
//! and of 400 endpoints, and 30,000 requests a second over them, for a minute of virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::panic)]

use proxima::clock::Clock;
use proxima::config::{ConfigText, Journal as Kept};
use proxima::domain::fleet::{
    EndpointAnswer, Fleet, Input, Outcome, OutcomeResult, OutcomeRun, Probe, RegionAnswer, Target,
    add_outcome,
};
use proxima::domain::health::Word;
use proxima::domain::latency::Rtt;
use proxima::domain::name::{RegionId, ServiceId};
use proxima::domain::time::Time;
use proxima::domain::view::{ServiceView, View};
use proxima::journal::{Journal, Process, Replay, Span, Texts, files};
use proxima::metrics::journal::{JournalMetrics, JournalResult};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const REGIONS: u64 = 33;
const SERVICES: u64 = 100;
const ENDPOINTS: u64 = 4;
const REQUESTS: u64 = 30_000;
const SECONDS: u64 = 60;
/// Turns of outcomes a second: `control` waits 10 ms after each.
const BATCHES: u64 = 100;

fn text() -> ConfigText {
    let mut text = String::from(
        "[edge]\nregion = \"r0\"\n[[listeners]]\nname = \"http\"\naddress = \"127.0.0.1:0\"\n\
         [peer]\naddress = \"127.0.0.1:0\"\ncertificate = \"c\"\nkey = \"k\"\nca = \"a\"\n",
    );
    for n in 0..REGIONS {
        write!(text, "[regions.r{n}]\npeer = \"r{n}.example.net:8443\"\naddresses = [\"192.0.2.{n}\"]\n")
            .unwrap();
    }
    for n in 0..SERVICES {
        write!(text, "[services.s{n}]\nendpoints.r0 = [\"s{n}.internal:80\"]\n").unwrap();
        write!(text, "[[routes]]\nname = \"s{n}\"\npath_prefix = \"/s{n}\"\nservice = \"s{n}\"\n").unwrap();
    }
    ConfigText { file: "edge.toml".to_owned(), text: text.into(), region: None, zone: None }
}

fn service(n: u64) -> ServiceId {
    ServiceId::parse(&format!("s{n}")).unwrap()
}

fn endpoint(service: u64, n: u64) -> SocketAddr {
    ([10, 0, service as u8, n as u8], 80).into()
}

/// A small generator: the load must be the same in every run. Source: SplitMix64.
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

struct Scene {
    journal: Journal,
    fleet: Fleet,
    now: Time,
    /// What taking inputs down and handing them over took, and how many there were.
    cost: (Duration, u32),
}

impl Scene {
    fn tell(&mut self, input: Input) {
        let begin = Instant::now();
        let taken = self.journal.take(&input);
        let took = begin.elapsed();
        let outputs = self.fleet.handle(input, self.now);
        let begin = Instant::now();
        self.journal.turned(self.now, taken, &outputs);
        self.journal.keep_up(&self.fleet, self.now);
        self.cost = (self.cost.0 + took + begin.elapsed(), self.cost.1 + 1);
    }

    fn second(&mut self, second: u64, seed: &mut u64) {
        for n in 1..REGIONS {
            let region = RegionId::parse(&format!("r{n}")).unwrap();
            let mut view = View::first(region.clone(), n, self.fleet.policy().agreement_hash());
            view.sequence = second * 4;
            view.services =
                Arc::new((0..SERVICES).map(|s| (service(s), ServiceView::of(Word::Up))).collect());
            let rtt = |seed: &mut u64| Rtt::new(Duration::from_micros(80_000 + draw(seed) % 3_000));
            let rtts = (0..REGIONS).map(|r| (RegionId::parse(&format!("r{r}")).unwrap(), rtt(seed)));
            view.rtts = Arc::new(rtts.collect());
            view.entered_rps = (draw(seed) % 1_000_000) as f64 / 37.0;
            let answer = RegionAnswer { rtt: Some(rtt(seed)), view: Arc::new(view) };
            self.tell(Input::Probed(Probe::Region { region, result: Ok(answer) }));
        }
        for s in 0..SERVICES {
            for n in 0..ENDPOINTS {
                let (service, address, result) = (service(s), endpoint(s, n), Ok(EndpointAnswer::Well));
                self.tell(Input::Probed(Probe::Endpoint { service, address, result }));
            }
        }
        for _ in 0..BATCHES {
            let mut runs = Vec::new();
            for _ in 0..REQUESTS / BATCHES {
                let (s, n) = (draw(seed) % SERVICES, draw(seed) % ENDPOINTS);
                let bad = draw(seed).is_multiple_of(1_000);
                let result = if bad { OutcomeResult::Failure } else { OutcomeResult::Success };
                let region = self.fleet.policy().own.clone();
                let outcome = Outcome { service: service(s), region, address: endpoint(s, n), result };
                add_outcome(
                    &mut runs,
                    OutcomeRun::one(outcome, Duration::from_nanos(draw(seed) % 40_000_000)),
                );
            }
            self.tell(Input::Outcomes(runs));
            self.now = self.now + Duration::from_millis(1_000 / BATCHES);
        }
    }
}

fn main() {
    let text = text();
    let policy = text.policy().unwrap_or_else(|problems| panic!("{problems}"));
    let folder = std::env::temp_dir().join(format!("proxima-bench-journal-{}", std::process::id()));
    let metrics = JournalMetrics::register(&prometheus::Registry::new()).unwrap();
    let texts = Texts::default();
    texts.tell(&policy, &text);
    let (clock, own) = (Clock::start(), policy.own.clone());
    let process = Process { clock, own, boot: 1, texts, metrics: metrics.clone() };
    let kept = Kept { path: folder.clone(), max_bytes: 8 << 30, file_bytes: 64 << 20 };
    let (mut journal, writer) = Journal::start(&kept, process).unwrap();
    let now = clock.now();
    journal.begin(&policy, now);
    let mut scene = Scene { journal, fleet: Fleet::new(policy, 1), now, cost: (Duration::ZERO, 0) };
    for s in 0..SERVICES {
        let addresses = (0..ENDPOINTS).map(|n| endpoint(s, n)).collect();
        scene.tell(Input::Resolved { target: Target::Service(service(s)), addresses });
    }
    let mut seed = 7;
    for second in 1..=SECONDS {
        scene.second(second, &mut seed);
        // The writer has a second for that; here it gets less.
        std::thread::sleep(Duration::from_millis(250));
    }
    let Scene { journal, cost, .. } = scene;
    drop(journal);
    writer.join(Duration::from_secs(60));
    let all = files(&folder).unwrap();
    let bytes: u64 = all.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    println!("{REGIONS} regions, {SERVICES} services, {REQUESTS} requests/s, {SECONDS} s:");
    println!(
        "  {:.1} kB/s on the disk, {} turns/s",
        bytes as f64 / 1e3 / SECONDS as f64,
        u64::from(cost.1) / SECONDS
    );
    println!("  {:.1} us a turn for the control task", cost.0.as_secs_f64() * 1e6 / f64::from(cost.1));
    println!("  {} turns dropped", metrics.count(JournalResult::Dropped));
    let begin = Instant::now();
    let replay = Replay::run(&all, Span::default(), &mut |_| {}).unwrap();
    println!("  {} turns replayed in {:.1} s", replay.turns, begin.elapsed().as_secs_f64());
    std::fs::remove_dir_all(&folder).unwrap();
}
