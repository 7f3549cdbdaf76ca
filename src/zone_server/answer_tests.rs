use super::*;
use crate::zone_server::record::AliasTarget;
use std::collections::{BTreeMap, BTreeSet};

/// A zone in a few words, and the checks that are down.
#[derive(Default)]
struct Scene {
    records: Records,
    down: BTreeSet<&'static str>,
}

fn name(text: &str) -> Name {
    Name::parse(&format!("{text}.example.test")).unwrap()
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self::default();
        let apex = Name::parse("example.test").unwrap();
        let values = vec!["ns-1.example.test. host.example.test. 1 7200 900 1209600 60".to_owned()];
        scene.insert(
            apex,
            RecordType::Soa,
            None,
            Routing::Simple,
            Content::Values { ttl: 900, values },
            None,
        );
        scene
    }

    fn insert(
        &mut self,
        name: Name,
        kind: RecordType,
        id: Option<&str>,
        routing: Routing,
        content: Content,
        check: Option<&str>,
    ) {
        let key = RecordKey { name, kind, set_identifier: id.map(str::to_owned) };
        let health_check_id = check.map(str::to_owned);
        self.records.insert(key.clone(), RecordSet { key, routing, content, health_check_id });
    }

    /// A weighted A record whose value, identifier and health check share one word.
    fn weighted(&mut self, set: &str, id: &str, weight: u8, checked: bool) {
        let content = Content::Values { ttl: 20, values: vec![id.to_owned()] };
        self.insert(
            name(set),
            RecordType::A,
            Some(id),
            Routing::Weighted(weight),
            content,
            checked.then_some(id),
        );
    }

    /// A latency alias of `www` onto `<region>.www`, evaluating its target.
    fn entry(&mut self, region: &str) {
        let target = AliasTarget {
            zone_id: "Z".into(),
            name: name(&format!("{region}.www")),
            evaluate_target_health: true,
        };
        self.insert(
            name("www"),
            RecordType::A,
            Some(region),
            Routing::Latency(region.into()),
            Content::Alias(target),
            None,
        );
    }

    fn simple(&mut self, at: &str, kind: RecordType, value: &str) {
        let content = Content::Values { ttl: 60, values: vec![value.to_owned()] };
        self.insert(name(at), kind, None, Routing::Simple, content, None);
    }

    fn ask(&self, at: &str, kind: RecordType, place: Option<&str>, drawn: u32) -> Answer {
        let zone = Name::parse("example.test").unwrap();
        let rtts = RttTable::measured().unwrap();
        let healthy = |id: &str| !self.down.contains(id);
        let world = World {
            zone: &zone,
            records: &self.records,
            rtts: &rtts,
            balancers: &Balancers::default(),
            healthy: &healthy,
        };
        let query = Query { name: &name(at), kind: Some(kind), place };
        answer(&world, query, &mut |below| drawn % below)
    }

    /// Counts of values over every value that `draw` can give.
    fn counts(&self, at: &str, draws: u32) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for drawn in 0..draws {
            *counts.entry(value(&self.ask(at, RecordType::A, None, drawn))).or_default() += 1;
        }
        counts
    }
}

fn value(answer: &Answer) -> String {
    match answer {
        Answer::Records(records) => records.last().unwrap().values[0].clone(),
        other => format!("{other:?}"),
    }
}

fn counts<const N: usize>(pairs: [(&str, u32); N]) -> BTreeMap<String, u32> {
    pairs.into_iter().map(|(id, count)| (id.to_owned(), count)).collect()
}

#[test]
fn weighted_rules() {
    struct Row {
        rule: &'static str,
        /// Identifier, weight, whether its check is down.
        members: &'static [(&'static str, u8, bool)],
        want: &'static [(&'static str, u32)],
    }
    let rows = [
        Row {
            rule: "shares follow the weights",
            members: &[("a", 1, false), ("b", 3, false)],
            want: &[("a", 3), ("b", 9)],
        },
        Row {
            rule: "zero weight never answers beside a healthy positive one",
            members: &[("a", 0, false), ("b", 3, false)],
            want: &[("b", 12)],
        },
        Row {
            rule: "unhealthy is left out",
            members: &[("a", 1, true), ("b", 3, false)],
            want: &[("b", 12)],
        },
        Row {
            rule: "all positive unhealthy: healthy zeros, all alike",
            members: &[("a", 9, true), ("b", 0, false), ("c", 0, false), ("d", 0, true)],
            want: &[("b", 6), ("c", 6)],
        },
        Row {
            rule: "all unhealthy: as if all were healthy, by weight",
            members: &[("a", 1, true), ("b", 2, true), ("c", 0, true)],
            want: &[("a", 4), ("b", 8)],
        },
        Row {
            rule: "all zero: everyone equally",
            members: &[("a", 0, false), ("b", 0, false), ("c", 0, false)],
            want: &[("a", 4), ("b", 4), ("c", 4)],
        },
        Row {
            rule: "all zero, one unhealthy: the healthy ones equally",
            members: &[("a", 0, false), ("b", 0, true), ("c", 0, false)],
            want: &[("a", 6), ("c", 6)],
        },
    ];
    for row in rows {
        let mut scene = Scene::new();
        for (id, weight, down) in row.members {
            scene.weighted("set", id, *weight, true);
            if *down {
                scene.down.insert(id);
            }
        }
        let want: BTreeMap<String, u32> = row.want.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect();
        assert_eq!(scene.counts("set", 12), want, "{}", row.rule);
    }
}

#[test]
fn a_record_without_a_check_is_healthy() {
    let mut scene = Scene::new();
    scene.weighted("set", "a", 1, false);
    scene.weighted("set", "b", 1, true);
    scene.down.extend(["a", "b"]);
    assert_eq!(scene.counts("set", 2), counts([("a", 2)]));
}

fn global_form() -> Scene {
    let mut scene = Scene::new();
    for region in ["eu-west-1", "us-east-1", "ap-south-1"] {
        scene.entry(region);
        scene.weighted(&format!("{region}.www"), region, 100, true);
    }
    scene
}

#[test]
fn latency_alias_answers_with_the_nearest_region_and_the_targets_ttl() {
    let scene = global_form();
    for (place, want) in
        [("eu-west-2", "eu-west-1"), ("us-east-2", "us-east-1"), ("ap-southeast-1", "ap-south-1")]
    {
        let answer = scene.ask("www", RecordType::A, Some(place), 0);
        assert_eq!(
            answer,
            Answer::Records(vec![Answered {
                name: name("www"),
                kind: RecordType::A,
                ttl: 20,
                values: vec![want.to_owned()],
            }]),
            "from {place}"
        );
    }
}

#[test]
fn an_unhealthy_target_set_sends_the_place_to_its_next_nearest_entry() {
    let mut scene = global_form();
    scene.down.insert("eu-west-1");
    assert_eq!(value(&scene.ask("www", RecordType::A, Some("eu-west-2"), 0)), "us-east-1");
    scene.down.insert("us-east-1");
    assert_eq!(value(&scene.ask("www", RecordType::A, Some("eu-west-2"), 0)), "ap-south-1");
}

#[test]
fn a_target_set_is_healthy_while_any_record_of_it_is() {
    let mut scene = global_form();
    scene.weighted("eu-west-1.www", "us-east-1", 1, true);
    scene.down.insert("eu-west-1");
    assert_eq!(value(&scene.ask("www", RecordType::A, Some("eu-west-2"), 0)), "us-east-1");
    let Answer::Records(records) = scene.ask("www", RecordType::A, Some("eu-west-2"), 0) else { panic!() };
    assert_eq!(records.len(), 1);
}

#[test]
fn when_every_entry_is_unhealthy_the_nearest_answers_as_if_healthy() {
    let mut scene = global_form();
    scene.down.extend(["eu-west-1", "us-east-1", "ap-south-1"]);
    assert_eq!(value(&scene.ask("www", RecordType::A, Some("eu-west-2"), 0)), "eu-west-1");
}

#[test]
fn an_unknown_place_gets_a_fixed_healthy_entry() {
    let mut scene = global_form();
    assert_eq!(value(&scene.ask("www", RecordType::A, None, 0)), "ap-south-1");
    scene.down.insert("ap-south-1");
    assert_eq!(value(&scene.ask("www", RecordType::A, None, 0)), "eu-west-1");
}

#[test]
fn cname_is_followed_within_the_zone_and_given_as_it_is_when_asked_for() {
    let mut scene = Scene::new();
    scene.simple("a", RecordType::Cname, "b.example.test.");
    scene.simple("b", RecordType::A, "10.0.0.1");
    let Answer::Records(records) = scene.ask("a", RecordType::A, None, 0) else { panic!() };
    let kinds: Vec<RecordType> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [RecordType::Cname, RecordType::A]);
    let Answer::Records(records) = scene.ask("a", RecordType::Cname, None, 0) else { panic!() };
    assert_eq!(records.len(), 1);
}

#[test]
fn loops_of_names_end() {
    let mut scene = Scene::new();
    scene.simple("a", RecordType::Cname, "b.example.test");
    scene.simple("b", RecordType::Cname, "a.example.test");
    assert!(matches!(scene.ask("a", RecordType::A, None, 0), Answer::Records(_)));
    for (from, to) in [("c", "d"), ("d", "c")] {
        let target = AliasTarget { zone_id: "Z".into(), name: name(to), evaluate_target_health: true };
        scene.insert(name(from), RecordType::A, None, Routing::Simple, Content::Alias(target), None);
    }
    assert!(matches!(scene.ask("c", RecordType::A, None, 0), Answer::NoData { .. }));
}

#[test]
fn absent_types_and_absent_names_differ_and_carry_the_soa() {
    let mut scene = Scene::new();
    scene.simple("deep.below", RecordType::A, "10.0.0.1");
    for (at, kind, exists) in [
        ("deep.below", RecordType::Txt, true),
        ("below", RecordType::A, true),
        ("elsewhere", RecordType::A, false),
    ] {
        let answer = scene.ask(at, kind, None, 0);
        let (soa, got) = match &answer {
            Answer::NoData { soa } => (soa, true),
            Answer::NxDomain { soa } => (soa, false),
            Answer::Records(_) => panic!("{at}: {answer:?}"),
        };
        assert_eq!(got, exists, "{at}");
        assert_eq!(soa.ttl, 60, "the smaller of TTL and minimum");
    }
}
