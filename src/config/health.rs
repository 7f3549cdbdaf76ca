//! How the endpoints of a service are asked whether they are well.

use crate::config::file::FromFile;
use crate::domain::routing::{Field, Pattern};
use std::ops::RangeInclusive;
use std::time::Duration;

/// How a service's endpoints are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub question: Question,
    /// `None`: where requests go.
    pub port: Option<u16>,
    /// `None`: as [`crate::config::Probes`] say.
    pub interval: Option<Duration>,
    pub timeout: Option<Duration>,
}

/// What probes ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    Http(HttpQuestion),
    /// A connection.
    Tcp,
    /// A connection, and a handshake by the service's trust.
    Tls,
    /// `grpc.health.v1`, of this service of the server; "" is the whole server. Over HTTP/2 only.
    Grpc(String),
}

/// A request, and what its answer must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpQuestion {
    pub method: HttpMethod,
    pub path: String,
    /// `None`: the name of the service's certificate, or the endpoint's address.
    pub host: Option<String>,
    /// One of these.
    pub status: Vec<RangeInclusive<u16>>,
    /// All of these.
    pub headers: Vec<Field>,
    pub body: Option<BodyTest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpMethod {
    Get,
    Head,
}

/// What a body must be; of a longer one than is read nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyTest {
    Contains(String),
    /// The whole body.
    Matches(Pattern),
}

impl Question {
    /// A GET of this path that any 2xx answers well.
    pub fn get(path: &str) -> Self {
        Self::Http(HttpQuestion {
            method: HttpMethod::Get,
            path: path.to_owned(),
            host: None,
            status: vec![200..=299],
            headers: Vec::new(),
            body: None,
        })
    }
}

impl BodyTest {
    pub fn holds(&self, body: &[u8]) -> bool {
        match self {
            Self::Contains(text) => {
                text.is_empty() || body.windows(text.len()).any(|part| part == text.as_bytes())
            }
            Self::Matches(pattern) => pattern.matches(body),
        }
    }
}

/// Which question, as the file says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealthKind {
    Http,
    Tcp,
    Tls,
    Grpc,
}

impl HealthKind {
    /// The kind as the file spells it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Grpc => "grpc",
        }
    }
}

impl FromFile for HealthKind {
    const RULE: &'static str = r#""http", "tcp", "tls" or "grpc""#;

    fn from_text(text: &str) -> Option<Self> {
        [Self::Http, Self::Tcp, Self::Tls, Self::Grpc].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl FromFile for HttpMethod {
    const RULE: &'static str = r#""GET" or "HEAD""#;

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "GET" => Some(Self::Get),
            "HEAD" => Some(Self::Head),
            _ => None,
        }
    }
}

/// Statuses of an answer.
#[derive(Debug, Clone)]
pub(super) struct StatusRange(pub(super) RangeInclusive<u16>);

impl FromFile for StatusRange {
    const RULE: &'static str = r#"a status from 200 to 599, or a range of them, such as 401 or "200-299""#;

    fn from_number(number: f64) -> Option<Self> {
        let whole = number.fract() == 0.0 && (200.0..=599.0).contains(&number);
        whole.then_some(number as u16).map(|status| Self(status..=status))
    }

    fn from_text(text: &str) -> Option<Self> {
        let status = |text: &str| text.parse().ok().filter(|status| (200..=599).contains(status));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = status(first).zip(status(last))?;
        (first <= last).then_some(Self(first..=last))
    }
}
