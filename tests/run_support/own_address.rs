//! Addresses of one test's own.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

/// A loopback address that no other test of this or another process uses, nor any connection begins at.
pub fn loopback() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let next = u8::try_from(NEXT.fetch_add(1, Ordering::Relaxed) % 200 + 2).unwrap();
    Ipv4Addr::new(127, 64 + high % 64, low, next)
}
