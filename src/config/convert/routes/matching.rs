//! What a route asks for besides its hosts.

use super::pattern;
use crate::config::file::{FieldSection, ParamSection, RouteSection, Section};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::domain::routing::{Conditions, Field, Method, Methods, Param, ParamTest, PathPattern, ValueTest};
use std::ops::Range;

/// `None`: a wrong one was told.
pub(super) fn path(section: &Section<RouteSection>, report: &mut Report) -> Option<PathPattern> {
    let route = section.get_ref();
    let stated: Vec<(&str, &Range<usize>)> = [
        ("path", route.path.as_ref().map(|placed| &placed.span)),
        ("path_prefix", route.path_prefix.as_ref().map(|placed| &placed.span)),
        ("path_regex", route.path_regex.as_ref().map(|placed| &placed.span)),
    ]
    .into_iter()
    .filter_map(|(key, span)| Some((key, span?)))
    .collect();
    only_one("a route asks for its path in one way", &stated, report);
    if let Some(exact) = &route.path {
        return Some(PathPattern::Exact(exact.value.clone()));
    }
    if let Some(regex) = &route.path_regex {
        return pattern(&regex.value.0, &regex.span, report).map(PathPattern::Regex);
    }
    match &route.path_prefix {
        Some(prefix) => Some(PathPattern::Prefix(prefix.value.clone())),
        // A wrong path is not every path.
        None if ["path", "path_prefix", "path_regex"]
            .iter()
            .any(|key| report.damaged_at(&section.span(), key)) =>
        {
            None
        }
        None => Some(PathPattern::any()),
    }
}

/// Tells keys that exclude each other.
pub(in super::super) fn only_one(what: &str, stated: &[(&str, &Range<usize>)], report: &mut Report) {
    let mut stated = stated.to_vec();
    stated.sort_by_key(|(_, span)| span.start);
    if let [(first, place), others @ ..] = stated.as_slice() {
        for (other, again) in others {
            let problem = Problem::at(again, format!("`{first}` and `{other}` exclude each other"));
            report.add(problem.here(what).also(place, "first here").right("expected one of them"));
        }
    }
}

pub(super) fn conditions(section: &Section<RouteSection>, report: &mut Report) -> Conditions {
    let route = section.get_ref();
    if let Some(list) = &route.methods
        && list.get_ref().is_empty()
        && !report.damaged_at(&section.span(), "methods")
    {
        let problem = Problem::at(&list.span(), "a route without methods matches nothing").here("empty");
        report.add(problem.right("expected a method, or no `methods` at all for any method"));
    }
    let methods = route.methods.iter().flat_map(|list| list.get_ref());
    let methods: Vec<Method> = methods.map(|placed| placed.value.clone()).collect();
    let headers = route.headers.iter().flat_map(|list| list.get_ref());
    let headers = headers.filter_map(|header| field(header, report)).collect();
    let query = route.query.iter().flat_map(|list| list.get_ref());
    let query = query.filter_map(|parameter| param(parameter, report)).collect();
    let scheme = route.scheme.as_ref().map(|placed| placed.value);
    Conditions { scheme, methods: Methods::new(methods), headers, query }
}

pub(in super::super) fn field(section: &Section<FieldSection>, report: &mut Report) -> Option<Field> {
    let (span, field) = (section.span(), section.get_ref());
    let name = report.required(&span, "name", &field.name, "name = \"x-canary\"");
    let test = match (&field.value, &field.regex) {
        (Some(value), Some(regex)) => {
            let what = "a header is compared in one way";
            only_one(what, &[("value", &value.span), ("regex", &regex.span)], report);
            None
        }
        (Some(value), None) => Some(ValueTest::Exact(value.value.clone())),
        (None, Some(regex)) => pattern(&regex.value.0, &regex.span, report).map(ValueTest::Regex),
        (None, None) => Some(ValueTest::Present),
    };
    Some(Field { name: name?, test: test? })
}

fn param(section: &Section<ParamSection>, report: &mut Report) -> Option<Param> {
    let (span, param) = (section.span(), section.get_ref());
    let name = report.required(&span, "name", &param.name, "name = \"version\"")?.0;
    if let Some(placed) = param.name.as_ref().filter(|placed| placed.value.0.is_empty()) {
        let problem = Problem::at(&placed.span, "a query parameter without a name").here("empty");
        report.add(problem.right("expected a name, such as \"version\", as it is once decoded"));
    }
    let test =
        param.value.as_ref().map_or(ParamTest::Present, |placed| ParamTest::Exact(placed.value.0.clone()));
    Some(Param { name, test })
}
