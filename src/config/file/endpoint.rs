//! An endpoint as it is written: where it is, or a table that says its zone, too.

use super::{FromFile, Key, Placed};
use crate::config::HostPort;
use crate::domain::name::Zone;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Unexpected, Visitor};
use std::fmt;
use toml::Spanned;

/// One endpoint of a list.
#[derive(Debug)]
pub(crate) struct EndpointEntry {
    pub(crate) at: Placed<HostPort>,
    pub(crate) zone: Key<Zone>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    at: Placed<HostPort>,
    zone: Key<Zone>,
}

/// What stands in the list.
enum Written {
    Text(HostPort),
    Table(Table),
}

impl<'de> Deserialize<'de> for EndpointEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Written>::deserialize(deserializer)?;
        let span = spanned.span();
        Ok(match spanned.into_inner() {
            Written::Text(value) => Self { at: Placed { value, span }, zone: None },
            Written::Table(Table { at, zone }) => Self { at, zone },
        })
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenVisitor)
    }
}

struct WrittenVisitor;

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HostPort::RULE)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Written, E> {
        let at = HostPort::from_text(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))?;
        Ok(Written::Text(at))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
        Table::deserialize(MapAccessDeserializer::new(map)).map(Written::Table)
    }
}
