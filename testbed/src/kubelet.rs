//! A small kubelet for pods of the operator's image, so that `helm install --wait`, Deployments, Jobs and
//! `helm test` have something true to wait for.
//!
//! No scheduler runs: every pod is bound to the one node that there is, wherever it would rather be. What a
//! pod's security context asks for is left to the API server's admission.

mod pod;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::control_plane::Caller;
use crate::net::{free_port, http};
use crate::{ControlPlane, RunDir, canary};

const NODE: &str = "testbed";
const TICK: Duration = Duration::from_millis(200);
/// The controller of nodes gives one up that has been silent for 40 seconds.
const BEAT: Duration = Duration::from_secs(5);
const MERGE: &str = "application/merge-patch+json";

/// A running kubelet; its pods' processes end when it is dropped.
pub struct Kubelet {
    node: Arc<Node>,
    task: JoinHandle<()>,
}

/// A pod whose process runs.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its readiness probe succeeds, and nobody has asked it to end.
    pub ready: bool,
    /// By port of the pod, the port of loopback on which its process listens.
    pub ports: BTreeMap<u16, u16>,
}

/// What every pod needs of its node.
struct Node {
    caller: Caller,
    url: String,
    authority: String,
    binary: PathBuf,
    probes: reqwest::Client,
    /// By UID.
    pods: Mutex<BTreeMap<String, Seen>>,
    turn: AtomicUsize,
    dir: RunDir,
}

impl Kubelet {
    /// Registers the node and runs every pod from now on with `binary` for its image.
    pub async fn start(plane: &ControlPlane, binary: impl Into<PathBuf>) -> Result<Self> {
        let node = Arc::new(Node {
            caller: plane.caller(),
            url: plane.url(),
            authority: plane.ca_pem(),
            binary: binary.into(),
            probes: http().build().context("cannot build an HTTP client")?,
            pods: Mutex::default(),
            turn: AtomicUsize::new(0),
            dir: RunDir::new("kubelet")?,
        });
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        node.send(Method::POST, "api/v1/nodes", object, "application/json").await?;
        node.beat().await?;
        let task = tokio::spawn(run(node.clone()));
        Ok(Self { node, task })
    }

    /// The pods that run now.
    pub fn pods(&self) -> Vec<Seen> {
        self.node.pods().values().cloned().collect()
    }

    /// What the process of a pod has written, whether it still runs or not.
    pub fn log(&self, namespace: &str, name: &str) -> String {
        let path = self.node.dir.log(&log_name(namespace, name));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// What the processes of all pods have written, those of before too.
    fn logs(&self) -> Result<String> {
        let mut logs = String::new();
        for file in std::fs::read_dir(self.node.dir.path())? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                logs += &String::from_utf8_lossy(&std::fs::read(path)?);
            }
        }
        Ok(logs)
    }

    /// Does what a Service does: each connection to the port of loopback that this returns goes to one of the
    /// ready pods of a namespace that have `port`, by turns.
    pub async fn forward(&self, namespace: &str, port: u16) -> Result<u16> {
        self.node.forward(namespace, port).await
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
        canary::untold("a pod's log", &self.logs().unwrap_or_default());
    }
}

/// Finds pods, and gives each a task of its own that follows it to its end.
async fn run(node: Arc<Node>) {
    let (mut tasks, mut known) = (JoinSet::new(), BTreeSet::new());
    let mut beat = Instant::now() + BEAT;
    loop {
        if Instant::now() >= beat && node.beat().await.is_ok() {
            beat = Instant::now() + BEAT;
        }
        // An API server that does not answer is asked again.
        if let Ok((200, list)) = node.caller.call(Method::GET, "api/v1/pods", None).await {
            for pod in list["items"].as_array().into_iter().flatten() {
                if known.insert(text(&pod["metadata"]["uid"]).to_owned()) {
                    tasks.spawn(pod::follow(node.clone(), pod.clone()));
                }
            }
        }
        tokio::time::sleep(TICK).await;
    }
}

impl Node {
    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that writes, and what the API server says if it does not take it.
    async fn send(&self, method: Method, path: &str, body: Value, kind: &str) -> Result<Value> {
        let (status, answer) = self.caller.call(method, path, Some((body, kind))).await?;
        if !(200..300).contains(&status) {
            bail!("{path} was not taken ({status}): {}", answer["message"]);
        }
        Ok(answer)
    }

    async fn beat(&self) -> Result<()> {
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "KubeletReady",
            "lastHeartbeatTime": now(), "lastTransitionTime": now(),
        });
        let body = json!({"status": {"conditions": [ready]}});
        self.send(Method::PATCH, &format!("api/v1/nodes/{NODE}/status"), body, MERGE).await.map(drop)
    }

    async fn forward(self: &Arc<Self>, namespace: &str, port: u16) -> Result<u16> {
        let own = free_port()?;
        let listener = TcpListener::bind(("127.0.0.1", own)).await.context("cannot listen for a Service")?;
        let (node, namespace) = (Arc::downgrade(self), namespace.to_owned());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let Some(node) = node.upgrade() else { return };
                // Nobody is ready: the connection is closed.
                let Some(to) = node.choose(&namespace, port) else { continue };
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    // Either side may hang up; there is nobody to tell.
                    _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Ok(own)
    }

    fn choose(&self, namespace: &str, port: u16) -> Option<u16> {
        let pods = self.pods();
        let ready = pods.values().filter(|pod| pod.ready && pod.namespace == namespace);
        let ports: Vec<u16> = ready.filter_map(|pod| pod.ports.get(&port).copied()).collect();
        ports.get(self.turn.fetch_add(1, Ordering::Relaxed) % ports.len().max(1)).copied()
    }
}

fn log_name(namespace: &str, name: &str) -> String {
    format!("{namespace}.{name}")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
