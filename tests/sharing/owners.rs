//! Who made an object is believed where a controller would say otherwise, and what a custom resource has made may
//! be listed as either.

use clientgrant::sharing::facts::{KINDS, Kind, extract, qualified};
use clientgrant::sharing::finding::{Object, Place};
use clientgrant::sharing::suggest;
use serde_json::{Value, json};

use super::support::{found, grant, holds, identity, now, only, open, scan};

/// An object with the pod of `holds("s", "k")`, owned by another.
fn made(kind: &str, name: &str, (api_version, owner, owner_name): (&str, &str, &str), labels: &Value) -> String {
    let of = Kind::named(kind).unwrap();
    let pod: Value = serde_yaml::from_str(&format!("{{{}}}", holds("s", "k"))).unwrap();
    let spec = match kind {
        "Pod" => pod,
        "CronJob" => json!({"jobTemplate": {"spec": {"template": {"spec": pod}}}}),
        _ => json!({"template": {"spec": pod}}),
    };
    let owner = json!({"apiVersion": api_version, "kind": owner, "name": owner_name, "uid": "u", "controller": true});
    let metadata = json!({"name": name, "namespace": "shop", "labels": labels, "ownerReferences": [owner]});
    json!({"apiVersion": of.api_version(), "kind": kind, "metadata": metadata, "spec": spec}).to_string()
}

/// A client whose `ClientIdentity` lists this.
fn lists(api_version: &str, kind: &str, name: &str) -> String {
    let listed = format!("workloads: [{{apiVersion: {api_version}, kind: {kind}, name: {name}}}]");
    identity("c", &format!("credentials: [{{secret: {{name: s, key: k}}}}], {listed}"))
}

#[test]
fn no_two_kinds_have_one_name() {
    for kind in &KINDS {
        assert_eq!(Kind::named(kind.kind).map(|k| k.group), Some(kind.group));
        assert_eq!(qualified(kind.group, kind.kind), kind.kind);
        assert_ne!(qualified("example.com", kind.kind), kind.kind);
    }
    assert_eq!(qualified("example.com", "Gizmo"), "Gizmo.example.com");
}

/// Every pair of kinds: what owns what is what Kubernetes' controllers make, and nothing else.
#[test]
fn an_owner_is_believed_that_makes_such_objects() {
    let mut believed = Vec::new();
    for owner in &KINDS {
        for kind in KINDS.iter().filter(|kind| kind.has_pods()) {
            let object = made(kind.kind, "x", (&owner.api_version(), owner.kind, "o"), &Value::Null);
            let object: Value = serde_json::from_str(&object).unwrap();
            let facts = extract(&object, Place::default(), &[].into()).unwrap();
            if let Some((of, name)) = facts.owner {
                assert_eq!((of.as_str(), name.as_str()), (owner.kind, "o"));
                believed.push(format!("{} of {of}", kind.kind));
            }
        }
    }
    believed.sort();
    let makes = [
        "Job of CronJob",
        "Pod of DaemonSet",
        "Pod of Job",
        "Pod of ReplicaSet",
        "Pod of ReplicationController",
        "Pod of StatefulSet",
        "ReplicaSet of Deployment",
        "ReplicaSet of Rollout",
    ];
    assert_eq!(believed, makes);
}

#[test]
fn a_pod_that_says_to_be_of_a_listed_deployment_is_a_stranger() {
    let web = super::support::deployment("web", &holds("s", "k"));
    let mine = lists("apps/v1", "Deployment", "web");
    let with = |pod: &str| open(&scan(&[&mine, &web, pod]));
    let forged = made("Pod", "rogue", ("apps/v1", "Deployment", "web"), &Value::Null);
    assert!(with(&forged).contains("SC-301 Pod/shop/rogue"), "{:?}", with(&forged));
    // A ReplicaSet takes away the reference of a pod that does not fit it.
    let labels = json!({"pod-template-hash": "5d9c"});
    let real = made("Pod", "web-5d9c-x", ("apps/v1", "ReplicaSet", "web-5d9c"), &labels);
    assert!(!with(&real).iter().any(|f| f.starts_with("SC-301")), "{:?}", with(&real));
}

#[test]
fn a_kind_of_another_group_is_another_kind() {
    let pod = made("Pod", "train-0", ("batch.volcano.sh/v1alpha1", "Job", "train"), &Value::Null);
    let evaluation = scan(&[&lists("batch/v1", "Job", "train"), &pod]);
    assert_eq!(only(&evaluation, "SC-301").subject.to_string(), "Job.batch.volcano.sh/shop/train");
    // The version does not matter, the group does.
    let evaluation = scan(&[&lists("batch.volcano.sh/v1", "Job", "train"), &pod]);
    assert!(!open(&evaluation).iter().any(|f| f.starts_with("SC-301")), "{:?}", found(&evaluation));
}

#[test]
fn what_an_operator_made_may_be_listed_as_either() {
    let deployment =
        made("Deployment", "graf-deployment", ("grafana.integreatly.org/v1beta1", "Grafana", "graf"), &Value::Null);
    let labels = json!({"pod-template-hash": "5d9c"});
    let pod = made("Pod", "graf-deployment-5d9c-x", ("apps/v1", "ReplicaSet", "graf-deployment-5d9c"), &labels);
    let grant = grant("c", "ann", "read");
    let with = |listed: String| open(&scan(&[&listed, &grant, &deployment, &pod]));
    for listed in
        [lists("apps/v1", "Deployment", "graf-deployment"), lists("grafana.integreatly.org/v1beta1", "Grafana", "graf")]
    {
        let open = with(listed);
        assert!(!open.iter().any(|f| f.starts_with("SC-301") || f.starts_with("SC-303")), "{open:?}");
    }
    for listed in [lists("apps/v1", "Grafana", "graf"), lists("grafana.integreatly.org/v1beta1", "Grafana", "other")] {
        let open = with(listed);
        assert!(open.contains("SC-301 Deployment/shop/graf-deployment"), "{open:?}");
    }
}

#[test]
fn pods_of_a_custom_resource_count_as_it() {
    let of = ("sparkoperator.k8s.io/v1beta2", "SparkApplication", "sum");
    let (driver, executor) = (made("Pod", "sum-driver", of, &Value::Null), made("Pod", "sum-1", of, &Value::Null));
    let evaluation = scan(&[&lists("apps/v1", "Deployment", "web"), &driver, &executor]);
    let finding = only(&evaluation, "SC-301");
    assert_eq!(finding.subject.to_string(), "SparkApplication.sparkoperator.k8s.io/shop/sum");
    assert!(finding.evidence.iter().any(|e| e.path.starts_with("spec.containers[main]")), "{:?}", finding.evidence);
    let listed = lists("sparkoperator.k8s.io/v1beta2", "SparkApplication", "sum");
    let evaluation = scan(&[&listed, &driver, &executor]);
    assert!(!open(&evaluation).iter().any(|f| f.starts_with("SC-301")), "{:?}", found(&evaluation));
    // An exception names the kind as a person does.
    for kind in ["SparkApplication", "SparkApplication.sparkoperator.k8s.io", "Spark"] {
        let exception = format!(
            "sharing: {{exceptions: [{{rule: SC-301, with: [{{kind: {kind}, name: sum}}], \
             reason: \"the job reads with it until May\", expiresAt: \"2027-02-20T00:00:00Z\"}}]}}"
        );
        let listed = "workloads: [{apiVersion: apps/v1, kind: Deployment, name: web}]";
        let mine = identity("c", &format!("credentials: [{{secret: {{name: s, key: k}}}}], {listed}, {exception}"));
        let open = open(&scan(&[&mine, &driver, &executor]));
        assert_eq!(open.iter().any(|f| f.starts_with("SC-301")), kind == "Spark", "{kind}: {open:?}");
    }
}

#[test]
fn what_knative_makes_counts_as_the_service() {
    let labels = json!({"serving.knative.dev/service": "web", "pod-template-hash": "5d9c"});
    let revision = ("serving.knative.dev/v1", "Revision", "web-00001");
    let deployment = made("Deployment", "web-00001-deployment", revision, &labels);
    let replica_set = ("apps/v1", "ReplicaSet", "web-00001-deployment-5d9c");
    let pod = made("Pod", "web-00001-deployment-5d9c-x", replica_set, &labels);
    let evaluation = scan(&[&lists("serving.knative.dev/v1", "Service", "web"), &deployment, &pod]);
    assert!(!open(&evaluation).iter().any(|f| f.starts_with("SC-301")), "{:?}", found(&evaluation));
    let evaluation = scan(&[&lists("serving.knative.dev/v1", "Service", "api"), &deployment, &pod]);
    assert_eq!(only(&evaluation, "SC-301").subject, Object::new("Service", "shop", "web"));
}

#[test]
fn a_proposal_names_a_custom_resource_with_its_group() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "sum-driver", "namespace": "shop", "ownerReferences": [{
            "apiVersion": "sparkoperator.k8s.io/v1beta2", "kind": "SparkApplication", "name": "sum", "controller": true}]},
        "spec": {"containers": [{"name": "m", "env": [{"name": "CLIENT_ID", "value": "c"}]}]},
    });
    let mut reader = clientgrant::sharing::read::Reader::default();
    reader.add("all.yaml", format!("{}\n---\n{pod}\n", grant("c", "ann", "read")).as_bytes());
    let text = suggest::suggest(reader.finish(now()), now());
    let line = "- {apiVersion: sparkoperator.k8s.io/v1, kind: SparkApplication, name: sum}";
    assert!(text.contains(line), "{text}");
}
