//! Files that follow from the scripts and the table: `make generate` sets `CLIENTGRANT_WRITE`, otherwise they are
//! compared.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::status_rows::{GRANT, Row, condition, folder, rows};
use crate::support::{fixture, root, text};

const BEGIN: &str = "<!-- generated -->\n";
const END: &str = "<!-- end of generated -->\n";

fn check(path: &Path, generated: &str) {
    if std::env::var_os("CLIENTGRANT_WRITE").is_some() {
        std::fs::write(path, generated).unwrap();
        return;
    }
    assert_eq!(text(path), generated, "{} is out of date: run `make generate`", path.display());
}

fn kinds() -> Vec<&'static str> {
    let mut kinds: Vec<&str> = rows().iter().map(|row| row.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// What a script has to say, found without it: the message of the condition that counts.
fn message(row: &Row, object: &Value) -> String {
    let of = |name: &str| condition(object, name)["message"].as_str().unwrap_or_default().to_owned();
    match (row.kind, row.name) {
        (_, "never-reconciled" | "new-generation") => "Nobody has looked at this generation yet".into(),
        (_, "declared") => "Declared".into(),
        (_, "deleting" | "revoking" | "revocation-blocked") => "Being deleted".into(),
        (GRANT, "observed-drifted") => of("Drifted"),
        (_, "hook-not-called") => of("TokenHook"),
        ("PendingRevocation", _) => of("Done"),
        _ => of("Ready"),
    }
}

#[test]
fn the_tests_of_the_scripts() {
    for kind in kinds() {
        let cases: Vec<Value> = rows()
            .iter()
            .filter(|row| row.kind == kind)
            .map(|row| {
                let message = message(row, &fixture(row));
                json!({
                    "healthStatus": {"status": row.argo, "message": message},
                    "inputPath": format!("testdata/{}.yaml", row.name),
                })
            })
            .collect();
        let yaml = serde_yaml::to_string(&json!({"tests": cases})).unwrap();
        check(&folder().join(kind).join("health_test.yaml"), &yaml);
    }
}

/// The same scripts as keys of Argo CD's configuration.
#[test]
fn the_config_map() {
    let mut yaml =
        "# The health scripts as Argo CD reads them from its configuration. Generated from the folders beside it.\n\
                    apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: argocd-cm\n  namespace: argocd\n  labels:\n    \
                    app.kubernetes.io/name: argocd-cm\n    app.kubernetes.io/part-of: argocd\ndata:\n"
            .to_owned();
    for kind in kinds() {
        writeln!(yaml, "  resource.customizations.health.clientgrant.dev_{kind}: |").unwrap();
        for line in text(&folder().join(kind).join("health.lua")).lines() {
            let line = format!("    {line}");
            writeln!(yaml, "{}", line.trim_end()).unwrap();
        }
    }
    let path = root().join("docs/argocd/argocd-cm.yaml");
    check(&path, &yaml);
    let map = crate::support::objects(&text(&path)).remove(0);
    let data = map["data"].as_object().unwrap();
    assert_eq!(data.len(), kinds().len());
    for kind in kinds() {
        let script = &data[&format!("resource.customizations.health.clientgrant.dev_{kind}")];
        assert_eq!(*script, text(&folder().join(kind).join("health.lua")), "{kind}");
    }
}

#[test]
fn the_table_of_the_document() {
    let mut table = "| situation | Ready | Active | Reconciling | Stalled | kstatus | Argo CD |\n\
                     |---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows() {
        let Some(conditions) = row.conditions else { continue };
        let or_none = |word: &str| if word == "-" { "–".to_owned() } else { word.replace('/', " / ") };
        let active = conditions.active.trim_start_matches('=');
        let last = if active != "-" && active == conditions.active { " (last known)" } else { "" };
        let drifted = if conditions.drifted == "True" { ", Drifted" } else { "" };
        writeln!(
            table,
            "| [{name}](argocd/clientgrant.dev/{kind}/testdata/{name}.yaml) | {ready}{drifted} | {active}{last} | {reconciling} | {stalled} | {kstatus} | {argo} |",
            name = row.name,
            kind = row.kind,
            ready = or_none(conditions.ready),
            active = or_none(active),
            reconciling = or_none(conditions.reconciling),
            stalled = or_none(conditions.stalled),
            kstatus = row.kstatus,
            argo = row.argo,
        )
        .unwrap();
    }
    let path = root().join("docs/gitops.md");
    let document = text(&path);
    let (head, rest) = document.split_once(BEGIN).expect("the first mark");
    let (_, tail) = rest.split_once(END).expect("the last mark");
    check(&path, &format!("{head}{BEGIN}{table}{END}{tail}"));
}
