//! What workloads receive from ConfigMaps: by which ways, what of a value is understood, and that nothing of it is
//! ever shown.

use std::collections::BTreeSet;
use std::sync::Arc;

use clientgrant::sharing::configmap::ConfigMap;
use clientgrant::sharing::finding::{Object, Place};
use clientgrant::sharing::live::Live;
use clientgrant::sharing::picture::{Part, Picture, Read};
use clientgrant::sharing::read::Reader;
use clientgrant::sharing::suggest::suggest;
use clientgrant::sharing::{Evaluation, Finding, Grade, Severity, evaluate, facts, output, sarif};
use serde_json::{Value, json};

use super::paths::{CONTAINERS, Holds, WORKLOADS, cases, pod, workload};
use super::support::{deployment, found, grant, identity, now};

/// A client whose workload is the Deployment `w`.
fn client() -> String {
    identity("a-client", "workloads: [{apiVersion: apps/v1, kind: Deployment, name: w}]")
}

fn configmap(name: &str, data: Value) -> String {
    let meta = json!({"name": name, "namespace": "shop"});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}).to_string()
}

fn reader(objects: &[&str]) -> Reader {
    let mut reader = Reader::default();
    for (at, object) in objects.iter().enumerate() {
        reader.add(&format!("{at}.yaml"), object.as_bytes());
    }
    assert!(reader.failures().is_empty(), "{:?}", reader.failures());
    reader
}

/// Evaluates with ConfigMaps as far as they are given.
fn some(objects: &[&str]) -> Evaluation {
    evaluate(reader(objects).finish(now()), now())
}

/// Evaluates with every ConfigMap that there is.
fn every(objects: &[&str]) -> Evaluation {
    let mut reader = reader(objects);
    reader.every_configmap();
    evaluate(reader.finish(now()), now())
}

fn literals(evaluation: &Evaluation) -> Vec<&Finding> {
    evaluation.findings.iter().filter(|f| f.rule == "SC-401").collect()
}

/// A case of a Secret `s` and its key `k`, of a ConfigMap `s` and its key `client-secret`.
fn of_configmap(fields: &Value) -> Value {
    let text = fields
        .to_string()
        .replace("\"secretKeyRef\"", "\"configMapKeyRef\"")
        .replace("\"secretRef\"", "\"configMapRef\"")
        .replace("\"secret\"", "\"configMap\"")
        .replace("\"secretName\"", "\"name\"")
        .replace("\"k\"", "\"client-secret\"")
        .replace("/k\"", "/client-secret\"")
        .replace("\"./k\"", "\"./client-secret\"");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_way_in_every_container_of_every_workload() {
    let client = identity("a-client", "serviceAccountName: web");
    let map = configmap("s", json!({"client-secret": "abc", "public": "x"}));
    let elsewhere = map.replace("\"shop\"", "\"till\"");
    let (mut receive, mut others) = (0, 0);
    for (name, holds, container, fields) in cases() {
        // What is there is received, whether it had to be or not; what no container mounts nobody receives.
        let receives = match holds {
            Holds::Yes => true,
            Holds::Perhaps => !name.contains("not mounted"),
            Holds::No => name.contains("of a ConfigMap"),
        };
        for list in CONTAINERS {
            for (version, kind) in WORKLOADS {
                let mut fields = of_configmap(&fields);
                fields["serviceAccountName"] = json!("web");
                let object = workload(version, kind, &pod(&fields, list, &of_configmap(&container))).to_string();
                let evaluation = every(&[&client, &map, &object]);
                let what = format!("{name}, {list}, {kind}: {:?}", found(&evaluation));
                let mut findings = literals(&evaluation);
                findings.retain(|finding| finding.subject.name == "w");
                assert_eq!(findings.len(), usize::from(receives), "{what}");
                for finding in &findings {
                    assert_eq!(
                        (finding.grade, finding.clients.as_slice()),
                        (Grade::Direct, &["a-client".to_owned()][..])
                    );
                    let [evidence] = &finding.evidence[..] else { panic!("{what}") };
                    assert_eq!(evidence.object.kind, kind, "{what}");
                    let path = &evidence.path;
                    assert!(path.contains("onfigMap") && path.ends_with(" (ConfigMap/s, key client-secret)"), "{path}");
                }
                assert_eq!(literals(&every(&[&client, &elsewhere, &object])).len(), 0, "{what}: of another namespace");
                assert_eq!(literals(&every(&[&client, &object])).len(), 0, "{what}: it is not there");
                receive += usize::from(receives);
                others += usize::from(!receives);
            }
        }
    }
    println!("{receive} receive it, {others} near misses");
    assert!(receive >= 500 && others >= 300, "{receive} {others}");
}

/// A variable of this name, from a key of the ConfigMap `c`.
fn variable(named: &str, key: &str) -> String {
    let from = format!("{{configMapKeyRef: {{name: c, key: {key}}}}}");
    deployment("w", &format!("containers: [{{name: m, env: [{{name: {named}, valueFrom: {from}}}]}}]"))
}

#[test]
fn a_variable_that_is_named_as_a_credential() {
    let client = client();
    let workload = variable("OIDC_CLIENT_SECRET", "x");
    for (value, count) in
        [("abc", 1), (" abc\n", 1), ("", 0), (" \n", 0), ("${ELSEWHERE}", 0), ("/run/secret", 0), ("a-client", 0)]
    {
        let map = configmap("c", json!({"x": value}));
        for evaluation in [some(&[&client, &map, &workload]), every(&[&client, &map, &workload])] {
            let findings = literals(&evaluation);
            assert_eq!(findings.len(), count, "{value:?}");
            assert!(findings.iter().all(|f| f.grade == Grade::Direct && f.severity == Severity::Low), "{value:?}");
        }
    }
    let map = configmap("c", json!({"x": "abc"}));
    assert_eq!(literals(&every(&[&client, &map, &variable("OTHER", "x")])).len(), 0);
    assert_eq!(literals(&every(&[&client, &map, &variable("OIDC_CLIENT_SECRET", "y")])).len(), 0, "another key");
    assert_eq!(literals(&every(&[&client, &map, &workload.replace("name: w", "name: other")])).len(), 0, "nobody's");
}

/// Without reading a ConfigMap only the name of a variable tells, and that not for sure.
#[test]
fn a_key_is_named_as_the_variable_that_it_becomes() {
    let map = configmap("c", json!({"SECRET": "k3uA9d8s7f6g5h4j", "HOST": "k3uA9d8s7f6g5h4j"}));
    for (prefix, told) in [("OIDC_CLIENT_", true), ("DATABASE_", false), ("", false)] {
        let pod = format!("containers: [{{name: m, envFrom: [{{prefix: '{prefix}', configMapRef: {{name: c}}}}]}}]");
        let all = some(&[&client(), &map, &deployment("w", &pod)]);
        let paths: Vec<_> = literals(&all).iter().flat_map(|f| &f.evidence).map(|e| e.path.clone()).collect();
        assert_eq!(paths.len(), usize::from(told), "{prefix}: {paths:?}");
        assert!(paths.iter().all(|path| path.contains("key SECRET")), "{paths:?}");
    }
}

#[test]
fn what_was_not_read_is_potential() {
    let (client, workload) = (client(), variable("OIDC_CLIENT_SECRET", "x"));
    let evaluation = some(&[&client, &workload]);
    let [finding] = literals(&evaluation)[..] else { panic!("{:?}", found(&evaluation)) };
    assert_eq!((finding.grade, finding.severity), (Grade::Potential, Severity::Info));
    let path = "spec.template.spec.containers[m].env[OIDC_CLIENT_SECRET].valueFrom.configMapKeyRef";
    assert_eq!(finding.evidence[0].path, format!("{path} (ConfigMap/c, key x, which was not read)"));
    assert_eq!(literals(&every(&[&client, &workload])).len(), 0, "it is not there");
    let blank = configmap("c", json!({}));
    assert_eq!(literals(&some(&[&client, &blank, &workload])).len(), 0, "it was read, and has no such key");
    let other = configmap("d", json!({"x": "abc"}));
    assert_eq!(literals(&some(&[&client, &other, &workload]))[0].grade, Grade::Potential, "another one");
    for not in ["OTHER", "OIDC_CLIENT_ID", "CLIENT_SECRET_FILE"] {
        assert_eq!(literals(&some(&[&client, &variable(not, "x")])).len(), 0, "{not}");
    }
    for not in [
        "containers: [{name: m, envFrom: [{configMapRef: {name: client-secret}}]}]",
        "containers: [{name: m, volumeMounts: [{name: v}]}], volumes: [{name: v, configMap: {name: client-secret}}]",
    ] {
        assert_eq!(literals(&some(&[&client, &deployment("w", not)])).len(), 0, "{not}");
    }
}

/// What a file in a ConfigMap says, by a workload that mounts it: a credential, and the client's id beside it.
#[test]
fn a_file_is_looked_at_line_by_line() {
    let mounts =
        "containers: [{name: m, volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, configMap: {name: c}}]";
    let (client, workload) = (client(), deployment("w", mounts));
    let medium = Some(Severity::Medium);
    let low = Some(Severity::Low);
    let long = format!("client_secret=abc\nx={}", "x".repeat(64 << 10));
    let most = format!("client_secret=abc\nx={}", "x".repeat((64 << 10) - 20));
    for (text, expected) in [
        ("client.id=a-client\nclient.secret=abc\n", medium),
        ("client.id = a-client\r\nclient.secret : abc\r\n", medium),
        ("A=1\nexport OIDC_CLIENT_SECRET=\"abc\"\n", low),
        ("export OIDC_CLIENT_SECRET='abc'\nID='a-client';\n", medium),
        ("oidc:\n  clientID: a-client # the shop\n  clientSecret: 'abc'\n", medium),
        ("clients:\n- client-secret: abc\n", low),
        ("{\n  \"id\": \"a-client\",\n  \"client_secret\": \"abc\"\n}", medium),
        ("{\"oidc\":{\"client_secret\":\"abc\",\"client_id\":\"a-client\"}}", medium),
        ("config: \"{\\\"client_secret\\\":\\\"abc\\\"}\"\nx: y\n", low),
        ("run \\\n  --client-secret=abc \\\n", low),
        ("'id' => 'a-client',\n'client_secret' => 'abc',\n", medium),
        ("\n\n# its client\nclient_secret=abc", low),
        (&most, low),
        (&long, None),
        ("# client_secret=abc\n// client_secret: abc\n; client_secret=abc\n! client_secret=abc\n", None),
        ("client_secret=${ELSEWHERE}\nclient_secret=$(X)\nclient_secret=\n", None),
        ("client_secret: null\nclient_secret: ~\nclient_secret: ''\n", None),
        ("client_secret: {{ .Values.secret }}\nclient_secret: x-{{ .Values.secret }}\n", None),
        ("client_secret: \"{{ a }}\"\n", None),
        ("client_secret=/run/secret\nclient_secret_file=abc\n", None),
        ("clientSecret:\n  name: abc\n", None),
        ("a-client\nclient_secret\n", None),
        ("client_id=a-client\n", None),
        ("secret=abc\n=\n:\n = : \n", None),
    ] {
        let evaluation = every(&[&client, &configmap("c", json!({"app.conf": text})), &workload]);
        let findings = literals(&evaluation);
        assert_eq!(findings.iter().map(|f| f.severity).max(), expected, "{text}");
        let shown: Vec<usize> = findings.iter().map(|f| f.evidence.len()).collect();
        assert!(shown == [] as [usize; 0] || shown == [1], "{text}: one key is shown once");
    }
    // Each key for itself, and each container for itself.
    let two = configmap("c", json!({"id": "a-client", "client-secret": "abc"}));
    assert_eq!(literals(&every(&[&client, &two, &workload]))[0].severity, Severity::Medium);
    let sides = "containers: [{name: m, envFrom: [{configMapRef: {name: c}}]}, {name: n, envFrom: [{configMapRef: {name: d}}]}]";
    let (c, d) = (configmap("c", json!({"id": "a-client"})), configmap("d", json!({"client-secret": "abc"})));
    assert_eq!(literals(&every(&[&client, &c, &d, &deployment("w", sides)]))[0].severity, Severity::Low);
    // A literal of the manifest and one of a ConfigMap stand beside each other.
    let both = "containers: [{name: m, env: [{name: ID, value: a-client}], envFrom: [{configMapRef: {name: d}}]}]";
    assert_eq!(literals(&every(&[&client, &d, &deployment("w", both)]))[0].severity, Severity::Medium);
}

#[test]
fn what_is_malformed_says_nothing() {
    let (client, workload) = (client(), variable("OTHER", "client-secret"));
    let text = json!({"client-secret": "abc"});
    let good = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"}});
    for (field, value) in [
        ("data", json!(null)),
        ("data", json!(5)),
        ("data", json!("client-secret: abc")),
        ("data", json!([{"client-secret": "abc"}])),
        ("data", json!({"client-secret": 5})),
        ("data", json!({"client-secret": {"client-secret": "abc"}})),
        ("data", json!({"client-secret": null})),
        ("binaryData", text.clone()),
        ("stringData", text.clone()),
        ("spec", text.clone()),
    ] {
        let mut odd = good.clone();
        odd[field] = value;
        assert_eq!(literals(&every(&[&client, &odd.to_string(), &workload])).len(), 0, "{odd}");
        assert!(ConfigMap::read(&odd, &BTreeSet::new()).is_blank(), "{odd}");
    }
    let mut plain = good.clone();
    plain["data"] = text;
    assert_eq!(literals(&every(&[&client, &plain.to_string(), &workload])).len(), 1, "positive control");
    // Secrets are not looked at, whatever they say.
    plain["kind"] = json!("Secret");
    assert_eq!(literals(&every(&[&client, &plain.to_string(), &workload])).len(), 0);
    plain["kind"] = json!("ConfigMap");
    plain["apiVersion"] = json!("example.com/v1");
    assert_eq!(literals(&every(&[&client, &plain.to_string(), &workload])).len(), 0);
}

#[test]
fn of_two_with_one_name_both_count() {
    let client = client();
    let workload = deployment("w", "containers: [{name: m, envFrom: [{configMapRef: {name: c}}]}]");
    let one = configmap("c", json!({"a": "x", "id": "a-client", "client-secret": ""}));
    let other = configmap("c", json!({"client-secret": "abc", "z": "y"}));
    let there = every(&[&client, &workload, &one, &other]);
    assert_eq!(literals(&there).len(), 1);
    assert_eq!(literals(&there)[0].severity, Severity::Medium);
    assert_eq!(literals(&there), literals(&every(&[&client, &workload, &other, &one])));
    // What they say of one key is taken together.
    let one = configmap("c", json!({"x": "${ELSEWHERE}\nid=a-client"}));
    for more in ["abc", "${ELSEWHERE}\nclient_secret=abc"] {
        let other = configmap("c", json!({"x": more}));
        for pair in [[&one, &other], [&other, &one]] {
            let evaluation = every(&[&client, &variable("CLIENT_SECRET", "x"), pair[0], pair[1]]);
            let severities: Vec<Severity> = literals(&evaluation).iter().map(|f| f.severity).collect();
            assert_eq!(severities, [Severity::Medium], "{more}");
        }
    }
}

#[test]
fn what_every_pod_has_is_not_kept_and_the_rest_once() {
    let roots = |name: &str| {
        let source = json!({"configMap": {"name": name, "items": [{"key": "ca.crt", "path": "ca.crt"}]}});
        let volume = json!({"name": "kube-api-access-x7x7x", "projected": {"sources": [source]}});
        let mount = json!({"name": "kube-api-access-x7x7x"});
        let container = json!({"name": "m", "volumeMounts": [mount, mount]});
        let pod = workload("v1", "Pod", &json!({"containers": [container], "volumes": [volume]}));
        facts::extract(&pod, Place::default(), &BTreeSet::new()).unwrap().template.configmaps.len()
    };
    assert_eq!((roots("kube-root-ca.crt"), roots("more-roots")), (0, 1));
}

/// Whose client a workload is may stand in a ConfigMap.
#[test]
fn identities_are_proposed_from_it() {
    let secret = "{name: OIDC_CLIENT_SECRET, valueFrom: {secretKeyRef: {name: s, key: k}}}";
    let pod = format!(
        "serviceAccountName: web, containers: [{{name: m, env: [{secret}], envFrom: [{{configMapRef: {{name: c}}}}]}}]"
    );
    let workload = deployment("w", &pod);
    let proposed = |data: Value| {
        suggest(reader(&[&grant("bot", "ann", "x"), &workload, &configmap("c", data)]).finish(now()), now())
    };
    let text = proposed(json!({"ANY": "bot", "OTHER": "x"}));
    let why = "spec.template.spec.containers[m].envFrom[0].configMapRef (ConfigMap/c, key ANY) is the client's id.";
    for part in [why, "serviceAccountName: web", "kind: Deployment, name: w}", "secret: {name: s, key: k}"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let other = proposed(json!({"OIDC_CLIENT_ID": "somebody-else"}));
    assert!(other.contains("(ConfigMap/c, key OIDC_CLIENT_ID) is named as a client's id;"), "{other}");
    assert!(!other.contains("somebody-else") && !other.contains("name: w}"), "{other}");
}

#[test]
fn no_value_is_shown() {
    let canary = "c4n4ry-51d7";
    let file = format!("client_id={canary}\nclient_secret={canary}\nother={canary}\n{canary}");
    let data =
        json!({"CLIENT_SECRET": canary, "CLIENT_ID": canary, "OTHER": canary, "app.conf": file, "id": "a-client"});
    let pod = "containers: [{name: m, envFrom: [{configMapRef: {name: c}}], volumeMounts: [{name: v}], \
               env: [{name: OIDC_CLIENT_SECRET, valueFrom: {configMapKeyRef: {name: c, key: OTHER}}}]}], \
               volumes: [{name: v, configMap: {name: c}}]";
    let (client, workload, map) = (client(), deployment("w", pod), configmap("c", data));
    let evaluation = every(&[&client, &workload, &map]);
    let findings = literals(&evaluation);
    assert_eq!(findings.iter().map(|f| f.evidence.len()).collect::<Vec<_>>(), [5], "{findings:?}");
    let input = reader(&[&client, &workload, &map]).finish(now());
    let kept = format!("{input:?}");
    let proposals = suggest(input, now());
    assert!(proposals.contains("named as a client's id"), "{proposals}");
    for text in
        [kept, proposals, output::table(&evaluation), output::json(&evaluation), sarif::log(&evaluation, "a.yaml")]
    {
        assert!(!text.contains(canary) && text.contains("SC-401") | text.contains("client"), "{text}");
    }
}

/// What may be counts one step less, also beside what is.
#[test]
fn the_worst_of_several_counts() {
    let variable = |n: &str, from: &str| format!("{{name: {n}CLIENT_SECRET, {from}}}");
    let unread = "valueFrom: {configMapKeyRef: {name: c, key: x}}";
    let of = |first: &str, second: &str| {
        let id = "{name: ID, value: a-client}";
        let pod = format!(
            "containers: [{{name: m, env: [{id}, {}]}}, {{name: n, env: [{}]}}]",
            variable("A", first),
            variable("B", second)
        );
        let evaluation = some(&[&client(), &deployment("w", &pod)]);
        let [finding] = literals(&evaluation)[..] else { panic!("{:?}", found(&evaluation)) };
        assert_eq!(finding.evidence.len(), 2);
        (finding.severity, finding.grade)
    };
    assert_eq!(of(unread, "value: abc"), (Severity::Low, Grade::Direct), "a medium that may be is a low");
    assert_eq!(of("value: abc", unread), (Severity::Medium, Grade::Direct));
    assert_eq!(of("value: abc", "value: def"), (Severity::Medium, Grade::Direct));
}

/// The operator's view: without the list a name is all, and what cannot be listed makes nothing else unsure.
#[test]
fn whether_all_were_read_counts() {
    let input = reader(&[&client(), &variable("OIDC_CLIENT_SECRET", "x")]).finish(now());
    let mut picture = Picture::default();
    let part = |resource: &str| Part { resource: resource.into(), namespace: String::new() };
    picture.part(&part("deployments.apps"), Read::Complete);
    let facts = input.facts[0].clone();
    picture.workload("deployments.apps", &facts.object.clone(), Some(facts));
    picture.declared(input.identities, [], now());
    let grades = |picture: &mut Picture| {
        let evaluation = picture.evaluate(now());
        assert!(picture.gaps().is_empty() && picture.check().is_empty());
        literals(&evaluation).iter().map(|f| f.grade).collect::<Vec<_>>()
    };
    assert_eq!(grades(&mut picture), [Grade::Potential], "nobody asks for ConfigMaps");
    picture.part(&part("configmaps"), Read::Waiting);
    assert!(!picture.settled());
    picture.part(&part("configmaps"), Read::Refused("no"));
    assert!(picture.settled());
    assert_eq!(grades(&mut picture), [Grade::Potential], "they may not be listed");
    picture.part(&part("configmaps"), Read::Complete);
    assert_eq!(grades(&mut picture), [], "it is not there");
    let says = |data: Value| {
        let object = serde_json::from_str(&configmap("c", data)).unwrap();
        Some(ConfigMap::read(&object, &BTreeSet::new()))
    };
    assert!(picture.configmap("shop", "c", says(json!({"x": "abc"}))));
    assert!(!picture.configmap("shop", "c", says(json!({"x": "another", "y": ""}))), "it says the same");
    assert_eq!(grades(&mut picture), [Grade::Direct]);
    let more = Part { resource: "configmaps".into(), namespace: "till".into() };
    picture.part(&more, Read::Refused("no"));
    assert_eq!(grades(&mut picture), [Grade::Direct], "what was read was read");
    assert!(picture.configmap("shop", "c", says(json!({"x": ""}))));
    assert_eq!(grades(&mut picture), [Grade::Potential]);
    picture.part(&more, Read::Complete);
    assert_eq!(grades(&mut picture), []);
    assert!(picture.configmap("shop", "c", says(json!({"x": "abc"}))) && picture.configmap("shop", "c", None));
    assert_eq!(grades(&mut picture), []);
    picture.unreadable("configmaps", "shop", "c");
    assert_eq!(grades(&mut picture), []);
}

/// What nobody receives is no news, and wakes nobody.
#[test]
fn only_those_that_refer_to_it_are_looked_at() {
    let says = |text: &str| {
        let object = serde_json::from_str(&configmap("c", json!({"x": text}))).unwrap();
        Some(ConfigMap::read(&object, &BTreeSet::new()))
    };
    let mut live = Live::default();
    assert!(!live.configmap("shop", "c", says("abc")), "nobody refers to it");
    let facts = reader(&[&variable("CLIENT_SECRET", "x")]).finish(now()).facts.remove(0);
    let object = facts.object.clone();
    live.workload(&object, Some(facts.clone()));
    let received = |live: &Live| live.index().workloads().map(|w| w.received.len()).sum::<usize>();
    assert_eq!(received(&live), 1, "it was there before");
    assert!(live.configmap("shop", "c", says("")));
    assert_eq!(received(&live), 1, "what says nothing is not kept, and not all were read");
    live.configmaps_whole(true);
    assert_eq!(received(&live), 0);
    assert!(live.configmap("shop", "c", says("abc")) && !live.configmap("shop", "c", says("def")));
    assert!(!live.configmap("shop", "d", says("abc")) && !live.configmap("till", "c", says("abc")));
    assert_eq!(received(&live), 1);
    // It is gone, and refers to nothing any more.
    live.workload(&object, None);
    assert!(!live.configmap("shop", "c", None));
    let other = Object::new("Deployment", "shop", "v");
    live.workload(&other, Some(facts::Facts { object: other.clone(), ..facts.clone() }));
    let bare = reader(&[&deployment("v", "containers: []")]).finish(now()).facts.remove(0);
    live.workload(&other, Some(facts::Facts { template: Arc::clone(&bare.template), ..facts }));
    assert!(!live.configmap("shop", "c", says("abc")), "it refers to another now");
    assert_eq!(live.differences(), Vec::<&str>::new());
}
