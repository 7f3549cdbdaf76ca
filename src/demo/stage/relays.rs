//! Every relay of the world: in front of each region, and between every two.

use super::Error;
use crate::demo::edge_config::Machine;
use crate::demo::relay::{Hole, Relay};
use crate::demo::world::World;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Attempts to find one port that is free on every region's address.
const PORT_ATTEMPTS: usize = 20;

/// Relays being set up.
pub(super) struct Relays<'a> {
    pub(super) world: &'a Arc<World>,
    pub(super) machines: &'a [Machine],
    pub(super) holes: &'a [Hole],
    pub(super) tasks: JoinSet<()>,
}

impl Relays<'_> {
    /// In front of every region's listener, all on one port: the nice one if it is free.
    pub(super) async fn public(
        &mut self,
        nice: u16,
        target: fn(&Machine) -> SocketAddr,
    ) -> Result<u16, Error> {
        let (port, listeners) = self.same_port(nice).await?;
        for (to, listener) in self.world.regions().zip(listeners) {
            let Some((machine, hole)) = self.machines.get(to.index()).zip(self.holes.get(to.index())) else {
                continue;
            };
            let world = Arc::clone(self.world);
            let relay = Relay {
                listener,
                target: target(machine),
                rtt: Arc::new(move |from| world.rtt_from(from, to)),
                silences: vec![hole.watch()],
            };
            self.tasks.spawn(relay.run());
        }
        Ok(port)
    }

    async fn same_port(&self, nice: u16) -> Result<(u16, Vec<TcpListener>), Error> {
        let mut port = nice;
        'port: for _ in 0..PORT_ATTEMPTS {
            let mut listeners = Vec::new();
            for region in self.world.regions() {
                let Ok(listener) = TcpListener::bind((region.public(), port)).await else {
                    port = 0;
                    continue 'port;
                };
                if port == 0 {
                    let bound = listener.local_addr();
                    let address = region.public().into();
                    port = bound.map_err(|source| Error::Bind { address, source })?.port();
                }
                listeners.push(listener);
            }
            return Ok((port, listeners));
        }
        Err(Error::NoPort)
    }

    /// Between every two edges, one for each way: `[from][to]`. The own one has no relay.
    pub(super) async fn between(&mut self) -> Result<Vec<Vec<SocketAddr>>, Error> {
        let mut all = Vec::new();
        for from in self.world.regions() {
            let mut ways = Vec::new();
            for (to, machine) in self.world.regions().zip(self.machines) {
                if to == from {
                    ways.push(machine.peer);
                    continue;
                }
                let address = from.way_to(to);
                let failed = |source| Error::Bind { address: address.into(), source };
                let listener = TcpListener::bind((address, 0)).await.map_err(failed)?;
                ways.push(listener.local_addr().map_err(failed)?);
                let rtt = self.world.rtt(from, to);
                let ends = [from, to].into_iter().filter_map(|r| self.holes.get(r.index()));
                let relay = Relay {
                    listener,
                    target: machine.peer,
                    rtt: Arc::new(move |_| rtt),
                    silences: ends.map(Hole::watch).collect(),
                };
                self.tasks.spawn(relay.run());
            }
            all.push(ways);
        }
        Ok(all)
    }
}
