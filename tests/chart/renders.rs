//! What the chart renders to, without a cluster.

use std::collections::BTreeSet;
use std::process::Command;

use clientgrant::api::schema;
use clientgrant::sharing::facts::KINDS;
use clientgrant_testbed::helm::{Helm, chart};
use clientgrant_testbed::{RunDir, Tools};
use serde_json::{Value, json};

use crate::support::{FULL, definitions, file, helm, objects, one, rendered, root};

/// The oldest and the newest Kubernetes that is supported.
const KUBERNETES: [&str; 2] = ["1.33.0", "1.36.3"];

#[test]
fn every_profile_is_linted_and_rendered_for_the_oldest_and_the_newest_kubernetes() {
    let (helm, chart) = (helm(), chart());
    let dir = RunDir::new("values").unwrap();
    let full = dir.write("full.yaml", FULL).unwrap();
    let profiles =
        [chart.join("values.yaml"), chart.join("values-ha.yaml"), chart.join("values-namespaced.yaml"), full];
    let three = Helm::three(&Tools::find().unwrap()).unwrap();
    assert!(three.run(&["version", "--template", "{{.Version}}"]).unwrap().stdout.starts_with("v3."));
    let mut rendered = Vec::new();
    for profile in &profiles {
        let values = profile.to_str().unwrap();
        for version in KUBERNETES {
            let args = ["--values", values, "--set", "operator.clusterID=a", "--kube-version", version];
            let lint = helm.run(&[&["lint", "--strict", chart.to_str().unwrap()][..], &args].concat()).unwrap();
            assert!(lint.success, "{values} {version}: {}{}", lint.stdout, lint.stderr);
            rendered.push(helm.template(&args).unwrap());
        }
        let args = ["--values", values, "--set", "operator.clusterID=a", "--kube-version", KUBERNETES[1]];
        assert_eq!(objects(&three.template(&args).unwrap()), objects(rendered.last().unwrap()), "{values}: Helm 3");
    }
    for pair in rendered.chunks(2) {
        assert_eq!(pair[0], pair[1], "both versions get the same");
    }
    let error = helm.template(&["--kube-version", "1.32.9"]).unwrap_err().to_string();
    assert!(error.contains("incompatible with Kubernetes"), "{error}");
    assert_eq!(file("Chart.yaml").matches("1.33.0").count(), 1, "the oldest stands in Chart.yaml");
}

#[test]
fn the_definitions_are_those_of_the_repository_byte_for_byte() {
    let ours: Vec<_> = schema::files();
    assert!(ours.len() >= 5);
    assert_eq!(definitions(&root().join("crds")), ours, "run `make generate`");
    assert_eq!(definitions(&chart().join("files/crds")), ours, "run `make generate`");
    let helm = helm();
    let kept = helm.template(&[]).unwrap();
    let plain = helm.template(&["--set", "crds.keep=false"]).unwrap();
    for (name, text) in &ours {
        assert!(plain.contains(text.as_str()), "{name}");
        let head = "\nmetadata:\n";
        let keep = format!("{head}  annotations:\n    helm.sh/resource-policy: keep\n");
        assert_eq!(text.matches(head).count(), 1, "{name}");
        assert!(kept.contains(&text.replace(head, &keep)), "{name}");
    }
    let count = |text: &str| text.matches("\nkind: CustomResourceDefinition\n").count();
    assert_eq!((count(&kept), count(&plain)), (ours.len(), ours.len()));
    assert_eq!(kept.matches("helm.sh/resource-policy: keep").count(), ours.len());
    assert!(!plain.contains("helm.sh/resource-policy"));
    assert_eq!(count(&helm.template(&["--set", "crds.enabled=false"]).unwrap()), 0);
}

#[test]
fn every_object_has_labels_and_a_namespace_where_it_needs_one_and_no_name_twice() {
    let dir = RunDir::new("values").unwrap();
    let full = dir.write("full.yaml", FULL).unwrap();
    let all = rendered(&["--values", full.to_str().unwrap()]);
    let cluster = ["CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"];
    let admission = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
    let cluster = [&cluster[..], &admission].concat();
    let mut names = BTreeSet::new();
    for object in &all {
        let (kind, metadata) = (object["kind"].as_str().unwrap(), &object["metadata"]);
        assert!(names.insert(format!("{kind}/{}", metadata["name"])), "{kind} {metadata} is there twice");
        assert_eq!(metadata["namespace"].is_null(), cluster.contains(&kind), "{kind} {metadata}");
        if kind != "CustomResourceDefinition" {
            let labels = &metadata["labels"];
            // No Service may take the pod of `helm test` for one that answers.
            let name = if kind == "Pod" { "clientgrant-test" } else { "clientgrant" };
            assert_eq!(labels["app.kubernetes.io/name"], name, "{kind}");
            assert_eq!(labels["app.kubernetes.io/managed-by"], "Helm", "{kind}");
            assert_eq!(labels["team"], "platform", "{kind}");
        }
    }
    let kinds: BTreeSet<&str> = all.iter().map(|o| o["kind"].as_str().unwrap()).collect();
    for kind in ["PodDisruptionBudget", "NetworkPolicy", "CronJob", "ConfigMap", "ValidatingAdmissionPolicy", "Pod"] {
        assert!(kinds.contains(kind), "{kind}: {kinds:?}");
    }
    one(&all, "ConfigMap", "clientgrant-more");
    let deployment = one(&all, "Deployment", "");
    let pod = &deployment["spec"]["template"];
    let env: Vec<&Value> =
        pod["spec"]["containers"][0]["env"].as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
    assert_eq!(env.iter().map(|n| n.to_string()).collect::<BTreeSet<_>>().len(), env.len(), "{env:?}");
    // Everything that selects pods finds them, whatever labels were wanted.
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["more"], "labels");
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &one(&all, "Service", "")["spec"]["selector"],
        &one(&all, "PodDisruptionBudget", "")["spec"]["selector"]["matchLabels"],
        &one(&all, "NetworkPolicy", "")["spec"]["podSelector"]["matchLabels"],
        &pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        &one(&all, "PodMonitor", "")["spec"]["selector"]["matchLabels"],
    ] {
        let selector = selector.as_object().unwrap();
        assert!(selector.len() == 2 && selector.iter().all(|(name, value)| labels[name] == *value), "{selector:?}");
    }
}

fn args(deployment: &Value) -> Vec<String> {
    let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    args.as_array().unwrap().iter().map(|arg| arg.as_str().unwrap().replace("$(POD_NAME)", "clientgrant-0")).collect()
}

/// The binary itself takes the flags: the next thing that it misses is a cluster, or the mounted Secret.
#[test]
fn the_operator_knows_every_flag_and_the_chart_sets_every_one() {
    let dir = RunDir::new("values").unwrap();
    let full = dir.write("full.yaml", FULL).unwrap();
    let run = |args: &[String]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clientgrant"));
        command.args(args).env("KUBECONFIG", dir.path().join("none")).env_remove("KUBERNETES_SERVICE_HOST");
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    let usual = args(one(&rendered(&[]), "Deployment", ""));
    assert!(run(&usual).starts_with("clientgrant: no Kubernetes configuration"), "{}", run(&usual));
    let full = args(one(&rendered(&["--values", full.to_str().unwrap()]), "Deployment", ""));
    assert!(run(&full).starts_with("clientgrant: /etc/clientgrant/tls/tls.crt cannot be read"), "{}", run(&full));

    let help = Command::new(env!("CARGO_BIN_EXE_clientgrant")).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let flags: BTreeSet<&str> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
    let named = |flag: &&str| full.iter().any(|arg| arg.split('=').next() == Some(flag));
    let mut missing: Vec<&str> =
        flags.iter().map(|f| f.trim_end_matches(['`', '.', ',', ':'])).filter(|f| !named(f)).collect();
    missing.dedup();
    assert_eq!(missing, ["--help", "--leader-election"], "what the chart does not set");
}

#[test]
fn a_pod_is_as_restricted_as_can_be_and_values_do_not_loosen_it() {
    let wide = json!({"podSecurityContext": {"runAsUser": null, "runAsGroup": null, "fsGroup": null}}).to_string();
    let dir = RunDir::new("values").unwrap();
    let wide = dir.write("wide.yaml", wide).unwrap();
    for (args, user) in [(vec![], json!(65532)), (vec!["--values", wide.to_str().unwrap()], Value::Null)] {
        let all = rendered(&[&args[..], &["--set", "sweep.enabled=true"]].concat());
        let cron = &one(&all, "CronJob", "")["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        let operator = &one(&all, "Deployment", "")["spec"]["template"]["spec"];
        for pod in [operator, cron, &one(&all, "Pod", "-test")["spec"]] {
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
            assert_eq!(pod["securityContext"]["runAsUser"], user);
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
            let hard = json!({
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            });
            assert_eq!(pod["containers"][0]["securityContext"], hard);
            assert!(pod["hostNetwork"].is_null() && pod["volumes"].is_null());
        }
    }
}

#[test]
fn decisions_are_offered_where_there_is_a_certificate() {
    let ports = |all: &[Value]| -> Vec<String> {
        let ports = one(all, "Service", "")["spec"]["ports"].as_array().unwrap().clone();
        ports.iter().map(|p| p["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ports(&rendered(&[])), ["health"]);
    let all = rendered(&["--set", "decision.tls.secretName=decisions-tls"]);
    assert_eq!(ports(&all), ["decisions", "health"]);
    let pod = &one(&all, "Deployment", "")["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], "decisions-tls");
    assert_eq!(pod["volumes"][0]["secret"]["defaultMode"], 0o440);
    let mount = &pod["containers"][0]["volumeMounts"][0];
    assert!(mount["subPath"].is_null() && mount["readOnly"] == true, "a file of its own would never change: {mount}");
}

/// Other authorities are trusted by whatever asks an identity provider.
#[test]
fn who_signs_certificates_of_identity_providers_can_be_said() {
    let mounted = |pod: &Value| {
        let container = &pod["containers"][0];
        let env = container["env"].as_array().unwrap().iter().find(|e| e["name"] == "SSL_CERT_FILE");
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        let mount = mounts.clone().find(|m| m["name"] == "trust").map(|m| m["mountPath"].clone());
        let volumes = pod["volumes"].as_array().into_iter().flatten();
        let volume = volumes.clone().find(|v| v["name"] == "trust").map(|v| v["configMap"].clone());
        (env.map(|e| e["value"].clone()), mount, volume, volumes.count(), mounts.count())
    };
    let pods = |args: &[&str]| {
        let all = rendered(&[&["--set", "sweep.enabled=true"], args].concat());
        let template = one(&all, "CronJob", "")["spec"]["jobTemplate"]["spec"]["template"]["spec"].clone();
        [mounted(&one(&all, "Deployment", "")["spec"]["template"]["spec"]), mounted(&template)]
    };
    let volume = json!({"name": "roots", "items": [{"key": "all.pem", "path": "ca.crt"}]});
    let said = |more: usize| {
        let (env, mount) = (json!("/etc/clientgrant/trust/ca.crt"), json!("/etc/clientgrant/trust"));
        (Some(env), Some(mount), Some(volume.clone()), 1 + more, 1 + more)
    };
    let roots = ["--set", "trust.configMapName=roots,trust.key=all.pem"];
    assert_eq!(pods(&roots), [said(0), said(0)]);
    let both = [&roots[..], &["--set", "decision.tls.secretName=tls"]].concat();
    assert_eq!(pods(&both), [said(1), said(0)]);
    assert_eq!(pods(&[]), [(None, None, None, 0, 0), (None, None, None, 0, 0)]);
    assert_eq!(pods(&["--set", "decision.tls.secretName=tls"])[0], (None, None, None, 1, 1));
}

/// Roles name what they allow, and the operator's allow it nothing beyond its own business.
#[test]
fn no_role_has_a_wildcard_or_reads_secrets_that_are_not_named() {
    let all = rendered(&["--set-json", r#"operator.providerSecrets=["one","two"]"#]);
    for role in all.iter().filter(|o| o["kind"] == "ClusterRole" || o["kind"] == "Role") {
        for rule in role["rules"].as_array().unwrap() {
            assert!(!rule.to_string().contains('*'), "{rule}");
            if rule["resources"].to_string().contains("secrets") {
                assert_eq!((&rule["verbs"], &rule["resourceNames"]), (&json!(["get"]), &json!(["one", "two"])));
                assert_eq!(role["kind"], "Role");
            }
        }
    }
    let none = rendered(&["--set-json", "operator.providerSecrets=[]"]);
    assert!(!one(&none, "Role", "")["rules"].to_string().contains("secrets"));
    let aggregated = |all: &[Value]| -> Vec<String> {
        let label = |o: &&Value| o["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true";
        all.iter().filter(label).map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(aggregated(&all), ["clientgrant-viewer"]);
    assert!(aggregated(&rendered(&["--set", "rbac.aggregateToView=false"])).is_empty());
    assert!(!all.iter().any(|o| o["metadata"]["labels"].to_string().contains("aggregate-to-edit")));
}

/// Every kind that is looked at for shared credentials may be listed, those that few clusters have by a switch, and
/// none that is not looked at.
#[test]
fn what_is_looked_at_for_shared_credentials_may_be_listed() {
    let rights = |more: &str| -> BTreeSet<String> {
        let mut values = json!({"rbac": false, "reportAPI": "none"});
        for switch in more.split_whitespace() {
            values[switch] = true.into();
        }
        let rules = |values: Value| -> BTreeSet<String> {
            let all = rendered(&["--set-json", &format!("sharing={values}")]);
            let rules = one(&all, "ClusterRole", "clientgrant")["rules"].as_array().unwrap().clone();
            let texts = |value: &Value| -> Vec<String> {
                value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
            };
            rules
                .iter()
                .filter(|rule| rule["verbs"] == json!(["list", "watch"]))
                .flat_map(|rule| {
                    let groups = texts(&rule["apiGroups"]);
                    let resources = texts(&rule["resources"]);
                    groups.into_iter().flat_map(move |group| {
                        resources.clone().into_iter().map(move |resource| format!("{resource}.{group}"))
                    })
                })
                .collect()
        };
        let without = rules(json!({"detect": false}));
        rules(values).difference(&without).cloned().collect()
    };
    let all: BTreeSet<String> = KINDS.iter().map(|kind| format!("{}.{}", kind.plural, kind.group)).collect();
    let accounts = BTreeSet::from(["serviceaccounts.".to_owned()]);
    let most = rights("argoRollouts knativeServices gateways");
    assert_eq!(most.difference(&accounts).cloned().collect::<BTreeSet<_>>(), all);
    let gateways: BTreeSet<String> = most.difference(&rights("argoRollouts knativeServices")).cloned().collect();
    let without_pods = KINDS.iter().filter(|kind| !kind.has_pods());
    assert_eq!(gateways, without_pods.map(|kind| format!("{}.{}", kind.plural, kind.group)).collect());
}

/// ConfigMaps of others are nobody's business, unless the operator is asked to look at them.
#[test]
fn who_lists_configmaps_is_asked_to() {
    let lists = |args: &[&str]| {
        let all = rendered(args);
        let operator = one(&all, "ClusterRole", "clientgrant")["rules"].as_array().unwrap().clone();
        let mut rules = operator.iter().filter(|rule| rule["resources"].to_string().contains("configmaps"));
        (rules.next().map(|rule| rule["verbs"].clone()), rules.count())
    };
    let asked = ["--set", "sharing.configMaps=true"];
    assert_eq!(lists(&[]), (None, 0));
    assert_eq!(lists(&asked), (Some(json!(["list", "watch"])), 0));
    assert_eq!(lists(&[&asked[..], &["--set", "sharing.detect=false"]].concat()), (None, 0));
    let named = ["--set-json", r#"watchNamespaces=["team-a"]"#, "--set", "operator.clusterID=team"];
    let watched = |args: &[&str]| one(&rendered(args), "Role", "-watched")["rules"].to_string().contains("configmaps");
    assert_eq!((watched(&named), watched(&[&asked[..], &named].concat())), (false, true));
}

/// The profile for single namespaces has no object outside of them, and says so where it is not filled in.
#[test]
fn the_profile_for_namespaces_has_nothing_that_belongs_to_the_cluster() {
    let values = chart().join("values-namespaced.yaml");
    let profile = ["--values", values.to_str().unwrap(), "--set", "sweep.enabled=true"];
    let named = ["--set-json", r#"watchNamespaces=["team-a","team-b"]"#, "--set", "operator.clusterID=team"];
    let all = rendered(&[&profile[..], &named].concat());
    for object in &all {
        assert!(object["metadata"]["namespace"].is_string(), "{} {}", object["kind"], object["metadata"]["name"]);
    }
    let mut roles: Vec<_> = all.iter().filter(|o| o["kind"] == "Role").collect();
    roles.retain(|role| role["metadata"]["name"] == "clientgrant-watched");
    let namespaces: Vec<&Value> = roles.iter().map(|role| &role["metadata"]["namespace"]).collect();
    assert_eq!(namespaces, ["team-a", "team-b"]);
    for role in all.iter().filter(|o| o["kind"] == "Role" && o["metadata"]["namespace"] == "clientgrant-system") {
        assert!(!role["rules"].to_string().contains("secrets"), "providers name Secrets of their own namespaces");
    }
    let said = helm().template(&profile).unwrap_err().to_string();
    assert!(said.contains("operator.clusterID"), "{said}");
    let unfilled = rendered(&[&profile[..], &["--set", "operator.clusterID=team"]].concat());
    assert!(
        unfilled.iter().any(|o| o["metadata"]["namespace"] == "name-your-namespaces"),
        "no such namespace is there"
    );
}

/// Policies come and go with their switches.
#[test]
fn each_policy_has_a_switch_and_a_binding() {
    let names = |args: &[&str], kind: &str| -> Vec<String> {
        let all = rendered(args);
        all.iter().filter(|o| o["kind"] == kind).map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    for (set, policies) in [
        ("policies.confineOperator=true", &["clientgrant-confine-operator"][..]),
        ("policies.confineOperator=false", &[]),
        ("policies.maxLifetime=90d", &["clientgrant-confine-operator", "clientgrant-lifetime", "clientgrant-renewal"]),
        ("policies.guardFinalizer=true", &["clientgrant-confine-operator", "clientgrant-guard-finalizer"]),
    ] {
        assert_eq!(names(&["--set", set], "ValidatingAdmissionPolicy"), policies, "{set}");
        assert_eq!(names(&["--set", set], "ValidatingAdmissionPolicyBinding"), policies, "{set}");
    }
    // An expression knows hours, and a person says days.
    let all = rendered(&["--set", "policies.maxLifetime=90d"]);
    let lifetime = &one(&all, "ValidatingAdmissionPolicy", "-lifetime")["spec"]["validations"][0];
    assert!(lifetime["expression"].as_str().unwrap().ends_with("duration('2160h')"), "{lifetime}");
}
