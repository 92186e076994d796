//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::routing::get;

use super::tls::Pair;
use crate::clock;
use crate::controller::Context;
use crate::telemetry::Format;

/// The health endpoints. `certificate`: that of the decision endpoints, whose end is told.
pub fn router(context: Arc<Context>, certificate: Option<Pair>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(context.clone())
        .merge(Router::new().route("/metrics", get(metrics)).with_state((context, certificate)))
}

async fn metrics(
    State((context, certificate)): State<(Arc<Context>, Option<Pair>)>,
    headers: HeaderMap,
) -> ([(HeaderName, &'static str); 1], String) {
    let mut tally = context.world.tally(clock::now());
    tally.queue = context.queue.depth();
    tally.certificate = certificate.and_then(|pair| pair.ends());
    let format = Format::wanted(headers.get(ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or_default());
    ([(CONTENT_TYPE, format.media_type())], context.metrics.text(&tally, format))
}

/// An API server that has been silent for longer makes this replica not ready.
const SILENT: Duration = Duration::from_secs(60);

/// Ready: everything has been read at least once, so decisions are more than "not yet", and the API server
/// has answered of late.
async fn ready(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    let missing = context.world.missing();
    if missing.is_empty() && !context.world.fresh(SILENT.min(context.config.max_staleness)) {
        (StatusCode::SERVICE_UNAVAILABLE, "the API server does not answer\n".into())
    } else if missing.is_empty() {
        (StatusCode::OK, "ok\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not read completely yet: {missing:?}\n"))
    }
}
