//! How a section of the file is read: values with their places, tables only, names as keys.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Unexpected, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use toml::Spanned;

/// A type with a rule for what may stand in the file.
pub(crate) trait FromFile: Sized {
    /// A right value, in words that follow "expected".
    const RULE: &'static str;

    fn from_text(_text: &str) -> Option<Self> {
        None
    }

    fn from_number(_number: f64) -> Option<Self> {
        None
    }

    fn from_bool(_bool: bool) -> Option<Self> {
        None
    }
}

/// A value and its place: bytes of the text.
#[derive(Debug, Clone)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

impl<'de, T: FromFile> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Read<T>>::deserialize(deserializer)?;
        Ok(Self { span: spanned.span(), value: spanned.into_inner().0 })
    }
}

/// Reads a `T` by its rule; an error says what stands there and what the rule expects.
struct Read<T>(T);

impl<'de, T: FromFile> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadVisitor(PhantomData)).map(Self)
    }
}

struct ReadVisitor<T>(PhantomData<T>);

impl<T: FromFile> Visitor<'_> for ReadVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::RULE)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_bool<E: Error>(self, bool: bool) -> Result<T, E> {
        T::from_bool(bool).ok_or_else(|| E::invalid_type(Unexpected::Bool(bool), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        // Exact up to 2^53; every range in the file ends far below.
        T::from_number(number as f64).ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::from_number(number as f64).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        T::from_number(number).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }
}

/// A table of settings and its place: its header, or its braces.
#[derive(Debug)]
pub(crate) struct Section<T>(Spanned<Settings<T>>);

impl<T> Section<T> {
    pub(crate) fn span(&self) -> Range<usize> {
        self.0.span()
    }

    pub(crate) fn get_ref(&self) -> &T {
        &self.0.get_ref().0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

/// Read from a table only: serde would read a list, too, by the order of the fields.
#[derive(Debug)]
struct Settings<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Settings<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SettingsVisitor(PhantomData)).map(Self)
    }
}

struct SettingsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SettingsVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// The entries of a table whose keys are names, duplicates (after folding of case) kept.
#[derive(Debug)]
pub(crate) struct Entries<K, V>(pub(crate) Vec<(Placed<K>, V)>);

impl<'de, K: FromFile, V: Deserialize<'de>> Deserialize<'de> for Entries<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

struct EntriesVisitor<K, V>(PhantomData<(K, V)>);

impl<'de, K: FromFile, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<K, V> {
    type Value = Entries<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a table whose keys are each {}", K::RULE)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

/// One key of a section.
pub(crate) type Key<T> = Option<Placed<T>>;
/// A list; the place is that of the whole list, and each item has its own.
pub(crate) type List<T> = Option<Spanned<Vec<Placed<T>>>>;
