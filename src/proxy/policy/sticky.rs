//! Sessions: what a request says of the place that served it before.

use super::RequestHead;
use crate::config::limits::AffinityBy;
use crate::domain::limit::affinity::{Affinity, Session, Token};
use crate::domain::name::RegionId;
use http::{HeaderMap, HeaderValue, header};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How sessions of a service are known.
#[derive(Debug, Clone)]
pub struct SessionRule {
    pub affinity: Affinity,
    pub by: AffinityBy,
}

/// A session's way through a request.
#[derive(Debug, Clone)]
pub struct Sticky {
    pub affinity: Affinity,
    /// `None`: it begins with this request.
    pub session: Option<Session>,
    cookie: Option<Cookie>,
    /// Tells sessions of one place apart: what they have in common is their client.
    client: u64,
}

/// The cookie that names the place.
#[derive(Debug, Clone)]
struct Cookie {
    name: String,
    max_age: Option<Duration>,
    secure: bool,
}

impl SessionRule {
    /// `client`: the address that the client has; `secure`: it came by TLS.
    pub fn of(&self, head: RequestHead<'_>, client: Option<IpAddr>, secure: bool) -> Sticky {
        let affinity = self.affinity;
        let by_client = || client.map(|address| Session::Key(affinity.key_of_client(address)));
        let (session, cookie) = match &self.by {
            AffinityBy::Client => (by_client(), None),
            AffinityBy::Header(name) => {
                let key = head.headers.get(name).map(|value| affinity.key_of(value.as_bytes()));
                (key.map(Session::Key), None)
            }
            AffinityBy::Cookie { name, max_age } => {
                let token = cookie(head.headers, name).and_then(Token::parse).map(Session::Token);
                (token, Some(Cookie { name: name.clone(), max_age: *max_age, secure }))
            }
        };
        let client = client.map_or(0, |address| affinity.key_of_client(address));
        Sticky { affinity, session, cookie, client }
    }
}

impl Sticky {
    /// A session that a place has served before.
    #[cfg(test)]
    pub const fn returning(affinity: Affinity, token: Token, client: u64) -> Self {
        Self { affinity, session: Some(Session::Token(token)), cookie: None, client }
    }

    /// What every draw of the session follows; `None`: each request draws anew.
    pub const fn draws(&self) -> Option<u64> {
        match self.session {
            Some(Session::Key(key)) => Some(key),
            Some(Session::Token(token)) => Some(token.number() ^ self.client),
            None => None,
        }
    }

    /// The cookie that an answer of this place brings; `None`: the client has it already.
    pub fn set_cookie(&self, region: &RegionId, endpoint: SocketAddr) -> Option<HeaderValue> {
        let Cookie { name, max_age, secure } = self.cookie.as_ref()?;
        let token = self.affinity.token(region, endpoint);
        if self.session == Some(Session::Token(token)) {
            return None;
        }
        let age = max_age.map(|age| format!("; Max-Age={}", age.as_secs())).unwrap_or_default();
        let secure = if *secure { "; Secure" } else { "" };
        HeaderValue::from_str(&format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax{secure}{age}")).ok()
    }
}

/// The value of a cookie (RFC 6265 section 5.4); of several the first.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let lines = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hash::HashKey;

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let headers = |lines: &[&'static str]| -> HeaderMap {
            lines.iter().map(|line| (header::COOKIE, HeaderValue::from_static(line))).collect()
        };
        for (lines, found) in [
            (&["a=1; place=x; b=2"][..], Some("x")),
            (&["place=x"], Some("x")),
            (&["a=1", "place=y"], Some("y")),
            (&["place=x; place=y"], Some("x")),
            (&["myplace=x"], None),
            (&["placebo=x"], None),
            (&["place"], None),
            (&[], None),
        ] {
            assert_eq!(cookie(&headers(lines), "place"), found.map(str::as_bytes), "{lines:?}");
        }
    }

    #[test]
    fn a_place_is_named_once_and_shows_no_address() {
        let affinity = Affinity::new(HashKey::new(1, 2), "web");
        let (home, address) = (RegionId::parse("home").unwrap(), "10.1.2.3:80".parse().unwrap());
        let cookie =
            Some(Cookie { name: "place".to_owned(), max_age: Some(Duration::from_secs(60)), secure: true });
        let first = Sticky { affinity, session: None, cookie: cookie.clone(), client: 0 };
        let set = first.set_cookie(&home, address).unwrap();
        let text = set.to_str().unwrap();
        assert!(
            text.starts_with("place=")
                && text.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=60"),
            "{text}"
        );
        assert!(!text.contains("10.1.2.3") && !text.contains("home"), "{text}");
        let token = Token::parse(&text.as_bytes()[6..38]).unwrap();
        let again = Sticky { affinity, session: Some(Session::Token(token)), cookie, client: 0 };
        assert_eq!(again.set_cookie(&home, address), None);
        assert!(again.set_cookie(&home, "10.1.2.4:80".parse().unwrap()).is_some(), "it has moved");
    }
}
