//! Garbage collection: what nobody declares any more goes, never because of one picture, and never in bulk.

use std::time::{Duration, Instant};

use clientgrant_testbed::bed::{CALLBACK, condition};
use clientgrant_testbed::{Action, AuthRequest};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Real, active, bed_with, chain, pause};

const SCOPE: &str = "openid offline_access transactions:read";
const CORP: &str = "clusteridentityproviders/corp";
const LONG: Duration = Duration::from_secs(20);

pub async fn sweeping(agreement: &str, change: impl FnOnce(&mut Value)) -> Real {
    bed_with(|options| {
        options.args = vec![format!("--sweep-agreement={agreement}"), "--unadmitted-grace=4s".into()];
        options.provider["driftCheckInterval"] = json!("1s");
        options.provider["consentSweepInterval"] = json!("1s");
        change(&mut options.provider);
    })
    .await
}

pub async fn own(bed: &Real, name: &str) -> String {
    let client =
        bed.client(name, json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    let spec = json!({"clientID": name, "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", name, spec).await.unwrap();
    bed.reason("finance", name, "Granted").await.unwrap();
    pause(2_200).await;
    let token = client.client_credentials("ledger:read", "").await.unwrap();
    token.access_token().unwrap_or_else(|| panic!("{}", token.json)).to_owned()
}

/// Somebody forces the finalizer off and deletes: the grant is gone and nothing of it was ended.
async fn forced_off(bed: &Real, name: &str) {
    let path = format!("namespaces/finance/clientgrants/{name}");
    bed.patch(&path, json!({"metadata": {"finalizers": null}})).await.unwrap();
    bed.delete(&path).await.unwrap();
    // The operator may have put it on again in between.
    bed.patch(&path, json!({"metadata": {"finalizers": null}})).await.ok();
    bed.gone(&path).await.unwrap();
}

pub async fn scope(bed: &Real, client: &str) -> String {
    bed.hydra.admin().get_client(client).await.unwrap()["scope"].as_str().unwrap().to_owned()
}

pub async fn until_scope(bed: &Real, client: &str, wanted: &str) -> f64 {
    let start = Instant::now();
    while scope(bed, client).await != wanted {
        assert!(start.elapsed() < LONG, "{client} still has {}\n{}", scope(bed, client).await, bed.operator.log());
        pause(20).await;
    }
    start.elapsed().as_secs_f64()
}

pub const NONE: &str = "clientgrant.dev/none";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_grants_vanished_is_emptied_when_all_sweeps_of_a_while_agree() {
    let mut bed = sweeping("5s", |_| {}).await;
    let token = own(&bed, "batch").await;
    bed.operator.kill();
    forced_off(&bed, "batch").await;
    assert!(active(&bed, &token).await, "positive control");
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    let refused = bed.oauth("batch").unwrap().client_credentials("ledger:read", "").await.unwrap();
    assert_eq!(refused.error(), Some("access_denied"), "decisions do not wait: {}", refused.json);
    pause(3_000).await;
    assert_eq!(scope(&bed, "batch").await, "ledger:read", "one picture is not enough");
    let took = until_scope(&bed, "batch", NONE).await;
    println!("emptied {:.1} s after the start, agreement 5 s", took + 3.0);
    pause(2_500).await;
    assert!(!active(&bed, &token).await);
    // And what it takes again by itself is put back at once.
    pause(2_000).await;
    let wide = json!([{"op": "replace", "path": "/scope", "value": "ledger:read admin"}, {"op": "replace", "path": "/grant_types", "value": ["implicit"]}]);
    bed.hydra.admin().patch_client("batch", &wide).await.unwrap();
    let took = until_scope(&bed, "batch", NONE).await;
    println!("a managed client without grants that widened itself: put back after {took:.1} s");
    assert!(took < 4.0);
}

/// More than the budget of an hour: nothing goes until a person releases exactly these.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_budget_the_sweep_holds_until_somebody_releases_it() {
    let mut bed = sweeping("2s", |p| p["budget"] = json!({"maxRemovals": 2, "percent": 0})).await;
    for name in ["one", "two", "three"] {
        own(&bed, name).await;
    }
    bed.operator.kill();
    for name in ["one", "two", "three"] {
        forced_off(&bed, name).await;
    }
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    bed.proxy.clear();
    let held = bed.wait(CORP, "held", LONG, |o| condition(o, "SweepHeld")["status"] == "True").await.unwrap();
    let message = condition(&held, "SweepHeld")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("3 removals"), "{message}");
    pause(3_000).await;
    assert!(bed.written().is_empty(), "{}", bed.proxy.summary());
    bed.patch(CORP, json!({"metadata": {"annotations": {"clientgrant.dev/release-hold": "0000000000"}}}))
        .await
        .unwrap();
    pause(3_000).await;
    assert!(bed.written().is_empty(), "another hold releases nothing: {}", bed.proxy.summary());
    let id = message.rsplit(' ').next().unwrap();
    bed.patch(CORP, json!({"metadata": {"annotations": {"clientgrant.dev/release-hold": id}}})).await.unwrap();
    for name in ["one", "two", "three"] {
        until_scope(&bed, name, NONE).await;
    }
    bed.wait(CORP, "free", LONG, |o| condition(o, "SweepHeld").is_null()).await.unwrap();
}

/// A list of clients that shrinks, repeats, fails, is empty or half: nothing is concluded from it.
#[tokio::test(flavor = "multi_thread")]
async fn from_a_list_that_is_not_complete_nothing_is_concluded() {
    let mut bed = sweeping("2s", |_| {}).await;
    let token = own(&bed, "batch").await;
    let good = bed.hydra.admin().list_clients().await.unwrap();
    bed.operator.kill();
    forced_off(&bed, "batch").await;
    let batch = good.iter().find(|c| c["client_id"] == "batch").unwrap().clone();
    let answers: Vec<(&str, u16, Value, &str)> = vec![
        ("empty, and says that there are some", 200, json!([]), "2"),
        ("half of what it says", 200, json!([batch]), "2"),
        ("twice the same", 200, json!([batch, batch]), "2"),
        ("more than it says", 200, json!(good), "1"),
        ("without a total", 200, json!(good), ""),
        ("an error", 500, json!({}), "2"),
        ("not a list", 200, json!({"clients": good}), "2"),
        ("a client without a name", 200, json!([{"scope": "x"}, batch]), "2"),
    ];
    for (what, status, body, total) in answers {
        let headers = vec![("X-Total-Count".to_owned(), total.to_owned())];
        let body = body.to_string();
        let listing = |r: &clientgrant_testbed::Recorded| r.method == "GET" && r.path() == "/admin/clients";
        bed.proxy.set_rule(move |r| match listing(r) {
            true => Action::AnswerWith(status, headers.clone(), body.clone()),
            false => Action::Forward,
        });
        bed.operator.restart().unwrap();
        bed.operator.ready(Duration::from_secs(30)).await.unwrap();
        bed.proxy.clear();
        pause(4_000).await;
        assert!(bed.proxy.requests().iter().any(listing), "positive control: {what}");
        assert!(bed.written().is_empty(), "{what}: {}", bed.proxy.summary());
        assert_eq!(scope(&bed, "batch").await, "ledger:read", "{what}");
        bed.operator.kill();
    }
    bed.proxy.clear_rule();
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    until_scope(&bed, "batch", NONE).await;
    pause(2_500).await;
    assert!(!active(&bed, &token).await, "positive control: from a complete list it goes");
}

/// An edit of the rules by mistake: decisions and ceiling at once, consents after the grace.
#[tokio::test(flavor = "multi_thread")]
async fn consents_that_are_not_allowed_any_more_go_after_the_grace() {
    let bed = sweeping("1s", |_| {}).await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let tokens = chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
    let allow = |client: &str| json!({"spec": {"allow": [{"clients": [client]}]}});
    // Corrected within the grace: nothing was lost.
    bed.patch(CORP, allow("somebody-else")).await.unwrap();
    bed.reason("finance", "reporting", "NotAllowed").await.unwrap();
    assert!(client.refresh(&tokens.refresh).await.unwrap().access_token().is_none(), "at once");
    pause(1_500).await;
    bed.patch(CORP, allow("finance-reporting")).await.unwrap();
    bed.reason("finance", "reporting", "Granted").await.unwrap();
    let again = client.refresh(&tokens.refresh).await.unwrap();
    let refresh = again.refresh_token().unwrap_or_else(|| panic!("{}", again.json)).to_owned();
    // Left so: the consents go, and status does not call it somebody else's removal.
    bed.patch(CORP, allow("somebody-else")).await.unwrap();
    let start = Instant::now();
    while !bed.hydra.admin().list_consents("ann").await.unwrap().is_empty() {
        assert!(start.elapsed() < LONG, "{}", bed.operator.log());
        pause(50).await;
    }
    println!("consents removed {:.1} s after the edit, grace 4 s", start.elapsed().as_secs_f64());
    assert!(start.elapsed() > Duration::from_secs(3));
    pause(3_000).await;
    bed.patch(CORP, allow("finance-reporting")).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    assert!(client.refresh(&refresh).await.unwrap().access_token().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn undeclared_consents_are_counted_and_revoked_only_where_somebody_says_so() {
    let bed = sweeping("2s", |_| {}).await;
    let reporting = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    let other = bed.client("other", json!({"scope": SCOPE})).await.unwrap();
    let free = bed.client("unmanaged", json!({"scope": SCOPE})).await.unwrap();
    // ann consented to three clients before anybody wrote a grant.
    for client in [&reporting, &other, &free] {
        let request = AuthRequest::new(client.id(), CALLBACK, SCOPE, "ann");
        let app = clientgrant_testbed::ConsentApp::grant_all();
        assert!(bed.browser().unwrap().authorize(&request, &app).await.unwrap().code().is_some());
    }
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.grant("finance", "other", json!({"clientID": "other", "subject": {"id": "bob"}})).await.unwrap();
    bed.reason("finance", "other", "AwaitingConsent").await.unwrap();
    let told = bed.wait(CORP, "counted", LONG, |o| o["status"]["undeclared"]["count"] == 1).await.unwrap();
    assert_eq!(told["status"]["undeclared"]["sample"], json!(["other User/ann"]));
    pause(3_000).await;
    assert_eq!(bed.hydra.admin().list_consents("ann").await.unwrap().len(), 3, "Report removes nothing");
    bed.patch(CORP, json!({"spec": {"undeclaredConsents": "Revoke"}})).await.unwrap();
    let start = Instant::now();
    loop {
        let left = bed.hydra.admin().list_consents("ann").await.unwrap();
        let of = |id: &str| left.iter().any(|c| c["consent_request"]["client"]["client_id"] == id);
        if !of("other") {
            assert!(of("unmanaged") && of("finance-reporting"), "only what nobody declares: {left:?}");
            break;
        }
        assert!(start.elapsed() < LONG, "{}", bed.operator.log());
        pause(50).await;
    }
    bed.wait(CORP, "none", Duration::from_secs(30), |o| o["status"]["undeclared"].is_null()).await.unwrap();
}

/// Hydra restarted without its data: nothing is created and nothing removed in bulk, and conditions say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_hydra_that_lost_everything_leads_to_no_mass_action() {
    let mut bed = sweeping("2s", |_| {}).await;
    for name in ["one", "two"] {
        own(&bed, name).await;
    }
    bed.hydra.restart().await.unwrap();
    bed.proxy.clear();
    for name in ["one", "two"] {
        bed.reason("finance", name, "UnknownClient").await.unwrap();
    }
    pause(4_000).await;
    assert!(bed.written().is_empty(), "{}", bed.proxy.summary());
    let path = "namespaces/finance/clientgrants/one";
    assert!(!bed.get(path).await.unwrap().unwrap()["metadata"]["finalizers"].is_null(), "still held");
    bed.delete(path).await.unwrap();
    bed.gone(path).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_client_is_nobodys_again() {
    let bed = sweeping("2s", |p| p["unmanagedClients"] = json!("Allow")).await;
    let wide = json!({"grant_types": ["client_credentials"], "scope": "ledger:read ledger:write"});
    let client = bed.client("batch", wide).await.unwrap();
    let spec = json!({"clientID": "batch", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", "batch", spec.clone()).await.unwrap();
    bed.reason("finance", "batch", "Granted").await.unwrap();
    let release = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_clientgrant"));
        command.args(["release", "--provider", "corp", "batch"]).args(more).env("KUBECONFIG", bed.plane.kubeconfig());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, text) = release(&[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("finance/batch") && text.contains("delete them first"), "{text}");
    bed.delete("namespaces/finance/clientgrants/batch").await.unwrap();
    bed.gone("namespaces/finance/clientgrants/batch").await.unwrap();
    assert_eq!(scope(&bed, "batch").await, NONE);
    let (code, text) = release(&["--put-back"]);
    assert_eq!(code, Some(0), "{text}");
    until_scope(&bed, "batch", "ledger:read ledger:write").await;
    let registered = bed.hydra.admin().get_client("batch").await.unwrap();
    assert!(registered["metadata"]["clientgrant.dev/cluster"].is_null(), "{registered}");
    let token = client.client_credentials("ledger:write", "").await.unwrap();
    assert!(token.access_token().is_some(), "{}", token.json);
    pause(4_000).await;
    assert_eq!(scope(&bed, "batch").await, "ledger:read ledger:write", "it is left alone");
    let maps = "api/v1/namespaces/clientgrant-system/configmaps?labelSelector=clientgrant.dev/record";
    let (_, record) = bed.raw(Method::GET, maps, None).await.unwrap();
    assert!(record.to_string().contains("released"), "the line stays and says so: {record}");
    // A new grant takes it over again.
    bed.grant("finance", "batch", spec).await.unwrap();
    bed.reason("finance", "batch", "Granted").await.unwrap();
    assert_eq!(scope(&bed, "batch").await, "ledger:read");
    let token = client.client_credentials("ledger:write", "").await.unwrap();
    assert!(token.access_token().is_none(), "{}", token.json);
}
