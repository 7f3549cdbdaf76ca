//! `proxima zone-server`: a local Route 53 until SIGINT or SIGTERM.

use crate::error_chain::chain;
use crate::zone_server::{LoadBalancer, Running, Settings, ZoneServer};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the HTTP API listens.
    #[arg(long, default_value = "127.0.0.1:4580")]
    api: SocketAddr,
    /// Where DNS listens, UDP and TCP.
    #[arg(long, default_value = "127.0.0.1:5354")]
    dns: SocketAddr,
    /// A zone to create at the start.
    #[arg(long)]
    zone: Option<String>,
    /// A load balancer that alias records may name: its name, its hosted zone, its addresses; repeatable.
    #[arg(long = "load-balancer", value_name = "NAME=ZONE_ID=ADDRESS,...", value_parser = parse_balancer)]
    load_balancers: Vec<LoadBalancer>,
    /// An address block and the AWS region that it is nearest to; repeatable, the longest match counts.
    #[arg(long = "place", value_name = "BLOCK=REGION", value_parser = parse_place)]
    places: Vec<(IpNet, String)>,
    /// From accepted to INSYNC.
    #[arg(long, default_value = "300ms", value_parser = parse_duration)]
    insync_delay: Duration,
    /// What 10 seconds of Route 53's health check interval take here.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    health_interval: Duration,
    /// Decides ids and the draws of weighted sets.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hold the account to five requests a second, as Route 53 does.
    #[arg(long)]
    throttle: bool,
}

/// Runs the server; exit code 0 once a signal stopped it.
pub fn run(arguments: Arguments) -> ExitCode {
    let settings = Settings {
        api: arguments.api,
        dns: arguments.dns,
        zone: arguments.zone,
        load_balancers: arguments.load_balancers,
        places: arguments.places,
        insync_delay: arguments.insync_delay,
        health_interval: arguments.health_interval,
        seed: arguments.seed,
        throttle: arguments.throttle,
    };
    let outcome = tokio::runtime::Runtime::new()
        .map_err(|error| format!("no runtime: {error}"))
        .and_then(|runtime| runtime.block_on(serve(settings)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("proxima zone-server: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> Result<(), String> {
    // Before the addresses are printed: who reads them may send a signal at once.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let zone = settings.zone.clone();
    let running = ZoneServer::start(settings).await.map_err(|error| chain(&error))?;
    outln!("{}", readable(&running, zone.as_deref()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    running.shutdown().await;
    Ok(())
}

fn readable(running: &Running, zone: Option<&str>) -> String {
    let zone = match (zone, running.zone_id()) {
        (Some(name), Some(id)) => format!(" zone={name} id={id}"),
        _ => String::new(),
    };
    format!("zone server ready: api=http://{} dns={}{zone}", running.api_addr(), running.dns_addr())
}

fn parse_place(text: &str) -> Result<(IpNet, String), String> {
    let (block, region) = text.split_once('=').ok_or("want BLOCK=REGION, such as 127.1.0.0/16=eu-west-1")?;
    let block = block.parse().map_err(|error| format!("'{block}': {error}"))?;
    Ok((block, region.to_owned()))
}

fn parse_balancer(text: &str) -> Result<LoadBalancer, String> {
    const WANT: &str = "want NAME=ZONE_ID=ADDRESS,..., such as lb.example.net=Z1=127.0.0.1";
    let mut parts = text.splitn(3, '=');
    let (Some(name), Some(zone_id), Some(list)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(WANT.to_owned());
    };
    let address = |text: &str| text.parse().map_err(|error| format!("'{text}': {error}; {WANT}"));
    let addresses = list.split(',').map(address).collect::<Result<_, _>>()?;
    Ok(LoadBalancer { name: name.to_owned(), zone_id: zone_id.to_owned(), addresses })
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| format!("'{text}': want a number and ms or s"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err(format!("'{text}': want ms or s after the number")),
    }
}
