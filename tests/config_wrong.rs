//! Wrong configuration files and the exact text that each is answered with.
//!
//! `tests/config/wrong/NN-name.toml` is the file, `NN-name.txt` the answer.
//! After a wanted change of a text: `PROXIMA_BLESS=1 cargo test --test config_wrong`,
//! then read the difference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proxima::config::{Config, Environment};
use std::fs;
use std::path::{Path, PathBuf};

fn wrong_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/wrong");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

/// What the file is answered with, under its bare name.
fn answer(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    let text = fs::read_to_string(path).unwrap();
    match Config::from_text(name, &text, &Environment::default()) {
        Ok(_) => panic!("{name} was accepted"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn each_wrong_file_is_answered_with_its_text() {
    let files = wrong_files();
    assert!(files.len() >= 14, "only {} wrong files", files.len());
    let bless = std::env::var_os("PROXIMA_BLESS").is_some_and(|value| value == "1");
    let mut different = Vec::new();
    for path in &files {
        let golden = path.with_extension("txt");
        let answer = answer(path);
        if bless {
            fs::write(&golden, &answer).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if answer != expected {
            different.push(format!("--- {}\n{expected}\n+++ now\n{answer}", golden.display()));
        }
    }
    let different = different.join("\n");
    assert!(different.is_empty(), "{different}\nIf that is wanted: PROXIMA_BLESS=1");
}

#[test]
fn every_problem_has_its_place_and_they_come_in_the_order_of_the_file() {
    for path in wrong_files() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let answer = answer(&path);
        let problems = answer.lines().filter(|line| line.starts_with("error: ")).count();
        let places: Vec<(u32, u32)> = answer
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("┌─ ")?.strip_prefix(&name)?.strip_prefix(':'))
            .map(|place| {
                let (line, column) = place.split_once(':').unwrap();
                (line.parse().unwrap(), column.parse().unwrap())
            })
            .collect();
        assert!(problems > 0, "{name}");
        assert_eq!(places.len(), problems, "{name}: a problem without its place\n{answer}");
        assert!(places.is_sorted(), "{name}: out of order\n{answer}");
    }
}

#[test]
fn every_problem_says_what_would_be_right() {
    for path in wrong_files() {
        let answer = answer(&path);
        let problems = answer.lines().filter(|line| line.starts_with("error: ")).count();
        let notes = answer.lines().filter(|line| line.trim_start().starts_with("= expected ")).count();
        assert_eq!(notes, problems, "{}\n{answer}", path.display());
    }
}
