//! From objects to findings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::catalogue::{self, Rule};
use super::client::Client;
use super::configmap::ConfigMaps;
use super::declared::{Credential, Grant, Identity};
use super::exceptions;
use super::facts::Facts;
use super::finding::{self, BlastRadius, Evaluation, Finding, Grade, Severity, State, Summary};
use super::index::{Index, Unread};
use super::rbac::Rbac;
use super::registration::Registration;
use super::role::Roles;
use super::rules::Found;
use crate::grant::ClientKey;

/// More subjects than this make a finding worse.
const MANY_SUBJECTS: usize = 100;

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Workloads.
    pub facts: Vec<Facts>,
    /// ServiceAccounts, by namespace and name, with what they say about their token.
    pub accounts: BTreeMap<(String, String), Option<bool>>,
    /// What ConfigMaps say.
    pub configmaps: ConfigMaps,
    /// Clients.
    pub identities: Vec<Arc<Identity>>,
    /// Grants.
    pub grants: Vec<Arc<Grant>>,
    /// What could not be read.
    pub unread: Vec<Unread>,
    /// It is all that a cluster has: what is not among it is not there. Of files nobody knows.
    pub whole: bool,
    /// Roles, and who has them.
    pub rbac: Rbac,
    /// Clients, as identity providers have them registered.
    pub registrations: Vec<Registration>,
    /// Whose job it is to have credentials of others.
    pub roles: Roles,
    /// Rules to look for beside those that always look.
    pub also: BTreeSet<&'static str>,
    /// How many objects were looked at.
    pub objects: usize,
}

/// Finds what is shared. A total function: the same input and instant give the same findings in the same order.
#[must_use]
pub fn evaluate(input: Input, now: Timestamp) -> Evaluation {
    let (also, objects) = (input.also.clone(), input.objects);
    judge_all(&Index::new(now, input), &also, objects)
}

/// Applies every rule to what was joined. `objects`: how many were looked at.
#[must_use]
pub fn judge_all(index: &Index, also: &BTreeSet<&'static str>, objects: usize) -> Evaluation {
    let mut findings: Vec<Finding> = catalogue::ALL
        .iter()
        .filter(|rule| rule.standard || also.contains(rule.id))
        .flat_map(|rule| (rule.check)(index).into_iter().map(|found| judge(index, rule, found)))
        .collect();
    finding::sort(&mut findings);
    let count = |state| findings.iter().filter(|f| f.state == state).count();
    let summary = Summary {
        open: count(State::Open),
        suppressed: count(State::Suppressed),
        not_evaluable: count(State::NotEvaluable),
        worst: findings.iter().filter(|f| f.state == State::Open).map(|f| f.severity).max(),
        objects,
    };
    Evaluation { findings, summary }
}

fn judge(index: &Index, rule: &Rule, found: Found) -> Finding {
    let justification = exceptions::accepted(index, &found);
    let state = match &justification {
        _ if rule.id == "SC-901" => State::NotEvaluable,
        Some(_) if rule.accepts => State::Suppressed,
        _ => State::Open,
    };
    let clients: Vec<&Client> = found.clients.iter().filter_map(|c| index.clients.get(c)).collect();
    let scopes: BTreeSet<&str> = clients.iter().flat_map(|c| c.scopes.keys()).map(String::as_str).collect();
    let blast_radius = BlastRadius {
        // A grant is of one client.
        grants: clients.iter().map(|c| c.active).sum(),
        subjects: match clients.as_slice() {
            [client] => client.subjects.len(),
            several => several.iter().flat_map(|c| c.subjects.keys()).collect::<BTreeSet<_>>().len(),
        },
        scopes: scopes.len(),
    };
    let moves = rule.moves && found.severity > Severity::Info;
    let severity = if moves { severity(index, &found, &clients, blast_radius) } else { found.severity };
    let gain = gain(index, &found, &scopes);
    let mut evidence = found.evidence;
    evidence.sort();
    evidence.dedup();
    Finding {
        rule: rule.id,
        severity,
        state,
        grade: found.grade,
        gain,
        subject: found.subject,
        clients: names(&found.clients),
        more_clients: found.more,
        keys: found.clients,
        evidence,
        blast_radius,
        remedy: rule.remedy,
        references: rule.references,
        justification,
    }
}

/// The base severity with what makes it worse and better.
fn severity(index: &Index, found: &Found, clients: &[&Client], radius: BlastRadius) -> Severity {
    let lasting = |c: &&Client| c.scopes.keys().any(|s| s == "offline_access" || s == "offline");
    let worse = clients.iter().any(lasting) || radius.subjects > MANY_SUBJECTS;
    let places = found.clients.iter().flat_map(|c| index.identities_of(c));
    let environments: BTreeSet<&String> = places.filter_map(|i| i.environment.as_ref()).collect();
    let steps = i32::from(worse) + i32::from(environments.len() > 1) - i32::from(found.grade == Grade::Potential);
    found.severity.moved(steps)
}

/// What somebody in the subject has on top of its own, of all these scopes: of the other clients if it has some of
/// its own, else for each client what the rest has beyond it.
fn gain(index: &Index, found: &Found, all: &BTreeSet<&str>) -> Vec<String> {
    let scopes = |client: &ClientKey| index.clients.get(client).map(|c| &c.scopes);
    let gained = |scope: &&&str| match &found.own {
        Some(own) => !own.iter().filter_map(scopes).any(|has| has.contains_key(**scope)),
        // One that each of them has is no gain for any.
        None => !found.clients.iter().all(|client| scopes(client).is_some_and(|has| has.contains_key(**scope))),
    };
    all.iter().filter(gained).map(|scope| (*scope).to_owned()).collect()
}

/// The clients' ids; where one id is at two providers, with the provider.
fn names(clients: &BTreeSet<ClientKey>) -> Vec<String> {
    let mut times = BTreeMap::<&str, usize>::new();
    for key in clients {
        *times.entry(&key.client).or_default() += 1;
    }
    let name = |key: &ClientKey| match times.get(&*key.client) {
        None | Some(1) => key.client.to_string(),
        Some(_) => format!("{} at {}/{}", key.client, key.provider.namespace, key.provider.name),
    };
    let mut names: Vec<String> = clients.iter().map(name).collect();
    names.sort();
    names
}

/// The ids of every client that some identity names: what a literal is compared with.
#[must_use]
pub fn client_ids(identities: &[Arc<Identity>]) -> BTreeSet<String> {
    identities.iter().map(|i| i.client.client.to_string()).collect()
}

/// Whether a federated subject names a ServiceAccount as one can be called.
fn is_account(subject: &str) -> bool {
    let can_be = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
    };
    super::index::service_account(subject).is_some_and(|(namespace, name)| can_be(namespace) && can_be(name))
}

impl Identity {
    /// Whether it says nothing that could be compared.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.credentials.is_empty() && self.workloads.is_empty() && self.service_account.is_none()
    }

    /// Whether a federated subject is a ServiceAccount of the same namespace: of another, anybody could say it.
    #[must_use]
    pub fn is_here(&self, subject: &str) -> bool {
        super::index::service_account(subject).is_some_and(|(namespace, _)| namespace == self.object.namespace)
    }

    /// Federated subjects that are no ServiceAccount of the same namespace, with why.
    pub fn foreign_subjects(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.credentials.iter().filter_map(|credential| match credential {
            // What no ServiceAccount can be called, such as a pattern, no manifest can be compared with.
            Credential::Federated(subject) if !is_account(subject) => Some((subject.as_str(), "is no ServiceAccount")),
            Credential::Federated(subject) if !self.is_here(subject) => Some((subject, "is of another namespace")),
            Credential::Federated(_) | Credential::Secret { .. } => None,
        })
    }
}
