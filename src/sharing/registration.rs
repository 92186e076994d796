//! What an identity provider has registered for a client, as far as clients can have it in common. Public parts
//! only: no secret is ever read into it, and where a value is empty, masked or unreadable nothing is compared.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::grant::ClientKey;
use crate::hex;

/// One client, as it is registered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Registration {
    /// The client.
    pub client: ClientKey,
    /// Its name for people. It says nothing about who the client is.
    pub display_name: Option<String>,
    /// Its public keys, by [`thumbprint`].
    pub keys: BTreeSet<String>,
    /// How many keys it has that cannot be compared.
    pub odd_keys: usize,
    /// Where its keys are fetched from, as it is registered.
    pub jwks_uri: Option<String>,
    /// Subjects of tokens of this cluster that authenticate it.
    pub subjects: BTreeSet<String>,
    /// Where users are sent back to.
    pub redirect_uris: BTreeSet<String>,
    /// How it authenticates, by the names of RFC 7591; `None`: it is not known.
    pub auth_method: Option<String>,
    /// Since when it is registered: one made anew under the same id is another.
    pub created: Option<String>,
}

impl Registration {
    /// A client of which nothing is registered.
    #[must_use]
    pub fn new(client: ClientKey) -> Self {
        Self {
            client,
            display_name: None,
            keys: BTreeSet::new(),
            odd_keys: 0,
            jwks_uri: None,
            subjects: BTreeSet::new(),
            redirect_uris: BTreeSet::new(),
            auth_method: None,
            created: None,
        }
    }

    /// Changes when something changes by which a client is known: keys, subjects, redirect URIs, method, and the
    /// registration itself. It is made of public values, and has a part of its own for each [`Trait`].
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let Self {
            client: _,
            display_name: _,
            keys,
            odd_keys,
            jwks_uri,
            subjects,
            redirect_uris,
            auth_method,
            created,
        } = self;
        let print = |value: Value| hex::digest(&value.to_string(), PART);
        Fingerprint([
            print(json!(redirect_uris)),
            print(json!(auth_method)),
            print(json!([keys, odd_keys, jwks_uri, subjects])),
            created.as_deref().map_or_else(nothing, born),
        ])
    }

    /// Whether its public keys are what authenticates it, or may be. Otherwise they sign requests at most.
    #[must_use]
    pub fn by_key(&self) -> bool {
        self.auth_method.as_deref().is_none_or(|m| matches!(m, "private_key_jwt" | "self_signed_tls_client_auth"))
    }
}

/// Bytes of each part of a fingerprint.
const PART: usize = 16;

/// The part of a fingerprint that nothing is equal to.
fn nothing() -> String {
    "00".repeat(PART)
}

/// The part of a fingerprint that says since when a client is registered.
#[must_use]
pub fn born(created: &str) -> String {
    hex::digest(created, PART)
}

/// What a client is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trait {
    /// Where users are sent back to.
    RedirectUris,
    /// How it authenticates.
    AuthMethod,
    /// Its keys, and the subjects whose tokens authenticate it.
    Keys,
    /// The registration itself: one made anew under the same id is another client.
    Created,
}

impl Trait {
    /// All of them, in the order of a fingerprint.
    pub const ALL: [Self; 4] = [Self::RedirectUris, Self::AuthMethod, Self::Keys, Self::Created];

    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::RedirectUris => "redirect URIs",
            Self::AuthMethod => "authentication method",
            Self::Keys => "keys",
            Self::Created => "registered anew",
        }
    }
}

/// What a client was known by at some time, as digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint([String; 4]);

impl Fingerprint {
    /// Reads its text. `None`: it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        hex::decode(text).filter(|bytes| bytes.len() == 4 * PART)?;
        let part = |n: usize| text.get(2 * PART * n..2 * PART * (n + 1)).map(str::to_owned);
        Some(Self([part(0)?, part(1)?, part(2)?, part(3)?]))
    }

    /// One part of it. `None`: nothing was known.
    #[must_use]
    pub fn part(&self, of: Trait) -> Option<&str> {
        let part = match of {
            Trait::RedirectUris => &self.0[0],
            Trait::AuthMethod => &self.0[1],
            Trait::Keys => &self.0[2],
            Trait::Created => &self.0[3],
        };
        (*part != nothing()).then_some(part)
    }

    /// The same, with these parts equal to nothing.
    #[must_use]
    pub fn without(mut self, traits: &BTreeSet<Trait>) -> Self {
        for (part, of) in self.0.iter_mut().zip(Trait::ALL) {
            if traits.contains(&of) {
                *part = nothing();
            }
        }
        self
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| f.write_str(part))
    }
}

/// The thumbprint of a public key (RFC 7638 with SHA-256). `None`: it is symmetric, which is a secret, of a kind
/// that is not known, or not readable.
#[must_use]
pub fn thumbprint(key: &Value) -> Option<String> {
    // What a mask says is no key: each part has to be base64url, and as long as keys are.
    let part = |name: &str| {
        let text = key[name].as_str()?;
        let long = if name == "e" { 1 } else { 32 };
        URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() >= long).map(|_| text)
    };
    let kind = key["kty"].as_str()?;
    // Sorted by name, without spaces: that is what is digested.
    let canonical = match kind {
        "EC" => format!(
            r#"{{"crv":{},"kty":"EC","x":"{}","y":"{}"}}"#,
            key["crv"].as_str().map(Value::from)?,
            part("x")?,
            part("y")?
        ),
        "OKP" => format!(r#"{{"crv":{},"kty":"OKP","x":"{}"}}"#, key["crv"].as_str().map(Value::from)?, part("x")?),
        "RSA" => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, part("e")?, part("n")?),
        _ => return None,
    };
    Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes())))
}

/// An address of keys in its one form, without what could be a password in it. `None`: it is none.
#[must_use]
pub fn address(text: &str) -> Option<String> {
    let mut url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    url.host_str().filter(|host| !host.contains('*'))?;
    url.set_fragment(None);
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(url.to_string())
}

/// Whether a redirect URI can be compared: one on the user's own machine is shared by every tool that listens
/// there, and says nothing.
#[must_use]
pub fn is_remote(uri: &str) -> bool {
    let bare = uri.trim_end_matches('*');
    let Ok(url) = Url::parse(bare) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    url.scheme() != "urn" && !here
}

/// Whether what is registered as `pattern` also takes `uri`: a star at the end is any rest.
#[must_use]
pub fn covers(pattern: &str, uri: &str) -> bool {
    pattern == uri || pattern.strip_suffix('*').is_some_and(|begin| uri.starts_with(begin))
}
