//! Objects of kinds that are not known: whether they concern a client all the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::api::WorkloadRef;
use crate::sharing::declared::{Credential, Identity};
use crate::sharing::facts::{self, Facts, Owner, Template};
use crate::sharing::index::service_account;
use crate::sharing::pod;

/// The ways to a pod's spec in kinds that are not known.
const PODS: [&str; 3] =
    ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec", "/spec/jobTargetRef/template/spec"];

/// The spec of an object's pods.
fn pods(object: &Value) -> Option<&Value> {
    PODS.iter().filter_map(|way| object.pointer(way)).find(|spec| spec["containers"].is_array())
}

/// Whether an object may concern a client.
pub(super) fn may_concern(object: &Value) -> bool {
    pods(object).is_some() || mentions(object) != Mentions::default()
}

/// What an object of a kind that is not known names for its containers, wherever they stand in it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mentions {
    secrets: BTreeSet<String>,
    accounts: BTreeSet<String>,
}

fn mentions(object: &Value) -> Mentions {
    fn look(value: &Value, found: &mut Mentions) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match name.as_str() {
                        "secretKeyRef" | "secretRef" => {
                            found.secrets.extend(pod::text(value, "name").map(str::to_owned))
                        }
                        "serviceAccountName" => found.accounts.extend(value.as_str().map(str::to_owned)),
                        _ => {}
                    }
                    look(value, found);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| look(value, found)),
            _ => {}
        }
    }
    let mut found = Mentions::default();
    look(&object["spec"], &mut found);
    found
}

/// Why an object of a kind that is not known is a gap: it concerns a client, and its pods are not there.
pub(super) fn why(object: &Value, identities: &[Arc<Identity>], facts: &[Facts]) -> Option<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (meta, version) = (&object["metadata"], text(&object["apiVersion"]));
    let (kind, name, namespace) = (text(&object["kind"]), text(&meta["name"]), facts::namespace(meta));
    let qualified = facts::qualified(facts::group(object), &kind);
    let (mut of, spec) = (Template::default(), pods(object));
    if let Some(spec) = spec {
        of.service_account = "default".into();
        pod::read(spec, &BTreeSet::new(), &mut of);
    }
    let named = mentions(object);
    let runs_as = |account: &str| of.service_account == account || named.accounts.contains(account);
    let concerns = |identity: &Identity| {
        let lists =
            |w: &WorkloadRef| w.name == name && facts::qualified(facts::group_in(&w.api_version), &w.kind) == qualified;
        let holds = |credential: &Credential| match credential {
            Credential::Secret { name, key } => {
                of.edges.iter().any(|e| e.secret == *name && e.keys.has(key))
                    || (spec.is_none() && named.secrets.contains(name))
            }
            Credential::Federated(subject) => {
                service_account(subject).is_some_and(|(of, account)| of == namespace && runs_as(account))
            }
        };
        let account = identity.service_account.as_deref().is_some_and(runs_as);
        account || identity.workloads.iter().any(lists) || identity.credentials.iter().any(holds)
    };
    if !identities.iter().any(|identity| identity.object.namespace == namespace && concerns(identity)) {
        return None;
    }
    let why = format!("{kind} of {version} is no kind that is read, and it concerns a client");
    if version.starts_with("extensions/") {
        return Some(format!("{why}: write it as apps/v1"));
    }
    // A reference that says no group is taken at its word.
    let owns = |(of, by): &Owner| *by == name && (*of == qualified || *of == kind);
    let made = facts.iter().any(|one| one.object.namespace == namespace && one.made_by().is_some_and(owns));
    (!made).then(|| format!("{why}: give what it makes as well (kubectl get pods,replicationcontrollers,jobs -o yaml)"))
}
