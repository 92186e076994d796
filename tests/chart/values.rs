//! Which values are refused, and that the refusal names the key.

use std::collections::BTreeSet;

use clientgrant_testbed::helm::Helm;
use serde_json::Value;

use crate::support::{file, helm};

/// Helm's words about values that it has to refuse.
fn refusal(helm: &Helm, set: &str) -> String {
    match helm.template(&["--set-json", set]) {
        Ok(_) => panic!("{set} was taken"),
        Err(error) => error.to_string(),
    }
}

/// What a person may get wrong: misspelt, of another type, out of range, or a secret in plain sight.
const WRONG: &[(&str, &str)] = &[
    // Misspelt.
    (r#"replica=2"#, "replica"),
    (r#"replicaCount=2"#, "replicaCount"),
    (r#"images={"tag":"1"}"#, "images"),
    (r#"image={"repo":"a"}"#, "repo"),
    (r#"image={"pullpolicy":"Always"}"#, "pullpolicy"),
    (r#"imagePullSecrets=["a"]"#, "imagePullSecrets"),
    (r#"installCRDs=true"#, "installCRDs"),
    (r#"crds={"install":true}"#, "install"),
    (r#"operator={"clusterId":"a"}"#, "clusterId"),
    (r#"operator={"allowProviderUrls":[]}"#, "allowProviderUrls"),
    (r#"sharing={"rollouts":true}"#, "rollouts"),
    (r#"sharing={"detect":"yes"}"#, "detect"),
    (r#"sharing={"rbac":"yes"}"#, "rbac"),
    (r#"sharing={"gateways":["kong"]}"#, "gateways"),
    (r#"sharing={"configMaps":"yes"}"#, "configMaps"),
    (r#"sharing={"roles":["owner=a/b"]}"#, "roles"),
    (r#"sharing={"roles":["platform=a/Deployment/b"]}"#, "roles"),
    (r#"sharing={"roles":["issuer=b"]}"#, "roles"),
    (r#"sharing={"reportApi":"none"}"#, "reportApi"),
    (r#"sharing={"reportAPI":"sarif"}"#, "reportAPI"),
    (r#"decision={"tls":{"secret":"a"}}"#, "secret"),
    (r#"decision={"secretName":"a"}"#, "secretName"),
    (r#"health={"ports":8080}"#, "ports"),
    (r#"service={"port":443}"#, "port"),
    (r#"serviceAccount={"annotation":{}}"#, "annotation"),
    (r#"rbac={"aggregateToEdit":true}"#, "aggregateToEdit"),
    (r#"pdb={"enabled":true}"#, "pdb"),
    (r#"podDisruptionBudget={"minAvailable":2}"#, "minAvailable"),
    (r#"topologySpread=[{"topologyKey":"a","labelSelector":{}}]"#, "labelSelector"),
    (r#"podSecurityContext={"runAsNonRoot":false}"#, "runAsNonRoot"),
    (r#"securityContext={"privileged":true}"#, "securityContext"),
    (r#"networkPolicy={"ingress":[]}"#, "ingress"),
    (r#"networkPolicy={"healthFrom":[{"podSelectors":{}}]}"#, "podSelectors"),
    (r#"tolerations=[{"keys":"a"}]"#, "keys"),
    (r#"affinity={"nodeaffinity":{}}"#, "nodeaffinity"),
    (r#"resources={"request":{}}"#, "request"),
    (r#"extraEnv=[{"name":"POD_NAME","value":"a"}]"#, "extraEnv"),
    (r#"serviceMonitor={"scrapeInterval":"30s"}"#, "scrapeInterval"),
    (r#"podmonitor={"enabled":true}"#, "podmonitor"),
    (r#"prometheusRule={"runbookUrl":"https://a"}"#, "runbookUrl"),
    (r#"prometheusRules={"enabled":true}"#, "prometheusRules"),
    (r#"dashboards={"folder":"a"}"#, "folder"),
    (r#"watchNamespace=["a"]"#, "watchNamespace"),
    (r#"policies={"confine":true}"#, "confine"),
    (r#"policies={"lifetime":"90d"}"#, "lifetime"),
    (r#"sweep={"enable":true}"#, "enable"),
    (r#"sweep={"cron":"* * * * *"}"#, "cron"),
    (r#"extraManifests=[]"#, "extraManifests"),
    // Of another type, or out of range.
    (r#"serviceMonitor={"renderMode":"always"}"#, "renderMode"),
    (r#"serviceMonitor={"interval":"30"}"#, "interval"),
    (r#"podMonitor={"interval":"0s"}"#, "interval"),
    (r#"podMonitor={"labels":{"release":1}}"#, "labels"),
    (r#"prometheusRule={"runbookURL":"https://a/"}"#, "runbookURL"),
    (r#"prometheusRule={"runbookURL":"a b"}"#, "runbookURL"),
    (r#"dashboards={"enabled":"yes"}"#, "enabled"),
    (r#"serviceMonitor={"enabled":true,"renderMode":"failIfMissing"}"#, "serviceMonitor.renderMode is failIfMissing"),
    (r#"prometheusRule={"enabled":true,"renderMode":"failIfMissing"}"#, "prometheusRule.renderMode is failIfMissing"),
    (r#"watchNamespaces="a""#, "watchNamespaces"),
    (r#"watchNamespaces=["A"]"#, "watchNamespaces"),
    (r#"watchNamespaces=["*"]"#, "watchNamespaces"),
    (r#"watchNamespaces=["a","a"]"#, "watchNamespaces"),
    (r#"watchNamespaces=["a"]"#, "watchNamespaces wants operator.clusterID"),
    (r#"policies={"confineOperator":"no"}"#, "confineOperator"),
    (r#"policies={"maxLifetime":"3 months"}"#, "maxLifetime"),
    (r#"policies={"maxLifetime":90}"#, "maxLifetime"),
    (r#"policies={"guardFinalizer":1}"#, "guardFinalizer"),
    (r#"sweep={"schedule":"every minute"}"#, "schedule"),
    (r#"sweep={"schedule":"* * * *"}"#, "schedule"),
    (r#"extraObjects={"kind":"ConfigMap"}"#, "extraObjects"),
    (r#"extraObjects=["a"]"#, "extraObjects"),
    (r#"extraObjects=[{"kind":"ConfigMap","metadata":{"name":"a"}}]"#, "apiVersion"),
    (r#"replicas=0"#, "replicas"),
    (r#"replicas=17"#, "replicas"),
    (r#"replicas="two""#, "replicas"),
    (r#"crds={"keep":"yes"}"#, "keep"),
    (r#"image={"pullPolicy":"Sometimes"}"#, "pullPolicy"),
    (r#"image={"repository":""}"#, "repository"),
    (r#"image={"tag":"a tag"}"#, "tag"),
    (r#"image={"digest":"sha256:12"}"#, "digest"),
    (r#"operator={"workers":0}"#, "workers"),
    (r#"operator={"workers":257}"#, "workers"),
    (r#"operator={"leaseDuration":"10"}"#, "leaseDuration"),
    (r#"operator={"maxStaleness":300}"#, "maxStaleness"),
    (r#"operator={"sweepAgreement":"-1m"}"#, "sweepAgreement"),
    (r#"operator={"unadmittedGrace":"1w"}"#, "unadmittedGrace"),
    (r#"operator={"logFormat":"xml"}"#, "logFormat"),
    (r#"operator={"logLevel":"info debug"}"#, "logLevel"),
    (r#"operator={"clusterID":"a b"}"#, "clusterID"),
    (r#"operator={"allowProviderURLs":"https://a"}"#, "allowProviderURLs"),
    (r#"operator={"allowProviderURLs":["ftp://a"]}"#, "allowProviderURLs"),
    (r#"operator={"providerSecrets":["*"]}"#, "providerSecrets"),
    (r#"decision={"port":443}"#, "port"),
    (r#"decision={"port":70000}"#, "port"),
    (r#"decision={"port":8080}"#, "decision.port and health.port have to differ"),
    (r#"decision={"tls":{"secretName":"A_b"}}"#, "secretName"),
    (r#"service={"type":"LoadBalancer"}"#, "type"),
    (r#"fullnameOverride="1st""#, "fullnameOverride"),
    (r#"podDisruptionBudget={"maxUnavailable":0}"#, "maxUnavailable"),
    (r#"podDisruptionBudget={"enabled":true}"#, "podDisruptionBudget.enabled wants replicas"),
    (r#"topologySpread=[{"maxSkew":1}]"#, "topologyKey"),
    (r#"topologySpread=[{"topologyKey":"a","whenUnsatisfiable":"Never"}]"#, "whenUnsatisfiable"),
    (r#"podSecurityContext={"runAsUser":0}"#, "runAsUser"),
    (r#"nodeSelector={"a":1}"#, "nodeSelector"),
    (r#"podLabels={"a":true}"#, "podLabels"),
    // Secrets have no place in values.
    (r#"extraObjects=[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}]"#, "extraObjects"),
    (r#"decision={"tls":{"cert":"-----BEGIN CERTIFICATE-----"}}"#, "cert"),
    (r#"decision={"tls":{"crt":"-----BEGIN CERTIFICATE-----"}}"#, "crt"),
    (r#"decision={"tls":{"key":"-----BEGIN PRIVATE KEY-----"}}"#, "key"),
    (r#"decision={"tls":{"secretName":"-----BEGIN PRIVATE KEY-----"}}"#, "secretName"),
    (r#"operator={"apiKey":"secret"}"#, "apiKey"),
    (r#"operator={"providerSecrets":[{"key":"secret"}]}"#, "providerSecrets"),
    (r#"operator={"allowProviderURLs":["https://user:password@a/"]}"#, "allowProviderURLs"),
];

#[test]
fn wrong_values_are_refused_by_name() {
    let helm = helm();
    assert!(WRONG.len() >= 40);
    for (set, key) in WRONG {
        let said = refusal(&helm, set);
        assert!(said.contains(key), "{set}: {said}");
    }
    // A key that is not known is answered with those that are.
    for (set, meant) in [
        ("replica=2", "'replicas'"),
        (r#"image={"repo":"a"}"#, "'repository'"),
        (r#"operator={"clusterId":"a"}"#, "'clusterID'"),
        (r#"sweep={"enable":true}"#, "'enabled'"),
        (r#"decision={"tls":{"secret":"a"}}"#, "'secretName'"),
        (r#"prometheusRule={"runbookUrl":"https://a"}"#, "'runbookURL'"),
    ] {
        let said = refusal(&helm, set);
        assert!(said.contains("not allowed") && said.contains(meant), "{set}: {said}");
    }
    // Who asks for decisions is named where only those named get through.
    let enabled = ["--set", "networkPolicy.enabled=true", "--set", "decision.tls.secretName=a"];
    let said = helm.template(&enabled).unwrap_err().to_string();
    assert!(said.contains("networkPolicy.decisionsFrom"), "{said}");
    let closed = ["--set", "networkPolicy.enabled=true,podMonitor.enabled=true"];
    let said = helm.template(&closed).unwrap_err().to_string();
    assert!(said.contains("networkPolicy.healthFrom"), "{said}");
    let twice = ["--set", "serviceMonitor.enabled=true,podMonitor.enabled=true"];
    let said = helm.template(&twice).unwrap_err().to_string();
    assert!(said.contains("exclude each other"), "{said}");
}

/// Every object of the schema that has keys of its own is closed, and says so.
#[test]
fn a_key_that_is_not_known_is_refused_at_every_level() {
    let schema: Value = serde_json::from_str(&file("values.schema.json")).unwrap();
    let mut levels = Vec::new();
    collect("", &schema, &mut levels);
    assert!(levels.len() >= 15, "{levels:?}");
    let helm = helm();
    for level in &levels {
        let set = if level.is_empty() { "unheardOf=1".to_owned() } else { format!("{level}.unheardOf=1") };
        let said = helm.template(&["--set-json", &set]).map(drop).unwrap_err().to_string();
        assert!(said.contains("unheardOf"), "{set}: {said}");
    }
    // Where labels and the like go, and what a chart around this one shares, is open.
    for open in ["commonLabels.a=\"b\"", "nodeSelector.a=\"b\"", "resources.limits.cpu=1", "global.anything=1"] {
        helm.template(&["--set-json", open]).unwrap();
    }
}

/// The paths of all closed objects; an error where one with keys is open.
fn collect(path: &str, schema: &Value, into: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema["additionalProperties"], false, "{path} is open");
    // The message about one that is not known lists these.
    let names = schema["propertyNames"]["enum"].as_array().map_or(&[][..], Vec::as_slice);
    let names: BTreeSet<&str> = names.iter().filter_map(Value::as_str).collect();
    assert_eq!(names, properties.keys().map(String::as_str).collect(), "propertyNames of {path}");
    into.push(path.to_owned());
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(&path, property, into);
        collect(&format!("{path}[0]"), &property["items"], into);
    }
}
