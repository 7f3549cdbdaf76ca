//! As in a pod: the API and the account are what a kubelet puts there, and no setting names them.

use crate::chart::install;
use crate::cluster::{Cluster, until};
use crate::load::Load;
use crate::rights::{doctor, doctor_command, token, with_lease};
use crate::run_support::{Edge, Folder, Service, get};
use crate::{at, http, until_used};
use kube::api::DeleteParams;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Where every pod finds its account.
const MOUNTED: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Mounts a folder there, over an empty file system, for the program that is run next and nobody else.
const MOUNT: &str = r#"mount -t tmpfs pod "$(readlink -f /var/run)" && mkdir -p "$1" && mount --bind "$0" "$1" && shift && exec "$@""#;

/// Whether a process can be given mounts of its own here; else it is said aloud.
fn mounts() -> bool {
    let able = unshared().args(["true"]).status().is_ok_and(|done| done.success());
    if !able {
        eprintln!("SKIPPED: no mount namespace can be made here: no account is mounted as in a pod");
    }
    able
}

fn unshared() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]);
    command
}

/// What a kubelet makes of a service account.
struct Account(PathBuf);

impl Account {
    fn new(cluster: &Cluster, folder: &Folder, token: &str) -> Self {
        let account = folder.path().join("account");
        std::fs::create_dir(&account).unwrap();
        std::fs::copy(cluster.folder.path().join("api-ca.pem"), account.join("ca.crt")).unwrap();
        folder.write("account/namespace", "proxima");
        folder.write("account/token", token);
        Self(account)
    }

    /// The same program, as it would run in a pod.
    fn inside(&self, cluster: &Cluster, program: &Command) -> Command {
        let mut command = unshared();
        command.args(["sh", "-c", MOUNT]).arg(&self.0).arg(MOUNTED);
        command.arg(program.get_program()).args(program.get_args());
        for (key, value) in program.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
            .env("KUBERNETES_SERVICE_HOST", cluster.address().ip().to_string())
            .env("KUBERNETES_SERVICE_PORT", cluster.address().port().to_string());
        command
    }
}

/// Neither a kubeconfig nor a namespace: both are the pod's.
fn of_the_pod(folder: &Folder) -> String {
    let text = with_lease(folder, Path::new("nowhere"));
    let stated = ["kubeconfig = \"nowhere\"\n", "namespace = \"proxima\"\n"];
    stated.into_iter().fold(text, |text, line| {
        assert!(text.contains(line), "{text}");
        text.replace(line, "")
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn the_pods_own_account_is_enough_and_a_token_that_is_put_anew_is_used() {
    if !mounts() {
        return;
    }
    let Some(cluster) = Cluster::start().await else { return };
    install(&cluster).await;
    let (origin, folder) = (Service::start("a"), Folder::new());
    cluster.slice("web-1", "web", http(origin.address.port()), json!([at("ready")])).await;
    let account = Account::new(&cluster, &folder, &token(&cluster).await);
    let file = folder.write("edge.toml", &of_the_pod(&folder));

    let (code, told) = doctor(account.inside(&cluster, &doctor_command(&file)));
    assert!(code == Some(0) && told["watch endpointslices in shop"] == "ok", "{told}");
    let edge = Edge::of(account.inside(&cluster, &Edge::command(&file, &[]))).bound_all();
    until_used(&edge, "web", &[origin.address]);
    let held = || edge.metric("proxima_lease_held") == Some(1.0);
    until("it holds the Lease of the namespace that is mounted", || held().then_some(()));
    let metric = |series: &str| edge.metric(series).unwrap_or_default();
    let (denied, failed) = (
        r#"proxima_lease_requests_total{result="denied"}"#,
        r#"proxima_lease_requests_total{result="failed"}"#,
    );
    assert_eq!((metric(denied), metric(failed)), (0.0, 0.0), "{}", edge.log());

    // The account is made anew: its first token is void at once, and the kubelet writes another one.
    until("it serves", || (get(edge.address("http"), "/").status == 200).then_some(()));
    let load = Load::of(&edge);
    let accounts = cluster.api("v1", "ServiceAccount", Some("proxima")).await;
    accounts.delete("proxima", &DeleteParams::default()).await.unwrap();
    until("the first token is void", || (!held()).then_some(()));
    let metadata = json!({ "name": "proxima", "namespace": "proxima" });
    cluster.apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata })).await;
    folder.write("account/token", &token(&cluster).await);
    // At the latest when kube's client reads files again, once a minute.
    let began = Instant::now();
    while !held() {
        assert!(began.elapsed() < Duration::from_secs(90), "the token is not read again:\n{}", edge.log());
        sleep(Duration::from_millis(50)).await;
    }
    let count = load.without_a_failure();
    println!("a new token is used after {:?}: none of {count} requests failed", began.elapsed());
    assert_eq!(crate::used(&edge, "web"), [origin.address.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn outside_of_a_pod_without_a_kubeconfig_it_is_said_what_lacks() {
    let folder = Folder::new();
    let file = folder.write("edge.toml", &of_the_pod(&folder));
    let mut command = doctor_command(&file);
    command.env_remove("KUBERNETES_SERVICE_HOST").env_remove("KUBERNETES_SERVICE_PORT");
    let done = command.output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains("kubernetes.kubeconfig"), "{told}");
}
