//! The `route53` provider: reads names and witnesses, writes plans, fenced.
//!
//! It decides nothing: what is read goes to the core as inputs, what the core
//! plans is written exactly or not at all. Every change is one batch on the
//! control record as it was read ([`batch`]), so that of two writers one wins.
//! Any failure leaves the last good state.
//!
//! # Limits
//! Route 53 takes five requests a second for a whole account. An edge reads at its
//! share of them (`dns.requests_per_second` by the number of regions), whatever
//! `dns.poll` says; it asks at each poll for the witnesses of regions that are in
//! doubt, and for one other by turns. Each process reads for itself: two edges of
//! one region take two shares.

pub mod access;
pub mod answers;
pub mod api;
pub mod apply;
pub mod ask;
pub mod batch;
pub mod checks;
pub mod control_record;
pub mod diff;
pub mod error;
mod execute;
pub mod layout;
pub mod operate;
pub mod pace;
mod poll;
pub mod provider;
pub mod reader;
mod render;
pub mod rights;
mod seen;
pub mod show;
pub mod survey;
mod trouble;
pub mod verify;
pub mod witness;
pub mod writer;

use crate::aws::Sessions;
use crate::clock::Clock;
use crate::config::{Config, DnsMode};
use crate::domain::fleet::Input;
use crate::domain::plan::Plan;
use crate::domain::snapshot::Snapshot;
use crate::metrics::dns::DnsMetrics;
use crate::operators::Desk;
use arc_swap::ArcSwap;
use execute::{Pending, execute, follow};
use operate::Operated;
use provider::Provider;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::{error, info, warn};

/// Plans in work at once; more wait in the channel.
const SUBMISSIONS_MAX: usize = 8;
/// Changes followed to INSYNC at once; further ones are only not timed.
const FOLLOWED_MAX: usize = 64;
/// A batch under way at the end may be answered within this.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// The channel ends of the provider.
#[derive(Debug)]
pub struct Links {
    pub config: watch::Receiver<Arc<Config>>,
    pub plans: mpsc::Receiver<Plan>,
    pub inputs: mpsc::Sender<Input>,
    pub clock: Clock,
    pub metrics: Arc<DnsMetrics>,
    /// Tells whose witness is wanted first.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Acts that shall be in the control records.
    pub desk: Arc<Desk>,
    /// Credentials, and what else all of AWS is asked with.
    pub sessions: Sessions,
    /// True: drain and end.
    pub shutdown: watch::Receiver<bool>,
}

/// Runs until shutdown.
pub async fn serve(mut links: Links) {
    let mut work = Work::default();
    let mut config = links.config.borrow_and_update().clone();
    let mut before: Option<Arc<Provider>> = None;
    loop {
        let mut provider = match config.dns {
            // Who has no records needs no credentials.
            None => None,
            Some(_) => {
                let session = links.sessions.of(&config).await;
                Provider::of(&config, &session, links.clock, Arc::clone(&links.metrics))
            }
        };
        if let (Some(provider), Some(before)) = (&mut provider, &before) {
            provider.take_over(before);
        }
        if provider.is_none() {
            info!("no [dns] in the configuration: records are left alone");
        }
        let provider = provider.map(Arc::new);
        let next = work.until_changed(&mut links, &config, provider.clone()).await;
        before = provider.or(before);
        let Some(next) = next else { break };
        for (name, policy) in &config.policy.names {
            links.metrics.forget(name, policy);
        }
        config = next;
    }
    work.finish().await;
}

/// Tasks that outlive a configuration: what was begun under it is finished under it.
#[derive(Debug)]
struct Work {
    submissions: JoinSet<Option<(Arc<Provider>, Pending)>>,
    followed: JoinSet<()>,
    /// Changes of operators that were accepted.
    operated: (mpsc::Sender<Operated>, mpsc::Receiver<Operated>),
}

impl Default for Work {
    fn default() -> Self {
        Self { submissions: JoinSet::new(), followed: JoinSet::new(), operated: mpsc::channel(FOLLOWED_MAX) }
    }
}

impl Work {
    /// Serves one configuration; the next one that asks for something else, or `None` at the end.
    async fn until_changed(
        &mut self,
        links: &mut Links,
        config: &Arc<Config>,
        provider: Option<Arc<Provider>>,
    ) -> Option<Arc<Config>> {
        // Aborted when this returns: they read, or write what is safe to be written again.
        let mut readers = JoinSet::new();
        if let Some(provider) = &provider {
            readers.spawn(poll::names(Arc::clone(provider), links.inputs.clone()));
            let snapshot = Arc::clone(&links.snapshot);
            readers.spawn(poll::witnesses(Arc::clone(provider), snapshot, links.inputs.clone()));
        }
        let unwritable = match &provider {
            None => Some("there is no [dns] in the configuration"),
            Some(provider) if provider.dns.mode == DnsMode::Observe => Some("dns.mode is \"observe\""),
            Some(provider) => {
                let (provider, desk) = (Arc::clone(provider), Arc::clone(&links.desk));
                let operated = self.operated.0.clone();
                readers.spawn(operate::carry(provider, desk, links.inputs.clone(), operated));
                None
            }
        };
        links.desk.writable(unwritable);
        let mut planning = true;
        loop {
            tokio::select! {
                ended = links.shutdown.wait_for(|draining| *draining) => {
                    if ended.is_err() {
                        warn!("the shutdown signal is gone: taken as shutdown");
                    }
                    return None;
                }
                changed = links.config.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                    let next = links.config.borrow_and_update().clone();
                    if concerns_dns(config, &next) {
                        return Some(next);
                    }
                }
                plan = links.plans.recv(), if planning && self.submissions.len() < SUBMISSIONS_MAX => {
                    match (plan, &provider) {
                        (Some(plan), Some(provider)) => {
                            let (provider, inputs) = (Arc::clone(provider), links.inputs.clone());
                            self.submissions.spawn(async move {
                                let pending = execute(Arc::clone(&provider), plan, inputs).await?;
                                Some((provider, pending))
                            });
                        }
                        (Some(plan), None) => warn!(name = %plan.name, "a plan without [dns]: dropped"),
                        (None, _) => planning = false,
                    }
                }
                Some(done) = self.submissions.join_next() => self.submitted(done, &links.inputs),
                Some(operated) = self.operated.1.recv(), if self.followed.len() < FOLLOWED_MAX => {
                    self.followed.spawn(operate::follow(operated, Arc::clone(&links.desk)));
                }
                Some(done) = self.followed.join_next() => drop(whole(done)),
                Some(done) = readers.join_next() => resume_panic(done),
            }
        }
    }

    fn submitted(
        &mut self,
        done: Result<Option<(Arc<Provider>, Pending)>, JoinError>,
        inputs: &mpsc::Sender<Input>,
    ) {
        let Some((provider, pending)) = whole(done).flatten() else { return };
        if self.followed.len() < FOLLOWED_MAX {
            self.followed.spawn(follow(provider, pending, inputs.clone()));
        } else {
            warn!(name = %pending.name, "too many changes PENDING: this one is not followed");
        }
    }

    /// Lets batches under way be answered; their time to INSYNC is not waited for.
    async fn finish(mut self) {
        self.followed.abort_all();
        let all = async { while self.submissions.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_PATIENCE, all).await.is_err() {
            warn!("a change was under way at shutdown; the next reading tells whether it was applied");
        }
    }
}

/// What a task returned; a panic in it is an error of the program and said so.
fn whole<T>(done: Result<T, JoinError>) -> Option<T> {
    done.map_err(|problem| error!("a DNS task ended early: {problem}")).ok()
}

/// Ends this task the way its reader ended: without readings the DNS side is only half alive,
/// and `app` must see that.
fn resume_panic(done: Result<(), JoinError>) {
    if let Err(problem) = done
        && let Ok(panic) = problem.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Whether the difference of two configurations reaches the provider.
fn concerns_dns(before: &Config, after: &Config) -> bool {
    before.dns != after.dns
        || before.aws.credentials != after.aws.credentials
        || before.names != after.names
        || before.regions != after.regions
        || before.policy.own != after.policy.own
        || before.policy.names != after.policy.names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_panics_takes_the_dns_task_with_it() {
        let task = tokio::spawn(async {
            let mut readers = JoinSet::new();
            readers.spawn(async { panic!("a bug") });
            if let Some(done) = readers.join_next().await {
                resume_panic(done);
            }
        });
        let panic = task.await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a bug"));
        // One that returned, because the core is gone, takes nothing.
        resume_panic(tokio::spawn(async {}).await);
    }
}
