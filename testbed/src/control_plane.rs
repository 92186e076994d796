//! A Kubernetes control plane on loopback: etcd, kube-apiserver and, where a test wants it,
//! kube-controller-manager. Pods stay Pending without a [`Kubelet`](crate::Kubelet).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reqwest::header::RETRY_AFTER;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::certs::{Authority, Pair, signing_key};
use crate::kubeconfig::{Credential, kubeconfig};
use crate::net::{free_port, http, wait_http};
use crate::proxy::Tls;
use crate::{Process, RunDir, Tools};

const START: Duration = Duration::from_secs(90);
/// For this long it is asked again where it asks for that.
const BUSY: Duration = Duration::from_secs(30);

/// What a control plane has beyond the usual.
#[derive(Clone, Debug, Default)]
pub struct ControlPlaneOptions {
    /// Record every request (metadata only) in [`ControlPlane::audit_log`].
    pub audit: bool,
    /// More flags for kube-apiserver, such as `--feature-gates=…`.
    pub apiserver_args: Vec<String>,
}

/// The API server as its administrator reaches it.
#[derive(Clone)]
pub(crate) struct Caller {
    client: reqwest::Client,
    url: String,
}

impl Caller {
    /// See [`ControlPlane::call`].
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<(Value, &str)>) -> Result<(u16, Value)> {
        let mut request = self.client.request(method, format!("{}/{path}", self.url));
        if let Some((body, kind)) = body {
            request = request.header("content-type", kind).body(body.to_string());
        }
        let answer = self.send(request.build().context("not a request")?).await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Sends a request, and again for as long as the API server asks for that: it does while it makes the storage
    /// of a kind anew whose definition has changed (429, "storage is (re)initializing", with `Retry-After`).
    async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response> {
        let end = Instant::now() + BUSY;
        loop {
            let copy = request.try_clone().context("a request can be sent once only")?;
            let answer = self.client.execute(copy).await.context("the API server is silent")?;
            let again = answer.status() == StatusCode::TOO_MANY_REQUESTS && answer.headers().contains_key(RETRY_AFTER);
            if !again || Instant::now() >= end {
                return Ok(answer);
            }
            // It asks for whole seconds, and is done in a part of one.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A copy of etcd's data; see [`ControlPlane::copy_data`].
#[derive(Debug)]
pub struct DataCopy(PathBuf);

/// A running control plane; everything ends when it is dropped.
pub struct ControlPlane {
    // The order matters: fields are dropped from the top, the directory last.
    controller_manager: Option<Process>,
    apiserver: Option<Process>,
    etcd: Option<Process>,
    tools: Tools,
    authority: Authority,
    admin: Pair,
    caller: Caller,
    port: u16,
    etcd_url: String,
    etcd_peer: String,
    options: ControlPlaneOptions,
    kubeconfig: PathBuf,
    minted: AtomicU32,
    dir: RunDir,
}

impl ControlPlane {
    /// Starts etcd and kube-apiserver and waits until the namespace `default` is there.
    pub async fn start(tools: &Tools) -> Result<Self> {
        Self::start_with(tools, ControlPlaneOptions::default()).await
    }

    /// [`ControlPlane::start`] with options.
    pub async fn start_with(tools: &Tools, options: ControlPlaneOptions) -> Result<Self> {
        let dir = RunDir::new("control-plane")?;
        let authority = Authority::new()?;
        let admin = authority.client("admin", &["system:masters"])?;
        let server = authority.server()?;
        let port = free_port()?;
        dir.write("ca.crt", authority.pem())?;
        dir.write("server.crt", &server.cert)?;
        dir.write("server.key", &server.key)?;
        let (private, public) = signing_key()?;
        dir.write("service-account.key", private)?;
        dir.write("service-account.pub", public)?;
        dir.write("audit.yaml", AUDIT_POLICY)?;
        let url = format!("https://127.0.0.1:{port}");
        let config = kubeconfig(&url, &authority.pem(), "admin", Credential::Certificate(&admin));
        let path = dir.write("admin.kubeconfig", config)?;
        let mut plane = Self {
            controller_manager: None,
            apiserver: None,
            etcd: None,
            tools: tools.clone(),
            caller: Caller { client: client(&authority, &admin)?, url },
            authority,
            admin,
            port,
            etcd_url: format!("http://127.0.0.1:{}", free_port()?),
            etcd_peer: format!("http://127.0.0.1:{}", free_port()?),
            options,
            kubeconfig: path,
            minted: AtomicU32::new(1),
            dir,
        };
        plane.start_etcd().await?;
        plane.start_apiserver().await?;
        Ok(plane)
    }

    /// `https://127.0.0.1:<port>`; stays the same over a restart.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificate of the authority behind server and clients, in PEM.
    pub fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// Where logs and kubeconfigs lie.
    pub fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// A kubeconfig of a member of `system:masters`.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig with a client certificate for `user` in at most two `groups`.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let pair = self.authority.client(user, groups)?;
        self.write_kubeconfig(&self.url(), user, Credential::Certificate(&pair))
    }

    /// A kubeconfig with a token of an existing ServiceAccount, good for a day.
    pub async fn kubeconfig_for_service_account(&self, ns: &str, name: &str) -> Result<PathBuf> {
        self.kubeconfig_for_service_account_at(&self.url(), ns, name).await
    }

    /// The same for another server, such as a proxy, that the authority of this control plane vouches
    /// for.
    pub async fn kubeconfig_for_service_account_at(&self, url: &str, ns: &str, name: &str) -> Result<PathBuf> {
        let args = ["create", "token", name, "--namespace", ns, "--duration=24h"];
        let token = self.kubectl(&args).await?;
        self.write_kubeconfig(url, name, Credential::Token(token.trim()))
    }

    /// Calls as its administrator that outlive a borrow.
    pub(crate) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// For a proxy that passes itself off as the API server.
    pub(crate) fn tls(&self) -> Result<Tls> {
        Ok(Tls { server: self.authority.server()?, authority: self.ca_pem() })
    }

    fn write_kubeconfig(&self, url: &str, user: &str, credential: Credential<'_>) -> Result<PathBuf> {
        let number = self.minted.fetch_add(1, Ordering::Relaxed);
        let config = kubeconfig(url, &self.authority.pem(), user, credential);
        self.dir.write(&format!("user-{number}.kubeconfig"), config)
    }

    /// The audit log, where [`ControlPlaneOptions::audit`] asked for one.
    pub fn audit_log(&self) -> PathBuf {
        self.dir.log("audit")
    }

    /// What it was started from.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The program kubectl.
    pub fn kubectl_path(&self) -> &Path {
        &self.tools.kubectl
    }

    /// Freezes kube-apiserver: connections stay open and nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.running()?.stop()
    }

    /// Ends [`ControlPlane::pause`].
    pub fn resume(&self) -> Result<()> {
        self.running()?.cont()
    }

    /// Kills kube-apiserver; its data stays in etcd.
    pub fn stop_apiserver(&mut self) {
        self.apiserver = None;
    }

    /// Starts kube-apiserver on the same port and data and waits until it is ready.
    pub async fn start_apiserver(&mut self) -> Result<()> {
        self.apiserver = None;
        let mut command = Command::new(&self.tools.kube_apiserver);
        command.args(self.apiserver_flags()).args(&self.options.apiserver_args);
        let process = Process::spawn(&self.dir, "kube-apiserver", command)?;
        wait_http(&self.caller.client, &format!("{}/readyz", self.url()), &process, START).await?;
        let default = format!("{}/api/v1/namespaces/default", self.url());
        wait_http(&self.caller.client, &default, &process, START).await?;
        self.apiserver = Some(process);
        Ok(())
    }

    /// Copies etcd's data as they are now, as a snapshot of its disk would: etcd stands still meanwhile.
    pub fn copy_data(&self) -> Result<DataCopy> {
        let etcd = self.etcd.as_ref().context("etcd is stopped")?;
        etcd.stop()?;
        let to = self.dir.data(&format!("etcd-copy-{}", self.minted.fetch_add(1, Ordering::Relaxed)))?;
        let copied = copy(&self.dir.data("etcd")?, &to);
        etcd.cont()?;
        copied.map(|()| DataCopy(to))
    }

    /// Kills kube-apiserver and etcd, puts a copy in the place of etcd's data, and starts both again on the
    /// same ports: the history of the cluster goes back.
    pub async fn put_back(&mut self, older: &DataCopy) -> Result<()> {
        self.apiserver = None;
        self.etcd = None;
        let data = self.dir.data("etcd")?;
        fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        copy(&older.0, &data)?;
        self.start_etcd().await?;
        self.start_apiserver().await
    }

    /// Starts etcd without fsync: its data are worth nothing after the run.
    async fn start_etcd(&mut self) -> Result<()> {
        let (url, peer) = (&self.etcd_url, &self.etcd_peer);
        let mut command = Command::new(&self.tools.etcd);
        command.arg("--data-dir").arg(self.dir.data("etcd")?).args([
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]);
        let process = Process::spawn(&self.dir, "etcd", command)?;
        let client = http().build().context("cannot build an HTTP client")?;
        wait_http(&client, &format!("{url}/health"), &process, START).await?;
        self.etcd = Some(process);
        Ok(())
    }

    fn running(&self) -> Result<&Process> {
        self.apiserver.as_ref().context("kube-apiserver is stopped: call start_apiserver first")
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn apiserver_flags(&self) -> Vec<String> {
        let port = self.port;
        let mut flags = vec![
            format!("--etcd-servers={}", self.etcd_url),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--tls-cert-file={}", self.file("server.crt")),
            format!("--tls-private-key-file={}", self.file("server.key")),
            format!("--client-ca-file={}", self.file("ca.crt")),
            format!("--service-account-key-file={}", self.file("service-account.pub")),
            format!("--service-account-signing-key-file={}", self.file("service-account.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            // No Service points at this server, and a loopback address could not be one.
            "--endpoint-reconciler-type=none".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            // Without a controller manager no namespace has a default ServiceAccount, and pods
            // would be refused.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            format!("--cert-dir={}", self.file("generated")),
        ];
        if self.options.audit {
            flags.push(format!("--audit-policy-file={}", self.file("audit.yaml")));
            flags.push(format!("--audit-log-path={}", self.audit_log().display()));
        }
        flags
    }

    /// Starts kube-controller-manager, for garbage collection, the end of namespaces,
    /// ServiceAccounts, and Deployments that become Pods.
    pub async fn start_controller_manager(&mut self) -> Result<()> {
        let port = free_port()?;
        let config = self.kubeconfig.display().to_string();
        let mut command = Command::new(&self.tools.kube_controller_manager);
        command.args([
            format!("--kubeconfig={config}"),
            format!("--authentication-kubeconfig={config}"),
            format!("--authorization-kubeconfig={config}"),
            format!("--service-account-private-key-file={}", self.file("service-account.key")),
            format!("--root-ca-file={}", self.file("ca.crt")),
            format!("--tls-cert-file={}", self.file("server.crt")),
            format!("--tls-private-key-file={}", self.file("server.key")),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            "--leader-elect=false".to_owned(),
        ]);
        let process = Process::spawn(&self.dir, "kube-controller-manager", command)?;
        let url = format!("https://127.0.0.1:{port}/healthz");
        wait_http(&self.caller.client, &url, &process, START).await?;
        self.controller_manager = Some(process);
        Ok(())
    }

    /// Any call to the API server, as its administrator: status and JSON answer. The body comes with its
    /// content type.
    pub async fn call(&self, method: Method, path: &str, body: Option<(Value, &str)>) -> Result<(u16, Value)> {
        self.caller.call(method, path, body).await
    }

    /// Follows the objects at a path of the API until `enough` says so: it is handed the kind of each event
    /// (`ADDED`, `MODIFIED`, `DELETED`) and the object. It begins after a resource version, or where that is
    /// empty with the objects that are there.
    pub async fn follow(
        &self,
        path: &str,
        since: &str,
        timeout: Duration,
        mut enough: impl FnMut(&str, &Value) -> bool,
    ) -> Result<()> {
        let follow = async {
            let mut version = since.to_owned();
            // The server ends a watch after some minutes, or where nobody reads fast enough.
            loop {
                let url = format!("{}/{path}?watch=true&resourceVersion={version}", self.url());
                let request = self.caller.client.get(url).timeout(timeout).build().context("not a request")?;
                let answer = self.caller.send(request).await?;
                let mut answer = answer.error_for_status().context("the API server refuses a watch")?;
                let mut read = Vec::new();
                while let Ok(Some(part)) = answer.chunk().await {
                    read.extend_from_slice(&part);
                    let Some(end) = read.iter().rposition(|byte| *byte == b'\n') else { continue };
                    let rest = read.split_off(end + 1);
                    for line in std::mem::replace(&mut read, rest).split(|byte| *byte == b'\n') {
                        if line.is_empty() {
                            continue;
                        }
                        let event: Value = serde_json::from_slice(line).context("an event is not JSON")?;
                        let (kind, object) = (event["type"].as_str().unwrap_or_default(), &event["object"]);
                        ensure!(kind != "ERROR", "the watch of {path} failed: {object}");
                        version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
                        if enough(kind, object) {
                            return Ok(());
                        }
                    }
                }
            }
        };
        tokio::time::timeout(timeout, follow).await.with_context(|| format!("{path}: not enough after {timeout:?}"))?
    }

    /// The processes that run now.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        [self.etcd.as_ref(), self.apiserver.as_ref(), self.controller_manager.as_ref()].into_iter().flatten()
    }

    /// The identity of the administrator (certificate, then key) in PEM, for clients of one's own.
    pub fn admin_identity(&self) -> String {
        format!("{}{}", self.admin.cert, self.admin.key)
    }
}

const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
";

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

fn client(authority: &Authority, admin: &Pair) -> Result<reqwest::Client> {
    let identity = format!("{}{}", admin.cert, admin.key);
    let identity =
        reqwest::Identity::from_pem(identity.as_bytes()).context("the administrator's certificate is not usable")?;
    let ca = reqwest::Certificate::from_pem(authority.pem().as_bytes())
        .context("the authority's certificate is not usable")?;
    http().tls_certs_only([ca]).identity(identity).build().context("cannot build an HTTP client")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a server is called that gives these answers one after the other, and how many it gave.
    async fn server(answers: &'static [&'static str]) -> (Caller, Arc<AtomicU32>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let given = Arc::new(AtomicU32::new(0));
        let count = given.clone();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let read = stream.read(&mut [0; 4096]).await.unwrap();
                assert!(read > 0);
                count.fetch_add(1, Ordering::Relaxed);
                let text = format!("HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}");
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        });
        (Caller { client: http().build().unwrap(), url }, given)
    }

    #[tokio::test]
    async fn it_is_asked_again_where_it_asks_for_that() {
        const BUSY: &str = "429 Too Many Requests\r\nretry-after: 1";
        let (caller, given) = server(&[BUSY, BUSY, "200 OK"]).await;
        let body = || Some((Value::Null, "application/json"));
        assert_eq!(caller.call(Method::POST, "x", body()).await.unwrap().0, 200);
        assert_eq!(given.load(Ordering::Relaxed), 3);
        // An eviction that may not be, says so without asking for anything.
        let (caller, given) = server(&["429 Too Many Requests", "200 OK"]).await;
        assert_eq!(caller.call(Method::POST, "x", body()).await.unwrap().0, 429);
        assert_eq!(given.load(Ordering::Relaxed), 1);
    }
}
