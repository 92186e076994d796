//! 3,000 grants of 1,200 clients: what they cost, what a restart costs, and that their end is an end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clientgrant_testbed::bed::{Bed, BedOptions};
use clientgrant_testbed::scale::{self, Fleet, Took};
use clientgrant_testbed::{Proxy, Recorded};
use serde_json::json;

const FLEET: Fleet = Fleet { clients: 1_200, most: 4 };
pub const LONG: Duration = Duration::from_secs(500);
/// The counts of a provider are published this often, and a little more.
const COUNTS: Duration = Duration::from_secs(11);

/// Measures and prints.
pub async fn run(operator: &Path) -> Result<()> {
    let mut bed = bed(operator, FLEET).await?;
    let grants = FLEET.grants().len();
    let applied = apply(&bed, FLEET).await?;
    applied.print(&format!("{grants} grants of {} clients", FLEET.clients), "settled", grants);
    println!("operator: {} KiB resident at most", bed.operator.peak_rss_kib()?);
    restart(&mut bed).await?;
    let ended = end(&bed, FLEET).await?;
    ended.print(&format!("end of all {grants}"), "gone from Kubernetes", grants);
    let alive = alive(&bed, FLEET).await?;
    ensure!(alive == 0, "{alive} clients may still have something");
    Ok(())
}

/// A bed in which every call can be counted, and a fleet that nobody manages yet.
pub async fn bed(operator: &Path, fleet: Fleet) -> Result<Bed> {
    let mut options = BedOptions::new(operator);
    options.provider["driftCheckInterval"] = json!("1h");
    options.kproxy = true;
    let bed = Bed::start(options).await?;
    let begin = Instant::now();
    fleet.register(bed.hydra.admin()).await?;
    println!("{} clients registered beforehand in {:.1} s", fleet.clients, begin.elapsed().as_secs_f64());
    Ok(bed)
}

pub fn kube(bed: &Bed) -> Result<&Proxy> {
    Ok(bed.kproxy.as_ref().context("no proxy before the API server")?)
}

/// Applies all grants of a fleet and waits until they are settled.
pub async fn apply(bed: &Bed, fleet: Fleet) -> Result<Phase> {
    clear(bed)?;
    let took = fleet.apply(bed, LONG).await?;
    Ok(Phase::of(took, &bed.proxy, kube(bed)?))
}

/// Deletes all grants of a fleet and waits until they are gone.
pub async fn end(bed: &Bed, fleet: Fleet) -> Result<Phase> {
    clear(bed)?;
    let took = fleet.delete(bed, LONG).await?;
    Ok(Phase::of(took, &bed.proxy, kube(bed)?))
}

/// How many clients may have something, counted twice from outside.
pub async fn alive(bed: &Bed, fleet: Fleet) -> Result<usize> {
    let mut most = 0;
    for n in ["first", "second"] {
        let alive = fleet.alive(bed.hydra.admin()).await?;
        println!("clients at Hydra, {n} count: {} of {} may have nothing", fleet.clients - alive.len(), fleet.clients);
        for (id, holds) in alive.iter().take(10) {
            println!("  {id} holds {holds}");
        }
        most = most.max(alive.len());
    }
    Ok(most)
}

async fn restart(bed: &mut Bed) -> Result<()> {
    let waiting = FLEET.waiting(bed).await?.len();
    scale::quiet(kube(bed)?, COUNTS, LONG).await?;
    bed.operator.kill();
    clear(bed)?;
    let begin = Instant::now();
    bed.operator.restart()?;
    // The operator's own client is listed, too.
    scale::verified(bed, FLEET.clients + 1, LONG).await?;
    let verified = begin.elapsed();
    let calls = scale::count(&bed.proxy, |r| Some(scale::call(r)));
    println!("killed and restarted: verified after {:.2} s, with {}", verified.as_secs_f64(), words(&calls));
    let looks = || scale::count(&bed.proxy, |r| Some(scale::call(r)));
    while looks().get("consents of a subject").copied().unwrap_or_default() < waiting {
        ensure!(begin.elapsed() < LONG, "not all that wait were looked at");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (after, calls) = (begin.elapsed().as_secs_f64(), looks());
    println!("  {waiting} that wait for their subject looked at after {after:.1} s; all calls: {}", words(&calls));
    tokio::time::sleep(COUNTS).await;
    let writes = scale::count(kube(bed)?, scale::write);
    println!("  writes to the API server: {}", words(&writes));
    println!("  operator: {} KiB resident at most", bed.operator.peak_rss_kib()?);
    Ok(())
}

fn clear(bed: &Bed) -> Result<()> {
    bed.proxy.clear();
    kube(bed)?.clear();
    Ok(())
}

/// What one change to all objects took.
pub struct Phase {
    pub took: Took,
    /// To the IdP, by kind.
    pub calls: BTreeMap<String, usize>,
    /// What the IdP answered.
    pub bytes: usize,
    /// To the API server, by kind.
    pub writes: BTreeMap<String, usize>,
}

impl Phase {
    /// What both proxies have counted since they were cleared.
    pub fn of(took: Took, idp: &Proxy, kube: &Proxy) -> Self {
        Self {
            took,
            calls: scale::count(idp, |r: &Recorded| Some(scale::call(r))),
            bytes: idp.requests().iter().map(|r| r.response_bytes).sum(),
            writes: scale::count(kube, scale::write),
        }
    }

    pub fn print(&self, what: &str, done: &str, objects: usize) {
        let (asked, took) = (self.took.asked.as_secs_f64(), self.took.done.as_secs_f64());
        println!("{what}: taken by the API server in {asked:.1} s, all {done} after {took:.1} s");
        let each = |counts: &BTreeMap<String, usize>| counts.values().sum::<usize>() as f64 / objects as f64;
        println!("  calls to Hydra: {:.2} an object: {}", each(&self.calls), words(&self.calls));
        println!("  writes to the API server: {:.2} an object: {}", each(&self.writes), words(&self.writes));
    }
}

pub fn words(counts: &BTreeMap<String, usize>) -> String {
    let all: Vec<String> = counts.iter().map(|(what, n)| format!("{n} × {what}")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}
