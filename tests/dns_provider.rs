//! The provider's suite: what holds on any server that speaks Route 53's API.
//! It runs on our zone server, on ministack, and on a real zone when `PROXIMA_ROUTE53_ZONE` names one.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // Each test file uses its part.
mod dns_support;

use aws_sdk_route53::types::{ChangeAction, HealthCheckConfig, HealthCheckType, ResourceRecord, RrType};
use dns_support::{Server, set, simple};
use proxima::clock::Clock;
use proxima::dns::apply::Operation;
use proxima::dns::checks::Checks;
use proxima::dns::error::ErrorKind;
use proxima::dns::provider::Provider;
use proxima::dns::reader::{ReadError, read};
use proxima::dns::survey::survey;
use proxima::dns::writer::Written;
use proxima::domain::name::EntryId;
use proxima::metrics::dns::DnsMetrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Each test of the list on each server, under the server's name.
macro_rules! suite {
    ($($server:ident: $($test:ident),* $(,)?;)*) => {$(
        mod $server {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let Some(server) = super::Server::$server().await else { return };
                    eprintln!("on {}", server.kind);
                    super::$test(&server).await;
                    super::remove(&server).await;
                }
            )*
        }
    )*};
}

macro_rules! on_every_server {
    ($($test:ident),* $(,)?) => {
        suite! { zone_server: $($test),*; ministack: $($test),*; real: $($test),*; }
    };
}

#[path = "dns_provider/front.rs"]
mod front;

on_every_server!(
    bootstrap_creates_what_is_asked_for_and_then_has_nothing_to_do,
    bootstrap_refuses_what_stands_in_the_way,
    bootstrap_goes_on_after_a_region_was_added,
    a_reading_goes_on_to_the_last_page_and_leaves_foreign_names_alone,
    what_does_not_match_is_named,
    a_plan_changes_exactly_its_records,
    a_stale_plan_is_a_conflict_and_changes_nothing,
    a_hand_edit_before_the_plan_is_a_conflict,
);

/// Leaves a real zone as it was; a server of our own ends with its test.
async fn remove(server: &Server) {
    if server.endpoint.is_some() {
        return;
    }
    let mut records = server.records().await;
    records.sort_by_key(|record| record.alias_target.is_none());
    server.change(records.into_iter().map(|record| (ChangeAction::Delete, record)).collect()).await;
    let client = server.client().await;
    let path = format!("/health/gate/{}", server.name);
    for check in server.api().await.health_checks().await.unwrap() {
        let config = check.health_check_config.unwrap();
        let ours = config.resource_path.as_deref() == Some(path.as_str())
            || config.resource_path.as_deref() == Some("/health/edge");
        if ours && check.caller_reference.starts_with("proxima/") {
            client.delete_health_check().health_check_id(check.id).send().await.unwrap();
        }
    }
}

async fn bootstrap_creates_what_is_asked_for_and_then_has_nothing_to_do(server: &Server) {
    let before = server.records().await;
    let first = server.survey().await;
    // 3 edge and 3 gate checks, the control record, 3 aliases, 3 weighted records.
    assert_eq!((first.counts().create, first.problems().len()), (13, 0), "{first}");
    assert_eq!(server.records().await, before, "a survey writes nothing");
    assert_eq!(server.carry_out(Operation::Bootstrap).await.submitted.len(), 1, "one batch a name");

    let reading = server.edge("eu-west-1").await.read().await;
    assert_eq!(reading.state.fence.generation.get(), 1);
    assert_eq!((&reading.state.writer, reading.state.changed_at), (&None, None));
    for (entry, weights) in &reading.state.sets {
        assert_eq!(weights, &set(&[(entry.as_str(), 100)]));
    }
    assert_eq!(reading.state.sets.len(), 3);
    let records = server.records().await;
    let alias = records.iter().find(|r| r.alias_target.is_some() && r.set_identifier() == Some("eu-west-1"));
    let alias = alias.unwrap();
    let target = alias.alias_target().map(|t| (t.dns_name(), t.evaluate_target_health()));
    assert_eq!(target, Some((format!("eu-west-1.{}.", server.name).as_str(), true)));

    let (records, second) = (server.records().await, server.survey().await);
    assert!(second.counts().none() && second.problems().is_empty(), "{second}");
    assert!(second.to_string().ends_with("no changes"), "{second}");
    assert_eq!(server.carry_out(Operation::Bootstrap).await.submitted, []);
    assert_eq!(server.records().await, records);
}

async fn bootstrap_refuses_what_stands_in_the_way(server: &Server) {
    let foreign = simple(server.name.as_str(), RrType::A, "203.0.113.7");
    server.change(vec![(ChangeAction::Create, foreign.clone())]).await;
    let api = server.api().await;
    let (records, checks) = (server.records().await, api.health_checks().await.unwrap());
    let outcome = server.carry_out(Operation::Bootstrap).await;
    let (_, why) = &outcome.failed[0];
    assert_eq!(*why, format!("1 in the way: {} A", server.name));
    assert_eq!(server.records().await, records, "nothing was created");
    assert_eq!(api.health_checks().await.unwrap(), checks, "not even a health check");
}

async fn bootstrap_goes_on_after_a_region_was_added(server: &Server) {
    let api = server.api().await;
    let two = server.config_with("eu-west-1", &["eu-west-1", "us-east-1"], "mode = \"act\"");
    let first = survey(&api, &two, &[]).await.unwrap();
    first.carry_out(&api, &Operation::Bootstrap).await.unwrap();
    let added = server.survey().await;
    // Its two checks, its alias, its set.
    assert_eq!((added.counts().create, added.problems().len()), (4, 0), "{added}");
    server.bootstrap().await;
    let reading = server.edge("eu-west-1").await.read().await;
    assert_eq!(reading.state.fence.generation.get(), 2, "an addition is fenced like any change");
    assert_eq!(reading.state.sets.len(), 3);
}

async fn a_reading_goes_on_to_the_last_page_and_leaves_foreign_names_alone(server: &Server) {
    server.bootstrap().await;
    let edge = server.edge("eu-west-1").await;
    let before = edge.read().await;
    // More than one page of 300 between the name and its last entry.
    for batch in 0..2 {
        let foreign = (0..200).map(|n| format!("a{}.{}", batch * 200 + n, server.name));
        let foreign = foreign.map(|name| (ChangeAction::Create, simple(&name, RrType::A, "203.0.113.7")));
        server.change(foreign.collect()).await;
    }
    let mail = simple(server.name.as_str(), RrType::Txt, "\"v=spf1 -all\"");
    server.change(vec![(ChangeAction::Create, mail)]).await;
    assert_eq!(edge.read().await.state, before.state);
}

async fn what_does_not_match_is_named(server: &Server) {
    let unprepared = server.edge("eu-west-1").await;
    let error = read(&unprepared.api, &unprepared.layout, &unprepared.checks, &unprepared.clock).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains(&format!("no control record _proxima.{}", server.name)), "{error}");
    assert!(error.contains("dns bootstrap"), "{error}");

    server.bootstrap().await;
    let edge = server.edge("eu-west-1").await;
    let good = server.weighted("eu-west-1", "eu-west-1").await;
    let record = format!("eu-west-1.{} A [eu-west-1]", server.name);
    let mut cases = Vec::new();
    let mut edited = good.clone();
    edited.ttl = Some(300);
    cases.push((edited, "TTL is 300, the configuration says 60"));
    let mut edited = good.clone();
    edited.resource_records = Some(vec![ResourceRecord::builder().value("203.0.113.7").build().unwrap()]);
    cases.push((edited, "values is 203.0.113.7, the configuration says"));
    let mut edited = good.clone();
    edited.health_check_id = None;
    cases.push((edited, "health check is absent, the configuration says"));
    let mut edited = good.clone();
    edited.weight = Some(0);
    cases.push((edited, "weight 0, want 1 to 255"));
    for (edited, problem) in cases {
        server.change(vec![(ChangeAction::Upsert, edited)]).await;
        match read(&edge.api, &edge.layout, &edge.checks, &edge.clock).await {
            Err(ReadError::Records(problems)) => {
                assert!(
                    problems[0].record == record && problems[0].problem.contains(problem),
                    "{problems:?}"
                );
            }
            other => panic!("{problem}: {other:?}"),
        }
    }
    server.change(vec![(ChangeAction::Upsert, good)]).await;
    let mut control = edge.read().await.control_set;
    control.resource_records =
        Some(vec![ResourceRecord::builder().value("\"v=1 epoch=a\"").build().unwrap()]);
    server.change(vec![(ChangeAction::Upsert, control)]).await;
    let error = read(&edge.api, &edge.layout, &edge.checks, &edge.clock).await.unwrap_err();
    assert!(matches!(error, ReadError::Control { .. }), "{error:?}");
}

async fn a_plan_changes_exactly_its_records(server: &Server) {
    server.bootstrap().await;
    let edge = server.edge("us-east-1").await;
    let before = edge.read().await;
    let to = [("eu-west-1", 60), ("us-east-1", 40)];
    let plan = edge.plan(&before, "eu-west-1", &to);
    let Written::Accepted { generation, change_id } = edge.submit(&plan).await else {
        panic!("not accepted")
    };
    assert_eq!(generation, before.state.fence.generation.next());
    let after = edge.read().await;
    assert_eq!(after.state.fence.epoch, before.state.fence.epoch);
    assert_eq!((after.state.fence.generation, after.control.plan), (generation, Some(plan.hash())));
    assert_eq!(after.state.writer, Some(edge.region.clone()));
    let age = edge.clock.now().since(after.state.changed_at.unwrap());
    assert!(age < Duration::from_secs(30), "{age:?}");
    for (id, weights) in &before.state.sets {
        let wanted = if id == &entry("eu-west-1") { &set(&to) } else { weights };
        assert_eq!(&after.state.sets[id], wanted, "{id}");
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    while !edge.api.in_sync(&change_id).await.unwrap() {
        assert!(Instant::now() < deadline, "not INSYNC");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn a_stale_plan_is_a_conflict_and_changes_nothing(server: &Server) {
    server.bootstrap().await;
    let (one, two) = (server.edge("eu-west-1").await, server.edge("us-east-1").await);
    let reading = one.read().await;
    let late = two.plan(&reading, "ap-south-1", &[("us-east-1", 100)]);
    let plan = one.plan(&reading, "eu-west-1", &[("us-east-1", 100)]);
    assert!(matches!(one.submit(&plan).await, Written::Accepted { .. }));
    let records = server.records().await;
    assert!(matches!(two.submit(&late).await, Written::Conflict(_)));
    assert!(matches!(one.submit(&plan).await, Written::Conflict(_)), "nothing is written twice");
    assert_eq!(server.records().await, records);
}

async fn a_hand_edit_before_the_plan_is_a_conflict(server: &Server) {
    server.bootstrap().await;
    let edge = server.edge("eu-west-1").await;
    let reading = edge.read().await;
    let mut edited = server.weighted("eu-west-1", "eu-west-1").await;
    // The weight only: the record still matches, but not what the plan was made for.
    edited.weight = Some(7);
    server.change(vec![(ChangeAction::Upsert, edited)]).await;
    let records = server.records().await;
    let plan = edge.plan(&reading, "eu-west-1", &[("us-east-1", 100)]);
    let written = edge.submit(&plan).await;
    assert!(matches!(&written, Written::Conflict(why) if why.contains("eu-west-1=7")), "{written:?}");
    assert_eq!(server.records().await, records);
}

fn entry(name: &str) -> EntryId {
    EntryId::parse(name).unwrap()
}

#[tokio::test]
async fn the_simple_form_is_one_set_at_the_name_itself_on_our_zone_server() {
    simple_form(Server::zone_server().await.unwrap()).await;
}

#[tokio::test]
async fn the_simple_form_is_one_set_at_the_name_itself_on_ministack() {
    let Some(server) = Server::ministack().await else { return };
    simple_form(server).await;
}

async fn simple_form(mut server: Server) {
    server.form = "form = \"simple\"\nweights = { eu-west-1 = 30, us-east-1 = 70 }";
    server.bootstrap().await;
    let edge = server.edge("eu-west-1").await;
    let reading = edge.read().await;
    let home = set(&[("eu-west-1", 30), ("us-east-1", 70)]);
    assert_eq!(reading.state.sets.get(&entry("all")), Some(&home), "{:?}", reading.state);
    // The control record, and one record a region with weight.
    assert_eq!(server.records().await.len(), 3);
    let plan = edge.plan(&reading, "all", &[("us-east-1", 100)]);
    assert!(matches!(edge.submit(&plan).await, Written::Accepted { .. }));
    let records = server.records().await;
    let names: Vec<&str> = records.iter().map(|record| record.name()).collect();
    assert_eq!(names, ["_proxima.www.example.test.", "www.example.test."]);
    assert_eq!(records[1].set_identifier(), Some("us-east-1"));
}

#[tokio::test]
async fn both_address_families_move_together_on_our_zone_server() {
    families(Server::zone_server().await.unwrap()).await;
}

#[tokio::test]
async fn both_address_families_move_together_on_ministack() {
    let Some(server) = Server::ministack().await else { return };
    families(server).await;
}

async fn families(mut server: Server) {
    for (number, address) in server.addresses.iter_mut().enumerate() {
        address.push_str(&format!(" fd00:77::{}", number + 1));
    }
    server.bootstrap().await;
    let edge = server.edge("eu-west-1").await;
    let reading = edge.read().await;
    let plan = edge.plan(&reading, "eu-west-1", &[("us-east-1", 100)]);
    assert!(matches!(edge.submit(&plan).await, Written::Accepted { .. }));
    let moved = edge.read().await;
    assert_eq!(moved.state.sets[&entry("eu-west-1")], set(&[("us-east-1", 100)]));
    let records = server.records().await;
    let kinds = |kind: RrType| records.iter().filter(|record| record.r#type == kind).count();
    // Three aliases and three weighted records of each.
    assert_eq!((kinds(RrType::A), kinds(RrType::Aaaa)), (6, 6));
    let mut apart = records.into_iter().find(|r| r.r#type == RrType::Aaaa && r.weight.is_some()).unwrap();
    apart.weight = Some(1);
    server.change(vec![(ChangeAction::Upsert, apart)]).await;
    let error = read(&edge.api, &edge.layout, &edge.checks, &edge.clock).await.unwrap_err();
    assert!(error.to_string().contains("the weights of A and AAAA differ"), "{error}");
}

/// Else the provider would list all checks of the account at every poll, for ever.
#[tokio::test]
async fn after_bootstrap_no_check_is_lacking_though_a_region_is_unused() {
    let mut server = Server::zone_server().await.unwrap();
    server.form = "form = \"simple\"\nweights = { eu-west-1 = 30, us-east-1 = 70 }";
    server.bootstrap().await;
    let config = server.config("eu-west-1");
    assert!(config.regions.len() > 2, "a region without a name of its own");
    let metrics = Arc::new(DnsMetrics::register(&prometheus::Registry::new()).unwrap());
    let provider = Provider::of(&config, &server.session, Clock::start(), metrics).unwrap();
    assert!(provider.lacks_checks(), "none was looked up yet");
    provider.refresh_checks().await.unwrap();
    assert!(!provider.lacks_checks());
    let witnesses: Vec<&str> = provider.edges().iter().map(|edge| edge.region.as_str()).collect();
    assert_eq!(witnesses, ["us-east-1"]);
}

/// Route 53 never takes the reference of a deleted check again, nor does the zone server.
#[tokio::test]
async fn a_check_that_was_deleted_is_made_anew_under_the_next_reference() {
    let server = Server::zone_server().await.unwrap();
    let api = server.api().await;
    server.bootstrap().await;
    let checks = api.health_checks().await.unwrap();
    assert!(checks.iter().all(|check| check.caller_reference.ends_with("/0")), "{checks:?}");
    // A witness: no record cites it.
    let gone = checks.iter().find(|check| check.caller_reference.starts_with("proxima/edge/")).unwrap();
    server.client().await.delete_health_check().health_check_id(&gone.id).send().await.unwrap();
    let settings = gone.health_check_config.clone().unwrap();
    let refused = api.create_health_check(&gone.caller_reference, settings).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Exists, "{refused}");

    let again = server.survey().await;
    assert_eq!((again.counts().create, again.problems().len()), (1, 0), "{again}");
    server.bootstrap().await;
    let next = gone.caller_reference.strip_suffix("/0").map(|start| format!("{start}/1"));
    let checks = api.health_checks().await.unwrap();
    assert!(checks.iter().any(|check| Some(&check.caller_reference) == next.as_ref()), "{checks:?}");
    let done = server.survey().await;
    assert!(done.counts().none() && done.problems().is_empty(), "{done}");
}

#[tokio::test]
async fn a_reference_that_is_in_use_for_another_check_is_not_taken() {
    let server = Server::zone_server().await.unwrap();
    let (api, config) = (server.api().await, server.config("eu-west-1"));
    server.bootstrap().await;
    let checks = Checks::read(&api).await.unwrap();
    let layout = proxima::dns::layout::Layout::of(&config, &server.name).unwrap();
    for gate in layout.gates() {
        let other = HealthCheckConfig::builder().r#type(HealthCheckType::Tcp).ip_address("127.0.0.1").port(9);
        let reference = checks.find(gate).unwrap().caller_reference.clone();
        let refused = api.create_health_check(&reference, other.build().unwrap()).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Exists);
    }
}
