//! Says of each ClientQuarantine whether the brake holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::{Api, ResourceExt as _};

use super::Context;
use super::publish;
use crate::api::ClientQuarantine;
use crate::clock;
use crate::grant::quarantine;

/// How often it is looked at. What it asks for is done without waiting for this.
const AGAIN: Duration = Duration::from_secs(1);

/// The quarantines as they were last read.
#[derive(Debug, Default)]
pub struct Brakes(Mutex<BTreeMap<String, Arc<ClientQuarantine>>>);

impl Brakes {
    /// One was read.
    pub fn set(&self, object: ClientQuarantine) {
        self.all().insert(object.name_any(), Arc::new(object));
    }

    /// One is gone.
    pub fn remove(&self, name: &str) {
        self.all().remove(name);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<ClientQuarantine>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what has changed, while this replica leads and has read everything.
pub async fn run(context: Arc<Context>) {
    loop {
        tokio::time::sleep(AGAIN).await;
        if !context.world.leadership().leads() || !context.world.complete() {
            continue;
        }
        let all: Vec<_> = context.brakes.all().values().cloned().collect();
        for object in all {
            say(&context, &object).await;
        }
    }
}

async fn say(context: &Context, object: &ClientQuarantine) {
    let named = context.world.named(&object.spec.issuer, &object.spec.client_id);
    let status = quarantine::status(object, named, clock::now());
    if object.status.as_ref() == Some(&status) {
        return;
    }
    let api: Api<ClientQuarantine> = Api::all(context.kube.clone());
    publish::apply_status(context, &api, object, &status, |stored| context.brakes.set(stored.clone())).await;
}
