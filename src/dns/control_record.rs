//! The control TXT of a name: the fence of every change, and the operator's word.
//!
//! One canonical text for each value: `parse(render(x)) == x` for times in whole milliseconds,
//! and a text that `render` would not write is refused, not guessed at. Only how the text is
//! cut into character-strings is left to whoever stores it.
//! Fields in this order, absent ones left out:
//! `v=1 epoch=… generation=… writer=… plan=… changed_at=… freeze=… drains=… overrides=…`.
//! What operators say is in `said`.

use crate::domain::name::{DnsName, InvalidName, RegionId};
use crate::domain::operator::OperatorState;
use crate::domain::plan::{Fence, Generation};
use std::time::Duration;

mod said;

/// The only version there is.
const VERSION: &str = "1";
/// Longest character-string of a TXT value. Source: RFC 1035, section 3.3.14.
const STRING_BYTES_MAX: usize = 255;
/// Longest TXT value that Route 53 takes.
/// Source: developer guide, "Supported DNS record types", TXT.
const VALUE_CHARACTERS_MAX: usize = 4000;

/// Where the control record of a name lives.
pub fn control_name(name: &DnsName) -> String {
    format!("_proxima.{name}")
}

/// What the control record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRecord {
    pub fence: Fence,
    /// Who wrote last; `None` after bootstrap.
    pub writer: Option<RegionId>,
    /// Hash of the plan that was written last.
    pub plan: Option<u64>,
    /// Wall clock of the last change, since 1970, in whole milliseconds.
    pub changed_at: Option<Duration>,
    /// What operators have said, by wall clock.
    pub operator: OperatorState<Duration>,
}

/// Why a text is no control record; each names the field and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("the TXT value is not a row of quoted strings: {0:?}")]
    Quoting(String),
    #[error("{0:?} is not a field of the form key=value")]
    NotAField(String),
    #[error("unknown field {0:?}")]
    Unknown(String),
    #[error("field {0:?} stands twice or out of order")]
    Order(&'static str),
    #[error("field {0:?} is missing")]
    Missing(&'static str),
    #[error("version {0:?}: this program knows version {VERSION} only")]
    Version(String),
    #[error("{field}={text:?}: want {want}")]
    Value { field: &'static str, text: String, want: &'static str },
    #[error("field {field:?}")]
    Name {
        field: &'static str,
        #[source]
        source: InvalidName,
    },
    #[error("another spelling of {0:?}; the record was edited by something else")]
    NotCanonical(String),
    #[error(
        "the record would have {0} characters, {VALUE_CHARACTERS_MAX} at most: fewer drains and overrides, \
         or shorter reasons"
    )]
    TooLong(usize),
}

impl ControlRecord {
    /// The record as the value of a TXT record: quoted strings of at most 255 bytes.
    ///
    /// # Errors
    /// `TooLong`, by reasons beyond what Route 53 takes.
    pub fn render(&self) -> Result<String, ControlError> {
        let text = self.text();
        // ASCII by construction: every byte is a character.
        let strings = text.as_bytes().chunks(STRING_BYTES_MAX).map(String::from_utf8_lossy);
        let value = strings.map(|string| format!("\"{string}\"")).collect::<Vec<_>>().join(" ");
        if value.len() > VALUE_CHARACTERS_MAX {
            return Err(ControlError::TooLong(value.len()));
        }
        Ok(value)
    }

    fn text(&self) -> String {
        let mut text =
            format!("v={VERSION} epoch={} generation={}", self.fence.epoch, self.fence.generation.get());
        if let Some(writer) = &self.writer {
            text.push_str(&format!(" writer={writer}"));
        }
        if let Some(plan) = self.plan {
            text.push_str(&format!(" plan={plan:016x}"));
        }
        if let Some(at) = self.changed_at {
            text.push_str(&format!(" changed_at={}", at.as_millis()));
        }
        said::write(&self.operator, &mut text);
        text
    }

    /// The record that a TXT value holds.
    ///
    /// # Errors
    /// Whatever is not exactly what `render` writes, named.
    pub fn parse(value: &str) -> Result<Self, ControlError> {
        let text = unquote(value)?;
        let fields = fields(&text)?;
        let get = |key: &'static str| fields.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let need = |key: &'static str| get(key).ok_or(ControlError::Missing(key));
        let version = need("v")?;
        if version != VERSION {
            return Err(ControlError::Version(version.to_owned()));
        }
        let generation = number("generation", need("generation")?)?;
        let record = Self {
            fence: Fence { epoch: epoch(need("epoch")?)?, generation: Generation::new(generation) },
            writer: get("writer").map(|text| region("writer", text)).transpose()?,
            plan: get("plan").map(plan_hash).transpose()?,
            changed_at: get("changed_at")
                .map(|text| number("changed_at", text).map(Duration::from_millis))
                .transpose()?,
            operator: said::read(get("freeze"), get("drains"), get("overrides"))?,
        };
        if record.text() == text { Ok(record) } else { Err(ControlError::NotCanonical(record.text())) }
    }
}

const KEYS: [&str; 9] =
    ["v", "epoch", "generation", "writer", "plan", "changed_at", "freeze", "drains", "overrides"];

/// The fields in their one order, each at most once.
fn fields(text: &str) -> Result<Vec<(&'static str, &str)>, ControlError> {
    let mut left = KEYS.iter();
    let mut fields = Vec::new();
    for part in text.split(' ') {
        let (key, value) = part.split_once('=').ok_or_else(|| ControlError::NotAField(part.to_owned()))?;
        let known = KEYS.iter().find(|known| **known == key);
        let known = *known.ok_or_else(|| ControlError::Unknown(key.to_owned()))?;
        if !left.any(|next| *next == known) {
            return Err(ControlError::Order(known));
        }
        fields.push((known, value));
    }
    Ok(fields)
}

/// The character-strings of a TXT value, joined.
fn unquote(value: &str) -> Result<String, ControlError> {
    let wrong = || ControlError::Quoting(value.to_owned());
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).ok_or_else(wrong)?;
    let strings: Vec<&str> = inner.split("\" \"").collect();
    // No escapes: `render` writes neither quotes nor backslashes nor bytes beyond ASCII.
    let plain = |s: &&str| s.len() <= STRING_BYTES_MAX && s.bytes().all(|b| is_plain(b) || b == b' ');
    if strings.iter().all(plain) { Ok(strings.concat()) } else { Err(wrong()) }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'
}

fn epoch(text: &str) -> Result<String, ControlError> {
    let valid = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if valid {
        return Ok(text.to_owned());
    }
    Err(ControlError::Value { field: "epoch", text: text.to_owned(), want: "1 to 64 letters and digits" })
}

fn number(field: &'static str, text: &str) -> Result<u64, ControlError> {
    text.parse().map_err(|_| ControlError::Value { field, text: text.to_owned(), want: "a whole number" })
}

fn plan_hash(text: &str) -> Result<u64, ControlError> {
    u64::from_str_radix(text, 16).map_err(|_| ControlError::Value {
        field: "plan",
        text: text.to_owned(),
        want: "16 hexadecimal digits",
    })
}

fn region(field: &'static str, text: &str) -> Result<RegionId, ControlError> {
    RegionId::parse(text).map_err(|source| ControlError::Name { field, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::operator::{Freeze, Said};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    pub(super) fn any_region(random: &mut StdRng) -> RegionId {
        let length = random.random_range(1..=20);
        let name: String = (0..length).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
        RegionId::parse(&name).unwrap()
    }

    fn any_record(random: &mut StdRng) -> ControlRecord {
        ControlRecord {
            fence: Fence {
                epoch: format!("{:x}", random.random::<u128>()),
                generation: Generation::new(random.random()),
            },
            writer: random.random::<bool>().then(|| any_region(random)),
            plan: random.random::<bool>().then(|| random.random()),
            changed_at: random.random::<bool>().then(|| Duration::from_millis(random.random())),
            operator: said::tests::any_operator(random),
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for seed in 0..5_000 {
            let record = any_record(&mut StdRng::seed_from_u64(seed));
            let value = record.render().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(ControlRecord::parse(&value).as_ref(), Ok(&record), "seed {seed}: {value}");
        }
    }

    #[test]
    fn any_damage_is_an_error_and_never_another_record() {
        for seed in 0..2_000 {
            let mut random = StdRng::seed_from_u64(seed);
            let record = any_record(&mut random);
            let mut bytes = record.render().unwrap().into_bytes();
            let at = random.random_range(0..bytes.len());
            if random.random() {
                bytes.remove(at);
            } else {
                bytes.insert(at, random.random_range(b' '..=b'~'));
            }
            let text = String::from_utf8(bytes).unwrap();
            // What still parses must be exactly what a writer would have written.
            if let Ok(read) = ControlRecord::parse(&text) {
                assert_eq!(unquote(&text), Ok(read.text()), "seed {seed}");
            }
        }
    }

    #[test]
    fn each_broken_text_is_named() {
        let region_error = || RegionId::parse("EU").unwrap_err();
        let value = |field, text: &str, want| ControlError::Value { field, text: text.to_owned(), want };
        for (text, error) in [
            ("v=1 epoch=a generation=1", ControlError::Quoting("v=1 epoch=a generation=1".to_owned())),
            ("\"\"", ControlError::NotAField(String::new())),
            ("\"v=1  epoch=a generation=1\"", ControlError::NotAField(String::new())),
            ("\"v=1 epoch=a\"", ControlError::Missing("generation")),
            ("\"epoch=a generation=1\"", ControlError::Missing("v")),
            ("\"v=2 epoch=a generation=1\"", ControlError::Version("2".to_owned())),
            ("\"v=1 epoch=a generation=1 more=2\"", ControlError::Unknown("more".to_owned())),
            ("\"v=1 epoch=a epoch=a generation=1\"", ControlError::Order("epoch")),
            ("\"v=1 generation=1 epoch=a\"", ControlError::Order("epoch")),
            ("\"v=1 epoch=a generation=x\"", value("generation", "x", "a whole number")),
            ("\"v=1 epoch=a generation=\"", value("generation", "", "a whole number")),
            ("\"v=1 epoch=a generation=-1\"", value("generation", "-1", "a whole number")),
            ("\"v=1 epoch= generation=1\"", value("epoch", "", "1 to 64 letters and digits")),
            ("\"v=1 epoch=a generation=1 plan=zz\"", value("plan", "zz", "16 hexadecimal digits")),
            (
                "\"v=1 epoch=a generation=1 writer=EU\"",
                ControlError::Name { field: "writer", source: region_error() },
            ),
            (
                "\"v=1 epoch=a generation=01\"",
                ControlError::NotCanonical("v=1 epoch=a generation=1".to_owned()),
            ),
            (
                "\"v=1 epoch=a generation=1 drains=b,a\"",
                ControlError::NotCanonical("v=1 epoch=a generation=1 drains=a,b".to_owned()),
            ),
            ("\"v=1 epoch=a generation=1 drains=a~x\"", value("drains", "x", "a whole number")),
            (
                "\"v=1 epoch=a generation=1 drains=a:\"",
                ControlError::NotCanonical("v=1 epoch=a generation=1 drains=a".to_owned()),
            ),
            (
                "\"v=1 epoch=a generation=1 overrides=min_live:why@who\"",
                value("overrides", "min_live:why@who", "rule~milliseconds since 1970:reason"),
            ),
            (
                "\"v=1 epoch=a generation=1 overrides=min_live~5\"",
                value("overrides", "min_live~5", "rule~milliseconds since 1970:reason"),
            ),
            (
                "\"v=1 epoch=a generation=1 overrides=min_live~5:@who\"",
                value("overrides", "min_live~5:@who", "rule~milliseconds since 1970:reason"),
            ),
        ] {
            assert_eq!(ControlRecord::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_freeze_without_a_reason_is_still_a_freeze() {
        let record = ControlRecord::parse("\"v=1 epoch=a generation=1 freeze=\"").unwrap();
        assert_eq!(record.operator.freeze, Some(Freeze::default()));
    }

    #[test]
    fn a_reason_that_does_not_fit_is_refused() {
        let mut record = ControlRecord::parse("\"v=1 epoch=a generation=1\"").unwrap();
        record.operator.freeze = Some(Freeze { said: Said::new(&"x".repeat(5_000), "alice") });
        assert!(matches!(record.render(), Err(ControlError::TooLong(_))));
    }
}
