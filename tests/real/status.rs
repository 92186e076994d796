//! What status says and how seldom it is written, counted in the API server's audit log.

use std::time::Duration;

use clientgrant_testbed::bed::{condition, grant};
use serde_json::{Value, json};

use crate::support::{Real, bed, bed_with, chain, pause};

const SCOPE: &str = "openid offline_access transactions:read";

/// What the operator wrote to the API server, from a line of the audit log on.
fn writes(bed: &Real, from: usize) -> Vec<String> {
    let asked = bed.asked().unwrap();
    // Renewing the lease says that this replica lives, and nothing else.
    let reads = ["get ", "list ", "watch ", "update leases "];
    asked[from..].iter().filter(|a| !reads.iter().any(|r| a.starts_with(r))).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writes_on_the_way_up_and_none_at_rest() {
    let bed = bed_with(|options| {
        options.audit = true;
        options.provider["driftCheckInterval"] = json!("10s");
    })
    .await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.client("intranet", json!({"scope": SCOPE})).await.unwrap();
    bed.client("batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    let names = ["reporting", "second", "admin", "own", "later"];
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.grant("finance", "second", json!({"subject": {"id": "bob"}})).await.unwrap();
    // One client after the other: the last write of the one does not meet the first of the next in Hydra's memory.
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    bed.reason("finance", "second", "AwaitingConsent").await.unwrap();
    bed.grant("finance", "admin", json!({"clientID": "intranet", "basis": "AdminConsent"})).await.unwrap();
    bed.reason("finance", "admin", "Granted").await.unwrap();
    let own = json!({"clientID": "batch", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", "own", own).await.unwrap();
    bed.reason("finance", "own", "Granted").await.unwrap();
    bed.grant("finance", "later", json!({"clientID": "intranet", "basis": "AdminConsent", "subject": {"id": "bob"}}))
        .await
        .unwrap();
    bed.reason("finance", "later", "Granted").await.unwrap();
    for (name, subject) in [("reporting", "ann"), ("second", "bob")] {
        chain(&bed, &client, subject, SCOPE).await;
        bed.reason("finance", name, "Granted").await.unwrap();
    }
    let all = writes(&bed, 0);
    for name in names {
        let mine = format!("patch clientgrants/status finance/{name}");
        let count = all.iter().filter(|w| **w == mine).count();
        println!("{name}: {count} status writes on the way up");
        assert!((1..=2).contains(&count), "{name}: {count} status writes");
    }

    // The provider's own count of grants in force follows within ten seconds.
    pause(12_000).await;
    let from = bed.asked().unwrap().len();
    bed.proxy.clear();
    pause(60_000).await;
    assert_eq!(writes(&bed, from), [""; 0], "at rest nothing is written");
    let requests = bed.proxy.requests();
    let bulk = |path: &str| path == "/version" || path == "/admin/clients";
    let other: Vec<_> = requests.iter().filter(|r| r.is_write() || !bulk(r.path())).collect();
    assert!(other.is_empty(), "at rest only registrations are compared in bulk: {other:?}");
    let looks = requests.iter().filter(|r| r.path() == "/admin/clients").count();
    println!("at rest, 60 s: {looks} bulk reads at a drift check of 10 s, {} calls in all", requests.len());
    assert!((4..=7).contains(&looks), "{looks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn git_and_the_cluster_agree_however_often_they_are_compared() {
    let bed = bed().await;
    bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    let yaml =
        grant("finance", "reporting", &json!({"audiences": null, "grantTypes": ["authorization_code"]})).to_string();
    bed.plane.apply_yaml(&yaml).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    for _ in 0..2 {
        let diff = bed.plane.kubectl_with_input(&["diff", "-f", "-"], &yaml).await.unwrap();
        assert_eq!((diff.code, &*diff.stdout), (Some(0), ""), "{}", diff.stderr);
        assert!(bed.plane.apply_yaml(&yaml).await.unwrap().contains("unchanged"));
    }
    let other = yaml.replace("Read-only transactions", "All the transactions");
    let diff = bed.plane.kubectl_with_input(&["diff", "-f", "-"], &other).await.unwrap();
    assert_eq!(diff.code, Some(1), "positive control");
    for wanted in ["Ready", "Active=False"] {
        let condition = format!("--for=condition={wanted}");
        let args = ["wait", &condition, "--timeout=5s", "-n", "finance", "clientgrants.clientgrant.dev/reporting"];
        bed.plane.kubectl(&args).await.unwrap();
    }
}

/// The verdict on the first object is on its way while a second one takes the name.
#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_grant_never_shows_the_verdict_on_its_predecessor() {
    const PATH: &str = "namespaces/finance/clientgrants/reporting";
    let bed = bed().await;
    bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    for round in 0..5 {
        let held = bed.proxy.hold(|r| r.path().ends_with("/nobody"));
        bed.grant("finance", "reporting", json!({"clientID": "nobody"})).await.unwrap();
        held.wait_arrived(Duration::from_secs(20)).await.unwrap();
        let first = bed.get(PATH).await.unwrap().unwrap();
        bed.delete(PATH).await.unwrap();
        bed.gone(PATH).await.unwrap();
        bed.grant("finance", "reporting", json!({})).await.unwrap();
        held.release();
        let mut shown = Vec::new();
        let end = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let object = bed.get(PATH).await.unwrap().unwrap();
            assert_ne!(object["metadata"]["uid"], first["metadata"]["uid"]);
            let ready: &Value = condition(&object, "Ready");
            shown.push(ready["reason"].as_str().unwrap_or("-").to_owned());
            if ready["reason"] == "AwaitingConsent" || std::time::Instant::now() > end {
                break;
            }
            pause(2).await;
        }
        shown.dedup();
        assert!(!shown.iter().any(|r| r == "UnknownClient"), "round {round}: {shown:?}");
        assert_eq!(shown.last().map(String::as_str), Some("AwaitingConsent"), "round {round}: {shown:?}");
        bed.delete(PATH).await.unwrap();
        bed.gone(PATH).await.unwrap();
    }
    // Positive control: left alone, the verdict is what it would have been.
    bed.grant("finance", "reporting", json!({"clientID": "nobody"})).await.unwrap();
    bed.reason("finance", "reporting", "UnknownClient").await.unwrap();
}
