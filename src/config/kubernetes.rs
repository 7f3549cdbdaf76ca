//! The cluster that the edge runs in: how its API is reached, and what is taken from it.

use crate::config::file::FromFile;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Kubernetes is on where this is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// How the API is reached from outside of the cluster; `None`: by the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Of this pod; `None`: that of the service account, or of the kubeconfig's context.
    pub namespace: Option<String>,
    /// The Lease, in that namespace, that tells which pod of the region speaks for it; `None`: the
    /// pods find that out among themselves.
    pub lease: Option<String>,
    /// How long that is held without being renewed. Whole seconds.
    pub lease_duration: Duration,
}

impl Default for Kubernetes {
    /// As an empty section.
    fn default() -> Self {
        Self { kubeconfig: None, namespace: None, lease: None, lease_duration: Duration::from_secs(15) }
    }
}

/// Where a service's endpoints are told in the region's cluster: a port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterService {
    pub namespace: String,
    pub name: String,
    pub port: SlicePort,
}

/// A port of EndpointSlices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlicePort {
    /// As the Service calls it.
    Name(String),
    /// As the pods listen on it.
    Number(u16),
}

impl fmt::Display for ClusterService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:", self.namespace, self.name)?;
        match &self.port {
            SlicePort::Name(name) => f.write_str(name),
            SlicePort::Number(number) => write!(f, "{number}"),
        }
    }
}

impl FromFile for ClusterService {
    const RULE: &'static str = r#"a Service and its port, by name or by the number that pods listen on, such as "shop/web:http" or "shop/web:8080""#;

    fn from_text(text: &str) -> Option<Self> {
        let (namespace, rest) = text.split_once('/')?;
        let (name, port) = rest.split_once(':')?;
        let port = if port.bytes().all(|b| b.is_ascii_digit()) {
            SlicePort::Number(port.parse().ok().filter(|port| *port > 0)?)
        } else {
            SlicePort::Name(label(port)?)
        };
        Some(Self { namespace: label(namespace)?, name: label(name)?, port })
    }
}

/// A namespace.
#[derive(Debug, Clone)]
pub(super) struct Namespace(pub(super) String);

impl FromFile for Namespace {
    const RULE: &'static str =
        r#"the name of a namespace: 1 to 63 lower-case letters, digits and hyphens, such as "proxima""#;

    fn from_text(text: &str) -> Option<Self> {
        label(text).map(Self)
    }
}

/// A Kubernetes object of which many kinds have names with dots.
#[derive(Debug, Clone)]
pub(super) struct ObjectName(pub(super) String);

impl FromFile for ObjectName {
    const RULE: &'static str = r#"the name of an object: lower-case letters, digits, hyphens and dots, 253 at most, such as "proxima""#;

    fn from_text(text: &str) -> Option<Self> {
        let right = text.len() <= 253 && text.split('.').all(|part| label(part).is_some());
        right.then(|| Self(text.to_owned()))
    }
}

/// Source: RFC 1123 as Kubernetes reads it, "Object Names and IDs".
fn label(text: &str) -> Option<String> {
    let right = (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    right.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_namespace_name_and_port_by_name_or_number() {
        for (text, right) in [
            ("shop/web:http", true),
            ("shop/web:8080", true),
            ("shop/web:8080x", true),
            ("s/w:1", true),
            ("shop/web", false),
            ("web:http", false),
            ("shop/web:", false),
            ("shop/web:0", false),
            ("shop/web:65536", false),
            ("shop/web:Http", false),
            ("shop/web/http:80", false),
            ("/web:80", false),
            ("shop/:80", false),
            ("shop/web.x:80", false),
            ("shop/-web:80", false),
        ] {
            let read = ClusterService::from_text(text);
            assert_eq!(read.is_some(), right, "{text:?}");
            if let Some(read) = read {
                assert_eq!(read.to_string(), text);
            }
        }
        let number = ClusterService::from_text("shop/web:8080").map(|service| service.port);
        assert_eq!(number, Some(SlicePort::Number(8080)));
    }

    #[test]
    fn names_of_objects_have_dots_and_namespaces_have_none() {
        for (text, namespace, object) in [
            ("proxima", true, true),
            ("proxima.eu", false, true),
            ("proxima..eu", false, false),
            ("", false, false),
            ("Proxima", false, false),
        ] {
            assert_eq!(Namespace::from_text(text).is_some(), namespace, "{text:?}");
            assert_eq!(ObjectName::from_text(text).is_some(), object, "{text:?}");
        }
    }
}
