//! `clientgrant crds`: the custom resource definitions, as YAML.

use std::{fs, io, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::api::schema;

/// Every definition, in alphabetical order of the kinds.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    schema::crds()
}

/// Every definition as one stream of YAML documents, ready for `kubectl apply --server-side -f -`.
pub fn crds() -> String {
    schema::files().into_iter().map(|(_, yaml)| format!("---\n{yaml}")).collect()
}

/// Writes each definition to a file of its own in `dir`, for example
/// `clientgrant.dev_clientgrants.yaml`. Files that are right already are left alone.
///
/// # Errors
///
/// Whatever the file system says.
pub fn write(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (name, yaml) in schema::files() {
        let path = dir.join(name);
        if fs::read_to_string(&path).ok().as_deref() != Some(&yaml) {
            fs::write(path, yaml)?;
        }
    }
    Ok(())
}
