//! Everything the operator has been told, in one place, indexed by client.
//!
//! Watches and observations put facts in; every decision takes an immutable [`ClientView`] out. A view
//! is built once and kept until something it is made of changes. Changes come back as [`Due`]s: which
//! client has to be looked at, for which of its grants, and how urgently. Nothing here waits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::Notify;

use crate::api::condition::{ConditionStatus, ConditionType, Reason, find_condition};
use crate::api::{ClientGrant, ClientGrantStatus, Mode, PendingRevocation, instant};
use crate::grant::collect::Collect;
use crate::grant::parse::FINALIZER;
use crate::grant::quarantine::{self, Named};
use crate::grant::standing::{self, Held, Standing};
use crate::grant::{
    Authority, ClientKey, ClientView, Grant, GrantName, Managed, ProviderKey, ProviderState, ProviderView, Subject,
    Timestamp, backoff, parse, pending, record, verdict,
};
use crate::idp::{Idp, Permit};
use crate::lease::Leadership;
use crate::sharing::judge::Shared;
use crate::sharing::told::Admission;
use crate::telemetry::Tally;

/// Which kinds have been read completely at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// ClientGrants.
    Grants,
    /// ClusterIdentityProviders.
    ClusterProviders,
    /// IdentityProviders.
    Providers,
    /// ClientIdentities.
    Identities,
    /// ClientQuarantines.
    Quarantines,
    /// Namespaces.
    Namespaces,
    /// The record of managed clients.
    Record,
    /// PendingRevocations.
    Pending,
}

impl Source {
    /// Every one must have been read before anything is decided or done.
    pub const ALL: [Source; 8] = [
        Source::Grants,
        Source::ClusterProviders,
        Source::Providers,
        Source::Identities,
        Source::Quarantines,
        Source::Namespaces,
        Source::Record,
        Source::Pending,
    ];
}

/// Statuses of one grant that are remembered as sent.
const ON_THEIR_WAY: usize = 4;

/// How urgent a client is. What ends authority goes before everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Authority ends.
    End,
    /// Authority gets less.
    Narrow,
    /// Something was created or widened.
    Apply,
    /// Only a look.
    Drift,
}

/// A client to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub key: ClientKey,
    /// Of the grants that made it due: each namespace has its turn. None: the operator's own idea.
    pub namespaces: BTreeSet<Arc<str>>,
    /// For these grants, by UID; the ceiling is read every time.
    pub grants: BTreeSet<Arc<str>>,
    /// For the consents of these subjects, whichever grant speaks for them.
    pub subjects: BTreeSet<String>,
    /// How urgently.
    pub lane: Lane,
    /// Something was changed by somebody (not only the clock, a retry or a hint).
    pub changed: bool,
}

impl Due {
    /// A look at some grants of a client; nobody changed anything.
    #[must_use]
    pub fn look(key: ClientKey, grants: BTreeSet<Arc<str>>, lane: Lane) -> Self {
        let (namespaces, subjects) = (BTreeSet::new(), BTreeSet::new());
        Self { key, namespaces, grants, subjects, lane, changed: false }
    }

    /// The same, for a namespace.
    #[must_use]
    pub fn of(mut self, namespace: &str) -> Self {
        self.namespaces.insert(Arc::from(namespace));
        self
    }

    /// The same, for one more grant.
    #[must_use]
    pub fn with(mut self, grant: &Grant) -> Self {
        self.grants.insert(grant.uid.clone());
        if !self.namespaces.contains(&*grant.name.namespace) {
            self.namespaces.insert(Arc::from(&*grant.name.namespace));
        }
        self
    }

    /// The same, because somebody changed something.
    #[must_use]
    pub fn changed(key: ClientKey, grants: BTreeSet<Arc<str>>, lane: Lane) -> Self {
        Self { changed: true, ..Self::look(key, grants, lane) }
    }
}

/// One grant with what is needed to write to it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The domain's view.
    pub grant: Arc<Grant>,
    /// Which client it names.
    pub key: ClientKey,
    /// `metadata.resourceVersion` as last read.
    pub version: String,
    /// `metadata.finalizers`, ours and others'.
    pub finalizers: Vec<String>,
    /// What was last said.
    pub status: Option<Arc<ClientGrantStatus>>,
    /// The stored object cannot be read any more; what is known of it is from before.
    pub unreadable: bool,
    /// What is on its way to the API server, the newest last: a write that was given up may be stored all the
    /// same.
    pub sent: Vec<Arc<ClientGrantStatus>>,
    /// Somebody else wrote the stored status: it has to be replaced as a whole. `status` is what we said.
    pub forged: bool,
    /// It is no ClientGrant but the duty that one has left.
    pub pending: Option<Arc<PendingRevocation>>,
}

#[derive(Debug, Default)]
struct Client {
    /// By subject: a client may have thousands, and most questions are about those for one subject.
    grants: BTreeMap<Subject, BTreeSet<GrantName>>,
    view: OnceLock<Arc<ClientView>>,
}

#[derive(Debug)]
struct Provider {
    view: Arc<ProviderView>,
    idp: Option<Arc<Idp>>,
    created: Timestamp,
    uid: String,
    /// What the last look at the provider found; `None`: there was none yet.
    found: Option<Reason>,
    /// Consents and clients that no grant declares, as the last sweep found them.
    undeclared: [usize; 2],
    /// Shared with every permit: the generation, or -1 while nothing may be written.
    now: Arc<AtomicI64>,
}

/// A ClientIdentity, as far as it counts here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Where it lives: the provider's rules decide whether it counts.
    pub namespace: String,
    /// Which client it names.
    pub key: ClientKey,
    /// `spec.adopt`.
    pub adopt: bool,
    /// The registration is not as it was accepted, and `spec.onRegistrationChange` is `Suspend`.
    pub suspends: bool,
    /// Since when the client is registered that `spec.pin` speaks about, as in a fingerprint.
    pub born: Option<String>,
}

/// A ClientQuarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// `spec.issuer`.
    pub issuer: String,
    /// `spec.clientID`.
    pub client: String,
}

type Labels = Arc<BTreeMap<String, String>>;

#[derive(Debug)]
struct Namespace {
    labels: Labels,
    terminating: bool,
}

#[derive(Debug, Default)]
struct Inner {
    grants: HashMap<GrantName, Entry>,
    clients: BTreeMap<ClientKey, Client>,
    providers: BTreeMap<ProviderKey, Provider>,
    /// Issuers of provider objects that are gone.
    former: BTreeMap<ProviderKey, Arc<str>>,
    namespaces: BTreeMap<String, Namespace>,
    identities: HashMap<GrantName, Identity>,
    quarantines: HashMap<String, Quarantine>,
    /// UIDs of grants of which nothing was said since a quarantine of their client came or went.
    unsaid: BTreeSet<Arc<str>>,
    /// Duties that outlived their grants, by the object's name: what is known of each is in `grants`.
    pending: BTreeMap<String, GrantName>,
    /// UIDs of grants whose finalizer we are taking off.
    let_go: BTreeSet<Arc<str>>,
    /// Grants that cannot be read, by UID and generation, of which somebody was told.
    unreadable: HashMap<GrantName, (String, i64)>,
    /// By issuer and client.
    record: BTreeMap<(Arc<str>, Arc<str>), Managed>,
    /// Keys of lines of the record that cannot be read.
    damaged: BTreeSet<String>,
    /// Clients that were given back, by issuer and client, with what is to come back.
    released: BTreeMap<(Arc<str>, Arc<str>), Option<Authority>>,
    /// What the sweeps say may be removed.
    collect: BTreeMap<ClientKey, Collect>,
    /// Providers of which removals wait for a person.
    held: BTreeSet<ProviderKey>,
    /// The history of the cluster went back while this process lived.
    rewound: bool,
    synced: BTreeSet<Source>,
    /// Whether something else can act as a client, of those that a ClientIdentity speaks about, as it was found
    /// in a term. `None`: not everything was read yet.
    shared: Option<(u64, BTreeMap<ClientKey, Shared>)>,
}

/// The picture.
#[derive(Debug, Default)]
pub struct World {
    inner: RwLock<Inner>,
    leadership: Arc<Leadership>,
    /// When the API server was last known to answer.
    heard: Mutex<Option<Instant>>,
    /// Grants, providers or namespaces are not as they were.
    changed: Notify,
}

impl World {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(leadership: Arc<Leadership>) -> Self {
        Self { leadership, ..Self::default() }
    }

    /// Whether this replica writes.
    #[must_use]
    pub fn leadership(&self) -> &Leadership {
        &self.leadership
    }

    /// The API server has just answered.
    pub fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether the API server has answered within this time: what is known is no older than that and a
    /// watch's own delay. A silent watch alone proves nothing.
    #[must_use]
    pub fn fresh(&self, within: Duration) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() <= within)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// True once every source has been read completely: before, nothing is decided or done.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.read().synced.len() == Source::ALL.len()
    }

    /// What has not been read completely yet.
    #[must_use]
    pub fn missing(&self) -> Vec<Source> {
        let inner = self.read();
        Source::ALL.into_iter().filter(|s| !inner.synced.contains(s)).collect()
    }

    /// True once a source has been read completely.
    #[must_use]
    pub fn has(&self, source: Source) -> bool {
        self.read().synced.contains(&source)
    }

    /// Notes that a source has been read completely.
    pub fn synced(&self, source: Source) {
        self.write().synced.insert(source);
    }

    /// The client as it is now.
    #[must_use]
    pub fn view(&self, key: &ClientKey) -> Arc<ClientView> {
        let inner = self.read();
        match inner.clients.get(key) {
            Some(client) => client.view.get_or_init(|| Arc::new(inner.build(key, client.names()))).clone(),
            None => Arc::new(inner.build(key, std::iter::empty())),
        }
    }

    /// One grant.
    #[must_use]
    pub fn entry(&self, name: &GrantName) -> Option<Entry> {
        self.read().grants.get(name).cloned()
    }

    /// A provider and its connection, if there is one.
    #[must_use]
    pub fn provider(&self, key: &ProviderKey) -> Option<(Arc<ProviderView>, Option<Arc<Idp>>)> {
        self.read().providers.get(key).map(|p| (p.view.clone(), p.idp.clone()))
    }

    /// Leave to write, if this replica leads and the provider may be written to now.
    #[must_use]
    pub fn permit(&self, key: &ProviderKey) -> Option<Permit> {
        let inner = self.read();
        let provider = inner.providers.get(key)?;
        let (leave, term) = self.leadership.leave()?;
        let (generation, now) = (provider.view.generation, provider.now.clone());
        let permit = Permit { generation, now, leadership: self.leadership.clone(), leave, term };
        permit.holds().then_some(permit)
    }

    /// Every client of a provider that has grants or is managed.
    #[must_use]
    pub fn clients_of(&self, provider: &ProviderKey) -> Vec<ClientKey> {
        let inner = self.read();
        let Some(issuer) = inner.providers.get(provider).map(|p| p.view.issuer.clone()) else { return Vec::new() };
        let named = inner.clients.keys().filter(|k| k.provider == *provider).cloned();
        let managed = inner.record.keys().filter(|(i, _)| *i == issuer);
        let managed = managed.map(|(_, c)| ClientKey { provider: provider.clone(), client: c.clone() });
        named.chain(managed).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// How many grants a provider has, and how many of them are in force.
    #[must_use]
    pub fn counts(&self, provider: &ProviderKey) -> (usize, usize) {
        let inner = self.read();
        let of = inner.grants.values().filter(|e| e.key.provider == *provider && e.pending.is_none());
        let active = |e: &&Entry| e.status.as_ref().is_some_and(|s| s.effective.is_some());
        (of.clone().count(), of.filter(active).count())
    }

    /// What is known of a client that a quarantine names.
    #[must_use]
    pub fn named(&self, issuer: &str, client: &str) -> Named {
        let inner = self.read();
        let mut speakers = inner.providers.values().map(|p| &p.view);
        let speaks = |p: &&Arc<ProviderView>| *p.issuer == *issuer && p.state != ProviderState::IssuerTaken;
        let Some(provider) = speakers.find(speaks) else { return Named::Nobody };
        if provider.mode == Mode::Observe {
            return Named::Observed;
        }
        let key = ClientKey { provider: provider.key.clone(), client: Arc::from(client) };
        let names = inner.clients.get(&key).into_iter().flat_map(|c| c.grants.values().flatten());
        let entries: Vec<&Entry> = names.filter_map(|name| inner.grants.get(name)).collect();
        let is_out = |e: &&&Entry| {
            let said = !e.forged && !inner.unsaid.contains(&e.grant.uid);
            said && e.status.as_ref().is_some_and(|s| quarantine::is_out(s, e.grant.generation))
        };
        Named::Client { grants: entries.len(), out: entries.iter().filter(is_out).count() }
    }

    /// Whether removals of what nobody declares wait for a person.
    pub fn set_held(&self, provider: &ProviderKey, held: bool) {
        let mut inner = self.write();
        match held {
            true => _ = inner.held.insert(provider.clone()),
            false => _ = inner.held.remove(provider),
        }
    }

    /// What a look at a provider found.
    pub fn set_found(&self, provider: &ProviderKey, found: Reason) {
        if let Some(provider) = self.write().providers.get_mut(provider) {
            provider.found = Some(found);
        }
    }

    /// What the last look at a provider found. `None`: there was none yet.
    #[must_use]
    pub fn found(&self, provider: &ProviderKey) -> Option<Reason> {
        self.read().providers.get(provider).and_then(|p| p.found)
    }

    /// How many consents and clients a sweep found that no grant declares.
    pub fn set_undeclared(&self, provider: &ProviderKey, consents: usize, clients: usize) {
        if let Some(provider) = self.write().providers.get_mut(provider) {
            provider.undeclared = [consents, clients];
        }
    }

    /// The moment in numbers.
    #[must_use]
    pub fn tally(&self, now: Timestamp) -> Tally {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let silence = self.heard.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed());
        let inner = self.read();
        let leads = self.leadership.leads();
        let mut tally = Tally { pending: count(inner.pending.len()), leads, silence, ..Tally::default() };
        for provider in inner.providers.values() {
            let found = match provider.view.state {
                ProviderState::IssuerTaken => Reason::IssuerTaken,
                ProviderState::Usable | ProviderState::Unusable => provider.found.unwrap_or(Reason::Progressing),
            };
            *tally.providers.entry(found.as_str()).or_default() += 1;
            // Who does not write does not look, and what is known from when it did is old.
            if leads {
                *tally.hooks.entry(provider.view.hook.word()).or_default() += 1;
                for (what, found) in ["consent", "client"].into_iter().zip(provider.undeclared) {
                    *tally.undeclared.entry(what).or_default() += count(found);
                }
            }
        }
        tally.held = if leads { count(inner.held.len()) } else { 0 };
        for entry in inner.grants.values().filter(|e| e.pending.is_none()) {
            let status = entry.status.as_deref();
            let ready = status.and_then(|s| find_condition(&s.conditions, ConditionType::Ready));
            // Tenants can write a status, but not a word of ours.
            let reason = ready.and_then(|c| Reason::parse(&c.reason)).map_or("None", Reason::as_str);
            *tally.reasons.entry(reason).or_default() += 1;
            let drifted = status.and_then(|s| find_condition(&s.conditions, ConditionType::Drifted));
            tally.drifted += i64::from(drifted.is_some_and(|c| c.status == ConditionStatus::True.as_str()));
            let until = status.and_then(|s| instant::parse(&s.effective.as_ref()?.expires_at));
            let left = until.and_then(|end| u64::try_from(end.as_second() - now.as_second()).ok());
            tally.ends_in.extend(left);
        }
        tally
    }

    /// Whether revocations that outlived their grants wait for a provider.
    #[must_use]
    pub fn pending(&self, provider: &ProviderKey) -> bool {
        let inner = self.read();
        inner.pending.values().filter_map(|name| inner.grants.get(name)).any(|e| e.key.provider == *provider)
    }

    /// Whether a namespace is being deleted.
    #[must_use]
    pub fn terminating(&self, namespace: &str) -> bool {
        self.read().namespaces.get(namespace).is_some_and(|n| n.terminating)
    }

    /// Everything that needs a look of its own after a start, or after a provider became usable.
    #[must_use]
    pub fn unsettled(&self, provider: Option<&ProviderKey>, now: Timestamp) -> Vec<Due> {
        let keys: Vec<ClientKey> = {
            let inner = self.read();
            inner.clients.keys().filter(|k| provider.is_none_or(|p| k.provider == *p)).cloned().collect()
        };
        keys.into_iter().filter_map(|key| self.due_of(&key, now)).collect()
    }

    /// Grants that are past their end date and whose end is not confirmed.
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Vec<Due> {
        let keys: Vec<ClientKey> = self.read().clients.keys().cloned().collect();
        let due = keys.into_iter().map(|key| {
            let standings = standing::all(&self.view(&key), now);
            let over = standings.into_iter().filter(|(grant, standing)| {
                *standing == Standing::Held(Held::Expired) && grant.held && !grant.confirmed()
            });
            over.fold(Due::look(key, BTreeSet::new(), Lane::End), |due, (grant, _)| due.with(&grant))
        });
        due.filter(|due| !due.grants.is_empty()).collect()
    }

    fn due_of(&self, key: &ClientKey, now: Timestamp) -> Option<Due> {
        let view = self.view(key);
        let mut due = Due::look(key.clone(), BTreeSet::new(), Lane::Drift);
        for (grant, standing) in standing::all(&view, now) {
            let status = self.entry(&grant.name).and_then(|e| e.status);
            if verdict::unsettled(&view, &grant, &standing, status.as_deref()) {
                due.lane = due.lane.min(lane(&grant, &standing));
                due = due.with(&grant);
            }
        }
        (!due.grants.is_empty()).then_some(due)
    }

    /// A grant was created or changed. `None`: nothing that concerns us (our own status write).
    pub fn upsert_grant(&self, object: &ClientGrant, now: Timestamp) -> Option<Due> {
        let mut grant = parse::grant(object)?;
        let key = parse::client_key(object);
        let version = object.metadata.resource_version.clone().unwrap_or_default();
        let finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        let mut status = object.status.clone().map(Arc::new);
        let mut inner = self.write();
        inner.unreadable.remove(&grant.name);
        let old = inner.grants.get(&grant.name).filter(|e| e.grant.uid == grant.uid).cloned();
        let mut forged = false;
        let mut news = false;
        if let Some(old) = old.as_ref().filter(|e| self.leadership.leads() && !e.unreadable) {
            // While we lead nobody else writes it: another status than what we said is not read but replaced.
            let ours = status == old.status || old.sent.iter().any(|sent| Some(sent) == status.as_ref());
            forged = !ours && !parse::older(&version, &old.version);
            news = forged && version != old.version;
            if !ours {
                status = old.status.clone();
                grant.carried = old.grant.carried.clone();
                grant.observed_generation = old.grant.observed_generation;
                grant.told = old.grant.told;
            }
        }
        // On the first list a finalizer without a verdict is what a crash leaves behind.
        let begun = !inner.synced.contains(&Source::Grants) && grant.observed_generation.is_none_or(|g| g <= 0);
        grant.gave |= old.as_ref().map_or(begun && grant.held, |e| e.grant.gave);
        since(old.as_ref().map(|e| &*e.grant), &mut grant);
        if !self.leadership.leads() && grant.observed_generation == Some(grant.generation) {
            // The leader has said what came of it.
            let open = grant.carried.revocation.is_some_and(|r| r.confirmed_at.is_none());
            (grant.narrowed, grant.reopened) = (grant.narrowed && open, grant.reopened && open);
        }
        let changed = old.as_ref().is_none_or(|e| {
            e.unreadable
                || e.grant.generation != grant.generation
                || e.grant.deleting != grant.deleting
                || e.grant.held != grant.held
        });
        if let Some(before) = inner.grants.get(&grant.name).filter(|e| e.key != key).cloned() {
            inner.unlink(&before);
        }
        let sent = old.as_ref().map(|e| e.sent.clone()).unwrap_or_default();
        let grant = Arc::new(grant);
        let (unreadable, pending) = (false, None);
        let entry = Entry { grant, key: key.clone(), version, finalizers, status, unreadable, sent, forged, pending };
        inner.link(entry.clone());
        if !changed {
            return news.then(|| Due::look(key, BTreeSet::new(), Lane::Apply).with(&entry.grant));
        }
        self.changed.notify_one();
        let grant = entry.grant;
        let siblings = inner.siblings(&key, &grant.subject);
        let narrower = grant.narrowed || old.is_some();
        let lane = match inner.standing(&key, &grant, now) {
            Some(standing) => lane(&grant, &standing).min(if narrower { Lane::Narrow } else { Lane::Apply }),
            None => Lane::Apply,
        };
        Some(Due::changed(key, siblings, lane).of(&grant.name.namespace))
    }

    /// A stored grant cannot be read. What was known of it stays, without its terms: it keeps shadowing
    /// wider grants, and gives nothing. The second value: nobody was told of this generation yet.
    pub fn unreadable(&self, meta: &ObjectMeta, why: &str) -> (Option<Due>, bool) {
        let mut inner = self.write();
        let name = parse::name(meta);
        let uid = meta.uid.clone().unwrap_or_default();
        let this = (uid.clone(), meta.generation.unwrap_or_default());
        let news = inner.unreadable.insert(name.clone(), this.clone()) != Some(this);
        let Some(mut entry) = inner.grants.get(&name).filter(|e| *e.grant.uid == *uid).cloned() else {
            return (None, news);
        };
        let old = entry.grant.clone();
        let grant = Arc::make_mut(&mut entry.grant);
        grant.terms = Err(why.to_owned());
        grant.generation = meta.generation.unwrap_or_default();
        grant.deleting = meta.deletion_timestamp.is_some();
        grant.deleted_at = meta.deletion_timestamp.as_ref().map(|t| t.0);
        entry.finalizers = meta.finalizers.clone().unwrap_or_default();
        grant.held = entry.finalizers.iter().any(|f| f == FINALIZER);
        entry.version = meta.resource_version.clone().unwrap_or_default();
        entry.unreadable = true;
        let due = || Due::changed(entry.key.clone(), BTreeSet::new(), Lane::Narrow).with(&entry.grant);
        let due = (*old != *entry.grant).then(due);
        inner.link(entry);
        self.changed.notify_one();
        (due, news)
    }

    /// Whether that is still so of this generation of it.
    #[must_use]
    pub fn is_unreadable(&self, meta: &ObjectMeta) -> bool {
        let this = (meta.uid.clone().unwrap_or_default(), meta.generation.unwrap_or_default());
        self.read().unreadable.get(&parse::name(meta)) == Some(&this)
    }

    /// What a grant that was just deleted leaves to be revoked, where it was not us who let it go: somebody
    /// else took our finalizer off.
    #[must_use]
    pub fn left_by(&self, name: &GrantName, now: Timestamp) -> Option<PendingRevocation> {
        let entry = self.entry(name)?;
        let let_go = self.read().let_go.contains(&entry.grant.uid);
        if let_go { None } else { pending::stripped(&self.view(&entry.key), &entry.grant, now) }
    }

    /// A grant is gone.
    pub fn remove_grant(&self, name: &GrantName) -> Option<Due> {
        let mut inner = self.write();
        inner.unreadable.remove(name);
        let entry = inner.grants.remove(name)?;
        self.changed.notify_one();
        inner.let_go.remove(&entry.grant.uid);
        inner.unsaid.remove(&entry.grant.uid);
        inner.unlink(&entry);
        let mut grants = inner.siblings(&entry.key, &entry.grant.subject);
        grants.remove(&entry.grant.uid);
        Some(Due::changed(entry.key, grants, Lane::Narrow).of(&name.namespace))
    }

    /// We are about to put our finalizer on a grant: from then on it may give something.
    pub fn giving(&self, name: &GrantName, uid: &str) {
        let mut inner = self.write();
        let Some(mut entry) = inner.grants.get(name).filter(|e| *e.grant.uid == *uid).cloned() else { return };
        Arc::make_mut(&mut entry.grant).gave = true;
        inner.link(entry);
    }

    /// We are taking our finalizer off a grant (or, `false`, could not).
    pub fn letting_go(&self, uid: &Arc<str>, letting_go: bool) {
        let mut inner = self.write();
        match letting_go {
            true => _ = inner.let_go.insert(uid.clone()),
            false => _ = inner.let_go.remove(uid),
        }
    }

    /// A duty that outlived its grant was read.
    pub fn set_pending(&self, object: &PendingRevocation) -> Option<Due> {
        self.note_pending(object, |_| true)
    }

    /// What the API server answered to a write of such a duty.
    pub fn fed_back_pending(&self, object: &PendingRevocation) {
        let known = |old: Option<&PendingRevocation>| parse::is_news(&object.metadata, old.map(|old| &old.metadata));
        self.note_pending(object, known);
    }

    fn note_pending(
        &self,
        object: &PendingRevocation,
        is_news: impl FnOnce(Option<&PendingRevocation>) -> bool,
    ) -> Option<Due> {
        let grant = Arc::new(pending::grant(object)?);
        let id = parse::name(&object.metadata).name;
        let version = object.metadata.resource_version.clone().unwrap_or_default();
        let mut inner = self.write();
        let old = inner.pending.get(&id).and_then(|name| inner.grants.get(name)).cloned();
        if !is_news(old.as_ref().and_then(|e| e.pending.as_deref())) {
            return None;
        }
        if old.as_ref().is_some_and(|e| e.grant.uid == grant.uid && parse::older(&version, &e.version)) {
            return None;
        }
        if let Some(old) = old.as_ref().filter(|e| e.grant.uid != grant.uid) {
            inner.forget_pending(&id, old);
        }
        let key = inner.key_of_pending(object);
        inner.pending.insert(id, grant.name.clone());
        let news = old.is_none_or(|e| e.grant != grant);
        let finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        let due = Due::changed(key.clone(), BTreeSet::new(), Lane::End).with(&grant);
        inner.link(Entry {
            grant,
            key,
            version,
            finalizers,
            status: None,
            unreadable: false,
            sent: Vec::new(),
            forged: false,
            pending: Some(Arc::new(object.clone())),
        });
        news.then_some(due)
    }

    /// Such a duty is gone.
    pub fn remove_pending(&self, id: &str) -> Option<Due> {
        let mut inner = self.write();
        let entry = inner.pending.get(id).and_then(|name| inner.grants.get(name)).cloned()?;
        inner.forget_pending(id, &entry);
        let grants = inner.siblings(&entry.key, &entry.grant.subject);
        Some(Due::changed(entry.key, grants, Lane::Narrow).of(&entry.grant.name.namespace))
    }

    /// What the API server answered to a write of ours.
    pub fn fed_back(&self, object: &ClientGrant) {
        let Some(mut grant) = parse::grant(object) else { return };
        let mut inner = self.write();
        let Some(old) = inner.grants.get(&grant.name).cloned() else { return };
        // The watch may have been faster; a recreated object is another one.
        let version = object.metadata.resource_version.clone().unwrap_or_default();
        if old.grant.uid != grant.uid || parse::older(&version, &old.version) {
            return;
        }
        grant.gave |= old.grant.gave;
        since(Some(&old.grant), &mut grant);
        let finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        let status = object.status.clone().map(Arc::new);
        let (grant, unreadable, sent, forged, pending) = (Arc::new(grant), false, Vec::new(), false, None);
        inner.link(Entry { grant, key: old.key, version, finalizers, status, unreadable, sent, forged, pending });
    }

    /// What is stored is what a look has just found.
    pub fn said(&self, uid: &Arc<str>) {
        if self.read().unsaid.contains(uid) {
            self.write().unsaid.remove(uid);
        }
    }

    /// A status is on its way: when it comes back by the watch, it is ours.
    pub fn sending(&self, name: &GrantName, uid: &str, status: &ClientGrantStatus) {
        let mut inner = self.write();
        if let Some(entry) = inner.grants.get_mut(name).filter(|e| *e.grant.uid == *uid) {
            if entry.sent.len() >= ON_THEIR_WAY {
                entry.sent.remove(0);
            }
            entry.sent.push(Arc::new(status.clone()));
        }
    }

    /// A grant's end, or what its newer spec took away, is confirmed. Others for the same subject are due:
    /// one of them may hold the key now.
    pub fn ended(&self, name: &GrantName, generation: i64) -> Option<Due> {
        let mut inner = self.write();
        let mut entry = inner.grants.get(name).cloned()?;
        if entry.grant.generation == generation && (entry.grant.narrowed || entry.grant.reopened) {
            let grant = Arc::make_mut(&mut entry.grant);
            (grant.narrowed, grant.reopened) = (false, false);
            inner.link(entry.clone());
        }
        let mut grants = inner.siblings(&entry.key, &entry.grant.subject);
        grants.remove(&entry.grant.uid);
        (!grants.is_empty()).then(|| Due::look(entry.key, grants, Lane::Apply).of(&name.namespace))
    }

    /// A client-own grant of this client came, changed or went: the grants of other clients for the user of
    /// that name stand otherwise now.
    pub fn namesakes(&self, own: &ClientKey) -> Vec<Due> {
        let inner = self.read();
        let subject = Subject::User(own.client.to_string());
        let clients = inner.clients.keys().filter(|k| k.provider == own.provider);
        let due = clients.map(|key| {
            let none = Due::changed(key.clone(), BTreeSet::new(), Lane::Narrow);
            let group = inner.group(key, &subject).filter_map(|name| inner.grants.get(name));
            group.fold(none, |due, entry| due.with(&entry.grant))
        });
        due.filter(|d| !d.grants.is_empty()).collect()
    }

    /// A provider object was read; `idp` is absent while it cannot be used.
    pub fn set_provider(&self, view: ProviderView, idp: Option<Arc<Idp>>, created: Timestamp, uid: String) {
        let mut inner = self.write();
        let old = inner.providers.remove(&view.key);
        let (found, undeclared) = old.as_ref().map_or((None, [0, 0]), |p| (p.found, p.undeclared));
        let now = old.map_or_else(|| Arc::new(AtomicI64::new(-1)), |p| p.now);
        let key = view.key.clone();
        let provider = Provider { view: Arc::new(view), idp, created, uid, found, undeclared, now };
        inner.providers.insert(key, provider);
        self.changed.notify_one();
        inner.settle_issuers();
        inner.forget_views();
    }

    /// A provider object is gone.
    pub fn remove_provider(&self, key: &ProviderKey) {
        let mut inner = self.write();
        if let Some(gone) = inner.providers.remove(key) {
            gone.now.store(-1, Ordering::Release);
            inner.former.insert(key.clone(), gone.view.issuer.clone());
            inner.held.remove(key);
        }
        self.changed.notify_one();
        inner.settle_issuers();
        inner.forget_views();
    }

    /// A term begins: what may be removed is found anew.
    pub fn forget_collected(&self) {
        let mut inner = self.write();
        inner.collect.clear();
        inner.forget_views();
    }

    /// Whether another provider object speaks for the issuer.
    #[must_use]
    pub fn issuer_taken(&self, key: &ProviderKey) -> bool {
        self.read().providers.get(key).is_some_and(|p| p.view.state == ProviderState::IssuerTaken)
    }

    /// Labels of a namespace, and whether it is being deleted; `None`: it is gone. Returns true if that changed.
    pub fn set_namespace(&self, name: &str, now: Option<(BTreeMap<String, String>, bool)>) -> bool {
        let mut inner = self.write();
        let changed = match now {
            Some((labels, terminating)) => {
                let same = |old: &Namespace| *old.labels == labels && old.terminating == terminating;
                let same = inner.namespaces.get(name).is_some_and(same);
                if !same {
                    inner.namespaces.insert(name.to_owned(), Namespace { labels: Arc::new(labels), terminating });
                }
                !same
            }
            None => inner.namespaces.remove(name).is_some(),
        };
        if changed {
            self.changed.notify_one();
            inner.forget_views();
        }
        changed
    }

    /// A ClientIdentity; `None`: it is gone.
    pub fn set_identity(&self, name: GrantName, identity: Option<Identity>) -> Vec<Due> {
        let mut inner = self.write();
        let old = match identity.clone() {
            Some(new) => inner.identities.insert(name, new),
            None => inner.identities.remove(&name),
        };
        if old == identity {
            return Vec::new();
        }
        let suspends = |identity: &Option<Identity>| identity.as_ref().is_some_and(|i| i.suspends);
        let braked = suspends(&old) != suspends(&identity);
        let keys: BTreeSet<ClientKey> = [old, identity].into_iter().flatten().map(|i| i.key).collect();
        let due = |key: ClientKey| {
            if braked {
                inner.reopen(&key);
            }
            inner.everything_due(key, if braked { Lane::End } else { Lane::Apply })
        };
        keys.into_iter().map(due).collect()
    }

    /// A ClientIdentity cannot be read any more: it permits nothing, and what it held back stays so.
    pub fn unreadable_identity(&self, name: GrantName) -> Vec<Due> {
        let known = self.read().identities.get(&name).cloned();
        let less = known.filter(|i| i.suspends || i.born.is_some()).map(|known| Identity { adopt: false, ..known });
        self.set_identity(name, less)
    }

    /// Waits until grants, providers or namespaces are not as they were.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether a namespace may speak for a client.
    #[must_use]
    pub fn admission(&self, key: &ClientKey, namespace: &str) -> Admission {
        let inner = self.read();
        match inner.providers.get(&key.provider).map(|p| &p.view) {
            Some(view) if view.state != ProviderState::IssuerTaken => {
                let labels = inner.namespaces.get(namespace).map(|n| n.labels.clone()).unwrap_or_default();
                let speaks = view.rules.iter().any(|rule| rule.speaks_for(&labels, &key.client));
                if speaks { Admission::Admitted } else { Admission::NotAllowed }
            }
            _ => Admission::ProviderMissing,
        }
    }

    /// The grants of these clients.
    #[must_use]
    pub fn grants_of(&self, clients: &BTreeSet<ClientKey>) -> Vec<(ClientKey, Arc<Grant>)> {
        let inner = self.read();
        let of = clients.iter().filter_map(|key| inner.clients.get_key_value(key));
        let entries = of.flat_map(|(key, client)| client.names().map(move |name| (key, name)));
        let entries = entries.filter_map(|(key, name)| Some((key.clone(), inner.grants.get(name)?)));
        entries.filter(|(_, e)| e.pending.is_none()).map(|(key, e)| (key, e.grant.clone())).collect()
    }

    /// What is known of whether something else can act as a client.
    #[must_use]
    pub fn shared(&self, key: &ClientKey) -> Shared {
        match &self.read().shared {
            // Whoever led since may have found something else.
            Some((term, all)) if self.leadership.term() == Some(*term) => {
                all.get(key).cloned().unwrap_or(Shared::Nothing)
            }
            _ => Shared::NotYet,
        }
    }

    /// What was found in this term; of clients of which nothing is known yet, what was found before in the same
    /// term stays. Returns the grants whose status says something else.
    pub fn set_shared(&self, term: u64, mut all: BTreeMap<ClientKey, Shared>, now: Timestamp) -> Vec<Due> {
        let mut inner = self.write();
        if let Some((_, old)) = inner.shared.take().filter(|(of, _)| *of == term) {
            let waiting = all.iter_mut().filter(|(_, shared)| **shared == Shared::NotYet);
            waiting.for_each(|(key, shared)| *shared = old.get(key).cloned().unwrap_or(Shared::NotYet));
        }
        let dues = inner.clients.iter().map(|(key, client)| {
            let shared = all.get(key).cloned().unwrap_or(Shared::Nothing);
            let entries = client.names().filter_map(|name| inner.grants.get(name)).filter(|e| e.pending.is_none());
            let news = |e: &&Entry| e.status.as_ref().is_some_and(|s| verdict::sharing_is_news(s, &shared, now));
            let none = Due::look(key.clone(), BTreeSet::new(), Lane::Drift);
            entries.filter(news).fold(none, |due, entry| due.with(&entry.grant))
        });
        let dues = dues.filter(|due| !due.grants.is_empty()).collect();
        inner.shared = Some((term, all));
        dues
    }

    /// A ClientQuarantine; `None`: it is gone.
    pub fn set_quarantine(&self, name: &str, quarantine: Option<Quarantine>) -> Vec<Due> {
        let mut inner = self.write();
        let old = match quarantine.clone() {
            Some(new) => inner.quarantines.insert(name.to_owned(), new),
            None => inner.quarantines.remove(name),
        };
        if old == quarantine {
            return Vec::new();
        }
        let named: Vec<Quarantine> = [old, quarantine].into_iter().flatten().collect();
        let keys: Vec<ClientKey> = inner
            .clients
            .keys()
            .filter(|key| {
                let issuer = inner.providers.get(&key.provider).map(|p| &p.view.issuer);
                named.iter().any(|q| issuer.is_some_and(|i| **i == *q.issuer) && q.client == *key.client)
            })
            .cloned()
            .collect();
        let braked = |key: ClientKey| {
            inner.reopen(&key);
            let due = inner.everything_due(key, Lane::End);
            inner.unsaid.extend(due.grants.iter().cloned());
            due
        };
        keys.into_iter().map(braked).collect()
    }

    /// What the record says of a client; `None`: released.
    pub fn set_managed(&self, issuer: &str, client: &str, managed: Option<Managed>) {
        let mut inner = self.write();
        let key = (Arc::from(issuer), Arc::from(client));
        match managed {
            Some(managed) => _ = inner.record.insert(key, managed),
            None => _ = inner.record.remove(&key),
        }
        for (key, entry) in &mut inner.clients {
            if *key.client == *client {
                entry.view.take();
            }
        }
    }

    /// A client was given back (or, `None`, it was not).
    pub fn set_released(&self, issuer: &str, client: &str, released: Option<Option<Authority>>) -> Option<Due> {
        let mut inner = self.write();
        let name = (Arc::from(issuer), Arc::from(client));
        let news = released.is_some() && inner.released.get(&name) != released.as_ref();
        match released {
            Some(released) => _ = inner.released.insert(name.clone(), released),
            None => _ = inner.released.remove(&name),
        }
        let speaks = |p: &&Provider| p.view.issuer == name.0 && p.view.state != ProviderState::IssuerTaken;
        let provider = inner.providers.values().find(speaks).map(|p| p.view.key.clone())?;
        let key = ClientKey { provider, client: name.1 };
        if let Some(client) = inner.clients.get_mut(&key) {
            client.view.take();
        }
        news.then(|| Due::look(key, BTreeSet::new(), Lane::Apply))
    }

    /// Clients of a provider that were given back.
    #[must_use]
    pub fn released(&self, provider: &ProviderKey) -> BTreeSet<Arc<str>> {
        let inner = self.read();
        let Some(issuer) = inner.providers.get(provider).map(|p| p.view.issuer.clone()) else { return BTreeSet::new() };
        inner.released.keys().filter(|(i, _)| *i == issuer).map(|(_, client)| client.clone()).collect()
    }

    /// What a sweep of a provider says may be removed; it replaces what the last one said.
    pub fn set_collect(&self, provider: &ProviderKey, new: BTreeMap<Arc<str>, Collect>) -> Vec<Due> {
        let mut inner = self.write();
        let old: Vec<ClientKey> = inner.collect.keys().filter(|key| key.provider == *provider).cloned().collect();
        for key in &old {
            inner.collect.remove(key);
        }
        let mut dues = Vec::new();
        for (client, collect) in new {
            let key = ClientKey { provider: provider.clone(), client };
            let subjects = collect.subjects.keys().cloned().collect();
            dues.push(Due { subjects, ..Due::look(key.clone(), BTreeSet::new(), Lane::Narrow) });
            inner.collect.insert(key, collect);
        }
        for key in old.iter().chain(dues.iter().map(|due| &due.key)) {
            if let Some(client) = inner.clients.get_mut(key) {
                client.view.take();
            }
        }
        dues
    }

    /// Subjects that grants of a provider name.
    #[must_use]
    pub fn subjects_of(&self, provider: &ProviderKey) -> BTreeSet<String> {
        let inner = self.read();
        let of = inner.grants.values().filter(|e| e.key.provider == *provider);
        of.filter_map(|e| match &e.grant.subject {
            Subject::User(id) => Some(id.clone()),
            Subject::Any | Subject::Own => None,
        })
        .collect()
    }

    /// The history of the cluster went back: it was restored from an older copy.
    pub fn set_rewound(&self) {
        let mut inner = self.write();
        inner.rewound = true;
        // No object has such a version: nothing is older than it, and no write is taken with it.
        inner.grants.values_mut().for_each(|entry| entry.version = "rewound".to_owned());
    }

    /// Whether it did, in the life of this process.
    #[must_use]
    pub fn rewound(&self) -> bool {
        self.read().rewound
    }

    /// Which lines of the record cannot be read, by key.
    pub fn set_damaged(&self, damaged: BTreeSet<String>) {
        let mut inner = self.write();
        if inner.damaged != damaged {
            inner.damaged = damaged;
            inner.forget_views();
        }
    }

    /// Every grant of every provider is due: rules, labels or providers changed.
    #[must_use]
    pub fn everything(&self, provider: Option<&ProviderKey>, lane: Lane) -> Vec<Due> {
        let mut inner = self.write();
        let keys: Vec<ClientKey> =
            inner.clients.keys().filter(|k| provider.is_none_or(|p| k.provider == *p)).cloned().collect();
        keys.into_iter().map(|key| inner.everything_due(key, lane)).collect()
    }

    /// When each grant is to be looked at after a start: when it changes by the clock alone, and once
    /// within the consent sweep, spread evenly.
    #[must_use]
    pub fn looks(&self, now: Timestamp) -> Vec<(Due, Arc<str>, Timestamp)> {
        let inner = self.read();
        let of = |entry: &Entry| {
            let terms = entry.grant.terms.as_ref().ok()?;
            let sweep = inner.providers.get(&entry.key.provider).map(|p| p.view.consent_sweep);
            let sweep = sweep.filter(|_| matches!(entry.grant.subject, Subject::User(_)) && terms.expires_at > now);
            let sweep = sweep.map(|s| (now + s.mul_f64(backoff::fraction(&entry.grant.uid)), Lane::Drift));
            let clock = [terms.not_before, Some(terms.expires_at)].into_iter().flatten().filter(|t| *t > now);
            let clock = clock.min().map(|at| (at, Lane::End));
            let (at, lane) = [sweep, clock].into_iter().flatten().min()?;
            let due = Due::look(entry.key.clone(), BTreeSet::new(), lane).of(&entry.grant.name.namespace);
            Some((due, entry.grant.uid.clone(), at))
        };
        inner.grants.values().filter_map(of).collect()
    }
}

/// What nobody can list of the tokens of `Any` and client-own grants, and has to be remembered since
/// their status was written: whether the spec got narrower, and whether an ended grant was changed.
fn since(old: Option<&Grant>, new: &mut Grant) {
    if matches!(new.subject, Subject::User(_)) {
        return;
    }
    // Changed while nobody looked: what it was before is not known.
    let unseen = new.held && new.observed_generation.is_some_and(|g| g > 0 && g != new.generation);
    (new.narrowed, new.reopened) = match old {
        None => (unseen, unseen),
        Some(old) => {
            let less =
                old.held && matches!((&old.terms, &new.terms), (Ok(a), Ok(b)) if !a.authority.within(&b.authority));
            let reopened = old.confirmed() && old.generation != new.generation;
            (old.narrowed || less, old.reopened || reopened)
        }
    };
}

fn lane(grant: &Grant, standing: &Standing) -> Lane {
    match standing {
        Standing::Held(_) if grant.held => Lane::End,
        Standing::Held(_) | Standing::Live | Standing::Refused(_) => Lane::Apply,
    }
}

impl Client {
    fn names(&self) -> impl Iterator<Item = &GrantName> {
        self.grants.values().flatten()
    }

    fn remove(&mut self, grant: &Grant) {
        if let Some(group) = self.grants.get_mut(&grant.subject) {
            group.remove(&grant.name);
            if group.is_empty() {
                self.grants.remove(&grant.subject);
            }
        }
    }
}

impl Inner {
    fn link(&mut self, entry: Entry) {
        let old = self.grants.get(&entry.grant.name).filter(|old| old.key == entry.key).map(|old| old.grant.clone());
        let client = self.clients.entry(entry.key.clone()).or_default();
        if let Some(old) = old.filter(|old| old.subject != entry.grant.subject) {
            client.remove(&old);
        }
        client.grants.entry(entry.grant.subject.clone()).or_default().insert(entry.grant.name.clone());
        client.view.take();
        self.touch_collisions(&entry);
        self.grants.insert(entry.grant.name.clone(), entry);
    }

    fn unlink(&mut self, entry: &Entry) {
        if let Some(client) = self.clients.get_mut(&entry.key) {
            client.remove(&entry.grant);
            client.view.take();
            if client.grants.is_empty() {
                self.clients.remove(&entry.key);
            }
        }
        // A client-own grant that goes may free User grants of other clients.
        if entry.grant.subject == Subject::Own {
            self.forget_views();
        }
    }

    /// A client-own grant collides with User grants whose subject is its client's id.
    fn touch_collisions(&mut self, entry: &Entry) {
        let new = !self.grants.contains_key(&entry.grant.name);
        if entry.grant.subject == Subject::Own && (new || entry.grant.deleting) {
            self.forget_views();
        }
    }

    fn forget_views(&mut self) {
        for client in self.clients.values_mut() {
            client.view.take();
        }
    }

    /// The client that a duty is about, at the provider object that speaks for its issuer now.
    fn key_of_pending(&self, object: &PendingRevocation) -> ClientKey {
        let provider = self.providers.values().find(|p| pending::may_be_done_by(object, &p.view));
        let provider = provider.map(|p| p.view.key.clone());
        // No object has this name.
        let nobody = || ProviderKey::cluster(format!("({})", object.spec.issuer));
        ClientKey { provider: provider.unwrap_or_else(nobody), client: Arc::from(object.spec.client_id.as_str()) }
    }

    fn forget_pending(&mut self, id: &str, entry: &Entry) {
        self.pending.remove(id);
        self.grants.remove(&entry.grant.name);
        self.unlink(entry);
    }

    /// Another provider object may speak for an issuer now.
    fn settle_pending(&mut self) {
        let names: Vec<GrantName> = self.pending.values().cloned().collect();
        for name in names {
            let Some(mut entry) = self.grants.get(&name).cloned() else { continue };
            let Some(key) = entry.pending.as_ref().map(|object| self.key_of_pending(object)) else { continue };
            if key != entry.key {
                self.unlink(&entry);
                entry.key = key;
                self.link(entry);
            }
        }
    }

    /// Names of the grants of a client for one subject.
    fn group(&self, key: &ClientKey, subject: &Subject) -> impl Iterator<Item = &GrantName> {
        self.clients.get(key).and_then(|c| c.grants.get(subject)).into_iter().flatten()
    }

    fn siblings(&self, key: &ClientKey, subject: &Subject) -> BTreeSet<Arc<str>> {
        self.group(key, subject).filter_map(|n| self.grants.get(n)).map(|e| e.grant.uid.clone()).collect()
    }

    /// How one grant stands, without a look at the client's grants for others.
    fn standing(&self, key: &ClientKey, grant: &Grant, now: Timestamp) -> Option<Standing> {
        let view = self.build(key, self.group(key, &grant.subject));
        standing::all(&view, now).into_iter().find(|(g, _)| g.uid == grant.uid).map(|(_, standing)| standing)
    }

    fn everything_due(&mut self, key: ClientKey, lane: Lane) -> Due {
        let none = Due::changed(key.clone(), BTreeSet::new(), lane);
        let Some(client) = self.clients.get_mut(&key) else { return none };
        client.view.take();
        client.names().filter_map(|n| self.grants.get(n)).fold(none, |due, entry| due.with(&entry.grant))
    }

    /// A quarantine or the like came or went: without it ended grants may be in force for a moment.
    fn reopen(&mut self, key: &ClientKey) {
        let Some(client) = self.clients.get(key) else { return };
        for name in client.names() {
            if let Some(entry) = self.grants.get_mut(name)
                && entry.grant.confirmed()
                && !matches!(entry.grant.subject, Subject::User(_))
            {
                Arc::make_mut(&mut entry.grant).reopened = true;
            }
        }
    }

    /// One provider object speaks for one issuer: the cluster kind before namespaced ones, then the oldest.
    fn settle_issuers(&mut self) {
        let mut first: BTreeMap<Arc<str>, (bool, Timestamp, String, ProviderKey)> = BTreeMap::new();
        for (key, provider) in &self.providers {
            let rank = (!key.namespace.is_empty(), provider.created, provider.uid.clone(), key.clone());
            let best = first.entry(provider.view.issuer.clone()).or_insert_with(|| rank.clone());
            if rank < *best {
                *best = rank;
            }
        }
        for (key, provider) in &mut self.providers {
            let speaks = first.get(&provider.view.issuer).is_some_and(|(_, _, _, winner)| winner == key);
            let state = match (speaks, provider.idp.is_some()) {
                (false, _) => ProviderState::IssuerTaken,
                (true, true) => ProviderState::Usable,
                (true, false) => ProviderState::Unusable,
            };
            if provider.view.state != state {
                let mut view = (*provider.view).clone();
                view.state = state;
                provider.view = Arc::new(view);
            }
            let writable = provider.view.state == ProviderState::Usable && provider.view.mode == Mode::Enforce;
            provider.now.store(if writable { provider.view.generation } else { -1 }, Ordering::Release);
        }
        self.settle_pending();
    }

    fn build<'a>(&self, key: &ClientKey, names: impl Iterator<Item = &'a GrantName>) -> ClientView {
        let provider = self.providers.get(&key.provider).map(|p| p.view.clone());
        let mut grants: BTreeMap<Subject, Vec<Arc<Grant>>> = BTreeMap::new();
        let mut namespaces = BTreeMap::new();
        let mut terminating = BTreeSet::new();
        for entry in names.filter_map(|n| self.grants.get(n)) {
            let grant = &entry.grant;
            grants.entry(grant.subject.clone()).or_default().push(grant.clone());
            if !namespaces.contains_key(&grant.name.namespace)
                && let Some(namespace) = self.namespaces.get(&grant.name.namespace)
            {
                namespaces.insert(grant.name.namespace.clone(), namespace.labels.clone());
                if namespace.terminating {
                    terminating.insert(grant.name.namespace.clone());
                }
            }
        }
        for group in grants.values_mut() {
            group.sort_by(|a, b| (a.created, &a.uid).cmp(&(b.created, &b.uid)));
        }
        let issuer = provider.as_ref().map(|p| p.issuer.clone()).or_else(|| self.former.get(&key.provider).cloned());
        let speaks = |namespace: &str, client: &str| {
            let labels = self.namespaces.get(namespace).map(|n| n.labels.clone()).unwrap_or_default();
            provider.as_ref().is_some_and(|p| p.rules.iter().any(|r| r.speaks_for(&labels, client)))
        };
        let says = |i: &&Identity| i.adopt || i.suspends || i.born.is_some();
        let of = self.identities.values().filter(|i| says(i) && i.key == *key && speaks(&i.namespace, &key.client));
        let identities: Vec<&Identity> = of.collect();
        let collisions = grants
            .keys()
            .filter_map(|subject| match subject {
                Subject::User(id) => Some(id),
                Subject::Any | Subject::Own => None,
            })
            .filter(|id| {
                let own = ClientKey { provider: key.provider.clone(), client: Arc::from(id.as_str()) };
                let mut named = self.group(&own, &Subject::Own);
                named.any(|name| speaks(&name.namespace, id))
            })
            .cloned()
            .collect();
        let released = issuer.as_ref().and_then(|i| self.released.get(&(i.clone(), key.client.clone())).cloned());
        let managed = issuer.clone().filter(|_| provider.is_some()).and_then(|issuer| {
            let name = (issuer, key.client.clone());
            // A line that cannot be read still names its client by its key.
            let damaged = !self.damaged.is_empty() && self.damaged.contains(&record::key(&name.0, &name.1));
            self.record.get(&name).cloned().or(damaged.then(Managed::default))
        });
        let quarantined = provider
            .as_ref()
            .is_some_and(|p| self.quarantines.values().any(|q| *q.issuer == *p.issuer && *q.client == *key.client));
        let collect = self.collect.get(key).cloned().unwrap_or_default();
        ClientView {
            key: key.clone(),
            provider,
            issuer,
            grants,
            namespaces,
            terminating,
            quarantined,
            adopt: identities.iter().any(|i| i.adopt),
            suspended: identities.iter().any(|i| i.suspends),
            born: identities.iter().filter_map(|i| i.born.clone()).collect(),
            managed,
            collisions,
            collect,
            released,
        }
    }
}
