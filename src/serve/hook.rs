//! Ory Hydra's token hook: 204 lets a token be issued, 403 refuses it (`access_denied`; the code or
//! refresh token stays usable). Anything else makes Hydra answer `server_error` after three tries.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::{LOOKUP, authenticated, hint, hydra, observing, said_active, unprepared};
use crate::clock;
use crate::controller::Context;
use crate::grant::decide::{self, Asked, Decision, Deny, Lookup};
use crate::grant::{ClientKey, GrantType, ProviderKey};
use crate::idp::Urgency;
use crate::idp::hydra::Hydra;
use crate::idp::hydra::hook::{Question, question};
use crate::idp::hydra::probe::PROBE;
use crate::lease;
use crate::telemetry::{Answer, Point};

/// `POST /hydra/token-hook/{name}`, for a ClusterIdentityProvider.
pub async fn cluster(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    answer(&context, ProviderKey::cluster(name), &headers, &body).await
}

/// `POST /hydra/token-hook/{namespace}/{name}`, for an IdentityProvider.
pub async fn namespaced(
    State(context): State<Arc<Context>>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    answer(&context, ProviderKey::new(namespace, name), &headers, &body).await
}

async fn answer(context: &Context, provider: ProviderKey, headers: &HeaderMap, body: &[u8]) -> StatusCode {
    let (asked, begin) = (question(body), Instant::now());
    let decision = decide(context, &provider, headers, asked.as_ref()).await;
    context.metrics.answered(Point::TokenHook, begin.elapsed());
    let (client, subject, flow) = asked.as_ref().map_or(("", "", ""), |q| (&q.client, &q.subject, &q.flow));
    match &decision {
        Decision::Allow(grant) => {
            let grant = grant.as_deref().unwrap_or("none");
            tracing::info!(%provider, client, subject, flow, grant, decision = "Allow", "token hook");
            context.metrics.decided(Point::TokenHook, Answer::Allow, "");
            StatusCode::NO_CONTENT
        }
        Decision::Deny(deny) if *deny != Deny::Probe && observing(context, &provider) => {
            let (reason, why) = (deny.reason(), deny.to_string());
            tracing::info!(%provider, client, subject, flow, decision = "Allow", would = "Deny", reason, why, "token hook");
            context.metrics.decided(Point::TokenHook, Answer::WouldDeny, reason);
            StatusCode::NO_CONTENT
        }
        Decision::Deny(deny) => {
            let (reason, why) = (deny.reason(), deny.to_string());
            tracing::info!(%provider, client, subject, flow, decision = "Deny", reason, why, "token hook");
            context.metrics.decided(Point::TokenHook, Answer::Deny, reason);
            StatusCode::FORBIDDEN
        }
        // Cannot be: the look-up was made or has failed.
        Decision::NeedsLookup => StatusCode::FORBIDDEN,
    }
}

async fn decide(context: &Context, provider: &ProviderKey, headers: &HeaderMap, asked: Option<&Question>) -> Decision {
    let Some((_, idp)) = context.world.provider(provider) else { return Decision::Deny(Deny::NotReady) };
    let Some(hydra) = hydra(idp.as_ref()) else { return Decision::Deny(Deny::NotReady) };
    if !authenticated(headers, &hydra.keys().hook) {
        return Decision::Deny(Deny::Unauthenticated);
    }
    if let Some(question) = asked.filter(|q| q.client.starts_with(PROBE)) {
        probed(context, hydra, question);
        return Decision::Deny(Deny::Probe);
    }
    if let Some(deny) = unprepared(context) {
        return Decision::Deny(deny);
    }
    let Some(question) = asked else { return Decision::Deny(Deny::Malformed) };
    let key = ClientKey { provider: provider.clone(), client: Arc::from(question.client.as_str()) };
    let view = context.world.view(&key);
    let mut asked = Asked {
        grant_type: question.grant_type,
        subject: &question.subject,
        scopes: question.scopes.clone(),
        audiences: question.audiences.clone(),
        consent: Lookup::NotYetKnown,
    };
    let first = decide::token(&view, &asked, clock::now());
    if first != Decision::NeedsLookup {
        return first;
    }
    let listed = match look_up(hydra, question).await {
        Ok(listed) => listed,
        Err(deny) => return Decision::Deny(deny),
    };
    asked.consent = match &listed {
        Some(consent) => Lookup::Found(consent),
        None => Lookup::Missing,
    };
    // The world may have moved while we looked: what ended meanwhile must not pass.
    let view = context.world.view(&key);
    let decision = decide::token(&view, &asked, clock::now());
    hints(context, &view, question, &decision);
    decision
}

/// The consent behind the request, from the subject's list.
/// A probe of ours: the answer is always no. Another replica's probe is passed on to it.
fn probed(context: &Context, hydra: &Hydra, question: &Question) {
    if question.client != hydra.probes().client || hydra.probes().saw(&question.requested) {
        return;
    }
    if let [nonce] = question.requested.as_slice()
        && !context.world.leadership().leads()
        && nonce.len() <= 128
    {
        let leases = Api::<Lease>::namespaced(context.kube.clone(), &context.config.operator_namespace);
        let nonce = nonce.clone();
        tokio::spawn(async move {
            if let Err(error) = lease::pass_on(&leases, &nonce).await {
                tracing::warn!(%error, "a probe of the token hook could not be passed on");
            }
        });
    }
}

async fn look_up(hydra: &Hydra, question: &Question) -> Result<Option<crate::grant::consent::Consent>, Deny> {
    let Some(challenge) = &question.challenge else { return Ok(None) };
    let list = hydra.consents(&question.client, &question.subject, question.session.as_deref(), Urgency::Ending);
    match tokio::time::timeout(LOOKUP, list).await {
        Ok(Ok(listed)) => Ok(listed.into_iter().find(|c| c.challenge == *challenge)),
        Ok(Err(_)) | Err(_) => Err(Deny::LookupFailed),
    }
}

/// What the hook teaches is only a reason to look: an allowed answer is not yet an issued token, and a
/// consent that goes beyond the grant has to be ended.
fn hints(context: &Context, view: &crate::grant::ClientView, question: &Question, decision: &Decision) {
    let worth = match decision {
        Decision::Allow(Some(uid)) if question.grant_type == Some(GrantType::AuthorizationCode) => {
            view.grant(uid).is_some_and(|g| !said_active(context, &g.name))
        }
        Decision::Deny(Deny::Consent(_)) => true,
        _ => false,
    };
    if worth {
        hint(context, &view.key, &question.subject);
    }
}
