//! Where clients connect, and what each listener lets in.

use crate::config::file::{File, Key, ListenerSection, Section};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::units::{Bytes, Whole};
use crate::config::{HttpsRedirect, ListenAddress, Listener, ListenerLimits, Protocol, ProxyProtocol};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

/// Names of the listeners that have sections of their own, in logs and `/snapshot`.
const RESERVED: [&str; 2] = ["admin", "peer"];
/// Bytes that a head, and a target in it, may be allowed: more of a target no request can be made of.
const HEAD_MAX: u64 = 1024 * 1024;
const URI_MAX: u64 = 60 * 1024;
/// Of `https`, which a URL need not say.
const HTTPS_PORT: u32 = 443;

pub(super) fn listeners(file: &File, folder: &Path, report: &mut Report) -> Vec<Listener> {
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
        let address = address(section, folder, report);
        let protocol = listener.protocol.as_ref().map_or(Protocol::Http, |p| p.value);
        named(listener, &mut names, report);
        if let (Protocol::Https, None, Some(placed)) = (protocol, &file.tls, &listener.protocol)
            && !report.damaged("tls")
        {
            let problem = Problem::at(&placed.span, "a listener speaks https but there is no [tls]");
            report.add(problem.here("needs a certificate").right("expected [tls] with certificate and key"));
        }
        let https_redirect = https_redirect(section, protocol, report);
        let proxy_protocol = proxy_protocol(section, report);
        let limits = limits(listener, report);
        if let (Some(name), Some(address)) = (name, address) {
            let name = name.0;
            listeners.push(Listener { name, address, protocol, proxy_protocol, limits, https_redirect });
        }
    }
    listeners
}

/// Logs and problems tell listeners apart by their names.
fn named(listener: &ListenerSection, names: &mut BTreeMap<String, Range<usize>>, report: &mut Report) {
    let Some(placed) = &listener.name else { return };
    let name = &placed.value.0;
    if let Some(first) = names.insert(name.clone(), placed.span.clone()) {
        let problem = Problem::at(&placed.span, format!("two listeners are named `{name}`"));
        let problem = problem.here("again here").also(&first, "first here");
        report.add(
            problem.right("expected a name of its own for each: logs and problems tell them apart by it"),
        );
    }
    if RESERVED.contains(&name.as_str()) {
        let problem = Problem::at(&placed.span, format!("`{name}` is the name of the listener of [{name}]"));
        report.add(problem.here("taken").right("expected another name, such as \"http\""));
    }
}

/// Whether a listener's address is the path of a socket.
fn is_unix(listener: &ListenerSection) -> bool {
    listener.address.as_ref().is_some_and(|placed| matches!(placed.value, ListenAddress::Unix(_)))
}

fn address(section: &Section<ListenerSection>, folder: &Path, report: &mut Report) -> Option<ListenAddress> {
    let listener = section.get_ref();
    let stated = report.required(&section.span(), "address", &listener.address, "address = \"0.0.0.0:8080\"");
    if let (Some(mode), false, true) = (&listener.mode, is_unix(listener), stated.is_some()) {
        let problem = Problem::at(&mode.span, "`mode` has no effect: a port has no permissions");
        let right =
            "expected it beside the path of a socket, such as address = \"unix:/run/proxima/edge.sock\"";
        report.add(problem.here("of what?").right(right));
    }
    if let (Some(max), true) = (&listener.max_connections_per_client, is_unix(listener))
        && listener.proxy_protocol.is_none()
        && !report.damaged_inside(&section.span())
    {
        let wrong =
            "`max_connections_per_client` has no effect: a Unix socket does not tell its clients apart";
        let right = "expected proxy_protocol = true beside it, or max_connections alone";
        report.add(Problem::at(&max.span, wrong).here("of whom?").right(right));
    }
    let address = stated?.within(folder, listener.mode.as_ref().map(|placed| placed.value.0));
    if let Some(placed) = listener.address.as_ref().filter(|_| address.is_too_long()) {
        let problem = Problem::at(&placed.span, "the path of the socket is too long for the system");
        let right = "expected at most 107 bytes, the folder of this file included where it is relative";
        report.add(problem.here("too long").right(right));
    }
    Some(address)
}

fn https_redirect(
    section: &Section<ListenerSection>,
    protocol: Protocol,
    report: &mut Report,
) -> Option<HttpsRedirect> {
    let listener = section.get_ref();
    let asked = listener.https_redirect.as_ref().filter(|placed| placed.value);
    if let Some(placed) = asked.filter(|_| protocol == Protocol::Https) {
        let problem =
            Problem::at(&placed.span, "`https_redirect` has no effect: whoever connects here has TLS");
        report.add(
            problem.here("from https to https?").right("expected it at a listener with protocol = \"http\""),
        );
    }
    if let (Some(placed), None) = (&listener.https_port, asked)
        && !report.damaged_at(&section.span(), "https_redirect")
    {
        let problem = Problem::at(&placed.span, "`https_port` without `https_redirect = true` has no effect");
        report.add(problem.here("where to?").right("expected https_redirect = true beside it, or neither"));
    }
    let port = report.whole("listeners.https_port", &listener.https_port, 1..=65_535, HTTPS_PORT);
    asked.map(|_| HttpsRedirect { port: u16::try_from(port).unwrap_or(u16::MAX) })
}

/// Whose PROXY headers are read: without networks that are trusted, anyone could be anyone.
fn proxy_protocol(section: &Section<ListenerSection>, report: &mut Report) -> Option<ProxyProtocol> {
    let listener = section.get_ref();
    let right = "expected a line such as trusted = [\"10.0.0.0/8\"]: the load balancers' networks";
    let asked = listener.proxy_protocol.as_ref().filter(|placed| placed.value);
    if is_unix(listener) {
        if let Some(trusted) = &listener.trusted {
            let wrong = "`trusted` has no effect: whoever may open a Unix socket is trusted";
            let problem = Problem::at(&trusted.span(), wrong).here("no addresses there");
            report.add(problem.right("expected `mode`, which says who may open it"));
        }
        return asked.map(|_| ProxyProtocol { trusted: Vec::new() });
    }
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
    let head_timeout = time("listeners.head_timeout", &listener.head_timeout, default.head_timeout);
    let idle_timeout = time("listeners.idle_timeout", &listener.idle_timeout, default.idle_timeout);
    let client_timeout = time("listeners.client_timeout", &listener.client_timeout, default.client_timeout);
    let handshake_timeout =
        time("listeners.handshake_timeout", &listener.handshake_timeout, default.handshake_timeout);
    let (max_head, max_uri) = head(listener, &default, report);
    ListenerLimits {
        max_connections,
        max_connections_per_client,
        head_timeout,
        idle_timeout,
        handshake_timeout,
        client_timeout,
        min_rate: min_rate(&listener.min_rate, &default, report),
        max_head,
        max_uri,
        max_headers: report.whole(
            "listeners.max_headers",
            &listener.max_headers,
            10..=1000,
            u32::try_from(default.max_headers).unwrap_or(u32::MAX),
        ) as usize,
        max_body: listener.max_body.as_ref().map(|placed| placed.value.0),
        max_streams: report.whole(
            "listeners.max_streams",
            &listener.max_streams,
            1..=10_000,
            default.max_streams,
        ),
    }
}

/// Bounds on a whole head, and on the target within it.
fn head(listener: &ListenerSection, default: &ListenerLimits, report: &mut Report) -> (usize, usize) {
    let mut bytes = |path: &str, key: &Key<Bytes>, most: u64, default: usize| {
        let bytes = report.bytes(path, key, 1024..=most, default as u64);
        usize::try_from(bytes).unwrap_or(default)
    };
    let max_head = bytes("listeners.max_head", &listener.max_head, HEAD_MAX, default.max_head);
    let max_uri = bytes("listeners.max_uri", &listener.max_uri, URI_MAX, default.max_uri.min(max_head));
    if let Some(placed) = listener.max_uri.as_ref().filter(|_| max_uri > max_head) {
        let problem = Problem::at(&placed.span, "`listeners.max_uri` is more than a whole head may be");
        report.add(problem.here("never reached").right("expected at most `max_head`"));
    }
    (max_head, max_uri)
}

/// `0B` switches it off.
fn min_rate(key: &Key<Bytes>, default: &ListenerLimits, report: &mut Report) -> Option<NonZeroU64> {
    if key.is_none() {
        return default.min_rate;
    }
    NonZeroU64::new(report.bytes("listeners.min_rate", key, 0..=1024 * 1024, 0))
}
