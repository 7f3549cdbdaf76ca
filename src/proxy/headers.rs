//! Header rules between clients, edges and services, as data.
//!
//! Decides which headers a request loses and gains on its way in, which ones an
//! answer loses on its way out, and what a request id may look like. Knows no
//! connection and no transport; framing headers stay the transport's business.
//! Sources: RFC 9110 section 7.6.1 (hop-by-hop), RFC 7239 (`Forwarded`).

use crate::domain::limit::concurrency::Priority;
use crate::domain::name::{RegionId, ServiceId};
use crate::domain::routing::{FieldName, FieldValue, HeaderChanges};
use crate::peer;
use http::header::{FORWARDED, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use std::net::IpAddr;

pub use crate::domain::routing::Scheme;

/// Names the request in logs of every hop and in the answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Why a peer refused, as a header name.
pub const REFUSED: HeaderName = HeaderName::from_static(peer::REFUSED);
/// Asks why a request went where it went, and answers it, as a header name.
pub const EXPLAIN: HeaderName = HeaderName::from_static(peer::EXPLAIN);
const FORWARDED_BY: HeaderName = HeaderName::from_static(peer::FORWARDED_BY);
const SERVICE: HeaderName = HeaderName::from_static(peer::SERVICE);
const PRIORITY: HeaderName = HeaderName::from_static(peer::PRIORITY);
const CLIENT: HeaderName = HeaderName::from_static(peer::CLIENT);

const REQUEST_ID_BYTES_MAX: usize = 128;
/// How this hop signs `Via`.
const VIA_NAME: &str = "proxima";

/// Removals first, then replacements, then additions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    pub remove: Vec<HeaderName>,
    /// Each replaces every value of its name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Each is a line of its own, besides those that are there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderEdits {
    /// The changes of a route, which come after those that are here and win over them.
    pub fn then(&mut self, changes: &HeaderChanges) {
        for name in &changes.remove {
            if let Ok(name) = HeaderName::from_bytes(name.as_str().as_bytes()) {
                self.set.retain(|(known, _)| *known != name);
                self.remove.push(name);
            }
        }
        for (name, value) in changes.set.iter().filter_map(line) {
            self.set.retain(|(known, _)| *known != name);
            self.set.push((name, value));
        }
        self.add.extend(changes.add.iter().filter_map(line));
    }

    /// Used up by it: nothing is copied.
    pub fn apply(self, headers: &mut HeaderMap) {
        for name in self.remove {
            headers.remove(name);
        }
        for (name, value) in self.set {
            headers.insert(name, value);
        }
        for (name, value) in self.add {
            headers.append(name, value);
        }
    }

    fn set(&mut self, name: HeaderName, value: &str) {
        // A value that no header may hold is left out: better no claim than a mangled one.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.set.push((name, value));
        }
    }
}

/// Both are right by construction: nothing is lost here.
fn line((name, value): &(FieldName, FieldValue)) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
    Some((name, HeaderValue::from_str(value.as_str()).ok()?))
}

/// What the connection says of the client, for the headers that tell services of it.
#[derive(Debug, Clone, Copy)]
pub struct ClientFacts<'a> {
    /// `None`: it came by a Unix socket.
    pub address: Option<IpAddr>,
    pub scheme: Scheme,
    /// As the client wrote it, with the port.
    pub authority: &'a str,
    /// The words of trusted proxies, and this hop's; `None`: the address alone.
    pub forwarded_for: Option<&'a str>,
}

/// The client's request id if it is sane, else one made of `random`.
///
/// Sane: a single value of 1 to 128 letters, digits and `-_.:+/=@`, so that it
/// can stand in any log or header without quoting.
pub fn request_id(headers: &HeaderMap, random: u128) -> HeaderValue {
    let mut values = headers.get_all(REQUEST_ID).iter();
    let given = values.next().filter(|_| values.next().is_none());
    let safe = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:+/=@".contains(b);
    match given {
        Some(id) if (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(safe) => {
            id.clone()
        }
        _ => HeaderValue::from_str(&format!("{random:032x}")).unwrap_or(HeaderValue::from_static("-")),
    }
}

/// The edits to a request on its way to a service, here or in another region.
///
/// From a client (`Some`): whatever it claims about forwarding is dropped and
/// said anew from the connection, and from what trusted proxies said of it. From a peer
/// (`None`): the first edge's words are believed and kept.
pub fn request_edits(
    headers: &HeaderMap,
    client: Option<ClientFacts<'_>>,
    version: Version,
    id: &HeaderValue,
) -> HeaderEdits {
    // Those below.
    let mut edits = HeaderEdits { set: Vec::with_capacity(6), ..HeaderEdits::default() };
    for name in headers.keys() {
        let text = name.as_str();
        let claim = client.is_some()
            && (text.starts_with("x-forwarded-") || text == "x-real-ip" || *name == FORWARDED);
        if claim || text.starts_with(peer::INTERNAL_PREFIX) {
            edits.remove.push(name.clone());
        }
    }
    if let Some(ClientFacts { address, scheme, authority, forwarded_for }) = client {
        // Listeners on `[::]` see IPv4 clients as mapped addresses.
        let address = address.map(|address| address.to_canonical());
        let scheme = scheme.as_str();
        match (forwarded_for, address) {
            (Some(list), _) => edits.set(FORWARDED_FOR, list),
            (None, Some(address)) => edits.set(FORWARDED_FOR, &address.to_string()),
            // Nobody knows it, and no address may be made up.
            (None, None) => {}
        }
        edits.set(FORWARDED_PROTO, scheme);
        edits.set(FORWARDED_HOST, authority);
        edits.set(FORWARDED, &forwarded(address, scheme, authority));
    }
    edits.set(VIA, &via(headers, version));
    edits.set.push((REQUEST_ID, id.clone()));
    edits
}

/// What the first edge tells the region that serves a request for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    pub by: RegionId,
    pub service: ServiceId,
    pub priority: Priority,
    pub client: Option<IpAddr>,
}

impl Handover {
    /// The edits that make a request a forwarded one, after those of [`request_edits`].
    pub fn edits(&self) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        edits.set(FORWARDED_BY, self.by.as_str());
        edits.set(SERVICE, self.service.as_str());
        edits.set(PRIORITY, self.priority.as_str());
        if let Some(client) = self.client {
            edits.set(CLIENT, &client.to_canonical().to_string());
        }
        edits
    }

    /// What a request says of its way here; believed on the peer listener only. `None`: it is no
    /// forwarded one. An edge of another version may say less: then it is like any other request.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        Some(Self {
            by: RegionId::parse(text(headers, &FORWARDED_BY)?).ok()?,
            service: ServiceId::parse(text(headers, &SERVICE)?).ok()?,
            priority: text(headers, &PRIORITY).and_then(Priority::parse).unwrap_or_default(),
            client: text(headers, &CLIENT).and_then(|client| client.parse().ok()),
        })
    }
}

/// Whether the client of a forwarded request came by TLS, by the first edge's word.
pub fn came_by_tls(headers: &HeaderMap) -> bool {
    text(headers, &FORWARDED_PROTO) == Some(Scheme::Https.as_str())
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Takes away what an answer may not say to whoever asked: words between edges, and a challenge
/// that is meant for this hop (RFC 9110 section 11.7.1). What concerns a connection is not here
/// any more: no session lets it through.
pub fn strip_answer(headers: &mut HeaderMap) {
    let inner = |name: &HeaderName| {
        name.as_str().starts_with(peer::INTERNAL_PREFIX) || *name == http::header::PROXY_AUTHENTICATE
    };
    while let Some(name) = headers.keys().find(|name| inner(name)).cloned() {
        headers.remove(name);
    }
}

/// RFC 7239: IPv6 in brackets and quoted; the host quoted, since it may hold a colon.
fn forwarded(address: Option<IpAddr>, scheme: &str, authority: &str) -> String {
    let node = match address {
        Some(IpAddr::V4(v4)) => v4.to_string(),
        Some(IpAddr::V6(v6)) => format!("\"[{v6}]\""),
        None => "unknown".to_owned(),
    };
    let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    if authority.is_empty() || !authority.chars().all(plain) {
        return format!("for={node};proto={scheme}");
    }
    format!("for={node};proto={scheme};host=\"{authority}\"")
}

fn via(headers: &HeaderMap, version: Version) -> String {
    let received = match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    let mut via = String::new();
    for before in headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok()) {
        via.push_str(before);
        via.push_str(", ");
    }
    via.push_str(received);
    via.push(' ');
    via.push_str(VIA_NAME);
    via
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in of {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn set<'a>(edits: &'a HeaderEdits, name: &str) -> Option<&'a str> {
        edits.set.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_str().unwrap())
    }

    fn client(address: &str) -> Option<ClientFacts<'static>> {
        let address = Some(address.parse().unwrap());
        Some(ClientFacts {
            address,
            scheme: Scheme::Https,
            authority: "www.example.com:8443",
            forwarded_for: None,
        })
    }

    #[test]
    fn a_sane_request_id_is_kept_and_any_other_replaced() {
        let long = "a".repeat(129);
        for (given, kept) in [
            ("abc-123_x.y:z+/=@", true),
            ("semi;colon", false),
            ("", false),
            ("two words", false),
            ("quo\"te", false),
            ("a".repeat(128).as_str(), true),
            (long.as_str(), false),
        ] {
            let id = request_id(&headers(&[("x-request-id", given)]), 7);
            assert_eq!(id == given, kept, "{given:?}");
            assert!(kept || id == "00000000000000000000000000000007", "{given:?}");
        }
        let two = headers(&[("x-request-id", "one"), ("x-request-id", "two")]);
        assert_eq!(request_id(&two, 1).len(), 32, "two ids are none");
    }

    #[test]
    fn what_a_client_claims_is_said_anew_from_the_connection() {
        let claims = headers(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-proxima-forwarded-by", "home"),
            ("accept", "*/*"),
        ]);
        let id = HeaderValue::from_static("id");
        let edits = request_edits(&claims, client("::ffff:192.0.2.7"), Version::HTTP_2, &id);
        let mut removed: Vec<_> = edits.remove.iter().map(HeaderName::as_str).collect();
        removed.sort_unstable();
        assert_eq!(
            removed,
            ["forwarded", "x-forwarded-for", "x-forwarded-port", "x-proxima-forwarded-by", "x-real-ip"]
        );
        assert_eq!(set(&edits, "x-forwarded-for"), Some("192.0.2.7"));
        assert_eq!(set(&edits, "x-forwarded-proto"), Some("https"));
        assert_eq!(set(&edits, "x-forwarded-host"), Some("www.example.com:8443"));
        let forwarded = "for=192.0.2.7;proto=https;host=\"www.example.com:8443\"";
        assert_eq!(set(&edits, "forwarded"), Some(forwarded));
        assert_eq!(set(&edits, "via"), Some("2 proxima"));
        assert_eq!(set(&edits, "x-request-id"), Some("id"));
        let unknown = client("::1").map(|client| ClientFacts { address: None, ..client });
        let edits = request_edits(&claims, unknown, Version::HTTP_2, &id);
        assert_eq!(set(&edits, "x-forwarded-for"), None, "no address is made up");
        assert_eq!(edits.remove.len(), 5);
        let forwarded = "for=unknown;proto=https;host=\"www.example.com:8443\"";
        assert_eq!(set(&edits, "forwarded"), Some(forwarded));
    }

    #[test]
    fn what_a_peer_says_is_kept_but_internal_headers_end_there() {
        let from_peer = headers(&[
            ("x-forwarded-for", "192.0.2.7"),
            ("forwarded", "for=192.0.2.7"),
            ("x-proxima-service", "web"),
            ("via", "1.1 proxima"),
        ]);
        let edits = request_edits(&from_peer, None, Version::HTTP_2, &HeaderValue::from_static("id"));
        assert_eq!(edits.remove, [HeaderName::from_static("x-proxima-service")]);
        assert_eq!(set(&edits, "x-forwarded-for"), None);
        assert_eq!(set(&edits, "via"), Some("1.1 proxima, 2 proxima"));
    }

    #[test]
    fn an_ipv6_client_is_quoted_and_an_unquotable_host_left_out() {
        let edits = request_edits(
            &HeaderMap::new(),
            client("2001:db8::1"),
            Version::HTTP_11,
            &HeaderValue::from_static("i"),
        );
        let expected = "for=\"[2001:db8::1]\";proto=https;host=\"www.example.com:8443\"";
        assert_eq!(set(&edits, "forwarded"), Some(expected));
        assert_eq!(forwarded(Some([192, 0, 2, 1].into()), "http", "a\"b"), "for=192.0.2.1;proto=http");
    }

    #[test]
    fn a_route_has_the_last_word_on_what_it_may_name() {
        let name = |text: &str| FieldName::parse(text).unwrap();
        let value = |text: &str| FieldValue::parse(text).unwrap();
        let id = HeaderValue::from_static("id");
        let mut edits = request_edits(&HeaderMap::new(), client("192.0.2.7"), Version::HTTP_11, &id);
        edits.then(&HeaderChanges {
            remove: vec![name("via"), name("cookie")],
            set: vec![(name("X-Forwarded-Proto"), value("http")), (name("x-a"), value("2"))],
            add: vec![(name("x-a"), value("3"))],
        });
        let mut map = headers(&[("cookie", "c"), ("x-a", "0"), ("x-a", "1")]);
        edits.apply(&mut map);
        let all = |name: &str| map.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((all("via"), all("cookie")), (vec![], vec![]));
        assert_eq!((all("x-forwarded-proto"), all("x-a")), (vec!["http"], vec!["2", "3"]));
        assert_eq!(all("x-forwarded-for"), ["192.0.2.7"]);
        let internal = [peer::FORWARDED_BY, peer::SERVICE, peer::PRIORITY, peer::CLIENT, peer::REFUSED];
        for ours in internal {
            assert_eq!(FieldName::parse(ours), None, "{ours} is no route's to change");
        }
    }

    #[test]
    fn an_answer_loses_internal_headers_and_keeps_the_others() {
        let mut answer = headers(&[
            ("x-proxima-refused", "no_room"),
            ("proxy-authenticate", "Basic"),
            ("content-type", "text/plain"),
        ]);
        strip_answer(&mut answer);
        assert_eq!(answer.keys().collect::<Vec<_>>(), ["content-type"]);
    }

    #[test]
    fn a_forwarded_request_names_a_region_and_a_service_and_may_say_more() {
        let told = Handover {
            by: RegionId::parse("home").unwrap(),
            service: ServiceId::parse("web").unwrap(),
            priority: Priority::Critical,
            client: Some([192, 0, 2, 7].into()),
        };
        let mut map = HeaderMap::new();
        map.extend(told.edits().set);
        assert_eq!(Handover::read(&map), Some(told.clone()));
        for (name, damaged) in [("x-proxima-priority", "royal"), ("x-proxima-client", "192.0.2.7, 10.0.0.1")]
        {
            map.insert(name, HeaderValue::from_static(damaged));
        }
        let least = Handover { priority: Priority::Normal, client: None, ..told };
        assert_eq!(Handover::read(&map), Some(least));
        map.remove("x-proxima-service");
        assert_eq!(Handover::read(&map), None);
    }
}
