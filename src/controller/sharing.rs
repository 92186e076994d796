//! Shared credentials: what the streams and our own kinds told is evaluated a second after it changed, and said
//! on ClientIdentities here and, through the [`World`](crate::world::World), on grants.
//!
//! Without a ClientIdentity nothing is watched, so that an ordinary cluster pays nothing. Every replica
//! evaluates, one writes.

mod streams;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use tokio::sync::{Notify, watch as watch_channel};

use super::Context;
use crate::api::{ClientIdentity, instant};
use crate::clock;
use crate::grant::{ClientKey, Grant, GrantName, parse};
use crate::sharing::declared::{self, Identity};
use crate::sharing::finding::{Evaluation, Finding, Object, Place};
use crate::sharing::grace::Grace;
use crate::sharing::judge::{self, Verdict};
use crate::sharing::picture::Picture;
use crate::sharing::told::Admission;
use crate::sharing::{evaluate, evaluate::client_ids};

/// What comes within this time is evaluated together.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// After what failed it is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Lists for new client ids are this far apart.
const LISTS: Duration = Duration::from_secs(10);

/// What was told.
#[derive(Debug)]
pub struct Detector {
    picture: Mutex<Picture>,
    identities: Mutex<BTreeMap<GrantName, Arc<ClientIdentity>>>,
    /// What literals are compared with while they are read: of a literal nothing is kept but that it is one of
    /// these. So a new id wants new lists, which is rare, and no form of a literal's value is in memory.
    ids: Mutex<Arc<BTreeSet<String>>>,
    anew: watch_channel::Sender<()>,
    woken: Notify,
    begun: AtomicBool,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            picture: Mutex::default(),
            identities: Mutex::default(),
            ids: Mutex::default(),
            anew: watch_channel::Sender::new(()),
            woken: Notify::new(),
            begun: AtomicBool::new(false),
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
        if locked(&self.identities).insert(name, object.clone()).is_none_or(|old| old != object) {
            self.wake();
        }
    }

    /// A ClientIdentity is gone, or cannot be read.
    pub fn no_identity(&self, name: &GrantName) {
        if locked(&self.identities).remove(name).is_some() {
            self.wake();
        }
    }

    fn identities(&self) -> BTreeMap<GrantName, Arc<ClientIdentity>> {
        locked(&self.identities).clone()
    }
}

/// One ClientIdentity as it is evaluated.
struct Known {
    object: Arc<ClientIdentity>,
    declared: Identity,
    admission: Admission,
}

impl Known {
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
    let mut news = context.world.leadership().news();
    let (mut next, mut listed, mut grace) = (None, None, Grace::default());
    loop {
        let clock = next.map_or(Duration::from_secs(3600), clock::until).min(Duration::from_secs(3600));
        tokio::select! {
            () = context.sharing.woken.notified() => {}
            () = context.world.changed() => {}
            Ok(()) = news.changed() => {}
            () = tokio::time::sleep(clock) => {}
        }
        tokio::time::sleep(DEBOUNCE).await;
        next = turn(&context, &mut listed, &mut grace).await;
    }
}

/// One evaluation. Returns when the clock alone asks for the next.
async fn turn(context: &Arc<Context>, listed: &mut Option<Instant>, grace: &mut Grace) -> Option<Timestamp> {
    let (now, begin) = (clock::now(), Instant::now());
    let known: Vec<Known> = context.sharing.identities().into_values().map(|object| know(context, object)).collect();
    // One that only adopts says nothing that could be compared, and asks for nothing to be looked at.
    let counts = |k: &&Known| k.admission == Admission::Admitted && !k.declared.is_blank();
    let counted: Vec<Identity> = known.iter().filter(counts).map(|k| k.declared.clone()).collect();
    let clients: BTreeSet<ClientKey> = counted.iter().map(|identity| identity.client.clone()).collect();
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
        let grants = grants.into_iter().map(|(client, grant)| declare(client, &grant, now)).collect();
        let picture = context.sharing.picture();
        // Before everything was read once, what was said stays.
        let read = picture.settled().then(|| picture.input(counted, grants));
        drop(picture);
        match read {
            None => (None, Evaluation::default()),
            Some(input) => {
                let gaps = input.unread.clone();
                let mut evaluation = evaluate(input, now);
                let told = |finding: &Finding| known.iter().any(|k| k.has_told(finding));
                soonest(grace.hold_back(&mut evaluation.findings, told, context.config.sharing_grace, now));
                (Some(judge::all(&evaluation, &clients, &gaps)), evaluation)
            }
        }
    };
    let leads = context.world.leadership().leads();
    if let Some(verdicts) = verdicts {
        say(context, verdicts, leads, now);
        let took = detect.then(|| begin.elapsed());
        context.metrics.shared(leads.then_some(&evaluation.findings), took);
    }
    if leads {
        soonest(tell::identities(context, &known, &evaluation, now).await);
    }
    next
}

fn say(context: &Context, verdicts: BTreeMap<ClientKey, Verdict>, leads: bool, now: Timestamp) {
    let dues = context.world.set_shared(verdicts, now);
    if leads {
        context.queue.push_all(dues);
    }
}

fn know(context: &Context, object: Arc<ClientIdentity>) -> Known {
    let declared = declared::identity(&object, Place::default());
    let admission = context.world.admission(&declared.client, &declared.object.namespace);
    Known { object, declared, admission }
}

/// Starts the watches with the first ClientIdentity that counts, and lists anew for an id that is new. Returns
/// when that is due, where it is too soon.
fn watch(
    context: &Arc<Context>,
    counted: &[Identity],
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

/// A grant as it is evaluated: in force by what it says of itself, as `scan` takes it.
fn declare(client: ClientKey, grant: &Grant, now: Timestamp) -> declared::Grant {
    let terms = grant.terms.as_ref().ok();
    let within = terms.is_some_and(|t| !t.suspend && t.not_before.is_none_or(|at| at <= now) && now < t.expires_at);
    declared::Grant {
        object: Object::new("ClientGrant", &*grant.name.namespace, &*grant.name.name),
        client,
        subject: grant.subject.clone(),
        scopes: terms.map(|t| t.authority.scopes.to_vec()).unwrap_or_default(),
        active: within && !grant.deleting,
        // Only SC-206 asks, which is off here.
        team: String::new(),
        place: Place::default(),
    }
}

/// Instants at which the clock changes what is found: grants begin and end, exceptions end.
fn changes<'a>(
    identities: &'a [Identity],
    grants: &'a [(ClientKey, Arc<Grant>)],
) -> impl Iterator<Item = Timestamp> + 'a {
    let exceptions = identities.iter().flat_map(|i| &i.exceptions).filter_map(|e| instant::parse(&e.expires_at));
    let terms = grants.iter().filter_map(|(_, grant)| grant.terms.as_ref().ok());
    exceptions.chain(terms.flat_map(|t| t.not_before.into_iter().chain([t.expires_at])))
}
