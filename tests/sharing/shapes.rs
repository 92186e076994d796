//! Whole estates in the shape of well-known ones, written anew, and what must and must not be found in them.

use std::collections::BTreeSet;
use std::path::Path;

use clientgrant::sharing::{Severity, State};

use super::support::{deployment, found, holds, identity, only, open, owns, scan, told};

/// A bank: six services on one account and three on `default`; the private key in one, the public half in five.
#[test]
fn a_bank_has_one_private_key_and_five_public_ones() {
    let mut all = Vec::new();
    let services =
        ["accounts", "balances", "contacts", "frontend", "history", "ledger", "loadgen", "accounts-db", "ledger-db"];
    for (n, name) in services.into_iter().enumerate() {
        let key = if n == 0 { "private.key" } else { "public.key" };
        let account = if n < 6 { "bank" } else { "default" };
        let pod = match n {
            0..6 => format!(
                "serviceAccountName: {account}, containers: [{{name: m, volumeMounts: [{{name: keys, mountPath: /k}}]}}], \
                 volumes: [{{name: keys, secret: {{secretName: jwt, items: [{{key: {key}, path: {key}}}]}}}}]"
            ),
            _ => "containers: [{name: m}]".to_owned(),
        };
        all.push(deployment(name, &pod));
        let slot = if n == 0 { "credentials: [{secret: {name: jwt, key: private.key}}], " } else { "" };
        all.push(identity(
            name,
            &format!("{slot}workloads: [{{apiVersion: apps/v1, kind: Deployment, name: {name}}}]"),
        ));
    }
    let evaluation = scan(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let expected: BTreeSet<String> = [
        "SC-202 ServiceAccount/shop/bank",
        "SC-202 ServiceAccount/shop/default",
        "SC-203 Deployment/shop/accounts-db",
        "SC-203 Deployment/shop/ledger-db",
        "SC-203 Deployment/shop/loadgen",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(open(&evaluation), expected);
    let clients = |account: &str| {
        evaluation.findings.iter().find(|f| f.subject.name == account).map(|f| f.clients.len()).unwrap_or_default()
    };
    assert_eq!((clients("bank"), clients("default")), (6, 3));
}

/// A book shop: three versions of one service on one account, one client.
#[test]
fn three_versions_of_one_client_are_one_client() {
    let mut all: Vec<String> = ["reviews-v1", "reviews-v2", "reviews-v3"]
        .map(|name| deployment(name, "serviceAccountName: reviews, containers: [{name: m}]"))
        .into();
    for other in ["details", "ratings", "productpage"] {
        all.push(deployment(other, &format!("serviceAccountName: {other}, containers: [{{name: m}}]")));
    }
    all.push(identity("reviews", "serviceAccountName: reviews"));
    let texts: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(found(&scan(&texts)), Vec::<String>::new());
    let second = identity("reviews-next", "workloads: [{apiVersion: apps/v1, kind: Deployment, name: reviews-v3}]");
    let with: Vec<&str> = texts.into_iter().chain([second.as_str()]).collect();
    assert_eq!(told(&scan(&with)), ["SC-202 ServiceAccount/shop/reviews"]);
}

/// A cluster in which nobody declared a client.
#[test]
fn an_ordinary_cluster_is_quiet() {
    let all = [
        deployment(
            "a",
            "containers: [{name: m, env: [{name: CLIENT_SECRET, value: x}], envFrom: [{secretRef: {name: s}}]}]",
        ),
        deployment("b", "containers: [{name: m, envFrom: [{secretRef: {name: s}}]}]"),
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {k: v}\n".to_owned(),
        super::support::grant("a", "ann", "x"),
    ];
    let evaluation = scan(&all.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(found(&evaluation), Vec::<String>::new());
    assert_eq!(evaluation.summary.objects, 4);
}

fn example(state: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/02-shared-credential");
    let files = [root.join("clients.yaml"), root.join(state).join("workloads.yaml")];
    files.map(|p| (p.display().to_string(), std::fs::read_to_string(&p).unwrap())).into()
}

fn evaluate(files: &[(String, String)]) -> clientgrant::sharing::Evaluation {
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    super::support::scan_files(&files)
}

/// The helpdesk and the workflow: found, fixed wrongly in three ways, fixed rightly.
#[test]
fn the_workflow_holds_what_is_the_helpdesks() {
    let before = evaluate(&example("before"));
    let expected = ["SC-201 Deployment/it/workflow", "SC-301 Deployment/it/workflow"].map(str::to_owned);
    assert_eq!(open(&before), expected.into());
    let finding = only(&before, "SC-201");
    assert_eq!(finding.severity, Severity::High);
    assert_eq!(finding.clients, ["helpdesk", "workflow-bot"]);
    // It is the workflow's: it gains the helpdesk's scope.
    assert_eq!(finding.gain, ["profile:read"]);
    assert_eq!(finding.blast_radius.grants, 2);

    // Named in the ClientIdentity too: the workload is no stranger any more, and holds both all the same.
    let mut files = example("before");
    files[0].1 = files[0].1.replacen(
        "name: helpdesk}]",
        "name: helpdesk}, {apiVersion: apps/v1, kind: Deployment, name: workflow}]",
        1,
    );
    let named = open(&evaluate(&files));
    assert!(named.contains("SC-201 Deployment/it/workflow"), "{named:?}");
    assert!(named.contains("SC-202 ServiceAccount/it/workflow"), "{named:?}");

    // One Secret for both clients.
    let mut files = example("after");
    for (_, text) in &mut files {
        *text = text.replace("helpdesk-oidc", "workflow-oidc");
    }
    let shared = open(&evaluate(&files));
    for identity in ["helpdesk", "workflow-bot"] {
        assert!(shared.contains(&format!("SC-101 ClientIdentity/it/{identity}")), "{shared:?}");
    }

    // Fetched by a driver, so that no manifest says what is in it.
    let mut files = example("before");
    files[1].1 = files[1].1.replace(
        "        - name: PROFILE_CLIENT_SECRET\n          valueFrom: {secretKeyRef: {name: helpdesk-oidc, key: client-secret}}\n",
        "      volumes:\n      - name: v\n        csi: {driver: secrets-store.csi.k8s.io, volumeAttributes: {secretProviderClass: helpdesk}}\n",
    );
    let hidden = evaluate(&files);
    assert_eq!(told(&hidden), ["SC-901 Deployment/it/workflow"]);
    assert!(hidden.findings.iter().all(|f| f.state == State::NotEvaluable));

    // Both on `default`.
    let mut files = example("after");
    for (_, text) in &mut files {
        *text = text.replace("serviceAccountName: helpdesk", "serviceAccountName: default");
        *text = text.replace("serviceAccountName: workflow", "serviceAccountName: default");
    }
    let default = open(&evaluate(&files));
    assert!(default.contains("SC-202 ServiceAccount/it/default"), "{default:?}");
    assert!(default.contains("SC-203 Deployment/it/workflow"), "{default:?}");

    let after = evaluate(&example("after"));
    assert_eq!(told(&after), Vec::<String>::new());
    assert_eq!(after.summary.objects, 6);
}

#[test]
fn adding_a_holder_never_takes_a_finding_away() {
    let mut all = vec![
        identity("a", &owns("a", "k", "w")),
        identity("b", &owns("b", "k", "w")),
        deployment("w", "containers: [{name: m, envFrom: [{secretRef: {name: a}}, {secretRef: {name: b}}]}]"),
    ];
    let mut before = BTreeSet::new();
    for n in 0..6 {
        let after = open(&scan(&all.iter().map(String::as_str).collect::<Vec<_>>()));
        assert!(after.is_superset(&before), "{before:?} {after:?}");
        before = after;
        all.push(deployment(&format!("more{n}"), &holds("a", "k")));
    }
}
