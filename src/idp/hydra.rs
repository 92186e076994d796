//! Ory Hydra (v2.3.0 is the verified version): the admin API, as it is rather than as it is documented.
//!
//! What surprises, and why a step is as it is:
//! - an empty `scope` is stored as `offline_access offline openid`, and empty `grant_types` still permit
//!   the code flow: "nothing" is written as sentinels ([`NO_SCOPE`], [`NO_GRANT_TYPE`]);
//! - concurrent PATCHes of one client lose updates: everything goes into one;
//! - implicit and hybrid responses never call the token hook: `response_types` is exactly `code`;
//! - the `Link` header of the consent list loses rows: page tokens are our own, multiples of the page
//!   size (another offset is rounded down); and remembered consents that lapsed are dropped after paging,
//!   so that a short page is not the last: `X-Total-Count` counts them too;
//! - a page token of the client list is an offset, so a deletion while paging hides an entry: a list
//!   counts as complete only if every page told the same total and that many were read;
//! - the consent challenge that an app holds is not the one that is listed and told to the hook; the
//!   login challenge is the same everywhere;
//! - an unknown route answers 404 too (as HTML): only a 404 with Hydra's JSON means "no such client".

pub mod dialect;
pub mod hook;
pub mod probe;
pub mod registration;

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use super::http::{Answer, Http, client};
use super::resolver::Resolver;
use super::{Listed, Probe, Spoken, Urgency, Wanted, Write};
use crate::correlation;
use crate::grant::consent::Consent;
use crate::grant::fault::Fault;
use crate::grant::observed::Found;
use crate::grant::plan::Step;
use crate::grant::{Authority, Capabilities};
use crate::telemetry::Calls;

/// The scope of a client that may have nothing.
pub const NO_SCOPE: &str = "clientgrant.dev/none";
/// The grant type of a client that may have nothing.
pub const NO_GRANT_TYPE: &str = "urn:clientgrant.dev:none";
/// Where the mark is kept in a client's metadata.
pub const MARK: &str = "clientgrant.dev/cluster";
/// Entries asked for per page: more than Hydra's default, not more than it gives.
const PAGE: usize = 500;
/// Each entry carries its whole client: a page stays below the largest answer with 16 KiB an entry.
const CONSENT_PAGE: usize = 250;
/// A list longer than this is not read to its end.
const MOST_PAGES: usize = 10_000;
/// A Hydra with more clients cannot be compared: memory has bounds, whatever a server answers.
const MOST_CLIENTS: usize = 1_000_000;
/// Likewise of one subject's consents for one client.
const MOST_CONSENTS: usize = 100_000;

const POINTS: &[&str] = &["ClientCeiling", "TokenHook", "ConsentDecision"];
const POINTS_WITHOUT_HOOK: &[&str] = &["ClientCeiling", "ConsentDecision"];

/// One Hydra.
#[derive(Debug)]
pub struct Hydra {
    http: Http,
    issuer: Option<Url>,
    public: reqwest::Client,
    fenced: bool,
    access_token_lifetime: Duration,
    keys: dialect::Keys,
    probes: probe::Probes,
}

/// How to reach it, parsed.
#[derive(Debug)]
pub struct Settings {
    /// The admin API's root.
    pub admin: Url,
    /// `spec.issuer`, if its discovery document may be read.
    pub issuer: Option<Url>,
    /// Only the operator reaches the admin API.
    pub fenced: bool,
    /// Of every access token.
    pub access_token_lifetime: Duration,
    /// Calls per second that are not urgent.
    pub per_second: u32,
    /// Calls at once.
    pub concurrency: usize,
    /// The keys of hook and consent app.
    pub keys: dialect::Keys,
    /// The name of this replica.
    pub replica: String,
    /// This cluster's mark.
    pub cluster: String,
    /// Where calls are counted.
    pub calls: Calls,
}

impl Hydra {
    /// Connects nothing yet.
    ///
    /// # Errors
    /// The HTTP client could not be set up.
    pub fn new(settings: Settings) -> Result<Self, Fault> {
        let Settings { admin, issuer, fenced, access_token_lifetime, per_second, concurrency, keys, .. } = settings;
        let public = client(Resolver::default(), |builder| builder.timeout(Duration::from_secs(3)))?;
        let http = Http::new(admin, per_second, concurrency, &settings.replica, settings.calls)?;
        let probes = probe::Probes::new(&settings.cluster);
        Ok(Self { http, issuer, public, fenced, access_token_lifetime, keys, probes })
    }

    /// The keys of hook and consent app.
    #[must_use]
    pub fn keys(&self) -> &dialect::Keys {
        &self.keys
    }

    /// What probes the token hook.
    pub(crate) fn probes(&self) -> &probe::Probes {
        &self.probes
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        let hook = self.keys.hook.is_some();
        let lifetime = i64::try_from(self.access_token_lifetime.as_secs()).unwrap_or(i64::MAX);
        Capabilities {
            lists_consents: true,
            slash_in_client_id: false,
            points: if hook { POINTS } else { POINTS_WITHOUT_HOOK },
            not_enforced: match (self.fenced, hook) {
                (true, true) => &[],
                (false, true) => &["SharedAdminAPI"],
                (true, false) => &["TokenIssuance"],
                (false, false) => &["SharedAdminAPI", "TokenIssuance"],
            },
            // Without a hook refresh tokens go on for as long as nobody revokes them.
            max_residual_seconds: hook.then_some(lifetime),
        }
    }

    pub(super) async fn probe(&self) -> Result<Probe, Fault> {
        let answer = self.http.get(&["version"], &[], Urgency::Ordinary).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.unexpected());
        }
        let version = answer.json()?.get("version").and_then(Value::as_str).map(str::to_owned);
        Ok(Probe { version, issuer: self.discovery().await })
    }

    /// A place below the issuer. `None`: nothing there may be read.
    fn public_url(&self, segments: &[&str]) -> Option<Url> {
        let mut url = self.issuer.clone()?;
        url.path_segments_mut().ok()?.pop_if_empty().extend(segments);
        Some(url)
    }

    /// The issuer that the public side names, if it can be reached from here.
    async fn discovery(&self) -> Option<String> {
        let url = self.public_url(&[".well-known", "openid-configuration"])?;
        let call = self.public.get(url).header(correlation::HEADER, correlation::value());
        let answer = call.send().await.ok()?;
        let document: Value = super::http::json(&super::http::read(answer).await.ok()?).ok()?;
        document.get("issuer")?.as_str().map(str::to_owned)
    }

    pub(super) async fn observe_client(&self, client: &str, urgency: Urgency) -> Result<Found, Fault> {
        let answer = self.http.get(&["admin", "clients", client], &[], urgency).await?;
        match answer.status {
            StatusCode::OK => {
                let (id, observed) = dialect::client(&answer.json()?, self.access_token_lifetime)
                    .ok_or_else(|| Fault::retry("the identity provider's client cannot be understood"))?;
                if id != client {
                    return Err(Fault::retry("the identity provider answered for another client"));
                }
                Ok(Found::Present(observed))
            }
            StatusCode::NOT_FOUND if says_not_found(&answer) => Ok(Found::Absent),
            _ => Err(answer.unexpected()),
        }
    }

    pub(super) async fn list_clients(&self, wanted: Wanted<'_>, spoken: Option<&Spoken<'_>>) -> Result<Listed, Fault> {
        let mut found = Listed::default();
        // Of the others only so much is kept that one listed twice is noticed.
        let (mut met, hasher) = (HashSet::new(), RandomState::new());
        let mut read = 0;
        let mut total = None;
        for _ in 0..MOST_PAGES {
            let token = page_token(read);
            let size = PAGE.to_string();
            let query = [("page_size", size.as_str()), ("page_token", token.as_str())];
            let answer = self.http.get(&["admin", "clients"], &query, Urgency::Ordinary).await?;
            let page = list(&answer)?;
            let told = told_total(&answer)
                .ok_or_else(|| Fault::retry("the identity provider does not say how many clients it has"))?;
            if *total.get_or_insert(told) != told {
                return Err(Fault::retry("the clients changed while they were being listed"));
            }
            if told > MOST_CLIENTS || page.len() > PAGE {
                return Err(Fault::retry("the identity provider lists more clients than can be compared"));
            }
            for entry in &page {
                let (id, observed) = dialect::client(entry, self.access_token_lifetime)
                    .ok_or_else(|| Fault::retry("a listed client cannot be understood"))?;
                met.insert(hasher.hash_one(&id));
                if let Some(provider) = Spoken::has(spoken, &id) {
                    found.registrations.extend(registration::registration(&provider, entry));
                }
                if wanted(&id, &observed) {
                    found.clients.insert(id, observed);
                }
            }
            read += page.len();
            if page.len() < PAGE || read > told {
                break;
            }
        }
        if total == Some(read) && met.len() == read {
            Ok(found)
        } else {
            Err(Fault::retry("the list of clients is not complete"))
        }
    }

    pub(super) async fn observe_consents(
        &self,
        client: &str,
        subject: &str,
        urgency: Urgency,
    ) -> Result<Vec<Consent>, Fault> {
        self.consents(client, subject, None, urgency).await
    }

    /// The subject's consents for one client; with a login session only those of that session, which
    /// stays fast however many the subject has.
    pub(crate) async fn consents(
        &self,
        client: &str,
        subject: &str,
        session: Option<&str>,
        urgency: Urgency,
    ) -> Result<Vec<Consent>, Fault> {
        let listed = self.listed(subject, session, &|of| of == client, urgency).await?;
        Ok(listed.into_values().flatten().collect())
    }

    pub(super) async fn observe_subject(
        &self,
        subject: &str,
        wanted: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<BTreeMap<String, Vec<Consent>>, Fault> {
        self.listed(subject, None, wanted, Urgency::Ordinary).await
    }

    async fn listed(
        &self,
        subject: &str,
        session: Option<&str>,
        wanted: &(dyn Fn(&str) -> bool + Sync),
        urgency: Urgency,
    ) -> Result<BTreeMap<String, Vec<Consent>>, Fault> {
        // Hydra reads an empty value as "any": never send one.
        if subject.is_empty() {
            return Err(Fault::NeedsPerson { why: "an empty subject cannot be looked up".into() });
        }
        let path = ["admin", "oauth2", "auth", "sessions", "consent"];
        let size = CONSENT_PAGE.to_string();
        let mut consents: BTreeMap<String, Vec<Consent>> = BTreeMap::new();
        let mut kept = 0;
        let mut total = None;
        for page in 0..MOST_PAGES {
            let token = page_token(page * CONSENT_PAGE);
            let mut query = vec![("subject", subject), ("page_size", size.as_str())];
            if page > 0 {
                query.push(("page_token", token.as_str()));
            }
            if let Some(session) = session.filter(|s| !s.is_empty()) {
                query.push(("login_session_id", session));
            }
            let answer = self.http.get(&path, &query, urgency).await?;
            let entries = list(&answer)?;
            for entry in &entries {
                let (of, consent) = dialect::consent(entry, &self.keys)
                    .ok_or_else(|| Fault::retry("a listed consent cannot be understood"))?;
                if of.subject == subject && wanted(&of.client) {
                    consents.entry(of.client).or_default().push(consent);
                    kept += 1;
                }
            }
            if kept > MOST_CONSENTS {
                return Err(Fault::retry("the subject has more consents for this client than can be read"));
            }
            // Absent where there is nothing.
            let told = told_total(&answer).unwrap_or_default();
            if told < entries.len() || *total.get_or_insert(told) != told {
                return Err(Fault::retry("the consents changed while they were being listed"));
            }
            if told <= (page + 1) * CONSENT_PAGE {
                return Ok(consents);
            }
        }
        Err(Fault::retry("the list of consents has no end"))
    }

    /// Reads a consent request that a consent app was handed.
    ///
    /// # Errors
    /// It could not be read; `Ok(None)`: Hydra does not know it.
    pub(crate) async fn consent_request(&self, challenge: &str) -> Result<Option<dialect::ConsentRequest>, Fault> {
        let path = ["admin", "oauth2", "auth", "requests", "consent"];
        let query = [("consent_challenge", challenge)];
        let answer = self.http.get(&path, &query, Urgency::Ending).await?;
        match answer.status {
            StatusCode::OK => Ok(dialect::consent_request(&answer.json()?)),
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::BAD_REQUEST => Ok(None),
            _ => Err(answer.unexpected()),
        }
    }

    pub(super) async fn execute(&self, write: Write<'_>) -> Result<(), Fault> {
        let Write { permit, client, step, ceiling, cluster, urgency } = write;
        let (method, path, query, body): (_, Vec<&str>, Vec<(&str, &str)>, _) = match step {
            Step::SetRegistration => {
                (Method::PATCH, vec!["admin", "clients", client], vec![], Some(self.patch(ceiling, cluster)))
            }
            Step::Release { put_back } => {
                (Method::PATCH, vec!["admin", "clients", client], vec![], Some(release(put_back.as_ref())))
            }
            Step::RevokePair { subject, .. } if subject.is_empty() || client.is_empty() => {
                return Err(Fault::NeedsPerson { why: "an empty subject or client cannot be revoked".into() });
            }
            Step::RevokePair { subject, .. } => {
                let path = vec!["admin", "oauth2", "auth", "sessions", "consent"];
                (Method::DELETE, path, vec![("subject", subject), ("client", client)], None)
            }
            Step::RevokeClientTokens { .. } => {
                (Method::DELETE, vec!["admin", "oauth2", "tokens"], vec![("client_id", client)], None)
            }
        };
        let answer = self.http.write(permit, method, &path, &query, body.as_ref(), urgency).await?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.unexpected()) }
    }

    /// Everything in one PATCH. `add` also replaces, and serves where the metadata are empty.
    fn patch(&self, ceiling: &Authority, cluster: &str) -> Value {
        let nothing = ceiling.scopes.is_empty();
        let scope = if nothing { NO_SCOPE.to_owned() } else { ceiling.scopes.to_string() };
        let grant_types: Vec<&str> =
            if nothing { vec![NO_GRANT_TYPE] } else { ceiling.grant_types.iter().map(|g| g.as_str()).collect() };
        let lifespan = format!("{}s", self.access_token_lifetime.as_secs());
        let mut operations = vec![
            json!({"op": "replace", "path": "/scope", "value": scope}),
            json!({"op": "replace", "path": "/audience", "value": ceiling.audiences.to_vec()}),
            json!({"op": "replace", "path": "/grant_types", "value": grant_types}),
            json!({"op": "replace", "path": "/response_types", "value": ["code"]}),
            json!({"op": "replace", "path": "/skip_consent", "value": false}),
            json!({"op": "replace", "path": "/access_token_strategy", "value": "opaque"}),
            json!({"op": "add", "path": format!("/metadata/{}", MARK.replace('/', "~1")), "value": cluster}),
        ];
        for field in dialect::LIFESPANS {
            operations.push(json!({"op": "replace", "path": format!("/{field}"), "value": lifespan}));
        }
        Value::Array(operations)
    }
}

/// Takes our mark off; what the client had before comes back only where somebody asked for it.
fn release(put_back: Option<&Authority>) -> Value {
    let mut operations = vec![json!({"op": "remove", "path": format!("/metadata/{}", MARK.replace('/', "~1"))})];
    if let Some(Authority { scopes, audiences, grant_types }) = put_back.filter(|p| !p.scopes.is_empty()) {
        let grant_types: Vec<&str> = grant_types.iter().map(|g| g.as_str()).collect();
        operations.push(json!({"op": "replace", "path": "/scope", "value": scopes.to_string()}));
        operations.push(json!({"op": "replace", "path": "/audience", "value": audiences.to_vec()}));
        operations.push(json!({"op": "replace", "path": "/grant_types", "value": grant_types}));
    }
    Value::Array(operations)
}

/// Hydra's own "no such client", not some proxy's.
fn says_not_found(answer: &Answer) -> bool {
    answer.json().is_ok_and(|body| body.get("error").is_some_and(Value::is_string))
}

fn list(answer: &Answer) -> Result<Vec<Value>, Fault> {
    if answer.status != StatusCode::OK {
        return Err(answer.unexpected());
    }
    match answer.json()? {
        Value::Array(entries) => Ok(entries),
        _ => Err(Fault::retry("the identity provider's answer is not a list")),
    }
}

/// How many rows the list has in all, hidden ones included.
fn told_total(answer: &Answer) -> Option<usize> {
    answer.headers.get("X-Total-Count")?.to_str().ok()?.parse().ok()
}

fn page_token(offset: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!(r#"{{"offset":"{offset}","v":2}}"#))
}
