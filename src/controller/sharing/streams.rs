//! Watches of ServiceAccounts, workloads, what names Secrets beside them and, where they are asked for, ConfigMaps:
//! each object becomes facts and is dropped.
//!
//! What one kind refuses is remembered as a gap and holds up none of the others. What is known is never
//! cleared before a list: what the list does not name goes when it is complete.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::core::{DeserializeGuard, DynamicResourceScope};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::controller::Context;
use crate::controller::watch::WATCH_TIMEOUT;
use crate::discovery;
use crate::grant::{GrantName, parse};
use crate::sharing::configmap::{self, ConfigMap};
use crate::sharing::facts::{self, KINDS, Kind, resource_name};
use crate::sharing::finding::{Object, Place};
use crate::sharing::picture::{Part, Read};
use crate::sharing::rbac;

/// Objects in one answer: those of one are in memory at once, as they are.
const PAGE: u32 = 100;
/// A kind that the cluster does not have is looked for again after this.
const SERVED_AGAIN: Duration = Duration::from_secs(300);
/// The same where the API server did not say.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// A kind that fails for this long counts as one that cannot be read.
const PATIENCE: Duration = Duration::from_secs(30);
/// Failures of one row are not farther apart than this: than the longest wait between two tries and an answer that
/// does not come.
const ROW: Duration = Duration::from_secs(90);

/// What of a status is decoded.
#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: Value,
}

/// Of an object what facts are made of; the rest is not decoded. Loose, so that no odd workload is unreadable.
#[derive(Clone, Debug, Deserialize)]
struct Slim {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    /// Of a Pod.
    #[serde(default)]
    status: Status,
    /// Of a KongPlugin, which has its fields at the top.
    #[serde(default)]
    config: Value,
    #[serde(default, rename = "configFrom")]
    config_from: Value,
    #[serde(default, rename = "configPatches")]
    config_patches: Value,
    /// Of a ServiceAccount.
    #[serde(default, rename = "automountServiceAccountToken")]
    automount: Option<Value>,
    /// Of roles and bindings.
    #[serde(default)]
    rules: Value,
    #[serde(default, rename = "aggregationRule")]
    aggregation: Value,
    #[serde(default, rename = "roleRef")]
    role: Value,
    #[serde(default)]
    subjects: Value,
    /// Of a ConfigMap; what is binary is not decoded.
    #[serde(default)]
    data: Value,
}

impl Resource for Slim {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// One kind in one namespace, or in all.
struct Stream {
    context: Arc<Context>,
    resource: ApiResource,
    part: Part,
    what: What,
}

/// Failures in a row. What comes back without anything to tell is not noticed, so one long after the other begins
/// a new row.
#[derive(Debug, Default)]
struct Failing(Option<(Instant, Instant)>);

impl Failing {
    /// Another one. Returns for how long there have been failures alone.
    fn again(&mut self, now: Instant) -> Duration {
        let first = match self.0 {
            Some((first, last)) if now.saturating_duration_since(last) < ROW => first,
            _ => now,
        };
        self.0 = Some((first, now));
        now.saturating_duration_since(first)
    }
}

/// What objects of a kind tell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Account,
    Workload,
    /// A workload that only some clusters have.
    Optional,
    Rbac,
    ConfigMap,
}

/// Starts every watch; they end with the process. Until each was listed, nothing is concluded.
pub(super) fn start(context: &Arc<Context>) {
    let mut namespaces = context.config.watch_namespaces.clone();
    if namespaces.is_empty() {
        namespaces.push(String::new());
    }
    context.sharing.picture().roles(context.config.sharing_role.iter().cloned().collect());
    let accounts = ApiResource::erase::<k8s_openapi::api::core::v1::ServiceAccount>(&());
    // Kubernetes' own groups have no dot, but for those of a longer name.
    let workload = |of: &Kind| (of.resource(), if of.group.contains('.') { What::Optional } else { What::Workload });
    let rbac = rbac::KINDS.iter().filter(|_| context.config.sharing_rbac);
    let rbac = rbac.map(|(kind, plural)| (facts::resource(rbac::GROUP, "v1", kind, plural), What::Rbac));
    let configmaps = context.config.sharing_configmaps.then(|| (configmap::resource(), What::ConfigMap));
    let all =
        std::iter::once((accounts, What::Account)).chain(KINDS.iter().map(workload)).chain(rbac).chain(configmaps);
    for (resource, what) in all {
        let name = resource_name(&resource);
        let of_cluster = what == What::Rbac && resource.kind.starts_with("Cluster");
        for namespace in &namespaces {
            let part = Part { resource: name.clone(), namespace: namespace.clone() };
            let mut picture = context.sharing.picture();
            if of_cluster && !namespace.is_empty() {
                picture.part(&part, Read::Refused("it is of the whole cluster, of which the operator sees a part"));
                continue;
            }
            picture.part(&part, Read::Waiting);
            drop(picture);
            let stream = Stream { context: context.clone(), resource: resource.clone(), part, what };
            tokio::spawn(stream.run());
        }
    }
}

impl Stream {
    async fn run(self) {
        let (mut known, begun) = (BTreeSet::new(), Instant::now());
        loop {
            if self.what == What::Optional {
                // Whoever may not list a kind is refused also where the cluster does not have it.
                match discovery::resources(&self.context.kube, &self.resource.api_version).await {
                    Ok(all) if all.contains(&self.resource.plural) => {}
                    Ok(_) => {
                        // The kind is gone, and its objects with it.
                        for name in std::mem::take(&mut known) {
                            self.gone(&name);
                        }
                        self.is(Read::NotServed);
                        tokio::time::sleep(SERVED_AGAIN).await;
                        continue;
                    }
                    Err(_) => {
                        if self.waits() && begun.elapsed() > PATIENCE {
                            self.is(Read::Refused("the API server does not say whether it has it"));
                        }
                        tokio::time::sleep(ASK_AGAIN).await;
                        continue;
                    }
                }
            }
            self.follow(&mut known).await;
        }
    }

    /// Watches until the cluster does not have the kind any more.
    async fn follow(&self, known: &mut BTreeSet<GrantName>) {
        let api: Api<DeserializeGuard<Slim>> = match self.part.namespace.as_str() {
            "" => Api::all_with(self.context.kube.clone(), &self.resource),
            namespace => Api::namespaced_with(self.context.kube.clone(), namespace, &self.resource),
        };
        let page = if self.what == What::ConfigMap { configmap::PAGE } else { PAGE };
        let config = watcher::Config::default().timeout(WATCH_TIMEOUT).page_size(page);
        let mut anew = self.context.sharing.anew();
        let mut rewound = self.context.anew.subscribe();
        let watched = || watcher(api.clone(), config.clone()).default_backoff().boxed();
        let (mut stream, mut listed, mut failing) = (watched(), BTreeSet::new(), Failing::default());
        loop {
            let event = tokio::select! {
                biased;
                Ok(()) = anew.changed() => { stream = watched(); continue }
                Ok(()) = rewound.changed() => { stream = watched(); continue }
                event = stream.next() => event,
            };
            if matches!(event, Some(Ok(_))) {
                failing = Failing::default();
            }
            match event {
                None => return,
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(object))) => _ = listed.insert(self.take(object)),
                Some(Ok(Event::InitDone)) => {
                    let unseen: Vec<GrantName> = known.difference(&listed).cloned().collect();
                    unseen.iter().for_each(|name| self.gone(name));
                    *known = std::mem::take(&mut listed);
                    self.is(Read::Complete);
                }
                Some(Ok(Event::Apply(object))) => _ = known.insert(self.take(object)),
                Some(Ok(Event::Delete(object))) => {
                    let name = parse::name(object.meta());
                    known.remove(&name);
                    self.gone(&name);
                }
                Some(Err(error)) => match code(&error) {
                    Some(403) => {
                        self.is(Read::Refused("the operator may not list it"));
                        tokio::time::sleep(ASK_AGAIN).await;
                        // A list tells that it may again; a watch may be silent for ever.
                        stream = watched();
                    }
                    Some(404) if self.what == What::Optional => return,
                    _ => {
                        tracing::debug!(resource = self.part.resource, %error, "a watch failed and is tried again");
                        // Where the API server does not answer at all, nothing is said meanwhile, and nobody leads.
                        let counts = self.waits() || self.context.world.leadership().leads();
                        if !counts {
                            failing = Failing::default();
                        } else if failing.again(Instant::now()) > PATIENCE {
                            self.is(Read::Refused("the API server does not give it"));
                            failing = Failing::default();
                            // What is known may be old: only a list tells that it is not.
                            stream = watched();
                        }
                    }
                },
            }
        }
    }

    fn waits(&self) -> bool {
        self.context.sharing.picture().waits(&self.part)
    }

    fn is(&self, read: Read) {
        if !self.context.sharing.picture().part(&self.part, read.clone()) {
            return;
        }
        self.context.sharing.wake();
        if let Read::Refused(why) = read {
            let (resource, namespace) = (&self.part.resource, &self.part.namespace);
            let next = match self.what {
                What::Rbac => "who reaches credentials by RBAC cannot be told; --sharing-rbac=false does not look",
                What::ConfigMap => {
                    "literals in ConfigMaps cannot be told; --sharing-configmaps=false does not look at any"
                }
                What::Account | What::Workload | What::Optional => {
                    "shared credentials cannot be told from exclusive ones; --detect-sharing=false looks for none"
                }
            };
            tracing::warn!(resource, namespace, why, "{next}");
        }
    }

    fn gone(&self, name: &GrantName) {
        let mut picture = self.context.sharing.picture();
        let news = match self.what {
            What::Account => picture.account(&name.namespace, &name.name, None),
            What::Workload | What::Optional => picture.workload(&self.part.resource, &self.object(name), None),
            What::Rbac => picture.rbac(&self.part.resource, &self.object(name), None),
            What::ConfigMap => picture.configmap(&name.namespace, &name.name, None),
        };
        picture.identified(&self.object(name), None);
        drop(picture);
        self.news(news);
    }

    fn object(&self, name: &GrantName) -> Object {
        Object::new(&*self.resource.kind, &*name.namespace, &*name.name)
    }

    fn news(&self, news: bool) {
        if news {
            self.context.sharing.wake();
        }
    }

    /// Makes facts of an object, and forgets it.
    fn take(&self, object: DeserializeGuard<Slim>) -> GrantName {
        let slim = match object.0 {
            Ok(slim) => slim,
            Err(invalid) => {
                let name = parse::name(&invalid.metadata);
                let resource = &self.part.resource;
                let news = self.context.sharing.picture().unreadable(resource, &name.namespace, &name.name);
                self.news(news);
                return name;
            }
        };
        let name = parse::name(&slim.metadata);
        // Read before the picture is taken hold of.
        let (object, resource) = (self.object(&name), &self.part.resource);
        let made = slim.metadata.owner_references.as_ref().is_some_and(|o| !o.is_empty());
        // Without pods an object counts as itself, whoever made it.
        let itself = Kind::of(&self.resource.group, &self.resource.kind).is_some_and(|kind| !kind.has_pods());
        let owned = matches!(self.what, What::Rbac | What::ConfigMap) || (made && !itself);
        let uid = slim.metadata.uid.clone().filter(|_| !owned);
        let news = match self.what {
            What::Account => {
                let says = slim.automount.as_ref().and_then(Value::as_bool);
                self.context.sharing.picture().account(&name.namespace, &name.name, Some(says))
            }
            What::Workload | What::Optional => {
                let facts = facts::extract(&self.json(slim), Place::default(), &self.context.sharing.ids());
                self.context.sharing.picture().workload(resource, &object, facts)
            }
            What::Rbac => {
                let piece = rbac::Piece::read(&self.json(slim), Place::default());
                self.context.sharing.picture().rbac(resource, &object, piece)
            }
            What::ConfigMap => {
                let says = ConfigMap::read(&self.json(slim), &self.context.sharing.ids());
                self.context.sharing.picture().configmap(&name.namespace, &name.name, Some(says))
            }
        };
        let another = self.context.sharing.picture().identified(&object, uid.as_deref());
        self.news(news || another);
        name
    }

    fn json(&self, slim: Slim) -> Value {
        let Slim {
            metadata,
            spec,
            status,
            config,
            config_from,
            config_patches,
            automount: _,
            rules,
            aggregation,
            role,
            subjects,
            data,
        } = slim;
        json!({
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "metadata": {
                "name": metadata.name,
                "namespace": metadata.namespace,
                "labels": metadata.labels,
                "annotations": metadata.annotations,
                "ownerReferences": metadata.owner_references,
            },
            "spec": spec,
            "status": {"phase": status.phase},
            "config": config,
            "configFrom": config_from,
            "configPatches": config_patches,
            "rules": rules,
            "aggregationRule": aggregation,
            "roleRef": role,
            "subjects": subjects,
            "data": data,
        })
    }
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_row_add_up() {
        let (mut failing, begun) = (Failing::default(), Instant::now());
        for (at, row) in [(0, 0), (20, 20), (100, 100), (189, 189), (280, 0), (300, 20)] {
            assert_eq!(failing.again(begun + Duration::from_secs(at)), Duration::from_secs(row), "at {at} s");
        }
    }
}
