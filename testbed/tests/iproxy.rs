//! The proxy in front of a real Hydra.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use clientgrant_testbed::{Action, Hydra, HydraAdmin, HydraOptions, Iproxy};
use common::{client, tools};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

struct Setup {
    hydra: Hydra,
    proxy: Iproxy,
    /// Calls through the proxy.
    admin: HydraAdmin,
}

impl Setup {
    async fn new() -> Self {
        let hydra = Hydra::start(&tools(), HydraOptions::default()).await.unwrap();
        client(&hydra, "shop").await;
        let proxy = Iproxy::start(hydra.admin_url()).unwrap();
        let http = clientgrant_testbed::net::http().timeout(SECOND).build().unwrap();
        let admin = HydraAdmin::new(proxy.url(), http);
        Self { hydra, proxy, admin }
    }

    async fn rename(&self, name: &str) -> anyhow::Result<()> {
        let patch = json!([{ "op": "replace", "path": "/client_name", "value": name }]);
        self.admin.patch_client("shop", &patch).await.map(drop)
    }

    /// The name as it is, past the proxy.
    async fn name(&self) -> String {
        let client = self.hydra.admin().get_client("shop").await.unwrap();
        client["client_name"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn records_and_numbers() {
    let setup = Setup::new().await;
    setup.admin.get_client("shop").await.unwrap();
    setup.rename("one").await.unwrap();
    assert!(setup.admin.get_client("nobody").await.is_err());
    let seen = setup.proxy.requests();
    let short: Vec<_> = seen.iter().map(|r| (r.n, &*r.method, r.path(), r.status)).collect();
    let expected = [
        (1, "GET", "/admin/clients/shop", Some(200)),
        (2, "PATCH", "/admin/clients/shop", Some(200)),
        (3, "GET", "/admin/clients/nobody", Some(404)),
    ];
    assert_eq!(short, expected);
    let writes = setup.proxy.writes();
    assert_eq!((writes.len(), writes[0].write), (1, Some(1)));
    assert!(writes[0].body.contains("client_name") && writes[0].duration.is_some());
    assert!(seen[0].response_bytes > 100);
    setup.proxy.clear();
    setup.admin.get_client("shop").await.unwrap();
    assert_eq!(setup.proxy.requests()[0].n, 1);
}

#[tokio::test]
async fn holds_before_and_after_upstream() {
    let setup = Setup::new().await;
    let hold = setup.proxy.hold(|r| r.is_write());
    let (renamed, ()) = tokio::join!(setup.rename("held"), async {
        assert_eq!(hold.wait_arrived(SECOND).await.unwrap().method, "PATCH");
        assert_eq!(setup.name().await, "An example client");
        setup.admin.get_client("shop").await.expect("reads are not held");
        hold.release();
    });
    renamed.unwrap();
    assert_eq!(setup.name().await, "held");
    setup.rename("released").await.expect("holds nothing any more");

    let hold = setup.proxy.hold_response(|r| r.is_write());
    let (renamed, ()) = tokio::join!(setup.rename("written"), async {
        assert_eq!(hold.wait_arrived(SECOND).await.unwrap().status, Some(200));
        assert_eq!(setup.name().await, "written");
        hold.discard();
    });
    assert!(renamed.is_err(), "the answer was thrown away");

    let hold = setup.proxy.hold(|r| r.is_write());
    let (renamed, ()) = tokio::join!(setup.rename("lost"), async {
        hold.wait_arrived(SECOND).await.unwrap();
        hold.discard();
    });
    assert!(renamed.is_err());
    assert_eq!(setup.name().await, "written");

    // What is held goes on when its sender has given up.
    let hold = setup.proxy.hold(|r| r.is_write());
    assert!(setup.rename("late").await.is_err(), "the sender waits a second only");
    hold.release();
    setup.proxy.wait_for(|r| r.n == hold.arrived()[0].n && r.status.is_some(), SECOND).await.ok();
    let end = Instant::now() + SECOND;
    while setup.name().await != "late" {
        assert!(Instant::now() < end);
    }
}

#[tokio::test]
async fn rules_break_requests() {
    let setup = Setup::new().await;
    let rule = |action: Action| setup.proxy.set_rule(move |_| action.clone());
    let retry = vec![("Retry-After".to_owned(), "7".to_owned())];
    rule(Action::AnswerWith(429, retry, "{}".to_owned()));
    let path = "/admin/clients/shop";
    let answer = setup.admin.request(reqwest::Method::GET, path).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    rule(Action::Answer(200, "garbage".to_owned()));
    assert!(setup.admin.get_client("shop").await.is_err());
    rule(Action::Blackhole);
    let error = setup.rename("never").await.unwrap_err();
    assert!(error.downcast_ref::<reqwest::Error>().unwrap().is_timeout(), "{error:#}");
    rule(Action::DropRequest);
    assert!(setup.rename("never").await.is_err());
    assert_eq!(setup.name().await, "An example client");
    rule(Action::DropResponse);
    assert!(setup.rename("done").await.is_err());
    assert_eq!(setup.name().await, "done");
    rule(Action::Delay(SECOND / 4));
    let start = Instant::now();
    setup.rename("slow").await.unwrap();
    assert!(start.elapsed() >= SECOND / 4);
    setup.proxy.clear_rule();
    setup.proxy.set_upstream("http://127.0.0.1:1");
    assert!(setup.rename("nowhere").await.is_err());
    setup.proxy.set_upstream(setup.hydra.admin_url());
    setup.rename("back").await.unwrap();
}

#[tokio::test]
async fn callbacks_run_at_exact_moments() {
    let setup = Setup::new().await;
    let before = Arc::new(AtomicU16::new(0));
    let after = Arc::clone(&before);
    let seen = Arc::clone(&before);
    setup.proxy.before(
        |r| r.write == Some(2),
        move |r| {
            assert_eq!((r.n, r.status), (3, None));
            seen.fetch_add(1, Ordering::SeqCst);
        },
    );
    let seen = Arc::clone(&after);
    setup.proxy.after(
        |r| r.write == Some(2),
        move |r| {
            assert_eq!(r.status, Some(200));
            seen.fetch_add(10, Ordering::SeqCst);
        },
    );
    setup.rename("one").await.unwrap();
    setup.admin.get_client("shop").await.unwrap();
    assert_eq!(after.load(Ordering::SeqCst), 0);
    setup.rename("two").await.unwrap();
    assert_eq!(after.load(Ordering::SeqCst), 11);
    setup.proxy.clear();
    setup.rename("one").await.unwrap();
    setup.rename("two").await.unwrap();
    assert_eq!(after.load(Ordering::SeqCst), 11, "each runs once");
}

#[tokio::test]
async fn answers_are_cut_short() {
    let setup = Setup::new().await;
    let get = || setup.admin.request(reqwest::Method::GET, "/admin/clients/shop").send();
    let whole = get().await.unwrap().bytes().await.unwrap();
    for length in [0, 1, 100] {
        setup.proxy.set_rule(move |_| Action::Truncate(length));
        let mut answer = get().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.content_length()), (200, Some(whole.len() as u64)));
        let mut seen = Vec::new();
        let error = loop {
            match answer.chunk().await {
                Ok(part) => seen.extend(part.expect("no end before the promised length")),
                Err(error) => break error,
            }
        };
        assert!(!error.is_timeout(), "the connection is closed: {error:#}");
        assert_eq!(seen, whole[..length]);
    }
    assert!(setup.rename("cut").await.is_err());
    assert_eq!(setup.name().await, "cut", "upstream did its work");
    setup.proxy.set_rule(|_| Action::Truncate(1 << 20));
    assert_eq!(setup.admin.get_client("shop").await.unwrap()["client_name"], "cut");
}

#[tokio::test]
async fn answers_are_garbage_or_endless() {
    let setup = Setup::new().await;
    setup.proxy.set_rule(|_| Action::Garbage);
    let answer = setup.admin.request(reqwest::Method::GET, "/admin/clients/nobody").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(answer.text().await.unwrap().contains("<html>"));
    assert!(setup.rename("garbled").await.is_err());
    assert_eq!(setup.name().await, "garbled", "upstream did its work");
    assert_eq!(setup.proxy.requests()[0].status, Some(404), "the record keeps what upstream said");

    const MANY: usize = 3_000_001;
    setup.proxy.set_rule(|_| Action::Flood(MANY));
    let answer = setup.admin.request(reqwest::Method::GET, "/admin/clients/shop").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.content_length()), (200, None));
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body = answer.bytes().await.unwrap();
    assert!(body.len() == MANY && body.iter().all(|byte| *byte == b'['));
    assert!(setup.rename("flooded").await.is_err());
    assert_eq!(setup.name().await, "garbled", "upstream saw nothing");
}

#[tokio::test]
async fn a_request_is_delivered_twice() {
    let setup = Setup::new().await;
    // What comes out of the proxy goes through a second one, which counts.
    let out = Iproxy::start(setup.hydra.admin_url()).unwrap();
    setup.proxy.set_upstream(out.url());
    setup.proxy.set_rule(|r| if r.is_write() { Action::Twice } else { Action::Forward });
    let body = json!({"client_id": "twin"}).to_string();
    let create = setup.admin.request(reqwest::Method::POST, "/admin/clients").body(body);
    let answer = create.header("user-agent", "a test/1").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 409, "the second answer is delivered");
    let seen: Vec<_> = out.requests().iter().map(|r| (r.status, r.body.clone(), r.agent.clone())).collect();
    assert_eq!(seen.iter().map(|(status, ..)| status.unwrap()).collect::<Vec<_>>(), [201, 409]);
    assert!(seen[0].1.contains("twin") && seen[0].1 == seen[1].1, "{seen:?}");
    assert!(seen.iter().all(|(.., agent)| agent == "a test/1"), "{seen:?}");
    assert_eq!(setup.proxy.requests().len(), 1, "its sender sent it once");
}

#[tokio::test]
async fn reads_lag_behind() {
    let setup = Setup::new().await;
    let name = async || setup.admin.get_client("shop").await.unwrap()["client_name"].clone();
    assert!(setup.admin.get_client("late").await.is_err());
    name().await;
    setup.rename("new").await.unwrap();
    assert_eq!(name().await, "new");
    setup.proxy.stale_reads(true);
    setup.rename("newer").await.expect("writes go through");
    let late = json!({"client_id": "late"});
    setup.admin.create_client(&late).await.unwrap();
    assert_eq!(name().await, "new", "the last answer before the switch");
    assert!(setup.admin.get_client("late").await.is_err(), "it was not there");
    assert_eq!(setup.admin.list_consents("ann").await.unwrap().len(), 0, "was not asked before: goes through");
    setup.rename("newest").await.unwrap();
    assert_eq!(name().await, "new");
    assert_eq!(setup.name().await, "newest");
    setup.proxy.stale_reads(false);
    assert_eq!(name().await, "newest");
    setup.admin.get_client("late").await.unwrap();
}
