//! What is done again and again, and what comes of it: seen at Hydra and at the API server only.

use std::time::Duration;

use clientgrant_testbed::bed::{Bed, CALLBACK, condition};
use clientgrant_testbed::{AuthRequest, OAuthClient};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{ahead, pause, strings};

const SCOPE: &str = "openid offline_access transactions:read";
/// An edit that ends something in the near future ends it after so many seconds.
const AHEAD: i64 = 3;

/// One workload. All but the first and the last begin with a grant that is consented and in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// A grant for a user, the consent, the tokens.
    Create,
    /// A scope less.
    Narrow,
    /// A scope more.
    Widen,
    /// The end comes in a few seconds.
    Expire,
    Delete,
    /// A grant of a client's own: created, used, deleted.
    Own,
}

impl Work {
    pub const ALL: [Self; 6] = [Self::Create, Self::Narrow, Self::Widen, Self::Expire, Self::Delete, Self::Own];

    /// The reason of `Ready` in the end; empty: the object is gone.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Create | Self::Widen => "Granted",
            Self::Narrow => "AwaitingConsent",
            Self::Expire => "Expired",
            Self::Delete | Self::Own => "",
        }
    }
}

/// Everything that can be seen of one grant from outside, without times and numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// `Type=Status/Reason`, each with whether it is of the newest generation. None: the object is gone.
    conditions: Option<Vec<String>>,
    /// Finalizers, and whether a revocation is told and confirmed.
    held: String,
    registration: Value,
    /// Whether any consent of the pair is listed.
    consent: bool,
    /// Whether the access token is active.
    access: bool,
}

impl State {
    /// What a reader of the object goes by.
    pub fn is(&self, reason: &str) -> bool {
        match &self.conditions {
            None => reason.is_empty(),
            Some(all) => all.iter().any(|c| c.starts_with("Ready=True/") && c.contains(&format!("/{reason} "))),
        }
    }

    /// Nothing is left of the authority.
    pub fn is_over(&self) -> bool {
        !self.access && !self.consent && self.registration == nothing()
    }
}

fn registration(scopes: &[String], grant_types: &[&str]) -> Value {
    json!({"scope": scopes, "grant_types": grant_types, "audience": [], "response_types": ["code"], "skip_consent": false, "marked": true})
}

fn nothing() -> Value {
    registration(&["clientgrant.dev/none".into()], &["urn:clientgrant.dev:none"])
}

fn read(client: &Value) -> Value {
    let scope = client["scope"].as_str().unwrap_or_default();
    let mut scopes: Vec<&str> = scope.split(' ').collect();
    scopes.sort_unstable();
    json!({
        "scope": scopes,
        "grant_types": strings(&client["grant_types"]),
        "audience": strings(&client["audience"]),
        "response_types": strings(&client["response_types"]),
        "skip_consent": client["skip_consent"].as_bool().unwrap_or_default(),
        "marked": client["metadata"]["clientgrant.dev/cluster"].is_string(),
    })
}

/// The ceiling of an object at its generation; it is the only one of its client.
fn ceiling(object: &Value) -> Value {
    if over(object) {
        return nothing();
    }
    let own = object["spec"]["basis"] == "ClientOwn";
    let types: &[&str] = if own { &["client_credentials"] } else { &["authorization_code", "refresh_token"] };
    registration(&strings(&object["spec"]["scopes"]), types)
}

fn over(object: &Value) -> bool {
    let end = object["spec"]["expiresAt"].as_str().and_then(clientgrant::api::instant::parse);
    object["metadata"]["deletionTimestamp"].is_string() || end.is_none_or(|end| end <= clientgrant::clock::now())
}

/// Hydra on SQLite refuses calls that meet others; the test's own are made again.
async fn again<T, E: std::fmt::Debug>(call: impl AsyncFn() -> Result<T, E>) -> T {
    for _ in 0..50 {
        if let Ok(answer) = call().await {
            return answer;
        }
        pause(20).await;
    }
    call().await.unwrap()
}

/// One grant, with a client and a subject of its own.
pub struct Subject<'b> {
    pub bed: &'b Bed,
    pub name: String,
    pub work: Work,
    pub access: Option<String>,
    client: OAuthClient,
}

impl<'b> Subject<'b> {
    /// Makes the client, and whatever the workload begins with.
    pub async fn new(bed: &'b Bed, name: String, work: Work) -> Self {
        let own = json!({"grant_types": ["client_credentials"], "scope": "ledger:read"});
        let user = json!({"scope": format!("{SCOPE} transactions:write")});
        let registration = if work == Work::Own { own } else { user };
        let client = again(async || bed.client(&name, registration.clone()).await).await;
        let mut subject = Self { bed, name, work, access: None, client };
        if !matches!(work, Work::Create | Work::Own) {
            subject.create(Duration::from_secs(60)).await.unwrap();
        }
        subject
    }

    /// Another pair of eyes on the same one.
    pub fn watcher(&self) -> Self {
        let client = self.bed.oauth(&self.name).unwrap();
        Self { bed: self.bed, name: self.name.clone(), work: self.work, access: None, client }
    }

    fn path(&self) -> String {
        format!("namespaces/finance/clientgrants/{}", self.name)
    }

    fn user(&self) -> String {
        format!("user-{}", self.name)
    }

    async fn ready(&self, reason: &str, end: Instant) -> Result<(), String> {
        loop {
            let object = self.bed.get(&self.path()).await.unwrap().unwrap_or_default();
            let ready = condition(&object, "Ready");
            if ready["reason"] == reason && ready["observedGeneration"] == object["metadata"]["generation"] {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("not {reason} in time: {:#}", object["status"]));
            }
            pause(50).await;
        }
    }

    async fn create(&mut self, limit: Duration) -> Result<(), String> {
        let spec = json!({"clientID": self.name, "subject": {"kind": "User", "id": self.user()}});
        self.bed.grant("finance", &self.name, spec).await.unwrap();
        let end = Instant::now() + limit;
        self.ready("AwaitingConsent", end).await?;
        self.tokens(end, async |this: &Self| {
            let request = AuthRequest::new(&this.name, CALLBACK, SCOPE, &this.user());
            let outcome = this.bed.browser().ok()?.authorize(&request, &this.bed.honest()).await.ok()?;
            let token = this.client.exchange_code(outcome.code()?, CALLBACK).await.ok()?;
            token.access_token().map(str::to_owned)
        })
        .await?;
        self.ready("Granted", end).await
    }

    /// People and programs try again.
    async fn tokens(&mut self, end: Instant, attempt: impl AsyncFn(&Self) -> Option<String>) -> Result<(), String> {
        while self.access.is_none() {
            if Instant::now() > end {
                return Err("no token could be had in time".into());
            }
            self.access = attempt(self).await;
            pause(100).await;
        }
        Ok(())
    }

    /// Does it; the error says what could not be had on the way.
    pub async fn operate(&mut self, limit: Duration) -> Result<(), String> {
        let path = self.path();
        let edit = async |spec: Value| _ = self.bed.patch(&path, json!({"spec": spec})).await.unwrap();
        match self.work {
            Work::Create => return self.create(limit).await,
            Work::Narrow => edit(json!({"scopes": ["openid", "offline_access"]})).await,
            Work::Widen => {
                edit(json!({"scopes": ["openid", "offline_access", "transactions:read", "transactions:write"]})).await
            }
            Work::Expire => edit(json!({"expiresAt": ahead(AHEAD)})).await,
            Work::Delete => self.bed.delete(&path).await.unwrap(),
            Work::Own => {
                let spec =
                    json!({"clientID": self.name, "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
                self.bed.grant("finance", &self.name, spec).await.unwrap();
                let end = Instant::now() + limit;
                self.ready("Granted", end).await?;
                self.tokens(end, async |this: &Self| {
                    let token = this.client.client_credentials("ledger:read", "").await.ok()?;
                    token.access_token().map(str::to_owned)
                })
                .await?;
                self.bed.delete(&path).await.unwrap();
            }
        }
        Ok(())
    }

    /// How much later than the edit something ends by its date.
    pub fn delay(&self) -> Duration {
        if self.work == Work::Expire { Duration::from_secs(AHEAD.unsigned_abs()) } else { Duration::ZERO }
    }

    async fn consented(&self) -> bool {
        let listed = again(async || self.bed.hydra.admin().list_consents(&self.user()).await).await;
        listed.iter().any(|c| c["consent_request"]["client"]["client_id"] == self.name)
    }

    async fn registered(&self) -> Value {
        read(&again(async || self.bed.hydra.admin().get_client(&self.name).await).await)
    }

    /// Everything, now.
    pub async fn state(&self) -> State {
        let object = self.bed.get(&self.path()).await.unwrap();
        let conditions = object.as_ref().map(|object| {
            let newest = &object["metadata"]["generation"];
            let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let text = |c: &Value| c.as_str().unwrap_or_default().to_owned();
            let mut all: Vec<String> = all
                .iter()
                .map(|c| {
                    let fresh = c["observedGeneration"] == *newest;
                    format!("{}={}/{} newest:{fresh}", text(&c["type"]), text(&c["status"]), text(&c["reason"]))
                })
                .collect();
            all.sort();
            all
        });
        let object = object.unwrap_or_default();
        let revocation = &object["status"]["revocation"];
        let held = format!("{} {}", object["metadata"]["finalizers"], revocation["confirmedAt"].is_string());
        let access = match &self.access {
            Some(token) => again(async || self.bed.hydra.admin().is_active(token).await).await,
            None => false,
        };
        State { conditions, held, registration: self.registered().await, consent: self.consented().await, access }
    }

    /// If the object claims that all is as it asks: whether it is. The error says what is not.
    pub async fn claim(&self) -> Option<Result<(), String>> {
        let before = self.bed.get(&self.path()).await.ok()??;
        let ready = condition(&before, "Ready");
        if ready["status"] != "True" || ready["observedGeneration"] != before["metadata"]["generation"] {
            return None;
        }
        let wanted = if ready["reason"] == "Expired" { nothing() } else { ceiling(&before) };
        let registered = self.registered().await;
        let active = condition(&before, "Active")["status"] == "True";
        let bare = active && before["spec"]["basis"] == "SubjectConsent" && !self.consented().await;
        if registered == wanted && !bare {
            return Some(Ok(()));
        }
        // An edit or the end in between excuses it; nobody but the operator writes at Hydra.
        let after = self.bed.get(&self.path()).await.ok()??;
        let same = after["metadata"]["generation"] == before["metadata"]["generation"]
            && after["metadata"]["uid"] == before["metadata"]["uid"]
            && over(&after) == over(&before);
        let excused = !same || (ready["reason"] != "Expired" && over(&after));
        (!excused).then(|| {
            let reason = &ready["reason"];
            Err(format!(
                "Ready=True/{reason}, but registered is {registered} instead of {wanted}; without consent: {bare}"
            ))
        })
    }
}
