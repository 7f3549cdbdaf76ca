//! Where the records of a name lead in each region: addresses, a load balancer, or another name.

use super::names::{NameTable, Used, region};
use crate::config::file::{AliasSection, File, Key, List, Placed, RegionSection, Section, TargetSection};
use crate::config::problems::Problem;
use crate::config::report::{Known, Report};
use crate::config::{LoadBalancer, Target};
use crate::domain::name::{DnsName, RegionId};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

/// The keys of a table that may say a target.
pub(super) struct Stated<'a> {
    addresses: &'a List<IpAddr>,
    alias: &'a Option<Section<AliasSection>>,
    cname: &'a Key<DnsName>,
}

impl<'a> Stated<'a> {
    pub(super) fn of_region(section: &'a RegionSection) -> Self {
        Self { addresses: &section.addresses, alias: &section.alias, cname: &section.cname }
    }

    fn of_target(section: &'a TargetSection) -> Self {
        Self { addresses: &section.addresses, alias: &section.alias, cname: &section.cname }
    }

    fn none(&self) -> bool {
        self.addresses.as_ref().is_none_or(|list| list.get_ref().is_empty())
            && self.alias.is_none()
            && self.cname.is_none()
    }

    /// Where each kind that is stated stands, in the words of the file.
    fn kinds(&self) -> Vec<(&'static str, Range<usize>)> {
        [
            self.addresses.as_ref().map(|list| ("addresses", list.span())),
            self.alias.as_ref().map(|alias| ("alias", alias.span())),
            self.cname.as_ref().map(|cname| ("cname", cname.span.clone())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn has_v4(&self) -> bool {
        self.addresses.iter().flat_map(|list| list.get_ref()).any(|placed| placed.value.is_ipv4())
    }

    fn has_v6(&self) -> bool {
        let alias = self.alias.as_ref().and_then(|alias| alias.get_ref().ipv6.as_ref());
        alias.is_some_and(|ipv6| ipv6.value)
            || self.addresses.iter().flat_map(|list| list.get_ref()).any(|placed| placed.value.is_ipv6())
    }
}

/// The target that a table states, if it does.
pub(super) fn target(span: &Range<usize>, stated: &Stated<'_>, report: &mut Report) -> Option<Target> {
    for placed in stated.addresses.iter().flat_map(|list| list.get_ref()) {
        if placed.value.is_unspecified() || placed.value.is_multicast() {
            let wrong = format!("{} is no address that users can connect to", placed.value);
            let problem = Problem::at(&placed.span, wrong).here("nobody answers there");
            report.add(problem.right("expected an address of a load balancer"));
        }
    }
    if let [(first, first_span), (second, second_span), ..] = stated.kinds().as_slice() {
        let problem = Problem::at(second_span, format!("`{first}` and `{second}` in one table"));
        let problem = problem.here("another target").also(first_span, "first here");
        report.add(problem.right("expected one of `addresses`, `alias` and `cname`"));
        return None;
    }
    if let Some(alias) = stated.alias {
        return load_balancer(alias, report).map(Target::Alias);
    }
    if let Some(cname) = stated.cname {
        return Some(Target::Cname(cname.value.clone()));
    }
    let addresses: Vec<IpAddr> =
        stated.addresses.iter().flat_map(|list| list.get_ref()).map(|placed| placed.value).collect();
    if addresses.is_empty() || report.damaged_at(span, "addresses") {
        return None;
    }
    Some(Target::Addresses(addresses))
}

fn load_balancer(alias: &Section<AliasSection>, report: &mut Report) -> Option<LoadBalancer> {
    let (span, alias) = (alias.span(), alias.get_ref());
    let example = "name = \"edge-0123456789abcdef.elb.eu-west-1.amazonaws.com\"";
    let name = report.required(&span, "name", &alias.name, example);
    let zone_id = report.required(&span, "zone_id", &alias.zone_id, "zone_id = \"Z2IFOLAFXWLO4F\"");
    let ipv6 = alias.ipv6.as_ref().is_some_and(|placed| placed.value);
    Some(LoadBalancer { name: name?, zone_id: zone_id?.0, ipv6 })
}

/// The targets that a name says for itself; all that its records hold is checked together.
pub(super) fn of_name(
    file: &File,
    id: &Placed<DnsName>,
    section: &NameTable,
    used: &[Used],
    known: &Known,
    report: &mut Report,
) -> BTreeMap<RegionId, Target> {
    let mut targets = BTreeMap::new();
    for (region, table) in section.get_ref().targets.iter().flat_map(|targets| &targets.0) {
        if !report.refers(known, region) {
            continue;
        }
        let stated = Stated::of_target(table.get_ref());
        if !used.iter().any(|used| used.region == region.value) {
            let wrong = format!("`{}` does not lead to region `{}`", id.value, region.value);
            let problem = Problem::at(&region.span, wrong).here("a target for nobody");
            report.add(problem.right("expected a region of this name"));
        }
        if stated.none() && !report.damaged_inside(&table.span()) {
            let problem = Problem::at(&table.span(), "a target without anything").here("leads nowhere");
            report.add(problem.right("expected one of `addresses`, `alias` and `cname`"));
        }
        if let Some(target) = target(&table.span(), &stated, report) {
            targets.insert(region.value.clone(), target);
        }
    }
    together(file, id, section, used, report);
    targets
}

/// What a region's records of a name hold, and where that is said.
struct Place<'a> {
    used: &'a Used,
    span: Range<usize>,
    stated: Stated<'a>,
}

/// Every region of a name has what its records hold, and all of them the same kind of it.
fn together(file: &File, id: &Placed<DnsName>, section: &NameTable, used: &[Used], report: &mut Report) {
    let mut places: Vec<Place<'_>> = Vec::new();
    for used in used {
        let Some((placed, table)) = region(file, &used.region) else { continue };
        let overrides = section.get_ref().targets.iter().flat_map(|targets| &targets.0);
        let own = overrides.into_iter().find(|(region, _)| region.value == used.region);
        if own.is_none() && report.damaged_at(&table.span(), "addresses") {
            continue;
        }
        places.push(match own {
            Some((region, own)) => {
                Place { used, span: region.span.clone(), stated: Stated::of_target(own.get_ref()) }
            }
            None => Place { used, span: placed.span.clone(), stated: Stated::of_region(table.get_ref()) },
        });
    }
    for place in &places {
        nothing(id, place, report);
        if let Some(cname) = place.stated.cname
            && (cname.value == id.value || cname.value.as_str().ends_with(&format!(".{}", id.value)))
        {
            let problem = Problem::at(&cname.span, format!("`{}` would lead to itself", id.value));
            report.add(problem.here("below it").right("expected a name of the region's own"));
        }
    }
    one_kind(id, &places, report);
    let without = places.iter().find(|place| !place.stated.has_v6());
    if places.iter().any(|place| place.stated.has_v6())
        && let Some(without) = without
    {
        let wrong = format!("some regions of `{}` have IPv6 addresses and some have none", id.value);
        let here = format!("`{}` has none", without.used.region);
        report.add(
            Problem::at(&without.span, wrong)
                .here(here)
                .right("expected IPv6 in all regions of a name or in none: users of IPv6 could not be moved"),
        );
    }
}

fn nothing(id: &Placed<DnsName>, place: &Place<'_>, report: &mut Report) {
    let stated = &place.stated;
    if stated.alias.is_some() || stated.cname.is_some() || stated.has_v4() {
        return;
    }
    let what = if stated.none() { "no addresses" } else { "no IPv4 address" };
    let wrong = format!("region `{}` has {what}, but `{}` leads there", place.used.region, id.value);
    let problem = Problem::at(&place.span, wrong).here(what).also(&place.used.span, "used here");
    report.add(problem.right("expected a line such as addresses = [\"203.0.113.10\"] in the region"));
}

/// Records of several kinds do not stand together in one set.
/// Source: developer guide, "CNAME record type": it stands alone under its name.
fn one_kind(id: &Placed<DnsName>, places: &[Place<'_>], report: &mut Report) {
    let mut kinds = places.iter().filter_map(|place| Some((place, place.stated.kinds().into_iter().next()?)));
    let Some((_, (kind, span))) = kinds.next() else { return };
    if let Some((place, (other, other_span))) = kinds.find(|(_, (other, _))| *other != kind) {
        let wrong = format!("`{}` leads to regions by `{kind}` and by `{other}`", id.value);
        let here = format!("`{}` has `{other}`", place.used.region);
        let problem = Problem::at(&other_span, wrong).here(here).also(&span, format!("`{kind}` here"));
        report.add(
            problem.right("expected one kind in all regions of a name; `targets` of the name can say it"),
        );
    }
}
