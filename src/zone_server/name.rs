//! DNS names as Route 53 keeps them: fully qualified, lower case, one spelling.

use std::cmp::Ordering;
use std::fmt;

/// A fully qualified, lower-case DNS name; always ends in a dot.
///
/// Order is Route 53's: the labels from the last to the first, dots included, as
/// bytes (`com.`, `example.com.`, `a-b.example.com.`, `a.example.com.`: a hyphen
/// comes before the dot).
/// Source: API reference, ListResourceRecordSets, "Sort order".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(String);

/// Why a text is no name. Source: developer guide, "DNS domain name format".
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    #[error("FATAL problem: DomainNameEmpty (Domain name is empty) encountered with ''")]
    Empty,
    #[error("FATAL problem: DomainNameTooLong (Domain name is too long) encountered with '{0}'")]
    TooLong(String),
    #[error("FATAL problem: DomainLabelEmpty (Domain label is empty) encountered with '{0}'")]
    LabelEmpty(String),
    #[error("FATAL problem: DomainLabelTooLong (Domain label is too long) encountered with '{0}'")]
    LabelTooLong(String),
    #[error(
        "FATAL problem: UnsupportedCharacter (Value contains unsupported characters) encountered with '{0}'"
    )]
    Unsupported(String),
}

impl Name {
    /// The name that `text` spells, with or without the last dot, in any case.
    ///
    /// Letters, digits, `-` and `_` only: wildcards and octal escapes are
    /// more than this server carries, so they are refused, not misread.
    ///
    /// # Errors
    /// One variant a rule of the format.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.is_empty() {
            return Err(NameError::Empty);
        }
        if bare.len() > 254 {
            return Err(NameError::TooLong(text.to_owned()));
        }
        for label in bare.split('.') {
            if label.is_empty() {
                return Err(NameError::LabelEmpty(text.to_owned()));
            }
            if label.len() > 63 {
                return Err(NameError::LabelTooLong(text.to_owned()));
            }
            if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
                return Err(NameError::Unsupported(text.to_owned()));
            }
        }
        Ok(Self(format!("{}.", bare.to_ascii_lowercase())))
    }

    /// With the last dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this name is `zone` or lies below it.
    #[must_use]
    pub fn is_in(&self, zone: &Name) -> bool {
        self.0.strip_suffix(zone.as_str()).is_some_and(|above| above.is_empty() || above.ends_with('.'))
    }

    /// The labels from the last to the first, each with its dot: what Route 53 orders by.
    fn reversed(&self) -> impl Iterator<Item = u8> {
        let labels = self.0.trim_end_matches('.').rsplit('.');
        labels.flat_map(|label| label.bytes().chain(std::iter::once(b'.')))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.reversed().cmp(other.reversed())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_compares_labels_from_the_last() {
        let sorted = [
            "example.test.",
            "b.example.test.",
            "a.b.example.test.",
            "www.example.test.",
            "_proxima.www.example.test.",
            "eu-west-1.www.example.test.",
            "eu.www.example.test.",
            "a.eu.www.example.test.",
            "z.test.",
        ];
        let mut names: Vec<Name> = sorted.iter().rev().map(|text| Name::parse(text).unwrap()).collect();
        names.sort();
        let texts: Vec<&str> = names.iter().map(Name::as_str).collect();
        assert_eq!(texts, sorted);
    }

    #[test]
    fn one_spelling_whatever_the_case_and_the_last_dot() {
        assert_eq!(Name::parse("WWW.Example.test"), Name::parse("www.example.TEST."));
    }

    #[test]
    fn a_longer_label_is_not_a_child() {
        let zone = Name::parse("example.test").unwrap();
        assert!(Name::parse("a.example.test").unwrap().is_in(&zone));
        assert!(zone.is_in(&zone));
        assert!(!Name::parse("notexample.test").unwrap().is_in(&zone));
    }

    #[test]
    fn bad_names_are_refused() {
        for text in ["", ".", "a..test", "*.test", "a b.test", "\\052.test"] {
            assert!(Name::parse(text).is_err(), "{text:?}");
        }
        assert!(Name::parse(&format!("{}.test", "a".repeat(64))).is_err());
    }
}
