//! What the tests share.

use std::fs;
use std::path::{Path, PathBuf};

use clientgrant_testbed::Tools;
use clientgrant_testbed::helm::{Helm, chart};
use serde::Deserialize as _;
use serde_json::Value;

/// Helm without a cluster.
pub fn helm() -> Helm {
    Helm::new(&Tools::find().unwrap()).unwrap()
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// A file of the chart.
pub fn file(name: &str) -> String {
    let path = chart().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// YAML as JSON.
pub fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

/// Every object of a stream of YAML documents.
pub fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    documents.map(|d| Value::deserialize(d).unwrap()).filter(|value| !value.is_null()).collect()
}

/// What the chart renders to with these arguments.
pub fn rendered(args: &[&str]) -> Vec<Value> {
    objects(&helm().template(args).unwrap())
}

/// The one object of a kind and, where it is not empty, of a name that ends so.
pub fn one<'o>(objects: &'o [Value], kind: &str, end: &str) -> &'o Value {
    let fits = |o: &&Value| o["kind"] == kind && o["metadata"]["name"].as_str().is_some_and(|n| n.ends_with(end));
    let found: Vec<&Value> = objects.iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "{kind} {end}: {} of them", found.len());
    found[0]
}

/// The definitions in `crds/`: name of the file, and its text.
pub fn definitions(folder: &Path) -> Vec<(String, String)> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())
        })
        .collect();
    all.sort();
    all
}

/// Values of everything at once.
pub const FULL: &str = r#"{
    "commonLabels": {"team": "platform"},
    "replicas": 3,
    "image": {"pullSecrets": ["registry"], "digest": "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},
    "watchNamespaces": ["finance"],
    "policies": {"maxLifetime": "90d", "guardFinalizer": true},
    "sweep": {"enabled": true},
    "trust": {"configMapName": "roots"},
    "sharing": {"rbac": true, "gateways": true, "configMaps": true, "roles": ["issuer=auth/Deployment/dex", "platform=cert-manager/cert-manager"]},
    "extraObjects": [{
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "{{ .Release.Name }}-more", "namespace": "{{ .Release.Namespace }}", "labels": {
            "app.kubernetes.io/name": "clientgrant", "app.kubernetes.io/managed-by": "Helm", "team": "platform"
        }}
    }],
    "operator": {"clusterID": "east-1", "allowProviderURLs": ["https://hydra.example.com/*"], "allowInsecureHTTP": true},
    "decision": {"port": 9443, "tls": {"secretName": "decisions-tls"}},
    "serviceAccount": {"annotations": {"a": "b"}},
    "service": {"annotations": {"a": "b"}},
    "podDisruptionBudget": {"enabled": true, "maxUnavailable": "50%"},
    "topologySpread": [{"topologyKey": "kubernetes.io/hostname"}],
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"app.kubernetes.io/name": "mine", "more": "labels"},
    "networkPolicy": {
        "enabled": true,
        "decisionsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "iam"}}}],
        "healthFrom": [{"podSelector": {}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 443}]}]
    },
    "podMonitor": {"enabled": true, "renderMode": "alwaysRender", "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": true, "renderMode": "alwaysRender", "runbookURL": "https://runbooks.example.com/clientgrant"},
    "dashboards": {"enabled": true, "annotations": {"grafana_folder": "identity"}}
}"#;
