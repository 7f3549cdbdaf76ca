//! When no edge can be reached: the control record is written from here, fenced as ever.

use super::Act;
use super::client::Failure;
use crate::cli::configuration::load_now;
use crate::cli::dns::change::in_sync;
use crate::cli::dns::connect;
use crate::clock::wall_clock;
use crate::config::{Config, Environment};
use crate::dns::api::Api;
use crate::dns::layout::Layout;
use crate::dns::operate::{Step, write};
use crate::dns::pace::Backoff;
use crate::dns::reader::read_control;
use crate::domain::name::DnsName;
use crate::domain::operator::{OperatorAct, Order};
use crate::error_chain::chain;
use crate::operators::wire::{Asked, Circumstances};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

/// Attempts at one name.
const ATTEMPTS_MAX: usize = 10;

fn failure(error: &(dyn Error + 'static)) -> Failure {
    Failure(chain(error))
}

pub(super) async fn run(act: &Act, kind: &str, asked: Asked) -> Result<ExitCode, Failure> {
    let path = act.config.as_ref().ok_or_else(|| Failure("--direct needs --config FILE".to_owned()))?;
    let environment = Environment { region: act.region_of_file.clone(), ..Environment::default() };
    let config = load_now(path, &environment).map_err(|refused| Failure(refused.to_string()))?;
    let api = connect(&config).await.map_err(|error| failure(error.as_ref()))?;
    let names = config.policy.names.iter();
    let names = names.map(|(name, p)| (name.clone(), p.regions().into_iter().cloned().collect())).collect();
    let by = format!("{} (direct)", act.by);
    let around = Circumstances { id: rand::random(), by: &by, wall: wall_clock(), names: &names };
    let order = asked.into_act(kind, &around).map_err(Failure)?;
    let mut layouts = Vec::new();
    for name in &order.names {
        if !names.contains_key(name) {
            return Err(Failure(format!("there is no name {name} in the configuration")));
        }
        let layout = Layout::of(&config, name).map_err(|error| failure(&error))?;
        enough_left(&api, &config, &layout, &order).await?;
        layouts.push(layout);
    }
    for layout in &layouts {
        let step = written(&api, &config, layout, &order).await?;
        let name = &layout.name;
        match step {
            Step::Held(generation) => {
                outln!("{name}: the control record holds it, generation {}", generation.get());
            }
            Step::Submitted { generation, change_id } => {
                outln!("{name}: written, generation {}, change {change_id}", generation.get());
                if !act.no_wait {
                    let (told, _) =
                        in_sync(&api, &change_id).await.map_err(|error| failure(error.as_ref()))?;
                    outln!("{name}: {told}; every edge follows at its next reading");
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// From here nobody knows which regions are up: those that are not drained must be enough.
async fn enough_left(
    api: &Api,
    config: &Config,
    layout: &Layout,
    act: &OperatorAct<Duration>,
) -> Result<(), Failure> {
    let Order::Drain { region, .. } = &act.order else { return Ok(()) };
    if act.force.is_some() {
        return Ok(());
    }
    let policy = config.policy.names.get(&layout.name);
    let regions = policy.map(|policy| policy.regions()).unwrap_or_default();
    let control = read_control(api, layout).await.map_err(|error| failure(&error))?;
    let drained = control.operator.drained(wall_clock());
    let left = regions.iter().filter(|other| **other != region && !drained.contains(**other)).count();
    let wanted = config.policy.failover.min_live.max(1);
    if !regions.contains(region) {
        return Err(Failure(format!("region {region} is not one of {}", layout.name)));
    }
    if left < wanted && !drained.contains(region) {
        return Err(Failure(too_few(&layout.name, left, wanted)));
    }
    Ok(())
}

fn too_few(name: &DnsName, left: usize, wanted: usize) -> String {
    format!(
        "refused: rule `min_live`: {name} would be left with {left} region(s) that are not drained, {wanted} at \
         least are wanted; --force overrides the rule"
    )
}

async fn written(
    api: &Api,
    config: &Config,
    layout: &Layout,
    act: &OperatorAct<Duration>,
) -> Result<Step, Failure> {
    let mut backoff = Backoff::default();
    let acts = std::slice::from_ref(act);
    for _ in 1..ATTEMPTS_MAX {
        match write(api, layout, &config.policy.own, acts).await {
            Err(error) if error.may_pass() => {
                outln!("{}: not yet: {}", layout.name, chain(&error));
                sleep(backoff.pause()).await;
            }
            done => return done.map_err(|error| failure(&error)),
        }
    }
    write(api, layout, &config.policy.own, acts).await.map_err(|error| failure(&error))
}
