//! The health checks of regions: what they look at, and how they are found again.
//!
//! `edge` asks for the liveness of the edge alone (the witness); `gate` is
//! attached to the records and is closed by the edge itself.

use super::api::Api;
use super::error::ApiError;
use crate::config::{Config, Dns, Target};
use crate::domain::name::{DnsName, RegionId};
use aws_sdk_route53::types::{HealthCheck, HealthCheckConfig, HealthCheckType};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A caller reference holds at most 64 characters, too few for zone, region, name, address and interval.
/// Source: API reference, CreateHealthCheck. So it carries a digest of them.
const DIGEST_BYTES: usize = 20;

/// What a check is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// `/health/edge`: the witness of a region, for all names.
    Edge,
    /// `/health/gate/<name>`: attached to the region's records of one name.
    Gate(DnsName),
}

/// Where checkers knock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    Address(IpAddr),
    /// Resolved by the checkers at every look, IPv4 only.
    /// Source: API reference, HealthCheckConfig, FullyQualifiedDomainName.
    Name(DnsName),
}

impl Host {
    /// Of a region's target; `None` for one without addresses.
    pub fn of(target: &Target) -> Option<Self> {
        Some(match target {
            Target::Addresses(addresses) => Self::Address(*addresses.first()?),
            Target::Alias(balancer) => Self::Name(balancer.name.clone()),
            Target::Cname(name) => Self::Name(name.clone()),
        })
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// One check that the configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckSpec {
    pub zone_id: String,
    pub region: RegionId,
    pub purpose: Purpose,
    pub host: Host,
    pub port: u16,
    /// 10 or 30. Fixed when a check is created, so another one is another check.
    /// Source: API reference, HealthCheckConfig, RequestInterval.
    pub interval_s: i32,
}

impl CheckSpec {
    /// The witness of a region: at its own target, else at the one of the first name that says one.
    ///
    /// `None` for a region that no name leads to.
    pub fn edge(config: &Config, dns: &Dns, id: &RegionId) -> Option<Self> {
        let region = config.regions.get(id)?;
        let target = region.target.as_ref();
        let target = target.or_else(|| config.names.values().find_map(|name| name.targets.get(id)))?;
        Some(Self {
            zone_id: dns.zone_id.clone(),
            region: id.clone(),
            purpose: Purpose::Edge,
            host: Host::of(target)?,
            port: region.health_port,
            interval_s: interval_s(dns),
        })
    }

    /// The start of its caller reference; a number follows, raised when a check
    /// was deleted: Route 53 never takes that reference again.
    pub fn reference(&self) -> String {
        let Self { zone_id, region, host, port, interval_s, .. } = self;
        let (kind, name) = match &self.purpose {
            Purpose::Edge => ("edge", ""),
            Purpose::Gate(name) => ("gate", name.as_str()),
        };
        let identity = format!("proxima/{zone_id}/{region}/{kind}/{name}/{host}:{port}/{interval_s}");
        let digest = Sha256::digest(identity.as_bytes());
        let hex: String = digest.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect();
        format!("proxima/{kind}/{hex}/")
    }

    pub fn path(&self) -> String {
        match &self.purpose {
            Purpose::Edge => "/health/edge".to_owned(),
            Purpose::Gate(name) => format!("/health/gate/{name}"),
        }
    }

    /// # Errors
    /// `Refused` when the SDK wants a field that is not here.
    pub fn config(&self, dns: &Dns) -> Result<HealthCheckConfig, ApiError> {
        let config = HealthCheckConfig::builder()
            .r#type(HealthCheckType::Http)
            .port(i32::from(self.port))
            .resource_path(self.path())
            .request_interval(self.interval_s)
            .failure_threshold(i32::from(dns.health_threshold));
        match &self.host {
            Host::Address(address) => config.ip_address(address.to_string()),
            Host::Name(name) => config.fully_qualified_domain_name(name.as_str()),
        }
        .build()
        .map_err(|error| ApiError::unbuilt("CreateHealthCheck", &error))
    }

    /// How an existing check differs from what is asked for; `None` when it does not.
    pub fn difference(&self, found: &HealthCheck, dns: &Dns) -> Option<Difference> {
        let config = found.health_check_config.as_ref()?;
        let off = |flag: Option<bool>| Some(flag.unwrap_or(false).to_string());
        let nothing = || "nothing".to_owned();
        let (address, host) = match &self.host {
            Host::Address(address) => (address.to_string(), nothing()),
            Host::Name(name) => (nothing(), name.to_string()),
        };
        let wanted: [(&'static str, String, Option<String>); 9] = [
            ("type", "HTTP".to_owned(), Some(config.r#type.as_str().to_owned())),
            ("interval", self.interval_s.to_string(), config.request_interval.map(|s| s.to_string())),
            ("address", address, config.ip_address.clone()),
            ("host", host, config.fully_qualified_domain_name.as_deref().map(super::api::plain_name)),
            ("port", self.port.to_string(), config.port.map(|port| port.to_string())),
            ("path", self.path(), config.resource_path.clone()),
            (
                "threshold",
                dns.health_threshold.to_string(),
                config.failure_threshold.map(|count| count.to_string()),
            ),
            // Either would make the answer mean something else: always well, or the opposite.
            ("disabled", "false".to_owned(), off(config.disabled)),
            ("inverted", "false".to_owned(), off(config.inverted)),
        ];
        wanted.into_iter().find_map(|(what, wanted, found)| {
            let found = found.unwrap_or_else(nothing);
            (found != wanted).then_some(Difference { what, found, wanted })
        })
    }
}

/// One setting of a check that is not as the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub what: &'static str,
    pub found: String,
    pub wanted: String,
}

impl Difference {
    /// Whether UpdateHealthCheck can mend it: type and interval are fixed at creation.
    /// Source: API reference, UpdateHealthCheck.
    pub fn mendable(&self) -> bool {
        !matches!(self.what, "type" | "interval")
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}, the configuration says {}", self.what, self.found, self.wanted)
    }
}

impl std::fmt::Display for CheckSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}:{}{} ({})", self.host, self.port, self.path(), self.region)
    }
}

/// Route 53 takes 10 or 30; `config` allows nothing else.
pub fn interval_s(dns: &Dns) -> i32 {
    i32::try_from(dns.health_interval.as_secs()).unwrap_or(i32::MAX)
}

/// The account's checks that carry Proxima's references.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    by_reference: BTreeMap<String, HealthCheck>,
}

impl Checks {
    /// # Errors
    /// Those of the listing.
    pub async fn read(api: &Api) -> Result<Self, ApiError> {
        Ok(Self::of(api.health_checks().await?))
    }

    /// Of all checks those with references of Proxima's form.
    pub fn of(checks: impl IntoIterator<Item = HealthCheck>) -> Self {
        let ours = checks.into_iter().filter(|check| check.caller_reference.starts_with("proxima/"));
        Self { by_reference: ours.map(|check| (check.caller_reference.clone(), check)).collect() }
    }

    /// The check for `spec`: the first one, should there be several.
    pub fn find(&self, spec: &CheckSpec) -> Option<&HealthCheck> {
        let start = spec.reference();
        let (_, check) = self.by_reference.range(start.clone()..).next()?;
        check.caller_reference.starts_with(&start).then_some(check)
    }

    pub fn id(&self, spec: &CheckSpec) -> Option<&str> {
        self.find(spec).map(|check| check.id.as_str())
    }

    /// Whether a record's health check is one that was made for records by Proxima.
    pub fn gate_by_id(&self, id: &str) -> Option<&HealthCheck> {
        let mut gates = self.by_reference.range("proxima/gate/".to_owned()..);
        gates.find_map(|(reference, check)| {
            (reference.starts_with("proxima/gate/") && check.id == id).then_some(check)
        })
    }

    pub fn add(&mut self, check: HealthCheck) {
        self.by_reference.insert(check.caller_reference.clone(), check);
    }

    /// These without the checks that were deleted at Route 53, by their ids.
    #[must_use]
    pub fn without(&self, gone: &[&str]) -> Self {
        let mut left = self.clone();
        left.by_reference.retain(|_, check| !gone.contains(&check.id.as_str()));
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DnsMode;
    use std::time::Duration;

    fn a_gate() -> CheckSpec {
        CheckSpec {
            zone_id: "Z0123456789ABCDEFGHIJ".to_owned(),
            region: RegionId::parse("ap-southeast-2").unwrap(),
            purpose: Purpose::Gate(DnsName::parse("www.example.com").unwrap()),
            host: Host::Address("203.0.113.10".parse().unwrap()),
            port: 80,
            interval_s: 10,
        }
    }

    #[test]
    fn a_check_with_any_other_setting_differs() {
        let dns = Dns {
            zone_id: "Z0123456789ABCDEFGHIJ".to_owned(),
            mode: DnsMode::Act,
            endpoint: None,
            poll: Duration::from_secs(10),
            insync_poll: Duration::from_secs(2),
            health_interval: Duration::from_secs(10),
            health_threshold: 3,
            requests_per_second: 5,
            verify: false,
            servers: Vec::new(),
        };
        let found = |edit: fn(&mut HealthCheckConfig)| {
            let mut config = a_gate().config(&dns).unwrap();
            edit(&mut config);
            let check = HealthCheck::builder().id("id").caller_reference("proxima/").health_check_version(1);
            a_gate().difference(&check.health_check_config(config).build().unwrap(), &dns)
        };
        assert_eq!(found(|_| ()), None);
        assert_eq!(found(|config| (config.disabled, config.inverted) = (Some(false), Some(false))), None);
        type Edit = fn(&mut HealthCheckConfig);
        let edits: [(&str, Edit); 9] = [
            ("type", |config| config.r#type = HealthCheckType::Tcp),
            ("address", |config| config.ip_address = Some("203.0.113.11".to_owned())),
            ("port", |config| config.port = Some(81)),
            ("host", |config| config.fully_qualified_domain_name = Some("elsewhere.test".to_owned())),
            ("path", |config| config.resource_path = Some("/health/edge".to_owned())),
            ("interval", |config| config.request_interval = Some(30)),
            ("threshold", |config| config.failure_threshold = None),
            ("disabled", |config| config.disabled = Some(true)),
            ("inverted", |config| config.inverted = Some(true)),
        ];
        for (what, edit) in edits {
            let said = found(edit).unwrap();
            assert_eq!(said.what, what, "{said}");
            assert_eq!(said.mendable(), !["type", "interval"].contains(&what), "{said}");
        }
    }

    #[test]
    fn references_fit_and_tell_every_part_apart() {
        let spec = a_gate();
        let others = [
            CheckSpec { zone_id: "Z1".to_owned(), ..spec.clone() },
            CheckSpec { region: RegionId::parse("eu-west-1").unwrap(), ..spec.clone() },
            CheckSpec { purpose: Purpose::Edge, ..spec.clone() },
            CheckSpec { purpose: Purpose::Gate(DnsName::parse("api.example.com").unwrap()), ..spec.clone() },
            CheckSpec { host: Host::Address("203.0.113.11".parse().unwrap()), ..spec.clone() },
            CheckSpec { host: Host::Name(DnsName::parse("lb.example.net").unwrap()), ..spec.clone() },
            CheckSpec { interval_s: 30, ..spec.clone() },
            CheckSpec { port: 8080, ..spec.clone() },
        ];
        assert!(format!("{}99", spec.reference()).len() <= 64);
        for other in others {
            assert_ne!(other.reference(), spec.reference(), "{other}");
        }
        assert_eq!(spec.clone().reference(), spec.reference());
    }
}
