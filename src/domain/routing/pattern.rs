//! Regular expressions over whole texts, bounded in size.

use regex::bytes::{Regex, RegexBuilder};
use std::cmp::Ordering;

/// Bytes that one compiled expression may take: generous for paths, too small for `(a{1000}){1000}`.
const COMPILED_BYTES_MAX: usize = 256 * 1024;
/// Parentheses within parentheses.
const NEST_MAX: u32 = 32;

/// A regular expression that matches a whole text or nothing; equal when written equally.
///
/// The time of a match is linear in the length of the text, whatever the expression. Classes such as
/// `\w` mean ASCII: paths hold nothing else, and those of Unicode are a hundred times larger.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// Why a regular expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternProblem {
    #[error("{0}")]
    Syntax(String),
    #[error("it would take more than {COMPILED_BYTES_MAX} bytes once compiled")]
    TooLarge,
}

impl Pattern {
    /// # Errors
    /// `Syntax` with the parser's words in one line, `TooLarge` when it could cost too much memory.
    pub fn parse(text: &str) -> Result<Self, PatternProblem> {
        // On its own first: `a)(b`, or `(?x)a#`, would mean something else between our parentheses.
        if text.contains(['(', ')', '#']) {
            build(text)?;
        }
        let regex = build(&anchored(text))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// `text` with what matched, which is all of it, replaced; `$1` and `${name}` stand for groups.
    pub fn replaced(&self, text: &str, replacement: &str) -> String {
        let replaced = self.regex.replace(text.as_bytes(), replacement.as_bytes());
        String::from_utf8_lossy(&replaced).into_owned()
    }

    /// The groups that a replacement may name: how many by number, and the names.
    pub fn has_group(&self, name: &str) -> bool {
        let number: Result<usize, _> = name.parse();
        match number {
            Ok(number) => number < self.regex.captures_len(),
            Err(_) => self.regex.capture_names().flatten().any(|known| known == name),
        }
    }

    /// The expression with its anchors, for a set.
    pub(super) fn anchored(&self) -> &str {
        self.regex.as_str()
    }

    /// Characters that every match begins with; perhaps fewer than there are.
    pub(super) fn literal_start(&self) -> &str {
        let (text, end) = self.literal();
        match self.text.get(end..).and_then(|rest| rest.chars().next()) {
            // The last character may be missing.
            Some('?' | '*' | '{') => text.char_indices().next_back().map_or("", |(at, _)| &text[..at]),
            _ => text,
        }
    }

    /// `Some(start)`: every text that begins with `start` matches.
    pub(super) fn covers_from(&self) -> Option<&str> {
        let (text, end) = self.literal();
        let rest = self.text.get(end..).unwrap_or_default();
        matches!(rest, ".*" | ".*$" | "(.*)" | "(.*)$").then_some(text)
    }

    /// The plain characters that it begins with, and where they end.
    fn literal(&self) -> (&str, usize) {
        // An alternative may begin in another way.
        if self.text.contains('|') || self.text.contains("(?") {
            return ("", 0);
        }
        let start = usize::from(self.text.starts_with('^'));
        let meta = |c: char| "\\.+*?()|[]{}^$".contains(c);
        let end =
            self.text.get(start..).and_then(|rest| rest.find(meta)).map_or(self.text.len(), |at| start + at);
        (self.text.get(start..end).unwrap_or_default(), end)
    }
}

fn anchored(text: &str) -> String {
    format!("^(?:{text})$")
}

fn build(text: &str) -> Result<Regex, PatternProblem> {
    let mut builder = RegexBuilder::new(text);
    builder
        .unicode(false)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NEST_MAX);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternProblem::TooLarge,
        // The parser draws the place in several lines; its last one says what is wrong.
        other => {
            let text = other.to_string();
            let last = text.lines().next_back().unwrap_or_default();
            PatternProblem::Syntax(last.trim_start_matches("error: ").to_owned())
        }
    })
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn a_pattern_matches_the_whole_text_or_nothing() {
        for (text, path, matches) in [
            ("/users/[0-9]+", "/users/7", true),
            ("/users/[0-9]+", "/users/7/x", false),
            ("/users/[0-9]+", "/x/users/7", false),
            ("/a|/b", "/b", true),
            ("/a|/b", "/bc", false),
            ("^/a$", "/a", true),
        ] {
            assert_eq!(pattern(text).matches(path.as_bytes()), matches, "{text} {path}");
        }
    }

    #[test]
    fn what_is_wrong_or_would_be_huge_is_refused() {
        let problem = Pattern::parse("/a(").unwrap_err().to_string();
        assert_eq!(problem, "unclosed group");
        assert!(matches!(Pattern::parse("/a)(b"), Err(PatternProblem::Syntax(_))));
        assert_eq!(Pattern::parse("(a{1000}){1000}"), Err(PatternProblem::TooLarge));
    }

    #[test]
    fn what_every_match_begins_with_is_known_or_nothing_is_said() {
        for (text, start, covers) in [
            ("/users/[0-9]+", "/users/", None),
            ("/users/?", "/users", None),
            ("/users/.*", "/users/", Some("/users/")),
            ("^/users/(.*)$", "/users/", Some("/users/")),
            (".*", "", Some("")),
            ("/a|/b.*", "", None),
            ("(?i)/a.*", "", None),
            ("/a\\.b", "/a", None),
            ("/a+", "/a", None),
            ("/a{0,2}", "/", None),
            ("/a.*b", "/a", None),
        ] {
            let pattern = pattern(text);
            assert_eq!((pattern.literal_start(), pattern.covers_from()), (start, covers), "{text}");
        }
    }

    #[test]
    fn groups_are_known_by_number_and_by_name() {
        let pattern = pattern("/(?P<kind>[a-z]+)/([0-9]+)");
        for (name, known) in [("0", true), ("2", true), ("3", false), ("kind", true), ("other", false)] {
            assert_eq!(pattern.has_group(name), known, "{name}");
        }
        assert_eq!(pattern.replaced("/user/7", "/$2/${kind}"), "/7/user");
    }
}
