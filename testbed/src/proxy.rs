//! A reverse proxy that counts, holds and breaks requests.
//!
//! It runs on threads of its own, so that it goes on while a test blocks. What a rule says happens
//! to a request whether or not its sender still lives: a request that was on its way when the
//! operator was killed still arrives.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::Process;

mod answer;
mod gate;
mod memory;
mod request;
mod server;
mod tls;
mod watches;

pub use gate::Hold;
use gate::{Gate, Verdict};
use memory::Memory;
pub use request::{Action, Recorded, Side};
pub(crate) use tls::Tls;
use watches::Switch;

type Rule = Arc<dyn Fn(&Recorded) -> Action + Send + Sync>;
type Predicate = Box<dyn Fn(&Recorded) -> bool + Send + Sync>;
type Callback = Box<dyn FnOnce(&Recorded) -> Verdict + Send>;

/// A running proxy; it stops when this is dropped.
pub struct Proxy {
    url: String,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

struct State {
    shared: Mutex<Shared>,
    /// Counts what happens to the records.
    changes: watch::Sender<usize>,
    switch: watch::Sender<Switch>,
    client: reqwest::Client,
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
    memory: Memory,
    n: u64,
    writes: u64,
}

impl Proxy {
    /// Starts a proxy on a free port in front of `upstream` (no slash at the end).
    pub(crate) fn start(name: &str, upstream: &str, tls: Option<&Tls>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot bind a port")?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().context("a port without number")?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(name)
            .enable_all()
            .build()
            .context("cannot start the proxy's threads")?;
        let shared = Shared { upstream: upstream.to_owned(), ..Shared::default() };
        let state = Arc::new(State {
            shared: Mutex::new(shared),
            changes: watch::Sender::new(0),
            switch: watch::Sender::default(),
            client: server::client(tls)?,
        });
        let acceptor = tls.map(Tls::acceptor).transpose()?;
        runtime.spawn(server::serve(listener, Arc::clone(&state), acceptor));
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
        self.add_callback(Side::Before, Box::new(matches), going_on(callback));
    }

    /// Runs `callback` once, on the first matching request, after upstream has answered and before
    /// the answer is delivered.
    pub fn after(
        &self,
        matches: impl Fn(&Recorded) -> bool + Send + Sync + 'static,
        callback: impl FnOnce(&Recorded) + Send + 'static,
    ) {
        self.add_callback(Side::After, Box::new(matches), going_on(callback));
    }

    fn add_callback(&self, side: Side, matches: Predicate, callback: Callback) {
        self.state.lock().callbacks.push((side, matches, callback));
    }

    /// While on, a GET that upstream answered before is answered with what it said last before the
    /// switch was turned on, and upstream does not see it. Anything else goes through.
    pub fn stale_reads(&self, on: bool) {
        self.state.lock().memory.set_stale(on);
    }

    /// Closes all watches that are open now, as a connection breaks.
    pub fn close_watches(&self) {
        self.state.switch.send_modify(Switch::close);
    }

    /// While on, nothing flows in a watch, old or new, and its connection stays open. What upstream
    /// sends meanwhile comes later.
    pub fn freeze_watches(&self, on: bool) {
        let all: Predicate = Box::new(|_| true);
        self.state.switch.send_modify(|switch| switch.freeze(on.then_some(all)));
    }

    /// Freezes the watches that match, and no other; [`Proxy::freeze_watches`] ends it.
    pub fn freeze_watches_if(&self, matches: impl Fn(&Recorded) -> bool + Send + Sync + 'static) {
        self.state.switch.send_modify(|switch| switch.freeze(Some(Box::new(matches))));
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

    /// Waits until a record matches: at its arrival, or when its answer has come, or finds an earlier
    /// one.
    pub async fn wait_for(&self, matches: impl Fn(&Recorded) -> bool, timeout: Duration) -> Result<Recorded> {
        let mut changes = self.state.changes.subscribe();
        let search = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = self.requests().into_iter().find(&matches) {
                    return found;
                }
                // The sender lives as long as `self`.
                let _ = changes.changed().await;
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

/// Kills `process` with SIGKILL at one exact moment of the `k`-th request since the last
/// [`Proxy::clear`]: before upstream sees it, which it then never does, or after upstream has
/// answered, and then the answer reaches nobody.
///
/// A process that makes `n` requests can so be killed at `2n` moments, each with another state
/// upstream than the one before. Where a request that was on its way shall still arrive, kill it by
/// [`Proxy::before`]. If it has ended by then, nothing is lost: the request is another process's.
pub fn kill_at(proxy: &Proxy, k: u64, side: Side, process: Arc<Process>) {
    kill_when(proxy, move |r| r.n == k, side, process);
}

/// As [`kill_at`], at the first request that `matches`; it is asked once for each.
pub fn kill_when(
    proxy: &Proxy,
    matches: impl Fn(&Recorded) -> bool + Send + Sync + 'static,
    side: Side,
    process: Arc<Process>,
) {
    let kill = move |_: &Recorded| {
        let its_own = process.is_alive();
        process.kill();
        if its_own { Verdict::Discard } else { Verdict::Go }
    };
    proxy.add_callback(side, Box::new(matches), Box::new(kill));
}

fn going_on(callback: impl FnOnce(&Recorded) + Send + 'static) -> Callback {
    Box::new(|request| {
        callback(request);
        Verdict::Go
    })
}

impl Drop for Proxy {
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

    /// Wakes who waits for a record.
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}
