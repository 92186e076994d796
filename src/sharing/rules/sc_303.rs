//! SC-303: a grant in force, and no workload.

use super::Found;
use crate::sharing::catalogue::Rule;
use crate::sharing::declared::Identity;
use crate::sharing::finding::{Evidence, Grade, Severity};
use crate::sharing::index::{Index, names};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-303",
    name: "grant-without-workload",
    severity: Severity::Medium,
    what: "A grant is in force, and none of the workloads that its client's ClientIdentity names is there.",
    why: "Authority that nobody uses is noticed last when somebody else does.",
    remedy: "Name the workload as it is called now, or delete the grant. A workload scaled to zero is there.",
    references: &["OWASP NHI1:2025", "ATT&CK T1078"],
    accepts: true,
    moves: false,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    if !index.complete() || index.lacks_workloads() {
        return Vec::new();
    }
    let named = |i: &&Identity| !i.workloads.is_empty() || i.service_account.is_some();
    let mut all = Vec::new();
    for grant in index.grants.iter().filter(|g| g.active) {
        let identities: Vec<&Identity> =
            index.identities.iter().filter(|i| i.client == grant.client).filter(named).collect();
        let there = index.workloads.iter().any(|w| identities.iter().any(|i| names(i, &w.facts)));
        if identities.is_empty() || there {
            continue;
        }
        let mut found = Found::new(RULE.id, RULE.severity, Grade::Declared, grant.object.clone());
        found.clients.insert(grant.client.clone());
        found.evidence.push(Evidence {
            path: "spec.clientID".to_owned(),
            place: grant.place.clone(),
            object: grant.object.clone(),
        });
        found.evidence.extend(identities.into_iter().map(|i| {
            Index::declaration(i, if i.workloads.is_empty() { "spec.serviceAccountName" } else { "spec.workloads" })
        }));
        all.push(found);
    }
    all
}
