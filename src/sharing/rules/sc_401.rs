//! SC-401: a literal where a client's credential would be.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::Found;
use crate::sharing::catalogue::Rule;
use crate::sharing::facts::{Literal, Meaning};
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-401",
    name: "literal-credential",
    severity: Severity::Low,
    what: "A variable or an argument that is named as a client's credential has a literal, in a workload of a client; or \
           a key of a ConfigMap has one that it receives. Medium if the container has the id of a declared client beside \
           it. Of a ConfigMap that was not read the name of the variable counts, as potential. What a literal says is not \
           looked at further and never printed.",
    why: "Whoever may read pods, ConfigMaps or the repository has the credential; it cannot be rotated without a rollout.",
    remedy: "Move it to a Secret or to federation, and rotate it.",
    references: &["OWASP NHI2:2025", "ATT&CK T1552.001", "CIS 5.4.1"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut all = Vec::new();
    for workload in index.workloads() {
        let mut ids = BTreeMap::<&SmolStr, Vec<&SmolStr>>::new();
        let literals = workload.literals();
        for literal in &literals {
            if let Meaning::ClientId(client) = &literal.means {
                ids.entry(&literal.container).or_default().push(client);
            }
        }
        let (mut found, mut worst) = (Found::new(RULE.id, RULE.severity, Grade::Potential, workload.name()), None);
        for literal in &literals {
            let Literal { means: Meaning::Credential, container, path, grade } = literal else { continue };
            let beside = ids.get(container).into_iter().flatten();
            // The id says which client; only a client of the same namespace is known to be meant.
            let clients: std::collections::BTreeSet<_> = beside
                .flat_map(|id| {
                    let here = index.identities_in(&workload.object.namespace);
                    here.iter().filter(move |i| *i.client.client == ***id)
                })
                .map(|i| i.client.clone())
                .collect();
            let severity = if clients.is_empty() { RULE.severity } else { Severity::Medium };
            let clients = if clients.is_empty() { (*workload.uses).clone() } else { clients };
            if clients.is_empty() {
                continue;
            }
            // As bad as the worst, when what is only potential was taken off.
            let counts = severity.moved(-i32::from(*grade == Grade::Potential));
            worst = worst.max(Some((counts, *grade, severity)));
            found.clients.extend(clients);
            found.evidence.push(workload.evidence(path));
        }
        if let Some((_, grade, severity)) = worst {
            (found.severity, found.grade) = (severity, grade);
            found.own = Some(found.clients.clone());
            // Each literal is its client's own matter.
            found.alone = true;
            all.push(found);
        }
    }
    all
}
