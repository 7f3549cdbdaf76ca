//! The records that the configuration asks for under one name, and what a found record is to them.
//!
//! Global form: a latency alias an entry at the name itself, each onto a
//! weighted set `<entry>.<name>`. Simple form: one weighted set at the name.
//! Records hold addresses (A and AAAA, kept alike), are aliases to load
//! balancers (the same), or lead to another name (CNAME); one kind in one set.
//! Pure: it knows the SDK's record type, and no call.

use super::api::plain_name;
use super::checks::{CheckSpec, Checks, Host, Purpose, interval_s};
use crate::config::{Config, Form, Target};
use crate::domain::drift::Drift;
use crate::domain::name::{DnsName, EntryId, RegionId};
use crate::domain::weights::{Weight, WeightedSet};
use aws_sdk_route53::error::BuildError;
use aws_sdk_route53::types::{AliasTarget, ResourceRecord, ResourceRecordSet, RrType};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A record type that users are sent by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    A,
    Aaaa,
    Cname,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::A, Self::Aaaa, Self::Cname];

    pub fn rr_type(self) -> RrType {
        match self {
            Self::A => RrType::A,
            Self::Aaaa => RrType::Aaaa,
            Self::Cname => RrType::Cname,
        }
    }

    pub fn of(kind: &RrType) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.rr_type() == *kind)
    }

    /// Whether a region with this target can have records of this kind.
    fn fits(self, target: &Target) -> bool {
        match (self, target) {
            (Self::A, Target::Addresses(addresses)) => addresses.iter().any(IpAddr::is_ipv4),
            (Self::Aaaa, Target::Addresses(addresses)) => addresses.iter().any(IpAddr::is_ipv6),
            (Self::A, Target::Alias(_)) | (Self::Cname, Target::Cname(_)) => true,
            (Self::Aaaa, Target::Alias(balancer)) => balancer.ipv6,
            (Self::Cname, _) | (_, Target::Cname(_)) => false,
        }
    }

    fn holds(self, address: &IpAddr) -> bool {
        address.is_ipv4() == (self == Self::A)
    }
}

/// A place for one record in the layout of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// A share of an entry's users to one region.
    Weighted { entry: EntryId, region: RegionId, kind: Kind },
    /// The latency alias of an entry.
    Alias { entry: EntryId, kind: Kind },
}

/// What is wrong with one record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{record}: {problem}")]
pub struct RecordProblem {
    /// Name, type and set identifier.
    pub record: String,
    pub problem: String,
    pub expected: String,
    pub found: String,
}

impl From<&RecordProblem> for Drift {
    fn from(problem: &RecordProblem) -> Self {
        Self {
            record: problem.record.clone(),
            expected: problem.expected.clone(),
            found: problem.found.clone(),
        }
    }
}

/// Why a name has no layout, or a record no form.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("'{0}' is not configured")]
    Unknown(DnsName),
    #[error("there is no [dns] in the configuration")]
    NoDns,
    #[error("the regions of '{0}' have no kind of target in common, or none at all")]
    NoKind(DnsName),
    #[error("no health check for {0}; run `proxima dns apply` (or `bootstrap` for a new zone)")]
    NoCheck(String),
    #[error("a record cannot be built")]
    Build(#[from] BuildError),
}

/// The records of one name.
#[derive(Debug, Clone)]
pub struct Layout {
    pub name: DnsName,
    pub zone_id: String,
    form: Form,
    /// Seconds.
    ttl: i64,
    pub kinds: Vec<Kind>,
    /// Each entry's set when all is well, and in the global form the place of its users.
    entries: BTreeMap<EntryId, Entry>,
    sites: BTreeMap<RegionId, Site>,
}

#[derive(Debug, Clone)]
struct Entry {
    home: WeightedSet,
    place: String,
}

#[derive(Debug, Clone)]
struct Site {
    target: Target,
    gate: CheckSpec,
}

impl Layout {
    /// # Errors
    /// `Unknown`, `NoDns` or `NoKind`: the configuration has no such layout.
    pub fn of(config: &Config, name: &DnsName) -> Result<Self, LayoutError> {
        let unknown = || LayoutError::Unknown(name.clone());
        let dns = config.dns.as_ref().ok_or(LayoutError::NoDns)?;
        let policy = config.policy.names.get(name).ok_or_else(unknown)?;
        let own = config.names.get(name).ok_or_else(unknown)?;
        let zone_id = own.zone_id.as_ref().unwrap_or(&dns.zone_id).clone();
        let mut sites = BTreeMap::new();
        for region in policy.regions() {
            let Some(found) = config.regions.get(region) else { return Err(unknown()) };
            let target = own.targets.get(region).or(found.target.as_ref());
            let host = target.and_then(Host::of);
            let (Some(target), Some(host)) = (target, host) else {
                return Err(LayoutError::NoKind(name.clone()));
            };
            let gate = CheckSpec {
                zone_id: zone_id.clone(),
                region: region.clone(),
                purpose: Purpose::Gate(name.clone()),
                host,
                port: found.health_port,
                interval_s: interval_s(dns),
            };
            sites.insert(region.clone(), Site { target: target.clone(), gate });
        }
        let everywhere = |kind: &Kind| sites.values().all(|site| kind.fits(&site.target));
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(everywhere).collect();
        if kinds.is_empty() {
            return Err(LayoutError::NoKind(name.clone()));
        }
        let place = |entry: &EntryId| {
            let region = config.regions.iter().find(|(region, _)| region.as_str() == entry.as_str());
            region.map_or_else(String::new, |(_, region)| region.place.clone())
        };
        let entries = policy
            .entries
            .iter()
            .map(|(entry, home)| (entry.clone(), Entry { home: home.clone(), place: place(entry) }))
            .collect();
        let ttl = i64::try_from(own.ttl.as_secs()).unwrap_or(i64::MAX);
        Ok(Self { name: name.clone(), zone_id, form: own.form, ttl, kinds, entries, sites })
    }

    pub fn entries(&self) -> impl Iterator<Item = &EntryId> {
        self.entries.keys()
    }

    pub fn has_region(&self, set_identifier: &str) -> Option<&RegionId> {
        self.sites.keys().find(|region| region.as_str() == set_identifier)
    }

    /// Where a region's users are sent.
    pub fn target(&self, region: &RegionId) -> Option<&Target> {
        self.sites.get(region).map(|site| &site.target)
    }

    /// The weighted sets when all is well.
    pub fn home(&self) -> BTreeMap<EntryId, WeightedSet> {
        self.entries.iter().map(|(id, entry)| (id.clone(), entry.home.clone())).collect()
    }

    /// The gate checks that the records carry.
    pub fn gates(&self) -> impl Iterator<Item = &CheckSpec> {
        self.sites.values().map(|site| &site.gate)
    }

    pub fn gate(&self, region: &RegionId) -> Option<&CheckSpec> {
        self.sites.get(region).map(|site| &site.gate)
    }

    /// Places of the latency aliases; none in the simple form.
    pub fn aliases(&self) -> Vec<Slot> {
        let alias = |entry: &EntryId, kind: &Kind| Slot::Alias { entry: entry.clone(), kind: *kind };
        match self.form {
            Form::Simple => Vec::new(),
            Form::Global => self
                .entries
                .keys()
                .flat_map(|entry| self.kinds.iter().map(move |kind| alias(entry, kind)))
                .collect(),
        }
    }

    /// Where an entry's weighted records live.
    pub fn set_name(&self, entry: &EntryId) -> String {
        match self.form {
            Form::Global => format!("{entry}.{}", self.name),
            Form::Simple => self.name.as_str().to_owned(),
        }
    }

    /// The record of `slot` as it shall be; `weight` is for weighted ones, which must have one.
    ///
    /// # Errors
    /// `NoCheck` when the region's gate check does not exist.
    pub fn record(
        &self,
        slot: &Slot,
        weight: Option<Weight>,
        checks: &Checks,
    ) -> Result<ResourceRecordSet, LayoutError> {
        match slot {
            Slot::Alias { entry, kind } => {
                let place = self.entries.get(entry).map_or("", |entry| entry.place.as_str());
                Ok(ResourceRecordSet::builder()
                    .name(self.name.as_str())
                    .r#type(kind.rr_type())
                    .set_identifier(entry.as_str())
                    .region(place.into())
                    .alias_target(alias_target(&self.zone_id, &self.set_name(entry))?)
                    .build()?)
            }
            Slot::Weighted { entry, region, kind } => {
                let site = self.sites.get(region).ok_or_else(|| LayoutError::Unknown(self.name.clone()))?;
                let check =
                    checks.id(&site.gate).ok_or_else(|| LayoutError::NoCheck(site.gate.to_string()))?;
                let mut record = self.plain(&self.set_name(entry), *kind, &site.target)?;
                record.set_identifier = Some(region.as_str().to_owned());
                record.weight = weight.map(|weight| i64::from(weight.get()));
                record.health_check_id = Some(check.to_owned());
                Ok(record)
            }
        }
    }

    /// A simple record at the name itself that sends everybody to one region, of each kind.
    ///
    /// # Errors
    /// `Unknown` for a region that the name does not lead to.
    pub fn serving(&self, region: &RegionId) -> Result<Vec<ResourceRecordSet>, LayoutError> {
        let target = self.target(region).ok_or_else(|| LayoutError::Unknown(self.name.clone()))?;
        self.kinds.iter().map(|kind| self.plain(self.name.as_str(), *kind, target)).collect()
    }

    /// A record without any policy.
    fn plain(&self, name: &str, kind: Kind, target: &Target) -> Result<ResourceRecordSet, LayoutError> {
        let record = ResourceRecordSet::builder().name(name).r#type(kind.rr_type());
        let values = match target {
            // The TTL of an alias is its target's.
            Target::Alias(balancer) => {
                let target = alias_target(&balancer.zone_id, balancer.name.as_str())?;
                return Ok(record.alias_target(target).build()?);
            }
            Target::Cname(name) => vec![name.as_str().to_owned()],
            Target::Addresses(addresses) => {
                let mut values: Vec<String> =
                    addresses.iter().filter(|a| kind.holds(a)).map(IpAddr::to_string).collect();
                values.sort();
                values
            }
        };
        let values: Result<Vec<_>, BuildError> =
            values.into_iter().map(|value| ResourceRecord::builder().value(value).build()).collect();
        Ok(record.ttl(self.ttl).set_resource_records(Some(values?)).build()?)
    }

    /// The place of a found record; `None` when its name and type are none of Proxima's business.
    ///
    /// # Errors
    /// A record under a name and type of this layout for which there is no place.
    pub fn slot(&self, record: &ResourceRecordSet) -> Option<Result<Slot, RecordProblem>> {
        let kind = Kind::of(&record.r#type)?;
        let name = plain_name(&record.name);
        let at_name = name == self.name.as_str();
        let entry = self.entries.keys().find(|entry| self.set_name(entry) == name).cloned();
        if !at_name && entry.is_none() {
            return None;
        }
        let stranger = |problem: &str| {
            Some(Err(RecordProblem {
                record: shown(record),
                problem: problem.to_owned(),
                expected: "no such record".to_owned(),
                found: content(record),
            }))
        };
        if !self.kinds.contains(&kind) {
            return stranger("this type is not in use: not every region has such a target");
        }
        let Some(set) = record.set_identifier.as_deref() else {
            return stranger("a simple record, where the configuration asks for weighted or latency records");
        };
        match entry {
            Some(entry) => match self.has_region(set) {
                Some(region) => Some(Ok(Slot::Weighted { entry, region: region.clone(), kind })),
                None => stranger("the set identifier is no region of this name"),
            },
            None => match self.entries.keys().find(|entry| entry.as_str() == set) {
                Some(entry) => Some(Ok(Slot::Alias { entry: entry.clone(), kind })),
                None => stranger("the set identifier is no entry of this name"),
            },
        }
    }
}

/// With EvaluateTargetHealth: whom the target cannot serve goes to the next record.
fn alias_target(zone_id: &str, name: &str) -> Result<AliasTarget, BuildError> {
    AliasTarget::builder().hosted_zone_id(zone_id).dns_name(name).evaluate_target_health(true).build()
}

/// The witnesses that go with these layouts: one for each region that any of them uses.
pub fn edges<'a>(config: &Config, layouts: impl IntoIterator<Item = &'a Layout>) -> BTreeSet<CheckSpec> {
    let used: BTreeSet<&RegionId> =
        layouts.into_iter().flat_map(Layout::gates).map(|gate| &gate.region).collect();
    let dns = config.dns.as_ref();
    used.into_iter().filter_map(|id| CheckSpec::edge(config, dns?, id)).collect()
}

/// A record for people: name, type, set identifier.
pub fn shown(record: &ResourceRecordSet) -> String {
    let set = record.set_identifier.as_deref().map(|set| format!(" [{set}]")).unwrap_or_default();
    format!("{} {}{set}", plain_name(&record.name), record.r#type)
}

/// What a record says, for people.
pub fn content(record: &ResourceRecordSet) -> String {
    let mut parts = Vec::new();
    parts.extend(record.weight.map(|weight| format!("weight {weight}")));
    parts.extend(record.region.as_ref().map(|region| format!("latency {region}")));
    parts.extend(record.ttl.map(|ttl| format!("TTL {ttl}")));
    parts.extend(record.alias_target.as_ref().map(|target| format!("-> {}", plain_name(&target.dns_name))));
    if !record.resource_records().is_empty() {
        parts.push(values(record));
    }
    parts.join(" ")
}

/// One property of a record that is not as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub what: &'static str,
    pub found: String,
    pub wanted: String,
}

/// Every property in which a found record differs from what it shall be; none when it does not.
pub fn differences(found: &ResourceRecordSet, wanted: &ResourceRecordSet) -> Vec<Property> {
    let (found, wanted) = (canonical(found), canonical(wanted));
    if found == wanted {
        return Vec::new();
    }
    let parts: [(&'static str, String, String); 6] = [
        ("TTL", text(found.ttl), text(wanted.ttl)),
        ("values", values(&found), values(&wanted)),
        ("health check", text(found.health_check_id.as_deref()), text(wanted.health_check_id.as_deref())),
        ("latency region", text(found.region.as_ref()), text(wanted.region.as_ref())),
        ("alias target", alias(&found), alias(&wanted)),
        ("weight", text(found.weight), text(wanted.weight)),
    ];
    let mut properties: Vec<Property> = parts
        .into_iter()
        .filter(|(_, found, wanted)| found != wanted)
        .map(|(what, found, wanted)| Property { what, found, wanted })
        .collect();
    if properties.is_empty() {
        let found = "properties that the configuration does not ask for".to_owned();
        properties.push(Property { what: "record", found, wanted: "none of them".to_owned() });
    }
    properties
}

/// How a found record differs from what it shall be; `None` when it does not.
pub fn difference(found: &ResourceRecordSet, wanted: &ResourceRecordSet) -> Option<RecordProblem> {
    let properties = differences(found, wanted);
    let all = |side: fn(&Property) -> &String| {
        properties.iter().map(|one| format!("{} {}", one.what, side(one))).collect::<Vec<_>>().join(", ")
    };
    let Property { what, found: is, wanted: says } = properties.first()?;
    Some(RecordProblem {
        record: shown(found),
        problem: format!("{what} is {is}, the configuration says {says}"),
        expected: all(|property| &property.wanted),
        found: all(|property| &property.found),
    })
}

/// One spelling of a record: names plain, addresses as text in order, empty lists absent.
fn canonical(record: &ResourceRecordSet) -> ResourceRecordSet {
    let mut plain = record.clone();
    plain.name = plain_name(&record.name);
    let mut values: BTreeSet<String> = BTreeSet::new();
    for value in record.resource_records() {
        let value = value.value();
        let name = record.r#type == RrType::Cname;
        let other = || if name { plain_name(value) } else { value.to_owned() };
        values.insert(value.parse::<IpAddr>().map_or_else(|_| other(), |address| address.to_string()));
    }
    let values = values.into_iter().filter_map(|v| ResourceRecord::builder().value(v).build().ok());
    plain.resource_records = Some(values.collect::<Vec<_>>()).filter(|values| !values.is_empty());
    if let Some(target) = &mut plain.alias_target {
        target.dns_name = plain_name(&target.dns_name);
        target.hosted_zone_id = target.hosted_zone_id.trim_start_matches("/hostedzone/").to_owned();
    }
    plain
}

fn text(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| value.to_string())
}

fn values(record: &ResourceRecordSet) -> String {
    let values: Vec<&str> = record.resource_records().iter().map(ResourceRecord::value).collect();
    if values.is_empty() { "absent".to_owned() } else { values.join(" ") }
}

fn alias(record: &ResourceRecordSet) -> String {
    record.alias_target.as_ref().map_or_else(
        || "absent".to_owned(),
        |target| {
            let health = if target.evaluate_target_health { "with" } else { "without" };
            format!("{} in {} {health} EvaluateTargetHealth", target.dns_name, target.hosted_zone_id)
        },
    )
}
