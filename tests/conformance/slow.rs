//! slowhttptest in all its modes, while a good client wants to be served.

use crate::origin::tool;
use crate::peers::{self, bounded};
use crate::run_support::{get, served};
use crate::world::World;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SECONDS: &str = "8";
/// What the process may hold with 400 slow clients.
const ROOM_KIB: u64 = 200 * 1024;

/// The bad connections stood to the end of the test.
const HELD: &str = "Exit status: Hit test time limit";
/// Proxima closed them all before.
const CLOSED: &str = "Exit status: No open connections left";

/// Asks on a connection of its own, again and again; how often, and how long the slowest answer took.
fn good_client(world: &World, over: &AtomicBool) -> (u32, Duration) {
    let (mut served, mut slowest) = (0, Duration::ZERO);
    while !over.load(Ordering::SeqCst) {
        let began = Instant::now();
        let answer = get(world.address("http"), "/");
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"), "after {served} good ones");
        slowest = slowest.max(began.elapsed());
        served += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    (served, slowest)
}

/// Without the colours of a terminal.
fn plain(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.trim_start_matches(|c: char| !c.is_ascii_alphabetic()));
    first + &rest.map(|part| part.get(1..).unwrap_or_default()).collect::<String>()
}

/// Runs one mode against a path to its end; none of the good client's requests may fail meanwhile.
async fn attack(path: &str, mode: &[&str]) -> Option<(World, String)> {
    let (program, nginx) = (tool("slowhttptest")?, peers::nginx().await?);
    let world = World::start(&served("web", "here", nginx.address, "/"));
    let url = format!("http://{}{path}", world.address("http"));
    let common = ["-c", "400", "-r", "200", "-l", SECONDS, "-p", "5", "-v", "1", "-u", &url];
    let over = AtomicBool::new(false);
    let (said, (served, slowest)) = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let good = scope.spawn(|| good_client(&world, &over));
            let mut attack = bounded(&program, 60);
            let output = attack.args(mode).args(common).stdin(Stdio::null()).output().unwrap();
            over.store(true, Ordering::SeqCst);
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            (plain(&text), good.join().unwrap())
        })
    });
    eprintln!("{mode:?}: {served} good requests, the slowest in {slowest:?}; {} KiB at most", world.peak());
    // Its own probe was served, too, and nothing else ended it.
    assert!(said.contains("service available:   YES") && !said.contains("service available:   NO"), "{said}");
    assert!(said.contains(HELD) || said.contains(CLOSED), "{said}");
    assert!(served > 100, "a good client was served {served} times: {said}");
    assert!(slowest < Duration::from_secs(5), "the slowest of {served} answers took {slowest:?}");
    Some((world, said))
}

/// The listener's `head_timeout` ends them, however busy they look.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn slow_heads_starve_nobody_and_are_closed_in_time() {
    let Some((world, said)) = attack("/", &["-H", "-i", "1", "-x", "24"]).await else { return };
    assert!(said.contains(CLOSED), "{said}");
    assert!(world.peak() < ROOM_KIB, "{} KiB", world.peak());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn slow_bodies_starve_nobody_and_cost_little_memory() {
    let Some((world, said)) = attack("/taken", &["-B", "-i", "1", "-s", "8192", "-x", "10"]).await else {
        return;
    };
    assert!(said.contains(HELD) && said.contains("connected:           400"), "{said}");
    assert!(world.peak() < ROOM_KIB, "{} KiB", world.peak());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn slow_readers_starve_nobody_and_cost_little_memory() {
    let mode = ["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "3"];
    let Some((world, said)) = attack("/files/huge", &mode).await else { return };
    assert!(said.contains(HELD) && said.contains("connected:           400"), "{said}");
    assert!(world.peak() < ROOM_KIB, "{} KiB", world.peak());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn heads_full_of_ranges_starve_nobody() {
    attack("/files/huge", &["-R", "-a", "10", "-b", "3000"]).await;
}
