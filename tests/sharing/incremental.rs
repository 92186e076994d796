//! The index that is kept while a cluster changes is the one that is made anew, after whatever was told, in
//! whatever order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clientgrant::grant::{ClientKey, ProviderKey, Subject};
use clientgrant::sharing::configmap::{ConfigMap, ConfigMaps};
use clientgrant::sharing::declared::{Credential, Grant, Identity};
use clientgrant::sharing::evaluate::judge_all;
use clientgrant::sharing::facts::{Facts, extract};
use clientgrant::sharing::finding::{Evaluation, Object, Place};
use clientgrant::sharing::live::Live;
use clientgrant::sharing::registration::Registration;
use clientgrant::sharing::{Input, evaluate};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::support::{cases, now};

const KINDS: [(&str, &str); 9] = [
    ("v1", "Pod"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("argoproj.io/v1alpha1", "Rollout"),
    ("serving.knative.dev/v1", "Service"),
    ("configuration.konghq.com/v1", "KongPlugin"),
    ("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy"),
];
/// What may be said to be the owner of an object of a kind; the last is not believed, or nothing is known of it.
fn owners(kind: &str) -> &'static [&'static str] {
    match kind {
        "Pod" => &["ReplicaSet", "Job", "ReplicaSet", "Elsewhere", "Deployment"],
        "ReplicaSet" => &["Deployment", "Rollout", "Deployment", "Elsewhere", "Job"],
        "Job" => &["CronJob", "CronJob", "Elsewhere", "Deployment"],
        _ => &["Elsewhere", "Deployment"],
    }
}

/// One thing that a cluster or the provider tells. Few names, so that they meet.
#[derive(Clone, Debug)]
enum Event {
    /// A workload: kind, namespace, name; what it says, `None`: it is gone.
    Workload { at: (u8, u8, u8), says: Option<Says> },
    /// A ServiceAccount: namespace, name; what it says about its token.
    Account { at: (u8, u8), says: Option<Option<bool>> },
    /// A ConfigMap: namespace, name; which of some it is.
    ConfigMap { at: (u8, u8), says: Option<u8> },
    /// Whether every ConfigMap was read.
    Whole(bool),
    /// A ClientIdentity: namespace, name; client and what else it says.
    Identity { at: (u8, u8), says: Option<Speaks> },
    /// A grant: namespace, name; client, subject, active.
    Grant { at: (u8, u8), says: Option<(u8, u8, bool)> },
    /// The registrations of clients, each with the namespace and name of an account that authenticates it.
    Registered(Vec<(u8, u8, u8)>),
    /// Nothing, but everything that is there is told once more, in this order.
    Relist(u64),
}

#[derive(Clone, Debug)]
struct Says {
    owner: Option<(u8, u8)>,
    account: u8,
    secrets: Vec<u8>,
    automount: Option<bool>,
    /// Of a Rollout: whose template it has.
    borrows: Option<(u8, u8)>,
    injected: bool,
    /// A ConfigMap: whole, or its one key as a variable that is named as a credential.
    configmap: Option<(u8, bool)>,
}

#[derive(Clone, Debug)]
struct Speaks {
    client: u8,
    account: Option<u8>,
    workload: Option<(u8, u8)>,
    secrets: Vec<u8>,
    federated: Option<u8>,
    family: Option<u8>,
}

fn event() -> impl Strategy<Value = Event> {
    let says = (
        prop::option::of((0u8..7, 0u8..3)),
        0u8..3,
        prop::collection::vec(0u8..3, 0..3),
        prop::option::of(any::<bool>()),
        prop::option::weighted(0.3, (0u8..7, 0u8..3)),
        any::<bool>(),
        prop::option::of((0u8..2, any::<bool>())),
    );
    let says = says.prop_map(|(owner, account, secrets, automount, borrows, injected, configmap)| Says {
        owner,
        account,
        secrets,
        automount,
        borrows,
        injected,
        configmap,
    });
    let speaks = (
        0u8..4,
        prop::option::of(0u8..3),
        prop::option::weighted(0.4, (0u8..9, 0u8..3)),
        prop::collection::vec(0u8..3, 0..3),
        prop::option::weighted(0.3, 0u8..3),
        prop::option::weighted(0.2, 0u8..2),
    );
    let speaks = speaks.prop_map(|(client, account, workload, secrets, federated, family)| Speaks {
        client,
        account,
        workload,
        secrets,
        federated,
        family,
    });
    prop_oneof![
        12 => ((0u8..9, 0u8..2, 0u8..3), prop::option::weighted(0.7, says)).prop_map(|(at, says)| Event::Workload { at, says }),
        2 => ((0u8..2, 0u8..3), prop::option::weighted(0.7, prop::option::of(any::<bool>())))
            .prop_map(|(at, says)| Event::Account { at, says }),
        4 => ((0u8..2, 0u8..2), prop::option::weighted(0.8, 0u8..5)).prop_map(|(at, says)| Event::ConfigMap { at, says }),
        1 => any::<bool>().prop_map(Event::Whole),
        4 => ((0u8..2, 0u8..4), prop::option::weighted(0.7, speaks)).prop_map(|(at, says)| Event::Identity { at, says }),
        4 => ((0u8..2, 0u8..4), prop::option::weighted(0.7, (0u8..4, 0u8..3, any::<bool>())))
            .prop_map(|(at, says)| Event::Grant { at, says }),
        1 => prop::collection::vec((0u8..4, 0u8..2, 0u8..3), 0..3).prop_map(Event::Registered),
        1 => any::<u64>().prop_map(Event::Relist),
    ]
}

fn namespace(n: u8) -> String {
    format!("n{n}")
}

fn client(n: u8) -> ClientKey {
    ClientKey { provider: ProviderKey::cluster("corp"), client: format!("c{n}").into() }
}

fn client_ids() -> BTreeSet<String> {
    (0..4).map(|n| client(n).client.to_string()).collect()
}

fn configmap((ns, name): (u8, u8), says: u8) -> Value {
    let data = match says {
        0 => json!({"x": "c0"}),
        1 => json!({"x": "abc"}),
        2 => json!({"x": "", "client-secret": "abc"}),
        3 => json!({"file": "client_id=c1\nclient_secret=abc"}),
        _ => json!({"x": "", "client-secret": "${X}"}),
    };
    json!({"metadata": {"name": format!("m{name}"), "namespace": namespace(ns)}, "data": data})
}

/// A manifest, and what the API server's JSON of it says.
fn facts((kind, ns, name): (u8, u8, u8), says: &Says) -> Option<Facts> {
    let (version, kind) = KINDS[usize::from(kind)];
    let mut volumes: Vec<Value> = Vec::new();
    if says.injected {
        // Its name is another for every pod.
        let volume = format!("kube-api-access-{name}{ns}xyz");
        volumes.push(json!({"name": volume, "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}));
    }
    let secrets = says.secrets.iter().map(|s| json!({"secretRef": {"name": format!("s{s}")}}));
    let (mut env, mut all): (Vec<Value>, Vec<Value>) = (Vec::new(), secrets.collect());
    match says.configmap {
        None => {}
        Some((map, true)) => all.push(json!({"configMapRef": {"name": format!("m{map}")}})),
        Some((map, false)) => {
            let from = json!({"configMapKeyRef": {"name": format!("m{map}"), "key": "x"}});
            env.push(json!({"name": "CLIENT_SECRET", "valueFrom": from}));
        }
    }
    let pod = json!({
        "serviceAccountName": format!("a{}", says.account),
        "automountServiceAccountToken": says.automount,
        "volumes": volumes,
        "containers": [{"name": "m", "env": env, "envFrom": all}],
    });
    let mut metadata = json!({"name": format!("w{name}"), "namespace": namespace(ns)});
    if let Some((owner, name)) = says.owner {
        let owners = owners(kind);
        let owner = owners[usize::from(owner) % owners.len()];
        metadata["ownerReferences"] = json!([{"controller": true, "kind": owner, "name": format!("w{name}")}]);
    }
    let spec = match (kind, says.borrows) {
        ("Pod", _) => pod,
        ("CronJob", _) => json!({"jobTemplate": {"spec": {"template": {"spec": pod}}}}),
        ("Rollout", Some((of, name))) => {
            json!({"workloadRef": {"kind": KINDS[usize::from(of)].1, "name": format!("w{name}")}})
        }
        // Of one namespace or the other.
        ("SecurityPolicy", of) => {
            let secret = |n: &u8| json!({"name": format!("s{n}"), "namespace": of.map(|(_, ns)| namespace(ns % 2))});
            json!({"oidc": {"clientSecret": says.secrets.first().map(secret)}})
        }
        _ => json!({"template": {"spec": pod}}),
    };
    let patch = |n: &u8| json!({"valueFrom": {"secretKeyRef": {"name": format!("s{n}"), "key": "client-secret"}}});
    let object = json!({
        "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec,
        "configPatches": says.secrets.iter().map(patch).collect::<Vec<_>>(),
    });
    extract(&object, Place::default(), &client_ids())
}

fn identity((ns, name): (u8, u8), says: &Speaks) -> Identity {
    let ns = namespace(ns);
    let secret = |s: &u8| Credential::Secret { name: format!("s{s}"), key: "client-secret".into() };
    let federated = says.federated.map(|a| Credential::Federated(format!("system:serviceaccount:{ns}:a{a}")));
    let listed = says.workload.map(|(kind, name)| {
        let (version, kind) = KINDS[usize::from(kind)];
        serde_json::from_value(json!({"apiVersion": version, "kind": kind, "name": format!("w{name}")})).unwrap()
    });
    Identity {
        object: Object::new("ClientIdentity", &*ns, format!("i{name}")),
        place: Place::default(),
        client: client(says.client),
        environment: None,
        family: says.family.map(|f| format!("f{f}")),
        service_account: says.account.map(|a| format!("a{a}")),
        workloads: listed.into_iter().collect(),
        credentials: says.secrets.iter().map(secret).chain(federated).collect(),
        exceptions: Vec::new(),
    }
}

/// What is so, told by nobody.
#[derive(Clone, Debug, Default)]
struct Truth {
    workloads: BTreeMap<(u8, u8, u8), Facts>,
    accounts: BTreeMap<(String, String), Option<bool>>,
    configmaps: BTreeMap<(u8, u8), Value>,
    configmaps_whole: bool,
    identities: BTreeMap<(u8, u8), Arc<Identity>>,
    grants: BTreeMap<(u8, u8), Arc<Grant>>,
    registrations: Vec<Registration>,
}

impl Truth {
    fn input(&self) -> Input {
        let mut configmaps = ConfigMaps::default();
        // What says nothing is not kept, so that it is as one that was not read.
        let says = self.configmaps.values().filter(|value| !ConfigMap::read(value, &client_ids()).is_blank());
        says.for_each(|value| configmaps.add(value, &client_ids()));
        configmaps.whole(self.configmaps_whole);
        Input {
            configmaps,
            facts: self.workloads.values().cloned().collect(),
            accounts: self.accounts.clone(),
            identities: self.identities.values().cloned().collect(),
            grants: self.grants.values().cloned().collect(),
            registrations: self.registrations.clone(),
            whole: true,
            ..Input::default()
        }
    }

    /// Takes one event in, and tells of it, unless it goes unnoticed.
    fn take(&mut self, event: &Event, live: &mut Live, noticed: bool) {
        match event {
            Event::Workload { at, says } => {
                let said = says.as_ref().and_then(|says| facts(*at, says));
                match said.clone() {
                    Some(said) => _ = self.workloads.insert(*at, said),
                    None => _ = self.workloads.remove(at),
                }
                if noticed {
                    let object = object(*at);
                    live.workload(&object, said.clone());
                    assert!(!live.workload(&object, said), "the same again is no news");
                }
            }
            Event::Account { at: (ns, name), says } => {
                let key = (namespace(*ns), format!("a{name}"));
                match says {
                    Some(says) => _ = self.accounts.insert(key.clone(), *says),
                    None => _ = self.accounts.remove(&key),
                }
                if noticed {
                    live.account(&key.0, &key.1, *says);
                }
            }
            Event::ConfigMap { at, says } => {
                match says {
                    Some(says) => _ = self.configmaps.insert(*at, configmap(*at, *says)),
                    None => _ = self.configmaps.remove(at),
                }
                if noticed {
                    self.tell(*at, live);
                    assert!(!self.tell(*at, live), "the same again is no news");
                }
            }
            Event::Whole(whole) => {
                self.configmaps_whole = *whole;
                live.configmaps_whole(*whole);
            }
            Event::Identity { at, says } => {
                match says {
                    Some(says) => _ = self.identities.insert(*at, Arc::new(identity(*at, says))),
                    None => _ = self.identities.remove(at),
                }
                if noticed {
                    live.identities(self.identities.values().cloned().collect());
                }
            }
            Event::Grant { at, says } => {
                let new = says.map(|(of, subject, active)| {
                    let subject = if subject == 0 { Subject::Own } else { Subject::User(format!("u{subject}")) };
                    let object = Object::new("ClientGrant", namespace(at.0), format!("g{}", at.1));
                    let scopes = vec!["read".to_owned(), format!("x{of}")];
                    let (team, place) = (String::new(), Place::default());
                    Arc::new(Grant { object, client: client(of), subject, scopes, team, active, place })
                });
                // Grants come from the operator's own store, where none is missed.
                let old = self.grants.remove(at);
                live.grant(old.as_ref(), new.as_ref());
                self.grants.extend(new.map(|new| (*at, new)));
            }
            Event::Registered(all) => {
                let mut by = BTreeMap::<u8, Registration>::new();
                for (of, ns, account) in all {
                    let registration = by.entry(*of).or_insert_with(|| Registration::new(client(*of)));
                    registration.subjects.insert(format!("system:serviceaccount:{}:a{account}", namespace(*ns)));
                }
                self.registrations = by.into_values().collect();
                live.registrations(self.registrations.clone());
            }
            Event::Relist(order) => self.relist(*order, live),
        }
    }

    /// Tells what a ConfigMap says.
    fn tell(&self, at: (u8, u8), live: &mut Live) -> bool {
        let says = self.configmaps.get(&at).map(|value| ConfigMap::read(value, &client_ids()));
        live.configmap(&namespace(at.0), &format!("m{}", at.1), says)
    }

    /// Tells all that is there, in an order that `seed` gives, and of what is gone.
    fn relist(&self, seed: u64, live: &mut Live) {
        let mut all: Vec<(u8, u8, u8)> =
            (0..9).flat_map(|k| (0..2).flat_map(move |ns| (0..3).map(move |name| (k, ns, name)))).collect();
        let mixed = |at: &(u8, u8, u8)| {
            let n = u64::from(at.0) * 31 + u64::from(at.1) * 7 + u64::from(at.2) + 1;
            n.wrapping_mul(seed | 1).rotate_left(17) ^ seed
        };
        all.sort_by_key(mixed);
        for at in all {
            live.workload(&object(at), self.workloads.get(&at).cloned());
        }
        for ns in 0..2 {
            for name in 0..3 {
                let key = (namespace(ns), format!("a{name}"));
                live.account(&key.0, &key.1, self.accounts.get(&key).copied());
            }
        }
        for ns in 0..2 {
            (0..2).for_each(|name| _ = self.tell((ns, name), live));
        }
        live.identities(self.identities.values().cloned().collect());
    }
}

fn object((kind, ns, name): (u8, u8, u8)) -> Object {
    Object::new(KINDS[usize::from(kind)].1, namespace(ns), format!("w{name}"))
}

fn judged(live: &mut Live) -> Evaluation {
    let objects = live.objects();
    let index = live.index_mut();
    (index.now, index.whole) = (now(), true);
    judge_all(index, &BTreeSet::new(), objects)
}

/// What is found, without how many objects there were.
fn batch(truth: &Truth) -> Evaluation {
    let objects = truth.workloads.len() + truth.accounts.len() + truth.identities.len() + truth.grants.len();
    evaluate(Input { objects, ..truth.input() }, now())
}

proptest! {
    #![proptest_config(cases(400))]

    /// On average 60 events of each case, so that 400 cases are 24,000.
    #[test]
    fn fuzz_what_is_kept_is_what_is_made_anew(events in prop::collection::vec(event(), 40..81)) {
        let (mut live, mut truth) = (Live::default(), Truth::default());
        for (n, event) in events.iter().enumerate() {
            truth.take(event, &mut live, true);
            if n % 4 > 0 && n + 1 < events.len() {
                continue;
            }
            prop_assert_eq!(live.differences(), Vec::<&str>::new(), "after {:?}", event);
            prop_assert_eq!(judged(&mut live), batch(&truth), "after {:?}", event);
        }
        let before = judged(&mut live);
        live.heal();
        prop_assert_eq!(live.differences(), Vec::<&str>::new());
        prop_assert_eq!(judged(&mut live), before);
    }

    /// A watch that broke missed some of it: a new list makes up for all.
    #[test]
    fn fuzz_what_was_missed_comes_with_the_next_list(
        events in prop::collection::vec((event(), any::<bool>()), 40..81), seed in any::<u64>()
    ) {
        let (mut live, mut truth) = (Live::default(), Truth::default());
        for (event, noticed) in &events {
            truth.take(event, &mut live, *noticed);
        }
        truth.relist(seed, &mut live);
        prop_assert_eq!(judged(&mut live), batch(&truth));
        prop_assert_eq!(live.differences(), Vec::<&str>::new());
        // Nor does the order matter in which a process that begins anew is told.
        let mut other = Live::default();
        other.configmaps_whole(truth.configmaps_whole);
        other.registrations(truth.registrations.clone());
        truth.grants.values().for_each(|grant| other.grant(None, Some(grant)));
        truth.relist(seed.rotate_left(7), &mut other);
        prop_assert_eq!(judged(&mut other), batch(&truth));
    }
}

/// The comparison itself can fail: what was told behind its back is found, and healed.
#[test]
fn a_difference_is_found_and_healed() {
    let mut live = Live::default();
    let says = Speaks { client: 0, account: Some(0), workload: None, secrets: vec![0], federated: None, family: None };
    live.identities(vec![Arc::new(identity((0, 0), &says))]);
    assert!(live.differences().is_empty());
    live.index_mut().clients.clear();
    assert_eq!(live.differences(), ["clients"]);
    live.heal();
    assert!(live.differences().is_empty() && live.index().clients.len() == 1);
}

/// Pods of one template are one workload, of which only the first and the last make a difference.
#[test]
fn pods_of_one_template_are_a_number() {
    let mut live = Live::default();
    let says = Says {
        owner: Some((0, 0)),
        account: 1,
        secrets: vec![1],
        automount: None,
        borrows: None,
        injected: true,
        configmap: Some((0, true)),
    };
    for name in 0..3 {
        let news = live.workload(&object((0, 0, name)), facts((0, 0, name), &says));
        assert_eq!(news, name == 0, "pod {name}");
    }
    assert_eq!(live.index().workloads().map(|w| w.object.to_string()).collect::<Vec<_>>(), ["ReplicaSet/n0/w0"]);
    for name in 0..3 {
        assert_eq!(live.workload(&object((0, 0, name)), None), name == 2, "pod {name}");
    }
    assert_eq!(live.index().workloads().count(), 0);
}
