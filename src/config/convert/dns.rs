//! Access to Route 53, and how names are resolved.

use crate::config::file::{DnsSection, File, Placed};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::units::spell;
use crate::config::{Dns, DnsMode, Resolver};
use std::time::Duration;

const POLL: Duration = Duration::from_secs(10);
const INSYNC_POLL: Duration = Duration::from_secs(2);
/// Route 53 propagates a change "generally within 60 seconds". Source: Amazon Route 53 API reference, GetChange.
const INSYNC_ALLOWANCE: Duration = Duration::from_secs(60);
/// The only intervals of a Route 53 health check. Source: API reference, HealthCheckConfig, RequestInterval.
const HEALTH_INTERVALS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(30)];
const HEALTH_THRESHOLD: u32 = 3;
/// Source: API reference, HealthCheckConfig, FailureThreshold.
const HEALTH_THRESHOLD_MAX: u32 = 10;
/// Requests a second that Route 53 takes for a whole account.
/// Source: developer guide, "Quotas", Route 53 API request limits.
const REQUESTS: u32 = 5;
/// Another server has no account to share with others, but a bound stays.
const REQUESTS_ELSEWHERE: u32 = 20;
const REQUESTS_MAX: u32 = 1000;

pub(super) fn dns(file: &File, report: &mut Report) -> Option<Dns> {
    let Some(section) = &file.dns else {
        if let Some((name, _)) = file.names.as_ref().and_then(|names| names.0.first())
            && !report.damaged("dns")
        {
            let problem = Problem::at(&name.span, "[names] needs [dns]").here("in which zone?");
            report.add(problem.right("expected a [dns] section with zone_id"));
        }
        return None;
    };
    let (span, dns) = (section.span(), section.get_ref());
    let zone_id = report.required(&span, "zone_id", &dns.zone_id, "zone_id = \"Z0000000000000EXAMPLE\"");
    let (tenth, minutes) = (Duration::from_millis(100), Duration::from_secs(600));
    let poll = report.duration("dns.poll", &dns.poll, tenth..=minutes, POLL);
    let insync_poll = report.duration("dns.insync_poll", &dns.insync_poll, tenth..=minutes, INSYNC_POLL);
    let threshold = report.whole(
        "dns.health_threshold",
        &dns.health_threshold,
        1..=HEALTH_THRESHOLD_MAX,
        HEALTH_THRESHOLD,
    );
    let health_interval = health_interval(dns, report);
    let requests = if dns.endpoint.is_some() { REQUESTS_ELSEWHERE } else { REQUESTS };
    let requests_per_second =
        report.whole("dns.requests_per_second", &dns.requests_per_second, 1..=REQUESTS_MAX, requests);
    let servers = dns.servers.iter().flat_map(|list| list.get_ref()).map(|placed| placed.value).collect();
    Some(Dns {
        mode: dns.mode.as_ref().map_or(DnsMode::Observe, |placed| placed.value),
        zone_id: zone_id?.0,
        endpoint: dns.endpoint.as_ref().map(|placed| placed.value.0.clone()),
        poll,
        insync_poll,
        health_interval,
        health_threshold: u8::try_from(threshold).unwrap_or(u8::MAX),
        requests_per_second,
        verify: dns.verify.as_ref().is_some_and(|placed| placed.value),
        servers,
    })
}

fn health_interval(dns: &DnsSection, report: &mut Report) -> Duration {
    let [default, _] = HEALTH_INTERVALS;
    match &dns.health_interval {
        Some(placed) if !HEALTH_INTERVALS.contains(&placed.value) => {
            let wrong = "`dns.health_interval` is none that Route 53 has";
            let problem = Problem::at(&placed.span, wrong).here(spell(placed.value));
            report.add(problem.right("expected \"10s\" or \"30s\""));
            default
        }
        Some(placed) => placed.value,
        None => default,
    }
}

/// Time until a change is everywhere, for which the hold-down must last besides the TTL.
pub(super) fn insync_allowance(file: &File, report: &mut Report) -> Duration {
    let stated = file.dns.as_ref().map_or(&None, |dns| &dns.get_ref().insync_allowance);
    let range = Duration::ZERO..=Duration::from_secs(3600);
    report.duration("dns.insync_allowance", stated, range, INSYNC_ALLOWANCE)
}

pub(super) fn resolver(file: &File, report: &mut Report) -> Resolver {
    let default = Resolver::default();
    let Some(section) = &file.resolver else { return default };
    let resolver = section.get_ref();
    let nameservers = resolver.nameservers.iter().flat_map(|list| list.get_ref());
    for Placed { value, span } in nameservers.clone() {
        if value.port() == 0 || value.ip().is_unspecified() {
            let problem = Problem::at(span, format!("{value} cannot be asked")).here("no such server");
            report.add(problem.right("expected the address and port of a name server"));
        }
    }
    let hundredth = Duration::from_millis(10);
    let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
    let ttl_min = report.duration("resolver.ttl_min", &resolver.ttl_min, hundredth..=hour, default.ttl_min);
    let ttl_max = report.duration("resolver.ttl_max", &resolver.ttl_max, hundredth..=day, default.ttl_max);
    let minute = Duration::from_secs(60);
    let timeout = report.duration("resolver.timeout", &resolver.timeout, hundredth..=minute, default.timeout);
    if ttl_min > ttl_max {
        let wrong = format!(
            "`resolver.ttl_min` ({}) must not be longer than `resolver.ttl_max` ({})",
            spell(ttl_min),
            spell(ttl_max)
        );
        let place = resolver.ttl_min.as_ref().or(resolver.ttl_max.as_ref());
        let problem =
            place.map_or(Problem::outside(&wrong), |p| Problem::at(&p.span, &wrong).here("this value"));
        report.add(problem.right(format!("expected at most {}", spell(ttl_max))));
    }
    Resolver { nameservers: nameservers.map(|placed| placed.value).collect(), ttl_min, ttl_max, timeout }
}
