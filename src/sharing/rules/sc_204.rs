//! SC-204: RBAC lets one ServiceAccount read the credentials of many clients, or of one that is not its own.

use super::Found;
use super::by_rbac::{READ, Told, find};
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::Severity;
use crate::sharing::index::Index;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-204",
    name: "rbac-reads-many-clients",
    severity: Severity::High,
    what: "RBAC lets one ServiceAccount, or a group of them, read Secrets so that it has the credentials of two clients, its \
           own and those that its workloads receive included. Medium if it reads those of one client that is not its own. \
           get, list, watch, patch, delete and deletecollection each show a Secret; without resourceNames all of the \
           namespace are meant. Info for those with the role platform.",
    why: "Whoever breaks into a pod of that account has every one of these clients, whatever the pod itself mounts.",
    remedy: "Allow get with resourceNames of its own Secrets only, and drop list, watch, patch and delete. Controllers that \
             read Secrets by their job are given the role platform.",
    references: &["OWASP NHI5:2025", "OWASP NHI9:2025", "ATT&CK T1552.007", "CIS 5.1.2", "CIS 5.1.3"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    find(index, &RULE, &[READ], |people, holder| {
        let several = index.shared(&holder.own);
        // That a client's account reads its credential is no news, unless it is another client's account too.
        if !holder.more.keys().any(|client| several || holder.is_foreign(index, client)) {
            return None;
        }
        let read = || holder.can.keys().copied();
        let many = index.shared(read()) || holder.hands.iter().any(|hand| index.shared(read().chain(hand)));
        let severity = match many {
            true => Severity::High,
            false if !holder.issuer && read().any(|client| people.knows(client)) => Severity::Medium,
            false => return None,
        };
        // Of a group only what it gives: who is in it has more, and each something else.
        let hand = holder.hands.iter().filter(|_| !holder.is_group()).flatten();
        Some(Told { severity, clients: read().chain(hand).cloned().collect() })
    })
}
