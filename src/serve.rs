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
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::controller::Context;
use crate::correlation;
use crate::grant::decide::Deny;
use crate::grant::{ClientKey, GrantName, Mode, ProviderKey, Subject};
use crate::idp::Idp;
use crate::idp::hydra::{Hydra, dialect};
use crate::world::{Due, Lane};

/// A look-up at the IdP that takes longer than this is a no: the hook must answer within 2 s.
pub const LOOKUP: Duration = Duration::from_millis(1500);
/// A connection on which no whole head of a question comes for this long ends, be it silent or slow. Longer
/// than an identity provider pauses between two questions, so that few have to connect anew.
const HEAD: Duration = Duration::from_secs(60);
/// A question is answered by then: its body may take its time too.
const WHOLE: Duration = Duration::from_secs(10);
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

/// Serves every connection in a task of its own; none may be held open by saying little.
fn serve<L: axum::serve::Listener<Addr = SocketAddr>>(mut listener: L, router: Router) {
    let router = router.layer(middleware::from_fn(in_time));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await;
            tokio::spawn(connection(stream, router.clone()));
        }
    });
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send, router: Router) {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let served = protocol.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
    if let Err(error) = served {
        // Anybody can cause it, at any rate: not a line each.
        tracing::debug!(%error, "a connection ended");
    }
}

/// A question whose body does not come is not answered for ever.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(WHOLE, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")]).into_response(),
    }
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

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// The client's end of a connection that is served.
    fn connect() -> DuplexStream {
        let read = async |body: Bytes| body.len().to_string();
        let router = Router::new().route("/", post(read)).layer(middleware::from_fn(in_time));
        let (client, server) = tokio::io::duplex(4096);
        tokio::spawn(connection(server, router));
        client
    }

    async fn read(client: &mut DuplexStream) -> String {
        let mut answer = [0; 1024];
        let read = client.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_little_is_hung_up_on_and_who_asks_again_is_not() {
        // A byte now and then is not a head.
        let (mut slow, begin) = (connect(), tokio::time::Instant::now());
        slow.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
        let more = async {
            while slow.write_all(b"a: b\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(HEAD * 2, more).await.expect("it is hung up on");
        assert!(begin.elapsed() >= HEAD);

        let mut half = connect();
        let begin = tokio::time::Instant::now();
        half.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhe").await.unwrap();
        let answer = read(&mut half).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert_eq!(begin.elapsed().as_secs(), WHOLE.as_secs());
        assert_eq!(read(&mut half).await, "", "the connection ends");

        let mut good = connect();
        for _ in 0..3 {
            good.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
            let answer = read(&mut good).await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('5'), "{answer}");
            tokio::time::sleep(HEAD - Duration::from_secs(1)).await;
        }
    }
}
