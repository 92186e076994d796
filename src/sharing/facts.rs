//! What one workload's manifest says: which slots its pods receive, as whom they run, and what tokens they get. A
//! custom resource that names Secrets counts as a workload without pods.
//!
//! The manifest is read as loose JSON: fields of the wrong type count as absent, because one odd workload must
//! not hide the others. No literal value is ever kept: a literal is remembered as the *path* where it stands.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};

use super::configmap::Reference;
use super::finding::{Grade, Object, Place};
use super::{pod, reference};

/// A kind that has a pod template, or that names Secrets without one.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its API group.
    pub group: &'static str,
    /// The version in which a cluster is asked for it.
    pub version: &'static str,
    /// Its name.
    pub kind: &'static str,
    /// The name of its resource.
    pub plural: &'static str,
    says: Says,
}

/// Where a kind says what matters.
#[derive(Clone, Copy, Debug)]
enum Says {
    /// In a pod template: the way to it; empty where the object is one.
    Template(&'static str),
    /// In fields of its own.
    Fields(&'static [reference::Field]),
}

const fn kind(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, version, kind, plural, says: Says::Template("spec.template") }
}

const fn custom(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    fields: &'static [reference::Field],
) -> Kind {
    Kind { group, version, kind, plural, says: Says::Fields(fields) }
}

impl Kind {
    /// How the API server is asked for it.
    #[must_use]
    pub fn resource(&self) -> ApiResource {
        resource(self.group, self.version, self.kind, self.plural)
    }

    /// The kind of this name in this group.
    #[must_use]
    pub fn of(group: &str, kind: &str) -> Option<&'static Self> {
        Self::named(kind).filter(|k| k.group == group)
    }

    /// The kind of this name, as objects have it: no two have one. See [`qualified`].
    #[must_use]
    pub fn named(kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|k| k.kind == kind)
    }

    /// `apiVersion` of its objects.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.resource().api_version
    }

    /// Whether its objects have pods.
    #[must_use]
    pub fn has_pods(&self) -> bool {
        matches!(self.says, Says::Template(_))
    }

    /// A field of its template, as a field of the object.
    #[must_use]
    pub fn path(&self, field: &str) -> String {
        match self.says {
            Says::Template("") | Says::Fields(_) => field.to_owned(),
            Says::Template(way) => format!("{way}.{field}"),
        }
    }
}

/// A kind as objects have it: one that is not among [`KINDS`] with its group, such as `Grafana.grafana.integreatly.org`,
/// so that nothing counts as a workload because of a name that two groups have.
#[must_use]
pub fn qualified(group: &str, kind: &str) -> SmolStr {
    match Kind::named(kind) {
        Some(known) if known.group != group => format_smolstr!("{kind}.{group}"),
        None if !group.is_empty() => format_smolstr!("{kind}.{group}"),
        _ => kind.into(),
    }
}

/// How the API server is asked for a kind.
#[must_use]
pub fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// A resource as people write it, such as `deployments.apps`.
#[must_use]
pub fn resource_name(of: &ApiResource) -> String {
    let dot = if of.group.is_empty() { "" } else { "." };
    format!("{}{dot}{}", of.plural, of.group)
}

const KNATIVE: &str = "serving.knative.dev";

/// The kinds that have a pod template, and those that name Secrets without one.
pub const KINDS: [Kind; 14] = [
    Kind { says: Says::Template(""), ..kind("", "v1", "Pod", "pods") },
    kind("", "v1", "ReplicationController", "replicationcontrollers"),
    kind("apps", "v1", "DaemonSet", "daemonsets"),
    kind("apps", "v1", "Deployment", "deployments"),
    kind("apps", "v1", "ReplicaSet", "replicasets"),
    kind("apps", "v1", "StatefulSet", "statefulsets"),
    Kind { says: Says::Template("spec.jobTemplate.spec.template"), ..kind("batch", "v1", "CronJob", "cronjobs") },
    kind("batch", "v1", "Job", "jobs"),
    kind("argoproj.io", "v1alpha1", "Rollout", "rollouts"),
    kind(KNATIVE, "v1", "Service", "services"),
    custom("gateway.envoyproxy.io", "v1alpha1", "SecurityPolicy", "securitypolicies", reference::SECURITY_POLICY),
    custom("configuration.konghq.com", "v1", "KongPlugin", "kongplugins", reference::KONG_PLUGIN),
    custom("k8s.nginx.org", "v1", "Policy", "policies", reference::NGINX_POLICY),
    custom(
        "grafana.integreatly.org",
        "v1beta1",
        "GrafanaDatasource",
        "grafanadatasources",
        reference::GRAFANA_DATASOURCE,
    ),
];

/// The keys of a Secret that a container receives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keys {
    /// Every key, those added later too.
    All,
    /// This one.
    One(SmolStr),
}

impl Keys {
    /// Whether this key is among them.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == key,
        }
    }
}

/// A Secret's keys that reach a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// The Secret, in the workload's namespace.
    pub secret: SmolStr,
    /// Which of its keys.
    pub keys: Keys,
    /// How sure.
    pub grade: Grade,
    /// The container; `None` for a volume that none mounts. Its name is empty where the object has none.
    pub container: Option<SmolStr>,
    /// It becomes a variable, or each key does.
    pub variable: bool,
    /// What it becomes is named as a client's credential is.
    pub credential: bool,
    /// The field.
    pub path: SmolStr,
}

/// A key of a Secret of another namespace that is named. Whether it is given is not said where it is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Elsewhere {
    /// Of which namespace.
    pub namespace: SmolStr,
    /// The Secret.
    pub secret: SmolStr,
    /// Its key.
    pub key: SmolStr,
    /// The field.
    pub path: SmolStr,
}

/// A ServiceAccount token in a volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Potential: no container mounts the volume.
    pub grade: Grade,
    /// For whom; empty is the API server.
    pub audience: SmolStr,
    /// The field.
    pub path: SmolStr,
}

/// What a literal means for a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meaning {
    /// It is the id of a declared client: this one.
    ClientId(SmolStr),
    /// It stands where a client's id would, and is that of no client that is known; what it says is not kept.
    UnknownId,
    /// It stands where a client secret would; what it says is not kept.
    Credential,
}

/// A literal that a container receives: from the manifest, or from a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Literal {
    /// What it means.
    pub means: Meaning,
    /// The container; empty where the object has none.
    pub container: SmolStr,
    /// The field, and what it refers to.
    pub path: SmolStr,
    /// How sure.
    pub grade: Grade,
}

/// An object of the same namespace: its kind, as [`qualified`] has it, and its name.
pub type Owner = (SmolStr, SmolStr);

/// What one workload's manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The workload.
    pub object: Object,
    /// Where it was read.
    pub place: Place,
    /// What it counts as: the controller that made it.
    pub owner: Option<Owner>,
    /// What its pods are like.
    pub template: Arc<Template>,
}

/// What a pod template says, or a custom resource that names Secrets. Nothing in it tells one pod from the next, so
/// that those of one template have one among them. Fields are those of the template: [`Kind::path`] leads to them.
/// Lists are sorted, and have each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Template {
    /// Of all the rest. It stands first, so that two are told apart, and ordered, without a look at it.
    pub(super) digest: u64,
    /// As which ServiceAccount its pods run; empty: it has no pods, or borrows their template.
    pub service_account: SmolStr,
    /// The application that its labels name, behind the place of the label in the list of those that may.
    pub app: Option<(usize, SmolStr)>,
    /// What the pod says about the API server's token.
    pub automount: Option<bool>,
    /// Containers see one another's processes, so that what one receives all have.
    pub shares_processes: bool,
    /// What its containers receive.
    pub edges: Vec<Edge>,
    /// Secrets that are named for the kubelet or a driver: no container has them, but somebody uses them.
    pub aside: Vec<SmolStr>,
    /// Keys of Secrets of other namespaces that are named.
    pub elsewhere: Vec<Elsewhere>,
    /// Tokens in volumes.
    pub tokens: Vec<Token>,
    /// Literals that matter.
    pub literals: Vec<Literal>,
    /// What its containers receive of ConfigMaps.
    pub configmaps: Vec<Reference>,
    /// Deliveries whose content the manifest does not say: the field, and what it is.
    pub opaque: Vec<(SmolStr, SmolStr)>,
    /// The workload whose template it is, by kind and name: a Rollout may borrow one, and has none of its own then.
    pub borrows: Option<Owner>,
    /// The custom resource for which an operator made the workload: a client may be said to be either.
    pub made_for: Option<Owner>,
}

/// The API group of an object.
#[must_use]
pub fn group(object: &Value) -> &str {
    group_in(object["apiVersion"].as_str().unwrap_or_default())
}

/// The group in an `apiVersion`.
#[must_use]
pub fn group_in(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Whether an object is of a kind that [`extract`] reads.
#[must_use]
pub fn is_workload(object: &Value) -> bool {
    Kind::of(group(object), object["kind"].as_str().unwrap_or_default()).is_some()
}

/// Reads one workload. `None` for what counts as none, and for an old revision of one.
#[must_use]
pub fn extract(object: &Value, place: Place, client_ids: &BTreeSet<String>) -> Option<Facts> {
    let kind = Kind::of(group(object), object["kind"].as_str()?)?;
    let meta = &object["metadata"];
    // An old revision that its Deployment keeps to go back to: it has no pods, and what it held was fixed since.
    let owner = if kind.has_pods() { owner(kind, meta) } else { None };
    let keeps = |(of, _): &Owner| of == "Deployment" || of == "Rollout";
    if kind.kind == "ReplicaSet" && owner.as_ref().is_some_and(keeps) && object["spec"]["replicas"].as_u64() == Some(0)
    {
        return None;
    }
    // Nothing runs in a pod that is done; its controller has made another one by now.
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    if kind.kind == "Pod" && matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    let mut of = Template::default();
    match kind.says {
        Says::Template(way) => {
            let template = way.split('.').filter(|step| !step.is_empty()).fold(object, |at, step| &at[step]);
            of.service_account = "default".into();
            of.app = app(&[&template["metadata"]["labels"], &meta["labels"]]);
            if kind.kind == "Rollout"
                && object["spec"]["workloadRef"].is_object()
                && !template["spec"]["containers"].is_array()
            {
                let target = &object["spec"]["workloadRef"];
                let name = target["name"].as_str().unwrap_or_default();
                of.borrows = Some((referred(target), name.into()));
                // As whom its pods run, the lender says.
                of.service_account = SmolStr::default();
            }
            pod::read(&template["spec"], client_ids, &mut of);
            pod::annotations(&template["metadata"]["annotations"], &mut of);
        }
        Says::Fields(fields) => {
            of.app = app(&[&meta["labels"]]);
            reference::read(object, fields, namespace(meta), client_ids, &mut of);
        }
    }
    // What a person can name has a name that stays; of the others there are many, and each is another one.
    let stays = matches!(kind.kind, "CronJob" | "DaemonSet" | "Deployment" | "Rollout" | "StatefulSet");
    let (owner, made_for) = match owner {
        Some((owner, name)) if stays && Kind::named(&owner).is_none() => (None, Some((owner, name))),
        owner => (owner, None),
    };
    of.made_for = made_for;
    Some(Facts {
        object: Object::new(kind.kind, namespace(meta), meta["name"].as_str().unwrap_or_default()),
        place,
        owner,
        template: Arc::new(of.digested()),
    })
}

/// Sorts, and keeps each once. Most have few: a sorted list is a tenth of a set's size.
fn each_once<T: Ord>(list: &mut Vec<T>) {
    list.sort();
    list.dedup();
    list.shrink_to_fit();
}

/// The kind that a reference names; one that says no group is taken at its word.
fn referred(reference: &Value) -> SmolStr {
    let kind = reference["kind"].as_str().unwrap_or_default();
    if reference["apiVersion"].is_string() { qualified(group(reference), kind) } else { kind.into() }
}

/// Which controller makes objects of which kind, and takes from them the reference to itself where they do not fit:
/// but that of CronJobs, which leaves it to Jobs of anybody. Of these kinds no other owner is believed: the reference is
/// written by whoever makes the object.
const MAKES: [(&str, &str); 8] = [
    ("ReplicaSet", "Pod"),
    ("ReplicationController", "Pod"),
    ("StatefulSet", "Pod"),
    ("DaemonSet", "Pod"),
    ("Job", "Pod"),
    ("CronJob", "Job"),
    ("Deployment", "ReplicaSet"),
    ("Rollout", "ReplicaSet"),
];

/// The controller that made an object. The ReplicaSet of a Deployment or Rollout is seen through by the hash that it
/// gives its pods, so that a dump of pods alone leads to what a person wrote; what Knative makes, by the label that it gives it.
/// What it counts as has no pods itself: it is none.
fn owner(kind: &Kind, meta: &Value) -> Option<Owner> {
    let owners = meta["ownerReferences"].as_array()?;
    let controller = owners.iter().find(|o| pod::boolean(&o["controller"]) == Some(true))?;
    let (of, name) = (referred(controller), controller["name"].as_str()?);
    let label = |name: &str| meta["labels"][name].as_str().filter(|value| !value.is_empty());
    if of == "Revision.serving.knative.dev" {
        return label("serving.knative.dev/service").map(|service| ("Service".into(), service.into()));
    }
    if Kind::named(&of).is_some() && !MAKES.contains(&(of.as_str(), kind.kind)) {
        return None;
    }
    let made_for = |(hash, kind): (&str, &'static str)| {
        let whole =
            label(hash).filter(|_| of == "ReplicaSet").and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
        whole.map(|whole| (kind.into(), whole.into()))
    };
    let above = [("rollouts-pod-template-hash", "Rollout"), ("pod-template-hash", "Deployment")];
    Some(above.into_iter().find_map(made_for).unwrap_or_else(|| (of.clone(), name.into())))
}

/// Which application labels name, the nearest to its pods first.
fn app(labels: &[&Value]) -> Option<(usize, SmolStr)> {
    let text = |labels: &Value, name: &str| labels[name].as_str().filter(|t| !t.is_empty()).map(SmolStr::from);
    let part = |labels: &Value| {
        let whole = text(labels, "app.kubernetes.io/part-of")?;
        Some(
            text(labels, "app.kubernetes.io/instance")
                .map_or(whole.clone(), |instance| format_smolstr!("{whole}/{instance}")),
        )
    };
    let all = labels.iter().flat_map(|labels| {
        let ways = [
            text(labels, "clientgrant.dev/app"),
            part(labels),
            text(labels, "app.kubernetes.io/name"),
            text(labels, "app"),
        ];
        ways.into_iter().enumerate().filter_map(|(at, app)| Some((at, app?)))
    });
    // Of one place the pods' own label counts.
    all.min_by_key(|(at, _)| *at)
}

/// The namespace of an object; `default` where it says none, as `kubectl` takes it.
#[must_use]
pub fn namespace(meta: &Value) -> &str {
    meta["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or("default")
}

impl Facts {
    /// What made it, whether it counts as that or as itself.
    #[must_use]
    pub fn made_by(&self) -> Option<&Owner> {
        self.owner.as_ref().or(self.template.made_for.as_ref())
    }
}

impl Template {
    /// The same, in order, once nothing is changed in it any more.
    #[must_use]
    pub(super) fn digested(self) -> Self {
        let mut of = Self { digest: 0, ..self };
        each_once(&mut of.edges);
        each_once(&mut of.aside);
        each_once(&mut of.elsewhere);
        each_once(&mut of.tokens);
        each_once(&mut of.literals);
        each_once(&mut of.configmaps);
        each_once(&mut of.opaque);
        let mut hasher = DefaultHasher::new();
        of.hash(&mut hasher);
        Self { digest: hasher.finish(), ..of }
    }

    /// Whether its pods get a token of their ServiceAccount that the account or the pod does not switch off.
    #[must_use]
    pub fn automounts(&self, account: Option<bool>) -> bool {
        !self.service_account.is_empty() && self.automount.or(account).unwrap_or(true)
    }
}
