//! Three edges, Route 53 as the zone server speaks it, and a front before it that can take it away.

use crate::dns_support::front::Front;
use crate::dns_support::{REGIONS, Server};
use crate::run_support::authority::Authority;
use crate::run_support::{Edge, Folder, PATIENCE, Service, eventually, loopback};
use crate::{NAME, TOKEN};
use proxima::dns::control_record::ControlRecord;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

/// Three edges; commands go to the second one, eu-west-1.
pub struct World {
    pub server: Server,
    pub front: Front,
    pub folder: Folder,
    pub edges: Vec<Edge>,
    pub files: Vec<PathBuf>,
    _service: Service,
}

/// What a command said.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub error: String,
}

impl World {
    pub async fn start() -> Self {
        Self::closing_over("0s").await
    }

    /// `close_over`: of [failover].
    pub async fn closing_over(close_over: &str) -> Self {
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
                 close_over = \"{close_over}\"\n"
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
    pub fn proxima(&self, arguments: &[&str]) -> Said {
        self.proxima_with(&self.folder.path().join("token"), arguments)
    }

    pub fn proxima_with(&self, token: &PathBuf, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
        command.args(arguments).env("PROXIMA_TOKEN_FILE", token);
        command.env("PROXIMA_ADMIN", format!("http://{}", self.edges[1].address("admin")));
        Said::of(command)
    }

    pub async fn control(&self) -> ControlRecord {
        let records = self.server.records().await;
        let set = records.iter().find(|set| set.name == format!("_proxima.{NAME}.")).unwrap();
        ControlRecord::parse(set.resource_records()[0].value()).unwrap()
    }

    /// Regions that the entry's users are sent to.
    pub async fn sent_to(&self, entry: &str) -> Vec<String> {
        let records = self.server.records().await;
        let set = records.iter().filter(|set| set.name == format!("{entry}.{NAME}."));
        set.filter_map(|set| set.set_identifier().map(str::to_owned)).collect()
    }

    /// Waits until the entry's users are sent home, or nobody of them is.
    pub async fn until(&self, entry: &str, home: bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let regions = self.sent_to(entry).await;
            if !regions.is_empty() && regions.iter().all(|region| (region == entry) == home) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{entry} is sent to {regions:?}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text =
            std::fs::read_to_string(self.folder.path().join("audit-eu-west-1.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn audited(&self, act: &str, result: &str) -> Option<serde_json::Value> {
        self.audit().into_iter().find(|line| line["act"] == act && line["result"] == result)
    }

    /// The first candidate of the service at the second edge.
    pub fn first(&self) -> String {
        let first = self.edges[1].snapshot()["services"]["web"]["candidates"][0]["region"].clone();
        first.as_str().unwrap_or_default().to_owned()
    }
}

impl Said {
    /// What a command says that runs with credentials of AWS and knows no region.
    pub fn of(mut command: Command) -> Self {
        let output = command
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("PROXIMA_REGION")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), error: text(output.stderr) }
    }
}
