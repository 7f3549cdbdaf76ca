//! Paths: their normal form, and the three ways in which a route can ask for one.
//!
//! Source: RFC 3986, 3.3 (segments), 5.2.4 (dot segments), 6.2.2 (normal form).

use super::pattern::Pattern;
use std::borrow::Cow;

/// Why a path has no normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    #[error("the path does not begin with \"/\"")]
    Relative,
    #[error("a percent sign in the path is not followed by two hexadecimal digits")]
    Escape,
    #[error("the path climbs above its root")]
    AboveRoot,
    #[error("the path may be read in several ways: //, an encoded slash, or dots with parameters")]
    Ambiguous,
}

/// What becomes of paths that a service may read in another way than the routes did.
///
/// `/a//b`, `/a%2Fb` and `/a/..;/b` are paths of their own by RFC 3986, but some servers merge
/// slashes, decode `%2F` or cut parameters off: behind them, `//admin` is `/admin`, and a rule of the
/// route for `/admin` was never asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AmbiguousPaths {
    #[default]
    Pass,
    Refuse,
}

impl AmbiguousPaths {
    /// Checks a path in its normal form.
    ///
    /// # Errors
    /// `Ambiguous`.
    pub fn check(self, path: &str) -> Result<(), PathProblem> {
        if self == Self::Refuse && is_ambiguous(path) { Err(PathProblem::Ambiguous) } else { Ok(()) }
    }
}

fn is_ambiguous(path: &str) -> bool {
    let bytes = path.as_bytes();
    let encoded = |triple: &[u8]| matches!(triple, b"%2F" | b"%5C" | b"%00");
    let dots = |segment: &str| {
        let name = segment.split_once(';').map(|(name, _)| name);
        matches!(name, Some("" | "." | ".."))
    };
    bytes.windows(2).any(|pair| pair == b"//")
        || bytes.contains(&b'\\')
        || bytes.contains(&b'%') && bytes.windows(3).any(encoded)
        || bytes.contains(&b';') && path.split('/').any(dots)
}

/// The one spelling of a path that routes compare and services get.
///
/// Percent-encoded letters, digits and `-._~` are decoded, the digits of all other escapes
/// written in upper case, and dot segments, encoded ones too, removed. `%2F` and `%5C` stay
/// encoded: decoded they would make segments that the client did not send. `//` stays, since
/// services may tell it from `/`. The `*` of `OPTIONS *` is its own normal form.
///
/// Borrowed when the path is in its normal form already. The query is no part of it.
///
/// # Errors
/// `AboveRoot` for `/..` and the like. RFC 3986 would clamp it to the root, but no honest
/// client sends it, and what is refused here need not be read in the same way by every
/// service behind. `Escape`, `Relative`: it is no path at all.
pub fn normal_path(path: &str) -> Result<Cow<'_, str>, PathProblem> {
    if path == "*" {
        return Ok(Cow::Borrowed(path));
    }
    if !path.starts_with('/') {
        return Err(PathProblem::Relative);
    }
    let bytes = path.as_bytes();
    if !bytes.contains(&b'%') && !bytes.windows(2).any(|pair| pair == b"/.") {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = unreserved_decoded(path)?;
    let normal = without_dots(&decoded)?;
    Ok(if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) })
}

/// RFC 3986, 6.2.2.1 and 6.2.2.2.
fn unreserved_decoded(path: &str) -> Result<String, PathProblem> {
    let mut out = String::with_capacity(path.len());
    let mut pieces = path.split('%');
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).ok_or(PathProblem::Escape)?;
        // `from_str_radix` would take a sign.
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(PathProblem::Escape);
        }
        let octet = u8::from_str_radix(digits, 16).map_err(|_| PathProblem::Escape)?;
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push('%');
            out.push_str(&digits.to_ascii_uppercase());
        }
        out.push_str(rest);
    }
    Ok(out)
}

/// RFC 3986, 5.2.4, but for climbing above the root.
fn without_dots(path: &str) -> Result<String, PathProblem> {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => out.truncate(out.rfind('/').ok_or(PathProblem::AboveRoot)?),
            _ => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
        }
        // A dot segment at the end stands for the folder itself.
        if segments.peek().is_none() {
            out.push('/');
        }
    }
    Ok(out)
}

/// A path as the configuration may write it: in its normal form, and octets beyond ASCII encoded.
fn written(text: &str) -> Option<String> {
    let plain = |c: char| !c.is_control() && !matches!(c, '?' | '#' | ' ' | '\\');
    if !text.starts_with('/') || !text.chars().all(plain) {
        return None;
    }
    let mut ascii = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii() {
            ascii.push(char::from(octet));
        } else {
            ascii.push_str(&format!("%{octet:02X}"));
        }
    }
    normal_path(&ascii).ok().map(Cow::into_owned)
}

/// One path, in its normal form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExactPath(String);

impl ExactPath {
    /// `None` when the text does not begin with `/`, holds `?`, `#`, `\` or a space, or has no normal form.
    pub fn parse(text: &str) -> Option<Self> {
        written(text).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A path prefix in its normal form; starts with `/` and ends with `/` only when it is the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// `None` when the text does not begin with `/`, holds `?`, `#`, `\` or a space, or has no normal form.
    pub fn parse(text: &str) -> Option<Self> {
        let path = written(text)?;
        let trimmed = path.trim_end_matches('/');
        Some(Self(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }))
    }

    /// `/`: every path.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        self.0 == "/" || self.rest(path).is_some()
    }

    /// What follows the prefix in a path that it matches: empty, or beginning with `/`.
    pub(super) fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.0 == "/" {
            return path.starts_with('/').then_some(path);
        }
        path.strip_prefix(self.0.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Which paths a route takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathPattern {
    Exact(ExactPath),
    /// The whole path.
    Regex(Pattern),
    Prefix(PathPrefix),
}

impl PathPattern {
    /// Every path.
    pub fn any() -> Self {
        Self::Prefix(PathPrefix::root())
    }

    /// Of a path in its normal form.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.0 == path,
            Self::Regex(pattern) => pattern.matches(path.as_bytes()),
            Self::Prefix(prefix) => prefix.matches(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_servers_read_in_several_ways_is_told_from_an_honest_one() {
        for (path, ambiguous) in [
            ("/", false),
            ("/a/b", false),
            ("/a/b/", false),
            ("/a%20b", false),
            ("/a;v=1/b", false),
            ("/a..;x/b", false),
            ("/100%25", false),
            ("//a", true),
            ("/a//b", true),
            ("/a%2Fb", true),
            ("/a%5Cb", true),
            ("/a\\b", true),
            ("/a%00", true),
            ("/a/..;/b", true),
            ("/a/.;x=1/b", true),
            ("/a/;/b", true),
        ] {
            assert_eq!(AmbiguousPaths::Refuse.check(path).is_err(), ambiguous, "{path}");
            assert_eq!(AmbiguousPaths::Pass.check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_path_has_one_spelling() {
        for (path, normal) in [
            ("/", "/"),
            ("*", "*"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/%61%2D%2e%5F%7e/b", "/a-._~/b"),
            ("/%c3%a4", "/%C3%A4"),
            // Decoded they would make other segments.
            ("/a%2fb", "/a%2Fb"),
            ("/a%5Cb", "/a%5Cb"),
            ("/a%2f..%2fb", "/a%2F..%2Fb"),
            // Decoded once, never twice.
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/a/./b", "/a/b"),
            ("/./a", "/a"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/b/../../c", "/c"),
            ("/a/..", "/"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            // No dot segments.
            ("/.well-known/x", "/.well-known/x"),
            ("/a/.../b", "/a/.../b"),
            ("/a/..b/.c", "/a/..b/.c"),
            ("/a/..;/b", "/a/..;/b"),
            // Empty segments are segments.
            ("//", "//"),
            ("//a//b", "//a//b"),
            ("/a//../b", "/a/b"),
            ("/a//.", "/a//"),
            ("//..", "/"),
        ] {
            assert_eq!(normal_path(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn what_is_no_path_or_leaves_its_root_is_refused() {
        for (path, problem) in [
            ("", PathProblem::Relative),
            ("a", PathProblem::Relative),
            ("**", PathProblem::Relative),
            ("%2Fa", PathProblem::Relative),
            ("/..", PathProblem::AboveRoot),
            ("/../a", PathProblem::AboveRoot),
            ("/a/../..", PathProblem::AboveRoot),
            ("/a/%2e%2e/%2E%2e/etc/passwd", PathProblem::AboveRoot),
            ("/.%2e/a", PathProblem::AboveRoot),
            ("/%", PathProblem::Escape),
            ("/%2", PathProblem::Escape),
            ("/%zz", PathProblem::Escape),
            ("/%+1", PathProblem::Escape),
            ("/%ä", PathProblem::Escape),
        ] {
            assert_eq!(normal_path(path), Err(problem), "{path}");
        }
    }

    #[test]
    fn a_normal_path_stays_as_it_is_without_a_copy() {
        for path in ["/a/b", "/a%2Fb", "/%C3%A4/x", "/.well-known/a", "//"] {
            assert!(matches!(normal_path(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn a_prefix_ends_between_two_segments() {
        for (prefix, path, rest) in [
            ("/api", "/api", Some("")),
            ("/api", "/api/", Some("/")),
            ("/api/", "/api/x", Some("/x")),
            ("/api", "/apiary", None),
            ("/api", "/API", None),
            ("/", "/x", Some("/x")),
            ("/", "/", Some("/")),
            ("/k\u{e4}se", "/k%C3%A4se/1", Some("/1")),
            ("/%7ebob", "/~bob", Some("")),
        ] {
            assert_eq!(PathPrefix::parse(prefix).unwrap().rest(path), rest, "{prefix} {path}");
        }
        for wrong in ["", "a", "/a?b", "/a#b", "/a b", "/a\\b", "/%zz", "/../a", "/a\nb"] {
            assert_eq!(PathPrefix::parse(wrong), None, "{wrong:?}");
            assert_eq!(ExactPath::parse(wrong), None, "{wrong:?}");
        }
    }
}
