//! SC-303: a grant in force, and no workload.

use std::collections::HashSet;
use std::sync::Arc;

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::declared::Identity;
use crate::sharing::finding::{Evidence, Grade, Severity};
use crate::sharing::index::Index;

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
    let named = |i: &&Arc<Identity>| !i.workloads.is_empty() || i.service_account.is_some();
    let there: HashSet<&ClientKey> = index.workloads().flat_map(|w| w.entitled.iter()).collect();
    let mut all = Vec::new();
    for (key, client) in index.clients.iter().filter(|(key, client)| client.active > 0 && !there.contains(key)) {
        let declared = client.identities.iter().filter(named).map(|i| {
            Index::declaration(i, if i.workloads.is_empty() { "spec.serviceAccountName" } else { "spec.workloads" })
        });
        let declared: Vec<Evidence> = declared.collect();
        if declared.is_empty() {
            continue;
        }
        for grant in client.grants.iter().filter(|g| g.active) {
            let mut found = Found::new(RULE.id, RULE.severity, Grade::Declared, grant.object.clone());
            found.clients.insert(key.clone());
            found.evidence.push(Evidence {
                path: "spec.clientID".to_owned(),
                place: grant.place.clone(),
                object: grant.object.clone(),
            });
            found.evidence.extend(declared.iter().cloned());
            all.push(found);
        }
    }
    all
}
