//! The cluster that the edge runs in, and the services whose endpoints it tells.

use crate::config::file::{File, Section, ServiceSection};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::{ClusterService, Kubernetes};
use crate::domain::name::ServiceId;
use crate::lease::claim::LASTS;
use std::path::Path;

pub(super) fn kubernetes(file: &File, folder: &Path, report: &mut Report) -> Option<Kubernetes> {
    let stated = file.kubernetes.as_ref()?.get_ref();
    let default = Kubernetes::default();
    let path = "kubernetes.lease_duration";
    let lease_duration = report.duration(path, &stated.lease_duration, LASTS, default.lease_duration);
    // The record holds no other.
    if let Some(placed) = stated.lease_duration.as_ref().filter(|placed| placed.value.subsec_nanos() > 0) {
        let problem = Problem::at(&placed.span, format!("wrong value for `{path}`")).here("no whole seconds");
        report.add(problem.right("expected whole seconds, such as \"15s\""));
    }
    let siblings = file.edge.as_ref().is_some_and(|edge| edge.get_ref().siblings.is_some());
    if let Some(placed) = stated.lease.as_ref().filter(|_| !siblings && !report.damaged("edge")) {
        let problem = Problem::at(&placed.span, "`kubernetes.lease` without `edge.siblings`")
            .here("nobody would hear what its holder measures, nor elect one while the API is away");
        report.add(problem.right("expected `siblings` in [edge], the name of all pods of a region"));
    }
    Some(Kubernetes {
        kubeconfig: stated.kubeconfig.as_ref().map(|placed| folder.join(&placed.value.0)),
        namespace: stated.namespace.as_ref().map(|placed| placed.value.0.clone()),
        lease: stated.lease.as_ref().map(|placed| placed.value.0.clone()),
        lease_duration,
    })
}

/// What the cluster is asked for a service's endpoints.
pub(super) fn service(
    id: &ServiceId,
    section: &Section<ServiceSection>,
    file: &File,
    report: &mut Report,
) -> Option<ClusterService> {
    let stated = section.get_ref().kubernetes.as_ref()?;
    if let Some(endpoints) = &section.get_ref().endpoints {
        let problem = Problem::at(&stated.span, format!("service `{id}` has its endpoints twice"))
            .here("told by the cluster")
            .also(&endpoints.span(), "listed here");
        report.add(problem.right("expected either `kubernetes` or `endpoints`"));
    }
    if file.kubernetes.is_none() && !report.damaged("kubernetes") {
        let problem = Problem::at(&stated.span, format!("`services.{id}.kubernetes` without [kubernetes]"))
            .here("nobody would ask the cluster");
        report.add(problem.right("expected a [kubernetes] section; an empty one is enough in a pod"));
    }
    Some(stated.value.clone())
}
