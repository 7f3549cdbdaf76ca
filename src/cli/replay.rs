//! `proxima replay`: runs a journal again and tells what happened, or the first decision that differs.

use crate::domain::fleet::Output;
use crate::error_chain::chain;
use crate::journal::{Begins, Event, Replay, Span, files, wall_of_text, wall_text};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The journal: its folder, or one file of it.
    journal: PathBuf,
    /// Tell what happened from then on, such as 2026-01-31T12:00:00Z; begins at the last file before it.
    #[arg(long, value_parser = wall_of_text)]
    from: Option<u64>,
    /// Stop after then.
    #[arg(long, value_parser = wall_of_text)]
    until: Option<u64>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Succeeds when every decision came out as it is written.
pub fn run(arguments: &Arguments) -> ExitCode {
    let files = match files(&arguments.journal) {
        Ok(files) => files,
        Err(error) => {
            eprintln!("proxima: {}: {error}", arguments.journal.display());
            return ExitCode::FAILURE;
        }
    };
    let span = Span { from: arguments.from, until: arguments.until };
    let result = Replay::run(&files, span, &mut |event| tell(event, arguments));
    match result {
        Ok(replay) => {
            let same = json!({
                "event": "replayed", "turns": replay.turns, "decisions": replay.outputs, "files": replay.files,
                "gaps": replay.gaps, "damaged": replay.damaged,
            });
            if arguments.json {
                outln!("{same}");
            } else {
                outln!(
                    "replayed {} turns in {} files: all {} decisions as written; {} gaps, {} damaged files",
                    replay.turns,
                    replay.files,
                    replay.outputs,
                    replay.gaps,
                    replay.damaged
                );
            }
            if replay.damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            if arguments.json {
                outln!("{}", json!({ "event": "failed", "error": chain(&error) }));
            }
            eprintln!("proxima: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn tell(event: &Event<'_>, arguments: &Arguments) {
    let wall = match event {
        Event::File { head, .. } => head.wall,
        Event::Turned(turned) => turned.wall,
        Event::Broken { .. } => u64::MAX,
        Event::End { wall } => *wall,
    };
    if arguments.from.is_some_and(|from| wall < from) {
        return;
    }
    let lines: Vec<(Value, String)> = match event {
        Event::File { path, head, begins } => vec![(
            json!({ "event": "file", "path": path, "begins": begins_text(*begins), "program": head.program,
                "region": head.own, "boot": head.boot }),
            format!("{} {}: proxima {} in {}", begins_text(*begins), path.display(), head.program, head.own),
        )],
        Event::Turned(turned) => turned.outputs.iter().filter_map(shown).collect(),
        Event::Broken { path, error } => vec![(
            json!({ "event": "broken", "path": path, "error": error.to_string() }),
            format!("{}: {error}; what follows begins anew", path.display()),
        )],
        Event::End { .. } => vec![(json!({ "event": "end" }), "the process ended in order".to_owned())],
    };
    for (mut value, text) in lines {
        let at = if wall == u64::MAX { "-".to_owned() } else { wall_text(wall) };
        if arguments.json {
            if let Some(object) = value.as_object_mut() {
                object.insert("at".to_owned(), at.into());
            }
            outln!("{value}");
        } else {
            outln!("{at}  {text}");
        }
    }
}

fn begins_text(begins: Begins) -> String {
    match begins {
        Begins::Process => "a process starts".to_owned(),
        Begins::Follows => "goes on".to_owned(),
        Begins::Here => "begins here".to_owned(),
        Begins::Gap { lost: Some(lost) } => format!("GAP of {lost} turns before"),
        Begins::Gap { lost: None } => "GAP of unknown length before".to_owned(),
    }
}

/// What is worth a line.
fn shown(output: &Output) -> Option<(Value, String)> {
    match output {
        Output::Moved(transition) => {
            Some((json!({ "event": "moved", "transition": transition }), format!("{transition}")))
        }
        Output::Propose(plan) => {
            Some((json!({ "event": "proposed", "plan": plan }), format!("proposed: {}", plan_text(plan))))
        }
        Output::Operated { id, result } => Some((
            json!({ "event": "operated", "id": id, "result": result }),
            match result {
                Ok(()) => format!("an operator's act {id} is in force"),
                Err(refusal) => format!("an operator's act {id} is refused: {refusal}"),
            },
        )),
        Output::Publish(_) | Output::View(_) => None,
    }
}

fn plan_text(plan: &crate::domain::plan::Plan) -> String {
    let set = |set: &crate::domain::weights::WeightedSet| {
        let pairs: Vec<String> =
            set.iter().map(|(region, weight)| format!("{region} {}", weight.get())).collect();
        pairs.join(", ")
    };
    let changes: Vec<String> = plan
        .changes
        .iter()
        .map(|(entry, change)| format!("{entry}: {} -> {}", set(&change.from), set(&change.to)))
        .collect();
    format!("{} by {} ({:?}): {}", plan.name, plan.writer, plan.reason, changes.join("; "))
}
