//! What kinds a cluster has.

use kube::Client;

/// The names of the resources that an API server has in a group and version; without any, it does not have these.
///
/// # Errors
///
/// It did not say.
pub async fn resources(kube: &Client, api_version: &str) -> Result<Vec<String>, kube::Error> {
    match kube.list_api_group_resources(api_version).await {
        Ok(list) => Ok(list.resources.into_iter().map(|resource| resource.name).collect()),
        // Of a group that it does not have the API server says nothing but the code: no reason.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
