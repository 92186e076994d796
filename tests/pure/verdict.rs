//! What status says of each situation, and what it never says.

use std::sync::Arc;
use std::time::Duration;

use clientgrant::api::condition::{ConditionType, Reason, find_condition};
use clientgrant::api::{self, ClientGrantStatus, instant};
use clientgrant::grant::consent;
use clientgrant::grant::fault::Fault;
use clientgrant::grant::plan::{ClientRefusal, Duty, What};
use clientgrant::grant::rules::Miss;
use clientgrant::grant::standing::{Held, Refusal, Standing};
use clientgrant::grant::verdict::{self, Facts, Finding, Verdict};
use clientgrant::grant::{
    Basis, Capabilities, ClientView, Grant, Mode, ProviderState, RevocationCause, Subject, Timestamp, pending, plan,
};
use clientgrant::sharing::judge::Shared;

use crate::support::*;

const NOW: i64 = 100;
const HANDOVER: Duration = Duration::from_secs(300);

/// What is found, before one thing about it is changed.
struct Found {
    grant: Grant,
    view: ClientView,
    standing: Standing,
    finding: Finding,
    listed: Option<Vec<consent::Consent>>,
    duty: Option<RevocationCause>,
    confirmed: bool,
    fault: Option<Fault>,
    old: Option<ClientGrantStatus>,
    handover: Option<Duration>,
    shared: Shared,
}

fn found() -> Found {
    let grant = grant("g", user("ann"));
    Found {
        view: view([grant.clone()]),
        grant,
        standing: Standing::Live,
        finding: Finding::Exact,
        listed: Some(vec![]),
        duty: None,
        confirmed: false,
        fault: None,
        old: None,
        handover: Some(HANDOVER),
        shared: Shared::Nothing,
    }
}

impl Found {
    fn compose(&self, now: Timestamp) -> Verdict {
        let terms = self.grant.terms.as_ref().ok();
        let reading = self.listed.as_ref().zip(terms).map(|(l, t)| consent::read(l, &self.grant, t, now));
        let duty = self.duty.map(|cause| Duty { grant: Some(Arc::from("g")), what: What::Pair("ann".into()), cause });
        let facts = Facts {
            view: &self.view,
            grant: &self.grant,
            standing: &self.standing,
            finding: &self.finding,
            reading: reading.as_ref(),
            drift: None,
            duty: duty.as_ref(),
            confirmed: self.confirmed,
            fault: self.fault.as_ref(),
            old: self.old.as_ref(),
            looks: 0,
            handover: self.handover,
            shared: &self.shared,
        };
        let verdict = verdict::compose(&facts, now);
        verdict.status.iter().for_each(storable);
        verdict
    }

    fn status(&self) -> ClientGrantStatus {
        self.compose(at(NOW)).status.expect("something is said")
    }
}

/// `Ready Active Reconciling Stalled reason`, with `-` for what is not there.
fn shown(status: &ClientGrantStatus) -> String {
    let of = |type_| find_condition(&status.conditions, type_).map_or("-", |c| c.status.as_str());
    let ready = find_condition(&status.conditions, ConditionType::Ready);
    let [r, a, w, s] =
        [ConditionType::Ready, ConditionType::Active, ConditionType::Reconciling, ConditionType::Stalled].map(
            |type_| match of(type_) {
                "True" => "T",
                "False" => "F",
                "Unknown" => "U",
                _ => "-",
            },
        );
    format!("{r}{a}{w}{s} {}", ready.map_or("-", |c| c.reason.as_str()))
}

fn retry() -> Fault {
    Fault::retry("it is not there")
}

fn denied() -> Fault {
    Fault::NeedsPerson { why: "the identity provider refuses the operator (status 403)".into() }
}

fn active() -> ClientGrantStatus {
    with(found(), |f| f.listed = Some(vec![consent(&f.grant)])).status()
}

fn held(held: Held, cause: RevocationCause, confirmed: bool) -> Found {
    with(found(), |f| {
        f.standing = Standing::Held(held);
        f.old = Some(active());
        f.duty = Some(cause);
        f.confirmed = confirmed;
        f.grant.carried.revocation = open(cause, at(NOW - 1));
        if held == Held::Expired {
            f.grant = terms_with(f.grant.clone(), |t| t.expires_at = at(NOW - 1));
        }
    })
}

/// The table of situations of the API's description.
#[test]
fn every_situation_looks_as_it_should() {
    let refused = |refusal| with(found(), |f| f.standing = Standing::Refused(refusal));
    let client = |refusal| with(found(), |f| f.finding = Finding::Refused(refusal));
    let table: Vec<(Found, &str)> = vec![
        (with(found(), |f| f.listed = Some(vec![consent(&f.grant)])), "TT-- Granted"),
        (with(found(), |f| f.view = view([grant("g", Subject::Any)])), "TF-- AwaitingConsent"),
        (found(), "TF-- AwaitingConsent"),
        (with(found(), |f| f.old = Some(active())), "TF-- ConsentRemoved"),
        (with(found(), |f| f.finding = Finding::Converging), "U-T- Progressing"),
        (with(found(), |f| f.listed = None), "U-T- Progressing"),
        (with(found(), |f| f.duty = Some(RevocationCause::Narrowed)), "U-T- Progressing"),
        (
            with(found(), |f| {
                f.finding = Finding::Converging;
                f.old = Some(active());
            }),
            "UTT- Progressing",
        ),
        (with(found(), |f| f.finding = Finding::Fault(retry())), "U-T- ProviderUnavailable"),
        (with(found(), |f| f.fault = Some(retry())), "U-T- ProviderUnavailable"),
        (with(found(), |f| f.finding = Finding::Fault(denied())), "F--T ProviderDenied"),
        (client(ClientRefusal::Unknown), "FFT- UnknownClient"),
        (client(ClientRefusal::Foreign), "FFT- ForeignClient"),
        (client(ClientRefusal::AdoptionNeeded(vec!["scope admin".into()])), "FF-T AdoptionNeeded"),
        (refused(Refusal::Conflict), "FFT- Conflict"),
        (refused(Refusal::NotAllowed(Miss::Client)), "FFT- NotAllowed"),
        (refused(Refusal::NotSupported("no")), "FFT- NotSupported"),
        (refused(Refusal::SubjectClientCollision), "FFT- SubjectClientCollision"),
        (refused(Refusal::ProviderMissing), "FFT- ProviderNotFound"),
        (refused(Refusal::IssuerTaken), "FFT- ProviderNotFound"),
        (refused(Refusal::Invalid("spec.scopes: no".into())), "FF-T InvalidSpec"),
        (held(Held::Expired, RevocationCause::Expired, true), "TF-- Expired"),
        (held(Held::Suspended, RevocationCause::Suspended, true), "TF-- Suspended"),
        (held(Held::Quarantined, RevocationCause::Quarantined, true), "TF-- Quarantined"),
        (held(Held::RegistrationChanged, RevocationCause::RegistrationChanged, true), "TF-- RegistrationChanged"),
        (client(ClientRefusal::Replaced), "FF-T ClientReplaced"),
        (held(Held::NotYetValid, RevocationCause::NotYetValid, true), "TF-- NotYetValid"),
        (held(Held::Deleting, RevocationCause::Deleted, false), "FTT- Revoking"),
        (
            with(held(Held::Deleting, RevocationCause::Deleted, false), |f| f.fault = Some(retry())),
            "FTT- RevocationBlocked",
        ),
        (
            with(held(Held::Expired, RevocationCause::Expired, false), |f| f.fault = Some(retry())),
            "FTT- RevocationOverdue",
        ),
        (
            with(held(Held::Suspended, RevocationCause::Suspended, false), |f| f.finding = Finding::Fault(retry())),
            "FTT- RevocationOverdue",
        ),
    ];
    for (found, expected) in table {
        let status = found.status();
        assert_eq!(shown(&status), expected, "{:?} {:?}", found.standing, found.finding);
        for condition in &status.conditions {
            assert_eq!(condition.observed_generation, Some(1), "{}", condition.type_);
            assert!(condition.message.chars().count() <= 200, "{}", condition.message);
            assert!(condition.message.ends_with('.'), "{}", condition.message);
            assert!(Reason::parse(&condition.reason).is_some());
        }
        let ready = find_condition(&status.conditions, ConditionType::Ready).unwrap();
        let next_step =
            ready.status == "True" || ready.message.matches('.').count() >= 2 || ready.reason == "Progressing";
        assert!(next_step || matches!(&*ready.reason, "Revoking" | "NotSupported"), "no next step: {}", ready.message);
        assert_eq!(status.effective.is_some(), expected.starts_with("TT") || expected.contains("TT-"), "{expected}");
        assert_eq!(status.observed_generation, Some(1));
        assert_eq!(status.summary.as_ref().unwrap().scopes, "openid +1");
    }
}

/// No event tells that a client is there after all: it is looked for again, soon at first.
#[test]
fn a_client_that_is_not_there_is_looked_for_again() {
    for refusal in [ClientRefusal::Unknown, ClientRefusal::Foreign] {
        let verdict = with(found(), |f| f.finding = Finding::Refused(refusal)).compose(at(NOW));
        assert!(verdict.waiting);
        assert!(verdict.look.is_some_and(|look| look <= at(NOW + 7)), "{:?}", verdict.look);
    }
}

/// An end is not overdue before its five seconds, and says nothing meanwhile.
#[test]
fn an_end_has_its_five_seconds() {
    let expiring = held(Held::Expired, RevocationCause::Expired, false);
    let quiet = expiring.compose(at(NOW));
    let status = quiet.status.expect("the status as it was");
    assert_eq!(shown(&status), shown(&active()));
    assert_eq!(quiet.look, Some(at(NOW + 4)), "five seconds after the instant");
    let late = expiring.compose(at(NOW + 4)).status.expect("overdue");
    assert_eq!(shown(&late), "FTT- RevocationOverdue");
    // The first failure is not waited for.
    let failing = with(expiring, |f| f.finding = Finding::Fault(retry()));
    assert_eq!(shown(&failing.status()), "FTT- RevocationOverdue");
}

#[test]
fn a_deleted_grant_goes_when_nothing_is_owed() {
    let gone = with(held(Held::Deleting, RevocationCause::Deleted, false), |f| f.duty = None);
    let said = gone.compose(at(NOW));
    assert!(said.release && said.status.is_none());
    let done = with(held(Held::Deleting, RevocationCause::Deleted, true), |_| {}).compose(at(NOW));
    assert!(done.release, "confirmed");
    assert!(!held(Held::Deleting, RevocationCause::Deleted, false).compose(at(NOW)).release);
}

/// A generation that cannot be put in force counts as still arriving for two minutes.
#[test]
fn stalled_comes_two_minutes_later_and_stays() {
    let mut refused = with(found(), |f| f.standing = Standing::Refused(Refusal::Conflict));
    let first = refused.compose(at(NOW));
    assert_eq!(shown(first.status.as_ref().unwrap()), "FFT- Conflict");
    assert!(first.look.is_some_and(|at_| at_ <= at(NOW + 120)));
    refused.old = first.status;
    let second = refused.compose(at(NOW + 119)).status;
    assert_eq!(shown(second.as_ref().unwrap()), "FFT- Conflict");
    refused.old = second;
    let third = refused.compose(at(NOW + 120));
    assert_eq!(shown(third.status.as_ref().unwrap()), "FF-T Conflict");
    assert!(third.look.is_some_and(|at_| at_ > at(NOW + 120)), "the outside world is looked at again");
    refused.old = third.status;
    refused.standing = Standing::Refused(Refusal::NotAllowed(Miss::Client));
    assert_eq!(shown(&refused.compose(at(NOW + 130)).status.unwrap()), "FF-T NotAllowed");
    refused.grant.generation = 2;
    assert_eq!(
        shown(&refused.compose(at(NOW + 140)).status.unwrap()),
        "FFT- NotAllowed",
        "a new generation arrives anew"
    );
}

/// The intent is kept until it is confirmed, and a consent that we ended is no removal.
#[test]
fn our_own_revocation_is_written_down_and_taken_away() {
    let asked = held(Held::Suspended, RevocationCause::Suspended, false).status();
    let revocation = asked.revocation.clone().expect("the intent");
    assert_eq!(revocation.cause, RevocationCause::Suspended);
    assert!(revocation.confirmed_at.is_none() && asked.observed.is_some());

    let mut done = with(held(Held::Suspended, RevocationCause::Suspended, true), |f| f.old = Some(asked));
    let status = done.compose(at(NOW + 2)).status.unwrap();
    let confirmed = status.revocation.clone().expect("stays while it is held");
    assert_eq!(confirmed.requested_at, revocation.requested_at);
    assert_eq!(confirmed.confirmed_at, Some(instant::format(at(NOW + 2))));
    assert!(status.observed.is_none() && status.effective.is_none());

    // Resumed: nobody removed anything.
    done.old = Some(status);
    done.standing = Standing::Live;
    (done.duty, done.confirmed) = (None, false);
    let resumed = done.compose(at(NOW + 5)).status.unwrap();
    assert_eq!(shown(&resumed), "TF-- AwaitingConsent");
    assert!(resumed.revocation.is_none());
    // Narrowed while live: likewise.
    let narrowed = with(found(), |f| {
        f.old = Some(active());
        f.duty = Some(RevocationCause::Narrowed);
        f.confirmed = true;
    });
    let status = narrowed.status();
    assert_eq!(shown(&status), "TF-- AwaitingConsent");
    assert!(status.revocation.is_none());
}

#[test]
fn a_removed_consent_is_remembered_until_a_new_one() {
    let removed = with(found(), |f| f.old = Some(active()));
    let status = removed.status();
    assert!(status.observed.as_ref().is_some_and(|o| o.consent_since.is_some() && o.scopes.is_empty()));
    assert!(status.effective.is_none());
    let again = with(found(), |f| f.old = Some(status));
    assert_eq!(shown(&again.status()), "TF-- ConsentRemoved", "looking again changes nothing");
    let welcome = with(again, |f| f.listed = Some(vec![consent(&f.grant)]));
    assert_eq!(shown(&welcome.status()), "TT-- Granted");
}

/// Ended by its date while nobody wrote anything (a crash), then renewed: nobody removed it.
#[test]
fn a_consent_that_reached_its_end_was_not_removed() {
    let brief = with(active(), |s| s.effective.as_mut().unwrap().expires_at = instant::format(at(NOW)));
    let renewed = with(found(), |f| f.old = Some(brief));
    let status = renewed.status();
    assert_eq!(shown(&status), "TF-- AwaitingConsent");
    let again = with(found(), |f| f.old = Some(status));
    assert_eq!(shown(&again.status()), "TF-- AwaitingConsent");
}

#[test]
fn what_is_in_force_is_what_was_consented() {
    let partly = with(found(), |f| {
        let mut consent = consent(&f.grant);
        consent.scopes = ["read"].into_iter().collect();
        consent.context.as_mut().unwrap().expires_at = at(NOW + 7);
        f.listed = Some(vec![consent]);
    });
    let verdict = partly.compose(at(NOW));
    let effective = verdict.status.unwrap().effective.unwrap();
    assert_eq!(effective.scopes, ["read"]);
    assert_eq!(effective.expires_at, instant::format(at(NOW + 7)));
    assert_eq!(verdict.look, Some(at(NOW + 7)), "looked at again when it ends");
    let own = with(found(), |f| {
        f.grant = grant("g", Subject::Own);
        f.listed = None;
    });
    let status = own.status();
    assert_eq!(shown(&status), "TT-- Granted");
    assert!(status.observed.unwrap().consent_since.is_none());
    let admin = with(found(), |f| f.grant = terms_with(f.grant.clone(), |t| t.basis = Basis::AdminConsent));
    assert_eq!(shown(&admin.status()), "TT-- Granted", "the organisation decided");
}

/// The same facts again change no byte, whenever it is: nothing changed, nothing is written.
#[test]
fn nothing_changed_nothing_said() {
    for mut found in [
        found(),
        with(found(), |f| f.listed = Some(vec![consent(&f.grant)])),
        held(Held::Suspended, RevocationCause::Suspended, false),
        with(found(), |f| f.standing = Standing::Refused(Refusal::Conflict)),
        with(found(), |f| f.finding = Finding::Fault(denied())),
    ] {
        let first = found.status();
        found.old = Some(first.clone());
        assert_eq!(found.compose(at(NOW + 1)).status.unwrap(), first, "{:?}", found.standing);
    }
}

#[test]
fn enforcement_is_told_as_it_is() {
    let said = |found: Found| {
        let status = found.status();
        let enforced = find_condition(&status.conditions, ConditionType::Enforced).unwrap().clone();
        (enforced.status, enforced.reason, status.enforcement.unwrap())
    };
    let (value, reason, enforcement) = said(found());
    assert_eq!((&*value, &*reason), ("Unknown", "NotProved"), "nobody has proved the hook yet");
    assert_eq!(enforcement.max_residual_seconds, Some(300));
    let shared = with(found(), |f| {
        f.view = provider_with(f.view.clone(), |p| p.capabilities.not_enforced = &["SharedAdminAPI"]);
    });
    let (value, reason, enforcement) = said(shared);
    assert_eq!((&*value, &*reason), ("False", "PartlyEnforced"));
    assert_eq!(enforcement.not_enforced, ["SharedAdminAPI"]);
    let model = with(found(), |f| f.view = provider_with(f.view.clone(), |p| p.capabilities.points = &[]));
    assert_eq!(said(model).1, "NothingEnforced");
    // A provider that cannot be used: nothing is known of it.
    let unknown = with(found(), |f| {
        f.view = provider_with(f.view.clone(), |p| {
            p.capabilities =
                Capabilities { points: &[], not_enforced: &[], max_residual_seconds: None, ..p.capabilities };
        });
    });
    let status = unknown.status();
    assert_eq!(find_condition(&status.conditions, ConditionType::Enforced).unwrap().reason, "NotProved");
    assert!(status.enforcement.is_none());
}

#[test]
fn looks_again_when_the_clock_changes_something() {
    let early = with(found(), |f| {
        f.grant = terms_with(f.grant.clone(), |t| t.expires_at = at(NOW + 3));
    });
    assert_eq!(early.compose(at(NOW)).look, Some(at(NOW + 3)));
    let waiting = found().compose(at(NOW));
    assert!(waiting.waiting);
    let look = waiting.look.unwrap();
    assert!(look > at(NOW + 3) && look < at(NOW + 7), "a waiting grant is polled: {look}");
    let status = waiting.status.unwrap();
    let looks = [0, 20, 86_400].map(|seconds| verdict::looks_so_far(&status, at(NOW + seconds)));
    assert_eq!(looks, [0, 2, 14], "the pace outlives a restart");
    assert_eq!(verdict::looks_so_far(&status, at(NOW - 20)), 0, "a clock that was set back");
    assert_eq!(verdict::looks_so_far(&active(), at(NOW + 86_400)), 0);
}

#[test]
fn who_needs_a_look_after_a_start() {
    let grant = grant("g", user("ann"));
    let status = active();
    let live = Standing::Live;
    assert!(verdict::unsettled(&view([]), &grant, &live, None));
    assert!(!verdict::unsettled(&view([]), &grant, &live, Some(&status)));
    assert!(verdict::unsettled(&view([]), &with(grant.clone(), |g| g.generation = 2), &live, Some(&status)));
    assert!(verdict::unsettled(&view([]), &with(grant.clone(), |g| g.held = false), &live, Some(&status)));
    assert!(verdict::unsettled(&view([]), &grant, &Standing::Held(Held::Expired), Some(&status)));
    assert!(verdict::unsettled(&view([]), &grant, &Standing::Refused(Refusal::Conflict), Some(&status)));
    let opened = with(grant.clone(), |g| g.carried.revocation = open(RevocationCause::Narrowed, at(1)));
    assert!(verdict::unsettled(&view([]), &opened, &live, Some(&status)));
    let expired = held(Held::Expired, RevocationCause::Expired, true).status();
    assert!(!verdict::unsettled(&view([]), &grant, &Standing::Held(Held::Expired), Some(&expired)));
    let waiting = found().status();
    assert!(verdict::unsettled(&view([]), &grant, &live, Some(&waiting)), "a consent may have been given meanwhile");
}

#[test]
fn a_default_status_speaks_of_nobody() {
    let blank = ClientGrantStatus { observed_generation: Some(-1), ..ClientGrantStatus::default() };
    let status = with(found(), |f| f.old = Some(blank)).status();
    assert_eq!(status.observed_generation, Some(1));
    let requested: api::Revocation = verdict::requested(RevocationCause::Expired, at(NOW));
    assert_eq!(requested.requested_at, instant::format(at(NOW)));
    assert!(at(NOW) + Duration::from_secs(1) > at(NOW));
}

/// Deleted this many seconds ago, and its end is not confirmed.
fn deleting(ago: i64) -> Found {
    with(held(Held::Deleting, RevocationCause::Deleted, false), |f| {
        f.grant.deleting = true;
        f.grant.deleted_at = Some(at(NOW - ago));
        f.grant.carried.revocation = open(RevocationCause::Deleted, at(NOW - ago));
        f.view.grants = view([f.grant.clone()]).grants;
    })
}

#[test]
fn a_deleted_grant_goes_when_its_end_is_confirmed_or_its_duty_is_handed_over() {
    let away = |f: &mut Found| f.finding = Finding::Fault(retry());
    let ends = |f: &mut Found| f.view.terminating = ["finance".to_owned()].into();
    let elsewhere = |f: &mut Found| f.view.terminating = ["it".to_owned()].into();
    // Where nothing is planned no duty is.
    let observe = |f: &mut Found| {
        f.duty = None;
        f.view = provider_with(f.view.clone(), |p| p.mode = Mode::Observe);
    };
    let taken = |f: &mut Found| f.view = provider_with(f.view.clone(), |p| p.state = ProviderState::IssuerTaken);
    let gone = |f: &mut Found| (f.view.provider, f.view.managed) = (None, None);
    let unknown = |f: &mut Found| (f.view.provider, f.view.issuer) = (None, None);
    let unmanaged = |f: &mut Found| f.view.managed = None;
    let never = |f: &mut Found| {
        f.grant.gave = false;
        f.view = provider_with(f.view.clone(), |p| p.rules.clear());
    };
    let forged = |f: &mut Found| f.grant.gave = false;
    let duty = |f: &mut Found| f.handover = None;
    let done = |f: &mut Found| (f.duty, f.confirmed) = (None, false);
    let confirmed = |f: &mut Found| f.confirmed = true;
    // Since when it is deleted; whether it goes, and whether its duty stays.
    type Row<'a> = (&'a str, i64, Vec<&'a dyn Fn(&mut Found)>, (bool, bool));
    let table: Vec<Row<'_>> = vec![
        ("under way", 1, vec![], (false, false)),
        ("confirmed", 1, vec![&confirmed], (true, false)),
        ("nothing to end", 1, vec![&done], (true, false)),
        ("the provider is away", 1, vec![&away], (false, false)),
        ("for almost five minutes", 299, vec![&away], (false, false)),
        ("for five minutes", 300, vec![&away], (true, true)),
        ("it answers, and takes five minutes", 300, vec![], (true, true)),
        ("its namespace ends", 1, vec![&ends], (false, false)),
        ("its namespace ends, which takes long", 29, vec![&ends], (false, false)),
        ("its namespace ends, which takes too long", 30, vec![&ends], (true, true)),
        ("its namespace ends and the provider is away", 0, vec![&ends, &away], (true, true)),
        ("another namespace ends", 30, vec![&elsewhere, &away], (false, false)),
        ("only observed", 0, vec![&observe], (true, true)),
        ("only observed, and nothing to end", 0, vec![&observe, &unmanaged], (true, false)),
        ("only observed, and it never gave anything", 0, vec![&observe, &never], (true, false)),
        ("the provider object is gone", 1, vec![&gone, &away], (false, false)),
        ("the provider object is gone for long", 300, vec![&gone, &away], (true, true)),
        (
            "the provider object is gone, and a finalizer is all there is",
            9_999,
            vec![&gone, &away, &forged],
            (false, false),
        ),
        ("nobody knows the issuer", 9_999, vec![&unknown, &away], (false, false)),
        ("another object speaks for the issuer", 9_999, vec![&taken, &away, &ends], (false, false)),
        ("another object speaks, and it is observed", 9_999, vec![&observe, &taken], (false, false)),
        ("it is a duty itself", 9_999, vec![&duty, &away, &ends], (false, false)),
        ("a duty itself, confirmed", 9_999, vec![&duty, &confirmed], (true, false)),
        ("a duty itself, only observed", 9_999, vec![&duty, &observe], (false, false)),
    ];
    for (what, ago, changes, wanted) in table {
        let found = with(deleting(ago), |f| changes.iter().for_each(|change| change(f)));
        let said = found.compose(at(NOW));
        assert_eq!((said.release, said.hand_over), wanted, "{what}");
        assert_eq!(said.status.is_none(), wanted.0, "{what}");
        if said.hand_over {
            let duty = pending::of(&found.view, &found.grant, at(NOW)).expect("a duty");
            assert_eq!(duty.metadata.name.as_deref(), Some("g"));
            assert_eq!((&*duty.spec.issuer, &*duty.spec.client_id), (ISSUER, CLIENT));
            assert_eq!(duty.spec.since, instant::format(at(NOW - ago)), "{what}");
        }
    }
}

/// A grant that is not being deleted never goes, however long its end takes.
#[test]
fn only_what_is_deleted_is_handed_over() {
    for standing in [
        Standing::Live,
        Standing::Held(Held::Expired),
        Standing::Held(Held::Suspended),
        Standing::Refused(Refusal::Conflict),
    ] {
        let found = with(deleting(9_999), |f| {
            f.grant.deleting = false;
            f.standing = standing.clone();
            f.view.terminating = ["finance".to_owned()].into();
            f.finding = Finding::Fault(retry());
        });
        let said = found.compose(at(NOW));
        assert!(!said.release && !said.hand_over, "{standing:?}");
    }
}

/// As a custom resource and back a duty asks for the same revocation.
#[test]
fn a_duty_asks_for_what_its_grant_asked_for() {
    for subject in [user("ann"), Subject::Any, Subject::Own] {
        let mut found = deleting(7);
        found.grant.subject = subject.clone();
        let mut object = pending::of(&found.view, &found.grant, at(NOW)).expect("a duty");
        object.metadata.uid = Some("u".into());
        let grant = pending::grant(&object).expect("a grant");
        assert_eq!((&grant.subject, grant.held, grant.deleting, grant.gave), (&subject, true, true, true));
        let view = view([grant.clone()]);
        let asked = plan::duty(&view, &grant, &Standing::Held(Held::Deleting), &seen(None), at(NOW)).expect("a duty");
        let what = if let Subject::User(id) = &subject { What::Pair(id.clone()) } else { What::Tokens };
        assert_eq!((asked.what, asked.cause), (what, RevocationCause::Deleted));
        assert_eq!(grant.carried.revocation, open(RevocationCause::Deleted, at(NOW - 7)), "the intent is told");
        // A person closes it.
        object.metadata.finalizers = None;
        let closed = pending::grant(&object).expect("a grant");
        assert!(plan::duty(&view, &closed, &Standing::Held(Held::Deleting), &seen(None), at(NOW)).is_none());
    }
}

#[test]
fn a_duty_says_what_keeps_it() {
    let shown = |found: &Found| {
        let mut object = pending::of(&found.view, &found.grant, at(NOW)).expect("a duty");
        object.metadata.uid = Some("u".into());
        let status = pending::status(&found.view, &object, &found.compose(at(NOW)), at(NOW))?;
        let done = find_condition(&status.conditions, ConditionType::Done).expect("Done");
        assert!(done.message.chars().count() > 10 && done.status == "False", "{done:?}");
        Some(done.reason.clone())
    };
    let duty = |ago: i64, change: &dyn Fn(&mut Found)| {
        with(deleting(ago), |f| {
            f.handover = None;
            change(f);
        })
    };
    let away = |f: &mut Found| f.finding = Finding::Fault(retry());
    assert_eq!(shown(&duty(1, &|_| {})).as_deref(), Some("Revoking"));
    assert_eq!(shown(&duty(1, &away)).as_deref(), Some("RevocationBlocked"));
    assert_eq!(shown(&duty(9, &|f| (f.view.provider, _) = (None, away(f)))).as_deref(), Some("CredentialLost"));
    assert_eq!(shown(&duty(9, &|f| f.confirmed = true)), None, "done");
}

/// Of a grant that is gone although nobody let it go.
#[test]
fn what_a_stripped_finalizer_leaves() {
    let left = |change: &dyn Fn(&mut Found)| {
        let found = with(found(), change);
        pending::stripped(&found.view, &found.grant, at(NOW)).is_some()
    };
    assert!(left(&|_| {}));
    assert!(left(&|f| f.grant.held = false), "the operator saw the finalizer go first");
    assert!(!left(&|f| (f.grant.held, f.grant.gave) = (false, false)), "it never gave anything");
    assert!(!left(&|f| f.view.managed = None), "nothing of ours is at the client");
    assert!(left(&|f| f.view.provider = None), "nobody knows whether it is managed");
    assert!(!left(&|f| (f.view.provider, f.grant.gave) = (None, false)), "a finalizer is all there is");
    assert!(!left(&|f| f.grant.carried.revocation = confirmed(RevocationCause::Expired, at(NOW - 1))));
    assert!(!left(&|f| {
        f.grant.gave = false;
        f.view = provider_with(f.view.clone(), |p| p.rules.clear());
    }));
    assert!(left(&|f| f.view = provider_with(f.view.clone(), |p| p.rules.clear())), "what it gave before still ends");
}

/// A plan that still has something to do about the client is not one of a client that is as it should be.
#[test]
fn a_plan_with_work_left_is_never_exact() {
    use clientgrant::grant::plan::{Duty, Plan, Step, What};
    assert_eq!(Finding::of(&Plan::default()), Finding::Exact);
    let duty = Duty { grant: None, what: What::Tokens, cause: RevocationCause::Narrowed };
    for plan in [
        Plan { steps: vec![Step::SetRegistration], ..Plan::default() },
        Plan { adopt: Some(Default::default()), ..Plan::default() },
        Plan { duties: vec![duty], ..Plan::default() },
        Plan { unproved: true, ..Plan::default() },
    ] {
        assert_eq!(Finding::of(&plan), Finding::Converging, "{plan:?}");
    }
}

#[test]
#[should_panic(expected = "an empty object")]
fn a_status_with_an_empty_object_is_not_storable() {
    storable(&with(active(), |status| status.enforcement = Some(api::Enforcement::default())));
}

#[test]
#[should_panic(expected = "is longer than")]
fn a_status_beyond_the_schema_is_not_storable() {
    storable(&with(active(), |status| status.conditions[0].message = "m".repeat(32_769)));
}
