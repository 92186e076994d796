//! How far the IdP is from what a grant declares, in words: what `status.drift` says.
//!
//! For people. What is to be done is decided in [`super::plan`].

use super::observed::ObservedClient;
use super::plan::holds_beyond;
use super::standing::Standing;
use super::{Authority, ClientView, Grant, Scopes, Subject, Timestamp, consent, desired};

/// What was compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Held at the IdP, not declared.
    pub excess: Vec<String>,
    /// Declared, not held at the IdP.
    pub missing: Vec<String>,
    /// Something that the grant names can be had there now.
    pub active: bool,
    /// The scopes of it.
    pub scopes: Scopes,
}

impl Drift {
    /// Nothing differs.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.excess.is_empty() && self.missing.is_empty()
    }
}

/// Compares one grant with a registration and, for a `User`, with the complete list of the pair.
#[must_use]
pub fn compare(
    view: &ClientView,
    grant: &Grant,
    standing: &Standing,
    client: &ObservedClient,
    listed: Option<&[consent::Consent]>,
    now: Timestamp,
) -> Drift {
    let declared = desired::declared(view, now);
    let mut drift = Drift { excess: holds_beyond(client, &declared), ..Drift::default() };
    let live = *standing == Standing::Live;
    let Ok(terms) = &grant.terms else { return drift };
    if live {
        let here = &terms.authority;
        let held = ObservedClient { authority: here.clone(), ..ObservedClient::default() };
        drift.missing = holds_beyond(&held, &client.authority);
        drift.missing.extend(client.settings.iter().map(|setting| format!("setting {setting}")));
        drift.missing.sort();
    }
    match &grant.subject {
        Subject::User(_) => consented(grant, live, listed.unwrap_or_default(), &mut drift),
        Subject::Any | Subject::Own => {
            drift.scopes = terms.authority.scopes.iter().filter(|s| has(&client.authority, s)).collect();
            drift.active = live && terms.authority.within(&client.authority);
        }
    }
    drift
}

fn has(authority: &Authority, scope: &str) -> bool {
    authority.scopes.iter().any(|s| s == scope)
}

fn consented(grant: &Grant, live: bool, listed: &[consent::Consent], drift: &mut Drift) {
    let Ok(terms) = &grant.terms else { return };
    let mut held = Authority::default();
    for consent in listed {
        held.scopes.add_all(&consent.scopes);
        held.audiences.add_all(&consent.audiences);
    }
    drift.active = !listed.is_empty();
    if live {
        let beyond = held.scopes.beyond(&terms.authority.scopes);
        drift.excess.extend(beyond.iter().map(|s| format!("consent to scope {s}")));
        let beyond = held.audiences.beyond(&terms.authority.audiences);
        drift.excess.extend(beyond.iter().map(|a| format!("consent to audience {a}")));
        if listed.iter().any(|c| c.remembered) {
            drift.excess.push("a remembered consent".into());
        }
    } else if drift.active {
        drift.excess.push("the consent of a subject whose grant is not in force".into());
    }
    drift.scopes = held.scopes;
}
