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
    write_all(dir, schema::files())
}

/// The same with the JSON schemas, for example `clientgrant.dev/clientgrant_v1alpha1.json`.
///
/// # Errors
///
/// Whatever the file system says.
pub fn write_json_schemas(dir: &Path) -> io::Result<()> {
    write_all(dir, schema::json_schemas())
}

fn write_all(dir: &Path, files: Vec<(String, String)>) -> io::Result<()> {
    for (name, text) in files {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            fs::write(path, text)?;
        }
    }
    Ok(())
}
