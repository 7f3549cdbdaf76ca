//! A survey for people and for machines: what is created (`+`), changed (`~`) and deleted (`-`).

use super::control_record::control_name;
use super::diff::Step;
use super::layout::{content, shown};
use super::survey::{CheckState, Looked, Survey};
use crate::domain::name::RegionId;
use aws_sdk_route53::types::ResourceRecordSet;
use serde_json::{Value, json};
use std::fmt;

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "health checks")?;
        for (spec, state) in &self.checks {
            match state {
                CheckState::Exists(id) => writeln!(f, "    {spec} {id}")?,
                CheckState::Differs { id, difference } => {
                    let change =
                        format!("{}: {} -> {}", difference.what, difference.found, difference.wanted);
                    writeln!(f, "  ~ {spec} {id} {change}")?;
                }
                CheckState::Missing => writeln!(
                    f,
                    "  + {spec} every {} s, threshold {}",
                    spec.interval_s, self.dns.health_threshold
                )?,
            }
        }
        for name in &self.names {
            match &name.result {
                Ok(looked) => looked.fmt(f)?,
                Err(problem) => writeln!(f, "{}\n  PROBLEM  {problem}", name.name)?,
            }
        }
        let counts = self.counts();
        let problems = match self.problems().len() {
            0 => String::new(),
            count => format!("; {count} with a problem"),
        };
        if counts.none() {
            return write!(f, "no changes{problems}");
        }
        write!(
            f,
            "plan {}: {} to create, {} to change, {} to delete{problems}",
            self.id(),
            counts.create,
            counts.change,
            counts.delete
        )
    }
}

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} in zone {}", self.layout.name, self.layout.zone_id)?;
        let control = control_name(&self.layout.name);
        match &self.control {
            None => writeln!(f, "  + {control} TXT: generation 1")?,
            Some((record, _)) => {
                writeln!(f, "    {control} TXT: generation {}", record.fence.generation.get())?;
                if let Some(freeze) = &record.operator.freeze {
                    writeln!(f, "    FROZEN: {}", freeze.said.reason)?;
                }
            }
        }
        for record in &self.diff.kept {
            writeln!(f, "    {}: {}", shown(record), content(record))?;
        }
        for step in &self.diff.steps {
            match step {
                Step::Create(record) => writeln!(f, "  + {}: {}", shown(record), content(record))?,
                Step::Delete(record) => writeln!(f, "  - {}: {}", shown(record), content(record))?,
                Step::Replace { found, properties, .. } => {
                    let parts: Vec<String> = properties
                        .iter()
                        .map(|one| format!("{} {} -> {}", one.what, one.found, one.wanted))
                        .collect();
                    writeln!(f, "  ~ {}: {}", shown(found), parts.join(", "))?;
                }
            }
        }
        Ok(())
    }
}

impl Survey {
    /// The same as one JSON document.
    pub fn json(&self) -> Value {
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|(spec, state)| {
                let (action, id, old, new) = match state {
                    CheckState::Exists(id) => ("keep", Some(id), None, None),
                    CheckState::Missing => ("create", None, None, Some(spec.to_string())),
                    CheckState::Differs { id, difference } => {
                        let side = |value: &str| Some(format!("{} {value}", difference.what));
                        ("change", Some(id), side(&difference.found), side(&difference.wanted))
                    }
                };
                json!({"check": spec.to_string(), "region": spec.region, "action": action, "id": id,
                       "old": old, "new": new})
            })
            .collect();
        let names: Vec<Value> = self
            .names
            .iter()
            .map(|name| match &name.result {
                Ok(looked) => looked.json(),
                Err(problem) => json!({"name": name.name, "problem": problem}),
            })
            .collect();
        let counts = self.counts();
        json!({
            "plan": self.id(),
            "create": counts.create,
            "change": counts.change,
            "delete": counts.delete,
            "health_checks": checks,
            "names": names,
        })
    }
}

impl Looked {
    fn json(&self) -> Value {
        let entry = |action: &str, record: &ResourceRecordSet, old: Option<String>, new: Option<String>| json!({"action": action, "record": shown(record), "old": old, "new": new});
        let steps = self.diff.steps.iter().map(|step| match step {
            Step::Create(record) => entry("create", record, None, Some(content(record))),
            Step::Delete(record) => entry("delete", record, Some(content(record)), None),
            Step::Replace { found, properties, .. } => {
                let side = |pick: fn(&super::layout::Property) -> &String| {
                    let parts: Vec<String> =
                        properties.iter().map(|one| format!("{} {}", one.what, pick(one))).collect();
                    Some(parts.join(", "))
                };
                entry("change", found, side(|one| &one.found), side(|one| &one.wanted))
            }
        });
        let kept = self.diff.kept.iter().map(|record| {
            let now = content(record);
            entry("keep", record, Some(now.clone()), Some(now))
        });
        let records: Vec<Value> = kept.chain(steps).collect();
        let freeze = self.control.as_ref().and_then(|(record, _)| record.operator.freeze.as_ref());
        let freeze = freeze.map(|freeze| &freeze.said.reason);
        json!({
            "name": self.layout.name,
            "zone_id": self.layout.zone_id,
            "generation": self.control.as_ref().map(|(record, _)| record.fence.generation.get()),
            "freeze": freeze,
            "records": records,
        })
    }
}

impl Looked {
    /// What `remove` deletes, and what it leaves.
    pub fn removal(&self, keep: Option<&RegionId>) -> String {
        let mut text = format!("{} in zone {}\n", self.layout.name, self.layout.zone_id);
        if self.control.is_some() {
            text.push_str(&format!("  - {} TXT\n", control_name(&self.layout.name)));
            for record in &self.owned {
                text.push_str(&format!("  - {}: {}\n", shown(record), content(record)));
            }
        }
        let left = keep.and_then(|region| self.layout.serving(region).ok()).unwrap_or_default();
        for record in &left {
            text.push_str(&format!("  + {}: {}\n", shown(record), content(record)));
        }
        text
    }
}
