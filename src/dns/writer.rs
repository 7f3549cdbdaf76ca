//! Carries out one plan: reads again, checks the fence, submits one batch, settles what got lost.

use super::api::Api;
use super::batch::{BatchError, fenced};
use super::checks::Checks;
use super::error::{ApiError, ErrorKind};
use super::layout::Layout;
use super::pace::Backoff;
use super::reader::{ReadError, Reading, read, read_control};
use super::wall::wall_clock;
use crate::clock::Clock;
use crate::domain::plan::{Generation, Plan};
use crate::error_chain::chain;
use tokio::time::sleep;

/// Readings that must tell what became of a batch before it is given up.
const LAST_LOOKS_MAX: usize = 5;

/// How a plan ended.
#[derive(Debug, Clone)]
pub enum Written {
    /// Accepted, PENDING.
    Accepted { generation: Generation, change_id: String },
    /// Found applied after its answer was lost; there is no id to ask INSYNC by.
    Settled { generation: Generation },
    /// Someone else's change came first, or the records are not those of the plan.
    Conflict(String),
    /// Not applied before the plan expired; why not sooner.
    Expired(String),
    /// Not written: the zone or a health check of the records does not exist any more.
    Gone(String),
    /// Not written for another reason.
    Failed(String),
}

impl Written {
    /// The result as metrics spell it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Settled { .. } => "settled",
            Self::Conflict(_) => "conflict",
            Self::Expired(_) => "expired",
            Self::Gone(_) | Self::Failed(_) => "failed",
        }
    }
}

/// Everything that carrying out a plan needs.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// At the rank of writes.
    pub api: &'a Api,
    pub layout: &'a Layout,
    pub checks: &'a Checks,
    pub clock: &'a Clock,
}

/// What one attempt led to.
enum Step {
    Done(Written),
    /// Nothing was done; the same batch may be sent again after a pause.
    Later(ApiError),
    /// It may have been done.
    Unsure(ApiError),
    /// Refused as it is; or it was done before, and this is the echo of an answer that got lost.
    Refused(ApiError),
}

impl Writer<'_> {
    /// Submits `plan` unless it expired or its fence is gone.
    ///
    /// Before every attempt the plan is checked for its expiry. Sending its
    /// batch again is safe: only one of them can find the fence it deletes.
    /// An attempt without a clear answer is looked for once more before the plan is given up.
    pub async fn submit(&self, plan: &Plan) -> Written {
        let mut doubt = false;
        match self.carry_out(plan, &mut doubt).await {
            Written::Expired(why) if doubt => self.last_look(plan, why, Written::Expired).await,
            Written::Gone(why) if doubt => self.last_look(plan, why, Written::Gone).await,
            Written::Failed(why) if doubt => self.last_look(plan, why, Written::Failed).await,
            written => written,
        }
    }

    /// Reads whether a batch without a clear answer was applied; else it is given up.
    async fn last_look(&self, plan: &Plan, why: String, given_up: fn(String) -> Written) -> Written {
        let mut backoff = Backoff::default();
        let mut unread = String::new();
        for _ in 0..LAST_LOOKS_MAX {
            match self.settle(plan).await {
                Ok(Some(written)) => return written,
                Ok(None) => return given_up(why),
                Err(error) => unread = error.to_string(),
            }
            sleep(backoff.pause()).await;
        }
        given_up(format!("{why}; it may have been applied, the records cannot be read: {unread}"))
    }

    /// Attempts until there is an answer; `doubt` tells of an attempt that got no clear one.
    async fn carry_out(&self, plan: &Plan, doubt: &mut bool) -> Written {
        let mut backoff = Backoff::default();
        let mut last = "it came too late".to_owned();
        let mut ground = None;
        loop {
            if self.expired(plan) {
                return Written::Expired(last);
            }
            let step = match &ground {
                None => match self.prepare(plan).await {
                    Ok(reading) => {
                        ground = Some(reading);
                        continue;
                    }
                    Err(step) => step,
                },
                Some(reading) => self.attempt(plan, reading).await,
            };
            let error = match step {
                Step::Done(written) => return written,
                Step::Later(error) => error,
                Step::Unsure(error) => {
                    *doubt = true;
                    match self.settle(plan).await {
                        Ok(Some(written)) => return written,
                        Ok(None) => error,
                        Err(why) => why,
                    }
                }
                Step::Refused(error) => match self.settle(plan).await {
                    Ok(Some(written)) => return written,
                    Ok(None) => return Written::Conflict(error.detail),
                    Err(why) => why,
                },
            };
            last = error.to_string();
            let pause = backoff.pause();
            if self.clock.now() + pause >= plan.expires_at {
                return Written::Expired(last);
            }
            sleep(pause).await;
        }
    }

    fn expired(&self, plan: &Plan) -> bool {
        self.clock.now() >= plan.expires_at
    }

    /// Reads again: the batch is built on exactly that.
    async fn prepare(&self, plan: &Plan) -> Result<Reading, Step> {
        let reading = match read(self.api, self.layout, self.checks, self.clock).await {
            Ok(reading) => reading,
            Err(ReadError::Api(error)) if error.kind.may_pass() => return Err(Step::Later(error)),
            // Hand edits and the like: what the plan was made for is not there any more.
            Err(error @ (ReadError::Records(_) | ReadError::Torn)) => {
                return Err(Step::Done(Written::Conflict(error.to_string())));
            }
            Err(error) => return Err(Step::Done(Written::Failed(chain(&error)))),
        };
        if reading.state.fence != plan.fence {
            return Err(Step::Done(self.lost_fence(plan, &reading)));
        }
        Ok(reading)
    }

    fn lost_fence(&self, plan: &Plan, reading: &Reading) -> Written {
        let fence = &reading.state.fence;
        Written::Conflict(format!(
            "the plan is for generation {} of epoch {}, the control record has {} of {}",
            plan.fence.generation.get(),
            plan.fence.epoch,
            fence.generation.get(),
            fence.epoch,
        ))
    }

    /// Each attempt carries its own time: a batch that is sent again later would else make its
    /// change look older than it is, and the hold-down after it shorter.
    async fn attempt(&self, plan: &Plan, reading: &Reading) -> Step {
        let generation = plan.fence.generation.next();
        let comment = format!("proxima {} generation {}", plan.writer, generation.get());
        let turn = self.api.turn().await;
        // The turn may have come late.
        if self.expired(plan) {
            return Step::Done(Written::Expired("it waited for its turn".to_owned()));
        }
        let changes = match fenced(self.layout, self.checks, reading, plan, wall_clock()) {
            Ok(changes) => changes,
            Err(error @ BatchError::Stale { .. }) => return Step::Done(Written::Conflict(error.to_string())),
            Err(error) => return Step::Done(Written::Failed(chain(&error))),
        };
        match self.api.in_zone(&self.layout.zone_id).change(turn, changes, &comment).await {
            Ok(change_id) => Step::Done(Written::Accepted { generation, change_id }),
            Err(error) => match error.kind {
                ErrorKind::Throttled => Step::Later(error),
                ErrorKind::Unanswered => Step::Unsure(error),
                ErrorKind::Conflict => Step::Refused(error),
                ErrorKind::Missing => Step::Done(Written::Gone(error.to_string())),
                _ => Step::Done(Written::Failed(error.to_string())),
            },
        }
    }

    /// What became of a batch without a clear answer, by epoch, generation, writer and plan hash.
    ///
    /// `None`: the fence still stands, so the batch was not applied, or not yet.
    async fn settle(&self, plan: &Plan) -> Result<Option<Written>, ApiError> {
        let control = match read_control(self.api, self.layout).await {
            Ok(control) => control,
            Err(ReadError::Api(error)) => return Err(error),
            Err(error) => return Ok(Some(Written::Conflict(chain(&error)))),
        };
        if control.fence == plan.fence {
            return Ok(None);
        }
        let generation = plan.fence.generation.next();
        let ours = control.fence.epoch == plan.fence.epoch
            && control.fence.generation == generation
            && control.writer.as_ref() == Some(&plan.writer)
            && control.plan == Some(plan.hash());
        Ok(Some(if ours {
            Written::Settled { generation }
        } else {
            Written::Conflict(format!(
                "generation {} was written by {}",
                control.fence.generation.get(),
                control.writer.as_ref().map_or("the bootstrap", |writer| writer.as_str()),
            ))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_know_every_result() {
        let generation = Generation::new(1);
        let results = [
            Written::Accepted { generation, change_id: String::new() },
            Written::Settled { generation },
            Written::Conflict(String::new()),
            Written::Expired(String::new()),
            Written::Failed(String::new()),
        ];
        assert_eq!(results.map(|written| written.as_str()), crate::metrics::dns::CHANGE_RESULTS);
    }
}
