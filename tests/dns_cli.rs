//! `proxima dns` as people run it.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // Each test file uses its part.
mod dns_support;

use aws_sdk_route53::types::{ChangeAction, RrType};
use dns_support::front::{Fate, For, Front};
use dns_support::{REGIONS, Server, simple};
use std::path::PathBuf;
use tokio::net::UdpSocket;
use tokio::process::Command;

/// Exit code, standard output, standard error.
async fn proxima(config: &PathBuf, arguments: &[&str]) -> (Option<i32>, String, String) {
    ended(Command::new(env!("CARGO_BIN_EXE_proxima")), config, arguments).await
}

/// Of a command that the binary's arguments are appended to.
async fn ended(mut command: Command, config: &PathBuf, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = command
        .args(["dns", arguments[0], "--config"])
        .arg(config)
        .args(&arguments[1..])
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("PROXIMA_REGION")
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What is shown once it exits with 0: until a change is INSYNC servers answer what was before, and that is told.
async fn until_well(run: impl AsyncFn() -> (Option<i32>, String, String)) -> String {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let (code, shown, error) = run().await;
        if code == Some(0) {
            return shown;
        }
        assert!(tokio::time::Instant::now() < deadline, "{shown}{error}");
    }
}

fn written(server: &Server, test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("dns_cli_{test}.toml"));
    std::fs::write(&path, server.text("eu-west-1", &REGIONS, "mode = \"observe\"")).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bootstrap_shows_then_creates_then_has_nothing_to_do_on_our_zone_server() {
    prepares(Server::zone_server().await.unwrap(), "zone_server").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bootstrap_shows_then_creates_then_has_nothing_to_do_on_ministack() {
    let Some(server) = Server::ministack().await else { return };
    prepares(server, "ministack").await;
}

async fn prepares(server: Server, test: &str) {
    let config = written(&server, test);
    let (code, _, error) = proxima(&config, &["show"]).await;
    assert_eq!(code, Some(1), "nothing to show yet");
    assert!(error.contains("names that cannot be read: 1"), "{error}");

    let (code, shown, error) = proxima(&config, &["bootstrap"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    for line in [
        "  + http://127.77.0.1:1/health/edge (ap-south-1) every 10 s, threshold 3\n",
        "  + http://127.77.0.2:1/health/gate/www.example.test (eu-west-1) every",
        "  + _proxima.www.example.test TXT: generation 1\n",
        "  + eu-west-1.www.example.test A [eu-west-1]: weight 100 TTL 60 127.77.0.2\n",
        "  + www.example.test A [us-east-1]: latency us-east-1 -> us-east-1.www.example.test\n",
        ": 13 to create, 0 to change, 0 to delete\n",
        "nothing was written; add --yes to do it",
    ] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }
    assert!(server.records().await.is_empty());

    let (code, created, error) = proxima(&config, &["bootstrap", "--yes"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{created}");
    assert!(
        created.contains("www.example.test: INSYNC after") && created.ends_with("created\n"),
        "{created}"
    );

    let (code, again, _) = proxima(&config, &["bootstrap", "--yes"]).await;
    assert_eq!(code, Some(0));
    assert!(again.ends_with("no changes\nnothing to do\n") && !again.contains("  + "), "{again}");

    let (code, shown, error) = proxima(&config, &["show"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    for line in ["  generation 1\n", "  writer     bootstrap\n", "  set        us-east-1: us-east-1=100\n"] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bootstrap_asks_again_when_it_is_throttled_or_not_answered_on_our_zone_server() {
    let server = Server::zone_server().await.unwrap();
    let front = Front::before(server.endpoint.as_deref().unwrap()).await;
    let config = written(&server.behind(&front.address.to_string()), "throttled");
    for kind in [For::Checks, For::Listings, For::Progress] {
        front.next(kind, Fate::Refuse("Throttling"));
        front.next(kind, Fate::LoseAnswer);
    }
    front.next(For::Changes, Fate::Refuse("PriorRequestNotComplete"));
    let (code, created, error) = proxima(&config, &["bootstrap", "--yes"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{created}");
    assert!(created.contains("www.example.test: INSYNC after"), "{created}");
    assert_eq!(server.edge("eu-west-1").await.read().await.state.fence.generation.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_way_is_named_and_nothing_is_created_on_our_zone_server() {
    let server = Server::zone_server().await.unwrap();
    let foreign = simple("us-east-1.www.example.test", RrType::A, "203.0.113.7");
    server.change(vec![(ChangeAction::Create, foreign)]).await;
    let (code, shown, error) = proxima(&written(&server, "foreign"), &["bootstrap", "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(shown.contains("  - us-east-1.www.example.test A: TTL 60 203.0.113.7\n"), "{shown}");
    let why = "www.example.test: nothing was written: 1 in the way: us-east-1.www.example.test A\n";
    assert!(shown.contains(why), "{shown}");
    assert!(error.starts_with("proxima dns: names left as they were: 1"), "{error}");
    assert_eq!(server.records().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plan_tells_changes_by_its_exit_code_and_apply_does_exactly_what_it_showed_on_our_zone_server() {
    let mut server = Server::zone_server().await.unwrap();
    let config = written(&server, "plan");
    assert_eq!(proxima(&config, &["plan"]).await.0, Some(2), "nothing is there yet");
    let (code, said, _) = proxima(&config, &["apply", "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no control record: `proxima dns bootstrap`"), "{said}");
    assert_eq!(proxima(&config, &["bootstrap", "--yes"]).await.0, Some(0));
    let (code, shown, error) = proxima(&config, &["plan"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{shown}");

    server.form = "form = \"global\"\nttl = \"30s\"";
    let config = written(&server, "plan");
    let (code, json, _) = proxima(&config, &["plan", "--json"]).await;
    assert_eq!(code, Some(2));
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&plan["create"], &plan["change"], &plan["delete"]), (&0.into(), &3.into(), &0.into()));
    let changed: Vec<&serde_json::Value> =
        plan["names"][0]["records"].as_array().unwrap().iter().filter(|r| r["action"] == "change").collect();
    assert_eq!((&changed[0]["old"], &changed[0]["new"]), (&"TTL 60".into(), &"TTL 30".into()));
    let id = plan["plan"].as_str().unwrap();

    let (code, shown, _) = proxima(&config, &["apply"]).await;
    assert_eq!(code, Some(0));
    assert!(shown.contains("nothing was written; add --yes"), "{shown}");
    // Somebody repairs one of them by hand: that is another plan.
    let mut edited = server.weighted("eu-west-1", "eu-west-1").await;
    edited.ttl = Some(30);
    server.change(vec![(ChangeAction::Upsert, edited)]).await;
    let before = server.records().await;
    let (code, _, error) = proxima(&config, &["apply", "--yes", "--plan", id]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains(&format!("not {id}: look at it again; nothing was written")), "{error}");
    assert_eq!(server.records().await, before);
    let (code, applied, error) = proxima(&config, &["apply", "--yes"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{applied}");
    assert!(applied.ends_with("applied\n"), "{applied}");
    assert_eq!(proxima(&config, &["plan"]).await.0, Some(0));
    let ttl = server.weighted("us-east-1", "us-east-1").await.ttl;
    assert_eq!(ttl, Some(30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_is_adopted_then_removed_and_what_is_left_is_said_on_our_zone_server() {
    let server = Server::zone_server().await.unwrap();
    let theirs = simple("www.example.test", RrType::A, "127.77.0.2");
    server.change(vec![(ChangeAction::Create, theirs.clone())]).await;
    let config = written(&server, "adopt");
    let (code, shown, _) = proxima(&config, &["adopt"]).await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("  - www.example.test A: TTL 60 127.77.0.2\n"), "{shown}");
    assert_eq!(server.records().await.len(), 1);
    let (code, adopted, error) = proxima(&config, &["adopt", "--yes"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{adopted}");
    assert!(adopted.contains("adopted; `proxima dns apply` makes"), "{adopted}");
    assert_eq!(server.records().await.len(), 2, "the control record alone is new");
    assert_eq!(proxima(&config, &["apply", "--yes"]).await.0, Some(0));
    assert_eq!(server.records().await.len(), 7);

    let keep = ["remove", "--keep-serving", "eu-west-1"];
    let (code, shown, _) = proxima(&config, &keep).await;
    assert_eq!(code, Some(0));
    for line in [
        "  - _proxima.www.example.test TXT\n",
        "  + www.example.test A: TTL 60 127.77.0.2\n",
        ": 7 records to delete\n",
    ] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }
    assert_eq!(server.records().await.len(), 7);
    let (code, removed, error) = proxima(&config, &[&keep[..], &["--yes"]].concat()).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{removed}");
    assert!(removed.contains("health checks deleted: 6\n"), "{removed}");
    assert!(removed.ends_with("removed: a plain record serves each name\n"), "{removed}");
    let left = server.records().await;
    assert_eq!((left.len(), &left[0].resource_records), (1, &theirs.resource_records));
    let (code, _, error) = proxima(&config, &["remove", "--yes"]).await;
    assert_eq!(code, Some(1), "what is left is nobody's: {error}");
    assert_eq!(server.records().await, left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_asks_the_servers_and_tells_a_wrong_answer_and_a_wrong_share_on_our_zone_server() {
    let mut server = Server::zone_server().await.unwrap();
    for (number, address) in server.addresses.iter_mut().enumerate() {
        address.push_str(&format!(" fd00:77::{}", number + 1));
    }
    server.bootstrap().await;
    let edge = server.edge("eu-west-1").await;
    let plan = edge.plan(&edge.read().await, "eu-west-1", &[("eu-west-1", 60), ("us-east-1", 40)]);
    edge.submit(&plan).await;
    let config = written(&server, "verify");
    let at = server.dns.unwrap().to_string();
    let verify = ["verify", "--server", at.as_str()];
    let shown = until_well(async || proxima(&config, &verify).await).await;
    for line in [
        "www.example.test in zone",
        "ok        eu-west-1.www.example.test AAAA: eu-west-1 ",
        "; want eu-west-1 60 %, us-east-1 40 %\n",
        "ok        us-east-1.www.example.test A: us-east-1 1 of 1; want us-east-1\n",
        "ok        www.example.test A: ",
    ] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }
    // A server that answers by what was: the same zone, with the records changed behind its DNS.
    let slow = proxima::zone_server::Settings { zone: Some("example.test".to_owned()), ..Default::default() };
    let old = proxima::zone_server::ZoneServer::start(slow).await.unwrap();
    let stale = old.dns_addr().to_string();
    let (code, json, _) = proxima(&config, &["verify", "--json", "--server", &at, "--server", &stale]).await;
    assert_eq!(code, Some(1));
    let said: serde_json::Value = serde_json::from_str(&json).unwrap();
    let answers = said["names"][0]["answers"].as_array().unwrap();
    for answer in answers {
        let wanted = answer["server"] == at.as_str();
        assert_eq!(answer["matches"] == true, wanted, "{answer}");
    }
    assert_eq!(said["mismatches"], 8, "three sets and the name, in both families");
    assert!(json.contains("1 times nothing"), "{json}");
}

/// Passes questions on from port 53 of an address; `None`: that port is not for everybody here.
async fn at_port_53(
    of: std::net::SocketAddr,
    server: std::net::SocketAddr,
) -> Option<tokio::task::JoinHandle<()>> {
    let listens = match UdpSocket::bind((of.ip(), 53)).await {
        Ok(listens) => listens,
        Err(error) => {
            eprintln!("SKIPPED: port 53 of {}: {error}: servers are not found by their names", of.ip());
            return None;
        }
    };
    Some(tokio::spawn(async move {
        let asks = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut message = [0; 4096];
        loop {
            let (length, from) = listens.recv_from(&mut message).await.unwrap();
            asks.send_to(&message[..length], server).await.unwrap();
            let length = asks.recv(&mut message).await.unwrap();
            listens.send_to(&message[..length], from).await.unwrap();
        }
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_finds_the_servers_that_route_53_names() {
    let server = Server::zone_server().await.unwrap();
    server.bootstrap().await;
    let config = written(&server, "named");
    // Names that nobody knows are told, and nothing else is asked instead.
    let (code, shown, error) = proxima(&config, &["verify"]).await;
    assert_eq!(code, Some(1), "{error}");
    assert!(shown.contains("none of the zone's servers has an address: ns-1.example.test"), "{shown}{error}");

    let at = std::net::SocketAddr::from(([127, 77, 53, 1], 53));
    let Some(passes) = at_port_53(at, server.dns.unwrap()).await else { return };
    // The command alone has another /etc/hosts.
    let hosts = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dns_cli_hosts");
    let names = ["ns-1", "ns-2"].map(|name| format!("{} {name}.example.test\n", at.ip()));
    std::fs::write(&hosts, names.concat()).unwrap();
    let elsewhere = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"").arg(&hosts);
        command
    };
    if !elsewhere().arg("true").status().await.unwrap().success() {
        eprintln!("SKIPPED: no mount namespace can be made here: servers are not found by their names");
        return;
    }
    let verify = async || {
        let mut command = elsewhere();
        command.arg(env!("CARGO_BIN_EXE_proxima"));
        ended(command, &config, &["verify"]).await
    };
    let shown = until_well(verify).await;
    passes.abort();
    assert!(
        shown.contains(&format!("  {at}\n")) && shown.contains("ok        www.example.test A: "),
        "{shown}"
    );
}
