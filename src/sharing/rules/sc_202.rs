//! SC-202: one ServiceAccount, many clients.

use std::collections::{BTreeSet, HashMap};

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::declared::Identity;
use crate::sharing::finding::{Grade, Object, Severity};
use crate::sharing::index::Index;
use crate::sharing::workload::Workload;

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
    // Mostly there is one client, of which nothing more has to be known.
    let (mut first, mut accounts) = (HashMap::new(), HashMap::<_, Account<'_>>::new());
    for (account, client) in index.account_clients() {
        let known = *first.entry(account).or_insert(client);
        if known != client {
            accounts.entry(account).or_default().clients.extend([known, client]);
        }
    }
    for workload in index.workloads().filter(|w| !w.uses.is_empty()) {
        let Some(name) = workload.account() else { continue };
        let Some(account) = accounts.get_mut(&(workload.object.namespace.as_str(), name)) else { continue };
        account.workloads.push(workload);
        account.token |= workload.automounts || workload.tokens().any(|token| token.grade > Grade::Potential);
    }
    for identity in &index.identities {
        let Some(name) = &identity.service_account else { continue };
        let key = (identity.object.namespace.as_str(), name.as_str());
        let Some(account) = accounts.get_mut(&key) else { continue };
        account.identities.push(identity);
    }
    for (namespace, name, _) in index.federated() {
        if let Some(account) = accounts.get_mut(&(namespace, name)) {
            account.token = true;
        }
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
