//! Which client is looked at next: lanes by urgency, first come first served within a lane, and timers.
//!
//! One client is in one worker's hands at a time; what becomes due meanwhile is kept and merged. After a
//! start everything overdue is ended before anything else is begun at the same provider ([`Queue::begin`]).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::Notify;

use crate::clock;
use crate::grant::{ClientKey, ProviderKey};
use crate::world::{Due, Lane};

/// Timers are compared with the wall clock at least this often: it may have been set.
const RECHECK: Duration = Duration::from_secs(30);

/// Clients of one provider that are worked on at once: a silent one must not take every worker.
const EACH: usize = 12;
/// Beyond these, so many more of which something ends.
const ENDING: usize = 4;

/// What is known about a client that waits.
#[derive(Debug)]
struct Pending {
    lane: Lane,
    place: u64,
    grants: BTreeSet<Arc<str>>,
    subjects: BTreeSet<String>,
    changed: bool,
}

#[derive(Debug, Default)]
struct State {
    pending: HashMap<ClientKey, Pending>,
    /// By provider: a look for the next one must not pass thousands whose provider is busy.
    ready: BTreeMap<ProviderKey, BTreeSet<(Lane, u64, ClientKey)>>,
    busy: HashSet<ClientKey>,
    timers: BTreeMap<(Timestamp, ClientKey, Arc<str>), Lane>,
    timer_of: HashMap<(ClientKey, Arc<str>), Timestamp>,
    next: u64,
    begun: bool,
    /// Clients with something overdue at the start that no worker has looked at yet.
    first: HashSet<ClientKey>,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client is due now.
    pub fn push(&self, due: Due) {
        self.state().push(due);
        self.wake.notify_waiters();
    }

    /// Several are.
    pub fn push_all(&self, dues: impl IntoIterator<Item = Due>) {
        let mut state = self.state();
        dues.into_iter().for_each(|due| state.push(due));
        drop(state);
        self.wake.notify_waiters();
    }

    /// A look at one part (a grant's UID; empty: the client) at an instant. The part's earlier timer is
    /// replaced.
    pub fn at(&self, key: &ClientKey, part: Arc<str>, at: Timestamp, lane: Lane) {
        let mut state = self.state();
        let name = (key.clone(), part.clone());
        if let Some(old) = state.timer_of.insert(name, at) {
            state.timers.remove(&(old, key.clone(), part.clone()));
        }
        state.timers.insert((at, key.clone(), part), lane);
        drop(state);
        self.wake.notify_waiters();
    }

    /// The first look at everything: what is overdue (lane [`Lane::End`]) is finished before another
    /// lane of that provider is served. Workers wait until this is called.
    pub fn begin(&self, dues: Vec<Due>) {
        let mut state = self.state();
        dues.into_iter().for_each(|due| state.push(due));
        state.begun = true;
        let ending: HashSet<ClientKey> =
            state.pending.iter().filter(|(_, p)| p.lane == Lane::End).map(|(k, _)| k.clone()).collect();
        state.first = ending;
        drop(state);
        self.wake.notify_waiters();
    }

    /// Hands out nothing until the next [`Queue::begin`]; what becomes due is kept.
    pub fn pause(&self) {
        self.state().begun = false;
    }

    /// The next client; waits until there is one.
    pub async fn pop(&self) -> Due {
        loop {
            let woken = self.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let sleep = {
                let mut state = self.state();
                let now = clock::now();
                state.fire(now);
                if let Some(due) = state.pop() {
                    return due;
                }
                state.timers.first_key_value().map_or(RECHECK, |((at, _, _), _)| clock::until(*at).min(RECHECK))
            };
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(sleep.max(Duration::from_millis(1))) => {}
            }
        }
    }

    /// How many clients wait, by lane.
    #[must_use]
    pub fn depth(&self) -> [(&'static str, i64); 4] {
        let mut depth = [("end", 0), ("narrow", 0), ("apply", 0), ("drift", 0)];
        for pending in self.state().pending.values() {
            depth[pending.lane as usize].1 += 1;
        }
        depth
    }

    /// A worker is done with a client.
    pub fn done(&self, key: &ClientKey) {
        let mut state = self.state();
        state.busy.remove(key);
        state.first.remove(key);
        drop(state);
        self.wake.notify_waiters();
    }
}

impl State {
    fn push(&mut self, due: Due) {
        let Due { key, grants, subjects, lane, changed } = due;
        self.next += 1;
        let place = self.next;
        let fresh = || Pending { lane, place, grants: BTreeSet::new(), subjects: BTreeSet::new(), changed: false };
        let pending = self.pending.entry(key.clone()).or_insert_with(fresh);
        let ready = self.ready.entry(key.provider.clone()).or_default();
        ready.remove(&(pending.lane, pending.place, key.clone()));
        pending.grants.extend(grants);
        pending.subjects.extend(subjects);
        pending.changed |= changed;
        pending.lane = pending.lane.min(lane);
        ready.insert((pending.lane, pending.place, key));
    }

    fn fire(&mut self, now: Timestamp) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((_, key, part), lane) = entry.remove_entry();
            self.timer_of.remove(&(key.clone(), part.clone()));
            let grants = if part.is_empty() { BTreeSet::new() } else { [part].into() };
            self.push(Due::look(key, grants, lane));
        }
    }

    fn pop(&mut self) -> Option<Due> {
        if !self.begun {
            return None;
        }
        let mut busy: HashMap<&ProviderKey, usize> = HashMap::new();
        self.busy.iter().for_each(|key| *busy.entry(&key.provider).or_default() += 1);
        let late: HashSet<&ProviderKey> = self.first.iter().map(|key| &key.provider).collect();
        // The most urgent lane comes first: where the first one that is free does not fit, none does.
        let first = |(provider, ready): (&ProviderKey, &BTreeSet<(Lane, u64, ClientKey)>)| {
            let next = ready.iter().find(|(_, _, key)| !self.busy.contains(key))?;
            let ends = next.0 == Lane::End;
            let most = if ends { EACH + ENDING } else { EACH };
            let fits = busy.get(provider).is_none_or(|n| *n < most) && (!late.contains(provider) || ends);
            fits.then(|| next.clone())
        };
        let next = self.ready.iter().filter_map(first).min()?;
        if let Some(ready) = self.ready.get_mut(&next.2.provider) {
            ready.remove(&next);
            if ready.is_empty() {
                self.ready.remove(&next.2.provider);
            }
        }
        let (lane, _, key) = next;
        let Pending { grants, subjects, changed, .. } = self.pending.remove(&key)?;
        self.busy.insert(key.clone());
        Some(Due { key, grants, subjects, lane, changed })
    }
}
