//! SARIF logs against the JSON schema of the standard.

use clientgrant::sharing::{Evaluation, sarif};
use jsonschema::Validator;
use serde_json::{Value, json};

use super::support::{deployment, grant, holds, identity, owns, scan, scan_files};

fn faults(schema: &Validator, log: &Value) -> Vec<String> {
    schema.iter_errors(log).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Findings of every state and grade, with and without a place.
fn estates() -> [Evaluation; 6] {
    let accepted = "sharing: {exceptions: [{rule: SC-301, with: [{kind: Deployment, name: thief}], \
                    reason: moves away with SEC-412, expiresAt: \"2027-01-01T00:00:00Z\"}]}";
    let client = identity("a", &format!("{accepted}, {}", owns("s", "k", "w")));
    let (owner, thief) = (deployment("w", &holds("s", "k")), deployment("thief", &holds("s", "k")));
    let both = "containers: [{name: m, envFrom: [{secretRef: {name: s}}, {secretRef: {name: t, optional: true}}]}]";
    let other = identity("b", &owns("t", "k", "both"));
    [
        scan(&[]),
        scan(&[&client, &owner, &thief, &other, &deployment("both", both), &grant("a", "ann", "x")]),
        scan_files(&[("a dir/ü#?.yaml", &client), ("-", &thief), ("broken.yaml", "a: [")]),
        scan(&[&identity("b", "")]),
        // In standard input; of a cluster.
        scan_files(&[("-", &[&*client, &owner, &thief].join("---\n"))]),
        scan_files(&[("", &[&*client, &owner, &thief].join("---\n"))]),
    ]
}

#[test]
fn logs_are_what_the_standard_says() {
    let schema = clientgrant_testbed::sarif::schema().expect("the schema is there");
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["title"], "Static Analysis Results Format (SARIF) Version 2.1.0 JSON Schema");
    let schema = jsonschema::validator_for(&schema).unwrap();
    let mut states = std::collections::BTreeSet::new();
    for evaluation in estates() {
        states.extend(evaluation.findings.iter().map(|f| f.state.name()));
        let log: Value = serde_json::from_str(&sarif::log(&evaluation, "all.yaml")).unwrap();
        assert_eq!(faults(&schema, &log), Vec::<String>::new());
        everything_has_a_place(&log);
        // It is strict: the same log with one thing wrong is refused.
        for (pointer, wrong) in [
            ("/version", json!("2.0.0")),
            ("/runs/0/tool/driver", json!({})),
            ("/runs/0/results/0/level", json!("high")),
            ("/runs/0/results/0/kind", json!("found")),
            ("/runs/0/results/0/suppressions", json!([{"kind": "somewhere"}])),
            ("/runs/0/results/0/locations/0/physicalLocation/region/startLine", json!(0)),
            ("/runs/0/results/0/unknown", json!(1)),
        ] {
            let mut broken = log.clone();
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            let Some(parent) = broken.pointer_mut(parent).and_then(Value::as_object_mut) else { continue };
            parent.insert(field.to_owned(), wrong);
            assert!(!faults(&schema, &broken).is_empty(), "{pointer}");
        }
    }
    assert_eq!(states.into_iter().collect::<Vec<_>>(), ["notEvaluable", "open", "suppressed"]);
}

/// Code hosts refuse a log of which one result has no file.
fn everything_has_a_place(log: &Value) {
    let results = log["runs"][0]["results"].as_array().unwrap();
    let mut prints = std::collections::BTreeSet::new();
    for result in results {
        assert_eq!(result["locations"].as_array().map(Vec::len), Some(1), "{result}");
        let related = result["relatedLocations"].as_array().unwrap();
        for location in result["locations"].as_array().unwrap().iter().chain(related) {
            let place = &location["physicalLocation"];
            let uri = place["artifactLocation"]["uri"].as_str().unwrap_or_default();
            assert!(!uri.is_empty() && uri != "-", "{location}");
            assert!(place["region"]["startLine"].as_u64() >= Some(1), "{location}");
        }
        assert!(prints.insert(result["partialFingerprints"]["sc/v1"].as_str().unwrap()), "{result}");
    }
}

#[test]
fn what_stands_in_no_file_has_a_place() {
    let places = |evaluation: &Evaluation, first: &str| {
        let log: Value = serde_json::from_str(&sarif::log(evaluation, first)).unwrap();
        everything_has_a_place(&log);
        let of = |rule: &str| {
            let results = log["runs"][0]["results"].as_array().unwrap();
            let place = &results.iter().find(|r| r["ruleId"] == rule).unwrap()["locations"][0]["physicalLocation"];
            let line = place["region"]["startLine"].as_u64().unwrap();
            (place["artifactLocation"]["uri"].as_str().unwrap().to_owned(), line)
        };
        (of("SC-301"), of("SC-901"))
    };
    let text = [identity("a", &owns("s", "k", "w")), deployment("thief", &holds("s", "k"))].join("---\n");
    let of_file = |name: &str| places(&scan_files(&[(name, &text)]), name);
    let at = |name: &str| ((name.to_owned(), 1), (name.to_owned(), 1));
    // A finding may have nothing to show but its subject.
    let mut bare = scan_files(&[("a.yaml", &text)]);
    bare.findings.iter_mut().for_each(|finding| finding.evidence.clear());
    assert_eq!(places(&bare, "a.yaml"), at("a.yaml"));
    // What whole rules cannot tell is shown where reading began.
    assert_eq!(of_file("a.yaml").1, at("a.yaml").1);
    assert_eq!(of_file("-").1, at("stdin").1);
    assert_eq!(of_file(""), at("cluster"));
    assert_eq!((of_file("-").0.0, of_file("-").0.1 > 1), ("stdin".to_owned(), true));
}

/// Two findings of one rule about one subject are two, in every run the same.
#[test]
fn prints_tell_findings_apart() {
    let slots = "credentials: [{secret: {name: s, key: k}}, {secret: {name: t, key: k}}]";
    let evaluation = scan(&[&identity("a", slots), &identity("b", slots)]);
    let log = || -> Value { serde_json::from_str(&sarif::log(&evaluation, "all.yaml")).unwrap() };
    everything_has_a_place(&log());
    let prints = |rule: &str| -> Vec<String> {
        let log = log();
        let results = log["runs"][0]["results"].as_array().unwrap().iter().filter(|r| r["ruleId"] == rule);
        results.map(|r| r["partialFingerprints"]["sc/v1"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((prints("SC-101").len(), prints("SC-101")), (4, prints("SC-101")));
}
