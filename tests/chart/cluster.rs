//! On a real kube-apiserver: the commands of the README install the chart; it is upgraded, taken away and
//! brought back, and its roles allow what they should and nothing else.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use clientgrant_testbed::bed::grant;
use clientgrant_testbed::helm::Helm;
use clientgrant_testbed::{Authority, ControlPlane, KubectlOutput, RunDir, Tools};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{definitions, objects, root};

const NAMESPACE: &str = "clientgrant-system";

/// The cluster and who acts on it.
struct Cluster {
    plane: ControlPlane,
    helm: Helm,
    tools: Tools,
    dir: RunDir,
}

impl Cluster {
    async fn start() -> Self {
        let tools = Tools::find().unwrap();
        let mut plane = ControlPlane::start(&tools).await.unwrap();
        // It fills the role `view`, and makes pods of a Deployment.
        plane.start_controller_manager().await.unwrap();
        let helm = Helm::new(&tools).unwrap();
        let dir = RunDir::new("chart").unwrap();
        // What the README has lying about: the chart, a certificate and its key.
        symlink(root().join("charts"), dir.path().join("charts")).unwrap();
        let pair = Authority::new().unwrap().server().unwrap();
        dir.write("tls.crt", pair.cert).unwrap();
        dir.write("tls.key", pair.key).unwrap();
        Self { plane, helm, tools, dir }
    }

    /// Runs a piece of shell as a person would who has Helm, kubectl and a cluster.
    fn shell(&self, script: &str) -> String {
        let folder = |tool: &Path| tool.parent().unwrap().display().to_string();
        let path =
            format!("{}:{}:{}", folder(&self.tools.helm), folder(&self.tools.kubectl), std::env::var("PATH").unwrap());
        let mut command = self.helm.command();
        let helm_home = command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect::<Vec<_>>();
        command = std::process::Command::new("sh");
        command.envs(helm_home).env("PATH", path).env("KUBECONFIG", self.plane.kubeconfig());
        command.env("KUBECACHEDIR", self.dir.path().join("kubectl-cache"));
        let output = command.args(["-euc", script]).current_dir(self.dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{script}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    async fn kubectl(&self, line: &str) -> String {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.plane.kubectl(&args).await.unwrap()
    }

    async fn read(&self, path: &str) -> Option<Value> {
        match self.plane.call(Method::GET, path, None).await.unwrap() {
            (200, object) => Some(object),
            (404, _) => None,
            (status, answer) => panic!("{path}: {status} {answer}"),
        }
    }

    /// Waits until a look at the cluster holds.
    async fn wait(&self, what: &str, path: &str, holds: impl Fn(Option<&Value>) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let seen = self.read(path).await;
            if holds(seen.as_ref()) {
                return;
            }
            assert!(Instant::now() < end, "{what}: {seen:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Applies a grant as somebody.
    async fn request(&self, who: &str, namespace: &str, name: &str) -> KubectlOutput {
        let args = [format!("--as={who}"), "create".into(), "-f".into(), "-".into()];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.plane.kubectl_with_input(&args, &grant(namespace, name, &json!({})).to_string()).await.unwrap()
    }

    /// Whether somebody may do something: `verb resource [flags]`.
    async fn may(&self, who: &str, what: &str) -> bool {
        let line = format!("auth can-i {what} --as={who}");
        let args: Vec<&str> = line.split_whitespace().collect();
        let output = self.plane.kubectl_with_input(&args, "").await.unwrap();
        match output.stdout.trim() {
            "yes" => true,
            "no" => false,
            other => panic!("{line}: {other} {}", output.stderr),
        }
    }

    async fn bind(&self, kind: &str, name: &str, role: &str, who: &str, namespace: Option<&str>) {
        let namespace = namespace.map_or(String::new(), |n| format!("-n {n}"));
        self.kubectl(&format!("create {kind} {name} --clusterrole={role} --user={who} {namespace}")).await;
    }
}

/// A block of shell in a document, after a heading.
fn block(document: &str, heading: &str) -> String {
    let (_, rest) = document.split_once(heading).unwrap_or_else(|| panic!("no heading {heading}"));
    let (_, rest) = rest.split_once("```sh\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_on_a_real_server() {
    let cluster = Cluster::start().await;
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let install = block(&readme, "\n## Install with Helm\n");
    assert!(install.contains("helm install"));
    print!("{}", cluster.shell(&install));
    installed(&cluster).await;
    notes(&cluster).await;
    pods_are_restricted(&cluster).await;
    roles(&cluster).await;
    upgrade(&cluster).await;
    watched(&cluster).await;
    uninstall_and_come_back(&cluster, &install).await;
}

async fn installed(cluster: &Cluster) {
    let ours = definitions(&root().join("crds"));
    for (_, text) in &ours {
        let name = objects(text)[0]["metadata"]["name"].as_str().unwrap().to_owned();
        cluster.kubectl(&format!("wait --for=condition=Established --timeout=30s crd/{name}")).await;
        cluster.kubectl(&format!("get {name} -A")).await;
    }
    println!("{}", cluster.kubectl(&format!("-n {NAMESPACE} get deployment,service,pdb,serviceaccount,role")).await);
    let deployment =
        cluster.read(&format!("apis/apps/v1/namespaces/{NAMESPACE}/deployments/clientgrant")).await.unwrap();
    assert_eq!(deployment["spec"]["replicas"], 2);
    // They were admitted: nothing refused them on the way from the Deployment.
    let pods = format!("api/v1/namespaces/{NAMESPACE}/pods");
    cluster.wait("two pods", &pods, |l| l.is_some_and(|l| l["items"].as_array().is_some_and(|i| i.len() == 2))).await;
}

/// What the release tells whoever installed it can be done.
async fn notes(cluster: &Cluster) {
    let told = cluster.shell(&format!("helm get notes clientgrant -n {NAMESPACE}"));
    let commands: Vec<&str> = told.lines().filter(|line| line.starts_with("  kubectl ")).collect();
    assert_eq!(commands.len(), 3, "{told}");
    for command in commands {
        cluster.shell(command);
    }
    assert!(told.contains("https://clientgrant.clientgrant-system.svc:8443/hydra/token-hook/<provider>"), "{told}");
    assert!(!told.contains("No decisions") && !told.contains("No image") && !told.contains("One replica"), "{told}");
}

async fn pods_are_restricted(cluster: &Cluster) {
    let namespace = cluster.read(&format!("api/v1/namespaces/{NAMESPACE}")).await.unwrap();
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    let deployment =
        cluster.read(&format!("apis/apps/v1/namespaces/{NAMESPACE}/deployments/clientgrant")).await.unwrap();
    let template = deployment["spec"]["template"].clone();
    let dry_run = async |change: &dyn Fn(&mut Value)| {
        let mut pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
        pod["metadata"]["name"] = json!("dry");
        change(&mut pod["spec"]);
        let path = format!("api/v1/namespaces/{NAMESPACE}/pods?dryRun=All");
        cluster.plane.call(Method::POST, &path, Some((pod, "application/json"))).await.unwrap()
    };
    let (status, answer) = dry_run(&|_| {}).await;
    assert_eq!(status, 201, "{answer}");
    // The server really looks: each part taken away is missed.
    let changes: [&dyn Fn(&mut Value); 5] = [
        &|s| s["securityContext"]["runAsNonRoot"] = json!(false),
        &|s| s["securityContext"]["seccompProfile"] = Value::Null,
        &|s| s["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true),
        &|s| s["containers"][0]["securityContext"]["capabilities"] = Value::Null,
        &|s| s["hostNetwork"] = json!(true),
    ];
    for change in changes {
        let (status, answer) = dry_run(change).await;
        let said = answer["message"].as_str().unwrap_or_default();
        assert!(status == 403 && said.contains("violates PodSecurity \"restricted:latest\""), "{status} {answer}");
    }
}

async fn roles(cluster: &Cluster) {
    for namespace in ["finance", "it"] {
        cluster.kubectl(&format!("create namespace {namespace}")).await;
    }
    cluster.bind("rolebinding", "ann", "clientgrant-requester", "ann", Some("finance")).await;
    cluster.bind("rolebinding", "eve", "edit", "eve", Some("finance")).await;
    cluster.bind("rolebinding", "vic", "view", "vic", Some("finance")).await;
    cluster.bind("rolebinding", "adm", "admin", "adm", Some("finance")).await;
    cluster.bind("clusterrolebinding", "aud", "clientgrant-auditor", "aud", None).await;
    // A quarantine belongs to no namespace, and a RoleBinding gives no right to it.
    cluster.bind("clusterrolebinding", "qua", "clientgrant-quarantine", "qua", None).await;
    // The controller adds the viewer role to `view`.
    let view = "apis/rbac.authorization.k8s.io/v1/clusterroles/view";
    cluster
        .wait("view has it", view, |role| role.is_some_and(|r| r["rules"].to_string().contains("clientgrants")))
        .await;

    // For real, not only by asking.
    let made = cluster.request("ann", "finance", "reporting").await;
    assert!(made.success, "{}", made.stderr);
    for (who, namespace) in
        [("ann", "it"), ("eve", "finance"), ("vic", "finance"), ("adm", "finance"), ("aud", "finance")]
    {
        let made = cluster.request(who, namespace, "stray").await;
        assert!(!made.success && made.stderr.contains("forbidden"), "{who} in {namespace}: {}", made.stderr);
    }
    for (who, can, cannot) in [
        (
            "ann",
            &["create clientgrants.clientgrant.dev -n finance", "delete clientgrants.clientgrant.dev -n finance"][..],
            &[
                "get clientgrants.clientgrant.dev -n it",
                "patch clientgrants.clientgrant.dev --subresource=status -n finance",
                "create clientidentities.clientgrant.dev -n finance",
                "create identityproviders.clientgrant.dev -n finance",
                "create clientquarantines.clientgrant.dev -n finance",
                "get secrets -n finance",
            ][..],
        ),
        (
            "eve",
            &["get clientgrants.clientgrant.dev -n finance", "create configmaps -n finance"],
            &[
                "create clientgrants.clientgrant.dev -n finance",
                "patch clientgrants.clientgrant.dev -n finance",
                "create clientidentities.clientgrant.dev -n finance",
                "create identityproviders.clientgrant.dev -n finance",
                "delete clientquarantines.clientgrant.dev -n finance",
            ],
        ),
        (
            "vic",
            &["list clientgrants.clientgrant.dev -n finance", "watch clientidentities.clientgrant.dev -n finance"],
            &[
                "list clientgrants.clientgrant.dev -n it",
                "update clientgrants.clientgrant.dev -n finance",
                "list clientquarantines.clientgrant.dev",
            ],
        ),
        (
            "qua",
            &["create clientquarantines.clientgrant.dev", "list clientgrants.clientgrant.dev -n finance"],
            &["create clientgrants.clientgrant.dev -n finance", "create clusteridentityproviders.clientgrant.dev"],
        ),
    ] {
        for what in can {
            assert!(cluster.may(who, what).await, "{who} may not {what}");
        }
        for what in cannot {
            assert!(!cluster.may(who, what).await, "{who} may {what}");
        }
    }
    // Whoever audits reads every kind there is, and nothing besides.
    for (_, text) in definitions(&root().join("crds")) {
        let name = objects(&text)[0]["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(cluster.may("aud", &format!("list {name} -A")).await, "{name}: add it to the auditor's role");
        assert!(!cluster.may("aud", &format!("patch {name} -A")).await, "{name}");
    }
    assert!(!cluster.may("aud", "list secrets -A").await);
    assert_eq!(cluster.kubectl("get clientgrants.clientgrant.dev -A --no-headers").await.lines().count(), 1);
}

async fn upgrade(cluster: &Cluster) {
    let path = format!("apis/apps/v1/namespaces/{NAMESPACE}/deployments/clientgrant");
    let crd = "apis/apiextensions.k8s.io/v1/customresourcedefinitions/clientgrants.clientgrant.dev";
    let before = (cluster.read(&path).await.unwrap(), cluster.read(crd).await.unwrap());
    let same = format!("helm upgrade clientgrant charts/clientgrant -n {NAMESPACE} --reuse-values");
    cluster.shell(&same);
    let after = (cluster.read(&path).await.unwrap(), cluster.read(crd).await.unwrap());
    assert_eq!(after.0["metadata"]["generation"], before.0["metadata"]["generation"], "nothing is rolled for nothing");
    assert_eq!(after.1["metadata"]["generation"], before.1["metadata"]["generation"]);
    cluster.shell(&format!("{same} --set replicas=3 --set operator.workers=8"));
    let after = cluster.read(&path).await.unwrap();
    assert_eq!(after["spec"]["replicas"], 3);
    let args = after["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
    assert!(args.contains("--workers=8") && args.contains("--decision-tls-cert="), "{args}");
    // An upgrade with values that are wrong changes nothing.
    let wrong = ["upgrade", "clientgrant", "charts/clientgrant", "-n", NAMESPACE, "--set", "replica=9"];
    let chart = root().join("charts/clientgrant");
    let wrong = wrong.map(|arg| if arg == "charts/clientgrant" { chart.to_str().unwrap() } else { arg });
    let output = cluster.helm.run_on(&cluster.plane, &wrong).await.unwrap();
    assert!(!output.success && output.stderr.contains("replica"), "{}", output.stderr);
    assert_eq!(cluster.read(&path).await.unwrap()["spec"]["replicas"], 3);
    println!("{}", cluster.shell(&format!("helm history clientgrant -n {NAMESPACE}")));
}

/// Rules come with the Prometheus Operator, and their absence is said.
async fn watched(cluster: &Cluster) {
    let upgrade = format!(
        "helm upgrade clientgrant charts/clientgrant -n {NAMESPACE} --reuse-values \
         --set prometheusRule.enabled=true --set dashboards.enabled=true"
    );
    let told = cluster.shell(&upgrade);
    assert!(told.contains("does not serve PrometheusRules"), "{told}");
    let maps =
        cluster.read(&format!("api/v1/namespaces/{NAMESPACE}/configmaps?labelSelector=grafana_dashboard=1")).await;
    assert_eq!(maps.unwrap()["items"].as_array().unwrap().len(), 3);
    let kind = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "prometheusrules.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "names": {"kind": "PrometheusRule", "plural": "prometheusrules", "singular": "prometheusrule"},
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    });
    cluster.plane.apply_yaml(&kind.to_string()).await.unwrap();
    cluster.kubectl("wait --for=condition=Established --timeout=30s crd/prometheusrules.monitoring.coreos.com").await;
    let told = cluster.shell(&upgrade);
    assert!(!told.contains("does not serve"), "{told}");
    let rule = format!("apis/monitoring.coreos.com/v1/namespaces/{NAMESPACE}/prometheusrules/clientgrant");
    let groups = cluster.read(&rule).await.expect("the rules")["spec"]["groups"].as_array().unwrap().len();
    assert_eq!(groups, 4);
}

async fn uninstall_and_come_back(cluster: &Cluster, install: &str) {
    cluster.shell(&format!("helm uninstall clientgrant -n {NAMESPACE}"));
    let gone = [
        format!("apis/apps/v1/namespaces/{NAMESPACE}/deployments/clientgrant"),
        format!("api/v1/namespaces/{NAMESPACE}/serviceaccounts/clientgrant"),
        format!("apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/clientgrant"),
        "apis/rbac.authorization.k8s.io/v1/clusterroles/clientgrant".into(),
        "apis/rbac.authorization.k8s.io/v1/clusterroles/clientgrant-requester".into(),
        "apis/rbac.authorization.k8s.io/v1/clusterrolebindings/clientgrant".into(),
    ];
    for path in &gone {
        cluster.wait("gone", path, |object| object.is_none()).await;
    }
    let grant = "apis/clientgrant.dev/v1alpha1/namespaces/finance/clientgrants/reporting";
    let uid = cluster.read(grant).await.expect("the grant stays")["metadata"]["uid"].clone();
    println!("{}", cluster.kubectl("get crd,clientgrants.clientgrant.dev -A").await);
    // The namespace and the Secret are there from the first time.
    let again = install.find("helm install").unwrap();
    cluster.shell(&install[again..]);
    for path in &gone {
        assert!(cluster.read(path).await.is_some(), "{path}");
    }
    assert_eq!(cluster.read(grant).await.unwrap()["metadata"]["uid"], uid);
}
