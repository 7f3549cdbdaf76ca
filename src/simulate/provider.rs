//! The DNS side of one edge, as the `route53` provider runs it: a loop that
//! reads, and a task a plan that reads again, submits, and settles lost answers.

use super::event::{Edgewise, Event};
use super::invariants::{Applied, Held, Violation};
use super::run::{Process, Run};
use super::store::{Answer, Sent, Stored};
use crate::domain::fleet::{DnsReport, Input};
use crate::domain::name::DnsName;
use crate::domain::operator::{Freeze, OperatorState};
use crate::domain::plan::{Generation, NameState, Plan, Reason};
use crate::domain::time::Time;
use crate::domain::votes::Witness;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A step of a call to the API; calls are numbered within a process.
#[derive(Debug)]
pub(super) enum ApiEvent {
    Poll,
    TimedOut(u64),
    /// The API answered with `Throttling`: nothing was done.
    Throttled(u64),
    /// At the API: read everything.
    Read(u64),
    ReadDone(u64, Box<Reading>),
    /// At the API: change.
    Submit(u64, Arc<Plan>, Sent),
    SubmitDone(u64, Answer),
    /// A task's pause is over.
    Resume(u64),
    InSync(DnsName, Generation),
}

/// What one read finds.
#[derive(Debug)]
pub(super) struct Reading {
    names: Vec<Stored>,
    witnesses: Vec<Witness>,
}

/// One edge's DNS side.
#[derive(Debug, Default)]
pub(super) struct Provider {
    calls: u64,
    /// The loop's call, and whether it shall read again at once.
    reading: Option<u64>,
    nudged: bool,
    /// A conflict was told since the call: its answer may be older than that.
    outdated: bool,
    /// Plans under way, by the number of the call or pause that they wait for.
    tasks: BTreeMap<u64, Task>,
}

#[derive(Debug)]
struct Task {
    plan: Arc<Plan>,
    proposed: Time,
    stage: Stage,
    pauses: u32,
    /// The batch, once built: when, by the harness's clock, and by the wall.
    batch: Option<Sent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Reads what the plan is conditional on.
    Preparing,
    Submitting,
    /// Reads what became of a batch.
    Settling(Batch),
    Pausing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batch {
    Unanswered,
    Refused,
}

/// How a plan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Accepted,
    Conflict,
    Expired,
}

impl Run<'_> {
    /// Takes a plan from `Fleet`.
    pub(super) fn write(&mut self, edge: usize, plan: Plan) -> Held {
        let task = Task {
            plan: Arc::new(plan),
            proposed: self.now,
            stage: Stage::Preparing,
            pauses: 0,
            batch: None,
        };
        self.go_on(edge, task)
    }

    pub(super) fn dns(&mut self, edge: usize, what: ApiEvent) -> Held {
        match what {
            ApiEvent::Poll => {
                let after = self.dice[edge].jitter(self.cast.pace.dns_poll);
                self.of(edge, after, Edgewise::Dns(ApiEvent::Poll));
                self.read_next(edge);
                Ok(())
            }
            ApiEvent::InSync(name, generation) => self.report(edge, DnsReport::InSync { name, generation }),
            ApiEvent::Resume(call) => match self.task(edge, call) {
                Some(task) => self.go_on(edge, task),
                None => Ok(()),
            },
            ApiEvent::ReadDone(call, reading) => match self.task(edge, call) {
                Some(task) => self.task_read(edge, task, &reading),
                None if self.ends_reading(edge, call) => self.read_done(edge, &reading),
                None => Ok(()),
            },
            ApiEvent::SubmitDone(call, answer) => match (self.task(edge, call), answer) {
                (Some(task), Answer::Applied) => self.finish(edge, &task, Written::Accepted),
                (Some(task), Answer::Conflict) => self.settle(edge, task, Batch::Refused),
                (None, _) => Ok(()),
            },
            ApiEvent::TimedOut(call) => match self.task(edge, call) {
                Some(task) if task.stage == Stage::Submitting => {
                    self.count("unanswered batches");
                    self.settle(edge, task, Batch::Unanswered)
                }
                Some(task) => self.pause(edge, task),
                None if self.ends_reading(edge, call) => self.read_failed(edge),
                None => Ok(()),
            },
            ApiEvent::Throttled(call) => match self.task(edge, call) {
                Some(task) => self.pause(edge, task),
                None if self.ends_reading(edge, call) => self.read_failed(edge),
                None => Ok(()),
            },
            ApiEvent::Read(_) | ApiEvent::Submit(..) => Ok(()),
        }
    }

    /// A call reaches the API; its sender may be gone by now.
    pub(super) fn at_api(&mut self, edge: usize, boot: u64, what: ApiEvent) -> Held {
        let back = self.api_delay(edge);
        let region = self.cast.region_of(edge);
        let lost = !self.world.reaches_api(region);
        let throttled = self.dice[edge].chance(self.world.throttled_percent);
        let done = match what {
            ApiEvent::Read(call) | ApiEvent::Submit(call, ..) if throttled => {
                self.count("throttled calls");
                (!lost).then_some(ApiEvent::Throttled(call))
            }
            ApiEvent::Read(call) => {
                let witness = |region: usize| match self.world.green(region, self.now) {
                    _ if self.world.blind[region] => Witness::Unknown,
                    true => Witness::Green,
                    false => Witness::Red,
                };
                let witnesses =
                    (0..self.cast.regions.len()).map(|r| self.seams.witness(r, witness(r))).collect();
                let reading = Reading { names: self.store.names.clone(), witnesses };
                (!lost).then(|| ApiEvent::ReadDone(call, Box::new(reading)))
            }
            ApiEvent::Submit(call, plan, sent) => {
                let answer = self.change(edge, &plan, sent)?;
                let lost = lost || self.world.answers_lost[region];
                if answer == Answer::Applied {
                    let waits = |p: &Process| p.boot == boot && p.provider.tasks.contains_key(&call);
                    if !self.edges[edge].as_ref().is_some_and(waits) {
                        self.count("late writes");
                    }
                    if lost {
                        self.count("lost answers");
                    }
                }
                (!lost).then_some(ApiEvent::SubmitDone(call, answer))
            }
            _ => None,
        };
        if let Some(done) = done {
            self.schedule(self.now + back, Event::Of { edge, boot, what: Edgewise::Dns(done) });
        }
        Ok(())
    }

    fn change(&mut self, edge: usize, plan: &Plan, sent: Sent) -> Result<Answer, Violation> {
        // A name that the world does not have has no records to match.
        let Some(name) = self.cast.name(&plan.name) else { return Ok(Answer::Conflict) };
        let before = self.store.names[name].clone();
        let answer = self.store.submit(name, plan, sent);
        self.note_dns(edge, || format!("{answer:?} {plan:?}"));
        if answer == Answer::Conflict {
            self.count("conflicts");
            return Ok(answer);
        }
        self.count(match plan.reason {
            Reason::Evacuation => "evacuations",
            Reason::Ramp => "ramps",
        });
        self.propagate(name);
        self.recorder.changed(self.now, name, plan, &self.store.names[name]);
        let mut invariants = std::mem::take(&mut self.invariants);
        let held = invariants.applied(&self.truth(), &Applied { name, before: &before, plan, sent });
        self.invariants = invariants;
        held.map(|()| answer)
    }

    /// Opens a call: it goes out now and is given up after the API's timeout.
    fn call(&mut self, edge: usize, what: impl FnOnce(u64) -> ApiEvent) -> u64 {
        let Some(process) = &mut self.edges[edge] else { return 0 };
        process.provider.calls += 1;
        let (call, boot) = (process.provider.calls, process.boot);
        let region = self.cast.region_of(edge);
        if self.world.reaches_api(region) {
            let what = what(call);
            let hangs = match what {
                ApiEvent::Submit(..) => self.world.delayed[region],
                _ => Duration::ZERO,
            };
            let at = self.now + self.api_delay(edge) + hangs;
            self.schedule(at, Event::AtApi { edge, boot, what });
        }
        self.of(edge, self.cast.pace.api_timeout, Edgewise::Dns(ApiEvent::TimedOut(call)));
        call
    }

    fn api_delay(&mut self, edge: usize) -> Duration {
        let pace = &self.cast.pace;
        let (from, to) = if self.world.api_slow { pace.api_slow_ms } else { pace.api_ms };
        self.dice[edge].between(from, to)
    }

    fn provider(&mut self, edge: usize) -> Option<&mut Provider> {
        self.edges[edge].as_mut().map(|p| &mut p.provider)
    }

    fn report(&mut self, edge: usize, report: DnsReport) -> Held {
        self.feed(edge, Input::Dns(report))
    }
}

/// The loop that reads.
impl Run<'_> {
    fn read_next(&mut self, edge: usize) {
        let Some(provider) = self.provider(edge) else { return };
        if provider.reading.is_some() {
            return;
        }
        (provider.nudged, provider.outdated) = (false, false);
        let call = self.call(edge, ApiEvent::Read);
        if let Some(provider) = self.provider(edge) {
            provider.reading = Some(call);
        }
    }

    /// Asks for a read that begins from now on.
    fn nudge(&mut self, edge: usize) {
        if let Some(provider) = self.provider(edge) {
            provider.nudged = true;
        }
        self.read_next(edge);
    }

    fn ends_reading(&mut self, edge: usize, call: u64) -> bool {
        let Some(provider) = self.provider(edge).filter(|p| p.reading == Some(call)) else { return false };
        provider.reading = None;
        true
    }

    fn read_done(&mut self, edge: usize, reading: &Reading) -> Held {
        for (index, witness) in reading.witnesses.iter().enumerate() {
            let region = self.cast.regions[index].clone();
            self.report(edge, DnsReport::Witness { region, witness: *witness })?;
        }
        let outdated = self.provider(edge).is_some_and(|p| p.outdated);
        for (index, stored) in reading.names.iter().enumerate().filter(|_| !outdated) {
            let name = self.cast.names[index].name.clone();
            let state = self.name_state(edge, stored);
            self.report(edge, DnsReport::Read { name, state: Box::new(state) })?;
        }
        if self.provider(edge).is_some_and(|p| p.nudged) {
            self.read_next(edge);
        }
        Ok(())
    }

    /// The records stay as last read; the witnesses are no longer known.
    fn read_failed(&mut self, edge: usize) -> Held {
        for region in 0..self.cast.regions.len() {
            let region = self.cast.regions[region].clone();
            self.report(edge, DnsReport::Witness { region, witness: Witness::Unknown })?;
        }
        Ok(())
    }

    /// A region's wall clock is off by a constant of its own, and by what a fault adds.
    pub(super) fn skew(&self, edge: usize) -> Duration {
        let region = self.cast.region_of(edge);
        let constant = ((self.scenario.seed >> (region % 32 * 2)) % 4) as f64 / 3.0;
        self.cast.pace.skew.mul_f64(constant) + self.world.skew[region]
    }

    fn name_state(&self, edge: usize, stored: &Stored) -> NameState {
        let origin = self.edges[edge].as_ref().map_or(Duration::ZERO, |p| p.origin);
        NameState {
            fence: stored.fence.clone(),
            writer: stored.writer.clone(),
            changed_at: stored.stamp.map(|at| at.before(self.skew(edge)) + origin),
            claim: stored.stamp.map(|at| at.since(Time::ZERO)),
            operator: OperatorState {
                freeze: stored.frozen.then(Freeze::default),
                ..OperatorState::draining(stored.drains.clone())
            },
            sets: stored.sets.clone(),
        }
    }
}

/// A plan under way.
impl Run<'_> {
    fn task(&mut self, edge: usize, call: u64) -> Option<Task> {
        self.provider(edge)?.tasks.remove(&call)
    }

    fn wait(&mut self, edge: usize, call: u64, task: Task) {
        if let Some(provider) = self.provider(edge) {
            provider.tasks.insert(call, task);
        }
    }

    fn expires_in(&self, edge: usize, task: &Task) -> Duration {
        let origin = self.edges[edge].as_ref().map_or(Duration::ZERO, |p| p.origin);
        task.plan.expires_at.since(self.now + origin)
    }

    /// Prepares or, with a batch at hand, submits it (again): only one of them can find its fence.
    fn go_on(&mut self, edge: usize, mut task: Task) -> Held {
        if self.expires_in(edge, &task).is_zero() && self.seams.heeds_expiry() {
            return self.finish(edge, &task, Written::Expired);
        }
        let call = match task.batch {
            None => {
                task.stage = Stage::Preparing;
                self.call(edge, ApiEvent::Read)
            }
            Some(sent) => {
                let left = self.expires_in(edge, &task);
                self.invariants.submitted(&self.truth(), edge, &task.plan, task.proposed, left)?;
                task.stage = Stage::Submitting;
                let plan = Arc::clone(&task.plan);
                self.call(edge, |call| ApiEvent::Submit(call, plan, sent))
            }
        };
        self.wait(edge, call, task);
        Ok(())
    }

    fn settle(&mut self, edge: usize, mut task: Task, batch: Batch) -> Held {
        task.stage = Stage::Settling(batch);
        let call = self.call(edge, ApiEvent::Read);
        self.wait(edge, call, task);
        Ok(())
    }

    fn task_read(&mut self, edge: usize, mut task: Task, reading: &Reading) -> Held {
        let Some(stored) = self.cast.name(&task.plan.name).map(|name| &reading.names[name]) else {
            return self.finish(edge, &task, Written::Conflict);
        };
        let stands = stored.fence == task.plan.fence;
        let ours = stored.plan_hash == Some(task.plan.hash())
            && stored.fence.generation == task.plan.fence.generation.next();
        let as_read = task.plan.changes.iter().all(|(entry, c)| stored.sets.get(entry) == Some(&c.from));
        match task.stage {
            Stage::Settling(Batch::Unanswered) if stands => self.pause(edge, task),
            Stage::Settling(_) if ours => self.finish(edge, &task, Written::Accepted),
            Stage::Preparing if stands && as_read => {
                let stamp = self.now + self.skew(edge);
                task.batch = Some(Sent { proposed: task.proposed, stamp });
                self.go_on(edge, task)
            }
            _ => self.finish(edge, &task, Written::Conflict),
        }
    }

    fn pause(&mut self, edge: usize, mut task: Task) -> Held {
        let pause = self.dice[edge].jitter(Duration::from_millis(200 << task.pauses.min(4)));
        if pause >= self.expires_in(edge, &task) && self.seams.heeds_expiry() {
            return self.finish(edge, &task, Written::Expired);
        }
        task.pauses += 1;
        task.stage = Stage::Pausing;
        let Some(provider) = self.provider(edge) else { return Ok(()) };
        provider.calls += 1;
        let call = provider.calls;
        self.wait(edge, call, task);
        self.of(edge, pause, Edgewise::Dns(ApiEvent::Resume(call)));
        Ok(())
    }

    fn finish(&mut self, edge: usize, task: &Task, written: Written) -> Held {
        let (name, expires_at) = (task.plan.name.clone(), task.plan.expires_at);
        self.note_dns(edge, || format!("{written:?}, told to the fleet"));
        match written {
            Written::Accepted => {
                let generation = task.plan.fence.generation.next();
                let (from, to) = self.cast.pace.insync_ms;
                let after = self.dice[edge].between(from, to);
                self.of(edge, after, Edgewise::Dns(ApiEvent::InSync(name.clone(), generation)));
                self.report(edge, DnsReport::Submitted { name, generation })?;
            }
            Written::Conflict => {
                self.invariants.conflicted(edge, &task.plan, self.now);
                self.count("refused plans");
                if !self.seams.heeds_conflicts() {
                    let plan = Arc::clone(&task.plan);
                    let sent = Sent { proposed: task.proposed, stamp: self.now + self.skew(edge) };
                    let batch = task.batch.or(Some(sent));
                    let again = Task { plan, batch, stage: Stage::Pausing, ..*task };
                    return self.pause(edge, again);
                }
                if let Some(provider) = self.provider(edge) {
                    provider.outdated = true;
                }
                self.report(edge, DnsReport::Conflict { name, expires_at })?;
            }
            Written::Expired => {
                self.count("expired plans");
                return self.report(edge, DnsReport::Failed { name, expires_at });
            }
        }
        // The core waits for a reading after each of these; failures wait for the next poll.
        self.nudge(edge);
        Ok(())
    }
}
