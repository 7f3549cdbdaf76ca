//! Record sets as Route 53 keeps them, and what their values may be.

use super::name::Name;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The record types that this server carries, in the order of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordType {
    A,
    Aaaa,
    Cname,
    Ns,
    Soa,
    Txt,
}

impl RecordType {
    /// The type of a wire name; `None` for types that this server does not carry.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::A, Self::Aaaa, Self::Cname, Self::Ns, Self::Soa, Self::Txt]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Ns => "NS",
            Self::Soa => "SOA",
            Self::Txt => "TXT",
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What tells one record set from another: UPSERT and DELETE find by it.
///
/// Source: API reference, ChangeResourceRecordSets (UPSERT matches Name, Type
/// and SetIdentifier) and ListResourceRecordSets (order).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    pub name: Name,
    pub kind: RecordType,
    pub set_identifier: Option<String>,
}

/// How one record set shares its name and type with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// Alone under its name and type.
    Simple,
    /// Share by weight, 0..=255.
    Weighted(u8),
    /// Nearest AWS region by latency.
    Latency(String),
}

impl Routing {
    /// The word that Route 53's refusals use.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Weighted(_) => "weighted",
            Self::Latency(_) => "latency",
        }
    }
}

/// Another record set of the same zone that answers in this one's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasTarget {
    pub zone_id: String,
    pub name: Name,
    pub evaluate_target_health: bool,
}

/// What a record set answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// TTL in seconds; values as the caller wrote them.
    Values {
        ttl: u32,
        values: Vec<String>,
    },
    Alias(AliasTarget),
}

/// One record set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSet {
    pub key: RecordKey,
    pub routing: Routing,
    pub content: Content,
    pub health_check_id: Option<String>,
}

impl RecordSet {
    /// Whether a DELETE that names `asked` may remove `self`: every field the
    /// same, values in any order.
    ///
    /// Source: API reference, ChangeResourceRecordSets: "To delete a resource
    /// record set, you must specify all the same values that you specified
    /// when you created it."
    #[must_use]
    pub fn matches(&self, asked: &RecordSet) -> bool {
        self.key == asked.key
            && self.routing == asked.routing
            && self.health_check_id == asked.health_check_id
            && match (&self.content, &asked.content) {
                (
                    Content::Values { ttl, values },
                    Content::Values { ttl: asked_ttl, values: asked_values },
                ) => {
                    ttl == asked_ttl
                        && canonical(self.key.kind, values) == canonical(self.key.kind, asked_values)
                }
                (mine, asked) => mine == asked,
            }
    }

    /// The TTL in seconds; `None` for an alias, which takes its target's.
    #[must_use]
    pub fn ttl(&self) -> Option<u32> {
        match &self.content {
            Content::Values { ttl, .. } => Some(*ttl),
            Content::Alias(_) => None,
        }
    }
}

fn canonical(kind: RecordType, values: &[String]) -> Vec<String> {
    let mut canonical: Vec<String> = values.iter().map(|value| canonical_value(kind, value)).collect();
    canonical.sort();
    canonical
}

/// One spelling a value: addresses and names have several, texts just one.
#[must_use]
pub fn canonical_value(kind: RecordType, value: &str) -> String {
    match kind {
        RecordType::Aaaa => value.parse::<Ipv6Addr>().map_or_else(|_| value.to_owned(), |ip| ip.to_string()),
        RecordType::Cname | RecordType::Ns => {
            Name::parse(value).map_or_else(|_| value.to_owned(), |name| name.to_string())
        }
        RecordType::A | RecordType::Soa | RecordType::Txt => value.to_owned(),
    }
}

/// What is wrong with `value` for its type, in Route 53's words; `None` if nothing.
///
/// Source: developer guide, "Supported DNS record types".
#[must_use]
pub fn value_problem(kind: RecordType, value: &str) -> Option<String> {
    let problem = match kind {
        RecordType::A => value
            .parse::<Ipv4Addr>()
            .err()
            .map(|_| "ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address)"),
        RecordType::Aaaa => value
            .parse::<Ipv6Addr>()
            .err()
            .map(|_| "AAAARRDATAIllegalIPv6Address (Value is not a valid IPv6 address)"),
        RecordType::Cname => Name::parse(value)
            .err()
            .map(|_| "CNAMERRDATAIllegalDomainName (Value is not a valid domain name)"),
        RecordType::Ns => {
            Name::parse(value).err().map(|_| "NSRRDATAIllegalDomainName (Value is not a valid domain name)")
        }
        RecordType::Soa => {
            Soa::parse(value).is_none().then_some("SOARRDATAIllegal (Value is not a valid SOA record)")
        }
        RecordType::Txt => parse_txt(value).err().map(|error| match error {
            TxtError::NotQuoted => "InvalidCharacterString (Value should be enclosed in quotation marks)",
            TxtError::StringTooLong => "CharacterStringTooLong (Value is too long)",
            TxtError::ValueTooLong => "TXTRDATATooLong (Value is too long)",
            TxtError::BadEscape => "InvalidCharacterString (Value contains an invalid escape)",
        }),
    }?;
    Some(format!("Invalid Resource Record: 'FATAL problem: {problem} encountered with '{value}''"))
}

/// The fields of a start-of-authority value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soa {
    pub primary: Name,
    pub mailbox: Name,
    pub serial: u32,
    /// Refresh, retry, expire and minimum, in seconds.
    pub timers: [u32; 4],
}

impl Soa {
    /// Reads `primary mailbox serial refresh retry expire minimum`.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        let [primary, mailbox, serial, refresh, retry, expire, minimum] = words[..] else { return None };
        let number = |word: &str| word.parse::<u32>().ok();
        Some(Self {
            primary: Name::parse(primary).ok()?,
            mailbox: Name::parse(mailbox).ok()?,
            serial: number(serial)?,
            timers: [number(refresh)?, number(retry)?, number(expire)?, number(minimum)?],
        })
    }
}

/// Why a TXT value is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxtError {
    NotQuoted,
    /// One string above 255 bytes.
    StringTooLong,
    /// The whole above 4,000 characters.
    ValueTooLong,
    BadEscape,
}

/// The strings of a TXT value: each quoted, separated by spaces, `\"` and `\\`
/// and three-digit octal escapes understood.
///
/// Source: developer guide, "TXT record type" (255 characters a string, 4,000
/// a value).
///
/// # Errors
/// Says which rule is broken.
pub fn parse_txt(value: &str) -> Result<Vec<Vec<u8>>, TxtError> {
    if value.chars().count() > 4000 {
        return Err(TxtError::ValueTooLong);
    }
    let mut strings = Vec::new();
    let mut rest = value.trim().as_bytes();
    while !rest.is_empty() {
        let Some(inner) = rest.strip_prefix(b"\"") else { return Err(TxtError::NotQuoted) };
        let (string, after) = quoted(inner)?;
        if string.len() > 255 {
            return Err(TxtError::StringTooLong);
        }
        strings.push(string);
        rest = after.trim_ascii_start();
    }
    if strings.is_empty() { Err(TxtError::NotQuoted) } else { Ok(strings) }
}

/// Reads up to the closing quote; returns the string and what follows it.
fn quoted(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), TxtError> {
    let mut string = Vec::new();
    loop {
        match rest {
            [] => return Err(TxtError::NotQuoted),
            [b'"', after @ ..] => return Ok((string, after)),
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                string.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            [b'\\', escaped @ (b'"' | b'\\'), after @ ..] => {
                string.push(*escaped);
                rest = after;
            }
            [b'\\', ..] => return Err(TxtError::BadEscape),
            [byte, after @ ..] => {
                string.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn txt_strings_are_quoted_escaped_and_at_most_255_bytes() {
        assert_eq!(parse_txt(r#""a b" "c""#), Ok(vec![b"a b".to_vec(), b"c".to_vec()]));
        assert_eq!(parse_txt(r#""say \"hi\" \\ \101""#), Ok(vec![br#"say "hi" \ A"#.to_vec()]));
        assert_eq!(parse_txt("plain"), Err(TxtError::NotQuoted));
        assert_eq!(parse_txt("\"open"), Err(TxtError::NotQuoted));
        assert_eq!(parse_txt(r#""\x""#), Err(TxtError::BadEscape));
        assert!(parse_txt(&format!("\"{}\"", "a".repeat(255))).is_ok());
        assert_eq!(parse_txt(&format!("\"{}\"", "a".repeat(256))), Err(TxtError::StringTooLong));
        let long = format!("\"{}\" ", "a".repeat(250)).repeat(16);
        assert_eq!(parse_txt(&long), Err(TxtError::ValueTooLong));
    }

    #[test]
    fn values_are_checked_by_type() {
        assert_eq!(value_problem(RecordType::A, "10.0.0.1"), None);
        assert!(value_problem(RecordType::A, "::1").unwrap().contains("ARRDATAIllegalIPv4Address"));
        assert!(value_problem(RecordType::Aaaa, "10.0.0.1").unwrap().contains("AAAARRDATA"));
        assert!(value_problem(RecordType::Soa, "a b 1").is_some());
    }
}
