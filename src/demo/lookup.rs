//! Real DNS queries over UDP, sent from an address of a place.

use hickory_server::proto::ProtoError;
use hickory_server::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::{Name, RData, RecordType};
use hickory_server::proto::serialize::binary::DecodeError;
use rand::Rng;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Patience with one query, and how often it is sent. Source: resolv.conf(5) has 5 s and 2; loopback needs less.
const PATIENCE: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 3;
/// Without EDNS an answer has at most 512 bytes. Source: RFC 1035, section 4.2.1.
const ANSWER_BYTES_MAX: usize = 512;

/// The addresses of a name, in the answer's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub addresses: Vec<Ipv4Addr>,
    /// The smallest TTL of the records; zero without any.
    pub ttl: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot send a DNS query")]
    Socket(#[from] std::io::Error),
    #[error("'{0}' has no form in DNS")]
    Name(String, #[source] ProtoError),
    #[error("the answer is damaged")]
    Damaged(#[from] DecodeError),
    #[error("the query has no form in DNS")]
    Query(#[from] ProtoError),
    #[error("the server says {0}")]
    Refused(ResponseCode),
    #[error("no answer after {ATTEMPTS} queries")]
    Silence,
}

/// Asks `server` for the IPv4 addresses of `name`, from the address `source`.
///
/// # Errors
/// A response code other than NOERROR, a damaged answer, or none in time.
pub async fn lookup(server: SocketAddr, source: Ipv4Addr, name: &str) -> Result<Answer, Error> {
    for _ in 0..ATTEMPTS {
        let socket = UdpSocket::bind((source, 0)).await?;
        socket.connect(server).await?;
        match timeout(PATIENCE, exchange(&socket, name)).await {
            Ok(answer) => return answer,
            Err(_) => tracing::debug!(%source, name, "a DNS query had no answer"),
        }
    }
    Err(Error::Silence)
}

async fn exchange(socket: &UdpSocket, name: &str) -> Result<Answer, Error> {
    let id = rand::rng().random();
    let question = Name::from_ascii(name).map_err(|error| Error::Name(name.to_owned(), error))?;
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(question, RecordType::A));
    socket.send(&message.to_vec()?).await?;
    let mut buffer = [0_u8; ANSWER_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = Message::from_vec(buffer.get(..length).unwrap_or_default())?;
        // A late answer to somebody who had the port before.
        if answer.metadata.id != id {
            continue;
        }
        return match answer.metadata.response_code {
            ResponseCode::NoError => Ok(read(&answer)),
            code => Err(Error::Refused(code)),
        };
    }
}

fn read(message: &Message) -> Answer {
    let records = || message.answers.iter().filter(|record| matches!(record.data, RData::A(_)));
    let addresses = records()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(address.0),
            _ => None,
        })
        .collect();
    let ttl = records().map(|record| record.ttl).min().unwrap_or(0);
    Answer { addresses, ttl: Duration::from_secs(ttl.into()) }
}
