//! Signals of the operating system.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Receives SIGTERM and SIGINT (end), and SIGHUP (reload).
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// # Errors
    /// When the handlers can't be installed.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM or SIGINT, by name.
    Stop(&'static str),
    /// SIGHUP.
    Reload,
}

impl Signals {
    /// The next signal; for ever pending when the system delivers none any more.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            Some(()) = self.terminate.recv() => Asked::Stop("SIGTERM"),
            Some(()) = self.interrupt.recv() => Asked::Stop("SIGINT"),
            Some(()) = self.hang_up.recv() => Asked::Reload,
            else => std::future::pending().await,
        }
    }
}
