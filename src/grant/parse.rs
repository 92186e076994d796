//! From the loose custom resources to the domain's types. Every rule of the schema is checked again
//! here: old objects and ratcheting bypass it.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{Expression, Selector};

use super::rules::{Pattern, Rule};
use super::{
    Authority, Basis, Carried, ClientKey, Grant, GrantName, GrantType, ProviderKey, Revocation, Subject, Terms,
    Timestamp,
};
use crate::api::condition::{ConditionType, Reason, find_condition};
use crate::api::{
    self, AllowRule, ClientGrant, ClientGrantSpec, ClientGrantStatus, LabelOperator, ProviderKind, ProviderRef,
    SubjectKind, instant,
};

/// Put on a grant once there may be something to revoke.
pub const FINALIZER: &str = "clientgrant.dev/revoke";

/// Which client a grant names.
#[must_use]
pub fn client_key(grant: &ClientGrant) -> ClientKey {
    let namespace = grant.metadata.namespace.as_deref().unwrap_or_default();
    ClientKey {
        provider: provider_key(&grant.spec.provider_ref, namespace),
        client: Arc::from(grant.spec.client_id.as_str()),
    }
}

/// Which provider object a reference in this namespace names.
#[must_use]
pub fn provider_key(reference: &ProviderRef, namespace: &str) -> ProviderKey {
    match reference.kind {
        ProviderKind::ClusterIdentityProvider => ProviderKey::cluster(&reference.name),
        ProviderKind::IdentityProvider => ProviderKey::new(namespace, &reference.name),
    }
}

/// Reads one grant. `None` only if the object has no UID, which the API server never sends.
#[must_use]
pub fn grant(object: &ClientGrant) -> Option<Grant> {
    let meta = &object.metadata;
    let status = object.status.as_ref();
    let carried = Carried {
        consent_since: status.and_then(|s| s.observed.as_ref()?.consent_since.as_deref()).and_then(instant::parse),
        revocation: status.and_then(|s| s.revocation.as_ref()).and_then(revocation),
    };
    Some(Grant {
        name: name(meta),
        uid: Arc::from(meta.uid.as_deref()?),
        created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        generation: meta.generation.unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        deleted_at: meta.deletion_timestamp.as_ref().map(|t| t.0),
        held: meta.finalizers.iter().flatten().any(|f| f == FINALIZER),
        gave: status.is_some_and(gave),
        told: status.is_some_and(in_force),
        subject: subject(object.spec.subject.as_ref()),
        terms: terms(&object.spec),
        carried,
        observed_generation: status.and_then(|s| s.observed_generation),
        narrowed: false,
        reopened: false,
    })
}

/// Whether a status says that something was in force, or was being brought about.
fn gave(status: &ClientGrantStatus) -> bool {
    let ready = find_condition(&status.conditions, ConditionType::Ready).and_then(|c| Reason::parse(&c.reason));
    let live = matches!(
        ready,
        Some(
            Reason::Progressing
                | Reason::ProviderUnavailable
                | Reason::ProviderDenied
                | Reason::AwaitingConsent
                | Reason::ConsentRemoved
        )
    );
    live || status.effective.is_some() || status.observed.is_some() || status.revocation.is_some()
}

/// Whether a status says that the grant is in force, or waits only for its subject: then its client had been
/// adopted.
fn in_force(status: &ClientGrantStatus) -> bool {
    let ready = find_condition(&status.conditions, ConditionType::Ready).and_then(|c| Reason::parse(&c.reason));
    let waits = matches!(ready, Some(Reason::Granted | Reason::AwaitingConsent | Reason::ConsentRemoved));
    waits || status.effective.is_some()
}

/// The object's name.
#[must_use]
pub fn name(meta: &ObjectMeta) -> GrantName {
    GrantName { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
}

/// Whether one resource version comes before another: of one server they are numbers that grow. What is not a
/// number is not compared.
#[must_use]
pub fn older(a: &str, b: &str) -> bool {
    matches!((a.parse::<u64>(), b.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}

/// Whether what the API server answered to a write of ours is news beside what is known of the object. The watch may
/// have been faster, and has the last word: an object that it showed changed, made anew or gone stays so.
#[must_use]
pub fn is_news(answer: &ObjectMeta, known: Option<&ObjectMeta>) -> bool {
    let version = |meta: &ObjectMeta| meta.resource_version.clone().unwrap_or_default();
    known.is_some_and(|known| known.uid == answer.uid && !older(&version(answer), &version(known)))
}

fn revocation(status: &api::Revocation) -> Option<Revocation> {
    Some(Revocation {
        cause: status.cause,
        requested_at: instant::parse(&status.requested_at)?,
        confirmed_at: status.confirmed_at.as_deref().and_then(instant::parse),
    })
}

/// The subject is immutable and needed to find the grant's key even when its terms cannot be read.
pub(crate) fn subject(subject: Option<&api::Subject>) -> Subject {
    match subject {
        None => Subject::Own,
        Some(api::Subject { kind: SubjectKind::Any, .. }) => Subject::Any,
        Some(api::Subject { kind: SubjectKind::User, id }) => Subject::User(id.clone().unwrap_or_default()),
    }
}

/// What a grant asks for.
///
/// # Errors
///
/// What of it breaks a rule of the schema.
pub(crate) fn terms(spec: &ClientGrantSpec) -> Result<Terms, String> {
    let ClientGrantSpec {
        provider_ref: _,
        client_id,
        subject,
        basis,
        scopes,
        audiences,
        grant_types,
        purpose,
        owner: _,
        not_before,
        expires_at,
        suspend,
    } = spec;
    if client_id.is_empty() || !client_id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("spec.clientID must be printable ASCII without spaces".into());
    }
    match subject {
        Some(s) if s.kind == SubjectKind::User => {
            let id = s.id.as_deref().unwrap_or_default();
            if id.is_empty() || id.chars().any(char::is_control) {
                return Err("spec.subject.id is required for kind User and has no control characters".into());
            }
        }
        Some(s) if s.id.is_some() => return Err("spec.subject.id belongs to kind User only".into()),
        _ => {}
    }
    let own = *basis == Basis::ClientOwn;
    if own == subject.is_some() {
        return Err("spec.subject is absent exactly when spec.basis is ClientOwn".into());
    }
    if scopes.is_empty() {
        return Err("spec.scopes needs at least one scope".into());
    }
    if let Some(bad) = scopes.iter().find(|s| !is_scope_token(s)) {
        return Err(format!("spec.scopes: {bad:?} is not a scope (RFC 6749, section 3.3; no *)"));
    }
    if let Some(protocol) = scopes.iter().find(|s| own && matches!(s.as_str(), "openid" | "offline_access" | "offline"))
    {
        return Err(format!("spec.scopes: {protocol} makes no sense for basis ClientOwn"));
    }
    if audiences.iter().any(|a| a.is_empty() || a.chars().any(char::is_control)) {
        return Err("spec.audiences: an audience is not empty and has no control characters".into());
    }
    let flows: BTreeSet<GrantType> = match (grant_types.is_empty(), own) {
        (true, true) => [GrantType::ClientCredentials].into(),
        (true, false) => [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
        (false, _) => grant_types.iter().copied().collect(),
    };
    if own != flows.contains(&GrantType::ClientCredentials) || (own && flows.len() != 1) {
        return Err("spec.grantTypes: ClientOwn is exactly client_credentials, which nothing else may have".into());
    }
    let expires_at = instant::parse(expires_at).ok_or("spec.expiresAt must have the form 2027-02-20T00:00:00Z")?;
    let not_before = match not_before {
        None => None,
        Some(text) => Some(instant::parse(text).ok_or("spec.notBefore must have the form 2027-02-20T00:00:00Z")?),
    };
    if not_before.is_some_and(|t| t >= expires_at) {
        return Err("spec.notBefore must be before spec.expiresAt".into());
    }
    Ok(Terms {
        basis: *basis,
        authority: Authority {
            scopes: scopes.iter().cloned().collect(),
            audiences: audiences.iter().cloned().collect(),
            grant_types: flows,
        },
        first_scope: scopes.first().cloned().unwrap_or_default(),
        purpose: purpose.id.clone(),
        not_before,
        expires_at,
        suspend: *suspend,
    })
}

/// RFC 6749, section 3.3, less `*` and `\`: some IdPs read those as patterns.
fn is_scope_token(scope: &str) -> bool {
    !scope.is_empty() && scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E) && b != b'*')
}

/// Reads one tenancy rule. An unreadable part makes the rule cover nothing: a rule in doubt must not
/// open anything.
#[must_use]
pub fn rule(rule: &AllowRule) -> Option<Rule> {
    let AllowRule { namespaces, clients, scopes, audiences, bases, subject_kinds, max_lifetime } = rule;
    let namespaces = namespaces.as_ref().map(|selector| {
        let labels = selector.match_labels.iter().map(|(k, v)| Expression::Equal(k.clone(), v.clone()));
        let expressions = selector.match_expressions.iter().map(|r| {
            let values = r.values.iter().cloned().collect();
            match r.operator {
                LabelOperator::In => Expression::In(r.key.clone(), values),
                LabelOperator::NotIn => Expression::NotIn(r.key.clone(), values),
                LabelOperator::Exists => Expression::Exists(r.key.clone()),
                LabelOperator::DoesNotExist => Expression::DoesNotExist(r.key.clone()),
            }
        });
        labels.chain(expressions).collect::<Selector>()
    });
    let max_lifetime = match max_lifetime {
        None => None,
        Some(text) => Some(api::duration::parse(text)?),
    };
    Some(Rule {
        namespaces,
        clients: patterns(clients),
        scopes: patterns(scopes),
        audiences: patterns(audiences),
        bases: (!bases.is_empty()).then(|| bases.clone()),
        subject_kinds: (!subject_kinds.is_empty()).then(|| subject_kinds.clone()),
        max_lifetime,
    })
}

fn patterns(texts: &[String]) -> Option<Vec<Pattern>> {
    (!texts.is_empty()).then(|| texts.iter().map(|t| Pattern::parse(t)).collect())
}
