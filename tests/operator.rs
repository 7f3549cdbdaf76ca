//! Operators' commands, by the real binary: three edges, Route 53 as the zone server speaks it, and a
//! front before it that can take it away.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // Each test file uses its part.
mod dns_support;
mod run_support;

use dns_support::front::{Fate, For, Front};
use dns_support::{REGIONS, Server, region};
use proxima::dns::control_record::ControlRecord;
use run_support::authority::Authority;
use run_support::{Edge, Folder, Service, eventually, loopback};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

const NAME: &str = "www.example.test";
const TOKEN: &str = "a token of sixteen bytes or more";

struct World {
    server: Server,
    front: Front,
    folder: Folder,
    edges: Vec<Edge>,
    files: Vec<PathBuf>,
    _service: Service,
}

/// What a command said.
struct Said {
    code: Option<i32>,
    out: String,
    error: String,
}

impl World {
    async fn start() -> Self {
        let mut server = Server::zone_server().await.unwrap();
        let front = Front::before(server.endpoint.as_deref().unwrap()).await;
        let (folder, authority, service) = (Folder::new(), Authority::new(), Service::start("web"));
        let ips: Vec<Ipv4Addr> = REGIONS.iter().map(|_| loopback()).collect();
        server.addresses = ips.iter().map(Ipv4Addr::to_string).collect();
        server.health_port = 18080;
        folder.write("token", TOKEN);
        let behind = server.behind(&front.address.to_string());
        let mut files = Vec::new();
        for (own, ip) in REGIONS.iter().zip(&ips) {
            authority.sign(&folder, own, &format!("{own}.test"));
            let dns = "mode = \"act\"\ninsync_allowance = \"1s\"";
            let mut text = behind.text(own, &REGIONS, dns);
            for (number, ip) in ips.iter().enumerate() {
                text = text.replace(
                    &format!("\"127.0.0.1:{}\"\nserver", 8443 + number),
                    &format!("\"{ip}:18443\"\nserver"),
                );
            }
            let text = text
                .replace("127.0.0.1:8080", &format!("{ip}:18080"))
                .replace("\"127.0.0.1:8443\"", &format!("\"{ip}:18443\""))
                .replace("127.0.0.1:8081", &service.address.to_string())
                .replace("\"peer.pem\"", &format!("\"{own}.pem\""))
                .replace("\"peer.key\"", &format!("\"{own}.key\""))
                .replace("\"ca.pem\"", &format!("\"{own}-ca.pem\""))
                .replace("ttl = \"60s\"", "ttl = \"1s\"")
                .replace("poll = \"1s\"", "poll = \"500ms\"");
            let more = format!(
                "[admin]\naddress = \"127.0.0.1:0\"\n[[admin.operators]]\nname = \"alice\"\ntoken_file = \"token\"\n\
                 [audit]\noutput = \"audit-{own}.log\"\n[failover]\nhold_down = \"2s\"\nmax_shift = 1.0\n\
                 close_over = \"0s\"\n"
            );
            files.push(folder.write(&format!("{own}.toml"), &(text + &more)));
        }
        let bootstrap = Command::new(env!("CARGO_BIN_EXE_proxima"))
            .args(["dns", "bootstrap", "--yes", "--config"])
            .arg(&files[0])
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .output()
            .unwrap();
        assert!(bootstrap.status.success(), "{}", String::from_utf8_lossy(&bootstrap.stderr));
        let edges: Vec<Edge> = files.iter().map(|file| Edge::ready(file)).collect();
        let world = Self { server, front, folder, edges, files, _service: service };
        for edge in &world.edges {
            eventually("all regions are up", || {
                let verdicts = &edge.snapshot()["names"][NAME]["verdicts"];
                REGIONS.iter().all(|region| verdicts[region] == "up").then_some(())
            });
        }
        world
    }

    /// Runs a command against the second edge, eu-west-1.
    fn proxima(&self, arguments: &[&str]) -> Said {
        self.proxima_with(&self.folder.path().join("token"), arguments)
    }

    fn proxima_with(&self, token: &PathBuf, arguments: &[&str]) -> Said {
        let admin = format!("http://{}", self.edges[1].address("admin"));
        let output = Command::new(env!("CARGO_BIN_EXE_proxima"))
            .args(arguments)
            .env("PROXIMA_ADMIN", admin)
            .env("PROXIMA_TOKEN_FILE", token)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("PROXIMA_REGION")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), error: text(output.stderr) }
    }

    async fn control(&self) -> ControlRecord {
        let records = self.server.records().await;
        let set = records.iter().find(|set| set.name == format!("_proxima.{NAME}.")).unwrap();
        ControlRecord::parse(set.resource_records()[0].value()).unwrap()
    }

    /// Regions that the entry's users are sent to.
    async fn sent_to(&self, entry: &str) -> Vec<String> {
        let records = self.server.records().await;
        let set = records.iter().filter(|set| set.name == format!("{entry}.{NAME}."));
        set.filter_map(|set| set.set_identifier().map(str::to_owned)).collect()
    }

    /// Waits until the entry's users are sent home, or nobody of them is.
    async fn until(&self, entry: &str, home: bool) {
        let deadline = tokio::time::Instant::now() + run_support::PATIENCE;
        loop {
            let regions = self.sent_to(entry).await;
            if !regions.is_empty() && regions.iter().all(|region| (region == entry) == home) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{entry} is sent to {regions:?}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    fn audit(&self) -> Vec<serde_json::Value> {
        let text =
            std::fs::read_to_string(self.folder.path().join("audit-eu-west-1.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn audited(&self, act: &str, result: &str) -> Option<serde_json::Value> {
        self.audit().into_iter().find(|line| line["act"] == act && line["result"] == result)
    }

    /// The first candidate of the service at the second edge.
    fn first(&self) -> String {
        let first = self.edges[1].snapshot()["services"]["web"]["candidates"][0]["region"].clone();
        first.as_str().unwrap_or_default().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_drain_and_undrain_and_are_held_to_the_rules() {
    let world = Arc::new(World::start().await);
    let (own, reason) = ("eu-west-1", ["--reason", "bad deploy, ask bob"]);

    // Who is no operator, is told so, and nothing happens.
    world.folder.write("wrong", "not the token of anybody here");
    let wrong = world.folder.path().join("wrong");
    let denied = world.proxima_with(&wrong, &["drain", own, reason[0], reason[1]]);
    assert_eq!(denied.code, Some(1), "{}", denied.error);
    assert!(denied.error.contains("no operator has this token"), "{}", denied.error);
    assert!(world.audited("drain", "denied").is_some());
    let nameless = world.proxima(&["drain", own]);
    assert!(nameless.error.contains("needs a reason"), "{}", nameless.error);
    assert!(world.control().await.operator.drains.is_empty());

    // A drain waits until it is INSYNC, and the users go elsewhere.
    let drained = world.proxima(&["drain", own, reason[0], reason[1]]);
    assert_eq!(drained.code, Some(0), "{}{}", drained.out, drained.error);
    for words in ["in force at http://127.0.0.1:", "by alice", "in the control record, generation 2, INSYNC"]
    {
        assert!(drained.out.contains(words), "{words} in {}", drained.out);
    }
    let said = world.control().await.operator.drains[&region(own)].said.clone();
    assert_eq!((said.reason.as_str(), said.by.as_str()), ("bad deploy, ask bob", "alice"));
    world.until(own, false).await;
    let written = world.audited("drain", "written").unwrap();
    assert_eq!((&written["operator"], &written["generation"]), (&"alice".into(), &2.into()));
    let accepted = world.audited("drain", "accepted").unwrap();
    assert_eq!(accepted["reason"], "bad deploy, ask bob");
    assert!(accepted["from"].as_str().unwrap().starts_with("127.0.0.1:"));
    world.edges[1].until_metric("proxima_operator_acts_total{act=\"drain\",result=\"written\"}", 1.0);
    assert!(!world.audit().iter().any(|line| line.to_string().contains(TOKEN)));
    assert!(!world.edges[1].log().contains(TOKEN));
    let status = world.proxima(&["operator", "status"]);
    assert!(status.out.contains("bad deploy, ask bob"), "{}", status.out);

    // Each edge heeds what one of them was told; the last region is not drained.
    eventually("another edge has read it", || {
        (world.edges[0].snapshot()["services"]["web"]["states"][own] == "draining").then_some(())
    });
    let other = world.proxima(&["drain", "us-east-1", reason[0], reason[1]]);
    assert_eq!(other.code, Some(0), "{}{}", other.out, other.error);
    let last = world.proxima(&["drain", "ap-south-1", reason[0], reason[1]]);
    assert_eq!(last.code, Some(1));
    assert!(last.error.contains("refused: rule `min_live`"), "{}", last.error);
    assert!(world.audited("drain", "refused").unwrap()["why"].as_str().unwrap().contains("min_live"));

    for region in [own, "us-east-1"] {
        let back = world.proxima(&["undrain", region]);
        assert_eq!(back.code, Some(0), "{}{}", back.out, back.error);
    }
    world.until(own, true).await;
    assert!(world.control().await.operator.drains.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_effective_while_route_53_is_down_and_written_when_it_is_back() {
    let world = World::start().await;
    let own = "eu-west-1";
    // Changes are refused from now on, as many as it takes.
    let refused = 4;
    for _ in 0..refused {
        world.front.next(For::Changes, Fate::Refuse("Throttling"));
    }
    let (reached, go) = (Arc::default(), Arc::default());
    world.front.next(For::Changes, Fate::Hold { reached: Arc::clone(&reached), go: Arc::clone(&go) });
    let drained = world.proxima(&["drain", own, "--reason", "fire", "--no-wait"]);
    assert_eq!(drained.code, Some(3), "{}{}", drained.out, drained.error);
    assert!(drained.out.contains("effective at this edge, not yet written"), "{}", drained.out);
    eventually("new requests go elsewhere", || (world.first() != own).then_some(()));
    reached.notified().await;
    assert!(world.control().await.operator.drains.is_empty(), "it is not written");
    let status = world.proxima(&["operator", "status"]);
    assert!(status.out.contains("Throttling"), "the reason is shown: {}", status.out);
    // A later act on the same thing, given while the first one is under way.
    go.notify_one();
    let again = world.proxima(&["drain", own, "--reason", "fire, still"]);
    assert_eq!(again.code, Some(0), "{}{}", again.out, again.error);
    assert_eq!(world.control().await.operator.drains[&region(own)].said.reason, "fire, still");
    assert!(world.front.changes_seen() > refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn freezes_overrides_and_the_way_without_any_edge() {
    let world = World::start().await;
    let config = world.files[1].to_str().unwrap();
    let frozen = world
        .proxima(&["freeze", "--all", "--reason", "release", "--direct", "--config", config, "--as", "bob"]);
    assert_eq!(frozen.code, Some(0), "{}{}", frozen.out, frozen.error);
    assert!(frozen.out.contains("INSYNC"), "{}", frozen.out);
    let freeze = world.control().await.operator.freeze.unwrap();
    assert_eq!((freeze.said.reason.as_str(), freeze.said.by.as_str()), ("release", "bob (direct)"));
    for edge in &world.edges {
        edge.until_metric(&format!("proxima_dns_frozen{{name=\"{NAME}\"}}"), 1.0);
    }
    let drained = world.proxima(&["drain", "eu-west-1", "--reason", "x", "--for", "10m"]);
    assert_eq!(drained.code, Some(0), "{}{}", drained.out, drained.error);
    eventually("the freeze holds it back", || {
        (world.edges[0].snapshot()["names"][NAME]["refusal"] == "frozen").then_some(())
    });
    assert_eq!(world.sent_to("eu-west-1").await, ["eu-west-1"]);
    let thawed = world.proxima(&["thaw", "--name", NAME]);
    assert_eq!(thawed.code, Some(0), "{}{}", thawed.out, thawed.error);
    world.until("eu-west-1", false).await;

    let over = world.proxima(&["override", "hold_down", "--for", "30m", "--reason", "we know"]);
    assert_eq!(over.code, Some(0), "{}{}", over.out, over.error);
    assert_eq!(world.control().await.operator.overrides.len(), 1);
    let wrong = world.proxima(&["override", "frozen", "--for", "30m", "--reason", "we know"]);
    assert!(
        wrong.code == Some(1) && wrong.error.contains("no rule that can be overridden"),
        "{}",
        wrong.error
    );
    assert_eq!(world.proxima(&["clear", "hold_down"]).code, Some(0));
    assert!(world.control().await.operator.overrides.is_empty());

    let direct = ["--reason", "x", "--direct", "--config", config];
    for region in ["us-east-1", "ap-south-1"] {
        let said = world.proxima(&[&["drain", region][..], &direct[..]].concat());
        let last = region == "ap-south-1";
        assert_eq!(said.code, Some(i32::from(last)), "{region}: {}{}", said.out, said.error);
        assert_eq!(said.error.contains("refused: rule `min_live`"), last, "{}", said.error);
    }
    let nobody = Command::new(env!("CARGO_BIN_EXE_proxima"))
        .args(["thaw", "--all", "--admin", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("--direct if no edge is left"));
}
