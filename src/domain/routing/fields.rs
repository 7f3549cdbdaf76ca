//! Header names and values that a configuration may speak of, and changes to them.
//!
//! Sources: RFC 9110, 5.1 and 5.5 (syntax), 7.6.1 (hop-by-hop).

use std::fmt;

/// What every header of ours between edges begins with; believed on the peer listener only.
pub const INTERNAL_PREFIX: &str = "x-proxima-";

/// Headers that are no route's business: they belong to one connection, to the framing of a
/// message, or are what routes are found and logs are joined by.
const RESERVED: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// The name of a header that routes may match and change, in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName(String);

impl FieldName {
    /// `None` when it is no header name, or one of a connection, of framing, or of this edge itself.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.to_ascii_lowercase();
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let right = (1..=128).contains(&name.len()) && name.bytes().all(token);
        let free = !RESERVED.contains(&name.as_str()) && !name.starts_with(INTERNAL_PREFIX);
        (right && free).then_some(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a header: visible ASCII, blanks only inside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldValue(String);

impl FieldValue {
    /// `None` when a header could not carry the text unchanged, or it is longer than 4096 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        (plain && text.trim() == text && text.len() <= 4096).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Changes to the headers of a message: removals, then replacements, then additions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderChanges {
    pub remove: Vec<FieldName>,
    /// Each replaces every value of its name.
    pub set: Vec<(FieldName, FieldValue)>,
    /// Each is a line of its own, besides those that are there.
    pub add: Vec<(FieldName, FieldValue)>,
}

impl HeaderChanges {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_a_connection_of_framing_or_of_ours_cannot_be_named() {
        for (name, free) in [
            ("X-Canary", true),
            ("cookie", true),
            ("via", true),
            ("", false),
            ("x canary", false),
            (":path", false),
            ("Host", false),
            ("CONNECTION", false),
            ("content-length", false),
            ("Transfer-Encoding", false),
            ("X-Proxima-Service", false),
            ("x-request-id", false),
        ] {
            assert_eq!(FieldName::parse(name).is_some(), free, "{name:?}");
        }
    }

    #[test]
    fn a_value_cannot_end_its_line_or_lose_a_blank() {
        for (value, right) in
            [("a b", true), ("", true), ("a\r\nb", false), ("a\0", false), (" a", false), ("ä", false)]
        {
            assert_eq!(FieldValue::parse(value).is_some(), right, "{value:?}");
        }
    }
}
