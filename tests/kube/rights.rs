//! The rights that the chart gives, at a real API server: enough and no more.

use crate::chart::install;
use crate::cluster::{Cluster, dynamic};
use crate::run_support::authority::Authority;
use crate::run_support::{Edge, Folder, Service, loopback};
use crate::{at, http, region, until_used};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// A token of the chart's service account.
pub async fn token(cluster: &Cluster) -> String {
    let path = "/api/v1/namespaces/proxima/serviceaccounts/proxima/token";
    let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(body.to_string().into_bytes()).unwrap();
    let answer: Value = cluster.client().await.request(request).await.unwrap();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// All that a client may do in a namespace, by the API server's own word: verb, group, resource, and name if it is one
/// object's. But for what everybody may: to ask for one's own rights.
async fn rights(client: &Client, namespace: &str) -> BTreeSet<String> {
    let body = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": { "namespace": namespace },
    });
    let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews");
    let request = request.header("content-type", "application/json").body(body.to_string().into_bytes());
    let answer: Value = client.request(request.unwrap()).await.unwrap();
    assert_eq!(answer["status"]["incomplete"], false, "{answer}");
    let words = |rule: &Value, key: &str| -> Vec<String> {
        let words = rule[key].as_array().into_iter().flatten();
        words.map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in answer["status"]["resourceRules"].as_array().unwrap() {
        let mut names = words(rule, "resourceNames");
        if names.is_empty() {
            names.push("*".to_owned());
        }
        for (verb, group) in words(rule, "verbs")
            .iter()
            .flat_map(|v| words(rule, "apiGroups").into_iter().map(move |g| (v, g)))
        {
            for resource in words(rule, "resources").iter().filter(|_| group != "authorization.k8s.io") {
                rights.extend(names.iter().map(|name| format!("{verb} {group}/{resource}/{name}")));
            }
        }
    }
    rights
}

/// Whether the answer was that it may not.
fn denied<T>(result: Result<T, kube::Error>) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if status.code == 403)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn the_chart_installs_and_its_rights_are_enough_and_no_more() {
    let Some(cluster) = Cluster::start().await else { return };
    install(&cluster).await;
    let origin = Service::start("a");
    cluster.slice("web-1", "web", http(origin.address.port()), json!([at("ready")])).await;
    let kubeconfig = cluster.kubeconfig("account.json", &token(&cluster).await);

    // Enough: the edge itself, by nothing but the chart's service account, follows endpoints and holds the Lease.
    let folder = Folder::new();
    let edge = Edge::ready(&folder.write("edge.toml", &with_lease(&folder, &kubeconfig)));
    until_used(&edge, "web", &[origin.address]);
    let metric = |series: &str| edge.metric(series).unwrap_or_default();
    let asked = |result: &str| format!("proxima_lease_requests_total{{result=\"{result}\"}}");
    tokio::task::block_in_place(|| edge.until_metric("proxima_lease_held", 1.0));
    // It is made, read and written.
    tokio::task::block_in_place(|| edge.until_metric(&asked("written"), 3.0));
    let (code, told) = doctor(doctor_command(&folder.path().join("edge.toml")));
    assert!(code == Some(0) && told["watch endpointslices in shop"] == "ok", "{told}");
    // A call that is denied fails this, though the edge goes on without it.
    assert_eq!(metric(&asked("denied")), 0.0, "{}", edge.log());
    assert_eq!(metric(r#"proxima_kube_watch_failures_total{namespace="shop",reason="denied"}"#), 0.0);
    assert!(!edge.log().contains("forbidden"), "{}", edge.log());

    // No more, by the server's own list.
    let client = Cluster::client_of(kubeconfig).await;
    let lease = ["create coordination.k8s.io/leases/*"]
        .into_iter()
        .chain(["get coordination.k8s.io/leases/proxima", "update coordination.k8s.io/leases/proxima"]);
    let slices = ["list discovery.k8s.io/endpointslices/*", "watch discovery.k8s.io/endpointslices/*"];
    for (namespace, may) in [
        ("proxima", lease.map(str::to_owned).collect::<BTreeSet<String>>()),
        ("shop", slices.map(str::to_owned).into()),
        ("default", BTreeSet::new()),
        ("kube-system", BTreeSet::new()),
    ] {
        assert_eq!(rights(&client, namespace).await, may, "in {namespace}");
    }
    // And by what it does when it is asked.
    let objects = |version: &str, kind: &str, namespace: &str| -> Api<DynamicObject> {
        dynamic(client.clone(), version, kind, Some(namespace))
    };
    let leases = objects("coordination.k8s.io/v1", "Lease", "proxima");
    assert!(denied(leases.get("another").await), "it may read another Lease");
    assert!(denied(leases.delete("proxima", &DeleteParams::default()).await), "it may delete its Lease");
    let slices = objects("discovery.k8s.io/v1", "EndpointSlice", "shop");
    assert!(denied(slices.delete("web-1", &DeleteParams::default()).await), "it may delete endpoints");
    for namespace in ["proxima", "shop"] {
        let secrets = objects("v1", "Secret", namespace);
        assert!(denied(secrets.list(&ListParams::default()).await), "it may read Secrets in {namespace}");
    }
}

/// One region of one pod, which asks for the Lease of the chart.
pub fn with_lease(folder: &Folder, kubeconfig: &Path) -> String {
    let own = loopback();
    Authority::new().sign(folder, "here", "peer.here.test");
    region(kubeconfig, &[("web", "shop/web:http", "/")], "zone-a")
        .replacen("[edge]", &format!("[edge]\nsiblings = \"{own}:8443\""), 1)
        .replacen(
            "[regions.here]",
            &format!("[regions.here]\npeer = \"{own}:8443\"\nserver_name = \"peer.here.test\""),
            1,
        )
        .replacen(
            "[kubernetes]",
            "[kubernetes]\nnamespace = \"proxima\"\nlease = \"proxima\"\nlease_duration = \"3s\"",
            1,
        )
        + &format!(
            "[peer]\naddress = \"{own}:8443\"\ncertificate = \"here.pem\"\nkey = \"here.key\"\nca = \"here-ca.pem\"\n"
        )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn an_edge_without_the_rights_says_which_it_lacks_and_goes_on_when_it_gets_them() {
    let Some(cluster) = Cluster::start().await else { return };
    for namespace in ["proxima", "shop"] {
        cluster.namespace(namespace).await;
    }
    let origin = Service::start("a");
    cluster.slice("web-1", "web", http(origin.address.port()), json!([at("ready")])).await;
    let metadata = json!({ "name": "proxima", "namespace": "proxima" });
    cluster.apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata })).await;
    let kubeconfig = cluster.kubeconfig("account.json", &token(&cluster).await);
    let folder = Folder::new();
    let text = region(&kubeconfig, &[("web", "shop/web:http", "/")], "zone-a");
    let edge = Edge::ready(&folder.write("edge.toml", &text));
    let denied = r#"proxima_kube_watch_failures_total{namespace="shop",reason="denied"}"#;
    tokio::task::block_in_place(|| edge.until_metric(denied, 2.0));
    let log = edge.log();
    assert!(log.contains("cannot list resource") && log.contains("endpointslices"), "{log}");
    assert_eq!(log.matches("waiting for the Kubernetes API").count(), 1, "told once:\n{log}");
    let (code, told) = doctor(doctor_command(&folder.path().join("edge.toml")));
    assert!(code == Some(1) && told["list endpointslices in shop"] == "failed", "{told}");
    install(&cluster).await;
    until_used(&edge, "web", &[origin.address]);
}

/// `proxima doctor` of a file.
pub fn doctor_command(file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
    command.args(["doctor", "--json", "--config"]).arg(file);
    command
}

/// What `proxima doctor` finds, by what it looked at: its exit code, and each state.
pub fn doctor(mut command: Command) -> (Option<i32>, Value) {
    let done = command.output().unwrap();
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap().iter();
    let states =
        findings.map(|finding| (finding["what"].as_str().unwrap().to_owned(), finding["state"].clone()));
    (done.status.code(), states.collect::<serde_json::Map<String, Value>>().into())
}
