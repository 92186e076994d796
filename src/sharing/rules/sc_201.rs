//! SC-201: one workload, many clients.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::Severity;
use crate::sharing::index::Index;
use crate::sharing::role::Role;
use crate::sharing::workload::Workload;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-201",
    name: "workload-holds-many-clients",
    severity: Severity::High,
    what: "The pods of one workload receive the credentials of two clients, or one custom resource names them. Medium if \
           they are in separate containers that do not share a process namespace (an ephemeral container shares that of its \
           targetContainerName), info if it has the role broker; of an issuer nothing is said.",
    why: "Whoever breaks into the workload can act as each of these clients, for everybody who consented to any of them.",
    remedy: "Split the workload so that each client has one of its own, or use token exchange.",
    references: &["OWASP NHI9:2025", "OWASP NHI5:2025", "ATT&CK T1552.001", "CIS 5.4.1"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut all = Vec::new();
    for workload in index.workloads() {
        if !index.shared(workload.exposures.iter().map(|e| &e.client)) || index.is_issuer(workload) {
            continue;
        }
        let clients: BTreeSet<ClientKey> = workload.exposures.iter().map(|e| e.client.clone()).collect();
        let severity = match together(index, workload) {
            _ if index.roles.has(Role::Broker, workload) => Severity::Info,
            true => Severity::High,
            false => Severity::Medium,
        };
        let mut found = Found::new(RULE.id, severity, workload.grade(&clients), workload.name());
        found.evidence = workload.exposures.iter().map(|e| workload.evidence(&e.path)).collect();
        found.own = workload.own(index, &clients);
        found.clients = clients;
        all.push(found);
    }
    all
}

/// Whether one container has the credentials of two families, or can look into one that has.
fn together(index: &Index, workload: &Workload) -> bool {
    if workload.templates.iter().any(|t| t.shares_processes) {
        return true;
    }
    let mut by_container = BTreeMap::<Option<&str>, BTreeSet<ClientKey>>::new();
    for exposure in &workload.exposures {
        by_container.entry(exposure.container.as_deref()).or_default().insert(exposure.client.clone());
    }
    let everywhere = by_container.get(&None).cloned().unwrap_or_default();
    by_container.values().any(|clients| index.shared(clients.union(&everywhere)))
}
