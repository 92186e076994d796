//! SARIF logs against the JSON schema of the standard.

use clientgrant::sharing::{Evaluation, sarif};
use jsonschema::Validator;
use serde_json::{Value, json};

use super::support::{deployment, grant, holds, identity, owns, scan, scan_files};

fn faults(schema: &Validator, log: &Value) -> Vec<String> {
    schema.iter_errors(log).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Findings of every state and grade, with and without a place.
fn estates() -> [Evaluation; 4] {
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
        let log: Value = serde_json::from_str(&sarif::log(&evaluation)).unwrap();
        assert_eq!(faults(&schema, &log), Vec::<String>::new());
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
