//! Closed files of the journal and the audit log in a bucket, which may be away.

use crate::gate::{Door, Gate};
use crate::run_support::{Edge, Folder, Service, eventually, get, single, until_served};
use crate::world::{World, bare};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

const UPLOADED_JOURNAL: &str = r#"proxima_archive_files_total{kind="journal",result="uploaded"}"#;
const UPLOADED_AUDIT: &str = r#"proxima_archive_files_total{kind="audit",result="uploaded"}"#;
const FAILED: &str = r#"proxima_archive_files_total{kind="journal",result="failed"}"#;

struct Archive {
    world: World,
    gate: Gate,
    folder: Folder,
    service: Service,
}

impl Archive {
    async fn new() -> Option<Self> {
        let world = World::start().await?;
        let bucket = "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                      <LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
        assert_eq!(world.signed("s3", ("PUT", "/proxima-archive"), &[], bucket.as_bytes()).status, 200);
        let gate = world.gate(Door::Open);
        Some(Self { world, gate, folder: Folder::new(), service: Service::start("web") })
    }

    fn edge(&self) -> Edge {
        let more = "[journal]\npath = \"journal\"\n[audit]\noutput = \"audit.log\"\n[archive]\n\
                    s3 = \"s3://proxima-archive/a\"\naudit_every = \"1s\"\n[[admin.operators]]\nname = \"alice\"\ntoken_sha256 = \
                    \"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"";
        let file = self.folder.write("proxima.toml", &single(self.service.address, more));
        let mut command = Edge::command(&file, &[]);
        bare(&mut command)
            .env("AWS_ENDPOINT_URL_S3", self.gate.url())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
        let edge = Edge::of(command).bound_all();
        until_served(&edge, "/", "web");
        edge
    }

    fn journals(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.folder.path().join("journal")).unwrap();
        let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "journal"));
        files.sort();
        files
    }

    /// The only journal so far; files of two starts within one second are in no order.
    fn first_journal(&self) -> PathBuf {
        eventually("a journal is begun", || self.journals().pop())
    }

    /// Keys of all objects.
    fn keys(&self) -> Vec<String> {
        let listed = self.world.signed("s3", ("GET", "/proxima-archive"), &[], b"").text;
        let keys = listed.split("<Key>").skip(1);
        keys.map(|rest| rest.split("</Key>").next().unwrap().to_owned()).collect()
    }

    fn object(&self, key: &str) -> String {
        let answer = self.world.signed("s3", ("GET", &format!("/proxima-archive/{key}")), &[], b"");
        answer.text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

/// Somebody who is no operator tries to act: a line of the audit log.
fn tried(edge: &Edge) {
    let mut stream = TcpStream::connect(edge.address("admin")).unwrap();
    let body = r#"{"reason":"none of their business","all":true}"#;
    write!(
        stream,
        "POST /operator/freeze HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn what_is_closed_is_archived_once_and_waits_while_the_bucket_is_away() {
    let Some(archive) = Archive::new().await else { return };
    archive.gate.turn(Door::Shut);
    let first = archive.edge();
    let journal = archive.first_journal();
    tried(&first);
    drop(first);
    let edge = archive.edge();
    edge.until_metric(FAILED, 1.0);
    assert_eq!(edge.metric(r#"proxima_archive_pending_files{kind="journal"}"#), Some(1.0));
    assert_eq!(get(edge.address("http"), "/").status, 200);
    archive.gate.turn(Door::Open);
    edge.until_metric(UPLOADED_JOURNAL, 1.0);
    edge.until_metric(UPLOADED_AUDIT, 1.0);

    let journals = archive.journals();
    assert_eq!(journals.len(), 2, "{journals:?}");
    let name = journal.file_name().unwrap().to_str().unwrap();
    let keys = archive.keys();
    assert!(keys.contains(&format!("a/here/journal/{name}")), "{keys:?}");
    let audit = keys.iter().find(|key| key.starts_with("a/here/audit/")).unwrap();
    assert!(
        archive.object(audit).contains(r#""act":"freeze","result":"denied""#),
        "{}",
        archive.object(audit)
    );
    let parts = std::fs::read_dir(archive.folder.path()).unwrap();
    let parts = parts.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(parts.count(), 0, "what is safe is not kept twice");

    // A third start knows what was done: only the second journal goes.
    drop(edge);
    let edge = archive.edge();
    edge.until_metric(UPLOADED_JOURNAL, 1.0);
    eventually("nothing waits", || {
        (edge.metric(r#"proxima_archive_pending_files{kind="journal"}"#)? == 0.0).then_some(())
    });
    assert_eq!(edge.metric(UPLOADED_JOURNAL), Some(1.0), "one was uploaded again");
    assert_eq!(archive.keys().iter().filter(|key| key.contains("/journal/")).count(), 2);
}

#[tokio::test]
async fn a_pod_that_ends_leaves_nothing_behind_and_a_file_that_another_one_writes_is_left_alone() {
    let Some(archive) = Archive::new().await else { return };
    // Two pods of a rolling update, in a folder of the node.
    let mut old = archive.edge();
    let whole = archive.first_journal();
    let new = archive.edge();
    tried(&old);
    // Whoever comes first uploads the log that they share.
    eventually("it is uploaded", || archive.keys().iter().any(|key| key.contains("/audit/")).then_some(()));
    assert_eq!(archive.journals().len(), 2);
    assert!(!archive.keys().iter().any(|key| key.contains("/journal/")), "{:?}", archive.keys());
    tried(&old);
    old.signal("TERM");
    assert!(old.ended().success(), "{}", old.log());

    let key = format!("a/here/journal/{}", whole.file_name().unwrap().to_str().unwrap());
    let sent = archive.world.signed("s3", ("HEAD", &format!("/proxima-archive/{key}")), &[], b"");
    let length = format!("content-length: {}", std::fs::metadata(&whole).unwrap().len());
    assert!(sent.text.to_ascii_lowercase().contains(&length), "{length}: {}", sent.text);
    // What was said last, too.
    let audit = archive.keys().into_iter().filter(|key| key.contains("/audit/"));
    let lines: usize = audit.map(|key| archive.object(&key).matches(r#""result":"denied""#).count()).sum();
    assert_eq!(lines, 2);
    assert_eq!(get(new.address("http"), "/").status, 200);
}
