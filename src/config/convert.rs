//! Sections -> `Config`: what is required, in range and consistent, all problems told.

mod aws;
mod dns;
mod edge;
mod health;
mod kubernetes;
mod limits;
mod listeners;
mod names;
mod observe;
mod operators;
mod policy;
mod regions;
mod routes;
mod services;
mod targets;
mod tls;
mod upstream_tls;

use crate::config::file::{Entries, File, Placed};
use crate::config::files::Named;
use crate::config::problems::Problem;
use crate::config::report::{Known, Report};
use crate::config::{Config, ConfigText, INSTANCE};
use crate::domain::name::RegionId;
use crate::domain::policy::Policy;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

/// `None` exactly when `report` holds a problem.
pub(super) fn convert(file: &File, folder: &Path, text: ConfigText, report: &mut Report) -> Option<Config> {
    let regions_known = known("region", "regions", file.regions.as_ref());
    let services_known = known("service", "services", file.services.as_ref());
    let own = own_region(file, text.region.as_deref(), &regions_known, report);
    let several = regions_known.names.len() > 1;

    let listeners = listeners::listeners(file, folder, report);
    let tls = tls::tls(file, folder, report);
    let peer = edge::peer(file, folder, several, report);
    let admin = operators::admin(file, folder, report);
    let audit = operators::audit(file, folder, report);
    let access_log = observe::access_log(file, folder, report);
    let journal = observe::journal(file, folder, report);
    let archive = aws::archive(file, (journal.as_ref(), audit.is_some()), report);
    let (log, tracing) = (observe::log(file), observe::tracing(file, report));
    edge::clashes(file, &admin, report);
    let (regions, region_policies) = regions::regions(file, several, report);
    let probes = policy::probes(file, report);
    let services = services::services(file, (folder, &probes), own.as_ref(), &regions_known, report);
    let steering = services::steering(file, text.zone.as_deref(), own.as_ref(), report);
    let rate_limits = limits::rate_limits(file, report);
    let routes = routes::routes(file, (&services, &services_known), &limits::known(file), report);
    let health = policy::health(file, report);
    let (margin, rtt_window) = policy::ranking(file, probes.interval, report);
    let failover = policy::failover(file, &probes, report);
    let dns = dns::dns(file, report);
    let (names, name_policies) = names::names(file, own.as_ref(), &regions_known, &services_known, report);
    names::check_failover(file, &failover, (&names, &name_policies), report);
    names::check_view(file, &names, &region_policies, &services, report);
    let kubernetes = kubernetes::kubernetes(file, folder, report);
    let (aws, resolver) = (aws::aws(file, report), dns::resolver(file, report));
    let (drain, trusted_proxies) = (edge::drain(file, report), edge::trusted_proxies(file, report));
    let siblings = edge::siblings(file, report);
    edge::uncounted(file, own.as_ref(), report);

    let policy = Policy {
        own: own?,
        regions: region_policies,
        services: services.keys().cloned().collect(),
        routes: Arc::new(routes?),
        names: name_policies,
        health,
        margin,
        rtt_window,
        failover,
        steering,
    };
    Some(Config {
        policy: Arc::new(policy),
        text,
        listeners,
        tls,
        peer,
        regions,
        probes,
        services,
        rate_limits,
        names,
        dns,
        aws,
        resolver,
        kubernetes,
        admin,
        audit,
        log,
        access_log,
        journal,
        archive,
        tracing,
        drain,
        trusted_proxies,
        siblings,
    })
}

/// Files that the configuration names, wherever it is right enough to name them.
pub(super) fn named_files(file: &File, folder: &Path) -> Vec<Named> {
    let mut named = tls::named_files(file, folder);
    named.extend(edge::named_files(file, folder));
    named.extend(operators::named_files(file, folder));
    named.extend(upstream_tls::named_files(file, folder));
    named
}

fn known<K: Display, V>(kind: &'static str, section: &'static str, entries: Option<&Entries<K, V>>) -> Known {
    let entries = entries.into_iter().flat_map(|entries| &entries.0);
    Known { kind, section, names: entries.map(|(key, _)| key.value.to_string()).collect() }
}

/// The environment wins: all edges share one file.
fn own_region(
    file: &File,
    environment: Option<&str>,
    known: &Known,
    report: &mut Report,
) -> Option<RegionId> {
    let stated = file.edge.as_ref().and_then(|edge| edge.get_ref().region.as_ref());
    let environment = environment.filter(|text| !text.is_empty());
    let in_file = || stated.filter(|placed| placed.value.as_str() == INSTANCE);
    if environment == Some(INSTANCE) || environment.is_none() && in_file().is_some() {
        let wrong = "the own region is left to the instance, which has not said it";
        let outside = environment.map(|_| Problem::outside(format!("--region or PROXIMA_REGION: {wrong}")));
        let inside = || in_file().map(|placed| Problem::at(&placed.span, wrong).here("left to it here"));
        if let Some(problem) = outside.or_else(inside) {
            let right = "expected an answer of its metadata service, or the name of the region in --region or PROXIMA_REGION";
            report.add(problem.right(right));
        }
        return None;
    }
    let stated = stated.filter(|placed| placed.value.as_str() != INSTANCE);
    let from_file = stated.filter(|placed| report.refers(known, placed)).map(|placed| placed.value.clone());
    let Some(text) = environment else {
        if stated.is_none() {
            own_region_missing(file, report);
        }
        return from_file;
    };
    let region = RegionId::parse(text).ok().filter(|region| known.names.contains(region.as_str()));
    if region.is_none() && !report.damaged("regions") {
        report.add(
            known.unknown(text, |wrong| Problem::outside(format!("--region or PROXIMA_REGION: {wrong}"))),
        );
    }
    region
}

fn own_region_missing(file: &File, report: &mut Report) {
    let wrong = "the own region is not stated";
    let right = "`region` in [edge], or PROXIMA_REGION in the environment";
    match &file.edge {
        None => report.missing_section("edge", wrong, right),
        Some(edge) if report.damaged_at(&edge.span(), "region") => {}
        Some(edge) => {
            let problem = Problem::at(&edge.span(), wrong).here("`region` is missing");
            report.add(problem.right(format!("expected {right}")));
        }
    }
}

/// Keys that are equal once read: letters of DNS names differ in case only.
fn duplicates<K: Ord + Display, V>(what: &str, entries: &[(Placed<K>, V)], report: &mut Report) {
    let mut seen: BTreeMap<&K, &Placed<K>> = BTreeMap::new();
    // The parser hands them out by their spelling.
    let mut keys: Vec<&Placed<K>> = entries.iter().map(|(key, _)| key).collect();
    keys.sort_by_key(|key| key.span.start);
    for key in keys {
        if let Some(first) = seen.insert(&key.value, key) {
            let problem = Problem::at(&key.span, format!("{what} `{}` is defined twice", key.value));
            let problem = problem.here("again here").also(&first.span, "first here");
            report.add(problem.right("expected each once; letters differ in case only, or by a final dot"));
        }
    }
}
