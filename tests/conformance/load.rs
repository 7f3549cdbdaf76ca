//! Many requests at once, by nghttp2's h2load.

use crate::origin::tool;
use crate::peers::{self, run};
use crate::run_support::served;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn h2load_sees_no_request_fail_over_http_1_and_2_plain_and_by_tls() {
    const REQUESTS: &str = "6000";
    let (Some(h2load), Some(nginx)) = (tool("h2load"), peers::nginx().await) else { return };
    let world = World::start(&served("web", "here", nginx.address, "/"));
    let upload = world.folder.write("upload", &"x".repeat(20_000));
    let upload = ["--data", upload.to_str().unwrap()];
    let (plain, encrypted) = (world.address("http"), world.address("https"));
    let urls = [format!("http://{plain}/"), format!("https://{encrypted}/")];
    for url in &urls {
        for (flags, streams) in [(&["--h1"][..], "1"), (&[], "16")] {
            for more in [&[][..], &upload] {
                let load = ["-n", REQUESTS, "-c", "32", "-m", streams, url];
                let said = run(&h2load, 60, &[&load[..], flags, more].concat()).held(url);
                let what = format!("{url} {flags:?} {}\n{said}", more.len());
                let all = format!(
                    "requests: {REQUESTS} total, {REQUESTS} started, {REQUESTS} done, {REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout"
                );
                assert!(said.contains(&all), "{what}");
                assert!(
                    said.contains(&format!("status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx")),
                    "{what}"
                );
                let protocol = if flags.is_empty() { "h2" } else { "http/1.1" };
                assert!(said.contains(&format!("protocol: {protocol}")), "{what}");
            }
        }
    }
}

/// A service that refuses an upload, or needs nothing of it, answers before it has come.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn uploads_that_a_service_answers_early_do_not_end_the_connection_that_others_are_on() {
    let (Some(h2load), Some(nginx)) = (tool("h2load"), peers::nginx().await) else { return };
    let world = World::start(&served("web", "here", nginx.address, "/"));
    // The rest of a small one is read away, that of a larger one is declined by a reset.
    for (size, requests) in [(20_000, "2000"), (60_000, "2000"), (300_000, "500")] {
        let upload = world.folder.write("upload", &"x".repeat(size));
        let upload = upload.to_str().unwrap();
        for url in
            [format!("http://{}/", world.address("http")), format!("https://{}/", world.address("https"))]
        {
            let one = ["-n", requests, "-c", "1", "-m", "100", "--data", upload, &url];
            let said = run(&h2load, 60, &one).held(&url);
            assert!(said.contains(&format!("{requests} succeeded, 0 failed")), "{url} {size}\n{said}");
        }
    }
}
