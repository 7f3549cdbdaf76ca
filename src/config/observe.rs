//! What is told of requests and of the process: logs, the access log, traces.

use crate::config::file::FromFile;
use std::path::PathBuf;
use std::time::Duration;

/// What the process says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Levels, such as `info` or `info,proxima::probe=debug`; `--log` and `RUST_LOG` win over it.
    pub filter: String,
}

impl Default for Log {
    /// Pingora reports every client that hangs up and every failed handshake as an
    /// error: at a hostile edge that is noise without an end. The proxy counts and
    /// reports those itself; and what the Kubernetes client meets is told by `kube`, once.
    fn default() -> Self {
        let filter = "info,pingora_core=off,pingora_pool=off,hickory_resolver=error,hickory_net=error,\
                      kube_client=off,kube_runtime=off";
        Self { filter: filter.to_owned() }
    }
}

/// Which requests are logged, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    pub output: AccessLogOutput,
    /// The share of requests, 0 to 1, where their route says none; those that failed here or
    /// upstream are always logged.
    pub sample: f64,
    /// Whether the query of a request is told.
    pub query: bool,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogOutput {
    Stdout,
    /// Appended to; opened anew on SIGHUP.
    File(PathBuf),
}

/// Where everything that the core is told and decides is kept, to be run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// A folder; made when it is not there.
    pub path: PathBuf,
    /// Of all files in the folder, whoever wrote them.
    pub max_bytes: u64,
    /// After which the next file is begun.
    pub file_bytes: u64,
}

/// How requests take part in traces (W3C Trace Context).
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// The share of the traces begun here that are sampled, 0 to 1.
    pub sample: f64,
    pub clients: ClientTraces,
    /// `None`: spans are exported nowhere.
    pub otlp: Option<Otlp>,
}

/// What becomes of the trace that a client says its request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientTraces {
    /// It goes on, and its word on sampling holds.
    Keep,
    /// A new one is begun, except for trusted proxies.
    Restart,
}

/// Where spans go, by OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp {
    /// Name or address, without brackets.
    pub host: String,
    pub port: u16,
    /// Host and port as the request tells them.
    pub authority: String,
    /// What spans say that they come from.
    pub service_name: String,
    /// For one request to the collector.
    pub timeout: Duration,
    /// Requests (with their attempts) in one request to the collector.
    pub batch_max: usize,
    /// The longest that one waits for others.
    pub batch_delay: Duration,
}

/// A filter of logs that is right.
#[derive(Debug, Clone)]
pub(super) struct LogFilter(pub(super) String);

impl FromFile for LogFilter {
    const RULE: &'static str = r#"a level (off, error, warn, info, debug, trace), and targets with levels of their own, such as "info,proxima::probe=debug""#;

    /// A target without a level would silence all others: most likely it is a misspelt level.
    fn from_text(text: &str) -> Option<Self> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let target = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-:.".contains(&b))
        };
        let right = |directive: &&str| match directive.split_once('=') {
            Some((name, level)) => target(name) && LEVELS.contains(&level),
            None => LEVELS.contains(directive),
        };
        let directives: Vec<&str> = text.split(',').map(str::trim).collect();
        directives.iter().all(right).then(|| Self(directives.join(",")))
    }
}

impl FromFile for ClientTraces {
    const RULE: &'static str = r#""keep" or "restart""#;

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "keep" => Some(Self::Keep),
            "restart" => Some(Self::Restart),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_a_misspelt_level_is_no_target() {
        for (text, kept) in [
            ("info", Some("info")),
            ("off", Some("off")),
            (" info , proxima::probe=debug", Some("info,proxima::probe=debug")),
            ("pingora_core=off", Some("pingora_core=off")),
            ("inof", None),
            ("proxima", None),
            ("proxima=inof", None),
            ("=info", None),
            ("info,", None),
            ("", None),
            ("[span{x=1}]=info", None),
        ] {
            assert_eq!(LogFilter::from_text(text).map(|filter| filter.0).as_deref(), kept, "{text:?}");
        }
        assert!(LogFilter::from_text(&Log::default().filter).is_some());
    }
}
