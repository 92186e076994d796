//! What is said of the difference where a provider is only observed.

use clientgrant::grant::consent::Consent;
use clientgrant::grant::drift::{self, Drift};
use clientgrant::grant::observed::ObservedClient;
use clientgrant::grant::standing::{Held, Standing};
use clientgrant::grant::{Authority, Grant, GrantType, Subject};

use crate::support::*;

fn compare(grant: &Grant, standing: &Standing, client: &ObservedClient, listed: Option<&[Consent]>) -> Drift {
    let grants = if *standing == Standing::Live { vec![grant.clone()] } else { vec![] };
    drift::compare(&view(grants), grant, standing, client, listed, at(0))
}

fn exact(grant: &Grant) -> ObservedClient {
    registered(grant.terms.as_ref().unwrap().authority.clone())
}

fn wider(authority: &Authority) -> Authority {
    let mut wide = authority.clone();
    wide.add_all(&clientgrant::grant::Authority {
        scopes: ["admin".to_owned()].into_iter().collect(),
        ..Authority::default()
    });
    wide
}

#[test]
fn a_registration_as_declared_and_a_good_consent_differ_in_nothing() {
    let ann = grant("g", user("ann"));
    let drift = compare(&ann, &Standing::Live, &exact(&ann), Some(&[consent(&ann)]));
    assert!(drift.is_none() && drift.active, "{drift:?}");
    let drift = compare(&ann, &Standing::Live, &exact(&ann), Some(&[]));
    assert!(drift.is_none() && !drift.active, "{drift:?}");
}

#[test]
fn what_a_registration_holds_beyond_and_lacks_is_named() {
    let any = grant("g", Subject::Any);
    let more = registered(wider(&any.terms.as_ref().unwrap().authority));
    let drift = compare(&any, &Standing::Live, &more, None);
    assert_eq!((drift.excess, drift.missing, drift.active), (vec!["scope admin".to_owned()], vec![], true));
    let nothing = registered(Authority::default());
    let drift = compare(&any, &Standing::Live, &nothing, None);
    assert!(drift.excess.is_empty() && !drift.missing.is_empty() && !drift.active, "{drift:?}");
    let flow = format!("grant type {}", GrantType::AuthorizationCode.as_str());
    assert!(drift.missing.contains(&flow), "{drift:?}");
}

#[test]
fn what_is_not_in_force_is_not_active_and_all_of_it_is_excess() {
    let any = grant("g", Subject::Any);
    let held = Standing::Held(Held::Suspended);
    let drift = compare(&any, &held, &exact(&any), None);
    assert!(!drift.active && !drift.excess.is_empty() && drift.missing.is_empty(), "{drift:?}");
    let ann = grant("g", user("ann"));
    let drift = compare(&ann, &held, &exact(&ann), Some(&[consent(&ann)]));
    assert!(drift.active, "the consent is there");
    assert!(drift.excess.iter().any(|e| e.starts_with("the consent of a subject")), "{drift:?}");
}

#[test]
fn a_consent_beyond_the_grant_is_excess_and_so_is_a_remembered_one() {
    let ann = grant("g", user("ann"));
    let mut beyond = consent(&ann);
    beyond.scopes.add_all(&["admin".to_owned()].into_iter().collect());
    beyond.audiences.add_all(&["https://elsewhere".to_owned()].into_iter().collect());
    beyond.remembered = true;
    let drift = compare(&ann, &Standing::Live, &exact(&ann), Some(&[consent(&ann), beyond]));
    let named = ["consent to scope admin", "consent to audience https://elsewhere", "a remembered consent"];
    assert_eq!(drift.excess, named);
    assert!(drift.active && drift.missing.is_empty());
}
