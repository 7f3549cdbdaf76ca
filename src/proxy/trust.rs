//! Who the client is, where proxies stand before this edge.
//!
//! What a connection says is true. What its headers say is believed as far back
//! as trusted networks go: each of them vouches for the one before it. Pure.

use crate::config::TrustedProxies;
use crate::proxy::headers::Scheme;
use http::{HeaderMap, HeaderValue};
use std::net::{IpAddr, SocketAddr};

/// Of whom nothing is known. Source: RFC 7239 section 6.2.
const UNKNOWN: &str = "unknown";

/// The client, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// `None`: it came by a Unix socket, or nobody who is trusted has said whose request it is.
    pub address: Option<IpAddr>,
    /// How it came to the outermost proxy that is trusted.
    pub scheme: Scheme,
    /// `X-Forwarded-For` with this hop's word at its end; `None`: the address alone.
    pub forwarded_for: Option<String>,
}

/// The client of a request that came from `remote`; `None`: by a Unix socket.
///
/// Lines of `X-Forwarded-For` are read from the right: the first address that is not trusted is
/// the client's, and what stands left of it is anybody's word. A word that is no address, where a
/// trusted proxy should have named the one before it, makes the client unknown: it must not pass
/// for the proxy itself. `X-Forwarded-Proto` is the word of the proxy next to this edge, the last
/// one. A proxy behind a Unix socket has no address to add to the list.
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
    let words: Vec<&[u8]> = words(headers).collect();
    let mut address = remote;
    for word in words.iter().rev() {
        if !trusted.contains(address) {
            break;
        }
        address = node(word);
        if address.is_none() {
            break;
        }
    }
    let told = match headers.get_all("x-forwarded-proto").iter().next_back().map(last_word) {
        Some(b"https") => Scheme::Https,
        Some(b"http") => Scheme::Http,
        _ => scheme,
    };
    let forwarded_for = (!words.is_empty()).then(|| list(&words, remote));
    Client { address, scheme: told, forwarded_for }
}

/// The words of all lines of `X-Forwarded-For`, empty ones left out (RFC 9110 section 5.6.1).
fn words(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes);
    let words = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    words.filter(|word| !word.is_empty())
}

fn last_word(line: &HeaderValue) -> &[u8] {
    line.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()
}

/// An address, with or without a port, as proxies write it; `None`: it names nobody.
fn node(word: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(word).ok()?;
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text.parse().ok().or_else(bare);
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// The words as they go on, and this hop's; what no header of ours may say is nobody's name.
fn list(words: &[&[u8]], remote: Option<IpAddr>) -> String {
    let shown = |word: &&[u8]| match std::str::from_utf8(word) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') => text.to_owned(),
        _ => UNKNOWN.to_owned(),
    };
    let mut list: Vec<String> = words.iter().map(shown).collect();
    list.extend(remote.map(|remote| remote.to_string()));
    list.join(", ")
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
            ("10.0.0.1", "192.0.2.1:51234", "192.0.2.1"),
            ("10.0.0.1", "[2001:db9::7]:443, 10.0.0.2:80", "2001:db9::7"),
            ("10.0.0.1", "[2001:db9::7]", "2001:db9::7"),
            // Where a proxy names nobody, the client is nobody: not the proxy.
            ("10.0.0.1", "192.0.2.1, unknown", ""),
            ("10.0.0.1", "192.0.2.1, unknown, 10.0.0.2", ""),
            ("10.0.0.1", "1.2.3.4, _hidden, 192.0.2.1", "192.0.2.1"),
        ] {
            let client = ask(remote, &[("x-forwarded-for", line)]);
            assert_eq!(client.address, expected.parse::<IpAddr>().ok(), "{remote}: {line}");
            assert_eq!(client.forwarded_for.unwrap(), format!("{line}, 10.0.0.1"));
        }
        let none = ask("10.0.0.1", &[("x-forwarded-for", "")]);
        assert_eq!((none.address, none.forwarded_for), (Some("10.0.0.1".parse().unwrap()), None));
        let mut odd = HeaderMap::new();
        odd.append("x-forwarded-for", HeaderValue::from_bytes(b"\xe4, 203.0.113.7").unwrap());
        odd.append("x-forwarded-proto", HeaderValue::from_static("http"));
        odd.append("x-forwarded-proto", HeaderValue::from_static("http, https"));
        let told = client(Some("10.0.0.1".parse().unwrap()), Scheme::Http, &odd, &trusted(false));
        assert_eq!(told.address, Some("203.0.113.7".parse().unwrap()), "one odd word spoils none beside it");
        assert_eq!(told.forwarded_for.as_deref(), Some("unknown, 203.0.113.7, 10.0.0.1"));
        assert_eq!(told.scheme, Scheme::Https, "the last word is the nearest proxy's");
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
