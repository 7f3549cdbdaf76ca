//! A rolling update behind a load balancer that goes by `/ready` costs no request.
//!
//! As the chart does it: a new process is ready before an old one gets SIGTERM (`maxSurge: 1`), or takes the address
//! that an old one has left (`maxUnavailable: 1`, where pods have the node's ports). The balancer does as an NLB: it
//! asks each target again and again, needs some failures in a row to take it out and some good answers to take it in,
//! and leaves the connections alone that it has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run_support;

#[allow(dead_code)] // Each test file uses its part.
#[path = "run_faults/origin.rs"]
mod origin;

use origin::{Origin, Way};
use run_support::client::{Client, until_goaway};
use run_support::{Edge, Folder, eventually, get, loopback, single};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, block_in_place, spawn_blocking};

/// Processes that serve together.
const EDGES: usize = 3;
/// Clients of each kind.
const CLIENTS: usize = 12;
/// Requests of each kind between two steps of the update, at least.
const BETWEEN: usize = 200;
/// How often the balancer asks each target.
const LOOK: Duration = Duration::from_millis(100);
/// Good answers in a row that take a target in, failures that take it out. As the chart asks of an NLB.
const IN: usize = 2;
const OUT: usize = 2;

/// A process that the balancer knows.
struct Target {
    http: SocketAddr,
    admin: SocketAddr,
    /// Answers in a row that speak against what it is now.
    against: usize,
    healthy: bool,
    connections: usize,
}

/// A balancer of connections.
struct Balancer {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<Target>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Balancer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let targets: Arc<Mutex<Vec<Target>>> = Arc::default();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&targets)));
        let looking = tokio::spawn(look(Arc::clone(&targets)));
        Self { address, targets, tasks: vec![accepting, looking] }
    }

    /// Knows of one more, or of one anew at an address that it knows, and waits until that one gets connections.
    fn add(&self, edge: &Edge) {
        let (http, admin) = (edge.address("http"), edge.address("admin"));
        {
            let mut targets = self.targets.lock().unwrap();
            targets.retain(|target| target.http != http);
            targets.push(Target { http, admin, against: 0, healthy: false, connections: 0 });
        }
        block_in_place(|| eventually("the new target is taken in", || self.is_healthy(http).then_some(())));
    }

    fn is_healthy(&self, http: SocketAddr) -> bool {
        self.targets.lock().unwrap().iter().any(|target| target.http == http && target.healthy)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: TcpListener, targets: Arc<Mutex<Vec<Target>>>) {
    let mut turn = 0;
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        turn += 1;
        let target = {
            let mut targets = targets.lock().unwrap();
            let mut healthy: Vec<&mut Target> = targets.iter_mut().filter(|target| target.healthy).collect();
            let count = healthy.len().max(1);
            healthy.get_mut(turn % count).map(|target| {
                target.connections += 1;
                target.http
            })
        };
        tokio::spawn(async move {
            // Without a target, or with one that refuses, the client's connection just ends.
            if let Ok(mut server) = TcpStream::connect(target?).await {
                copy_bidirectional(&mut client, &mut server).await.ok();
            }
            Some(())
        });
    }
}

async fn look(targets: Arc<Mutex<Vec<Target>>>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let known: Vec<SocketAddr> = targets.lock().unwrap().iter().map(|target| target.admin).collect();
        for admin in known {
            let ready = spawn_blocking(move || get(admin, "/ready").status == 200).await.unwrap();
            let mut targets = targets.lock().unwrap();
            let target = targets.iter_mut().find(|target| target.admin == admin).unwrap();
            target.against = if ready == target.healthy { 0 } else { target.against + 1 };
            if target.against >= if ready { IN } else { OUT } {
                (target.healthy, target.against) = (ready, 0);
            }
        }
    }
}

/// Served requests of the three kinds.
type Served = Arc<[AtomicUsize; 3]>;

/// Clients of all kinds, until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    served: Served,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn on(at: SocketAddr) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Served::default());
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            for fresh in [false, true] {
                clients.push(tokio::spawn(http1(at, fresh, Arc::clone(&stop), Arc::clone(&served))));
            }
            clients.push(tokio::spawn(http2(at, Arc::clone(&stop), Arc::clone(&served))));
        }
        Self { stop, served, clients }
    }

    fn served(&self) -> [usize; 3] {
        [0, 1, 2].map(|kind| self.served[kind].load(Ordering::SeqCst))
    }

    /// Waits until so many more are served, of each kind.
    fn go_on(&self) {
        let before = self.served();
        let more = || self.served().iter().zip(before).all(|(now, before)| *now >= before + BETWEEN);
        block_in_place(|| eventually("requests of all kinds are served", || more().then_some(())));
    }

    /// What failed.
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut failed = Vec::new();
        for client in self.clients {
            failed.extend(client.await.unwrap_or_else(|error| vec![error.to_string()]));
        }
        failed
    }
}

/// HTTP/1.1: each request on a connection of its own, or on one that is kept for as long as the edge keeps it.
async fn http1(at: SocketAddr, fresh: bool, stop: Arc<AtomicBool>, served: Served) -> Vec<String> {
    let (mut client, mut failed) = (Client::default(), Vec::new());
    while !stop.load(Ordering::SeqCst) {
        if fresh {
            client = Client::default();
        }
        match client.ask(at, "/").await {
            Ok(200) => drop(served[usize::from(fresh)].fetch_add(1, Ordering::SeqCst)),
            other => {
                failed.push(format!("HTTP/1.1, fresh {fresh}: {other:?}"));
                client = Client::default();
            }
        }
    }
    failed
}

/// HTTP/2: one request after the other on a connection, until a GOAWAY leads to the next one.
async fn http2(at: SocketAddr, stop: Arc<AtomicBool>, served: Served) -> Vec<String> {
    let mut failed = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let asked = async { until_goaway(TcpStream::connect(at).await.unwrap(), &served[2], &stop).await };
        failed.extend(asked.await.err().map(|error| format!("HTTP/2: {error:?}")));
    }
    failed
}

/// What is there first.
#[derive(Clone, Copy, PartialEq)]
enum First {
    /// A new process, at addresses of its own.
    New,
    /// Nothing: the old process has gone, and the new one takes its addresses.
    Gone,
}

/// Replaces every process once under load; what failed, and how much was served.
async fn update(first: First, notice: &str) -> (Vec<String>, [usize; 3]) {
    let (folder, origin) = (Folder::new(), Origin::start(Way::Well).await);
    let text = single(origin.address, "")
        .replace("health.path = \"/\"", "health.path = \"/health\"")
        .replace("drain_notice = \"300ms\"", &format!("drain_notice = \"{notice}\""));
    let file = |n: usize| {
        let mut text = text.clone();
        if first == First::Gone {
            let own = loopback();
            text = text.replacen("127.0.0.1:0", &format!("{own}:8080"), 1);
            text = text.replacen("127.0.0.1:0", &format!("{own}:9901"), 1);
        }
        folder.write(&format!("{n}.toml"), &text)
    };
    let files: Vec<_> = (0..EDGES).map(file).collect();
    let start = |n: usize| {
        let edge = block_in_place(|| Edge::ready(&files[n]));
        block_in_place(|| run_support::until_status(&edge, "/", 200));
        edge
    };
    let balancer = Balancer::start().await;
    let mut edges: Vec<Edge> = (0..EDGES).map(start).collect();
    edges.iter().for_each(|edge| balancer.add(edge));
    let load = Load::on(balancer.address);
    load.go_on();
    for (n, old) in edges.iter_mut().enumerate() {
        let mut new = None;
        if first == First::New {
            balancer.add(new.insert(start(n)));
            load.go_on();
        }
        old.signal("TERM");
        assert_eq!(block_in_place(|| old.ended()).code(), Some(0));
        let gone = || (!balancer.is_healthy(old.address("http"))).then_some(());
        block_in_place(|| eventually("a process that has ended is out", gone));
        load.go_on();
        if first == First::Gone {
            balancer.add(new.insert(start(n)));
            load.go_on();
        }
        // It serves until the end.
        *old = new.unwrap();
    }
    let served = load.served();
    let failed = load.end().await;
    for target in balancer.targets.lock().unwrap().iter() {
        assert!(target.connections > 0, "{} got none", target.http);
    }
    (failed, served)
}

/// One at a time: they share what this machine can do.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn fails_no_request(first: First) {
    let _alone = ALONE.lock().await;
    let (failed, served) = update(first, "2s").await;
    eprintln!("{} of {served:?} failed (HTTP/1.1 kept and fresh, HTTP/2)", failed.len());
    assert!(failed.is_empty(), "{} of {served:?}: {:?}", failed.len(), &failed[..failed.len().min(10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_fails_no_request() {
    fails_no_request(First::New).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_of_pods_that_have_the_nodes_ports_fails_no_request() {
    fails_no_request(First::Gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_ends_before_the_balancer_looks_loses_requests_which_this_load_sees() {
    let _alone = ALONE.lock().await;
    let (failed, served) = update(First::New, "0s").await;
    eprintln!("{} of {served:?} failed", failed.len());
    assert!(!failed.is_empty(), "of {served:?}");
}
