//! SC-206: the credentials of several owners in one namespace.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::declared::Credential;
use crate::sharing::finding::{Grade, Object, Severity};
use crate::sharing::index::Index;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-206",
    name: "co-located-credentials",
    severity: Severity::Low,
    what: "One namespace has the credentials of two clients, and the grants do not say that one team answers for both.",
    why: "Whoever may make a pod in the namespace gets every Secret of it.",
    remedy: "Give each owner a namespace, or let the grants of both clients name the team that owns them.",
    references: &["OWASP NHI8:2025", "ATT&CK T1552.007", "CIS 5.6.1"],
    accepts: true,
    moves: true,
    standard: false,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut namespaces = BTreeMap::<&str, BTreeSet<ClientKey>>::new();
    for (namespace, _, _, clients) in index.bound() {
        namespaces.entry(namespace).or_default().extend(clients.iter().cloned());
    }
    let apart = namespaces.into_iter().filter(|(_, clients)| index.shared(clients) && !one_team(index, clients));
    apart
        .map(|(namespace, clients)| {
            let mut found =
                Found::new(RULE.id, RULE.severity, Grade::Declared, Object::new("Namespace", "", namespace));
            // An exception stands in the namespace, and names it as if it were in it.
            found.counterparts = vec![Object::new("Namespace", namespace, namespace)];
            for identity in index.identities_in(namespace) {
                let secrets = identity.credentials.iter().enumerate();
                found.evidence.extend(
                    secrets
                        .filter(|(_, c)| matches!(c, Credential::Secret { .. }))
                        .map(|(at, _)| Index::declaration(identity, format!("spec.credentials[{at}].secret"))),
                );
            }
            found.clients = clients;
            found
        })
        .collect()
}

/// Whether every one of the clients has grants, and all of them name one team.
fn one_team(index: &Index, clients: &BTreeSet<ClientKey>) -> bool {
    let teams = |client: &ClientKey| -> BTreeSet<&String> {
        index.clients.get(client).into_iter().flat_map(|c| &c.grants).map(|g| &g.team).collect()
    };
    let teams: BTreeSet<_> = clients.iter().map(teams).collect();
    teams.len() == 1 && teams.iter().all(|of_client| of_client.len() == 1)
}
