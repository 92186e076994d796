//! What is believed of owner references: only what a controller takes away from strangers.

use std::time::{Duration, Instant};

use clientgrant_testbed::{ControlPlane, Tools};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::pause;

const LONG: Duration = Duration::from_secs(30);

async fn make(plane: &ControlPlane, path: &str, object: Value) -> Value {
    let body = Some((object, "application/json"));
    let (status, made) = plane.call(Method::POST, path, body).await.unwrap();
    assert_eq!(status, 201, "{path}: {made}");
    made
}

fn owned_by(owner: &Value) -> Value {
    json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true,
    }])
}

/// A ReplicaSet takes its name from a pod that it did not make. A CronJob does not take it from a Job: that is why the
/// documents say that such a Job is believed.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_a_reference_away_from_strangers() {
    let mut plane = ControlPlane::start(&Tools::find().unwrap()).await.unwrap();
    plane.start_controller_manager().await.unwrap();
    let spec = json!({"containers": [{"name": "c", "image": "registry.example/c"}], "restartPolicy": "Never"});
    let (pods, jobs) = ("api/v1/namespaces/default/pods", "apis/batch/v1/namespaces/default/jobs");

    let labels = json!({"app": "own"});
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "set"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": spec["containers"]}},
        },
    });
    let set = make(&plane, "apis/apps/v1/namespaces/default/replicasets", set).await;
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": spec}}}},
    });
    let cron = make(&plane, "apis/batch/v1/namespaces/default/cronjobs", cron).await;

    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "stranger", "ownerReferences": owned_by(&cron)},
        "spec": {"suspend": true, "template": {"spec": spec}},
    });
    make(&plane, jobs, job).await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "stranger", "labels": {"app": "other"}, "ownerReferences": owned_by(&set)}, "spec": spec,
    });
    let begun = Instant::now();
    // Where the account of the namespace is not there yet, no pod may be made.
    while plane.call(Method::POST, pods, Some((pod.clone(), "application/json"))).await.unwrap().0 != 201 {
        assert!(begun.elapsed() < LONG, "no pod can be made");
        pause(200).await;
    }
    let owners = |path: String| {
        let plane = &plane;
        async move { plane.call(Method::GET, &path, None).await.unwrap().1["metadata"]["ownerReferences"].clone() }
    };
    while !owners(format!("{pods}/stranger")).await.is_null() {
        assert!(begun.elapsed() < LONG, "the ReplicaSet lets a stranger have its name");
        pause(200).await;
    }
    pause(5_000).await;
    assert_eq!(owners(format!("{jobs}/stranger")).await, owned_by(&cron), "believe no Job any more then");
}
