//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;

use crate::clock;
use crate::controller::Context;

/// The health endpoints.
pub fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(context)
}

const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn metrics(State(context): State<Arc<Context>>) -> ([(HeaderName, &'static str); 1], String) {
    let mut tally = context.world.tally(clock::now());
    tally.queue = context.queue.depth();
    ([(CONTENT_TYPE, METRICS)], context.metrics.text(&tally))
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
