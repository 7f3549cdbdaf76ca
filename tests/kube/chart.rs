//! The chart's objects at a real API server: it takes them.

use crate::cluster::{Cluster, dynamic};
use kube::Client;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The chart as it is rendered for a configuration with `[kubernetes]`; `make chart` keeps it so.
const CASE: &str = "aws.yaml";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/golden")
}

/// What the chart makes.
struct Object {
    version: String,
    kind: String,
    /// Empty for those of the whole cluster.
    namespace: String,
    name: String,
    text: String,
}

impl Object {
    fn of(text: &str) -> Self {
        let field = |key: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(key));
            found.map(|value| value.trim().trim_matches('"').to_owned()).unwrap_or_default()
        };
        Self {
            version: field("apiVersion: "),
            kind: field("kind: "),
            namespace: field("  namespace: "),
            name: field("  name: "),
            text: text.to_owned(),
        }
    }

    /// Applies it, server-side, as its text is; `more` goes into the question. Whether it was taken whole.
    async fn apply(&self, client: &Client, more: &str) -> bool {
        let Self { version, kind, namespace, name, text } = self;
        let api = dynamic(client.clone(), version, kind, (!namespace.is_empty()).then_some(namespace));
        let path = format!("{}/{name}?fieldManager=helm&force=true{more}", api.resource_url());
        let request = http::Request::patch(path).header("content-type", "application/apply-patch+yaml");
        let applied = client.request_text(request.body(text.clone().into_bytes()).unwrap()).await;
        match applied {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 404 && kind == "PodMonitor" => {
                println!("not here: {kind} {name}, of the Prometheus operator");
                false
            }
            // A server of before; it drops what it does not know from what is made whole.
            Err(kube::Error::Api(status)) if status.message.contains("field not declared in schema") => {
                println!("{kind} {name} is taken without what this server does not know: {}", status.message);
                let path = format!("{}?fieldManager=helm{more}", api.resource_url());
                let request = http::Request::post(path).header("content-type", "application/yaml");
                // A surge is one of those things; without it nothing would be left of the strategy.
                let text = text.replace("      maxUnavailable: 0\n", "      maxUnavailable: 1\n");
                let made = client.request_text(request.body(text.clone().into_bytes()).unwrap()).await;
                made.unwrap_or_else(|error| panic!("{kind} {name}: {error}\n{text}"));
                false
            }
            Err(error) => panic!("{kind} {name}: {error}\n{text}"),
        }
    }
}

/// Of a golden file.
fn objects(file: &Path) -> Vec<Object> {
    let text = std::fs::read_to_string(file).unwrap();
    text.split("\n---\n").map(|object| Object::of(object.trim_start_matches("---\n"))).collect()
}

/// Applies them; `more` goes into each question. How many were taken whole, and how many not.
async fn apply(cluster: &Cluster, objects: &[Object], more: &str) -> (usize, usize) {
    let (client, mut taken) = (cluster.client().await, 0);
    for object in objects {
        taken += usize::from(object.apply(&client, more).await);
    }
    (taken, objects.len() - taken)
}

/// With what a controller would make in it.
async fn namespace(cluster: &Cluster, name: &str) {
    cluster.namespace(name).await;
    let metadata = json!({ "name": "default", "namespace": name });
    cluster.apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata })).await;
}

/// Installs the chart.
pub async fn install(cluster: &Cluster) {
    namespace(cluster, "proxima").await;
    namespace(cluster, "shop").await;
    let (taken, unknown) = apply(cluster, &objects(&golden().join(CASE)), "").await;
    println!(
        "{taken} objects of the chart are applied as they are, {unknown} have more than the server knows"
    );
    assert!(taken >= 10, "only {taken}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn the_server_takes_the_chart_in_every_case() {
    let Some(cluster) = Cluster::start().await else { return };
    let files = std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let cases: Vec<_> = files.filter(|file| file.extension().is_some_and(|e| e == "yaml")).collect();
    assert!(cases.len() >= 7, "{cases:?}");
    for case in cases {
        let objects = objects(&case);
        let namespaces: BTreeSet<_> = objects.iter().map(|object| &object.namespace).collect();
        for name in namespaces.into_iter().filter(|name| !name.is_empty()) {
            namespace(&cluster, name).await;
        }
        // Judged as if they were made, and not kept: one case does not stand on another's objects.
        let (taken, unknown) = apply(&cluster, &objects, "&dryRun=All").await;
        println!("{}: {taken} are taken as they are, {unknown} without what is unknown", case.display());
        // A server that does not know a surge knows all else.
        assert!(taken > 0 && unknown <= 3, "{}: {taken} and {unknown}", case.display());
    }
}
