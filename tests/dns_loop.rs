//! The provider at work: what the core hears, what is written, what the metrics say.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // Each test file uses its part.
mod dns_support;

use arc_swap::ArcSwap;
use aws_sdk_route53::types::ChangeAction;
use dns_support::front::{Fate, For, Front};
use dns_support::{REGIONS, Server, region, set};
use prometheus::{Encoder, Registry, TextEncoder};
use proxima::aws::Sessions;
use proxima::clock::Clock;
use proxima::config::Config;
use proxima::dns::{Links, serve};
use proxima::domain::drift::Drift;
use proxima::domain::fleet::{DnsReport, Input};
use proxima::domain::name::{EntryId, RegionId};
use proxima::domain::plan::{NameState, Plan};
use proxima::domain::snapshot::Snapshot;
use proxima::domain::votes::Witness;
use proxima::metrics::dns::DnsMetrics;
use proxima::operators::Desk;
use proxima::operators::audit::Audit;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// A provider that runs as `run` runs it, and the other ends of its channels.
struct Provider {
    config: watch::Sender<Arc<Config>>,
    plans: mpsc::Sender<Plan>,
    inputs: mpsc::Receiver<Input>,
    shutdown: watch::Sender<bool>,
    registry: Registry,
    task: JoinHandle<()>,
}

impl Provider {
    fn start(server: &Server, config: Config) -> Self {
        let registry = Registry::new();
        let metrics = Arc::new(DnsMetrics::register(&registry).unwrap());
        let (config, config_end) = watch::channel(Arc::new(config));
        let (plans, plans_end) = mpsc::channel(16);
        let (inputs_end, inputs) = mpsc::channel(1024);
        let (shutdown, shutdown_end) = watch::channel(false);
        let (clock, audit) = (Clock::start(), Arc::new(Audit::register(&registry).unwrap()));
        let desk = Arc::new(Desk::new(clock, inputs_end.clone(), audit));
        let links = Links {
            config: config_end,
            plans: plans_end,
            inputs: inputs_end,
            clock,
            desk,
            metrics,
            snapshot: Arc::new(ArcSwap::from_pointee(Snapshot::empty(region("eu-west-1")))),
            sessions: Sessions::only(server.session.clone()),
            shutdown: shutdown_end,
        };
        let task = tokio::spawn(serve(links));
        Self { config, plans, inputs, shutdown, registry, task }
    }

    /// The next report that `pick` wants.
    async fn next<T>(&mut self, what: &str, mut pick: impl FnMut(DnsReport) -> Option<T>) -> T {
        let wanted = async {
            loop {
                match self.inputs.recv().await {
                    Some(Input::Dns(report)) => {
                        if let Some(picked) = pick(report) {
                            return picked;
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
        };
        timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
    }

    async fn read(&mut self) -> NameState {
        self.next("a reading", |report| match report {
            DnsReport::Read { state, .. } => Some(*state),
            _ => None,
        })
        .await
    }

    fn metrics(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    async fn shows(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.metrics().lines().any(|l| l == line) {
            assert!(Instant::now() < deadline, "{line} not in\n{}", self.metrics());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a counter that goes on counting is at least there.
    async fn counts(&self, counter: &str, least: u64) {
        let deadline = Instant::now() + PATIENCE;
        let count = |line: &str| line.strip_prefix(counter)?.trim().parse::<u64>().ok();
        while self.metrics().lines().find_map(count).is_none_or(|count| count < least) {
            assert!(Instant::now() < deadline, "{counter} below {least} in\n{}", self.metrics());
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(self) {
        self.shutdown.send_replace(true);
        timeout(Duration::from_secs(2), self.task).await.expect("ends at shutdown").unwrap();
    }
}

/// A front before a server, and the server behind it.
async fn fronted(server: &Server) -> (Front, Server) {
    let front = Front::before(server.endpoint.as_deref().unwrap()).await;
    let watched = server.behind(&front.address.to_string());
    (front, watched)
}

async fn a_plan(server: &Server) -> Plan {
    let edge = server.edge("us-east-1").await;
    let mut plan = edge.plan(&edge.read().await, "eu-west-1", &[("eu-west-1", 75), ("us-east-1", 25)]);
    // Made on the clock of another process that started at the same moment, more or less.
    plan.expires_at = Clock::start().now() + Duration::from_secs(20);
    plan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_act_mode_a_plan_is_written_and_followed_on_our_zone_server() {
    acts(Server::zone_server().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_act_mode_a_plan_is_written_and_followed_on_ministack() {
    let Some(server) = Server::ministack().await else { return };
    acts(server).await;
}

async fn acts(server: Server) {
    server.bootstrap().await;
    let (front, watched) = fronted(&server).await;
    // It is slow to be INSYNC: asked again until it is.
    (0..3).for_each(|_| front.next(For::Progress, Fate::StayPending));
    let mut provider = Provider::start(&watched, watched.config("us-east-1"));
    assert_eq!(provider.read().await.fence.generation.get(), 1);
    provider.plans.send(a_plan(&server).await).await.unwrap();
    let submitted = provider.next("submitted", |report| match report {
        DnsReport::Submitted { generation, .. } => Some(generation.get()),
        DnsReport::Read { .. } | DnsReport::Witness { .. } => None,
        other => panic!("{other:?}"),
    });
    assert_eq!(submitted.await, 2);
    // The reading that follows is asked for at once; both it and INSYNC come in some order.
    let (mut state, mut insync) = (None, None);
    while state.is_none() || insync.is_none() {
        provider
            .next("the new state and INSYNC", |report| match report {
                DnsReport::Read { state: read, .. } if read.fence.generation.get() == 2 => {
                    state = Some(read);
                    Some(())
                }
                DnsReport::InSync { generation, .. } => {
                    insync = Some(generation.get());
                    Some(())
                }
                _ => None,
            })
            .await;
    }
    assert_eq!(insync, Some(2));
    let asked = front.seen().iter().filter(|line| For::of(line) == Some(For::Progress)).count();
    assert!(asked >= 4, "INSYNC after {asked} questions, of which three were answered PENDING");
    let entry = EntryId::parse("eu-west-1").unwrap();
    assert_eq!(state.unwrap().sets[&entry], set(&[("eu-west-1", 75), ("us-east-1", 25)]));
    let weight = |region: &str, weight: u8| {
        format!(
            r#"proxima_dns_weight_applied{{entry="eu-west-1",name="www.example.test",region="{region}"}} {weight}"#
        )
    };
    for line in [
        weight("eu-west-1", 75).as_str(),
        weight("us-east-1", 25).as_str(),
        weight("ap-south-1", 0).as_str(),
        r#"proxima_dns_changes_total{result="accepted"} 1"#,
        r#"proxima_dns_generation{name="www.example.test"} 2"#,
        "proxima_dns_insync_seconds_count 1",
    ] {
        provider.shows(line).await;
    }
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_observe_mode_nothing_is_written_on_our_zone_server() {
    observes(Server::zone_server().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_observe_mode_nothing_is_written_on_ministack() {
    let Some(server) = Server::ministack().await else { return };
    observes(server).await;
}

async fn observes(server: Server) {
    server.bootstrap().await;
    let (front, watched) = fronted(&server).await;
    let records = server.records().await;
    let mut provider =
        Provider::start(&watched, watched.config_with("us-east-1", &REGIONS, "mode = \"observe\""));
    provider.read().await;
    provider.plans.send(a_plan(&server).await).await.unwrap();
    provider.shows("proxima_dns_plans_observed_total 1").await;
    provider.read().await;
    assert!(front.seen().iter().all(|line| line.starts_with("GET")), "{:?}", front.seen());
    assert_eq!(server.records().await, records);

    // The next plan is written once the configuration says so.
    provider.config.send_replace(Arc::new(watched.config("us-east-1")));
    provider.read().await;
    provider.plans.send(a_plan(&server).await).await.unwrap();
    provider.next("submitted", |report| matches!(report, DnsReport::Submitted { .. }).then_some(())).await;
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_that_began_before_a_conflict_is_not_told() {
    let server = Server::zone_server().await.unwrap();
    server.bootstrap().await;
    let (front, watched) = fronted(&server).await;
    let mut provider = Provider::start(&watched, watched.config("us-east-1"));
    provider.read().await;
    let old = a_plan(&server).await;
    let (reached, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    // The control record, then all records of the name.
    front.next(For::Listings, Fate::Pass);
    front.next(For::Listings, Fate::HoldAnswer { reached: Arc::clone(&reached), go: Arc::clone(&go) });
    timeout(PATIENCE, reached.notified()).await.expect("the next reading begins");
    // What it will tell is old by the time that the plan is found to be.
    let other = server.edge("us-east-1").await;
    other.submit(&other.plan(&other.read().await, "eu-west-1", &[("us-east-1", 100)])).await;
    provider.plans.send(old).await.unwrap();
    provider
        .next("a conflict", |report| match report {
            DnsReport::Conflict { .. } => Some(()),
            DnsReport::Witness { .. } => None,
            other => panic!("{other:?}"),
        })
        .await;
    go.notify_one();
    assert_eq!(provider.read().await.fence.generation.get(), 2);
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_reload_names_are_read_though_the_health_checks_cannot_be_listed() {
    let server = Server::zone_server().await.unwrap();
    server.bootstrap().await;
    let (front, watched) = fronted(&server).await;
    let mut provider = Provider::start(&watched, watched.config("us-east-1"));
    provider.read().await;
    front.every(For::Checks, Fate::Refuse("Throttling"));
    let observe = watched.config_with("us-east-1", &REGIONS, "mode = \"observe\"");
    provider.config.send_replace(Arc::new(observe));
    // In observe mode now: a reading that follows is one of the new configuration.
    provider.plans.send(a_plan(&server).await).await.unwrap();
    provider.shows("proxima_dns_plans_observed_total 1").await;
    while provider.inputs.try_recv().is_ok() {}
    provider.read().await;
    provider.stop().await;
}

/// Moves users while the front does this, and waits until the servers of the zone answer by it; whether the change was
/// told to be INSYNC.
async fn moved(fate: impl FnOnce(&Front)) -> bool {
    let server = Server::zone_server().await.unwrap();
    server.bootstrap().await;
    let (front, watched) = fronted(&server).await;
    let verify = format!("mode = \"act\"\nverify = true\nservers = [\"{}\"]", server.dns.unwrap());
    let mut provider = Provider::start(&watched, watched.config_with("us-east-1", &REGIONS, &verify));
    provider.read().await;
    fate(&front);
    let edge = server.edge("us-east-1").await;
    let mut plan = edge.plan(&edge.read().await, "eu-west-1", &[("us-east-1", 100)]);
    plan.expires_at = Clock::start().now() + Duration::from_secs(20);
    provider.plans.send(plan).await.unwrap();
    provider.shows(r#"proxima_dns_answers_match{name="www.example.test"} 1"#).await;
    provider.shows("proxima_dns_answers_seconds_count 1").await;
    let told = provider.metrics().lines().any(|line| line == "proxima_dns_insync_seconds_count 1");
    provider.stop().await;
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_done_when_the_servers_of_the_zone_answer_by_it() {
    // Slow to be INSYNC: nothing is said of answers before.
    let slow = |front: &Front| (0..3).for_each(|_| front.next(For::Progress, Fate::StayPending));
    assert!(moved(slow).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_answer_was_lost_is_followed_to_the_servers_of_the_zone_too() {
    assert!(!moved(|front| front.next(For::Changes, Fate::LoseAnswer)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_edited_by_hand_are_reported_and_counted_until_they_are_repaired() {
    let server = Server::zone_server().await.unwrap();
    server.bootstrap().await;
    let mut provider = Provider::start(&server, server.config("us-east-1"));
    provider.read().await;
    let good = server.weighted("eu-west-1", "eu-west-1").await;
    let mut edited = good.clone();
    edited.ttl = Some(300);
    server.change(vec![(ChangeAction::Upsert, edited)]).await;
    let drift = provider
        .next("drift", |report| match report {
            DnsReport::Drifted { records, .. } => Some(records),
            _ => None,
        })
        .await;
    let expected = Drift {
        record: "eu-west-1.www.example.test A [eu-west-1]".to_owned(),
        expected: "TTL 60".to_owned(),
        found: "TTL 300".to_owned(),
    };
    assert_eq!(drift[0], expected, "{drift:?}");
    provider.shows(&format!(r#"proxima_dns_drift_records{{name="www.example.test"}} {}"#, drift.len())).await;
    server.change(vec![(ChangeAction::Upsert, good)]).await;
    provider.shows(r#"proxima_dns_drift_records{name="www.example.test"} 0"#).await;
    provider.read().await;
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_plan_comes_back_as_a_conflict() {
    let server = Server::zone_server().await.unwrap();
    server.bootstrap().await;
    let stale = a_plan(&server).await;
    let edge = server.edge("ap-south-1").await;
    edge.submit(&edge.plan(&edge.read().await, "eu-west-1", &[("us-east-1", 100)])).await;
    let mut provider = Provider::start(&server, server.config("us-east-1"));
    provider.read().await;
    provider.plans.send(stale).await.unwrap();
    provider
        .next("a conflict", |report| match report {
            DnsReport::Conflict { .. } => Some(()),
            DnsReport::Read { .. } | DnsReport::Witness { .. } => None,
            other => panic!("{other:?}"),
        })
        .await;
    provider.shows(r#"proxima_dns_changes_total{result="conflict"} 1"#).await;
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn witnesses_follow_the_health_of_the_edges_on_our_zone_server() {
    let mut server = Server::zone_server().await.unwrap();
    let healthy = first_edge_answers(&mut server).await;
    server.bootstrap().await;
    let mut provider = Provider::start(&server, server.config("us-east-1"));
    witnessed(&mut provider, &[(REGIONS[0], Witness::Green), (REGIONS[1], Witness::Red)]).await;
    healthy.abort();
    witnessed(&mut provider, &[(REGIONS[0], Witness::Red)]).await;
    provider.stop().await;
}

/// Lets the health checks of the first region, and of no other, find an edge.
async fn first_edge_answers(server: &mut Server) -> JoinHandle<()> {
    let listener = TcpListener::bind((server.addresses[0].as_str(), 0)).await.unwrap();
    server.health_port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_that_was_deleted_and_made_anew_is_found_again_on_our_zone_server() {
    let mut server = Server::zone_server().await.unwrap();
    let healthy = first_edge_answers(&mut server).await;
    server.bootstrap().await;
    let mut provider = Provider::start(&server, server.config("us-east-1"));
    witnessed(&mut provider, &[(REGIONS[0], Witness::Green)]).await;
    let checks = server.api().await.health_checks().await.unwrap();
    let witness = checks.iter().find(|check| {
        let settings = check.health_check_config.as_ref().unwrap();
        settings.resource_path() == Some("/health/edge")
            && settings.ip_address() == Some(server.addresses[0].as_str())
    });
    let id = witness.unwrap().id();
    server.client().await.delete_health_check().health_check_id(id).send().await.unwrap();
    witnessed(&mut provider, &[(REGIONS[0], Witness::Unknown)]).await;
    server.bootstrap().await;
    witnessed(&mut provider, &[(REGIONS[0], Witness::Green)]).await;
    healthy.abort();
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_checkers_the_witness_is_unknown_on_ministack() {
    let Some(server) = Server::ministack().await else { return };
    server.bootstrap().await;
    let mut provider = Provider::start(&server, server.config("us-east-1"));
    witnessed(&mut provider, &[(REGIONS[0], Witness::Unknown), (REGIONS[1], Witness::Unknown)]).await;
    let refused = provider.metrics();
    // ministack calls an unknown call an invalid input.
    assert!(!refused.contains(r#"proxima_dns_api_errors_total{kind="refused"} 0"#), "{refused}");
    provider.stop().await;
}

/// Waits until the last word on each of these regions is this; the own region is never asked about.
async fn witnessed(provider: &mut Provider, wanted: &[(&str, Witness)]) {
    let wanted: BTreeMap<RegionId, Witness> = wanted.iter().map(|(name, w)| (region(name), *w)).collect();
    let mut heard = BTreeMap::new();
    provider
        .next("the witnesses", |report| {
            if let DnsReport::Witness { region: of, witness } = report {
                assert_ne!(of, region("us-east-1"));
                heard.insert(of, witness);
            }
            wanted.iter().all(|(region, witness)| heard.get(region) == Some(witness)).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_reading_reports_nothing_and_recovers_on_our_zone_server() {
    let server = Server::zone_server().await.unwrap();
    let (front, watched) = fronted(&server).await;
    // Not bootstrapped, then throttled: neither is a state of the name.
    for _ in 0..4 {
        front.next(For::Listings, Fate::Refuse("Throttling"));
    }
    let mut provider = Provider::start(&watched, watched.config("us-east-1"));
    provider.counts(r#"proxima_dns_reads_total{result="failed"}"#, 3).await;
    assert!(provider.metrics().contains(r#"proxima_dns_api_errors_total{kind="throttled"}"#));
    server.bootstrap().await;
    let first = provider
        .next("the first state", |report| match report {
            DnsReport::Read { state, .. } => Some(*state),
            DnsReport::Witness { .. } => None,
            other => panic!("{other:?}"),
        })
        .await;
    assert_eq!(first.fence.generation.get(), 1);
    provider.stop().await;
}
