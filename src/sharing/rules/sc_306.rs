//! SC-306: one credential in two environments.

use std::collections::BTreeSet;

use super::{Found, OTHERS, some_of, together};
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::declared::{Credential, Identity};
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-306",
    name: "cross-environment-reuse",
    severity: Severity::High,
    what: "One client, one key of a Secret or one federated subject is declared for two environments. Medium if an \
           environment is known by the name of the namespace only, such as shop-staging.",
    why: "The credential of production is as well kept as that of the test beside it.",
    remedy: "Register a client for each environment, each with a credential of its own, and say the environment in the \
             ClientIdentity.",
    references: &["OWASP NHI8:2025", "OWASP NHI9:2025", "ATT&CK T1078", "CIS 5.6.1"],
    accepts: true,
    // That the environments differ is the finding itself.
    moves: false,
    standard: true,
    check,
};

/// Words in the name of a namespace that are an environment, and what it is called here.
const WORDS: [(&str, &str); 14] = [
    ("dev", "dev"),
    ("develop", "dev"),
    ("development", "dev"),
    ("test", "test"),
    ("testing", "test"),
    ("qa", "qa"),
    ("uat", "uat"),
    ("stage", "staging"),
    ("staging", "staging"),
    ("preprod", "preprod"),
    ("sandbox", "sandbox"),
    ("prd", "prod"),
    ("prod", "prod"),
    ("production", "prod"),
];

/// What two objects have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Common<'a> {
    Client(&'a ClientKey),
    Credential(&'a str, &'a Credential),
}

fn check(index: &Index) -> Vec<Found> {
    let places = index.identities.iter().flat_map(|identity| {
        let identity = &**identity;
        let credentials = identity.credentials.iter().enumerate().map(move |(at, credential)| {
            (Common::Credential(&identity.object.namespace, credential), (identity, Some(at)))
        });
        credentials.chain([(Common::Client(&identity.client), (identity, None))])
    });
    let mut all = Vec::new();
    for places in together(places).into_values() {
        let environments: BTreeSet<String> = places.iter().filter_map(|(i, _)| environment(i)).collect();
        if environments.len() < 2 {
            continue;
        }
        let told =
            places.iter().filter_map(|(i, _)| i.environment.as_deref().map(common_name)).collect::<BTreeSet<_>>();
        let by_name = told.len() < 2;
        let clients: BTreeSet<ClientKey> = places.iter().map(|(i, _)| i.client.clone()).collect();
        for client in &clients {
            let Some((first, _)) = places.iter().find(|(i, _)| i.client == *client) else { continue };
            let (severity, grade) =
                if by_name { (Severity::Medium, Grade::Potential) } else { (RULE.severity, Grade::Declared) };
            let mut found = Found::new(RULE.id, severity, grade, first.object.clone());
            (found.clients, found.more) = some_of(client, clients.iter());
            found.own = Some([client.clone()].into());
            found.speaker = Some(client.clone());
            // Where there are others they have to be named, so that one that joins opens it again.
            if index.shared(&clients) {
                found.counterparts.clear();
            }
            let (own, mut others): (Vec<_>, Vec<_>) = places.iter().partition(|(i, _)| i.client == *client);
            // Of the others those of another environment are what shows it.
            others.sort_by_key(|(i, _)| environment(i) == environment(first));
            let shown = own.into_iter().chain(others.into_iter().take(OTHERS));
            found.evidence = shown.map(|(i, at)| Index::declaration(i, path(at))).collect();
            all.push(found);
        }
    }
    all
}

/// The field of a credential, or of the client's id.
fn path(credential: Option<usize>) -> String {
    credential.map_or_else(|| "spec.clientID".to_owned(), |at| format!("spec.credentials[{at}]"))
}

/// The environment of a client: as it is said, else by a word of the namespace's name.
fn environment(identity: &Identity) -> Option<String> {
    let said = identity.environment.as_deref().map(common_name);
    said.or_else(|| identity.object.namespace.split('-').rev().find_map(known)).map(str::to_owned)
}

/// The same for every way to write one environment.
fn common_name(environment: &str) -> &str {
    known(environment).unwrap_or(environment)
}

fn known(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|(known, _)| *known == word).map(|(_, name)| *name)
}
