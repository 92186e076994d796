//! One client, with its grants.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::declared::{Grant, Identity};
use crate::grant::Subject;

/// What is known of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// What speaks about it, sorted by object.
    pub identities: Vec<Arc<Identity>>,
    /// Some `ClientIdentity` says which workloads or which ServiceAccount it is for.
    pub entitlement_known: bool,
    /// Its grants, sorted by object.
    pub grants: Vec<Arc<Grant>>,
    /// How many of them are active.
    pub active: usize,
    /// The subjects of active ones: how many grants each has.
    pub subjects: BTreeMap<Subject, usize>,
    /// The scopes of active ones: how many grants each has.
    pub scopes: BTreeMap<String, usize>,
}

impl Client {
    /// Takes in a grant that it does not have.
    pub(super) fn add(&mut self, grant: Arc<Grant>) {
        if grant.active {
            self.active += 1;
            if grant.subject != Subject::Own {
                *self.subjects.entry(grant.subject.clone()).or_default() += 1;
            }
            for scope in &grant.scopes {
                *self.scopes.entry(scope.clone()).or_default() += 1;
            }
        }
        let at = self.grants.partition_point(|other| *other < grant);
        self.grants.insert(at, grant);
    }

    /// Gives up a grant that it has.
    pub(super) fn remove(&mut self, grant: &Arc<Grant>) {
        let Ok(at) = self.grants.binary_search(grant) else { return };
        self.grants.remove(at);
        if grant.active {
            self.active -= 1;
            count_down(&mut self.subjects, &grant.subject);
            grant.scopes.iter().for_each(|scope| count_down(&mut self.scopes, scope));
        }
    }

    /// Whether nothing speaks about it, and it has nothing.
    pub(super) fn is_unknown(&self) -> bool {
        self.identities.is_empty() && self.grants.is_empty()
    }
}

/// One less; what none is left of goes.
fn count_down<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
