//! Watches: answers that flow as long as both sides like.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, stream};
use tokio::sync::watch;

use super::answer::{Closed, broken_off};
use super::{Predicate, Recorded, State};

/// Longer than any test; upstream ends a watch when it likes.
pub(super) const LASTS: Duration = Duration::from_hours(24);

/// What is done to all watches together.
#[derive(Default)]
pub(super) struct Switch {
    /// Which ones are frozen.
    frozen: Option<Predicate>,
    /// How often the open ones were closed.
    closed: u64,
}

impl Switch {
    pub(super) fn freeze(&mut self, which: Option<Predicate>) {
        self.frozen = which;
    }

    pub(super) fn close(&mut self) {
        self.closed += 1;
    }

    fn freezes(&self, record: &Recorded) -> bool {
        self.frozen.as_ref().is_some_and(|matches| matches(record))
    }
}

/// One watch, from the moment its answer has begun.
pub(super) struct Flow {
    pub(super) state: Arc<State>,
    pub(super) key: u64,
    pub(super) record: Recorded,
    pub(super) answer: reqwest::Response,
    /// After how many bytes it is broken off, if it is.
    pub(super) left: Option<usize>,
}

impl Flow {
    /// Passes on each part as it comes.
    pub(super) fn stream(self) -> impl Stream<Item = Result<Bytes, Closed>> + Send + 'static {
        let switch = self.state.switch.subscribe();
        let closed = switch.borrow().closed;
        stream::unfold((self, switch, closed), async |(mut flow, mut switch, closed)| {
            let part = flow.next(&mut switch, closed).await?;
            Some((part, (flow, switch, closed)))
        })
    }

    async fn next(&mut self, switch: &mut watch::Receiver<Switch>, closed: u64) -> Option<Result<Bytes, Closed>> {
        match self.part(switch, closed).await {
            Ok(part) => part.map(Ok),
            Err(Closed) => Some(Err(broken_off().await)),
        }
    }

    /// The next bytes, or the end that upstream meant.
    async fn part(&mut self, switch: &mut watch::Receiver<Switch>, closed: u64) -> Result<Option<Bytes>, Closed> {
        if self.left == Some(0) {
            return Err(Closed);
        }
        let mut closing = switch.clone();
        let part = tokio::select! {
            biased;
            _ = closing.wait_for(|now| now.closed != closed) => return Err(Closed),
            part = self.answer.chunk() => part,
        };
        // What comes to a frozen watch, even its end, stays here until it thaws.
        let record = &self.record;
        let open = switch.wait_for(|now| now.closed != closed || !now.freezes(record)).await;
        if open.is_ok_and(|now| now.closed != closed) {
            return Err(Closed);
        }
        let mut part = part.map_err(|_| Closed)?;
        if let Some(part) = &mut part {
            if let Some(left) = &mut self.left {
                part.truncate(*left);
                *left -= part.len();
            }
            self.state.flowed(self.key, part.len());
        }
        Ok(part)
    }
}
