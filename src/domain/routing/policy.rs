//! How patiently, how often and for whom: what a route says besides where to.

use crate::domain::limit::concurrency::Priority;
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

/// What a route asks of the way of its requests; what it does not say is the service's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoutePolicy {
    pub timeouts: RouteTimeouts,
    pub retries: Retries,
    /// Bytes of a request's body; `None`: any.
    pub max_body: Option<u64>,
    pub access: Access,
    /// Names of limits, each of which must let a request pass.
    pub rate_limits: Vec<String>,
    pub priority: Priority,
    pub hedging: RouteHedging,
    pub client_certificate: ClientCertificate,
    /// How many of a million requests the access log tells; `None`: as it says itself.
    pub log_per_million: Option<u32>,
}

/// Whether a client must have shown a certificate, by whichever listener it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificate {
    /// As the certificate of the host says.
    #[default]
    AsHost,
    Required,
}

/// Whether slow requests may be sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteHedging {
    #[default]
    AsService,
    /// Its requests are slow by design, or dear.
    Never,
}

/// `None`: as the service says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteTimeouts {
    /// For a connection to an endpoint.
    pub connect: Option<Duration>,
    /// From the end of the request to the head of the answer, of each attempt.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the answer.
    pub between_bytes: Option<Duration>,
    /// How long both sides of an upgraded connection may be silent.
    pub upgrade_idle: Option<Duration>,
    /// From the head of the request to the end of the answer, all attempts together; `None`: any.
    pub request: Option<Duration>,
}

/// When a request is tried again, besides when that is safe whatever it asks for.
///
/// For idempotent requests only (RFC 9110 section 9.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retries {
    /// In all, the first attempt among them; `None`: as the service says.
    pub attempts: Option<u32>,
    /// After `first_byte` without an answer.
    pub on_timeout: bool,
    /// After an answer with one of these statuses.
    pub on_status: Vec<u16>,
}

/// Who may ask, by address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// Empty: everybody.
    pub allow: Vec<IpNet>,
    /// Wins over `allow`.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Whether `address` may ask; an IPv4 address in IPv6 clothes is that IPv4 address.
    ///
    /// `None`: nobody knows who asks, so whoever it is is refused wherever that matters.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address.map(|address| address.to_canonical()) else {
            return self.deny.is_empty() && self.allow.is_empty();
        };
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        !within(&self.deny) && (self.allow.is_empty() || within(&self.allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denial_wins_and_an_empty_list_admits_everybody() {
        let networks = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let some =
            Access { allow: networks(&["10.0.0.0/8", "2001:db8::/32"]), deny: networks(&["10.1.0.0/16"]) };
        for (address, admitted) in [
            ("10.2.3.4", true),
            ("10.1.3.4", false),
            ("192.0.2.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("::ffff:10.2.3.4", true),
            ("::ffff:10.1.3.4", false),
        ] {
            assert_eq!(some.admits(Some(address.parse().unwrap())), admitted, "{address}");
        }
        assert!(Access::default().admits(Some("192.0.2.1".parse().unwrap())));
        let denied = Access { allow: Vec::new(), deny: networks(&["0.0.0.0/0"]) };
        assert!(
            !denied.admits(Some("192.0.2.1".parse().unwrap())) && denied.admits(Some("::1".parse().unwrap()))
        );
    }
}
