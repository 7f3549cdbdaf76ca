//! Health checks as Route 53 counts them: pure, one outcome at a time.
//!
//! Several checkers look at one endpoint. Each changes its mind only after
//! `FailureThreshold` outcomes in a row; the check is healthy while more than
//! 18 percent of its checkers say so.
//! Source: developer guide, "How Amazon Route 53 determines whether a health
//! check is healthy".

use std::net::IpAddr;
use std::time::Duration;

/// Health checks an account. Source: developer guide, "Quotas", on health checks.
pub const CHECKS_MAX: usize = 200;

/// The places that look when a check names none: the smallest number that
/// Route 53 allows. Source: API reference, HealthCheckConfig, Regions.
pub const CHECKER_REGIONS: [&str; 3] = ["us-east-1", "us-west-2", "eu-west-1"];

/// How an endpoint is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckKind {
    Http,
    Tcp,
}

/// Seconds between two looks of one checker, fixed at creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestInterval {
    Seconds10,
    Seconds30,
}

impl RequestInterval {
    #[must_use]
    pub fn seconds(self) -> u32 {
        match self {
            Self::Seconds10 => 10,
            Self::Seconds30 => 30,
        }
    }
}

/// What a check looks at. Source: API reference, HealthCheckConfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckConfig {
    pub kind: CheckKind,
    /// `None`: looked up by `host` at every look.
    pub address: Option<IpAddr>,
    pub port: u16,
    /// Starts with a slash.
    pub path: String,
    /// Sent as Host; the address when absent.
    pub host: Option<String>,
    pub interval: RequestInterval,
    /// Outcomes in a row that change a checker's mind, 1..=10.
    pub threshold: u8,
    pub inverted: bool,
    pub disabled: bool,
    pub regions: Vec<String>,
}

impl CheckConfig {
    /// Where it looks: its address, else its host.
    #[must_use]
    pub fn at(&self) -> String {
        match (self.address, &self.host) {
            (Some(address), _) => address.to_string(),
            (None, host) => host.clone().unwrap_or_default(),
        }
    }
}

/// What one look saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Success(String),
    Failure(String),
}

/// One place that looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checker {
    pub region: String,
    healthy: bool,
    /// Outcomes in a row against `healthy`.
    against: u8,
    last: Option<(Duration, Outcome)>,
}

impl Checker {
    /// When it last looked (since the server's start) and what it saw.
    #[must_use]
    pub fn last(&self) -> Option<&(Duration, Outcome)> {
        self.last.as_ref()
    }
}

/// One health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub id: String,
    pub caller_reference: String,
    pub config: CheckConfig,
    /// Counts its settings, from 1. Source: API reference, HealthCheck, HealthCheckVersion.
    pub version: u64,
    checkers: Vec<Checker>,
    last_transition: Option<Duration>,
}

impl HealthCheck {
    /// A new check: healthy until its checkers say otherwise.
    ///
    /// Source: developer guide, "Values that you specify when you create
    /// health checks": Route 53 considers a new check healthy until there's
    /// enough data.
    #[must_use]
    pub fn new(id: String, caller_reference: String, config: CheckConfig) -> Self {
        let checkers = config
            .regions
            .iter()
            .map(|region| Checker { region: region.clone(), healthy: true, against: 0, last: None })
            .collect();
        Self { id, caller_reference, config, version: 1, checkers, last_transition: None }
    }

    /// Counts one outcome of the checker at `index` at `now` (since the server's start).
    pub fn observe(&mut self, index: usize, outcome: Outcome, now: Duration) {
        let before = self.healthy();
        let threshold = self.config.threshold;
        let Some(checker) = self.checkers.get_mut(index) else { return };
        if matches!(outcome, Outcome::Success(_)) == checker.healthy {
            checker.against = 0;
        } else {
            checker.against += 1;
            if checker.against >= threshold {
                checker.healthy = !checker.healthy;
                checker.against = 0;
            }
        }
        checker.last = Some((now, outcome));
        if before != self.healthy() {
            self.last_transition = Some(now);
        }
    }

    /// What DNS answers are chosen by.
    ///
    /// A disabled check is always healthy; an inverted one says the opposite
    /// of its checkers. Source: API reference, HealthCheckConfig, Disabled and Inverted.
    #[must_use]
    pub fn healthy(&self) -> bool {
        let seen = if self.config.disabled {
            true
        } else {
            let healthy = self.checkers.iter().filter(|checker| checker.healthy).count();
            healthy * 100 > self.checkers.len() * 18
        };
        seen != self.config.inverted
    }

    #[must_use]
    pub fn checkers(&self) -> &[Checker] {
        &self.checkers
    }

    /// When the state last changed, since the server's start.
    #[must_use]
    pub fn last_transition(&self) -> Option<Duration> {
        self.last_transition
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(threshold: u8) -> HealthCheck {
        let config = CheckConfig {
            kind: CheckKind::Http,
            address: Some("127.0.0.1".parse().unwrap()),
            port: 80,
            path: "/".into(),
            host: None,
            interval: RequestInterval::Seconds10,
            threshold,
            inverted: false,
            disabled: false,
            regions: CHECKER_REGIONS.map(str::to_owned).to_vec(),
        };
        HealthCheck::new("id".into(), "ref".into(), config)
    }

    fn fail(check: &mut HealthCheck, checker: usize, times: usize) {
        for _ in 0..times {
            check.observe(checker, Outcome::Failure("no".into()), Duration::from_secs(1));
        }
    }

    #[test]
    fn unhealthy_only_when_every_checker_failed_threshold_times_in_a_row() {
        let mut check = check(3);
        assert!(check.healthy(), "starts healthy");
        fail(&mut check, 0, 3);
        fail(&mut check, 1, 3);
        fail(&mut check, 2, 2);
        assert!(check.healthy(), "one of three is above 18 percent");
        check.observe(2, Outcome::Success("ok".into()), Duration::from_secs(2));
        fail(&mut check, 2, 2);
        assert!(check.healthy(), "a success starts the count again");
        fail(&mut check, 2, 1);
        assert!(!check.healthy());
        assert_eq!(check.last_transition(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn recovers_when_one_checker_passed_threshold_times() {
        let mut check = check(2);
        (0..3).for_each(|checker| fail(&mut check, checker, 2));
        assert!(!check.healthy());
        check.observe(1, Outcome::Success("ok".into()), Duration::from_secs(8));
        assert!(!check.healthy());
        check.observe(1, Outcome::Success("ok".into()), Duration::from_secs(9));
        assert!(check.healthy());
        assert_eq!(check.last_transition(), Some(Duration::from_secs(9)));
    }

    #[test]
    fn inverted_says_the_opposite_and_disabled_is_always_healthy() {
        let mut inverted = check(1);
        inverted.config.inverted = true;
        assert!(!inverted.healthy());
        (0..3).for_each(|checker| fail(&mut inverted, checker, 1));
        assert!(inverted.healthy());
        let mut disabled = check(1);
        disabled.config.disabled = true;
        (0..3).for_each(|checker| fail(&mut disabled, checker, 1));
        assert!(disabled.healthy());
    }
}
