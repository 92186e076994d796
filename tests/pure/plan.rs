//! What is planned for a client, by tables: adoption, ceiling, duties, passes, and when an end counts.

use std::sync::Arc;
use std::time::Duration;

use clientgrant::grant::collect::{Candidate, Care, Picture, Sweep};
use clientgrant::grant::observed::{Observation, ObservedClient};
use clientgrant::grant::plan::{self, ClientRefusal, Plan, Step, Track, Warrant, What};
use clientgrant::grant::standing::{self, Standing};
use clientgrant::grant::{
    Adoption, Authority, Basis, ClientView, Grant, GrantType, Managed, RevocationCause, Subject, Timestamp,
};

use crate::support::*;

const NOW: i64 = 100;

fn planned(view: &ClientView, seen: &Observation, track: &Track, now: Timestamp) -> Plan {
    plan::plan(view, seen, track, CLUSTER, now)
}

fn plan_now(view: &ClientView, seen: &Observation) -> Plan {
    planned(view, seen, &known(), at(NOW))
}

/// The ceiling was read back before, so that what is beyond it after an edit is no surprise.
fn known() -> Track {
    Track { ceiling: Some(authority("openid read", "", &[CODE, OWN].concat())), ..Track::default() }
}

fn ann() -> Grant {
    grant("g", user("ann"))
}

fn ceiling() -> Authority {
    authority("openid read", "", CODE)
}

fn exact() -> Observation {
    listing(seen(Some(registered(ceiling()))), "ann", vec![consent(&ann())])
}

fn pair(uid: &str) -> Step {
    Step::RevokePair { subject: "ann".into(), warrant: Warrant::Asked(Arc::from(uid)) }
}

fn tokens(warrant: Warrant) -> Step {
    Step::RevokeClientTokens { warrant }
}

fn asked(uid: &str) -> Warrant {
    Warrant::Asked(Arc::from(uid))
}

#[test]
fn what_is_as_it_should_be_needs_nothing() {
    let plan = plan_now(&view([ann()]), &exact());
    assert!(plan.is_empty() && plan.duties.is_empty() && plan.next.is_none() && plan.refusal.is_none());
    assert_eq!(plan.ceiling, ceiling());
}

#[test]
fn the_ceiling_is_the_union_of_the_live_grants() {
    let bob = terms_with(grant("b", user("bob")), |t| t.authority = authority("write", "https://a", CODE));
    let eve = terms_with(grant("e", user("eve")), |t| {
        t.authority = authority("admin", "https://b", CODE);
        t.suspend = true;
    });
    let plan = plan_now(&view([ann(), bob, grant("own", Subject::Own), eve]), &exact());
    let flows = [GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::ClientCredentials];
    assert_eq!(plan.ceiling, authority("openid read write", "https://a", &flows));
    assert!(plan.steps.contains(&Step::SetRegistration));
}

#[test]
fn a_registration_that_differs_in_anything_is_set() {
    let wrong: Vec<ObservedClient> = vec![
        with(registered(ceiling()), |c| c.authority.scopes = ["openid"].into_iter().collect()),
        with(registered(ceiling()), |c| c.settings.push("skip_consent")),
        with(registered(ceiling()), |c| c.mark = None),
    ];
    for client in wrong {
        let seen = listing(seen(Some(client.clone())), "ann", vec![consent(&ann())]);
        assert_eq!(plan_now(&view([ann()]), &seen).steps, [Step::SetRegistration], "{client:?}");
    }
}

/// More than the ceiling, and no edit of ours explains it: restored, and tokens from it end twice.
#[test]
fn an_excess_also_ends_the_clients_tokens() {
    let mut track = Track { ceiling: Some(ceiling()), ..Track::default() };
    let wide = with(registered(ceiling()), |c| _ = c.extra.insert("grant type implicit".into()));
    let excess = listing(seen(Some(wide)), "ann", vec![consent(&ann())]);
    let view = view([ann()]);
    let first = planned(&view, &excess, &track, at(NOW));
    assert_eq!(first.steps, [tokens(Warrant::Excess), Step::SetRegistration]);
    for step in &first.steps {
        track.carried_out(step, &first.duties, at(NOW));
    }
    let between = planned(&view, &exact(), &track, at(NOW + 1));
    assert!(between.is_empty() && between.next == Some(at(NOW + 2)) && between.duties.len() == 1);
    let second = planned(&view, &exact(), &track, at(NOW + 2));
    assert_eq!(second.steps, [tokens(Warrant::Excess)]);
    track.carried_out(&second.steps[0], &second.duties, at(NOW + 2));
    assert!(planned(&view, &exact(), &track, at(NOW + 2)).complete);

    // The same registration after an edit that narrowed the grant is what we ourselves had set.
    let ours = Track { ceiling: Some(authority("openid read write", "", CODE)), ..Track::default() };
    let seen = listing(seen(Some(registered(authority("openid read write", "", CODE)))), "ann", vec![]);
    assert_eq!(planned(&view, &seen, &ours, at(NOW)).steps, [Step::SetRegistration]);
}

fn unmanaged(grant: Grant) -> ClientView {
    with(view([grant]), |v| v.managed = None)
}

#[test]
fn adoption_writes_down_what_was_there_and_ends_old_tokens() {
    let narrow = ObservedClient { authority: authority("read", "", CODE), ..ObservedClient::default() };
    let found = listing(seen(Some(narrow.clone())), "ann", vec![]);
    let bare = plan_now(&unmanaged(with(ann(), |g| g.held = false)), &found);
    assert_eq!(bare.finalizers, [Arc::from("g")]);
    assert!(bare.adopt.is_none() && bare.steps.is_empty(), "the finalizer comes first: {bare:?}");
    let plan = plan_now(&unmanaged(ann()), &found);
    assert_eq!(plan.adopt, Some(narrow));
    assert_eq!(plan.steps, [tokens(Warrant::Adoption), Step::SetRegistration]);

    // The record without its completion: the tokens end (again) after a crash.
    let half = with(view([ann()]), |v| v.managed = Some(Managed { complete: false }));
    let plan = plan_now(&half, &exact());
    assert_eq!(plan.steps, [tokens(Warrant::Adoption)]);
}

#[test]
fn a_client_that_holds_more_waits_for_somebody_to_say_so() {
    let wide = ObservedClient { authority: authority("read admin", "https://a", CODE), ..ObservedClient::default() };
    let wide = with(wide, |c| _ = c.extra.insert("response type token".into()));
    let seen = listing(seen(Some(wide)), "ann", vec![]);
    let refused = plan_now(&unmanaged(with(ann(), |g| g.held = false)), &seen);
    let beyond = ["audience https://a", "response type token", "scope admin"].map(str::to_owned).to_vec();
    assert_eq!(refused.refusal, Some(ClientRefusal::AdoptionNeeded(beyond)));
    assert!(refused.is_empty(), "nothing is touched, not even the grant: {refused:?}");
    let said = with(unmanaged(ann()), |v| v.adopt = true);
    assert!(plan_now(&said, &seen).adopt.is_some());
    let automatic = provider_with(unmanaged(ann()), |p| p.adoption = Adoption::Automatic);
    assert!(plan_now(&automatic, &seen).adopt.is_some());
    let suspended = with(unmanaged(terms_with(ann(), |t| t.suspend = true)), |v| v.adopt = true);
    assert!(plan_now(&suspended, &seen).is_empty(), "only a live grant adopts");
}

#[test]
fn one_that_was_registered_anew_is_not_taken_over_while_it_is_pinned() {
    let born = |text: &str| Some(text.to_owned());
    let wide =
        ObservedClient { authority: authority("openid admin", "", CODE), born: born("new"), ..Default::default() };
    let adopted = |pins: &[&str], client: &ObservedClient, managed: bool| {
        let view = with(view([ann()]), |v| {
            v.born = pins.iter().map(|pin| (*pin).to_owned()).collect();
            v.adopt = true;
            v.managed = managed.then_some(Managed { complete: true });
        });
        let plan = plan_now(&view, &listing(seen(Some(client.clone())), "ann", vec![]));
        match plan.refusal {
            Some(ClientRefusal::Replaced) => {
                assert!(plan.adopt.is_none() && !plan.steps.contains(&Step::SetRegistration));
                false
            }
            _ => plan.steps.contains(&Step::SetRegistration),
        }
    };
    for managed in [true, false] {
        assert!(adopted(&[], &wide, managed), "nobody pins it");
        assert!(adopted(&["new"], &wide, managed));
        assert!(!adopted(&["old"], &wide, managed));
        assert!(!adopted(&["new", "old"], &wide, managed), "each that speaks has to accept it");
        assert!(adopted(&["old"], &with(wide.clone(), |c| c.born = None), managed), "not every provider says it");
    }
}

#[test]
fn unknown_and_foreign_clients_are_left_alone() {
    let bare = || with(ann(), |g| g.held = false);
    let unknown = plan_now(&unmanaged(bare()), &listing(seen(None), "ann", vec![]));
    assert_eq!(unknown.refusal, Some(ClientRefusal::Unknown));
    assert!(unknown.is_empty());
    let idle = plan_now(&unmanaged(terms_with(bare(), |t| t.expires_at = at(1))), &seen(None));
    assert!(idle.is_empty() && idle.refusal.is_none());
    let theirs = with(registered(ceiling()), |c| c.mark = Some("cluster-2".into()));
    for view in [unmanaged(bare()), with(unmanaged(bare()), |v| v.adopt = true), view([bare()])] {
        let plan = plan_now(&view, &listing(seen(Some(theirs.clone())), "ann", vec![]));
        assert_eq!(plan.refusal, Some(ClientRefusal::Foreign));
        assert!(plan.is_empty(), "{plan:?}");
    }
}

/// Every way to end, and what it asks to be revoked.
#[test]
fn every_end_asks_for_its_revocation() {
    type End = fn(Grant) -> Grant;
    let ends: [(End, RevocationCause); 4] = [
        (|g| with(g, |g| g.deleting = true), RevocationCause::Deleted),
        (|g| terms_with(g, |t| t.expires_at = at(NOW)), RevocationCause::Expired),
        (|g| terms_with(g, |t| t.suspend = true), RevocationCause::Suspended),
        (|g| terms_with(g, |t| t.not_before = Some(at(NOW * 2))), RevocationCause::NotYetValid),
    ];
    for (end, cause) in ends {
        for subject in [user("ann"), Subject::Any, Subject::Own] {
            let what = if subject == user("ann") { What::Pair("ann".into()) } else { What::Tokens };
            let grant = end(grant("g", subject));
            let plan = plan_now(&view([grant.clone()]), &listing(seen(Some(registered(ceiling()))), "ann", vec![]));
            let duty = plan.owes("g").unwrap_or_else(|| panic!("{cause:?} {grant:?}"));
            assert_eq!((&duty.what, duty.cause), (&what, cause));
            assert_eq!(plan.steps.len(), 2, "the revocation, and the ceiling without it: {:?}", plan.steps);
            let consent = matches!(what, What::Pair(_));
            let waits = consent && cause != RevocationCause::Expired;
            assert_eq!(!plan.intents.is_empty(), waits, "the date waits for no write, nor do tokens without a consent");

            let edited = with(grant.clone(), |g| g.generation = 2);
            let edited = plan_now(&view([edited]), &listing(seen(Some(registered(ceiling()))), "ann", vec![]));
            let written = [(Arc::from("g"), cause)];
            assert_eq!(edited.intents, &written[..usize::from(consent)], "an edit that ends it is written down");

            // What never carried the finalizer was never in force.
            let never = with(grant.clone(), |g| g.held = false);
            assert!(plan_now(&view([never]), &exact()).owes("g").is_none());
            // What is confirmed has ended.
            let over = with(grant, |g| g.carried.revocation = confirmed(cause, at(NOW)));
            assert!(plan_now(&view([over]), &exact()).owes("g").is_none() || what == What::Pair("ann".into()));
        }
    }
    let quarantined = with(view([ann()]), |v| v.quarantined = true);
    assert_eq!(plan_now(&quarantined, &exact()).owes("g").unwrap().cause, RevocationCause::Quarantined);
    let changed = plan_now(&with(view([ann()]), |v| v.suspended = true), &exact());
    assert_eq!(changed.owes("g").unwrap().cause, RevocationCause::RegistrationChanged);
    assert!(changed.steps.contains(&Step::SetRegistration) && changed.ceiling.scopes.is_empty());
    let lost = with(view([with(ann(), |g| g.deleting = true)]), |v| v.managed = None);
    let foreign = seen(Some(with(registered(ceiling()), |c| c.mark = None)));
    assert!(plan_now(&lost, &foreign).steps.is_empty(), "nothing of ours can be at a client that was never adopted");
    // One that bears our mark was: its record was lost, and is written again before anything ends.
    let restored = plan_now(&lost, &exact());
    assert!(restored.adopt.is_some() && restored.owes("g").is_some());
    let none = with(lost, |v| v.grants.clear());
    assert!(plan_now(&none, &exact()).is_empty());
}

/// Suspended, resumed and suspended again faster than anybody looked: what it gave in between ends.
#[test]
fn an_ended_grant_that_gave_again_is_ended_again() {
    let over = |grant: Grant| {
        with(terms_with(grant, |t| t.suspend = true), |g| {
            g.carried.revocation = confirmed(RevocationCause::Suspended, at(1));
        })
    };
    let none = authority("", "", &[]);
    let listed = |consents| listing(seen(Some(registered(none.clone()))), "ann", consents);
    assert!(plan_now(&view([over(ann())]), &listed(vec![])).is_empty());
    let gave = plan_now(&view([over(ann())]), &listed(vec![consent(&ann())]));
    assert_eq!(gave.steps, [pair("g")]);
    assert_eq!(gave.intents, [(Arc::from("g"), RevocationCause::Suspended)]);
    // A successor's consents are not its business: they would be destroyed for good.
    let other = consent(&grant("successor", user("ann")));
    assert!(plan_now(&view([over(ann())]), &listed(vec![other])).is_empty());

    let own = over(grant("own", Subject::Own));
    assert!(plan_now(&view([own.clone()]), &listed(vec![])).is_empty());
    let reopened = with(own, |g| g.reopened = true);
    assert_eq!(plan_now(&view([reopened]), &listed(vec![])).steps, [tokens(asked("own"))]);

    let held = |grant| standing::all(&view([grant]), at(NOW)).remove(0);
    let passed = |n: i64| {
        let passes = plan::Passes { first: Some(at(1)), second: (n == 2).then(|| at(3)) };
        Track { grants: [(Arc::from("g"), (RevocationCause::Suspended, passes))].into(), ..Track::default() }
    };
    let opened = || with(over(ann()), |g| g.carried.revocation = open(RevocationCause::Suspended, at(1)));
    for (grant, wanted, changed, passes, reads) in [
        (ann(), true, false, 0, true),
        (ann(), false, true, 0, false),
        (over(ann()), true, true, 0, true),
        (over(ann()), true, false, 0, false),
        (opened(), true, true, 1, false),
        (opened(), false, false, 2, true),
    ] {
        let (grant, standing) = held(grant);
        assert_eq!(plan::by_list(&grant, &standing, wanted, changed, &passed(passes)), reads, "{grant:?}");
    }
}

#[test]
fn a_pair_is_ended_for_what_is_listed() {
    let ended = |listed: Vec<_>| {
        let plan = plan_now(&view([ann()]), &listing(seen(Some(registered(ceiling()))), "ann", listed));
        plan.owes("g").map(|d| d.cause)
    };
    let narrowed = Some(RevocationCause::Narrowed);
    assert_eq!(ended(vec![]), None);
    assert_eq!(ended(vec![consent(&ann())]), None);
    assert_eq!(ended(vec![with(consent(&ann()), |c| c.remembered = true)]), narrowed);
    assert_eq!(ended(vec![with(consent(&ann()), |c| c.scopes = ["admin"].into_iter().collect())]), narrowed);
    assert_eq!(ended(vec![consent(&grant("old", user("ann")))]), narrowed);
    // Admin consents are listed too, and must not go beyond either.
    let admin = terms_with(ann(), |t| t.basis = Basis::AdminConsent);
    let wide = with(consent(&ann()), |c| c.scopes = ["admin"].into_iter().collect());
    let plan = plan_now(&view([admin]), &listing(seen(Some(registered(ceiling()))), "ann", vec![wide]));
    assert!(plan.owes("g").is_some());
    // Without a list there is nothing to decide from.
    let unread = plan_now(&view([ann()]), &seen(Some(registered(ceiling()))));
    assert!(unread.owes("g").is_none());
}

#[test]
fn consents_of_a_grant_that_is_merely_refused_stay() {
    let refused = |grant: Grant| provider_with(view([grant]), |p| p.rules.clear());
    let plan = plan_now(&refused(ann()), &exact());
    assert_eq!(plan.steps, [Step::SetRegistration], "the ceiling acts at once");
    assert!(plan.owes("g").is_none(), "an edit by mistake must not destroy a consent for good");
    let begun = with(ann(), |g| g.carried.revocation = open(RevocationCause::Suspended, at(1)));
    assert!(plan_now(&refused(begun), &exact()).owes("g").is_some(), "what was begun is finished");
    let own = plan_now(&refused(grant("own", Subject::Own)), &exact());
    assert_eq!(own.owes("own").unwrap().cause, RevocationCause::Refused, "tokens can be had again");
}

/// Forced off, or unknown to an older copy of the cluster: it waits for the sweep, and then all of it goes.
#[test]
fn a_client_whose_grants_vanished_waits_for_the_sweep() {
    let vanished = view([]);
    for track in [known(), Track::default()] {
        let plan = planned(&vanished, &exact(), &track, at(NOW));
        assert!(plan.is_empty() && plan.duties.is_empty(), "{plan:?}");
    }
    let care = Care { agree: Duration::ZERO, grace: Duration::ZERO, most: 1, percent: 0 };
    let candidate = Candidate::Client(client_key().client);
    let picture = Picture { candidates: [candidate].into(), total: 1, ..Picture::default() };
    let (mut collect, hold) = Sweep::default().take_in(&picture, care, None, at(NOW));
    assert_eq!(hold, None);
    let collect = collect.remove(&client_key().client).unwrap();
    let proof = collect.client.clone().unwrap();
    let plan = plan_now(&with(vanished, |v| v.collect = collect.clone()), &exact());
    assert_eq!(plan.steps, [tokens(Warrant::Garbage(proof)), Step::SetRegistration]);
    assert!(plan.ceiling.scopes.is_empty());
    // A grant that came meanwhile is stronger than what the sweep said.
    let plan = plan_now(&with(view([ann()]), |v| v.collect = collect), &exact());
    assert!(plan.is_empty(), "{plan:?}");
}

#[test]
fn a_narrower_grant_without_a_list_goes_by_the_edit() {
    for subject in [Subject::Any, Subject::Own] {
        let narrowed = with(grant("g", subject), |g| g.narrowed = true);
        let plan = plan_now(&view([narrowed]), &exact());
        assert_eq!(plan.owes("g").unwrap().cause, RevocationCause::Narrowed);
    }
}

/// The second pass comes two seconds after the first, and only both count.
#[test]
fn two_passes_and_then_it_counts() {
    let view = view([terms_with(ann(), |t| t.suspend = true)]);
    let gone = listing(seen(Some(registered(authority("", "", &[])))), "ann", vec![]);
    let mut track = known();
    let first = planned(&view, &exact(), &track, at(NOW));
    assert_eq!(first.steps, [pair("g"), Step::SetRegistration]);
    assert_eq!(first.intents, [(Arc::from("g"), RevocationCause::Suspended)]);
    track.carried_out(&first.steps[0], &first.duties, at(NOW));

    let duty = first.duties[0].clone();
    let between = planned(&view, &gone, &track, ms(NOW * 1000 + 1999));
    assert!(between.steps.is_empty() && between.next == Some(at(NOW + 2)));
    assert!(!plan::confirmed(&duty, &track, &gone, &between));
    let second = planned(&view, &gone, &track, at(NOW + 2));
    assert_eq!(second.steps, [pair("g")]);
    track.carried_out(&second.steps[0], &second.duties, at(NOW + 2));

    let after = planned(&view, &gone, &track, at(NOW + 2));
    assert!(after.steps.is_empty() && after.next.is_none());
    assert!(plan::confirmed(&duty, &track, &gone, &after));
    let unread = seen(Some(registered(authority("", "", &[]))));
    assert!(!plan::confirmed(&duty, &track, &unread, &after), "not without a read-back");
    let wide = listing(seen(Some(registered(ceiling()))), "ann", vec![]);
    assert!(
        !plan::confirmed(&duty, &track, &wide, &planned(&view, &wide, &track, at(NOW + 2))),
        "nor above the ceiling"
    );
    let again = planned(&view, &exact(), &track, at(NOW + 3));
    assert!(again.steps.contains(&pair("g")), "listed again after both passes: once more");
    assert!(!plan::confirmed(&duty, &track, &exact(), &again));
}

#[test]
fn another_cause_is_another_end() {
    let suspended = view([terms_with(ann(), |t| t.suspend = true)]);
    let mut track = known();
    for now in [NOW, NOW + 2] {
        let plan = planned(&suspended, &exact(), &track, at(now));
        track.carried_out(&pair("g"), &plan.duties, at(now));
    }
    let deleting = view([with(terms_with(ann(), |t| t.suspend = true), |g| g.deleting = true)]);
    let plan = planned(&deleting, &exact(), &track, at(NOW + 3));
    assert_eq!(plan.owes("g").unwrap().cause, RevocationCause::Deleted);
    assert!(plan.steps.contains(&pair("g")));
    track.carried_out(&pair("g"), &plan.duties, at(NOW + 3));
    assert_eq!(planned(&deleting, &exact(), &track, at(NOW + 4)).next, None.or(Some(at(NOW + 5))));
}

#[test]
fn one_call_serves_everybody_who_asks_for_it() {
    let ended = |uid: &str, subject: Subject| terms_with(grant(uid, subject), |t| t.expires_at = at(NOW));
    let view = view([ended("any", Subject::Any), ended("own", Subject::Own), ended("g", user("ann"))]);
    let mut track = known();
    let plan = planned(&view, &exact(), &track, at(NOW));
    let calls = plan.steps.iter().filter(|s| **s != Step::SetRegistration).count();
    assert_eq!((calls, plan.duties.len()), (2, 3), "{:?}", plan.steps);
    for step in &plan.steps {
        track.carried_out(step, &plan.duties, at(NOW));
    }
    assert_eq!(track.grants.len(), 3);
}

#[test]
fn a_live_grant_gets_its_finalizer_first() {
    let bare = with(ann(), |g| g.held = false);
    assert_eq!(plan_now(&view([bare.clone()]), &exact()).finalizers, [Arc::from("g")]);
    assert!(plan_now(&view([ann()]), &exact()).finalizers.is_empty());
    let second = with(terms_with(grant("b", user("bob")), |t| t.authority = authority("write", "", CODE)), |g| {
        g.held = false;
    });
    let plan = plan_now(&view([ann(), second]), &exact());
    assert_eq!((plan.ceiling, plan.steps), (ceiling(), vec![]), "the ceiling is not widened before it has it");
    for standing in [Standing::Held(standing::Held::Expired), Standing::Refused(standing::Refusal::Conflict)] {
        assert!(!plan::wants_finalizer(&bare, &standing), "what gives nothing holds nothing up");
    }
}

/// Nothing names bob but a grant for anybody: what he holds under it is looked at where somebody asks.
#[test]
fn what_a_subject_holds_under_a_grant_for_anybody_is_ended_where_it_must() {
    let any = || grant("any", Subject::Any);
    let found = |consent| listing(seen(Some(registered(ceiling()))), "bob", vec![consent]);
    let bobs = Step::RevokePair { subject: "bob".into(), warrant: asked("any") };
    let remembered = with(consent(&any()), |c| c.remembered = true);
    assert_eq!(plan_now(&view([any()]), &found(remembered.clone())).steps, [bobs]);
    assert!(plan_now(&view([any()]), &found(consent(&any()))).is_empty());
    let named = plan_now(&view([any(), grant("b", user("bob"))]), &found(remembered.clone()));
    assert_eq!(named.owes("b").map(|d| d.cause), Some(RevocationCause::Narrowed), "his own grant decides");
    assert!(
        plan_now(&view([terms_with(any(), |t| t.suspend = true)]), &found(remembered))
            .steps
            .iter()
            .all(|s| !matches!(s, Step::RevokePair { .. }))
    );
}

/// A live grant speaks for the subject: another one that ends takes nothing of it along.
#[test]
fn what_ends_beside_a_live_grant_of_the_same_subject_ends_nothing_of_it() {
    let young = |g| with(g, |g: &mut Grant| g.created = at(-10));
    for other in [
        young(with(grant("b", user("ann")), |g| g.deleting = true)),
        young(terms_with(grant("b", user("ann")), |t| t.expires_at = at(NOW))),
    ] {
        let plan = plan_now(&view([ann(), other]), &exact());
        assert!(plan.steps.is_empty() && plan.owes("b").is_none(), "{plan:?}");
    }
    // What the other one gave is listed under its name, and taints the pair of the live one.
    let others = listing(seen(Some(registered(ceiling()))), "ann", vec![consent(&grant("b", user("ann")))]);
    let gone = young(with(grant("b", user("ann")), |g| g.deleting = true));
    assert!(plan_now(&view([ann(), gone]), &others).owes("g").is_some());
}

/// Tenants can write finalizers, too.
#[test]
fn a_finalizer_alone_ends_nothing_of_a_client_that_its_namespace_may_not_touch() {
    for subject in [user("ann"), Subject::Any, Subject::Own] {
        for ended in [false, true] {
            let set = |gave: bool| {
                let grant = with(grant("g", subject.clone()), |g| (g.gave, g.deleting) = (gave, ended));
                provider_with(view([grant]), |p| p.rules.clear())
            };
            let seen = listing(seen(Some(registered(Authority::default()))), "ann", vec![]);
            let duties = |view: &ClientView| plan_now(view, &seen).duties;
            assert!(duties(&set(false)).is_empty(), "{subject} {ended}");
            // What a `User` gave stays listed until a person or a date ends it.
            let due = ended || !matches!(subject, Subject::User(_));
            assert_eq!(duties(&set(true)).len(), usize::from(due), "{subject} {ended}");
        }
    }
}
