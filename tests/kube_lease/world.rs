//! A region of five pods and two of one each, a cluster's API with a Lease, and a zone.

use crate::cluster::{Cluster, until};
use crate::dns_support::front::Front;
use crate::dns_support::{REGIONS, Server};
use crate::run_support::authority::Authority;
use crate::run_support::{Edge, Folder, Service, get, loopback};
use crate::way::Way;
use aws_sdk_route53::types::{ChangeAction, ResourceRecord, ResourceRecordSet, RrType};
use kube::api::{Api, DynamicObject};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

pub const HELD: &str = "proxima_lease_held";
pub const RULES: &str = "proxima_lease_rules";
/// The region of the five pods, which comes first and so writes.
pub const POD_REGION: &str = REGIONS[0];
const PODS: usize = 5;
const TOKEN: &str = "a token of sixteen bytes or more";
const LEASE: &str = "proxima";
const NAMESPACE: &str = "edge";

pub struct World {
    pub cluster: Cluster,
    pub server: Server,
    /// Between the pods and the server.
    pub front: Front,
    /// From each pod to the API server.
    pub ways: Vec<Way>,
    pub pods: Vec<Edge>,
    /// By their number, as `holderIdentity` has them.
    peers: Vec<String>,
    others: Vec<Edge>,
    leases: Api<DynamicObject>,
    folder: Folder,
    _service: Service,
}

impl World {
    /// `lasts`: of the Lease; `notice`: of a drain. `None`: there is no API server here.
    pub async fn start(lasts: &str, notice: &str) -> Option<Self> {
        Self::build(lasts, notice, &[]).await
    }

    /// The pods are somebody who may do nothing.
    pub async fn without_rights(lasts: &str, notice: &str) -> Option<Self> {
        Self::build(lasts, notice, &[("as", "nobody")]).await
    }

    /// `user`: what the pods' kubeconfig says of its user, too.
    async fn build(lasts: &str, notice: &str, user: &[(&str, &str)]) -> Option<Self> {
        let cluster = Cluster::start().await?;
        cluster.namespace(NAMESPACE).await;
        let mut config: Value = serde_json::from_slice(&std::fs::read(cluster.admin()).unwrap()).unwrap();
        user.iter().for_each(|(key, value)| config["users"][0]["user"][*key] = (*value).into());
        let ways = ways(config["clusters"][0]["cluster"]["server"].as_str().unwrap()).await;
        let mut server = Server::zone_server().await.unwrap();
        let (folder, authority, service) = (Folder::new(), Authority::new(), Service::start("web"));
        let pods: Vec<Ipv4Addr> = (0..PODS).map(|_| loopback()).collect();
        let ips = [pods[0], loopback(), loopback()];
        server.addresses = ips.iter().map(Ipv4Addr::to_string).collect();
        server.health_port = 18080;
        server.change(vec![(ChangeAction::Create, addresses("pods.example.test", &pods))]).await;
        folder.write("token", TOKEN);
        let front = Front::before(server.endpoint.as_deref().unwrap()).await;
        let fronted = server.behind(&front.address.to_string());
        let texts = |server| Texts { server, ips: &ips, service: service.address, notice };
        let others: Vec<(&str, PathBuf)> = REGIONS
            .iter()
            .zip(&ips)
            .skip(1)
            .map(|(own, ip)| (*own, folder.write(&format!("{own}.toml"), &texts(&server).of(own, ip, ""))))
            .collect();
        REGIONS.iter().for_each(|own| authority.sign(&folder, own, &format!("{own}.test")));
        let of_pod = |(number, ip): (usize, &Ipv4Addr)| {
            let mut config = config.clone();
            config["clusters"][0]["cluster"]["server"] = format!("https://{}", ways[number].address).into();
            let kubeconfig = cluster.folder.write(&format!("pod-{number}.json"), &config.to_string());
            let kubernetes = format!(
                "[kubernetes]\nkubeconfig = \"{}\"\nnamespace = \"{NAMESPACE}\"\nlease = \"{LEASE}\"\n\
                 lease_duration = \"{lasts}\"\n",
                kubeconfig.display()
            );
            let siblings = "siblings = \"pods.example.test:18443\"\nregion = \"";
            let text = texts(&fronted).of(POD_REGION, ip, &kubernetes).replacen("region = \"", siblings, 1);
            let file = folder.write(&format!("pod-{number}.toml"), &text);
            let mut command = Edge::command(&file, &[]);
            command.env("AWS_ACCESS_KEY_ID", key(number));
            command
        };
        let pods_run: Vec<Command> = pods.iter().enumerate().map(of_pod).collect();
        let output =
            command().args(["dns", "bootstrap", "--yes", "--config"]).arg(&others[0].1).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let others = others.iter().map(|(_, file)| Edge::ready(file)).collect();
        let pods_run = pods_run.into_iter().map(|command| Edge::of(command).bound_all()).collect();
        let peers = pods.iter().map(|ip| format!("{ip}:18443")).collect();
        let leases = cluster.api("coordination.k8s.io/v1", "Lease", Some(NAMESPACE)).await;
        let world = Self {
            cluster,
            server,
            front,
            ways,
            pods: pods_run,
            peers,
            others,
            leases,
            folder,
            _service: service,
        };
        for edge in world.pods.iter().chain(&world.others) {
            until("all regions are up", || {
                let verdicts = &edge.snapshot()["names"]["www.example.test"]["verdicts"];
                REGIONS.iter().all(|region| verdicts[region] == "up").then_some(())
            });
        }
        Some(world)
    }

    /// Pods that believe to speak for the region.
    pub fn held(&self) -> Vec<usize> {
        self.held_but(&[])
    }

    fn held_but(&self, gone: &[usize]) -> Vec<usize> {
        (0..PODS).filter(|n| !gone.contains(n) && self.pods[*n].metric(HELD) == Some(1.0)).collect()
    }

    /// Waits until one pod, none of those that are gone, holds the lease by its own word and the record's.
    pub async fn holder(&self, gone: &[usize]) -> usize {
        loop {
            let held =
                until("one pod holds the lease", || Some(self.held_but(gone)).filter(|held| held.len() == 1));
            if self.recorded().await == Some(held[0]) {
                return held[0];
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The pod that the record names.
    async fn recorded(&self) -> Option<usize> {
        let lease = self.leases.get_opt(LEASE).await.unwrap()?;
        let identity = lease.data["spec"]["holderIdentity"].as_str()?.to_owned();
        self.peers.iter().position(|peer| identity.starts_with(&format!("{peer}_")))
    }

    /// The pods that the record has named, one after another.
    pub async fn watch_holders(self: Arc<Self>, done: Arc<AtomicBool>) -> Vec<usize> {
        let mut holders = Vec::new();
        while !done.load(Ordering::SeqCst) {
            if let Some(holder) = self.recorded().await
                && holders.last() != Some(&holder)
            {
                holders.push(holder);
            }
            sleep(Duration::from_millis(50)).await;
        }
        holders
    }

    /// An operator's command in another region; whether it did what it should.
    pub fn operate(&self, arguments: &[&str]) -> bool {
        let admin = format!("http://{}", self.others[0].address("admin"));
        let mut command = command();
        command.args(arguments).env("PROXIMA_TOKEN_FILE", self.folder.path().join("token"));
        command.env("PROXIMA_ADMIN", admin).output().unwrap().status.success()
    }

    /// Whether the users of a region's entry are sent there.
    pub async fn is_home(&self, entry: &str) -> bool {
        let records = self.server.records().await;
        let set: Vec<_> = records.iter().filter(|r| r.name == format!("{entry}.www.example.test.")).collect();
        set.iter().any(|record| record.set_identifier() == Some(entry))
    }

    /// Waits until nothing is written any more.
    pub async fn settle(&self) {
        let mut before = usize::MAX;
        loop {
            let writes = self.all_writes().len();
            if writes == before {
                return;
            }
            before = writes;
            sleep(Duration::from_secs(3)).await;
        }
    }

    /// Generations that the server has let the pods write, and which of them wrote each, by the keys that they sign
    /// with; in the order of generations.
    pub fn all_writes(&self) -> Vec<(u64, usize)> {
        let changes = self.front.changes_answered();
        let accepted = changes.iter().filter(|(_, status)| *status == 200);
        let mut all: Vec<(u64, usize)> = accepted.map(|(sent, _)| (generation(sent), signer(sent))).collect();
        all.sort_unstable();
        all
    }

    /// Changes that the server has refused a pod.
    pub fn refused(&self, pod: usize) -> usize {
        let changes = self.front.changes_answered();
        changes.iter().filter(|(sent, status)| *status != 200 && signer(sent) == pod).count()
    }

    /// The pods in the order of their generations, each once for what it wrote in a row.
    pub fn writers(&self) -> Vec<usize> {
        let mut writers: Vec<usize> = self.all_writes().into_iter().map(|(_, pod)| pod).collect();
        writers.dedup();
        writers
    }

    /// By the zone server's own record: each change of a set began with what the one before had left, and none
    /// was ever without a region.
    pub fn history_is_whole(&self) {
        let api = self.server.endpoint.as_deref().unwrap().trim_start_matches("http://").parse().unwrap();
        let history: Value = serde_json::from_str(&get(api, "/zone-server/history").body).unwrap();
        let mut last: BTreeMap<String, Value> = BTreeMap::new();
        let mut changes = String::new();
        for change in history["changes"].as_array().unwrap() {
            for set in change["sets"].as_array().unwrap() {
                let name = format!("{} {}", set["name"], set["type"]);
                if let Some(before) = last.insert(name.clone(), set["after"].clone()) {
                    assert_eq!(before, set["before"], "{name}");
                    writeln!(changes, "{name}").unwrap();
                }
            }
        }
        assert!(changes.lines().count() >= 4, "{history:#}");
        assert_eq!(history["sets_ever_empty"], 0);
    }
}

/// From each pod to the API server, an `https://` address.
async fn ways(api: &str) -> Vec<Way> {
    let api = api.trim_start_matches("https://").parse().unwrap();
    let mut ways = Vec::new();
    for _ in 0..PODS {
        ways.push(Way::to(api, Duration::ZERO).await);
    }
    ways
}

/// What the configurations of all processes are made of.
struct Texts<'a> {
    server: &'a Server,
    /// One of each region.
    ips: &'a [Ipv4Addr],
    service: SocketAddr,
    notice: &'a str,
}

impl Texts<'_> {
    fn of(&self, own: &str, ip: &Ipv4Addr, more: &str) -> String {
        let mut text = self
            .server
            .text(own, &REGIONS, "mode = \"act\"\ninsync_allowance = \"1s\"")
            .replace("127.0.0.1:8443\"\nserver", "pods.example.test:18443\"\nserver");
        for (number, ip) in self.ips.iter().enumerate().skip(1) {
            let stated = format!("\"127.0.0.1:{}\"\nserver", 8443 + number);
            text = text.replace(&stated, &format!("\"{ip}:18443\"\nserver"));
        }
        let text = text
            .replace("region = \"", &format!("drain_notice = \"{}\"\nregion = \"", self.notice))
            .replace("127.0.0.1:8080", &format!("{ip}:18080"))
            .replace("\"127.0.0.1:8443\"", &format!("\"{ip}:18443\""))
            .replace("127.0.0.1:8081", &self.service.to_string())
            .replace("\"peer.pem\"", &format!("\"{own}.pem\""))
            .replace("\"peer.key\"", &format!("\"{own}.key\""))
            .replace("\"ca.pem\"", &format!("\"{own}-ca.pem\""))
            .replace("ttl = \"60s\"", "ttl = \"1s\"")
            .replace("poll = \"1s\"", "poll = \"500ms\"")
            .replace("[dns]", "[dns]\nrequests_per_second = 100");
        let dns = self.server.dns.unwrap();
        text + &format!(
            "[admin]\naddress = \"127.0.0.1:0\"\n[[admin.operators]]\nname = \"alice\"\ntoken_file = \"token\"\n\
             [failover]\nhold_down = \"2s\"\nmax_shift = 1.0\nmax_changes_per_hour = 1000\nview_fresh = \"2s\"\n\
             [probes]\ninterval = \"250ms\"\ntimeout = \"200ms\"\n\
             [resolver]\nnameservers = [\"{dns}\"]\n{more}"
        )
    }
}

/// What a pod signs with.
fn key(pod: usize) -> String {
    format!("pod{pod}")
}

/// The pod that has signed a request.
fn signer(sent: &str) -> usize {
    (0..PODS).find(|pod| sent.contains(&format!("Credential={}/", key(*pod)))).unwrap()
}

/// Of the control record that a change writes, in place of the one before, which it names too.
fn generation(sent: &str) -> u64 {
    let numbers =
        sent.split(" generation=").skip(1).map(|rest| rest.split(' ').next().unwrap().parse().unwrap());
    numbers.max().unwrap()
}

/// Generations that a pod says it has written.
pub fn written(pod: &Edge) -> Vec<u64> {
    let log = pod.log();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let written = events.filter(|event| event["message"].as_str().is_some_and(|m| m.starts_with("written")));
    written.filter_map(|event| event["generation"].as_u64()).collect()
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.env_remove("AWS_SESSION_TOKEN").env_remove("PROXIMA_REGION");
    command
}

fn addresses(name: &str, of: &[Ipv4Addr]) -> ResourceRecordSet {
    let values = of.iter().map(|ip| ResourceRecord::builder().value(ip.to_string()).build().unwrap());
    let set = ResourceRecordSet::builder().name(name).r#type(RrType::A).ttl(1);
    set.set_resource_records(Some(values.collect())).build().unwrap()
}
