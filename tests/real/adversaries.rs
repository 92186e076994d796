//! Adversaries: what each of them tries, and what comes of it.
//!
//! Each test first does what is honest and shows that it works: a refusal that cannot be anything else
//! proves nothing.

mod calls;
mod clients;
mod clusters;
mod providers;
mod servers;
mod status;
mod tenants;

use std::time::Duration;

use clientgrant_testbed::bed::{Bed, condition};
use clientgrant_testbed::canary::hook_key;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::pause;

const SCOPE: &str = "openid offline_access transactions:read";

/// An `IdentityProvider` of the namespace finance.
fn tenant_provider(name: &str, issuer: &str, admin_url: &str) -> Value {
    json!({
        "apiVersion": "clientgrant.dev/v1alpha1",
        "kind": "IdentityProvider",
        "metadata": {"name": name, "namespace": "finance"},
        "spec": {
            "issuer": issuer,
            "mode": "Enforce",
            "adoption": "Automatic",
            "insecureHTTP": true,
            "driftCheckInterval": "1s",
            "hydra": {
                "adminURL": admin_url,
                "tokenHook": {"apiKeySecretRef": {"name": "hydra-hook", "key": "key"}},
                "consent": {"apiKeySecretRef": {"name": "hydra-hook", "key": "key"}},
            },
        },
    })
}

/// The Secret of finance's own providers, and the operator's right to read it.
async fn let_finance_connect(bed: &Bed) {
    let rule = json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["hydra-hook"], "verbs": ["get"]});
    let account = json!({"kind": "ServiceAccount", "name": "clientgrant", "namespace": "clientgrant-system"});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "clientgrant"});
    let metadata = |name: &str| json!({"name": name, "namespace": "finance"});
    let rbac = "rbac.authorization.k8s.io/v1";
    for object in [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("hydra-hook"), "stringData": {"key": hook_key()}}),
        json!({"apiVersion": rbac, "kind": "Role", "metadata": metadata("clientgrant"), "rules": [rule]}),
        json!({
            "apiVersion": rbac, "kind": "RoleBinding", "metadata": metadata("clientgrant"),
            "roleRef": role, "subjects": [account],
        }),
    ] {
        bed.plane.apply_yaml(&object.to_string()).await.unwrap();
    }
}

fn provider_path(name: &str) -> String {
    format!("namespaces/finance/identityproviders/{name}")
}

fn path(name: &str) -> String {
    format!("namespaces/finance/clientgrants/{name}")
}

/// Waits until a provider's Ready condition has this reason, and returns its message.
async fn provider_says(bed: &Bed, name: &str, reason: &str) -> String {
    let ready = |o: &Value| condition(o, "Ready")["reason"] == reason;
    let object = bed.wait(&provider_path(name), reason, Duration::from_secs(20), ready).await.unwrap();
    condition(&object, "Ready")["message"].as_str().unwrap_or_default().to_owned()
}

/// The registration of a client, for a comparison.
async fn registration(bed: &Bed, client: &str) -> Value {
    bed.hydra.admin().get_client(client).await.unwrap()
}

/// Merge-patches a grant's status, as somebody may who has that right by mistake.
async fn forge(bed: &Bed, name: &str, status: &Value) -> Value {
    let url = format!("apis/clientgrant.dev/v1alpha1/{}/status?fieldManager=clientgrant", path(name));
    let body = (json!({"status": status}), "application/merge-patch+json");
    let (code, answer) = bed.raw(Method::PATCH, &url, Some(body)).await.unwrap();
    assert_eq!(code, 200, "{answer}");
    answer
}

/// No write reached Hydra since the proxy was cleared, and none does in a moment.
async fn nothing_written(bed: &Bed, what: &str) {
    pause(2500).await;
    assert!(bed.written().is_empty(), "{what}: {}", bed.proxy.summary());
}

/// The operator lives, has not panicked, and is ready.
async fn unharmed(bed: &Bed) {
    assert!(bed.operator.process().is_alive());
    bed.operator.ready(Duration::from_secs(1)).await.unwrap();
    let log = bed.operator.log();
    assert!(!log.contains("panicked"), "{log}");
}
