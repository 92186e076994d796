//! Custom resources that name a client's Secret without pods, in a running cluster: no credential is called exclusive
//! while they may not be listed; each that names it is found, and the finding goes with it, or when it is listed.

use std::time::Duration;

use clientgrant::sharing::facts::{KINDS, Kind};
use clientgrant_testbed::bed::condition;
use reqwest::Method;
use serde_json::{Value, json};

use crate::scan::scan;
use crate::sharing::{apply, exclusive, identity, two_clients};
use crate::support::{Real, bed_with, pause};

const HELPDESK: &str = "namespaces/it/clientidentities/helpdesk";
const GRANT: &str = "namespaces/it/clientgrants/helpdesk";

/// A definition that takes any field.
fn definition(kind: &Kind) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{}", kind.plural, kind.group)},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {"kind": kind.kind, "plural": kind.plural},
            "versions": [{"name": kind.version, "served": true, "storage": true, "schema": schema}],
        },
    })
}

/// One that names the helpdesk's Secret.
fn gate(kind: &Kind) -> Value {
    let key = json!({"secretKeyRef": {"name": "helpdesk-oidc", "key": "client-secret"}});
    let mut object = match kind.kind {
        "SecurityPolicy" => json!({"spec": {"oidc": {"clientSecret": {"name": "helpdesk-oidc"}}}}),
        "Policy" => json!({"spec": {"oidc": {"clientSecret": "helpdesk-oidc"}}}),
        "KongPlugin" => json!({"plugin": "oidc", "configPatches": [{"path": "/client_secret", "valueFrom": key}]}),
        "GrafanaDatasource" => json!({"spec": {"valuesFrom": [{"targetPath": "x", "valueFrom": key}]}}),
        other => panic!("{other} has no example"),
    };
    object["apiVersion"] = kind.resource().api_version.into();
    object["kind"] = kind.kind.into();
    object["metadata"] = json!({"name": "gate", "namespace": "it"});
    object
}

fn found(identity: &Value) -> Vec<String> {
    let one = |f: &Value| format!("{} {}", f["rule"].as_str().unwrap(), f["subject"].as_str().unwrap_or("-"));
    identity["status"]["findings"].as_array().into_iter().flatten().map(one).collect()
}

/// Gives the operator the right to list these, beside what it has.
async fn may_list(bed: &Real, kinds: &[&Kind]) {
    let role = "apis/rbac.authorization.k8s.io/v1/clusterroles/clientgrant";
    let (_, whole) = bed.raw(Method::GET, role, None).await.unwrap();
    let mut rules: Vec<Value> = whole["rules"].as_array().unwrap().clone();
    let rule =
        |kind: &&Kind| json!({"apiGroups": [kind.group], "resources": [kind.plural], "verbs": ["list", "watch"]});
    rules.extend(kinds.iter().map(rule));
    let patch = Some((json!({"rules": rules}), "application/merge-patch+json"));
    assert_eq!(bed.raw(Method::PATCH, role, patch).await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_a_secret_without_pods_is_a_holder() {
    let bed = bed_with(|_| {}).await;
    let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| !kind.has_pods()).collect();
    for kind in &kinds {
        apply(&bed, &definition(kind)).await;
        let path = format!("apis/{}/{}", kind.resource().api_version, kind.plural);
        while bed.raw(Method::GET, &path, None).await.unwrap().0 != 200 {
            pause(100).await;
        }
    }
    two_clients(&bed).await;
    apply(&bed, &identity("it", "helpdesk", "helpdesk", "helpdesk-oidc")).await;
    apply(&bed, &identity("it", "workflow-bot", "workflow", "workflow-oidc")).await;
    // The cluster has them, and the operator may not list them.
    let object = exclusive(&bed, HELPDESK, "NotEvaluated").await;
    let said = condition(&object, "CredentialExclusive")["message"].as_str().unwrap().to_owned();
    for kind in &kinds {
        assert!(said.contains(&format!("{}.{}", kind.plural, kind.group)), "{said}");
    }
    may_list(&bed, &kinds).await;
    // A list that was refused is asked for again after ten seconds.
    let alone = |o: &Value| condition(o, "CredentialExclusive")["reason"] == "Exclusive";
    bed.wait(HELPDESK, "exclusive", Duration::from_secs(60), alone).await.unwrap();

    let scanner = bed.plane.kubeconfig_for("scanner", &["system:masters"]).unwrap();
    for kind in &kinds {
        apply(&bed, &gate(kind)).await;
        let object = exclusive(&bed, HELPDESK, "SharedCredential").await;
        assert_eq!(found(&object), [format!("SC-301 {}/gate", kind.kind)]);
        exclusive(&bed, GRANT, "SharedCredential").await;
        // Who scans the cluster sees the same.
        let (_, json, said) = scan(&scanner, &["-n", "it"]);
        let all = json["findings"].as_array().unwrap().iter().filter(|f| f["rule"] != "SC-901");
        let all: Vec<String> = all.map(|f| format!("{} {}", f["rule"], f["subject"]["kind"])).collect();
        assert_eq!(all, [format!(r#""SC-301" "{}""#, kind.kind)], "{said}");

        let path = format!("apis/{}/namespaces/it/{}/gate", kind.resource().api_version, kind.plural);
        assert_eq!(bed.raw(Method::DELETE, &path, None).await.unwrap().0, 200);
        let object = exclusive(&bed, HELPDESK, "Exclusive").await;
        assert_eq!(found(&object), [""; 0]);
    }

    // Whoever approves it lists it: the schema takes it, and it is none of the finding any more.
    let kind = kinds[0];
    apply(&bed, &gate(kind)).await;
    exclusive(&bed, HELPDESK, "SharedCredential").await;
    let mut listed = identity("it", "helpdesk", "helpdesk", "helpdesk-oidc");
    let more = json!({"apiVersion": kind.resource().api_version, "kind": kind.kind, "name": "gate"});
    listed["spec"]["workloads"].as_array_mut().unwrap().push(more);
    apply(&bed, &listed).await;
    let object = exclusive(&bed, HELPDESK, "Exclusive").await;
    assert_eq!(found(&object), [""; 0]);
}
