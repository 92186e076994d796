//! SC-207: one Secret with the credentials of many clients, delivered whole.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;
use crate::sharing::workload::Exposure;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-207",
    name: "bundled-secret",
    severity: Severity::Medium,
    what: "One Secret has the credentials of two clients, and a workload receives all of its keys.",
    why: "The workload gets credentials that it does not need, and every key that is added later.",
    remedy: "Deliver single keys (items, subPath, secretKeyRef), or split the Secret.",
    references: &["OWASP NHI5:2025", "OWASP NHI9:2025", "ATT&CK T1552.001", "CIS 5.4.1"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut all = Vec::new();
    for workload in index.workloads().filter(|w| !index.is_issuer(w)) {
        let mut secrets = BTreeMap::<&str, Vec<&Exposure>>::new();
        for exposure in workload.exposures.iter().filter(|e| e.whole) {
            if let Some((secret, _)) = &exposure.slot {
                secrets.entry(secret).or_default().push(exposure);
            }
        }
        for exposures in secrets.into_values() {
            let clients: BTreeSet<ClientKey> = exposures.iter().map(|e| e.client.clone()).collect();
            let keys: BTreeSet<_> = exposures.iter().map(|e| &e.slot).collect();
            // Two clients on one key are SC-101.
            if keys.len() < 2 || !index.shared(&clients) {
                continue;
            }
            let grade = exposures.iter().map(|e| e.grade).max().unwrap_or(Grade::Potential);
            let mut found = Found::new(RULE.id, RULE.severity, grade, workload.name());
            found.evidence = exposures.iter().map(|e| workload.evidence(&e.path)).collect();
            found.own = workload.own(index, &clients);
            found.clients = clients;
            all.push(found);
        }
    }
    all
}
