//! How AWS is reached.

use crate::config::Aws;
use crate::config::file::File;
use crate::config::report::Report;
use std::time::Duration;

pub(super) fn aws(file: &File, report: &mut Report) -> Aws {
    let default = Aws::default();
    let Some(section) = &file.aws else { return default };
    let stated = section.get_ref();
    let range = Duration::from_secs(1)..=Duration::from_secs(3600);
    Aws {
        credentials: stated.credentials.as_ref().map(|placed| placed.value),
        config_poll: report.duration("aws.config_poll", &stated.config_poll, range, default.config_poll),
    }
}
