//! A real kube-apiserver and etcd of one test's own, ended with it.

use crate::run_support::authority::Authority;
use crate::run_support::{Folder, eventually, loopback};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

/// etcd and kube-apiserver, in the layout of envtest; `None`, said aloud, where there is none.
fn assets() -> Option<PathBuf> {
    let found = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let whole =
        |folder: &PathBuf| ["etcd", "kube-apiserver"].iter().all(|program| folder.join(program).is_file());
    let found = found.filter(whole);
    if found.is_none() {
        let required = std::env::var("PROXIMA_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
        assert!(!required, "no KUBEBUILDER_ASSETS: `scripts/setup.sh kube` says how to get it");
        eprintln!("SKIPPED: no KUBEBUILDER_ASSETS: `scripts/setup.sh kube` says how to get it");
    }
    found
}

/// Of "Kubernetes v1.20.2".
fn minor(assets: &Path) -> u32 {
    let said = Command::new(assets.join("kube-apiserver")).arg("--version").output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    said.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

/// Of whoever may do everything.
const TOKEN: &str = "admin-of-this-test";

/// A running cluster: an API, and nobody who acts on it.
pub struct Cluster {
    pub folder: Folder,
    assets: PathBuf,
    address: SocketAddr,
    etcd_url: String,
    etcd: Child,
    api: Mutex<Option<Child>>,
    arguments: Vec<String>,
    /// The minor number of its version.
    minor: u32,
}

/// What `kill` may say.
pub enum Signal {
    Kill,
    Stop,
    Continue,
}

impl Cluster {
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// With further arguments for the API server.
    pub async fn start_with(arguments: &[&str]) -> Option<Self> {
        let cluster = Self::stopped(arguments)?;
        cluster.start_api().await;
        if !cluster.has_slices() {
            cluster.define_slices().await;
        }
        Some(cluster)
    }

    /// Version 1 of EndpointSlice.
    fn has_slices(&self) -> bool {
        self.minor >= 21
    }

    /// etcd runs, the API does not.
    fn stopped(arguments: &[&str]) -> Option<Self> {
        let (assets, folder) = (assets()?, Folder::new());
        // Its own address: what others listen at, or connect from, may be any free port of 127.0.0.1.
        let ip = IpAddr::from(loopback());
        Authority::new().sign(&folder, "api", &ip.to_string());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        folder.write("sa.key", &key.serialize_pem());
        folder.write("sa.pub", &key.public_key_pem());
        folder.write("tokens.csv", &format!("{TOKEN},admin,admin,\"system:masters\"\n"));
        let (etcd_url, peer_url) = (format!("http://{ip}:2379"), format!("http://{ip}:2380"));
        let data = folder.path().join("etcd");
        let etcd = Command::new(assets.join("etcd"))
            .args(["--unsafe-no-fsync", "--data-dir"])
            .arg(&data)
            .args(["--listen-client-urls", &etcd_url, "--advertise-client-urls", &etcd_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("etcd.log")).unwrap())
            .spawn()
            .unwrap();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (address, api) = (SocketAddr::new(ip, 6443), Mutex::new(None));
        let minor = minor(&assets);
        Some(Self { folder, assets, address, etcd_url, etcd, api, arguments, minor })
    }

    /// Starts the API, where it was before, and waits until it answers.
    pub async fn start_api(&self) {
        let file = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let log = File::options().create(true).append(true).open(file("api.log")).unwrap();
        let api = Command::new(self.assets.join("kube-apiserver"))
            .arg(format!("--etcd-servers={}", self.etcd_url))
            .arg(format!("--bind-address={}", self.address.ip()))
            .arg(format!("--secure-port={}", self.address.port()))
            .arg(format!("--tls-cert-file={}", file("api.pem")))
            .arg(format!("--tls-private-key-file={}", file("api.key")))
            .arg(format!("--cert-dir={}", file("certs")))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-account-key-file={}", file("sa.pub")))
            .arg(format!("--service-account-signing-key-file={}", file("sa.key")))
            .arg(format!("--token-auth-file={}", file("tokens.csv")))
            .args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24"])
            .args((!self.has_slices()).then_some("--runtime-config=discovery.k8s.io/v1beta1=false"))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.api.lock().unwrap() = Some(api);
        let client = self.client().await;
        for _ in 0..600 {
            let ready = http::Request::get("/readyz").body(Vec::new()).unwrap();
            if client.request_text(ready).await.is_ok() {
                return;
            }
            if self.api.lock().unwrap().as_mut().unwrap().try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let log = std::fs::read_to_string(file("api.log")).unwrap();
        panic!("the API server does not start:\n{}", &log[log.len().saturating_sub(4000)..]);
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn signal_api(&self, signal: &Signal) {
        let mut api = self.api.lock().unwrap();
        let child = api.as_mut().unwrap();
        let name = match signal {
            Signal::Kill => "-KILL",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        let sent = Command::new("kill").arg(name).arg(child.id().to_string()).status().unwrap();
        assert!(sent.success());
        if matches!(signal, Signal::Kill) {
            child.wait().unwrap();
        }
    }

    /// A server that has them in an older version only is told of this one.
    async fn define_slices(&self) {
        let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        self.apply(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {
                "name": "endpointslices.discovery.k8s.io",
                "annotations": { "api-approved.kubernetes.io": "https://github.com/kubernetes/enhancements/pull/1" },
            },
            "spec": {
                "group": "discovery.k8s.io", "scope": "Namespaced",
                "names": {
                    "plural": "endpointslices", "singular": "endpointslice",
                    "kind": "EndpointSlice", "listKind": "EndpointSliceList",
                },
                "versions": [{
                    "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema },
                }],
            },
        }))
        .await;
        let slices = self.api("discovery.k8s.io/v1", "EndpointSlice", Some("default")).await;
        for _ in 0..300 {
            if slices.list(&Default::default()).await.is_ok() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("EndpointSlices are not served");
    }

    /// A kubeconfig for whoever has this token.
    pub fn kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://{}", self.address),
                "certificate-authority": self.folder.path().join("api-ca.pem"),
            }}],
            "users": [{ "name": "test", "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        self.folder.write(name, &config.to_string())
    }

    /// Of whoever may do everything.
    pub fn admin(&self) -> PathBuf {
        self.kubeconfig("admin.json", TOKEN)
    }

    pub async fn client(&self) -> Client {
        Self::client_of(self.admin()).await
    }

    pub async fn client_of(kubeconfig: PathBuf) -> Client {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            // Another test has, which is as good.
        }
        let read = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }

    /// Objects of a kind, for the admin.
    pub async fn api(&self, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        dynamic(self.client().await, version, kind, namespace)
    }

    /// Server-side apply.
    pub async fn apply(&self, object: Value) {
        self.try_apply(&object).await.unwrap_or_else(|error| panic!("{error}\n{object}"));
    }

    pub async fn try_apply(&self, object: &Value) -> Result<DynamicObject, kube::Error> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (version, kind) = (text(&object["apiVersion"]).unwrap(), text(&object["kind"]).unwrap());
        let metadata = &object["metadata"];
        let api = self.api(&version, &kind, text(&metadata["namespace"]).as_deref()).await;
        let params = PatchParams::apply("test").force();
        api.patch(&text(&metadata["name"]).unwrap(), &params, &Patch::Apply(object)).await
    }

    pub async fn namespace(&self, name: &str) {
        self.apply(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })).await;
    }

    /// A slice of `shop/SERVICE`.
    pub async fn slice(&self, name: &str, service: &str, ports: Value, endpoints: Value) {
        let mut object = slice(name, service, ports, endpoints);
        // What is left out of an apply may be another's: it is put as a whole.
        object["metadata"]["namespace"] = "shop".into();
        self.apply(object).await;
    }

    pub async fn delete_slice(&self, name: &str) {
        let slices = self.api("discovery.k8s.io/v1", "EndpointSlice", Some("shop")).await;
        slices.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Forgets all versions before the present one.
    pub fn compact(&self) {
        let etcd = |path: &str, question: Value| -> Value {
            let url = format!("{}{path}", self.etcd_url);
            let asked =
                Command::new("curl").args(["-sS", &url, "-d", &question.to_string()]).output().unwrap();
            serde_json::from_slice(&asked.stdout).unwrap()
        };
        let read = etcd("/v3/kv/range", json!({ "key": "AA==" }));
        let revision = read["header"]["revision"].as_str().unwrap().to_owned();
        etcd("/v3/kv/compaction", json!({ "revision": revision, "physical": true }));
    }
}

pub fn dynamic(client: Client, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if kind == "NetworkPolicy" {
        resource.plural = "networkpolicies".to_owned();
    }
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    }
}

pub fn slice(name: &str, service: &str, ports: Value, endpoints: Value) -> Value {
    let family = if endpoints[0]["addresses"][0].to_string().contains("::") { "IPv6" } else { "IPv4" };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": service } },
        "addressType": family, "ports": ports, "endpoints": endpoints,
    })
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut api = self.api.lock().unwrap();
        for child in api.iter_mut().chain([&mut self.etcd]) {
            let ended = child.kill().and_then(|()| child.wait());
            ended.map(drop).unwrap_or_else(|error| eprintln!("not ended: {error}"));
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("api.log")).unwrap_or_default();
            eprintln!("--- kube-apiserver ---\n{}", &log[log.len().saturating_sub(3000)..]);
        }
    }
}

/// Waits for what another process does, without holding up this one's own tasks.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    tokio::task::block_in_place(|| eventually(what, ask))
}
