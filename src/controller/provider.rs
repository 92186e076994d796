//! Provider objects: who may connect where, with which keys, and is the IdP still as it should be.
//!
//! One task per object reads the Secrets it names, proves the issuer, compares registrations in bulk
//! every `driftCheckInterval`, and publishes the object's status. It marks clients due and acts on none.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::Resource;
use reqwest::Url;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::watch::ProviderChange;
use super::{Context, publish};
use crate::api::condition::{ConditionStatus, ConditionType, Reason, remove_condition, set_condition};
use crate::api::{
    ClusterIdentityProvider, Connection, GrantCounts, HydraSpec, IdentityProvider, IdentityProviderSpec,
    IdentityProviderStatus, SecretKeyRef, duration,
};
use crate::clock;
use crate::config::Config;
use crate::grant::backoff;
use crate::grant::desired;
use crate::grant::fault::Fault;
use crate::grant::parse;
use crate::grant::{Capabilities, ProviderKey, ProviderState, ProviderView};
use crate::idp::hydra::{self, dialect::Keys};
use crate::idp::{Idp, memory::Memory};
use crate::world::{Due, Lane, Source};

/// Keeps a provider until its grants are gone.
pub const FINALIZER: &str = "clientgrant.dev/grants";
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

/// Where cluster providers connect: a namespaced one may not go there.
type Taken = Arc<Mutex<HashMap<ProviderKey, Url>>>;

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

fn admin_url(spec: &IdentityProviderSpec) -> Option<Url> {
    match &spec.connection {
        Connection::Hydra(hydra) => Url::parse(&hydra.admin_url).ok(),
        Connection::Memory(_) => None,
    }
}

fn note_url(taken: &Taken, key: &ProviderKey, url: Option<Url>) {
    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    match url.filter(|_| key.namespace.is_empty()) {
        Some(url) => _ = taken.insert(key.clone(), url),
        None => _ = taken.remove(key),
    }
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
        if !again || read_at.is_none_or(|at| at.elapsed() >= SECRETS_AGAIN) {
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
                Err(trouble) if again => {
                    tracing::warn!(provider = %object.key, reason = %trouble.reason, "keys could not be read again");
                }
                Err(trouble) => {
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
    let found = idp.observe_clients().await?;
    let now = clock::now();
    for key in context.world.clients_of(provider) {
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

type Connected = (Arc<Idp>, [u8; 32]);

async fn connect(context: &Context, object: &Object, model: &Arc<Idp>, taken: &Taken) -> Result<Connected, Trouble> {
    let spec = match &object.spec.connection {
        Connection::Memory(_) => {
            let own = format!("memory://{}/{}", object.key.namespace, object.key.name);
            if !object.key.namespace.is_empty() && object.spec.issuer != own {
                return Err(Trouble::stalled(
                    Reason::IssuerMismatch,
                    format!("The issuer of this provider is always {own}."),
                ));
            }
            return Ok((model.clone(), [0; 32]));
        }
        Connection::Hydra(spec) => spec,
    };
    let admin = check_url(&spec.admin_url, object, &context.config)?;
    if !object.key.namespace.is_empty() {
        let allowed = |rule: &String| crate::grant::rules::Pattern::parse(rule).covers(&spec.admin_url);
        if !context.config.allow_provider_url.iter().any(allowed) {
            let why = "The operator's --allow-provider-url does not name this URL; ask the platform team.";
            return Err(Trouble::stalled(Reason::URLNotAllowed, why));
        }
        if taken.lock().unwrap_or_else(PoisonError::into_inner).values().any(|url| *url == admin) {
            let why = "A cluster provider uses this URL; a namespaced one may not.";
            return Err(Trouble::stalled(Reason::URLNotAllowed, why));
        }
    }
    // The operator reads the issuer's discovery document: it is a place like any other.
    let issuer = check_url(&object.spec.issuer, object, &context.config)?;
    let (keys, print) = keys(context, object, spec).await?;
    let limits = object.spec.limits.clone().unwrap_or_default();
    let settings = hydra::Settings {
        admin,
        issuer,
        fenced: spec.admin_fenced,
        access_token_lifetime: duration::parse(&spec.access_token_lifetime).unwrap_or(Duration::from_secs(300)),
        per_second: limits.requests_per_second.and_then(|n| u32::try_from(n).ok()).unwrap_or(200),
        concurrency: limits.concurrency.and_then(|n| usize::try_from(n).ok()).unwrap_or(8),
        keys,
    };
    let hydra = hydra::Hydra::new(settings).map_err(|fault| faulty(&fault))?;
    Ok((Arc::new(Idp::Hydra(hydra)), print))
}

async fn keys(context: &Context, object: &Object, spec: &HydraSpec) -> Result<(Keys, [u8; 32]), Trouble> {
    let hook = &spec.token_hook.api_key_secret_ref;
    let consent = &spec.consent.api_key_secret_ref;
    let hook = key_text(context, object, &secret(context, object, hook).await?, hook)?;
    let data = secret(context, object, consent).await?;
    let previous = SecretKeyRef { key: format!("{}-previous", consent.key), ..consent.clone() };
    let previous = match data.contains_key(&previous.key) {
        true => Some(key_text(context, object, &data, &previous)?),
        false => None,
    };
    let consent = key_text(context, object, &data, consent)?;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for part in [Some(&hook), Some(&consent), previous.as_ref()].into_iter().flatten() {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    // An edit of what else makes a connection makes another one.
    digest.update(format!("{spec:?} {:?}", object.spec.limits).as_bytes());
    let mut print = [0; 32];
    print.copy_from_slice(digest.finish().as_ref());
    let consent = [Some(consent), previous].into_iter().flatten().map(SecretString::from).collect();
    Ok((Keys { hook: SecretString::from(hook), consent }, print))
}

fn secret_namespace<'a>(context: &'a Context, object: &'a Object) -> &'a str {
    if object.key.namespace.is_empty() { &context.config.operator_namespace } else { &object.key.namespace }
}

fn missing(context: &Context, object: &Object, reference: &SecretKeyRef, why: &str) -> Trouble {
    let SecretKeyRef { name, key } = reference;
    let namespace = secret_namespace(context, object);
    let message = format!("Secret {name}, key {key}, in namespace {namespace}: {why}.");
    Trouble::passing(Reason::SecretNotFound, message)
}

type Data = BTreeMap<String, ByteString>;

async fn secret(context: &Context, object: &Object, reference: &SecretKeyRef) -> Result<Data, Trouble> {
    let missing = |why: &str| missing(context, object, reference, why);
    let api: Api<Secret> = Api::namespaced(context.kube.clone(), secret_namespace(context, object));
    match tokio::time::timeout(Duration::from_secs(5), api.get_opt(&reference.name)).await {
        Ok(Ok(Some(secret))) => Ok(secret.data.unwrap_or_default()),
        Ok(Ok(None)) => Err(missing("it does not exist; create it")),
        Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
            Err(missing("the operator may not read it; bind its role to the Secret"))
        }
        Ok(Err(_)) | Err(_) => Err(missing("it could not be read; it is tried again")),
    }
}

fn key_text(context: &Context, object: &Object, data: &Data, reference: &SecretKeyRef) -> Result<String, Trouble> {
    let missing = |why: &str| missing(context, object, reference, why);
    let bytes = data.get(&reference.key).ok_or_else(|| missing("the key is missing"))?;
    let text = str::from_utf8(&bytes.0).map_err(|_| missing("the key is not text"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.len() < 16 {
        return Err(missing("the key has fewer than 16 characters"));
    }
    Ok(text.to_owned())
}

/// Where a provider may point.
fn check_url(text: &str, object: &Object, config: &Config) -> Result<Url, Trouble> {
    let refuse = |why: &str| Trouble::stalled(Reason::URLNotAllowed, format!("{why}."));
    let url = Url::parse(text).map_err(|_| refuse("The URL cannot be read"))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("The URL may not carry credentials, a query or a fragment"));
    }
    if text.split('/').any(|part| matches!(part, "." | ".." | "%2e" | "%2e%2e" | "%2E%2E")) {
        return Err(refuse("The URL may not have dot segments"));
    }
    let host = url.host_str().ok_or_else(|| refuse("The URL has no host"))?;
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let loopback = address.is_some_and(|a| a.is_loopback()) || host == "localhost";
    match url.scheme() {
        "https" => {}
        "http" if !object.spec.insecure_http => return Err(refuse("Plain http needs spec.insecureHTTP: true")),
        "http" if !loopback && !config.allow_insecure_http => {
            return Err(refuse("Plain http beyond loopback needs the operator's flag --allow-insecure-http"));
        }
        "http" => {}
        _ => return Err(refuse("The URL must be https")),
    }
    if address.is_some_and(reserved) || host.eq_ignore_ascii_case("metadata.google.internal") {
        return Err(refuse("Link-local and metadata addresses are refused"));
    }
    Ok(url)
}

fn reserved(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => reserved(IpAddr::V4(v4)),
            None => {
                let segments = v6.segments();
                (segments[0] & 0xffc0) == 0xfe80
                    || segments[..2] == [0xfd00, 0x0ec2]
                    || v6.is_unspecified()
                    || v6.is_multicast()
            }
        },
    }
}

async fn publish_status(
    context: &Context,
    object: &Object,
    said: &mut Option<IdentityProviderStatus>,
    told: Result<Option<&str>, &Trouble>,
    capabilities: Option<Capabilities>,
) {
    use ConditionStatus::{False, True, Unknown};
    let now = clock::now();
    let generation = Some(object.generation);
    let mut status = said.clone().unwrap_or_default();
    status.observed_generation = generation;
    let list = &mut status.conditions;
    match told {
        Ok(version) => {
            let message = "The identity provider answers, and its registrations were compared.";
            set_condition(list, ConditionType::Ready, True, Reason::Connected, message, generation, now);
            set_condition(list, ConditionType::Reachable, True, Reason::Connected, message, generation, now);
            remove_condition(list, ConditionType::Stalled);
            let verified = match version {
                Some("v2.3.0" | "memory") => (True, Reason::Connected, "This version is the verified one."),
                _ => (False, Reason::UnverifiedVersion, "This version was not tried; v2.3.0 is the verified one."),
            };
            set_condition(list, ConditionType::Verified, verified.0, verified.1, verified.2, generation, now);
            status.version = version.map(str::to_owned);
        }
        Err(trouble) => {
            let ready = if trouble.stalled { False } else { Unknown };
            set_condition(list, ConditionType::Ready, ready, trouble.reason, &trouble.message, generation, now);
            if trouble.reason == Reason::ProviderUnavailable {
                set_condition(list, ConditionType::Reachable, False, trouble.reason, &trouble.message, generation, now);
            }
            if trouble.stalled {
                set_condition(list, ConditionType::Stalled, True, trouble.reason, &trouble.message, generation, now);
            } else {
                remove_condition(list, ConditionType::Stalled);
            }
        }
    }
    if let Some(capabilities) = capabilities {
        status.capabilities = capabilities.points.iter().map(|p| (*p).to_owned()).collect();
    }
    let (total, active) = context.world.counts(&object.key);
    status.grants = Some(GrantCounts {
        total: i64::try_from(total).unwrap_or(i64::MAX),
        active: i64::try_from(active).unwrap_or(i64::MAX),
    });
    if said.as_ref() == Some(&status) {
        return;
    }
    let written = if object.key.namespace.is_empty() {
        let api: Api<ClusterIdentityProvider> = Api::all(context.kube.clone());
        put_status(&api, object, "ClusterIdentityProvider", &status).await
    } else {
        let api: Api<IdentityProvider> = Api::namespaced(context.kube.clone(), &object.key.namespace);
        put_status(&api, object, "IdentityProvider", &status).await
    };
    match written {
        Ok(()) => *said = Some(status),
        Err(error) => tracing::warn!(provider = %object.key, %error, "the API server did not take a write"),
    }
}

async fn put_status<K>(
    api: &Api<K>,
    object: &Object,
    kind: &str,
    status: &IdentityProviderStatus,
) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    // A recreated object has another uid, which the API server refuses here.
    let body = json!({
        "apiVersion": "clientgrant.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": object.key.name, "uid": object.uid},
        "status": status,
    });
    let params = PatchParams::apply(publish::MANAGER).force();
    let patch = Patch::Apply(body);
    let work = api.patch_status(&object.key.name, &params, &patch);
    match tokio::time::timeout(Duration::from_secs(10), work).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Ok(()),
    }
}

/// Holds the object until its grants are gone: without it nobody could end what they gave. Returns true
/// if it does.
async fn hold(context: &Context, object: &Object) -> bool {
    if object.deleting {
        return true;
    }
    let put = |finalizers: &mut Vec<String>| finalizers.push(FINALIZER.to_owned());
    match finalizers(context, object, put).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(provider = %object.key, %error, "the finalizer could not be written; it is tried again");
            false
        }
    }
}

/// Lets a deleted provider go when no grant names it. Returns true if it did.
async fn release(context: &Context, object: &Object) -> bool {
    if context.world.counts(&object.key).0 > 0 {
        return false;
    }
    match finalizers(context, object, |_| {}).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(provider = %object.key, %error, "the finalizer could not be taken off; it is tried again");
            false
        }
    }
}

/// Changes the finalizers as they are now, ours taken off first; others come and go meanwhile, and a list
/// is replaced as a whole.
async fn finalizers(context: &Context, object: &Object, put: impl Fn(&mut Vec<String>)) -> Result<(), kube::Error> {
    if object.key.namespace.is_empty() {
        edit(&Api::<ClusterIdentityProvider>::all(context.kube.clone()), object, put).await
    } else {
        let api = Api::<IdentityProvider>::namespaced(context.kube.clone(), &object.key.namespace);
        edit(&api, object, put).await
    }
}

async fn edit<K>(api: &Api<K>, object: &Object, put: impl Fn(&mut Vec<String>)) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let name = &object.key.name;
    let Some(stored) = api.get_metadata_opt(name).await? else { return Ok(()) };
    if stored.metadata.uid.as_deref() != Some(object.uid.as_str()) {
        return Ok(());
    }
    let before = stored.metadata.finalizers.unwrap_or_default();
    let mut after: Vec<String> = before.iter().filter(|f| *f != FINALIZER).cloned().collect();
    put(&mut after);
    if after == before {
        return Ok(());
    }
    let metadata = json!({"resourceVersion": stored.metadata.resource_version, "finalizers": after});
    let patch = Patch::Merge(json!({"metadata": metadata}));
    match api.patch_metadata(name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}
