//! Writing to the API server: status, finalizer. The only place that does for ClientGrants.
//!
//! Every write carries the resourceVersion it was computed from: a verdict must not land on an object
//! that was recreated or edited meanwhile. The answer goes back into the World at once.

use std::fmt::{Debug, Display};
use std::time::Duration;

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Context;
use crate::api::{ClientGrant, ClientGrantStatus};
use crate::grant::parse::FINALIZER;
use crate::world::Entry;

/// The field manager of everything we write.
pub const MANAGER: &str = "clientgrant";
const DEADLINE: Duration = Duration::from_secs(10);

/// How a write ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// It is stored.
    Stored,
    /// The object is gone, or another one has its name.
    Gone,
    /// It was changed meanwhile: look again.
    Changed,
    /// By the schema it is not valid.
    Invalid,
    /// The API server did not take it: try again.
    Failed,
}

fn api(context: &Context, entry: &Entry) -> Api<ClientGrant> {
    Api::namespaced(context.kube.clone(), &entry.grant.name.namespace)
}

/// Waits for what the API server answers, for so long; an answer that is late is an error, too.
pub(super) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    match tokio::time::timeout(deadline, work).await {
        Ok(answer) => answer,
        Err(late) => Err(kube::Error::Service(late.into())),
    }
}

/// Sends a write and takes in what the API server answers.
pub(super) async fn sent<T>(
    context: &Context,
    what: impl Display,
    work: impl Future<Output = Result<T, kube::Error>>,
    take_in: impl FnOnce(&T),
) -> Written {
    let _place = context.writes.enter().await;
    if !context.world.leadership().leads() {
        return Written::Failed;
    }
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(Ok(object)) => {
            take_in(&object);
            Written::Stored
        }
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Written::Gone,
        Ok(Err(kube::Error::Api(status))) if status.is_conflict() => Written::Changed,
        Ok(Err(error)) => {
            tracing::warn!(object = %what, %error, "the API server did not take a write");
            let invalid = matches!(&error, kube::Error::Api(status) if status.code == 422);
            if invalid { Written::Invalid } else { Written::Failed }
        }
        Err(_) => {
            tracing::warn!(object = %what, "the API server did not answer a write in time");
            Written::Failed
        }
    }
}

/// Applies the status of an object of ours that nobody else is expected to write, as of the version it was
/// computed from.
pub(super) async fn apply_status<K>(
    context: &Context,
    api: &Api<K>,
    object: &K,
    status: &impl Serialize,
    take_in: impl FnOnce(&K),
) -> Written
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let name = object.name_any();
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "resourceVersion": object.resource_version()},
        "status": status,
    });
    let (params, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(body));
    sent(context, &name, api.patch_status(&name, &params, &patch), take_in).await
}

async fn sent_grant(
    context: &Context,
    entry: &Entry,
    work: impl Future<Output = Result<ClientGrant, kube::Error>>,
) -> Written {
    sent(context, &entry.grant.name, work, |object| context.world.fed_back(object)).await
}

/// Writes a status, if it says something new, or if somebody else wrote the stored one.
pub async fn status(context: &Context, entry: &Entry, status: &ClientGrantStatus) -> Written {
    let written = say(context, entry, status).await;
    if written == Written::Stored {
        context.world.said(&entry.grant.uid);
    }
    written
}

async fn say(context: &Context, entry: &Entry, status: &ClientGrantStatus) -> Written {
    // An object that cannot be read is told so by the watch: a status cannot be applied to it.
    if entry.unreadable || (!entry.forged && entry.status.as_deref() == Some(status)) {
        return Written::Stored;
    }
    let (name, uid) = (&entry.grant.name, &entry.grant.uid);
    if entry.forged {
        tracing::warn!(grant = %name, "somebody else wrote the status; it is replaced");
        return replace(context, entry, status).await;
    }
    context.world.sending(name, uid, status);
    let body = json!({
        "apiVersion": "clientgrant.dev/v1alpha1",
        "kind": "ClientGrant",
        "metadata": {"name": name.name, "resourceVersion": entry.version},
        "status": status,
    });
    let api = api(context, entry);
    let params = PatchParams::apply(MANAGER).force();
    let written = sent_grant(context, entry, api.patch_status(&name.name, &params, &Patch::Apply(body))).await;
    // An apply takes away what it applied before and no more: of an object of which others own a part, or that is empty
    // now, it leaves null or less than the schema asks for.
    if written == Written::Invalid {
        return replace(context, entry, status).await;
    }
    // What others have written into it is not ours to take away by an apply.
    let stored = context.world.entry(name).filter(|e| e.grant.uid == *uid);
    match stored {
        Some(stored) if written == Written::Stored && stored.status.as_deref() != Some(status) => {
            replace(context, &stored, status).await
        }
        _ => written,
    }
}

/// Replaces the stored status as a whole.
async fn replace(context: &Context, entry: &Entry, status: &ClientGrantStatus) -> Written {
    let name = &entry.grant.name;
    context.world.sending(name, &entry.grant.uid, status);
    let api = api(context, entry);
    let work = async {
        // The spec of a status write is not read, but it has to be there.
        let mut object = api.get(&name.name).await?;
        object.metadata.resource_version = Some(entry.version.clone());
        object.metadata.managed_fields = None;
        object.status = Some(status.clone());
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        api.replace_status(&name.name, &params, &object).await
    };
    sent_grant(context, entry, work).await
}

/// Puts our finalizer on, or takes it off; others' stay.
pub async fn finalizer(context: &Context, entry: &Entry, held: bool) -> Written {
    if entry.grant.held == held {
        return Written::Stored;
    }
    let mut finalizers = entry.finalizers.clone();
    finalizers.retain(|f| f != FINALIZER);
    if held {
        context.world.giving(&entry.grant.name, &entry.grant.uid);
        finalizers.push(FINALIZER.to_owned());
    } else {
        context.world.letting_go(&entry.grant.uid, true);
    }
    let body = json!({
        "metadata": {"uid": &*entry.grant.uid, "resourceVersion": entry.version, "finalizers": finalizers},
    });
    let api = api(context, entry);
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let written = sent_grant(context, entry, api.patch(&entry.grant.name.name, &params, &Patch::Merge(body))).await;
    if written == Written::Changed {
        context.world.letting_go(&entry.grant.uid, false);
    }
    written
}
