//! The demo as a process: the whole script, and how it ends before its time.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// What the issue allows a run.
const RUN_MAX: Duration = Duration::from_secs(90);

struct Folder(PathBuf);

impl Folder {
    /// Below cargo's folder for tests, so that parallel runs do not meet.
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Folders that runs of the demo have left in it.
    fn left(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn demo(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
    command.arg("demo").args(arguments).env("TMPDIR", &folder.0);
    command
}

/// Worlds are built one after another: two on two cores disturb each other's clocks.
fn turn() -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.lock");
    let file = File::create(path).unwrap();
    file.lock().unwrap();
    file
}

/// Processes that the process has started and that have not ended.
fn children_of(parent: u32) -> Vec<u32> {
    let line = format!("PPid:\t{parent}");
    processes(|id| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.lines().any(|l| l == line)
    })
}

/// Those of the processes that are still children of a demo.
fn alive(ids: &[u32]) -> Vec<u32> {
    let child = |id: &u32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.windows(10).any(|window| window == b"demo-child")
    };
    ids.iter().copied().filter(child).collect()
}

/// A process may end while it is looked at: then it does not match.
fn processes(matches: impl Fn(u32) -> bool) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| matches(*id)).collect()
}

/// Processes whose command line names a file in the folder: the edges of its demo.
fn edges_of(folder: &Folder) -> Vec<u32> {
    let named = folder.0.to_str().unwrap().as_bytes();
    processes(|id| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.windows(named.len()).any(|window| window == named)
    })
}

async fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come within {limit:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn the_whole_script_holds_every_expectation() {
    let _turn = turn();
    let folder = Folder::new("demo-script");
    let report = folder.0.join("report.json");
    let begun = Instant::now();
    let output = demo(&folder, &["--regions", "4", "--seed", "1", "--report"]).arg(&report).output().unwrap();
    let took = begun.elapsed();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(took < RUN_MAX, "it took {took:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["seed"], 1);
    assert_eq!(report["dns"]["empty_sets"], 0);
    let names: Vec<&str> =
        report["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["steady", "service-death", "service-return", "region-death", "region-return", "home"]);
    for phase in report["phases"].as_array().unwrap() {
        assert!(phase["requests"].as_u64().unwrap() > 0, "{phase}");
    }
    assert!(report["phases"][0]["nearest_healthy_share"].as_f64().unwrap() >= 0.99);
    assert_eq!(report["phases"][1]["failed"], 0);
    assert!(report["faults"][1]["moved_by_health_check_ms"].is_u64(), "{}", report["faults"]);
    assert!(report["settings"]["failover.hold_down"]["default"].is_string());
    assert_eq!(edges_of(&folder), Vec::<u32>::new(), "no child outlives it");
    assert_eq!(folder.left(), Vec::<PathBuf>::new(), "keys and logs are gone");
}

/// A held world; killed when the test fails.
struct Held {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Held {
    fn start(folder: &Folder) -> Self {
        let mut process = demo(folder, &["--regions", "4", "--hold"]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Reads up to the line that holds the text.
    fn until_said(&mut self, text: &str) -> String {
        self.lines.by_ref().map(Result::unwrap).find(|line| line.contains(text)).expect(text)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(name).arg(self.process.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may have ended, as it should.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test]
async fn a_held_world_ends_with_ctrl_c_and_leaves_nothing() {
    let _turn = turn();
    let folder = Folder::new("demo-interrupt");
    let mut held = Held::start(&folder);
    held.until_said("stays up until Ctrl-C");
    let children = children_of(held.process.id());
    assert_eq!(alive(&children).len(), 8, "an edge and a service a region: {children:?}");
    held.signal("-INT");
    assert!(held.process.wait().unwrap().success());
    until("the end of its children", Duration::from_secs(5), || alive(&children).is_empty()).await;
    assert_eq!(folder.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn no_child_outlives_a_demo_that_is_killed() {
    let _turn = turn();
    let folder = Folder::new("demo-killed");
    let mut held = Held::start(&folder);
    held.until_said("stays up until Ctrl-C");
    let children = children_of(held.process.id());
    assert_eq!(alive(&children).len(), 8, "an edge and a service a region: {children:?}");
    held.signal("-KILL");
    held.process.wait().unwrap();
    until("the end of its children", Duration::from_secs(5), || alive(&children).is_empty()).await;
}

#[test]
fn an_impossible_world_is_refused_with_what_is_possible() {
    for regions in ["3", "15", "many"] {
        let folder = Folder::new("demo-refused");
        let output = demo(&folder, &["--regions", regions]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains("from 4 to 14"), "{regions}: {errors}");
    }
}
