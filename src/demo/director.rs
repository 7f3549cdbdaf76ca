//! Runs the script and keeps the record. It knows what it does to the world, and
//! learns what comes of it only by what is seen.

use super::event::Event;
use super::faults::{Fault, Kind};
use super::ledger::{Ledger, Request};
use super::observers::Observer;
use super::report::{HOME, Phase, REGION_DEATH, REGION_RETURN, SERVICE_DEATH, SERVICE_RETURN, STEADY, Seen};
use super::scene::Scene;
use super::settings::{Pace, REQUEST_EVERY, Setting, USERS_PER_REGION, Wish, request_timeout};
use super::stage::{self, Stage};
use super::timeline::{self, Timeline};
use super::users::{Surroundings, User};
use super::world::{Region, World};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Events waiting to be noted; who sees more waits.
const EVENTS_MAX: usize = 4096;
/// A world that is not well by then will not be.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Between two lines of numbers.
const SECOND: Duration = Duration::from_secs(1);
/// With `--hold` the lines would push the commands away.
const HOLD_LINES: Duration = Duration::from_secs(10);
/// What is seen of the last requests comes a little later.
const CALM: Duration = Duration::from_millis(1500);

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Stage(#[from] stage::Error),
    #[error("the world was not well after {} s: {what}", SETTLE_MAX.as_secs())]
    Unsettled { what: String },
    #[error("an observer of the world has ended")]
    Blind,
}

/// How long a phase lasts: at least, at most, and until what is seen in between.
struct Until {
    least: Duration,
    most: Duration,
    seen: fn(&Director, Duration) -> bool,
}

/// The run.
pub struct Director {
    world: Arc<World>,
    seed: u64,
    pace: Pace,
    stage: Stage,
    timeline: Timeline,
    started: Instant,
    events: mpsc::Receiver<Event>,
    ledger: Ledger,
    scene: Scene,
    phases: Vec<Phase>,
    faults: Vec<Fault>,
    /// Requests since the last line of numbers, when the next line is due, and how often.
    second: Vec<Request>,
    line_due: Instant,
    lines_every: Duration,
    /// Users and observers; they end with the run.
    crowd: JoinSet<()>,
    sender: mpsc::Sender<Event>,
}

impl Director {
    pub fn new(world: Arc<World>, wish: &Wish, stage: Stage, timeline: Timeline, started: Instant) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let mut director = Self {
            ledger: Ledger::new(Arc::clone(&world)),
            scene: Scene::new(Arc::clone(&world)),
            world,
            seed: wish.seed,
            pace: wish.pace,
            stage,
            timeline,
            started,
            events,
            phases: Vec::new(),
            faults: Vec::new(),
            second: Vec::new(),
            line_due: started,
            lines_every: SECOND,
            crowd: JoinSet::new(),
            sender,
        };
        director.observe();
        director
    }

    fn observe(&mut self) {
        let observer =
            Observer { world: Arc::clone(&self.world), started: self.started, events: self.sender.clone() };
        let (dns, api) = (self.stage.dns(), self.stage.api());
        for region in self.world.regions() {
            let Some(machine) = self.stage.machine(region) else { continue };
            self.crowd.spawn(observer.clone().service(region, machine.service));
            self.crowd.spawn(observer.clone().dns(region, dns));
            self.crowd.spawn(observer.clone().edge(region, machine.admin));
        }
        self.crowd.spawn(observer.zone(api));
    }

    fn invite(&mut self, random: &mut StdRng) {
        let surroundings = Surroundings {
            world: Arc::clone(&self.world),
            started: self.started,
            dns: self.stage.dns(),
            port: self.stage.public_http(),
            patience: request_timeout(&self.world),
            events: self.sender.clone(),
        };
        for place in self.world.regions() {
            for number in 0..USERS_PER_REGION {
                let offset = REQUEST_EVERY.mul_f64(random.random_range(0.0..1.0));
                self.crowd.spawn(User::new(surroundings.clone(), place, number).live(offset));
            }
        }
    }

    /// The whole script: what can break breaks and comes back.
    ///
    /// # Errors
    /// The world is never well in the beginning, or a part of it cannot be started or ended.
    pub async fn play(&mut self) -> Result<(), Error> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut regions: Vec<Region> = self.world.regions().collect();
        regions.shuffle(&mut random);
        let (Some(sick), Some(silent)) = (regions.first().copied(), regions.get(1).copied()) else {
            return Ok(());
        };
        self.settle(&mut random).await?;
        self.steady().await?;
        self.service_death(sick).await?;
        self.service_return(sick).await?;
        self.region_death(silent).await?;
        if self.pace == Pace::Defaults {
            return Ok(());
        }
        self.region_return(silent).await?;
        self.timeline.phase(HOME, "everything is as it was");
        self.phase(HOME, Until::exactly(5)).await
    }

    async fn settle(&mut self, random: &mut StdRng) -> Result<(), Error> {
        self.timeline.say("waiting until every edge sees every region healthy and up");
        let from = self.started.elapsed();
        let calm = |director: &Self, _| director.scene.home_since().is_some();
        self.watch(from, Until { least: Duration::ZERO, most: SETTLE_MAX, seen: calm }).await?;
        if self.scene.home_since().is_none() {
            return Err(Error::Unsettled { what: self.scene.away().join("; ") });
        }
        self.timeline.say(&format!(
            "{} users arrive, {} in each place; each sends {} requests a second",
            self.world.len() * usize::from(USERS_PER_REGION),
            USERS_PER_REGION,
            SECOND.as_millis() / REQUEST_EVERY.as_millis()
        ));
        self.invite(random);
        Ok(())
    }

    async fn steady(&mut self) -> Result<(), Error> {
        self.timeline.phase(STEADY, "all is well");
        self.phase(STEADY, Until::exactly(10)).await
    }

    async fn service_death(&mut self, region: Region) -> Result<(), Error> {
        let name = self.world.name(region);
        self.timeline.phase(SERVICE_DEATH, &format!("the service of {name} is killed, its edge lives"));
        let begun = self.stage.kill_service(region).await?;
        self.begin(Kind::Service, region, begun);
        self.timeline
            .say(&format!("SIGKILL mid-response: answers that had begun and were not whole: {begun}"));
        self.phase(SERVICE_DEATH, self.moved()).await
    }

    async fn service_return(&mut self, region: Region) -> Result<(), Error> {
        if self.pace == Pace::Defaults {
            return Ok(());
        }
        let name = self.world.name(region);
        self.timeline.phase(SERVICE_RETURN, &format!("the service of {name} is started again"));
        self.stage.revive_service(region)?;
        self.phase(SERVICE_RETURN, Until::home(18)).await
    }

    async fn region_death(&mut self, region: Region) -> Result<(), Error> {
        let name = self.world.name(region);
        self.timeline.phase(REGION_DEATH, &format!("{name} goes silent: no RST, no FIN, no answer"));
        self.begin(Kind::Region, region, 0);
        self.stage.kill_region(region).await?;
        self.timeline.say("black hole in every relay, then SIGKILL of edge and service");
        self.phase(REGION_DEATH, self.moved()).await
    }

    async fn region_return(&mut self, region: Region) -> Result<(), Error> {
        let name = self.world.name(region);
        self.timeline.phase(REGION_RETURN, &format!("{name} comes back"));
        self.stage.revive_region(region).await?;
        self.phase(REGION_RETURN, Until::home(20)).await
    }

    /// The world with users in it, until the caller ends it.
    ///
    /// # Errors
    /// The world is never well in the beginning, or an observer ended.
    pub async fn hold(&mut self) -> Result<(), Error> {
        let mut random = StdRng::seed_from_u64(self.seed);
        self.settle(&mut random).await?;
        self.timeline.plain("\nThe world stays up until Ctrl-C. Look around:\n");
        for command in self.stage.commands() {
            self.timeline.plain(&format!("  {command}"));
        }
        self.timeline.plain("");
        self.lines_every = HOLD_LINES;
        let from = self.started.elapsed();
        self.watch(from, Until { least: Duration::MAX, most: Duration::MAX, seen: |_, _| false }).await
    }

    /// Until the weights have moved and what users still hold has expired.
    fn moved(&self) -> Until {
        let most = match self.pace {
            Pace::Minute => Duration::from_secs(16),
            Pace::Defaults => Duration::from_secs(240),
        };
        Until {
            least: Duration::from_secs(8),
            most,
            seen: |director, now| {
                let fault = director.faults.last();
                let moved = fault.and_then(|f| Some(f.began + f.marks.moved_by_weights?));
                moved.is_some_and(|moved| now >= moved + director.pace.ttl() + CALM)
            },
        }
    }

    fn begin(&mut self, kind: Kind, region: Region, answers_cut: u32) {
        let began = self.started.elapsed();
        self.ledger.note_fault(began);
        let mut fault = Fault::begin(kind, region, began, self.world.regions());
        fault.answers_cut = answers_cut;
        self.faults.push(fault);
    }

    async fn phase(&mut self, name: &'static str, until: Until) -> Result<(), Error> {
        let last = self.phases.last().map(|phase| phase.until);
        // Without a gap: what is sent while a fault is being made belongs to it.
        let from = last.unwrap_or_else(|| self.started.elapsed());
        self.watch(from, until).await?;
        self.phases.push(Phase { name, from, until: self.started.elapsed() });
        Ok(())
    }

    /// Notes what is seen until the span that began at `from` is over.
    async fn watch(&mut self, from: Duration, until: Until) -> Result<(), Error> {
        loop {
            let now = self.started.elapsed();
            let span = now.saturating_sub(from);
            if span >= until.most || (span >= until.least && (until.seen)(self, now)) {
                return Ok(());
            }
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.notice(&event),
                    None => return Err(Error::Blind),
                },
                () = sleep_until(self.line_due) => {
                    self.line_due = Instant::now() + self.lines_every;
                    self.numbers()?;
                }
            }
        }
    }

    fn notice(&mut self, event: &Event) {
        let now = self.started.elapsed();
        match event {
            Event::Request(request) => {
                self.ledger.add(*request);
                self.second.push(*request);
            }
            Event::Truth { at, region, answers } => self.ledger.note_truth(*region, *at, *answers),
            _ => {}
        }
        if let Some(fault) = self.faults.last_mut() {
            fault.notice(event);
        }
        if let Some((at, text)) = self.scene.notice(event, now) {
            // What led to it comes first.
            self.sightings();
            self.timeline.at(at, &text);
        }
    }

    fn sightings(&mut self) {
        for (at, text) in self.scene.seen_by_edges() {
            self.timeline.at(at, &text);
        }
    }

    fn numbers(&mut self) -> Result<(), Error> {
        self.sightings();
        let second = std::mem::take(&mut self.second);
        if !second.is_empty() {
            let line = timeline::second(&self.world, &second);
            self.timeline.say(&line);
        }
        if self.lines_every == SECOND {
            // A world that is held up may be broken by hand.
            self.stage.all_run()?;
        }
        Ok(())
    }

    /// Ends the users' and observers' lives, and reads what they still had to say.
    pub async fn conclude(&mut self) {
        self.crowd.shutdown().await;
        while let Ok(event) = self.events.try_recv() {
            self.notice(&event);
        }
    }

    pub fn seen<'a>(&'a self, settings: &'a [Setting]) -> Seen<'a> {
        Seen {
            world: &self.world,
            seed: self.seed,
            pace: self.pace,
            settings,
            ledger: &self.ledger,
            scene: &self.scene,
            phases: &self.phases,
            faults: &self.faults,
        }
    }

    pub fn timeline(&mut self) -> &mut Timeline {
        &mut self.timeline
    }

    /// Ends every child and the zone server.
    ///
    /// # Errors
    /// A process cannot be signalled.
    pub async fn strike(self) -> Result<(), Error> {
        Ok(self.stage.strike().await?)
    }
}

impl Until {
    fn exactly(seconds: u64) -> Self {
        let span = Duration::from_secs(seconds);
        Self { least: span, most: span, seen: |_, _| true }
    }

    /// Until all is well and what users still hold has expired.
    fn home(most: u64) -> Self {
        Self {
            least: Duration::from_secs(3),
            most: Duration::from_secs(most),
            seen: |director, now| {
                let settled = director.pace.ttl() + CALM;
                director.scene.home_since().is_some_and(|since| now >= since + settled)
            },
        }
    }
}
