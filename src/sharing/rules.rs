//! The rules, one file each.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::finding::{Evidence, Grade, Object, Severity};
use crate::grant::ClientKey;

mod by_rbac;
mod by_registration;
pub mod sc_101;
pub mod sc_104;
pub mod sc_105;
pub mod sc_106;
pub mod sc_111;
pub mod sc_201;
pub mod sc_202;
pub mod sc_203;
pub mod sc_204;
pub mod sc_205;
pub mod sc_206;
pub mod sc_207;
pub mod sc_301;
pub mod sc_302;
pub mod sc_303;
pub mod sc_304;
pub mod sc_306;
pub mod sc_307;
pub mod sc_401;
pub mod sc_403;
pub mod sc_901;
pub mod sc_902;

/// Most others whose declaration a finding shows where each of them has a finding of its own. What they are, the clients
/// of the finding say, all of them.
const OTHERS: usize = 10;

/// What has something in common with others, by that; what stands alone, as most does, is left out.
fn together<K: Copy + Eq + Hash, V: Copy>(all: impl Iterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    let (mut first, mut several) = (HashMap::with_capacity(all.size_hint().0), HashMap::<K, Vec<V>>::new());
    for (key, value) in all {
        match first.entry(key) {
            Entry::Vacant(place) => _ = place.insert(value),
            Entry::Occupied(known) => several.entry(key).or_insert_with(|| vec![*known.get()]).push(value),
        }
    }
    several
}

/// Most clients that a finding names where each of them has a finding of its own: or together they would take the
/// square of their number.
const NAMED: usize = 50;

/// A client, some of the others, and how many more there are.
fn some_of<'a>(client: &ClientKey, others: impl Iterator<Item = &'a ClientKey>) -> (BTreeSet<ClientKey>, usize) {
    let mut others = others.filter(|other| *other != client);
    let mut some: BTreeSet<ClientKey> = others.by_ref().take(NAMED - 1).cloned().collect();
    some.insert(client.clone());
    (some, others.count())
}

/// What a rule found, before exceptions and what hangs on the clients.
#[derive(Clone, Debug)]
pub struct Found {
    /// The rule.
    pub rule: &'static str,
    /// Before what makes it worse or better.
    pub severity: Severity,
    /// How sure.
    pub grade: Grade,
    /// What it is about.
    pub subject: Object,
    /// The clients it concerns.
    pub clients: BTreeSet<ClientKey>,
    /// How many more it concerns than are named.
    pub more: usize,
    /// What shows it.
    pub evidence: Vec<Evidence>,
    /// Clients that the subject may act as; `None` where it stands for each of them alike.
    pub own: Option<BTreeSet<ClientKey>>,
    /// Objects by whose name an exception covers it.
    pub counterparts: Vec<Object>,
    /// The one client whose `ClientIdentity` may accept it; `None`: each speaks for itself.
    pub speaker: Option<ClientKey>,
    /// It is as bad for one client as for several: each of them has to accept it.
    pub alone: bool,
}

impl Found {
    fn new(rule: &'static str, severity: Severity, grade: Grade, subject: Object) -> Self {
        let counterparts = vec![subject.clone()];
        Self {
            rule,
            severity,
            grade,
            subject,
            clients: BTreeSet::new(),
            more: 0,
            evidence: Vec::new(),
            own: None,
            counterparts,
            speaker: None,
            alone: false,
        }
    }
}
