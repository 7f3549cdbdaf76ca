//! The truth: what is really up, reachable and told, whatever the edges believe.

use super::cast::{Cast, pace};
use super::faults::{Fault, Scenario};
use proxima::domain::time::Time;
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
    fn set(&mut self, bad: bool, now: Time) {
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

/// One region's health check at Route 53.
#[derive(Debug, Clone, Copy)]
struct Check {
    truth: bool,
    since: Time,
    shown: bool,
}

/// The state of the world under the faults that are active now.
#[derive(Debug)]
pub struct World {
    /// Nothing in or out.
    pub silent: Vec<bool>,
    /// No edge process.
    pub stopped: Vec<bool>,
    pub stalled: Vec<bool>,
    /// Since when the control task has run without a stall.
    pub awake_since: Vec<Time>,
    cut: Vec<Vec<bool>>,
    extra: Vec<Vec<Duration>>,
    pub loss_percent: u64,
    pub api_down: Vec<bool>,
    pub api_slow: bool,
    pub answers_lost: Vec<bool>,
    pub blind: Vec<bool>,
    /// (edge, toward, service).
    pub poison: Vec<(usize, usize, usize)>,
    /// region -> service -> endpoint.
    pod_down: Vec<Vec<Vec<bool>>>,
    /// region -> service.
    pub trouble: Vec<Vec<Trouble>>,
    checks: Vec<Check>,
    /// When the set of active faults last changed.
    pub changed_at: Time,
    /// Only faults that must not keep anyone from moving users are active.
    pub plain: bool,
    /// Poison was active at that time the last.
    pub poisoned_at: Option<Time>,
}

impl World {
    pub fn new(cast: &Cast) -> Self {
        let n = cast.regions.len();
        let check = Check { truth: true, since: Time::ZERO, shown: true };
        Self {
            silent: vec![false; n],
            stopped: vec![false; n],
            stalled: vec![false; n],
            awake_since: vec![Time::ZERO; n],
            cut: vec![vec![false; n]; n],
            extra: vec![vec![Duration::ZERO; n]; n],
            loss_percent: 0,
            api_down: vec![false; n],
            api_slow: false,
            answers_lost: vec![false; n],
            blind: vec![false; n],
            poison: Vec::new(),
            pod_down: vec![vec![vec![false; cast.endpoints]; cast.services.len()]; n],
            trouble: vec![vec![Trouble::default(); cast.services.len()]; n],
            checks: vec![check; n],
            changed_at: Time::ZERO,
            plain: true,
            poisoned_at: None,
        }
    }

    /// Makes the world what the active faults say.
    pub fn set(&mut self, scenario: &Scenario, active: &[usize], now: Time) {
        let was_stalled = self.stalled.clone();
        self.clear(scenario.background_loss, now);
        for step in active {
            self.apply(&scenario.steps[*step].fault);
        }
        self.changed_at = now;
        for (region, was_stalled) in was_stalled.into_iter().enumerate() {
            if was_stalled || self.stalled[region] {
                self.awake_since[region] = now;
            }
            let gone = self.silent[region] || self.stopped[region];
            for (trouble, pods) in self.trouble[region].iter_mut().zip(&self.pod_down[region]) {
                let down = pods.iter().all(|d| *d);
                trouble.set(gone || down, now);
            }
            let check = &mut self.checks[region];
            check.settle(now);
            if check.truth == gone {
                (check.truth, check.since) = (!gone, now);
            }
        }
    }

    fn clear(&mut self, background_loss: u64, now: Time) {
        if !self.poison.is_empty() {
            self.poisoned_at = Some(now);
        }
        for flags in
            [&mut self.silent, &mut self.stopped, &mut self.stalled, &mut self.api_down, &mut self.blind]
        {
            flags.fill(false);
        }
        self.answers_lost.fill(false);
        self.cut.iter_mut().for_each(|row| row.fill(false));
        self.extra.iter_mut().for_each(|row| row.fill(Duration::ZERO));
        self.pod_down.iter_mut().flatten().for_each(|pods| pods.fill(false));
        self.poison.clear();
        self.loss_percent = background_loss;
        self.api_slow = false;
        self.plain = true;
    }

    fn apply(&mut self, fault: &Fault) {
        let n = self.silent.len();
        match *fault {
            Fault::ServiceDown { region, service } => self.pod_down[region][service].fill(true),
            Fault::ServiceLeft { service, only } => {
                for region in (0..n).filter(|r| *r != only) {
                    self.pod_down[region][service].fill(true);
                }
            }
            Fault::EndpointDown { region, service, endpoint } => {
                self.pod_down[region][service][endpoint] = true;
            }
            Fault::EdgeStopped { region } => self.stopped[region] = true,
            Fault::RegionSilent { region } => self.silent[region] = true,
            Fault::RegionLost { region } => {
                self.silent[region] = true;
                self.stopped[region] = true;
            }
            Fault::Poison { edge, toward, service } => self.poison.push((edge, toward, service)),
            Fault::Drain { .. } | Fault::Freeze { .. } | Fault::HandEdit { .. } => {}
            _ => self.plain = false,
        }
        match *fault {
            Fault::ControlStalled { region } => self.stalled[region] = true,
            Fault::Cut { from, to } => self.cut[from][to] = true,
            Fault::Isolated { region } => {
                for other in (0..n).filter(|o| *o != region) {
                    self.cut[region][other] = true;
                    self.cut[other][region] = true;
                }
            }
            Fault::Split { first } => {
                for (a, b) in (0..first).flat_map(|a| (first..n).map(move |b| (a, b))) {
                    self.cut[a][b] = true;
                    self.cut[b][a] = true;
                }
            }
            Fault::Lossy { percent } => self.loss_percent = self.loss_percent.max(percent),
            Fault::Slow { a, b, by } => {
                self.extra[a][b] += by;
                self.extra[b][a] += by;
            }
            Fault::ApiDown { region } => self.api_down[region] = true,
            Fault::ApiOutage => self.api_down.fill(true),
            Fault::ApiSlow => self.api_slow = true,
            Fault::AnswersLost { region } => self.answers_lost[region] = true,
            Fault::WitnessBlind { region } => self.blind[region] = true,
            _ => {}
        }
    }

    /// Extra delay of a message between two edges; `None`: it can't pass.
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

    pub fn poisoned(&self, edge: usize, toward: usize, service: usize) -> bool {
        self.poison.contains(&(edge, toward, service))
    }

    /// What the checkers show of a region's `/health/edge`.
    pub fn green(&self, region: usize, now: Time) -> bool {
        let mut check = self.checks[region];
        check.settle(now);
        check.shown
    }

    /// Whether any of the services is bad in a region in the sense of `of`.
    pub fn any(&self, region: usize, services: &[usize], of: impl Fn(&Trouble) -> bool) -> bool {
        services.iter().any(|s| of(&self.trouble[region][*s]))
    }
}

impl Check {
    fn settle(&mut self, now: Time) {
        if now.since(self.since) >= pace::WITNESS_LAG {
            self.shown = self.truth;
        }
    }
}
