//! The table of what the schema accepts and refuses, and the verdict on it without a server.
//!
//! `tests/cases/*.yaml` holds the table. Two tests read it: one judges with a JSON-schema validator
//! and a CEL interpreter, the other asks a real API server, and both must come to the verdict in
//! the table.

use std::{collections::BTreeMap, fs, path::Path};

use clientgrant::api::{
    self, ClientGrantStatus, GROUP, VERSION, bounds,
    condition::{ConditionStatus, ConditionType, Reason, set_condition},
    instant, schema,
};
use jsonschema::error::ValidationErrorKind;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::{CompiledSchema, ErrorKind, Validator, apply_defaults, compile_schema};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The name of every object in the table.
pub const NAME: &str = "case";

/// The namespace of every namespaced object in the table.
pub const NAMESPACE: &str = "cases";

/// One line of the table.
pub struct Case {
    /// `file: name`.
    pub name: String,
    /// The kind of the object.
    pub kind: String,
    /// The object before an update; `None` where the object is created.
    pub old: Option<Value>,
    /// The object that is written.
    pub new: Value,
    /// A part of what the refusal says; `None` where the object is accepted.
    pub refused: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kind: String,
    base: Value,
    cases: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    before: Option<Map<String, Value>>,
    #[serde(default)]
    set: Map<String, Value>,
    refused: Option<String>,
}

/// Reads the table.
pub fn all() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().flat_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vec<Case> {
    let file: File = serde_yaml::from_str(&fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let stem = path.file_stem().unwrap().to_string_lossy();
    let mut base = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": file.kind,
        "metadata": { "name": NAME },
        "spec": file.base,
    });
    if !matches!(file.kind.as_str(), "ClusterIdentityProvider" | "ClientQuarantine") {
        base["metadata"]["namespace"] = json!(NAMESPACE);
    }
    let changed = |changes: &Map<String, Value>| {
        let mut object = base.clone();
        for (path, value) in changes {
            set(&mut object, path, expand(value));
        }
        object
    };
    file.cases
        .iter()
        .map(|line| Case {
            name: format!("{stem}: {}", line.name),
            kind: file.kind.clone(),
            old: line.before.as_ref().map(changed),
            new: changed(&line.set),
            refused: line.refused.clone(),
        })
        .collect()
}

/// Sets the value at a path such as `spec.allow.0.clients`, or removes it where the value is null.
fn set(object: &mut Value, path: &str, value: Value) {
    let (parent, last) = path.rsplit_once('.').unwrap_or(("", path));
    let parent =
        parent.split('.').filter(|step| !step.is_empty()).fold(object, |at, step| match step.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[step],
        });
    if value.is_null() {
        parent.as_object_mut().unwrap_or_else(|| panic!("nothing at {path}")).remove(last);
    } else {
        parent[last] = value;
    }
}

/// Writes out the short forms for what is long: `{$repeat: x, times: 3}` is `xxx`, `{$count: 2, of:
/// {}}` is two times `{}`, and `{$count: 2, length: 3}` is two different texts of three characters.
fn expand(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            if let Some(text) = fields.get("$repeat") {
                let times = usize::try_from(fields["times"].as_u64().unwrap()).unwrap();
                let prefix = fields.get("prefix").and_then(Value::as_str).unwrap_or_default();
                json!(format!("{prefix}{}", text.as_str().unwrap().repeat(times)))
            } else if let Some(count) = fields.get("$count") {
                let entry = |n: u64| match fields.get("length").and_then(Value::as_u64) {
                    Some(length) => json!(format!("{n:0>width$}", width = length as usize)),
                    None => fields["of"].clone(),
                };
                (0..count.as_u64().unwrap()).map(entry).collect()
            } else {
                fields.iter().map(|(name, value)| (name.clone(), expand(value))).collect()
            }
        }
        Value::Array(values) => values.iter().map(expand).collect(),
        plain => plain.clone(),
    }
}

/// The schema of one kind, ready to judge.
pub struct Judge {
    /// The CRD.
    pub crd: CustomResourceDefinition,
    /// Its schema.
    pub schema: Value,
    shape: jsonschema::Validator,
    rules: CompiledSchema,
}

/// The judges of all kinds, by kind.
pub fn judges() -> BTreeMap<String, Judge> {
    schema::crds().into_iter().map(|crd| (crd.spec.names.kind.clone(), Judge::new(crd))).collect()
}

impl Judge {
    fn new(crd: CustomResourceDefinition) -> Self {
        let version = &crd.spec.versions[0];
        let root = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let schema = serde_json::to_value(root).unwrap();
        let shape = jsonschema::validator_for(&schema).unwrap();
        let rules = compile_schema(&schema);
        Self { crd, schema, shape, rules }
    }

    /// The object as the API server sees it when it judges.
    pub fn defaulted(&self, object: &Value) -> Value {
        apply_defaults(&self.schema, object)
    }

    /// Why the object is refused, each as `path: words`; empty where it is accepted.
    pub fn refusals(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let new = self.defaulted(new);
        let old = old.map(|old| self.defaulted(old));
        let mut refusals = Vec::new();
        let mut stops = false;
        for error in self.shape.iter_errors(&new) {
            use ValidationErrorKind::{MaxItems, MaxLength, MaxProperties, Required, Type};
            let mut path = dotted(error.instance_path().as_str());
            if let Required { property } = error.kind() {
                let dot = if path.is_empty() { "" } else { "." };
                path = format!("{path}{dot}{}", property.as_str().unwrap());
            }
            stops |= matches!(
                error.kind(),
                MaxItems { .. } | MaxLength { .. } | MaxProperties { .. } | Required { .. } | Type { .. }
            );
            refusals.push(format!("{path}: {error}"));
        }
        // The API server evaluates no rules on what has the wrong type or is too large, either.
        if !stops && let Err(errors) = Validator::new().validate_compiled(&self.rules, &new, old.as_ref()) {
            for error in errors.iter() {
                assert_eq!(error.kind, ErrorKind::ValidationFailure, "{error}: {}", error.rule);
                refusals.push(error.to_string());
            }
        }
        refusals
    }
}

/// Writes the JSON pointer `/spec/scopes/0` as `spec.scopes[0]`.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        if step.parse::<usize>().is_ok() {
            path += &format!("[{step}]");
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path += &step.replace("~1", "/").replace("~0", "~");
        }
    }
    path
}

/// A status of a grant with everything in it, at the bounds.
pub fn full_grant_status() -> ClientGrantStatus {
    let now = "2026-11-24T09:00:00.5Z".parse().unwrap();
    let long = || bounds::fit_list((0..200).map(|n| format!("{n:0>600}")));
    let mut conditions = Vec::new();
    let message = "ü".repeat(300);
    for &type_ in &ConditionType::ALL[..6] {
        let (status, reason) = (ConditionStatus::True, Reason::SubjectClientCollision);
        set_condition(&mut conditions, type_, status, reason, &message, Some(1), now);
    }
    ClientGrantStatus {
        observed_generation: Some(1),
        conditions,
        summary: Some(api::Summary {
            subject: bounds::fit(&"ü".repeat(400), bounds::SHORT),
            scopes: bounds::fit(&"s".repeat(400), bounds::SHORT),
        }),
        effective: Some(api::Effective {
            scopes: long(),
            audiences: long(),
            expires_at: "2027-02-20T00:00:00Z".to_owned(),
        }),
        observed: Some(api::Observed { scopes: long(), consent_since: Some(instant::format(now)) }),
        drift: Some(api::Drift { excess: long(), missing: long() }),
        enforcement: Some(api::Enforcement {
            points: vec!["ClientCeiling".to_owned()],
            not_enforced: vec!["SharedAdminAPI".to_owned()],
            max_residual_seconds: Some(300),
        }),
        revocation: Some(api::Revocation {
            cause: api::RevocationCause::Narrowed,
            requested_at: instant::format(now),
            confirmed_at: Some(instant::format(now)),
            residual_until: Some(instant::format(now)),
        }),
        sharing: Some(api::SharingCounts { open: 2, suppressed: 1, worst: Some("critical".to_owned()), rules: long() }),
    }
}
