//! The calls of Hydra's admin API that tests make beside the operator.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

const CONSENTS: &str = "/admin/oauth2/auth/sessions/consent";

/// A client of the admin API; cheap to clone.
#[derive(Clone, Debug)]
pub struct HydraAdmin {
    base: String,
    http: reqwest::Client,
}

/// Which of the three flows' requests is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Challenge {
    /// `login_challenge`.
    Login,
    /// `consent_challenge`.
    Consent,
}

impl HydraAdmin {
    /// A client for the admin API at `base` (no slash at the end).
    pub fn new(base: &str, http: reqwest::Client) -> Self {
        Self { base: base.to_owned(), http }
    }

    /// The URL it was made with.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Any request, for what has no method here; `path` starts with `/admin/`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Registers a client and returns it with its secret.
    pub async fn create_client(&self, client: &Value) -> Result<Value> {
        json_of(self.request(Method::POST, "/admin/clients").json(client)).await
    }

    /// Reads a client.
    pub async fn get_client(&self, id: &str) -> Result<Value> {
        json_of(self.request(Method::GET, &client_path(id))).await
    }

    /// Replaces a client whole.
    pub async fn put_client(&self, id: &str, client: &Value) -> Result<Value> {
        json_of(self.request(Method::PUT, &client_path(id)).json(client)).await
    }

    /// Applies a JSON Patch (an array of operations) to a client.
    pub async fn patch_client(&self, id: &str, patch: &Value) -> Result<Value> {
        json_of(self.request(Method::PATCH, &client_path(id)).json(patch)).await
    }

    /// Deletes a client.
    pub async fn delete_client(&self, id: &str) -> Result<()> {
        empty(self.request(Method::DELETE, &client_path(id))).await
    }

    /// What Hydra says about a token.
    pub async fn introspect(&self, token: &str) -> Result<Value> {
        let request = self.request(Method::POST, "/admin/oauth2/introspect");
        json_of(request.form(&[("token", token)])).await
    }

    /// Whether a token is active. Hydra in memory also says "not active" when the look-up met a write: that is
    /// believed when it was said three times.
    pub async fn is_active(&self, token: &str) -> Result<bool> {
        for tried in 0..3 {
            if tried > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let answer = self.introspect(token).await?;
            if answer["active"].as_bool().with_context(|| format!("no `active` in {answer}"))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Every consent of a subject that is in Hydra's list.
    ///
    /// The `Link` header of this list loses rows, so the page token is made here.
    pub async fn list_consents(&self, subject: &str) -> Result<Vec<Value>> {
        self.list(CONSENTS, &[("subject", subject)]).await
    }

    /// Every client, read page by page.
    pub async fn list_clients(&self) -> Result<Vec<Value>> {
        self.list("/admin/clients", &[]).await
    }

    /// How many clients there are.
    pub async fn count_clients(&self) -> Result<usize> {
        let answer = self.request(Method::GET, "/admin/clients").query(&[("page_size", "1")]).send().await?;
        let total = answer.headers().get("x-total-count").and_then(|total| total.to_str().ok()?.parse().ok());
        total.context("Hydra does not say how many clients it has")
    }

    async fn list(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<Value>> {
        const PAGE: usize = 1000;
        let mut all = Vec::new();
        loop {
            let token = URL_SAFE_NO_PAD.encode(json!({ "offset": all.len().to_string(), "v": 2 }).to_string());
            let size = PAGE.to_string();
            let paging = [("page_size", size.as_str()), ("page_token", token.as_str())];
            let page = json_of(self.request(Method::GET, path).query(query).query(&paging)).await?;
            let page = page.as_array().with_context(|| format!("the answer of {path} is not a list"))?.clone();
            let last = page.len() < PAGE;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }

    /// Ends what a subject has consented to at one client, with all tokens.
    pub async fn revoke_pair(&self, subject: &str, client: &str) -> Result<()> {
        let query = [("subject", subject), ("client", client)];
        empty(self.request(Method::DELETE, CONSENTS).query(&query)).await
    }

    /// Ends the access tokens of a client.
    pub async fn revoke_client_tokens(&self, client: &str) -> Result<()> {
        let request = self.request(Method::DELETE, "/admin/oauth2/tokens");
        empty(request.query(&[("client_id", client)])).await
    }

    /// Ends the login sessions of a subject, so that the next login is not skipped.
    pub async fn revoke_logins(&self, subject: &str) -> Result<()> {
        let request = self.request(Method::DELETE, "/admin/oauth2/auth/sessions/login");
        empty(request.query(&[("subject", subject)])).await
    }

    /// Reads a login or consent request.
    pub async fn get_request(&self, kind: Challenge, challenge: &str) -> Result<Value> {
        let path = format!("/admin/oauth2/auth/requests/{}", kind.word());
        json_of(self.request(Method::GET, &path).query(&[(kind.parameter(), challenge)])).await
    }

    /// Accepts a login or consent request; returns where the browser goes next.
    pub async fn accept(&self, kind: Challenge, challenge: &str, body: &Value) -> Result<String> {
        self.answer(kind, challenge, "accept", body).await
    }

    /// Rejects a login or consent request; returns where the browser goes next.
    pub async fn reject(&self, kind: Challenge, challenge: &str, body: &Value) -> Result<String> {
        self.answer(kind, challenge, "reject", body).await
    }

    async fn answer(&self, kind: Challenge, id: &str, verb: &str, body: &Value) -> Result<String> {
        let path = format!("/admin/oauth2/auth/requests/{}/{verb}", kind.word());
        let request = self.request(Method::PUT, &path).query(&[(kind.parameter(), id)]);
        let answer = json_of(request.json(body)).await?;
        let next = answer["redirect_to"].as_str();
        Ok(next.with_context(|| format!("no `redirect_to` in {answer}"))?.to_owned())
    }
}

impl Challenge {
    fn word(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Consent => "consent",
        }
    }

    /// The name of the query parameter.
    pub(crate) fn parameter(self) -> &'static str {
        match self {
            Self::Login => "login_challenge",
            Self::Consent => "consent_challenge",
        }
    }
}

fn client_path(id: &str) -> String {
    let mut url = reqwest::Url::parse("http://localhost/admin/clients").expect("a constant URL");
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.push(id);
    }
    url.path().to_owned()
}

/// Hydra in memory refuses a write that met another, and means that it is to be tried again.
async fn send(request: RequestBuilder) -> Result<String> {
    let (client, request) = request.build_split();
    let request = request.context("cannot build the request")?;
    let what = format!("{} {}", request.method(), request.url());
    let mut tries = 0;
    loop {
        let again = request.try_clone().context("the request cannot be sent twice")?;
        let answer = client.execute(again).await.with_context(|| format!("{what} failed"))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("{what}: no complete answer"))?;
        if status.is_success() {
            return Ok(text);
        }
        tries += 1;
        if tries > 20 || !text.contains("Unable to serialize access") {
            bail!("{what} answered {status}: {text}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn json_of(request: RequestBuilder) -> Result<Value> {
    let text = send(request).await?;
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}

async fn empty(request: RequestBuilder) -> Result<()> {
    send(request).await.map(drop)
}
