//! `/livez` and `/readyz`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::controller::Context;

/// The health endpoints.
pub fn router(context: Arc<Context>) -> Router {
    Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(ready)).with_state(context)
}

/// Ready: everything has been read at least once, so decisions are more than "not yet".
async fn ready(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    let missing = context.world.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not read completely yet: {missing:?}\n"))
    }
}
