//! Reading what Hydra writes. Every function is total: what cannot be understood is `None`.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{MARK, NO_GRANT_TYPE, NO_SCOPE};
use crate::api::instant;
use crate::grant::consent::{Consent, Context};
use crate::grant::observed::ObservedClient;
use crate::grant::{Audiences, Authority, Grant, GrantType, Scopes, Terms, Timestamp};
use crate::hex;
use crate::sharing::registration;

/// Access-token lifespans by flow, as the client's fields are called.
pub const LIFESPANS: &[&str] = &[
    "authorization_code_grant_access_token_lifespan",
    "client_credentials_grant_access_token_lifespan",
    "implicit_grant_access_token_lifespan",
    "jwt_bearer_grant_access_token_lifespan",
    "refresh_token_grant_access_token_lifespan",
];

/// The shared keys of one provider.
pub struct Keys {
    /// What Hydra presents at the token hook, if it has one.
    pub hook: Option<SecretString>,
    /// What the consent app presents, newest first; also the keys of a context's proof.
    pub consent: Vec<SecretString>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// Compares in constant time.
#[must_use]
pub fn same_key(presented: &str, key: &SecretString) -> bool {
    // Comparing tags under one key hides length and content alike.
    let base = hmac::Key::new(hmac::HMAC_SHA256, b"clientgrant.dev/compare");
    let tag = hmac::sign(&base, key.expose_secret().as_bytes());
    hmac::verify(&base, presented.as_bytes(), tag.as_ref()).is_ok()
}

/// Reads one client: its id and registration.
#[must_use]
pub fn client(value: &Value, lifetime: Duration) -> Option<(String, ObservedClient)> {
    let id = value.get("client_id")?.as_str()?.to_owned();
    let mut extra = BTreeSet::new();
    let scopes = value.get("scope").and_then(Value::as_str).unwrap_or_default();
    let scopes: Scopes = scopes.split(' ').filter(|s| !s.is_empty() && *s != NO_SCOPE).collect();

    let mut grant_types = BTreeSet::new();
    let names = strings(value, "grant_types");
    if names.is_empty() {
        // Hydra's default for a client that names none (OpenID Connect registration, section 2).
        grant_types.insert(GrantType::AuthorizationCode);
    }
    for name in names.iter().filter(|n| *n != NO_GRANT_TYPE) {
        match GrantType::parse(name) {
            Some(known) => _ = grant_types.insert(known),
            None => _ = extra.insert(format!("grant type {name}")),
        }
    }
    for name in strings(value, "response_types").iter().filter(|n| *n != "code") {
        extra.insert(format!("response type {name}"));
    }

    let mut settings = Vec::new();
    if value.get("skip_consent").and_then(Value::as_bool) != Some(false) {
        settings.push("skip_consent");
    }
    if value.get("access_token_strategy").and_then(Value::as_str) != Some("opaque") {
        settings.push("access_token_strategy");
    }
    for field in LIFESPANS {
        if value.get(*field).and_then(Value::as_str).and_then(go_duration) != Some(lifetime) {
            settings.push(field);
        }
    }
    let mark = value.get("metadata").and_then(|m| m.get(MARK)).and_then(Value::as_str).map(str::to_owned);
    let audiences = strings(value, "audience").into_iter().collect();
    let authority = Authority { scopes, audiences, grant_types };
    let born = value.get("created_at").and_then(Value::as_str).filter(|at| !at.is_empty()).map(registration::born);
    Some((id, ObservedClient { authority, extra, settings, mark, born }))
}

fn strings(value: &Value, field: &str) -> Vec<String> {
    let list = value.get(field).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// Go's text form of a duration: `5m0s`, `1h30m`, `1.5s`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match rest.get(..letters)? {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = rest.get(letters..)?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
    }
    (!text.is_empty()).then_some(total)
}

/// Whose consent it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Pair {
    /// `client_id`.
    pub client: String,
    /// The internal subject.
    pub subject: String,
}

/// Reads one entry of the consent list.
#[must_use]
pub fn consent(entry: &Value, keys: &Keys) -> Option<(Pair, Consent)> {
    let request = entry.get("consent_request")?;
    let client = request.get("client")?.get("client_id")?.as_str()?.to_owned();
    let subject = request.get("subject")?.as_str()?.to_owned();
    let challenge = request.get("challenge").and_then(Value::as_str).unwrap_or_default().to_owned();
    let scopes: Scopes = strings(entry, "grant_scope").into_iter().collect();
    let audiences: Audiences = strings(entry, "grant_access_token_audience").into_iter().collect();
    let flow = Flow {
        login: request.get("login_challenge").and_then(Value::as_str).unwrap_or_default(),
        client: &client,
        subject: &subject,
    };
    let context = entry.get("context").and_then(|c| context(c, &flow, &scopes, &audiences, keys));
    let consent = Consent {
        challenge,
        scopes,
        audiences,
        remembered: entry.get("remember").and_then(Value::as_bool) != Some(false),
        context,
        handled_at: entry.get("handled_at").and_then(Value::as_str).and_then(|t| t.parse().ok()),
    };
    Some((Pair { client, subject }, consent))
}

/// The authorization flow that a proof is bound to. The challenge that a consent app holds is not the
/// one that Hydra lists later; the login challenge behind it is the same in both places.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// `login_challenge`, one for each flow.
    pub login: &'a str,
    /// `client_id`.
    pub client: &'a str,
    /// The internal subject.
    pub subject: &'a str,
}

fn context(value: &Value, flow: &Flow<'_>, scopes: &Scopes, audiences: &Audiences, keys: &Keys) -> Option<Context> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let grant = text("grant")?.to_owned();
    let purpose = text("purpose").unwrap_or_default().to_owned();
    let end = text("expiresAt").unwrap_or_default();
    let message = proof_message(flow, &grant, &purpose, end, scopes, audiences);
    let proof = text("proof").and_then(hex::decode);
    let genuine = !flow.login.is_empty()
        && proof.is_some_and(|proof| {
            keys.consent.iter().any(|key| hmac::verify(&proof_key(key), &message, &proof).is_ok())
        });
    // An end that cannot be read is one that has passed.
    let expires_at = instant::parse(end).unwrap_or(Timestamp::MIN);
    Some(Context { grant, purpose, expires_at, genuine })
}

/// The context that the consent app passes on unread.
#[must_use]
pub fn make_context(
    flow: &Flow<'_>,
    grant: &Grant,
    terms: &Terms,
    scopes: &Scopes,
    audiences: &Audiences,
    keys: &Keys,
) -> Option<Value> {
    let end = instant::format(terms.expires_at);
    let message = proof_message(flow, &grant.uid, &terms.purpose, &end, scopes, audiences);
    let proof = hmac::sign(&proof_key(keys.consent.first()?), &message);
    Some(json!({
        "grant": &*grant.uid,
        "generation": grant.generation,
        "purpose": terms.purpose,
        "expiresAt": end,
        "proof": hex::encode(proof.as_ref()),
    }))
}

/// The consent app's API key is also known to the app; a key of our own is derived from it, so that
/// what travels in a header is never itself the key of a proof.
fn proof_key(key: &SecretString) -> hmac::Key {
    let base = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
    let derived = hmac::sign(&base, b"clientgrant.dev/consent-proof/v1");
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

/// Each part with its length, so that no two different contents read alike.
fn proof_message(
    flow: &Flow<'_>,
    grant: &str,
    purpose: &str,
    end: &str,
    scopes: &Scopes,
    audiences: &Audiences,
) -> Vec<u8> {
    let mut message = Vec::new();
    let mut put = |part: &str| {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part.as_bytes());
    };
    [flow.login, flow.client, flow.subject, grant, purpose, end].into_iter().for_each(&mut put);
    put(&scopes.iter().count().to_string());
    scopes.iter().for_each(&mut put);
    audiences.iter().for_each(&mut put);
    message
}

/// A consent request that waits for its app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentRequest {
    /// The login behind it: what the flow is called here and in the list of consents.
    pub login: String,
    /// `client_id`.
    pub client: String,
    /// `client_name`, for the app to show.
    pub client_name: String,
    /// The internal subject.
    pub subject: String,
    /// What was asked.
    pub scopes: Scopes,
    /// Likewise.
    pub audiences: Audiences,
    /// Hydra would skip the question.
    pub skip: bool,
}

/// Reads a consent request.
#[must_use]
pub fn consent_request(value: &Value) -> Option<ConsentRequest> {
    let client = value.get("client")?;
    Some(ConsentRequest {
        login: value.get("login_challenge")?.as_str().filter(|l| !l.is_empty())?.to_owned(),
        client: client.get("client_id")?.as_str()?.to_owned(),
        client_name: client.get("client_name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        subject: value.get("subject")?.as_str()?.to_owned(),
        scopes: strings(value, "requested_scope").into_iter().collect(),
        audiences: strings(value, "requested_access_token_audience").into_iter().collect(),
        skip: value.get("skip").and_then(Value::as_bool) != Some(false),
    })
}
