//! kstatus: its rules in a few lines, and the Go library that Flux and Helm use.

use std::io::Write as _;
use std::process::{Command, Stdio};

use clientgrant_testbed::Tools;
use serde_json::{Value, json};

use crate::status_rows::{GRANT, condition, rows};
use crate::support::{fixture, spoiled};

/// What kstatus says of a custom resource. `Error`: it does not take the object.
fn judge(object: &Value) -> &'static str {
    let (meta, status) = (&object["metadata"], &object["status"]);
    let whole = |part: &Value| part.is_null() || part.is_object();
    if !whole(meta) {
        return "Error";
    }
    match meta.get("deletionTimestamp") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(_)) => return "Terminating",
        Some(_) => return "Error",
    }
    if !whole(status) {
        return "Error";
    }
    let observed = status.get("observedGeneration");
    if let Some(generation) = meta.get("generation") {
        if !generation.is_i64() || observed.is_some_and(|observed| !observed.is_i64()) {
            return "Error";
        }
        if observed.is_some_and(|observed| observed != generation) {
            return "InProgress";
        }
    }
    let empty = Vec::new();
    let conditions = status["conditions"].as_array().unwrap_or(&empty);
    for condition in conditions {
        if condition["status"] == "True" {
            match condition["type"].as_str() {
                Some("Reconciling") => return "InProgress",
                Some("Stalled") => return "Failed",
                _ => {}
            }
        }
    }
    for condition in conditions.iter().filter(|c| c["type"] == "Ready") {
        match condition["status"].as_str() {
            Some("True") => return "Current",
            Some("False" | "Unknown") => return "InProgress",
            _ => {}
        }
    }
    "Current"
}

/// What the library says of each object.
fn library(objects: &[Value]) -> Vec<String> {
    let tool = Tools::find().unwrap().kstatus;
    let mut child = Command::new(tool).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let input: String = objects.iter().map(|object| format!("---\n{object}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    // Written beside the reading: it answers while it reads.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_situation_is_judged_as_the_table_says() {
    let rows = rows();
    let objects: Vec<Value> = rows.iter().map(fixture).collect();
    let library = library(&objects);
    assert_eq!(library.len(), rows.len());
    for ((row, object), library) in rows.iter().zip(&objects).zip(&library) {
        if let Some(differ) = row.conditions.and_then(|conditions| conditions.differ(object)) {
            panic!("{}: {differ}", row.name);
        }
        assert_eq!(judge(object), row.kstatus, "{} {}", row.kind, row.name);
        assert_eq!(library, row.kstatus, "{} {}: the library", row.kind, row.name);
    }
}

/// Each word of status that is in the table and that no provider of today leads to.
#[test]
fn what_is_not_said_yet_would_be_judged_like_its_neighbours() {
    let swapped = |name: &str, reason: &str| {
        let row = *rows().iter().find(|row| row.name == name).unwrap();
        let mut object = fixture(&row);
        for condition in object["status"]["conditions"].as_array_mut().unwrap() {
            condition["reason"] = json!(reason);
        }
        assert_eq!(judge(&object), row.kstatus);
        assert_eq!(crate::argo::health(row.kind, &object).0, row.argo);
    };
    swapped("consent-removed", "WithdrawnBySubject");
    for reason in ["UnknownSubject", "UnknownScope", "UnknownAudience"] {
        swapped("unknown-client", reason);
        swapped("unknown-client-stalled", reason);
    }
}

/// Both know the same of objects that nobody writes.
#[test]
fn the_rules_are_those_of_the_library() {
    let mut objects = Vec::new();
    for row in rows().iter().filter(|row| row.kind == GRANT) {
        let whole = fixture(row);
        objects.extend(spoiled(&whole).into_iter().filter(typed));
        for stale in [json!(0), json!(9), Value::Null] {
            let mut object = whole.clone();
            object["status"]["observedGeneration"] = stale;
            objects.push(object);
        }
        // Two conditions that contradict each other: the first of the list wins.
        if condition(&whole, "Ready").is_object() {
            for order in [["Stalled", "Reconciling"], ["Reconciling", "Stalled"]] {
                let mut object = whole.clone();
                let list = object["status"]["conditions"].as_array_mut().unwrap();
                list.extend(order.map(|name| json!({"type": name, "status": "True"})));
                objects.push(object);
            }
        }
    }
    let library = library(&objects);
    assert_eq!(library.len(), objects.len());
    let wrong: Vec<_> = objects.iter().zip(&library).filter(|(o, library)| judge(o) != **library).collect();
    assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), objects.len(), &wrong[..wrong.len().min(3)]);
    println!("{} objects judged alike", objects.len());
}

/// The library reads conditions into a type of its own; what does not fit it is an error there, and no matter
/// here: the API server does not store it.
fn typed(object: &Value) -> bool {
    let list = &object["status"]["conditions"];
    let text = |v: &Value| v.is_null() || v.is_string();
    let conditions = list.is_null() || list.as_array().is_some_and(|l| l.iter().all(Value::is_object));
    let fields = ["type", "status", "reason", "message"];
    conditions && list.as_array().into_iter().flatten().all(|c| fields.iter().all(|f| text(&c[*f])))
}
