//! The proxy in front of a real kube-apiserver.

mod common;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clientgrant_testbed::{Action, ControlPlane, Kproxy, Process, RunDir, Side, kill_at};
use common::tools;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const SECOND: Duration = Duration::from_secs(1);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const ROBOT: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: robot}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: robot, namespace: default}]
";

/// One control plane for all tests; each has objects and a proxy of its own.
static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();

async fn plane() -> &'static ControlPlane {
    let start = async || {
        let plane = ControlPlane::start(&tools()).await.unwrap();
        plane.apply_yaml(ROBOT).await.unwrap();
        plane
    };
    PLANE.get_or_init(start).await
}

struct Setup {
    plane: &'static ControlPlane,
    proxy: Kproxy,
    /// What kubectl needs to go through the proxy.
    kubeconfig: String,
    http: reqwest::Client,
    token: String,
}

impl Setup {
    async fn new() -> Self {
        let plane = plane().await;
        let proxy = Kproxy::start(plane).unwrap();
        let path = proxy.kubeconfig(plane, "default", "robot").await.unwrap();
        let config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], proxy.url());
        let ca = reqwest::Certificate::from_pem(plane.ca_pem().as_bytes()).unwrap();
        let http = clientgrant_testbed::net::http().tls_certs_only([ca]).timeout(5 * SECOND).build().unwrap();
        let token = config["users"][0]["user"]["token"].as_str().unwrap().to_owned();
        Self { plane, proxy, kubeconfig: format!("--kubeconfig={}", path.display()), http, token }
    }

    /// Through the proxy.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.proxy.url())).bearer_auth(&self.token)
    }

    async fn create(&self, name: &str) -> reqwest::Result<Response> {
        let body = json!({"metadata": {"name": name}}).to_string();
        self.request(Method::POST, MAPS).header("content-type", "application/json").body(body).send().await
    }

    /// Past the proxy.
    async fn exists(&self, name: &str) -> bool {
        let args = ["get", "configmap", name, "--ignore-not-found", "--output=name"];
        !self.plane.kubectl(&args).await.unwrap().is_empty()
    }

    /// Past the proxy.
    async fn touch(&self, name: &str, value: &str) {
        let data = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"v": value}});
        self.plane.apply_yaml(&data.to_string()).await.unwrap();
    }

    /// Watches one object from now on.
    async fn watch(&self, name: &str) -> Response {
        let list: Value = serde_json::from_str(
            &self.request(Method::GET, MAPS).send().await.unwrap().error_for_status().unwrap().text().await.unwrap(),
        )
        .unwrap();
        self.try_watch(name, list["metadata"]["resourceVersion"].as_str().unwrap()).await.unwrap()
    }

    async fn try_watch(&self, name: &str, version: &str) -> reqwest::Result<Response> {
        let query = format!("watch=true&resourceVersion={version}&fieldSelector=metadata.name%3D{name}");
        self.request(Method::GET, &format!("{MAPS}?{query}")).send().await
    }
}

/// The next event of a watch, of which only one is under way.
async fn event(watch: &mut Response, within: Duration) -> Option<Value> {
    let part = tokio::time::timeout(within, watch.chunk()).await.ok()?;
    Some(serde_json::from_slice(&part.expect("the watch goes on").expect("the watch goes on")).unwrap())
}

#[tokio::test]
async fn lists_and_applies() {
    let setup = Setup::new().await;
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}}).to_string();
    let args = ["apply", "--server-side", "-f", "-", &setup.kubeconfig];
    let output = setup.plane.kubectl_with_input(&args, &manifest).await.unwrap();
    assert!(output.success, "{}", output.stderr);
    assert!(setup.exists("applied").await);
    let listed = setup.plane.kubectl(&["get", "configmaps", "--output=name", &setup.kubeconfig]).await.unwrap();
    assert!(listed.contains("configmap/applied"), "{listed}");
    let whoami = ["auth", "whoami", "--output=jsonpath={.status.userInfo.username}", &setup.kubeconfig];
    assert_eq!(setup.plane.kubectl(&whoami).await.unwrap(), "system:serviceaccount:default:robot");
    let patch = setup.proxy.requests().into_iter().find(|r| r.method == "PATCH").unwrap();
    assert!(patch.agent.starts_with("kubectl/") && patch.path() == format!("{MAPS}/applied"), "{patch:?}");
    assert!(patch.is_write() && !patch.is_watch() && patch.body.contains("applied"), "{patch:?}");
}

#[tokio::test]
async fn reads_lag_behind() {
    let setup = Setup::new().await;
    let path = format!("{MAPS}/lagging");
    let read = async || setup.request(Method::GET, &path).send().await.unwrap().status().as_u16();
    assert_eq!(read().await, 404);
    setup.proxy.stale_reads(true);
    assert_eq!(setup.create("lagging").await.unwrap().status().as_u16(), 201);
    assert_eq!(read().await, 404);
    // Another representation is another question.
    let table = setup.request(Method::GET, &path).header("accept", "application/yaml").send().await.unwrap();
    assert_eq!(table.status().as_u16(), 200);
    setup.proxy.stale_reads(false);
    assert_eq!(read().await, 200);
}

#[tokio::test]
async fn watches_flow() {
    let setup = Setup::new().await;
    let mut watch = setup.watch("flowing").await;
    for (value, kind) in [("1", "ADDED"), ("2", "MODIFIED")] {
        setup.touch("flowing", value).await;
        let seen = event(&mut watch, SECOND).await.expect("an event within a second");
        assert_eq!((&seen["type"], &seen["object"]["data"]["v"]), (&json!(kind), &json!(value)));
    }
    assert!(event(&mut watch, SECOND / 4).await.is_none());
    let is_open = |r: &clientgrant_testbed::Recorded| r.is_watch() && r.response_bytes > 100;
    let seen = setup.proxy.wait_for(is_open, SECOND).await.unwrap();
    assert_eq!((seen.status, seen.is_write()), (Some(200), false));
}

#[tokio::test]
async fn watches_freeze_and_thaw() {
    let setup = Setup::new().await;
    let mut watch = setup.watch("frozen").await;
    let mut other = setup.watch("lively").await;
    setup.proxy.freeze_watches_if(|r| r.path_and_query.contains("frozen"));
    setup.touch("frozen", "1").await;
    setup.touch("lively", "1").await;
    assert!(event(&mut other, SECOND).await.is_some(), "only the matching ones are frozen");
    assert!(event(&mut watch, SECOND / 2).await.is_none());
    setup.proxy.freeze_watches(true);
    let mut late = setup.watch("lively").await;
    setup.touch("lively", "2").await;
    assert!(event(&mut late, SECOND / 2).await.is_none(), "a new one is frozen, too");
    setup.proxy.freeze_watches(false);
    for watch in [&mut watch, &mut other, &mut late] {
        assert!(event(watch, SECOND).await.is_some(), "nothing is lost");
    }
    // A frozen one can be closed, and never says what it has held back.
    setup.proxy.freeze_watches(true);
    setup.touch("frozen", "2").await;
    assert!(event(&mut watch, SECOND / 4).await.is_none());
    setup.proxy.close_watches();
    assert!(!watch.chunk().await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn watches_are_closed() {
    let setup = Setup::new().await;
    let mut watch = setup.watch("closed").await;
    setup.touch("closed", "1").await;
    assert!(event(&mut watch, SECOND).await.is_some());
    let start = Instant::now();
    setup.proxy.close_watches();
    assert!(!watch.chunk().await.unwrap_err().is_timeout());
    assert!(start.elapsed() < SECOND);
    let mut again = setup.watch("closed").await;
    setup.touch("closed", "2").await;
    assert!(event(&mut again, SECOND).await.is_some(), "a new one flows");
}

#[tokio::test]
async fn rules_break_watches() {
    let setup = Setup::new().await;
    let rule =
        |action: Action| setup.proxy.set_rule(move |r| if r.is_watch() { action.clone() } else { Action::Forward });
    rule(Action::Blackhole);
    let silent = tokio::time::timeout(SECOND / 2, setup.try_watch("ruled", "0")).await;
    assert!(silent.is_err(), "accepted, and not a byte");
    rule(Action::DropResponse);
    setup.touch("ruled", "1").await;
    let mut begun = setup.try_watch("ruled", "0").await.unwrap();
    assert_eq!(begun.status().as_u16(), 200);
    assert!(!begun.chunk().await.unwrap_err().is_timeout(), "it ends before its first event");
    rule(Action::Truncate(10));
    let mut cut = setup.try_watch("ruled", "0").await.unwrap();
    assert_eq!(cut.chunk().await.unwrap().unwrap().len(), 10);
    assert!(!cut.chunk().await.unwrap_err().is_timeout());
    rule(Action::Answer(410, r#"{"kind":"Status","code":410,"reason":"Expired"}"#.to_owned()));
    assert_eq!(setup.try_watch("ruled", "1").await.unwrap().status().as_u16(), 410);
    setup.proxy.clear_rule();
    assert!(event(&mut setup.try_watch("ruled", "0").await.unwrap(), SECOND).await.is_some());
}

#[tokio::test]
async fn answers_itself() {
    let setup = Setup::new().await;
    for status in [409, 429, 500] {
        let headers = vec![("Retry-After".to_owned(), "1".to_owned())];
        let body = json!({"kind": "Status", "code": status}).to_string();
        setup.proxy.set_rule(move |_| Action::AnswerWith(status, headers.clone(), body.clone()));
        let answer = setup.create("answered").await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (status, &"1".parse().unwrap()));
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(body["code"], status);
    }
    assert!(!setup.exists("answered").await);
}

#[tokio::test]
async fn requests_and_responses_are_lost() {
    let setup = Setup::new().await;
    setup.proxy.set_rule(|_| Action::DropRequest);
    assert!(setup.create("lost").await.is_err());
    assert!(!setup.exists("lost").await);
    setup.proxy.set_rule(|_| Action::DropResponse);
    assert!(setup.create("lost").await.is_err());
    assert!(setup.exists("lost").await, "it did happen");
    setup.proxy.set_rule(|_| Action::Twice);
    assert_eq!(setup.create("twice").await.unwrap().status().as_u16(), 409);
    assert!(setup.exists("twice").await);
    setup.proxy.set_rule(|_| Action::Truncate(20));
    let cut = setup.create("cut").await.unwrap();
    assert_eq!(cut.status().as_u16(), 201);
    assert!(!cut.bytes().await.unwrap_err().is_timeout());
    assert!(setup.exists("cut").await);
}

#[tokio::test]
async fn a_process_is_killed_at_an_exact_request() {
    let setup = Setup::new().await;
    let dir = RunDir::new("victim").unwrap();
    for (side, name, happened) in [(Side::Before, "killed-before", false), (Side::After, "killed-after", true)] {
        let mut command = Command::new("sleep");
        command.arg("300");
        let victim = Arc::new(Process::spawn(&dir, "victim", command).unwrap());
        setup.proxy.clear();
        kill_at(&setup.proxy, 2, side, Arc::clone(&victim));
        setup.request(Method::GET, MAPS).send().await.unwrap();
        assert!(victim.is_alive());
        assert!(setup.create(name).await.is_err(), "nobody hears the answer");
        assert!(!victim.is_alive());
        assert_eq!(setup.exists(name).await, happened);
        assert_eq!(setup.create(name).await.unwrap().status().is_success(), !happened, "the switch works once");
        setup.proxy.clear();
        kill_at(&setup.proxy, 1, side, victim);
        setup.request(Method::GET, MAPS).send().await.expect("it was dead before");
    }
}
