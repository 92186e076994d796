//! SC-304: a credential that nobody holds.

use super::Found;
use crate::sharing::catalogue::Rule;
use crate::sharing::declared::Credential;
use crate::sharing::finding::{Grade, Object, Severity};
use crate::sharing::index::Index;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-304",
    name: "credential-without-holder",
    severity: Severity::Low,
    what: "A declared credential is referred to by no workload.",
    why: "A credential that nobody needs can only be misused.",
    remedy: "Revoke it at the identity provider and delete it.",
    references: &["OWASP NHI1:2025", "OWASP NHI7:2025", "ATT&CK T1078"],
    accepts: true,
    moves: false,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    if !index.complete() || index.lacks_workloads() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for identity in &index.identities {
        for (at, credential) in identity.credentials.iter().enumerate() {
            let Credential::Secret { name, key } = credential else { continue };
            let namespace = &identity.object.namespace;
            let held = index.workloads.iter().any(|w| {
                w.facts.object.namespace == *namespace
                    && w.facts.edges.iter().any(|e| e.secret == *name && e.keys.has(key))
            });
            // Where the kubelet or a driver reads it, or something is delivered that no manifest says, it may be
            // in use.
            let aside = index.workloads.iter().any(|w| {
                let here = w.facts.object.namespace == *namespace;
                here && (w.facts.aside.contains(name)
                    || !w.facts.opaque.is_empty() && w.entitled.contains(&identity.client))
            });
            if held || aside {
                continue;
            }
            let mut found = Found::new(RULE.id, RULE.severity, Grade::Declared, identity.object.clone());
            found.clients.insert(identity.client.clone());
            found.counterparts = vec![Object::new("Secret", namespace.clone(), name.clone())];
            found.evidence.push(Index::declaration(identity, format!("spec.credentials[{at}].secret")));
            all.push(found);
        }
    }
    all
}
