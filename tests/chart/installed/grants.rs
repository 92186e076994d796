//! `helm install --wait` of charts that hold a ClientGrant: Helm reads its status as the table of the API says.

use std::fs;
use std::time::{Duration, Instant};

use clientgrant_testbed::KubectlOutput;
use clientgrant_testbed::bed::grant;
use serde_json::{Value, json};

use super::{GROUP, Installed, is};

/// Installs a chart that is one grant and waits for it.
async fn install(all: &Installed, name: &str, spec: Value, timeout: &str) -> (KubectlOutput, Duration) {
    let dir = all.dir.path().join(name);
    fs::create_dir_all(dir.join("templates")).unwrap();
    fs::write(dir.join("Chart.yaml"), format!("apiVersion: v2\nname: {name}\nversion: 0.1.0\n")).unwrap();
    // JSON is YAML.
    fs::write(dir.join("templates/grant.yaml"), grant("finance", name, &spec).to_string()).unwrap();
    let begun = Instant::now();
    let chart = dir.to_str().unwrap();
    let output = all.helm(&format!("install {name} {chart} -n finance --wait --timeout {timeout}"), &[]).await;
    println!("{:>5.1} s  a chart with the grant {name}: {}", begun.elapsed().as_secs_f64(), output.stderr.trim());
    (output, begun.elapsed())
}

pub(super) async fn charts_with_grants(all: &Installed) {
    // Waits for a person, which is no business of Helm's.
    let (output, _) = install(all, "awaiting", json!({"subject": {"id": "bob"}}), "30s").await;
    assert!(output.success, "{}", output.stderr);
    all.reason("awaiting", "AwaitingConsent").await;
    // In force without anybody.
    let own = json!({"scope": "ledger:read", "grant_types": ["client_credentials"]});
    all.client("nightly", own).await;
    let own = json!({"clientID": "nightly", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    let (output, _) = install(all, "in-force", own, "30s").await;
    assert!(output.success, "{}", output.stderr);
    all.reason("in-force", "Granted").await;
    brake(all, "nightly").await;
    all.reason("in-force", "Granted").await;
    // The end is passed and confirmed: the object is as it should be.
    let (output, _) =
        install(all, "over", json!({"expiresAt": "2026-01-01T00:00:00Z", "subject": {"id": "cid"}}), "30s").await;
    assert!(output.success, "{}", output.stderr);
    all.reason("over", "Expired").await;

    // What is refused may still come right while other objects arrive, for two minutes: Helm waits.
    let (output, took) = install(all, "unknown", json!({"clientID": "finance-reprting"}), "5s").await;
    assert!(!output.success && took >= Duration::from_secs(5), "{took:?} {}", output.stderr);
    assert!(output.stderr.contains("ClientGrant/finance/unknown not ready. status: InProgress"), "{}", output.stderr);
    all.reason("unknown", "UnknownClient").await;
    // Not by itself: Helm does not wait for it.
    all.client("greedy", json!({"scope": "openid offline_access transactions:read admin"})).await;
    let adoption = async |how: &str| {
        let corp = "patch clusteridentityproviders.clientgrant.dev corp --type=merge -p";
        all.kubectl(&format!("{corp} {{\"spec\":{{\"adoption\":\"{how}\"}}}}")).await
    };
    adoption("Explicit").await;
    let (output, took) = install(all, "stalled", json!({"clientID": "greedy"}), "60s").await;
    assert!(!output.success && took < Duration::from_secs(30), "{took:?} {}", output.stderr);
    assert!(output.stderr.contains("ClientGrant/finance/stalled not ready. status: Failed"), "{}", output.stderr);
    all.reason("stalled", "AdoptionNeeded").await;
    adoption("Automatic").await;
    for name in ["awaiting", "in-force", "over", "unknown", "stalled"] {
        all.helm_does(&format!("uninstall {name} -n finance"), &[]).await;
    }
}

/// Without an operator nobody says anything of a grant, and Helm does not take that for good news.
/// The emergency brake is pulled for a client and, once it holds, let go.
async fn brake(all: &Installed, client: &str) {
    all.apply(json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientQuarantine", "metadata": {"name": "stop"},
        "spec": {"issuer": all.hydra.issuer(), "clientID": client, "reason": "client secret leaked, ticket SEC-71"},
    }))
    .await;
    let held = all.kubectl("wait --for=condition=Ready clientquarantines.clientgrant.dev/stop --timeout=30s").await;
    assert!(held.contains("condition met"), "{held}");
    all.kubectl("delete clientquarantines.clientgrant.dev/stop").await;
}

pub(super) async fn nobody_looks(all: &Installed) {
    let (output, took) = install(all, "unseen", json!({"subject": {"id": "dan"}}), "4s").await;
    assert!(!output.success && took >= Duration::from_secs(4), "{took:?} {}", output.stderr);
    assert!(output.stderr.contains("ClientGrant/finance/unseen not ready. status: InProgress"), "{}", output.stderr);
    let unseen = all.read(&format!("{GROUP}/namespaces/finance/clientgrants/unseen")).await.expect("it is stored");
    assert!(!is(&unseen, "AwaitingConsent"));
}
