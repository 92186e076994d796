//! Shared credentials: what the streams and our own kinds told is evaluated a second after it changed, and said
//! on ClientIdentities here and, through the [`World`], on grants.
//!
//! Without a ClientIdentity nothing is watched, so that an ordinary cluster pays nothing. Every replica
//! evaluates, one writes.

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
use crate::sharing::judge::{self, Verdict};
use crate::sharing::picture::Picture;
use crate::sharing::registration::Registration;
use crate::sharing::told::Admission;
use crate::world::World;
use registered::Registered;

/// What comes within this time is evaluated together.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// After what failed it is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Lists for new client ids are this far apart.
const LISTS: Duration = Duration::from_secs(10);
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

    /// A ClientIdentity is this.
    pub fn identity(&self, object: &ClientIdentity) {
        let (name, object) = (parse::name(&object.metadata), Arc::new(object.clone()));
        let mut all = locked(&self.identities);
        let old = all.get(&name);
        if old.is_some_and(|old| old.object == object) {
            return;
        }
        // What says the same stays the same pointer.
        let declared = Arc::new(declared::identity(&object, Place::default()));
        let declared = old.map(|old| &old.declared).filter(|old| **old == declared).cloned().unwrap_or(declared);
        all.insert(name, Stored { object, declared });
        drop(all);
        self.wake();
    }

    /// A ClientIdentity is gone, or cannot be read.
    pub fn no_identity(&self, name: &GrantName) {
        if locked(&self.identities).remove(name).is_some() {
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
        self.registered.lacks(provider, &self.spoken(world, provider))
    }

    /// A complete list: how these clients are registered.
    pub fn registrations(&self, provider: &ProviderKey, asked: BTreeSet<Arc<str>>, all: Vec<Registration>) {
        if self.registered.set(provider, asked, all) {
            self.wake();
        }
    }

    /// A provider object is gone.
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

    /// Whether its status has this finding already.
    fn has_told(&self, finding: &Finding) -> bool {
        let told = self.object.status.iter().flat_map(|status| &status.findings);
        let subject = format!("{}/{}", finding.subject.kind, finding.subject.name);
        finding.keys.contains(&self.declared.client)
            && told.filter(|t| t.rule == finding.rule).any(|t| t.subject.as_ref().is_none_or(|s| *s == subject))
    }
}

/// Evaluates whenever something changed. Ends with the process.
pub async fn run(context: Arc<Context>) {
    context.all_read().await;
    tokio::spawn(reports::run(context.clone()));
    let mut news = context.world.leadership().news();
    let (mut next, mut listed, mut grace) = (None, None, Grace::default());
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
        next = turn(&context, &mut listed, &mut grace).await;
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

/// One evaluation. Returns when the clock alone asks for the next.
async fn turn(context: &Arc<Context>, listed: &mut Option<Instant>, grace: &mut Grace) -> Option<Timestamp> {
    let (now, begin) = (clock::now(), Instant::now());
    let known: Vec<Known> = context.sharing.identities().into_iter().map(|of| know(context, of)).collect();
    // One that only adopts says nothing that could be compared, and asks for nothing to be looked at.
    let says = |k: &&Known| k.counts() && !k.declared.is_blank();
    let counted: Vec<Arc<Identity>> = known.iter().filter(says).map(|k| k.declared.clone()).collect();
    let clients: BTreeSet<ClientKey> = counted.iter().map(|identity| identity.client.clone()).collect();
    let admitted = known.iter().filter(|k| k.counts()).map(|k| &k.declared.client);
    let registrations = context.sharing.registered.of(admitted);
    let detect = context.config.detect_sharing;
    let mut next = if detect { watch(context, &counted, listed, now) } else { None };
    let mut soonest = |at: Option<Timestamp>| next = next.into_iter().chain(at.filter(|at| *at > now)).min();

    let (verdicts, evaluation) = if clients.is_empty() {
        (Some(BTreeMap::new()), Evaluation::default())
    } else if !detect {
        (Some(clients.iter().map(|client| (client.clone(), judge::off())).collect()), Evaluation::default())
    } else {
        let grants = context.world.grants_of(&clients);
        changes(&counted, &grants).for_each(|at| soonest(Some(at)));
        let mut picture = context.sharing.picture();
        picture.declared(counted, grants, now);
        picture.registrations(registrations.registered());
        let waits = clients.iter().any(|client| waits(context, &client.provider));
        soonest(waits.then(|| now + AGAIN));
        // Before everything was read once, what was said stays.
        let found = (picture.settled() && !waits).then(|| (picture.evaluate(now), picture.gaps()));
        drop(picture);
        match found {
            None => (None, Evaluation::default()),
            Some((mut evaluation, gaps)) => {
                let told = |finding: &Finding| known.iter().any(|k| k.has_told(finding));
                soonest(grace.hold_back(&mut evaluation.findings, told, context.config.sharing_grace, now));
                (Some(judge::all(&evaluation, &clients, &gaps)), evaluation)
            }
        }
    };
    let leads = context.world.leadership().leads();
    let told = verdicts.is_some();
    if let Some(verdicts) = verdicts {
        say(context, verdicts, leads, now);
        let took = detect.then(|| begin.elapsed());
        context.metrics.shared(leads.then_some(&evaluation.findings), took);
    }
    if leads {
        soonest(tell::identities(context, &known, &evaluation, &registrations, now).await);
    }
    reports::want(context, &known, told.then_some(&evaluation), leads);
    next
}

/// Whether a provider that answers was not listed since this replica leads. One that does not is not waited for.
fn waits(context: &Context, provider: &ProviderKey) -> bool {
    let found = context.world.found(provider).is_none_or(|found| found == Reason::Connected);
    found && !context.sharing.registered.is_read(provider)
}

fn say(context: &Context, verdicts: BTreeMap<ClientKey, Verdict>, leads: bool, now: Timestamp) {
    let dues = context.world.set_shared(verdicts, now);
    if leads {
        context.queue.push_all(dues);
    }
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
