//! One id for everything that belongs together: a look at a client or a provider, or one decision.
//!
//! Every log line of it has the id (`span.request_id` in JSON), and every call to the identity provider
//! carries it as `X-Request-ID`, so that both logs can be laid side by side. It is a random word of this
//! process and a number that counts up, made from nothing else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use axum::http::HeaderValue;
use tracing::Instrument as _;

/// The header of calls and of answers.
pub const HEADER: &str = "x-request-id";

tokio::task_local! {
    static ID: Arc<str>;
}

/// Does some work under an id of its own. `of`: what it is, for the log.
pub async fn scope<F: Future>(of: &'static str, work: F) -> F::Output {
    let id = next();
    // A span of the highest level: whatever is logged at all says where it belongs.
    let span = tracing::error_span!("request", request_id = &*id, of);
    ID.scope(id, work.instrument(span)).await
}

/// Work that goes on in a task of its own, under the id of what it belongs to.
pub fn kept<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let id = ID.try_with(Arc::clone).unwrap_or_else(|_| next());
    ID.scope(id, work.in_current_span())
}

/// The id of what this task works on, for the header; outside of any it is a fresh one.
#[must_use]
pub fn value() -> HeaderValue {
    let id = ID.try_with(Arc::clone).unwrap_or_else(|_| next());
    HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("none"))
}

fn next() -> Arc<str> {
    static PROCESS: OnceLock<String> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(1);
    // Without random numbers ids of two processes may be alike, and that is all.
    let process = PROCESS.get_or_init(|| crate::hex::random::<4>().unwrap_or_default());
    format!("{process}-{:x}", COUNT.fetch_add(1, Ordering::Relaxed)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_id_stays_within_its_scope_and_comes_once() {
        let (first, again) = scope("look", async { (value(), value()) }).await;
        let (second, inner) = scope("look", async { (value(), scope("decision", async { value() }).await) }).await;
        assert_eq!(first, again);
        let (before, after) = scope("look", async {
            let going_on = kept(async { value() });
            (value(), tokio::spawn(going_on).await.unwrap())
        })
        .await;
        assert_eq!(before, after);
        let outside = [value(), value()];
        let all = [&first, &second, &inner, &outside[0], &outside[1]];
        assert!(all.iter().enumerate().all(|(n, id)| !all[..n].contains(id)), "{all:?}");
        for id in all {
            let (process, number) = id.to_str().unwrap().split_once('-').unwrap();
            assert!(process.len() == 8 && u64::from_str_radix(number, 16).is_ok(), "{id:?}");
        }
    }
}
