//! Whether a client is still registered at its identity provider as a person has accepted it.
//!
//! What the pin speaks about is compared with the pin; the rest with the fingerprint that is kept in the status:
//! of when the client was first seen, or of when a person accepted a change. What was not read changes nothing.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use reqwest::Url;

use super::registration::{Fingerprint, Registration, Trait};
use crate::api::condition::{ConditionStatus, ConditionType, Reason, find_condition, remove_condition, set_condition};
use crate::api::{self, ClientIdentity, ClientIdentityStatus, OnRegistrationChange, Pin, bounds};

/// The condition that is told here.
const TOLD: ConditionType = ConditionType::RegistrationUnchanged;
/// Rules that look at registrations.
const RULES: [&str; 4] = ["SC-104", "SC-105", "SC-106", "SC-111"];

/// What is known of how a client is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// It was not read.
    NotRead,
    /// A complete list did not have it.
    Absent,
    /// So.
    Is(&'a Registration),
}

/// The rest of what a status is made of.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Whether the object counts.
    pub admitted: bool,
    /// `spec.pin`.
    pub pin: Option<&'a Pin>,
    /// `metadata.generation`.
    pub generation: Option<i64>,
}

/// Writes into `status`, which says what was said before, what is to be said of the registration.
pub fn say(status: &mut ClientIdentityStatus, about: About<'_>, known: Known<'_>, now: Timestamp) {
    use ConditionStatus::{False, True, Unknown};
    if !about.admitted {
        // The fingerprint stays: a rule that is gone for a moment accepts nothing.
        status.registration = None;
        remove_condition(&mut status.conditions, TOLD);
        return;
    }
    let before = find_condition(&status.conditions, TOLD);
    let was_changed = before.is_some_and(|c| c.status == False.as_str());
    let (value, reason, message) = match known {
        Known::NotRead if before.is_some() => return,
        // One that is gone may come back as another.
        Known::Absent if was_changed => return,
        Known::NotRead => (Unknown, Reason::NotEvaluated, "How the client is registered was not read yet.".to_owned()),
        Known::Absent => {
            status.registration = None;
            let message = "The identity provider does not know this client. Register it there or make an object with its clientID.";
            (Unknown, Reason::UnknownClient, message.to_owned())
        }
        Known::Is(registration) => {
            let edited = before.is_some_and(|c| c.observed_generation < about.generation);
            let seen = status.fingerprint.as_deref().and_then(Fingerprint::parse);
            let (changed, fingerprint) = compare(seen, about.pin, registration, was_changed && edited);
            status.fingerprint = Some(fingerprint.to_string());
            status.registration = Some(shown(registration));
            match changed.is_empty() {
                true => (True, Reason::Unchanged, "The client is registered as it was accepted.".to_owned()),
                false => (False, Reason::RegistrationChanged, message(&changed, about.pin)),
            }
        }
    };
    set_condition(&mut status.conditions, TOLD, value, reason, &message, about.generation, now);
}

/// What differs, and the fingerprint to keep. `accepts`: a person has edited the object since a change was told.
fn compare(
    seen: Option<Fingerprint>,
    pin: Option<&Pin>,
    registration: &Registration,
    accepts: bool,
) -> (BTreeSet<Trait>, Fingerprint) {
    let present = registration.fingerprint();
    let differs = |of: &Trait| match pinned(pin, *of, registration) {
        Some(right) => !right,
        None => seen.as_ref().is_some_and(|seen| seen.part(*of) != present.part(*of)),
    };
    let changed: BTreeSet<Trait> = Trait::ALL.into_iter().filter(differs).collect();
    let beyond_pin = |of: &Trait| pinned(pin, *of, registration).is_none();
    if changed.is_empty() || (accepts && pin.is_some() && changed.iter().all(beyond_pin)) {
        return (BTreeSet::new(), present);
    }
    // What never was right is nothing that could be gone back to.
    let keep = seen.unwrap_or_else(|| present.without(&changed));
    (changed, keep)
}

/// Whether it is as the pin says. `None`: the pin says nothing of it.
fn pinned(pin: Option<&Pin>, of: Trait, registration: &Registration) -> Option<bool> {
    let pin = pin?;
    match of {
        Trait::RedirectUris => {
            let wanted: BTreeSet<&String> = pin.redirect_uris.as_ref()?.iter().collect();
            Some(wanted == registration.redirect_uris.iter().collect())
        }
        Trait::AuthMethod => {
            let wanted = pin.auth_methods.as_ref()?;
            Some(registration.auth_method.as_ref().is_some_and(|method| wanted.contains(method)))
        }
        Trait::Keys | Trait::Created => None,
    }
}

fn message(changed: &BTreeSet<Trait>, pin: Option<&Pin>) -> String {
    let words: Vec<&str> = changed.iter().map(|of| of.words()).collect();
    let next = match pin {
        None => "Restore it, or accept it: add a spec.pin that says what is registered now.",
        Some(_) => "Restore it, or accept it: edit the object so that spec.pin says what is registered now.",
    };
    format!("Not as it was accepted: {}. {next}", words.join(", "))
}

fn shown(of: &Registration) -> api::Registration {
    api::Registration {
        display_name: of.display_name.as_deref().map(|name| bounds::fit(name, bounds::SHORT)),
        redirect_uris: bounds::fit_list(of.redirect_uris.iter().map(|uri| bare(uri))),
        auth_method: of.auth_method.as_deref().map(|method| bounds::fit(method, bounds::SHORT)),
        public: of.auth_method.as_deref() == Some("none"),
    }
}

/// A redirect URI without what could be a password in it.
fn bare(uri: &str) -> String {
    let with_password = Url::parse(uri).ok().filter(|url| url.password().is_some());
    with_password.map_or_else(
        || uri.to_owned(),
        |mut url| {
            // One that has a password can do without.
            _ = url.set_password(None);
            url.to_string()
        },
    )
}

/// Keeps what was found by registrations while they were not read since.
pub fn keep_findings(old: Option<&ClientIdentityStatus>, status: &mut ClientIdentityStatus, known: Known<'_>) {
    if known != Known::NotRead {
        return;
    }
    let found = |f: &&api::SharedFinding| RULES.contains(&&*f.rule) && !status.findings.contains(f);
    let kept: Vec<_> = old.into_iter().flat_map(|old| &old.findings).filter(found).cloned().collect();
    let room = bounds::FINDINGS.saturating_sub(status.findings.len());
    status.findings.extend(kept.into_iter().take(room));
}

/// Whether the object says that the grants of its client are out of force. It says so until a person has accepted
/// what was read, whether the provider answers or not.
#[must_use]
pub fn suspends(object: &ClientIdentity) -> bool {
    let told = object.status.as_ref().and_then(|status| find_condition(&status.conditions, TOLD));
    object.spec.on_registration_change == OnRegistrationChange::Suspend
        && told.is_some_and(|c| c.status == ConditionStatus::False.as_str())
}

/// Since when the client is registered that the object pins: one made anew is not taken over.
#[must_use]
pub fn pinned_birth(object: &ClientIdentity) -> Option<String> {
    object.spec.pin.as_ref()?;
    let seen = Fingerprint::parse(object.status.as_ref()?.fingerprint.as_deref()?)?;
    seen.part(Trait::Created).map(str::to_owned)
}

/// What is new and worth an Event: the reason, and the words.
#[must_use]
pub fn news(old: Option<&ClientIdentityStatus>, new: &ClientIdentityStatus) -> Option<(Reason, String)> {
    let told = |status: &ClientIdentityStatus| find_condition(&status.conditions, TOLD).cloned();
    let (before, now) = (old.and_then(told), told(new)?);
    let changed = |value: &str| value == ConditionStatus::False.as_str();
    let was = before.as_ref().is_some_and(|c| changed(&c.status));
    match (was, changed(&now.status)) {
        (false, true) => Some((Reason::RegistrationChanged, now.message)),
        (true, true) if before.is_some_and(|c| c.message != now.message) => {
            Some((Reason::RegistrationChanged, now.message))
        }
        (true, false) => Some((Reason::Unchanged, now.message)),
        _ => None,
    }
}
