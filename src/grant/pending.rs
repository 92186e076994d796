//! The duty to revoke, when the grant that asks for it cannot stay: as a custom resource, and back.
//!
//! To the rest of the domain such a duty is a grant that is being deleted and gave something: it is
//! planned, carried out in two passes and read back like any other.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::parse::{self, FINALIZER};
use super::plan;
use super::verdict::Verdict;
use super::{
    Carried, ClientView, Grant, GrantName, ProviderState, ProviderView, Revocation, RevocationCause, Subject, Timestamp,
};
use crate::api::condition::{ConditionStatus, ConditionType, Reason, find_condition, set_condition};
use crate::api::{
    self, Origin, PendingRevocation, PendingRevocationSpec, PendingRevocationStatus, ProviderKind, ProviderRef,
    SubjectKind, instant,
};

/// Whether a provider object may do a duty: it speaks for the issuer, and is either one of the cluster or the
/// one of the grant's own namespace that the grant named. A tenant who claims the issuer of a cluster's
/// provider that is gone would only pretend to do it.
#[must_use]
pub fn may_be_done_by(object: &PendingRevocation, provider: &ProviderView) -> bool {
    let PendingRevocationSpec { issuer, origin, .. } = &object.spec;
    let own = origin.provider_ref.kind == ProviderKind::IdentityProvider && provider.key.namespace == origin.namespace;
    *provider.issuer == **issuer
        && provider.state != ProviderState::IssuerTaken
        && (provider.key.namespace.is_empty() || own)
}

/// Writes a grant's duty down. The name is the grant's UID: written twice, it is one. `None` while nobody
/// knows the issuer.
#[must_use]
pub fn of(view: &ClientView, grant: &Grant, now: Timestamp) -> Option<PendingRevocation> {
    let open = grant.carried.revocation.filter(|r| r.confirmed_at.is_none());
    let since = open.map(|r| r.requested_at).or(grant.deleted_at).unwrap_or(now);
    let subject = match &grant.subject {
        Subject::User(id) => Some(api::Subject { kind: SubjectKind::User, id: Some(id.clone()) }),
        Subject::Any => Some(api::Subject { kind: SubjectKind::Any, id: None }),
        Subject::Own => None,
    };
    let spec = PendingRevocationSpec {
        issuer: view.issuer.as_deref()?.to_owned(),
        client_id: view.key.client.to_string(),
        subject,
        scopes: grant.terms.as_ref().map(|terms| terms.authority.scopes.to_vec()).unwrap_or_default(),
        cause: RevocationCause::Deleted,
        since: instant::format(since),
        origin: Origin {
            namespace: grant.name.namespace.clone(),
            name: grant.name.name.clone(),
            uid: grant.uid.to_string(),
            provider_ref: ProviderRef {
                kind: match view.key.provider.namespace.is_empty() {
                    true => ProviderKind::ClusterIdentityProvider,
                    false => ProviderKind::IdentityProvider,
                },
                name: view.key.provider.name.to_string(),
            },
        },
    };
    let metadata = ObjectMeta {
        name: Some(grant.uid.to_string()),
        finalizers: Some(vec![FINALIZER.to_owned()]),
        ..ObjectMeta::default()
    };
    Some(PendingRevocation { metadata, spec, status: None })
}

/// The duty as a grant. `None` only if the object has no UID, which the API server never sends.
#[must_use]
pub fn grant(object: &PendingRevocation) -> Option<Grant> {
    let PendingRevocation { metadata: meta, spec, .. } = object;
    let created = meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
    let since = instant::parse(&spec.since).unwrap_or(created);
    // No object has such a name. The namespace is the grant's: what speaks for a client goes by it.
    let name = format!("{} (PendingRevocation {})", spec.origin.name, meta.name.as_deref().unwrap_or_default());
    Some(Grant {
        name: GrantName { namespace: spec.origin.namespace.clone(), name },
        uid: Arc::from(meta.uid.as_deref()?),
        created,
        generation: meta.generation.unwrap_or_default(),
        deleting: true,
        deleted_at: Some(since),
        held: meta.finalizers.iter().flatten().any(|f| f == FINALIZER),
        // What a namespace's own provider gave says nothing about the client at another one.
        gave: spec.origin.provider_ref.kind == ProviderKind::ClusterIdentityProvider,
        told: false,
        subject: parse::subject(spec.subject.as_ref()),
        terms: Err("the grant is gone".into()),
        carried: Carried {
            consent_since: None,
            revocation: Some(Revocation { cause: spec.cause, requested_at: since, confirmed_at: None }),
        },
        observed_generation: None,
        narrowed: false,
        reopened: false,
    })
}

/// What to say of such a duty, from what would be said of the grant. `None`: it is done.
#[must_use]
pub fn status(
    view: &ClientView,
    object: &PendingRevocation,
    verdict: &Verdict,
    now: Timestamp,
) -> Option<PendingRevocationStatus> {
    if verdict.release {
        return None;
    }
    let mut status = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let told = verdict.status.as_ref().and_then(|s| find_condition(&s.conditions, ConditionType::Ready));
    let reason = told.and_then(|c| Reason::parse(&c.reason)).unwrap_or(Reason::Revoking);
    let (reason, message) = match &view.provider {
        Some(_) => (reason, told.map(|c| c.message.clone()).unwrap_or_default()),
        None => (
            Reason::CredentialLost,
            format!(
                "No provider object speaks for this issuer. Declare one again, or give up: take the finalizer {FINALIZER} off."
            ),
        ),
    };
    let (type_, no) = (ConditionType::Done, ConditionStatus::False);
    set_condition(&mut status.conditions, type_, no, reason, &message, generation, now);
    status.observed_generation = generation;
    Some(status)
}

/// Whether a grant that is gone although nobody let it go leaves something to be ended: somebody took its
/// finalizer off.
#[must_use]
pub fn stripped(view: &ClientView, grant: &Grant, now: Timestamp) -> Option<PendingRevocation> {
    let deleting = Grant { deleting: true, held: grant.held || grant.gave, ..grant.clone() };
    (plan::leaves(view, &deleting, now) && plan::outlives(view, &deleting)).then(|| of(view, &deleting, now)).flatten()
}
