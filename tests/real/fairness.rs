//! A tenant with hundreds of grants that are edited without a pause delays no revocation of another one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use clientgrant_testbed::Recorded;
use clientgrant_testbed::hot::{By, Neighbour, Tenant};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::support::{bed_with, pause, percentiles};

const TENANT: Tenant = Tenant { clients: 100, grants: 300 };
const EDITORS: usize = 16;
const NEIGHBOURS: usize = 20;
/// Calls for the tenant that may come before a revocation.
const MOST: usize = 200;
const LONG: Duration = Duration::from_secs(120);

/// Counted, not timed, so that a slow machine proves the same: how many calls to the IdP are made for the
/// tenant after the API server has told a revocation and before the call that revokes.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_much_to_do_delays_no_revocation_of_another() {
    let bed = bed_with(|options| options.provider["driftCheckInterval"] = json!("1h")).await;
    TENANT.settle(&bed, LONG).await.unwrap();
    let settling = (0..NEIGHBOURS).map(|n| Neighbour::settle(&bed, n));
    let neighbours: Vec<Neighbour> = stream::iter(settling).buffer_unordered(8).try_collect().await.unwrap();
    let (edits, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let revoking = async {
        // Long enough that everything the tenant has is due.
        pause(4000).await;
        bed.proxy.clear();
        let (mut between, mut took) = (Vec::new(), Vec::new());
        for (n, neighbour) in neighbours.iter().enumerate() {
            let by = if n.is_multiple_of(2) { By::Suspension } else { By::Deletion };
            let revoked = neighbour.revoke(&bed, by, LONG).await.unwrap();
            let requests = bed.proxy.requests();
            let ended = requests.iter().position(|r| neighbour.ends(r)).expect("the call that revokes");
            let waited = revoked.called.saturating_sub(revoked.told);
            let of_tenant = |r: &&Recorded| Tenant::concerns(r) && requests[ended].instant - r.instant <= waited;
            between.push(requests[..ended].iter().filter(of_tenant).count());
            took.push(revoked.inactive.as_secs_f64() * 1e3);
            pause(200).await;
        }
        stop.store(true, Ordering::Relaxed);
        (between, took)
    };
    let ((mut between, took), storm) =
        tokio::join!(revoking, TENANT.storm(&bed, EDITORS, Duration::ZERO, &edits, &stop));
    storm.unwrap();
    let calls = bed.proxy.requests().iter().filter(|r: &&Recorded| Tenant::concerns(r)).count();
    let (median, most) = percentiles(took);
    between.sort_unstable();
    println!("{} edits, {calls} calls; revoked after {median:.0} ms, p99 {most:.0} ms", edits.into_inner());
    println!("calls for the tenant before each revocation: {between:?}");
    assert!(calls > NEIGHBOURS * 20, "positive control: the tenant kept the operator busy: {calls} calls");
    let median = between[between.len() / 2];
    // What is made while the API server, busy with the edits, has not told it yet is none of ours. Served by
    // place instead of by turns, every one of the tenant's clients that are due would go first, again and again.
    assert!(median <= MOST, "the tenant's calls went first: {between:?}");
}
