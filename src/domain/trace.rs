//! The trace that a request belongs to, and the place of this edge in it.
//!
//! Knows the two headers as text, and no header map. Source: W3C Trace Context,
//! level 1 (recommendation of 23 November 2021): section 3.2 `traceparent`,
//! section 3.3 `tracestate`, section 4 what a hop may change.

use crate::domain::hash::{HashKey, siphash};
use std::fmt;

/// A trace, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

/// One step in a trace, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(u64);

/// What `traceparent` says: whose child a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    pub trace: TraceId,
    pub parent: SpanId,
    pub sampled: bool,
}

/// Length of a `traceparent` of version 00; later ones may go on after a dash.
const LENGTH: usize = 55;
/// Entries of a `tracestate`; section 3.3.1.1.
const STATE_ENTRIES_MAX: usize = 32;
/// Of a trace id, the bits that are random in whichever way it was made; level 2, section 2.2.4.
const RANDOM_BITS: u32 = 56;

impl TraceId {
    /// `None` for 0, which stands for no trace.
    pub const fn new(id: u128) -> Option<Self> {
        if id == 0 { None } else { Some(Self(id)) }
    }

    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Whether a share (0 to 1) of all traces has this one in it; alike wherever it is asked.
    pub fn falls_in(self, share: f64) -> bool {
        let random = self.0 & ((1 << RANDOM_BITS) - 1);
        (random as f64) < share * (1_u64 << RANDOM_BITS) as f64
    }
}

impl SpanId {
    /// `None` for 0, which stands for no span.
    pub const fn new(id: u64) -> Option<Self> {
        if id == 0 { None } else { Some(Self(id)) }
    }

    /// A step within this one, told apart by its name; the same for the same name.
    pub fn child(self, trace: TraceId, name: &str) -> Self {
        let trace = trace.0 as u64;
        // A keyed hash: two edges in one trace do not meet by the names that they share.
        Self(siphash(HashKey::new(self.0, trace), name.as_bytes()).max(1))
    }

    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl TraceParent {
    /// Reads the value of one `traceparent`; `None` for what has to be ignored.
    ///
    /// A later version is read as far as version 00 goes, as section 4.4 wants it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (head, rest) = bytes.split_at_checked(LENGTH)?;
        let [v1, v2, b'-', trace @ .., _, _, _] = head else { return None };
        let version = hex(&[*v1, *v2]).filter(|version| *version != 0xff)?;
        if !(rest.is_empty() || version > 0 && rest[0] == b'-') {
            return None;
        }
        let (trace, parent) = trace.split_at_checked(32)?;
        let parent = parent.strip_prefix(b"-")?;
        let flags = head.get(LENGTH - 3..)?.strip_prefix(b"-")?;
        Some(Self {
            trace: TraceId::new(hex(trace)?)?,
            parent: SpanId::new(u64::try_from(hex(parent)?).ok()?)?,
            sampled: hex(flags)? & 1 == 1,
        })
    }

    /// A trace of our own; `None` only for random numbers that are 0.
    pub fn begin(trace: u128, span: u64, share: f64) -> Option<Self> {
        let trace = TraceId::new(trace)?;
        Some(Self { trace, parent: SpanId::new(span)?, sampled: trace.falls_in(share) })
    }

    /// The same trace one step on: whoever comes next is the child of `span`.
    pub const fn with_parent(self, span: SpanId) -> Self {
        Self { parent: span, ..self }
    }
}

/// As `traceparent` spells it, in version 00.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.parent, u8::from(self.sampled))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Whether the lines of a `tracestate`, joined by commas, may go on as they are.
///
/// Keys that come twice may: section 3.3.1.3.1 leaves them to whoever wrote them.
pub fn state_is_valid(list: &str) -> bool {
    let members = || list.split(',').map(|member| member.trim_matches([' ', '\t']));
    let mut entries = 0;
    members().filter(|member| !member.is_empty()).all(|member| {
        entries += 1;
        let entry = member.split_once('=');
        entries <= STATE_ENTRIES_MAX && entry.is_some_and(|(key, value)| is_key(key) && is_value(value))
    })
}

/// `key` or `tenant@system`; section 3.3.1.3.1.
fn is_key(key: &str) -> bool {
    let digit_first = |part: &str, most: usize| {
        let tail = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/".contains(&b);
        (1..=most).contains(&part.len())
            && part.bytes().all(tail)
            && part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let letter_first =
        |part: &str, most| digit_first(part, most) && part.starts_with(|c: char| c.is_ascii_lowercase());
    match key.split_once('@') {
        Some((tenant, system)) => digit_first(tenant, 241) && letter_first(system, 14),
        None => letter_first(key, 256),
    }
}

/// Printable, without comma and equals sign; spaces at its end are cut off before.
fn is_value(value: &str) -> bool {
    let right = |b: u8| (0x20..=0x7e).contains(&b) && b != b',' && b != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(right)
}

/// A number in lower-case hexadecimal digits, which the recommendation wants.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        number.checked_mul(16)?.checked_add(value.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_parent_is_read_as_the_recommendation_says() {
        for (text, sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-00"), Some(false)),
            // Flags of later levels say nothing of sampling.
            (format!("00-{TRACE}-{SPAN}-02"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-ff"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-then"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01-"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01.what"), None),
            (format!("00-{TRACE}-{SPAN}-01-more"), None),
            (format!("00-{TRACE}-{SPAN}-01-"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("0X-{TRACE}-{SPAN}-01"), None),
            (format!("00-{TRACE}-{SPAN}-0g"), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (format!("00-{TRACE}-{SPAN}"), None),
            (format!("00-{TRACE}{SPAN}--01"), None),
            (format!("00_{TRACE}-{SPAN}-01"), None),
            (format!("00-{TRACE}-{SPAN}+01"), None),
            (format!("00-{TRACE}-{SPAN}-é"), None),
            (String::new(), None),
        ] {
            assert_eq!(TraceParent::parse(&text).map(|parent| parent.sampled), sampled, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same_and_one_octet_less_is_nothing() {
        bolero::check!().with_type::<(u128, u64, bool)>().for_each(|(trace, span, sampled)| {
            let (Some(trace), Some(parent)) = (TraceId::new(*trace), SpanId::new(*span)) else { return };
            let parent = TraceParent { trace, parent, sampled: *sampled };
            let text = parent.to_string();
            assert_eq!((text.len(), TraceParent::parse(&text)), (LENGTH, Some(parent)));
            assert_eq!(TraceParent::parse(&text[..LENGTH - 1]), None);
        });
    }

    #[test]
    fn no_text_panics_and_what_is_read_is_what_stands_there() {
        bolero::check!().with_type::<String>().for_each(|text| {
            if let Some(parent) = TraceParent::parse(text) {
                assert_eq!(text[2..LENGTH - 2], parent.to_string()[2..LENGTH - 2]);
            }
            assert!(!state_is_valid(text) || text.is_ascii(), "{text:?}");
        });
    }

    #[test]
    fn a_state_goes_on_only_when_all_of_it_is_right() {
        let entries = |n: usize| (0..n).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        for (list, valid) in [
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE".to_owned(), true),
            ("fw529a3039@dt=FfAe , a=b".to_owned(), true),
            ("0tenant@system=1".to_owned(), true),
            ("a=b,,\t,c=d".to_owned(), true),
            (String::new(), true),
            ("a=b,a=c".to_owned(), true),
            (entries(32), true),
            (entries(33), false),
            (format!("{}=1", "k".repeat(256)), true),
            (format!("{}=1", "k".repeat(257)), false),
            (format!("{}@{}=1", "t".repeat(241), "s".repeat(14)), true),
            (format!("{}@s=1", "t".repeat(242)), false),
            (format!("t@{}=1", "s".repeat(15)), false),
            (format!("a={}", "v".repeat(256)), true),
            (format!("a={}", "v".repeat(257)), false),
            ("0a=1".to_owned(), false),
            ("A=1".to_owned(), false),
            ("a@0=1".to_owned(), false),
            ("a@b@c=1".to_owned(), false),
            ("a".to_owned(), false),
            ("a=".to_owned(), false),
            ("=1".to_owned(), false),
            ("a=b=c".to_owned(), false),
            ("a=\u{7f}".to_owned(), false),
            ("a=é".to_owned(), false),
        ] {
            assert_eq!(state_is_valid(&list), valid, "{list}");
        }
    }

    #[test]
    fn a_share_of_traces_is_about_that_share_and_the_ends_are_exact() {
        let drawn = |share| {
            let id = |n: u64| u128::from(crate::domain::hash::fnv1a(&n.to_string())) + 1;
            (0..10_000).filter(|n| TraceId::new(id(*n)).unwrap().falls_in(share)).count()
        };
        assert_eq!((drawn(0.0), drawn(1.0)), (0, 10_000));
        assert!((800..1200).contains(&drawn(0.1)), "{}", drawn(0.1));
    }
}
