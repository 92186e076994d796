//! Policy reports of shared credentials: they appear with the kind that the cluster has, say to each namespace what is
//! its own, are written only when something changed, and go when it is solved.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clientgrant_testbed::bed::condition;
use clientgrant_testbed::reports;
use reqwest::Method;
use serde_json::{Value, json};

use crate::sharing::{apply, deployment, exclusive, identity, two_clients};
use crate::support::{Real, bed_with, pause};

const OPEN: &str = "apis/openreports.io/v1alpha1";
const WG: &str = "apis/wgpolicyk8s.io/v1alpha2";
/// Longer than it takes to notice a new kind.
const LONG: Duration = Duration::from_secs(60);
const HELPDESK: &str = "namespaces/it/clientidentities/helpdesk";
const KEYS: [(&str, &str); 2] = [("workflow-oidc", "client-secret"), ("helpdesk-oidc", "client-secret")];

/// The reports of a list; none where the cluster does not have the kind.
async fn list(bed: &Real, path: &str) -> Vec<Value> {
    let (_, list) = bed.raw(Method::GET, path, None).await.unwrap();
    list["items"].as_array().cloned().unwrap_or_default()
}

async fn wait(bed: &Real, path: &str, what: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let end = Instant::now() + LONG;
    loop {
        let seen = list(bed, path).await;
        if holds(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "{path} is not {what}: {seen:#?}\n{}", bed.operator.log());
        pause(200).await;
    }
}

fn text<'o>(value: &'o Value, pointer: &str) -> &'o str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The report about an object of this kind and name.
fn about<'o>(reports: &'o [Value], kind: &str, name: &str) -> Option<&'o Value> {
    reports.iter().find(|r| r["scope"]["kind"] == kind && r["scope"]["name"] == name)
}

fn rules(report: &Value) -> BTreeSet<&str> {
    report["results"].as_array().into_iter().flatten().map(|result| text(result, "/rule")).collect()
}

/// Writes of the operator to kinds of reports.
fn writes(asked: &[String]) -> Vec<&String> {
    let write = |a: &&String| ["create ", "update ", "patch ", "delete "].iter().any(|verb| a.starts_with(verb));
    asked.iter().filter(|a| a.contains("reports")).filter(write).collect()
}

async fn install(bed: &Real, definitions: &str) {
    bed.plane.apply_yaml(definitions).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_come_and_go_with_kinds_and_findings() {
    let mut bed = bed_with(|options| options.audit = true).await;
    two_clients(&bed).await;
    pause(2_000).await;
    let asked = bed.asked().unwrap();
    assert!(!asked.iter().any(|a| a.contains("reports")), "without a ClientIdentity nothing is asked: {asked:?}");
    apply(&bed, &identity("it", "helpdesk", "helpdesk", "helpdesk-oidc")).await;
    apply(&bed, &identity("it", "workflow-bot", "workflow", "workflow-oidc")).await;
    apply(&bed, &deployment("it", "workflow", &KEYS)).await;
    exclusive(&bed, HELPDESK, "SharedCredential").await;
    let asked = bed.asked().unwrap();
    assert!(!asked.iter().any(|a| a.contains("list reports") || a.contains("list policyreports")), "no kind, no list");

    // The older kind comes while the operator runs. What others report is theirs.
    install(&bed, &reports::policy_reports().unwrap()).await;
    let policy = format!("{WG}/policyreports");
    let found = wait(&bed, &policy, "there", |all| about(all, "Deployment", "workflow").is_some()).await;
    assert!(rules(about(&found, "Deployment", "workflow").unwrap()).contains("SC-201"), "{found:#?}");
    wait(&bed, &format!("{WG}/clusterpolicyreports"), "there", |all| !all.is_empty()).await;
    let foreign = json!({"apiVersion": "wgpolicyk8s.io/v1alpha2", "kind": "PolicyReport",
        "metadata": {"name": "sc-theirs", "namespace": "it", "labels": {"app.kubernetes.io/managed-by": "kyverno"}}});
    apply(&bed, &foreign).await;

    // The newer one is better: what was written goes there.
    install(&bed, &reports::open_reports().unwrap()).await;
    let (path, cluster) = (format!("{OPEN}/reports"), format!("{OPEN}/clusterreports"));
    let found = wait(&bed, &path, "there", |all| about(all, "Deployment", "workflow").is_some()).await;
    let left = wait(&bed, &policy, "given up", |all| all.len() == 1).await;
    assert_eq!(left[0]["metadata"]["name"], "sc-theirs");
    wait(&bed, &format!("{WG}/clusterpolicyreports"), "given up", <[Value]>::is_empty).await;
    let report = about(&found, "Deployment", "workflow").unwrap();
    println!("{report:#}");
    let (_, subject) = bed.raw(Method::GET, "apis/apps/v1/namespaces/it/deployments/workflow", None).await.unwrap();
    let uid = text(&subject, "/metadata/uid");
    assert_eq!(report["metadata"]["name"], format!("sc-{uid}"));
    let owner = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "workflow", "uid": uid}]);
    assert_eq!(report["metadata"]["ownerReferences"], owner);
    assert_eq!(report["source"], "clientgrant-operator");
    let result = report["results"].as_array().unwrap().iter().find(|r| r["rule"] == "SC-201").unwrap();
    assert_eq!((text(result, "/result"), text(result, "/properties/grade")), ("fail", "direct"));
    assert_eq!(text(result, "/properties/clients"), "helpdesk, workflow-bot");
    assert_eq!((text(result, "/properties/users"), text(result, "/properties/scopes")), ("1", "3"));
    let whole = wait(&bed, &cluster, "there", |all| !all.is_empty()).await;
    let names: BTreeSet<&str> = whole.iter().map(|r| text(r, "/metadata/name")).collect();
    assert!(names.contains("clientgrant-sc-201") && names.contains("clientgrant-sc-301"), "{names:?}");

    // Nothing changes, nothing is written; nor after a restart.
    pause(2_000).await;
    let before = bed.asked().unwrap().len();
    assert!(!writes(&bed.asked().unwrap()).is_empty(), "positive control");
    pause(15_000).await;
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    let listed = |asked: &[String]| asked.iter().filter(|a| a.starts_with("list clusterreports")).count();
    let end = Instant::now() + LONG;
    while listed(&bed.asked().unwrap()[before..]) == 0 {
        assert!(Instant::now() < end, "it reads what is there when it begins to lead");
        pause(200).await;
    }
    pause(3_000).await;
    assert_eq!(writes(&bed.asked().unwrap()[before..]), [""; 0], "steady");

    // Another object of the same name has a report of its own.
    let at = "apis/apps/v1/namespaces/it/deployments/workflow";
    assert_eq!(bed.raw(Method::DELETE, at, None).await.unwrap().0, 200);
    apply(&bed, &deployment("it", "workflow", &KEYS)).await;
    let (_, again) = bed.raw(Method::GET, at, None).await.unwrap();
    assert_ne!(text(&again, "/metadata/uid"), uid);
    let name = format!("sc-{}", text(&again, "/metadata/uid"));
    let other = |all: &[Value]| {
        about(all, "Deployment", "workflow").is_some_and(|r| text(r, "/metadata/name") == name)
            && !all.iter().any(|r| text(r, "/metadata/name").ends_with(uid))
    };
    wait(&bed, &path, "of the new object", other).await;

    // Solved: nothing is left but what is not ours.
    apply(&bed, &deployment("it", "workflow", &KEYS[..1])).await;
    wait(&bed, &path, "empty", <[Value]>::is_empty).await;
    // RBAC is not looked at here, which is said all the same.
    let rest = |all: &[Value]| all.iter().all(|report| text(report, "/metadata/name") == "clientgrant-sc-901");
    wait(&bed, &cluster, "without findings", rest).await;
    assert_eq!(list(&bed, &policy).await.len(), 1);

    // A kind that goes away stops nothing.
    apply(&bed, &deployment("it", "workflow", &KEYS)).await;
    wait(&bed, &path, "back", |all| !all.is_empty()).await;
    let crd = "apis/apiextensions.k8s.io/v1/customresourcedefinitions/reports.openreports.io";
    assert_eq!(bed.raw(Method::DELETE, crd, None).await.unwrap().0, 200);
    apply(&bed, &deployment("it", "workflow", &KEYS[..1])).await;
    exclusive(&bed, HELPDESK, "Exclusive").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_names_nothing_of_another_tenant() {
    let bed = bed_with(|_| {}).await;
    install(&bed, &reports::open_reports().unwrap()).await;
    bed.client("payroll-9f3", json!({"scope": "ledger-scope"})).await.unwrap();
    bed.client("reporting-2c7", json!({"scope": "tickets-scope"})).await.unwrap();
    let tenants = [
        ("finance", "payroll-9f3", "ledger-a1", "ledger-scope"),
        ("it", "reporting-2c7", "tickets-b2", "tickets-scope"),
    ];
    // One client that two namespaces speak about, each beside a client of its own in one workload.
    for (namespace, own, workload, scope) in tenants {
        let secret = format!("{workload}-oidc");
        apply(&bed, &identity(namespace, own, workload, &secret)).await;
        apply(&bed, &identity(namespace, "common", workload, &format!("{workload}-common"))).await;
        let keys = [(secret.as_str(), "client-secret"), (&*format!("{workload}-common"), "client-secret")];
        apply(&bed, &deployment(namespace, workload, &keys)).await;
        let spec = json!({"clientID": own, "subject": {"kind": "Any", "id": null}, "basis": "AdminConsent", "scopes": [scope]});
        bed.grant(namespace, "own", spec).await.unwrap();
    }
    // A workload of one that holds the other's client too, by what its owner says: the client is counted.
    let mut borrowed = identity("it", "reporting-2c7", "tickets-b2", "tickets-b2-oidc");
    borrowed["spec"]["credentials"] = json!([{"secret": {"name": "tickets-b2-oidc", "key": "client-secret"}}]);
    apply(&bed, &borrowed).await;

    let path = format!("{OPEN}/reports");
    let all = wait(&bed, &path, "of both", |all| {
        about(all, "Deployment", "ledger-a1").is_some() && about(all, "Deployment", "tickets-b2").is_some()
    })
    .await;
    let whole = |all: &[Value]| {
        let text = all.iter().map(|report| report["results"].to_string()).collect::<String>();
        ["payroll-9f3", "reporting-2c7", "ledger-a1", "tickets-b2"].iter().all(|name| text.contains(name))
    };
    wait(&bed, &format!("{OPEN}/clusterreports"), "the whole picture", whole).await;
    for (at, (namespace, own, workload, _)) in tenants.into_iter().enumerate() {
        let (_, client, other, scope) = tenants[1 - at];
        let of_it: Vec<&Value> = all.iter().filter(|r| r["metadata"]["namespace"] == namespace).collect();
        let said: String = of_it.iter().map(|report| report.to_string()).collect();
        assert!(said.contains(own) && said.contains(workload), "{said}");
        for name in [client, other, scope] {
            assert!(!said.contains(name), "{namespace} reads {name}: {said}");
        }
    }
    for report in &all {
        println!("{} {:?} {}", report["metadata"]["namespace"], rules(report), report["scope"]["name"]);
    }
}

/// Another replica takes over: it knows how the client was registered before, writes no report anew, suspends what
/// changed while nobody led, and takes back what is solved.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_goes_on_where_the_last_one_was() {
    let bed = bed_with(|options| options.provider["driftCheckInterval"] = json!("1s")).await;
    let second = bed.second_operator(&[]).unwrap();
    second.ready(Duration::from_secs(30)).await.unwrap();
    install(&bed, &reports::open_reports().unwrap()).await;
    two_clients(&bed).await;
    let mut pinned = identity("it", "helpdesk", "helpdesk", "helpdesk-oidc");
    pinned["spec"]["onRegistrationChange"] = json!("Suspend");
    apply(&bed, &pinned).await;
    apply(&bed, &identity("it", "workflow-bot", "workflow", "workflow-oidc")).await;
    apply(&bed, &deployment("it", "workflow", &KEYS)).await;
    exclusive(&bed, HELPDESK, "SharedCredential").await;
    let path = format!("{OPEN}/reports");
    let of_it = |all: &[Value]| about(all, "Deployment", "workflow").cloned();
    let written = wait(&bed, &path, "there", |all| of_it(all).is_some()).await;
    let registered = |o: &Value| condition(o, "RegistrationUnchanged")["status"] == "True";
    bed.wait(HELPDESK, "compared", LONG, registered).await.unwrap();
    bed.reason("it", "helpdesk", "Granted").await.unwrap();

    bed.operator.kill();
    let change = json!([{"op": "replace", "path": "/redirect_uris", "value": ["https://elsewhere.example.com/cb"]}]);
    bed.hydra.admin().patch_client("helpdesk", &change).await.unwrap();
    bed.reason("it", "helpdesk", "RegistrationChanged").await.unwrap();
    let changed = |o: &Value| condition(o, "RegistrationUnchanged")["reason"] == "RegistrationChanged";
    bed.wait(HELPDESK, "changed", LONG, changed).await.unwrap();
    exclusive(&bed, HELPDESK, "SharedCredential").await;
    pause(3_000).await;
    let now = list(&bed, &path).await;
    let version = |all: &[Value]| of_it(all).map(|r| r["metadata"]["resourceVersion"].clone());
    assert_eq!(version(&now), version(&written), "it was right, and is not written again");

    apply(&bed, &deployment("it", "workflow", &KEYS[..1])).await;
    exclusive(&bed, HELPDESK, "Exclusive").await;
    wait(&bed, &path, "taken back", |all| of_it(all).is_none()).await;
}
