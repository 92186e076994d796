//! What policy reports say, and to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clientgrant::grant::{ClientKey, ProviderKey};
use clientgrant::sharing::facts::KINDS;
use clientgrant::sharing::finding::{BlastRadius, Evidence, Finding, Grade, Object, Place, Severity, State};
use clientgrant::sharing::report::{Report, Reports, View, reports};

fn key(client: &str) -> ClientKey {
    ClientKey { provider: ProviderKey::cluster("corp"), client: Arc::from(client) }
}

fn finding(rule: &'static str, subject: &Object, clients: &[&str]) -> Finding {
    let evidence = |namespace: &str, name: &str| Evidence {
        path: "spec".into(),
        place: Place::default(),
        object: Object::new("Secret", namespace, name),
    };
    Finding {
        rule,
        severity: Severity::High,
        state: State::Open,
        grade: Grade::Direct,
        subject: subject.clone(),
        clients: clients.iter().map(|c| (*c).to_owned()).collect(),
        keys: clients.iter().map(|c| key(c)).collect(),
        evidence: vec![evidence("it", "own-secret"), evidence("finance", "foreign-secret")],
        more_clients: 0,
        blast_radius: BlastRadius { grants: 2, subjects: 371, scopes: 3 },
        gain: vec!["ledger:write".into()],
        remedy: "",
        references: &["OWASP NHI9:2025", "ATT&CK T1528", "CIS 5.1.5", "CIS 5.1.6"],
        justification: None,
    }
}

fn subject(name: &str) -> Object {
    Object::new("Deployment", "it", name)
}

/// `it` speaks about `tickets` and `helpdesk`, `finance` about `ledger`.
fn told(findings: &[Finding], namespaces: &[String]) -> Reports {
    let clients = |ids: &[&str]| ids.iter().map(|id| key(id)).collect::<BTreeSet<_>>();
    let neighbours = BTreeMap::from([
        ("it".to_owned(), clients(&["tickets", "helpdesk"])),
        ("finance".to_owned(), clients(&["ledger"])),
    ]);
    let view = View { neighbours: &neighbours, namespaces };
    reports(findings, view, |object| (object.name != "unknown").then(|| format!("uid-{}", object.name)))
}

fn of<'r>(all: &'r Reports, namespace: &str, name: &str) -> &'r Report {
    &all[&(namespace.to_owned(), name.to_owned())]
}

/// A viewer finds the object by its version, of every kind that can be the subject.
#[test]
fn every_kind_is_named_as_the_cluster_has_it() {
    for kind in KINDS {
        let all = told(&[finding("SC-201", &Object::new(kind.kind, "it", "a"), &["ledger", "tickets"])], &[]);
        let report = of(&all, "it", "sc-uid-a");
        assert_eq!(report.scope.as_ref().unwrap().api_version, kind.resource().api_version, "{}", kind.kind);
    }
}

#[test]
fn a_namespace_reads_its_own_names_and_counts_of_others() {
    let all = told(&[finding("SC-201", &subject("a"), &["ledger", "tickets"])], &[]);
    let (here, whole) = (of(&all, "it", "sc-uid-a"), of(&all, "", "clientgrant-sc-201"));
    assert_eq!(all.len(), 2);
    let text = serde_json::to_string(here).unwrap();
    for foreign in ["ledger", "finance", "foreign-secret"] {
        assert!(!text.contains(foreign), "{foreign}: {text}");
    }
    let result = &here.results[0];
    assert_eq!(result.properties["clients"], "tickets");
    assert_eq!((&*result.properties["others-elsewhere"], &*result.properties["objects-elsewhere"]), ("1", "1"));
    assert_eq!((&*result.properties["gain"], &*result.properties["users"]), ("1 scopes", "371"));
    assert_eq!((&*result.category, &*result.properties["cis"]), ("NHI9:2025", "5.1.5,5.1.6"));
    assert!(text.contains("own-secret"), "{text}");
    assert_eq!(here.owner().and_then(|owner| owner.uid.as_deref()), Some("uid-a"));
    let text = serde_json::to_string(whole).unwrap();
    for name in ["ledger, tickets", "foreign-secret", "own-secret", "ledger:write"] {
        assert!(text.contains(name), "{name}: {text}");
    }
    // What is all of the namespace is named.
    let all = told(&[finding("SC-201", &subject("a"), &["helpdesk", "tickets"])], &[]);
    assert_eq!(of(&all, "it", "sc-uid-a").results[0].properties["gain"], "ledger:write");
}

#[test]
fn what_fails_what_warns_and_what_is_skipped() {
    use Grade::{Declared, Direct, Identity, Potential, Reachable};
    use Severity::{Critical, High, Info, Low, Medium};
    for (severity, grade, state, result) in [
        (Critical, Direct, State::Open, "fail"),
        (Medium, Declared, State::Open, "fail"),
        (High, Identity, State::Open, "fail"),
        (Critical, Reachable, State::Open, "warn"),
        (Critical, Potential, State::Open, "warn"),
        (Low, Direct, State::Open, "warn"),
        (Info, Direct, State::Open, "warn"),
        (Critical, Direct, State::Suppressed, "skip"),
        (High, Direct, State::NotEvaluable, "skip"),
    ] {
        let one = Finding { severity, grade, state, ..finding("SC-201", &subject("a"), &["tickets"]) };
        let all = told(&[one], &[]);
        let whole = of(&all, "", "clientgrant-sc-201");
        assert_eq!(whole.results[0].result, result, "{severity:?} {grade:?} {state:?}");
        let sums = (whole.summary.fail, whole.summary.warn, whole.summary.skip);
        let one = |word: &str| usize::from(word == result);
        assert_eq!(sums, (one("fail"), one("warn"), one("skip")));
        // What cannot be told makes no report of a subject.
        assert_eq!(all.len(), if state == State::NotEvaluable { 1 } else { 2 });
    }
}

#[test]
fn where_reports_are() {
    let cluster = Object::new("Client", "", "tickets");
    let found = [finding("SC-307", &cluster, &["tickets"]), finding("SC-201", &subject("unknown"), &["tickets"])];
    let all = told(&found, &[]);
    let names: Vec<&str> = all.keys().filter(|name| name.0.is_empty()).map(|name| &*name.1).collect();
    assert_eq!(names, ["clientgrant-sc-201", "clientgrant-sc-307"]);
    let unknown: Vec<&Report> = all.iter().filter(|(name, _)| name.0 == "it").map(|(_, report)| report).collect();
    assert!(unknown.len() == 1 && unknown[0].owner().is_none(), "nothing owns what has no UID");
    // Of some namespaces only, nothing is of the cluster.
    let all = told(&found, &["it".to_owned()]);
    assert_eq!(all.keys().map(|name| &*name.0).collect::<Vec<_>>(), ["it"]);
    assert!(told(&found, &["finance".to_owned()]).is_empty() && told(&[], &[]).is_empty());
}

#[test]
fn many_results_are_in_many_reports_and_order_does_not_matter() {
    let mut found: Vec<Finding> =
        (0..1001).map(|i| finding("SC-201", &subject(&format!("w{i:04}")), &["tickets"])).collect();
    let all = told(&found, &[]);
    let sizes: Vec<usize> =
        ["", "-2", "-3"].iter().map(|end| of(&all, "", &format!("clientgrant-sc-201{end}")).results.len()).collect();
    assert_eq!(sizes, [500, 500, 1]);
    assert_eq!(all.len(), 1001 + 3);
    found.reverse();
    assert_eq!(told(&found, &[]), all);
    // Long lists are cut, with a count.
    let ids: Vec<String> = (0..20).map(|i| format!("client-{i:02}")).collect();
    let all = told(&[finding("SC-201", &subject("a"), &ids.iter().map(String::as_str).collect::<Vec<_>>())], &[]);
    let result = &of(&all, "", "clientgrant-sc-201").results[0];
    assert!(result.properties["clients"].ends_with("client-07, +12 more"), "{:?}", result.properties);
    assert!(result.message.chars().count() <= 320 && result.message.contains("+12 more"));
    let text = serde_json::to_value(&result.properties).unwrap();
    assert!(text.as_object().unwrap().values().all(serde_json::Value::is_string));
}
