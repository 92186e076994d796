//! SC-307: one client, many applications.

use std::collections::{BTreeMap, BTreeSet};

use super::{Found, together};
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::Severity;
use crate::sharing::index::Index;
use crate::sharing::role::Role;
use crate::sharing::workload::Workload;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-307",
    name: "one-client-many-apps",
    severity: Severity::Medium,
    what: "Workloads of two applications can act as one client, and its ClientIdentity does not list them. Which \
           application a workload belongs to is said by the labels clientgrant.dev/app, app.kubernetes.io/part-of and \
           instance, app.kubernetes.io/name or app. Issuers and verifiers are none.",
    why: "What somebody consented to for one application is done by another, and neither can be cut off alone.",
    remedy: "Register a client for each application, or list in spec.workloads those that share it on purpose.",
    references: &["OWASP NHI9:2025", "ATT&CK T1078"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let ends = |w: &&Workload| index.is_issuer(w) || index.roles.has(Role::Verifier, w);
    let holders = index.workloads().filter(|w| !ends(w)).flat_map(|workload| {
        // What is somebody else's workload is said by SC-301. Exposures are sorted by client.
        let mut clients: Vec<&ClientKey> = workload.exposures.iter().map(|e| &e.client).collect();
        clients.dedup();
        clients.into_iter().filter(|client| workload.uses.contains(*client)).map(move |client| (client, workload))
    });
    let mut all = Vec::new();
    for (client, holders) in together(holders) {
        let Some(subject) = index.identities_of(client).first() else { continue };
        let mut apps = BTreeMap::<String, Vec<&Workload>>::new();
        for holder in holders {
            apps.entry(app(holder)).or_default().push(holder);
        }
        let listed = |w: &&Workload| index.lists(client, w);
        if apps.len() < 2 || apps.values().all(|holders| holders.iter().any(listed)) {
            continue;
        }
        let holders: Vec<&Workload> = apps.into_values().flatten().collect();
        let grade = holders.iter().map(|w| w.grade(&[client.clone()].into())).min();
        let Some(grade) = grade else { continue };
        let mut found = Found::new(RULE.id, RULE.severity, grade, subject.object.clone());
        found.clients.insert(client.clone());
        found.own = Some(BTreeSet::new());
        for holder in holders {
            let exposures = holder.exposures.iter().filter(|e| e.client == *client);
            found.evidence.extend(exposures.map(|e| holder.evidence(&e.path)));
        }
        all.push(found);
    }
    all
}

/// Which application a workload belongs to; without a label it is one of its own.
fn app(workload: &Workload) -> String {
    workload.app().map_or_else(|| workload.object.to_string(), |app| format!("app {app}"))
}
