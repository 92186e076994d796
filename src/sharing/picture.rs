//! What watches of a cluster told, kept as facts, until it is evaluated.
//!
//! Nothing is concluded before every kind was listed once, or is known not to be listable: [`Picture::settled`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::declared::{Grant, Identity};
use super::evaluate::Input;
use super::facts::Facts;
use super::finding::Place;
use super::index::Unread;

/// A list that is watched: the resource as people write it (`deployments.apps`), and the namespace; empty: all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// The resource.
    pub resource: String,
    /// The namespace.
    pub namespace: String,
}

/// How far a list is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// It was not read yet.
    Waiting,
    /// It was read once, and is watched.
    Complete,
    /// The cluster does not have the kind.
    NotServed,
    /// It cannot be read: why.
    Refused(&'static str),
}

/// The resource of ServiceAccounts.
const ACCOUNTS: &str = "serviceaccounts";

/// Namespace and name.
type Name = (Box<str>, Box<str>);

/// Everything that was told.
#[derive(Debug, Default)]
pub struct Picture {
    parts: BTreeMap<Part, Read>,
    /// By resource.
    facts: BTreeMap<String, HashMap<Name, Facts>>,
    accounts: BTreeMap<(String, String), Option<bool>>,
    /// Stored, but not as any version of its kind is.
    odd: BTreeSet<(String, Name)>,
}

fn name(namespace: &str, name: &str) -> Name {
    (namespace.into(), name.into())
}

impl Picture {
    /// Notes how far a list is known. True if that is news.
    pub fn part(&mut self, part: &Part, read: Read) -> bool {
        self.parts.insert(part.clone(), read.clone()) != Some(read)
    }

    /// A workload is this; `None`: it is gone, or says nothing. True if that is news.
    pub fn workload(&mut self, resource: &str, namespace: &str, object: &str, facts: Option<Facts>) -> bool {
        let key = name(namespace, object);
        let healed = self.odd.remove(&(resource.to_owned(), key.clone()));
        let all = self.facts.entry(resource.to_owned()).or_default();
        let news = match facts {
            Some(facts) if all.get(&key) == Some(&facts) => false,
            Some(facts) => {
                all.insert(key, facts);
                true
            }
            None => all.remove(&key).is_some(),
        };
        news || healed
    }

    /// A ServiceAccount says this about its token; `None`: it is gone. True if that is news.
    pub fn account(&mut self, namespace: &str, object: &str, says: Option<Option<bool>>) -> bool {
        let healed = self.odd.remove(&(ACCOUNTS.to_owned(), name(namespace, object)));
        let key = (namespace.to_owned(), object.to_owned());
        let news = match says {
            Some(says) => self.accounts.insert(key, says) != Some(says),
            None => self.accounts.remove(&key).is_some(),
        };
        news || healed
    }

    /// An object cannot be read: what was known of it stays. True if that is news.
    pub fn unreadable(&mut self, resource: &str, namespace: &str, object: &str) -> bool {
        self.odd.insert((resource.to_owned(), name(namespace, object)))
    }

    /// Whether a list was not read yet.
    #[must_use]
    pub fn waits(&self, part: &Part) -> bool {
        self.parts.get(part) == Some(&Read::Waiting)
    }

    /// Whether every list was read once, or cannot be.
    #[must_use]
    pub fn settled(&self) -> bool {
        !self.parts.is_empty() && self.parts.values().all(|read| *read != Read::Waiting)
    }

    /// What cannot be looked at, without the name of any object or namespace.
    #[must_use]
    pub fn gaps(&self) -> Vec<Unread> {
        let refused = self.parts.iter().filter_map(|(part, read)| match read {
            Read::Refused(why) => Some((part.resource.clone(), (*why).to_owned())),
            Read::Waiting => Some((part.resource.clone(), "it was not read yet".to_owned())),
            Read::Complete | Read::NotServed => None,
        });
        let odd = self.odd.iter().map(|(resource, _)| (resource.clone(), "an object cannot be read".to_owned()));
        let gaps: BTreeSet<(String, String)> = refused.chain(odd).collect();
        gaps.into_iter().map(|(file, why)| Unread { place: Place { file, line: 0 }, why }).collect()
    }

    /// Everything, ready to be evaluated with what is declared.
    #[must_use]
    pub fn input(&self, identities: Vec<Identity>, grants: Vec<Grant>) -> Input {
        let facts: Vec<Facts> = self.facts.values().flat_map(HashMap::values).cloned().collect();
        let objects = facts.len() + self.accounts.len() + identities.len() + grants.len();
        let (accounts, unread) = (self.accounts.clone(), self.gaps());
        Input { facts, accounts, identities, grants, unread, objects, whole: true, ..Input::default() }
    }
}
