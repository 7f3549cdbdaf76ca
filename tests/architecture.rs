//! The layering and style rules, held by reading the sources.
//!
//! Dependencies point inward: `main -> cli -> app -> adapters -> leaves ->
//! domain`. Every check is a function of (path, text), and the tests at the end
//! feed each a violating sample, so a check that has gone blind is itself seen.
//! The scan knows paths, `use` trees and renames; it does not expand macros.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "architecture/scan.rs"]
mod scan;

use scan::{PathUse, blank, module_of, paths};

/// Pure decisions; everything may import it.
const DOMAIN: &str = "domain";
/// Shared by the adapters, import no adapter.
const LEAVES: &[&str] = &[
    "access_log",
    "aws",
    "clock",
    "config",
    "error_chain",
    "followers",
    "inquiry",
    "journal",
    "lease",
    "metrics",
    "operators",
    "otlp",
    "peer",
    "rtt_table",
    "trust",
];
/// Speak with the world; never import one another.
const ADAPTERS: &[&str] =
    &["archive", "control", "proxy", "probe", "resolve", "kube", "dns", "admin", "simulate", "zone_server"];
/// May name several adapters.
const COMPOSERS: &[&str] = &["app", "cli", "demo"];

/// Crates that `domain` may name: pure and deterministic. `regex`: routes match by it, in time linear
/// in the length of a path, and equal input gives equal output whatever its caches hold.
const DOMAIN_CRATES: &[&str] = &["std", "core", "alloc", "thiserror", "serde", "regex", "ipnet"];

/// Parts of std that would bring a clock, the environment, randomness, I/O,
/// threads or a lock into `domain`. Hash maps are here because their order is
/// random: a decision that follows it cannot be replayed.
const DOMAIN_REFUSES: &[&str] = &[
    "time::Instant",
    "time::SystemTime",
    "env",
    "fs",
    "io",
    "process",
    "thread",
    "net::TcpListener",
    "net::TcpStream",
    "net::UdpSocket",
    "net::ToSocketAddrs",
    "os",
    "sync::Mutex",
    "sync::RwLock",
    "sync::Condvar",
    "sync::mpsc",
    "collections::HashMap",
    "collections::HashSet",
    "collections::hash_map",
    "collections::hash_set",
    "hash::RandomState",
];

const LINES_MAX: usize = 500;

#[derive(Debug, PartialEq)]
struct Problem {
    place: String,
    what: String,
}

fn problem(path: &str, line: usize, what: impl Into<String>) -> Problem {
    Problem { place: format!("{path}:{line}"), what: what.into() }
}

/// Modules of the crate that a file of layer `own` may name, or `None` for any.
fn allowed(own: &str) -> Option<Vec<&str>> {
    let mut modules = vec![own, DOMAIN];
    match own {
        DOMAIN => {}
        _ if LEAVES.contains(&own) => modules.extend(LEAVES),
        _ if ADAPTERS.contains(&own) => modules.extend(LEAVES),
        "app" => modules.extend(LEAVES.iter().chain(ADAPTERS)),
        _ => return None,
    }
    Some(modules)
}

/// Imports that point outward or sideways.
fn layering(path: &str, text: &str) -> Vec<Problem> {
    let module = module_of(path);
    let Some(own) = module.first() else { return Vec::new() };
    let Some(allowed) = allowed(own) else { return Vec::new() };
    let mut found = Vec::new();
    for PathUse { line, segments } in paths(&blank(text), &module) {
        if segments[0] != "crate" {
            continue;
        }
        match segments.get(1) {
            None => found.push(problem(path, line, "names the crate root, which hides what is used of it")),
            Some(target) if target == "*" => {
                found.push(problem(path, line, "imports everything of the crate root"));
            }
            Some(target) if !allowed.contains(&target.as_str()) => {
                found.push(problem(path, line, format!("`{own}` must not import `{target}`")));
            }
            Some(_) => {}
        }
    }
    found
}

/// Anything in `domain` that is not pure.
fn purity(path: &str, text: &str) -> Vec<Problem> {
    let module = module_of(path);
    if module.first().map(String::as_str) != Some(DOMAIN) {
        return Vec::new();
    }
    let code = blank(text);
    let mut found = Vec::new();
    for PathUse { line, segments } in paths(&code, &module) {
        let first = segments[0].as_str();
        if first == "crate" {
            continue;
        }
        if !DOMAIN_CRATES.contains(&first) {
            found.push(problem(path, line, format!("`domain` must not use the crate `{first}`")));
            continue;
        }
        let inside = segments[1..].join("::");
        for refused in DOMAIN_REFUSES {
            if inside == *refused || inside.starts_with(&format!("{refused}::")) {
                found.push(problem(path, line, format!("`domain` must not use `{first}::{refused}`")));
            }
        }
        // `use std::time::*` would bring the clock in unnamed.
        let glob = inside.strip_suffix('*');
        if glob.is_some_and(|prefix| DOMAIN_REFUSES.iter().any(|refused| refused.starts_with(prefix))) {
            found.push(problem(path, line, format!("`{first}::{inside}` brings in what `domain` refuses")));
        }
    }
    for (index, line) in code.lines().enumerate() {
        for needle in ["env!(", "extern crate", "println!(", "print!(", "dbg!("] {
            if line.contains(needle) {
                found.push(problem(path, index + 1, format!("`domain` must not use `{needle}`")));
            }
        }
    }
    found
}

/// Modules of `proxy` that read and write octets, and know nothing else.
const CODECS: &[&str] = &["h1", "proxy_protocol"];
/// Crates that they may name: no socket, clock or Pingora.
const CODEC_CRATES: &[&str] = &["std", "core", "bytes", "http", "thiserror"];

/// Anything in a codec that is not about octets.
fn octets_only(path: &str, text: &str) -> Vec<Problem> {
    let module = module_of(path);
    let [proxy, codec, ..] = module.as_slice() else { return Vec::new() };
    if proxy != "proxy" || !CODECS.contains(&codec.as_str()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for PathUse { line, segments } in paths(&blank(text), &module) {
        let inside = segments.starts_with(&["crate", "proxy", codec].map(str::to_owned));
        if !inside && !CODEC_CRATES.contains(&segments[0].as_str()) {
            let what = format!("`proxy::{codec}` must not use `{}`", segments.join("::"));
            found.push(problem(path, line, what));
        }
    }
    found
}

fn length(path: &str, text: &str) -> Vec<Problem> {
    let lines = text.lines().count();
    if lines <= LINES_MAX {
        return Vec::new();
    }
    vec![problem(path, lines, format!("past {LINES_MAX} lines: name the second idea and move it out"))]
}

/// Absolute paths of somebody's machine.
fn machine_paths(path: &str, text: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for root in ["home", "Users", "root", "work", "tmp"] {
            let needle = format!("/{root}/");
            let starts = line.match_indices(&needle).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && !"_.-}~/)*".contains(c))
            });
            if starts {
                found.push(problem(path, index + 1, format!("holds a machine's own path under /{root}")));
            }
        }
    }
    found
}

// ---- the repository ----

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository, by its path in it.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            if ["target", ".git", "Cargo.lock"].contains(&name.as_str()) || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.insert(name, text);
            }
        }
    }
    found
}

fn code() -> BTreeMap<String, String> {
    let code: BTreeMap<_, _> =
        sources().into_iter().filter(|(path, _)| path.starts_with("src/") && path.ends_with(".rs")).collect();
    assert!(code.contains_key("src/lib.rs"), "the scan must see the sources");
    code
}

fn hold(check: Check, files: &BTreeMap<String, String>) {
    let problems: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| check(path, text))
        .map(|problem| format!("{}: {}", problem.place, problem.what))
        .collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn dependencies_point_inward_and_adapters_never_meet() {
    hold(layering, &code());
}

#[test]
fn domain_is_pure() {
    hold(purity, &code());
}

#[test]
fn octets_are_read_and_written_without_io() {
    hold(octets_only, &code());
}

#[test]
fn no_source_file_is_a_place() {
    let mut files = sources();
    files.retain(|path, _| path.ends_with(".rs"));
    for folder in ["src/", "tests/", "benches/"] {
        assert!(files.keys().any(|path| path.starts_with(folder)), "the scan must see {folder}");
    }
    hold(length, &files);
}

/// Metrics that a document names, with the braces of their labels left out.
fn metrics_named(text: &str) -> Vec<(usize, String)> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let lines = text.lines().enumerate();
    let found = lines.flat_map(|(index, line)| {
        line.match_indices("proxima_").filter_map(move |(at, _)| {
            let name: String = line[at..].chars().take_while(|c| word(*c)).collect();
            // Not a part of a longer word; and the cookie of sessions is no metric.
            let whole = !line[..at].ends_with(word);
            (whole && name != "proxima_session").then_some((index + 1, name))
        })
    });
    found.collect()
}

#[test]
fn every_metric_of_the_documents_is_made_by_the_code() {
    let files = sources();
    let made: String =
        files.iter().filter(|(path, _)| path.starts_with("src/")).map(|(_, t)| t.as_str()).collect();
    let documents = files.iter().filter(|(path, _)| {
        path.ends_with(".md") || path.starts_with("config/") || path.starts_with("deploy/")
    });
    let mut unknown = Vec::new();
    let mut count = 0;
    for (path, text) in documents {
        for (line, name) in metrics_named(text) {
            count += 1;
            if !made.contains(&format!("\"{name}\"")) {
                unknown.push(format!("{path}:{line}: {name}"));
            }
        }
    }
    assert!(count > 15, "the scan must see the metrics of the documents");
    assert!(unknown.is_empty(), "\n{}\n", unknown.join("\n"));
}

#[test]
fn nothing_holds_a_machines_own_path() {
    hold(machine_paths, &sources());
}

#[test]
fn every_module_has_its_layer() {
    for path in code().keys() {
        let module = module_of(path);
        let Some(top) = module.first() else { continue };
        let layers = [&[DOMAIN], LEAVES, ADAPTERS, COMPOSERS];
        let count = layers.iter().filter(|layer| layer.contains(&top.as_str())).count();
        assert_eq!(count, 1, "{path}: say in tests/architecture.rs which layer `{top}` belongs to");
    }
}

// ---- the guards bite ----

type Check = fn(&str, &str) -> Vec<Problem>;

/// (check, path, violating text, a word of the problem)
const CAUGHT: &[(Check, &str, &str, &str)] = &[
    (layering, "src/proxy.rs", "use crate::dns::Writer;", "dns"),
    (layering, "src/proxy/session.rs", "use super::super::dns;", "dns"),
    (layering, "src/proxy.rs", "use super::{domain, probe::Sender};", "probe"),
    (layering, "src/proxy.rs", "use crate::{\n  domain::{Rtt},\n  admin as a,\n};", "admin"),
    (layering, "src/dns.rs", "fn f() { let x = crate::proxy::go(); }", "proxy"),
    (layering, "src/dns.rs", "fn f() { go(crate :: proxy :: go) }", "proxy"),
    (layering, "src/dns.rs", "use crate as all;", "root"),
    (layering, "src/dns.rs", "use crate::*;", "everything"),
    (layering, "src/dns/a.rs", "mod inner { use super::super::super::proxy::X; }", "proxy"),
    (layering, "src/probe.rs", "use crate::app::Handles;", "app"),
    (layering, "src/zone_server/http.rs", "use crate::cli;", "cli"),
    (layering, "src/config/file.rs", "use crate::resolve::X;", "resolve"),
    (layering, "src/peer.rs", "use crate::control;", "control"),
    (layering, "src/domain/plan.rs", "use crate::config::Config;", "config"),
    (layering, "src/app.rs", "use crate::demo::Region;", "demo"),
    (purity, "src/domain.rs", "use tokio::sync::mpsc;", "tokio"),
    (purity, "src/domain/a.rs", "fn f() { pingora::go() }", "pingora"),
    (purity, "src/domain/a.rs", "fn f(c: &aws_sdk_route53::Client) {}", "aws_sdk_route53"),
    (purity, "src/domain/a.rs", "fn f() { ::rand::random() }", "rand"),
    (purity, "src/domain/a.rs", "use std::time::{Duration, Instant};", "Instant"),
    (purity, "src/domain/a.rs", "use std::time; fn f() { time::Instant::now(); }", "Instant"),
    (purity, "src/domain/a.rs", "use std::time as t;\nfn f() { t::SystemTime::now(); }", "SystemTime"),
    (purity, "src/domain/a.rs", "use std::time::*;", "refuses"),
    (purity, "src/domain/a.rs", "fn f() { std::env::var(X) }", "env"),
    (purity, "src/domain/a.rs", "use std::collections::HashMap;", "HashMap"),
    (purity, "src/domain/a.rs", "use std::sync::Mutex;", "Mutex"),
    (purity, "src/domain/a.rs", "const X: &str = env!(\"HOME\");", "env!"),
    (purity, "src/domain/a.rs", "#[derive(schemars::JsonSchema)] struct X;", "schemars"),
    (octets_only, "src/proxy/h1.rs", "use tokio::io::AsyncRead;", "tokio"),
    (octets_only, "src/proxy/h1/scan.rs", "use super::super::policy::Route;", "policy"),
    (octets_only, "src/proxy/h1/scan.rs", "fn f() { pingora::go() }", "pingora"),
    (octets_only, "src/proxy/proxy_protocol.rs", "use std::net::IpAddr; use tokio::net::TcpStream;", "tokio"),
    (octets_only, "src/proxy/proxy_protocol/text.rs", "use super::super::h1::Malformed;", "h1"),
    (machine_paths, "config/a.toml", concat!("key = \"/ho", "me/ann/key.pem\""), "home"),
    (machine_paths, "scripts/a.sh", concat!("cd /ro", "ot/x"), "root"),
];

/// (check, path, good text)
const CLEAN: &[(Check, &str, &str)] = &[
    (layering, "src/proxy/session.rs", "use super::tls; use crate::{domain::Rtt, config, metrics};"),
    (
        layering,
        "src/proxy.rs",
        "// crate::dns\n/* crate::dns /* nested */ crate::dns */ const A: &str = \"crate::dns\";",
    ),
    (
        layering,
        "src/proxy.rs",
        "const A: &str = r#\"\"crate::dns\"#; const B: char = '\"'; fn f<'a>(x: &'a str) {}",
    ),
    (layering, "src/app.rs", "use crate::{dns, proxy};"),
    (layering, "src/cli/run.rs", "use crate::{app, dns, proxy};"),
    (layering, "src/peer.rs", "use crate::metrics::Handles;"),
    (layering, "src/dns.rs", "#[cfg(test)]\nmod tests { use crate::zone_server::Store; }"),
    (
        purity,
        "src/domain.rs",
        "mod plan; pub use plan::Plan; use std::time::Duration; fn f() { u64::from(1u8); }",
    ),
    (purity, "src/domain/a.rs", "use std::{collections::BTreeMap, fmt}; fn f(x: &mut fmt::Formatter<'_>) {}"),
    (purity, "src/domain/a.rs", "use super::rtt::Rtt; use State::*; enum State { A } fn f() { State::A; }"),
    (purity, "src/domain/a.rs", "#[derive(thiserror::Error)] #[serde(rename = \"tokio::x\")] struct X;"),
    (purity, "src/domain/a.rs", "#[cfg(test)]\nmod tests { use proptest::prelude::*; }"),
    (octets_only, "src/proxy/h1/scan.rs", "use super::{Limits, octets}; use bytes::Bytes; use http::Uri;"),
    (octets_only, "src/proxy/headers.rs", "use crate::peer;"),
    (machine_paths, "README.md", "see https://example.com/home/x and ~/tmp/x and /etc/proxima/a"),
];

#[test]
fn each_check_finds_its_violation() {
    for (check, path, text, word) in CAUGHT {
        let found = check(path, text);
        assert!(found.iter().any(|p| p.what.contains(word)), "{path}: {text:?} gave {found:?}");
    }
    assert_eq!(length("src/a.rs", &"x\n".repeat(LINES_MAX + 1)).len(), 1);
}

#[test]
fn each_check_lets_good_code_pass() {
    for (check, path, text) in CLEAN {
        assert_eq!(check(path, text), [], "{path}: {text:?}");
    }
    assert_eq!(length("src/a.rs", &"x\n".repeat(LINES_MAX)), []);
}

#[test]
fn a_problem_names_its_line() {
    assert_eq!(layering("src/dns.rs", "//! x\n\nuse crate::proxy;")[0].place, "src/dns.rs:3");
}
