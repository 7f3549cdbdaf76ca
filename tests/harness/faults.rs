//! A scenario is data: who plays, and a list of timed faults. It is made from
//! a seed, printed for people, and cut down to what still shows a failure.

use super::cast::{NAMES, REGIONS, SERVICES};
use super::noise::{Dice, Noise};
use std::fmt;
use std::time::Duration;

/// What may go wrong; regions, services and names by index.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Every pod of the service fails; the edge lives.
    ServiceDown {
        region: usize,
        service: usize,
    },
    /// A bad rollout: every pod of the service fails everywhere but in one region.
    ServiceLeft {
        service: usize,
        only: usize,
    },
    /// One pod fails.
    EndpointDown {
        region: usize,
        service: usize,
        endpoint: usize,
    },
    /// The edge process is gone, its host answers with a reset; a new process starts at the end.
    EdgeStopped {
        region: usize,
    },
    /// The control task does not run; everything else in the edge does.
    ControlStalled {
        region: usize,
    },
    /// Nothing gets in or out: peers, users, API. No reset. Processes live on inside.
    RegionSilent {
        region: usize,
    },
    /// Silent, and the processes are gone.
    RegionLost {
        region: usize,
    },
    /// One direction between two edges.
    Cut {
        from: usize,
        to: usize,
    },
    /// Both directions between one edge and all others; users and API are fine.
    Isolated {
        region: usize,
    },
    /// Two groups of edges: those below `first` and the rest.
    Split {
        first: usize,
    },
    /// Share of messages lost between all edges, in percent.
    Lossy {
        percent: u64,
    },
    /// Extra delay between two edges, each way.
    Slow {
        a: usize,
        b: usize,
        by: Duration,
    },
    /// One region can't reach the DNS API.
    ApiDown {
        region: usize,
    },
    ApiOutage,
    /// The DNS API takes seconds each way: late writers, old reads.
    ApiSlow,
    /// Changes are applied but their answers are lost.
    AnswersLost {
        region: usize,
    },
    /// The API does not tell the state of a region's health check.
    WitnessBlind {
        region: usize,
    },
    /// Requests of one edge to a service fail while every probe is fine.
    Poison {
        edge: usize,
        toward: usize,
        service: usize,
    },
    /// An operator drains a region for a name.
    Drain {
        name: usize,
        region: usize,
    },
    /// An operator freezes a name.
    Freeze {
        name: usize,
    },
    /// Someone sends an entry's users to one region by hand, past the control record.
    HandEdit {
        name: usize,
        entry: usize,
        to: usize,
    },
}

/// One fault with its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub at: Duration,
    pub lasts: Duration,
    pub fault: Fault,
}

/// How a name's records are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An entry a region.
    Global,
    /// One entry with all regions.
    Simple,
}

/// Everything that a run depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub seed: u64,
    pub regions: usize,
    pub services: usize,
    pub endpoints: usize,
    pub names: usize,
    pub form: Form,
    pub min_live: usize,
    pub max_shift_points: u32,
    pub capacity_rps: Option<u32>,
    /// Messages lost between edges at all times, in percent.
    pub background_loss: u64,
    pub steps: Vec<Step>,
}

/// Faults begin after this: everyone has met by then.
pub const WARM_UP: Duration = Duration::from_secs(6);

impl Scenario {
    pub fn generate(seed: u64) -> Self {
        let mut dice = Noise::new(seed).stream(1).dice();
        let regions = dice.pick(&[2, 3, 3, 3, 3, 3, 4, 4, 4, 5, 5, 6]);
        let services = dice.pick(&[1, 1, 1, 2]);
        let mut scenario = Self {
            seed,
            regions,
            services,
            endpoints: dice.pick(&[1, 1, 2]),
            names: if services == 2 { dice.pick(&[1, 2]) } else { 1 },
            form: dice.pick(&[Form::Global, Form::Global, Form::Global, Form::Global, Form::Simple]),
            min_live: if regions > 2 { dice.pick(&[1, 1, 2]) } else { 1 },
            max_shift_points: dice.pick(&[25, 34, 50, 100]),
            capacity_rps: dice.pick(&[None, None, Some(1000), Some(150)]),
            background_loss: dice.pick(&[0, 0, 1, 3]),
            steps: Vec::new(),
        };
        let window = dice.pick(&[8_000, 20_000, 40_000]);
        for _ in 0..=dice.below(5) {
            let fault = scenario.draw(&mut dice);
            let lasts = match dice.below(4) {
                0 => dice.between(200, 3_000),
                1 | 2 => dice.between(3_000, 14_000),
                _ => dice.between(18_000, 40_000),
            };
            let lasts = if matches!(fault, Fault::HandEdit { .. }) { Duration::ZERO } else { lasts };
            scenario.steps.push(Step { at: WARM_UP + dice.between(0, window), lasts, fault });
        }
        scenario.steps.sort_by_key(|s| s.at);
        scenario
    }

    fn draw(&self, dice: &mut Dice) -> Fault {
        let region = dice.index(self.regions);
        let other = (region + 1 + dice.index(self.regions - 1)) % self.regions;
        let service = dice.index(self.services);
        let name = dice.index(self.names);
        match dice.below(31) {
            0..=3 => Fault::ServiceDown { region, service },
            4 => Fault::EndpointDown { region, service, endpoint: dice.index(self.endpoints) },
            5 | 6 => Fault::EdgeStopped { region },
            7 => Fault::ControlStalled { region },
            8 | 9 => Fault::RegionSilent { region },
            10 | 11 => Fault::RegionLost { region },
            12 | 13 => Fault::Cut { from: region, to: other },
            14 | 15 => Fault::Isolated { region },
            16 => Fault::Split { first: 1 + dice.index(self.regions - 1) },
            17 => Fault::Lossy { percent: dice.pick(&[10, 30, 60]) },
            18 => Fault::Slow { a: region, b: other, by: dice.between(50, 900) },
            19 => Fault::ApiDown { region },
            20 => Fault::ApiOutage,
            21 | 22 => Fault::ApiSlow,
            23 => Fault::AnswersLost { region },
            24 => Fault::WitnessBlind { region },
            25 => Fault::Poison { edge: region, toward: other, service },
            26 => Fault::Poison { edge: region, toward: region, service },
            27 => Fault::Drain { name, region },
            28 => Fault::Freeze { name },
            29 => Fault::ServiceLeft { service, only: region },
            _ => Fault::HandEdit { name, entry: other, to: region },
        }
    }

    /// When the last fault is over.
    pub fn calm_from(&self) -> Duration {
        self.steps.iter().map(|s| s.at + s.lasts).max().unwrap_or(WARM_UP)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = |region: &usize| REGIONS[*region];
        let s = |service: &usize| SERVICES[*service];
        match self {
            Self::ServiceDown { region, service } => {
                write!(f, "service {} dies in {}", s(service), r(region))
            }
            Self::ServiceLeft { service, only } => {
                write!(f, "service {} dies everywhere but in {}", s(service), r(only))
            }
            Self::EndpointDown { region, service, endpoint } => {
                write!(f, "pod {endpoint} of {} dies in {}", s(service), r(region))
            }
            Self::EdgeStopped { region } => write!(f, "edge {} stops, then starts anew", r(region)),
            Self::ControlStalled { region } => write!(f, "control task of {} stalls", r(region)),
            Self::RegionSilent { region } => write!(f, "region {} goes silent", r(region)),
            Self::RegionLost { region } => write!(f, "region {} is lost, then starts anew", r(region)),
            Self::Cut { from, to } => write!(f, "{} can't reach {} (one way)", r(from), r(to)),
            Self::Isolated { region } => write!(f, "edge {} is cut off from all other edges", r(region)),
            Self::Split { first } => write!(f, "edges before {} are split from the rest", r(first)),
            Self::Lossy { percent } => write!(f, "{percent}% of messages between edges are lost"),
            Self::Slow { a, b, by } => write!(f, "{} and {} are {} ms slower", r(a), r(b), by.as_millis()),
            Self::ApiDown { region } => write!(f, "{} can't reach the DNS API", r(region)),
            Self::ApiOutage => write!(f, "the DNS API is down"),
            Self::ApiSlow => write!(f, "the DNS API takes seconds"),
            Self::AnswersLost { region } => write!(f, "answers to changes by {} are lost", r(region)),
            Self::WitnessBlind { region } => write!(f, "the health check of {} can't be read", r(region)),
            Self::Poison { edge, toward, service } => {
                write!(f, "requests for {} by {} fail in {}", s(service), r(edge), r(toward))
            }
            Self::Drain { name, region } => write!(f, "{} is drained from {}", r(region), NAMES[*name]),
            Self::Freeze { name } => write!(f, "{} is frozen", NAMES[*name]),
            Self::HandEdit { name, entry, to } => {
                write!(f, "entry {entry} of {} is sent to {} by hand", NAMES[*name], r(to))
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.at.as_secs_f64(), (self.at + self.lasts).as_secs_f64());
        write!(f, "{from:7.3} s to {to:7.3} s  {}", self.fault)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} regions, {} service(s) with {} pod(s), {} name(s), {:?} form, min_live {}, max_shift {}, \
             capacity {:?}, background loss {}%",
            self.seed,
            self.regions,
            self.services,
            self.endpoints,
            self.names,
            self.form,
            self.min_live,
            f64::from(self.max_shift_points) / 100.0,
            self.capacity_rps,
            self.background_loss
        )?;
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        Ok(())
    }
}
