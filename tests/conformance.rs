//! What the traffic plane holds, shown by peers that others wrote: `make conformance`.
//!
//! The real binary, with a listener of every kind, between curl, grpcio, websockets, haproxy, h2load,
//! sslyze, slowhttptest and nginx. Under plain `cargo test` these tests are left out: they take minutes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod run_support;

#[allow(dead_code, reason = "shared with tests/proxy_edge.rs, which uses all of it")]
#[path = "proxy_edge/support.rs"]
mod support;

#[allow(dead_code, reason = "shared with tests/proxy_edge.rs, which uses all of it")]
#[path = "proxy_edge/origin.rs"]
mod origin;

#[allow(dead_code, reason = "shared with tests/proxy_edge.rs, which uses all of it")]
#[path = "proxy_edge/client.rs"]
mod client;

#[path = "conformance/peers.rs"]
mod peers;
#[path = "conformance/world.rs"]
mod world;

#[path = "conformance/curl.rs"]
mod curl;
#[path = "conformance/frames.rs"]
mod frames;
#[path = "conformance/front.rs"]
mod front;
#[path = "conformance/grpc.rs"]
mod grpc;
#[path = "conformance/load.rs"]
mod load;
#[path = "conformance/slow.rs"]
mod slow;
#[path = "conformance/streams.rs"]
mod streams;
#[path = "conformance/tls.rs"]
mod tls;
#[path = "conformance/volume.rs"]
mod volume;
#[path = "conformance/websocket.rs"]
mod websocket;
