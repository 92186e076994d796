//! What RBAC lets a ServiceAccount do to clients: the part that SC-204 and SC-205 share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::declared::Identity;
use crate::sharing::finding::{Evidence, Grade, Object, Severity};
use crate::sharing::index::{Index, Workload};
use crate::sharing::rbac::Subject;
use crate::sharing::reach::{Granted, Reach, reach};
use crate::sharing::role::Role;

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
pub(super) struct Done<'a> {
    pub clients: BTreeSet<&'a ClientKey>,
    pub grade: Option<Grade>,
    evidence: Vec<Evidence>,
}

/// What there is to reach in one namespace, by name.
#[derive(Default)]
struct Target<'a> {
    secrets: Vec<(&'a str, &'a BTreeSet<ClientKey>)>,
    accounts: Vec<(&'a str, &'a BTreeSet<ClientKey>)>,
    federated: Vec<(&'a str, &'a BTreeSet<ClientKey>)>,
    holders: Vec<(&'a str, &'a Workload)>,
}

/// The clients of each ServiceAccount, by namespace and name.
pub(super) type Accounts = BTreeMap<(String, String), BTreeSet<ClientKey>>;

/// What there is to reach, so that a right in one namespace is compared with what is there and no more.
pub(super) struct Targets<'a>(BTreeMap<&'a str, Target<'a>>);

impl<'a> Targets<'a> {
    pub fn new(index: &'a Index, accounts: &'a Accounts) -> Self {
        let mut all = BTreeMap::<&str, Target<'a>>::new();
        for (namespace, secret, _, clients) in index.bound() {
            all.entry(namespace).or_default().secrets.push((secret, clients));
        }
        for ((namespace, name), clients) in accounts {
            all.entry(namespace).or_default().accounts.push((name, clients));
        }
        for (namespace, name, clients) in index.federated() {
            all.entry(namespace).or_default().federated.push((name, clients));
        }
        // Without pods there is nothing to run commands in.
        for workload in index.workloads().filter(|w| !w.exposures.is_empty() && w.account().is_some()) {
            let object = &workload.object;
            all.entry(&object.namespace).or_default().holders.push((&object.name, workload));
        }
        Self(all)
    }

    fn within<'b>(&'b self, reach: &'b Reach) -> impl Iterator<Item = (&'a str, &'b Target<'a>)> {
        let everywhere = reach.touches("").then(|| self.0.iter()).into_iter().flatten();
        let some = reach.namespaces().filter_map(|namespace| self.0.get_key_value(namespace));
        everywhere.chain(some).map(|(namespace, target)| (*namespace, target))
    }
}

/// Everybody, as far as there is anything to reach.
pub(super) fn holders<'a>(index: &'a Index, accounts: &'a Accounts) -> impl Iterator<Item = Holder<'a>> {
    let some = index.has_credentials();
    index.policy.subjects().filter(move |_| some).map(|subject| {
        let direct = index.policy.granted(subject);
        match subject {
            Subject::Account(namespace, name) => {
                let key = (namespace.clone(), name.clone());
                Holder {
                    object: Object::new("ServiceAccount", namespace, name),
                    own: accounts.get(&key).cloned().unwrap_or_default(),
                    platform: index.roles.has_account(Role::Platform, namespace, name),
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

impl<'a> Holder<'a> {
    /// What these rights let it do. Nothing, if its groups alone can do as much: they have a finding of their own.
    pub fn can(&self, targets: &Targets<'a>, powers: &[Power]) -> Done<'a> {
        let all: Vec<Granted<'_>> = self.direct.iter().chain(&self.groups).copied().collect();
        let mut done = Done::default();
        for power in powers {
            power.apply(targets, &all, &mut done);
        }
        let mut of_groups = Done::default();
        for power in powers.iter().filter(|_| !self.groups.is_empty()) {
            power.apply(targets, &self.groups, &mut of_groups);
        }
        if done.clients == of_groups.clients { Done::default() } else { done }
    }

    /// The finding.
    pub fn found(&self, index: &Index, rule: &Rule, done: Done<'_>) -> Found {
        let severity = if self.platform { Severity::Info } else { rule.severity };
        let mut found = Found::new(rule.id, severity, done.grade.unwrap_or(Grade::Potential), self.object.clone());
        if self.object.kind == "Group" {
            // An exception names it as if it were in its own namespace.
            let namespaces = index.identities.iter().filter(|i| done.clients.contains(&i.client));
            let named = |i: &Arc<Identity>| Object::new("Group", i.object.namespace.clone(), self.object.name.clone());
            found.counterparts = namespaces.map(named).collect();
        }
        found.own = Some(self.own.clone());
        found.evidence = done.evidence;
        found.clients = done.clients.into_iter().cloned().collect();
        found
    }
}

impl Power {
    fn apply<'a>(&self, targets: &Targets<'a>, granted: &[Granted<'_>], done: &mut Done<'a>) {
        let needed = self.with.map(|(verbs, resource)| reach(granted, verbs, self.group, resource));
        let whole = reach(granted, self.verbs, self.group, self.resource);
        for one in granted {
            let clients = self.clients(targets, &one.reach(self.verbs, self.group, self.resource), needed.as_ref());
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
    fn clients<'a>(&self, targets: &Targets<'a>, reach: &Reach, needed: Option<&Reach>) -> BTreeSet<&'a ClientKey> {
        let mut clients = BTreeSet::new();
        for (namespace, of) in targets.within(reach) {
            let named = |list: &[(&str, &'a BTreeSet<ClientKey>)]| -> Vec<&'a ClientKey> {
                let some = list.iter().filter(|(name, _)| reach.has(namespace, name));
                some.flat_map(|(_, clients)| clients.iter()).collect()
            };
            match self.hits {
                Hits::Slots => clients.extend(named(&of.secrets)),
                Hits::Accounts => clients.extend(named(&of.accounts)),
                Hits::Federated => clients.extend(named(&of.federated)),
                Hits::Namespaces => {
                    // Making something names nothing yet.
                    let here =
                        if self.verbs == ["create"] { reach.has(namespace, "") } else { reach.touches(namespace) };
                    if here && needed.is_none_or(|needed| needed.touches(namespace)) {
                        let all = of.secrets.iter().chain(&of.federated);
                        clients.extend(all.flat_map(|(_, clients)| clients.iter()));
                    }
                }
                Hits::Holders => {
                    for (name, workload) in &of.holders {
                        if reach.has_pod(namespace, name) {
                            clients.extend(workload.exposures.iter().map(|e| &e.client));
                        }
                    }
                }
                Hits::Users => {
                    for (name, of_account) in &of.accounts {
                        if reach.has("", &format!("system:serviceaccount:{namespace}:{name}")) {
                            clients.extend(of_account.iter());
                        }
                    }
                }
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
