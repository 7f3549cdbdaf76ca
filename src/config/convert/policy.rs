//! The rules of probing, ejection, ranking and failover.

use crate::config::Probes;
use crate::config::file::{EjectionSection, File, Key, ProbesSection};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::units::spell;
use crate::domain::health::HealthPolicy;
use crate::domain::latency::LatencyWindow;
use crate::domain::limit::outlier::OutlierPolicy;
use crate::domain::policy::FailoverPolicy;
use crate::domain::selection::Margin;
use std::time::Duration;

/// Long enough for a median over tens of samples, short enough to follow a route change.
const RTT_WINDOW: Duration = Duration::from_secs(30);
/// The most samples that a median is of.
const SAMPLES: u32 = LatencyWindow::CAPACITY as u32;

/// A fresh connection is asked again after a tenth of the interval; jitter shortens the one and
/// lengthens the other, so it must live for more than an eighth.
const FRESH_PART: u32 = 4;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn probes(file: &File, report: &mut Report) -> Probes {
    let default = Probes::default();
    let Some(section) = &file.probes else { return default };
    let probes = section.get_ref();
    let interval = report.duration("probes.interval", &probes.interval, ms(20)..=s(60), default.interval);
    let timeout = report.duration("probes.timeout", &probes.timeout, ms(5)..=s(60), default.timeout);
    // A kept-alive connection behind a load balancer measures one pod only.
    let range = ms(100)..=s(30);
    let fresh_connection =
        report.duration("probes.fresh_connection", &probes.fresh_connection, range, default.fresh_connection);
    if timeout >= interval {
        let wrong = format!(
            "`probes.timeout` ({}) must be shorter than `probes.interval` ({})",
            spell(timeout),
            spell(interval)
        );
        let right = format!("expected a timeout below {}", spell(interval));
        blame(&probes.timeout, &probes.interval, wrong, right, report);
    }
    if fresh_connection < interval / FRESH_PART {
        let wrong = format!(
            "`probes.fresh_connection` ({}) is shorter than a quarter of `probes.interval` ({})",
            spell(fresh_connection),
            spell(interval)
        );
        let right = format!(
            "expected {} or more: round trips are measured on a connection that answered before",
            spell(interval / FRESH_PART)
        );
        blame(&probes.fresh_connection, &probes.interval, wrong, right, report);
    }
    let sparse_interval = sparse_interval(probes, interval, report);
    Probes { interval, timeout, fresh_connection, sparse_interval }
}

fn sparse_interval(probes: &ProbesSection, interval: Duration, report: &mut Report) -> Duration {
    let default = Probes::default().sparse_interval;
    let range = ms(20)..=s(3600);
    let sparse =
        report.duration("probes.sparse_interval", &probes.sparse_interval, range, default.max(interval));
    if sparse < interval {
        let wrong = format!(
            "`probes.sparse_interval` ({}) is shorter than `probes.interval` ({})",
            spell(sparse),
            spell(interval)
        );
        let right = format!("expected {} or more", spell(interval));
        blame(&probes.sparse_interval, &probes.interval, wrong, right, report);
    }
    sparse
}

/// Marks the value that breaks a rule between two, or the other where this one is a default.
fn blame<A, B>(value: &Key<A>, other: &Key<B>, wrong: String, right: String, report: &mut Report) {
    let problem = match (value, other) {
        (Some(value), Some(other)) => {
            Problem::at(&value.span, wrong).here("this value").also(&other.span, "and this one")
        }
        (Some(value), None) => Problem::at(&value.span, wrong).here("the other is the default"),
        (None, Some(other)) => Problem::at(&other.span, wrong).here("the other is the default"),
        (None, None) => Problem::outside(wrong),
    };
    report.add(problem.right(right));
}

pub(super) fn health(file: &File, report: &mut Report) -> HealthPolicy {
    let default = HealthPolicy::default();
    let none = (&None, &None);
    let (fall, rise) = file.probes.as_ref().map_or(none, |p| (&p.get_ref().fall, &p.get_ref().rise));
    let fall = report.whole("probes.fall", fall, 1..=100, default.fall);
    let rise = report.whole("probes.rise", rise, 1..=100, default.rise);
    let Some(section) = &file.ejection else { return HealthPolicy { fall, rise, ..default } };
    let e = section.get_ref();
    let (ejection_range, day) = (ms(100)..=s(3600), s(86_400));
    let ejection =
        report.duration("ejection.ejection", &e.ejection, ejection_range.clone(), default.ejection);
    let ejection_max =
        report.duration("ejection.ejection_max", &e.ejection_max, ms(100)..=day, default.ejection_max);
    if ejection > ejection_max {
        let wrong = format!(
            "`ejection.ejection_max` ({}) must not be shorter than `ejection.ejection` ({})",
            spell(ejection_max),
            spell(ejection)
        );
        let right = format!("expected {} or more", spell(ejection));
        blame(&e.ejection_max, &e.ejection, wrong, right, report);
    }
    HealthPolicy {
        fall,
        rise,
        consecutive_failures: report.whole(
            "ejection.consecutive_failures",
            &e.consecutive_failures,
            1..=1000,
            default.consecutive_failures,
        ),
        failure_share: report.number(
            "ejection.failure_share",
            &e.failure_share,
            0.0..=1.0,
            default.failure_share,
        ),
        failure_volume: report.whole(
            "ejection.failure_volume",
            &e.failure_volume,
            1..=1_000_000,
            default.failure_volume,
        ),
        failure_window: report.duration(
            "ejection.failure_window",
            &e.failure_window,
            ms(100)..=s(600),
            default.failure_window,
        ),
        ejection,
        ejection_max,
        probation: report.duration("ejection.probation", &e.probation, ejection_range, default.probation),
        outlier: outlier(e, report),
    }
}

fn outlier(e: &EjectionSection, report: &mut Report) -> OutlierPolicy {
    let default = OutlierPolicy::default();
    OutlierPolicy {
        success_rate_deviations: report.number(
            "ejection.outlier_deviations",
            &e.outlier_deviations,
            0.0..=10.0,
            default.success_rate_deviations,
        ),
        latency_factor: report.number(
            "ejection.outlier_latency",
            &e.outlier_latency,
            0.0..=100.0,
            default.latency_factor,
        ),
        volume: report.whole("ejection.outlier_volume", &e.outlier_volume, 1..=1_000_000, default.volume),
        ejected_max: report.number("ejection.ejected_max", &e.ejected_max, 0.0..=1.0, default.ejected_max),
    }
}

/// The switch margin, and how long samples count.
pub(super) fn ranking(file: &File, interval: Duration, report: &mut Report) -> (Margin, Duration) {
    let default = Margin::default();
    let Some(section) = &file.probes else { return (default, RTT_WINDOW) };
    let probes = section.get_ref();
    let relative = report.number(
        "probes.switch_margin_relative",
        &probes.switch_margin_relative,
        0.0..=1.0,
        default.relative,
    );
    let absolute = report.duration(
        "probes.switch_margin_absolute",
        &probes.switch_margin_absolute,
        Duration::ZERO..=s(10),
        default.absolute,
    );
    let most = interval * SAMPLES;
    let window =
        report.duration("probes.rtt_window", &probes.rtt_window, ms(100)..=s(3600), RTT_WINDOW.min(most));
    if window > most {
        let wrong = format!(
            "`probes.rtt_window` ({}) is longer than {SAMPLES} times `probes.interval` ({})",
            spell(window),
            spell(interval)
        );
        let right = format!("expected {} or less: the last {SAMPLES} samples count, not more", spell(most));
        blame(&probes.rtt_window, &probes.interval, wrong, right, report);
    }
    if window < interval {
        let wrong = format!(
            "`probes.rtt_window` ({}) must not be shorter than `probes.interval` ({})",
            spell(window),
            spell(interval)
        );
        let right = "expected room for several samples: ten times the interval or more".to_owned();
        blame(&probes.rtt_window, &probes.interval, wrong, right, report);
    }
    (Margin { relative, absolute }, window)
}

pub(super) fn failover(file: &File, probes: &Probes, report: &mut Report) -> FailoverPolicy {
    let default = FailoverPolicy::default();
    let none = &crate::config::file::FailoverSection::default();
    let f = file.failover.as_ref().map_or(none, |section| section.get_ref());
    let view_fresh =
        report.duration("failover.view_fresh", &f.view_fresh, ms(50)..=s(600), default.view_fresh);
    // One probe lost, the next one late: else every hiccup would cost a vote.
    let least = probes.interval * 2 + probes.timeout;
    if view_fresh < least {
        let wrong = format!(
            "`failover.view_fresh` ({}) is shorter than two `probes.interval` ({}) and a `probes.timeout` ({})",
            spell(view_fresh),
            spell(probes.interval),
            spell(probes.timeout)
        );
        let right = format!("expected {} or more: views come with probes, and one may be lost", spell(least));
        let other = file.probes.as_ref().map_or(&None, |probes| &probes.get_ref().interval);
        blame(&f.view_fresh, other, wrong, right, report);
    }
    FailoverPolicy {
        down_after: report.duration(
            "failover.down_after",
            &f.down_after,
            ms(50)..=s(3600),
            default.down_after,
        ),
        view_fresh,
        min_live: count("failover.min_live", &f.min_live, default.min_live, report),
        require_operator_below: count(
            "failover.require_operator_below",
            &f.require_operator_below,
            default.require_operator_below,
            report,
        ),
        max_shift: max_shift(&f.max_shift, default.max_shift, report),
        hold_down: report.duration(
            "failover.hold_down",
            &f.hold_down,
            Duration::ZERO..=s(7 * 86_400),
            default.hold_down,
        ),
        max_changes_per_hour: count(
            "failover.max_changes_per_hour",
            &f.max_changes_per_hour,
            default.max_changes_per_hour,
            report,
        ),
        plan_expiry: report.duration(
            "failover.plan_expiry",
            &f.plan_expiry,
            ms(100)..=s(3600),
            default.plan_expiry,
        ),
        writer_patience: report.duration(
            "failover.writer_patience",
            &f.writer_patience,
            ms(100)..=s(3600),
            default.writer_patience,
        ),
        close_over: report.duration(
            "failover.close_over",
            &f.close_over,
            Duration::ZERO..=s(86_400),
            default.close_over,
        ),
    }
}

/// A whole number from 1; against the regions of each name it is checked with the names.
fn count(key: &str, value: &Key<crate::config::units::Whole>, default: usize, report: &mut Report) -> usize {
    let default_number = u32::try_from(default).unwrap_or(1);
    let number = report.whole(key, value, 1..=1000, default_number);
    usize::try_from(number).unwrap_or(default)
}

fn max_shift(value: &Key<f64>, default: f64, report: &mut Report) -> f64 {
    let Some(placed) = value else { return default };
    // Zero would stop every ramp for ever.
    if placed.value > 0.0 && placed.value <= 1.0 {
        return placed.value;
    }
    let problem = Problem::at(&placed.span, "`failover.max_shift` is out of range");
    let problem = problem.here(placed.value.to_string());
    report.add(problem.right("expected more than 0, and at most 1: the share that one step may move"));
    default
}
