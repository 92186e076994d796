//! The custom resource definitions, without a server: the generated files, descriptions, bounds,
//! the cost of rules, and the table of what is accepted and refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use clientgrant::api::{
    self, ClientGrant, ClientGrantStatus, ClientIdentity, ClientQuarantine, ClusterIdentityProvider, IdentityProvider,
    IdentityProviderStatus, PendingRevocation, condition, duration, instant, schema,
};
use k8s_openapi::jiff::Timestamp;
use kube::core::cel::{ScopeContext, WarningKind, analyze_rule, compile_schema};
use schema_cases::{Case, Judge, judges};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

mod schema_cases;

#[test]
fn the_files_are_generated() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let there: BTreeSet<String> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let expected: BTreeSet<String> = schema::files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(there, expected, "the files in crds/ are not those of the kinds: run `make generate`");
    for (name, yaml) in schema::files() {
        let written = fs::read_to_string(dir.join(&name)).unwrap();
        assert!(written == yaml, "crds/{name} is not what the types say: run `make generate`");
        assert!(yaml.len() < 100 * 1024, "crds/{name} has {} bytes", yaml.len());
    }
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files
}

/// Editors and checks without a cluster: strict, so that a misspelt field is found.
#[test]
fn json_schemas_take_what_the_table_takes_and_no_unknown_field() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut kinds = BTreeMap::new();
    for (name, text) in schema::json_schemas() {
        let written = fs::read_to_string(root.join("schemas").join(&name)).unwrap_or_default();
        assert!(written == text, "schemas/{name} is not what the types say: run `make generate`");
        let schema: Value = serde_json::from_str(&text).unwrap();
        let kind = schema["title"].as_str().unwrap().to_owned();
        kinds.insert(kind, jsonschema::validator_for(&schema).unwrap());
    }
    assert_eq!(kinds.len(), judges().len());
    let mut taken = 0;
    for case in schema_cases::all().iter().filter(|case| case.refused.is_none()) {
        let strict = &kinds[&case.kind];
        let errors: Vec<String> = strict.iter_errors(&case.new).map(|error| error.to_string()).collect();
        // The API server drops what it does not know; here that is the one thing more that is refused.
        if case.name.contains("nobody knows") {
            assert!(errors.len() == 1 && errors[0].contains("Additional properties"), "{}: {errors:?}", case.name);
            continue;
        }
        assert!(errors.is_empty(), "{}: {errors:?}", case.name);
        taken += 1;
        for path in ["", "/spec"] {
            let mut misspelt = case.new.clone();
            let object = misspelt.pointer_mut(path).and_then(Value::as_object_mut).unwrap();
            object.insert("expiersAt".to_owned(), json!("2027-02-20T00:00:00Z"));
            assert!(!strict.is_valid(&misspelt), "{}: a field that is not known {path}", case.name);
        }
        let other = kinds.keys().find(|kind| **kind != case.kind).unwrap();
        assert!(!kinds[other].is_valid(&case.new), "{}: as a {other}", case.name);
    }
    assert!(taken > 50, "{taken}");
    let mut examples = 0;
    for path in files_below(&root.join("examples")) {
        let text = fs::read_to_string(&path).unwrap();
        let objects: Vec<Value> =
            serde_yaml::Deserializer::from_str(&text).map(|object| Value::deserialize(object).unwrap()).collect();
        let mut ours: BTreeSet<&str> = BTreeSet::new();
        for object in &objects {
            let Some((kind, strict)) = object["kind"].as_str().and_then(|kind| kinds.get_key_value(kind)) else {
                continue;
            };
            let errors: Vec<String> = strict.iter_errors(object).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
            ours.insert(kind);
            examples += 1;
        }
        // Editors find the schema by this line; it speaks of one kind.
        if let (1, 1, Some(kind)) = (objects.len(), ours.len(), ours.first()) {
            let kind = kind.to_lowercase();
            let line = format!("# yaml-language-server: $schema=../../schemas/clientgrant.dev/{kind}_v1alpha1.json");
            assert_eq!(text.lines().next(), Some(&*line), "{}", path.display());
        }
    }
    assert!(examples >= 3, "{examples}");
}

/// Calls `look` with the path and the schema of every property, list entry and map value.
fn walk<'a>(path: &str, schema: &'a Value, look: &mut dyn FnMut(&str, &'a Value)) {
    look(path, schema);
    let properties = schema["properties"].as_object();
    for (name, property) in properties.into_iter().flatten() {
        let dot = if path.is_empty() { "" } else { "." };
        walk(&format!("{path}{dot}{name}"), property, look);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            walk(&format!("{path}{mark}"), &schema[key], look);
        }
    }
}

fn every_node(look: &mut dyn FnMut(&str, &str, &Value)) {
    for (kind, judge) in judges() {
        walk("", &judge.schema, &mut |path, schema| look(&kind, path, schema));
    }
}

#[test]
fn every_field_has_a_description() {
    every_node(&mut |kind, path, schema| {
        let text = schema["description"].as_str().unwrap_or_default();
        let is_entry = path.ends_with("[]") || path.ends_with("{}");
        assert!(is_entry || text.len() >= 20, "{kind} {path} has no description: {text:?}");
        assert!(!text.contains("Auto-generated"), "{kind} {path}");
        assert!(!text.contains("[`") && !text.contains('\n'), "{kind} {path} is not for people: {text}");
        assert!(text.is_empty() || text.ends_with('.'), "{kind} {path} ends early: {text}");
    });
}

#[test]
fn everything_is_bounded() {
    every_node(&mut |kind, path, schema| {
        let has = |keyword: &str| !schema[keyword].is_null();
        let bounded = match schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum"),
            Some("array") => has("maxItems"),
            // A counter of the status ends where 64 bits do.
            Some("integer") => {
                has("minimum") && (has("maximum") || (path.starts_with("status.") && schema["format"] == "int64"))
            }
            Some("object") => {
                has("properties") && !has("additionalProperties") || has("maxProperties") && has("additionalProperties")
            }
            Some("boolean") => true,
            _ => false,
        };
        assert!(bounded, "{kind} {path} has no bounds: {schema}");
    });
}

/// A reference stays in its own namespace, since it has no word for another one. Duties of the operator, which
/// no tenant writes, name the grant that they come from.
#[test]
fn nothing_that_a_tenant_writes_names_a_namespace() {
    let mut elsewhere = BTreeSet::new();
    every_node(&mut |kind, path, _| {
        let field = path.rsplit('.').next().unwrap_or_default();
        if path.starts_with("spec.") && field.to_lowercase().contains("namespace") {
            elsewhere.insert(format!("{kind} {path}"));
        }
    });
    // The rules choose by label whose grants may pass: that refers to nothing.
    let known = [
        "ClusterIdentityProvider spec.allow[].namespaces",
        "IdentityProvider spec.allow[].namespaces",
        "PendingRevocation spec.origin.namespace",
    ];
    assert_eq!(elsewhere, known.map(str::to_owned).into());
}

#[test]
fn lists_are_atomic_except_conditions() {
    every_node(&mut |kind, path, schema| {
        if schema["type"] != "array" {
            return;
        }
        if path == "status.conditions" {
            assert_eq!(schema["x-kubernetes-list-type"], "map", "{kind} {path}");
            assert_eq!(schema["x-kubernetes-list-map-keys"], json!(["type"]), "{kind} {path}");
        } else {
            assert_eq!(schema["x-kubernetes-list-type"], "atomic", "{kind} {path}");
        }
    });
}

#[test]
fn a_status_begins_unobserved() {
    for (kind, judge) in judges() {
        let status = &judge.schema["properties"]["status"];
        assert_eq!(status["default"], json!({ "observedGeneration": -1 }), "{kind}");
        assert!(judge.crd.spec.versions[0].subresources.as_ref().unwrap().status.is_some());
    }
}

#[test]
fn names_and_columns() {
    let short = |kind: &str| {
        let names = judges().remove(kind).unwrap().crd.spec.names;
        assert_eq!(names.categories, Some(vec!["consent".to_owned()]), "{kind}");
        names.short_names.unwrap_or_default().join(" ")
    };
    assert_eq!(short("ClientGrant"), "cgrant");
    assert_eq!(short("ClusterIdentityProvider"), "cidp");
    assert_eq!(short("IdentityProvider"), "idp");
    assert_eq!(short("ClientIdentity"), "cident");
    assert_eq!(short("ClientQuarantine"), "cquar");
    assert_eq!(short("PendingRevocation"), "cgpr");

    let version = judges().remove("ClientGrant").unwrap().crd.spec.versions.remove(0);
    let columns = version.additional_printer_columns.unwrap();
    let named = |wide: bool| -> Vec<&str> {
        let wanted = columns.iter().filter(|column| (column.priority.unwrap_or(0) > 0) == wide);
        wanted.map(|column| column.name.as_str()).collect()
    };
    assert_eq!(named(false), ["Client", "Subject", "Scopes", "Active", "Reason", "Expires", "Age"]);
    assert_eq!(named(true), ["Ready", "Basis", "Purpose", "Provider", "Enforced", "Exclusive"]);
    let fields = version.selectable_fields.unwrap();
    let paths: Vec<&str> = fields.iter().map(|field| field.json_path.as_str()).collect();
    assert_eq!(paths, [".spec.clientID", ".spec.providerRef.name", ".spec.purpose.id"]);
}

/// Every CEL rule: kind, path, the schema it stands on, the rule, its message.
fn rules() -> Vec<(String, String, Value, String, String)> {
    let mut rules = Vec::new();
    every_node(&mut |kind, path, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
            rules.push((kind.to_owned(), path.to_owned(), schema.clone(), text("rule"), text("message")));
        }
    });
    rules
}

#[test]
fn rules_are_cheap_and_speak_to_people() {
    assert!(rules().len() >= 30, "only {} rules were found", rules().len());
    for (kind, path, schema, rule, message) in rules() {
        let compiled = compile_schema(&schema);
        assert!(!compiled.has_errors(), "{kind} {path}: {rule} does not compile");
        for warning in analyze_rule(&rule, &compiled, ScopeContext::CrdValidation) {
            // The variable of a comprehension is reported as unknown; the server knows it.
            assert_eq!(warning.kind, WarningKind::WrongScope, "{kind} {path}: {warning:?}");
        }
        let says = message.len();
        assert!((20..=250).contains(&says), "{kind} {path}: {rule} says {message:?}");
    }
}

fn judge<'a>(judges: &'a BTreeMap<String, Judge>, case: &Case) -> &'a Judge {
    judges.get(&case.kind).unwrap_or_else(|| panic!("{}: no kind {}", case.name, case.kind))
}

#[test]
fn the_table() {
    let judges = judges();
    let cases = schema_cases::all();
    let mut wrong = Vec::new();
    for case in &cases {
        let judge = judge(&judges, case);
        if let Some(old) = &case.old {
            let refusals = judge.refusals(old, None);
            assert!(refusals.is_empty(), "{}: the old object is refused: {refusals:#?}", case.name);
        }
        let refusals = judge.refusals(&case.new, case.old.as_ref());
        let right = match &case.refused {
            None => refusals.is_empty(),
            Some(words) => refusals.iter().any(|refusal| refusal.contains(words.as_str())),
        };
        if !right {
            wrong.push(format!("{}: expected {:?}, got {refusals:#?}", case.name, case.refused));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 60);
}

/// Whether an object has something at a path such as `spec.allow[].clients`.
fn present(object: &Value, path: &str) -> bool {
    let mut at = vec![object];
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let (name, marks) = step.split_at(step.find(['[', '{']).unwrap_or(step.len()));
        at = at.into_iter().filter_map(|value| value.get(name)).collect();
        for _ in 0..marks.len() / 2 {
            at = at
                .into_iter()
                .flat_map(|value| match value {
                    Value::Array(values) => values.iter().collect::<Vec<_>>(),
                    Value::Object(fields) => fields.values().collect(),
                    _ => Vec::new(),
                })
                .collect();
        }
    }
    !at.is_empty()
}

#[test]
fn the_table_shows_each_rule_at_work() {
    let judges = judges();
    let cases = schema_cases::all();
    let mut missing = Vec::new();
    for (kind, path, _, rule, message) in rules() {
        // The two kinds of provider share their rules; the table shows each of them for one kind.
        let same_spec = |case: &&Case| {
            case.kind == kind
                || (!path.is_empty() && case.kind.ends_with("IdentityProvider") && kind.ends_with("IdentityProvider"))
        };
        let mut of_kind = cases.iter().filter(same_spec);
        let refused =
            of_kind.clone().any(|case| case.refused.as_ref().is_some_and(|words| message.contains(words.as_str())));
        let is_transition = rule.contains("oldSelf");
        let accepted = of_kind.any(|case| {
            let objects = [case.old.as_ref(), Some(&case.new)];
            let judge = judge(&judges, case);
            let there = objects.into_iter().flatten().all(|object| present(&judge.defaulted(object), &path));
            case.refused.is_none() && there && (case.old.is_some() || !is_transition)
        });
        if !refused || !accepted {
            missing.push(format!("{kind} {path}: {rule}: refused {refused}, accepted {accepted}"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_table_shows_each_pattern_and_choice_at_work() {
    let cases = schema_cases::all();
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    every_node(&mut |kind, path, schema| {
        if !path.starts_with("spec") {
            return;
        }
        for keyword in ["pattern", "enum"] {
            if schema[keyword].is_null() {
                continue;
            }
            let tried = cases.iter().any(|case| {
                let words = case.refused.as_deref().unwrap_or_default();
                let general = words.replace(|c: char| c.is_ascii_digit(), "");
                let speaks_of_it = general == path.trim_end_matches("{}")
                    || schema["x-kubernetes-validations"].to_string().contains(words);
                case.kind == kind && !words.is_empty() && speaks_of_it
            });
            *seen.entry(schema[keyword].to_string()).or_default() |= tried;
        }
    });
    let untried: Vec<_> = seen.iter().filter(|(_, tried)| !**tried).collect();
    assert!(untried.is_empty(), "no case is refused for {untried:#?}");
}

/// What the schema accepts is read, and written as it was.
fn read_and_written<T: Serialize + DeserializeOwned>(case: &Case, judge: &Judge) -> T {
    let object = judge.defaulted(&case.new);
    let typed: T =
        serde_json::from_value(object).unwrap_or_else(|error| panic!("{}: accepted and not read: {error}", case.name));
    let again = serde_json::to_value(&typed).unwrap();
    let refusals = judge.refusals(&again, None);
    assert!(refusals.is_empty(), "{}: written otherwise: {refusals:#?}", case.name);
    typed
}

#[test]
fn what_is_accepted_is_read() {
    let judges = judges();
    for case in schema_cases::all().iter().filter(|case| case.refused.is_none()) {
        let judge = judge(&judges, case);
        match case.kind.as_str() {
            "ClientGrant" => {
                let spec = read_and_written::<ClientGrant>(case, judge).spec;
                let instants = [Some(spec.expires_at), spec.not_before];
                for text in instants.into_iter().flatten() {
                    assert!(instant::parse(&text).is_some(), "{}: {text}", case.name);
                }
            }
            "ClientIdentity" => drop(read_and_written::<ClientIdentity>(case, judge)),
            "ClientQuarantine" => drop(read_and_written::<ClientQuarantine>(case, judge)),
            "PendingRevocation" => drop(read_and_written::<PendingRevocation>(case, judge)),
            "ClusterIdentityProvider" => {
                check_durations(case, read_and_written::<ClusterIdentityProvider>(case, judge).spec());
            }
            "IdentityProvider" => {
                check_durations(case, read_and_written::<IdentityProvider>(case, judge).spec());
            }
            other => panic!("no type for {other}"),
        }
    }
}

fn check_durations(case: &Case, spec: &api::IdentityProviderSpec) {
    let mut texts = vec![&spec.drift_check_interval, &spec.consent_sweep_interval];
    texts.extend(spec.allow.iter().filter_map(|rule| rule.max_lifetime.as_ref()));
    if let api::Connection::Hydra(hydra) = &spec.connection {
        texts.push(&hydra.access_token_lifetime);
    }
    for text in texts {
        assert!(duration::parse(text).is_some(), "{}: {text}", case.name);
    }
}

#[test]
fn the_schema_and_the_parser_know_the_same_calendar() {
    let judges = judges();
    let grant = schema_cases::all().remove(0);
    let judge = judge(&judges, &grant);
    assert_eq!(grant.kind, "ClientGrant");
    let mut object = grant.new.clone();
    let mut days = 0;
    for year in [1899, 1900, 1970, 1999, 2000, 2027, 2028, 2100, 2199, 2200, 9999] {
        for month in 0..=13 {
            for day in [0, 1, 28, 29, 30, 31, 32] {
                let text = format!("{year}-{month:02}-{day:02}T12:00:00Z");
                object["spec"]["expiresAt"] = json!(text);
                let accepted = judge.refusals(&object, None).is_empty();
                assert_eq!(accepted, instant::parse(&text).is_some(), "{text}");
                days += i32::from(accepted);
            }
        }
    }
    assert!(days > 400, "only {days} days were accepted");
}

#[test]
fn a_full_status_fits_the_schema() {
    let judges = judges();
    for (kind, status) in [
        ("ClientGrant", serde_json::to_value(schema_cases::full_grant_status()).unwrap()),
        ("IdentityProvider", serde_json::to_value(full_provider_status()).unwrap()),
    ] {
        let judge = &judges[kind];
        let mut wrong = Vec::new();
        for error in judge.refusals(&json!({ "status": status }), None) {
            if error.starts_with("status") {
                wrong.push(error);
            }
        }
        assert!(wrong.is_empty(), "{kind}: {wrong:#?}");
        // Nothing is left out, so that the schema of every field was tried.
        walk("status", &judge.schema["properties"]["status"], &mut |path, _| {
            assert!(present(&json!({ "status": status }), path), "{kind} {path} was not tried");
        });
    }
}

fn full_provider_status() -> IdentityProviderStatus {
    let now: Timestamp = "2026-11-24T09:00:00.5Z".parse().unwrap();
    let mut conditions = Vec::new();
    for &type_ in condition::ConditionType::ALL {
        let (status, reason) = (condition::ConditionStatus::Unknown, condition::Reason::Progressing);
        condition::set_condition(&mut conditions, type_, status, reason, "", Some(1), now);
    }
    IdentityProviderStatus {
        observed_generation: Some(1),
        conditions,
        version: Some("v2.3.0".to_owned()),
        capabilities: api::bounds::fit_list(["TokenHook", "ClientCeiling"]),
        guarantees: vec![api::Guarantee { name: "TokenHook".to_owned(), proof: "refused a probe".to_owned() }],
        undeclared: Some(api::Undeclared { count: 3, sample: vec!["finance-reporting User/7f0c1a52".to_owned()] }),
        grants: Some(api::GrantCounts { total: 12, active: 9 }),
    }
}

#[test]
fn an_empty_status_writes_nothing() {
    assert_eq!(serde_json::to_value(ClientGrantStatus::default()).unwrap(), json!({}));
    assert_eq!(serde_json::to_value(IdentityProviderStatus::default()).unwrap(), json!({}));
}
