//! A browser with a login app: real authorization-code flows against a real Hydra.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use reqwest::Url;
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use serde_json::{Value, json};

use crate::consent_app::{Answer, ConsentApp, Said};
use crate::hydra_admin::Challenge;
use crate::net::http;
use crate::{Hydra, HydraAdmin, canary};

/// An authorization request and the person behind it.
#[derive(Clone, Debug)]
pub struct AuthRequest {
    /// The client that asks.
    pub client_id: String,
    /// One of the client's redirect URIs. Nobody needs to listen there.
    pub redirect_uri: String,
    /// Scopes, separated by spaces.
    pub scope: String,
    /// Audiences, separated by spaces; left out if empty.
    pub audience: String,
    /// `code` unless changed.
    pub response_type: String,
    /// `none`, `login`, `consent`; left out if empty.
    pub prompt: String,
    /// At least eight characters.
    pub state: String,
    /// More parameters.
    pub extra: Vec<(String, String)>,
    /// Who logs in, if Hydra does not know it from the session.
    pub subject: String,
    /// Whether this person says yes when an honest consent app asks.
    pub approves: bool,
}

impl AuthRequest {
    /// A code request by `client_id` for `scope`, with `subject` at the keyboard, who says yes.
    pub fn new(client_id: &str, redirect_uri: &str, scope: &str, subject: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            scope: scope.to_owned(),
            audience: String::new(),
            response_type: "code".to_owned(),
            prompt: String::new(),
            state: "state-of-the-test-bed".to_owned(),
            extra: Vec::new(),
            subject: subject.to_owned(),
            approves: true,
        }
    }

    fn query(&self) -> Vec<(&str, &str)> {
        let mut query = vec![
            ("client_id", &*self.client_id),
            ("redirect_uri", &self.redirect_uri),
            ("response_type", &self.response_type),
            ("scope", &self.scope),
            ("audience", &self.audience),
            ("prompt", &self.prompt),
            ("state", &self.state),
        ];
        query.retain(|pair| !pair.1.is_empty());
        query.extend(self.extra.iter().map(|(name, value)| (&**name, &**value)));
        query
    }
}

/// How an authorization request ended.
#[derive(Clone, Debug, Default)]
pub struct AuthOutcome {
    /// Every parameter of the last redirect, from query and fragment.
    pub params: BTreeMap<String, String>,
    /// Whether the browser came back to the client; if not, Hydra showed its own error page.
    pub returned: bool,
    /// What the operator said to the consent app.
    pub decision: Option<Said>,
    /// The challenge that the consent app gets: a long one, which appears in no list. Token hook and
    /// list of consents name the same consent by a short one; `login_challenge` is in both.
    pub consent_challenge: Option<String>,
    /// The consent request as Hydra showed it to the app.
    pub consent_request: Option<Value>,
    /// Whether Hydra told the login app to skip.
    pub login_skip: bool,
    /// Whether Hydra told the consent app to skip.
    pub consent_skip: bool,
}

impl AuthOutcome {
    /// The code, if there is one.
    pub fn code(&self) -> Option<&str> {
        self.param("code")
    }

    /// The error code, if it failed.
    pub fn error(&self) -> Option<&str> {
        self.param("error")
    }

    /// The words that come with the error.
    pub fn error_description(&self) -> Option<&str> {
        self.param("error_description")
    }

    /// An access token handed out by the authorization endpoint itself (implicit and hybrid).
    pub fn access_token(&self) -> Option<&str> {
        self.param("access_token")
    }

    /// The word of the operator's decision: `Accept`, `Ask` or `Deny`.
    pub fn decision_word(&self) -> Option<&str> {
        self.decision.as_ref()?.json["decision"].as_str()
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str)
    }
}

/// A browser of one person. Its cookies stay from one request to the next.
#[derive(Debug)]
pub struct UserAgent {
    public: String,
    admin: HydraAdmin,
    http: reqwest::Client,
    cookies: Mutex<BTreeMap<String, String>>,
}

impl UserAgent {
    /// A browser without cookies.
    pub fn new(hydra: &Hydra) -> Result<Self> {
        Ok(Self {
            public: hydra.public_url(),
            admin: hydra.admin().clone(),
            http: http().build().context("cannot build an HTTP client")?,
            cookies: Mutex::default(),
        })
    }

    /// Forgets all cookies, as if it were another browser.
    pub fn forget(&self) {
        self.lock_cookies().clear();
    }

    /// Goes through a whole authorization request: login, consent by `app`, back to the client.
    pub async fn authorize(&self, request: &AuthRequest, app: &ConsentApp) -> Result<AuthOutcome> {
        let outcome = self.open(request).await?;
        if outcome.consent_challenge.is_none() {
            return Ok(outcome);
        }
        self.consent(request, outcome, app).await
    }

    /// The first half: until Hydra sends the browser to the consent app
    /// (`consent_challenge` is set) or ends the request before that.
    pub async fn open(&self, request: &AuthRequest) -> Result<AuthOutcome> {
        let mut url = Url::parse(&format!("{}/oauth2/auth", self.public))?;
        url.query_pairs_mut().extend_pairs(request.query());
        self.follow(request, url, AuthOutcome::default()).await
    }

    /// The second half: `app` answers, and the browser goes back to the client.
    pub async fn consent(
        &self,
        request: &AuthRequest,
        mut outcome: AuthOutcome,
        app: &ConsentApp,
    ) -> Result<AuthOutcome> {
        let challenge = outcome.consent_challenge.clone().context("this request never came to consent")?;
        let details = self.admin.get_request(Challenge::Consent, &challenge).await?;
        let (answer, said) = app.answer(&details, request.approves).await?;
        outcome.consent_skip = details["skip"].as_bool().unwrap_or(false);
        outcome.consent_request = Some(details);
        outcome.decision = said;
        let next = match answer {
            Answer::Accept(body) => self.admin.accept(Challenge::Consent, &challenge, &body).await?,
            Answer::Reject(body) => self.admin.reject(Challenge::Consent, &challenge, &body).await?,
        };
        self.follow(request, Url::parse(&next)?, outcome).await
    }

    async fn follow(&self, request: &AuthRequest, mut url: Url, mut outcome: AuthOutcome) -> Result<AuthOutcome> {
        for _ in 0..10 {
            let next = self.redirect_of(&url).await?;
            let params = params(&next);
            if next.as_str().starts_with(&request.redirect_uri) || params.contains_key("error") {
                outcome.returned = next.as_str().starts_with(&request.redirect_uri);
                outcome.params = params;
                canary::watch("a code", outcome.code().unwrap_or_default());
                return Ok(outcome);
            }
            if let Some(challenge) = params.get(Challenge::Consent.parameter()) {
                canary::watch("a consent challenge", challenge);
                outcome.consent_challenge = Some(challenge.clone());
                return Ok(outcome);
            }
            url = match params.get(Challenge::Login.parameter()) {
                Some(challenge) => {
                    let (next, skip) = self.log_in(request, challenge).await?;
                    outcome.login_skip = skip;
                    next
                }
                None => next,
            };
        }
        bail!("more than ten redirects; the last one went to {url}")
    }

    /// Plays the login app: whoever sits there is believed, and the session is remembered.
    async fn log_in(&self, request: &AuthRequest, challenge: &str) -> Result<(Url, bool)> {
        let details = self.admin.get_request(Challenge::Login, challenge).await?;
        let skip = details["skip"].as_bool().unwrap_or(false);
        let body = if skip {
            json!({ "subject": details["subject"] })
        } else {
            json!({ "subject": request.subject, "remember": true, "remember_for": 3600 })
        };
        let next = self.admin.accept(Challenge::Login, challenge, &body).await?;
        Ok((Url::parse(&next)?, skip))
    }

    async fn redirect_of(&self, url: &Url) -> Result<Url> {
        if !url.as_str().starts_with(&self.public) {
            bail!("the browser was sent to {url}, which is not Hydra at {}", self.public);
        }
        let cookies: Vec<String> = self.lock_cookies().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = self
            .http
            .get(url.clone())
            .header(COOKIE, cookies.join("; "))
            .send()
            .await
            .with_context(|| format!("GET {url} failed"))?;
        for cookie in answer.headers().get_all(SET_COOKIE) {
            self.keep(cookie.to_str().context("a cookie is not text")?);
        }
        let status = answer.status();
        match answer.headers().get(LOCATION).map(|value| value.to_str()) {
            Some(Ok(next)) => url.join(next).with_context(|| format!("not a URL: {next}")),
            _ => {
                let text = answer.text().await.unwrap_or_default();
                bail!("{url} answered {status} without a redirect: {text}")
            }
        }
    }

    fn keep(&self, cookie: &str) {
        let mut parts = cookie.split(';');
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let ended = parts.any(|part| part.trim().eq_ignore_ascii_case("max-age=0"));
        let mut cookies = self.lock_cookies();
        if ended || value.is_empty() {
            cookies.remove(name);
        } else {
            cookies.insert(name.to_owned(), value.to_owned());
        }
    }

    fn lock_cookies(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.cookies.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The parameters of a redirect; those of the fragment are written as a query is.
fn params(url: &Url) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    if let Some(fragment) = url.fragment() {
        let mut other = url.clone();
        other.set_query(Some(fragment));
        all.extend(other.query_pairs().into_owned());
    }
    all
}
