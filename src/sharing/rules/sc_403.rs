//! SC-403: a credential as a variable.

use std::collections::BTreeMap;

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;
use crate::sharing::workload::Exposure;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-403",
    name: "env-delivered-credential",
    severity: Severity::Low,
    what: "A client's credential is delivered as an environment variable.",
    why: "Variables go to every child process and into crash reports, and keep the old value after a rotation.",
    remedy: "Mount the key as a file.",
    references: &["OWASP NHI2:2025", "ATT&CK T1552.001", "CIS 5.4.1"],
    accepts: true,
    moves: true,
    standard: false,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut all = Vec::new();
    for workload in index.workloads() {
        let mut variables = BTreeMap::<&ClientKey, Vec<&Exposure>>::new();
        for exposure in workload.exposures.iter().filter(|e| e.variable) {
            variables.entry(&exposure.client).or_default().push(exposure);
        }
        for (client, exposures) in variables {
            let grade = exposures.iter().map(|e| e.grade).max().unwrap_or(Grade::Potential);
            let mut found = Found::new(RULE.id, RULE.severity, grade, workload.name());
            found.clients.insert(client.clone());
            found.own = Some(found.clients.clone());
            found.evidence = exposures.iter().map(|e| workload.evidence(&e.path)).collect();
            all.push(found);
        }
    }
    all
}
