//! A client that is an adversary itself.

use std::time::{Duration, Instant};

use clientgrant_testbed::bed::{CALLBACK, condition};
use clientgrant_testbed::net::http;
use clientgrant_testbed::{AuthRequest, ConsentApp, Recorded};
use reqwest::Method;
use serde_json::{Value, json};

use super::{SCOPE, path, unharmed};
use crate::support::{Real, active, bed, bed_with, chain, pause};

/// A token for the user `batch` and one of the client `batch` for itself look the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_has_the_name_of_a_client() {
    let bed = bed().await;
    let users = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    let batch =
        bed.client("batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    let own = json!({"clientID": "batch", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    let user = json!({"subject": {"id": "batch"}});
    // Another user keeps the scopes in the registration: it is the decision that refuses.
    bed.grant("finance", "keeps", json!({})).await.unwrap();
    bed.reason("finance", "keeps", "AwaitingConsent").await.unwrap();
    let ask = async || {
        let request = AuthRequest::new(users.id(), CALLBACK, SCOPE, "batch");
        bed.browser().unwrap().authorize(&request, &bed.honest()).await.unwrap()
    };

    // The user first: it works, until the client acts for itself.
    bed.grant("it", "user", user.clone()).await.unwrap();
    bed.reason("it", "user", "AwaitingConsent").await.unwrap();
    let tokens = chain(&bed, &users, "batch", SCOPE).await;
    bed.reason("it", "user", "Granted").await.unwrap();
    bed.grant("finance", "own", own.clone()).await.unwrap();
    bed.reason("finance", "own", "Granted").await.unwrap();
    let refused = bed.reason("it", "user", "SubjectClientCollision").await.unwrap();
    assert!(refused["status"]["effective"].is_null());
    assert!(users.refresh(&tokens.refresh).await.unwrap().access_token().is_none());
    assert_eq!(ask().await.decision.unwrap().json["reason"], "GrantRefused");
    assert!(batch.client_credentials("ledger:read", "").await.unwrap().access_token().is_some());

    // The client's grant goes, and the user is free.
    bed.delete(&path("own")).await.unwrap();
    bed.gone(&path("own")).await.unwrap();
    bed.reason("it", "user", "Granted").await.unwrap();
    let again = users.refresh(&tokens.refresh).await.unwrap();
    assert!(again.access_token().is_some(), "the consent was not destroyed: {}", again.json);
    bed.delete("namespaces/it/clientgrants/user").await.unwrap();
    bed.gone("namespaces/it/clientgrants/user").await.unwrap();

    // The client first.
    bed.grant("finance", "own", own).await.unwrap();
    bed.reason("finance", "own", "Granted").await.unwrap();
    bed.grant("it", "user", user).await.unwrap();
    let refused = bed.reason("it", "user", "SubjectClientCollision").await.unwrap();
    let message = condition(&refused, "Ready")["message"].as_str().unwrap();
    assert!(!message.contains("finance"), "names nothing of another namespace: {message}");
    assert!(refused["metadata"]["finalizers"].is_null());
    assert_eq!(ask().await.decision.unwrap().json["reason"], "GrantRefused");
    let outcome = {
        let request = AuthRequest::new(users.id(), CALLBACK, SCOPE, "batch");
        bed.browser().unwrap().authorize(&request, &ConsentApp::grant_all()).await.unwrap()
    };
    if let Some(code) = outcome.code() {
        let token = users.exchange_code(code, CALLBACK).await.unwrap();
        assert!(token.access_token().is_none(), "{}", token.json);
    }
    // Deleted and gone by the clock are the same to the user.
    bed.patch(&path("own"), json!({"spec": {"expiresAt": "2026-01-01T00:00:00Z"}})).await.unwrap();
    bed.reason("finance", "own", "Expired").await.unwrap();
    bed.delete(&path("own")).await.unwrap();
    bed.gone(&path("own")).await.unwrap();
    bed.reason("it", "user", "AwaitingConsent").await.unwrap();
    chain(&bed, &users, "batch", SCOPE).await;
    bed.reason("it", "user", "Granted").await.unwrap();
}

/// Where anybody may register clients, each may rewrite its own registration.
struct Registered {
    id: String,
    secret: String,
    url: String,
    token: String,
}

impl Registered {
    async fn new(bed: &Real, body: &Value) -> Self {
        let url = format!("{}/oauth2/register", bed.hydra.public_url());
        let answer = http().build().unwrap().post(&url).json(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let text = |field: &str| answer[field].as_str().unwrap_or_else(|| panic!("{field}: {answer}")).to_owned();
        let (id, secret) = (text("client_id"), text("client_secret"));
        Self { url: format!("{url}/{id}"), id, secret, token: text("registration_access_token") }
    }

    /// Rewrites its registration: status and answer.
    async fn rewrite(&mut self, body: &Value) -> (u16, Value) {
        let request = http().build().unwrap().request(Method::PUT, &self.url).bearer_auth(&self.token);
        let answer = request.json(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
        // Each rewriting may make others.
        for (field, mine) in [("registration_access_token", &mut self.token), ("client_secret", &mut self.secret)] {
            if let Some(text) = answer[field].as_str() {
                text.clone_into(mine);
            }
        }
        (status, answer)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_rewrites_its_own_registration() {
    const CHECK: Duration = Duration::from_secs(2);
    let bed = bed_with(|options| {
        options.provider["driftCheckInterval"] = json!("2s");
        options.hydra = json!({"oidc": {"dynamic_client_registration": {"enabled": true}}});
    })
    .await;
    let modest = json!({
        "client_name": "app", "scope": SCOPE, "redirect_uris": [CALLBACK], "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "client_secret_post",
    });
    let mut client = Registered::new(&bed, &modest).await;
    let id = client.id.clone();
    bed.grant("finance", "app", json!({"clientID": id})).await.unwrap();
    bed.reason("finance", "app", "AwaitingConsent").await.unwrap();
    pause(3000).await;
    let exact = bed.hydra.admin().get_client(&id).await.unwrap();
    assert_eq!(exact["metadata"].as_object().map(|m| m.len()), Some(1), "the mark: {exact}");

    let wide = {
        let mut wide = modest.clone();
        wide["scope"] = json!(format!("{SCOPE} admin payments:write"));
        wide["grant_types"] = json!(["authorization_code", "refresh_token", "client_credentials", "implicit"]);
        wide["response_types"] = json!(["code", "token", "id_token", "code token"]);
        wide
    };
    let steal = async || {
        let mut request = AuthRequest::new(&id, CALLBACK, "openid admin", "eve");
        request.response_type = "token".into();
        request.extra = vec![("nonce".into(), "a-nonce-of-the-test".into())];
        bed.browser().unwrap().authorize(&request, &ConsentApp::grant_all()).await.unwrap()
    };
    assert!(steal().await.access_token().is_none());
    let mut slowest = (Duration::ZERO, Duration::ZERO);
    for round in 0..3 {
        // Each round comes some time after a drift check, and early enough before the next to be seen.
        bed.proxy.clear();
        let checks = |call: &Recorded| call.method == "GET" && call.path() == "/admin/clients" && call.status.is_some();
        bed.proxy.wait_for(checks, CHECK * 3).await.unwrap();
        pause(300 * round).await;
        let (status, answer) = client.rewrite(&wide).await;
        assert_eq!(status, 200, "{answer}");
        let begun = Instant::now();
        let widened = bed.hydra.admin().get_client(&id).await.unwrap();
        assert!(widened["scope"].as_str().unwrap().contains("admin"), "positive control: {widened}");
        assert!(widened["metadata"].get("clientgrant.dev/cluster").is_none(), "the mark is wiped: {widened}");
        let stolen = steal().await;
        let stolen =
            stolen.access_token().unwrap_or_else(|| panic!("positive control: no token: {stolen:?}")).to_owned();
        assert!(active(&bed, &stolen).await, "positive control");
        let within = CHECK * 2 + Duration::from_secs(1);
        let repaired = loop {
            let seen = bed.hydra.admin().get_client(&id).await.unwrap();
            if ["scope", "grant_types", "response_types", "metadata"].iter().all(|f| seen[*f] == exact[*f]) {
                break begun.elapsed();
            }
            assert!(begun.elapsed() < within, "round {round}: {seen:#}\n{}", bed.operator.log());
            pause(10).await;
        };
        let ended = loop {
            if !active(&bed, &stolen).await {
                break begun.elapsed();
            }
            assert!(begun.elapsed() < within + Duration::from_secs(2), "round {round}: the token lives on");
            pause(10).await;
        };
        slowest = (slowest.0.max(repaired), slowest.1.max(ended));
        assert!(steal().await.access_token().is_none(), "round {round}: repaired, and it goes on");
    }
    println!(
        "3 rewritings at a drift check of {CHECK:?}: repaired after at most {:?}, the tokens ended after {:?}",
        slowest.0, slowest.1
    );
    let secret = client.secret.clone();
    let honest = clientgrant_testbed::OAuthClient::new(&bed.hydra, &id, &secret).unwrap();
    chain(&bed, &honest, "ann", SCOPE).await;
    bed.reason("finance", "app", "Granted").await.unwrap();
    unharmed(&bed).await;
}
