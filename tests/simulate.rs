//! `proxima simulate`: every scenario of the library holds, bad files are refused with every problem,
//! and what it writes can be read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proxima::simulate::{Cast, Honest, NoWorld, Report, Scenario, Writes, load, play, plot};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/scenarios")
}

fn world() -> Cast {
    Cast::load(&scenarios().join("world.toml")).unwrap()
}

fn library() -> Vec<PathBuf> {
    let files = fs::read_dir(scenarios()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    files.retain(|path| path.file_name().unwrap() != "world.toml");
    files.sort();
    files
}

fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn proxima(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_proxima")).arg("simulate").args(arguments).output().unwrap()
}

fn record(scenario: &Scenario) -> (Report, String) {
    let finished = play(scenario, &Honest, Writes { record: true, ..Writes::default() });
    let record = finished.record.as_ref().unwrap();
    (Report::new(scenario, &finished, record), plot(scenario, record))
}

#[test]
fn every_scenario_of_the_library_holds() {
    let files = library();
    assert!(files.len() >= 15, "{files:?}");
    let mut kinds = BTreeSet::new();
    for path in &files {
        let scenario = load(path, world()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        kinds.extend(scenario.steps.iter().map(|step| step.fault.kind()));
        assert!(fs::read_to_string(path).unwrap().contains("# Must hold"), "{}", path.display());
        let (report, _) = record(&scenario);
        assert!(report.held(), "{}\n{report}", path.display());
    }
    assert!(kinds.len() >= 18, "{kinds:?}");
}

#[test]
fn a_scenario_holds_whatever_the_seed() {
    for name in ["stale-writer.toml", "bad-push.toml", "region-loss.toml"] {
        for seed in 2..6 {
            let scenario = Scenario { seed, ..load(&scenarios().join(name), world()).unwrap() };
            let finished = play(&scenario, &Honest, Writes::default());
            assert_eq!(finished.violation, None, "{name}, seed {seed}");
        }
    }
}

#[test]
fn users_of_a_lost_region_fail_until_health_checks_and_caches_turn_and_then_are_served_elsewhere() {
    let scenario = load(&scenarios().join("region-loss.toml"), world()).unwrap();
    let finished = play(&scenario, &Honest, Writes { record: true, ..Writes::default() });
    let record = finished.record.as_ref().unwrap();
    let region = scenario.cast.regions.iter().position(|r| r.as_str() == "us-east-1").unwrap();
    let bucket = |seconds: u64| (seconds / record.bucket.as_secs()) as usize;
    let sent = |seconds: u64| record.entered[bucket(seconds)][region];
    // Its own users before, none once 30 s of checks and 60 s of TTL are over, its own in the end.
    assert!((sent(30) - 500.0).abs() < 1.0, "{}", sent(30));
    assert!(sent(180) < 1.0, "{}", sent(180));
    assert!((sent(1_750) - 500.0).abs() < 1.0, "{}", sent(1_750));
    let errors = |seconds: u64| record.places[region][bucket(seconds)].errors();
    assert_eq!(errors(30), 0.0);
    assert!(errors(80) > 0.5, "{}", errors(80));
    assert_eq!(errors(200), 0.0);
}

#[test]
fn the_plot_is_xml_with_an_area_for_each_region_and_a_band_for_each_fault() {
    let scenario = load(&scenarios().join("overload-cascade.toml"), world()).unwrap();
    let (_, svg) = record(&scenario);
    let mut reader = quick_xml::Reader::from_str(&svg);
    let (mut areas, mut bands) = (0, 0);
    loop {
        use quick_xml::events::Event;
        match reader.read_event().unwrap() {
            Event::Eof => break,
            Event::Start(tag) | Event::Empty(tag) => {
                let text: &str = tag.as_ref();
                areas += usize::from(text.starts_with("path") && text.contains("fill-opacity"));
                bands += usize::from(text.contains("class=\"band\""));
            }
            _ => {}
        }
    }
    assert_eq!((areas, bands), (scenario.cast.regions.len(), scenario.steps.len()), "{svg}");
    assert!(svg.contains("prefers-color-scheme: dark"));
}

#[test]
fn bad_scenarios_are_refused_with_each_problem_and_what_would_be_right() {
    let path = folder("bad_scenarios").join("bad.toml");
    for (text, words) in [
        ("", &["the file is empty"][..]),
        ("titel = \"x\"", &["unknown key `titel`", "did you mean `title`"]),
        (
            "[[faults]]\nkind = \"region-lost\"\nregion = \"eu-wets-1\"\nat = \"60s\"",
            &["there is no region \"eu-wets-1\"", "did you mean \"eu-west-1\"", "us-east-1"],
        ),
        (
            "[[faults]]\nkind = \"region-last\"\nat = \"60s\"",
            &["no kind of fault \"region-last\"", "did you mean \"region-lost\""],
        ),
        ("[[faults]]\nkind = \"isolated\"\nregion = \"us-east-1\"", &["`at` is missing"]),
        ("[[faults]]\nkind = \"isolated\"\nat = \"1s\"", &["`region` is missing", "\"isolated\" needs it"]),
        (
            "[[faults]]\nkind = \"api-outage\"\nat = \"1s\"\nregion = \"us-east-1\"",
            &["`region` says nothing for the fault \"api-outage\""],
        ),
        (
            "[[faults]]\nkind = \"lossy\"\nat = \"1s\"\nshare = 5",
            &["wrong value for `faults.share`", "\"0.5%\""],
        ),
        ("[expect]\nsees = [\"frosen\"]", &["no event \"frosen\"", "did you mean \"frozen\""]),
        ("[[users]]\nplace = \"mars\"\nrps = 5", &["no measured distance from mars"]),
        ("[capacity]\nmars = 5", &["there is no region \"mars\""]),
        (
            "edges = 0\n[expect]\nerrors_max = \"x\"",
            &["0 is out of range", "wrong value for `expect.errors_max`"],
        ),
    ] {
        fs::write(&path, text).unwrap();
        let shown = match load(&path, world()) {
            Err(NoWorld::Config(problems)) => problems.to_string(),
            other => panic!("{text}: {other:?}"),
        };
        for word in words {
            assert!(shown.contains(word), "{text:?} has no {word:?} in:\n{shown}");
        }
    }
}

#[test]
fn what_holds_exits_with_0_what_does_not_with_1_and_a_bad_file_with_2() {
    let folder = folder("exit_codes");
    let world = scenarios().join("world.toml");
    let world = world.to_str().unwrap();
    let (json, svg) = (folder.join("report.json"), folder.join("plot.svg"));
    let good = scenarios().join("two-way-partition.toml");
    let files = ["--report", json.to_str().unwrap(), "--svg", svg.to_str().unwrap()];
    let output = proxima(&[&[good.to_str().unwrap(), "--config", world][..], &files[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report["unmet"].as_array().unwrap().len(), 0);
    assert!(fs::read_to_string(svg).unwrap().starts_with("<svg "));

    let path = folder.join("scenario.toml");
    let scenario = "[[faults]]\nkind = \"region-lost\"\nregion = \"us-east-1\"\nat = \"60s\"\nfor = \"2m\"\n";
    fs::write(&path, format!("{scenario}[expect]\nerrors_max = \"0.001%\"\n")).unwrap();
    let output = proxima(&[path.to_str().unwrap(), "--config", world]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("UNMET  errors_max 0.001%"), "{output:?}");

    fs::write(&path, "[[faults]]\nkind = \"nonsense\"\nat = \"1s\"\n").unwrap();
    assert_eq!(proxima(&[path.to_str().unwrap(), "--config", world]).status.code(), Some(2));
    assert_eq!(proxima(&[good.to_str().unwrap(), "--config", "no-such-file.toml"]).status.code(), Some(2));
    assert_eq!(proxima(&[]).status.code(), Some(2));
}

#[test]
fn a_sweep_goes_on_where_it_was_ended_and_fails_where_too_little_was_seen() {
    let state = folder("sweep").join("state.json");
    let state = state.to_str().unwrap();
    if let Err(error) = fs::remove_file(state) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    }
    let sweep = |seeds: &str, more: &[&str]| {
        proxima(&[&["--seeds", seeds, "--first", "7", "--resume", state][..], more].concat())
    };
    let output = sweep("2", &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = sweep("4", &["--coverage", "1000000"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let (out, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("goes on with seed 9"), "{told}");
    assert!(told.contains("100% 4 of 4 seeds"), "{told}");
    assert!(out.contains("0 of ") && out.contains("combinations were seen 1000000 times"), "{out}");
    // What was played by another build is not lost.
    let kept = fs::read_to_string(state).unwrap();
    let mut others: serde_json::Value = serde_json::from_str(&kept).unwrap();
    others["of"] = 1.into();
    fs::write(state, others.to_string()).unwrap();
    let told = sweep("1", &[]).stderr;
    assert!(String::from_utf8_lossy(&told).contains("begins anew, and keeps it as"));
    assert_eq!(fs::read_to_string(Path::new(state).with_extension("old")).unwrap(), others.to_string());
    // Hours are not played before it shows that they cannot be kept.
    let output = proxima(&["--seeds", "100000", "--resume", "no-such-folder/state.json"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("no-such-folder/state.part") && !told.contains('%'), "{told}");
}
