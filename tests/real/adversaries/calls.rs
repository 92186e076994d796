//! Somebody who calls the decision endpoints and is not Hydra, nor the consent app.

use std::time::{Duration, Instant};

use clientgrant_testbed::bed::CALLBACK;
use clientgrant_testbed::canary::{consent_key, hook_key};
use clientgrant_testbed::net::http;
use clientgrant_testbed::{AuthRequest, Challenge};
use reqwest::Method;
use serde_json::{Value, json};

use super::{SCOPE, path, unharmed};
use crate::support::{Real, bed, chain, pause};

const HOOK: &str = "hydra/token-hook/corp";
const CONSENT: &str = "hydra/consent/corp";

/// One call, answered within a second: status and text.
async fn call(bed: &Real, path: &str, key: Option<&str>, body: impl Into<Vec<u8>>) -> (u16, String) {
    let body = body.into();
    let large = body.len() > 64 << 10;
    let client = http().pool_max_idle_per_host(0).build().unwrap();
    let mut request = client.post(format!("{}/{path}", bed.operator.decision_url())).body(body);
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    let begun = Instant::now();
    let answer = match request.send().await {
        Ok(answer) => answer,
        // The operator hangs up on what is too large while it is still being sent.
        Err(_) if large => return (413, String::new()),
        Err(error) => panic!("{error}"),
    };
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap_or_default());
    assert!(begun.elapsed() < Duration::from_secs(1), "{path}: {:?}", begun.elapsed());
    (status, text)
}

fn changed(genuine: &str, change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut body: Value = serde_json::from_str(genuine).unwrap();
    change(&mut body);
    body.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_calls_the_token_hook_and_replays_what_hydra_asked() {
    let bed = bed().await;
    let users = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    let batch =
        bed.client("batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    let own = json!({"clientID": "batch", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.grant("finance", "batch", own.clone()).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    bed.reason("finance", "batch", "Granted").await.unwrap();
    bed.hooks.clear();
    let tokens = chain(&bed, &users, "ann", SCOPE).await;
    users.refresh(&tokens.refresh).await.unwrap().access_token().expect("a refreshed token");
    batch.client_credentials("ledger:read", "").await.unwrap().access_token().expect("a token");
    let genuine: Vec<String> = bed.hook_calls().into_iter().map(|r| r.body).collect();
    assert_eq!(genuine.len(), 3, "code, refresh, client_credentials");
    for body in &genuine {
        assert_eq!(call(&bed, HOOK, Some(hook_key()), body.clone()).await.0, 204, "positive control");
    }

    let body = &genuine[2];
    let wrong = format!("{}x", &hook_key()[1..]);
    for (what, key) in [
        ("no key", None),
        ("an empty key", Some("")),
        ("a wrong key", Some(&*wrong)),
        ("the app's key", Some(consent_key())),
    ] {
        for body in &genuine {
            assert_eq!(call(&bed, HOOK, key, body.clone()).await.0, 403, "{what}");
        }
    }
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(30_000), close.repeat(30_000));
    let before = bed.operator.rss_kib().unwrap();
    for (what, body, status) in [
        ("10 MB", vec![b'x'; 10 << 20], 413),
        ("a genuine body in 10 MB", format!("{body}{}", " ".repeat(10 << 20)).into_bytes(), 413),
        ("no JSON", b"<html>".to_vec(), 403),
        ("nothing", Vec::new(), 403),
        ("bytes", vec![0xff; 1000], 403),
        ("deep lists", nested("[", "]").into_bytes(), 403),
        ("open lists", "[".repeat(64_000).into_bytes(), 403),
        ("deep objects", "{\"a\":".repeat(12_000).into_bytes(), 403),
        ("a deep session", format!(r#"{{"session": {}, {}"#, nested("[", "]"), &body[1..]).into_bytes(), 403),
        (
            "two grant types",
            changed(body, |b| b["request"]["grant_types"] = json!(["client_credentials", "refresh_token"])),
            403,
        ),
        ("an unknown client", changed(body, |b| b["request"]["client_id"] = json!("nobody")), 403),
        ("another client", changed(body, |b| b["request"]["client_id"] = json!("finance-reporting")), 403),
        ("a client that is a path", changed(body, |b| b["request"]["client_id"] = json!("../batch")), 403),
        ("a scope more", changed(body, |b| b["request"]["granted_scopes"] = json!(["ledger:read", "admin"])), 403),
        (
            "another subject's consent",
            changed(&genuine[1], |b| b["session"]["id_token"]["subject"] = json!("eve")),
            403,
        ),
        ("a made-up challenge", changed(&genuine[1], |b| b["session"]["consent_challenge"] = json!("made-up")), 403),
        ("no challenge", changed(&genuine[1], |b| b["session"]["consent_challenge"] = Value::Null), 403),
    ] {
        assert_eq!(call(&bed, HOOK, Some(hook_key()), body).await.0, status, "{what}");
    }
    let grew = bed.operator.rss_kib().unwrap().saturating_sub(before);
    println!("after large and deep hook bodies: {grew} KiB more");
    assert!(grew < 64 << 10, "{grew} KiB");
    assert_eq!(call(&bed, HOOK, Some(hook_key()), body.clone()).await.0, 204, "a genuine call still gets its yes");

    // Replayed after each kind of end, and when a new grant has the name.
    for name in ["reporting", "batch"] {
        bed.patch(&path(name), json!({"spec": {"suspend": true}})).await.unwrap();
        bed.reason("finance", name, "Suspended").await.unwrap();
    }
    let replayed = async |when: &str| {
        for body in &genuine {
            let (status, text) = call(&bed, HOOK, Some(hook_key()), body.clone()).await;
            assert_eq!(status, 403, "{when}: {text}");
        }
    };
    replayed("suspended").await;
    for name in ["reporting", "batch"] {
        bed.delete(&path(name)).await.unwrap();
        bed.gone(&path(name)).await.unwrap();
    }
    replayed("deleted").await;
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    for body in &genuine[..2] {
        let (status, _) = call(&bed, HOOK, Some(hook_key()), body.clone()).await;
        assert_eq!(status, 403, "the consent was given under the grant before");
    }
    unharmed(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_calls_the_consent_decision_and_replays_a_challenge() {
    let bed = bed().await;
    bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let browser = bed.browser().unwrap();
    let request = AuthRequest::new("finance-reporting", CALLBACK, SCOPE, "ann");
    let opened = browser.open(&request).await.unwrap();
    let challenge = opened.consent_challenge.clone().expect("a challenge");
    let body = json!({"consent_challenge": challenge}).to_string();
    let (status, text) = call(&bed, CONSENT, Some(consent_key()), body.clone()).await;
    assert!(status == 200 && text.contains(r#""decision":"Ask""#), "positive control: {text}");

    let before = bed.operator.rss_kib().unwrap();
    let wrong = format!("{}x", &consent_key()[1..]);
    let challenged = |c: &str| json!({"consent_challenge": c}).to_string().into_bytes();
    let half = &challenge[..challenge.len() / 2];
    let mut flipped = challenge.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let all = Some(consent_key());
    for (what, key, body) in [
        ("no key", None, body.clone().into_bytes()),
        ("a wrong key", Some(&*wrong), body.clone().into()),
        ("the hook's key", Some(hook_key()), body.clone().into()),
        ("10 MB", all, vec![b' '; 10 << 20]),
        ("no JSON", all, b"consent_challenge=x".to_vec()),
        ("deep", all, "[".repeat(64_000).into()),
        (
            "a deep challenge",
            all,
            format!(r#"{{"consent_challenge": {}{}}}"#, "[".repeat(30_000), "]".repeat(30_000)).into(),
        ),
        ("a challenge of 60 kB", all, challenged(&"x".repeat(60_000))),
        ("half a challenge", all, challenged(half)),
        ("a forged challenge", all, challenged(&flipped)),
        ("a challenge and a parameter", all, challenged(&format!("{challenge}&subject=bob"))),
        ("a path", all, challenged("../../../clients/finance-reporting?")),
        ("a line break", all, challenged("x\r\nX-Api-Key: x")),
    ] {
        let (status, text) = call(&bed, CONSENT, key, body).await;
        let yes = text.contains(r#""Ask""#) || text.contains(r#""Accept""#);
        assert!((200..500).contains(&status) && !yes, "{what}: {status} {text}");
        assert!(!text.contains("context"), "{what}: {text}");
    }
    let grew = bed.operator.rss_kib().unwrap().saturating_sub(before);
    println!("after large and deep consent bodies: {grew} KiB more");
    assert!(grew < 64 << 10, "{grew} KiB");

    // A real challenge is replayed when the grant has ended, and its old answer as well.
    let (_, old) = call(&bed, CONSENT, all, body.clone()).await;
    let old: Value = serde_json::from_str(&old).unwrap();
    bed.patch(&path("reporting"), json!({"spec": {"suspend": true}})).await.unwrap();
    bed.reason("finance", "reporting", "Suspended").await.unwrap();
    let (status, text) = call(&bed, CONSENT, all, body.clone()).await;
    assert!(status == 200 && text.contains("GrantSuspended"), "{status} {text}");
    let fields = ["grant_scope", "grant_access_token_audience", "remember", "remember_for", "context"];
    let accept: Value = fields.into_iter().map(|f| (f.to_owned(), old[f].clone())).collect();
    let next = bed.hydra.admin().accept(Challenge::Consent, &challenge, &accept).await.unwrap();
    assert!(next.starts_with(&bed.hydra.public_url()));
    let (status, text) = call(&bed, CONSENT, all, body.clone()).await;
    assert!(!text.contains(r#""Ask""#) && !text.contains(r#""Accept""#), "a used challenge: {status} {text}");

    // In force again, what was said under the same grant counts again, but not for another one.
    bed.delete(&path("reporting")).await.unwrap();
    bed.gone(&path("reporting")).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let app = bed.hostile(move |body, _, _| *body = accept.clone());
    let outcome = browser.authorize(&request, &app).await.unwrap();
    let token = bed.oauth("finance-reporting").unwrap();
    let token = token.exchange_code(outcome.code().expect("Hydra takes any answer"), CALLBACK).await.unwrap();
    assert_eq!(token.error(), Some("access_denied"), "an old answer for a new challenge: {}", token.json);
    pause(100).await;
    let get = http().build().unwrap();
    let get = get.request(Method::GET, format!("{}/{CONSENT}", bed.operator.decision_url())).send().await.unwrap();
    assert_eq!(get.status().as_u16(), 405);
    unharmed(&bed).await;
}
