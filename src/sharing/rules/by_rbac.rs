//! What RBAC lets a ServiceAccount do to clients: the part that SC-204 and SC-205 share.

use std::cell::{LazyCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::declared::{Credential, Identity};
use crate::sharing::finding::{Evidence, Grade, Object, Severity};
use crate::sharing::index::{Index, subject};
use crate::sharing::rbac::{PolicyRule, Subject};
use crate::sharing::reach::{GROUPS, Granted, OF_NAMESPACE, Reach, allows, reach};
use crate::sharing::role::Role;
use crate::sharing::workload::Workload;

/// Roles and bindings that are shown at most.
const SHOWN: usize = 10;

/// To read Secrets.
pub(super) const READ: Power = Power {
    // A patch that changes nothing is answered with the whole Secret, and so is a deletion that waits for something,
    // be it a dry run. An update is answered with what was sent.
    verbs: &["get", "list", "watch", "patch", "delete", "deletecollection"],
    group: "",
    resource: "secrets",
    noun: "Secret",
    hits: Hits::Slots,
    grade: Grade::Reachable,
    with: None,
};

/// To put a role into a binding that allows more than oneself may.
pub(super) const BIND: &[&str] = &["bind"];

/// The group to which the API server refuses nothing.
const MASTERS: &str = "system:masters";

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
    /// Those of clients that are authenticated by their tokens.
    Federated,
    /// The same, named as users are.
    Users,
    /// Whatever is in the cluster, by a right that counts in all of it only.
    Cluster,
    /// The same, by being in the group that may do everything.
    Masters,
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

/// Clients, and how sure it is that somebody can be each.
pub(super) type Can<'a> = BTreeMap<&'a ClientKey, Grade>;

/// Somebody whom bindings name.
pub(super) struct Holder<'a> {
    object: Object,
    /// Clients whose own account it is.
    pub own: BTreeSet<ClientKey>,
    /// Clients that it can be without RBAC: its own, and those whose credentials its workloads receive. Of a group
    /// those of each ServiceAccount in it.
    pub hands: Vec<BTreeSet<ClientKey>>,
    /// Only the identity provider runs as it.
    pub issuer: bool,
    /// What it can do, by its groups too.
    pub can: Rc<Can<'a>>,
    /// That part of it which its groups alone cannot do, or not as surely: they have a finding of their own.
    pub more: Rc<Can<'a>>,
}

/// Rules, each with the namespace in which somebody has it.
type Rules<'a> = Vec<(&'a str, &'a PolicyRule)>;

/// What is worth saying of somebody.
pub(super) struct Told {
    /// Before what the rules about roles make of it.
    pub severity: Severity,
    /// The clients it concerns.
    pub clients: BTreeSet<ClientKey>,
}

/// What everybody in a group has, by the wider groups too.
#[derive(Default)]
struct Level<'a> {
    granted: Vec<Granted<'a>>,
    can: Rc<Can<'a>>,
    /// What those in it who have the same rules beside it have by them, and by all: mostly many have the same role.
    same: RefCell<BTreeMap<Rules<'a>, [Rc<Can<'a>>; 2]>>,
}

/// A Secret or a ServiceAccount of clients.
type Named<'a> = (&'a str, &'a BTreeSet<ClientKey>);

/// What there is to reach in one namespace, by name.
#[derive(Default)]
struct Target<'a> {
    secrets: Vec<Named<'a>>,
    accounts: Vec<Named<'a>>,
    federated: Vec<Named<'a>>,
    holders: Vec<&'a Workload>,
}

impl<'a> Target<'a> {
    fn all<'b>(&'b self) -> impl Iterator<Item = &'a ClientKey> + use<'a, 'b> {
        self.secrets.iter().chain(&self.federated).flat_map(|(_, clients)| clients.iter())
    }
}

/// The clients of each ServiceAccount, by namespace and name.
type Accounts = BTreeMap<(String, String), BTreeSet<ClientKey>>;

/// What there is to reach, so that a right in one namespace is compared with what is there and no more.
struct Targets<'a>(BTreeMap<&'a str, Target<'a>>);

impl<'a> Targets<'a> {
    fn new(index: &'a Index, accounts: &'a Accounts) -> Self {
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
            all.entry(&workload.object.namespace).or_default().holders.push(workload);
        }
        Self(all)
    }

    fn within<'b>(&'b self, reach: &'b Reach) -> impl Iterator<Item = (&'a str, &'b Target<'a>)> {
        let everywhere = reach.touches("").then(|| self.0.iter()).into_iter().flatten();
        let some = reach.namespaces().filter_map(|namespace| self.0.get_key_value(namespace));
        everywhere.chain(some).map(|(namespace, target)| (*namespace, target))
    }
}

/// Who runs as what.
pub(super) struct People<'a> {
    index: &'a Index,
    accounts: &'a Accounts,
    /// Workloads that are clients, by namespace and name of their account.
    running: BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Workload>>>,
    /// Accounts as which only the identity provider runs.
    issuers: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> People<'a> {
    fn new(index: &'a Index, accounts: &'a Accounts) -> Self {
        let mut running = BTreeMap::<&str, BTreeMap<&str, Vec<&Workload>>>::new();
        for workload in index.workloads().filter(|w| !(w.uses.is_empty() && w.exposures.is_empty())) {
            let within = running.entry(&workload.object.namespace).or_default();
            within.entry(&workload.service_account).or_default().push(workload);
        }
        let account = |w: &'a Workload| (w.object.namespace.as_str(), w.service_account.as_str());
        let mut issuers: BTreeSet<_> = index.workloads().filter(|w| index.is_issuer(w)).map(account).collect();
        if !issuers.is_empty() {
            for workload in index.workloads().filter(|w| !index.is_issuer(w)) {
                issuers.remove(&account(workload));
            }
        }
        Self { index, accounts, running, issuers }
    }

    fn own(&self, namespace: &str, name: &str) -> BTreeSet<ClientKey> {
        self.accounts.get(&(namespace.to_owned(), name.to_owned())).cloned().unwrap_or_default()
    }

    fn running(&self, namespace: &str, name: &str) -> &[&'a Workload] {
        self.running.get(namespace).and_then(|within| within.get(name)).map(Vec::as_slice).unwrap_or_default()
    }

    fn hand(&self, namespace: &str, name: &str) -> BTreeSet<ClientKey> {
        let mut hand = self.own(namespace, name);
        for workload in self.running(namespace, name).iter().filter(|w| !self.index.is_issuer(w)) {
            hand.extend(workload.exposures.iter().map(|e| e.client.clone()));
        }
        hand
    }

    /// Whether it is said whose a client is, and such an account is there.
    pub fn knows(&self, client: &ClientKey) -> bool {
        self.index.clients.get(client).is_some_and(|c| c.entitlement_known)
            && self.accounts.values().any(|clients| clients.contains(client))
    }

    /// What is known of somebody beside RBAC.
    fn holder(&self, subject: &Subject, can: Rc<Can<'a>>, more: Rc<Can<'a>>) -> Holder<'a> {
        match subject {
            Subject::Account(namespace, name) => {
                let runs = self.issuers.contains(&(namespace.as_str(), name.as_str()));
                Holder {
                    object: Object::new("ServiceAccount", namespace, name),
                    own: self.own(namespace, name),
                    hands: vec![self.hand(namespace, name)],
                    issuer: runs || self.index.roles.has_account(Role::Issuer, namespace, name),
                    can,
                    more,
                }
            }
            Subject::Group(name) => {
                let of = name.strip_prefix(OF_NAMESPACE);
                let own = self.accounts.keys().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
                let running =
                    self.running.iter().flat_map(|(namespace, of)| of.keys().map(move |name| (*namespace, *name)));
                let all: BTreeSet<(&str, &str)> = own.chain(running).collect();
                let within = all.into_iter().filter(|(namespace, _)| of.is_none_or(|of| of == *namespace));
                Holder {
                    object: Object::new("Group", "", name),
                    own: BTreeSet::new(),
                    hands: within.map(|(namespace, name)| self.hand(namespace, name)).collect(),
                    issuer: false,
                    can,
                    more,
                }
            }
        }
    }

    /// What shows that an account has these clients without RBAC.
    fn shows(&self, account: &Object, clients: &BTreeSet<&ClientKey>) -> Vec<Evidence> {
        let of =
            |w: &&&Workload| w.uses.iter().chain(w.exposures.iter().map(|e| &e.client)).any(|c| clients.contains(c));
        let workloads = self.running(&account.namespace, &account.name).iter().filter(of).take(SHOWN);
        let subject = subject(&account.namespace, &account.name);
        let says = |identity: &Arc<Identity>| {
            let named = identity.service_account.as_deref() == Some(account.name.as_str());
            let federated = identity.credentials.contains(&Credential::Federated(subject.clone()));
            let path = if named { "spec.serviceAccountName" } else { "spec.credentials" };
            (identity.object.namespace == account.namespace && (named || federated))
                .then(|| Index::declaration(identity, path))
        };
        let identities =
            clients.iter().flat_map(|client| self.index.identities_of(client)).filter_map(says).take(SHOWN);
        workloads.map(|w| w.evidence("spec.serviceAccountName")).chain(identities).collect()
    }
}

impl Holder<'_> {
    pub fn is_group(&self) -> bool {
        self.object.kind == "Group"
    }

    /// Whether it is a stranger to a client: none of its own, nor of the family of one.
    pub fn is_foreign(&self, index: &Index, client: &ClientKey) -> bool {
        !self.own.iter().any(|own| index.related(own, client))
    }
}

/// One rule's look at everybody.
struct Look<'a, T> {
    people: People<'a>,
    targets: Targets<'a>,
    rule: &'a Rule,
    powers: &'a [Power],
    tell: T,
    all: Vec<Found>,
}

/// Finds everybody of whom something is worth saying. What a group gives is said of the group: of an account, or of
/// a narrower group, what it can do beyond that, be it by several bindings and groups together.
pub(super) fn find(
    index: &Index,
    rule: &Rule,
    powers: &[Power],
    tell: impl Fn(&People<'_>, &Holder<'_>) -> Option<Told>,
) -> Vec<Found> {
    // Putting together who has what is the larger part.
    if !index.has_credentials() || index.policy.subjects().next().is_none() {
        return Vec::new();
    }
    let accounts = index.accounts();
    let (people, targets) = (People::new(index, &accounts), Targets::new(index, &accounts));
    let mut look = Look { people, targets, rule, powers, tell, all: Vec::new() };
    let mut level = Level::default();
    for name in GROUPS {
        level = look.at(&Subject::Group(name.to_owned()), &level);
    }
    let mut of_namespaces = BTreeMap::new();
    for subject in index.policy.subjects() {
        let Subject::Group(name) = subject else { continue };
        let Some(namespace) = name.strip_prefix(OF_NAMESPACE) else { continue };
        of_namespaces.insert(namespace, look.at(subject, &level));
    }
    for subject in index.policy.subjects() {
        let Subject::Account(namespace, _) = subject else { continue };
        let direct = index.policy.granted(subject);
        look.judge(subject, of_namespaces.get(namespace.as_str()).unwrap_or(&level), &direct);
    }
    look.all
}

impl<'a> Level<'a> {
    fn with(&self, more: &Rc<Can<'a>>) -> Rc<Can<'a>> {
        if self.can.is_empty() {
            return more.clone();
        }
        let mut can = self.can.clone();
        Rc::make_mut(&mut can).extend(more.iter());
        can
    }
}

impl<'a, T: Fn(&People<'_>, &Holder<'_>) -> Option<Told>> Look<'a, T> {
    /// Judges a group, and puts what it gives on top of what the wider ones do.
    fn at(&mut self, group: &Subject, wider: &Level<'a>) -> Level<'a> {
        let direct = self.people.index.policy.granted(group);
        let can = self.judge(group, wider, &direct);
        Level { can, granted: wider.granted.iter().copied().chain(direct).collect(), same: RefCell::default() }
    }

    /// Says of somebody what is worth saying, and returns what it can do.
    fn judge(&mut self, subject: &Subject, wider: &Level<'a>, direct: &[Granted<'a>]) -> Rc<Can<'a>> {
        let rules: Rules<'_> = direct.iter().map(|one| (one.binding.object.namespace.as_str(), one.rule)).collect();
        let known = wider.same.borrow().get(&rules).cloned();
        let [more, can] = known.unwrap_or_else(|| {
            let more = Rc::new(self.more(wider, direct));
            let both = [more.clone(), wider.with(&more)];
            wider.same.borrow_mut().insert(rules, both.clone());
            both
        });
        if !more.is_empty() {
            let holder = self.people.holder(subject, can.clone(), more);
            let found = (self.tell)(&self.people, &holder).map(|told| self.found(wider, direct, &holder, told));
            self.all.extend(found);
        }
        can
    }

    /// What somebody can do beyond what the groups give.
    fn more(&self, wider: &Level<'a>, direct: &[Granted<'_>]) -> Can<'a> {
        let mut more = Can::new();
        for power in self.powers {
            let needed = LazyCell::new(|| power.needed(direct.iter().chain(&wider.granted)));
            // What a group gives may be of use only with what somebody has beside it.
            let completes = power.with.is_some() && power.needed(direct).is_some_and(|needed| !needed.is_empty());
            for one in direct.iter().chain(completes.then_some(&wider.granted).into_iter().flatten()) {
                let reach = self.reach(power, one);
                if reach.is_empty() {
                    continue;
                }
                for client in power.clients(&self.targets, &reach, needed.as_ref()) {
                    if wider.can.get(client).is_none_or(|already| *already < power.grade) {
                        let grade = more.entry(client).or_insert(power.grade);
                        *grade = power.grade.max(*grade);
                    }
                }
            }
        }
        more
    }

    /// What a rule that somebody has reaches by a power. To bind only roles that allow nothing of interest is none.
    fn reach(&self, power: &Power, one: &Granted<'_>) -> Reach {
        let names = &one.rule.names;
        let kind = match power.resource {
            "roles" => "Role",
            _ => "ClusterRole",
        };
        let matters = |rule: &PolicyRule| self.powers.iter().chain([&READ]).any(|power| power.is_in(rule));
        let namespace = &one.binding.object.namespace;
        let harmless = |name: &String| self.people.index.policy.is_harmless(kind, namespace, name, matters);
        if power.verbs == BIND && !names.is_empty() && names.iter().all(harmless) {
            return Reach::default();
        }
        one.reach(power.verbs, power.group, power.resource)
    }

    fn found(&self, wider: &Level<'a>, direct: &[Granted<'_>], holder: &Holder<'_>, told: Told) -> Found {
        let index = self.people.index;
        let Object { kind, namespace, name } = &holder.object;
        let platform = kind == "ServiceAccount" && index.roles.has_account(Role::Platform, namespace, name);
        let severity = if platform { Severity::Info } else { told.severity };
        let grade = told.clients.iter().filter_map(|client| holder.can.get(client)).max().copied();
        let mut found = Found::new(self.rule.id, severity, grade.unwrap_or(Grade::Potential), holder.object.clone());
        if holder.is_group() {
            // An exception names it as if it were in its own namespace.
            let namespaces = index.identities.iter().filter(|i| told.clients.contains(&i.client));
            let named = |i: &Arc<Identity>| Object::new("Group", i.object.namespace.clone(), name.clone());
            found.counterparts = namespaces.map(named).collect();
        }
        let granted: Vec<Granted<'_>> = direct.iter().chain(&wider.granted).copied().collect();
        found.evidence = self.evidence(&granted, &told.clients);
        let beside = told.clients.iter().filter(|client| !holder.can.contains_key(client)).collect();
        found.evidence.extend(self.people.shows(&holder.object, &beside));
        found.own = Some(holder.own.clone());
        found.clients = told.clients;
        // Whoever can be one client is as bad for it whether it can be another or not.
        found.alone = true;
        found
    }

    /// Who gives somebody these clients.
    fn evidence(&self, granted: &[Granted<'_>], clients: &BTreeSet<ClientKey>) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        for power in self.powers {
            let needed = power.needed(granted);
            let whole = reach(granted, power.verbs, power.group, power.resource);
            for one in granted {
                let reach = self.reach(power, one);
                // Who has all of them is not told about single ones.
                let single = !one.rule.names.is_empty() && whole.has(&one.binding.object.namespace, "");
                if reach.is_empty() || single || evidence.len() >= 2 * SHOWN {
                    continue;
                }
                let mut reached = power.clients(&self.targets, &reach, needed.as_ref());
                if reached.any(|client| clients.contains(client)) {
                    evidence.extend(power.evidence(one));
                }
            }
        }
        evidence
    }
}

impl Power {
    /// Whether a rule gives it, be it for some names only.
    fn is_in(&self, rule: &PolicyRule) -> bool {
        self.verbs.iter().any(|verb| allows(rule, verb, self.group, self.resource))
    }

    /// What reaches the right that it is of no use without.
    fn needed<'g>(&self, granted: impl IntoIterator<Item = &'g Granted<'g>>) -> Option<Reach> {
        let (verbs, resource) = self.with?;
        let counts = granted.into_iter().filter(|one| !one.verbs(verbs, self.group, resource).is_empty());
        Some(reach(counts, verbs, self.group, resource))
    }

    /// Which clients somebody with this reach has; each may come more than once.
    fn clients<'a: 'b, 'b>(
        &self,
        targets: &'b Targets<'a>,
        reach: &'b Reach,
        needed: Option<&'b Reach>,
    ) -> impl Iterator<Item = &'a ClientKey> + use<'a, 'b> {
        let Self { hits, with, .. } = *self;
        let both =
            move |namespace: &str| reach.touches(namespace) && needed.is_none_or(|needed| needed.touches(namespace));
        let named = move |namespace: &'b str, list: &'b [Named<'a>]| {
            let some = list.iter().filter(move |(name, _)| reach.has(namespace, name));
            some.flat_map(|(_, clients)| clients.iter())
        };
        targets.within(reach).flat_map(move |(namespace, of)| -> Box<dyn Iterator<Item = &'a ClientKey> + 'b> {
            match hits {
                Hits::Slots => Box::new(named(namespace, &of.secrets)),
                Hits::Accounts => Box::new(named(namespace, &of.accounts)),
                Hits::Federated if both(namespace) => Box::new(of.federated.iter().flat_map(|(_, of)| of.iter())),
                Hits::Namespaces if both(namespace) => Box::new(of.all()),
                Hits::Cluster if both("") => Box::new(of.all()),
                Hits::Masters => {
                    // A group is named together with somebody: an account of any namespace will do, users have none.
                    let accounts = with.is_some_and(|(_, of)| of == "serviceaccounts");
                    let somebody =
                        |needed: &Reach| needed.touches("") || (accounts && needed.namespaces().next().is_some());
                    let counts = reach.has("", MASTERS) && needed.is_none_or(somebody);
                    Box::new(of.all().filter(move |_| counts))
                }
                Hits::Holders => {
                    let reached = of.holders.iter().filter(|workload| reach.has_pod(&workload.object));
                    Box::new(reached.flat_map(|workload| workload.exposures.iter().map(|e| &e.client)))
                }
                Hits::Users => {
                    let reached = of.accounts.iter().filter(move |(name, _)| reach.has("", &subject(namespace, name)));
                    Box::new(reached.flat_map(|(_, clients)| clients.iter()))
                }
                Hits::Federated | Hits::Namespaces | Hits::Cluster => Box::new(std::iter::empty()),
            }
        })
    }

    fn evidence(&self, one: &Granted<'_>) -> [Evidence; 2] {
        let Granted { rule, of, binding, subject } = one;
        let verbs = one.verbs(self.verbs, self.group, self.resource);
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
