//! SC-101: one slot, two clients.

use super::{Found, OTHERS, some_of};
use std::sync::Arc;

use crate::sharing::catalogue::Rule;
use crate::sharing::declared::{Credential, Identity};
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-101",
    name: "slot-bound-twice",
    severity: Severity::Critical,
    what: "One key of a Secret is the declared credential of two clients.",
    why: "Whoever holds it is both clients: no decision about one of them means anything.",
    remedy: "Give each client a Secret key of its own, and rotate both after the split.",
    references: &["OWASP NHI9:2025", "ATT&CK T1078", "CIS 5.4.2"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut found = Vec::new();
    for identity in &index.identities {
        for (at, credential) in identity.credentials.iter().enumerate() {
            let Credential::Secret { name, key } = credential else { continue };
            let clients = index.bound_to(&identity.object.namespace, name, key);
            let Some(clients) = clients.filter(|clients| index.shared(*clients)) else { continue };
            let others = clients.iter().filter(|other| !index.related(other, &identity.client));
            let mut one = Found::new(RULE.id, RULE.severity, Grade::Declared, identity.object.clone());
            (one.clients, one.more) = some_of(&identity.client, others);
            one.own = Some([identity.client.clone()].into());
            one.speaker = Some(identity.client.clone());
            // Only the other clients can be named: the slot would let any client join.
            one.counterparts.clear();
            one.evidence.push(Index::declaration(identity, format!("spec.credentials[{at}].secret")));
            let same = Credential::Secret { name: name.clone(), key: key.clone() };
            let others = index.identities_in(&identity.object.namespace).iter();
            let others = others.filter(|i| one.clients.contains(&i.client) && !Arc::ptr_eq(i, identity));
            let at = |other: &Identity| other.credentials.iter().position(|c| *c == same);
            let declared = others.filter_map(|other| {
                Some(Index::declaration(other, format!("spec.credentials[{}].secret", at(other)?)))
            });
            one.evidence.extend(declared.take(OTHERS));
            found.push(one);
        }
    }
    found
}
