//! Plans of the layout as operators carry them out: plan, apply, adopt, remove; and drift.
//! The same on our zone server and on ministack; a real zone is for `dns_provider`.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // Each test file uses its part.
mod dns_support;

use aws_sdk_route53::types::{ChangeAction, ResourceRecord, ResourceRecordSet, RrType};
use dns_support::front::{Fate, For, Front};
use dns_support::{Server, region, set, simple};
use proxima::dns::apply::{Operation, Outcome, delete_checks};
use proxima::dns::layout::{Kind, Layout};
use proxima::dns::reader::{ReadError, read};
use proxima::dns::survey::{Survey, survey};
use proxima::dns::writer::Written;
use proxima::domain::name::EntryId;

macro_rules! on_both_servers {
    ($($test:ident),* $(,)?) => {
        mod zone_server {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Server::zone_server().await.unwrap()).await;
            })*
        }
        mod ministack {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let Some(server) = super::Server::ministack().await else { return };
                super::$test(server).await;
            })*
        }
    };
}

on_both_servers!(
    an_edit_by_hand_is_shown_record_by_record_and_repaired_by_apply_alone,
    weights_that_were_edited_by_hand_stand_and_a_plan_moves_on_from_them,
    another_ttl_and_another_address_are_one_batch_and_leave_the_weights,
    a_region_that_is_gone_takes_its_entry_its_set_and_its_check_with_it,
    nothing_is_written_when_the_records_have_changed_since_they_were_shown,
    an_answer_that_is_lost_is_settled_and_nothing_is_done_twice,
    records_of_somebody_else_are_adopted_as_they_are_and_then_brought_into_form,
    what_is_removed_is_all_of_it_and_nothing_of_the_neighbours,
    what_is_removed_may_leave_a_plain_record_that_serves,
    load_balancers_are_aliases_and_move_like_addresses,
    names_that_lead_elsewhere_are_cnames_and_move_like_addresses,
    a_zone_that_is_gone_stops_no_name_of_another_zone,
);

/// Records that are none of Proxima's business, close to the name.
fn neighbours(server: &Server) -> Vec<ResourceRecordSet> {
    let name = &server.name;
    vec![
        simple(name.as_str(), RrType::Txt, "\"v=spf1 -all\""),
        simple(&format!("mail.{name}"), RrType::A, "203.0.113.7"),
        simple(&format!("x.eu-west-1.{name}"), RrType::A, "203.0.113.8"),
        simple(&format!("_proxima2.{name}"), RrType::Txt, "\"v=1\""),
        simple("wwww.example.test", RrType::A, "203.0.113.9"),
    ]
}

async fn settle_in(server: &Server) -> Vec<ResourceRecordSet> {
    let neighbours = neighbours(server);
    let create = |record: &ResourceRecordSet| (ChangeAction::Create, record.clone());
    server.change(neighbours.iter().map(create).collect()).await;
    neighbours
}

/// Everything in the zone, in one spelling.
async fn everything(server: &Server) -> Vec<String> {
    let records = server.api().await.subtree("example.test").await.unwrap();
    records.iter().map(|record| format!("{record:?}")).collect()
}

async fn with(server: &Server, regions: &[&str], dns: &str) -> (Survey, Outcome) {
    let (api, config) = (server.api().await, server.config_with("eu-west-1", regions, dns));
    let found = survey(&api, &config, &[]).await.unwrap();
    let outcome = found.carry_out(&api, &Operation::Apply).await.unwrap();
    delete_checks(&api, &outcome.obsolete).await.unwrap();
    (found, outcome)
}

fn edited(record: &ResourceRecordSet, edit: impl FnOnce(&mut ResourceRecordSet)) -> ResourceRecordSet {
    let mut edited = record.clone();
    edit(&mut edited);
    edited
}

async fn an_edit_by_hand_is_shown_record_by_record_and_repaired_by_apply_alone(server: Server) {
    server.bootstrap().await;
    let before = everything(&server).await;
    let edge = server.edge("eu-west-1").await;
    let reading = edge.read().await;
    let good = server.weighted("eu-west-1", "eu-west-1").await;
    let other = server.weighted("us-east-1", "us-east-1").await;
    let value = |text: &str| Some(vec![ResourceRecord::builder().value(text).build().unwrap()]);
    let stranger = edited(&good, |record| record.set_identifier = Some("by-hand".to_owned()));
    let alias = server.records().await.into_iter().find(|record| record.alias_target.is_some()).unwrap();
    server
        .change(
            vec![
                (
                    ChangeAction::Upsert,
                    edited(&other, |record| record.resource_records = value("203.0.113.7")),
                ),
                (
                    ChangeAction::Upsert,
                    edited(&other, |record| {
                        record.resource_records = value("203.0.113.7");
                        record.health_check_id = None;
                    }),
                ),
                (ChangeAction::Create, stranger),
                (ChangeAction::Delete, alias),
            ]
            .into_iter()
            .skip(1)
            .collect(),
        )
        .await;
    let hand_made = everything(&server).await;

    let error = read(&edge.api, &edge.layout, &edge.checks, &edge.clock).await.unwrap_err();
    let ReadError::Records(problems) = error else { panic!("{error:?}") };
    let records: Vec<&str> = problems.iter().map(|problem| problem.record.as_str()).collect();
    assert_eq!(
        records,
        [
            "eu-west-1.www.example.test A [by-hand]",
            "us-east-1.www.example.test A [us-east-1]",
            "www.example.test A [ap-south-1]",
            "us-east-1.www.example.test"
        ]
    );
    assert!(problems[1].expected.contains("values 127.77.0.3"), "{problems:?}");
    assert!(problems[1].found.contains("values 203.0.113.7, health check absent"), "{problems:?}");
    // An edge refuses: the plan that it has does not touch these records.
    let plan = edge.plan(&reading, "eu-west-1", &[("eu-west-1", 60), ("us-east-1", 40)]);
    assert!(matches!(edge.submit(&plan).await, Written::Conflict(_)));
    assert_eq!(everything(&server).await, hand_made);

    let found = server.survey().await;
    let counts = found.counts();
    assert_eq!((counts.create, counts.change, counts.delete), (1, 1, 1), "{found}");
    for line in [
        "  - eu-west-1.www.example.test A [by-hand]: weight 100 TTL 60 127.77.0.2\n",
        "  ~ us-east-1.www.example.test A [us-east-1]: values 203.0.113.7 -> 127.77.0.3, health check absent -> ",
        "  + www.example.test A [ap-south-1]: latency ap-south-1 -> ap-south-1.www.example.test\n",
    ] {
        assert!(found.to_string().contains(line), "{line} in\n{found}");
    }
    assert_eq!(server.carry_out(Operation::Apply).await.submitted.len(), 1);
    let repaired = everything(&server).await;
    let but_control = |all: &[String]| -> Vec<String> {
        all.iter().filter(|record| !record.contains("proxima.www")).cloned().collect()
    };
    assert_eq!(but_control(&repaired), but_control(&before));
    assert_eq!(edge.read().await.state.fence.generation.get(), 2);
    assert!(server.survey().await.counts().none());
}

async fn weights_that_were_edited_by_hand_stand_and_a_plan_moves_on_from_them(server: Server) {
    server.bootstrap().await;
    let edge = server.edge("eu-west-1").await;
    let good = server.weighted("eu-west-1", "eu-west-1").await;
    server.change(vec![(ChangeAction::Upsert, edited(&good, |record| record.weight = Some(7)))]).await;
    assert!(server.survey().await.counts().none(), "weights are no layout");
    assert_eq!(server.carry_out(Operation::Apply).await.submitted, []);
    let reading = edge.read().await;
    let entry = EntryId::parse("eu-west-1").unwrap();
    assert_eq!(reading.state.sets[&entry], set(&[("eu-west-1", 7)]));
    let plan = edge.plan(&reading, "eu-west-1", &[("us-east-1", 100)]);
    assert!(matches!(edge.submit(&plan).await, Written::Accepted { .. }));
    assert_eq!(edge.read().await.state.sets[&entry], set(&[("us-east-1", 100)]));
}

async fn another_ttl_and_another_address_are_one_batch_and_leave_the_weights(mut server: Server) {
    server.bootstrap().await;
    let edge = server.edge("eu-west-1").await;
    let plan = edge.plan(&edge.read().await, "eu-west-1", &[("eu-west-1", 60), ("us-east-1", 40)]);
    assert!(matches!(edge.submit(&plan).await, Written::Accepted { .. }));
    let checks = server.api().await.health_checks().await.unwrap().len();
    server.addresses[1] = "127.77.0.9".to_owned();
    server.form = "form = \"global\" \n targets.us-east-1.addresses = [\"127.77.0.8\"]";
    let found = server.survey().await;
    // Two checks of the new address and one of the other target; three of four records hold an address.
    let counts = found.counts();
    assert_eq!((counts.create, counts.change, counts.delete), (3, 3, 0), "{found}");
    let outcome = server.carry_out(Operation::Apply).await;
    assert_eq!((outcome.submitted.len(), outcome.failed.len()), (1, 0), "{outcome:?}");
    assert_eq!(outcome.obsolete.len(), 2, "the gates of the addresses that are gone");
    let api = server.api().await;
    delete_checks(&api, &outcome.obsolete).await.unwrap();
    assert_eq!(api.health_checks().await.unwrap().len(), checks + 3 - 2);
    let reading = server.edge("eu-west-1").await.read().await;
    let entry = EntryId::parse("eu-west-1").unwrap();
    assert_eq!(reading.state.sets[&entry], set(&[("eu-west-1", 60), ("us-east-1", 40)]));
    assert_eq!(reading.state.fence.generation.get(), 3);
    let moved = server.weighted("eu-west-1", "us-east-1").await;
    assert_eq!(moved.resource_records()[0].value(), "127.77.0.8");
}

async fn a_region_that_is_gone_takes_its_entry_its_set_and_its_check_with_it(server: Server) {
    let neighbours = settle_in(&server).await.len();
    server.bootstrap().await;
    let edge = server.edge("eu-west-1").await;
    // The region that goes serves others, and others serve it.
    for (entry, weights) in [
        ("eu-west-1", [("eu-west-1", 60), ("ap-south-1", 40)]),
        ("ap-south-1", [("eu-west-1", 50), ("us-east-1", 50)]),
    ] {
        let plan = edge.plan(&edge.read().await, entry, &weights);
        assert!(matches!(edge.submit(&plan).await, Written::Accepted { .. }));
    }
    let (found, outcome) = with(&server, &["eu-west-1", "us-east-1"], "mode = \"act\"").await;
    let counts = found.counts();
    // Its alias, its set of two, and its record in the other set.
    assert_eq!((counts.create, counts.change, counts.delete), (0, 0, 4), "{found}");
    assert_eq!((outcome.submitted.len(), outcome.obsolete.len()), (1, 1), "{outcome:?}");
    let records = server.records().await;
    assert!(records.iter().all(|record| record.set_identifier() != Some("ap-south-1")), "{records:?}");
    // The control record, two aliases, two records.
    assert_eq!(records.len(), 5 + neighbours - 1);
    let (again, _) = with(&server, &["eu-west-1", "us-east-1"], "mode = \"act\"").await;
    assert!(again.counts().none(), "{again}");
}

async fn nothing_is_written_when_the_records_have_changed_since_they_were_shown(mut server: Server) {
    server.bootstrap().await;
    let edge = server.edge("eu-west-1").await;
    let record = server.weighted("eu-west-1", "eu-west-1").await;
    let reading = edge.read().await;
    server.form = "form = \"global\"\nttl = \"30s\"";
    let (shown, api) = (server.survey().await, server.api().await);
    // A hand edit of a record that is to be changed.
    server.change(vec![(ChangeAction::Upsert, edited(&record, |record| record.weight = Some(9)))]).await;
    let hand_made = everything(&server).await;
    let outcome = shown.carry_out(&api, &Operation::Apply).await.unwrap();
    assert!(outcome.failed[0].1.contains("changed since they were shown"), "{outcome:?}");
    assert_eq!(everything(&server).await, hand_made);
    // An edge that moved users: its change is on other records, but the fence has moved on.
    server.change(vec![(ChangeAction::Upsert, record)]).await;
    let shown = server.survey().await;
    let plan = edge.plan(&reading, "us-east-1", &[("eu-west-1", 100)]);
    assert!(matches!(edge.submit(&plan).await, Written::Accepted { .. }));
    let moved = everything(&server).await;
    assert_ne!(shown.id(), server.survey().await.id(), "another plan has another id");
    let outcome = shown.carry_out(&api, &Operation::Apply).await.unwrap();
    assert!(outcome.failed[0].1.contains("changed since they were shown"), "{outcome:?}");
    assert_eq!(everything(&server).await, moved);
}

async fn an_answer_that_is_lost_is_settled_and_nothing_is_done_twice(mut server: Server) {
    let front = Front::before(server.endpoint.as_deref().unwrap()).await;
    let mut behind = server.behind(&front.address.to_string());
    // A new zone, a change, a removal: each applied, and its answer lost.
    front.next(For::Changes, Fate::Refuse("Throttling"));
    front.next(For::Changes, Fate::LoseAnswer);
    let outcome = behind.carry_out(Operation::Bootstrap).await;
    assert_eq!((outcome.submitted[0].change_id.as_ref(), outcome.failed.len()), (None, 0), "{outcome:?}");
    for server in [&mut server, &mut behind] {
        server.form = "form = \"global\"\nttl = \"30s\"";
    }
    front.next(For::Changes, Fate::LoseRequest);
    front.next(For::Changes, Fate::LoseAnswer);
    let outcome = behind.carry_out(Operation::Apply).await;
    assert_eq!((outcome.submitted[0].change_id.as_ref(), outcome.failed.len()), (None, 0), "{outcome:?}");
    assert_eq!(server.edge("eu-west-1").await.read().await.state.fence.generation.get(), 2);
    front.next(For::Changes, Fate::ThenStatus(503));
    let outcome = behind.carry_out(Operation::Remove { keep: None }).await;
    assert_eq!((outcome.submitted[0].change_id.as_ref(), outcome.failed.len()), (None, 0), "{outcome:?}");
    assert!(server.records().await.is_empty());
    assert_eq!(front.changes_seen(), 5);
}

async fn records_of_somebody_else_are_adopted_as_they_are_and_then_brought_into_form(server: Server) {
    settle_in(&server).await;
    let theirs = simple(server.name.as_str(), RrType::A, "127.77.0.2");
    server.change(vec![(ChangeAction::Create, theirs)]).await;
    let before = everything(&server).await;
    // Neither is it taken for a new zone, nor changed without having been adopted.
    for operation in [Operation::Bootstrap, Operation::Apply, Operation::Remove { keep: None }] {
        let outcome = server.carry_out(operation.clone()).await;
        assert_eq!((outcome.submitted.len(), outcome.failed.len()), (0, 1), "{operation:?}: {outcome:?}");
        assert_eq!(everything(&server).await, before, "{operation:?}");
    }
    let outcome = server.carry_out(Operation::Adopt).await;
    assert_eq!((outcome.submitted.len(), outcome.failed.len()), (1, 0), "{outcome:?}");
    let adopted: Vec<String> =
        everything(&server).await.into_iter().filter(|record| !record.contains("_proxima.www")).collect();
    let adopted: Vec<String> =
        adopted.into_iter().filter(|record| !record.contains("137proxima.www")).collect();
    assert_eq!(adopted, before, "nothing but the control record is new");
    assert!(server.carry_out(Operation::Adopt).await.failed[0].1.contains("nothing to adopt"));

    let found = server.survey().await;
    assert!(found.to_string().contains("  - www.example.test A: TTL 60 127.77.0.2\n"), "{found}");
    let outcome = server.carry_out(Operation::Apply).await;
    assert_eq!((outcome.submitted.len(), outcome.failed.len()), (1, 0), "{outcome:?}");
    assert_eq!(server.edge("eu-west-1").await.read().await.state.sets.len(), 3);
    let after = everything(&server).await;
    for neighbour in
        before.iter().filter(|record| !record.contains("\"www.example.test.\"") || record.contains("Txt"))
    {
        assert!(after.contains(neighbour), "{neighbour} is gone");
    }
}

async fn what_is_removed_is_all_of_it_and_nothing_of_the_neighbours(server: Server) {
    settle_in(&server).await;
    let before = everything(&server).await;
    server.bootstrap().await;
    let edge = server.edge("eu-west-1").await;
    let plan = edge.plan(&edge.read().await, "eu-west-1", &[("eu-west-1", 60), ("us-east-1", 40)]);
    assert!(matches!(edge.submit(&plan).await, Written::Accepted { .. }));
    let outcome = server.carry_out(Operation::Remove { keep: None }).await;
    assert_eq!((outcome.submitted.len(), outcome.failed.len()), (1, 0), "{outcome:?}");
    assert_eq!(everything(&server).await, before);
    let api = server.api().await;
    delete_checks(&api, &outcome.obsolete).await.unwrap();
    assert!(api.health_checks().await.unwrap().is_empty(), "gates and witnesses");
}

async fn what_is_removed_may_leave_a_plain_record_that_serves(server: Server) {
    server.bootstrap().await;
    let keep = Operation::Remove { keep: Some(region("us-east-1")) };
    let outcome = server.carry_out(keep).await;
    assert_eq!((outcome.submitted.len(), outcome.failed.len()), (1, 0), "{outcome:?}");
    let left = server.records().await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(
        (left[0].name(), left[0].ttl, left[0].set_identifier()),
        ("www.example.test.", Some(60), None)
    );
    assert_eq!(left[0].resource_records()[0].value(), "127.77.0.3");
    server.bootstrap_after_adoption().await;
    let wrong = Operation::Remove { keep: Some(region("sa-east-1")) };
    let outcome = server.carry_out(wrong).await;
    assert!(outcome.failed[0].1.contains("does not lead to region 'sa-east-1'"), "{outcome:?}");
}

/// On our zone server alone: ministack answers UpdateHealthCheck with a document that the SDK cannot read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_health_check_with_another_setting_is_mended_and_another_interval_is_another_check() {
    let server = Server::zone_server().await.unwrap();
    server.bootstrap().await;
    let api = server.api().await;
    let all = ["ap-south-1", "eu-west-1", "us-east-1"];
    let (found, outcome) = with(&server, &all, "mode = \"act\"\nhealth_threshold = 5").await;
    assert_eq!((found.counts().change, outcome.submitted.len()), (6, 0), "{found}");
    assert!(found.to_string().contains(" threshold: 3 -> 5\n"), "{found}");
    let checks = api.health_checks().await.unwrap();
    let threshold =
        |check: &aws_sdk_route53::types::HealthCheck| check.health_check_config().unwrap().failure_threshold;
    assert!(checks.iter().all(|check| threshold(check) == Some(5)), "{checks:?}");
    let slower = "mode = \"act\"\nhealth_threshold = 5\nhealth_interval = \"30s\"";
    let (found, outcome) = with(&server, &all, slower).await;
    assert_eq!((found.counts().create, found.counts().change, found.counts().delete), (6, 3, 0), "{found}");
    assert_eq!((outcome.submitted.len(), outcome.obsolete.len()), (1, 3), "{outcome:?}");
    assert!(with(&server, &all, slower).await.0.counts().none());
}

async fn load_balancers_are_aliases_and_move_like_addresses(mut server: Server) {
    server.form = "form = \"global\"\n\
        targets.ap-south-1.alias = { name = \"lb-ap.elb.example.net\", zone_id = \"ZLBAP\", ipv6 = true }\n\
        targets.eu-west-1.alias = { name = \"lb-eu.elb.example.net\", zone_id = \"ZLBEU\", ipv6 = true }\n\
        targets.us-east-1.alias = { name = \"lb-us.elb.example.net\", zone_id = \"ZLBUS\", ipv6 = true }";
    server.bootstrap().await;
    let record = server.weighted("eu-west-1", "eu-west-1").await;
    let target = record.alias_target().unwrap();
    assert_eq!((target.hosted_zone_id(), target.evaluate_target_health()), ("ZLBEU", true));
    assert_eq!((target.dns_name().trim_end_matches('.'), record.ttl), ("lb-eu.elb.example.net", None));
    assert!(record.health_check_id.is_some());
    let gate = server
        .api()
        .await
        .health_checks()
        .await
        .unwrap()
        .into_iter()
        .find(|check| Some(&check.id) == record.health_check_id.as_ref());
    let gate = gate.unwrap().health_check_config.unwrap();
    assert_eq!(
        (gate.fully_qualified_domain_name(), gate.ip_address()),
        (Some("lb-eu.elb.example.net"), None)
    );
    let edge = server.edge("eu-west-1").await;
    assert_eq!(edge.layout.kinds, [Kind::A, Kind::Aaaa]);
    let plan = edge.plan(&edge.read().await, "eu-west-1", &[("eu-west-1", 60), ("us-east-1", 40)]);
    assert!(matches!(edge.submit(&plan).await, Written::Accepted { .. }));
    assert_eq!(
        edge.read().await.state.sets[&EntryId::parse("eu-west-1").unwrap()],
        set(&[("eu-west-1", 60), ("us-east-1", 40)])
    );
    assert!(server.survey().await.counts().none());
    // From load balancers back to addresses, in one batch.
    server.form = "form = \"global\"";
    assert!(server.carry_out(Operation::Apply).await.failed.is_empty());
    let edge = server.edge("eu-west-1").await;
    assert_eq!(edge.layout.kinds, [Kind::A]);
    assert_eq!(
        edge.read().await.state.sets[&EntryId::parse("eu-west-1").unwrap()],
        set(&[("eu-west-1", 60), ("us-east-1", 40)])
    );
}

async fn names_that_lead_elsewhere_are_cnames_and_move_like_addresses(mut server: Server) {
    server.form = "form = \"global\"\n\
        targets.ap-south-1.cname = \"ap.example.net\"\n\
        targets.eu-west-1.cname = \"eu.example.net\"\n\
        targets.us-east-1.cname = \"us.example.net\"";
    server.bootstrap().await;
    let edge = server.edge("eu-west-1").await;
    let plan = edge.plan(&edge.read().await, "eu-west-1", &[("eu-west-1", 60), ("us-east-1", 40)]);
    assert!(matches!(edge.submit(&plan).await, Written::Accepted { .. }));
    let records = server.records().await;
    assert_eq!(records.iter().filter(|record| record.r#type == RrType::Cname).count(), 7, "{records:?}");
    assert!(server.survey().await.counts().none());
    // From CNAMEs to addresses, in one batch; the weights stay.
    server.form = "form = \"global\"";
    let outcome = server.carry_out(Operation::Apply).await;
    assert!(outcome.failed.is_empty(), "{outcome:?}");
    let reading = server.edge("eu-west-1").await.read().await;
    assert_eq!(
        reading.state.sets[&EntryId::parse("eu-west-1").unwrap()],
        set(&[("eu-west-1", 60), ("us-east-1", 40)])
    );
}

async fn a_zone_that_is_gone_stops_no_name_of_another_zone(mut server: Server) {
    let client = server.client().await;
    let zone = client.create_hosted_zone().name("other.test").caller_reference("other").send().await.unwrap();
    let other = zone.hosted_zone.unwrap().id.trim_start_matches("/hostedzone/").to_owned();
    let text = "form = \"global\"\nservices = [\"web\"]\n[names.\"www.other.test\"]\nservices = [\"web\"]\nzone_id = ";
    let with_zone = |zone: &str| -> &'static str {
        let names = format!("{text}\"{zone}\"\n[names.\"x.example.test\"]\nform = \"global\"");
        Box::leak(names.into_boxed_str())
    };
    server.form = with_zone(&other);
    server.bootstrap().await;
    let config = server.config("eu-west-1");
    let www = proxima::domain::name::DnsName::parse("www.other.test").unwrap();
    let layout = Layout::of(&config, &www).unwrap();
    assert_eq!(layout.zone_id, other);
    let api = server.api().await;
    assert_eq!(api.in_zone(&other).subtree("www.other.test").await.unwrap().len(), 7);
    assert!(api.subtree("www.other.test").await.unwrap().is_empty());

    server.form = with_zone("ZGONE");
    let found = server.survey().await;
    let problems = found.problems();
    assert_eq!(problems.len(), 1, "{found}");
    assert!(problems[0].1.contains("NoSuchHostedZone"), "{found}");
    let outcome = server.carry_out(Operation::Remove { keep: None }).await;
    assert_eq!((outcome.submitted.len(), outcome.failed.len()), (2, 1), "{outcome:?}");
    assert_eq!(api.in_zone(&other).subtree("www.other.test").await.unwrap().len(), 7);
    // A name in a zone of another name is told before anything is sent.
    server.form = with_zone(&server.zone_id.clone());
    let found = server.survey().await;
    assert!(found.problems()[0].1.contains("it is not in zone"), "{found}");
}
