//! What a route says of the way of its requests.

use crate::config::file::{Key, List, Placed, RouteSection, Section};
use crate::config::problems::Problem;
use crate::config::report::{Known, Report};
use crate::config::units::{RetryOn, spell};
use crate::domain::limit::concurrency::Priority;
use crate::domain::routing::{Access, Retries, RouteHedging, RoutePolicy, RouteTimeouts};
use ipnet::IpNet;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn policy(section: &Section<RouteSection>, limits: &Known, report: &mut Report) -> RoutePolicy {
    let route = section.get_ref();
    let named = route.rate_limits.iter().flat_map(|list| list.get_ref());
    let named = named.filter(|placed| report.refers(limits, placed)).map(|placed| placed.value.0.clone());
    let rate_limits = named.collect();
    RoutePolicy {
        timeouts: timeouts(route, report),
        retries: retries(route, report),
        max_body: route.max_body.as_ref().map(|placed| placed.value.0),
        access: Access { allow: networks(&route.allow, report), deny: networks(&route.deny, report) },
        rate_limits,
        log_per_million: log_per_million(&route.sample, report),
        client_certificate: route.client_certificate.as_ref().map_or_else(Default::default, |p| p.value),
        hedging: match route.hedging.as_ref().map(|placed| placed.value) {
            None | Some(true) => RouteHedging::AsService,
            Some(false) => RouteHedging::Never,
        },
        priority: route.priority.as_ref().map_or_else(Priority::default, |placed| placed.value),
    }
}

fn log_per_million(sample: &Key<f64>, report: &mut Report) -> Option<u32> {
    let placed = sample.as_ref()?;
    let share = report.number("routes.sample", sample, 0.0..=1.0, placed.value);
    // In range, or refused.
    Some((share * 1e6).round() as u32)
}

fn timeouts(route: &RouteSection, report: &mut Report) -> RouteTimeouts {
    let Some(section) = &route.timeouts else { return RouteTimeouts::default() };
    let stated = section.get_ref();
    let mut within = |key: &str, value: &Key<Duration>, range: RangeInclusive<Duration>| {
        let placed = value.as_ref()?;
        Some(report.duration(&format!("routes.timeouts.{key}"), value, range, placed.value))
    };
    let timeouts = RouteTimeouts {
        connect: within("connect", &stated.connect, MILLISECOND..=MINUTE),
        first_byte: within("first_byte", &stated.first_byte, MILLISECOND..=HOUR),
        between_bytes: within("between_bytes", &stated.between_bytes, MILLISECOND..=HOUR),
        upgrade_idle: within("upgrade_idle", &stated.upgrade_idle, SECOND..=24 * HOUR),
        request: within("request", &stated.request, MILLISECOND..=24 * HOUR),
    };
    if let (Some(whole), Some(part), Some(placed)) =
        (timeouts.request, timeouts.first_byte, &stated.first_byte)
        && part > whole
    {
        let problem = Problem::at(&placed.span, "the first byte may take longer than the whole request");
        let problem = problem.here(format!("over `request` ({})", spell(whole)));
        report.add(problem.right(format!("expected at most {}", spell(whole))));
    }
    timeouts
}

fn retries(route: &RouteSection, report: &mut Report) -> Retries {
    let Some(section) = &route.retries else { return Retries::default() };
    let stated = section.get_ref();
    let attempts = stated.attempts.as_ref();
    let attempts = attempts.map(|_| report.whole("routes.retries.attempts", &stated.attempts, 1..=10, 1));
    let on: Vec<RetryOn> =
        stated.on.iter().flat_map(|list| list.get_ref()).map(|placed| placed.value).collect();
    if let (Some(1), false, Some(placed)) = (attempts, on.is_empty(), &stated.attempts) {
        let problem = Problem::at(&placed.span, "one attempt leaves none to repeat").here("no retry");
        report.add(problem.right("expected at least 2, or no `on`"));
    }
    let status = |on: &RetryOn| match on {
        RetryOn::Timeout => None,
        RetryOn::Status(status) => Some(*status),
    };
    Retries {
        attempts,
        on_timeout: on.contains(&RetryOn::Timeout),
        on_status: on.iter().filter_map(status).collect(),
    }
}

pub(in crate::config::convert) fn networks(list: &List<IpNet>, report: &mut Report) -> Vec<IpNet> {
    let placed = list.iter().flat_map(|list| list.get_ref());
    placed.map(|Placed { value, span }| network(*value, span, report)).collect()
}

/// A network that may be an address of one by mistake.
pub(in crate::config::convert) fn network(value: IpNet, span: &Range<usize>, report: &mut Report) -> IpNet {
    if value.addr() != value.network() {
        let problem = Problem::at(span, format!("{value} is an address within its network"));
        let problem = problem.here("has bits beyond its prefix");
        report.add(problem.right(format!("expected the network {}, or the address alone", value.trunc())));
    }
    value
}
