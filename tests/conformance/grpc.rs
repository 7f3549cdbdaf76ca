//! gRPC, by Python's grpcio on both sides: over h2c, and over TLS with HTTP/2 by ALPN.

use crate::origin::Refusing;
use crate::peers::{Server, run_script};
use crate::run_support::{Edge, Folder, eventually, served};
use crate::support::{Authority, Files};
use crate::world::World;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;

/// Runs cases of tests/conformance/grpc_client.py over both transports.
fn hold(cases: &[&str]) {
    let Some(server) = Server::start("grpc_server.py") else { return };
    // Nobody listens there, nor will.
    let dead = Refusing::new();
    let world = World::start(&services(&server, dead.address));
    let (plain, encrypted) = (world.address("http").to_string(), world.address("https").to_string());
    let roots = world.roots();
    for (address, roots) in [(plain, "-"), (encrypted, roots.to_str().unwrap())] {
        let said = run_script("grpc_client.py", &[&[&*address, roots], cases].concat()).unwrap();
        let output = said.held(roots);
        assert_eq!(output.matches("held: ").count(), cases.len(), "{output}");
    }
}

/// A service of gRPC at this prefix.
fn called(name: &str, endpoint: SocketAddr, prefix: &str) -> String {
    let text = served(name, "here", endpoint, prefix);
    text.replace("health.path = \"/\"", "protocol = \"http2\"\nhealth = { kind = \"grpc\", service = \"\" }")
}

/// The server, and services and routes that make Proxima answer itself.
fn services(server: &Server, dead: SocketAddr) -> String {
    let echo = |name: &str, prefix: &str| called(name, server.address, prefix);
    // A call that the server does not answer, by a route that does not wait for long.
    let late = "rewrite = { path = \"/conformance.Echo/silent\" }\ntimeouts = { request = \"500ms\" }\n";
    [
        echo("echo", "/conformance.Echo"),
        called("dead", dead, "/dead.Service"),
        echo("denied", "/denied.Service") + "deny = [\"127.0.0.0/8\"]\n",
        echo("limited", "/limited.Service") + "max_body = \"10KiB\"\n",
        echo("late", "/late.Service") + late,
    ]
    .concat()
}

#[test]
#[ignore = "make conformance"]
fn the_example_in_config_serves_calls() {
    let Some(server) = Server::start("grpc_server.py") else { return };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/grpc.toml");
    let example = std::fs::read_to_string(file).unwrap();
    let text = example
        .replace("0.0.0.0:8080", "127.0.0.1:0")
        .replace("127.0.0.1:50051", &server.address.to_string());
    let folder = Folder::new();
    let edge = Edge::ready(&folder.write("grpc.toml", &(text + "[admin]\naddress = \"127.0.0.1:0\"\n")));
    edge.until_metric(r#"proxima_service_state{region="eu-west-1",service="echo",state="healthy"}"#, 1.0);
    let said =
        run_script("grpc_client.py", &[&edge.address("http").to_string(), "-", "unary", "bidirectional"]);
    said.unwrap().held("config/grpc.toml");
}

/// No gRPC server answers the GET of a health path: `health.kind = "grpc"` asks what it has instead, over IPv6 as well.
#[test]
#[ignore = "make conformance"]
fn endpoints_are_as_well_as_their_own_health_service_says() {
    let Some(server) = Server::start("grpc_server.py") else { return };
    let four = server.address;
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, four.port()));
    let mut cases = vec![
        ("whole", four, "health = { kind = \"grpc\", service = \"\" }", "healthy"),
        ("named", four, "health = { kind = \"grpc\", service = \"conformance.Echo\" }", "healthy"),
        ("ailing", four, "health = { kind = \"grpc\", service = \"ailing.Service\" }", "ejected"),
        ("unknown", four, "health = { kind = \"grpc\", service = \"no.such.Service\" }", "ejected"),
        ("path", four, "health.path = \"/\"", "ejected"),
        ("six", six, "health = { kind = \"grpc\", service = \"\" }", "healthy"),
        ("six-ailing", six, "health = { kind = \"grpc\", service = \"ailing.Service\" }", "ejected"),
    ];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("SKIPPED over IPv6: this machine has no IPv6 loopback");
        cases.retain(|(_, address, ..)| *address == four);
    }
    let service = |(name, address, health, _): &(&str, SocketAddr, &str, &str)| {
        let text = served(name, "here", *address, &format!("/{name}"));
        text.replace("health.path = \"/\"", &format!("protocol = \"http2\"\n{health}"))
    };
    let world = World::start(&cases.iter().map(service).collect::<String>());
    for (name, _, health, expected) in cases {
        eventually(&format!("{name}: {health} is {expected}"), || {
            let snapshot = world.edge.snapshot();
            (snapshot["services"][name]["endpoints"][0]["state"] == expected).then_some(())
        });
    }
}

#[test]
#[ignore = "make conformance"]
fn calls_of_all_four_kinds_arrive_with_metadata_trailers_and_status() {
    hold(&["unary", "client_stream", "server_stream", "bidirectional", "status", "together"]);
}

#[test]
#[ignore = "make conformance"]
fn a_server_that_speaks_tls_gets_the_same_calls_by_tls() {
    let authority = Authority::new();
    let Files { certificate, key } = authority.sign("echo.example.com");
    let Some(server) = Server::start_with("grpc_server.py", &[&certificate, &key]) else { return };
    let tls =
        format!("[services.echo.tls]\nca = {:?}\nserver_name = \"echo.example.com\"\n", authority.roots());
    let echo = called("echo", server.address, "/conformance.Echo");
    let world = World::start(&echo.replace("[[routes]]", &(tls + "[[routes]]")));
    world.edge.until_metric(r#"proxima_service_state{region="here",service="echo",state="healthy"}"#, 1.0);
    let (address, roots) = (world.address("https").to_string(), world.roots());
    let cases = ["unary", "bidirectional", "status", "cancel", "together"];
    let said = run_script("grpc_client.py", &[&[&*address, roots.to_str().unwrap()], &cases[..]].concat());
    assert_eq!(said.unwrap().held("TLS").matches("held: ").count(), cases.len());
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
