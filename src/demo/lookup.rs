//! Real DNS queries, sent from an address of a place.

use crate::dns::ask::{AskError, Asked, answer};
use crate::dns::layout::Kind;
use hickory_server::proto::rr::RData;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Patience with one query. Source: resolv.conf(5) has 5 s; loopback needs less.
const PATIENCE: Duration = Duration::from_secs(1);

/// The addresses of a name, in the answer's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub addresses: Vec<Ipv4Addr>,
    /// The smallest TTL of the records; zero without any.
    pub ttl: Duration,
}

/// Asks `server` for the IPv4 addresses of `name`, from the address `source`.
///
/// # Errors
/// A response code other than NOERROR, a damaged answer, or none in time.
pub async fn lookup(server: SocketAddr, source: Ipv4Addr, name: &str) -> Result<Answer, AskError> {
    let asked = Asked { server, source: source.into(), name, kind: Kind::A, patience: PATIENCE };
    let records = answer(&asked).await?;
    let found = || {
        records.iter().filter_map(|record| match &record.data {
            RData::A(address) => Some((address.0, record.ttl)),
            _ => None,
        })
    };
    let ttl = found().map(|(_, ttl)| ttl).min().unwrap_or(0);
    let addresses = found().map(|(address, _)| address).collect();
    Ok(Answer { addresses, ttl: Duration::from_secs(ttl.into()) })
}
