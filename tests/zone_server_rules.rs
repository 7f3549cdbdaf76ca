//! Route 53's rules for change batches, through the real SDK: one table.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod zone_server_support;

use aws_sdk_route53::types::RrType;
use proxima::zone_server::LoadBalancer;
use zone_server_support::ministack::Ministack;
use zone_server_support::rules::*;
use zone_server_support::*;

#[tokio::test]
async fn every_rule_holds_and_a_refused_batch_changes_nothing() {
    let count = table("any").len();
    assert!(count >= 60, "{count} rows");
    for index in 0..count {
        let fixture = fixture(|settings| {
            let (name, zone_id) = (BALANCER.0.to_owned(), BALANCER.1.to_owned());
            let addresses = vec!["127.0.0.9".parse().unwrap()];
            settings.load_balancers = vec![LoadBalancer { name, zone_id, addresses }];
        })
        .await;
        fixture.accepted(ground()).await;
        let before = fixture.listed().await;
        let row = table(&fixture.zone).swap_remove(index);
        let got = fixture.change(row.batch).await;
        match (row.want, got) {
            (Accepted, Ok(_)) => {}
            (Refused(code, part), Err(error)) => {
                let said = said(&error);
                assert!(said.starts_with(code) && said.contains(part), "{}: said {said}", row.rule);
                assert_eq!(fixture.listed().await, before, "{}: nothing changed", row.rule);
            }
            (Accepted, Err(error)) => panic!("{}: refused, {}", row.rule, said(&error)),
            (Refused(..), Ok(_)) => panic!("{}: accepted", row.rule),
        }
        fixture.server.shutdown().await;
    }
}

#[tokio::test]
async fn the_sdk_maps_refusals_to_its_typed_errors() {
    let fixture = fixture(|_| {}).await;
    fixture.accepted(ground()).await;
    let error = fixture.change(vec![create(simple("one", RrType::A, &["10.0.0.1"]))]).await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_invalid_change_batch());
    let error = fixture.change(vec![upsert(weighted("set", "10.0.1.1", 256))]).await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_invalid_input());

    let client = &fixture.client;
    let error = client.get_hosted_zone().id("ZABSENT").send().await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_no_such_hosted_zone());
    let error = client.get_change().id("CABSENT").send().await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_no_such_change());
    let error = client.get_health_check().health_check_id("absent").send().await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_no_such_health_check());
    fixture.server.shutdown().await;
}

/// Rules of Route 53 that ministack is known not to enforce; a rule that it
/// learns must leave this list.
const NOT_IN_MINISTACK: &[&str] = &[
    "an alias to a load balancer is of type A or AAAA",
    "names have one spelling, whatever the case",
    "an unknown health check is refused",
    "weight 256 is refused",
    "weight -1 is refused",
    "a weight needs a set identifier",
    "a set identifier needs a policy",
    "one policy a record set",
    "weighted beside simple is refused",
    "simple beside weighted is refused",
    "weighted beside latency is refused",
    "latency beside weighted is refused",
    "one latency record a region",
    "a latency region that AWS does not have is refused",
    "one TTL a weighted set",
    "a TTL is required without an alias",
    "a TTL is forbidden with an alias",
    "an alias needs an existing target",
    "an alias needs a target of its own type",
    "an alias cannot be its own target",
    "an alias into another zone is refused",
    "a name outside the zone is refused",
    "CNAME at the apex is refused",
    "CNAME beside another type is refused",
    "another type beside CNAME is refused",
    "CNAME has one value",
    "a text needs quotation marks",
    "a text string holds at most 255 characters",
    "A takes addresses only",
    "AAAA takes its addresses only",
    "values differ from one another",
    "1,001 records are refused",
    "UPSERT counts twice: 501 are refused",
    "32,200 characters are refused",
    "UPSERT counts characters twice",
];

/// Both stand in for Route 53: where ministack has a rule, it must be ours too.
#[tokio::test]
async fn the_table_agrees_with_ministack_where_it_has_the_rule() {
    let Some(ministack) = Ministack::start(&[]).await else { return };
    let client = sdk(ministack.address);
    let mut disagreements = Vec::new();
    for index in 0..table("any").len() {
        let made =
            client.create_hosted_zone().name(ZONE).caller_reference(format!("row-{index}")).send().await;
        let zone = made.unwrap().hosted_zone.unwrap().id;
        let zone = zone.trim_start_matches("/hostedzone/");
        send(&client, zone, ground()).await.unwrap();
        let row = table(zone).swap_remove(index);
        let accepted = send(&client, zone, row.batch).await.is_ok();
        let lenient = NOT_IN_MINISTACK.contains(&row.rule);
        match (row.want, accepted) {
            (Accepted, true) => {}
            (Refused(..), refused) if refused == lenient => {}
            (Accepted, false) => disagreements.push(format!("refused by ministack: {}", row.rule)),
            (Refused(..), true) => disagreements.push(format!("accepted by ministack: {}", row.rule)),
            (Refused(..), false) => disagreements.push(format!("ministack has learnt: {}", row.rule)),
        }
    }
    assert!(disagreements.is_empty(), "{disagreements:#?}");
}
