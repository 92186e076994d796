//! Hundreds of clients at once: what a restart costs, and that an end reaches every one of them.

use std::collections::BTreeSet;
use std::time::Duration;

use clientgrant_testbed::scale::{self, Fleet};
use serde_json::{Value, json};

use crate::support::bed_with;

const FLEET: Fleet = Fleet { clients: 300, most: 3 };
const LONG: Duration = Duration::from_secs(60);
/// The counts of a provider are published this often, and a little more.
const COUNTS: Duration = Duration::from_secs(11);

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_writes_nothing_and_an_end_reaches_every_one_of_many_clients() {
    let mut bed = bed_with(|options| {
        options.provider["driftCheckInterval"] = json!("1h");
        options.kproxy = true;
    })
    .await;
    FLEET.register(bed.hydra.admin()).await.unwrap();
    let grants = FLEET.grants();
    assert_eq!((FLEET.clients, grants.len()), (300, 600));
    let took = FLEET.apply(&bed, LONG).await.unwrap();
    println!("applied in {:?}, settled after {:?}", took.asked, took.done);
    let waiting = FLEET.waiting(&bed).await.unwrap();
    assert!(!waiting.is_empty() && waiting.len() < grants.len(), "positive control: {} wait", waiting.len());
    assert_eq!(FLEET.alive(bed.hydra.admin()).await.unwrap().len(), FLEET.clients, "positive control");

    // Nothing has changed: what is settled costs its share of a page, and nothing is written.
    let counts = json!({"total": grants.len(), "active": grants.len() - waiting.len()});
    let published = |o: &Value| o["status"]["grants"] == counts;
    bed.wait("clusteridentityproviders/corp", "counted", LONG, published).await.unwrap();
    let kube = bed.kproxy.as_ref().unwrap();
    scale::quiet(kube, Duration::from_secs(1), LONG).await.unwrap();
    bed.operator.kill();
    kube.clear();
    bed.proxy.clear();
    bed.operator.restart().unwrap();
    scale::verified(&bed, FLEET.clients + 1, LONG).await.unwrap();
    tokio::time::sleep(COUNTS).await;
    let calls = scale::count(&bed.proxy, |r| Some(scale::call(r)));
    println!("after the restart: {calls:?}");
    assert_eq!(scale::count(bed.kproxy.as_ref().unwrap(), scale::write), [].into(), "nothing is written");
    let pages = calls.get("page of clients").copied().unwrap_or_default();
    assert!((1..=2).contains(&pages), "{calls:?}");
    // Only whose subject may have answered meanwhile is looked at singly.
    let clients: BTreeSet<&str> = waiting.iter().filter_map(|name| name.rsplit_once('-')).map(|(c, _)| c).collect();
    for request in bed.proxy.requests() {
        let path = request.path_and_query.as_str();
        match scale::call(&request) {
            "version" | "probe client" | "page of clients" => {}
            "client read" => {
                let id = path.rsplit('/').next().unwrap();
                assert!(clients.contains(id), "{id} has nothing that waits");
            }
            "consents of a subject" => {
                let subject = path.split(['?', '&']).find_map(|pair| pair.strip_prefix("subject=")).unwrap();
                assert!(waiting.contains(subject), "{subject} is not waited for");
            }
            _ => panic!("{} {path}", request.method),
        }
    }

    let took = FLEET.delete(&bed, LONG).await.unwrap();
    println!("deleted in {:?}, gone after {:?}", took.asked, took.done);
    for _ in 0..2 {
        let alive = FLEET.alive(bed.hydra.admin()).await.unwrap();
        assert!(alive.is_empty(), "{alive:?}");
    }
}
