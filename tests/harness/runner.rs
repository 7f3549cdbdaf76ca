//! One run of a scenario: events in order of virtual time, each checked.

use super::cast::{Cast, pace};
use super::event::{Edgewise, Event, Scheduled};
use super::fabric::Fabric;
use super::faults::{Fault, Scenario, WARM_UP};
use super::invariants::{Held, Invariants, Rule, Truth, Violation};
use super::noise::{Dice, Noise};
use super::planted::Seams;
use super::provider::{ApiEvent, Provider};
use super::store::Store;
use super::world::World;
use proxima::domain::fleet::{Fleet, Input, Output, Target};
use proxima::domain::snapshot::Snapshot;
use proxima::domain::time::Time;
use proxima::domain::view::View;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// One edge process.
pub(super) struct Process {
    pub(super) boot: u64,
    pub(super) fleet: Fleet,
    /// Its clock is this far ahead of the harness's.
    pub(super) origin: Duration,
    /// The view to answer probes with, and when it was made.
    pub(super) view: Option<(Arc<View>, Time)>,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    wake: Time,
    /// Inputs that wait for a stalled control task.
    backlog: Vec<Input>,
    pub(super) provider: Provider,
}

/// A run in progress.
pub struct Run<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) seams: &'a dyn Seams,
    pub(super) cast: Cast,
    pub(super) now: Time,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    active: Vec<usize>,
    pub(super) world: World,
    pub(super) fabric: Fabric,
    pub(super) store: Store,
    pub(super) invariants: Invariants,
    pub(super) edges: Vec<Option<Process>>,
    /// Draws of each edge's surroundings; they outlive its processes.
    pub(super) dice: Vec<Dice>,
    boots: u64,
    pub(super) seen: BTreeMap<&'static str, u64>,
    log: Option<String>,
}

/// What became of a run.
#[derive(Debug)]
pub struct Finished {
    pub violation: Option<Violation>,
    /// How often what happened, so that a sweep can tell that it is not idle.
    pub seen: BTreeMap<&'static str, u64>,
    /// Every output of every edge, when asked for.
    pub log: String,
}

/// How much a run writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logging {
    Off,
    On,
}

/// Plays a scenario to its end or to the first violation.
pub fn play(scenario: &Scenario, seams: &dyn Seams, logging: Logging) -> Finished {
    let mut run = Run::new(scenario, seams, logging);
    let violation = run.play().err();
    Finished { violation, seen: run.seen, log: run.log.unwrap_or_default() }
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, seams: &'a dyn Seams, logging: Logging) -> Self {
        let noise = Noise::new(scenario.seed);
        let cast = Cast::new(scenario);
        let n = scenario.regions;
        Self {
            now: Time::ZERO,
            queue: BinaryHeap::new(),
            scheduled: 0,
            active: Vec::new(),
            world: World::new(&cast),
            fabric: Fabric::new(n, noise.stream(2)),
            store: Store::new(&cast, seams.fenced()),
            invariants: Invariants::new(&cast),
            edges: (0..n).map(|_| None).collect(),
            dice: (0..n).map(|edge| noise.stream(100 + edge as u64).dice()).collect(),
            boots: 0,
            seen: BTreeMap::new(),
            log: (logging == Logging::On).then(String::new),
            cast,
            scenario,
            seams,
        }
    }

    fn play(&mut self) -> Held {
        for (index, step) in self.scenario.steps.iter().enumerate() {
            self.schedule(Time::ZERO + step.at, Event::Begin(index));
            self.schedule(Time::ZERO + step.at + step.lasts, Event::End(index));
        }
        self.change_world();
        self.schedule(Time::ZERO + pace::AUDIT, Event::Audit);
        for edge in 0..self.scenario.regions {
            self.start(edge)?;
        }
        loop {
            if let Some(edge) = self.due() {
                self.feed(edge, Input::Tick)?;
                continue;
            }
            let Some(Reverse(next)) = self.queue.pop() else { return Ok(()) };
            self.now = next.at;
            if matches!(next.event, Event::Audit) {
                if self.audit()? {
                    return Ok(());
                }
                self.schedule(self.now + pace::AUDIT, Event::Audit);
            } else {
                self.happen(next.event)?;
            }
        }
    }

    pub(super) fn schedule(&mut self, at: Time, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled { at, number: self.scheduled, event }));
    }

    /// Schedules something of the process that runs at `edge` now.
    pub(super) fn of(&mut self, edge: usize, after: Duration, what: Edgewise) {
        let Some(process) = &self.edges[edge] else { return };
        let boot = process.boot;
        self.schedule(self.now + after, Event::Of { edge, boot, what });
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_insert(0) += 1;
    }

    /// The edge whose deadline comes before every event, with the time moved there.
    fn due(&mut self) -> Option<usize> {
        let awake = |edge: &usize| !self.world.stalled[*edge];
        let wake = |edge: &usize| self.edges[*edge].as_ref().map(|p| p.wake);
        let next = (0..self.edges.len()).filter(awake).filter_map(|e| Some((wake(&e)?, e))).min()?;
        if self.queue.peek().is_some_and(|Reverse(event)| event.at < next.0) {
            return None;
        }
        self.now = self.now.max(next.0);
        Some(next.1)
    }

    fn happen(&mut self, event: Event) -> Held {
        match event {
            Event::Begin(step) => self.begin(step),
            Event::End(step) => self.end(step),
            Event::Audit => Ok(()),
            Event::AtPeer { from, boot, to, sent } => {
                self.probe_arrives(from, boot, to, sent);
                Ok(())
            }
            Event::AtApi { edge, boot, what } => self.at_api(edge, boot, what),
            Event::Of { edge, boot, what } => {
                if self.edges[edge].as_ref().is_some_and(|p| p.boot == boot) {
                    self.edgewise(edge, what)
                } else {
                    Ok(())
                }
            }
        }
    }

    fn begin(&mut self, step: usize) -> Held {
        self.active.push(step);
        let scenario = self.scenario;
        let fault = &scenario.steps[step].fault;
        self.note(|| format!("begins: {fault}"));
        match *fault {
            Fault::Drain { name, region } => {
                let region = self.cast.regions[region].clone();
                self.store.operate(name, |s| {
                    s.drains.insert(region);
                });
            }
            Fault::Freeze { name } => self.store.operate(name, |s| s.frozen = true),
            Fault::HandEdit { name, entry, to } => {
                let only = proxima::domain::weights::WeightedSet::only(self.cast.regions[to].clone());
                let sets = &mut self.store.names[name].sets;
                let count = sets.len();
                sets.values_mut().nth(entry % count).into_iter().for_each(|set| *set = only.clone());
                self.invariants.edited(name, self.now);
            }
            _ => {}
        }
        self.change_world();
        for edge in (0..self.edges.len()).filter(|e| self.world.stopped[*e]) {
            self.edges[edge] = None;
        }
        Ok(())
    }

    fn end(&mut self, step: usize) -> Held {
        self.active.retain(|s| *s != step);
        let scenario = self.scenario;
        let fault = &scenario.steps[step].fault;
        self.note(|| format!("ends: {fault}"));
        match *fault {
            Fault::Drain { name, region } => {
                let still = self.active.iter().any(|s| scenario.steps[*s].fault == *fault);
                let region = &self.cast.regions[region];
                self.store.operate(name, |s| {
                    s.drains.retain(|r| still || r != region);
                });
            }
            Fault::Freeze { name } => {
                let still = self.active.iter().any(|s| scenario.steps[*s].fault == *fault);
                self.store.operate(name, |s| s.frozen = still);
            }
            _ => {}
        }
        self.change_world();
        for edge in 0..self.edges.len() {
            if self.edges[edge].is_none() && !self.world.stopped[edge] {
                self.count("restarts");
                self.start(edge)?;
            }
            let backlog = match &mut self.edges[edge] {
                Some(process) if !self.world.stalled[edge] => std::mem::take(&mut process.backlog),
                _ => Vec::new(),
            };
            for input in backlog {
                self.feed(edge, input)?;
            }
        }
        Ok(())
    }

    fn change_world(&mut self) {
        self.world.set(self.scenario, &self.active, self.now);
    }

    /// A new process at an edge, with its names resolved.
    fn start(&mut self, edge: usize) -> Held {
        self.boots += 1;
        let mut policy = self.cast.policy(edge);
        self.seams.policy(&mut policy);
        self.fabric.forget(edge);
        self.invariants.restarted(edge);
        let boot = self.boots;
        self.edges[edge] = Some(Process {
            boot,
            fleet: Fleet::new(Arc::new(policy), boot),
            // A process of its own has a clock of its own.
            origin: Duration::from_secs(3600) + self.dice[edge].between(0, 100_000),
            view: None,
            snapshot: None,
            wake: self.now,
            backlog: Vec::new(),
            provider: Provider::default(),
        });
        for service in 0..self.cast.services.len() {
            let addresses = (0..self.cast.endpoints).map(|e| self.cast.pod(edge, service, e)).collect();
            let target = Target::Service(self.cast.services[service].clone());
            self.feed(edge, Input::Resolved { target, addresses })?;
        }
        for to in (0..self.edges.len()).filter(|to| *to != edge) {
            let target = Target::Peer(self.cast.regions[to].clone());
            self.feed(edge, Input::Resolved { target, addresses: vec![self.cast.peer(to)] })?;
            let after = self.dice[edge].between(0, 1000);
            self.of(edge, after, Edgewise::Probe { to });
        }
        for what in [
            Edgewise::Pods,
            Edgewise::Requests,
            Edgewise::Poison,
            Edgewise::Load,
            Edgewise::Dns(ApiEvent::Poll),
        ] {
            let after = self.dice[edge].between(0, 500);
            self.of(edge, after, what);
        }
        Ok(())
    }

    /// Hands an input to an edge's `Fleet` and carries out what comes back.
    pub(super) fn feed(&mut self, edge: usize, input: Input) -> Held {
        let Some(process) = &mut self.edges[edge] else { return Ok(()) };
        if self.world.stalled[edge] {
            process.backlog.push(input);
            return Ok(());
        }
        let outputs = process.fleet.handle(input, self.now + process.origin);
        let late = self.dice[edge].below(pace::WAKE_LATE.as_nanos() as u64);
        let deadline = process.fleet.deadline().map_or(self.now, |at| at.before(process.origin));
        process.wake = deadline.max(self.now) + Duration::from_nanos(late + 1);
        // What was published together with a plan shows the verdicts that it rests on.
        let (plans, rest): (Vec<_>, Vec<_>) =
            outputs.into_iter().partition(|output| matches!(output, Output::Propose(_)));
        rest.into_iter().chain(plans).try_for_each(|output| self.put_out(edge, output))
    }

    fn put_out(&mut self, edge: usize, output: Output) -> Held {
        if self.log.is_some() {
            self.log_output(edge, &output);
        }
        let seams = self.seams;
        let Some(process) = &mut self.edges[edge] else { return Ok(()) };
        match output {
            Output::View(view) => {
                process.view = Some((seams.view(view, process.snapshot.as_deref()), self.now));
                Ok(())
            }
            Output::Publish(snapshot) => {
                process.snapshot = Some(Arc::clone(&snapshot));
                if snapshot.services.values().any(|s| s.panic) {
                    self.count("panics");
                }
                self.invariants.published(&self.truth(), edge, &snapshot)
            }
            Output::Propose(mut plan) => {
                let snapshot = process.snapshot.clone();
                if !seams.plan(&mut plan, snapshot.as_deref()) {
                    return Ok(());
                }
                self.count("proposals");
                self.invariants.proposed(&self.truth(), edge, &plan, snapshot.as_deref())?;
                self.write(edge, plan)
            }
            Output::Moved(transition) => {
                self.count_transition(&transition);
                Ok(())
            }
            Output::Operated { .. } => Ok(()),
        }
    }

    fn count_transition(&mut self, transition: &proxima::domain::fleet::Transition) {
        use proxima::domain::fleet::Transition;
        use proxima::domain::votes::Verdict;
        match transition {
            Transition::Verdict { to: Verdict::Isolated, .. } => self.count("isolated"),
            Transition::Verdict { to: Verdict::Down, .. } => self.count("verdicts down"),
            Transition::Refused { refusal: Some(refusal), .. } => self.count(refusal.as_str()),
            Transition::Gate { closed: true, .. } => self.count("gates closed"),
            _ => {}
        }
    }

    pub(super) fn truth(&self) -> Truth<'_> {
        Truth {
            cast: &self.cast,
            world: &self.world,
            fabric: &self.fabric,
            store: &self.store,
            now: self.now,
        }
    }

    /// Checks what only time shows; true when the run may end.
    fn audit(&mut self) -> Result<bool, Violation> {
        self.invariants.audited(&self.truth())?;
        let calm = self.now.since(Time::ZERO + self.scenario.calm_from().max(WARM_UP));
        if calm < Duration::from_secs(3) {
            return Ok(false);
        }
        let snapshots: Vec<Option<&Snapshot>> =
            self.edges.iter().map(|e| e.as_ref().and_then(|p| p.snapshot.as_deref())).collect();
        let Some(why) = self.invariants.unsettled(&self.truth(), &snapshots) else { return Ok(true) };
        if calm > self.recovery_max() {
            let text = format!("{why}, {calm:?} after the last fault");
            return Err(Violation { rule: Rule::NotHome, at: self.now, text });
        }
        Ok(false)
    }

    /// The longest way back: back-off and probation, then every ramp step with its hold-down.
    fn recovery_max(&self) -> Duration {
        let steps = 100u32.div_ceil(self.scenario.max_shift_points) + 2;
        let step = self.cast.failover.hold_down + pace::DNS_POLL * 2 + self.cast.failover.writer_patience;
        self.cast.health.ejection_max * 2 + self.cast.health.probation * 2 + step * steps
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let at = self.now.since(Time::ZERO).as_secs_f64();
            writeln!(log, "{at:8.3} -- {}", text()).unwrap();
        }
    }

    fn log_output(&mut self, edge: usize, output: &Output) {
        let id = self.cast.regions[edge].clone();
        match output {
            Output::View(view) => self.note(|| format!("{id} view {view:?}")),
            Output::Publish(snapshot) => self.note(|| format!("{id} publish {snapshot:?}")),
            Output::Propose(plan) => self.note(|| format!("{id} propose {plan:?}")),
            Output::Moved(transition) => self.note(|| format!("{id} moved {transition:?}")),
            Output::Operated { result, .. } => self.note(|| format!("{id} operated {result:?}")),
        }
    }

    /// Adds a line about the DNS side to the log.
    pub(super) fn note_dns(&mut self, edge: usize, text: impl FnOnce() -> String) {
        if self.log.is_some() {
            let id = self.cast.regions[edge].clone();
            self.note(|| format!("{id} dns {}", text()));
        }
    }
}
