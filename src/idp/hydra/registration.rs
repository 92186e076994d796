//! What a client's JSON says about how the client is known, for the comparison of clients with one another.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::grant::{ClientKey, ProviderKey};
use crate::sharing::registration::{Registration, thumbprint};

/// Reads a client as Hydra lists it. `None`: it has no id. Secrets are not looked at.
#[must_use]
pub fn registration(provider: &ProviderKey, client: &Value) -> Option<Registration> {
    let text = |field: &str| client[field].as_str().filter(|text| !text.is_empty());
    let id = text("client_id")?;
    let mut of = Registration::new(ClientKey { provider: provider.clone(), client: Arc::from(id) });
    let keys = client["jwks"]["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    of.display_name = text("client_name").map(str::to_owned);
    of.keys = keys.iter().filter_map(thumbprint).collect();
    of.odd_keys = keys.iter().filter(|key| thumbprint(key).is_none()).count();
    of.jwks_uri = text("jwks_uri").map(str::to_owned);
    let redirects = client["redirect_uris"].as_array().into_iter().flatten();
    of.redirect_uris = redirects.filter_map(|uri| Some(uri.as_str()?.to_owned())).collect::<BTreeSet<_>>();
    // Hydra's own default, which it does not spell out.
    of.auth_method = Some(text("token_endpoint_auth_method").unwrap_or("client_secret_basic").to_owned());
    of.created = text("created_at").map(str::to_owned);
    Some(of)
}
