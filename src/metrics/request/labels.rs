//! Values of labels: closed sets, spelled once.

/// The class of an answer, as the label spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
    /// No answer: the client left first.
    None,
}

impl Class {
    pub const ALL: [Self; 6] = [
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::None,
    ];

    /// The class of a status code; what is none of the five classes counts as a server error.
    pub const fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            _ => Self::ServerError,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::None => "none",
        }
    }
}

/// Why an attempt was followed by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// No connection; nothing was sent.
    Connect,
    /// Sent, but the upstream said that it did not process it.
    Unprocessed,
    /// Reset or closed before the head of the answer was whole.
    Closed,
    /// The peer's typed 503.
    Refused,
    /// The endpoint has as many connections as it may.
    Busy,
    /// No answer in time; only where a route says so.
    Timeout,
    /// A status that a route names.
    Status,
}

impl RetryReason {
    pub const ALL: [Self; 7] = [
        Self::Connect,
        Self::Unprocessed,
        Self::Closed,
        Self::Refused,
        Self::Busy,
        Self::Timeout,
        Self::Status,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Unprocessed => "unprocessed",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Status => "status",
        }
    }
}

/// Why an answer that had begun did not reach its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The upstream broke off, fell silent, or did not keep what the head promised.
    Upstream,
    /// The time for the whole request was over.
    Deadline,
    ClientLeft,
    /// The client did not read, or did not send the rest of its request.
    ClientSlow,
}

impl Cut {
    pub const ALL: [Self; 4] = [Self::Upstream, Self::Deadline, Self::ClientLeft, Self::ClientSlow];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "cut",
            Self::Deadline => "deadline",
            Self::ClientLeft => "client_left",
            Self::ClientSlow => "client_slow",
        }
    }
}

/// What became of a request that had no answer by the time that most others have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeResult {
    /// The second attempt answered first.
    Won,
    /// The first one did.
    Lost,
    /// Neither did, or the client left.
    Ended,
    /// There was none: the budget or the concurrency of the service was used up.
    Denied,
}

impl HedgeResult {
    pub const ALL: [Self; 4] = [Self::Won, Self::Lost, Self::Ended, Self::Denied];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Ended => "ended",
            Self::Denied => "denied",
        }
    }
}

/// Why a TLS handshake with an upstream failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// No root that is believed signs its certificate.
    UnknownIssuer,
    /// Its certificate is for other names.
    WrongName,
    /// Its certificate is not valid any more, or not yet.
    Expired,
    /// Its certificate is wrong in another way.
    BadCertificate,
    /// It refused: most likely it asks for a certificate, or another one.
    Refused,
    /// It speaks no TLS, or no version or protocol of ours.
    Other,
}

impl Distrust {
    pub const ALL: [Self; 6] = [
        Self::UnknownIssuer,
        Self::WrongName,
        Self::Expired,
        Self::BadCertificate,
        Self::Refused,
        Self::Other,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownIssuer => "unknown_issuer",
            Self::WrongName => "wrong_name",
            Self::Expired => "expired",
            Self::BadCertificate => "bad_certificate",
            Self::Refused => "refused",
            Self::Other => "other",
        }
    }
}

/// Why a forwarded request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    NoService,
    NoRoom,
    /// Not a forwarded request at all: a header is missing or wrong.
    Malformed,
}

impl RefusalReason {
    pub const ALL: [Self; 3] = [Self::NoService, Self::NoRoom, Self::Malformed];

    /// The reason as labels and the typed 503 spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoService => "no_service",
            Self::NoRoom => "no_room",
            Self::Malformed => "malformed",
        }
    }
}

/// Which kind of listener a connection came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    Http,
    Https,
    Peer,
}

impl ListenerKind {
    pub const ALL: [Self; 3] = [Self::Http, Self::Https, Self::Peer];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Peer => "peer",
        }
    }
}

/// Why a request was not passed on, by its route's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// The client's address may not ask.
    Denied,
    BodyTooLarge,
    RateLimited,
    /// Too many of the service's requests are in flight.
    Overloaded,
    /// For a host of another certificate than the connection's.
    Misdirected,
    /// The client has shown no certificate, where the host or the route wants one.
    NoCertificate,
}

impl RejectReason {
    pub const ALL: [Self; 6] = [
        Self::Denied,
        Self::BodyTooLarge,
        Self::RateLimited,
        Self::Overloaded,
        Self::Misdirected,
        Self::NoCertificate,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::BodyTooLarge => "body_too_large",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Misdirected => "misdirected",
            Self::NoCertificate => "no_certificate",
        }
    }
}

/// What was malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    Request,
    Answer,
}

impl Message {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Answer => "answer",
        }
    }
}

/// What became of a load that a pod told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Taken,
    /// Its certificate is not one of the own region.
    Stranger,
    /// It is too long, broke off, or is no load.
    Malformed,
    /// It cannot be, or there is no room for more pods.
    Refused,
}

impl Told {
    pub const ALL: [Self; 4] = [Self::Taken, Self::Stranger, Self::Malformed, Self::Refused];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Stranger => "stranger",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }
}
