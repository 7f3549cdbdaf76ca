//! The edge of these tests: a process with a listener of every kind.

use crate::run_support::{Edge, Folder, eventually};
use crate::support::{Authority, Files};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

/// For the head of a request; below the default, so that slow ones are seen to be cut off.
const HEAD_TIMEOUT: &str = "4s";
/// Whose PROXY headers are believed.
pub const TRUSTED: &str = "127.0.0.3";

/// A running edge and what it needs.
pub struct World {
    pub edge: Edge,
    pub folder: Folder,
    authority: Authority,
}

impl World {
    /// An edge with these services and routes.
    pub fn start(services: &str) -> Self {
        let authority = Authority::new();
        let server = authority.sign("www.example.com");
        Self::with_tls(services, authority, &server, "")
    }

    /// The same, with this certificate and further lines in `[tls]`.
    pub fn with_tls(services: &str, authority: Authority, server: &Files, more: &str) -> Self {
        let folder = Folder::new();
        let text = configuration(server, more) + services;
        let edge = Edge::ready(&folder.write("proxima.toml", &text));
        // It is ready once it decides, which may be before it has looked up a service's endpoints.
        eventually("every service has endpoints", || {
            let snapshot = edge.snapshot();
            let services = snapshot["services"].as_object()?;
            let known = |service: &serde_json::Value| service["candidates"][0]["endpoints"][0].is_string();
            services.values().all(known).then_some(())
        });
        Self { edge, folder, authority }
    }

    pub fn roots(&self) -> PathBuf {
        self.authority.roots()
    }

    pub fn address(&self, listener: &str) -> SocketAddr {
        self.edge.address(listener)
    }

    /// curl's arguments for a path at a listener: `https` and `front-tls` are asked by TLS.
    pub fn ask(&self, listener: &str, path: &str) -> Vec<String> {
        self.ask_at(self.address(listener), listener.ends_with("tls") || listener == "https", path)
    }

    /// The same, where somebody else stands before the listener.
    pub fn ask_at(&self, address: SocketAddr, encrypted: bool, path: &str) -> Vec<String> {
        let scheme = if encrypted { "https" } else { "http" };
        let port = address.port();
        vec![
            "--cacert".to_owned(),
            self.roots().to_str().unwrap().to_owned(),
            "--connect-to".to_owned(),
            format!("::{address}"),
            format!("{scheme}://www.example.com:{port}{path}"),
        ]
    }

    /// What the process holds in memory now, in KiB.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that it has held since [`World::forget_peak`], in KiB.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Sets the peak to what it holds now.
    pub fn forget_peak(&self) {
        // Source: proc(5), clear_refs.
        fs::write(format!("/proc/{}/clear_refs", self.edge.id()), "5").unwrap();
    }

    fn memory(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.edge.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

fn configuration(server: &Files, tls: &str) -> String {
    let mut text =
        "[edge]\nregion = \"here\"\n[regions.here]\n[admin]\naddress = \"127.0.0.1:0\"\n".to_owned();
    let proxied = format!("proxy_protocol = true\ntrusted = [\"{TRUSTED}\"]\n");
    for (name, protocol, more) in [
        ("http", "http", ""),
        ("https", "https", ""),
        ("front", "http", &*proxied),
        ("front-tls", "https", &proxied),
    ] {
        writeln!(
            text,
            "[[listeners]]\nname = {name:?}\naddress = \"127.0.0.1:0\"\nprotocol = {protocol:?}\nhead_timeout = {HEAD_TIMEOUT:?}\n{more}"
        )
        .unwrap();
    }
    let Files { certificate, key } = server;
    text + &format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{tls}\n")
}
