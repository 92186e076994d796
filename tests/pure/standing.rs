//! How grants stand: live, held back, or refused, and which of them holds the key.

use std::sync::Arc;

use clientgrant::grant::rules::{Miss, Rule};
use clientgrant::grant::standing::{self, Held, Refusal, Standing};
use clientgrant::grant::{Basis, ClientView, Grant, ProviderState, RevocationCause, Subject, Timestamp};

use crate::support::*;

const NOW: i64 = 100;

fn standings(view: &ClientView, now: Timestamp) -> Vec<(String, Standing)> {
    let all = standing::all(view, now).into_iter();
    all.map(|(g, s)| (g.uid.to_string(), s)).collect()
}

fn of(view: &ClientView, uid: &str) -> Standing {
    let all = standings(view, at(NOW));
    let found = all.into_iter().find(|(u, _)| u == uid);
    found.unwrap_or_else(|| panic!("no grant {uid}")).1
}

fn one(grant: Grant) -> Standing {
    of(&view([grant]), "g")
}

fn ann() -> Grant {
    grant("g", user("ann"))
}

#[test]
fn an_admitted_grant_in_its_time_is_live() {
    assert_eq!(one(ann()), Standing::Live);
    assert_eq!(one(grant("g", Subject::Any)), Standing::Live);
    assert_eq!(one(grant("g", Subject::Own)), Standing::Live);
}

#[test]
fn every_way_of_being_held() {
    for (grant, held) in [
        (with(ann(), |g| g.deleting = true), Held::Deleting),
        (terms_with(ann(), |t| t.expires_at = at(NOW)), Held::Expired),
        (terms_with(ann(), |t| t.suspend = true), Held::Suspended),
        (terms_with(ann(), |t| t.not_before = Some(ms(NOW * 1000 + 1))), Held::NotYetValid),
    ] {
        assert_eq!(one(grant), Standing::Held(held));
    }
    let quarantined = with(view([ann()]), |v| v.quarantined = true);
    assert_eq!(of(&quarantined, "g"), Standing::Held(Held::Quarantined));
    let changed = with(view([ann()]), |v| v.suspended = true);
    assert_eq!(of(&changed, "g"), Standing::Held(Held::RegistrationChanged));
}

#[test]
fn the_first_and_the_last_instant() {
    let early = terms_with(ann(), |t| t.not_before = Some(at(NOW)));
    assert_eq!(one(early), Standing::Live);
    let late = terms_with(ann(), |t| t.expires_at = ms(NOW * 1000 + 1));
    assert_eq!(one(late), Standing::Live);
}

#[test]
fn what_is_said_when_several_reasons_hold() {
    let all = terms_with(with(ann(), |g| g.deleting = true), |t| {
        t.expires_at = at(1);
        t.not_before = Some(at(NOW * 2));
        t.suspend = true;
    });
    let order = [Held::Deleting, Held::Expired, Held::Quarantined, Held::Suspended, Held::NotYetValid];
    let mut view = with(view([all]), |v| v.quarantined = true);
    let change = |view: &mut ClientView, change: &dyn Fn(&mut Grant)| {
        let group = view.grants.values_mut().next().unwrap();
        change(Arc::make_mut(&mut group[0]));
    };
    for (i, held) in order.into_iter().enumerate() {
        assert_eq!(of(&view, "g"), Standing::Held(held));
        match i {
            0 => change(&mut view, &|g| g.deleting = false),
            1 => change(&mut view, &|g| g.terms.as_mut().unwrap().expires_at = far()),
            2 => view.quarantined = false,
            3 => change(&mut view, &|g| g.terms.as_mut().unwrap().suspend = false),
            _ => change(&mut view, &|g| g.terms.as_mut().unwrap().not_before = None),
        }
    }
    assert_eq!(of(&view, "g"), Standing::Live);
}

#[test]
fn every_refusal() {
    let refused = |view: ClientView, refusal: Refusal| {
        assert_eq!(of(&view, "g"), Standing::Refused(refusal));
    };
    let unreadable = with(ann(), |g| g.terms = Err("why".into()));
    refused(view([unreadable]), Refusal::Invalid("why".into()));
    let missing = with(view([ann()]), |v| v.provider = None);
    refused(missing, Refusal::ProviderMissing);
    let taken = provider_with(view([ann()]), |p| p.state = ProviderState::IssuerTaken);
    refused(taken, Refusal::IssuerTaken);
    let no_rule = provider_with(view([ann()]), |p| p.rules.clear());
    refused(no_rule, Refusal::NotAllowed(Miss::NoRule));
    let collides = with(view([ann()]), |v| {
        v.collisions.insert("ann".into());
    });
    refused(collides, Refusal::SubjectClientCollision);
    let blind = provider_with(view([ann()]), |p| p.capabilities.lists_consents = false);
    assert!(matches!(of(&blind, "g"), Standing::Refused(Refusal::NotSupported(_))));
    for client in ["a/b", ".", "..", "https://client.example.com/"] {
        let strange = with(view([ann()]), |v| v.key = key_of(client));
        let strange = provider_with(strange, |p| p.capabilities.slash_in_client_id = false);
        assert!(matches!(of(&strange, "g"), Standing::Refused(Refusal::NotSupported(_))), "{client}");
        let able = provider_with(strange, |p| p.capabilities.slash_in_client_id = true);
        assert_eq!(of(&able, "g"), Standing::Live, "{client}");
    }
    let twins = view([ann(), with(grant("older", user("ann")), |g| g.created = at(-2000))]);
    refused(twins, Refusal::Conflict);
}

#[test]
fn a_provider_that_lists_no_consents_can_still_hold_what_needs_none() {
    let blind = |grant| provider_with(view([grant]), |p| p.capabilities.lists_consents = false);
    assert_eq!(of(&blind(grant("g", Subject::Own)), "g"), Standing::Live);
    let admin = terms_with(ann(), |t| t.basis = Basis::AdminConsent);
    assert_eq!(of(&blind(admin), "g"), Standing::Live);
}

#[test]
fn an_unusable_provider_refuses_nothing() {
    let unusable = provider_with(view([ann()]), |p| p.state = ProviderState::Unusable);
    assert_eq!(of(&unusable, "g"), Standing::Live);
}

#[test]
fn a_collision_concerns_only_the_user_it_names() {
    let all = [grant("a", user("ann")), grant("b", user("bob")), grant("c", Subject::Any)];
    let view = with(view(all), |v| {
        v.collisions.insert("ann".into());
    });
    assert_eq!(of(&view, "a"), Standing::Refused(Refusal::SubjectClientCollision));
    assert_eq!(of(&view, "b"), Standing::Live);
    assert_eq!(of(&view, "c"), Standing::Live);
}

#[test]
fn the_oldest_holds_the_key_and_the_uid_breaks_ties() {
    let old = with(grant("z", user("ann")), |g| g.created = at(-3000));
    let first = grant("a", user("ann"));
    let second = grant("b", user("ann"));
    let conflict = Standing::Refused(Refusal::Conflict);
    let three = view([second.clone(), first.clone(), old]);
    assert_eq!(of(&three, "z"), Standing::Live);
    assert_eq!(of(&three, "a"), conflict);
    assert_eq!(of(&three, "b"), conflict);
    let two = view([second, first]);
    assert_eq!(of(&two, "a"), Standing::Live);
    assert_eq!(of(&two, "b"), conflict);
}

#[test]
fn subjects_have_keys_of_their_own() {
    let all = [grant("a", user("ann")), grant("b", user("bob")), grant("c", Subject::Any), grant("d", Subject::Own)];
    let view = view(all);
    assert!(standings(&view, at(NOW)).iter().all(|(_, s)| *s == Standing::Live));
}

/// The older grant in some state, and whether the younger one may have the key.
#[test]
fn who_keeps_the_key() {
    let young = || grant("young", user("ann"));
    let old = || with(grant("old", user("ann")), |g| g.created = at(-2000));
    let over = || terms_with(old(), |t| t.expires_at = at(NOW));
    let conflict = Standing::Refused(Refusal::Conflict);
    for (older, expected) in [
        (terms_with(old(), |t| t.suspend = true), conflict.clone()),
        (terms_with(old(), |t| t.not_before = Some(at(NOW * 2))), conflict.clone()),
        (with(old(), |g| g.deleting = true), conflict.clone()),
        (over(), conflict.clone()),
        (with(over(), |g| g.deleting = true), conflict.clone()),
        (with(over(), |g| g.carried.revocation = open(RevocationCause::Expired, at(NOW))), conflict.clone()),
        (with(over(), |g| g.carried.revocation = confirmed(RevocationCause::Expired, at(NOW))), Standing::Live),
        (with(over(), |g| g.held = false), Standing::Live),
        (with(old(), |g| g.terms = Err("why".into())), Standing::Live),
    ] {
        assert_eq!(of(&view([older, young()]), "young"), expected);
    }
    let quarantined = with(view([old(), young()]), |v| v.quarantined = true);
    assert_eq!(of(&quarantined, "old"), Standing::Held(Held::Quarantined));
    assert_eq!(of(&quarantined, "young"), conflict);
}

#[test]
fn a_grant_that_the_rules_refuse_holds_no_key() {
    let old = terms_with(grant("old", user("ann")), |t| {
        t.authority = authority("payments", "", CODE);
    });
    let old = with(old, |g| g.created = at(-2000));
    let only_reading = Rule { scopes: Some(vec![pattern("openid"), pattern("read")]), ..Rule::default() };
    let view = provider_with(view([old, grant("young", user("ann"))]), |p| {
        p.rules = vec![only_reading];
    });
    let miss = Miss::Scope("payments".into());
    assert_eq!(of(&view, "old"), Standing::Refused(Refusal::NotAllowed(miss)));
    assert_eq!(of(&view, "young"), Standing::Live);
}

#[test]
fn the_next_change_is_the_next_instant_of_any_grant() {
    let early = terms_with(grant("a", user("ann")), |t| {
        t.not_before = Some(at(150));
        t.expires_at = at(300);
    });
    let late = terms_with(grant("b", user("bob")), |t| t.expires_at = at(200));
    let view = view([early, late]);
    for (now, next) in [(100, Some(150)), (150, Some(200)), (200, Some(300)), (300, None)] {
        assert_eq!(standing::next_change(&view, at(now)), next.map(at));
    }
}

#[test]
fn who_may_speak_is_decided_by_namespace_and_client_alone() {
    let narrow =
        Rule { clients: Some(vec![pattern("app")]), scopes: Some(vec![pattern("nothing")]), ..Rule::default() };
    let other = Rule { clients: Some(vec![pattern("other-*")]), ..Rule::default() };
    let grant = ann();
    let speaks = |rules: Vec<Rule>| {
        let view = provider_with(view([ann()]), |p| p.rules = rules);
        standing::may_speak(&view, &grant)
    };
    assert!(speaks(vec![Rule::default()]));
    assert!(speaks(vec![other.clone(), narrow]));
    assert!(!speaks(vec![other]));
    assert!(!speaks(vec![]));
    let missing = with(view([ann()]), |v| v.provider = None);
    assert!(!standing::may_speak(&missing, &grant));
}
