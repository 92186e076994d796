//! What policy reports say: of each subject for the readers of its namespace, and of each rule for those who see the
//! whole cluster.
//!
//! A report is a function of the findings and of nothing else: it has no time of its own, so that nothing is written
//! while nothing changed. People appear as numbers only.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::catalogue;
use super::facts::Kind;
use super::finding::{Finding, Grade, Object, Severity, State};
use super::rbac;
use crate::api::{GROUP, VERSION, bounds};
use crate::grant::ClientKey;
use crate::hex;

/// Who writes reports.
pub const SOURCE: &str = "clientgrant-operator";
/// The policy of every result.
pub const POLICY: &str = "shared-credentials";
/// The labels by which our reports are found, with their values.
pub const LABELS: [(&str, &str); 2] = [("app.kubernetes.io/managed-by", SOURCE), ("clientgrant.dev/report", POLICY)];

/// Most results of one report: further ones are in further reports.
const MOST: usize = 500;
/// Most objects of one result, so that a full report stays well below what etcd takes.
const OBJECTS: usize = 4;
/// Most names in a text.
const NAMES: usize = 8;

/// Namespace and name of a report; of the whole cluster: an empty namespace.
pub type Name = (String, String);

/// Everything that should be there.
pub type Reports = BTreeMap<Name, Report>;

/// An object, as reports refer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reference {
    /// Its group and version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty where it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// How many results there are of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Never any: what is fine is not reported.
    pub pass: usize,
    /// Findings that stand.
    pub fail: usize,
    /// Those that are weak.
    pub warn: usize,
    /// Never any: what cannot be told is skipped.
    pub error: usize,
    /// What is accepted, or cannot be told.
    pub skip: usize,
}

/// One result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Who says it.
    pub source: String,
    /// Always [`POLICY`].
    pub policy: String,
    /// The rule, such as `SC-201`.
    pub rule: String,
    /// What others call this sort of thing.
    pub category: String,
    /// `critical`, `high`, `medium`, `low` or `info`.
    pub severity: String,
    /// `fail`, `warn` or `skip`.
    pub result: String,
    /// Whether it counts.
    pub scored: bool,
    /// The subject, and what shows it.
    pub resources: Vec<Reference>,
    /// For people.
    pub message: String,
    /// For machines: texts, all of them.
    pub properties: BTreeMap<String, String>,
}

/// What a report says. Both dialects have the same fields for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// What it is about; of a rule: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Reference>,
    /// The sums of `results`.
    pub summary: Summary,
    /// One for each finding.
    pub results: Vec<Entry>,
}

impl Report {
    /// The object on which the report ends: its subject, where its UID is known.
    #[must_use]
    pub fn owner(&self) -> Option<&Reference> {
        self.scope.as_ref().filter(|scope| scope.uid.is_some())
    }
}

/// Who may be named to whom.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Clients of which a `ClientIdentity` speaks, by its namespace.
    pub neighbours: &'a BTreeMap<String, BTreeSet<ClientKey>>,
    /// The only namespaces that reports may be in, and none of the whole cluster then. Empty: anywhere.
    pub namespaces: &'a [String],
}

/// The reports that should be there. `uid` says the UID of an object, where it is known.
#[must_use]
pub fn reports(findings: &[Finding], view: View<'_>, uid: impl Fn(&Object) -> Option<String>) -> Reports {
    let mut findings: Vec<&Finding> = findings.iter().collect();
    // What stands first does not depend on numbers that change with every grant.
    findings.sort_by(|a, b| {
        (&a.subject, a.rule, &a.clients, &a.evidence).cmp(&(&b.subject, b.rule, &b.clients, &b.evidence))
    });
    let (mut subjects, mut rules) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    for finding in findings {
        subjects.entry(&finding.subject).or_default().push(finding);
        rules.entry(finding.rule).or_default().push(finding);
    }
    let mut all = Reports::new();
    let stands = |found: &&Finding| found.state != State::NotEvaluable;
    let here = |of: &Object| !of.namespace.is_empty() && may_be(view.namespaces, &of.namespace);
    for (subject, found) in subjects.into_iter().filter(|(of, found)| here(of) && found.iter().any(stands)) {
        // Without its apiVersion nobody could follow a reference.
        let scope = reference(subject).map(|of| Reference { uid: uid(subject), ..of });
        let id = scope.as_ref().and_then(|of| of.uid.clone()).unwrap_or_else(|| hex::digest(&subject.to_string(), 16));
        let clients = view.neighbours.get(subject.namespace.as_str());
        let entries = found.into_iter().map(|f| entry(f, &Reader::Namespace(&subject.namespace, clients)));
        put(&mut all, &subject.namespace, &format!("sc-{id}"), scope.as_ref(), entries.collect());
    }
    for (rule, found) in rules.into_iter().filter(|_| view.namespaces.is_empty()) {
        let entries = found.into_iter().map(|f| entry(f, &Reader::Cluster)).collect();
        put(&mut all, "", &format!("clientgrant-{}", rule.to_lowercase()), None, entries);
    }
    all
}

fn may_be(namespaces: &[String], namespace: &str) -> bool {
    namespaces.is_empty() || namespaces.iter().any(|one| one == namespace)
}

fn put(all: &mut Reports, namespace: &str, name: &str, scope: Option<&Reference>, entries: Vec<Entry>) {
    for (at, results) in entries.chunks(MOST).enumerate() {
        let name = if at == 0 { name.to_owned() } else { format!("{name}-{}", at + 1) };
        let count = |word: &str| results.iter().filter(|entry| entry.result == word).count();
        let summary = Summary { fail: count("fail"), warn: count("warn"), skip: count("skip"), ..Summary::default() };
        let report = Report { scope: scope.cloned(), summary, results: results.to_vec() };
        all.insert((namespace.to_owned(), name), report);
    }
}

/// Who reads a report.
enum Reader<'a> {
    /// Whoever reads this namespace, of which these clients are.
    Namespace(&'a str, Option<&'a BTreeSet<ClientKey>>),
    /// Whoever reads what belongs to the cluster.
    Cluster,
}

impl Reader<'_> {
    fn sees(&self, object: &Object) -> bool {
        match self {
            Self::Namespace(namespace, _) => object.namespace == *namespace,
            Self::Cluster => true,
        }
    }

    /// The clients of a finding that may be named, and how many others there are.
    fn clients(&self, finding: &Finding) -> (Vec<String>, usize) {
        match self {
            Self::Cluster => (finding.clients.clone(), finding.more_clients),
            Self::Namespace(_, here) => {
                let named = finding.keys.iter().filter(|key| here.is_some_and(|here| here.contains(*key)));
                let named: Vec<String> = named.map(|key| key.client.to_string()).collect();
                let others = finding.keys.len() - named.len() + finding.more_clients;
                (named, others)
            }
        }
    }
}

fn entry(finding: &Finding, reader: &Reader<'_>) -> Entry {
    let (clients, elsewhere) = reader.clients(finding);
    let (clients, gain) = (some(clients), &finding.gain);
    let shown = finding.evidence.iter().map(|evidence| &evidence.object);
    let (seen, hidden): (BTreeSet<&Object>, BTreeSet<&Object>) = shown
        .filter(|object| **object != finding.subject && reference(object).is_some())
        .partition(|object| reader.sees(object));
    let resources = std::iter::once(&finding.subject).chain(seen).filter_map(reference).take(OBJECTS);
    let references = |of: &str| {
        let found = finding.references.iter().filter_map(|text| text.strip_prefix(of));
        found.collect::<Vec<_>>().join(",")
    };
    // A scope of a client of another namespace is not for everybody: it is counted.
    let gain = if elsewhere == 0 { some(gain.clone()) } else { format!("{} scopes", gain.len()) };
    let properties = [
        ("clients", clients.clone()),
        ("others-elsewhere", elsewhere.to_string()),
        ("objects-elsewhere", hidden.len().to_string()),
        ("state", finding.state.name().to_owned()),
        ("grade", finding.grade.name().to_owned()),
        ("grants", finding.blast_radius.grants.to_string()),
        ("users", finding.blast_radius.subjects.to_string()),
        ("scopes", finding.blast_radius.scopes.to_string()),
        ("gain", gain),
        ("remedy", finding.remedy.to_owned()),
        ("attack", references("ATT&CK ")),
        ("cis", references("CIS ")),
        ("docs", finding.rule.to_owned()),
    ];
    let properties = properties.into_iter().filter(|(_, value)| !value.is_empty());
    Entry {
        source: SOURCE.to_owned(),
        policy: POLICY.to_owned(),
        rule: finding.rule.to_owned(),
        category: finding.references.iter().find_map(|text| text.strip_prefix("OWASP ")).unwrap_or_default().to_owned(),
        severity: finding.severity.name().to_owned(),
        result: result(finding).to_owned(),
        scored: true,
        resources: resources.collect(),
        message: message(finding, &clients, elsewhere),
        properties: properties.map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

/// Evidence is strong from `declared` on: somebody said so, or the kubelet delivers it. What may be (`potential`) and
/// what somebody could get by RBAC but nobody was seen to have (`reachable`) is a warning.
fn result(finding: &Finding) -> &'static str {
    match finding.state {
        State::Suppressed | State::NotEvaluable => "skip",
        State::Open if finding.severity >= Severity::Medium && finding.grade >= Grade::Declared => "fail",
        State::Open => "warn",
    }
}

fn message(finding: &Finding, clients: &str, elsewhere: usize) -> String {
    let name = catalogue::find(finding.rule).map_or(finding.rule, |rule| rule.name).replace('-', " ");
    let others = match elsewhere {
        0 => None,
        1 => Some("1 client of another namespace".to_owned()),
        more => Some(format!("{more} clients of other namespaces")),
    };
    let who: Vec<String> = Some(clients.to_owned()).filter(|text| !text.is_empty()).into_iter().chain(others).collect();
    let text =
        if who.is_empty() { format!("{name}: {}", finding.subject) } else { format!("{name}: {}", who.join(" and ")) };
    bounds::fit(&text, bounds::SHORT)
}

/// A few of them, sorted, and how many more there are.
fn some(mut names: Vec<String>) -> String {
    names.sort();
    names.dedup();
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    if more > 0 {
        names.push(format!("+{more} more"));
    }
    bounds::fit(&names.join(", "), bounds::ENTRY)
}

/// An object of Kubernetes; `None`: it is none, such as a client.
fn reference(object: &Object) -> Option<Reference> {
    let api_version = match object.kind.as_str() {
        "ServiceAccount" | "Secret" | "ConfigMap" | "Namespace" => "v1".to_owned(),
        "ClientIdentity" | "ClientGrant" => format!("{GROUP}/{VERSION}"),
        kind if rbac::KINDS.iter().any(|(of, _)| *of == kind) => format!("{}/v1", rbac::GROUP),
        kind => Kind::named(kind)?.api_version(),
    };
    let [kind, namespace, name] = [&object.kind, &object.namespace, &object.name].map(ToString::to_string);
    Some(Reference { api_version, kind, namespace, name, uid: None })
}
