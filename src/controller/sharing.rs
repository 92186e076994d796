//! Shared credentials: what the streams and our own kinds told is evaluated a second after it changed, and said
//! on ClientIdentities here and, through the [`World`], on grants.
//!
//! Without a ClientIdentity nothing is watched, so that an ordinary cluster pays nothing. Every replica watches, so
//! that the next one to lead knows the cluster already; the one that leads evaluates.

mod registered;
mod reports;
mod streams;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use tokio::sync::{Notify, watch as watch_channel};

use super::Context;
use crate::api::condition::Reason;
use crate::api::{ClientIdentity, instant};
use crate::clock;
use crate::grant::{ClientKey, Grant, GrantName, ProviderKey, parse};
use crate::sharing::declared::{self, Identity};
use crate::sharing::evaluate::client_ids;
use crate::sharing::finding::{Evaluation, Finding, Place};
use crate::sharing::grace::Grace;
use crate::sharing::judge::{self, Exclusive, Shared};
use crate::sharing::picture::Picture;
use crate::sharing::registration::Registration;
use crate::sharing::told::{Admission, Looked};
use crate::sharing::unchanged;
use crate::world::World;
use registered::{Registered, Registrations};

/// What comes within this time is evaluated together.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// After what failed it is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// The resource of ClientIdentities.
const IDENTITIES: &str = "clientidentities.clientgrant.dev";
/// Lists for new client ids are this far apart.
const LISTS: Duration = Duration::from_secs(10);
/// How a client is registered is waited for this long, before it is said that it is not known.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is kept is compared with what it is made of this often.
const CHECKS: Duration = Duration::from_secs(600);

/// A ClientIdentity as it is stored, and what it says.
#[derive(Clone, Debug)]
struct Stored {
    object: Arc<ClientIdentity>,
    declared: Arc<Identity>,
}

/// What was told.
#[derive(Debug)]
pub struct Detector {
    picture: Mutex<Picture>,
    identities: Mutex<BTreeMap<GrantName, Stored>>,
    registered: Registered,
    /// What literals are compared with while they are read: of a literal nothing is kept but that it is one of
    /// these. So a new id wants new lists, which is rare, and no form of a literal's value is in memory.
    ids: Mutex<Arc<BTreeSet<String>>>,
    anew: watch_channel::Sender<()>,
    /// Some provider was not asked about a client yet.
    lacking: watch_channel::Sender<()>,
    woken: Notify,
    begun: AtomicBool,
    reports: reports::Desk,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            picture: Mutex::default(),
            identities: Mutex::default(),
            registered: Registered::default(),
            ids: Mutex::default(),
            anew: watch_channel::Sender::new(()),
            lacking: watch_channel::Sender::new(()),
            woken: Notify::new(),
            begun: AtomicBool::new(false),
            reports: reports::Desk::default(),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Detector {
    fn picture(&self) -> MutexGuard<'_, Picture> {
        locked(&self.picture)
    }

    fn ids(&self) -> Arc<BTreeSet<String>> {
        locked(&self.ids).clone()
    }

    fn anew(&self) -> watch_channel::Receiver<()> {
        self.anew.subscribe()
    }

    fn wake(&self) {
        self.woken.notify_one();
    }

    /// Tells when some provider was not asked about a client yet.
    pub fn lacking(&self) -> watch_channel::Receiver<()> {
        self.lacking.subscribe()
    }

    /// A ClientIdentity is this.
    pub fn identity(&self, object: &ClientIdentity) {
        let name = parse::name(&object.metadata);
        if self.picture().readable(IDENTITIES, &name.namespace, &name.name) {
            self.wake();
        }
        self.store(name, object, |_| true);
    }

    /// What the API server answered to a write of ours.
    fn answered(&self, object: &ClientIdentity) {
        let new = &object.metadata;
        self.store(parse::name(new), object, |old| parse::is_news(new, old.map(|old| &old.object.metadata)));
    }

    fn store(&self, name: GrantName, object: &ClientIdentity, is_news: impl FnOnce(Option<&Stored>) -> bool) {
        let mut all = locked(&self.identities);
        let old = all.get(&name);
        if !is_news(old) || old.is_some_and(|old| *old.object == *object) {
            return;
        }
        // What says the same stays the same pointer.
        let declared = Arc::new(declared::identity(object, Place::default()));
        let declared = old.map(|old| &old.declared).filter(|old| **old == declared).cloned().unwrap_or(declared);
        all.insert(name, Stored { object: Arc::new(object.clone()), declared });
        drop(all);
        self.wake();
    }

    /// A ClientIdentity is gone.
    pub fn no_identity(&self, name: &GrantName) {
        let healed = self.picture().readable(IDENTITIES, &name.namespace, &name.name);
        if locked(&self.identities).remove(name).is_some() || healed {
            self.wake();
        }
    }

    /// A ClientIdentity cannot be read: what was known of it stays.
    pub fn odd_identity(&self, name: &GrantName) {
        if self.picture().unreadable(IDENTITIES, &name.namespace, &name.name) {
            self.wake();
        }
    }

    /// Clients of a provider that some ClientIdentity speaks about which counts.
    pub fn spoken(&self, world: &World, provider: &ProviderKey) -> BTreeSet<Arc<str>> {
        let all = self.identities();
        let of = all.iter().map(|stored| &stored.declared).filter(|says| says.client.provider == *provider);
        let counts =
            |says: &&Arc<Identity>| world.admission(&says.client, &says.object.namespace) == Admission::Admitted;
        of.filter(counts).map(|says| says.client.client.clone()).collect()
    }

    /// Whether such a client is registered in a way that nobody has looked at yet.
    pub fn lacks_registrations(&self, world: &World, provider: &ProviderKey) -> bool {
        let term = world.leadership().term();
        term.is_some_and(|term| self.registered.lacks(term, provider, &self.spoken(world, provider)))
    }

    /// A complete list, begun in a term: how these clients are registered.
    pub fn registrations(&self, term: u64, provider: &ProviderKey, asked: BTreeSet<Arc<str>>, all: Vec<Registration>) {
        if self.registered.set(term, provider, asked, all) {
            self.wake();
        }
    }

    /// A provider object is gone, or connects elsewhere.
    pub fn no_provider(&self, provider: &ProviderKey) {
        self.registered.forget(provider);
    }

    fn identities(&self) -> Vec<Stored> {
        locked(&self.identities).values().cloned().collect()
    }
}

/// One ClientIdentity as it is evaluated.
struct Known {
    object: Arc<ClientIdentity>,
    declared: Arc<Identity>,
    admission: Admission,
}

/// The clients that may be named in a namespace, by namespace: a ClientIdentity of it speaks about them and counts.
fn neighbours(known: &[Known]) -> BTreeMap<String, BTreeSet<ClientKey>> {
    let mut all = BTreeMap::<String, BTreeSet<ClientKey>>::new();
    for Known { declared, .. } in known.iter().filter(|k| k.counts()) {
        all.entry(declared.object.namespace.to_string()).or_default().insert(declared.client.clone());
    }
    all
}

impl Known {
    /// Whether the provider's rules let it speak about its client.
    fn counts(&self) -> bool {
        self.admission == Admission::Admitted
    }

    /// Whether its status has a finding of its client already.
    fn has_told(&self, finding: &Finding) -> bool {
        let subject = &finding.subject;
        let names = |told: &str| {
            let name = told.strip_prefix(subject.kind.as_str()).and_then(|rest| rest.strip_prefix('/'));
            name == Some(subject.name.as_str())
        };
        let told = self.object.status.iter().flat_map(|status| &status.findings);
        told.filter(|t| t.rule == finding.rule).any(|t| t.subject.as_deref().is_none_or(names))
    }
}

/// Evaluates whenever something changed. Ends with the process.
pub async fn run(context: Arc<Context>) {
    context.all_read().await;
    tokio::spawn(reports::run(context.clone()));
    let mut news = context.world.leadership().news();
    let (mut next, mut listed, mut leading) = (None, None, None);
    let mut checked = Instant::now();
    loop {
        let clock = next.map_or(CHECKS, clock::until).min(CHECKS);
        tokio::select! {
            () = context.sharing.woken.notified() => {}
            () = context.world.changed() => {}
            Ok(()) = news.changed() => {}
            () = tokio::time::sleep(clock) => {}
        }
        tokio::time::sleep(DEBOUNCE).await;
        if checked.elapsed() >= CHECKS {
            check(&context);
            checked = Instant::now();
        }
        let term = context.world.leadership().term();
        let elected = context.world.leadership().is_elected();
        if !elected || term.is_some_and(|term| leading.as_ref().is_none_or(|of: &Leading| of.term != term)) {
            leading = term.map(Leading::new);
        }
        next = turn(&context, &mut listed, leading.as_mut().filter(|_| term.is_some())).await;
        // The lease is late: nobody tells when it is renewed, and what failed meanwhile is to be written.
        if elected && term.is_none() {
            next = Some(clock::now() + AGAIN);
        }
    }
}

/// What one evaluation brought.
struct Found {
    /// What is to be said of each client.
    shared: BTreeMap<ClientKey, Shared>,
    evaluation: Evaluation,
    looked: Looked,
}

/// What one term remembers.
struct Leading {
    term: u64,
    since: Instant,
    /// Something was evaluated.
    evaluated: bool,
    grace: Grace,
    /// Since when a provider is waited for.
    waiting: BTreeMap<ProviderKey, Instant>,
}

impl Leading {
    fn new(term: u64) -> Self {
        Self { term, since: Instant::now(), evaluated: false, grace: Grace::default(), waiting: BTreeMap::new() }
    }

    /// The clients whose registration may come yet. One of a provider that does not answer is not waited for, and
    /// of one that answers and never comes to the end of its list, not for ever.
    fn wait(
        &mut self,
        context: &Context,
        clients: &BTreeSet<ClientKey>,
        registrations: &Registrations,
    ) -> BTreeSet<ClientKey> {
        let unread = |client: &&ClientKey| {
            let answers = context.world.found(&client.provider).is_none_or(|found| found == Reason::Connected);
            answers && registrations.known(client) == unchanged::Known::NotRead
        };
        let mut unread: BTreeSet<ClientKey> = clients.iter().filter(unread).cloned().collect();
        self.waiting.retain(|provider, _| unread.iter().any(|client| client.provider == *provider));
        for client in &unread {
            if !self.waiting.contains_key(&client.provider) {
                self.waiting.insert(client.provider.clone(), Instant::now());
                context.sharing.lacking.send_replace(());
            }
        }
        unread.retain(|client| self.waiting.get(&client.provider).is_some_and(|since| since.elapsed() < PATIENCE));
        unread
    }
}

/// What is kept while the cluster changes has to be what one would make of it anew.
fn check(context: &Context) {
    let parts = context.sharing.picture().check();
    if !parts.is_empty() {
        context.metrics.diverged();
        let parts = parts.join(", ");
        tracing::error!(parts, "what is kept for shared credentials was wrong and is made anew: please report this");
    }
}

/// One evaluation, where this replica leads. Returns when the clock alone asks for the next.
async fn turn(
    context: &Arc<Context>,
    listed: &mut Option<Instant>,
    leading: Option<&mut Leading>,
) -> Option<Timestamp> {
    let (now, begin) = (clock::now(), Instant::now());
    let known: Vec<Known> = context.sharing.identities().into_iter().map(|of| know(context, of)).collect();
    // One that only adopts says nothing that could be compared, and asks for nothing to be looked at.
    let says = |k: &&Known| k.counts() && !k.declared.is_blank();
    let counted: Vec<Arc<Identity>> = known.iter().filter(says).map(|k| k.declared.clone()).collect();
    let clients: BTreeSet<ClientKey> = counted.iter().map(|identity| identity.client.clone()).collect();
    let detect = context.config.detect_sharing;
    let mut next = if detect { watch(context, &counted, listed, now) } else { None };
    let Some(leading) = leading else {
        reports::want(context, &known, None, false);
        context.metrics.shared(None, None);
        return next;
    };
    let admitted = known.iter().filter(|k| k.counts()).map(|k| &k.declared.client);
    let registrations = context.sharing.registered.of(leading.term, admitted);
    let mut soonest = |at: Option<Timestamp>| next = next.into_iter().chain(at.filter(|at| *at > now)).min();

    // `None`: not everything was read yet, and what was said stays.
    let found = if clients.is_empty() || !detect {
        let off = Shared::Is(Arc::new(judge::off()));
        let shared = clients.iter().map(|client| (client.clone(), off.clone())).collect();
        Some(Found { shared, evaluation: Evaluation::default(), looked: Looked::Nothing })
    } else {
        let waiting = leading.wait(context, &clients, &registrations);
        soonest((!waiting.is_empty()).then(|| now + AGAIN));
        // At the beginning of a term all is waited for, so that nothing is said that the one before knew better.
        let holds = !leading.evaluated && !waiting.is_empty() && leading.since.elapsed() < PATIENCE;
        let grants = context.world.grants_of(&clients);
        changes(&counted, &grants).for_each(|at| soonest(Some(at)));
        let mut picture = context.sharing.picture();
        picture.declared(counted, grants, now);
        picture.registrations(registrations.registered());
        let evaluated = (picture.settled() && !holds).then(|| (picture.evaluate(now), picture.gaps()));
        drop(picture);
        evaluated.map(|(mut evaluation, gaps)| {
            leading.evaluated = true;
            let told = |finding: &Finding| {
                let of = |k: &&Known| finding.keys.contains(&k.declared.client);
                known.iter().filter(of).any(|k| k.has_told(finding))
            };
            soonest(leading.grace.hold_back(&mut evaluation.findings, told, context.config.sharing_grace, now));
            let registered = |client: &ClientKey| matches!(registrations.known(client), unchanged::Known::Is(_));
            let verdicts = judge::all(&evaluation, &clients, &gaps, registered);
            let shared = verdicts.into_iter().map(|(client, verdict)| {
                // What was found is so, whatever comes yet; that there is nothing is not known before.
                let known = verdict.exclusive == Exclusive::No || !waiting.contains(&client);
                (client, if known { Shared::Is(Arc::new(verdict)) } else { Shared::NotYet })
            });
            let looked = if gaps.is_empty() { Looked::Everything } else { Looked::Part };
            Found { shared: shared.collect(), evaluation, looked }
        })
    };
    if let Some(Found { shared, evaluation, .. }) = &found {
        context.queue.push_all(context.world.set_shared(leading.term, shared.clone(), now));
        context.metrics.shared(Some(&evaluation.findings), detect.then(|| begin.elapsed()));
    }
    soonest(tell::identities(context, &known, found.as_ref(), &registrations, now).await);
    reports::want(context, &known, found.as_ref().map(|found| &found.evaluation), true);
    next
}

fn know(context: &Context, Stored { object, declared }: Stored) -> Known {
    let admission = context.world.admission(&declared.client, &declared.object.namespace);
    Known { object, declared, admission }
}

/// Starts the watches with the first ClientIdentity that counts, and lists anew for an id that is new. Returns
/// when that is due, where it is too soon.
fn watch(
    context: &Arc<Context>,
    counted: &[Arc<Identity>],
    listed: &mut Option<Instant>,
    now: Timestamp,
) -> Option<Timestamp> {
    if counted.is_empty() {
        return None;
    }
    let ids = client_ids(counted);
    let begun = context.sharing.begun.load(Ordering::Relaxed);
    if begun && ids.is_subset(&context.sharing.ids()) {
        return None;
    }
    if let Some(left) = listed.and_then(|at: Instant| LISTS.checked_sub(at.elapsed())) {
        return Some(now + left);
    }
    *locked(&context.sharing.ids) = Arc::new(ids);
    *listed = Some(Instant::now());
    if begun {
        context.sharing.anew.send_replace(());
    } else {
        context.sharing.begun.store(true, Ordering::Relaxed);
        streams::start(context);
    }
    None
}

/// Instants at which the clock changes what is found: grants begin and end, exceptions end.
fn changes<'a>(
    identities: &'a [Arc<Identity>],
    grants: &'a [(ClientKey, Arc<Grant>)],
) -> impl Iterator<Item = Timestamp> + 'a {
    let exceptions = identities.iter().flat_map(|i| &i.exceptions).filter_map(|e| instant::parse(&e.expires_at));
    let terms = grants.iter().filter_map(|(_, grant)| grant.terms.as_ref().ok());
    exceptions.chain(terms.flat_map(|t| t.not_before.into_iter().chain([t.expires_at])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_the_watch_overtook_is_not_kept() {
        let all = Detector::default();
        let identity = |uid: &str, version: u64, client: &str| {
            let object = serde_json::json!({
                "apiVersion": "clientgrant.dev/v1alpha1",
                "kind": "ClientIdentity",
                "metadata": {"namespace": "it", "name": "helpdesk", "uid": uid, "resourceVersion": version.to_string()},
                "spec": {"providerRef": {"kind": "ClusterIdentityProvider", "name": "corp"}, "clientID": client},
            });
            serde_json::from_value::<ClientIdentity>(object).unwrap()
        };
        let kept = || all.identities().iter().map(|stored| stored.object.spec.client_id.clone()).collect::<Vec<_>>();
        all.identity(&identity("a", 9, "before"));
        all.answered(&identity("a", 10, "answer"));
        assert_eq!(kept(), ["answer"]);
        // A person edits while our write of 11 is answered: 100 is another number of digits.
        all.identity(&identity("a", 100, "edited"));
        all.answered(&identity("a", 11, "answer"));
        assert_eq!(kept(), ["edited"]);
        all.identity(&identity("b", 101, "made anew"));
        all.answered(&identity("a", 102, "answer"));
        assert_eq!(kept(), ["made anew"]);
        all.no_identity(&GrantName { namespace: "it".into(), name: "helpdesk".into() });
        all.answered(&identity("b", 103, "answer"));
        assert_eq!(kept(), [""; 0], "what is gone does not come back");
    }
}
