//! What ConfigMaps say of clients: of each key whether it is a client's id or stands where a credential would.
//!
//! A ConfigMap becomes this and is dropped. No value is kept but the ids of clients that are declared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::core::ApiResource;
use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};

use super::facts::{self, Edge, Keys, Literal, Meaning, namespace};
use super::finding::Grade;
use super::pod::{is_credential_name, is_filled, meaning};
use super::workload::Workload;

/// The resource, as people write it.
pub const RESOURCE: &str = "configmaps";

/// How the API server is asked for them.
#[must_use]
pub fn resource() -> ApiResource {
    facts::resource("", "v1", "ConfigMap", RESOURCE)
}

/// ConfigMaps in one answer: each may have 1 MiB.
pub const PAGE: u32 = 20;
/// The largest value that is looked at.
const LARGEST: usize = 64 << 10;
/// The API server's own certificates, which are in every pod.
const ROOTS: &str = "kube-root-ca.crt";

/// A ConfigMap's keys that reach a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The ConfigMap, in the workload's namespace.
    pub configmap: SmolStr,
    /// Which of its keys.
    pub keys: Keys,
    /// What it becomes is named as a client's credential is.
    pub credential: bool,
    /// What stands before the name of each key in the variable that it becomes.
    pub prefix: SmolStr,
    /// The container.
    pub container: SmolStr,
    /// The field.
    pub path: SmolStr,
}

impl Reference {
    /// What a pod names as it names a Secret. `None`: no container receives it, or it is the same in every pod.
    #[must_use]
    pub fn new(edge: Edge, prefix: &str) -> Option<Self> {
        let Edge { secret: configmap, keys, container, credential, path, .. } = edge;
        let container = container.filter(|_| configmap != ROOTS)?;
        Some(Self { configmap, keys, credential, prefix: prefix.into(), container, path })
    }

    fn literal(&self, means: Meaning, of: &str, grade: Grade) -> Literal {
        let path = format_smolstr!("{} (ConfigMap/{}, {of})", self.path, self.configmap);
        Literal { means, container: self.container.clone(), path, grade }
    }
}

/// What one key says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    name: Box<str>,
    /// There is something in it that may be a credential, under a name that says so.
    filled: bool,
    /// By its own name, or by those of the lines in it: sorted, and each once.
    means: Vec<Meaning>,
}

/// What one ConfigMap says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMap {
    /// Those that say something: sorted by name, and each once.
    keys: Vec<Key>,
}

impl ConfigMap {
    /// Reads one. What is binary, or of another type than text, says nothing.
    #[must_use]
    pub fn read(object: &Value, client_ids: &BTreeSet<String>) -> Self {
        let data = object["data"].as_object().into_iter().flatten();
        let texts = data.filter_map(|(name, value)| Some((name, value.as_str()?)));
        let keys = texts.filter(|(_, text)| text.len() <= LARGEST).filter_map(|(name, text)| {
            let (text, known) = (text.trim(), |named: &str, text: &str| meaning(named, text, client_ids));
            let mut all: Vec<Meaning> = lines(text).filter_map(|(named, text)| known(named, text)).collect();
            all.extend(known(name, text));
            all.sort();
            all.dedup();
            let filled = is_filled(text) && !client_ids.contains(text);
            (filled || !all.is_empty()).then(|| Key { name: name.as_str().into(), filled, means: all })
        });
        let mut keys: Vec<Key> = keys.collect();
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        keys.shrink_to_fit();
        Self { keys }
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.keys.is_empty()
    }

    /// Takes in what another one of its name says.
    fn merge(&mut self, other: Self) {
        for mut key in other.keys {
            match self.keys.binary_search_by(|known| known.name.cmp(&key.name)) {
                Err(at) => self.keys.insert(at, key),
                Ok(at) => {
                    let Some(known) = self.keys.get_mut(at) else { continue };
                    known.filled |= key.filled;
                    known.means.append(&mut key.means);
                    known.means.sort();
                    known.means.dedup();
                }
            }
        }
    }

    /// What reaches a container by a reference.
    fn through<'a>(&'a self, reference: &'a Reference) -> impl Iterator<Item = Literal> + 'a {
        self.keys.iter().filter(|key| reference.keys.has(&key.name)).flat_map(move |key| {
            let becomes = || is_credential_name(&format!("{}{}", reference.prefix, key.name));
            let credential = reference.credential || (!reference.prefix.is_empty() && becomes());
            let named = (credential && key.filled).then_some(Meaning::Credential);
            let of = format!("key {}", key.name);
            key.means.iter().cloned().chain(named).map(move |means| reference.literal(means, &of, Grade::Direct))
        })
    }
}

/// Name and value of each line that has both: of properties, of variables in a file, of YAML and JSON as far as
/// a line shows it.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let comment = |line: &str| ["#", "//", ";", "!"].iter().any(|mark| line.trim_start().starts_with(mark));
    // Of a template nobody knows what it becomes.
    let lines = text.lines().filter(move |line| !comment(line) && !line.contains("{{"));
    // A mapping may stand in one line.
    lines.flat_map(|line| line.split([',', '{', '}'])).filter_map(|part| {
        let (named, value) = part.split_once([':', '='])?;
        let value = value.trim_start_matches(['=', '>']).split(" #").next()?.trim().trim_end_matches(';');
        let value = value.trim_matches(['"', '\'', '`', '\\']);
        let named = named.split_whitespace().next_back()?;
        (value != "null" && value != "~").then_some((named, value))
    })
}

/// What ConfigMaps say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMaps {
    /// By namespace and name.
    all: BTreeMap<String, BTreeMap<String, Arc<ConfigMap>>>,
    /// Every one was read: what is not among them is not there, or says nothing.
    whole: bool,
}

impl ConfigMaps {
    /// Takes one in; of two of one name both count, so that their order does not matter.
    pub fn add(&mut self, object: &Value, client_ids: &BTreeSet<String>) {
        let meta = &object["metadata"];
        let named = self.all.entry(namespace(meta).to_owned()).or_default();
        let known = named.entry(meta["name"].as_str().unwrap_or_default().to_owned()).or_default();
        Arc::make_mut(known).merge(ConfigMap::read(object, client_ids));
    }

    /// One says this; `None`: it is gone. True if that is news.
    pub(super) fn set(&mut self, namespace: &str, name: &str, says: Option<ConfigMap>) -> bool {
        let named = self.all.entry(namespace.to_owned()).or_default();
        let news = match says.filter(|says| !says.is_blank()) {
            Some(says) if named.get(name).is_some_and(|known| **known == says) => false,
            Some(says) => {
                named.insert(name.to_owned(), Arc::new(says));
                true
            }
            None => named.remove(name).is_some(),
        };
        if named.is_empty() {
            self.all.remove(namespace);
        }
        news
    }

    /// Says whether every one was read. True if that is news.
    pub fn whole(&mut self, whole: bool) -> bool {
        std::mem::replace(&mut self.whole, whole) != whole
    }

    /// The literals that a workload's containers receive.
    pub(super) fn received(&self, workload: &Workload) -> BTreeSet<Literal> {
        let mut all = BTreeSet::new();
        for reference in workload.references() {
            let here = self.all.get(workload.object.namespace.as_str());
            match (here.and_then(|here| here.get(reference.configmap.as_str())), &reference.keys) {
                (Some(says), _) => all.extend(says.through(reference)),
                // A ConfigMap is no place for it, whatever stands there.
                (None, Keys::One(key)) if reference.credential && !self.whole => {
                    let of = format!("key {key}, which was not read");
                    all.insert(reference.literal(Meaning::Credential, &of, Grade::Potential));
                }
                _ => {}
            }
        }
        all
    }
}

/// The names of ConfigMaps that workloads refer to.
pub(super) fn names(workloads: &[Workload]) -> BTreeSet<SmolStr> {
    workloads.iter().flat_map(Workload::references).map(|reference| reference.configmap.clone()).collect()
}
