//! The truth: what is really up, reachable and told, whatever the edges believe.

use super::cast::Cast;
use super::faults::{Fault, Scenario};
use crate::domain::time::Time;
use std::time::Duration;

/// Since when something is bad, and when it last was.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trouble {
    /// Bad without a break since then; `None`: now well.
    pub since: Option<Time>,
    /// Bad now.
    pub now: bool,
    last: Option<Time>,
}

impl Trouble {
    pub(super) fn set(&mut self, bad: bool, now: Time) {
        if self.now || bad {
            self.last = Some(now);
        }
        self.now = bad;
        self.since = if bad { self.since.or(Some(now)) } else { None };
    }

    /// Whether it was bad at any moment of the last `span`.
    pub fn within(&self, span: Duration, now: Time) -> bool {
        self.now || self.last.is_some_and(|at| now.since(at) <= span)
    }

    /// Whether it has been bad, visibly, for longer than `span`.
    pub fn longer_than(&self, span: Duration, now: Time) -> bool {
        self.since.is_some_and(|at| now.since(at) > span)
    }
}

/// A health check at Route 53: it turns when what it sees has lasted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    truth: bool,
    since: Time,
    shown: bool,
}

impl Check {
    pub(super) const START: Self = Self { truth: true, since: Time::ZERO, shown: true };

    /// What the checkers see from now on.
    pub(super) fn sees(&mut self, truth: bool, lag: Duration, now: Time) {
        self.settle(lag, now);
        if self.truth != truth {
            (self.truth, self.since) = (truth, now);
        }
    }

    fn settle(&mut self, lag: Duration, now: Time) {
        if now.since(self.since) >= lag {
            self.shown = self.truth;
        }
    }

    pub(super) fn green(mut self, lag: Duration, now: Time) -> bool {
        self.settle(lag, now);
        self.shown
    }
}

/// A fault under way, and how often it has changed so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Active {
    pub(super) step: usize,
    pub(super) phase: u32,
}

/// A share of requests fails, and all are slower.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gray {
    pub(super) failing: f64,
    pub(super) slower: Duration,
}

/// The state of the world under the faults that are active now.
#[derive(Debug)]
pub struct World {
    witness_lag: Duration,
    processes: usize,
    /// Nothing in or out, by region.
    pub silent: Vec<bool>,
    /// No process, by edge.
    pub stopped: Vec<bool>,
    /// By region.
    pub stalled: Vec<bool>,
    /// Since when the control tasks of a region have run without a stall.
    pub awake_since: Vec<Time>,
    cut: Vec<Vec<bool>>,
    extra: Vec<Vec<Duration>>,
    pub loss_percent: u64,
    pub api_down: Vec<bool>,
    pub api_slow: bool,
    pub throttled_percent: u64,
    pub answers_lost: Vec<bool>,
    /// How long changes by a region hang before they arrive.
    pub delayed: Vec<Duration>,
    pub blind: Vec<bool>,
    pub skew: Vec<Duration>,
    /// Regions with another policy.
    pub other_policy: Vec<bool>,
    /// (from, toward, service), by region.
    pub poison: Vec<(usize, usize, usize)>,
    /// region -> service.
    pub(super) gray: Vec<Vec<Gray>>,
    /// Share of the usual that users of a place send.
    pub(super) surge: Vec<f64>,
    /// Share of its capacity that a region has.
    pub(super) capacity: Vec<f64>,
    /// Checkers see it fail, whatever is true.
    flapped: Vec<bool>,
    checks_under_load: bool,
    /// Load above capacity, by region; told by the flow.
    pub(super) overloaded: Vec<bool>,
    /// region -> service -> endpoint.
    pod_down: Vec<Vec<Vec<bool>>>,
    /// region -> service.
    pub trouble: Vec<Vec<Trouble>>,
    /// The checkers see a region fail that its edges see work.
    pub suspect: Vec<Trouble>,
    /// `/health/edge`, by region.
    checks: Vec<Check>,
    /// When the set of active faults last changed.
    pub changed_at: Time,
    /// Only faults that must not keep anyone from moving users are active.
    pub plain: bool,
    /// The last time that this was not so.
    pub odd_at: Option<Time>,
}

impl World {
    pub fn new(cast: &Cast) -> Self {
        let n = cast.regions.len();
        let pods = |region: usize| {
            let of = |has: bool| vec![!has; cast.endpoints];
            cast.services.iter().map(|s| of(s.regions[region])).collect()
        };
        Self {
            witness_lag: cast.pace.witness_lag,
            processes: cast.processes,
            silent: vec![false; n],
            stopped: vec![false; cast.edges()],
            stalled: vec![false; n],
            awake_since: vec![Time::ZERO; n],
            cut: vec![vec![false; n]; n],
            extra: vec![vec![Duration::ZERO; n]; n],
            loss_percent: 0,
            api_down: vec![false; n],
            api_slow: false,
            throttled_percent: 0,
            answers_lost: vec![false; n],
            delayed: vec![Duration::ZERO; n],
            blind: vec![false; n],
            skew: vec![Duration::ZERO; n],
            other_policy: vec![false; n],
            poison: Vec::new(),
            gray: vec![vec![Gray::default(); cast.services.len()]; n],
            surge: vec![1.0; cast.users.len()],
            capacity: vec![1.0; n],
            flapped: vec![false; n],
            checks_under_load: false,
            overloaded: vec![false; n],
            pod_down: (0..n).map(pods).collect(),
            trouble: vec![vec![Trouble::default(); cast.services.len()]; n],
            suspect: vec![Trouble::default(); n],
            checks: vec![Check::START; n],
            changed_at: Time::ZERO,
            plain: true,
            odd_at: None,
        }
    }

    /// Makes the world what the active faults say.
    pub(super) fn set(&mut self, scenario: &Scenario, active: &[Active], now: Time) {
        let was_stalled = self.stalled.clone();
        self.clear(scenario, now);
        for active in active {
            let fault = &scenario.steps[active.step].fault;
            self.paths(fault);
            self.processes(fault, active.phase);
            self.surroundings(fault, active.phase);
            self.plain &= plain(fault);
        }
        self.changed_at = now;
        if !self.plain {
            self.odd_at = Some(now);
        }
        for (region, was_stalled) in was_stalled.into_iter().enumerate() {
            if was_stalled || self.stalled[region] {
                self.awake_since[region] = now;
            }
            let gone = self.gone(region);
            for (trouble, pods) in self.trouble[region].iter_mut().zip(&self.pod_down[region]) {
                let down = pods.iter().all(|d| *d);
                trouble.set(gone || down, now);
            }
        }
        self.check(now);
    }

    /// What the checkers see from now on of every `/health/edge`.
    pub(super) fn check(&mut self, now: Time) {
        for region in 0..self.checks.len() {
            let (gone, seen) = (self.gone(region), self.answers_checks(region));
            self.checks[region].sees(seen, self.witness_lag, now);
            let red = !self.checks[region].green(self.witness_lag, now);
            self.suspect[region].set(!gone && (!seen || red), now);
        }
    }

    fn clear(&mut self, scenario: &Scenario, now: Time) {
        if !self.plain {
            self.odd_at = Some(now);
        }
        let cast = &scenario.cast;
        for flags in [
            &mut self.silent,
            &mut self.stopped,
            &mut self.stalled,
            &mut self.api_down,
            &mut self.answers_lost,
            &mut self.blind,
            &mut self.other_policy,
            &mut self.flapped,
        ] {
            flags.fill(false);
        }
        self.cut.iter_mut().for_each(|row| row.fill(false));
        self.extra.iter_mut().for_each(|row| row.fill(Duration::ZERO));
        self.delayed.fill(Duration::ZERO);
        self.skew.fill(Duration::ZERO);
        self.gray.iter_mut().for_each(|row| row.fill(Gray::default()));
        self.surge.fill(1.0);
        self.capacity.fill(1.0);
        for (region, services) in self.pod_down.iter_mut().enumerate() {
            for (pods, service) in services.iter_mut().zip(&cast.services) {
                pods.fill(!service.regions[region]);
            }
        }
        self.poison.clear();
        self.loss_percent = scenario.background_loss;
        (self.api_slow, self.checks_under_load, self.plain) = (false, false, true);
        self.throttled_percent = 0;
    }

    /// Faults of the ways between edges.
    fn paths(&mut self, fault: &Fault) {
        let n = self.silent.len();
        match *fault {
            Fault::RegionSilent { region } | Fault::RegionLost { region } => self.silent[region] = true,
            Fault::Cut { from, to } => self.cut[from][to] = true,
            Fault::Isolated { region } => {
                for other in (0..n).filter(|o| *o != region) {
                    self.cut[region][other] = true;
                    self.cut[other][region] = true;
                }
            }
            Fault::Split { side } => {
                let one = |region: usize| side & (1 << region) != 0;
                for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
                    self.cut[a][b] |= one(a) != one(b);
                }
            }
            Fault::Lossy { percent } => self.loss_percent = self.loss_percent.max(percent),
            Fault::SlowLink { a, b, by } => {
                self.extra[a][b] += by;
                self.extra[b][a] += by;
            }
            _ => {}
        }
    }

    /// Faults of processes, endpoints and their requests.
    fn processes(&mut self, fault: &Fault, phase: u32) {
        let n = self.silent.len();
        match *fault {
            Fault::RegionLost { region } | Fault::EdgeStopped { region } => {
                self.stopped[region * self.processes..(region + 1) * self.processes].fill(true);
            }
            Fault::RollingRestart { region, .. } => {
                // One is down, then all are up for as long, then the next one.
                let (nth, down) = ((phase / 2) as usize, phase.is_multiple_of(2));
                if down && nth < self.processes {
                    self.stopped[region * self.processes + nth] = true;
                }
            }
            Fault::ServiceDown { region, service } => self.pod_down[region][service].fill(true),
            Fault::Flapping { region, service, .. } if phase.is_multiple_of(2) => {
                self.pod_down[region][service].fill(true);
            }
            Fault::ServiceLeft { service, only } => {
                for region in (0..n).filter(|r| *r != only) {
                    self.pod_down[region][service].fill(true);
                }
            }
            Fault::EndpointDown { region, service, endpoint } => {
                self.pod_down[region][service][endpoint] = true;
            }
            Fault::ControlStalled { region } => self.stalled[region] = true,
            Fault::Poison { from, toward, service } => self.poison.push((from, toward, service)),
            Fault::Gray { region, service, percent, by } => {
                let gray = &mut self.gray[region][service];
                gray.failing = gray.failing.max(percent as f64 / 100.0);
                gray.slower = gray.slower.max(by);
            }
            Fault::BadPush { region } => self.other_policy[region] = true,
            _ => {}
        }
    }

    /// Faults of users, checkers, the DNS API and clocks.
    fn surroundings(&mut self, fault: &Fault, phase: u32) {
        match *fault {
            Fault::Surge { place, percent } => self.surge[place] *= percent as f64 / 100.0,
            Fault::CapacityLoss { region, percent } => self.capacity[region] *= percent as f64 / 100.0,
            Fault::ChecksFlap { region, .. } => self.flapped[region] |= phase.is_multiple_of(2),
            Fault::ChecksUnderLoad => self.checks_under_load = true,
            Fault::ApiDown { region } => self.api_down[region] = true,
            Fault::ApiOutage => self.api_down.fill(true),
            Fault::ApiSlow => self.api_slow = true,
            Fault::ApiThrottled { percent } => {
                self.throttled_percent = self.throttled_percent.max(percent);
            }
            Fault::AnswersLost { region } => self.answers_lost[region] = true,
            Fault::DelayedWriter { region, by } => self.delayed[region] = self.delayed[region].max(by),
            Fault::WitnessBlind { region } => self.blind[region] = true,
            Fault::ClockSkew { region, by } => self.skew[region] = self.skew[region].max(by),
            _ => {}
        }
    }

    /// No process of the region can be reached by anyone.
    pub(super) fn gone(&self, region: usize) -> bool {
        let processes = &self.stopped[region * self.processes..(region + 1) * self.processes];
        self.silent[region] || processes.iter().all(|stopped| *stopped)
    }

    /// Whether a checker that asks the region now gets a good answer from the edge itself.
    pub(super) fn answers_checks(&self, region: usize) -> bool {
        let fails_by_load = self.checks_under_load && self.overloaded[region];
        !self.gone(region) && !self.flapped[region] && !fails_by_load
    }

    /// Extra delay of a message between the edges of two regions; `None`: it can't pass.
    pub fn passes(&self, from: usize, to: usize) -> Option<Duration> {
        let open = !self.silent[from] && !self.silent[to] && !self.cut[from][to];
        open.then(|| self.extra[from][to])
    }

    pub fn reaches_api(&self, region: usize) -> bool {
        !self.silent[region] && !self.api_down[region]
    }

    pub fn pod_up(&self, region: usize, service: usize, endpoint: usize) -> bool {
        !self.pod_down[region][service][endpoint]
    }

    pub fn service_up(&self, region: usize, service: usize) -> bool {
        self.pod_down[region][service].iter().any(|down| !down)
    }

    pub fn poisoned(&self, from: usize, toward: usize, service: usize) -> bool {
        self.poison.contains(&(from, toward, service))
    }

    /// What the checkers show of a region's `/health/edge`.
    pub fn green(&self, region: usize, now: Time) -> bool {
        self.checks[region].green(self.witness_lag, now)
    }

    /// Whether any of the services is bad in a region in the sense of `of`.
    pub fn any(&self, region: usize, services: &[usize], of: impl Fn(&Trouble) -> bool) -> bool {
        services.iter().any(|s| of(&self.trouble[region][*s]))
    }
}

/// Whether a fault keeps nobody from moving users who must be moved.
fn plain(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::ServiceDown { .. }
            | Fault::ServiceLeft { .. }
            | Fault::EndpointDown { .. }
            | Fault::EdgeStopped { .. }
            | Fault::RegionSilent { .. }
            | Fault::RegionLost { .. }
            | Fault::Poison { .. }
            | Fault::Gray { .. }
            | Fault::Surge { .. }
            | Fault::CapacityLoss { .. }
            | Fault::Drain { .. }
            | Fault::Freeze { .. }
            | Fault::HandEdit { .. }
    )
}
