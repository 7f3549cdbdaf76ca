//! The control task: inputs and deadlines -> `Fleet` -> snapshot, view, plans, log.
//!
//! It owns the fleet alone, so nothing here locks. It is the only writer of the
//! snapshot and of the own view; if it stalls, traffic stays on the last ones
//! and `proxima_control_idle_seconds` grows. It refuses to know where inputs
//! come from and what becomes of its outputs.

use crate::clock::{Clock, Heartbeat};
use crate::domain::fleet::{Fleet, Input, Lease, OutcomeRun, Output, ServiceLoad, Transition, add_outcome};
use crate::domain::name::{DnsName, ServiceId};
use crate::domain::plan::Plan;
use crate::domain::snapshot::Snapshot;
use crate::domain::time::Time;
use crate::domain::view::View;
use crate::inquiry::Inquiry;
use crate::journal::Journal;
use crate::lease::claim::Ruling;
use crate::lease::load::{Load, RegionLoad};
use crate::metrics::control::ControlMetrics;
use crate::metrics::request::ServiceTotals;
use crate::operators::Desk;
use crate::peer::Board;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

/// Inputs that are taken in one turn. Between turns the others get theirs.
const BATCH: usize = 64;
/// Outcomes that are taken in one turn, as one input: a flood of them can't keep a probe waiting for
/// more than this many.
const OUTCOMES: usize = 1024;
/// Pause after a turn of outcomes, so that those which follow come together: at 30,000 requests a
/// second one by one they would cost the core and the journal more than everything else.
const OUTCOMES_PAUSE: Duration = Duration::from_millis(10);
/// How often the load is measured; also the longest sleep.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest sleep before a deadline, so that one in the past can't spin.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// The ends that the control task holds.
pub struct Wiring {
    pub clock: Clock,
    pub inputs: mpsc::Receiver<Input>,
    pub outcomes: mpsc::Receiver<OutcomeRun>,
    pub plans: mpsc::Sender<Plan>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub view: Arc<ArcSwap<View>>,
    /// Number of the last published snapshot, for whoever must act on a new one.
    pub published: watch::Sender<u64>,
    /// Reads what this pod and its services have done since the start.
    pub load: Arc<dyn Fn(&Snapshot) -> Totals + Send + Sync>,
    /// Knows what the other pods of the region do.
    pub board: Arc<Board>,
    /// What the Lease says of this pod.
    pub ruling: watch::Receiver<Ruling>,
    pub heartbeat: Arc<Heartbeat>,
    /// Told what becomes of operators' acts.
    pub desk: Arc<Desk>,
    pub metrics: ControlMetrics,
    /// What people want to know.
    pub inquiries: mpsc::Receiver<Inquiry>,
    /// `None`: nothing is journaled.
    pub journal: Option<Journal>,
}

/// Requests of this pod since the start.
#[derive(Debug, Default)]
pub struct Totals {
    /// Sent by clients to it.
    pub entered: u64,
    /// The same for each configured name, by the host that was asked for.
    pub names: BTreeMap<DnsName, u64>,
    /// That own endpoints were asked for.
    pub served: u64,
    pub services: BTreeMap<ServiceId, ServiceTotals>,
}

impl Totals {
    /// Rates over the time since `before`; of a service that was not there then, none.
    fn since(&self, before: &Self, seconds: f64, snapshot: &Snapshot) -> Load {
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let service = |(id, now): (&ServiceId, &ServiceTotals)| {
            let then = before.services.get(id)?;
            let endpoints = snapshot.services.get(id)?.endpoints.iter();
            let load = ServiceLoad {
                entered_rps: rate(now.entered, then.entered),
                served_rps: rate(now.served, then.served),
                shed_rps: rate(now.shed, then.shed),
                in_flight: endpoints.map(|status| status.endpoint.in_flight()).fold(0, u32::saturating_add),
            };
            Some((id.clone(), load))
        };
        let entered_rps = rate(self.entered, before.entered);
        let name = |(name, now): (&DnsName, &u64)| {
            Some((name.clone(), rate(*now, before.names.get(name).copied()?)))
        };
        Load {
            entered_rps,
            names: shared_out(entered_rps, self.names.iter().filter_map(name).collect()),
            served_rps: rate(self.served, before.served),
            services: self.services.iter().filter_map(service).collect(),
        }
    }
}

/// What entered, shared out among the names as they were asked for.
///
/// A host may be no name itself and point to one. Its requests are taken to be spread like the others; where
/// nobody asked for any name, evenly. So the names together have all that entered.
fn shared_out(entered_rps: f64, mut names: BTreeMap<DnsName, f64>) -> BTreeMap<DnsName, f64> {
    let sum: f64 = names.values().sum();
    let each = entered_rps / names.len().max(1) as f64;
    for rps in names.values_mut() {
        *rps = if sum > 0.0 { *rps / sum * entered_rps } else { each };
    }
    names
}

/// Runs the fleet until every input is gone, which only a stopping process does.
pub async fn run(fleet: Fleet, wiring: Wiring) {
    let Wiring { inputs, outcomes, .. } = &wiring;
    tracing::debug!(inputs = inputs.max_capacity(), outcomes = outcomes.max_capacity(), "control starts");
    let measured = (wiring.clock.now(), (wiring.load)(&wiring.snapshot.load()));
    Control { measured, fleet, lease: LeaseGate::default(), wiring }.run().await;
}

struct Control {
    fleet: Fleet,
    wiring: Wiring,
    lease: LeaseGate,
    /// When the load was last read, and what it was.
    measured: (Time, Totals),
}

impl Control {
    async fn run(mut self) {
        let mut inputs = Vec::with_capacity(BATCH);
        let mut outcomes = Vec::with_capacity(OUTCOMES);
        let (mut outcomes_open, mut outcomes_rest) = (true, Instant::now());
        let mut inquiries_open = true;
        let mut load_tick = interval(LOAD_INTERVAL);
        load_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Some(journal) = &mut self.wiring.journal {
            journal.begin(self.fleet.policy(), self.wiring.clock.now());
        }
        self.handle(Input::Tick);
        loop {
            let pause = self.pause();
            // Not biased: whichever of the ready branches comes is drawn, so none starves.
            tokio::select! {
                count = self.wiring.inputs.recv_many(&mut inputs, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    inputs.drain(..).for_each(|input| self.handle(input));
                }
                count = rested(outcomes_rest, &mut self.wiring.outcomes, &mut outcomes), if outcomes_open => {
                    outcomes_open = count > 0;
                    // A full turn means that more is waiting.
                    let pause = if count < OUTCOMES { OUTCOMES_PAUSE } else { Duration::ZERO };
                    outcomes_rest = Instant::now() + pause;
                    self.outcomes(&mut outcomes);
                }
                inquiry = self.wiring.inquiries.recv(), if inquiries_open => match inquiry {
                    Some(inquiry) => self.answer(inquiry),
                    None => inquiries_open = false,
                },
                () = sleep(pause) => self.handle(Input::Tick),
                _ = load_tick.tick() => self.measure(),
            }
        }
    }

    /// Whoever asked may have gone: then the answer is nobody's.
    fn answer(&self, inquiry: Inquiry) {
        let now = self.wiring.clock.now();
        match inquiry {
            Inquiry::Request { question, answer } => {
                answer.send(Box::new(self.fleet.explain(&question, now))).ok();
            }
            Inquiry::Name { name, answer } => {
                answer.send(self.fleet.explain_name(&name, now).map(Box::new)).ok();
            }
        }
    }

    fn outcomes(&mut self, outcomes: &mut Vec<OutcomeRun>) {
        self.wiring.metrics.outcomes_read(outcomes.len());
        let mut runs = Vec::new();
        outcomes.drain(..).for_each(|outcome| add_outcome(&mut runs, outcome));
        if !runs.is_empty() {
            self.handle(Input::Outcomes(runs));
        }
    }

    fn pause(&self) -> Duration {
        let now = self.wiring.clock.now();
        let left = self.fleet.deadline().map_or(Duration::ZERO, |deadline| deadline.since(now));
        left.clamp(WAIT_MIN, LOAD_INTERVAL)
    }

    fn measure(&mut self) {
        let now = self.wiring.clock.now();
        let seconds = now.since(self.measured.0).as_secs_f64();
        // The first tick of an interval comes at once: too short to tell a rate.
        if seconds < LOAD_INTERVAL.as_secs_f64() / 2.0 {
            return;
        }
        let snapshot = self.wiring.snapshot.load_full();
        let totals = (self.wiring.load)(&snapshot);
        let own = totals.since(&self.measured.1, seconds, &snapshot);
        self.measured = (now, totals);
        // Capacities are the region's, so what is compared with them is the region's, too.
        let region = self.wiring.board.measured(own, now);
        self.wiring.metrics.region_loaded(&region);
        let RegionLoad { load: Load { entered_rps, names, served_rps, services }, .. } = region;
        self.handle(Input::Load { entered_rps, names, served_rps, services });
    }

    /// Has the core take an input, after what has become of the lease since the last one.
    fn handle(&mut self, input: Input) {
        let now = self.wiring.clock.now();
        let permitted = self.wiring.ruling.borrow().permits(now);
        match input {
            Input::Lease(Lease { held }) => {
                let held = self.lease.claimed(held, permitted);
                self.take(Input::Lease(Lease { held }), now);
            }
            input => {
                if let Some(held) = self.lease.changed(permitted) {
                    self.take(Input::Lease(Lease { held }), now);
                }
                self.take(input, now);
            }
        }
    }

    fn take(&mut self, input: Input, now: Time) {
        self.wiring.heartbeat.beat(now);
        for output in self.turn(input, now) {
            match output {
                Output::Publish(snapshot) => {
                    let number = snapshot.number;
                    self.wiring.snapshot.store(snapshot);
                    self.wiring.published.send_replace(number);
                }
                Output::View(view) => self.wiring.view.store(view),
                Output::Propose(plan) => self.propose(plan),
                Output::Operated { id, result } => self.wiring.desk.judged(id, result),
                Output::Moved(transition) => {
                    self.wiring.metrics.moved(&transition);
                    log(&transition);
                }
            }
        }
        self.wiring.metrics.turned(self.wiring.clock.now().since(now));
    }

    /// Has the core take an input, and both journaled.
    fn turn(&mut self, input: Input, now: Time) -> Vec<Output> {
        let Some(journal) = &mut self.wiring.journal else { return self.fleet.handle(input, now) };
        let taken = journal.take(&input);
        let outputs = self.fleet.handle(input, now);
        journal.turned(now, taken, &outputs);
        journal.keep_up(&self.fleet, now);
        outputs
    }

    fn propose(&self, mut plan: Plan) {
        let (name, reason) = (plan.name.clone(), plan.reason);
        // Nothing is written when the hold that it was made under is over.
        if let Ruling::Hold { until } = *self.wiring.ruling.borrow() {
            plan.expires_at = plan.expires_at.min(until);
        }
        let taken = match self.wiring.plans.try_send(plan) {
            Ok(()) => {
                tracing::info!(%name, ?reason, "plan proposed");
                true
            }
            // The fleet proposes again when the plan has expired.
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                tracing::warn!(%name, ?reason, "plan dropped: the DNS side is busy or gone");
                false
            }
        };
        self.wiring.metrics.proposed(taken);
    }
}

/// Whether the core may believe that this pod speaks for its region.
///
/// The word of the siblings' task comes through a queue. A process that was stopped for a while must know
/// before its next decision that the Lease may be another's by now.
#[derive(Debug)]
struct LeaseGate {
    claimed: bool,
    /// What the core was told last.
    held: bool,
}

impl Default for LeaseGate {
    /// As the core begins.
    fn default() -> Self {
        Self { claimed: true, held: true }
    }
}

impl LeaseGate {
    /// What the core is told of a word of the siblings' task.
    const fn claimed(&mut self, held: bool, permitted: bool) -> bool {
        self.claimed = held;
        self.held = held && permitted;
        self.held
    }

    /// What the core must be told before anything else.
    fn changed(&mut self, permitted: bool) -> Option<bool> {
        let held = self.claimed && permitted;
        (std::mem::replace(&mut self.held, held) != held).then_some(held)
    }
}

/// Outcomes that came until `rest`, or the first ones after it; none when there will be no more.
async fn rested(
    rest: Instant,
    outcomes: &mut mpsc::Receiver<OutcomeRun>,
    into: &mut Vec<OutcomeRun>,
) -> usize {
    sleep_until(rest).await;
    outcomes.recv_many(into, OUTCOMES).await
}

/// Ejections and moves of users are what an operator is woken for; the rest is information.
fn log(transition: &Transition) {
    use crate::domain::health::{EjectionReason, State};
    match transition {
        Transition::Service { service, region, from, to } => {
            let (from, to) = (from.as_str(), to.as_str());
            if to == State::Ejected.as_str() {
                tracing::warn!(%service, %region, from, to, "service changed state");
            } else {
                tracing::info!(%service, %region, from, to, "service changed state");
            }
        }
        Transition::Endpoint { service, address, from, to, ejected } => {
            let (from, to, reason) = (from.as_str(), to.as_str(), ejected.map(EjectionReason::as_str));
            tracing::info!(%service, %address, from, to, reason, "endpoint changed state");
        }
        Transition::Vote { name, region, from, to } => {
            tracing::info!(%name, %region, ?from, ?to, "own vote changed");
        }
        Transition::Verdict { name, region, from, to } => {
            let from = from.map(crate::domain::votes::Verdict::as_str);
            tracing::info!(%name, %region, from, to = to.as_str(), "verdict changed");
        }
        Transition::Refused { name, refusal: Some(rule) } => {
            tracing::warn!(%name, rule = rule.as_str(), "a DNS change is held back");
        }
        Transition::Refused { name, refusal: None } => tracing::info!(%name, "no DNS change is held back"),
        Transition::Gate { name, closed: true } => {
            tracing::warn!(%name, "gate closed: Route 53 is asked to leave this region");
        }
        Transition::Gate { name, closed: false } => tracing::info!(%name, "gate open"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_enters_is_shared_out_among_the_names_that_were_asked_for() {
        let name = |text: &str| DnsName::parse(text).unwrap();
        let names = |a: f64, b: f64| BTreeMap::from([(name("a.test"), a), (name("b.test"), b)]);
        assert_eq!(shared_out(90.0, names(60.0, 30.0)), names(60.0, 30.0));
        // 30 a second asked for hosts that point to one of the names.
        assert_eq!(shared_out(120.0, names(60.0, 30.0)), names(80.0, 40.0));
        assert_eq!(shared_out(10.0, names(0.0, 0.0)), names(5.0, 5.0), "nobody asked for a name");
        assert_eq!(shared_out(10.0, BTreeMap::new()), BTreeMap::new());
    }

    #[test]
    fn a_hold_that_is_over_is_told_before_anything_else_and_one_that_is_renewed_again() {
        let mut gate = LeaseGate::default();
        assert!(!gate.claimed(false, false));
        assert_eq!(gate.changed(true), None, "nobody claims it");
        assert!(!gate.claimed(true, false), "a word that was queued before the hold was over");
        assert_eq!(gate.changed(false), None);
        assert_eq!(gate.changed(true), Some(true), "renewed before the siblings' task saw it");
        assert_eq!(gate.changed(true), None);
        assert_eq!(gate.changed(false), Some(false), "over");
        assert_eq!(gate.changed(false), None);
    }
}
