//! The index, kept while what it is made of changes: an event costs what it changes, not what there is.
//!
//! Of an object nothing is kept but its name, its owner and what its template says, and of equal templates one.
//! Pods count as the workload that a person wrote: those of one template are a number. [`Live::differences`]
//! compares all of it with the index that is made anew from the same facts.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::declared::{Grant, Identity};
use super::evaluate::Input;
use super::facts::{Facts, Template};
use super::finding::{Object, Place};
use super::fold::{Owner, assemble, target, top};
use super::index::{Index, Workload, service_account, sorted};
use super::registration::Registration;
use crate::grant::ClientKey;

/// What was told of an object.
#[derive(Debug)]
struct Told {
    group: &'static str,
    owner: Option<Owner>,
    template: Arc<Template>,
    /// What it counts as, and with which API group.
    top: Arc<Object>,
    top_group: &'static str,
}

/// The templates of a workload: with which API group it counts, and how many objects have it. They are few, and
/// equal ones are one, so that pointers tell them apart.
type Templates = Vec<(&'static str, Arc<Template>, usize)>;

fn place_of(templates: &Templates, group: &'static str, template: &Arc<Template>) -> Option<usize> {
    templates.iter().position(|(of, known, _)| *of == group && Arc::ptr_eq(known, template))
}

/// Everything that was told, joined.
#[derive(Debug, Default)]
pub struct Live {
    objects: HashMap<Arc<Object>, Told>,
    /// What names an object as its owner.
    owned: HashMap<Object, BTreeSet<Arc<Object>>>,
    tops: HashMap<Arc<Object>, Templates>,
    /// What `tops` has, by namespace.
    namespaces: HashMap<String, BTreeSet<Arc<Object>>>,
    /// What borrows the template of an object.
    borrowers: HashMap<Object, BTreeSet<Arc<Object>>>,
    /// How many objects have a template.
    interned: HashMap<Arc<Template>, usize>,
    /// By namespace and name, what a ServiceAccount says about its token.
    accounts: BTreeMap<String, BTreeMap<String, Option<bool>>>,
    index: Index,
}

/// Takes a member out of a set; a set of nothing goes.
fn drop_from<K: std::hash::Hash + Eq>(sets: &mut HashMap<K, BTreeSet<Arc<Object>>>, key: &K, member: &Arc<Object>) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(member);
        if set.is_empty() {
            sets.remove(key);
        }
    }
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
        self.objects.len()
            + self.accounts.values().map(BTreeMap::len).sum::<usize>()
            + self.index.identities.len()
            + self.index.grants().count()
    }

    /// A workload is this; `None`: it is gone, or says nothing. True if that makes a difference.
    pub fn workload(&mut self, object: &Object, facts: Option<Facts>) -> bool {
        let old = self.objects.get(object);
        let same = match (old, &facts) {
            (None, None) => true,
            (Some(old), Some(new)) => old.group == new.group && old.owner == new.owner && old.template == new.template,
            _ => false,
        };
        if same {
            return false;
        }
        let mut dirty = BTreeSet::new();
        let (id, owner) = match self.objects.remove_entry(object) {
            None => (Arc::new(object.clone()), None),
            Some((id, told)) => {
                self.leave(&told, &mut dirty);
                if let Some(owner) = &told.owner {
                    drop_from(&mut self.owned, &target(&id.namespace, owner), &id);
                }
                if let Some(count) = self.interned.get_mut(&told.template) {
                    *count -= 1;
                    if *count == 0 {
                        self.interned.remove(&told.template);
                    }
                }
                (id, told.owner)
            }
        };
        let new = facts.as_ref().and_then(|facts| facts.owner.clone());
        if let Some(facts) = facts {
            self.enter(&id, facts, &mut dirty);
        }
        if owner != new {
            self.lead_anew(&id, &mut dirty);
        }
        self.assemble(&dirty);
        !dirty.is_empty()
    }

    fn enter(&mut self, id: &Arc<Object>, facts: Facts, dirty: &mut BTreeSet<Arc<Object>>) {
        let Facts { group, owner, template, .. } = facts;
        let template = match self.interned.entry(template) {
            Entry::Occupied(mut known) => {
                *known.get_mut() += 1;
                known.key().clone()
            }
            Entry::Vacant(new) => {
                let template = new.key().clone();
                new.insert(1);
                template
            }
        };
        if let Some(owner) = &owner {
            self.owned.entry(target(&id.namespace, owner)).or_default().insert(id.clone());
        }
        let told = Told { group, owner, template, top: id.clone(), top_group: group };
        let told = self.led(id, told, dirty);
        self.objects.insert(id.clone(), told);
    }

    /// Finds what an object counts as, and counts it there.
    fn led(&mut self, id: &Arc<Object>, told: Told, dirty: &mut BTreeSet<Arc<Object>>) -> Told {
        let owner_of = |object: &Object| match self.objects.get(object) {
            // It may be on its way in, or be its own owner by a round.
            None if *object == **id => told.owner.clone(),
            known => known.and_then(|told| told.owner.clone()),
        };
        let (top, group) = top(id, told.group, told.owner.clone(), owner_of);
        let known = self.tops.get_key_value(&top).map(|(known, _)| known.clone());
        let top = known.unwrap_or_else(|| if top == **id { id.clone() } else { Arc::new(top) });
        let templates = self.tops.entry(top.clone()).or_default();
        if templates.is_empty() {
            self.namespaces.entry(top.namespace.clone()).or_default().insert(top.clone());
        }
        let known = place_of(templates, group, &told.template).and_then(|at| templates.get_mut(at));
        if let Some((_, _, count)) = known {
            *count += 1;
        } else {
            templates.push((group, told.template.clone(), 1));
            if let Some(lender) = &told.template.borrows {
                self.borrowers.entry(target(&top.namespace, lender)).or_default().insert(top.clone());
            }
            dirty.insert(top.clone());
        }
        Told { top, top_group: group, ..told }
    }

    fn leave(&mut self, told: &Told, dirty: &mut BTreeSet<Arc<Object>>) {
        let Some(templates) = self.tops.get_mut(&told.top) else { return };
        let Some(at) = place_of(templates, told.top_group, &told.template) else { return };
        if let Some((_, _, count)) = templates.get_mut(at).filter(|(_, _, count)| *count > 1) {
            *count -= 1;
            return;
        }
        templates.remove(at);
        dirty.insert(told.top.clone());
        let lends = |lender: &Owner| templates.iter().any(|(_, t, _)| t.borrows.as_ref() == Some(lender));
        if let Some(lender) = told.template.borrows.as_ref().filter(|lender| !lends(lender)) {
            drop_from(&mut self.borrowers, &target(&told.top.namespace, lender), &told.top);
        }
        if templates.is_empty() {
            self.tops.remove(&told.top);
            drop_from(&mut self.namespaces, &told.top.namespace, &told.top);
        }
    }

    /// The owner of an object changed: what it owns may count as something else.
    fn lead_anew(&mut self, id: &Arc<Object>, dirty: &mut BTreeSet<Arc<Object>>) {
        let (mut seen, mut next) = (BTreeSet::from([id.clone()]), vec![id.clone()]);
        while let Some(owner) = next.pop() {
            for owned in self.owned.get(&owner).cloned().unwrap_or_default() {
                if !seen.insert(owned.clone()) {
                    continue;
                }
                if let Some(told) = self.objects.remove(&owned) {
                    self.leave(&told, dirty);
                    let told = self.led(&owned, told, dirty);
                    self.objects.insert(owned.clone(), told);
                }
                next.push(owned);
            }
        }
    }

    /// Puts workloads together anew, and those that borrow from them.
    fn assemble(&mut self, dirty: &BTreeSet<Arc<Object>>) {
        let borrow = dirty.iter().filter_map(|top| self.borrowers.get(&**top)).flatten();
        let all: BTreeSet<Arc<Object>> = dirty.iter().chain(borrow).cloned().collect();
        let place = Place::default();
        for top in all {
            let Some(templates) = self.tops.get(&top) else {
                self.index.workloads.remove(&top);
                continue;
            };
            let group = templates.iter().map(|(group, ..)| *group).min().unwrap_or_default();
            let templates_of = |object: &Object| {
                let templates = self.tops.get(object).into_iter().flatten();
                templates.map(|(_, template, _)| template.clone()).collect()
            };
            let told = templates.iter().map(|(_, template, _)| (template, &place));
            let mut workloads = assemble(&top, group, told, templates_of);
            self.join(&top, &mut workloads);
            self.index.workloads.insert(top, workloads);
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
            let Some(mut workloads) = self.index.workloads.get_mut(&top).map(std::mem::take) else { continue };
            if concerns(&workloads) {
                self.join(&top, &mut workloads);
            }
            self.index.workloads.insert(top, workloads);
        }
    }

    /// A ServiceAccount says this about its token; `None`: it is gone. True if that is news.
    pub fn account(&mut self, namespace: &str, name: &str, says: Option<Option<bool>>) -> bool {
        let accounts = self.accounts.entry(namespace.to_owned()).or_default();
        let news = match says {
            Some(says) => accounts.insert(name.to_owned(), says) != Some(says),
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
        let mut namespaces: BTreeSet<String> = both.map(|i| i.object.namespace.clone()).collect();
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
    fn registered_in(&self, client: &ClientKey) -> BTreeSet<String> {
        let of = self.index.registrations.iter().filter(|r| r.client == *client).flat_map(|r| &r.subjects);
        of.filter_map(|subject| Some(service_account(subject)?.0.to_owned())).collect()
    }

    fn declare(&mut self, namespaces: BTreeSet<String>) {
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
            if self.index.clients.get(*client).is_some_and(super::index::Client::is_unknown) {
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
        let facts = self.objects.iter().map(|(id, told)| Facts {
            object: (**id).clone(),
            group: told.group,
            place: Place::default(),
            owner: told.owner.clone(),
            template: told.template.clone(),
        });
        let accounts = self.accounts.iter().flat_map(|(namespace, accounts)| {
            accounts.iter().map(move |(name, says)| ((namespace.clone(), name.clone()), *says))
        });
        Input {
            facts: facts.collect(),
            accounts: accounts.collect(),
            identities: self.index.identities.clone(),
            grants: self.index.grants().cloned().collect(),
            registrations: self.index.registrations.clone(),
            ..Input::default()
        }
    }

    /// The parts in which it differs from an index that is made anew from the same. It never should.
    #[must_use]
    pub fn differences(&self) -> Vec<&'static str> {
        let Index { now, workloads, identities, registrations, clients, declared, .. } = &self.index;
        let anew = Index::new(*now, self.input());
        let parts = [
            ("workloads", anew.workloads == *workloads),
            ("identities", anew.identities == *identities),
            ("registrations", anew.registrations == *registrations),
            ("clients", anew.clients == *clients),
            ("declarations", anew.declared == *declared),
        ];
        parts.into_iter().filter(|(_, same)| !same).map(|(part, _)| part).collect()
    }

    /// Joins everything anew.
    pub fn heal(&mut self) {
        let Input { facts, accounts, identities, grants, registrations, .. } = self.input();
        let mut anew = Self::default();
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
