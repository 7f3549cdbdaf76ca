//! HTTP/1 as bytes: what a message is, and what is none.
//!
//! ```text
//! bytes -> Scan -> RawHead -> request() / response() -> head + Framing -> BodyReader -> pieces
//! pieces <- BodyWriter <- Framing <- write_request() / write_response() <- head
//! ```
//!
//! This module is the only reader and the only writer of HTTP/1 framing, down-
//! and upstream. Two implementations side by side disagree somewhere, and that
//! somewhere is where a request is smuggled. It is strict where the RFCs leave a
//! choice, and what it writes is printed from what it understood, never copied:
//! framing comes from [`Framing`], the target and `Host` from the [`http::Uri`],
//! and hop-by-hop fields do not survive parsing.
//!
//! It knows no socket, clock, policy or upstream. Sources: RFC 9110 (semantics),
//! RFC 9112 (HTTP/1.1), RFC 3986 (URI).
//!
//! # Limits of it
//! Header names are written in lower case, whatever case they came in. `<`, `>`
//! and a backtick in a target are refused, because [`http::uri::PathAndQuery`]
//! can't hold them. Hosts with percent-encoding or sub-delims are refused.

use http::StatusCode;
use thiserror::Error;

pub mod body;
pub mod chunked;
mod fields;
mod octets;
pub mod request;
pub mod response;
pub mod scan;
pub mod target;
pub mod write;

pub use body::{BodyReader, BodyWriter, Got, Mismatch, Truncated};
pub use fields::passes_for_another;
pub use request::{RequestHead, request};
pub use response::{ResponseHead, response};
pub use scan::{RawHead, Scan};
pub use write::{Hop, Reuse, write_request, write_response};

#[cfg(test)]
mod properties;

/// How the end of a message's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body follows, whatever the fields say.
    None,
    /// Exactly so many bytes; 0 is said on the wire, unlike `None`.
    Length(u64),
    Chunked,
    /// Until the connection ends; responses only.
    Close,
}

impl Framing {
    /// Bytes of the body, where they are told beforehand.
    pub const fn length(self) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::Length(length) => Some(length),
            Self::Chunked | Self::Close => None,
        }
    }

    /// The same body for a receiver of `version`: HTTP/1.0 knows no chunks.
    #[must_use]
    pub fn for_version(self, version: http::Version) -> Self {
        match self {
            Self::Chunked if version < http::Version::HTTP_11 => Self::Close,
            other => other,
        }
    }
}

/// Bounds on what a peer may make us hold before it is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole head, with the empty line.
    pub head_bytes: usize,
    /// Bytes of one line, without its end.
    pub line_bytes: usize,
    /// Bytes of a request target; a status line is bound by it too.
    pub target_bytes: usize,
    pub headers: usize,
    /// Bytes of a whole trailer section, with the empty line.
    pub trailer_bytes: usize,
    pub trailers: usize,
}

impl Limits {
    /// For heads of clients. Common servers allow 8 KiB to 64 KiB and 100 fields.
    pub const REQUEST: Self = Self {
        head_bytes: 32 * 1024,
        line_bytes: 16 * 1024,
        target_bytes: 8 * 1024,
        headers: 100,
        trailer_bytes: 8 * 1024,
        trailers: 32,
    };
    /// For heads of clients, of other sizes; what else is bounded stays as it is.
    pub const fn sized(head_bytes: usize, target_bytes: usize, headers: usize) -> Self {
        // As in `REQUEST`: the longest line is half of a head.
        Self { head_bytes, line_bytes: head_bytes / 2, target_bytes, headers, ..Self::REQUEST }
    }

    /// For heads of upstreams, whose cookies and policies grow larger.
    pub const RESPONSE: Self =
        Self { head_bytes: 64 * 1024, line_bytes: 32 * 1024, headers: 200, ..Self::REQUEST };
}

/// Why bytes are no acceptable message.
///
/// After any of these the end of the message is not known, so the connection
/// can't be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Malformed {
    #[error("a line ends in LF without CR")]
    BareLf,
    #[error("a CR without LF")]
    BareCr,
    #[error("a control character")]
    Control,
    #[error("whitespace before the first header")]
    LeadingSpace,
    #[error("a header folded over lines")]
    Folded,
    #[error("a header line without a well-formed name and colon")]
    NameSyntax,
    #[error("a header value with octets that no value may hold")]
    ValueSyntax,
    #[error("a first line that is not a request or status line")]
    StartLine,
    #[error("a first line that is too long")]
    StartLineTooLong,
    #[error("a method that is no token, is too long, or forbids the body sent with it")]
    Method,
    #[error("a malformed request target")]
    Target,
    #[error("a request target that is too long")]
    TargetTooLong,
    #[error("a head that is too large")]
    HeadTooLarge,
    #[error("a header line that is too long")]
    LineTooLong,
    #[error("too many headers")]
    TooManyHeaders,
    #[error("an HTTP version that is not spoken here")]
    Version,
    #[error("no Host")]
    NoHost,
    #[error("more than one Host")]
    ManyHosts,
    #[error("a malformed Host or authority")]
    Host,
    #[error("a Host that differs from the target's authority")]
    HostConflict,
    #[error("a target of another scheme than the connection's")]
    Scheme,
    #[error("a Content-Length that is no number")]
    LengthSyntax,
    #[error("more than one Content-Length")]
    LengthMany,
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    #[error("Transfer-Encoding in HTTP/1.0")]
    EncodingIn10,
    #[error("a Transfer-Encoding other than chunked")]
    EncodingUnknown,
    #[error("a Transfer-Encoding that does not end in one chunked")]
    EncodingNotLast,
    #[error("CONNECT")]
    Connect,
    #[error("an expectation other than 100-continue")]
    Expectation,
    #[error("a Connection header that names what no hop may remove")]
    Nominated,
    #[error("malformed chunk framing")]
    Chunk,
    #[error("a malformed, forbidden or oversized trailer")]
    Trailer,
    #[error("a status code outside 100 to 599")]
    Status,
    #[error("a body over the limit")]
    BodyTooLong,
}

impl Malformed {
    /// Every reason, in the order of the variants.
    pub const ALL: [Self; 34] = [
        Self::BareLf,
        Self::BareCr,
        Self::Control,
        Self::LeadingSpace,
        Self::Folded,
        Self::NameSyntax,
        Self::ValueSyntax,
        Self::StartLine,
        Self::StartLineTooLong,
        Self::Method,
        Self::Target,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::LineTooLong,
        Self::TooManyHeaders,
        Self::Version,
        Self::NoHost,
        Self::ManyHosts,
        Self::Host,
        Self::HostConflict,
        Self::Scheme,
        Self::LengthSyntax,
        Self::LengthMany,
        Self::LengthAndEncoding,
        Self::EncodingIn10,
        Self::EncodingUnknown,
        Self::EncodingNotLast,
        Self::Connect,
        Self::Expectation,
        Self::Nominated,
        Self::Chunk,
        Self::Trailer,
        Self::Status,
        Self::BodyTooLong,
    ];

    /// What the client is answered when it sent this.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong | Self::StartLineTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge | Self::LineTooLong | Self::TooManyHeaders => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::EncodingUnknown | Self::Connect => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::BodyTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// A metric label: a closed set, and never a byte of what was sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BareLf => "bare_lf",
            Self::BareCr => "bare_cr",
            Self::Control => "control",
            Self::LeadingSpace => "leading_space",
            Self::Folded => "folded",
            Self::NameSyntax => "name_syntax",
            Self::ValueSyntax => "value_syntax",
            Self::StartLine => "start_line",
            Self::StartLineTooLong => "start_line_too_long",
            Self::Method => "method",
            Self::Target => "target",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::LineTooLong => "line_too_long",
            Self::TooManyHeaders => "too_many_headers",
            Self::Version => "version",
            Self::NoHost => "no_host",
            Self::ManyHosts => "many_hosts",
            Self::Host => "host",
            Self::HostConflict => "host_conflict",
            Self::Scheme => "scheme",
            Self::LengthSyntax => "length_syntax",
            Self::LengthMany => "length_many",
            Self::LengthAndEncoding => "length_and_encoding",
            Self::EncodingIn10 => "encoding_in_10",
            Self::EncodingUnknown => "encoding_unknown",
            Self::EncodingNotLast => "encoding_not_last",
            Self::Connect => "connect",
            Self::Expectation => "expectation",
            Self::Nominated => "nominated",
            Self::Chunk => "chunk",
            Self::Trailer => "trailer",
            Self::Status => "status",
            Self::BodyTooLong => "body_too_long",
        }
    }
}
