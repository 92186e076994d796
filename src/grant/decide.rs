//! The decision: may this client have this, for this subject, now?
//!
//! One function for every decision point. It never waits: when the answer hangs on a consent that
//! nobody has looked up yet it says [`Decision::NeedsLookup`], and the caller looks and asks again.

use std::fmt;
use std::sync::Arc;

use super::consent::{Consent, Flaw, check_audiences};
use super::standing::{self, Held, Refusal, Standing};
use super::{Audiences, Basis, ClientView, Grant, GrantType, Scopes, Subject, Terms, Timestamp, UnmanagedClients};

/// What a token request asks for.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The flow; `None` for one that no grant can declare.
    pub grant_type: Option<GrantType>,
    /// The IdP's internal subject; the client itself for `client_credentials`.
    pub subject: &'a str,
    /// What the IdP is about to grant, as far as it says so at this point.
    pub scopes: Scopes,
    /// Likewise.
    pub audiences: Audiences,
    /// The consent behind it.
    pub consent: Lookup<'a>,
}

/// The consent behind a token request.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'a> {
    /// Nobody has looked.
    NotYetKnown,
    /// The complete list does not have it.
    Missing,
    /// This one.
    Found(&'a Consent),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, under this grant (`None`: a client that nobody manages, and the provider lets those be).
    Allow(Option<Arc<str>>),
    /// No.
    Deny(Deny),
    /// Look up the consent, then ask again.
    NeedsLookup,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deny {
    /// The operator has not read everything yet.
    NotReady,
    /// The API server has been silent for too long: what is known may be old.
    Stale,
    /// Nobody manages the client, and the provider says `unmanagedClients: Deny`.
    UnmanagedClient,
    /// No grant of this client names the subject.
    NoGrant,
    /// The grant is held back.
    Held(Held),
    /// The grant is refused.
    Refused(Refusal),
    /// The grant does not carry its finalizer yet: deleted now, it would go and leave a token behind.
    NotHeld,
    /// The grant does not declare this flow.
    GrantType,
    /// These scopes are not declared.
    Scopes(Scopes),
    /// These audiences are not declared.
    Audiences(Audiences),
    /// The grant names audiences and the request has none.
    NoAudience,
    /// The consent is in no list: skipped, removed, or never given.
    NoConsent,
    /// The consent gives nothing.
    Consent(Flaw),
    /// A remembered consent would let this login skip the question.
    Skipped,
    /// The request could not be understood.
    Malformed,
    /// The consent could not be looked up in time.
    LookupFailed,
    /// The caller did not present the key.
    Unauthenticated,
    /// A probe of the token hook.
    Probe,
}

impl Deny {
    /// A stable CamelCase reason, for logs and answers.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Deny::NotReady => "NotReady",
            Deny::Stale => "Stale",
            Deny::UnmanagedClient => "UnmanagedClient",
            Deny::NoGrant => "NoGrant",
            Deny::Held(Held::Deleting) => "GrantDeleting",
            Deny::Held(Held::Expired) => "GrantExpired",
            Deny::Held(Held::Quarantined) => "ClientQuarantined",
            Deny::Held(Held::RegistrationChanged) => "ClientRegistrationChanged",
            Deny::Held(Held::Suspended) => "GrantSuspended",
            Deny::Held(Held::NotYetValid) => "GrantNotYetValid",
            Deny::Refused(_) => "GrantRefused",
            Deny::NotHeld => "GrantNotInForce",
            Deny::GrantType => "GrantTypeNotDeclared",
            Deny::Scopes(_) => "ScopeNotDeclared",
            Deny::Audiences(_) => "AudienceNotDeclared",
            Deny::NoAudience => "AudienceMissing",
            Deny::NoConsent => "ConsentNotFound",
            Deny::Consent(Flaw::Remembered) => "ConsentRemembered",
            Deny::Consent(Flaw::NoContext) => "ConsentWithoutContext",
            Deny::Consent(Flaw::OtherGrant) => "ConsentOfOtherGrant",
            Deny::Consent(Flaw::Forged) => "ConsentNotProved",
            Deny::Consent(Flaw::Ended) => "ConsentEnded",
            Deny::Consent(Flaw::Scopes(_)) => "ConsentBeyondGrant",
            Deny::Consent(Flaw::Audiences(_)) => "ConsentAudienceBeyondGrant",
            Deny::Consent(Flaw::NoAudience) => "ConsentWithoutAudience",
            Deny::Skipped => "ConsentSkipped",
            Deny::Malformed => "Malformed",
            Deny::LookupFailed => "LookupFailed",
            Deny::Unauthenticated => "Unauthenticated",
            Deny::Probe => "Probe",
        }
    }
}

impl fmt::Display for Deny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deny::NotReady => f.write_str("the operator has not read everything yet"),
            Deny::Stale => f.write_str("the Kubernetes API has not answered for too long, so what is known may be old"),
            Deny::UnmanagedClient => {
                f.write_str("no ClientGrant names this client, and the provider denies such clients")
            }
            Deny::NoGrant => f.write_str("no ClientGrant of this client names this subject"),
            Deny::Held(Held::Deleting) => f.write_str("the ClientGrant is being deleted"),
            Deny::Held(Held::Expired) => f.write_str("the ClientGrant has expired"),
            Deny::Held(Held::Quarantined) => f.write_str("the client is quarantined"),
            Deny::Held(Held::RegistrationChanged) => f.write_str("the client is not registered as it was accepted"),
            Deny::Held(Held::Suspended) => f.write_str("the ClientGrant is suspended"),
            Deny::Held(Held::NotYetValid) => f.write_str("the ClientGrant is not valid yet"),
            Deny::Refused(_) => f.write_str("the ClientGrant is refused; its Ready condition says why"),
            Deny::NotHeld => f.write_str("the ClientGrant is not in force yet; try again in a moment"),
            Deny::GrantType => f.write_str("the ClientGrant does not declare this grant type"),
            Deny::Scopes(s) => write!(f, "not declared by the ClientGrant: scope {s}"),
            Deny::Audiences(a) => write!(f, "not declared by the ClientGrant: audience {a}"),
            Deny::NoAudience => f.write_str("the ClientGrant names audiences and the request has none"),
            Deny::NoConsent => {
                f.write_str("no listed consent stands behind this login (skipped, removed or never given)")
            }
            Deny::Consent(Flaw::Remembered) => {
                f.write_str("the consent app remembered the consent, which lets later logins skip it")
            }
            Deny::Consent(Flaw::NoContext) => f.write_str("the consent app did not ask the operator"),
            Deny::Consent(Flaw::OtherGrant) => f.write_str("the consent was given under another ClientGrant"),
            Deny::Consent(Flaw::Forged) => f.write_str("the consent's context was not written by the operator"),
            Deny::Consent(Flaw::Ended) => f.write_str("the consent has reached the end that was consented"),
            Deny::Consent(Flaw::Scopes(s)) => write!(f, "the consent app granted beyond the ClientGrant: scope {s}"),
            Deny::Consent(Flaw::Audiences(a)) => {
                write!(f, "the consent app granted beyond the ClientGrant: audience {a}")
            }
            Deny::Consent(Flaw::NoAudience) => f.write_str("the ClientGrant names audiences and the consent has none"),
            Deny::Skipped => f.write_str("an older remembered consent would skip the question"),
            Deny::Malformed => f.write_str("the request could not be understood"),
            Deny::LookupFailed => f.write_str("the consent could not be looked up in time"),
            Deny::Probe => f.write_str("a probe of the token hook is always refused"),
            Deny::Unauthenticated => f.write_str("the caller did not present the key of this provider"),
        }
    }
}

/// Decides a token request.
#[must_use]
pub fn token(view: &ClientView, asked: &Asked<'_>, now: Timestamp) -> Decision {
    match try_token(view, asked, now) {
        Ok(decision) => decision,
        Err(deny) => Decision::Deny(deny),
    }
}

fn try_token(view: &ClientView, asked: &Asked<'_>, now: Timestamp) -> Result<Decision, Deny> {
    if !manages(view, now) {
        return unmanaged(view);
    }
    let own = asked.grant_type == Some(GrantType::ClientCredentials);
    let (grant, terms) = speaking(view, asked.subject, own, now)?;
    let grant_type = asked.grant_type.ok_or(Deny::GrantType)?;
    if !terms.authority.grant_types.contains(&grant_type) {
        return Err(Deny::GrantType);
    }
    let beyond = asked.scopes.beyond(&terms.authority.scopes);
    if !beyond.is_empty() {
        return Err(Deny::Scopes(beyond));
    }
    if own {
        check_audiences(&asked.audiences, &terms.authority.audiences).map_err(audience)?;
        return Ok(Decision::Allow(Some(grant.uid.clone())));
    }
    // At the code exchange the IdP may not say yet which audiences it grants; the consent does.
    let beyond = asked.audiences.beyond(&terms.authority.audiences);
    if !beyond.is_empty() {
        return Err(Deny::Audiences(beyond));
    }
    match asked.consent {
        Lookup::NotYetKnown => Ok(Decision::NeedsLookup),
        Lookup::Missing => Err(Deny::NoConsent),
        Lookup::Found(consent) => {
            consent.check(grant, terms, now).map_err(Deny::Consent)?;
            Ok(Decision::Allow(Some(grant.uid.clone())))
        }
    }
}

fn audience(flaw: Flaw) -> Deny {
    match flaw {
        Flaw::Audiences(beyond) => Deny::Audiences(beyond),
        _ => Deny::NoAudience,
    }
}

/// Whether the client is ours to decide about: by the record; if the record was lost, by a grant that had
/// been put in force, from a namespace that may speak for the client; and where nothing is adopted
/// because the provider is only observed, by what would be.
fn manages(view: &ClientView, now: Timestamp) -> bool {
    view.managed.is_some()
        || view.all().any(|grant| grant.held && standing::may_speak(view, grant))
        || (view.observing() && standing::all(view, now).iter().any(|(_, s)| *s == Standing::Live))
}

fn unmanaged(view: &ClientView) -> Result<Decision, Deny> {
    match view.provider.as_ref().map(|p| p.unmanaged) {
        Some(UnmanagedClients::Allow) => Ok(Decision::Allow(None)),
        Some(UnmanagedClients::Deny) | None => Err(Deny::UnmanagedClient),
    }
}

/// The live grant that speaks for this subject, or why there is none. A specific grant shadows wider
/// ones while its object exists, in whatever state.
fn speaking<'v>(
    view: &'v ClientView,
    subject: &str,
    own: bool,
    now: Timestamp,
) -> Result<(&'v Arc<Grant>, &'v Terms), Deny> {
    let candidates = if own { vec![Subject::Own] } else { vec![Subject::User(subject.to_owned()), Subject::Any] };
    for candidate in candidates {
        let Some(group) = view.grants.get(&candidate) else { continue };
        if !group.iter().any(|g| standing::may_speak(view, g)) {
            continue;
        }
        let standings = standing::of_group(view, group, now);
        for (grant, standing) in group.iter().zip(&standings) {
            if let (Standing::Live, Ok(terms)) = (standing, &grant.terms) {
                // Nothing is given before it is written down: in the record, or, if that was lost, in status.
                let written = grant.held && (view.managed.is_some() || grant.told);
                return if written || view.observing() { Ok((grant, terms)) } else { Err(Deny::NotHeld) };
            }
        }
        // The youngest tells most: an expired grant often has a successor that says why.
        return Err(match standings.into_iter().next_back() {
            Some(Standing::Held(held)) => Deny::Held(held),
            Some(Standing::Refused(refusal)) => Deny::Refused(refusal),
            Some(Standing::Live) | None => Deny::NoGrant,
        });
    }
    Err(Deny::NoGrant)
}

/// What a consent app asks about.
#[derive(Clone, Debug)]
pub struct ConsentAsked<'a> {
    /// The IdP's internal subject.
    pub subject: &'a str,
    /// Scopes of the authorization request.
    pub scopes: Scopes,
    /// Audiences of the authorization request.
    pub audiences: Audiences,
    /// The IdP would let this login skip the question.
    pub skip: bool,
    /// The pair's consents, if they were read.
    pub listed: Option<&'a [Consent]>,
}

/// The answer to a consent app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsentDecision {
    /// Reject the request.
    Deny(Deny),
    /// Ask the subject; on yes accept exactly what was asked, under this grant.
    Ask(Option<Arc<Grant>>),
    /// Accept without asking, under this grant.
    Accept(Arc<Grant>),
    /// Read the pair's consents, then ask again.
    NeedsLookup,
}

/// Decides a consent request.
#[must_use]
pub fn consent(view: &ClientView, asked: &ConsentAsked<'_>, now: Timestamp) -> ConsentDecision {
    match try_consent(view, asked, now) {
        Ok(decision) => decision,
        Err(deny) => ConsentDecision::Deny(deny),
    }
}

fn try_consent(view: &ClientView, asked: &ConsentAsked<'_>, now: Timestamp) -> Result<ConsentDecision, Deny> {
    if !manages(view, now) {
        return unmanaged(view).map(|_| ConsentDecision::Ask(None));
    }
    let (grant, terms) = speaking(view, asked.subject, false, now)?;
    if asked.skip {
        return Err(Deny::Skipped);
    }
    if !terms.authority.grant_types.contains(&GrantType::AuthorizationCode) {
        return Err(Deny::GrantType);
    }
    let beyond = asked.scopes.beyond(&terms.authority.scopes);
    if !beyond.is_empty() {
        return Err(Deny::Scopes(beyond));
    }
    check_audiences(&asked.audiences, &terms.authority.audiences).map_err(audience)?;
    match terms.basis {
        Basis::AdminConsent => Ok(ConsentDecision::Accept(grant.clone())),
        // Cannot be: a client-own grant has no subject. If it ever could, the subject is asked.
        Basis::ClientOwn => Ok(ConsentDecision::Ask(Some(grant.clone()))),
        Basis::SubjectConsent => {
            let Some(listed) = asked.listed else { return Ok(ConsentDecision::NeedsLookup) };
            let covered = listed.iter().any(|c| {
                c.check(grant, terms, now).is_ok()
                    && asked.scopes.within(&c.scopes)
                    && asked.audiences.within(&c.audiences)
                    && c.context
                        .as_ref()
                        .is_some_and(|x| x.purpose == terms.purpose && x.expires_at == terms.expires_at)
            });
            Ok(if covered { ConsentDecision::Accept(grant.clone()) } else { ConsentDecision::Ask(Some(grant.clone())) })
        }
    }
}
