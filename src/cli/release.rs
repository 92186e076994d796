//! `clientgrant release`: the IdP owner's way out.
//!
//! It writes into the record of managed clients and nowhere else; the operator takes its mark off, and
//! puts back what the client had where that is asked for. Consents and tokens never come back.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use super::run::{block_on, kubernetes};
use crate::api::{ClientGrant, ClusterIdentityProvider, IdentityProvider, instant};
use crate::clock;
use crate::controller::record;
use crate::grant::record::{self as lines, Line};
use crate::grant::{ProviderKey, parse};

/// Which client, and what becomes of it.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The OAuth 2.0 client_id.
    client: String,
    /// The name of the provider object.
    #[arg(long)]
    provider: String,
    /// The namespace of an IdentityProvider; absent: a ClusterIdentityProvider.
    #[arg(long)]
    namespace: Option<String>,
    /// Let the client have the scopes, audiences and grant types again that it had before it was adopted.
    #[arg(long)]
    put_back: bool,
    /// Where the operator lives.
    #[arg(long, env = "CLIENTGRANT_OPERATOR_NAMESPACE", default_value = "clientgrant-system")]
    operator_namespace: String,
}

/// Releases one client.
///
/// # Errors
/// It was not released; the message says why and what to do.
pub fn main(args: Args) -> Result<(), String> {
    crate::install_tls();
    block_on(release(&args))
}

async fn release(args: &Args) -> Result<(), String> {
    let kube = kubernetes().await?;
    let asked = |what: &str, error: kube::Error| format!("{what} cannot be read: {error}");
    let (issuer, key) = match &args.namespace {
        None => {
            let api: Api<ClusterIdentityProvider> = Api::all(kube.clone());
            let object = api.get(&args.provider).await.map_err(|e| asked("the ClusterIdentityProvider", e))?;
            (object.spec().issuer.clone(), ProviderKey::cluster(&args.provider))
        }
        Some(namespace) => {
            let api: Api<IdentityProvider> = Api::namespaced(kube.clone(), namespace);
            let object = api.get(&args.provider).await.map_err(|e| asked("the IdentityProvider", e))?;
            (object.spec().issuer.clone(), ProviderKey::new(namespace, &args.provider))
        }
    };
    let grants: Api<ClientGrant> = Api::all(kube.clone());
    let all = grants.list(&kube::api::ListParams::default()).await.map_err(|e| asked("the ClientGrants", e))?;
    let named = all.items.iter().filter(|grant| {
        let of = parse::client_key(grant);
        of.provider == key && *of.client == *args.client
    });
    let named: Vec<String> = named.map(|grant| parse::name(&grant.metadata).to_string()).collect();
    if !named.is_empty() {
        let some: Vec<&str> = named.iter().take(3).map(String::as_str).collect();
        return Err(format!(
            "{} ClientGrants name the client ({}); delete them first, so that what they gave ends",
            named.len(),
            some.join(", ")
        ));
    }
    let api: Api<ConfigMap> = Api::namespaced(kube, &args.operator_namespace);
    let map = api.get_opt(&lines::shard(&issuer, &args.client)).await.map_err(|e| asked("the record", e))?;
    let key = lines::key(&issuer, &args.client);
    let stored = map.and_then(|m| m.data).and_then(|mut data| data.remove(&key));
    let Some(text) = stored else {
        return Err(format!("the client {} is not managed: the record does not have it", args.client));
    };
    let line = lines::read(&key, &text)
        .ok_or("the client's line in the record cannot be read; apply a grant for it, so that it is written anew")?;
    let at = instant::format(clock::now());
    let line = Line { released: line.released.or(Some(at)), put_back: args.put_back, ..line };
    record::put(&api, &line).await.map_err(|error| format!("the record could not be written: {error}"))?;
    println!("{} is released; the operator takes its mark off.", args.client);
    if !args.put_back {
        println!("It has nothing at the identity provider now; --put-back gives it again what it had before.");
    }
    Ok(())
}
