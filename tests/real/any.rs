//! Grants for any subject, and the specific ones that shadow them.

use clientgrant_testbed::AuthRequest;
use clientgrant_testbed::bed::CALLBACK;
use serde_json::json;

use crate::support::{active, bed, chain};

const SCOPE: &str = "openid offline_access transactions:read";

#[tokio::test(flavor = "multi_thread")]
async fn any_subject_sleeps_through_suspend_and_a_specific_grant_shadows_it_in_every_state() {
    let bed = bed().await;
    let client = bed.client("portal", json!({"scope": SCOPE})).await.unwrap();
    let any = json!({"clientID": "portal", "subject": {"kind": "Any", "id": null}});
    bed.grant("finance", "everybody", any).await.unwrap();
    let grant = bed.reason("finance", "everybody", "Granted").await.unwrap();
    assert_eq!(grant["status"]["summary"]["subject"], "Any");
    let ann = chain(&bed, &client, "ann", SCOPE).await;
    let bob = chain(&bed, &client, "bob", SCOPE).await;
    assert!(active(&bed, &ann.access).await && active(&bed, &bob.access).await);

    let path = "namespaces/finance/clientgrants/everybody";
    bed.patch(path, json!({"spec": {"suspend": true}})).await.unwrap();
    bed.reason("finance", "everybody", "Suspended").await.unwrap();
    assert!(!active(&bed, &ann.access).await && !active(&bed, &bob.access).await);
    assert!(client.refresh(&bob.refresh).await.unwrap().access_token().is_none());
    bed.patch(path, json!({"spec": {"suspend": false}})).await.unwrap();
    bed.reason("finance", "everybody", "Granted").await.unwrap();
    let woken = client.refresh(&bob.refresh).await.unwrap();
    assert!(woken.access_token().is_some(), "the subject's consent still stands: {}", woken.json);

    // A grant for ann alone, even a suspended one, decides for ann.
    let own = json!({"clientID": "portal", "suspend": true});
    bed.grant("it", "ann", own).await.unwrap();
    bed.reason("it", "ann", "Suspended").await.unwrap();
    bed.operator.mark_log();
    let browser = bed.browser().unwrap();
    let request = AuthRequest::new("portal", CALLBACK, SCOPE, "ann");
    let refused = browser.authorize(&request, &bed.honest()).await.unwrap();
    assert_eq!(refused.decision.as_ref().unwrap().json["reason"], "GrantSuspended");
    assert!(client.refresh(&ann.refresh).await.unwrap().access_token().is_none());
    let other = chain(&bed, &client, "bob", SCOPE).await;
    assert!(active(&bed, &other.access).await, "bob is not touched");

    bed.delete("namespaces/it/clientgrants/ann").await.unwrap();
    bed.gone("namespaces/it/clientgrants/ann").await.unwrap();
    let again = chain(&bed, &client, "ann", SCOPE).await;
    assert!(active(&bed, &again.access).await, "ann is anybody again");
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_consent_is_accepted_without_asking_and_still_bound_to_its_subject() {
    let bed = bed().await;
    let client = bed.client("intranet", json!({"scope": SCOPE})).await.unwrap();
    let spec = json!({"clientID": "intranet", "basis": "AdminConsent"});
    bed.grant("finance", "intranet", spec).await.unwrap();
    bed.reason("finance", "intranet", "Granted").await.unwrap();
    let browser = bed.browser().unwrap();
    let mut request = AuthRequest::new("intranet", CALLBACK, SCOPE, "ann");
    request.approves = false;
    let outcome = browser.authorize(&request, &bed.honest()).await.unwrap();
    assert_eq!(outcome.decision_word(), Some("Accept"));
    let token = client.exchange_code(outcome.code().unwrap(), CALLBACK).await.unwrap();
    assert!(token.access_token().is_some(), "{}", token.json);
    let other = bed.browser().unwrap();
    let request = AuthRequest::new("intranet", CALLBACK, SCOPE, "bob");
    let outcome = other.authorize(&request, &bed.honest()).await.unwrap();
    assert_eq!(outcome.decision_word(), Some("Deny"));
}
