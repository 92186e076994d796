//! Whose job it is: what is not said of them, and what is said all the same.

use std::collections::BTreeMap;

use clientgrant::sharing::read::Reader;
use clientgrant::sharing::role::Appointed;
use clientgrant::sharing::{Severity, evaluate};

use super::support::{deployment, identity, now};

/// Rule and subject of what is found of these documents, with who has which job.
fn found(documents: &[String], roles: &[&str]) -> BTreeMap<String, Severity> {
    let mut reader = Reader::default();
    reader.add("all.yaml", documents.join("---\n").as_bytes());
    reader.whole();
    let mut input = reader.finish(now());
    input.roles = roles.iter().map(|role| role.parse::<Appointed>().unwrap()).collect();
    let findings = evaluate(input, now()).findings.into_iter().filter(|f| f.rule != "SC-901");
    findings.map(|f| (format!("{} {}", f.rule, f.subject), f.severity)).collect()
}

/// Two clients, each with a key of one Secret, and a workload `hub` that receives all of it.
fn hub(more: &str) -> Vec<String> {
    let one =
        |client: &str| identity(client, &format!("credentials: [{{secret: {{name: all, key: {client}}}}}]{more}"));
    let pod = "serviceAccountName: hub, containers: [{name: m, envFrom: [{secretRef: {name: all}}]}]";
    vec![one("a"), one("b"), deployment("hub", pod)]
}

const HOLDER: [&str; 4] = [
    "SC-201 Deployment/shop/hub",
    "SC-202 ServiceAccount/shop/hub",
    "SC-207 Deployment/shop/hub",
    "SC-302 Deployment/shop/hub",
];

#[test]
fn of_an_issuer_nothing_is_said_that_follows_from_its_job() {
    let names = |found: &BTreeMap<String, Severity>| found.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found(&hub(""), &[])), HOLDER);
    for issuer in ["issuer=shop/hub", "issuer=shop/Deployment/hub"] {
        assert_eq!(names(&found(&hub(""), &[issuer])), [""; 0], "{issuer}");
    }
    for other in ["issuer=shop/Deployment/other", "issuer=till/hub", "verifier=shop/hub", "platform=shop/hub"] {
        assert_eq!(names(&found(&hub(""), &[other])), HOLDER, "{other}");
    }
    // Where the clients name others it is a foreign holder.
    let named = hub(", serviceAccountName: own");
    let foreign = "SC-301 Deployment/shop/hub".to_owned();
    assert!(found(&named, &[]).contains_key(&foreign));
    assert!(!found(&named, &["issuer=shop/hub"]).contains_key(&foreign));
    // What is its own is judged like anybody's, and what two clients share stays shared.
    let own = hub(", serviceAccountName: hub");
    assert!(found(&own, &["issuer=shop/hub"]).contains_key("SC-202 ServiceAccount/shop/hub"));
    let one = |client: &str| identity(client, "credentials: [{secret: {name: all, key: k}}]");
    let shared = [one("a"), one("b")];
    assert!(found(&shared, &["issuer=shop/hub"]).contains_key("SC-101 ClientIdentity/shop/a"));
    let on_default = vec![one("a"), deployment("hub", "containers: [{name: m, envFrom: [{secretRef: {name: all}}]}]")];
    assert!(found(&on_default, &[]).contains_key("SC-203 Deployment/shop/hub"));
    assert!(!found(&on_default, &["issuer=shop/default"]).contains_key("SC-203 Deployment/shop/hub"));
}

#[test]
fn a_broker_is_shown_as_info() {
    let severity = |roles: &[&str]| found(&hub(""), roles).get(HOLDER[0]).copied();
    assert_eq!(severity(&[]), Some(Severity::High));
    assert_eq!(severity(&["broker=shop/hub"]), Some(Severity::Info));
    assert_eq!(severity(&["broker=shop/Deployment/hub"]), Some(Severity::Info));
    assert_eq!(severity(&["broker=shop/StatefulSet/hub"]), Some(Severity::High));
}

/// A server and its caller have one secret.
#[test]
fn a_verifier_is_no_further_application() {
    let pod =
        |n: &str| format!("serviceAccountName: {n}, containers: [{{name: m, envFrom: [{{secretRef: {{name: s}}}}]}}]");
    let all = vec![
        identity("a", "credentials: [{secret: {name: s, key: k}}]"),
        deployment("app", &pod("app")),
        deployment("db", &pod("db")),
    ];
    let said = |roles: &[&str]| found(&all, roles).contains_key("SC-307 ClientIdentity/shop/a");
    assert!(said(&[]) && said(&["verifier=shop/other"]));
    assert!(!said(&["verifier=shop/db"]) && !said(&["issuer=shop/Deployment/db"]));
}

#[test]
fn a_job_is_said_in_one_form() {
    for good in ["issuer=a/b", "verifier=a/Deployment/b", "broker=a/StatefulSet/b", "platform=a/b"] {
        assert!(good.parse::<Appointed>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "issuer",
        "issuer=",
        "issuer=a",
        "owner=a/b",
        "issuer=a/",
        "issuer=/b",
        "issuer=a/b/c/d",
        "issuer=a//b",
        "Issuer=a/b",
    ] {
        let why = bad.parse::<Appointed>().unwrap_err();
        assert!(why.contains("platform=cert-manager/cert-manager"), "{bad}: {why}");
    }
    let why = "platform=a/Deployment/b".parse::<Appointed>().unwrap_err();
    assert!(why.contains("NAMESPACE/NAME"), "{why}");
}
