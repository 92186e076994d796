//! SC-205: RBAC lets a ServiceAccount make itself a client.

use std::collections::BTreeSet;

use super::Found;
use super::by_rbac::{Hits, Power, Targets, holders};
use crate::sharing::catalogue::Rule;
use crate::sharing::facts::KINDS;
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::{Family, Index};
use crate::sharing::rbac::GROUP;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-205",
    name: "rbac-mints-or-steers",
    severity: Severity::High,
    what: "RBAC lets a ServiceAccount that is none of a client's mint the tokens that authenticate it, run commands in \
           its pods, or act as its account. Medium if it may only change workloads or roles where the credential is. \
           Info for those with the role platform.",
    why: "Without reading any Secret it gets the credential, or a token that is as good.",
    remedy: "Take serviceaccounts/token, pods/exec, impersonate, bind, escalate and the right to make workloads there from \
             it. Deployers that have them by their job are given the role platform.",
    references: &["OWASP NHI5:2025", "ATT&CK T1528", "ATT&CK T1098", "CIS 5.1.4", "CIS 5.1.8", "CIS 5.1.13"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

const fn core(verbs: &'static [&'static str], resource: &'static str, noun: &'static str, hits: Hits) -> Power {
    Power { verbs, group: "", resource, noun, hits, grade: Grade::Reachable, with: None }
}

const DIRECT: [Power; 6] = [
    core(&["create"], "serviceaccounts/token", "ServiceAccount token", Hits::Federated),
    // Either verb opens a connection, by the protocol that the caller speaks.
    core(&["create", "get"], "pods/exec", "Pod to run commands in", Hits::Holders),
    core(&["create", "get"], "pods/attach", "Pod to attach to", Hits::Holders),
    core(&["patch", "update"], "pods/ephemeralcontainers", "Pod to put a container into", Hits::Holders),
    core(&["impersonate"], "serviceaccounts", "ServiceAccount", Hits::Accounts),
    core(&["impersonate"], "users", "user", Hits::Users),
];

const fn rbac(
    verbs: &'static [&'static str],
    resource: &'static str,
    with: Option<(&'static [&'static str], &'static str)>,
) -> Power {
    Power { verbs, group: GROUP, resource, noun: "role", hits: Hits::Namespaces, grade: Grade::Potential, with }
}

const ROLES: [Power; 3] = [
    rbac(&["bind"], "roles", Some((&["create"], "rolebindings"))),
    rbac(&["bind"], "clusterroles", Some((&["create"], "rolebindings"))),
    rbac(&["escalate"], "roles", Some((&["create", "patch", "update"], "roles"))),
];

/// To make a workload, and to change one.
fn workloads() -> impl Iterator<Item = Power> {
    let verbs: [&[&str]; 2] = [&["create"], &["patch", "update"]];
    KINDS.iter().filter(|kind| kind.has_pods()).flat_map(move |kind| {
        verbs.map(|verbs| Power {
            verbs,
            group: kind.group,
            resource: kind.plural,
            noun: kind.kind,
            hits: Hits::Namespaces,
            grade: Grade::Potential,
            with: None,
        })
    })
}

fn check(index: &Index) -> Vec<Found> {
    let powers: Vec<Power> = DIRECT.into_iter().chain(ROLES).chain(workloads()).collect();
    let mut all = Vec::new();
    // Putting together who has what is the larger part.
    if index.policy.subjects().next().is_none() {
        return Vec::new();
    }
    let accounts = index.accounts();
    let targets = Targets::new(index, &accounts);
    for holder in holders(index, &accounts) {
        let mut done = holder.can(&targets, &powers);
        let own: BTreeSet<Family<'_>> = holder.own.iter().map(|client| index.family(client)).collect();
        done.clients.retain(|client| !own.contains(&index.family(client)));
        if !done.clients.is_empty() {
            let mut found = holder.found(index, &RULE, done);
            found.alone = true;
            all.push(found);
        }
    }
    all
}
