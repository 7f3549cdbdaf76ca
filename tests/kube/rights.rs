//! The chart's objects at a real API server: it takes them, and the rights are enough and no more.

use crate::cluster::{Cluster, dynamic, slice};
use crate::run_support::{Edge, Folder, Service};
use crate::{at, http, region, until_used};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::{Client, core::ObjectMeta};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// The chart as it is rendered for a configuration with `[kubernetes]`; `make chart` keeps it so.
const CASE: &str = "deploy/helm/golden/aws.yaml";

/// Objects that the chart makes: kind, namespace, name, and their text.
fn objects() -> Vec<(String, String, String, String)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(CASE)).unwrap();
    let field = |object: &str, key: &str| {
        let found = object.lines().find_map(|line| line.strip_prefix(key));
        found.map(|value| value.trim().trim_matches('"').to_owned()).unwrap_or_default()
    };
    let documents = text.split("\n---\n").map(|object| object.trim_start_matches("---\n").to_owned());
    documents
        .map(|object| {
            let (kind, name) = (field(&object, "kind: "), field(&object, "  name: "));
            (kind, field(&object, "  namespace: "), name, object)
        })
        .collect()
}

/// Applies the chart's objects, server-side, as their text is.
async fn install(cluster: &Cluster) {
    for namespace in ["proxima", "shop"] {
        cluster.namespace(namespace).await;
    }
    // What a controller would make.
    let metadata = json!({ "name": "default", "namespace": "proxima" });
    cluster.apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata })).await;
    let client = cluster.client().await;
    let (mut taken, mut unknown) = (0, 0);
    for (kind, namespace, name, text) in objects() {
        let version = text.lines().find_map(|line| line.strip_prefix("apiVersion: ")).unwrap();
        let api = dynamic(client.clone(), version, &kind, (!namespace.is_empty()).then_some(&namespace));
        let path = format!("{}/{name}?fieldManager=helm&force=true", api.resource_url());
        let request = http::Request::patch(path).header("content-type", "application/apply-patch+yaml");
        let applied = client.request_text(request.body(text.clone().into_bytes()).unwrap()).await;
        match applied {
            Ok(_) => taken += 1,
            Err(kube::Error::Api(status)) if status.code == 404 && kind == "PodMonitor" => {
                println!("not here: {kind} {name}, of the Prometheus operator");
                unknown += 1;
            }
            // A server of before; it drops what it does not know from what is made whole.
            Err(kube::Error::Api(status)) if status.message.contains("field not declared in schema") => {
                println!("{kind} {name} is taken without what this server does not know: {}", status.message);
                let request =
                    http::Request::post(api.resource_url()).header("content-type", "application/yaml");
                // A surge is one of those things; without it nothing would be left of the strategy.
                let text = text.replace("      maxUnavailable: 0\n", "      maxUnavailable: 1\n");
                let made = client.request_text(request.body(text.clone().into_bytes()).unwrap()).await;
                made.unwrap_or_else(|error| panic!("{kind} {name}: {error}\n{text}"));
                unknown += 1;
            }
            Err(error) => panic!("{kind} {name}: {error}\n{text}"),
        }
    }
    println!(
        "{taken} objects of the chart are applied as they are, {unknown} have more than the server knows"
    );
    assert!(taken >= 10, "only {taken}");
}

/// A token of the chart's service account.
async fn token(cluster: &Cluster) -> String {
    let path = "/api/v1/namespaces/proxima/serviceaccounts/proxima/token";
    let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(body.to_string().into_bytes()).unwrap();
    let answer: Value = cluster.client().await.request(request).await.unwrap();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// Whether the answer was that it may: an object that is not there, or a wrong one, is no denial.
fn allowed<T>(result: Result<T, kube::Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(kube::Error::Api(status)) => {
            assert_ne!(status.code, 401, "the token is not taken: {status:?}");
            status.code != 403
        }
        Err(other) => panic!("{other}"),
    }
}

fn lease(name: &str) -> DynamicObject {
    let mut lease = dynamic_lease();
    lease.metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    lease
}

fn dynamic_lease() -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {}, "spec": {},
    }))
    .unwrap()
}

async fn may_on_slices(client: &Client, namespace: &str) -> [(&'static str, bool); 6] {
    let slices: Api<DynamicObject> =
        dynamic(client.clone(), "discovery.k8s.io/v1", "EndpointSlice", Some(namespace));
    let made: DynamicObject = serde_json::from_value(slice("made", "web", json!([]), json!([]))).unwrap();
    let apply = Patch::Apply(slice("web-1", "web", json!([]), json!([])));
    [
        ("list", allowed(slices.list(&ListParams::default()).await)),
        ("watch", allowed(slices.watch(&WatchParams::default().timeout(1), "0").await)),
        ("get", allowed(slices.get("web-1").await)),
        ("create", allowed(slices.create(&PostParams::default(), &made).await)),
        ("patch", allowed(slices.patch("web-1", &PatchParams::apply("test").force(), &apply).await)),
        ("delete", allowed(slices.delete("web-1", &DeleteParams::default()).await)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn the_chart_installs_and_its_rights_are_enough_and_no_more() {
    let Some(cluster) = Cluster::start().await else { return };
    install(&cluster).await;
    let origin = Service::start("a");
    cluster.slice("web-1", "web", http(origin.address.port()), json!([at("ready")])).await;
    let kubeconfig = cluster.kubeconfig("account.json", &token(&cluster).await);

    // Enough: the edge itself, by nothing but the chart's service account.
    let folder = Folder::new();
    let text = region(&kubeconfig, &[("web", "shop/web:http", "/")], "zone-a");
    let edge = Edge::ready(&folder.write("edge.toml", &text));
    until_used(&edge, "web", &[origin.address]);
    let (code, told) = doctor(&folder);
    assert!(code == Some(0) && told["watch endpointslices in shop"] == "ok", "{told}");

    // No more.
    let client = Cluster::client_of(kubeconfig).await;
    let reads = [("list", true), ("watch", true)];
    let nothing = ["list", "watch", "get", "create", "patch", "delete"].map(|verb| (verb, false));
    for (namespace, may) in [("shop", &reads[..]), ("default", &[]), ("kube-system", &[]), ("proxima", &[])] {
        let mut expected = nothing;
        expected[..may.len()].copy_from_slice(may);
        assert_eq!(may_on_slices(&client, namespace).await, expected, "EndpointSlices in {namespace}");
    }
    let leases = |namespace| dynamic(client.clone(), "coordination.k8s.io/v1", "Lease", Some(namespace));
    let (own, other) = (leases("proxima"), leases("shop"));
    assert!(allowed(own.create(&PostParams::default(), &lease("proxima")).await), "its Lease is made");
    let held = own.get("proxima").await.unwrap();
    assert!(allowed(own.replace("proxima", &PostParams::default(), &held).await), "and written");
    for (what, may) in [
        ("get another Lease", allowed(own.get("another").await)),
        (
            "write another Lease",
            allowed(own.replace("another", &PostParams::default(), &lease("another")).await),
        ),
        ("list Leases", allowed(own.list(&ListParams::default()).await)),
        ("delete its Lease", allowed(own.delete("proxima", &DeleteParams::default()).await)),
        ("make a Lease elsewhere", allowed(other.create(&PostParams::default(), &lease("proxima")).await)),
    ] {
        assert!(!may, "it may {what}");
    }
    for (version, kind) in
        [("v1", "Pod"), ("v1", "Secret"), ("v1", "ConfigMap"), ("v1", "Service"), ("v1", "ServiceAccount")]
    {
        for namespace in ["proxima", "shop"] {
            let objects: Api<DynamicObject> = dynamic(client.clone(), version, kind, Some(namespace));
            assert!(
                !allowed(objects.list(&ListParams::default()).await),
                "it may list {kind}s in {namespace}"
            );
        }
    }
    let nodes: Api<DynamicObject> = dynamic(client, "v1", "Node", None);
    assert!(!allowed(nodes.list(&ListParams::default()).await), "it may list Nodes");
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
    let (code, told) = doctor(&folder);
    assert!(code == Some(1) && told["list endpointslices in shop"] == "failed", "{told}");
    install(&cluster).await;
    until_used(&edge, "web", &[origin.address]);
}

/// What `proxima doctor` finds, by what it looked at: its exit code, and each state.
fn doctor(folder: &Folder) -> (Option<i32>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
    let file = folder.path().join("edge.toml");
    let done = command.args(["doctor", "--json", "--config"]).arg(file).output().unwrap();
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap().iter();
    let states =
        findings.map(|finding| (finding["what"].as_str().unwrap().to_owned(), finding["state"].clone()));
    (done.status.code(), states.collect::<serde_json::Map<String, Value>>().into())
}
