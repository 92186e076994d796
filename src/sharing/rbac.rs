//! What RBAC objects say: what a role allows, and who has it.
//!
//! Read as loose JSON, as workloads are. An aggregated role counts as it was filled in.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts;
use super::finding::{Object, Place};

/// The API group of the objects.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The kinds, with the names of their resources.
pub const KINDS: [(&str, &str); 4] = [
    ("Role", "roles"),
    ("RoleBinding", "rolebindings"),
    ("ClusterRole", "clusterroles"),
    ("ClusterRoleBinding", "clusterrolebindings"),
];

/// Who sends no credentials: as a user, and the group of it.
const NOBODY: (&str, &str) = ("system:anonymous", "system:unauthenticated");

/// A label that begins like this names a role of every cluster to which a role is added.
const ADDS_TO: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// One rule of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyRule {
    /// API groups.
    pub groups: BTreeSet<String>,
    /// Resources, with their subresource.
    pub resources: BTreeSet<String>,
    /// Verbs.
    pub verbs: BTreeSet<String>,
    /// Names; empty: any, and requests that name none.
    pub names: BTreeSet<String>,
}

/// A Role or a ClusterRole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Role {
    /// The object.
    pub object: Object,
    /// Where it was read.
    pub place: Place,
    /// What it allows.
    pub rules: Vec<PolicyRule>,
    /// It is put together from others, and that was not done yet where it was read.
    pub unfilled: bool,
    /// Roles of every cluster that Kubernetes adds it to.
    pub adds_to: BTreeSet<String>,
}

/// Who has a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A ServiceAccount: namespace and name.
    Account(String, String),
    /// A group. Whoever sends no credentials is the group `system:unauthenticated`.
    Group(String),
}

/// A RoleBinding or a ClusterRoleBinding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The object; where it has a namespace, the role counts there only.
    pub object: Object,
    /// Where it was read.
    pub place: Place,
    /// The role.
    pub role: Object,
    /// Its place in the list, and who has the role. Users that are no ServiceAccount are not kept.
    pub subjects: Vec<(usize, Subject)>,
    /// Kubernetes itself makes it.
    pub builtin: bool,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Rbac {
    /// Roles.
    pub roles: Vec<Role>,
    /// Bindings.
    pub bindings: Vec<Binding>,
    /// Why a part of it was not read.
    pub missing: BTreeSet<String>,
}

/// One object of [`KINDS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// What may be done.
    Role(Role),
    /// Who may.
    Binding(Binding),
}

impl Piece {
    /// Reads one object. `None`: it is of another kind.
    #[must_use]
    pub fn read(value: &Value, place: Place) -> Option<Self> {
        match value["kind"].as_str()? {
            "Role" | "ClusterRole" => Some(Self::Role(role(value, place))),
            "RoleBinding" | "ClusterRoleBinding" => Some(Self::Binding(binding(value, place))),
            _ => None,
        }
    }
}

impl Extend<Piece> for Rbac {
    fn extend<I: IntoIterator<Item = Piece>>(&mut self, pieces: I) {
        for piece in pieces {
            match piece {
                Piece::Role(role) => self.roles.push(role),
                Piece::Binding(binding) => self.bindings.push(binding),
            }
        }
    }
}

impl Rbac {
    /// Whether anything was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roles.is_empty() && self.bindings.is_empty()
    }
}

/// Whether an object is of these kinds.
#[must_use]
pub fn is_rbac(value: &Value) -> bool {
    facts::group(value) == GROUP && KINDS.iter().any(|(kind, _)| value["kind"] == *kind)
}

fn object(value: &Value) -> Object {
    let kind = value["kind"].as_str().unwrap_or_default();
    let meta = &value["metadata"];
    let namespace = if kind.starts_with("Cluster") { "" } else { facts::namespace(meta) };
    Object::new(kind, namespace, meta["name"].as_str().unwrap_or_default())
}

fn texts(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
}

fn role(value: &Value, place: Place) -> Role {
    let rules = value["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rule = |rule: &Value| PolicyRule {
        groups: texts(&rule["apiGroups"]),
        resources: texts(&rule["resources"]),
        verbs: texts(&rule["verbs"]),
        names: texts(&rule["resourceNames"]),
    };
    let labels = value["metadata"]["labels"].as_object().into_iter().flatten();
    let added = labels.filter(|(_, value)| *value == "true").filter_map(|(label, _)| label.strip_prefix(ADDS_TO));
    let object = object(value);
    Role {
        adds_to: added.filter(|_| object.kind == "ClusterRole").map(str::to_owned).collect(),
        object,
        place,
        rules: rules.iter().map(rule).collect(),
        unfilled: rules.is_empty() && value["aggregationRule"].is_object(),
    }
}

fn binding(value: &Value, place: Place) -> Binding {
    let object = object(value);
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let kind = text(&value["roleRef"], "kind");
    let namespace = if kind == "Role" { object.namespace.to_string() } else { String::new() };
    let subject = |(at, value): (usize, &Value)| {
        let name = text(value, "name");
        let subject = match value["kind"].as_str()? {
            "ServiceAccount" => {
                // Without a namespace it is that of the binding.
                let namespace = text(value, "namespace");
                let namespace = if namespace.is_empty() { object.namespace.to_string() } else { namespace };
                Subject::Account(namespace, name)
            }
            "User" if name == NOBODY.0 => Subject::Group(NOBODY.1.to_owned()),
            "User" => {
                let (namespace, name) = super::index::service_account(&name)?;
                Subject::Account(namespace.to_owned(), name.to_owned())
            }
            "Group" => Subject::Group(name),
            _ => return None,
        };
        Some((at, subject))
    };
    let role = Object::new(kind, namespace, text(&value["roleRef"], "name"));
    // The label alone anybody may write.
    let named = [&object, &role].iter().all(|object| object.name.starts_with("system:"));
    Binding {
        subjects: value["subjects"].as_array().into_iter().flatten().enumerate().filter_map(subject).collect(),
        builtin: named && value["metadata"]["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults",
        role,
        object,
        place,
    }
}
