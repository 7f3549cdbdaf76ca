//! A running edge, its admin listener, the command line and a replayed journal tell the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

use run_support::authority::Authority;
use run_support::*;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

fn proxima(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
    command.args(arguments).env_remove("PROXIMA_REGION").output().unwrap()
}

fn told(arguments: &[&str]) -> String {
    let output = proxima(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A service that keeps the heads that it gets.
fn listener() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, heads) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&heads);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            kept.lock().unwrap().push(String::from_utf8(head).unwrap().to_lowercase());
            let answer = "HTTP/1.1 200 OK\r\nx-proxima-explain: mine\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    (address, heads)
}

/// The header of an answer that explains it.
fn explained(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nX-Proxima-Explain: 1\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 "), "{text}");
    let line = text.lines().find(|line| line.to_lowercase().starts_with("x-proxima-explain:"));
    line.map(|line| line.split_once(':').unwrap().1.trim().to_owned())
}

fn replayed(journal: &Path) -> Vec<Value> {
    let text = told(&["replay", journal.to_str().unwrap(), "--json"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_running_edge_its_admin_listener_and_its_journal_tell_the_same() {
    let (folder, web) = (Folder::new(), Service::start("web"));
    let text = single(web.address, "[journal]\npath = \"journal\"\n");
    let file = folder.write("proxima.toml", &text);
    let journal = folder.path().join("journal");
    let mut edge = Edge::ready(&file);
    until_served(&edge, "/", "web");
    eventually("the service is healthy", || {
        (edge.snapshot()["services"]["web"]["states"]["here"] == "healthy").then_some(())
    });
    for n in 0..50 {
        get(edge.address("http"), &format!("/{n}"));
    }
    let admin = format!("http://{}", edge.address("admin"));
    let question = ["--host", "h", "--path", "/a?b=c", "--header", "x-a: 1", "--json"];
    let live = told(&[&["explain", "--live", &admin], &question[..]].concat());
    let page = get(edge.address("admin"), "/explain?host=h&path=%2Fa%3Fb%3Dc&scheme=https&header=x-a%3A1");
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(live, page.body);
    let told_live: Value = serde_json::from_str(&live).unwrap();
    assert_eq!(
        (&told_live["rule"], &told_live["route"]["route"]),
        (&"own_region_first".into(), &"web".into())
    );
    edge.signal("TERM");
    assert!(edge.ended().success(), "{}", edge.log());

    let events = replayed(&journal);
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["gaps"], &last["damaged"]), (&"replayed".into(), &0.into(), &0.into()));
    assert!(last["turns"].as_u64().unwrap() > 5 && last["decisions"].as_u64().unwrap() > 3, "{last}");
    let healthy = events.iter().any(|event| event["transition"]["Service"]["to"] == "healthy");
    assert!(healthy && events.iter().any(|event| event["event"] == "end"), "{events:?}");
    let from_journal = told(&[&["explain", "--journal", journal.to_str().unwrap()], &question[..]].concat());
    assert_eq!(from_journal, live);

    // Before anything was heard: the route is the same, and nothing else is known.
    let alone = told(&[&["explain", "--config", file.to_str().unwrap()], &question[..]].concat());
    let alone: Value = serde_json::from_str(&alone).unwrap();
    assert_eq!(alone["route"], told_live["route"]);
    assert_eq!(alone["rule"], "configuration_only");
}

#[test]
fn a_name_is_explained_alike_by_all_three_and_by_an_edge_for_its_own_region_only() {
    // Nobody answers for Route 53: the records are never read, and the name is explained all the same.
    const NAMES: &str = r#"
[journal]
path = "journal"
[names."www.example.com"]
form = "simple"
weights = { here = 1 }
services = ["web"]
[dns]
zone_id = "Z0000000000000EXAMPLE"
endpoint = "http://127.0.0.1:9"
"#;
    let (folder, web) = (Folder::new(), Service::start("web"));
    let text =
        single(web.address, NAMES).replace("[regions.here]", "[regions.here]\naddresses = [\"192.0.2.1\"]");
    let file = folder.write("proxima.toml", &text);
    let (file, journal) = (file.to_str().unwrap().to_owned(), folder.path().join("journal"));
    let mut edge = Edge::ready(Path::new(&file));
    let admin = format!("http://{}", edge.address("admin"));
    let question = ["--dns", "www.example.com", "--json"];
    let live = || told(&[&["explain", "--live", &admin], &question[..]].concat());
    let settled = || {
        (serde_json::from_str::<Value>(&live()).unwrap()["regions"][0]["votes"]["here"] == "up").then(live)
    };
    let live = eventually("the only region votes for itself", settled);
    let page = get(edge.address("admin"), "/explain?dns=www.example.com");
    assert_eq!((page.status, page.body), (200, live.clone()));

    let refused = |arguments: &[&str]| {
        let output = proxima(&[&["explain"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(get(edge.address("admin"), "/explain?dns=no.example.com").status, 404);
    let unknown = "the configuration has no name `no.example.com`";
    assert!(refused(&["--config", &file, "--dns", "no.example.com"]).contains(unknown));
    let other = refused(&["--live", &admin, "--from", "there", "--dns", "www.example.com"]);
    assert!(other.contains("that edge is in here, not in there: ask an edge there"), "{other}");
    edge.signal("TERM");
    assert!(edge.ended().success(), "{}", edge.log());
    let at_the_end = told(&[&["explain", "--journal", journal.to_str().unwrap()], &question[..]].concat());
    assert_eq!(at_the_end, live);
}

#[test]
fn a_configuration_is_asked_for_any_of_its_regions() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/proxima.toml");
    let own = |from: &[&str]| {
        let told =
            told(&[&["explain", "--path", "/", "--json", "--config", file.to_str().unwrap()], from].concat());
        serde_json::from_str::<Value>(&told).unwrap()["own"].clone()
    };
    assert_eq!((own(&[]), own(&["--from", "us-east-1"])), ("eu-west-1".into(), "us-east-1".into()));
}

#[test]
fn who_has_read_enough_of_an_answer_breaks_nothing() {
    let web = Service::start("web");
    let folder = Folder::new();
    let file = folder.write("proxima.toml", &single(web.address, ""));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
    command.args(["explain", "--path", "/", "--config", file.to_str().unwrap()]).stdout(writer);
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// A moment of a journal, so many milliseconds later.
fn later(moment: &str, millis: i64) -> String {
    let moment = OffsetDateTime::parse(moment, &Rfc3339).unwrap() + time::Duration::milliseconds(millis);
    moment.format(&Rfc3339).unwrap()
}

#[test]
fn a_journal_answers_for_each_moment_of_it_and_for_none_before() {
    let (folder, web) = (Folder::new(), Service::start("web"));
    let file = folder.write("proxima.toml", &single(web.address, "[journal]\npath = \"journal\"\n"));
    let journal = folder.path().join("journal");
    let mut edge = Edge::ready(&file);
    eventually("the service is healthy", || {
        (edge.snapshot()["services"]["web"]["states"]["here"] == "healthy").then_some(())
    });
    edge.signal("TERM");
    assert!(edge.ended().success(), "{}", edge.log());

    let path = journal.to_str().unwrap();
    let all = replayed(&journal);
    let healthy = all.iter().find(|event| event["transition"]["Service"]["to"] == "healthy").unwrap();
    // Told to the millisecond in which it happened.
    let before = healthy["at"].as_str().unwrap();
    let after = later(before, 1);
    let state = |at: &str| {
        let told = told(&["explain", "--journal", path, "--at", at, "--path", "/", "--json"]);
        serde_json::from_str::<Value>(&told).unwrap()["services"][0]["regions"][0]["state"].clone()
    };
    assert_eq!((state(before), state(&after)), ("unknown".into(), "healthy".into()));

    let until = told(&["replay", path, "--json", "--until", before]);
    let until: Vec<Value> = until.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(until.iter().all(|event| event["at"].as_str().is_none_or(|at| at <= before)), "{until:?}");
    let turns = |events: &[Value]| events.last().unwrap()["turns"].as_u64().unwrap();
    assert!((1..turns(&all)).contains(&turns(&until)), "{} of {}", turns(&until), turns(&all));

    let begins = all[0]["at"].as_str().unwrap();
    let refused = proxima(&["explain", "--journal", path, "--at", &later(begins, -1), "--path", "/"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains(&format!("the journal begins at {begins}")), "{said}");
}

#[test]
fn what_is_no_journal_of_this_build_is_refused_with_what_it_is() {
    let (folder, web) = (Folder::new(), Service::start("web"));
    let file = folder.write("proxima.toml", &single(web.address, "[journal]\npath = \"journal\"\n"));
    let mut edge = Edge::ready(&file);
    until_served(&edge, "/", "web");
    edge.signal("TERM");
    assert!(edge.ended().success(), "{}", edge.log());
    let journal = folder.path().join("journal");
    let one = std::fs::read_dir(&journal).unwrap().next().unwrap().unwrap().path();
    let octets = std::fs::read(&one).unwrap();
    for (what, octets, words) in [
        ("another format", [&octets[..8], &[7, 0], &octets[10..]].concat(), "format 7"),
        ("another kind of file", b"[edge]\n".to_vec(), "no journal of proxima"),
        ("nothing", Vec::new(), "nothing of that time"),
    ] {
        std::fs::write(&one, octets).unwrap();
        let output = proxima(&["replay", journal.to_str().unwrap()]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(words), "{what}: {error}");
    }
}

#[test]
fn trusted_clients_may_ask_why_and_nobody_else_sees_it() {
    let folder = Folder::new();
    let (address, heads) = listener();
    let route = "[[routes]]\nname = \"gone\"\npath = \"/gone\"\nrespond = { status = 410 }\n";
    let text = single(address, route);
    for (trusted, own) in [
        ("", None),
        ("trusted_proxies = [\"127.0.0.0/8\"]", Some("route=web; service=web; region=here; rule=")),
    ] {
        let text = text.replace("region = \"here\"", &format!("region = \"here\"\n{trusted}"));
        let edge = Edge::ready(&folder.write("proxima.toml", &text));
        until_served(&edge, "/", "ok");
        let told = explained(edge.address("http"), "/asked");
        assert_eq!(told.is_some(), own.is_some(), "{trusted}: {told:?}");
        assert!(told.iter().zip(own).all(|(told, own)| told.starts_with(own)), "{told:?}");
        let gone = explained(edge.address("http"), "/gone");
        assert_eq!(gone.as_deref(), own.map(|_| "route=gone; service=-; region=-; rule=route_answers"));
        let heads = heads.lock().unwrap();
        let asked: Vec<&String> = heads.iter().filter(|head| head.starts_with("get /asked")).collect();
        assert!(!asked.is_empty() && asked.iter().all(|head| !head.contains("x-proxima-")), "{asked:?}");
    }
}

#[test]
fn who_has_shown_a_certificate_may_ask_why_and_who_has_not_is_told_nothing() {
    let (folder, (address, heads)) = (Folder::new(), listener());
    let (clients, strangers) = (Authority::new(), Authority::new());
    Authority::new().sign(&folder, "server", "www.example.test");
    clients.sign(&folder, "client", "a client");
    strangers.sign(&folder, "stranger", "a client");
    let https = "[[listeners]]\nname = \"https\"\naddress = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
                 [tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
                 client_auth = \"optional\"\nclient_ca = \"client-ca.pem\"\n";
    let edge = Edge::ready(&folder.write("proxima.toml", &single(address, https)));
    until_served(&edge, "/", "ok");
    let path = |name: &str| folder.path().join(name);
    let ask = |shown: Option<&str>, word: &str| {
        let files = shown.map(|name| (path(&format!("{name}.pem")), path(&format!("{name}.key"))));
        let files = files.as_ref().map(|(chain, key)| (chain.as_path(), key.as_path()));
        let request = format!(
            "GET /asked HTTP/1.1\r\nhost: www.example.test\r\n{word}: 1\r\nconnection: close\r\n\r\n"
        );
        tls::exchange(edge.address("https"), "www.example.test", &path("server-ca.pem"), files, &request)
    };
    let told = |answer: &str| {
        let line = answer.lines().find(|line| line.to_lowercase().starts_with("x-proxima-explain:"));
        line.map(|line| line.split_once(':').unwrap().1.trim().to_owned())
    };
    for (shown, word, explained) in [
        (Some("client"), "x-proxima-explain", true),
        (Some("client"), "x-other", false),
        (None, "x-proxima-explain", false),
    ] {
        let answer = ask(shown, word).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{shown:?} {word}: {answer}");
        let told = told(&answer);
        assert_eq!(told.is_some(), explained, "{shown:?} {word}: {told:?}");
        let own = "route=web; service=web; region=here; rule=";
        assert!(told.iter().all(|told| told.starts_with(own)), "{told:?}");
    }
    assert!(ask(Some("stranger"), "x-proxima-explain").is_err(), "of another root: nothing at all");
    let plain = explained(edge.address("http"), "/asked");
    assert_eq!(plain, None, "nor by the plain listener");
    let heads = heads.lock().unwrap();
    let asked: Vec<&String> = heads.iter().filter(|head| head.starts_with("get /asked")).collect();
    assert!(asked.len() == 4 && asked.iter().all(|head| !head.contains("x-proxima-")), "{asked:?}");
}
