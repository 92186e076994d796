//! SC-203: a client's workload runs as `default`.

use super::Found;
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-203",
    name: "default-serviceaccount-client",
    severity: Severity::Medium,
    what: "A client's workload runs as the ServiceAccount `default`. High if the client is authenticated by it.",
    why: "Every pod of the namespace that says nothing runs as `default` too, and shares the client's identity.",
    remedy: "Make a ServiceAccount for the client, name it in the workload and in the ClientIdentity.",
    references: &["OWASP NHI9:2025", "OWASP NHI5:2025", "ATT&CK T1528", "CIS 5.1.5"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let on_default = index.workloads().filter(|w| w.service_account == "default" && !index.clients_of(w).is_empty());
    on_default
        .map(|workload| {
            let clients = index.clients_of(workload);
            let federated = index.federated_to(&workload.object.namespace, "default");
            let federated = federated.is_some_and(|by_token| !by_token.is_disjoint(clients));
            let severity = if federated { Severity::High } else { Severity::Medium };
            let mut found = Found::new(RULE.id, severity, Grade::Identity, workload.name());
            found.clients.clone_from(clients);
            // Sharing with others is what SC-201 and SC-202 speak about.
            found.own = Some(clients.clone());
            found.evidence.push(workload.evidence("spec.serviceAccountName"));
            found
        })
        .collect()
}
