//! SC-901: what could not be told.

use std::collections::BTreeSet;

use super::Found;
use crate::grant::ClientKey;
use crate::sharing::catalogue::Rule;
use crate::sharing::facts::{Edge, Keys};
use crate::sharing::finding::{Evidence, Grade, Object, Place, Severity};
use crate::sharing::index::Index;
use crate::sharing::pod::is_credential_name;
use crate::sharing::workload::Workload;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SC-901",
    name: "not-evaluable",
    severity: Severity::Info,
    what: "Something could not be read, or is not in what was given, so that some rule can tell neither found nor clean; \
           or a client's workload receives, from a Secret that no ClientIdentity declares, a key that is named as another \
           client's credential of the namespace: nobody reads it, and it may be a copy; or a custom \
           resource names a client's credential of another namespace.",
    why: "What was not looked at is not clean.",
    remedy: "Give what is missing: render templates first, add the grants, the workloads, or the object that is named. \
             Say in a ClientIdentity whose credential the undeclared Secret is.",
    references: &["OWASP NHI9:2025"],
    accepts: false,
    moves: false,
    standard: true,
    check,
};

fn check(index: &Index) -> Vec<Found> {
    let mut all = Vec::new();
    for unread in &index.unread {
        let file = Object::new("File", "", unread.place.file.clone());
        let mut found = Found::new(RULE.id, RULE.severity, Grade::Direct, file.clone());
        found.evidence.push(Evidence { path: unread.why.clone(), place: unread.place.clone(), object: file });
        all.push(found);
    }
    if index.identities.is_empty() {
        return all;
    }
    let mut whole = |rule: &str, why: &str| {
        let subject = Object::new("Rule", "", rule);
        let mut found = Found::new(RULE.id, RULE.severity, Grade::Direct, subject.clone());
        found.evidence.push(Evidence { path: why.to_owned(), place: Place::default(), object: subject });
        all.push(found);
    };
    if index.lacks_grants() && index.workloads().any(|w| !w.exposures.is_empty()) {
        whole("SC-302", "no ClientGrant was given");
    }
    if index.lacks_workloads() {
        whole("SC-304", "no workload was given");
        if index.clients.values().any(|c| c.active > 0) {
            whole("SC-303", "no workload was given");
        }
    }
    let some = index.has_credentials();
    if some && !index.policy.given && index.policy.missing.is_empty() {
        whole("SC-204", "no RBAC object was given: neither SC-204 nor SC-205 can tell");
    }
    for why in index.policy.missing.iter().filter(|_| some) {
        whole("SC-204", why);
    }
    let registered: BTreeSet<&ClientKey> = index.registrations.iter().map(|r| &r.client).collect();
    if registered.is_empty() && index.shared(index.identities.iter().map(|i| &i.client)) {
        let why = "no registration was given: SC-104, SC-105 and SC-111 cannot tell, SC-106 only what is declared";
        whole("SC-104", why);
    }
    for identity in &index.identities {
        let mut evidence = Vec::new();
        if identity.is_blank() {
            evidence.push(Index::declaration(identity, "spec: neither credentials nor workloads are declared"));
        }
        if !registered.is_empty() && !registered.contains(&identity.client) {
            evidence.push(Index::declaration(identity, "spec.clientID: how the client is registered is not known"));
        }
        for (_, why) in identity.foreign_subjects() {
            evidence.push(Index::declaration(identity, format!("spec.credentials: the federated subject {why}")));
        }
        if !evidence.is_empty() {
            let mut found = Found::new(RULE.id, RULE.severity, Grade::Direct, identity.object.clone());
            found.clients.insert(identity.client.clone());
            found.evidence = evidence;
            all.push(found);
        }
    }
    let at_stake = |namespace: &str| if namespace.is_empty() { some } else { index.has_credentials_in(namespace) };
    for binding in index.policy.unknown().filter(|b| !b.subjects.is_empty() && at_stake(&b.object.namespace)) {
        let mut found = Found::new(RULE.id, RULE.severity, Grade::Direct, binding.object.clone());
        let why = format!("roleRef: nobody said what {} allows", binding.role);
        found.evidence.push(Evidence { path: why, place: binding.place.clone(), object: binding.object.clone() });
        all.push(found);
    }
    for workload in index.workloads() {
        // Whoever owns the Secret may let the other namespace read it, and nobody looks at that.
        let elsewhere = workload.elsewhere().filter_map(|of| index.bound_to(&of.namespace, &of.secret, &of.key));
        let elsewhere: BTreeSet<ClientKey> = elsewhere.flatten().cloned().collect();
        if workload.uses.is_empty() && workload.exposures.is_empty() && elsewhere.is_empty() {
            continue;
        }
        let (copies, copied) = copies(index, workload);
        if !workload.is_opaque() && copies.is_empty() {
            continue;
        }
        let opaque = workload.opaque();
        let mut found = Found::new(RULE.id, RULE.severity, Grade::Direct, workload.name());
        found.clients = copied;
        if !opaque.is_empty() {
            let exposed = workload.exposures.iter().map(|e| &e.client);
            found.clients.extend(workload.uses.iter().chain(exposed).cloned());
            found.clients.extend(elsewhere);
        }
        let evidence = |(path, what): &(String, String)| Evidence {
            path: format!("{path}: {what}"),
            place: workload.place.clone(),
            object: workload.name(),
        };
        found.evidence = opaque.iter().map(evidence).chain(copies).collect();
        all.push(found);
    }
    // What hangs on the clients is said where something was found.
    for found in &mut all {
        found.own = Some(found.clients.clone());
    }
    all
}

/// What a client's workload receives of a Secret that nobody declares, under the key that is another client's
/// credential: the value may be a copy of it. With the clients whose it may be.
fn copies(index: &Index, workload: &Workload) -> (Vec<Evidence>, BTreeSet<ClientKey>) {
    let (mut evidence, mut clients) = (Vec::new(), BTreeSet::new());
    let namespace = workload.object.namespace.as_str();
    // Other names say little: many a Secret has a `password`.
    let undeclared = |edge: &'_ Edge| match &edge.keys {
        Keys::One(key) => is_credential_name(key) && index.bound_to(namespace, &edge.secret, key).is_none(),
        Keys::All => false,
    };
    let own = index.clients_of(workload);
    if own.is_empty() || !workload.edges().any(undeclared) {
        return (evidence, clients);
    }
    for edge in workload.edges().filter(|edge| undeclared(edge)) {
        let Keys::One(key) = &edge.keys else { continue };
        let same = index.slots_in(namespace).filter(|(_, of, _)| of == key).flat_map(|(.., clients)| clients);
        let others: BTreeSet<&ClientKey> =
            same.filter(|client| !own.iter().any(|own| index.related(own, client))).collect();
        if !others.is_empty() {
            let why = format!("{}: of a Secret that no ClientIdentity declares, and may be a copy", edge.path);
            evidence.push(workload.evidence(&why));
            clients.extend(others.into_iter().cloned());
        }
    }
    (evidence, clients)
}
