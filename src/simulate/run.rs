//! One run of a scenario: events in order of virtual time, each checked.

use super::cast::Cast;
use super::coverage::Coverage;
use super::event::{Edgewise, Event, Scheduled};
use super::fabric::Fabric;
use super::faults::Scenario;
use super::flow::Flow;
use super::generate::WARM_UP;
use super::invariants::{Held, Invariants, Rule, Truth, Violation};
use super::noise::{Dice, Noise};
use super::provider::{ApiEvent, Provider};
use super::record::{Record, Recorder};
use super::seams::Seams;
use super::store::Store;
use super::world::{Active, World};
use crate::domain::fleet::{Fleet, Input, Output, Target, Transition};
use crate::domain::policy::Policy;
use crate::domain::snapshot::Snapshot;
use crate::domain::time::Time;
use crate::domain::view::View;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

/// One edge process.
pub(super) struct Process {
    pub(super) boot: u64,
    pub(super) fleet: Fleet,
    /// Its clock is this far ahead of the world's.
    pub(super) origin: Duration,
    /// The view to answer probes with, and when it was made.
    pub(super) view: Option<(Arc<View>, Time)>,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// When it last decided.
    pub(super) decided: Time,
    /// Whether it was told that it holds the lease.
    pub(super) holds: Option<bool>,
    wake: Time,
    /// Inputs that wait for a stalled control task.
    backlog: Vec<Input>,
    pub(super) provider: Provider,
}

/// A run in progress.
pub(super) struct Run<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) seams: &'a dyn Seams,
    pub(super) cast: Arc<Cast>,
    pub(super) now: Time,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    pub(super) active: Vec<Active>,
    pub(super) world: World,
    pub(super) fabric: Fabric,
    pub(super) store: Store,
    pub(super) flow: Flow,
    pub(super) invariants: Invariants,
    pub(super) edges: Vec<Option<Process>>,
    /// Draws of each edge's surroundings; they outlive its processes.
    pub(super) dice: Vec<Dice>,
    boots: u64,
    /// Users are more than the regions can serve, before any fault.
    tight: bool,
    /// All was at home at some moment after the last fault.
    settled: bool,
    pub(super) seen: BTreeMap<&'static str, u64>,
    pub(super) recorder: Recorder,
    coverage: Option<Coverage>,
    /// Transitions of the evaluation under way.
    moved: Vec<Transition>,
    pub(super) log: Option<String>,
}

/// What became of a run.
#[derive(Debug)]
pub struct Finished {
    pub violation: Option<Violation>,
    /// How often what happened, so that a sweep can tell that it is not idle.
    pub seen: BTreeMap<&'static str, u64>,
    /// Every output of every edge, when asked for.
    pub log: String,
    pub record: Option<Box<Record>>,
    pub coverage: Option<Coverage>,
    /// How long the run was.
    pub lasted: Duration,
}

/// What a run writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Writes {
    /// Every output of every edge.
    pub log: bool,
    /// What users saw, and DNS.
    pub record: bool,
    /// Which transitions met which faults and refusals.
    pub coverage: bool,
}

/// Plays a scenario to its end or to the first violation.
pub fn play(scenario: &Scenario, seams: &dyn Seams, writes: Writes) -> Finished {
    let mut run = Run::new(scenario, seams, writes);
    let violation = run.play().err();
    Finished {
        violation,
        lasted: run.now.since(Time::ZERO),
        seen: run.seen,
        log: run.log.unwrap_or_default(),
        record: run.recorder.finish(),
        coverage: run.coverage,
    }
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, seams: &'a dyn Seams, writes: Writes) -> Self {
        let noise = Noise::new(scenario.seed);
        let cast = Arc::clone(&scenario.cast);
        let edges = cast.edges();
        Self {
            now: Time::ZERO,
            queue: BinaryHeap::new(),
            scheduled: 0,
            active: Vec::new(),
            world: World::new(&cast),
            fabric: Fabric::new(&cast, noise.stream(3)),
            store: Store::new(&cast, seams.fenced()),
            flow: Flow::new(&cast),
            invariants: Invariants::new(&cast),
            edges: (0..edges).map(|_| None).collect(),
            dice: (0..edges).map(|edge| noise.stream(100 + edge as u64).dice()).collect(),
            boots: 0,
            tight: false,
            settled: false,
            seen: BTreeMap::new(),
            recorder: Recorder::new(scenario, writes.record),
            coverage: writes.coverage.then(Coverage::new),
            moved: Vec::new(),
            log: writes.log.then(String::new),
            cast,
            scenario,
            seams,
        }
    }

    fn play(&mut self) -> Held {
        let told = self.run();
        match told {
            Err(violation) if !self.seams.tells(&violation) => Ok(()),
            told => told,
        }
    }

    fn run(&mut self) -> Held {
        for (index, step) in self.scenario.steps.iter().enumerate() {
            self.schedule(Time::ZERO + step.at, Event::Begin(index));
            self.schedule(Time::ZERO + step.at + step.lasts, Event::End(index));
        }
        self.change_world();
        self.schedule(Time::ZERO + self.cast.pace.audit, Event::Audit);
        self.schedule(Time::ZERO + self.cast.pace.flow, Event::Flow);
        for edge in 0..self.edges.len() {
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
                self.schedule(self.now + self.cast.pace.audit, Event::Audit);
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

    /// A name's sets as they are now reach all of Route 53's servers after a while.
    pub(super) fn propagate(&mut self, name: usize) {
        let (from, to) = self.cast.pace.insync_ms;
        let change = self.store.changed(name);
        let after = self.dice[0].between(from, to);
        let sets = Arc::new(self.store.names[name].sets.clone());
        self.schedule(self.now + after, Event::Propagated { name, change, sets });
    }

    /// The edge whose deadline comes before every event, with the time moved there.
    fn due(&mut self) -> Option<usize> {
        let awake = |edge: &usize| !self.world.stalled[self.cast.region_of(*edge)];
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
            Event::Beat(step) => self.beat(step),
            Event::End(step) => self.end(step),
            Event::Audit => Ok(()),
            Event::Flow => self.flow(),
            Event::Propagated { name, change, sets } => {
                self.store.publish(name, change, &sets);
                Ok(())
            }
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

    pub(super) fn change_world(&mut self) {
        self.world.set(self.scenario, &self.active, self.now);
    }

    /// The policy that a process of a region has now.
    pub(super) fn policy(&self, region: usize) -> Policy {
        let mut policy = self.cast.policies[region].clone();
        if self.world.other_policy[region] {
            policy.failover.hold_down *= 2;
        }
        self.seams.policy(&mut policy);
        policy
    }

    /// Stops and starts processes, hands out policies and wakes control tasks, as the world says.
    pub(super) fn settle_edges(&mut self) -> Held {
        for edge in 0..self.edges.len() {
            if self.world.stopped[edge] {
                self.edges[edge] = None;
            } else if self.edges[edge].is_none() {
                self.count("restarts");
                self.start(edge)?;
            }
            let region = self.cast.region_of(edge);
            let backlog = match &mut self.edges[edge] {
                Some(process) if !self.world.stalled[region] => std::mem::take(&mut process.backlog),
                _ => Vec::new(),
            };
            for input in backlog {
                self.feed(edge, input)?;
            }
        }
        if self.cast.leased { self.settle_leases() } else { Ok(()) }
    }

    /// A new process at an edge, with its names resolved.
    fn start(&mut self, edge: usize) -> Held {
        self.boots += 1;
        let region = self.cast.region_of(edge);
        let policy = self.policy(region);
        self.fabric.forget(edge);
        self.invariants.restarted(edge, self.now);
        let boot = self.boots;
        self.edges[edge] = Some(Process {
            boot,
            fleet: Fleet::new(Arc::new(policy), boot),
            // A process of its own has a clock of its own.
            origin: Duration::from_secs(3600) + self.dice[edge].between(0, 100_000),
            view: None,
            snapshot: None,
            decided: self.now,
            holds: None,
            wake: self.now,
            backlog: Vec::new(),
            provider: Provider::default(),
        });
        for service in 0..self.cast.services.len() {
            if !self.cast.services[service].regions[region] {
                continue;
            }
            let addresses = (0..self.cast.endpoints).map(|e| self.cast.pod(region, service, e)).collect();
            let target = Target::Service(self.cast.services[service].id.clone());
            self.feed(edge, Input::Resolved { target, addresses })?;
        }
        for to in (0..self.cast.regions.len()).filter(|to| *to != region) {
            let target = Target::Peer(self.cast.regions[to].clone());
            self.feed(edge, Input::Resolved { target, addresses: vec![self.cast.peer(to)] })?;
            let after = self.dice[edge].between(0, 1000);
            self.of(edge, after, Edgewise::Probe { to });
        }
        for what in [Edgewise::Pods, Edgewise::Requests, Edgewise::Poison, Edgewise::Dns(ApiEvent::Poll)] {
            let after = self.dice[edge].between(0, 500);
            self.of(edge, after, what);
        }
        Ok(())
    }

    /// Hands an input to an edge's `Fleet` and carries out what comes back.
    pub(super) fn feed(&mut self, edge: usize, input: Input) -> Held {
        let Some(process) = &mut self.edges[edge] else { return Ok(()) };
        if self.world.stalled[self.cast.region_of(edge)] {
            process.backlog.push(input);
            return Ok(());
        }
        process.decided = self.now;
        let outputs = process.fleet.handle(input, self.now + process.origin);
        let late = self.dice[edge].below(self.cast.pace.wake_late.as_nanos() as u64);
        let deadline = process.fleet.deadline().map_or(self.now, |at| at.before(process.origin));
        process.wake = deadline.max(self.now) + Duration::from_nanos(late + 1);
        if outputs.is_empty() {
            return Ok(());
        }
        // What was published together with a plan shows the verdicts that it rests on.
        let (plans, rest): (Vec<_>, Vec<_>) =
            outputs.into_iter().partition(|output| matches!(output, Output::Propose(_)));
        let held = rest.into_iter().chain(plans).try_for_each(|output| self.put_out(edge, output));
        self.cover(edge);
        held
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
                let snapshot = seams.snapshot(snapshot);
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
                self.transition(transition);
                Ok(())
            }
            Output::Operated { .. } => Ok(()),
        }
    }

    fn transition(&mut self, transition: Transition) {
        use crate::domain::votes::Verdict;
        match &transition {
            Transition::Verdict { to: Verdict::Isolated, .. } => self.count("isolated"),
            Transition::Verdict { region, to: Verdict::Down, .. } => {
                self.count("verdicts down");
                self.recorder.down(self.now, self.cast.region(region));
            }
            Transition::Refused { refusal: Some(refusal), .. } => self.count(refusal.as_str()),
            Transition::Gate { closed: true, .. } => self.count("gates closed"),
            _ => {}
        }
        if self.coverage.is_some() {
            self.moved.push(transition);
        }
    }

    /// Notes which transitions met which faults and refusals.
    fn cover(&mut self, edge: usize) {
        let Some(coverage) = &mut self.coverage else { return };
        let snapshot = self.edges[edge].as_ref().and_then(|process| process.snapshot.as_deref());
        let active = self.active.iter().map(|active| self.scenario.steps[active.step].fault.kind());
        for transition in self.moved.drain(..) {
            coverage.note(&self.cast, &transition, active.clone(), snapshot);
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

    fn snapshots(&self) -> Vec<Option<&Snapshot>> {
        self.edges.iter().map(|e| e.as_ref().and_then(|p| p.snapshot.as_deref())).collect()
    }

    /// Checks what only time shows; true when the run may end.
    fn audit(&mut self) -> Result<bool, Violation> {
        let mut invariants = std::mem::take(&mut self.invariants);
        let held = invariants.audited(&self.truth(), &self.snapshots());
        self.invariants = invariants;
        held?;
        let begin = self.scenario.steps.iter().map(|s| s.at).min().unwrap_or(WARM_UP);
        let now = self.now.since(Time::ZERO);
        // A run that begins with more users than room does not come to rest.
        self.tight |= now < begin && self.world.overloaded.contains(&true);
        let calm_from = self.scenario.calm_from().max(WARM_UP);
        let calm = now.saturating_sub(calm_from);
        if calm < Duration::from_secs(3) {
            return Ok(false);
        }
        if self.settled {
            return Ok(now >= self.scenario.length);
        }
        let mut invariants = std::mem::take(&mut self.invariants);
        let unsettled = invariants.unsettled(&self.truth(), &self.snapshots());
        self.invariants = invariants;
        let Some(why) = unsettled else {
            self.settled = true;
            self.recorder.home(now);
            return Ok(now >= self.scenario.length);
        };
        if calm > self.recovery_max() {
            let held_back = self.tight || self.invariants.spent(&self.truth());
            if held_back || self.cast.users.iter().any(|u| u.swing > 0.0) {
                return Ok(now >= self.scenario.length);
            }
            let text = format!("{why}, {calm:?} after the last fault");
            return Err(Violation { rule: Rule::NotHome, at: self.now, text });
        }
        Ok(false)
    }

    /// The longest way back: back-off and probation, then every ramp step with its hold-down.
    fn recovery_max(&self) -> Duration {
        let failover = self.cast.failover();
        let steps = (1.0 / failover.max_shift.max(0.01)).ceil() as u32 + 2;
        // Users who were moved for room follow loads, which follow users: the last steps are small ones.
        let steps = if self.cast.steady { steps } else { steps * 2 };
        let pace = &self.cast.pace;
        let skew = self.invariants.skew_max();
        let step = failover.hold_down + pace.dns_poll * 2 + failover.writer_patience;
        let health = self.cast.health();
        health.ejection_max * 2
            + health.probation * 2
            + pace.witness_lag
            // A hang or a clock ahead holds the first step back.
            + skew
            + step * steps
    }
}
