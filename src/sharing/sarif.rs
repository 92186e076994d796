//! SARIF 2.1.0, as code hosts show it beside the lines of a change.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::catalogue;
use super::finding::{Evaluation, Finding, Place, Severity, State};
use crate::hex;

/// What stands for a file where nothing was read from one.
const CLUSTER: &str = "cluster";
/// The same for standard input.
const INPUT: &str = "stdin";

/// A SARIF log with one run. Code hosts refuse a log that has a result without a file: what stands in none is shown
/// at the begin of `first`, the file that was read first; empty: none was.
#[must_use]
pub fn log(evaluation: &Evaluation, first: &str) -> String {
    let mut prints = BTreeMap::<String, usize>::new();
    let results: Vec<Value> = evaluation
        .findings
        .iter()
        .map(|finding| {
            let print = fingerprint(finding);
            let times = prints.entry(print.clone()).or_default();
            *times += 1;
            // A rule may find two things of one subject.
            result(finding, first, if *times == 1 { print } else { hex::digest(&format!("{print}\n{times}"), 32) })
        })
        .collect();
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
            "results": results,
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

fn result(finding: &Finding, first: &str, print: String) -> Value {
    let unknown = finding.state == State::NotEvaluable;
    let more = if finding.more_clients == 0 { String::new() } else { format!(" and {} more", finding.more_clients) };
    let about =
        if finding.clients.is_empty() { String::new() } else { format!(" ({}{more})", finding.clients.join(", ")) };
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
        "partialFingerprints": { "sc/v1": print },
        "properties": {
            "severity": finding.severity.name(),
            "gain": finding.gain,
            "blastRadius": { "grants": radius.grants, "subjects": radius.subjects, "scopes": radius.scopes },
        },
    });
    let (nowhere, subject) = (Place::default(), finding.subject.to_string());
    let mut locations = finding.evidence.iter().map(|e| location(&format!("{} {}", e.object, e.path), &e.place, first));
    result["locations"] = json!([locations.next().unwrap_or_else(|| location(&subject, &nowhere, first))]);
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

fn location(name: &str, place: &Place, first: &str) -> Value {
    let (file, line) = if place.file.is_empty() { (first, 1) } else { (place.file.as_str(), place.line.max(1)) };
    let uri = match file {
        "" => CLUSTER.to_owned(),
        "-" => INPUT.to_owned(),
        file => uri(file),
    };
    json!({
        "logicalLocations": [{ "fullyQualifiedName": name, "kind": "resource" }],
        "physicalLocation": { "artifactLocation": { "uri": uri }, "region": { "startLine": line } },
    })
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
