//! Region and zone by the instance's metadata (IMDSv2), from those who ask for it.

use crate::gate::{Door, Gate};
use crate::run_support::{Edge, Folder, Service, eventually, get, single};
use crate::world::{REGION, World, bare};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// Asks for its zone, and has an endpoint in each of three. The stand-in's instance is in the first.
struct Zones {
    folder: Folder,
    services: [Service; 3],
}

impl Zones {
    fn new() -> Self {
        let services = [Service::start("zone a"), Service::start("zone b"), Service::start("zone c")];
        Self { folder: Folder::new(), services }
    }

    fn file(&self, region: &str, zone: &str) -> std::path::PathBuf {
        let endpoints = ["a", "b", "c"].iter().zip(&self.services);
        let endpoints: Vec<String> = endpoints
            .map(|(zone, service)| format!("{{ at = \"{}\", zone = \"{REGION}{zone}\" }}", service.address))
            .collect();
        let text = single(self.services[0].address, "")
            .replace("[regions.here]", &format!("[regions.{REGION}]"))
            .replace("region = \"here\"", &format!("region = \"{region}\"\nzone = \"{zone}\""))
            .replace("endpoints.here", &format!("endpoints.{REGION}"))
            .replace(&format!("[\"{}\"]", self.services[0].address), &format!("[{}]", endpoints.join(", ")));
        self.folder.write("proxima.toml", &text)
    }
}

fn edge(file: &Path, imds: SocketAddr) -> Edge {
    let mut command = Edge::command(file, &[]);
    bare(&mut command).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{imds}"));
    Edge::of(command)
}

/// Who answers so many requests, once all three are known.
fn answers(edge: &Edge, requests: usize) -> Vec<String> {
    eventually("all three endpoints are known to be well", || {
        let snapshot = edge.snapshot();
        let known = snapshot["services"]["web"]["endpoints"].as_array()?.iter();
        (known.filter(|endpoint| endpoint["state"] == "healthy").count() == 3).then_some(())
    });
    let mut seen: Vec<String> = (0..requests).map(|_| get(edge.address("http"), "/").body).collect();
    seen.sort();
    seen.dedup();
    seen
}

#[tokio::test]
async fn region_and_zone_that_the_instance_says_keep_requests_in_their_zone() {
    let Some(world) = World::start().await else { return };
    let (zones, imds) = (Zones::new(), world.gate(Door::Open));
    let edge = edge(&zones.file("imds", "imds"), imds.address).bound_all();
    assert_eq!(answers(&edge, 60), ["zone a"]);
    let said = format!(r#""region":"{REGION}","zone":"{REGION}a","instance":"i-"#);
    assert!(edge.log().contains(&said), "{}", edge.log());
    assert_eq!(edge.snapshot()["own"], REGION);
}

#[tokio::test]
async fn what_the_file_says_is_not_asked_for() {
    let Some(world) = World::start().await else { return };
    let (zones, imds) = (Zones::new(), world.gate(Door::Open));
    let edge = edge(&zones.file(REGION, &format!("{REGION}c")), imds.address).bound_all();
    assert_eq!(answers(&edge, 30), ["zone c"]);
    assert_eq!(imds.knocks(), 0);
}

/// No stand-in is needed for what is not there.
#[test]
fn an_instance_that_is_silent_or_absent_costs_zones_and_nothing_else() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let absent = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (what, at) in [("silent", silent.local_addr().unwrap()), ("absent", absent)] {
        let zones = Zones::new();
        let edge = edge(&zones.file(REGION, "imds"), at).bound_all();
        assert_eq!(answers(&edge, 60).len(), 3, "{what}");
        assert_eq!(
            edge.log().matches("the instance does not say where it is").count(),
            1,
            "{what}: {}",
            edge.log()
        );
        // A token's answer that dies on its way to a pod is a silence, and what to do about it is said.
        assert!(edge.log().contains("its hop limit is below 2"), "{what}: {}", edge.log());
    }
}

#[test]
fn an_edge_whose_region_is_left_to_a_silent_instance_says_so_and_ends() {
    let zones = Zones::new();
    let absent = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut edge = edge(&zones.file("imds", "a"), absent);
    assert_eq!(edge.ended().code(), Some(1));
    eventually("it says why", || edge.log().contains("the own region is left to the instance").then_some(()));
}

#[tokio::test]
async fn requests_without_a_token_are_refused_so_these_had_one() {
    let Some(world) = World::start().await else { return };
    let gate = Gate::before(world.stand_in.address, Door::Open);
    assert_eq!(get(gate.address, "/latest/meta-data/placement/region").status, 401);
}
