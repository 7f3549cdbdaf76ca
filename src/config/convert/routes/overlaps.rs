//! Routes in the way of each other, told by their names and lines.

use super::shown;
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::domain::routing::{Overlap, PathPattern, Relation, Route, overlaps};
use std::ops::Range;

/// `places`: of each route's hosts.
pub(super) fn tell(routes: &[Route], places: &[Vec<Range<usize>>], report: &mut Report) {
    for overlap in overlaps(routes) {
        let place = |index: usize| {
            let route = routes.get(index)?;
            let at = route.hosts.iter().position(|host| host == overlap.host)?;
            Some((route, places.get(index)?.get(at)?))
        };
        let Some((loser, winner)) = place(overlap.loser).zip(place(overlap.winner)) else { continue };
        report.add(problem(&overlap, loser, winner));
    }
}

fn problem(
    overlap: &Overlap<'_>,
    loser: (&Route, &Range<usize>),
    winner: (&Route, &Range<usize>),
) -> Problem {
    let ((loser, place), (winner, first)) = (loser, winner);
    let (host, lost, won) = (shown(overlap.host), &loser.id, &winner.id);
    match overlap.relation {
        Relation::Never if same_plainly(loser, winner) => {
            let wrong =
                format!("routes `{won}` and `{lost}` both match {host} with {}", spelled(&loser.path));
            let problem = Problem::at(place, wrong).here("again here").also(first, "first here");
            problem.right("expected another host or `path_prefix`: one of them could never win")
        }
        Relation::Never => {
            let wrong =
                format!("route `{lost}` can never match at {host}: `{won}` takes all that it asks for");
            let problem = Problem::at(place, wrong).here(format!("`{lost}`, {}", spelled(&loser.path)));
            let problem = problem.also(first, format!("`{won}`, {}", spelled(&winner.path)));
            problem.right("expected a route that some request reaches: it may need a place further up, or another path or condition")
        }
        Relation::Order => {
            let what =
                format!("routes `{won}` and `{lost}` both match some requests at {host}: `{won}` wins");
            Problem::note(place, what)
                .here(format!("`{lost}` gets the rest"))
                .also(first, format!("`{won}` comes first in the file"))
                .right("one more condition on either would decide it wherever they stand")
        }
        Relation::PerhapsOrder => {
            let what =
                format!("routes `{won}` and `{lost}` may both match a path at {host}: `{won}` wins then");
            Problem::note(place, what)
                .here(format!("`{lost}`, {}", spelled(&loser.path)))
                .also(first, format!("`{won}`, {}, comes first in the file", spelled(&winner.path)))
                .right("expressions are tried in the order of the file")
        }
    }
}

/// Whether nothing but the names tells what two routes ask for.
fn same_plainly(one: &Route, other: &Route) -> bool {
    one.path == other.path && one.conditions == other.conditions
}

fn spelled(path: &PathPattern) -> String {
    match path {
        PathPattern::Exact(path) => format!("the path {}", path.as_str()),
        PathPattern::Prefix(prefix) => format!("paths from {}", prefix.as_str()),
        PathPattern::Regex(pattern) => format!("paths like {}", pattern.as_str()),
    }
}
