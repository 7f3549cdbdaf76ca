//! How AWS is reached.

use crate::config::Aws;
use crate::config::file::File;

pub(super) fn aws(file: &File) -> Aws {
    let Some(section) = &file.aws else { return Aws::default() };
    Aws { credentials: section.get_ref().credentials.as_ref().map(|placed| placed.value) }
}
