//! Proposes `ClientIdentity` objects for a person to review: who a client seems to be, and what each line was
//! concluded from. A proposal says where something stands, and of literals only what a grant or an identity says
//! already: the id of a client.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::declared::Identity;
use super::evaluate::Input;
use super::facts::{Edge, Keys, Kind, Meaning};
use super::finding::Object;
use super::index::{Index, service_account, subject};
use super::output::visible;
use super::pod::is_credential_name;
use super::workload::Workload;
use crate::api::{GROUP, VERSION};
use crate::grant::ClientKey;

/// The most workloads and credentials that a `ClientIdentity` takes.
const WORKLOADS: usize = 16;
const CREDENTIALS: usize = 4;

/// What one object would say.
#[derive(Default)]
struct Proposal {
    why: BTreeSet<String>,
    accounts: BTreeMap<String, BTreeSet<String>>,
    workloads: BTreeMap<String, BTreeSet<String>>,
    credentials: BTreeMap<String, BTreeSet<String>>,
    notes: BTreeSet<String>,
}

/// Proposals as one YAML stream.
#[must_use]
pub fn suggest(input: Input, now: Timestamp) -> String {
    let index = Index::new(now, input);
    let mut proposals = BTreeMap::<(String, ClientKey), Proposal>::new();
    granted(&index, &mut proposals);
    federated(&index, &mut proposals);
    let mut text = HEADER.to_owned();
    let mut taken: BTreeSet<(String, String)> =
        index.identities.iter().map(|i| (i.object.namespace.to_string(), i.object.name.to_string())).collect();
    for ((namespace, client), proposal) in &proposals {
        // One that says nothing so far is completed under its own name.
        let blank = of(&index, namespace, client).next().map(|i| i.object.name.to_string());
        let name = blank.unwrap_or_else(|| free(&mut taken, namespace, &client.client));
        proposal.write(&mut text, namespace, &name, client);
    }
    for workload in index.in_order() {
        for literal in workload.literals() {
            if literal.means == Meaning::UnknownId {
                let at = format!("{} {}", workload.object, workload.path(&literal.path));
                comment(
                    &mut text,
                    "",
                    &format!("{at} is named as a client's id; nothing that was given is about that client."),
                );
            }
        }
    }
    text
}

const HEADER: &str = "\
# Proposed by `clientgrant suggest`, to be reviewed line by line: nothing was applied, and an application that
# fetches its credential by itself is not seen.
";

fn of<'a>(index: &'a Index, namespace: &'a str, client: &'a ClientKey) -> impl Iterator<Item = &'a Arc<Identity>> {
    index.identities_of(client).iter().filter(move |i| i.object.namespace == namespace)
}

/// Clients that grants name, or identities that say nothing yet.
fn granted(index: &Index, proposals: &mut BTreeMap<(String, ClientKey), Proposal>) {
    let grants = index.grants().map(|g| (&g.object, &g.client, "names the client"));
    let blank = index.identities.iter().filter(|i| i.is_blank());
    let blank = blank.map(|i| (&i.object, &i.client, "says neither workloads nor credentials"));
    for (object, client, why) in grants.chain(blank) {
        if of(index, &object.namespace, client).any(|i| !i.is_blank()) {
            continue;
        }
        let proposal = proposals.entry((object.namespace.to_string(), client.clone())).or_default();
        if proposal.why.len() < 3 {
            proposal.why.insert(format!("{object} {why}."));
        }
        // Workloads say an id, and no provider.
        let mut known = index.clients.keys();
        if let Some(other) = known.find(|other| other.client == client.client && other.provider != client.provider) {
            proposal.why.insert(format!(
                "{} has a client of the same id: which one a workload is, nothing says.",
                other.provider
            ));
            continue;
        }
        for workload in index.workloads().filter(|w| w.object.namespace == object.namespace) {
            proposal.holder(index, workload, client);
        }
    }
}

/// Clients that an identity of another namespace, or the provider, says to be a ServiceAccount of this one.
fn federated(index: &Index, proposals: &mut BTreeMap<(String, ClientKey), Proposal>) {
    let declared = index.identities.iter().flat_map(|i| {
        i.foreign_subjects().map(move |(subject, _)| (&i.client, subject, format!("{} names {subject}.", i.object)))
    });
    let registered = index.registrations.iter().flat_map(|r| {
        let why = move |subject: &str| format!("The provider takes the tokens of {subject} for the client's.");
        r.subjects.iter().map(move |subject| (&r.client, subject.as_str(), why(subject)))
    });
    for (client, subject, why) in declared.chain(registered) {
        let Some((namespace, name)) = service_account(subject) else { continue };
        let provider = &client.provider.namespace;
        let reachable = provider.is_empty() || provider == namespace;
        if !reachable || of(index, namespace, client).any(|i| !i.is_blank()) {
            continue;
        }
        let proposal = proposals.entry((namespace.to_owned(), client.clone())).or_default();
        proposal.why.insert(why.clone());
        proposal.accounts.entry(name.to_owned()).or_default().insert(why.clone());
        let line = format!("federated: {{subject: {}}}", quoted(subject));
        proposal.credentials.entry(line).or_default().insert(why);
    }
}

/// Audiences of tokens for a mesh, a cloud or a vault: they authenticate no client of an identity provider.
const OTHERS: [&str; 5] = ["istio-ca", "identity.l5d.io", "sts.amazonaws.com", "api://AzureADTokenExchange", "vault"];

impl Proposal {
    /// Takes in what a workload that has the client's id shows.
    fn holder(&mut self, index: &Index, workload: &Workload, client: &ClientKey) {
        let object = &workload.object;
        let (mut containers, literals) = (BTreeSet::new(), workload.literals());
        for literal in &literals {
            if !matches!(&literal.means, Meaning::ClientId(id) if **id == *client.client) {
                continue;
            }
            containers.insert(literal.container.as_str());
            if object.name.ends_with('*') {
                let why = format!("{object} gets a name when it is made, and cannot be listed.");
                self.notes.insert(why);
                continue;
            }
            let (version, kind) = api_version(&object.kind);
            let line =
                format!("{{apiVersion: {}, kind: {}, name: {}}}", quoted(&version), quoted(kind), quoted(&object.name));
            self.workloads
                .entry(line)
                .or_default()
                .insert(format!("{} is the client's id.", workload.path(&literal.path)));
        }
        if containers.is_empty() {
            return;
        }
        if let Some(account) = workload.account() {
            self.accounts.entry(account.to_owned()).or_default().insert(format!("{object} runs as it."));
        }
        for edge in workload.edges().filter(|e| e.container.as_deref().is_some_and(|c| containers.contains(c))) {
            let path = workload.path(&edge.path);
            let ids: BTreeSet<(&str, &str)> = literals
                .iter()
                .filter(|literal| Some(literal.container.as_str()) == edge.container.as_deref())
                .filter_map(|literal| match &literal.means {
                    Meaning::ClientId(id) => Some((id.as_str(), literal.path.as_str())),
                    Meaning::UnknownId | Meaning::Credential => None,
                })
                .collect();
            match nearest(&ids, &edge.path) {
                Some(id) if id == &*client.client => self.credential(index, object, client, edge, &path),
                Some(_) => {}
                None => {
                    self.notes.insert(format!("{path} is beside the ids of several clients: whose is it?"));
                }
            }
        }
        for token in workload.tokens().filter(|t| !t.audience.is_empty() && !OTHERS.contains(&t.audience.as_str())) {
            let subject = subject(&object.namespace, &workload.service_account);
            let line = format!("federated: {{subject: {}}}", quoted(&subject));
            self.credentials
                .entry(line)
                .or_default()
                .insert(format!("{} is a token for somebody else.", workload.path(&token.path)));
        }
    }

    fn credential(&mut self, index: &Index, of: &Object, client: &ClientKey, edge: &Edge, path: &str) {
        match &edge.keys {
            Keys::One(key) if edge.credential || is_credential_name(key) => {
                let bound = index.bound_to(&of.namespace, &edge.secret, key);
                if !(can_be_name(&edge.secret) && can_be_key(key)) {
                    self.notes.insert(format!("{path} names what no Secret or key can be called."));
                } else if bound.is_some_and(|clients| clients.iter().any(|other| other != client)) {
                    self.notes.insert(format!("{path} is the credential of another client already: is it shared?"));
                } else {
                    let line = format!("secret: {{name: {}, key: {}}}", quoted(&edge.secret), quoted(key));
                    self.credentials.entry(line).or_default().insert(format!("{path} is named as a credential."));
                }
            }
            Keys::One(_) => {}
            Keys::All => {
                let note = format!("{path} delivers every key of Secret {}: which is the client's?", edge.secret);
                self.notes.insert(note);
            }
        }
    }

    fn write(&self, text: &mut String, namespace: &str, name: &str, client: &ClientKey) {
        text.push_str("---\n");
        self.why.iter().for_each(|why| comment(text, "", why));
        if self.workloads.is_empty() && self.credentials.is_empty() {
            let why =
                "Nothing in its namespace has its id as a variable, an argument or a field: say who it is by hand.";
            comment(text, "", why);
            comment(text, "", &format!("(client {} in namespace {namespace})", client.client));
            return;
        }
        let kind = if client.provider.namespace.is_empty() { "ClusterIdentityProvider" } else { "IdentityProvider" };
        _ = write!(
            text,
            "apiVersion: {GROUP}/{VERSION}\nkind: ClientIdentity\nmetadata:\n  name: {}\n  namespace: {}\nspec:\n  \
             providerRef: {{kind: {kind}, name: {}}}\n  clientID: {}\n",
            quoted(name),
            quoted(namespace),
            quoted(&client.provider.name),
            quoted(&client.client)
        );
        match self.accounts.iter().collect::<Vec<_>>()[..] {
            [(account, why)] if account != "default" => {
                why.iter().for_each(|why| comment(text, "  ", why));
                _ = writeln!(text, "  serviceAccountName: {}", quoted(account));
            }
            [] => {}
            [_] => comment(text, "  ", "Its workloads run as `default`: give them a ServiceAccount of their own."),
            _ => comment(text, "  ", "Its workloads run as several ServiceAccounts."),
        }
        list(text, "workloads", &self.workloads, WORKLOADS);
        list(text, "credentials", &self.credentials, CREDENTIALS);
        self.notes.iter().for_each(|note| comment(text, "  ", note));
    }
}

/// The client beside whose id a credential stands: of several, the one whose field has the longest common begin with
/// that of the credential. `None`: two have.
fn nearest<'a>(ids: &BTreeSet<(&'a str, &str)>, path: &str) -> Option<&'a str> {
    let common = |other: &str| other.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
    let longest = ids.iter().map(|(_, of)| common(of)).max()?;
    let mut best = ids.iter().filter(|(_, of)| common(of) == longest).map(|(id, _)| *id);
    let first = best.next()?;
    best.all(|id| id == first).then_some(first)
}

/// Whether an object can be called so (RFC 1123, a DNS subdomain).
fn can_be_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            label.starts_with(letter) && label.ends_with(letter) && label.chars().all(|c| letter(c) || c == '-')
        })
}

/// Whether a key of a Secret can be called so.
fn can_be_key(key: &str) -> bool {
    (1..=253).contains(&key.len()) && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn list(text: &mut String, field: &str, lines: &BTreeMap<String, BTreeSet<String>>, most: usize) {
    if lines.is_empty() {
        return;
    }
    _ = writeln!(text, "  {field}:");
    for (line, why) in lines.iter().take(most) {
        why.iter().take(3).for_each(|why| comment(text, "  ", why));
        _ = writeln!(text, "  - {line}");
    }
    if lines.len() > most {
        comment(text, "  ", &format!("{} more do not fit: is this one client?", lines.len() - most));
    }
}

fn comment(text: &mut String, indent: &str, says: &str) {
    _ = writeln!(text, "{indent}# {}", visible(says));
}

/// How a reference names a kind: what owns pods and is not known says its group, and no version; the group counts.
fn api_version(kind: &str) -> (String, &str) {
    match (Kind::named(kind), kind.split_once('.')) {
        (Some(known), _) => (known.api_version(), kind),
        (None, Some((kind, group))) => (format!("{group}/v1"), kind),
        (None, None) => ("v1".to_owned(), kind),
    }
}

/// A text as YAML has it: plain where that is sure to be one, else as JSON writes it.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '.' | '_'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A name that no object of the namespace has.
fn free(taken: &mut BTreeSet<(String, String)>, namespace: &str, client: &str) -> String {
    let letters = client.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let name: String = letters.take(200).collect();
    let name = name.trim_matches('-');
    let name = if name.is_empty() { "client" } else { name };
    let mut all = std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{name}-{n}")));
    let free = all.find(|name| !taken.contains(&(namespace.to_owned(), name.clone()))).unwrap_or_default();
    taken.insert((namespace.to_owned(), free.clone()));
    free
}
