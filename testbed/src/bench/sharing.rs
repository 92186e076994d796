//! 10,000 pods of 2,500 Deployments and 2,000 clients with 10,000 grants at a real API server, with the clients at a
//! real Hydra: what looking for shared credentials costs the operator, how soon it says what it found, and that it writes nothing while nothing changes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clientgrant_testbed::bed::{Bed, BedOptions, condition, registration};
use clientgrant_testbed::scale::{self, AT_ONCE};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use super::print;
use super::scale::{LONG, kube, words};

const TEMPLATES: usize = 2_500;
const REPLICAS: usize = 4;
const CLIENTS: usize = 2_000;
const GRANTS: usize = 10_000;
const NAMESPACES: usize = 100;
/// Nothing is written for so long while nothing changes.
const STEADY: Duration = Duration::from_secs(30);
const SAMPLES: usize = 20;

/// Measures and prints.
pub async fn run(operator: &Path) -> Result<()> {
    let mut options = BedOptions::new(operator);
    options.provider["driftCheckInterval"] = json!("1h");
    options.provider["allow"] = json!([{"namespaces": {}}]);
    options.kproxy = true;
    options.args = vec!["--detect-sharing=false".into()];
    let mut bed = Bed::start(options).await?;
    populate(&bed).await?;
    told(&bed, "NotEvaluated").await?;
    scale::quiet(kube(&bed)?, Duration::from_secs(5), LONG).await?;
    let without = bed.operator.rss_kib()?;

    // It looks by default.
    bed.operator.options_mut().args.retain(|arg| !arg.starts_with("--detect-sharing"));
    let begin = Instant::now();
    bed.operator.restart()?;
    bed.ready().await?;
    told(&bed, "Exclusive").await?;
    println!(
        "{CLIENTS} clients with {GRANTS} grants judged and told {:.1} s after a start",
        begin.elapsed().as_secs_f64()
    );
    scale::quiet(kube(&bed)?, Duration::from_secs(5), LONG).await?;
    let (with, peak) = (bed.operator.rss_kib()?, bed.operator.peak_rss_kib()?);
    println!(
        "operator: {:.1} MiB resident without, {:.1} MiB with (goal: 64 more), {:.1} MiB at most",
        without as f64 / 1024.0,
        with as f64 / 1024.0,
        peak as f64 / 1024.0
    );

    kube(&bed)?.clear();
    tokio::time::sleep(STEADY).await;
    let writes = scale::count(kube(&bed)?, scale::write);
    println!("writes to the API server in {} s: {}", STEADY.as_secs(), words(&writes));
    ensure!(writes.is_empty(), "something is written although nothing changes");

    let mut took = Vec::new();
    for n in 0..SAMPLES {
        took.push(share(&bed, n).await?);
    }
    print("a Deployment receives another client's credential → the status says so", "ms", took);
    println!("operator: {:.1} MiB resident at most", bed.operator.peak_rss_kib()? as f64 / 1024.0);
    Ok(())
}

fn namespace(n: usize) -> String {
    format!("team-{:03}", n % NAMESPACES)
}

/// What the pods of a Deployment are like; `of` is the number whose credential they receive.
fn template(n: usize, of: usize) -> Value {
    let from = json!({"secretKeyRef": {"name": format!("oidc-{of}"), "key": "client-secret"}});
    let settings = (0..20).map(|v| json!({"name": format!("SETTING_{v}"), "value": format!("value {v}")}));
    let env: Vec<Value> = settings.chain([json!({"name": "OIDC", "valueFrom": from})]).collect();
    json!({
        "serviceAccountName": format!("app-{n}"),
        "containers": [
            {"name": "main", "image": "registry.example/app:1", "env": env},
            {"name": "proxy", "image": "registry.example/proxy:1", "args": ["--listen", "127.0.0.1:8080"]},
        ],
    })
}

fn deployment(n: usize, of: usize) -> Value {
    let labels = json!({"app": format!("app-{n}")});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": format!("app-{n}"), "namespace": namespace(n)},
        "spec": {"replicas": REPLICAS, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template(n, of)}},
    })
}

async fn create(bed: &Bed, all: Vec<(String, Value)>) -> Result<()> {
    let calls = all.into_iter().map(|(path, object)| async move {
        let (code, answer) = bed.raw(Method::POST, &path, Some((object, "application/json"))).await?;
        ensure!(code == 201, "{path}: {code} {}", answer["message"]);
        Ok(())
    });
    stream::iter(calls).buffer_unordered(AT_ONCE).try_collect().await
}

async fn populate(bed: &Bed) -> Result<()> {
    let begin = Instant::now();
    let all = 0..TEMPLATES;
    let namespaces = (0..NAMESPACES).map(|n| {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace(n)}});
        ("api/v1/namespaces".to_owned(), object)
    });
    create(bed, namespaces.collect()).await?;
    let accounts = all.clone().map(|n| {
        let meta = json!({"name": format!("app-{n}"), "namespace": namespace(n)});
        let path = format!("api/v1/namespaces/{}/serviceaccounts", namespace(n));
        (path, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}))
    });
    create(bed, accounts.collect()).await?;
    let deployments =
        all.clone().map(|n| (format!("apis/apps/v1/namespaces/{}/deployments", namespace(n)), deployment(n, n)));
    create(bed, deployments.collect()).await?;
    let pods = all.flat_map(|n| (0..REPLICAS).map(move |replica| (n, replica))).map(|(n, replica)| {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("app-{n}-5d9c"),
            "uid": format!("00000000-0000-0000-0000-{n:012}"), "controller": true}]);
        let labels = json!({"app": format!("app-{n}"), "pod-template-hash": "5d9c"});
        let meta = json!({"name": format!("app-{n}-5d9c-{replica}"), "namespace": namespace(n), "labels": labels,
            "ownerReferences": owner});
        let path = format!("api/v1/namespaces/{}/pods", namespace(n));
        (path, json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template(n, n)}))
    });
    create(bed, pods.collect()).await?;
    let identities = (0..CLIENTS).map(|n| {
        let path = format!("apis/clientgrant.dev/v1alpha1/namespaces/{}/clientidentities", namespace(n));
        let object = json!({
            "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientIdentity",
            "metadata": {"name": format!("client-{n}"), "namespace": namespace(n)},
            "spec": {
                "providerRef": {"kind": "ClusterIdentityProvider", "name": "corp"}, "clientID": format!("client-{n}"),
                "serviceAccountName": format!("app-{n}"),
                "workloads": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": format!("app-{n}")}],
                "credentials": [{"secret": {"name": format!("oidc-{n}"), "key": "client-secret"}}],
            },
        });
        (path, object)
    });
    create(bed, identities.collect()).await?;
    let hydra = bed.hydra.admin();
    let over = json!({"scope": "openid transactions:read ledger:read payments:write"});
    let clients = (0..CLIENTS).map(|n| registration(&format!("client-{n}"), &over));
    let clients = clients.map(|client| async move { hydra.create_client(&client).await.map(drop) });
    stream::iter(clients).buffer_unordered(8).try_collect::<()>().await?;
    let grants = (0..GRANTS).map(|n| {
        let of = n % CLIENTS;
        // Of one client no two grants are for one user.
        let subject = json!({"kind": "User", "id": format!("user-{}", n % 3_001)});
        let spec = json!({"clientID": format!("client-{of}"), "subject": subject, "basis": "AdminConsent"});
        async move { bed.grant(&namespace(of), &format!("grant-{n}"), spec).await.map(drop) }
    });
    stream::iter(grants).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    scale::quiet(kube(bed)?, Duration::from_secs(5), LONG).await?;
    let (_, list) = bed.raw(Method::GET, "apis/clientgrant.dev/v1alpha1/clientgrants", None).await?;
    let active = list["items"].as_array().into_iter().flatten().filter(|g| condition(g, "Active")["status"] == "True");
    ensure!(active.count() == GRANTS, "a grant is not in force");
    let objects = TEMPLATES * (REPLICAS + 2) + CLIENTS + GRANTS;
    println!("{objects} objects made in {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Waits until every ClientIdentity says so.
async fn told(bed: &Bed, reason: &str) -> Result<()> {
    let all = |list: &Value| {
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        items.len() == CLIENTS && items.iter().all(|o| condition(o, "CredentialExclusive")["reason"] == reason)
    };
    bed.wait("clientidentities", reason, LONG, all).await.map(drop)
}

/// A Deployment of a namespace gets the credential of the next client there: milliseconds until that client's
/// status says so.
async fn share(bed: &Bed, n: usize) -> Result<f64> {
    let other = n + NAMESPACES;
    let path = format!("apis/apps/v1/namespaces/{}/deployments/app-{n}", namespace(n));
    let patch = json!({"spec": {"template": {"spec": template(n, other)}}});
    let begin = Instant::now();
    let (code, answer) = bed.raw(Method::PATCH, &path, Some((patch, "application/merge-patch+json"))).await?;
    ensure!(code == 200, "{path}: {code} {}", answer["message"]);
    let identity = format!("namespaces/{}/clientidentities/client-{other}", namespace(n));
    let shared = |o: &Value| condition(o, "CredentialExclusive")["reason"] == "SharedCredential";
    bed.wait(&identity, "shared", LONG, shared).await?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}
