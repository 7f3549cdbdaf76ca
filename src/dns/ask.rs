//! One question to one authoritative server: what it answers itself, not what a resolver makes of it.

use super::api::plain_name;
use super::layout::Kind;
use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::DecodeError;
use rand::Rng;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

/// Patience with one query to a server far away. Source: resolv.conf(5), timeout.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a query is sent. Source: resolv.conf(5), attempts.
pub const ATTEMPTS: usize = 3;
/// Without EDNS an answer over UDP has at most 512 bytes; a longer one is asked for over TCP.
/// Source: RFC 1035, section 4.2.
const UDP_BYTES_MAX: usize = 512;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("cannot ask")]
    Socket(#[from] std::io::Error),
    #[error("'{0}' has no form in DNS")]
    Name(String, #[source] ProtoError),
    #[error("the answer is damaged")]
    Damaged(#[from] DecodeError),
    #[error("the query has no form in DNS")]
    Query(#[from] ProtoError),
    #[error("it says {0}")]
    Refused(ResponseCode),
    #[error("no answer after {ATTEMPTS} queries")]
    Silence,
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub server: SocketAddr,
    /// The address that it is sent from.
    pub source: IpAddr,
    pub name: &'a str,
    pub kind: Kind,
    /// With one query, of which there are [`ATTEMPTS`].
    pub patience: Duration,
}

/// The values of `name`'s records of one kind: addresses as text, names plain.
///
/// Empty when the name has none of that kind, or does not exist.
///
/// # Errors
/// A response code other than NOERROR and NXDOMAIN, a damaged answer, or none in time.
pub(super) async fn ask(server: SocketAddr, name: &str, kind: Kind) -> Result<BTreeSet<String>, AskError> {
    let source: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    match answer(&Asked { server, source, name, kind, patience: PATIENCE }).await {
        Ok(records) => Ok(records.iter().filter_map(|record| value(&record.data, kind)).collect()),
        Err(AskError::Refused(ResponseCode::NXDomain)) => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// The records of the answer, in its order.
///
/// # Errors
/// A response code other than NOERROR, a damaged answer, or none in time.
pub async fn answer(asked: &Asked<'_>) -> Result<Vec<Record>, AskError> {
    for _ in 0..ATTEMPTS {
        if let Ok(message) = timeout(asked.patience, exchange(asked)).await {
            let message = message?;
            return match message.metadata.response_code {
                ResponseCode::NoError => Ok(message.answers),
                code => Err(AskError::Refused(code)),
            };
        }
        tracing::debug!(source = %asked.source, name = asked.name, "a DNS query had no answer");
    }
    Err(AskError::Silence)
}

async fn exchange(asked: &Asked<'_>) -> Result<Message, AskError> {
    let Asked { server, source, name, kind, .. } = *asked;
    let id = rand::rng().random();
    let question = Name::from_ascii(name).map_err(|error| AskError::Name(name.to_owned(), error))?;
    let record_type = match kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Cname => RecordType::CNAME,
    };
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(question, record_type));
    let query = message.to_vec()?;
    let socket = UdpSocket::bind((source, 0)).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut buffer = [0_u8; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = Message::from_vec(buffer.get(..length).unwrap_or_default())?;
        // A late answer to somebody who had the port before.
        if answer.metadata.id != id {
            continue;
        }
        return if answer.metadata.truncation { over_tcp(asked, &query).await } else { Ok(answer) };
    }
}

async fn over_tcp(asked: &Asked<'_>, query: &[u8]) -> Result<Message, AskError> {
    let socket = if asked.server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind((asked.source, 0).into())?;
    let mut stream = socket.connect(asked.server).await?;
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(query).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0_u8; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(Message::from_vec(&answer)?)
}

fn value(data: &RData, kind: Kind) -> Option<String> {
    match (kind, data) {
        (Kind::A, RData::A(address)) => Some(address.0.to_string()),
        (Kind::Aaaa, RData::AAAA(address)) => Some(address.0.to_string()),
        (Kind::Cname, RData::CNAME(name)) => Some(plain_name(&name.0.to_ascii())),
        _ => None,
    }
}
