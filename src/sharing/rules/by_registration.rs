//! What clients have in common at the identity provider: the part that SC-104, SC-105, SC-106 and SC-111 share.

use std::collections::{BTreeMap, BTreeSet};

use super::{Found, OTHERS, some_of};
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::{Evidence, Grade, Object, Place};
use crate::sharing::index::Index;

/// What is common, and who has it.
pub(super) type Common<K> = BTreeMap<K, BTreeSet<ClientKey>>;

/// A finding for each client that somebody declared or granted something, where what it has is another's too.
/// `evidence` says where it stands, for the whole of it.
pub(super) fn each<K>(
    index: &Index,
    rule: &Rule,
    grade: Grade,
    common: Common<K>,
    evidence: impl Fn(&K, &ClientKey) -> Vec<Evidence>,
) -> Vec<Found> {
    // What the same clients share is one finding.
    let mut together = BTreeMap::<BTreeSet<ClientKey>, Vec<K>>::new();
    for (key, clients) in common.into_iter().filter(|(_, clients)| index.shared(clients)) {
        together.entry(clients).or_default().push(key);
    }
    let mut all = Vec::new();
    for (clients, keys) in together {
        for client in clients.iter().filter(|client| index.clients.contains_key(client)) {
            let mut found = Found::new(rule.id, rule.severity, grade, subject(index, client));
            let others = clients.iter().filter(|other| !index.related(other, client));
            (found.clients, found.more) = some_of(client, others);
            found.own = Some([client.clone()].into());
            found.speaker = Some(client.clone());
            // Only the other clients can be named, so that one that joins opens it again.
            found.counterparts.clear();
            let others = found.clients.iter().filter(|other| *other != client).take(OTHERS);
            let shown: Vec<&ClientKey> = std::iter::once(client).chain(others).collect();
            let keys = keys.iter().take(OTHERS);
            found.evidence = keys.flat_map(|key| shown.iter().flat_map(|client| evidence(key, client))).collect();
            all.push(found);
        }
    }
    all
}

/// What a finding about a client stands on: its ClientIdentity, or its id alone.
fn subject(index: &Index, client: &ClientKey) -> Object {
    index.identities_of(client).first().map_or_else(|| registered(client), |identity| identity.object.clone())
}

fn registered(client: &ClientKey) -> Object {
    Object::new("Client", "", client.client.to_string())
}

/// Evidence that stands on a registration.
pub(super) fn at_provider(client: &ClientKey, path: String) -> Vec<Evidence> {
    vec![Evidence { path, place: Place::default(), object: registered(client) }]
}
