//! Something that the operator leans on is away: nothing is claimed, nothing is lost, and what ends ends
//! as soon as it can.

use std::time::{Duration, Instant};

use clientgrant_testbed::bed::condition;
use clientgrant_testbed::{Action, AuthRequest, ConsentApp, Stall};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Real, active, ahead, bed, chain, pause, until};

const SCOPE: &str = "openid offline_access transactions:read";
const CORP: &str = "clusteridentityproviders/corp";

fn own(client: &str) -> Value {
    json!({"clientID": client, "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]})
}

async fn batch(bed: &Real) -> clientgrant_testbed::OAuthClient {
    bed.client("batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_of_the_idp_every_grant_says_again_how_it_stands() {
    let bed = bed().await;
    bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "waiting", json!({})).await.unwrap();
    bed.reason("finance", "waiting", "AwaitingConsent").await.unwrap();
    bed.proxy.set_rule(|_| Action::DropRequest);
    // It is polled while it waits, and tells that it cannot be.
    let seen = bed.reason("finance", "waiting", "ProviderUnavailable").await.unwrap();
    assert_eq!(condition(&seen, "Ready")["status"], "Unknown");
    assert_eq!(condition(&seen, "Active")["status"], "False", "as it was");
    bed.proxy.clear_rule();
    bed.reason("finance", "waiting", "AwaitingConsent").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_rules_acts_at_once_even_if_the_idp_is_silent() {
    let bed = bed().await;
    let client = batch(&bed).await;
    bed.grant("finance", "batch", own("batch")).await.unwrap();
    bed.reason("finance", "batch", "Granted").await.unwrap();
    assert!(client.client_credentials("ledger:read", "").await.unwrap().access_token().is_some(), "positive control");
    bed.proxy.set_rule(|_| Action::Blackhole);
    bed.patch(CORP, json!({"spec": {"allow": [{"clients": ["batch"], "scopes": ["other"]}]}})).await.unwrap();
    let (begun, stall) = (Instant::now(), Stall::watch());
    loop {
        let asked = begun.elapsed();
        let token = client.client_credentials("ledger:read", "").await.unwrap();
        if token.error() == Some("access_denied") {
            break;
        }
        assert!(asked < Duration::from_millis(500) + stall.lost(), "{}", token.json);
        pause(50).await;
    }
    bed.operator.wait_log("reason=\"GrantRefused\"", Duration::from_secs(1) + stall.lost()).await.unwrap();
    bed.proxy.clear_rule();
    bed.patch(CORP, json!({"spec": {"allow": [{"clients": ["batch"]}]}})).await.unwrap();
    let granted = |o: &Value| condition(o, "Ready")["reason"] == "Granted";
    bed.wait("namespaces/finance/clientgrants/batch", "granted", Duration::from_secs(60), granted).await.unwrap();
}

/// In a namespace that ends the Secret goes first; what its provider's grants gave must end all the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_gone_and_then_the_provider_and_the_grants_still_end() {
    let bed = bed().await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let tokens = chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
    let secret = "api/v1/namespaces/clientgrant-system/secrets/hydra-hook";
    let (status, answer) = bed.raw(Method::DELETE, secret, None).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    bed.delete(CORP).await.unwrap();
    pause(2500).await;
    assert!(bed.get(CORP).await.unwrap().is_some(), "it stays while a grant names it");
    assert!(active(&bed, &tokens.access).await, "positive control");
    bed.delete("namespaces/finance/clientgrants/reporting").await.unwrap();
    bed.gone("namespaces/finance/clientgrants/reporting").await.unwrap();
    assert!(!active(&bed, &tokens.access).await);
    assert!(bed.hydra.admin().list_consents("ann").await.unwrap().is_empty());
    bed.gone(CORP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_provider_object_a_grant_is_neither_let_go_nor_called_expired() {
    let bed = bed().await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    let end = ahead(12);
    bed.grant("finance", "deleted", json!({})).await.unwrap();
    bed.grant("finance", "expiring", json!({"subject": {"id": "bob"}, "expiresAt": end})).await.unwrap();
    bed.reason("finance", "deleted", "AwaitingConsent").await.unwrap();
    bed.reason("finance", "expiring", "AwaitingConsent").await.unwrap();
    let ann = chain(&bed, &client, "ann", SCOPE).await;
    let bob = chain(&bed, &client, "bob", SCOPE).await;
    bed.reason("finance", "deleted", "Granted").await.unwrap();
    bed.reason("finance", "expiring", "Granted").await.unwrap();

    let held = bed.get(CORP).await.unwrap().unwrap();
    assert!(held["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty()), "{held:#}");
    bed.delete(CORP).await.unwrap();
    bed.patch(CORP, json!({"metadata": {"finalizers": null}})).await.unwrap();
    bed.gone(CORP).await.unwrap();
    bed.delete("namespaces/finance/clientgrants/deleted").await.unwrap();
    let blocked = |o: &Value| condition(o, "Ready")["reason"] == "RevocationBlocked";
    let path = "namespaces/finance/clientgrants/deleted";
    bed.wait(path, "blocked", Duration::from_secs(20), blocked).await.unwrap();
    until(&end).await;
    let overdue = |o: &Value| condition(o, "Ready")["reason"] == "RevocationOverdue";
    let path = "namespaces/finance/clientgrants/expiring";
    bed.wait(path, "overdue", Duration::from_secs(20), overdue).await.unwrap();

    let again = json!({
        "apiVersion": held["apiVersion"], "kind": held["kind"], "metadata": {"name": "corp"}, "spec": held["spec"],
    });
    bed.put(CORP, again).await.unwrap();
    bed.gone("namespaces/finance/clientgrants/deleted").await.unwrap();
    bed.reason("finance", "expiring", "Expired").await.unwrap();
    assert!(!active(&bed, &ann.access).await && !active(&bed, &bob.access).await);
}

/// The finalizer of the provider is put on although somebody edits the object meanwhile, and taken off
/// beside others'.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_held_and_released_beside_the_finalizers_of_others() {
    let bed = bed().await;
    let others = json!({"metadata": {"finalizers": ["clientgrant.dev/grants", "example.com/theirs"]}});
    bed.patch(CORP, others).await.unwrap();
    bed.delete(CORP).await.unwrap();
    let released = |o: &Value| o["metadata"]["finalizers"] == json!(["example.com/theirs"]);
    bed.wait(CORP, "released", Duration::from_secs(15), released).await.unwrap();
    bed.patch(CORP, json!({"metadata": {"finalizers": null}})).await.unwrap();
    bed.gone(CORP).await.unwrap();
}

/// The app of an existing client had remembered consents, which no list shows while they let logins skip.
#[tokio::test(flavor = "multi_thread")]
async fn a_consent_remembered_before_does_not_lock_anybody_out() {
    let bed = bed().await;
    let client = bed.client("portal", json!({"scope": SCOPE})).await.unwrap();
    let browser = bed.browser().unwrap();
    let request = AuthRequest::new("portal", clientgrant_testbed::bed::CALLBACK, SCOPE, "ann");
    let remembers = ConsentApp::blind(
        |asked| json!({"grant_scope": asked["requested_scope"], "remember": true, "remember_for": 0}),
    );
    assert!(browser.authorize(&request, &remembers).await.unwrap().code().is_some());
    bed.grant("finance", "portal", json!({"clientID": "portal", "subject": {"kind": "Any", "id": null}}))
        .await
        .unwrap();
    bed.reason("finance", "portal", "Granted").await.unwrap();
    let skipped = browser.authorize(&request, &bed.honest()).await.unwrap();
    assert!(skipped.consent_skip && skipped.decision_word() == Some("Deny"), "{skipped:?}");
    pause(1500).await;
    let asked = browser.authorize(&request, &bed.honest()).await.unwrap();
    assert_eq!((asked.consent_skip, asked.decision_word()), (false, Some("Ask")), "{asked:?}");
    let token = client.exchange_code(asked.code().unwrap(), clientgrant_testbed::bed::CALLBACK).await.unwrap();
    assert!(token.access_token().is_some(), "{}", token.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_named_like_a_client_of_its_own_is_told_at_once() {
    let bed = bed().await;
    bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.client("robot", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    let spec = json!({"basis": "AdminConsent", "subject": {"id": "robot"}});
    bed.grant("finance", "user", spec).await.unwrap();
    bed.reason("finance", "user", "Granted").await.unwrap();
    bed.grant("it", "robot", own("robot")).await.unwrap();
    let told = bed.reason("finance", "user", "SubjectClientCollision").await.unwrap();
    assert_eq!(condition(&told, "Active")["status"], "False");
    bed.delete("namespaces/it/clientgrants/robot").await.unwrap();
    bed.gone("namespaces/it/clientgrants/robot").await.unwrap();
    bed.reason("finance", "user", "Granted").await.unwrap();
}
