//! Asks the other pods of the region who speaks for it, takes over what that one measures, and tells it what this
//! one does.
//!
//! Carries out what [`crate::lease`] decides: one turn of questions in each `probes.interval`, over mutual
//! TLS at the siblings' peer listeners, by the name of the own region. A question is a GET, until the holder's
//! answer shows that it adds the region's load up: then questions to it are a POST of the own load. So pods of
//! versions with and without it understand one another.

use super::prober::{Dial, Prober, jittered};
use super::renew;
use crate::clock::Clock;
use crate::config::{Config, Question};
use crate::domain::fleet::{Input, Lease, ProbeFailure, Shared};
use crate::domain::snapshot::ProbePace;
use crate::lease::claim::Ruling;
use crate::lease::load::PodLoad;
use crate::lease::{Election, Holder, Said, SiblingWord, Standing};
use crate::metrics::control::ControlMetrics;
use crate::peer::{Board, LOAD_BYTES_MAX, SIBLING_BYTES_MAX, SIBLING_PATH};
use crate::trust::{Speech, Trusts};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// The ends that the lease's task holds.
pub struct Wiring {
    pub config: watch::Receiver<Arc<Config>>,
    /// Addresses of all pods of the region, once the name of the siblings is resolved.
    pub addresses: watch::Receiver<Vec<SocketAddr>>,
    /// What the Lease says; for ever [`Ruling::Elect`] without one.
    pub ruling: watch::Receiver<Ruling>,
    pub inputs: mpsc::Sender<Input>,
    pub board: Arc<Board>,
    pub clock: Clock,
    /// Random number of this process's start.
    pub boot: u64,
    pub metrics: ControlMetrics,
}

/// Keeps track of the lease until the configuration's writer, or the core, is gone.
pub async fn run(mut wiring: Wiring) {
    let mut trusts = Trusts::default();
    let mut told = None;
    // It outlives reloads: those are no reason to give the lease up.
    let mut election = Election::new(wiring.boot, wiring.config.borrow().policy.failover.view_fresh);
    loop {
        // Marks it as seen. One that comes from here on, while files are read or questions asked, is a change
        // that each of the waits below meets; nothing else marks it.
        let config = wiring.config.borrow_and_update().clone();
        renew(&mut trusts, &config).await;
        let ended = match Siblings::new(&config, &trusts, &wiring, &mut election) {
            // A pod without siblings speaks for its region.
            None => {
                wiring.board.alone();
                wiring.metrics.lease_held(true);
                match told.replace(true) {
                    Some(true) => Ok(()),
                    _ => wiring.inputs.send(Input::Lease(Lease { held: true })).await,
                }
            }
            Some(mut siblings) => {
                siblings.told = told;
                // A copy has seen what its original has.
                let mut changed = wiring.config.clone();
                let ended = tokio::select! {
                    ended = siblings.turns() => ended,
                    _ = changed.changed() => Ok(()),
                };
                told = siblings.told;
                ended
            }
        };
        if ended.is_err() || wiring.config.changed().await.is_err() {
            return;
        }
    }
}

/// Questions to siblings under one configuration.
struct Siblings<'e> {
    election: &'e mut Election,
    config: Arc<Config>,
    /// Addresses are filled in for each question.
    dial: Dial,
    probers: BTreeMap<SocketAddr, Prober>,
    addresses: watch::Receiver<Vec<SocketAddr>>,
    ruling: watch::Receiver<Ruling>,
    inputs: mpsc::Sender<Input>,
    board: Arc<Board>,
    clock: Clock,
    boot: u64,
    metrics: ControlMetrics,
    /// Whether the core was told that the lease is held here.
    told: Option<bool>,
    /// Boot number of the holder that adds loads up.
    adder: Option<u64>,
    /// What was shown last, so that only changes are logged.
    shown: Standing,
}

impl<'e> Siblings<'e> {
    /// `None`: the configuration names no siblings. Without readable certificates nobody is asked either,
    /// and nobody is followed.
    fn new(
        config: &Arc<Config>,
        trusts: &Trusts,
        wiring: &Wiring,
        election: &'e mut Election,
    ) -> Option<Self> {
        config.siblings.as_ref()?;
        election.wait(config.policy.failover.view_fresh);
        let own = &config.policy.own;
        let peer = config.regions.get(own).and_then(|region| region.peer.as_ref());
        let dial = Dial {
            addresses: Vec::new(),
            speech: Speech::Http1,
            trust: trusts.region(own).cloned(),
            authority: peer.map(|peer| peer.server_name.clone()).unwrap_or_default(),
            question: Question::get(SIBLING_PATH),
            told: None,
            body_max: SIBLING_BYTES_MAX,
            probes: config.probes.clone(),
            pace: ProbePace::Full,
        };
        Some(Self {
            shown: election.standing(),
            election,
            config: Arc::clone(config),
            dial,
            probers: BTreeMap::new(),
            addresses: wiring.addresses.clone(),
            ruling: wiring.ruling.clone(),
            inputs: wiring.inputs.clone(),
            board: Arc::clone(&wiring.board),
            clock: wiring.clock,
            boot: wiring.boot,
            metrics: wiring.metrics.clone(),
            told: None,
            adder: None,
        })
    }

    /// One turn of questions an interval, for ever.
    ///
    /// # Errors
    /// When the core is gone.
    async fn turns(&mut self) -> Result<(), SendError<Input>> {
        self.stand().await?;
        loop {
            let next = Instant::now() + jittered(self.config.probes.interval, 0.9, 1.1);
            if self.dial.trust.is_some() {
                self.turn().await?;
            }
            self.rest(next).await?;
        }
    }

    /// Waits for the next turn, or for the Lease to say something else.
    async fn rest(&mut self, next: Instant) -> Result<(), SendError<Input>> {
        loop {
            tokio::select! {
                () = sleep_until(next) => return Ok(()),
                changed = self.ruling.changed() => {
                    if changed.is_err() {
                        // Nobody says anything any more: the process ends.
                        sleep_until(next).await;
                        return Ok(());
                    }
                    self.stand().await?;
                }
            }
        }
    }

    async fn turn(&mut self) -> Result<(), SendError<Input>> {
        let addresses = self.addresses.borrow_and_update().clone();
        self.election.resolved(&addresses);
        self.stand().await?;
        self.board.known(addresses.len(), self.config.policy.failover.view_fresh);
        self.election.begin(self.clock.now());
        let mut asked = BTreeMap::new();
        while let Some(address) = self.election.ask() {
            let mut prober = self.probers.remove(&address).unwrap_or_default();
            let answer = self.ask(address, &mut prober).await;
            asked.insert(address, prober);
            self.metrics.sibling_asked(answer.as_ref().map(|_| ()).map_err(|failure| *failure));
            let said = answer.as_ref().ok().map(Said::from);
            self.election.answered(address, said, self.clock.now());
            self.stand().await?;
            let Standing::Following(followed) = self.election.standing() else { continue };
            match answer {
                Ok(word) if followed.address == address => self.follow(word).await?,
                // A version that takes no POST may have come to this address.
                Err(ProbeFailure::Status) => self.adder = None,
                _ => {}
            }
        }
        // Connections to those who need not be asked again are closed.
        self.probers = asked;
        self.stand().await
    }

    /// Takes what the holder says.
    async fn follow(&mut self, word: SiblingWord) -> Result<(), SendError<Input>> {
        self.adder = word.load.is_some().then_some(word.boot);
        if let Some(total) = word.load
            && !self.board.hear_total(total, self.clock.now())
        {
            tracing::debug!("the holder tells a load that cannot be");
        }
        match word.shared {
            Some(shared) => self.inputs.send(Input::Shared(Box::new(shared))).await,
            None => Ok(()),
        }
    }

    /// What this pod does, for a holder that adds loads up.
    fn load_for(&self, address: SocketAddr) -> Option<Bytes> {
        let Standing::Following(Holder { address: followed, boot }) = self.election.standing() else {
            return None;
        };
        let load: PodLoad = (followed == address && self.adder == Some(boot))
            .then(|| self.board.own_load(self.boot))
            .flatten()?;
        let json = serde_json::to_vec(&load).ok().filter(|json| json.len() <= LOAD_BYTES_MAX)?;
        Some(json.into())
    }

    /// # Errors
    /// As of any probe; `Malformed` when the answer is no word of a sibling, or too large.
    async fn ask(&self, address: SocketAddr, prober: &mut Prober) -> Result<SiblingWord, ProbeFailure> {
        let told = self.load_for(address);
        let dial = Dial { addresses: vec![address], told, ..self.dial.clone() };
        let started = Instant::now();
        let (answer, _) = prober.probe(&dial).await;
        let body = answer?.body.ok_or(ProbeFailure::Malformed)?;
        let mut word = serde_json::from_slice::<SiblingWord>(&body).map_err(|error| {
            tracing::debug!(%address, %error, "answer is no word of a sibling");
            ProbeFailure::Malformed
        })?;
        let transit_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        word.shared = word.shared.map(|shared| Shared { transit_us, ..shared });
        Ok(word)
    }

    /// Shows how this pod stands to the lease: to siblings, the core, the log and the metrics.
    async fn stand(&mut self) -> Result<(), SendError<Input>> {
        let (ruling, now) = (*self.ruling.borrow_and_update(), self.clock.now());
        self.election.ruled(ruling, now);
        let standing = self.election.standing();
        self.board.stand(standing, ruling, now);
        let held = standing == Standing::Holding;
        self.metrics.lease_held(held);
        if standing != self.shown {
            self.shown = standing;
            match standing {
                Standing::Seeking => tracing::info!("no pod is known that speaks for the region"),
                Standing::Following(Holder { address, .. }) => {
                    tracing::info!(%address, "another pod speaks for the region");
                }
                Standing::Holding => tracing::info!("this pod speaks for the region"),
            }
        }
        if self.told != Some(held) {
            self.told = Some(held);
            self.inputs.send(Input::Lease(Lease { held })).await?;
        }
        Ok(())
    }
}
