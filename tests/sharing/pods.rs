//! Five pods of region `a`, and the regions `b` and `c`, in virtual time: real cores, elections and boards,
//! with a network between them that this file makes up.

use crate::edge::{pod, policy, region, web};
use proxima::domain::fleet::{
    Fleet, Input, Lease, Output, Probe, ProbeFailure, RegionAnswer, Shared, Target,
};
use proxima::domain::health::State;
use proxima::domain::latency::Rtt;
use proxima::domain::name::RegionId;
use proxima::domain::snapshot::{ProbePace, Snapshot};
use proxima::domain::time::Time;
use proxima::domain::view::View;
use proxima::lease::claim::Ruling;
use proxima::lease::{Election, Said, Standing};
use proxima::peer::Board;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// As `probes.interval`, `probes.sparse_interval` and `failover.view_fresh` are by default.
pub const INTERVAL: Duration = Duration::from_secs(1);
pub const SPARSE: Duration = Duration::from_secs(30);
pub const FRESH: Duration = Duration::from_secs(5);
/// How finely the world moves.
const STEP: Duration = Duration::from_millis(50);
const PEERS: [&str; 2] = ["b", "c"];

pub struct Pod {
    fleet: Fleet,
    election: Election,
    board: Board,
    view: Arc<View>,
    pub snapshot: Option<Arc<Snapshot>>,
    /// When it probes each region, and asks its siblings, next.
    due: BTreeMap<RegionId, Time>,
    ask_at: Time,
    held: Option<bool>,
}

pub struct World {
    pub pods: BTreeMap<u8, Pod>,
    pub now: Time,
    /// Regions that answer nobody.
    pub dead: BTreeSet<RegionId>,
    /// A pod that does not reach a region.
    pub cut: BTreeSet<(u8, RegionId)>,
    /// Probes of other regions since it was last set to zero.
    pub probes: usize,
    random: u64,
    listed: Vec<SocketAddr>,
}

fn at(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 8443))
}

impl World {
    pub fn of(pods: u8) -> Self {
        let mut world = Self {
            pods: BTreeMap::new(),
            now: Time::from_millis(3_600_000),
            dead: BTreeSet::new(),
            cut: BTreeSet::new(),
            probes: 0,
            random: 1,
            listed: (1..=pods).map(at).collect(),
        };
        (1..=pods).for_each(|n| world.start(n));
        world
    }

    fn start(&mut self, n: u8) {
        let boot = 1000 + u64::from(n);
        let policy = policy();
        let view = Arc::new(View::first(region("a"), boot, policy.agreement_hash()));
        let mut one = Pod {
            fleet: Fleet::new(Arc::new(policy), boot),
            election: Election::new(boot, FRESH),
            board: Board::default(),
            view,
            snapshot: None,
            due: PEERS.map(|name| (region(name), self.now)).into(),
            ask_at: self.now,
            held: None,
        };
        one.tell(Input::Lease(Lease { held: false }), self.now);
        for (n, name) in [(11, "b"), (12, "c")] {
            let (target, addresses) = (Target::Peer(region(name)), vec![pod(n)]);
            one.tell(Input::Resolved { target, addresses }, self.now);
        }
        self.pods.insert(n, one);
    }

    pub fn kill(&mut self, n: u8) {
        self.pods.remove(&n);
    }

    pub fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.now = self.now + STEP;
            for n in self.pods.keys().copied().collect::<Vec<_>>() {
                self.probe(n);
                self.elect(n);
                let now = self.now;
                self.pods.get_mut(&n).unwrap().tell(Input::Tick, now);
            }
        }
    }

    /// Between 0.9 and 1.1 of a span.
    fn jittered(&mut self, span: Duration) -> Duration {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        span.mul_f64(0.9 + 0.2 * ((self.random >> 33) % 1000) as f64 / 1000.0)
    }

    fn probe(&mut self, n: u8) {
        for (index, name) in PEERS.iter().enumerate() {
            let of = region(name);
            let pace = self.pods[&n].pace(&of);
            // As the prober does when it is told to hurry.
            let late = self.pods[&n].due[&of].since(self.now) > INTERVAL * 2;
            let due = self.pods[&n].due[&of] <= self.now || pace == ProbePace::Full && late;
            if !due {
                continue;
            }
            let pause = self.jittered(if pace == ProbePace::Full { INTERVAL } else { SPARSE });
            self.probes += 1;
            let result = if self.dead.contains(&of) || self.cut.contains(&(n, of.clone())) {
                Err(ProbeFailure::Timeout)
            } else {
                let rtt = Some(Rtt::millis(20 + 60 * index as u64));
                Ok(RegionAnswer { rtt, view: Arc::new(self.view(&of)) })
            };
            let now = self.now;
            let pod = self.pods.get_mut(&n).unwrap();
            pod.due.insert(of.clone(), now + pause);
            let told = result.as_ref().map(|answer| (answer.rtt, &answer.view)).map_err(|failure| *failure);
            pod.board.probed(&of, told, now);
            pod.tell(Input::Probed(Probe::Region { region: of, result }), now);
        }
    }

    /// What a region says of itself now.
    fn view(&self, of: &RegionId) -> View {
        serde_json::from_value(serde_json::json!({
            "region": of, "boot": 7, "sequence": self.now.as_nanos() / 250_000_000,
            "policy": policy().agreement_hash(), "services": {"web": {"word": "up"}}, "rtts": {},
            "votes": {"www.example.com": {"a": "up", "b": "up", "c": "up"}},
            "entered_rps": 0.0, "headroom_rps": null,
        }))
        .unwrap()
    }

    fn elect(&mut self, n: u8) {
        if self.pods[&n].ask_at > self.now {
            return;
        }
        let (now, pause, listed) = (self.now, self.jittered(INTERVAL), self.listed.clone());
        let pod = self.pods.get_mut(&n).unwrap();
        pod.ask_at = now + pause;
        pod.election.resolved(&listed);
        pod.election.begin(now);
        while let Some(to) = self.pods.get_mut(&n).unwrap().election.ask() {
            let other = self.pods.iter().find(|(other, _)| at(**other) == to).map(|(_, other)| other);
            // Over the wire, as bytes.
            let word = other.map(|other| {
                let word = serde_json::to_vec(&other.board.word(&other.view, now)).unwrap();
                serde_json::from_slice::<proxima::lease::SiblingWord>(&word).unwrap()
            });
            let said = word.as_ref().map(Said::from);
            let pod = self.pods.get_mut(&n).unwrap();
            pod.election.answered(to, said, now);
            pod.stand(now);
            let shared = word.and_then(|word| word.shared);
            if let Standing::Following(holder) = pod.election.standing()
                && holder.address == to
                && let Some(shared) = shared
            {
                pod.tell(Input::Shared(Box::new(Shared { transit_us: 1_000, ..shared })), now);
            }
        }
        self.pods.get_mut(&n).unwrap().stand(now);
    }

    pub fn holders(&self) -> Vec<u8> {
        let holds = |pod: &&Pod| pod.election.standing() == Standing::Holding;
        self.pods.iter().filter(|(_, pod)| holds(pod)).map(|(n, _)| *n).collect()
    }

    /// Pods that probe the region at this pace.
    pub fn at_pace(&self, of: &str, pace: ProbePace) -> Vec<u8> {
        self.pods.iter().filter(|(_, pod)| pod.pace(&region(of)) == pace).map(|(n, _)| *n).collect()
    }

    pub fn states(&self, of: &str) -> BTreeMap<u8, State> {
        let state = |pod: &Pod| pod.snapshot.as_ref().unwrap().services[&web()].states[&region(of)];
        self.pods.iter().map(|(n, pod)| (*n, state(pod))).collect()
    }
}

impl Pod {
    fn tell(&mut self, input: Input, now: Time) {
        for output in self.fleet.handle(input, now) {
            match output {
                Output::Publish(snapshot) => self.snapshot = Some(snapshot),
                Output::View(view) => self.view = view,
                _ => {}
            }
        }
    }

    fn stand(&mut self, now: Time) {
        let standing = self.election.standing();
        self.board.stand(standing, Ruling::Elect, now);
        let held = standing == Standing::Holding;
        if self.held.replace(held) != Some(held) {
            self.tell(Input::Lease(Lease { held }), now);
        }
    }

    pub fn pace(&self, of: &RegionId) -> ProbePace {
        self.snapshot.as_ref().map_or(ProbePace::Full, |snapshot| snapshot.regions[of].pace)
    }

    pub fn rtt(&self, of: &str) -> Option<Duration> {
        self.snapshot.as_ref().unwrap().regions[&region(of)].rtt.map(Rtt::duration)
    }

    pub fn view(&self) -> &View {
        &self.view
    }
}
