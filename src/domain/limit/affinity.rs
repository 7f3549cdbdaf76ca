//! Where a session stays: a region and an endpoint, as long as they serve.
//!
//! Two ways. A *cookie* names the place that served the session before, so it
//! also survives other endpoints' coming and going. A *key* (a header's value or the client's
//! address) needs nothing from the client: rendezvous hashing gives each key an order of
//! the endpoints, so that only the keys of an endpoint that leaves are moved, evenly over
//! all others. Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998).
//!
//! What the cookie says is a keyed hash of region and address: it shows nobody
//! the addresses inside, and nobody can write one for a place of their choice. All
//! edges must share the secret, or a session moves whenever its user meets another one.
//!
//! Only what a snapshot offers is chosen from: health is decided elsewhere.

use crate::domain::endpoint::Endpoint;
use crate::domain::hash::{HashKey, siphash};
use crate::domain::name::RegionId;
use crate::domain::snapshot::{Candidates, Place};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The place of a session, as its cookie carries it: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    region: u64,
    endpoint: u64,
}

impl Token {
    /// Reads a cookie's value; `None` when it is not one that [`Display`](fmt::Display) wrote.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        if text.len() != 32 || !text.iter().all(digits) {
            return None;
        }
        let (region, endpoint) = std::str::from_utf8(text).ok()?.split_at(16);
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Self { region: number(region)?, endpoint: number(endpoint)? })
    }
}

impl Token {
    /// A number that the session keeps, as even as a hash.
    pub const fn number(self) -> u64 {
        self.region ^ self.endpoint
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.region, self.endpoint)
    }
}

/// What a request brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// The place that served it before.
    Token(Token),
    /// Equal for all requests of a session: [`Affinity::key_of`].
    Key(u64),
}

/// Where a request of a session goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preferred {
    /// Index of the candidate.
    pub candidate: usize,
    /// Index of the endpoint there. `None`: any, as of a region that chooses for itself.
    pub endpoint: Option<usize>,
}

/// The hashes of one service's sessions.
#[derive(Debug, Clone, Copy)]
pub struct Affinity {
    places: HashKey,
    regions: HashKey,
    keys: HashKey,
    rendezvous: u64,
}

impl Affinity {
    /// `secret`: the same on all edges; `service` keeps two services' cookies apart.
    pub fn new(secret: HashKey, service: &str) -> Self {
        let secret = secret.derive(service);
        Self {
            places: secret.derive("places"),
            regions: secret.derive("regions"),
            keys: secret.derive("keys"),
            rendezvous: siphash(secret, b"rendezvous"),
        }
    }

    /// The cookie of a session that this place serves.
    pub fn token(&self, region: &RegionId, endpoint: SocketAddr) -> Token {
        Token { region: self.region(region), endpoint: Self::score(self.places, endpoint) }
    }

    /// The key of a header's value.
    pub fn key_of(&self, value: &[u8]) -> u64 {
        siphash(self.keys, value)
    }

    /// The key of a client's address. An IPv6 client counts by its /64, within which it may change.
    pub fn key_of_client(&self, address: IpAddr) -> u64 {
        match address.to_canonical() {
            IpAddr::V4(v4) => siphash(self.keys, &v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                siphash(self.keys, &[a, b, c, d, e, f, g, h])
            }
        }
    }

    /// Where the session goes first, of the candidates that serve; `None`: wherever any request would.
    ///
    /// A cookie leads to its region, and in the own one to its endpoint. If that is gone the
    /// session moves to the one that rendezvous hashing gives it, and all its requests to the same.
    /// A key goes to the nearest candidate, like any request, and to its endpoint there.
    pub fn prefer(&self, session: Session, candidates: &Candidates) -> Option<Preferred> {
        let (index, candidate) = match session {
            Session::Token(token) => {
                candidates.iter().enumerate().find(|(_, c)| self.region(&c.region) == token.region)?
            }
            Session::Key(_) => candidates.iter().enumerate().next()?,
        };
        let endpoint = match candidate.place {
            Place::Own => Some(self.endpoint(session, &candidate.endpoints, &[])?),
            Place::Peer => None,
        };
        Some(Preferred { candidate: index, endpoint })
    }

    /// The session's endpoint among those of its region, leaving out those already tried.
    pub fn endpoint(
        &self,
        session: Session,
        endpoints: &[Arc<Endpoint>],
        tried: &[SocketAddr],
    ) -> Option<usize> {
        let left = || endpoints.iter().enumerate().filter(|(_, e)| !tried.contains(&e.address()));
        let key = match session {
            Session::Token(token) => {
                let named = left().find(|(_, e)| Self::score(self.places, e.address()) == token.endpoint);
                if let Some((index, _)) = named {
                    return Some(index);
                }
                token.endpoint
            }
            Session::Key(key) => key,
        };
        left().max_by_key(|(_, e)| self.rank(key, e.address())).map(|(index, _)| index)
    }

    /// Whether a session is at home elsewhere than at the place that serves it; `known`: all endpoints
    /// of the own region, those that do not serve among them.
    pub fn is_elsewhere(
        &self,
        session: Session,
        (region, endpoint): (&RegionId, SocketAddr),
        mut known: impl Iterator<Item = SocketAddr>,
    ) -> bool {
        match session {
            Session::Token(token) => token != self.token(region, endpoint),
            Session::Key(key) => known.any(|other| self.rank(key, other) > self.rank(key, endpoint)),
        }
    }

    /// An endpoint's place in the order of a key; the highest one serves it.
    fn rank(&self, key: u64, endpoint: SocketAddr) -> (u64, SocketAddr) {
        (Self::score(HashKey::new(key, self.rendezvous), endpoint), endpoint)
    }

    fn region(&self, region: &RegionId) -> u64 {
        siphash(self.regions, region.as_str().as_bytes())
    }

    fn score(key: HashKey, address: SocketAddr) -> u64 {
        let [high, low] = address.port().to_be_bytes();
        match address.ip() {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                siphash(key, &[4, a, b, c, d, high, low])
            }
            IpAddr::V6(v6) => {
                let mut bytes = [0; 19];
                for (place, byte) in bytes.iter_mut().zip(v6.octets().into_iter().chain([high, low, 6])) {
                    *place = byte;
                }
                siphash(key, &bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::snapshot::Candidate;
    use std::collections::BTreeMap;

    fn affinity() -> Affinity {
        Affinity::new(HashKey::new(3, 5), "web")
    }

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 8080))
    }

    fn endpoints(numbers: impl IntoIterator<Item = u8>) -> Arc<[Arc<Endpoint>]> {
        numbers.into_iter().map(|n| Arc::new(Endpoint::new(address(n)))).collect()
    }

    fn region(name: &str) -> RegionId {
        RegionId::parse(name).unwrap()
    }

    fn candidates(own: impl IntoIterator<Item = u8>) -> Candidates {
        let candidate = |name, place, endpoints| Candidate {
            region: region(name),
            place,
            share: 1.0,
            endpoints,
            zones: Arc::new([]),
        };
        [
            candidate("here", Place::Own, endpoints(own)),
            candidate("there", Place::Peer, endpoints([200, 201])),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn a_cookie_leads_back_to_its_endpoint_whoever_comes_or_goes() {
        let affinity = affinity();
        let token = affinity.token(&region("here"), address(3));
        let session = Session::Token(Token::parse(token.to_string().as_bytes()).unwrap());
        for own in [vec![1, 2, 3], vec![3], vec![9, 3, 7, 8]] {
            let at = own.iter().position(|n| *n == 3);
            let expected = Some(Preferred { candidate: 0, endpoint: at });
            assert_eq!(affinity.prefer(session, &candidates(own)), expected);
        }
    }

    #[test]
    fn a_cookie_of_another_region_leads_there_and_that_region_finds_the_endpoint() {
        let affinity = affinity();
        let session = Session::Token(affinity.token(&region("there"), address(42)));
        let preferred = affinity.prefer(session, &candidates([1, 2]));
        assert_eq!(preferred, Some(Preferred { candidate: 1, endpoint: None }));
        assert_eq!(affinity.endpoint(session, &endpoints([41, 42]), &[]), Some(1));
        let gone = Session::Token(affinity.token(&region("nowhere"), address(42)));
        assert_eq!(affinity.prefer(gone, &candidates([1, 2])), None);
    }

    #[test]
    fn a_session_whose_endpoint_is_gone_or_tried_moves_to_one_other() {
        let affinity = affinity();
        let session = Session::Token(affinity.token(&region("here"), address(3)));
        let left = candidates([1, 2, 4, 5]);
        let first = affinity.prefer(session, &left).unwrap();
        assert!((0..10).all(|_| affinity.prefer(session, &left) == Some(first)));
        let all = endpoints([1, 2, 3]);
        let next = affinity.endpoint(session, &all, &[address(3)]).unwrap();
        assert_ne!(next, 2);
        assert_eq!(affinity.endpoint(session, &all, &[address(1), address(2), address(3)]), None);
    }

    #[test]
    fn keys_spread_evenly_and_only_those_of_a_leaver_move() {
        let affinity = affinity();
        let (all, fewer) = (endpoints(0..10), endpoints(0..9));
        let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
        for n in 0..10_000u32 {
            let session = Session::Key(affinity.key_of(&n.to_be_bytes()));
            let before = affinity.endpoint(session, &all, &[]).unwrap();
            let after = affinity.endpoint(session, &fewer, &[]).unwrap();
            *counts.entry(before).or_default() += 1;
            assert!(before == 9 || before == after, "key {n} moved from {before} to {after}");
        }
        assert!(counts.len() == 10 && counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_cookie_does_not_show_the_address_and_differs_by_secret_and_service() {
        let at = |secret, service| Affinity::new(secret, service).token(&region("here"), address(3));
        let token = at(HashKey::new(3, 5), "web");
        assert_ne!(token, at(HashKey::new(3, 6), "web"));
        assert_ne!(token, at(HashKey::new(3, 5), "api"));
        assert_eq!(token.to_string().len(), 32);
        assert!(!token.to_string().contains("0a000003"));
    }

    #[test]
    fn a_cookie_that_we_did_not_write_is_none() {
        let right = "0123456789abcdef0123456789abcdef";
        assert!(Token::parse(right.as_bytes()).is_some());
        for wrong in
            ["", "0", &right[1..], "0123456789ABCDEF0123456789ABCDEF", "+123456789abcdef0123456789abcdef"]
        {
            assert_eq!(Token::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_ipv6_client_may_change_within_its_64() {
        let affinity = affinity();
        let key = |text: &str| affinity.key_of_client(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
    }
}
