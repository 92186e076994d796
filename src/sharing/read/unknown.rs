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
    pods(object).is_some() || (!speaks_of_others(object) && mentions(object) != Mentions::default())
}

/// Whether an object only says something about others, and gives nothing to anybody.
fn speaks_of_others(object: &Value) -> bool {
    let group = facts::group(object);
    object["kind"] == "Event" || group == "wgpolicyk8s.io" || group == "openreports.io"
}

/// What an object of a kind that is not known names, wherever it stands in it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mentions {
    /// With the namespace, if one is said.
    secrets: BTreeSet<(Option<String>, String)>,
    accounts: BTreeSet<String>,
}

/// Fields that hold the name of a Secret, or a reference to one.
const SECRETS: [&str; 4] = ["secretKeyRef", "secretRef", "secret", "secrets"];
/// Fields that hold the name of a ServiceAccount, or a reference to one.
const ACCOUNTS: [&str; 3] = ["serviceAccountName", "serviceAccount", "serviceAccountRef"];

fn mentions(object: &Value) -> Mentions {
    /// `of`: the field that holds the value.
    fn look(of: &str, value: &Value, found: &mut Mentions) {
        match value {
            Value::String(name) if ACCOUNTS.contains(&of) => _ = found.accounts.insert(name.clone()),
            Value::String(name) if of == "secrets" => _ = found.secrets.insert((None, name.clone())),
            Value::Array(values) => values.iter().for_each(|value| look(of, value, found)),
            Value::Object(fields) => {
                let (name, namespace) = (pod::text(value, "name"), pod::text(value, "namespace").map(str::to_owned));
                // Many kinds have a reference of their own; all name the object and the key in it.
                let key = pod::text(value, "key").is_some() && of != "configMapKeyRef";
                let secret = SECRETS.contains(&of) || pod::text(value, "kind") == Some("Secret") || key;
                if let Some(name) = name.filter(|_| secret) {
                    found.secrets.insert((namespace, name.to_owned()));
                } else if let Some(name) = name.filter(|_| ACCOUNTS.contains(&of)) {
                    found.accounts.insert(name.to_owned());
                }
                if let Some(name) = pod::text(value, "secretName").filter(|_| of == "secret") {
                    found.secrets.insert((None, name.to_owned()));
                }
                fields.iter().for_each(|(field, value)| look(field, value, found));
            }
            _ => {}
        }
    }
    let mut found = Mentions::default();
    let fields = object.as_object().into_iter().flatten();
    let own = |field: &str| matches!(field, "metadata" | "status");
    fields.filter(|(field, _)| !own(field)).for_each(|(field, value)| look(field, value, &mut found));
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
    // What says none belongs to none, or gets one when it is applied.
    let here = pod::text(meta, "namespace");
    let runs_as = |account: &str| of.service_account == account || named.accounts.contains(account);
    let concerns = |identity: &Identity| {
        let lists =
            |w: &WorkloadRef| w.name == name && facts::qualified(facts::group_in(&w.api_version), &w.kind) == qualified;
        let home = identity.object.namespace.as_str();
        let near = here.is_none_or(|here| here == home);
        let named_here = |secret: &String| {
            let mut all = named.secrets.iter().filter(|(_, of)| of == secret);
            spec.is_none() && all.any(|(namespace, _)| namespace.as_deref().map_or(near, |of| of == home))
        };
        let holds = |credential: &Credential| match credential {
            Credential::Secret { name, key } => {
                (near && of.edges.iter().any(|e| e.secret == *name && e.keys.has(key))) || named_here(name)
            }
            Credential::Federated(subject) => {
                near && service_account(subject).is_some_and(|(of, account)| of == home && runs_as(account))
            }
        };
        if near && identity.workloads.iter().any(lists) {
            // Of what has no pods of its own it is said then that it is the client's, and what it names too.
            return spec.is_some() || named == Mentions::default();
        }
        (near && identity.service_account.as_deref().is_some_and(runs_as)) || identity.credentials.iter().any(holds)
    };
    if !identities.iter().any(|identity| concerns(identity)) {
        return None;
    }
    let why = format!("{kind} of {version} is no kind that is read, and it concerns a client");
    if version.starts_with("extensions/") {
        return Some(format!("{why}: write it as apps/v1"));
    }
    // A reference that says no group is taken at its word.
    let owns = |(of, by): &Owner| *by == name && (*of == qualified || *of == kind);
    let made = facts.iter().any(|one| one.object.namespace == namespace && one.made_by().is_some_and(owns));
    (!made).then(|| {
        let list = "if it makes nothing, list it in spec.workloads of the ClientIdentity";
        format!("{why}: give what it makes as well (kubectl get pods,replicationcontrollers,jobs -o yaml); {list}")
    })
}
