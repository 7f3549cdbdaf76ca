//! What becomes of the trace of a request: it goes on, one begins here, or it is left alone.
//!
//! Pure: random numbers are arguments. Source: W3C Trace Context, level 1, section 4.

use crate::config::{ClientTraces, Tracing};
use crate::domain::trace::{SpanId, TraceParent, state_is_valid};
use crate::proxy::headers::HeaderEdits;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::SocketAddr;

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// Whose word a request's trace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Teller {
    /// Another region, or a trusted proxy.
    Trusted,
    Client,
}

/// The place of a request in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// The trace with the span of this edge: what the next hop is told.
    pub(super) own: TraceParent,
    /// Whose child that span is; `None`: the trace begins here.
    pub(super) before: Option<SpanId>,
    /// Vendors' words about the trace go on.
    keep_state: bool,
}

/// The trace that a request says it belongs to; `None`: it says none that is well-formed.
pub(super) fn told(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(PARENT).iter();
    let text = values.next().filter(|_| values.next().is_none())?;
    TraceParent::parse(text.to_str().ok()?)
}

impl Step {
    /// The step of this edge; `None` only for random numbers that are 0.
    pub(super) fn new(
        headers: &HeaderMap,
        teller: Teller,
        rules: &Tracing,
        random: (u128, u64),
    ) -> Option<Self> {
        let believed = teller == Teller::Trusted || rules.clients == ClientTraces::Keep;
        match told(headers).filter(|_| believed) {
            Some(before) => Some(Self {
                own: before.with_parent(SpanId::new(random.1)?),
                before: Some(before.parent),
                keep_state: has_valid_state(headers),
            }),
            None => {
                let own = TraceParent::begin(random.0, random.1, rules.sample)?;
                Some(Self { own, before: None, keep_state: false })
            }
        }
    }

    /// Tells the next hop, unless the route has its own idea of that; whether it did.
    pub(super) fn edit(&self, edits: &mut HeaderEdits) -> bool {
        let mut named = edits.remove.iter().chain(edits.set.iter().map(|(name, _)| name));
        if named.any(|name| *name == PARENT) {
            return false;
        }
        edits.set.extend(line(self.own));
        if !self.keep_state {
            edits.remove.push(STATE);
        }
        true
    }

    /// What one attempt tells instead, so that it is told apart from others.
    pub(super) fn of_attempt(&self, to: SocketAddr) -> Option<(HeaderName, HeaderValue)> {
        line(self.own.with_parent(self.own.parent.child(self.own.trace, &to.to_string())))
    }
}

fn line(parent: TraceParent) -> Option<(HeaderName, HeaderValue)> {
    Some((PARENT, HeaderValue::try_from(parent.to_string()).ok()?))
}

fn has_valid_state(headers: &HeaderMap) -> bool {
    let lines: Option<Vec<&str>> = headers.get_all(STATE).iter().map(|line| line.to_str().ok()).collect();
    lines.is_some_and(|lines| state_is_valid(&lines.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[test]
    fn only_a_single_parent_names_a_trace() {
        let mut headers = HeaderMap::new();
        for known in [false, true, false] {
            assert_eq!(told(&headers).is_some(), known, "{headers:?}");
            headers.append(PARENT, HeaderValue::from_static(GOOD));
        }
    }

    /// The headers after the step, as the next hop gets them.
    fn next(lines: &[(&'static str, &str)], teller: Teller, clients: ClientTraces, sample: f64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let rules = Tracing { sample, clients, otlp: None };
        let mut edits = HeaderEdits::default();
        assert!(Step::new(&headers, teller, &rules, (0xabc, 0xdef)).unwrap().edit(&mut edits));
        edits.apply(&mut headers);
        headers
    }

    fn text(headers: &HeaderMap, name: &str) -> String {
        headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
    }

    #[test]
    fn a_trace_goes_on_with_this_edge_as_the_parent_and_its_word_on_sampling() {
        let lines = [("traceparent", GOOD), ("tracestate", "a=1"), ("tracestate", "b=2")];
        let headers = next(&lines, Teller::Client, ClientTraces::Keep, 1.0);
        assert_eq!(text(&headers, "traceparent"), format!("00-{TRACE}-0000000000000def-00"));
        assert_eq!(headers.get_all("tracestate").iter().count(), 2);
    }

    #[test]
    fn a_trace_begins_where_there_is_none_that_is_right_and_a_state_without_one_is_dropped() {
        let begun = "00-00000000000000000000000000000abc-0000000000000def";
        for (lines, sample, flags) in [
            (vec![], 1.0, "01"),
            (vec![], 0.0, "00"),
            (vec![("tracestate", "a=1")], 1.0, "01"),
            (vec![("traceparent", GOOD), ("traceparent", GOOD)], 1.0, "01"),
            (vec![("traceparent", "00-nonsense"), ("tracestate", "a=1")], 1.0, "01"),
        ] {
            let headers = next(&lines, Teller::Client, ClientTraces::Keep, sample);
            assert_eq!(text(&headers, "traceparent"), format!("{begun}-{flags}"), "{lines:?}");
            assert_eq!(headers.get_all("traceparent").iter().count(), 1, "{lines:?}");
            assert!(!headers.contains_key("tracestate"), "{lines:?}");
        }
    }

    #[test]
    fn a_state_that_is_wrong_is_dropped_and_the_trace_goes_on() {
        let lines = [("traceparent", GOOD), ("tracestate", "a=1,WRONG")];
        let headers = next(&lines, Teller::Client, ClientTraces::Keep, 1.0);
        assert!(text(&headers, "traceparent").contains(TRACE) && !headers.contains_key("tracestate"));
    }

    #[test]
    fn where_clients_are_not_believed_trusted_proxies_and_regions_still_are() {
        for (teller, goes_on) in [(Teller::Client, false), (Teller::Trusted, true)] {
            let headers = next(&[("traceparent", GOOD)], teller, ClientTraces::Restart, 0.0);
            assert_eq!(text(&headers, "traceparent").contains(TRACE), goes_on, "{teller:?}");
        }
    }

    #[test]
    fn a_route_that_takes_the_header_away_or_sets_it_has_the_last_word() {
        let rules = Tracing { sample: 1.0, clients: ClientTraces::Keep, otlp: None };
        let step = Step::new(&HeaderMap::new(), Teller::Client, &rules, (1, 1)).unwrap();
        let taken = HeaderEdits { remove: vec![PARENT], ..HeaderEdits::default() };
        let set = vec![(PARENT, HeaderValue::from_static("mine"))];
        for before in [taken, HeaderEdits { set, ..HeaderEdits::default() }] {
            let mut edits = before.clone();
            assert!(!step.edit(&mut edits));
            assert_eq!(edits, before);
        }
    }
}
