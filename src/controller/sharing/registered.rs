//! How clients are registered, as the provider tasks read it: complete lists, of clients that ClientIdentities
//! speak about.

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

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Registered(Mutex<BTreeMap<ProviderKey, Read>>);

impl Registered {
    fn all(&self) -> MutexGuard<'_, BTreeMap<ProviderKey, Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A complete list. True if it says something else than the one before.
    pub fn set(&self, provider: &ProviderKey, asked: BTreeSet<Arc<str>>, registrations: Vec<Registration>) -> bool {
        let registrations = registrations.into_iter().map(|of| (of.client.client.clone(), of)).collect();
        let new = Read { asked, registrations };
        let mut all = self.all();
        let old = all.get(provider);
        let news = old.is_none_or(|old| old.asked != new.asked || old.registrations != new.registrations);
        all.insert(provider.clone(), new);
        news
    }

    /// Whether one of these was not asked about yet.
    pub fn lacks(&self, provider: &ProviderKey, clients: &BTreeSet<Arc<str>>) -> bool {
        let all = self.all();
        !clients.is_empty() && all.get(provider).is_none_or(|read| !clients.is_subset(&read.asked))
    }

    /// Whether a list of this provider was ever read.
    pub fn is_read(&self, provider: &ProviderKey) -> bool {
        self.all().contains_key(provider)
    }

    /// What is known of these clients.
    pub fn of<'a>(&self, clients: impl Iterator<Item = &'a ClientKey>) -> Registrations {
        let all = self.all();
        let known = clients.filter_map(|key| {
            let read = all.get(&key.provider).filter(|read| read.asked.contains(&key.client))?;
            Some((key.clone(), read.registrations.get(&key.client).cloned()))
        });
        Registrations(known.collect())
    }

    /// A provider object is gone: another one of its name may connect elsewhere.
    pub fn forget(&self, provider: &ProviderKey) {
        self.all().remove(provider);
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
