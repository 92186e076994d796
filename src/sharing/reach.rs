//! What a ServiceAccount may reach by RBAC, in symbols: every object of a namespace, or some by name. It is never
//! spelt out as a list of objects, because tomorrow's count too.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Kind;
use super::finding::Object;
use super::rbac::{Binding, PolicyRule, Rbac, Role, Subject};

/// Objects of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Every one, and requests that name none.
    Every,
    /// These.
    Some(BTreeSet<String>),
}

/// What may be reached: by namespace; the empty one is all of them, and what has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach(BTreeMap<String, Names>);

impl Reach {
    /// Whether a request may be made. Without a name it is one that names no object, such as to list all; without
    /// a namespace it is for all of them.
    #[must_use]
    pub fn has(&self, namespace: &str, name: &str) -> bool {
        let within = |of: &str| match self.0.get(of) {
            None => false,
            Some(Names::Every) => true,
            Some(Names::Some(names)) => names.contains(name),
        };
        within("") || within(namespace)
    }

    /// Whether a pod of a workload may be reached: what it is called begins with the workload's name, or with what a
    /// star ends. What a custom resource is made of may be called anything.
    #[must_use]
    pub fn has_pod(&self, workload: &Object) -> bool {
        let (namespace, known) = (workload.namespace.as_str(), Kind::named(&workload.kind).is_some());
        let of = |name: &String| match workload.name.strip_suffix('*') {
            _ if !known => true,
            Some(begin) => name.starts_with(begin),
            None if workload.kind == "Pod" => *name == *workload.name,
            // Its pods are numbered.
            None if workload.kind == "StatefulSet" => {
                let number = name.strip_prefix(&*workload.name).and_then(|rest| rest.strip_prefix('-'));
                number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            }
            None => name.strip_prefix(&*workload.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')),
        };
        ["", namespace].into_iter().any(|scope| match self.0.get(scope) {
            None => false,
            Some(Names::Every) => true,
            Some(Names::Some(names)) => names.iter().any(of),
        })
    }

    /// Whether anything in a namespace may be reached, even if only by name.
    #[must_use]
    pub fn touches(&self, namespace: &str) -> bool {
        self.0.contains_key("") || self.0.contains_key(namespace)
    }

    /// Whether nothing may be reached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Single namespaces in which something may be reached.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|namespace| !namespace.is_empty())
    }

    fn add(&mut self, scope: &str, names: &BTreeSet<String>) {
        let known = self.0.entry(scope.to_owned()).or_insert_with(|| Names::Some(BTreeSet::new()));
        match known {
            Names::Some(_) if names.is_empty() => *known = Names::Every,
            Names::Some(known) => known.extend(names.iter().cloned()),
            Names::Every => {}
        }
    }
}

/// One rule that somebody has.
#[derive(Clone, Copy, Debug)]
pub struct Granted<'a> {
    /// The rule.
    pub rule: &'a PolicyRule,
    /// Its place in the role; `None`: Kubernetes brings the role, and it was not read.
    pub of: Option<(&'a Role, usize)>,
    /// Who gave it.
    pub binding: &'a Binding,
    /// Place in the list of the binding's subjects.
    pub subject: usize,
}

impl Granted<'_> {
    /// Those of these verbs that it lets somebody use on a resource (`group`, `resource/subresource`). A rule with
    /// names lets no request through that names nothing.
    #[must_use]
    pub fn verbs<'v>(&self, verbs: &[&'v str], group: &str, resource: &str) -> Vec<&'v str> {
        let counts = |verb: &str| {
            self.rule.names.is_empty() || resource.contains('/') || !matches!(verb, "create" | "deletecollection")
        };
        verbs.iter().copied().filter(|verb| counts(verb) && allows(self.rule, verb, group, resource)).collect()
    }

    /// What it reaches of a resource with any of these verbs.
    #[must_use]
    pub fn reach(&self, verbs: &[&str], group: &str, resource: &str) -> Reach {
        reach([self], &self.verbs(verbs, group, resource), group, resource)
    }
}

/// What all of these together reach.
#[must_use]
pub fn reach<'a>(
    granted: impl IntoIterator<Item = &'a Granted<'a>>,
    verbs: &[&str],
    group: &str,
    resource: &str,
) -> Reach {
    let mut all = Reach::default();
    for one in granted.into_iter().filter(|g| verbs.iter().any(|verb| allows(g.rule, verb, group, resource))) {
        all.add(&one.binding.object.namespace, &one.rule.names);
    }
    all
}

/// Whether a rule speaks about a verb and a resource, as the API server takes it: a star is everything, and before
/// a slash every resource; behind one it is nothing special.
#[must_use]
pub fn allows(rule: &PolicyRule, verb: &str, group: &str, resource: &str) -> bool {
    let any = |of: &BTreeSet<String>, what: &str| of.contains("*") || of.contains(what);
    let sub = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    any(&rule.verbs, verb)
        && any(&rule.groups, group)
        && (any(&rule.resources, resource) || sub.is_some_and(|sub| rule.resources.contains(&sub)))
}

/// Roles and bindings, joined.
#[derive(Debug, Default)]
pub struct Policy {
    /// Whether any object was given.
    pub given: bool,
    /// Why a part was not read.
    pub missing: BTreeSet<String>,
    roles: BTreeMap<Object, Vec<Role>>,
    bindings: Vec<Binding>,
    of: BTreeMap<Subject, Vec<(usize, usize)>>,
    builtin: BTreeMap<&'static str, Vec<PolicyRule>>,
    /// What is added to roles of every cluster.
    added: BTreeMap<String, BTreeSet<Object>>,
}

/// Groups that every ServiceAccount is in, the widest first: what may be done without credentials, everybody may do.
pub const GROUPS: [&str; 3] = ["system:unauthenticated", "system:authenticated", "system:serviceaccounts"];

/// So the group of the ServiceAccounts of one namespace begins.
pub const OF_NAMESPACE: &str = "system:serviceaccounts:";

impl Policy {
    /// Joins everything. The order does not matter, nor what is given twice.
    #[must_use]
    pub fn new(rbac: Rbac) -> Self {
        let given = !rbac.is_empty();
        let Rbac { roles, mut bindings, missing } = rbac;
        bindings.sort();
        bindings.dedup_by(|later, first| Binding { place: first.place.clone(), ..later.clone() } == *first);
        let mut policy = Self { given, missing, bindings, builtin: builtin(), ..Self::default() };
        for role in roles {
            for name in &role.adds_to {
                policy.added.entry(name.clone()).or_default().insert(role.object.clone());
            }
            policy.roles.entry(role.object.clone()).or_default().push(role);
        }
        for roles in policy.roles.values_mut() {
            roles.sort_by(|a, b| (&a.rules, &a.place).cmp(&(&b.rules, &b.place)));
            roles.dedup_by(|later, first| later.rules == first.rules);
        }
        for (at, binding) in policy.bindings.iter().enumerate() {
            for (place, subject) in &binding.subjects {
                // What Kubernetes gives its own controllers is part of the API server, so to speak.
                let controller = matches!(subject, Subject::Account(namespace, _) if namespace == "kube-system");
                if !(controller && binding.builtin) {
                    policy.of.entry(subject.clone()).or_default().push((at, *place));
                }
            }
        }
        policy
    }

    /// Everybody whose reach is worth a look: each ServiceAccount that a binding names, and each group of them.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.of.keys().filter(|subject| match subject {
            Subject::Account(..) => true,
            Subject::Group(name) => GROUPS.contains(&name.as_str()) || name.starts_with(OF_NAMESPACE),
        })
    }

    /// What bindings that name this subject give it.
    #[must_use]
    pub fn granted(&self, subject: &Subject) -> Vec<Granted<'_>> {
        let of = self.of.get(subject).into_iter().flatten();
        of.filter_map(|(at, place)| Some((self.bindings.get(*at)?, *place)))
            .flat_map(|(binding, subject)| {
                self.rules(&binding.role).map(move |(of, rule)| Granted { rule, of, binding, subject })
            })
            .collect()
    }

    /// What a role allows, with its place in the role if it was read.
    fn rules<'a>(
        &'a self,
        role: &Object,
    ) -> impl Iterator<Item = (Option<(&'a Role, usize)>, &'a PolicyRule)> + use<'a> {
        let given = self.roles.get(role).into_iter().flatten();
        let read = given
            .chain(self.added(role))
            .flat_map(|role| role.rules.iter().enumerate().map(move |(at, rule)| (Some((role, at)), rule)));
        let brought = self.brought(role).into_iter().flatten().map(|rule| (None, rule));
        read.chain(brought)
    }

    /// Whether it is known what every role of this kind and name allows, where a namespace is given of it alone, and
    /// none of it matters.
    #[must_use]
    pub fn is_harmless(&self, kind: &str, namespace: &str, name: &str, matters: impl Fn(&PolicyRule) -> bool) -> bool {
        let exact = Object::new(kind, if kind == "Role" { namespace } else { "" }, name);
        let anywhere = kind == "Role" && namespace.is_empty();
        let named = || self.roles.keys().filter(|role| role.kind == kind && role.name == name);
        let roles = if anywhere { named().cloned().collect() } else { vec![exact] };
        let harmless = |role: &Object| self.knows(role) && !self.rules(role).any(|(_, rule)| matters(rule));
        !roles.is_empty() && roles.iter().all(harmless)
    }

    /// Whether it was said what a role allows.
    fn knows(&self, role: &Object) -> bool {
        match self.roles.get(role) {
            Some(roles) => !roles.iter().all(|role| role.unfilled),
            None => self.brought(role).is_some(),
        }
    }

    /// What the groups of a ServiceAccount give it when it says who it is.
    #[must_use]
    pub fn of_groups(&self, namespace: &str) -> Vec<Granted<'_>> {
        let own = format!("{OF_NAMESPACE}{namespace}");
        let [_, authenticated, accounts] = GROUPS;
        let groups = [accounts, &own, authenticated];
        groups.into_iter().flat_map(|group| self.granted(&Subject::Group(group.to_owned()))).collect()
    }

    /// The rules of a role that Kubernetes brings along and that was not given.
    fn brought(&self, role: &Object) -> Option<&Vec<PolicyRule>> {
        let known = role.kind == "ClusterRole" && !self.roles.contains_key(role);
        self.builtin.get(role.name.as_str()).filter(|_| known)
    }

    /// Roles that Kubernetes adds to one that it brings along and that was not given.
    fn added<'a>(&'a self, role: &Object) -> impl Iterator<Item = &'a Role> + use<'a> {
        // Each of these is added to the next.
        let chain = ["view", "edit", "admin"];
        let at = self.brought(role).and_then(|_| chain.iter().position(|name| *name == role.name));
        let names = at.and_then(|at| chain.get(..=at)).unwrap_or_default().iter();
        let objects: BTreeSet<&Object> = names.filter_map(|name| self.added.get(*name)).flatten().collect();
        objects.into_iter().filter_map(|object| self.roles.get(object)).flatten()
    }

    /// Bindings of which nobody can say what they give: the role was not given, or is not filled in.
    pub fn unknown(&self) -> impl Iterator<Item = &Binding> {
        // In a cluster that was read as a whole a role that is not there does not exist, and the binding gives nothing.
        let may_exist = |of: &Binding| !of.place.file.is_empty() || !self.missing.is_empty();
        let unknown = move |of: &Binding| !self.knows(&of.role) && (self.roles.contains_key(&of.role) || may_exist(of));
        self.bindings.iter().filter(move |binding| unknown(binding))
    }
}

/// The roles that every cluster has and that manifests refer to, as far as it matters here.
fn builtin() -> BTreeMap<&'static str, Vec<PolicyRule>> {
    let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| PolicyRule {
        groups: set(groups),
        resources: set(resources),
        verbs: set(verbs),
        names: BTreeSet::new(),
    };
    let writes = ["create", "delete", "deletecollection", "patch", "update"];
    let edit = || {
        vec![
            rule(&[""], &["secrets"], &["get", "list", "watch"]),
            rule(&[""], &["secrets", "serviceaccounts", "pods", "replicationcontrollers"], &writes),
            rule(&[""], &["pods/attach", "pods/exec"], &["create", "get", "list", "watch", "patch", "update"]),
            rule(&[""], &["serviceaccounts"], &["impersonate"]),
            rule(&[""], &["serviceaccounts/token"], &["create"]),
            rule(&["apps"], &["daemonsets", "deployments", "replicasets", "statefulsets"], &writes),
            rule(&["batch"], &["cronjobs", "jobs"], &writes),
        ]
    };
    let mut all =
        BTreeMap::from([("cluster-admin", vec![rule(&["*"], &["*"], &["*"])]), ("edit", edit()), ("admin", edit())]);
    for harmless in [
        "view",
        "system:auth-delegator",
        "system:basic-user",
        "system:discovery",
        "system:public-info-viewer",
        "system:service-account-issuer-discovery",
    ] {
        all.insert(harmless, Vec::new());
    }
    all
}
