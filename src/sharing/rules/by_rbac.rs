//! What RBAC lets a ServiceAccount do to clients: the part that SC-204 and SC-205 share.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::{Evidence, Grade, Object, Severity};
use crate::sharing::index::Index;
use crate::sharing::rbac::Subject;
use crate::sharing::reach::{Granted, Reach, reach};

/// Roles and bindings that are shown at most.
const SHOWN: usize = 10;

/// What a right is good for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hits {
    /// The Secrets with these names.
    Slots,
    /// Whatever is in the namespace: any pod may be given it.
    Namespaces,
    /// The pods of workloads that can act as a client.
    Holders,
    /// The ServiceAccounts of clients.
    Accounts,
    /// The same, named as users are.
    Users,
    /// The ServiceAccounts whose tokens authenticate a client.
    Federated,
}

/// A right that matters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Power {
    pub verbs: &'static [&'static str],
    pub group: &'static str,
    pub resource: &'static str,
    /// What the objects are called.
    pub noun: &'static str,
    pub hits: Hits,
    pub grade: Grade,
    /// It is of no use without this one: a verb and a resource of the same group.
    pub with: Option<(&'static [&'static str], &'static str)>,
}

/// Somebody whom bindings name.
pub(super) struct Holder<'a> {
    pub object: Object,
    /// Clients whose own account it is.
    pub own: BTreeSet<ClientKey>,
    pub platform: bool,
    direct: Vec<Granted<'a>>,
    groups: Vec<Granted<'a>>,
}

/// What somebody can do.
#[derive(Default)]
pub(super) struct Done {
    pub clients: BTreeSet<ClientKey>,
    pub grade: Option<Grade>,
    evidence: Vec<Evidence>,
}

/// Everybody, as far as there is anything to reach.
pub(super) fn holders(index: &Index) -> impl Iterator<Item = Holder<'_>> {
    let some = !(index.bound.is_empty() && index.federated.is_empty());
    index.policy.subjects().filter(move |_| some).map(|subject| {
        let direct = index.policy.granted(subject);
        match subject {
            Subject::Account(namespace, name) => {
                let key = (namespace.clone(), name.clone());
                Holder {
                    object: Object::new("ServiceAccount", namespace, name),
                    own: index.accounts.get(&key).cloned().unwrap_or_default(),
                    platform: index.platform.contains(&key),
                    direct,
                    groups: index.policy.of_groups(namespace),
                }
            }
            Subject::Group(name) => Holder {
                object: Object::new("Group", "", name),
                own: BTreeSet::new(),
                platform: false,
                direct,
                groups: Vec::new(),
            },
        }
    })
}

impl Holder<'_> {
    /// What these rights let it do. Nothing, if its groups alone can do as much: they have a finding of their own.
    pub fn can(&self, index: &Index, powers: &[Power]) -> Done {
        let all: Vec<Granted<'_>> = self.direct.iter().chain(&self.groups).copied().collect();
        let mut done = Done::default();
        for power in powers {
            power.apply(index, &all, &mut done);
        }
        let mut of_groups = Done::default();
        for power in powers.iter().filter(|_| !self.groups.is_empty()) {
            power.apply(index, &self.groups, &mut of_groups);
        }
        if done.clients == of_groups.clients { Done::default() } else { done }
    }

    /// The finding.
    pub fn found(&self, index: &Index, rule: &Rule, done: Done) -> Found {
        let severity = if self.platform { Severity::Info } else { rule.severity };
        let mut found = Found::new(rule.id, severity, done.grade.unwrap_or(Grade::Potential), self.object.clone());
        if self.object.kind == "Group" {
            // An exception names it as if it were in its own namespace.
            let namespaces = index.identities.iter().filter(|i| done.clients.contains(&i.client));
            let named = |i: &crate::sharing::declared::Identity| {
                Object::new("Group", i.object.namespace.clone(), self.object.name.clone())
            };
            found.counterparts = namespaces.map(named).collect();
        }
        found.own = Some(self.own.clone());
        found.evidence = done.evidence;
        found.clients = done.clients;
        found
    }
}

impl Power {
    fn apply(&self, index: &Index, granted: &[Granted<'_>], done: &mut Done) {
        let needed = self.with.map(|(verbs, resource)| reach(granted, verbs, self.group, resource));
        let whole = reach(granted, self.verbs, self.group, self.resource);
        for one in granted {
            let clients = self.clients(index, &one.reach(self.verbs, self.group, self.resource), needed.as_ref());
            if clients.is_empty() {
                continue;
            }
            done.clients.extend(clients);
            done.grade = done.grade.max(Some(self.grade));
            // Who has all of them is not told about single ones.
            let scope = one.binding.object.namespace.as_str();
            if (one.rule.names.is_empty() || !whole.has(scope, "")) && done.evidence.len() < 2 * SHOWN {
                done.evidence.extend(self.evidence(one));
            }
        }
    }

    /// Which clients somebody with this reach has.
    fn clients(&self, index: &Index, reach: &Reach, needed: Option<&Reach>) -> BTreeSet<ClientKey> {
        let mut clients = BTreeSet::new();
        let mut take = |of: &BTreeSet<ClientKey>| clients.extend(of.iter().cloned());
        let accounts = |of: &BTreeMap<(String, String), BTreeSet<ClientKey>>| -> BTreeSet<ClientKey> {
            of.iter().filter(|((ns, name), _)| reach.has(ns, name)).flat_map(|(_, c)| c.iter().cloned()).collect()
        };
        match self.hits {
            Hits::Slots => index.bound.iter().filter(|((ns, s, _), _)| reach.has(ns, s)).for_each(|(_, c)| take(c)),
            Hits::Namespaces => {
                let bound = index.bound.iter().map(|((ns, _, _), c)| (ns, c));
                let federated = index.federated.iter().map(|((ns, _), c)| (ns, c));
                let enough = |ns: &str| {
                    // Making something names nothing yet.
                    let here = if self.verbs == ["create"] { reach.has(ns, "") } else { reach.touches(ns) };
                    here && needed.is_none_or(|needed| needed.touches(ns))
                };
                bound.chain(federated).filter(|(ns, _)| enough(ns)).for_each(|(_, c)| take(c));
            }
            Hits::Holders => {
                for workload in &index.workloads {
                    let object = &workload.facts.object;
                    if reach.has_begin(&object.namespace, &object.name) {
                        take(&workload.exposures.iter().map(|e| e.client.clone()).collect());
                    }
                }
            }
            Hits::Accounts => take(&accounts(&index.accounts)),
            Hits::Federated => take(&accounts(&index.federated)),
            Hits::Users => {
                let named = index.accounts.iter();
                let user = |ns: &str, name: &str| format!("system:serviceaccount:{ns}:{name}");
                named.filter(|((ns, name), _)| reach.has("", &user(ns, name))).for_each(|(_, c)| take(c));
            }
        }
        clients
    }

    fn evidence(&self, one: &Granted<'_>) -> [Evidence; 2] {
        let Granted { rule, of, binding, subject } = one;
        let verbs: Vec<&str> =
            self.verbs.iter().copied().filter(|verb| rule.verbs.contains("*") || rule.verbs.contains(*verb)).collect();
        let mut names: Vec<&str> = rule.names.iter().map(String::as_str).take(3).collect();
        if rule.names.len() > names.len() {
            names.push("…");
        }
        let what = if names.is_empty() {
            format!("every {}", self.noun)
        } else {
            format!("{} {}", self.noun, names.join(", "))
        };
        let scope = match binding.object.namespace.as_str() {
            "" => "every namespace".to_owned(),
            namespace => format!("namespace {namespace}"),
        };
        let says = format!("({}): {what} in {scope}", verbs.join(", "));
        let role = match of {
            Some((role, at)) => {
                Evidence { path: format!("rules[{at}] {says}"), place: role.place.clone(), object: role.object.clone() }
            }
            None => Evidence {
                path: format!("as Kubernetes brings it {says}"),
                place: binding.place.clone(),
                object: binding.role.clone(),
            },
        };
        let binding = Evidence {
            path: format!("subjects[{subject}]"),
            place: binding.place.clone(),
            object: binding.object.clone(),
        };
        [role, binding]
    }
}
