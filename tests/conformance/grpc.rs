//! gRPC, by Python's grpcio on both sides: over h2c, and over TLS with HTTP/2 by ALPN.

use crate::origin::Refusing;
use crate::peers::{Server, run_script};
use crate::world::{World, served_by_http2};

/// Runs cases of tests/conformance/grpc_client.py over both transports.
fn hold(cases: &[&str]) {
    let Some(server) = Server::start("grpc_server.py") else { return };
    let world = World::start(&services(&server));
    let (plain, encrypted) = (world.address("http").to_string(), world.address("https").to_string());
    let roots = world.roots();
    for (address, roots) in [(plain, "-"), (encrypted, roots.to_str().unwrap())] {
        let said = run_script("grpc_client.py", &[&[&*address, roots], cases].concat()).unwrap();
        let output = said.held(roots);
        assert_eq!(output.matches("held: ").count(), cases.len(), "{output}");
    }
}

/// The server, and services and routes that make Proxima answer itself.
fn services(server: &Server) -> String {
    let echo = |name: &str, prefix: &str| served_by_http2(name, server.address, prefix);
    // Nobody listens there.
    let dead = served_by_http2("dead", Refusing::new().address, "/dead.Service");
    // A call that the server does not answer, by a route that does not wait for long.
    let late = "rewrite = { path = \"/conformance.Echo/silent\" }\ntimeouts = { request = \"500ms\" }\n";
    [
        echo("echo", "/conformance.Echo"),
        dead,
        echo("denied", "/denied.Service") + "deny = [\"127.0.0.0/8\"]\n",
        echo("limited", "/limited.Service") + "max_body = \"10KiB\"\n",
        echo("late", "/late.Service") + late,
    ]
    .concat()
}

#[test]
#[ignore = "make conformance"]
fn calls_of_all_four_kinds_arrive_with_metadata_trailers_and_status() {
    hold(&["unary", "client_stream", "server_stream", "bidirectional", "status", "together"]);
}

#[test]
#[ignore = "make conformance"]
fn deadlines_and_cancellation_reach_the_server() {
    hold(&["deadline", "cancel"]);
}

#[test]
#[ignore = "make conformance"]
fn errors_of_proxima_itself_come_as_a_status_of_grpc() {
    hold(&["own_errors"]);
}

#[test]
#[ignore = "make conformance"]
fn a_big_stream_each_way_at_once_and_a_big_message_arrive_whole() {
    hold(&["big"]);
}
