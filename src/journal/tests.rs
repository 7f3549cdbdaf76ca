//! The writer and the queue, from the inside: gaps, bounds, and a disk that refuses.

use super::*;
use crate::access_log::wall_clock;
use crate::domain::fleet::Target;
use crate::domain::name::ServiceId;
use prometheus::Registry;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

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
    metrics: JournalMetrics,
}

impl Case {
    fn new(name: &str, queue: usize, file_bytes: u64, max_bytes: u64) -> Self {
        let folder = std::env::temp_dir().join(format!("proxima-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let text = ConfigText { file: "edge.toml".to_owned(), text: TEXT.into(), region: None };
        let policy = text.policy().unwrap();
        let metrics = JournalMetrics::register(&Registry::new()).unwrap();
        let (mut journal, messages) = Journal::queued(queue, metrics.clone());
        let texts = Texts::default();
        texts.tell(&policy, &text);
        let clock = Clock::start();
        let process = Process { clock, own: policy.own.clone(), boot: 7, texts, metrics: metrics.clone() };
        let config = config::Journal { path: folder.clone(), max_bytes, file_bytes };
        let disk = writer::Disk::new(config, process, Arc::clone(&journal.wanted));
        let now = clock.now();
        journal.begin(&policy, now);
        Self { folder, journal, messages, disk, fleet: Fleet::new(policy, 7), now, metrics }
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
        let input = Input::Resolved { target, addresses: addresses.collect() };
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
        let _ = fs::remove_dir_all(&self.folder);
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
    let second = wall_clock().duration_since(UNIX_EPOCH).unwrap().as_secs();
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
