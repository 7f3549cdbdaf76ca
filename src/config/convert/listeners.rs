//! Where clients connect, and what each listener lets in.

use crate::config::file::{File, Key, ListenerSection, Section};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::units::Whole;
use crate::config::{Listener, ListenerLimits, Protocol, ProxyProtocol};
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

/// Names of the listeners that have sections of their own, in logs and `/snapshot`.
const RESERVED: [&str; 2] = ["admin", "peer"];

pub(super) fn listeners(file: &File, report: &mut Report) -> Vec<Listener> {
    let sections = file.listeners.as_deref().unwrap_or_default();
    if sections.is_empty() {
        let right = "[[listeners]] with name, address and protocol";
        report.missing_section("listeners", "no listener: nobody could connect", right);
    }
    let mut names: BTreeMap<String, Range<usize>> = BTreeMap::new();
    let mut listeners = Vec::new();
    for section in sections {
        let (span, listener) = (section.span(), section.get_ref());
        let name = report.required(&span, "name", &listener.name, "name = \"http\"");
        let address = report.required(&span, "address", &listener.address, "address = \"0.0.0.0:8080\"");
        let protocol = listener.protocol.as_ref().map_or(Protocol::Http, |p| p.value);
        if let Some(placed) = &listener.name
            && let Some(first) = names.insert(placed.value.0.clone(), placed.span.clone())
        {
            let wrong = format!("two listeners are named `{}`", placed.value.0);
            let problem = Problem::at(&placed.span, wrong).here("again here").also(&first, "first here");
            report.add(
                problem.right("expected a name of its own for each: logs and problems tell them apart by it"),
            );
        }
        if let Some(placed) = &listener.name
            && RESERVED.contains(&placed.value.0.as_str())
        {
            let wrong = format!("`{}` is the name of the listener of [{0}]", placed.value.0);
            let problem = Problem::at(&placed.span, wrong).here("taken");
            report.add(problem.right("expected another name, such as \"http\""));
        }
        if let (Protocol::Https, None, Some(placed)) = (protocol, &file.tls, &listener.protocol)
            && !report.damaged("tls")
        {
            let problem = Problem::at(&placed.span, "a listener speaks https but there is no [tls]");
            report.add(problem.here("needs a certificate").right("expected [tls] with certificate and key"));
        }
        let proxy_protocol = proxy_protocol(section, report);
        let limits = limits(listener, report);
        if let (Some(name), Some(address)) = (name, address) {
            listeners.push(Listener { name: name.0, address, protocol, proxy_protocol, limits });
        }
    }
    listeners
}

/// Whose PROXY headers are read: without networks that are trusted, anyone could be anyone.
fn proxy_protocol(section: &Section<ListenerSection>, report: &mut Report) -> Option<ProxyProtocol> {
    let listener = section.get_ref();
    let right = "expected a line such as trusted = [\"10.0.0.0/8\"]: the load balancers' networks";
    let asked = listener.proxy_protocol.as_ref().filter(|placed| placed.value);
    let Some(trusted) = &listener.trusted else {
        if let Some(asked) = asked
            && !report.damaged_at(&section.span(), "trusted")
        {
            let wrong = "`trusted` is missing: any client could claim to be another";
            report.add(Problem::at(&asked.span, wrong).here("needs it").right(right));
        }
        return None;
    };
    let Some(asked) = asked else {
        if !report.damaged_at(&section.span(), "proxy_protocol") {
            let wrong = "`trusted` without `proxy_protocol = true` has no effect";
            let problem = Problem::at(&trusted.span(), wrong).here("trusted for what?");
            report.add(problem.right("expected proxy_protocol = true beside it, or neither"));
        }
        return None;
    };
    let networks: Vec<_> = trusted.get_ref().iter().map(|placed| placed.value).collect();
    if networks.is_empty() {
        let problem = Problem::at(&trusted.span(), "`trusted` is empty: nobody could connect");
        report.add(problem.here("no network").also(&asked.span, "every connection needs one").right(right));
    }
    Some(ProxyProtocol { trusted: networks })
}

fn limits(listener: &ListenerSection, report: &mut Report) -> ListenerLimits {
    let default = ListenerLimits::default();
    let mut cap = |path: &str, key: &Key<Whole>| {
        // The default is the system's limit of descriptors.
        key.as_ref().map(|_| report.whole(path, key, 1..=10_000_000, 1))
    };
    let max_connections = cap("listeners.max_connections", &listener.max_connections);
    let max_connections_per_client =
        cap("listeners.max_connections_per_client", &listener.max_connections_per_client);
    let range: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
    let mut time = |path: &str, key: &Key<Duration>, default: Duration| {
        report.duration(path, key, range.clone(), default)
    };
    ListenerLimits {
        max_connections,
        max_connections_per_client,
        head_timeout: time("listeners.head_timeout", &listener.head_timeout, default.head_timeout),
        idle_timeout: time("listeners.idle_timeout", &listener.idle_timeout, default.idle_timeout),
        handshake_timeout: time(
            "listeners.handshake_timeout",
            &listener.handshake_timeout,
            default.handshake_timeout,
        ),
    }
}
