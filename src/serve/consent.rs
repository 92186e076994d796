//! The consent decision: what a consent app asks before it shows or accepts anything.
//!
//! The app passes on one challenge; what it stands for is read from the IdP, never from the app. The
//! answer carries exactly the fields to accept with.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{LOOKUP, authenticated, hint, hydra, observing, unprepared};
use crate::clock;
use crate::controller::Context;
use crate::grant::decide::{self, ConsentAsked, ConsentDecision, Deny};
use crate::grant::{ClientKey, Grant, ProviderKey};
use crate::idp::Urgency;
use crate::idp::hydra::{Hydra, dialect};
use crate::telemetry::{Answer, Point};

/// `POST /hydra/consent/{name}`, for a ClusterIdentityProvider.
pub async fn cluster(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    timed(&context, ProviderKey::cluster(name), &headers, &body).await
}

/// `POST /hydra/consent/{namespace}/{name}`, for an IdentityProvider.
pub async fn namespaced(
    State(context): State<Arc<Context>>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    timed(&context, ProviderKey::new(namespace, name), &headers, &body).await
}

async fn timed(context: &Context, provider: ProviderKey, headers: &HeaderMap, body: &[u8]) -> Response {
    let begin = Instant::now();
    let answer = answer(context, provider, headers, body).await;
    context.metrics.answered(Point::Consent, begin.elapsed());
    answer
}

async fn answer(context: &Context, provider: ProviderKey, headers: &HeaderMap, body: &[u8]) -> Response {
    let idp = context.world.provider(&provider).and_then(|(_, idp)| idp);
    if let Some(deny) = unprepared(context) {
        return denied(context, StatusCode::SERVICE_UNAVAILABLE, &provider, None, &deny);
    }
    let Some(hydra) = hydra(idp.as_ref()) else {
        return denied(context, StatusCode::SERVICE_UNAVAILABLE, &provider, None, &Deny::NotReady);
    };
    if !authenticated(headers, &hydra.keys().consent) {
        return denied(context, StatusCode::FORBIDDEN, &provider, None, &Deny::Unauthenticated);
    }
    let body: Option<Value> = serde_json::from_slice(body).ok();
    let challenge = body.as_ref().and_then(|b| b.get("consent_challenge")?.as_str()).filter(|c| !c.is_empty());
    let Some(challenge) = challenge else {
        return denied(context, StatusCode::BAD_REQUEST, &provider, None, &Deny::Malformed);
    };
    let request = match tokio::time::timeout(LOOKUP, hydra.consent_request(challenge)).await {
        Ok(Ok(Some(request))) => request,
        Ok(Ok(None)) => return denied(context, StatusCode::NOT_FOUND, &provider, None, &Deny::Malformed),
        Ok(Err(_)) | Err(_) => return denied(context, StatusCode::OK, &provider, None, &Deny::LookupFailed),
    };
    decide(context, hydra, provider, &request).await
}

async fn decide(
    context: &Context,
    hydra: &Hydra,
    provider: ProviderKey,
    request: &dialect::ConsentRequest,
) -> Response {
    let key = ClientKey { provider: provider.clone(), client: Arc::from(request.client.as_str()) };
    let mut asked = ConsentAsked {
        subject: &request.subject,
        scopes: request.scopes.clone(),
        audiences: request.audiences.clone(),
        skip: request.skip,
        listed: None,
    };
    let mut decision = decide::consent(&context.world.view(&key), &asked, clock::now());
    let listed;
    if decision == ConsentDecision::NeedsLookup {
        let list = hydra.consents(&request.client, &request.subject, None, Urgency::Ending);
        listed = match tokio::time::timeout(LOOKUP, list).await {
            Ok(Ok(listed)) => listed,
            Ok(Err(_)) | Err(_) => {
                return denied(context, StatusCode::OK, &provider, Some(request), &Deny::LookupFailed);
            }
        };
        asked.listed = Some(&listed);
        decision = decide::consent(&context.world.view(&key), &asked, clock::now());
    }
    match decision {
        ConsentDecision::Deny(deny) => {
            if deny == Deny::Skipped {
                // An older remembered consent: the pair has to be ended.
                hint(context, &key, &request.subject);
            }
            denied(context, StatusCode::OK, &provider, Some(request), &deny)
        }
        ConsentDecision::Ask(None) => {
            log(context, &provider, request, "Ask", None);
            Json(body("Ask", request, None)).into_response()
        }
        ConsentDecision::Ask(Some(grant)) => granted(context, hydra, &provider, "Ask", request, &grant),
        ConsentDecision::Accept(grant) => granted(context, hydra, &provider, "Accept", request, &grant),
        ConsentDecision::NeedsLookup => denied(context, StatusCode::OK, &provider, Some(request), &Deny::LookupFailed),
    }
}

fn granted(
    context: &Context,
    hydra: &Hydra,
    provider: &ProviderKey,
    decision: &str,
    request: &dialect::ConsentRequest,
    grant: &Grant,
) -> Response {
    let fields = grant.terms.as_ref().ok().and_then(|terms| {
        let dialect::ConsentRequest { login, client, subject, scopes, audiences, .. } = request;
        let flow = dialect::Flow { login, client, subject };
        Some((dialect::make_context(&flow, grant, terms, scopes, audiences, hydra.keys())?, &terms.purpose))
    });
    if fields.is_none() {
        return denied(context, StatusCode::OK, provider, Some(request), &Deny::NotReady);
    }
    log(context, provider, request, decision, Some(grant));
    Json(body(decision, request, fields)).into_response()
}

/// Never remembered: a remembered consent makes later logins skip, and those are in no list.
fn body(decision: &str, request: &dialect::ConsentRequest, grant: Option<(Value, &String)>) -> Value {
    let mut body = json!({
        "decision": decision,
        "grant_scope": request.scopes.to_vec(),
        "grant_access_token_audience": request.audiences.to_vec(),
        "remember": false,
        "remember_for": 0,
        "client": {"id": request.client, "name": request.client_name},
        "subject": request.subject,
    });
    if let (Some((context, purpose)), Some(fields)) = (grant, body.as_object_mut()) {
        fields.insert("purpose".into(), json!({"id": purpose}));
        fields.insert("expiresAt".into(), context.get("expiresAt").cloned().unwrap_or_default());
        fields.insert("context".into(), context);
    }
    body
}

fn log(
    context: &Context,
    provider: &ProviderKey,
    request: &dialect::ConsentRequest,
    decision: &str,
    grant: Option<&Grant>,
) {
    context.metrics.decided(Point::Consent, Answer::Allow, "");
    let grant = grant.map_or("none", |g| &g.uid);
    tracing::info!(%provider, client = request.client, subject = request.subject, grant, decision, "consent decision");
}

fn denied(
    context: &Context,
    status: StatusCode,
    provider: &ProviderKey,
    request: Option<&dialect::ConsentRequest>,
    deny: &Deny,
) -> Response {
    let (client, subject) = request.map_or(("", ""), |r| (&r.client, &r.subject));
    let (reason, why) = (deny.reason(), deny.to_string());
    if observing(context, provider) {
        tracing::info!(%provider, client, subject, decision = "Ask", would = "Deny", reason, why, "consent decision");
        context.metrics.decided(Point::Consent, Answer::WouldDeny, reason);
        return match request {
            Some(request) => Json(body("Ask", request, None)).into_response(),
            // What was asked is not known, so there is nothing to accept with.
            None => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"reason": reason, "message": why}))).into_response(),
        };
    }
    context.metrics.decided(Point::Consent, Answer::Deny, reason);
    tracing::info!(%provider, client, subject, decision = "Deny", reason, why, "consent decision");
    (status, Json(json!({"decision": "Deny", "reason": reason, "message": why}))).into_response()
}
