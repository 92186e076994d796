//! What the proxy knows of a request, and what may become of it.

use std::time::{Duration, Instant, SystemTime};

/// A request as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its number: 1 for the first since the start or the last [`Proxy::clear`](crate::Proxy::clear).
    pub n: u64,
    /// Its number among the requests that are not GET or HEAD.
    pub write: Option<u64>,
    /// When it came.
    pub at: SystemTime,
    /// The same on the monotonic clock.
    pub instant: Instant,
    /// The method in capitals.
    pub method: String,
    /// The path with the query.
    pub path_and_query: String,
    /// The header `User-Agent`, or nothing.
    pub agent: String,
    /// The body, at most 64 KiB of it.
    pub body: String,
    /// The upstream's status, or the one the proxy answered itself; `None` until then.
    pub status: Option<u16>,
    /// From arrival to that status.
    pub duration: Option<Duration>,
    /// Size of the body.
    pub request_bytes: usize,
    /// Size of the answer's body; what has flowed so far of a watch.
    pub response_bytes: usize,
}

impl Recorded {
    /// Whether it may change something upstream.
    pub fn is_write(&self) -> bool {
        self.write.is_some()
    }

    /// Whether its answer is a stream without an end, as Kubernetes has it.
    pub fn is_watch(&self) -> bool {
        let query = self.path_and_query.split_once('?').map_or("", |(_, query)| query);
        self.method == "GET" && query.split('&').any(|pair| ["watch=true", "watch=1"].contains(&pair))
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }
}

/// What happens to a request.
#[derive(Clone, Debug, Default)]
pub enum Action {
    /// It goes through.
    #[default]
    Forward,
    /// The proxy answers this status and body itself; upstream sees nothing.
    Answer(u16, String),
    /// As [`Action::Answer`], with headers such as `Retry-After`.
    AnswerWith(u16, Vec<(String, String)>, String),
    /// Upstream sees nothing, and the sender never gets an answer.
    Blackhole,
    /// Upstream sees nothing, and the connection is closed.
    DropRequest,
    /// Upstream does what it is asked, then the connection is closed without an answer. A watch
    /// begins, and ends before its first event.
    DropResponse,
    /// It waits, then goes through.
    Delay(Duration),
    /// It goes through, then the answer waits.
    DelayResponse(Duration),
    /// Upstream does what it is asked. The answer's head promises the whole length, and the
    /// connection is closed after so many bytes of the body. A body that is no longer arrives whole.
    /// A watch promises nothing and is broken off after so many bytes.
    Truncate(usize),
    /// Upstream does what it is asked; the answer is a page of HTML with status 200.
    Garbage,
    /// Duplicate delivery: it is sent upstream twice, and the second answer is delivered.
    Twice,
    /// The proxy answers 200 and JSON of so many bytes (opening brackets) without saying how many;
    /// upstream sees nothing.
    Flood(usize),
}

/// On which side of the upstream something happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Before upstream sees the request.
    Before,
    /// After upstream has answered, before the answer is delivered.
    After,
}
