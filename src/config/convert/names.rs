//! DNS names: their entries, the regions behind them, and what failover needs of them.

use super::{dns, duplicates, targets};
use crate::config::file::{File, NameSection, Placed, RegionSection, Section};
use crate::config::problems::Problem;
use crate::config::report::{Known, Report};
use crate::config::units::{Whole, spell};
use crate::config::{Form, Name, Service};
use crate::domain::name::{DnsName, EntryId, RegionId, ServiceId};
use crate::domain::policy::{FailoverPolicy, NamePolicy, RegionPolicy};
use crate::domain::view::View;
use crate::domain::weights::{TOTAL, WeightedSet};
use crate::peer::VIEW_BYTES_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(60);
/// Source: RFC 1035, 3.2.1 has seconds; a day is the longest that failover could bear.
const TTL_MAX: Duration = Duration::from_secs(86_400);
/// The one entry of a name in the simple form.
const SIMPLE_ENTRY: &str = "all";
/// Longest DNS name: RFC 1035, 2.3.4, without the final dot.
const NAME_BYTES_MAX: usize = 253;

pub(super) type NameTable = Section<NameSection>;

/// A region that a name uses, and where the file says so.
pub(super) struct Used {
    pub(super) region: RegionId,
    pub(super) span: Range<usize>,
}

pub(super) fn names(
    file: &File,
    own: Option<&RegionId>,
    regions: &Known,
    services: &Known,
    report: &mut Report,
) -> (BTreeMap<DnsName, Name>, BTreeMap<DnsName, NamePolicy>) {
    let entries = file.names.as_ref().map(|entries| entries.0.as_slice()).unwrap_or_default();
    duplicates("name", entries, report);
    let mut names = BTreeMap::new();
    let mut policies = BTreeMap::new();
    for (id, section) in entries {
        let name = section.get_ref();
        let form = name.form.as_ref().map_or(Form::Global, |placed| placed.value);
        let used = used_regions(file, id, section, form, regions, report);
        shape(id, form, entries, &used, report);
        let needed = needed_services(section, services, report);
        let targets = targets::of_name(file, id, section, &used, regions, report);
        if form == Form::Global {
            places(file, id, &used, report);
        }
        served(file, own, &used, &needed, report);
        let ttl = ttl(id, name, report);
        let zone_id = name.zone_id.as_ref().map(|placed| placed.value.0.clone());
        names.insert(id.value.clone(), Name { form, ttl, zone_id, targets });
        if let Some(sets) = sets(form, section, &used, report) {
            let services = needed.into_iter().map(|placed| placed.value.clone()).collect();
            policies.insert(id.value.clone(), NamePolicy { entries: Arc::new(sets), services });
        }
    }
    (names, policies)
}

/// Global form: `regions`, by default all. Simple form: those with weights.
fn used_regions(
    file: &File,
    id: &Placed<DnsName>,
    section: &NameTable,
    form: Form,
    known: &Known,
    report: &mut Report,
) -> Vec<Used> {
    let name = section.get_ref();
    misplaced(form, name, report);
    let mut listed: Vec<Used> = match (form, &name.regions, &name.weights) {
        (Form::Global, Some(list), _) => list.get_ref().iter().map(used).collect(),
        (Form::Global, None, _) if report.damaged_at(&section.span(), "regions") => Vec::new(),
        (Form::Global, None, _) => {
            let all = file.regions.iter().flat_map(|regions| &regions.0);
            all.map(|(region, _)| Used { region: region.value.clone(), span: id.span.clone() }).collect()
        }
        (Form::Simple, _, Some(weights)) => {
            weights.get_ref().0.iter().map(|(region, _)| used(region)).collect()
        }
        (Form::Simple, _, None) => {
            let example = "weights = { eu-west-1 = 50, us-east-1 = 50 }";
            report.present(&section.span(), "weights", false, example);
            Vec::new()
        }
    };
    let mut seen = BTreeSet::new();
    listed.retain(|used| {
        let placed = Placed { value: used.region.clone(), span: used.span.clone() };
        if !seen.insert(used.region.clone()) {
            let wrong = format!("region `{}` is listed twice", used.region);
            report.add(Problem::at(&used.span, wrong).here("again here").right("expected each region once"));
            return false;
        }
        report.refers(known, &placed)
    });
    if let Some(list) = &name.regions
        && list.get_ref().is_empty()
        && !report.damaged_at(&section.span(), "regions")
    {
        let problem = Problem::at(&list.span(), "a name without regions leads nowhere").here("empty");
        report.add(problem.right("expected a region, or no `regions` at all for all of them"));
    }
    listed
}

fn used(placed: &Placed<RegionId>) -> Used {
    Used { region: placed.value.clone(), span: placed.span.clone() }
}

/// Keys that belong to the other form.
fn misplaced(form: Form, name: &NameSection, report: &mut Report) {
    let (key, span, right) = match (form, &name.regions, &name.weights) {
        (Form::Global, _, Some(weights)) => {
            ("weights", weights.span(), "expected `regions` here, or form = \"simple\"")
        }
        (Form::Simple, Some(list), _) => {
            ("regions", list.span(), "expected `weights` alone: they name the regions")
        }
        _ => return,
    };
    let form = if form == Form::Global { "global" } else { "simple" };
    let problem = Problem::at(&span, format!("`{key}` does not belong to the {form} form"));
    report.add(problem.here("not in this form").right(right));
}

/// What Route 53 and the layout of the records ask of a name.
fn shape(
    id: &Placed<DnsName>,
    form: Form,
    entries: &[(Placed<DnsName>, NameTable)],
    used: &[Used],
    report: &mut Report,
) {
    let name = id.value.as_str();
    let control = "_proxima".len();
    let longest = used.iter().map(|used| used.region.as_str().len()).max().unwrap_or(0).max(control);
    let labels: Vec<&str> = name.split('.').collect();
    let number = labels.last().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    let problem = |wrong: &str, right: &str| {
        Problem::at(&id.span, format!("`{name}` {wrong}"))
            .here("this name")
            .right(format!("expected {right}"))
    };
    if labels.len() < 2 || number {
        report.add(problem("is in no zone", "a full name such as \"www.example.com\""));
    }
    if name.starts_with("_proxima.") {
        report.add(problem("is where Proxima keeps its control record", "the name that users look up"));
    }
    if name.len() + 1 + longest > NAME_BYTES_MAX {
        let wrong = format!("is too long: {longest} characters and a dot stand before it in records");
        let right = format!("at most {} characters", NAME_BYTES_MAX - 1 - longest);
        report.add(problem(&wrong, &right));
    }
    if form == Form::Global {
        for used in used {
            let set = format!("{}.{name}", used.region);
            if let Some((other, _)) = entries.iter().find(|(other, _)| other.value.as_str() == set) {
                let problem = Problem::at(&other.span, format!("`{set}` is where `{name}` keeps a set"));
                let problem = problem.here("also a name of its own").also(&id.span, "in the global form");
                report.add(problem.right("expected another name"));
            }
        }
    }
}

fn needed_services<'a>(
    section: &'a NameTable,
    known: &Known,
    report: &mut Report,
) -> Vec<&'a Placed<ServiceId>> {
    let Some(list) = &section.get_ref().services else {
        report.present(&section.span(), "services", false, "services = [\"web\"]");
        return Vec::new();
    };
    if list.get_ref().is_empty() && !report.damaged_at(&section.span(), "services") {
        let problem = Problem::at(&list.span(), "a name that needs no service is never down").here("empty");
        report.add(problem.right("expected the services that a region must serve to be up for this name"));
    }
    list.get_ref().iter().filter(|placed| report.refers(known, placed)).collect()
}

/// The latency record of each region carries its place: an AWS region, and each but once.
fn places(file: &File, id: &Placed<DnsName>, used: &[Used], report: &mut Report) {
    let mut seen: BTreeMap<&str, &Range<usize>> = BTreeMap::new();
    for used in used {
        let Some((placed, section)) = region(file, &used.region) else { continue };
        if report.damaged_at(&section.span(), "place") {
            continue;
        }
        let (place, span, here) = match &section.get_ref().place {
            Some(place) => (place.value.0.as_str(), &place.span, "this place"),
            None => (placed.value.as_str(), &placed.span, "its place by default"),
        };
        if !is_aws_region(place) {
            let wrong = format!("`{place}` is no AWS region, but `{}` has latency records", id.value);
            let problem = Problem::at(span, wrong).here(here).also(&id.span, "in the global form");
            report.add(problem.right("expected a line such as place = \"eu-west-1\" in the region"));
        } else if let Some(first) = seen.insert(place, span) {
            let wrong = format!("two regions of `{}` are in `{place}`", id.value);
            let problem = Problem::at(span, wrong).here(here).also(first, "first here");
            report.add(problem.right(
                "expected a place of its own for each: Route 53 takes one latency record an AWS region",
            ));
        }
    }
}

/// Whether a text is shaped like `eu-west-1`, `us-gov-west-1` or `eusc-de-east-1`.
///
/// By shape alone: AWS opens regions faster than lists of them are renewed.
fn is_aws_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, words @ .., number] = parts.as_slice() else { return false };
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    (2..=4).contains(&area.len())
        && letters(area)
        && !words.is_empty()
        && words.iter().all(|word| letters(word))
        && (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}

/// A region that has no endpoints of a needed service could never be up for the name.
///
/// A file with endpoints of the own region alone is written for that region:
/// it does not tell what the others have.
fn served(
    file: &File,
    own: Option<&RegionId>,
    used: &[Used],
    needed: &[&Placed<ServiceId>],
    report: &mut Report,
) {
    for service in needed {
        let section = file.services.iter().flat_map(|services| &services.0);
        let Some((_, section)) = section.into_iter().find(|(id, _)| id.value == service.value) else {
            continue;
        };
        let Some(endpoints) = &section.get_ref().endpoints else { continue };
        if report.damaged_inside(&endpoints.span()) {
            continue;
        }
        let has = |region: &RegionId| {
            endpoints.get_ref().0.iter().any(|(id, list)| id.value == *region && !list.get_ref().is_empty())
        };
        let listed = &endpoints.get_ref().0;
        if own.is_some_and(|own| has(own) && listed.iter().all(|(region, _)| region.value == *own)) {
            continue;
        }
        for used in used.iter().filter(|used| !has(&used.region)) {
            let wrong = format!(
                "region `{}` has no endpoints of `{}`, which this name needs: it would never be up",
                used.region, service.value
            );
            let problem = Problem::at(&service.span, wrong).here(format!("not in `{}`", used.region));
            report.add(problem.right("expected endpoints there, or `regions` without it"));
        }
    }
}

pub(super) fn region<'a>(
    file: &'a File,
    id: &RegionId,
) -> Option<&'a (Placed<RegionId>, Section<RegionSection>)> {
    file.regions.iter().flat_map(|regions| &regions.0).find(|(placed, _)| placed.value == *id)
}

fn ttl(id: &Placed<DnsName>, name: &NameSection, report: &mut Report) -> Duration {
    let path = format!("names.\"{}\".ttl", id.value);
    let ttl = report.duration(&path, &name.ttl, Duration::from_secs(1)..=TTL_MAX, TTL);
    if let Some(placed) = &name.ttl
        && ttl.subsec_nanos() != 0
    {
        let problem = Problem::at(&placed.span, "a TTL has whole seconds").here(spell(ttl));
        report.add(problem.right("expected whole seconds, such as \"60s\""));
    }
    ttl
}

/// Each entry's set when all is well.
fn sets(
    form: Form,
    section: &NameTable,
    used: &[Used],
    report: &mut Report,
) -> Option<BTreeMap<EntryId, WeightedSet>> {
    match form {
        Form::Global => {
            let set = |used: &Used| (EntryId::from(&used.region), WeightedSet::only(used.region.clone()));
            Some(used.iter().map(set).collect())
        }
        Form::Simple => {
            let weights = section.get_ref().weights.as_ref()?;
            let set = weighted(&weights.get_ref().0, &weights.span(), report)?;
            Some(BTreeMap::from([(EntryId::parse(SIMPLE_ENTRY).ok()?, set)]))
        }
    }
}

/// Weights as shares in parts of `TOTAL`, as Proxima writes them, so that a set at rest compares equal.
fn weighted(
    weights: &[(Placed<RegionId>, Placed<Whole>)],
    span: &Range<usize>,
    report: &mut Report,
) -> Option<WeightedSet> {
    let mut shares = BTreeMap::new();
    for (region, weight) in weights {
        let value = Some(weight.clone());
        let weight = report.whole(&format!("weights.{}", region.value), &value, 1..=255, 1);
        shares.insert(region.value.clone(), f64::from(weight));
    }
    let set = WeightedSet::from_shares(&shares);
    if set.is_none() && !report.damaged_inside(span) {
        let problem = Problem::at(span, "no weights: nobody would be served").here("empty");
        report.add(problem.right("expected a weight for each region, 1 to 255"));
    }
    let set = set?;
    for (region, weight) in weights.iter().filter(|(region, _)| set.get(&region.value).is_none()) {
        let wrong = format!("the weight of `{}` is less than half a percent of all", region.value);
        let problem = Problem::at(&weight.span, wrong).here("rounds to nothing");
        report.add(problem.right(format!("expected a larger one: shares are counted in {TOTAL} parts")));
    }
    Some(set)
}

/// What the failover rules and the names ask of one another.
pub(super) fn check_failover(
    file: &File,
    failover: &FailoverPolicy,
    (names, policies): (&BTreeMap<DnsName, Name>, &BTreeMap<DnsName, NamePolicy>),
    report: &mut Report,
) {
    let placed: BTreeMap<&DnsName, (&Placed<DnsName>, &NameTable)> =
        file.names.iter().flat_map(|names| &names.0).map(|(id, table)| (&id.value, (id, table))).collect();
    let regions = policies.iter().map(|(name, policy)| (policy.regions().len(), name));
    // With one region there is nowhere to move to, and nothing to bound.
    if let Some((regions, name)) = regions.filter(|(regions, _)| *regions > 1).min()
        && failover.min_live >= regions
        && let Some((id, _)) = placed.get(name)
    {
        min_live(file, failover.min_live, regions, id, report);
    }
    require_operator_below(file, failover, policies, report);
    let allowance = dns::insync_allowance(file, report);
    if let Some((ttl, name)) = names.iter().map(|(id, name)| (name.ttl, id)).max()
        && failover.hold_down < ttl + allowance
        && let Some((id, table)) = placed.get(name)
    {
        let place = table.get_ref().ttl.as_ref().map_or(&id.span, |placed| &placed.span);
        hold_down(file, failover.hold_down, (ttl, place), allowance, report);
    }
}

/// What one edge tells another of every name must fit into one answer.
pub(super) fn check_view(
    file: &File,
    names: &BTreeMap<DnsName, Name>,
    regions: &BTreeMap<RegionId, RegionPolicy>,
    services: &BTreeMap<ServiceId, Service>,
    report: &mut Report,
) {
    let bytes = View::bytes_max(names.keys(), regions.keys(), services.keys());
    let last = file.names.iter().flat_map(|names| &names.0).map(|(id, _)| id).max_by_key(|id| id.span.start);
    if bytes > VIEW_BYTES_MAX
        && let Some(id) = last
    {
        let (names, regions) = (names.len(), regions.len());
        let wrong = format!(
            "{names} names over {regions} regions make a view of {bytes} bytes, at most {VIEW_BYTES_MAX} are read"
        );
        let problem = Problem::at(&id.span, wrong).here("the last of them");
        report.add(
            problem.right("expected fewer names, or fewer regions: each name has a vote on each region"),
        );
    }
}

fn min_live(file: &File, min_live: usize, regions: usize, id: &Placed<DnsName>, report: &mut Report) {
    let wrong = format!("`failover.min_live` ({min_live}) leaves no region of `{}` to move from", id.value);
    let has = format!("has {regions} regions");
    let stated = file.failover.as_ref().and_then(|failover| failover.get_ref().min_live.as_ref());
    let problem = match stated {
        Some(placed) => Problem::at(&placed.span, wrong).here("too many").also(&id.span, has),
        None => Problem::at(&id.span, wrong).here(has),
    };
    let right = match regions - 1 {
        1 => "expected 1".to_owned(),
        most => format!("expected 1 to {most}"),
    };
    report.add(problem.right(format!("{right}: fewer than the name has regions")));
}

/// A bound beyond every name's regions would ask for an operator at every move that empties one, which
/// is more likely a slip than meant.
fn require_operator_below(
    file: &File,
    failover: &FailoverPolicy,
    policies: &BTreeMap<DnsName, NamePolicy>,
    report: &mut Report,
) {
    let below = failover.require_operator_below;
    let most = policies.values().map(|policy| policy.regions().len()).max().unwrap_or(below);
    let stated =
        file.failover.as_ref().and_then(|failover| failover.get_ref().require_operator_below.as_ref());
    if let Some(placed) = stated.filter(|_| below > most) {
        let wrong = format!("`failover.require_operator_below` ({below}) is more than any name has regions");
        let problem = Problem::at(&placed.span, wrong).here("too many");
        let right =
            format!("expected 1 to {most}: with {most}, every move that leaves a region is asked for");
        report.add(problem.right(right));
    }
}

fn hold_down(
    file: &File,
    hold_down: Duration,
    (ttl, place): (Duration, &Range<usize>),
    allowance: Duration,
    report: &mut Report,
) {
    let wrong = format!(
        "`failover.hold_down` ({}) is shorter than the longest TTL ({}) and `dns.insync_allowance` ({})",
        spell(hold_down),
        spell(ttl),
        spell(allowance)
    );
    let stated = file.failover.as_ref().and_then(|failover| failover.get_ref().hold_down.as_ref());
    let problem = match stated {
        Some(placed) => Problem::at(&placed.span, wrong).here("too short").also(place, "this TTL"),
        None => Problem::at(place, wrong).here("this TTL"),
    };
    let least = spell(ttl + allowance);
    let right = format!("expected {least} or more: users must have followed a change before the next one");
    report.add(problem.right(right));
}
