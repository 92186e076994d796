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
    for verb in ["get", "list", "watch", "patch", "delete", "deletecollection", "\"*\""] {
        let evaluation = with(&rule("secrets", verb, ""));
        let finding = only(&evaluation, "SC-204");
        assert_eq!(finding.subject.to_string(), "ServiceAccount/ops/reader", "{verb}");
        assert_eq!((finding.severity, finding.grade), (Severity::High, Grade::Reachable));
        assert_eq!(finding.clients, ["a", "b"]);
    }
    assert_eq!(rbac(&with(&rule("secrets", "get", ", resourceNames: [a-oidc, b-oidc]"))).len(), 1);
    assert_eq!(rbac(&with(&rule("\"*\"", "get", ""))).len(), 2, "a star is pods/exec too");
    for near in [
        rule("secrets", "create, update", ""),
        rule("secrets", "deletecollection", ", resourceNames: [a-oidc, b-oidc]"),
        rule("configmaps", "get, list, watch", ""),
        rule("secrets", "get", ", resourceNames: [other]"),
        rule("secrets/status", "get", ""),
        rule("\"secrets/*\"", "get", ""),
        rule("secrets", "get", "").replace("\"\"", "apps"),
        String::new(),
    ] {
        assert_eq!(rbac(&with(&near)), Vec::<String>::new(), "{near}");
    }
    // A family is one client.
    let [_, _, c, d] = clients();
    let (read, bound) = (role("Role", "r", &rule("secrets", "get", "")), binding("RoleBinding", "r", "Role/r", READER));
    let both = scan(&[&family("a"), &family("b"), &c, &d, &read, &bound]);
    assert_eq!(only(&both, "SC-204").severity, Severity::Medium);
}

fn family(name: &str) -> String {
    identity(name, &format!("family: f, {}", owns(&format!("{name}-oidc"), "k", name)))
}

/// What these documents and a right to read single Secrets, that an account of `shop` has, say of SC-204.
fn reads(account: &str, names: &str, documents: &[&str]) -> Evaluation {
    let read = role("Role", "r", &rule("secrets", "get", &format!(", resourceNames: [{names}]")));
    let bound = binding("RoleBinding", "r", "Role/r", &format!("{{kind: ServiceAccount, name: {account}}}"));
    scan(&[documents, &[&read, &bound]].concat())
}

fn severity_204(evaluation: &Evaluation) -> Option<Severity> {
    let mut all = evaluation.findings.iter().filter(|f| f.rule == "SC-204").map(|f| f.severity);
    let first = all.next();
    assert_eq!(all.next(), None, "{:?}", found(evaluation));
    first
}

#[test]
fn sc_204_what_an_account_is_counts_with_what_it_reads() {
    let [a, b, c, d] = clients();
    let evaluation = reads("a", "b-oidc", &[&a, &b, &c, &d]);
    let finding = only(&evaluation, "SC-204");
    assert_eq!((finding.subject.to_string(), finding.severity), ("ServiceAccount/shop/a".to_owned(), Severity::High));
    assert_eq!(
        (finding.clients.as_slice(), finding.grade),
        (["a".to_owned(), "b".to_owned()].as_slice(), Grade::Reachable)
    );
    let said: Vec<&str> = finding.evidence.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(
        said,
        ["rules[0] (get): Secret b-oidc in namespace shop", "spec.template.spec.serviceAccountName", "subjects[0]"]
    );
    // Its own credential is no news.
    assert_eq!(severity_204(&reads("a", "a-oidc, other", &[&a, &b, &c, &d])), None);
    assert_eq!(severity_204(&reads("a", "b-oidc", &[&family("a"), &family("b"), &c, &d])), None);
    // Declared to be the client's, without any workload.
    let of = identity("a", "serviceAccountName: x, credentials: [{secret: {name: a-oidc, key: k}}]");
    let by_name = reads("x", "b-oidc", &[&of, &b, &d]);
    assert_eq!(severity_204(&by_name), Some(Severity::High));
    assert!(only(&by_name, "SC-204").evidence.iter().any(|e| e.path == "spec.serviceAccountName"));
    assert_eq!(severity_204(&reads("x", "a-oidc", &[&of, &b, &d])), None);
    // What its workload receives it has, whoever's it is; an issuer's it is not.
    let ci = deployment("ci", &format!("serviceAccountName: ci, {}", holds("a-oidc", "k")));
    assert_eq!(severity_204(&reads("ci", "b-oidc", &[&a, &b, &c, &d, &ci])), Some(Severity::High));
    assert_eq!(severity_204(&reads("ci", "a-oidc", &[&a, &b, &c, &d, &ci])), Some(Severity::Medium));
    // An account of two clients that reads one of them gives it to the workload of the other.
    let other = deployment("b", &format!("serviceAccountName: a, {}", holds("b-oidc", "k")));
    assert_eq!(severity_204(&reads("a", "a-oidc", &[&a, &b, &c, &other])), Some(Severity::High));
}

#[test]
fn sc_204_a_stranger_that_reads_one() {
    let [a, b, c, d] = clients();
    let evaluation = reads("ci", "a-oidc", &[&a, &b, &c, &d]);
    let finding = only(&evaluation, "SC-204");
    assert_eq!((finding.severity, finding.grade), (Severity::Medium, Grade::Reachable));
    assert_eq!(finding.clients, ["a"]);
    // Where nobody says whose the client is, or whose it is is not there, it may be its own.
    let unclaimed = identity("a", "credentials: [{secret: {name: a-oidc, key: k}}]");
    assert_eq!(severity_204(&reads("ci", "a-oidc", &[&unclaimed, &b, &c, &d])), None);
    assert_eq!(severity_204(&reads("ci", "a-oidc", &[&a, &b, &d])), None);
    // Two are two, whosever they are.
    assert_eq!(severity_204(&reads("ci", "a-oidc, b-oidc", &[&unclaimed, &b])), Some(Severity::High));
}

#[test]
fn jobs_and_the_one_client_that_is_read() {
    let runs = |name: &str| deployment(name, "serviceAccountName: reader").replace("namespace: shop", "namespace: ops");
    let (dex, other) = (runs("dex"), runs("other"));
    let whose = |who: &str, names: &str, job: &str, running: &[&str]| -> Option<Severity> {
        let [a, b, c, d] = clients();
        let read = role("Role", "r", &rule("secrets", "get", &format!(", resourceNames: [{names}]")));
        let bound = binding("RoleBinding", "r", "Role/r", who);
        let mut reader = Reader::default();
        let all = [&[&*a, &b, &c, &d, &read, &bound], running].concat().join("---\n");
        reader.add("all.yaml", all.as_bytes());
        let mut input = reader.finish(now());
        input.roles = [job.parse::<Appointed>().unwrap()].into_iter().collect();
        severity_204(&evaluate(input, now()))
    };
    let with = |names: &str, job: &str, running: &[&str]| whose(READER, names, job, running);
    for no in ["broker=ops/reader", "verifier=ops/reader", "issuer=ops/else"] {
        assert_eq!(with("a-oidc", no, &[&dex]), Some(Severity::Medium), "{no}");
    }
    assert_eq!(with("a-oidc", "issuer=ops/reader", &[&dex, &other]), None);
    assert_eq!(with("a-oidc", "issuer=ops/Deployment/dex", &[&dex]), None);
    assert_eq!(with("a-oidc", "issuer=ops/Deployment/dex", &[&dex, &other]), Some(Severity::Medium));
    assert_eq!(with("a-oidc, b-oidc", "issuer=ops/reader", &[&dex]), Some(Severity::High));
    assert_eq!(with("a-oidc", "platform=ops/reader", &[&dex]), Some(Severity::Info));
    assert_eq!(with("a-oidc, b-oidc", "platform=ops/reader", &[&dex]), Some(Severity::Info));
    // What an issuer's workload receives it has as the other end.
    let holder = deployment("idp", &format!("serviceAccountName: idp, {}", holds("a-oidc", "k")));
    let who = "{kind: ServiceAccount, name: idp}";
    assert_eq!(whose(who, "b-oidc", "issuer=shop/Deployment/idp", &[&holder]), None);
    assert_eq!(whose(who, "b-oidc", "broker=shop/Deployment/idp", &[&holder]), Some(Severity::High));
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
    let group = binding("RoleBinding", "all", "Role/r", &group_of("serviceaccounts:ops"));
    let other = binding("RoleBinding", "one", "Role/none", READER) + "---\n" + &role("Role", "none", "");
    assert_eq!(rbac(&scan(&[&a, &b, &c, &d, &read, &group, &other])), ["SC-204 Group/system:serviceaccounts:ops"]);
    // Half by its group and half by itself is a finding of the account, and the half that the group has of the group.
    let half = role("Role", "half", &rule("secrets", "get", ", resourceNames: [a-oidc]"));
    let rest = role("Role", "rest", &rule("secrets", "get", ", resourceNames: [b-oidc]"));
    let of_group = binding("RoleBinding", "half", "Role/half", &group_of("serviceaccounts:ops"));
    let of_one = binding("RoleBinding", "rest", "Role/rest", READER);
    let evaluation = scan(&[&a, &b, &c, &d, &half, &rest, &of_group, &of_one]);
    assert_eq!(rbac(&evaluation), ["SC-204 ServiceAccount/ops/reader", "SC-204 Group/system:serviceaccounts:ops"]);
    let severities: Vec<Severity> =
        evaluation.findings.iter().filter(|f| f.rule == "SC-204").map(|f| f.severity).collect();
    assert_eq!(severities, [Severity::High, Severity::Medium]);
    assert_eq!(evaluation.findings[0].clients, ["a", "b"]);
}

fn group_of(name: &str) -> String {
    format!("{{kind: Group, name: \"system:{name}\"}}")
}

/// What is said of the two clients where these subjects read the Secret of one each, `a` first.
fn readers(subjects: &[(&str, &str)]) -> Vec<String> {
    let [a, b, c, d] = clients();
    let mut all = vec![a, b, c, d];
    for (at, (client, subject)) in subjects.iter().enumerate() {
        let names = format!(", resourceNames: [{client}-oidc]");
        all.push(role("Role", &format!("r{at}"), &rule("secrets", "get", &names)));
        all.push(binding("RoleBinding", &format!("b{at}"), &format!("Role/r{at}"), subject));
    }
    let evaluation = scan(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let of = evaluation.findings.iter().filter(|f| f.rule == "SC-204");
    of.map(|f| format!("{} {} {}", f.severity.name(), f.subject, f.clients.join(","))).collect()
}

#[test]
fn what_several_groups_give_together_is_said_once() {
    let [everybody, all, of_ops] = ["authenticated", "serviceaccounts", "serviceaccounts:ops"].map(group_of);
    // Of the narrowest that has all of it. The accounts of clients are in the wider one: it hands a to b already.
    let a_to_all = "high Group/system:serviceaccounts a";
    let both = readers(&[("a", &all), ("b", &of_ops)]);
    assert_eq!(both, [a_to_all, "high Group/system:serviceaccounts:ops a,b"]);
    assert_eq!(readers(&[("a", &of_ops)]), ["medium Group/system:serviceaccounts:ops a"], "of nobody's client");
    let shop = group_of("serviceaccounts:shop");
    assert_eq!(readers(&[("a", &shop)]), ["high Group/system:serviceaccounts:shop a"], "b is in it");
    // Nothing is repeated of an account that can no more, and of one in no such group the half is not the whole.
    let with_one = readers(&[("a", &all), ("b", &everybody), ("b", READER), ("a", READER)]);
    assert_eq!(with_one, ["high Group/system:authenticated b", "high Group/system:serviceaccounts a,b"]);
    let elsewhere = readers(&[("a", &of_ops), ("b", "{kind: ServiceAccount, namespace: till, name: x}")]);
    assert_eq!(elsewhere, ["medium Group/system:serviceaccounts:ops a", "medium ServiceAccount/till/x b"]);
    let in_it = readers(&[("a", &of_ops), ("b", READER)]);
    assert_eq!(in_it, ["high ServiceAccount/ops/reader a,b", "medium Group/system:serviceaccounts:ops a"]);
}

#[test]
fn a_thousand_accounts_do_not_repeat_their_group() {
    let [a, b, c, d] = clients();
    let mut all = vec![a, b, c, d, role("Role", "r", &rule("secrets, pods/exec", "get, create", ""))];
    all.push(binding("ClusterRoleBinding", "g", "ClusterRole/edit", &group_of("authenticated")));
    for n in 0..1000 {
        all.push(binding("RoleBinding", &format!("b{n}"), "Role/r", &format!("{{kind: ServiceAccount, name: x{n}}}")));
    }
    let begun = std::time::Instant::now();
    let evaluation = scan(&all.iter().map(String::as_str).collect::<Vec<_>>());
    println!("{:?}", begun.elapsed());
    assert_eq!(rbac(&evaluation), ["SC-204 Group/system:authenticated", "SC-205 Group/system:authenticated"]);
}

#[test]
fn what_is_surer_than_what_the_group_can_is_said_of_the_account() {
    let [a, b, c, d] = clients();
    let make = role("Role", "make", &rule("pods", "create", ""));
    let exec = role("Role", "exec", &rule("pods/exec", "create", ", resourceNames: [a-1]"));
    let to_all = binding("RoleBinding", "make", "Role/make", &group_of("serviceaccounts:ops"));
    let to_one = |role: &str| binding("RoleBinding", "one", &format!("Role/{role}"), READER);
    let said = |more: &str| -> Vec<String> {
        let evaluation = scan(&[&a, &b, &c, &d, &make, &exec, &to_all, more]);
        let of = evaluation.findings.iter().filter(|f| f.rule == "SC-205");
        of.map(|f| format!("{} {} {}", f.severity.name(), f.subject, f.clients.join(","))).collect()
    };
    let group = "medium Group/system:serviceaccounts:ops a,b";
    assert_eq!(said(&to_one("exec")), ["high ServiceAccount/ops/reader a", group]);
    assert_eq!(said(&to_one("make")), [group]);
    // What an account can do to its own client makes it no surer of another.
    let own = "{kind: ServiceAccount, name: a}";
    let both = [binding("RoleBinding", "x", "Role/exec", own), binding("RoleBinding", "y", "Role/make", own)];
    let evaluation = scan(&[&a, &b, &c, &d, &make, &exec, &both[0], &both[1]]);
    let finding = only(&evaluation, "SC-205");
    assert_eq!((finding.severity, finding.clients.as_slice()), (Severity::Medium, ["b".to_owned()].as_slice()));
    assert!(finding.evidence.iter().all(|e| !e.path.contains("commands")), "{:?}", finding.evidence);
    // A right of the group and one of the account do together what neither does alone.
    let of = |verb: &str, resource: &str| rule(resource, verb, "").replace("\"\"", "rbac.authorization.k8s.io");
    let (bind, give) =
        (role("Role", "bind", &of("bind", "roles")), role("Role", "give", &of("create", "rolebindings")));
    let binds = binding("RoleBinding", "bind", "Role/bind", &group_of("serviceaccounts:ops"));
    let gives = binding("RoleBinding", "give", "Role/give", READER);
    let together = scan(&[&a, &b, &c, &d, &bind, &give, &binds, &gives]);
    assert_eq!(rbac(&together), ["SC-205 ServiceAccount/ops/reader"]);
    assert!(rbac(&scan(&[&a, &b, &c, &d, &bind, &give, &binds])).is_empty());
    let binds = binding("RoleBinding", "bind", "Role/bind", &group_of("authenticated"));
    assert_eq!(rbac(&scan(&[&a, &b, &c, &d, &bind, &give, &binds, &gives])), ["SC-205 ServiceAccount/ops/reader"]);
}

#[test]
fn what_nobody_has_to_say_who_he_is_for_everybody_may_do() {
    let read = role("Role", "r", &rule("secrets", "list", ""));
    for subject in ["{kind: User, name: \"system:anonymous\"}", &group_of("unauthenticated")] {
        let evaluation = with_binding(&read, &binding("RoleBinding", "r", "Role/r", subject));
        let finding = only(&evaluation, "SC-204");
        assert_eq!(
            (finding.subject.to_string().as_str(), finding.severity),
            ("Group/system:unauthenticated", Severity::High)
        );
    }
    // So it is of no use to say it of accounts, and it is half of what they have.
    let anonymous = group_of("unauthenticated");
    let once = readers(&[("a", &anonymous), ("b", &anonymous), ("a", READER), ("b", &group_of("authenticated"))]);
    assert_eq!(once, ["high Group/system:unauthenticated a,b"]);
    assert_eq!(
        readers(&[("a", &anonymous), ("b", READER)]),
        ["high Group/system:unauthenticated a", "high ServiceAccount/ops/reader a,b"]
    );
    let other = binding("RoleBinding", "r", "Role/r", "{kind: User, name: anonymous}");
    assert!(rbac(&with_binding(&read, &other)).is_empty());
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
        (rule("serviceaccounts/token", "create", ""), all(Severity::High)),
        (rule("\"*/token\"", "create", ""), all(Severity::High)),
        (rule("serviceaccounts/token", "create", ", resourceNames: [f]"), Some((Severity::High, "f".to_owned()))),
        (rule("serviceaccounts/token", "create", ", resourceNames: [a]"), Some((Severity::High, "a".to_owned()))),
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
        (rbac_group("roles, rolebindings", "bind, patch"), all(Severity::Medium)),
        (rbac_group("clusterroles, rolebindings", "bind, update"), all(Severity::Medium)),
        (rbac_group("roles, rolebindings", "bind, delete"), None),
        (rbac_group("rolebindings", "create, patch, update"), None),
        (rbac_group("clusterroles", "bind"), None),
        // These count in the whole cluster only.
        (rbac_group("clusterroles, clusterrolebindings", "bind, create"), None),
        (rbac_group("clusterroles", "escalate, update"), None),
        (rule("users, groups", "impersonate", ""), None),
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
fn sc_205_pods_of_which_nobody_knows_the_names() {
    let exec = |name: &str| role("Role", "r", &rule("pods/exec", "create", &format!(", resourceNames: [{name}]")));
    let bound = binding("RoleBinding", "r", "Role/r", READER);
    let pod = |meta: &str| {
        let spec = format!("serviceAccountName: a, {}", holds("a-oidc", "k"));
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, {meta}}}\nspec: {{{spec}}}\n")
    };
    let of = |meta: &str, name: &str| {
        let a = identity("a", "serviceAccountName: a, credentials: [{secret: {name: a-oidc, key: k}}]");
        rbac(&scan(&[&a, &pod(meta), &exec(name), &bound]))
    };
    let reader = ["SC-205 ServiceAccount/ops/reader"];
    // Whoever wrote the controller of a custom resource chose them.
    let owners = "ownerReferences: [{apiVersion: ex.org/v1, kind: Runner, name: prod, controller: true, uid: u}]";
    assert_eq!(of(&format!("name: exec-7, {owners}"), "exec-7"), reader);
    assert_eq!(of("generateName: job-", "job-x7k2p"), reader);
    assert!(of("generateName: job-", "joba-x7k2p").is_empty());
    assert!(of("name: job", "exec-7").is_empty());
}

#[test]
fn sc_205_bind_is_what_the_roles_that_it_names_allow() {
    let [a, b, c, d] = clients();
    let rules = |resource: &str, name: &str| {
        let names = if name.is_empty() { String::new() } else { format!(", resourceNames: [{name}]") };
        let all = format!("{}, {}", rule(resource, "bind", &names), rule("rolebindings", "create", ""));
        role("Role", "r", &all.replace("\"\"", "rbac.authorization.k8s.io"))
    };
    let bound = binding("RoleBinding", "r", "Role/r", READER);
    let found = |resource: &str, name: &str, more: &str| {
        rbac(&scan(&[&a, &b, &c, &d, &rules(resource, name), &bound, more])).len()
    };
    let look = rule("pods, configmaps", "get, list", "");
    for (resource, name, expected) in [
        ("clusterroles", "", 1),
        ("clusterroles", "view", 0),
        ("clusterroles", "view, edit", 1),
        ("clusterroles", "admin", 1),
        ("clusterroles", "cluster-admin", 1),
        ("clusterroles", "unknown", 1),
        ("roles", "view", 1),
    ] {
        assert_eq!(found(resource, name, ""), expected, "{resource} {name}");
    }
    for (rules, expected) in [
        (look.clone(), 0),
        (rule("secrets", "get", ""), 1),
        (rule("secrets", "list", ", resourceNames: [a-oidc]"), 1),
        (rule("serviceaccounts/token", "create", ""), 1),
        (rule("pods", "create", ""), 1),
        (rule("\"*\"", "\"*\"", ""), 1),
        (rule("clusterroles", "bind", "").replace("\"\"", "rbac.authorization.k8s.io"), 1),
    ] {
        assert_eq!(found("clusterroles", "x", &role("ClusterRole", "x", &rules)), expected, "{rules}");
        assert_eq!(found("roles", "x", &role("Role", "x", &rules)), expected, "{rules}");
    }
    // One of another namespace is another.
    let elsewhere = role("Role", "x", &look).replace("namespace: shop", "namespace: till");
    assert_eq!(found("roles", "x", &elsewhere), 1);
    // Nor is it known what is not filled in yet, or what is added.
    let unfilled = role("ClusterRole", "x", "") + "aggregationRule: {clusterRoleSelectors: []}\n";
    assert_eq!(found("clusterroles", "x", &unfilled), 1);
    let added = role("ClusterRole", "more", &rule("secrets", "get", ""))
        .replace("{name: more}", "{name: more, labels: {rbac.authorization.k8s.io/aggregate-to-view: \"true\"}}");
    assert_eq!(found("clusterroles", "view", &added), 1);
    // Given in the whole cluster it is that of every namespace.
    let bind = rules("roles", "x").replace("kind: Role", "kind: ClusterRole").replace(", namespace: shop", "");
    let whole = binding("ClusterRoleBinding", "r", "ClusterRole/r", READER);
    let both = |here: &str, there: &str| {
        let there = role("Role", "x", there).replace("namespace: shop", "namespace: till");
        rbac(&scan(&[&a, &b, &c, &d, &bind, &whole, &role("Role", "x", here), &there])).len()
    };
    assert_eq!((both(&look, &look), both(&look, &rule("secrets", "get", ""))), (0, 1));
}

#[test]
fn sc_205_a_secret_is_made_to_get_a_token() {
    let federated =
        identity("f", "serviceAccountName: f, credentials: [{federated: {subject: \"system:serviceaccount:shop:f\"}}]");
    let way = |rules: &str| {
        let evaluation = scan(&[&federated, &role("Role", "r", rules), &binding("RoleBinding", "r", "Role/r", READER)]);
        let found = evaluation.findings.iter().find(|f| f.rule == "SC-205");
        found.map(|f| (f.severity, f.grade, f.clients.join(",")))
    };
    let medium = Some((Severity::Medium, Grade::Potential, "f".to_owned()));
    for (rules, expected) in [
        (rule("secrets", "create, get", ""), medium.clone()),
        (rule("secrets", "create, list", ""), medium.clone()),
        (rule("secrets", "create", "") + ", " + &rule("secrets", "get", ", resourceNames: [x]"), medium),
        (rule("secrets", "create", ""), None),
        (rule("secrets", "get, list, update", ""), None),
        (rule("secrets", "create, get", ", resourceNames: [x]"), None),
    ] {
        assert_eq!(way(&rules), expected, "{rules}");
    }
    // The credential of a client that is none by a token is what is read.
    assert_eq!(rbac(&with(&rule("secrets", "create, get", ""))), ["SC-204 ServiceAccount/ops/reader"]);
}

#[test]
fn sc_205_in_the_whole_cluster() {
    let of = |verbs: &str, resources: &str| rule(resources, verbs, "").replace("\"\"", "rbac.authorization.k8s.io");
    let groups = |names: &str, with: &str| {
        let names = if names.is_empty() { String::new() } else { format!(", resourceNames: [{names}]") };
        format!("{}, {with}", rule("groups", "impersonate", &names))
    };
    let (bob, any) = (rule("users", "impersonate", ", resourceNames: [bob]"), rule("pods", "get", ""));
    let account = rule("serviceaccounts", "impersonate", ", resourceNames: [nobody]");
    let (high, medium) = (Some(Severity::High), Some(Severity::Medium));
    for (rules, expected) in [
        (of("bind, create", "clusterroles, clusterrolebindings"), medium),
        (of("bind, patch", "clusterroles, clusterrolebindings"), medium),
        (of("bind, delete", "clusterroles, clusterrolebindings"), None),
        (of("bind, create", "roles, clusterrolebindings"), None),
        (of("create, patch", "clusterrolebindings"), None),
        (of("escalate, update", "clusterroles"), medium),
        (of("escalate, create", "clusterroles"), medium),
        (of("escalate", "clusterroles"), None),
        (of("create, update", "clusterroles"), None),
        (groups("", &bob), high),
        (groups("\"system:masters\"", &bob), high),
        (groups("\"system:masters\"", &account), high),
        (groups("admins", &bob), None),
        (groups("", &any), None),
        (bob.clone(), None),
    ] {
        let evaluation = with_binding(
            &role("ClusterRole", "r", &rules),
            &binding("ClusterRoleBinding", "r", "ClusterRole/r", READER),
        );
        let found = evaluation.findings.iter().find(|f| f.rule == "SC-205");
        assert_eq!(found.map(|f| f.severity), expected, "{rules}");
        assert!(found.is_none_or(|f| f.clients == ["a", "b"]), "{rules}");
    }
    // As an account of one namespace it may be in a group, as a user of none.
    let group = role("ClusterRole", "g", &rule("groups", "impersonate", ""));
    let whole = binding("ClusterRoleBinding", "g", "ClusterRole/g", READER);
    let [a, b, c, d] = clients();
    for (who, expected) in [(&account, 1), (&bob, 0)] {
        let (who, bound) = (role("Role", "w", who), binding("RoleBinding", "w", "Role/w", READER));
        assert_eq!(rbac(&scan(&[&a, &b, &c, &d, &group, &whole, &who, &bound])).len(), expected, "{who}");
    }
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
fn what_is_added_to_roles_that_kubernetes_brings() {
    let piece = |label: &str| {
        role("ClusterRole", "piece", &rule("secrets", "get", ""))
            .replace("{name: piece", &format!("{{name: piece, labels: {{{label}}}"))
    };
    let to = |name: &str| piece(&format!("rbac.authorization.k8s.io/aggregate-to-{name}: \"true\""));
    let has = |name: &str, more: &str| {
        let bound = binding("RoleBinding", "r", &format!("ClusterRole/{name}"), READER);
        rbac(&with_binding(more, &bound)).iter().any(|f| f.starts_with("SC-204"))
    };
    assert!(has("view", &to("view")));
    let evaluation = with_binding(&to("view"), &binding("RoleBinding", "r", "ClusterRole/view", READER));
    let said: Vec<String> =
        only(&evaluation, "SC-204").evidence.iter().map(|e| format!("{} {}", e.object, e.path)).collect();
    assert_eq!(
        said,
        ["ClusterRole/piece rules[0] (get): every Secret in namespace shop", "RoleBinding/shop/r subjects[0]"]
    );
    for near in [
        to("edit"),
        to("mine"),
        piece("rbac.authorization.k8s.io/aggregate-to-view: \"false\""),
        to("view").replace("ClusterRole", "Role").replace("{name: piece", "{namespace: shop, name: piece"),
    ] {
        assert!(!has("view", &near), "{near}");
    }
    assert!(!has("system:basic-user", &to("view")));
    // One that was given counts as it is filled in.
    assert!(!has("view", &format!("{}---\n{}", to("view"), role("ClusterRole", "view", &rule("pods", "get", "")))));
    // What is added to `view` is added to `edit` and `admin`, too: here a right that they do not have by themselves.
    let escalate = rule("roles", "escalate, update", "").replace("\"\"", "rbac.authorization.k8s.io");
    let shown = |name: &str, label: &str| {
        let piece = to(label).replace(&rule("secrets", "get", ""), &escalate);
        let evaluation = with_binding(&piece, &binding("RoleBinding", "r", &format!("ClusterRole/{name}"), READER));
        evaluation.findings.iter().flat_map(|f| &f.evidence).any(|e| e.object.name == "piece")
    };
    for (label, expected) in
        [("view", [true, true, true]), ("edit", [false, true, true]), ("admin", [false, false, true])]
    {
        assert_eq!(["view", "edit", "admin"].map(|name| shown(name, label)), expected, "{label}");
    }
}

#[test]
fn the_controllers_of_kubernetes_are_left_out() {
    let read = role("ClusterRole", "system:controller:x", &rule("\"*\"", "\"*\"", ""));
    let bind = |name: &str, role: &str, namespace: &str, labels: &str| {
        let subject = format!("{{kind: ServiceAccount, namespace: {namespace}, name: x}}");
        let text = binding("ClusterRoleBinding", name, &format!("ClusterRole/{role}"), &subject);
        with_binding(&read, &text.replace("metadata: {", &format!("metadata: {{labels: {{{labels}}}, ")))
    };
    let (name, mark) = ("system:controller:x", "kubernetes.io/bootstrapping: rbac-defaults");
    assert_eq!(rbac(&bind(name, name, "kube-system", mark)).len(), 0);
    assert_eq!(rbac(&bind(name, name, "kube-system", "a: b")).len(), 2);
    // A label that anybody can write is not enough.
    assert_eq!(rbac(&bind(name, name, "ops", mark)).len(), 2);
    assert_eq!(rbac(&bind("mine", name, "kube-system", mark)).len(), 2);
    assert_eq!(rbac(&bind(name, "cluster-admin", "kube-system", mark)).len(), 2);
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
    let accepts = |name: &str, rule: &str| {
        let sharing = "sharing: {exceptions: [{rule: SC-000, with: [{kind: ServiceAccount, name: ops}], \
                       reason: deploys the whole shop until SEC-412, expiresAt: \"2027-01-01T00:00:00Z\"}]}";
        let sharing = sharing.replace("SC-000", rule);
        identity(name, &format!("{sharing}, {}", owns(&format!("{name}-oidc"), "k", name)))
    };
    let [a, b, c, d] = clients();
    let bound = binding("RoleBinding", "r", "Role/r", "{kind: ServiceAccount, name: ops}");
    for (id, rights) in [("SC-204", rule("secrets", "get", "")), ("SC-205", rule("pods/exec", "create", ""))] {
        let role = role("Role", "r", &rights);
        let subject = format!("{id} ServiceAccount/shop/ops");
        let is_open = |a: &str, b: &str| open(&scan(&[a, b, &c, &d, &role, &bound])).contains(&subject);
        assert!(is_open(&a, &b) && is_open(&accepts("a", id), &b), "{id}");
        assert!(!is_open(&accepts("a", id), &accepts("b", id)), "{id}");
    }
}

#[test]
fn pods_of_a_stateful_set_are_numbered() {
    let [a, ..] = clients();
    let sets = deployment("a", &holds("a-oidc", "k")).replace("kind: Deployment", "kind: StatefulSet");
    let lists = a.replace("kind: Deployment", "kind: StatefulSet");
    let reached = |name: &str| {
        let role = role("Role", "r", &rule("pods/exec", "create", &format!(", resourceNames: [{name}]")));
        let evaluation = scan(&[&lists, &sets, &role, &binding("RoleBinding", "r", "Role/r", READER)]);
        evaluation.findings.iter().any(|f| f.rule == "SC-205")
    };
    for name in ["a-0", "a-17"] {
        assert!(reached(name), "{name}");
    }
    for name in ["a", "a-", "a-metrics-0", "a-0-x", "b-0"] {
        assert!(!reached(name), "{name}");
    }
}
