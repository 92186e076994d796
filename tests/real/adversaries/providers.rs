//! A tenant with a provider object of its own, where the platform team permits that.

use clientgrant_testbed::{Action, Iproxy};
use serde_json::json;

use super::{let_finance_connect, nothing_written, provider_path, provider_says, registration, tenant_provider};
use crate::support::{Real, bed_with, pause};

/// A Hydra of the tenant's own, as far as the operator asks.
pub(super) fn own_hydra() -> Iproxy {
    let own = Iproxy::start("http://127.0.0.1:1").unwrap();
    own.set_rule(|r| honest(r.path()));
    own
}

/// What a Hydra without clients answers.
pub(super) fn honest(path: &str) -> Action {
    match path {
        "/version" => Action::Answer(200, r#"{"version": "v2.3.0"}"#.into()),
        "/admin/clients" => Action::AnswerWith(200, vec![("X-Total-Count".into(), "0".into())], "[]".into()),
        _ => Action::Answer(404, r#"{"error": "Not Found"}"#.into()),
    }
}

/// Nothing of the operator's own flags stands in the way.
async fn lenient() -> Real {
    bed_with(|options| options.args = vec!["--allow-provider-url=http*".into(), "--allow-insecure-http".into()]).await
}

/// The tenant's provider with this URL is refused, by the API server or by the operator. Returns why.
async fn refused(bed: &Real, name: &str, issuer: &str, url: &str, reason: &str) -> String {
    let path = provider_path(name);
    let why = match bed.put(&path, tenant_provider(name, issuer, url)).await {
        Err(error) => {
            assert!(error.to_string().contains("(422)"), "{url}: {error}");
            error.to_string()
        }
        Ok(_) => provider_says(bed, name, reason).await,
    };
    bed.delete(&path).await.unwrap();
    why
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_who_claims_the_cluster_providers_issuer() {
    let bed = lenient().await;
    let_finance_connect(&bed).await;
    let own = own_hydra();
    bed.put(&provider_path("own"), tenant_provider("own", "http://127.0.0.1:1/own", own.url())).await.unwrap();
    provider_says(&bed, "own", "Connected").await;
    assert!(!own.requests().is_empty(), "positive control: an issuer of its own is connected");

    own.clear();
    let issuer = bed.hydra.issuer();
    let claim = tenant_provider("claim", &issuer, &format!("{}/claim", own.url()));
    bed.put(&provider_path("claim"), claim).await.unwrap();
    let why = provider_says(&bed, "claim", "IssuerTaken").await;
    assert!(why.contains("Another provider object speaks for this issuer"), "{why}");
    bed.client("app", json!({})).await.unwrap();
    let before = registration(&bed, "app").await;
    let through = json!({"kind": "IdentityProvider", "name": "claim"});
    bed.proxy.clear();
    bed.grant("finance", "app", json!({"clientID": "app", "providerRef": through})).await.unwrap();
    bed.reason("finance", "app", "ProviderNotFound").await.unwrap();
    nothing_written(&bed, "the claimed issuer").await;
    assert!(own.requests().iter().all(|r| !r.path().starts_with("/claim")), "{}", own.summary());
    assert_eq!(registration(&bed, "app").await, before);

    // The same issuer spelt otherwise is another one, and the discovery document says so.
    for spelt in [issuer.trim_end_matches('/').to_owned(), issuer.replace("127.0.0.1", "localhost")] {
        refused(&bed, "spelt", &spelt, own.url(), "IssuerMismatch").await;
    }
    assert!(own.writes().is_empty() && bed.written().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_who_spells_the_cluster_providers_address_otherwise() {
    let bed = lenient().await;
    let_finance_connect(&bed).await;
    let own = own_hydra();
    let port = bed.proxy.url().rsplit(':').next().unwrap().to_owned();
    let own_port = own.url().rsplit(':').next().unwrap();
    let issuer = "http://127.0.0.1:1/own";
    let spelt = |port: &str| {
        [
            "http://127.0.0.1:{}",
            "http://127.0.0.1:{}/",
            "http://127.0.0.1:{}//",
            "http://127.0.0.1:{}/%2e",
            "http://127.0.0.1:0{}",
            "http://127.0.0.1.:{}",
            "http://127.1:{}",
            "http://2130706433:{}",
            "http://0x7f000001:{}",
            "http://0177.0.0.1:{}",
            "http://1%32%37.0.0.1:{}",
            "http://localhost:{}",
            "http://LOCALHOST:{}/",
            "http://loc%61lhost:{}",
            "http://localhost.:{}",
            "http://[::ffff:127.0.0.1]:{}",
            "http://[::ffff:7f00:1]:{}/",
            "http://127.0.0.1:{}/team",
            "http://127.0.0.1:{}/team/%2E%2e",
            r"http://127.0.0.1:{}/team\..",
            "http:/\\127.0.0.1:{}",
        ]
        .map(|url| url.replace("{}", port))
    };
    // Which of the spellings reach a server at all?
    let mut reached = 0;
    for url in spelt(own_port) {
        own.clear();
        let path = provider_path("own");
        if bed.put(&path, tenant_provider("own", issuer, &url)).await.is_ok() {
            for _ in 0..20 {
                if !own.requests().is_empty() {
                    break;
                }
                pause(50).await;
            }
            reached += usize::from(!own.requests().is_empty());
        }
        bed.delete(&path).await.unwrap();
        bed.gone(&path).await.unwrap();
    }
    println!("{reached} of {} spellings reach a server of the tenant's own", spelt(own_port).len());
    assert!(reached >= 4, "positive control");

    pause(500).await;
    for url in spelt(&port) {
        bed.proxy.clear();
        let why = refused(&bed, "same", issuer, &url, "URLNotAllowed").await;
        assert!(!why.is_empty());
        let asked: Vec<_> = bed.proxy.requests().into_iter().filter(|r| !corp(r.path())).collect();
        assert!(asked.is_empty(), "{url}: {asked:?}");
    }
    // The issuer is a place like any other: its discovery document is read.
    bed.proxy.clear();
    let from = format!("{}/somewhere", bed.proxy.url());
    bed.put(&provider_path("issuer"), tenant_provider("issuer", &from, own.url())).await.unwrap();
    pause(1500).await;
    let asked: Vec<_> = bed.proxy.requests().into_iter().filter(|r| !corp(r.path())).collect();
    assert!(asked.is_empty(), "{asked:?}");
}

/// The cluster provider's own calls.
fn corp(path: &str) -> bool {
    ["/version", "/admin/clients"].contains(&path)
}

/// Below the permitted prefix a tenant's provider connects; it is taken away again.
async fn connects_below(bed: &Real, own: &Iproxy, issuer: &str, inside: &str) {
    own.set_rule(|r| honest(r.path().trim_start_matches("/team/x")));
    bed.put(&provider_path("own"), tenant_provider("own", issuer, &format!("{inside}x"))).await.unwrap();
    provider_says(bed, "own", "Connected").await;
    assert!(!own.requests().is_empty(), "positive control: below the prefix it connects");
    bed.delete(&provider_path("own")).await.unwrap();
    bed.gone(&provider_path("own")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_who_points_at_a_metadata_service() {
    let own = own_hydra();
    let inside = format!("{}/team/", own.url());
    let args = vec![format!("--allow-provider-url={inside}*,http://,http://*"), "--allow-insecure-http".into()];
    let bed = bed_with(|options| options.args = args).await;
    let_finance_connect(&bed).await;
    let issuer = "http://127.0.0.1:1/own";
    connects_below(&bed, &own, issuer, &inside).await;

    for host in [
        "169.254.169.254",
        "169.254.169.254.",
        "169.254.0.1",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[fd00:0ec2:0:0:0:0:0:254]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "2852039166",
        "0xA9FEA9FE",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "025177524776",
        "169.16689662",
        "169.254.43518",
        "1%36%39.254.169.254",
        "[64:ff9b::169.254.169.254]",
        "100.100.100.200",
        "[fd20:ce::254]",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "0.0.0.0",
        "0",
        "[::]",
        "224.0.0.1",
    ] {
        for url in [format!("http://{host}/"), format!("http://{host}:80/latest"), format!("https://{host}")] {
            let begun = std::time::Instant::now();
            let why = refused(&bed, "metadata", issuer, &url, "URLNotAllowed").await;
            assert!(why.contains("Link-local and metadata addresses are refused"), "{url}: {why}");
            assert!(begun.elapsed().as_secs() < 3, "{url}");
            // The issuer is read as well.
            let why = refused(&bed, "metadata", &url, &format!("{inside}x"), "URLNotAllowed").await;
            assert!(why.contains("Link-local and metadata addresses are refused"), "issuer {url}: {why}");
        }
    }
    println!("link-local and metadata addresses in every spelling: refused");
}

/// The path is compared with what the platform team permits as it will be sent, not as it is spelt.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_who_climbs_out_of_the_permitted_path() {
    let own = own_hydra();
    let inside = format!("{}/team/", own.url());
    let args = vec![format!("--allow-provider-url={inside}*")];
    let bed = bed_with(|options| options.args = args).await;
    let_finance_connect(&bed).await;
    let issuer = "http://127.0.0.1:1/own";
    connects_below(&bed, &own, issuer, &inside).await;

    for rest in [
        "..",
        "../x",
        "x/../../y",
        "./x",
        ".",
        "%2e%2e/x",
        "%2E%2E/x",
        "%2e%2E/x",
        "%2E%2e/x",
        ".%2e/x",
        "%2e./x",
        ".%2E/x",
        "%2e/x",
        r"..\x",
        r"x\..\..\y",
        r"x\%2e%2E\..\y",
        "x?a=b",
        "x#a",
        "user@x",
    ] {
        own.clear();
        let why = refused(&bed, "climbs", issuer, &format!("{inside}{rest}"), "URLNotAllowed").await;
        assert!(!why.is_empty());
        assert!(own.requests().is_empty(), "{rest}: {}", own.summary());
    }
    let (_, host) = own.url().split_once("//").unwrap();
    for url in [
        format!("http://user:word@{host}/team/x"),
        format!("http://user@{host}/team/x"),
        format!("http://{host}@/team/x"),
    ] {
        refused(&bed, "user", issuer, &url, "URLNotAllowed").await;
    }
    assert!(own.requests().is_empty(), "{}", own.summary());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_who_was_at_the_address_first() {
    let bed = lenient().await;
    let_finance_connect(&bed).await;
    let own = own_hydra();
    let url = own.url().replace("127.0.0.1", "localhost");
    bed.put(&provider_path("first"), tenant_provider("first", "http://127.0.0.1:1/own", &url)).await.unwrap();
    provider_says(&bed, "first", "Connected").await;
    assert!(!own.requests().is_empty(), "positive control");

    let mut second = tenant_provider("second", "http://127.0.0.1:1/second", own.url());
    second["kind"] = json!("ClusterIdentityProvider");
    second["metadata"] = json!({"name": "second"});
    second["spec"]["allow"] = json!([{"clients": ["*"]}]);
    second["spec"]["driftCheckInterval"] = json!("1h");
    bed.put("clusteridentityproviders/second", second).await.unwrap();
    let why = provider_says(&bed, "first", "URLNotAllowed").await;
    assert!(why.contains("A cluster provider uses this URL"), "{why}");
    bed.delete("clusteridentityproviders/second").await.unwrap();
    bed.gone("clusteridentityproviders/second").await.unwrap();
    provider_says(&bed, "first", "Connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_names_another_one_for_a_while() {
    let bed = lenient().await;
    let_finance_connect(&bed).await;
    let own = own_hydra();
    let issuer = format!("{}/own", own.url());
    bed.put(&provider_path("own"), tenant_provider("own", &issuer, own.url())).await.unwrap();
    provider_says(&bed, "own", "Connected").await;
    let through = json!({"kind": "IdentityProvider", "name": "own"});
    bed.grant("finance", "app", json!({"clientID": "app", "providerRef": through})).await.unwrap();
    bed.reason("finance", "app", "UnknownClient").await.unwrap();

    own.set_rule(|r| match r.path().ends_with("openid-configuration") {
        true => Action::Answer(200, r#"{"issuer": "https://another.example"}"#.into()),
        false => honest(r.path()),
    });
    provider_says(&bed, "own", "IssuerMismatch").await;
    bed.reason("finance", "app", "ProviderUnavailable").await.unwrap();
    own.set_rule(|r| honest(r.path()));
    provider_says(&bed, "own", "Connected").await;
    bed.reason("finance", "app", "UnknownClient").await.unwrap();
}
