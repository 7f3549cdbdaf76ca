//! Where credentials come from, and what becomes of users and records when they do not come.

use crate::gate::{Door, Gate, THROTTLED};
use crate::run_support::authority::Authority;
use crate::run_support::{Edge, Folder, eventually, get, loopback, served};
use crate::world::{REGION, SUBJECT, World, bare, token};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const NAME: &str = "www.example.test";
pub const FAR: &str = "us-east-1";
/// What an edge calls, by deploy/iam/edge.json.
pub const EDGE_MAY: [&str; 6] = [
    "route53:GetHostedZone",
    "route53:ListResourceRecordSets",
    "route53:GetChange",
    "route53:ListHealthChecks",
    "route53:GetHealthCheckStatus",
    "route53:ChangeResourceRecordSets",
];
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

/// Two regions, a name that leads to both, and its zone at the stand-in.
pub struct Planet {
    pub world: World,
    pub folder: Folder,
    zone: String,
    web: [Web; 2],
    at: [Ipv4Addr; 2],
    pub role: String,
}

impl Planet {
    pub async fn new() -> Option<Self> {
        let world = World::start().await?;
        let (folder, authority) = (Folder::new(), Authority::new());
        for region in [REGION, FAR] {
            authority.sign(&folder, region, &format!("peer.{region}.test"));
        }
        let role = world.role("edge", &EDGE_MAY);
        let zone = "<CreateHostedZoneRequest><Name>example.test</Name><CallerReference>x</CallerReference></CreateHostedZoneRequest>";
        let made = world.signed("route53", ("POST", "/2013-04-01/hostedzone"), &[], zone.as_bytes());
        let zone = made.text.split("<Id>/hostedzone/").nth(1).unwrap().split('<').next().unwrap().to_owned();
        let planet = Self {
            world,
            folder,
            zone,
            web: [Web::start(), Web::start()],
            at: [loopback(), loopback()],
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

    pub fn config(&self, (own, file): (&str, &str), route53: &str, more: &str) -> std::path::PathBuf {
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

    /// Users of the far region are led to the near one: its service is ill from now on.
    pub fn evacuate(&self) {
        let before = self.shown();
        assert!(before.contains(&format!("{FAR}=100")), "{before}");
        self.web[1].ill.store(true, Ordering::SeqCst);
        eventually("the far region's users are led here", || {
            let shown = self.shown();
            let entry = shown.lines().find(|line| line.contains(FAR) && line.contains('='))?;
            (entry.contains(&format!("{REGION}=100")) && !entry.contains(&format!("{FAR}=100"))).then_some(())
        });
    }

    /// An edge of `own` with a token as IRSA gives one, which it changes for credentials at `sts`.
    fn edge(&self, own: &str, route53: &str, sts: &Gate) -> Edge {
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
        bare(&mut command).envs(variables.iter().map(|(name, value)| (name, value)));
        Edge::of(command).bound_all()
    }

    /// All records of the zone, as the stand-in lists them.
    pub fn records(&self) -> String {
        let path = format!("/2013-04-01/hostedzone/{}/rrset", self.zone);
        let listed = self.world.signed("route53", ("GET", &path), &[], b"").text;
        listed.split_once("<ListResourceRecordSetsResponse").unwrap().1.to_owned()
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

#[tokio::test]
async fn a_region_is_evacuated_with_the_role_of_the_service_account_while_sts_is_down_again() {
    let Some(planet) = Planet::new().await else { return };
    planet.token(SUBJECT);
    let sts = planet.world.gate(Door::Open);
    let route53 = planet.world.url();
    let edges = [planet.edge(REGION, &route53, &sts), planet.edge(FAR, &route53, &sts)];
    for edge in &edges {
        serves(edge);
        edge.until_metric(READ_WELL, 3.0);
        edge.until_metric("proxima_aws_credentials_expiry_timestamp_seconds", 1.0);
    }
    // What they have is good for an hour: nobody asks, nobody notices.
    sts.turn(Door::Shut);
    let knocks = sts.knocks();
    planet.evacuate();
    assert_eq!(sts.knocks(), knocks, "STS was asked again");
    for edge in &edges {
        serves(edge);
        assert_eq!(edge.metric(RENEWED), Some(1.0));
        assert_eq!(edge.metric(NO_CREDENTIALS), Some(0.0));
    }
}

#[tokio::test]
async fn sts_that_is_down_at_the_start_costs_no_request_and_readings_begin_when_it_is_back() {
    let Some(planet) = Planet::new().await else { return };
    planet.token(SUBJECT);
    let sts = planet.world.gate(Door::Shut);
    let edge = planet.edge(REGION, &planet.world.url(), &sts);
    edge.until_metric(NO_CREDENTIALS, 1.0);
    serves(&edge);
    assert_eq!(get(edge.address("admin"), "/ready").status, 200);
    assert_eq!(edge.metric(READ_WELL), Some(0.0));
    sts.turn(Door::Open);
    edge.until_metric(READ_WELL, 1.0);
    assert!(edge.log().contains("works again"), "{}", edge.log());
}

#[tokio::test]
async fn the_role_is_for_the_service_account_alone_and_a_token_that_was_rotated_is_read_anew() {
    let Some(planet) = Planet::new().await else { return };
    planet.token("system:serviceaccount:default:somebody");
    let sts = planet.world.gate(Door::Open);
    let edge = planet.edge(REGION, &planet.world.url(), &sts);
    edge.until_metric(NO_CREDENTIALS, 1.0);
    eventually("it is told why", || edge.log().contains("AccessDenied").then_some(()));
    assert_eq!(edge.metric(READ_WELL), Some(0.0));
    planet.token(SUBJECT);
    edge.until_metric(READ_WELL, 1.0);
}

#[tokio::test]
async fn throttled_calls_are_asked_again_and_users_see_nothing_of_it() {
    let Some(planet) = Planet::new().await else { return };
    planet.token(SUBJECT);
    let (sts, route53) = (planet.world.gate(Door::Open), planet.world.gate(THROTTLED));
    let edge = planet.edge(REGION, &route53.url(), &sts);
    edge.until_metric(r#"proxima_dns_api_errors_total{kind="throttled"}"#, 2.0);
    serves(&edge);
    route53.turn(Door::Open);
    edge.until_metric(READ_WELL, 1.0);
    assert_eq!(edge.metric(NO_CREDENTIALS), Some(0.0));
}

#[tokio::test]
async fn the_role_of_the_node_is_never_taken_unless_it_is_said() {
    let Some(planet) = Planet::new().await else { return };
    let imds = planet.world.gate(Door::Open);
    let file = planet.config((REGION, "command"), &planet.world.url(), "");
    let start = |said: &str| {
        let mut command = Edge::command(&file, &[]);
        bare(&mut command)
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url())
            .env("PROXIMA_AWS_CREDENTIALS", said);
        Edge::of(command).bound_all()
    };
    let edge = start("");
    edge.until_metric(NO_CREDENTIALS, 2.0);
    serves(&edge);
    assert_eq!(imds.knocks(), 0, "the instance was asked");
    for word in ["no credentials for AWS", "AWS_ROLE_ARN", r#"credentials = \"node\""#] {
        assert!(edge.log().contains(word), "{word}\n{}", edge.log());
    }
    drop(edge);
    let edge = start("node");
    eventually("the instance is asked", || (imds.knocks() > 0).then_some(()));
    edge.until_metric(RENEWED, 1.0);
    drop(edge);
    // The same for a command, which has nothing else to do.
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
    let asked = imds.knocks();
    let shown = bare(&mut command)
        .args(["dns", "show", "--config", file.to_str().unwrap()])
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url())
        .output()
        .unwrap();
    assert_eq!((shown.status.code(), imds.knocks()), (Some(1), asked));
    assert!(String::from_utf8(shown.stderr).unwrap().contains("no credentials for AWS"));
}
