//! Runs the health checks: looks at endpoints and tells the store what it saw.
//!
//! Limits as Route 53's: four seconds to connect, two more to answer, both
//! scaled with the interval but never below [`TIMEOUT_MIN`].
//! Source: developer guide, "How Amazon Route 53 determines whether a health
//! check is healthy".

use super::health::{CheckConfig, CheckKind, HealthCheck, Outcome};
use super::state::{State, locked};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Below this a busy machine looks like a dead endpoint.
const TIMEOUT_MIN: Duration = Duration::from_millis(300);
/// More than a status line is not read.
const STATUS_LINE_MAX: usize = 4096;

/// Starts the checkers of a new check, spread over one interval.
pub fn start(state: &Arc<State>, check: &HealthCheck) {
    let mut tasks = locked(&state.tasks);
    while let Some(ended) = tasks.try_join_next() {
        // Those of deleted checks are forgotten; one that broke would leave its check as it was for ever.
        if let Err(error) = ended {
            tracing::error!("a health checker of the zone server ended early: {error}");
        }
    }
    for index in 0..check.config.regions.len() {
        tasks.spawn(run(Arc::clone(state), check.id.clone(), check.config.clone(), index));
    }
}

async fn run(state: Arc<State>, id: String, config: CheckConfig, index: usize) {
    let scale = state.health_interval.as_secs_f64() / 10.0;
    let period = Duration::from_secs(config.interval.seconds().into()).mul_f64(scale);
    let limits = Limits {
        connect: CONNECT_TIMEOUT.mul_f64(scale).clamp(TIMEOUT_MIN, CONNECT_TIMEOUT),
        answer: ANSWER_TIMEOUT.mul_f64(scale).clamp(TIMEOUT_MIN, ANSWER_TIMEOUT),
    };
    let share = index as f64 / config.regions.len() as f64;
    let mut ticks = interval_at(Instant::now() + period.mul_f64(share), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = state.shutdown.clone();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        // Its settings may have been changed since; deleted: nobody asks any more.
        let Ok(config) = state.store().check(&id).map(|check| check.config.clone()) else { return };
        if config.disabled {
            continue;
        }
        let outcome = tokio::select! {
            outcome = look(&state, &config, limits) => outcome,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        let now = state.now();
        state.store().observe(&id, index, outcome, now);
    }
}

/// Where to look: a load balancer of this server by its name, any other name as the system resolves it.
///
/// Checks by name are over IPv4. Source: API reference, HealthCheckConfig, FullyQualifiedDomainName.
async fn address(state: &State, config: &CheckConfig) -> Option<IpAddr> {
    let host = match (config.address, &config.host) {
        (Some(address), _) => return Some(address),
        (None, host) => host.as_deref()?,
    };
    let own = state.store().balancers().addresses(host);
    if !own.is_empty() {
        return own.into_iter().find(IpAddr::is_ipv4);
    }
    let mut found = tokio::net::lookup_host((host, config.port)).await.ok()?;
    found.find_map(|address| address.is_ipv4().then(|| address.ip()))
}

#[derive(Clone, Copy)]
struct Limits {
    connect: Duration,
    answer: Duration,
}

/// One look at the endpoint, in Route 53's words.
async fn look(state: &State, config: &CheckConfig, limits: Limits) -> Outcome {
    let Some(address) = address(state, config).await else {
        return Outcome::Failure("Failure: The domain name could not be resolved.".into());
    };
    let address = SocketAddr::new(address, config.port);
    let mut stream = match timeout(limits.connect, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Outcome::Failure(broken(&error)),
        Err(_) => {
            return Outcome::Failure(
                "Failure: Connection timed out. The endpoint or the internet connection is down, or requests are being blocked by your firewall.".into(),
            );
        }
    };
    match config.kind {
        CheckKind::Tcp => Outcome::Success("Success: TCP connection established".into()),
        CheckKind::Http => match timeout(limits.answer, ask(&mut stream, config)).await {
            Ok(Ok(line)) => judge(&line),
            Ok(Err(error)) => Outcome::Failure(broken(&error)),
            Err(_) => Outcome::Failure(
                "Failure: Response timed out. The endpoint accepted the connection and did not answer in time."
                    .into(),
            ),
        },
    }
}

/// What a failed connection is called: no number of this machine's errors.
fn broken(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "Failure: Connection refused".into(),
        ErrorKind::ConnectionReset => "Failure: Connection reset by the endpoint".into(),
        _ => format!("Failure: {error}"),
    }
}

/// Asks for the path and returns the answer's status line.
async fn ask(stream: &mut TcpStream, config: &CheckConfig) -> std::io::Result<String> {
    let host = config.host.clone().unwrap_or_else(|| config.at());
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Amazon-Route53-Health-Check-Service (zone server)\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        config.path
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::new();
    let mut buffer = [0_u8; 512];
    loop {
        let read = stream.read(&mut buffer).await?;
        line.extend_from_slice(&buffer[..read]);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        if read == 0 || line.len() > STATUS_LINE_MAX {
            return Err(std::io::Error::new(ErrorKind::InvalidData, "no HTTP status line"));
        }
    }
}

/// 2xx and 3xx are healthy. Source: as above.
fn judge(status_line: &str) -> Outcome {
    let mut words = status_line.splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let code: Option<u16> = words.next().and_then(|word| word.parse().ok());
    let reason = words.next().unwrap_or_default();
    match code {
        Some(code) if version.starts_with("HTTP/1.") => {
            let said = format!("HTTP Status Code {code}, {reason}");
            if (200..400).contains(&code) {
                Outcome::Success(format!("Success: {said}"))
            } else {
                Outcome::Failure(format!("Failure: {said}"))
            }
        }
        _ => Outcome::Failure("Failure: the endpoint does not speak HTTP/1.1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtt_table::RttTable;
    use crate::zone_server::health::{CHECKER_REGIONS, RequestInterval};
    use crate::zone_server::places::Places;
    use crate::zone_server::state::Parts;
    use crate::zone_server::store::Store;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[tokio::test(start_paused = true)]
    async fn the_checkers_of_a_deleted_check_end_though_it_was_disabled() {
        let (_stop, shutdown) = tokio::sync::watch::channel(false);
        let state = Arc::new(State::new(Parts {
            store: Store::new(1, Duration::ZERO),
            draws: StdRng::seed_from_u64(1),
            throttle: false,
            places: Places::new(Vec::new()),
            rtts: RttTable::measured().unwrap(),
            shutdown,
            health_interval: Duration::from_secs(10),
        }));
        let config = CheckConfig {
            kind: CheckKind::Http,
            address: Some("127.0.0.1".parse().unwrap()),
            port: 1,
            path: "/".into(),
            host: None,
            interval: RequestInterval::Seconds10,
            threshold: 3,
            inverted: false,
            disabled: true,
            regions: CHECKER_REGIONS.map(str::to_owned).to_vec(),
        };
        let (check, _) = state.store().create_check("a".into(), config).unwrap();
        start(&state, &check);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(locked(&state.tasks).try_join_next().is_none(), "they wait while the check is there");
        state.store().delete_check(&check.id).unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        let mut ended = 0;
        while locked(&state.tasks).try_join_next().is_some() {
            ended += 1;
        }
        assert_eq!(ended, CHECKER_REGIONS.len());
    }

    #[test]
    fn two_and_three_hundreds_are_healthy() {
        for (line, healthy) in [
            ("HTTP/1.1 200 OK", true),
            ("HTTP/1.0 302 Found", true),
            ("HTTP/1.1 503 Service Unavailable", false),
            ("HTTP/1.1 404 Not Found", false),
            ("SSH-2.0-OpenSSH", false),
            ("HTTP/1.1", false),
        ] {
            assert_eq!(matches!(judge(line), Outcome::Success(_)), healthy, "{line}");
        }
        assert_eq!(judge("HTTP/1.1 200 OK"), Outcome::Success("Success: HTTP Status Code 200, OK".into()));
    }
}
