//! What this pod may do at the API server, asked without doing it (SelfSubjectAccessReview).

use super::{Access, Error};
use crate::config::Config;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A right that an edge with a configuration needs.
#[derive(Debug)]
pub struct Right {
    pub verb: &'static str,
    pub resource: &'static str,
    pub namespace: String,
    /// Why it is not known, or whether it is there.
    pub allowed: Result<bool, Error>,
}

/// Asks for each right that an edge with this configuration needs; none without `[kubernetes]`.
pub async fn rights(access: &Access, config: &Config) -> Vec<Right> {
    let Some(settings) = &config.kubernetes else { return Vec::new() };
    let services = config.services.values().filter_map(|service| service.kubernetes.as_ref());
    let namespaces: BTreeSet<&str> = services.map(|service| service.namespace.as_str()).collect();
    let slices = namespaces.into_iter().flat_map(|namespace| {
        ["list", "watch"].map(|verb| (verb, ("discovery.k8s.io", "endpointslices"), namespace, None))
    });
    let lease = settings.lease.iter().flat_map(|name| {
        // What does not exist yet cannot be named.
        [("get", Some(name)), ("update", Some(name)), ("create", None)].map(|(verb, name)| {
            (verb, ("coordination.k8s.io", "leases"), access.namespace.as_str(), name.cloned())
        })
    });
    let mut rights = Vec::new();
    for (verb, (group, resource), namespace, name) in slices.chain(lease) {
        let attributes = ResourceAttributes {
            group: Some(group.to_owned()),
            name,
            namespace: Some(namespace.to_owned()),
            resource: Some(resource.to_owned()),
            verb: Some(verb.to_owned()),
            ..ResourceAttributes::default()
        };
        let allowed = ask(access, attributes).await;
        rights.push(Right { verb, resource, namespace: namespace.to_owned(), allowed });
    }
    rights
}

async fn ask(access: &Access, attributes: ResourceAttributes) -> Result<bool, Error> {
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(access.client.clone());
    let answer = timeout(PATIENCE, reviews.create(&PostParams::default(), &review)).await;
    let answer = answer.map_err(|_| Error::Timeout(PATIENCE))??;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
