//! SC-104: one public key, two clients.

use super::Found;
use super::by_registration::{Common, at_provider, each};
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-104",
    name: "same-public-key",
    severity: Severity::Critical,
    what: "At the identity provider one public key is registered for two clients that authenticate by key.",
    why: "The private key that belongs to it is both clients: no decision about one of them means anything.",
    remedy: "Make a new pair of keys for each client and register it; while one moves, an exception of 30 days will do.",
    references: &["OWASP NHI9:2025", "OWASP NHI4:2025", "ATT&CK T1550.001"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut common = Common::<&String>::new();
    for registration in index.registrations.iter().filter(|r| r.by_key()) {
        for key in &registration.keys {
            common.entry(key).or_default().insert(registration.client.clone());
        }
    }
    each(index, &RULE, Grade::Identity, common, |key, client| at_provider(client, format!("jwks: thumbprint {key}")))
}
