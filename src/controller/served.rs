//! Whether the definitions that the API server serves are as new as this program.
//!
//! A field that the served definition does not know is dropped when an object is stored, and a rule that it
//! does not have refuses nothing: somebody has to hear of it. What is served is read as OpenAPI, which every
//! account may read.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Context;
use crate::api::schema;

/// Looked at again this often.
const AGAIN: Duration = Duration::from_secs(3600);
/// The same while something is missing, or nothing could be read.
const SOON: Duration = Duration::from_secs(60);
/// Parts that one log line names.
const NAMED: usize = 5;

/// Looks for ever.
pub async fn watch(context: Arc<Context>) {
    let mut missed = Vec::new();
    loop {
        let pause = match missing(&context.kube).await {
            Ok(lacking) => {
                context.metrics.outdated(!lacking.is_empty());
                if !lacking.is_empty() && lacking != missed {
                    let some = lacking.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
                    tracing::error!(
                        missing = lacking.len(),
                        some,
                        "the API server serves definitions that are older than this operator: apply its CRDs"
                    );
                } else if lacking.is_empty() && !missed.is_empty() {
                    tracing::info!("the definitions that the API server serves are as new as this operator");
                }
                missed = lacking;
                if missed.is_empty() { AGAIN } else { SOON }
            }
            Err(error) => {
                tracing::warn!(error, "the served definitions could not be compared with this operator's");
                SOON
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// What this program knows and the API server does not serve: kinds, fields, values and rules.
///
/// # Errors
/// The API server did not say what it serves.
pub async fn missing(kube: &kube::Client) -> Result<Vec<String>, String> {
    let path = schema::openapi_path();
    let request = axum::http::Request::get(path).header("accept", "application/json").body(Vec::new());
    let request = request.map_err(|error| error.to_string())?;
    match tokio::time::timeout(Duration::from_secs(10), kube.request::<Value>(request)).await {
        Ok(Ok(document)) => Ok(schema::lacking(&document)),
        // It serves nothing of our group.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(schema::lacking(&Value::Null)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the API server does not answer".to_owned()),
    }
}
