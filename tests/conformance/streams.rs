//! Events that may not be held back.

use crate::origin::tool;
use crate::peers::bounded;
use crate::run_support::{eventually, served};
use crate::world::World;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// An origin of events: each is sent when the test says so.
struct Events {
    address: SocketAddr,
    say: SyncSender<u32>,
}

impl Events {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (say, said) = sync_channel(1);
        let (address, said) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(said)));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let said = Arc::clone(&said);
                // A client that leaves ends its thread: that is its right.
                thread::spawn(move || answer(stream, &said));
            }
        });
        Self { address, say }
    }
}

fn answer(mut stream: TcpStream, said: &Mutex<Receiver<u32>>) -> Option<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"GET /events") {
        return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok();
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    let said = said.lock().ok()?;
    loop {
        let event = format!("data: {}\n\n", said.recv().ok()?);
        write!(stream, "{:x}\r\n{event}\r\n", event.len()).ok()?;
    }
}

#[test]
#[ignore = "make conformance"]
fn each_event_arrives_before_the_next_one_is_sent() {
    let Some(program) = tool("curl") else { return };
    for (listener, flag) in [
        ("http", "--http1.1"),
        ("http", "--http1.0"),
        ("http", "--http2-prior-knowledge"),
        ("https", "--http1.1"),
        ("https", "--http2"),
    ] {
        let events = Events::start();
        let world = World::start(&served("events", "here", events.address, "/"));
        let mut curl = bounded(&program, 20)
            .args(["--silent", "--no-buffer", "--noproxy", "*", flag])
            .args(world.ask(listener, "/events"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines().map_while(Result::ok);
        for n in 0..50 {
            events.say.send(n).unwrap();
            // curl ends after its time, and its lines with it.
            let event = lines.find(|line| !line.is_empty());
            assert_eq!(event, Some(format!("data: {n}")), "{listener} {flag}");
        }
        curl.kill().unwrap();
        eventually("curl ends", || curl.try_wait().unwrap());
    }
}
