//! SC-111: one redirect URI, two clients.

use std::collections::{BTreeSet, HashMap};

use super::Found;
use super::by_registration::{Common, at_provider, each};
use crate::grant::{ClientKey, ProviderKey};
use crate::sharing::catalogue::Rule;
use crate::sharing::finding::{Grade, Severity};
use crate::sharing::index::Index;
use crate::sharing::registration::{covers, is_remote};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-111",
    name: "shared-redirect-uri",
    severity: Severity::Medium,
    what: "At one identity provider a redirect URI of a client is registered for another client too, or a pattern of the \
           other takes it. Addresses on the user's own machine do not count.",
    why: "The code that a user's consent to one client is answered with reaches the other.",
    remedy: "Register exact and different redirect URIs for each client.",
    references: &["OWASP NHI4:2025", "OWASP NHI9:2025", "ATT&CK T1528"],
    accepts: true,
    moves: true,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut uris = HashMap::<&ClientKey, BTreeSet<&str>>::new();
    for registration in &index.registrations {
        let remote = registration.redirect_uris.iter().map(String::as_str).filter(|uri| is_remote(uri));
        uris.entry(&registration.client).or_default().extend(remote);
    }
    let mut common = Common::<(&ProviderKey, &str)>::new();
    for (client, of_client) in &uris {
        for uri in of_client {
            common.entry((&client.provider, *uri)).or_default().insert((*client).clone());
        }
    }
    for (client, of_client) in &uris {
        for begin in of_client.iter().filter_map(|uri| uri.strip_suffix('*')) {
            let taken = common.range_mut((&client.provider, begin)..);
            let taken = taken.take_while(|((of, uri), _)| **of == client.provider && uri.starts_with(begin));
            taken.for_each(|(_, clients)| {
                clients.insert((*client).clone());
            });
        }
    }
    each(index, &RULE, Grade::Identity, common, |(_, uri), client| {
        let takes = uris.get(client).into_iter().flatten().filter(|of| covers(of, uri));
        // What stands behind a question mark is nobody's business.
        let bare = |uri: &str| uri.split(['?', '#']).next().unwrap_or_default().to_owned();
        takes.flat_map(|uri| at_provider(client, format!("redirect_uris: {}", bare(uri)))).collect()
    })
}
