//! Provider objects: who may connect where, with which keys, and is the IdP still as it should be.
//!
//! One task per object reads the Secrets it names, proves the issuer, compares registrations in bulk
//! every `driftCheckInterval`, and publishes the object's status. It marks clients due and acts on none.

mod connect;
mod report;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::core::Resource;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Context;
use super::watch::ProviderChange;
use crate::api::condition::Reason;
use crate::api::{Connection, IdentityProviderSpec, IdentityProviderStatus, duration};
use crate::clock;
use crate::grant::backoff;
use crate::grant::desired;
use crate::grant::fault::Fault;
use crate::grant::parse;
use crate::grant::{Capabilities, ProviderKey, ProviderState, ProviderView};
use crate::idp::{Idp, memory::Memory};
use crate::world::{Due, Lane, Source};
use connect::{Connected, Taken, admin_url, connect, is_taken, note_url};
use report::{hold, publish_status, release};

pub use report::FINALIZER;

/// Secrets are read again this often.
const SECRETS_AGAIN: Duration = Duration::from_secs(60);
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
    deleting: bool,
    finalizers: Vec<String>,
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
}

impl Kept {
    fn current(&self) -> Option<Connected> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, current: Option<Connected>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
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
            && task.object.deleting == object.deleting
        {
            // Our own status or finalizer.
            let key = object.key.clone();
            tasks.extend(old.map(|task| (key, task)));
            continue;
        }
        let mut proved = None;
        let mut kept = None;
        if let Some(task) = old {
            ended(task.handle).await;
            if task.object.uid == object.uid {
                if same_connection(&task.object.spec, &object.spec) {
                    proved = context.world.provider(&object.key).and_then(|(_, idp)| idp);
                } else {
                    task.kept.keep(None);
                }
                kept = Some(task.kept);
            }
        }
        let kept = kept.unwrap_or_else(|| {
            let model = Arc::new(Idp::Memory(seeded(&object.spec)));
            Arc::new(Kept { model, current: Mutex::default() })
        });
        note_url(&taken, &object.key, admin_url(&object.spec));
        // What an edit allows and forbids acts at once, whether the IdP answers or not; and who speaks for
        // an issuer does not depend on who was faster.
        set(&context, &object, proved);
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
        key: ProviderKey { namespace: name.namespace, name: name.name },
        spec: spec.clone(),
        generation: meta.generation.unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        deleting: meta.deletion_timestamp.is_some(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
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
    let mut said = object.status.clone();
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
        if object.deleting && context.world.complete() && release(&context, &object).await {
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
                    set(&context, &object, None);
                    failures += 1;
                    publish_status(&context, &object, &mut said, Err(&trouble), None).await;
                    attempted.take().map(|a| a.send(()));
                    tokio::time::sleep(backoff::delay(failures, &object.uid)).await;
                    continue;
                }
            }
        }
        let Some((idp, _)) = &current else { continue };
        let looked = look(&context, &object, idp, usable).await;
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
            Ok(_) => {
                failures = 0;
                duration::parse(&object.spec.drift_check_interval).unwrap_or(SECRETS_AGAIN)
            }
            Err(_) => {
                failures += 1;
                backoff::delay(failures, &object.uid).min(Duration::from_secs(30))
            }
        };
        let told = looked.as_ref().map(Option::as_deref);
        let first_of_two = usable && pause.is_zero();
        if !first_of_two {
            publish_status(&context, &object, &mut said, told, Some(idp.capabilities())).await;
        }
        attempted.take().map(|a| a.send(()));
        let nap = if object.deleting { RELEASE_AGAIN } else { COUNTS_AGAIN };
        let until = tokio::time::Instant::now() + pause;
        while until.saturating_duration_since(tokio::time::Instant::now()) > nap {
            tokio::time::sleep(nap).await;
            if object.deleting && context.world.complete() && release(&context, &object).await {
                return;
            }
            publish_status(&context, &object, &mut said, told, Some(idp.capabilities())).await;
        }
        tokio::time::sleep_until(until).await;
    }
}

/// One look: probe, then the bulk comparison. `usable` was said before.
async fn look(context: &Context, object: &Object, idp: &Arc<Idp>, usable: bool) -> Result<Option<String>, Trouble> {
    if context.world.issuer_taken(&object.key) {
        return Err(taken_trouble());
    }
    let probe = idp.probe().await.map_err(|fault| faulty(&fault))?;
    if probe.issuer.is_some_and(|i| i != object.spec.issuer) {
        set(context, object, None);
        // Not quoted: a tenant could read through it what the operator reaches and the tenant does not.
        return Err(Trouble::stalled(
            Reason::IssuerMismatch,
            "The discovery document below spec.issuer names another issuer. Correct spec.issuer in a new object.",
        ));
    }
    if !usable {
        set(context, object, Some(idp.clone()));
        if context.world.issuer_taken(&object.key) {
            return Err(taken_trouble());
        }
        return Ok(probe.version);
    }
    drift(context, &object.key, idp).await.map_err(|fault| faulty(&fault))?;
    Ok(probe.version)
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

fn set(context: &Context, object: &Object, idp: Option<Arc<Idp>>) {
    let spec = &object.spec;
    let none = Capabilities {
        lists_consents: true,
        slash_in_client_id: true,
        points: &[],
        not_enforced: &[],
        max_residual_seconds: 0,
    };
    // A namespaced provider without rules serves its own namespace, whatever it asks.
    let mut rules: Vec<_> = spec.allow.iter().filter_map(parse::rule).collect();
    if !object.key.namespace.is_empty() && spec.allow.is_empty() {
        rules.push(crate::grant::rules::Rule::default());
    }
    let before = context.world.provider(&object.key).map(|(v, i)| (v.state.clone(), v.generation, i.is_some()));
    let view = ProviderView {
        key: object.key.clone(),
        issuer: Arc::from(spec.issuer.as_str()),
        generation: object.generation,
        state: ProviderState::Unusable,
        rules,
        adoption: spec.adoption,
        unmanaged: spec.unmanaged_clients.unwrap_or_default(),
        capabilities: idp.as_ref().map_or(none, |i| i.capabilities()),
        drift_check: duration::parse(&spec.drift_check_interval).unwrap_or(Duration::from_secs(60)),
        consent_sweep: duration::parse(&spec.consent_sweep_interval).unwrap_or(Duration::from_secs(86_400)),
    };
    context.world.set_provider(view, idp, object.created, object.uid.clone());
    let after = context.world.provider(&object.key).map(|(v, i)| (v.state.clone(), v.generation, i.is_some()));
    if before != after && context.world.complete() {
        // Rules may have changed, and another object may now speak for the issuer.
        context.queue.push_all(context.world.everything(None, Lane::Narrow));
    }
}

/// Registrations in bulk, from a complete list; what differs is looked at singly before anything is done.
async fn drift(context: &Context, provider: &ProviderKey, idp: &Idp) -> Result<(), Fault> {
    let known = context.world.clients_of(provider);
    let named: HashSet<&str> = known.iter().map(|key| &*key.client).collect();
    let found = idp.observe_clients(&|id| named.contains(id)).await?;
    let now = clock::now();
    for key in known {
        let view = context.world.view(&key);
        if view.managed.is_none() {
            continue;
        }
        let ceiling = desired::ceiling(&view, now);
        let lane = match found.get(&*key.client) {
            Some(client) if client.is_exactly(&ceiling, &context.cluster) => continue,
            Some(client) if client.exceeds(&ceiling) => Lane::Narrow,
            Some(_) => Lane::Drift,
            None if ceiling.scopes.is_empty() => continue,
            None => Lane::Drift,
        };
        tracing::info!(client = %key.client, %provider, "the registration is not as its grants ask");
        context.queue.push(Due::look(key, [].into(), lane));
    }
    Ok(())
}
