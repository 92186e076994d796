//! A consent that somebody removed stays removed; what we revoked ourselves is never taken for that.

use std::time::Duration;

use clientgrant_testbed::Storage;
use clientgrant_testbed::bed::condition;
use serde_json::{Value, json};

use crate::support::{Real, active, bed_with, chain, pause};

const SCOPE: &str = "openid offline_access transactions:read";
const PATH: &str = "namespaces/finance/clientgrants/reporting";

async fn removable() -> Real {
    bed_with(|options| {
        options.storage = Storage::Sqlite;
        options.provider["consentSweepInterval"] = json!("2s");
    })
    .await
}

async fn stays_removed(bed: &Real, when: &str) {
    pause(3000).await;
    let grant = bed.reason("finance", "reporting", "ConsentRemoved").await.unwrap();
    assert_eq!(condition(&grant, "Active")["status"], "False", "{when}");
    let listed = bed.hydra.admin().list_consents("ann").await.unwrap();
    assert!(listed.is_empty(), "{when}: a consent is back: {listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_consent_is_never_restored_and_a_new_one_is_welcome() {
    let mut bed = removable().await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let tokens = chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();

    // A restart must not forget to look: the removal is found by the sweep alone.
    bed.operator.kill();
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    bed.hydra.admin().revoke_pair("ann", "finance-reporting").await.unwrap();
    assert!(!active(&bed, &tokens.access).await);
    stays_removed(&bed, "after the removal").await;

    bed.grant("finance", "reporting", json!({"purpose": {"description": "The same grant, described in other words"}}))
        .await
        .unwrap();
    stays_removed(&bed, "after applying the YAML again").await;
    bed.operator.kill();
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    stays_removed(&bed, "after restarting the operator").await;
    bed.hydra.restart().await.unwrap();
    stays_removed(&bed, "after restarting Hydra").await;

    let tokens = chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
    assert!(active(&bed, &tokens.access).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_revocation_is_never_taken_for_a_removal() {
    let mut bed = removable().await;
    let client =
        bed.client("finance-reporting", json!({"scope": format!("{SCOPE} transactions:export")})).await.unwrap();
    let wide = json!({"scopes": ["openid", "offline_access", "transactions:read", "transactions:export"]});
    bed.grant("finance", "reporting", wide.clone()).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();

    bed.patch(PATH, json!({"spec": {"suspend": true}})).await.unwrap();
    bed.reason("finance", "reporting", "Suspended").await.unwrap();
    bed.patch(PATH, json!({"spec": {"suspend": false}})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();

    // Narrowed under a consent that goes beyond it, and killed right after the revocation.
    chain(&bed, &client, "ann", &format!("{SCOPE} transactions:export")).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
    let process = bed.operator.process();
    bed.proxy.after(|r| r.method == "DELETE" && r.path_and_query.contains("subject=ann"), move |_| process.kill());
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.operator.process().wait_exit(Duration::from_secs(10)).await.unwrap();
    let left: Value = bed.get(PATH).await.unwrap().unwrap();
    assert_eq!(left["status"]["revocation"]["cause"], "Narrowed", "the intent was written first");
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    let grant = bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    assert!(grant["status"]["revocation"].is_null());
}
