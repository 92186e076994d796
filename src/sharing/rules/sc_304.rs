//! SC-304: a credential that nobody holds.

use std::collections::HashSet;

use smol_str::SmolStr;

use super::Found;
use crate::grant::ClientKey;
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
    // Where the kubelet or a driver reads it, it is in use.
    let (mut held, mut aside) = (HashSet::<(&str, &(SmolStr, SmolStr))>::new(), HashSet::<(&str, &str)>::new());
    // Somebody in another namespace may have it.
    let mut abroad = HashSet::<(&str, &str, &str)>::new();
    // Something is delivered to its workloads that no manifest says.
    let mut unsaid = HashSet::<(&str, &ClientKey)>::new();
    for workload in index.workloads() {
        let namespace = workload.object.namespace.as_str();
        held.extend(workload.exposures.iter().filter_map(|e| Some((namespace, e.slot.as_ref()?))));
        aside.extend(workload.templates.iter().flat_map(|t| &t.aside).map(|secret| (namespace, secret.as_str())));
        abroad.extend(workload.elsewhere().map(|of| (of.namespace.as_str(), of.secret.as_str(), of.key.as_str())));
        if workload.is_opaque() {
            unsaid.extend(workload.entitled.iter().map(|client| (namespace, client)));
        }
    }
    let mut all = Vec::new();
    for identity in &index.identities {
        for (at, credential) in identity.credentials.iter().enumerate() {
            let Credential::Secret { name, key } = credential else { continue };
            let namespace = identity.object.namespace.as_str();
            let used = held.contains(&(namespace, &(name.as_str().into(), key.as_str().into())))
                || aside.contains(&(namespace, name));
            let used = used || abroad.contains(&(namespace, name, key));
            if used || unsaid.contains(&(namespace, &identity.client)) {
                continue;
            }
            let mut found = Found::new(RULE.id, RULE.severity, Grade::Declared, identity.object.clone());
            found.clients.insert(identity.client.clone());
            found.counterparts = vec![Object::new("Secret", namespace, name.clone())];
            found.evidence.push(Index::declaration(identity, format!("spec.credentials[{at}].secret")));
            all.push(found);
        }
    }
    all
}
