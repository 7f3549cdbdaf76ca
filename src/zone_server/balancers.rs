//! Load balancers that alias records may name. They stand for AWS's: always well, with fixed addresses.

use super::name::Name;
use super::record::RecordType;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// TTL in seconds of answers by an alias to a load balancer.
/// Source: developer guide, "Choosing between alias and non-alias records": 60 seconds.
pub const TTL: u32 = 60;

/// By hosted zone and name.
#[derive(Debug, Clone, Default)]
pub struct Balancers {
    known: BTreeMap<(String, Name), Vec<IpAddr>>,
}

impl Balancers {
    pub fn add(&mut self, zone_id: String, name: Name, addresses: Vec<IpAddr>) {
        self.known.insert((zone_id, name), addresses);
    }

    #[must_use]
    pub fn holds(&self, zone_id: &str, name: &Name) -> bool {
        self.known.contains_key(&(zone_id.to_owned(), name.clone()))
    }

    /// The addresses of a load balancer by its name alone.
    #[must_use]
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let Ok(name) = Name::parse(name) else { return Vec::new() };
        let found = self.known.iter().find(|((_, known), _)| *known == name);
        found.map(|(_, addresses)| addresses.clone()).unwrap_or_default()
    }

    /// What an alias of this type answers with; `None` for what is no load balancer.
    #[must_use]
    pub fn values(&self, zone_id: &str, name: &Name, kind: RecordType) -> Option<Vec<String>> {
        let addresses = self.known.get(&(zone_id.to_owned(), name.clone()))?;
        let of_kind = addresses.iter().filter(|address| match kind {
            RecordType::A => address.is_ipv4(),
            RecordType::Aaaa => address.is_ipv6(),
            _ => false,
        });
        Some(of_kind.map(ToString::to_string).collect())
    }
}
