//! Clients: curl, and raw bytes where curl is too well-behaved.

use crate::origin::tool;
use crate::support::SOON;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer as a client sees it.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// 0: none came.
    pub status: u16,
    /// As curl names it: 1.1 or 2.
    pub version: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// What curl complained about.
    pub error: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Runs curl; `None`: there is none here.
pub async fn curl(arguments: &[&str]) -> Option<Answer> {
    let output = tokio::process::Command::new(tool("curl")?)
        .args([
            "--silent",
            "--show-error",
            "--include",
            "--max-time",
            "15",
            "--noproxy",
            "*",
            "--suppress-connect-headers",
        ])
        .args(["--write-out", "\n%{http_version}"])
        .args(arguments)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (text, version) = text.rsplit_once('\n').unwrap();
    let mut answer = parse(text);
    answer.version = version.to_owned();
    answer.error = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(answer)
}

/// Status line, headers and the rest; answers of class 1xx are passed over.
pub fn parse(text: &str) -> Answer {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Answer::default() };
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    if (100..200).contains(&status) && status != 101 {
        return parse(body);
    }
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    Answer { status, headers: lines.map(header).collect(), body: body.to_owned(), ..Answer::default() }
}

/// Sends bytes and reads until the other side closes.
pub async fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

/// Everything until the other side closes.
pub async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut bytes)).await;
    read.unwrap_or_else(|_| panic!("not closed; so far {:?}", String::from_utf8_lossy(&bytes)))
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one answer with a `Content-Length` from a connection that stays open.
pub async fn one_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let read = async {
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let answer = parse(&text);
            let length = answer.header("content-length").map(|l| l.parse::<usize>().unwrap());
            if answer.status != 0 && length.is_some_and(|l| answer.body.len() >= l) {
                return answer;
            }
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "closed after {text:?}");
        }
    };
    timeout(SOON, read).await.expect("an answer")
}

/// A GET over HTTP/1.1 on a connection of its own.
pub async fn get(address: SocketAddr, path: &str, headers: &str) -> Answer {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n{headers}\r\n");
    parse(&raw(address, &request).await)
}

/// A POST over HTTP/1.1 on a connection of its own.
pub async fn post(address: SocketAddr, body: &str) -> Answer {
    let request = format!(
        "POST / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    parse(&raw(address, &request).await)
}

/// curl's arguments for a peer's certificate.
pub fn identity<'a>(certificate: &'a Path, key: &'a Path) -> [&'a str; 4] {
    ["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()]
}
