//! Stored objects that the operator cannot read: they stop nobody, and give nothing.

use std::time::{Duration, Instant};

use clientgrant_testbed::bed::{condition, grant};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Real, bed, chain, pause};

const CRD: &str = "apis/apiextensions.k8s.io/v1/customresourcedefinitions/clientgrants.clientgrant.dev";
const GRANTS: &str = "apis/clientgrant.dev/v1alpha1/namespaces/finance/clientgrants";

/// An older schema, or none: what an upgrade, a restore or a hand in etcd leaves behind. `open`: whether it takes
/// anything.
async fn schema(bed: &Real, spec: &Value, open: bool) {
    let kind = "application/merge-patch+json";
    let (status, answer) = bed.raw(Method::PATCH, CRD, Some((json!({"spec": spec}), kind))).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    // The API server goes by it some time later.
    let (start, odd) = (Instant::now(), grant("finance", "odd", &json!({"scopes": 5})));
    let path = format!("{GRANTS}/odd?fieldManager=hand&force=true&dryRun=All");
    loop {
        let body = Some((odd.clone(), "application/apply-patch+yaml"));
        if (bed.raw(Method::PATCH, &path, body).await.unwrap().0 < 300) == open {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "not served");
        pause(100).await;
    }
}

/// Stores a grant that nobody can read.
async fn spoil(bed: &Real, name: &str, change: &Value) {
    let mut object = grant("finance", name, change);
    if name != "a-star" {
        object["spec"]["subject"]["id"] = json!(name);
    }
    let path = format!("{GRANTS}/{name}?fieldManager=hand&force=true");
    let (status, answer) = bed.raw(Method::PATCH, &path, Some((object, "application/apply-patch+yaml"))).await.unwrap();
    assert!(status < 300, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_stops_nobody_else() {
    let mut bed = bed().await;
    let client =
        bed.client("finance-reporting", json!({"scope": "openid offline_access transactions:read"})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let tokens = chain(&bed, &client, "ann", "openid offline_access transactions:read").await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
    let spoiled = bed.client("spoiled", json!({"scope": "openid offline_access transactions:read"})).await.unwrap();
    bed.grant("finance", "spoiled", json!({"clientID": "spoiled"})).await.unwrap();
    bed.reason("finance", "spoiled", "AwaitingConsent").await.unwrap();
    let spoils = chain(&bed, &spoiled, "ann", "openid offline_access transactions:read").await;
    bed.reason("finance", "spoiled", "Granted").await.unwrap();

    let (_, whole) = bed.raw(Method::GET, CRD, None).await.unwrap();
    let mut open = whole["spec"].clone();
    open["versions"][0]["schema"]["openAPIV3Schema"] = json!({
        "type": "object",
        "properties": {
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        },
    });
    open["versions"][0]["selectableFields"] = Value::Null;
    schema(&bed, &open, true).await;
    let broken: [(&str, Value); 6] = [
        ("scopes-as-text", json!({"scopes": "openid"})),
        ("end-of-time", json!({"expiresAt": "9999-12-31T23:59:59Z"})),
        ("no-end", json!({"expiresAt": null})),
        ("fractions", json!({"expiresAt": "2027-02-20T00:00:00.123456789012Z"})),
        ("strange-basis", json!({"basis": "Whatever"})),
        ("a-star", json!({"scopes": ["openid", "*"], "subject": {"id": "bob"}})),
    ];
    for (name, change) in &broken {
        spoil(&bed, name, change).await;
    }
    // One that was in force becomes unreadable.
    let path = format!("{GRANTS}/spoiled");
    let hand = json!({"spec": {"scopes": 5}});
    let (status, answer) = bed.raw(Method::PATCH, &path, Some((hand, "application/merge-patch+json"))).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    schema(&bed, &whole["spec"], false).await;

    for round in ["as it came", "after a restart"] {
        bed.client(&format!("later-{}", round.len()), json!({"scope": "openid"})).await.unwrap();
        let spec = json!({"clientID": format!("later-{}", round.len()), "scopes": ["openid"]});
        bed.grant("it", &format!("later-{}", round.len()), spec).await.unwrap();
        bed.reason("it", &format!("later-{}", round.len()), "AwaitingConsent").await.unwrap();
        let token = client.refresh(&tokens.refresh).await.unwrap();
        assert!(token.access_token().is_some() || round != "as it came", "{round}: {}", token.json);
        let token = spoiled.refresh(&spoils.refresh).await.unwrap();
        assert!(token.access_token().is_none(), "{round}: what cannot be read gives nothing: {}", token.json);
        let meanwhile = (round != "as it came").then_some("meanwhile");
        for name in broken.iter().map(|(name, _)| *name).chain(meanwhile) {
            if name == "scopes-as-text" {
                // The API server takes no status for an object of another shape, in no form of patch.
                let line = format!("a stored ClientGrant cannot be read; it gives nothing grant=finance/{name}");
                bed.operator.wait_log(&line, Duration::from_secs(20)).await.unwrap();
                continue;
            }
            let path = format!("namespaces/finance/clientgrants/{name}");
            let seen = bed
                .wait(&path, "told", Duration::from_secs(20), |o| condition(o, "Ready")["reason"] == "InvalidSpec")
                .await
                .unwrap();
            assert_eq!(condition(&seen, "Ready")["status"], "False", "{name}");
        }
        let registered = bed.hydra.admin().get_client("finance-reporting").await.unwrap();
        assert_eq!(registered["scope"], "offline_access openid transactions:read", "{round}");
        if round == "as it came" {
            bed.operator.kill();
            // One comes while nobody looks: a list has it before anybody leads.
            schema(&bed, &open, true).await;
            spoil(&bed, "meanwhile", &json!({"expiresAt": null})).await;
            schema(&bed, &whole["spec"], false).await;
            bed.operator.restart().unwrap();
            bed.ready().await.unwrap();
        }
    }
    let log = bed.operator.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.matches("cannot be read").count() < 30, "told once, not in a loop: {log}");
    // Corrected, it is a grant like any other.
    bed.grant("finance", "no-end", json!({"subject": {"id": "no-end"}})).await.unwrap();
    bed.reason("finance", "no-end", "AwaitingConsent").await.unwrap();
}
