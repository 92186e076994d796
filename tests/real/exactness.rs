//! Exactness: what a grant declares can be had, and nothing else, by whatever way to a token.
//!
//! The clients here hold more grants than the one that is tried: the registration then permits more than
//! each grant does, and what is refused is refused by the decision.

use std::time::Duration;

use clientgrant_testbed::bed::{Bed, CALLBACK, is_probe};
use clientgrant_testbed::{Action, AuthOutcome, AuthRequest, ConsentApp, OAuthClient, TokenOutcome};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{active, ahead, bed, chain, pause, strings, until};

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
    bed.hooks.set_rule(|r| match is_probe(r) {
        true => Action::Forward,
        false => Action::Answer(204, String::new()),
    });
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
    let generous =
        bed.hostile(|body, _, _| body["grant_scope"] = json!(["openid", "transactions:read", "payments:write"]));
    careless_hook(&bed);
    bed.hooks.clear();
    let token = redeem(&bed, &client, "ann", "openid transactions:read", "", &generous).await;
    let stolen = token.access_token().expect("positive control: Hydra alone issues it").to_owned();
    assert!(token.scopes().contains(&"payments:write"), "{}", token.json);
    let asked: Value = serde_json::from_str(&bed.hook_calls()[0].body).unwrap();
    assert_eq!(asked["request"]["grant_types"], json!(["authorization_code"]));
    assert_eq!(asked["request"]["granted_scopes"], json!([]), "the hook is told of no scope at the code exchange");
    bed.hooks.clear_rule();
    let token = redeem(&bed, &client, "ann", "openid transactions:read", "", &generous).await;
    assert_eq!(token.error(), Some("access_denied"), "{}", token.json);
    let token = redeem(&bed, &client, "bob", "transactions:export", "", &ConsentApp::grant_all()).await;
    assert_eq!(token.error(), Some("access_denied"), "an app that does not ask gets nothing: {}", token.json);
    pause(1000).await;
    assert!(!active(&bed, &stolen).await, "the pair that carries more than its grant was ended");
    bed.cleared("finance", "ann").await.unwrap();

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
    let plain =
        bed.client("plain", json!({"grant_types": ["client_credentials"], "audience": [LEDGER]})).await.unwrap();
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
    granted(&bed, "code-only", user("ann", json!({"clientID": "code-only", "grantTypes": ["authorization_code"]})))
        .await;
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
        assert_eq!(token.error(), Some("access_denied"), "{}", token.json);
    }
    careless_hook(&bed);
    for client in [&both, &code] {
        let token = client.client_credentials("", "").await.unwrap();
        assert_eq!(token.error(), Some("unauthorized_client"), "the registration refuses it as well: {}", token.json);
    }
    bed.hooks.clear_rule();
    assert!(batch.client_credentials("ledger:read", "").await.unwrap().access_token().is_some());
    let outcome = ask(&bed, "batch", "ann", "ledger:read", "", &bed.honest()).await;
    assert_eq!(refused(&outcome), "NoGrant", "the code flow of a client that acts for itself");
    let outcome = ask(&bed, "batch", "ann", "ledger:read", "", &ConsentApp::grant_all()).await;
    let token = batch.exchange_code(outcome.code().unwrap_or_default(), CALLBACK).await.unwrap();
    assert!(token.access_token().is_none(), "{}", token.json);
}

/// A remembered consent lets later logins skip the question, and those are in no list.
#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_consent_gives_nothing_and_neither_does_the_login_that_skips() {
    let bed = bed().await;
    let client = bed.client(CLIENT, json!({"scope": SCOPE})).await.unwrap();
    granted(&bed, "ann", user("ann", json!({}))).await;
    let browser = bed.browser().unwrap();
    let request = AuthRequest::new(CLIENT, CALLBACK, SCOPE, "ann");
    // What ends the pair is held, so that the skipping login comes first.
    let ending = bed.proxy.hold(|r| r.method == "DELETE");
    let remembers = bed.hostile(|body, _, _| {
        body["remember"] = json!(true);
        body["remember_for"] = json!(0);
    });
    let outcome = browser.authorize(&request, &remembers).await.unwrap();
    bed.operator.mark_log();
    let token = client.exchange_code(outcome.code().unwrap(), CALLBACK).await.unwrap();
    assert_eq!(token.error(), Some("access_denied"), "{}", token.json);
    bed.operator.wait_log("reason=\"ConsentRemembered\"", Duration::from_secs(2)).await.unwrap();

    let skipped = browser.authorize(&request, &bed.honest()).await.unwrap();
    assert!(skipped.consent_skip, "Hydra says that it may be skipped");
    assert_eq!(refused(&skipped), "ConsentSkipped");
    let skipped = browser.authorize(&request, &ConsentApp::grant_all()).await.unwrap();
    assert!(skipped.consent_skip);
    let code = skipped.code().expect("an app that does not ask accepts it").to_owned();
    careless_hook(&bed);
    let token = client.exchange_code(&code, CALLBACK).await.unwrap();
    let stolen = token.access_token().expect("positive control: Hydra alone issues it").to_owned();
    bed.hooks.clear_rule();
    let skipped = browser.authorize(&request, &ConsentApp::grant_all()).await.unwrap();
    let token = client.exchange_code(skipped.code().unwrap(), CALLBACK).await.unwrap();
    assert_eq!(token.error(), Some("access_denied"), "{}", token.json);
    bed.operator.wait_log("reason=\"ConsentNotFound\"", Duration::from_secs(2)).await.unwrap();

    ending.release();
    bed.cleared("finance", "ann").await.unwrap();
    assert!(!active(&bed, &stolen).await, "and what came of it ended with the pair");
    let asked = browser.authorize(&request, &bed.honest()).await.unwrap();
    assert!(!asked.consent_skip, "it is forgotten");
    assert_eq!(asked.decision_word(), Some("Ask"));
    let token = client.exchange_code(asked.code().unwrap(), CALLBACK).await.unwrap();
    assert!(token.access_token().is_some(), "{}", token.json);
}

/// What the authorization endpoint itself hands out: tokens, or a way to them.
fn handed_out(outcome: &AuthOutcome) -> Vec<&str> {
    ["access_token", "id_token", "code"].into_iter().filter(|name| outcome.params.contains_key(*name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn implicit_and_hybrid_responses_end_with_the_adoption() {
    let bed = bed().await;
    let kinds = ["token", "id_token", "code token", "code id_token"];
    let registration = json!({
        "scope": SCOPE,
        "grant_types": ["authorization_code", "refresh_token", "implicit"],
        "response_types": ["code", "token", "id_token", "code token", "code id_token"],
    });
    bed.client(CLIENT, registration).await.unwrap();
    let flow = async |kind: &str| {
        let mut request = AuthRequest::new(CLIENT, CALLBACK, "openid transactions:read", "ann");
        request.response_type = kind.to_owned();
        request.extra = vec![("nonce".into(), "a-nonce-of-the-test".into())];
        bed.browser().unwrap().authorize(&request, &ConsentApp::grant_all()).await.unwrap()
    };
    let mut before = Vec::new();
    for kind in kinds {
        let outcome = flow(kind).await;
        assert!(!handed_out(&outcome).is_empty(), "positive control: {kind} gives something: {:?}", outcome.params);
        before.extend(outcome.access_token().map(str::to_owned));
    }
    assert!(bed.hook_calls().is_empty(), "Hydra does not ask the hook about any of them");
    assert_eq!(before.len(), 2);
    for token in &before {
        assert!(active(&bed, token).await, "positive control");
    }

    granted(&bed, "ann", user("ann", json!({}))).await;
    for kind in kinds {
        let outcome = flow(kind).await;
        assert_eq!(outcome.error(), Some("unsupported_response_type"), "{kind}: {:?}", outcome.params);
        assert!(handed_out(&outcome).is_empty(), "{kind}: {:?}", outcome.params);
    }
    for token in &before {
        assert!(!active(&bed, token).await, "what was handed out before the adoption has ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_any_scope_gives_nothing_outside_a_grant() {
    let bed = bed().await;
    let all = json!({"scope": SCOPE, "grant_types": ["authorization_code", "refresh_token", "client_credentials"]});
    let loner = bed.client("loner", all.clone()).await.unwrap();
    let users = bed.client(CLIENT, all.clone()).await.unwrap();
    let batch = bed.client("batch", all).await.unwrap();
    careless_hook(&bed);
    let token = loner.client_credentials("", "").await.unwrap();
    let bare = token.access_token().expect("positive control: a token without scopes is a token");
    assert!(active(&bed, bare).await && token.scopes().is_empty());
    let token = redeem(&bed, &loner, "ann", "", "", &ConsentApp::grant_all()).await;
    assert!(token.access_token().is_some(), "positive control: likewise by the code flow");
    bed.hooks.clear_rule();

    for round in ["no grant at all", "grants of other clients only"] {
        let token = loner.client_credentials("", "").await.unwrap();
        assert_eq!(token.error(), Some("access_denied"), "{round}: {}", token.json);
        let token = redeem(&bed, &loner, "ann", "", "", &ConsentApp::grant_all()).await;
        assert_eq!(token.error(), Some("access_denied"), "{round}: {}", token.json);
        if round.starts_with("no") {
            granted(&bed, "ann", user("ann", json!({}))).await;
            granted(&bed, "own", own("batch", json!({}))).await;
        }
    }
    let token = users.client_credentials("", "").await.unwrap();
    assert_eq!(token.error(), Some("access_denied"), "a User grant is none for the client itself: {}", token.json);
    assert_eq!(refused(&ask(&bed, CLIENT, "eve", "", "", &bed.honest()).await), "NoGrant");
    let token = redeem(&bed, &users, "eve", "", "", &ConsentApp::grant_all()).await;
    assert_eq!(token.error(), Some("access_denied"), "{}", token.json);
    let token = batch.client_credentials("", "").await.unwrap();
    assert!(token.access_token().is_some() && token.scopes().is_empty(), "inside its grant: {}", token.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowed_grant_stays_narrow_for_old_tokens_and_a_renewed_one_needs_a_new_consent() {
    let bed = bed().await;
    let client = bed.client(CLIENT, json!({"scope": SCOPE})).await.unwrap();
    let end = ahead(14);
    granted(&bed, "ann", user("ann", json!({}))).await;
    granted(&bed, "bob", user("bob", json!({"expiresAt": end}))).await;
    let bobs = chain(&bed, &client, "bob", SCOPE).await;
    bed.reason("finance", "bob", "Granted").await.unwrap();

    // Narrowed and widened: the consent was for what Git took away in between.
    let old = chain(&bed, &client, "ann", SCOPE).await;
    let grant = bed.reason("finance", "ann", "Granted").await.unwrap();
    let since = grant["status"]["observed"]["consentSince"].clone();
    assert!(since.is_string() && active(&bed, &old.access).await, "positive control");
    for scopes in [json!(["openid", "offline_access"]), json!(["openid", "offline_access", "transactions:read"])] {
        bed.grant("finance", "ann", user("ann", json!({"scopes": scopes}))).await.unwrap();
        bed.reason("finance", "ann", "AwaitingConsent").await.unwrap();
        assert!(!active(&bed, &old.access).await, "{scopes}");
        let token = client.refresh(&old.refresh).await.unwrap();
        assert!(token.access_token().is_none(), "{scopes}: {}", token.json);
    }
    let new = chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "ann", "Granted").await.unwrap();
    assert!(active(&bed, &new.access).await && client.refresh(&new.refresh).await.unwrap().access_token().is_some());
    assert!(client.refresh(&old.refresh).await.unwrap().access_token().is_none(), "the old chain stays dead");

    // Renewed: what was consented until the old date ends there.
    let later = ahead(3600);
    bed.grant("finance", "bob", user("bob", json!({"expiresAt": later}))).await.unwrap();
    let grant = bed.reason("finance", "bob", "Granted").await.unwrap();
    assert_eq!(grant["status"]["effective"]["expiresAt"], *end, "only until then there is a consent");
    let renewed = client.refresh(&bobs.refresh).await.unwrap();
    let bobs = renewed.refresh_token().expect("positive control: alive before the consented end").to_owned();
    let asked = ask(&bed, CLIENT, "bob", SCOPE, "", &bed.honest()).await;
    assert_eq!(asked.decision_word(), Some("Ask"), "the later date needs the subject's yes");
    let young = client.exchange_code(asked.code().unwrap(), CALLBACK).await.unwrap();
    until(&end).await;
    pause(1000).await;
    let token = client.refresh(&bobs).await.unwrap();
    assert_eq!(token.error(), Some("access_denied"), "the old chain ends at its date: {}", token.json);
    assert!(active(&bed, young.access_token().unwrap()).await);
    let token = client.refresh(young.refresh_token().unwrap()).await.unwrap();
    assert!(token.access_token().is_some(), "the new consent lives on: {}", token.json);
    let shown = |o: &Value| o["status"]["effective"]["expiresAt"] == *later;
    let path = "namespaces/finance/clientgrants/bob";
    bed.wait(path, "in force until the later date", Duration::from_secs(10), shown).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowed_client_own_grant_ends_old_tokens_and_a_wider_one_ends_none() {
    let bed = bed().await;
    let all = json!(["authorization_code", "refresh_token", "client_credentials"]);
    let client = bed.client(CLIENT, json!({"scope": SCOPE, "grant_types": all})).await.unwrap();
    // Ann's grant keeps the scope in the registration.
    granted(&bed, "ann", user("ann", json!({"scopes": ["openid", "ledger:write"]}))).await;
    granted(&bed, "own", own(CLIENT, json!({"scopes": ["ledger:read", "ledger:write"]}))).await;
    let old = client.client_credentials("ledger:read ledger:write", "").await.unwrap();
    let old = old.access_token().expect("positive control").to_owned();

    bed.grant("finance", "own", own(CLIENT, json!({}))).await.unwrap();
    bed.reason("finance", "own", "Granted").await.unwrap();
    let registered = bed.hydra.admin().get_client(CLIENT).await.unwrap();
    assert_eq!(registered["scope"], "ledger:read ledger:write openid", "the scope is still in the union");
    assert!(!active(&bed, &old).await, "a token with the removed scope has ended");
    assert_eq!(client.client_credentials("ledger:write", "").await.unwrap().error(), Some("access_denied"));
    let kept = client.client_credentials("ledger:read", "").await.unwrap();
    let kept = kept.access_token().expect("what is left can be had").to_owned();

    bed.proxy.clear();
    let wider = json!({"scopes": ["ledger:read", "ledger:sum"], "audiences": [LEDGER]});
    bed.grant("finance", "own", own(CLIENT, wider)).await.unwrap();
    bed.reason("finance", "own", "Granted").await.unwrap();
    pause(2500).await;
    let writes: Vec<String> = bed.written().into_iter().map(|r| r.method).collect();
    assert_eq!(
        writes,
        ["PATCH"],
        "widening changes the registration once and revokes nothing\n{}",
        bed.proxy.summary()
    );
    assert!(active(&bed, &kept).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn hydra_is_as_odd_as_the_operator_takes_it_to_be() {
    let bed = bed().await;
    let client = bed.client("odd", json!({"scope": "", "grant_types": ["client_credentials"]})).await.unwrap();
    let admin = bed.hydra.admin();
    assert_eq!(admin.get_client("odd").await.unwrap()["scope"], "offline_access offline openid");
    let test = json!([{"op": "test", "path": "/client_id", "value": "odd"}]);
    let answer = admin.request(Method::PATCH, "/admin/clients/odd").json(&test).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 500);

    careless_hook(&bed);
    assert!(client.client_credentials("", "").await.unwrap().access_token().is_some(), "positive control");
    let nothing = json!([
        {"op": "replace", "path": "/scope", "value": "clientgrant.dev/none"},
        {"op": "replace", "path": "/grant_types", "value": []},
    ]);
    admin.patch_client("odd", &nothing).await.unwrap();
    let outcome = ask(&bed, "odd", "ann", "", "", &ConsentApp::grant_all()).await;
    assert!(outcome.code().is_some(), "empty grant types still permit the code flow: {:?}", outcome.params);
    let sentinel = json!([{"op": "replace", "path": "/grant_types", "value": ["urn:clientgrant.dev:none"]}]);
    admin.patch_client("odd", &sentinel).await.unwrap();
    bed.hooks.clear();
    let token = client.client_credentials("", "").await.unwrap();
    assert_eq!(token.error(), Some("unauthorized_client"), "{}", token.json);
    assert_eq!(bed.hook_calls().len(), 1, "client_credentials: the hook is asked first, and its yes is not enough");
    bed.hooks.clear();
    let token = redeem(&bed, &client, "ann", "", "", &ConsentApp::grant_all()).await;
    assert_eq!(token.error(), Some("unauthorized_client"), "{}", token.json);
    assert!(bed.hook_calls().is_empty(), "the code exchange is refused before the hook is asked");

    // A client id with a slash has no address at the admin API.
    bed.client("finance/app", json!({})).await.unwrap();
    let answer = admin.request(Method::GET, "/admin/clients/finance%2Fapp").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 404);
    assert!(!answer.text().await.unwrap().contains("\"error\""), "the router says so, not Hydra's store");
    bed.grant("finance", "slash", user("ann", json!({"clientID": "finance/app"}))).await.unwrap();
    let grant = bed.reason("finance", "slash", "NotSupported").await.unwrap();
    assert!(grant["metadata"]["finalizers"].is_null() && grant["status"]["effective"].is_null());
}
