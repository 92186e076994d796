//! Bytes from outside: whatever a hook call or an answer of Hydra holds, it is read or refused, and
//! nothing panics.

use clientgrant::api::{duration, instant};
use clientgrant::grant::decide::{self, Asked, Decision, Lookup};
use clientgrant::idp::hydra::dialect::{self, Flow, Keys};
use clientgrant::idp::hydra::hook;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::*;

const BODIES: [&str; 3] = [
    include_str!("../../testbed/fixtures/hook-authorization_code.json"),
    include_str!("../../testbed/fixtures/hook-refresh_token.json"),
    include_str!("../../testbed/fixtures/hook-client_credentials.json"),
];
const ANSWERS: [&str; 3] = [
    include_str!("../../testbed/fixtures/client.json"),
    include_str!("../../testbed/fixtures/consent-session.json"),
    include_str!("../../testbed/fixtures/consent-request.json"),
];

fn keys() -> Keys {
    let key = |text: &str| text.to_owned().into();
    Keys {
        hook: Some(key("a-hook-key-for-fuzzing")),
        consent: vec![key("a-consent-key-for-fuzzing"), key("the-previous-one")],
    }
}

/// Any JSON, with the names that the parsers look for.
fn json_value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "request",
        "session",
        "client",
        "client_id",
        "grant_types",
        "granted_scopes",
        "granted_audience",
        "id_token",
        "subject",
        "consent_challenge",
        "scope",
        "audience",
        "response_types",
        "metadata",
        "context",
        "grant",
        "expiresAt",
        "proof",
        "consent_request",
        "challenge",
        "handled_at",
        "login_challenge",
        "skip",
        "remember",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| json!(f)),
        ".{0,12}".prop_map(Value::String),
        "[0-9.]{1,8}(h|m|s|ms|us|µs|ns)?".prop_map(Value::String),
        Just(json!("2027-02-20T00:00:00Z")),
        Just(json!("client_credentials")),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

/// A real body in which some values are something else.
fn damaged(text: &'static str) -> impl Strategy<Value = Value> {
    prop::collection::vec((any::<u32>(), json_value()), 1..4).prop_map(move |changes| {
        let mut value: Value = serde_json::from_str(text).expect("a fixture");
        for (place, new) in changes {
            put(&mut value, place, new);
        }
        value
    })
}

/// Replaces the value at a place that a number picks.
fn put(value: &mut Value, place: u32, new: Value) {
    let size = match value {
        Value::Object(fields) => fields.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    if size == 0 || place.is_multiple_of(7) {
        *value = new;
        return;
    }
    let n = place as usize % size;
    let child = match value {
        Value::Object(fields) => fields.iter_mut().nth(n).map(|(_, v)| v),
        Value::Array(items) => items.get_mut(n),
        _ => None,
    };
    if let Some(child) = child {
        put(child, place / 5, new);
    }
}

/// What every reader makes of an answer.
fn read(value: &Value) {
    let keys = keys();
    let lifetime = std::time::Duration::from_secs(300);
    if let Some((id, client)) = dialect::client(value, lifetime) {
        assert!(!client.authority.scopes.iter().any(|s| s.contains(' ') || s.is_empty()), "{id}");
    }
    if let Some((_, consent)) = dialect::consent(value, &keys) {
        assert!(consent.context.is_none_or(|c| !c.genuine), "a proof out of nowhere");
    }
    _ = dialect::consent_request(value);
}

proptest! {
    #![proptest_config(cheap())]

    #[test]
    fn fuzz_hook_bodies_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(hook::question(&bytes).is_none());
    }

    #[test]
    fn fuzz_hook_bodies_of_any_json(value in json_value()) {
        _ = hook::question(value.to_string().as_bytes());
        read(&value);
    }

    /// What is read of a damaged body is only ever allowed what its grant says.
    #[test]
    fn fuzz_damaged_hook_bodies(value in prop_oneof![damaged(BODIES[0]), damaged(BODIES[1]), damaged(BODIES[2])]) {
        if let Some(question) = hook::question(value.to_string().as_bytes()) {
            prop_assert!(!question.client.is_empty());
            let view = view([grant("g", user("ann")), grant("own", clientgrant::grant::Subject::Own)]);
            let consent = consent(&grant("g", user("ann")));
            let asked = Asked {
                grant_type: question.grant_type,
                subject: &question.subject,
                scopes: question.scopes.clone(),
                audiences: question.audiences.clone(),
                consent: Lookup::Found(&consent),
            };
            if let Decision::Allow(_) = decide::token(&view, &asked, at(100)) {
                prop_assert!(question.scopes.iter().all(|s| matches!(s, "openid" | "read")));
                prop_assert!(question.audiences.is_empty() && question.grant_type.is_some());
            }
        }
    }

    #[test]
    fn fuzz_damaged_answers(value in prop_oneof![damaged(ANSWERS[0]), damaged(ANSWERS[1]), damaged(ANSWERS[2])]) {
        read(&value);
    }

    /// Instants and durations: what is read is written back the same.
    #[test]
    fn fuzz_instants_and_durations(text in "[0-9TZ:+ .-]{0,24}|[0-9]{1,12}[smhdx]?|\\PC{0,12}") {
        if let Some(at) = instant::parse(&text) {
            prop_assert_eq!(instant::format(at), text.clone());
        }
        if let Some(duration) = duration::parse(&text) {
            prop_assert!(!duration.is_zero());
        }
    }

    /// A proof holds for what it was made for, and for nothing that differs in one part.
    #[test]
    fn fuzz_a_proof_is_of_one_flow_and_one_promise(
        login in "[a-f0-9]{1,8}", client in "[a-z]{1,4}", subject in "[a-z]{1,4}",
        scopes in prop::collection::btree_set("[a-z]{1,3}", 0..4),
        audiences in prop::collection::btree_set("[a-z]{1,3}", 0..4),
        part in 0..8_usize,
    ) {
        let grant = grant("uid-1", user(&subject));
        let terms = grant.terms.as_ref().unwrap();
        let flow = Flow { login: &login, client: &client, subject: &subject };
        let granted = scopes.iter().collect();
        let aimed = audiences.iter().collect();
        let context = dialect::make_context(&flow, &grant, terms, &granted, &aimed, &keys()).unwrap();
        let mut listed = json!({
            "consent_request": {
                "challenge": "c", "client": {"client_id": client}, "subject": subject, "login_challenge": login,
            },
            "grant_scope": scopes, "grant_access_token_audience": audiences, "context": context, "remember": false,
        });
        let genuine = |listed: &Value, keys: &Keys| {
            dialect::consent(listed, keys).and_then(|(_, c)| c.context).is_some_and(|c| c.genuine)
        };
        prop_assert!(genuine(&listed, &keys()), "positive control");
        let rotated = Keys { consent: vec!["a-newer-key-of-the-app".to_owned().into(), "a-consent-key-for-fuzzing".to_owned().into()], ..keys() };
        prop_assert!(genuine(&listed, &rotated), "the previous key still counts");
        let other = Keys { consent: vec!["a-newer-key-of-the-app".to_owned().into()], ..keys() };
        prop_assert!(!genuine(&listed, &other));
        match part {
            0 => listed["consent_request"]["login_challenge"] = json!(format!("{login}0")),
            1 => listed["consent_request"]["client"]["client_id"] = json!(format!("{client}x")),
            2 => listed["consent_request"]["subject"] = json!(format!("{subject}x")),
            3 => listed["context"]["grant"] = json!("uid-2"),
            4 => listed["context"]["expiresAt"] = json!("2199-01-01T00:00:00Z"),
            5 => listed["context"]["purpose"] = json!("other"),
            6 => listed["grant_scope"].as_array_mut().unwrap().push(json!("zzzz")),
            _ => listed["grant_access_token_audience"].as_array_mut().unwrap().push(json!("zzzz")),
        }
        prop_assert!(!genuine(&listed, &keys()), "part {part}");
    }
}
