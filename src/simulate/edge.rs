//! What goes on around one edge: probes out, endpoints probed, requests.

use super::event::{Edgewise, Event};
use super::invariants::Held;
use super::run::Run;
use crate::domain::fleet::{
    EndpointAnswer, Input, Lease, Outcome, OutcomeResult, OutcomeRun, Probe, ProbeFailure, RegionAnswer,
};
use crate::domain::latency::Rtt;
use crate::domain::time::Time;
use crate::domain::view::View;
use std::sync::Arc;
use std::time::Duration;

impl Run<'_> {
    pub(super) fn edgewise(&mut self, edge: usize, what: Edgewise) -> Held {
        match what {
            Edgewise::Probe { to } => {
                self.again(edge, self.cast.pace.probe, Edgewise::Probe { to });
                self.probe(edge, to);
                Ok(())
            }
            Edgewise::Answered { from, answer, sent } => self.answered(edge, from, answer, sent),
            Edgewise::Refused { from } => self.region_probed(edge, from, Err(ProbeFailure::Connect)),
            Edgewise::Pods => {
                self.again(edge, self.cast.pace.probe, Edgewise::Pods);
                self.probe_pods(edge)
            }
            Edgewise::Requests => {
                self.again(edge, self.cast.pace.requests, Edgewise::Requests);
                self.requests(edge)
            }
            Edgewise::Poison => {
                self.again(edge, self.cast.pace.poison, Edgewise::Poison);
                self.poison(edge)
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
        let region = self.cast.region_of(edge);
        match self.fabric.one_way(&self.world, region, to) {
            Some(delay) => {
                let event = Event::AtPeer { from: edge, boot, to, sent: self.now };
                self.schedule(self.now + delay, event);
            }
            None => self.time_out(edge, boot, to, self.now),
        }
    }

    /// A process of the other region answers with the view that it has made last.
    pub(super) fn probe_arrives(&mut self, from: usize, boot: u64, to: usize, sent: Time) {
        let asking = self.cast.region_of(from);
        let back = match self.world.passes(asking, to) {
            Some(_) => self.fabric.one_way(&self.world, to, asking),
            None => None,
        };
        let Some(back) = back else { return self.time_out(from, boot, to, sent) };
        let at = self.now + back;
        if at > sent + self.cast.pace.probe_timeout {
            return self.time_out(from, boot, to, sent);
        }
        let running: Vec<usize> = self.cast.edges_of(to).filter(|e| self.edges[*e].is_some()).collect();
        // A load balancer sends each fresh connection to one of them.
        let answering = match running.as_slice() {
            [] => None,
            [only] => Some(*only),
            several => Some(several[self.dice[from].index(several.len())]),
        };
        let view = answering.and_then(|e| self.edges[e].as_ref()).and_then(|p| p.view.clone());
        let what = match view {
            Some(answer) => Edgewise::Answered { from: to, answer: Some(answer), sent },
            // A host without the process resets; a process without a view yet has nothing to say.
            None => Edgewise::Refused { from: to },
        };
        self.schedule(at, Event::Of { edge: from, boot, what });
    }

    fn time_out(&mut self, edge: usize, boot: u64, to: usize, sent: Time) {
        let what = Edgewise::Answered { from: to, answer: None, sent };
        self.schedule(sent + self.cast.pace.probe_timeout, Event::Of { edge, boot, what });
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
        self.region_probed(edge, from, Ok(RegionAnswer { rtt, view }))
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
        let region = self.cast.region_of(edge);
        for service in 0..self.cast.services.len() {
            if !self.cast.services[service].regions[region] {
                continue;
            }
            for endpoint in 0..self.cast.endpoints {
                let up = self.world.pod_up(region, service, endpoint);
                let probe = Probe::Endpoint {
                    service: self.cast.services[service].id.clone(),
                    address: self.cast.pod(region, service, endpoint),
                    result: if up { Ok(EndpointAnswer::Well) } else { Err(ProbeFailure::Connect) },
                };
                self.feed(edge, Input::Probed(probe))?;
            }
        }
        Ok(())
    }

    /// One request of many, for each service, where the snapshot says, and what it met.
    fn requests(&mut self, edge: usize) -> Held {
        for index in 0..self.cast.services.len() {
            let id = self.cast.services[index].id.clone();
            let snapshot = self.edges[edge].as_ref().and_then(|p| p.snapshot.clone());
            let Some(service) = snapshot.as_ref().and_then(|s| s.services.get(&id)) else { continue };
            let draw = self.dice[edge].below(100) as f64 / 100.0;
            let taken = service.candidates.iter().find(|c| draw < c.share).or(service.candidates.first());
            let Some(candidate) = taken else { continue };
            let mut one = candidate.clone();
            let picked = self.dice[edge].index(candidate.endpoints.len());
            one.endpoints = candidate.endpoints.iter().skip(picked).take(1).cloned().collect();
            let Some(address) = one.endpoints.first().map(|e| e.address()) else { continue };
            let attempt = self.attempt(edge, &one, index, self.offered());
            let draw = self.dice[edge].below(1000) as f64 / 1000.0;
            let (region, result) = (candidate.region.clone(), attempt.outcome(draw));
            let outcome = Outcome { service: id, region, address, result };
            self.feed(edge, Input::Outcomes(vec![OutcomeRun::one(outcome, Duration::ZERO)]))?;
        }
        Ok(())
    }

    /// Requests that fail though every probe is fine.
    fn poison(&mut self, edge: usize) -> Held {
        let region = self.cast.region_of(edge);
        if !self.world.poison.iter().any(|(from, _, _)| *from == region) {
            return Ok(());
        }
        for (_, toward, service) in self.world.poison.clone().into_iter().filter(|(by, _, _)| *by == region) {
            self.count("poisoned requests");
            let address =
                if toward == region { self.cast.pod(region, service, 0) } else { self.cast.peer(toward) };
            let outcome = Outcome {
                service: self.cast.services[service].id.clone(),
                region: self.cast.regions[toward].clone(),
                address,
                result: OutcomeResult::Failure,
            };
            self.feed(edge, Input::Outcomes(vec![OutcomeRun::one(outcome, Duration::ZERO)]))?;
        }
        Ok(())
    }

    /// Tells processes who of their region holds the lease: the first that runs.
    pub(super) fn settle_leases(&mut self) -> Held {
        for region in 0..self.cast.regions.len() {
            let holder = self.cast.edges_of(region).find(|edge| self.edges[*edge].is_some());
            for edge in self.cast.edges_of(region) {
                let held = holder == Some(edge);
                let Some(process) = self.edges[edge].as_mut().filter(|p| p.holds != Some(held)) else {
                    continue;
                };
                process.holds = Some(held);
                self.feed(edge, Input::Lease(Lease { held }))?;
            }
        }
        Ok(())
    }
}
