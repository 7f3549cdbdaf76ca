use super::*;
use crate::demo::event::{Change, Event, Reading, Weights};
use crate::demo::ledger::Failure;
use std::sync::Arc;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

type Spoil = Box<dyn Fn(&mut Run)>;

/// A run as it should be: each test spoils one thing.
struct Run {
    world: Arc<World>,
    regions: Vec<Region>,
    ledger: Ledger,
    scene: Scene,
    phases: Vec<Phase>,
    faults: Vec<Fault>,
}

const SERVICE_AT: u64 = 10_000;
const REGION_AT: u64 = 30_000;
const DETECTED: u64 = 3_000;

impl Run {
    fn good() -> Self {
        let world = Arc::new(World::new(4).unwrap());
        let regions: Vec<Region> = world.regions().collect();
        let phase = |name, from, until| Phase { name, from: ms(from), until: ms(until) };
        let mut run = Self {
            ledger: Ledger::new(Arc::clone(&world)),
            scene: Scene::new(Arc::clone(&world)),
            phases: vec![
                phase(STEADY, 0, SERVICE_AT),
                phase(SERVICE_DEATH, SERVICE_AT, REGION_AT),
                phase(REGION_DEATH, REGION_AT, 60_000),
                phase(HOME, 60_000, 65_000),
            ],
            faults: Vec::new(),
            world,
            regions,
        };
        run.all_well();
        run.faults.push(run.fault(Kind::Service, 0, SERVICE_AT));
        run.faults.push(run.fault(Kind::Region, 1, REGION_AT));
        run.faults.iter().for_each(|fault| run.ledger.note_fault(fault.began));
        run
    }

    fn all_well(&mut self) {
        let regions = self.regions.clone();
        let words = |word: &str| regions.iter().map(|r| (*r, word.to_owned())).collect();
        for region in regions.iter().copied() {
            self.ledger.note_truth(region, ms(0), true);
            let reading = Reading { states: words("healthy"), verdicts: words("up"), serves_at_home: true };
            let sets = BTreeMap::from([(region, (Weights::new(), Weights::from([(region, 100)])))]);
            for event in [
                Event::Changed(Change { submitted_at: ms(0), sets }),
                Event::Name { at: ms(0), place: region, regions: vec![region] },
                Event::Set { at: ms(0), entry: region, regions: vec![region] },
                Event::Edge { at: ms(0), region, reading: Some(reading) },
            ] {
                self.scene.notice(&event, ms(0));
            }
            for second in 0..65 {
                self.request(second * 1000, region, region, None);
            }
        }
    }

    fn request(&mut self, sent: u64, place: Region, entered: Region, failure: Option<Failure>) {
        let served = failure.is_none().then_some(entered);
        let request =
            Request { sent: ms(sent), done: ms(sent + 40), place, entered: Some(entered), served, failure };
        self.ledger.add(request);
        for fault in &mut self.faults {
            fault.notice(&Event::Request(request));
        }
    }

    fn fault(&self, kind: Kind, index: usize, began: u64) -> Fault {
        let mut fault = Fault::begin(kind, self.regions[index], ms(began), self.regions.iter().copied());
        fault.answers_cut = 1;
        fault.marks = Marks {
            ejected: Some(ms(1000)),
            first_rerouted: Some(ms(100)),
            verdict: Some(ms(4000)),
            dns_submitted: Some(ms(4500)),
            moved_by_health_check: (kind == Kind::Region).then(|| ms(DETECTED)),
            moved_by_weights: Some(ms(5000)),
            last_failed: None,
        };
        fault
    }

    fn seen(&self) -> Seen<'_> {
        Seen {
            world: &self.world,
            seed: 7,
            pace: Pace::Minute,
            settings: &[],
            ledger: &self.ledger,
            scene: &self.scene,
            phases: &self.phases,
            faults: &self.faults,
        }
    }

    fn broken(&self) -> Vec<&'static str> {
        self.seen().expectations().into_iter().filter(|e| !e.held).map(|e| e.what).collect()
    }
}

#[test]
fn a_good_run_holds_every_expectation_and_its_report_has_the_agreed_form() {
    let run = Run::good();
    assert_eq!(run.broken(), Vec::<&str>::new());
    let report = serde_json::to_value(run.seen().report()).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&report), ["dns", "faults", "ok", "phases", "seed", "settings"]);
    let phase =
        ["entered", "failed", "name", "nearest_healthy_share", "p50_ms", "p99_ms", "requests", "served_by"];
    assert_eq!(keys(&report["phases"][0]), phase);
    assert_eq!(report["phases"][0]["entered"]["us-east-1"], 10);
    assert_eq!(report["phases"][0]["p50_ms"], 40.0);
    assert_eq!(report["faults"][0]["moved_by_health_check_ms"], serde_json::Value::Null);
    assert_eq!(report["faults"][1]["moved_by_health_check_ms"], 3000);
    assert_eq!(report["dns"]["states"], 4);
    assert_eq!((report["ok"].as_bool(), report["seed"].as_u64()), (Some(true), Some(7)));
}

#[test]
fn each_broken_promise_is_found() {
    let far = |run: &mut Run, at: u64| {
        let (from, to) = (run.regions[0], run.regions[2]);
        run.request(at, from, to, None);
    };
    let failed = |run: &mut Run, at: u64, to: usize| {
        let to = run.regions[to];
        run.request(at, to, to, Some(Failure::Timeout));
    };
    let rows: [(&str, &str, Spoil); 11] = [
        ("one in forty-one enters elsewhere", "steady:", Box::new(move |run| far(run, 500))),
        ("a failure while all is well", "before the faults", Box::new(move |run| failed(run, 500, 0))),
        ("a failure while the service is dead", "service death", Box::new(move |run| failed(run, 11_000, 0))),
        (
            "a service that was killed between answers",
            "service death",
            Box::new(|run| run.faults[0].answers_cut = 0),
        ),
        (
            "a failure at a living region",
            "region death: only",
            Box::new(move |run| failed(run, REGION_AT + 500, 0)),
        ),
        (
            "a failure long after the detection",
            "region death: none",
            Box::new(move |run| failed(run, REGION_AT + DETECTED + 2_300, 1)),
        ),
        (
            "weights that never moved",
            "each death",
            Box::new(|run| run.faults[0].marks.moved_by_weights = None),
        ),
        (
            "requests that met the dead service for two seconds",
            "service death: its edge",
            Box::new(|run| run.faults[0].marks.first_rerouted = Some(ms(2_000))),
        ),
        (
            "a change that waited for six seconds",
            "a verdict",
            Box::new(|run| run.faults[1].marks.dns_submitted = Some(ms(10_001))),
        ),
        (
            "a set that was empty",
            "no set",
            Box::new(|run| {
                run.scene.notice(&Event::SetsEverEmpty(1), ms(1));
            }),
        ),
        (
            "weights that did not return",
            "in the end",
            Box::new(|run| {
                let (entry, other) = (run.regions[0], run.regions[3]);
                let sets = BTreeMap::from([(entry, (Weights::new(), Weights::from([(other, 100)])))]);
                run.scene.notice(&Event::Changed(Change { submitted_at: ms(1), sets }), ms(1));
            }),
        ),
    ];
    for (row, what, spoil) in rows {
        let mut run = Run::good();
        spoil(&mut run);
        let broken = run.broken();
        assert!(broken.iter().any(|b| b.starts_with(what)), "{row}: {broken:?}");
        assert!(!run.seen().report().ok, "{row}");
    }
}

#[test]
fn users_of_a_dead_address_may_fail_until_detection_and_ttl() {
    let mut run = Run::good();
    let dead = run.regions[1];
    for at in [0, 500, DETECTED, DETECTED + 2_000] {
        run.request(REGION_AT + at, dead, dead, Some(Failure::Timeout));
    }
    assert_eq!(run.broken(), Vec::<&str>::new());
    assert_eq!(run.seen().report().faults[1].last_failed_ms, Some(5_000));
}
