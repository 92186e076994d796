//! The rights of the chart, held against what the API server was really asked: none is missing, none is idle,
//! and no Secret was read but those that are named.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clientgrant_testbed::Action;
use clientgrant_testbed::bed::{condition, grant};
use reqwest::Method;
use serde_json::{Value, json};

use super::{GROUP, Installed, LONG, NAMESPACE, OPERATOR, is, policies};
use crate::support::objects;

const SWEEPER: &str = "system:serviceaccount:clientgrant-system:clientgrant-sweep";

pub(super) async fn exactly_what_is_used(all: &Installed) {
    // A policy that was taken away holds a moment longer.
    let end = Instant::now() + LONG;
    while all.plane.apply_yaml(&grant("finance", "long", &json!({"subject": {"id": "fay"}})).to_string()).await.is_err()
    {
        assert!(Instant::now() < end, "lifetimes are still limited");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    rare_paths(all).await;
    sweep(all).await;
    let manifest = all.helm_does(&format!("get manifest clientgrant -n {NAMESPACE}"), &[]).await;
    let manifest = objects(&manifest);
    let end = Instant::now() + Duration::from_secs(20);
    for (account, suffix) in [(OPERATOR, ""), (SWEEPER, "-sweep")] {
        let granted = granted(&manifest, &format!("clientgrant{suffix}"));
        assert!(granted.len() > 10, "{granted:?}");
        // The server writes its log a moment later.
        loop {
            let asked = asked(all, account);
            let used: BTreeSet<String> = asked.iter().map(|one| one.right.clone()).collect();
            let idle: Vec<&String> = granted.difference(&used).collect();
            if !idle.is_empty() && Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
            println!("{account}: {} calls, {} rights, idle: {idle:?}", asked.len(), granted.len());
            assert!(idle.is_empty(), "{account} has rights that nothing uses: {idle:?}");
            let refused: Vec<&Asked> = asked.iter().filter(|one| one.code == 403 || one.code == 422).collect();
            assert!(refused.is_empty(), "{account} was refused: {refused:?}");
            let secrets: BTreeSet<&str> =
                asked.iter().filter(|one| one.right.contains("/secrets/")).map(|one| one.whole.as_str()).collect();
            assert_eq!(secrets, BTreeSet::from(["get clientgrant-system/hydra-hook"]), "{account}");
            break;
        }
    }
}

/// One request of an account.
#[derive(Debug)]
struct Asked {
    /// As [`granted`] writes it.
    right: String,
    /// `verb namespace/name`.
    whole: String,
    code: u64,
}

fn asked(all: &Installed, account: &str) -> Vec<Asked> {
    let text = std::fs::read_to_string(all.plane.audit_log()).unwrap();
    let mut asked = Vec::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n') && line.contains(account)) {
        let event: Value = serde_json::from_str(line).unwrap();
        // Somebody who acts as the account is not the account.
        if event["user"]["username"] != account || !event["impersonatedUser"].is_null() {
            continue;
        }
        let part = |name: &str| event["objectRef"][name].as_str().unwrap_or_default();
        let verb = event["verb"].as_str().unwrap_or_default();
        asked.push(Asked {
            right: right(part("apiGroup"), part("resource"), part("subresource"), verb),
            whole: format!("{verb} {}/{}", part("namespace"), part("name")),
            code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        });
    }
    asked
}

/// `group/resource/subresource verb`.
fn right(group: &str, resource: &str, subresource: &str, verb: &str) -> String {
    format!("{group}/{resource}/{subresource} {verb}")
}

/// Every right that the roles of this name give.
fn granted(manifest: &[Value], name: &str) -> BTreeSet<String> {
    let list =
        |value: &Value| value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let mut rights = BTreeSet::new();
    let roles = manifest.iter().filter(|o| o["kind"] == "ClusterRole" || o["kind"] == "Role");
    for rule in roles.filter(|o| o["metadata"]["name"] == name).flat_map(|role| role["rules"].as_array().unwrap()) {
        for group in list(&rule["apiGroups"]) {
            for resource in list(&rule["resources"]) {
                let (resource, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
                rights.extend(list(&rule["verbs"]).iter().map(|verb| right(&group, resource, subresource, verb)));
            }
        }
    }
    rights
}

/// What does not happen in the course of things, and what a right is for all the same.
async fn rare_paths(all: &Installed) {
    // Somebody scribbles into a status: it is read and replaced.
    let reporting = format!("{GROUP}/namespaces/finance/clientgrants/reporting");
    let forged = json!({"status": {"summary": {"subject": "User/eve"}}});
    let patch = Some((forged, "application/merge-patch+json"));
    assert_eq!(all.plane.call(Method::PATCH, &format!("{reporting}/status"), patch).await.unwrap().0, 200);
    all.wait(&reporting, "corrected", |o| o["status"]["summary"]["subject"] == "User/ann").await;

    // The same Event twice becomes one that counts.
    let suspend = async |on: bool| {
        all.kubectl(&format!(
            "patch clientgrants.clientgrant.dev batch -n finance --type=merge -p {{\"spec\":{{\"suspend\":{on}}}}}"
        ))
        .await;
        all.reason("batch", if on { "Suspended" } else { "Granted" }).await;
    };
    for on in [true, false, true, false] {
        suspend(on).await;
    }

    // Who a client is, so that it is looked at who else can act as it.
    all.apply(identity("batch", "batch")).await;
    let batch = format!("{GROUP}/namespaces/finance/clientgrants/batch");
    all.wait(&batch, "looked at", |o| condition(o, "CredentialExclusive")["status"] == "True").await;

    reports(all).await;

    // A provider of a namespace, held as long as a grant names it.
    let model = json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "IdentityProvider",
        "metadata": {"name": "model", "namespace": "finance"},
        "spec": {
            "issuer": "memory://finance/model", "mode": "Enforce", "adoption": "Automatic",
            "memory": {"clients": [{"clientID": "toy", "scopes": ["openid", "extra"], "grantTypes": ["authorization_code"]}]},
        },
    });
    all.apply(model).await;
    let provider = json!({"kind": "IdentityProvider", "name": "model"});
    let toy = json!({"clientID": "toy", "providerRef": provider, "basis": "AdminConsent", "scopes": ["openid"]});
    all.apply(grant("finance", "toy", &toy)).await;
    all.reason("toy", "Granted").await;
    all.kubectl("delete clientgrants.clientgrant.dev toy -n finance").await;
    all.kubectl("delete identityproviders.clientgrant.dev model -n finance").await;

    duties(all).await;
}

/// What says that a client's credential is the Secret `batch-oidc`.
fn identity(name: &str, client: &str) -> Value {
    json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientIdentity",
        "metadata": {"name": name, "namespace": "finance"},
        "spec": {
            "providerRef": {"kind": "ClusterIdentityProvider", "name": "corp"}, "clientID": client,
            "credentials": [{"secret": {"name": "batch-oidc", "key": "client-secret"}}],
        },
    })
}

/// Reports of either kind: made, changed and taken away.
async fn reports(all: &Installed) {
    let lists = |group: &str, kinds: [&str; 2]| kinds.map(|kind| format!("apis/{group}/{kind}"));
    let older = lists("wgpolicyk8s.io/v1alpha2", ["policyreports", "clusterpolicyreports"]);
    let newer = lists("openreports.io/v1alpha1", ["reports", "clusterreports"]);
    let about = |list: &Value, least: u64| {
        let generation = |o: &Value| o["metadata"]["generation"].as_u64().unwrap_or_default();
        let items = list["items"].as_array();
        let about = |o: &&Value| o["results"].to_string().contains("SC-101");
        items.is_some_and(|items| items.iter().filter(about).any(|o| generation(o) >= least))
    };
    all.plane.apply_yaml(&clientgrant_testbed::reports::policy_reports().unwrap()).await.unwrap();
    // The Secret of the other one, too.
    all.apply(identity("shared", "finance-reporting")).await;
    for (at, kinds) in [&older, &newer].into_iter().enumerate() {
        for list in kinds {
            all.wait(list, "there", |l| about(l, 1)).await;
        }
        // Numbers of grants stand in it.
        all.kubectl(&format!(
            "patch clientgrants.clientgrant.dev batch -n finance --type=merge -p {{\"spec\":{{\"suspend\":{}}}}}",
            at == 0
        ))
        .await;
        for list in kinds {
            all.wait(list, "changed", |l| about(l, 2)).await;
        }
        if at == 0 {
            all.plane.apply_yaml(&clientgrant_testbed::reports::open_reports().unwrap()).await.unwrap();
            for list in kinds {
                all.wait(list, "given up", |l| !about(l, 1)).await;
            }
        }
    }
    all.kubectl("delete clientidentities.clientgrant.dev shared -n finance").await;
    for list in &newer {
        all.wait(list, "gone", |l| !about(l, 1)).await;
    }
}

/// Duties that cannot be done yet: one that the operator writes down, and one that was written down already.
async fn duties(all: &Installed) {
    let client = all.client("finance-duty", json!({"scope": super::SCOPE})).await;
    let list = format!("{GROUP}/namespaces/{NAMESPACE}/pendingrevocations");
    for written in [false, true] {
        all.apply(grant("finance", "duty", &json!({"clientID": "finance-duty"}))).await;
        all.reason("duty", "AwaitingConsent").await;
        all.token(&client).await;
        let granted = all.reason("duty", "Granted").await;
        let uid = granted["metadata"]["uid"].as_str().unwrap();
        let path = format!("{list}/{uid}");
        all.proxy.set_rule(|_| Action::Answer(503, "{}".into()));
        all.kubectl("delete clientgrants.clientgrant.dev duty -n finance --wait=false").await;
        if written {
            let mut duty = policies::duty(all, uid, "finance-duty", json!({"kind": "User", "id": "ann"}));
            duty["metadata"]["finalizers"] = json!(["example.com/keep"]);
            all.apply(duty).await;
        }
        let duty = format!("{GROUP}/namespaces/finance/clientgrants/duty");
        let end = Instant::now() + LONG;
        loop {
            let off = json!({"metadata": {"finalizers": []}});
            let off = Some((off, "application/merge-patch+json"));
            match all.plane.call(Method::PATCH, &duty, off).await.unwrap() {
                (200 | 404, _) => break,
                // A guard against this was there, and holds a moment longer than its binding.
                (status, answer) => assert!(Instant::now() < end, "{status} {answer}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // What is there already is read, and what is not is made.
        let wanted = if written { format!("get {NAMESPACE}/{uid}") } else { format!("create {NAMESPACE}/{uid}") };
        while !asked(all, OPERATOR).iter().any(|one| one.whole == wanted) {
            assert!(Instant::now() < end, "{wanted}: never asked\n{}", all.logs());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if !written {
            all.wait(&path, "said to wait", |o| condition(o, "Done")["status"] == "False").await;
        }
        all.proxy.clear_rule();
        if written {
            all.kubectl(&format!("patch pendingrevocations.clientgrant.dev {uid} -n {NAMESPACE} --type=merge -p {{\"metadata\":{{\"finalizers\":[]}}}}")).await;
            all.kubectl(&format!("delete pendingrevocations.clientgrant.dev {uid} -n {NAMESPACE} --ignore-not-found"))
                .await;
        }
        all.wait(&list, "empty", |o| o["items"] == json!([])).await;
    }
}

/// The CronJob ends what is past its end while no operator runs, and writes nothing to the cluster.
async fn sweep(all: &Installed) {
    let client = all.client("finance-sweep", json!({"scope": super::SCOPE})).await;
    let soon = clientgrant::clock::now() + Duration::from_secs(25);
    let spec = json!({"clientID": "finance-sweep", "expiresAt": clientgrant::api::instant::format(soon)});
    all.apply(grant("finance", "swept", &spec)).await;
    all.reason("swept", "AwaitingConsent").await;
    let token = all.token(&client).await;
    all.reason("swept", "Granted").await;
    all.kubectl(&format!("scale deployment clientgrant -n {NAMESPACE} --replicas=0")).await;
    all.wait(&format!("api/v1/namespaces/{NAMESPACE}/pods"), "empty", |l| l["items"] == json!([])).await;
    tokio::time::sleep(clientgrant::clock::until(soon) + Duration::from_secs(1)).await;
    assert!(all.hydra.admin().is_active(&token).await.unwrap(), "nobody is there to end it");
    all.kubectl(&format!("create job swept --from=cronjob/clientgrant-sweep -n {NAMESPACE}")).await;
    all.kubectl(&format!("wait --for=condition=Complete job/swept -n {NAMESPACE} --timeout=60s")).await;
    assert!(!all.hydra.admin().is_active(&token).await.unwrap(), "the sweep ended it");
    let swept = all.read(&format!("{GROUP}/namespaces/finance/clientgrants/swept")).await.unwrap();
    assert!(is(&swept, "Granted"), "a sweep writes nothing to the cluster: {:#}", swept["status"]);
    all.kubectl(&format!("scale deployment clientgrant -n {NAMESPACE} --replicas=2")).await;
    all.kubectl(&format!("rollout status deployment/clientgrant -n {NAMESPACE} --timeout=60s")).await;
    all.reason("swept", "Expired").await;
}
