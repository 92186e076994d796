//! The test bed on its own.
use clientgrant_testbed::{ControlPlane, Tools};

#[tokio::test]
async fn control_plane() {
    let tools = Tools::find().unwrap();
    let t = std::time::Instant::now();
    let mut plane = ControlPlane::start(&tools).await.unwrap();
    eprintln!("ready {:?}", t.elapsed());
    eprintln!("{}", plane.kubectl(&["version"]).await.unwrap());
    plane.apply_yaml("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\ndata: {a: b}\n").await.unwrap();
    let t = std::time::Instant::now();
    plane.start_controller_manager().await.unwrap();
    eprintln!("cm ready {:?}", t.elapsed());
    let t = std::time::Instant::now();
    plane.stop_apiserver();
    plane.start_apiserver().await.unwrap();
    eprintln!("restart {:?}", t.elapsed());
    eprintln!("{}", plane.kubectl(&["get", "cm", "a", "-o", "yaml"]).await.unwrap());
    let k = plane.kubeconfig_for("jane", &["a", "b"]).unwrap();
    eprintln!("{}", plane.kubectl(&["auth", "whoami", "--kubeconfig", k.to_str().unwrap()]).await.unwrap());
    plane.kubectl(&["create", "sa", "x"]).await.unwrap();
    let k = plane.kubeconfig_for_service_account("default", "x").await.unwrap();
    eprintln!("{}", plane.kubectl(&["auth", "whoami", "--kubeconfig", k.to_str().unwrap()]).await.unwrap());
    for p in plane.processes() { eprintln!("{} {} KiB", p.name(), p.rss_kib().unwrap()); }
}
