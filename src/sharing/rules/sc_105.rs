//! SC-105: one address of keys, two clients.

use super::Found;
use super::by_registration::{Common, at_provider, each};
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;
use crate::sharing::registration::address;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-105",
    name: "shared-jwks-uri",
    severity: Severity::High,
    what: "At the identity provider two clients that authenticate by key have one jwks_uri.",
    why: "Every key that is found there authenticates either client.",
    remedy: "Give each client an address of its own for its keys.",
    references: &["OWASP NHI9:2025", "OWASP NHI4:2025", "ATT&CK T1550.001"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut common = Common::<String>::new();
    for registration in index.registrations.iter().filter(|r| r.by_key()) {
        if let Some(address) = registration.jwks_uri.as_deref().and_then(address) {
            common.entry(address).or_default().insert(registration.client.clone());
        }
    }
    each(index, &RULE, Grade::Identity, common, |address, client| {
        at_provider(client, format!("jwks_uri: {}", address.split('?').next().unwrap_or_default()))
    })
}
