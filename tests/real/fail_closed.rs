//! Fail closed: whatever is dead, silent or wrong, no token comes of it.

use std::time::{Duration, Instant};

use clientgrant_testbed::bed::{Bed, CALLBACK};
use clientgrant_testbed::canary::{self, consent_key, hook_key};
use clientgrant_testbed::net::http;
use clientgrant_testbed::{Action, AuthRequest, OAuthClient, Stall};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Chain, Real, ahead, bed, chain, pause, until};

const SCOPE: &str = "openid offline_access transactions:read";
const HOOK: &str = "hydra/token-hook/corp";

/// A client that acts for ann and one that acts for itself, both in force, with a chain of ann's.
async fn in_force(bed: &Bed) -> (OAuthClient, OAuthClient, Chain) {
    let users = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    let batch =
        bed.client("batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    let own = json!({"clientID": "batch", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", "batch", own).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let tokens = chain(bed, &users, "ann", SCOPE).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
    bed.reason("finance", "batch", "Granted").await.unwrap();
    (users, batch, tokens)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_operator_is_dead_hydra_issues_nothing() {
    let mut bed = bed().await;
    let (users, batch, tokens) = in_force(&bed).await;
    let request = AuthRequest::new(users.id(), CALLBACK, SCOPE, "ann");
    let outcome = bed.browser().unwrap().authorize(&request, &bed.honest()).await.unwrap();
    let code = outcome.code().expect("a code").to_owned();
    assert!(batch.client_credentials("ledger:read", "").await.unwrap().access_token().is_some(), "positive control");

    bed.operator.kill();
    let (exchange, refresh, own) = tokio::join!(
        users.exchange_code(&code, CALLBACK),
        users.refresh(&tokens.refresh),
        batch.client_credentials("ledger:read", "")
    );
    for (flow, token) in [("code", exchange), ("refresh", refresh), ("own", own)] {
        let token = token.unwrap();
        assert!(token.access_token().is_none() && token.refresh_token().is_none(), "{flow}: {}", token.json);
        assert_eq!(token.error(), Some("server_error"), "{flow}: {}", token.json);
    }

    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    let token = users.exchange_code(&code, CALLBACK).await.unwrap();
    assert!(token.access_token().is_some(), "the same code: {}", token.json);
    let token = users.refresh(&tokens.refresh).await.unwrap();
    assert!(token.access_token().is_some(), "the same refresh token: {}", token.json);
    assert!(batch.client_credentials("ledger:read", "").await.unwrap().access_token().is_some());
}

/// Takes the right to list one resource out of a role, or puts all back.
async fn rights(bed: &Bed, role: &str, whole: &Value, without: Option<&str>) {
    let mut rules = whole["rules"].clone();
    for rule in rules.as_array_mut().unwrap() {
        let resources = rule["resources"].as_array_mut().unwrap();
        if resources.len() > 1 {
            resources.retain(|r| r.as_str() != without);
        } else if resources[0].as_str() == without {
            rule["verbs"] = json!(["get"]);
        }
    }
    let kind = "application/merge-patch+json";
    let (status, answer) = bed.raw(Method::PATCH, role, Some((json!({"rules": rules}), kind))).await.unwrap();
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn until_every_kind_is_read_completely_the_answer_is_no() {
    let mut bed = bed().await;
    let (users, batch, tokens) = in_force(&bed).await;
    let mut refresh = tokens.refresh;
    const CLUSTER: &str = "apis/rbac.authorization.k8s.io/v1/clusterroles/clientgrant";
    const RECORD: &str = "apis/rbac.authorization.k8s.io/v1/namespaces/clientgrant-system/roles/clientgrant";
    let (_, cluster) = bed.raw(Method::GET, CLUSTER, None).await.unwrap();
    let (_, record) = bed.raw(Method::GET, RECORD, None).await.unwrap();
    let ready = format!("{}/readyz", bed.operator.health_url());
    let http = http().build().unwrap();
    for (role, whole, kind) in [
        (CLUSTER, &cluster, "clientgrants"),
        (CLUSTER, &cluster, "clusteridentityproviders"),
        (CLUSTER, &cluster, "identityproviders"),
        (CLUSTER, &cluster, "clientidentities"),
        (CLUSTER, &cluster, "clientquarantines"),
        (CLUSTER, &cluster, "namespaces"),
        (RECORD, &record, "configmaps"),
    ] {
        bed.operator.kill();
        rights(&bed, role, whole, Some(kind)).await;
        bed.proxy.clear();
        bed.operator.restart().unwrap();
        bed.operator.listens(Duration::from_secs(30)).await.unwrap();
        // Long enough to read everything else.
        pause(1500).await;
        let health = http.get(&ready).send().await.unwrap();
        assert_eq!(health.status().as_u16(), 503, "without {kind}: {}", health.text().await.unwrap());
        bed.hooks.clear();
        let own = batch.client_credentials("ledger:read", "").await.unwrap();
        assert_eq!(own.error(), Some("access_denied"), "without {kind}: {}", own.json);
        let again = users.refresh(&refresh).await.unwrap();
        assert_eq!(again.error(), Some("access_denied"), "without {kind}: {}", again.json);
        assert!(bed.hook_calls().iter().all(|r| r.status == Some(403)));
        bed.operator.wait_log("reason=\"NotReady\"", Duration::from_secs(1)).await.unwrap();
        assert!(bed.written().is_empty(), "nothing is done either");

        rights(&bed, role, whole, None).await;
        bed.operator.ready(Duration::from_secs(60)).await.unwrap();
        bed.ready().await.unwrap();
        let token = batch.client_credentials("ledger:read", "").await.unwrap();
        assert!(token.access_token().is_some(), "with {kind} again: {}", token.json);
        let token = users.refresh(&refresh).await.unwrap();
        refresh = token.refresh_token().unwrap_or_else(|| panic!("with {kind} again: {}", token.json)).to_owned();
    }
}

/// The slowest answer of the hook, from Hydra's question to the operator's word.
fn slowest(bed: &Real) -> Duration {
    let requests = bed.hook_calls();
    assert!(!requests.is_empty());
    requests.iter().map(|r| r.duration.unwrap_or_else(|| panic!("no answer to {}", r.n))).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_answers_within_two_seconds_whoever_is_silent() {
    let bed = bed().await;
    let (users, batch, tokens) = in_force(&bed).await;
    let end = ahead(10);
    bed.client("brief", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    let brief = bed.oauth("brief").unwrap();
    let own = json!({"clientID": "brief", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"], "expiresAt": end});
    bed.grant("finance", "brief", own).await.unwrap();
    bed.reason("finance", "brief", "Granted").await.unwrap();

    // The API server is frozen: what was read stands, and ends end.
    let stall = Stall::watch();
    bed.plane.pause().unwrap();
    bed.hooks.clear();
    let token = brief.client_credentials("ledger:read", "").await.unwrap();
    assert!(token.access_token().is_some(), "positive control: before its end: {}", token.json);
    let token = users.refresh(&tokens.refresh).await.unwrap();
    let refresh = token.refresh_token().unwrap_or_else(|| panic!("{}", token.json)).to_owned();
    until(&end).await;
    let token = brief.client_credentials("ledger:read", "").await.unwrap();
    assert!(token.access_token().is_none(), "{}", token.json);
    println!("API server frozen: slowest answer {:?}", slowest(&bed));
    assert!(slowest(&bed) < Duration::from_secs(2) + stall.lost());
    bed.plane.resume().unwrap();

    // Hydra's list of consents is silent: no, and nothing is lost by it.
    bed.hooks.clear();
    bed.proxy.set_rule(|r| match r.path().contains("/sessions/consent") {
        true => Action::Blackhole,
        false => Action::Forward,
    });
    let stall = Stall::watch();
    let token = users.refresh(&refresh).await.unwrap();
    assert_eq!(token.error(), Some("access_denied"), "{}", token.json);
    bed.operator.wait_log("reason=\"LookupFailed\"", Duration::from_secs(1)).await.unwrap();
    let body = bed.hook_calls()[0].body.clone();
    let token = batch.client_credentials("ledger:read", "").await.unwrap();
    assert!(token.access_token().is_some(), "what needs no look-up is not held up: {}", token.json);
    let http = http().build().unwrap();
    let url = format!("{}/{HOOK}", bed.hooks.url());
    let calls = (0..100).map(|_| {
        let call = http.post(&url).header("x-api-key", hook_key()).body(body.clone());
        async { call.send().await.unwrap().status().as_u16() }
    });
    assert!(futures::future::join_all(calls).await.iter().all(|status| *status == 403));
    println!("list of consents silent: slowest of {} answers {:?}", bed.hook_calls().len(), slowest(&bed));
    assert!(slowest(&bed) < Duration::from_secs(2) + stall.lost());
    bed.proxy.set_rule(|r| match r.path().contains("/sessions/consent") {
        true => Action::Answer(500, "{}".into()),
        false => Action::Forward,
    });
    assert_eq!(users.refresh(&refresh).await.unwrap().error(), Some("access_denied"));
    bed.proxy.clear_rule();
    let token = users.refresh(&refresh).await.unwrap();
    assert!(token.access_token().is_some(), "the same refresh token: {}", token.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_not_hydras_get_no_yes_and_do_no_harm() {
    let bed = bed().await;
    let (_, batch, _) = in_force(&bed).await;
    bed.hooks.clear();
    batch.client_credentials("ledger:read", "").await.unwrap();
    let genuine = bed.hook_calls()[0].body.clone();
    let http = http().pool_max_idle_per_host(0).build().unwrap();
    let base = bed.operator.decision_url();
    let call = async |path: &str, key: Option<&str>, body: Vec<u8>| {
        let large = body.len() > 64 << 10;
        let mut request = http.post(format!("{base}/{path}")).body(body);
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        let begun = Instant::now();
        let answer = match request.send().await {
            // The operator hangs up on what is too large while it is still being sent.
            Err(_) if large => return (413, String::new()),
            answer => answer.unwrap(),
        };
        assert!(begun.elapsed() < Duration::from_secs(2));
        let status = answer.status().as_u16();
        (status, answer.text().await.unwrap_or_default())
    };
    let yes = async || call(HOOK, Some(hook_key()), genuine.clone().into()).await.0;
    assert_eq!(yes().await, 204, "positive control");

    let changed = |change: &dyn Fn(&mut Value)| {
        let mut body: Value = serde_json::from_str(&genuine).unwrap();
        change(&mut body);
        body.to_string().into_bytes()
    };
    let right = Some(hook_key());
    let wrong = format!("{}x", &hook_key()[..hook_key().len() - 1]);
    for (what, path, key, body) in [
        ("no key", HOOK, None, genuine.clone().into_bytes()),
        ("an empty key", HOOK, Some(""), genuine.clone().into()),
        ("a wrong key", HOOK, Some(&*wrong), genuine.clone().into()),
        ("half the key", HOOK, Some(&hook_key()[..10]), genuine.clone().into()),
        ("the consent app's key", HOOK, Some(consent_key()), genuine.clone().into()),
        ("no body", HOOK, right, Vec::new()),
        ("half a body", HOOK, right, genuine[..genuine.len() / 2].into()),
        ("bytes", HOOK, right, vec![0xff; 100]),
        ("null", HOOK, right, "null".into()),
        ("a list", HOOK, right, "[]".into()),
        ("ten thousand brackets", HOOK, right, "[".repeat(10_000).into()),
        ("1 MB", HOOK, right, vec![b' '; 1 << 20]),
        ("a genuine body in 1 MB", HOOK, right, format!("{genuine}{}", " ".repeat(1 << 20)).into()),
        (
            "two grant types",
            HOOK,
            right,
            changed(&|b| b["request"]["grant_types"] = json!(["client_credentials", "client_credentials"])),
        ),
        ("no grant type", HOOK, right, changed(&|b| b["request"]["grant_types"] = json!([]))),
        ("password", HOOK, right, changed(&|b| b["request"]["grant_types"] = json!(["password"]))),
        ("a number as grant type", HOOK, right, changed(&|b| b["request"]["grant_types"] = json!([5]))),
        ("no client", HOOK, right, changed(&|b| b["request"]["client_id"] = json!(""))),
        ("an unknown client", HOOK, right, changed(&|b| b["request"]["client_id"] = json!("nobody"))),
        ("scopes as text", HOOK, right, changed(&|b| b["request"]["granted_scopes"] = json!("ledger:read"))),
        ("no session", HOOK, right, changed(&|b| _ = b.as_object_mut().unwrap().remove("session"))),
        ("another provider", "hydra/token-hook/other", right, genuine.clone().into()),
        ("a namespaced provider", "hydra/token-hook/finance/corp", right, genuine.clone().into()),
        ("no provider", "hydra/token-hook/", right, genuine.clone().into()),
        ("a path above", "hydra/token-hook/../../corp", right, genuine.clone().into()),
        ("another endpoint", "hydra/consent/corp", right, genuine.clone().into()),
        ("consent without key", "hydra/consent/corp", None, br#"{"consent_challenge": "x"}"#.into()),
        ("consent with nothing", "hydra/consent/corp", Some(consent_key()), b"{}".into()),
        ("consent with another type", "hydra/consent/corp", Some(consent_key()), br#"{"consent_challenge": 5}"#.into()),
        ("an unknown challenge", "hydra/consent/corp", Some(consent_key()), br#"{"consent_challenge": "x"}"#.into()),
        (
            "a challenge that climbs",
            "hydra/consent/corp",
            Some(consent_key()),
            br#"{"consent_challenge": "../../clients/batch"}"#.into(),
        ),
    ] {
        let (status, text) = call(path, key, body).await;
        assert!((400..500).contains(&status), "{what}: {status} {text}");
        canary::untold(what, &text);
    }
    let get = http.get(format!("{base}/{HOOK}")).header("x-api-key", hook_key()).send().await.unwrap();
    assert_eq!(get.status().as_u16(), 405);
    assert_eq!(yes().await, 204, "and after all that a genuine call gets its yes");
    assert!(bed.operator.process().is_alive());
    let log = bed.operator.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(!log.contains(&wrong), "a wrong key in the log");
}
