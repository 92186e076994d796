//! What a client may hold at the IdP now: the ceiling.

use super::standing::{self, Standing};
use super::{Authority, ClientView, Timestamp};

/// The union of the live grants. Empty: nothing at all, which the adapter writes as its sentinels.
///
/// A union is right for a ceiling and wrong for a decision: the ceiling is the most that the IdP may
/// ever issue to the client; who gets what of it is decided per subject.
#[must_use]
pub fn ceiling(view: &ClientView, now: Timestamp) -> Authority {
    let mut union = Authority::default();
    for (grant, standing) in standing::all(view, now) {
        if let (Standing::Live, Ok(terms)) = (standing, &grant.terms) {
            union.add_all(&terms.authority);
        }
    }
    union
}
