//! Whether the API server serves our kinds as this binary knows them. Where its definitions are older it
//! drops fields that it does not know, without a word: a person has to be told.

use std::time::Duration;

use axum::http::Request;
use kube::Client;
use serde_json::Value;

use crate::api::{GROUP, VERSION, schema};

const DEADLINE: Duration = Duration::from_secs(10);
/// How often definitions that are too old are looked at again.
const AGAIN: Duration = Duration::from_secs(60);

/// What this binary knows and the API server does not serve: kinds, and fields as
/// `ClientGrant.spec.expiresAt`.
///
/// # Errors
/// The API server did not say what it serves.
pub async fn missing(kube: &Client) -> Result<Vec<String>, String> {
    // Everybody who is somebody may read it.
    let request = Request::get(format!("/openapi/v3/apis/{GROUP}/{VERSION}")).body(Vec::new());
    let request = request.map_err(|error| error.to_string())?;
    match tokio::time::timeout(DEADLINE, kube.request::<Value>(request)).await {
        Ok(Ok(document)) => Ok(lacks(&document)),
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Ok(lacks(&Value::Null)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the API server does not answer".to_owned()),
    }
}

/// The same of an OpenAPI document of our group.
fn lacks(document: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    for definition in schema::crds() {
        let names = &definition.spec.names;
        let version = definition.spec.versions.iter().find(|version| version.name == VERSION);
        let ours = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
        let served = &document["components"]["schemas"];
        let kind = served.as_object().and_then(|all| all.values().find(|one| is(one, &names.kind)));
        match (kind, serde_json::to_value(ours)) {
            (Some(served), Ok(ours)) => compare(&names.kind, &ours, served, &mut missing),
            _ => missing.push(names.kind.clone()),
        }
    }
    missing
}

fn is(schema: &Value, kind: &str) -> bool {
    let kinds = schema["x-kubernetes-group-version-kind"].as_array();
    kinds.is_some_and(|all| all.iter().any(|gvk| gvk["kind"] == kind && gvk["version"] == VERSION))
}

fn compare(path: &str, ours: &Value, served: &Value, missing: &mut Vec<String>) {
    for (name, field) in ours["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match served["properties"].get(name) {
            Some(served) => compare(&path, field, served, missing),
            None => missing.push(path),
        }
    }
    for below in ["items", "additionalProperties"] {
        if ours[below].is_object() {
            compare(path, &ours[below], &served[below], missing);
        }
    }
}

/// Says it in the log as long as something is missing.
pub async fn tell(kube: Client) {
    loop {
        match missing(&kube).await {
            Ok(missing) if missing.is_empty() => return,
            Ok(missing) => {
                let some: Vec<&str> = missing.iter().map(String::as_str).take(5).collect();
                tracing::error!(
                    missing = missing.len(),
                    some = some.join(", "),
                    "the custom resource definitions in the cluster are older than this operator: apply those of its version"
                );
            }
            Err(error) => tracing::warn!(error, "the API server does not say which definitions it serves"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As the API server publishes our definitions.
    fn document() -> Value {
        let mut schemas = serde_json::Map::new();
        for definition in schema::crds() {
            let kind = &definition.spec.names.kind;
            let schema = definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema;
            let mut schema = serde_json::to_value(schema).unwrap();
            schema["x-kubernetes-group-version-kind"] = json!([{"group": GROUP, "version": VERSION, "kind": kind}]);
            // The server adds to it what is the same of every kind.
            schema["properties"]["metadata"] = json!({"allOf": [{"$ref": "#/components/schemas/ObjectMeta"}]});
            schemas.insert(format!("dev.clientgrant.{VERSION}.{kind}"), schema);
        }
        json!({"components": {"schemas": schemas}})
    }

    #[test]
    fn a_field_or_a_kind_that_is_not_served_is_named() {
        let mut served = document();
        assert_eq!(lacks(&served), Vec::<String>::new());
        let grant = &mut served["components"]["schemas"]["dev.clientgrant.v1alpha1.ClientGrant"];
        grant["properties"]["spec"]["properties"].as_object_mut().unwrap().remove("expiresAt");
        grant["properties"]["status"]["properties"]["conditions"]["items"]["properties"] = json!({});
        let lacking = lacks(&served);
        assert!(lacking.contains(&"ClientGrant.spec.expiresAt".to_owned()), "{lacking:?}");
        assert!(lacking.contains(&"ClientGrant.status.conditions.reason".to_owned()), "{lacking:?}");
        served["components"]["schemas"].as_object_mut().unwrap().remove("dev.clientgrant.v1alpha1.ClientIdentity");
        assert!(lacks(&served).contains(&"ClientIdentity".to_owned()));
        assert_eq!(lacks(&Value::Null).len(), schema::crds().len());
    }
}
