//! What a pod learns of its own region: addresses of names, endpoints of the cluster, who speaks for it.

use super::{App, Parts};
use crate::domain::fleet::Input;
use crate::kube::{lease, slices};
use crate::lease::claim::Ruling;
use crate::probe::siblings;
use crate::resolve;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

impl App {
    /// Looks names up, follows the cluster, and finds out who among the region's pods speaks for it; what the
    /// Lease says of that.
    pub(super) fn spawn_region(
        &mut self,
        parts: &Parts,
        inputs: &mpsc::Sender<Input>,
    ) -> watch::Receiver<Ruling> {
        let (siblings, addresses) = watch::channel(Vec::new());
        let (ruling_sender, ruling) = watch::channel(lease::first_ruling(&self.config.borrow()));
        let lease = lease::Wiring {
            config: self.config.clone(),
            addresses: addresses.clone(),
            ruling: ruling_sender,
            board: Arc::clone(&parts.board),
            clock: parts.clock,
            boot: parts.boot,
            draining: self.draining.subscribe(),
            metrics: parts.lease_metrics.clone(),
        };
        let voice = siblings::Wiring {
            config: self.config.clone(),
            addresses,
            ruling: ruling.clone(),
            inputs: inputs.clone(),
            board: Arc::clone(&parts.board),
            clock: parts.clock,
            boot: parts.boot,
            metrics: parts.control_metrics.clone(),
        };
        let resolver = resolve::Wiring {
            config: self.config.clone(),
            inputs: inputs.clone(),
            siblings,
            metrics: parts.control_metrics.clone(),
        };
        let slices = slices::Wiring {
            config: self.config.clone(),
            inputs: inputs.clone(),
            metrics: parts.kube_metrics.clone(),
        };
        self.tasks.spawn("kube", slices::run(slices));
        self.tasks.spawn("kube lease", lease::run(lease));
        self.tasks.spawn("lease", siblings::run(voice));
        self.tasks.spawn("resolve", resolve::run(resolver));
        ruling
    }
}
