//! What `docs/gitops.md` and the example for Argo CD tell people to apply.

use std::collections::BTreeSet;

use cel::{Context, Program};
use clientgrant_testbed::Tools;
use clientgrant_testbed::helm::Helm;
use serde_json::{Value, json};

use crate::argo;
use crate::status_rows::{GRANT, rows};
use crate::support::{fixture, objects, root, text};

/// The blocks of the document that are in this language.
fn blocks(language: &str) -> Vec<String> {
    let document = text(&root().join("docs/gitops.md"));
    let start = format!("```{language}\n");
    let blocks = document.split(&start).skip(1);
    blocks.map(|rest| rest.split_once("```").expect("the end of a block").0.to_owned()).collect()
}

/// Every object of the blocks in YAML.
fn manifests() -> Vec<Value> {
    let all = blocks("yaml");
    all.iter().flat_map(|block| objects(block)).collect()
}

/// Nothing but these fields, so that a misspelt one is found.
fn only(object: &Value, fields: &[&str], what: &str) {
    for name in object.as_object().unwrap_or_else(|| panic!("{what} is no object")).keys() {
        assert!(fields.contains(&name.as_str()), "{what}: {name}");
    }
}

#[test]
fn every_block_is_a_whole_object_of_its_kind() {
    let manifests = manifests();
    assert_eq!(manifests.len(), 3);
    for object in &manifests {
        only(object, &["apiVersion", "kind", "metadata", "spec", "data"], "an object");
        only(&object["metadata"], &["name", "namespace"], "metadata");
        match (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap()) {
            ("v1", "ConfigMap") => assert!(object["data"].as_object().unwrap().values().all(Value::is_string)),
            ("kustomize.toolkit.fluxcd.io/v1", "Kustomization") => {
                let spec = &object["spec"];
                let fields = [
                    "interval",
                    "timeout",
                    "prune",
                    "wait",
                    "path",
                    "sourceRef",
                    "dependsOn",
                    "healthChecks",
                    "healthCheckExprs",
                ];
                only(spec, &fields, "spec");
                assert!(["interval", "prune", "sourceRef"].iter().all(|field| !spec[*field].is_null()));
                for check in spec["healthChecks"].as_array().into_iter().flatten() {
                    only(check, &["apiVersion", "kind", "name", "namespace"], "healthChecks");
                }
                for check in spec["healthCheckExprs"].as_array().into_iter().flatten() {
                    only(check, &["apiVersion", "kind", "failed", "current"], "healthCheckExprs");
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Flux hands the fields of an object to its expressions.
fn holds(expression: &str, object: &Value) -> bool {
    let program = Program::compile(expression).unwrap();
    let mut context = Context::default();
    for field in ["metadata", "spec", "status"] {
        context.add_variable(field, object[field].clone()).unwrap();
    }
    program.execute(&context).unwrap_or_else(|error| panic!("{expression}: {error}")) == cel::Value::Bool(true)
}

#[test]
fn the_expressions_for_flux_say_active_and_stalled() {
    let manifests = manifests();
    let checks: Vec<&Value> =
        manifests.iter().flat_map(|o| o["spec"]["healthCheckExprs"].as_array().into_iter().flatten()).collect();
    assert_eq!(checks.len(), 1);
    let say = |field: &str, object: &Value| holds(checks[0][field].as_str().unwrap(), object);
    for row in rows().iter().filter(|row| row.kind == GRANT) {
        let conditions = row.conditions.unwrap();
        let object = fixture(row);
        // What is only last known counts as in force, but not of an older generation.
        let newest = |name: &str| {
            let of = crate::status_rows::condition(&object, name);
            of["observedGeneration"] == object["metadata"]["generation"]
        };
        let active = conditions.active.ends_with("True") && newest("Active");
        assert_eq!(say("current", &object), active, "{}", row.name);
        assert_eq!(say("failed", &object), conditions.stalled == "True", "{}", row.name);
    }
    assert!(!say("current", &json!({"metadata": {"generation": 1}, "status": {"observedGeneration": -1}})));
}

/// Argo CD's waves wait for the health of Applications.
#[test]
fn the_script_for_applications_hands_their_health_on() {
    let manifests = manifests();
    let map = manifests.iter().find(|o| o["kind"] == "ConfigMap").unwrap();
    let script = map["data"]["resource.customizations.health.argoproj.io_Application"].as_str().unwrap();
    let say = |object: Value| argo::run(script, &object).unwrap();
    assert_eq!(say(json!({})).0, "Progressing");
    assert_eq!(say(json!({"status": {}})).0, "Progressing");
    let degraded = json!({"status": {"health": {"status": "Degraded", "message": "one of them"}}});
    assert_eq!(say(degraded), ("Degraded".to_owned(), "one of them".to_owned()));
}

fn applications() -> Vec<Value> {
    let folder = root().join("examples/03-argo-cd/apps");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<Value> = files.flat_map(|path| objects(&text(&path))).collect();
    all.sort_by_key(wave);
    all
}

fn wave(application: &Value) -> i64 {
    application["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"].as_str().unwrap().parse().unwrap()
}

/// Kinds and names of what Argo CD would find at a source.
fn found(source: &Value) -> BTreeSet<String> {
    let folder = root().join(source["path"].as_str().unwrap());
    let mut all = BTreeSet::new();
    for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let names = |field: &str| source["directory"][field].as_str().map(|wanted| wanted == name);
        if path.is_file() && names("include") != Some(false) && names("exclude") != Some(true) {
            all.extend(
                objects(&text(&path))
                    .iter()
                    .map(|o| format!("{} {}", o["kind"].as_str().unwrap(), o["metadata"]["name"].as_str().unwrap())),
            );
        }
    }
    all
}

#[test]
fn the_waves_bring_definitions_operator_provider_and_grants() {
    let apps = applications();
    let names: Vec<&str> = apps.iter().map(|app| app["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["consent-definitions", "consent-operator", "consent-provider", "consent-grants"]);
    let waves: BTreeSet<i64> = apps.iter().map(wave).collect();
    assert_eq!(waves.len(), apps.len(), "each in a wave of its own");
    let top = objects(&text(&root().join("examples/03-argo-cd/root.yaml"))).remove(0);
    for app in apps.iter().chain([&top]) {
        assert_eq!((&app["apiVersion"], &app["kind"]), (&json!("argoproj.io/v1alpha1"), &json!("Application")));
        only(app, &["apiVersion", "kind", "metadata", "spec"], "an Application");
        only(&app["metadata"], &["name", "namespace", "annotations", "finalizers"], "metadata");
        only(&app["spec"], &["project", "source", "destination", "syncPolicy"], "spec");
        only(&app["spec"]["source"], &["repoURL", "targetRevision", "path", "directory", "helm"], "source");
        only(&app["spec"]["destination"], &["server", "namespace"], "destination");
        only(&app["spec"]["syncPolicy"], &["automated", "syncOptions"], "syncPolicy");
        assert!(root().join(app["spec"]["source"]["path"].as_str().unwrap()).is_dir());
    }
    let below = found(&top["spec"]["source"]);
    assert!(names.iter().all(|name| below.contains(&format!("Application {name}"))), "{below:?}");
    assert_eq!(found(&apps[0]["spec"]["source"]).len(), 6);
    assert_eq!(found(&apps[2]["spec"]["source"]), ["ClusterIdentityProvider corp".to_owned()].into());
    let grants = found(&apps[3]["spec"]["source"]);
    assert!(grants.len() == 2 && grants.iter().all(|o| o.starts_with("ClientGrant ")), "{grants:?}");
    // With the definitions every grant would go, and with the provider whoever ends them.
    for app in [&apps[0], &apps[2]] {
        assert!(app["spec"]["syncPolicy"]["automated"]["prune"].is_null());
        assert!(app["spec"]["syncPolicy"]["syncOptions"].as_array().unwrap().contains(&json!("Prune=false")));
    }
    assert!(apps[0]["metadata"]["finalizers"].is_null());
    for app in &apps[1..] {
        assert_eq!(app["metadata"]["finalizers"], json!(["resources-finalizer.argocd.argoproj.io"]));
    }
}

#[test]
fn the_chart_takes_the_values_of_the_example() {
    let apps = applications();
    let helm = &apps[1]["spec"]["source"]["helm"];
    only(helm, &["releaseName", "valueFiles", "valuesObject"], "helm");
    let chart = clientgrant_testbed::helm::chart();
    let file = chart.join(helm["valueFiles"][0].as_str().unwrap());
    let values: Vec<String> = helm["valuesObject"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| format!("--set-json={name}={value}"))
        .collect();
    let mut args = vec!["--values", file.to_str().unwrap()];
    args.extend(values.iter().map(String::as_str));
    let rendered = Helm::new(&Tools::find().unwrap()).unwrap().template(&args).unwrap();
    let kinds: BTreeSet<String> = objects(&rendered).iter().map(|o| o["kind"].as_str().unwrap().to_owned()).collect();
    assert!(kinds.contains("Deployment") && !kinds.contains("CustomResourceDefinition"), "{kinds:?}");
}
