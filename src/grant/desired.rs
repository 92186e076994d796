//! What a client may hold at the IdP now: the ceiling.
//!
//! A union is right for a ceiling and wrong for a decision: the ceiling is the most that the IdP may
//! ever issue to the client; who gets what of it is decided per subject.

use super::standing::{self, Standing};
use super::{Authority, ClientView, Grant, Timestamp};

/// The union of the live grants that carry their finalizer. Empty: nothing at all, which the adapter
/// writes as its sentinels.
#[must_use]
pub fn ceiling(view: &ClientView, now: Timestamp) -> Authority {
    union(view, now, |grant| grant.held)
}

/// The union of all live grants: the ceiling as soon as each carries its finalizer.
#[must_use]
pub fn declared(view: &ClientView, now: Timestamp) -> Authority {
    union(view, now, |_| true)
}

fn union(view: &ClientView, now: Timestamp, counts: impl Fn(&Grant) -> bool) -> Authority {
    let mut union = Authority::default();
    for (grant, standing) in standing::all(view, now) {
        if let (Standing::Live, Ok(terms)) = (standing, &grant.terms)
            && counts(&grant)
        {
            union.add_all(&terms.authority);
        }
    }
    union
}
