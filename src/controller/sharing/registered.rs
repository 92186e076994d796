//! How clients are registered, as the provider tasks read it: complete lists, of clients that ClientIdentities
//! speak about, in the term in which this replica leads. Of an earlier term nothing is kept: whoever led since may
//! have found something else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::grant::{ClientKey, ProviderKey};
use crate::sharing::registration::Registration;
use crate::sharing::unchanged::Known;

/// What the last complete list of one provider said.
#[derive(Debug, Default)]
struct Read {
    /// Clients that were asked about: one of them that is not registered is not there.
    asked: BTreeSet<Arc<str>>,
    registrations: BTreeMap<Arc<str>, Registration>,
}

/// What was read in one term.
#[derive(Debug, Default)]
struct Lists {
    term: u64,
    of: BTreeMap<ProviderKey, Read>,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Registered(Mutex<Lists>);

impl Registered {
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lists of a term.
    fn of_term(&self, term: u64) -> MutexGuard<'_, Lists> {
        let mut lists = self.lists();
        if lists.term != term {
            *lists = Lists { term, ..Lists::default() };
        }
        lists
    }

    /// A complete list that was begun in a term; of one that is over it is not taken. True if it says something else
    /// than the one before.
    pub fn set(
        &self,
        term: u64,
        provider: &ProviderKey,
        asked: BTreeSet<Arc<str>>,
        registrations: Vec<Registration>,
    ) -> bool {
        let registrations = registrations.into_iter().map(|of| (of.client.client.clone(), of)).collect();
        let new = Read { asked, registrations };
        if self.lists().term > term {
            return false;
        }
        let mut lists = self.of_term(term);
        let old = lists.of.get(provider);
        let news = old.is_none_or(|old| old.asked != new.asked || old.registrations != new.registrations);
        lists.of.insert(provider.clone(), new);
        news
    }

    /// Whether one of these was not asked about yet.
    pub fn lacks(&self, term: u64, provider: &ProviderKey, clients: &BTreeSet<Arc<str>>) -> bool {
        let lists = self.of_term(term);
        !clients.is_empty() && lists.of.get(provider).is_none_or(|read| !clients.is_subset(&read.asked))
    }

    /// What is known of these clients.
    pub fn of<'a>(&self, term: u64, clients: impl Iterator<Item = &'a ClientKey>) -> Registrations {
        let lists = self.of_term(term);
        let known = clients.filter_map(|key| {
            let read = lists.of.get(&key.provider).filter(|read| read.asked.contains(&key.client))?;
            Some((key.clone(), read.registrations.get(&key.client).cloned()))
        });
        Registrations(known.collect())
    }

    /// A provider object is gone or connects elsewhere: what was read is of another one.
    pub fn forget(&self, provider: &ProviderKey) {
        self.lists().of.remove(provider);
    }
}

/// Clients with their registrations; `None`: it is not there.
#[derive(Debug)]
pub struct Registrations(BTreeMap<ClientKey, Option<Registration>>);

impl Registrations {
    /// Those that are there.
    pub fn registered(&self) -> Vec<Registration> {
        self.0.values().flatten().cloned().collect()
    }

    /// What is known of one.
    pub fn known(&self, client: &ClientKey) -> Known<'_> {
        match self.0.get(client) {
            None => Known::NotRead,
            Some(None) => Known::Absent,
            Some(Some(registration)) => Known::Is(registration),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_term_begins_with_nothing() {
        let (all, corp) = (Registered::default(), ProviderKey::cluster("corp"));
        let client = ClientKey { provider: corp.clone(), client: "a".into() };
        let asked = BTreeSet::from([client.client.clone()]);
        assert!(all.lacks(1, &corp, &asked));
        assert!(all.set(1, &corp, asked.clone(), Vec::new()) && !all.set(1, &corp, asked.clone(), Vec::new()));
        assert!(!all.lacks(1, &corp, &asked) && !all.lacks(1, &corp, &BTreeSet::new()));
        assert_eq!(all.of(1, [&client].into_iter()).known(&client), Known::Absent);
        // Somebody else led in between.
        assert_eq!(all.of(3, [&client].into_iter()).known(&client), Known::NotRead);
        assert!(all.lacks(3, &corp, &asked));
        all.set(3, &corp, asked.clone(), Vec::new());
        assert!(!all.set(1, &corp, BTreeSet::new(), Vec::new()) && !all.lacks(3, &corp, &asked), "it comes too late");
        all.forget(&corp);
        assert!(all.lacks(3, &corp, &asked), "it connects elsewhere");
    }
}
