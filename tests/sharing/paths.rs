//! Every way in which a pod receives a key, in every kind of container and workload: one that is a holder, and
//! near misses that are none.

use serde_json::{Value, json};

use super::support::{found, identity, now, open, told};
use clientgrant::sharing::read::Reader;
use clientgrant::sharing::{Grade, evaluate};

pub(super) const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

pub(super) const WORKLOADS: [(&str, &str); 10] = [
    ("v1", "Pod"),
    ("v1", "ReplicationController"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
    ("argoproj.io/v1alpha1", "Rollout"),
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

pub(super) fn workload(version: &str, kind: &str, pod: &Value) -> Value {
    let template = json!({ "spec": pod });
    let spec = match kind {
        "Pod" => pod.clone(),
        "CronJob" => json!({"jobTemplate": {"spec": {"template": template}}}),
        _ => json!({ "template": template }),
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": "w", "namespace": "shop"}, "spec": spec})
}

#[test]
fn every_way_in_every_container_of_every_workload() {
    let client = identity("c", "serviceAccountName: other, credentials: [{secret: {name: s, key: k}}]");
    let (mut holders, mut others) = (0, 0);
    for (name, holds, container, fields) in cases() {
        for list in CONTAINERS {
            for (version, kind) in WORKLOADS {
                let mut container = container.clone();
                container["name"] = json!("main");
                let mut pod = fields.clone();
                pod[list] = json!([container]);
                let object = workload(version, kind, &pod);
                let mut reader = Reader::default();
                reader.add("client.yaml", client.as_bytes());
                reader.add("w.json", object.to_string().as_bytes());
                let evaluation = evaluate(reader.finish(now()), now());
                let what = format!("{name}, {list}, {kind}: {:?}", found(&evaluation));
                let foreign = evaluation.findings.iter().find(|f| f.rule == "SC-301");
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
    assert!(holders >= 450 && others >= 300, "{holders} {others}");
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
    let without = super::support::scan(&[&client, &rollout.to_string()]);
    assert!(found(&without).contains(&"SC-901 Rollout/shop/r".to_owned()), "{:?}", found(&without));
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
    // Of a workload that is nobody's business nothing is said.
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
