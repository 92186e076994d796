//! What a ClientQuarantine has brought about so far.

use super::Timestamp;
use crate::api::condition::{ConditionStatus, ConditionType, Reason, find_condition, remove_condition, set_condition};
use crate::api::{ClientGrantStatus, ClientQuarantine, ClientQuarantineStatus};

/// The client that a quarantine names, as far as this cluster knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// No provider object speaks for the issuer.
    Nobody,
    /// The provider is in mode Observe: nothing is ended there.
    Observed,
    /// One of a provider that is enforced.
    Client {
        /// Its grants, and the duties of those that are gone.
        grants: usize,
        /// Of these, those that are out of force, read back.
        out: usize,
    },
}

/// Whether what was last said of a grant is that the identity provider holds nothing of it any more. Said of an
/// older generation, or before the quarantine was seen, it says nothing.
#[must_use]
pub fn is_out(status: &ClientGrantStatus, generation: i64) -> bool {
    let told = |type_| find_condition(&status.conditions, type_).filter(|c| c.observed_generation == Some(generation));
    let (Some(ready), Some(active)) = (told(ConditionType::Ready), told(ConditionType::Active)) else { return false };
    let refused = ready.status == ConditionStatus::False.as_str();
    let over = [Reason::Quarantined, Reason::Expired].map(Reason::as_str).contains(&&*ready.reason);
    active.status == ConditionStatus::False.as_str() && (refused || over)
}

/// What to say of a quarantine.
#[must_use]
pub fn status(object: &ClientQuarantine, named: Named, now: Timestamp) -> ClientQuarantineStatus {
    use ConditionStatus::{False, True, Unknown};
    let (ready, reason, message) = match named {
        Named::Nobody => (
            False,
            Reason::ProviderNotFound,
            "No provider object has this issuer: nothing is stopped. Compare spec.issuer with theirs; it cannot be changed, make a new object.".to_owned(),
        ),
        Named::Observed => (
            False,
            Reason::Observed,
            "The provider is in mode Observe: nothing is ended at the identity provider. Set its mode to Enforce.".to_owned(),
        ),
        Named::Client { grants: 0, .. } => (
            True,
            Reason::NothingToDo,
            "No grant names this client; one that comes is out of force at once. If that is a surprise, compare spec.clientID.".to_owned(),
        ),
        Named::Client { grants, out } if out < grants => (
            Unknown,
            Reason::Progressing,
            format!("{} of {grants} grants of the client are not read back as out of force yet.", grants - out),
        ),
        Named::Client { grants, .. } => {
            (True, Reason::InForce, format!("Out of force, read back: {grants} of {grants} grants of the client."))
        }
    };
    let generation = object.metadata.generation;
    let mut status = object.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    let list = &mut status.conditions;
    set_condition(list, ConditionType::Ready, ready, reason, &message, generation, now);
    for (type_, state) in [(ConditionType::Reconciling, Unknown), (ConditionType::Stalled, False)] {
        match ready == state {
            true => set_condition(list, type_, True, reason, &message, generation, now),
            false => remove_condition(list, type_),
        }
    }
    status
}
