//! PendingRevocations: written before a grant goes whose authority is not ended, deleted when it is.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;

use super::Context;
use super::publish::{self, MANAGER, Written};
use crate::api::{PendingRevocation, PendingRevocationStatus};
use crate::clock;
use crate::grant::parse::FINALIZER;
use crate::grant::verdict::Verdict;
use crate::grant::{ClientView, pending};
use crate::world::Entry;

/// A duty that could not be written is written again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// So often.
const TRIES: usize = 300;

fn api(context: &Context) -> Api<PendingRevocation> {
    Api::namespaced(context.kube.clone(), &context.config.operator_namespace)
}

/// Hands a grant's duty over and lets the grant go, in this order.
pub async fn hand_over(context: &Context, view: &ClientView, entry: &Entry, now: Timestamp) -> Written {
    let Some(duty) = pending::of(view, &entry.grant, now) else { return Written::Failed };
    match create(context, &duty).await {
        Written::Stored => publish::finalizer(context, entry, false).await,
        other => other,
    }
}

/// Writes a duty down; one that is there already is the same.
async fn create(context: &Context, duty: &PendingRevocation) -> Written {
    let name = duty.metadata.name.as_deref().unwrap_or_default();
    let api = api(context);
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let work = async {
        match api.create(&params, duty).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => api.get(name).await,
            other => other,
        }
    };
    publish::sent(context, name, work, |stored| {
        tracing::info!(
            name,
            client = stored.spec.client_id,
            issuer = stored.spec.issuer,
            grant = format!("{}/{}", stored.spec.origin.namespace, stored.spec.origin.name),
            "a revocation goes on without its grant"
        );
        context.queue.push_all(context.world.set_pending(stored));
    })
    .await
}

/// Writes down what a grant left that is gone already.
pub async fn keep(context: Arc<Context>, duty: PendingRevocation) {
    for _ in 0..TRIES {
        // A follower leaves it to the leader, which was told the same.
        if !context.world.leadership().is_elected() || create(&context, &duty).await == Written::Stored {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
    let name = duty.metadata.name.as_deref().unwrap_or_default();
    tracing::error!(name, client = duty.spec.client_id, "a revocation could not be written down");
}

/// Says how far a duty is; deletes one that is done.
pub async fn say(context: &Context, view: &ClientView, entry: &Entry, verdict: &Verdict) -> Written {
    let Some(object) = &entry.pending else { return Written::Stored };
    let written = match pending::status(view, object, verdict, clock::now()) {
        Some(status) if object.status.as_ref() == Some(&status) => Written::Stored,
        Some(status) => put(context, object, &status).await,
        None => done(context, object).await,
    };
    if written == Written::Gone {
        // The answer to its creation may have come after the watch had told its end.
        let name = object.metadata.name.as_deref().unwrap_or_default();
        context.queue.push_all(context.world.remove_pending(name));
    }
    written
}

async fn put(context: &Context, object: &PendingRevocation, status: &PendingRevocationStatus) -> Written {
    publish::apply_status(context, &api(context), object, status, |stored| context.world.fed_back_pending(stored)).await
}

/// First deleted, then let go: killed in between, it is revoked once more and not left behind.
async fn done(context: &Context, object: &PendingRevocation) -> Written {
    let api = api(context);
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let mut meta = object.metadata.clone();
    if meta.deletion_timestamp.is_none() {
        let same = Preconditions { uid: meta.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        let mut left = None;
        let deleted = publish::sent(context, name, api.delete(name, &params), |now| left = now.clone().left()).await;
        let Some(left) = left else { return deleted };
        meta = left.metadata;
    }
    let mut finalizers = meta.finalizers.unwrap_or_default();
    finalizers.retain(|f| f != FINALIZER);
    let body = json!({
        "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers},
    });
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let written = publish::sent(context, name, api.patch(name, &params, &Patch::Merge(body)), |_| {}).await;
    if written == Written::Stored {
        tracing::info!(name, client = object.spec.client_id, "a revocation that outlived its grant is done");
    }
    written
}
