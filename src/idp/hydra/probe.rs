//! The proof that this Hydra asks our token hook before it issues anything.
//!
//! A client of our own asks the token endpoint for a token, with a scope that nobody has used before. It
//! is proved only if that scope was seen at our own hook endpoint, under the right key, and Hydra then
//! answered `access_denied`: an answer alone could come from anybody's hook, and a call alone could be
//! one that Hydra does not heed. The scopes are registered in advance, many at once, so that a probe is
//! one token request and no write.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{Hydra, MARK};
use crate::correlation;
use crate::grant::HookProof;
use crate::grant::fault::Fault;
use crate::hex;
use crate::idp::{Permit, Urgency};

/// What the id of a probe client begins with, in every cluster.
pub const PROBE: &str = "clientgrant-probe-";
/// Hydra tries three times to reach a hook before it says that it could not.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(6);
/// Scopes registered at once.
const NONCES: usize = 64;

/// This process's probes.
#[derive(Debug)]
pub struct Probes {
    /// The probe client of this cluster.
    pub client: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    secret: Option<SecretString>,
    unused: VecDeque<String>,
    seen: BTreeSet<String>,
}

impl Probes {
    /// Of a cluster: clusters that share a Hydra have probe clients of their own.
    #[must_use]
    pub fn new(cluster: &str) -> Self {
        Self { client: format!("{PROBE}{}", hex::digest(cluster, 8)), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call for the probe client arrived at our hook, with the right key. Returns whether it is one that
    /// this process waits for.
    pub fn saw(&self, requested: &[String]) -> bool {
        let mut state = self.state();
        let [nonce] = requested else { return false };
        let known = state.secret.is_some() && nonce.starts_with(SCOPE) && !state.unused.contains(nonce);
        if known {
            // Bounded: what nobody takes is not kept.
            if state.seen.len() >= NONCES {
                state.seen.clear();
            }
            state.seen.insert(nonce.clone());
        }
        known
    }
}

const SCOPE: &str = "clientgrant.dev/probe-";

fn random() -> Result<String, Fault> {
    hex::random::<24>().ok_or_else(|| Fault::retry("the system gives no random numbers"))
}

/// What one probe brought, before it is known whether another replica saw the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// That is the answer.
    Answered(HookProof),
    /// Refused, but not by this process: another replica may have seen this scope.
    Elsewhere(String),
}

impl Hydra {
    /// Registers the probe client with fresh scopes, if none is left.
    async fn register_probe(&self, permit: &Permit, cluster: &str) -> Result<(), Fault> {
        if self.probes.state().secret.is_some() && !self.probes.state().unused.is_empty() {
            return Ok(());
        }
        let secret = random()?;
        let nonces =
            (0..NONCES).map(|_| Ok(format!("{SCOPE}{}", random()?))).collect::<Result<VecDeque<_>, Fault>>()?;
        let body = json!({
            "client_id": self.probes.client,
            "client_name": "ClientGrant: proves that the token hook is called",
            "client_secret": secret,
            "scope": nonces.iter().cloned().collect::<Vec<_>>().join(" "),
            "grant_types": ["client_credentials"],
            "response_types": ["code"],
            "audience": [],
            "token_endpoint_auth_method": "client_secret_post",
            "client_credentials_grant_access_token_lifespan": "10s",
            "access_token_strategy": "opaque",
            "metadata": {MARK: cluster},
        });
        let path = ["admin", "clients", &self.probes.client];
        let answer = self.http.write(permit, Method::PUT, &path, &[], Some(&body), Urgency::Ordinary).await?;
        if !answer.status.is_success() {
            let path = ["admin", "clients"];
            let answer = self.http.write(permit, Method::POST, &path, &[], Some(&body), Urgency::Ordinary).await?;
            if !answer.status.is_success() {
                return Err(answer.unexpected());
            }
        }
        let mut state = self.probes.state();
        state.secret = Some(secret.into());
        state.unused = nonces;
        state.seen.clear();
        Ok(())
    }

    /// Asks once.
    ///
    /// # Errors
    /// It could not be asked: nothing is known.
    pub(crate) async fn prove_hook(&self, permit: &Permit, cluster: &str) -> Result<Probed, Fault> {
        self.register_probe(permit, cluster).await?;
        let (secret, nonce) = {
            let mut state = self.probes.state();
            (state.secret.clone(), state.unused.pop_front())
        };
        let (Some(secret), Some(nonce)) = (secret, nonce) else {
            return Err(Fault::retry("the probe of the token hook was interrupted"));
        };
        let url = self.public_url(&["oauth2", "token"]);
        let url = url.ok_or_else(|| Fault::retry("the operator's --allow-provider-url does not name the issuer"))?;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", self.probes.client.as_str()),
            ("client_secret", secret.expose_secret()),
            ("scope", nonce.as_str()),
        ];
        let call = self.public.post(url).header(correlation::HEADER, correlation::value());
        let answer = match call.timeout(PATIENCE).form(&form).send().await {
            Ok(answer) => answer,
            // A hook that is silent keeps Hydra waiting for a minute.
            Err(error) if error.is_timeout() && !error.is_connect() => {
                return Ok(Probed::Answered(HookProof::Unreachable));
            }
            Err(_) => return Err(Fault::retry("the issuer's token endpoint cannot be reached from the operator")),
        };
        let status = answer.status();
        let body = crate::idp::http::json(&crate::idp::http::read(answer).await?)?;
        let seen = self.probes.state().seen.remove(&nonce);
        if body.get("access_token").is_some() {
            let query = [("client_id", self.probes.client.as_str())];
            let path = ["admin", "oauth2", "tokens"];
            _ = self.http.write(permit, Method::DELETE, &path, &query, None, Urgency::Ending).await;
            return Ok(Probed::Answered(HookProof::NotCalled));
        }
        match (body.get("error").and_then(Value::as_str), seen) {
            (Some("access_denied"), true) => Ok(Probed::Answered(HookProof::Proved)),
            (Some("access_denied"), false) => Ok(Probed::Elsewhere(nonce)),
            (Some("server_error"), _) => Ok(Probed::Answered(HookProof::Unreachable)),
            // Somebody changed or removed the probe client: it is registered anew the next time.
            (Some("invalid_client" | "invalid_scope" | "unauthorized_client"), _) => {
                self.probes.state().secret = None;
                Err(Fault::retry("the probe client was changed at the identity provider"))
            }
            _ => Err(Fault::retry(format!("the token endpoint answered the probe with status {}", status.as_u16()))),
        }
    }

    /// Whether anybody may register clients: reading a registration that does not exist is then refused
    /// for want of a token, and unknown as a route otherwise.
    pub(crate) async fn registration_open(&self) -> Option<bool> {
        let url = self.public_url(&["oauth2", "register", &self.probes.client])?;
        let call = self.public.get(url).header(correlation::HEADER, correlation::value());
        match call.send().await.ok()?.status().as_u16() {
            401 | 403 => Some(true),
            404 => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_the_hook_proves_something_only_for_a_scope_that_was_sent() {
        let probes = Probes::new("cluster");
        let nonce = |n: &str| vec![format!("{SCOPE}{n}")];
        assert!(!probes.saw(&nonce("sent")), "nothing was registered");
        *probes.state() =
            State { secret: Some("secret".to_owned().into()), unused: nonce("unused").into(), ..State::default() };
        assert!(probes.saw(&nonce("sent")));
        assert!(!probes.saw(&nonce("unused")), "not sent yet");
        assert!(!probes.saw(&["openid".into()]) && !probes.saw(&[]) && !probes.saw(&[nonce("a"), nonce("b")].concat()));
        assert_eq!(probes.state().seen.len(), 1);
        assert_ne!(probes.client, Probes::new("another").client);
    }
}
