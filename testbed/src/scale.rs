//! Many clients with a few grants each, and what a change to all of them costs: for the test of scale and
//! the benchmark.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::bed::{Bed, condition, registration};
use crate::{ControlPlane, HydraAdmin, Proxy, Recorded};

/// Calls to the API server at once.
pub const AT_ONCE: usize = 64;
/// Where the grants are.
const GRANTS: &str = "apis/clientgrant.dev/v1alpha1/namespaces/finance/clientgrants";
/// What a client holds that may have nothing: Hydra reads empty fields as its defaults.
const NO_SCOPE: &str = "clientgrant.dev/none";
const NO_GRANT_TYPE: &str = "urn:clientgrant.dev:none";

/// Clients with one grant, two grants … and again one grant.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    /// How many clients.
    pub clients: usize,
    /// The most grants that one of them has.
    pub most: usize,
}

/// How long it took until the last object was there or gone.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Until the API server had taken the last call.
    pub asked: Duration,
    /// Until the last object was as it should be.
    pub done: Duration,
}

impl Fleet {
    /// Of every client.
    pub fn ids(&self) -> Vec<String> {
        (0..self.clients).map(|n| format!("fleet-{n:05}")).collect()
    }

    /// Name and spec of every grant. A third of the clients have a grant for themselves; the others are for
    /// a user each, whom the organisation or the user answers for.
    pub fn grants(&self) -> Vec<(String, Value)> {
        let mut grants = Vec::new();
        for (n, id) in self.ids().into_iter().enumerate() {
            for k in 0..=n % self.most {
                let name = format!("{id}-{k}");
                let user = json!({"kind": "User", "id": name});
                let mut spec = match (k, (n / self.most + k) % 3) {
                    (0, 0) => json!({"subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]}),
                    (_, 1) => json!({"subject": user, "basis": "AdminConsent"}),
                    _ => json!({"subject": user, "basis": "SubjectConsent"}),
                };
                spec["clientID"] = json!(id);
                grants.push((name, spec));
            }
        }
        grants
    }

    /// Registers the clients at Hydra: they hold more than any grant gives.
    pub async fn register(&self, hydra: &HydraAdmin) -> Result<()> {
        let over = json!({
            "scope": "openid offline_access transactions:read ledger:read payments:write",
            "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
        });
        let calls = self.ids().into_iter().map(|id| {
            let client = registration(&id, &over);
            async move { hydra.create_client(&client).await.map(drop) }
        });
        stream::iter(calls).buffer_unordered(8).try_collect().await
    }

    /// Applies every grant, and waits until each says for its generation that it is in force or waits for
    /// its subject.
    pub async fn apply(&self, bed: &Bed, timeout: Duration) -> Result<Took> {
        let begin = Instant::now();
        let grants = self.grants();
        let mut settled = BTreeSet::new();
        let many = grants.len();
        let settling = bed.plane.follow(GRANTS, "", timeout, |_, grant| {
            let name = grant["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if is_settled(grant) {
                settled.insert(name)
            } else {
                settled.remove(&name)
            };
            settled.len() == many
        });
        let calls = grants.into_iter().map(|(name, spec)| async move { bed.grant("finance", &name, spec).await });
        let applying = async {
            stream::iter(calls).buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
            Ok::<_, anyhow::Error>(begin.elapsed())
        };
        let (asked, ()) = tokio::try_join!(applying, settling)?;
        Ok(Took { asked, done: begin.elapsed() })
    }

    /// The grants that wait for their subject, by name; the others are in force.
    pub async fn waiting(&self, bed: &Bed) -> Result<BTreeSet<String>> {
        let (_, list) = bed.raw(Method::GET, GRANTS, None).await?;
        let list = list["items"].as_array().context("no list of grants")?;
        ensure!(list.iter().all(is_settled), "a grant is not settled");
        let waiting = list.iter().filter(|grant| condition(grant, "Ready")["reason"] == "AwaitingConsent");
        Ok(waiting.filter_map(|grant| grant["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }

    /// Deletes every grant, and waits until Kubernetes has none.
    pub async fn delete(&self, bed: &Bed, timeout: Duration) -> Result<Took> {
        let names = self.grants().into_iter().map(|(name, _)| name).collect();
        delete_all(&bed.plane, GRANTS, names, timeout).await
    }

    /// The clients that may have something, by id, and what they hold. Anything that is not the fleet's, or
    /// is the fleet's and missing, is an error; the operator's own client is left out.
    pub async fn alive(&self, hydra: &HydraAdmin) -> Result<BTreeMap<String, Value>> {
        let mut missing: BTreeSet<String> = self.ids().into_iter().collect();
        let mut alive = BTreeMap::new();
        for client in hydra.list_clients().await? {
            let id = client["client_id"].as_str().context("a client without id")?.to_owned();
            if id.starts_with("clientgrant-probe-") {
                continue;
            }
            ensure!(missing.remove(&id), "the client {id} is listed twice, or nobody knows it");
            if client["scope"] != NO_SCOPE || client["grant_types"] != json!([NO_GRANT_TYPE]) {
                alive.insert(id, json!({"scope": client["scope"], "grant_types": client["grant_types"]}));
            }
        }
        ensure!(missing.is_empty(), "these clients are missing: {missing:?}");
        Ok(alive)
    }
}

/// Whether a grant says for its generation that it is in force or waits for its subject.
fn is_settled(grant: &Value) -> bool {
    let ready = condition(grant, "Ready");
    let reason = ready["reason"] == "Granted" || ready["reason"] == "AwaitingConsent";
    reason && ready["observedGeneration"] == grant["metadata"]["generation"]
}

/// Deletes the objects of a collection, one call each, and waits until all are gone.
pub async fn delete_all(plane: &ControlPlane, collection: &str, names: Vec<String>, timeout: Duration) -> Result<Took> {
    let (_, list) = plane.call(Method::GET, &format!("{collection}?limit=1"), None).await?;
    let since = list["metadata"]["resourceVersion"].as_str().context("a list without version")?;
    let begin = Instant::now();
    let mut left: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let ending = plane.follow(collection, since, timeout, |kind, object| {
        if kind == "DELETED" {
            left.remove(object["metadata"]["name"].as_str().unwrap_or_default());
        }
        left.is_empty()
    });
    let calls = names.iter().map(|name| async move {
        let (status, answer) = plane.call(Method::DELETE, &format!("{collection}/{name}"), None).await?;
        ensure!((200..300).contains(&status), "{name} cannot be deleted ({status}): {}", answer["message"]);
        Ok(())
    });
    let deleting = async {
        stream::iter(calls).buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await?;
        Ok::<_, anyhow::Error>(begin.elapsed())
    };
    let (asked, ()) = tokio::try_join!(deleting, ending)?;
    Ok(Took { asked, done: begin.elapsed() })
}

/// Waits until the operator has been ready, and has compared `clients` registrations in bulk, since the
/// proxy in front of Hydra was cleared.
pub async fn verified(bed: &Bed, clients: usize, timeout: Duration) -> Result<()> {
    bed.operator.ready(timeout).await?;
    let end = Instant::now() + timeout;
    loop {
        let pages = bed.proxy.requests().into_iter().filter(|r| r.status == Some(200) && call(r) == "page of clients");
        let read: usize = pages.filter_map(|r| page_size(&r)).sum();
        // A page that is full does not say that it is the last one.
        if read > clients {
            return Ok(());
        }
        ensure!(Instant::now() < end, "no bulk comparison after {timeout:?}: {}", bed.proxy.summary());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn page_size(request: &Recorded) -> Option<usize> {
    let (_, query) = request.path_and_query.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("page_size="))?.parse().ok()
}

/// What a call to Hydra's admin API is, in words.
pub fn call(request: &Recorded) -> &'static str {
    let path = request.path();
    if path.starts_with("/admin/clients/clientgrant-probe-") || request.body.contains("clientgrant.dev/probe-") {
        return "probe client";
    }
    match (request.method.as_str(), path) {
        ("GET", "/version") => "version",
        ("GET", "/admin/clients") => "page of clients",
        ("POST", "/admin/clients") => "client registered",
        ("GET", "/admin/oauth2/auth/sessions/consent") => "consents of a subject",
        ("DELETE", "/admin/oauth2/auth/sessions/consent") => "consents revoked",
        ("DELETE", "/admin/oauth2/tokens") => "tokens of a client revoked",
        ("GET", _) if path.starts_with("/admin/clients/") => "client read",
        ("PATCH" | "PUT", _) if path.starts_with("/admin/clients/") => "client written",
        ("DELETE", _) if path.starts_with("/admin/clients/") => "client deleted",
        _ => "other",
    }
}

/// What a write to the API server is: method, resource and subresource. The lease is not the operator's
/// work on any object and is `None`, as are reads.
pub fn write(request: &Recorded) -> Option<String> {
    if !request.is_write() {
        return None;
    }
    let mut parts: Vec<&str> = request.path().split('/').filter(|part| !part.is_empty()).collect();
    // api/v1 or apis/<group>/<version>, and then perhaps a namespace.
    parts.drain(..(if parts.first() == Some(&"api") { 2 } else { 3 }).min(parts.len()));
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts.drain(..2);
    }
    let resource = parts.first().copied().unwrap_or_default();
    let sub = parts.get(2).map(|sub| format!("/{sub}")).unwrap_or_default();
    (resource != "leases").then(|| format!("{} {resource}{sub}", request.method))
}

/// How many requests a proxy has seen, by what they are.
pub fn count<S: Into<String>>(proxy: &Proxy, what: impl Fn(&Recorded) -> Option<S>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in proxy.requests().iter().filter_map(what) {
        *counts.entry(name.into()).or_default() += 1;
    }
    counts
}

/// Waits until nothing has been written to the API server for so long, the lease aside.
pub async fn quiet(proxy: &Proxy, pause: Duration, timeout: Duration) -> Result<()> {
    let end = Instant::now() + timeout;
    loop {
        let last = proxy.requests().iter().filter(|r| write(r).is_some()).map(|r| r.instant).max();
        if last.is_none_or(|at| at.elapsed() > pause) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "still written after {timeout:?}: {:?}", count(proxy, write));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
