//! Names of things, valid by construction and cheap to clone.

use crate::domain::plan::Refusal;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A name that breaks its rule; `rule` says what a right one looks like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {rule}")]
pub struct InvalidName {
    pub kind: &'static str,
    pub text: String,
    pub rule: &'static str,
}

const LABEL_RULE: &str =
    "1 to 63 lower-case letters, digits and hyphens, not starting or ending with a hyphen";
const RULE_RULE: &str = "1 to 40 lower-case letters and underscores";
const DNS_RULE: &str =
    "labels of 1 to 63 letters, digits, hyphens or underscores joined by dots, 253 characters at most";

/// A text without NULs that is looked up more often than it is read: most comparisons end at its first bytes, without
/// a jump to the heap (a sixth of a simulation's time was spent there).
#[derive(Clone)]
struct Text {
    /// The first 16 bytes, big-endian, zeros after a shorter text: ordered as the bytes are.
    begins: u128,
    whole: Arc<str>,
}

impl Text {
    const INLINE: usize = u128::BITS as usize / 8;

    fn new(text: &str) -> Self {
        let mut begins = [0; Self::INLINE];
        for (to, from) in begins.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Self { begins: u128::from_be_bytes(begins), whole: text.into() }
    }

    /// What `begins` does not hold, of two of which one is longer. (Comparing two empty slices is not free: it
    /// is a call, and a slow one where it loads from no address with an empty mask.)
    fn rests<'a>(&'a self, other: &'a Self) -> Option<(&'a [u8], &'a [u8])> {
        let rest = |text: &'a Self| text.whole.as_bytes().get(Self::INLINE..).unwrap_or_default();
        (self.whole.len().max(other.whole.len()) > Self::INLINE).then(|| (rest(self), rest(other)))
    }
}

impl Ord for Text {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let rests = || self.rests(other).map_or(Ordering::Equal, |(own, others)| own.cmp(others));
        self.begins.cmp(&other.begins).then_with(rests)
    }
}

impl PartialOrd for Text {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Text {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.begins == other.begins && self.rests(other).is_none_or(|(own, others)| own == others)
    }
}

impl Eq for Text {}

/// As the text is hashed, because maps by name are asked by text.
impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.whole.hash(state);
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:expr, $valid:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Text);

        impl $name {
            /// # Errors
            /// `InvalidName` when the text breaks the rule of this kind of name.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                match $valid(text) {
                    Some(name) => Ok(Self(Text::new(&name))),
                    None => Err(InvalidName { kind: $kind, text: text.to_owned(), rule: $rule }),
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0.whole
            }
        }

        /// Ordered and equal as the text is: maps by name can be asked by text.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

name!(
    /// A region, such as `eu-west-1`. Regions are ranked by name where a rank is needed.
    RegionId, "region name", LABEL_RULE, label
);
name!(
    /// A service that Proxima fronts, such as `web`.
    ServiceId, "service name", LABEL_RULE, label
);
name!(
    /// A route, such as `web-api`.
    RouteId, "route name", LABEL_RULE, label
);
name!(
    /// One weighted set under a DNS name: the region whose users it serves in
    /// the global form, `all` in the simple form.
    EntryId, "entry name", LABEL_RULE, label
);
name!(
    /// A zone within a region, such as `eu-west-1a`: where crossing to another one costs.
    Zone, "zone name", LABEL_RULE, label
);
name!(
    /// A DNS name, lower case, without the final dot.
    DnsName, "DNS name", DNS_RULE, dns_name
);

name!(
    /// A safety rule as control records, metrics and logs spell it, such as `min_live`.
    RuleName, "rule name", RULE_RULE, rule
);

impl RuleName {
    /// The name of a rule of this build.
    pub fn of(rule: Refusal) -> Self {
        Self(Text::new(rule.as_str()))
    }
}

impl From<&RegionId> for EntryId {
    fn from(region: &RegionId) -> Self {
        Self(region.0.clone())
    }
}

fn label(text: &str) -> Option<String> {
    let valid = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    valid.then(|| text.to_owned())
}

fn rule(text: &str) -> Option<String> {
    let valid = (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    valid.then(|| text.to_owned())
}

fn dns_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label_ok = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    ((1..=253).contains(&name.len()) && name.split('.').all(label_ok)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_name_is_one_lower_case_label() {
        for (text, valid) in [
            ("eu-west-1", true),
            ("a", true),
            ("", false),
            ("EU-west-1", false),
            ("-eu", false),
            ("eu-", false),
            ("eu.west", false),
            ("eu west", false),
        ] {
            assert_eq!(RegionId::parse(text).is_ok(), valid, "{text:?}");
        }
        assert!(RegionId::parse(&"a".repeat(64)).is_err());
    }

    #[test]
    fn names_are_ordered_and_hashed_as_their_texts_are() {
        use std::collections::{BTreeSet, HashSet};
        let texts = [
            "a",
            "a-",
            "a0",
            "ab",
            "eu-central-1",
            "eu-central-12",
            "eu-central-123456",
            "eu-central-12345",
            "eu-central-1234567",
            "eu-central-1234566",
            "eu-central-123-567",
            "z",
        ];
        let name = |text: &str| RegionId(Text::new(text));
        for (a, b) in texts.iter().flat_map(|a| texts.iter().map(move |b| (*a, *b))) {
            assert_eq!(name(a).cmp(&name(b)), a.cmp(b), "{a} {b}");
            assert_eq!(name(a) == name(b), a == b, "{a} {b}");
        }
        let (tree, hashed): (BTreeSet<_>, HashSet<_>) = (texts.map(name).into(), texts.map(name).into());
        for text in texts {
            assert!(tree.contains(text) && hashed.contains(text), "{text}");
        }
    }

    #[test]
    fn a_dns_name_loses_its_case_and_its_final_dot() {
        assert_eq!(DnsName::parse("WWW.Example.com.").unwrap().as_str(), "www.example.com");
        assert!(DnsName::parse("www..example.com").is_err());
        assert!(DnsName::parse(".").is_err());
        assert!(DnsName::parse(&format!("{}.com", "a".repeat(64))).is_err());
    }
}
