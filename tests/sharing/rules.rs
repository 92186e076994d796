//! Each rule: what it finds, and the near miss that it does not.

use clientgrant::sharing::{Evaluation, Grade, Severity, State, catalogue};

use super::support::{
    deployment, found, grant, grant_until, holds, identity, only, open, owns, scan, scan_also, scan_cluster,
};

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
    // Of very many each is told of all, and shows ten declarations of others.
    let many: Vec<String> = (0..40).map(|n| identity(&format!("c{n}"), slot)).collect();
    let many = scan(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let of_101: Vec<_> = many.findings.iter().filter(|f| f.rule == "SC-101").collect();
    assert_eq!(of_101.len(), 40);
    for finding in of_101 {
        assert_eq!((finding.clients.len(), finding.evidence.len()), (40, 11));
        assert!(finding.evidence.iter().any(|e| e.object == finding.subject));
    }
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
    // An ephemeral container sees the processes of the one that it was put beside.
    let beside = |target: &str| {
        let from = |name: &str| format!("env: [{{name: X, valueFrom: {{secretKeyRef: {{name: {name}, key: k}}}}}}]");
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: w, namespace: shop}}\nspec: {{containers: [{{name: x, {}}}, \
             {{name: y}}], ephemeralContainers: [{{name: debug{target}, {}}}]}}\n",
            from("a"),
            from("b")
        )
    };
    let finding = scan(&[&a, &b, &beside(", targetContainerName: x")]);
    let finding = only(&finding, "SC-201");
    assert_eq!(finding.severity, Severity::High);
    assert!(finding.evidence.iter().any(|e| e.path.starts_with("spec.ephemeralContainers[debug].env[X]")));
    for apart in ["", ", targetContainerName: y"] {
        assert_eq!(only(&scan(&[&a, &b, &beside(apart)]), "SC-201").severity, Severity::Medium, "{apart}");
    }
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
fn sc_206_the_credentials_of_two_owners_in_one_namespace() {
    let of_206 = |documents: &[&str]| of(&scan_also("SC-206", documents), "SC-206");
    let client = |name: &str| identity(name, &format!("credentials: [{{secret: {{name: {name}, key: k}}}}]"));
    let (a, b) = (client("a"), client("b"));
    assert_eq!(of_206(&[&a, &b]), ["SC-206 Namespace/shop"]);
    assert!(of(&scan(&[&a, &b]), "SC-206").is_empty(), "it looks only where it is asked for");
    assert!(of_206(&[&a, &b.replace("namespace: shop", "namespace: till")]).is_empty());
    assert!(of_206(&[&a, &identity("b", "serviceAccountName: b")]).is_empty());
    // One team answers for both; a client of which nobody says who answers may be anybody's.
    let (of_a, of_b) = (grant("a", "ann", "x"), grant("b", "ann", "x"));
    assert!(of_206(&[&a, &b, &of_a, &of_b]).is_empty());
    assert_eq!(of_206(&[&a, &b, &of_a]).len(), 1);
    assert_eq!(of_206(&[&a, &b, &of_a, &of_b.replace("team: t,", "team: u,")]).len(), 1);
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
fn sc_301_a_stranger_with_the_tokens_of_a_client() {
    let federated = "credentials: [{federated: {subject: \"system:serviceaccount:shop:web\"}}]";
    let listed = "workloads: [{apiVersion: apps/v1, kind: Deployment, name: a}]";
    let client = identity("a", &format!("{federated}, {listed}"));
    let on = |name: &str, more: &str| deployment(name, &format!("serviceAccountName: web, containers: []{more}"));
    let finding = scan(&[&client, &on("a", ""), &on("x", "")]);
    let finding = only(&finding, "SC-301");
    assert_eq!((finding.subject.name.as_str(), finding.severity), ("x", Severity::High));
    assert_eq!((finding.grade, finding.evidence.len()), (Grade::Identity, 2));
    // By a token in a volume, too; and of an account that nobody made for a client.
    let off = ", automountServiceAccountToken: false";
    let volume = ", volumes: [{name: t, projected: {sources: [{serviceAccountToken: {audience: idp, path: t}}]}}]";
    assert_eq!(of(&scan(&[&client, &on("x", &format!("{off}{volume}"))]), "SC-301").len(), 1);
    let default = client.replace("shop:web", "shop:default");
    let (own, stranger) = (deployment("a", "containers: []"), deployment("x", "containers: []"));
    assert_eq!(of(&scan(&[&default, &own, &stranger]), "SC-301"), ["SC-301 Deployment/shop/x"]);
    // Without a token, as another account, or entitled: by the account, or as one of the family.
    for near in [on("x", off), deployment("x", "serviceAccountName: other, containers: []")] {
        assert!(of(&scan(&[&client, &on("a", ""), &near]), "SC-301").is_empty(), "{near}");
    }
    let account = identity("a", &format!("serviceAccountName: web, {federated}"));
    assert!(of(&scan(&[&account, &on("a", ""), &on("x", "")]), "SC-301").is_empty());
    let nobody = identity("a", federated);
    assert!(of(&scan(&[&nobody, &on("x", "")]), "SC-301").is_empty());
    let family = |name: &str, spec: &str| identity(name, &format!("family: f, {spec}"));
    let sister = family("b", "workloads: [{apiVersion: apps/v1, kind: Deployment, name: x}]");
    let of_family = family("a", &format!("{federated}, {listed}"));
    assert!(of(&scan(&[&of_family, &sister, &on("a", ""), &on("x", "")]), "SC-301").is_empty());
    assert_eq!(of(&scan(&[&client, &sister, &on("a", ""), &on("x", "")]), "SC-301").len(), 1);
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
    let none = scan_cluster(&[&client, &workload]);
    assert_eq!(found(&none).iter().filter(|f| f.contains("SC-302")).count(), 1, "a cluster that has no grant has none");
    assert_eq!(only(&none, "SC-302").severity, Severity::High);
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
    let nobody = scan_cluster(&[&client, &live]);
    assert!(of(&nobody, "SC-303").len() == 1 && !found(&nobody).contains(&"SC-901 Rule/SC-303".to_owned()));
}

#[test]
fn sc_304_a_credential_that_nobody_holds() {
    let client = identity("a", "credentials: [{secret: {name: s, key: k}}]");
    assert_eq!(of(&scan(&[&client, &deployment("w", &holds("s", "other"))]), "SC-304").len(), 1);
    assert!(of(&scan(&[&client, &deployment("w", &holds("s", "k"))]), "SC-304").is_empty());
    assert!(of(&scan(&[&client]), "SC-304").is_empty());
    assert_eq!(of(&scan_cluster(&[&client]), "SC-304").len(), 1, "a cluster that has no workload has none");
}

#[test]
fn sc_306_one_credential_in_two_environments() {
    let in_namespace =
        |text: &str, namespace: &str| text.replace("namespace: shop", &format!("namespace: {namespace}"));
    let slot = "credentials: [{secret: {name: s, key: k}}]";
    let (prod, test) = (identity("a", "environment: prod"), in_namespace(&identity("a", "environment: test"), "lab"));
    let finding = scan(&[&prod, &test]);
    let finding = only(&finding, "SC-306");
    assert_eq!((finding.subject.namespace.as_str(), finding.severity), ("lab", Severity::High));
    assert_eq!(finding.evidence.len(), 2);
    // Of two clients each is told, of one product as well.
    let two = |environments: [&str; 2], slots: [&str; 2]| {
        let one =
            |n: usize, name| identity(name, &format!("family: f, environment: {}, {}", environments[n], slots[n]));
        of(&scan(&[&one(0, "a"), &one(1, "b")]), "SC-306").len()
    };
    assert_eq!(two(["prod", "staging"], [slot, slot]), 2);
    let subject = "credentials: [{federated: {subject: \"system:serviceaccount:shop:web\"}}]";
    assert_eq!(two(["prod", "staging"], [subject, subject]), 2);
    assert_eq!(two(["prod", "production"], [slot, slot]), 0, "one environment, written in two ways");
    assert_eq!(two(["prod", "staging"], [slot, "credentials: [{secret: {name: s, key: l}}]"]), 0);
    // Of very many each shows itself and ten others, first those of another environment.
    let mut many: Vec<String> =
        (0..30).map(|n| identity(&format!("c{n}"), &format!("environment: prod, {slot}"))).collect();
    many.push(identity("last", &format!("environment: test, {slot}")));
    let many = scan(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let of_306: Vec<_> = many.findings.iter().filter(|f| f.rule == "SC-306").collect();
    assert_eq!(of_306.len(), 31);
    for finding in of_306 {
        assert_eq!((finding.clients.len(), finding.evidence.len()), (31, 11));
        let shows = |name: &str| finding.evidence.iter().any(|e| e.object.name == name);
        assert!(shows("last") && shows(&finding.subject.name));
    }
    // By the name of the namespace, where nothing else says it.
    let plain = identity("a", slot);
    let by_name = |here: &str, there: &str| {
        let found = scan(&[&in_namespace(&plain, here), &in_namespace(&plain, there)]);
        found.findings.iter().find(|f| f.rule == "SC-306").map(|f| f.severity)
    };
    assert_eq!(by_name("shop-prod", "shop-staging"), Some(Severity::Medium));
    assert_eq!(by_name("shop-prod", "till-production"), None);
    assert_eq!(by_name("shop-prod", "latest-shop"), None);
    // What is said counts more than a name.
    assert_eq!(of(&scan(&[&prod, &in_namespace(&prod, "shop-test")]), "SC-306").len(), 0);
}

#[test]
fn sc_307_one_client_of_two_applications() {
    let client = identity("a", "credentials: [{secret: {name: s, key: k}}]");
    let labelled = |name: &str, labels: &str| {
        deployment(name, &holds("s", "k"))
            .replace("template: {", &format!("template: {{metadata: {{labels: {{{labels}}}}}, "))
    };
    let count = |documents: &[&str]| of(&scan(documents), "SC-307").len();
    let (web, jobs) = (deployment("web", &holds("s", "k")), deployment("jobs", &holds("s", "k")));
    let finding = scan(&[&client, &web, &jobs]);
    let finding = only(&finding, "SC-307");
    assert_eq!((finding.subject.to_string().as_str(), finding.severity), ("ClientIdentity/shop/a", Severity::Medium));
    assert_eq!(count(&[&client, &web, &deployment("jobs", "containers: []")]), 0, "one holder");
    for labels in [
        "app: shop",
        "app.kubernetes.io/name: shop",
        "app.kubernetes.io/part-of: shop, app.kubernetes.io/instance: one",
        "clientgrant.dev/app: shop, app: NAME",
        "app.kubernetes.io/part-of: shop, app: NAME",
    ] {
        let one = |name: &str| labelled(name, &labels.replace("NAME", name));
        assert_eq!(count(&[&client, &one("web"), &one("jobs")]), 0, "{labels}");
        for (from, to) in [("shop", "till"), (": one", ": two")].into_iter().filter(|(from, _)| labels.contains(from)) {
            let other = labelled("jobs", &labels.replace(from, to).replace("NAME", "web"));
            assert_eq!(count(&[&client, &one("web"), &other]), 1, "{labels}");
        }
        // The object's own labels do where its pods have none.
        let outside = |name: &str| {
            deployment(name, &holds("s", "k"))
                .replace("metadata: {", &format!("metadata: {{labels: {{{}}}, ", labels.replace("NAME", name)))
        };
        assert_eq!(count(&[&client, &outside("web"), &one("jobs")]), 0, "{labels}");
    }
    // Listed on purpose; where only one of them is, the other is another client's matter.
    let both = "credentials: [{secret: {name: s, key: k}}], workloads: [{apiVersion: apps/v1, kind: Deployment, name: web}, \
                {apiVersion: apps/v1, kind: Deployment, name: jobs}]";
    assert_eq!(count(&[&identity("a", both), &web, &jobs]), 0);
    let listed = identity("a", &owns("s", "k", "web"));
    assert_eq!((count(&[&listed, &web, &jobs]), of(&scan(&[&listed, &web, &jobs]), "SC-301").len()), (0, 1));
    // By their account is not on purpose.
    let account = identity("a", "serviceAccountName: one, credentials: [{secret: {name: s, key: k}}]");
    let on = |name: &str| deployment(name, &format!("serviceAccountName: one, {}", holds("s", "k")));
    assert_eq!(count(&[&account, &on("web"), &on("jobs")]), 1);
    let part = identity("a", &owns("s", "k", "web")).replace("name: a,", "name: part,");
    assert_eq!(count(&[&account, &part, &on("web"), &on("jobs")]), 1, "one of the two is listed");
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
        "env: [{name: AUTH_CLIENT_ASSERTION, value: \"true\"}]",
    ] {
        assert!(of(&scan(&[&client, &literal(innocent)]), "SC-401").is_empty(), "{innocent}");
    }
    for reference in [
        "\"vault:secret/data/a#client\"",
        "\"op://vault/item/field\"",
        "\"file:secret\"",
        "\"env:OIDC\"",
        "\"ref+vault://a/b\"",
        "./secret",
    ] {
        let text = literal(&format!("env: [{{name: CLIENT_SECRET, value: {reference}}}]"));
        assert!(of(&scan(&[&client, &text]), "SC-401").is_empty(), "{reference}");
    }
    assert!(of(&scan(&[&client, &literal("args: [--tls-client-key=certs/tls.key]")]), "SC-401").is_empty());
    for value in ["\"vaults of gold.key\"", "environment", "op:x", "profile:1", "a/b+c=="] {
        let text = literal(&format!("env: [{{name: CLIENT_SECRET, value: {value}}}]"));
        assert_eq!(of(&scan(&[&client, &text]), "SC-401").len(), 1, "{value}");
    }
    assert!(of(&scan(&[&client, &by_name.replace("name: w", "name: other")]), "SC-401").is_empty());
    // Several of one workload are one finding, as bad as the worst of them, which every client has to accept.
    let accepts = ", sharing: {exceptions: [{rule: SC-401, with: [{kind: Deployment, name: w}], \
                   reason: moves away with SEC-412, expiresAt: \"2027-01-01T00:00:00Z\"}]}";
    let of_w = |name: &str, more: &str| {
        identity(name, &format!("workloads: [{{apiVersion: apps/v1, kind: Deployment, name: w}}]{more}"))
    };
    let two = deployment(
        "w",
        "containers: [{name: x, env: [{name: CLIENT_SECRET, value: a1}]}, \
         {name: y, env: [{name: CLIENT_SECRET, value: b2}, {name: ID, value: a-client}]}]",
    );
    let state = |a: &str, b: &str| {
        let evaluation = scan(&[&of_w("a-client", a), &of_w("b-client", b), &two]);
        let finding = only(&evaluation, "SC-401");
        assert_eq!((finding.severity, finding.evidence.len(), finding.clients.len()), (Severity::Medium, 2, 2));
        finding.state
    };
    assert_eq!((state("", ""), state(accepts, "")), (State::Open, State::Open));
    assert_eq!(state(accepts, accepts), State::Suppressed);
}

#[test]
fn sc_403_a_credential_as_a_variable() {
    let client = identity("a", "credentials: [{secret: {name: s, key: k}}]");
    let of_403 = |pod: &str| of(&scan_also("SC-403", &[&client, &deployment("w", pod)]), "SC-403").len();
    let all = "containers: [{name: x, envFrom: [{secretRef: {name: s}}]}]";
    assert_eq!((of_403(&holds("s", "k")), of_403(all)), (1, 1));
    let file = "containers: [{name: x, volumeMounts: [{name: v}]}], volumes: [{name: v, secret: {secretName: s}}]";
    assert_eq!((of_403(file), of_403(&holds("s", "public"))), (0, 0));
    assert!(of(&scan(&[&client, &deployment("w", &holds("s", "k"))]), "SC-403").is_empty(), "only where asked for");
}

#[test]
fn sc_901_what_cannot_be_compared() {
    let blank = identity("a", "");
    assert_eq!(of(&scan(&[&blank, &deployment("w", "containers: []")]), "SC-901"), ["SC-901 ClientIdentity/shop/a"]);
    let foreign = identity("a", "credentials: [{federated: {subject: \"system:serviceaccount:till:web\"}}]");
    assert_eq!(of(&scan(&[&foreign, &deployment("w", "containers: []")]), "SC-901"), ["SC-901 ClientIdentity/shop/a"]);
    // What no ServiceAccount is called cannot be compared.
    let federated = |name: &str| {
        identity("a", &format!("credentials: [{{federated: {{subject: \"system:serviceaccount:{name}\"}}}}]"))
    };
    let of_901 = |name: &str| {
        let all = of(&scan(&[&federated(name), &deployment("w", "containers: []")]), "SC-901 ClientIdentity/");
        all.len()
    };
    for odd in ["shop:*", "shop:", ":web", "shop", "shop:a:b", "shop:Web", "shop:we b"] {
        assert_eq!(of_901(odd), 1, "{odd}");
    }
    assert_eq!((of_901("shop:web"), of_901("shop:web-1.a")), (0, 0));
    // It frames nobody either.
    let there = deployment("web", "serviceAccountName: web, containers: []").replace("shop", "till");
    let mine = identity("b", "serviceAccountName: web").replace("namespace: shop", "namespace: till");
    assert!(open(&scan(&[&foreign, &mine, &there])).is_empty());
}

/// Nobody reads Secrets: of a value under another name it cannot be told whether it is a copy.
#[test]
fn sc_901_what_may_be_a_copy() {
    let a = identity("a", &owns("a-oidc", "client-secret", "a"));
    let b = identity("b", &owns("b-oidc", "client-secret", "b"));
    let second = |secret: &str, key: &str| {
        let from =
            |n, secret, key| format!("{{name: {n}, valueFrom: {{secretKeyRef: {{name: {secret}, key: {key}}}}}}}");
        let env = [from("X", "a-oidc", "client-secret"), from("Y", secret, key)].join(", ");
        deployment("a", &format!("serviceAccountName: a, containers: [{{name: main, env: [{env}]}}]"))
    };
    let holder = deployment("b", &format!("serviceAccountName: b, {}", holds("b-oidc", "client-secret")));
    let said = |a: &str, workload: &str, more: &str| -> Option<Vec<String>> {
        let evaluation = scan(&[a, &b, workload, &holder, more]);
        let on_a =
            |f: &&clientgrant::sharing::Finding| f.rule == "SC-901" && f.subject.to_string() == "Deployment/shop/a";
        evaluation.findings.iter().find(on_a).map(|f| f.clients.clone())
    };
    let copy = second("profile", "client-secret");
    assert_eq!(said(&a, &copy, ""), Some(vec!["b".to_owned()]), "it says nothing against the holder's own client");
    // Under another key, of no client's workload, declared, or of one family: nothing to ask.
    assert_eq!(said(&a, &second("profile", "password"), ""), None);
    assert_eq!(said(&a, &second("profile", "oidc-secret"), ""), None);
    let nobodys = "serviceAccountName: c, containers: [{name: m, env: [{name: Y, valueFrom: {secretKeyRef: {name: profile, key: client-secret}}}]}]";
    let evaluation = scan(&[&a, &b, &second("a-oidc", "client-secret"), &holder, &deployment("c", nobodys)]);
    assert!(!evaluation.findings.iter().any(|f| f.subject.name == "c"));
    assert_eq!(said(&a, &copy, &identity("c", "credentials: [{secret: {name: profile, key: client-secret}}]")), None);
    let family = |text: &str| text.replace("clientID", "family: one, clientID");
    let evaluation = scan(&[&family(&a), &family(&b), &copy, &holder]);
    assert!(!evaluation.findings.iter().any(|f| f.rule == "SC-901" && f.subject.kind == "Deployment"));
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
    assert!(evaluation.findings.iter().all(|f| f.state == State::Open || f.subject.kind == "Rule"));
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
