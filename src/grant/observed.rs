//! What was read at the IdP, in the domain's own terms.

use std::collections::{BTreeMap, BTreeSet};

use super::Authority;
use super::consent::Consent;

/// One client as its registration at the IdP says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedClient {
    /// Scopes, audiences and grant types that a grant can declare. Empty when the adapter found its
    /// sentinels, which mean "nothing at all".
    pub authority: Authority,
    /// What it holds that no grant can declare (`implicit`, `response type token`), by name.
    pub extra: BTreeSet<String>,
    /// Settings that are not as an adopted client's must be, by field name at the IdP.
    pub settings: Vec<&'static str>,
    /// The id of the cluster that manages it.
    pub mark: Option<String>,
    /// Since when it is registered, as in a [fingerprint](crate::sharing::registration::born): one made anew
    /// under the same id is another.
    pub born: Option<String>,
}

impl ObservedClient {
    /// True if it is exactly as `ceiling` asks, and marked by `cluster`.
    #[must_use]
    pub fn is_exactly(&self, ceiling: &Authority, cluster: &str) -> bool {
        self.authority == *ceiling
            && self.extra.is_empty()
            && self.settings.is_empty()
            && self.mark.as_deref() == Some(cluster)
    }

    /// True if it holds something beyond `ceiling`.
    #[must_use]
    pub fn exceeds(&self, ceiling: &Authority) -> bool {
        !self.extra.is_empty() || !self.authority.within(ceiling)
    }
}

/// A definite answer about one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The IdP said that it does not know the client.
    Absent,
    /// Its registration.
    Present(ObservedClient),
}

/// One look at a client: its registration and the consents of the subjects that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The registration.
    pub client: Found,
    /// Complete lists, by subject. A subject that is not a key was not read.
    pub consents: BTreeMap<String, Vec<Consent>>,
}
