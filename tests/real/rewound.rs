//! The cluster is put back to an older copy of etcd: what it does not remember is not garbage, and what the
//! operator remembers of a history that did not happen does not count.

use std::time::{Duration, Instant};

use clientgrant_testbed::Recorded;
use clientgrant_testbed::bed::condition;
use reqwest::Method;
use serde_json::{Value, json};

use crate::collect::{NONE, own, scope, sweeping, until_scope};
use crate::support::{Real, active, chain, pause};

const SCOPE: &str = "openid offline_access transactions:read";
const CORP: &str = "clusteridentityproviders/corp";

fn path(name: &str) -> String {
    format!("namespaces/finance/clientgrants/{name}")
}

/// A subject's consent to a client of the same name as the grant.
async fn consented(bed: &Real, name: &str, subject: &str) -> String {
    let client = bed.client(name, json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", name, json!({"clientID": name, "subject": {"id": subject}})).await.unwrap();
    bed.reason("finance", name, "AwaitingConsent").await.unwrap();
    let chain = chain(bed, &client, subject, SCOPE).await;
    bed.reason("finance", name, "Granted").await.unwrap();
    chain.refresh
}

/// Other people work in the cluster: its history is this much longer.
async fn history(bed: &Real, length: usize) {
    let maps = "api/v1/namespaces/default/configmaps";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "busy"}});
    bed.raw(Method::POST, maps, Some((map, "application/json"))).await.unwrap();
    for n in 0..length {
        let body = json!({"data": {"n": n.to_string()}});
        let patch = Some((body, "application/merge-patch+json"));
        let (status, answer) = bed.raw(Method::PATCH, &format!("{maps}/busy"), patch).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
}

fn about(writes: &[Recorded], names: &[&str]) -> Vec<String> {
    let said = |r: &Recorded| format!("{} {} {}", r.method, r.path_and_query, r.body);
    writes.iter().map(said).filter(|text| names.iter().any(|name| text.contains(name))).collect()
}

async fn consents(bed: &Real, subject: &str) -> usize {
    bed.hydra.admin().list_consents(subject).await.unwrap().len()
}

/// The operator lives on over it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_was_put_back_loses_nothing_and_is_believed() {
    let mut bed = sweeping("25s", |_| {}).await;
    let kept = own(&bed, "kept").await;
    own(&bed, "deleted").await;
    consented(&bed, "withdrawn", "ann").await;
    consented(&bed, "ended", "bob").await;
    let older = bed.plane.copy_data().unwrap();

    // What the copy does not know: three clients more, one consent withdrawn, two grants deleted.
    history(&bed, 400).await;
    let late = ["late-one", "late-two", "late-consent"];
    let tokens = [own(&bed, "late-one").await, own(&bed, "late-two").await];
    consented(&bed, "late-consent", "carol").await;
    bed.hydra.admin().revoke_pair("ann", "withdrawn").await.unwrap();
    let removed = |o: &Value| condition(o, "Ready")["reason"] == "ConsentRemoved";
    bed.wait(&path("withdrawn"), "noticed", Duration::from_secs(60), removed).await.unwrap();
    for name in ["deleted", "ended"] {
        bed.delete(&path(name)).await.unwrap();
        bed.gone(&path(name)).await.unwrap();
    }
    assert_eq!(scope(&bed, "deleted").await, NONE, "positive control");
    // The operator has seen how far the history is by now.
    pause(16_000).await;
    bed.proxy.clear();
    bed.operator.mark_log();
    bed.plane.put_back(&older).await.unwrap();
    let back = Instant::now();
    assert!(bed.get(&path("late-one")).await.unwrap().is_none(), "positive control");
    let status = bed.get(&path("withdrawn")).await.unwrap().unwrap();
    assert_eq!(condition(&status, "Ready")["reason"], "Granted", "positive control: so the copy says");
    bed.operator.wait_log("restored from an older copy", Duration::from_secs(40)).await.unwrap();
    println!("the operator says so {:.1} s after the API server was back", back.elapsed().as_secs_f64());

    // What is written in the cluster now is seen, although its versions are lower than what was seen before.
    bed.patch(&path("kept"), json!({"spec": {"suspend": true}})).await.unwrap();
    let edited = Instant::now();
    bed.reason("finance", "kept", "Suspended").await.unwrap();
    println!("an edit acts {:.1} s later", edited.elapsed().as_secs_f64());
    assert!(!active(&bed, &kept).await);
    bed.patch(&path("kept"), json!({"spec": {"suspend": false}})).await.unwrap();
    bed.reason("finance", "kept", "Granted").await.unwrap();
    let token = bed.oauth("kept").unwrap().client_credentials("ledger:read", "").await.unwrap();
    assert!(token.access_token().is_some(), "{}", token.json);

    // What the copy remembers is true: nobody gets a consent back, and what its spec gives it gives again.
    bed.reason("finance", "withdrawn", "ConsentRemoved").await.unwrap();
    let ended = bed.reason("finance", "ended", "ConsentRemoved").await.unwrap();
    assert_eq!(condition(&ended, "Active")["status"], "False");
    assert_eq!((consents(&bed, "ann").await, consents(&bed, "bob").await), (0, 0));
    bed.reason("finance", "deleted", "Granted").await.unwrap();
    assert_eq!(scope(&bed, "deleted").await, "ledger:read", "its object is back, and says so");

    // What it does not remember waits for a person, and is written down for the next process.
    let reason = |o: &Value| condition(o, "SweepHeld")["reason"] == "ClusterRewound";
    let held = bed.wait(CORP, "held", Duration::from_secs(60), reason).await.unwrap();
    println!("held {:.1} s after the API server was back", back.elapsed().as_secs_f64());
    let message = condition(&held, "SweepHeld")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("3 removals"), "{message}");
    pause(3_000).await;
    let writes = about(&bed.written(), &late);
    assert!(writes.is_empty(), "{writes:?}");
    for token in &tokens {
        assert!(active(&bed, token).await);
    }
    assert_eq!(consents(&bed, "carol").await, 1);
    let refused = bed.oauth("late-one").unwrap().client_credentials("ledger:read", "").await.unwrap();
    assert_eq!(refused.error(), Some("access_denied"), "decisions do not wait: {}", refused.json);
    let maps = "api/v1/namespaces/clientgrant-system/configmaps?labelSelector=clientgrant.dev/record";
    let (_, record) = bed.raw(Method::GET, maps, None).await.unwrap();
    assert!(late.iter().all(|name| record.to_string().contains(name)), "{record}");
    println!("{} writes at Hydra, none of a client that the copy does not know", bed.written().len());

    // Another process knows of it by what this one has said.
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    pause(28_000).await;
    let held = bed.get(CORP).await.unwrap().unwrap();
    let hold = condition(&held, "SweepHeld");
    assert_eq!((&hold["status"], &hold["reason"]), (&json!("True"), &json!("ClusterRewound")), "{held:#}");
    bed.operator.wait_log("holds removals back", Duration::from_secs(10)).await.unwrap();
    let writes = about(&bed.written(), &late);
    assert!(writes.is_empty(), "{writes:?}");

    // Declared again by Git, one of them goes on; what is left is another hold, and goes when it is released.
    let spec = json!({"clientID": "late-one", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", "late-one", spec).await.unwrap();
    bed.reason("finance", "late-one", "Granted").await.unwrap();
    // Not promised: that tokens outlive it. To this process the client had no grant, and so gets a new one.
    let token = bed.oauth("late-one").unwrap().client_credentials("ledger:read", "").await.unwrap();
    let token = token.access_token().unwrap_or_else(|| panic!("{}", token.json)).to_owned();
    let two = |o: &Value| condition(o, "SweepHeld")["message"].as_str().is_some_and(|m| m.contains("2 removals"));
    let held = bed.wait(CORP, "held", Duration::from_secs(20), two).await.unwrap();
    let id = condition(&held, "SweepHeld")["message"].as_str().unwrap().rsplit(' ').next().unwrap().to_owned();
    bed.patch(CORP, json!({"metadata": {"annotations": {"clientgrant.dev/release-hold": id}}})).await.unwrap();
    for name in &late[1..] {
        until_scope(&bed, name, NONE).await;
    }
    pause(2_500).await;
    assert!(!active(&bed, &tokens[1]).await, "positive control: a released hold collects");
    assert!(active(&bed, &token).await);
}

/// It starts on the older copy: that the history went back it cannot know. Complete lists, the time in which
/// they agree and the budget are all that stands between what the copy does not know and its removal.
#[tokio::test(flavor = "multi_thread")]
async fn who_starts_on_an_older_copy_has_the_agreement_and_the_budget() {
    let mut bed = sweeping("6s", |p| p["budget"] = json!({"maxRemovals": 1, "percent": 0})).await;
    let kept = own(&bed, "kept").await;
    let older = bed.plane.copy_data().unwrap();
    let late = ["late-one", "late-two"];
    let tokens = [own(&bed, "late-one").await, own(&bed, "late-two").await];
    bed.operator.kill();
    bed.plane.put_back(&older).await.unwrap();
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    bed.proxy.clear();
    let reason = |o: &Value| condition(o, "SweepHeld")["reason"] == "BudgetExceeded";
    let held = bed.wait(CORP, "held", Duration::from_secs(30), reason).await.unwrap();
    let message = condition(&held, "SweepHeld")["message"].as_str().unwrap();
    assert!(message.contains("2 removals"), "by the mark at the IdP, for the record has lost them: {message}");
    pause(3_000).await;
    assert!(bed.written().is_empty(), "{}", bed.proxy.summary());
    for token in [&kept, &tokens[0], &tokens[1]] {
        assert!(active(&bed, token).await);
    }
    bed.reason("finance", "kept", "Granted").await.unwrap();
    // Declared again in time, nothing is lost; what is left fits into the budget, and goes.
    let spec = json!({"clientID": "late-one", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", "late-one", spec).await.unwrap();
    bed.reason("finance", "late-one", "Granted").await.unwrap();
    until_scope(&bed, late[1], NONE).await;
    pause(2_500).await;
    assert!(!active(&bed, &tokens[1]).await, "not promised: within the budget it is collected");
    assert!(active(&bed, &kept).await);
}
