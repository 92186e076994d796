//! What watches of a cluster told, kept as facts, until it is evaluated.
//!
//! Nothing is concluded before every kind was listed once, or is known not to be listable: [`Picture::settled`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::configmap::{self, ConfigMap};
use super::declared::{Grant, Identity};
use super::evaluate::judge_all;
use super::facts::Facts;
use super::finding::{Evaluation, Object, Place};
use super::index::{Index, Unread};
use super::live::Live;
use super::rbac::{self, Piece, Rbac};
use super::reach::Policy;
use super::registration::Registration;
use super::role::Roles;
use crate::grant::{self, ClientKey, GrantName};

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

fn is_rbac(resource: &str) -> bool {
    resource.split_once('.').is_some_and(|(_, group)| group == rbac::GROUP)
}

/// Whether without a resource some rules can tell less, and whose credential is whose can be told all the same.
fn is_more(resource: &str) -> bool {
    is_rbac(resource) || resource == configmap::RESOURCE
}

/// The resource of ServiceAccounts.
const ACCOUNTS: &str = "serviceaccounts";

/// Namespace and name.
type Name = (Box<str>, Box<str>);

/// A grant as it was told, and as it counts.
#[derive(Debug)]
struct Granted {
    told: Arc<grant::Grant>,
    counts: Arc<Grant>,
    /// In which round it was told last.
    round: u64,
}

/// Everything that was told.
#[derive(Debug, Default)]
pub struct Picture {
    parts: BTreeMap<Part, Read>,
    live: Live,
    grants: HashMap<GrantName, Granted>,
    round: u64,
    /// Stored, but not as any version of its kind is.
    odd: BTreeSet<(String, Name)>,
    rbac: BTreeMap<Object, Piece>,
    /// Of what nobody owns: what a report can belong to.
    uids: HashMap<Object, Box<str>>,
    /// The joined policy is not that of `rbac`.
    stale: bool,
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
    pub fn workload(&mut self, resource: &str, object: &Object, facts: Option<Facts>) -> bool {
        let healed = self.readable(resource, &object.namespace, &object.name);
        self.live.workload(object, facts) || healed
    }

    /// A ServiceAccount says this about its token; `None`: it is gone. True if that is news.
    pub fn account(&mut self, namespace: &str, object: &str, says: Option<Option<bool>>) -> bool {
        let healed = self.readable(ACCOUNTS, namespace, object);
        self.live.account(namespace, object, says) || healed
    }

    /// A ConfigMap says this; `None`: it is gone. True if that is news.
    pub fn configmap(&mut self, namespace: &str, object: &str, says: Option<ConfigMap>) -> bool {
        let healed = self.readable(configmap::RESOURCE, namespace, object);
        self.live.configmap(namespace, object, says) || healed
    }

    /// Whether every ConfigMap was read, of which the operator is asked to read some.
    fn has_configmaps(&self) -> bool {
        let mut of = self.parts.iter().filter(|(part, _)| part.resource == configmap::RESOURCE).peekable();
        of.peek().is_some() && of.all(|(_, read)| *read == Read::Complete)
    }

    /// An object has this UID; `None`: it is gone, or others own it. True if another object has its name now.
    pub fn identified(&mut self, object: &Object, uid: Option<&str>) -> bool {
        match uid {
            Some(uid) if self.uid(object) == Some(uid) => false,
            Some(uid) => self.uids.insert(object.clone(), uid.into()).is_some(),
            None => self.uids.remove(object).is_some(),
        }
    }

    /// The UID of a ServiceAccount, or of a workload that nobody owns.
    #[must_use]
    pub fn uid(&self, object: &Object) -> Option<&str> {
        self.uids.get(object).map(|uid| &**uid)
    }

    /// An object can be read, or is gone. True if that is news.
    pub fn readable(&mut self, resource: &str, namespace: &str, object: &str) -> bool {
        !self.odd.is_empty() && self.odd.remove(&(resource.to_owned(), name(namespace, object)))
    }

    /// A role or a binding is this; `None`: it is gone. True if that is news.
    pub fn rbac(&mut self, resource: &str, object: &Object, says: Option<Piece>) -> bool {
        let healed = self.readable(resource, &object.namespace, &object.name);
        let news = match says {
            Some(says) => self.rbac.insert(object.clone(), says.clone()) != Some(says),
            None => self.rbac.remove(object).is_some(),
        };
        self.stale |= news;
        news || healed
    }

    /// Why something of RBAC cannot be looked at: two rules cannot tell then, and the others can.
    fn missing(&self) -> BTreeSet<String> {
        let of_rbac = self.parts.iter().filter(|(part, _)| is_rbac(&part.resource));
        let missing = of_rbac.filter_map(|(part, read)| match read {
            Read::Refused(why) => Some(format!("{}: {why}", part.resource)),
            Read::Waiting | Read::Complete | Read::NotServed => None,
        });
        missing.collect()
    }

    /// Has these jobs.
    pub fn roles(&mut self, roles: Roles) {
        self.live.index_mut().roles = roles;
    }

    /// These speak about clients, and these are the grants of those clients. What did not change is the same
    /// pointer, and costs a look.
    pub fn declared(
        &mut self,
        identities: Vec<Arc<Identity>>,
        grants: impl IntoIterator<Item = (ClientKey, Arc<grant::Grant>)>,
        now: Timestamp,
    ) {
        self.live.identities(identities);
        self.round += 1;
        for (client, told) in grants {
            let old = self.grants.get_mut(&told.name);
            if let Some(old) = old
                && Arc::ptr_eq(&old.told, &told)
                && old.counts.active == Grant::is_active(&told, now)
            {
                old.round = self.round;
                continue;
            }
            let counts = Arc::new(Grant::of(client, &told, now));
            let granted = Granted { told: told.clone(), counts: counts.clone(), round: self.round };
            let old = self.grants.insert(told.name.clone(), granted);
            self.live.grant(old.as_ref().map(|old| &old.counts), Some(&counts));
        }
        let (live, round) = (&mut self.live, self.round);
        self.grants.retain(|_, granted| {
            let stays = granted.round == round;
            if !stays {
                live.grant(Some(&granted.counts), None);
            }
            stays
        });
    }

    /// This is how clients are registered.
    pub fn registrations(&mut self, all: Vec<Registration>) {
        self.live.registrations(all);
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
        let parts = self.parts.iter().filter(|(part, _)| !is_more(&part.resource));
        let refused = parts.filter_map(|(part, read)| match read {
            Read::Refused(why) => Some((part.resource.clone(), (*why).to_owned())),
            Read::Waiting => Some((part.resource.clone(), "it was not read yet".to_owned())),
            Read::Complete | Read::NotServed => None,
        });
        let odd = self.odd.iter().filter(|(resource, _)| resource != configmap::RESOURCE);
        let odd = odd.map(|(resource, _)| (resource.clone(), "an object cannot be read".to_owned()));
        let gaps: BTreeSet<(String, String)> = refused.chain(odd).collect();
        gaps.into_iter().map(|(file, why)| Unread { place: Place { file, line: 0 }, why }).collect()
    }

    /// Everything, joined.
    #[must_use]
    pub fn index(&self) -> &Index {
        self.live.index()
    }

    /// Finds what is shared.
    #[must_use]
    pub fn evaluate(&mut self, now: Timestamp) -> Evaluation {
        let (unread, objects) = (self.gaps(), self.live.objects() + self.rbac.len());
        let (missing, configmaps) = (self.missing(), self.has_configmaps());
        self.live.configmaps_whole(configmaps);
        let index = self.live.index_mut();
        if std::mem::take(&mut self.stale) || index.policy.missing != missing {
            let mut rbac = Rbac { missing, ..Rbac::default() };
            rbac.extend(self.rbac.values().cloned());
            index.policy = Policy::new(rbac);
        }
        (index.now, index.unread, index.whole) = (now, unread, true);
        judge_all(index, &BTreeSet::new(), objects)
    }

    /// Compares what was kept while it changed with what is made anew from the same, and keeps the latter where
    /// they differ: in these parts.
    pub fn check(&mut self) -> Vec<&'static str> {
        let differences = self.live.differences();
        if !differences.is_empty() {
            self.live.heal();
        }
        differences
    }
}
