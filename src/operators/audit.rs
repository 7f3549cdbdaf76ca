//! Who did what, why, from where, and what came of it: one JSON line an event.
//!
//! Lines go to the log (target `audit`) and, with `[audit]`, to a file, which is opened for each line:
//! there are few of them, and whoever moves the file away needs no signal. No secret is in any of them.

use crate::clock::wall_clock;
use crate::domain::name::DnsName;
use crate::domain::operator::{OperatorAct, Order};
use crate::domain::plan::Generation;
use crate::error_chain::chain;
use prometheus::{IntCounterVec, Opts, Registry};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

/// Every result, as the metric and the lines spell it.
pub const RESULTS: [&str; 5] = ["accepted", "refused", "denied", "unanswered", "written"];
const ACTS: [&str; 6] = ["drain", "undrain", "freeze", "thaw", "override", "clear"];

/// Where events are told.
#[derive(Debug)]
pub struct Audit {
    acts: IntCounterVec,
    /// Lines of one file stand one after the other.
    output: Mutex<Option<PathBuf>>,
}

/// Something that an operator did, or that became of it.
#[derive(Debug, Serialize)]
pub struct Event<'a> {
    time: String,
    act: &'a str,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<&'a BTreeSet<DnsName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    forced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a DnsName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
}

impl<'a> Event<'a> {
    /// Of an act whose operator is known.
    pub fn of(act: &'a OperatorAct<Duration>, result: &'static str) -> Self {
        let expires = match &act.order {
            Order::Drain { expires_at, .. } => *expires_at,
            Order::Override { expires_at, .. } => Some(*expires_at),
            _ => None,
        };
        Self {
            id: Some(format!("{:016x}", act.id)),
            operator: Some(&act.said.by),
            object: act.order.object(),
            names: Some(&act.names),
            reason: Some(&act.said.reason),
            expires: expires.map(rfc3339),
            forced: act.force.is_some(),
            ..Self::denied(act.order.as_str(), None, result)
        }
    }

    /// Of a request whose sender is not believed to be an operator.
    pub fn denied(act: &'a str, from: Option<&'a str>, result: &'static str) -> Self {
        Self {
            time: rfc3339(wall_clock()),
            act,
            result,
            id: None,
            operator: None,
            object: None,
            names: None,
            reason: None,
            expires: None,
            forced: false,
            from,
            why: None,
            name: None,
            generation: None,
        }
    }

    pub fn from(self, from: &'a str) -> Self {
        Self { from: Some(from), ..self }
    }

    pub fn because(self, why: &'a str) -> Self {
        Self { why: Some(why), ..self }
    }

    pub(super) fn at(self, name: &'a DnsName, generation: Generation) -> Self {
        Self { name: Some(name), generation: Some(generation.get()), ..self }
    }
}

/// A wall-clock time for people.
pub fn rfc3339(at: Duration) -> String {
    let at = OffsetDateTime::UNIX_EPOCH + at;
    at.format(&Rfc3339).unwrap_or_else(|_| "a time beyond the calendar".to_owned())
}

impl Audit {
    /// # Errors
    /// `prometheus::Error` when the name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Acts of operators by what became of them: accepted, refused by a rule, denied to who is no \
                    operator, unanswered, written (once a name).";
        let acts = IntCounterVec::new(Opts::new("proxima_operator_acts_total", help), &["act", "result"])?;
        registry.register(Box::new(acts.clone()))?;
        for act in ACTS {
            for result in RESULTS {
                acts.with_label_values(&[act, result]);
            }
        }
        Ok(Self { acts, output: Mutex::default() })
    }

    /// From here on lines go to this file, too; `None`: to none.
    pub async fn switch(&self, output: Option<PathBuf>) {
        *self.output.lock().await = output;
    }

    /// Gives the file that lines go to another name; the next line begins it anew. No line is lost between.
    ///
    /// # Errors
    /// Those of the file system, `NotFound` among them when it has moved already.
    pub async fn set_aside(&self, path: &Path, to: &Path) -> io::Result<()> {
        // Held while a line is written, too: none is on its way to the old name afterwards.
        let _output = self.output.lock().await;
        tokio::fs::rename(path, to).await
    }

    /// Tells an event. A file that takes no line is told in the log, where the line is.
    pub async fn tell(&self, event: &Event<'_>) {
        if ACTS.contains(&event.act) {
            self.acts.with_label_values(&[event.act, event.result]).inc();
        }
        let line = match serde_json::to_string(event) {
            Ok(line) => line,
            Err(error) => return tracing::error!(target: "audit", %error, ?event, "no line"),
        };
        tracing::info!(target: "audit", "{line}");
        let output = self.output.lock().await;
        if let Some(path) = output.as_deref()
            && let Err(error) = append(path, line + "\n").await
        {
            tracing::error!(target: "audit", path = %path.display(), "not written: {}", chain(&error));
        }
    }
}

async fn append(path: &Path, line: String) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path).await?;
    file.write_all(line.as_bytes()).await?;
    file.flush().await
}
