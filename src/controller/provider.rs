//! Provider objects: who may connect where, with which keys, and is the IdP still as it should be.
//!
//! One task per object reads the Secrets it names, proves the issuer, compares registrations in bulk
//! every `driftCheckInterval`, and publishes the object's status. It marks clients due and acts on none.

mod connect;
mod report;
mod sweep;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::core::Resource;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Context;
use super::watch::ProviderChange;
use crate::api::condition::{ConditionType, Reason, find_condition};
use crate::api::{Connection, IdentityProviderSpec, IdentityProviderStatus, duration};
use crate::clock;
use crate::correlation;
use crate::grant::backoff;
use crate::grant::fault::Fault;
use crate::grant::parse;
use crate::grant::{Capabilities, HookProof, ProviderKey, ProviderState, ProviderView, UnmanagedClients};
use crate::idp::hydra::probe::Probed;
use crate::idp::{Idp, memory::Memory};
use crate::lease::{self, Leave};
use crate::world::{Lane, Source};
use connect::{Connected, Taken, admin_url, connect, is_taken, note_url};
use report::{hold, publish_status, release};
use sweep::Sweeping;

pub use report::FINALIZER;

/// The annotation that releases removals which the sweep holds back: it names the hold.
pub const RELEASE_HOLD: &str = "clientgrant.dev/release-hold";

/// Secrets are read again this often.
const SECRETS_AGAIN: Duration = Duration::from_secs(60);
/// A proof that the token hook is called stands for this long while no probe can be made.
const PROOF_STANDS: Duration = Duration::from_secs(300);
/// While it is not proved, or in doubt, it is probed this often.
const PROBE_AGAIN: Duration = Duration::from_secs(5);
/// How many grants are in force is published at most this often.
const COUNTS_AGAIN: Duration = Duration::from_secs(10);
/// Whether a deleted provider can go is looked at this often.
const RELEASE_AGAIN: Duration = Duration::from_secs(2);
/// A first attempt that takes longer does not hold up the others.
const FIRST_ATTEMPT: Duration = Duration::from_secs(8);

/// One provider object.
#[derive(Clone, Debug)]
struct Object {
    key: ProviderKey,
    spec: IdentityProviderSpec,
    generation: i64,
    uid: String,
    created: Timestamp,
    deleted: Option<Timestamp>,
    finalizers: Vec<String>,
    /// Of the annotation [`RELEASE_HOLD`].
    release_hold: Option<String>,
    status: Option<IdentityProviderStatus>,
}

struct Task {
    object: Object,
    handle: JoinHandle<()>,
    kept: Arc<Kept>,
}

/// What outlives an edit of a provider object: its model, and the connection that was made last. In a
/// namespace that ends Secrets vanish at once, while its grants still wait for their end.
struct Kept {
    model: Arc<Idp>,
    current: Mutex<Option<Connected>>,
    /// The object's status as it is stored: another replica may have written it.
    said: Mutex<Option<IdentityProviderStatus>>,
    /// What probes of the token hook have shown.
    hook: Mutex<Probing>,
    /// Anybody may register clients there.
    open: AtomicBool,
    /// The hold that a person released, by annotation.
    release_hold: Mutex<Option<String>>,
    /// The history of the cluster went back, in the life of this process or of one before it, and not all of
    /// what is missing since has found its end.
    rewound: AtomicBool,
    sweeping: Mutex<Sweeping>,
}

impl Kept {
    fn current(&self) -> Option<Connected> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, current: Option<Connected>) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }

    fn said(&self) -> MutexGuard<'_, Option<IdentityProviderStatus>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweeping(&self) -> MutexGuard<'_, Sweeping> {
        self.sweeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release_hold(&self) -> Option<String> {
        self.release_hold.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is read of the stored object although its spec did not change.
    fn note(&self, object: &Object) {
        self.said().clone_from(&object.status);
        let held = object.status.as_ref().and_then(|s| find_condition(&s.conditions, ConditionType::SweepHeld));
        if held.is_some_and(|c| c.reason == Reason::ClusterRewound.as_str()) {
            self.rewound.store(true, Ordering::Relaxed);
        }
        self.release_hold.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&object.release_hold);
    }

    fn hook(&self) -> HookProof {
        self.hook.lock().unwrap_or_else(PoisonError::into_inner).proof
    }

    /// Takes in what a probe showed (`None`: none could be made). Returns whether another one should follow soon.
    fn probed(&self, shown: Option<HookProof>) -> bool {
        let mut hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner);
        hook.take_in(shown, Instant::now());
        !hook.proof.suffices() || hook.doubt.is_some()
    }
}

/// What probes have shown.
#[derive(Clone, Copy, Debug, Default)]
struct Probing {
    proof: HookProof,
    proved: Option<Instant>,
    /// A probe failed in a way that passes, as when calls still go to a replica that is gone: only the next
    /// one that fails alike is believed. Meanwhile nothing was issued either.
    doubt: Option<HookProof>,
}

impl Probing {
    /// `None`: no probe could be made.
    fn take_in(&mut self, shown: Option<HookProof>, now: Instant) {
        let stands = self.proved.is_some_and(|at| now.saturating_duration_since(at) < PROOF_STANDS);
        let doubt = self.doubt.take();
        match shown {
            Some(HookProof::Proved) => (self.proof, self.proved) = (HookProof::Proved, Some(now)),
            Some(shown @ (HookProof::Unreachable | HookProof::Elsewhere))
                if doubt != Some(shown) && matches!(self.proof, HookProof::Proved | HookProof::Untried) =>
            {
                self.doubt = Some(shown);
            }
            Some(shown) => (self.proof, self.proved) = (shown, None),
            None if self.proof == HookProof::Untried || (self.proof == HookProof::Proved && !stands) => {
                (self.proof, self.proved) = (HookProof::Unasked, None);
            }
            None => {}
        }
    }
}

/// Follows the changes of provider objects for ever.
pub async fn run(context: Arc<Context>, mut changes: mpsc::UnboundedReceiver<ProviderChange>) {
    let mut tasks: HashMap<ProviderKey, Task> = HashMap::new();
    let mut attempts: Vec<oneshot::Receiver<()>> = Vec::new();
    let taken = Taken::default();
    while let Some(change) = changes.recv().await {
        let object = match change {
            ProviderChange::Cluster(object) => object_of(&*object, object.spec(), object.status.clone()),
            ProviderChange::Namespaced(object) => object_of(&*object, object.spec(), object.status.clone()),
            ProviderChange::Gone(key) => {
                if let Some(task) = tasks.remove(&key) {
                    ended(task.handle).await;
                }
                note_url(&taken, &key, None);
                context.world.remove_provider(&key);
                context.sharing.no_provider(&key);
                context.queue.push_all(context.world.everything(None, Lane::Narrow));
                continue;
            }
            ProviderChange::Listed(source) => {
                let waiting = std::mem::take(&mut attempts);
                tokio::spawn(after_first_attempts(context.clone(), source, waiting));
                continue;
            }
        };
        let old = tasks.remove(&object.key);
        if let Some(task) = &old
            && task.object.uid == object.uid
            && task.object.generation == object.generation
            && task.object.spec == object.spec
            && task.object.deleted == object.deleted
        {
            // Our own status or finalizer.
            task.kept.note(&object);
            let key = object.key.clone();
            tasks.extend(old.map(|task| (key, task)));
            continue;
        }
        let mut proved = None;
        let mut kept = None;
        if let Some(task) = old {
            ended(task.handle).await;
            let same = same_connection(&task.object.spec, &object.spec);
            if task.object.uid != object.uid || !same {
                context.sharing.no_provider(&object.key);
            }
            if task.object.uid == object.uid {
                if same {
                    proved = context.world.provider(&object.key).and_then(|(_, idp)| idp);
                } else {
                    task.kept.keep(None);
                }
                kept = Some(task.kept);
            }
        }
        let kept = kept.unwrap_or_else(|| {
            let model = Arc::new(Idp::Memory(seeded(&object.spec)));
            Arc::new(Kept {
                model,
                current: Mutex::default(),
                said: Mutex::default(),
                hook: Mutex::default(),
                open: AtomicBool::new(false),
                release_hold: Mutex::default(),
                rewound: AtomicBool::new(false),
                sweeping: Mutex::default(),
            })
        });
        kept.note(&object);
        note_url(&taken, &object.key, admin_url(&object.spec));
        // What an edit allows and forbids acts at once, whether the IdP answers or not; and who speaks for
        // an issuer does not depend on who was faster.
        set(&context, &object, &kept, proved);
        let (attempted, attempt) = oneshot::channel();
        attempts.push(attempt);
        let work = supervise(context.clone(), object.clone(), kept.clone(), taken.clone(), attempted);
        tasks.insert(object.key.clone(), Task { object, handle: tokio::spawn(work), kept });
    }
}

/// Ends a task and waits until it can say nothing any more.
async fn ended(handle: JoinHandle<()>) {
    handle.abort();
    _ = handle.await;
}

/// Whether an edit leaves the connection as it was.
fn same_connection(a: &IdentityProviderSpec, b: &IdentityProviderSpec) -> bool {
    a.issuer == b.issuer && a.connection == b.connection && a.insecure_http == b.insecure_http
}

async fn after_first_attempts(context: Arc<Context>, source: Source, waiting: Vec<oneshot::Receiver<()>>) {
    let all = futures::future::join_all(waiting);
    if tokio::time::timeout(FIRST_ATTEMPT, all).await.is_err() {
        tracing::warn!("a provider does not answer; the others go ahead");
    }
    context.world.synced(source);
}

fn object_of<K: Resource>(object: &K, spec: &IdentityProviderSpec, status: Option<IdentityProviderStatus>) -> Object {
    let meta = object.meta();
    let name = parse::name(meta);
    Object {
        key: ProviderKey::new(name.namespace, name.name),
        spec: spec.clone(),
        generation: meta.generation.unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        deleted: meta.deletion_timestamp.as_ref().map(|t| t.0),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        release_hold: meta.annotations.as_ref().and_then(|a| a.get(RELEASE_HOLD).cloned()),
        status,
    }
}

fn seeded(spec: &IdentityProviderSpec) -> Memory {
    match &spec.connection {
        Connection::Memory(seed) => Memory::seeded(seed),
        Connection::Hydra(_) => Memory::default(),
    }
}

/// Why a provider cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trouble {
    reason: Reason,
    message: String,
    /// Nothing changes by waiting.
    stalled: bool,
}

impl Trouble {
    fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), stalled: true }
    }

    fn passing(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), stalled: false }
    }
}

async fn supervise(
    context: Arc<Context>,
    object: Object,
    kept: Arc<Kept>,
    taken: Taken,
    attempted: oneshot::Sender<()>,
) {
    let mut attempted = Some(attempted);
    let mut news = context.world.leadership().news();
    let mut lacking = context.sharing.lacking();
    let mut failures = 0;
    let mut current = kept.current();
    let mut usable = context.world.provider(&object.key).is_some_and(|(_, idp)| idp.is_some());
    let mut held = object.finalizers.iter().any(|f| f == FINALIZER);
    let mut read_at: Option<tokio::time::Instant> = None;
    if !object.key.namespace.is_empty() {
        // The cluster kind goes first; until all of it is known nobody knows who speaks for an issuer.
        while !context.world.has(Source::ClusterProviders) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    loop {
        if object.deleted.is_some() && context.world.complete() && release(&context, &object).await {
            return;
        }
        let again = current.is_some();
        // A cluster provider that came later has its place to itself, too.
        let displaced =
            !object.key.namespace.is_empty() && admin_url(&object.spec).is_some_and(|admin| is_taken(&taken, &admin));
        if !again || displaced || read_at.is_none_or(|at| at.elapsed() >= SECRETS_AGAIN) {
            read_at = Some(tokio::time::Instant::now());
            let connected = match context.world.issuer_taken(&object.key) {
                true => Err(taken_trouble()),
                false => connect(&context, &object, &kept.model, &taken).await,
            };
            match connected {
                Ok((_, print)) if current.as_ref().is_some_and(|(_, p)| *p == print) => {}
                Ok(next) => {
                    kept.keep(Some(next.clone()));
                    current = Some(next);
                    usable = false;
                }
                // Keys stay in memory while their Secret cannot be read: ends are still due.
                Err(trouble) if again && trouble.reason != Reason::URLNotAllowed => {
                    tracing::warn!(provider = %object.key, reason = %trouble.reason, "keys could not be read again");
                }
                Err(trouble) => {
                    kept.keep(None);
                    current = None;
                    set(&context, &object, &kept, None);
                    context.world.set_found(&object.key, trouble.reason);
                    failures += 1;
                    publish_status(&context, &object, &kept, Err(&trouble), None).await;
                    attempted.take().map(|a| a.send(()));
                    _ = tokio::time::timeout(backoff::delay(failures, &object.uid), news.changed()).await;
                    continue;
                }
            }
        }
        let Some((idp, _)) = &current else { continue };
        // A look that failed may have taken it out of use.
        usable &= context.world.provider(&object.key).is_some_and(|(_, idp)| idp.is_some());
        let looked = correlation::scope("provider", look(&context, &object, &kept, idp, usable)).await;
        context.world.set_found(&object.key, looked.as_ref().map_or_else(|t| t.reason, |_| Reason::Connected));
        if looked.is_ok() && !held {
            held = hold(&context, &object).await;
        }
        let pause = match &looked {
            Ok(_) if !usable => {
                failures = 0;
                usable = true;
                // With other keys every consent reads otherwise.
                let due = match again {
                    true => context.world.everything(Some(&object.key), Lane::Drift),
                    false => context.world.unsettled(Some(&object.key), clock::now()),
                };
                context.queue.push_all(due);
                Duration::ZERO
            }
            Ok(Looked { soon, .. }) => {
                failures = 0;
                let interval = duration::parse(&object.spec.drift_check_interval).unwrap_or(SECRETS_AGAIN);
                if *soon { interval.min(PROBE_AGAIN) } else { interval }
            }
            Err(_) => {
                failures += 1;
                backoff::delay(failures, &object.uid).min(Duration::from_secs(30))
            }
        };
        let told = looked.as_ref().map(|l| l.version.as_deref());
        let first_of_two = usable && pause.is_zero();
        if !first_of_two {
            publish_status(&context, &object, &kept, told, Some(idp.capabilities())).await;
        }
        attempted.take().map(|a| a.send(()));
        let nap = if object.deleted.is_some() { RELEASE_AGAIN } else { COUNTS_AGAIN };
        let until = tokio::time::Instant::now() + pause;
        // A replica that comes to lead looks at once.
        let mut turned = false;
        while !turned && until.saturating_duration_since(tokio::time::Instant::now()) > nap {
            tokio::select! {
                _ = news.changed() => turned = true,
                _ = lacking.changed() => {}
                () = tokio::time::sleep(nap) => {}
            }
            if object.deleted.is_some() && context.world.complete() && release(&context, &object).await {
                return;
            }
            publish_status(&context, &object, &kept, told, Some(idp.capabilities())).await;
            // A client that a ClientIdentity speaks about since.
            turned |= told.is_ok() && context.sharing.lacks_registrations(&context.world, &object.key);
        }
        if !turned {
            _ = tokio::time::timeout_at(until, news.changed()).await;
        }
    }
}

/// What one look brought.
struct Looked {
    version: Option<String>,
    /// The token hook is to be probed again soon.
    soon: bool,
}

/// One look: probe, then the bulk comparison. `usable` was said before.
async fn look(
    context: &Context,
    object: &Object,
    kept: &Kept,
    idp: &Arc<Idp>,
    usable: bool,
) -> Result<Looked, Trouble> {
    if context.world.issuer_taken(&object.key) {
        return Err(taken_trouble());
    }
    let probe = idp.probe().await.map_err(|fault| faulty(&fault))?;
    if probe.issuer.is_some_and(|i| i != object.spec.issuer) {
        set(context, object, kept, None);
        // Not quoted: a tenant could read through it what the operator reaches and the tenant does not.
        return Err(Trouble::stalled(
            Reason::IssuerMismatch,
            "The discovery document below spec.issuer names another issuer. Correct spec.issuer in a new object.",
        ));
    }
    if !usable {
        set(context, object, kept, Some(idp.clone()));
        if context.world.issuer_taken(&object.key) {
            return Err(taken_trouble());
        }
        let soon = prove(context, object, kept, idp).await;
        return Ok(Looked { version: probe.version, soon });
    }
    let soon = prove(context, object, kept, idp).await;
    // While grants are still being read every registration seems to differ from what they ask.
    context.all_read().await;
    if context.world.leadership().leads() {
        sweep::sweep(context, object, kept, idp).await.map_err(|fault| faulty(&fault))?;
    }
    Ok(Looked { version: probe.version, soon })
}

fn taken_trouble() -> Trouble {
    Trouble::stalled(
        Reason::IssuerTaken,
        "Another provider object speaks for this issuer; this one neither reads nor writes. Delete one of the two.",
    )
}

fn faulty(fault: &Fault) -> Trouble {
    match fault {
        Fault::Retry { why, .. } => Trouble::passing(Reason::ProviderUnavailable, format!("{why}; it is tried again.")),
        Fault::NeedsPerson { why } => Trouble::stalled(Reason::ProviderDenied, format!("{why}.")),
    }
}

/// Probes the token hook and the registration endpoint, and takes in what they show.
async fn prove(context: &Context, object: &Object, kept: &Kept, idp: &Arc<Idp>) -> bool {
    let before = (kept.hook(), kept.open.load(Ordering::Relaxed));
    let Idp::Hydra(hydra) = &**idp else {
        kept.probed(Some(HookProof::NotDeclared));
        set_if_new(context, object, kept, idp, before);
        return false;
    };
    let mut soon = false;
    if let Some(open) = hydra.registration_open().await {
        kept.open.store(open, Ordering::Relaxed);
    }
    if hydra.keys().hook.is_none() {
        kept.probed(Some(HookProof::NotDeclared));
    } else if let Some(permit) = context.world.permit(&object.key).filter(|p| p.leave() == Leave::Everything) {
        let leases = Api::<Lease>::namespaced(context.kube.clone(), &context.config.operator_namespace);
        let shown = match hydra.prove_hook(&permit, &context.cluster).await {
            Ok(Probed::Answered(proof)) => Some(proof),
            Ok(Probed::Elsewhere(nonce)) if lease::passed_on(&leases, &nonce).await => Some(HookProof::Proved),
            Ok(Probed::Elsewhere(_)) => Some(HookProof::Elsewhere),
            Err(fault) => {
                tracing::warn!(provider = %object.key, %fault, "the token hook could not be probed");
                None
            }
        };
        soon = kept.probed(shown);
    }
    set_if_new(context, object, kept, idp, before);
    soon
}

fn set_if_new(context: &Context, object: &Object, kept: &Kept, idp: &Arc<Idp>, before: (HookProof, bool)) {
    if before != (kept.hook(), kept.open.load(Ordering::Relaxed)) {
        tracing::info!(provider = %object.key, hook = ?kept.hook(), "the token hook was probed");
        set(context, object, kept, Some(idp.clone()));
    }
}

fn set(context: &Context, object: &Object, kept: &Kept, idp: Option<Arc<Idp>>) {
    let spec = &object.spec;
    let none = Capabilities {
        lists_consents: true,
        slash_in_client_id: true,
        points: &[],
        not_enforced: &[],
        max_residual_seconds: None,
    };
    // A namespaced provider without rules serves its own namespace, whatever it asks.
    let mut rules: Vec<_> = spec.allow.iter().filter_map(parse::rule).collect();
    if !object.key.namespace.is_empty() && spec.allow.is_empty() {
        rules.push(crate::grant::rules::Rule::default());
    }
    let seen = |(v, i): (Arc<ProviderView>, Option<Arc<Idp>>)| (v.state.clone(), v.generation, i.is_some(), v.hook);
    let before = context.world.provider(&object.key).map(seen);
    let view = ProviderView {
        key: object.key.clone(),
        issuer: Arc::from(spec.issuer.as_str()),
        generation: object.generation,
        state: ProviderState::Unusable,
        mode: spec.mode,
        take_over: spec.take_over_from.as_deref().map(Arc::from),
        rules,
        adoption: spec.adoption,
        hook: kept.hook(),
        // Where anybody may register clients, a client that nobody manages is nobody's.
        unmanaged: spec.unmanaged_clients.unwrap_or(match kept.open.load(Ordering::Relaxed) {
            true => UnmanagedClients::Deny,
            false => UnmanagedClients::Allow,
        }),
        capabilities: idp.as_ref().map_or(none, |i| i.capabilities()),
        drift_check: duration::parse(&spec.drift_check_interval).unwrap_or(Duration::from_secs(60)),
        consent_sweep: duration::parse(&spec.consent_sweep_interval).unwrap_or(Duration::from_secs(86_400)),
    };
    context.world.set_provider(view, idp, object.created, object.uid.clone());
    let after = context.world.provider(&object.key).map(seen);
    if before == after || !context.world.complete() {
        return;
    }
    let first_proof = before.as_ref().is_some_and(|b| b.3 == HookProof::Untried)
        && after.as_ref().is_some_and(|a| a.3.suffices())
        && before.map(|b| (b.0, b.1, b.2)) == after.map(|a| (a.0, a.1, a.2));
    if first_proof {
        // After a hand-over: what is settled stays so.
        context.queue.push_all(context.world.unsettled(Some(&object.key), clock::now()));
    } else {
        // Rules may have changed, and another object may now speak for the issuer.
        context.queue.push_all(context.world.everything(None, Lane::Narrow));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_probe_is_doubted_two_are_believed_and_a_token_at_once() {
        use HookProof::{NotCalled, Proved, Unasked, Unreachable, Untried};
        let now = Instant::now();
        let after = |shown: &[Option<HookProof>]| {
            let mut hook = Probing::default();
            shown.iter().for_each(|s| hook.take_in(*s, now));
            hook.proof
        };
        assert_eq!(after(&[]), Untried);
        assert_eq!(after(&[Some(Unreachable)]), Untried);
        assert_eq!(after(&[Some(Unreachable), Some(Unreachable)]), Unreachable);
        assert_eq!(after(&[Some(Proved), Some(Unreachable)]), Proved);
        assert_eq!(after(&[Some(Proved), Some(Unreachable), Some(Proved), Some(Unreachable)]), Proved);
        assert_eq!(after(&[Some(Proved), Some(Unreachable), Some(Unreachable)]), Unreachable);
        assert_eq!(after(&[Some(Proved), Some(NotCalled)]), NotCalled);
        assert_eq!(after(&[Some(NotCalled), None]), NotCalled, "no probe takes nothing back");
        assert_eq!(after(&[None]), Unasked);
        assert_eq!(after(&[Some(Proved), None]), Proved);
        assert_eq!(after(&[Some(NotCalled), Some(Proved)]), Proved);
        let mut old = Probing::default();
        old.take_in(Some(Proved), now);
        old.take_in(None, now + PROOF_STANDS);
        assert_eq!(old.proof, Unasked, "a proof does not stand for ever");
    }
}
