//! What Route 53 holds: hosted zones, record sets, changes, health checks.
//!
//! Pure: time is an argument (since the server's start), ids come from a seeded
//! generator. The API sees a change at once; DNS answers by it only when it is
//! INSYNC, as in Route 53.
//! Source: API reference, ChangeResourceRecordSets and GetChange.

use super::balancers::Balancers;
use super::health::{CHECKS_MAX, CheckConfig, HealthCheck, Outcome};
use super::history::{Accepted, History};
use super::name::Name;
use super::record::{Content, RecordKey, RecordSet, RecordType, Routing};
use super::refusal::Refusal;
use super::rules::{self, Records, ZoneRef};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Changes that GetChange still knows; older ones are forgotten.
const CHANGES_MAX: usize = 10_000;
/// References of deleted checks that are still refused. Route 53 forgets none; a bound stays.
const USED_REFERENCES_MAX: usize = 10_000;

/// One hosted zone.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Without the `/hostedzone/` in front.
    pub id: String,
    pub name: Name,
    pub caller_reference: String,
    pub comment: Option<String>,
    /// What the API lists.
    records: Arc<Records>,
    /// What DNS answers by.
    served: Arc<Records>,
}

impl Zone {
    /// The record sets as the API lists them.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    fn reference<'a>(&'a self, balancers: &'a Balancers) -> ZoneRef<'a> {
        ZoneRef { id: &self.id, name: &self.name, balancers }
    }

    /// The record sets as DNS answers by them: those of INSYNC changes.
    #[must_use]
    pub fn served(&self) -> &Records {
        &self.served
    }
}

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeStatus {
    Pending,
    Insync,
}

/// One accepted change.
#[derive(Debug, Clone)]
pub struct ChangeInfo {
    /// Without the `/change/` in front.
    pub id: String,
    /// Since the server's start.
    pub submitted_at: Duration,
    insync_at: Duration,
    pub comment: Option<String>,
}

impl ChangeInfo {
    #[must_use]
    pub fn status(&self, now: Duration) -> ChangeStatus {
        if now >= self.insync_at { ChangeStatus::Insync } else { ChangeStatus::Pending }
    }
}

struct Pending {
    insync_at: Duration,
    zone_id: String,
    records: Arc<Records>,
}

/// A hosted zone to create.
#[derive(Debug, Clone)]
pub struct NewZone {
    pub name: Name,
    pub caller_reference: String,
    pub comment: Option<String>,
}

/// Everything that the account holds.
pub struct Store {
    zones: BTreeMap<String, Zone>,
    changes: BTreeMap<String, ChangeInfo>,
    change_order: VecDeque<String>,
    /// In the order of `insync_at`.
    pending: VecDeque<Pending>,
    balancers: Balancers,
    checks: BTreeMap<String, HealthCheck>,
    /// Of deleted checks, oldest first.
    used_references: VecDeque<String>,
    history: History,
    ids: StdRng,
    insync_delay: Duration,
}

impl Store {
    /// An empty account; `seed` decides its ids, `insync_delay` when changes reach DNS.
    #[must_use]
    pub fn new(seed: u64, insync_delay: Duration) -> Self {
        Self {
            zones: BTreeMap::new(),
            changes: BTreeMap::new(),
            change_order: VecDeque::new(),
            pending: VecDeque::new(),
            balancers: Balancers::default(),
            checks: BTreeMap::new(),
            used_references: VecDeque::new(),
            history: History::default(),
            ids: StdRng::seed_from_u64(seed),
            insync_delay,
        }
    }

    /// The load balancers that aliases may name.
    #[must_use]
    pub fn balancers(&self) -> &Balancers {
        &self.balancers
    }

    pub fn add_balancer(&mut self, zone_id: String, name: Name, addresses: Vec<IpAddr>) {
        self.balancers.add(zone_id, name, addresses);
    }

    /// Lets the changes that are due by `now` reach DNS.
    pub fn advance(&mut self, now: Duration) {
        while let Some(due) = self.pending.pop_front_if(|pending| pending.insync_at <= now) {
            if let Some(zone) = self.zones.get_mut(&due.zone_id) {
                zone.served = due.records;
            }
        }
    }

    /// Creates a zone with the NS and SOA records that Route 53 gives it.
    ///
    /// # Errors
    /// `HostedZoneAlreadyExists` when the caller reference was used.
    pub fn create_zone(&mut self, new: NewZone, now: Duration) -> Result<(Zone, ChangeInfo), Refusal> {
        if self.zones.values().any(|zone| zone.caller_reference == new.caller_reference) {
            return Err(Refusal::HostedZoneAlreadyExists);
        }
        let id = self.id('Z');
        let records = Arc::new(apex_records(&new.name));
        let zone = Zone {
            id: id.clone(),
            name: new.name,
            caller_reference: new.caller_reference,
            comment: new.comment,
            served: Arc::clone(&records),
            records,
        };
        self.zones.insert(id, zone.clone());
        Ok((zone, self.accept(None, now)))
    }

    /// # Errors
    /// `NoSuchHostedZone`.
    pub fn zone(&self, id: &str) -> Result<&Zone, Refusal> {
        self.zones.get(id).ok_or_else(|| Refusal::NoSuchHostedZone(id.to_owned()))
    }

    /// All zones, in the order of ListHostedZonesByName.
    #[must_use]
    pub fn zones_by_name(&self) -> Vec<&Zone> {
        let mut zones: Vec<&Zone> = self.zones.values().collect();
        zones.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        zones
    }

    /// Applies a batch, whole or not at all.
    ///
    /// # Errors
    /// `NoSuchHostedZone`, `NoSuchHealthCheck`, or `InvalidChangeBatch` with every broken rule.
    pub fn change(
        &mut self,
        zone_id: &str,
        batch: &[rules::Change],
        comment: Option<String>,
        now: Duration,
    ) -> Result<ChangeInfo, Refusal> {
        self.advance(now);
        let zone = self.zone(zone_id)?;
        for change in batch.iter().filter(|change| change.action != rules::Action::Delete) {
            if let Some(id) = &change.record.health_check_id {
                self.check(id)?;
            }
        }
        let before = Arc::clone(&zone.records);
        let after = rules::apply(zone.reference(&self.balancers), &before, batch)
            .map_err(Refusal::InvalidChangeBatch)?;
        let after = Arc::new(after);
        let info = self.accept(comment, now);
        self.history.note(
            Accepted { change_id: &info.id, at: now, insync_at: info.insync_at },
            &before,
            &after,
        );
        if let Some(zone) = self.zones.get_mut(zone_id) {
            zone.records = Arc::clone(&after);
        }
        self.pending.push_back(Pending {
            insync_at: info.insync_at,
            zone_id: zone_id.to_owned(),
            records: after,
        });
        self.advance(now);
        Ok(info)
    }

    /// # Errors
    /// `NoSuchChange`.
    pub fn change_info(&self, id: &str) -> Result<&ChangeInfo, Refusal> {
        self.changes.get(id).ok_or_else(|| Refusal::NoSuchChange(id.to_owned()))
    }

    /// Creates a check; the same call again finds the first one (`false`: nothing new).
    ///
    /// Source: API reference, CreateHealthCheck, CallerReference.
    ///
    /// # Errors
    /// `HealthCheckAlreadyExists` when the caller reference was used for another
    /// configuration, or for a check that was deleted; `TooManyHealthChecks`.
    pub fn create_check(
        &mut self,
        caller_reference: String,
        config: CheckConfig,
    ) -> Result<(HealthCheck, bool), Refusal> {
        if let Some(check) = self.checks.values().find(|check| check.caller_reference == caller_reference) {
            return if check.config == config {
                Ok((check.clone(), false))
            } else {
                Err(Refusal::HealthCheckAlreadyExists(caller_reference))
            };
        }
        if self.used_references.contains(&caller_reference) {
            return Err(Refusal::HealthCheckAlreadyExists(caller_reference));
        }
        if self.checks.len() >= CHECKS_MAX {
            return Err(Refusal::TooManyHealthChecks(CHECKS_MAX));
        }
        let id = self.uuid();
        let check = HealthCheck::new(id.clone(), caller_reference, config);
        self.checks.insert(id, check.clone());
        Ok((check, true))
    }

    /// # Errors
    /// `NoSuchHealthCheck`.
    pub fn check(&self, id: &str) -> Result<&HealthCheck, Refusal> {
        self.checks.get(id).ok_or_else(|| Refusal::NoSuchHealthCheck(id.to_owned()))
    }

    /// All checks, by id.
    pub fn checks(&self) -> impl Iterator<Item = &HealthCheck> {
        self.checks.values()
    }

    /// Gives a check other settings; what was seen stays.
    ///
    /// # Errors
    /// `NoSuchHealthCheck`.
    pub fn update_check(&mut self, id: &str, config: CheckConfig) -> Result<HealthCheck, Refusal> {
        let check = self.checks.get_mut(id).ok_or_else(|| Refusal::NoSuchHealthCheck(id.to_owned()))?;
        check.config = config;
        check.version += 1;
        Ok(check.clone())
    }

    /// Deletes a check, used by records or not, as Route 53 does; its reference stays used up.
    ///
    /// # Errors
    /// `NoSuchHealthCheck`.
    pub fn delete_check(&mut self, id: &str) -> Result<(), Refusal> {
        let gone = self.checks.remove(id).ok_or_else(|| Refusal::NoSuchHealthCheck(id.to_owned()))?;
        if self.used_references.len() == USED_REFERENCES_MAX {
            self.used_references.pop_front();
        }
        self.used_references.push_back(gone.caller_reference);
        Ok(())
    }

    /// Counts what one checker saw; nothing when the check is gone.
    pub fn observe(&mut self, id: &str, checker: usize, outcome: Outcome, now: Duration) {
        if let Some(check) = self.checks.get_mut(id) {
            check.observe(checker, outcome, now);
        }
    }

    /// What happened to the weighted sets.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    fn accept(&mut self, comment: Option<String>, now: Duration) -> ChangeInfo {
        let info =
            ChangeInfo { id: self.id('C'), submitted_at: now, insync_at: now + self.insync_delay, comment };
        if self.change_order.len() == CHANGES_MAX
            && let Some(oldest) = self.change_order.pop_front()
        {
            self.changes.remove(&oldest);
        }
        self.change_order.push_back(info.id.clone());
        self.changes.insert(info.id.clone(), info.clone());
        info
    }

    /// Ids as Route 53 forms them: a letter and capitals or digits.
    fn id(&mut self, first: char) -> String {
        const ALPHABET: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        let rest = (0..20).map(|_| char::from(ALPHABET[self.ids.random_range(0..ALPHABET.len())]));
        std::iter::once(first).chain(rest).collect()
    }

    fn uuid(&mut self) -> String {
        let bits: u128 = self.ids.random();
        let hex = format!("{bits:032x}");
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }
}

/// Names of the servers of a zone, as its NS record and delegation set say.
#[must_use]
pub fn name_servers(zone: &Name) -> [String; 2] {
    [format!("ns-1.{zone}"), format!("ns-2.{zone}")]
}

/// Source: developer guide, "NS and SOA records that Amazon Route 53 creates":
/// NS with a TTL of 172800 seconds, SOA with 900 and a minimum of 86400.
fn apex_records(zone: &Name) -> Records {
    let record = |kind, ttl, values| RecordSet {
        key: RecordKey { name: zone.clone(), kind, set_identifier: None },
        routing: Routing::Simple,
        content: Content::Values { ttl, values },
        health_check_id: None,
    };
    let [first, second] = name_servers(zone);
    let soa = format!("{first} hostmaster.{zone} 1 7200 900 1209600 86400");
    [record(RecordType::Ns, 172_800, vec![first, second]), record(RecordType::Soa, 900, vec![soa])]
        .into_iter()
        .map(|record| (record.key.clone(), record))
        .collect()
}
