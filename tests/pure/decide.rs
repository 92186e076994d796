//! What a client may have for a subject, by tables; and what one grant never changes for another.

use std::sync::Arc;

use clientgrant::grant::consent::{Consent, Flaw};
use clientgrant::grant::decide::{self, Asked, ConsentAsked, ConsentDecision, Decision, Deny, Lookup};
use clientgrant::grant::rules::Miss;
use clientgrant::grant::standing::{Held, Refusal};
use clientgrant::grant::{
    Basis, ClientView, Grant, GrantType, ProviderState, RevocationCause, Subject, UnmanagedClients,
};
use proptest::prelude::*;

use crate::support::*;

const NOW: i64 = 100;

fn asked<'a>(subject: &'a str, scopes: &str, consent: Lookup<'a>) -> Asked<'a> {
    Asked {
        grant_type: Some(GrantType::AuthorizationCode),
        subject,
        scopes: scopes.split_whitespace().collect(),
        audiences: [""; 0].into_iter().collect(),
        consent,
    }
}

fn decide(view: &ClientView, asked: &Asked<'_>) -> Decision {
    decide::token(view, asked, at(NOW))
}

fn ann() -> Grant {
    grant("g", user("ann"))
}

fn allow(uid: &str) -> Decision {
    Decision::Allow(Some(Arc::from(uid)))
}

/// Asked by ann with her good consent.
fn with_consent(view: &ClientView) -> Decision {
    decide(view, &asked("ann", "read", Lookup::Found(&consent(&ann()))))
}

#[test]
fn a_token_needs_a_live_grant_and_its_consent() {
    let view = view([ann()]);
    let good = consent(&ann());
    assert_eq!(decide(&view, &asked("ann", "read", Lookup::NotYetKnown)), Decision::NeedsLookup);
    assert_eq!(decide(&view, &asked("ann", "read", Lookup::Missing)), Decision::Deny(Deny::NoConsent));
    assert_eq!(decide(&view, &asked("ann", "read", Lookup::Found(&good))), allow("g"));
    assert_eq!(decide(&view, &asked("ann", "", Lookup::Found(&good))), allow("g"), "the code exchange tells no scope");
    let forged = with(good.clone(), |c| c.context.as_mut().unwrap().genuine = false);
    let answer = decide(&view, &asked("ann", "read", Lookup::Found(&forged)));
    assert_eq!(answer, Decision::Deny(Deny::Consent(Flaw::Forged)));
    for subject in ["bob", "", "Ann", "ann "] {
        assert_eq!(decide(&view, &asked(subject, "read", Lookup::Found(&good))), Decision::Deny(Deny::NoGrant));
    }
}

#[test]
fn every_reason_to_refuse() {
    let deny = |view: &ClientView, asked: &Asked<'_>, deny: Deny| {
        assert_eq!(decide(view, asked), Decision::Deny(deny));
    };
    let good = consent(&ann());
    let lookup = Lookup::Found(&good);
    let usual = asked("ann", "read", lookup);
    let set = |text: &str| text.split_whitespace().collect();
    let unmanaged = |policy| with(provider_with(view([]), |p| p.unmanaged = policy), |v| v.managed = None);
    deny(&unmanaged(UnmanagedClients::Deny), &usual, Deny::UnmanagedClient);
    assert_eq!(decide(&unmanaged(UnmanagedClients::Allow), &usual), Decision::Allow(None));
    let nobody = with(unmanaged(UnmanagedClients::Allow), |v| v.provider = None);
    deny(&nobody, &usual, Deny::UnmanagedClient);
    let managed_bare = provider_with(view([]), |p| p.unmanaged = UnmanagedClients::Allow);
    deny(&managed_bare, &usual, Deny::NoGrant);

    for (grant, held) in [
        (with(ann(), |g| g.deleting = true), Held::Deleting),
        (terms_with(ann(), |t| t.expires_at = at(NOW)), Held::Expired),
        (terms_with(ann(), |t| t.suspend = true), Held::Suspended),
        (terms_with(ann(), |t| t.not_before = Some(at(NOW + 1))), Held::NotYetValid),
    ] {
        deny(&view([grant]), &usual, Deny::Held(held));
    }
    deny(&with(view([ann()]), |v| v.quarantined = true), &usual, Deny::Held(Held::Quarantined));
    deny(&with(view([ann()]), |v| v.suspended = true), &usual, Deny::Held(Held::RegistrationChanged));
    let no_provider = with(view([ann()]), |v| v.provider = None);
    deny(&no_provider, &usual, Deny::NoGrant);
    let taken = provider_with(view([ann()]), |p| p.state = ProviderState::IssuerTaken);
    deny(&taken, &usual, Deny::Refused(Refusal::IssuerTaken));
    let narrow = |rule: &mut clientgrant::grant::rules::Rule| rule.scopes = patterns("openid");
    let refused = provider_with(view([ann()]), |p| narrow(&mut p.rules[0]));
    deny(&refused, &usual, Deny::Refused(Refusal::NotAllowed(Miss::Scope("read".into()))));

    deny(&view([with(ann(), |g| g.held = false)]), &usual, Deny::NotHeld);

    let view = view([terms_with(ann(), |t| t.authority.grant_types = [GrantType::AuthorizationCode].into())]);
    let flow = |grant_type| Asked { grant_type, ..asked("ann", "read", lookup) };
    deny(&view, &flow(Some(GrantType::RefreshToken)), Deny::GrantType);
    deny(&view, &flow(None), Deny::GrantType);
    deny(&view, &flow(Some(GrantType::ClientCredentials)), Deny::NoGrant);
    deny(&view, &asked("ann", "read admin", lookup), Deny::Scopes(set("admin")));
    let audience = Asked { audiences: ["https://a"].into_iter().collect(), ..asked("ann", "read", lookup) };
    deny(&view, &audience, Deny::Audiences(["https://a"].into_iter().collect()));
    let names: Vec<&str> = ALL.iter().map(|d| d().reason()).collect();
    let unique: std::collections::BTreeSet<&&str> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "{names:?}");
}

/// One of each, to see that no two share a reason.
const ALL: &[fn() -> Deny] = &[
    || Deny::NotReady,
    || Deny::UnmanagedClient,
    || Deny::NoGrant,
    || Deny::Held(Held::Deleting),
    || Deny::Held(Held::Expired),
    || Deny::Held(Held::Quarantined),
    || Deny::Held(Held::RegistrationChanged),
    || Deny::Held(Held::Suspended),
    || Deny::Held(Held::NotYetValid),
    || Deny::Refused(Refusal::Conflict),
    || Deny::NotHeld,
    || Deny::GrantType,
    || Deny::Scopes(["x"].into_iter().collect()),
    || Deny::Audiences(["x"].into_iter().collect()),
    || Deny::NoAudience,
    || Deny::NoConsent,
    || Deny::Consent(Flaw::Remembered),
    || Deny::Consent(Flaw::NoContext),
    || Deny::Consent(Flaw::OtherGrant),
    || Deny::Consent(Flaw::Forged),
    || Deny::Consent(Flaw::Ended),
    || Deny::Consent(Flaw::Scopes(["x"].into_iter().collect())),
    || Deny::Consent(Flaw::Audiences(["x"].into_iter().collect())),
    || Deny::Consent(Flaw::NoAudience),
    || Deny::Skipped,
    || Deny::Malformed,
    || Deny::LookupFailed,
    || Deny::Unauthenticated,
];

#[test]
fn a_client_for_itself_has_its_own_grant_and_no_other() {
    let own = terms_with(grant("own", Subject::Own), |t| t.authority = authority("read", "https://a", OWN));
    let all = view([ann(), grant("any", Subject::Any), own]);
    let request = |scopes: &str, audiences: &str| Asked {
        grant_type: Some(GrantType::ClientCredentials),
        audiences: audiences.split_whitespace().collect(),
        ..asked(CLIENT, scopes, Lookup::NotYetKnown)
    };
    assert_eq!(decide(&all, &request("read", "https://a")), allow("own"), "without a consent");
    assert_eq!(decide(&all, &request("", "https://a")), allow("own"), "a token without scopes");
    let openid = Decision::Deny(Deny::Scopes(["openid"].into_iter().collect()));
    assert_eq!(decide(&all, &request("openid", "https://a")), openid, "what only users' grants declare");
    assert_eq!(decide(&all, &request("read", "")), Decision::Deny(Deny::NoAudience));
    let other = Decision::Deny(Deny::Audiences(["https://b"].into_iter().collect()));
    assert_eq!(decide(&all, &request("read", "https://a https://b")), other);
    let without = view([ann(), grant("any", Subject::Any)]);
    assert_eq!(decide(&without, &request("read", "")), Decision::Deny(Deny::NoGrant));
}

/// A specific grant, in every state its object can have, beside one for anybody.
#[test]
fn a_specific_grant_shadows_a_wider_one_in_every_state() {
    let wide = || terms_with(grant("any", Subject::Any), |t| t.authority = authority("openid read write", "", CODE));
    let anybody = consent(&wide());
    let ask = |view: &ClientView, subject: &str| decide(view, &asked(subject, "read", Lookup::Found(&anybody)));
    assert_eq!(ask(&view([wide()]), "ann"), allow("any"), "positive control");
    let states: Vec<(Grant, Deny)> = vec![
        (with(ann(), |g| g.deleting = true), Deny::Held(Held::Deleting)),
        (terms_with(ann(), |t| t.expires_at = at(NOW)), Deny::Held(Held::Expired)),
        (terms_with(ann(), |t| t.suspend = true), Deny::Held(Held::Suspended)),
        (terms_with(ann(), |t| t.not_before = Some(at(NOW + 1))), Deny::Held(Held::NotYetValid)),
        (with(ann(), |g| g.terms = Err("broken".into())), Deny::Refused(Refusal::Invalid("broken".into()))),
        (ann(), Deny::Consent(Flaw::OtherGrant)),
        (
            terms_with(ann(), |t| t.authority = authority("openid", "", CODE)),
            Deny::Scopes(["read"].into_iter().collect()),
        ),
    ];
    for (specific, deny) in states {
        let both = view([specific.clone(), wide()]);
        assert_eq!(ask(&both, "ann"), Decision::Deny(deny), "{specific:?}");
        assert_eq!(ask(&both, "bob"), allow("any"), "bob is not touched by ann's");
    }
    let collides = with(view([ann(), wide()]), |v| _ = v.collisions.insert("ann".into()));
    assert_eq!(ask(&collides, "ann"), Decision::Deny(Deny::Refused(Refusal::SubjectClientCollision)));

    // Only where the rules let its namespace speak for the client: else a tenant could switch others off.
    let foreign = with(terms_with(ann(), |t| t.suspend = true), |g| g.name.namespace = "it".into());
    let view = provider_with(view([foreign, wide()]), |p| p.rules[0].namespaces = Some(named("finance")));
    let view = with(view, |v| {
        let labels = [("name".to_owned(), "finance".to_owned())].into();
        v.namespaces.insert("finance".into(), Arc::new(labels));
    });
    assert_eq!(ask(&view, "ann"), allow("any"));
}

fn named(namespace: &str) -> kube::core::Selector {
    [kube::core::Expression::Equal("name".into(), namespace.into())].into_iter().collect()
}

/// The youngest of several tells most, and the holder of the key decides.
#[test]
fn of_several_grants_for_one_subject_the_holder_decides() {
    let old = with(terms_with(grant("old", user("ann")), |t| t.expires_at = at(NOW)), |g| {
        g.created = at(-2000);
        g.carried.revocation = confirmed(RevocationCause::Expired, at(NOW));
    });
    let good = consent(&ann());
    let view = view([old, ann()]);
    assert_eq!(decide(&view, &asked("ann", "read", Lookup::Found(&good))), allow("g"));
}

fn consent_asked<'a>(scopes: &str, listed: Option<&'a [Consent]>) -> ConsentAsked<'a> {
    ConsentAsked {
        subject: "ann",
        scopes: scopes.split_whitespace().collect(),
        audiences: [""; 0].into_iter().collect(),
        skip: false,
        listed,
    }
}

fn consent_decision(view: &ClientView, asked: &ConsentAsked<'_>) -> ConsentDecision {
    decide::consent(view, asked, at(NOW))
}

#[test]
fn a_consent_app_is_told_to_ask_to_accept_or_to_refuse() {
    let one = view([ann()]);
    let grant = Arc::new(ann());
    let usual = consent_asked("read", Some(&[]));
    assert_eq!(consent_decision(&one, &consent_asked("read", None)), ConsentDecision::NeedsLookup);
    assert_eq!(consent_decision(&one, &usual), ConsentDecision::Ask(Some(grant.clone())));
    let good = consent(&ann());
    let listed = [good.clone()];
    let accept = ConsentDecision::Accept(grant.clone());
    assert_eq!(consent_decision(&one, &consent_asked("read", Some(&listed))), accept, "covered by a listed consent");
    for (what, consent) in [
        ("another end", with(good.clone(), |c| c.context.as_mut().unwrap().expires_at = at(NOW + 5))),
        ("another purpose", with(good.clone(), |c| c.context.as_mut().unwrap().purpose = "other".into())),
        ("fewer scopes", with(good.clone(), |c| c.scopes = ["openid"].into_iter().collect())),
        ("remembered", with(good.clone(), |c| c.remembered = true)),
        ("made up", with(good.clone(), |c| c.context.as_mut().unwrap().genuine = false)),
        ("of another grant", with(good, |c| c.context.as_mut().unwrap().grant = "old".into())),
    ] {
        let listed = [consent];
        let answer = consent_decision(&one, &consent_asked("read", Some(&listed)));
        assert_eq!(answer, ConsentDecision::Ask(Some(grant.clone())), "{what}");
    }

    let deny = |view: &ClientView, asked: &ConsentAsked<'_>, deny: Deny| {
        assert_eq!(consent_decision(view, asked), ConsentDecision::Deny(deny));
    };
    deny(&one, &ConsentAsked { skip: true, ..consent_asked("read", Some(&listed)) }, Deny::Skipped);
    deny(&one, &consent_asked("read admin", Some(&[])), Deny::Scopes(["admin"].into_iter().collect()));
    deny(&one, &ConsentAsked { subject: "bob", ..usual.clone() }, Deny::NoGrant);
    let audience = ConsentAsked { audiences: ["https://a"].into_iter().collect(), ..usual.clone() };
    deny(&one, &audience, Deny::Audiences(["https://a"].into_iter().collect()));
    let needs = view([terms_with(ann(), |t| t.authority = authority("read", "https://a", CODE))]);
    deny(&needs, &usual, Deny::NoAudience);
    let refresh = view([terms_with(ann(), |t| t.authority.grant_types = [GrantType::RefreshToken].into())]);
    deny(&refresh, &usual, Deny::GrantType);
    deny(&view([grant_own()]), &usual, Deny::NoGrant);
    deny(&view([terms_with(ann(), |t| t.suspend = true)]), &usual, Deny::Held(Held::Suspended));

    let admin = terms_with(ann(), |t| t.basis = Basis::AdminConsent);
    let decided = consent_decision(&view([admin.clone()]), &consent_asked("read", None));
    assert_eq!(decided, ConsentDecision::Accept(Arc::new(admin)), "the organisation decided");
    let unmanaged = with(view([]), |v| v.managed = None);
    assert_eq!(consent_decision(&unmanaged, &usual), ConsentDecision::Ask(None));
    let denied = provider_with(unmanaged, |p| p.unmanaged = UnmanagedClients::Deny);
    deny(&denied, &usual, Deny::UnmanagedClient);
}

fn grant_own() -> Grant {
    grant("own", Subject::Own)
}

/// Whether a token is given does not depend on when somebody looked the consent up.
#[test]
fn an_answer_without_a_look_up_is_final() {
    let good = consent(&ann());
    for grant in [ann(), terms_with(ann(), |t| t.suspend = true), terms_with(ann(), |t| t.expires_at = at(1))] {
        let view = view([grant]);
        let first = decide(&view, &asked("ann", "read", Lookup::NotYetKnown));
        if first != Decision::NeedsLookup {
            assert_eq!(decide(&view, &asked("ann", "read", Lookup::Found(&good))), first);
        }
    }
    assert_eq!(with_consent(&view([ann()])), allow("g"));
}

/// Any grant of a client, in any state.
fn any_grant(subject: Subject, n: usize) -> impl Strategy<Value = Grant> {
    let scopes = prop::sample::subsequence(vec!["openid", "read", "write"], 1..=3);
    (scopes, -200..300_i64, any::<bool>(), any::<bool>(), -200..300_i64, 0..4_i64).prop_map(
        move |(scopes, ends, suspend, deleting, begins, age)| {
            let grant = terms_with(grant(&format!("{subject}-{n}"), subject.clone()), |t| {
                t.authority.scopes = scopes.into_iter().collect();
                t.expires_at = at(NOW + ends);
                t.not_before = (begins > 100).then(|| at(NOW + begins));
                t.suspend = suspend && ends % 3 == 0;
            });
            with(grant, |g| {
                g.deleting = deleting && ends % 4 == 0;
                g.created = at(-age);
            })
        },
    )
}

fn grants_of(subject: Subject) -> impl Strategy<Value = Vec<Grant>> {
    (any_grant(subject.clone(), 0), any_grant(subject, 1), 0..=2_usize)
        .prop_map(|(a, b, n)| [a, b].into_iter().take(n).collect())
}

proptest! {
    #![proptest_config(cheap())]

    /// Grants for others never change an answer for ann: not bob's, not the client's own. Those for
    /// anybody only where ann has none of her own.
    #[test]
    fn fuzz_grants_of_others_never_change_an_answer(
        anns in grants_of(user("ann")),
        bobs in grants_of(user("bob")),
        anys in grants_of(Subject::Any),
        owns in grants_of(Subject::Own),
        scope in prop::sample::select(vec!["openid", "read", "write", "admin"]),
        flow in prop::sample::select(vec![GrantType::AuthorizationCode, GrantType::RefreshToken]),
    ) {
        let consents: Vec<Consent> = anns.iter().chain(&anys).map(consent).collect();
        let with_others = |others: &[&Vec<Grant>]| {
            view(anns.iter().chain(others.iter().copied().flatten()).cloned())
        };
        let lookups = consents.iter().map(Lookup::Found).chain([Lookup::Missing, Lookup::NotYetKnown]);
        for lookup in lookups {
            let request = Asked { grant_type: Some(flow), ..asked("ann", scope, lookup) };
            let alone = decide(&with_others(&[&anys]), &request);
            prop_assert_eq!(decide(&with_others(&[&anys, &bobs, &owns]), &request), alone.clone());
            if !anns.is_empty() {
                prop_assert_eq!(decide(&with_others(&[]), &request), alone.clone(), "hers alone decide");
            }
            if let Decision::Allow(uid) = &alone {
                let uid = uid.as_deref().expect("a managed client");
                let gave = anns.iter().chain(&anys).find(|g| &*g.uid == uid).expect("one of these");
                let terms = gave.terms.as_ref().unwrap();
                prop_assert!(terms.authority.scopes.iter().any(|s| s == scope));
                prop_assert!(terms.expires_at > at(NOW) && !gave.deleting && !terms.suspend);
                prop_assert_eq!(gave.subject == Subject::Any, anns.is_empty());
            }
        }
    }
}
