//! The proxy over real sockets: edges wired to hand-made snapshots, real
//! clients (curl, h2, raw bytes), nginx and misbehaving origins behind them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "proxy_edge/support.rs"]
mod support;

#[path = "proxy_edge/origin.rs"]
mod origin;

#[path = "proxy_edge/client.rs"]
mod client;

#[path = "h1_corpus/entry.rs"]
mod entry;

#[path = "proxy_edge/corpus.rs"]
mod corpus;
#[path = "proxy_edge/drain.rs"]
mod drain;
#[path = "proxy_edge/forwarding.rs"]
mod forwarding;
#[path = "proxy_edge/handover.rs"]
mod handover;
#[path = "proxy_edge/hedging.rs"]
mod hedging;
#[path = "proxy_edge/parting.rs"]
mod parting;
#[path = "proxy_edge/protection.rs"]
mod protection;
#[path = "proxy_edge/requests.rs"]
mod requests;
#[path = "proxy_edge/retries.rs"]
mod retries;
#[path = "proxy_edge/route_policy.rs"]
mod route_policy;
#[path = "proxy_edge/routes.rs"]
mod routes;
#[path = "proxy_edge/sessions.rs"]
mod sessions;
#[path = "proxy_edge/siblings.rs"]
mod siblings;
#[path = "proxy_edge/transport.rs"]
mod transport;
#[path = "proxy_edge/upstream_tls.rs"]
mod upstream_tls;
