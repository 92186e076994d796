//! What can go wrong at an IdP, told apart only as far as somebody acts differently.

use std::fmt;
use std::time::Duration;

/// A call that did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It may work later: unreachable, overloaded, an answer that makes no sense.
    Retry {
        /// In the operator's own words, never the IdP's.
        why: String,
        /// The IdP asked for this pause (`Retry-After`).
        after: Option<Duration>,
    },
    /// A person must change something: 401 or 403, a request it does not accept.
    NeedsPerson {
        /// In the operator's own words, never the IdP's.
        why: String,
    },
}

impl Fault {
    /// Retry without a pause of the IdP's choosing.
    pub fn retry(why: impl Into<String>) -> Self {
        Fault::Retry { why: why.into(), after: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Retry { why, .. } | Fault::NeedsPerson { why } => f.write_str(why),
        }
    }
}

impl std::error::Error for Fault {}
