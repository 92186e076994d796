//! Shared credentials in a running cluster: found, fixed and closed; nothing of another tenant is named; an ordinary
//! cluster is left alone; and no Secret is read.

use std::time::{Duration, Instant};

use clientgrant_testbed::bed::condition;
use clientgrant_testbed::{Action, Stall};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Real, bed_with, pause};

const LONG: Duration = Duration::from_secs(20);
const BOT: &str = "namespaces/it/clientidentities/workflow-bot";
const HELPDESK: &str = "namespaces/it/clientidentities/helpdesk";
const GRANT: &str = "namespaces/it/clientgrants/workflow";

/// A Deployment whose container receives these keys of Secrets, running as an account of its name.
pub(super) fn deployment(namespace: &str, name: &str, keys: &[(&str, &str)]) -> Value {
    let env = |(secret, key): &(&str, &str)| {
        let from = json!({"secretKeyRef": {"name": secret, "key": key}});
        json!({"name": format!("FROM_{}", secret.replace('-', "_").to_uppercase()), "valueFrom": from})
    };
    let env: Vec<Value> = keys.iter().map(env).collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "serviceAccountName": name,
                    "containers": [{"name": "main", "image": "registry.example.com/main:1", "env": env}],
                },
            },
        },
    })
}

pub(super) fn identity(namespace: &str, client: &str, workload: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "clientgrant.dev/v1alpha1",
        "kind": "ClientIdentity",
        "metadata": {"name": client, "namespace": namespace},
        "spec": {
            "providerRef": {"kind": "ClusterIdentityProvider", "name": "corp"},
            "clientID": client,
            "serviceAccountName": workload,
            "workloads": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": workload}],
            "credentials": [{"secret": {"name": secret, "key": "client-secret"}}],
        },
    })
}

pub(super) async fn apply(bed: &Real, object: &Value) {
    bed.plane.apply_yaml(&object.to_string()).await.unwrap();
}

pub(super) async fn exclusive(bed: &Real, path: &str, reason: &str) -> Value {
    bed.wait(path, reason, LONG, |o| condition(o, "CredentialExclusive")["reason"] == reason).await.unwrap()
}

/// Rule, state and subject of what a ClientIdentity says.
fn findings(object: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let one = |f: &Value| format!("{} {} {}", text(&f["rule"]), text(&f["state"]), text(&f["subject"]));
    object["status"]["findings"].as_array().into_iter().flatten().map(one).collect()
}

/// What the operator told about shared credentials, by Events.
async fn events(bed: &Real) -> Vec<String> {
    let (_, list) = bed.raw(Method::GET, "apis/events.k8s.io/v1/namespaces/it/events", None).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let about = list["items"].as_array().unwrap().iter().filter(|e| text(&e["reason"]).starts_with("SharedCredential"));
    about.map(|e| format!("{} {} {}", text(&e["reason"]), text(&e["regarding"]["name"]), text(&e["note"]))).collect()
}

/// The helpdesk reads profiles, the workflow works on tickets, each with a client, an account and a Secret of its
/// own.
pub(super) async fn two_clients(bed: &Real) {
    bed.client("helpdesk", json!({"scope": "profile:read"})).await.unwrap();
    bed.client("workflow-bot", json!({"scope": "tickets:read tickets:write"})).await.unwrap();
    let any = |client: &str, scopes: Value| json!({"clientID": client, "subject": {"kind": "Any", "id": null}, "basis": "AdminConsent", "scopes": scopes});
    bed.grant("it", "helpdesk", any("helpdesk", json!(["profile:read"]))).await.unwrap();
    bed.grant("it", "workflow", any("workflow-bot", json!(["tickets:read", "tickets:write"]))).await.unwrap();
    for name in ["helpdesk", "workflow"] {
        bed.reason("it", name, "Granted").await.unwrap();
        apply(
            bed,
            &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "it"}}),
        )
        .await;
    }
    apply(bed, &deployment("it", "helpdesk", &[("helpdesk-oidc", "client-secret")])).await;
    apply(bed, &deployment("it", "workflow", &[("workflow-oidc", "client-secret")])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_secret_is_found_and_closed() {
    let mut bed = bed_with(|options| options.audit = true).await;
    two_clients(&bed).await;
    let untouched = bed.get(GRANT).await.unwrap().unwrap();
    assert!(condition(&untouched, "CredentialExclusive").is_null(), "nobody says whose credential is whose");

    apply(&bed, &identity("it", "helpdesk", "helpdesk", "helpdesk-oidc")).await;
    apply(&bed, &identity("it", "workflow-bot", "workflow", "workflow-oidc")).await;
    for path in [BOT, HELPDESK, GRANT] {
        let object = exclusive(&bed, path, "Exclusive").await;
        assert_eq!(condition(&object, "CredentialExclusive")["status"], "True");
        assert!(object["status"]["sharing"].is_null() && object["status"]["findings"].is_null(), "{object:#}");
    }
    let object = bed.get(BOT).await.unwrap().unwrap();
    assert_eq!(condition(&object, "Ready")["reason"], "Accepted");
    assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
    let told = bed.asked().unwrap().len();

    // The workflow needs a profile once, and is given the helpdesk's credential.
    let shared =
        deployment("it", "workflow", &[("workflow-oidc", "client-secret"), ("helpdesk-oidc", "client-secret")]);
    let (begun, stall) = (Instant::now(), Stall::watch());
    apply(&bed, &shared).await;
    let found = exclusive(&bed, HELPDESK, "SharedCredential").await;
    let identity_took = begun.elapsed();
    let grant = exclusive(&bed, GRANT, "SharedCredential").await;
    println!(
        "from kubectl apply to the ClientIdentity's status {identity_took:?}, to the grant's {:?}",
        begun.elapsed()
    );
    assert!(begun.elapsed() < Duration::from_secs(3) + stall.lost(), "{:?} lost", stall.lost());
    println!("{:#}", found["status"]);
    let said = findings(&found);
    assert!(said.iter().any(|f| f == "SC-201 open Deployment/workflow"), "{said:?}");
    assert!(said.iter().any(|f| f == "SC-301 open Deployment/workflow"), "{said:?}");
    assert_eq!(found["status"]["findings"][0]["with"], json!(["workflow-bot"]));
    assert_eq!(found["status"]["blastRadius"], json!({"grants": 2, "subjects": 1, "scopes": 3}));
    assert_eq!(grant["status"]["sharing"]["rules"][0], "SC-201");
    for (name, value) in [("Ready", "True"), ("Active", "True")] {
        assert_eq!(condition(&grant, name)["status"], value, "a finding does not end a grant");
    }
    let wide = bed.plane.kubectl(&["get", "clientgrants.clientgrant.dev", "-n", "it", "-o", "wide"]).await.unwrap();
    assert!(wide.contains("EXCLUSIVE"), "{wide}");
    let metrics = bed.operator.metrics().await.unwrap();
    assert!(
        metrics.lines().any(
            |l| l.starts_with(r#"clientgrant_sharing_findings{rule="SC-201""#) && l.ends_with(r#"state="open"} 1"#)
        ),
        "{metrics}"
    );
    for name in ["helpdesk", "workflow"] {
        assert!(!metrics.contains(name), "no name is a label: {name}");
    }

    // Fixed wrongly: the value is copied under another name. Without reading Secrets nobody can know, so that it is
    // not called exclusive.
    apply(&bed, &deployment("it", "workflow", &[("workflow-oidc", "client-secret"), ("profile", "client-secret")]))
        .await;
    let copied = exclusive(&bed, HELPDESK, "NotEvaluated").await;
    assert_eq!(findings(&copied), ["SC-901 notEvaluable Deployment/workflow"]);
    exclusive(&bed, BOT, "Exclusive").await;
    // Where the copy is declared, it is seen: one slot, two clients.
    let copy = json!([{"secret": {"name": "workflow-oidc", "key": "client-secret"}}]);
    bed.patch(HELPDESK, json!({"spec": {"credentials": copy}})).await.unwrap();
    let again = exclusive(&bed, HELPDESK, "SharedCredential").await;
    assert!(findings(&again).iter().any(|f| f.starts_with("SC-101 open")), "{:#}", again["status"]);
    // Where another system delivers, nobody here can say.
    let mut injected = deployment("it", "helpdesk", &[]);
    injected["spec"]["template"]["metadata"]["annotations"] =
        json!({"vault.hashicorp.com/agent-inject-secret-oidc": "kv/oidc"});
    apply(&bed, &injected).await;
    bed.patch(HELPDESK, json!({"spec": {"credentials": [{"secret": {"name": "gone", "key": "key"}}]}})).await.unwrap();
    let unknown = exclusive(&bed, HELPDESK, "NotEvaluated").await;
    assert_eq!(condition(&unknown, "CredentialExclusive")["status"], "Unknown");

    // Fixed rightly.
    apply(&bed, &deployment("it", "helpdesk", &[("helpdesk-oidc", "client-secret")])).await;
    let delete = json!([{"op": "remove", "path": "/spec/template/metadata/annotations"}]).to_string();
    // Server-side apply takes them away where it was the one that put them there; then there is nothing left.
    let patch = ["patch", "deployment", "helpdesk", "-n", "it", "--type=json", "-p", &delete];
    bed.plane.kubectl_with_input(&patch, "").await.unwrap();
    apply(&bed, &deployment("it", "workflow", &[("workflow-oidc", "client-secret")])).await;
    let own = json!([{"secret": {"name": "helpdesk-oidc", "key": "client-secret"}}]);
    bed.patch(HELPDESK, json!({"spec": {"credentials": own}})).await.unwrap();
    for path in [BOT, HELPDESK, GRANT] {
        exclusive(&bed, path, "Exclusive").await;
    }
    for wanted in [
        "SharedCredentialDetected helpdesk",
        "SharedCredentialDetected workflow-bot",
        "SharedCredentialResolved helpdesk",
    ] {
        let end = Instant::now() + LONG;
        while !events(&bed).await.iter().any(|e| e.starts_with(wanted)) {
            assert!(Instant::now() < end, "{wanted}: {:#?}", events(&bed).await);
            pause(100).await;
        }
    }
    let told_by = events(&bed).await;
    println!("{told_by:#?}");
    let log = bed.operator.log();
    assert!(log.contains("SharedCredentialDetected") && log.contains("SharedCredentialResolved"), "{log}");

    // An exception of each side: accepted, and shown.
    apply(&bed, &shared).await;
    exclusive(&bed, HELPDESK, "SharedCredential").await;
    let until = clientgrant::api::instant::format(clientgrant::clock::now() + Duration::from_secs(3600));
    let accept = |rule: &str, kind: &str, name: &str| json!({"rule": rule, "with": [{"kind": kind, "name": name}], "reason": "both are one until the ticket is done", "expiresAt": until});
    let accept = json!([accept("SC-201", "Deployment", "workflow"), accept("SC-301", "Deployment", "workflow")]);
    for path in [HELPDESK, BOT] {
        bed.patch(path, json!({"spec": {"sharing": {"exceptions": accept}}})).await.unwrap();
    }
    let accepted = |o: &Value| !findings(o).is_empty() && findings(o).iter().all(|f| f.contains(" suppressed "));
    let shown = bed.wait(HELPDESK, "accepted", LONG, accepted).await.unwrap();
    assert_eq!(condition(&shown, "CredentialExclusive")["status"], "False", "accepted is not exclusive");
    let grant = bed.wait(GRANT, "accepted", LONG, |o| o["status"]["sharing"]["open"] == 0).await.unwrap();
    assert!(grant["status"]["sharing"]["suppressed"].as_i64() >= Some(1), "{:#}", grant["status"]);

    // A restart writes nothing.
    pause(3_000).await;
    let before = bed.asked().unwrap().len();
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    pause(6_000).await;
    let asked = bed.asked().unwrap();
    let wrote: Vec<&String> = asked[before..]
        .iter()
        .filter(|a| a.contains("clientidentities/status") || a.contains("clientgrants/status"))
        .collect();
    assert_eq!(wrote, [""; 0], "nothing changed");
    let secrets: Vec<&String> = asked.iter().filter(|a| a.contains(" secrets ") && !a.starts_with("get ")).collect();
    assert_eq!(secrets, [""; 0]);
    let read: Vec<&String> =
        asked[told..].iter().filter(|a| a.contains(" secrets ") && !a.contains("hydra-hook")).collect();
    assert_eq!(read, [""; 0], "no Secret but the provider's own");
    assert!(asked.iter().any(|a| a.starts_with("list pods")), "positive control");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_another_tenant_nothing_is_named() {
    let bed = bed_with(|_| {}).await;
    bed.client("payroll-9f3", json!({"scope": "openid"})).await.unwrap();
    bed.client("reporting-2c7", json!({"scope": "openid"})).await.unwrap();
    // One client that two namespaces speak about, each beside a client of its own in one workload.
    for (namespace, own, workload) in [("finance", "payroll-9f3", "ledger-a1"), ("it", "reporting-2c7", "tickets-b2")] {
        let secret = format!("{workload}-oidc");
        apply(&bed, &identity(namespace, own, workload, &secret)).await;
        apply(&bed, &identity(namespace, "common", workload, &format!("{workload}-common"))).await;
        let keys = [(secret.as_str(), "client-secret"), (&*format!("{workload}-common"), "client-secret")];
        apply(&bed, &deployment(namespace, workload, &keys)).await;
        bed.grant(namespace, "own", json!({"clientID": own, "subject": {"kind": "Any", "id": null}, "basis": "AdminConsent", "scopes": ["openid"]}))
            .await
            .unwrap();
    }
    for (namespace, foreign) in [("finance", ["tickets-b2", "reporting-2c7"]), ("it", ["ledger-a1", "payroll-9f3"])] {
        let path = format!("namespaces/{namespace}/clientidentities/common");
        let whole =
            |o: &Value| findings(o).iter().any(|f| f.ends_with(" -")) && findings(o).iter().any(|f| !f.ends_with(" -"));
        let object = bed.wait(&path, "told of both", LONG, whole).await.unwrap();
        let grant = exclusive(&bed, &format!("namespaces/{namespace}/clientgrants/own"), "SharedCredential").await;
        for text in [object["status"].to_string(), grant["status"].to_string()] {
            for name in foreign {
                assert!(!text.contains(name), "{namespace} reads {name}: {text}");
            }
        }
        assert!(object["status"].to_string().contains("\"others\":1"), "{:#}", object["status"]);
    }
    let (_, list) = bed.raw(Method::GET, "apis/events.k8s.io/v1/events", None).await.unwrap();
    for event in list["items"].as_array().unwrap() {
        let foreign = if event["metadata"]["namespace"] == "it" {
            ["ledger-a1", "payroll-9f3"]
        } else {
            ["tickets-b2", "reporting-2c7"]
        };
        assert!(!foreign.iter().any(|name| event["note"].as_str().unwrap_or_default().contains(name)), "{event:#}");
    }

    // A namespace of which the rules say nothing does not count, and frames nobody.
    apply(&bed, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rogue"}})).await;
    let read = |o: &Value| condition(o, "RegistrationUnchanged")["status"] == "True";
    let before = bed.wait("namespaces/it/clientidentities/reporting-2c7", "read", LONG, read).await.unwrap();
    apply(&bed, &identity("rogue", "reporting-2c7", "claims", "claims")).await;
    let rogue = "namespaces/rogue/clientidentities/reporting-2c7";
    let refused = bed.wait(rogue, "refused", LONG, |o| condition(o, "Ready")["reason"] == "NotAllowed").await.unwrap();
    assert!(
        condition(&refused, "CredentialExclusive").is_null() && condition(&refused, "Reconciling")["status"] == "True"
    );
    pause(1_500).await;
    let after = bed.get("namespaces/it/clientidentities/reporting-2c7").await.unwrap().unwrap();
    assert_eq!(after["status"], before["status"]);
    let mut lost = identity("it", "lost", "x", "x");
    lost["spec"]["providerRef"]["name"] = json!("nowhere");
    apply(&bed, &lost).await;
    bed.wait("namespaces/it/clientidentities/lost", "refused", LONG, |o| {
        condition(o, "Ready")["reason"] == "ProviderNotFound"
    })
    .await
    .unwrap();
}

/// Workloads share what they like where no ClientIdentity says whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_cluster_is_left_alone() {
    let bed = bed_with(|options| options.audit = true).await;
    two_clients(&bed).await;
    let before = bed.asked().unwrap().len();
    let both = [("workflow-oidc", "client-secret"), ("helpdesk-oidc", "client-secret")];
    for name in ["helpdesk", "workflow", "third"] {
        apply(&bed, &deployment("it", name, &both)).await;
    }
    pause(4_000).await;
    let grant = bed.get(GRANT).await.unwrap().unwrap();
    assert!(condition(&grant, "CredentialExclusive").is_null() && grant["status"]["sharing"].is_null(), "{grant:#}");
    assert_eq!(events(&bed).await, [""; 0]);
    let asked = bed.asked().unwrap();
    let wrote: Vec<&String> = asked[before..]
        .iter()
        .filter(|a| !["get ", "list ", "watch ", "update leases "].iter().any(|r| a.starts_with(r)))
        .filter(|a| !a.contains("clusteridentityproviders/status"))
        .collect();
    assert_eq!(wrote, [""; 0]);
    assert!(!asked.iter().any(|a| a.contains(" pods ") || a.contains(" deployments ")), "nothing is even watched");
    let metrics = bed.operator.metrics().await.unwrap();
    let found = metrics.lines().filter(|l| l.starts_with("clientgrant_sharing_findings{")).find(|l| !l.ends_with(" 0"));
    assert_eq!(found, None);
}

/// What may not be listed is no proof of anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_listed_is_not_called_clean() {
    let bed = bed_with(|_| {}).await;
    two_clients(&bed).await;
    let role = "apis/rbac.authorization.k8s.io/v1/clusterroles/clientgrant";
    let (_, whole) = bed.raw(Method::GET, role, None).await.unwrap();
    let rules: Vec<Value> = whole["rules"].as_array().unwrap().clone();
    let less: Vec<&Value> = rules.iter().filter(|rule| rule["apiGroups"] != json!(["batch"])).collect();
    assert!(less.len() < rules.len());
    let patch = |rules: Value| Some((json!({"rules": rules}), "application/merge-patch+json"));
    assert_eq!(bed.raw(Method::PATCH, role, patch(json!(less))).await.unwrap().0, 200);
    pause(1_000).await;
    apply(&bed, &identity("it", "helpdesk", "helpdesk", "helpdesk-oidc")).await;
    apply(&bed, &identity("it", "workflow-bot", "workflow", "workflow-oidc")).await;
    let object = exclusive(&bed, HELPDESK, "NotEvaluated").await;
    let said = condition(&object, "CredentialExclusive");
    assert_eq!(said["status"], "Unknown");
    assert!(said["message"].as_str().unwrap().contains("cronjobs.batch, jobs.batch"), "{said}");
    exclusive(&bed, GRANT, "NotEvaluated").await;
    // What is there is found all the same.
    apply(&bed, &deployment("it", "workflow", &[("helpdesk-oidc", "client-secret")])).await;
    exclusive(&bed, HELPDESK, "SharedCredential").await;
    apply(&bed, &deployment("it", "workflow", &[("workflow-oidc", "client-secret")])).await;
    exclusive(&bed, HELPDESK, "NotEvaluated").await;
    assert_eq!(bed.raw(Method::PATCH, role, patch(json!(rules))).await.unwrap().0, 200);
    // The watch is tried again within half a minute.
    let healed = |o: &Value| condition(o, "CredentialExclusive")["reason"] == "Exclusive";
    bed.wait(HELPDESK, "exclusive", Duration::from_secs(60), healed).await.unwrap();

    let off = bed_off(bed).await;
    let object = exclusive(&off, HELPDESK, "NotEvaluated").await;
    assert!(condition(&object, "CredentialExclusive")["message"].as_str().unwrap().contains("--detect-sharing=false"));
}

/// A kind of which nothing comes any more, although the API server answers otherwise, may have changed since.
#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_only_fails_is_not_called_clean() {
    let bed = bed_with(|options| options.kproxy = true).await;
    two_clients(&bed).await;
    apply(&bed, &identity("it", "helpdesk", "helpdesk", "helpdesk-oidc")).await;
    exclusive(&bed, HELPDESK, "Exclusive").await;
    let proxy = bed.kproxy.as_ref().unwrap();
    proxy.set_rule(|r| match r.path() == "/apis/batch/v1/jobs" {
        true => Action::Answer(500, "{}".into()),
        false => Action::Forward,
    });
    proxy.close_watches();
    let begun = Instant::now();
    let unknown = |o: &Value| condition(o, "CredentialExclusive")["reason"] == "NotEvaluated";
    let object = bed.wait(HELPDESK, "unknown", Duration::from_secs(90), unknown).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(30), "it may be a moment: {:?}", begun.elapsed());
    let said = condition(&object, "CredentialExclusive")["message"].as_str().unwrap();
    assert!(said.contains("jobs.batch") && !said.contains(','), "{said}");
    proxy.clear_rule();
    let healed = |o: &Value| condition(o, "CredentialExclusive")["reason"] == "Exclusive";
    bed.wait(HELPDESK, "exclusive", Duration::from_secs(60), healed).await.unwrap();
}

/// The same bed with an operator that looks for nothing.
async fn bed_off(mut bed: Real) -> Real {
    bed.operator.options_mut().args.push("--detect-sharing=false".to_owned());
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    bed
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_absent_counts_after_a_while_and_over_a_restart() {
    let mut bed = bed_with(|options| options.args = vec!["--sharing-grace=10s".into()]).await;
    bed.client("helpdesk", json!({"scope": "openid"})).await.unwrap();
    apply(&bed, &deployment("it", "helpdesk", &[("helpdesk-oidc", "client-secret")])).await;
    let begun = Instant::now();
    apply(&bed, &identity("it", "helpdesk", "helpdesk", "helpdesk-oidc")).await;
    let object = exclusive(&bed, HELPDESK, "Exclusive").await;
    assert!(
        object["status"]["findings"].is_null() && begun.elapsed() < Duration::from_secs(10),
        "the grant may be late"
    );
    let unused = |o: &Value| findings(o).iter().any(|f| f == "SC-302 open Deployment/helpdesk");
    bed.wait(HELPDESK, "without a grant", LONG, unused).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(10), "{:?}", begun.elapsed());

    let read = |o: &Value| condition(o, "RegistrationUnchanged")["status"] == "True";
    let before = bed.wait(HELPDESK, "read", LONG, read).await.unwrap();
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    pause(6_000).await;
    let after = bed.get(HELPDESK).await.unwrap().unwrap();
    assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"], "{:#}", after["status"]);
    let spec = json!({"clientID": "helpdesk", "subject": {"kind": "Any", "id": null}, "basis": "AdminConsent", "scopes": ["openid"]});
    bed.grant("it", "helpdesk", spec).await.unwrap();
    bed.wait(HELPDESK, "used by a grant", LONG, |o| o["status"]["findings"].is_null()).await.unwrap();
}

/// Gives the operator a right that the chart gives it with a value.
async fn allow(bed: &Real, group: &str, resources: &[&str]) {
    let role = "apis/rbac.authorization.k8s.io/v1/clusterroles/clientgrant";
    let (_, whole) = bed.raw(Method::GET, role, None).await.unwrap();
    let mut rules: Vec<Value> = whole["rules"].as_array().unwrap().clone();
    rules.push(json!({"apiGroups": [group], "resources": resources, "verbs": ["list", "watch"]}));
    let patch = Some((json!({"rules": rules}), "application/merge-patch+json"));
    assert_eq!(bed.raw(Method::PATCH, role, patch).await.unwrap().0, 200);
}

/// Who reads Secrets by RBAC, where the operator is asked to look; whose job it is, is no finding.
#[tokio::test(flavor = "multi_thread")]
async fn who_reaches_credentials_by_rbac() {
    let mut bed = bed_with(|options| options.args = vec!["--sharing-rbac=true".into()]).await;
    two_clients(&bed).await;
    apply(&bed, &identity("it", "helpdesk", "helpdesk", "helpdesk-oidc")).await;
    apply(&bed, &identity("it", "workflow-bot", "workflow", "workflow-oidc")).await;
    // Without the right two rules cannot tell; the others can.
    exclusive(&bed, HELPDESK, "Exclusive").await;
    let log = bed.operator.log();
    assert!(log.contains("who reaches credentials by RBAC cannot be told"), "{log}");

    let resources = ["roles", "rolebindings", "clusterroles", "clusterrolebindings"];
    allow(&bed, "rbac.authorization.k8s.io", &resources).await;
    let meta = json!({"name": "backup", "namespace": "it"});
    apply(
        &bed,
        &json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta,
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]}),
    )
    .await;
    let bound = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "backup"},
        "subjects": [{"kind": "ServiceAccount", "name": "backup", "namespace": "it"}]});
    apply(&bed, &bound).await;
    let reads = |o: &Value| findings(o).iter().any(|f| f == "SC-204 open ServiceAccount/backup");
    // A list that was refused is asked for again after ten seconds.
    let found = bed.wait(HELPDESK, "read by RBAC", LONG, reads).await.unwrap();
    assert_eq!(condition(&found, "CredentialExclusive")["reason"], "SharedCredential");
    exclusive(&bed, GRANT, "SharedCredential").await;

    // The job of a backup.
    bed.operator.options_mut().args.push("--sharing-role=platform=it/backup".to_owned());
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    let known = exclusive(&bed, HELPDESK, "Exclusive").await;
    assert!(reads(&known) && known["status"]["findings"][0]["severity"] == "info", "{:#}", known["status"]);
    exclusive(&bed, GRANT, "Exclusive").await;

    // Without the binding nothing is said.
    let binding = "apis/rbac.authorization.k8s.io/v1/namespaces/it/rolebindings/backup";
    assert_eq!(bed.raw(Method::DELETE, binding, None).await.unwrap().0, 200);
    bed.wait(HELPDESK, "not read any more", LONG, |o| o["status"]["findings"].is_null()).await.unwrap();
}

/// What stands in ConfigMaps is looked at where the operator is asked to, and not repeated.
#[tokio::test(flavor = "multi_thread")]
async fn what_workloads_receive_from_configmaps() {
    let mut bed = bed_with(|options| options.audit = true).await;
    two_clients(&bed).await;
    let value = format!("a-value-{}", std::process::id());
    let file = format!("client_id: helpdesk\nclient_secret: {value}\n");
    let map = |data: Value| {
        let meta = json!({"name": "helpdesk-config", "namespace": "it"});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
    };
    apply(&bed, &map(json!({"app.yaml": file, "more": "x"}))).await;
    let mut helpdesk = deployment("it", "helpdesk", &[("helpdesk-oidc", "client-secret")]);
    let pod = &mut helpdesk["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "config", "configMap": {"name": "helpdesk-config"}}]);
    pod["containers"][0]["volumeMounts"] = json!([{"name": "config", "mountPath": "/config"}]);
    apply(&bed, &helpdesk).await;
    apply(&bed, &identity("it", "helpdesk", "helpdesk", "helpdesk-oidc")).await;
    apply(&bed, &identity("it", "workflow-bot", "workflow", "workflow-oidc")).await;
    let object = exclusive(&bed, HELPDESK, "Exclusive").await;
    assert!(object["status"]["findings"].is_null(), "{:#}", object["status"]);
    let listed = |bed: &Real| {
        let asked = bed.asked().unwrap();
        assert!(asked.iter().any(|a| a.starts_with("list pods")), "positive control");
        // Those of its own namespace are its record.
        asked
            .into_iter()
            .filter(|a| ["list configmaps ", "watch configmaps "].contains(&a.as_str()))
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&bed), [""; 0], "nobody asked for it");

    // Asked to and not allowed to, it says so; nothing else is unsure for it.
    bed.operator.options_mut().args.push("--sharing-configmaps=true".to_owned());
    bed.operator.options_mut().env.push(("RUST_LOG".to_owned(), "trace".to_owned()));
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    bed.operator.wait_log("literals in ConfigMaps cannot be told", LONG).await.unwrap();
    exclusive(&bed, HELPDESK, "Exclusive").await;
    allow(&bed, "", &["configmaps"]).await;
    let literal = |o: &Value| findings(o).iter().any(|f| f == "SC-401 open Deployment/helpdesk");
    // A list that was refused is asked for again after ten seconds.
    let found = bed.wait(HELPDESK, "found in a ConfigMap", LONG, literal).await.unwrap();
    assert_eq!(condition(&found, "CredentialExclusive")["reason"], "Exclusive", "whose it is, is no question");
    assert_eq!(found["status"]["findings"][0]["severity"], "medium", "the client's id stands beside it");
    assert!(!listed(&bed).is_empty());

    let (begun, stall) = (Instant::now(), Stall::watch());
    apply(&bed, &map(json!({"app.yaml": "client_id: helpdesk\nclient_secret: ${FROM_ELSEWHERE}\n", "more": "x"})))
        .await;
    bed.wait(HELPDESK, "not found any more", LONG, |o| o["status"]["findings"].is_null()).await.unwrap();
    println!("from kubectl apply to the ClientIdentity's status {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(4) + stall.lost(), "{:?} lost", stall.lost());
    // An id that nobody declared before is compared with what was read before.
    apply(&bed, &map(json!({"id": "workflow-next", "client-secret": value}))).await;
    let low = |o: &Value| literal(o) && o["status"]["findings"][0]["severity"] == "low";
    bed.wait(HELPDESK, "a credential without an id", LONG, low).await.unwrap();
    let mut next = identity("it", "workflow-next", "elsewhere", "next-oidc");
    next["spec"].as_object_mut().unwrap().remove("workloads");
    apply(&bed, &next).await;
    let path = "namespaces/it/clientidentities/workflow-next";
    bed.wait(path, "found by its id", Duration::from_secs(30), literal).await.unwrap();
    for text in [bed.operator.log(), bed.operator.metrics().await.unwrap(), events(&bed).await.join("\n")] {
        assert!(!text.contains(&value));
    }
    for path in [HELPDESK, path, GRANT] {
        assert!(!bed.get(path).await.unwrap().unwrap()["status"].to_string().contains(&value), "{path}");
    }
}
