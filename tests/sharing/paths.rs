//! Every way in which a pod receives a key, in every kind of container and workload: one that is a holder, and
//! near misses that are none.

use serde_json::{Value, json};

use super::support::{found, identity, now, open, told};
use clientgrant::sharing::read::Reader;
use clientgrant::sharing::{Finding, Grade, evaluate};

/// The kinds of containers.
pub(super) const CONTAINERS: [&str; 4] = ["containers", "initContainers", "sidecar", "ephemeralContainers"];

/// A pod with these fields and one container of a kind.
pub(super) fn pod(fields: &Value, list: &str, container: &Value) -> Value {
    let (mut pod, mut container) = (fields.clone(), container.clone());
    container["name"] = json!("main");
    if list == "sidecar" {
        container["restartPolicy"] = json!("Always");
    }
    pod[if list == "sidecar" { "initContainers" } else { list }] = json!([container]);
    pod
}

/// A Rollout with a template of its own; one without borrows it.
const BORROWS: &str = "argoproj.io/v1alpha1 workloadRef";

pub(super) const WORKLOADS: [(&str, &str); 11] = [
    ("v1", "Pod"),
    ("v1", "ReplicationController"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
    ("argoproj.io/v1alpha1", "Rollout"),
    (BORROWS, "Rollout"),
    ("serving.knative.dev/v1", "Service"),
];

/// What a case expects.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Holds {
    Yes,
    Perhaps,
    No,
}
use Holds::{No, Perhaps, Yes};

/// Name, what is expected, the container's fields, the pod's fields. The client's slot is `s#k`.
pub(super) fn cases() -> Vec<(&'static str, Holds, Value, Value)> {
    let env = |name: &str, key: &str| json!({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}]});
    let mount = |fields: Value| {
        let mut mount = json!({"name": "v", "mountPath": "/v"});
        mount.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({ "volumeMounts": [mount] })
    };
    let whole = || mount(json!({}));
    let volume = |volume: Value| {
        let mut named = json!({"name": "v"});
        named.as_object_mut().unwrap().extend(volume.as_object().unwrap().clone());
        json!({ "volumes": [named] })
    };
    let secret = |fields: Value| {
        let mut source = json!({"secretName": "s"});
        source.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        volume(json!({ "secret": source }))
    };
    let projected = |source: Value| volume(json!({"projected": {"sources": [source]}}));
    let none = || json!({});
    vec![
        ("variable", Yes, env("s", "k"), none()),
        ("variable, other key", No, env("s", "public"), none()),
        ("variable, other Secret", No, env("t", "k"), none()),
        (
            "variable, optional",
            Perhaps,
            json!({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}}]}),
            none(),
        ),
        (
            "variable of a ConfigMap of the same name",
            No,
            json!({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}]}),
            none(),
        ),
        ("all variables", Yes, json!({"envFrom": [{"prefix": "P_", "secretRef": {"name": "s"}}]}), none()),
        (
            "all variables, optional",
            Perhaps,
            json!({"envFrom": [{"secretRef": {"name": "s", "optional": true}}]}),
            none(),
        ),
        ("all variables of a ConfigMap", No, json!({"envFrom": [{"configMapRef": {"name": "s"}}]}), none()),
        ("volume", Yes, whole(), secret(json!({}))),
        ("volume, optional", Perhaps, whole(), secret(json!({"optional": true}))),
        ("volume, not mounted", Perhaps, none(), secret(json!({}))),
        ("volume, item", Yes, whole(), secret(json!({"items": [{"key": "k", "path": "p"}]}))),
        ("volume, other item", No, whole(), secret(json!({"items": [{"key": "public", "path": "k"}]}))),
        ("volume, subPath", Yes, mount(json!({"subPath": "k"})), secret(json!({}))),
        ("volume, subPath with dots", Yes, mount(json!({"subPath": "./k"})), secret(json!({}))),
        ("volume, other subPath", No, mount(json!({"subPath": "public"})), secret(json!({}))),
        (
            "volume, subPath to an item",
            Yes,
            mount(json!({"subPath": "d/p"})),
            secret(json!({"items": [{"key": "k", "path": "d/p"}]})),
        ),
        (
            "volume, subPath to the folder",
            Yes,
            mount(json!({"subPath": "d"})),
            secret(json!({"items": [{"key": "k", "path": "d/p"}]})),
        ),
        (
            "volume, subPath beside an item",
            No,
            mount(json!({"subPath": "d"})),
            secret(json!({"items": [{"key": "k", "path": "dd/p"}]})),
        ),
        // The kubelet's own directories, to which the names of keys are links.
        ("volume, subPath through the link", Yes, mount(json!({"subPath": "..data/k"})), secret(json!({}))),
        ("volume, subPath to the link", Yes, mount(json!({"subPath": "./..data/"})), secret(json!({}))),
        (
            "volume, subPath behind the link",
            Yes,
            mount(json!({"subPath": "..2026_11_25_00_00_00.123456789/k"})),
            secret(json!({})),
        ),
        ("volume, other subPath through the link", No, mount(json!({"subPath": "..data/public"})), secret(json!({}))),
        ("volume, subPath like the link", No, mount(json!({"subPath": "data/k"})), secret(json!({}))),
        (
            "projected, subPath through the link to an item",
            Yes,
            mount(json!({"subPath": "..data/f"})),
            projected(json!({"secret": {"name": "s", "items": [{"key": "k", "path": "f"}]}})),
        ),
        (
            "projected, subPath through the link to another item",
            No,
            mount(json!({"subPath": "..data/f"})),
            projected(
                json!({"secret": {"name": "s", "items": [{"key": "k", "path": "g"}, {"key": "public", "path": "f"}]}}),
            ),
        ),
        ("volume, subPath expression", Yes, mount(json!({"subPathExpr": "$(X)"})), secret(json!({}))),
        ("volume of a ConfigMap", No, whole(), volume(json!({"configMap": {"name": "s"}}))),
        ("projected", Yes, whole(), projected(json!({"secret": {"name": "s"}}))),
        (
            "projected, item",
            Yes,
            whole(),
            projected(json!({"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}})),
        ),
        (
            "projected, other item",
            No,
            whole(),
            projected(json!({"secret": {"name": "s", "items": [{"key": "x", "path": "k"}]}})),
        ),
        ("projected, optional", Perhaps, whole(), projected(json!({"secret": {"name": "s", "optional": true}}))),
        ("projected, other Secret", No, whole(), projected(json!({"secret": {"name": "t"}}))),
        ("pull secret", No, none(), json!({"imagePullSecrets": [{"name": "s"}]})),
        (
            "driver's secret",
            No,
            whole(),
            volume(json!({"csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}})),
        ),
        ("storage secret", No, whole(), volume(json!({"azureFile": {"secretName": "s", "shareName": "x"}}))),
        (
            "fields of other types",
            No,
            json!({"env": "x", "envFrom": {"a": 1}, "volumeMounts": [1, null]}),
            json!({"volumes": 5}),
        ),
    ]
}

/// A workload named `w` with this pod, as JSON; one that borrows has a Deployment with it named `lender` beside it.
pub(super) fn workload(version: &str, kind: &str, pod: &Value) -> Value {
    template(version, kind, &json!({ "spec": pod }))
}

fn template(version: &str, kind: &str, template: &Value) -> Value {
    let object = |version: &str, kind: &str, name: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    match kind {
        "Pod" => {
            let mut pod = object(version, kind, "w", template["spec"].clone());
            pod["metadata"]["annotations"] = template["metadata"]["annotations"].clone();
            pod
        }
        "CronJob" => object(version, kind, "w", json!({"jobTemplate": {"spec": {"template": template}}})),
        _ if version == BORROWS => {
            let lender = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "lender"});
            let rollout = object("argoproj.io/v1alpha1", kind, "w", json!({"workloadRef": lender}));
            let lender = object("apps/v1", "Deployment", "lender", json!({ "template": template }));
            json!({"apiVersion": "v1", "kind": "List", "items": [rollout, lender]})
        }
        _ => object(version, kind, "w", json!({ "template": template })),
    }
}

#[test]
fn every_way_in_every_container_of_every_workload() {
    let client = identity("c", "serviceAccountName: other, credentials: [{secret: {name: s, key: k}}]");
    let (mut holders, mut others) = (0, 0);
    for (name, holds, container, fields) in cases() {
        for list in CONTAINERS {
            for (version, kind) in WORKLOADS {
                let object = workload(version, kind, &pod(&fields, list, &container));
                let mut reader = Reader::default();
                reader.add("client.yaml", client.as_bytes());
                reader.add("w.json", object.to_string().as_bytes());
                let evaluation = evaluate(reader.finish(now()), now());
                let what = format!("{name}, {list}, {kind}: {:?}", found(&evaluation));
                let of_it = |f: &&Finding| f.rule == "SC-301" && f.subject.name == "w";
                let foreign = evaluation.findings.iter().find(of_it);
                let grade = foreign.map(|f| f.grade);
                match holds {
                    Yes => assert_eq!(grade, Some(Grade::Direct), "{what}"),
                    Perhaps => assert_eq!(grade, Some(Grade::Potential), "{what}"),
                    No => assert_eq!(grade, None, "{what}"),
                }
                if let Some(finding) = foreign {
                    let path = &finding.evidence.iter().find(|e| e.object.kind == kind).unwrap().path;
                    assert!(
                        path.starts_with(if kind == "Pod" { "spec." } else { "spec.template.spec." })
                            || kind == "CronJob",
                        "{what}: {path}"
                    );
                }
                holders += u32::from(holds != No);
                others += u32::from(holds == No);
            }
        }
    }
    println!("{holders} holders, {others} near misses");
    assert!(holders >= 700 && others >= 500, "{holders} {others}");
}

/// What reaches a pod as an identity, from elsewhere, or as a literal: in every kind, with a near miss each.
#[test]
fn every_other_way_in_every_workload() {
    let federated =
        |name: &str| identity(name, "credentials: [{federated: {subject: \"system:serviceaccount:shop:web\"}}]");
    let mine = identity("c", "serviceAccountName: web, credentials: [{secret: {name: s, key: k}}]");
    let token = |account: &str, automount: Value, volumes: Value| {
        json!({"spec": {"serviceAccountName": account, "automountServiceAccountToken": automount,
            "volumes": volumes, "containers": [{"name": "main"}]}})
    };
    let audience = json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "idp"}}]}}]);
    let certificate = json!([{"name": "t", "projected": {"sources": [{"podCertificate": {"signerName": "x/y"}}]}}]);
    let store = |driver: &str| {
        json!({"spec": {"serviceAccountName": "web", "containers": [{"name": "main"}], "volumes": [
            {"name": "v", "csi": {"driver": driver, "volumeAttributes": {"secretProviderClass": "vault"}}}]}})
    };
    let agent = |name: &str| {
        json!({"metadata": {"annotations": {name: "kv/x"}},
            "spec": {"serviceAccountName": "web", "containers": [{"name": "main"}]}})
    };
    // Name, the rule that says it, the template; then the same where there is nothing to say.
    let cases = [
        (
            "P6 projected token",
            "SC-201",
            token("web", json!(false), audience.clone()),
            token("api", json!(false), audience),
        ),
        ("P7 token by default", "SC-201", token("web", Value::Null, json!([])), token("web", json!(false), json!([]))),
        (
            "P8 certificate of its own",
            "SC-201",
            token("web", Value::Null, certificate.clone()),
            token("web", json!(false), certificate),
        ),
        ("P10 store", "SC-901", store("secrets-store.csi.k8s.io"), store("files.example.com")),
        (
            "P11 agent",
            "SC-901",
            agent("vault.hashicorp.com/agent-inject-secret-x"),
            agent("vault.hashicorp.com/agent-inject-status"),
        ),
    ];
    for (name, rule, says, silent) in cases {
        for (version, kind) in WORKLOADS {
            let with = |of: &Value| {
                let object = template(version, kind, of).to_string();
                let all = if rule == "SC-201" { vec![federated("a"), federated("b")] } else { vec![mine.clone()] };
                let mut all: Vec<&str> = all.iter().map(String::as_str).collect();
                all.push(&object);
                let found = found(&super::support::scan(&all));
                found.contains(&format!("{rule} {kind}/shop/w"))
            };
            assert!(with(&says), "{name}, {kind} of {version}");
            assert!(!with(&silent), "{name}, {kind} of {version}: the near miss");
        }
    }
}

/// P12: variables, arguments and commands, in every kind of container and workload.
#[test]
fn every_literal_in_every_container_of_every_workload() {
    let client = identity("a-client", "serviceAccountName: web");
    let cases = [
        (true, json!({"env": [{"name": "OIDC_CLIENT_SECRET", "value": "abc"}]})),
        (true, json!({"args": ["--client-secret=abc"]})),
        (true, json!({"command": ["run", "--client-secret", "abc"]})),
        (false, json!({"env": [{"name": "OIDC_CLIENT_NAME", "value": "abc"}]})),
        (false, json!({"env": [{"name": "OIDC_CLIENT_SECRET", "value": "$(FROM)"}]})),
        (false, json!({"args": ["client-secret=abc"]})),
        (false, json!({"command": ["run", "--client-secret", "--abc"]})),
    ];
    for (says, container) in cases {
        for list in CONTAINERS {
            for (version, kind) in WORKLOADS {
                let object = workload(version, kind, &pod(&json!({"serviceAccountName": "web"}), list, &container));
                let found = found(&super::support::scan(&[&client, &object.to_string()]));
                let expected = format!("SC-401 {kind}/shop/w");
                assert_eq!(found.contains(&expected), says, "{container}, {list}, {kind} of {version}: {found:?}");
            }
        }
    }
}

#[test]
fn a_federated_subject_needs_a_token() {
    let client =
        |name: &str| identity(name, "credentials: [{federated: {subject: \"system:serviceaccount:shop:web\"}}]");
    let with = |pod: Value| {
        let object = workload("apps/v1", "Deployment", &pod);
        let evaluation = super::support::scan(&[&client("a"), &client("b"), &object.to_string()]);
        open(&evaluation)
    };
    let holder = "SC-201 Deployment/shop/w".to_owned();
    assert!(with(json!({"serviceAccountName": "web"})).contains(&holder));
    assert!(with(json!({"serviceAccount": "web"})).contains(&holder), "the old name of the field");
    assert!(!with(json!({"serviceAccountName": "other"})).contains(&holder));
    assert!(!with(json!({"serviceAccountName": "web", "automountServiceAccountToken": false})).contains(&holder));
    let projected = json!({
        "serviceAccountName": "web",
        "automountServiceAccountToken": false,
        "volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "idp", "path": "t"}}]}}],
    });
    assert!(with(projected).contains(&holder));
}

#[test]
fn a_rollout_borrows_the_template_of_a_deployment() {
    let rollout = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "r", "namespace": "shop"},
        "spec": {"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "w"}},
    });
    let client = identity(
        "c",
        "credentials: [{secret: {name: s, key: k}}], workloads: [{apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: r}]",
    );
    let deployment = super::support::deployment("w", &super::support::holds("s", "k"));
    let with = super::support::scan(&[&client, &rollout.to_string(), &deployment]);
    // The Deployment is scaled down, and has the credential all the same.
    assert!(open(&with).contains("SC-301 Deployment/shop/w"), "{:?}", found(&with));
    assert!(
        !found(&with).iter().any(|f| f.starts_with("SC-304") || f == "SC-901 Rollout/shop/r"),
        "{:?}",
        found(&with)
    );
    // What some tools leave of a template is none.
    for empty in [Value::Null, json!({}), json!({"metadata": {"labels": {}}, "spec": {}})] {
        let mut rollout = rollout.clone();
        rollout["spec"]["template"] = empty;
        let without = super::support::scan(&[&client, &rollout.to_string()]);
        assert!(found(&without).contains(&"SC-901 Rollout/shop/r".to_owned()), "{:?}", found(&without));
        // As whom it runs is not known: it is not `default`.
        assert!(!found(&without).contains(&"SC-203 Rollout/shop/r".to_owned()), "{:?}", found(&without));
    }
    let mut own = rollout;
    own["spec"]["template"] = json!({"spec": {"containers": []}});
    let with = super::support::scan(&[&client, &own.to_string()]);
    assert!(!found(&with).contains(&"SC-901 Rollout/shop/r".to_owned()), "{:?}", found(&with));
}

#[test]
fn pods_count_as_what_a_person_wrote() {
    let pod = |name: &str, owner: Value, labels: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "labels": labels, "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "m", "envFrom": [{"secretRef": {"name": "s"}}]}]},
        })
    };
    let owner = json!({"kind": "ReplicaSet", "name": "web-7f9c", "controller": true});
    let labels = json!({"pod-template-hash": "7f9c"});
    let items = [pod("web-7f9c-a", owner.clone(), labels.clone()), pod("web-7f9c-b", owner, labels)];
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let mine = identity("c", &super::support::owns("s", "k", "web"));
    let evaluation = super::support::scan(&[&mine, &list]);
    assert!(!open(&evaluation).iter().any(|f| f.starts_with("SC-301")), "{:?}", found(&evaluation));
    let foreign = identity("c", &super::support::owns("s", "k", "api"));
    let evaluation = super::support::scan(&[&foreign, &list]);
    let finding = super::support::only(&evaluation, "SC-301");
    assert_eq!(finding.subject.to_string(), "Deployment/shop/web");
}

#[test]
fn what_a_manifest_does_not_say_is_not_clean() {
    let client = identity("c", &super::support::owns("s", "k", "w"));
    let csi = json!({
        "containers": [{"name": "m", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "csi": {"driver": "secrets-store.csi.k8s.io",
                     "volumeAttributes": {"secretProviderClass": "vault"}}}],
    });
    let object = workload("apps/v1", "Deployment", &csi);
    let evaluation = super::support::scan(&[&client, &object.to_string()]);
    let names = found(&evaluation);
    assert!(names.contains(&"SC-901 Deployment/shop/w".to_owned()), "{names:?}");
    assert!(!names.iter().any(|f| f.starts_with("SC-304")), "{names:?}");

    let mut agent = workload("apps/v1", "Deployment", &json!({"containers": []}));
    agent["spec"]["template"]["metadata"] =
        json!({"annotations": {"vault.hashicorp.com/agent-inject-secret-x": "kv/x"}});
    let names = found(&super::support::scan(&[&client, &agent.to_string()]));
    assert!(names.contains(&"SC-901 Deployment/shop/w".to_owned()), "{names:?}");
    let mut with = |annotation: &str| {
        agent["spec"]["template"]["metadata"] = json!({"annotations": {annotation: "x"}});
        found(&super::support::scan(&[&client, &agent.to_string()]))
    };
    let names = with("vault.hashicorp.com/agent-configmap");
    assert!(names.contains(&"SC-901 Deployment/shop/w".to_owned()), "{names:?}");
    assert!(!names.iter().any(|f| f.starts_with("SC-304")), "{names:?}");
    let names = with("vault.hashicorp.com/agent-image");
    assert!(!names.contains(&"SC-901 Deployment/shop/w".to_owned()), "{names:?}");
    // Of a workload that is nobody's business nothing is said.
    agent["spec"]["template"]["metadata"] = json!({"annotations": {"vault.hashicorp.com/agent-configmap": "x"}});
    agent["metadata"]["name"] = json!("other");
    let names = found(&super::support::scan(&[&client, &agent.to_string()]));
    assert!(!names.iter().any(|f| f.ends_with("/other")), "{names:?}");
}

#[test]
fn a_secret_that_the_kubelet_uses_is_in_use() {
    let client = identity("c", "credentials: [{secret: {name: s, key: k}}]");
    let object = workload("apps/v1", "Deployment", &json!({"containers": [], "imagePullSecrets": [{"name": "s"}]}));
    assert!(told(&super::support::scan(&[&client, &object.to_string()])).is_empty());
    let driver = json!({"name": "v", "csi": {"driver": "files.example.com", "nodePublishSecretRef": {"name": "s"}}});
    let object = workload("apps/v1", "Deployment", &json!({"containers": [], "volumes": [driver]}));
    assert!(told(&super::support::scan(&[&client, &object.to_string()])).is_empty());
    let object = workload("apps/v1", "Deployment", &json!({"containers": []}));
    assert_eq!(told(&super::support::scan(&[&client, &object.to_string()])), ["SC-304 ClientIdentity/shop/c"]);
}

#[test]
fn an_old_revision_without_pods_holds_nothing() {
    let revision = |replicas: u32, owned: bool| {
        let mut object = workload(
            "apps/v1",
            "ReplicaSet",
            &json!({"containers": [{"name": "m", "envFrom": [{"secretRef": {"name": "s"}}]}]}),
        );
        object["spec"]["replicas"] = json!(replicas);
        if owned {
            object["metadata"]["ownerReferences"] = json!([{"kind": "Deployment", "name": "web", "controller": true}]);
        }
        let client = identity("c", &super::support::owns("s", "k", "api"));
        let web = super::support::deployment("web", "containers: []");
        open(&super::support::scan(&[&client, &web, &object.to_string()]))
    };
    assert!(revision(1, true).contains("SC-301 Deployment/shop/web"));
    assert!(!revision(0, true).iter().any(|f| f.starts_with("SC-301")));
    // One that a person wrote is only scaled down.
    assert!(revision(0, false).contains("SC-301 ReplicaSet/shop/w"));
}
