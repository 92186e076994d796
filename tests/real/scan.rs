//! `clientgrant scan` of a real cluster: it finds what it finds in the manifests, by the rights of whoever asks,
//! and asks for no Secret.

use std::path::{Path, PathBuf};
use std::process::Command;

use clientgrant_testbed::{ControlPlane, ControlPlaneOptions, Tools, bed};
use serde_json::{Value, json};

pub(super) fn scan(kubeconfig: &Path, arguments: &[&str]) -> (i32, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clientgrant"));
    command.args(["scan", "-o", "json"]).args(arguments).env("KUBECONFIG", kubeconfig);
    let output = tokio::task::block_in_place(|| command.output()).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), said)
}

/// Rule, state, subject and clients of each finding about an object.
fn findings(json: &Value) -> Vec<String> {
    let one = |f: &Value| format!("{} {} {} {}", f["rule"], f["state"], f["subject"], f["clients"]);
    let all = json["findings"].as_array().unwrap().iter();
    all.filter(|f| f["subject"]["kind"] != "Rule").map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_scanned_with_the_rights_of_who_asks() {
    let options = ControlPlaneOptions { audit: true, ..ControlPlaneOptions::default() };
    let plane = ControlPlane::start_with(&Tools::find().unwrap(), options).await.unwrap();
    let all = plane.kubeconfig_for("scanner", &["system:masters"]).unwrap();
    let (code, _, said) = scan(&all, &[]);
    assert_eq!(code, 2, "a cluster without our definitions was not compared with anything");
    assert!(said.contains("clientidentities.clientgrant.dev: not read: the cluster does not know it"), "{said}");
    bed::install(&plane).await.unwrap();
    let (code, json, said) = scan(&all, &[]);
    assert_eq!((code, &json["findings"]), (0, &json!([])), "an ordinary cluster is quiet: {said}");

    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/02-shared-credential");
    let files = [example.join("clients.yaml"), example.join("before")];
    let files: Vec<&str> = files.iter().map(|path| path.to_str().unwrap()).collect();
    for file in &files {
        plane.kubectl(&["apply", "-f", file]).await.unwrap();
    }
    let (code, of_files, said) = scan(&all, &[&["-f"], &*files].concat());
    assert_eq!((code, &*said), (1, ""), "positive control: the manifests share a credential");
    let (code, of_cluster, said) = scan(&all, &[]);
    assert_eq!((code, &*said), (1, ""));
    assert_eq!(findings(&of_cluster), findings(&of_files));
    let (code, of_namespace, said) = scan(&all, &["-n", "it"]);
    assert_eq!((code, &*said, findings(&of_namespace)), (1, "", findings(&of_files)));
    assert_eq!(scan(&all, &["-n", "finance"]).0, 0);
    // What RBAC gives is read as well; of the cluster's own controllers nothing is said.
    let rbac = |kind: &str, fields: Value| {
        let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "read", "namespace": "it"}});
        object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        format!("---\n{object}\n")
    };
    let read = json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]});
    let bound = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "read"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "finance"}],
    });
    plane.apply_yaml(&(rbac("Role", read) + &rbac("RoleBinding", bound))).await.unwrap();
    let reader = r#""SC-204" "open" {"kind":"ServiceAccount","name":"reader","namespace":"finance"} ["helpdesk","workflow-bot"]"#;
    for (arguments, gap) in [(&[][..], false), (&["-n", "it"], true)] {
        let (_, json, _) = scan(&all, arguments);
        let new: Vec<String> = findings(&json).into_iter().filter(|f| !findings(&of_files).contains(f)).collect();
        assert_eq!(new, [reader]);
        let said = json.to_string();
        assert_eq!(said.contains("clusterroles are of the whole cluster, and were not asked for"), gap, "{said}");
    }
    plane.kubectl(&["delete", "-n", "it", "role,rolebinding", "read"]).await.unwrap();

    // More objects than one answer has.
    let accounts = (0..600).map(|n| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": format!("a-{n}"), "namespace": "finance"}}));
    let accounts: String = accounts.map(|account| format!("---\n{account}\n")).collect();
    plane.apply_yaml(&accounts).await.unwrap();
    let objects = scan(&all, &[]).1["summary"]["objects"].as_u64().unwrap();
    assert_eq!(objects, of_cluster["summary"]["objects"].as_u64().unwrap() + 600);

    // Who may list workloads and nothing of ours is told so, and nothing is called clean.
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "dev", "namespace": "it"},
        "rules": [{"apiGroups": ["", "apps", "batch"], "resources": ["*"], "verbs": ["list"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "dev", "namespace": "it"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "dev"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "dev"}],
    });
    plane.apply_yaml(&format!("{role}\n---\n{binding}")).await.unwrap();
    let dev = plane.kubeconfig_for("dev", &[]).unwrap();
    for arguments in [&["-n", "it"][..], &[]] {
        let (code, _, said) = scan(&dev, arguments);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("clientidentities.clientgrant.dev: not read: you may not list it"), "{said}");
        assert_eq!(said.contains("deployments.apps: not read"), arguments.is_empty(), "{said}");
        assert!(!said.contains("argoproj"), "what the cluster does not have is no gap: {said}");
    }

    configmaps(&plane, &all).await;

    let asked = std::fs::read_to_string(plane.audit_log()).unwrap();
    let asked = asked.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let asked: Vec<Value> =
        asked.filter(|e| e["user"]["username"] == "scanner" || e["user"]["username"] == "dev").collect();
    assert!(asked.len() > 50, "positive control: what scan asks is in the log: {}", asked.len());
    let lists = |e: &Value| e["verb"] == "list" && e["objectRef"]["resource"] != "secrets";
    let discovers = |e: &Value| e["verb"] == "get" && e["objectRef"].is_null();
    let strange = asked.iter().find(|e| !lists(e) && !discovers(e));
    assert_eq!(strange, None, "it lists, and no Secret");
}

/// ConfigMaps are listed where that is asked for, and then all of them.
async fn configmaps(plane: &ControlPlane, kubeconfig: &Path) {
    let from = json!({"configMapKeyRef": {"name": "oidc", "key": "x"}});
    let variable = json!({"name": "OIDC_CLIENT_SECRET", "valueFrom": from});
    let patch = json!([{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": variable}]).to_string();
    plane.kubectl(&["patch", "deployment", "workflow", "-n", "it", "--type=json", "-p", &patch]).await.unwrap();
    let grades = |arguments: &[&str]| {
        let (_, json, said) = scan(kubeconfig, arguments);
        assert_eq!(said, "");
        let findings = json["findings"].as_array().unwrap().clone();
        findings.iter().filter(|f| f["rule"] == "SC-401").map(|f| f["grade"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(grades(&[]), ["potential"]);
    let asked = std::fs::read_to_string(plane.audit_log()).unwrap();
    let lists = |line: &&str| line.contains("\"scanner\"") && line.contains("/configmaps");
    assert_eq!(asked.lines().find(lists), None);
    assert_eq!(grades(&["--configmaps"]), [""; 0], "there is no such ConfigMap");
    // More than one answer has, and the last of all.
    let map = |name: String, data: Value| {
        let meta = json!({"name": name, "namespace": "it"});
        format!("---\n{}\n", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}))
    };
    let many: String = (0..50).map(|n| map(format!("a-{n}"), json!({}))).collect();
    plane.apply_yaml(&(many + &map("oidc".into(), json!({"x": "abc"})))).await.unwrap();
    assert_eq!(grades(&["--configmaps"]), ["direct"]);
    assert_eq!(grades(&["--configmaps", "-n", "it"]), ["direct"]);
}
