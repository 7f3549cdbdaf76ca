//! Two writers on one name: one winner a generation, no update lost, no set ever empty.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // Each test file uses its part.
mod dns_support;

use dns_support::front::{Fate, For, Front};
use dns_support::{Edge, REGIONS, Server};
use proxima::dns::reader::Reading;
use proxima::dns::writer::Written;
use proxima::domain::plan::Plan;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::time::Instant;

const ROUNDS: u64 = 1000;
/// Half a minute on two busy cores; beyond this it is no test that anyone runs.
const TIME_MAX: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writers_one_wins_each_generation_on_our_zone_server() {
    Box::pin(race(Server::zone_server().await.unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writers_one_wins_each_generation_on_ministack() {
    let Some(server) = Server::ministack().await else { return };
    Box::pin(race(server)).await;
}

async fn race(server: Server) {
    server.bootstrap().await;
    let front = Front::before(server.endpoint.as_deref().unwrap()).await;
    let watched = server.behind(&front.address.to_string());
    let edges = [watched.edge("eu-west-1").await, watched.edge("us-east-1").await];
    let both = Arc::new(Barrier::new(2));
    let server = Arc::new(server);
    let done = Arc::new(AtomicBool::new(false));
    let looks = tokio::spawn(watch_sets(Arc::clone(&server), Arc::clone(&done)));

    let start = Instant::now();
    let mut reading = edges[0].read().await;
    let mut won = [0_u64; 2];
    let mut refused_by_server = 0;
    for round in 0..ROUNDS {
        // Different weights for different regions' users: a lost update would show.
        // In every other round both batches are sent before either arrives; in the others the
        // loser may find out in its reading before the batch.
        if round % 2 == 0 {
            front.next(For::Changes, Fate::Meet(Arc::clone(&both)));
            front.next(For::Changes, Fate::Meet(Arc::clone(&both)));
        }
        let plans = [plan(&edges[0], &reading, round, 0), plan(&edges[1], &reading, round, 1)];
        let (one, two) = tokio::join!(edges[0].submit(&plans[0]), edges[1].submit(&plans[1]));
        let winner = match (&one, &two) {
            (Written::Accepted { .. }, Written::Conflict(why)) => (0, why),
            (Written::Conflict(why), Written::Accepted { .. }) => (1, why),
            _ => panic!("round {round}: {one:?} and {two:?}"),
        };
        refused_by_server += u64::from(winner.1.contains("was written by"));
        let (winner, _) = winner;
        won[winner] += 1;
        let after = edges[winner].read().await;
        let plan = &plans[winner];
        assert_eq!(after.state.fence.generation, reading.state.fence.generation.next(), "round {round}");
        assert_eq!(after.state.writer, Some(plan.writer.clone()), "round {round}");
        assert_eq!(after.control.plan, Some(plan.hash()), "round {round}");
        for (entry, before) in &reading.state.sets {
            let wanted = plan.changes.get(entry).map_or(before, |change| &change.to);
            assert_eq!(&after.state.sets[entry], wanted, "round {round}, {entry}");
        }
        reading = after;
    }
    let took = start.elapsed();
    done.store(true, Ordering::SeqCst);
    let looks = looks.await.unwrap();
    eprintln!(
        "on {}: {ROUNDS} rounds in {took:.1?}, won {won:?}, {refused_by_server} refused by the server, \
         the others by the reading before; {looks} looks at the sets meanwhile",
        server.kind
    );
    assert_eq!(reading.state.fence.generation.get(), ROUNDS + 1, "no update was lost");
    assert!(refused_by_server >= ROUNDS / 2, "the batches did not meet: {refused_by_server}");
    assert!(took < TIME_MAX, "{took:?}");
}

/// Moves one entry's users back and forth, another entry and weight for each round and writer.
fn plan(edge: &Edge, reading: &Reading, round: u64, writer: usize) -> Plan {
    let entry = REGIONS[usize::try_from(round).unwrap() % REGIONS.len()];
    let share = u8::try_from(1 + (round * 2 + u64::try_from(writer).unwrap()) % 98).unwrap();
    if share % 5 == 0 {
        return edge.plan(reading, entry, &[(REGIONS[writer], 100)]);
    }
    edge.plan(reading, entry, &[(REGIONS[writer], share), (REGIONS[2], 100 - share)])
}

/// Looks at the sets as long as the race runs; how often.
async fn watch_sets(server: Arc<Server>, done: Arc<AtomicBool>) -> usize {
    let api = server.api().await;
    let looks = AtomicUsize::new(0);
    while !done.load(Ordering::SeqCst) {
        let records = api.subtree(server.name.as_str()).await.unwrap();
        let weighted = records.iter().filter(|record| record.weight.is_some_and(|weight| weight > 0));
        let sets: BTreeSet<&str> = weighted.map(|record| record.name()).collect();
        assert_eq!(sets.len(), REGIONS.len(), "a set is empty: {records:?}");
        looks.fetch_add(1, Ordering::SeqCst);
        // Not at full speed: the race shall have the server.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    looks.into_inner()
}
