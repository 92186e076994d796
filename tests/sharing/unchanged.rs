//! Whether a client is registered as it was accepted: what is said, what a person accepts, and what suspends.

use std::collections::BTreeSet;
use std::sync::Arc;

use clientgrant::api::condition::{ConditionType, Reason, find_condition};
use clientgrant::api::{
    ClientIdentity, ClientIdentitySpec, ClientIdentityStatus, OnRegistrationChange, Pin, ProviderKind, ProviderRef,
    SharedFinding,
};
use clientgrant::grant::{ClientKey, ProviderKey};
use clientgrant::sharing::registration::{Fingerprint, Registration, Trait, born};
use clientgrant::sharing::unchanged::{self, About, Known};
use k8s_openapi::jiff::Timestamp;

const CALLBACK: &str = "https://a.example.com/cb";
const CREATED: &str = "2026-01-01T00:00:00Z";

fn now() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().unwrap()
}

fn usual() -> Registration {
    let provider = ProviderKey::cluster("corp");
    let mut of = Registration::new(ClientKey { provider, client: Arc::from("a") });
    of.display_name = Some("A".into());
    of.keys = BTreeSet::from(["k1".to_owned()]);
    of.redirect_uris = BTreeSet::from([CALLBACK.to_owned()]);
    of.auth_method = Some("private_key_jwt".into());
    of.created = Some(CREATED.into());
    of
}

fn with(change: impl FnOnce(&mut Registration)) -> Registration {
    let mut of = usual();
    change(&mut of);
    of
}

fn other_keys() -> Registration {
    with(|of| of.keys = BTreeSet::from(["k2".to_owned()]))
}

fn other_uris() -> Registration {
    with(|of| _ = of.redirect_uris.insert("https://evil.example.com/cb".into()))
}

fn other_method() -> Registration {
    with(|of| of.auth_method = Some("none".into()))
}

fn anew() -> Registration {
    with(|of| of.created = Some("2026-06-01T00:00:00Z".into()))
}

fn pin(uris: Option<&[&str]>, methods: Option<&[&str]>) -> Pin {
    let list = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    Pin { redirect_uris: uris.map(list), auth_methods: methods.map(list) }
}

fn right() -> Pin {
    pin(Some(&[CALLBACK]), Some(&["client_secret_basic", "private_key_jwt"]))
}

/// A status that lives through what happens.
#[derive(Default)]
struct Life {
    status: ClientIdentityStatus,
    pin: Option<Pin>,
    generation: i64,
}

impl Life {
    fn pinned(pin: Option<Pin>) -> Self {
        Self { pin, generation: 1, ..Self::default() }
    }

    fn edit(&mut self, pin: Option<Pin>) {
        (self.pin, self.generation) = (pin, self.generation + 1);
    }

    /// Status and reason after a look.
    fn sees(&mut self, known: Known<'_>) -> String {
        let about = About { admitted: true, pin: self.pin.as_ref(), generation: Some(self.generation) };
        unchanged::say(&mut self.status, about, known, now());
        let told = find_condition(&self.status.conditions, ConditionType::RegistrationUnchanged).unwrap();
        assert!(told.message.chars().count() <= 200 && !told.message.ends_with('…'), "{}", told.message);
        assert!(!told.message.contains("k2") && !told.message.contains("evil"), "{}", told.message);
        let words = told.message.strip_prefix("Not as it was accepted: ").and_then(|m| m.split_once('.'));
        let changed = words.map(|(changed, _)| format!(" {changed}")).unwrap_or_default();
        format!("{}/{}{changed}", told.status, told.reason)
    }

    fn is(&mut self, registration: &Registration) -> String {
        self.sees(Known::Is(registration))
    }
}

const TRUE: &str = "True/Unchanged";

fn changed(what: &str) -> String {
    format!("False/RegistrationChanged {what}")
}

#[test]
fn without_a_pin_what_was_seen_first_counts() {
    for (registration, what) in [
        (other_keys(), "keys"),
        (with(|of| _ = of.subjects.insert("system:serviceaccount:x:y".into())), "keys"),
        (with(|of| of.jwks_uri = Some("https://k/".into())), "keys"),
        (with(|of| of.odd_keys = 1), "keys"),
        (other_uris(), "redirect URIs"),
        (other_method(), "authentication method"),
        (anew(), "registered anew"),
        (
            with(|of| *of = Registration::new(of.client.clone())),
            "redirect URIs, authentication method, keys, registered anew",
        ),
    ] {
        let mut life = Life::pinned(None);
        assert_eq!(life.sees(Known::NotRead), "Unknown/NotEvaluated");
        assert_eq!(life.is(&usual()), TRUE);
        assert_eq!(life.is(&with(|of| of.display_name = Some("B".into()))), TRUE, "a name says nothing");
        assert_eq!(life.is(&registration), changed(what));
        // Nothing but a person ends it, or that it is as it was.
        assert_eq!(life.is(&registration), changed(what));
        life.edit(None);
        assert_eq!(life.is(&registration), changed(what), "an edit without a pin accepts nothing");
        assert_eq!(life.is(&usual()), TRUE, "restored");
    }
}

#[test]
fn what_was_not_read_changes_nothing() {
    let mut life = Life::pinned(None);
    life.is(&usual());
    let told = life.status.clone();
    assert_eq!(life.sees(Known::NotRead), TRUE);
    assert_eq!(life.status, told);
    assert_eq!(life.sees(Known::Absent), "Unknown/UnknownClient");
    assert_eq!(life.is(&anew()), changed("registered anew"), "gone and back as another");
    for known in [Known::NotRead, Known::Absent] {
        assert_eq!(life.sees(known), changed("registered anew"));
    }
    life.edit(Some(right()));
    assert_eq!(life.sees(Known::NotRead), changed("registered anew"), "nobody knows what would be accepted");
    assert_eq!(life.is(&anew()), TRUE);
}

#[test]
fn a_pin_that_says_what_is_registered_accepts() {
    for registration in [other_keys(), anew()] {
        let mut life = Life::pinned(Some(right()));
        assert_eq!(life.is(&usual()), TRUE);
        let first = life.status.fingerprint.clone();
        for look in ["the pin says nothing of it", "and nobody has accepted it since"] {
            assert!(life.is(&registration).starts_with("False/"), "{look}");
        }
        assert_eq!(life.status.fingerprint, first);
        life.edit(Some(pin(Some(&[]), None)));
        assert!(life.is(&registration).starts_with(&changed("redirect URIs")), "a wrong pin accepts nothing");
        assert_eq!(life.status.fingerprint, first);
        life.edit(Some(right()));
        assert_eq!(life.is(&registration), TRUE);
        assert_eq!(life.status.fingerprint, Some(registration.fingerprint().to_string()));
        assert_ne!(life.is(&usual()), TRUE, "what was before is a change now");
    }
    // A change and an edit that nobody had a reason to make for it.
    let mut life = Life::pinned(Some(right()));
    life.is(&usual());
    life.edit(Some(right()));
    assert_eq!(life.is(&anew()), changed("registered anew"), "it was not told before the edit");
}

#[test]
fn what_a_pin_speaks_about_is_compared_with_the_pin() {
    for (wanted, registration, says) in [
        (right(), usual(), TRUE.to_owned()),
        (right(), other_uris(), changed("redirect URIs")),
        (right(), other_method(), changed("authentication method")),
        (pin(Some(&[CALLBACK, "https://b/"]), None), usual(), changed("redirect URIs")),
        (pin(Some(&[]), None), usual(), changed("redirect URIs")),
        (pin(Some(&[]), None), with(|of| of.redirect_uris.clear()), TRUE.to_owned()),
        (pin(None, Some(&["none"])), other_method(), TRUE.to_owned()),
        (pin(None, Some(&["none"])), with(|of| of.auth_method = None), changed("authentication method")),
    ] {
        let mut life = Life::pinned(Some(wanted.clone()));
        assert_eq!(life.is(&registration), says, "{wanted:?}");
        if says != TRUE {
            // What never was right does not become right by taking the pin away.
            life.edit(None);
            assert_eq!(life.is(&registration), says, "{wanted:?}");
        }
    }
    // Git first, the identity provider after it.
    let mut life = Life::pinned(Some(right()));
    life.is(&usual());
    life.edit(Some(pin(Some(&[CALLBACK, "https://evil.example.com/cb"]), None)));
    assert_eq!(life.is(&usual()), changed("redirect URIs"));
    assert_eq!(life.is(&other_uris()), TRUE);
    // Taken out again, what was accepted stays so.
    life.edit(None);
    assert_eq!(life.is(&other_uris()), TRUE);
}

#[test]
fn a_fingerprint_is_read_back() {
    let print = usual().fingerprint();
    assert_eq!(Fingerprint::parse(&print.to_string()), Some(print.clone()));
    assert_eq!(print.part(Trait::Created), Some(&*born(CREATED)));
    assert_eq!(with(|of| of.created = None).fingerprint().part(Trait::Created), None);
    for odd in ["", "ab", "zz", &print.to_string()[2..], &"é".repeat(64)] {
        assert_eq!(Fingerprint::parse(odd), None, "{odd}");
    }
    // One that cannot be read is none: what is there is seen for the first time.
    let mut life = Life::pinned(None);
    life.status.fingerprint = Some("odd".into());
    assert_eq!(life.is(&usual()), TRUE);
}

#[test]
fn what_is_shown_is_bounded_and_no_secret() {
    let mut life = Life::pinned(None);
    life.is(&with(|of| {
        of.redirect_uris = (0..500).map(|n| format!("https://user:pass-word@a.example.com/{n}")).collect();
        of.display_name = Some("x".repeat(1000));
        of.auth_method = Some("none".into());
    }));
    let shown = life.status.registration.clone().unwrap();
    assert!(shown.public && shown.redirect_uris.len() == 128 && shown.display_name.unwrap().len() < 400);
    assert!(!serde_json::to_string(&life.status).unwrap().contains("pass-word"));
    // Of a client that the namespace may not speak for nothing is shown.
    let about = About { admitted: false, pin: None, generation: Some(1) };
    let seen = life.status.fingerprint.clone();
    unchanged::say(&mut life.status, about, Known::Is(&anew()), now());
    assert!(life.status.registration.is_none() && life.status.conditions.is_empty());
    assert_eq!(life.status.fingerprint, seen, "a rule that is gone for a moment accepts nothing");
    assert_eq!(life.is(&anew()), changed("redirect URIs, authentication method, registered anew"));
}

#[test]
fn what_was_found_stays_while_nothing_is_read() {
    let found = |rule: &str| SharedFinding { rule: rule.into(), ..SharedFinding::default() };
    let old = ClientIdentityStatus { findings: vec![found("SC-104"), found("SC-201")], ..Default::default() };
    let usual = usual();
    for (known, stays) in
        [(Known::NotRead, vec![found("SC-104")]), (Known::Absent, vec![]), (Known::Is(&usual), vec![])]
    {
        let mut status = ClientIdentityStatus::default();
        unchanged::keep_findings(Some(&old), &mut status, known);
        assert_eq!(status.findings, stays, "{known:?}");
    }
}

#[test]
fn only_a_change_that_was_told_suspends() {
    let object = |life: &Life, on: OnRegistrationChange| {
        let spec = ClientIdentitySpec {
            provider_ref: ProviderRef { kind: ProviderKind::ClusterIdentityProvider, name: "corp".into() },
            client_id: "a".into(),
            adopt: false,
            environment: None,
            family: None,
            service_account_name: None,
            workloads: Vec::new(),
            credentials: Vec::new(),
            pin: life.pin.clone(),
            on_registration_change: on,
            sharing: None,
        };
        ClientIdentity { status: Some(life.status.clone()), ..ClientIdentity::new("a", spec) }
    };
    let suspends = |life: &Life, on| unchanged::suspends(&object(life, on));
    use OnRegistrationChange::{Report, Suspend};
    let mut life = Life::pinned(None);
    assert!(!suspends(&life, Suspend));
    assert_eq!(unchanged::pinned_birth(&object(&life, Report)), None);
    for (known, yes) in [
        (Known::NotRead, false),
        (Known::Absent, false),
        (Known::Is(&usual()), false),
        (Known::Is(&anew()), true),
        (Known::NotRead, true),
        (Known::Absent, true),
        (Known::Is(&usual()), false),
    ] {
        life.sees(known);
        assert_eq!((suspends(&life, Suspend), suspends(&life, Report)), (yes, false), "{known:?}");
    }
    assert_eq!(unchanged::pinned_birth(&object(&life, Report)), None, "without a pin");
    life.edit(Some(right()));
    assert_eq!(unchanged::pinned_birth(&object(&life, Report)), Some(born(CREATED)));
    life.is(&anew());
    assert_eq!(unchanged::pinned_birth(&object(&life, Report)), Some(born(CREATED)), "not by being there");
    life.edit(Some(right()));
    life.is(&anew());
    assert_ne!(unchanged::pinned_birth(&object(&life, Report)), Some(born(CREATED)));
}

#[test]
fn what_is_new_is_told_once() {
    let mut life = Life::pinned(None);
    let mut told = Vec::new();
    for known in [Known::NotRead, Known::Is(&usual()), Known::Is(&anew()), Known::Is(&anew()), Known::Is(&usual())] {
        let old = life.status.clone();
        life.sees(known);
        told.extend(unchanged::news(Some(&old), &life.status).map(|(reason, _)| reason));
    }
    assert_eq!(told, [Reason::RegistrationChanged, Reason::Unchanged]);
}
