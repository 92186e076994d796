//! What looking for shared credentials costs in a large cluster, without any server: `make bench PART=sharing`.
//!
//! 10,000 pods of 2,500 Deployments, 2,000 clients, 10,000 grants. Objects are read from the JSON of the API server,
//! as the operator reads them, and forgotten. Microseconds of single calls, by the monotonic clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use clientgrant::grant::{
    Authority, Basis, Carried, ClientKey, Grant, GrantName, GrantType, ProviderKey, Subject, Terms, Timestamp,
};
use clientgrant::sharing::declared::{Credential, Identity};
use clientgrant::sharing::evaluate;
use clientgrant::sharing::facts::extract;
use clientgrant::sharing::finding::{Object, Place};
use clientgrant::sharing::picture::{Part, Picture, Read};
use clientgrant::sharing::read::Reader;
use serde_json::{Value, json};

const TEMPLATES: usize = 2_500;
const REPLICAS: usize = 4;
const CLIENTS: usize = 2_000;
const GRANTS: usize = 10_000;
const NAMESPACES: usize = 100;

fn now() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

fn namespace(n: usize) -> String {
    format!("team-{:03}", n % NAMESPACES)
}

fn client(n: usize) -> ClientKey {
    let provider = ProviderKey::cluster("corp");
    ClientKey { provider, client: format!("client-{n}").into() }
}

/// The spec of a pod of template `n`: two containers, a Secret as variables and one as files. `version` is the
/// number of a rollout.
fn pod(n: usize, version: usize) -> Value {
    let ns = n / NAMESPACES;
    let plain = (0..20).map(|v| json!({"name": format!("SETTING_{v}"), "value": format!("value {v} of {version}")}));
    let secret =
        json!({"name": "OIDC", "valueFrom": {"secretKeyRef": {"name": format!("oidc-{ns}"), "key": "secret"}}});
    json!({
        "serviceAccountName": format!("app-{ns}"),
        "volumes": [{"name": "tls", "secret": {"secretName": format!("tls-{ns}-{}", version % 2)}}],
        "containers": [
            {"name": "main", "image": "registry.example/app:1", "env": plain.chain([secret]).collect::<Vec<_>>(),
             "volumeMounts": [{"name": "tls", "mountPath": "/tls"}]},
            {"name": "proxy", "image": "registry.example/proxy:1", "args": ["--listen", "127.0.0.1:8080"]},
        ],
    })
}

fn deployment(n: usize, version: usize) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": format!("app-{n}"), "namespace": namespace(n)},
        "spec": {"template": {"metadata": {"labels": {"app": format!("app-{n}")}}, "spec": pod(n, version)}},
    })
}

fn replica(n: usize, version: usize, replica: usize) -> Value {
    let mut spec = pod(n, version);
    let token = json!({"name": format!("kube-api-access-{replica:05}"), "projected": {"sources": [
        {"serviceAccountToken": {"path": "token"}}]}});
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(token);
    }
    let owner = json!([{"controller": true, "kind": "ReplicaSet", "name": format!("app-{n}-5d9c")}]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("app-{n}-5d9c-{replica}"), "namespace": namespace(n),
            "labels": {"app": format!("app-{n}"), "pod-template-hash": "5d9c"}, "ownerReferences": owner,
        },
        "spec": spec,
    })
}

fn identity(n: usize) -> Identity {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": format!("app-{n}")});
    Identity {
        object: Object::new("ClientIdentity", namespace(n), format!("client-{n}")),
        place: Place::default(),
        client: client(n),
        environment: None,
        family: None,
        service_account: Some(format!("app-{}", n / NAMESPACES)),
        workloads: serde_json::from_value(deployment).into_iter().collect(),
        credentials: vec![Credential::Secret { name: format!("oidc-{}", n / NAMESPACES), key: "secret".into() }],
        exceptions: Vec::new(),
    }
}

fn grant(n: usize) -> (ClientKey, Arc<Grant>) {
    let of = n % CLIENTS;
    let scopes = ["openid".to_owned(), format!("scope-{}", n % 50)];
    let terms = Terms {
        basis: Basis::AdminConsent,
        authority: Authority {
            scopes: scopes.iter().cloned().collect(),
            audiences: std::iter::empty::<String>().collect(),
            grant_types: [GrantType::AuthorizationCode].into(),
        },
        first_scope: "openid".into(),
        purpose: "bench".into(),
        not_before: None,
        expires_at: "2027-02-01T00:00:00Z".parse().unwrap_or(Timestamp::UNIX_EPOCH),
        suspend: false,
    };
    let grant = Grant {
        name: GrantName { namespace: namespace(of), name: format!("grant-{n}") },
        uid: format!("{n:036}").into(),
        created: Timestamp::UNIX_EPOCH,
        generation: 1,
        deleting: false,
        deleted_at: None,
        held: true,
        gave: true,
        told: true,
        subject: Subject::User(format!("user-{}", n % 3_001)),
        terms: Ok(terms),
        carried: Carried { consent_since: None, revocation: None },
        observed_generation: Some(1),
        narrowed: false,
        reopened: false,
    };
    (client(of), Arc::new(grant))
}

/// MiB of memory that this process has.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or_default() / 1024.0
}

fn told(picture: &mut Picture, object: &Value) -> (f64, f64, bool) {
    let begin = Instant::now();
    let facts = extract(object, Place::default(), &BTreeSet::new());
    let read = begin.elapsed().as_secs_f64() * 1e6;
    let of = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = Object::new(text(&object["kind"]), text(&of["namespace"]), text(&of["name"]));
    let begin = Instant::now();
    let news = picture.workload("any", &name, facts);
    (read, begin.elapsed().as_secs_f64() * 1e6, news)
}

fn print(what: &str, mut took: Vec<f64>) {
    took.sort_by(f64::total_cmp);
    let at = |part: f64| took.get(((took.len() as f64 - 1.0) * part).round() as usize).copied().unwrap_or_default();
    println!("{what}: p50 {:.2} µs, p99 {:.2} µs, most {:.1} µs ({} times)", at(0.5), at(0.99), at(1.0), took.len());
}

/// What `clientgrant scan -f` does with 1,000 files of one Deployment and, every fourth, one ClientIdentity.
fn files() {
    let text = |n: usize| {
        let deployment = deployment(n, 0).to_string();
        let identity = json!({
            "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientIdentity",
            "metadata": {"name": format!("client-{n}"), "namespace": namespace(n)},
            "spec": {
                "providerRef": {"kind": "ClusterIdentityProvider", "name": "corp"}, "clientID": format!("client-{n}"),
                "credentials": [{"secret": {"name": format!("oidc-{}", n / NAMESPACES), "key": "secret"}}],
            },
        });
        if n.is_multiple_of(4) { format!("{deployment}\n---\n{identity}\n") } else { deployment }
    };
    let all: Vec<(String, String)> = (0..1_000).map(|n| (format!("{n}.yaml"), text(n))).collect();
    let begin = Instant::now();
    let mut reader = Reader::default();
    for (name, text) in &all {
        reader.add(name, text.as_bytes());
    }
    let findings = evaluate(reader.finish(now()), now()).findings.len();
    let took = begin.elapsed().as_secs_f64() * 1e3;
    println!("a scan of {} files (goal: 1,000 ms): {took:.0} ms, {findings} findings", all.len());
}

fn main() {
    let mut picture = Picture::default();
    picture.part(&Part { resource: "pods".into(), namespace: String::new() }, Read::Complete);
    let identities: Vec<Arc<Identity>> = (0..CLIENTS).map(|n| Arc::new(identity(n))).collect();
    let grants: Vec<_> = (0..GRANTS).map(grant).collect();
    let before = resident();

    let begin = Instant::now();
    for n in 0..TEMPLATES {
        told(&mut picture, &deployment(n, 0));
        for replica in 0..REPLICAS {
            told(&mut picture, &self::replica(n, 0, replica));
        }
        picture.account(&namespace(n), &format!("app-{}", n / NAMESPACES), Some(None));
    }
    println!("{} objects read and told: {:.0} ms", TEMPLATES * (REPLICAS + 1), begin.elapsed().as_secs_f64() * 1e3);
    let begin = Instant::now();
    picture.declared(identities.clone(), grants.iter().cloned(), now());
    println!(
        "{CLIENTS} clients and {GRANTS} grants declared: {:.1} ms; again, with nothing new: {:.2} ms",
        begin.elapsed().as_secs_f64() * 1e3,
        {
            let begin = Instant::now();
            picture.declared(identities.clone(), grants.iter().cloned(), now());
            begin.elapsed().as_secs_f64() * 1e3
        }
    );
    let evaluation = picture.evaluate(now());
    let findings = evaluation.findings.len();
    println!("memory of the detector: {:.1} MiB resident (goal: 64), {findings} findings", resident() - before);

    let step = |n: usize| (n * 7_919) % TEMPLATES;
    let mut reads = Vec::new();
    let (mut same, mut pods, mut rollouts) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..10_000 {
        let (read, took, news) = told(&mut picture, &replica(step(n), 0, n % REPLICAS));
        assert!(!news);
        reads.push(read);
        same.push(took);
    }
    for n in 0..10_000 {
        pods.push(told(&mut picture, &replica(step(n), 0, REPLICAS + n)).1);
    }
    for n in 0..10_000 {
        let (_, took, news) = told(&mut picture, &deployment(step(n), 1 + n / TEMPLATES));
        assert!(news);
        rollouts.push(took);
    }
    print("reading a pod's JSON (not in the index)", reads);
    print("a pod of which nothing changed", same);
    print("one more pod of a template", pods);
    print("another template of a Deployment", rollouts);

    let mut recompute = Vec::new();
    for _ in 0..101 {
        let begin = Instant::now();
        std::hint::black_box(picture.evaluate(now()));
        recompute.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    print("every rule over everything (goal: 10,000)", recompute);
    let mut rules: Vec<(f64, &str)> = Vec::new();
    for rule in clientgrant::sharing::catalogue::ALL.iter().filter(|rule| rule.standard) {
        let begin = Instant::now();
        std::hint::black_box((rule.check)(picture.index()));
        rules.push((begin.elapsed().as_secs_f64() * 1e3, rule.id));
    }
    rules.sort_by(|a, b| b.0.total_cmp(&a.0));
    let slowest = rules.iter().take(5).map(|(took, rule)| format!("{rule} {took:.2} ms"));
    println!("  the slowest rules: {}", slowest.collect::<Vec<_>>().join(", "));
    files();
    let begin = Instant::now();
    let differences = picture.check();
    println!(
        "index made anew from the facts and compared: {:.1} ms, {} differences",
        begin.elapsed().as_secs_f64() * 1e3,
        differences.len()
    );
    assert!(differences.is_empty(), "{differences:?}");
}
