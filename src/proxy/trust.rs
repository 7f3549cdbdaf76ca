//! Who the client is, where proxies stand before this edge.
//!
//! What a connection says is true. What its headers say is believed as far back
//! as trusted networks go: each of them vouches for the one before it. Pure.

use crate::config::TrustedProxies;
use crate::proxy::headers::Scheme;
use http::{HeaderMap, HeaderValue};
use std::net::IpAddr;

/// The client, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// `None`: it came by a Unix socket, and nobody who is trusted has said whose request it is.
    pub address: Option<IpAddr>,
    /// How it came to the outermost proxy that is trusted.
    pub scheme: Scheme,
    /// `X-Forwarded-For` with this hop's word at its end; `None`: the address alone.
    pub forwarded_for: Option<String>,
}

/// The client of a request that came from `remote`; `None`: by a Unix socket.
///
/// Lines of `X-Forwarded-For` are read from the right: the first address that is not trusted is
/// the client's, and what stands left of it is anybody's word. `X-Forwarded-Proto` is the word of
/// the proxy next to this edge. One behind a Unix socket has no address to add to the list.
pub fn client(
    remote: Option<IpAddr>,
    scheme: Scheme,
    headers: &HeaderMap,
    trusted: &TrustedProxies,
) -> Client {
    let remote = remote.map(|address| address.to_canonical());
    if !trusted.contains(remote) {
        return Client { address: remote, scheme, forwarded_for: None };
    }
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).collect();
    let mut address = remote;
    for word in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        match word.trim().parse::<IpAddr>() {
            Ok(before) if trusted.contains(address) => address = Some(before.to_canonical()),
            // Whoever wrote this is the last one who is known.
            Ok(_) | Err(_) => break,
        }
    }
    let told = match headers.get("x-forwarded-proto").map(HeaderValue::as_bytes) {
        Some(b"https") => Scheme::Https,
        Some(b"http") => Scheme::Http,
        _ => scheme,
    };
    let list = (!lines.is_empty()).then(|| lines.join(", "));
    let forwarded_for = list.map(|list| match remote {
        Some(remote) => format!("{list}, {remote}"),
        None => list,
    });
    Client { address, scheme: told, forwarded_for }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(unix: bool) -> TrustedProxies {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].iter().map(|text| text.parse().unwrap()).collect();
        TrustedProxies { networks, unix }
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    fn ask(remote: &str, lines: &[(&'static str, &'static str)]) -> Client {
        let remote = Some(remote.parse().unwrap());
        client(remote, Scheme::Http, &headers(lines), &trusted(false))
    }

    #[test]
    fn a_neighbour_behind_a_unix_socket_is_believed_only_where_it_is_said() {
        let claims = [("x-forwarded-for", "1.2.3.4, 192.0.2.1, 10.0.0.2"), ("x-forwarded-proto", "https")];
        let by_socket = |unix| client(None, Scheme::Http, &headers(&claims), &trusted(unix));
        assert_eq!(by_socket(false), Client { address: None, scheme: Scheme::Http, forwarded_for: None });
        let believed = by_socket(true);
        assert_eq!(believed.address, Some("192.0.2.1".parse().unwrap()), "the rest is the client's own word");
        assert_eq!(believed.scheme, Scheme::Https);
        assert_eq!(believed.forwarded_for.as_deref(), Some("1.2.3.4, 192.0.2.1, 10.0.0.2"));
        let silent = client(None, Scheme::Http, &HeaderMap::new(), &trusted(true));
        assert_eq!(silent, Client { address: None, scheme: Scheme::Http, forwarded_for: None });
    }

    #[test]
    fn a_stranger_s_words_are_not_heard() {
        let claims = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")];
        let address = Some("203.0.113.5".parse().unwrap());
        assert_eq!(
            ask("203.0.113.5", &claims),
            Client { address, scheme: Scheme::Http, forwarded_for: None }
        );
    }

    #[test]
    fn trusted_proxies_vouch_for_the_one_before_them_and_no_further() {
        for (remote, line, expected) in [
            ("10.0.0.1", "192.0.2.1", "192.0.2.1"),
            ("::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"),
            ("10.0.0.1", "192.0.2.1, 10.0.0.2", "192.0.2.1"),
            // The client itself wrote the first one.
            ("10.0.0.1", "1.2.3.4, 192.0.2.1", "192.0.2.1"),
            ("10.0.0.1", "1.2.3.4, 192.0.2.1, 2001:db8::1", "192.0.2.1"),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1", "192.0.2.1, unknown", "10.0.0.1"),
            ("10.0.0.1", "192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "", "10.0.0.1"),
        ] {
            let client = ask(remote, &[("x-forwarded-for", line)]);
            assert_eq!(client.address, Some(expected.parse::<IpAddr>().unwrap()), "{remote}: {line}");
            assert_eq!(client.forwarded_for.unwrap(), format!("{line}, 10.0.0.1"));
        }
        let two = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
        ];
        let client = ask("10.0.0.1", &two);
        assert_eq!((client.address, client.scheme), (Some("192.0.2.1".parse().unwrap()), Scheme::Https));
        assert_eq!(client.forwarded_for.as_deref(), Some("192.0.2.1, 10.0.0.2, 10.0.0.1"));
    }
}
