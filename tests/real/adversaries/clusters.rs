//! A second cluster that says the same as the first, at the same Hydra.

use std::time::{Duration, Instant};

use clientgrant_testbed::bed::{condition, grant, install, provider};
use clientgrant_testbed::{ControlPlane, ControlPlaneOptions, Iproxy, Operator, OperatorOptions, Tools};
use serde_json::{Value, json};

use super::{SCOPE, nothing_written, path, registration, unharmed};
use crate::support::{active, bed, chain, pause};

/// What the second cluster shows of a grant of finance's.
async fn seen(plane: &ControlPlane, name: &str) -> Value {
    let args = ["get", "clientgrants.clientgrant.dev", name, "-n", "finance", "-o", "json"];
    serde_json::from_str(&plane.kubectl(&args).await.unwrap()).unwrap()
}

async fn reason(plane: &ControlPlane, operator: &Operator, name: &str, reason: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let grant = seen(plane, name).await;
        if condition(&grant, "Ready")["reason"] == reason {
            return grant;
        }
        assert!(Instant::now() < end, "{name} is not {reason}: {:#}\n{}", grant["status"], operator.log());
        pause(100).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_cluster_with_grants_of_the_same_names() {
    let bed = bed().await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.client("batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    bed.client("free", json!({"scope": SCOPE})).await.unwrap();
    let own = json!({"clientID": "batch", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.grant("finance", "batch", own.clone()).await.unwrap();
    bed.reason("finance", "batch", "Granted").await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    pause(2500).await;
    let tokens = chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
    let token = bed.oauth("batch").unwrap().client_credentials("ledger:read", "").await.unwrap();
    let token = token.access_token().expect("positive control").to_owned();
    let before = [registration(&bed, "finance-reporting").await, registration(&bed, "batch").await];

    let tools = Tools::find().unwrap();
    let plane = ControlPlane::start_with(&tools, ControlPlaneOptions::default()).await.unwrap();
    install(&plane).await.unwrap();
    let proxy = Iproxy::start(bed.hydra.admin_url()).unwrap();
    // Hydra has one token hook, and it is the first cluster's.
    let over = json!({
        "adoption": "Automatic", "unmanagedClients": "Deny", "driftCheckInterval": "1s", "hydra": {"tokenHook": null},
    });
    plane.apply_yaml(&provider(&bed.hydra, &proxy, &over).to_string()).await.unwrap();
    let operator = Operator::start(OperatorOptions {
        binary: env!("CARGO_BIN_EXE_clientgrant").into(),
        args: vec!["--cluster-id=the-second".into()],
        kubeconfig: Some(plane.kubeconfig_for_service_account("clientgrant-system", "clientgrant").await.unwrap()),
        ..OperatorOptions::default()
    })
    .unwrap();
    operator.ready(Duration::from_secs(30)).await.unwrap();
    let wider = json!(["openid", "offline_access", "transactions:read", "admin"]);
    plane.apply_yaml(&grant("finance", "free", &json!({"clientID": "free"})).to_string()).await.unwrap();
    reason(&plane, &operator, "free", "AwaitingConsent").await;
    assert!(!proxy.writes().is_empty(), "positive control: a client that nobody manages is taken over");
    pause(2500).await;
    proxy.clear();

    for (name, spec) in [
        ("reporting", json!({"scopes": wider})),
        ("batch", own.clone()),
        ("any", json!({"subject": {"kind": "Any", "id": null}, "scopes": wider})),
    ] {
        plane.apply_yaml(&grant("finance", name, &spec).to_string()).await.unwrap();
        let refused = reason(&plane, &operator, name, "ForeignClient").await;
        assert!(refused["metadata"]["finalizers"].is_null() && refused["status"]["effective"].is_null(), "{refused:#}");
    }
    // Whatever becomes of them: edited, ended by hand, by the clock, by a quarantine, deleted.
    let edit = json!({"spec": {"suspend": true}}).to_string();
    let quarantine = json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientQuarantine", "metadata": {"name": "q"},
        "spec": {"issuer": bed.hydra.issuer(), "clientID": "batch", "reason": "A test of the test bed"},
    });
    plane.apply_yaml(&quarantine.to_string()).await.unwrap();
    for name in ["reporting", "any"] {
        let kind = "clientgrants.clientgrant.dev";
        plane.kubectl(&["patch", kind, name, "-n", "finance", "--type=merge", "-p", &edit]).await.unwrap();
        plane.kubectl(&["delete", kind, name, "-n", "finance", "--timeout=10s"]).await.unwrap();
    }
    let expired = {
        let mut spec = own;
        spec["expiresAt"] = json!("2026-01-01T00:00:00Z");
        grant("finance", "batch", &spec)
    };
    plane.apply_yaml(&expired.to_string()).await.unwrap();
    pause(2500).await;
    assert!(proxy.writes().is_empty(), "{}", proxy.summary());
    assert_eq!([registration(&bed, "finance-reporting").await, registration(&bed, "batch").await], before);
    assert!(active(&bed, &tokens.access).await && active(&bed, &token).await);
    bed.proxy.clear();
    nothing_written(&bed, "the first cluster at rest").await;

    // The first has its word on the client of the second, likewise.
    bed.grant("finance", "free", json!({"clientID": "free"})).await.unwrap();
    bed.reason("finance", "free", "ForeignClient").await.unwrap();
    bed.delete(&path("free")).await.unwrap();
    bed.gone(&path("free")).await.unwrap();
    nothing_written(&bed, "the second's client").await;
    unharmed(&bed).await;
}
