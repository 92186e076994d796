//! How each grant stands now: live, held back, or refused.

use std::sync::Arc;

use super::rules::{self, Miss};
use super::{Basis, ClientView, Grant, ProviderState, Subject, Terms, Timestamp};

/// How a grant stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Admitted, holding its key, in its time, not suspended, not quarantined, not being deleted.
    Live,
    /// It ended or waits, by a date or by a person.
    Held(Held),
    /// It cannot be put in force as it is.
    Refused(Refusal),
}

/// Why an admitted grant is not live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The object is being deleted.
    Deleting,
    /// `expiresAt` has passed.
    Expired,
    /// A ClientQuarantine names the client.
    Quarantined,
    /// The client is not registered as it was accepted, and its ClientIdentity says that this suspends.
    RegistrationChanged,
    /// `suspend: true`.
    Suspended,
    /// `notBefore` lies ahead.
    NotYetValid,
}

/// Why a grant is not admitted, or does not hold its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The object's own fault, which the schema let through.
    Invalid(String),
    /// No such provider object.
    ProviderMissing,
    /// Another provider object speaks for the issuer.
    IssuerTaken,
    /// The provider's rules do not allow it.
    NotAllowed(Miss),
    /// The provider cannot hold this combination.
    NotSupported(&'static str),
    /// Its subject equals a client id that has a client-own grant on this issuer.
    SubjectClientCollision,
    /// An older grant holds the key.
    Conflict,
}

/// Why `grant` is not admitted; `Ok` if it is.
///
/// # Errors
/// The first refusal.
pub fn admit<'g>(view: &ClientView, grant: &'g Grant, now: Timestamp) -> Result<&'g Terms, Refusal> {
    let terms = grant.terms.as_ref().map_err(|why| Refusal::Invalid(why.clone()))?;
    let provider = view.provider.as_ref().ok_or(Refusal::ProviderMissing)?;
    if provider.state == ProviderState::IssuerTaken {
        return Err(Refusal::IssuerTaken);
    }
    let labels = view.namespaces.get(&grant.name.namespace).cloned().unwrap_or_default();
    rules::allow(&provider.rules, &labels, &view.key.client, &grant.subject, terms, now)
        .map_err(Refusal::NotAllowed)?;
    if terms.basis == Basis::SubjectConsent && !provider.capabilities.lists_consents {
        return Err(Refusal::NotSupported("this provider cannot list consents, so nobody could tell when one ends"));
    }
    let client = &*view.key.client;
    if !provider.capabilities.slash_in_client_id && (client.contains('/') || matches!(client, "." | "..")) {
        return Err(Refusal::NotSupported(
            "this provider's admin API cannot address a client id that has a slash or is dots",
        ));
    }
    if let Subject::User(id) = &grant.subject
        && view.collisions.contains(id)
    {
        return Err(Refusal::SubjectClientCollision);
    }
    Ok(terms)
}

/// How each grant of one key stands, in the order given (oldest first).
#[must_use]
pub fn of_group(view: &ClientView, group: &[Arc<Grant>], now: Timestamp) -> Vec<Standing> {
    let mut holder_seen = false;
    group
        .iter()
        .map(|grant| {
            let admitted = admit(view, grant, now);
            let expired = grant.terms.as_ref().is_ok_and(|t| t.expires_at <= now);
            // Until its end is confirmed an expired grant keeps the key: a revocation ends the pair whole,
            // and would take with it what the subject has just consented to under a successor.
            let over = expired && (grant.confirmed() || !grant.held);
            let holds = admitted.is_ok() && !over && !holder_seen;
            let conflict = admitted.is_ok() && !expired && holder_seen;
            holder_seen |= holds;
            if grant.deleting {
                return Standing::Held(Held::Deleting);
            }
            if expired {
                return Standing::Held(Held::Expired);
            }
            let terms = match admitted {
                Err(refusal) => return Standing::Refused(refusal),
                Ok(_) if conflict => return Standing::Refused(Refusal::Conflict),
                Ok(terms) => terms,
            };
            if view.quarantined {
                Standing::Held(Held::Quarantined)
            } else if view.suspended {
                Standing::Held(Held::RegistrationChanged)
            } else if terms.suspend {
                Standing::Held(Held::Suspended)
            } else if terms.not_before.is_some_and(|t| now < t) {
                Standing::Held(Held::NotYetValid)
            } else {
                Standing::Live
            }
        })
        .collect()
}

/// Every grant of the client with its standing.
#[must_use]
pub fn all(view: &ClientView, now: Timestamp) -> Vec<(Arc<Grant>, Standing)> {
    view.grants.values().flat_map(|group| group.iter().cloned().zip(of_group(view, group, now))).collect()
}

/// Whether the provider's rules let the grant's namespace speak for the client. Only then does a
/// specific grant shadow wider ones: else a tenant could switch off others' grants.
#[must_use]
pub fn may_speak(view: &ClientView, grant: &Grant) -> bool {
    let Some(provider) = &view.provider else { return false };
    let labels = view.namespaces.get(&grant.name.namespace).cloned().unwrap_or_default();
    provider.rules.iter().any(|rule| rule.speaks_for(&labels, &view.key.client))
}

/// The next instant at which some grant's standing changes by the clock alone.
#[must_use]
pub fn next_change(view: &ClientView, now: Timestamp) -> Option<Timestamp> {
    view.all()
        .filter_map(|g| g.terms.as_ref().ok())
        .flat_map(|t| [t.not_before, Some(t.expires_at)])
        .flatten()
        .filter(|t| *t > now)
        .min()
}
