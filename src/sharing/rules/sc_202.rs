//! SC-202: one ServiceAccount, many clients.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::{Evidence, Grade, Object, Severity};
use crate::sharing::index::Index;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-202",
    name: "serviceaccount-serves-many-clients",
    severity: Severity::High,
    what: "The workloads of two clients run as one ServiceAccount. Medium if none of them gets a token of it and no \
           client is authenticated by it.",
    why: "To Kubernetes, to a vault and to an identity provider that takes its tokens, the two clients are one.",
    remedy: "Give each client a ServiceAccount of its own, with automountServiceAccountToken: false where it needs no token.",
    references: &["OWASP NHI9:2025", "ATT&CK T1528", "CIS 5.1.5", "CIS 5.1.6"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

#[derive(Default)]
struct Account {
    clients: BTreeSet<ClientKey>,
    evidence: Vec<Evidence>,
    token: bool,
}

fn check(index: &Index) -> Vec<Found> {
    let mut accounts = BTreeMap::<(String, String), Account>::new();
    for workload in index.workloads().filter(|w| !w.uses.is_empty()) {
        let name = (workload.object.namespace.clone(), workload.service_account.clone());
        let account = accounts.entry(name).or_default();
        account.clients.extend(workload.uses.iter().cloned());
        account.evidence.push(workload.evidence("spec.serviceAccountName"));
        account.token |= workload.automounts || workload.tokens().next().is_some();
    }
    for identity in &index.identities {
        let Some(name) = &identity.service_account else { continue };
        let account = accounts.entry((identity.object.namespace.clone(), name.clone())).or_default();
        account.clients.insert(identity.client.clone());
        account.evidence.push(Index::declaration(identity, "spec.serviceAccountName"));
    }
    for (namespace, name, clients) in index.federated() {
        let account = accounts.entry((namespace.to_owned(), name.to_owned())).or_default();
        account.clients.extend(clients.iter().cloned());
        account.token = true;
    }
    let shared = accounts.into_iter().filter(|(_, account)| index.shared(&account.clients));
    shared
        .map(|((namespace, name), account)| {
            let severity = if account.token { Severity::High } else { Severity::Medium };
            let subject = Object::new("ServiceAccount", namespace, name);
            let mut found = Found::new(RULE.id, severity, Grade::Identity, subject);
            found.clients = account.clients;
            found.evidence = account.evidence;
            found
        })
        .collect()
}
