//! A tenant that asks for what the provider's rules do not give to it.

use clientgrant_testbed::bed::{Bed, condition};
use reqwest::Method;
use serde_json::{Value, json};

use super::{nothing_written, path, registration};
use crate::support::{Real, active, ahead, bed_with, chain, pause};

async fn label(bed: &Bed, namespace: &str, labels: Value) {
    let body = (json!({"metadata": {"labels": labels}}), "application/merge-patch+json");
    let (code, answer) = bed.raw(Method::PATCH, &format!("api/v1/namespaces/{namespace}"), Some(body)).await.unwrap();
    assert_eq!(code, 200, "{answer}");
}

/// Applies a grant of the namespace finance, or of `spec.namespace`, under a name of its own.
async fn apply(bed: &Bed, name: &str, mut spec: Value) -> String {
    let namespace = spec["namespace"].as_str().unwrap_or("finance").to_owned();
    spec["namespace"] = Value::Null;
    if spec["basis"] == "ClientOwn" {
        spec["subject"] = Value::Null;
    } else if spec["subject"].is_null() {
        // Keys of their own: nothing here is a conflict.
        spec["subject"] = json!({"id": name});
    }
    bed.grant(&namespace, name, spec).await.unwrap();
    namespace
}

const DAYS: i64 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_who_misses_each_rule_by_a_hair() {
    let bed = bed_with(|options| {
        options.provider["allow"] = json!([
            {
                "namespaces": {"matchLabels": {"tier": "prod"}},
                "clients": ["finance-*", "ledger"],
                "scopes": ["openid", "transactions:*"],
                "audiences": ["https://ledger.example.com", "https://api.example.com/*"],
                "bases": ["SubjectConsent"],
                "subjectKinds": ["User"],
                "maxLifetime": "90d",
            },
            // What another rule gives to another client adds nothing to the first.
            {"clients": ["other"], "scopes": ["openid", "admin"]},
        ]);
    })
    .await;
    label(&bed, "finance", json!({"tier": "prod", "cost": "it"})).await;
    label(&bed, "it", json!({"tier": "Prod", "tiers": "prod"})).await;
    let clients =
        ["finance-", "finance-app", "finance", "Finance-app", "xfinance-app", "ledger", "ledge", "ledger2", "Ledger"];
    for client in clients {
        bed.client(client, json!({"scope": "openid"})).await.unwrap();
    }
    let base = || {
        json!({
            "clientID": "finance-app", "scopes": ["openid", "transactions:read"],
            "audiences": ["https://ledger.example.com"], "expiresAt": ahead(90 * DAYS - 60),
        })
    };
    let changed = |change: Value| {
        let mut spec = base();
        clientgrant_testbed::bed::merge(&mut spec, &change);
        spec
    };

    // What the rule names, to the last character, is given.
    for (n, change) in [
        json!({}),
        json!({"clientID": "finance-"}),
        json!({"clientID": "ledger"}),
        json!({"scopes": ["transactions:"]}),
        json!({"audiences": ["https://api.example.com/"]}),
        json!({"audiences": null}),
    ]
    .into_iter()
    .enumerate()
    {
        apply(&bed, &format!("control-{n}"), changed(change)).await;
        bed.reason("finance", &format!("control-{n}"), "AwaitingConsent").await.unwrap();
    }
    pause(3000).await;
    let mut before = Vec::new();
    for client in clients {
        before.push(registration(&bed, client).await);
    }
    bed.proxy.clear();

    let own = json!({"basis": "ClientOwn", "scopes": ["transactions:read"]});
    let misses = [
        ("namespace", json!({"namespace": "it"})),
        ("client", json!({"clientID": "finance"})),
        ("client", json!({"clientID": "Finance-app"})),
        ("client", json!({"clientID": "xfinance-app"})),
        ("client", json!({"clientID": "ledge"})),
        ("client", json!({"clientID": "ledger2"})),
        ("client", json!({"clientID": "Ledger"})),
        ("scope", json!({"scopes": ["openid", "transactions"]})),
        ("scope", json!({"scopes": ["openid", "Transactions:read"]})),
        ("scope", json!({"scopes": ["OpenID"]})),
        ("scope", json!({"scopes": ["openid2"]})),
        ("scope", json!({"scopes": ["openid", "admin"]})),
        ("audience", json!({"audiences": ["https://ledger.example.com/"]})),
        ("audience", json!({"audiences": ["https://ledger.example.co"]})),
        ("audience", json!({"audiences": ["https://LEDGER.example.com"]})),
        ("audience", json!({"audiences": ["https://api.example.com"]})),
        ("audience", json!({"audiences": ["https://ledger.example.com", "https://payroll.example.com"]})),
        ("basis", json!({"basis": "AdminConsent"})),
        ("basis", own),
        ("subject", json!({"subject": {"kind": "Any"}})),
        ("maxLifetime", json!({"expiresAt": ahead(90 * DAYS + 60)})),
        ("maxLifetime", json!({"expiresAt": "2199-12-31T23:59:59Z"})),
    ];
    for (n, (word, change)) in misses.iter().enumerate() {
        let mut spec = changed(change.clone());
        if *word == "subject" {
            spec["subject"] = json!({"kind": "Any", "id": null});
        }
        let name = format!("miss-{n}");
        let namespace = apply(&bed, &name, spec).await;
        let grant = bed.reason(&namespace, &name, "NotAllowed").await.unwrap();
        let message = condition(&grant, "Ready")["message"].as_str().unwrap();
        assert!(message.contains(word), "{change}: {message}");
        assert!(grant["metadata"]["finalizers"].is_null() && grant["status"]["effective"].is_null(), "{change}");
    }
    nothing_written(&bed, "near-misses").await;
    for (client, before) in clients.iter().zip(before) {
        assert_eq!(registration(&bed, client).await, before);
    }
    println!("{} near-misses: nothing written", misses.len());

    // A label that a namespace gets later counts from then on, and one that it loses as well.
    label(&bed, "it", json!({"tier": "prod"})).await;
    bed.reason("it", "miss-0", "AwaitingConsent").await.unwrap();
    label(&bed, "it", json!({"tier": null})).await;
    bed.reason("it", "miss-0", "NotAllowed").await.unwrap();
}

/// Two clients of finance's in force, with a token each, and a namespace that may touch neither.
async fn victims() -> (Real, [String; 2]) {
    let bed = bed_with(|options| {
        let finance = json!({"matchLabels": {"kubernetes.io/metadata.name": "finance"}});
        let it = json!({"matchLabels": {"kubernetes.io/metadata.name": "it"}});
        options.provider["allow"] = json!([{"namespaces": finance}, {"namespaces": it, "clients": ["it-*"]}]);
    })
    .await;
    let users = bed.client("finance-reporting", json!({"scope": super::SCOPE})).await.unwrap();
    let batch =
        bed.client("batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    bed.grant("finance", "anybody", json!({"subject": {"kind": "Any", "id": null}})).await.unwrap();
    bed.grant("finance", "batch", own("batch")).await.unwrap();
    for name in ["anybody", "batch"] {
        bed.reason("finance", name, "Granted").await.unwrap();
    }
    pause(2500).await;
    let tokens = chain(&bed, &users, "ann", super::SCOPE).await;
    let token = batch.client_credentials("ledger:read", "").await.unwrap();
    let token = token.access_token().expect("positive control").to_owned();
    (bed, [tokens.access, token])
}

fn own(client: &str) -> Value {
    json!({"clientID": client, "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]})
}

/// Creates a grant whose metadata are the tenant's own, too.
async fn create(bed: &Bed, namespace: &str, name: &str, spec: &Value, metadata: &Value) {
    let mut object = clientgrant_testbed::bed::grant(namespace, name, spec);
    clientgrant_testbed::bed::merge(&mut object["metadata"], metadata);
    object["status"] = json!({
        "observedGeneration": 1,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Granted", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-11-24T09:00:00Z",
        }],
        "effective": {"scopes": ["openid"], "expiresAt": "2199-01-01T00:00:00Z"},
        "revocation": {"cause": "Suspended", "requestedAt": "2026-11-24T09:00:00Z"},
    });
    let url = format!("apis/clientgrant.dev/v1alpha1/namespaces/{namespace}/clientgrants?fieldManager=clientgrant");
    let (code, answer) = bed.raw(Method::POST, &url, Some((object, "application/json"))).await.unwrap();
    assert_eq!(code, 201, "{answer}");
}

/// The operator's finalizer says that there may be something to revoke; a tenant can write it, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_who_sets_the_operators_finalizer_on_a_grant_for_somebody_elses_client() {
    let (bed, tokens) = victims().await;
    for token in &tokens {
        assert!(active(&bed, token).await, "positive control");
    }
    bed.proxy.clear();
    let held = json!({"finalizers": ["clientgrant.dev/revoke"]});
    let past = "2026-01-01T00:00:00Z";
    let with = |mut spec: Value, field: &str, value: Value| {
        spec[field] = value;
        spec
    };
    for (name, spec) in [
        ("own", own("batch")),
        ("own-expired", with(own("batch"), "expiresAt", json!(past))),
        ("own-suspended", with(own("batch"), "suspend", json!(true))),
        ("ann", json!({})),
        ("ann-expired", json!({"expiresAt": past})),
        ("ann-suspended", json!({"suspend": true})),
        ("any", json!({"subject": {"kind": "Any", "id": null}})),
        ("any-expired", json!({"subject": {"kind": "Any", "id": null}, "expiresAt": past})),
    ] {
        create(&bed, "it", name, &spec, &held).await;
        let expired = name.ends_with("expired");
        bed.reason("it", name, if expired { "Expired" } else { "NotAllowed" }).await.unwrap();
        // Suspended and resumed, and deleted: each is an end.
        bed.patch(&format!("namespaces/it/clientgrants/{name}"), json!({"spec": {"suspend": true}})).await.unwrap();
        bed.delete(&format!("namespaces/it/clientgrants/{name}")).await.unwrap();
        bed.gone(&format!("namespaces/it/clientgrants/{name}")).await.unwrap();
        assert!(bed.written().is_empty(), "{name}: {}", bed.proxy.summary());
    }
    nothing_written(&bed, "somebody else's client").await;
    for token in &tokens {
        assert!(active(&bed, token).await, "somebody else's token");
    }

    // Positive control: the one who may ends it.
    bed.delete(&path("batch")).await.unwrap();
    bed.gone(&path("batch")).await.unwrap();
    assert!(!active(&bed, &tokens[1]).await && active(&bed, &tokens[0]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_who_writes_conditions_finalizers_and_managed_fields_at_creation() {
    let (bed, _) = victims().await;
    let client = bed.client("it-app", json!({"scope": super::SCOPE})).await.unwrap();
    let metadata = json!({
        "finalizers": ["clientgrant.dev/revoke", "example.com/mine"],
        "managedFields": [{
            "manager": "clientgrant", "operation": "Apply", "apiVersion": "clientgrant.dev/v1alpha1",
            "time": "2026-11-24T09:00:00Z", "fieldsType": "FieldsV1", "subresource": "status",
            "fieldsV1": {"f:status": {"f:effective": {}, "f:conditions": {}}},
        }],
    });
    create(&bed, "it", "app", &json!({"clientID": "it-app"}), &metadata).await;
    let grant = bed.reason("it", "app", "AwaitingConsent").await.unwrap();
    assert!(grant["status"]["effective"].is_null() && grant["status"]["revocation"].is_null(), "{grant:#}");
    assert_eq!(grant["metadata"]["finalizers"], metadata["finalizers"]);
    let tokens = chain(&bed, &client, "ann", super::SCOPE).await;
    bed.reason("it", "app", "Granted").await.unwrap();
    assert!(active(&bed, &tokens.access).await, "positive control");

    // The foreign finalizer keeps the object, not the authority.
    bed.delete("namespaces/it/clientgrants/app").await.unwrap();
    let ours_is_off = |o: &Value| o["metadata"]["finalizers"] == json!(["example.com/mine"]);
    let within = std::time::Duration::from_secs(10);
    bed.wait("namespaces/it/clientgrants/app", "released", within, ours_is_off).await.unwrap();
    assert!(!active(&bed, &tokens.access).await);
    assert!(client.refresh(&tokens.refresh).await.unwrap().access_token().is_none());
    bed.patch("namespaces/it/clientgrants/app", json!({"metadata": {"finalizers": null}})).await.unwrap();
    bed.gone("namespaces/it/clientgrants/app").await.unwrap();
}
