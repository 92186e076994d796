//! How a client is registered at Hydra: what two have in common is found, what changes is told, and what changes
//! while nobody accepts it suspends where the ClientIdentity says so.

use std::time::Duration;

use clientgrant_testbed::bed::{CALLBACK, condition};
use clientgrant_testbed::{Action, AuthRequest};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Real, active, bed_with, chain, pause, strings};

const LONG: Duration = Duration::from_secs(20);
/// A provider that did not answer is tried again after half a minute at most.
const AGAIN: Duration = Duration::from_secs(60);
const SCOPE: &str = "openid offline_access transactions:read";
const ELSEWHERE: &str = "https://elsewhere.example.com/cb";
/// The example of RFC 7638, section 3.1.
const MODULUS: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

async fn quick() -> Real {
    bed_with(|options| options.provider["driftCheckInterval"] = json!("1s")).await
}

fn path(namespace: &str, client: &str) -> String {
    format!("namespaces/{namespace}/clientidentities/{client}")
}

async fn speak(bed: &Real, namespace: &str, client: &str, over: Value) {
    let mut spec = json!({
        "providerRef": {"kind": "ClusterIdentityProvider", "name": "corp"}, "clientID": client, "serviceAccountName": client,
    });
    spec.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
    let object = json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientIdentity",
        "metadata": {"name": client, "namespace": namespace}, "spec": spec,
    });
    bed.plane.apply_yaml(&object.to_string()).await.unwrap();
}

async fn says(bed: &Real, namespace: &str, client: &str, word: &str) -> Value {
    let said = |o: &Value| {
        let told = condition(o, "RegistrationUnchanged");
        format!("{}/{}", told["status"].as_str().unwrap_or("-"), told["reason"].as_str().unwrap_or("-")) == word
    };
    bed.wait(&path(namespace, client), word, LONG, said).await.unwrap()
}

fn has_104(object: &Value) -> bool {
    object["status"]["findings"].as_array().into_iter().flatten().any(|f| f["rule"] == "SC-104" && f["state"] == "open")
}

fn key(modulus: &str) -> Value {
    json!({"keys": [{"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "one", "use": "sig"}]})
}

async fn replace(bed: &Real, client: &str, field: &str, value: Value) {
    let patch = json!([{"op": "replace", "path": format!("/{field}"), "value": value}]);
    bed.hydra.admin().patch_client(client, &patch).await.unwrap();
}

/// Type, reason and object of what was told about registrations.
async fn events(bed: &Real, namespace: &str) -> Vec<String> {
    let list = format!("apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let (_, list) = bed.raw(Method::GET, &list, None).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |e: &Value| format!("{} {} {}", text(&e["type"]), text(&e["reason"]), text(&e["regarding"]["kind"]));
    let mut all: Vec<String> = list["items"].as_array().unwrap().iter().map(line).collect();
    all.retain(|line| line.contains("Registration"));
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_registered_is_compared_and_told() {
    let bed = quick().await;
    for client in ["helpdesk", "workflow"] {
        let over = json!({"scope": "openid", "token_endpoint_auth_method": "private_key_jwt", "jwks": key(MODULUS), "client_name": "A name"});
        bed.client(client, over).await.unwrap();
        speak(&bed, "it", client, json!({})).await;
    }
    let any = json!({"clientID": "helpdesk", "subject": {"kind": "Any", "id": null}, "basis": "AdminConsent", "scopes": ["openid"]});
    bed.grant("it", "helpdesk", any).await.unwrap();
    bed.reason("it", "helpdesk", "Granted").await.unwrap();
    for client in ["helpdesk", "workflow"] {
        bed.wait(&path("it", client), "found", LONG, has_104).await.unwrap();
        let object = says(&bed, "it", client, "True/Unchanged").await;
        let shown = &object["status"]["registration"];
        assert_eq!(shown["displayName"], "A name");
        assert_eq!(shown["authMethod"], "private_key_jwt");
        assert_eq!(strings(&shown["redirectURIs"]), [CALLBACK]);
        assert_eq!(shown["public"], false);
    }
    // Each gets a key of its own.
    replace(&bed, "helpdesk", "jwks", key(&MODULUS.replacen('0', "1", 1))).await;
    for client in ["helpdesk", "workflow"] {
        bed.wait(&path("it", client), "closed", LONG, |o| !has_104(o)).await.unwrap();
    }
    says(&bed, "it", "workflow", "True/Unchanged").await;
    let object = says(&bed, "it", "helpdesk", "False/RegistrationChanged").await;
    let message = condition(&object, "RegistrationUnchanged")["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("Not as it was accepted: keys. "), "{message}");

    // A person says that it is right so; then something else changes.
    let pin = json!({"redirectURIs": [CALLBACK], "authMethods": ["private_key_jwt"]});
    bed.patch(&path("it", "helpdesk"), json!({"spec": {"pin": pin}})).await.unwrap();
    says(&bed, "it", "helpdesk", "True/Unchanged").await;
    replace(&bed, "helpdesk", "redirect_uris", json!([CALLBACK, ELSEWHERE])).await;
    let object = says(&bed, "it", "helpdesk", "False/RegistrationChanged").await;
    assert_eq!(strings(&object["status"]["registration"]["redirectURIs"]).len(), 2);
    let start = std::time::Instant::now();
    // The same again is a series of one Event.
    let wanted = ["Normal RegistrationAccepted ClientIdentity", "Warning RegistrationChanged ClientIdentity"];
    while events(&bed, "it").await != wanted {
        assert!(start.elapsed() < LONG, "{:?}", events(&bed, "it").await);
        pause(100).await;
    }
    pause(2_500).await;
    assert_eq!(events(&bed, "it").await, wanted, "told once");
    bed.reason("it", "helpdesk", "Granted").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_registration_suspends_until_it_is_accepted() {
    let mut bed = quick().await;
    let users = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "ann", json!({"subject": {"kind": "User", "id": "ann"}})).await.unwrap();
    bed.reason("finance", "ann", "AwaitingConsent").await.unwrap();
    let pair = chain(&bed, &users, "ann", SCOPE).await;
    bed.reason("finance", "ann", "Granted").await.unwrap();

    // Whom the rules do not let speak changes nothing.
    let rogue = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rogue"}});
    bed.plane.apply_yaml(&rogue.to_string()).await.unwrap();
    let wrong = json!({"onRegistrationChange": "Suspend", "pin": {"redirectURIs": [ELSEWHERE]}});
    speak(&bed, "rogue", "finance-reporting", wrong).await;
    speak(&bed, "finance", "finance-reporting", json!({"onRegistrationChange": "Suspend"})).await;
    says(&bed, "finance", "finance-reporting", "True/Unchanged").await;
    pause(2_000).await;
    let object = bed.get(&path("rogue", "finance-reporting")).await.unwrap().unwrap();
    assert!(condition(&object, "RegistrationUnchanged").is_null() && object["status"]["registration"].is_null());
    assert!(active(&bed, &pair.access).await && active(&bed, &pair.refresh).await, "positive control");

    replace(&bed, "finance-reporting", "redirect_uris", json!([CALLBACK, ELSEWHERE])).await;
    bed.reason("finance", "ann", "RegistrationChanged").await.unwrap();
    says(&bed, "finance", "finance-reporting", "False/RegistrationChanged").await;
    assert!(!active(&bed, &pair.access).await && !active(&bed, &pair.refresh).await);
    let refused = async |bed: &Real| {
        let request = AuthRequest::new("finance-reporting", CALLBACK, SCOPE, "ann");
        let outcome = bed.browser().unwrap().authorize(&request, &bed.honest()).await.unwrap();
        assert!(outcome.code().is_none(), "{:?}", outcome.params);
    };
    refused(&bed).await;

    // Over a restart it stays, whether the identity provider answers or not.
    bed.proxy.set_rule(|_| Action::DropRequest);
    bed.operator.restart().unwrap();
    bed.operator.ready(Duration::from_secs(30)).await.unwrap();
    pause(2_000).await;
    says(&bed, "finance", "finance-reporting", "False/RegistrationChanged").await;
    bed.proxy.clear_rule();
    bed.ready().await.unwrap();
    refused(&bed).await;

    let pin = json!({"redirectURIs": [CALLBACK, ELSEWHERE]});
    bed.patch(&path("finance", "finance-reporting"), json!({"spec": {"pin": pin}})).await.unwrap();
    says(&bed, "finance", "finance-reporting", "True/Unchanged").await;
    bed.reason("finance", "ann", "AwaitingConsent").await.unwrap();
    let pair = chain(&bed, &users, "ann", SCOPE).await;
    bed.reason("finance", "ann", "Granted").await.unwrap();
    assert!(active(&bed, &pair.access).await);

    // Another client of the same id is not taken over while the old one is pinned.
    let admin = bed.hydra.admin();
    admin.delete_client("finance-reporting").await.unwrap();
    let wide = json!({"scope": format!("{SCOPE} admin"), "redirect_uris": [CALLBACK, ELSEWHERE]});
    bed.client("finance-reporting", wide).await.unwrap();
    let object = says(&bed, "finance", "finance-reporting", "False/RegistrationChanged").await;
    let message = condition(&object, "RegistrationUnchanged")["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("Not as it was accepted: registered anew. "), "{message}");
    bed.reason("finance", "ann", "RegistrationChanged").await.unwrap();
    let report = json!({"spec": {"onRegistrationChange": "Report", "pin": {"redirectURIs": [CALLBACK]}}});
    bed.patch(&path("finance", "finance-reporting"), report).await.unwrap();
    bed.reason("finance", "ann", "ClientReplaced").await.unwrap();
    pause(3_000).await;
    let client = admin.get_client("finance-reporting").await.unwrap();
    assert_eq!(client["scope"], format!("{SCOPE} admin"), "nobody has touched it");
    let right = json!({"spec": {"pin": {"redirectURIs": [CALLBACK, ELSEWHERE]}, "adopt": true}});
    bed.patch(&path("finance", "finance-reporting"), right).await.unwrap();
    bed.reason("finance", "ann", "AwaitingConsent").await.unwrap();
    let client = admin.get_client("finance-reporting").await.unwrap();
    assert!(!client["scope"].as_str().unwrap().contains("admin"), "{client:#}");
}

/// Status of the condition, and whether the shared key is among the findings.
fn told(object: &Value) -> (String, bool) {
    let exclusive = condition(object, "CredentialExclusive")["status"].as_str().unwrap_or("-").to_owned();
    (exclusive, has_104(object))
}

/// Whether somebody was told that a shared credential is gone.
async fn resolved(bed: &Real) -> bool {
    let (_, list) = bed.raw(Method::GET, "apis/events.k8s.io/v1/namespaces/it/events", None).await.unwrap();
    list["items"].as_array().unwrap().iter().any(|e| e["reason"] == "SharedCredentialResolved")
}

/// What the identity provider does not say is no proof of anything, and takes nothing back.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_read_is_not_called_exclusive_and_closes_nothing() {
    let mut bed = quick().await;
    let pair = ["helpdesk", "workflow"];
    let shared = |modulus: &str| json!({"scope": "openid", "token_endpoint_auth_method": "private_key_jwt", "jwks": key(modulus)});
    for client in pair {
        bed.client(client, shared(MODULUS)).await.unwrap();
        speak(&bed, "it", client, json!({})).await;
    }
    bed.client("third", shared(&MODULUS.replacen('0', "1", 1))).await.unwrap();
    let found = ("False".to_owned(), true);
    for client in pair {
        bed.wait(&path("it", client), "found", LONG, |o| told(o) == found).await.unwrap();
    }

    // One more speaks, and the list that has it takes long: nothing is said of it before, and the others stay.
    bed.proxy.set_rule(|r| match r.path().ends_with("/clients") {
        true => Action::Delay(Duration::from_secs(4)),
        false => Action::Forward,
    });
    pause(1_500).await;
    speak(&bed, "it", "third", json!({})).await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        for client in pair {
            assert_eq!(told(&bed.get(&path("it", client)).await.unwrap().unwrap()), found);
        }
        let third = bed.get(&path("it", "third")).await.unwrap().unwrap();
        assert_eq!(told(&third).0, "-", "{:#}", third["status"]);
        pause(200).await;
    }
    bed.wait(&path("it", "third"), "exclusive", LONG, |o| told(o) == ("True".to_owned(), false)).await.unwrap();
    assert!(!resolved(&bed).await);

    // The next process never hears of the identity provider.
    bed.proxy.set_rule(|_| Action::Answer(503, "{}".into()));
    bed.operator.restart().unwrap();
    for client in pair {
        let unknown = ("Unknown".to_owned(), true);
        bed.wait(&path("it", client), "unknown", LONG, |o| told(o) == unknown).await.unwrap();
    }
    bed.wait(&path("it", "third"), "unknown", LONG, |o| told(o).0 == "Unknown").await.unwrap();
    bed.proxy.clear_rule();
    for client in pair {
        bed.wait(&path("it", client), "found again", AGAIN, |o| told(o) == found).await.unwrap();
    }
    bed.wait(&path("it", "third"), "exclusive", AGAIN, |o| told(o) == ("True".to_owned(), false)).await.unwrap();
    assert!(!resolved(&bed).await, "nobody mended anything");
    for client in pair {
        replace(&bed, client, "jwks", key(&MODULUS.replacen('0', if client == "helpdesk" { "2" } else { "3" }, 1)))
            .await;
    }
    for client in pair {
        bed.wait(&path("it", client), "mended", LONG, |o| told(o) == ("True".to_owned(), false)).await.unwrap();
    }
    let begun = std::time::Instant::now();
    while !resolved(&bed).await {
        assert!(begun.elapsed() < LONG, "it was mended, and nobody was told");
        pause(100).await;
    }
}
