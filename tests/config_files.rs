//! The files in `config/`: they load, and `proxima.toml` states every key with the default of the code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proxima::config::{ClientAuth, Config, Environment, Protocol, load};
use proxima::dns::control_record::ControlRecord;
use proxima::domain::name::ServiceId;
use proxima::domain::routing::{Action, Asked, Scheme};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn reference() -> String {
    fs::read_to_string(folder().join("proxima.toml")).unwrap()
}

fn parse(text: &str) -> Config {
    Config::from_text("test.toml", text, &Environment::default()).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn every_file_in_config_loads() {
    let mut count = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            load(&path, &Environment::default()).unwrap_or_else(|problems| panic!("{problems}"));
            count += 1;
        }
    }
    assert!(count >= 2, "config/ has {count} files");
}

/// Keys of `proxima.toml` that have no default, or that show an example instead of it.
fn no_default(section: &str, key: &str, value: &Value) -> bool {
    match section {
        "edge" => key == "region",
        "listeners" => key != "protocol" || value.as_str() != Some("http"),
        "tls" | "peer" => true,
        "regions" => matches!(key, "peer" | "addresses"),
        // A table that is there switches something on.
        "services" => {
            let switches = matches!(key, "tls" | "concurrency" | "affinity" | "hedging");
            switches || matches!(key, "endpoints" | "kubernetes" | "max_connections_per_endpoint")
        }
        "services.tls" => matches!(key, "ca" | "certificate" | "key"),
        "services.affinity" => matches!(key, "by" | "secret"),
        "rate_limits" => matches!(key, "name" | "key" | "requests"),
        "routes" => matches!(key, "name" | "service" | "hosts"),
        "names" => key == "services",
        "dns" => key == "zone_id",
        "aws" => key == "credentials",
        "access_log" | "audit" => key == "output",
        // Who is there, may act.
        "admin" => matches!(key, "operators" | "tls"),
        "journal" => key == "path",
        "archive" => key == "s3",
        // A section that is there switches something on.
        "tracing" => key == "otlp",
        _ => false,
    }
}

/// Removes what has a default and counts it; tables that hold tables by name are walked into.
fn strip(section: &str, value: &mut Value) -> usize {
    match value {
        Value::Array(items) => items.iter_mut().map(|item| strip(section, item)).sum(),
        Value::Table(table) if matches!(section, "regions" | "services" | "names") => {
            table.iter_mut().map(|(_, inner)| strip_table(section, inner)).sum()
        }
        other => strip_table(section, other),
    }
}

fn strip_table(section: &str, value: &mut Value) -> usize {
    let table = value.as_table_mut().unwrap();
    let mut nested = 0;
    for (key, inner) in table.iter_mut().filter(|(key, _)| section == "services" && *key != "endpoints") {
        if inner.is_table() {
            nested += strip_table(&format!("services.{key}"), inner);
        }
    }
    let before = table.len();
    table.retain(|key, value| no_default(section, key, value));
    nested + before - table.len()
}

#[test]
fn the_reference_states_the_defaults_of_the_code() {
    let whole = parse(&reference());
    let mut table: Table = reference().parse().unwrap();
    let stripped: usize = table.iter_mut().map(|(section, value)| strip(section, value)).sum();
    assert!(stripped >= 45, "only {stripped} defaults are stated");
    for section in ["probes", "ejection", "failover", "resolver"] {
        assert_eq!(table.remove(section), Some(Value::Table(Table::new())), "{section} has defaults only");
    }
    let least = Config { text: whole.text.clone(), ..parse(&table.to_string()) };
    assert_eq!(format!("{least:#?}"), format!("{whole:#?}"));
}

/// The blocks of a TOML text by the first key of their header; what comes before is "".
fn blocks(text: &str) -> BTreeMap<String, String> {
    let mut blocks = BTreeMap::<String, String>::new();
    let mut section = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            let name = line.trim_start_matches('[');
            section = name.split(['.', ']']).next().unwrap().to_owned();
        }
        let block = blocks.entry(section.clone()).or_default();
        block.push_str(line);
        block.push('\n');
    }
    blocks
}

#[test]
fn the_reference_shows_every_key_that_the_code_knows() {
    let text = reference();
    let blocks = blocks(&text);
    // A key that no section knows is answered with those that it does know.
    let mut table: Table = text.parse().unwrap();
    let mut sections = 1;
    for (section, value) in &mut table {
        let inner = match value {
            Value::Array(items) => items[0].as_table_mut().unwrap(),
            Value::Table(table) if matches!(section.as_str(), "regions" | "services" | "names") => {
                table.iter_mut().next().unwrap().1.as_table_mut().unwrap()
            }
            other => other.as_table_mut().unwrap(),
        };
        inner.insert("zzz".to_owned(), Value::Integer(1));
        sections += 1;
        // The keys of [services.web.affinity] stand in the block of [services], too.
        for (_, nested) in inner.iter_mut().filter(|(key, _)| section == "services" && *key != "endpoints") {
            if let Some(nested) = nested.as_table_mut() {
                nested.insert("zzz".to_owned(), Value::Integer(1));
                sections += 1;
            }
        }
    }
    table.insert("zzz".to_owned(), Value::Integer(1));
    let problems = Config::from_text("test.toml", &table.to_string(), &Environment::default()).unwrap_err();
    let answer = problems.to_string();
    let mut section = None;
    let mut keys = 0;
    for line in answer.lines() {
        if let Some(path) = line.strip_prefix("error: unknown key `") {
            let path = path.trim_end_matches('`');
            section = Some(path.split_once('.').map_or("", |(section, _)| section).to_owned());
        }
        let Some(known) = line.trim_start().strip_prefix("= expected one of ") else { continue };
        let section = section.take().unwrap();
        for key in known.split(", ") {
            let shown = if section.is_empty() {
                blocks.contains_key(key)
            } else {
                let starts = [format!("{key} = "), format!("# {key} = "), format!("{key}.")];
                let table = format!(".{key}");
                let shows = |line: &str| {
                    starts.iter().any(|start| line.starts_with(start))
                        || line.starts_with('[') && line.trim_end_matches(']').ends_with(&table)
                };
                blocks[&section].lines().any(shows)
            };
            assert!(shown, "config/proxima.toml does not show `{key}` of [{section}]");
            keys += 1;
        }
        sections -= 1;
    }
    assert_eq!(sections, 0, "a section did not answer:\n{answer}");
    assert!(keys > 60, "only {keys} keys");
}

#[test]
fn the_environment_says_which_region_this_is() {
    let text = reference();
    let own = |region: &str| {
        let environment = Environment { region: Some(region.to_owned()), ..Environment::default() };
        Config::from_text("test.toml", &text, &environment)
    };
    assert_eq!(own("us-east-1").unwrap().policy.own.as_str(), "us-east-1");
    assert_eq!(own("").unwrap().policy.own.as_str(), "eu-west-1", "empty is not set");
    let answer = own("us-east-2").unwrap_err().to_string();
    let expected = "error: --region or PROXIMA_REGION: there is no region `us-east-2`\n \
                    = expected one of ap-northeast-1, eu-west-1, us-east-1\n\n";
    assert_eq!(answer, expected);
}

#[test]
fn only_the_own_region_decides_the_endpoints() {
    let text = reference().replace("endpoints.us-east-1 = [\"web.", "endpoints.us-east-1 = [\"other.");
    let endpoints = |region: &str| {
        let environment = Environment { region: Some(region.to_owned()), ..Environment::default() };
        let config = Config::from_text("test.toml", &text, &environment).unwrap();
        format!("{:?}", config.services.values().next().unwrap().endpoints)
    };
    assert!(endpoints("us-east-1").contains("other.default"));
    assert!(!endpoints("eu-west-1").contains("other.default"));
    // What they decide by is the same everywhere, or they could not agree.
    let hash = |region: &str| {
        let environment = Environment { region: Some(region.to_owned()), ..Environment::default() };
        Config::from_text("test.toml", &text, &environment).unwrap().policy.agreement_hash()
    };
    assert_eq!(hash("us-east-1"), hash("eu-west-1"));
}

#[test]
fn more_names_than_one_view_holds_are_refused() {
    let names = |count: usize| {
        (0..count).fold(reference(), |text, n| {
            let name = format!("{n:0>60}.{n:0>60}.{n:0>60}.example.com");
            text + &format!("\n[names.\"{name}\"]\nservices = [\"web\"]\n")
        })
    };
    parse(&names(1000));
    let answer =
        Config::from_text("test.toml", &names(4500), &Environment::default()).unwrap_err().to_string();
    assert!(answer.starts_with("error: 4501 names over 3 regions make a view of "), "{answer}");
    assert!(answer.contains("at most 1048576 are read"), "{answer}");
}

#[test]
fn a_file_for_one_region_may_leave_the_endpoints_of_others_out() {
    let lines = |drop: &[&str]| -> String {
        let kept = reference().lines().map(str::to_owned).collect::<Vec<_>>();
        let kept = kept.iter().filter(|line| !drop.iter().any(|start| line.starts_with(start)));
        kept.fold(String::new(), |text, line| text + line + "\n")
    };
    parse(&lines(&["endpoints.us-east-1", "endpoints.ap-northeast-1"]));
    // But where others are listed, all that the name uses must be.
    let some = lines(&["endpoints.us-east-1"]);
    let answer = Config::from_text("test.toml", &some, &Environment::default()).unwrap_err().to_string();
    assert!(answer.contains("region `us-east-1` has no endpoints of `web`"), "{answer}");
    // And the own region must be able to be up.
    let other = lines(&["endpoints.eu-west-1", "endpoints.us-east-1"]);
    let answer = Config::from_text("test.toml", &other, &Environment::default()).unwrap_err().to_string();
    assert!(answer.contains("region `eu-west-1` has no endpoints of `web`"), "{answer}");
}

#[test]
fn relative_paths_are_taken_from_the_folder_of_the_file() {
    let text = reference().replace("\"tls/peer.key\"", "\"/run/secrets/peer.key\"");
    let config = Config::from_text("/etc/proxima/proxima.toml", &text, &Environment::default()).unwrap();
    let peer = config.peer.unwrap();
    assert_eq!(peer.certificate, Path::new("/etc/proxima/tls/peer.pem"));
    assert_eq!(peer.key, Path::new("/run/secrets/peer.key"), "an absolute path stays");
}

#[test]
fn weights_of_the_simple_form_are_shares_of_a_hundred() {
    let mut table: Table = reference().parse().unwrap();
    let name = table["names"]["www.example.com"].as_table_mut().unwrap();
    name.remove("regions");
    name.insert("form".to_owned(), "simple".into());
    let weights = Table::from_iter([("eu-west-1".to_owned(), 3.into()), ("us-east-1".to_owned(), 1.into())]);
    name.insert("weights".to_owned(), Value::Table(weights));
    let config = parse(&table.to_string());
    let (_, policy) = config.policy.names.iter().next().unwrap();
    let (entry, set) = policy.entries.iter().next().unwrap();
    assert_eq!(entry.as_str(), "all");
    let weights: Vec<_> =
        set.iter().map(|(region, weight)| (region.as_str().to_owned(), weight.get())).collect();
    assert_eq!(weights, [("eu-west-1".to_owned(), 75), ("us-east-1".to_owned(), 25)]);
}

#[test]
fn the_minimal_file_is_one_region_that_serves_itself() {
    let config = load(&folder().join("minimal.toml"), &Environment::default()).unwrap();
    assert!(config.peer.is_none() && config.tls.is_none() && config.dns.is_none());
    assert_eq!(config.regions.len(), 1);
    assert!(config.regions.values().all(|region| region.peer.is_none()));
    assert!(config.listeners.iter().all(|listener| listener.protocol == Protocol::Http));
    let no_headers = http::HeaderMap::new();
    let asked = Asked {
        host: "anything.example",
        path: "/any/path",
        scheme: Scheme::Http,
        method: "GET",
        query: "",
        headers: &no_headers,
    };
    let route = config.policy.routes.find(&asked).unwrap();
    assert_eq!(route.action, Action::service(ServiceId::parse("web").unwrap()));
}

/// Host, path and one header of a GET by http: what the route does, and its name.
fn routed(config: &Config, host: &str, path: &str, header: &'static str) -> String {
    let mut headers = http::HeaderMap::new();
    headers.insert(header, http::HeaderValue::from_static("1"));
    let asked = Asked { host, path, scheme: Scheme::Https, method: "GET", query: "", headers: &headers };
    config.policy.routes.find(&asked).map_or("none".to_owned(), |route| route.id.to_string())
}

#[test]
fn the_routes_of_the_examples_take_what_they_say() {
    let config = load(&folder().join("routes.toml"), &Environment::default()).unwrap();
    for (host, path, header, route) in [
        ("shop.example.com", "/", "x-other", "shop"),
        ("shop.example.com", "/", "x-canary", "shop-testers"),
        ("shop.example.com", "/api/items", "x-canary", "shop-api"),
        ("shop.example.com", "/item-4711.html", "x-other", "shop-old-items"),
        ("shop.example.com", "/robots.txt", "x-other", "shop"),
        ("example.com", "/", "x-other", "bare-domain"),
        ("other.example.com", "/robots.txt", "x-other", "robots"),
        ("", "/", "x-other", "nobody"),
    ] {
        assert_eq!(routed(&config, host, path, header), route, "{host} {path} {header}");
    }
}

#[test]
fn the_example_of_a_front_is_what_it_says() {
    let config = load(&folder().join("front.toml"), &Environment::default()).unwrap();
    let https = config.listeners.iter().find(|listener| listener.name == "https").unwrap();
    assert_eq!(https.protocol, Protocol::Https);
    assert_eq!(https.proxy_protocol.as_ref().unwrap().trusted, ["10.0.0.0/16".parse().unwrap()]);
    let tls = config.tls.as_ref().unwrap();
    assert_eq!((&tls.default.client_auth, tls.certificates.len()), (&ClientAuth::Off, 1));
    let ca = folder().join("tls/partners-ca.pem");
    assert_eq!(tls.certificates[0].client_auth, ClientAuth::Required { ca });
    assert_eq!(config.access_log.as_ref().unwrap().sample, 0.1);
    for (host, path, route) in [
        ("www.example.com", "/", "www"),
        ("partners.example.com", "/x", "partners"),
        ("other.test", "/", "none"),
    ] {
        assert_eq!(routed(&config, host, path, "x-other"), route, "{host}");
    }
}

/// What the first block of a section of the README shows is in an example, key by key; how many entries.
fn shown_in_readme(section: &str, file: &str, lists: &[&str]) -> usize {
    let readme = fs::read_to_string(folder().with_file_name("README.md")).unwrap();
    let example: Table = fs::read_to_string(folder().join(file)).unwrap().parse().unwrap();
    let section = readme.split(section).nth(1).unwrap();
    let block = section.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let shown: Table = block.parse().unwrap();
    assert!(shown.keys().all(|list| lists.contains(&list.as_str())), "{shown}");
    let mut entries = 0;
    for list in lists {
        let known = example[*list].as_array().unwrap();
        for entry in shown[*list].as_array().unwrap() {
            let same = known.iter().find(|other| other["name"] == entry["name"]).unwrap();
            for (key, value) in entry.as_table().unwrap() {
                assert_eq!(same.get(key), Some(value), "{} of {}", key, entry["name"]);
            }
            entries += 1;
        }
    }
    entries
}

#[test]
fn the_limits_of_the_readme_are_those_of_the_example() {
    assert_eq!(shown_in_readme("### Protection", "protection.toml", &["rate_limits", "routes"]), 2);
}

#[test]
fn the_routes_of_the_readme_are_those_of_the_example() {
    assert!(shown_in_readme("### Routes", "routes.toml", &["routes"]) >= 3);
}

#[test]
fn the_tls_of_the_readme_is_that_of_the_example() {
    let readme = fs::read_to_string(folder().with_file_name("README.md")).unwrap();
    let text = fs::read_to_string(folder().join("upstreams.toml")).unwrap();
    let section = readme.split("### Services behind TLS").nth(1).unwrap();
    let block = section.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let (shown, example): (Table, Table) = (block.parse().unwrap(), text.parse().unwrap());
    assert_eq!(shown["services"]["billing"], example["services"]["billing"]);
    let config = parse(&text);
    let tls = |service: &str| config.services[&ServiceId::parse(service).unwrap()].tls.clone().unwrap();
    assert_eq!(tls("web").server_name, "web.default.svc.cluster.local", "as the endpoints are listed");
    assert!(tls("web").identity.is_none() && tls("billing").identity.is_some());
}

#[test]
fn the_freeze_and_the_drains_of_the_readme_are_read_as_such() {
    let readme = fs::read_to_string(folder().with_file_name("README.md")).unwrap();
    // As one would paste them: after `changed_at`, in this order.
    let pasted: String = [" freeze=", " drains="]
        .map(|start| {
            let found = readme.split('`').find(|code| code.starts_with(start) && !code.contains('…'));
            found.unwrap_or_else(|| panic!("README.md shows no `{start}…`"))
        })
        .concat();
    let before = "v=1 epoch=a generation=2 writer=eu-west-1 plan=00000000000000ff changed_at=1";
    let record = ControlRecord::parse(&format!("\"{before}{pasted}\"")).unwrap();
    assert_eq!(
        record.operator.freeze.map(|freeze| freeze.said.reason).as_deref(),
        Some("maintenance by bob")
    );
    let drains: Vec<&str> = record.operator.drains.keys().map(|region| region.as_str()).collect();
    assert_eq!(drains, ["eu-west-1", "us-east-1"]);
}
