//! Where a configuration is: a file, or an object in a bucket.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

const SCHEME: &str = "s3://";

/// A file, or `s3://BUCKET/KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    File(PathBuf),
    Object(ObjectUrl),
}

/// An object in S3, or what the names of several begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectUrl {
    pub bucket: String,
    pub key: String,
}

impl ObjectUrl {
    /// Source: Amazon S3 user guide, "General purpose bucket naming rules" and "Naming Amazon S3 objects".
    pub const RULE: &str =
        "s3://BUCKET/KEY, the bucket being 3 to 63 lower-case letters, digits, dots and hyphens";

    /// `None` for a text that is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (bucket, key) = text.strip_prefix(SCHEME)?.split_once('/')?;
        let letters =
            bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b));
        let right = letters && (3..=63).contains(&bucket.len()) && (1..=1024).contains(&key.len());
        right.then(|| Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.bucket, self.key)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with(SCHEME) {
            return Ok(Self::File(PathBuf::from(text)));
        }
        ObjectUrl::parse(text).map(Self::Object).ok_or_else(|| format!("expected {}", ObjectUrl::RULE))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Object(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_told_from_a_file_by_its_scheme_and_must_be_whole() {
        for (text, right) in [
            ("s3://bucket/proxima.toml", true),
            ("s3://a.b-c/dir/proxima.toml", true),
            ("s3://bucket", false),
            ("s3://bucket/", false),
            ("s3:///key", false),
            ("s3://Bucket/key", false),
        ] {
            let place = text.parse::<Place>();
            assert_eq!(place.is_ok_and(|place| place.to_string() == text), right, "{text}");
        }
        assert_eq!("s3/x.toml".parse(), Ok(Place::File("s3/x.toml".into())));
    }
}
