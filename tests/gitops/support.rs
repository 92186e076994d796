//! What the tests share.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::Value;

use crate::status_rows::Row;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

pub fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every object of a stream of YAML documents.
pub fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    let read = documents.map(|d| Value::deserialize(d).unwrap_or_else(|error| panic!("{error}:\n{text}")));
    read.filter(|value| !value.is_null()).collect()
}

/// The object of a situation, as the API server returned it.
pub fn fixture(row: &Row) -> Value {
    let path = row.path();
    let mut objects = objects(&text(&path));
    assert_eq!(objects.len(), 1, "{}", path.display());
    objects.remove(0)
}

/// Objects like this one of which one part is something else: what a forged or an older object may be.
pub fn spoiled(object: &Value) -> Vec<Value> {
    let others = [
        Value::Null,
        Value::from(true),
        Value::from(5),
        Value::from("True"),
        serde_json::json!([]),
        serde_json::json!({}),
        serde_json::json!([5, null, "x", [], {}]),
        serde_json::json!({"type": {}, "status": [], "reason": 5, "message": {"x": 1}}),
    ];
    let mut all = Vec::new();
    let mut pointers = Vec::new();
    places(object, String::new(), &mut pointers);
    for pointer in pointers {
        for other in &others {
            let mut spoiled = object.clone();
            *spoiled.pointer_mut(&pointer).expect("a place") = other.clone();
            all.push(spoiled);
        }
    }
    all
}

/// Pointers to every part below metadata and status.
fn places(value: &Value, at: String, all: &mut Vec<String>) {
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, v)| (name.replace('/', "~1"), v)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in inside {
        let here = format!("{at}/{name}");
        if here.starts_with("/metadata") || here.starts_with("/status") {
            all.push(here.clone());
            places(value, here, all);
        }
    }
}
