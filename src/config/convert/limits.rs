//! Load protection: of each service, and the named rate limits.

use crate::config::file::{
    AffinitySection, ConcurrencySection, File, HedgingSection, Key, RetryBudgetSection, Section,
    ServiceSection,
};
use crate::config::limits::{Affinity, AffinityBy, Protection, RateBy, RateLimit};
use crate::config::problems::Problem;
use crate::config::report::{Known, Report};
use crate::config::units::{BoundKind, KeySource, SessionSource};
use crate::domain::limit::budget::BudgetPolicy;
use crate::domain::limit::concurrency::{AdaptivePolicy, Bound, ConcurrencyPolicy};
use crate::domain::limit::hedge::HedgePolicy;
use crate::domain::limit::rate::{KEYS_MAX, Rate};
use crate::domain::name::ServiceId;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// Enough for most edges: 1 MiB.
const KEYS: u32 = 65_536;
const COOKIE: &str = "proxima_session";
const PER: Duration = Duration::from_secs(1);
/// More in flight than one process has file descriptors for.
const IN_FLIGHT_MAX: u32 = 1_000_000;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Names of settings below a service's section.
struct Under<'a> {
    service: &'a ServiceId,
    section: &'static str,
}

impl Under<'_> {
    fn path(&self, key: &str) -> String {
        format!("services.{}.{}.{key}", self.service, self.section)
    }
}

pub(super) fn protection(
    id: &ServiceId,
    service: &ServiceSection,
    folder: &Path,
    report: &mut Report,
) -> Protection {
    let under = |section| Under { service: id, section };
    let retry_budget = service.retry_budget.as_ref().map(Section::get_ref);
    Protection {
        retry_budget: retry_budget
            .map_or_else(BudgetPolicy::default, |section| budget(section, &under("retry_budget"), report)),
        concurrency: service.concurrency.as_ref().map(|s| concurrency(s, &under("concurrency"), report)),
        affinity: service.affinity.as_ref().and_then(|s| affinity(s, folder, &under("affinity"), report)),
        hedging: service.hedging.as_ref().map(|s| hedging(s.get_ref(), &under("hedging"), report)),
    }
}

fn budget(section: &RetryBudgetSection, under: &Under<'_>, report: &mut Report) -> BudgetPolicy {
    let default = BudgetPolicy::default();
    BudgetPolicy {
        ratio: report.number(&under.path("ratio"), &section.ratio, 0.0..=10.0, default.ratio),
        min_per_second: report.number(
            &under.path("min_per_second"),
            &section.min_per_second,
            0.0..=100_000.0,
            default.min_per_second,
        ),
        window: report.duration(
            &under.path("window"),
            &section.window,
            ms(1000)..=ms(300_000),
            default.window,
        ),
    }
}

fn concurrency(
    section: &Section<ConcurrencySection>,
    under: &Under<'_>,
    report: &mut Report,
) -> ConcurrencyPolicy {
    let (span, s) = (section.span(), section.get_ref());
    let kind = s.kind.as_ref().map_or(BoundKind::Adaptive, |placed| placed.value);
    let bound = match kind {
        BoundKind::Fixed => {
            let adaptive = [place(&s.min), place(&s.max), place(&s.initial)];
            let others = [place(&s.tolerance), place(&s.window), place(&s.probe)];
            for span in adaptive.into_iter().chain(others).flatten() {
                let problem = Problem::at(span, "a fixed bound does not move").here("has no effect");
                report.add(problem.right("expected `kind = \"adaptive\"`, or `limit` alone"));
            }
            report.present(&span, "limit", s.limit.is_some(), "limit = 500");
            Bound::Fixed(report.whole(&under.path("limit"), &s.limit, 1..=IN_FLIGHT_MAX, 1))
        }
        BoundKind::Adaptive => {
            if let Some(limit) = s.limit.as_ref().filter(|_| !report.damaged_at(&span, "kind")) {
                let problem = Problem::at(&limit.span, "an adaptive bound has no `limit`");
                let right = "expected `max` for its upper end, or `kind = \"fixed\"`";
                report.add(problem.here("has no effect").right(right));
            }
            Bound::Adaptive(adaptive(s, under, report))
        }
    };
    let share = |key: &str, value, default, report: &mut Report| {
        report.number(&under.path(key), value, 0.0..=1.0, default)
    };
    let normal_share = share("normal_share", &s.normal_share, ConcurrencyPolicy::NORMAL_SHARE, report);
    let sheddable_share =
        share("sheddable_share", &s.sheddable_share, ConcurrencyPolicy::SHEDDABLE_SHARE, report);
    let names = (under.path("sheddable_share"), under.path("normal_share"));
    ordered((&s.sheddable_share, sheddable_share), (&s.normal_share, normal_share), &names, report);
    ConcurrencyPolicy { bound, normal_share, sheddable_share }
}

fn adaptive(s: &ConcurrencySection, under: &Under<'_>, report: &mut Report) -> AdaptivePolicy {
    let default = AdaptivePolicy::default();
    let range = 1..=IN_FLIGHT_MAX;
    let min = report.whole(&under.path("min"), &s.min, range.clone(), default.min);
    let max = report.whole(&under.path("max"), &s.max, range.clone(), default.max);
    let initial = report.whole(&under.path("initial"), &s.initial, range, default.initial);
    let names = (under.path("min"), under.path("initial"));
    ordered((&s.min, min), (&s.initial, initial), &names, report);
    let names = (under.path("initial"), under.path("max"));
    ordered((&s.initial, initial), (&s.max, max), &names, report);
    AdaptivePolicy {
        min,
        max,
        initial,
        tolerance: report.number(&under.path("tolerance"), &s.tolerance, 1.1..=10.0, default.tolerance),
        window: report.duration(&under.path("window"), &s.window, ms(10)..=ms(5000), default.window),
        probe: report.duration(&under.path("probe"), &s.probe, ms(1000)..=ms(3_600_000), default.probe),
    }
}

fn hedging(s: &HedgingSection, under: &Under<'_>, report: &mut Report) -> HedgePolicy {
    let default = HedgePolicy::default();
    let delays = ms(1)..=ms(60_000);
    let delay_min =
        report.duration(&under.path("delay_min"), &s.delay_min, delays.clone(), default.delay_min);
    let delay_max = report.duration(&under.path("delay_max"), &s.delay_max, delays, default.delay_max);
    if delay_min > delay_max {
        let names = (under.path("delay_min"), under.path("delay_max"));
        let shown = (format!("{delay_min:?}"), format!("{delay_max:?}"));
        above(place(&s.delay_min), place(&s.delay_max), &names, &shown, report);
    }
    HedgePolicy {
        quantile: report.number(&under.path("quantile"), &s.quantile, 0.5..=0.999, default.quantile),
        delay_min,
        delay_max,
        share: report.number(&under.path("share"), &s.share, 0.001..=1.0, default.share),
        samples_min: report.whole(
            &under.path("samples_min"),
            &s.samples_min,
            10..=100_000,
            default.samples_min,
        ),
    }
}

fn affinity(
    section: &Section<AffinitySection>,
    folder: &Path,
    under: &Under<'_>,
    report: &mut Report,
) -> Option<Affinity> {
    let (span, s) = (section.span(), section.get_ref());
    let by = report.required(&span, "by", &s.by, "by = \"cookie\"")?;
    let day = ms(86_400_000);
    let max_age = s.max_age.as_ref().map(|placed| {
        let key = Some(placed.clone());
        report.duration(&under.path("max_age"), &key, ms(1000)..=day * 400, day)
    });
    let by = match by {
        SessionSource::Cookie => {
            report.present(&span, "secret", s.secret.is_some(), "secret = \"affinity.key\"");
            let name = s.cookie.as_ref().map_or_else(|| COOKIE.to_owned(), |placed| placed.value.0.clone());
            AffinityBy::Cookie { name, max_age }
        }
        SessionSource::Client => AffinityBy::Client,
        SessionSource::Header(name) => AffinityBy::Header(name),
    };
    if !matches!(by, AffinityBy::Cookie { .. }) {
        for span in [place(&s.cookie), place(&s.max_age)].into_iter().flatten() {
            let problem = Problem::at(span, "no cookie is set: sessions are known without one");
            report.add(problem.here("has no effect").right("expected `by = \"cookie\"`, or not this key"));
        }
    }
    Some(Affinity { by, secret: s.secret.as_ref().map(|placed| folder.join(&placed.value.0)) })
}

/// The named rate limits.
/// The names that routes may refer to, right or wrong otherwise.
pub(super) fn known(file: &File) -> Known {
    let sections = file.rate_limits.as_deref().unwrap_or_default();
    let names = sections.iter().filter_map(|section| Some(section.get_ref().name.as_ref()?.value.0.clone()));
    Known { kind: "rate limit", section: "rate_limits", names: names.collect() }
}

pub(super) fn rate_limits(file: &File, report: &mut Report) -> BTreeMap<String, RateLimit> {
    let mut limits = BTreeMap::new();
    let mut places: BTreeMap<String, Range<usize>> = BTreeMap::new();
    for section in file.rate_limits.as_deref().unwrap_or_default() {
        let (span, s) = (section.span(), section.get_ref());
        let name = report.required(&span, "name", &s.name, "name = \"per-client\"");
        let key = report.required(&span, "key", &s.key, "key = \"client\"");
        report.present(&span, "requests", s.requests.is_some(), "requests = 100");
        let requests = report.whole("rate_limits.requests", &s.requests, 1..=1_000_000, 1);
        let per = report.duration("rate_limits.per", &s.per, ms(1000)..=ms(3_600_000), PER);
        let burst = report.whole("rate_limits.burst", &s.burst, 1..=1_000_000, requests);
        let keys_max = report.whole("rate_limits.keys_max", &s.keys_max, 1024..=KEYS_MAX, KEYS);
        if let Some(placed) = &s.name
            && let Some(first) = places.insert(placed.value.0.clone(), placed.span.clone())
        {
            let wrong = format!("two rate limits are named `{}`", placed.value.0);
            let problem = Problem::at(&placed.span, wrong).here("again here").also(&first, "first here");
            report.add(problem.right("expected a name of its own for each: routes refer to it"));
        }
        let key = key.map(|key| match key {
            KeySource::Client => RateBy::Client,
            KeySource::Route => RateBy::Route,
            KeySource::Header(name) => RateBy::Header(name),
        });
        if let (Some(name), Some(key), Some(rate)) = (name, key, Rate::new(requests, per, burst)) {
            limits.insert(name.0, RateLimit { key, rate, keys_max });
        }
    }
    limits
}

fn place<T>(key: &Key<T>) -> Option<&Range<usize>> {
    key.as_ref().map(|placed| &placed.span)
}

/// The first must not be above the second.
fn ordered<T, V: PartialOrd + Display>(
    low: (&Key<T>, V),
    high: (&Key<T>, V),
    names: &(String, String),
    report: &mut Report,
) {
    if low.1 > high.1 {
        let shown = (low.1.to_string(), high.1.to_string());
        above(place(low.0), place(high.0), names, &shown, report);
    }
}

fn above(
    low: Option<&Range<usize>>,
    high: Option<&Range<usize>>,
    names: &(String, String),
    shown: &(String, String),
    report: &mut Report,
) {
    let wrong = format!("`{}` ({}) is above `{}` ({})", names.0, shown.0, names.1, shown.1);
    let problem = match (low, high) {
        (Some(low), Some(high)) => Problem::at(low, wrong).here("this value").also(high, "and this one"),
        (Some(one), None) | (None, Some(one)) => Problem::at(one, wrong).here("the other is the default"),
        (None, None) => Problem::outside(wrong),
    };
    report.add(problem.right(format!("expected {} at most here, or more there", shown.1)));
}
