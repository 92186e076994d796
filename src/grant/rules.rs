//! Tenancy: whether a provider's rules let a grant's namespace have what the grant names.
//!
//! Decided by the IdP's owner in `spec.allow`. Any one rule that matches in all it names is enough;
//! what a rule does not name, it does not limit.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::core::Selector;
use kube::core::SelectorExt;

use super::{Basis, Subject, Terms, Timestamp};
use crate::api::SubjectKind;

/// One parsed rule of `spec.allow`.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Labels of the grant's namespace; absent: any namespace.
    pub namespaces: Option<Selector>,
    /// Client ids; absent: any.
    pub clients: Option<Vec<Pattern>>,
    /// Scopes; absent: any.
    pub scopes: Option<Vec<Pattern>>,
    /// Audiences; absent: any.
    pub audiences: Option<Vec<Pattern>>,
    /// Bases; absent: any.
    pub bases: Option<Vec<Basis>>,
    /// Subject kinds; absent: any. A client-own grant has no subject, so a rule that names kinds
    /// does not reach it.
    pub subject_kinds: Option<Vec<SubjectKind>>,
    /// The longest time to the end that a grant may have, from now.
    pub max_lifetime: Option<Duration>,
}

/// An exact name, or a prefix ending in `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The whole string.
    Exact(String),
    /// Everything that begins so.
    Prefix(String),
}

impl Pattern {
    /// Reads the YAML form.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Pattern::Prefix(prefix.to_owned()),
            None => Pattern::Exact(text.to_owned()),
        }
    }

    /// Whether `name` is covered.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Pattern::Exact(exact) => exact == name,
            Pattern::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }
}

fn covered(patterns: Option<&[Pattern]>, name: &str) -> bool {
    patterns.is_none_or(|list| list.iter().any(|p| p.covers(name)))
}

impl Rule {
    /// Whether this rule lets a namespace with these labels speak for `client` at all.
    #[must_use]
    pub fn speaks_for(&self, labels: &BTreeMap<String, String>, client: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|s| s.matches(labels)) && covered(self.clients.as_deref(), client)
    }

    /// The first dimension in which this rule does not cover the grant; `None`: it covers it.
    fn misses(
        &self,
        labels: &BTreeMap<String, String>,
        client: &str,
        subject: &Subject,
        terms: &Terms,
        now: Timestamp,
    ) -> Option<Miss> {
        if !self.namespaces.as_ref().is_none_or(|s| s.matches(labels)) {
            return Some(Miss::Namespace);
        }
        if !covered(self.clients.as_deref(), client) {
            return Some(Miss::Client);
        }
        if let Some(bases) = &self.bases
            && !bases.contains(&terms.basis)
        {
            return Some(Miss::Basis);
        }
        if let Some(kinds) = &self.subject_kinds {
            let kind = match subject {
                Subject::User(_) => Some(SubjectKind::User),
                Subject::Any => Some(SubjectKind::Any),
                Subject::Own => None,
            };
            if !kind.is_some_and(|k| kinds.contains(&k)) {
                return Some(Miss::SubjectKind);
            }
        }
        if let Some(scope) = terms.authority.scopes.iter().find(|s| !covered(self.scopes.as_deref(), s)) {
            return Some(Miss::Scope(scope.to_owned()));
        }
        if let Some(audience) = terms.authority.audiences.iter().find(|a| !covered(self.audiences.as_deref(), a)) {
            return Some(Miss::Audience(audience.to_owned()));
        }
        if let Some(most) = self.max_lifetime {
            let left = terms.expires_at.duration_since(now);
            if left.is_positive() && left.unsigned_abs() > most {
                return Some(Miss::Lifetime);
            }
        }
        None
    }
}

/// Why a rule does not cover a grant. Ordered by how far the rule came: the nearest miss is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// No rule at all.
    NoRule,
    /// The namespace's labels.
    Namespace,
    /// The client id.
    Client,
    /// The basis.
    Basis,
    /// The kind of subject.
    SubjectKind,
    /// This scope.
    Scope(String),
    /// This audience.
    Audience(String),
    /// The time to the end.
    Lifetime,
}

impl Miss {
    /// What is not allowed, in a person's words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Miss::NoRule => "the provider has no rule".into(),
            Miss::Namespace => "no rule names this namespace".into(),
            Miss::Client => "no rule lets this namespace speak for this client".into(),
            Miss::Basis => "no rule allows this basis for this client".into(),
            Miss::SubjectKind => "no rule allows this kind of subject for this client".into(),
            Miss::Scope(scope) => format!("no rule allows the scope {scope:?}"),
            Miss::Audience(audience) => format!("no rule allows the audience {audience:?}"),
            Miss::Lifetime => "expiresAt is farther away than maxLifetime".into(),
        }
    }
}

/// Whether the rules cover a grant; otherwise the nearest miss.
///
/// # Errors
/// The dimension in which the rule that came farthest does not cover the grant.
pub fn allow(
    rules: &[Rule],
    labels: &BTreeMap<String, String>,
    client: &str,
    subject: &Subject,
    terms: &Terms,
    now: Timestamp,
) -> Result<(), Miss> {
    let mut nearest = Miss::NoRule;
    for rule in rules {
        match rule.misses(labels, client, subject, terms, now) {
            None => return Ok(()),
            Some(miss) => nearest = nearest.max(miss),
        }
    }
    Err(nearest)
}
