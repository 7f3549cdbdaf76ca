//! What a route does: to a service, elsewhere, or its own answer.

use super::matching::only_one;
use crate::config::convert::duplicates;
use crate::config::file::{
    ChangesSection, Entries, Key, Placed, RedirectSection, RespondSection, RewriteSection, RouteSection,
    Section,
};
use crate::config::problems::Problem;
use crate::config::report::{Known, Report};
use crate::config::units::{Replacement, Whole};
use crate::domain::name::ServiceId;
use crate::domain::routing::{
    Action, Backends, ExactPath, FieldName, FieldValue, Forward, HeaderChanges, HostChange, PathChange,
    PathPattern, PathPrefix, Redirect, RedirectStatus, Respond, Rewrite, Scheme, Split,
};
use std::collections::BTreeSet;
use std::ops::Range;

const CONTENT_TYPE: &str = "text/plain; charset=utf-8";
/// A page, not a file server.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Keeps the method, and browsers forget it.
const REDIRECT: RedirectStatus = RedirectStatus::Temporary;

/// `None`: there is none, or a wrong one was told.
pub(super) fn action(
    section: &Section<RouteSection>,
    path: Option<&PathPattern>,
    services: &Known,
    report: &mut Report,
) -> Option<Action> {
    let (span, route) = (section.span(), section.get_ref());
    let redirect = route.redirect.as_ref().map(Section::span);
    let respond = route.respond.as_ref().map(Section::span);
    let split = route.split.as_ref().map(toml::Spanned::span);
    let stated: Vec<(&str, &Range<usize>)> = [
        ("service", route.service.as_ref().map(|placed| &placed.span)),
        ("split", split.as_ref()),
        ("redirect", redirect.as_ref()),
        ("respond", respond.as_ref()),
    ]
    .into_iter()
    .filter_map(|(key, span)| Some((key, span?)))
    .collect();
    only_one("a route does one thing", &stated, report);
    let damaged = ["split", "redirect", "respond"].iter().any(|key| report.damaged_at(&span, key));
    let example = "service = \"web\", or one with `split`, `redirect` or `respond`";
    report.present(&span, "service", !stated.is_empty() || damaged, example);
    let backends = backends(section, services, report);
    if let Some(redirect) = &route.redirect {
        own_answer(section, "redirect", report);
        return self::redirect(redirect, section, path?, report).map(Action::Redirect);
    }
    if let Some(respond) = &route.respond {
        own_answer(section, "respond", report);
        return self::respond(respond, report).map(Action::Respond);
    }
    let rewrite = route.rewrite.as_ref().map(|section| rewrite(section, path, report));
    let request_headers = changes(route.request_headers.as_ref(), report);
    Some(Action::Forward(Forward { to: backends?, rewrite: rewrite.unwrap_or_default(), request_headers }))
}

fn backends(section: &Section<RouteSection>, services: &Known, report: &mut Report) -> Option<Backends> {
    let route = section.get_ref();
    if let Some(placed) = &route.service {
        report.refers(services, placed);
        return Some(Backends::Service(placed.value.clone()));
    }
    let split = route.split.as_ref()?;
    let entries = &split.get_ref().0;
    duplicates("service", entries, report);
    for (service, _) in entries {
        report.refers(services, service);
    }
    let weights = entries.iter().map(|(service, weight)| (service.value.clone(), weight.value.0));
    let weights: Vec<(ServiceId, u32)> = weights.collect();
    let split_of = Split::new(weights);
    if split_of.is_none() && !report.damaged_inside(&split.span()) {
        let problem = Problem::at(&split.span(), "`split` gives nobody anything").here("no weight above 0");
        report.add(problem.right("expected weights, such as { web = 95, web-canary = 5 }"));
    }
    split_of.map(Backends::Split)
}

/// Tells what makes no sense for an answer of this edge itself.
fn own_answer(section: &Section<RouteSection>, action: &str, report: &mut Report) {
    let route = section.get_ref();
    let rewrite = route.rewrite.as_ref().map(|section| ("rewrite", section.span()));
    let headers = route.request_headers.as_ref().map(|section| ("request_headers", section.span()));
    for (key, span) in [rewrite, headers].into_iter().flatten() {
        let problem = Problem::at(&span, format!("`{key}` does nothing with `{action}`"));
        let problem = problem.here("no service gets the request");
        report.add(problem.right("expected it with `service` or `split`"));
    }
}

fn redirect(
    section: &Section<RedirectSection>,
    route: &Section<RouteSection>,
    pattern: &PathPattern,
    report: &mut Report,
) -> Option<Redirect> {
    let redirect = section.get_ref();
    let code = |placed: &Placed<Whole>| RedirectStatus::from_code(placed.value.0);
    let status = redirect.status.as_ref().map_or(Some(REDIRECT), code);
    if let Some(placed) = redirect.status.as_ref().filter(|_| status.is_none()) {
        let problem = Problem::at(&placed.span, "`redirect.status` is none of a redirect");
        report.add(problem.here(placed.value.0.to_string()).right("expected 301, 302, 303, 307 or 308"));
    }
    let port =
        redirect.port.as_ref().map(|_| report.whole("routes.redirect.port", &redirect.port, 1..=65535, 443));
    let paths = Paths {
        section: "redirect",
        whole: &redirect.path,
        prefix: &redirect.path_prefix,
        replacement: &redirect.replacement,
    };
    let path = paths.change(Some(pattern), report);
    let converted = Redirect {
        status: status?,
        scheme: redirect.scheme.as_ref().map(|placed| placed.value),
        host: redirect.host.as_ref().map(|placed| placed.value.as_str().to_owned()),
        port: port.and_then(|port| u16::try_from(port).ok()),
        path,
        keep_query: redirect.keep_query.as_ref().is_none_or(|placed| placed.value),
    };
    circle(&converted, section, route, report);
    Some(converted)
}

/// Tells a redirect that leads to where the client is.
fn circle(
    redirect: &Redirect,
    section: &Section<RedirectSection>,
    route: &Section<RouteSection>,
    report: &mut Report,
) {
    let Redirect { host, port, path, .. } = redirect;
    let stated = section.get_ref();
    let unfit = *path == PathChange::Keep && (stated.path_prefix.is_some() || stated.replacement.is_some());
    let moved = match path {
        PathChange::Keep => false,
        PathChange::Prefix { from, to } => from != to,
        PathChange::Whole(_) | PathChange::Regex { .. } => true,
    };
    // What does not fit was told.
    let elsewhere = host.is_some() || port.is_some() || moved || unfit;
    if elsewhere || report.damaged_inside(&section.span()) {
        return;
    }
    let asked = route.get_ref().scheme.as_ref().map(|placed| placed.value);
    let (what, right) = match redirect.scheme {
        None => {
            ("clients would be sent to where they are", "expected a scheme, host, port or path in `redirect`")
        }
        Some(scheme) if asked.is_none_or(|asked| asked == scheme) => match scheme {
            Scheme::Https => (
                "clients of https would be sent in a circle",
                "expected `scheme = \"http\"` in the route, so that it takes no others",
            ),
            Scheme::Http => (
                "clients of http would be sent in a circle",
                "expected `scheme = \"https\"` in the route, so that it takes no others",
            ),
        },
        Some(_) => return,
    };
    report.add(Problem::at(&section.span(), what).here("leads to the same place").right(right));
}

fn respond(section: &Section<RespondSection>, report: &mut Report) -> Option<Respond> {
    let respond = section.get_ref();
    let status = report.whole("routes.respond.status", &respond.status, 200..=599, 200);
    report.present(&section.span(), "status", respond.status.is_some(), "status = 404");
    let text = respond.text.as_ref().map(|placed| placed.value.0.clone()).unwrap_or_default();
    if let Some(placed) = &respond.text {
        if text.len() > TEXT_BYTES_MAX {
            let problem = Problem::at(&placed.span, "`routes.respond.text` is too long");
            let problem = problem.here(format!("{} bytes", text.len()));
            report.add(problem.right(format!("expected at most {TEXT_BYTES_MAX} bytes")));
        }
        // RFC 9110, 15.3.5, 15.3.6, 15.4.5.
        if !text.is_empty() && matches!(status, 204 | 205 | 304) {
            let problem = Problem::at(&placed.span, format!("an answer of {status} has no text"));
            report.add(problem.here("could not be sent").right("expected another status, or no `text`"));
        }
    }
    let content_type = respond.content_type.as_ref().map(|placed| placed.value.clone());
    let content_type = content_type.or_else(|| FieldValue::parse(CONTENT_TYPE))?;
    Some(Respond { status: u16::try_from(status).ok()?, text, content_type })
}

fn rewrite(section: &Section<RewriteSection>, pattern: Option<&PathPattern>, report: &mut Report) -> Rewrite {
    let rewrite = section.get_ref();
    let paths = Paths {
        section: "rewrite",
        whole: &rewrite.path,
        prefix: &rewrite.path_prefix,
        replacement: &rewrite.replacement,
    };
    let path = paths.change(pattern, report);
    let upstream = rewrite.upstream_host.as_ref().filter(|placed| placed.value);
    if let Some((host, upstream)) = rewrite.host.as_ref().zip(upstream) {
        let stated = [("host", &host.span), ("upstream_host", &upstream.span)];
        only_one("a request has one host", &stated, report);
    }
    let host = match (&rewrite.host, upstream) {
        (Some(host), _) => HostChange::Fixed(host.value.as_str().to_owned()),
        (None, Some(_)) => HostChange::Upstream,
        (None, None) => HostChange::Keep,
    };
    Rewrite { path, host }
}

/// The three ways in which a section can say another path.
struct Paths<'f> {
    section: &'static str,
    whole: &'f Key<ExactPath>,
    prefix: &'f Key<PathPrefix>,
    replacement: &'f Key<Replacement>,
}

impl Paths<'_> {
    /// `pattern`: what the route asks for; `None`: that is wrong, and was told.
    fn change(&self, pattern: Option<&PathPattern>, report: &mut Report) -> PathChange {
        let stated: Vec<(&str, &Range<usize>)> = [
            ("path", self.whole.as_ref().map(|placed| &placed.span)),
            ("path_prefix", self.prefix.as_ref().map(|placed| &placed.span)),
            ("replacement", self.replacement.as_ref().map(|placed| &placed.span)),
        ]
        .into_iter()
        .filter_map(|(key, span)| Some((key, span?)))
        .collect();
        only_one("a path is changed in one way", &stated, report);
        if let Some(whole) = self.whole {
            return PathChange::Whole(whole.value.as_str().to_owned());
        }
        let unfit = |placed: &Range<usize>, key: &str, of: &str, report: &mut Report| {
            let wrong = format!("`{}.{key}` needs `{of}` in the route", self.section);
            let problem = Problem::at(placed, wrong).here("nothing to replace");
            report.add(problem.right(format!("expected a route with `{of}`, or `path` here")));
            PathChange::Keep
        };
        match (self.prefix, self.replacement, pattern) {
            (Some(to), _, Some(PathPattern::Prefix(from))) => {
                PathChange::Prefix { from: from.clone(), to: to.value.clone() }
            }
            (Some(to), _, Some(_)) => unfit(&to.span, "path_prefix", "path_prefix", report),
            (None, Some(to), Some(PathPattern::Regex(pattern))) => {
                for group in groups(&to.value.0).filter(|group| !pattern.has_group(group)) {
                    let wrong = format!("`{}.replacement` names a group that is not there", self.section);
                    let problem = Problem::at(&to.span, wrong).here(format!("no group `{group}`"));
                    let right = "expected groups of `path_regex`: $1 is the first in parentheses; write ${1} before a letter, digit or underscore";
                    report.add(problem.right(right));
                }
                PathChange::Regex { pattern: pattern.clone(), replacement: to.value.0.clone() }
            }
            (None, Some(to), Some(_)) => unfit(&to.span, "replacement", "path_regex", report),
            (None, None, _) | (_, _, None) => PathChange::Keep,
        }
    }
}

/// The groups that a replacement names, as the regex crate reads it: `$$` is a dollar sign.
fn groups(replacement: &str) -> impl Iterator<Item = &str> {
    let mut rest = replacement;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = rest.split_once('$')?;
            if let Some(after) = after.strip_prefix('$') {
                rest = after;
                continue;
            }
            if let Some((name, after)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                rest = after;
                return Some(name);
            }
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let (name, after) = after.split_at(after.find(|c| !word(c)).unwrap_or(after.len()));
            rest = after;
            if !name.is_empty() {
                return Some(name);
            }
        }
    })
}

/// Changes to headers; none without a section.
pub(super) fn changes(section: Option<&Section<ChangesSection>>, report: &mut Report) -> HeaderChanges {
    let Some(section) = section else { return HeaderChanges::default() };
    let section = section.get_ref();
    let remove: Vec<&Placed<FieldName>> = section.remove.iter().flat_map(|list| list.get_ref()).collect();
    let (set, add) = (lines(section.set.as_ref(), report), lines(section.add.as_ref(), report));
    let set_names: BTreeSet<&FieldName> = set.iter().map(|(name, _)| name).collect();
    for placed in remove.iter().filter(|placed| set_names.contains(&placed.value)) {
        let problem = Problem::at(&placed.span, format!("header `{}` is removed and set", placed.value));
        let problem = problem.here("`set` replaces every value of it");
        report.add(problem.right("expected it in one of `set` and `remove`"));
    }
    HeaderChanges { remove: remove.into_iter().map(|placed| placed.value.clone()).collect(), set, add }
}

fn lines(
    entries: Option<&Entries<FieldName, Placed<FieldValue>>>,
    report: &mut Report,
) -> Vec<(FieldName, FieldValue)> {
    let entries = entries.map(|entries| entries.0.as_slice()).unwrap_or_default();
    duplicates("header", entries, report);
    entries.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn groups_are_read_as_the_replacement_is() {
        for (replacement, expected) in [
            ("/a", &[][..]),
            ("/$1/$2", &["1", "2"]),
            ("/$1x/${1}x", &["1x", "1"]),
            ("/$$1/${name}", &["name"]),
            ("/$/x$", &[]),
        ] {
            assert_eq!(groups(replacement).collect::<Vec<_>>(), expected, "{replacement}");
        }
    }
}
