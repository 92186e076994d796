//! The health scripts of Argo CD in a Lua of the same version, with no more than Argo CD gives them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use mlua::{HookTriggers, Lua, LuaOptions, StdLib, Value as LuaValue, VmState};
use serde_json::{Value, json};

use crate::status_rows::{folder, rows};
use crate::support::{fixture, objects, spoiled, text};

/// More than a script needs, by far.
const INSTRUCTIONS: u32 = 100_000;

/// What scripts may use: base, table, and of os what reads the clock. No string, no math, no io.
fn lua() -> Lua {
    let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default()).unwrap();
    let globals = lua.globals();
    for name in ["coroutine", "dofile", "loadfile", "collectgarbage", "jit"] {
        globals.set(name, LuaValue::Nil).unwrap();
    }
    let os = lua.create_table().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    os.set("time", lua.create_function(move |_, ()| Ok(now)).unwrap()).unwrap();
    os.set("date", lua.create_function(|_, ()| Ok("01 Jan 27 00:00 UTC")).unwrap()).unwrap();
    globals.set("os", os).unwrap();
    let left = Cell::new(INSTRUCTIONS / 1000);
    lua.set_hook(HookTriggers::new().every_nth_instruction(1000), move |_, _| match left.get().checked_sub(1) {
        Some(less) => {
            left.set(less);
            Ok(VmState::Continue)
        }
        None => Err(mlua::Error::runtime("the script takes too long")),
    })
    .unwrap();
    lua
}

/// An object as Argo CD hands it over: null is nothing.
fn value(lua: &Lua, json: &Value) -> LuaValue {
    match json {
        Value::Null => LuaValue::Nil,
        Value::Bool(is) => LuaValue::Boolean(*is),
        Value::Number(number) => LuaValue::Number(number.as_f64().unwrap()),
        Value::String(text) => LuaValue::String(lua.create_string(text).unwrap()),
        Value::Array(list) => {
            let table = lua.create_table().unwrap();
            for (place, member) in list.iter().enumerate() {
                table.raw_set(place + 1, value(lua, member)).unwrap();
            }
            LuaValue::Table(table)
        }
        Value::Object(fields) => {
            let table = lua.create_table().unwrap();
            for (name, member) in fields {
                table.raw_set(name.as_str(), value(lua, member)).unwrap();
            }
            LuaValue::Table(table)
        }
    }
}

pub fn run(script: &str, object: &Value) -> Result<(String, String), String> {
    let lua = lua();
    lua.globals().set("obj", value(&lua, object)).unwrap();
    let said: mlua::Table = lua.load(script).eval().map_err(|error| error.to_string())?;
    let field = |name: &str| match said.raw_get(name) {
        Ok(LuaValue::Nil) => Ok(String::new()),
        Ok(LuaValue::String(text)) => Ok(text.to_string_lossy()),
        other => Err(format!("{name} is {other:?}")),
    };
    Ok((field("status")?, field("message")?))
}

/// Status and message of a kind's script.
pub fn health(kind: &str, object: &Value) -> (String, String) {
    let script = text(&folder().join(kind).join("health.lua"));
    run(&script, object).unwrap_or_else(|error| panic!("{kind}: {error}"))
}

#[test]
fn every_situation_is_judged_as_the_table_says() {
    for row in rows() {
        let (status, message) = health(row.kind, &fixture(&row));
        assert_eq!(status, row.argo, "{} {}", row.kind, row.name);
        assert!(!message.is_empty() && message.chars().count() <= 200, "{} {}: {message}", row.kind, row.name);
    }
}

/// The files as Argo CD's own test reads them.
#[test]
fn every_test_of_the_folders_holds() {
    let mut cases = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let folder = entry.unwrap().path();
        let kind = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let tests = objects(&text(&folder.join("health_test.yaml"))).remove(0);
        let mut inputs = Vec::new();
        for case in tests["tests"].as_array().unwrap() {
            let input = case["inputPath"].as_str().unwrap();
            let object = objects(&text(&folder.join(input))).remove(0);
            assert_eq!(object["kind"], *kind);
            let wanted = &case["healthStatus"];
            let (status, message) = health(&kind, &object);
            assert_eq!(json!({"status": status, "message": message}), *wanted, "{kind} {input}");
            inputs.push(input.to_owned());
            cases += 1;
        }
        let mut there: Vec<String> = std::fs::read_dir(folder.join("testdata"))
            .unwrap()
            .map(|entry| format!("testdata/{}", entry.unwrap().file_name().to_str().unwrap()))
            .collect();
        inputs.sort();
        there.sort();
        assert_eq!(inputs, there, "{kind}: every file is a case");
    }
    assert_eq!(cases, rows().len());
}

/// Argo CD loads each script by itself, so that each has to bring what all of them need.
#[test]
fn scripts_begin_alike() {
    let common = |kind: &str| {
        let script = text(&folder().join(kind).join("health.lua"));
        let end = "return say(\"Progressing\", \"Being deleted\")\nend\n";
        let (_, after) = script.split_once("-- Status and conditions may be missing").expect(kind);
        after.split_once(end).expect(kind).0.to_owned()
    };
    let kinds: BTreeSet<&str> = rows().iter().map(|row| row.kind).collect();
    assert_eq!(kinds.len(), 6);
    for kind in kinds {
        assert_eq!(common(kind), common("ClientGrant"), "{kind}");
    }
}

#[test]
fn no_object_makes_a_script_fail() {
    let mut tried = 0;
    for row in rows() {
        let script = text(&folder().join(row.kind).join("health.lua"));
        let whole = fixture(&row);
        let bare = [json!({}), json!({"metadata": {}}), json!({"metadata": 5, "status": 5}), json!({"status": []})];
        for object in spoiled(&whole).into_iter().chain(bare) {
            let (status, _) = run(&script, &object).unwrap_or_else(|error| panic!("{}: {error}\n{object:#}", row.kind));
            assert!(["Healthy", "Progressing", "Degraded"].contains(&&*status), "{}: {status:?}", row.kind);
            tried += 1;
        }
    }
    println!("{tried} objects of other shapes");
}

/// The other side of the same: nothing but what is as it should be is called healthy.
#[test]
fn what_is_missing_makes_nothing_healthy() {
    for row in rows().iter().filter(|row| !row.kind.starts_with("Client") || row.kind == "ClientGrant") {
        let whole = fixture(row);
        for pointer in ["/status", "/status/conditions", "/status/observedGeneration"] {
            let mut object = whole.clone();
            *object.pointer_mut(pointer).unwrap_or(&mut Value::Null) = Value::Null;
            let (status, _) = health(row.kind, &object);
            assert_ne!(status, "Healthy", "{} {} without {pointer}", row.kind, row.name);
        }
        let mut object = whole.clone();
        object["metadata"]["generation"] = json!(99);
        assert_ne!(health(row.kind, &object).0, "Healthy", "{} {}: an older generation", row.kind, row.name);
    }
}

/// The bed of these tests: what is not there, is not there.
#[test]
fn scripts_have_no_more_than_argo_gives_them() {
    let tried = |script: &str| run(script, &json!({}));
    let ok = Ok(("Healthy".to_owned(), String::new()));
    assert_eq!(tried("table.sort({}); return {status = 'Healthy'}"), ok, "positive control");
    assert_eq!(tried("return {status = os.time() > 0 and 'Healthy'}"), ok);
    assert_eq!(tried("return {status = _VERSION == 'Lua 5.1' and 'Healthy'}"), ok);
    for missing in ["string.len('x')", "('x'):len()", "math.max(1, 2)", "io.open('x')", "os.getenv('HOME')"] {
        assert!(tried(&format!("local x = {missing}; return {{status = 'Healthy'}}")).is_err(), "{missing}");
    }
    assert!(tried("while true do end").is_err(), "it ends");
    assert!(tried("return 5").is_err());
}
