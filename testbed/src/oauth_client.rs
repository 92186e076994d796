//! An OAuth client at the token endpoint.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::net::http;
use crate::{Hydra, canary};

/// What an answer of the token endpoint has that nobody else may have.
const TOKENS: [(&str, &str); 3] =
    [("access_token", "an access token"), ("refresh_token", "a refresh token"), ("id_token", "an ID token")];

/// How a client shows its secret.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClientAuth {
    /// In the form (`client_secret_post`).
    #[default]
    Post,
    /// In the header (`client_secret_basic`).
    Basic,
    /// Not at all: a public client.
    None,
}

/// A registered client that asks for tokens.
#[derive(Clone, Debug)]
pub struct OAuthClient {
    id: String,
    secret: String,
    auth: ClientAuth,
    token_url: String,
    http: reqwest::Client,
}

impl OAuthClient {
    /// The client `id` of `hydra`, which sends its secret in the form.
    pub fn new(hydra: &Hydra, id: &str, secret: &str) -> Result<Self> {
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
            auth: ClientAuth::Post,
            token_url: format!("{}/oauth2/token", hydra.public_url()),
            http: http().build().context("cannot build an HTTP client")?,
        })
    }

    /// The same client with another way to show its secret.
    pub fn with_auth(self, auth: ClientAuth) -> Self {
        Self { auth, ..self }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Redeems a code.
    pub async fn exchange_code(&self, code: &str, redirect_uri: &str) -> Result<TokenOutcome> {
        let grant = ("grant_type", "authorization_code");
        self.token(&[grant, ("code", code), ("redirect_uri", redirect_uri)]).await
    }

    /// Redeems a refresh token.
    pub async fn refresh(&self, token: &str) -> Result<TokenOutcome> {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// Asks for a token of its own; `scope` and `audience` are lists separated by spaces.
    pub async fn client_credentials(&self, scope: &str, audience: &str) -> Result<TokenOutcome> {
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend([("scope", scope), ("audience", audience)].iter().filter(|p| !p.1.is_empty()));
        self.token(&form).await
    }

    /// Any request to the token endpoint; the client's identity is added. Hydra in memory answers 409 to a write that
    /// met another, and has done nothing then: it is asked again.
    pub async fn token(&self, form: &[(&str, &str)]) -> Result<TokenOutcome> {
        for _ in 0..20 {
            let outcome = self.ask(form).await?;
            if outcome.status != 409 {
                return Ok(outcome);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.ask(form).await
    }

    async fn ask(&self, form: &[(&str, &str)]) -> Result<TokenOutcome> {
        let mut form = form.to_vec();
        let mut request = self.http.post(&self.token_url);
        match self.auth {
            ClientAuth::Basic => request = request.basic_auth(&self.id, Some(&self.secret)),
            ClientAuth::Post => {
                form.extend([("client_id", &*self.id), ("client_secret", &*self.secret)]);
            }
            ClientAuth::None => form.push(("client_id", &self.id)),
        }
        let answer = request.form(&form).send().await.context("the token endpoint is silent")?;
        let status = answer.status().as_u16();
        let text = answer.text().await.context("the token endpoint's answer is not complete")?;
        let json: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        for (field, what) in TOKENS {
            canary::watch(what, json[field].as_str().unwrap_or_default());
        }
        Ok(TokenOutcome { status, json })
    }
}

/// What the token endpoint answered.
#[derive(Clone, Debug)]
pub struct TokenOutcome {
    /// The HTTP status.
    pub status: u16,
    /// The body; a JSON string if it was not JSON.
    pub json: Value,
}

impl TokenOutcome {
    /// The access token, if one was issued.
    pub fn access_token(&self) -> Option<&str> {
        self.json["access_token"].as_str()
    }

    /// The refresh token, if one was issued.
    pub fn refresh_token(&self) -> Option<&str> {
        self.json["refresh_token"].as_str()
    }

    /// The ID token, if one was issued.
    pub fn id_token(&self) -> Option<&str> {
        self.json["id_token"].as_str()
    }

    /// The granted scopes, sorted.
    pub fn scopes(&self) -> Vec<&str> {
        let mut scopes: Vec<_> = self.json["scope"].as_str().unwrap_or_default().split_whitespace().collect();
        scopes.sort_unstable();
        scopes
    }

    /// The OAuth error code, such as `access_denied`.
    pub fn error(&self) -> Option<&str> {
        self.json["error"].as_str()
    }

    /// The words that come with the error.
    pub fn error_description(&self) -> Option<&str> {
        self.json["error_description"].as_str()
    }
}
