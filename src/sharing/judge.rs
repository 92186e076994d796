//! What the findings say of one client: whether anything but its own can act as it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::finding::{Evaluation, Finding, Severity, State};
use super::index::Unread;
use crate::api::{SharingCounts, bounds};
use crate::grant::ClientKey;

/// Names in one message.
const NAMED: usize = 5;

/// Whether a client's credential is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exclusive {
    /// Nothing else was found, and everything was looked at.
    Yes,
    /// Something else can act as the client, be it accepted or not.
    No,
    /// Nothing was found, and not everything could be looked at: why.
    NotEvaluated(String),
}

/// What is said of one client, in numbers and ids of rules. No object is named: grants of several namespaces
/// show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether its credential is its own.
    pub exclusive: Exclusive,
    /// Open findings.
    pub open: usize,
    /// Accepted ones.
    pub suppressed: usize,
    /// The worst open one.
    pub worst: Option<Severity>,
    /// The rules that found something.
    pub rules: BTreeSet<&'static str>,
}

/// What is known of a client when something is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared {
    /// Not everything was read yet: what was said stays.
    NotYet,
    /// No `ClientIdentity` that counts speaks about it.
    Nothing,
    /// This.
    Is(Arc<Verdict>),
}

/// Whether a rule shows that something else can act as the client. The others show what is untidy.
#[must_use]
pub fn shows_sharing(rule: &str) -> bool {
    rule.starts_with("SC-1") || rule.starts_with("SC-2") || rule == "SC-301"
}

/// One verdict for each of these clients. Of some it is not known how they are `registered`, so that one with
/// the same key would not be found.
#[must_use]
pub fn all(
    evaluation: &Evaluation,
    clients: &BTreeSet<ClientKey>,
    gaps: &[Unread],
    registered: impl Fn(&ClientKey) -> bool,
) -> BTreeMap<ClientKey, Verdict> {
    let mut of = BTreeMap::<&ClientKey, Vec<&Finding>>::new();
    for finding in &evaluation.findings {
        for client in &finding.keys {
            of.entry(client).or_default().push(finding);
        }
    }
    let none = Vec::new();
    let verdict = |client| one(of.get(client).unwrap_or(&none), gaps, registered(client));
    clients.iter().map(|client| (client.clone(), verdict(client))).collect()
}

/// The verdict where nothing is looked at.
#[must_use]
pub fn off() -> Verdict {
    let why = "The operator runs with --detect-sharing=false: nothing was looked at.".to_owned();
    Verdict { exclusive: Exclusive::NotEvaluated(why), open: 0, suppressed: 0, worst: None, rules: BTreeSet::new() }
}

fn one(findings: &[&Finding], gaps: &[Unread], registered: bool) -> Verdict {
    let of = |state| findings.iter().filter(move |f| f.state == state);
    let found = || of(State::Open).chain(of(State::Suppressed));
    // What is found of those whose job it is says no more than that.
    let exclusive = if found().any(|f| shows_sharing(f.rule) && f.severity > Severity::Info) {
        Exclusive::No
    } else if !gaps.is_empty() {
        let what: BTreeSet<&str> = gaps.iter().map(|gap| gap.place.file.as_str()).collect();
        Exclusive::NotEvaluated(format!("Not read: {}. Give the operator the right to list it.", cut(what)))
    } else if !registered {
        let why = "The identity provider does not say how the client is registered. See RegistrationUnchanged.";
        Exclusive::NotEvaluated(why.to_owned())
    } else if of(State::NotEvaluable).next().is_some() {
        let why = "What it authenticates with, or what its workloads receive, is not said in the cluster (SC-901).";
        Exclusive::NotEvaluated(why.to_owned())
    } else {
        Exclusive::Yes
    };
    Verdict {
        exclusive,
        open: of(State::Open).count(),
        suppressed: of(State::Suppressed).count(),
        worst: of(State::Open).map(|f| f.severity).max(),
        rules: found().map(|f| f.rule).collect(),
    }
}

impl Verdict {
    /// The message of the condition.
    #[must_use]
    pub fn message(&self) -> String {
        match &self.exclusive {
            Exclusive::Yes => "Nothing else that was looked at can act as the client.".to_owned(),
            Exclusive::NotEvaluated(why) => why.clone(),
            Exclusive::No => {
                let accepted =
                    if self.suppressed == 0 { String::new() } else { format!(", {} accepted", self.suppressed) };
                let rules = cut(self.rules.iter().copied().collect());
                format!("Something else can act as the client: {} open{accepted} ({rules}).", self.open)
            }
        }
    }

    /// The numbers for the status of a grant; `None`: nothing was found.
    #[must_use]
    pub fn counts(&self) -> Option<SharingCounts> {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        (self.open + self.suppressed > 0).then(|| SharingCounts {
            open: number(self.open),
            suppressed: number(self.suppressed),
            worst: self.worst.map(|worst| worst.name().to_owned()),
            rules: self.rules.iter().take(bounds::LIST).map(|rule| (*rule).to_owned()).collect(),
        })
    }
}

fn cut(names: BTreeSet<&str>) -> String {
    let shown = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED { format!("{shown} and {} more", names.len() - NAMED) } else { shown }
}
