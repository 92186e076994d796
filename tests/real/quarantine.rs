//! The emergency brake says that it holds when it does, and not before.

use std::time::{Duration, Instant};

use clientgrant_testbed::bed::condition;
use serde_json::{Value, json};

use crate::support::{Real, active, bed, chain};

const BRAKE: &str = "clientquarantines/stop";
const SCOPE: &str = "openid offline_access transactions:read";

async fn pull(bed: &Real, issuer: &str, client: &str) {
    let quarantine = json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientQuarantine", "metadata": {"name": "stop"},
        "spec": {"issuer": issuer, "clientID": client, "reason": "client secret leaked, ticket SEC-71"},
    });
    bed.put(BRAKE, quarantine).await.unwrap();
}

async fn says(bed: &Real, word: &str) -> Value {
    let said = |o: &Value| {
        let ready = condition(o, "Ready");
        let words = format!(
            "{}/{}",
            ready["status"].as_str().unwrap_or_default(),
            ready["reason"].as_str().unwrap_or_default()
        );
        words == word && ready["observedGeneration"] == o["metadata"]["generation"]
    };
    bed.wait(BRAKE, word, Duration::from_secs(20), said).await.unwrap()
}

async fn release(bed: &Real) {
    bed.delete(BRAKE).await.unwrap();
    bed.gone(BRAKE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brake_is_ready_when_every_token_of_the_client_has_ended() {
    let bed = bed().await;
    let issuer = bed.hydra.issuer();
    let users = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    for (namespace, subject) in [("finance", "ann"), ("it", "ben"), ("finance", "cy")] {
        bed.grant(namespace, subject, json!({"subject": {"kind": "User", "id": subject}})).await.unwrap();
        bed.reason(namespace, subject, "AwaitingConsent").await.unwrap();
    }
    // A brake that stops nothing says so.
    pull(&bed, "https://login.example.org/", "finance-reporting").await;
    let said = says(&bed, "False/ProviderNotFound").await;
    assert_eq!(condition(&said, "Stalled")["status"], "True");
    release(&bed).await;
    pull(&bed, &issuer, "finance-reportin").await;
    says(&bed, "True/NothingToDo").await;
    release(&bed).await;

    for round in 0..2 {
        let mut tokens = Vec::new();
        for (namespace, subject) in [("finance", "ann"), ("it", "ben")] {
            let chain = chain(&bed, &users, subject, SCOPE).await;
            bed.reason(namespace, subject, "Granted").await.unwrap();
            assert!(active(&bed, &chain.access).await && active(&bed, &chain.refresh).await, "positive control");
            tokens.push(chain);
        }
        let pulled = Instant::now();
        if round == 1 {
            // While Hydra does not answer nothing is known to be over.
            bed.proxy.set_rule(|_| clientgrant_testbed::Action::DropRequest);
            pull(&bed, &issuer, "finance-reporting").await;
            says(&bed, "Unknown/Progressing").await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let said = says(&bed, "Unknown/Progressing").await;
            assert_eq!(condition(&said, "Reconciling")["status"], "True");
            bed.proxy.clear_rule();
        } else {
            pull(&bed, &issuer, "finance-reporting").await;
        }
        let said = says(&bed, "True/InForce").await;
        println!("in force after {:.2} s: {}", pulled.elapsed().as_secs_f64(), condition(&said, "Ready")["message"]);
        assert_eq!(condition(&said, "Ready")["message"], "Out of force, read back: 3 of 3 grants of the client.");
        for chain in &tokens {
            assert!(!active(&bed, &chain.access).await && !active(&bed, &chain.refresh).await);
        }
        for (namespace, subject) in [("finance", "ann"), ("it", "ben"), ("finance", "cy")] {
            let path = format!("namespaces/{namespace}/clientgrants/{subject}");
            let grant = bed.get(&path).await.unwrap().unwrap();
            assert_eq!(condition(&grant, "Ready")["reason"], "Quarantined", "{subject}");
        }
        // Pulled again before anybody could look: it does not hold because it held before.
        release(&bed).await;
        for (namespace, subject) in [("finance", "ann"), ("it", "ben"), ("finance", "cy")] {
            bed.wait(
                &format!("namespaces/{namespace}/clientgrants/{subject}"),
                "let go",
                Duration::from_secs(20),
                |o| condition(o, "Ready")["reason"] != "Quarantined" && condition(o, "Ready")["status"] == "True",
            )
            .await
            .unwrap();
        }
    }
    // Nothing changes, nothing is written.
    pull(&bed, &issuer, "finance-reporting").await;
    let before = says(&bed, "True/InForce").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let after = bed.get(BRAKE).await.unwrap().unwrap();
    assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    bed.patch("clusteridentityproviders/corp", json!({"spec": {"mode": "Observe"}})).await.unwrap();
    says(&bed, "False/Observed").await;
}
