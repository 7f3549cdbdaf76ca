//! The cluster that the edge runs in, and the services whose endpoints it tells.

use crate::config::file::{File, Section, ServiceSection};
use crate::config::problems::Problem;
use crate::config::report::Report;
use crate::config::{ClusterService, Kubernetes};
use crate::domain::name::ServiceId;
use std::path::Path;

pub(super) fn kubernetes(file: &File, folder: &Path) -> Option<Kubernetes> {
    let stated = file.kubernetes.as_ref()?.get_ref();
    Some(Kubernetes {
        kubeconfig: stated.kubeconfig.as_ref().map(|placed| folder.join(&placed.value.0)),
        namespace: stated.namespace.as_ref().map(|placed| placed.value.0.clone()),
        lease: stated.lease.as_ref().map(|placed| placed.value.0.clone()),
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
