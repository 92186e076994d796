//! The one composer of status: what was found, and what was said before → what is said now.
//!
//! `Ready=True` is said only of a client that was read after the last write and is exactly as its
//! grants ask. Everything else says what is missing and who acts next.

use super::consent::Reading;
use super::drift::Drift;
use super::fault::Fault;
use super::plan::{self, ClientRefusal, Duty, Plan, Step};
use super::standing::{Held, Refusal, Standing};
use super::{
    Basis, CONFIRM_WITHIN, ClientView, Grant, HookProof, ProviderState, RevocationCause, Subject, Timestamp, backoff,
};
use crate::api::condition::{ConditionStatus, ConditionType, Reason, find_condition, remove_condition, set_condition};
use crate::api::{self, ClientGrantStatus, bounds, instant};
use crate::sharing::judge::Shared;
use crate::sharing::told;
use std::time::Duration;

/// For this long a generation that cannot be put in force counts as still arriving: appliers fail
/// fast on Stalled while the objects of one commit are on their way.
const ARRIVING: Duration = Duration::from_secs(120);

/// A namespace that ends waits for a revocation that makes progress for this long.
const NAMESPACE_WAITS: Duration = Duration::from_secs(30);

/// A grant of which this is said is looked at again and again: its subject may have answered, its client
/// may be there.
const WAITS: [Reason; 5] =
    [Reason::AwaitingConsent, Reason::ConsentRemoved, Reason::Observed, Reason::UnknownClient, Reason::ForeignClient];

/// What was found about the client as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Read after the last write, exactly as its grants ask.
    Exact,
    /// Read and compared; the provider is only observed.
    Observed,
    /// Not yet as asked; work goes on.
    Converging,
    /// It cannot be brought there.
    Refused(ClientRefusal),
    /// The IdP could not be read or written.
    Fault(Fault),
}

impl Finding {
    /// In one word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Finding::Exact => "Exact",
            Finding::Observed => "Observed",
            Finding::Converging => "Converging",
            Finding::Refused(_) => "Refused",
            Finding::Fault(_) => "Fault",
        }
    }

    /// What the last plan of a look says; it was made from what was read after the last write.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        if let Some(refusal) = &plan.refusal {
            return Finding::Refused(refusal.clone());
        }
        let whole = plan.duties.iter().any(|d| d.grant.is_none());
        let set = plan.steps.contains(&Step::SetRegistration) || plan.adopt.is_some();
        if whole || set || plan.unproved { Finding::Converging } else { Finding::Exact }
    }
}

/// Everything that a status is made of.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The client.
    pub view: &'a ClientView,
    /// The grant.
    pub grant: &'a Grant,
    /// How it stands.
    pub standing: &'a Standing,
    /// The client as a whole.
    pub finding: &'a Finding,
    /// The consents of its subject, if they were read.
    pub reading: Option<&'a Reading>,
    /// How far the IdP is from it, where that was compared.
    pub drift: Option<&'a Drift>,
    /// What it still has to have ended.
    pub duty: Option<&'a Duty>,
    /// That is done and read back.
    pub confirmed: bool,
    /// What went wrong with its own part.
    pub fault: Option<&'a Fault>,
    /// What was said before.
    pub old: Option<&'a ClientGrantStatus>,
    /// How often it was looked at while waiting for its subject or its client.
    pub looks: u32,
    /// A deleted grant does not stay longer than this: then its duty goes on without it. `None`: it is such
    /// a duty itself.
    pub handover: Option<Duration>,
    /// Whether something else can act as the client.
    pub shared: &'a Shared,
}

/// What to say, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// `None`: nothing to say (the object is about to go).
    pub status: Option<ClientGrantStatus>,
    /// Nothing is left to revoke and the object is being deleted: let it go.
    pub release: bool,
    /// Before it goes, what is left to revoke has to be written down as a
    /// [`crate::api::PendingRevocation`].
    pub hand_over: bool,
    /// Only work in progress: not worth a write during its first two seconds.
    pub progress: bool,
    /// It waits for its subject, or for its client.
    pub waiting: bool,
    /// When to look again at the latest.
    pub look: Option<Timestamp>,
}

enum Active {
    Same(bool),
    LastKnown,
    Overdue,
}

struct Said {
    ready: ConditionStatus,
    reason: Reason,
    message: String,
    active: Active,
    reconciling: bool,
    /// Stalled at once, or only when the generation had its time to arrive.
    stalled: Option<Stall>,
    look: Option<Timestamp>,
}

#[derive(PartialEq)]
enum Stall {
    Now,
    AfterArrival,
}

impl Said {
    fn settled(active: bool, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            ready: ConditionStatus::True,
            reason,
            message: message.into(),
            active: Active::Same(active),
            reconciling: false,
            stalled: None,
            look: None,
        }
    }

    fn refused(stall: Stall, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            ready: ConditionStatus::False,
            reason,
            message: message.into(),
            active: Active::Same(false),
            reconciling: false,
            stalled: Some(stall),
            look: None,
        }
    }

    fn working(ready: ConditionStatus, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            ready,
            reason,
            message: message.into(),
            active: Active::LastKnown,
            reconciling: true,
            stalled: None,
            look: None,
        }
    }
}

/// Composes the status of one grant.
#[must_use]
pub fn compose(facts: &Facts<'_>, now: Timestamp) -> Verdict {
    let mut status = facts.old.cloned().unwrap_or_default();
    let owed = facts.duty.filter(|_| !facts.confirmed);
    let gone =
        |hand_over| Verdict { status: None, release: true, hand_over, progress: false, waiting: false, look: None };
    if hands_over(facts, owed.is_some(), now) {
        return gone(true);
    }
    if !facts.view.observing() {
        note_revocation(&mut status, facts, now);
    }

    let said = match facts.standing {
        Standing::Held(Held::Deleting) if facts.view.observing() && plan::leaves(facts.view, facts.grant, now) => {
            Said::working(
                ConditionStatus::False,
                Reason::RevocationBlocked,
                "The provider is only observed. The object stays until mode is Enforce and its authority is ended.",
            )
        }
        Standing::Held(_) | Standing::Live if *facts.finding == Finding::Observed && !facts.grant.deleting => {
            observed(facts, &mut status, now)
        }
        Standing::Held(held) => match (held, owed) {
            (Held::Deleting, None) => return gone(false),
            (_, Some(_)) => match ending(facts, *held, now) {
                Ok(said) => said,
                Err(look) => {
                    return Verdict { status: Some(status), release: false, look: Some(look), ..gone(false) };
                }
            },
            (held, None) => {
                status.effective = None;
                status.observed = None;
                ended(*held)
            }
        },
        Standing::Refused(refusal) => {
            status.effective = None;
            if *refusal == Refusal::Conflict {
                // The holder of the key ends the pair: what is gone afterwards was not removed by others.
                status.observed = None;
            } else if facts.grant.held && facts.grant.gave {
                // That it may have given something outlives this process: else a later end would find nothing
                // to end, once the rules do not let its namespace speak for the client any more.
                status.observed.get_or_insert_default();
            }
            refused(facts, refusal)
        }
        Standing::Live => live(facts, &mut status, owed.is_some(), now),
    };
    finish(facts, status, said, now)
}

/// Keeps the intent and its confirmation in step with what is owed.
fn note_revocation(status: &mut ClientGrantStatus, facts: &Facts<'_>, now: Timestamp) {
    match facts.duty {
        Some(duty) => {
            let open = status.revocation.take().filter(|r| r.confirmed_at.is_none());
            let revocation = status.revocation.insert(open.unwrap_or_else(|| requested(duty.cause, now)));
            if facts.confirmed {
                revocation.confirmed_at = Some(instant::format(now));
                // A revocation of ours ended it: nobody removed it.
                status.observed = None;
            }
        }
        // Nothing is asked for any more, or never was. What is confirmed stays told while it is held back.
        None => {
            let live = *facts.standing == Standing::Live;
            status.revocation = status.revocation.take().filter(|r| !live && r.confirmed_at.is_some());
        }
    }
    if facts.confirmed && *facts.standing == Standing::Live {
        status.revocation = None;
    }
}

/// The intent, written before the first call at the IdP.
#[must_use]
pub fn requested(cause: RevocationCause, now: Timestamp) -> api::Revocation {
    api::Revocation { cause, requested_at: instant::format(now), confirmed_at: None, residual_until: None }
}

/// Whether a deleted grant goes although something is left to revoke. Never for one whose provider object
/// does not speak for the issuer: its tenant could end what others' grants gave there.
fn hands_over(facts: &Facts<'_>, owed: bool, now: Timestamp) -> bool {
    let Facts { view, grant, standing, .. } = *facts;
    let Some(after) = facts.handover else { return false };
    let taken = view.provider.as_ref().is_some_and(|p| p.state == ProviderState::IssuerTaken);
    let known = view.issuer.is_some() && plan::outlives(view, grant);
    if *standing != Standing::Held(Held::Deleting) || !grant.held || taken || !known {
        return false;
    }
    if view.observing() {
        return plan::leaves(view, grant, now);
    }
    let ending = view.terminating.contains(&grant.name.namespace);
    let waits = ending && why(facts).is_none() && asked(facts, now) + NAMESPACE_WAITS > now;
    let deleted = grant.deleted_at.unwrap_or(now);
    owed && ((ending && !waits) || deleted + after <= now)
}

/// Since when something is to be ended.
#[must_use]
pub fn asked(facts: &Facts<'_>, now: Timestamp) -> Timestamp {
    match (facts.standing, &facts.grant.terms, &facts.grant.carried.revocation) {
        (Standing::Held(Held::Expired), Ok(terms), _) => terms.expires_at,
        (_, _, Some(revocation)) => revocation.requested_at,
        _ => facts.grant.deleted_at.unwrap_or(now),
    }
}

/// What went wrong with it.
fn why<'a>(facts: &Facts<'a>) -> Option<&'a Fault> {
    facts.fault.or(match facts.finding {
        Finding::Fault(fault) => Some(fault),
        _ => None,
    })
}

/// An end that is not confirmed. `Err`: nothing to say before that instant.
fn ending(facts: &Facts<'_>, held: Held, now: Timestamp) -> Result<Said, Timestamp> {
    let (since, why) = (asked(facts, now), why(facts));
    let late = why.is_some() || since + CONFIRM_WITHIN <= now;
    let cause =
        why.map_or_else(|| "The identity provider has not confirmed it".to_owned(), |w| sentence(&w.to_string()));
    if held == Held::Deleting {
        let (reason, message) = if late {
            (
                Reason::RevocationBlocked,
                format!("{cause}. The object stays until its authority is ended; it is tried again."),
            )
        } else {
            (Reason::Revoking, "Ending what this grant gave at the identity provider.".to_owned())
        };
        return Ok(Said { look: Some(now + CONFIRM_WITHIN), ..Said::working(ConditionStatus::False, reason, message) });
    }
    if !late {
        return Err(since + CONFIRM_WITHIN);
    }
    let message = format!("{cause}. Decision points already refuse; the revocation is tried again.");
    let look = Some(now + CONFIRM_WITHIN);
    let said = Said::working(ConditionStatus::False, Reason::RevocationOverdue, message);
    Ok(Said { active: Active::Overdue, look, ..said })
}

fn ended(held: Held) -> Said {
    let (reason, message) = match held {
        Held::Expired => {
            (Reason::Expired, "Ended at expiresAt. A new end date in Git renews it; subjects are asked again.")
        }
        Held::Suspended => (Reason::Suspended, "Withdrawn by spec.suspend. Set it to false to resume."),
        Held::Quarantined => (
            Reason::Quarantined,
            "A ClientQuarantine names this client. It is out of force until that object is deleted.",
        ),
        Held::RegistrationChanged => (
            Reason::RegistrationChanged,
            "The client is not registered as it was accepted. Its ClientIdentity says what changed and how to accept it.",
        ),
        Held::NotYetValid => (Reason::NotYetValid, "Comes into force at notBefore."),
        Held::Deleting => (Reason::Revoking, "Being deleted."),
    };
    Said::settled(false, reason, message)
}

fn refused(facts: &Facts<'_>, refusal: &Refusal) -> Said {
    let later = |reason, message: String| Said::refused(Stall::AfterArrival, reason, message);
    match refusal {
        Refusal::Invalid(why) => Said::refused(Stall::Now, Reason::InvalidSpec, format!("{}. Correct the object.", sentence(why))),
        Refusal::ProviderMissing => later(
            Reason::ProviderNotFound,
            format!("No {} exists. Create it or correct spec.providerRef.", provider_words(facts)),
        ),
        Refusal::IssuerTaken => later(
            Reason::ProviderNotFound,
            "Another provider object speaks for this issuer. Name that one in spec.providerRef.".into(),
        ),
        Refusal::NotAllowed(miss) => later(
            Reason::NotAllowed,
            format!("Not allowed: {}. Ask the provider's owner for a rule in spec.allow.", miss.words()),
        ),
        Refusal::NotSupported(why) => later(Reason::NotSupported, format!("{}.", sentence(why))),
        Refusal::SubjectClientCollision => later(
            Reason::SubjectClientCollision,
            "The subject equals a client id that has a ClientOwn grant; their tokens could not be told apart. Use another subject id.".into(),
        ),
        Refusal::Conflict => later(
            Reason::Conflict,
            "An older grant names the same client and subject at this issuer. Delete one of the two.".into(),
        ),
    }
}

fn provider_words(facts: &Facts<'_>) -> String {
    let key = &facts.view.key.provider;
    if key.namespace.is_empty() {
        format!("ClusterIdentityProvider {}", key.name)
    } else {
        format!("IdentityProvider {} in this namespace", key.name)
    }
}

fn live(facts: &Facts<'_>, status: &mut ClientGrantStatus, owed: bool, now: Timestamp) -> Said {
    let Ok(terms) = &facts.grant.terms else {
        return Said::refused(Stall::Now, Reason::InvalidSpec, "The object cannot be read. Correct it.");
    };
    let fault = match facts.finding {
        Finding::Fault(fault) => Some(fault),
        Finding::Refused(refusal) => {
            let mut said = client_refused(refusal, status);
            if matches!(refusal, ClientRefusal::Unknown | ClientRefusal::Foreign) {
                // Nothing tells us when the client is there or free, or that it always was.
                said.look = Some(now + backoff::waiting(facts.looks, &facts.grant.uid));
            }
            return said;
        }
        Finding::Exact | Finding::Converging | Finding::Observed => facts.fault,
    };
    match fault {
        Some(Fault::NeedsPerson { why }) => {
            return Said {
                active: Active::LastKnown,
                ..Said::refused(
                    Stall::Now,
                    Reason::ProviderDenied,
                    format!("{}. Check the provider's credentials and rights.", sentence(why)),
                )
            };
        }
        Some(Fault::Retry { why, .. }) => {
            return Said::working(
                ConditionStatus::Unknown,
                Reason::ProviderUnavailable,
                format!("{}. It is tried again.", sentence(why)),
            );
        }
        None => {}
    }
    if *facts.finding == Finding::Converging || owed || !facts.grant.held {
        return Said::working(
            ConditionStatus::Unknown,
            Reason::Progressing,
            "Being brought about at the identity provider.",
        );
    }
    let until_end = api::Effective {
        scopes: terms.authority.scopes.to_vec(),
        audiences: terms.authority.audiences.to_vec(),
        expires_at: instant::format(terms.expires_at),
    };
    if !matches!((&facts.grant.subject, terms.basis), (Subject::User(_), Basis::SubjectConsent)) {
        status.observed = Some(api::Observed { scopes: until_end.scopes.clone(), consent_since: None });
        status.effective = Some(until_end);
        return Said::settled(true, Reason::Granted, "In force, and read back at the identity provider.");
    }
    let Some(reading) = facts.reading else {
        return Said::working(
            ConditionStatus::Unknown,
            Reason::Progressing,
            "The subject's consents have not been read yet.",
        );
    };
    match &reading.consent {
        Some(consent) => {
            status.observed = Some(api::Observed {
                scopes: consent.scopes.to_vec(),
                consent_since: Some(instant::format(consent.since)),
            });
            status.effective = Some(api::Effective {
                scopes: consent.scopes.to_vec(),
                expires_at: instant::format(consent.until),
                ..until_end
            });
            let mut said = Said::settled(
                true,
                Reason::Granted,
                "Consented by the subject, and read back at the identity provider.",
            );
            let sweep = facts.view.provider.as_ref().map_or(Duration::from_secs(86_400), |p| p.consent_sweep);
            said.look = Some((now + backoff::spread(sweep, &facts.grant.uid)).min(consent.until));
            said
        }
        None => {
            // A consent that had reached its end was ended by us or not used any more: nobody removed it.
            let until = status.effective.take().and_then(|e| instant::parse(&e.expires_at));
            let seen = status.observed.as_ref().is_some_and(|o| o.consent_since.is_some())
                && until.is_none_or(|end| end > now);
            if let Some(observed) = &mut status.observed {
                observed.scopes.clear();
            }
            let mut said = if seen {
                Said::settled(
                    false,
                    Reason::ConsentRemoved,
                    "The subject's consent was removed at the identity provider. Only a new consent by the subject brings it back.",
                )
            } else {
                status.observed = None;
                Said::settled(
                    false,
                    Reason::AwaitingConsent,
                    "Waits for the subject's consent at the next login to the client.",
                )
            };
            said.look = Some(now + backoff::waiting(facts.looks, &facts.grant.uid));
            said
        }
    }
}

/// What was compared at a provider that is only observed.
fn observed(facts: &Facts<'_>, status: &mut ClientGrantStatus, now: Timestamp) -> Said {
    status.effective = None;
    let Some(drift) = facts.drift else {
        return Said::working(ConditionStatus::Unknown, Reason::Progressing, "Not compared yet.");
    };
    let since = facts.reading.and_then(|r| r.consent.as_ref()).map(|c| instant::format(c.since));
    let before = status.observed.take().and_then(|o| o.consent_since);
    status.observed =
        Some(api::Observed { scopes: bounds::fit_list(drift.scopes.iter()), consent_since: since.or(before) });
    let message = "Compared with the identity provider. Nothing is written there, because its mode is Observe.";
    let mut said = Said::settled(drift.active, Reason::Observed, message);
    if matches!(facts.grant.subject, Subject::User(_)) {
        said.look = Some(now + backoff::waiting(facts.looks, &facts.grant.uid));
    }
    said
}

/// `Drifted` is there only while something differs.
fn note_drift(status: &mut ClientGrantStatus, facts: &Facts<'_>, now: Timestamp) {
    let Some(drift) = facts.drift.filter(|d| !d.is_none()) else {
        status.drift = None;
        remove_condition(&mut status.conditions, ConditionType::Drifted);
        return;
    };
    let (reason, words) = match (drift.excess.is_empty(), drift.missing.is_empty()) {
        (false, false) => (
            Reason::ExcessAndMissing,
            format!("Beyond: {}. Missing: {}.", cut(&drift.excess, 2), cut(&drift.missing, 2)),
        ),
        (false, true) => (Reason::Excess, format!("Beyond the grants: {}.", cut(&drift.excess, 3))),
        (true, _) => (Reason::Missing, format!("Missing at the identity provider: {}.", cut(&drift.missing, 3))),
    };
    let generation = Some(facts.grant.generation);
    set_condition(
        &mut status.conditions,
        ConditionType::Drifted,
        ConditionStatus::True,
        reason,
        &words,
        generation,
        now,
    );
    let names = |list: &[String]| list.iter().take(bounds::LIST).map(|n| bounds::fit(n, bounds::ENTRY)).collect();
    status.drift = Some(api::Drift { excess: names(&drift.excess), missing: names(&drift.missing) });
}

fn client_refused(refusal: &ClientRefusal, status: &mut ClientGrantStatus) -> Said {
    if !matches!(refusal, ClientRefusal::HookNotProved(_)) {
        status.effective = None;
    }
    match refusal {
        ClientRefusal::Unknown => Said::refused(
            Stall::AfterArrival,
            Reason::UnknownClient,
            "The identity provider does not know this client. Register it there or correct spec.clientID.",
        ),
        ClientRefusal::Foreign => Said::refused(
            Stall::AfterArrival,
            Reason::ForeignClient,
            "Another cluster manages this client. Release it there first.",
        ),
        ClientRefusal::Replaced => Said::refused(
            Stall::Now,
            Reason::ClientReplaced,
            "The client was registered anew under the same id, and is not taken over while its ClientIdentity pins it. That says how to accept it.",
        ),
        ClientRefusal::HookNotProved(hook) => {
            let why = match hook {
                HookProof::NotCalled => "The identity provider issued a token without asking the token hook",
                HookProof::Unreachable => "The identity provider cannot reach its token hook, and issues nothing",
                HookProof::Elsewhere => "The identity provider asks another token hook, or with another key",
                HookProof::Untried | HookProof::Unasked | HookProof::Proved | HookProof::NotDeclared => {
                    "Whether the identity provider asks the token hook could not be tried"
                }
            };
            let message =
                format!("{why}; the provider's TokenHook condition says more. Nothing is widened until then.");
            Said::working(ConditionStatus::False, Reason::HookNotProved, message)
        }
        ClientRefusal::AdoptionNeeded(beyond) => Said::refused(
            Stall::Now,
            Reason::AdoptionNeeded,
            format!(
                "The client holds more than its grants: {}. A ClientIdentity with adopt: true takes it over; the rest ends.",
                cut(beyond, 3)
            ),
        ),
    }
}

/// A list cut short, with a count.
fn cut(list: &[String], most: usize) -> String {
    let shown = list.iter().take(most).cloned().collect::<Vec<_>>().join(", ");
    if list.len() > most { format!("{shown} and {} more", list.len() - most) } else { shown }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn finish(facts: &Facts<'_>, mut status: ClientGrantStatus, said: Said, now: Timestamp) -> Verdict {
    use ConditionStatus::{False, True, Unknown};
    use ConditionType::{Active, Enforced, Ready, Reconciling, Stalled};

    let generation = Some(facts.grant.generation);
    let mut look = said.look;
    let mut reconciling = said.reconciling;
    let mut stalled = said.stalled == Some(Stall::Now);
    if said.stalled == Some(Stall::AfterArrival) {
        let since = find_condition(&status.conditions, Reconciling)
            .filter(|c| c.observed_generation == generation)
            .map(|c| c.last_transition_time.0);
        let already = find_condition(&status.conditions, Stalled)
            .is_some_and(|c| c.status == "True" && c.observed_generation == generation);
        let due = since.unwrap_or(now) + ARRIVING;
        stalled = already || due <= now;
        reconciling = !stalled;
        if !stalled {
            look = Some(look.map_or(due, |l| l.min(due)));
        }
    }
    if stalled {
        let again = facts.view.provider.as_ref().map_or(Duration::from_secs(60), |p| p.drift_check);
        let at = now + backoff::spread(again, &facts.grant.uid);
        look = Some(look.map_or(at, |l| l.min(at)));
    }

    let list = &mut status.conditions;
    set_condition(list, Ready, said.ready, said.reason, &said.message, generation, now);
    match said.active {
        self::Active::Same(active) => {
            let value = if active { True } else { False };
            set_condition(list, Active, value, said.reason, &said.message, generation, now);
        }
        self::Active::Overdue => set_condition(list, Active, True, said.reason, &said.message, generation, now),
        self::Active::LastKnown => {}
    }
    for (type_, holds) in [(Reconciling, reconciling), (Stalled, stalled)] {
        if holds {
            set_condition(list, type_, True, said.reason, &said.message, generation, now);
        } else {
            remove_condition(list, type_);
        }
    }
    note_drift(&mut status, facts, now);
    note_sharing(&mut status, facts.shared, generation, now);
    if facts.view.observing() {
        let none = api::Enforcement {
            points: Vec::new(),
            not_enforced: vec!["Everything".to_owned()],
            max_residual_seconds: None,
        };
        status.enforcement = Some(none);
        let message = "The provider is only observed: nothing is enforced there.";
        set_condition(&mut status.conditions, Enforced, False, Reason::NothingEnforced, message, generation, now);
    } else if let Some(provider) = &facts.view.provider {
        let capabilities = provider.capabilities;
        let enforcement = api::Enforcement {
            points: capabilities.points.iter().map(|p| (*p).to_owned()).collect(),
            not_enforced: capabilities.not_enforced.iter().map(|p| (*p).to_owned()).collect(),
            max_residual_seconds: capabilities.max_residual_seconds,
        };
        // Nothing is known of a provider that cannot be used. That is no empty object: an apply of one is refused.
        let known = enforcement != api::Enforcement::default();
        status.enforcement = known.then_some(enforcement);
        let (value, reason, message) = if !known {
            (Unknown, Reason::NotProved, "The provider cannot be used: who holds the grant is not known.".to_owned())
        } else if capabilities.points.is_empty() {
            (
                False,
                Reason::NothingEnforced,
                "This provider is a model in memory: nothing is enforced anywhere.".to_owned(),
            )
        } else if !capabilities.not_enforced.is_empty() {
            let parts = capabilities.not_enforced.join(", ");
            (False, Reason::PartlyEnforced, format!("Not held by any enforcement point: {parts}."))
        } else if provider.hook == HookProof::Proved {
            (
                True,
                Reason::AllPartsHeld,
                "Held by every enforcement point; the token hook is proved by a probe.".to_owned(),
            )
        } else {
            (
                Unknown,
                Reason::NotProved,
                "Nobody has proved yet that the identity provider calls the token hook.".to_owned(),
            )
        };
        set_condition(&mut status.conditions, Enforced, value, reason, &message, generation, now);
    }
    if let Ok(terms) = &facts.grant.terms {
        let first = &terms.first_scope;
        let more = terms.authority.scopes.iter().count().saturating_sub(1);
        status.summary = Some(api::Summary {
            subject: facts.grant.subject.to_string(),
            scopes: if more == 0 { first.clone() } else { format!("{first} +{more}") },
        });
        for at in [terms.not_before, Some(terms.expires_at)].into_iter().flatten().filter(|t| *t > now) {
            look = Some(look.map_or(at, |l| l.min(at)));
        }
    }
    status.observed_generation = generation;
    let progress = said.reason == Reason::Progressing;
    let waiting = WAITS.contains(&said.reason);
    Verdict { status: Some(status), release: false, hand_over: false, progress, waiting, look }
}

/// Says whether something else can act as the client. It does not change whether the grant is in force.
fn note_sharing(status: &mut ClientGrantStatus, shared: &Shared, generation: Option<i64>, now: Timestamp) {
    match shared {
        Shared::NotYet => {}
        Shared::Nothing => {
            remove_condition(&mut status.conditions, ConditionType::CredentialExclusive);
            status.sharing = None;
        }
        Shared::Is(verdict) => {
            told::say(&mut status.conditions, verdict, generation, now);
            status.sharing = verdict.counts();
        }
    }
}

/// Whether a status does not say what is known now about a shared credential.
#[must_use]
pub fn sharing_is_news(status: &ClientGrantStatus, shared: &Shared, now: Timestamp) -> bool {
    match shared {
        Shared::NotYet => false,
        // Of most clients nobody speaks: their grants are asked after every evaluation.
        Shared::Nothing => {
            let said = find_condition(&status.conditions, ConditionType::CredentialExclusive);
            said.is_some() || status.sharing.is_some()
        }
        Shared::Is(_) => {
            let mut new = status.clone();
            note_sharing(&mut new, shared, status.observed_generation, now);
            new != *status
        }
    }
}

/// How often a grant has been looked at while it waited for its subject, by how long its status says that
/// it has.
#[must_use]
pub fn looks_so_far(status: &ClientGrantStatus, now: Timestamp) -> u32 {
    let ready = find_condition(&status.conditions, ConditionType::Ready);
    if !ready.is_some_and(|c| WAITS.iter().any(|reason| c.reason == reason.as_str())) {
        return 0;
    }
    let active = find_condition(&status.conditions, ConditionType::Active).filter(|c| c.status == "False");
    let waited = active.map(|c| now.duration_since(c.last_transition_time.0));
    waited.and_then(|w| Duration::try_from(w).ok()).map_or(0, backoff::looks_in)
}

/// Whether a grant needs a look of its own although nothing about it changed: its status does not
/// speak of its generation, is not settled, or speaks of another time.
#[must_use]
pub fn unsettled(view: &ClientView, grant: &Grant, standing: &Standing, status: Option<&ClientGrantStatus>) -> bool {
    let Some(status) = status else { return true };
    let ready = find_condition(&status.conditions, ConditionType::Ready);
    let Some(ready) = ready.filter(|c| c.status == "True" && c.observed_generation == Some(grant.generation)) else {
        return true;
    };
    if view.observing() {
        let refused = matches!(standing, Standing::Refused(_) | Standing::Held(Held::Deleting));
        return refused || ready.reason != Reason::Observed.as_str();
    }
    let open = grant.carried.revocation.is_some_and(|r| r.confirmed_at.is_none());
    let expected = match standing {
        Standing::Live => ready.reason == Reason::Granted.as_str(),
        Standing::Held(Held::Deleting) | Standing::Refused(_) => false,
        Standing::Held(Held::Expired) => ready.reason == Reason::Expired.as_str(),
        Standing::Held(Held::Suspended) => ready.reason == Reason::Suspended.as_str(),
        Standing::Held(Held::RegistrationChanged) => ready.reason == Reason::RegistrationChanged.as_str(),
        Standing::Held(Held::Quarantined) => ready.reason == Reason::Quarantined.as_str(),
        Standing::Held(Held::NotYetValid) => ready.reason == Reason::NotYetValid.as_str(),
    };
    open || !expected || plan::wants_finalizer(grant, standing)
}
