//! Which records answer a query: pure, from the served record sets.
//!
//! Sources: developer guide, "How Amazon Route 53 chooses records when health
//! checking is configured", "Weighted routing", "Latency-based routing" and
//! "How health checks work in complex Amazon Route 53 configurations".

use super::balancers::{self, Balancers};
use super::name::Name;
use super::record::{Content, RecordKey, RecordSet, RecordType, Routing, Soa};
use super::rules::{Records, group};
use crate::rtt_table::RttTable;
use std::time::Duration;

/// Aliases or CNAMEs followed for one answer; deeper ones answer as absent.
const DEPTH_MAX: usize = 8;

/// What is asked, and from where.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    pub name: &'a Name,
    /// `None` for a type that this server does not carry.
    pub kind: Option<RecordType>,
    /// The AWS region that the asker is nearest to; `None` when unknown.
    pub place: Option<&'a str>,
}

/// Records of one name and type in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub name: Name,
    pub kind: RecordType,
    /// Seconds.
    pub ttl: u32,
    pub values: Vec<String>,
}

/// An answer. `soa` is the zone's, with the negative TTL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Records(Vec<Answered>),
    /// The name exists, this type does not.
    NoData {
        soa: Answered,
    },
    /// Nothing is at or below the name.
    NxDomain {
        soa: Answered,
    },
}

/// All that a choice depends on, besides the query.
pub struct World<'a> {
    pub zone: &'a Name,
    pub records: &'a Records,
    pub rtts: &'a RttTable,
    pub balancers: &'a Balancers,
    /// State of a health check by id; a deleted check counts as healthy.
    pub healthy: &'a dyn Fn(&str) -> bool,
}

/// Answers a query for a name in the zone; `draw(n)` is uniform in `0..n`.
pub fn answer(world: &World<'_>, query: Query<'_>, draw: &mut dyn FnMut(u32) -> u32) -> Answer {
    let mut answered = Vec::new();
    let mut name = query.name.clone();
    for _ in 0..DEPTH_MAX {
        let found = query
            .kind
            .and_then(|kind| world.resolve(&name, kind, query.place, draw))
            .or_else(|| world.resolve(&name, RecordType::Cname, query.place, draw));
        let Some(found) = found else { break };
        let next = match (found.kind, query.kind) {
            (RecordType::Cname, kind) if kind != Some(RecordType::Cname) => {
                found.values.first().and_then(|value| Name::parse(value).ok())
            }
            _ => None,
        };
        answered.push(found);
        match next {
            Some(next) if next.is_in(world.zone) => name = next,
            _ => break,
        }
    }
    if !answered.is_empty() {
        return Answer::Records(answered);
    }
    let soa = world.soa();
    if world.exists(query.name) { Answer::NoData { soa } } else { Answer::NxDomain { soa } }
}

impl World<'_> {
    /// The records of one name and type as this query gets them.
    ///
    /// An alias answers under its own name with its target's values and TTL.
    /// Source: developer guide, "Choosing between alias and non-alias records".
    fn resolve(
        &self,
        name: &Name,
        kind: RecordType,
        place: Option<&str>,
        draw: &mut dyn FnMut(u32) -> u32,
    ) -> Option<Answered> {
        let mut at = name.clone();
        for _ in 0..DEPTH_MAX {
            let members: Vec<&RecordSet> = group(self.records, &at, kind).collect();
            let chosen = self.choose(&members, place, draw)?;
            match &chosen.content {
                Content::Values { ttl, values } => {
                    return Some(Answered { name: name.clone(), kind, ttl: *ttl, values: values.clone() });
                }
                Content::Alias(target) => {
                    if let Some(values) = self.balancers.values(&target.zone_id, &target.name, kind) {
                        let answered = Answered { name: name.clone(), kind, ttl: balancers::TTL, values };
                        return (!answered.values.is_empty()).then_some(answered);
                    }
                    at = target.name.clone();
                }
            }
        }
        None
    }

    /// The member of a group that answers: by its policy among the healthy
    /// ones, among all when none is healthy.
    ///
    /// Source: developer guide, "How Amazon Route 53 chooses records when
    /// health checking is configured": if no record is healthy, all are
    /// treated as healthy.
    fn choose<'r>(
        &self,
        members: &[&'r RecordSet],
        place: Option<&str>,
        draw: &mut dyn FnMut(u32) -> u32,
    ) -> Option<&'r RecordSet> {
        let healthy: Vec<&RecordSet> =
            members.iter().copied().filter(|member| self.record_healthy(member, 0)).collect();
        match members.first()?.routing {
            Routing::Simple => members.first().copied(),
            Routing::Weighted(_) => weighted(&healthy, members, draw),
            Routing::Latency(_) => {
                let among = if healthy.is_empty() { members } else { &healthy };
                self.nearest(among, place)
            }
        }
    }

    /// Whether a record counts as healthy: its own check, and for an alias
    /// that evaluates its target, any record there.
    ///
    /// A record without a check is always healthy. Source: developer guide,
    /// "How health checks work in complex Amazon Route 53 configurations".
    fn record_healthy(&self, record: &RecordSet, depth: usize) -> bool {
        let own = record.health_check_id.as_deref().is_none_or(self.healthy);
        let target = match &record.content {
            // Always well: what its own checks would say is not played here.
            Content::Alias(target) if self.balancers.holds(&target.zone_id, &target.name) => true,
            Content::Alias(target) if target.evaluate_target_health && depth < DEPTH_MAX => {
                group(self.records, &target.name, record.key.kind)
                    .any(|member| self.record_healthy(member, depth + 1))
            }
            _ => true,
        };
        own && target
    }

    /// The member whose region is nearest to the place; ties by set identifier.
    ///
    /// An unknown place or region is as far as can be, so the first identifier
    /// answers: a fixed choice, as one cannot know better.
    fn nearest<'r>(&self, members: &[&'r RecordSet], place: Option<&str>) -> Option<&'r RecordSet> {
        members.iter().copied().min_by_key(|member| match (&member.routing, place) {
            (Routing::Latency(region), Some(place)) => self.rtts.rtt(place, region).unwrap_or(Duration::MAX),
            _ => Duration::MAX,
        })
    }

    /// Whether anything is at the name or below it.
    fn exists(&self, name: &Name) -> bool {
        let first = RecordKey { name: name.clone(), kind: RecordType::A, set_identifier: None };
        self.records.range(first..).next().is_some_and(|(key, _)| key.name.is_in(name))
    }

    /// The zone's SOA with the TTL of a negative answer: the smaller of its
    /// own and its minimum. Source: RFC 2308, section 3.
    fn soa(&self) -> Answered {
        let found =
            group(self.records, self.zone, RecordType::Soa).find_map(|record| match &record.content {
                Content::Values { ttl, values } => Some((*ttl, values.clone())),
                Content::Alias(_) => None,
            });
        let (ttl, values) = found.unwrap_or_default();
        let minimum = values.first().and_then(|value| Soa::parse(value)).map_or(ttl, |soa| soa.timers[3]);
        Answered { name: self.zone.clone(), kind: RecordType::Soa, ttl: ttl.min(minimum), values }
    }
}

/// A member of a weighted set: by weight among the healthy positive ones; else
/// a healthy zero-weight one, all alike; else, all being unhealthy, by weight
/// among the positive ones; else, all weights being zero, any.
///
/// Source: developer guide, "Values specific for weighted records" (weight 0
/// everywhere: all equally) and "How Amazon Route 53 chooses records when
/// health checking is configured" (nonzero first, then zero).
fn weighted<'r>(
    healthy: &[&'r RecordSet],
    all: &[&'r RecordSet],
    draw: &mut dyn FnMut(u32) -> u32,
) -> Option<&'r RecordSet> {
    by_weight(healthy, draw)
        .or_else(|| any(healthy, draw))
        .or_else(|| by_weight(all, draw))
        .or_else(|| any(all, draw))
}

fn by_weight<'r>(members: &[&'r RecordSet], draw: &mut dyn FnMut(u32) -> u32) -> Option<&'r RecordSet> {
    let total: u32 = members.iter().map(|member| weight(member)).sum();
    if total == 0 {
        return None;
    }
    let mut left = draw(total);
    members.iter().copied().find(|member| {
        let mine = weight(member);
        let found = left < mine;
        left = left.saturating_sub(mine);
        found
    })
}

fn any<'r>(members: &[&'r RecordSet], draw: &mut dyn FnMut(u32) -> u32) -> Option<&'r RecordSet> {
    let count = u32::try_from(members.len()).ok().filter(|count| *count > 0)?;
    members.get(draw(count) as usize).copied()
}

fn weight(record: &RecordSet) -> u32 {
    match record.routing {
        Routing::Weighted(weight) => u32::from(weight),
        Routing::Simple | Routing::Latency(_) => 0,
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
