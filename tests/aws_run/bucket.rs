//! A configuration in a bucket: new versions, bad ones, none, and a bucket that is away.

use crate::gate::{Door, Gate};
use crate::run_support::{Edge, Folder, Service, eventually, get, single, until_served};
use crate::world::{World, bare};
use std::path::Path;
use std::process::Command;

const URL: &str = "s3://proxima-config/edge/proxima.toml";
const PATH: &str = "/proxima-config/edge/proxima.toml";
const AWS: &str = "[aws]\nconfig_poll = \"1s\"\n[access_log]\noutput = \"access.log\"\n";

fn looks(result: &str) -> String {
    format!("proxima_config_looks_total{{result=\"{result}\"}}")
}

struct Bucket {
    world: World,
    gate: Gate,
    folder: Folder,
    services: [Service; 2],
}

impl Bucket {
    async fn new() -> Option<Self> {
        let world = World::start().await?;
        let bucket = "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                      <LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
        let made = world.signed("s3", ("PUT", "/proxima-config"), &[], bucket.as_bytes());
        assert_eq!(made.status, 200, "{}", made.text);
        let gate = world.gate(Door::Open);
        let services = [Service::start("one"), Service::start("two")];
        Some(Self { world, gate, folder: Folder::new(), services })
    }

    fn put(&self, text: &str) {
        self.put_with(&[], text);
    }

    /// With headers; which version it is, in a bucket that keeps them.
    fn put_with(&self, headers: &[(&str, &str)], text: &str) -> Option<String> {
        let put = self.world.signed("s3", ("PUT", PATH), headers, text.as_bytes());
        assert_eq!(put.status, 200, "{}", put.text);
        let lines = put.text.lines().filter_map(|line| line.split_once(": "));
        let mut named = lines.filter(|(name, _)| name.eq_ignore_ascii_case("x-amz-version-id"));
        named.next().map(|(_, version)| version.to_owned())
    }

    /// A configuration that leads to one of the services.
    fn leading_to(&self, number: usize) -> String {
        single(self.services[number].address, AWS)
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        bare(command)
            .env("AWS_ENDPOINT_URL_S3", self.gate.url())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("PROXIMA_CONFIG_DIR", self.folder.path())
    }

    fn start(&self, arguments: &[&str]) -> Edge {
        let mut command = Edge::command(Path::new(URL), arguments);
        self.environment(&mut command);
        Edge::of(command)
    }

    /// With a place for the last good one.
    fn edge(&self) -> Edge {
        let state = self.folder.path().join("state");
        self.start(&["--state-dir", state.to_str().unwrap()]).bound_all()
    }

    /// The configuration in force is kept a moment after it is: waits until this one is.
    fn until_kept(&self, text: &str) {
        let path = self.folder.path().join("state/last-good.toml");
        eventually("the last good one is kept", || {
            std::fs::read_to_string(&path).is_ok_and(|kept| kept.ends_with(text)).then_some(())
        });
    }
}

#[tokio::test]
async fn new_versions_are_followed_bad_ones_refused_and_a_deleted_one_changes_nothing() {
    let Some(bucket) = Bucket::new().await else { return };
    bucket.put(&bucket.leading_to(0));
    let edge = bucket.edge();
    until_served(&edge, "/", "one");
    assert!(bucket.folder.path().join("access.log").exists(), "relative paths are of --config-dir");
    edge.until_metric(&looks("unchanged"), 2.0);
    assert_eq!(edge.metric(&looks("new")), Some(1.0));
    bucket.put(&bucket.leading_to(1));
    until_served(&edge, "/", "two");
    for word in ["sha256", "etag", "in force: s3://"] {
        assert!(edge.log().contains(word), "{word}: {}", edge.log());
    }

    let refused = r#"proxima_reloads_total{result="refused"}"#;
    bucket.put(&bucket.leading_to(0).replace("service = \"web\"", "service = \"wob\""));
    edge.until_metric(refused, 1.0);
    let unchanged = edge.metric(&looks("unchanged")).unwrap();
    edge.until_metric(&looks("unchanged"), unchanged + 2.0);
    assert_eq!(edge.metric(refused), Some(1.0), "what was refused is not tried again by itself");
    assert_eq!(get(edge.address("http"), "/").body, "two");

    assert_eq!(bucket.world.signed("s3", ("DELETE", PATH), &[], b"").status, 204);
    edge.until_metric(&looks("missing"), 2.0);
    assert_eq!(get(edge.address("http"), "/").body, "two");
    assert_eq!(edge.log().matches("NoSuchKey").count(), 1, "told once: {}", edge.log());
    bucket.put(&bucket.leading_to(0));
    until_served(&edge, "/", "one");
    bucket.until_kept(&bucket.leading_to(0));
}

/// As docs/aws.md says it: what is in force has a name, and the way back is a copy of what was before.
#[tokio::test]
async fn versions_are_told_by_name_and_the_one_before_is_put_in_place_again() {
    let Some(bucket) = Bucket::new().await else { return };
    let kept = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                <Status>Enabled</Status></VersioningConfiguration>";
    let made = bucket.world.signed("s3", ("PUT", "/proxima-config?versioning="), &[], kept.as_bytes());
    assert_eq!(made.status, 200, "{}", made.text);
    let first = bucket.put_with(&[], &bucket.leading_to(0)).expect("a version has a name");
    let edge = bucket.edge();
    // What the log says to be in force, the last time.
    let told = || {
        let log = edge.log();
        let mut events = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let in_force =
            |event: &serde_json::Value| event["message"].as_str().is_some_and(|m| m.starts_with("in force:"));
        events.rfind(in_force).map(|event| event["version"].as_str().unwrap_or_default().to_owned())
    };
    let until_in_force =
        |version: &str| eventually("the version is in force", || (told()? == version).then_some(()));
    until_served(&edge, "/", "one");
    until_in_force(&first);
    let second = bucket.put_with(&[], &bucket.leading_to(1)).unwrap();
    until_served(&edge, "/", "two");
    until_in_force(&second);

    let before = format!("{PATH}?versionId={first}");
    let third = bucket.put_with(&[("x-amz-copy-source", &before)], "").unwrap();
    assert!(third != first && third != second, "{third}");
    until_served(&edge, "/", "one");
    until_in_force(&third);
    bucket.until_kept(&bucket.leading_to(0));
    let kept = std::fs::read_to_string(bucket.folder.path().join("state/last-good.toml")).unwrap();
    assert!(kept.contains(&third), "{kept}");

    // Only a mark over the versions: they are there, and so is what is in force.
    assert_eq!(bucket.world.signed("s3", ("DELETE", PATH), &[], b"").status, 204);
    edge.until_metric(&looks("missing"), 1.0);
    assert_eq!(get(edge.address("http"), "/").body, "one");
}

#[tokio::test]
async fn a_bucket_that_is_away_at_the_start_costs_nothing_where_a_last_good_one_was_kept() {
    let Some(bucket) = Bucket::new().await else { return };
    bucket.put(&bucket.leading_to(0));
    let edge = bucket.edge();
    until_served(&edge, "/", "one");
    assert_eq!(edge.metric("proxima_config_from_disk"), Some(0.0));
    bucket.until_kept(&bucket.leading_to(0));
    drop(edge);
    bucket.gate.turn(Door::Shut);

    let mut without = bucket.start(&[]);
    assert_eq!(without.ended().code(), Some(1));
    eventually("it says why", || {
        without.log().contains(&format!("{URL}: GetObject: unanswered")).then_some(())
    });

    let edge = bucket.edge();
    until_served(&edge, "/", "one");
    assert_eq!(edge.metric("proxima_config_from_disk"), Some(1.0));
    assert_eq!(edge.metric("proxima_config_confirmed_timestamp_seconds"), Some(0.0));
    assert!(
        edge.log().contains("starting with the last good configuration from the disk, accepted 0 min ago")
    );
    // Back again, with another version in the meantime.
    bucket.put(&bucket.leading_to(1));
    bucket.gate.turn(Door::Open);
    until_served(&edge, "/", "two");
    assert_eq!(edge.metric("proxima_config_from_disk"), Some(0.0));
    edge.until_metric("proxima_config_confirmed_timestamp_seconds", 1.0);
}

#[tokio::test]
async fn an_edge_that_starts_while_the_bucket_holds_a_bad_one_starts_with_the_last_good_one() {
    let Some(bucket) = Bucket::new().await else { return };
    bucket.put(&bucket.leading_to(0));
    let edge = bucket.edge();
    bucket.until_kept(&bucket.leading_to(0));
    drop(edge);
    bucket.put(&bucket.leading_to(1).replace("[admin]", "[admn]"));
    let edge = bucket.edge();
    until_served(&edge, "/", "one");
    assert!(edge.log().contains("admn"), "{}", edge.log());
    bucket.put(&bucket.leading_to(1));
    until_served(&edge, "/", "two");
}

#[tokio::test]
async fn commands_read_the_bucket_too() {
    let Some(bucket) = Bucket::new().await else { return };
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
        let done = bucket.environment(&mut command).args(arguments).output().unwrap();
        (done.status.code(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
    };
    let (code, said) = run(&["check", URL]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("missing: NoSuchKey"), "{said}");
    bucket.put(&bucket.leading_to(0));
    let (code, said) = run(&["check", URL]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ETag"), "{said}");
    // Asked for in another region, S3 says where the bucket is.
    let mut far = Command::new(env!("CARGO_BIN_EXE_proxima"));
    let done =
        bucket.environment(&mut far).args(["check", URL]).env("AWS_REGION", "us-east-1").output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let (code, said) = run(&["explain", "--config", URL, "--path", "/"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&["check", "s3://nothing"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("s3://BUCKET/KEY"), "{said}");
    bucket.put(&"#".repeat(5 << 20));
    let (code, said) = run(&["check", URL]);
    assert_eq!(code, Some(1));
    assert!(said.contains("too large"), "{said}");
}
