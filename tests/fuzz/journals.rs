//! A small journal, and how its blocks are taken apart and put together again.

use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use proxima::clock::Clock;
use proxima::config::{ConfigText, Journal as Kept};
use proxima::domain::fleet::{EndpointAnswer, Fleet, Input, Probe, Target};
use proxima::domain::name::ServiceId;
use proxima::journal::{Journal, Process, Texts};
use proxima::metrics::journal::JournalMetrics;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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

/// The octets of a journal with a few turns.
pub fn small() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("journal-{}", std::process::id()));
    let text = ConfigText { file: "edge.toml".to_owned(), text: TEXT.into(), region: None, zone: None };
    let policy = text.policy().unwrap();
    let texts = Texts::default();
    texts.tell(&policy, &text);
    let metrics = JournalMetrics::register(&prometheus::Registry::new()).unwrap();
    let (clock, own) = (Clock::start(), policy.own.clone());
    let config = Kept { path: folder.clone(), max_bytes: 1 << 30, file_bytes: 1 << 29 };
    let process = Process { clock, own, boot: 7, texts, metrics };
    let (mut journal, writer) = Journal::start(&config, process).unwrap();
    let mut now = clock.now();
    journal.begin(&policy, now);
    let mut fleet = Fleet::new(Arc::clone(&policy), 7);
    let (service, address) = (ServiceId::parse("web").unwrap(), ([10, 0, 0, 1], 80).into());
    for n in 0..12 {
        let input = match n % 3 {
            0 => Input::Resolved { target: Target::Service(service.clone()), addresses: vec![address] },
            1 => Input::Probed(Probe::Endpoint {
                service: service.clone(),
                address,
                result: Ok(EndpointAnswer::Well),
            }),
            _ => Input::Tick,
        };
        now = now + Duration::from_millis(150);
        let taken = journal.take(&input);
        let outputs = fleet.handle(input, now);
        journal.turned(now, taken, &outputs);
    }
    drop(journal);
    writer.join(Duration::from_secs(10));
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let octets = std::fs::read(file).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    octets
}

/// The records of a right journal, as they are before they are packed.
pub fn unpacked(journal: &[u8]) -> Vec<u8> {
    let (mut left, mut plain) = (&journal[10..], Vec::new());
    while !left.is_empty() {
        let length = u32::from_le_bytes(left[..4].try_into().unwrap()) as usize;
        DeflateDecoder::new(&left[12..12 + length]).read_to_end(&mut plain).unwrap();
        left = &left[12 + length..];
    }
    plain
}

/// A journal of one block, whose checksum is right whatever is in it, with the signature of a right one.
pub fn packed(right: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    let octets = encoder.finish().unwrap();
    let mut crc = Crc::new();
    crc.update(&octets);
    let numbers = [octets.len() as u32, plain.len() as u32, crc.sum()].map(u32::to_le_bytes).concat();
    [&right[..10], numbers.as_slice(), &octets].concat()
}
