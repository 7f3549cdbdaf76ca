//! What passes between regions: paths, headers, and the size bound of a view.
//!
//! Believed on the peer listener (mutual TLS) only, and stripped everywhere
//! else. A forwarded request is served or refused with a typed 503; it is
//! never forwarded again, so loops and cascades cannot form.

mod board;

pub use board::Board;

/// Path of the probe on the peer listener; answers the region's view as JSON.
pub const VIEW_PATH: &str = "/.proxima/view";
/// Largest view in bytes that is read: 1,000 names x 30 regions of votes take about 900 kB. What
/// would need more is refused with the configuration, or every peer of this edge would be blind.
pub const VIEW_BYTES_MAX: usize = 1024 * 1024;
/// Path on the peer listener at which the pods of a region ask one another who speaks for it; answers
/// a [`crate::lease::SiblingWord`] as JSON. A POST tells a [`crate::lease::load::PodLoad`], too.
pub const SIBLING_PATH: &str = "/.proxima/sibling";
/// Largest answer to a sibling in bytes that is read: the views of 33 regions with 250 kB each. A holder
/// whose word is larger is not followed: each pod then measures for itself.
pub const SIBLING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest word of a sibling's load in bytes that is read. What a service takes of it is less than what it takes of
/// a view, whose size the configuration keeps within [`VIEW_BYTES_MAX`].
pub const LOAD_BYTES_MAX: usize = VIEW_BYTES_MAX;
/// On a forwarded request: the region that forwarded it.
pub const FORWARDED_BY: &str = "x-proxima-forwarded-by";
/// On a forwarded request: the service that the first edge chose.
pub const SERVICE: &str = "x-proxima-service";
/// On a forwarded request: the priority of its route, which stays with the first edge.
pub const PRIORITY: &str = "x-proxima-priority";
/// On a forwarded request: the client's address as the first edge knows it. `X-Forwarded-For` may
/// end with a proxy's.
pub const CLIENT: &str = "x-proxima-client";
/// On a typed 503: why (`no_service` or `no_room`); its presence makes the 503 typed.
pub const REFUSED: &str = "x-proxima-refused";
/// On a request of a client that is trusted: `1` asks why it goes where it goes; the answer has it.
pub const EXPLAIN: &str = "x-proxima-explain";
/// Every internal header starts with this; clients' are stripped.
pub const INTERNAL_PREFIX: &str = "x-proxima-";
