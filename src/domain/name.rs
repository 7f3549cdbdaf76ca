//! Names of things, valid by construction and cheap to clone.

use crate::domain::plan::Refusal;
use serde::{Deserialize, Serialize};
use std::fmt;
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

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:expr, $valid:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// # Errors
            /// `InvalidName` when the text breaks the rule of this kind of name.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                match $valid(text) {
                    Some(name) => Ok(Self(name.into())),
                    None => Err(InvalidName { kind: $kind, text: text.to_owned(), rule: $rule }),
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
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
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
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
        Self(rule.as_str().into())
    }
}

impl From<&RegionId> for EntryId {
    fn from(region: &RegionId) -> Self {
        Self(Arc::clone(&region.0))
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
    fn a_dns_name_loses_its_case_and_its_final_dot() {
        assert_eq!(DnsName::parse("WWW.Example.com.").unwrap().as_str(), "www.example.com");
        assert!(DnsName::parse("www..example.com").is_err());
        assert!(DnsName::parse(".").is_err());
        assert!(DnsName::parse(&format!("{}.com", "a".repeat(64))).is_err());
    }
}
