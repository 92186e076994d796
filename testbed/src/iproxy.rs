//! A reverse proxy in front of an identity provider that counts, holds and breaks requests.
//!
//! It runs on threads of its own, so that it goes on while a test blocks. What a rule says happens
//! to a request whether or not its sender still lives: a request that was on its way when the
//! operator was killed still arrives.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;
use tokio::sync::watch;

mod gate;
mod server;

use gate::Gate;
pub use gate::Hold;

/// A request as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its number: 1 for the first since the start or the last [`Iproxy::clear`].
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
    /// The body, at most 64 KiB of it.
    pub body: String,
    /// The upstream's status, or the one the proxy answered itself; `None` until then.
    pub status: Option<u16>,
    /// From arrival to that status.
    pub duration: Option<Duration>,
    /// Size of the body.
    pub request_bytes: usize,
    /// Size of the answer's body.
    pub response_bytes: usize,
}

impl Recorded {
    /// Whether it may change something upstream.
    pub fn is_write(&self) -> bool {
        self.write.is_some()
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
    /// Upstream does what it is asked, then the connection is closed without an answer.
    DropResponse,
    /// It waits, then goes through.
    Delay(Duration),
    /// It goes through, then the answer waits.
    DelayResponse(Duration),
}

type Rule = Arc<dyn Fn(&Recorded) -> Action + Send + Sync>;
type Predicate = Box<dyn Fn(&Recorded) -> bool + Send + Sync>;
type Callback = Box<dyn FnOnce(&Recorded) + Send>;

/// On which side of the upstream something happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Before,
    After,
}

/// The proxy; it stops when this is dropped.
pub struct Iproxy {
    url: String,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

struct State {
    shared: Mutex<Shared>,
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct Shared {
    upstream: String,
    rule: Option<Rule>,
    holds: Vec<(Side, Predicate, Arc<Gate>)>,
    callbacks: Vec<(Side, Predicate, Callback)>,
    /// By an identity that, unlike `n`, never starts again.
    records: BTreeMap<u64, Recorded>,
    next: u64,
    n: u64,
    writes: u64,
}

impl Iproxy {
    /// Starts a proxy on a free port in front of `upstream` (no slash at the end).
    pub fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot bind a port")?;
        let url = format!("http://{}", listener.local_addr().context("a port without number")?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("iproxy")
            .enable_all()
            .build()
            .context("cannot start the proxy's threads")?;
        let shared = Shared { upstream: upstream.to_owned(), ..Shared::default() };
        let state = Arc::new(State { shared: Mutex::new(shared), count: watch::Sender::new(0) });
        runtime.spawn(server::serve(listener, Arc::clone(&state), server::client()?));
        Ok(Self { url, state, runtime: Some(runtime) })
    }

    /// Where it listens, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends what comes from now on somewhere else.
    pub fn set_upstream(&self, upstream: &str) {
        upstream.clone_into(&mut self.state.lock().upstream);
    }

    /// Asks `rule` about each request from now on; it replaces the rule before.
    pub fn set_rule(&self, rule: impl Fn(&Recorded) -> Action + Send + Sync + 'static) {
        self.state.lock().rule = Some(Arc::new(rule));
    }

    /// Lets everything through again.
    pub fn clear_rule(&self) {
        self.state.lock().rule = None;
    }

    /// Holds matching requests before upstream sees them, until released.
    pub fn hold(&self, matches: impl Fn(&Recorded) -> bool + Send + Sync + 'static) -> Hold {
        self.add_hold(Side::Before, Box::new(matches))
    }

    /// Holds the answers to matching requests after upstream has done its work.
    pub fn hold_response(&self, matches: impl Fn(&Recorded) -> bool + Send + Sync + 'static) -> Hold {
        self.add_hold(Side::After, Box::new(matches))
    }

    fn add_hold(&self, side: Side, matches: Predicate) -> Hold {
        let gate = Arc::new(Gate::default());
        self.state.lock().holds.push((side, matches, Arc::clone(&gate)));
        Hold::new(gate)
    }

    /// Runs `callback` once, on the first matching request, before upstream sees it.
    pub fn before(
        &self,
        matches: impl Fn(&Recorded) -> bool + Send + Sync + 'static,
        callback: impl FnOnce(&Recorded) + Send + 'static,
    ) {
        self.add_callback(Side::Before, Box::new(matches), Box::new(callback));
    }

    /// Runs `callback` once, on the first matching request, after upstream has answered and before
    /// the answer is delivered.
    pub fn after(
        &self,
        matches: impl Fn(&Recorded) -> bool + Send + Sync + 'static,
        callback: impl FnOnce(&Recorded) + Send + 'static,
    ) {
        self.add_callback(Side::After, Box::new(matches), Box::new(callback));
    }

    fn add_callback(&self, side: Side, matches: Predicate, callback: Callback) {
        self.state.lock().callbacks.push((side, matches, callback));
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.lock().records.values().cloned().collect()
    }

    /// Those that may have changed something.
    pub fn writes(&self) -> Vec<Recorded> {
        let mut requests = self.requests();
        requests.retain(Recorded::is_write);
        requests
    }

    /// Waits until a request that matches has arrived (or finds an earlier one).
    pub async fn wait_for(&self, matches: impl Fn(&Recorded) -> bool, timeout: Duration) -> Result<Recorded> {
        let mut count = self.state.count.subscribe();
        let search = async {
            loop {
                count.mark_unchanged();
                if let Some(found) = self.requests().into_iter().find(&matches) {
                    return found;
                }
                // The sender lives as long as `self`.
                let _ = count.changed().await;
            }
        };
        tokio::time::timeout(timeout, search)
            .await
            .with_context(|| format!("no such request after {timeout:?}; seen: {}", self.summary()))
    }

    /// Forgets all requests and starts again with number 1.
    pub fn clear(&self) {
        let mut shared = self.state.lock();
        shared.records.clear();
        shared.n = 0;
        shared.writes = 0;
    }

    /// One line for each request, for an error message.
    pub fn summary(&self) -> String {
        let line = |r: &Recorded| {
            let status = r.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            format!("\n  {} {} {} {status}", r.n, r.method, r.path_and_query)
        };
        self.requests().iter().map(line).collect()
    }
}

impl Drop for Iproxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would block, which is not allowed inside a test's own runtime.
            runtime.shutdown_background();
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|e| e.into_inner())
    }
}
