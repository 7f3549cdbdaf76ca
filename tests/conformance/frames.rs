//! HTTP/2 that breaks the rules, frame by frame.

use crate::peers::{self, run_script};
use crate::run_support::served;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make conformance"]
async fn broken_frames_get_the_error_that_rfc_9113_names_and_odd_ones_are_served() {
    let Some(nginx) = peers::nginx().await else { return };
    let world = World::start(&served("web", "here", nginx.address, "/"));
    let Some(said) = run_script("h2_frames.py", &[&world.address("http").to_string()]) else { return };
    let output = said.held("HTTP/2");
    assert!(output.contains(" cases"), "{output}");
}
