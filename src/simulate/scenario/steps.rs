//! The faults of a scenario file: which keys each kind needs, and what they name.

use super::{Percent, names, unknown};
use crate::config::reading::{Key, List, Problem, Section, Text, Whole};
use crate::simulate::cast::Cast;
use crate::simulate::faults::{Fault, Step};
use serde::Deserialize;
use std::ops::Range;
use std::time::Duration;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultSection {
    kind: Key<Text>,
    at: Key<Duration>,
    #[serde(rename = "for")]
    lasts: Key<Duration>,
    region: Key<Text>,
    to: Key<Text>,
    regions: List<Text>,
    place: Key<Text>,
    service: Key<Text>,
    name: Key<Text>,
    entry: Key<Text>,
    endpoint: Key<Whole>,
    by: Key<Duration>,
    every: Key<Duration>,
    share: Key<Percent>,
}

/// Whether a fault changes room or distances, which are reasons to move users besides health.
pub(super) fn moves_room(fault: &Fault) -> bool {
    matches!(fault, Fault::SlowLink { .. } | Fault::Surge { .. } | Fault::CapacityLoss { .. })
}

/// In the order of their beginnings; a fault without an end lasts as long as the run.
pub(super) fn steps<'a>(
    sections: impl Iterator<Item = &'a Section<FaultSection>>,
    cast: &Cast,
    length: Duration,
    problems: &mut Vec<Problem>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for section in sections {
        let of = section.get_ref();
        let span = section.span();
        let Some(kind) = &of.kind else {
            let right = format!("expected a line such as kind = {:?}", Fault::KINDS[0]);
            problems.push(Problem::at(&span, "`kind` is missing").here("in this table").right(right));
            continue;
        };
        let Some(at) = &of.at else {
            let right = "expected a line such as at = \"60s\"";
            problems.push(Problem::at(&span, "`at` is missing").here("in this table").right(right));
            continue;
        };
        let lasts = of.lasts.as_ref().map_or(length.saturating_sub(at.value), |lasts| lasts.value);
        let mut reader = Reader { of, span, kind: kind.value.0.as_str(), cast, problems, used: Vec::new() };
        let Some(faults) = reader.faults(&kind.span) else { continue };
        reader.refuse_others();
        steps.extend(faults.into_iter().map(|fault| Step { at: at.value, lasts, fault }));
    }
    steps.sort_by_key(|step| step.at);
    steps
}

struct Reader<'a> {
    of: &'a FaultSection,
    span: Range<usize>,
    kind: &'a str,
    cast: &'a Cast,
    problems: &'a mut Vec<Problem>,
    used: Vec<&'static str>,
}

impl Reader<'_> {
    /// The faults that the section means; `None`: it does not say enough.
    fn faults(&mut self, kind_span: &Range<usize>) -> Option<Vec<Fault>> {
        let one = match self.kind {
            "region-lost" => Fault::RegionLost { region: self.region()? },
            "region-silent" => Fault::RegionSilent { region: self.region()? },
            "service-down" => Fault::ServiceDown { region: self.region()?, service: self.service()? },
            "service-left" => Fault::ServiceLeft { service: self.service()?, only: self.region()? },
            "endpoint-down" => Fault::EndpointDown {
                region: self.region()?,
                service: self.service()?,
                endpoint: self.endpoint(),
            },
            "edge-stopped" => Fault::EdgeStopped { region: self.region()? },
            "control-stalled" => Fault::ControlStalled { region: self.region()? },
            "rolling-restart" => Fault::RollingRestart { region: self.region()?, every: self.every()? },
            "cut" => Fault::Cut { from: self.region()?, to: self.to()? },
            "isolated" => Fault::Isolated { region: self.region()? },
            "split" => Fault::Split { side: self.side()? },
            "lossy" => Fault::Lossy { percent: self.share()? },
            "slow-link" => Fault::SlowLink { a: self.region()?, b: self.to()?, by: self.by()? },
            "flapping" => {
                Fault::Flapping { region: self.region()?, service: self.service()?, every: self.every()? }
            }
            "poison" => Fault::Poison { from: self.region()?, toward: self.to()?, service: self.service()? },
            "gray" => Fault::Gray {
                region: self.region()?,
                service: self.service()?,
                percent: self.share()?,
                by: self.by_or_nothing(),
            },
            _ => return self.surroundings(kind_span),
        };
        Some(vec![one])
    }

    /// Faults of users, checkers, DNS and operators.
    fn surroundings(&mut self, kind_span: &Range<usize>) -> Option<Vec<Fault>> {
        let one = match self.kind {
            "surge" => Fault::Surge { place: self.place()?, percent: self.share()? },
            "capacity-loss" => Fault::CapacityLoss { region: self.region()?, percent: self.share()? },
            "checks-flap" => Fault::ChecksFlap { region: self.region()?, every: self.every()? },
            "checks-under-load" => Fault::ChecksUnderLoad,
            "witness-blind" => Fault::WitnessBlind { region: self.region()? },
            "api-down" => Fault::ApiDown { region: self.region()? },
            "api-outage" => Fault::ApiOutage,
            "api-slow" => Fault::ApiSlow,
            "api-throttled" => Fault::ApiThrottled { percent: self.share()? },
            "answers-lost" => Fault::AnswersLost { region: self.region()? },
            "delayed-writer" => Fault::DelayedWriter { region: self.region()?, by: self.by()? },
            "clock-skew" => Fault::ClockSkew { region: self.region()?, by: self.by()? },
            "bad-push" => Fault::BadPush { region: self.region()? },
            "two-writers" => {
                let (name, entry) = self.entry()?;
                Fault::TwoWriters { name, entry, to: self.to()?, every: self.every()? }
            }
            "hand-edit" => {
                let (name, entry) = self.entry()?;
                Fault::HandEdit { name, entry, to: self.to()? }
            }
            "entry-lost" => {
                let (name, entry) = self.entry()?;
                Fault::EntryLost { name, entry }
            }
            "drain" => {
                let region = self.region()?;
                return Some(self.each_name()?.map(|name| Fault::Drain { name, region }).collect());
            }
            "freeze" => return Some(self.each_name()?.map(|name| Fault::Freeze { name }).collect()),
            other => {
                let known = Fault::KINDS.iter().map(|kind| (*kind).to_owned()).collect();
                self.problems.push(unknown("kind of fault", other, kind_span, known));
                return None;
            }
        };
        Some(vec![one])
    }

    /// A key that is written but says nothing for this kind.
    fn refuse_others(&mut self) {
        let of = self.of;
        let written = [
            ("region", of.region.as_ref().map(|p| &p.span)),
            ("to", of.to.as_ref().map(|p| &p.span)),
            ("place", of.place.as_ref().map(|p| &p.span)),
            ("service", of.service.as_ref().map(|p| &p.span)),
            ("name", of.name.as_ref().map(|p| &p.span)),
            ("entry", of.entry.as_ref().map(|p| &p.span)),
            ("endpoint", of.endpoint.as_ref().map(|p| &p.span)),
            ("by", of.by.as_ref().map(|p| &p.span)),
            ("every", of.every.as_ref().map(|p| &p.span)),
            ("share", of.share.as_ref().map(|p| &p.span)),
        ];
        for (key, span) in written {
            if let Some(span) = span.filter(|_| !self.used.contains(&key)) {
                let wrong = format!("`{key}` says nothing for the fault {:?}", self.kind);
                let right = format!("expected only at, for, {}", self.used.join(", "));
                self.problems.push(Problem::at(span, wrong).right(right));
            }
        }
    }

    fn missing<T>(&mut self, key: &str, example: &str) -> Option<T> {
        let problem = Problem::at(&self.span, format!("`{key}` is missing: {:?} needs it", self.kind));
        self.problems.push(problem.here("in this table").right(format!("expected a line such as {example}")));
        None
    }

    /// The index of what a key names.
    fn named(
        &mut self,
        key: &'static str,
        kind: &str,
        value: &Key<Text>,
        known: Vec<String>,
    ) -> Option<usize> {
        self.used.push(key);
        let example = format!("{key} = {:?}", known.first().map_or("", String::as_str));
        let Some(placed) = value else { return self.missing(key, &example) };
        let found = known.iter().position(|name| *name == placed.value.0);
        if found.is_none() {
            self.problems.push(unknown(kind, &placed.value.0, &placed.span, known));
        }
        found
    }

    fn region(&mut self) -> Option<usize> {
        self.named("region", "region", &self.of.region, names(&self.cast.regions))
    }

    fn to(&mut self) -> Option<usize> {
        self.named("to", "region", &self.of.to, names(&self.cast.regions))
    }

    fn place(&mut self) -> Option<usize> {
        let places = self.cast.users.iter().map(|u| u.place.clone()).collect();
        self.named("place", "place with users", &self.of.place, places)
    }

    /// The only service need not be named.
    fn service(&mut self) -> Option<usize> {
        let known: Vec<String> = self.cast.services.iter().map(|s| s.id.to_string()).collect();
        if known.len() == 1 && self.of.service.is_none() {
            return Some(0);
        }
        self.named("service", "service", &self.of.service, known)
    }

    fn name_names(&self) -> Vec<String> {
        self.cast.names.iter().map(|n| n.name.to_string()).collect()
    }

    /// The name that is stated; without one, every name.
    fn each_name(&mut self) -> Option<Range<usize>> {
        let known = self.name_names();
        if self.of.name.is_none() {
            return Some(0..known.len());
        }
        let name = self.named("name", "name", &self.of.name, known)?;
        Some(name..name + 1)
    }

    /// An entry of a name; the only name and the only entry need not be named.
    fn entry(&mut self) -> Option<(usize, usize)> {
        let known = self.name_names();
        let only = known.len() == 1 && self.of.name.is_none();
        let name = if only { 0 } else { self.named("name", "name", &self.of.name, known)? };
        let entries: Vec<String> = self.cast.names[name].home.keys().map(ToString::to_string).collect();
        if entries.len() == 1 && self.of.entry.is_none() {
            return Some((name, 0));
        }
        let entry = self.named("entry", "entry", &self.of.entry, entries)?;
        Some((name, entry))
    }

    fn endpoint(&mut self) -> usize {
        self.used.push("endpoint");
        let stated = self.of.endpoint.as_ref().map_or(0, |p| p.value.0 as usize);
        stated.min(self.cast.endpoints - 1)
    }

    /// Regions on one side, as bits.
    fn side(&mut self) -> Option<u64> {
        self.used.push("regions");
        let Some(list) = &self.of.regions else {
            return self.missing("regions", "regions = [\"eu-west-1\"]");
        };
        let mut side = 0;
        for placed in list.get_ref() {
            let known = names(&self.cast.regions);
            match known.iter().position(|region| *region == placed.value.0) {
                Some(region) => side |= 1 << region,
                None => self.problems.push(unknown("region", &placed.value.0, &placed.span, known)),
            }
        }
        Some(side)
    }

    fn duration(&mut self, key: &'static str, value: &Key<Duration>) -> Option<Duration> {
        self.used.push(key);
        match value {
            Some(placed) if placed.value > Duration::ZERO => Some(placed.value),
            Some(placed) => {
                let problem = Problem::at(&placed.span, format!("`{key}` of no time"));
                self.problems.push(problem.right("expected a duration above 0, such as \"30s\""));
                None
            }
            None => self.missing(key, &format!("{key} = \"30s\"")),
        }
    }

    fn by(&mut self) -> Option<Duration> {
        self.duration("by", &self.of.by)
    }

    fn by_or_nothing(&mut self) -> Duration {
        self.used.push("by");
        self.of.by.as_ref().map_or(Duration::ZERO, |p| p.value)
    }

    fn every(&mut self) -> Option<Duration> {
        self.duration("every", &self.of.every)
    }

    fn share(&mut self) -> Option<u64> {
        self.used.push("share");
        match &self.of.share {
            Some(placed) => Some(placed.value.0.round() as u64),
            None => self.missing("share", "share = \"30%\""),
        }
    }
}
