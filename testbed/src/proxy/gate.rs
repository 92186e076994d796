//! Holding requests until a test lets them go.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::watch;

use super::Recorded;

/// What becomes of held requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Verdict {
    #[default]
    Wait,
    Go,
    Discard,
}

#[derive(Default)]
pub(super) struct Gate {
    arrived: watch::Sender<Vec<Recorded>>,
    verdict: watch::Sender<Verdict>,
}

impl Gate {
    pub(super) fn is_open(&self) -> bool {
        *self.verdict.borrow() != Verdict::Wait
    }

    /// Waits for the verdict; true to go on.
    pub(super) async fn pass(&self, request: &Recorded) -> bool {
        self.arrived.send_modify(|all| all.push(request.clone()));
        let mut verdict = self.verdict.subscribe();
        let verdict = verdict.wait_for(|v| *v != Verdict::Wait).await;
        !matches!(verdict.as_deref(), Ok(Verdict::Discard))
    }
}

/// A place where matching requests wait. Dropping it releases them.
pub struct Hold {
    gate: Arc<Gate>,
}

impl Hold {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// Waits until a request is held and returns the first one.
    pub async fn wait_arrived(&self, timeout: Duration) -> Result<Recorded> {
        let mut arrived = self.gate.arrived.subscribe();
        let first = tokio::time::timeout(timeout, arrived.wait_for(|all| !all.is_empty()))
            .await
            .with_context(|| format!("no request came to be held within {timeout:?}"))?
            .context("the proxy has stopped")?;
        first.first().cloned().context("nothing is held")
    }

    /// The requests held so far.
    pub fn arrived(&self) -> Vec<Recorded> {
        self.gate.arrived.borrow().clone()
    }

    /// Lets everything go on and holds nothing any more.
    pub fn release(&self) {
        self.decide(Verdict::Go);
    }

    /// Closes the connections of what is held: a held request never reaches upstream, a held
    /// answer never its sender. Holds nothing any more.
    pub fn discard(&self) {
        self.decide(Verdict::Discard);
    }

    /// The first decision stands.
    fn decide(&self, verdict: Verdict) {
        self.gate.verdict.send_if_modified(|current| {
            let first = *current == Verdict::Wait;
            if first {
                *current = verdict;
            }
            first
        });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}
