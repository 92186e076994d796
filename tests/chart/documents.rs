//! What is written about the values: the schema has the words, and everything else has the same ones.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{file, one, rendered, yaml};

/// One value: what the schema says of it, and its default.
struct Entry {
    description: String,
    default: Value,
}

/// Every value that has a description, by path, in the order of `values.yaml`.
fn entries() -> Vec<(String, Entry)> {
    let schema: Value = serde_json::from_str(&file("values.schema.json")).unwrap();
    let values: serde_yaml::Value = serde_yaml::from_str(&file("values.yaml")).unwrap();
    let mut all = Vec::new();
    walk("", &schema, &values, &mut all);
    all
}

fn walk(path: &str, schema: &Value, values: &serde_yaml::Value, into: &mut Vec<(String, Entry)>) {
    if let Some(description) = schema["description"].as_str() {
        let default = serde_json::to_value(values).unwrap();
        into.push((path.to_owned(), Entry { description: description.to_owned(), default }));
        return;
    }
    let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("{path} has no description"));
    let fields = values.as_mapping().unwrap_or_else(|| panic!("{path} has no fields in values.yaml"));
    for (name, below) in fields {
        let name = name.as_str().unwrap();
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let schema = properties.get(name).unwrap_or_else(|| panic!("{path} is not in the schema"));
        walk(&path, schema, below, into);
    }
    for name in properties.keys().filter(|name| *name != "global") {
        assert!(fields.contains_key(name.as_str()), "{path}.{name} is not in values.yaml");
    }
}

/// The comments of `values.yaml`, by path.
fn comments() -> BTreeMap<String, String> {
    let (mut all, mut stack, mut comment) = (BTreeMap::new(), Vec::new(), Vec::new());
    for line in file("values.yaml").lines() {
        let text = line.trim_start();
        if let Some(said) = text.strip_prefix("# ") {
            comment.push(said.to_owned());
            continue;
        }
        if let Some((key, _)) = text.split_once(':') {
            stack.truncate((line.len() - text.len()) / 2);
            stack.push(key.to_owned());
            if !comment.is_empty() {
                all.insert(stack.join("."), comment.join(" "));
            }
        }
        comment.clear();
    }
    all
}

#[test]
fn the_comments_of_the_values_are_the_words_of_the_schema() {
    let entries = entries();
    assert!(entries.len() >= 40, "{}", entries.len());
    let said: BTreeMap<String, String> = entries.into_iter().map(|(path, e)| (path, e.description)).collect();
    assert_eq!(comments(), said);
}

const BEGIN: &str = "<!-- values -->\n";
const END: &str = "<!-- end of values -->\n";

/// Written by `make generate`, which sets `CLIENTGRANT_WRITE`; otherwise compared.
#[test]
fn the_table_of_the_readme_is_that_of_the_schema() {
    let mut table = "| value | default | what it is |\n|---|---|---|\n".to_owned();
    for (path, entry) in entries() {
        let what = entry.description.replace('|', "\\|");
        table.push_str(&format!("| `{path}` | `{}` | {what} |\n", entry.default));
    }
    let readme = file("README.md");
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("CLIENTGRANT_WRITE").is_some_and(|value| !value.is_empty()) {
        std::fs::write(clientgrant_testbed::helm::chart().join("README.md"), expected).unwrap();
    } else {
        assert_eq!(readme, expected, "charts/clientgrant/README.md is out of date: run `make generate`");
    }
}

/// A pod of the profile survives what the profile says it survives.
#[test]
fn the_profile_for_high_availability_has_what_it_is_for() {
    let values = clientgrant_testbed::helm::chart().join("values-ha.yaml");
    let all = rendered(&["--values", values.to_str().unwrap()]);
    let deployment = &one(&all, "Deployment", "")["spec"];
    assert_eq!(deployment["replicas"], 2);
    assert_eq!(deployment["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    assert_eq!(one(&all, "PodDisruptionBudget", "")["spec"]["maxUnavailable"], 1);
    let pod = &deployment["template"]["spec"];
    assert_eq!(pod["topologySpreadConstraints"].as_array().unwrap().len(), 2);
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
}

#[test]
fn the_chart_has_the_version_of_the_operator() {
    let chart = yaml(&file("Chart.yaml"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}
