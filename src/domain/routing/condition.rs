//! What a route asks of a request besides host and path.

use super::action::Scheme;
use super::fields::{FieldName, FieldValue};
use super::pattern::Pattern;
use std::fmt;

/// What routes look at of a request.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Lower case, without port and final dot; empty when the request names none.
    pub host: &'a str,
    /// In its normal form.
    pub path: &'a str,
    pub scheme: Scheme,
    pub method: &'a str,
    /// Without the question mark; empty when there is none.
    pub query: &'a str,
    pub headers: &'a dyn RequestHeaders,
}

/// The headers of a request, in whatever form the transport keeps them.
pub trait RequestHeaders {
    /// Whether any line of this name (lower case) has a value that passes.
    fn any(&self, name: &str, passes: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

/// A request method; case-sensitive, as RFC 9110 has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Method(String);

impl Method {
    /// `None` when it is not 1 to 24 upper-case letters, digits and hyphens.
    pub fn parse(text: &str) -> Option<Self> {
        let right = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
        ((1..=24).contains(&text.len()) && text.bytes().all(right)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Methods that a route takes, at least one; `HEAD` is not meant by `GET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods(Vec<Method>);

impl Methods {
    /// `None` when there is none.
    pub fn new(mut methods: Vec<Method>) -> Option<Self> {
        methods.sort();
        methods.dedup();
        (!methods.is_empty()).then_some(Self(methods))
    }

    fn contains(&self, method: &str) -> bool {
        self.0.iter().any(|known| known.0 == method)
    }
}

/// What a header's value must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueTest {
    Present,
    Exact(FieldValue),
    /// The whole value.
    Regex(Pattern),
}

impl ValueTest {
    pub fn passes(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(exact) => exact.as_str().as_bytes() == value,
            Self::Regex(pattern) => pattern.matches(value),
        }
    }
}

/// A header that must be there; of several lines of its name, one must pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: FieldName,
    pub test: ValueTest,
}

/// What a query parameter must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParamTest {
    Present,
    Exact(String),
}

/// A query parameter that must be there; of several of its name, one must pass.
///
/// Names and values are compared decoded: percent escapes, and `+` for a blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    pub name: String,
    pub test: ParamTest,
}

/// Everything that a route asks for besides host and path; all of it must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    pub scheme: Option<Scheme>,
    pub methods: Option<Methods>,
    pub headers: Vec<Field>,
    pub query: Vec<Param>,
}

impl Conditions {
    /// How many there are: of two routes that match, more of them win.
    pub fn count(&self) -> usize {
        usize::from(self.scheme.is_some())
            + usize::from(self.methods.is_some())
            + self.headers.len()
            + self.query.len()
    }

    pub fn hold(&self, asked: &Asked<'_>) -> bool {
        self.scheme.is_none_or(|scheme| scheme == asked.scheme)
            && self.methods.as_ref().is_none_or(|methods| methods.contains(asked.method))
            && self.headers.iter().all(|field| field.holds(asked.headers))
            && self.query.iter().all(|param| param.holds(asked.query))
    }

    /// The first condition that a request does not fulfil, in words.
    pub(super) fn broken_by(&self, asked: &Asked<'_>) -> Option<String> {
        if let Some(scheme) = self.scheme.filter(|scheme| *scheme != asked.scheme) {
            return Some(format!("scheme {}", scheme.as_str()));
        }
        if let Some(methods) = self.methods.as_ref().filter(|methods| !methods.contains(asked.method)) {
            let names: Vec<&str> = methods.0.iter().map(Method::as_str).collect();
            return Some(format!("method {}", names.join(" or ")));
        }
        if let Some(field) = self.headers.iter().find(|field| !field.holds(asked.headers)) {
            return Some(match &field.test {
                ValueTest::Present => format!("header {}", field.name),
                ValueTest::Exact(value) => format!("header {}: {}", field.name, value.as_str()),
                ValueTest::Regex(pattern) => format!("header {} matching {}", field.name, pattern.as_str()),
            });
        }
        let param = self.query.iter().find(|param| !param.holds(asked.query))?;
        Some(match &param.test {
            ParamTest::Present => format!("parameter {}", param.name),
            ParamTest::Exact(value) => format!("parameter {}={value}", param.name),
        })
    }

    /// Whether every request that passes these passes `other`, too; `false` also when that is not known.
    pub(super) fn imply(&self, other: &Self) -> bool {
        let methods = match (&self.methods, &other.methods) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(other)) => own.0.iter().all(|method| other.contains(&method.0)),
        };
        methods
            && (other.scheme.is_none() || self.scheme == other.scheme)
            && other.headers.iter().all(|of| self.headers.iter().any(|own| own.implies(of)))
            && other.query.iter().all(|of| self.query.iter().any(|own| own.implies(of)))
    }

    /// Whether a request that carries each header and parameter once can pass both; `true` also when
    /// that is not known.
    pub(super) fn meet(&self, other: &Self) -> bool {
        let methods = match (&self.methods, &other.methods) {
            (Some(own), Some(other)) => own.0.iter().any(|method| other.contains(&method.0)),
            _ => true,
        };
        methods
            && (self.scheme.is_none() || other.scheme.is_none() || self.scheme == other.scheme)
            && self.headers.iter().all(|own| other.headers.iter().all(|of| own.meets(of)))
            && self.query.iter().all(|own| other.query.iter().all(|of| own.meets(of)))
    }
}

impl Field {
    fn holds(&self, headers: &dyn RequestHeaders) -> bool {
        headers.any(self.name.as_str(), &mut |value| self.test.passes(value))
    }

    fn implies(&self, other: &Self) -> bool {
        self.name == other.name
            && match (&self.test, &other.test) {
                (_, ValueTest::Present) => true,
                (ValueTest::Exact(value), ValueTest::Regex(pattern)) => {
                    pattern.matches(value.as_str().as_bytes())
                }
                (own, other) => own == other,
            }
    }

    fn meets(&self, other: &Self) -> bool {
        self.name != other.name
            || match (&self.test, &other.test) {
                (ValueTest::Exact(own), ValueTest::Exact(other)) => own == other,
                (ValueTest::Exact(value), ValueTest::Regex(pattern))
                | (ValueTest::Regex(pattern), ValueTest::Exact(value)) => {
                    pattern.matches(value.as_str().as_bytes())
                }
                _ => true,
            }
    }
}

impl Param {
    fn holds(&self, query: &str) -> bool {
        query.split('&').any(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            same(name, &self.name)
                && match &self.test {
                    // `&&` and an empty query hold no parameter.
                    ParamTest::Present => !pair.is_empty(),
                    ParamTest::Exact(exact) => same(value, exact),
                }
        })
    }

    fn implies(&self, other: &Self) -> bool {
        self.name == other.name && (other.test == ParamTest::Present || self.test == other.test)
    }

    fn meets(&self, other: &Self) -> bool {
        match (&self.test, &other.test) {
            (ParamTest::Exact(own), ParamTest::Exact(of)) => self.name != other.name || own == of,
            _ => true,
        }
    }
}

/// Whether a piece of a query says `text`.
fn same(encoded: &str, text: &str) -> bool {
    decoded(encoded.as_bytes()).eq(text.bytes())
}

/// Octets of a query's piece; an escape that is none stands for itself.
fn decoded(mut rest: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    std::iter::from_fn(move || {
        let (octet, used) = match rest {
            [] => return None,
            [b'+', ..] => (b' ', 1),
            [b'%', high, low, ..] => match digit(*high).zip(digit(*low)) {
                Some((high, low)) => (high << 4 | low, 3),
                None => (b'%', 1),
            },
            [plain, ..] => (*plain, 1),
        };
        rest = rest.get(used..).unwrap_or_default();
        Some(octet)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Headers as a list.
    impl RequestHeaders for Vec<(String, String)> {
        fn any(&self, name: &str, passes: &mut dyn FnMut(&[u8]) -> bool) -> bool {
            self.iter().any(|(known, value)| known == name && passes(value.as_bytes()))
        }
    }

    pub fn field(name: &str, test: ValueTest) -> Field {
        Field { name: FieldName::parse(name).unwrap(), test }
    }

    pub fn exact(value: &str) -> ValueTest {
        ValueTest::Exact(FieldValue::parse(value).unwrap())
    }

    fn regex(text: &str) -> ValueTest {
        ValueTest::Regex(Pattern::parse(text).unwrap())
    }

    #[test]
    fn one_line_of_a_header_must_pass() {
        let headers: Vec<_> = [("x-a", "1"), ("x-a", "22"), ("x-b", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        for (condition, holds) in [
            (field("X-A", ValueTest::Present), true),
            (field("x-a", exact("22")), true),
            (field("x-a", exact("2")), false),
            (field("x-a", regex("[0-9]{2}")), true),
            (field("x-a", regex("[0-9]{3}")), false),
            (field("x-b", ValueTest::Present), true),
            (field("x-b", exact("")), true),
            (field("x-c", ValueTest::Present), false),
        ] {
            assert_eq!(condition.holds(&headers), holds, "{condition:?}");
        }
    }

    #[test]
    fn parameters_are_compared_decoded() {
        let param = |name: &str, value: Option<&str>| Param {
            name: name.to_owned(),
            test: value.map_or(ParamTest::Present, |value| ParamTest::Exact(value.to_owned())),
        };
        for (query, name, value, holds) in [
            ("a=1&b=2", "b", Some("2"), true),
            ("a=1&a=2", "a", Some("2"), true),
            ("a=1", "a", Some("2"), false),
            ("a", "a", None, true),
            ("a", "a", Some(""), true),
            ("ab=1", "a", None, false),
            ("%61=%3d+%C3%A4", "a", Some("= \u{e4}"), true),
            ("a=%zz%4", "a", Some("%zz%4"), true),
            ("", "", None, false),
            ("a=b=c", "a", Some("b=c"), true),
        ] {
            assert_eq!(param(name, value).holds(query), holds, "{query:?} {name:?} {value:?}");
        }
    }

    #[test]
    fn every_condition_must_hold() {
        let conditions = Conditions {
            scheme: Some(Scheme::Https),
            methods: Methods::new(vec![Method::parse("GET").unwrap()]),
            headers: vec![field("x-a", exact("1"))],
            query: vec![Param { name: "q".to_owned(), test: ParamTest::Present }],
        };
        let (https, get, q, x_a) = (Scheme::Https, "GET", "q", "1");
        for (scheme, method, query, value, holds) in [
            (https, get, q, x_a, true),
            (Scheme::Http, get, q, x_a, false),
            (https, "HEAD", q, x_a, false),
            (https, get, "p", x_a, false),
            (https, get, q, "2", false),
        ] {
            let headers = vec![("x-a".to_owned(), value.to_owned())];
            let asked = Asked { host: "", path: "/", scheme, method, query, headers: &headers };
            assert_eq!(conditions.hold(&asked), holds, "{scheme:?} {method} {query} {value}");
        }
        assert_eq!(conditions.count(), 4);
    }

    #[test]
    fn what_implies_and_what_meets_is_known() {
        let methods = |list: &[&str]| Conditions {
            methods: Methods::new(list.iter().map(|m| Method::parse(m).unwrap()).collect()),
            ..Conditions::default()
        };
        let header =
            |test: ValueTest| Conditions { headers: vec![field("x-a", test)], ..Conditions::default() };
        let scheme = |scheme| Conditions { scheme: Some(scheme), ..Conditions::default() };
        for (one, other, implies, meets) in [
            (methods(&["GET"]), Conditions::default(), true, true),
            (Conditions::default(), methods(&["GET"]), false, true),
            (methods(&["GET"]), methods(&["GET", "HEAD"]), true, true),
            (methods(&["GET"]), methods(&["HEAD"]), false, false),
            (header(exact("1")), header(ValueTest::Present), true, true),
            (header(ValueTest::Present), header(exact("1")), false, true),
            (header(exact("1")), header(exact("2")), false, false),
            (header(exact("1")), header(regex("[0-9]")), true, true),
            (header(exact("a")), header(regex("[0-9]")), false, false),
            (scheme(Scheme::Http), scheme(Scheme::Https), false, false),
            (scheme(Scheme::Http), scheme(Scheme::Http), true, true),
        ] {
            assert_eq!((one.imply(&other), one.meet(&other)), (implies, meets), "{one:?} {other:?}");
        }
    }
}
