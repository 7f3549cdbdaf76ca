//! One question to one authoritative server: what it answers itself, not what a resolver makes of it.

use super::api::plain_name;
use super::layout::Kind;
use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::proto::serialize::binary::DecodeError;
use rand::Rng;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Patience with one query, and how often it is sent. Source: resolv.conf(5), timeout and attempts.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 3;
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

/// The values of `name`'s records of one kind: addresses as text, names plain.
///
/// Empty when the name has none of that kind, or does not exist.
///
/// # Errors
/// A response code other than NOERROR and NXDOMAIN, a damaged answer, or none in time.
pub async fn ask(server: SocketAddr, name: &str, kind: Kind) -> Result<BTreeSet<String>, AskError> {
    for _ in 0..ATTEMPTS {
        if let Ok(answer) = timeout(PATIENCE, exchange(server, name, kind)).await {
            return answer;
        }
    }
    Err(AskError::Silence)
}

async fn exchange(server: SocketAddr, name: &str, kind: Kind) -> Result<BTreeSet<String>, AskError> {
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
    let own: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).await?;
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
        if answer.metadata.truncation {
            return values(&over_tcp(server, &query).await?, kind);
        }
        return values(&answer, kind);
    }
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> Result<Message, AskError> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(query).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0_u8; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(Message::from_vec(&answer)?)
}

fn values(message: &Message, kind: Kind) -> Result<BTreeSet<String>, AskError> {
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        code => return Err(AskError::Refused(code)),
    }
    let value = |data: &RData| match (kind, data) {
        (Kind::A, RData::A(address)) => Some(address.0.to_string()),
        (Kind::Aaaa, RData::AAAA(address)) => Some(address.0.to_string()),
        (Kind::Cname, RData::CNAME(name)) => Some(plain_name(&name.0.to_ascii())),
        _ => None,
    };
    Ok(message.answers.iter().filter_map(|record| value(&record.data)).collect())
}
