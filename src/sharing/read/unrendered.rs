//! What is still to be rendered: templates of Helm, variables of envsubst and Flux, and what SOPS encrypted.

use serde_json::Value;

use crate::sharing::facts::{Facts, Keys};

/// Fields that hold others: where a text is in their place, it stands for all of them.
const STRUCTURE: [&str; 14] = [
    "containers",
    "env",
    "envFrom",
    "ephemeralContainers",
    "initContainers",
    "items",
    "jobTemplate",
    "projected",
    "sources",
    "spec",
    "template",
    "valueFrom",
    "volumeMounts",
    "volumes",
];
/// Fields of our own objects that nothing is compared with.
const WORDS: [&str; 2] = ["reason", "purpose"];

/// Whether a text is still to be rendered: `{{ }}`, `${x}` as envsubst and Flux have it, or `ENC[…]` of SOPS.
pub(super) fn is_unrendered(text: &str) -> bool {
    let variable = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    text.contains("{{") || text.starts_with("ENC[") || text.split("${").skip(1).any(variable)
}

/// Whether something in it that is compared is still to be rendered.
pub(super) fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => is_unrendered(text),
        Value::Array(values) => values.iter().any(has_template),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| !WORDS.contains(&name.as_str()) && has_template(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a part of a workload is still to be rendered as a whole.
pub(super) fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(name, value)| match value {
            Value::String(text) => STRUCTURE.contains(&name.as_str()) && is_unrendered(text),
            // Of these names are of somebody's own.
            Value::Object(_) if name == "annotations" || name == "labels" => false,
            value => is_hollow(value),
        }),
        Value::Array(values) => values.iter().any(is_hollow),
        _ => false,
    }
}

/// Whether a name that matters is still to be rendered. Elsewhere braces are nothing special.
pub(super) fn is_template(facts: &Facts) -> bool {
    let slots = facts.template.edges.iter().flat_map(|edge| {
        let key = match &edge.keys {
            Keys::One(key) => key.as_str(),
            Keys::All => "",
        };
        [edge.secret.as_str(), key]
    });
    let elsewhere = facts.template.elsewhere.iter();
    let elsewhere = elsewhere.flat_map(|of| [of.namespace.as_str(), of.secret.as_str()]);
    let object = &facts.object;
    let names = [object.namespace.as_str(), object.name.as_str(), facts.template.service_account.as_str()];
    let app = facts.template.app.iter().map(|(_, app)| app.as_str());
    slots.chain(elsewhere).chain(names).chain(app).any(is_unrendered)
}
