//! What the status of a `ClientIdentity` says: whether the object counts, and what was found.
//!
//! Nothing of another namespace is named: it is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::finding::{Finding, State};
use super::grace;
use super::judge::{Exclusive, Shared, Verdict};
use crate::api::condition::{ConditionStatus, ConditionType, Reason, find_condition, remove_condition, set_condition};
use crate::api::{BlastRadius, ClientIdentityStatus, SharedFinding, bounds};
use crate::grant::ClientKey;

/// For this long an object that does not count may still be waiting for others of the same commit.
const ARRIVING: Duration = Duration::from_secs(120);
/// Conditions of ours.
const OURS: [ConditionType; 5] = [
    ConditionType::Ready,
    ConditionType::Reconciling,
    ConditionType::Stalled,
    ConditionType::CredentialExclusive,
    ConditionType::RegistrationUnchanged,
];

/// Whether the provider's rules let the namespace of a `ClientIdentity` speak for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// They do.
    Admitted,
    /// They do not.
    NotAllowed,
    /// There is no such provider object, or another one speaks for its issuer.
    ProviderMissing,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Nothing, as where nobody asks for it.
    Nothing,
    /// Not everything could be read: what is concluded from what is absent is not known.
    Part,
    /// Everything.
    Everything,
}

/// Everything that a status is made of.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// What was said before.
    pub old: Option<&'a ClientIdentityStatus>,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// Where the object lives.
    pub namespace: &'a str,
    /// Which client it names.
    pub client: &'a ClientKey,
    /// Whether it counts.
    pub admission: Admission,
    /// What was found of the client.
    pub shared: &'a Shared,
    /// How much was looked at for that.
    pub looked: Looked,
    /// Findings that concern it, the worst first.
    pub findings: &'a [&'a Finding],
    /// Clients that some `ClientIdentity` of the same namespace speaks about.
    pub neighbours: &'a BTreeSet<ClientKey>,
}

/// The status, and when it changes by the clock alone.
#[must_use]
pub fn status(told: &Told<'_>, now: Timestamp) -> (ClientIdentityStatus, Option<Timestamp>) {
    let mut status = told.old.cloned().unwrap_or_default();
    status.conditions.retain(|c| OURS.iter().any(|ours| c.type_ == ours.as_str()));
    let look = ready(&mut status, told, now);
    let list = &mut status.conditions;
    match told.shared {
        _ if told.admission != Admission::Admitted => {
            remove_condition(list, ConditionType::CredentialExclusive);
            (status.findings, status.blast_radius) = (Vec::new(), None);
        }
        Shared::NotYet => {}
        Shared::Nothing => {
            remove_condition(list, ConditionType::CredentialExclusive);
            (status.findings, status.blast_radius) = (Vec::new(), None);
        }
        Shared::Is(verdict) => {
            say(list, verdict, told.generation, now);
            let worst = told.findings.iter().take(bounds::FINDINGS);
            let mut findings: Vec<SharedFinding> = worst.map(|finding| entry(finding, told)).collect();
            if told.looked == Looked::Part {
                // What a gap hides is not gone.
                let absent = status.findings.iter().filter(|old| grace::RULES.contains(&old.rule.as_str()));
                let hidden = absent.filter(|old| findings.iter().all(|new| words(new) != words(old)));
                let hidden: Vec<SharedFinding> = hidden.cloned().collect();
                findings.extend(hidden);
            }
            findings.truncate(bounds::FINDINGS);
            status.findings = findings;
            status.blast_radius = radius(told.findings);
        }
    }
    status.observed_generation = told.generation;
    (status, look)
}

/// Sets `CredentialExclusive` by what was found.
pub fn say(list: &mut Vec<crate::api::Condition>, verdict: &Verdict, generation: Option<i64>, now: Timestamp) {
    let (value, reason) = match verdict.exclusive {
        Exclusive::Yes => (ConditionStatus::True, Reason::Exclusive),
        Exclusive::No => (ConditionStatus::False, Reason::SharedCredential),
        Exclusive::NotEvaluated(_) => (ConditionStatus::Unknown, Reason::NotEvaluated),
    };
    set_condition(list, ConditionType::CredentialExclusive, value, reason, &verdict.message(), generation, now);
}

fn ready(status: &mut ClientIdentityStatus, told: &Told<'_>, now: Timestamp) -> Option<Timestamp> {
    use ConditionStatus::{False, True};
    use ConditionType::{Ready, Reconciling, Stalled};
    let list = &mut status.conditions;
    let (reason, message) = match told.admission {
        Admission::Admitted => {
            remove_condition(list, Reconciling);
            remove_condition(list, Stalled);
            let message = "Taken into account.";
            set_condition(list, Ready, True, Reason::Accepted, message, told.generation, now);
            return None;
        }
        Admission::NotAllowed => (
            Reason::NotAllowed,
            "No rule lets this namespace speak for this client. Ask the provider's owner for a rule in spec.allow.",
        ),
        Admission::ProviderMissing => (
            Reason::ProviderNotFound,
            "No such provider object exists, or another one speaks for its issuer. Correct spec.providerRef.",
        ),
    };
    let current = |c: &&crate::api::Condition| c.observed_generation == told.generation;
    let since = find_condition(list, Reconciling).filter(current).map(|c| c.last_transition_time.0);
    let due = since.unwrap_or(now) + ARRIVING;
    let stalled = due <= now || find_condition(list, Stalled).filter(current).is_some();
    set_condition(list, Ready, False, reason, message, told.generation, now);
    let (holds, goes) = if stalled { (Stalled, Reconciling) } else { (Reconciling, Stalled) };
    set_condition(list, holds, True, reason, message, told.generation, now);
    remove_condition(list, goes);
    (!stalled).then_some(due)
}

fn entry(finding: &Finding, told: &Told<'_>) -> SharedFinding {
    let others = finding.keys.iter().filter(|key| *key != told.client);
    let (here, elsewhere): (Vec<&ClientKey>, Vec<&ClientKey>) = others.partition(|key| told.neighbours.contains(*key));
    let subject = &finding.subject;
    SharedFinding {
        rule: finding.rule.to_owned(),
        severity: finding.severity.name().to_owned(),
        state: finding.state.name().to_owned(),
        subject: (subject.namespace == told.namespace)
            .then(|| bounds::fit(&format!("{}/{}", subject.kind, subject.name), bounds::ENTRY)),
        with: bounds::fit_list(here.iter().map(|key| &*key.client)),
        others: i64::try_from(elsewhere.len() + finding.more_clients).ok().filter(|n| *n > 0),
    }
}

fn radius(findings: &[&Finding]) -> Option<BlastRadius> {
    let open = || findings.iter().filter(|f| f.state == State::Open).map(|f| f.blast_radius);
    let most = |of: fn(super::finding::BlastRadius) -> usize| {
        open().map(of).max().map_or(0, |n| i64::try_from(n).unwrap_or(i64::MAX))
    };
    open().next()?;
    Some(BlastRadius { grants: most(|b| b.grants), subjects: most(|b| b.subjects), scopes: most(|b| b.scopes) })
}

/// What became of findings from one status to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// Open now, and was not.
    Detected,
    /// Was open, and is accepted now.
    Suppressed,
    /// Was open or accepted, and is gone.
    Resolved,
}

impl Turn {
    /// The word in Events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Turn::Detected => "SharedCredentialDetected",
            Turn::Suppressed => "SharedCredentialSuppressed",
            Turn::Resolved => "SharedCredentialResolved",
        }
    }

    /// In a sentence.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Turn::Detected => "Found",
            Turn::Suppressed => "Accepted by an exception",
            Turn::Resolved => "Not there any more",
        }
    }
}

fn words(finding: &SharedFinding) -> String {
    match &finding.subject {
        Some(subject) => format!("{} on {subject}", finding.rule),
        None => format!("{} in another namespace", finding.rule),
    }
}

impl Told<'_> {
    /// Everything that was found, in a few words each: what a status said before and is not among them is gone.
    /// `None`: nobody looked, and nothing can be said to be gone.
    #[must_use]
    pub fn left(&self) -> Option<BTreeSet<String>> {
        let looked = self.looked != Looked::Nothing && self.admission == Admission::Admitted;
        (looked && matches!(self.shared, Shared::Is(_))).then(|| {
            let found = self.findings.iter().filter(|f| f.state != State::NotEvaluable);
            found.map(|finding| words(&entry(finding, self))).collect()
        })
    }
}

/// What is new, with the findings in a few words each. What is `left` is not gone, although others that are worse
/// have taken its place in the status.
#[must_use]
pub fn turns(
    old: Option<&ClientIdentityStatus>,
    new: &ClientIdentityStatus,
    left: Option<&BTreeSet<String>>,
) -> BTreeMap<Turn, BTreeSet<String>> {
    let states = |status: &ClientIdentityStatus| -> BTreeMap<String, bool> {
        let told = status.findings.iter().filter(|f| f.state != State::NotEvaluable.name());
        told.map(|f| (words(f), f.state == State::Open.name())).collect()
    };
    let (old, new) = (old.map(states).unwrap_or_default(), states(new));
    let mut turns = BTreeMap::<Turn, BTreeSet<String>>::new();
    for (words, open) in &new {
        match (open, old.get(words)) {
            (true, None | Some(false)) => turns.entry(Turn::Detected).or_default().insert(words.clone()),
            (false, None | Some(true)) => turns.entry(Turn::Suppressed).or_default().insert(words.clone()),
            (true, Some(true)) | (false, Some(false)) => continue,
        };
    }
    let gone = |words: &String| !new.contains_key(words) && left.is_some_and(|left| !left.contains(words));
    for words in old.into_keys().filter(gone) {
        turns.entry(Turn::Resolved).or_default().insert(words);
    }
    turns
}
