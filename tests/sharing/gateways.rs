//! Custom resources that name a client's Secret without pods: every reference of every kind, near misses, and
//! what must not be said of what has no pods.

use std::collections::BTreeSet;

use clientgrant::api::ClientIdentity;
use clientgrant::sharing::facts::{KINDS, extract};
use clientgrant::sharing::finding::Place;
use clientgrant::sharing::read::Reader;
use clientgrant::sharing::role::Appointed;
use clientgrant::sharing::suggest::suggest;
use clientgrant::sharing::{Grade, Severity, evaluate};
use serde_json::{Value, json};

use super::support::{deployment, found, grant, holds, identity, now, only, open, scan, scan_cluster, told};

/// What a case expects.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Holds {
    Yes,
    Perhaps,
    No,
}
use Holds::{No, Perhaps, Yes};

/// `apiVersion` and kind.
type Kind = (&'static str, &'static str);

const ENVOY: Kind = ("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy");
const KONG: Kind = ("configuration.konghq.com/v1", "KongPlugin");
const NGINX: Kind = ("k8s.nginx.org/v1", "Policy");
const GRAFANA: Kind = ("grafana.integreatly.org/v1beta1", "GrafanaDatasource");

/// An object of a kind, named `gate` in `shop`, with these fields at the top.
fn object((version, kind): (&str, &str), fields: &Value) -> String {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "gate", "namespace": "shop"}});
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object.to_string()
}

fn oidc(fields: &Value) -> Value {
    json!({"spec": {"oidc": fields}})
}

fn envoy(secret: &Value) -> Value {
    oidc(&json!({ "clientSecret": secret }))
}

fn patch(reference: &Value) -> Value {
    json!({"plugin": "oidc", "configPatches": [{"path": "/client_secret", "valueFrom": {"secretKeyRef": reference}}]})
}

fn datasource(reference: &Value) -> Value {
    json!({"spec": {"valuesFrom": [
        {"targetPath": "url", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "url"}}},
        {"targetPath": "secureJsonData.oauth2ClientSecret", "valueFrom": {"secretKeyRef": reference}},
    ]}})
}

/// Name, kind, what is expected, where, the object's fields. The slot of the client is `s#client-secret`.
fn cases() -> Vec<(&'static str, Kind, Holds, &'static str, Value)> {
    let (secret, id) = ("spec.oidc.clientSecret", "spec.oidc.clientIDRef");
    let (from, patches) = ("configFrom.secretKeyRef", "configPatches[0].valueFrom.secretKeyRef");
    let values = "spec.valuesFrom[1].valueFrom.secretKeyRef";
    let key = |name: &str, key: &str| json!({"name": name, "key": key});
    let right = || key("s", "client-secret");
    let optional = || json!({"name": "s", "key": "client-secret", "optional": true});
    let config = |reference: Value| json!({"plugin": "openid-connect", "configFrom": {"secretKeyRef": reference}});
    vec![
        ("name", ENVOY, Yes, secret, envoy(&json!({"name": "s"}))),
        ("its own namespace", ENVOY, Yes, secret, envoy(&json!({"name": "s", "namespace": "shop"}))),
        ("said to be a Secret", ENVOY, Yes, secret, envoy(&json!({"name": "s", "group": "", "kind": "Secret"}))),
        ("another Secret", ENVOY, No, "", envoy(&json!({"name": "t"}))),
        ("another kind", ENVOY, No, "", envoy(&json!({"name": "s", "kind": "ConfigMap"}))),
        ("another group", ENVOY, No, "", envoy(&json!({"name": "s", "group": "example.com"}))),
        ("a text for an object", ENVOY, No, "", envoy(&json!("s"))),
        ("a list for an object", ENVOY, No, "", envoy(&json!([{"name": "s"}]))),
        ("a number for a name", ENVOY, No, "", envoy(&json!({"name": 7}))),
        ("no name", ENVOY, No, "", envoy(&json!({}))),
        ("a key is not asked for", ENVOY, Yes, secret, envoy(&json!({"name": "s", "key": "other"}))),
        ("the id's Secret has another key", ENVOY, No, "", oidc(&json!({"clientIDRef": {"name": "s"}}))),
        (
            "beside the id's",
            ENVOY,
            Yes,
            secret,
            oidc(&json!({"clientIDRef": {"name": "t"}, "clientSecret": {"name": "s"}})),
        ),
        ("at the top", ENVOY, No, "", json!({"oidc": {"clientSecret": {"name": "s"}}})),
        ("no policy about OIDC", ENVOY, No, "", json!({"spec": {"jwt": {"clientSecret": {"name": "s"}}}})),
        ("nothing", ENVOY, No, "", json!({"spec": null})),
        ("whole configuration", KONG, Yes, from, config(right())),
        ("whole configuration, other key", KONG, No, "", config(key("s", "other"))),
        ("whole configuration, other Secret", KONG, No, "", config(key("t", "client-secret"))),
        ("whole configuration, no key", KONG, No, "", config(json!({"name": "s"}))),
        ("patch", KONG, Yes, patches, patch(&right())),
        ("patch, other key", KONG, No, "", patch(&key("s", "other"))),
        ("patch, other Secret", KONG, No, "", patch(&key("t", "client-secret"))),
        ("patches are a list", KONG, No, "", json!({"configPatches": {"valueFrom": {"secretKeyRef": right()}}})),
        ("patch, a number for a key", KONG, No, "", patch(&json!({"name": "s", "key": 1}))),
        ("under spec", KONG, No, "", json!({ "spec": config(right()) })),
        ("name", NGINX, Yes, secret, oidc(&json!({"clientSecret": "s"}))),
        ("another Secret", NGINX, No, "", oidc(&json!({"clientSecret": "t"}))),
        ("an object for a text", NGINX, No, "", oidc(&json!({"clientSecret": {"name": "s"}}))),
        ("empty", NGINX, No, "", oidc(&json!({"clientSecret": ""}))),
        ("of certificates", NGINX, No, "", oidc(&json!({"trustedCertSecret": "s"}))),
        ("of another policy", NGINX, No, "", json!({"spec": {"apiKey": {"clientSecret": "s"}}})),
        ("value", GRAFANA, Yes, values, datasource(&right())),
        ("value, optional", GRAFANA, Perhaps, values, datasource(&optional())),
        ("value, other key", GRAFANA, No, "", datasource(&key("s", "other"))),
        ("value, other Secret", GRAFANA, No, "", datasource(&key("t", "client-secret"))),
        (
            "value of a ConfigMap",
            GRAFANA,
            No,
            "",
            json!({"spec": {"valuesFrom": [
            {"targetPath": "x", "valueFrom": {"configMapKeyRef": right()}}]}}),
        ),
        ("values are a list", GRAFANA, No, "", json!({"spec": {"valuesFrom": "s"}})),
    ]
    .into_iter()
    .chain([("the id's Secret", ENVOY, Yes, id, oidc(&json!({"clientIDRef": {"name": "ids"}})))])
    .collect()
}

/// Each is a foreign holder, named by the field as the object has it, or nothing is found of it.
#[test]
fn every_reference_and_its_near_misses() {
    let slots = ["{name: s, key: client-secret}", "{name: ids, key: client-id}"];
    let slots: Vec<String> = slots.iter().map(|slot| format!("{{secret: {slot}}}")).collect();
    let client = identity(
        "bot",
        &format!(
            "credentials: [{}], workloads: [{{apiVersion: apps/v1, kind: Deployment, name: web}}]",
            slots.join(", ")
        ),
    );
    let mut kinds = BTreeSet::new();
    for (name, kind, expected, path, fields) in cases() {
        let evaluation = scan(&[&client, &object(kind, &fields)]);
        let name = format!("{}: {name}: {:?}", kind.1, found(&evaluation));
        let holder = format!("SC-301 {}/shop/gate", kind.1);
        if expected == No {
            // It was looked at: SC-304 says that nobody holds either, and nothing is said of the object.
            assert_eq!(
                told(&evaluation),
                ["SC-304 ClientIdentity/shop/bot", "SC-304 ClientIdentity/shop/bot"],
                "{name}"
            );
            continue;
        }
        kinds.insert(kind.1);
        assert_eq!(told(&evaluation), [holder.as_str(), "SC-304 ClientIdentity/shop/bot"], "{name}");
        let finding = only(&evaluation, "SC-301");
        assert_eq!(finding.grade, if expected == Perhaps { Grade::Potential } else { Grade::Direct }, "{name}");
        let gate: Vec<&str> =
            finding.evidence.iter().filter(|e| e.object.name == "gate").map(|e| e.path.as_str()).collect();
        assert_eq!(gate, [path], "{name}");
        // Of another namespace than the client's Secret it is none of its business.
        let elsewhere = object(kind, &fields).replace("\"namespace\":\"shop\"}", "\"namespace\":\"till\"}");
        assert!(!found(&scan(&[&client, &elsewhere])).iter().any(|f| f.starts_with("SC-301")), "{name}");
    }
    let without_pods: BTreeSet<&str> = KINDS.iter().filter(|k| !k.has_pods()).map(|k| k.kind).collect();
    assert_eq!(kinds, without_pods, "every kind without pods has a case that holds");
}

/// A good reference of each kind, with the client's id where the kind has one.
fn good() -> [(Kind, Value); 4] {
    let key = json!({"name": "s", "key": "client-secret"});
    let mut patch = patch(&key);
    patch["config"] = json!({"client_id": ["bot"]});
    let mut datasource = datasource(&key);
    datasource["spec"]["datasource"] = json!({"jsonData": {"oauth2": {"client_id": "bot"}}});
    [
        (ENVOY, oidc(&json!({"clientID": "bot", "clientSecret": {"name": "s"}}))),
        (KONG, patch),
        (NGINX, oidc(&json!({"clientID": "bot", "clientSecret": "s"}))),
        (GRAFANA, datasource),
    ]
}

const SLOT: &str = "credentials: [{secret: {name: s, key: client-secret}}]";

fn listed((version, kind): (&str, &str)) -> String {
    format!("{SLOT}, workloads: [{{apiVersion: {version}, kind: {kind}, name: gate}}]")
}

/// Listed, and with a grant, nothing is left to say: it is no workload that runs as somebody.
#[test]
fn what_is_listed_is_no_finding() {
    for (kind, fields) in good() {
        let gate = object(kind, &fields);
        let all = scan_cluster(&[&identity("bot", &listed(kind)), &grant("bot", "ann", "x"), &gate]);
        assert_eq!(told(&all), [""; 0], "{}", kind.1);
        // A version of the same group will do, another group will not.
        let other = identity("bot", &listed(("example.com/v1", kind.1)));
        let all = scan_cluster(&[&other, &grant("bot", "ann", "x"), &gate]);
        assert!(open(&all).contains(&format!("SC-301 {}/shop/gate", kind.1)), "{}: {:?}", kind.1, found(&all));
        // Without a grant it is in use all the same.
        let ended = scan_cluster(&[&identity("bot", &listed(kind)), &gate]);
        assert_eq!(told(&ended), [format!("SC-302 {}/shop/gate", kind.1)]);
    }
}

/// It has no account: not `default`, not another's, and not one without a name.
#[test]
fn it_runs_as_nobody() {
    let other = identity("other", "serviceAccountName: default");
    let nameless = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {namespace: shop}\n";
    let subject = "credentials: [{federated: {subject: \"system:serviceaccount:shop:\"}}], serviceAccountName: \"\"";
    for (kind, fields) in good() {
        let [bot, gate] = [identity("bot", SLOT), object(kind, &fields)];
        let two = identity("two", "credentials: [{secret: {name: two, key: client-secret}}]");
        let second = gate.replace("\"gate\"", "\"second\"").replace("\"s\"", "\"two\"");
        let all = scan(&[&bot, &two, &other, &gate, &second]);
        assert!(!found(&all).iter().any(|f| f.starts_with("SC-202") || f.starts_with("SC-203")), "{:?}", found(&all));
        let all = scan(&[&bot, &identity("empty", subject), nameless, &gate]);
        let about = found(&all).into_iter().filter(|f| f.contains("/gate")).collect::<Vec<_>>();
        assert_eq!(about, [""; 0], "{}", kind.1);
        assert!(!open(&all).iter().any(|f| f.contains("ServiceAccount/shop/")), "{:?}", found(&all));
        // Nor is it the workload of a client whose account has no name.
        let all = scan_cluster(&[&bot, &identity("empty", subject), &grant("empty", "ann", "x"), &gate]);
        assert!(open(&all).contains("SC-303 ClientGrant/shop/empty-ann"), "{:?}", found(&all));
    }
}

/// Nobody gets into its pods or acts as its account, and who may make one gets no pod with the credential.
#[test]
fn rbac_reaches_no_pods_of_it() {
    let binding = "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: r, namespace: shop}\n\
                   roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}\n\
                   subjects: [{kind: ServiceAccount, namespace: ops, name: ann}]\n";
    let role = |group: &str, resource: &str, verb: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: r, namespace: shop}}\n\
             rules: [{{apiGroups: [{group}], resources: [{resource}], verbs: [{verb}]}}]\n"
        )
    };
    for (kind, fields) in good() {
        let group = kind.0.split_once('/').unwrap().0;
        let plural = KINDS.iter().find(|k| k.kind == kind.1 && !k.has_pods()).unwrap().plural;
        let steers = |group: &str, resource: &str, verb: &str| {
            let (bot, gate) = (identity("bot", &listed(kind)), object(kind, &fields));
            let all = scan(&[&bot, &gate, &role(group, resource, verb), binding]);
            found(&all).iter().any(|f| f.starts_with("SC-205"))
        };
        assert!(!steers("\"\"", "pods/exec", "create"), "{}", kind.1);
        assert!(!steers("\"\"", "serviceaccounts", "impersonate"), "{}", kind.1);
        assert!(!steers(group, plural, "create"), "{}", kind.1);
        assert!(steers("apps", "deployments", "create"), "the test can find something");
    }
}

/// Two clients in one object: each is found, and together they are one; whose job that is is info.
#[test]
fn one_object_that_names_two_clients() {
    let entry = |name: &str| json!({"path": "/x", "targetPath": "x", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}});
    let both = json!([entry("a"), entry("b")]);
    let one = |name: &str| identity(name, &format!("credentials: [{{secret: {{name: {name}, key: k}}}}]"));
    for (kind, fields) in [(KONG, json!({ "configPatches": both })), (GRAFANA, json!({"spec": {"valuesFrom": both}}))] {
        let gate = object(kind, &fields);
        let severity = |roles: &[&str]| {
            let mut reader = Reader::default();
            reader.add("all.yaml", [one("a"), one("b"), gate.clone()].join("---\n").as_bytes());
            let mut input = reader.finish(now());
            input.roles = roles.iter().map(|role| role.parse::<Appointed>().unwrap()).collect();
            let all = evaluate(input, now());
            assert_eq!(told(&all), [format!("SC-201 {}/shop/gate", kind.1)]);
            only(&all, "SC-201").severity
        };
        assert_eq!(severity(&[]), Severity::High, "there is no wall inside it");
        assert_eq!(severity(&[&format!("broker=shop/{}/gate", kind.1)]), Severity::Info);
        assert_eq!(severity(&["broker=shop/gate"]), Severity::High, "an account of its name is another's");
    }
}

/// With a Deployment the client has two applications; the labels of the object say which it is.
#[test]
fn it_is_an_application_by_its_labels() {
    for (kind, fields) in good() {
        let web =
            deployment("web", &holds("s", "client-secret")).replace("name: web,", "name: web, labels: {app: web},");
        let gate = object(kind, &fields);
        let apart = scan(&[&identity("bot", SLOT), &web, &gate]);
        assert!(open(&apart).contains("SC-307 ClientIdentity/shop/bot"), "{:?}", found(&apart));
        let same = gate.replace("\"name\":\"gate\"", "\"labels\":{\"app\":\"web\"},\"name\":\"gate\"");
        assert!(!open(&scan(&[&identity("bot", SLOT), &web, &same])).contains("SC-307 ClientIdentity/shop/bot"));
    }
}

/// Whoever made it, it is the one that names the Secret, and the one to be listed.
#[test]
fn its_owner_is_not_followed() {
    for (owner, name) in [("apps/v1", "Deployment"), ("example.com/v1", "App")] {
        let owner = json!([{"controller": true, "apiVersion": owner, "kind": name, "name": "web"}]);
        for (kind, fields) in good() {
            let owned = format!("\"ownerReferences\":{owner},\"name\":\"gate\"");
            let made = object(kind, &fields).replace("\"name\":\"gate\"", &owned);
            let all = scan_cluster(&[&identity("bot", &listed(kind)), &grant("bot", "ann", "x"), &made]);
            assert_eq!(told(&all), [""; 0], "{}", kind.1);
        }
    }
}

/// A Secret of another namespace is not followed. It is said of the client whose it is, and nobody is told that
/// nothing holds it.
#[test]
fn a_secret_of_another_namespace_is_not_evaluable() {
    let policy = |namespace: &str, name: &str| {
        let there = envoy(&json!({"name": name, "namespace": "shop"}));
        object(ENVOY, &there).replace(
            "\"name\":\"gate\",\"namespace\":\"shop\"",
            &format!("\"name\":\"gate\",\"namespace\":\"{namespace}\""),
        )
    };
    let bot = identity("bot", SLOT);
    let all = scan_cluster(&[&bot, &policy("edge", "s")]);
    assert_eq!(told(&all), ["SC-901 SecurityPolicy/edge/gate"]);
    let finding = all.findings.iter().find(|f| f.subject.name == "gate").unwrap();
    assert_eq!(finding.clients, ["bot"]);
    assert_eq!(finding.evidence[0].path, "spec.oidc.clientSecret: Secret/shop/s, of another namespace");
    // Another Secret, or the same namespace said in full, is nothing of the kind.
    assert_eq!(told(&scan_cluster(&[&bot, &policy("edge", "t")])), ["SC-304 ClientIdentity/shop/bot"]);
    assert_eq!(told(&scan_cluster(&[&bot, &policy("shop", "s")])), ["SC-302 SecurityPolicy/shop/gate"]);
    // A key that nobody declares is nobody's.
    let other = identity("bot", "credentials: [{secret: {name: s, key: other}}]");
    assert_eq!(told(&scan_cluster(&[&other, &policy("edge", "s")])), ["SC-304 ClientIdentity/shop/bot"]);
    // Who lists it cannot be told what it holds.
    let elsewhere = bot
        .replace("namespace: shop", "namespace: edge")
        .replace(SLOT, &format!("{SLOT}, workloads: [{{apiVersion: {}, kind: {}, name: gate}}]", ENVOY.0, ENVOY.1));
    let all = scan_cluster(&[&elsewhere, &policy("edge", "s")]);
    assert_eq!(told(&all), ["SC-901 SecurityPolicy/edge/gate"], "and no SC-304");
}

/// A name that is still to be rendered is no name, wherever it stands.
#[test]
fn templates_have_to_be_rendered_first() {
    for fields in [
        envoy(&json!({"name": "{{ .Release.Name }}"})),
        envoy(&json!({"name": "s", "namespace": "{{ .Release.Namespace }}"})),
        envoy(&json!({"name": "{{ .Release.Name }}", "namespace": "edge"})),
    ] {
        let all = scan(&[&identity("bot", SLOT), &object(ENVOY, &fields)]);
        assert_eq!(found(&all).iter().filter(|f| f.starts_with("SC-901 File/")).count(), 1, "{:?}", found(&all));
    }
}

/// Proposed by its id, with its credential and without an account; and then nothing is found.
#[test]
fn it_is_proposed_by_its_id() {
    let proposed = |documents: &[&str]| {
        let mut reader = Reader::default();
        reader.add("all.yaml", documents.join("\n---\n").as_bytes());
        suggest(reader.finish(now()), now())
    };
    let ids = [
        (ENVOY.1, "spec.oidc.clientID"),
        (KONG.1, "config.client_id[0]"),
        (NGINX.1, "spec.oidc.clientID"),
        (GRAFANA.1, "spec.datasource.jsonData.oauth2.client_id"),
    ];
    for ((kind, fields), (_, path)) in good().into_iter().zip(ids) {
        let (gate, grant) = (object(kind, &fields), grant("bot", "ann", "x"));
        let text = proposed(&[&grant, &gate]);
        let documents: Vec<&str> = text.split("---\n").filter(|d| d.contains("apiVersion:")).collect();
        let [document] = documents[..] else { panic!("{text}") };
        let identity: ClientIdentity = serde_yaml::from_str(document).unwrap();
        assert_eq!(identity.spec.service_account_name, None, "{text}");
        let [workload] = &identity.spec.workloads[..] else { panic!("{text}") };
        assert_eq!(
            (workload.api_version.as_str(), workload.kind.as_str(), workload.name.as_str()),
            (kind.0, kind.1, "gate")
        );
        let secret = identity.spec.credentials[0].secret.as_ref().unwrap();
        assert_eq!((secret.name.as_str(), secret.key.as_str()), ("s", "client-secret"));
        assert!(text.contains(&format!("# {path} is the client's id.")) && !text.contains("runs as"), "{text}");
        assert_eq!(told(&scan(&[&grant, &gate, &text])), [""; 0], "{text}");
        // An id that nobody knows is pointed at, and not repeated.
        let unknown = proposed(&[&gate.replace("\"bot\"", "\"somebody\"")]);
        assert!(unknown.contains(&format!("{path} is named as a client's id")), "{unknown}");
        assert!(!unknown.contains("somebody"), "{unknown}");
        let blank = proposed(&[&gate.replace("\"bot\"", "\"{{ id }}\""), &gate.replace("\"bot\"", "7")]);
        assert!(!blank.contains("is named as"), "{blank}");
    }
    // What an entry is for names the credential, whatever its key is called.
    let key = json!({"name": "s", "key": "value"});
    for (path, is) in [("/client_secret", true), ("/client_secret/0", true), ("/session_secret", false)] {
        let mut fields = patch(&key);
        fields["config"] = json!({"client_id": "bot"});
        fields["configPatches"][0]["path"] = path.into();
        let text = proposed(&[&grant("bot", "ann", "x"), &object(KONG, &fields)]);
        assert_eq!(text.contains("secret: {name: s, key: value}"), is, "{path}: {text}");
        assert!(text.contains("# config.client_id is the client's id."), "{text}");
    }
}

/// Whatever stands in the fields, it is read or passed over.
#[test]
fn odd_objects_are_no_trouble() {
    let odd = [json!(null), json!(7), json!(true), json!([[], {}, "x"]), json!({"name": [], "key": {}})];
    for kind in KINDS.iter().filter(|k| !k.has_pods()) {
        for value in &odd {
            for way in ["", "oidc", "oidc/clientSecret", "oidc/clientID", "valuesFrom", "datasource/jsonData"] {
                let mut spec = value.clone();
                for step in way.split('/').filter(|step| !step.is_empty()).rev() {
                    spec = json!({ step: spec });
                }
                let object = json!({
                    "apiVersion": kind.resource().api_version, "kind": kind.kind, "metadata": {"name": "x"},
                    "spec": spec, "config": value, "configFrom": value, "configPatches": value,
                });
                let facts = extract(&object, Place::default(), &BTreeSet::new()).unwrap();
                assert!(facts.template.edges.is_empty() && facts.template.elsewhere.is_empty(), "{object}");
                assert!(!facts.template.automounts(None), "without pods there is no token");
            }
        }
    }
}
