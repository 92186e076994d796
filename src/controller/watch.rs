//! One watch per kind, each with its own backoff, each feeding the World.
//!
//! An object that cannot be read is set aside and never stops the others. What a list no longer names is
//! gone; it is concluded only from a complete list.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DeserializeGuard, DynamicObject, NamespaceResourceScope};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc;

use super::publish::Written;
use super::{Context, pending, publish, record};
use crate::api::condition::{ConditionStatus, ConditionType, Reason, set_condition};
use crate::api::{
    ClientGrant, ClientIdentity, ClientQuarantine, ClusterIdentityProvider, IdentityProvider, PendingRevocation,
};
use crate::clock;
use crate::grant::{ClientKey, GrantName, ProviderKey, parse};
use crate::sharing::unchanged;
use crate::world::{Due, Identity, Lane, Quarantine, Source};

/// The API server ends a watch after this long; the client's read timeout is a little longer, so that a
/// connection that died silently is found.
pub const WATCH_TIMEOUT: u32 = 55;

/// That an object cannot be read is said so often where that fails, and each time after so much more.
const UNREADABLE_TRIES: u32 = 5;
const UNREADABLE_AGAIN: Duration = Duration::from_secs(5);
/// A status that somebody else wrote is looked at after this.
const FORGED_AGAIN: Duration = Duration::from_secs(1);

/// Namespaces that cannot be watched are read this often.
const NAMESPACES_AGAIN: Duration = Duration::from_secs(10);

/// What a watch reports.
enum Seen<K> {
    /// Created or changed.
    Is(Box<K>),
    /// Stored, but it cannot be read.
    Unreadable { meta: Box<ObjectMeta>, why: String },
    /// Gone. `told`: its deletion was; else a complete list does not name it any more.
    Gone { name: GrantName, told: bool },
    /// A complete list begins: what follows until `Listed` is all there is.
    Listed,
}

/// Starts every watch. They end with the process.
pub fn start(context: &Arc<Context>, providers: &mpsc::UnboundedSender<ProviderChange>) {
    let client = &context.kube;
    let all = watcher::Config::default;
    everywhere(context, Source::Grants, grants);
    everywhere(context, Source::Identities, identities);
    let send = providers.clone();
    everywhere(context, Source::Providers, move |_: &Arc<Context>, seen: Seen<IdentityProvider>| {
        _ = send.send(provider_change(seen, Source::Providers, ProviderChange::Namespaced));
    });
    let ours = Api::namespaced(client.clone(), &context.config.operator_namespace);
    tokio::spawn(run(ours, all().labels(record::LABEL), context.clone(), Source::Record, records));
    let ours = Api::namespaced(client.clone(), &context.config.operator_namespace);
    tokio::spawn(run(ours, all(), context.clone(), Source::Pending, revocations));
    let send = providers.clone();
    let cluster = move |_: &Arc<Context>, seen: Seen<ClusterIdentityProvider>| {
        _ = send.send(provider_change(seen, Source::ClusterProviders, ProviderChange::Cluster));
    };
    if context.config.watch_namespaces.is_empty() {
        tokio::spawn(run(Api::all(client.clone()), all(), context.clone(), Source::Namespaces, namespaces));
        tokio::spawn(run(Api::all(client.clone()), all(), context.clone(), Source::Quarantines, quarantines));
        tokio::spawn(run(Api::all(client.clone()), all(), context.clone(), Source::ClusterProviders, cluster));
    } else {
        // A right in a namespace reaches none of what belongs to no namespace.
        quarantines(context, Seen::Listed);
        cluster(context, Seen::Listed);
        tokio::spawn(look_at_namespaces(context.clone()));
    }
}

/// Watches a kind in the whole cluster, or in each of the namespaces that there are for this process: then it
/// has been listed when it was in all of them.
fn everywhere<K, F>(context: &Arc<Context>, source: Source, handle: F)
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
    F: FnMut(&Arc<Context>, Seen<K>) + Clone + Send + 'static,
{
    let (client, config) = (&context.kube, watcher::Config::default);
    let watched = &context.config.watch_namespaces;
    if watched.is_empty() {
        tokio::spawn(run(Api::all(client.clone()), config(), context.clone(), source, handle));
        return;
    }
    let left = Arc::new(AtomicUsize::new(watched.len()));
    for namespace in watched {
        let (left, mut handle, mut first) = (left.clone(), handle.clone(), true);
        let handle = move |context: &Arc<Context>, seen: Seen<K>| {
            if matches!(seen, Seen::Listed) {
                left.fetch_sub(usize::from(std::mem::take(&mut first)), Ordering::Relaxed);
                if left.load(Ordering::Relaxed) > 0 {
                    return;
                }
            }
            handle(context, seen);
        };
        tokio::spawn(run(Api::namespaced(client.clone(), namespace), config(), context.clone(), source, handle));
    }
}

/// A right in a namespace lets its object be read, but not watched: labels, and that it ends, are seen a little
/// later.
async fn look_at_namespaces(context: Arc<Context>) {
    let api: Api<Namespace> = Api::all(context.kube.clone());
    loop {
        let mut all = true;
        for name in &context.config.watch_namespaces {
            match tokio::time::timeout(NAMESPACES_AGAIN, api.get_opt(name)).await {
                Ok(Ok(Some(object))) => namespaces(&context, Seen::Is(Box::new(object))),
                Ok(Ok(None)) => {
                    let name = GrantName { namespace: String::new(), name: name.clone() };
                    namespaces(&context, Seen::Gone { name, told: true });
                }
                Ok(Err(error)) => {
                    all = false;
                    tracing::warn!(namespace = name, %error, "a namespace cannot be read");
                }
                Err(_) => all = false,
            }
        }
        if all {
            namespaces(&context, Seen::Listed);
        }
        tokio::time::sleep(NAMESPACES_AGAIN).await;
    }
}

/// A change of a provider object, for the provider controller.
#[derive(Debug)]
pub enum ProviderChange {
    /// A cluster provider is this.
    Cluster(Box<ClusterIdentityProvider>),
    /// A namespaced provider is this.
    Namespaced(Box<IdentityProvider>),
    /// It is gone, or cannot be read.
    Gone(ProviderKey),
    /// All of one kind have been told.
    Listed(Source),
}

fn provider_change<K>(seen: Seen<K>, source: Source, is: fn(Box<K>) -> ProviderChange) -> ProviderChange {
    match seen {
        Seen::Is(object) => is(object),
        Seen::Unreadable { meta, .. } => ProviderChange::Gone(provider_key(parse::name(&meta))),
        Seen::Gone { name, .. } => ProviderChange::Gone(provider_key(name)),
        Seen::Listed => ProviderChange::Listed(source),
    }
}

fn provider_key(name: GrantName) -> ProviderKey {
    ProviderKey::new(name.namespace, name.name)
}

async fn run<K, F>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    context: Arc<Context>,
    source: Source,
    mut handle: F,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
    F: FnMut(&Arc<Context>, Seen<K>) + Send,
{
    // In pages, from etcd: what is concluded from a list must be the newest there is.
    let config = config.timeout(WATCH_TIMEOUT).page_size(500);
    let mut anew = context.anew.subscribe();
    let watched = || watcher(api.clone(), config.clone()).default_backoff().boxed();
    let mut stream = watched();
    let mut rewound = false;
    let mut known: BTreeSet<GrantName> = BTreeSet::new();
    let mut listing: Vec<Seen<K>> = Vec::new();
    loop {
        let event = tokio::select! {
            biased;
            Ok(()) = anew.changed() => {
                (stream, rewound) = (watched(), true);
                continue;
            }
            event = stream.next() => event,
        };
        let Some(event) = event else { return };
        match event {
            Ok(Event::Init) => listing.clear(),
            Ok(Event::InitApply(object)) => listing.push(read(object)),
            Ok(Event::InitDone) => {
                let listed = std::mem::take(&mut listing);
                let names: BTreeSet<GrantName> = listed.iter().filter_map(name_of).collect();
                for gone in known.difference(&names) {
                    handle(&context, Seen::Gone { name: gone.clone(), told: false });
                }
                listed.into_iter().for_each(|seen| handle(&context, seen));
                known = names;
                handle(&context, Seen::Listed);
                if std::mem::take(&mut rewound) && source == Source::Grants {
                    // What status says is of another history, and so is what was done at the IdP.
                    context.queue.push_all(context.world.everything(None, Lane::Drift));
                }
            }
            Ok(Event::Apply(object)) => {
                let seen = read(object);
                known.extend(name_of(&seen));
                handle(&context, seen);
            }
            Ok(Event::Delete(object)) => {
                let name = parse::name(object.meta());
                known.remove(&name);
                handle(&context, Seen::Gone { name, told: true });
            }
            Err(error) => tracing::warn!(?source, %error, "a watch failed and is tried again"),
        }
    }
}

fn name_of<K: Resource>(seen: &Seen<K>) -> Option<GrantName> {
    match seen {
        Seen::Is(object) => Some(parse::name(object.meta())),
        Seen::Unreadable { meta, .. } => Some(parse::name(meta)),
        Seen::Gone { .. } | Seen::Listed => None,
    }
}

fn read<K: Resource>(object: DeserializeGuard<K>) -> Seen<K> {
    match object.0 {
        Ok(mut object) => {
            // Neither is evidence of anything, and both are larger than the rest.
            object.meta_mut().managed_fields = None;
            if let Some(annotations) = &mut object.meta_mut().annotations {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
            Seen::Is(Box::new(object))
        }
        Err(invalid) => Seen::Unreadable { meta: Box::new(invalid.metadata), why: invalid.error },
    }
}

fn grants(context: &Arc<Context>, seen: Seen<ClientGrant>) {
    match seen {
        Seen::Is(object) => {
            let now = clock::now();
            if let Some(due) = context.world.upsert_grant(&object, now) {
                if !due.changed {
                    // A forged status: whoever writes it all the time costs one look a second, and no more.
                    let soon = now + FORGED_AGAIN;
                    due.grants.iter().for_each(|uid| context.queue.at(due.clone(), uid.clone(), soon));
                    return;
                }
                schedule(context, &object);
                // Of the first list only what was changed while nobody looked: what else needs a look is
                // found when all has been read.
                if context.world.has(Source::Grants) || !is_spoken_of(&object) {
                    if object.spec.subject.is_none() {
                        context.queue.push_all(context.world.namesakes(&due.key));
                    }
                    context.queue.push(due);
                }
            }
        }
        Seen::Gone { name, told } => {
            // Only of a deletion that was told: what a list does not name may be missing from a restored copy.
            if let Some(left) = context.world.left_by(&name, clock::now()).filter(|_| told) {
                tracing::warn!(grant = %name, "a grant was deleted and somebody else took its finalizer off; what it gave is ended");
                tokio::spawn(pending::keep(context.clone(), left));
            }
            let due = context.world.remove_grant(&name);
            context.queue.push_all(due.iter().flat_map(|due| context.world.namesakes(&due.key)));
            context.queue.push_all(due);
        }
        Seen::Unreadable { meta, why } => {
            let (due, news) = context.world.unreadable(&meta, &why);
            context.queue.push_all(due);
            if news {
                tracing::error!(grant = %parse::name(&meta), "a stored ClientGrant cannot be read; it gives nothing");
                tokio::spawn(say_unreadable(context.clone(), meta));
            }
        }
        Seen::Listed => context.world.synced(Source::Grants),
    }
}

/// Whether the status of a grant speaks of the object as it is.
fn is_spoken_of(object: &ClientGrant) -> bool {
    let meta = &object.metadata;
    let observed = object.status.as_ref().and_then(|status| status.observed_generation);
    meta.deletion_timestamp.is_none() && meta.generation.is_some() && observed == meta.generation
}

/// A look at the next instant at which the clock alone changes how the grant stands.
fn schedule(context: &Context, object: &ClientGrant) {
    let (Some(grant), key) = (parse::grant(object), parse::client_key(object)) else { return };
    let now = clock::now();
    let Ok(terms) = &grant.terms else { return };
    let next = [terms.not_before, Some(terms.expires_at)].into_iter().flatten().filter(|t| *t > now).min();
    if let Some(at) = next {
        let due = Due::look(key, BTreeSet::new(), Lane::End).of(&grant.name.namespace);
        context.queue.at(due, grant.uid, at);
    }
}

/// Tells the person who can correct the object, as soon as this replica leads. A merge patch, because the API server
/// applies nothing to an object that does not fit its schema (status 500). Where a rule of the schema cannot even be
/// evaluated on it, no patch is taken either: then only the log says it.
async fn say_unreadable(context: Arc<Context>, meta: Box<ObjectMeta>) {
    let mut news = context.world.leadership().news();
    let mut failures = 0;
    while failures < UNREADABLE_TRIES && context.world.is_unreadable(&meta) {
        if context.world.leadership().leads() {
            match tell_unreadable(&context, &meta).await {
                Written::Stored | Written::Gone => return,
                Written::Changed | Written::Invalid | Written::Failed => failures += 1,
            }
        }
        _ = tokio::time::timeout(UNREADABLE_AGAIN * (failures + 1), news.changed()).await;
    }
}

async fn tell_unreadable(context: &Context, meta: &ObjectMeta) -> Written {
    let name = parse::name(meta);
    let mut conditions = Vec::new();
    for (type_, status) in [
        (ConditionType::Ready, ConditionStatus::False),
        (ConditionType::Active, ConditionStatus::False),
        (ConditionType::Stalled, ConditionStatus::True),
    ] {
        let message = "The stored object cannot be read by the operator. Apply a corrected one.";
        set_condition(&mut conditions, type_, status, Reason::InvalidSpec, message, meta.generation, clock::now());
    }
    let status = json!({"observedGeneration": meta.generation, "effective": null, "conditions": conditions});
    let api = Api::namespaced_with(context.kube.clone(), &name.namespace, &ApiResource::erase::<ClientGrant>(&()));
    let params = PatchParams { field_manager: Some(publish::MANAGER.into()), ..PatchParams::default() };
    let work = async {
        let stored: DynamicObject = api.get(&name.name).await?;
        let said = &stored.data["status"];
        let mut ready = said["conditions"].as_array().into_iter().flatten().filter(|of| of["type"] == "Ready");
        let same = ready.any(|of| of["reason"] == Reason::InvalidSpec.as_str());
        // Whoever led before has said it; or what is there now is another one.
        let told = same && said["observedGeneration"].as_i64() == meta.generation;
        if told || (&stored.metadata.uid, stored.metadata.generation) != (&meta.uid, meta.generation) {
            return Ok(stored);
        }
        let body = json!({"metadata": {"resourceVersion": stored.metadata.resource_version}, "status": status});
        api.patch_status(&name.name, &params, &Patch::Merge(body)).await
    };
    publish::sent(context, &name, work, |_| {}).await
}

fn namespaces(context: &Arc<Context>, seen: Seen<Namespace>) {
    let changed = match seen {
        Seen::Is(object) => {
            let terminating = object.metadata.deletion_timestamp.is_some();
            context.world.set_namespace(&object.name_any(), Some((object.labels().clone(), terminating)))
        }
        Seen::Unreadable { meta, .. } => context.world.set_namespace(&parse::name(&meta).name, None),
        Seen::Gone { name, .. } => context.world.set_namespace(&name.name, None),
        Seen::Listed => {
            context.world.synced(Source::Namespaces);
            false
        }
    };
    if changed && context.world.complete() {
        context.queue.push_all(context.world.unsettled(None, clock::now()));
    }
}

fn identities(context: &Arc<Context>, seen: Seen<ClientIdentity>) {
    let dues = match seen {
        Seen::Is(object) => {
            context.sharing.identity(&object);
            let name = parse::name(&object.metadata);
            let provider = parse::provider_key(&object.spec.provider_ref, &name.namespace);
            let key = ClientKey { provider, client: Arc::from(object.spec.client_id.as_str()) };
            let identity = Identity {
                namespace: name.namespace.clone(),
                key,
                adopt: object.spec.adopt,
                suspends: unchanged::suspends(&object),
                born: unchanged::pinned_birth(&object),
            };
            context.world.set_identity(name, Some(identity))
        }
        Seen::Unreadable { meta, .. } => {
            let name = parse::name(&meta);
            context.sharing.odd_identity(&name);
            context.world.unreadable_identity(name)
        }
        Seen::Gone { name, .. } => {
            context.sharing.no_identity(&name);
            context.world.set_identity(name, None)
        }
        Seen::Listed => {
            context.world.synced(Source::Identities);
            return;
        }
    };
    context.queue.push_all(dues);
}

fn quarantines(context: &Arc<Context>, seen: Seen<ClientQuarantine>) {
    let dues = match seen {
        Seen::Is(object) => {
            let spec = &object.spec;
            let quarantine = Quarantine { issuer: spec.issuer.clone(), client: spec.client_id.clone() };
            let dues = context.world.set_quarantine(&object.name_any(), Some(quarantine));
            context.brakes.set(*object);
            dues
        }
        // A brake that cannot be read stays pulled.
        Seen::Unreadable { .. } => return,
        Seen::Gone { name, .. } => {
            context.brakes.remove(&name.name);
            context.world.set_quarantine(&name.name, None)
        }
        Seen::Listed => {
            context.world.synced(Source::Quarantines);
            return;
        }
    };
    context.queue.push_all(dues);
}

fn revocations(context: &Arc<Context>, seen: Seen<PendingRevocation>) {
    let due = match seen {
        Seen::Is(object) => context.world.set_pending(&object),
        Seen::Gone { name, .. } => context.world.remove_pending(&name.name),
        // What is known of it stays.
        Seen::Unreadable { .. } => return,
        Seen::Listed => {
            context.world.synced(Source::Pending);
            return;
        }
    };
    context.queue.push_all(due);
}

fn records(context: &Arc<Context>, seen: Seen<ConfigMap>) {
    match seen {
        Seen::Is(object) => {
            let version = object.metadata.resource_version.as_deref();
            record::seen(context, &object.name_any(), version, object.data.as_ref().unwrap_or(&BTreeMap::new()));
        }
        Seen::Gone { name, .. } => record::seen(context, &name.name, None, &BTreeMap::new()),
        // Whatever it says now, what is known of it stays.
        Seen::Unreadable { .. } => {}
        Seen::Listed => context.world.synced(Source::Record),
    }
}
