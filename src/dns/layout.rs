//! The records that the configuration asks for under one name, and what a found record is to them.
//!
//! Global form: a latency alias an entry at the name itself, each onto a
//! weighted set `<entry>.<name>`. Simple form: one weighted set at the name.
//! A and AAAA are kept alike; a family is used when every region of the name has it.
//! Pure: it knows the SDK's record type, and no call.

use super::api::plain_name;
use super::checks::{CheckSpec, Checks, Purpose};
use crate::config::{Config, Dns, Form};
use crate::domain::name::{DnsName, EntryId, RegionId};
use crate::domain::weights::{Weight, WeightedSet};
use aws_sdk_route53::error::BuildError;
use aws_sdk_route53::types::{AliasTarget, ResourceRecord, ResourceRecordSet, RrType};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// An address family and its record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub fn rr_type(self) -> RrType {
        match self {
            Self::V4 => RrType::A,
            Self::V6 => RrType::Aaaa,
        }
    }

    fn of(kind: &RrType) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.rr_type() == *kind)
    }

    fn holds(self, address: &IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// A place for one record in the layout of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// A share of an entry's users to one region.
    Weighted { entry: EntryId, region: RegionId, family: Family },
    /// The latency alias of an entry.
    Alias { entry: EntryId, family: Family },
}

/// What is wrong with one record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{record}: {problem}")]
pub struct RecordProblem {
    /// Name, type and set identifier.
    pub record: String,
    pub problem: String,
}

/// Why a name has no layout, or a record no form.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("'{0}' is not configured")]
    Unknown(DnsName),
    #[error("there is no [dns] in the configuration")]
    NoDns,
    #[error("the regions of '{0}' share no address family: each needs an IPv4 or each an IPv6 address")]
    NoFamily(DnsName),
    #[error("no health check for {0}; run `proxima dns bootstrap`")]
    NoCheck(String),
    #[error("a record cannot be built")]
    Build(#[from] BuildError),
}

/// The records of one name.
#[derive(Debug, Clone)]
pub struct Layout {
    pub name: DnsName,
    zone_id: String,
    form: Form,
    /// Seconds.
    ttl: i64,
    pub families: Vec<Family>,
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
    addresses: Vec<IpAddr>,
    gate: CheckSpec,
}

impl Layout {
    /// # Errors
    /// `Unknown`, `NoDns` or `NoFamily`: the configuration has no such layout.
    pub fn of(config: &Config, name: &DnsName) -> Result<Self, LayoutError> {
        let unknown = || LayoutError::Unknown(name.clone());
        let dns = config.dns.as_ref().ok_or(LayoutError::NoDns)?;
        let policy = config.policy.names.get(name).ok_or_else(unknown)?;
        let own = config.names.get(name).ok_or_else(unknown)?;
        let mut sites = BTreeMap::new();
        for region in policy.regions() {
            let Some(found) = config.regions.get(region) else { return Err(unknown()) };
            let Some(first) = found.addresses.first() else {
                return Err(LayoutError::NoFamily(name.clone()));
            };
            let gate = CheckSpec {
                zone_id: dns.zone_id.clone(),
                region: region.clone(),
                purpose: Purpose::Gate(name.clone()),
                address: *first,
                port: found.health_port,
            };
            sites.insert(region.clone(), Site { addresses: found.addresses.clone(), gate });
        }
        let everywhere =
            |family: &Family| sites.values().all(|site| site.addresses.iter().any(|a| family.holds(a)));
        let families: Vec<Family> = Family::ALL.into_iter().filter(everywhere).collect();
        if families.is_empty() {
            return Err(LayoutError::NoFamily(name.clone()));
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
        Ok(Self {
            name: name.clone(),
            zone_id: dns.zone_id.clone(),
            form: own.form,
            ttl,
            families,
            entries,
            sites,
        })
    }

    pub fn entries(&self) -> impl Iterator<Item = &EntryId> {
        self.entries.keys()
    }

    /// The weighted sets when all is well.
    pub fn home(&self) -> BTreeMap<EntryId, WeightedSet> {
        self.entries.iter().map(|(id, entry)| (id.clone(), entry.home.clone())).collect()
    }

    /// The gate checks that the records carry.
    pub fn gates(&self) -> impl Iterator<Item = &CheckSpec> {
        self.sites.values().map(|site| &site.gate)
    }

    /// Places of the latency aliases; none in the simple form.
    pub fn aliases(&self) -> Vec<Slot> {
        match self.form {
            Form::Simple => Vec::new(),
            Form::Global => self
                .entries
                .keys()
                .flat_map(|entry| {
                    self.families.iter().map(|family| Slot::Alias { entry: entry.clone(), family: *family })
                })
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
            Slot::Alias { entry, family } => {
                let target = AliasTarget::builder()
                    .hosted_zone_id(&self.zone_id)
                    .dns_name(self.set_name(entry))
                    .evaluate_target_health(true)
                    .build()?;
                let place = self.entries.get(entry).map_or("", |entry| entry.place.as_str());
                Ok(ResourceRecordSet::builder()
                    .name(self.name.as_str())
                    .r#type(family.rr_type())
                    .set_identifier(entry.as_str())
                    .region(place.into())
                    .alias_target(target)
                    .build()?)
            }
            Slot::Weighted { entry, region, family } => {
                let site = self.sites.get(region).ok_or_else(|| LayoutError::Unknown(self.name.clone()))?;
                let check =
                    checks.id(&site.gate).ok_or_else(|| LayoutError::NoCheck(site.gate.to_string()))?;
                let mut addresses: Vec<String> =
                    site.addresses.iter().filter(|a| family.holds(a)).map(IpAddr::to_string).collect();
                addresses.sort();
                let values: Result<Vec<_>, BuildError> = addresses
                    .into_iter()
                    .map(|value| ResourceRecord::builder().value(value).build())
                    .collect();
                Ok(ResourceRecordSet::builder()
                    .name(self.set_name(entry))
                    .r#type(family.rr_type())
                    .set_identifier(region.as_str())
                    .set_weight(weight.map(|weight| i64::from(weight.get())))
                    .ttl(self.ttl)
                    .set_resource_records(Some(values?))
                    .health_check_id(check)
                    .build()?)
            }
        }
    }

    /// The place of a found record; `None` when its name and type are none of Proxima's business.
    ///
    /// # Errors
    /// A record under a name and type of this layout for which there is no place.
    pub fn slot(&self, record: &ResourceRecordSet) -> Option<Result<Slot, RecordProblem>> {
        let family = Family::of(&record.r#type)?;
        let name = plain_name(&record.name);
        let at_name = name == self.name.as_str();
        let entry = self.entries.keys().find(|entry| self.set_name(entry) == name).cloned();
        if !at_name && entry.is_none() {
            return None;
        }
        let stranger =
            |problem: &str| Some(Err(RecordProblem { record: shown(record), problem: problem.to_owned() }));
        if !self.families.contains(&family) {
            return stranger("this address family is not in use: not every region has such an address");
        }
        let Some(set) = record.set_identifier.as_deref() else {
            return stranger("a simple record, where the configuration asks for weighted or latency records");
        };
        match entry {
            Some(entry) => match self.sites.keys().find(|region| region.as_str() == set) {
                Some(region) => Some(Ok(Slot::Weighted { entry, region: region.clone(), family })),
                None => stranger("the set identifier is no region of this name"),
            },
            None => match self.entries.keys().find(|entry| entry.as_str() == set) {
                Some(entry) => Some(Ok(Slot::Alias { entry: entry.clone(), family })),
                None => stranger("the set identifier is no entry of this name"),
            },
        }
    }
}

/// The witnesses that go with these layouts: one for each region that any of them uses.
pub fn edges<'a>(
    config: &Config,
    dns: &Dns,
    layouts: impl IntoIterator<Item = &'a Layout>,
) -> BTreeSet<CheckSpec> {
    let used: BTreeSet<&RegionId> =
        layouts.into_iter().flat_map(Layout::gates).map(|gate| &gate.region).collect();
    let regions = config.regions.iter().filter(|(id, _)| used.contains(*id));
    regions.filter_map(|(id, region)| CheckSpec::edge(dns, id, region)).collect()
}

/// A record for people: name, type, set identifier.
pub fn shown(record: &ResourceRecordSet) -> String {
    let set = record.set_identifier.as_deref().map(|set| format!(" [{set}]")).unwrap_or_default();
    format!("{} {}{set}", plain_name(&record.name), record.r#type)
}

/// How a found record differs from what it shall be, its weight left aside; `None` when it does not.
pub fn difference(found: &ResourceRecordSet, wanted: &ResourceRecordSet) -> Option<RecordProblem> {
    let (found, wanted) = (canonical(found), canonical(wanted));
    let wanted = if found.weight.is_some() && wanted.weight.is_some() {
        let mut same = wanted;
        same.weight = found.weight;
        same
    } else {
        wanted
    };
    if found == wanted {
        return None;
    }
    let parts: [(&str, String, String); 6] = [
        ("TTL", text(found.ttl), text(wanted.ttl)),
        ("values", values(&found), values(&wanted)),
        ("health check", text(found.health_check_id.as_deref()), text(wanted.health_check_id.as_deref())),
        ("latency region", text(found.region.as_ref()), text(wanted.region.as_ref())),
        ("alias target", alias(&found), alias(&wanted)),
        ("weight", text(found.weight), text(wanted.weight)),
    ];
    let differs = |(what, found, wanted): &(&str, String, String)| {
        (found != wanted).then(|| format!("{what} is {found}, the configuration says {wanted}"))
    };
    let problem = parts
        .iter()
        .find_map(differs)
        .unwrap_or_else(|| "it has properties that the configuration does not ask for".to_owned());
    Some(RecordProblem { record: shown(&found), problem })
}

/// One spelling of a record: names plain, addresses as text in order, empty lists absent.
fn canonical(record: &ResourceRecordSet) -> ResourceRecordSet {
    let mut plain = record.clone();
    plain.name = plain_name(&record.name);
    let mut values: BTreeSet<String> = BTreeSet::new();
    for value in record.resource_records() {
        let value = value.value();
        values
            .insert(value.parse::<IpAddr>().map_or_else(|_| value.to_owned(), |address| address.to_string()));
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
