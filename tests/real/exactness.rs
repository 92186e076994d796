//! Exactness: what a grant declares can be had, and nothing else, by whatever way to a token.
//!
//! The clients here hold more grants than the one that is tried: the registration then permits more than
//! each grant does, and what is refused is refused by the decision.

use clientgrant_testbed::bed::{Bed, CALLBACK};
use clientgrant_testbed::{Action, AuthOutcome, AuthRequest, ConsentApp, OAuthClient, TokenOutcome};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Real, active, ahead, bed, chain, pause, strings, until};

const CLIENT: &str = "finance-reporting";
const SCOPE: &str = "openid offline_access transactions:read";
const LEDGER: &str = "https://ledger.example.com";
const PAYROLL: &str = "https://payroll.example.com";

/// One authorization request in a fresh browser.
async fn ask(bed: &Bed, client: &str, subject: &str, scope: &str, audience: &str, app: &ConsentApp) -> AuthOutcome {
    let mut request = AuthRequest::new(client, CALLBACK, scope, subject);
    request.audience = audience.to_owned();
    bed.browser().unwrap().authorize(&request, app).await.unwrap()
}

/// The same, with the code redeemed.
async fn redeem(
    bed: &Bed,
    client: &OAuthClient,
    subject: &str,
    scope: &str,
    audience: &str,
    app: &ConsentApp,
) -> TokenOutcome {
    let outcome = ask(bed, client.id(), subject, scope, audience, app).await;
    let code = outcome.code().unwrap_or_else(|| panic!("no code: {:?} {:?}", outcome.params, outcome.decision));
    client.exchange_code(code, CALLBACK).await.unwrap()
}

/// Why the operator told an honest app to refuse, and what the client got to hear.
fn refused(outcome: &AuthOutcome) -> String {
    assert!(outcome.code().is_none(), "{outcome:?}");
    assert_eq!(outcome.error(), Some("access_denied"), "{outcome:?}");
    let said = outcome.decision.as_ref().expect("the operator was asked");
    assert_eq!(said.json["decision"], "Deny");
    said.json["reason"].as_str().unwrap_or_default().to_owned()
}

/// Hydra gets a yes from a hook that is not the operator's.
fn careless_hook(bed: &Bed) {
    bed.hooks.set_rule(|_| Action::Answer(204, String::new()));
}

async fn granted(bed: &Bed, name: &str, spec: Value) {
    let consent = spec["basis"] != "ClientOwn";
    bed.grant("finance", name, spec).await.unwrap();
    bed.reason("finance", name, if consent { "AwaitingConsent" } else { "Granted" }).await.unwrap();
}

fn user(subject: &str, over: Value) -> Value {
    let mut spec = json!({"clientID": CLIENT, "subject": {"kind": "User", "id": subject}});
    clientgrant_testbed::bed::merge(&mut spec, &over);
    spec
}

fn own(client: &str, over: Value) -> Value {
    let mut spec = json!({"clientID": client, "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    clientgrant_testbed::bed::merge(&mut spec, &over);
    spec
}

async fn audience(bed: &Bed, token: &TokenOutcome) -> Vec<String> {
    let access = token.access_token().unwrap_or_else(|| panic!("no token: {}", token.json));
    let seen = bed.hydra.admin().introspect(access).await.unwrap();
    assert_eq!(seen["active"], true);
    strings(&seen["aud"])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flow_gives_the_declared_scopes_and_no_other() {
    let bed = bed().await;
    let all = json!(["authorization_code", "refresh_token", "client_credentials"]);
    let client = bed.client(CLIENT, json!({"scope": SCOPE, "grant_types": all})).await.unwrap();
    granted(&bed, "ann", user("ann", json!({}))).await;
    granted(&bed, "bob", user("bob", json!({"scopes": ["openid", "transactions:export"]}))).await;
    granted(&bed, "own", own(CLIENT, json!({"scopes": ["ledger:read", "ledger:sum"]}))).await;
    let honest = bed.honest();

    // The code flow.
    let token = redeem(&bed, &client, "ann", "openid transactions:read", "", &honest).await;
    assert_eq!(token.scopes(), ["openid", "transactions:read"], "fewer than declared is fine");
    let token = redeem(&bed, &client, "bob", "transactions:export", "", &honest).await;
    assert_eq!(token.scopes(), ["transactions:export"], "positive control: the client may have this scope, for bob");
    for other in ["openid transactions:export", "transactions:read ledger:read"] {
        assert_eq!(refused(&ask(&bed, CLIENT, "ann", other, "", &honest).await), "ScopeNotDeclared");
    }
    assert_eq!(ask(&bed, CLIENT, "ann", "openid payments:write", "", &honest).await.error(), Some("invalid_scope"));
    assert_eq!(refused(&ask(&bed, CLIENT, "eve", "openid", "", &honest).await), "NoGrant");

    // A consent app that grants beyond the request, and beyond everything the client has.
    let generous = bed.hostile(|body, _, _| body["grant_scope"] = json!(["openid", "transactions:read", "payments:write"]));
    careless_hook(&bed);
    bed.hooks.clear();
    let token = redeem(&bed, &client, "ann", "openid transactions:read", "", &generous).await;
    let stolen = token.access_token().expect("positive control: Hydra alone issues it").to_owned();
    assert!(token.scopes().contains(&"payments:write"), "{}", token.json);
    let asked: Value = serde_json::from_str(&bed.hooks.requests()[0].body).unwrap();
    assert_eq!(asked["request"]["grant_types"], json!(["authorization_code"]));
    assert_eq!(asked["request"]["granted_scopes"], json!([]), "the hook is told of no scope at the code exchange");
    bed.hooks.clear_rule();
    let token = redeem(&bed, &client, "ann", "openid transactions:read", "", &generous).await;
    assert_eq!(token.error(), Some("access_denied"), "{}", token.json);
    let token = redeem(&bed, &client, "bob", "transactions:export", "", &ConsentApp::grant_all()).await;
    assert_eq!(token.error(), Some("access_denied"), "an app that does not ask gets nothing: {}", token.json);
    pause(1000).await;
    assert!(!active(&bed, &stolen).await, "the pair that carries more than its grant was ended");

    // The refresh flow.
    let tokens = chain(&bed, &client, "ann", SCOPE).await;
    let wider = [("grant_type", "refresh_token"), ("refresh_token", &tokens.refresh), ("scope", "transactions:export")];
    let token = client.token(&wider).await.unwrap();
    assert!(!token.scopes().contains(&"transactions:export"), "{}", token.json);
    let refresh = token.refresh_token().unwrap_or(&tokens.refresh).to_owned();
    let token = client.refresh(&refresh).await.unwrap();
    assert_eq!(token.scopes(), ["offline_access", "openid", "transactions:read"]);

    // The client for itself: what its users' grants declare is in the registration, and not its own.
    for scopes in ["ledger:read", "ledger:read ledger:sum"] {
        let token = client.client_credentials(scopes, "").await.unwrap();
        assert_eq!(token.scopes().join(" "), scopes);
    }
    for (scope, error) in [("transactions:read", "access_denied"), ("payments:write", "invalid_scope")] {
        let token = client.client_credentials(scope, "").await.unwrap();
        assert_eq!(token.error(), Some(error), "{}", token.json);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_carries_a_declared_audience_and_no_other() {
    let bed = bed().await;
    let all = json!(["authorization_code", "refresh_token", "client_credentials"]);
    let client = bed.client(CLIENT, json!({"scope": SCOPE, "grant_types": all})).await.unwrap();
    let plain = bed.client("plain", json!({"grant_types": ["client_credentials"], "audience": [LEDGER]})).await.unwrap();
    granted(&bed, "ann", user("ann", json!({"audiences": [LEDGER, "https://archive.example.com"]}))).await;
    granted(&bed, "bob", user("bob", json!({"audiences": [PAYROLL]}))).await;
    granted(&bed, "eve", user("eve", json!({}))).await;
    granted(&bed, "own", own(CLIENT, json!({"audiences": [LEDGER]}))).await;
    granted(&bed, "plain", own("plain", json!({}))).await;
    let honest = bed.honest();

    let token = redeem(&bed, &client, "ann", SCOPE, LEDGER, &honest).await;
    assert_eq!(audience(&bed, &token).await, [LEDGER]);
    let token = client.refresh(token.refresh_token().unwrap()).await.unwrap();
    assert_eq!(audience(&bed, &token).await, [LEDGER], "a refreshed token keeps it");
    let token = redeem(&bed, &client, "bob", SCOPE, PAYROLL, &honest).await;
    assert_eq!(audience(&bed, &token).await, [PAYROLL], "positive control: the client may have it, for bob");
    let token = redeem(&bed, &client, "eve", SCOPE, "", &honest).await;
    assert!(audience(&bed, &token).await.is_empty());

    for (subject, asked, reason) in [
        ("ann", "", "AudienceMissing"),
        ("ann", PAYROLL, "AudienceNotDeclared"),
        ("ann", &format!("{LEDGER} {PAYROLL}"), "AudienceNotDeclared"),
        ("eve", LEDGER, "AudienceNotDeclared"),
    ] {
        assert_eq!(refused(&ask(&bed, CLIENT, subject, SCOPE, asked, &honest).await), reason, "{subject} {asked}");
    }
    let nobody = ask(&bed, CLIENT, "ann", SCOPE, "https://nobody.example.com", &honest).await;
    assert_eq!(nobody.error(), Some("invalid_request"), "{nobody:?}");
    for given in [json!([PAYROLL]), json!([LEDGER, PAYROLL]), json!([])] {
        let swap = given.clone();
        let app = bed.hostile(move |body, _, _| body["grant_access_token_audience"] = swap.clone());
        let token = redeem(&bed, &client, "ann", SCOPE, LEDGER, &app).await;
        assert_eq!(token.error(), Some("access_denied"), "the app gave {given}: {}", token.json);
    }

    let token = client.client_credentials("ledger:read", LEDGER).await.unwrap();
    assert_eq!(audience(&bed, &token).await, [LEDGER]);
    for other in ["", PAYROLL] {
        let token = client.client_credentials("ledger:read", other).await.unwrap();
        assert_eq!(token.error(), Some("access_denied"), "{other:?}: {}", token.json);
    }
    let token = plain.client_credentials("ledger:read", "").await.unwrap();
    assert!(audience(&bed, &token).await.is_empty());
    let token = plain.client_credentials("ledger:read", LEDGER).await.unwrap();
    assert_eq!(token.error(), Some("invalid_request"), "{}", token.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_declared_grant_types_give_tokens() {
    let bed = bed().await;
    let all = json!(["authorization_code", "refresh_token", "client_credentials"]);
    let both = bed.client(CLIENT, json!({"scope": SCOPE, "grant_types": all})).await.unwrap();
    let code = bed.client("code-only", json!({"scope": SCOPE, "grant_types": all})).await.unwrap();
    let batch = bed.client("batch", json!({"scope": "openid ledger:read", "grant_types": all})).await.unwrap();
    careless_hook(&bed);
    for client in [&code, &batch] {
        let token = client.client_credentials("", "").await.unwrap();
        assert!(token.access_token().is_some(), "positive control: possible before the grant");
        let token = redeem(&bed, client, "ann", "openid", "", &ConsentApp::grant_all()).await;
        assert!(token.access_token().is_some(), "positive control: possible before the grant");
    }
    bed.hooks.clear_rule();
    let only_code = json!({"grantTypes": ["authorization_code"]});
    granted(&bed, "ann", user("ann", only_code.clone())).await;
    granted(&bed, "bob", user("bob", json!({}))).await;
    granted(&bed, "code-only", user("ann", json!({"clientID": "code-only", "grantTypes": ["authorization_code"]}))).await;
    granted(&bed, "batch", own("batch", json!({}))).await;

    let tokens = chain(&bed, &both, "bob", SCOPE).await;
    assert!(both.refresh(&tokens.refresh).await.unwrap().access_token().is_some(), "positive control: bob refreshes");
    let tokens = chain(&bed, &both, "ann", SCOPE).await;
    let token = both.refresh(&tokens.refresh).await.unwrap();
    assert_eq!(token.error(), Some("access_denied"), "Hydra gives ann a refresh token, which is worth nothing");
    let token = redeem(&bed, &code, "ann", SCOPE, "", &bed.honest()).await;
    assert!(token.access_token().is_some() && token.refresh_token().is_none(), "{}", token.json);

    for client in [&both, &code] {
        let token = client.client_credentials("", "").await.unwrap();
        assert_eq!(token.error(), Some("unauthorized_client"), "{}", token.json);
    }
    assert!(batch.client_credentials("ledger:read", "").await.unwrap().access_token().is_some());
    let outcome = ask(&bed, "batch", "ann", "ledger:read", "", &bed.honest()).await;
    assert_eq!(refused(&outcome), "NoGrant", "the code flow of a client that acts for itself");
    let outcome = ask(&bed, "batch", "ann", "ledger:read", "", &ConsentApp::grant_all()).await;
    let token = batch.exchange_code(outcome.code().unwrap_or_default(), CALLBACK).await.unwrap();
    assert!(token.access_token().is_none(), "{}", token.json);
}
