//! The index, kept while what it is made of changes: an event costs what it changes, not what there is.
//!
//! Of an object nothing is kept but its name, its owner and what its template says. Pods count as the workload that
//! a person wrote: those of one template are a number. An object is looked up by its name once for each event; from
//! there on it is a number, too. [`Live::differences`] compares all of it with the index that is made anew from the
//! same facts.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use slab::Slab;
use smallvec::SmallVec;
use smol_str::SmolStr;

use super::Map;
use super::configmap::{self, ConfigMap};
use super::declared::{Grant, Identity};
use super::evaluate::Input;
use super::facts::{Facts, Owner, Template};
use super::finding::{Object, Place};
use super::fold::{assemble, target, top};
use super::index::{Index, service_account, sorted};
use super::registration::Registration;
use super::workload::Workload;
use crate::grant::ClientKey;

/// The place of an object among all.
type Id = usize;

/// As what an object counts.
#[derive(Clone, Debug)]
struct Counts {
    /// What a person wrote.
    top: Id,
    /// The pointer tells equal templates of a workload: they are one.
    template: Arc<Template>,
}

/// What was told of an object.
#[derive(Debug)]
struct Told {
    owner: Option<Id>,
    counts: Counts,
}

/// An object that was told of, or that others name.
#[derive(Debug)]
struct Node {
    object: Arc<Object>,
    told: Option<Told>,
    /// What names it as its owner.
    owned: BTreeSet<Id>,
    /// What counts as it is like this, and so many objects are. They are few.
    templates: Vec<(Arc<Template>, usize)>,
    /// What borrows its template.
    borrowers: BTreeSet<Id>,
}

impl Node {
    /// Whether nobody knows anything of it any more.
    fn is_idle(&self) -> bool {
        self.told.is_none() && self.owned.is_empty() && self.templates.is_empty() && self.borrowers.is_empty()
    }
}

/// Mostly few.
type Few = SmallVec<[Id; 8]>;

/// What an event touched.
#[derive(Debug, Default)]
struct Touched {
    /// Workloads that have to be put together anew.
    dirty: Few,
    /// Objects of which perhaps nothing is known any more.
    idle: Few,
}

/// By namespace and name, what refers to something.
type Referring = Map<(SmolStr, SmolStr), BTreeSet<Id>>;

/// Takes a member out of a set; a set of nothing goes.
fn drop_from<K: Hash + Eq>(sets: &mut Map<K, BTreeSet<Id>>, key: &K, member: Id) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(&member);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

/// Notes to which ConfigMaps workloads refer that referred to others before.
fn refer(referring: &mut Referring, top: Id, namespace: &SmolStr, old: &BTreeSet<SmolStr>, new: &BTreeSet<SmolStr>) {
    let key = |name: &SmolStr| (namespace.clone(), name.clone());
    old.difference(new).for_each(|name| drop_from(referring, &key(name), top));
    for name in new.difference(old) {
        referring.entry(key(name)).or_default().insert(top);
    }
}

/// Everything that was told, joined.
#[derive(Debug, Default)]
pub struct Live {
    nodes: Slab<Node>,
    ids: Map<Arc<Object>, Id>,
    /// What a person wrote, by namespace.
    namespaces: Map<SmolStr, BTreeSet<Id>>,
    /// By namespace and name, what a ServiceAccount says about its token.
    accounts: Map<SmolStr, Map<SmolStr, Option<bool>>>,
    /// By namespace and name of a ConfigMap, what refers to it.
    referring: Referring,
    index: Index,
}

impl Live {
    /// Everything, joined.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The same, for what is not joined: the instant, gaps, roles.
    pub fn index_mut(&mut self) -> &mut Index {
        &mut self.index
    }

    /// How many objects it is made of.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.nodes.iter().filter(|(_, node)| node.told.is_some()).count()
            + self.accounts.values().map(Map::len).sum::<usize>()
            + self.index.identities.len()
            + self.index.grants().count()
    }

    /// The place of an object; it gets one.
    fn id(&mut self, object: &Object) -> Id {
        if let Some(id) = self.ids.get(object) {
            return *id;
        }
        let object = Arc::new(object.clone());
        let id = self.nodes.insert(Node {
            object: object.clone(),
            told: None,
            owned: BTreeSet::new(),
            templates: Vec::new(),
            borrowers: BTreeSet::new(),
        });
        self.ids.insert(object, id);
        id
    }

    /// A workload is this; `None`: it is gone, or says nothing. True if that makes a difference.
    pub fn workload(&mut self, object: &Object, facts: Option<Facts>) -> bool {
        let known = self.ids.get(object).copied();
        let old = known.and_then(|id| self.nodes.get(id)?.told.as_ref());
        // Mostly the owner is who it was, and needs not be looked up.
        let owner_stays = match (old.and_then(|old| old.owner), facts.as_ref().and_then(|new| new.owner.as_ref())) {
            (None, None) => true,
            (Some(old), Some((kind, name))) => {
                self.nodes.get(old).is_some_and(|old| old.object.name == *name && old.object.kind == *kind)
            }
            _ => false,
        };
        let same = match (old, &facts) {
            (None, None) => true,
            (Some(old), Some(new)) => owner_stays && old.counts.template == new.template,
            _ => false,
        };
        if same {
            return false;
        }
        let old_owner = old.and_then(|old| old.owner);
        let id = known.unwrap_or_else(|| self.id(object));
        let old = self.nodes.get_mut(id).and_then(|node| node.told.take());
        let mut touched = Touched::default();
        let owner = match &facts {
            _ if owner_stays => old_owner,
            Some(Facts { owner: Some(owner), .. }) => Some(self.id(&target(&object.namespace, owner))),
            _ => None,
        };
        if let Some(old) = old_owner.filter(|_| !owner_stays) {
            self.nodes.get_mut(old).map(|owner| owner.owned.remove(&id));
            touched.idle.push(old);
        }
        if let Some(owner) = owner.filter(|_| !owner_stays) {
            self.nodes.get_mut(owner).map(|owner| owner.owned.insert(id));
        }
        // It is counted anew before it is not counted any more: what stays as it is, is not put together twice.
        if let Some(Facts { template, .. }) = facts {
            let told = Told { owner, counts: Counts { top: id, template } };
            self.enter(id, told, &mut touched);
        }
        if let Some(old) = old {
            self.leave(&old.counts, &mut touched);
        }
        if !owner_stays {
            self.lead_anew(id, &mut touched);
        }
        touched.idle.push(id);
        let news = !touched.dirty.is_empty();
        self.assemble(touched);
        news
    }

    /// Finds what an object counts as, and counts it there.
    fn enter(&mut self, id: Id, mut told: Told, touched: &mut Touched) {
        // An object may be its own owner by a round.
        let owner = |of: &Id| if *of == id { told.owner } else { self.nodes.get(*of)?.told.as_ref()?.owner };
        let top = top(id, owner);
        told.counts.top = top;
        let Some(node) = self.nodes.get_mut(top) else { return };
        let template = &mut told.counts.template;
        if let Some((known, count)) = node.templates.iter_mut().find(|(known, _)| known == template) {
            *count += 1;
            *template = known.clone();
        } else {
            if node.templates.is_empty() {
                self.namespaces.entry(node.object.namespace.clone()).or_default().insert(top);
            }
            node.templates.push((template.clone(), 1));
            touched.dirty.push(top);
            let lender = template.borrows.as_ref().map(|lender| target(&node.object.namespace, lender));
            if let Some(lender) = lender {
                let lender = self.id(&lender);
                self.nodes.get_mut(lender).map(|lender| lender.borrowers.insert(top));
            }
        }
        if let Some(node) = self.nodes.get_mut(id) {
            node.told = Some(told);
        }
    }

    /// Counts an object no more where it was counted.
    fn leave(&mut self, counts: &Counts, touched: &mut Touched) {
        let Counts { top, template } = counts;
        let Some(node) = self.nodes.get_mut(*top) else { return };
        let found = node.templates.iter().position(|(known, _)| Arc::ptr_eq(known, template));
        let Some((at, (_, count))) = found.and_then(|at| Some((at, node.templates.get_mut(at)?))) else { return };
        if *count > 1 {
            *count -= 1;
            return;
        }
        node.templates.swap_remove(at);
        touched.dirty.push(*top);
        touched.idle.push(*top);
        let namespace = &node.object.namespace;
        if node.templates.is_empty() {
            drop_from(&mut self.namespaces, namespace, *top);
        }
        let lends = |lender: &Owner| node.templates.iter().any(|(t, _)| t.borrows.as_ref() == Some(lender));
        if let Some(lender) = template.borrows.as_ref().filter(|lender| !lends(lender))
            && let Some(lender) = self.ids.get(&target(namespace, lender)).copied()
        {
            self.nodes.get_mut(lender).map(|lender| lender.borrowers.remove(top));
            touched.idle.push(lender);
        }
    }

    /// The owner of an object changed: what it owns may count as something else.
    fn lead_anew(&mut self, id: Id, touched: &mut Touched) {
        let (mut seen, mut next) = (BTreeSet::from([id]), vec![id]);
        while let Some(owner) = next.pop() {
            for owned in self.nodes.get(owner).map(|owner| owner.owned.clone()).unwrap_or_default() {
                if !seen.insert(owned) {
                    continue;
                }
                if let Some(told) = self.nodes.get_mut(owned).and_then(|owned| owned.told.take()) {
                    let counts = told.counts.clone();
                    self.enter(owned, told, touched);
                    self.leave(&counts, touched);
                }
                next.push(owned);
            }
        }
    }

    /// Puts workloads together anew, and those that borrow from them; forgets what nothing is known of.
    fn assemble(&mut self, touched: Touched) {
        let Touched { mut dirty, idle } = touched;
        let borrow = dirty.iter().filter_map(|top| self.nodes.get(*top)).flat_map(|node| &node.borrowers);
        let borrow: Few = borrow.copied().collect();
        dirty.extend(borrow);
        if dirty.len() > 1 {
            dirty.sort_unstable();
            dirty.dedup();
        }
        let place = Place::default();
        for top in dirty {
            let Some(node) = self.nodes.get(top) else { continue };
            let templates_of = |object: &Object| {
                let lender = self.ids.get(object).and_then(|id| self.nodes.get(*id));
                lender.into_iter().flat_map(|node| &node.templates).map(|(t, _)| t.clone()).collect()
            };
            let told = node.templates.iter().map(|(template, _)| (template, &place));
            let mut workloads = self.index.take(top);
            let old = configmap::names(&workloads);
            assemble(&mut workloads, &node.object, told, templates_of);
            self.join(&node.object, &mut workloads);
            refer(&mut self.referring, top, &node.object.namespace, &old, &configmap::names(&workloads));
            self.index.put(top, workloads);
        }
        for id in idle {
            if self.nodes.get(id).is_some_and(Node::is_idle) {
                let node = self.nodes.remove(id);
                self.ids.remove(&node.object);
            }
        }
    }

    /// Says anew what workloads can act as.
    fn join(&self, top: &Object, workloads: &mut [Workload]) {
        let accounts = self.accounts.get(&top.namespace);
        for workload in workloads {
            let account = accounts.and_then(|accounts| accounts.get(&workload.service_account));
            self.index.join(workload, account.copied().flatten());
        }
    }

    fn join_all(&mut self, namespace: &str, concerns: impl Fn(&[Workload]) -> bool) {
        for top in self.namespaces.get(namespace).cloned().unwrap_or_default() {
            if self.index.workloads.get(top).is_some_and(|workloads| concerns(workloads)) {
                self.join_anew(top);
            }
        }
    }

    /// A ServiceAccount says this about its token; `None`: it is gone. True if that is news.
    pub fn account(&mut self, namespace: &str, name: &str, says: Option<Option<bool>>) -> bool {
        let accounts = self.accounts.entry(namespace.into()).or_default();
        let news = match says {
            Some(says) => accounts.insert(name.into(), says) != Some(says),
            None => accounts.remove(name).is_some(),
        };
        if accounts.is_empty() {
            self.accounts.remove(namespace);
        }
        if news {
            self.join_all(namespace, |workloads| workloads.iter().any(|w| w.service_account == name));
        }
        news
    }

    /// A ConfigMap says this; `None`: it is gone. True if that is news to somebody who receives of it.
    pub fn configmap(&mut self, namespace: &str, name: &str, says: Option<ConfigMap>) -> bool {
        if !self.index.configmaps.set(namespace, name, says) {
            return false;
        }
        let tops = self.referring.get(&(namespace.into(), name.into())).cloned().unwrap_or_default();
        tops.iter().for_each(|top| self.join_anew(*top));
        !tops.is_empty()
    }

    /// Whether every ConfigMap was read.
    pub fn configmaps_whole(&mut self, whole: bool) {
        if self.index.configmaps.whole(whole) {
            let tops: BTreeSet<Id> = self.referring.values().flatten().copied().collect();
            tops.iter().for_each(|top| self.join_anew(*top));
        }
    }

    fn join_anew(&mut self, top: Id) {
        let Some(node) = self.nodes.get(top) else { return };
        let mut workloads = self.index.take(top);
        self.join(&node.object, &mut workloads);
        self.index.put(top, workloads);
    }

    /// These speak about clients, and no others. What did not change is the same pointer.
    pub fn identities(&mut self, all: Vec<Arc<Identity>>) {
        let all = sorted(all);
        let pointers = |all: &[Arc<Identity>]| all.iter().map(Arc::as_ptr).collect::<HashSet<_>>();
        let (old, new) = (pointers(&self.index.identities), pointers(&all));
        if old == new {
            return;
        }
        let gone = self.index.identities.iter().filter(|i| !new.contains(&Arc::as_ptr(i)));
        let come = all.iter().filter(|i| !old.contains(&Arc::as_ptr(i)));
        let clients: BTreeSet<ClientKey> = gone.chain(come).map(|i| i.client.clone()).collect();
        let both = self.index.identities.iter().chain(&all).filter(|i| clients.contains(&i.client));
        let mut namespaces: BTreeSet<SmolStr> = both.map(|i| i.object.namespace.clone()).collect();
        self.index.identities = all;
        self.index.speak();
        clients.iter().for_each(|client| namespaces.extend(self.registered_in(client)));
        self.declare(namespaces);
    }

    /// This is how clients are registered.
    pub fn registrations(&mut self, mut all: Vec<Registration>) {
        all.sort();
        all.dedup();
        if all == self.index.registrations {
            return;
        }
        let mut namespaces = self.index.speaking();
        self.index.registrations = all;
        namespaces.extend(self.index.speaking());
        self.declare(namespaces);
    }

    /// The namespaces of ServiceAccounts that the provider takes for a client.
    fn registered_in(&self, client: &ClientKey) -> BTreeSet<SmolStr> {
        let of = self.index.registrations.iter().filter(|r| r.client == *client).flat_map(|r| &r.subjects);
        of.filter_map(|subject| Some(service_account(subject)?.0.into())).collect()
    }

    fn declare(&mut self, namespaces: BTreeSet<SmolStr>) {
        for namespace in namespaces {
            self.index.declare(namespace.clone());
            self.join_all(&namespace, |_| true);
        }
    }

    /// One grant takes the place of another; `None`: there was none, or is none any more.
    pub fn grant(&mut self, old: Option<&Arc<Grant>>, new: Option<&Arc<Grant>>) {
        let clients: BTreeSet<&ClientKey> = old.into_iter().chain(new).map(|grant| &grant.client).collect();
        let known = |index: &Index| clients.iter().map(|c| index.clients.contains_key(*c)).collect::<Vec<_>>();
        let before = known(&self.index);
        if let Some(old) = old
            && let Some(client) = self.index.clients.get_mut(&old.client)
        {
            client.remove(old);
        }
        if let Some(new) = new {
            self.index.clients.entry(new.client.clone()).or_default().add(new.clone());
        }
        for client in &clients {
            if self.index.clients.get(*client).is_some_and(super::client::Client::is_unknown) {
                self.index.clients.remove(*client);
            }
        }
        if known(&self.index) != before {
            let namespaces = clients.iter().flat_map(|client| self.registered_in(client)).collect();
            self.declare(namespaces);
        }
    }

    /// Everything that it was made of.
    #[must_use]
    pub fn input(&self) -> Input {
        let facts = self.nodes.iter().filter_map(|(_, node)| {
            let told = node.told.as_ref()?;
            let owner = told.owner.and_then(|owner| self.nodes.get(owner)).map(|owner| &owner.object);
            Some(Facts {
                object: (*node.object).clone(),
                place: Place::default(),
                owner: owner.map(|owner| (owner.kind.clone(), owner.name.clone())),
                template: told.counts.template.clone(),
            })
        });
        let accounts = self.accounts.iter().flat_map(|(namespace, accounts)| {
            accounts.iter().map(move |(name, says)| ((namespace.to_string(), name.to_string()), *says))
        });
        Input {
            facts: facts.collect(),
            accounts: accounts.collect(),
            configmaps: self.index.configmaps.clone(),
            identities: self.index.identities.clone(),
            grants: self.index.grants().cloned().collect(),
            registrations: self.index.registrations.clone(),
            ..Input::default()
        }
    }

    /// The parts in which it differs from an index that is made anew from the same. It never should.
    #[must_use]
    pub fn differences(&self) -> Vec<&'static str> {
        let Index { now, identities, registrations, clients, declared, .. } = &self.index;
        let anew = Index::new(*now, self.input());
        let parts = [
            ("workloads", anew.in_order() == self.index.in_order()),
            ("identities", anew.identities == *identities),
            ("registrations", anew.registrations == *registrations),
            ("clients", anew.clients == *clients),
            ("declarations", anew.declared == *declared),
        ];
        parts.into_iter().filter(|(_, same)| !same).map(|(part, _)| part).collect()
    }

    /// Joins everything anew.
    pub fn heal(&mut self) {
        let Input { facts, accounts, configmaps, identities, grants, registrations, .. } = self.input();
        let mut anew = Self::default();
        anew.index.configmaps = configmaps;
        for one in facts {
            anew.workload(&one.object.clone(), Some(one));
        }
        for ((namespace, name), says) in accounts {
            anew.account(&namespace, &name, Some(says));
        }
        anew.registrations(registrations);
        anew.identities(identities);
        for grant in grants {
            anew.grant(None, Some(&grant));
        }
        let old = std::mem::replace(self, anew);
        let Index { workloads, identities, registrations, clients, declared, .. } = std::mem::take(&mut self.index);
        self.index = Index { workloads, identities, registrations, clients, declared, ..old.index };
    }
}
