//! One revocation after another beside a tenant who edits 5,000 grants as fast as the API server takes it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clientgrant_testbed::bed::{Bed, BedOptions};
use clientgrant_testbed::hot::{By, Neighbour, Revoked, Tenant};
use clientgrant_testbed::scale;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::print;
use super::scale::{LONG, words};

/// One client with all grants, and many with some.
const TENANTS: [Tenant; 2] = [Tenant { clients: 500, grants: 5_000 }, Tenant { clients: 1, grants: 5_000 }];
/// Between two edits of the tenant: steadily, and as fast as the API server takes them.
const GAPS: [Duration; 2] = [Duration::from_millis(40), Duration::ZERO];
/// Edits at once: more of them only wait for the API server.
const EDITORS: usize = 16;
const SAMPLES: usize = 40;
/// Between two revocations.
const PAUSE: Duration = Duration::from_millis(300);
/// Into the storm, before the first revocation.
const WARM: Duration = Duration::from_secs(5);

/// Measures and prints.
pub async fn run(operator: &Path) -> Result<()> {
    for tenant in TENANTS {
        one(operator, tenant).await?;
    }
    Ok(())
}

async fn one(operator: &Path, tenant: Tenant) -> Result<()> {
    let mut options = BedOptions::new(operator);
    options.provider["driftCheckInterval"] = json!("1h");
    let bed = Bed::start(options).await?;
    let begin = Instant::now();
    tenant.settle(&bed, LONG).await?;
    let Tenant { clients, grants } = tenant;
    println!("{grants} grants of {clients} clients settled after {:.1} s", begin.elapsed().as_secs_f64());
    let settling = (0..SAMPLES * (1 + GAPS.len())).map(|n| Neighbour::settle(&bed, n));
    let neighbours: Vec<Neighbour> = stream::iter(settling).buffer_unordered(16).try_collect().await?;
    let mut neighbours = neighbours.chunks(SAMPLES);
    let mut some = || neighbours.next().unwrap_or_default();
    tokio::time::sleep(WARM).await;
    show("nobody else", &revoke_all(&bed, some()).await?);
    for gap in GAPS {
        beside(&bed, tenant, gap, some()).await?;
    }
    println!("  operator: {} KiB resident at most", bed.operator.peak_rss_kib()?);
    Ok(())
}

async fn beside(bed: &Bed, tenant: Tenant, gap: Duration, neighbours: &[Neighbour]) -> Result<()> {
    let (edits, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let beside = async {
        tokio::time::sleep(WARM).await;
        bed.proxy.clear();
        let (begin, before) = (Instant::now(), edits.load(Ordering::Relaxed));
        let took = revoke_all(bed, neighbours).await;
        let rate = (edits.load(Ordering::Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        Ok::<_, anyhow::Error>((took?, rate))
    };
    let ((took, rate), ()) = tokio::try_join!(beside, tenant.storm(bed, EDITORS, gap, &edits, &stop))?;
    ensure!(rate > 0.0, "the tenant edited nothing meanwhile");
    show(&format!("a tenant edits {rate:.0} grants/s"), &took);
    println!("  calls to Hydra meanwhile: {}", words(&scale::count(&bed.proxy, |r| Some(scale::call(r)))));
    Ok(())
}

/// By suspension and by deletion in turn.
async fn revoke_all(bed: &Bed, neighbours: &[Neighbour]) -> Result<Vec<Revoked>> {
    let mut took = Vec::new();
    for (n, neighbour) in neighbours.iter().enumerate() {
        let by = if n.is_multiple_of(2) { By::Suspension } else { By::Deletion };
        took.push(neighbour.revoke(bed, by, LONG).await?);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(took)
}

fn show(beside: &str, took: &[Revoked]) {
    let ms = |part: fn(&Revoked) -> Duration| took.iter().map(|r| part(r).as_secs_f64() * 1e3).collect();
    print(&format!("revocation beside {beside}: taken → a watch tells it"), "ms", ms(|r| r.told));
    print(&format!("revocation beside {beside}: taken → first look at Hydra"), "ms", ms(|r| r.looked));
    print(&format!("revocation beside {beside}: taken → revocation called"), "ms", ms(|r| r.called));
    print(&format!("revocation beside {beside}: taken → token inactive"), "ms", ms(|r| r.inactive));
    print(
        &format!("revocation beside {beside}: told → token inactive"),
        "ms",
        ms(|r| r.inactive.saturating_sub(r.told)),
    );
}
