//! What the real Hydra sends, kept as examples for the operator's parsers.
//!
//! The test compares names and types with `fixtures/`; `TESTBED_WRITE_FIXTURES=1` writes them anew.

mod common;

use std::path::Path;

use clientgrant_testbed::{AuthRequest, ConsentApp, Hydra, UserAgent};
use common::{AUDIENCE, Hook, REDIRECT, client, tools};
use serde_json::{Value, json};

#[tokio::test]
async fn real_answers_look_like_the_fixtures() {
    let hook = Hook::start().await;
    let hydra = Hydra::start(&tools(), hook.options()).await.unwrap();
    let client = client(&hydra, "shop").await;
    let browser = UserAgent::new(&hydra).unwrap();
    let mut request = AuthRequest::new("shop", REDIRECT, "openid offline_access read", "ann");
    request.audience = AUDIENCE.to_owned();
    let app = ConsentApp::blind(|asked| {
        json!({
            "grant_scope": asked["requested_scope"],
            "grant_access_token_audience": asked["requested_access_token_audience"],
            "remember": false,
            "remember_for": 0,
            "context": { "grant": "an example" },
        })
    });
    let outcome = browser.authorize(&request, &app).await.unwrap();
    let issued = client.exchange_code(outcome.code().unwrap(), REDIRECT).await.unwrap();
    assert_eq!(issued.status, 200, "{issued:?}");
    let at_code = one(hook.take());
    check("hook-authorization_code", &at_code);
    let fresh = client.refresh(issued.refresh_token().unwrap()).await.unwrap();
    assert_eq!(fresh.status, 200, "{fresh:?}");
    check("hook-refresh_token", &one(hook.take()));
    let own = client.client_credentials("read write", AUDIENCE).await.unwrap();
    assert_eq!(own.status, 200, "{own:?}");
    check("hook-client_credentials", &one(hook.take()));

    check("client", &hydra.admin().get_client("shop").await.unwrap());
    check("consent-request", outcome.consent_request.as_ref().unwrap());
    check("consent-session", &one(hydra.admin().list_consents("ann").await.unwrap()));
}

fn one(mut all: Vec<Value>) -> Value {
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn check(name: &str, seen: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/{name}.json"));
    if std::env::var_os("TESTBED_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, format!("{:#}\n", plain(None, seen))).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(shape(seen), shape(&kept), "{} is not what Hydra sends: {seen:#}", path.display());
}

/// The same value with short stand-ins for what is different each time.
fn plain(name: Option<&str>, value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), plain(Some(key), value))).collect(),
        Value::Array(items) => items.iter().map(|item| plain(name, item)).collect(),
        Value::String(text) => json!(stand_in(name.unwrap_or_default(), text)),
        other => other.clone(),
    }
}

/// Long challenges are sealed by Hydra, short ones (UUIDs) name a consent in hook and list.
fn stand_in(name: &str, text: &str) -> String {
    let stand_in = match name {
        _ if text.is_empty() => "",
        "challenge" | "consent_challenge" if text.len() > 36 => "a-long-consent-challenge",
        "challenge" | "consent_challenge" => "22222222-2222-4222-8222-222222222222",
        "login_challenge" => "33333333333343338333333333333333",
        "sid" | "login_session_id" => "11111111-1111-4111-8111-111111111111",
        "kid" => "44444444-4444-4444-8444-444444444444",
        "client_secret" | "registration_access_token" => "a-secret",
        _ => return without_port(text),
    };
    stand_in.to_owned()
}

/// The free ports of the test bed become 4444, Hydra's own.
fn without_port(text: &str) -> String {
    let Some((head, tail)) = text.split_once("127.0.0.1:") else {
        return text.to_owned();
    };
    let rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
    if tail.len() - rest.len() < 5 {
        return text.to_owned();
    }
    format!("{head}127.0.0.1:4444{rest}")
}

/// Names and types only. A list has the shape of its first item.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(items) => items.iter().take(1).map(shape).collect(),
        Value::String(_) => json!("string"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("bool"),
        Value::Null => Value::Null,
    }
}
