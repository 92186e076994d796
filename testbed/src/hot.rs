//! A tenant who edits thousands of grants as fast as the API server takes it, and another one who revokes
//! a grant beside: for the test of fairness and the benchmark.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tokio::sync::oneshot;

use crate::Recorded;
use crate::bed::{Bed, GROUP, condition, registration};
use crate::scale::AT_ONCE;

/// Where the tenant is, and where the others are.
const TENANT: &str = "finance";
const OTHERS: &str = "it";
const SCOPE: &str = "openid offline_access transactions:read";

/// The grants of one tenant: each for a user of its own, and the organisation answers for it, so that it
/// comes into force as soon as it is not suspended.
#[derive(Clone, Copy, Debug)]
pub struct Tenant {
    /// How many clients.
    pub clients: usize,
    /// How many grants, evenly over the clients.
    pub grants: usize,
}

impl Tenant {
    /// The id of a client.
    fn client(n: usize) -> String {
        format!("tenant-{n:04}")
    }

    /// Where a grant is.
    fn path(n: usize) -> String {
        format!("namespaces/{TENANT}/clientgrants/tenant-{n:05}")
    }

    /// Whether a call to Hydra is about one of the tenant's clients.
    pub fn concerns(request: &Recorded) -> bool {
        request.path_and_query.contains("tenant-")
    }

    /// Registers the clients, applies the grants and waits until all are in force.
    pub async fn settle(self, bed: &Bed, timeout: Duration) -> Result<()> {
        let over = json!({"scope": SCOPE});
        let clients = (0..self.clients).map(|n| {
            let client = registration(&Self::client(n), &over);
            async move { bed.hydra.admin().create_client(&client).await.map(drop) }
        });
        stream::iter(clients).buffer_unordered(8).try_for_each(|()| async { Ok(()) }).await?;
        let grants = (0..self.grants).map(|n| async move {
            let name = format!("tenant-{n:05}");
            let user = json!({"kind": "User", "id": name});
            let client = Self::client(n % self.clients);
            bed.grant(TENANT, &name, json!({"clientID": client, "subject": user, "basis": "AdminConsent"})).await
        });
        stream::iter(grants).buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
        let active = json!({"total": self.grants, "active": self.grants});
        bed.wait("clusteridentityproviders/corp", "counted", timeout, |o| o["status"]["grants"] == active).await?;
        Ok(())
    }

    /// Suspends or resumes one grant.
    async fn edit(bed: &Bed, n: usize, suspend: bool) -> Result<()> {
        bed.patch(&Self::path(n), json!({"spec": {"suspend": suspend}})).await.map(drop)
    }

    /// Suspends every grant, once, so many at a time.
    pub async fn suspend_all(self, bed: &Bed) -> Result<()> {
        let edits = (0..self.grants).map(|n| Self::edit(bed, n, true));
        stream::iter(edits).buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await
    }

    /// Suspends all grants, resumes all, and so on, `at_once` at a time and one every `gap`, until told to stop.
    pub async fn storm(
        self,
        bed: &Bed,
        at_once: usize,
        gap: Duration,
        edits: &AtomicUsize,
        stop: &AtomicBool,
    ) -> Result<()> {
        let (next, begin) = (AtomicUsize::new(0), tokio::time::Instant::now());
        let editors = (0..at_once).map(|_| async {
            while !stop.load(Ordering::Relaxed) {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let turn = gap * u32::try_from(n).context("too many edits")?;
                tokio::time::sleep_until(begin + turn).await;
                Self::edit(bed, n % self.grants, (n / self.grants).is_multiple_of(2)).await?;
                edits.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        try_join_all(editors).await.map(drop)
    }
}

/// A grant of the other tenant, in force, with a token that was issued under it.
#[derive(Clone, Debug)]
pub struct Neighbour {
    id: String,
    token: String,
}

/// How long after the API server had taken the revocation.
#[derive(Clone, Copy, Debug)]
pub struct Revoked {
    /// A watch of the grant's namespace told the change: what the API server alone takes.
    pub told: Duration,
    /// The first call about the client came to Hydra.
    pub looked: Duration,
    /// The first call that revokes came to Hydra.
    pub called: Duration,
    /// The token was seen to be inactive.
    pub inactive: Duration,
}

/// How a grant is revoked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// `suspend: true`.
    Suspension,
    /// The object is deleted.
    Deletion,
}

impl Neighbour {
    /// Registers a client, applies a grant for itself and takes a token.
    pub async fn settle(bed: &Bed, n: usize) -> Result<Self> {
        let id = format!("neighbour-{n:04}");
        let flows = json!({"grant_types": ["client_credentials"], "scope": "ledger:read"});
        let client = bed.client(&id, flows).await?;
        let spec = json!({"clientID": id, "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
        bed.grant(OTHERS, &id, spec).await?;
        let path = format!("namespaces/{OTHERS}/clientgrants/{id}");
        let granted = |o: &serde_json::Value| condition(o, "Ready")["reason"] == "Granted";
        bed.wait(&path, "granted", Duration::from_secs(30), granted).await?;
        // The tokens from before the adoption end in two passes, and so does the first one taken after it.
        for _ in 0..5 {
            let outcome = client.client_credentials("ledger:read", "").await?;
            let token = outcome.access_token().with_context(|| format!("no token: {}", outcome.json))?.to_owned();
            tokio::time::sleep(Duration::from_secs(3)).await;
            if bed.hydra.admin().is_active(&token).await? {
                return Ok(Self { id, token });
            }
        }
        bail!("no token of {id} lasts")
    }

    /// Whether a call to Hydra is about this client.
    pub fn concerns(&self, request: &Recorded) -> bool {
        request.path_and_query.contains(&self.id)
    }

    /// Whether a call to Hydra ends the tokens of this client.
    pub fn ends(&self, request: &Recorded) -> bool {
        request.method == "DELETE" && self.concerns(request)
    }

    /// Revokes the grant and waits until nothing of it is left at Hydra.
    pub async fn revoke(&self, bed: &Bed, by: By, timeout: Duration) -> Result<Revoked> {
        let looked = first(bed, self, Self::concerns);
        let called = first(bed, self, Self::ends);
        let namespace = format!("namespaces/{OTHERS}/clientgrants");
        let path = format!("{namespace}/{}", self.id);
        let before = bed.get(&path).await?.context("the grant is not there")?;
        let generation = before["metadata"]["generation"].as_i64();
        let version = before["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let watched = format!("{GROUP}/{namespace}");
        let told = async {
            let newer = |_: &str, object: &serde_json::Value| {
                let meta = &object["metadata"];
                meta["name"] == *self.id && meta["generation"].as_i64() > generation
            };
            bed.plane.follow(&watched, version, timeout, newer).await?;
            Ok::<_, anyhow::Error>(Instant::now())
        };
        let revoked = async {
            // The watch is there by then.
            tokio::time::sleep(Duration::from_millis(100)).await;
            match by {
                By::Suspension => _ = bed.patch(&path, json!({"spec": {"suspend": true}})).await?,
                By::Deletion => bed.delete(&path).await?,
            }
            let taken = Instant::now();
            while bed.hydra.admin().is_active(&self.token).await? {
                ensure!(taken.elapsed() < timeout, "{}: still active after {timeout:?}", self.id);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok((taken, taken.elapsed()))
        };
        let (told, (taken, inactive)) = tokio::try_join!(told, revoked)?;
        let called = called.await.context("the token ended without a call that ends it")?;
        let looked = looked.await.context("the token ended without a look")?;
        let after = |at: Instant| at.saturating_duration_since(taken);
        Ok(Revoked { told: after(told), looked: after(looked), called: after(called), inactive })
    }
}

/// When the first such call comes, as the proxy's own threads see it: a test bed that has much to do must
/// not be taken for an operator that waits.
fn first(bed: &Bed, of: &Neighbour, what: fn(&Neighbour, &Recorded) -> bool) -> oneshot::Receiver<Instant> {
    let (send, seen) = oneshot::channel();
    let of = of.clone();
    bed.proxy.before(move |request| what(&of, request), move |request| _ = send.send(request.instant));
    seen
}
