//! Every situation of the status table, brought about on real servers. What the API server returns is kept in
//! `docs/argocd`, where `tests/gitops` judges it; here it is compared with what is kept, or written with
//! `CLIENTGRANT_WRITE=1`.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use clientgrant::api::condition::ConditionType;
use clientgrant::api::instant;
use clientgrant_testbed::bed::condition;
use clientgrant_testbed::helm::Helm;
use clientgrant_testbed::{Action, Recorded, RunDir};
use reqwest::Method;
use serde_json::{Value, json};

use crate::status_rows::{GRANT, Row, rows};
use crate::support::{Real, bed_with, chain, merged, pause};

const SCOPE: &str = "openid offline_access transactions:read";
const CORP: &str = "clusteridentityproviders/corp";
const LONG: Duration = Duration::from_secs(30);
/// Of all that differs from one run to the next.
const WHEN: &str = "2027-01-01T00:00:00Z";

/// What was seen, beside what is kept.
struct Album {
    write: bool,
    rows: Vec<Row>,
    seen: BTreeSet<(&'static str, &'static str)>,
    wrong: Vec<String>,
}

impl Album {
    fn keep(&mut self, kind: &str, name: &str, object: &Value) {
        let row = *self.rows.iter().find(|row| (row.kind, row.name) == (kind, name)).expect("a row of the table");
        self.seen.insert((row.kind, row.name));
        let told = row.conditions.and_then(|conditions| conditions.differ(object));
        self.wrong.extend(told.map(|told| format!("{kind} {name}: {told}")));
        let yaml = serde_yaml::to_string(&settled(object)).expect("an object");
        let path = row.path();
        if self.write {
            fs::write(&path, yaml).expect("the fixture can be written");
        } else if fs::read_to_string(&path).ok().as_ref() != Some(&yaml) {
            self.wrong.push(format!("{} is not what the API server returned:\n{yaml}", path.display()));
        }
    }

    fn grant(&mut self, name: &str, object: &Value) {
        self.keep(GRANT, name, object);
    }

    fn finish(self) {
        let all: BTreeSet<_> = self.rows.iter().map(|row| (row.kind, row.name)).collect();
        let unseen: Vec<_> = all.difference(&self.seen).collect();
        assert!(unseen.is_empty(), "not brought about: {unseen:?}");
        let wrong = self.wrong.join("\n");
        assert!(wrong.is_empty(), "{wrong}\nIf it is right so: CLIENTGRANT_WRITE=1 cargo test --test real rows");
    }
}

/// The same for every run: no times, ports and identities.
fn settled(object: &Value) -> Value {
    let mut object = object.clone();
    let spec = object["spec"].clone();
    let meta = object["metadata"].as_object_mut().expect("an object");
    meta.remove("managedFields");
    meta.remove("annotations");
    meta.insert("resourceVersion".into(), json!("1"));
    let uid = json!("00000000-0000-0000-0000-000000000001");
    if object["kind"] == "PendingRevocation" {
        // Named like its grant's.
        object["spec"]["origin"]["uid"] = uid.clone();
        object["spec"]["since"] = json!(WHEN);
        object["metadata"]["name"] = uid.clone();
    }
    object["metadata"]["uid"] = uid;
    for name in ["creationTimestamp", "deletionTimestamp"] {
        if !object["metadata"][name].is_null() {
            object["metadata"][name] = json!(WHEN);
        }
    }
    // The order in which conditions came depends on how fast the way up was.
    if let Some(conditions) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        let place = |c: &Value| ConditionType::ALL.iter().position(|t| c["type"] == t.as_str());
        conditions.sort_by_key(place);
    }
    if let Some(status) = object.get_mut("status") {
        timeless(status, &spec);
        // It has since when the client is registered.
        if status["fingerprint"].is_string() {
            status["fingerprint"] = json!("00".repeat(64));
        }
        // They are counted every now and then.
        if status["grants"].is_object() {
            status["grants"] = json!({"total": 12, "active": 9});
        }
    }
    portless(&mut object);
    object
}

fn timeless(value: &mut Value, spec: &Value) {
    match value {
        Value::String(text) if instant::parse(text).is_some() && spec["expiresAt"] != *text => *text = WHEN.to_owned(),
        Value::Array(list) => list.iter_mut().for_each(|v| timeless(v, spec)),
        Value::Object(fields) => fields.values_mut().for_each(|v| timeless(v, spec)),
        _ => {}
    }
}

/// `127.0.0.1:` and a port of the moment.
fn portless(value: &mut Value) {
    const HOST: &str = "127.0.0.1:";
    match value {
        Value::String(text) => {
            if let Some(at) = text.find(HOST) {
                let (head, rest) = text.split_at(at + HOST.len());
                *text = format!("{head}4445{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(portless),
        Value::Object(fields) => fields.values_mut().for_each(portless),
        _ => {}
    }
}

fn path(name: &str) -> String {
    format!("namespaces/finance/clientgrants/{name}")
}

/// Registers a client of this name, and applies a grant of an administrator for it.
async fn begin(bed: &Real, name: &str, spec: Value) {
    bed.client(&format!("app-{name}"), json!({"scope": SCOPE})).await.unwrap();
    apply(bed, name, spec).await;
}

async fn apply(bed: &Real, name: &str, spec: Value) {
    let mut whole = json!({"clientID": format!("app-{name}"), "basis": "AdminConsent"});
    // Not merged here: what is null takes a field away from the usual grant.
    for (field, value) in spec.as_object().expect("fields of a spec") {
        whole[field] = value.clone();
    }
    bed.grant("finance", name, whole).await.unwrap();
}

/// Makes the operator look at a grant again.
async fn touch(bed: &Real, name: &str) {
    let spec = json!({"spec": {"purpose": {"description": "The same in other words, to be looked at again"}}});
    bed.patch(&path(name), spec).await.unwrap();
}

async fn provider(bed: &Real, path: &str, type_: &str, reason: &str) -> Value {
    bed.wait(path, reason, LONG, |o| condition(o, type_)["reason"] == reason).await.unwrap()
}

/// A ClientIdentity that lets a client be taken over.
fn identity(name: &str, client: &str) -> Value {
    json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientIdentity",
        "metadata": {"name": name, "namespace": "finance"},
        "spec": {"providerRef": {"kind": "ClusterIdentityProvider", "name": "corp"}, "clientID": client, "adopt": true},
    })
}

/// A provider object over Hydra.
fn hydra(kind: &str, name: &str, issuer: &str, admin_url: &str) -> Value {
    let mut metadata = json!({"name": name});
    let mut allow = json!([{"clients": ["*"]}]);
    if kind == "IdentityProvider" {
        metadata["namespace"] = json!("finance");
        allow = Value::Null;
    }
    let mut object = json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": kind, "metadata": metadata,
        "spec": {
            "issuer": issuer, "mode": "Enforce", "insecureHTTP": true, "allow": allow,
            "hydra": {
                "adminURL": admin_url,
                "tokenHook": {"apiKeySecretRef": {"name": "hydra-hook", "key": "key"}},
                "consent": {"apiKeySecretRef": {"name": "hydra-hook", "key": "consent-key"}},
            },
        },
    });
    if object["spec"]["allow"].is_null() {
        object["spec"].as_object_mut().unwrap().remove("allow");
    }
    object
}

/// What goes wrong at Hydra, by client. `read` is what the two clients are read to be that cannot be brought
/// where they should.
fn trouble(request: &Recorded, read: &[(String, String)]) -> Action {
    let of = |name: &str| request.path().ends_with(&format!("/admin/clients/app-{name}"));
    if of("provider-unavailable") || of("provider-unavailable-in-force") {
        return Action::DropRequest;
    }
    if of("provider-denied") || of("provider-denied-in-force") {
        return Action::Answer(403, "{}".into());
    }
    let ends = |name: &str| request.method == "DELETE" && request.path_and_query.contains(&format!("=app-{name}"));
    if ends("revocation-overdue") || ends("revocation-blocked") {
        return Action::Answer(503, "{}".into());
    }
    match read.iter().find(|(name, _)| request.method == "GET" && of(name)) {
        Some((_, body)) => Action::Answer(200, body.clone()),
        None => Action::Forward,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_situation_of_the_table() {
    let start = Instant::now();
    let write = std::env::var_os("CLIENTGRANT_WRITE").is_some();
    let mut album = Album { write, rows: rows(), seen: BTreeSet::new(), wrong: Vec::new() };
    let mut bed = bed_with(|options| {
        let namespaces = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["finance", "it"]}]});
        options.provider["allow"] = json!([{"namespaces": namespaces, "clients": ["app-*"]}]);
        options.provider["adoption"] = json!("Explicit");
        options.provider["driftCheckInterval"] = json!("1s");
        options.args = ["--handover-after=4s", "--allow-provider-url=http://127.0.0.1:1/team/*"].map(String::from).into();
    })
    .await;
    let said = |what: &str| println!("{:5.1} s: {what}", start.elapsed().as_secs_f64());
    provider(&bed, CORP, "TokenHook", "Called").await;

    settles(&bed, &mut album).await;
    said("what comes to rest");
    nobody_looks(&mut bed, &mut album).await;
    said("what nobody looks at, and what arrived long ago");
    fails(&bed, &mut album).await;
    said("what fails");
    helm_waits_as_the_table_says(&bed).await;
    said("Helm");
    let broken = invalid(&bed).await;
    album.grant("invalid-spec", &broken);
    said("an object that the schema let through");
    without_the_hook(&bed, &mut album).await;
    said("without the hook");
    observed(&bed, &mut album).await;
    said("in mode Observe");
    without_its_provider(&bed, &mut album).await;
    said("without its provider");
    album.finish();
}

fn quarantine(name: &str, issuer: &str) -> Value {
    json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientQuarantine", "metadata": {"name": name},
        "spec": {"issuer": issuer, "clientID": "app-quarantined", "reason": "client secret leaked, ticket SEC-71"},
    })
}

async fn brake(bed: &Real, name: &str, reason: &str) -> Value {
    let said = |o: &Value| condition(o, "Ready")["reason"] == reason;
    bed.wait(&format!("clientquarantines/{name}"), reason, LONG, said).await.unwrap()
}

/// Says how the client of a grant has to be registered, and what happens otherwise.
async fn pin(bed: &Real, name: &str, on_change: &str, pin: Value) {
    let over = json!({"spec": {"onRegistrationChange": on_change, "pin": pin}});
    let object = merged(identity(name, &format!("app-{name}")), over);
    bed.put(&format!("namespaces/finance/clientidentities/{name}"), object).await.unwrap();
}

/// Waits until it is said how the client is registered.
async fn registered(bed: &Real, name: &str, status: &str) {
    let said = |o: &Value| condition(o, "RegistrationUnchanged")["status"] == status;
    bed.wait(&format!("namespaces/finance/clientidentities/{name}"), "read", LONG, said).await.unwrap();
}

/// Situations that stay as they are, and those that still arrive.
async fn settles(bed: &Real, album: &mut Album) {
    let issuer = bed.hydra.issuer().to_owned();
    bed.client("app-conflict", json!({"scope": SCOPE})).await.unwrap();
    bed.grant("it", "holder", json!({"clientID": "app-conflict", "basis": "AdminConsent"})).await.unwrap();
    let quarantine = quarantine("leaked", &issuer);
    let misspelt = self::quarantine("misspelt", "https://login.example.org/");
    let consent = json!({"basis": "SubjectConsent"});
    begin(bed, "granted", consent.clone()).await;
    begin(bed, "awaiting-consent", consent.clone()).await;
    begin(bed, "consent-removed", consent).await;
    begin(bed, "not-yet-valid", json!({"notBefore": "2198-01-01T00:00:00Z"})).await;
    for name in ["expired", "suspended", "quarantined", "revoking"] {
        begin(bed, name, json!({})).await;
    }
    let robot = json!({"clientID": "app-robot", "subject": null, "basis": "ClientOwn", "scopes": ["ledger:read"]});
    bed.client("app-robot", json!({"grant_types": ["client_credentials"], "scope": "ledger:read"})).await.unwrap();
    bed.put("namespaces/finance/clientidentities/robot", identity("robot", "app-robot")).await.unwrap();
    for name in ["registration-changed", "client-replaced"] {
        begin(bed, name, json!({})).await;
    }
    pin(bed, "client-replaced", "Report", json!({"authMethods": ["client_secret_post", "client_secret_basic"]})).await;
    pin(bed, "registration-changed", "Suspend", json!({"redirectURIs": []})).await;
    apply(bed, "robot", robot).await;
    for name in ["granted", "consent-removed"] {
        bed.reason("finance", name, "AwaitingConsent").await.unwrap();
        chain(bed, &bed.oauth(&format!("app-{name}")).unwrap(), "ann", SCOPE).await;
        bed.reason("finance", name, "Granted").await.unwrap();
    }
    for name in ["expired", "suspended", "quarantined", "revoking", "robot"] {
        bed.reason("finance", name, "Granted").await.unwrap();
    }
    bed.patch(&path("expired"), json!({"spec": {"expiresAt": "2026-01-01T00:00:00Z"}})).await.unwrap();
    bed.patch(&path("suspended"), json!({"spec": {"suspend": true}})).await.unwrap();
    bed.put("clientquarantines/leaked", quarantine).await.unwrap();
    bed.hydra.admin().revoke_pair("ann", "app-consent-removed").await.unwrap();
    touch(bed, "consent-removed").await;

    bed.client("app-adoption-needed", json!({"scope": format!("{SCOPE} admin")})).await.unwrap();
    apply(bed, "adoption-needed", json!({})).await;
    let mark = json!({"scope": SCOPE, "metadata": {"clientgrant.dev/cluster": "another"}});
    bed.client("app-foreign-client", mark).await.unwrap();
    apply(bed, "foreign-client", json!({})).await;
    apply(bed, "conflict", json!({})).await;
    apply(bed, "not-allowed", json!({"clientID": "other"})).await;
    apply(bed, "not-supported", json!({"clientID": "app-not/supported"})).await;
    begin(bed, "subject-client-collision", json!({"subject": {"id": "app-robot"}})).await;
    apply(bed, "provider-not-found", json!({"providerRef": {"name": "absent"}})).await;
    apply(bed, "unknown-client", json!({})).await;

    registered(bed, "client-replaced", "True").await;
    bed.hydra.admin().delete_client("app-client-replaced").await.unwrap();
    bed.client("app-client-replaced", json!({"scope": SCOPE})).await.unwrap();
    touch(bed, "client-replaced").await;
    bed.delete(&path("revoking")).await.unwrap();
    let revoking = |o: &Value| condition(o, "Ready")["reason"] == "Revoking";
    album.grant("revoking", &bed.wait(&path("revoking"), "revoking", LONG, revoking).await.unwrap());
    for (name, reason) in [
        ("granted", "Granted"),
        ("awaiting-consent", "AwaitingConsent"),
        ("consent-removed", "ConsentRemoved"),
        ("not-yet-valid", "NotYetValid"),
        ("expired", "Expired"),
        ("suspended", "Suspended"),
        ("quarantined", "Quarantined"),
        ("registration-changed", "RegistrationChanged"),
        ("client-replaced", "ClientReplaced"),
        ("adoption-needed", "AdoptionNeeded"),
    ] {
        album.grant(name, &bed.reason("finance", name, reason).await.unwrap());
    }
    for (name, reason) in ARRIVING {
        album.grant(name, &bed.reason("finance", name, reason).await.unwrap());
    }
    album.keep("ClusterIdentityProvider", "connected", &bed.get(CORP).await.unwrap().unwrap());
    bed.put("namespaces/finance/clientidentities/other", identity("other", "other")).await.unwrap();
    registered(bed, "robot", "True").await;
    for (name, object, reason) in [("accepted", "robot", "Accepted"), ("not-allowed", "other", "NotAllowed")] {
        let path = format!("namespaces/finance/clientidentities/{object}");
        let said = |o: &Value| condition(o, "Ready")["reason"] == reason;
        album.keep("ClientIdentity", name, &bed.wait(&path, reason, LONG, said).await.unwrap());
    }
    album.keep("ClientQuarantine", "in-force", &brake(bed, "leaked", "InForce").await);
    bed.put("clientquarantines/misspelt", misspelt).await.unwrap();
    album.keep("ClientQuarantine", "unknown-issuer", &brake(bed, "misspelt", "ProviderNotFound").await);

    // Of the same issuer as corp, and younger.
    let twin = hydra("ClusterIdentityProvider", "twin", &issuer, bed.proxy.url());
    bed.put("clusteridentityproviders/twin", twin).await.unwrap();
    let twin = provider(bed, "clusteridentityproviders/twin", "Ready", "IssuerTaken").await;
    album.keep("ClusterIdentityProvider", "issuer-taken", &twin);
    for (name, url, reason) in [
        ("url-not-allowed", "http://127.0.0.1:2/team/x", "URLNotAllowed"),
        ("secret-not-found", "http://127.0.0.1:1/team/x", "SecretNotFound"),
    ] {
        let path = format!("namespaces/finance/identityproviders/{name}");
        let issuer = format!("https://{name}.example.com/");
        bed.put(&path, hydra("IdentityProvider", name, &issuer, url)).await.unwrap();
        album.keep("IdentityProvider", name, &provider(bed, &path, "Ready", reason).await);
    }
}

/// Refused, and for two minutes perhaps only early.
const ARRIVING: [(&str, &str); 7] = [
    ("conflict", "Conflict"),
    ("not-allowed", "NotAllowed"),
    ("not-supported", "NotSupported"),
    ("subject-client-collision", "SubjectClientCollision"),
    ("foreign-client", "ForeignClient"),
    ("provider-not-found", "ProviderNotFound"),
    ("unknown-client", "UnknownClient"),
];

/// The operator is away: what is new or changed meanwhile, and what it finds when it is back. Two minutes are
/// not waited for: while nobody looks, status is moved back by as much.
async fn nobody_looks(bed: &mut Real, album: &mut Album) {
    const UID: &str = "0f9a31d8-6f1e-4a7c-9d53-5b8c1f4f2a10";
    bed.operator.kill();
    begin(bed, "never-reconciled", json!({})).await;
    album.grant("never-reconciled", &bed.get(&path("never-reconciled")).await.unwrap().unwrap());
    touch(bed, "granted").await;
    album.grant("new-generation", &bed.get(&path("granted")).await.unwrap().unwrap());
    let wait = ["wait", "--for=condition=Active", "-n", "finance", "clientgrants.clientgrant.dev/granted"];
    let early = bed.plane.kubectl_with_input(&[&wait[..], &["--timeout=1s"]].concat(), "").await.unwrap();
    assert!(!early.success, "Active is said of the generation before: {}", early.stdout);

    let later = "clusteridentityproviders/later";
    let object = hydra("ClusterIdentityProvider", "later", "https://later.example.com/", "http://127.0.0.1:1");
    bed.put(later, object).await.unwrap();
    album.keep("ClusterIdentityProvider", "never-reconciled", &bed.get(later).await.unwrap().unwrap());
    let unseen = bed.put("clientquarantines/unseen", quarantine("unseen", bed.hydra.issuer().as_str())).await.unwrap();
    album.keep("ClientQuarantine", "never-reconciled", &unseen);
    bed.patch(CORP, json!({"spec": {"consentSweepInterval": "23h"}})).await.unwrap();
    album.keep("ClusterIdentityProvider", "new-generation", &bed.get(CORP).await.unwrap().unwrap());
    let unseen = "namespaces/finance/clientidentities/unseen";
    bed.put(unseen, identity("unseen", "app-unseen")).await.unwrap();
    album.keep("ClientIdentity", "never-reconciled", &bed.get(unseen).await.unwrap().unwrap());
    let model = "namespaces/finance/identityproviders/model";
    let object = hydra("IdentityProvider", "model", "memory://finance/model", "");
    let over = json!({"hydra": null, "insecureHTTP": null, "memory": {"clients": [{"clientID": "toy", "scopes": ["openid"]}]}});
    bed.put(model, merged(object, json!({"spec": over}))).await.unwrap();
    album.keep("IdentityProvider", "never-reconciled", &bed.get(model).await.unwrap().unwrap());
    let duty = json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "PendingRevocation",
        "metadata": {"name": UID, "namespace": "clientgrant-system"},
        "spec": {
            "issuer": bed.hydra.issuer(), "clientID": "app-granted", "subject": {"kind": "User", "id": "eve"},
            "cause": "Deleted", "since": "2026-11-24T09:00:00Z",
            "origin": {
                "namespace": "finance", "name": "gone", "uid": UID,
                "providerRef": {"kind": "ClusterIdentityProvider", "name": "corp"},
            },
        },
    });
    let pending = format!("namespaces/clientgrant-system/pendingrevocations/{UID}");
    bed.put(&pending, duty).await.unwrap();
    album.keep("PendingRevocation", "never-reconciled", &bed.get(&pending).await.unwrap().unwrap());
    bed.delete(&pending).await.unwrap();

    let long_ago = instant::format(clientgrant::clock::now() - Duration::from_secs(121));
    for (name, _) in ARRIVING {
        let mut object = bed.get(&path(name)).await.unwrap().unwrap();
        let conditions = object["status"]["conditions"].as_array_mut().unwrap();
        let reconciling = conditions.iter_mut().find(|c| c["type"] == "Reconciling").unwrap();
        reconciling["lastTransitionTime"] = json!(long_ago);
        let body = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": {"name": name},
            "status": object["status"],
        });
        let url = format!("apis/clientgrant.dev/v1alpha1/{}/status?fieldManager=clientgrant&force=true", path(name));
        let (code, answer) = bed.raw(Method::PATCH, &url, Some((body, "application/apply-patch+yaml"))).await.unwrap();
        assert_eq!(code, 200, "{answer}");
    }
    bed.operator.restart().unwrap();
    let waited = bed.plane.kubectl(&[&wait[..], &["--timeout=20s"]].concat()).await.unwrap();
    assert!(waited.contains("condition met"), "{waited}");
    let active = bed.get(&path("granted")).await.unwrap().unwrap();
    assert_eq!(condition(&active, "Active")["observedGeneration"], active["metadata"]["generation"]);
    bed.ready().await.unwrap();
    provider(bed, CORP, "TokenHook", "Called").await;

    for (name, reason) in ARRIVING {
        let stalled = |o: &Value| condition(o, "Stalled")["reason"] == reason;
        album.grant(&format!("{name}-stalled"), &bed.wait(&path(name), "stalled", LONG, stalled).await.unwrap());
    }
    album.keep("IdentityProvider", "connected", &provider(bed, model, "Ready", "Connected").await);
    let away = provider(bed, later, "Ready", "ProviderUnavailable").await;
    album.keep("ClusterIdentityProvider", "unavailable", &away);
}

/// Hydra does not do as it should, for each client in another way.
async fn fails(bed: &Real, album: &mut Album) {
    let in_force = ["provider-unavailable-in-force", "provider-denied-in-force", "drift-repairing"];
    let ends = ["revocation-overdue", "revocation-blocked"];
    for name in in_force.into_iter().chain(ends) {
        begin(bed, name, json!({})).await;
    }
    for name in in_force.into_iter().chain(ends) {
        bed.reason("finance", name, "Granted").await.unwrap();
    }
    let registered = bed.hydra.admin().get_client("app-drift-repairing").await.unwrap();
    let drifted = merged(registered.clone(), json!({"scope": format!("{SCOPE} admin")}));
    let unmarked = merged(registered, json!({"client_id": "app-progressing", "metadata": null}));
    let read = [("drift-repairing".to_owned(), drifted.to_string()), ("progressing".to_owned(), unmarked.to_string())];
    bed.proxy.set_rule(move |request| trouble(request, &read));
    for name in ["provider-unavailable", "provider-denied", "progressing"] {
        begin(bed, name, json!({})).await;
    }
    for name in in_force {
        touch(bed, name).await;
    }
    bed.patch(&path("revocation-overdue"), json!({"spec": {"suspend": true}})).await.unwrap();
    bed.delete(&path("revocation-blocked")).await.unwrap();
    // Before it goes and leaves the duty behind.
    for (name, reason) in [
        ("revocation-blocked", "RevocationBlocked"),
        ("revocation-overdue", "RevocationOverdue"),
        ("provider-unavailable", "ProviderUnavailable"),
        ("provider-unavailable-in-force", "ProviderUnavailable"),
        ("provider-denied", "ProviderDenied"),
        ("provider-denied-in-force", "ProviderDenied"),
        ("progressing", "Progressing"),
        ("drift-repairing", "Progressing"),
    ] {
        album.grant(name, &bed.reason("finance", name, reason).await.unwrap());
    }
    bed.gone(&path("revocation-blocked")).await.unwrap();
    let left = pending(bed, "RevocationBlocked").await;
    album.keep("PendingRevocation", "blocked", &left);
}

/// The one duty that is left, when it says so.
async fn pending(bed: &Real, reason: &str) -> Value {
    let list = "namespaces/clientgrant-system/pendingrevocations";
    let says = |list: &Value| condition(&list["items"][0], "Done")["reason"] == reason;
    let mut found = bed.wait(list, reason, LONG, says).await.unwrap();
    let mut one = found["items"][0].take();
    // Members of a list do not repeat them.
    one["apiVersion"] = json!("clientgrant.dev/v1alpha1");
    one["kind"] = json!("PendingRevocation");
    one
}

/// Helm waits with the rules of kstatus, for custom resources too.
async fn helm_waits_as_the_table_says(bed: &Real) {
    let helm = Helm::new(bed.plane.tools()).unwrap();
    let dir = RunDir::new("grants").unwrap();
    let chart = dir.path().join("chart");
    fs::create_dir_all(chart.join("templates")).unwrap();
    fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: grants\nversion: 1.0.0\n").unwrap();
    bed.client("app-in-a-chart", json!({"scope": SCOPE})).await.unwrap();
    for (release, client, timeout, ends) in [
        ("current", "app-in-a-chart", "60s", Ok(())),
        ("failed", "app-adoption-needed", "60s", Err("failed")),
        ("in-progress", "app-provider-unavailable", "3s", Err("deadline")),
    ] {
        let spec = json!({"clientID": client, "basis": "AdminConsent", "subject": {"id": release}});
        let grant = clientgrant_testbed::bed::grant("finance", &format!("helm-{release}"), &spec);
        fs::write(chart.join("templates/grant.yaml"), grant.to_string()).unwrap();
        let chart = chart.to_str().unwrap();
        let start = Instant::now();
        let args = ["install", release, chart, "--namespace=finance", "--wait", "--timeout", timeout];
        let output = helm.run_on(&bed.plane, &args).await.unwrap();
        let took = start.elapsed();
        println!("helm install --wait, {release}: {:.1} s, {}", took.as_secs_f64(), output.stderr.trim());
        assert_eq!(output.success, ends.is_ok(), "{release}: {}", output.stderr);
        assert!(took < Duration::from_secs(30), "{release}: not by the time alone");
        if let Err(word) = ends {
            assert!(output.stderr.to_lowercase().contains(word), "{release}: {}", output.stderr);
        }
    }
}

/// An end date that the schema does not take: what a restore or an older schema leaves behind.
async fn invalid(bed: &Real) -> Value {
    const CRD: &str = "apis/apiextensions.k8s.io/v1/customresourcedefinitions/clientgrants.clientgrant.dev";
    let place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let looser = json!([
        {"op": "remove", "path": format!("{place}/properties/expiresAt/pattern")},
        {"op": "remove", "path": format!("{place}/properties/expiresAt/x-kubernetes-validations")},
        {"op": "remove", "path": format!("{place}/x-kubernetes-validations")},
    ]);
    bed.client("app-invalid-spec", json!({"scope": SCOPE})).await.unwrap();
    let (code, answer) = bed.raw(Method::PATCH, CRD, Some((looser, "application/json-patch+json"))).await.unwrap();
    assert_eq!(code, 200, "{answer}");
    let spec = json!({"clientID": "app-invalid-spec", "basis": "AdminConsent", "expiresAt": "next year"});
    let end = Instant::now() + LONG;
    while let Err(error) = bed.grant("finance", "invalid-spec", spec.clone()).await {
        assert!(Instant::now() < end, "{error}");
        pause(50).await;
    }
    bed.reason("finance", "invalid-spec", "InvalidSpec").await.unwrap()
}

/// Somebody else answers Hydra's calls of the token hook, and says yes.
async fn without_the_hook(bed: &Real, album: &mut Album) {
    begin(bed, "hook-not-proved-in-force", json!({})).await;
    bed.reason("finance", "hook-not-proved-in-force", "Granted").await.unwrap();
    bed.hooks.set_rule(|_| Action::Answer(204, String::new()));
    let corp = provider(bed, CORP, "TokenHook", "NotCalled").await;
    album.keep("ClusterIdentityProvider", "hook-not-called", &corp);
    begin(bed, "hook-not-proved", json!({})).await;
    for name in ["hook-not-proved", "hook-not-proved-in-force"] {
        album.grant(name, &bed.reason("finance", name, "HookNotProved").await.unwrap());
    }
    bed.hooks.clear_rule();
    provider(bed, CORP, "TokenHook", "Called").await;
}

async fn observed(bed: &Real, album: &mut Album) {
    let any = json!({"subject": {"kind": "Any", "id": null}});
    begin(bed, "observed", json!({"basis": "SubjectConsent"})).await;
    begin(bed, "observed-in-force", any.clone()).await;
    begin(bed, "observed-drifted", any).await;
    bed.reason("finance", "observed", "AwaitingConsent").await.unwrap();
    for name in ["observed-in-force", "observed-drifted"] {
        bed.reason("finance", name, "Granted").await.unwrap();
    }
    bed.patch(CORP, json!({"spec": {"mode": "Observe"}})).await.unwrap();
    for name in ["observed", "observed-in-force"] {
        album.grant(name, &bed.reason("finance", name, "Observed").await.unwrap());
    }
    let wider = json!([{"op": "replace", "path": "/scope", "value": format!("{SCOPE} admin")}]);
    bed.hydra.admin().patch_client("app-observed-drifted", &wider).await.unwrap();
    let drifted = |o: &Value| condition(o, "Drifted")["status"] == "True";
    let seen = bed.wait(&path("observed-drifted"), "drifted", LONG, drifted).await.unwrap();
    album.grant("observed-drifted", &seen);
}

/// The provider object is deleted, and then taken away although grants name it.
async fn without_its_provider(bed: &Real, album: &mut Album) {
    bed.delete("clusteridentityproviders/twin").await.unwrap();
    bed.gone("clusteridentityproviders/twin").await.unwrap();
    bed.delete(CORP).await.unwrap();
    let corp = bed.get(CORP).await.unwrap().unwrap();
    album.keep("ClusterIdentityProvider", "deleting", &corp);
    // Not before: what is told of that edit may come before the deletion, or after it.
    bed.patch(CORP, json!({"spec": {"mode": "Enforce"}})).await.unwrap();
    bed.patch(CORP, json!({"metadata": {"finalizers": null}})).await.unwrap();
    bed.gone(CORP).await.unwrap();
    album.keep("PendingRevocation", "credential-lost", &pending(bed, "CredentialLost").await);
}
