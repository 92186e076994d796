//! Events and metrics: what somebody should notice is told beside the object, and counted.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Real, bed, pause};

/// `type reason name`, sorted.
async fn told(bed: &Real) -> Vec<String> {
    let path = "apis/events.k8s.io/v1/namespaces/finance/events";
    let (status, list) = bed.raw(Method::GET, path, None).await.unwrap();
    assert_eq!(status, 200, "{list}");
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let line = |e: &Value| {
        assert_eq!(e["reportingController"], "clientgrant");
        assert!(e["note"].as_str().is_some_and(|note| note.len() > 10), "{e}");
        format!("{} {} {}", text(&e["type"]), text(&e["reason"]), text(&e["regarding"]["name"]))
    };
    let mut told: Vec<String> = list["items"].as_array().unwrap().iter().map(line).collect();
    told.sort();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_should_notice_is_told_once() {
    let bed = bed().await;
    bed.client("batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    let own = json!({"clientID": "batch", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", "batch", own.clone()).await.unwrap();
    bed.reason("finance", "batch", "Granted").await.unwrap();
    bed.grant("finance", "twin", own).await.unwrap();
    bed.reason("finance", "twin", "Conflict").await.unwrap();
    bed.patch("namespaces/finance/clientgrants/batch", json!({"spec": {"suspend": true}})).await.unwrap();
    bed.reason("finance", "batch", "Suspended").await.unwrap();
    let wanted = ["Normal Suspended batch", "Warning Conflict twin"];
    let start = Instant::now();
    while told(&bed).await != wanted {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", told(&bed).await);
        pause(100).await;
    }
    // Looked at again, nothing is told again.
    pause(3_000).await;
    assert_eq!(told(&bed).await, wanted);

    let metrics = bed.operator.metrics().await.unwrap();
    for line in [
        r#"clientgrant_grants{reason="Suspended"} 1"#,
        r#"clientgrant_grants{reason="Conflict"} 1"#,
        r#"clientgrant_revocation_lag_seconds_count{cause="Suspended"} 1"#,
        r#"clientgrant_providers{reason="Connected"} 1"#,
        "clientgrant_leader 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
    let revoked = r#"clientgrant_revocations_total{cause="Suspended",outcome="done"}"#;
    assert!(metrics.contains(revoked), "{metrics}");
    assert!(metrics.contains(r#"clientgrant_idp_request_duration_seconds_count{operation="DeleteTokens",code="204"}"#));
    for name in ["batch", "twin", "finance"] {
        assert!(!metrics.contains(name), "no name of an object or client is a label: {name}");
    }
}
