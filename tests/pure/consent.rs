//! One listed consent against one grant, and what a whole list means.

use clientgrant::grant::consent::{self, Consent, Context, Flaw, Reading, check_audiences};
use clientgrant::grant::{Grant, Timestamp};

use crate::support::*;

const NOW: i64 = 100;

fn check(consent: &Consent, grant: &Grant) -> Result<(), Flaw> {
    consent.check(grant, grant.terms.as_ref().unwrap(), at(NOW))
}

fn read(listed: &[Consent], grant: &Grant, now: Timestamp) -> Reading {
    consent::read(listed, grant, grant.terms.as_ref().unwrap(), now)
}

fn ann() -> Grant {
    terms_with(grant("g", user("ann")), |t| t.authority = authority("openid read", "https://a https://b", CODE))
}

fn context(consent: &mut Consent) -> &mut Context {
    consent.context.as_mut().unwrap()
}

#[test]
fn a_consent_gives_what_it_says_or_names_its_flaw() {
    let good = || consent(&ann());
    assert_eq!(check(&good(), &ann()), Ok(()));
    let fewer = with(good(), |c| {
        c.scopes = ["read"].into_iter().collect();
        c.audiences = ["https://b"].into_iter().collect();
    });
    assert_eq!(check(&fewer, &ann()), Ok(()));
    let beyond = |c: &mut Consent| c.scopes = ["read", "admin"].into_iter().collect();
    let table: Vec<(Consent, Flaw)> = vec![
        (with(good(), |c| c.remembered = true), Flaw::Remembered),
        (with(good(), |c| c.context = None), Flaw::NoContext),
        (with(good(), |c| context(c).grant = "other".into()), Flaw::OtherGrant),
        (with(good(), |c| context(c).genuine = false), Flaw::Forged),
        (with(good(), |c| context(c).expires_at = at(NOW)), Flaw::Ended),
        (with(good(), beyond), Flaw::Scopes(["admin"].into_iter().collect())),
        (
            with(good(), |c| c.audiences = ["https://b", "https://c"].into_iter().collect()),
            Flaw::Audiences(["https://c"].into_iter().collect()),
        ),
        (with(good(), |c| c.audiences = [""; 0].into_iter().collect()), Flaw::NoAudience),
    ];
    for (consent, flaw) in table {
        assert_eq!(check(&consent, &ann()), Err(flaw.clone()), "{consent:?}");
    }
    let last = with(good(), |c| context(c).expires_at = ms(NOW * 1000 + 1));
    assert_eq!(check(&last, &ann()), Ok(()), "the last millisecond");
}

#[test]
fn audiences_are_none_or_at_least_one_of_the_declared_and_none_else() {
    let set = |text: &str| text.split_whitespace().collect();
    for (asked, declared, flaw) in [
        ("", "", None),
        ("a", "a b", None),
        ("a b", "a b", None),
        ("", "a", Some(Flaw::NoAudience)),
        ("a", "", Some(Flaw::Audiences(set("a")))),
        ("a c", "a b", Some(Flaw::Audiences(set("c")))),
    ] {
        assert_eq!(check_audiences(&set(asked), &set(declared)).err(), flaw, "{asked:?} of {declared:?}");
    }
}

/// What ends a pair for good is only what cannot be had otherwise: a key rotated by mistake makes every
/// proof wrong, and must not destroy a single consent.
#[test]
fn what_taints_a_pair() {
    let terms = ann().terms.unwrap();
    let good = || consent(&ann());
    for (consent, taints) in [
        (good(), false),
        (with(good(), |c| context(c).genuine = false), false),
        (with(good(), |c| c.context = None), false),
        (with(good(), |c| context(c).expires_at = at(1)), false),
        (with(good(), |c| c.audiences = [""; 0].into_iter().collect()), false),
        (with(good(), |c| c.remembered = true), true),
        (with(good(), |c| c.scopes = ["read", "admin"].into_iter().collect()), true),
        (with(good(), |c| c.audiences = ["https://c"].into_iter().collect()), true),
        (with(good(), |c| context(c).grant = "other".into()), true),
    ] {
        assert_eq!(consent.taints(&ann(), &terms), taints, "{consent:?}");
    }
}

#[test]
fn a_list_is_read_as_a_whole() {
    let good = || consent(&ann());
    assert_eq!(read(&[], &ann(), at(NOW)), Reading::default());

    let one = read(&[good()], &ann(), at(NOW));
    let standing = one.consent.expect("a consent in force");
    assert_eq!((standing.since, standing.until), (at(-10), far()));
    assert!(!one.tainted);

    // The longest end counts, and never beyond the grant's own.
    let short = with(good(), |c| context(c).expires_at = at(NOW + 5));
    let long = with(good(), |c| context(c).expires_at = far() + std::time::Duration::from_secs(1));
    for list in [[short.clone(), good()], [good(), short.clone()], [long, short.clone()]] {
        assert_eq!(read(&list, &ann(), at(NOW)).consent.expect("a consent").until, far());
    }

    // A tainted entry beside a good one: the pair can only be ended whole.
    let bad = with(good(), |c| c.remembered = true);
    let both = read(&[good(), bad], &ann(), at(NOW));
    assert!(both.tainted && both.consent.is_some());

    // An old chain past its date: ended with the pair only if no newer consent would die with it.
    let old = with(good(), |c| context(c).expires_at = at(NOW));
    assert!(read(std::slice::from_ref(&old), &ann(), at(NOW)).tainted);
    assert!(!read(&[old, good()], &ann(), at(NOW)).tainted);
    assert!(!read(&[short], &ann(), at(NOW)).tainted, "before its date");
}
