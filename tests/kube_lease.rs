//! One voice a region: five pods contend for a Lease of a real kube-apiserver, and what they do to the records of
//! Route 53, as the zone server speaks it.
//!
//! `make test-kube`: needs `KUBEBUILDER_ASSETS`, a folder with etcd and kube-apiserver. Plain `cargo test` leaves these
//! tests out.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // Each test file uses its part.
#[path = "kube/cluster.rs"]
mod cluster;
#[allow(dead_code)]
mod dns_support;
mod run_support;
#[path = "kube/way.rs"]
mod way;
#[path = "kube_lease/world.rs"]
mod world;

use cluster::{Signal, until};
use dns_support::front::{Fate, For};
use run_support::{Edge, PATIENCE, get};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use world::{HELD, POD_REGION, RULES, World};

/// The operators of another region, who drain a third one and take that back, for ever: there is always
/// something that the holder has to write.
async fn keep_writers_busy(world: Arc<World>, done: Arc<AtomicBool>) -> usize {
    let mut acts = 0;
    while !done.load(Ordering::SeqCst) {
        for arguments in [&["drain", "us-east-1", "--reason", "to be moved"][..], &["undrain", "us-east-1"]] {
            let acting = Arc::clone(&world);
            let act = tokio::task::spawn_blocking(move || acting.operate(arguments));
            // One that comes in the middle of another's change is refused, and done again in the next round.
            let acted = act.await.unwrap();
            acts += usize::from(acted);
            let home = arguments[0] == "undrain";
            while acted && !done.load(Ordering::SeqCst) && world.is_home("us-east-1").await != home {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    acts
}

/// Waits until the holder has written something that it had not before.
async fn writes(pod: &Edge) {
    let (before, began) = (world::written(pod).len(), Instant::now());
    while world::written(pod).len() == before {
        assert!(began.elapsed() < 2 * PATIENCE, "the holder moves nobody:\n{}", pod.log());
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn of_five_pods_one_speaks_at_a_time_and_their_writes_never_interleave() {
    let Some(world) = World::start("3s", "3s").await else { return };
    let world = Arc::new(world);
    let done = Arc::new(AtomicBool::new(false));
    let holders = tokio::spawn(world.clone().watch_holders(Arc::clone(&done)));
    let acts = tokio::spawn(keep_writers_busy(Arc::clone(&world), Arc::clone(&done)));

    let mut took = Vec::new();
    for round in 0..6 {
        let holder = world.holder(&[]).await;
        let (reached, go) = (Arc::default(), Arc::default());
        let underway = round % 2 == 0;
        if underway {
            // Its next change is on its way, and arrives after all that the next holder does.
            let hold = Fate::Hold { reached: Arc::clone(&reached), go: Arc::clone(&go) };
            world.front.next(For::Changes, hold);
            reached.notified().await;
        } else {
            writes(&world.pods[holder]).await;
        }
        let began = Instant::now();
        world.pods[holder].signal("STOP");
        let next = world.holder(&[holder]).await;
        took.push(("stopped", began.elapsed()));
        writes(&world.pods[next]).await;
        if underway {
            let refused = world.refused(holder);
            go.notify_one();
            until("what comes late is refused", || (world.refused(holder) > refused).then_some(()));
        }
        world.pods[holder].signal("CONT");
        until("the one that was stopped knows that it lost", || {
            (world.pods[holder].metric(HELD) == Some(0.0)).then_some(())
        });
        assert_eq!(world.pods[next].metric(HELD), Some(1.0), "and takes nothing from a living one");
    }
    let killed = world.holder(&[]).await;
    let began = Instant::now();
    world.pods[killed].signal("KILL");
    let next = world.holder(&[killed]).await;
    took.push(("killed", began.elapsed()));
    writes(&world.pods[next]).await;

    done.store(true, Ordering::SeqCst);
    let (acts, holders) = (acts.await.unwrap(), holders.await.unwrap());
    world.settle().await;
    let writes = world.writers();
    eprintln!(
        "{acts} acts of operators; {} changes by the pods in the order {writes:?}",
        world.all_writes().len()
    );
    eprintln!("holders of the Lease: {holders:?}; taken after {took:.1?}");
    // By what the server let through: one winner a generation, and one hold after the other.
    let generations: Vec<u64> = world.all_writes().into_iter().map(|(generation, _)| generation).collect();
    assert!(generations.windows(2).all(|two| two[0] < two[1]), "{generations:?}");
    assert!(writes.len() >= 4, "{writes:?}");
    let mut order = holders.iter();
    let follows = writes.iter().all(|writer| order.any(|holder| holder == writer));
    assert!(follows, "writers {writes:?}, holders {holders:?}");
    // Nothing was written that the pods do not say (the one that was killed may not have come to it), nor said that was
    // not written: a pod that finds the very change that it wanted may say so, too.
    for (n, pod) in world.pods.iter().enumerate() {
        let (told, all) = (world::written(pod), world.all_writes());
        let untold: Vec<_> = all.iter().filter(|(g, writer)| *writer == n && !told.contains(g)).collect();
        assert!(untold.len() <= usize::from(n == killed), "pod {n} says only {told:?}, of {all:?}");
        assert!(
            told.iter().all(|generation| generations.contains(generation)),
            "pod {n}: {told:?}, of {all:?}"
        );
    }
    world.history_is_whole();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn at_a_drain_another_pod_takes_over_at_once_and_follows_what_was_measured() {
    // Nobody would take it before half a minute without being told, which is longer than anything here waits.
    let Some(world) = World::start("30s", "4s").await else { return };
    let first = world.holder(&[]).await;
    let began = Instant::now();
    world.pods[first].signal("TERM");
    let next = world.holder(&[first]).await;
    let took = began.elapsed();
    assert_eq!(
        get(world.pods[first].address("admin"), "/ready").status,
        503,
        "it is still there, and drains"
    );
    eprintln!("taken {took:.1?} after SIGTERM, of a Lease that lasts 30 s");
    assert!(world.pods[first].metric(HELD) == Some(0.0));
    // All measure through the new one.
    for (n, pod) in world.pods.iter().enumerate().filter(|(n, _)| ![first, next].contains(n)) {
        until(&format!("pod {n} takes over what pod {next} measures"), || {
            (pod.metric(r#"proxima_region_probed_sparsely{region="eu-west-1"}"#) == Some(1.0)).then_some(())
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn a_holder_that_alone_does_not_reach_the_api_gives_up_before_another_takes_over() {
    let Some(world) = World::start("5s", "1s").await else { return };
    let first = world.holder(&[]).await;
    world.ways[first].cut();
    let began = Instant::now();
    // At no moment two of them speak.
    let mut gave_up = None;
    let next = loop {
        let held = world.held();
        assert!(held.len() <= 1, "{held:?}");
        if held.is_empty() {
            gave_up.get_or_insert(began.elapsed());
        }
        if let Some(next) = held.into_iter().find(|pod| *pod != first) {
            break next;
        }
        assert!(began.elapsed() < 2 * PATIENCE, "nobody takes over");
        sleep(Duration::from_millis(20)).await;
    };
    eprintln!("given up after {gave_up:.1?}, taken after {:.1?}", began.elapsed());
    assert!(gave_up.is_some());
    // Nor later: it hears from the others that the Lease rules.
    let taken = began.elapsed();
    while began.elapsed() < 2 * taken {
        assert_eq!(world.held(), [next]);
        sleep(Duration::from_millis(50)).await;
    }
    world.ways[first].mend();
    until("it follows the Lease again", || (world.pods[first].metric(RULES) == Some(1.0)).then_some(()));
    assert_eq!(world.held(), [next]);
}

/// Users of every pod, until told to stop; how many requests failed.
fn users(world: &World, done: &Arc<AtomicBool>, served: &Arc<AtomicUsize>) -> Vec<JoinHandle<usize>> {
    let one = |pod: &Edge| {
        let (at, done, served) = (pod.address("http"), Arc::clone(done), Arc::clone(served));
        tokio::task::spawn_blocking(move || {
            let mut failed = 0;
            while !done.load(Ordering::SeqCst) {
                let well = get(at, "/").status == 200;
                failed += usize::from(!well);
                served.fetch_add(1, Ordering::SeqCst);
            }
            failed
        })
    };
    world.pods.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn without_an_api_one_pod_speaks_on_and_no_request_fails() {
    let Some(world) = World::start("3s", "1s").await else { return };
    world.holder(&[]).await;
    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let users = users(&world, &done, &served);
    world.cluster.signal_api(&Signal::Kill);
    until("the pods elect who speaks", || {
        let ruled = world.pods.iter().filter(|pod| pod.metric(RULES) != Some(0.0)).count();
        (ruled == 0 && world.held().len() == 1).then_some(())
    });
    let elected = world.held();
    // Longer than a lease lasts: nothing about it depends on the API.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(world.held(), elected);
    world.cluster.start_api().await;
    until("the Lease rules again", || {
        let ruled = world.pods.iter().filter(|pod| pod.metric(RULES) == Some(1.0)).count();
        (ruled == world.pods.len()).then_some(())
    });
    let holder = world.holder(&[]).await;
    done.store(true, Ordering::SeqCst);
    let mut failed = 0;
    for users in users {
        failed += users.await.unwrap();
    }
    eprintln!("elected {elected:?}, then the Lease's holder {holder}; {served:?} requests");
    assert_eq!(failed, 0, "of {served:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn a_role_without_the_right_is_told_by_name_and_the_pods_elect() {
    let Some(world) = World::without_rights("3s", "1s").await else { return };
    until("one is elected", || (world.held().len() == 1).then_some(()));
    for pod in &world.pods {
        // On a busy machine its first questions may be answered too late.
        until("the pod is denied, and says what it lacks", || {
            let denied = pod.metric(r#"proxima_lease_requests_total{result="denied"}"#) > Some(0.0);
            let log = pod.log();
            (denied && log.contains("coordination.k8s.io") && log.contains(POD_REGION)).then_some(())
        });
    }
}
