//! Each rule: what it finds, and the near miss that it does not.

use clientgrant::sharing::{Evaluation, Severity, State, catalogue};

use super::support::{deployment, found, grant, grant_until, holds, identity, only, open, owns, scan};

fn of(evaluation: &Evaluation, rule: &str) -> Vec<String> {
    found(evaluation).into_iter().filter(|f| f.starts_with(rule)).collect()
}

const BOTH: &str = "containers: [{name: main, envFrom: [{secretRef: {name: a}}, {secretRef: {name: b}}]}]";

#[test]
fn sc_101_one_slot_of_two_clients() {
    let slot = "credentials: [{secret: {name: s, key: k}}]";
    let two = scan(&[&identity("a", slot), &identity("b", slot)]);
    assert_eq!(of(&two, "SC-101"), ["SC-101 ClientIdentity/shop/a", "SC-101 ClientIdentity/shop/b"]);
    assert!(two.findings.iter().filter(|f| f.rule == "SC-101").all(|f| f.severity == Severity::Critical));
    // Another key, another namespace, one family.
    let other = scan(&[&identity("a", slot), &identity("b", "credentials: [{secret: {name: s, key: l}}]")]);
    assert!(of(&other, "SC-101").is_empty());
    let elsewhere = identity("b", slot).replace("namespace: shop", "namespace: till");
    assert!(of(&scan(&[&identity("a", slot), &elsewhere]), "SC-101").is_empty());
    let family = format!("family: f, {slot}");
    assert!(of(&scan(&[&identity("a", &family), &identity("b", &family)]), "SC-101").is_empty());
    // Two objects about one client are one client.
    let same = identity("a", slot).replace("name: a,", "name: again,");
    assert!(of(&scan(&[&identity("a", slot), &same]), "SC-101").is_empty());
}

#[test]
fn sc_201_one_workload_of_two_clients() {
    let a = identity("a", "credentials: [{secret: {name: a, key: k}}]");
    let b = identity("b", "credentials: [{secret: {name: b, key: k}}]");
    assert_eq!(only(&scan(&[&a, &b, &deployment("w", BOTH)]), "SC-201").severity, Severity::High);
    let apart =
        "containers: [{name: x, envFrom: [{secretRef: {name: a}}]}, {name: y, envFrom: [{secretRef: {name: b}}]}]";
    assert_eq!(only(&scan(&[&a, &b, &deployment("w", apart)]), "SC-201").severity, Severity::Medium);
    let joined = format!("shareProcessNamespace: true, {apart}");
    assert_eq!(only(&scan(&[&a, &b, &deployment("w", &joined)]), "SC-201").severity, Severity::High);
    let perhaps = "containers: [{name: x, envFrom: [{secretRef: {name: a}}, {secretRef: {name: b, optional: true}}]}]";
    assert_eq!(only(&scan(&[&a, &b, &deployment("w", perhaps)]), "SC-201").severity, Severity::Medium);
    assert!(of(&scan(&[&a, &b, &deployment("w", &holds("a", "k"))]), "SC-201").is_empty());
    let family =
        |name: &str| identity(name, &format!("family: f, credentials: [{{secret: {{name: {name}, key: k}}}}]"));
    assert!(of(&scan(&[&family("a"), &family("b"), &deployment("w", BOTH)]), "SC-201").is_empty());
}

#[test]
fn sc_202_one_account_of_two_clients() {
    let client =
        |name: &str| identity(name, &format!("workloads: [{{apiVersion: apps/v1, kind: Deployment, name: {name}}}]"));
    let on = |name: &str, more: &str| deployment(name, &format!("serviceAccountName: one, containers: []{more}"));
    let two = scan(&[&client("a"), &client("b"), &on("a", ""), &on("b", "")]);
    let finding = only(&two, "SC-202");
    assert_eq!((finding.subject.to_string().as_str(), finding.severity), ("ServiceAccount/shop/one", Severity::High));
    let off = ", automountServiceAccountToken: false";
    let quiet = scan(&[&client("a"), &client("b"), &on("a", off), &on("b", off)]);
    assert_eq!(only(&quiet, "SC-202").severity, Severity::Medium);
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: one, namespace: shop}\nautomountServiceAccountToken: false\n";
    let quiet = scan(&[&client("a"), &client("b"), &on("a", ""), &on("b", ""), account]);
    assert_eq!(only(&quiet, "SC-202").severity, Severity::Medium);
    // A workload that is no client's, and one more version of the same client.
    assert!(of(&scan(&[&client("a"), &on("a", ""), &on("b", "")]), "SC-202").is_empty());
    // Another group's kind of the same name is another workload.
    let other = identity("b", "workloads: [{apiVersion: extensions.example.com/v1, kind: Deployment, name: b}]");
    assert!(of(&scan(&[&client("a"), &other, &on("a", ""), &on("b", "")]), "SC-202").is_empty());
}

#[test]
fn sc_203_a_client_on_default() {
    let client = identity("a", &owns("s", "k", "w"));
    let on_default = scan(&[&client, &deployment("w", &holds("s", "k"))]);
    assert_eq!(only(&on_default, "SC-203").severity, Severity::Medium);
    let own = format!("serviceAccountName: a, {}", holds("s", "k"));
    assert!(of(&scan(&[&client, &deployment("w", &own)]), "SC-203").is_empty());
    assert!(of(&scan(&[&client, &deployment("other", "containers: []")]), "SC-203").is_empty());
    let federated = identity("a", "credentials: [{federated: {subject: \"system:serviceaccount:shop:default\"}}]");
    assert_eq!(only(&scan(&[&federated, &deployment("w", "containers: []")]), "SC-203").severity, Severity::High);
}

#[test]
fn sc_207_a_bundle_is_delivered_whole() {
    let a = identity("a", "credentials: [{secret: {name: s, key: a}}]");
    let b = identity("b", "credentials: [{secret: {name: s, key: b}}]");
    let whole = deployment("w", "containers: [{name: x, envFrom: [{secretRef: {name: s}}]}]");
    assert_eq!(only(&scan(&[&a, &b, &whole]), "SC-207").severity, Severity::Medium);
    assert!(of(&scan(&[&a, &b, &deployment("w", &holds("s", "a"))]), "SC-207").is_empty());
    assert!(of(&scan(&[&a, &whole]), "SC-207").is_empty());
    let items = "containers: [{name: x, volumeMounts: [{name: v}]}], volumes: [{name: v, secret: {secretName: s, items: [{key: a, path: a}]}}]";
    assert!(of(&scan(&[&a, &b, &deployment("w", items)]), "SC-207").is_empty());
}

#[test]
fn sc_301_a_holder_that_nobody_named() {
    let client = identity("a", &owns("s", "k", "w"));
    let (owner, thief) = (deployment("w", &holds("s", "k")), deployment("thief", &holds("s", "k")));
    let finding = scan(&[&client, &owner, &thief]);
    let finding = only(&finding, "SC-301");
    assert_eq!((finding.subject.name.as_str(), finding.severity), ("thief", Severity::High));
    // Nobody says whose it is: then nobody is foreign.
    let unknown = identity("a", "credentials: [{secret: {name: s, key: k}}]");
    assert!(of(&scan(&[&unknown, &deployment("w", &holds("s", "k"))]), "SC-301").is_empty());
    // By account, and only where no workload is listed.
    let account = identity("a", "serviceAccountName: acc, credentials: [{secret: {name: s, key: k}}]");
    let runs = deployment("w", &format!("serviceAccountName: acc, {}", holds("s", "k")));
    assert!(of(&scan(&[&account, &runs]), "SC-301").is_empty());
    let listed = identity("a", &format!("serviceAccountName: acc, {}", owns("s", "k", "other")));
    assert_eq!(of(&scan(&[&listed, &runs]), "SC-301").len(), 1);
}

#[test]
fn sc_302_a_client_without_a_grant() {
    let client = identity("a", "credentials: [{secret: {name: s, key: k}}]");
    let workload = deployment("w", &holds("s", "k"));
    let over = grant_until("a", "ann", "x", "2026-11-25T00:00:00Z");
    assert_eq!(only(&scan(&[&client, &workload, &over]), "SC-302").severity, Severity::High);
    assert!(of(&scan(&[&client, &workload, &grant("a", "ann", "x")]), "SC-302").is_empty());
    // One second before the end it is in force.
    let ends = grant_until("a", "ann", "x", "2026-11-25T00:00:01Z");
    assert!(of(&scan(&[&client, &workload, &ends]), "SC-302").is_empty());
    let suspended = grant("a", "ann", "x").replace("basis:", "suspend: true, basis:");
    assert_eq!(of(&scan(&[&client, &workload, &suspended]), "SC-302").len(), 1);
    // No grant at all was given: that is not known, rather than found.
    let none = scan(&[&client, &workload]);
    assert_eq!(found(&none).iter().filter(|f| f.contains("SC-302")).collect::<Vec<_>>(), ["SC-901 Rule/SC-302"]);
}

#[test]
fn sc_303_a_grant_without_a_workload() {
    let client = identity("a", &owns("s", "k", "gone"));
    let other = deployment("w", "containers: []");
    let live = grant("a", "ann", "x");
    assert_eq!(of(&scan(&[&client, &other, &live]), "SC-303"), ["SC-303 ClientGrant/shop/a-ann"]);
    assert!(of(&scan(&[&client, &deployment("gone", "containers: []"), &live]), "SC-303").is_empty());
    let over = grant_until("a", "ann", "x", "2026-11-01T00:00:00Z");
    assert!(of(&scan(&[&client, &other, &over]), "SC-303").is_empty());
    assert_eq!(of(&scan(&[&client, &live]), "SC-303"), Vec::<String>::new());
    assert!(found(&scan(&[&client, &live])).contains(&"SC-901 Rule/SC-303".to_owned()));
}

#[test]
fn sc_304_a_credential_that_nobody_holds() {
    let client = identity("a", "credentials: [{secret: {name: s, key: k}}]");
    assert_eq!(of(&scan(&[&client, &deployment("w", &holds("s", "other"))]), "SC-304").len(), 1);
    assert!(of(&scan(&[&client, &deployment("w", &holds("s", "k"))]), "SC-304").is_empty());
    assert!(of(&scan(&[&client]), "SC-304").is_empty());
}

#[test]
fn sc_401_a_literal_credential() {
    let client = identity("a-client", "workloads: [{apiVersion: apps/v1, kind: Deployment, name: w}]");
    let literal = |env: &str| deployment("w", &format!("serviceAccountName: a, containers: [{{name: x, {env}}}]"));
    let by_name = literal("env: [{name: OIDC_CLIENT_SECRET, value: abc}]");
    assert_eq!(only(&scan(&[&client, &by_name]), "SC-401").severity, Severity::Low);
    let beside = literal("env: [{name: OIDC_CLIENT_SECRET, value: abc}, {name: ID, value: a-client}]");
    assert_eq!(only(&scan(&[&client, &beside]), "SC-401").severity, Severity::Medium);
    for flags in ["args: [\"--client-secret=abc\"]", "command: [run, --client-secret, abc]"] {
        assert_eq!(of(&scan(&[&client, &literal(flags)]), "SC-401").len(), 1, "{flags}");
    }
    for innocent in [
        "env: [{name: OIDC_CLIENT_SECRET, value: $(FROM_ELSEWHERE)}]",
        "env: [{name: OIDC_CLIENT_SECRET, value: \"\"}]",
        "env: [{name: OIDC_CLIENT_SECRET_FILE, value: abc}]",
        "env: [{name: CLIENT_SECRET, value: /run/secret}]",
        "args: [--client-secret-file=abc]",
    ] {
        assert!(of(&scan(&[&client, &literal(innocent)]), "SC-401").is_empty(), "{innocent}");
    }
    assert!(of(&scan(&[&client, &by_name.replace("name: w", "name: other")]), "SC-401").is_empty());
}

#[test]
fn sc_901_what_cannot_be_compared() {
    let blank = identity("a", "");
    assert_eq!(of(&scan(&[&blank, &deployment("w", "containers: []")]), "SC-901"), ["SC-901 ClientIdentity/shop/a"]);
    let foreign = identity("a", "credentials: [{federated: {subject: \"system:serviceaccount:till:web\"}}]");
    assert_eq!(of(&scan(&[&foreign, &deployment("w", "containers: []")]), "SC-901"), ["SC-901 ClientIdentity/shop/a"]);
    // It frames nobody either.
    let there = deployment("web", "serviceAccountName: web, containers: []").replace("shop", "till");
    let mine = identity("b", "serviceAccountName: web").replace("namespace: shop", "namespace: till");
    assert!(open(&scan(&[&foreign, &mine, &there])).is_empty());
}

#[test]
fn what_hangs_on_it_and_what_makes_it_worse() {
    let a = identity("a", &owns("a", "k", "w"));
    let b = identity("b", "credentials: [{secret: {name: b, key: k}}]");
    let w = deployment("w", &format!("serviceAccountName: own, {BOTH}"));
    let grants = [grant("a", "ann", "read"), grant("b", "ann", "read, write"), grant("b", "bob", "write, pay")];
    let all: Vec<&str> = [&a, &b, &w].into_iter().chain(&grants).map(String::as_str).collect();
    let evaluation = scan(&all);
    let finding = only(&evaluation, "SC-201");
    let radius = finding.blast_radius;
    assert_eq!((radius.grants, radius.subjects, radius.scopes), (3, 2, 3));
    // The workload is a's: it gains what b has and a has not.
    assert_eq!(finding.gain, ["pay", "write"]);
    assert_eq!(finding.severity, Severity::High);
    let lasting = grants[2].replace("write, pay", "offline_access, pay");
    let with = [a.as_str(), &b, &w, &lasting];
    assert_eq!(only(&scan(&with), "SC-201").severity, Severity::Critical);
    let here = a.replace("clientID", "environment: prod, clientID");
    let there = b.replace("clientID", "environment: test, clientID");
    assert_eq!(only(&scan(&[&here, &there, &w]), "SC-201").severity, Severity::Critical);
    let many: Vec<String> = (0..101).map(|n| grant("b", &format!("u{n}"), "pay")).collect();
    let crowd: Vec<&str> = [a.as_str(), &b, &w].into_iter().chain(many.iter().map(String::as_str)).collect();
    assert_eq!(only(&scan(&crowd), "SC-201").severity, Severity::Critical);
    assert_eq!(only(&scan(&crowd[..crowd.len() - 1]), "SC-201").severity, Severity::High);
}

#[test]
fn findings_stand_by_gain_then_severity_then_subject() {
    let mut all: Vec<String> = Vec::new();
    for (n, scopes) in [(1, "a"), (2, "a, b, c"), (3, "a, b")] {
        all.push(identity(&format!("x{n}"), &format!("credentials: [{{secret: {{name: x{n}, key: k}}}}]")));
        all.push(identity(&format!("y{n}"), &owns(&format!("y{n}"), "k", &format!("w{n}"))));
        all.push(grant(&format!("x{n}"), "ann", scopes));
        all.push(grant(&format!("y{n}"), "ann", "own"));
        let both = format!(
            "serviceAccountName: s{n}, containers: [{{name: m, envFrom: [{{secretRef: {{name: x{n}}}}}, {{secretRef: {{name: y{n}}}}}]}}]"
        );
        all.push(deployment(&format!("w{n}"), &both));
    }
    let evaluation = scan(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let keys: Vec<_> = evaluation
        .findings
        .iter()
        .map(|f| (std::cmp::Reverse(f.gain.len()), std::cmp::Reverse(f.severity), f.subject.clone()))
        .collect();
    assert!(keys.is_sorted(), "{keys:?}");
    assert_eq!(evaluation.findings[0].subject.name, "s2");
    assert!(evaluation.findings.iter().all(|f| f.state == State::Open));
}

#[test]
fn the_catalogue_is_complete_and_speaks_to_people() {
    let ids: Vec<&str> = catalogue::ALL.iter().map(|r| r.id).collect();
    assert!(ids.is_sorted());
    for rule in catalogue::ALL {
        for text in [rule.what, rule.why, rule.remedy] {
            assert!(
                (20..400).contains(&text.len()) && text.ends_with('.') && !text.contains("  "),
                "{}: {text}",
                rule.id
            );
        }
        assert!(!rule.references.is_empty());
        assert_eq!(catalogue::nearest(rule.id).id, rule.id);
    }
    let written = super::support::document();
    assert!(written == catalogue::document(), "docs/sharing.md is out of date: run `make generate`");
}
