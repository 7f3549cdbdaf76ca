//! The configuration file of one region's edge.
//!
//! All edges decide by the same policy; only addresses differ, since each
//! reaches the others by relays of its own.

use super::certificates::Identity;
use super::service;
use super::settings::{PAUSE, Pace, Setting};
use super::world::{NAME, Region, World};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// Where the parts of one region listen, before any relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub peer: SocketAddr,
    pub admin: SocketAddr,
    pub service: SocketAddr,
}

/// All that the file of one region says.
pub struct EdgeConfig<'a> {
    pub world: &'a World,
    pub own: Region,
    pub machine: Machine,
    /// Port of the relays in front of the http listeners, the same in every region.
    pub public_port: u16,
    /// Where this edge finds each region's peer listener: its relays.
    pub ways: &'a [SocketAddr],
    pub server: &'a Identity,
    pub peer: &'a Identity,
    pub ca: &'a Path,
    pub zone_id: &'a str,
    pub dns_endpoint: SocketAddr,
    pub settings: &'a [Setting],
    pub pace: Pace,
}

/// Name that a region's peer certificate carries.
pub fn peer_name(region: &str) -> String {
    format!("peer.{region}.example.test")
}

impl EdgeConfig<'_> {
    /// The file's text.
    pub fn toml(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail; `all` keeps the one place that would say so.
        if self.all(&mut text).is_err() {
            text.clear();
        }
        text
    }

    fn all(&self, text: &mut String) -> std::fmt::Result {
        self.listeners(text)?;
        for region in self.world.regions() {
            self.region(text, region)?;
        }
        self.service(text)?;
        writeln!(text, "[[routes]]\nname = \"web\"\nservice = \"web\"\n")?;
        writeln!(
            text,
            "[names.{NAME:?}]\nform = \"global\"\nservices = [\"web\"]\nttl = \"{}s\"\n",
            self.pace.ttl().as_secs()
        )?;
        for table in ["probes", "ejection", "failover", "dns"] {
            self.table(text, table)?;
        }
        Ok(())
    }

    fn listeners(&self, text: &mut String) -> std::fmt::Result {
        let own = self.world.name(self.own);
        writeln!(text, "# Written by `proxima demo`.\n[edge]\nregion = {own:?}\n")?;
        for (name, address) in [("http", self.machine.http), ("https", self.machine.https)] {
            writeln!(
                text,
                "[[listeners]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"{name}\"\n"
            )?;
        }
        let Identity { certificate, key } = self.server;
        writeln!(text, "[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n")?;
        let Identity { certificate, key } = self.peer;
        writeln!(text, "[peer]\naddress = \"{}\"", self.machine.peer)?;
        writeln!(text, "certificate = {certificate:?}\nkey = {key:?}\nca = {:?}\n", self.ca)?;
        writeln!(text, "[admin]\naddress = \"{}\"\n", self.machine.admin)
    }

    fn region(&self, text: &mut String, region: Region) -> std::fmt::Result {
        let name = self.world.name(region);
        let way = self.ways.get(region.index()).copied().unwrap_or(self.machine.peer);
        writeln!(text, "[regions.{name}]\npeer = \"{way}\"\nserver_name = \"{}\"", peer_name(name))?;
        writeln!(text, "addresses = [\"{}\"]\nhealth_port = {}\n", region.public(), self.public_port)
    }

    fn service(&self, text: &mut String) -> std::fmt::Result {
        let (own, address) = (self.world.name(self.own), self.machine.service);
        writeln!(text, "# The service pauses for {} ms in each answer.\n[services.web]", PAUSE.as_millis())?;
        writeln!(text, "endpoints.{own} = [\"{address}\"]\nhealth.path = \"{}\"\n", service::HEALTH_PATH)
    }

    /// The settings of one table that differ from their defaults.
    fn table(&self, text: &mut String, table: &str) -> std::fmt::Result {
        writeln!(text, "[{table}]")?;
        if table == "dns" {
            writeln!(text, "zone_id = {:?}\nendpoint = \"http://{}\"", self.zone_id, self.dns_endpoint)?;
        }
        for setting in self.settings {
            let Some((of, key)) = setting.key.split_once('.') else { continue };
            if of == table && setting.value.parse::<f64>().is_ok() {
                writeln!(text, "{key} = {}", setting.value)?;
            } else if of == table {
                writeln!(text, "{key} = {:?}", setting.value)?;
            }
        }
        writeln!(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};
    use crate::demo::certificates::Authority;
    use crate::demo::children::Folder;
    use crate::demo::settings::differing;
    use crate::demo::world::{REGIONS_MAX, REGIONS_MIN};

    fn parsed(world: &World, own: Region, pace: Pace) -> Config {
        let settings = &differing(world, pace);
        let folder = Folder::new().unwrap();
        let authority = Authority::new(folder.path()).unwrap();
        let ca = authority.write().unwrap();
        let identity = authority.identity("any", vec![peer_name(world.name(own))]).unwrap();
        let at = |port| SocketAddr::from((own.machine(), port));
        let ways: Vec<SocketAddr> = world.regions().map(|to| (own.way_to(to), 7000).into()).collect();
        let text = EdgeConfig {
            world,
            own,
            machine: Machine { http: at(1), https: at(2), peer: at(3), admin: at(4), service: at(5) },
            public_port: 8080,
            ways: &ways,
            server: &identity,
            peer: &identity,
            ca: &ca,
            zone_id: "Z0123456789ABCDEFGHIJ",
            dns_endpoint: at(6),
            settings,
            pace,
        }
        .toml();
        Config::from_text("demo.toml", &text, &Environment::default())
            .unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
    }

    #[test]
    fn every_edge_of_every_world_gets_a_valid_file_and_all_agree_on_policy() {
        for size in [REGIONS_MIN, 5, REGIONS_MAX] {
            let world = World::new(size).unwrap();
            for pace in [Pace::Minute, Pace::Defaults] {
                let hash = |own| parsed(&world, own, pace).policy.agreement_hash();
                let mut hashes: Vec<u64> = world.regions().map(hash).collect();
                hashes.dedup();
                assert_eq!(hashes.len(), 1, "{size} regions: edges that disagree never move DNS");
            }
        }
    }

    #[test]
    fn the_printed_settings_are_those_that_the_edges_run_with() {
        let world = World::new(5).unwrap();
        let own = world.regions().next().unwrap();
        let config = parsed(&world, own, Pace::Minute);
        let failover = &config.policy.failover;
        assert_eq!(failover.hold_down.as_secs(), 3);
        assert_eq!(config.policy.health.fall, 2);
        assert_eq!(config.probes.timeout.as_millis(), 950);
        assert!((failover.max_shift - 0.34).abs() < 1e-9);
        assert!(config.names.values().all(|name| name.ttl == Pace::Minute.ttl()));
    }
}
