//! Proposals: what is concluded, from what, and what is not.

use clientgrant::api::ClientIdentity;
use clientgrant::sharing::read::Reader;
use clientgrant::sharing::suggest::suggest;

use super::support::{deployment, found, grant, holds, identity, now, owns, scan};

fn proposed(documents: &[&str]) -> String {
    let mut reader = Reader::default();
    reader.add("all.yaml", documents.join("\n---\n").as_bytes());
    suggest(reader.finish(now()), now())
}

/// The objects of a stream, as the API server would take them.
fn objects(text: &str) -> Vec<ClientIdentity> {
    let documents = text.split("---\n").filter(|d| d.contains("apiVersion:"));
    documents.map(|d| serde_yaml::from_str(d).unwrap_or_else(|error| panic!("{error}: {d}"))).collect()
}

/// The lines that stand directly over the one with these words.
fn reasons(text: &str, line: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines
        .iter()
        .position(|l| l.contains(line) && !l.trim_start().starts_with('#'))
        .unwrap_or_else(|| panic!("{line}: {text}"));
    lines[..at]
        .iter()
        .rev()
        .take_while(|l| l.trim_start().starts_with('#'))
        .map(|l| l.trim_start().to_owned())
        .collect()
}

const ENV: &str = "env: [{name: OIDC_CLIENT_ID, value: bot}, \
                   {name: OIDC_CLIENT_SECRET, valueFrom: {secretKeyRef: {name: bot-oidc, key: value}}}]";

#[test]
fn a_granted_client_is_found_by_its_id() {
    let workload = deployment("web", &format!("serviceAccountName: web, containers: [{{name: main, {ENV}}}]"));
    let text = proposed(&[&grant("bot", "ann", "x"), &workload]);
    let [object] = &objects(&text)[..] else { panic!("{text}") };
    let path = "spec.template.spec.containers[main].env";
    assert_eq!((object.metadata.name.as_deref(), object.metadata.namespace.as_deref()), (Some("bot"), Some("shop")));
    assert_eq!((object.spec.client_id.as_str(), object.spec.provider_ref.name.as_str()), ("bot", "corp"));
    assert_eq!(object.spec.service_account_name.as_deref(), Some("web"));
    assert_eq!(object.spec.workloads.len(), 1);
    assert_eq!(
        (object.spec.workloads[0].api_version.as_str(), object.spec.workloads[0].name.as_str()),
        ("apps/v1", "web")
    );
    let secret = object.spec.credentials[0].secret.as_ref().unwrap();
    assert_eq!((secret.name.as_str(), secret.key.as_str()), ("bot-oidc", "value"));
    // Each line says what it was concluded from.
    assert_eq!(reasons(&text, "apiVersion: clientgrant.dev"), ["# ClientGrant/shop/bot-ann names the client."]);
    assert_eq!(reasons(&text, "kind: Deployment"), [format!("# {path}[OIDC_CLIENT_ID].value is the client's id.")]);
    let secret = format!("# {path}[OIDC_CLIENT_SECRET].valueFrom.secretKeyRef is named as a credential.");
    assert_eq!(reasons(&text, "secret: {name: bot-oidc"), [secret]);
    assert_eq!(reasons(&text, "serviceAccountName"), ["# Deployment/shop/web runs as it."]);
    // With it nothing is left to ask, and nothing is found.
    let after = scan(&[&grant("bot", "ann", "x"), &workload, &text]);
    assert!(found(&after).iter().all(|f| f == "SC-901 Rule/SC-204"), "{:?}", found(&after));
}

#[test]
fn every_way_to_show_who_a_client_is() {
    let named = "name: web, kind: Deployment";
    let slot = "secret: {name: s, key: client-secret}";
    let federated = "federated: {subject: \"system:serviceaccount:shop:web\"}";
    let files = "volumeMounts: [{name: v}]}], volumes: [{name: v, secret: {secretName: s, items: [{key: client-secret, path: x}]}}]";
    for (name, container, expected, not) in [
        ("an argument", "args: [\"--client-id=bot\"]}]", &["name: web}"][..], &["credentials:"][..]),
        ("two words of a command", "command: [run, --client-id, bot]}]", &["name: web}"], &["credentials:"]),
        ("a variable of any name", "env: [{name: X, value: bot}]}]", &["name: web}"], &["credentials:"]),
        ("a file named as a credential", &format!("args: [--id=bot], {files}"), &["name: web}", slot], &[]),
        (
            "another key is none",
            &format!("args: [--id=bot], {}", files.replace("client-secret", "ca.crt")),
            &["name: web}"],
            &["credentials:"],
        ),
        (
            "every key",
            "args: [--id=bot], envFrom: [{secretRef: {name: s}}]}]",
            &["every key of Secret s: which is the client's?"],
            &["credentials:"],
        ),
        (
            "a token for somebody else",
            "args: [--id=bot]}], volumes: [{name: t, projected: {sources: [{serviceAccountToken: {audience: idp}}]}}]",
            &["name: web}", federated],
            &["secret:"],
        ),
        (
            "a token for the API server",
            "args: [--id=bot]}], volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: t}}]}}]",
            &["name: web}"],
            &["credentials:"],
        ),
        (
            "another id",
            "args: [--client-id=other]}]",
            &["say who it is by hand", "is named as a client's id"],
            &[named, "other"],
        ),
        (
            "of another container",
            "args: [--id=bot]}, {name: side, env: [{name: CLIENT_SECRET, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]",
            &["name: web}"],
            &["credentials:"],
        ),
    ] {
        let workload = deployment("web", &format!("serviceAccountName: web, containers: [{{name: main, {container}"));
        let text = proposed(&[&grant("bot", "ann", "x"), &workload]);
        objects(&text);
        for part in expected {
            assert!(text.contains(part), "{name}: {part} is not in {text}");
        }
        for part in not {
            assert!(!text.contains(part), "{name}: {part} is in {text}");
        }
    }
}

#[test]
fn a_token_for_a_mesh_or_a_cloud_is_no_credential_of_a_client() {
    let pod = |audience: &str| {
        let volume =
            format!("{{name: t, projected: {{sources: [{{serviceAccountToken: {{audience: '{audience}'}}}}]}}}}");
        let pod = format!("serviceAccountName: web, containers: [{{name: main, {ENV}}}], volumes: [{volume}]");
        proposed(&[&grant("bot", "ann", "x"), &deployment("web", &pod)])
    };
    assert!(pod("https://idp.example").contains("federated:"), "positive control");
    for audience in ["istio-ca", "sts.amazonaws.com", "api://AzureADTokenExchange", "vault"] {
        assert!(!pod(audience).contains("federated:"), "{audience}");
    }
}

#[test]
fn what_is_declared_is_not_proposed_again() {
    let workload = deployment("web", &format!("containers: [{{name: main, {ENV}}}]"));
    let declared = identity("bot", &owns("bot-oidc", "value", "web"));
    assert_eq!(objects(&proposed(&[&grant("bot", "ann", "x"), &declared, &workload])), []);
    // One that says nothing yet is completed under its name; a name that is taken is left alone.
    let blank = identity("bot", "").replace("name: bot,", "name: mine,");
    let completed = objects(&proposed(&[&blank, &workload]));
    assert_eq!(completed[0].metadata.name.as_deref(), Some("mine"));
    assert_eq!(completed[0].spec.service_account_name, None, "`default` is no account for a client");
    let taken = identity("other", "serviceAccountName: o").replace("name: other,", "name: bot,");
    let text = proposed(&[&grant("bot", "ann", "x"), &taken, &workload]);
    assert_eq!(objects(&text)[0].metadata.name.as_deref(), Some("bot-2"));
    // Of another namespace: a credential there is somebody else's.
    let elsewhere = workload.replace("namespace: shop", "namespace: till");
    assert_eq!(objects(&proposed(&[&grant("bot", "ann", "x"), &elsewhere])), []);
    // No client, no proposal.
    assert_eq!(objects(&proposed(&[&workload])), []);
}

#[test]
fn a_federated_subject_shows_whose_client_it_is() {
    let foreign = identity("bot", "credentials: [{federated: {subject: \"system:serviceaccount:till:cash\"}}]");
    let text = proposed(&[&foreign]);
    let [object] = &objects(&text)[..] else { panic!("{text}") };
    assert_eq!(
        (object.metadata.namespace.as_deref(), object.spec.service_account_name.as_deref()),
        (Some("till"), Some("cash"))
    );
    assert_eq!(object.spec.credentials[0].federated.as_ref().unwrap().subject, "system:serviceaccount:till:cash");
    let why = "# ClientIdentity/shop/bot names system:serviceaccount:till:cash.";
    assert!(reasons(&text, "federated:").contains(&why.to_owned()), "{text}");
    // A provider of the namespace is none of another.
    let of_namespace = foreign.replace("ClusterIdentityProvider", "IdentityProvider");
    assert_eq!(objects(&proposed(&[&of_namespace])), []);
    let strange = foreign.replace("system:serviceaccount:till:cash", "spiffe://x/y");
    assert_eq!(objects(&proposed(&[&strange])), []);
}

#[test]
fn odd_names_do_not_break_out_of_their_line() {
    let odd = "a: {b} # c\\nkind: Secret";
    let grant = grant("bot", "ann", "x").replace("clientID: bot", &format!("clientID: \"{odd}\""));
    let workload = deployment("web", &holds("s", "client-secret").replace("name: X,", &format!("name: \"{odd}\",")))
        .replace("env: [", &format!("env: [{{name: \"ID\\n# x\", value: \"{odd}\"}}, "));
    let text = proposed(&[&grant, &workload]);
    let [object] = &objects(&text)[..] else { panic!("{text}") };
    assert_eq!(object.spec.client_id, "a: {b} # c\nkind: Secret");
    assert_eq!(object.metadata.name.as_deref(), Some("a---b----c-kind--secret"));
    assert!(!text.lines().any(|line| line.starts_with("kind: Secret")), "{text}");
}

/// Secrets by client, as proposed; of the same kinds of texts what was noted instead.
fn secrets(text: &str) -> Vec<(String, Vec<String>)> {
    let of = |object: &ClientIdentity| {
        let secrets = object.spec.credentials.iter().filter_map(|c| Some(c.secret.as_ref()?.name.clone()));
        (object.spec.client_id.clone(), secrets.collect())
    };
    objects(text).iter().map(of).collect()
}

#[test]
fn a_credential_is_proposed_for_one_client_only() {
    let variable =
        |name: &str, secret: &str| format!("{{name: {name}, valueFrom: {{secretKeyRef: {{name: {secret}, key: k}}}}}}");
    let ids = "{name: A_CLIENT_ID, value: a}, {name: B_CLIENT_ID, value: b}";
    let of = |more: &str| deployment("gw", &format!("containers: [{{name: c, env: [{ids}, {more}]}}]"));
    let (a, b) = (grant("a", "ann", "x"), grant("b", "ann", "x"));
    let both = format!("{}, {}", variable("A_CLIENT_SECRET", "a-oidc"), variable("B_CLIENT_SECRET", "b-oidc"));
    let text = proposed(&[&a, &b, &of(&both)]);
    let each = |client: &str, secret: &str| (client.to_owned(), vec![secret.to_owned()]);
    assert_eq!(secrets(&text), [each("a", "a-oidc"), each("b", "b-oidc")], "{text}");
    // Whose it is, its name does not say.
    let text = proposed(&[&a, &b, &of(&variable("OIDC_CLIENT_SECRET", "s"))]);
    assert_eq!(secrets(&text), [("a".to_owned(), vec![]), ("b".to_owned(), vec![])], "{text}");
    assert!(text.contains("is beside the ids of several clients: whose is it?"), "{text}");
    // Another one has it.
    let taken = identity("other", &owns("a-oidc", "k", "z"));
    let alone = deployment(
        "w",
        &format!("containers: [{{name: c, env: [{{name: X, value: a}}, {}]}}]", variable("CLIENT_SECRET", "a-oidc")),
    );
    let text = proposed(&[&a, &taken, &alone]);
    assert_eq!(secrets(&text), [("a".to_owned(), vec![])], "{text}");
    assert!(text.contains("is the credential of another client already: is it shared?"), "{text}");
    // Two providers have a client of this id.
    let second = a.replace("name: corp", "name: second").replace("name: a-ann", "name: a-second");
    let text = proposed(&[&a, &second, &alone]);
    assert!(secrets(&text).is_empty() && text.contains("has a client of the same id"), "{text}");
}

#[test]
fn nothing_is_proposed_that_the_api_server_refuses() {
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: mig-, namespace: shop}\n\
         spec: {template: {spec: {containers: [{name: c, env: [{name: CLIENT_ID, value: a}]}]}}}\n";
    let odd = deployment(
        "w",
        "containers: [{name: c, env: [{name: CLIENT_ID, value: a}, \
         {name: CLIENT_SECRET, valueFrom: {secretKeyRef: {name: Bad_Name, key: k}}}]}]",
    );
    let text = proposed(&[&grant("a", "ann", "x"), job, &odd]);
    let [object] = &objects(&text)[..] else { panic!("{text}") };
    let names: Vec<&str> = object.spec.workloads.iter().map(|w| w.name.as_str()).collect();
    assert_eq!((names, object.spec.credentials.len()), (vec!["w"], 0), "{text}");
    assert!(text.contains("cannot be listed") && text.contains("can be called"), "{text}");
}
