//! From text to objects: YAML streams, JSON, lists. Hostile text costs bounded time and memory.
//!
//! Messages say what is wrong and where, and of what kind it is. They never repeat anything else that stands in the
//! text: it could be a secret.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use k8s_openapi::jiff::Timestamp;
use kube::CustomResourceExt;
use serde::de::{DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_json::{Map, Value};

use super::configmap::ConfigMaps;
use super::declared::{self, Credential, Identity};
use super::evaluate::{Input, client_ids};
use super::facts::{self, Facts, Owner, Template};
use super::finding::Place;
use super::index::{Unread, service_account};
use super::pod;
use super::rbac::{self, Rbac};
use crate::api::{ClientGrant, ClientIdentity, GROUP, WorkloadRef};

/// The largest file that is read.
pub const LARGEST: usize = 64 << 20;

/// Most values in one document, those that aliases repeat counted each time. The API server takes no object that is
/// near it; a list of all pods of a large cluster is.
const NODES: usize = 4_000_000;

/// How many values a text may have: each takes a byte at least, and aliases may repeat a few.
fn budget(text: &str) -> usize {
    NODES.min(100_000_usize.saturating_add(text.len().saturating_mul(4)))
}

/// Brackets deeper than this are no manifest, and cost the parser the square of their number.
const BRACKETS: usize = 512;

const TWICE: &str = "a key stands twice in one mapping";
const NO_TEXT: &str = "a key is no text";
const TOO_MANY: &str = "it has too many values";
const TOO_DEEP: &str = "it is nested too deeply";
const TEMPLATE: &str = "it is a template, which has to be rendered first";

/// The group of what kustomize builds from.
const KUSTOMIZE: &str = "kustomize.config.k8s.io";
const UNBUILT: &str = "it changes what stands beside it: give what `kustomize build` prints instead";

/// The ways to a pod's spec in kinds that are not known.
const PODS: [&str; 3] =
    ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec", "/spec/jobTargetRef/template/spec"];

/// What of roles and bindings matters.
const RBAC: [&str; 6] =
    ["/metadata/name", "/metadata/namespace", "/rules", "/roleRef", "/subjects", "/aggregationRule"];
/// Fields that hold others: where a text is in their place, it stands for all of them.
const STRUCTURE: [&str; 14] = [
    "containers",
    "env",
    "envFrom",
    "ephemeralContainers",
    "initContainers",
    "items",
    "jobTemplate",
    "projected",
    "sources",
    "spec",
    "template",
    "valueFrom",
    "volumeMounts",
    "volumes",
];
/// The schemas of the specs of our own objects.
static IDENTITY: LazyLock<JSONSchemaProps> = LazyLock::new(|| spec_of(ClientIdentity::crd()));
static GRANT: LazyLock<JSONSchemaProps> = LazyLock::new(|| spec_of(ClientGrant::crd()));
/// Fields of our own objects that nothing is compared with.
const WORDS: [&str; 2] = ["reason", "purpose"];

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
    whole: bool,
    objects: usize,
}

impl Reader {
    /// Says that a file could not be read.
    pub fn unread(&mut self, file: &str, line: usize, why: impl Into<String>) {
        self.unread.push(Unread { place: Place { file: file.to_owned(), line }, why: why.into() });
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
        if text.trim_start().starts_with(['{', '[']) && self.json(file, text) {
            return;
        }
        for (line, document) in documents(&with_line_feeds(text)) {
            if let Some(at) = too_deep(document) {
                self.unread(file, line + at, TOO_DEEP);
                continue;
            }
            match parse_yaml(document) {
                Ok(value) => self.object(value, &Place { file: file.to_owned(), line: line + lead(document) }),
                Err((at, _)) if document.contains("{{") => self.unread(file, line + at, TEMPLATE),
                Err((at, why)) => self.unread(file, line + at, why),
            }
        }
    }

    /// Reads JSON objects, one after the other. False if this is no JSON: then nothing was taken.
    fn json(&mut self, file: &str, text: &str) -> bool {
        let mut parsed = Vec::new();
        let (mut rest, mut line) = (text, 1);
        while !rest.trim_start().is_empty() {
            let blank = rest.len() - rest.trim_start().len();
            line += count_lines(rest.as_bytes().get(..blank).unwrap_or_default());
            rest = rest.trim_start();
            // A sequence of documents is parsed one at a time, so that each has the whole budget.
            let budget = Cell::new(budget(rest));
            let mut stream = serde_json::Deserializer::from_str(rest);
            match (Node { budget: &budget }).deserialize(&mut stream) {
                Ok(value) => {
                    let mut used = serde_json::Deserializer::from_str(rest).into_iter::<serde::de::IgnoredAny>();
                    _ = used.next();
                    let offset = used.byte_offset();
                    parsed.push((line, value));
                    let Some((read, next)) = rest.split_at_checked(offset).filter(|_| offset > 0) else { break };
                    line += count_lines(read.as_bytes());
                    rest = next;
                }
                Err(error) => {
                    let said = error.to_string();
                    let Some(why) = [TWICE, TOO_MANY].into_iter().find(|why| said.contains(why)) else { return false };
                    self.unread(file, line + error.line().saturating_sub(1), why);
                    break;
                }
            }
        }
        for (line, value) in parsed {
            self.object(value, &Place { file: file.to_owned(), line });
        }
        true
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
            return self.unread.push(Unread { place: place.clone(), why: UNBUILT.to_owned() });
        }
        if kind.is_empty() || !value["apiVersion"].is_string() {
            return;
        }
        self.objects += 1;
        let place = place.clone();
        match (facts::group(&value), kind.as_str()) {
            (GROUP, "ClientIdentity") => self.identities.push((value, place)),
            (GROUP, "ClientGrant") => self.grants.push((value, place)),
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
                self.unread.push(Unread { place, why: TEMPLATE.to_owned() });
            }
            _ if rbac::is_rbac(&value) => self.rbac.extend(rbac::Piece::read(&value, place)),
            _ if facts::is_workload(&value) => self.workloads.push((value, place)),
            _ if pods(&value).is_some() || mentions(&value) != Mentions::default() => self.others.push((value, place)),
            _ => {}
        }
    }

    /// Everything that was read, ready to be evaluated at `now`.
    #[must_use]
    pub fn finish(mut self, now: Timestamp) -> Input {
        let mut identities = Vec::new();
        for (value, place) in std::mem::take(&mut self.identities) {
            if let Some(object) = self.typed::<ClientIdentity>(value, &place, "ClientIdentity", &IDENTITY) {
                identities.push(Arc::new(declared::identity(&object, place)));
            }
        }
        let mut grants = Vec::new();
        for (value, place) in std::mem::take(&mut self.grants) {
            if let Some(object) = self.typed::<ClientGrant>(value, &place, "ClientGrant", &GRANT) {
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
                self.unread.push(Unread { place: one.place, why: TEMPLATE.to_owned() });
            } else if one.object.name.is_empty() {
                self.unread.push(Unread { place: one.place, why: nameless(&one.object.kind) });
            } else {
                facts.push(one);
            }
        }
        for (mut value, place) in std::mem::take(&mut self.others) {
            name(&mut value);
            self.unread.extend(unknown(&value, &identities, &facts).map(|why| Unread { place, why }));
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

    fn typed<T: serde::de::DeserializeOwned>(
        &mut self,
        mut value: Value,
        place: &Place,
        kind: &str,
        schema: &JSONSchemaProps,
    ) -> Option<T> {
        let mut fail = |why: String| {
            self.unread.push(Unread { place: place.clone(), why });
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

/// The spec of an object's pods.
fn pods(object: &Value) -> Option<&Value> {
    PODS.iter().filter_map(|way| object.pointer(way)).find(|spec| spec["containers"].is_array())
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
fn unknown(object: &Value, identities: &[Arc<Identity>], facts: &[Facts]) -> Option<String> {
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

/// Whether a text is still to be rendered: `{{ }}`, or `${x}` as envsubst and Flux have it.
fn is_unrendered(text: &str) -> bool {
    let variable = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    text.contains("{{") || text.split("${").skip(1).any(variable)
}

/// Whether something in it that is compared is still to be rendered.
fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => is_unrendered(text),
        Value::Array(values) => values.iter().any(has_template),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| !WORDS.contains(&name.as_str()) && has_template(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a part of a workload is still to be rendered as a whole.
fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(name, value)| match value {
            Value::String(text) => STRUCTURE.contains(&name.as_str()) && is_unrendered(text),
            // Of these names are of somebody's own.
            Value::Object(_) if name == "annotations" || name == "labels" => false,
            value => is_hollow(value),
        }),
        Value::Array(values) => values.iter().any(is_hollow),
        _ => false,
    }
}

/// Whether a name that matters is still to be rendered. Elsewhere braces are nothing special.
fn is_template(facts: &Facts) -> bool {
    let slots = facts.template.edges.iter().flat_map(|edge| {
        let key = match &edge.keys {
            facts::Keys::One(key) => key.as_str(),
            facts::Keys::All => "",
        };
        [edge.secret.as_str(), key]
    });
    let elsewhere = facts.template.elsewhere.iter();
    let elsewhere = elsewhere.flat_map(|of| [of.namespace.as_str(), of.secret.as_str()]);
    let object = &facts.object;
    let names = [object.namespace.as_str(), object.name.as_str(), facts.template.service_account.as_str()];
    let app = facts.template.app.iter().map(|(_, app)| app.as_str());
    slots.chain(elsewhere).chain(names).chain(app).any(is_unrendered)
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b == b'\n').count()
}

/// The line of a document, from 0, on which brackets are nested too deeply. Those in texts count as well: of a script that
/// opens so many and closes none its document is lost, and said to be.
fn too_deep(document: &str) -> Option<usize> {
    let mut depth = 0_usize;
    document.split('\n').position(|line| {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        depth > BRACKETS
    })
}

/// The text with each of its line breaks as a line feed, as many as before: YAML 1.1 has others.
fn with_line_feeds(text: &str) -> Cow<'_, str> {
    const BREAKS: [char; 4] = ['\r', '\u{85}', '\u{2028}', '\u{2029}'];
    // That of a carriage return with a line feed is the latter.
    let alone = |(at, c): (usize, char)| BREAKS.contains(&c) && !text.get(at..).is_some_and(|t| t.starts_with("\r\n"));
    if !text.contains(BREAKS) || !text.char_indices().any(alone) {
        return Cow::Borrowed(text);
    }
    text.char_indices().map(|(at, c)| if alone((at, c)) { '\n' } else { c }).collect()
}

/// The documents of a YAML stream, each with the number of its first line. A marker at the begin of a line ends a
/// document wherever it stands, so that one that is malformed does not take the next with it.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first, mut at, mut content) = (0, 1, 0, false);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        let marker =
            |mark| bare.strip_prefix(mark).is_some_and(|rest: &str| rest.is_empty() || rest.starts_with([' ', '\t']));
        let begins = marker("---");
        if begins || marker("...") || (!content && bare.starts_with('%')) {
            if content {
                documents.push((first, text.get(start..at).unwrap_or_default()));
            }
            let skipped = if begins { 0 } else { line.len() };
            (start, first, content) = (at + skipped, number + 1 + usize::from(!begins), false);
            let rest = bare.strip_prefix("---").filter(|_| begins).unwrap_or_default().trim_start();
            content |= !rest.is_empty() && !rest.starts_with('#');
        } else {
            content |= !bare.trim_start().is_empty() && !bare.trim_start().starts_with('#');
        }
        at += line.len();
    }
    if content {
        documents.push((first, text.get(start..).unwrap_or_default()));
    }
    documents
}

/// How many lines of a document come before its first field.
fn lead(document: &str) -> usize {
    let empty = |line: &&str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line.starts_with("--- #")
    };
    document.lines().take_while(empty).count()
}

/// One document, or how many lines in and why not.
fn parse_yaml(document: &str) -> Result<Value, (usize, &'static str)> {
    let budget = Cell::new(budget(document));
    (Node { budget: &budget }).deserialize(serde_yaml::Deserializer::from_str(document)).map_err(|error| {
        let said = error.to_string();
        let known = [TWICE, NO_TEXT, TOO_MANY].into_iter().find(|why| said.contains(why));
        let why = known.unwrap_or(match () {
            () if said.contains("recursion limit") => TOO_DEEP,
            () if said.contains("repetition limit") => "its aliases repeat too much",
            () => "it is no well-formed YAML or JSON",
        });
        // The parser points behind the end where something is left open.
        let last = document.lines().count().saturating_sub(1);
        (error.location().map_or(0, |l| l.line().saturating_sub(1)).min(last), why)
    })
}

/// Reads any value within a budget.
struct Node<'a> {
    budget: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let Some(left) = self.budget.get().checked_sub(1) else { return Err(D::Error::custom(TOO_MANY)) };
        self.budget.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    // No manifest needs a number as large: that it is one is enough.
    fn visit_i128<E>(self, _: i128) -> Result<Value, E> {
        Ok(i64::MAX.into())
    }

    fn visit_u128<E>(self, _: u128) -> Result<Value, E> {
        Ok(u64::MAX.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        // Long texts are spent from the same budget: aliases may repeat them.
        let Some(left) = self.budget.get().checked_sub(value.len() / 32) else { return Err(E::custom(TOO_MANY)) };
        self.budget.set(left);
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = entries.next_element_seed(Node { budget: self.budget })? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        let mut merged = Vec::new();
        while let Some(key) = entries.next_key_seed(Node { budget: self.budget })? {
            let key = match key {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(value) => value.to_string(),
                _ => return Err(A::Error::custom(NO_TEXT)),
            };
            let value = entries.next_value_seed(Node { budget: self.budget })?;
            if key == "<<" {
                merged.push(value);
            } else if fields.insert(key, value).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        for value in merged {
            let maps = match value {
                Value::Array(maps) => maps,
                one => vec![one],
            };
            for (key, value) in maps.into_iter().flat_map(|m| if let Value::Object(m) = m { m } else { Map::new() }) {
                fields.entry(key).or_insert(value);
            }
        }
        Ok(Value::Object(fields))
    }

    // A tag of somebody's own: what it says is taken without it.
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        let (_, content) = data.variant_seed(Node { budget: self.budget })?;
        content.newtype_variant_seed(Node { budget: self.budget })
    }
}
