//! SC-301: somebody else's workload holds the credential.

use std::collections::BTreeMap;

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;
use crate::sharing::workload::Exposure;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-301",
    name: "foreign-holder",
    severity: Severity::High,
    what: "A workload receives the credential of a client whose ClientIdentity names other workloads, or gets tokens of the \
           ServiceAccount that authenticate the client. Of an issuer nothing is said.",
    why: "The workload can act as the client, and nobody who approved the client knew of it.",
    remedy: "Remove the reference, run it as a ServiceAccount of its own, or name the workload in the ClientIdentity.",
    references: &["OWASP NHI9:2025", "OWASP NHI5:2025", "ATT&CK T1552.001", "CIS 5.1.2"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut all = Vec::new();
    for workload in index.workloads().filter(|w| !index.is_issuer(w)) {
        let mut foreign = BTreeMap::<&ClientKey, Vec<&Exposure>>::new();
        for exposure in workload.exposures.iter().filter(|e| !workload.uses.contains(&e.client)) {
            // A family is one product: its workloads may hold one another's credentials.
            if !workload.entitled.iter().any(|own| index.related(own, &exposure.client)) {
                foreign.entry(&exposure.client).or_default().push(exposure);
            }
        }
        for (client, exposures) in foreign {
            let grade = exposures.iter().map(|e| e.grade).max().unwrap_or(Grade::Potential);
            let mut found = Found::new(RULE.id, RULE.severity, grade, workload.name());
            found.clients.insert(client.clone());
            found.own = Some((*workload.entitled).clone());
            found.evidence = exposures.iter().map(|e| workload.evidence(&e.path)).collect();
            let of_client = index.identities_of(client).iter();
            found.evidence.extend(of_client.map(|i| {
                Index::declaration(i, if i.workloads.is_empty() { "spec.serviceAccountName" } else { "spec.workloads" })
            }));
            all.push(found);
        }
    }
    all
}
