//! Wiring: watches fill the [`World`], the queue hands clients to workers, workers act and publish.
//!
//! What is decided is decided in [`crate::grant`]; nothing below has an opinion about the domain.

pub mod events;
pub mod pending;
pub mod provider;
pub mod publish;
pub mod quarantine;
pub mod queue;
pub mod reconcile;
pub mod record;
pub mod served;
pub mod sharing;
pub mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch as watch_channel;

use crate::config::Config;
use crate::grant::ClientKey;
use crate::grant::plan::Track;
use crate::lease::Leadership;
use crate::telemetry::Metrics;
use crate::turns::Gate;
use crate::world::World;
use events::Events;
use queue::Queue;

/// What every part of the operator shares.
pub struct Context {
    /// What we were told.
    pub world: World,
    /// What is to be looked at.
    pub queue: Queue,
    /// The Kubernetes API.
    pub kube: kube::Client,
    /// Flags.
    pub config: Config,
    /// This cluster's mark at IdPs.
    pub cluster: String,
    /// The name of this replica: visible ASCII.
    pub replica: String,
    /// What is counted.
    pub metrics: Metrics,
    /// What somebody should notice.
    events: Events,
    /// What watches of workloads told.
    sharing: sharing::Detector,
    /// Every watch begins anew with a list when this changes.
    anew: watch_channel::Sender<()>,
    /// Quarantines as they were last read.
    brakes: quarantine::Brakes,
    /// The record of managed clients as it was last read.
    book: record::Book,
    /// Writes to the API server at once.
    writes: Gate,
    memory: Mutex<HashMap<ClientKey, Memory>>,
}

/// More writes at once only make the API server slower.
const WRITES: usize = 32;
/// Of these, writes on behalf of one namespace: a neighbour's shares with them what the API server can do.
const WRITES_SHARE: usize = 8;

/// What is remembered about a client between two looks.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// For planning.
    pub track: Track,
    /// The last finding, to tell every grant when it changes.
    pub finding: Option<crate::grant::verdict::Finding>,
    /// Failures in a row of the client as a whole.
    pub failures: u32,
    /// By grant: failures in a row, looks while waiting, and since when work is in progress.
    pub grants: HashMap<Arc<str>, Part>,
}

/// The same for one grant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part {
    /// Failures in a row.
    pub failures: u32,
    /// Looks while waiting for the subject.
    pub looks: u32,
    /// Since when work is in progress.
    pub since: Option<k8s_openapi::jiff::Timestamp>,
}

impl Context {
    /// Nothing is known yet. Wants a runtime.
    #[must_use]
    pub fn new(
        kube: kube::Client,
        config: Config,
        cluster: String,
        replica: String,
        leadership: Arc<Leadership>,
    ) -> Self {
        Self {
            world: World::new(leadership),
            queue: Queue::default(),
            events: Events::start(kube.clone(), replica.clone()),
            kube,
            config,
            cluster,
            replica,
            metrics: Metrics::default(),
            sharing: sharing::Detector::default(),
            anew: watch_channel::Sender::new(()),
            brakes: quarantine::Brakes::default(),
            book: record::Book::default(),
            writes: Gate::new(WRITES, WRITES_SHARE),
            memory: Mutex::default(),
        }
    }

    /// Waits until every source has been read completely.
    pub async fn all_read(&self) {
        while !self.world.complete() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn memories(&self) -> MutexGuard<'_, HashMap<ClientKey, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the memory of a client; the queue hands a client to one worker at a time.
    fn take_memory(&self, key: &ClientKey) -> Memory {
        self.memories().remove(key).unwrap_or_default()
    }

    fn keep_memory(&self, key: ClientKey, memory: Memory) {
        self.memories().insert(key, memory);
    }

    /// The history of the cluster went back. Watches would wait until it is as long as it was, and versions
    /// that were seen are of objects that do not exist any more: everything is read anew.
    pub fn rewind(&self) {
        self.world.set_rewound();
        self.book.rewind();
        self.anew.send_replace(());
    }

    /// Another replica may have worked since: what is remembered about clients says nothing any more.
    pub fn forget(&self) {
        self.memories().clear();
        self.world.forget_collected();
    }
}
