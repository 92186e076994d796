//! The duty to revoke outlives its grant: a namespace that ends, a grant that nobody can let go, a provider
//! that was forced away, a finalizer that a tenant took off.

use std::time::{Duration, Instant};

use clientgrant_testbed::bed::{BedOptions, condition};
use clientgrant_testbed::{Action, Recorded};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Chain, Real, active, bed_with, chain, pause};

const SCOPE: &str = "openid offline_access transactions:read";
const CORP: &str = "clusteridentityproviders/corp";
const GRANT: &str = "namespaces/finance/clientgrants/reporting";
const PENDING: &str = "namespaces/clientgrant-system/pendingrevocations";
const LONG: Duration = Duration::from_secs(60);
const NONE: &str = "clientgrant.dev/none";

/// One grant in force, with tokens; its UID too.
async fn granted(change: impl FnOnce(&mut BedOptions)) -> (Real, Chain, String) {
    let bed = bed_with(|options| {
        options.provider["driftCheckInterval"] = json!("1s");
        change(options);
    })
    .await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let tokens = chain(&bed, &client, "ann", SCOPE).await;
    let grant = bed.reason("finance", "reporting", "Granted").await.unwrap();
    assert!(active(&bed, &tokens.access).await, "positive control");
    let uid = grant["metadata"]["uid"].as_str().unwrap().to_owned();
    (bed, tokens, format!("{PENDING}/{uid}"))
}

fn after_two_seconds(options: &mut BedOptions) {
    options.args = vec!["--handover-after=2s".into()];
}

/// Hydra's admin API is away.
fn away(bed: &Real) {
    bed.proxy.set_rule(|_| Action::Answer(503, "{}".into()));
}

fn done(object: &Value) -> (&str, &str) {
    let done = condition(object, "Done");
    (done["status"].as_str().unwrap_or_default(), done["reason"].as_str().unwrap_or_default())
}

async fn blocked(bed: &Real, path: &str, reason: &str) -> Value {
    bed.wait(path, reason, LONG, |o| done(o) == ("False", reason)).await.unwrap()
}

async fn no_duties(bed: &Real) {
    let start = Instant::now();
    loop {
        let left = bed.get(PENDING).await.unwrap().unwrap()["items"].clone();
        if left == json!([]) {
            return;
        }
        assert!(start.elapsed() < LONG, "{left:#}\n{}", bed.operator.log());
        pause(50).await;
    }
}

/// The duty was done: nothing is left at the identity provider and nothing in the cluster.
async fn ended(bed: &Real, tokens: &Chain) {
    no_duties(bed).await;
    assert!(!active(bed, &tokens.access).await && !active(bed, &tokens.refresh).await);
    assert!(bed.hydra.admin().list_consents("ann").await.unwrap().is_empty());
    assert_eq!(bed.hydra.admin().get_client("finance-reporting").await.unwrap()["scope"], NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_ends_does_not_wait_for_its_identity_provider() {
    let (mut bed, tokens, pending) = granted(|_| {}).await;
    bed.plane.start_controller_manager().await.unwrap();
    away(&bed);
    let start = Instant::now();
    bed.raw(Method::DELETE, "api/v1/namespaces/finance", None).await.unwrap();
    while bed.raw(Method::GET, "api/v1/namespaces/finance", None).await.unwrap().0 == 200 {
        assert!(start.elapsed() < LONG, "the namespace is still there\n{}", bed.operator.log());
        pause(100).await;
    }
    println!("the namespace was gone after {:.1} s", start.elapsed().as_secs_f64());
    let object = blocked(&bed, &pending, "RevocationBlocked").await;
    let spec = &object["spec"];
    assert_eq!(spec["issuer"], bed.hydra.issuer());
    assert_eq!((&spec["clientID"], &spec["cause"]), (&json!("finance-reporting"), &json!("Deleted")));
    assert_eq!(spec["subject"], json!({"kind": "User", "id": "ann"}));
    assert_eq!(spec["origin"]["name"], "reporting");
    assert!(active(&bed, &tokens.access).await, "positive control: nothing could be ended yet");
    let client = bed.oauth("finance-reporting").unwrap();
    let refused = client.refresh(&tokens.refresh).await.unwrap();
    assert!(refused.access_token().is_none(), "decisions do not wait: {}", refused.json);
    // The operator may die meanwhile.
    bed.operator.kill();
    bed.operator.restart().unwrap();
    bed.operator.ready(Duration::from_secs(30)).await.unwrap();
    pause(1_000).await;
    bed.proxy.clear_rule();
    ended(&bed, &tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_grant_goes_after_a_while_and_its_duty_stays() {
    let (bed, tokens, pending) = granted(after_two_seconds).await;
    away(&bed);
    bed.delete(GRANT).await.unwrap();
    bed.gone(GRANT).await.unwrap();
    blocked(&bed, &pending, "RevocationBlocked").await;
    // Nobody but a person with rights in the operator's namespace can close it, and a deletion does not.
    bed.delete(&pending).await.unwrap();
    pause(2_000).await;
    assert!(bed.get(&pending).await.unwrap().is_some());
    // The same grant again: it is not in force before what the old one gave has ended.
    bed.proxy.clear_rule();
    ended(&bed, &tokens).await;
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
}

/// The subject of a new grant for the same client and subject is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_grant_gave_does_not_come_back_under_a_new_one() {
    let (bed, tokens, pending) = granted(after_two_seconds).await;
    away(&bed);
    bed.delete(GRANT).await.unwrap();
    bed.gone(GRANT).await.unwrap();
    blocked(&bed, &pending, "RevocationBlocked").await;
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "ProviderUnavailable").await.unwrap();
    bed.proxy.clear_rule();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    no_duties(&bed).await;
    assert!(!active(&bed, &tokens.access).await);
    assert!(bed.hydra.admin().list_consents("ann").await.unwrap().is_empty());
    let client = bed.oauth("finance-reporting").unwrap();
    chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_while_only_observed_it_is_ended_when_enforced_again() {
    let (mut bed, tokens, pending) = granted(|_| {}).await;
    let mode = |mode: &str| json!({"spec": {"mode": mode}});
    bed.patch(CORP, mode("Observe")).await.unwrap();
    bed.reason("finance", "reporting", "Observed").await.unwrap();
    bed.proxy.clear();
    bed.delete(GRANT).await.unwrap();
    bed.gone(GRANT).await.unwrap();
    let object = blocked(&bed, &pending, "RevocationBlocked").await;
    assert!(condition(&object, "Done")["message"].as_str().unwrap().contains("only observed"), "{object:#}");
    bed.operator.kill();
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    pause(3_000).await;
    assert!(bed.written().is_empty(), "{}", bed.proxy.summary());
    assert!(active(&bed, &tokens.access).await);
    bed.patch(CORP, mode("Enforce")).await.unwrap();
    ended(&bed, &tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_was_forced_away_leaves_a_duty_that_says_so() {
    let (bed, tokens, pending) = granted(after_two_seconds).await;
    let corp = bed.get(CORP).await.unwrap().unwrap();
    bed.delete(CORP).await.unwrap();
    bed.patch(CORP, json!({"metadata": {"finalizers": null}})).await.unwrap();
    bed.gone(CORP).await.unwrap();
    bed.delete(GRANT).await.unwrap();
    bed.gone(GRANT).await.unwrap();
    let object = blocked(&bed, &pending, "CredentialLost").await;
    assert!(condition(&object, "Done")["message"].as_str().unwrap().contains("Declare one again"), "{object:#}");
    pause(1_000).await;
    assert!(active(&bed, &tokens.access).await, "nobody can end it now");
    let again = json!({
        "apiVersion": corp["apiVersion"], "kind": corp["kind"], "metadata": {"name": "another"}, "spec": corp["spec"],
    });
    bed.put("clusteridentityproviders/another", again).await.unwrap();
    ended(&bed, &tokens).await;
    // With nothing left to wait for the provider goes.
    bed.delete("clusteridentityproviders/another").await.unwrap();
    bed.gone("clusteridentityproviders/another").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duty_that_nobody_can_do_is_closed_by_a_person() {
    let (bed, _, pending) = granted(after_two_seconds).await;
    away(&bed);
    bed.delete(GRANT).await.unwrap();
    bed.gone(GRANT).await.unwrap();
    blocked(&bed, &pending, "RevocationBlocked").await;
    bed.delete(CORP).await.unwrap();
    pause(3_000).await;
    assert!(bed.get(CORP).await.unwrap().is_some(), "the duty needs the provider's keys");
    bed.patch(CORP, json!({"metadata": {"finalizers": null}})).await.unwrap();
    blocked(&bed, &pending, "CredentialLost").await;
    bed.patch(&pending, json!({"metadata": {"finalizers": null}})).await.unwrap();
    bed.gone(&pending).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_that_a_tenant_takes_off_saves_no_token() {
    let (bed, tokens, _) = granted(|_| {}).await;
    bed.delete(GRANT).await.ok();
    // In the moment of the deletion, before the operator has done anything.
    bed.patch(GRANT, json!({"metadata": {"finalizers": null}})).await.ok();
    bed.gone(GRANT).await.unwrap();
    let start = Instant::now();
    while active(&bed, &tokens.access).await {
        assert!(start.elapsed() < Duration::from_secs(5), "{}", bed.operator.log());
        pause(10).await;
    }
    println!("ended {:.0} ms after it was gone", start.elapsed().as_secs_f64() * 1000.0);
    ended(&bed, &tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_taken_off_before_the_deletion_saves_no_token_either() {
    let (bed, tokens, pending) = granted(|options| options.kproxy = true).await;
    // The operator would put it back at once: its write is lost.
    let kproxy = bed.kproxy.as_ref().unwrap();
    kproxy.set_rule(|r: &Recorded| match r.is_write() && r.path().ends_with("/clientgrants/reporting") {
        true => Action::Answer(503, "{}".into()),
        false => Action::Forward,
    });
    bed.patch(GRANT, json!({"metadata": {"finalizers": null}})).await.unwrap();
    bed.delete(GRANT).await.unwrap();
    bed.gone(GRANT).await.unwrap();
    bed.wait(&pending, "written or done", LONG, |_| bed.operator.log().contains("goes on without its grant"))
        .await
        .unwrap();
    ended(&bed, &tokens).await;
}

/// Killed between any two of its writes, the operator leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_hand_over_it_goes_on() {
    type Write = (&'static str, fn(&Recorded) -> bool);
    let writes: [Write; 4] = [
        ("the duty is written", |r| r.method == "POST" && r.path().ends_with("/pendingrevocations")),
        ("the grant is let go", |r| r.method == "PATCH" && r.path().ends_with("/clientgrants/reporting")),
        ("the duty is deleted", |r| r.method == "DELETE" && r.path().contains("/pendingrevocations/")),
        ("the duty is let go", |r| {
            r.method == "PATCH" && r.path().contains("/pendingrevocations/") && !r.path().ends_with("/status")
        }),
    ];
    let (mut bed, mut tokens, _) = granted(|options| {
        after_two_seconds(options);
        options.kproxy = true;
    })
    .await;
    for (n, (what, write)) in writes.into_iter().enumerate() {
        away(&bed);
        bed.delete(GRANT).await.unwrap();
        let later = n >= 2;
        if later {
            bed.gone(GRANT).await.unwrap();
        }
        let answer = bed.kproxy.as_ref().unwrap().hold_response(write);
        if later {
            bed.proxy.clear_rule();
        }
        answer.wait_arrived(Duration::from_secs(30)).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        bed.operator.kill();
        answer.discard();
        bed.proxy.clear_rule();
        bed.operator.restart().unwrap();
        bed.ready().await.unwrap();
        bed.gone(GRANT).await.unwrap();
        ended(&bed, &tokens).await;
        bed.grant("finance", "reporting", json!({})).await.unwrap();
        bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
        let client = bed.oauth("finance-reporting").unwrap();
        tokens = chain(&bed, &client, "ann", SCOPE).await;
        bed.reason("finance", "reporting", "Granted").await.unwrap();
    }
}

/// A tenant whose own provider object names the issuer of another one hands no duty over: it would end what
/// others' grants gave there.
#[tokio::test(flavor = "multi_thread")]
async fn no_duty_is_handed_over_by_a_provider_that_does_not_speak_for_its_issuer() {
    let (bed, tokens, _) = granted(|options| {
        options.args = vec!["--handover-after=1s".into(), "--allow-provider-url=*".into()];
    })
    .await;
    let corp = bed.get(CORP).await.unwrap().unwrap();
    let mut spec = corp["spec"].clone();
    spec.as_object_mut().unwrap().remove("allow");
    let body = json!({
        "apiVersion": corp["apiVersion"], "kind": "IdentityProvider", "metadata": {"name": "mine", "namespace": "it"},
        "spec": spec,
    });
    bed.put("namespaces/it/identityproviders/mine", body).await.unwrap();
    let reference = json!({"providerRef": {"kind": "IdentityProvider", "name": "mine"}});
    bed.grant("it", "theirs", reference).await.unwrap();
    bed.reason("it", "theirs", "ProviderNotFound").await.unwrap();
    let path = "namespaces/it/clientgrants/theirs";
    bed.patch(path, json!({"metadata": {"finalizers": ["clientgrant.dev/revoke"]}})).await.unwrap();
    bed.delete(path).await.unwrap();
    pause(4_000).await;
    assert!(active(&bed, &tokens.access).await);
    assert_eq!(bed.get(PENDING).await.unwrap().unwrap()["items"], json!([]));
    bed.reason("finance", "reporting", "Granted").await.unwrap();
}
