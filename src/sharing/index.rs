//! Everything that was read, joined: which slot belongs to which client, who holds it, who runs as whom.
//!
//! This is the batch form: it is computed anew from all facts, and later stays as the proof of an incremental
//! one. No rule reads anything but this.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use super::declared::{Credential, Grant, Identity};
use super::evaluate::Input;
use super::facts::{Facts, Keys};
use super::finding::{Evidence, Grade, Object, Place};
use super::fold::fold;
use super::reach::Policy;
use super::registration::Registration;
use crate::grant::{ClientKey, Subject};

/// A workload can act as a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exposure {
    /// The client.
    pub client: ClientKey,
    /// How sure.
    pub grade: Grade,
    /// The container that has it; `None`: all of them.
    pub container: Option<String>,
    /// The Secret and the client's key in it; `None` where the identity is the credential.
    pub slot: Option<(String, String)>,
    /// The container receives every key of the Secret.
    pub whole: bool,
    /// It is a variable.
    pub variable: bool,
    /// The field.
    pub path: String,
}

/// One workload with what it can act as.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What its manifest says.
    pub facts: Facts,
    /// Whether its pods get a token of their ServiceAccount for the API server.
    pub automounts: bool,
    /// What it can act as.
    pub exposures: BTreeSet<Exposure>,
    /// Clients whose `ClientIdentity` names it, or its ServiceAccount.
    pub entitled: BTreeSet<ClientKey>,
    /// Its clients: those it is entitled to, and those it can act as and of which nobody says whose they are.
    pub uses: BTreeSet<ClientKey>,
}

/// What is known of one client.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Places in [`Index::identities`].
    pub identities: Vec<usize>,
    /// Some `ClientIdentity` says which workloads or which ServiceAccount it is for.
    pub entitlement_known: bool,
    /// Active grants, their subjects and scopes.
    pub grants: BTreeSet<Object>,
    /// Distinct subjects of them.
    pub subjects: BTreeSet<Subject>,
    /// Distinct scopes of them.
    pub scopes: BTreeSet<String>,
}

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unread {
    /// Where.
    pub place: Place,
    /// Why, without anything that stands in it.
    pub why: String,
}

/// Everything, joined.
#[derive(Debug)]
pub struct Index {
    /// The instant of the evaluation.
    pub now: Timestamp,
    /// Sorted by object.
    pub workloads: Vec<Workload>,
    /// Sorted by object.
    pub identities: Vec<Identity>,
    /// Sorted by object.
    pub grants: Vec<Grant>,
    /// Sorted by client.
    pub registrations: Vec<Registration>,
    /// Every client that a `ClientIdentity` or a grant names.
    pub clients: BTreeMap<ClientKey, Client>,
    /// What could not be read: then nothing is concluded from what is absent.
    pub unread: Vec<Unread>,
    /// It is all that a cluster has: what is not among it is not there.
    pub whole: bool,
    /// Namespace, Secret, key: the clients that say it is theirs.
    pub bound: BTreeMap<(String, String, String), BTreeSet<ClientKey>>,
    /// Namespace and ServiceAccount: the clients that are authenticated by its tokens.
    pub federated: BTreeMap<(String, String), BTreeSet<ClientKey>>,
    /// Namespace and ServiceAccount: the clients whose account it is.
    pub accounts: BTreeMap<(String, String), BTreeSet<ClientKey>>,
    /// Who may do what.
    pub policy: Policy,
    /// ServiceAccounts whose job it is, by namespace and name.
    pub platform: BTreeSet<(String, String)>,
    /// Namespace and Secret that somebody refers to, the kubelet and drivers included.
    pub referred: BTreeSet<(String, String)>,
}

/// The namespace and name of the ServiceAccount that a federated subject names.
#[must_use]
pub fn service_account(subject: &str) -> Option<(&str, &str)> {
    subject.strip_prefix("system:serviceaccount:")?.split_once(':')
}

impl Index {
    /// Joins everything. The order of what is given does not matter, nor what is given twice.
    #[must_use]
    pub fn new(now: Timestamp, input: Input) -> Self {
        let Input {
            facts,
            accounts,
            mut identities,
            mut grants,
            mut unread,
            rbac,
            mut registrations,
            platform,
            whole,
            ..
        } = input;
        identities.sort_by(|a, b| (&a.object, &a.client, &a.place).cmp(&(&b.object, &b.client, &b.place)));
        identities.dedup_by(|later, first| same_identity(first, later));
        grants.sort();
        grants.dedup_by(|later, first| Grant { place: first.place.clone(), ..later.clone() } == *first);
        unread.sort();
        unread.dedup();
        registrations.sort();
        registrations.dedup();
        let mut index = Self {
            now,
            workloads: Vec::new(),
            identities,
            grants,
            registrations,
            clients: BTreeMap::new(),
            unread,
            whole,
            bound: BTreeMap::new(),
            federated: BTreeMap::new(),
            accounts: BTreeMap::new(),
            policy: Policy::new(rbac),
            platform,
            referred: BTreeSet::new(),
        };
        index.declare();
        for facts in fold(facts) {
            let namespace = facts.object.namespace.clone();
            let secrets = facts.edges.iter().map(|e| &e.secret).chain(&facts.aside);
            index.referred.extend(secrets.map(|s| (namespace.clone(), s.clone())));
            let account = accounts.get(&(namespace, facts.service_account.clone())).copied().flatten();
            let workload = index.workload(facts, account);
            index.workloads.push(workload);
        }
        index.accounts = index.accounts();
        index
    }

    fn declare(&mut self) {
        for (at, identity) in self.identities.iter().enumerate() {
            let client = self.clients.entry(identity.client.clone()).or_default();
            client.identities.push(at);
            client.entitlement_known |= !identity.workloads.is_empty() || identity.service_account.is_some();
            let namespace = &identity.object.namespace;
            for credential in &identity.credentials {
                let clients = match credential {
                    Credential::Secret { name, key } => {
                        self.bound.entry((namespace.clone(), name.clone(), key.clone())).or_default()
                    }
                    // Of another namespace it could be said by anybody, and frame whoever runs there.
                    Credential::Federated(subject) => match service_account(subject) {
                        Some((ns, name)) if ns == namespace => {
                            self.federated.entry((ns.to_owned(), name.to_owned())).or_default()
                        }
                        _ => continue,
                    },
                };
                clients.insert(identity.client.clone());
            }
        }
        for grant in &self.grants {
            let client = self.clients.entry(grant.client.clone()).or_default();
            if grant.active {
                client.grants.insert(grant.object.clone());
                client.subjects.extend((grant.subject != Subject::Own).then(|| grant.subject.clone()));
                client.scopes.extend(grant.scopes.iter().cloned());
            }
        }
        // What the provider takes for a client's is its credential, whether anybody declared it or not.
        for registration in self.registrations.iter().filter(|r| self.clients.contains_key(&r.client)) {
            for (namespace, name) in registration.subjects.iter().filter_map(|s| service_account(s)) {
                let clients = self.federated.entry((namespace.to_owned(), name.to_owned())).or_default();
                clients.insert(registration.client.clone());
            }
        }
    }

    /// The clients of each ServiceAccount: by declaration, by federation, and by the workloads that run as it.
    fn accounts(&self) -> BTreeMap<(String, String), BTreeSet<ClientKey>> {
        let mut accounts = self.federated.clone();
        for identity in &self.identities {
            let Some(name) = &identity.service_account else { continue };
            let account = accounts.entry((identity.object.namespace.clone(), name.clone())).or_default();
            account.insert(identity.client.clone());
        }
        for workload in self.workloads.iter().filter(|w| !w.uses.is_empty()) {
            let facts = &workload.facts;
            let account = accounts.entry((facts.object.namespace.clone(), facts.service_account.clone())).or_default();
            account.extend(workload.uses.iter().cloned());
        }
        accounts
    }

    fn workload(&self, facts: Facts, account: Option<bool>) -> Workload {
        let automounts = facts.automounts(account);
        let namespace = &facts.object.namespace;
        let mut exposures = BTreeSet::new();
        for edge in &facts.edges {
            let from = (namespace.clone(), edge.secret.clone(), String::new());
            let of_secret = self.bound.range(from..).take_while(|((n, s, _), _)| n == namespace && *s == edge.secret);
            for ((_, secret, key), clients) in of_secret.filter(|((_, _, key), _)| edge.keys.has(key)) {
                exposures.extend(clients.iter().map(|client| Exposure {
                    client: client.clone(),
                    grade: edge.grade,
                    container: edge.container.clone(),
                    slot: Some((secret.clone(), key.clone())),
                    whole: edge.keys == Keys::All,
                    variable: edge.variable.is_some(),
                    path: edge.path.clone(),
                }));
            }
        }
        let token = facts.tokens.first().map(|t| t.path.clone());
        let token = token.or_else(|| automounts.then(|| "spec.serviceAccountName".to_owned()));
        let identity = self.federated.get(&(namespace.clone(), facts.service_account.clone()));
        if let (Some(path), Some(clients)) = (token, identity) {
            exposures.extend(clients.iter().map(|client| Exposure {
                client: client.clone(),
                grade: Grade::Identity,
                container: None,
                slot: None,
                whole: false,
                variable: false,
                path: path.clone(),
            }));
        }
        let named = self.identities.iter().filter(|i| names(i, &facts));
        let entitled: BTreeSet<ClientKey> = named.map(|i| i.client.clone()).collect();
        let unclaimed = exposures.iter().filter(|e| !self.entitlement_known(&e.client)).map(|e| e.client.clone());
        let uses = entitled.iter().cloned().chain(unclaimed).collect();
        Workload { facts, automounts, exposures, entitled, uses }
    }

    fn entitlement_known(&self, client: &ClientKey) -> bool {
        self.clients.get(client).is_some_and(|c| c.entitlement_known)
    }

    /// Whether grants were left out: that there is none proves nothing then.
    #[must_use]
    pub fn lacks_grants(&self) -> bool {
        self.grants.is_empty() && !self.whole
    }

    /// Whether workloads were left out.
    #[must_use]
    pub fn lacks_workloads(&self) -> bool {
        self.workloads.is_empty() && !self.whole
    }

    /// Whether a conclusion may be drawn from what is absent.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.unread.is_empty()
    }

    /// What a client counts as: its family, or itself.
    #[must_use]
    pub fn family(&self, client: &ClientKey) -> String {
        let identities = self.clients.get(client).into_iter().flat_map(|c| &c.identities);
        // A family ends at its namespace: nobody joins one from outside.
        let families = identities.filter_map(|at| {
            let identity = self.identities.get(*at)?;
            Some(format!("family {}/{}", identity.object.namespace, identity.family.as_ref()?))
        });
        families.min().unwrap_or_else(|| {
            let provider = &client.provider;
            format!("client {}/{} {}", provider.namespace, provider.name, client.client)
        })
    }

    /// Whether these clients are at least two that do not belong to one family.
    #[must_use]
    pub fn shared(&self, clients: &BTreeSet<ClientKey>) -> bool {
        clients.iter().map(|c| self.family(c)).collect::<BTreeSet<_>>().len() > 1
    }

    /// Evidence that stands on a `ClientIdentity`.
    #[must_use]
    pub fn declaration(identity: &Identity, path: impl Into<String>) -> Evidence {
        Evidence { path: path.into(), place: identity.place.clone(), object: identity.object.clone() }
    }
}

impl Workload {
    /// Evidence that stands on this workload.
    #[must_use]
    pub fn evidence(&self, path: impl Into<String>) -> Evidence {
        Evidence { path: path.into(), place: self.facts.place.clone(), object: self.facts.object.clone() }
    }

    /// Which of these clients are its own. `None`: entitled to several, it stands for each of them alike.
    #[must_use]
    pub fn own(&self, index: &Index, clients: &BTreeSet<ClientKey>) -> Option<BTreeSet<ClientKey>> {
        let own: BTreeSet<ClientKey> = self.entitled.intersection(clients).cloned().collect();
        (!index.shared(&own)).then_some(own)
    }

    /// The strongest grade of what exposes these clients.
    #[must_use]
    pub fn grade(&self, clients: &BTreeSet<ClientKey>) -> Grade {
        let of_these = self.exposures.iter().filter(|e| clients.contains(&e.client));
        // Each of them has to be exposed: the weakest of the strongest counts.
        let mut best = BTreeMap::<&ClientKey, Grade>::new();
        for exposure in of_these {
            let grade = best.entry(&exposure.client).or_insert(exposure.grade);
            *grade = exposure.grade.max(*grade);
        }
        best.into_values().min().unwrap_or(Grade::Declared)
    }
}

/// Whether a `ClientIdentity` names a workload, or else the ServiceAccount that it runs as.
#[must_use]
pub fn names(identity: &Identity, facts: &Facts) -> bool {
    if identity.object.namespace != facts.object.namespace {
        return false;
    }
    if identity.workloads.is_empty() {
        return identity.service_account.as_ref() == Some(&facts.service_account);
    }
    identity.workloads.iter().any(|w| {
        let group = w.api_version.split_once('/').map_or("", |(group, _)| group);
        w.kind == facts.object.kind && w.name == facts.object.name && group == facts.group
    })
}

fn same_identity(a: &Identity, b: &Identity) -> bool {
    a.object == b.object
        && a.client == b.client
        && a.environment == b.environment
        && a.family == b.family
        && a.service_account == b.service_account
        && a.workloads == b.workloads
        && a.credentials == b.credentials
        && a.exceptions == b.exceptions
}
