//! Bytes of a file, with a bound, or the reason why not.

use crate::config::problems::Problem;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

/// A configuration for hundreds of regions and thousands of routes stays below 1 MiB.
pub(super) const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The text of a configuration file.
pub(crate) fn text(path: &Path) -> Result<String, Problem> {
    let bytes = bytes(path, CONFIG_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count();
        Problem::outside(format!(
            "{}: not UTF-8 text: byte {offset}, on line {line}, begins no character",
            path.display()
        ))
        .right("expected a TOML file, which is UTF-8 text")
    })
}

/// All bytes of a regular file of at most `max` bytes; a larger one is refused before it is read.
pub(super) fn bytes(path: &Path, max: u64) -> Result<Vec<u8>, Problem> {
    let shown = path.display();
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => {
            Problem::outside(format!("{shown}: there is no such file")).right("expected the path of a file")
        }
        ErrorKind::PermissionDenied => Problem::outside(format!("{shown}: this user may not read it"))
            .right("expected a file that the user who runs proxima may read"),
        _ => Problem::outside(format!("{shown}: cannot be read: {error}")),
    };
    // Before opening: a pipe without a writer would block, a device may never end.
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(Problem::outside(format!("{shown}: is a directory")).right("expected a file"));
    }
    if !metadata.is_file() {
        let problem = Problem::outside(format!("{shown}: is not a regular file"));
        return Err(problem.right("expected a file, not a pipe, socket or device"));
    }
    let too_large = |bytes: u64| {
        Problem::outside(format!("{shown}: {bytes} bytes are too many"))
            .right(format!("expected at most {max} bytes"))
    };
    if metadata.len() > max {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut bytes)).map_err(failed)?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if length > max { Err(too_large(length)) } else { Ok(bytes) }
}
