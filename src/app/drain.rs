//! The end of the process: not ready, then not accepting, then nothing left.

use super::signals::Asked;
use super::tasks::How;
use super::{App, DNS, PROXY};
use crate::domain::fleet::Input;
use crate::proxy::Phase;
use std::process::ExitCode;
use tokio::time::{Instant, sleep_until};

impl App {
    /// Drains and tells the exit code.
    ///
    /// Success as soon as nothing is left, and at the deadline too (with a
    /// warning that says what was cut): a supervisor that asked for the end got it.
    pub(super) async fn drain(&mut self) -> ExitCode {
        let drain = self.config.borrow().drain.clone();
        let closing = Instant::now() + drain.notice;
        let deadline = closing + drain.deadline;
        self.draining.send_replace(true);
        // Other regions read it off the view. A core that is overrun has no time to tell them.
        if self.inputs.try_send(Input::Leaving).is_err() {
            tracing::warn!("the core is busy: other regions are not told that this edge ends");
        }
        self.phase.send_replace(Phase::Draining);
        loop {
            let phase = *self.phase.borrow();
            let next = if phase == Phase::Closing { deadline } else { closing };
            tokio::select! {
                asked = self.signals.next() => match asked {
                    Asked::Stop(signal) => {
                        tracing::warn!(signal, left = ?self.edge.activity(), "a second signal: exit at once");
                        return ExitCode::FAILURE;
                    }
                    Asked::Reload => tracing::info!("draining: not reloaded"),
                },
                ended = self.tasks.ended() => {
                    let expected = match ended.name {
                        DNS => ended.how == How::Returned,
                        PROXY => ended.how == How::Returned && phase == Phase::Closing,
                        _ => false,
                    };
                    if !expected {
                        // The others are not needed to finish what is in flight.
                        tracing::error!(task = ended.name, how = %ended.how, "a vital task ended while draining");
                    }
                    if ended.name == PROXY && !expected {
                        return ExitCode::FAILURE;
                    }
                    if !self.tasks.running(PROXY) && !self.tasks.running(DNS) {
                        tracing::info!("drained");
                        return ExitCode::SUCCESS;
                    }
                }
                () = sleep_until(next) => {
                    if phase == Phase::Closing {
                        tracing::warn!(left = ?self.edge.activity(), "drain deadline: cut off");
                        return ExitCode::SUCCESS;
                    }
                    tracing::info!(left = ?self.edge.activity(), "closing");
                    self.phase.send_replace(Phase::Closing);
                }
            }
        }
    }
}
