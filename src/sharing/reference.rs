//! Custom resources that name a client's Secret: no pod of theirs receives it, a gateway or a server reads it and
//! acts as the client. Which fields of which kind say so is data.

use std::collections::BTreeSet;

use serde_json::Value;
use smol_str::format_smolstr;

use super::facts::{Edge, Elsewhere, Keys, Literal, Meaning, Template};
use super::finding::Grade;
use super::pod::{entries, grade, is_credential_name, is_filled, text};

/// A field that says something of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// The way to it. `[name]` behind a step: it is a list, and this field of an entry says what the entry is for.
    way: &'static str,
    says: Says,
}

/// What a field says.
#[derive(Clone, Copy, Debug)]
enum Says {
    /// The id of a client, or several.
    ClientId,
    /// The name of a Secret of the same namespace, of which this key is read.
    Name(&'static str),
    /// A Secret by `name` and, of another namespace, `namespace`, of which this key is read.
    Object(&'static str),
    /// A key of a Secret of the same namespace, by `name` and `key`.
    Key,
}

const fn field(way: &'static str, says: Says) -> Field {
    Field { way, says }
}

/// Of Envoy Gateway. The Secrets' keys are fixed.
pub(super) const SECURITY_POLICY: &[Field] = &[
    field("spec.oidc.clientID", Says::ClientId),
    field("spec.oidc.clientIDRef", Says::Object("client-id")),
    field("spec.oidc.clientSecret", Says::Object("client-secret")),
];

/// Of Kong. Its fields stand at the top; the whole configuration may be in one key of a Secret.
pub(super) const KONG_PLUGIN: &[Field] = &[
    field("config.client_id", Says::ClientId),
    field("configFrom.secretKeyRef", Says::Key),
    field("configPatches[path].valueFrom.secretKeyRef", Says::Key),
];

/// Of the NGINX Ingress Controller. The Secret's key is fixed.
pub(super) const NGINX_POLICY: &[Field] =
    &[field("spec.oidc.clientID", Says::ClientId), field("spec.oidc.clientSecret", Says::Name("client-secret"))];

/// Of the Grafana operator. The id is where the Infinity data source has it; others have it elsewhere.
pub(super) const GRAFANA_DATASOURCE: &[Field] = &[
    field("spec.datasource.jsonData.oauth2.client_id", Says::ClientId),
    field("spec.valuesFrom[targetPath].valueFrom.secretKeyRef", Says::Key),
];

/// The container of what is in none.
const NONE: &str = "";

/// One value at the end of a way.
struct End<'a> {
    path: String,
    /// What the entry of a list that it is in is for.
    named: &'a str,
    value: &'a Value,
}

/// Reads the fields of an object into `facts`; `namespace` is the object's.
pub(super) fn read(
    object: &Value,
    fields: &[Field],
    namespace: &str,
    client_ids: &BTreeSet<String>,
    facts: &mut Template,
) {
    for field in fields {
        for end in ends(object, field.way) {
            match field.says {
                Says::ClientId => ids(&end, client_ids, facts),
                Says::Name(key) => {
                    if let Some(name) = end.value.as_str().filter(|name| !name.is_empty()) {
                        facts.edges.push(edge(&end, name, key, Grade::Direct));
                    }
                }
                Says::Object(key) => object_reference(&end, key, namespace, facts),
                Says::Key => {
                    if let (Some(name), Some(key)) = (text(end.value, "name"), text(end.value, "key")) {
                        facts.edges.push(edge(&end, name, key, grade(&end.value["optional"])));
                    }
                }
            }
        }
    }
}

/// What is at the end of a way: of a list, in each entry.
fn ends<'a>(object: &'a Value, way: &str) -> Vec<End<'a>> {
    let mut all = vec![End { path: String::new(), named: "", value: object }];
    for step in way.split('.') {
        let list = step.strip_suffix(']').and_then(|step| step.split_once('['));
        let field = list.map_or(step, |(field, _)| field);
        for end in std::mem::take(&mut all) {
            let dot = if end.path.is_empty() { "" } else { "." };
            let (path, value) = (format!("{}{dot}{field}", end.path), &end.value[field]);
            match list {
                None => all.push(End { path, named: end.named, value }),
                Some((_, named)) => all.extend(entries(value).enumerate().map(|(at, entry)| End {
                    path: format!("{path}[{at}]"),
                    named: text(entry, named).unwrap_or_default(),
                    value: entry,
                })),
            }
        }
    }
    all
}

fn edge(end: &End<'_>, secret: &str, key: &str, grade: Grade) -> Edge {
    // The way into a configuration may end in the place in a list.
    let named = end.named.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
    Edge {
        secret: secret.into(),
        keys: Keys::One(key.into()),
        grade,
        container: Some(NONE.into()),
        variable: false,
        credential: is_credential_name(named),
        path: end.path.as_str().into(),
    }
}

/// As the Gateway API names a Secret: of another kind, or of another group, it is none.
fn object_reference(end: &End<'_>, key: &str, namespace: &str, facts: &mut Template) {
    let other = text(end.value, "group").is_some() || text(end.value, "kind").is_some_and(|kind| kind != "Secret");
    let Some(name) = text(end.value, "name").filter(|_| !other) else { return };
    match text(end.value, "namespace").filter(|of| *of != namespace) {
        None => facts.edges.push(edge(end, name, key, Grade::Direct)),
        Some(of) => facts.elsewhere.push(Elsewhere {
            namespace: of.into(),
            secret: name.into(),
            key: key.into(),
            path: end.path.as_str().into(),
        }),
    }
}

fn ids(end: &End<'_>, client_ids: &BTreeSet<String>, facts: &mut Template) {
    let one = end.value.as_str().map(|id| (end.path.as_str().into(), id));
    let several = entries(end.value)
        .enumerate()
        .filter_map(|(at, id)| Some((format_smolstr!("{}[{at}]", end.path), id.as_str()?)));
    for (path, id) in one.into_iter().chain(several) {
        let means = match () {
            () if client_ids.contains(id) => Meaning::ClientId(id.into()),
            () if is_filled(id) => Meaning::UnknownId,
            () => continue,
        };
        facts.literals.push(Literal { means, container: NONE.into(), path, grade: Grade::Direct });
    }
}
