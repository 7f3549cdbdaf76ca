//! Where the commands get a configuration: a file, or an object in a bucket.

use crate::aws::Sessions;
use crate::aws::imds::Whereabouts;
use crate::aws::object::Bucket;
use crate::config::{Aws, BYTES_MAX, Config, Environment, Place, Problems, Written};
use crate::error_chain::chain;
use crate::metrics::aws::AwsMetrics;
use std::path::{Path, PathBuf};

/// Where the image and the chart have what a configuration names.
pub const FOLDER: &str = "/etc/proxima";

/// What relative paths in an object are taken from.
#[derive(Debug, clap::Args)]
pub struct Folder {
    /// What relative paths in a configuration from s3:// are taken from; those in a file: its own folder.
    #[arg(long, env = "PROXIMA_CONFIG_DIR", default_value = FOLDER, value_name = "DIR")]
    pub config_dir: PathBuf,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Wrong(#[from] Problems),
    #[error("{0}")]
    Away(String),
}

impl Refused {
    /// Shows it on standard error, problems underlined where they stand; `false` when that is gone.
    pub fn show(&self) -> bool {
        match self {
            Self::Wrong(problems) => problems.to_stderr().is_ok(),
            Self::Away(why) => {
                eprintln!("proxima: {why}");
                true
            }
        }
    }
}

/// A configuration's text, and the environment to read it by.
#[derive(Debug, Clone)]
pub struct Found {
    pub written: Written,
    pub environment: Environment,
    /// Which version of an object it is.
    pub version: Option<String>,
}

impl Found {
    /// # Errors
    /// Every problem of the text.
    pub fn load(&self) -> Result<Config, Refused> {
        Ok(self.written.load(&self.environment)?)
    }
}

/// Reads the text, and asks the instance where the text or the environment leave the place to it.
///
/// # Errors
/// Why it cannot be read.
pub async fn find(place: &Place, folder: &Path, environment: &Environment) -> Result<Found, Refused> {
    let (written, version) = match place {
        Place::File(path) => (Written::read(path)?, None),
        Place::Object(url) => {
            let away = |why: String| Refused::Away(format!("{url}: {why}"));
            let metrics = AwsMetrics::register(&prometheus::Registry::new());
            let metrics = metrics.map_err(|error| away(error.to_string()))?;
            let region = crate::app::place_of(environment);
            let session = Sessions::new(metrics).at(&Aws::default(), region).await;
            let object = Bucket::of(session, url).get(&url.key, None, BYTES_MAX).await;
            let object =
                object.map_err(|error| away(chain(&error)))?.ok_or_else(|| away("no content".to_owned()))?;
            let text =
                String::from_utf8(object.bytes).map_err(|error| away(format!("not UTF-8 text: {error}")))?;
            let version = object.version.map(|id| format!("version {id}, "));
            let version = format!("{}ETag {}", version.unwrap_or_default(), object.etag);
            (Written { name: url.to_string(), folder: folder.to_owned(), text: text.into() }, Some(version))
        }
    };
    let environment = Whereabouts::default().settle(&written, environment).await;
    Ok(Found { written, environment, version })
}

/// The same from code that does not wait, whatever runtime it is called in.
///
/// # Errors
/// Why it cannot be read.
pub fn find_now(place: &Place, folder: &Path, environment: &Environment) -> Result<Found, Refused> {
    let look = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Refused::Away(error.to_string()))?;
        runtime.block_on(find(place, folder, environment))
    };
    // A thread of its own: a runtime cannot be waited for within another.
    let looked = std::thread::scope(|scope| scope.spawn(look).join());
    looked.unwrap_or_else(|_| {
        Err(Refused::Away("reading the configuration failed: this is a bug in proxima".to_owned()))
    })
}

/// Reads and converts; relative paths are of no concern.
///
/// # Errors
/// Every problem of it.
pub fn load_now(place: &Place, environment: &Environment) -> Result<Config, Refused> {
    find_now(place, Path::new(FOLDER), environment)?.load()
}
