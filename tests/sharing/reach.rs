//! What RBAC lets a ServiceAccount do to clients: SC-204, SC-205, and what cannot be told.

use clientgrant::sharing::read::Reader;
use clientgrant::sharing::role::Appointed;
use clientgrant::sharing::{Evaluation, Grade, Severity, State, evaluate};

use super::support::{deployment, found, holds, identity, now, only, open, owns, scan, told};

/// Two clients in `shop`, each with a slot, a workload and an account of its own.
fn clients() -> [String; 4] {
    let client = |name: &str| identity(name, &owns(&format!("{name}-oidc"), "k", name));
    let runs =
        |name: &str| deployment(name, &format!("serviceAccountName: {name}, {}", holds(&format!("{name}-oidc"), "k")));
    [client("a"), client("b"), runs("a"), runs("b")]
}

fn role(kind: &str, name: &str, rules: &str) -> String {
    let namespace = if kind == "Role" { ", namespace: shop" } else { "" };
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\nrules: [{rules}]\n"
    )
}

fn rule(resources: &str, verbs: &str, more: &str) -> String {
    format!("{{apiGroups: [\"\"], resources: [{resources}], verbs: [{verbs}]{more}}}")
}

fn binding(kind: &str, name: &str, role: &str, subject: &str) -> String {
    let namespace = if kind == "RoleBinding" { ", namespace: shop" } else { "" };
    let (role_kind, role) = role.split_once('/').unwrap();
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {role_kind}, name: {role}}}\nsubjects: [{subject}]\n"
    )
}

const READER: &str = "{kind: ServiceAccount, namespace: ops, name: reader}";

/// The two clients, and a role with these rules that the reader has in `shop`.
fn with(rules: &str) -> Evaluation {
    with_binding(&role("Role", "r", rules), &binding("RoleBinding", "r", "Role/r", READER))
}

fn with_binding(role: &str, binding: &str) -> Evaluation {
    let [a, b, c, d] = clients();
    scan(&[&a, &b, &c, &d, role, binding])
}

/// What the rules about RBAC found.
fn rbac(evaluation: &Evaluation) -> Vec<String> {
    found(evaluation).into_iter().filter(|f| f.starts_with("SC-204") || f.starts_with("SC-205")).collect()
}

#[test]
fn sc_204_one_account_reads_both() {
    for verb in ["get", "list", "watch", "\"*\""] {
        let evaluation = with(&rule("secrets", verb, ""));
        let finding = only(&evaluation, "SC-204");
        assert_eq!(finding.subject.to_string(), "ServiceAccount/ops/reader", "{verb}");
        assert_eq!((finding.severity, finding.grade), (Severity::High, Grade::Reachable));
        assert_eq!(finding.clients, ["a", "b"]);
    }
    assert_eq!(rbac(&with(&rule("secrets", "get", ", resourceNames: [a-oidc, b-oidc]"))).len(), 1);
    assert_eq!(rbac(&with(&rule("\"*\"", "get", ""))).len(), 2, "a star is pods/exec too");
    for near in [
        rule("secrets", "create, delete", ""),
        rule("configmaps", "get, list, watch", ""),
        rule("secrets", "get", ", resourceNames: [a-oidc, other]"),
        rule("secrets/status", "get", ""),
        rule("\"secrets/*\"", "get", ""),
        rule("secrets", "get", "").replace("\"\"", "apps"),
        String::new(),
    ] {
        assert_eq!(rbac(&with(&near)), Vec::<String>::new(), "{near}");
    }
    // A family is one client.
    let family = |name: &str| identity(name, &format!("family: f, {}", owns(&format!("{name}-oidc"), "k", name)));
    let (read, bound) = (role("Role", "r", &rule("secrets", "get", "")), binding("RoleBinding", "r", "Role/r", READER));
    assert!(rbac(&scan(&[&family("a"), &family("b"), &read, &bound])).is_empty());
}

#[test]
fn the_reach_is_the_namespace_where_list_is_not_named() {
    let rules = [rule("secrets", "get", ", resourceNames: [a-oidc]"), rule("secrets", "list, watch", "")];
    let evaluation = with(&rules.join(", "));
    let finding = only(&evaluation, "SC-204");
    let said: Vec<&str> = finding.evidence.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(said, ["rules[1] (list, watch): every Secret in namespace shop", "subjects[0]"]);
    assert_eq!(finding.clients, ["a", "b"]);
}

#[test]
fn who_has_a_role_and_where() {
    let read = rule("secrets", "get", "");
    let (role_, cluster) = (role("Role", "r", &read), role("ClusterRole", "r", &read));
    for (kind, role, binding_, subject) in [
        ("its kind", &role_, binding("RoleBinding", "r", "Role/r", READER), "ServiceAccount/ops/reader"),
        (
            "a role of the cluster",
            &cluster,
            binding("RoleBinding", "r", "ClusterRole/r", READER),
            "ServiceAccount/ops/reader",
        ),
        (
            "the whole cluster",
            &cluster,
            binding("ClusterRoleBinding", "r", "ClusterRole/r", READER),
            "ServiceAccount/ops/reader",
        ),
        (
            "no namespace",
            &role_,
            binding("RoleBinding", "r", "Role/r", "{kind: ServiceAccount, name: x}"),
            "ServiceAccount/shop/x",
        ),
        (
            "as a user",
            &role_,
            binding("RoleBinding", "r", "Role/r", "{kind: User, name: \"system:serviceaccount:ops:reader\"}"),
            "ServiceAccount/ops/reader",
        ),
        (
            "all",
            &role_,
            binding("RoleBinding", "r", "Role/r", "{kind: Group, name: \"system:serviceaccounts\"}"),
            "Group/system:serviceaccounts",
        ),
        (
            "all of a namespace",
            &role_,
            binding("RoleBinding", "r", "Role/r", "{kind: Group, name: \"system:serviceaccounts:ops\"}"),
            "Group/system:serviceaccounts:ops",
        ),
        (
            "everybody",
            &role_,
            binding("RoleBinding", "r", "Role/r", "{kind: Group, name: \"system:authenticated\"}"),
            "Group/system:authenticated",
        ),
    ] {
        assert_eq!(only(&with_binding(role, &binding_), "SC-204").subject.to_string(), subject, "{kind}");
    }
    let elsewhere = binding("RoleBinding", "r", "ClusterRole/r", READER).replace("shop", "till");
    assert!(rbac(&with_binding(&cluster, &elsewhere)).is_empty());
    for subject in ["{kind: User, name: ann}", "{kind: Group, name: admins}"] {
        assert!(rbac(&with_binding(&role_, &binding("RoleBinding", "r", "Role/r", subject))).is_empty(), "{subject}");
    }
    // A Role is of its namespace; a binding of the cluster cannot have one.
    assert!(rbac(&with_binding(&role_, &binding("ClusterRoleBinding", "r", "Role/r", READER))).is_empty());
}

#[test]
fn what_groups_give_is_said_of_the_groups() {
    let [a, b, c, d] = clients();
    let read = role("Role", "r", &rule("secrets", "get", ""));
    let group = binding("RoleBinding", "all", "Role/r", "{kind: Group, name: \"system:serviceaccounts:ops\"}");
    let other = binding("RoleBinding", "one", "Role/none", READER) + "---\n" + &role("Role", "none", "");
    assert_eq!(rbac(&scan(&[&a, &b, &c, &d, &read, &group, &other])), ["SC-204 Group/system:serviceaccounts:ops"]);
    // Half by its group and half by itself is a finding of the account.
    let half = role("Role", "half", &rule("secrets", "get", ", resourceNames: [a-oidc]"));
    let rest = role("Role", "rest", &rule("secrets", "get", ", resourceNames: [b-oidc]"));
    let of_group = binding("RoleBinding", "half", "Role/half", "{kind: Group, name: \"system:serviceaccounts:ops\"}");
    let of_one = binding("RoleBinding", "rest", "Role/rest", READER);
    assert_eq!(rbac(&scan(&[&a, &b, &c, &d, &half, &rest, &of_group, &of_one])), ["SC-204 ServiceAccount/ops/reader"]);
}

#[test]
fn sc_205_every_way_to_become_a_client() {
    let [a, b, c, d] = clients();
    let federated =
        identity("f", "serviceAccountName: f, credentials: [{federated: {subject: \"system:serviceaccount:shop:f\"}}]");
    let way = |rules: &str| {
        let role = role("Role", "r", rules);
        let evaluation = scan(&[&a, &b, &c, &d, &federated, &role, &binding("RoleBinding", "r", "Role/r", READER)]);
        let found = evaluation.findings.iter().find(|f| f.rule == "SC-205");
        found.map(|f| (f.severity, f.clients.join(",")))
    };
    let all = |severity| Some((severity, "a,b,f".to_owned()));
    let rbac_group =
        |resources: &str, verbs: &str| rule(resources, verbs, "").replace("\"\"", "rbac.authorization.k8s.io");
    let apps = |verbs: &str, more: &str| rule("deployments", verbs, more).replace("\"\"", "apps");
    for (rules, expected) in [
        (rule("serviceaccounts/token", "create", ""), Some((Severity::High, "f".to_owned()))),
        (rule("\"*/token\"", "create", ""), Some((Severity::High, "f".to_owned()))),
        (rule("serviceaccounts/token", "create", ", resourceNames: [f]"), Some((Severity::High, "f".to_owned()))),
        (rule("serviceaccounts/token", "create", ", resourceNames: [g]"), None),
        (rule("serviceaccounts/token", "get", ""), None),
        (rule("serviceaccounts", "create", ""), None),
        (rule("pods/exec", "create", ""), Some((Severity::High, "a,b".to_owned()))),
        (rule("pods/exec", "get", ", resourceNames: [a-7d4f-x2]"), Some((Severity::High, "a".to_owned()))),
        (rule("pods/exec", "create", ", resourceNames: [ab-7d4f-x2]"), None),
        (rule("pods/attach", "create", ""), Some((Severity::High, "a,b".to_owned()))),
        (rule("pods/ephemeralcontainers", "patch", ""), Some((Severity::High, "a,b".to_owned()))),
        (rule("pods/log", "get, create, patch", ""), None),
        (rule("serviceaccounts", "impersonate", ""), all(Severity::High)),
        (rule("serviceaccounts", "impersonate", ", resourceNames: [a]"), Some((Severity::High, "a".to_owned()))),
        (rule("pods", "create", ""), all(Severity::Medium)),
        (rule("pods", "create", ", resourceNames: [x]"), None),
        (rule("pods", "get, list, delete", ""), None),
        (apps("patch", ", resourceNames: [x]"), all(Severity::Medium)),
        (apps("create", ""), all(Severity::Medium)),
        (rbac_group("roles", "escalate, update"), all(Severity::Medium)),
        (rbac_group("roles", "update"), None),
        (rbac_group("clusterroles, rolebindings", "bind, create"), all(Severity::Medium)),
        (rbac_group("roles, rolebindings", "bind, create"), all(Severity::Medium)),
        (rbac_group("clusterroles", "bind"), None),
    ] {
        assert_eq!(way(&rules), expected, "{rules}");
    }
    // What two rights do together they do only where both are had.
    let bind = role("ClusterRole", "bind", &rbac_group("clusterroles", "bind"));
    let give = role("ClusterRole", "give", &rbac_group("rolebindings", "create"));
    let binds = binding("RoleBinding", "bind", "ClusterRole/bind", READER);
    let here = binding("RoleBinding", "give", "ClusterRole/give", READER);
    let elsewhere = here.replace("namespace: shop", "namespace: till");
    assert_ne!(here, elsewhere);
    assert_eq!(rbac(&scan(&[&a, &b, &c, &d, &bind, &give, &binds, &here])), ["SC-205 ServiceAccount/ops/reader"]);
    assert!(rbac(&scan(&[&a, &b, &c, &d, &bind, &give, &binds, &elsewhere])).is_empty());
    // As a user it is named in the whole cluster only.
    let users =
        role("ClusterRole", "r", &rule("users", "impersonate", ", resourceNames: [\"system:serviceaccount:shop:a\"]"));
    let everywhere = with_binding(&users, &binding("ClusterRoleBinding", "r", "ClusterRole/r", READER));
    assert_eq!(only(&everywhere, "SC-205").clients, ["a"]);
    assert!(rbac(&with_binding(&users, &binding("RoleBinding", "r", "ClusterRole/r", READER))).is_empty());
}

#[test]
fn a_client_may_do_it_to_itself() {
    let [a, b, c, d] = clients();
    let exec = role("Role", "r", &rule("pods/exec", "create", ", resourceNames: [a]"));
    let own = binding("RoleBinding", "r", "Role/r", "{kind: ServiceAccount, name: a}");
    assert!(rbac(&scan(&[&a, &b, &c, &d, &exec, &own])).is_empty());
    // The account whose tokens authenticate a client is the client's, whoever declared it or not.
    let federated = identity("f", "credentials: [{federated: {subject: \"system:serviceaccount:shop:f\"}}]");
    let mint = role("Role", "m", &rule("serviceaccounts/token", "create", ""));
    let by = |name: &str| binding("RoleBinding", "m", "Role/m", &format!("{{kind: ServiceAccount, name: {name}}}"));
    assert!(rbac(&scan(&[&federated, &mint, &by("f")])).is_empty());
    assert_eq!(rbac(&scan(&[&federated, &mint, &by("a")])), ["SC-205 ServiceAccount/shop/a"]);
    let other = binding("RoleBinding", "r", "Role/r", "{kind: ServiceAccount, name: b}");
    assert_eq!(only(&scan(&[&a, &b, &c, &d, &exec, &other]), "SC-205").clients, ["a"]);
}

#[test]
fn roles_that_kubernetes_brings_are_known() {
    for (name, expected) in [("edit", 2), ("admin", 2), ("cluster-admin", 2), ("view", 0), ("system:auth-delegator", 0)]
    {
        let evaluation = with_binding("", &binding("RoleBinding", "r", &format!("ClusterRole/{name}"), READER));
        assert_eq!(rbac(&evaluation).len(), expected, "{name}");
        assert!(!told(&evaluation).iter().any(|f| f.starts_with("SC-901")), "{name}");
    }
    // As it was given it counts.
    let narrowed = role("ClusterRole", "edit", "");
    assert!(rbac(&with_binding(&narrowed, &binding("RoleBinding", "r", "ClusterRole/edit", READER))).is_empty());
}

#[test]
fn the_controllers_of_kubernetes_are_left_out() {
    let read = role("ClusterRole", "system:controller:x", &rule("\"*\"", "\"*\"", ""));
    let bind = |namespace: &str, labels: &str| {
        let subject = format!("{{kind: ServiceAccount, namespace: {namespace}, name: x}}");
        let text = binding("ClusterRoleBinding", "x", "ClusterRole/system:controller:x", &subject);
        with_binding(&read, &text.replace("metadata: {", &format!("metadata: {{labels: {{{labels}}}, ")))
    };
    let mark = "kubernetes.io/bootstrapping: rbac-defaults";
    assert_eq!(rbac(&bind("kube-system", mark)).len(), 0);
    assert_eq!(rbac(&bind("kube-system", "a: b")).len(), 2);
    assert_eq!(rbac(&bind("ops", mark)).len(), 2, "a label that anybody can write is not enough");
}

#[test]
fn platform_accounts_are_info() {
    let [a, b, c, d] = clients();
    let all = role("ClusterRole", "r", &rule("\"*\"", "\"*\"", ""));
    let text = [&*a, &*b, &c, &d, &all, &binding("ClusterRoleBinding", "r", "ClusterRole/r", READER)].join("---\n");
    let severities = |platform: Option<(&str, &str)>| -> Vec<Severity> {
        let mut reader = Reader::default();
        reader.add("all.yaml", text.as_bytes());
        let mut input = reader.finish(now());
        let role = |(namespace, name)| format!("platform={namespace}/{name}").parse::<Appointed>().unwrap();
        input.roles = platform.map(role).into_iter().collect();
        evaluate(input, now()).findings.iter().filter(|f| f.rule.starts_with("SC-20")).map(|f| f.severity).collect()
    };
    assert_eq!(severities(None), [Severity::High, Severity::High]);
    assert_eq!(severities(Some(("shop", "reader"))), [Severity::High, Severity::High]);
    assert_eq!(severities(Some(("ops", "reader"))), [Severity::Info, Severity::Info]);
}

#[test]
fn without_rbac_it_cannot_be_told() {
    let [a, b, c, d] = clients();
    let not_evaluable = |evaluation: &Evaluation| -> Vec<String> {
        let of = evaluation
            .findings
            .iter()
            .filter(|f| f.state == State::NotEvaluable && (f.subject.kind != "Rule" || f.subject.name == "SC-204"));
        of.map(|f| f.subject.to_string()).collect()
    };
    let subject = not_evaluable(&scan(&[&a, &b, &c, &d]));
    assert!(subject.contains(&"Rule/SC-204".to_owned()), "{subject:?}");
    // Where nothing is declared nothing is said.
    assert!(not_evaluable(&scan(&[&c, &d])).is_empty());
    let read = role("Role", "r", &rule("secrets", "get", ""));
    assert!(!not_evaluable(&scan(&[&a, &b, &c, &d, &read])).contains(&"Rule/SC-204".to_owned()));
    // A role that nobody gave, and one that is put together elsewhere.
    let dangling = with_binding("", &binding("RoleBinding", "r", "ClusterRole/unknown", READER));
    assert_eq!(not_evaluable(&dangling), ["RoleBinding/shop/r"]);
    let unfilled =
        role("ClusterRole", "sum", "") + "aggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}\n";
    let sum = binding("RoleBinding", "r", "ClusterRole/sum", READER);
    assert_eq!(not_evaluable(&with_binding(&unfilled, &sum)), ["RoleBinding/shop/r"]);
    let filled = unfilled.replace("rules: []", &format!("rules: [{}]", rule("secrets", "get", "")));
    assert_eq!(rbac(&with_binding(&filled, &sum)).len(), 1);
    // What cannot concern a client is no gap.
    let elsewhere = binding("RoleBinding", "r", "ClusterRole/unknown", READER).replace("shop", "till");
    assert_eq!(not_evaluable(&with_binding("", &elsewhere)), Vec::<String>::new());
}

#[test]
fn each_client_has_to_accept_what_can_be_done_to_it() {
    let accepts = |name: &str| {
        let sharing = "sharing: {exceptions: [{rule: SC-205, with: [{kind: ServiceAccount, name: ops}], \
                       reason: deploys the whole shop until SEC-412, expiresAt: \"2027-01-01T00:00:00Z\"}]}";
        identity(name, &format!("{sharing}, {}", owns(&format!("{name}-oidc"), "k", name)))
    };
    let [a, b, c, d] = clients();
    let exec = role("Role", "r", &rule("pods/exec", "create", ""));
    let bound = binding("RoleBinding", "r", "Role/r", "{kind: ServiceAccount, name: ops}");
    let is_open =
        |a: &str, b: &str| open(&scan(&[a, b, &c, &d, &exec, &bound])).contains("SC-205 ServiceAccount/shop/ops");
    assert!(is_open(&a, &b) && is_open(&accepts("a"), &b));
    assert!(!is_open(&accepts("a"), &accepts("b")));
}
