//! A gate that lets so many through at once, by turns of namespaces.
//!
//! First come first served would let a namespace with thousands of calls hold up the one call of another.
//! On whose behalf a task works goes with the task, so that nothing in between has to hand it on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

tokio::task_local! {
    static NAMESPACE: Arc<str>;
}

/// Works on behalf of a namespace.
pub async fn on_behalf<F: Future>(namespace: Arc<str>, work: F) -> F::Output {
    NAMESPACE.scope(namespace, work).await
}

/// On whose behalf this task works; empty: nobody's.
fn namespace() -> Arc<str> {
    NAMESPACE.try_with(Arc::clone).unwrap_or_else(|_| Arc::from(""))
}

/// The gate.
#[derive(Debug)]
pub struct Gate {
    most: usize,
    share: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Places taken, by namespace.
    taken: HashMap<Arc<str>, usize>,
    /// Who waits, by namespace; whose last turn is longest ago comes first.
    lines: VecDeque<(Arc<str>, VecDeque<oneshot::Sender<()>>)>,
}

/// Leave to be inside until this is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    gate: &'a Gate,
    namespace: Arc<str>,
}

impl Gate {
    /// `most` at once, and of them `share` for one namespace; both are at least 1.
    #[must_use]
    pub fn new(most: usize, share: usize) -> Self {
        Self { most: most.max(1), share: share.max(1), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place.
    pub async fn enter(&self) -> Place<'_> {
        let namespace = namespace();
        let called = {
            let mut state = self.state();
            let (called, waits) = oneshot::channel();
            match state.lines.iter_mut().find(|(of, _)| *of == namespace) {
                Some((_, line)) => line.push_back(called),
                None => state.lines.push_back((namespace.clone(), [called].into())),
            }
            self.call(&mut state);
            waits
        };
        let mut waiting = Waiting { gate: self, namespace: &namespace, called };
        // The other end is not dropped before it has called.
        _ = (&mut waiting.called).await;
        drop(waiting);
        Place { gate: self, namespace }
    }

    /// Calls who comes next, as long as there are places.
    fn call(&self, state: &mut State) {
        while state.taken.values().sum::<usize>() < self.most {
            let State { taken, lines } = &mut *state;
            let has_room = |of: &Arc<str>| taken.get(of).is_none_or(|n| *n < self.share);
            let Some(next) = lines.iter().position(|(of, _)| has_room(of)) else { return };
            let Some((namespace, mut line)) = lines.remove(next) else { return };
            // Who has gone away meanwhile is passed over.
            if std::iter::from_fn(|| line.pop_front()).any(|called| called.send(()).is_ok()) {
                *taken.entry(namespace.clone()).or_default() += 1;
            }
            if !line.is_empty() {
                lines.push_back((namespace, line));
            }
        }
    }

    fn leave(&self, namespace: &str) {
        let mut state = self.state();
        if let Some(taken) = state.taken.get_mut(namespace) {
            *taken -= 1;
            if *taken == 0 {
                state.taken.remove(namespace);
            }
        }
        self.call(&mut state);
    }
}

/// Somebody who waits; who stops waiting gives back a place that has just been given.
struct Waiting<'a> {
    gate: &'a Gate,
    namespace: &'a str,
    called: oneshot::Receiver<()>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.called.close();
        if self.called.try_recv().is_ok() {
            self.gate.leave(self.namespace);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.leave(&self.namespace);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Entering<'a> = Pin<Box<dyn Future<Output = Place<'a>> + 'a>>;

    /// Somebody of a namespace who wants to enter; in the line once asked.
    fn comes<'a>(gate: &'a Gate, namespace: &str) -> Entering<'a> {
        let mut entering: Entering<'a> = Box::pin(on_behalf(Arc::from(namespace), gate.enter()));
        assert!(entering.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "{namespace} is in");
        entering
    }

    fn enters<'a>(gate: &'a Gate, namespace: &str) -> Place<'a> {
        let mut entering: Entering<'a> = Box::pin(on_behalf(Arc::from(namespace), gate.enter()));
        inside(&mut entering).unwrap_or_else(|| panic!("{namespace} waits"))
    }

    fn inside<'a>(entering: &mut Entering<'a>) -> Option<Place<'a>> {
        match entering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_namespace_has_no_more_than_its_share() {
        let gate = Gate::new(4, 3);
        let mut hot: Vec<_> = (0..3).map(|_| enters(&gate, "hot")).collect();
        let mut waits = comes(&gate, "hot");
        let other = enters(&gate, "other");
        let mut third = comes(&gate, "third");
        drop(other);
        let third = inside(&mut third).expect("its place");
        assert!(inside(&mut waits).is_none(), "its share is taken, and so is every place");
        hot.pop();
        assert!(inside(&mut waits).is_some());
        drop(third);
    }

    #[test]
    fn a_namespace_with_much_holds_up_none_with_little() {
        let gate = Gate::new(1, 1);
        let mut place = enters(&gate, "hot");
        let mut hot: VecDeque<_> = (0..100).map(|_| comes(&gate, "hot")).collect();
        let mut others: Vec<_> = ["b", "c", "b"].into_iter().map(|of| (of, comes(&gate, of))).collect();
        let mut order = Vec::new();
        for _ in 0..8 {
            drop(place);
            let called = others.iter_mut().enumerate().find_map(|(n, (of, o))| Some((n, *of, inside(o)?)));
            (place, _) = match called {
                Some((n, of, place)) => {
                    order.push(of);
                    (place, drop(others.remove(n)))
                }
                None => {
                    order.push("hot");
                    (inside(&mut hot.pop_front().unwrap()).expect("the first in line"), ())
                }
            };
        }
        assert_eq!(order, ["hot", "b", "c", "hot", "b", "hot", "hot", "hot"]);
    }

    #[test]
    fn who_goes_away_takes_no_place_along() {
        let gate = Gate::new(1, 1);
        let place = enters(&gate, "a");
        let (before, called, mut after) = (comes(&gate, "a"), comes(&gate, "b"), comes(&gate, "a"));
        drop(before);
        drop(place);
        // Nobody is there any more to be told that it is called.
        drop(called);
        assert!(inside(&mut after).is_some());
        assert!(gate.state().taken.is_empty() || gate.state().lines.is_empty());
    }
}
