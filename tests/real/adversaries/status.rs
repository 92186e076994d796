//! Somebody who may write the status of grants, by mistake of a role.

use std::time::Duration;

use clientgrant_testbed::bed::{Bed, CALLBACK, condition};
use clientgrant_testbed::{AuthRequest, ConsentApp};
use serde_json::{Value, json};

use super::{SCOPE, forge, nothing_written, path, unharmed};
use crate::support::{active, ahead, bed, bed_with, chain, pause, until};

/// Everything that a grant in force says of itself.
fn in_force(generation: i64) -> Value {
    let says = |name: &str| {
        json!({
            "type": name, "status": "True", "reason": "Granted", "message": "In force.",
            "observedGeneration": generation, "lastTransitionTime": "2026-11-24T09:00:00Z",
        })
    };
    let scopes: Vec<&str> = SCOPE.split(' ').collect();
    json!({
        "observedGeneration": generation,
        "conditions": [says("Ready"), says("Active")],
        "effective": {"scopes": scopes, "expiresAt": "2199-01-01T00:00:00Z"},
        "observed": {"scopes": scopes, "consentSince": "2026-11-24T09:00:00Z"},
        "revocation": null,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_writes_that_a_grant_is_in_force() {
    let bed = bed_with(|options| options.provider["allow"] = json!([{"clients": ["finance-*"]}])).await;
    let payroll = bed.client("payroll", json!({"scope": SCOPE})).await.unwrap();
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "refused", json!({"clientID": "payroll"})).await.unwrap();
    bed.grant("finance", "waiting", json!({})).await.unwrap();
    bed.grant("finance", "over", json!({"subject": {"id": "bob"}, "expiresAt": "2026-01-01T00:00:00Z"})).await.unwrap();
    let honest = [("refused", "NotAllowed"), ("waiting", "AwaitingConsent"), ("over", "Expired")];
    for (name, reason) in honest {
        bed.reason("finance", name, reason).await.unwrap();
    }
    pause(3000).await;
    bed.proxy.clear();
    for (name, _) in honest {
        let forged = forge(&bed, name, &in_force(1)).await;
        assert_eq!(condition(&forged, "Ready")["reason"], "Granted", "positive control: it was taken");
    }
    nothing_written(&bed, "a status that says otherwise").await;
    for (name, reason) in honest {
        let corrected = bed.reason("finance", name, reason).await.unwrap();
        let status = &corrected["status"];
        assert!(
            status["effective"].is_null() && status["revocation"]["confirmedAt"] != "2026-11-24T09:00:00Z",
            "{status:#}"
        );
    }

    // While it says so, too.
    for (client, subject) in [(&payroll, "ann"), (&client, "ann"), (&client, "bob")] {
        for (name, _) in honest {
            forge(&bed, name, &in_force(1)).await;
        }
        let request = AuthRequest::new(client.id(), CALLBACK, SCOPE, subject);
        let outcome = bed.browser().unwrap().authorize(&request, &ConsentApp::grant_all()).await.unwrap();
        let Some(code) = outcome.code() else { continue };
        let token = client.exchange_code(code, CALLBACK).await.unwrap();
        assert_eq!(token.error(), Some("access_denied"), "{} {subject}: {}", client.id(), token.json);
    }
    chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "waiting", "Granted").await.unwrap();
    unharmed(&bed).await;
}

/// A revocation that is said to be done.
fn confirmed(cause: &str) -> Value {
    let at = "2026-11-24T09:00:00Z";
    json!({"revocation": {"cause": cause, "requestedAt": at, "confirmedAt": at}})
}

async fn ends(bed: &Bed, what: &str, token: &str) {
    let over = async {
        while active(bed, token).await {
            pause(20).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(8), over).await.unwrap_or_else(|_| panic!("{what}: the token lives on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_writes_that_a_revocation_is_done() {
    let bed = bed().await;
    let users = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    let quarantine = json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientQuarantine", "metadata": {"name": "q"},
        "spec": {"issuer": bed.hydra.issuer(), "clientID": "batch-Quarantined", "reason": "A test of the test bed"},
    });
    bed.grant("finance", "keeps", json!({"subject": {"id": "zoe"}})).await.unwrap();
    bed.reason("finance", "keeps", "AwaitingConsent").await.unwrap();
    for cause in ["Suspended", "Deleted", "Expired", "NotYetValid", "Quarantined"] {
        let end = if cause == "Expired" { ahead(14) } else { "2199-01-01T00:00:00Z".to_owned() };
        let user = format!("user-{}", cause.to_lowercase());
        let own = format!("own-{}", cause.to_lowercase());
        bed.grant("finance", &user, json!({"subject": {"id": user}, "expiresAt": end})).await.unwrap();
        let id = format!("batch-{cause}");
        let batch =
            bed.client(&id, json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
        let spec =
            json!({"clientID": id, "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"], "expiresAt": end});
        bed.grant("finance", &own, spec).await.unwrap();
        bed.reason("finance", &user, "AwaitingConsent").await.unwrap();
        bed.reason("finance", &own, "Granted").await.unwrap();
        pause(2500).await;
        let tokens = chain(&bed, &users, &user, SCOPE).await;
        bed.reason("finance", &user, "Granted").await.unwrap();
        let token = batch.client_credentials("ledger:read", "").await.unwrap();
        let token = token.access_token().expect("positive control").to_owned();
        assert!(active(&bed, &tokens.access).await && active(&bed, &token).await, "positive control");

        for name in [&user, &own] {
            let forged = forge(&bed, name, &confirmed(if cause == "NotYetValid" { "Narrowed" } else { cause })).await;
            assert!(forged["status"]["revocation"]["confirmedAt"].is_string(), "positive control: it was taken");
        }
        match cause {
            "Expired" => until(&end).await,
            "Quarantined" => _ = bed.put("clientquarantines/q", quarantine.clone()).await.unwrap(),
            _ => {
                for name in [&user, &own] {
                    let change = match cause {
                        "Suspended" => json!({"spec": {"suspend": true}}),
                        "NotYetValid" => json!({"spec": {"notBefore": "2198-01-01T00:00:00Z"}}),
                        _ => {
                            bed.delete(&path(name)).await.unwrap();
                            continue;
                        }
                    };
                    bed.patch(&path(name), change).await.unwrap();
                    // And once more, while it is being ended.
                    forge(&bed, name, &confirmed(cause)).await;
                }
            }
        }
        ends(&bed, &own, &token).await;
        if cause != "Quarantined" {
            ends(&bed, &user, &tokens.access).await;
            assert!(users.refresh(&tokens.refresh).await.unwrap().access_token().is_none());
        }
        println!("{cause}: ended, whatever status says");
    }
    unharmed(&bed).await;
}

/// What was written anew belongs to another writer then, of which an apply takes nothing away: an end that comes after
/// is told all the same.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_wipes_what_a_grant_says_before_it_ends() {
    let bed = bed().await;
    bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "app", json!({"basis": "AdminConsent"})).await.unwrap();
    bed.reason("finance", "app", "Granted").await.unwrap();
    pause(2000).await;
    let long = Duration::from_secs(20);
    forge(&bed, "app", &Value::Null).await;
    let effective = |end: &str| {
        let end = json!(end);
        move |o: &Value| o["status"]["effective"]["expiresAt"] == end && condition(o, "Active")["status"] == "True"
    };
    let again = |o: &Value| o["status"]["effective"].is_object() && condition(o, "Active")["status"] == "True";
    bed.wait(&path("app"), "granted again", long, again).await.unwrap();
    let end = ahead(7200);
    bed.patch(&path("app"), json!({"spec": {"expiresAt": end}})).await.unwrap();
    bed.wait(&path("app"), "renewed", long, effective(&end)).await.unwrap();
    bed.patch(&path("app"), json!({"spec": {"suspend": true}})).await.unwrap();
    let seen = bed.reason("finance", "app", "Suspended").await.unwrap();
    assert_eq!(condition(&seen, "Active")["status"], "False");
    assert!(seen["status"]["effective"].is_null(), "{seen:#}");
}
