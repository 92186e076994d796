//! What a cluster has, as far as the caller may list it. No Secret is asked for.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::Value;

use crate::api::{GROUP, VERSION};
use crate::cli::run::{block_on, kubernetes};
use crate::discovery;
use crate::sharing::configmap;
use crate::sharing::facts::{KINDS, Kind, resource, resource_name};
use crate::sharing::finding::Place;
use crate::sharing::rbac;
use crate::sharing::read::Reader;

/// Objects in one answer.
const PAGE: u32 = 500;
/// One answer takes no longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// Lists everything that matters. What cannot be listed is remembered as not read.
pub(super) fn read(namespace: Option<String>, configmaps: bool) -> Result<Reader, String> {
    crate::install_tls();
    let mut reader = Reader::default();
    block_on(async {
        let kube = kubernetes().await?;
        // The grants of a client may be in other namespaces.
        if namespace.is_none() {
            reader.whole();
        }
        for resource in resources(configmaps) {
            let is_rbac = resource.group == rbac::GROUP;
            let of_cluster = resource.kind.starts_with("Cluster");
            if is_rbac && of_cluster && namespace.is_some() {
                reader.no_rbac(format!("{} are of the whole cluster, and were not asked for", resource.plural));
                continue;
            }
            let api = match &namespace {
                Some(namespace) => Api::namespaced_with(kube.clone(), namespace, &resource),
                None => Api::all_with(kube.clone(), &resource),
            };
            let listed = list(&api, &resource, &mut reader).await;
            if listed.is_ok() && resource.plural == configmap::RESOURCE {
                reader.every_configmap();
            }
            if let Err(why) = listed
                && is_served(&kube, &resource).await
            {
                // Most people may not list these: that is a gap of two rules, and no failure of the others.
                if is_rbac {
                    reader.no_rbac(format!("{}: {why}", resource.plural));
                    continue;
                }
                reader.unread(&resource_name(&resource), 0, why);
            }
        }
        Ok(())
    })?;
    Ok(reader)
}

/// Our own kinds first: without them there is nothing to compare with.
fn resources(configmaps: bool) -> Vec<ApiResource> {
    let ours = [("ClientIdentity", "clientidentities"), ("ClientGrant", "clientgrants")];
    let mut all: Vec<_> = ours.into_iter().map(|(kind, plural)| resource(GROUP, VERSION, kind, plural)).collect();
    all.push(resource("", "v1", "ServiceAccount", "serviceaccounts"));
    all.extend(rbac::KINDS.iter().map(|(kind, plural)| resource(rbac::GROUP, "v1", kind, plural)));
    all.extend(KINDS.iter().map(Kind::resource));
    all.extend(configmaps.then(configmap::resource));
    all
}

async fn list(api: &Api<DynamicObject>, resource: &ApiResource, reader: &mut Reader) -> Result<(), String> {
    let limit = if resource.plural == configmap::RESOURCE { configmap::PAGE } else { PAGE };
    let mut page = ListParams::default().limit(limit);
    loop {
        let list = match tokio::time::timeout(DEADLINE, api.list(&page)).await {
            Ok(Ok(list)) => list,
            Ok(Err(error)) => return Err(why(&error)),
            Err(_) => return Err("the API server does not answer".to_owned()),
        };
        for object in list.items {
            reader.object(slim(object, resource)?, &Place::default());
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// Whether a kind is missing for want of an answer. Most clusters do not have every kind of workload, or of a group
/// only others, and refuse what they do not have as what one may not list. Without our own kinds all would look well.
async fn is_served(kube: &Client, resource: &ApiResource) -> bool {
    let served = async || discovery::resources(kube, &resource.api_version).await;
    resource.group == GROUP || served().await.map_or(true, |all| all.contains(&resource.plural))
}

fn why(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => "you may not list it".to_owned(),
        kube::Error::Api(status) if status.code == 404 => {
            "the cluster does not know it; install the definitions, or name manifests with -f".to_owned()
        }
        kube::Error::Api(status) if status.code == 410 => "it changed while it was read; try again".to_owned(),
        kube::Error::Api(status) => format!("the API server refuses (status {})", status.code),
        _ => "the API server cannot be reached".to_owned(),
    }
}

/// What lists leave out of an object, and without what nobody looks at: there may be thousands.
fn slim(mut object: DynamicObject, resource: &ApiResource) -> Result<Value, String> {
    object.metadata.managed_fields = None;
    let mut value = serde_json::to_value(object).map_err(|_| "an object cannot be read".to_owned())?;
    value["apiVersion"] = resource.api_version.as_str().into();
    value["kind"] = resource.kind.as_str().into();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    Ok(value)
}
