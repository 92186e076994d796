//! Writing the status of ClientIdentities, and telling what is new in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::events::EventType;

use super::registered::Registrations;
use super::{AGAIN, Found, Known};
use crate::api::condition::Reason;
use crate::api::{ClientIdentity, ClientIdentityStatus, GROUP, VERSION, bounds};
use crate::controller::Context;
use crate::controller::publish::{self, MANAGER, Written};
use crate::grant::{ClientKey, parse};
use crate::sharing::finding::Finding;
use crate::sharing::judge::Shared;
use crate::sharing::told::{self, Looked, Told, Turn};
use crate::sharing::unchanged::{self, About};

/// Statuses that are written at once.
const AT_ONCE: usize = 16;

/// Says what is known of each; where nothing was evaluated, what was said of that stays. Returns when to look again
/// by the clock alone.
pub(super) async fn identities(
    context: &Context,
    known: &[Known],
    found: Option<&Found>,
    registrations: &Registrations,
    now: Timestamp,
) -> Option<Timestamp> {
    let mut findings = BTreeMap::<&ClientKey, Vec<&Finding>>::new();
    for finding in found.iter().flat_map(|found| &found.evaluation.findings) {
        for key in &finding.keys {
            findings.entry(key).or_default().push(finding);
        }
    }
    let neighbours = super::neighbours(known);
    let (none, nobody, mut next) = (Vec::new(), BTreeSet::new(), None::<Timestamp>);
    let of = |client: &ClientKey| match found {
        None => Shared::NotYet,
        Some(found) => found.shared.get(client).cloned().unwrap_or(Shared::Nothing),
    };
    let mut writes = Vec::new();
    for one in known {
        let (client, namespace) = (&one.declared.client, one.declared.object.namespace.as_str());
        let told = Told {
            old: one.object.status.as_ref(),
            generation: one.object.metadata.generation,
            namespace,
            client,
            admission: one.admission,
            shared: &of(client),
            looked: found.map_or(Looked::Nothing, |found| found.looked),
            findings: findings.get(client).unwrap_or(&none),
            neighbours: neighbours.get(namespace).unwrap_or(&nobody),
        };
        let (mut status, look) = told::status(&told, now);
        let registered = registrations.known(client);
        let about = About {
            admitted: one.counts(),
            pin: one.object.spec.pin.as_ref(),
            generation: one.object.metadata.generation,
        };
        unchanged::say(&mut status, about, registered, now);
        if about.admitted {
            unchanged::keep_findings(told.old, &mut status, registered);
        }
        if one.object.status.as_ref() == Some(&status) {
            next = next.into_iter().chain(look).min();
        } else {
            writes.push(write(context, &one.object, status, told.left(), look, now));
        }
    }
    let looks: Vec<Option<Timestamp>> = stream::iter(writes).buffer_unordered(AT_ONCE).collect().await;
    next.into_iter().chain(looks.into_iter().flatten()).min()
}

/// Writes one status and tells what is new in it. Returns when to look again.
async fn write(
    context: &Context,
    object: &Arc<ClientIdentity>,
    status: ClientIdentityStatus,
    left: Option<BTreeSet<String>>,
    look: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    match put(context, object, &status).await {
        Written::Stored => {
            tell(context, object, &status, left.as_ref());
            look
        }
        Written::Gone => look,
        // The watch brings the newer one.
        Written::Changed => None,
        Written::Invalid | Written::Failed => Some(now + AGAIN),
    }
}

/// Replaces the status as a whole: all of it is ours.
async fn put(context: &Context, object: &Arc<ClientIdentity>, status: &ClientIdentityStatus) -> Written {
    let name = parse::name(&object.metadata);
    let api: Api<ClientIdentity> = Api::namespaced(context.kube.clone(), &name.namespace);
    // It has the version that the status was computed from.
    let mut new = (**object).clone();
    new.status = Some(status.clone());
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let work = api.replace_status(&name.name, &params, &new);
    publish::sent(context, &name, work, |stored| context.sharing.answered(stored)).await
}

/// One line and one Event for what became of findings.
fn tell(context: &Context, object: &ClientIdentity, status: &ClientIdentityStatus, left: Option<&BTreeSet<String>>) {
    let name = parse::name(&object.metadata);
    if let Some((reason, note)) = unchanged::news(object.status.as_ref(), status) {
        let type_ = if reason == Reason::Unchanged { EventType::Normal } else { EventType::Warning };
        let word = if reason == Reason::Unchanged { "RegistrationAccepted" } else { reason.as_str() };
        tracing::info!(identity = %name, client = object.spec.client_id, reason = word, "{note}");
        context.events.say(type_, word, note, about(object));
    }
    for (turn, what) in told::turns(object.status.as_ref(), status, left) {
        let what = what.into_iter().collect::<Vec<_>>().join(", ");
        let note = bounds::fit(&format!("{}: {what}.", turn.says()), bounds::MESSAGE);
        tracing::info!(identity = %name, client = object.spec.client_id, reason = turn.word(), "{note}");
        let type_ = if turn == Turn::Detected { EventType::Warning } else { EventType::Normal };
        context.events.say(type_, turn.word(), note, about(object));
    }
}

fn about(object: &ClientIdentity) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some("ClientIdentity".into()),
        namespace: object.metadata.namespace.clone(),
        name: object.metadata.name.clone(),
        uid: object.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
