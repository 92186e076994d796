//! The operator as Helm installs it: its pods run as processes with exactly the arguments, the account and the
//! rights that the chart gives them, on a real kube-apiserver and a real Hydra that asks them over HTTPS.
//!
//! One cluster for the whole story, because a release has one; each step says what it leaves.

mod grants;
mod policies;
mod rights;
mod rolling;
mod single;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clientgrant_testbed::bed::{self, CALLBACK, GROUP, condition};
use clientgrant_testbed::canary::{self, client_secret, consent_key, hook_key};
use clientgrant_testbed::helm::{Helm, chart};
use clientgrant_testbed::{
    AuthRequest, Authority, ClientAuth, ConsentApp, ControlPlane, ControlPlaneOptions, Hydra, HydraOptions, Iproxy,
    KubectlOutput, Kubelet, OAuthClient, RunDir, TokenHook, Tools, UserAgent,
};
use reqwest::Method;
use serde_json::{Value, json};

const NAMESPACE: &str = "clientgrant-system";
const SCOPE: &str = "openid offline_access transactions:read";
const OPERATOR: &str = "system:serviceaccount:clientgrant-system:clientgrant";
const LONG: Duration = Duration::from_secs(60);

/// Everything that the story needs.
struct Installed {
    kubelet: Kubelet,
    hydra: Hydra,
    /// Between the operator and Hydra's admin API.
    proxy: Iproxy,
    helm: Helm,
    plane: ControlPlane,
    authority: Authority,
    /// What stands for the Service's port of decisions.
    decisions: u16,
    dir: RunDir,
}

impl Installed {
    /// A cluster in which the README's first steps were taken, and Hydra that asks where decisions will be.
    async fn start() -> Self {
        let tools = Tools::find().unwrap();
        let options = ControlPlaneOptions { audit: true, ..ControlPlaneOptions::default() };
        let mut plane = ControlPlane::start_with(&tools, options).await.unwrap();
        plane.start_controller_manager().await.unwrap();
        let kubelet = Kubelet::start(&plane, env!("CARGO_BIN_EXE_clientgrant")).await.unwrap();
        let decisions = kubelet.forward(NAMESPACE, 8443).await.unwrap();
        let (authority, dir) = (Authority::new().unwrap(), RunDir::new("installed").unwrap());
        let url = format!("https://127.0.0.1:{decisions}/hydra/token-hook/corp");
        let options = HydraOptions {
            token_hook: Some(TokenHook { url, api_key: hook_key().into() }),
            trust: Some(dir.write("authority.pem", authority.pem()).unwrap()),
            ..HydraOptions::default()
        };
        let hydra = Hydra::start(&tools, options).await.unwrap();
        let proxy = Iproxy::start(hydra.admin_url()).unwrap();
        let helm = Helm::new(&tools).unwrap();
        let all = Self { kubelet, hydra, proxy, helm, plane, authority, decisions, dir };

        let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let pair = all.authority.server().unwrap();
        for object in [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": restricted}}),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "finance"}}),
            secret("decisions-tls", "kubernetes.io/tls", json!({"tls.crt": pair.cert, "tls.key": pair.key})),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "roots", "namespace": NAMESPACE},
                "data": {"all.pem": all.authority.pem()}}),
            secret("hydra-hook", "Opaque", json!({"key": hook_key(), "consent-key": consent_key()})),
            // Nobody is to read it.
            secret("somebody-elses", "Opaque", json!({"key": canary::random("a Secret of somebody else")})),
        ] {
            all.plane.apply_yaml(&object.to_string()).await.unwrap();
        }
        all
    }

    async fn helm(&self, line: &str, more: &[&str]) -> KubectlOutput {
        let args: Vec<&str> = line.split_whitespace().chain(more.iter().copied()).collect();
        self.helm.run_on(&self.plane, &args).await.unwrap()
    }

    /// Helm's words, where it succeeds.
    async fn helm_does(&self, line: &str, more: &[&str]) -> String {
        let begun = Instant::now();
        let output = self.helm(line, more).await;
        assert!(output.success, "helm {line}\n{}{}\n{}", output.stdout, output.stderr, self.logs());
        println!("{:>5.1} s  helm {line}", begun.elapsed().as_secs_f64());
        output.stdout
    }

    /// Installs the chart, or upgrades to it, and waits until Helm calls it ready.
    async fn release(&self, verb: &str, chart: &str, more: &[&str]) {
        self.helm_does(&format!("{verb} clientgrant {chart} -n {NAMESPACE} --wait --timeout 60s"), more).await;
    }

    async fn kubectl(&self, line: &str) -> String {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.plane.kubectl(&args).await.unwrap()
    }

    /// A patch as somebody, of which nothing stays.
    async fn tries(&self, who: &str, object: &str, more: &str, patch: Value) -> KubectlOutput {
        let patch = patch.to_string();
        let line = format!("patch {object} --type=merge --dry-run=server --as={who} {more} -p");
        let args: Vec<&str> = line.split_whitespace().chain([patch.as_str()]).collect();
        self.plane.kubectl_with_input(&args, "").await.unwrap()
    }

    async fn read(&self, path: &str) -> Option<Value> {
        match self.plane.call(Method::GET, path, None).await.unwrap() {
            (200, object) => Some(object),
            (404, _) => None,
            (status, answer) => panic!("{path}: {status} {answer}"),
        }
    }

    /// Waits until an object is as it should be.
    async fn wait(&self, path: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + LONG;
        loop {
            let seen = self.read(path).await.unwrap_or(Value::Null);
            if holds(&seen) {
                return seen;
            }
            assert!(Instant::now() < end, "{path} is not {what}: {:#}\n{}", seen["status"], self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a grant is Ready for this reason in its newest generation.
    async fn reason(&self, name: &str, reason: &str) -> Value {
        self.wait(&format!("{GROUP}/namespaces/finance/clientgrants/{name}"), reason, |o| is(o, reason)).await
    }

    async fn apply(&self, object: Value) {
        self.plane.apply_yaml(&object.to_string()).await.unwrap();
    }

    /// What the pods that run now have said last.
    fn logs(&self) -> String {
        let log = |pod: clientgrant_testbed::Seen| bed::tail(&self.kubelet.log(&pod.namespace, &pod.name));
        self.kubelet.pods().into_iter().map(log).collect::<Vec<_>>().join("\n---\n")
    }

    /// The names of the pods in the operator's namespace that are ready.
    fn ready_pods(&self) -> Vec<String> {
        let ready = self.kubelet.pods().into_iter().filter(|pod| pod.ready && pod.namespace == NAMESPACE);
        ready.map(|pod| pod.name).collect()
    }

    /// A client at Hydra.
    async fn client(&self, id: &str, over: Value) -> OAuthClient {
        self.hydra.admin().create_client(&bed::registration(id, &over)).await.unwrap();
        OAuthClient::new(&self.hydra, id, client_secret()).unwrap().with_auth(ClientAuth::Post)
    }

    /// An access token, by ann's consent through an app that asks the operator over HTTPS.
    async fn token(&self, client: &OAuthClient) -> String {
        let url = format!("https://127.0.0.1:{}/hydra/consent/corp", self.decisions);
        let app = ConsentApp::honest_over_tls(&url, consent_key(), &self.authority.pem());
        let request = AuthRequest::new(client.id(), CALLBACK, SCOPE, "ann");
        let outcome = UserAgent::new(&self.hydra).unwrap().authorize(&request, &app).await.unwrap();
        let code = outcome.code().unwrap_or_else(|| panic!("no code: {:?}\n{}", outcome.params, self.logs()));
        let token = client.exchange_code(code, CALLBACK).await.unwrap();
        token.access_token().unwrap_or_else(|| panic!("{}\n{}", token.json, self.logs())).to_owned()
    }
}

/// Whether an object is Ready for this reason in its newest generation.
fn is(object: &Value, reason: &str) -> bool {
    let ready = condition(object, "Ready");
    ready["reason"] == reason && ready["observedGeneration"] == object["metadata"]["generation"]
}

fn secret(name: &str, kind: &str, data: Value) -> Value {
    let metadata = json!({"name": name, "namespace": NAMESPACE});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": data})
}

fn path(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_as_helm_installs_it() {
    let begun = Instant::now();
    let all = Installed::start().await;
    let (ours, ha) = (path(chart()), path(chart().join("values-ha.yaml")));
    let usual = [
        "--values",
        ha.as_str(),
        "--set",
        "decision.tls.secretName=decisions-tls,trust.configMapName=roots,trust.key=all.pem",
    ];

    all.release("install", &ours, &usual).await;
    assert_eq!(all.ready_pods().len(), 2, "Helm waited for both");
    let granted = first_steps(&all).await;
    grants::charts_with_grants(&all).await;
    rolling::definitions_and_pods_change_under_load(&all).await;
    policies::who_writes_what(&all, &ours).await;
    rights::exactly_what_is_used(&all).await;
    canary::untold("the operator", &bed::told(&all.plane).await.unwrap());

    let left = all.helm_does(&format!("uninstall clientgrant -n {NAMESPACE} --wait"), &[]).await;
    assert!(
        left.contains("kept due to the resource policy") && left.contains("clientgrants.clientgrant.dev"),
        "{left}"
    );
    all.wait(&format!("api/v1/namespaces/{NAMESPACE}/pods"), "empty", |l| l["items"] == json!([])).await;
    grants::nobody_looks(&all).await;
    let before = all.reason("reporting", "Granted").await;
    all.release("install", &ours, &usual).await;
    let found = all.reason("reporting", "Granted").await;
    assert_eq!(found["metadata"]["uid"], before["metadata"]["uid"]);
    assert!(all.hydra.admin().is_active(&granted).await.unwrap(), "the token goes on");
    all.wait(&format!("{GROUP}/namespaces/finance/clientgrants/unseen"), "looked at", |o| is(o, "AwaitingConsent"))
        .await;
    all.helm_does(&format!("uninstall clientgrant -n {NAMESPACE} --wait"), &[]).await;

    // Nothing tells Helm that it is ready where it cannot be.
    let line = format!("install clientgrant {ours} -n {NAMESPACE} --wait --timeout 8s --set rbac.create=false");
    let output = all.helm(&line, &[]).await;
    assert!(
        !output.success && output.stderr.contains("Deployment/clientgrant-system/clientgrant not ready"),
        "{output:?}"
    );
    all.helm_does(&format!("uninstall clientgrant -n {NAMESPACE} --wait"), &[]).await;

    single::without_a_right_beyond_its_namespaces(&all, &ours).await;
    println!("all: {:?}", begun.elapsed());
}

/// The story of the demo, as far as an Active grant.
async fn first_steps(all: &Installed) -> String {
    let own = json!({"scope": "ledger:read", "grant_types": ["client_credentials"]});
    let own = all.client("batch", own).await;
    let reporting = all.client("finance-reporting", json!({"scope": format!("{SCOPE} admin")})).await;
    let over = json!({"adoption": "Automatic", "unmanagedClients": "Deny", "driftCheckInterval": "1s"});
    all.apply(bed::provider(&all.hydra, &all.proxy, &over)).await;
    let corp = format!("{GROUP}/clusteridentityproviders/corp");
    all.wait(&corp, "called", |o| condition(o, "TokenHook")["reason"] == "Called").await;
    all.wait(&corp, "ready", |o| condition(o, "Ready")["status"] == "True").await;
    all.apply(bed::grant("finance", "reporting", &json!({}))).await;
    all.reason("reporting", "AwaitingConsent").await;
    let token = all.token(&reporting).await;
    let granted = all.reason("reporting", "Granted").await;
    assert_eq!(condition(&granted, "Active")["status"], "True");
    assert!(all.hydra.admin().is_active(&token).await.unwrap());
    let batch = json!({"clientID": "batch", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    all.apply(bed::grant("finance", "batch", &batch)).await;
    all.reason("batch", "Granted").await;
    assert!(own.client_credentials("ledger:read", "").await.unwrap().access_token().is_some());
    println!("{}", all.kubectl("get clientgrants.clientgrant.dev -A").await);
    println!("{}", all.kubectl(&format!("get pods -n {NAMESPACE}")).await);
    token
}
