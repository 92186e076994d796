//! SC-304: a credential that nobody holds.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::declared::Credential;
use crate::sharing::facts::Keys;
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
    // Who refers to it: with which keys, or without a container that has it.
    let mut referred = BTreeMap::<(&str, &str), (Vec<&Keys>, bool)>::new();
    // Something is delivered to its workloads that no manifest says.
    let mut unsaid = BTreeSet::<(&str, &ClientKey)>::new();
    for workload in index.workloads() {
        let namespace = workload.object.namespace.as_str();
        for edge in workload.edges() {
            referred.entry((namespace, &edge.secret)).or_default().0.push(&edge.keys);
        }
        for secret in workload.templates.iter().flat_map(|t| &t.aside) {
            referred.entry((namespace, secret)).or_default().1 = true;
        }
        if !workload.opaque().is_empty() {
            unsaid.extend(workload.entitled.iter().map(|client| (namespace, client)));
        }
    }
    let mut all = Vec::new();
    for identity in &index.identities {
        for (at, credential) in identity.credentials.iter().enumerate() {
            let Credential::Secret { name, key } = credential else { continue };
            let namespace = identity.object.namespace.as_str();
            // Where the kubelet or a driver reads it, it is in use.
            let used = |(keys, aside): &(Vec<&Keys>, bool)| *aside || keys.iter().any(|keys| keys.has(key));
            if referred.get(&(namespace, name)).is_some_and(used) || unsaid.contains(&(namespace, &identity.client)) {
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
