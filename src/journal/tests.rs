//! The writer and the queue, from the inside: gaps, bounds, and a disk that refuses.

use super::*;
use crate::clock::wall_clock;
use crate::domain::fleet::Target;
use crate::domain::name::ServiceId;
use prometheus::Registry;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

mod world;

const TEXT: &str = r#"
[edge]
region = "here"
[[listeners]]
name = "http"
address = "127.0.0.1:0"
[regions.here]
[services.web]
endpoints.here = ["10.0.0.1:80"]
[[routes]]
name = "web"
path_prefix = "/"
service = "web"
"#;

/// A core with its journal, and the writer run by hand.
struct Case {
    folder: PathBuf,
    journal: Journal,
    messages: Receiver<Message>,
    disk: writer::Disk,
    fleet: Fleet,
    now: Time,
    texts: Texts,
    metrics: JournalMetrics,
}

/// Removes what an earlier run may have left.
fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{folder:?}: {error}"),
        _ => {}
    }
}

impl Case {
    fn new(name: &str, queue: usize, file_bytes: u64, max_bytes: u64) -> Self {
        let text = ConfigText { file: "edge.toml".to_owned(), text: TEXT.into(), region: None, zone: None };
        Self::of(name, text, queue, file_bytes, max_bytes)
    }

    fn of(name: &str, text: ConfigText, queue: usize, file_bytes: u64, max_bytes: u64) -> Self {
        let folder = std::env::temp_dir().join(format!("proxima-journal-{name}-{}", std::process::id()));
        remove(&folder);
        let policy = text.policy().unwrap();
        let metrics = JournalMetrics::register(&Registry::new()).unwrap();
        let (mut journal, messages) = Journal::queued(queue, metrics.clone());
        let texts = Texts::default();
        texts.tell(&policy, &text);
        let clock = Clock::start();
        let own = policy.own.clone();
        let process = Process { clock, own, boot: 7, texts: texts.clone(), metrics: metrics.clone() };
        let config = config::Journal { path: folder.clone(), max_bytes, file_bytes };
        let disk = writer::Disk::new(config, process, Arc::clone(&journal.wanted));
        let now = clock.now();
        journal.begin(&policy, now);
        Self { folder, journal, messages, disk, fleet: Fleet::new(policy, 7), now, texts, metrics }
    }

    fn turn(&mut self, n: u64) {
        self.now = self.now + Duration::from_millis(300);
        // Addresses that no packer makes small.
        let draw = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let addresses = (0..8).map(|i| {
            let ip = draw.rotate_left(i * 7).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes();
            ([ip[0], ip[1], ip[2], ip[3]], 80).into()
        });
        let target = Target::Service(ServiceId::parse("web").unwrap());
        self.handle(Input::Resolved { target, addresses: addresses.collect() });
    }

    fn reload(&mut self, text: &ConfigText) -> Input {
        let policy = text.policy().unwrap();
        self.texts.tell(&policy, text);
        Input::Configure(policy)
    }

    fn handle(&mut self, input: Input) {
        let taken = self.journal.take(&input);
        let outputs = self.fleet.handle(input, self.now);
        self.journal.turned(self.now, taken, &outputs);
        self.journal.keep_up(&self.fleet, self.now);
    }

    /// The writer gets its turn.
    fn write(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            self.disk.told(message);
        }
        self.disk.write();
    }

    fn replay(&self) -> Result<(Replay, Vec<String>), ReplayError> {
        let mut begins = Vec::new();
        let replay = Replay::run(&files(&self.folder).unwrap(), Span::default(), &mut |event| {
            if let Event::File { begins: how, .. } = event {
                begins.push(format!("{how:?}"));
            }
        })?;
        Ok((replay, begins))
    }

    fn bytes(&self) -> u64 {
        fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

#[test]
fn a_writer_that_is_behind_costs_turns_which_are_counted_and_marked() {
    let mut case = Case::new("slow", 16, 1 << 20, 1 << 21);
    (0..100).for_each(|n| case.turn(n));
    let dropped = case.metrics.count(JournalResult::Dropped);
    assert_eq!(dropped, 85, "the queue had room for the beginning and 15 turns");
    case.write();
    (100..110).for_each(|n| case.turn(n));
    case.write();
    let (replay, begins) = case.replay().unwrap();
    let lost = case.metrics.count(JournalResult::Dropped);
    assert_eq!(begins, ["Process".to_owned(), format!("Gap {{ lost: Some({lost}) }}")]);
    assert_eq!(replay.turns + lost, 110);
}

#[test]
fn files_are_begun_anew_and_all_of_them_stay_within_the_bound() {
    let mut case = Case::new("bound", 64, 64 << 10, 160 << 10);
    for n in 0..8_000 {
        case.turn(n);
        if n % 32 == 0 {
            case.write();
            assert!(case.bytes() <= 160 << 10, "turn {n}: {} bytes", case.bytes());
        }
    }
    case.write();
    let files = files(&case.folder).unwrap();
    assert!(files.len() >= 2, "{files:?}");
    let (replay, begins) = case.replay().unwrap();
    assert_eq!(begins[0], "Here", "the first files are gone");
    assert!(begins[1..].iter().all(|how| how == "Follows"), "{begins:?}");
    assert_eq!(replay.gaps, 0);
    let run = postcard::to_stdvec(replay.fleet().unwrap().0.saved().unwrap()).unwrap();
    assert_eq!(run, postcard::to_stdvec(case.fleet.saved().unwrap()).unwrap());
}

#[test]
fn a_full_disk_costs_turns_which_are_counted_and_marked() {
    let mut case = Case::new("full", 64, 1 << 20, 1 << 21);
    (0..10).for_each(|n| case.turn(n));
    case.write();
    // The next file is a device that takes nothing.
    let second = wall_clock().as_secs();
    let names = (second - 60..second + 600).map(|s| case.folder.join(folder::name(s * 1_000_000_000, 7, 2)));
    names.for_each(|name| symlink("/dev/full", name).unwrap());
    case.journal.wanted.store(true, Relaxed);
    (10..20).for_each(|n| case.turn(n));
    case.write();
    (20..25).for_each(|n| case.turn(n));
    case.write();
    assert_eq!(case.metrics.count(JournalResult::Dropped), 0, "control saw nothing of it");
    let failed = case.metrics.count(JournalResult::Failed);
    assert_eq!(failed, 14, "one turn was before the beginning that failed");
    case.journal.wanted.store(true, Relaxed);
    (25..30).for_each(|n| case.turn(n));
    case.write();
    let (replay, begins) = case.replay().unwrap();
    assert_eq!(begins, ["Process", "Gap { lost: Some(15) }"]);
    assert_eq!(replay.turns, 15);
}

/// The configuration that documents them all, for one of its regions.
fn text(change: &str) -> ConfigText {
    let text = include_str!("../../config/proxima.toml").replace("\nrise = 2", change);
    // With room to share, and zones.
    let text =
        ["# capacity = 5000", "# capacity = {", "# zone = \"eu-west-1a\""].iter().fold(text, |text, line| {
            assert!(text.contains(line), "{line}");
            text.replacen(line, &line[2..], 1)
        });
    ConfigText {
        file: "proxima.toml".to_owned(),
        text: text.into(),
        region: Some("eu-west-1".to_owned()),
        zone: None,
    }
}

fn octets(fleet: &Fleet) -> Vec<u8> {
    postcard::to_stdvec(fleet.saved().unwrap()).unwrap()
}

#[test]
fn a_core_that_is_restored_from_its_state_goes_on_as_the_original_does() {
    let policy = text("\nrise = 2").policy().unwrap();
    let (mut original, mut world) = (Fleet::new(Arc::clone(&policy), 7), world::World::new(11, &policy));
    let (mut now, mut restored, mut compared) = (Time::from_millis(3_600_000), None::<Fleet>, 0u32);
    for n in 0..6_000 {
        now = now + Duration::from_micros(world.pause());
        let input = world.input();
        let outputs = original.handle(input.clone(), now);
        if let Some(restored) = &mut restored {
            let shown =
                |outputs: &[Output]| outputs.iter().map(Shown::of).collect::<Result<Vec<_>, _>>().unwrap();
            assert_eq!(shown(&restored.handle(input, now)), shown(&outputs), "input {n}");
            compared += 1;
        }
        // Anew now and then: what a state leaves out is seen soon after it was left out.
        if n % 150 == 100 && original.saved().is_some() {
            let saved: crate::domain::fleet::SavedFleet = postcard::from_bytes(&octets(&original)).unwrap();
            let again = saved.resume(Arc::clone(&policy)).unwrap();
            assert_eq!(octets(&again), octets(&original));
            restored = Some(again);
        }
    }
    assert!(compared > 5_000, "{compared}");
}

#[test]
fn thousands_of_turns_with_rotation_and_a_reload_come_out_as_they_are_written() {
    let mut case = Case::of("world", text("\nrise = 2"), 512, 100 << 10, 64 << 20);
    let mut world = world::World::new(5, &Arc::clone(case.fleet.policy()));
    for n in 0..8_000u64 {
        case.now = case.now + Duration::from_micros(world.pause());
        let input = if n == 3_000 { case.reload(&text("\nrise = 5")) } else { world.input() };
        case.handle(input);
        if n % 100 == 0 {
            case.write();
        }
    }
    case.write();
    let (replay, begins) = case.replay().unwrap();
    assert_eq!((replay.turns, replay.gaps), (8_000, 0));
    assert!(begins.len() > 3 && begins[1..].iter().all(|how| how == "Follows"), "{begins:?}");
    assert!(replay.outputs > 2_000, "{}", replay.outputs);
    // From the middle on: what was before is not needed.
    let all = files(&case.folder).unwrap();
    let later = Replay::run(&all[2..], Span::default(), &mut |_| {}).unwrap();
    assert!(later.turns > 0 && later.turns < replay.turns);
    assert_eq!(octets(later.fleet().unwrap().0), octets(replay.fleet().unwrap().0));
}

#[test]
fn a_core_that_does_not_follow_from_its_inputs_is_found() {
    let mut case = Case::of("planted", text("\nrise = 2"), 4096, 64 << 20, 256 << 20);
    let mut world = world::World::new(9, &Arc::clone(case.fleet.policy()));
    for n in 0..2_000u64 {
        case.now = case.now + Duration::from_micros(world.pause());
        let input = world.input();
        case.handle(input);
        if n == 1_000 {
            // As if something else than an input had told it.
            let policy = Arc::clone(case.fleet.policy());
            let web = policy.services.iter().next().unwrap().clone();
            let addresses = vec![([10, 9, 9, 9], 80).into()];
            case.fleet.handle(Input::Resolved { target: Target::Service(web), addresses }, case.now);
        }
    }
    case.write();
    let error = case.replay().map(|_| ()).unwrap_err();
    let ReplayError::Difference(difference) = &error else { panic!("{error}") };
    assert!(difference.record > 1_000 && difference.record < 1_100, "{error}");
    assert_ne!(difference.expected, difference.got);
}

#[test]
fn a_damaged_file_a_foreign_one_and_one_that_was_cut_are_told_apart() {
    let mut case = Case::new("damage", 64, 1 << 20, 1 << 21);
    for n in 0..30 {
        case.turn(n);
        case.write();
    }
    let whole = fs::read(&files(&case.folder).unwrap()[0]).unwrap();
    let told = |octets: &[u8]| {
        let mut broken = Vec::new();
        let result = Replay::run_octets(octets, &mut |event| {
            if let Event::Broken { error, .. } = event {
                broken.push(error.to_string());
            }
        });
        (result.map(|replay| (replay.turns, replay.damaged)).map_err(|e| e.to_string()), broken)
    };
    assert_eq!(told(&whole), (Ok((30, 0)), vec![]));
    let cut = told(&whole[..whole.len() - 3]);
    assert_eq!(cut, (Ok((29, 0)), vec!["it ends in the middle of a block".to_owned()]));
    let mut damaged = whole.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let (result, broken) = told(&damaged);
    assert_eq!(result, Ok((29, 1)));
    assert!(broken[0].ends_with("is damaged: its checksum is another one"), "{broken:?}");
    let mut foreign = whole;
    foreign[8] = 9;
    assert!(told(&foreign).0.unwrap_err().ends_with("it is of format 9, and this program reads format 5"));
    assert!(told(b"{}").0.unwrap_err().ends_with("it is no journal of proxima"));
}
