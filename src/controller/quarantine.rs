//! Says of each ClientQuarantine whether the brake holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::{Api, ResourceExt as _};

use super::Context;
use super::publish;
use crate::api::ClientQuarantine;
use crate::clock;
use crate::grant::{parse, quarantine};

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

    /// What the API server answered to a write of ours.
    fn answered(&self, object: &ClientQuarantine) {
        let mut all = self.all();
        let name = object.name_any();
        if parse::is_news(&object.metadata, all.get(&name).map(|old| &old.metadata)) {
            all.insert(name, Arc::new(object.clone()));
        }
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
    publish::apply_status(context, &api, object, &status, |stored| context.brakes.answered(stored)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_the_watch_overtook_is_not_kept() {
        let all = Brakes::default();
        let brake = |uid: &str, version: u64| {
            let metadata = serde_json::json!({"name": "stop", "uid": uid, "resourceVersion": version.to_string()});
            let spec = serde_json::json!({"issuer": "https://idp", "clientID": "a", "reason": "theft"});
            let object = serde_json::json!({"apiVersion": "v1", "kind": "x", "metadata": metadata, "spec": spec});
            serde_json::from_value::<ClientQuarantine>(object).unwrap()
        };
        let kept = || all.all().values().filter_map(|brake| brake.resource_version()).collect::<Vec<_>>();
        all.set(brake("a", 9));
        all.answered(&brake("a", 10));
        assert_eq!(kept(), ["10"]);
        all.set(brake("a", 100));
        all.answered(&brake("a", 11));
        assert_eq!(kept(), ["100"], "a person edited it meanwhile");
        all.remove("stop");
        all.answered(&brake("a", 101));
        assert_eq!(kept(), [""; 0], "what is gone does not come back");
    }
}
