//! What happens before a request: PROXY headers, caps on connections, certificates. Real sockets and
//! real clients (curl, raw bytes, rustls), a real edge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, reason = "shared with tests/proxy_edge.rs, which uses all of it")]
#[path = "proxy_edge/support.rs"]
mod support;

#[allow(dead_code, reason = "shared with tests/proxy_edge.rs, which uses all of it")]
#[path = "proxy_edge/origin.rs"]
mod origin;

#[allow(dead_code, reason = "shared with tests/proxy_edge.rs, which uses all of it")]
#[path = "proxy_edge/client.rs"]
mod client;

#[path = "proxy_front/abuse.rs"]
mod abuse;
#[path = "proxy_front/bounds.rs"]
mod bounds;
#[path = "proxy_front/caps.rs"]
mod caps;
#[path = "proxy_front/certificates.rs"]
mod certificates;
#[path = "proxy_front/proxied.rs"]
mod proxied;
#[path = "proxy_front/secure.rs"]
mod secure;
#[path = "proxy_front/sockets.rs"]
mod sockets;
#[path = "proxy_front/tickets.rs"]
mod tickets;

use origin::{Origin, ok};
use proxima::config::{Config, Environment};
use proxima::proxy::Error;
use std::sync::Arc;
use support::{Authority, Plan, Running, start_with};

/// An edge with one more listener, `front`, of these lines; its origin tells whom it takes for the client.
async fn fronted(authority: &Authority, lines: &str) -> Running {
    let edge = started(authority, &format!("address = \"127.0.0.1:0\"\n{lines}"), "").await.unwrap();
    let origin = Origin::start(|seen, _| ok(seen.header("x-forwarded-for").unwrap_or("nobody"))).await;
    edge.route(&[("home", &[origin.address])]);
    edge
}

/// An edge with one more listener of these lines, and lines of [edge]; its service has nowhere to go yet.
async fn started(authority: &Authority, front: &str, edge: &str) -> Result<Running, Error> {
    let front = format!("[[listeners]]\nname = \"front\"\n{front}\n[tls]\n");
    let text = Plan::default().toml(authority).replace("[tls]\n", &front);
    let text = text.replacen("[edge]\n", &format!("[edge]\n{edge}\n"), 1);
    let config = Config::from_text("proxima.toml", &text, &Environment::default());
    start_with(Arc::new(config.unwrap_or_else(|problems| panic!("{problems}")))).await
}

fn front(edge: &Running) -> std::net::SocketAddr {
    edge.edge.addresses().listeners["front"]
}
