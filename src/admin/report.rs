//! `/snapshot`: the snapshot as JSON, for people and tests.

use super::{Bound, Wiring};
use crate::domain::drift::Drift;
use crate::domain::health::State;
use crate::domain::latency::Rtt;
use crate::domain::name::{DnsName, EntryId, RegionId, ServiceId};
use crate::domain::snapshot::{Candidate, Gate, NameStatus, Place, RegionStatus, ServiceSnapshot, ZoneShare};
use crate::domain::time::Time;
use crate::domain::view::{CapacityView, LoadView, View, Words};
use crate::domain::votes::Witness;
use crate::domain::weights::WeightedSet;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Weights of a name's entries: entry -> region -> weight.
type Weights = BTreeMap<EntryId, BTreeMap<RegionId, u8>>;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    number: u64,
    age_seconds: f64,
    own: RegionId,
    /// `null` when ready, else why not.
    unready: Option<&'static str>,
    listeners: Vec<Bound>,
    regions: BTreeMap<RegionId, RegionReport>,
    services: BTreeMap<ServiceId, ServiceReport>,
    names: BTreeMap<DnsName, NameReport>,
    /// Addresses of every other region's peer listener.
    peers: BTreeMap<RegionId, Vec<SocketAddr>>,
    view: View,
}

#[derive(Debug, Serialize)]
struct RegionReport {
    rtt_ms: Option<f64>,
    rtt_p99_ms: Option<f64>,
    jitter_ms: Option<f64>,
    /// Share of the last probes that got no answer.
    loss: f64,
    first_byte_ms: Option<f64>,
    load: LoadView,
    heard: bool,
    state: State,
    witness: Witness,
    /// How often this pod probes it itself.
    probes: &'static str,
}

#[derive(Debug, Serialize)]
struct ServiceReport {
    panic: bool,
    accepts_forwarded: bool,
    capacity: Option<CapacityView>,
    /// Share of the own users that fits here.
    home: f64,
    candidates: Vec<CandidateReport>,
    endpoints: Vec<EndpointReport>,
    states: BTreeMap<RegionId, State>,
}

#[derive(Debug, Serialize)]
struct CandidateReport {
    region: RegionId,
    place: &'static str,
    share: f64,
    endpoints: Vec<SocketAddr>,
    /// Zone -> its part of the requests; empty: zones play no part.
    zones: BTreeMap<String, f64>,
}

#[derive(Debug, Serialize)]
struct EndpointReport {
    address: SocketAddr,
    state: State,
    in_flight: u32,
}

#[derive(Debug, Serialize)]
struct NameReport {
    /// Voter -> target -> vote.
    votes: BTreeMap<RegionId, Arc<Words>>,
    verdicts: BTreeMap<RegionId, &'static str>,
    wanted: Weights,
    applied: Weights,
    generation: Option<u64>,
    /// The rule that holds back a change now.
    refusal: Option<&'static str>,
    /// Records that are not what the configuration asks for.
    drift: Vec<Drift>,
    gate: &'static str,
}

impl Report {
    pub(super) fn new(wiring: &Wiring, now: Time) -> Self {
        let snapshot = wiring.snapshot.load();
        Self {
            number: snapshot.number,
            age_seconds: now.since(snapshot.at).as_secs_f64(),
            own: snapshot.own.clone(),
            unready: wiring.unready(),
            listeners: wiring.listeners.to_vec(),
            regions: snapshot.regions.iter().map(|(id, status)| (id.clone(), status.into())).collect(),
            services: snapshot
                .services
                .iter()
                .map(|(id, service)| (id.clone(), service.as_ref().into()))
                .collect(),
            names: snapshot.names.iter().map(|(id, status)| (id.clone(), status.into())).collect(),
            peers: snapshot
                .peers
                .iter()
                .map(|(id, nodes)| (id.clone(), nodes.iter().map(|node| node.address()).collect()))
                .collect(),
            view: View::clone(&wiring.view.load()),
        }
    }
}

fn millis(rtt: Rtt) -> f64 {
    rtt.duration().as_secs_f64() * 1000.0
}

impl From<&RegionStatus> for RegionReport {
    fn from(status: &RegionStatus) -> Self {
        Self {
            rtt_ms: status.rtt.map(millis),
            rtt_p99_ms: status.quality.p99.map(millis),
            jitter_ms: status.quality.jitter.map(millis),
            loss: status.quality.loss,
            first_byte_ms: status.quality.first_byte.map(millis),
            load: status.load,
            heard: status.heard,
            state: status.state,
            witness: status.witness,
            probes: status.pace.as_str(),
        }
    }
}

impl From<&ServiceSnapshot> for ServiceReport {
    fn from(service: &ServiceSnapshot) -> Self {
        Self {
            panic: service.panic,
            accepts_forwarded: service.accepts_forwarded,
            capacity: service.room.capacity,
            home: service.room.home,
            candidates: service.candidates.iter().map(CandidateReport::from).collect(),
            endpoints: service
                .endpoints
                .iter()
                .map(|status| EndpointReport {
                    address: status.endpoint.address(),
                    state: status.state,
                    in_flight: status.endpoint.in_flight(),
                })
                .collect(),
            states: service.states.iter().map(|(region, state)| (region.clone(), *state)).collect(),
        }
    }
}

impl From<&Candidate> for CandidateReport {
    fn from(candidate: &Candidate) -> Self {
        Self {
            region: candidate.region.clone(),
            place: match candidate.place {
                Place::Own => "own",
                Place::Peer => "peer",
            },
            share: candidate.share,
            endpoints: candidate.endpoints.iter().map(|endpoint| endpoint.address()).collect(),
            zones: zones(candidate),
        }
    }
}

fn zones(candidate: &Candidate) -> BTreeMap<String, f64> {
    let before = std::iter::once(0.0).chain(candidate.zones.iter().map(|share| share.up_to));
    let part = |(share, before): (&ZoneShare, f64)| {
        let zone = share.zone.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        (zone, share.up_to - before)
    };
    candidate.zones.iter().zip(before).map(part).collect()
}

impl From<&NameStatus> for NameReport {
    fn from(status: &NameStatus) -> Self {
        Self {
            votes: status.votes.clone(),
            verdicts: status
                .verdicts
                .iter()
                .map(|(region, verdict)| (region.clone(), verdict.as_str()))
                .collect(),
            wanted: weights(&status.wanted),
            applied: weights(&status.applied),
            generation: status.generation.map(|generation| generation.get()),
            refusal: status.refusal,
            drift: status.drift.clone(),
            gate: match status.gate {
                Gate::Open => "open",
                Gate::Closed => "closed",
            },
        }
    }
}

fn weights(sets: &BTreeMap<EntryId, WeightedSet>) -> Weights {
    let regions =
        |set: &WeightedSet| set.iter().map(|(region, weight)| (region.clone(), weight.get())).collect();
    sets.iter().map(|(entry, set)| (entry.clone(), regions(set))).collect()
}
