//! The one place where the wall clock is read.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// Now, by the wall clock: instants of the spec are wall time.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// How long until `at`; zero if it has passed.
#[must_use]
pub fn until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now())).unwrap_or(Duration::ZERO)
}
