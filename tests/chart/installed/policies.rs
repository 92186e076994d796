//! Rules of admission: what each of them lets pass and what it refuses, the operator's own account included.

use std::time::{Duration, Instant};

use clientgrant::controller::provider::FINALIZER as GRANTS;
use clientgrant::grant::parse::FINALIZER;
use clientgrant_testbed::bed::grant;
use clientgrant_testbed::{KubectlOutput, bed};
use serde_json::{Value, json};

use super::{Installed, OPERATOR};

const GRANT: &str = "clientgrants.clientgrant.dev/reporting -n finance";

fn passes(output: &KubectlOutput) {
    assert!(output.success, "{}", output.stderr);
}

fn refused(output: &KubectlOutput, policy: &str, why: &str) {
    let by = format!("ValidatingAdmissionPolicy 'clientgrant-{policy}'");
    assert!(!output.success && output.stderr.contains(&by) && output.stderr.contains(why), "{policy}: {output:?}");
}

/// A policy holds a moment after it was stored.
async fn once(policy: &str, mut look: impl AsyncFnMut() -> KubectlOutput) {
    let end = Instant::now() + Duration::from_secs(20);
    while !look().await.stderr.contains(policy) {
        assert!(Instant::now() < end, "{policy} does not hold");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub(super) async fn who_writes_what(all: &Installed, chart: &str) {
    let values = ["--reuse-values", "--set", "policies.maxLifetime=90d", "--set", "policies.guardFinalizer=true"];
    // It runs when it is told to: another pod at a quarter past would be waited for.
    let sweep = ["--set", "sweep.enabled=true", "--set-string", "sweep.schedule=0 0 1 1 *"];
    all.release("upgrade", chart, &[&values[..], &sweep].concat()).await;
    all.kubectl("create rolebinding ann --clusterrole=clientgrant-requester --user=ann -n finance").await;
    confined(all).await;
    lifetime(all).await;
    guarded(all).await;
    let off = ["--reuse-values", "--set", "policies.maxLifetime=", "--set", "policies.guardFinalizer=false"];
    all.release("upgrade", chart, &off).await;
}

/// The operator's account: status and its own finalizer, and nothing else, even where it may more.
async fn confined(all: &Installed) {
    const POLICY: &str = "confine-operator";
    let operator = async |more: &str, patch: Value| all.tries(OPERATOR, GRANT, more, patch).await;
    refused(&operator("", json!({"spec": {"suspend": true}})).await, POLICY, "never changes a spec");
    for metadata in [json!({"labels": {"a": "b"}}), json!({"annotations": {"a": "b"}})] {
        refused(
            &operator("", json!({"metadata": metadata})).await,
            POLICY,
            "never changes labels, annotations or owners",
        );
    }
    let others = json!({"metadata": {"finalizers": [FINALIZER, "example.com/other"]}});
    refused(&operator("", others).await, POLICY, "leaves finalizers of others alone");
    passes(&operator("", json!({"metadata": {"finalizers": []}})).await);
    passes(&operator("", json!({"metadata": {"finalizers": [FINALIZER]}})).await);
    let status = json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientGrant",
        "metadata": {"name": "reporting", "namespace": "finance"}, "status": {"observedGeneration": 7},
    });
    let as_operator = format!("--as={OPERATOR}");
    let apply = ["apply", "--server-side", "--force-conflicts", "--subresource=status", "--dry-run=server", "-f", "-"];
    let apply = [&apply[..], &[as_operator.as_str()]].concat();
    passes(&all.plane.kubectl_with_input(&apply, &status.to_string()).await.unwrap());
    let corp = "clusteridentityproviders.clientgrant.dev/corp";
    let mode = json!({"spec": {"mode": "Observe"}});
    refused(&all.tries(OPERATOR, corp, "", mode.clone()).await, POLICY, "never changes a spec");
    for finalizers in [json!([]), json!([GRANTS])] {
        passes(&all.tries(OPERATOR, corp, "", json!({"metadata": {"finalizers": finalizers}})).await);
    }

    // Whoever gave it more by mistake has not given it this.
    all.kubectl(&format!("create clusterrolebinding mistake --clusterrole=cluster-admin --user={OPERATOR}")).await;
    let create = async |object: Value| {
        let args = ["create", "--dry-run=server", as_operator.as_str(), "-f", "-"];
        all.plane.kubectl_with_input(&args, &object.to_string()).await.unwrap()
    };
    let nothing = "creates and deletes nothing that people declare";
    refused(&create(grant("finance", "made", &json!({"expiresAt": ahead(30)}))).await, POLICY, nothing);
    let brake = json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientQuarantine", "metadata": {"name": "made"},
        "spec": {"issuer": all.hydra.issuer(), "clientID": "batch", "reason": "None"},
    });
    refused(&create(brake).await, POLICY, nothing);
    let delete = format!("delete {GRANT} --dry-run=server --wait=false {as_operator}");
    let delete: Vec<&str> = delete.split_whitespace().collect();
    refused(&all.plane.kubectl_with_input(&delete, "").await.unwrap(), POLICY, nothing);
    all.kubectl("delete clusterrolebinding mistake").await;

    // A duty of its own it makes, and does not rewrite.
    let mut duty = duty(all, "11111111-1111-4111-8111-111111111111", "nobody", json!({"kind": "Any"}));
    // There is nothing to revoke, and it would go at once.
    duty["metadata"]["finalizers"] = json!(["example.com/keep"]);
    passes(&create(duty.clone()).await);
    all.apply(duty).await;
    let path = "pendingrevocations.clientgrant.dev/11111111-1111-4111-8111-111111111111 -n clientgrant-system";
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    refused(&all.tries(OPERATOR, path, "", label.clone()).await, POLICY, "never changes labels");
    all.kubectl(&format!("delete {path} --wait=false")).await;
    all.kubectl(&format!("patch {path} --type=json -p [{{\"op\":\"remove\",\"path\":\"/metadata/finalizers/0\"}}]"))
        .await;

    // Others are not meant.
    passes(&all.tries("ann", GRANT, "", label).await);
    passes(&all.tries("ann", GRANT, "", json!({"spec": {"suspend": true}})).await);
    passes(&all.tries("system:admin", corp, "--as-group=system:masters", mode).await);
}

/// A PendingRevocation as the operator writes it.
pub(super) fn duty(all: &Installed, uid: &str, client: &str, subject: Value) -> Value {
    let provider = json!({"kind": "ClusterIdentityProvider", "name": "corp"});
    let origin = json!({"namespace": "finance", "name": "gone", "uid": uid, "providerRef": provider});
    json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "PendingRevocation",
        "metadata": {"name": uid, "namespace": super::NAMESPACE},
        "spec": {
            "issuer": all.hydra.issuer(), "clientID": client, "subject": subject, "scopes": ["openid"],
            "cause": "Deleted", "since": "2026-01-01T00:00:00Z", "origin": origin,
        },
    })
}

/// An instant so many days ahead.
fn ahead(days: u64) -> String {
    clientgrant::api::instant::format(clientgrant::clock::now() + Duration::from_secs(days * 86_400))
}

async fn lifetime(all: &Installed) {
    let create = async |who: &str, days: u64| {
        let object = grant("finance", "limited", &json!({"subject": {"id": "eve"}, "expiresAt": ahead(days)}));
        let who = format!("--as={who}");
        let args = ["create", "--dry-run=server", who.as_str(), "-f", "-"];
        all.plane.kubectl_with_input(&args, &object.to_string()).await.unwrap()
    };
    let most = "A grant lasts 90d at most";
    once("clientgrant-lifetime", async || create("ann", 91).await).await;
    refused(&create("ann", 91).await, "lifetime", most);
    passes(&create("ann", 90).await);
    // Whatever is claimed about when it was made.
    let mut early = grant("finance", "limited", &json!({"expiresAt": ahead(200)}));
    early["metadata"]["creationTimestamp"] = json!(ahead(199));
    let args = ["create", "--dry-run=server", "--as=ann", "-f", "-"];
    refused(&all.plane.kubectl_with_input(&args, &early.to_string()).await.unwrap(), "lifetime", most);

    // Renewal: of a grant from before the policy nothing is asked but that it is not renewed beyond.
    all.apply(grant("finance", "limited", &json!({"subject": {"id": "eve"}, "expiresAt": ahead(30)}))).await;
    let limited = "clientgrants.clientgrant.dev/limited -n finance";
    let until = |days: u64| json!({"spec": {"expiresAt": ahead(days)}});
    once("clientgrant-renewal", async || all.tries("ann", limited, "", until(91)).await).await;
    refused(&all.tries("ann", limited, "", until(91)).await, "renewal", "lasts 90d from now at most");
    passes(&all.tries("ann", limited, "", until(90)).await);
    passes(&all.tries("ann", limited, "", until(1)).await);
    passes(&all.tries("ann", GRANT, "", json!({"metadata": {"labels": {"old": "and-long"}}})).await);
    passes(&all.tries("ann", GRANT, "", until(400)).await);
    passes(&all.tries(OPERATOR, GRANT, "", json!({"metadata": {"finalizers": [FINALIZER]}})).await);
    // The operator renews nothing, and a policy of its own says so.
    assert!(!all.tries(OPERATOR, limited, "", until(80)).await.success);
    all.kubectl(&format!("delete {limited}")).await;
}

async fn guarded(all: &Installed) {
    let off = json!({"metadata": {"finalizers": []}});
    once("clientgrant-guard-finalizer", async || all.tries("ann", GRANT, "", off.clone()).await).await;
    let only = "Only the operator takes its finalizer off";
    for who in ["ann", "system:admin"] {
        let group = if who == "ann" { "" } else { "--as-group=system:masters" };
        refused(&all.tries(who, GRANT, group, off.clone()).await, "guard-finalizer", only);
    }
    let corp = "clusteridentityproviders.clientgrant.dev/corp";
    let admin = all.tries("system:admin", corp, "--as-group=system:masters", off.clone()).await;
    refused(&admin, "guard-finalizer", only);
    passes(&all.tries(OPERATOR, GRANT, "", off.clone()).await);
    passes(&all.tries("ann", GRANT, "", json!({"spec": {"suspend": true}})).await);
    let mut other = grant("finance", "reporting", &json!({"suspend": true}));
    let replace = ["replace", "--dry-run=server", "--as=ann", "-f", "-"];
    refused(&all.plane.kubectl_with_input(&replace, &other.to_string()).await.unwrap(), "guard-finalizer", only);
    bed::merge(&mut other, &json!({"metadata": {"finalizers": [FINALIZER]}}));
    passes(&all.plane.kubectl_with_input(&replace, &other.to_string()).await.unwrap());
}
