//! Which client is looked at next: lanes by urgency, turns of namespaces within a lane, first come first
//! served within a namespace, and timers.
//!
//! One client is in one worker's hands at a time; what becomes due meanwhile is kept and merged. After a
//! start everything overdue is ended before anything else is begun at the same provider ([`Queue::begin`]).
//! A namespace with thousands of clients that are due holds up none with one: the namespace whose last turn
//! is longest ago is next, and none has more than its share of the places.

use std::collections::hash_map::Entry;
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
const ENDING: usize = 8;
/// Of either, the last are kept for namespaces of which no client is worked on.
const KEPT: usize = 4;
/// Of the clients of one provider, those that are worked on at once for one namespace: a neighbour shares
/// with them what the API server and the provider can do.
const SHARE: usize = 6;
/// Beyond these, so many more of which something ends.
const SHARE_ENDING: usize = 2;

/// Whose grants made a client due.
type Namespaces = BTreeSet<Arc<str>>;

/// Clients of one namespace, by place.
type Line = BTreeSet<(u64, ClientKey)>;

/// What is known about a client that waits.
#[derive(Debug)]
struct Pending {
    lane: Lane,
    place: u64,
    namespaces: Namespaces,
    grants: BTreeSet<Arc<str>>,
    subjects: BTreeSet<String>,
    changed: bool,
}

/// A client in a worker's hands.
#[derive(Debug)]
struct Busy {
    /// Whose turn it was.
    namespace: Arc<str>,
    /// Nothing more is done at the provider: what is left is to tell the grants.
    telling: bool,
}

/// How many of one provider's clients are in hands.
#[derive(Debug, Default)]
struct Hands<'a> {
    all: usize,
    of: HashMap<&'a str, usize>,
}

impl<'a> Hands<'a> {
    fn take(&mut self, namespace: &'a str) {
        self.all += 1;
        *self.of.entry(namespace).or_default() += 1;
    }
}

/// The clients of one provider that wait. A client stands in the line of each namespace that made it due.
#[derive(Debug, Default)]
struct Lines {
    lines: BTreeMap<(Lane, Arc<str>), Line>,
    /// The same lines in the order of turns: a look for the next one must not pass thousands.
    turns: BTreeSet<(Lane, u64, Arc<str>)>,
    /// When each namespace last had its turn. Forgotten once nothing waits.
    last: HashMap<Arc<str>, u64>,
}

impl Lines {
    fn last(&self, namespace: &str) -> u64 {
        self.last.get(namespace).copied().unwrap_or_default()
    }

    fn add(&mut self, pending: &Pending, key: &ClientKey) {
        for namespace in &pending.namespaces {
            let line = self.lines.entry((pending.lane, namespace.clone())).or_default();
            line.insert((pending.place, key.clone()));
            self.turns.insert((pending.lane, self.last(namespace), namespace.clone()));
        }
    }

    fn remove(&mut self, pending: &Pending, key: &ClientKey) {
        for namespace in &pending.namespaces {
            let name = (pending.lane, namespace.clone());
            let Some(line) = self.lines.get_mut(&name) else { continue };
            line.remove(&(pending.place, key.clone()));
            if line.is_empty() {
                self.lines.remove(&name);
                self.turns.remove(&(pending.lane, self.last(namespace), namespace.clone()));
            }
        }
    }

    /// The namespace had its turn: every other one that waits comes before it does again.
    fn served(&mut self, namespace: &Arc<str>, turn: u64) {
        let before = self.last(namespace);
        for lane in [Lane::End, Lane::Narrow, Lane::Apply, Lane::Drift] {
            if self.turns.remove(&(lane, before, namespace.clone())) {
                self.turns.insert((lane, turn, namespace.clone()));
            }
        }
        self.last.insert(namespace.clone(), turn);
    }
}

#[derive(Debug, Default)]
struct State {
    pending: HashMap<ClientKey, Pending>,
    ready: BTreeMap<ProviderKey, Lines>,
    busy: HashMap<ClientKey, Busy>,
    timers: BTreeMap<(Timestamp, ClientKey, Arc<str>), (Lane, Namespaces)>,
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
        self.wake.notify_one();
    }

    /// Several are.
    pub fn push_all(&self, dues: impl IntoIterator<Item = Due>) {
        let mut state = self.state();
        dues.into_iter().for_each(|due| state.push(due));
        drop(state);
        self.wake.notify_one();
    }

    /// A look at one part (a grant's UID; empty: the client) at an instant. The part's earlier timer is
    /// replaced.
    pub fn at(&self, due: Due, part: Arc<str>, at: Timestamp) {
        let Due { key, namespaces, lane, .. } = due;
        let mut state = self.state();
        let name = (key.clone(), part.clone());
        if let Some(old) = state.timer_of.insert(name, at) {
            state.timers.remove(&(old, key.clone(), part.clone()));
        }
        state.timers.insert((at, key, part), (lane, namespaces));
        drop(state);
        self.wake.notify_one();
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
        self.wake.notify_one();
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
                    // Each wakes the next, so that all that wait are not woken for one.
                    self.wake.notify_one();
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

    /// The namespace whose turn it was when a worker got this client.
    #[must_use]
    pub fn turn(&self, key: &ClientKey) -> Arc<str> {
        self.state().busy.get(key).map(|busy| busy.namespace.clone()).unwrap_or_default()
    }

    /// What is left of a look is to tell the grants. No end waits for that: hundreds of grants may have to be told.
    pub fn telling(&self, key: &ClientKey) {
        let mut state = self.state();
        if let Some(busy) = state.busy.get_mut(key) {
            busy.telling = true;
        }
        state.first.remove(key);
        drop(state);
        self.wake.notify_one();
    }

    /// A worker is done with a client.
    pub fn done(&self, key: &ClientKey) {
        let mut state = self.state();
        state.busy.remove(key);
        state.first.remove(key);
        drop(state);
        self.wake.notify_one();
    }
}

impl State {
    fn push(&mut self, due: Due) {
        let Due { key, namespaces, grants, subjects, lane, changed } = due;
        self.next += 1;
        let lines = self.ready.entry(key.provider.clone()).or_default();
        let pending = match self.pending.entry(key.clone()) {
            Entry::Occupied(pending) => {
                let pending = pending.into_mut();
                lines.remove(pending, &key);
                pending
            }
            Entry::Vacant(none) => none.insert(Pending {
                lane,
                place: self.next,
                namespaces: BTreeSet::new(),
                grants: BTreeSet::new(),
                subjects: BTreeSet::new(),
                changed: false,
            }),
        };
        pending.namespaces.extend(namespaces);
        if pending.namespaces.is_empty() {
            // Nobody's: the operator's own looks have turns as if they were a namespace's.
            pending.namespaces.insert(Arc::from(""));
        }
        pending.grants.extend(grants);
        pending.subjects.extend(subjects);
        pending.changed |= changed;
        pending.lane = pending.lane.min(lane);
        lines.add(pending, &key);
    }

    fn fire(&mut self, now: Timestamp) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((_, key, part), (lane, namespaces)) = entry.remove_entry();
            self.timer_of.remove(&(key.clone(), part.clone()));
            let grants = if part.is_empty() { BTreeSet::new() } else { [part].into() };
            self.push(Due { namespaces, ..Due::look(key, grants, lane) });
        }
    }

    fn pop(&mut self) -> Option<Due> {
        if !self.begun {
            return None;
        }
        // Those that act, for which an end waits; and all, for which everything else does.
        let mut hands: HashMap<&ProviderKey, [Hands<'_>; 2]> = HashMap::new();
        for (key, Busy { namespace, telling }) in &self.busy {
            let [acting, all] = hands.entry(&key.provider).or_default();
            all.take(namespace);
            if !telling {
                acting.take(namespace);
            }
        }
        let late: HashSet<&ProviderKey> = self.first.iter().map(|key| &key.provider).collect();
        let first = |(provider, lines): (&ProviderKey, &Lines)| {
            let hands = hands.get(provider);
            lines.turns.iter().find_map(|(lane, last, namespace)| {
                let ends = *lane == Lane::End;
                let hands = hands.map(|[acting, all]| if ends { acting } else { all });
                let all = hands.map_or(0, |hands| hands.all);
                let held = hands.and_then(|hands| hands.of.get(&**namespace)).copied().unwrap_or_default();
                let (most, share) = if ends { (EACH + ENDING, SHARE + SHARE_ENDING) } else { (EACH, SHARE) };
                let fits = if held == 0 { all < most } else { all < most - KEPT && held < share };
                if !(fits && (!late.contains(provider) || ends)) {
                    return None;
                }
                let line = lines.lines.get(&(*lane, namespace.clone()))?;
                let (place, key) = line.iter().find(|(_, key)| !self.busy.contains_key(key))?;
                Some((*lane, *last, *place, namespace.clone(), key.clone()))
            })
        };
        let (lane, _, _, namespace, key) = self.ready.iter().filter_map(first).min()?;
        let pending = self.pending.remove(&key)?;
        self.next += 1;
        if let Some(lines) = self.ready.get_mut(&key.provider) {
            lines.remove(&pending, &key);
            lines.served(&namespace, self.next);
            if lines.lines.is_empty() {
                self.ready.remove(&key.provider);
            }
        }
        self.busy.insert(key.clone(), Busy { namespace, telling: false });
        let Pending { namespaces, grants, subjects, changed, .. } = pending;
        Some(Due { key, namespaces, grants, subjects, lane, changed })
    }
}
