//! Version 2: a signature, a fixed part, addresses, and fields of type, length and value.

use super::crc32c::crc32c;
use super::{Addresses, Facts, Header, LENGTH_MAX, Malformed, TlsFacts};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length of what follows.
const FIXED: usize = 16;
/// Longest `PP2_TYPE_UNIQUE_ID`; section 2.2.5.
const UNIQUE_ID_MAX: usize = 128;

/// Types of fields; section 2.2, and for AWS the guide of Network Load Balancers.
mod field {
    pub(super) const ALPN: u8 = 0x01;
    pub(super) const AUTHORITY: u8 = 0x02;
    pub(super) const CRC32C: u8 = 0x03;
    pub(super) const UNIQUE_ID: u8 = 0x05;
    pub(super) const SSL: u8 = 0x20;
    /// Inside `SSL`.
    pub(super) const SSL_VERSION: u8 = 0x21;
    pub(super) const SSL_COMMON_NAME: u8 = 0x22;
    pub(super) const SSL_CIPHER: u8 = 0x23;
    pub(super) const AWS: u8 = 0xea;
    /// Of AWS: the rest of its value is the id of a VPC endpoint.
    pub(super) const AWS_VPC_ENDPOINT: u8 = 0x01;
}

/// A header and its length; `None`: more has to come.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some(version_and_command) = bytes.get(12) else { return Ok(None) };
    if version_and_command >> 4 != 2 {
        return Err(Malformed::Version);
    }
    let local = match version_and_command & 0xf {
        0 => true,
        1 => false,
        _ => return Err(Malformed::Command),
    };
    let Some(family_and_transport) = bytes.get(13) else { return Ok(None) };
    // What LOCAL says of addresses is to be discarded, whatever it is.
    let family = if local { Family::None } else { Family::of(*family_and_transport)? };
    let Some(length) = bytes.get(14..FIXED) else { return Ok(None) };
    let whole = FIXED + usize::from(u16::from_be_bytes([length[0], length[1]]));
    if whole > LENGTH_MAX {
        return Err(Malformed::TooLong);
    }
    if whole - FIXED < family.length() {
        return Err(Malformed::TooShort);
    }
    let Some(header) = bytes.get(..whole) else { return Ok(None) };
    let addresses = family.addresses(&header[FIXED..]);
    // Without a family nobody knows where the fields begin.
    let facts = if family == Family::None { Facts::default() } else { facts(header, family.length())? };
    Ok(Some((Header { addresses, facts }, whole)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Neither addresses nor fields are looked at.
    None,
    Ipv4,
    Ipv6,
    /// Paths of sockets on the sender's machine: they say nothing here.
    Unix,
}

impl Family {
    /// From family (high half) and transport (low half): 0 unspecified, 1 stream, 2 datagram.
    const fn of(byte: u8) -> Result<Self, Malformed> {
        match byte {
            0x00 => Ok(Self::None),
            0x11 => Ok(Self::Ipv4),
            0x21 => Ok(Self::Ipv6),
            0x31 => Ok(Self::Unix),
            // Datagrams among them: a connection came by none.
            _ => Err(Malformed::Family),
        }
    }

    /// Bytes of both addresses.
    const fn length(self) -> usize {
        match self {
            Self::None => 0,
            Self::Ipv4 => 12,
            Self::Ipv6 => 36,
            Self::Unix => 216,
        }
    }

    fn addresses(self, bytes: &[u8]) -> Option<Addresses> {
        match self {
            Self::None | Self::Unix => None,
            Self::Ipv4 => pair(bytes, |octets: [u8; 4]| Ipv4Addr::from(octets).into()),
            Self::Ipv6 => pair(bytes, |octets: [u8; 16]| Ipv6Addr::from(octets).into()),
        }
    }
}

/// Source address, destination address, source port, destination port.
fn pair<const N: usize>(bytes: &[u8], ip: fn([u8; N]) -> IpAddr) -> Option<Addresses> {
    let (source, rest) = bytes.split_first_chunk()?;
    let (destination, rest) = rest.split_first_chunk()?;
    let (from, rest) = rest.split_first_chunk()?;
    let to = rest.first_chunk()?;
    let address = |octets: [u8; N], port: [u8; 2]| SocketAddr::new(ip(octets), u16::from_be_bytes(port));
    Some(Addresses { source: address(*source, *from), destination: address(*destination, *to) })
}

/// The fields after the addresses of a whole header.
fn facts(header: &[u8], addresses: usize) -> Result<Facts, Malformed> {
    let (mut facts, mut checked) = (Facts::default(), false);
    let mut at = FIXED + addresses;
    while let Some((kind, value)) = field_at(header, at)? {
        let begin = at + 3;
        match kind {
            field::ALPN if !value.is_empty() => facts.alpn = Some(value.into()),
            field::AUTHORITY => facts.authority = Some(text(value)?),
            field::UNIQUE_ID if value.len() <= UNIQUE_ID_MAX => facts.unique_id = Some(value.into()),
            field::CRC32C if !checked => {
                checked = true;
                check(header, begin, value)?;
            }
            field::ALPN | field::UNIQUE_ID | field::CRC32C => return Err(Malformed::Field),
            field::SSL => facts.tls = tls(value)?,
            field::AWS => {
                if let Some((&field::AWS_VPC_ENDPOINT, id)) = value.split_first() {
                    facts.vpc_endpoint = Some(text(id)?);
                }
            }
            // Others are for other readers.
            _ => {}
        }
        at = begin + value.len();
    }
    Ok(facts)
}

/// Type and value of the field that begins there; `None`: the end.
fn field_at(bytes: &[u8], at: usize) -> Result<Option<(u8, &[u8])>, Malformed> {
    let Some((kind, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) else { return Ok(None) };
    let (length, rest) = rest.split_first_chunk().ok_or(Malformed::Field)?;
    let value = rest.get(..usize::from(u16::from_be_bytes(*length))).ok_or(Malformed::Field)?;
    Ok(Some((*kind, value)))
}

/// What `SSL` says: flags, the outcome of verification, fields. `None`: no TLS. Section 2.2.6.
fn tls(value: &[u8]) -> Result<Option<TlsFacts>, Malformed> {
    const BY_TLS: u8 = 0x01;
    /// On this connection, or in the session that it goes on with.
    const WITH_CERTIFICATE: u8 = 0x02 | 0x04;
    let (flags, rest) = value.split_first().ok_or(Malformed::Field)?;
    let (verify, fields): (&[u8; 4], _) = rest.split_first_chunk().ok_or(Malformed::Field)?;
    let mut facts =
        TlsFacts { verified: flags & WITH_CERTIFICATE != 0 && *verify == [0; 4], ..TlsFacts::default() };
    let mut at = 0;
    while let Some((kind, value)) = field_at(fields, at)? {
        let told = match kind {
            field::SSL_VERSION => Some(&mut facts.version),
            field::SSL_COMMON_NAME => Some(&mut facts.common_name),
            field::SSL_CIPHER => Some(&mut facts.cipher),
            _ => None,
        };
        if let Some(told) = told.filter(|_| !value.is_empty()) {
            *told = Some(text(value)?);
        }
        at += 3 + value.len();
    }
    Ok((flags & BY_TLS != 0).then_some(facts))
}

/// Printable: logs carry it.
fn text(value: &[u8]) -> Result<Box<str>, Malformed> {
    let text = str::from_utf8(value).map_err(|_| Malformed::Field)?;
    let printable = !text.is_empty() && !text.contains(char::is_control);
    if printable { Ok(text.into()) } else { Err(Malformed::Field) }
}

/// The checksum is that of the whole header with zeros in the checksum's own place.
fn check(header: &[u8], begin: usize, value: &[u8]) -> Result<(), Malformed> {
    let stated: [u8; 4] = value.try_into().map_err(|_| Malformed::Field)?;
    let (before, after) = (&header[..begin], &header[begin + stated.len()..]);
    let real = crc32c(before.iter().chain(&[0; 4]).chain(after));
    if real == u32::from_be_bytes(stated) { Ok(()) } else { Err(Malformed::Checksum) }
}
