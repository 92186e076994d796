//! SC-302: a credential in use, and no grant in force.

use std::collections::BTreeMap;

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;
use crate::sharing::workload::Exposure;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-302",
    name: "use-without-active-grant",
    severity: Severity::High,
    what: "A workload receives the credential of a client that has no grant in force.",
    why: "Access that nobody declares any more is still one login away.",
    remedy: "Renew the grant, or take the credential from the workload. A client that acts for itself has a grant with \
             basis ClientOwn.",
    references: &["OWASP NHI1:2025", "OWASP NHI9:2025", "ATT&CK T1078"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    // Files without any grant were not meant to show them: SC-901 says so.
    if !index.complete() || index.lacks_grants() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for workload in index.workloads().filter(|w| !index.is_issuer(w)) {
        let mut used = BTreeMap::<&ClientKey, Vec<&Exposure>>::new();
        for exposure in &workload.exposures {
            if index.clients.get(&exposure.client).is_none_or(|c| c.active == 0) {
                used.entry(&exposure.client).or_default().push(exposure);
            }
        }
        for (client, exposures) in used {
            let grade = exposures.iter().map(|e| e.grade).max().unwrap_or(Grade::Potential);
            let mut found = Found::new(RULE.id, RULE.severity, grade, workload.name());
            found.clients.insert(client.clone());
            found.evidence = exposures.iter().map(|e| workload.evidence(&e.path)).collect();
            let ended = index.clients.get(client).into_iter().flat_map(|c| &c.grants);
            found.evidence.extend(ended.map(|g| crate::sharing::Evidence {
                path: "spec.expiresAt".to_owned(),
                place: g.place.clone(),
                object: g.object.clone(),
            }));
            all.push(found);
        }
    }
    all
}
