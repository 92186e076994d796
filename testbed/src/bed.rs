//! The whole bed: a control plane with our CRDs, Hydra behind the proxy, and the operator, wired as a
//! platform team would wire them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::canary::{self, client_secret, consent_key, hook_key};
use crate::helm::Helm;
use crate::{
    ConsentApp, ControlPlane, ControlPlaneOptions, Hydra, HydraOptions, Iproxy, Kproxy, OAuthClient, Operator,
    OperatorOptions, Recorded, Storage, TokenHook, Tools, UserAgent, free_port,
};

/// Where clients are sent back to. Nobody listens there.
pub const CALLBACK: &str = "http://127.0.0.1:1/callback";

/// Where the API server has our kinds.
pub const GROUP: &str = "apis/clientgrant.dev/v1alpha1";

/// Where everything is that the operator writes down at the API server.
const TOLD: [&str; 9] = [
    "apis/clientgrant.dev/v1alpha1/clientgrants",
    "apis/clientgrant.dev/v1alpha1/clientidentities",
    "apis/clientgrant.dev/v1alpha1/clientquarantines",
    "apis/clientgrant.dev/v1alpha1/clusteridentityproviders",
    "apis/clientgrant.dev/v1alpha1/identityproviders",
    "apis/clientgrant.dev/v1alpha1/pendingrevocations",
    "apis/events.k8s.io/v1/events",
    "api/v1/configmaps",
    "apis/coordination.k8s.io/v1/leases",
];

/// The same, of kinds that a test may have installed.
const MAYBE: [&str; 4] = [
    "apis/openreports.io/v1alpha1/reports",
    "apis/openreports.io/v1alpha1/clusterreports",
    "apis/wgpolicyk8s.io/v1alpha2/policyreports",
    "apis/wgpolicyk8s.io/v1alpha2/clusterpolicyreports",
];

/// What differs from one bed to the next.
#[derive(Clone, Debug)]
pub struct BedOptions {
    /// The operator's program.
    pub binary: PathBuf,
    /// Merged over the provider's spec.
    pub provider: Value,
    /// Where Hydra keeps its data.
    pub storage: Storage,
    /// Merged over Hydra's configuration.
    pub hydra: Value,
    /// More flags for the operator.
    pub args: Vec<String>,
    /// Start the operator at once.
    pub operator: bool,
    /// Record every request to the API server; see [`Bed::asked`].
    pub audit: bool,
    /// Put a proxy between the operator and the API server; see [`Bed::kproxy`].
    pub kproxy: bool,
}

impl BedOptions {
    /// Adoption is automatic, and clients that nobody manages are denied.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            provider: json!({"adoption": "Automatic", "unmanagedClients": "Deny"}),
            storage: Storage::Memory,
            hydra: Value::Null,
            args: Vec::new(),
            operator: true,
            audit: false,
            kproxy: false,
        }
    }
}

/// Everything, running.
pub struct Bed {
    /// The operator, unless it is stopped.
    pub operator: Operator,
    /// Between the operator and Hydra's admin API.
    pub proxy: Iproxy,
    /// Between Hydra and the operator's token hook.
    pub hooks: Iproxy,
    /// Between the operator and the API server, where [`BedOptions::kproxy`] asked for it.
    pub kproxy: Option<Kproxy>,
    /// The IdP.
    pub hydra: Hydra,
    /// The Kubernetes API.
    pub plane: ControlPlane,
}

impl Bed {
    /// Starts everything and waits until the provider is connected.
    pub async fn start(options: BedOptions) -> Result<Self> {
        let tools = Tools::find()?;
        let decision_port = free_port()?;
        let hooks = Iproxy::start(&format!("http://127.0.0.1:{decision_port}"))?;
        let hook = TokenHook { url: format!("{}/hydra/token-hook/corp", hooks.url()), api_key: hook_key().to_owned() };
        let hydra = HydraOptions {
            token_hook: Some(hook),
            storage: options.storage,
            extra: options.hydra,
            ..HydraOptions::default()
        };
        let plane = ControlPlaneOptions { audit: options.audit, ..ControlPlaneOptions::default() };
        let (plane, hydra) = tokio::try_join!(ControlPlane::start_with(&tools, plane), Hydra::start(&tools, hydra))?;
        let proxy = Iproxy::start(hydra.admin_url())?;

        install(&plane).await?;
        let provider = provider(&hydra, &proxy, &options.provider);
        plane.apply_yaml(&provider.to_string()).await?;
        let kproxy = if options.kproxy { Some(Kproxy::start(&plane)?) } else { None };
        let api_url = kproxy.as_ref().map_or_else(|| plane.url(), |proxy| proxy.url().to_owned());
        let kubeconfig = plane.kubeconfig_for_service_account_at(&api_url, "clientgrant-system", "clientgrant").await?;
        let operator = Operator::start(OperatorOptions {
            binary: options.binary,
            // As a container that is restarted in its pod: it need not wait for its own lease.
            args: [vec!["--identity=first".to_owned()], options.args].concat(),
            env: Vec::new(),
            kubeconfig: Some(kubeconfig),
            decision_port: Some(decision_port),
        })?;
        let bed = Self { operator, proxy, hooks, kproxy, hydra, plane };
        if options.operator {
            bed.ready().await?;
        } else {
            bed.operator.kill();
        }
        Ok(bed)
    }

    /// Waits until the operator is ready and the provider is connected.
    pub async fn ready(&self) -> Result<()> {
        self.operator.ready(Duration::from_secs(30)).await?;
        let ready = |o: &Value| condition(o, "Ready")["status"] == "True";
        self.wait("clusteridentityproviders/corp", "connected", Duration::from_secs(30), ready).await?;
        Ok(())
    }

    /// Starts another operator beside the first: the same program, account and flags, then `args`, on
    /// ports of its own. Hydra asks the first one only. It does not wait; see [`Operator::ready`].
    pub fn second_operator(&self, args: &[&str]) -> Result<Operator> {
        let mut options = self.operator.options().clone();
        options.args.retain(|arg| !arg.starts_with("--identity="));
        options.args.push("--identity=second".to_owned());
        options.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        options.decision_port = None;
        Operator::start(options)
    }

    /// Where consent apps ask.
    pub fn consent_url(&self) -> String {
        format!("{}/hydra/consent/corp", self.operator.decision_url())
    }

    /// A consent app that does what the operator says.
    pub fn honest(&self) -> ConsentApp {
        ConsentApp::honest(&self.consent_url(), consent_key())
    }

    /// A consent app that asks and then does something else.
    pub fn hostile(&self, mutate: impl Fn(&mut Value, &Value, &Value) + Send + Sync + 'static) -> ConsentApp {
        ConsentApp::hostile(&self.consent_url(), consent_key(), mutate)
    }

    /// A browser without cookies.
    pub fn browser(&self) -> Result<UserAgent> {
        UserAgent::new(&self.hydra)
    }

    /// Registers a client at Hydra, as an IdP owner would; `over` is merged over a usual registration.
    pub async fn client(&self, id: &str, over: Value) -> Result<OAuthClient> {
        self.hydra.admin().create_client(&registration(id, &over)).await?;
        self.oauth(id)
    }

    /// A client that is registered already.
    pub fn oauth(&self, id: &str) -> Result<OAuthClient> {
        Ok(OAuthClient::new(&self.hydra, id, client_secret())?.with_auth(crate::ClientAuth::Post))
    }

    /// Applies a grant: `{namespace, name, …spec}` over a usual spec.
    pub async fn grant(&self, namespace: &str, name: &str, spec: Value) -> Result<Value> {
        self.put(&format!("namespaces/{namespace}/clientgrants/{name}"), grant(namespace, name, &spec)).await
    }

    /// Server-side apply of a resource of our group, as GitOps does.
    pub async fn put(&self, path: &str, body: Value) -> Result<Value> {
        let url = format!("{GROUP}/{path}?fieldManager=gitops&force=true");
        let (status, answer) = self.raw(Method::PATCH, &url, Some((body, "application/apply-patch+yaml"))).await?;
        if !(200..300).contains(&status) {
            bail!("{path} was not taken ({status}): {}", answer["message"]);
        }
        Ok(answer)
    }

    /// A merge patch of a resource of our group.
    pub async fn patch(&self, path: &str, body: Value) -> Result<Value> {
        let (status, answer) =
            self.raw(Method::PATCH, &format!("{GROUP}/{path}"), Some((body, "application/merge-patch+json"))).await?;
        if !(200..300).contains(&status) {
            bail!("{path} was not patched ({status}): {}", answer["message"]);
        }
        Ok(answer)
    }

    /// Reads a resource of our group.
    pub async fn get(&self, path: &str) -> Result<Option<Value>> {
        match self.raw(Method::GET, &format!("{GROUP}/{path}"), None).await? {
            (200, answer) => Ok(Some(answer)),
            (404, _) => Ok(None),
            (status, answer) => bail!("{path} cannot be read ({status}): {}", answer["message"]),
        }
    }

    /// Deletes a resource of our group and does not wait until it is gone.
    pub async fn delete(&self, path: &str) -> Result<()> {
        match self.raw(Method::DELETE, &format!("{GROUP}/{path}"), None).await? {
            (200..=299 | 404, _) => Ok(()),
            (status, answer) => bail!("{path} cannot be deleted ({status}): {}", answer["message"]),
        }
    }

    /// [`ControlPlane::call`].
    pub async fn raw(&self, method: Method, path: &str, body: Option<(Value, &str)>) -> Result<(u16, Value)> {
        self.plane.call(method, path, body).await
    }

    /// What was written at Hydra through the proxy, the operator's own probe client aside.
    pub fn written(&self) -> Vec<Recorded> {
        let mut writes = self.proxy.writes();
        let probe = |r: &Recorded| {
            r.path().starts_with("/admin/clients/clientgrant-probe-") || r.body.contains("clientgrant.dev/probe-")
        };
        writes.retain(|r| !probe(r));
        writes
    }

    /// Hydra's calls of the token hook, the operator's own probes aside.
    pub fn hook_calls(&self) -> Vec<Recorded> {
        let mut calls = self.hooks.requests();
        calls.retain(|call| !is_probe(call));
        calls
    }

    /// What the operator's account has asked of the API server, oldest first, where
    /// [`BedOptions::audit`] is set: `verb resource[/subresource] [namespace/]name`.
    pub fn asked(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(self.plane.audit_log()).context("cannot read the audit log")?;
        let mut asked = Vec::new();
        // The last line may still be on its way.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let event: Value = serde_json::from_str(line).context("a line of the audit log is not JSON")?;
            if event["user"]["username"] != "system:serviceaccount:clientgrant-system:clientgrant" {
                continue;
            }
            let part = |name: &str| event["objectRef"][name].as_str().unwrap_or_default();
            let path: Vec<&str> =
                [part("resource"), part("subresource")].into_iter().filter(|p| !p.is_empty()).collect();
            let name: Vec<&str> = [part("namespace"), part("name")].into_iter().filter(|p| !p.is_empty()).collect();
            let verb = event["verb"].as_str().unwrap_or_default();
            asked.push(format!("{verb} {} {}", path.join("/"), name.join("/")));
        }
        Ok(asked)
    }

    /// Everything that the operator tells beside its log: what [`told`] reads, and metrics while it runs.
    pub async fn told(&self) -> Result<String> {
        let mut told = told(&self.plane).await?;
        if self.operator.process().is_alive() {
            told += &self.operator.metrics().await?;
        }
        Ok(told)
    }

    /// Waits until a resource of our group is as `holds` asks; `what` names it in the error.
    pub async fn wait(
        &self,
        path: &str,
        what: &str,
        timeout: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let end = Instant::now() + timeout;
        loop {
            let seen = self.get(path).await?.unwrap_or(Value::Null);
            if holds(&seen) {
                return Ok(seen);
            }
            if Instant::now() > end {
                bail!(
                    "{path} is not {what} after {timeout:?}: status {:#}\noperator:\n{}",
                    seen["status"],
                    tail(&self.operator.log())
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a grant's Ready condition has this reason for its newest generation.
    pub async fn reason(&self, namespace: &str, name: &str, reason: &str) -> Result<Value> {
        self.wait(&format!("namespaces/{namespace}/clientgrants/{name}"), reason, Duration::from_secs(20), |object| {
            let ready = condition(object, "Ready");
            ready["reason"] == reason && ready["observedGeneration"] == object["metadata"]["generation"]
        })
        .await
    }

    /// Waits until a grant awaits a consent and has nothing left to end. What a subject consents to before the second
    /// pass of an end ends with it.
    pub async fn cleared(&self, namespace: &str, name: &str) -> Result<()> {
        self.wait(
            &format!("namespaces/{namespace}/clientgrants/{name}"),
            "cleared",
            Duration::from_secs(20),
            |object| {
                object["status"]["revocation"].is_null() && condition(object, "Ready")["reason"] == "AwaitingConsent"
            },
        )
        .await
        .map(drop)
    }

    /// Waits until a resource of our group is gone.
    pub async fn gone(&self, path: &str) -> Result<()> {
        self.wait(path, "gone", Duration::from_secs(20), Value::is_null).await.map(drop)
    }
}

impl Drop for Bed {
    /// What the operator told is searched for secrets at the end of each test; see [`canary`]. A test that left
    /// the API server or the operator broken leaves nothing to search but the log.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let look = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), self.told()).await? })
        };
        // A thread of its own, since this one may belong to a runtime.
        let told = std::thread::scope(|threads| threads.spawn(look).join());
        if let Ok(Ok(told)) = told {
            canary::untold("the operator", &told);
        }
    }
}

/// Everything that an operator writes down at the API server: status and other fields of our kinds, its record
/// and Lease, and events.
pub async fn told(plane: &ControlPlane) -> Result<String> {
    let mut told = String::new();
    for (path, always) in TOLD.iter().map(|path| (path, true)).chain(MAYBE.iter().map(|path| (path, false))) {
        let (status, list) = plane.call(Method::GET, path, None).await?;
        if status == 404 && !always {
            continue;
        }
        if status != 200 {
            bail!("{path} cannot be read ({status}): {}", list["message"]);
        }
        told += &format!("{list:#}\n");
    }
    Ok(told)
}

/// How a client is registered at Hydra: `over` is merged over a usual registration.
pub fn registration(id: &str, over: &Value) -> Value {
    let mut client = json!({
        "client_id": id,
        "client_name": id,
        "client_secret": client_secret(),
        "scope": "openid offline_access",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "client_secret_post",
    });
    merge(&mut client, over);
    client
}

/// Whether a call of the token hook comes of the operator's own probe.
pub fn is_probe(call: &Recorded) -> bool {
    call.body.contains("clientgrant-probe-")
}

/// The newest lines of a log.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A condition of an object, or null.
pub fn condition<'o>(object: &'o Value, name: &str) -> &'o Value {
    let list = object["status"]["conditions"].as_array();
    list.and_then(|l| l.iter().find(|c| c["type"] == name)).unwrap_or(&Value::Null)
}

/// A whole ClientGrant: `spec` is merged over a usual one, and `null` takes a field away.
pub fn grant(namespace: &str, name: &str, spec: &Value) -> Value {
    let mut usual = json!({
        "providerRef": {"kind": "ClusterIdentityProvider", "name": "corp"},
        "clientID": "finance-reporting",
        "subject": {"kind": "User", "id": "ann"},
        "basis": "SubjectConsent",
        "scopes": ["openid", "offline_access", "transactions:read"],
        "purpose": {"id": "monthly-report", "description": "Read-only transactions for the monthly report"},
        "owner": {"team": "finance-data", "contact": "finance-data@example.com"},
        "expiresAt": "2199-01-01T00:00:00Z",
    });
    merge(&mut usual, spec);
    json!({
        "apiVersion": "clientgrant.dev/v1alpha1",
        "kind": "ClientGrant",
        "metadata": {"name": name, "namespace": namespace},
        "spec": usual,
    })
}

/// JSON merge patch (RFC 7396).
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        match target.as_object_mut() {
            Some(object) if value.is_null() => _ = object.remove(name),
            Some(object) => merge(object.entry(name.clone()).or_insert(Value::Null), value),
            None => {}
        }
    }
}

/// Applies the CRDs, the operator's account, its rights and the policies as the chart has them, its Secret,
/// and the namespaces.
pub async fn install(plane: &ControlPlane) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crds = root.join("../crds");
    let crds = crds.to_str().context("the path of the CRDs is not text")?;
    plane.kubectl(&["apply", "--server-side", "-f", crds]).await?;
    let established = ["wait", "--for=condition=Established", "--timeout=30s", "-f", crds];
    // Of one without any condition so far kubectl does not wait, but says that it cannot read them.
    let late = Instant::now() + Duration::from_secs(10);
    while let Err(error) = plane.kubectl(&established).await {
        ensure!(Instant::now() < late, "the definitions are not established: {error:#}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let helm = Helm::new(plane.tools())?;
    let templates = ["serviceaccount", "rbac", "policies"].map(|name| format!("--show-only=templates/{name}.yaml"));
    let account = helm.template(&templates.each_ref().map(String::as_str))?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hydra-hook", "namespace": "clientgrant-system"},
        "stringData": {"key": hook_key(), "consent-key": consent_key()},
    });
    let namespaces: String = ["clientgrant-system", "finance", "it"]
        .iter()
        .map(|n| format!("---\n{}\n", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}})))
        .collect();
    plane.apply_yaml(&format!("{namespaces}---\n{account}\n---\n{secret}\n")).await?;
    Ok(())
}

/// The cluster provider `corp`: Hydra behind the proxy; `over` is merged over its spec.
pub fn provider(hydra: &Hydra, proxy: &Iproxy, over: &Value) -> Value {
    let mut spec = json!({
        "issuer": hydra.issuer(),
        "mode": "Enforce",
        "insecureHTTP": true,
        "hydra": {
            "adminURL": proxy.url(),
            "tokenHook": {"apiKeySecretRef": {"name": "hydra-hook", "key": "key"}},
            "consent": {"apiKeySecretRef": {"name": "hydra-hook", "key": "consent-key"}},
        },
        "allow": [{"namespaces": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["finance", "it"]}]}}],
    });
    merge(&mut spec, over);
    json!({
        "apiVersion": "clientgrant.dev/v1alpha1",
        "kind": "ClusterIdentityProvider",
        "metadata": {"name": "corp"},
        "spec": spec,
    })
}
