//! SC-307: one client, many applications.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use crate::sharing::catalogue::Rule;
use crate::sharing::declared::Identity;
use crate::sharing::finding::Severity;
use crate::sharing::index::{Index, Workload, names};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-307",
    name: "one-client-many-apps",
    severity: Severity::Medium,
    what: "Workloads of two applications can act as one client, and its ClientIdentity does not list them. Which \
           application a workload belongs to is said by the labels clientgrant.dev/app, app.kubernetes.io/part-of and \
           instance, app.kubernetes.io/name or app.",
    why: "What somebody consented to for one application is done by another, and neither can be cut off alone.",
    remedy: "Register a client for each application, or list in spec.workloads those that share it on purpose.",
    references: &["OWASP NHI9:2025", "ATT&CK T1078"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut all = Vec::new();
    for (client, known) in &index.clients {
        let identities: Vec<&Identity> = known.identities.iter().filter_map(|at| index.identities.get(*at)).collect();
        let Some(subject) = identities.first() else { continue };
        // What is somebody else's workload is said by SC-301.
        let holders = index.workloads.iter().filter(|w| w.uses.contains(client));
        let mut apps = BTreeMap::<String, Vec<&Workload>>::new();
        for holder in holders.filter(|w| w.exposures.iter().any(|e| e.client == *client)) {
            apps.entry(app(holder)).or_default().push(holder);
        }
        let listed = |w: &&Workload| identities.iter().any(|i| !i.workloads.is_empty() && names(i, &w.facts));
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
            found.evidence.extend(exposures.map(|e| holder.evidence(e.path.clone())));
        }
        all.push(found);
    }
    all
}

/// Which application a workload belongs to; without a label it is one of its own.
fn app(workload: &Workload) -> String {
    let facts = &workload.facts;
    facts.app.as_ref().map_or_else(|| facts.object.to_string(), |(_, app)| format!("app {app}"))
}
