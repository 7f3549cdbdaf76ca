//! Operators' acts on their way into the control records.
//!
//! One fenced batch that changes the control record alone: DELETE as read, CREATE the next
//! generation. Acts are commands, so a conflict or a lost answer needs no settling: the record
//! is read again, they are applied again, and when nothing is left to change, it holds them.

use super::api::Api;
use super::batch::{BatchError, advance};
use super::control_record::{ControlRecord, control_name};
use super::error::{ApiError, ErrorKind};
use super::layout::Layout;
use super::pace::{Backoff, Rank};
use super::provider::Provider;
use super::reader::{ReadError, parse_control};
use crate::clock::wall_clock;
use crate::domain::fleet::{DnsReport, Input};
use crate::domain::name::{DnsName, RegionId};
use crate::domain::operator::OperatorAct;
use crate::domain::plan::{Fence, Generation};
use crate::error_chain::chain;
use crate::operators::{Desk, Pending};
use aws_sdk_route53::types::RrType;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// Longest time that a change is followed.
const INSYNC_MAX: Duration = Duration::from_secs(600);

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The record holds all of it already.
    Held(Generation),
    /// Accepted, PENDING.
    Submitted { generation: Generation, change_id: String },
}

/// Why the acts are not in the record; nothing else was changed.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl OperateError {
    /// Whether another attempt may end better by itself.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Read(ReadError::Api(error)) | Self::Api(error) => {
                error.kind.may_pass() || matches!(error.kind, ErrorKind::Conflict)
            }
            Self::Read(_) | Self::Batch(_) => false,
        }
    }
}

/// Reads a name's control record and writes it with the acts applied, if they change it.
///
/// `changed_at` stays: it dates the last change of weights, from which the hold-down counts.
///
/// # Errors
/// Those of reading and writing; a lost answer among them. Trying again is always safe.
pub async fn write(
    api: &Api,
    layout: &Layout,
    own: &RegionId,
    acts: &[OperatorAct<Duration>],
) -> Result<Step, OperateError> {
    let name = control_name(&layout.name);
    let found = api.record(&name, RrType::Txt).await?;
    let (control, set) = parse_control(&name, found.as_ref())?;
    let mut operator = control.operator.clone();
    for act in acts {
        operator.apply(act);
    }
    operator.prune(wall_clock());
    if operator == control.operator {
        return Ok(Step::Held(control.fence.generation));
    }
    let generation = control.fence.generation.next();
    let next = ControlRecord {
        fence: Fence { epoch: control.fence.epoch.clone(), generation },
        writer: Some(own.clone()),
        plan: None,
        changed_at: control.changed_at,
        operator,
    };
    let changes = advance(layout, set, &next)?;
    let comment = format!("proxima {own} operator generation {}", generation.get());
    let change_id = api.change(api.turn().await, changes, &comment).await?;
    Ok(Step::Submitted { generation, change_id })
}

/// A change of operators' words that Route 53 has accepted: to be followed until it is INSYNC.
#[derive(Debug)]
pub(super) struct Operated {
    provider: Arc<Provider>,
    name: DnsName,
    generation: Generation,
    change_id: String,
}

/// Writes whatever waits at the desk, until the core is gone; `operated`: what was accepted of it, which is
/// followed whatever the configuration says meanwhile.
pub(super) async fn carry(
    provider: Arc<Provider>,
    desk: Arc<Desk>,
    inputs: mpsc::Sender<Input>,
    operated: mpsc::Sender<Operated>,
) {
    let mut pending = desk.pending();
    let mut backoff = Backoff::default();
    loop {
        let waiting = Arc::clone(&pending.borrow_and_update());
        let mut failed = false;
        for (name, acts) in by_name(&waiting) {
            match attempt(&provider, &name, &acts).await {
                Ok(step) => {
                    let (generation, in_sync) = match &step {
                        Step::Held(generation) => (*generation, None),
                        Step::Submitted { generation, .. } => (*generation, Some(false)),
                    };
                    info!(%name, generation = generation.get(), acts = acts.len(), "operators' acts are written");
                    let ids: Vec<u64> = acts.iter().map(|act| act.id).collect();
                    desk.written(&name, &ids, generation, in_sync).await;
                    for id in ids {
                        let report = DnsReport::Operated { name: name.clone(), id, generation };
                        if inputs.send(Input::Dns(report)).await.is_err() {
                            return;
                        }
                    }
                    provider.nudge.notify_one();
                    if let Step::Submitted { generation, change_id } = step {
                        let provider = Arc::clone(&provider);
                        let change = Operated { provider, name, generation, change_id };
                        if operated.send(change).await.is_err() {
                            return;
                        }
                    }
                }
                Err(why) => {
                    failed = true;
                    warn!(%name, acts = acts.len(), "operators' acts are not written yet: {why}");
                    desk.delayed(&name, &why);
                }
            }
        }
        if !failed {
            backoff = Backoff::default();
        }
        let pause = backoff.pause();
        tokio::select! {
            changed = pending.changed() => if changed.is_err() { return },
            () = sleep(pause), if failed => {}
        }
    }
}

async fn attempt(
    provider: &Provider,
    name: &DnsName,
    acts: &[OperatorAct<Duration>],
) -> Result<Step, String> {
    let layout = provider.layout(name).ok_or_else(|| format!("{name} has no layout in the configuration"))?;
    let api = provider.api.in_zone(&layout.zone_id).ranked(Rank::Write);
    let written = write(&api, layout, &provider.policy.own, acts).await;
    written.map_err(|error| chain(&error))
}

fn by_name(waiting: &[Pending]) -> BTreeMap<DnsName, Vec<OperatorAct<Duration>>> {
    let mut names: BTreeMap<DnsName, Vec<OperatorAct<Duration>>> = BTreeMap::new();
    for pending in waiting {
        names.entry(pending.name.clone()).or_default().push(pending.act.clone());
    }
    names
}

/// Asks for the change until it is INSYNC.
pub(super) async fn follow(operated: Operated, desk: Arc<Desk>) {
    let Operated { provider, name, generation, change_id } = operated;
    let accepted = Instant::now();
    let api = provider.api.ranked(Rank::Write);
    while accepted.elapsed() < INSYNC_MAX {
        match api.in_sync(&change_id).await {
            Ok(true) => return desk.in_sync(&name, generation),
            Ok(false) => {}
            Err(error) if error.kind.may_pass() => {}
            Err(error) => return warn!(%name, change_id, "no longer followed to INSYNC: {}", chain(&error)),
        }
        sleep(provider.dns.insync_poll).await;
    }
    warn!(%name, change_id, "not INSYNC after {} s", INSYNC_MAX.as_secs());
}
