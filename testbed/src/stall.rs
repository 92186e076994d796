//! How long a machine stood still, so that a bound of time is about the operator and not about its neighbours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often it is looked.
const TICK: Duration = Duration::from_millis(10);

/// Delays up to this are usual, and are not counted.
const USUAL: Duration = Duration::from_millis(20);

/// While it lives, a thread that does nothing else measures how much later than asked it wakes.
#[derive(Debug)]
pub struct Stall {
    lost: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Stall {
    /// Measures from now on.
    pub fn watch() -> Self {
        let (lost, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let stall = Self { lost: lost.clone(), over: over.clone() };
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                thread::sleep(TICK);
                let late = begun.elapsed().saturating_sub(TICK);
                if late > USUAL {
                    lost.fetch_add(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
            }
        });
        stall
    }

    /// The sum of all delays so far.
    pub fn lost(&self) -> Duration {
        Duration::from_micros(self.lost.load(Ordering::Relaxed))
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
