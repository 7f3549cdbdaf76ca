//! What may go wrong between an edge and the server: a front holds requests, refuses them or loses
//! answers. It speaks plain HTTP, so a real zone is left out.

use crate::dns_support::front::{Fate, For, Front};
use crate::dns_support::{Edge, Server, set};
use crate::{entry, remove};
use aws_sdk_route53::types::{ChangeAction, ResourceRecord};
use proxima::dns::pace::Pace;
use proxima::dns::writer::Written;
use proxima::domain::name::EntryId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

macro_rules! behind_a_front {
    ($($test:ident),* $(,)?) => {
        suite! { zone_server: $($test),*; ministack: $($test),*; }
    };
}

behind_a_front!(
    the_control_record_is_read_first,
    a_change_during_a_reading_is_read_again,
    a_hand_edit_under_the_plan_is_a_conflict,
    an_expired_plan_is_not_sent,
    a_plan_that_expires_while_it_waits_for_its_turn_is_not_sent,
    a_lost_answer_is_settled_though_the_plan_has_expired,
    a_lost_answer_is_settled_by_reading,
    a_lost_answer_to_a_change_that_lost_is_a_conflict,
    throttling_is_retried,
    throttling_ends_with_the_plan,
    a_server_error_before_the_change_is_asked_again_and_one_after_it_is_settled,
    a_request_that_times_out_before_it_is_carried_out_is_sent_again,
    each_attempt_carries_its_own_time_so_that_no_hold_down_gets_shorter,
    a_conflict_that_the_server_finds_is_one,
    a_change_is_pending_for_as_long_as_the_server_says,
);

async fn the_control_record_is_read_first(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let seen = front.seen().len();
    edge.read().await;
    let listings = front.seen()[seen..].to_vec();
    assert!(listings[0].contains("_proxima") && listings[0].contains("type=TXT"), "{listings:?}");
    assert!(!listings[1].contains("_proxima"), "{listings:?}");
    assert_eq!(listings.len(), 2);
}

async fn a_change_during_a_reading_is_read_again(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let (reached, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    front.next(For::Listings, Fate::Pass);
    front.next(For::Listings, Fate::Hold { reached: Arc::clone(&reached), go: Arc::clone(&go) });
    let change = async {
        reached.notified().await;
        let other = server.edge("us-east-1").await;
        let plan = other.plan(&other.read().await, "eu-west-1", &[("us-east-1", 100)]);
        assert!(matches!(other.submit(&plan).await, Written::Accepted { .. }));
        go.notify_one();
    };
    let (reading, ()) = tokio::join!(edge.read(), change);
    assert_eq!(reading.state.fence.generation.get(), 2);
    assert_eq!(reading.state.sets[&entry("eu-west-1")], set(&[("us-east-1", 100)]));
}

/// Between the last reading and the batch: only Route 53 itself can notice.
async fn a_hand_edit_under_the_plan_is_a_conflict(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let shared = edge.plan(&edge.read().await, "eu-west-1", &[("eu-west-1", 60), ("us-east-1", 40)]);
    assert!(matches!(edge.submit(&shared).await, Written::Accepted { .. }));
    // The record that is edited keeps its weight in the plan: it is guarded all the same.
    let to = [("ap-south-1", 40), ("eu-west-1", 60)];
    let plan = edge.plan(&edge.read().await, "eu-west-1", &to);
    let before = front.changes_seen();
    let (reached, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    front.next(For::Changes, Fate::Hold { reached: Arc::clone(&reached), go: Arc::clone(&go) });
    let edit = async {
        reached.notified().await;
        let mut edited = server.weighted("eu-west-1", "eu-west-1").await;
        edited.resource_records = Some(vec![ResourceRecord::builder().value("203.0.113.7").build().unwrap()]);
        server.change(vec![(ChangeAction::Upsert, edited)]).await;
        let records = server.records().await;
        go.notify_one();
        records
    };
    let (written, records) = tokio::join!(edge.submit(&plan), edit);
    assert!(matches!(written, Written::Conflict(_)), "{written:?}");
    assert_eq!(front.changes_seen() - before, 1, "nothing is resubmitted as it was");
    assert_eq!(server.records().await, records);
}

async fn an_expired_plan_is_not_sent(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let mut plan = edge.plan(&edge.read().await, "eu-west-1", &[("us-east-1", 100)]);
    plan.expires_at = edge.clock.now();
    assert!(matches!(edge.submit(&plan).await, Written::Expired(_)));
    assert_eq!(front.changes_seen(), 0);
}

async fn a_plan_that_expires_while_it_waits_for_its_turn_is_not_sent(server: &Server) {
    server.bootstrap().await;
    let (front, mut edge) = behind(server).await;
    let reading = edge.read().await;
    // Control record at once, the sets after a second, the change after two.
    edge.api = edge.api.paced(Pace::per_second(1));
    let mut plan = edge.plan(&reading, "eu-west-1", &[("us-east-1", 100)]);
    plan.expires_at = edge.clock.now() + Duration::from_millis(1_500);
    let written = edge.submit(&plan).await;
    assert!(matches!(written, Written::Expired(_)), "{written:?}");
    assert_eq!(front.changes_seen(), 0);
}

async fn a_lost_answer_is_settled_though_the_plan_has_expired(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let mut plan = edge.plan(&edge.read().await, "eu-west-1", &[("us-east-1", 100)]);
    plan.expires_at = edge.clock.now() + Duration::from_secs(2);
    front.next(For::Changes, Fate::LoseAnswerAfter(Duration::from_millis(2_500)));
    // Control record and sets; then the first look after the answer was lost.
    for fate in [Fate::Pass, Fate::Pass, Fate::Refuse("Throttling")] {
        front.next(For::Listings, fate);
    }
    let written = edge.submit(&plan).await;
    assert!(matches!(written, Written::Settled { .. }), "{written:?}");
    assert_eq!(front.changes_seen(), 1);
}

async fn a_lost_answer_is_settled_by_reading(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let before = edge.read().await;
    let plan = edge.plan(&before, "eu-west-1", &[("us-east-1", 100)]);
    front.next(For::Changes, Fate::LoseAnswer);
    let written = edge.submit(&plan).await;
    let next = before.state.fence.generation.next();
    assert!(matches!(written, Written::Settled { generation } if generation == next), "{written:?}");
    assert_eq!(front.changes_seen(), 1, "a change that was applied is not sent again");
    let after = edge.read().await;
    assert_eq!(after.state.fence.generation, next);
    assert_eq!(after.state.sets[&entry("eu-west-1")], set(&[("us-east-1", 100)]));
}

/// The answer that got lost was a refusal: another writer had come first.
async fn a_lost_answer_to_a_change_that_lost_is_a_conflict(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let plan = edge.plan(&edge.read().await, "eu-west-1", &[("us-east-1", 100)]);
    let (reached, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    front.next(For::Changes, Fate::Hold { reached: Arc::clone(&reached), go: Arc::clone(&go) });
    let winner = async {
        reached.notified().await;
        let other = server.edge("us-east-1").await;
        let plan = other.plan(&other.read().await, "eu-west-1", &[("us-east-1", 100)]);
        assert!(matches!(other.submit(&plan).await, Written::Accepted { .. }));
        go.notify_one();
    };
    let (written, ()) = tokio::join!(edge.submit(&plan), winner);
    assert!(matches!(&written, Written::Conflict(why) if why.contains("us-east-1")), "{written:?}");
    assert_eq!(edge.read().await.state.fence.generation.get(), 2);
}

async fn throttling_is_retried(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let plan = edge.plan(&edge.read().await, "eu-west-1", &[("us-east-1", 100)]);
    front.next(For::Changes, Fate::Refuse("Throttling"));
    front.next(For::Changes, Fate::Refuse("PriorRequestNotComplete"));
    front.next(For::Listings, Fate::Refuse("Throttling"));
    let start = Instant::now();
    let written = edge.submit(&plan).await;
    assert!(matches!(written, Written::Accepted { .. }), "{written:?}");
    assert_eq!(front.changes_seen(), 3);
    // Three pauses of at least 50 ms.
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
    assert_eq!(edge.read().await.state.fence.generation.get(), 2);
}

async fn throttling_ends_with_the_plan(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let mut plan = edge.plan(&edge.read().await, "eu-west-1", &[("us-east-1", 100)]);
    plan.expires_at = edge.clock.now() + Duration::from_secs(2);
    front.every(For::Changes, Fate::Refuse("Throttling"));
    let records = server.records().await;
    let start = Instant::now();
    let written = edge.submit(&plan).await;
    assert!(matches!(&written, Written::Expired(why) if why.contains("Throttling")), "{written:?}");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!((2..=40).contains(&front.changes_seen()), "{} attempts", front.changes_seen());
    assert_eq!(server.records().await, records);
}

async fn a_server_error_before_the_change_is_asked_again_and_one_after_it_is_settled(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    for (fates, written_as, changes) in [
        (&[Fate::Status(503), Fate::LoseRequest, Fate::Status(500)][..], "accepted", 4),
        (&[Fate::ThenStatus(500)], "settled", 1),
        (&[Fate::Status(503), Fate::ThenStatus(502)], "settled", 2),
        (&[Fate::LoseRequest, Fate::LoseAnswer], "settled", 2),
    ] {
        let (reading, seen) = (edge.read().await, front.changes_seen());
        let entry = EntryId::parse("eu-west-1").unwrap();
        let home = reading.state.sets[&entry] == set(&[("eu-west-1", 100)]);
        let to = if home { [("us-east-1", 100)] } else { [("eu-west-1", 100)] };
        fates.iter().for_each(|fate| front.next(For::Changes, fate.clone()));
        let written = edge.submit(&edge.plan(&reading, "eu-west-1", &to)).await;
        assert_eq!(written.as_str(), written_as, "{written:?}");
        assert_eq!(front.changes_seen() - seen, changes);
        let after = edge.read().await;
        assert_eq!(after.state.fence.generation, reading.state.fence.generation.next());
        assert_eq!(after.state.sets[&entry], set(&to));
    }
}

async fn a_request_that_times_out_before_it_is_carried_out_is_sent_again(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let plan = edge.plan(&edge.read().await, "eu-west-1", &[("us-east-1", 100)]);
    // Longer than an attempt may take.
    front.next(For::Changes, Fate::LoseRequestAfter(Duration::from_secs(10)));
    let start = Instant::now();
    let written = edge.submit(&plan).await;
    assert!(matches!(written, Written::Accepted { .. }), "{written:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "the attempt was given up: {:?}", start.elapsed());
    assert_eq!((front.changes_seen(), edge.read().await.state.fence.generation.get()), (2, 2));
}

async fn each_attempt_carries_its_own_time_so_that_no_hold_down_gets_shorter(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let plan = edge.plan(&edge.read().await, "eu-west-1", &[("us-east-1", 100)]);
    let late = Duration::from_secs(2);
    front.next(For::Changes, Fate::LoseRequestAfter(late));
    let begun = edge.clock.now();
    assert!(matches!(edge.submit(&plan).await, Written::Accepted { .. }));
    let changed_at = edge.read().await.state.changed_at.unwrap();
    // The record holds whole milliseconds.
    assert!(changed_at + Duration::from_millis(2) >= begun + late, "{changed_at:?}, begun at {begun:?}");
}

async fn a_conflict_that_the_server_finds_is_one(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let plan = edge.plan(&edge.read().await, "eu-west-1", &[("us-east-1", 100)]);
    front.next(For::Changes, Fate::Refuse("InvalidChangeBatch"));
    let records = server.records().await;
    assert!(matches!(edge.submit(&plan).await, Written::Conflict(_)));
    assert_eq!((front.changes_seen(), server.records().await), (1, records), "it is not sent again");
}

async fn a_change_is_pending_for_as_long_as_the_server_says(server: &Server) {
    server.bootstrap().await;
    let (front, edge) = behind(server).await;
    let plan = edge.plan(&edge.read().await, "eu-west-1", &[("us-east-1", 100)]);
    let Written::Accepted { change_id, .. } = edge.submit(&plan).await else { panic!("not accepted") };
    (0..3).for_each(|_| front.next(For::Progress, Fate::StayPending));
    for _ in 0..3 {
        assert!(!edge.api.in_sync(&change_id).await.unwrap());
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !edge.api.in_sync(&change_id).await.unwrap() {
        assert!(Instant::now() < deadline, "not INSYNC");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An edge whose requests pass a front.
async fn behind(server: &Server) -> (Front, Edge) {
    let front = Front::before(server.endpoint.as_deref().unwrap()).await;
    let edge = server.behind(&front.address.to_string()).edge("eu-west-1").await;
    (front, edge)
}
