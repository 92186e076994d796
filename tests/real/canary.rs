//! No secret is repeated: not in a log at its most talkative, not in a status, an event or a metric, and not in
//! what a command prints. Every other test looks for the same when it ends, at the usual level of the log.

use std::path::Path;
use std::process::Command;

use clientgrant_testbed::bed::{CALLBACK, condition};
use clientgrant_testbed::canary::{self, random, untold};
use clientgrant_testbed::net::http;
use clientgrant_testbed::{Action, AuthRequest, ControlPlane};
use serde_json::{Value, json};

use crate::support::{Real, ahead, bed_with, chain, pause};

const SCOPE: &str = "openid offline_access transactions:read";
const GRANT: &str = "namespaces/finance/clientgrants/reporting";

/// What a command prints, whatever comes of it.
fn said(kubeconfig: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clientgrant"));
    command.args(arguments).env("KUBECONFIG", kubeconfig).env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
    let output = tokio::task::block_in_place(|| command.output()).unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn secret(plane: &ControlPlane, namespace: &str, name: &str, data: Value) {
    let metadata = json!({"name": name, "namespace": namespace});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
    // By client-side apply, which leaves the values in an annotation too.
    let output = plane.kubectl_with_input(&["apply", "-f", "-"], &secret.to_string()).await.unwrap();
    assert!(output.success, "{}", output.stderr);
}

/// A workload with a literal for a client secret.
async fn literal(bed: &Real) {
    let value = random("a literal in a workload");
    let args = format!("--client-secret={}", random("an argument of a workload"));
    let container = json!({"name": "m", "image": "x", "args": [args], "env": [{"name": "OIDC_CLIENT_SECRET", "value": value},
        {"name": "OIDC_CLIENT_ID", "value": "finance-reporting"}]});
    let template = json!({"metadata": {"labels": {"app": "r"}}, "spec": {"containers": [container]}});
    let workload = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "reporting", "namespace": "finance"},
        "spec": {"selector": {"matchLabels": {"app": "r"}}, "template": template}});
    bed.plane.apply_yaml(&workload.to_string()).await.unwrap();
    let spec = json!({"providerRef": {"kind": "ClusterIdentityProvider", "name": "corp"}, "clientID": "finance-reporting",
        "workloads": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "reporting"}]});
    let identity = json!({"apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientIdentity",
        "metadata": {"name": "reporting", "namespace": "finance"}, "spec": spec});
    bed.put("namespaces/finance/clientidentities/reporting", identity).await.unwrap();
}

/// Calls of the decision points by somebody who should not, with secrets everywhere.
async fn strangers(bed: &Real) {
    let client = http().build().unwrap();
    for path in ["hydra/token-hook/corp", "hydra/consent/corp", "hydra/token-hook/nobody", "elsewhere"] {
        let url = format!("{}/{path}?key={}", bed.operator.decision_url(), random("a key in a query"));
        for body in [random("a body"), json!({"request": {"client_id": random("a client")}}).to_string()] {
            for key in [random("a wrong key"), canary::hook_key().to_owned(), canary::consent_key().to_owned()] {
                let call = client.post(&url).header("x-api-key", key).bearer_auth(random("a bearer token"));
                let answer = call.body(body.clone()).send().await.unwrap();
                untold("an answer", &answer.text().await.unwrap());
            }
        }
    }
}

/// A year of trouble: what Hydra answers has secrets in it, and keys are not what they should be.
async fn trouble(bed: &Real) {
    for status in [200, 400, 401, 403, 409, 500, 503] {
        bed.proxy.set_rule(move |call| {
            let body = json!({"error": random("an error"), "client_secret": random("a secret in an answer"), "items": [random("an item")]});
            match call.is_write() || status != 401 {
                true => Action::Answer(status, body.to_string()),
                false => Action::AnswerWith(status, vec![("www-authenticate".into(), random("a header"))], random("a text")),
            }
        });
        bed.patch(GRANT, json!({"spec": {"suspend": status % 2 == 0}})).await.unwrap();
        pause(700).await;
    }
    bed.proxy.clear_rule();
    let newline = format!("{}\n", random("a key with a new line"));
    for key in [newline, format!("{}\u{7f}\u{1f600}", random("a key that no header can carry")), String::new()] {
        let data = json!({"key": key, "consent-key": random("another consent key")});
        secret(&bed.plane, "clientgrant-system", "hydra-hook", data).await;
        let touch = json!({"spec": {"limits": {"concurrency": 4 + key.len() % 4}}});
        bed.patch("clusteridentityproviders/corp", touch).await.unwrap();
        pause(1_500).await;
    }
    let data = json!({"key": canary::hook_key(), "consent-key": canary::consent_key()});
    secret(&bed.plane, "clientgrant-system", "hydra-hook", data).await;
    bed.patch("clusteridentityproviders/corp", json!({"spec": {"limits": null}})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_repeated_however_much_is_logged() {
    let mut bed = bed_with(|options| {
        options.operator = false;
        options.args = vec!["--log-format=json".into()];
        options.provider["driftCheckInterval"] = json!("1s");
    })
    .await;
    let louder = [("RUST_LOG", "trace"), ("RUST_BACKTRACE", "full")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    bed.operator.options_mut().env.extend(louder);
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    secret(&bed.plane, "finance", "somebody-elses", json!({"password": random("a Secret of somebody else")})).await;

    let users = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    let tokens = chain(&bed, &users, "ann", SCOPE).await;
    users.refresh(&tokens.refresh).await.unwrap().access_token().expect("a refreshed token");
    bed.reason("finance", "reporting", "Granted").await.unwrap();
    let denied = AuthRequest::new("finance-reporting", CALLBACK, "openid admin", "bob");
    bed.browser().unwrap().authorize(&denied, &bed.honest()).await.unwrap();
    literal(&bed).await;
    strangers(&bed).await;
    trouble(&bed).await;
    bed.patch(GRANT, json!({"spec": {"suspend": false}})).await.unwrap();
    bed.patch(GRANT, json!({"spec": {"expiresAt": ahead(2)}})).await.unwrap();
    bed.wait(GRANT, "over", std::time::Duration::from_secs(60), |o| condition(o, "Ready")["reason"] == "Expired")
        .await
        .unwrap();

    // A positive control: what stands in an object is found.
    let leak = format!("a description that repeats {}", random("what somebody wrote"));
    bed.grant("finance", "leak", json!({"purpose": {"description": leak}, "subject": {"id": "leo"}})).await.unwrap();
    assert!(!canary::search(&bed.told().await.unwrap()).is_empty());
    bed.delete("namespaces/finance/clientgrants/leak").await.unwrap();
    bed.gone("namespaces/finance/clientgrants/leak").await.unwrap();

    let admin = bed.plane.kubeconfig_for("admin", &["system:masters"]).unwrap();
    let broken = bed.plane.dir().write("broken.kubeconfig", format!("users: [{}", random("half a file"))).unwrap();
    let token = random("a token that nobody made");
    let wrong = std::fs::read_to_string(bed.operator.options().kubeconfig.as_ref().unwrap()).unwrap();
    let mut wrong: Value = serde_json::from_str(&wrong).unwrap();
    wrong["users"][0]["user"]["token"] = json!(token);
    let wrong = bed.plane.dir().write("wrong.kubeconfig", wrong.to_string()).unwrap();
    let shows = |kubeconfig: &Path, arguments: &[&str]| {
        let text = said(kubeconfig, arguments);
        assert!(!text.is_empty(), "{arguments:?}");
        untold(arguments[0], &text);
    };
    for kubeconfig in [&admin, &broken, &wrong] {
        shows(kubeconfig, &["scan"]);
        shows(kubeconfig, &["scan", "-o", "json"]);
        shows(kubeconfig, &["scan", "-o", "sarif"]);
        shows(kubeconfig, &["release", "finance-reporting", "--provider", "corp"]);
    }
    // With a token that is refused it would wait for the API server to come back.
    for kubeconfig in [&admin, &broken] {
        shows(kubeconfig, &["sweep", "--once"]);
    }
    let url = bed.operator.health_url().replace("//", &format!("//u:{}@", random("a password in a URL")));
    shows(&admin, &["doctor", "--ready-url", &format!("{url}/readyz")]);
    let log = bed.operator.log();
    assert!(log.contains(r#""level":"TRACE""#), "it is loud");
    println!("{} lines of log, {} KiB told", log.lines().count(), bed.told().await.unwrap().len() / 1024);
}
