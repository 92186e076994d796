//! Two replicas: one writes, both answer; whoever leads, nobody else writes.

use std::time::{Duration, Instant};

use clientgrant_testbed::bed::condition;
use clientgrant_testbed::canary::hook_key;
use clientgrant_testbed::{Operator, Recorded, Stall};
use serde_json::{Value, json};

use crate::support::{Real, active, bed, bed_with, chain, pause};

const SCOPE: &str = "openid offline_access transactions:read";
/// Of the Lease, in seconds.
const LEASE: f64 = 10.0;

async fn leader(bed: &Real) -> String {
    let path = "apis/coordination.k8s.io/v1/namespaces/clientgrant-system/leases/clientgrant";
    let (_, lease) = bed.raw(reqwest::Method::GET, path, None).await.unwrap();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// Until `name` holds the lease; in seconds.
async fn until_leader(bed: &Real, name: &str) -> f64 {
    let start = Instant::now();
    while leader(bed).await != name {
        assert!(start.elapsed() < Duration::from_secs(40), "{name} does not lead\n{}", bed.operator.log());
        pause(10).await;
    }
    start.elapsed().as_secs_f64()
}

async fn second(bed: &Real) -> Operator {
    let second = bed.second_operator(&[]).unwrap();
    second.ready(Duration::from_secs(30)).await.unwrap();
    second
}

fn by(replica: &str) -> impl Fn(&Recorded) -> bool {
    move |r| r.agent.ends_with(&format!("({replica})"))
}

/// A hook call as Hydra makes it, to one replica: the status.
async fn hook(url: &str, client: &str) -> u16 {
    let body = json!({
        "session": {"id_token": {"subject": client}},
        "request": {"client_id": client, "grant_types": ["client_credentials"], "granted_scopes": ["ledger:read"], "granted_audience": []},
    });
    let call = clientgrant_testbed::net::http().build().unwrap().post(format!("{url}/hydra/token-hook/corp"));
    call.header("x-api-key", hook_key()).json(&body).send().await.unwrap().status().as_u16()
}

async fn own(bed: &Real, name: &str) {
    bed.client(name, json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    let spec = json!({"clientID": name, "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.grant("finance", name, spec).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writes_both_answer_and_the_lease_is_handed_over() {
    let mut bed = bed().await;
    let second = second(&bed).await;
    own(&bed, "one").await;
    bed.reason("finance", "one", "Granted").await.unwrap();
    assert_eq!(leader(&bed).await, "first");
    assert!(bed.written().iter().all(by("first")), "{}", bed.proxy.summary());
    assert!(bed.proxy.requests().iter().any(by("second")), "positive control: the other one connects too");

    // Both decide: what the leader put in force a moment ago, and what nobody manages.
    for url in [bed.operator.decision_url(), second.decision_url()] {
        assert_eq!(hook(&url, "one").await, 204);
        assert_eq!(hook(&url, "nobody").await, 403);
    }
    bed.patch("namespaces/finance/clientgrants/one", json!({"spec": {"suspend": true}})).await.unwrap();
    bed.reason("finance", "one", "Suspended").await.unwrap();
    assert_eq!(hook(&second.decision_url(), "one").await, 403);

    // Clean: the leader is asked to stop, and Hydra's calls go to the other one, as a Service would do it.
    bed.hooks.set_upstream(&second.decision_url());
    bed.operator.process().terminate().unwrap();
    let stall = Stall::watch();
    let clean = until_leader(&bed, "second").await;
    println!("hand-over after SIGTERM: {clean:.2} s");
    assert!(clean <= 2.0 + stall.lost().as_secs_f64(), "{clean}");
    bed.operator.process().wait_exit(Duration::from_secs(5)).await.unwrap();
    bed.proxy.clear();
    own(&bed, "two").await;
    bed.reason("finance", "two", "Granted").await.unwrap();
    assert!(bed.written().iter().all(by("second")), "{}", bed.proxy.summary());

    // Killed: the lease has to run out.
    bed.operator.restart().unwrap();
    bed.operator.ready(Duration::from_secs(30)).await.unwrap();
    assert_eq!(leader(&bed).await, "second", "who comes back follows");
    bed.hooks.set_upstream(&bed.operator.decision_url());
    second.kill();
    let stall = Stall::watch();
    let killed = until_leader(&bed, "first").await;
    println!("hand-over after SIGKILL: {killed:.2} s");
    assert!(killed <= LEASE + 1.0 + stall.lost().as_secs_f64(), "{killed}");
    own(&bed, "three").await;
    bed.reason("finance", "three", "Granted").await.unwrap();
}

/// What the new leader finds is as it should be: it reads, and writes nothing anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_writes_nothing_but_the_lease() {
    let bed = bed_with(|options| options.audit = true).await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "reporting", json!({})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "reporting", "Granted").await.unwrap();
    let any = json!({"subject": {"kind": "Any", "id": null}, "basis": "AdminConsent", "clientID": "intranet", "scopes": ["openid", "transactions:read"]});
    bed.client("intranet", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("finance", "any", any).await.unwrap();
    bed.reason("finance", "any", "Granted").await.unwrap();
    let second = second(&bed).await;
    // Narrowed under the eyes of the one that follows; it must not do it once more.
    bed.patch("namespaces/finance/clientgrants/any", json!({"spec": {"scopes": ["openid"]}})).await.unwrap();
    bed.reason("finance", "any", "Granted").await.unwrap();
    bed.hooks.set_upstream(&second.decision_url());
    pause(12_000).await;
    let from = bed.asked().unwrap().len();
    bed.proxy.clear();
    bed.operator.process().terminate().unwrap();
    until_leader(&bed, "second").await;
    pause(8_000).await;
    let reads = ["get ", "list ", "watch ", "update leases "];
    let asked = bed.asked().unwrap();
    let writes: Vec<_> = asked[from..].iter().filter(|a| !reads.iter().any(|r| a.starts_with(r))).collect();
    assert!(writes.is_empty(), "{writes:?}");
    assert!(bed.written().is_empty(), "{}", bed.proxy.summary());
    assert!(bed.proxy.requests().iter().filter(|r| r.path() == "/admin/clients").any(by("second")), "it compared");
}

/// Stopped in the middle of its work for longer than the lease, again and again: when it goes on, somebody
/// else leads, and nothing of what it was about to write is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_writes_nothing_when_it_wakes() {
    let tries: u64 = std::env::var("CLIENTGRANT_FREEZES").map_or(6, |n| n.parse().unwrap());
    let bed = bed_with(|options| options.args = vec!["--lease-duration=3s".into()]).await;
    for c in 0..6 {
        own(&bed, &format!("app-{c}")).await;
    }
    for c in 0..6 {
        bed.reason("finance", &format!("app-{c}"), "Granted").await.unwrap();
    }
    let other = second(&bed).await;
    let mut names = ["first", "second"];
    let mut seen = 0;
    for round in 0..tries {
        let (frozen, awake) = if names[0] == "first" { (&bed.operator, &other) } else { (&other, &bed.operator) };
        assert_eq!(leader(&bed).await, names[0]);
        // Work for both: each client is suspended and resumed in turn, while the leader stops dead.
        for c in 0..6 {
            let suspend = json!({"spec": {"suspend": (round + c) % 2 == 0}});
            bed.patch(&format!("namespaces/finance/clientgrants/app-{c}"), suspend).await.unwrap();
        }
        pause((round * 7) % 40).await;
        // A Service sends Hydra's calls to the replica that answers.
        bed.hooks.set_upstream(&awake.decision_url());
        frozen.pause().unwrap();
        let (stopped, stall) = (Instant::now(), Stall::watch());
        let taken = until_leader(&bed, names[1]).await;
        assert!(taken <= 4.0 + stall.lost().as_secs_f64(), "taken after {taken:.2} s");
        for c in 0..6 {
            let reason = if (round + c) % 2 == 0 { "Suspended" } else { "Granted" };
            bed.reason("finance", &format!("app-{c}"), reason).await.unwrap();
        }
        // New work while it wakes, so that it is tempted.
        bed.proxy.clear();
        for c in 0..6 {
            let suspend = json!({"spec": {"suspend": (round + c) % 2 != 0}});
            bed.patch(&format!("namespaces/finance/clientgrants/app-{c}"), suspend).await.unwrap();
        }
        frozen.resume().unwrap();
        for c in 0..6 {
            let reason = if (round + c) % 2 != 0 { "Suspended" } else { "Granted" };
            bed.reason("finance", &format!("app-{c}"), reason).await.unwrap();
        }
        pause(1_000).await;
        let writes = bed.written();
        seen += writes.iter().filter(|r| by(names[1])(r)).count();
        let late: Vec<_> = writes.iter().filter(|r| by(names[0])(r)).collect();
        assert!(late.is_empty(), "frozen for {:?}: {late:?}", stopped.elapsed());
        frozen.ready(Duration::from_secs(30)).await.unwrap();
        awake.ready(Duration::from_secs(5)).await.unwrap();
        names.reverse();
    }
    println!("{tries} freezes: 0 writes by the one that woke, {seen} by the leader meanwhile");
    assert!(seen as u64 >= tries * 6, "positive control: {seen}");
}

/// The API server is gone, and with it the lease: what passes its end date ends all the same, and nothing
/// else is written. After --max-staleness nobody decides any more. It is gone for a minute, or for
/// `CLIENTGRANT_OUTAGE_SECONDS` (from 400) with the flags as they are by default.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_server_ends_go_on_and_decisions_until_they_are_stale() {
    let long: Option<u64> = std::env::var("CLIENTGRANT_OUTAGE_SECONDS").ok().map(|n| n.parse().unwrap());
    let outage = Duration::from_secs(long.unwrap_or(60));
    // One ends while decisions are still given, one when they are not any more.
    let (sooner, later) = if long.is_some() { (200, 360) } else { (32, 58) };
    let bed = bed_with(|options| {
        if long.is_none() {
            options.args = vec!["--max-staleness=40s".into()];
        }
    });
    let mut bed = bed.await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    let (end, last) = (crate::support::ahead(sooner), crate::support::ahead(later));
    bed.grant("finance", "short", json!({"expiresAt": end})).await.unwrap();
    bed.grant("finance", "stale", json!({"subject": {"id": "carol"}, "expiresAt": last})).await.unwrap();
    bed.grant("finance", "long", json!({"subject": {"id": "bob"}})).await.unwrap();
    own(&bed, "batch").await;
    for name in ["short", "stale", "long"] {
        bed.reason("finance", name, "AwaitingConsent").await.unwrap();
    }
    let short = chain(&bed, &client, "ann", SCOPE).await;
    let stale = chain(&bed, &client, "carol", SCOPE).await;
    let long = chain(&bed, &client, "bob", SCOPE).await;
    for name in ["short", "stale", "long", "batch"] {
        bed.reason("finance", name, "Granted").await.unwrap();
    }

    bed.plane.stop_apiserver();
    let down = Instant::now();
    bed.proxy.clear();
    assert!(active(&bed, &short.access).await, "positive control");
    let since = ends(&bed, &short.access, &end, down).await;
    assert!(since > 12.0, "the lease had run out long before: {since}");
    assert!(active(&bed, &long.access).await);
    let again = client.refresh(&long.refresh).await.unwrap();
    let again = again.refresh_token().unwrap_or_else(|| panic!("decisions go on: {}", again.json)).to_owned();
    pause(3_000).await;
    let other = |whose: &[&str]| {
        let mut writes = bed.written();
        writes.retain(|r| !whose.iter().any(|name| r.path_and_query.contains(&format!("subject={name}"))));
        writes
    };
    assert!(other(&["ann"]).is_empty(), "nothing else is written: {:?}", other(&["ann"]));

    assert!(active(&bed, &stale.access).await, "positive control");
    ends(&bed, &stale.access, &last, down).await;
    while down.elapsed() < outage {
        pause(200).await;
    }
    assert!(!bed.hydra.admin().list_consents("bob").await.unwrap().is_empty(), "what has no end yet stays");
    assert!(other(&["ann", "carol"]).is_empty(), "nothing else is written: {:?}", other(&["ann", "carol"]));
    assert_eq!(hook(&bed.operator.decision_url(), "batch").await, 403, "what is known may be old");
    assert!(bed.operator.log().contains("reason=\"Stale\""));
    println!(
        "API server down for {:.0} s: {} writes, all of them ends",
        down.elapsed().as_secs_f64(),
        bed.written().len()
    );
    bed.plane.start_apiserver().await.unwrap();
    let back = Instant::now();
    bed.operator.ready(Duration::from_secs(40)).await.unwrap();
    println!("ready {:.1} s after it came back", back.elapsed().as_secs_f64());
    for name in ["short", "stale"] {
        bed.reason("finance", name, "Expired").await.unwrap();
    }
    println!("what ended says so {:.1} s after it came back", back.elapsed().as_secs_f64());
    assert_eq!(hook(&bed.operator.decision_url(), "batch").await, 204);
    assert!(client.refresh(&again).await.unwrap().access_token().is_some(), "and it all goes on");
    let ready = bed.get("namespaces/finance/clientgrants/long").await.unwrap().unwrap();
    assert_eq!(condition(&ready, "Active")["status"], Value::from("True"));
}

/// Waits until a token has ended by its date; in seconds since the API server went.
async fn ends(bed: &Real, token: &str, end: &str, down: Instant) -> f64 {
    crate::support::until(end).await;
    let wait = async {
        while active(bed, token).await {
            pause(20).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), wait).await.expect("it ends without the API server");
    let (since, ended) = (down.elapsed().as_secs_f64(), clientgrant::clock::now());
    let late = ended.duration_since(clientgrant::api::instant::parse(end).unwrap()).as_secs_f64();
    println!("API server down for {since:.0} s: the token ended {late:.2} s after its date");
    since
}
