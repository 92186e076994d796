//! Figures, measured on the real servers: `make bench`. Only what must never be is a failure: a client
//! that may have something after all grants are gone.

mod hot;
mod maester;
mod scale;
mod sharing;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clientgrant_testbed::bed::{Bed, BedOptions, CALLBACK, condition};
use clientgrant_testbed::canary::hook_key;
use clientgrant_testbed::{AuthRequest, net};
use futures::future::try_join_all;
use serde_json::{Value, json};

const SCOPE: &str = "openid offline_access transactions:read";
const MANY: usize = 2_000;

/// What is measured.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Part {
    /// Latencies of grants and of the token hook, and the memory of 2,000 grants of one client.
    Latency,
    /// 3,000 grants of 1,200 clients: what they cost, a restart, and an end of all of them.
    Scale,
    /// Revocations beside a tenant who edits 5,000 grants.
    Hot,
    /// 10,000 pods and 2,000 clients: what looking for shared credentials costs.
    Sharing,
    /// The same number of clients with this operator and with hydra-maester.
    Maester,
}

/// Measures and prints.
pub async fn run(operator: &Path, parts: &[Part]) -> Result<()> {
    let size = std::fs::metadata(operator).context("cannot find the operator's program")?.len();
    let command: Vec<String> = std::env::args().collect();
    println!("command: {}", command.join(" "));
    println!("commit checked out: {}; operator: {}; test bed: {}", commit(), profile(operator), OWN_PROFILE);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores, servers, proxies and operator together; no warm-up, one repetition");
    println!("program: {:.1} MiB", size as f64 / 1048576.0);
    for part in parts {
        println!();
        match part {
            Part::Latency => latencies(operator).await?,
            Part::Scale => scale::run(operator).await?,
            Part::Hot => hot::run(operator).await?,
            Part::Sharing => sharing::run(operator).await?,
            Part::Maester => maester::run(operator).await?,
        }
    }
    Ok(())
}

const OWN_PROFILE: &str = if cfg!(debug_assertions) { "debug build" } else { "release build" };

/// Cargo puts every profile into a folder of its own.
fn profile(program: &Path) -> String {
    let folder = program.parent().and_then(Path::file_name).unwrap_or_default();
    format!("{} build", folder.display())
}

fn commit() -> String {
    let mut git = Command::new("git");
    git.current_dir(env!("CARGO_MANIFEST_DIR")).args(["describe", "--always", "--dirty", "--exclude=*"]);
    let output = git.output().ok().filter(|output| output.status.success());
    output.map_or_else(|| "unknown".to_owned(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

async fn latencies(operator: &Path) -> Result<()> {
    let mut options = BedOptions::new(operator);
    options.provider["driftCheckInterval"] = json!("1h");
    let bed = Bed::start(options).await?;
    println!("operator, idle: {} KiB resident", bed.operator.rss_kib()?);
    fresh_clients(&bed).await?;
    managed_client(&bed).await?;
    hook(&bed).await?;
    many(&bed).await
}

async fn apply_to_active(bed: &Bed, name: &str, spec: Value) -> Result<f64> {
    let begin = Instant::now();
    bed.grant("finance", name, spec).await?;
    bed.wait(&format!("namespaces/finance/clientgrants/{name}"), "active", Duration::from_secs(30), |o| {
        condition(o, "Active")["status"] == "True"
    })
    .await?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

async fn fresh_clients(bed: &Bed) -> Result<()> {
    let mut took = Vec::new();
    for n in 0..20 {
        let id = format!("fresh-{n}");
        bed.client(&id, json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await?;
        let spec = json!({"clientID": id, "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
        took.push(apply_to_active(bed, &id, spec).await?);
    }
    print("apply → Active, first grant of a client (adoption, two passes)", "ms", took);
    Ok(())
}

async fn managed_client(bed: &Bed) -> Result<()> {
    bed.client("shared", json!({"scope": SCOPE})).await?;
    let mut took = Vec::new();
    for n in 0..101 {
        let name = format!("shared-{n}");
        let spec = json!({
            "clientID": "shared", "basis": "AdminConsent", "subject": {"kind": "User", "id": name},
        });
        took.push(apply_to_active(bed, &name, spec).await?);
    }
    took.remove(0);
    print("apply → Active, further grants of a managed client", "ms", took);
    Ok(())
}

async fn hook(bed: &Bed) -> Result<()> {
    let own = bed.oauth("fresh-0")?;
    ensure!(own.client_credentials("ledger:read", "").await?.access_token().is_some(), "no token");
    let body = newest(bed)?;
    latency(bed, "token hook, no look-up (client_credentials)", &body).await?;

    let shared = bed.oauth("shared")?;
    let request = AuthRequest::new("shared", CALLBACK, SCOPE, "shared-0");
    let outcome = bed.browser()?.authorize(&request, &bed.honest()).await?;
    let token = shared.exchange_code(outcome.code().context("no code")?, CALLBACK).await?;
    ensure!(token.access_token().is_some(), "no token: {}", token.json);
    let body = newest(bed)?;
    latency(bed, "token hook, consent looked up at Hydra (authorization_code)", &body).await
}

/// The body of the newest hook call that Hydra made.
fn newest(bed: &Bed) -> Result<String> {
    Ok(bed.hooks.requests().pop().context("Hydra never called the hook")?.body)
}

async fn latency(bed: &Bed, what: &str, body: &str) -> Result<()> {
    const AT_ONCE: usize = 100;
    const EACH: usize = 50;
    let url = format!("{}/hydra/token-hook/corp", bed.operator.decision_url());
    let client = net::http().pool_max_idle_per_host(AT_ONCE).build()?;
    let begin = Instant::now();
    let workers = (0..AT_ONCE).map(|_| async {
        let mut took = Vec::new();
        for _ in 0..EACH {
            let begin = Instant::now();
            let call = client.post(&url).header("X-Api-Key", hook_key()).header("content-type", "application/json");
            let status = call.body(body.to_owned()).send().await?.status();
            ensure!(status == 204, "the hook said {status}");
            took.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        Ok(took)
    });
    let took: Vec<f64> = try_join_all(workers).await?.into_iter().flatten().collect();
    let rate = took.len() as f64 / begin.elapsed().as_secs_f64();
    print(&format!("{what}, {AT_ONCE} at once, {rate:.0}/s"), "ms", took);
    Ok(())
}

async fn many(bed: &Bed) -> Result<()> {
    bed.client("crowd", json!({"scope": SCOPE})).await?;
    let begin = Instant::now();
    let names: Vec<String> = (0..MANY).map(|n| format!("crowd-{n}")).collect();
    for some in names.chunks(50) {
        let calls = some.iter().map(|name| {
            let spec = json!({"clientID": "crowd", "subject": {"kind": "User", "id": name}});
            bed.grant("finance", name, spec)
        });
        try_join_all(calls).await?;
    }
    let applied = begin.elapsed();
    for name in &names {
        bed.wait(&format!("namespaces/finance/clientgrants/{name}"), "settled", Duration::from_secs(300), |o| {
            condition(o, "Ready")["status"] == "True"
        })
        .await?;
    }
    let settled = begin.elapsed();
    println!(
        "{MANY} grants of one client: applied in {:.1} s, all settled after {:.1} s; operator {} KiB resident",
        applied.as_secs_f64(),
        settled.as_secs_f64(),
        bed.operator.rss_kib()?
    );
    Ok(())
}

fn print(what: &str, unit: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get(((values.len() - 1) as f64 * share).round() as usize).copied().unwrap_or_default();
    println!("{what}: p50 {:.1} {unit}, p99 {:.1} {unit} (n={})", at(0.5), at(0.99), values.len());
}
