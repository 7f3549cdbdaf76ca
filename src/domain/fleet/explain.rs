//! What the core would do with a request, and what it holds of a DNS name, told with its reasons.

use super::Fleet;
use super::peers::Peer;
use super::publish::whole_millis;
use crate::domain::explain::{
    EntryExplanation, Explanation, LeftOut, Listed, NameExplanation, Question, RegionExplanation, Rule,
    RuleCheck, ServiceExplanation, VerdictExplanation, rule_of,
};
use crate::domain::health::{Ground, Health, State, Word};
use crate::domain::latency::Rtt;
use crate::domain::name::{DnsName, RegionId, ServiceId};
use crate::domain::routing::{Action, Asked, Backends, Route, RouteMatch, Scheme, host_of};
use crate::domain::snapshot::{Gate, ServiceSnapshot};
use crate::domain::time::Time;
use crate::domain::view::Words;
use crate::domain::votes::Verdict;
use crate::domain::weights::WeightedSet;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

impl Fleet {
    /// What becomes of a request now.
    pub fn explain(&self, question: &Question, now: Time) -> Explanation {
        let routes = &self.policy.routes;
        let headers = Listed(&question.headers);
        let path = routes.normal(&question.path).map(std::borrow::Cow::into_owned);
        let host = host_of(&question.host).0.to_ascii_lowercase();
        let asked = Asked {
            host: &host,
            path: path.as_deref().unwrap_or_default(),
            scheme: if question.https { Scheme::Https } else { Scheme::Http },
            method: &question.method,
            query: &question.query,
            headers: &headers,
        };
        let (route, found) = match path {
            Ok(_) => routes.explain(&asked),
            Err(_) => (None, RouteMatch::default()),
        };
        let services: Vec<ServiceExplanation> = route
            .map(|route| services(route))
            .unwrap_or_default()
            .into_iter()
            .map(|(service, share)| self.explain_service(&service, share, now))
            .collect();
        let rule = match (&path, route, services.first()) {
            (Err(_), _, _) => Rule::BadPath,
            (Ok(_), None, _) => Rule::NoRoute,
            (Ok(_), Some(_), None) => Rule::RouteAnswers,
            (Ok(_), Some(_), Some(service)) => service.rule,
        };
        Explanation {
            own: self.policy.own.clone(),
            question: question.clone(),
            problem: path.as_ref().err().map(ToString::to_string),
            path: path.ok(),
            route: found,
            action: route.map(|route| action(route)).unwrap_or_default(),
            services,
            rule,
        }
    }

    fn explain_service(&self, id: &ServiceId, share: f64, now: Time) -> ServiceExplanation {
        let decided = self.published.as_ref().and_then(|snapshot| snapshot.services.get(id));
        let mut regions = Vec::new();
        let mut left = 1.0;
        for (place, candidate) in decided.iter().flat_map(|of| of.candidates.iter()).enumerate() {
            let mut told = self.explain_region(id, &candidate.region, now);
            told.turn = Some(place + 1);
            told.share = Some(candidate.share);
            told.first = left * candidate.share.clamp(0.0, 1.0);
            told.endpoints = candidate.endpoints.len();
            left -= told.first;
            regions.push(told);
        }
        // Whoever is passed over by all comes to the first one again.
        if let Some(first) = regions.first_mut() {
            first.first += left;
        }
        let nearest = |region: &&RegionId| self.order.iter().position(|r| r == *region);
        let candidates: Vec<RegionId> = regions.iter().map(|told| told.region.clone()).collect();
        let mut others: Vec<&RegionId> =
            self.policy.regions.keys().filter(|region| !candidates.contains(region)).collect();
        others.sort_by_key(|region| (**region != self.policy.own, nearest(region)));
        for region in others {
            let mut told = self.explain_region(id, region, now);
            told.left_out = Some(match decided {
                None => LeftOut::Undecided,
                Some(_) if told.state.usable() => LeftOut::NoAddress,
                Some(_) => LeftOut::State,
            });
            regions.push(told);
        }
        let rule = self.rule(decided.map(|of| &**of), &regions);
        ServiceExplanation { service: id.clone(), share, rule, regions }
    }

    fn rule(&self, decided: Option<&ServiceSnapshot>, regions: &[RegionExplanation]) -> Rule {
        let Some(decided) = decided else { return Rule::ConfigurationOnly };
        let heard = regions.iter().any(|region| region.ground != Ground::Unheard);
        match rule_of(decided, &|region| self.distance(region).map(whole_millis)) {
            Rule::Nowhere if !heard => Rule::ConfigurationOnly,
            rule => rule,
        }
    }

    fn explain_region(&self, service: &ServiceId, region: &RegionId, now: Time) -> RegionExplanation {
        let own = *region == self.policy.own;
        let peer = self.peers.get(region);
        let health = if own {
            self.services.get(service).map(|own| &own.health)
        } else {
            peer.and_then(|peer| peer.services.get(service)).map(|remote| &remote.health)
        };
        let capacity_rps = self.policy.regions.get(region).and_then(|region| region.capacity_rps);
        let headroom_rps = match peer {
            Some(peer) => peer.heard.as_ref().and_then(|heard| heard.view.headroom_rps),
            None => capacity_rps.map(|capacity| (capacity - self.load.served_rps).max(0.0)),
        };
        let here = self.services.get(service);
        let there = peer.and_then(|peer| peer.heard.as_ref()?.view.services.get(service));
        let load =
            if own { here.and_then(|here| here.room.view()) } else { there.and_then(|there| there.load) };
        let rtt_ms = peer.and_then(|peer| peer.latency.median()).map(millis);
        let rank = self.order.iter().position(|other| other == region).map(|place| place + 1);
        RegionExplanation {
            region: region.clone(),
            own,
            turn: None,
            share: None,
            first: 0.0,
            state: health.map_or(State::Unknown, Health::state),
            ground: health.map_or(Ground::Unheard, Health::ground),
            word: health.map_or(Word::Unknown, |health| health.word().0),
            rtt_ms,
            score_ms: if own { Some(0.0) } else { self.distance(region).map(millis) },
            rank,
            sample_age_ms: peer.and_then(|peer| peer.latency.newest()).map(|at| age(at, now)),
            view_age_ms: peer.and_then(|peer| peer.heard.as_ref()).map(|heard| age(heard.at, now)),
            capacity_rps,
            headroom_rps,
            service_capacity: load.and_then(|load| load.capacity),
            asked_rps: here.and_then(|here| here.room.asks().get(region).copied()),
            granted_rps: there.and_then(|there| there.grants.get(&self.policy.own).copied()),
            endpoints: self.known_endpoints(service, peer),
            votes: self.votes_on(service, region),
            left_out: None,
        }
    }

    fn known_endpoints(&self, service: &ServiceId, peer: Option<&Peer>) -> usize {
        match peer {
            Some(peer) => peer.endpoints.len(),
            None => self.services.get(service).map_or(0, |own| own.endpoints.len()),
        }
    }

    fn votes_on(
        &self,
        service: &ServiceId,
        region: &RegionId,
    ) -> BTreeMap<DnsName, BTreeMap<RegionId, Word>> {
        let needs = |name: &&DnsName| {
            self.policy.names.get(*name).is_some_and(|policy| policy.services.contains(service))
        };
        self.names
            .iter()
            .filter(|(name, _)| needs(name))
            .map(|(name, record)| {
                let votes = record.votes.iter();
                let on = votes.filter_map(|(voter, words)| Some((voter.clone(), *words.get(region)?)));
                (name.clone(), on.collect())
            })
            .collect()
    }

    /// What is decided of a DNS name now; `None`: the configuration has no such name.
    pub fn explain_name(&self, name: &DnsName, now: Time) -> Option<NameExplanation> {
        let policy = self.policy.names.get(name)?;
        let record = self.names.get(name)?;
        let state = record.state.as_ref();
        let weights = |set: Option<&WeightedSet>| -> BTreeMap<RegionId, u8> {
            let pairs = set.into_iter().flat_map(WeightedSet::iter);
            pairs.map(|(region, weight)| (region.clone(), weight.get())).collect()
        };
        let entries = policy.entries.iter().map(|(entry, home)| EntryExplanation {
            entry: entry.clone(),
            applied: weights(state.and_then(|state| state.sets.get(entry))),
            wanted: weights(record.wanted.get(entry)),
            home: weights(Some(home)),
        });
        let operator = &record.operator;
        let witnesses = self.witnesses(now);
        let regions = self.policy.regions.keys().map(|region| {
            let on = |words: &Arc<Words>| words.get(region).copied();
            VerdictExplanation {
                region: region.clone(),
                verdict: record.verdicts.get(region).map_or("none yet", |v| Verdict::as_str(*v)).to_owned(),
                votes: record.votes.iter().filter_map(|(voter, w)| Some((voter.clone(), on(w)?))).collect(),
                majority: self.policy.regions.len() / 2 + 1,
                target: record.votes.get(region).and_then(on).unwrap_or(Word::Unknown),
                witness: witnesses.at(region),
                drained: operator.is_drained(region, now),
            }
        });
        Some(NameExplanation {
            name: name.clone(),
            own: self.policy.own.clone(),
            generation: record.generation().map(|generation| generation.get()),
            writer: state.and_then(|state| state.writer.clone()),
            changed_ms: state.and_then(|state| state.changed_at).map(|at| age(at, now)),
            writers_before: self.writer_rank(name, now),
            entries: entries.collect(),
            regions: regions.collect(),
            checks: record
                .checks
                .iter()
                .map(|check| RuleCheck {
                    rule: check.rule.as_str().to_owned(),
                    outcome: check.outcome.as_str().to_owned(),
                    detail: check.outcome.detail().map(|detail| detail.text(now)).unwrap_or_default(),
                })
                .collect(),
            refusal: record.refusal.map(|rule| rule.as_str().to_owned()),
            gate_closed: record.gate == Gate::Closed,
            operator: operator.clone(),
        })
    }
}

/// Services of a route with their shares, the largest first; none when it answers itself.
fn services(route: &Route) -> Vec<(ServiceId, f64)> {
    match &route.action {
        Action::Forward(forward) => match &forward.to {
            Backends::Service(service) => vec![(service.clone(), 1.0)],
            Backends::Split(split) => {
                let mut shares = split.shares();
                shares.sort_by(|(_, a), (_, b)| b.total_cmp(a));
                shares
            }
        },
        Action::Redirect(_) | Action::Respond(_) => Vec::new(),
    }
}

fn action(route: &Route) -> String {
    match &route.action {
        Action::Forward(_) => "forwards".to_owned(),
        Action::Redirect(redirect) => format!("redirects with {}", redirect.status.code()),
        Action::Respond(respond) => format!("answers {}", respond.status),
    }
}

fn millis(rtt: Rtt) -> f64 {
    rtt.duration().as_secs_f64() * 1000.0
}

fn age(at: Time, now: Time) -> u64 {
    let span: Duration = now.since(at);
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
