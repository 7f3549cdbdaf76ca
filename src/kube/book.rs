//! What is kept of a namespace's EndpointSlices. Pure.
//!
//! A listing is gathered in a book of its own, which takes the place of the old one when it is whole: there is no
//! moment in which endpoints are missing because a listing has begun.

use super::endpoints::{Found, Slice, merge};
use crate::config::ClusterService;
use crate::domain::name::Zone;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet};

/// Slices of a namespace that are kept; a slice of the controller has up to 100 endpoints.
const SLICES_MAX: usize = 4096;
/// Source: Kubernetes, "EndpointSlices", ownership and labels.
const SERVICE: &str = "kubernetes.io/service-name";
/// Longest list of names that is put into a question; proxies refuse long ones.
const SELECTOR_MAX: usize = 4096;

/// Slices by their names, each with the service that it belongs to.
#[derive(Debug, Default)]
pub(super) struct Book {
    slices: BTreeMap<String, (String, Slice)>,
    /// Slices that had no room.
    left_out: usize,
}

impl Book {
    /// Takes in a slice that is new or has changed; the services that this concerns.
    pub(super) fn apply(&mut self, slice: &EndpointSlice, wanted: &BTreeSet<String>) -> BTreeSet<String> {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let mut concerned = self.remove(slice);
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE));
        let Some(service) = service.filter(|service| wanted.contains(*service)) else { return concerned };
        let Some(read) = Slice::read(slice) else { return concerned };
        if self.slices.len() >= SLICES_MAX {
            self.left_out = self.left_out.saturating_add(1);
            return concerned;
        }
        self.slices.insert(name.to_owned(), (service.clone(), read));
        concerned.insert(service.clone());
        concerned
    }

    /// Takes out a slice; the services that this concerns.
    pub(super) fn remove(&mut self, slice: &EndpointSlice) -> BTreeSet<String> {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        self.slices.remove(name).map(|(service, _)| service).into_iter().collect()
    }

    /// What the slices of a service come to, for an edge in zone `own`.
    pub(super) fn found(&self, service: &ClusterService, own: Option<&Zone>) -> Found {
        let slices = self.slices.values().filter(|(of, _)| *of == service.name).map(|(_, slice)| slice);
        merge(slices, &service.port, own)
    }

    pub(super) fn len(&self) -> usize {
        self.slices.len()
    }

    pub(super) const fn left_out(&self) -> usize {
        self.left_out
    }
}

/// The label selector by which the API is asked for the slices of these services.
pub(super) fn selector(services: &BTreeSet<String>) -> String {
    let names: Vec<&str> = services.iter().map(String::as_str).collect();
    let named = format!("{SERVICE} in ({})", names.join(","));
    if named.len() <= SELECTOR_MAX { named } else { SERVICE.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SlicePort;
    use serde_json::json;

    fn slice(name: &str, service: Option<&str>, address: &str) -> EndpointSlice {
        let labels = service.map(|service| json!({ SERVICE: service })).unwrap_or_default();
        serde_json::from_value(json!({
            "metadata": { "name": name, "labels": labels }, "addressType": "IPv4",
            "ports": [{ "name": "http", "port": 80 }], "endpoints": [{ "addresses": [address] }],
        }))
        .unwrap()
    }

    fn names(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(|name| (*name).to_owned()).collect()
    }

    fn found(book: &Book, service: &str) -> Vec<String> {
        let port = SlicePort::Name("http".to_owned());
        let of = ClusterService { namespace: "shop".to_owned(), name: service.to_owned(), port };
        book.found(&of, None).addresses.iter().map(|at| at.ip().to_string()).collect()
    }

    #[test]
    fn a_change_concerns_the_services_whose_slices_it_touches() {
        let (mut book, wanted) = (Book::default(), names(&["web", "cart"]));
        assert_eq!(book.apply(&slice("a", Some("web"), "10.0.0.1"), &wanted), names(&["web"]));
        assert_eq!(book.apply(&slice("b", Some("web"), "10.0.0.2"), &wanted), names(&["web"]));
        assert_eq!(found(&book, "web"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(book.apply(&slice("b", Some("web"), "10.0.0.3"), &wanted), names(&["web"]));
        assert_eq!(found(&book, "web"), ["10.0.0.1", "10.0.0.3"]);
        let moved = book.apply(&slice("b", Some("cart"), "10.0.0.3"), &wanted);
        assert_eq!(moved, names(&["cart", "web"]), "its label has changed");
        assert_eq!(
            (found(&book, "web"), found(&book, "cart")),
            (vec!["10.0.0.1".to_owned()], vec!["10.0.0.3".to_owned()])
        );
        assert_eq!(book.remove(&slice("a", Some("web"), "10.0.0.1")), names(&["web"]));
        assert_eq!(found(&book, "web"), Vec::<String>::new());
        assert_eq!(book.remove(&slice("a", Some("web"), "10.0.0.1")), names(&[]));
    }

    #[test]
    fn slices_of_services_that_nobody_named_are_not_kept() {
        let (mut book, wanted) = (Book::default(), names(&["web"]));
        assert_eq!(book.apply(&slice("a", Some("other"), "10.0.0.1"), &wanted), names(&[]));
        assert_eq!(book.apply(&slice("b", None, "10.0.0.1"), &wanted), names(&[]));
        assert_eq!(book.len(), 0);
        book.apply(&slice("a", Some("web"), "10.0.0.1"), &wanted);
        assert_eq!(book.apply(&slice("a", None, "10.0.0.1"), &wanted), names(&["web"]), "it has left");
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn a_book_is_bounded_and_counts_what_has_no_room() {
        let (mut book, wanted) = (Book::default(), names(&["web"]));
        for n in 0..SLICES_MAX + 3 {
            book.apply(&slice(&format!("s{n}"), Some("web"), "10.0.0.1"), &wanted);
        }
        assert_eq!((book.len(), book.left_out()), (SLICES_MAX, 3));
        book.apply(&slice("s0", Some("web"), "10.0.0.2"), &wanted);
        assert_eq!(found(&book, "web"), ["10.0.0.1", "10.0.0.2"], "one that is kept can change");
    }

    #[test]
    fn the_api_is_asked_for_the_named_services_unless_they_are_too_many() {
        assert_eq!(selector(&names(&["web", "cart"])), "kubernetes.io/service-name in (cart,web)");
        let many: BTreeSet<String> = (0..500).map(|n| format!("service-{n}")).collect();
        assert_eq!(selector(&many), "kubernetes.io/service-name");
    }
}
