//! SC-106: one federated subject, two clients.

use super::Found;
use super::by_registration::{Common, at_provider, each};
use crate::grant::ProviderKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::declared::Credential;
use crate::sharing::finding::{Evidence, Grade, Severity};
use crate::sharing::index::Index;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-106",
    name: "same-federated-subject",
    severity: Severity::High,
    what: "The tokens of one ServiceAccount authenticate two clients of one identity provider, as it is registered there \
           or declared in ClientIdentities.",
    why: "Whoever runs as it is either client. Some providers look a client up by the subject alone, and then refuse both \
          or take one for the other.",
    remedy: "Give each client a ServiceAccount of its own; where one has to act for several, use token exchange.",
    references: &["OWASP NHI9:2025", "OWASP NHI4:2025", "ATT&CK T1550.001", "ATT&CK T1528", "CIS 5.1.5"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut common = Common::<(ProviderKey, String)>::new();
    for identity in &index.identities {
        for credential in &identity.credentials {
            if let Credential::Federated(subject) = credential
                && identity.is_here(subject)
            {
                let key = (identity.client.provider.clone(), subject.clone());
                common.entry(key).or_default().insert(identity.client.clone());
            }
        }
    }
    for registration in &index.registrations {
        for subject in registration.subjects.iter().filter(|s| !s.is_empty() && !s.contains('*')) {
            let key = (registration.client.provider.clone(), subject.clone());
            common.entry(key).or_default().insert(registration.client.clone());
        }
    }
    each(index, &RULE, Grade::Identity, common, |(_, subject), client| {
        let mut evidence: Vec<Evidence> = Vec::new();
        if index.registrations.iter().any(|r| r.client == *client && r.subjects.contains(subject)) {
            evidence.extend(at_provider(client, format!("federated subject {subject}")));
        }
        for identity in index.identities_of(client) {
            let said = identity.credentials.iter().position(|c| *c == Credential::Federated(subject.clone()));
            evidence.extend(said.map(|at| Index::declaration(identity, format!("spec.credentials[{at}].federated"))));
        }
        evidence
    })
}
