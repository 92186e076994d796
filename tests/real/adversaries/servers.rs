//! A server behind a tenant's provider that answers whatever it likes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clientgrant_testbed::bed::{Bed, condition};
use clientgrant_testbed::{Action, Iproxy, Recorded};
use serde_json::{Value, json};

use super::providers::{honest, own_hydra};
use super::{let_finance_connect, provider_path, provider_says, tenant_provider, unharmed};
use crate::support::{Real, bed_with, pause};

type Answers = Arc<dyn Fn(&Recorded) -> Action + Send + Sync>;

/// A tenant's provider that is connected, and what its server answers from now on.
struct Tenant {
    server: Iproxy,
    answers: Arc<Mutex<Answers>>,
}

impl Tenant {
    async fn start() -> (Real, Self) {
        let server = own_hydra();
        let args = vec![format!("--allow-provider-url={}", server.url())];
        let bed = bed_with(|options| options.args = args).await;
        let_finance_connect(&bed).await;
        let answers: Answers = Arc::new(|r: &Recorded| honest(r.path()));
        let answers = Arc::new(Mutex::new(answers));
        let now = answers.clone();
        server.set_rule(move |r| {
            let answers = now.lock().unwrap().clone();
            answers(r)
        });
        let object = tenant_provider("evil", "http://127.0.0.1:1/evil", server.url());
        bed.put(&provider_path("evil"), object).await.unwrap();
        (bed, Self { server, answers })
    }

    fn answers(&self, answers: impl Fn(&Recorded) -> Action + Send + Sync + 'static) {
        *self.answers.lock().unwrap() = Arc::new(answers);
        self.server.clear();
    }

    /// The tenant's provider says this while a grant of the cluster's comes into force; then the server is
    /// honest again. Returns by how many KiB the operator grew at most.
    async fn attack(&self, bed: &Bed, what: &str, message: &str) -> u64 {
        let before = bed.operator.rss_kib().unwrap();
        let mut most = before;
        let name = format!("during-{}", what.to_lowercase().replace(' ', "-"));
        bed.client(&name, json!({})).await.unwrap();
        let spec = json!({"clientID": name, "basis": "AdminConsent", "scopes": ["openid"]});
        let evil = async {
            let says = |o: &Value| {
                let ready = condition(o, "Ready");
                ready["reason"] == "ProviderUnavailable" && ready["message"].as_str().unwrap().contains(message)
            };
            bed.wait(&provider_path("evil"), what, Duration::from_secs(60), says).await.unwrap();
        };
        let ours = async {
            bed.grant("finance", &name, spec).await.unwrap();
            bed.reason("finance", &name, "Granted").await.unwrap();
        };
        let begun = std::time::Instant::now();
        let mut both = std::pin::pin!(futures::future::join(evil, ours));
        loop {
            tokio::select! {
                _ = &mut both => break,
                () = pause(20) => most = most.max(bed.operator.rss_kib().unwrap()),
            }
        }
        let grew = most - before;
        println!("{what}: the condition says so after {:.1} s, {grew} KiB more", begun.elapsed().as_secs_f64());
        assert!(self.server.writes().is_empty(), "{what}: {}", self.server.summary());
        unharmed(bed).await;
        self.answers(|r| honest(r.path()));
        provider_says(bed, "evil", "Connected").await;
        grew
    }
}

const LIMIT: u64 = 64 << 10;

fn listing(total: usize, list: &str) -> Action {
    Action::AnswerWith(200, vec![("X-Total-Count".into(), total.to_string())], list.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_server_that_sends_the_operator_elsewhere() {
    let (bed, tenant) = Tenant::start().await;
    provider_says(&bed, "evil", "Connected").await;
    for status in [301, 302, 303, 307, 308] {
        let to = bed.proxy.url().to_owned();
        bed.proxy.clear();
        tenant.answers(move |r| {
            let there = format!("{to}/redirected{}", r.path_and_query);
            Action::AnswerWith(status, vec![("Location".into(), there)], String::new())
        });
        tenant.attack(&bed, &format!("redirect {status}"), &format!("status {status}")).await;
        let followed: Vec<_> =
            bed.proxy.requests().into_iter().filter(|r| r.path().starts_with("/redirected")).collect();
        assert!(followed.is_empty(), "{status}: {followed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_server_that_answers_too_much_or_nonsense() {
    let (bed, tenant) = Tenant::start().await;
    provider_says(&bed, "evil", "Connected").await;
    let huge = Arc::new(format!(r#"{{"version": "{}"}}"#, "v".repeat(50 << 20)));
    let text = huge.clone();
    tenant.answers(move |_| Action::Answer(200, text.to_string()));
    let grew = tenant.attack(&bed, "50 MB", "larger than 4 MiB").await;
    assert!(grew < LIMIT, "{grew} KiB");
    tenant.answers(move |r| match r.path() {
        "/admin/clients" => listing(1, &huge),
        other => honest(other),
    });
    let grew = tenant.attack(&bed, "50 MB list", "larger than 4 MiB").await;
    assert!(grew < LIMIT, "{grew} KiB");
    let html = "<html><body>".to_owned() + &"<div>not JSON ".repeat(1000);
    tenant.answers(move |_| Action::Answer(200, html.clone()));
    let grew = tenant.attack(&bed, "HTML", "not JSON").await;
    assert!(grew < LIMIT, "{grew} KiB");
    let closed = format!("{}{}", "[".repeat(39_000), "]".repeat(39_000));
    for (what, deep, message) in [
        ("deep lists", "[".repeat(100_000), "too many parts"),
        ("deep objects", r#"{"a":"#.repeat(100_000), "too many parts"),
        ("deep and closed", closed, "not JSON"),
    ] {
        tenant.answers(move |_| listing(1, &deep));
        let grew = tenant.attack(&bed, what, message).await;
        assert!(grew < LIMIT, "{grew} KiB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_server_whose_list_has_no_end() {
    let (bed, tenant) = Tenant::start().await;
    provider_says(&bed, "evil", "Connected").await;
    let page = |from: usize| {
        let clients: Vec<String> = (from..from + 500).map(|n| format!(r#"{{"client_id": "client-{n}"}}"#)).collect();
        format!("[{}]", clients.join(","))
    };
    let endless = |told: usize| {
        let n = AtomicUsize::new(0);
        move |r: &Recorded| match r.path() {
            "/admin/clients" => listing(told, &page(n.fetch_add(500, Ordering::Relaxed))),
            other => honest(other),
        }
    };
    tenant.answers(endless(usize::MAX));
    let grew = tenant.attack(&bed, "endless list", "more clients than can be compared").await;
    assert!(grew < LIMIT, "{grew} KiB");
    // The longest that is read, whose every page is full.
    tenant.answers(endless(1_000_000));
    let grew = tenant.attack(&bed, "long list", "not complete").await;
    assert!(grew < LIMIT, "{grew} KiB");

    // One page with as many entries as fit, and one with as many as are read.
    for (what, many, message) in
        [("small entries", 500_000, "too many parts"), ("fewer of them", 39_000, "more clients than can be compared")]
    {
        let many = format!("[{}]", vec![r#"{"":0}"#; many].join(","));
        tenant.answers(move |r| match r.path() {
            "/admin/clients" => listing(500, &many),
            other => honest(other),
        });
        let grew = tenant.attack(&bed, what, message).await;
        assert!(grew < LIMIT, "{grew} KiB");
    }
}
