//! WebSocket, by Python's websockets on both sides, over ws and wss.

use crate::peers::{Server, run_script};
use crate::run_support::served;
use crate::world::World;

/// Over HTTP/2 there is none: SETTINGS does not offer RFC 8441, and whoever asks all the same has its
/// stream reset, which tests/conformance/h2_frames.py shows. Browsers then open an HTTP/1.1 connection.
#[test]
#[ignore = "make conformance"]
fn sessions_over_ws_and_wss_pass_messages_pings_terms_and_close_codes() {
    let Some(server) = Server::start("websocket_server.py") else { return };
    let services = ["/echo", "/leave", "/closes", "/whom"];
    let services = services.map(|path| served(&path[1..], "here", server.address, path));
    let world = World::start(&services.concat());
    for (scheme, listener) in [("ws", "http"), ("wss", "https")] {
        let (address, roots) = (world.address(listener).to_string(), world.roots());
        let said = run_script("websocket_client.py", &[scheme, &address, roots.to_str().unwrap()]).unwrap();
        assert_eq!(said.held(scheme).matches("held: ").count(), 5, "{scheme}");
    }
}
