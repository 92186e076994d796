//! SARIF 2.1.0, as code hosts show it beside the lines of a change.

use serde_json::{Value, json};

use super::catalogue;
use super::finding::{Evaluation, Evidence, Finding, Severity, State};
use crate::hex;

/// A SARIF log with one run.
#[must_use]
pub fn log(evaluation: &Evaluation) -> String {
    let rules: Vec<Value> = catalogue::ALL
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "name": rule.name,
                "shortDescription": { "text": rule.what },
                "fullDescription": { "text": rule.why },
                "help": { "text": rule.remedy },
                "defaultConfiguration": { "level": level(rule.severity) },
                "properties": { "tags": rule.references },
            })
        })
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "clientgrant", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "results": evaluation.findings.iter().map(result).collect::<Vec<_>>(),
        }],
    });
    format!("{log:#}\n")
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "note",
    }
}

fn result(finding: &Finding) -> Value {
    let unknown = finding.state == State::NotEvaluable;
    let about = if finding.clients.is_empty() { String::new() } else { format!(" ({})", finding.clients.join(", ")) };
    let rule = catalogue::find(finding.rule);
    let what = rule.map_or(finding.rule, |rule| rule.what);
    let radius = &finding.blast_radius;
    let mut result = json!({
        "ruleId": finding.rule,
        "ruleIndex": catalogue::ALL.iter().position(|r| r.id == finding.rule).unwrap_or_default(),
        // Without a verdict there is no level (SARIF 2.1.0, section 3.27.10).
        "kind": if unknown { "open" } else { "fail" },
        "level": if unknown { "none" } else { level(finding.severity) },
        "message": { "text": format!("{}{about}: {what}", finding.subject) },
        "partialFingerprints": { "sc/v1": fingerprint(finding) },
        "properties": {
            "severity": finding.severity.name(),
            "gain": finding.gain,
            "blastRadius": { "grants": radius.grants, "subjects": radius.subjects, "scopes": radius.scopes },
        },
    });
    let mut locations = finding.evidence.iter().map(location);
    result["locations"] = locations.next().into_iter().collect();
    result["relatedLocations"] = locations.collect();
    if finding.state == State::Suppressed {
        let why = finding.justification.clone().unwrap_or_default();
        result["suppressions"] = json!([{ "kind": "external", "status": "accepted", "justification": why }]);
    }
    result
}

/// The same finding has the same print in every run, and nothing in it comes from a value.
fn fingerprint(finding: &Finding) -> String {
    let clients = if finding.clients.len() == 1 { finding.clients.join("") } else { String::new() };
    let text = format!("{}\n{}\n{clients}", finding.rule, finding.subject);
    hex::digest(&text, 32)
}

fn location(evidence: &Evidence) -> Value {
    let name = format!("{} {}", evidence.object, evidence.path);
    let mut location = json!({ "logicalLocations": [{ "fullyQualifiedName": name, "kind": "resource" }] });
    let file = evidence.place.file.as_str();
    if !file.is_empty() && file != "-" {
        location["physicalLocation"] = json!({
            "artifactLocation": { "uri": uri(file) },
            "region": { "startLine": evidence.place.line.max(1) },
        });
    }
    location
}

/// A path as a URI reference: what is special there is written out.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.trim_start_matches("./").bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~+@=,".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}
