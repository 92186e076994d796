//! One pod from its binding to its end.
//!
//! A container is the operator's program, run as a process with the arguments and the environment of the pod
//! and nothing else, and with a token of the pod's account. Processes share one machine, so in the arguments
//! the ports of the pod become free ports of loopback, the paths of mounted volumes those of a run
//! directory, and the addresses of Services those of forwarders. The account comes as a kubeconfig: a process
//! has no `/var/run/secrets` of its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use super::{MERGE, NODE, Node, Seen, TICK, log_name, now, text};
use crate::Process;
use crate::kubeconfig::{Credential, kubeconfig};
use crate::net::free_port;

/// A container that ended is started again after this; a real kubelet waits for up to five minutes.
const AGAIN: Duration = Duration::from_secs(1);
/// Until it has been ready once a container is asked this often: nothing is proved by waiting for a period.
const EAGER: Duration = Duration::from_millis(500);

/// Runs a pod until it is gone.
pub(super) async fn follow(node: Arc<Node>, pod: Value) {
    let uid = text(&pod["metadata"]["uid"]).to_owned();
    let mut life = Life::new(node.clone(), pod);
    if let Err(error) = life.bind().await {
        // Deleted meanwhile; else it is said where somebody looks who waits for the pod.
        eprintln!("testbed: pod {} cannot be bound: {error:#}", life.path);
        return;
    }
    loop {
        match node.caller.call(Method::GET, &life.path, None).await {
            Ok((200, pod)) if pod["metadata"]["uid"] == *uid => life.pod = pod,
            Ok((200 | 404, _)) => break,
            // Whatever it is about, what runs goes on.
            _ => {}
        }
        if life.pod["metadata"]["deletionTimestamp"].is_string() {
            life.end().await;
            break;
        }
        life.step().await;
        tokio::time::sleep(TICK).await;
    }
    node.pods().remove(&uid);
}

/// A pod and its container's process.
struct Life {
    node: Arc<Node>,
    path: String,
    /// As it was last read.
    pod: Value,
    ports: BTreeMap<u16, u16>,
    process: Option<Process>,
    live: Option<Probe>,
    ready: Option<Probe>,
    restarts: u32,
    since: String,
    /// Not started before.
    again: Instant,
    /// Why it cannot be started.
    waits: Option<String>,
    /// How it ended last.
    exit: Option<ExitStatus>,
    /// The last status, without its times.
    said: Value,
}

impl Life {
    fn new(node: Arc<Node>, pod: Value) -> Self {
        let meta = &pod["metadata"];
        let path = format!("api/v1/namespaces/{}/pods/{}", text(&meta["namespace"]), text(&meta["name"]));
        Self {
            node,
            path,
            pod,
            ports: BTreeMap::new(),
            process: None,
            live: None,
            ready: None,
            restarts: 0,
            since: now(),
            again: Instant::now(),
            waits: None,
            exit: None,
            said: Value::Null,
        }
    }

    fn meta(&self, field: &str) -> &str {
        text(&self.pod["metadata"][field])
    }

    fn container(&self) -> &Value {
        &self.pod["spec"]["containers"][0]
    }

    async fn bind(&mut self) -> Result<()> {
        let containers = self.pod["spec"]["containers"].as_array().map_or(0, Vec::len);
        let more = !self.pod["spec"]["initContainers"].is_null() || !self.container()["command"].is_null();
        ensure!(containers == 1 && !more, "a pod here is one container that runs its image's entry point");
        let ports = self.container()["ports"].as_array().cloned().unwrap_or_default();
        for port in ports {
            let port = port["containerPort"].as_u64().and_then(|p| u16::try_from(p).ok()).context("no port")?;
            self.ports.insert(port, free_port()?);
        }
        let target = json!({"apiVersion": "v1", "kind": "Node", "name": NODE});
        let binding =
            json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": self.meta("name")}, "target": target});
        self.node.send(Method::POST, &format!("{}/binding", self.path), binding, "application/json").await?;
        Ok(())
    }

    /// One round: volumes, process, probes, status.
    async fn step(&mut self) {
        let ended = self.process.as_ref().and_then(Process::exit_status);
        if let Some(status) = ended {
            (self.process, self.exit, self.again) = (None, Some(status), Instant::now() + AGAIN);
        }
        let over = self.exit.is_some_and(|exit| match text(&self.pod["spec"]["restartPolicy"]) {
            "Never" => true,
            "OnFailure" => exit.success(),
            _ => false,
        });
        let volumes = self.volumes().await;
        if self.process.is_none() && !over && Instant::now() >= self.again {
            let started = match volumes {
                Ok(mounts) => self.start(&mounts).await,
                Err(error) => Err(error),
            };
            self.restarts += u32::from(self.exit.is_some());
            self.waits = started.err().map(|error| format!("{error:#}"));
            (self.since, self.again) = (now(), Instant::now() + AGAIN);
        }
        if self.process.is_some() {
            let node = self.node.clone();
            for probe in [&mut self.live, &mut self.ready].into_iter().flatten() {
                probe.look(&node.probes).await;
            }
            if let (Some(Probe { good: false, .. }), Some(process)) = (&self.live, &self.process) {
                process.kill();
            }
        }
        let ready = self.process.is_some() && self.ready.as_ref().is_none_or(|probe| probe.good);
        self.seen(ready);
        self.say(ready, over).await;
    }

    fn seen(&self, ready: bool) {
        let (namespace, name) = (self.meta("namespace").to_owned(), self.meta("name").to_owned());
        let seen = Seen { namespace, name, ready, ports: self.ports.clone() };
        self.node.pods().insert(self.meta("uid").to_owned(), seen);
    }

    /// Writes the Secrets and ConfigMaps that the pod mounts, anew when they have changed, as a kubelet does: the files are
    /// links through one link, which is swapped. Returns the directories by path in the container.
    async fn volumes(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut mounts = Vec::new();
        for mount in self.container()["volumeMounts"].as_array().into_iter().flatten() {
            let volumes = self.pod["spec"]["volumes"].as_array();
            let volume = volumes.and_then(|all| all.iter().find(|v| v["name"] == mount["name"]));
            let volume = volume.context("a mount has no volume")?;
            let (resource, items, name) = match (&volume["secret"], &volume["configMap"]) {
                (Value::Null, map) => ("configmaps", map, &map["name"]),
                (secret, _) => ("secrets", secret, &secret["secretName"]),
            };
            let name = name.as_str().context("only Secrets and ConfigMaps are mounted here")?;
            let path = format!("api/v1/namespaces/{}/{resource}/{name}", self.meta("namespace"));
            let (status, stored) = self.node.caller.call(Method::GET, &path, None).await?;
            ensure!(status == 200, "{resource}/{name} cannot be mounted ({status})");
            let dir = self.node.dir.data(&format!("{}/{}", self.meta("uid"), text(&mount["name"])))?;
            let version = format!("..{}", text(&stored["metadata"]["resourceVersion"]));
            if fs::read_link(dir.join("..data")).ok().as_deref() != Some(Path::new(&version)) {
                write(&dir, &version, items, &stored)?;
            }
            mounts.push((text(&mount["mountPath"]).to_owned(), dir));
        }
        Ok(mounts)
    }

    async fn start(&mut self, mounts: &[(String, PathBuf)]) -> Result<()> {
        let mut env = BTreeMap::new();
        for entry in self.container()["env"].as_array().into_iter().flatten() {
            let value = match entry["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                None => text(&entry["value"]),
                Some("metadata.name") => self.meta("name"),
                Some("metadata.namespace") => self.meta("namespace"),
                Some(other) => bail!("no field {other} is known here"),
            };
            env.insert(text(&entry["name"]).to_owned(), in_mounts(value.to_owned(), mounts));
        }
        let mut command = Command::new(&self.node.binary);
        command.env_clear().envs(&env);
        for arg in self.container()["args"].as_array().into_iter().flatten() {
            let named =
                env.iter().fold(text(arg).to_owned(), |arg, (name, value)| arg.replace(&format!("$({name})"), value));
            command.arg(self.here(named, mounts).await?);
        }
        if self.pod["spec"]["automountServiceAccountToken"] == true {
            command.env("KUBECONFIG", self.token().await?);
        }
        let name = log_name(self.meta("namespace"), self.meta("name"));
        self.process = Some(Process::spawn(&self.node.dir, &name, command)?);
        self.live = Probe::of(&self.container()["livenessProbe"], self.container(), &self.ports, true)?;
        self.ready = Probe::of(&self.container()["readinessProbe"], self.container(), &self.ports, false)?;
        Ok(())
    }

    /// An argument with addresses and paths that hold on this machine.
    async fn here(&self, mut arg: String, mounts: &[(String, PathBuf)]) -> Result<String> {
        for (pod, own) in &self.ports {
            arg = arg.replace(&format!("0.0.0.0:{pod}"), &format!("127.0.0.1:{own}"));
        }
        arg = in_mounts(arg, mounts);
        let service = format!(".{}.svc:", self.meta("namespace"));
        if let Some((before, after)) = arg.split_once(&service) {
            let digits = after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            let port = self.node.forward(self.meta("namespace"), digits.parse()?).await?;
            let scheme = before.split_inclusive("://").next().unwrap_or_default();
            arg = format!("{scheme}127.0.0.1:{port}{}", &after[digits.len()..]);
        }
        Ok(arg)
    }

    /// A kubeconfig with a token of the pod's account that ends with the pod.
    async fn token(&self) -> Result<PathBuf> {
        let account = text(&self.pod["spec"]["serviceAccountName"]);
        let account = if account.is_empty() { "default" } else { account };
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": self.meta("name"), "uid": self.meta("uid")});
        let spec = json!({"expirationSeconds": 3600 * 24, "boundObjectRef": pod});
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("api/v1/namespaces/{}/serviceaccounts/{account}/token", self.meta("namespace"));
        let answer = self.node.send(Method::POST, &path, body, "application/json").await?;
        let token = Credential::Token(text(&answer["status"]["token"]));
        let config = kubeconfig(&self.node.url, &self.node.authority, account, token);
        self.node.dir.write(&format!("{}.kubeconfig", self.meta("uid")), config)
    }

    /// Asks the process to end, kills it when its time is over, and lets the pod go.
    async fn end(&mut self) {
        self.seen(false);
        if let Some(process) = self.process.take() {
            let grace = self.pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(30);
            if process.terminate().is_ok() && process.wait_exit(Duration::from_secs(grace)).await.is_err() {
                process.kill();
            }
        }
        let same = json!({"uid": self.meta("uid")});
        let body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": same});
        while self.node.send(Method::DELETE, &self.path, body.clone(), "application/json").await.is_err() {
            let gone = self.node.caller.call(Method::GET, &self.path, None).await;
            if gone.is_ok_and(|(status, pod)| status == 404 || pod["metadata"]["uid"] != self.meta("uid")) {
                return;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Writes the status, if it is another one.
    async fn say(&mut self, ready: bool, over: bool) {
        let exit = self.exit.map(|exit| exit.code().unwrap_or(137));
        let ended = exit.map(
            |code| json!({"terminated": {"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }}}),
        );
        let (phase, state) = match (&self.waits, &ended) {
            (_, Some(ended)) if over => (if exit == Some(0) { "Succeeded" } else { "Failed" }, ended.clone()),
            (Some(why), _) => ("Pending", json!({"waiting": {"reason": "CreateContainerConfigError", "message": why}})),
            (None, Some(_)) if self.process.is_none() => {
                ("Running", json!({"waiting": {"reason": "CrashLoopBackOff"}}))
            }
            (None, _) => ("Running", json!({"running": {"startedAt": self.since}})),
        };
        let value = |holds: bool| if holds { "True" } else { "False" };
        let conditions: Vec<Value> =
            [("PodScheduled", true), ("Initialized", true), ("ContainersReady", ready), ("Ready", ready)]
                .into_iter()
                .map(|(name, holds)| json!({"type": name, "status": value(holds)}))
                .collect();
        let image = text(&self.container()["image"]);
        let mut status = json!({
            "phase": phase, "hostIP": "127.0.0.1", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": conditions,
            "containerStatuses": [{
                "name": self.container()["name"], "image": image, "imageID": image, "ready": ready,
                "started": self.process.is_some(), "restartCount": self.restarts, "state": state,
                "lastState": if over { json!({}) } else { ended.unwrap_or(json!({})) },
            }],
        });
        if status == self.said {
            return;
        }
        let said = status.clone();
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastTransitionTime"] = json!(now());
        }
        let path = format!("{}/status", self.path);
        if self.node.send(Method::PATCH, &path, json!({"status": status}), MERGE).await.is_ok() {
            self.said = said;
        }
    }
}

/// A text with the paths where the pod's volumes are on this machine.
fn in_mounts(text: String, mounts: &[(String, PathBuf)]) -> String {
    mounts.iter().fold(text, |text, (path, dir)| text.replace(path, &dir.display().to_string()))
}

/// Writes the items of a Secret or ConfigMap into a directory of their own, and swaps the link.
fn write(dir: &Path, version: &str, volume: &Value, stored: &Value) -> Result<()> {
    fs::create_dir_all(dir.join(version)).context("cannot write a volume")?;
    for item in volume["items"].as_array().into_iter().flatten() {
        let (key, path) = (text(&item["key"]), text(&item["path"]));
        let data = stored["data"][key].as_str().with_context(|| format!("the volume's object has no key {key}"))?;
        let content = if stored["kind"] == "Secret" { STANDARD.decode(data)? } else { data.as_bytes().to_vec() };
        fs::write(dir.join(version).join(path), content)?;
        if dir.join(path).symlink_metadata().is_err() {
            symlink(Path::new("..data").join(path), dir.join(path))?;
        }
    }
    symlink(version, dir.join("..new"))?;
    fs::rename(dir.join("..new"), dir.join("..data")).context("cannot swap a volume")
}

/// A probe over HTTP.
struct Probe {
    url: String,
    period: Duration,
    timeout: Duration,
    threshold: u64,
    next: Instant,
    failures: u64,
    good: bool,
    eager: bool,
}

impl Probe {
    /// A probe of a container; `good` is what holds before it was asked.
    fn of(spec: &Value, container: &Value, ports: &BTreeMap<u16, u16>, good: bool) -> Result<Option<Self>> {
        let get = &spec["httpGet"];
        if get.is_null() {
            return Ok(None);
        }
        let named = container["ports"].as_array().into_iter().flatten().find(|p| p["name"] == get["port"]);
        let port = named.map_or(&get["port"], |p| &p["containerPort"]).as_u64().and_then(|p| u16::try_from(p).ok());
        let port = port.and_then(|p| ports.get(&p)).context("a probe asks a port that the container does not have")?;
        let seconds = |name: &str, default| Duration::from_secs(spec[name].as_u64().unwrap_or(default));
        let period = seconds("periodSeconds", 10);
        Ok(Some(Self {
            url: format!("http://127.0.0.1:{port}{}", text(&get["path"])),
            period,
            timeout: seconds("timeoutSeconds", 1),
            threshold: spec["failureThreshold"].as_u64().unwrap_or(3),
            next: Instant::now() + if good { period } else { EAGER },
            failures: 0,
            good,
            eager: !good,
        }))
    }

    async fn look(&mut self, client: &reqwest::Client) {
        if Instant::now() < self.next {
            return;
        }
        let answer = client.get(&self.url).timeout(self.timeout).send().await;
        if answer.is_ok_and(|a| a.status().as_u16() < 400) {
            (self.failures, self.good, self.eager) = (0, true, false);
        } else {
            self.failures += 1;
            self.good &= self.failures < self.threshold;
        }
        self.next = Instant::now() + if self.eager { EAGER } else { self.period };
    }
}
