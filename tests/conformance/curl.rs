//! HTTP in all its versions, by curl, with nginx or a scripted origin behind.

use crate::client::{Answer, curl};
use crate::origin::{Origin, Reply, answer, ok, tool};
use crate::peers::{self, run};
use crate::run_support::served;
use crate::world::{TRUSTED, World};
use std::time::{Duration, Instant};

/// Every way to ask: the listener, curl's flags, the version by which it is answered, the scheme.
const WAYS: [(&str, &[&str], &str, &str); 9] = [
    ("http", &["--http1.0"], "1.1", "http"),
    ("http", &["--http1.1"], "1.1", "http"),
    ("http", &["--http2-prior-knowledge"], "2", "http"),
    ("https", &["--http1.1", "--tls-max", "1.2"], "1.1", "https"),
    ("https", &["--http1.1", "--tlsv1.3"], "1.1", "https"),
    ("https", &["--http2", "--tls-max", "1.2"], "2", "https"),
    ("https", &["--http2", "--tlsv1.3"], "2", "https"),
    ("front", &["--http1.1", "--haproxy-protocol", "--interface", TRUSTED], "1.1", "http"),
    ("front-tls", &["--http2", "--haproxy-protocol", "--interface", TRUSTED], "2", "https"),
];

/// `None`: there is no curl.
async fn ask(world: &World, listener: &str, path: &str, flags: &[&str]) -> Option<Answer> {
    let ask = world.ask(listener, path);
    let ask: Vec<&str> = ask.iter().map(String::as_str).collect();
    curl(&[&ask[..], flags].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn every_version_of_http_gets_the_same_from_nginx() {
    let Some(nginx) = peers::nginx().await else { return };
    let world = World::start(&served("web", "here", nginx.address, "/"));
    for (listener, flags, version, scheme) in WAYS {
        let what = format!("{listener} {flags:?}");
        let asked = async |path: &str, more: &[&str]| {
            ask(&world, listener, path, &[flags, more].concat()).await.expect("curl")
        };
        let told = asked("/told", &[]).await;
        let client = if listener.starts_with("front") { TRUSTED } else { "127.0.0.1" };
        let port = world.address(listener).port();
        let expected = format!("GET www.example.com:{port} {scheme} {client}\n");
        let got = (told.status, told.version.as_str(), told.body.as_str());
        assert_eq!(got, (200, version, &*expected), "{what}: {}", told.error);

        let words = asked("/files/words", &[]).await;
        assert_eq!((words.status, words.body.as_str()), (200, "0123456789"), "{what}");
        let head = asked("/files/words", &["--head"]).await;
        assert_eq!((head.header("content-length"), head.body.as_str()), (Some("10"), ""), "{what}");
        let part = asked("/files/words", &["--range", "2-4"]).await;
        assert_eq!((part.status, part.body.as_str()), (206, "234"), "{what}");
        let tag = format!("if-none-match: {}", words.header("etag").unwrap());
        let same = asked("/files/words", &["--header", &tag]).await;
        assert_eq!((same.status, same.body.as_str()), (304, ""), "{what}: {}", same.error);
        let missing = asked("/files/none", &[]).await;
        assert_eq!(missing.status, 404, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn chunked_uploads_arrive_whole_and_chunked_answers_reach_every_version() {
    let origin = Origin::start(|seen, _| {
        Reply::Send(format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            seen.head.len(),
            seen.head
        ))
    })
    .await;
    let world = World::start(&served("web", "here", origin.address, "/"));
    let body = world.folder.write("body", &"0123456789".repeat(5_000));
    let body = format!("@{}", body.to_str().unwrap());
    for (listener, flags, ..) in WAYS {
        let what = format!("{listener} {flags:?}");
        let chunked = if flags.contains(&"--http1.0") { "accept: */*" } else { "transfer-encoding: chunked" };
        let more = ["--data-binary", &body, "--header", chunked, "--raw"];
        let Some(answer) = ask(&world, listener, "/upload", &[flags, &more].concat()).await else { return };
        assert_eq!(answer.status, 200, "{what}: {}", answer.error);
        let head = answer.body.replace("\r\n", "\n");
        // HTTP/1.1 sends it by chunks, too, which --raw shows; the others know none.
        let chunks = answer.header("transfer-encoding") == Some("chunked");
        assert_eq!(chunks, answer.version == "1.1" && !flags.contains(&"--http1.0"), "{what}");
        assert!(head.contains("POST /upload HTTP/1.1\n"), "{what}: {head}");
        let seen = origin.seen();
        let upload = seen.iter().rev().find(|seen| seen.head.starts_with("POST ")).unwrap();
        // As it is framed on the wire: chunks may be cut in the middle of a number.
        assert!(upload.body.len() >= 50_000 && upload.body.matches("0123456789").count() > 4_990, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn trailers_of_an_answer_reach_whoever_can_read_them() {
    let origin = Origin::start(|_, _| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
        Reply::Send(format!("{head}5\r\nwords\r\n0\r\nx-sum: 7\r\n\r\n"))
    })
    .await;
    let world = World::start(&served("web", "here", origin.address, "/"));
    let asks: &[&str] = &["--header", "te: trailers", "--header", "connection: te"];
    for (listener, flags, version, _) in WAYS {
        // HTTP/2 has a place for them; HTTP/1.1 gives them to whoever asks; HTTP/1.0 has none.
        for (more, kept) in [(&[][..], version == "2"), (asks, !flags.contains(&"--http1.0"))] {
            let what = format!("{listener} {flags:?} {more:?}");
            let Some(answer) = ask(&world, listener, "/", &[flags, more].concat()).await else { return };
            // curl writes them where they come: after the body.
            let expected = if kept { "wordsx-sum: 7" } else { "words" };
            assert_eq!((answer.status, answer.body.trim_end()), (200, expected), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn who_waits_for_100_continue_is_told_to_go_on_or_sends_no_body() {
    let Some(program) = tool("curl") else { return };
    let origin = Origin::start(|seen, _| ok(&seen.body)).await;
    let small = served("small", "here", origin.address, "/small") + "max_body = \"1KiB\"\n";
    let world = World::start(&(served("web", "here", origin.address, "/") + &small));
    let body = world.folder.write("body", &"x".repeat(10_000));
    let body = format!("@{}", body.to_str().unwrap());
    for (listener, flags, version, _) in WAYS.into_iter().filter(|way| !way.1.contains(&"--http1.0")) {
        let ask = |path: &str| {
            let ask = world.ask(listener, path);
            let ask: Vec<&str> = ask.iter().map(String::as_str).collect();
            let wait =
                ["--header", "Expect: 100-continue", "--expect100-timeout", "10", "--data-binary", &body];
            let told = [
                "--silent",
                "--noproxy",
                "*",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code} %{size_upload}",
            ];
            let began = Instant::now();
            let said = run(&program, 30, &[&ask[..], flags, &wait, &told].concat());
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "{listener} {flags:?}: it was not told to go on"
            );
            said.output
        };
        assert_eq!(ask("/"), "200 10000", "{listener} {flags:?}");
        // This curl takes the NO_ERROR after an early answer of HTTP/2 for a failure, from nginx, too;
        // tests/conformance/h2_frames.py has that case.
        if version == "1.1" {
            assert_eq!(ask("/small"), "413 0", "{listener} {flags:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn compressed_answers_and_redirects_pass_as_they_are() {
    let origin = Origin::start(|seen, _| match seen.header("accept-encoding") {
        Some(_) => answer(
            "302 Found",
            "location: /elsewhere?a=b\r\ncontent-encoding: gzip\r\nvary: accept-encoding\r\n",
            "moved",
        ),
        None => ok("plain"),
    })
    .await;
    let world = World::start(&served("web", "here", origin.address, "/"));
    for (listener, flags, ..) in WAYS {
        let more = ["--header", "accept-encoding: gzip"];
        let Some(answer) = ask(&world, listener, "/", &[flags, &more].concat()).await else { return };
        let headers = ["location", "content-encoding", "vary"].map(|name| answer.header(name));
        assert_eq!(
            headers,
            [Some("/elsewhere?a=b"), Some("gzip"), Some("accept-encoding")],
            "{listener} {flags:?}"
        );
        assert_eq!((answer.status, answer.body.as_str()), (302, "moved"), "{listener} {flags:?}");
    }
}
