//! SC-902: an exception that accepts nothing.

use super::Found;
use crate::sharing::catalogue::Rule;
use crate::sharing::exceptions;
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-902",
    name: "exception-invalid",
    severity: Severity::Low,
    what: "An exception has ended, reaches more than 180 days ahead, has no reason, or names no rule that can be accepted.",
    why: "Somebody believes that a finding is accepted, and it is not.",
    remedy: "Remove the exception, or write a new one with a reason and a date.",
    references: &["OWASP NHI9:2025"],
    accepts: false,
    moves: false,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut all = Vec::new();
    for identity in &index.identities {
        for (at, entry) in identity.exceptions.iter().enumerate() {
            let Err(why) = exceptions::check(entry, index.now) else { continue };
            let mut found = Found::new(RULE.id, RULE.severity, Grade::Declared, identity.object.clone());
            found.clients.insert(identity.client.clone());
            found.evidence.push(Index::declaration(identity, format!("spec.sharing.exceptions[{at}]: {why}")));
            all.push(found);
        }
    }
    all
}
