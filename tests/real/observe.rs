//! `mode: Observe`: the operator looks and tells, and nothing changes at the identity provider.

use clientgrant_testbed::AuthRequest;
use clientgrant_testbed::bed::{CALLBACK, condition};
use serde_json::{Value, json};

use crate::support::{Real, active, bed_with, chain, pause, strings};

const SCOPE: &str = "openid offline_access transactions:read";
const CORP: &str = "clusteridentityproviders/corp";

async fn mode(bed: &Real, mode: &str) {
    bed.patch(CORP, json!({"spec": {"mode": mode}})).await.unwrap();
}

async fn observing() -> Real {
    bed_with(|options| {
        options.provider["mode"] = json!("Observe");
        options.provider["driftCheckInterval"] = json!("1s");
    })
    .await
}

fn own(client: &str) -> Value {
    json!({"clientID": client, "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]})
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_passes_and_is_told_and_nothing_is_written() {
    let bed = observing().await;
    let wide =
        json!({"scope": format!("{SCOPE} admin"), "grant_types": ["authorization_code", "refresh_token", "implicit"]});
    let client = bed.client("finance-reporting", wide).await.unwrap();
    let batch = bed
        .client("batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read ledger:write"}))
        .await
        .unwrap();
    let other = bed.client("other", json!({"grant_types": ["client_credentials"], "scope": "x"})).await.unwrap();
    let before = bed.hydra.admin().list_clients().await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.grant("finance", "batch", own("batch")).await.unwrap();
    bed.grant("finance", "nobody", json!({"clientID": "nobody"})).await.unwrap();
    bed.grant("finance", "refused", json!({"clientID": "batch", "providerRef": {"name": "absent"}})).await.unwrap();
    for (name, reason) in
        [("reporting", "Observed"), ("batch", "Observed"), ("nobody", "UnknownClient"), ("refused", "ProviderNotFound")]
    {
        let seen = bed.reason("finance", name, reason).await.unwrap();
        assert!(seen["metadata"]["finalizers"].is_null(), "{name}");
    }
    let grant = bed.reason("finance", "reporting", "Observed").await.unwrap();
    assert_eq!(condition(&grant, "Active")["status"], "False", "nobody has consented");
    assert_eq!(condition(&grant, "Drifted")["reason"], "ExcessAndMissing");
    assert!(strings(&grant["status"]["drift"]["excess"]).contains(&"scope admin".to_owned()), "{grant:#}");
    assert_eq!(condition(&grant, "Enforced")["reason"], "NothingEnforced");

    // Tokens that Enforce would refuse: beyond the grant, of another client, and by another subject.
    let token = batch.client_credentials("ledger:write", "").await.unwrap();
    assert!(token.access_token().is_some(), "{}", token.json);
    let token = other.client_credentials("x", "").await.unwrap();
    assert!(token.access_token().is_some(), "{}", token.json);
    let request = AuthRequest::new("finance-reporting", CALLBACK, &format!("{SCOPE} admin"), "eve");
    let outcome = bed.browser().unwrap().authorize(&request, &bed.honest()).await.unwrap();
    assert_eq!(outcome.decision_word(), Some("Ask"), "{outcome:?}");
    let token = client.exchange_code(outcome.code().unwrap(), CALLBACK).await.unwrap();
    assert!(token.access_token().is_some(), "{}", token.json);
    let metrics = bed.operator.metrics().await.unwrap();
    for line in [
        r#"clientgrant_decisions_total{point="token_hook",decision="would_deny",reason="ScopeNotDeclared"} 1"#,
        r#"clientgrant_decisions_total{point="token_hook",decision="would_deny",reason="UnmanagedClient"} 1"#,
        r#"clientgrant_decisions_total{point="token_hook",decision="would_deny",reason="NoGrant"} 1"#,
        r#"clientgrant_decisions_total{point="consent",decision="would_deny",reason="NoGrant"} 1"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }

    // A consent of the grant's own subject is seen, and so is what an administrator changes.
    chain(&bed, &client, "ann", SCOPE).await;
    let path = "namespaces/finance/clientgrants/reporting";
    let long = std::time::Duration::from_secs(20);
    let seen = bed.wait(path, "active", long, |o| condition(o, "Active")["status"] == "True").await.unwrap();
    assert_eq!(condition(&seen, "Ready")["reason"], "Observed");
    let narrow = json!([{"op": "replace", "path": "/scope", "value": SCOPE}, {"op": "replace", "path": "/grant_types", "value": ["authorization_code", "refresh_token"]}]);
    let after = bed.hydra.admin().list_clients().await.unwrap();
    assert_eq!(before, after, "nothing was written");
    bed.hydra.admin().patch_client("finance-reporting", &narrow).await.unwrap();
    let excess = |o: &Value| o["status"]["drift"]["excess"].is_null();
    bed.wait(path, "without excess", long, excess).await.unwrap();

    // Where nothing is left of it, that is told, too, and what becomes of it then.
    let batch = "namespaces/finance/clientgrants/batch";
    let registered = async |scope: &str| {
        let scope = json!([{"op": "replace", "path": "/scope", "value": scope}]);
        bed.hydra.admin().patch_client("batch", &scope).await.unwrap();
    };
    registered("unrelated").await;
    let nothing = |o: &Value| o["status"]["observed"]["scopes"].is_null();
    let seen = bed.wait(batch, "nothing", long, nothing).await.unwrap();
    assert!(strings(&seen["status"]["drift"]["missing"]).contains(&"scope ledger:read".to_owned()), "{seen:#}");
    registered("other").await;
    let other = |o: &Value| strings(&o["status"]["drift"]["excess"]).contains(&"scope other".to_owned());
    bed.wait(batch, "something else", long, other).await.unwrap();
    registered("ledger:read").await;
    let repaired = |o: &Value| o["status"]["drift"]["excess"].is_null() && condition(o, "Active")["status"] == "True";
    bed.wait(batch, "as it should be", long, repaired).await.unwrap();

    // Suspended and deleted: told, not done.
    bed.patch(path, json!({"spec": {"suspend": true}})).await.unwrap();
    let told = |o: &Value| strings(&o["status"]["drift"]["excess"]).iter().any(|e| e.contains("not in force"));
    bed.wait(path, "in excess", long, told).await.unwrap();
    bed.delete(path).await.unwrap();
    bed.gone(path).await.unwrap();
    assert!(bed.written().is_empty(), "{}", bed.proxy.summary());
    let maps = "api/v1/namespaces/clientgrant-system/configmaps?labelSelector=clientgrant.dev/record";
    let (_, record) = bed.raw(reqwest::Method::GET, maps, None).await.unwrap();
    assert_eq!(record["items"], json!([]), "nothing is managed");
}

#[tokio::test(flavor = "multi_thread")]
async fn enforced_observed_and_enforced_again() {
    let bed = bed_with(|options| options.provider["driftCheckInterval"] = json!("1s")).await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    let batch =
        bed.client("batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.grant("finance", "batch", own("batch")).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    bed.reason("finance", "batch", "Granted").await.unwrap();
    let tokens = chain(&bed, &client, "ann", SCOPE).await;
    let granted = bed.reason("finance", "reporting", "Granted").await.unwrap();

    mode(&bed, "Observe").await;
    bed.reason("finance", "reporting", "Observed").await.unwrap();
    bed.reason("finance", "batch", "Observed").await.unwrap();
    bed.proxy.clear();
    let own_token = batch.client_credentials("ledger:read", "").await.unwrap();
    let own_token = own_token.access_token().unwrap().to_owned();
    bed.patch("namespaces/finance/clientgrants/batch", json!({"spec": {"suspend": true}})).await.unwrap();
    pause(2_500).await;
    // What an administrator changes meanwhile is left as it is.
    bed.hydra
        .admin()
        .patch_client("finance-reporting", &json!([{"op": "replace", "path": "/scope", "value": "openid admin"}]))
        .await
        .unwrap();
    let drifted = |o: &Value| condition(o, "Drifted")["status"] == "True";
    let path = "namespaces/finance/clientgrants/reporting";
    bed.wait(path, "drifted", std::time::Duration::from_secs(10), drifted).await.unwrap();
    assert!(active(&bed, &own_token).await && active(&bed, &tokens.access).await);
    assert!(bed.written().is_empty(), "{}", bed.proxy.summary());

    mode(&bed, "Enforce").await;
    bed.reason("finance", "batch", "Suspended").await.unwrap();
    assert!(!active(&bed, &own_token).await, "what was suspended ends");
    let again = bed.reason("finance", "reporting", "Granted").await.unwrap();
    assert!(condition(&again, "Drifted").is_null() && again["status"]["drift"].is_null(), "{again:#}");
    assert_eq!(again["status"]["observed"]["consentSince"], granted["status"]["observed"]["consentSince"]);
    let registered = bed.hydra.admin().get_client("finance-reporting").await.unwrap();
    assert!(!registered["scope"].as_str().unwrap().contains("admin"), "{registered}");
    let token = client.refresh(&tokens.refresh).await.unwrap();
    assert!(token.access_token().is_some(), "the subject's consent went through it all: {}", token.json);
}
