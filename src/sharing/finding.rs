//! What comes out: findings, and the order in which they stand.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use smol_str::SmolStr;

use crate::grant::ClientKey;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Said, and nothing is wrong.
    #[value(skip)]
    Info,
    /// Worth tidying up.
    Low,
    /// A wall between two clients is thin.
    Medium,
    /// A wall between two clients is gone.
    High,
    /// Whoever has the one client's credential has the other's.
    Critical,
}

impl Severity {
    const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The severity so many steps up or down, never beyond the ends.
    #[must_use]
    pub fn moved(self, steps: i32) -> Self {
        let at = Self::ALL.iter().position(|s| *s == self).unwrap_or_default();
        let to = i32::try_from(at).unwrap_or_default().saturating_add(steps).clamp(0, 4);
        Self::ALL[usize::try_from(to).unwrap_or_default()]
    }

    /// The word in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// Whether a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Found, and nobody accepted it.
    Open,
    /// Found, and accepted until a date. Shown all the same.
    Suppressed,
    /// It cannot be told whether there is something.
    NotEvaluable,
}

impl State {
    /// The word in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Suppressed => "suppressed",
            Self::NotEvaluable => "notEvaluable",
        }
    }
}

/// How sure the evidence is, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// It may be: an optional reference, a volume that no container mounts.
    Potential,
    /// RBAC lets somebody have it.
    Reachable,
    /// Somebody said so in a `ClientIdentity`.
    Declared,
    /// The identity is the credential: a federated subject.
    Identity,
    /// The kubelet delivers it, or a gateway is told to read it.
    Direct,
}

impl Grade {
    /// The word in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Potential => "potential",
            Self::Reachable => "reachable",
            Self::Declared => "declared",
            Self::Identity => "identity",
            Self::Direct => "direct",
        }
    }
}

/// An object, as findings name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Object {
    /// Its kind.
    pub kind: SmolStr,
    /// Its namespace; empty where it has none.
    pub namespace: SmolStr,
    /// Its name.
    pub name: SmolStr,
}

impl Object {
    /// Whether it is of a kind, be it said with its group or without.
    #[must_use]
    pub fn is_a(&self, kind: &str) -> bool {
        self.kind.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// An object from its three parts.
    pub fn new(kind: impl Into<SmolStr>, namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{}/{}", self.kind, self.name),
            namespace => write!(f, "{}/{namespace}/{}", self.kind, self.name),
        }
    }
}

/// Where an object was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The file, as it was named; `-` is standard input. Empty: it was read from a cluster.
    pub file: String,
    /// The line on which its document begins, from 1. 0: there are no lines.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line } = self;
        if *line == 0 { f.write_str(file) } else { write!(f, "{file}:{line}") }
    }
}

/// One thing that a person can look up to see that a finding is true.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Evidence {
    /// The field, or what is missing. Never a value that could be a secret.
    pub path: String,
    /// Where the object was read.
    #[serde(flatten)]
    pub place: Place,
    /// The object.
    pub object: Object,
}

/// What hangs on the clients of a finding: numbers, never names of people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlastRadius {
    /// Active grants.
    pub grants: usize,
    /// Distinct subjects of them.
    pub subjects: usize,
    /// Distinct scopes of them.
    pub scopes: usize,
}

/// One result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The rule, such as `SC-201`.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Whether it stands.
    pub state: State,
    /// How sure it is.
    pub grade: Grade,
    /// What it is about.
    pub subject: Object,
    /// The clients it concerns, sorted.
    pub clients: Vec<String>,
    /// How many more it concerns, which are not named; the rest is about those that are.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_clients: usize,
    /// The same, as the operator knows them.
    #[serde(skip)]
    pub keys: BTreeSet<ClientKey>,
    /// What shows it.
    pub evidence: Vec<Evidence>,
    /// What hangs on it.
    pub blast_radius: BlastRadius,
    /// Scopes that an attacker in the subject has on top of its own.
    pub gain: Vec<String>,
    /// What to do.
    pub remedy: &'static str,
    /// Where others describe it.
    pub references: &'static [&'static str],
    /// Why it was accepted; only of suppressed ones, and only for SARIF.
    #[serde(skip)]
    pub justification: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evaluation {
    /// In the order of [`sort`].
    pub findings: Vec<Finding>,
    /// How many.
    pub summary: Summary,
}

/// How many findings there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Open ones.
    pub open: usize,
    /// Suppressed ones.
    pub suppressed: usize,
    /// Results that are neither found nor clean.
    pub not_evaluable: usize,
    /// The worst open one.
    pub worst: Option<Severity>,
    /// Objects that were looked at.
    pub objects: usize,
}

/// Sorts by gain, then severity, both from the most down, then subject, rule and clients.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        let key = |f: &Finding| (Reverse(f.gain.len()), Reverse(f.severity));
        key(a).cmp(&key(b)).then_with(|| {
            (&a.subject, a.rule, &a.clients, &a.evidence).cmp(&(&b.subject, b.rule, &b.clients, &b.evidence))
        })
    });
}
