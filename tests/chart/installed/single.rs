//! The profile for single namespaces: no object that belongs to no namespace, and no right beyond them.

use std::time::Instant;

use clientgrant_testbed::bed::{condition, grant};
use clientgrant_testbed::helm::chart;
use serde_json::{Value, json};

use super::{GROUP, Installed, LONG, path};
use crate::support::objects;

const HOME: &str = "team";

fn in_namespace(namespace: &str, mut object: Value) -> Value {
    object["metadata"]["namespace"] = json!(namespace);
    object
}

pub(super) async fn without_a_right_beyond_its_namespaces(all: &Installed, ours: &str) {
    for name in [HOME, "team-a", "team-b", "others"] {
        all.kubectl(&format!("create namespace {name}")).await;
    }
    all.kubectl("label namespace team-a tier=gold").await;
    let profile = path(chart().join("values-namespaced.yaml"));
    let line = format!("install team {ours} -n {HOME} --values {profile} --wait --timeout 30s");
    let values = ["--set-json", r#"watchNamespaces=["team-a","team-b"]"#, "--set", "operator.clusterID=team"];
    all.helm_does(&line, &[&values[..], &["--set", "sweep.enabled=true"]].concat()).await;
    let manifest = all.helm_does(&format!("get manifest team -n {HOME}"), &[]).await;
    for object in objects(&manifest) {
        assert!(object["metadata"]["namespace"].is_string(), "{} {}", object["kind"], object["metadata"]["name"]);
    }
    assert!(!manifest.contains("ClusterRole"), "{manifest}");

    // Rules of a provider know a namespace by its labels, which are read one by one here.
    let provider = |namespace: &str, tier: &str| {
        json!({
            "apiVersion": "clientgrant.dev/v1alpha1", "kind": "IdentityProvider",
            "metadata": {"name": "model", "namespace": namespace},
            "spec": {
                "issuer": format!("memory://{namespace}/model"), "mode": "Enforce", "adoption": "Automatic",
                "memory": {"clients": [{"clientID": "toy", "scopes": ["openid"], "grantTypes": ["authorization_code"]}]},
                "allow": [{"namespaces": {"matchLabels": {"tier": tier}}}],
            },
        })
    };
    let model = json!({"kind": "IdentityProvider", "name": "model"});
    let toy = json!({"clientID": "toy", "providerRef": model, "basis": "AdminConsent", "scopes": ["openid"]});
    for (namespace, tier) in [("team-a", "gold"), ("team-b", "silver"), ("others", "gold")] {
        all.apply(provider(namespace, tier)).await;
        all.apply(in_namespace(namespace, grant("finance", "toy", &toy))).await;
    }
    let ready = async |namespace: &str, reason: &str| {
        let path = format!("{GROUP}/namespaces/{namespace}/clientgrants/toy");
        all.wait(&path, reason, |o| super::is(o, reason)).await
    };
    ready("team-a", "Granted").await;
    ready("team-b", "NotAllowed").await;
    // A label that comes later counts, a little later than where namespaces are watched.
    all.kubectl("label namespace team-b tier=silver").await;
    let begun = Instant::now();
    ready("team-b", "Granted").await;
    assert!(begun.elapsed() < LONG);
    // Elsewhere nobody looks.
    let other = all.read(&format!("{GROUP}/namespaces/others/clientgrants/toy")).await.unwrap();
    assert!(condition(&other, "Ready").is_null(), "{:#}", other["status"]);
    // Nothing was asked that is not allowed.
    let audit = std::fs::read_to_string(all.plane.audit_log()).unwrap();
    let account = "\"username\":\"system:serviceaccount:team:team-clientgrant\"";
    let asked: Vec<&str> = audit.lines().filter(|line| line.contains(account)).collect();
    assert!(asked.len() > 10, "{}", asked.len());
    let refused: Vec<&&str> = asked.iter().filter(|line| line.contains("\"code\":403")).collect();
    assert!(refused.is_empty(), "{refused:?}");
    // Deleted grants go as they do elsewhere, and the sweep runs with no more than the operator.
    all.kubectl("create job swept --from=cronjob/team-clientgrant-sweep -n team").await;
    all.kubectl("wait --for=condition=Complete job/swept -n team --timeout=30s").await;
    for namespace in ["team-a", "team-b"] {
        all.kubectl(&format!("delete clientgrants.clientgrant.dev toy -n {namespace} --timeout=30s")).await;
    }
}
