//! What the operator answers: health, the token hook, the consent decision.
//!
//! Answers come from memory; the only thing ever asked on the way is the IdP, for the consent behind a
//! token, and not for longer than [`LOOKUP`]. In doubt the answer is no.

pub mod consent;
pub mod health;
pub mod hook;
pub mod tls;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::HeaderMap;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::post;
use secrecy::SecretString;

use crate::controller::Context;
use crate::correlation;
use crate::grant::decide::Deny;
use crate::grant::{ClientKey, GrantName, Mode, ProviderKey, Subject};
use crate::idp::Idp;
use crate::idp::hydra::{Hydra, dialect};
use crate::world::{Due, Lane};

/// A look-up at the IdP that takes longer than this is a no: the hook must answer within 2 s.
pub const LOOKUP: Duration = Duration::from_millis(1500);
/// A question is not larger than this.
const LARGEST: usize = 64 << 10;

/// The decision endpoints.
pub fn decisions(context: Arc<Context>) -> Router {
    Router::new()
        .route("/hydra/token-hook/{name}", post(hook::cluster))
        .route("/hydra/token-hook/{namespace}/{name}", post(hook::namespaced))
        .route("/hydra/consent/{name}", post(consent::cluster))
        .route("/hydra/consent/{namespace}/{name}", post(consent::namespaced))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(middleware::from_fn(correlated))
        .with_state(context)
}

/// Each question has an id of ours: the log lines have it, calls to the identity provider carry it, and the
/// answer does, for whoever asks what became of it. That of the caller is not believed.
async fn correlated(request: Request, next: Next) -> Response {
    correlation::scope("decision", async {
        let mut answer = next.run(request).await;
        answer.headers_mut().insert(correlation::HEADER, correlation::value());
        answer
    })
    .await
}

/// Serves a router until the process ends: over HTTPS where there is a certificate, else over plain HTTP.
///
/// # Errors
/// The address cannot be used; the message names it.
pub async fn listen(
    address: SocketAddr,
    what: &str,
    router: Router,
    tls: Option<tls::Pair>,
) -> Result<SocketAddr, String> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address} for {what}: {error}"))?;
    let unnamed = |error| format!("cannot listen on {address}: {error}");
    let bound = listener.local_addr().map_err(unnamed)?;
    match tls {
        Some(pair) => serve(tls::Listener::new(listener, pair).map_err(unnamed)?, router),
        None => serve(listener, router),
    }
    Ok(bound)
}

fn serve<L: axum::serve::Listener<Addr = SocketAddr>>(listener: L, router: Router) {
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "a listener ended");
            std::process::exit(1);
        }
    });
}

/// Why nothing can be decided now, if so: not everything was read yet, or what was read may be old.
fn unprepared(context: &Context) -> Option<Deny> {
    if !context.world.complete() {
        return Some(Deny::NotReady);
    }
    (!context.world.fresh(context.config.max_staleness)).then_some(Deny::Stale)
}

/// Whether a provider is only observed: then everything passes, whatever is decided.
fn observing(context: &Context, provider: &ProviderKey) -> bool {
    context.world.provider(provider).is_some_and(|(view, _)| view.mode == Mode::Observe)
}

fn cluster_key(name: String) -> ProviderKey {
    ProviderKey { namespace: String::new(), name }
}

/// The Hydra behind a path, if it is in use.
fn hydra(idp: Option<&Arc<Idp>>) -> Option<&Hydra> {
    match idp.map(|i| &**i) {
        Some(Idp::Hydra(hydra)) => Some(hydra),
        Some(Idp::Memory(_)) | None => None,
    }
}

/// Whether the caller presented one of the keys (header `X-Api-Key`).
fn authenticated<'k>(headers: &HeaderMap, keys: impl IntoIterator<Item = &'k SecretString>) -> bool {
    let presented = headers.get("x-api-key").and_then(|v| v.to_str().ok()).unwrap_or_default();
    // Every key is compared: which one fits does not show in the time.
    keys.into_iter().fold(false, |fits, key| dialect::same_key(presented, key) | fits)
}

/// What was decided is a reason to look at what the subject has consented to.
fn hint(context: &Context, key: &ClientKey, subject: &str) {
    let view = context.world.view(key);
    let group = view.grants.get(&Subject::User(subject.to_owned()));
    let none = Due::look(key.clone(), BTreeSet::new(), Lane::Apply);
    let mut due = group.into_iter().flatten().fold(none, |due, grant| due.with(grant));
    if due.grants.is_empty() {
        due.subjects.insert(subject.to_owned());
    }
    context.queue.push(due);
}

/// Whether a grant's status says that it is in force.
fn said_active(context: &Context, name: &GrantName) -> bool {
    context.world.entry(name).and_then(|e| e.status).is_some_and(|s| s.effective.is_some())
}
