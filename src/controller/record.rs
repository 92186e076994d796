//! The durable record of managed clients: ConfigMaps in the operator's namespace.
//!
//! A mark at the IdP can be wiped by the client itself where dynamic registration is open, so what we
//! manage is written down here before the first write there. One key per client; each write touches
//! only its own key.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Context;
use crate::grant::Managed;
use crate::grant::observed::ObservedClient;
use crate::world::Source;

/// How many ConfigMaps share the record: each may hold 1 MiB.
const SHARDS: u8 = 64;
const LABEL: &str = "clientgrant.dev/record";
const DEADLINE: Duration = Duration::from_secs(5);

/// One client of the record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    issuer: String,
    #[serde(rename = "clientID")]
    client_id: String,
    complete: bool,
    previous: Previous,
}

/// What a client held before it was adopted, so that it can be given back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Previous {
    scopes: Vec<String>,
    audiences: Vec<String>,
    grant_types: Vec<String>,
    other: Vec<String>,
}

impl From<&ObservedClient> for Previous {
    fn from(client: &ObservedClient) -> Self {
        Self {
            scopes: client.authority.scopes.to_vec(),
            audiences: client.authority.audiences.to_vec(),
            grant_types: client.authority.grant_types.iter().map(|g| g.as_str().to_owned()).collect(),
            other: client.extra.iter().cloned().collect(),
        }
    }
}

fn digest(issuer: &str, client: &str) -> ring::digest::Digest {
    ring::digest::digest(&ring::digest::SHA256, format!("{issuer}\n{client}").as_bytes())
}

fn shard(issuer: &str, client: &str) -> String {
    let first = digest(issuer, client).as_ref().first().copied().unwrap_or_default();
    format!("clientgrant-managed-{:02}", first % SHARDS)
}

/// A ConfigMap key is short and of few letters: a digest of the names, which stand in the value.
fn key(issuer: &str, client: &str) -> String {
    digest(issuer, client).as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

fn api(context: &Context) -> Api<ConfigMap> {
    Api::namespaced(context.kube.clone(), &context.config.operator_namespace)
}

/// Reads the whole record into the World; a line that cannot be read counts as managed under the name
/// of nobody, so it is only reported.
///
/// # Errors
/// The API server did not give a complete answer.
pub async fn load(context: &Context) -> Result<usize, kube::Error> {
    let list = api(context).list(&ListParams::default().labels(LABEL)).await?;
    let mut count = 0;
    for map in list.items {
        for (name, text) in map.data.unwrap_or_default() {
            match serde_json::from_str::<Line>(&text) {
                Ok(line) => {
                    let managed = Managed { complete: line.complete };
                    context.world.set_managed(&line.issuer, &line.client_id, Some(managed));
                    count += 1;
                }
                Err(_) => tracing::error!(key = name, "a line of the record of managed clients cannot be read"),
            }
        }
    }
    context.world.synced(Source::Record);
    Ok(count)
}

/// Writes one client down, then tells the World: before the first write at the IdP.
///
/// # Errors
/// It is not written; nothing may be done at the IdP.
pub async fn adopt(context: &Context, issuer: &str, client: &str, before: &ObservedClient) -> Result<(), kube::Error> {
    let previous = Previous::from(before);
    let line = Line { issuer: issuer.into(), client_id: client.into(), complete: false, previous };
    write(context, &line).await?;
    context.world.set_managed(issuer, client, Some(Managed { complete: false }));
    Ok(())
}

/// Notes that tokens from before the adoption are ended.
///
/// # Errors
/// It is not written; the tokens are ended once more after a restart.
pub async fn complete(context: &Context, issuer: &str, client: &str) -> Result<(), kube::Error> {
    let stored = tokio::time::timeout(DEADLINE, api(context).get_opt(&shard(issuer, client))).await;
    let stored = stored.map_err(|_| timeout())??;
    let line =
        stored.and_then(|m| m.data).and_then(|d| serde_json::from_str::<Line>(d.get(&key(issuer, client))?).ok());
    let previous = line.map(|l| l.previous).unwrap_or_default();
    let line = Line { issuer: issuer.into(), client_id: client.into(), complete: true, previous };
    write(context, &line).await?;
    context.world.set_managed(issuer, client, Some(Managed { complete: true }));
    Ok(())
}

async fn write(context: &Context, line: &Line) -> Result<(), kube::Error> {
    let name = shard(&line.issuer, &line.client_id);
    let text = serde_json::to_string(line).map_err(kube::Error::SerdeError)?;
    let entry = BTreeMap::from([(key(&line.issuer, &line.client_id), text)]);
    let api = api(context);
    let work = async {
        let patch = Patch::Merge(json!({"data": entry}));
        match api.patch(&name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            other => return other.map(drop),
        }
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some([(LABEL.to_owned(), "managed-clients".to_owned())].into()),
                ..ObjectMeta::default()
            },
            data: Some(entry.clone()),
            ..ConfigMap::default()
        };
        match api.create(&PostParams::default(), &map).await {
            // Somebody else was faster: its keys stay, ours is added.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                api.patch(&name, &PatchParams::default(), &patch).await.map(drop)
            }
            other => other.map(drop),
        }
    };
    tokio::time::timeout(DEADLINE, work).await.map_err(|_| timeout())?
}

fn timeout() -> kube::Error {
    kube::Error::Service(Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut)))
}
