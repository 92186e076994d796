//! SC-205: RBAC lets a ServiceAccount make itself a client.

use std::collections::BTreeSet;

use super::Found;
use super::by_rbac::{BIND, Hits, Power, READ, Told, find};
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::facts::KINDS;
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;
use crate::sharing::rbac::GROUP;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-205",
    name: "rbac-mints-or-steers",
    severity: Severity::High,
    what: "RBAC lets a ServiceAccount that is none of a client's make tokens of the client's account, run commands in its \
           pods, or impersonate its account or system:masters. Medium if it may only change workloads where the credential \
           is, make and read Secrets there that get such a token, or give itself roles: bind or escalate, and create, \
           patch or update bindings or roles. Info with the role platform.",
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

const DIRECT: [Power; 8] = [
    // Whoever trusts the cluster takes a token for the account itself, whatever audience it was asked for.
    core(&["create"], "serviceaccounts/token", "ServiceAccount token", Hits::Accounts),
    // Either verb opens a connection, by the protocol that the caller speaks.
    core(&["create", "get"], "pods/exec", "Pod to run commands in", Hits::Holders),
    core(&["create", "get"], "pods/attach", "Pod to attach to", Hits::Holders),
    core(&["patch", "update"], "pods/ephemeralcontainers", "Pod to put a container into", Hits::Holders),
    core(&["impersonate"], "serviceaccounts", "ServiceAccount", Hits::Accounts),
    core(&["impersonate"], "users", "user", Hits::Users),
    masters("users"),
    masters("serviceaccounts"),
];

/// A group is impersonated together with somebody only.
const fn masters(with: &'static str) -> Power {
    let group = core(&["impersonate"], "groups", "group", Hits::Masters);
    Power { with: Some((&["impersonate"], with)), ..group }
}

const fn rbac(verbs: &'static [&'static str], resource: &'static str, hits: Hits, with: &'static str) -> Power {
    // Somebody may be put into a binding that is there already, and a role that he has may get more.
    let with = Some((["create", "patch", "update"].as_slice(), with));
    Power { verbs, group: GROUP, resource, noun: "role", hits, grade: Grade::Potential, with }
}

const ROLES: [Power; 5] = [
    rbac(BIND, "roles", Hits::Namespaces, "rolebindings"),
    rbac(BIND, "clusterroles", Hits::Namespaces, "rolebindings"),
    rbac(BIND, "clusterroles", Hits::Cluster, "clusterrolebindings"),
    rbac(&["escalate"], "roles", Hits::Namespaces, "roles"),
    rbac(&["escalate"], "clusterroles", Hits::Cluster, "clusterroles"),
];

/// Kubernetes puts a token into a Secret that asks for one. It has no audience and another issuer, so that not
/// everybody takes it.
const TOKEN: Power = Power {
    grade: Grade::Potential,
    with: Some((READ.verbs, READ.resource)),
    ..core(&["create"], "secrets", "Secret for a token", Hits::Federated)
};

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
    let powers: Vec<Power> = DIRECT.into_iter().chain([TOKEN]).chain(ROLES).chain(workloads()).collect();
    find(index, &RULE, &powers, |_, holder| {
        let foreign = holder.more.keys().filter(|client| holder.is_foreign(index, client));
        let clients: BTreeSet<ClientKey> = foreign.map(|client| (*client).clone()).collect();
        (!clients.is_empty()).then_some(Told { severity: RULE.severity, clients })
    })
}
