//! What the tests share.

use std::time::Duration;

use clientgrant_testbed::bed::{Bed, BedOptions, CALLBACK};
use clientgrant_testbed::{AuthRequest, OAuthClient};
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

/// `base` with `over` merged into it.
pub fn merged(mut base: Value, over: Value) -> Value {
    clientgrant_testbed::bed::merge(&mut base, &over);
    base
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

/// An access and a refresh token, won by the subject's honest consent.
pub struct Chain {
    /// The access token.
    pub access: String,
    /// The refresh token.
    pub refresh: String,
}

/// Logs `subject` in and takes the honest way to tokens.
pub async fn chain(bed: &Bed, client: &OAuthClient, subject: &str, scope: &str) -> Chain {
    let browser = bed.browser().expect("a browser");
    let request = AuthRequest::new(client.id(), CALLBACK, scope, subject);
    let outcome = browser.authorize(&request, &bed.honest()).await.expect("an authorization");
    let code = outcome.code().unwrap_or_else(|| panic!("no code: {:?} {:?}", outcome.params, outcome.decision));
    let token = client.exchange_code(code, CALLBACK).await.expect("an answer");
    let tokens = token.access_token().zip(token.refresh_token());
    let (access, refresh) = tokens.unwrap_or_else(|| panic!("no tokens: {}\n{}", token.json, bed.operator.log()));
    Chain { access: access.to_owned(), refresh: refresh.to_owned() }
}

/// Whether introspection calls a token active.
pub async fn active(bed: &Bed, token: &str) -> bool {
    bed.hydra.admin().is_active(token).await.expect("introspection")
}

/// Median and 99th percentile.
pub fn percentiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (at(0.5), at(0.99))
}
