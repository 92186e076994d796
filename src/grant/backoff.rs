//! How long a failing part waits: a function of its failures and a stable name, without a clock.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// The first retry.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(60);

/// The wait after `failures` failures in a row (1 is the first): doubling from 0.5 s to 60 s, each
/// between 75 % and 125 %, the same for the same name, so that neighbours do not return together.
#[must_use]
pub fn delay(failures: u32, name: &str) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10));
    spread(doubled.min(LONGEST), name)
}

/// The wait before a grant that waits for its subject is looked at again: 5 s to 5 min.
#[must_use]
pub fn waiting(looks: u32, name: &str) -> Duration {
    let doubled = Duration::from_secs(5).saturating_mul(1 << looks.min(10));
    spread(doubled.min(Duration::from_secs(300)), name)
}

/// How many looks a grant has had that has waited for so long; the inverse of [`waiting`].
#[must_use]
pub fn looks_in(waited: Duration) -> u32 {
    (waited.as_secs() / 5 + 1).ilog2()
}

/// `base` moved by up to a quarter either way, the same for the same name.
#[must_use]
pub fn spread(base: Duration, name: &str) -> Duration {
    base.mul_f64(0.75 + 0.5 * fraction(name))
}

/// A stable fraction in `0.0..1.0` for a name.
#[must_use]
pub fn fraction(name: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    (hasher.finish() % 4096) as f64 / 4096.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_is_stable() {
        for name in ["a", "b", "c"] {
            let mut last = Duration::ZERO;
            for failures in 1..8 {
                let d = delay(failures, name);
                assert!(d > last && d <= LONGEST.mul_f64(1.25), "{failures}: {d:?}");
                assert_eq!(d, delay(failures, name));
                last = d;
            }
            assert_eq!(delay(u32::MAX, name), delay(30, name));
            assert!(waiting(0, name) >= Duration::from_secs_f64(3.75));
            assert!(waiting(u32::MAX, name) <= Duration::from_secs(375));
        }
        let looks = [0, 4, 5, 14, 15, 35, 3600].map(|seconds| looks_in(Duration::from_secs(seconds)));
        assert_eq!(looks, [0, 0, 1, 1, 2, 3, 9], "after 5 s, 15 s, 35 s …");
        assert_eq!(looks_in(Duration::MAX), 61);
    }
}
