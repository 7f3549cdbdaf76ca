//! The four proxies and the origin behind them: how each is set up, and the proof that all do
//! the same work.
//!
//! All: one worker; kept-alive connections on both sides without a limit of requests; access log
//! off; `X-Forwarded-For` and `X-Request-Id` to the origin, the latter in the answer, too.
//! Proxima has its features on besides: hosts and routes to choose from, header edits, `Via` and
//! `Forwarded`, retries, ejection, metrics, probes of the endpoint.

use crate::PATIENCE;
use crate::load;
use crate::process::{Cpus, Process, find, version};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Bytes in the origin's answer.
pub const BODY_BYTES: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Nginx,
    Haproxy,
    Pingora,
    Proxima,
}

impl Peer {
    pub const ALL: [Self; 4] = [Self::Nginx, Self::Haproxy, Self::Pingora, Self::Proxima];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Pingora => "pingora",
            Self::Proxima => "proxima",
        }
    }

    pub fn parse(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|peer| peer.name() == name).ok_or(format!("there is no peer {name}"))
    }

    /// The program, or why there is none.
    fn program(self) -> Result<String, String> {
        match self {
            Self::Proxima => Ok(env!("CARGO_BIN_EXE_proxima").to_owned()),
            Self::Pingora => Ok(std::env::current_exe().unwrap().display().to_string()),
            Self::Nginx | Self::Haproxy => {
                find(self.name()).ok_or(format!("no {} here; run: scripts/setup.sh bench", self.name()))
            }
        }
    }

    pub fn version(self) -> String {
        match self {
            Self::Proxima => format!("proxima {}, production features", env!("CARGO_PKG_VERSION")),
            Self::Pingora => "Pingora 0.9.1, its HttpProxy alone".to_owned(),
            Self::Nginx | Self::Haproxy => {
                self.program().map_or_else(|_| "missing".to_owned(), |program| version(&program, "-v"))
            }
        }
    }

    /// Files are written to `folder`; the arguments of the program.
    fn configure(self, folder: &Path, at: Addresses, origin: SocketAddr) -> Vec<String> {
        let [certificate, key] =
            ["bench.pem", "bench.key"].map(|name| folder.join(name).display().to_string());
        let file = folder.join(format!("{}.conf", self.name()));
        let path = file.display().to_string();
        match self {
            Self::Nginx => {
                fs::write(&file, nginx(folder, at, origin)).unwrap();
                ["-p", &folder.display().to_string(), "-e", "stderr", "-c", &path].map(str::to_owned).to_vec()
            }
            Self::Haproxy => {
                fs::write(&file, haproxy(folder, at, origin)).unwrap();
                ["-db", "-f", &path].map(str::to_owned).to_vec()
            }
            Self::Pingora => {
                let addresses = [at.plain, at.h2c, at.tls, origin].map(|address| address.to_string());
                let mut arguments = vec!["--bare-pingora".to_owned()];
                arguments.extend(addresses);
                arguments.extend([certificate, key]);
                arguments
            }
            Self::Proxima => {
                let file = file.with_extension("toml");
                fs::write(&file, proxima(at, origin)).unwrap();
                vec!["run".to_owned(), file.display().to_string()]
            }
        }
    }
}

/// Where a proxy listens.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    plain: SocketAddr,
    h2c: SocketAddr,
    tls: SocketAddr,
    admin: SocketAddr,
}

/// A proxy that serves.
pub struct Running {
    pub process: Process,
    /// HTTP/1.1.
    pub plain: SocketAddr,
    /// HTTP/2 by prior knowledge.
    pub h2c: SocketAddr,
    /// HTTP/2 or HTTP/1.1 by ALPN.
    pub tls: SocketAddr,
}

/// What starts proxies, and the origin that they share.
pub struct Peers {
    folder: PathBuf,
    cpus: Cpus,
    pub origin: SocketAddr,
    _origin: Process,
}

impl Peers {
    pub fn start_origin(folder: &Path, cpus: Cpus) -> Self {
        certificate(folder);
        let origin = free();
        let file = folder.join("origin.conf");
        fs::write(&file, origin_conf(folder, origin)).unwrap();
        let program = find("nginx").unwrap_or_else(|| {
            eprintln!("bench: the origin is nginx, and there is none here; run: scripts/setup.sh bench");
            std::process::exit(1)
        });
        let prefix = folder.display().to_string();
        let arguments = ["-p", &prefix, "-e", "stderr", "-c", &file.display().to_string()];
        let log = folder.join("origin.log");
        let mut process = Process::start(&program, &arguments, cpus.rest.as_deref(), &log).unwrap();
        until_serving(&mut process, origin).unwrap_or_else(|why| panic!("the origin: {why}"));
        Self { folder: folder.to_owned(), cpus, origin, _origin: process }
    }

    /// Starts a proxy afresh; the error says why it can't be measured.
    pub fn start(&mut self, peer: Peer) -> Result<Running, String> {
        let program = peer.program()?;
        let at = Addresses { plain: free(), h2c: free(), tls: free(), admin: free() };
        // Proxima tells HTTP/2 by prior knowledge from HTTP/1.1; the others want a port for each.
        let at = if peer == Peer::Proxima { Addresses { h2c: at.plain, ..at } } else { at };
        let arguments = peer.configure(&self.folder, at, self.origin);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let log = self.folder.join(format!("{}.log", peer.name()));
        let mut process = Process::start(&program, &arguments, self.cpus.peer.as_deref(), &log)?;
        until_serving(&mut process, at.plain).map_err(|why| format!("{why}; see {}", log.display()))?;
        same_work(at.plain)?;
        Ok(Running { process, plain: at.plain, h2c: at.h2c, tls: at.tls })
    }
}

/// A port that is free now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn until_serving(process: &mut Process, address: SocketAddr) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(how) = process.ended() {
            return Err(format!("it ended at once: {how}"));
        }
        let why = match load::ask(address, "/") {
            Ok(answer) if answer.status == 200 && answer.body.len() == BODY_BYTES => return Ok(()),
            Ok(answer) => format!("it answers {} with {} bytes", answer.status, answer.body.len()),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Err(why);
        }
        sleep(Duration::from_millis(50));
    }
}

/// The origin tells what it was sent: all peers have to set the same headers.
fn same_work(address: SocketAddr) -> Result<(), String> {
    let answer = load::ask(address, "/echo").map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let (client, id) = text.trim().split_once('|').ok_or(format!("no echo but {text:?}"))?;
    if client != "127.0.0.1" || id.len() < 32 {
        return Err(format!("the origin got x-forwarded-for {client:?} and x-request-id {id:?}"));
    }
    let head = answer.head.to_ascii_lowercase();
    if !head.contains(&format!("x-request-id: {}", id.to_ascii_lowercase())) {
        return Err("the request id is not in the answer".to_owned());
    }
    Ok(())
}

/// Shared by the origin and the proxy. One process does all: `master_process off` leaves no
/// child to account for and changes nothing on the way of a request.
fn nginx_head(folder: &Path, name: &str) -> String {
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {}/{name}-{kind};\n", folder.display()))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\nworker_rlimit_nofile 16384;
pid {}/{name}.pid;\nerror_log stderr crit;\nevents {{ worker_connections 8192; multi_accept on; }}\nhttp {{
  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 300s;\n{temp}",
        folder.display()
    )
}

fn origin_conf(folder: &Path, at: SocketAddr) -> String {
    let body = "0123456789abcdef".repeat(BODY_BYTES / 16);
    format!(
        "{}  default_type text/plain;\n  server {{\n    listen {at} backlog=4096;
    location / {{ return 200 \"{body}\"; }}
    location = /echo {{ return 200 \"$http_x_forwarded_for|$http_x_request_id\"; }}\n  }}\n}}\n",
        nginx_head(folder, "origin")
    )
}

fn nginx(folder: &Path, at: Addresses, origin: SocketAddr) -> String {
    let Addresses { plain, h2c, tls, .. } = at;
    let (head, folder) = (nginx_head(folder, "nginx"), folder.display());
    format!(
        "{head}  upstream origin {{
    server {origin};\n    keepalive 128;\n    keepalive_requests 1000000000;\n    keepalive_timeout 60s;\n  }}
  server {{
    listen {plain} backlog=4096;\n    listen {h2c} http2 backlog=4096;\n    listen {tls} ssl http2 backlog=4096;
    ssl_certificate {folder}/bench.pem;\n    ssl_certificate_key {folder}/bench.key;
    location / {{
      proxy_pass http://origin;\n      proxy_http_version 1.1;
      proxy_set_header Connection \"\";\n      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;\n      proxy_set_header X-Request-Id $request_id;
      add_header X-Request-Id $request_id;\n    }}\n  }}\n}}\n"
    )
}

fn haproxy(folder: &Path, at: Addresses, origin: SocketAddr) -> String {
    let pem = folder.join("both.pem");
    let parts = ["bench.pem", "bench.key"].map(|name| fs::read_to_string(folder.join(name)).unwrap());
    fs::write(&pem, parts.concat()).unwrap();
    let Addresses { plain, h2c, tls, .. } = at;
    format!(
        "global\n  nbthread 1\n  maxconn 8192\n\ndefaults\n  mode http\n  no log\n  timeout connect 2s
  timeout client 300s\n  timeout server 30s\n  timeout http-keep-alive 300s\n  http-reuse aggressive
  option forwardfor\n\nfrontend edge\n  bind {plain} backlog 4096\n  bind {h2c} proto h2 backlog 4096
  bind {tls} ssl crt {pem} alpn h2,http/1.1 backlog 4096\n  unique-id-format %[uuid]
  unique-id-header X-Request-Id\n  http-response set-header X-Request-Id %[unique-id]
  default_backend origin\n\nbackend origin\n  server origin {origin} pool-max-conn 128\n",
        pem = pem.display()
    )
}

fn proxima(at: Addresses, origin: SocketAddr) -> String {
    let Addresses { plain, tls, admin, .. } = at;
    let others: String = (0..20)
        .map(|n| {
            format!(
                "[[routes]]\nname = \"shop-{n}\"\nhosts = [\"shop-{n}.example.com\"]\nservice = \"web\"\n\n\
                 [[routes]]\nname = \"api-{n}\"\nhosts = [\"www.example.com\"]\npath_prefix = \"/api/v{n}\"\n\
                 service = \"web\"\n\n"
            )
        })
        .collect();
    format!(
        "[edge]\nregion = \"home\"\n\n[admin]\naddress = \"{admin}\"\n\n[[listeners]]\nname = \"http\"\naddress = \"{plain}\"\n
[[listeners]]\nname = \"https\"\naddress = \"{tls}\"\nprotocol = \"https\"\n
[tls]\ncertificate = \"bench.pem\"\nkey = \"bench.key\"\n\n[regions.home]\n
[services.web]\nendpoints.home = [\"{origin}\"]\n\n{others}[[routes]]\nname = \"web\"\nhosts = [\"www.example.com\"]
service = \"web\"\nrequest_headers = {{ set = {{ x-tenant = \"shop\" }}, remove = [\"x-debug\"] }}
response_headers = {{ set = {{ strict-transport-security = \"max-age=31536000\" }}, remove = [\"server\"] }}\n"
    )
}

/// For TLS rows: ECDSA P-256, signed by itself.
fn certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["www.example.com".to_owned()]).unwrap();
    fs::write(folder.join("bench.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("bench.key"), made.signing_key.serialize_pem()).unwrap();
}
