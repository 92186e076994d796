//! Manifests as they are seldom written, each of which was once answered wrongly.

use clientgrant::sharing::finding::Grade;
use clientgrant::sharing::read::Reader;
use clientgrant::sharing::{Evaluation, Severity, State};

use super::support::{deployment, found, holds, identity, now, only, open, owns, scan, scan_files, told};

/// Two clients, each with a Secret and an account of its own.
fn pair() -> String {
    let of = |client: &str| {
        let spec = format!("serviceAccountName: {client}, credentials: [{{secret: {{name: {client}-oidc, key: k}}}}]");
        identity(client, &spec)
    };
    format!("{}---\n{}", of("a"), of("b"))
}

const BOTH: &str = "serviceAccountName: a, \
     containers: [{name: c, envFrom: [{secretRef: {name: a-oidc}}, {secretRef: {name: b-oidc}}]}]";
const TEMPLATE: &str = "it is a template, which has to be rendered first";

/// What was not read, of one text beside the two clients.
fn unread(text: &str) -> Vec<String> {
    let mut reader = Reader::default();
    reader.add("ids.yaml", pair().as_bytes());
    reader.add("f.yaml", text.as_bytes());
    reader.finish(now()).unread.into_iter().map(|unread| unread.why).collect()
}

fn has(evaluation: &Evaluation, finding: &str) -> bool {
    found(evaluation).iter().any(|f| f == finding)
}

#[test]
fn a_document_on_the_line_of_its_marker_is_read() {
    let spec = format!("spec: {{template: {{spec: {{{BOTH}}}}}}}");
    let one = format!("--- {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: x, namespace: shop}}, {spec}}}");
    let hash = one.replace("name: c,", "name: c, args: [\"see #12\"],");
    for text in [one.clone(), format!("{one} # generated\n"), format!("{one}\n# see #12\n"), hash] {
        let all = scan_files(&[("ids.yaml", &pair()), ("x.yaml", &text)]);
        assert!(has(&all, "SC-201 Deployment/shop/x"), "{text}: {:?}", found(&all));
    }
    assert!(unread("--- # nothing\n--- #\n").is_empty(), "a comment alone is nothing");
}

#[test]
fn a_line_ends_where_yaml_ends_it() {
    for end in ["\r", "\u{2028}", "\u{2029}", "\u{85}", "\r\n"] {
        let text = format!("# a comment\n{}---\n# another\n{}", deployment("x", BOTH), deployment("y", BOTH));
        let all = scan_files(&[("ids.yaml", &pair()), ("x.yaml", &text.replace('\n', end))]);
        for name in ["x", "y"] {
            assert!(has(&all, &format!("SC-201 Deployment/shop/{name}")), "{end:?}: {:?}", found(&all));
        }
    }
}

#[test]
fn what_is_still_to_be_rendered_is_not_taken_for_clean() {
    let rbac = |kind: &str, rest: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r, namespace: shop}}\n{rest}\n"
        )
    };
    let plain = deployment("x", "containers: [{name: c}]");
    for text in [
        rbac("Role", "rules: []").replace("namespace: shop", "namespace: '{{ .Release.Namespace }}'"),
        rbac("Role", "rules: [{apiGroups: [''], resources: [secrets], verbs: [get], resourceNames: ['${SECRET}']}]"),
        rbac("RoleBinding", "roleRef: {kind: Role, name: r}\nsubjects: [{kind: ServiceAccount, name: '${SA}'}]"),
        deployment("x", "containers: [{name: c, envFrom: '${ENVFROM}'}]"),
        deployment("x", "volumes: '{{ .Values.volumes }}', containers: [{name: c}]"),
        plain.replace("spec: {template: {spec: {containers: [{name: c}]}}}", "spec: '{{ .Values.spec }}'"),
        plain.replace("{name: x,", "{labels: {app: '${APP}'}, name: x,"),
        identity("'${CLIENT}'", ""),
    ] {
        assert_eq!(unread(&text), [TEMPLATE], "{text}");
    }
    // Elsewhere nobody compares it with anything.
    let noted =
        |text: String| text.replace("metadata: {name", "metadata: {annotations: {note: 'from {{ chart }}'}, name");
    let exception = "sharing: {exceptions: [{rule: SC-201, reason: 'renamed as ${TEAM} in the pipeline', \
         expiresAt: '2027-01-01T00:00:00Z', with: [{kind: ClientIdentity, name: b}]}]}";
    for text in [
        deployment("x", "containers: [{name: c, args: ['{{ .x }}'], env: [{name: A, value: '${B}'}]}]"),
        noted(plain),
        noted(rbac("Role", "rules: []")),
        noted(identity("c", "serviceAccountName: c")),
        identity("c", &format!("serviceAccountName: c, {exception}")),
    ] {
        assert!(unread(&text).is_empty(), "{text}: {:?}", unread(&text));
    }
}

#[test]
fn a_field_that_the_schema_does_not_have_is_told() {
    for (spec, has) in [
        ("serviceAccount: x", "spec has adopt, "),
        (
            "credentials: [{federated: {subject: a}}, {secret: {name: s, kay: k, key: k}}]",
            "spec.credentials[1].secret has key, name",
        ),
        (
            "sharing: {exceptions: [{rule: SC-201, why: x, reason: r, expiresAt: '2027-01-01T00:00:00Z', with: []}]}",
            "spec.sharing.exceptions[0] has expiresAt, reason, rule, with",
        ),
    ] {
        let all = unread(&identity("c", spec));
        let said = format!("a ClientIdentity has a field that the schema does not have: {has}");
        assert!(all.len() == 1 && all[0].starts_with(&said), "{spec}: {all:?}");
    }
    let whole = "pin: {redirectURIs: ['https://a.example/cb']}, family: f, credentials: [{secret: {name: s, key: k}}]";
    assert!(unread(&identity("c", whole)).is_empty());
}

#[test]
fn words_are_booleans_where_a_field_is_one() {
    let apart = "containers: [{name: c, envFrom: [{secretRef: {name: a-oidc}}]}, {name: d, envFrom: [{secretRef: {name: b-oidc}}]}]";
    let severity = |field: &str| {
        let all = scan(&[&pair(), &deployment("x", &format!("{field}{apart}"))]);
        only(&all, "SC-201").severity
    };
    assert_eq!(severity(""), Severity::Medium);
    for field in
        ["shareProcessNamespace: true", "shareProcessNamespace: on", "shareProcessNamespace: 'Yes'", "hostPID: y"]
    {
        assert_eq!(severity(&format!("{field}, ")), Severity::High, "{field}");
    }
    for field in ["hostPID: false", "hostPID: off", "shareProcessNamespace: no"] {
        assert_eq!(severity(&format!("{field}, ")), Severity::Medium, "{field}");
    }
    // A token that is switched off authenticates nobody.
    let spec = "workloads: [{apiVersion: apps/v1, kind: Deployment, name: own}], \
         credentials: [{federated: {subject: 'system:serviceaccount:shop:f'}}]";
    let own = deployment("own", "serviceAccountName: f, containers: [{name: c}]");
    for (word, stranger) in [("no", false), ("off", false), ("false", false), ("yes", true), ("true", true)] {
        let spec_of = format!("serviceAccountName: f, automountServiceAccountToken: {word}, containers: [{{name: c}}]");
        let all = scan(&[&identity("f", spec), &own, &deployment("other", &spec_of)]);
        assert_eq!(has(&all, "SC-301 Deployment/shop/other"), stranger, "{word}: {:?}", found(&all));
    }
}

#[test]
fn two_clients_are_one_product_if_they_have_any_family_in_common() {
    let of = |client: &str, namespace: &str, family: &str| {
        let spec =
            format!("family: {family}, serviceAccountName: web, credentials: [{{secret: {{name: s, key: {client}}}}}]");
        identity(client, &spec).replace("namespace: shop", &format!("namespace: {namespace}"))
    };
    let both = deployment("web", "serviceAccountName: web, containers: [{name: c, envFrom: [{secretRef: {name: s}}]}]");
    let (cli, web) = (of("cli", "shop", "product"), of("web", "shop", "product"));
    let elsewhere = of("web", "a-first", "product");
    for more in ["# nothing", &elsewhere] {
        let all = open(&scan(&[&cli, &web, more, &both]));
        assert!(all.iter().all(|f| !f.starts_with("SC-2")), "{all:?}");
    }
    // Nobody joins a family from another namespace.
    let alone = web.replace("family: product, ", "");
    let all = scan(&[&cli, &alone, &elsewhere, &both]);
    assert!(has(&all, "SC-201 Deployment/shop/web"), "{:?}", found(&all));
    // What the third has in common with one of the two, all three have not.
    let third = of("third", "shop", "other");
    let bridge = of("web", "shop", "other").replace("{name: web,", "{name: web-2,");
    let all = scan(&[&cli, &web, &third, &bridge, &both]);
    assert!(has(&all, "SC-201 Deployment/shop/web"), "{:?}", found(&all));
}

#[test]
fn what_many_share_is_named_by_some_and_counted_for_each() {
    let slot = "credentials: [{secret: {name: s, key: k}}]";
    let many: Vec<String> = (0..120).map(|n| identity(&format!("c{n:03}"), slot)).collect();
    let all = scan(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let of: Vec<_> = all.findings.iter().filter(|f| f.rule == "SC-101").collect();
    assert_eq!(of.len(), 120, "each has one of its own");
    for finding in &of {
        assert_eq!((finding.keys.len(), finding.more_clients, finding.state), (50, 70, State::Open));
        assert!(finding.clients.contains(&finding.subject.name.to_string()) && finding.evidence.len() <= 11);
    }
    let table = clientgrant::sharing::output::table(&all);
    assert!(table.contains("c002 +117"), "{table}");
    // Where not all are named nobody can have accepted all.
    let state = |clients: usize| {
        let with: Vec<String> = (1..clients).map(|n| format!("{{kind: ClientIdentity, name: c{n:03}}}")).collect();
        let exception = format!(
            "sharing: {{exceptions: [{{rule: SC-101, reason: 'they are one and the same product', expiresAt: '2027-01-01T00:00:00Z', with: [{}]}}]}}",
            with.join(", ")
        );
        let first = identity("c000", &format!("{slot}, {exception}"));
        let rest = many[1..clients].iter().map(String::as_str);
        let all = scan(&std::iter::once(first.as_str()).chain(rest).collect::<Vec<_>>());
        all.findings.iter().find(|f| f.rule == "SC-101" && f.subject.name == "c000").map(|f| f.state)
    };
    assert_eq!((state(3), state(50), state(51)), (Some(State::Suppressed), Some(State::Suppressed), Some(State::Open)));
}

#[test]
fn an_object_of_another_kind_is_a_gap_where_it_names_what_is_a_clients() {
    let workflow = |spec: &str| {
        format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {{name: w, namespace: shop}}\nspec: {{{spec}}}\n"
        )
    };
    for spec in [
        "templates: [{container: {env: [{name: A, valueFrom: {secretKeyRef: {name: a-oidc, key: k}}}]}}]",
        "taskSpec: {steps: [{envFrom: [{secretRef: {name: b-oidc}}]}]}",
        "serviceAccountName: a, templates: []",
    ] {
        let all = unread(&workflow(spec));
        assert!(
            all.len() == 1 && all[0].contains("Workflow of argoproj.io/v1alpha1 is no kind that is read"),
            "{all:?}"
        );
    }
    let others =
        ["serviceAccountName: z", "steps: [{envFrom: [{secretRef: {name: other}}]}]", "tls: [{secretName: a-oidc}]"];
    for spec in others {
        assert!(unread(&workflow(spec)).is_empty(), "{spec}");
    }
    let made = "apiVersion: v1\nkind: Pod\nmetadata: {name: w-1, namespace: shop, ownerReferences: \
         [{apiVersion: argoproj.io/v1alpha1, kind: Workflow, name: w, controller: true}]}\n\
         spec: {serviceAccountName: a, containers: [{name: c}]}\n";
    assert!(unread(&format!("{}---\n{made}", workflow("serviceAccountName: a"))).is_empty(), "what it makes is there");
}

#[test]
fn a_template_that_is_borrowed_from_nobody_is_a_gap_beside_a_client() {
    let rollout = |namespace: &str| {
        format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {{name: evil, namespace: {namespace}}}\n\
             spec: {{workloadRef: {{apiVersion: v1, kind: PodTemplate, name: tpl}}}}\n"
        )
    };
    let all = unread(&rollout("shop"));
    assert!(all.len() == 1 && all[0].contains("borrows a template that is not there"), "{all:?}");
    assert!(unread(&rollout("elsewhere")).is_empty());
    let lent = rollout("shop").replace("apiVersion: v1, kind: PodTemplate", "apiVersion: apps/v1, kind: Deployment");
    assert!(unread(&format!("{lent}---\n{}", deployment("tpl", "containers: [{name: c}]"))).is_empty());
    // Of one that is listed the rule says so.
    let spec = "workloads: [{apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: evil}], credentials: [{secret: {name: l, key: k}}]";
    let all = scan(&[&identity("l", spec), &rollout("shop")]);
    assert!(told(&all).contains(&"SC-901 Rollout/shop/evil".to_owned()), "{:?}", told(&all));
}

#[test]
fn what_another_of_the_same_begin_declares_is_shown() {
    let of = |client: &str| {
        let text = identity(client, &owns("s", "k", "w"));
        text.replace(&format!("metadata: {{name: {client},"), "metadata: {generateName: x-,")
    };
    let all = scan(&[&of("a"), &of("b"), &deployment("w", &holds("s", "k"))]);
    let of_slot: Vec<_> = all.findings.iter().filter(|f| f.rule == "SC-101").collect();
    assert!(of_slot.len() == 2 && of_slot.iter().all(|f| f.clients.len() == 2), "{of_slot:#?}");
    let evidence = |f: &clientgrant::sharing::Finding| f.evidence.iter().map(|e| e.place.line).collect::<Vec<_>>();
    assert!(of_slot.iter().all(|f| evidence(f).len() == 2), "{of_slot:#?}");
}

#[test]
fn a_token_that_no_container_mounts_is_potential() {
    let spec = "workloads: [{apiVersion: apps/v1, kind: Deployment, name: own}], \
         credentials: [{federated: {subject: 'system:serviceaccount:shop:f'}}]";
    let own = deployment("own", "serviceAccountName: f, containers: [{name: c}]");
    let grade = |automount: bool, mount: &str| {
        let pod = format!(
            "serviceAccountName: f, automountServiceAccountToken: {automount}, containers: [{{name: c{mount}}}], \
             volumes: [{{name: t, projected: {{sources: [{{serviceAccountToken: {{audience: idp, path: t}}}}]}}}}]"
        );
        let all = scan(&[&identity("f", spec), &own, &deployment("other", &pod)]);
        let finding = only(&all, "SC-301");
        (
            finding.grade,
            finding.evidence[0].path.contains("projected") || finding.evidence[1].path.contains("projected"),
        )
    };
    let mount = ", volumeMounts: [{name: t, mountPath: /t}]";
    assert_eq!(grade(false, ""), (Grade::Potential, true));
    assert_eq!(grade(false, mount), (Grade::Identity, true));
    assert_eq!(grade(true, ""), (Grade::Identity, false), "another one comes by itself");
}

#[test]
fn what_is_scaled_to_zero_is_there_unless_it_is_an_old_revision() {
    let set = |owner: &str| {
        format!(
            "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: old, namespace: shop, ownerReferences: [{owner}]}}\n\
             spec: {{replicas: 0, template: {{spec: {{{BOTH}}}}}}}\n"
        )
    };
    for (owner, there) in [
        ("{apiVersion: apps/v1, kind: Deployment, name: d, controller: true}", false),
        ("{apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: d, controller: true}", false),
        ("{apiVersion: ex.org/v1, kind: Runner, name: d, controller: true}", true),
        ("", true),
    ] {
        let all = open(&scan(&[&pair(), &set(owner)]));
        assert_eq!(all.iter().any(|f| f.starts_with("SC-201")), there, "{owner}: {all:?}");
    }
}

#[test]
fn a_pod_leads_to_its_rollout_without_what_is_between() {
    let spec = "workloads: [{apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: r}], credentials: [{secret: {name: s, key: k}}]";
    let pod = |label: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: r-6b9c-x, namespace: shop, labels: {{{label}}}, \
             ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: r-6b9c, controller: true}}]}}\nspec: {{{}}}\n",
            holds("s", "k")
        )
    };
    let stranger =
        |label: &str| found(&scan(&[&identity("c", spec), &pod(label)])).iter().any(|f| f.starts_with("SC-301"));
    assert!(!stranger("rollouts-pod-template-hash: 6b9c"));
    assert!(stranger("rollouts-pod-template-hash: other") && stranger("x: y"));
}

#[test]
fn what_kustomize_builds_from_is_not_what_it_builds() {
    let of = |file: &str, text: &str| {
        let mut reader = Reader::default();
        reader.add(file, text.as_bytes());
        reader.finish(now()).unread.into_iter().map(|u| format!("{} {}", u.place, u.why)).collect::<Vec<_>>()
    };
    let why = "it changes what stands beside it: give what `kustomize build` prints instead";
    let whole = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: shop\n";
    assert_eq!(of("a/kustomization.yaml", whole), [format!("a/kustomization.yaml:1 {why}")]);
    assert_eq!(of("a/kustomization.yml", "resources: [x.yaml]\n"), [format!("a/kustomization.yml:1 {why}")]);
    assert_eq!(of("all.yaml", &whole.replace("v1beta1", "v1alpha1").replace("Kustomization", "Component")).len(), 1);
    // What Flux calls so is an object of the cluster.
    let flux = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: x, namespace: shop}\nspec: {path: x}\n";
    assert!(of("kustomization.yaml", flux).is_empty() && of("kustomization.yaml", "# nothing\n").is_empty());
    assert!(of("values.yaml", "resources: [x.yaml]\n").is_empty());
}

/// Objects without any pods name a client's Secret in many ways; the API server knows none of them as a reference.
#[test]
fn what_names_a_clients_secret_in_a_way_of_its_own_is_a_gap() {
    let of = |kind: &str, rest: &str| format!("apiVersion: x.example/v1\nkind: {kind}\nmetadata: {{name: w{rest}}}\n");
    let here = ", namespace: shop";
    for spec in [
        "spec: {workflowSpec: {volumes: [{name: v, secret: {secretName: b-oidc}}]}}",
        "spec: {deployment: {volumes: [{projected: {sources: [{secret: {name: b-oidc}}]}}]}}",
        "spec: {endpoints: [{oauth2: {clientSecret: {name: b-oidc, key: client-secret}}}]}",
        "spec: {secrets: [other, b-oidc]}",
        "spec: {valuesFrom: [{kind: Secret, name: b-oidc}]}",
        "configFrom: {secretKeyRef: {name: b-oidc, key: client-secret}}",
        "spec: {driver: {serviceAccount: b}}",
        "spec: {auth: {serviceAccountRef: {name: b}}}",
    ] {
        let all = unread(&format!("{}{spec}\n", of("Odd", here)));
        assert!(all.len() == 1 && all[0].contains("Odd of x.example/v1 is no kind that is read"), "{spec}: {all:?}");
        assert!(unread(&format!("{}{spec}\n", of("Odd", ", namespace: else"))).is_empty(), "{spec}");
    }
    // What belongs to no namespace names it.
    let wide = |namespace: &str| {
        let text = "plugin: {secretKeyRef: {namespace: NS, name: b-oidc, key: k}}\n".replace("NS", namespace);
        unread(&format!("{}{text}", of("Wide", "")))
    };
    assert_eq!((wide("shop").len(), wide("else").len()), (1, 0));
    for (kind, spec) in [
        ("Odd", "spec: {env: [{configMapKeyRef: {name: b-oidc, key: k}}], tls: {secretName: b-oidc}}"),
        ("Odd", "status: {secretRef: {name: b-oidc}}"),
        ("Event", "involvedObject: {kind: Secret, name: b-oidc}"),
    ] {
        assert!(unread(&format!("{}{spec}\n", of(kind, here))).is_empty(), "{spec}");
    }
    // Of what its own client lists it is known whose it is; another client's Secret in it is a gap all the same.
    let lists =
        "credentials: [{secret: {name: c-oidc, key: k}}], workloads: [{apiVersion: x.example/v1, kind: Odd, name: w}]";
    let odd = |secret: &str| {
        let spec = format!("spec: {{metadata: [{{secretKeyRef: {{name: {secret}, key: k}}}}]}}\n");
        unread(&format!("{}---\n{}{spec}", identity("c", lists), of("Odd", here)))
    };
    assert_eq!((odd("c-oidc").len(), odd("b-oidc").len()), (0, 1));
}

#[test]
fn what_is_no_whole_object_is_not_taken_for_nothing() {
    let pod = "metadata: {name: p, namespace: shop}, spec: {containers: []}";
    for (text, said) in [
        (format!("{{kind: Pod, {pod}}}"), "no whole Kubernetes object"),
        (format!("{{apiVersion: v1, Kind: Pod, {pod}}}"), "no whole Kubernetes object"),
        (format!("{{apiVersion: v1, items: [{{apiVersion: v1, kind: Pod, {pod}}}]}}"), "no whole Kubernetes object"),
        (format!("{{type: ADDED, object: {{apiVersion: v1, kind: Pod, {pod}}}}}"), "no whole Kubernetes object"),
        ("{apiVersion: v1, kind: List, items: {a: b}}".to_owned(), "no whole Kubernetes object"),
        ("{apiVersion: meta.k8s.io/v1, kind: Table, rows: []}".to_owned(), "no whole Kubernetes object"),
        (
            "{apiVersion: template.openshift.io/v1, kind: Template, metadata: {name: t}, objects: []}".to_owned(),
            TEMPLATE,
        ),
        (format!("{{apiVersion: v1, kind: 'ENC[AES256_GCM,data:x]', {pod}}}"), TEMPLATE),
        (
            format!("{{apiVersion: clientgrants.dev/v1alpha1, kind: ClientIdentity, {pod}}}"),
            "it is almost of clientgrant.dev",
        ),
        (
            format!("{{apiVersion: clientgrant.dev/v1alpha1, kind: clientidentity, {pod}}}"),
            "it is almost of clientgrant.dev",
        ),
        (
            deployment("x", "containers: [{name: c, envFrom: [{secretRef: {name: 'ENC[AES256_GCM,data:x]'}}]}]"),
            TEMPLATE,
        ),
    ] {
        let all = unread(&text);
        assert!(all.len() == 1 && all[0].contains(said), "{text}: {all:?}");
    }
    for text in [
        "{apiVersion: v2, name: chart, version: 1.0.0}",
        "{apiVersion: auth0.example.io/v1, kind: ClientGrant, metadata: {name: g}, spec: {}}",
        "{items: [a, b], metadata: {labels: {}}}",
        "{apiVersion: clientgrant.dev/v1alpha1, kind: ClusterIdentityProvider, metadata: {name: corp}, spec: {}}",
    ] {
        assert!(unread(text).is_empty(), "{text}");
    }
}

#[test]
fn objects_without_a_namespace_are_not_compared_with_nobody() {
    let bare = |text: &str| text.replace(", namespace: shop", "").replace("namespace: shop", "");
    let (ids, both) = (pair(), deployment("x", BOTH));
    let gaps = |ids: &str, both: &str, namespace: Option<&str>| {
        let mut reader = Reader::default();
        namespace.into_iter().for_each(|namespace| reader.namespace(namespace));
        reader.add("ids.yaml", ids.as_bytes());
        reader.add("x.yaml", both.as_bytes());
        let input = reader.finish(now());
        let unread = input.unread.iter().filter(|u| u.why.starts_with("it says no namespace")).count();
        (unread, has(&clientgrant::sharing::evaluate(input, now()), "SC-201 Deployment/shop/x"))
    };
    assert_ne!(bare(&ids), ids);
    assert_eq!(gaps(&ids, &both, None), (0, true));
    assert_eq!(gaps(&ids, &bare(&both), None), (1, false));
    assert_eq!(gaps(&bare(&ids), &both, None), (2, false));
    assert_eq!(gaps(&bare(&ids), &bare(&both), None), (0, false), "all of them are of one namespace");
    for (ids, both) in [(ids.clone(), bare(&both)), (bare(&ids), both.clone()), (bare(&ids), bare(&both))] {
        assert_eq!(gaps(&ids, &both, Some("shop")), (0, true));
    }
}

#[test]
fn a_pod_that_is_done_holds_nothing() {
    let pod = |phase: &str| {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\n";
        scan(&[&pair(), &format!("{pod}spec: {{{BOTH}}}\nstatus: {{phase: {phase}}}\n")])
    };
    for phase in ["Pending", "Running", "Unknown"] {
        assert!(has(&pod(phase), "SC-201 Pod/shop/p"), "{phase}");
    }
    for phase in ["Succeeded", "Failed"] {
        assert!(!has(&pod(phase), "SC-201 Pod/shop/p"), "{phase}");
    }
}

#[test]
fn of_variables_with_one_name_the_last_counts() {
    let variable =
        |name: &str, secret: &str| format!("{{name: {name}, valueFrom: {{secretKeyRef: {{name: {secret}, key: k}}}}}}");
    let of = |first: &str, second: &str| {
        let env = format!("{}, {}", variable(first, "b-oidc"), variable(second, "a-oidc"));
        scan(&[&pair(), &deployment("x", &format!("serviceAccountName: a, containers: [{{name: c, env: [{env}]}}]"))])
    };
    assert!(has(&of("A", "B"), "SC-201 Deployment/shop/x"));
    assert!(!has(&of("A", "A"), "SC-201 Deployment/shop/x"), "{:?}", found(&of("A", "A")));
}

#[test]
fn a_secret_that_is_what_the_client_is_called_is_told_as_a_secret() {
    let literal = |value: &str| {
        let env = format!("[{{name: OIDC_CLIENT_SECRET, value: {value}}}, {{name: OIDC_CLIENT_ID, value: a}}]");
        scan(&[&pair(), &deployment("x", &format!("serviceAccountName: a, containers: [{{name: c, env: {env}}}]"))])
    };
    for value in ["other", "a"] {
        assert!(has(&literal(value), "SC-401 Deployment/shop/x"), "{value}: {:?}", found(&literal(value)));
    }
}

#[test]
fn what_others_fetch_for_a_container_is_not_told() {
    let with = |volume: &str, annotation: &str, env: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: x, namespace: shop}}\nspec: {{template: {{metadata: \
             {{annotations: {{{annotation}}}}}, spec: {{serviceAccountName: a, volumes: [{volume}], containers: [{{name: c, \
             env: [{env}]}}]}}}}}}\n"
        )
    };
    let store = "{name: v, csi: {driver: secrets-store-gke.csi.k8s.io, volumeAttributes: {secretProviderClass: b}}}";
    for (text, opaque) in [
        (with(store, "", ""), true),
        (with("", "vault.security.banzaicloud.io/vault-env-from-path: secret/data/b", ""), true),
        (with("", "", "{name: CLIENT_SECRET, value: 'vault:secret/data/b#client-secret'}"), true),
        (with("", "", "{name: LOG_LEVEL, value: 'vault:secret/data/b#level'}"), false),
        (with("", "vault.security.banzaicloud.io/vault-addr: 'https://vault:8200'", ""), false),
    ] {
        assert_eq!(has(&scan(&[&pair(), &text]), "SC-901 Deployment/shop/x"), opaque, "{text}");
    }
}

#[test]
fn a_grant_that_breaks_a_rule_is_not_said_to_be_over() {
    let grant = |scopes: &str| {
        format!(
            "apiVersion: clientgrant.dev/v1alpha1\nkind: ClientGrant\nmetadata: {{name: g, namespace: shop}}\nspec: \
             {{providerRef: {{kind: ClusterIdentityProvider, name: corp}}, clientID: a, basis: ClientOwn, scopes: {scopes}, \
             purpose: {{id: p, description: A purpose.}}, owner: {{team: t, contact: t@example.com}}, \
             expiresAt: '2199-01-01T00:00:00Z'}}\n"
        )
    };
    assert_eq!(unread(&grant("[read]")), Vec::<String>::new());
    let all = unread(&grant("['hunter2 x']"));
    assert_eq!(all, ["a ClientGrant breaks a rule that the API server has for it: spec.scopes"]);
}
