//! What is written to a provider object: its status, and the finalizer that keeps it until its grants
//! are gone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Context, Kept, Object, RELEASE_HOLD, Trouble};
use crate::api::condition::{ConditionStatus, ConditionType, Reason, remove_condition, set_condition};
use crate::api::{ClusterIdentityProvider, GrantCounts, Guarantee, IdentityProvider, IdentityProviderStatus, bounds};
use crate::clock;
use crate::controller::publish;
use crate::grant::collect::Hold;
use crate::grant::{Capabilities, HookProof, Timestamp, UnmanagedClients};
use crate::world::Source;

/// Keeps a provider until its grants are gone.
pub const FINALIZER: &str = "clientgrant.dev/grants";

/// Publishes what is known, if it says something new.
pub(super) async fn publish_status(
    context: &Context,
    object: &Object,
    kept: &Kept,
    told: Result<Option<&str>, &Trouble>,
    capabilities: Option<Capabilities>,
) {
    use ConditionStatus::{False, True, Unknown};
    if !context.world.leadership().leads() {
        return;
    }
    let said = kept.said().clone();
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
            status.version = version.map(|version| bounds::fit(version, bounds::SHORT));
            note_hook(&mut status, kept.hook(), generation, now);
            // After a start it takes a while until what waits is known again.
            if kept.sweeping().hold.is_some() || !kept.rewound.load(Ordering::Relaxed) {
                note_hold(&mut status, kept.sweeping().hold.as_ref(), generation, now);
            }
            status.undeclared = kept.sweeping().told();
            note_registration(&mut status, object, kept.open.load(Ordering::Relaxed), generation, now);
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
    // Before all grants have been read their number is not known.
    if context.world.has(Source::Grants) {
        let (total, active) = context.world.counts(&object.key);
        status.grants = Some(GrantCounts {
            total: i64::try_from(total).unwrap_or(i64::MAX),
            active: i64::try_from(active).unwrap_or(i64::MAX),
        });
    }
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
        Ok(()) => *kept.said() = Some(status),
        Err(error) => tracing::warn!(provider = %object.key, %error, "the API server did not take a write"),
    }
}

/// What the last probe of the token hook showed.
fn note_hook(status: &mut IdentityProviderStatus, hook: HookProof, generation: Option<i64>, now: Timestamp) {
    use ConditionStatus::{False, True, Unknown};
    let (value, reason, message) = match hook {
        HookProof::NotDeclared => {
            remove_condition(&mut status.conditions, ConditionType::TokenHook);
            status.guarantees.clear();
            return;
        }
        HookProof::Proved => {
            (True, Reason::Called, "A probe was seen at the operator's endpoint, and its refusal was heeded.")
        }
        HookProof::NotCalled => (
            False,
            Reason::NotCalled,
            "A token was issued without asking. Set oauth2.token_hook in the identity provider's configuration.",
        ),
        HookProof::Unreachable => (
            False,
            Reason::HookUnreachable,
            "The identity provider cannot reach its token hook, and issues nothing. Correct its URL or the network.",
        ),
        HookProof::Elsewhere => (
            False,
            Reason::NotSeen,
            "A hook refused, and no replica of the operator saw the call. Correct the hook's URL or its key.",
        ),
        // What was said before stands until something is shown.
        HookProof::Untried => return,
        HookProof::Unasked => (
            Unknown,
            Reason::NotProved,
            "No probe could be made. The operator must reach the token endpoint below spec.issuer.",
        ),
    };
    set_condition(&mut status.conditions, ConditionType::TokenHook, value, reason, message, generation, now);
    status.guarantees = match hook {
        HookProof::Proved => vec![Guarantee { name: "TokenHook".into(), proof: "refused a probe".into() }],
        _ => Vec::new(),
    };
}

/// Removals that wait for a person.
fn note_hold(status: &mut IdentityProviderStatus, hold: Option<&Hold>, generation: Option<i64>, now: Timestamp) {
    let list = &mut status.conditions;
    let Some(Hold { id, count, rewound }) = hold else {
        remove_condition(list, ConditionType::SweepHeld);
        return;
    };
    let (reason, why) = match rewound {
        true => (Reason::ClusterRewound, "the cluster's history went back"),
        false => (Reason::BudgetExceeded, "they exceed the budget of an hour"),
    };
    let message = format!(
        "{count} removals wait, because {why}. To allow exactly these, set the annotation {RELEASE_HOLD}: {id}"
    );
    set_condition(list, ConditionType::SweepHeld, ConditionStatus::True, reason, &message, generation, now);
}

/// Where anybody may register clients, somebody should know.
fn note_registration(
    status: &mut IdentityProviderStatus,
    object: &Object,
    open: bool,
    generation: Option<i64>,
    now: Timestamp,
) {
    let list = &mut status.conditions;
    if !open {
        remove_condition(list, ConditionType::RegistrationOpen);
        return;
    }
    let message = match object.spec.unmanaged_clients {
        None => "Anybody may register clients: decision points refuse those that nobody manages.",
        Some(UnmanagedClients::Deny) => {
            "Anybody may register clients; decision points refuse them, as unmanagedClients says."
        }
        Some(UnmanagedClients::Allow) => {
            "Anybody may register clients, and unmanagedClients: Allow lets them all pass."
        }
    };
    let (type_, reason) = (ConditionType::RegistrationOpen, Reason::DynamicRegistration);
    set_condition(list, type_, ConditionStatus::True, reason, message, generation, now);
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
    publish::within(Duration::from_secs(10), work).await.map(drop)
}

/// Holds the object until its grants are gone: without it nobody could end what they gave. Returns true
/// if it does.
pub(super) async fn hold(context: &Context, object: &Object) -> bool {
    if object.deleted.is_some() {
        return true;
    }
    if !context.world.leadership().leads() {
        return false;
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
pub(super) async fn release(context: &Context, object: &Object) -> bool {
    if context.world.counts(&object.key).0 > 0 || !context.world.leadership().leads() {
        return false;
    }
    // What outlived its grant needs the keys, too; a namespace that ends does not wait for that for ever.
    let waited = object.deleted.is_some_and(|at| at + context.config.handover_after <= clock::now());
    let ends = context.world.terminating(&object.key.namespace);
    if context.world.pending(&object.key) && !(ends && waited) {
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
