//! Routes whose rules hang on a path that a service may read in another way.

use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::domain::routing::{PathPattern, Route};
use std::ops::Range;

/// Says, once, that a rule by path can be walked around where services are lenient.
pub(super) fn tell(routes: &[Route], places: &[Vec<Range<usize>>], report: &mut Report) {
    let guarded = |route: &Route| {
        let everywhere = matches!(&route.path, PathPattern::Prefix(prefix) if prefix.as_str() == "/");
        let access = &route.policy.access;
        let rules =
            !access.allow.is_empty() || !access.deny.is_empty() || !route.policy.rate_limits.is_empty();
        rules && !everywhere
    };
    let found = routes.iter().zip(places).find(|(route, _)| guarded(route));
    let Some((route, place)) = found.and_then(|(route, places)| Some((route, places.first()?))) else {
        return;
    };
    let what = format!("what route `{}` forbids may be reached by another spelling of its path", route.id);
    let note = Problem::note(place, what)
        .here("//x, %2F and ..; are other paths here, and may be none to a service");
    report.add(
        note.right(
            "expected `ambiguous_paths = \"refuse\"` in [edge], or \"pass\" where services are strict",
        ),
    );
}
