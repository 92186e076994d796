//! The proof that the identity provider asks the token hook, and what holds where it is not proved.

use std::time::Duration;

use clientgrant_testbed::bed::condition;
use clientgrant_testbed::canary::hook_key;
use clientgrant_testbed::{Action, Iproxy, Storage, TokenHook};
use serde_json::{Value, json};

use crate::support::{Real, active, bed_with, chain, pause};

const SCOPE: &str = "openid offline_access transactions:read";
const CORP: &str = "clusteridentityproviders/corp";
const LONG: Duration = Duration::from_secs(20);

async fn hook_says(bed: &Real, reason: &str) -> Value {
    bed.wait(CORP, reason, LONG, |o| condition(o, "TokenHook")["reason"] == reason).await.unwrap()
}

/// A bed whose Hydra can be started anew with another hook and keeps its clients.
async fn lasting() -> Real {
    bed_with(|options| {
        options.storage = Storage::Sqlite;
        options.provider["driftCheckInterval"] = json!("1s");
    })
    .await
}

async fn with_hook(bed: &mut Real, hook: Option<TokenHook>) {
    bed.hydra.options_mut().token_hook = hook;
    bed.hydra.restart().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_is_called_is_proved_and_grants_say_so() {
    let bed = bed_with(|options| options.provider["hydra"] = json!({"adminFenced": true})).await;
    let provider = hook_says(&bed, "Called").await;
    assert_eq!(condition(&provider, "TokenHook")["status"], "True");
    assert_eq!(provider["status"]["guarantees"][0]["name"], "TokenHook");
    bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({"basis": "AdminConsent"})).await.unwrap();
    let grant = bed.reason("finance", "reporting", "Granted").await.unwrap();
    assert_eq!(condition(&grant, "Enforced")["reason"], "AllPartsHeld");
    assert_eq!(condition(&grant, "Enforced")["status"], "True");
    // The probe client can do nothing else.
    let clients = bed.hydra.admin().list_clients().await.unwrap();
    let probe = clients.iter().find(|c| c["client_id"].as_str().unwrap().starts_with("clientgrant-probe-")).unwrap();
    assert!(probe["scope"].as_str().unwrap().split(' ').all(|s| s.starts_with("clientgrant.dev/probe-")), "{probe}");
    assert_eq!(probe["grant_types"], json!(["client_credentials"]));
}

/// Somebody takes the hook out of Hydra's configuration: what was given narrows and ends as before, and
/// nothing is widened or begun until a probe is seen again.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_call_grants_narrow_and_never_widen() {
    let mut bed = lasting().await;
    let wide = json!({"scope": format!("{SCOPE} transactions:export")});
    let client = bed.client("finance-reporting", wide).await.unwrap();
    bed.client("later", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.grant("finance", "second", json!({"subject": {"id": "bob"}})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    bed.reason("finance", "second", "AwaitingConsent").await.unwrap();
    let tokens = chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
    let hook = bed.hydra.options_mut().token_hook.clone();
    assert!(hook.is_some());

    with_hook(&mut bed, None).await;
    hook_says(&bed, "NotCalled").await;
    let told = bed.reason("finance", "reporting", "HookNotProved").await.unwrap();
    assert_eq!(condition(&told, "Active")["status"], "True", "as last known");
    assert_eq!(condition(&told, "Reconciling")["status"], "True");
    let scope = |bed: &Real| bed.hydra.admin().clone();
    let registered =
        async |bed: &Real, id: &str| scope(bed).get_client(id).await.unwrap()["scope"].as_str().unwrap().to_owned();
    let before = registered(&bed, "finance-reporting").await;
    // Wider, and a client that nobody manages yet: neither happens.
    let wider = json!({"spec": {"scopes": ["openid", "offline_access", "transactions:read", "transactions:export"]}});
    bed.patch("namespaces/finance/clientgrants/second", wider).await.unwrap();
    bed.grant("finance", "later", json!({"clientID": "later"})).await.unwrap();
    bed.reason("finance", "second", "HookNotProved").await.unwrap();
    bed.reason("finance", "later", "HookNotProved").await.unwrap();
    pause(2_500).await;
    assert_eq!(registered(&bed, "finance-reporting").await, before);
    let later = bed.hydra.admin().get_client("later").await.unwrap();
    assert!(later["metadata"]["clientgrant.dev/cluster"].is_null(), "{later}");
    // What ends, ends.
    assert!(active(&bed, &tokens.access).await, "positive control");
    bed.delete("namespaces/finance/clientgrants/reporting").await.unwrap();
    bed.gone("namespaces/finance/clientgrants/reporting").await.unwrap();
    assert!(!active(&bed, &tokens.access).await);
    let narrower = json!({"spec": {"scopes": ["openid"]}});
    bed.patch("namespaces/finance/clientgrants/second", narrower).await.unwrap();
    let end = std::time::Instant::now() + LONG;
    while registered(&bed, "finance-reporting").await != "openid" {
        assert!(std::time::Instant::now() < end, "{}", registered(&bed, "finance-reporting").await);
        pause(20).await;
    }

    with_hook(&mut bed, hook).await;
    hook_says(&bed, "Called").await;
    bed.reason("finance", "second", "AwaitingConsent").await.unwrap();
    bed.reason("finance", "later", "AwaitingConsent").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_hook_and_a_dead_one_are_told_apart() {
    let mut bed = lasting().await;
    hook_says(&bed, "Called").await;
    let ours = bed.hydra.options_mut().token_hook.clone().unwrap();
    // It refuses like ours would, and is not ours.
    let other = Iproxy::start("http://127.0.0.1:1").unwrap();
    other.set_rule(|_| Action::Answer(403, String::new()));
    with_hook(&mut bed, Some(TokenHook { url: other.url().to_owned(), api_key: hook_key().into() })).await;
    hook_says(&bed, "NotSeen").await;
    // Ours, with another key: whoever holds that one could call it too.
    with_hook(&mut bed, Some(TokenHook { api_key: "some-other-key-of-somebody".into(), ..ours.clone() })).await;
    let refused = || bed.operator.log().contains("reason=\"Unauthenticated\"");
    let end = std::time::Instant::now() + LONG;
    while !refused() {
        assert!(std::time::Instant::now() < end);
        pause(50).await;
    }
    hook_says(&bed, "NotSeen").await;
    let closed = format!("http://127.0.0.1:{}/", clientgrant_testbed::free_port().unwrap());
    with_hook(&mut bed, Some(TokenHook { url: closed, ..ours.clone() })).await;
    hook_says(&bed, "HookUnreachable").await;
    with_hook(&mut bed, Some(ours)).await;
    hook_says(&bed, "Called").await;
    // Somebody removes the probe client: it is registered again.
    let clients = bed.hydra.admin().list_clients().await.unwrap();
    let id = clients[0]["client_id"].as_str().unwrap();
    assert!(id.starts_with("clientgrant-probe-"));
    bed.hydra.admin().delete_client(id).await.unwrap();
    let end = std::time::Instant::now() + LONG;
    while bed.hydra.admin().list_clients().await.unwrap().is_empty() {
        assert!(std::time::Instant::now() < end);
        pause(50).await;
    }
    assert_eq!(condition(&bed.get(CORP).await.unwrap().unwrap(), "TokenHook")["reason"], "Called");
}

/// Hydra's calls arrive at the replica that follows: it passes on what it saw.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_another_replica_saw_is_a_proof_too() {
    let mut bed = lasting().await;
    let second = bed.second_operator(&[]).unwrap();
    second.ready(Duration::from_secs(30)).await.unwrap();
    let ours = bed.hydra.options_mut().token_hook.clone().unwrap();
    let url = format!("{}/hydra/token-hook/corp", second.decision_url());
    second.mark_log();
    with_hook(&mut bed, Some(TokenHook { url, ..ours })).await;
    second.wait_log("reason=\"Probe\"", LONG).await.unwrap();
    pause(3_000).await;
    hook_says(&bed, "Called").await;
    bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({"basis": "AdminConsent"})).await.unwrap();
    bed.reason("finance", "reporting", "Granted").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_hook_is_declared_status_says_what_nobody_enforces() {
    let mut bed = bed_with(|options| {
        options.storage = Storage::Sqlite;
        options.provider["hydra"] = json!({"tokenHook": null});
    })
    .await;
    with_hook(&mut bed, None).await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let tokens = chain(&bed, &client, "ann", SCOPE).await;
    let grant = bed.reason("finance", "reporting", "Granted").await.unwrap();
    assert_eq!(condition(&grant, "Enforced")["status"], "False");
    let parts = grant["status"]["enforcement"].clone();
    assert_eq!(parts["notEnforced"], json!(["SharedAdminAPI", "TokenIssuance"]));
    assert_eq!(parts["points"], json!(["ClientCeiling", "ConsentDecision"]));
    assert!(parts["maxResidualSeconds"].is_null(), "no bound: {parts}");
    assert!(condition(&bed.get(CORP).await.unwrap().unwrap(), "TokenHook").is_null());
    bed.delete("namespaces/finance/clientgrants/reporting").await.unwrap();
    bed.gone("namespaces/finance/clientgrants/reporting").await.unwrap();
    assert!(!active(&bed, &tokens.access).await, "ends are held all the same");
}

/// Where anybody may register clients, one that nobody manages gets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_registration_is_found_and_its_clients_are_refused() {
    let mut bed = bed_with(|options| {
        options.storage = Storage::Sqlite;
        options.provider["driftCheckInterval"] = json!("1s");
        options.provider["unmanagedClients"] = Value::Null;
    })
    .await;
    let stray = bed.client("stray", json!({"grant_types": ["client_credentials"], "scope": "x"})).await.unwrap();
    let token = stray.client_credentials("x", "").await.unwrap();
    assert!(token.access_token().is_some(), "positive control: {}", token.json);
    assert!(condition(&bed.get(CORP).await.unwrap().unwrap(), "RegistrationOpen").is_null());
    bed.hydra.options_mut().extra = json!({"oidc": {"dynamic_client_registration": {"enabled": true}}});
    bed.hydra.restart().await.unwrap();
    bed.wait(CORP, "open", LONG, |o| condition(o, "RegistrationOpen")["status"] == "True").await.unwrap();
    let token = stray.client_credentials("x", "").await.unwrap();
    assert_eq!(token.error(), Some("access_denied"), "{}", token.json);
    bed.patch(CORP, json!({"spec": {"unmanagedClients": "Allow"}})).await.unwrap();
    let lets =
        |o: &Value| condition(o, "RegistrationOpen")["message"].as_str().is_some_and(|m| m.contains("lets them all"));
    bed.wait(CORP, "said", LONG, lets).await.unwrap();
    let token = stray.client_credentials("x", "").await.unwrap();
    assert!(token.access_token().is_some(), "{}", token.json);
}
