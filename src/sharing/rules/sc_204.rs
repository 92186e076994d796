//! SC-204: RBAC lets one ServiceAccount read the credentials of many clients.

use super::Found;
use super::by_rbac::{Hits, Power, Targets, holders};
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-204",
    name: "rbac-reads-many-clients",
    severity: Severity::High,
    what: "RBAC lets one ServiceAccount, or a group of them, read Secrets with the credentials of two clients: get, list \
           and watch each do, and without resourceNames all Secrets of the namespace are meant. Info for those \
           with the role platform.",
    why: "Whoever breaks into a pod of that account has every one of these clients, whatever the pod itself mounts.",
    remedy: "Allow get with resourceNames only, and drop list and watch. Controllers that read Secrets by their job are \
             given the role platform.",
    references: &["OWASP NHI5:2025", "OWASP NHI9:2025", "ATT&CK T1552.007", "CIS 5.1.2", "CIS 5.1.3"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

const READ: Power = Power {
    verbs: &["get", "list", "watch"],
    group: "",
    resource: "secrets",
    noun: "Secret",
    hits: Hits::Slots,
    grade: Grade::Reachable,
    with: None,
};

fn check(index: &Index) -> Vec<Found> {
    let mut all = Vec::new();
    // Putting together who has what is the larger part.
    if index.policy.subjects().next().is_none() {
        return Vec::new();
    }
    let accounts = index.accounts();
    let targets = Targets::new(index, &accounts);
    for holder in holders(index, &accounts) {
        let done = holder.can(&targets, &[READ]);
        if index.shared(done.clients.iter().copied()) {
            all.push(holder.found(index, &RULE, done));
        }
    }
    all
}
