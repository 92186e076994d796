//! What RBAC lets a ServiceAccount reach: our reading of roles and bindings against the API server's own.

use std::time::Duration;

use clientgrant::clock;
use clientgrant::sharing::rbac::Subject;
use clientgrant::sharing::reach::{Policy, reach};
use clientgrant::sharing::read::Reader;
use clientgrant_testbed::{ControlPlane, Tools};
use reqwest::Method;
use serde_json::{Value, json};

const REVIEWS: &str = "apis/authorization.k8s.io/v1/subjectaccessreviews";
const NAMESPACES: [&str; 3] = ["red", "green", "blue"];
const ACCOUNTS: [(&str, &str); 4] = [("red", "x"), ("red", "y"), ("green", "x"), ("blue", "z")];
const VERBS: [&str; 7] = ["get", "list", "watch", "create", "patch", "impersonate", "escalate"];
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
