//! Origins: one that does what a test tells it, byte by byte, and nginx.

use crate::support::{Files, SOON, eventually};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// What an origin does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These bytes, then the next request.
    Send(String),
    /// These bytes, then a close.
    SendAndClose(String),
    /// RST, nothing sent.
    Reset,
    /// FIN, nothing sent.
    Close,
    /// These bytes after a pause.
    Slow(Duration, String),
    /// These bytes after a pause, then every byte that comes, back.
    Echo(String),
    /// Nothing, ever.
    Silence,
}

/// A whole answer with a body.
pub fn ok(body: &str) -> Reply {
    answer("200 OK", "", body)
}

pub fn answer(status: &str, headers: &str, body: &str) -> Reply {
    Reply::Send(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()))
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub head: String,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// An origin in this process.
pub struct Origin {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    silent: Arc<AtomicUsize>,
}

impl Origin {
    /// Answers each request by `reply(head, how many came before)`.
    pub async fn start(reply: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (all, reply) = (Arc::clone(&seen), Arc::new(reply));
        let silent: Arc<AtomicUsize> = Arc::default();
        let waiting = Arc::clone(&silent);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (all, reply, waiting) = (Arc::clone(&all), Arc::clone(&reply), Arc::clone(&waiting));
                tokio::spawn(async move { serve(stream, &all, &waiting, reply.as_ref()).await });
            }
        });
        Self { address, seen, silent }
    }

    /// Connections whose request is met with silence, and that are still open.
    pub fn silent(&self) -> usize {
        self.silent.load(Ordering::Relaxed)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    all: &Mutex<Vec<Seen>>,
    silent: &AtomicUsize,
    reply: &(dyn Fn(&Seen, usize) -> Reply + Sync),
) {
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(&mut stream, &mut buffer).await {
        let before = {
            let mut all = all.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let sent = match reply(&seen, before) {
            Reply::Send(bytes) => stream.write_all(bytes.as_bytes()).await,
            Reply::SendAndClose(bytes) => {
                // The reader may be gone already; the close is what counts.
                drop(stream.write_all(bytes.as_bytes()).await);
                return;
            }
            Reply::Close => return,
            Reply::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Reply::Slow(pause, bytes) => {
                tokio::time::sleep(pause).await;
                stream.write_all(bytes.as_bytes()).await
            }
            Reply::Echo(bytes) => {
                stream.write_all(bytes.as_bytes()).await.unwrap();
                let (mut from, mut to) = stream.split();
                drop(tokio::io::copy(&mut from, &mut to).await);
                return;
            }
            Reply::Silence => {
                silent.fetch_add(1, Ordering::Relaxed);
                // Nothing more is asked on it: what comes is its end.
                drop(read_request(&mut stream, &mut buffer).await);
                silent.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end + 2].to_vec()).unwrap();
            let rest = &buffer[end + 4..];
            let head = Seen { head, body: String::new() };
            let whole = match (head.header("content-length"), head.header("transfer-encoding")) {
                (Some(length), _) => Some(length.parse::<usize>().unwrap()).filter(|n| rest.len() >= *n),
                (None, Some(_)) => rest.windows(5).position(|w| w == b"0\r\n\r\n").map(|at| at + 5),
                (None, None) => Some(0),
            };
            if let Some(length) = whole {
                let body = String::from_utf8_lossy(&rest[..length]).into_owned();
                buffer.drain(..end + 4 + length);
                return Some(Seen { body, ..head });
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// An origin that answers whatever comes first, whole or not, and then listens.
pub async fn early(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                let mut begun = false;
                while stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {
                    if !begun && stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                    begun = true;
                }
            });
        }
    });
    address
}

/// An address that refuses connections, kept from others as long as it lives.
pub struct Refusing {
    _socket: TcpSocket,
    pub address: SocketAddr,
}

impl Refusing {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Bound but not listening.
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        Self { _socket: socket, address }
    }
}

/// A real nginx; killed when dropped.
pub struct Nginx {
    pub address: SocketAddr,
    child: std::process::Child,
    /// What it runs in; what is under `html` there can be served.
    pub folder: PathBuf,
}

/// A program on PATH, in sbin, or unpacked by `make test`; otherwise the test is
/// skipped loudly, or fails where tools are required.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin");
    let places = std::env::split_paths(&path).chain([unpacked, "/usr/sbin".into(), "/sbin".into()]);
    let found = places.map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        let required = std::env::var("PROXIMA_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
        assert!(!required, "{name} is missing: run `make test`, which installs it");
        eprintln!("SKIPPED: {name} is missing; `make test` installs it");
    }
    found
}

impl Nginx {
    /// Serves files, uploads and an answer that shows the request's headers; `None`: no nginx here.
    pub async fn start() -> Option<Self> {
        Self::with(
            "access_log off;",
            "",
            "location /large { root html; }
             location /echo { return 200 \"$request_method $http_host $http_x_forwarded_proto $http_x_request_id\\n\"; }
             location /upload { proxy_request_buffering on; proxy_pass http://ADDRESS/length; }
             location /length { return 200 \"$content_length\\n\"; }",
        )
        .await
    }

    /// Answers 200 to everything, and logs the first line of every request.
    pub async fn logging() -> Option<Self> {
        Self::with(
            "log_format lines escape=none '$request'; access_log lines lines; large_client_header_buffers 8 64k;",
            "",
            "location / { return 200 \"ok\\n\"; }
             location /of-nginx { stub_status; access_log off; }",
        )
        .await
    }

    /// Speaks TLS, and answers by what it knows of the connection; `more` is for its server.
    pub async fn tls(files: &Files, listen: &str, more: &str) -> Option<Self> {
        let Files { certificate, key } = files;
        let (certificate, key) = (certificate.display(), key.display());
        let server = format!(
            "ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_session_cache shared:c:1m; {more}
             location / {{ return 200 '$connection $ssl_session_reused $server_protocol $ssl_server_name $ssl_client_s_dn'; }}"
        );
        Self::with("access_log off;", &format!("ssl {listen}"), &server).await
    }

    /// What a logging one has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("lines")).unwrap()).into_owned()
    }

    /// Whether a logging one has nothing in hand but this question.
    pub fn is_idle(&self) -> bool {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.write_all(b"GET /of-nginx HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.contains("Reading: 0 Writing: 1 ")
    }

    /// Lines of its `http` section, of its `listen`, and what it serves; `ADDRESS` is its own.
    pub async fn with(http: &str, listen: &str, locations: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let program = tool("nginx")?;
        let name = format!("nginx-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(folder.join("html")).unwrap();
        std::fs::write(folder.join("html/large"), "x".repeat(3_000_000)).unwrap();
        let address = Refusing::new().address;
        let locations = locations.replace("ADDRESS", &address.to_string());
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr warn;
             events {{ worker_connections 1024; }}
             http {{
               {http} client_body_temp_path body; proxy_temp_path p; fastcgi_temp_path f;
               uwsgi_temp_path u; scgi_temp_path s; client_max_body_size 64m;
               server {{ listen {address} {listen}; {locations} }}
             }}"
        );
        std::fs::write(folder.join("nginx.conf"), config).unwrap();
        let child = std::process::Command::new(program)
            .args(["-p", folder.to_str().unwrap(), "-c", "nginx.conf", "-e", "stderr"])
            .stdout(Stdio::null())
            .stderr(Stdio::from(std::fs::File::create(folder.join("log")).unwrap()))
            .spawn()
            .unwrap();
        let nginx = Self { address, child, folder };
        let log = nginx.folder.join("log");
        eventually(&format!("nginx listens ({})", log.display()), || {
            std::net::TcpStream::connect_timeout(&address, SOON).is_ok()
        })
        .await;
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// An HTTP/2 origin by prior knowledge that answers with a body and trailers, as gRPC does.
///
/// Refuses its first stream with REFUSED_STREAM when told to.
pub async fn http2(refuse_first: bool) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let streams: Arc<AtomicU32> = Arc::default();
    let count = Arc::clone(&streams);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    if count.fetch_add(1, Ordering::SeqCst) == 0 && refuse_first {
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                        continue;
                    }
                    // Beside the connection, which has to go on for the body to come.
                    tokio::spawn(async move {
                        let (request, mut asked) = request.into_parts();
                        while let Some(data) = asked.data().await {
                            let data = data.unwrap();
                            asked.flow_control().release_capacity(data.len()).unwrap();
                        }
                        let te = request.headers.get("te").cloned();
                        let mut head = http::Response::builder().header("content-type", "application/grpc");
                        if let Some(te) = te {
                            head = head.header("x-te", te);
                        }
                        let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
                        body.send_data(bytes::Bytes::from_static(b"message"), false).unwrap();
                        let mut trailers = http::HeaderMap::new();
                        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                        body.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    (address, streams)
}

/// An HTTP/2 origin by prior knowledge that hints (103) before it answers.
pub async fn hinting() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let hint = http::Response::builder().status(103).header("link", "</style.css>");
                    respond.send_informational(hint.body(()).unwrap()).unwrap();
                    let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                    body.send_data(bytes::Bytes::from_static(b"styled"), true).unwrap();
                }
            });
        }
    });
    address
}

/// A relay that can fall silent: no RST, no FIN, nothing.
pub struct Relay {
    pub address: SocketAddr,
    silent: tokio::sync::watch::Sender<bool>,
}

impl Relay {
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (silent, silence) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut silence = silence.clone();
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(to).await.unwrap();
                    let copied = tokio::select! {
                        copied = tokio::io::copy_bidirectional(&mut from, &mut to) => copied.is_ok(),
                        silent = async { silence.wait_for(|silent| *silent).await.is_err() } => silent,
                    };
                    // Silence keeps both connections open; an end of either one is passed on.
                    if *silence.borrow() && !copied {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { address, silent }
    }

    pub fn fall_silent(&self) {
        self.silent.send_replace(true);
    }
}
