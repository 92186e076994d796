//! The test bed tested on the real servers.

mod common;

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clientgrant_testbed::bed::{Bed, BedOptions};
use clientgrant_testbed::scale::Fleet;
use clientgrant_testbed::{
    AuthRequest, ClientAuth, ConsentApp, ControlPlane, Hydra, HydraOptions, Operator, OperatorOptions, Process, RunDir,
    TokenHook, UserAgent, free_port,
};
use common::{Hook, REDIRECT, client, sqlite_hydra, tools};
use serde_json::json;

const CONFIG_MAP: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: example, namespace: default}
data: {key: value}
";

#[tokio::test]
async fn control_plane_serves_and_keeps_its_data() {
    let mut plane = ControlPlane::start(&tools()).await.unwrap();
    assert!(plane.kubectl(&["version"]).await.unwrap().contains("Server Version: v1.36.3"));
    plane.apply_yaml(CONFIG_MAP).await.unwrap();
    plane.stop_apiserver();
    assert!(plane.kubectl(&["version", "--request-timeout=2s"]).await.is_err());
    plane.start_apiserver().await.unwrap();
    let read = ["get", "configmap", "example", "--output=jsonpath={.data.key}"];
    assert_eq!(plane.kubectl(&read).await.unwrap(), "value");

    plane.pause().unwrap();
    assert!(plane.kubectl(&["get", "ns", "--request-timeout=1s"]).await.is_err());
    plane.resume().unwrap();
    plane.kubectl(&["get", "ns"]).await.unwrap();

    let refused = plane.apply_yaml("{apiVersion: v1, kind: Nothing, metadata: {name: x}}").await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("Nothing"));
}

#[tokio::test]
async fn control_plane_knows_users_and_service_accounts() {
    let mut plane = ControlPlane::start(&tools()).await.unwrap();
    let jane = plane.kubeconfig_for("jane", &["staff", "reviewers"]).unwrap();
    let who = "--output=jsonpath={.status.userInfo.username} {.status.userInfo.groups}";
    let kubeconfig = |path: &Path| format!("--kubeconfig={}", path.display());
    let said = plane.kubectl(&["auth", "whoami", who, &kubeconfig(&jane)]).await.unwrap();
    assert!(said.starts_with("jane") && said.contains("staff") && said.contains("reviewers"));
    let denied = plane.kubectl_with_input(&["get", "pods", &kubeconfig(&jane)], "").await.unwrap();
    assert!(denied.stderr.contains("Forbidden"), "{}", denied.stderr);

    plane.start_controller_manager().await.unwrap();
    plane.kubectl(&["create", "namespace", "team"]).await.unwrap();
    plane.kubectl(&["create", "serviceaccount", "robot", "-n", "team"]).await.unwrap();
    let robot = plane.kubeconfig_for_service_account("team", "robot").await.unwrap();
    let said = plane.kubectl(&["auth", "whoami", who, &kubeconfig(&robot)]).await.unwrap();
    assert!(said.starts_with("system:serviceaccount:team:robot"), "{said}");
    // Only the controller manager ends a namespace.
    plane.kubectl(&["delete", "namespace", "team", "--timeout=60s"]).await.unwrap();
}

#[tokio::test]
async fn hydra_issues_and_keeps_tokens_over_a_restart() {
    let mut hydra = sqlite_hydra().await;
    let client = client(&hydra, "shop").await;
    let outcome = client.client_credentials("read", "").await.unwrap();
    let token = outcome.access_token().unwrap();
    assert_eq!(outcome.scopes(), ["read"]);
    assert!(hydra.admin().is_active(token).await.unwrap());
    hydra.restart().await.unwrap();
    assert!(hydra.admin().is_active(token).await.unwrap());
    let basic = client.clone().with_auth(ClientAuth::Basic);
    let refused = basic.client_credentials("read", "").await.unwrap();
    assert_eq!(refused.error(), Some("invalid_client"), "registered for client_secret_post");
    assert!(!hydra.admin().is_active("nonsense").await.unwrap());
    hydra.admin().revoke_client_tokens("shop").await.unwrap();
    assert!(!hydra.admin().is_active(token).await.unwrap());
}

#[tokio::test]
async fn hydra_issues_nothing_without_its_hook() {
    let url = format!("http://127.0.0.1:{}/", free_port().unwrap());
    let token_hook = Some(TokenHook { url, api_key: "unused".to_owned() });
    let options = HydraOptions { token_hook, ..HydraOptions::default() };
    let hydra = Hydra::start(&tools(), options).await.unwrap();
    let client = client(&hydra, "shop").await;
    let outcome = client.client_credentials("read", "").await.unwrap();
    assert_eq!(outcome.error(), Some("server_error"), "{outcome:?}");
}

#[tokio::test]
async fn hook_decides_and_consumes_nothing_when_it_says_no() {
    let hook = Hook::start().await;
    let hydra = Hydra::start(&tools(), hook.options()).await.unwrap();
    let client = client(&hydra, "shop").await;
    let browser = UserAgent::new(&hydra).unwrap();
    let request = AuthRequest::new("shop", REDIRECT, "openid offline_access read", "ann");
    let outcome = browser.authorize(&request, &ConsentApp::grant_all()).await.unwrap();
    let code = outcome.code().unwrap();
    hook.answer(403);
    let refused = client.exchange_code(code, REDIRECT).await.unwrap();
    assert_eq!(refused.error(), Some("access_denied"), "{refused:?}");
    hook.answer(204);
    let issued = client.exchange_code(code, REDIRECT).await.unwrap();
    assert!(issued.access_token().is_some(), "{issued:?}");
}

#[tokio::test]
async fn whole_flow_with_refresh_and_revocation() {
    let hydra = Hydra::start(&tools(), HydraOptions::default()).await.unwrap();
    let client = client(&hydra, "shop").await;
    let browser = UserAgent::new(&hydra).unwrap();
    let request = AuthRequest::new("shop", REDIRECT, "offline_access read write", "ann");
    let blind = ConsentApp::blind(
        |asked| json!({ "grant_scope": ["offline_access", "read"], "context": { "asked": asked["requested_scope"] } }),
    );
    let outcome = browser.authorize(&request, &blind).await.unwrap();
    assert!(outcome.returned && !outcome.login_skip && !outcome.consent_skip);
    let issued = client.exchange_code(outcome.code().unwrap(), REDIRECT).await.unwrap();
    assert_eq!(issued.scopes(), ["offline_access", "read"]);
    assert!(hydra.admin().is_active(issued.access_token().unwrap()).await.unwrap());
    let fresh = client.refresh(issued.refresh_token().unwrap()).await.unwrap();
    let token = fresh.access_token().unwrap();
    assert!(hydra.admin().is_active(token).await.unwrap());

    let listed = hydra.admin().list_consents("ann").await.unwrap();
    assert_eq!(listed.len(), 1);
    let asked = outcome.consent_request.as_ref().unwrap();
    assert_eq!(listed[0]["consent_request"]["login_challenge"], asked["login_challenge"]);
    assert_eq!(listed[0]["context"]["asked"][2], "write");
    hydra.admin().revoke_pair("ann", "shop").await.unwrap();
    assert!(!hydra.admin().is_active(token).await.unwrap());
    let dead = client.refresh(fresh.refresh_token().unwrap()).await.unwrap();
    assert!(dead.error().is_some(), "{dead:?}");

    // The browser's session lives: no second login. Another browser has none.
    let again = browser.authorize(&request, &blind).await.unwrap();
    assert!(again.login_skip && again.code().is_some());
    browser.forget();
    let none = AuthRequest { prompt: "none".to_owned(), ..request };
    let failed = browser.authorize(&none, &blind).await.unwrap();
    assert_eq!(failed.error(), Some("login_required"));
}

#[tokio::test]
async fn a_consent_challenge_serves_once() {
    let hydra = Hydra::start(&tools(), HydraOptions::default()).await.unwrap();
    client(&hydra, "shop").await;
    let browser = UserAgent::new(&hydra).unwrap();
    let request = AuthRequest::new("shop", REDIRECT, "read write", "ann");
    let open = browser.open(&request).await.unwrap();
    let narrow = ConsentApp::blind(|_| json!({ "grant_scope": ["read"] }));
    let first = browser.consent(&request, open.clone(), &narrow).await.unwrap();
    assert!(first.code().is_some());
    let second = browser.consent(&request, open, &ConsentApp::grant_all()).await.unwrap();
    assert_eq!(second.error(), Some("access_denied"));
    let listed = hydra.admin().list_consents("ann").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["grant_scope"], json!(["read"]));
}

#[test]
fn a_missing_tool_is_an_error_that_says_what_to_do() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_testbed")).arg("hold").env("XDG_CACHE_HOME", "/nonexistent").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("run `make tools`"));
}

#[tokio::test]
async fn operator_log_is_followed_over_a_restart() {
    // Not an operator: it refuses `run` and ends, which is enough for the log.
    let binary = env!("CARGO_BIN_EXE_testbed").into();
    let options = OperatorOptions { binary, ..OperatorOptions::default() };
    let mut operator = Operator::start(options).unwrap();
    let limit = Duration::from_secs(5);
    operator.wait_log("unrecognized subcommand", limit).await.unwrap();
    operator.restart().unwrap();
    let line = operator.wait_log("unrecognized subcommand", limit).await.unwrap();
    assert!(line.contains("'run'"), "{line}");
    let error = operator.wait_log("no such line", limit).await.unwrap_err();
    assert!(format!("{error:#}").contains("ended"), "{error:#}");
    assert!(operator.ready(limit).await.is_err());
    assert_eq!(operator.log().matches("unrecognized").count(), 2);
}

#[tokio::test]
async fn operator_freezes_and_goes_on() {
    let (_dir, binary) = sleeper();
    let operator = Operator::start(OperatorOptions { binary, ..OperatorOptions::default() }).unwrap();
    operator.wait_log("asleep", Duration::from_secs(5)).await.unwrap();
    operator.pause().unwrap();
    let state = format!("/proc/{}/status", operator.process().id());
    let frozen = || std::fs::read_to_string(&state).unwrap().contains("State:\tT");
    assert!(frozen() && operator.process().is_alive());
    operator.resume().unwrap();
    until(Duration::from_secs(2), "it goes on", || !frozen()).await;
    operator.kill();
    assert!(operator.pause().is_err());
}

#[tokio::test]
async fn operators_reach_the_api_server_through_a_proxy() {
    let (_dir, binary) = sleeper();
    let mut options = BedOptions { kproxy: true, operator: false, ..BedOptions::new(binary) };
    options.args.push("--flag-of-both".to_owned());
    let bed = Bed::start(options).await.unwrap();
    let kproxy = bed.kproxy.as_ref().unwrap();
    let kubeconfig = bed.operator.options().kubeconfig.clone().unwrap();
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    bed.plane.kubectl(&["get", "clientgrants.clientgrant.dev", "-A", &kubeconfig]).await.unwrap();
    assert!(kproxy.requests().iter().any(|r| r.path().ends_with("/clientgrants")), "{}", kproxy.summary());
    let denied = bed.plane.kubectl_with_input(&["get", "secrets", &kubeconfig], "").await.unwrap();
    assert!(denied.stderr.contains("Forbidden"), "the operator's account and no other: {}", denied.stderr);

    let second = bed.second_operator(&["--flag-of-the-second"]).unwrap();
    let line = second.wait_log("asleep", Duration::from_secs(5)).await.unwrap();
    assert!(line.ends_with("--flag-of-both --identity=second --flag-of-the-second"), "{line}");
    assert!(line.contains(&second.decision_url()["http://".len()..]), "{line}");
    assert!(second.decision_url() != bed.operator.decision_url() && second.health_url() != bed.operator.health_url());
    assert_eq!(second.options().kubeconfig, bed.operator.options().kubeconfig);
}

/// A program that takes any flag, says so and does nothing, and where it lies.
fn sleeper() -> (RunDir, PathBuf) {
    let dir = RunDir::new("sleeper").unwrap();
    let text = dir.write("text", "#!/bin/sh\necho asleep \"$@\"\nexec sleep 300\n").unwrap();
    let path = dir.path().join("sleeper");
    // Written by another process: Linux starts no program that this one, or a child of it that has
    // only just begun, still has open for writing.
    assert!(Command::new("install").args(["-m", "755"]).args([&text, &path]).status().unwrap().success());
    (dir, path)
}

#[tokio::test]
async fn children_end_when_their_parent_is_killed() {
    tools();
    let mut parent = Command::new(env!("CARGO_BIN_EXE_testbed")).arg("hold").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (id, dir) = line.trim().split_once(' ').unwrap();
    let etcd = Path::new("/proc").join(id);
    assert!(etcd.exists());
    parent.kill().unwrap();
    parent.wait().unwrap();
    until(Duration::from_secs(2), "etcd is gone", || !etcd.exists()).await;
    until(Duration::from_secs(5), "the files are gone", || !Path::new(dir).exists()).await;
}

#[tokio::test]
async fn process_stops_goes_on_and_takes_its_children_along() {
    let dir = RunDir::new("process").unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 300 & echo child $!; echo line; wait"]);
    let process = Process::spawn(&dir, "shell", command).unwrap();
    let child = async || loop {
        let log = std::fs::read_to_string(process.log()).unwrap();
        if let Some(id) = log.lines().find_map(|line| line.strip_prefix("child ")) {
            return Path::new("/proc").join(id);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let child = tokio::time::timeout(Duration::from_secs(5), child()).await.unwrap();
    assert!(process.is_alive() && process.rss_kib().unwrap() > 0);
    process.stop().unwrap();
    process.terminate().unwrap();
    assert!(process.wait_exit(Duration::from_millis(200)).await.is_err(), "it is frozen");
    process.cont().unwrap();
    process.wait_exit(Duration::from_secs(5)).await.unwrap();
    assert!(process.log_tail(1).ends_with("line"));
    until(Duration::from_secs(2), "the grandchild is gone", || !child.exists()).await;
    assert!(process.stop().is_err());
}

async fn until(limit: Duration, what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_list_of_clients_that_is_longer_than_a_page_is_read_to_its_end() {
    let hydra = Hydra::start(&tools(), HydraOptions::default()).await.unwrap();
    let fleet = Fleet { clients: 1_001, most: 1 };
    fleet.register(hydra.admin()).await.unwrap();
    assert_eq!(hydra.admin().count_clients().await.unwrap(), 1_001);
    assert_eq!(fleet.alive(hydra.admin()).await.unwrap().len(), 1_001, "each of them once");
}
