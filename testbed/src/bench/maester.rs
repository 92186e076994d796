//! The same number of clients with this operator and with hydra-maester, on the same machine in one run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clientgrant_testbed::bed::CALLBACK;
use clientgrant_testbed::scale::{AT_ONCE, Fleet, Took, delete_all, quiet};
use clientgrant_testbed::{ControlPlane, Hydra, HydraOptions, Iproxy, Kproxy, Maester, Process, RunDir, Tools};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde_json::json;

use super::scale::{self, LONG, Phase};

/// One grant each.
const FLEET: Fleet = Fleet { clients: 1_200, most: 1 };
const CLIENTS: &str = "apis/hydra.ory.sh/v1alpha1/namespaces/default/oauth2clients";

/// One operator's figures.
struct Column {
    began: Phase,
    peak_kib: u64,
    ended: Phase,
    alive: usize,
}

/// Measures and prints.
pub async fn run(operator: &Path) -> Result<()> {
    let maester = Maester::ensure()?;
    let ours = ours(operator).await?;
    let theirs = theirs(&maester).await?;
    let many = FLEET.clients;
    println!(
        "{:<44} {:>12} {:>14} {:>8}",
        format!("{many} clients, one object each"),
        "clientgrant",
        "hydra-maester",
        "ratio"
    );
    let seconds = |took: Duration| took.as_secs_f64();
    let each = |counts: &BTreeMap<String, usize>| counts.values().sum::<usize>() as f64 / many as f64;
    let kib = |bytes: usize| bytes as f64 / 1024.0 / many as f64;
    row("all created: at Hydra as they should be, s", seconds(ours.began.took.done), seconds(theirs.began.took.done));
    row("  calls to Hydra an object", each(&ours.began.calls), each(&theirs.began.calls));
    row("  KiB answered by Hydra an object", kib(ours.began.bytes), kib(theirs.began.bytes));
    row("  writes to the API server an object", each(&ours.began.writes), each(&theirs.began.writes));
    row("  resident at most, MiB", ours.peak_kib as f64 / 1024.0, theirs.peak_kib as f64 / 1024.0);
    row("all deleted: gone from Kubernetes, s", seconds(ours.ended.took.done), seconds(theirs.ended.took.done));
    row("  calls to Hydra an object", each(&ours.ended.calls), each(&theirs.ended.calls));
    row("  KiB answered by Hydra an object", kib(ours.ended.bytes), kib(theirs.ended.bytes));
    row("  writes to the API server an object", each(&ours.ended.writes), each(&theirs.ended.writes));
    println!("{:<44} {:>12} {:>14}", "  clients that may still have something", ours.alive, theirs.alive);
    println!(
        "Threats to validity: a client is not a grant: hydra-maester registers each client (its secret is hashed), \
         while ours finds it registered, ends its older tokens in two passes 2 s apart, and narrows it."
    );
    println!("The proxies that count cost both the same; both run as they come, with their own defaults.");
    ensure!(ours.alive == 0, "{} clients may still have something", ours.alive);
    Ok(())
}

fn row(what: &str, ours: f64, theirs: f64) {
    println!("{what:<44} {ours:>12.2} {theirs:>14.2} {:>7.1}×", theirs / ours);
}

async fn ours(operator: &Path) -> Result<Column> {
    let bed = scale::bed(operator, FLEET).await?;
    let began = scale::apply(&bed, FLEET).await?;
    began.print("clientgrant", "settled", FLEET.clients);
    let peak_kib = bed.operator.peak_rss_kib()?;
    quiet(scale::kube(&bed)?, Duration::from_secs(3), LONG).await?;
    let ended = scale::end(&bed, FLEET).await?;
    ended.print("clientgrant, end", "gone from Kubernetes", FLEET.clients);
    Ok(Column { began, peak_kib, ended, alive: scale::alive(&bed, FLEET).await? })
}

async fn theirs(maester: &Maester) -> Result<Column> {
    let tools = Tools::find()?;
    let (plane, hydra) = tokio::try_join!(ControlPlane::start(&tools), Hydra::start(&tools, HydraOptions::default()))?;
    let (idp, kube) = (Iproxy::start(hydra.admin_url())?, Kproxy::start(&plane)?);
    let process = start(maester, &plane, &idp, &kube).await?;
    idp.clear();
    kube.clear();

    let begin = Instant::now();
    let names: Vec<String> = FLEET.ids();
    let plane = &plane;
    let calls = names.iter().map(|name| async move {
        let body = (object(name), "application/json");
        let (status, answer) = plane.call(Method::POST, CLIENTS, Some(body)).await?;
        ensure!(status == 201, "{name} was not taken ({status}): {}", answer["message"]);
        Ok(())
    });
    let creating = async {
        stream::iter(calls).buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await?;
        Ok::<_, anyhow::Error>(begin.elapsed())
    };
    let registering = async {
        while hydra.admin().count_clients().await? < names.len() {
            ensure!(begin.elapsed() < LONG, "not all clients are at Hydra; {}", process.log_tail(20));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    let (asked, ()) = tokio::try_join!(creating, registering)?;
    let took = Took { asked, done: begin.elapsed() };
    // What it still has to say about the last ones counts as well.
    quiet(&kube, Duration::from_secs(3), LONG).await?;
    let began = Phase::of(took, &idp, &kube);
    began.print("hydra-maester", "registered", names.len());

    let peak_kib = process.peak_rss_kib()?;
    idp.clear();
    kube.clear();
    let took = delete_all(plane, CLIENTS, names, LONG).await?;
    quiet(&kube, Duration::from_secs(3), LONG).await?;
    let ended = Phase::of(took, &idp, &kube);
    ended.print("hydra-maester, end", "gone from Kubernetes", FLEET.clients);
    let mut alive = 0;
    for n in ["first", "second"] {
        alive = hydra.admin().list_clients().await?.len();
        println!("clients at Hydra, {n} count: {alive} of {} are alive", FLEET.clients);
    }
    Ok(Column { began, peak_kib, ended, alive })
}

fn object(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "hydra.ory.sh/v1alpha1",
        "kind": "OAuth2Client",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "clientName": name,
            "secretName": name,
            "scope": "openid offline_access transactions:read",
            "grantTypes": ["authorization_code", "refresh_token"],
            "responseTypes": ["code"],
            "redirectUris": [CALLBACK],
            "tokenEndpointAuthMethod": "client_secret_post",
        },
    })
}

/// Installs its CRD and its own rights, and runs it behind both proxies.
async fn start(maester: &Maester, plane: &ControlPlane, idp: &Iproxy, kube: &Kproxy) -> Result<Process> {
    let crds = maester.config.join("crd/bases");
    let crds = crds.to_str().context("the path of the CRD is not text")?;
    plane.kubectl(&["apply", "--server-side", "-f", crds]).await?;
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "-f", crds]).await?;
    let role = std::fs::read_to_string(maester.config.join("rbac/role.yaml")).context("cannot read its role")?;
    plane.apply_yaml(&role).await?;
    plane.kubectl(&["create", "serviceaccount", "maester", "-n", "default"]).await?;
    let binding = ["--clusterrole=manager-role", "--serviceaccount=default:maester"];
    plane.kubectl(&[&["create", "clusterrolebinding", "maester"][..], &binding].concat()).await?;
    let port = idp.url().rsplit(':').next().context("no port")?.to_owned();
    let mut command = Command::new(&maester.binary);
    command
        .args(["--hydra-url=http://127.0.0.1", "--endpoint=/admin/clients", "--metrics-addr=0"])
        .arg(format!("--hydra-port={port}"))
        .env("KUBECONFIG", kube.kubeconfig(plane, "default", "maester").await?);
    let dir = RunDir::new("maester")?;
    let process = Process::spawn(&dir, "maester", command)?;
    let begin = Instant::now();
    while !process.log_tail(usize::MAX).contains("Starting workers") {
        let alive = process.is_alive() && begin.elapsed() < Duration::from_secs(30);
        ensure!(alive, "hydra-maester does not start; {}", process.log_tail(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(process)
}
