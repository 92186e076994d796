//! Exceptions: what somebody accepted, with whom, why, and until when.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::finding::Object;
use super::index::{Family, Index};
use super::rules::Found;
use crate::api::{SharingException, instant};
use crate::grant::ClientKey;

/// The farthest that an exception may reach.
pub const LONGEST: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// The shortest reason, in characters.
pub const REASON: usize = 20;

/// What is wrong with an exception, in a few words; then it accepts nothing.
///
/// # Errors
///
/// It has ended, reaches too far, has no reason, or names no rule that can be accepted.
pub fn check(entry: &SharingException, now: Timestamp) -> Result<(), &'static str> {
    let Some(end) = instant::parse(&entry.expires_at) else { return Err("expiresAt is no instant") };
    if end <= now {
        return Err("expiresAt has passed: the finding is open again");
    }
    if now.checked_add(LONGEST).is_ok_and(|farthest| farthest < end) {
        return Err("expiresAt is more than 180 days ahead");
    }
    if entry.reason.trim().chars().count() < REASON {
        return Err("reason has fewer than 20 characters");
    }
    if super::catalogue::find(&entry.rule).is_none_or(|rule| !rule.accepts) {
        return Err("rule is none that can be accepted");
    }
    Ok(())
}

/// Why a finding is accepted, if it is: without the clients whose own `ClientIdentity` accepts this pairing, at
/// most one family is left. An owner speaks for its own client only, and whoever names what is shared without naming
/// the others means a pair: among more than two families nobody is left then. So a client that joins opens the
/// finding again. Where more share than a finding names, nothing is accepted.
#[must_use]
pub fn accepted(index: &Index, found: &Found) -> Option<String> {
    // Nobody can have named those that are not listed.
    if found.more > 0 {
        return None;
    }
    let (mut reasons, mut unnamed) = (Vec::new(), false);
    let speakers = found.speaker.as_ref().map_or_else(|| found.clients.iter().collect(), |s| vec![s]);
    let mut left: BTreeSet<ClientKey> = speakers.iter().map(|c| (*c).clone()).collect();
    for client in speakers {
        let identities = index.identities_of(client).iter();
        let entries =
            identities.flat_map(|identity| identity.exceptions.iter().map(|entry| (&identity.object.namespace, entry)));
        let mut everybody = false;
        for (namespace, entry) in entries {
            let names = |object: &Object| {
                object.namespace == *namespace
                    && entry.with.iter().any(|w| object.is_a(&w.kind) && w.name == object.name)
            };
            let fits = entry.rule == found.rule && check(entry, index.now).is_ok();
            let named = fits && everybody_else(index, found, client, &names);
            everybody |= named;
            if named || (fits && found.counterparts.iter().any(names)) {
                left.remove(client);
                reasons.push(entry.reason.clone());
            }
        }
        unnamed |= !everybody && !left.contains(client);
    }
    reasons.sort();
    reasons.dedup();
    let single = found.alone || found.speaker.is_some() || found.clients.len() == 1;
    let families: BTreeSet<Family<'_>> = found.clients.iter().map(|client| index.family(client)).collect();
    let each = single || (unnamed && families.len() > 2);
    let enough = if each { left.is_empty() } else { !index.shared(&left) };
    (enough && !reasons.is_empty()).then(|| reasons.join("; "))
}

/// Whether an exception of `client` names a `ClientIdentity` of every other client of the finding.
fn everybody_else(index: &Index, found: &Found, client: &ClientKey, names: &dyn Fn(&Object) -> bool) -> bool {
    let mut others = found.clients.iter().filter(|c| !index.related(c, client)).peekable();
    others.peek().is_some() && others.all(|other| index.identities_of(other).iter().any(|i| names(&i.object)))
}
