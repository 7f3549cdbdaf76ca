//! A scenario from a seed: a small world, and faults of every kind that overlap, at a pace at which
//! hold-downs are seconds.

use super::aimed;
use super::cast::{Cast, NoWorld, Pace};
use super::faults::{Expect, Fault, Scenario, Step};
use super::noise::{Dice, Noise};
use crate::config::{Config, Environment};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

const REGIONS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Faults begin after this: everyone has met by then.
pub(super) const WARM_UP: Duration = Duration::from_secs(12);
/// The shortest run.
const LENGTH: Duration = Duration::from_secs(600);
/// The last fault begins before this, in milliseconds.
const LAST_MS: u64 = 380_000;

/// The shape of a small world.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) regions: usize,
    pub(super) services: usize,
    pub(super) names: usize,
    pub(super) simple: bool,
    pub(super) capacity: Option<u32>,
}

impl Scenario {
    /// The scenario of a seed: 3 to 6 regions, at least ten minutes, at least two faults that overlap.
    ///
    /// # Errors
    /// Never in a tested build: a test makes many.
    pub fn generate(seed: u64) -> Result<Self, NoWorld> {
        let mut dice = Noise::new(seed).stream(1).dice();
        let aim = aimed::aim(seed);
        let shape = match aim {
            Some(aim) => aimed::shape(aim, &mut dice),
            None => shape(&mut dice),
        };
        let mut cast = Cast::of(&configs(shape)?)?;
        adjust(&mut cast, seed, &mut dice);
        if let Some(aim) = aim {
            aimed::tune(&mut cast, aim);
        }
        let background_loss = dice.pick(&[0, 0, 1, 3]);
        let steps = match aim {
            Some(aim) => aimed::steps(&cast, aim, &mut dice),
            None => steps(&cast, &mut dice),
        };
        // Drawn after all else: other worlds stay what they are.
        if aim.is_none() && dice.below(8) == 0 {
            let most = 3 + dice.index(6);
            cast.policies.iter_mut().for_each(|policy| policy.failover.max_changes_per_hour = most);
        }
        let moves = |step: &Step| {
            matches!(step.fault, Fault::SlowLink { .. } | Fault::Surge { .. } | Fault::CapacityLoss { .. })
        };
        cast.steady &= !steps.iter().any(moves);
        let (title, expect) = (String::new(), Expect::default());
        let cast = Arc::new(cast);
        Ok(Self { title, seed, cast, background_loss, length: LENGTH, steps, expect })
    }
}

/// Of a random world.
fn shape(dice: &mut Dice) -> Shape {
    let services = dice.pick(&[1, 1, 1, 2]);
    Shape {
        regions: dice.pick(&[3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 6]),
        services,
        names: if services == 2 { dice.pick(&[1, 2]) } else { 1 },
        simple: dice.below(5) == 0,
        capacity: dice.pick(&[None, None, Some(1000), Some(150)]),
    }
}

/// A real configuration each region reads, at the pace of real fleets.
fn configs(shape: Shape) -> Result<Vec<Config>, NoWorld> {
    let regions = &REGIONS[..shape.regions];
    let services = &["web", "api"][..shape.services];
    let names = &["www.example.com", "api.example.com"][..shape.names];
    let mut text = String::from(
        "[[listeners]]\nname = \"http\"\naddress = \"0.0.0.0:8080\"\n\
         [peer]\naddress = \"0.0.0.0:8443\"\ncertificate = \"peer.pem\"\nkey = \"peer.key\"\nca = \"ca.pem\"\n\
         [dns]\nmode = \"act\"\nzone_id = \"Z0000000000000EXAMPLE\"\n",
    );
    let failed = |error: std::fmt::Error| NoWorld::Lacks(error.to_string());
    for (index, region) in regions.iter().enumerate() {
        let place = PLACES[index];
        write!(
            text,
            "[regions.{region}]\npeer = \"{region}.example.net:8443\"\nplace = \"{place}\"\n\
             addresses = [\"203.0.113.{}\"]\n",
            index + 1
        )
        .map_err(failed)?;
        if let Some(capacity) = shape.capacity {
            writeln!(text, "capacity = {capacity}").map_err(failed)?;
        }
    }
    for service in services {
        writeln!(text, "[services.{service}]").map_err(failed)?;
        for region in regions {
            writeln!(text, "endpoints.{region} = [\"{service}:80\"]").map_err(failed)?;
        }
        let (name, prefix) = (service, service);
        writeln!(text, "[[routes]]\nname = \"{name}\"\npath_prefix = \"/{prefix}\"\nservice = \"{service}\"")
            .map_err(failed)?;
    }
    for (name, needs) in names.iter().zip([&services[..1], services]) {
        let layout = if shape.simple {
            let weights: Vec<String> = regions.iter().map(|region| format!("{region} = 1")).collect();
            format!("form = \"simple\"\nweights = {{ {} }}", weights.join(", "))
        } else {
            format!("form = \"global\"\nregions = {regions:?}")
        };
        writeln!(text, "[names.\"{name}\"]\n{layout}\nservices = {needs:?}\nttl = \"60s\"")
            .map_err(failed)?;
    }
    let own = |region: &&str| {
        let environment = Environment { region: Some((*region).to_owned()), ..Environment::default() };
        Config::from_text("generated.toml", &text, &environment).map_err(|p| NoWorld::Config(Box::new(p)))
    };
    regions.iter().map(own).collect()
}

const PLACES: [&str; 6] =
    ["eu-west-1", "eu-central-1", "us-east-1", "us-west-2", "ap-northeast-1", "sa-east-1"];

/// The same proportions as in a real fleet, faster.
fn adjust(cast: &mut Cast, seed: u64, dice: &mut Dice) {
    let n = cast.regions.len();
    cast.pace = Pace::fast();
    cast.endpoints = dice.pick(&[1, 1, 2]);
    cast.processes = dice.pick(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2]);
    let min_live = dice.pick(&[1, 1, 2]);
    let max_shift = f64::from(dice.pick(&[25u32, 34, 50, 100])) / 100.0;
    for policy in &mut cast.policies {
        policy.rtt_window = Duration::from_secs(10);
        let failover = &mut policy.failover;
        failover.down_after = Duration::from_secs(2);
        failover.view_fresh = Duration::from_secs(3);
        failover.min_live = min_live;
        failover.max_shift = max_shift;
        failover.hold_down = Duration::from_secs(8);
        failover.plan_expiry = Duration::from_secs(4);
        failover.writer_patience = Duration::from_secs(3);
        // An hour holds as many changes as a real day; but see below.
        failover.max_changes_per_hour = 1000;
        let health = &mut policy.health;
        health.fall = 2;
        health.rise = 2;
        health.failure_window = Duration::from_secs(3);
        health.ejection = Duration::from_secs(1);
        health.ejection_max = Duration::from_secs(8);
        health.probation = Duration::from_secs(3);
    }
    for name in &mut cast.names {
        name.ttl = Duration::from_secs(3);
    }
    // Places on a map of delays, so that some are near each other and some far.
    let mut map = Noise::new(seed).stream(2).dice();
    let at: Vec<(u64, u64)> = (0..n).map(|_| (map.below(90), map.below(60))).collect();
    let rtt = |a: usize, b: usize| {
        Duration::from_millis(2 * (2 + at[a].0.abs_diff(at[b].0) + at[a].1.abs_diff(at[b].1)))
    };
    cast.rtt = (0..n).map(|a| (0..n).map(|b| rtt(a, b)).collect()).collect();
    for (place, users) in cast.users.iter_mut().enumerate() {
        users.rps = 100.0;
        users.rtt = (0..n).map(|to| rtt(place, to) + Duration::from_millis(8)).collect();
    }
}

fn steps(cast: &Cast, dice: &mut Dice) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    // Faults come together, as they do: one brings the next, or finds the fleet half back.
    for _ in 0..=dice.below(3) {
        let from = dice.between(0, LAST_MS).as_millis() as u64;
        for follower in 0..2 + dice.below(3) {
            let mut fault = draw(cast, dice);
            if follower == 0 && matches!(fault, Fault::HandEdit { .. }) {
                fault = Fault::ServiceDown { region: dice.index(cast.regions.len()), service: 0 };
            }
            let lasts = match dice.below(4) {
                0 => dice.between(200, 3_000),
                1 | 2 => dice.between(3_000, 14_000),
                _ => dice.between(18_000, 40_000),
            };
            let once = matches!(fault, Fault::HandEdit { .. });
            let at = WARM_UP + Duration::from_millis(from) + dice.between(0, 8_000 * follower.min(1));
            // The first of a group outlasts the beginning of the second: they overlap.
            let lasts = match (once, follower) {
                (true, _) => Duration::ZERO,
                (false, 0) => lasts.max(Duration::from_secs(9)),
                (false, _) => lasts,
            };
            steps.push(Step { at, lasts, fault });
        }
    }
    steps.sort_by_key(|s| s.at);
    steps
}

/// A fault of this kind: every kind is drawn once in fifty times or more often.
pub(super) fn of_kind(kind: &str, cast: &Cast, dice: &mut Dice) -> Fault {
    let first = draw(cast, dice);
    let drawn = (0..10_000).map(|_| draw(cast, dice));
    let is = |fault: &Fault| Fault::KINDS.get(fault.kind()) == Some(&kind);
    std::iter::once(first.clone()).chain(drawn).find(is).unwrap_or(first)
}

fn draw(cast: &Cast, dice: &mut Dice) -> Fault {
    let n = cast.regions.len();
    let region = dice.index(n);
    let other = (region + 1 + dice.index(n - 1)) % n;
    let service = dice.index(cast.services.len());
    let name = dice.index(cast.names.len());
    let entry = dice.index(cast.names[name].home.len());
    let every = dice.between(1_000, 6_000);
    match dice.below(44) {
        0..=2 => Fault::ServiceDown { region, service },
        3 => Fault::EndpointDown { region, service, endpoint: dice.index(cast.endpoints) },
        4 => Fault::EdgeStopped { region },
        5 => Fault::ControlStalled { region },
        6 | 7 => Fault::RegionSilent { region },
        8 | 9 => Fault::RegionLost { region },
        10 | 11 => Fault::Cut { from: region, to: other },
        12 | 13 => Fault::Isolated { region },
        14 => Fault::Split { side: 1 + dice.below((1 << n) - 2) },
        15 => Fault::Lossy { percent: dice.pick(&[10, 30, 60]) },
        16 => Fault::SlowLink { a: region, b: other, by: dice.between(50, 900) },
        17 => Fault::ApiDown { region },
        18 => Fault::ApiOutage,
        19 | 20 => Fault::ApiSlow,
        21 => Fault::AnswersLost { region },
        22 => Fault::WitnessBlind { region },
        23 => Fault::Poison { from: region, toward: other, service },
        24 => Fault::Poison { from: region, toward: region, service },
        25 => Fault::Drain { name, region },
        26 => Fault::Freeze { name },
        27 => Fault::ServiceLeft { service, only: region },
        28 => Fault::HandEdit { name, entry, to: region },
        29 => Fault::RollingRestart { region, every },
        30 => {
            let percent = dice.pick(&[5, 30, 80]);
            Fault::Gray { region, service, percent, by: dice.between(0, 2_000) }
        }
        31 => Fault::Flapping { region, service, every },
        32 => Fault::Surge { place: region, percent: dice.pick(&[20, 200, 400]) },
        33 => Fault::CapacityLoss { region, percent: dice.pick(&[10, 50]) },
        34 => Fault::ChecksFlap { region, every: every + Duration::from_secs(2) },
        35 => Fault::ChecksUnderLoad,
        36 | 37 => Fault::ApiThrottled { percent: dice.pick(&[30, 60, 95]) },
        38 => Fault::DelayedWriter { region, by: dice.between(500, 15_000) },
        39 => Fault::TwoWriters { name, entry, to: region, every },
        40 => Fault::EntryLost { name, entry },
        41 => Fault::ClockSkew { region, by: dice.between(200, 20_000) },
        42 => Fault::BadPush { region },
        _ => Fault::ServiceDown { region, service },
    }
}
