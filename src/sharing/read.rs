//! From text to objects: YAML streams, JSON, lists.
//!
//! Messages say what is wrong and where, and of what kind it is. They never repeat anything else that stands in the
//! text: it could be a secret.

mod text;
mod unknown;
mod unrendered;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use k8s_openapi::jiff::Timestamp;
use kube::CustomResourceExt;
use serde_json::Value;

use super::configmap::ConfigMaps;
use super::declared::{self, Identity};
use super::evaluate::{Input, client_ids};
use super::facts::{self, Facts};
use super::finding::Place;
use super::index::Unread;
use super::pod;
use super::rbac::{self, Rbac};
use crate::api::{ClientGrant, ClientIdentity, GROUP};
use crate::grant::parse;

use self::text::count_lines;
use self::unrendered::{has_template, is_hollow, is_template, is_unrendered};

/// The largest file that is read.
pub const LARGEST: usize = 64 << 20;

const TEMPLATE: &str = "it is a template, which has to be rendered first";
const BROKEN: &str =
    "it is no whole Kubernetes object: look at its apiVersion and kind, or give the objects themselves";

/// The group of what kustomize builds from.
const KUSTOMIZE: &str = "kustomize.config.k8s.io";
const UNBUILT: &str = "it changes what stands beside it: give what `kustomize build` prints instead";

/// What of roles and bindings matters.
const RBAC: [&str; 6] =
    ["/metadata/name", "/metadata/namespace", "/rules", "/roleRef", "/subjects", "/aggregationRule"];

/// The kinds of our group.
const OURS: [&str; 6] = [
    "ClientGrant",
    "ClientIdentity",
    "ClientQuarantine",
    "ClusterIdentityProvider",
    "IdentityProvider",
    "PendingRevocation",
];

/// The schemas of the specs of our own objects.
static IDENTITY: LazyLock<JSONSchemaProps> = LazyLock::new(|| spec_of(ClientIdentity::crd()));
static GRANT: LazyLock<JSONSchemaProps> = LazyLock::new(|| spec_of(ClientGrant::crd()));

/// Collects what was read until everything is there.
#[derive(Debug, Default)]
pub struct Reader {
    workloads: Vec<(Value, Place)>,
    /// Of kinds that are not known, with pods or what a container could receive.
    others: Vec<(Value, Place)>,
    identities: Vec<(Value, Place)>,
    grants: Vec<(Value, Place)>,
    accounts: BTreeMap<(String, String), Option<bool>>,
    configmaps: Vec<Value>,
    configmaps_whole: bool,
    rbac: Rbac,
    unread: Vec<Unread>,
    first: Option<String>,
    namespace: Option<String>,
    whole: bool,
    objects: usize,
}

impl Reader {
    /// Says that a file could not be read.
    pub fn unread(&mut self, file: &str, line: usize, why: impl Into<String>) {
        self.unread.push(Unread { place: Place { file: file.to_owned(), line }, why: why.into() });
    }

    fn gap(&mut self, place: &Place, why: impl Into<String>) {
        self.unread.push(Unread { place: place.clone(), why: why.into() });
    }

    /// Says the namespace of objects that say none.
    pub fn namespace(&mut self, namespace: &str) {
        self.namespace = Some(namespace.to_owned());
    }

    /// Says that everything that a cluster has is given, but for what could not be read.
    pub fn whole(&mut self) {
        self.whole = true;
    }

    /// Says that every ConfigMap is given.
    pub fn every_configmap(&mut self) {
        self.configmaps_whole = true;
    }

    /// Says that a part of what RBAC allows is not known.
    pub fn no_rbac(&mut self, why: String) {
        self.rbac.missing.insert(why);
    }

    /// The file that was read first; empty: none was.
    #[must_use]
    pub fn first(&self) -> &str {
        self.first.as_deref().unwrap_or_default()
    }

    /// Whether there was nothing: no object, and nothing that could not be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects == 0 && self.unread.is_empty()
    }

    /// What could not be read so far.
    #[must_use]
    pub fn failures(&self) -> &[Unread] {
        &self.unread
    }

    /// Reads the objects of one file. What cannot be read is remembered, and the rest is read.
    pub fn add(&mut self, file: &str, bytes: &[u8]) {
        self.first.get_or_insert_with(|| file.to_owned());
        if bytes.len() > LARGEST {
            return self.unread(file, 1, format!("it is larger than {} MiB", LARGEST >> 20));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.trim_start_matches('\u{feff}'),
            Err(error) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                return self.unread(file, 1 + count_lines(before), "it is no text in UTF-8");
            }
        };
        text::values(text, |(line, read)| match read {
            Ok(value) => self.object(value, &Place { file: file.to_owned(), line }),
            Err(why) => self.unread(file, line, why),
        });
    }

    /// Takes in one object, or a list of them. Lists of lists are read as deep as a parser reads anything.
    pub fn object(&mut self, mut value: Value, place: &Place) {
        if let Value::Array(items) = value {
            return items.into_iter().for_each(|item| self.object(item, place));
        }
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        if let (Some(of), Some(items)) =
            (kind.strip_suffix("List"), value.get_mut("items").and_then(Value::as_array_mut))
        {
            let items = std::mem::take(items);
            let version = value["apiVersion"].clone();
            for mut item in items {
                // Lists of one kind leave out what their entries are.
                if let Some(fields) = item.as_object_mut().filter(|_| !of.is_empty()) {
                    fields.entry("kind").or_insert_with(|| of.into());
                    fields.entry("apiVersion").or_insert_with(|| version.clone());
                }
                self.object(item, place);
            }
            return;
        }
        // It may be written without either.
        let file = place.file.rsplit('/').next().unwrap_or_default();
        let named = kind.is_empty() && ["kustomization.yaml", "kustomization.yml"].contains(&file) && value.is_object();
        if named || facts::group(&value) == KUSTOMIZE {
            return self.gap(place, UNBUILT);
        }
        let version = value["apiVersion"].as_str().unwrap_or_default();
        if is_unrendered(&kind) || is_unrendered(version) {
            return self.gap(place, TEMPLATE);
        }
        if kind.is_empty() || version.is_empty() {
            if is_broken(&value) {
                self.gap(place, BROKEN);
            }
            return;
        }
        self.objects += 1;
        let place = place.clone();
        if let Some(namespace) = self.namespace.as_ref().filter(|_| !kind.starts_with("Cluster"))
            && value["metadata"].is_object()
            && !says_namespace(&value)
        {
            value["metadata"]["namespace"] = namespace.as_str().into();
        }
        match (facts::group(&value), kind.as_str()) {
            (GROUP, "ClientIdentity") => self.identities.push((value, place)),
            (GROUP, "ClientGrant") => self.grants.push((value, place)),
            (GROUP, other) if OURS.contains(&other) => {}
            (group, other) if is_almost_ours(group, other) => {
                self.gap(&place, format!("it is almost of {GROUP}, which has {}", OURS.join(", ")));
            }
            ("template.openshift.io", "Template") => self.gap(&place, TEMPLATE),
            ("", "List") if value["items"].is_object() => self.gap(&place, BROKEN),
            ("meta.k8s.io", "Table") => self.gap(&place, BROKEN),
            ("", "ServiceAccount") => {
                let meta = &value["metadata"];
                let name = meta["name"].as_str().unwrap_or_default().to_owned();
                let says = pod::boolean(&value["automountServiceAccountToken"]);
                let known = self.accounts.entry((facts::namespace(meta).to_owned(), name)).or_insert(says);
                // Of two that disagree the one that gives more counts, so that their order does not matter.
                if *known != says {
                    *known = None;
                }
            }
            ("", "ConfigMap") => {
                // What is binary is not looked at.
                value.as_object_mut().map(|fields| fields.remove("binaryData"));
                self.configmaps.push(value);
            }
            _ if rbac::is_rbac(&value) && RBAC.iter().filter_map(|way| value.pointer(way)).any(has_template) => {
                self.gap(&place, TEMPLATE);
            }
            _ if rbac::is_rbac(&value) => self.rbac.extend(rbac::Piece::read(&value, place)),
            _ if facts::is_workload(&value) => self.workloads.push((value, place)),
            _ if unknown::may_concern(&value) => self.others.push((value, place)),
            _ => {}
        }
    }

    /// Everything that was read, ready to be evaluated at `now`.
    #[must_use]
    pub fn finish(mut self, now: Timestamp) -> Input {
        self.homeless();
        let mut identities = Vec::new();
        for (value, place) in std::mem::take(&mut self.identities) {
            if let Some(object) = self.typed::<ClientIdentity>(value, &place, "ClientIdentity", &IDENTITY) {
                identities.push(Arc::new(declared::identity(&object, place)));
            }
        }
        let mut grants = Vec::new();
        for (value, place) in std::mem::take(&mut self.grants) {
            if let Some(object) = self.typed::<ClientGrant>(value, &place, "ClientGrant", &GRANT) {
                if let Err(why) = parse::terms(&object.spec) {
                    // Behind a colon it may repeat what stands there.
                    let why = why.split(": ").next().unwrap_or_default();
                    self.gap(&place, format!("a ClientGrant breaks a rule that the API server has for it: {why}"));
                }
                grants.push(Arc::new(declared::grant(&object, place, now)));
            }
        }
        let mut ids = client_ids(&identities);
        ids.extend(grants.iter().map(|grant| grant.client.client.to_string()));
        let mut facts = Vec::new();
        for (mut value, place) in std::mem::take(&mut self.workloads) {
            name(&mut value);
            let Some(one) = facts::extract(&value, place, &ids) else { continue };
            if is_template(&one) || is_hollow(&value) {
                self.gap(&one.place, TEMPLATE);
            } else if one.object.name.is_empty() {
                self.gap(&one.place, nameless(&one.object.kind));
            } else {
                facts.push(one);
            }
        }
        for (mut value, place) in std::mem::take(&mut self.others) {
            name(&mut value);
            self.unread.extend(unknown::why(&value, &identities, &facts).map(|why| Unread { place, why }));
        }
        self.unread.extend(unlent(&facts, &identities));
        let mut configmaps = ConfigMaps::default();
        self.configmaps.iter().for_each(|value| configmaps.add(value, &ids));
        configmaps.whole(self.configmaps_whole);
        Input {
            facts,
            accounts: self.accounts,
            configmaps,
            identities,
            grants,
            rbac: self.rbac,
            unread: self.unread,
            whole: self.whole,
            objects: self.objects,
            ..Input::default()
        }
    }

    /// Clients and workloads of which some say a namespace and the others none would not be compared.
    fn homeless(&mut self) {
        let says = |objects: &[(Value, Place)], one: bool| objects.iter().any(|(of, _)| says_namespace(of) == one);
        let (identities, workloads) = (&self.identities, &self.workloads);
        let alone = match (says(identities, true), says(workloads, false)) {
            (true, true) => workloads,
            (false, false) if says(workloads, true) => identities,
            _ => return,
        };
        let without = alone.iter().filter(|(of, place)| !says_namespace(of) && !place.file.is_empty());
        let why = "it says no namespace, and others do: render it with its namespace, or say which with -n";
        self.unread.extend(without.map(|(_, place)| Unread { place: place.clone(), why: why.to_owned() }));
    }

    fn typed<T: serde::de::DeserializeOwned>(
        &mut self,
        mut value: Value,
        place: &Place,
        kind: &str,
        schema: &JSONSchemaProps,
    ) -> Option<T> {
        let mut fail = |why: String| {
            self.gap(place, why);
            None
        };
        let names = ["name", "namespace", "generateName"].map(|field| &value["metadata"][field]);
        if names.into_iter().any(has_template) || has_template(&value["spec"]) {
            return fail(TEMPLATE.to_owned());
        }
        if !name(&mut value) {
            return fail(nameless(kind));
        }
        let namespace = facts::namespace(&value["metadata"]).to_owned();
        value["metadata"]["namespace"] = namespace.into();
        if !place.file.is_empty()
            && let Some(why) = odd_field(schema, &value["spec"], "spec")
        {
            return fail(format!("a {kind} has a field that the schema does not have: {why}"));
        }
        match serde_json::from_value(value) {
            Ok(object) => Some(object),
            Err(error) => {
                let said = error.to_string();
                // The names of our own fields are no secret; what stands in them could be.
                match said.strip_prefix("missing field ") {
                    Some(field) => fail(format!("a {kind} lacks the field {field}")),
                    None => fail(format!("a {kind} has a field of another form than the schema says")),
                }
            }
        }
    }
}

/// Whether a kind is meant to be one of ours. Other groups have kinds of these names, too.
fn is_almost_ours(group: &str, kind: &str) -> bool {
    let named = ["ClientGrant", "ClientIdentity"].iter().any(|ours| kind.eq_ignore_ascii_case(ours));
    group == GROUP || (named && (group.is_empty() || group.ends_with(".dev")))
}

fn says_namespace(object: &Value) -> bool {
    object["metadata"]["namespace"].as_str().is_some_and(|namespace| !namespace.is_empty())
}

/// Whether something was meant to be an object, and is none: without its kind or version, or wrapped in an event of a
/// watch.
fn is_broken(value: &Value) -> bool {
    let is_object = |value: &Value| value["kind"].is_string() && value["metadata"].is_object();
    let named = value["metadata"]["name"].is_string() || value["metadata"]["generateName"].is_string();
    let listed = value["items"].as_array().is_some_and(|items| items.iter().any(is_object));
    named || listed || is_object(&value["object"])
}

/// Gives an object that the server is to name what its name will begin with, and a star: no object is called so.
/// False: it has no name at all.
fn name(value: &mut Value) -> bool {
    let text = |field: &str| value["metadata"][field].as_str().filter(|text| !text.is_empty());
    if text("name").is_some() {
        return true;
    }
    let Some(begin) = text("generateName").map(|begin| format!("{begin}*")) else { return false };
    value["metadata"]["name"] = begin.into();
    true
}

fn nameless(kind: &str) -> String {
    format!("a {kind} has no name: say it in metadata.name")
}

/// Objects that borrow a template which is not there, in a namespace of a client: they may hold anything. Of one that
/// is listed SC-901 says so.
fn unlent<'a>(facts: &'a [Facts], identities: &'a [Arc<Identity>]) -> impl Iterator<Item = Unread> + 'a {
    let here: BTreeSet<(&str, &str, &str)> = facts
        .iter()
        .map(|of| (of.object.namespace.as_str(), of.object.kind.as_str(), of.object.name.as_str()))
        .collect();
    let alone = facts.iter().filter(move |of| {
        let lender = of.template.borrows.as_ref();
        lender.is_some_and(|(kind, name)| !here.contains(&(of.object.namespace.as_str(), kind, name)))
    });
    let concerns = |of: &&Facts| {
        let mut near = identities.iter().filter(|i| i.object.namespace == of.object.namespace).peekable();
        let listed =
            |i: &Arc<Identity>| i.workloads.iter().any(|w| of.object.is_a(&w.kind) && w.name == of.object.name);
        near.peek().is_some() && !near.any(listed)
    };
    alone.filter(concerns).map(|of| {
        let why = format!(
            "a {} borrows a template that is not there: give what it names in spec.workloadRef",
            of.object.kind
        );
        Unread { place: of.place.clone(), why }
    })
}

/// The schema of the spec of one of our kinds.
fn spec_of(crd: CustomResourceDefinition) -> JSONSchemaProps {
    let schema = crd.spec.versions.into_iter().find_map(|version| version.schema?.open_api_v3_schema);
    schema.and_then(|schema| schema.properties?.remove("spec")).unwrap_or_default()
}

/// Where there is a field that a schema does not have, as one that is misspelt: the API server would drop it. It is not
/// named, because a value may stand in its place.
fn odd_field(schema: &JSONSchemaProps, value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(fields) => {
            let known = schema.properties.as_ref()?;
            fields.iter().find_map(|(name, value)| match known.get(name) {
                Some(schema) => odd_field(schema, value, &format!("{path}.{name}")),
                None => Some(format!("{path} has {}", known.keys().map(String::as_str).collect::<Vec<_>>().join(", "))),
            })
        }
        Value::Array(values) => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(schema)) => {
                let mut entries = values.iter().enumerate();
                entries.find_map(|(at, value)| odd_field(schema, value, &format!("{path}[{at}]")))
            }
            _ => None,
        },
        _ => None,
    }
}
