//! What upstream answered before, for reads that lag behind.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;

/// How much is remembered; the oldest goes first.
const LIMIT: usize = 128 * 1024 * 1024;

/// What was asked: path with query, and the representation, of which Kubernetes has several.
pub(super) type Question = (String, String);

/// A whole answer of the upstream.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// The newest answer to each question.
#[derive(Default)]
pub(super) struct Memory {
    answers: HashMap<Question, (u64, Answer)>,
    order: BTreeMap<u64, Question>,
    next: u64,
    bytes: usize,
    /// Whether it answers, and learns nothing.
    stale: bool,
}

impl Memory {
    pub(super) fn set_stale(&mut self, stale: bool) {
        self.stale = stale;
    }

    /// What upstream said before the switch was turned on, while it is.
    pub(super) fn recall(&self, question: &Question) -> Option<Answer> {
        self.stale.then(|| self.answers.get(question).map(|(_, answer)| answer.clone())).flatten()
    }

    pub(super) fn keep(&mut self, question: Question, answer: Answer) {
        if self.stale {
            return;
        }
        self.next += 1;
        self.bytes += answer.body.len();
        self.order.insert(self.next, question.clone());
        if let Some((number, old)) = self.answers.insert(question, (self.next, answer)) {
            self.order.remove(&number);
            self.bytes -= old.body.len();
        }
        while self.bytes > LIMIT {
            let Some((_, question)) = self.order.pop_first() else {
                break;
            };
            if let Some((_, old)) = self.answers.remove(&question) {
                self.bytes -= old.body.len();
            }
        }
    }
}
