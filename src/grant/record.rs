//! The lines of the record of managed clients, as they are stored: one per client, under a key made of
//! issuer and client, so that even a line that cannot be read says whose it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::observed::ObservedClient;
use super::{Authority, GrantType};
use crate::hex;

/// How many ConfigMaps share the record: each may hold 1 MiB.
const SHARDS: u8 = 64;

/// One client of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The `iss` of its provider.
    pub issuer: String,
    /// OAuth 2.0 `client_id`.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Tokens from before the adoption are ended.
    pub complete: bool,
    /// What it held then.
    #[serde(default)]
    pub previous: Previous,
    /// It was given back at this instant, and is not managed any more. The line stays: a line that is
    /// merely missing was lost, and is written again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<String>,
    /// What it held before comes back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub put_back: bool,
}

/// What a client held before it was adopted, so that it can be given back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Previous {
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Its audiences.
    pub audiences: Vec<String>,
    /// Its grant types, as far as a grant can declare them.
    pub grant_types: Vec<String>,
    /// What no grant can declare, by name.
    pub other: Vec<String>,
}

impl From<&ObservedClient> for Previous {
    fn from(client: &ObservedClient) -> Self {
        Self {
            scopes: client.authority.scopes.to_vec(),
            audiences: client.authority.audiences.to_vec(),
            grant_types: client.authority.grant_types.iter().map(|g| g.as_str().to_owned()).collect(),
            other: client.extra.iter().cloned().collect(),
        }
    }
}

impl Line {
    /// Of a client that is managed.
    #[must_use]
    pub fn managed(issuer: &str, client: &str, complete: bool, previous: Previous) -> Self {
        let (issuer, client_id) = (issuer.to_owned(), client.to_owned());
        Self { issuer, client_id, complete, previous, released: None, put_back: false }
    }

    /// What is to be put back, if it was released.
    #[must_use]
    pub fn given_back(&self) -> Option<Option<Authority>> {
        self.released.as_ref()?;
        let Previous { scopes, audiences, grant_types, other: _ } = &self.previous;
        let before = || Authority {
            scopes: scopes.iter().cloned().collect(),
            audiences: audiences.iter().cloned().collect(),
            grant_types: grant_types.iter().filter_map(|g| GrantType::parse(g)).collect(),
        };
        Some(self.put_back.then(before))
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> String {
        key(&self.issuer, &self.client_id)
    }
}

fn named(issuer: &str, client: &str) -> String {
    format!("{issuer}\n{client}")
}

/// The name of the ConfigMap that holds a client's line.
#[must_use]
pub fn shard(issuer: &str, client: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, named(issuer, client).as_bytes());
    let first = digest.as_ref().first().copied().unwrap_or_default();
    format!("clientgrant-managed-{:02}", first % SHARDS)
}

/// A ConfigMap key is short and of few letters: a digest of the names, which stand in the value.
#[must_use]
pub fn key(issuer: &str, client: &str) -> String {
    hex::digest(&named(issuer, client), 16)
}

/// What one stored line says. `None`: it cannot be read, or speaks of another client than its key.
#[must_use]
pub fn read(key: &str, text: &str) -> Option<Line> {
    serde_json::from_str::<Line>(text).ok().filter(|line| line.key() == key)
}

/// What a ConfigMap of the record says, against what is known of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Lines that can be read.
    pub lines: Vec<Line>,
    /// Keys of those that cannot, and of which nothing is known.
    pub damaged: Vec<String>,
    /// Known lines that are missing or damaged there: somebody edited the record by hand.
    pub lost: Vec<Line>,
}

/// Reads one ConfigMap; `known` are the lines that belong into it, by key.
#[must_use]
pub fn told(data: &BTreeMap<String, String>, known: &BTreeMap<String, Line>) -> Told {
    let mut told = Told::default();
    for (key, text) in data {
        match (read(key, text), known.get(key)) {
            (Some(line), _) => told.lines.push(line),
            (None, Some(line)) => told.lost.push(line.clone()),
            (None, None) => told.damaged.push(key.clone()),
        }
    }
    told.lost.extend(known.iter().filter(|(key, _)| !data.contains_key(*key)).map(|(_, line)| line.clone()));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(client: &str) -> Line {
        let previous = Previous { scopes: vec!["admin".into()], ..Previous::default() };
        Line::managed("https://login.example.com/", client, true, previous)
    }

    fn stored(lines: &[Line]) -> BTreeMap<String, String> {
        lines.iter().map(|l| (l.key(), serde_json::to_string(l).unwrap())).collect()
    }

    #[test]
    fn a_line_is_read_back_and_only_under_its_own_key() {
        let (a, b) = (line("a"), line("b"));
        let mut data = stored(std::slice::from_ref(&a));
        assert_eq!(told(&data, &BTreeMap::new()), Told { lines: vec![a.clone()], ..Told::default() });
        data.insert(b.key(), serde_json::to_string(&a).unwrap());
        assert_eq!(told(&data, &BTreeMap::new()).damaged, [b.key()], "it speaks of another client");
        let old = r#"{"issuer":"i","clientID":"c","complete":false,"previous":{"scopes":[],"audiences":[],"grantTypes":[],"other":[]}}"#;
        assert_eq!(read(&key("i", "c"), old).unwrap().released, None);
        for bad in ["", "null", "{}", "[1]", "\u{0}", r#"{"issuer":1}"#] {
            assert_eq!(read(&a.key(), bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_was_known_and_is_missing_or_damaged_is_lost_not_released() {
        let (a, b) = (line("a"), line("b"));
        let known: BTreeMap<String, Line> = [&a, &b].into_iter().map(|l| (l.key(), l.clone())).collect();
        let mut data = stored(&[a.clone(), b.clone()]);
        assert!(told(&data, &known).lost.is_empty());
        data.insert(a.key(), "scribbled".into());
        data.remove(&b.key());
        let told = told(&data, &known);
        assert_eq!((told.lost, told.lines, told.damaged), (vec![a, b], vec![], vec![]));
    }
}
