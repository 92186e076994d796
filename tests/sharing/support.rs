//! Small clusters as text.

use std::collections::BTreeSet;

use clientgrant::grant::Timestamp;
use clientgrant::sharing::read::Reader;
use clientgrant::sharing::{Evaluation, Finding, State, evaluate};
use proptest::prelude::ProptestConfig;

/// So many generated cases, or as many as `CLIENTGRANT_FUZZ_CASES` says.
pub fn cases(usual: u32) -> ProptestConfig {
    let cases = std::env::var("CLIENTGRANT_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// The instant of every evaluation.
pub fn now() -> Timestamp {
    "2026-11-25T00:00:00Z".parse().unwrap()
}

/// Scans texts, each as a file of its own.
pub fn scan_files(files: &[(&str, &str)]) -> Evaluation {
    let mut reader = Reader::default();
    for (name, text) in files {
        reader.add(name, text.as_bytes());
    }
    evaluate(reader.finish(now()), now())
}

/// Scans texts as one stream.
pub fn scan(documents: &[&str]) -> Evaluation {
    scan_files(&[("all.yaml", &documents.join("\n---\n"))])
}

/// Evaluates texts as all that a cluster has.
pub fn scan_cluster(documents: &[&str]) -> Evaluation {
    let mut reader = Reader::default();
    reader.add("all.yaml", documents.join("\n---\n").as_bytes());
    reader.whole();
    evaluate(reader.finish(now()), now())
}

/// The same with a rule that looks only where it is asked for.
pub fn scan_also(rule: &'static str, documents: &[&str]) -> Evaluation {
    let mut reader = Reader::default();
    reader.add("all.yaml", documents.join("\n---\n").as_bytes());
    let mut input = reader.finish(now());
    input.also.insert(rule);
    evaluate(input, now())
}

/// What was found, as `RULE Kind/namespace/name`, in the order of the findings.
pub fn found(evaluation: &Evaluation) -> Vec<String> {
    evaluation.findings.iter().map(|f| format!("{} {}", f.rule, f.subject)).collect()
}

/// The same, without what whole rules cannot tell for want of objects.
pub fn told(evaluation: &Evaluation) -> Vec<String> {
    found(evaluation).into_iter().filter(|f| !f.starts_with("SC-901 Rule/")).collect()
}

/// The same, as a set of what is open.
pub fn open(evaluation: &Evaluation) -> BTreeSet<String> {
    let open = evaluation.findings.iter().filter(|f| f.state == State::Open);
    open.map(|f| format!("{} {}", f.rule, f.subject)).collect()
}

/// The one finding of a rule.
pub fn only<'a>(evaluation: &'a Evaluation, rule: &str) -> &'a Finding {
    let mut of_rule = evaluation.findings.iter().filter(|f| f.rule == rule);
    let one = of_rule.next().unwrap_or_else(|| panic!("no {rule}: {:?}", found(evaluation)));
    assert!(of_rule.next().is_none(), "{rule} twice: {:?}", found(evaluation));
    one
}

/// A ClientIdentity in `shop`; `spec` is flow YAML without its braces, and may be empty.
pub fn identity(client: &str, spec: &str) -> String {
    let comma = if spec.is_empty() { "" } else { ", " };
    format!(
        "apiVersion: clientgrant.dev/v1alpha1\nkind: ClientIdentity\nmetadata: {{name: {client}, namespace: shop}}\n\
         spec: {{providerRef: {{kind: ClusterIdentityProvider, name: corp}}, clientID: {client}{comma}{spec}}}\n"
    )
}

/// A live grant of a client in `shop`.
pub fn grant(client: &str, subject: &str, scopes: &str) -> String {
    grant_until(client, subject, scopes, "2027-02-20T00:00:00Z")
}

/// A grant that ends.
pub fn grant_until(client: &str, subject: &str, scopes: &str, end: &str) -> String {
    format!(
        "apiVersion: clientgrant.dev/v1alpha1\nkind: ClientGrant\nmetadata: {{name: {client}-{subject}, namespace: shop}}\n\
         spec: {{providerRef: {{kind: ClusterIdentityProvider, name: corp}}, clientID: {client}, \
         subject: {{kind: User, id: {subject}}}, basis: SubjectConsent, scopes: [{scopes}], \
         purpose: {{id: test, description: something to test}}, owner: {{team: t, contact: c}}, expiresAt: \"{end}\"}}\n"
    )
}

/// A Deployment in `shop` whose pod's spec is flow YAML without its braces.
pub fn deployment(name: &str, pod: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{template: {{spec: {{{pod}}}}}}}\n"
    )
}

/// A container that gets one key as a variable.
pub fn holds(secret: &str, key: &str) -> String {
    format!(
        "containers: [{{name: main, env: [{{name: X, valueFrom: {{secretKeyRef: {{name: {secret}, key: {key}}}}}}}]}}]"
    )
}

/// The binding of a Secret's key and a Deployment.
pub fn owns(secret: &str, key: &str, workload: &str) -> String {
    format!(
        "credentials: [{{secret: {{name: {secret}, key: {key}}}}}], \
         workloads: [{{apiVersion: apps/v1, kind: Deployment, name: {workload}}}]"
    )
}

/// What docs/sharing.md says.
pub fn document() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sharing.md");
    std::fs::read_to_string(path).unwrap_or_default()
}
