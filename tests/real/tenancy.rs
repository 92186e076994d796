//! Who may grant what: adoption, rules, keys, issuers and URLs, as people meet them.

use std::time::Duration;

use clientgrant_testbed::bed::condition;
use serde_json::{Value, json};

use crate::support::{Real, active, bed, bed_with, chain, pause};

const SCOPE: &str = "openid offline_access transactions:read";

/// Waits until an object's Ready condition has this reason.
async fn ready(bed: &Real, path: &str, reason: &str) -> Value {
    bed.wait(path, reason, Duration::from_secs(20), |o| condition(o, "Ready")["reason"] == reason).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_holds_more_is_left_alone_until_somebody_says_adopt() {
    let bed = bed_with(|options| options.provider["adoption"] = json!("Explicit")).await;
    let wide = json!({"scope": format!("{SCOPE} admin"), "grant_types": ["authorization_code", "implicit"]});
    bed.client("finance-reporting", wide).await.unwrap();
    bed.client("modest", json!({"scope": "openid", "response_types": ["code"]})).await.unwrap();
    let before = bed.hydra.admin().get_client("finance-reporting").await.unwrap();
    bed.proxy.clear();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    let refused = bed.reason("finance", "reporting", "AdoptionNeeded").await.unwrap();
    let message = condition(&refused, "Ready")["message"].as_str().unwrap();
    assert!(message.contains("grant type implicit") && message.contains("scope admin"), "{message}");
    assert_eq!(condition(&refused, "Stalled")["status"], "True");
    pause(500).await;
    assert!(bed.written().is_empty(), "{}", bed.proxy.summary());
    assert_eq!(bed.hydra.admin().get_client("finance-reporting").await.unwrap(), before);

    // One that holds nothing beyond needs nobody's word.
    bed.grant("finance", "modest", json!({"clientID": "modest"})).await.unwrap();
    bed.reason("finance", "modest", "AwaitingConsent").await.unwrap();

    let identity = json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientIdentity",
        "metadata": {"name": "reporting", "namespace": "finance"},
        "spec": {
            "providerRef": {"kind": "ClusterIdentityProvider", "name": "corp"},
            "clientID": "finance-reporting", "adopt": true,
        },
    });
    bed.put("namespaces/finance/clientidentities/reporting", identity).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let after = bed.hydra.admin().get_client("finance-reporting").await.unwrap();
    assert_eq!(
        after["scope"],
        SCOPE.split(' ').collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
    );
    assert_eq!(after["grant_types"], json!(["authorization_code", "refresh_token"]));
    let path = "api/v1/namespaces/clientgrant-system/configmaps";
    let (_, record) = bed.raw(reqwest::Method::GET, path, None).await.unwrap();
    assert!(record.to_string().contains("admin"), "what it had is kept: {record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_grant_holds_its_key_and_its_successor_takes_over() {
    let bed = bed().await;
    let client =
        bed.client("finance-reporting", json!({"scope": format!("{SCOPE} transactions:export")})).await.unwrap();
    bed.grant("finance", "first", json!({})).await.unwrap();
    bed.reason("finance", "first", "AwaitingConsent").await.unwrap();
    let old = chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "first", "Granted").await.unwrap();
    let wider = json!({"scopes": ["openid", "offline_access", "transactions:read", "transactions:export"]});
    bed.grant("it", "second", wider).await.unwrap();
    let conflict = bed.reason("it", "second", "Conflict").await.unwrap();
    let message = condition(&conflict, "Ready")["message"].as_str().unwrap();
    assert!(
        !message.contains("first") && !message.contains("finance"),
        "names nothing of another namespace: {message}"
    );
    assert!(conflict["metadata"]["finalizers"].is_null());
    let registered = bed.hydra.admin().get_client("finance-reporting").await.unwrap();
    assert!(!registered["scope"].as_str().unwrap().contains("export"), "{registered}");
    assert!(active(&bed, &old.access).await, "the first is not touched");

    bed.delete("namespaces/finance/clientgrants/first").await.unwrap();
    bed.gone("namespaces/finance/clientgrants/first").await.unwrap();
    bed.reason("it", "second", "AwaitingConsent").await.unwrap();
    assert!(!active(&bed, &old.access).await, "consent is given to one grant");
    chain(&bed, &client, "ann", &format!("{SCOPE} transactions:export")).await;
    bed.reason("it", "second", "Granted").await.unwrap();
}

/// Suspended, resumed and suspended again before anybody can look: what was given in between ends too.
#[tokio::test(flavor = "multi_thread")]
async fn a_moment_in_force_between_two_ends_leaves_nothing() {
    let bed = bed().await;
    let client =
        bed.client("batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    let own = json!({"clientID": "batch", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", "batch", own).await.unwrap();
    bed.reason("finance", "batch", "Granted").await.unwrap();
    let path = "namespaces/finance/clientgrants/batch";
    bed.patch(path, json!({"spec": {"suspend": true}})).await.unwrap();
    bed.reason("finance", "batch", "Suspended").await.unwrap();
    pause(500).await;
    // The operator's next look is held at its first call, while the grant is in force for a moment.
    let held = bed.proxy.hold(|r| r.path() == "/admin/clients/batch");
    bed.patch(path, json!({"spec": {"suspend": false}})).await.unwrap();
    held.wait_arrived(Duration::from_secs(20)).await.unwrap();
    // The IdP's owner widens the registration by hand meanwhile; the hook alone decides.
    let widened = json!([
        {"op": "replace", "path": "/scope", "value": "ledger:read"},
        {"op": "replace", "path": "/grant_types", "value": ["client_credentials"]},
    ]);
    bed.hydra.admin().patch_client("batch", &widened).await.unwrap();
    let token = client.client_credentials("ledger:read", "").await.unwrap();
    let access = token.access_token().unwrap_or_else(|| panic!("positive control: {}", token.json)).to_owned();
    bed.patch(path, json!({"spec": {"suspend": true}})).await.unwrap();
    held.release();
    let ended = async {
        while active(&bed, &access).await {
            pause(20).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("it ends");
    bed.reason("finance", "batch", "Suspended").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_the_provider_decide_and_an_edit_acts_at_once() {
    let bed = bed_with(|options| {
        options.provider["allow"] = json!([{
            "namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "finance"}},
            "clients": ["finance-*"], "scopes": ["openid", "offline_access", "transactions:*"],
            "bases": ["SubjectConsent"], "maxLifetime": "90d",
        }]);
    })
    .await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.client("batch", json!({"grant_types": ["client_credentials"], "scope": "openid"})).await.unwrap();
    let end = crate::support::ahead(3600);
    let own = json!({"subject": null, "basis": "ClientOwn", "scopes": ["transactions:read"]});
    for (namespace, name, spec, words) in [
        ("it", "namespace", json!({}), "no rule names this namespace"),
        ("finance", "client", json!({"clientID": "batch"}), "client"),
        ("finance", "scope", json!({"scopes": ["openid", "admin"], "subject": {"id": "b"}}), "\"admin\""),
        ("finance", "basis", own, "basis"),
        ("finance", "lifetime", json!({"expiresAt": "2199-01-01T00:00:00Z", "subject": {"id": "c"}}), "maxLifetime"),
    ] {
        let mut whole = spec;
        if whole["expiresAt"].is_null() {
            whole["expiresAt"] = json!(end);
        }
        bed.grant(namespace, name, whole).await.unwrap();
        let grant = bed.reason(namespace, name, "NotAllowed").await.unwrap();
        let message = condition(&grant, "Ready")["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{name}: {message}");
        assert!(grant["metadata"]["finalizers"].is_null());
    }
    bed.grant("finance", "allowed", json!({"expiresAt": end})).await.unwrap();
    bed.reason("finance", "allowed", "AwaitingConsent").await.unwrap();
    let tokens = chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "allowed", "Granted").await.unwrap();

    // The rule goes: decisions and ceiling at once, and the subject's consent is not destroyed by an edit.
    let rules = json!({"spec": {"allow": [{"clients": ["somebody-else"]}]}});
    bed.patch("clusteridentityproviders/corp", rules).await.unwrap();
    bed.reason("finance", "allowed", "NotAllowed").await.unwrap();
    assert!(client.refresh(&tokens.refresh).await.unwrap().access_token().is_none());
    let registered = bed.hydra.admin().get_client("finance-reporting").await.unwrap();
    assert_eq!(registered["scope"], "clientgrant.dev/none");
    assert_eq!(bed.hydra.admin().list_consents("ann").await.unwrap().len(), 1);
    let rules = json!({"spec": {"allow": [{"clients": ["finance-*"], "namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "finance"}}}]}});
    bed.patch("clusteridentityproviders/corp", rules).await.unwrap();
    bed.reason("finance", "allowed", "Granted").await.unwrap();
    let again = client.refresh(&tokens.refresh).await.unwrap();
    assert!(again.access_token().is_some(), "the consent still stands: {}", again.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_provider_object_speaks_for_an_issuer_and_tenants_connect_only_where_they_may() {
    let bed = bed_with(|options| options.args = vec!["--allow-provider-url=http://127.0.0.1:1/team/*".into()]).await;
    let provider = |namespace: &str, name: &str, spec: Value| {
        let mut metadata = json!({"name": name});
        if !namespace.is_empty() {
            metadata["namespace"] = json!(namespace);
        }
        let kind = if namespace.is_empty() { "ClusterIdentityProvider" } else { "IdentityProvider" };
        let mut whole = json!({
            "mode": "Enforce", "insecureHTTP": true,
            "hydra": {
                "adminURL": bed.proxy.url(),
                "tokenHook": {"apiKeySecretRef": {"name": "hydra-hook", "key": "key"}},
                "consent": {"apiKeySecretRef": {"name": "hydra-hook", "key": "consent-key"}},
            },
        });
        clientgrant_testbed::bed::merge(&mut whole, &spec);
        json!({"apiVersion": "clientgrant.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": whole})
    };
    let issuer = bed.hydra.issuer().to_owned();
    // Instants of creation are whole seconds; within one the UIDs decide.
    pause(1100).await;
    let twin = provider("", "twin", json!({"issuer": issuer, "allow": [{"clients": ["*"]}]}));
    bed.put("clusteridentityproviders/twin", twin).await.unwrap();
    ready(&bed, "clusteridentityproviders/twin", "IssuerTaken").await;
    bed.client("app", json!({"scope": SCOPE})).await.unwrap();
    let spec = json!({"clientID": "app", "providerRef": {"name": "twin"}});
    bed.grant("finance", "through-the-twin", spec).await.unwrap();
    bed.reason("finance", "through-the-twin", "ProviderNotFound").await.unwrap();

    for (name, spec, reason) in [
        ("same-issuer", json!({"issuer": issuer, "hydra": {"adminURL": "http://127.0.0.1:1/team/x"}}), "IssuerTaken"),
        ("same-url", json!({"issuer": "https://a.example.com/"}), "URLNotAllowed"),
        (
            "elsewhere",
            json!({"issuer": "https://b.example.com/", "hydra": {"adminURL": "http://127.0.0.1:2/team/x"}}),
            "URLNotAllowed",
        ),
        (
            "link-local",
            json!({"issuer": "https://c.example.com/", "hydra": {"adminURL": "https://169.254.169.254/team"}}),
            "URLNotAllowed",
        ),
        (
            "climbing",
            json!({"issuer": "https://d.example.com/", "hydra": {"adminURL": "http://127.0.0.1:1/team/../x"}}),
            "URLNotAllowed",
        ),
        (
            "no-secret",
            json!({"issuer": "https://e.example.com/", "hydra": {"adminURL": "http://127.0.0.1:1/team/x"}}),
            "SecretNotFound",
        ),
    ] {
        let path = format!("namespaces/finance/identityproviders/{name}");
        bed.put(&path, provider("finance", name, spec)).await.unwrap();
        ready(&bed, &path, reason).await;
    }
    // A model in memory of a namespace's own: no connection, and it says that it enforces nothing.
    let memory = json!({
        "issuer": "memory://finance/model", "hydra": null, "insecureHTTP": null,
        "memory": {"clients": [{"clientID": "toy", "scopes": ["openid", "extra"], "grantTypes": ["authorization_code"]}]},
        "adoption": "Automatic",
    });
    bed.put("namespaces/finance/identityproviders/model", provider("finance", "model", memory)).await.unwrap();
    ready(&bed, "namespaces/finance/identityproviders/model", "Connected").await;
    let spec = json!({"clientID": "toy", "providerRef": {"kind": "IdentityProvider", "name": "model"}, "basis": "AdminConsent"});
    bed.grant("finance", "toy", spec).await.unwrap();
    let toy = bed.reason("finance", "toy", "Granted").await.unwrap();
    assert_eq!(condition(&toy, "Enforced")["reason"], "NothingEnforced");

    // A deleted provider stays until its grants are gone, so that somebody can end what they gave.
    bed.delete("namespaces/finance/identityproviders/model").await.unwrap();
    pause(3000).await;
    assert!(bed.get("namespaces/finance/identityproviders/model").await.unwrap().is_some());
    bed.delete("namespaces/finance/clientgrants/toy").await.unwrap();
    bed.gone("namespaces/finance/clientgrants/toy").await.unwrap();
    bed.gone("namespaces/finance/identityproviders/model").await.unwrap();
}
