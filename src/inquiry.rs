//! Questions that people have for the core, and their way to it.
//!
//! The control task alone owns the core, so it answers, between two inputs. A bounded queue and a
//! bound on the wait: whoever asks too much is told so, and the core has better things to do.

use crate::domain::explain::{Explanation, NameExplanation, Question};
use crate::domain::name::DnsName;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Questions that may wait.
const WAITING: usize = 16;
/// For an answer, which takes the core less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);

/// A question, and where the answer goes.
#[derive(Debug)]
pub enum Inquiry {
    Request {
        question: Box<Question>,
        answer: oneshot::Sender<Box<Explanation>>,
    },
    /// Answered with `None` when the configuration has no such name.
    Name {
        name: DnsName,
        answer: oneshot::Sender<Option<Box<NameExplanation>>>,
    },
}

/// Whoever asks.
#[derive(Debug, Clone)]
pub struct Inquiries(mpsc::Sender<Inquiry>);

/// There was no answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the core does not answer: it is busy, or has ended")]
pub struct Unanswered;

impl Inquiries {
    /// Both ends.
    pub fn new() -> (Self, mpsc::Receiver<Inquiry>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// What becomes of a request.
    ///
    /// # Errors
    /// `Unanswered`.
    pub async fn request(&self, question: Question) -> Result<Explanation, Unanswered> {
        let (answer, received) = oneshot::channel();
        self.ask(Inquiry::Request { question: Box::new(question), answer }, received).await.map(|told| *told)
    }

    /// What is decided of a DNS name.
    ///
    /// # Errors
    /// `Unanswered`.
    pub async fn name(&self, name: DnsName) -> Result<Option<NameExplanation>, Unanswered> {
        let (answer, received) = oneshot::channel();
        self.ask(Inquiry::Name { name, answer }, received).await.map(|told| told.map(|told| *told))
    }

    async fn ask<T>(&self, inquiry: Inquiry, answer: oneshot::Receiver<T>) -> Result<T, Unanswered> {
        self.0.try_send(inquiry).map_err(|_| Unanswered)?;
        timeout(PATIENCE, answer).await.map_err(|_| Unanswered)?.map_err(|_| Unanswered)
    }
}
