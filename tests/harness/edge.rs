//! What goes on around one edge: probes out, pods probed, requests, load.

use super::cast::pace;
use super::event::{Edgewise, Event};
use super::invariants::Held;
use super::runner::Run;
use proxima::domain::fleet::{
    EndpointAnswer, Input, Outcome, OutcomeResult, Probe, ProbeFailure, RegionAnswer,
};
use proxima::domain::latency::Rtt;
use proxima::domain::snapshot::Place;
use proxima::domain::time::Time;
use proxima::domain::view::View;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

impl Run<'_> {
    pub(super) fn edgewise(&mut self, edge: usize, what: Edgewise) -> Held {
        match what {
            Edgewise::Probe { to } => {
                self.again(edge, pace::PROBE, Edgewise::Probe { to });
                self.probe(edge, to);
                Ok(())
            }
            Edgewise::Answered { from, answer, sent } => self.answered(edge, from, answer, sent),
            Edgewise::Refused { from } => self.region_probed(edge, from, Err(ProbeFailure::Connect)),
            Edgewise::Pods => {
                self.again(edge, pace::PROBE, Edgewise::Pods);
                self.probe_pods(edge)
            }
            Edgewise::Requests => {
                self.again(edge, pace::REQUESTS, Edgewise::Requests);
                self.requests(edge)
            }
            Edgewise::Poison => {
                self.again(edge, pace::POISON, Edgewise::Poison);
                self.poison(edge)
            }
            Edgewise::Load => {
                self.again(edge, pace::PROBE, Edgewise::Load);
                self.load(edge)
            }
            Edgewise::Dns(what) => self.dns(edge, what),
        }
    }

    fn again(&mut self, edge: usize, span: Duration, what: Edgewise) {
        let after = self.dice[edge].jitter(span);
        self.of(edge, after, what);
    }

    fn probe(&mut self, edge: usize, to: usize) {
        let Some(boot) = self.edges[edge].as_ref().map(|p| p.boot) else { return };
        match self.fabric.one_way(&self.world, edge, to) {
            Some(delay) => {
                let event = Event::AtPeer { from: edge, boot, to, sent: self.now };
                self.schedule(self.now + delay, event);
            }
            None => self.time_out(edge, boot, to, self.now),
        }
    }

    /// The other edge answers with the view that it has made last.
    pub(super) fn probe_arrives(&mut self, from: usize, boot: u64, to: usize, sent: Time) {
        let back = match self.world.passes(from, to) {
            Some(_) => self.fabric.one_way(&self.world, to, from),
            None => None,
        };
        let Some(back) = back else { return self.time_out(from, boot, to, sent) };
        let at = self.now + back;
        if at > sent + pace::PROBE_TIMEOUT {
            return self.time_out(from, boot, to, sent);
        }
        let what = match self.edges[to].as_ref().map(|p| p.view.clone()) {
            Some(Some(answer)) => Edgewise::Answered { from: to, answer: Some(answer), sent },
            // A host without the process resets; a process without a view yet has nothing to say.
            Some(None) | None => Edgewise::Refused { from: to },
        };
        self.schedule(at, Event::Of { edge: from, boot, what });
    }

    fn time_out(&mut self, edge: usize, boot: u64, to: usize, sent: Time) {
        let what = Edgewise::Answered { from: to, answer: None, sent };
        self.schedule(sent + pace::PROBE_TIMEOUT, Event::Of { edge, boot, what });
    }

    fn answered(&mut self, edge: usize, from: usize, answer: Option<(Arc<View>, Time)>, sent: Time) -> Held {
        let (view, rtt) = match answer {
            Some((view, produced)) => {
                self.fabric.heard(edge, from, produced, &view);
                let fresh_connection = self.dice[edge].below(20) == 0;
                (view, (!fresh_connection).then(|| Rtt::new(self.now.since(sent))))
            }
            None => {
                let replayed = if self.seams.replays_views() { self.fabric.replay(edge, from) } else { None };
                match replayed {
                    Some(view) => (view, None),
                    None => return self.region_probed(edge, from, Err(ProbeFailure::Timeout)),
                }
            }
        };
        self.region_probed(edge, from, Ok(RegionAnswer { rtt, view: Box::new(View::clone(&view)) }))
    }

    fn region_probed(
        &mut self,
        edge: usize,
        from: usize,
        result: Result<RegionAnswer, ProbeFailure>,
    ) -> Held {
        let region = self.cast.regions[from].clone();
        self.feed(edge, Input::Probed(Probe::Region { region, result }))
    }

    fn probe_pods(&mut self, edge: usize) -> Held {
        for service in 0..self.cast.services.len() {
            for endpoint in 0..self.cast.endpoints {
                let up = self.world.pod_up(edge, service, endpoint);
                let probe = Probe::Endpoint {
                    service: self.cast.services[service].clone(),
                    address: self.cast.pod(edge, service, endpoint),
                    result: if up { Ok(EndpointAnswer::Well) } else { Err(ProbeFailure::Connect) },
                };
                self.feed(edge, Input::Probed(probe))?;
            }
        }
        Ok(())
    }

    /// One request a service, where the snapshot says, and what it met.
    fn requests(&mut self, edge: usize) -> Held {
        for index in 0..self.cast.services.len() {
            let id = self.cast.services[index].clone();
            let snapshot = self.edges[edge].as_ref().and_then(|p| p.snapshot.clone());
            let Some(service) = snapshot.as_ref().and_then(|s| s.services.get(&id)) else { continue };
            let draw = self.dice[edge].below(100) as f64 / 100.0;
            let taken = service.candidates.iter().find(|c| draw < c.share).or(service.candidates.first());
            let Some(candidate) = taken else { continue };
            let address = candidate.endpoints[self.dice[edge].index(candidate.endpoints.len())].address();
            let region = self.cast.region(&candidate.region);
            let result = match candidate.place {
                Place::Own => {
                    let pod = (0..self.cast.endpoints).find(|e| self.cast.pod(edge, index, *e) == address);
                    let up = pod.is_some_and(|e| self.world.pod_up(edge, index, e));
                    if up { OutcomeResult::Success } else { OutcomeResult::Failure }
                }
                Place::Peer => self.forwarded(edge, region, index),
            };
            let result =
                if self.world.poisoned(edge, region, index) { OutcomeResult::Failure } else { result };
            let region = candidate.region.clone();
            self.feed(edge, Input::Outcome(Outcome { service: id, region, address, result }))?;
        }
        Ok(())
    }

    fn forwarded(&self, edge: usize, to: usize, service: usize) -> OutcomeResult {
        let reached = self.world.passes(edge, to).is_some() && self.world.passes(to, edge).is_some();
        let Some(process) = self.edges[to].as_ref().filter(|_| reached) else {
            return OutcomeResult::Failure;
        };
        let accepts = process
            .snapshot
            .as_ref()
            .and_then(|s| s.services.get(&self.cast.services[service]))
            .is_some_and(|s| s.accepts_forwarded);
        if !accepts {
            OutcomeResult::Refused
        } else if self.world.service_up(to, service) {
            OutcomeResult::Success
        } else {
            OutcomeResult::Failure
        }
    }

    /// Requests that fail though every probe is fine.
    fn poison(&mut self, edge: usize) -> Held {
        for (_, toward, service) in self.world.poison.clone().into_iter().filter(|(by, _, _)| *by == edge) {
            self.count("poisoned requests");
            let address =
                if toward == edge { self.cast.pod(edge, service, 0) } else { self.cast.peer(toward) };
            let outcome = Outcome {
                service: self.cast.services[service].clone(),
                region: self.cast.regions[toward].clone(),
                address,
                result: OutcomeResult::Failure,
            };
            self.feed(edge, Input::Outcome(outcome))?;
        }
        Ok(())
    }

    /// A hundred requests a second for each region's users, sent where DNS says.
    fn load(&mut self, edge: usize) -> Held {
        const EACH: f64 = 100.0;
        let region = &self.cast.regions[edge];
        let sets = &self.store.names[0].sets;
        let users = EACH * self.cast.regions.len() as f64;
        let entered_rps: f64 = sets.values().map(|s| s.share(region) * users / sets.len() as f64).sum();
        let snapshot = self.edges[edge].as_ref().and_then(|p| p.snapshot.as_deref());
        let service = snapshot.and_then(|s| s.services.values().next());
        let served_here = match service.and_then(|s| Some((s.candidates.first()?, s.candidates.len()))) {
            Some((first, 2..)) if first.place == Place::Own => first.share,
            Some((first, _)) if first.place == Place::Own => 1.0,
            _ => 0.0,
        };
        self.feed(
            edge,
            Input::Load { entered_rps, served_rps: entered_rps * served_here, services: BTreeMap::new() },
        )
    }
}
