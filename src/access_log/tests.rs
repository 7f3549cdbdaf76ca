use super::*;
use crate::domain::name::{RegionId, RouteId, ServiceId};
use crate::domain::trace::TraceParent;
use http::{HeaderValue, Method, Version};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

fn record(path: &str) -> Record {
    Record {
        began: UNIX_EPOCH + Duration::from_millis(1_790_000_000_123),
        listener: "https",
        client: Some("2001:db8::7".parse().unwrap()),
        remote: Some("10.0.0.1:4711".parse().unwrap()),
        proxied: None,
        tls: Some(Arc::new(Tls {
            version: "TLSv1.3".to_owned(),
            cipher: "AES".to_owned(),
            alpn: Some("h2".to_owned()),
            server_name: Some("www.example.com".to_owned()),
            client_subject: Some("CN=client".to_owned()),
        })),
        method: Method::POST,
        uri: path.parse().unwrap(),
        query: false,
        version: Version::HTTP_2,
        user_agent: Some(HeaderValue::from_bytes(b"a \"browser\" \xff").unwrap()),
        request_id: Some(HeaderValue::from_static("id-1")),
        trace: TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        span: None,
        route: Some(RouteId::parse("web").unwrap()),
        service: Some(ServiceId::parse("shop").unwrap()),
        region: Some(RegionId::parse("eu-west-1").unwrap()),
        attempts: vec![
            Attempt {
                region: RegionId::parse("eu-west-1").unwrap(),
                address: "10.0.0.1:80".parse().unwrap(),
                began: Duration::from_millis(1),
                connect: None,
                first_byte: None,
                took: Duration::from_micros(1500),
                result: AttemptResult::Failed("connect"),
            },
            Attempt {
                region: RegionId::parse("eu-west-1").unwrap(),
                address: "10.0.0.2:80".parse().unwrap(),
                began: Duration::from_micros(2500),
                connect: Some(Duration::from_micros(300)),
                first_byte: Some(Duration::from_millis(15)),
                took: Duration::from_millis(20),
                result: AttemptResult::Answered(201),
            },
        ],
        cause: None,
        status: Some(201),
        received: 7,
        sent: 99,
        took: Duration::from_micros(22_250),
    }
}

const SOON: Duration = Duration::from_secs(10);

fn folder() -> PathBuf {
    let name = format!("access-log-{}-{}", std::process::id(), rand::random::<u64>());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_line_tells_who_asked_what_where_it_went_and_how_it_ended() {
    let line = serde_json::to_value(Line(&record("https://www.example.com/a?secret=1"))).unwrap();
    let expected = serde_json::json!({
        "time": "2026-09-21T14:13:20.123Z",
        "listener": "https",
        "client": "2001:db8::7",
        "remote": "10.0.0.1:4711",
        "tls": "TLSv1.3",
        "cipher": "AES",
        "alpn": "h2",
        "sni": "www.example.com",
        "client_certificate": "CN=client",
        "method": "POST",
        "host": "www.example.com",
        "path": "/a",
        "protocol": "HTTP/2",
        "user_agent": "a \"browser\" \u{fffd}",
        "request_id": "id-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "sampled": true,
        "route": "web",
        "service": "shop",
        "region": "eu-west-1",
        "attempts": [
            { "region": "eu-west-1", "endpoint": "10.0.0.1:80", "failed": "connect", "began_ms": 1.0, "total_ms": 1.5 },
            {
                "region": "eu-west-1", "endpoint": "10.0.0.2:80", "status": 201,
                "began_ms": 2.5, "connect_ms": 0.3, "first_byte_ms": 15.0, "total_ms": 20.0
            },
        ],
        "status": 201,
        "bytes_received": 7,
        "bytes_sent": 99,
        "duration_ms": 22.25,
    });
    assert_eq!(line, expected);
    let proxied = Proxied {
        vpc_endpoint: Some("vpce-1".into()),
        authority: Some("www.example.com".into()),
        unique_id: Some([0, 0xff].into()),
        tls: Some(ProxiedTls { version: Some("TLSv1.3".into()), ..ProxiedTls::default() }),
    };
    let unknown = Record { client: None, remote: None, proxied: Some(Arc::new(proxied)), ..record("/a") };
    let line = serde_json::to_value(Line(&unknown)).unwrap();
    for (key, value) in [
        ("remote", "unix"),
        ("vpc_endpoint", "vpce-1"),
        ("proxy_authority", "www.example.com"),
        ("proxy_unique_id", "00ff"),
        ("proxy_tls", "TLSv1.3"),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    assert!(line["client"].is_null() && line.get("proxy_cipher").is_none(), "{line}");
    let told = Record { query: true, ..record("/a?secret=1") };
    assert_eq!(serde_json::to_value(Line(&told)).unwrap()["query"], "secret=1");
}

#[test]
fn a_file_gets_every_record_and_may_be_moved_away() {
    let folder = folder();
    let (path, moved) = (folder.join("access.log"), folder.join("access.log.1"));
    let (log, writer) = AccessLog::start(&Registry::new()).unwrap();
    let output = AccessLogOutput::File(path.clone());
    log.switch(Output::open(Some(&output)).unwrap());
    log.record(Arc::new(record("/before")));
    std::fs::rename(&path, &moved).unwrap();
    log.record(Arc::new(record("/still-before")));
    log.switch(Output::open(Some(&output)).unwrap());
    log.record(Arc::new(record("/after")));
    let metrics = log.metrics.clone();
    drop(log);
    writer.join(SOON);
    let paths = |file: &Path| -> Vec<String> {
        let text = std::fs::read_to_string(file).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(paths(&moved), ["/before", "/still-before"]);
    assert_eq!(paths(&path), ["/after"]);
    assert_eq!((metrics.written.get(), metrics.dropped.get()), (3, 0));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_disk_that_stands_still_costs_records_and_never_a_request() {
    let folder = folder();
    let pipe = folder.join("pipe");
    // Nobody reads it: the writer gets stuck once the pipe's 64 KiB are full.
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let (log, writer) = AccessLog::start(&Registry::new()).unwrap();
    log.switch(Output::open(Some(&AccessLogOutput::File(pipe))).unwrap());
    let mut records = 0_u64;
    while log.metrics.dropped.get() == 0 {
        log.record(Arc::new(record("/slow")));
        records += 1;
        assert!(records < 1_000_000, "nothing is dropped");
    }
    assert!(records > QUEUE as u64, "the queue is used first");
    // Read on, and everything but the dropped ones comes out.
    let drain = std::thread::spawn(move || {
        let mut lines = io::BufRead::lines(io::BufReader::new(reader));
        (1..records).map(|_| lines.next().unwrap().unwrap()).filter(|line| line.contains("/slow")).count()
    });
    assert_eq!(drain.join().unwrap() as u64, records - 1);
    assert_eq!(log.metrics.dropped.get(), 1);
    drop(log);
    writer.join(SOON);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_output_that_cannot_be_opened_is_named_and_the_one_before_stays() {
    let folder = folder();
    let path = folder.join("access.log");
    let (log, writer) = AccessLog::start(&Registry::new()).unwrap();
    log.switch(Output::open(Some(&AccessLogOutput::File(path.clone()))).unwrap());
    let missing = folder.join("no/such/folder/access.log");
    let error = Output::open(Some(&AccessLogOutput::File(missing.clone()))).unwrap_err();
    assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
    log.record(Arc::new(record("/on")));
    drop(log);
    writer.join(SOON);
    assert!(std::fs::read_to_string(path).unwrap().contains("/on"));
    std::fs::remove_dir_all(folder).unwrap();
}
