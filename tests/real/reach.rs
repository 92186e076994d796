//! What RBAC lets a ServiceAccount reach: our reading of roles and bindings against the API server's own.

use std::time::Duration;

use clientgrant::clock;
use clientgrant::sharing::evaluate;
use clientgrant::sharing::rbac::Subject;
use clientgrant::sharing::reach::{Policy, reach};
use clientgrant::sharing::read::Reader;
use clientgrant_testbed::{ControlPlane, Tools};
use reqwest::Method;
use serde_json::{Value, json};

const REVIEWS: &str = "apis/authorization.k8s.io/v1/subjectaccessreviews";
const NAMESPACES: [&str; 3] = ["red", "green", "blue"];
const ACCOUNTS: [(&str, &str); 4] = [("red", "x"), ("red", "y"), ("green", "x"), ("blue", "z")];
const VERBS: [&str; 9] =
    ["get", "list", "watch", "create", "patch", "delete", "deletecollection", "impersonate", "escalate"];
const RESOURCES: [(&str, &str, &str); 9] = [
    ("", "secrets", ""),
    ("", "pods", ""),
    ("", "pods", "exec"),
    ("", "serviceaccounts", ""),
    ("", "serviceaccounts", "token"),
    ("", "users", ""),
    ("apps", "deployments", ""),
    ("apps", "deployments", "exec"),
    ("rbac.authorization.k8s.io", "roles", ""),
];
const NAMES: [&str; 3] = ["", "one", "two"];

/// The same numbers each time: a counter through the mixer of SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap() % end
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn some<'a>(&mut self, of: &[&'a str], most: usize) -> Vec<&'a str> {
        (0..=self.below(most)).map(|_| self.one(of)).collect()
    }
}

fn rule(dice: &mut Dice) -> Value {
    let groups = ["", "", "", "apps", "rbac.authorization.k8s.io", "*"];
    let resources = [
        "secrets",
        "secrets",
        "pods",
        "pods/exec",
        "pods/*",
        "*/exec",
        "*/token",
        "serviceaccounts",
        "serviceaccounts/token",
        "users",
        "deployments",
        "deployments/exec",
        "roles",
        "secrets/*",
        "*/",
        "*",
    ];
    let verbs = ["get", "list", "watch", "create", "patch", "impersonate", "escalate", "delete", "*"];
    let mut rule = json!({"apiGroups": dice.some(&groups, 2), "resources": dice.some(&resources, 3), "verbs": dice.some(&verbs, 3)});
    if dice.below(3) == 0 {
        rule["resourceNames"] = json!(dice.some(&["one", "two", "three", "system:serviceaccount:red:x"], 2));
    }
    rule
}

fn subject(dice: &mut Dice) -> Value {
    let (namespace, name) = ACCOUNTS[dice.below(ACCOUNTS.len())];
    let group = "rbac.authorization.k8s.io";
    match dice.below(8) {
        0 => json!({"kind": "Group", "apiGroup": group, "name": format!("system:serviceaccounts:{namespace}")}),
        1 => json!({"kind": "User", "apiGroup": group, "name": format!("system:serviceaccount:{namespace}:{name}")}),
        2 => json!({"kind": "User", "apiGroup": group, "name": name}),
        3 => json!({"kind": "ServiceAccount", "namespace": "elsewhere", "name": name}),
        _ => json!({"kind": "ServiceAccount", "namespace": namespace, "name": name}),
    }
}

/// Roles and bindings of every form.
fn estate(dice: &mut Dice) -> Vec<Value> {
    let version = "rbac.authorization.k8s.io/v1";
    let mut all: Vec<Value> =
        NAMESPACES.map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).into();
    for n in 0..12 {
        let rules: Vec<Value> = (0..=dice.below(2)).map(|_| rule(dice)).collect();
        all.push(json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": format!("test-{n}")}, "rules": rules}));
        let rules: Vec<Value> = (0..=dice.below(2)).map(|_| rule(dice)).collect();
        let meta = json!({"name": format!("role-{n}"), "namespace": NAMESPACES[n % 3]});
        all.push(json!({"apiVersion": version, "kind": "Role", "metadata": meta, "rules": rules}));
    }
    for n in 0..40 {
        let namespace = NAMESPACES[dice.below(3)];
        let (kind, role) = match dice.below(3) {
            0 => ("ClusterRole", format!("test-{}", dice.below(14))),
            // Some are of another namespace, and so of nobody's.
            _ => ("Role", format!("role-{}", dice.below(12))),
        };
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role});
        let subjects: Vec<Value> = (0..=dice.below(2)).map(|_| subject(dice)).collect();
        let meta = json!({"name": format!("binding-{n}"), "namespace": namespace});
        all.push(json!({"apiVersion": version, "kind": "RoleBinding", "metadata": meta, "roleRef": role, "subjects": subjects}));
    }
    for n in 0..8 {
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("test-{}", dice.below(12))});
        let meta = json!({"name": format!("test-{n}")});
        let subjects = [subject(dice)];
        all.push(json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": meta, "roleRef": role, "subjects": subjects}));
    }
    for (name, subject) in [("all", "system:serviceaccounts"), ("everybody", "system:authenticated")] {
        let rules = [json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["watch"], "resourceNames": [name]})];
        all.push(json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}));
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
        let subjects = [json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": subject})];
        all.push(json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": name}, "roleRef": role, "subjects": subjects}));
    }
    all
}

/// Whether the API server would allow it.
async fn allowed(plane: &ControlPlane, account: (&str, &str), attributes: Value) -> bool {
    let (namespace, name) = account;
    let spec = json!({
        "user": format!("system:serviceaccount:{namespace}:{name}"),
        "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
        "resourceAttributes": attributes,
    });
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
    let (code, answer) = plane.call(Method::POST, REVIEWS, Some((review, "application/json"))).await.unwrap();
    assert_eq!(code, 201, "{answer}");
    answer["status"]["allowed"].as_bool().unwrap()
}

/// Waits until the last objects count: each kind reaches the authorizer by a watch of its own.
async fn settled(plane: &ControlPlane) {
    let version = "rbac.authorization.k8s.io/v1";
    let rules = json!([{"apiGroups": ["last"], "resources": ["last"], "verbs": ["get"]}]);
    let subjects = json!([{"kind": "ServiceAccount", "namespace": "last", "name": "last"}]);
    let mut text = String::new();
    for (cluster, namespace) in [("Cluster", Value::Null), ("", json!("blue"))] {
        let meta = json!({"name": "zz-last", "namespace": namespace});
        let role =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": format!("{cluster}Role"), "name": "zz-last"});
        for object in [
            json!({"apiVersion": version, "kind": format!("{cluster}Role"), "metadata": meta, "rules": rules}),
            json!({"apiVersion": version, "kind": format!("{cluster}RoleBinding"), "metadata": meta, "roleRef": role, "subjects": subjects}),
        ] {
            text += &format!("---\n{object}\n");
        }
    }
    plane.apply_yaml(&text).await.unwrap();
    let wait = async {
        for namespace in ["", "blue"] {
            let last = json!({"verb": "get", "group": "last", "resource": "last", "namespace": namespace});
            while !allowed(plane, ("last", "last"), last.clone()).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the authorizer sees what was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn reach_is_what_the_api_server_says() {
    let plane = ControlPlane::start(&Tools::find().unwrap()).await.unwrap();
    let mut dice = Dice(7);
    let text: String = estate(&mut dice).iter().map(|object| format!("---\n{object}\n")).collect();
    plane.apply_yaml(&text).await.unwrap();
    settled(&plane).await;

    // As it is read from a cluster, what Kubernetes brings along included.
    let kinds = "roles,rolebindings,clusterroles,clusterrolebindings";
    let listed = plane.kubectl(&["get", kinds, "-A", "-o", "json"]).await.unwrap();
    let mut reader = Reader::default();
    reader.add("-", listed.as_bytes());
    assert!(reader.failures().is_empty(), "{:?}", reader.failures());
    let policy = Policy::new(reader.finish(clock::now()).rbac);

    let (mut asked, mut allows, mut wrong) = (0, 0, Vec::new());
    for account in ACCOUNTS {
        let (namespace, name) = account;
        let mut granted = policy.granted(&Subject::Account(namespace.to_owned(), name.to_owned()));
        granted.extend(policy.of_groups(namespace));
        for (group, resource, sub) in RESOURCES {
            let full = if sub.is_empty() { resource.to_owned() } else { format!("{resource}/{sub}") };
            for verb in VERBS {
                let reach = reach(&granted, &[verb], group, &full);
                for namespace in NAMESPACES.into_iter().chain([""]) {
                    for name in NAMES {
                        let attributes = json!({
                            "verb": verb, "group": group, "resource": resource, "subresource": sub,
                            "namespace": namespace, "name": name,
                        });
                        let ours = reach.has(namespace, name);
                        let theirs = allowed(&plane, account, attributes.clone()).await;
                        asked += 1;
                        allows += usize::from(theirs);
                        if ours != theirs {
                            wrong.push(format!("{account:?} {attributes}: ours {ours}, theirs {theirs}"));
                        }
                    }
                }
            }
        }
    }
    println!("reach: {asked} asked, {allows} allowed, {} differ", wrong.len());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(asked >= 2_000 && allows > asked / 10 && allows < asked / 10 * 9, "{allows} of {asked} are allowed");
}

const CLIENT: &str = "\
apiVersion: clientgrant.dev/v1alpha1
kind: ClientIdentity
metadata: {name: shown, namespace: red}
spec:
  providerRef: {kind: ClusterIdentityProvider, name: corp}
  clientID: shown
  serviceAccountName: own
  credentials: [{secret: {name: one, key: k}}]
";

/// Whether our rule says something of `red/x`, to which the whole cluster gives these rules.
fn said(rule: &str, rules: &Value) -> bool {
    let text = format!("{CLIENT}---\n{}", granting(rules));
    let mut reader = Reader::default();
    reader.add("all.yaml", text.as_bytes());
    assert!(reader.failures().is_empty(), "{:?}", reader.failures());
    evaluate(reader.finish(clock::now()), clock::now()).findings.iter().any(|f| f.rule == rule)
}

fn granting(rules: &Value) -> String {
    let (version, group) = ("rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io");
    let role = json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "way"}, "rules": rules});
    let role_ref = json!({"apiGroup": group, "kind": "ClusterRole", "name": "way"});
    let subjects = json!([{"kind": "ServiceAccount", "namespace": "red", "name": "x"}]);
    let binding = json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": "way"}, "roleRef": role_ref, "subjects": subjects});
    format!("{role}\n---\n{binding}\n")
}

/// The rules count for `red/x`: the last of them is waited for.
async fn give(plane: &ControlPlane, rules: &Value, turn: usize) {
    let mut rules = rules.clone();
    rules
        .as_array_mut()
        .unwrap()
        .push(json!({"apiGroups": ["turn"], "resources": [format!("t{turn}")], "verbs": ["get"]}));
    plane.apply_yaml(&granting(&rules)).await.unwrap();
    let attributes = json!({"verb": "get", "group": "turn", "resource": format!("t{turn}"), "namespace": "red"});
    let wait = async {
        while !allowed(plane, ("red", "x"), attributes.clone()).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the authorizer sees the role");
}

/// What a verb shows of a Secret, and what it takes to give oneself rights, is what the API server lets happen.
#[tokio::test(flavor = "multi_thread")]
async fn each_way_is_one_on_a_real_server() {
    let plane = ControlPlane::start(&Tools::find().unwrap()).await.unwrap();
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: one, namespace: red}\nstringData: {k: what-is-hidden}\n";
    let all = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: red}}\n---\n{secret}---\n\
         apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: x, namespace: red}}\n---\n\
         apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: own, namespace: red}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: there, namespace: red}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}\nsubjects: []\n"
    );
    plane.apply_yaml(&all).await.unwrap();
    let config = plane.kubeconfig_for_service_account("red", "x").await.unwrap();
    let config = format!("--kubeconfig={}", config.display());
    let (one, list) = ("/api/v1/namespaces/red/secrets/one", "/api/v1/namespaces/red/secrets");
    let stays = "dryRun=All&propagationPolicy=Foreground";
    let (single, whole) = (format!("--raw={one}?{stays}"), format!("--raw={list}?{stays}"));
    let (get, collection, put) = (format!("--raw={one}"), format!("--raw={list}"), format!("--raw={one}?dryRun=All"));
    let by_name = format!("--raw={list}?fieldSelector=metadata.name%3Done");
    let watch = format!("--raw={list}?fieldSelector=metadata.name%3Done&watch=1&timeoutSeconds=1");
    let bare =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one", "namespace": "red"}}).to_string();
    let deeds: [(&str, Vec<&str>); 8] = [
        ("get", vec!["get", &get]),
        ("list", vec!["get", &by_name]),
        ("watch", vec!["get", &watch]),
        ("patch", vec!["apply", "--server-side", "--dry-run=server", "--validate=false", "-o=json", "-f", "-"]),
        ("delete", vec!["delete", &single]),
        ("deletecollection", vec!["delete", &whole]),
        ("create", vec!["create", &collection, "-f", "-"]),
        ("update", vec!["replace", &put, "-f", "-"]),
    ];
    let hidden = "d2hhdC1pcy1oaWRkZW4=";
    let (mut turn, mut shown) = (0, 0);
    for names in [json!([]), json!(["one"])] {
        for (verb, deed) in &deeds {
            let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": [verb], "resourceNames": names}]);
            turn += 1;
            give(&plane, &rules, turn).await;
            let args: Vec<&str> = deed.iter().copied().chain([config.as_str()]).collect();
            let answer = plane.kubectl_with_input(&args, &bare).await.unwrap();
            let theirs = answer.stdout.contains(hidden);
            shown += usize::from(theirs);
            assert_eq!(said("SC-204", &rules), theirs, "{verb} {names}: {} {}", answer.stdout, answer.stderr);
        }
    }
    assert_eq!(shown, 11, "six verbs, and five of them by name");

    let right = |verbs: &[&str], resources: &[&str]| json!({"apiGroups": ["", "rbac.authorization.k8s.io"], "resources": resources, "verbs": verbs});
    let role_of = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
    let subjects = json!([{"kind": "ServiceAccount", "namespace": "red", "name": "x"}]);
    let object = |kind: &str, name: &str, more: Value| {
        let mut object =
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object.to_string()
    };
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let bindings = format!("--raw={rbac}/clusterrolebindings?dryRun=All");
    let there = format!("--raw={rbac}/namespaces/red/rolebindings/there?dryRun=All");
    let way = format!("--raw={rbac}/clusterroles/way?dryRun=All");
    let token = "--raw=/api/v1/namespaces/red/serviceaccounts/own/token";
    let masters = ["get", &get, "--as=bob", "--as-group=system:masters"];
    let bob = json!({"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["bob"]});
    let to_all =
        object("ClusterRoleBinding", "mine", json!({"roleRef": role_of("cluster-admin"), "subjects": subjects}));
    let to_one = object("RoleBinding", "there", json!({"roleRef": role_of("cluster-admin"), "subjects": subjects}));
    let wider = object("ClusterRole", "way", json!({"rules": [right(&["get"], &["secrets"])]}));
    let ask = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["any"]}})
        .to_string();
    let (bind, escalate) = (right(&["bind"], &["clusterroles"]), right(&["escalate"], &["clusterroles"]));
    let (give_all, change) = (right(&["create"], &["clusterrolebindings"]), right(&["update"], &["rolebindings"]));
    let (alter, groups) = (right(&["update"], &["clusterroles"]), right(&["impersonate"], &["groups"]));
    let ways: [(Value, &[&str], &str, bool); 11] = [
        (json!([bind, give_all]), &["create", &bindings, "-f", "-"], &to_all, true),
        (json!([give_all]), &["create", &bindings, "-f", "-"], &to_all, false),
        (json!([bind, change]), &["replace", &there, "-f", "-"], &to_one, true),
        (json!([change]), &["replace", &there, "-f", "-"], &to_one, false),
        (json!([escalate, alter]), &["replace", &way, "-f", "-"], &wider, true),
        (json!([alter]), &["replace", &way, "-f", "-"], &wider, false),
        (json!([groups, bob]), &masters, "", true),
        (json!([bob]), &masters, "", false),
        (json!([groups]), &masters, "", false),
        (json!([right(&["create"], &["serviceaccounts/token"])]), &["create", token, "-f", "-"], &ask, true),
        (json!([right(&["create"], &["serviceaccounts"])]), &["create", token, "-f", "-"], &ask, false),
    ];
    for (rules, deed, input, expected) in ways {
        turn += 1;
        give(&plane, &rules, turn).await;
        let args: Vec<&str> = deed.iter().copied().chain([config.as_str()]).collect();
        let answer = plane.kubectl_with_input(&args, input).await.unwrap();
        assert_eq!(answer.success, expected, "{rules}: {} {}", answer.stdout, answer.stderr);
        assert_eq!(said("SC-205", &rules), expected, "{rules}");
    }
}
