//! Consent apps: one that does what it should, and ones that do not.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::net::http;

/// Changes the body of an accept: `(body, the operator's decision, Hydra's consent request)`.
pub type Mutate = Arc<dyn Fn(&mut Value, &Value, &Value) + Send + Sync>;

/// Makes the body of an accept from Hydra's consent request.
pub type Produce = Arc<dyn Fn(&Value) -> Value + Send + Sync>;

/// How a consent app asks the operator.
#[derive(Clone, Debug)]
pub struct DecisionEndpoint {
    /// The full URL.
    pub url: String,
    /// What goes into the header `X-Api-Key`.
    pub api_key: String,
    /// The authority behind its certificate, in PEM, where the URL is `https://…`.
    pub authority: Option<String>,
}

/// What answers Hydra's consent requests.
#[derive(Clone)]
pub enum ConsentApp {
    /// Asks the operator and does exactly what it says; asks the user where it should.
    Honest(DecisionEndpoint),
    /// Asks the operator, changes the honest body (on `Deny`: one that grants all that was
    /// requested) and accepts, whatever operator and user say.
    Hostile(DecisionEndpoint, Mutate),
    /// Never asks the operator.
    Blind(Produce),
}

/// What a consent app tells Hydra.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Accept, with this body.
    Accept(Value),
    /// Reject, with this body.
    Reject(Value),
}

impl ConsentApp {
    /// An honest app.
    pub fn honest(url: &str, api_key: &str) -> Self {
        Self::Honest(DecisionEndpoint::new(url, api_key))
    }

    /// An honest app that asks over HTTPS and trusts one authority, given in PEM.
    pub fn honest_over_tls(url: &str, api_key: &str, authority: &str) -> Self {
        Self::Honest(DecisionEndpoint { authority: Some(authority.to_owned()), ..DecisionEndpoint::new(url, api_key) })
    }

    /// An app that asks and then does something else.
    pub fn hostile(
        url: &str,
        api_key: &str,
        mutate: impl Fn(&mut Value, &Value, &Value) + Send + Sync + 'static,
    ) -> Self {
        Self::Hostile(DecisionEndpoint::new(url, api_key), Arc::new(mutate))
    }

    /// An app that makes its own body from the consent request.
    pub fn blind(produce: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        Self::Blind(Arc::new(produce))
    }

    /// An app that grants whatever is requested and remembers nothing.
    pub fn grant_all() -> Self {
        Self::blind(all_requested)
    }

    /// Decides about `request`; the second value is what the operator said, if it was asked.
    pub async fn answer(&self, request: &Value, approves: bool) -> Result<(Answer, Option<Said>)> {
        let (endpoint, mutate) = match self {
            Self::Blind(produce) => return Ok((Answer::Accept(produce(request)), None)),
            Self::Honest(endpoint) => (endpoint, None),
            Self::Hostile(endpoint, mutate) => (endpoint, Some(mutate)),
        };
        let challenge = request["challenge"].as_str().context("no challenge in the request")?;
        let said = endpoint.ask(challenge).await?;
        let answer = match mutate {
            None => honest_answer(&said, approves),
            Some(mutate) => {
                let granted = said.json.get("grant_scope").is_some();
                let mut body = if granted { accept_body(&said.json) } else { all_requested(request) };
                mutate(&mut body, &said.json, request);
                Answer::Accept(body)
            }
        };
        Ok((answer, Some(said)))
    }
}

impl fmt::Debug for ConsentApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Honest(endpoint) => f.debug_tuple("Honest").field(endpoint).finish(),
            Self::Hostile(endpoint, _) => f.debug_tuple("Hostile").field(endpoint).finish(),
            Self::Blind(_) => f.debug_tuple("Blind").finish(),
        }
    }
}

/// The operator's answer to a consent app.
#[derive(Clone, Debug)]
pub struct Said {
    /// The HTTP status.
    pub status: u16,
    /// The body; a JSON string if it was not JSON.
    pub json: Value,
}

impl DecisionEndpoint {
    fn new(url: &str, api_key: &str) -> Self {
        Self { url: url.to_owned(), api_key: api_key.to_owned(), authority: None }
    }

    /// Asks what to do with a consent challenge.
    pub async fn ask(&self, challenge: &str) -> Result<Said> {
        let mut client = http();
        if let Some(pem) = &self.authority {
            let authority = reqwest::Certificate::from_pem(pem.as_bytes()).context("the authority is not usable")?;
            client = client.tls_certs_only([authority]);
        }
        let client = client.build().context("cannot build an HTTP client")?;
        let answer = client
            .post(&self.url)
            .header("X-Api-Key", &self.api_key)
            .json(&json!({ "consent_challenge": challenge }))
            .send()
            .await
            .with_context(|| format!("the decision endpoint {} is silent", self.url))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.context("the decision is not complete")?;
        let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Said { status, json })
    }
}

fn honest_answer(said: &Said, approves: bool) -> Answer {
    let reason = said.json["reason"].as_str().unwrap_or("The request was refused.");
    match (said.status, said.json["decision"].as_str()) {
        (200, Some("Accept")) => Answer::Accept(accept_body(&said.json)),
        (200, Some("Ask")) if approves => Answer::Accept(accept_body(&said.json)),
        (200, Some("Ask")) => reject("access_denied", "The resource owner said no.", 403),
        (200, Some("Deny")) => reject("access_denied", reason, 403),
        _ => reject("temporarily_unavailable", "No decision could be had.", 503),
    }
}

fn reject(error: &str, description: &str, status: u16) -> Answer {
    let body = json!({ "error": error, "error_description": description, "status_code": status });
    Answer::Reject(body)
}

/// Exactly the fields that an honest app hands on.
fn accept_body(decision: &Value) -> Value {
    let fields = ["grant_scope", "grant_access_token_audience", "remember", "remember_for", "context"];
    fields.into_iter().filter_map(|name| Some((name.to_owned(), decision.get(name)?.clone()))).collect()
}

fn all_requested(request: &Value) -> Value {
    json!({
        "grant_scope": request["requested_scope"],
        "grant_access_token_audience": request["requested_access_token_audience"],
        "remember": false,
        "remember_for": 0,
    })
}
