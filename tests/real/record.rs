//! The record of managed clients, attacked: scribbled over, taken away, and lost while nobody looked.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Real, active, bed, bed_with, chain, pause};

const SCOPE: &str = "openid offline_access transactions:read";
const MAPS: &str = "api/v1/namespaces/clientgrant-system/configmaps";

/// Every ConfigMap of the record that has a line.
async fn record(bed: &Real) -> Vec<Value> {
    let path = format!("{MAPS}?labelSelector=clientgrant.dev/record");
    let (_, list) = bed.raw(Method::GET, &path, None).await.unwrap();
    let items = list["items"].as_array().unwrap().clone();
    items.into_iter().filter(|m| m["data"].is_object()).collect()
}

async fn until_record(bed: &Real, what: &str, holds: impl Fn(&str) -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !holds(&json!(record(bed).await).to_string()) {
        assert!(std::time::Instant::now() < end, "{what}: {:#}", json!(record(bed).await));
        pause(20).await;
    }
}

/// A client with a grant whose end was confirmed: only the record says that it is managed.
async fn ended(bed: &Real) -> clientgrant_testbed::OAuthClient {
    let batch =
        bed.client("batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    let own = json!({"clientID": "batch", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", "batch", own).await.unwrap();
    bed.reason("finance", "batch", "Granted").await.unwrap();
    assert!(batch.client_credentials("ledger:read", "").await.unwrap().access_token().is_some(), "positive control");
    bed.delete("namespaces/finance/clientgrants/batch").await.unwrap();
    bed.gone("namespaces/finance/clientgrants/batch").await.unwrap();
    batch
}

/// The IdP's owner widens the registration by hand: only the decision stands between the client and a token.
async fn refused(bed: &Real, batch: &clientgrant_testbed::OAuthClient) {
    let wide = json!([
        {"op": "replace", "path": "/scope", "value": "ledger:read"},
        {"op": "replace", "path": "/grant_types", "value": ["client_credentials"]},
    ]);
    bed.hydra.admin().patch_client("batch", &wide).await.unwrap();
    let token = batch.client_credentials("ledger:read", "").await.unwrap();
    assert!(token.access_token().is_none(), "{}", token.json);
    assert_eq!(token.error(), Some("access_denied"), "{}", token.json);
}

fn lenient() -> impl Future<Output = Real> {
    bed_with(|options| {
        options.provider["unmanagedClients"] = json!("Allow");
        options.provider["driftCheckInterval"] = json!("1h");
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_scribbled_over_or_taken_away_is_written_again() {
    let bed = lenient().await;
    let batch = ended(&bed).await;
    let map = record(&bed).await.remove(0);
    let path = format!("{MAPS}/{}", map["metadata"]["name"].as_str().unwrap());
    let key = map["data"].as_object().unwrap().keys().next().unwrap().clone();
    let good = map["data"][&key].as_str().unwrap().to_owned();
    let restored = |text: &str| text.contains("ledger:read") && text.contains("\\\"clientID\\\":\\\"batch\\\"");
    for (what, body) in [
        ("scribbled", json!({"data": {&key: "scribbled"}})),
        ("another client's", json!({"data": {&key: good.replace("batch", "other")}})),
        ("emptied", json!({"data": {&key: null}})),
        ("unlabelled", json!({"metadata": {"labels": null}})),
    ] {
        let (status, answer) =
            bed.raw(Method::PATCH, &path, Some((body, "application/merge-patch+json"))).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        refused(&bed, &batch).await;
        until_record(&bed, what, restored).await;
    }
    let (status, _) = bed.raw(Method::DELETE, &path, None).await.unwrap();
    assert_eq!(status, 200);
    refused(&bed, &batch).await;
    until_record(&bed, "deleted", restored).await;
}

/// Damaged while the operator was not running: what the line said is lost, whose it was is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_nobody_can_read_still_says_whose_it_is() {
    let mut bed = lenient().await;
    let batch = ended(&bed).await;
    bed.operator.kill();
    let map = record(&bed).await.remove(0);
    let path = format!("{MAPS}/{}", map["metadata"]["name"].as_str().unwrap());
    let key = map["data"].as_object().unwrap().keys().next().unwrap().clone();
    let (_, _) = bed
        .raw(Method::PATCH, &path, Some((json!({"data": {&key: "\u{1}{"}}), "application/merge-patch+json")))
        .await
        .unwrap();
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    refused(&bed, &batch).await;
    assert!(bed.operator.log().contains("cannot be read"), "{}", bed.operator.log());
}

/// All of it deleted while the operator was not running. What is in force is never open to others: a grant
/// that had been put in force speaks for its client, and the client is adopted again.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_lost_while_nobody_looked_opens_nothing() {
    let mut bed = lenient().await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.grant("finance", "suspended", json!({"subject": {"id": "bob"}})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    bed.reason("finance", "suspended", "AwaitingConsent").await.unwrap();
    let ann = chain(&bed, &client, "ann", SCOPE).await;
    let bob = chain(&bed, &client, "bob", SCOPE).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
    bed.reason("finance", "suspended", "Granted").await.unwrap();
    bed.operator.kill();
    for map in record(&bed).await {
        let path = format!("{MAPS}/{}", map["metadata"]["name"].as_str().unwrap());
        bed.raw(Method::DELETE, &path, None).await.unwrap();
    }
    // Meanwhile a person ends one of the two.
    bed.patch("namespaces/finance/clientgrants/suspended", json!({"spec": {"suspend": true}})).await.unwrap();
    assert!(active(&bed, &bob.access).await, "positive control");
    let held = bed.proxy.hold(|r| r.path().starts_with("/admin/clients/"));
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    held.wait_arrived(Duration::from_secs(10)).await.unwrap();
    // Nothing of it is written down again yet; decisions are as they were.
    assert!(record(&bed).await.is_empty());
    let token = client.refresh(&bob.refresh).await.unwrap();
    assert!(token.access_token().is_none(), "{}", token.json);
    let token = client.refresh(&ann.refresh).await.unwrap();
    assert!(token.access_token().is_some(), "{}", token.json);
    held.release();
    bed.reason("finance", "suspended", "Suspended").await.unwrap();
    assert!(!active(&bed, &bob.access).await);
    until_record(&bed, "adopted again", |text| text.contains("finance-reporting")).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
}

/// A cluster that was built anew: the marks of the old one are foreign until its owner says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_built_anew_takes_over_what_its_predecessor_marked() {
    let mut bed = bed().await;
    let client = bed.client("finance-reporting", json!({"scope": format!("{SCOPE} admin")})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    bed.operator.kill();
    // A new cluster has none of it: neither record nor finalizers, only what Git applies.
    for map in record(&bed).await {
        let path = format!("{MAPS}/{}", map["metadata"]["name"].as_str().unwrap());
        bed.raw(Method::DELETE, &path, None).await.unwrap();
    }
    let old = bed.get("namespaces/finance/clientgrants/reporting").await.unwrap().unwrap();
    bed.patch("namespaces/finance/clientgrants/reporting", json!({"metadata": {"finalizers": null}})).await.unwrap();
    bed.delete("namespaces/finance/clientgrants/reporting").await.unwrap();
    bed.operator.options_mut().args.push("--cluster-id=the-new-one".into());
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    bed.proxy.clear();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "ForeignClient").await.unwrap();
    assert!(bed.written().is_empty(), "{}", bed.proxy.summary());
    let mark =
        bed.hydra.admin().get_client("finance-reporting").await.unwrap()["metadata"]["clientgrant.dev/cluster"].clone();
    assert_ne!(mark, "the-new-one");
    bed.patch("clusteridentityproviders/corp", json!({"spec": {"takeOverFrom": "somebody-else"}})).await.unwrap();
    pause(1_500).await;
    bed.reason("finance", "reporting", "ForeignClient").await.unwrap();
    bed.patch("clusteridentityproviders/corp", json!({"spec": {"takeOverFrom": mark}})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let now = bed.hydra.admin().get_client("finance-reporting").await.unwrap();
    assert_eq!(now["metadata"]["clientgrant.dev/cluster"], "the-new-one");
    assert!(!old["metadata"]["uid"].is_null());
    chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
}
