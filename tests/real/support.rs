//! What the tests share.

use std::time::Duration;

use clientgrant_testbed::bed::{Bed, BedOptions};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

static ONE: Mutex<()> = Mutex::const_new(());

/// A bed, and the right to be the only one.
pub struct Real {
    /// The bed.
    pub bed: Bed,
    _turn: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Real {
    type Target = Bed;
    fn deref(&self) -> &Bed {
        &self.bed
    }
}

impl std::ops::DerefMut for Real {
    fn deref_mut(&mut self) -> &mut Bed {
        &mut self.bed
    }
}

/// The usual bed, changed by `change`.
pub async fn bed_with(change: impl FnOnce(&mut BedOptions)) -> Real {
    let turn = ONE.lock().await;
    let mut options = BedOptions::new(env!("CARGO_BIN_EXE_clientgrant"));
    change(&mut options);
    let bed = Bed::start(options).await.expect("the bed starts");
    Real { bed, _turn: turn }
}

/// The usual bed.
pub async fn bed() -> Real {
    bed_with(|_| {}).await
}

/// An instant this many seconds ahead, in the form of the spec.
pub fn ahead(seconds: i64) -> String {
    let at = clientgrant::clock::now() + Duration::from_secs(seconds.unsigned_abs());
    clientgrant::api::instant::format(at)
}

/// Sleeps.
pub async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// Sleeps until an instant of the spec's form has passed.
pub async fn until(instant: &str) {
    let at = clientgrant::api::instant::parse(instant).expect("an instant");
    tokio::time::sleep(clientgrant::clock::until(at)).await;
}

/// A list of strings at a path of an object, sorted.
pub fn strings(value: &Value) -> Vec<String> {
    let mut list: Vec<String> =
        value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    list.sort();
    list
}
