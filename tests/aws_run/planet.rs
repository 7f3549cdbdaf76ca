//! Two regions with a name at the stand-in, edges that have the role of deploy/iam/edge.json, and what becomes of records.

use crate::gate::{Door, Gate};
use crate::run_support::authority::Authority;
use crate::run_support::{Edge, Folder, eventually, get, loopback, served};
use crate::world::{REGION, World, bare, token};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// That of deploy/iam.
pub const NAME: &str = "www.example.com";
pub const FAR: &str = "us-east-1";
pub const READ_WELL: &str = r#"proxima_dns_reads_total{result="good"}"#;
pub const NO_CREDENTIALS: &str = r#"proxima_dns_api_errors_total{kind="credentials"}"#;
pub const RENEWED: &str = r#"proxima_aws_credentials_renewals_total{result="renewed"}"#;

/// A service that is well until it is told to be ill.
struct Web {
    address: SocketAddr,
    ill: Arc<AtomicBool>,
}

impl Web {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, ill) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let now = Arc::clone(&ill);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let status = if now.load(Ordering::SeqCst) { "503 Service Unavailable" } else { "200 OK" };
                let mut head = [0; 4096];
                // A client that has gone needs no answer.
                let read = stream.read(&mut head).unwrap_or(0);
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
                if read > 0 && stream.write_all(answer.as_bytes()).is_err() {
                    continue;
                }
            }
        });
        Self { address, ill }
    }
}

/// deploy/iam/edge.json with this zone in it: its name and its regions are those of the planet.
pub fn policy(zone: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/iam/edge.json");
    let policy = std::fs::read_to_string(file).unwrap().replace("Z0000000000000EXAMPLE", zone);
    for record in [format!("_proxima.{NAME}"), format!("{REGION}.{NAME}"), format!("{FAR}.{NAME}")] {
        assert!(policy.contains(&record), "{record} is not in the policy");
    }
    policy
}

/// Two regions, a name that leads to both, and its zone at the stand-in.
pub struct Planet {
    pub world: World,
    pub folder: Folder,
    pub zone: String,
    web: [Web; 2],
    at: [Ipv4Addr; 2],
    /// The instance's metadata, which is away.
    pub imds: Gate,
    pub role: String,
}

impl Planet {
    pub async fn new() -> Option<Self> {
        let world = World::start().await?;
        let (folder, authority) = (Folder::new(), Authority::new());
        for region in [REGION, FAR] {
            authority.sign(&folder, region, &format!("peer.{region}.test"));
        }
        let zone = "<CreateHostedZoneRequest><Name>example.com</Name><CallerReference>x</CallerReference></CreateHostedZoneRequest>";
        let made = world.signed("route53", ("POST", "/2013-04-01/hostedzone"), &[], zone.as_bytes());
        let zone = made.text.split("<Id>/hostedzone/").nth(1).unwrap().split('<').next().unwrap().to_owned();
        let role = world.role("edge", &policy(&zone));
        let imds = world.gate(Door::Shut);
        let planet = Self {
            world,
            folder,
            zone,
            web: [Web::start(), Web::start()],
            at: [loopback(), loopback()],
            imds,
            role,
        };
        let config = planet.config((REGION, "command"), &planet.world.url(), "");
        let done = planet.proxima(&["dns", "bootstrap", "--yes", "--config", config.to_str().unwrap()]);
        assert!(done.0, "{}", done.1);
        Some(planet)
    }

    /// `proxima` by the keys of the account; whether it went well, and what it said.
    fn proxima(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
        bare(&mut command)
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
        let done = command.output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(said).unwrap())
    }

    pub fn config(&self, (own, file): (&str, &str), route53: &str, more: &str) -> PathBuf {
        let (near, far) = (&self.web[0].address, &self.web[1].address);
        let text = format!(
            r#"
[edge]
region = "{own}"
drain_notice = "0s"
[[listeners]]
name = "http"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[peer]
address = "{address}:8443"
certificate = "{own}.pem"
key = "{own}.key"
ca = "{own}-ca.pem"
[regions.{REGION}]
peer = "{near_at}:8443"
server_name = "peer.{REGION}.test"
addresses = ["203.0.113.10"]
[regions.{FAR}]
peer = "{far_at}:8443"
server_name = "peer.{FAR}.test"
addresses = ["203.0.113.20"]
[probes]
interval = "200ms"
timeout = "150ms"
{web}
[names."{NAME}"]
services = ["web"]
ttl = "1s"
[failover]
down_after = "500ms"
view_fresh = "2s"
hold_down = "3s"
[dns]
mode = "act"
zone_id = "{zone}"
endpoint = "{route53}"
poll = "300ms"
insync_poll = "100ms"
insync_allowance = "1s"
requests_per_second = 100
{more}
"#,
            address = if own == REGION { self.at[0] } else { self.at[1] },
            near_at = self.at[0],
            far_at = self.at[1],
            web = served("web", REGION, *near, "/")
                .replace("health.path", &format!("endpoints.{FAR} = [\"{far}\"]\nhealth.path")),
            zone = self.zone,
        );
        self.folder.write(&format!("{file}.toml"), &text)
    }

    /// Writes a token for a service account where edges look for theirs.
    pub fn token(&self, subject: &str) -> String {
        self.folder.write("token", &token(subject));
        self.token_file()
    }

    pub fn token_file(&self) -> String {
        self.folder.path().join("token").to_str().unwrap().to_owned()
    }

    /// The far region's service from now on.
    pub fn far_is_ill(&self, ill: bool) {
        self.web[1].ill.store(ill, Ordering::SeqCst);
    }

    /// Users of the far region are led to the near one: its service is ill from now on.
    pub fn evacuate(&self) {
        let before = self.shown();
        assert!(before.contains(&format!("{FAR}=100")), "{before}");
        self.far_is_ill(true);
        eventually("the far region's users are led here", || {
            let shown = self.shown();
            let entry = shown.lines().find(|line| line.contains(FAR) && line.contains('='))?;
            (entry.contains(&format!("{REGION}=100")) && !entry.contains(&format!("{FAR}=100"))).then_some(())
        });
    }

    /// An edge of `own` with a token as IRSA gives one, which it changes for credentials at `sts`.
    pub fn edge(&self, own: &str, route53: &str, sts: &Gate) -> Edge {
        let variables = [
            ("AWS_WEB_IDENTITY_TOKEN_FILE", self.token_file()),
            ("AWS_ROLE_ARN", self.role.clone()),
            ("AWS_ENDPOINT_URL_STS", sts.url()),
        ];
        self.edge_by("web_identity", own, route53, &variables)
    }

    /// An edge that takes its credentials from this source, with what tells it where that is.
    pub fn edge_by(
        &self,
        source: &str,
        own: &str,
        route53: &str,
        variables: &[(&'static str, String)],
    ) -> Edge {
        let aws = format!("[aws]\ncredentials = \"{source}\"");
        let mut command = Edge::command(&self.config((own, own), route53, &aws), &[]);
        bare(&mut command).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.imds.url());
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Edge::of(command).bound_all()
    }

    /// All records of the zone, as the stand-in lists them.
    pub fn records(&self) -> String {
        let path = format!("/2013-04-01/hostedzone/{}/rrset", self.zone);
        let listed = self.world.signed("route53", ("GET", &path), &[], b"").text;
        listed.split_once("<ListResourceRecordSetsResponse").unwrap().1.to_owned()
    }

    /// Where the far region's users are led, by the records: weights of the near region and of their own; no record is 0.
    pub fn weights(&self) -> [u8; 2] {
        let (records, name) = (self.records(), format!("<Name>{FAR}.{NAME}.</Name>"));
        let sets: Vec<&str> =
            records.split("<ResourceRecordSet>").filter(|set| set.contains(&name)).collect();
        assert!(!sets.is_empty(), "{records}");
        [REGION, FAR].map(|region| {
            let own = format!("<SetIdentifier>{region}</SetIdentifier>");
            let Some(set) = sets.iter().find(|set| set.contains(&own)) else { return 0 };
            let weight = set.split_once("<Weight>").unwrap().1.split('<').next().unwrap();
            weight.parse().unwrap()
        })
    }

    /// Lines of `dns show`.
    fn shown(&self) -> String {
        let config = self.config((REGION, "command"), &self.world.url(), "");
        self.proxima(&["dns", "show", "--config", config.to_str().unwrap()]).1
    }
}

pub fn serves(edge: &Edge) {
    eventually("users are served", || (get(edge.address("http"), "/").status == 200).then_some(()));
}
