//! The token hook's dialect: what Hydra asks before it issues a token.

use serde_json::Value;

use crate::grant::{Audiences, GrantType, Scopes};

/// One question of the token hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// `client_id`.
    pub client: String,
    /// The flow; `None` for one that no grant can declare.
    pub grant_type: Option<GrantType>,
    /// Its name, for the log.
    pub flow: String,
    /// The internal subject; the client itself for `client_credentials`.
    pub subject: String,
    /// Names the consent behind the flow.
    pub challenge: Option<String>,
    /// The login session: looking up its consents only is fast.
    pub session: Option<String>,
    /// What was asked for.
    pub requested: Vec<String>,
    /// Empty at the code exchange, whatever will be issued.
    pub scopes: Scopes,
    /// Likewise.
    pub audiences: Audiences,
}

/// Reads a hook body. `None`: it cannot be understood, or does not name exactly one grant type.
#[must_use]
pub fn question(body: &[u8]) -> Option<Question> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let request = body.get("request")?;
    let id_token = body.get("session")?.get("id_token");
    let flows = list(request, "grant_types")?;
    let [flow] = flows.as_slice() else { return None };
    let grant_type = GrantType::parse(flow);
    let client = request.get("client_id")?.as_str().filter(|c| !c.is_empty())?.to_owned();
    let subject = id_token.and_then(|t| t.get("subject")).and_then(Value::as_str).unwrap_or_default().to_owned();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
    let claims = id_token.and_then(|t| t.get("id_token_claims"));
    Some(Question {
        client,
        grant_type,
        flow: flow.clone(),
        subject,
        challenge: text(body.get("session")?.get("consent_challenge")),
        session: text(claims.and_then(|c| c.get("ext")).and_then(|e| e.get("sid"))),
        requested: list(request, "requested_scopes")?,
        scopes: list(request, "granted_scopes")?.into_iter().collect(),
        audiences: list(request, "granted_audience")?.into_iter().collect(),
    })
}

/// A list of strings; absent and null are empty, anything else is not understood.
fn list(value: &Value, field: &str) -> Option<Vec<String>> {
    match value.get(field) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    }
}
