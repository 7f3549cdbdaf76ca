//! The PROXY protocol: who the client is, told by a load balancer before the connection's own bytes.
//!
//! Reads versions 1 (text) and 2 (binary) from the beginning of what has come so
//! far. The verdict about some bytes stays the same whatever follows them, so it
//! does not matter how they were cut into pieces. Refuses to know sockets, and
//! who may be believed.
//!
//! Source: haproxy's doc/proxy-protocol.txt, sections 2.1 and 2.2.

use std::net::SocketAddr;

mod binary;
mod crc32c;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod text;

/// The longest header that is read, in either version.
pub const LENGTH_MAX: usize = 4096;

/// What some bytes at the beginning of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scan {
    /// All of them belong to a header that is not whole yet.
    NeedMore,
    /// A header in the first `length` of them.
    Header {
        header: Header,
        length: usize,
    },
    Malformed(Malformed),
}

/// What a header says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// `None`: the connection is the sender's own (LOCAL), or it cannot say whose it is: the
    /// socket's addresses stand.
    pub addresses: Option<Addresses>,
    pub facts: Facts,
}

/// Both ends of the client's connection to the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// What version 2 may add; the sender's word, unverified but for their form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The protocol that was agreed upon with the client.
    pub alpn: Option<Box<[u8]>>,
    /// The name that the client asked for, as in SNI.
    pub authority: Option<Box<str>>,
    pub unique_id: Option<Box<[u8]>>,
    /// The VPC endpoint that the client came through (AWS PrivateLink).
    pub vpc_endpoint: Option<Box<str>>,
    /// `Some`: the client came to the sender by TLS.
    pub tls: Option<TlsFacts>,
}

/// What the sender agreed on with its client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFacts {
    pub version: Option<Box<str>>,
    pub cipher: Option<Box<str>>,
    /// Of the client's certificate.
    pub common_name: Option<Box<str>>,
    /// The client has shown a certificate, and it was found right.
    pub verified: bool,
}

/// Why some bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// They begin like neither version.
    Signature,
    /// Version 1 without CR LF at its end.
    LineEnd,
    /// Longer than its version allows, or than this reader does.
    TooLong,
    /// An address, a port or the words of version 1.
    Address,
    /// A version other than 2 under the signature of 2.
    Version,
    /// Neither LOCAL nor PROXY.
    Command,
    /// An address family or transport that does not exist, or that no connection can have.
    Family,
    /// Too short for the addresses of its family.
    TooShort,
    /// A further field that is cut off, or has no form that its type may have.
    Field,
    /// Its CRC-32C is another.
    Checksum,
}

impl Malformed {
    pub const ALL: [Self; 10] = [
        Self::Signature,
        Self::LineEnd,
        Self::TooLong,
        Self::Address,
        Self::Version,
        Self::Command,
        Self::Family,
        Self::TooShort,
        Self::Field,
        Self::Checksum,
    ];

    /// As the label of a metric spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signature => "proxy_signature",
            Self::LineEnd => "proxy_line_end",
            Self::TooLong => "proxy_too_long",
            Self::Address => "proxy_address",
            Self::Version => "proxy_version",
            Self::Command => "proxy_command",
            Self::Family => "proxy_family",
            Self::TooShort => "proxy_too_short",
            Self::Field => "proxy_field",
            Self::Checksum => "proxy_checksum",
        }
    }
}

/// Looks for a header at the beginning of a connection's bytes.
///
/// # Example: what follows the header is not looked at
/// ```
/// use proxima::proxy::proxy_protocol::{Scan, scan};
///
/// let bytes = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET / HTTP/1.1\r\n";
/// let Scan::Header { header, length } = scan(bytes) else { panic!("no header") };
/// assert_eq!(header.addresses.unwrap().source.to_string(), "192.0.2.1:56324");
/// assert_eq!(&bytes[length..], b"GET / HTTP/1.1\r\n");
/// assert_eq!(scan(b"PROXY TCP4 192.0"), Scan::NeedMore);
/// ```
pub fn scan(bytes: &[u8]) -> Scan {
    let read = if begins(bytes, text::SIGNATURE) {
        text::read(bytes)
    } else if begins(bytes, binary::SIGNATURE) {
        binary::read(bytes)
    } else {
        Err(Malformed::Signature)
    };
    match read {
        Ok(None) => Scan::NeedMore,
        Ok(Some((header, length))) => Scan::Header { header, length },
        Err(malformed) => Scan::Malformed(malformed),
    }
}

/// Whether bytes are, or may become, ones that begin with a signature.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(a, b)| a == b)
}
