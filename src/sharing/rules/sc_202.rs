//! SC-202: one ServiceAccount, many clients.

use std::collections::{BTreeSet, HashMap};

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::declared::Identity;
use crate::sharing::finding::{Grade, Object, Severity};
use crate::sharing::index::{Index, Workload};

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
struct Account<'a> {
    clients: BTreeSet<&'a ClientKey>,
    workloads: Vec<&'a Workload>,
    identities: Vec<&'a Identity>,
    token: bool,
}

fn check(index: &Index) -> Vec<Found> {
    let mut accounts = HashMap::<(&str, &str), Account<'_>>::new();
    for workload in index.workloads().filter(|w| !w.uses.is_empty()) {
        let Some(name) = workload.account() else { continue };
        let account = accounts.entry((&workload.object.namespace, name)).or_default();
        account.clients.extend(index.clients_of(workload));
        account.workloads.push(workload);
        account.token |= workload.automounts || workload.tokens().next().is_some();
    }
    for identity in &index.identities {
        let Some(name) = &identity.service_account else { continue };
        let account = accounts.entry((&identity.object.namespace, name)).or_default();
        account.clients.insert(&identity.client);
        account.identities.push(identity);
    }
    for (namespace, name, clients) in index.federated() {
        let account = accounts.entry((namespace, name)).or_default();
        account.clients.extend(clients);
        account.token = true;
    }
    let shared = accounts.into_iter().filter(|(_, account)| index.shared(account.clients.iter().copied()));
    shared
        .map(|((namespace, name), account)| {
            let severity = if account.token { Severity::High } else { Severity::Medium };
            let subject = Object::new("ServiceAccount", namespace, name);
            let mut found = Found::new(RULE.id, severity, Grade::Identity, subject);
            found.clients = account.clients.into_iter().cloned().collect();
            let declared = account.identities.into_iter().map(|i| Index::declaration(i, "spec.serviceAccountName"));
            let workloads = account.workloads.into_iter().map(|w| w.evidence("spec.serviceAccountName"));
            found.evidence = workloads.chain(declared).collect();
            found
        })
        .collect()
}
