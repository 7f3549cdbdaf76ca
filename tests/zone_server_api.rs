//! The rest of the zone server's API, through the real SDK: zones, paging,
//! changes, throttling, faults, and the observers' side.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod zone_server_support;

use aws_sdk_route53::types::{ChangeStatus, ResourceRecordSet, RrType};
use hickory_resolver::config::ProtocolConfig;
use std::time::Duration;
use zone_server_support::*;

fn keys(sets: &[ResourceRecordSet]) -> Vec<String> {
    sets.iter()
        .map(|set| {
            let id = set.set_identifier.as_deref().map(|id| format!(" {id}")).unwrap_or_default();
            format!("{} {}{id}", set.name, set.r#type.as_str())
        })
        .collect()
}

#[tokio::test]
async fn zones_are_created_found_and_not_created_twice() {
    let fixture = fixture(|_| {}).await;
    let client = &fixture.client;
    let create = || client.create_hosted_zone().name("other.test").caller_reference("ref-1");
    let made = create().send().await.unwrap();
    let zone = made.hosted_zone.unwrap();
    assert_eq!(zone.name, "other.test.");
    assert!(zone.id.starts_with("/hostedzone/Z"), "{}", zone.id);
    assert_eq!(made.delegation_set.unwrap().name_servers.len(), 2);
    assert!(made.location.contains(&zone.id), "{}", made.location);

    let error = create().send().await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_hosted_zone_already_exists());

    let got = client.get_hosted_zone().id(&zone.id).send().await.unwrap().hosted_zone.unwrap();
    assert_eq!((got.name.as_str(), got.resource_record_set_count), ("other.test.", Some(2)));

    let first = client.list_hosted_zones_by_name().max_items(1).send().await.unwrap();
    assert_eq!(first.hosted_zones[0].name, "example.test.");
    assert!(first.is_truncated);
    assert_eq!(first.next_dns_name.as_deref(), Some("other.test."));
    let found = client.list_hosted_zones_by_name().dns_name("other.test").send().await.unwrap();
    assert_eq!(found.hosted_zones[0].id, zone.id);
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn listing_is_in_reversed_label_order_and_pages_by_name_type_and_identifier() {
    let fixture = fixture(|_| {}).await;
    fixture
        .accepted(vec![
            create(simple("www", RrType::A, &["10.0.0.1"])),
            create(simple("a.b", RrType::A, &["10.0.0.1"])),
            create(simple("b", RrType::Txt, &["\"t\""])),
            create(simple("b", RrType::A, &["10.0.0.1"])),
            create(weighted("set", "10.0.0.2", 1)),
            create(weighted("set", "10.0.0.1", 1)),
        ])
        .await;
    let all = keys(&fixture.listed().await);
    let want = [
        "example.test. NS",
        "example.test. SOA",
        "b.example.test. A",
        "b.example.test. TXT",
        "a.b.example.test. A",
        "set.example.test. A 10.0.0.1",
        "set.example.test. A 10.0.0.2",
        "www.example.test. A",
    ];
    assert_eq!(all, want);

    let list = || fixture.client.list_resource_record_sets().hosted_zone_id(&fixture.zone).max_items(1);
    let mut paged = Vec::new();
    let mut page = list().send().await.unwrap();
    loop {
        paged.extend(keys(&page.resource_record_sets));
        if !page.is_truncated {
            break;
        }
        page = list()
            .set_start_record_name(page.next_record_name)
            .set_start_record_type(page.next_record_type)
            .set_start_record_identifier(page.next_record_identifier)
            .send()
            .await
            .unwrap();
    }
    assert_eq!(paged, want, "one at a time");
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn a_change_is_listed_at_once_and_answers_when_insync() {
    let delay = Duration::from_millis(400);
    let fixture = fixture(|settings| settings.insync_delay = delay).await;
    let started = tokio::time::Instant::now();
    let info = fixture.accepted(vec![create(simple("www", RrType::A, &["10.0.0.1"]))]).await;
    assert_eq!(info.status, ChangeStatus::Pending);
    assert!(info.id.starts_with("/change/C"), "{}", info.id);
    assert_eq!(fixture.listed().await.len(), 3);
    let resolver = fixture.resolver("127.0.0.1", ProtocolConfig::Udp);
    assert!(resolver.lookup_ip("www.example.test.").await.unwrap_err().is_no_records_found());

    let client = &fixture.client;
    eventually("the change is INSYNC", || async {
        let got = client.get_change().id(&info.id).send().await.unwrap().change_info.unwrap();
        got.status == ChangeStatus::Insync
    })
    .await;
    assert!(started.elapsed() >= delay);
    assert_eq!(fixture.address("127.0.0.1", "www.example.test").await.to_string(), "10.0.0.1");
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn what_was_written_is_read_back_unchanged() {
    let fixture = fixture(|_| {}).await;
    let text = r#""owner=\"proxima\" & <generation>=7" "second""#;
    let mut set = simple("_proxima.www", RrType::Txt, &[text]);
    set.name.push('.');
    fixture
        .accepted(vec![
            create(set.clone()),
            create(weighted("eu.www", "10.0.0.1", 7)),
            create(entry("www", "eu-west-1", "eu.www", &fixture.zone)),
        ])
        .await;
    let listed = fixture.listed().await;
    assert!(listed.contains(&set), "{listed:?}");
    let entry = listed.iter().find(|set| set.region.is_some()).unwrap();
    let target = entry.alias_target.as_ref().unwrap();
    assert_eq!(target.dns_name, "eu.www.example.test.");
    assert_eq!(target.hosted_zone_id, fixture.zone);
    assert!(target.evaluate_target_health);
    // What a listing shows is what a DELETE may name.
    let own = listed.into_iter().filter(|set| !matches!(set.r#type, RrType::Ns | RrType::Soa));
    fixture.accepted(own.map(delete).collect()).await;
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn unsigned_calls_are_refused_and_unknown_calls_named() {
    let fixture = fixture(|_| {}).await;
    let get = |path: &str, header: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n")
    };
    let zone = format!("/2013-04-01/hostedzone/{}", fixture.zone);
    assert_eq!(fixture.raw(&get(&zone, "")).await.0, 403);
    assert_eq!(fixture.raw(&get(&zone, "Authorization: AWS4-HMAC-SHA256 any\r\n")).await.0, 200);
    let (status, body) = fixture.raw(&get("/2013-04-01/trafficpolicies", "Authorization: any\r\n")).await;
    assert_eq!(status, 404);
    assert!(body.contains("<Code>UnknownOperationException</Code>"), "{body}");
    let junk = "POST /2013-04-01/hostedzone/Z1/rrset HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: any\r\nContent-Length: 5\r\n\r\n<<<<<";
    let (status, body) = fixture.raw(junk).await;
    assert_eq!(status, 400);
    assert!(body.contains("<Type>Sender</Type><Code>InvalidInput</Code>"), "{body}");
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn a_throttled_account_gets_five_requests_a_second() {
    let fixture = fixture(|settings| settings.throttle = true).await;
    let client = &fixture.client;
    let mut refusals = Vec::new();
    for _ in 0..20 {
        if let Err(error) = client.get_hosted_zone().id(&fixture.zone).send().await {
            refusals.push(said(&error));
        }
    }
    assert!(!refusals.is_empty(), "twenty calls in a row cannot all pass");
    assert!(refusals.iter().all(|said| said.starts_with("Throttling")), "{refusals:?}");
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn asked_faults_meet_the_next_changes_and_then_end() {
    let fixture = fixture(|_| {}).await;
    let set = || vec![upsert(simple("x", RrType::A, &["10.0.0.1"]))];
    for (kind, code, applied) in [
        ("throttling", "Throttling", false),
        ("prior_request_not_complete", "PriorRequestNotComplete", false),
        ("unavailable", "ServiceUnavailable", false),
        ("applied_then_unavailable", "ServiceUnavailable", true),
    ] {
        let body = format!("{{\"kind\": \"{kind}\", \"times\": 1}}");
        fixture.observe("POST", "/zone-server/faults", &body).await;
        let error = fixture.change(set()).await.unwrap_err();
        assert!(said(&error).starts_with(code), "{kind}: {}", said(&error));
        let there = fixture.listed().await.len() == 3;
        assert_eq!(there, applied, "{kind}");
        fixture.accepted(set()).await;
        fixture.accepted(vec![delete(simple("x", RrType::A, &["10.0.0.1"]))]).await;
    }
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn history_tells_weighted_sets_before_and_after_and_counts_emptied_ones() {
    let fixture = fixture(|settings| settings.insync_delay = Duration::from_millis(50)).await;
    fixture.accepted(vec![create(simple("plain", RrType::A, &["10.0.0.9"]))]).await;
    let made = fixture
        .accepted(vec![create(weighted("set", "10.0.0.1", 100)), create(weighted("set", "10.0.0.2", 1))])
        .await;
    fixture
        .accepted(vec![delete(weighted("set", "10.0.0.1", 100)), create(weighted("set", "10.0.0.1", 50))])
        .await;
    let history = fixture.observe("GET", "/zone-server/history", "").await;
    assert_eq!(history["sets_ever_empty"], 0);
    let changes = history["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 2, "plain records are no weighted sets: {history}");
    assert_eq!(format!("/change/{}", changes[0]["change_id"].as_str().unwrap()), made.id);
    assert_eq!(changes[0]["insync_at_ms"].as_u64().unwrap() - changes[0]["at_ms"].as_u64().unwrap(), 50);
    let set = &changes[1]["sets"][0];
    assert_eq!((set["name"].as_str(), set["type"].as_str()), (Some("set.example.test."), Some("A")));
    assert_eq!(set["before"][0]["weight"], 100);
    assert_eq!(set["after"][0]["weight"], 50);
    assert_eq!(set["after"][1]["values"][0], "10.0.0.2");

    fixture
        .accepted(vec![delete(weighted("set", "10.0.0.1", 50)), delete(weighted("set", "10.0.0.2", 1))])
        .await;
    let history = fixture.observe("GET", "/zone-server/history", "").await;
    assert_eq!(history["sets_ever_empty"], 1);
    fixture.server.shutdown().await;
}

#[tokio::test]
async fn two_writers_racing_on_one_fence_never_both_win() {
    let fixture = fixture(|_| {}).await;
    let fence = |generation: u32, writer: &str| {
        simple("_proxima.www", RrType::Txt, &[&format!("\"generation={generation} writer={writer}\"")])
    };
    fixture.accepted(vec![create(fence(0, "x"))]).await;
    let mut current = fence(0, "x");
    for generation in 1..=100 {
        let attempt =
            |writer| fixture.change(vec![delete(current.clone()), create(fence(generation, writer))]);
        let (a, b) = tokio::join!(attempt("a"), attempt("b"));
        assert!(a.is_ok() != b.is_ok(), "generation {generation}: {a:?} {b:?}");
        current = fence(generation, if a.is_ok() { "a" } else { "b" });
    }
    fixture.server.shutdown().await;
}
