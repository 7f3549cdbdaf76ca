//! HTTP/2 that breaks the rules, frame by frame.

use crate::origin::{Origin, ok};
use crate::peers::run_script;
use crate::run_support::served;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn broken_frames_get_the_error_that_rfc_9113_names_and_odd_ones_are_served() {
    // It answers what has come whole: not before an error can show.
    let origin = Origin::start(|_, _| ok("ok")).await;
    let small = served("small", "here", origin.address, "/small") + "max_body = \"1KiB\"\n";
    let world = World::start(&(served("web", "here", origin.address, "/") + &small));
    let address = world.address("http").to_string();
    let said = tokio::task::spawn_blocking(move || run_script("h2_frames.py", &[&address])).await.unwrap();
    let Some(said) = said else { return };
    let output = said.held("HTTP/2");
    assert!(output.contains(" cases"), "{output}");
}
