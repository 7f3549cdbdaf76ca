//! A configuration as it is written, wherever it was read from.

use super::{
    Checked, Config, ConfigText, Environment, NamedFiles, Problems, SECTIONS, convert, decode, file, files,
    folder, parse, read,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// In place of a region or zone: what the instance says.
pub const INSTANCE: &str = "imds";

/// The largest text that is taken, in bytes.
pub const BYTES_MAX: u64 = super::read::CONFIG_BYTES_MAX;

/// A text, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// As problems name it.
    pub name: String,
    /// What relative paths in it are taken from.
    pub folder: PathBuf,
    pub text: Arc<str>,
}

/// What the instance shall say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FromInstance {
    pub region: bool,
    pub zone: bool,
}

impl Written {
    /// Of a file.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let text = read(path)?;
        Ok(Self {
            name: path.to_string_lossy().into_owned(),
            folder: folder(path).to_owned(),
            text: text.into(),
        })
    }

    /// # Errors
    /// Every problem of the text, in its order.
    pub fn load(&self, environment: &Environment) -> Result<Config, Problems> {
        self.check(environment, NamedFiles::Leave).map(|checked| checked.config)
    }

    /// The whole check: the text, and the files that it names as far as they are to be looked at.
    ///
    /// # Errors
    /// Every problem of the text and of the files that it names.
    pub fn check(&self, environment: &Environment, named: NamedFiles) -> Result<Checked, Problems> {
        let text = ConfigText {
            file: self.name.clone(),
            text: Arc::clone(&self.text),
            region: environment.region.clone(),
            zone: environment.zone.clone(),
        };
        parse(text, &self.folder, named)
    }

    /// The certificates and keys that it names; empty where it is no TOML at all.
    pub fn named_files(&self) -> Vec<PathBuf> {
        let Some((file, _)) = decode::decode::<file::File>(&self.text, SECTIONS, &mut Vec::new()) else {
            return Vec::new();
        };
        let named = convert::named_files(&file, &self.folder);
        named.iter().flat_map(files::Named::paths).map(Path::to_owned).collect()
    }

    /// What of the own place is left to the instance, here or in the environment, which wins.
    pub fn from_instance(&self, environment: &Environment) -> FromInstance {
        let table = self.text.parse::<toml::Table>().unwrap_or_default();
        let stated = |key: &str| table.get("edge")?.get(key)?.as_str();
        let wanted = |outside: &Option<String>, key: &str| {
            let outside = outside.as_deref().filter(|text| !text.is_empty());
            outside.or_else(|| stated(key)) == Some(INSTANCE)
        };
        FromInstance {
            region: wanted(&environment.region, "region"),
            zone: wanted(&environment.zone, "zone"),
        }
    }

    /// The name here of an AWS region: its own, or that of the one region whose `place` it is.
    pub fn region_at(&self, place: &str) -> String {
        let table = self.text.parse::<toml::Table>().unwrap_or_default();
        let regions = table.get("regions").and_then(toml::Value::as_table);
        let regions = || regions.into_iter().flatten();
        let at_place =
            |region: &toml::Value| region.get("place").and_then(toml::Value::as_str) == Some(place);
        let mut placed = regions().filter(|(_, region)| at_place(region)).map(|(id, _)| id.clone());
        match (regions().any(|(id, _)| id == place), placed.next(), placed.next()) {
            (false, Some(only), None) => only,
            _ => place.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Written {
        Written { name: "x.toml".to_owned(), folder: PathBuf::new(), text: text.into() }
    }

    #[test]
    fn the_instance_is_asked_only_for_what_is_left_to_it() {
        let environment = |region: Option<&str>, zone: Option<&str>| Environment {
            region: region.map(str::to_owned),
            zone: zone.map(str::to_owned),
        };
        for (text, outside, region, zone) in [
            ("", (None, None), false, false),
            ("edge.zone = \"imds\"", (None, None), false, true),
            ("edge.zone = \"imds\"", (None, Some("eu-west-1a")), false, false),
            ("edge.zone = \"imds\"", (None, Some("")), false, true),
            ("edge.zone = \"eu-west-1a\"", (Some("imds"), Some("imds")), true, true),
            ("edge.region = \"imds\"\nedge.zone = \"a\"", (None, None), true, false),
            ("no TOML", (None, Some("imds")), false, true),
        ] {
            let asked = written(text).from_instance(&environment(outside.0, outside.1));
            assert_eq!(asked, FromInstance { region, zone }, "{text} {outside:?}");
        }
    }

    #[test]
    fn a_region_is_known_by_its_name_or_by_its_place() {
        let text = "[regions.dublin]\nplace = \"eu-west-1\"\n[regions.us-east-1]\n[regions.x]\nplace = \"us-east-1\"\n\
                    [regions.a]\nplace = \"us-west-2\"\n[regions.b]\nplace = \"us-west-2\"";
        for (place, name) in [
            ("eu-west-1", "dublin"),
            ("us-east-1", "us-east-1"),
            ("us-west-2", "us-west-2"),
            ("ap-east-1", "ap-east-1"),
        ] {
            assert_eq!(written(text).region_at(place), name);
        }
    }
}
