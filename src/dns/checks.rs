//! The health checks of regions: what they look at, and how they are found again.
//!
//! `edge` asks for the liveness of the edge alone (the witness); `gate` is
//! attached to the records and is closed by the edge itself.

use super::api::Api;
use super::error::ApiError;
use crate::config::{Dns, Region};
use crate::domain::name::{DnsName, RegionId};
use aws_sdk_route53::types::{HealthCheck, HealthCheckConfig, HealthCheckType};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A caller reference holds at most 64 characters, too few for zone, region, name and address.
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

/// One check that the configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckSpec {
    pub zone_id: String,
    pub region: RegionId,
    pub purpose: Purpose,
    pub address: IpAddr,
    pub port: u16,
}

impl CheckSpec {
    /// The witness of a region; `None` for a region without addresses.
    pub fn edge(dns: &Dns, id: &RegionId, region: &Region) -> Option<Self> {
        Some(Self {
            zone_id: dns.zone_id.clone(),
            region: id.clone(),
            purpose: Purpose::Edge,
            address: *region.addresses.first()?,
            port: region.health_port,
        })
    }

    /// The start of its caller reference; a number follows, raised when a check
    /// was deleted: Route 53 never takes that reference again.
    pub fn reference(&self) -> String {
        let Self { zone_id, region, address, port, .. } = self;
        let (kind, name) = match &self.purpose {
            Purpose::Edge => ("edge", ""),
            Purpose::Gate(name) => ("gate", name.as_str()),
        };
        let identity = format!("proxima/{zone_id}/{region}/{kind}/{name}/{address}:{port}");
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
        HealthCheckConfig::builder()
            .r#type(HealthCheckType::Http)
            .ip_address(self.address.to_string())
            .port(i32::from(self.port))
            .resource_path(self.path())
            .request_interval(interval_seconds(dns))
            .failure_threshold(i32::from(dns.health_threshold))
            .build()
            .map_err(|error| ApiError::unbuilt("CreateHealthCheck", &error))
    }

    /// How an existing check differs from what is asked for; `None` when it does not.
    pub fn difference(&self, found: &HealthCheck, dns: &Dns) -> Option<String> {
        let config = found.health_check_config.as_ref()?;
        let off = |flag: Option<bool>| Some(flag.unwrap_or(false).to_string());
        let wanted: [(&str, String, Option<String>); 8] = [
            ("type", "HTTP".to_owned(), Some(config.r#type.as_str().to_owned())),
            ("address", self.address.to_string(), config.ip_address.clone()),
            ("port", self.port.to_string(), config.port.map(|port| port.to_string())),
            ("path", self.path(), config.resource_path.clone()),
            (
                "interval",
                interval_seconds(dns).to_string(),
                config.request_interval.map(|seconds| seconds.to_string()),
            ),
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
            let found = found.unwrap_or_else(|| "nothing".to_owned());
            (found != wanted).then(|| format!("{what} is {found}, the configuration says {wanted}"))
        })
    }
}

impl std::fmt::Display for CheckSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = match self.address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        write!(f, "http://{host}:{}{} ({})", self.port, self.path(), self.region)
    }
}

/// Route 53 takes 10 or 30; `config` allows nothing else.
fn interval_seconds(dns: &Dns) -> i32 {
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
            address: "203.0.113.10".parse().unwrap(),
            port: 80,
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
        let edits: [(&str, Edit); 8] = [
            ("type", |config| config.r#type = HealthCheckType::Tcp),
            ("address", |config| config.ip_address = Some("203.0.113.11".to_owned())),
            ("port", |config| config.port = Some(81)),
            ("path", |config| config.resource_path = Some("/health/edge".to_owned())),
            ("interval", |config| config.request_interval = Some(30)),
            ("threshold", |config| config.failure_threshold = None),
            ("disabled", |config| config.disabled = Some(true)),
            ("inverted", |config| config.inverted = Some(true)),
        ];
        for (what, edit) in edits {
            let said = found(edit).unwrap_or_default();
            assert!(said.starts_with(&format!("{what} is ")), "{what}: {said}");
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
            CheckSpec { address: "203.0.113.11".parse().unwrap(), ..spec.clone() },
            CheckSpec { port: 8080, ..spec.clone() },
        ];
        assert!(format!("{}99", spec.reference()).len() <= 64);
        for other in others {
            assert_ne!(other.reference(), spec.reference(), "{other}");
        }
        assert_eq!(spec.clone().reference(), spec.reference());
    }
}
