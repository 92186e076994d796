//! Everything that was read, joined: which slot belongs to which client, who holds it, who runs as whom.
//!
//! [`Index::new`] joins all of it at once. [`Live`](super::live::Live) keeps an index while its parts change, and
//! is compared with this one. No rule reads anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use k8s_openapi::jiff::Timestamp;
use smallvec::SmallVec;
use smol_str::SmolStr;

use super::Map;
use super::client::Client;
use super::configmap::ConfigMaps;
use super::declared::{Credential, Grant, Identity};
use super::evaluate::Input;
use super::facts::{Edge, Keys, group_in, qualified};
use super::finding::{Evidence, Grade, Place};
use super::fold::fold;
use super::rbac::Rbac;
use super::reach::Policy;
use super::registration::Registration;
use super::role::{Role, Roles};
use super::workload::{Exposure, Workload};
use crate::grant::ClientKey;

/// What there is under a name, by another one: mostly one, which stands with the name. Sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Few<V>(SmallVec<[(SmolStr, V); 1]>);

impl<V> Default for Few<V> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<V> Few<V> {
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(of, _)| of.as_str().cmp(name))
    }

    fn get(&self, name: &str) -> Option<&V> {
        let (_, value) = self.0.get(self.find(name).ok()?)?;
        Some(value)
    }

    fn iter(&self) -> impl Iterator<Item = (&SmolStr, &V)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    fn or_default(&mut self, name: SmolStr) -> &mut V
    where
        V: Default,
    {
        let at = self.find(&name).unwrap_or_else(|at| {
            self.0.insert(at, (name, V::default()));
            at
        });
        &mut self.0[at].1
    }
}

/// What one namespace declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Secret, then key: the clients that say it is theirs.
    bound: Map<SmolStr, Few<BTreeSet<ClientKey>>>,
    /// ServiceAccount: the clients that are authenticated by its tokens.
    federated: Map<SmolStr, BTreeSet<ClientKey>>,
    /// ServiceAccount: the clients whose account it is, where no workload is listed.
    accounts: Map<SmolStr, Arc<BTreeSet<ClientKey>>>,
    /// Name of a workload, then kind: the clients that list it.
    workloads: Map<SmolStr, Few<Arc<BTreeSet<ClientKey>>>>,
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
    /// At the place of what a person wrote: one for each ServiceAccount.
    pub(super) workloads: Vec<Vec<Workload>>,
    /// Sorted by object.
    pub identities: Vec<Arc<Identity>>,
    /// Sorted by client.
    pub registrations: Vec<Registration>,
    /// Every client that a `ClientIdentity` or a grant names.
    pub clients: Map<ClientKey, Client>,
    /// What could not be read: then nothing is concluded from what is absent.
    pub unread: Vec<Unread>,
    /// It is all that a cluster has: what is not among it is not there.
    pub whole: bool,
    /// By namespace.
    pub(super) declared: Map<SmolStr, Declared>,
    /// What ConfigMaps say.
    pub(super) configmaps: ConfigMaps,
    /// Who may do what.
    pub policy: Policy,
    /// Whose job it is to have credentials of others.
    pub roles: Roles,
}

/// What a client counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family<'a> {
    /// One of the clients of a product: namespace and name of the family.
    Of(&'a str, &'a str),
    /// Itself.
    Alone(&'a ClientKey),
}

/// The namespace and name of the ServiceAccount that a federated subject names.
#[must_use]
pub fn service_account(subject: &str) -> Option<(&str, &str)> {
    subject.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// The federated subject, and the user, that a ServiceAccount is.
#[must_use]
pub fn subject(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

impl Default for Index {
    fn default() -> Self {
        Self {
            now: Timestamp::UNIX_EPOCH,
            workloads: Vec::new(),
            identities: Vec::new(),
            registrations: Vec::new(),
            clients: Map::default(),
            unread: Vec::new(),
            whole: false,
            declared: Map::default(),
            configmaps: ConfigMaps::default(),
            policy: Policy::new(Rbac::default()),
            roles: Roles::default(),
        }
    }
}

impl Index {
    /// Joins everything. The order of what is given does not matter, nor what is given twice.
    #[must_use]
    pub fn new(now: Timestamp, input: Input) -> Self {
        let Input {
            facts,
            accounts,
            configmaps,
            identities,
            mut grants,
            mut unread,
            rbac,
            registrations,
            roles,
            whole,
            ..
        } = input;
        grants.sort();
        grants.dedup_by(|later, first| Grant { place: first.place.clone(), ..(**later).clone() } == **first);
        unread.sort();
        unread.dedup();
        let mut index = Self { now, unread, whole, configmaps, policy: Policy::new(rbac), roles, ..Self::default() };
        index.identities = sorted(identities);
        index.registrations = registrations;
        index.registrations.sort();
        index.registrations.dedup();
        index.speak();
        for grant in grants {
            index.clients.entry(grant.client.clone()).or_default().add(grant);
        }
        for namespace in index.speaking() {
            index.declare(namespace);
        }
        index.workloads = fold(facts);
        let mut workloads = std::mem::take(&mut index.workloads);
        for workload in workloads.iter_mut().flatten() {
            let account = (workload.object.namespace.to_string(), workload.service_account.to_string());
            index.join(workload, accounts.get(&account).copied().flatten());
        }
        index.workloads = workloads;
        index
    }

    /// Notes of every client what speaks about it.
    pub(super) fn speak(&mut self) {
        for client in self.clients.values_mut() {
            client.identities.clear();
            client.entitlement_known = false;
        }
        for identity in &self.identities {
            let client = self.clients.entry(identity.client.clone()).or_default();
            client.entitlement_known |= !identity.workloads.is_empty() || identity.service_account.is_some();
            client.identities.push(identity.clone());
        }
        self.clients.retain(|_, client| !client.is_unknown());
    }

    /// The namespaces in which something is declared.
    pub(super) fn speaking(&self) -> BTreeSet<SmolStr> {
        let declared = self.identities.iter().map(|i| i.object.namespace.clone());
        let subjects = self.registrations.iter().flat_map(|r| &r.subjects).filter_map(|s| service_account(s));
        declared.chain(subjects.map(|(namespace, _)| namespace.into())).collect()
    }

    /// Says anew what a namespace declares; those who speak have to be known already.
    pub(super) fn declare(&mut self, namespace: SmolStr) {
        let mut of = Declared::default();
        for identity in self.identities_in(&namespace) {
            let client = || identity.client.clone();
            for credential in &identity.credentials {
                let clients = match credential {
                    Credential::Secret { name, key } => {
                        of.bound.entry(name.as_str().into()).or_default().or_default(key.as_str().into())
                    }
                    // Of another namespace it could be said by anybody, and frame whoever runs there.
                    Credential::Federated(subject) => match service_account(subject) {
                        Some((of_subject, name)) if of_subject == namespace => {
                            of.federated.entry(name.into()).or_default()
                        }
                        _ => continue,
                    },
                };
                clients.insert(client());
            }
            for workload in &identity.workloads {
                let kind = qualified(group_in(&workload.api_version), &workload.kind);
                let named = of.workloads.entry(workload.name.as_str().into()).or_default();
                Arc::make_mut(named.or_default(kind)).insert(client());
            }
            if let Some(account) = identity.service_account.as_ref().filter(|_| identity.workloads.is_empty()) {
                Arc::make_mut(of.accounts.entry(account.as_str().into()).or_default()).insert(client());
            }
        }
        // What the provider takes for a client's is its credential, whether anybody declared it or not.
        for registration in self.registrations.iter().filter(|r| self.clients.contains_key(&r.client)) {
            for (of_subject, name) in registration.subjects.iter().filter_map(|s| service_account(s)) {
                if of_subject == namespace {
                    of.federated.entry(name.into()).or_default().insert(registration.client.clone());
                }
            }
        }
        if of == Declared::default() {
            self.declared.remove(&namespace);
        } else {
            self.declared.insert(namespace, of);
        }
    }

    /// Says anew what a workload can act as.
    pub(super) fn join(&self, workload: &mut Workload, account: Option<bool>) {
        workload.automounts = workload.templates.iter().any(|t| t.automounts(account));
        workload.exposures.clear();
        (workload.entitled, workload.uses) = (nobody(), nobody());
        workload.received = self.configmaps.received(workload);
        let Some(declared) = self.declared.get(&workload.object.namespace) else { return };
        // A pod says what its template says.
        let mut edges: SmallVec<[&Edge; 16]> = workload.templates.iter().flat_map(|t| &t.edges).collect();
        edges.sort();
        edges.dedup();
        for edge in edges {
            let Some(of_secret) = declared.bound.get(&edge.secret) else { continue };
            for (key, clients) in of_secret.iter().filter(|(key, _)| edge.keys.has(key)) {
                workload.exposures.extend(clients.iter().map(|client| Exposure {
                    client: client.clone(),
                    grade: edge.grade,
                    container: edge.container.clone(),
                    slot: Some((edge.secret.clone(), key.clone())),
                    whole: edge.keys == Keys::All,
                    variable: edge.variable,
                    path: edge.path.clone(),
                }));
            }
        }
        if let Some(clients) = workload.account().and_then(|account| declared.federated.get(account)) {
            // A token in a volume that no container mounts reaches none, unless it comes by itself as well.
            let token = |grade| workload.tokens().filter(move |t| t.grade == grade).map(|t| &t.path).min().cloned();
            let mounted = token(Grade::Identity);
            let mounted =
                mounted.or_else(|| workload.automounts.then(|| SmolStr::new_static("spec.serviceAccountName")));
            let token = match mounted {
                Some(path) => Some((path, Grade::Identity)),
                None => token(Grade::Potential).map(|path| (path, Grade::Potential)),
            };
            let exposure = |(client, (path, grade)): (&ClientKey, &(SmolStr, Grade))| Exposure {
                client: client.clone(),
                grade: *grade,
                container: None,
                slot: None,
                whole: false,
                variable: false,
                path: path.clone(),
            };
            let paths = token.iter().flat_map(|path| clients.iter().map(move |client| (client, path)));
            workload.exposures.extend(paths.map(exposure));
        }
        workload.exposures.sort();
        workload.exposures.dedup();
        workload.entitled = {
            let by_account = workload.account().and_then(|account| declared.accounts.get(account));
            together(declared.lists(workload).chain(by_account))
        };
        workload.uses = workload.entitled.clone();
        for Exposure { client, .. } in &workload.exposures {
            // Mostly its own, which are known already.
            if !workload.uses.contains(client) && !self.entitlement_known(client) {
                Arc::make_mut(&mut workload.uses).insert(client.clone());
            }
        }
    }

    /// Every workload, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.iter().flatten()
    }

    /// The workloads of one place, which are put back.
    pub(super) fn take(&mut self, at: usize) -> Vec<Workload> {
        self.workloads.get_mut(at).map(std::mem::take).unwrap_or_default()
    }

    /// These are the workloads of one place.
    pub(super) fn put(&mut self, at: usize, workloads: Vec<Workload>) {
        if self.workloads.len() <= at {
            self.workloads.resize_with(at + 1, Vec::new);
        }
        if let Some(of) = self.workloads.get_mut(at) {
            *of = workloads;
        }
    }

    /// Every workload, sorted by object.
    #[must_use]
    pub fn in_order(&self) -> Vec<&Workload> {
        let mut all: Vec<&Workload> = self.workloads().collect();
        all.sort_by(|a, b| (&a.object, &a.service_account).cmp(&(&b.object, &b.service_account)));
        all
    }

    /// Whether a workload is the identity provider: what it has of clients it has as their other end.
    #[must_use]
    pub fn is_issuer(&self, workload: &Workload) -> bool {
        self.roles.has(Role::Issuer, workload)
    }

    /// The clients of a workload: those that it uses, and of an issuer those that are its own.
    #[must_use]
    pub fn clients_of<'a>(&self, workload: &'a Workload) -> &'a BTreeSet<ClientKey> {
        if self.is_issuer(workload) { &workload.entitled } else { &workload.uses }
    }

    /// Every grant; those of one client are sorted by object.
    pub fn grants(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.clients.values().flat_map(|client| &client.grants)
    }

    /// What speaks about a client.
    #[must_use]
    pub fn identities_of(&self, client: &ClientKey) -> &[Arc<Identity>] {
        self.clients.get(client).map(|c| c.identities.as_slice()).unwrap_or_default()
    }

    /// What speaks about clients in a namespace.
    #[must_use]
    pub fn identities_in(&self, namespace: &str) -> &[Arc<Identity>] {
        let from = self.identities.partition_point(|i| i.object.namespace.as_str() < namespace);
        let rest = self.identities.get(from..).unwrap_or_default();
        rest.get(..rest.partition_point(|i| i.object.namespace == namespace)).unwrap_or_default()
    }

    /// Namespace, Secret and key of every slot, with the clients that say it is theirs.
    pub fn bound(&self) -> impl Iterator<Item = (&str, &str, &str, &BTreeSet<ClientKey>)> {
        let secrets = self.declared.iter().flat_map(|(namespace, of)| of.bound.iter().map(move |of| (namespace, of)));
        secrets.flat_map(|(namespace, (secret, keys))| {
            keys.iter().map(move |(key, clients)| (namespace.as_str(), secret.as_str(), key.as_str(), clients))
        })
    }

    /// Secret and key of every slot of a namespace, with the clients that say it is theirs.
    pub fn slots_in(&self, namespace: &str) -> impl Iterator<Item = (&str, &str, &BTreeSet<ClientKey>)> {
        let secrets = self.declared.get(namespace).into_iter().flat_map(|of| &of.bound);
        secrets
            .flat_map(|(secret, keys)| keys.iter().map(move |(key, clients)| (secret.as_str(), key.as_str(), clients)))
    }

    /// The clients that say that a slot is theirs.
    #[must_use]
    pub fn bound_to(&self, namespace: &str, secret: &str, key: &str) -> Option<&BTreeSet<ClientKey>> {
        self.declared.get(namespace)?.bound.get(secret)?.get(key)
    }

    /// Namespace and name of every ServiceAccount whose tokens authenticate clients, with these.
    pub fn federated(&self) -> impl Iterator<Item = (&str, &str, &BTreeSet<ClientKey>)> {
        self.declared.iter().flat_map(|(namespace, of)| {
            of.federated.iter().map(move |(name, clients)| (namespace.as_str(), name.as_str(), clients))
        })
    }

    /// The clients that tokens of a ServiceAccount authenticate.
    #[must_use]
    pub fn federated_to(&self, namespace: &str, name: &str) -> Option<&BTreeSet<ClientKey>> {
        self.declared.get(namespace)?.federated.get(name)
    }

    /// Whether anything was declared that somebody could have.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.declared.values().any(Declared::has_credentials)
    }

    /// The same of one namespace.
    #[must_use]
    pub fn has_credentials_in(&self, namespace: &str) -> bool {
        self.declared.get(namespace).is_some_and(Declared::has_credentials)
    }

    /// Namespace and name of a ServiceAccount, and a client of it: by declaration, by federation, and by the workloads
    /// that run as it. Each may come more than once.
    pub fn account_clients(&self) -> impl Iterator<Item = ((&str, &str), &ClientKey)> {
        let federated = self.federated();
        let federated = federated.flat_map(|(ns, name, clients)| clients.iter().map(move |c| ((ns, name), c)));
        let declared = self.identities.iter().filter_map(|identity| {
            Some(((identity.object.namespace.as_str(), identity.service_account.as_deref()?), &identity.client))
        });
        let running = self.workloads().filter_map(|workload| Some((workload, workload.account()?)));
        let running = running.flat_map(|(workload, account)| {
            self.clients_of(workload).iter().map(move |c| ((workload.object.namespace.as_str(), account), c))
        });
        federated.chain(declared).chain(running)
    }

    /// The clients of each ServiceAccount, by namespace and name.
    #[must_use]
    pub fn accounts(&self) -> BTreeMap<(String, String), BTreeSet<ClientKey>> {
        let mut accounts = BTreeMap::<(String, String), BTreeSet<ClientKey>>::new();
        for ((namespace, name), client) in self.account_clients() {
            accounts.entry((namespace.to_owned(), name.to_owned())).or_default().insert(client.clone());
        }
        accounts
    }

    /// Whether what speaks about a client lists a workload.
    #[must_use]
    pub fn lists(&self, client: &ClientKey, workload: &Workload) -> bool {
        let of = self.declared.get(&workload.object.namespace);
        of.is_some_and(|declared| declared.lists(workload).any(|listed| listed.contains(client)))
    }

    fn entitlement_known(&self, client: &ClientKey) -> bool {
        self.clients.get(client).is_some_and(|c| c.entitlement_known)
    }

    /// Whether grants were left out: that there is none proves nothing then.
    #[must_use]
    pub fn lacks_grants(&self) -> bool {
        !self.whole && self.grants().next().is_none()
    }

    /// Whether workloads were left out.
    #[must_use]
    pub fn lacks_workloads(&self) -> bool {
        !self.whole && self.workloads().next().is_none()
    }

    /// Whether a conclusion may be drawn from what is absent.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.unread.is_empty()
    }

    /// What a client counts as where each is counted once: its family, the first of several, or itself.
    #[must_use]
    pub fn family<'a>(&'a self, client: &'a ClientKey) -> Family<'a> {
        let families = self.families(client).map(|(namespace, name)| Family::Of(namespace, name));
        families.min().unwrap_or(Family::Alone(client))
    }

    /// Whether these clients are at least two that do not belong to one family.
    #[must_use]
    pub fn shared<'a>(&'a self, clients: impl IntoIterator<Item = &'a ClientKey>) -> bool {
        let mut clients = clients.into_iter();
        let Some(first) = clients.next() else { return false };
        // Mostly there is one, of which nothing has to be looked up.
        let mut others = clients.filter(|client| *client != first).peekable();
        others.peek().is_some() && {
            let mut common: Vec<_> = self.families(first).collect();
            others.any(|client| {
                common.retain(|family| self.families(client).any(|of| of == *family));
                common.is_empty()
            })
        }
    }

    /// Whether two clients are one product, or one client.
    #[must_use]
    pub fn related(&self, one: &ClientKey, other: &ClientKey) -> bool {
        one == other || self.families(one).any(|family| self.families(other).any(|of| of == family))
    }

    /// Namespace and name of each product that a client belongs to. A family ends at its namespace: nobody joins one
    /// from outside.
    fn families<'a>(&'a self, client: &ClientKey) -> impl Iterator<Item = (&'a str, &'a str)> {
        let identities = self.identities_of(client).iter();
        identities.filter_map(|identity| Some((identity.object.namespace.as_str(), identity.family.as_deref()?)))
    }

    /// Evidence that stands on a `ClientIdentity`.
    #[must_use]
    pub fn declaration(identity: &Identity, path: impl Into<String>) -> Evidence {
        Evidence { path: path.into(), place: identity.place.clone(), object: identity.object.clone() }
    }
}

/// No client: what most workloads are, so that it is there once.
pub(super) fn nobody() -> Arc<BTreeSet<ClientKey>> {
    static NOBODY: LazyLock<Arc<BTreeSet<ClientKey>>> = LazyLock::new(Arc::default);
    NOBODY.clone()
}

/// The clients of all of these; where one has them all, it is that one, and nothing is copied.
fn together<'a>(all: impl Iterator<Item = &'a Arc<BTreeSet<ClientKey>>>) -> Arc<BTreeSet<ClientKey>> {
    let mut sum = nobody();
    for one in all.filter(|one| !one.is_empty()) {
        if sum.is_empty() {
            sum = one.clone();
        } else if !one.is_subset(&sum) {
            Arc::make_mut(&mut sum).extend(one.iter().cloned());
        }
    }
    sum
}

/// Sorted, and each once.
pub(super) fn sorted(mut identities: Vec<Arc<Identity>>) -> Vec<Arc<Identity>> {
    identities.sort_by(|a, b| (&a.object, &a.client, &a.place).cmp(&(&b.object, &b.client, &b.place)));
    identities.dedup_by(|later, first| Identity { place: first.place.clone(), ..(**later).clone() } == **first);
    identities
}

impl Declared {
    fn has_credentials(&self) -> bool {
        !self.bound.is_empty() || !self.federated.is_empty()
    }

    /// The clients that list a workload, or what it was made for.
    fn lists<'a>(&'a self, workload: &'a Workload) -> impl Iterator<Item = &'a Arc<BTreeSet<ClientKey>>> {
        let of = &workload.object;
        let made_for = workload.templates.iter().filter_map(|t| t.made_for.as_ref());
        let names = made_for.map(|(kind, name)| (kind, name)).chain([(&of.kind, &of.name)]);
        names.filter_map(|(kind, name)| self.workloads.get(name)?.get(kind))
    }
}
