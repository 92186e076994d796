//! One client, many hands: its grants are changed by several people at once, and there are many.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clientgrant_testbed::Stall;
use futures::future::{join, try_join_all};
use serde_json::{Value, json};

use crate::support::{Real, bed, bed_with, pause};

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// For so long the union has to be there without a break.
const STAYS: Duration = Duration::from_millis(400);

const SCOPES: [&str; 5] = ["openid", "read", "write", "export", "admin"];

/// One person: creates, edits and deletes one grant, and says what is left of it.
async fn hand(bed: &Real, name: String, subject: &str, seed: u64) -> BTreeSet<&'static str> {
    let mut dice = Dice(seed);
    let mut left = BTreeSet::new();
    for _ in 0..4 + dice.roll(4) {
        pause(dice.roll(25)).await;
        if dice.roll(5) == 0 && !left.is_empty() {
            bed.delete(&format!("namespaces/finance/clientgrants/{name}")).await.unwrap();
            return BTreeSet::new();
        }
        let mut scopes: BTreeSet<&str> = SCOPES.into_iter().filter(|_| dice.roll(2) == 0).collect();
        scopes.insert(SCOPES[dice.roll(5) as usize]);
        let suspend = dice.roll(6) == 0;
        let spec = json!({"clientID": "busy", "subject": {"id": subject}, "scopes": scopes, "suspend": suspend});
        bed.grant("finance", &name, spec).await.unwrap();
        left = if suspend { BTreeSet::new() } else { scopes };
    }
    left
}

fn registered(client: &Value) -> BTreeSet<String> {
    client["scope"].as_str().unwrap_or_default().split(' ').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_interleavings_of_two_hands_end_in_the_exact_union() {
    let bed = bed().await;
    bed.client("busy", json!({"scope": SCOPES.join(" ")})).await.unwrap();
    let mut slowest = Duration::ZERO;
    for round in 0..50_u64 {
        let seed = (round + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (a, b) = (format!("a-{round}"), format!("b-{round}"));
        // Subjects of their own: the grants of the round before are still being ended.
        let (ann, bob) = (format!("ann-{round}"), format!("bob-{round}"));
        let (ann, bob) =
            join(hand(&bed, a.clone(), &ann, seed), hand(&bed, b.clone(), &bob, seed.rotate_left(31))).await;
        let mut wanted: BTreeSet<String> = ann.union(&bob).map(|s| (*s).to_owned()).collect();
        if wanted.is_empty() {
            wanted.insert("clientgrant.dev/none".into());
        }
        let (begun, stall) = (Instant::now(), Stall::watch());
        let mut since: Option<Instant> = None;
        loop {
            let client = bed.hydra.admin().get_client("busy").await.unwrap();
            if registered(&client) == wanted {
                let flows = if wanted.contains("clientgrant.dev/none") {
                    json!(["urn:clientgrant.dev:none"])
                } else {
                    json!(["authorization_code", "refresh_token"])
                };
                assert_eq!(client["grant_types"], flows, "round {round}");
                // It stays so: nobody's older plan comes after. At first it may be there by chance, before the
                // operator has seen the last edits.
                if since.get_or_insert_with(Instant::now).elapsed() > STAYS {
                    break;
                }
                pause(20).await;
                continue;
            }
            since = None;
            let late = begun.elapsed() > Duration::from_secs(10) + stall.lost();
            assert!(!late, "round {round}: {} is not {wanted:?}\n{}", client["scope"], bed.operator.log());
            pause(10).await;
        }
        slowest = slowest.max(begun.elapsed() - STAYS);
        for name in [a, b] {
            bed.delete(&format!("namespaces/finance/clientgrants/{name}")).await.unwrap();
        }
    }
    for n in 0..50 {
        for name in ["a", "b"] {
            bed.gone(&format!("namespaces/finance/clientgrants/{name}-{n}")).await.unwrap();
        }
    }
    println!("50 interleavings: the union was there at the latest {slowest:?} after the last edit");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_grant_among_two_thousand_costs_a_handful_of_calls() {
    const MANY: usize = 2_000;
    let bed = bed_with(|options| {
        options.provider["driftCheckInterval"] = json!("1h");
        options.provider["limits"] = json!({"requestsPerSecond": 2000});
    })
    .await;
    bed.client("crowd", json!({"scope": "openid transactions:read transactions:export"})).await.unwrap();
    let spec = |n: usize, scopes: Value| json!({"clientID": "crowd", "basis": "AdminConsent", "subject": {"id": format!("user-{n}")}, "scopes": scopes});
    let begun = Instant::now();
    for some in (0..MANY).collect::<Vec<_>>().chunks(50) {
        let calls = some.iter().map(|n| {
            let name = format!("crowd-{n}");
            let spec = spec(*n, json!(["openid", "transactions:read"]));
            let bed = &bed;
            async move { bed.grant("finance", &name, spec).await }
        });
        try_join_all(calls).await.unwrap();
    }
    for n in 0..MANY {
        let path = format!("namespaces/finance/clientgrants/crowd-{n}");
        bed.wait(&path, "granted", Duration::from_secs(120), |o| {
            clientgrant_testbed::bed::condition(o, "Ready")["reason"] == "Granted"
        })
        .await
        .unwrap();
    }
    println!("{MANY} grants of one client in force after {:.1} s", begun.elapsed().as_secs_f64());

    bed.proxy.clear();
    bed.grant("finance", "crowd-7", spec(7, json!(["openid", "transactions:export"]))).await.unwrap();
    bed.reason("finance", "crowd-7", "Granted").await.unwrap();
    pause(3000).await;
    println!("one changed grant: {} calls{}", bed.proxy.requests().len(), bed.proxy.summary());
    assert!(bed.proxy.requests().len() <= 8, "{}", bed.proxy.summary());
    bed.proxy.clear();
    bed.delete("namespaces/finance/clientgrants/crowd-8").await.unwrap();
    bed.gone("namespaces/finance/clientgrants/crowd-8").await.unwrap();
    pause(1000).await;
    println!("one deleted grant: {} calls{}", bed.proxy.requests().len(), bed.proxy.summary());
    assert!(bed.proxy.requests().len() <= 12, "{}", bed.proxy.summary());
}
