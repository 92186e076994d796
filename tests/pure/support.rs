//! Small worlds to decide about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use clientgrant::api::{self, ClientGrant, ClientGrantSpec, ClientGrantStatus};
use clientgrant::grant::collect::Collect;
use clientgrant::grant::consent::{Consent, Context};
use clientgrant::grant::observed::{Found, Observation, ObservedClient};
use clientgrant::grant::rules::{Pattern, Rule};
use clientgrant::grant::{
    Adoption, Authority, Basis, Capabilities, Carried, ClientKey, ClientView, Grant, GrantName, GrantType, HookProof,
    Managed, Mode, ProviderKey, ProviderState, ProviderView, Revocation, RevocationCause, Subject, Terms, Timestamp,
    UnmanagedClients,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::CustomResourceExt as _;
use proptest::prelude::*;

pub const CLIENT: &str = "app";
pub const CLUSTER: &str = "cluster-1";
pub const ISSUER: &str = "https://login.example.com/";

/// Cheap generated cases.
pub fn cheap() -> ProptestConfig {
    config(10_000)
}

/// Generated cases that are whole stories: fewer, unless somebody asks for a number.
pub fn dear(default: u32) -> ProptestConfig {
    config(default)
}

fn config(default: u32) -> ProptestConfig {
    let asked = std::env::var("CLIENTGRANT_FUZZ_CASES").ok();
    let cases = asked.map_or(default, |n| n.parse().expect("CLIENTGRANT_FUZZ_CASES is a number"));
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

/// An instant, in milliseconds from the beginning of the story.
pub fn ms(millis: i64) -> Timestamp {
    let start: Timestamp = "2027-01-01T00:00:00Z".parse().expect("an instant");
    let millis = start.as_millisecond() + millis;
    Timestamp::from_millisecond(millis).expect("an instant")
}

/// An instant, in seconds from the beginning of the story.
pub fn at(seconds: i64) -> Timestamp {
    ms(seconds * 1000)
}

/// The end of a grant that does not end during the story.
pub fn far() -> Timestamp {
    at(30 * 86_400)
}

/// The API server takes this status: by the schema, and as an apply over any other one. Of an empty object in the
/// place of a filled one it makes null, and refuses it, so that there is only the one that says something.
pub fn storable(status: &ClientGrantStatus) {
    static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
        let crd = serde_json::to_value(ClientGrant::crd()).expect("a definition is JSON");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        jsonschema::options().should_validate_formats(true).build(schema).expect("a schema")
    });
    let text = serde_json::to_string(status).expect("a status is JSON");
    assert!(!text.replace(r#""observed":{}"#, "").contains("{}"), "an empty object: {text}");
    let value = serde_json::from_str(&text).expect("JSON");
    let refused: Vec<String> = SCHEMA.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(refused.is_empty(), "{refused:?}: {text}");
}

pub fn user(id: &str) -> Subject {
    Subject::User(id.to_owned())
}

pub fn authority(scopes: &str, audiences: &str, flows: &[GrantType]) -> Authority {
    Authority {
        scopes: scopes.split_whitespace().collect(),
        audiences: audiences.split_whitespace().collect(),
        grant_types: flows.iter().copied().collect(),
    }
}

pub const CODE: &[GrantType] = &[GrantType::AuthorizationCode, GrantType::RefreshToken];
pub const OWN: &[GrantType] = &[GrantType::ClientCredentials];

pub fn terms(scopes: &str, audiences: &str) -> Terms {
    Terms {
        basis: Basis::SubjectConsent,
        authority: authority(scopes, audiences, CODE),
        first_scope: scopes.split_whitespace().next().unwrap_or_default().to_owned(),
        purpose: "report".into(),
        not_before: None,
        expires_at: far(),
        suspend: false,
    }
}

/// A grant with scopes `openid read`, held, created at the beginning.
pub fn grant(uid: &str, subject: Subject) -> Grant {
    let mut terms = terms("openid read", "");
    if subject == Subject::Own {
        terms.basis = Basis::ClientOwn;
        terms.authority = authority("read", "", OWN);
        terms.first_scope = "read".into();
    }
    Grant {
        name: GrantName { namespace: "finance".into(), name: format!("grant-{uid}") },
        uid: Arc::from(uid),
        created: at(-1000),
        generation: 1,
        deleting: false,
        deleted_at: None,
        held: true,
        subject,
        terms: Ok(terms),
        carried: Carried::default(),
        observed_generation: Some(1),
        narrowed: false,
        gave: true,
        told: true,
        reopened: false,
    }
}

/// Changes a value in place and gives it back.
pub fn with<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

/// Changes the terms of a grant.
pub fn terms_with(grant: Grant, change: impl FnOnce(&mut Terms)) -> Grant {
    with(grant, |g| change(g.terms.as_mut().expect("readable terms")))
}

pub fn capabilities() -> Capabilities {
    Capabilities {
        lists_consents: true,
        slash_in_client_id: true,
        points: &["ClientCeiling"],
        not_enforced: &[],
        max_residual_seconds: Some(300),
    }
}

pub fn provider_key() -> ProviderKey {
    ProviderKey::cluster("corp")
}

pub fn client_key() -> ClientKey {
    key_of(CLIENT)
}

pub fn key_of(client: &str) -> ClientKey {
    ClientKey { provider: provider_key(), client: Arc::from(client) }
}

/// A usable provider that allows everything.
pub fn provider() -> ProviderView {
    ProviderView {
        key: provider_key(),
        issuer: Arc::from(ISSUER),
        generation: 1,
        state: ProviderState::Usable,
        mode: Mode::Enforce,
        take_over: None,
        hook: HookProof::NotDeclared,
        rules: vec![Rule::default()],
        adoption: Adoption::Explicit,
        unmanaged: UnmanagedClients::Allow,
        capabilities: capabilities(),
        drift_check: Duration::from_secs(60),
        consent_sweep: Duration::from_secs(86_400),
    }
}

/// A managed client with these grants.
pub fn view(grants: impl IntoIterator<Item = Grant>) -> ClientView {
    let mut groups: BTreeMap<Subject, Vec<Arc<Grant>>> = BTreeMap::new();
    for grant in grants {
        groups.entry(grant.subject.clone()).or_default().push(Arc::new(grant));
    }
    for group in groups.values_mut() {
        group.sort_by(|a, b| (a.created, &a.uid).cmp(&(b.created, &b.uid)));
    }
    ClientView {
        key: client_key(),
        provider: Some(Arc::new(provider())),
        issuer: Some(Arc::from(ISSUER)),
        grants: groups,
        namespaces: BTreeMap::new(),
        terminating: BTreeSet::new(),
        quarantined: false,
        adopt: false,
        suspended: false,
        born: BTreeSet::new(),
        managed: Some(Managed { complete: true }),
        collisions: BTreeSet::new(),
        collect: Collect::default(),
        released: None,
    }
}

pub fn provider_with(view: ClientView, change: impl FnOnce(&mut ProviderView)) -> ClientView {
    with(view, |v| {
        let provider = v.provider.as_ref().expect("a provider");
        v.provider = Some(Arc::new(with((**provider).clone(), change)));
    })
}

/// A registration of ours that is exactly this.
pub fn registered(authority: Authority) -> ObservedClient {
    ObservedClient { authority, extra: BTreeSet::new(), settings: Vec::new(), mark: Some(CLUSTER.into()), born: None }
}

pub fn seen(client: Option<ObservedClient>) -> Observation {
    Observation { client: client.map_or(Found::Absent, Found::Present), consents: BTreeMap::new() }
}

/// The same, with one subject's complete list.
pub fn listing(mut seen: Observation, subject: &str, listed: Vec<Consent>) -> Observation {
    seen.consents.insert(subject.to_owned(), listed);
    seen
}

/// A good consent under a grant.
pub fn consent(grant: &Grant) -> Consent {
    let terms = grant.terms.as_ref().expect("readable terms");
    Consent {
        challenge: format!("challenge-of-{}", grant.uid),
        scopes: terms.authority.scopes.clone(),
        audiences: terms.authority.audiences.clone(),
        remembered: false,
        context: Some(Context {
            grant: grant.uid.to_string(),
            purpose: terms.purpose.clone(),
            expires_at: terms.expires_at,
            genuine: true,
        }),
        handled_at: Some(at(-10)),
    }
}

/// A revocation of ours that is asked for, not confirmed.
pub fn open(cause: RevocationCause, requested_at: Timestamp) -> Option<Revocation> {
    Some(Revocation { cause, requested_at, confirmed_at: None })
}

pub fn confirmed(cause: RevocationCause, at: Timestamp) -> Option<Revocation> {
    Some(Revocation { cause, requested_at: at, confirmed_at: Some(at) })
}

/// A custom resource as the API server stores it: scopes `openid read`, in force for long.
pub fn object(name: &str, uid: &str, subject: &Subject) -> ClientGrant {
    let own = *subject == Subject::Own;
    ClientGrant {
        metadata: ObjectMeta {
            namespace: Some("finance".into()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            creation_timestamp: Some(Time(at(-1000))),
            generation: Some(1),
            resource_version: Some("1".into()),
            ..ObjectMeta::default()
        },
        spec: ClientGrantSpec {
            provider_ref: api::ProviderRef { kind: api::ProviderKind::ClusterIdentityProvider, name: "corp".into() },
            client_id: CLIENT.into(),
            subject: match subject {
                Subject::User(id) => Some(api::Subject { kind: api::SubjectKind::User, id: Some(id.clone()) }),
                Subject::Any => Some(api::Subject { kind: api::SubjectKind::Any, id: None }),
                Subject::Own => None,
            },
            basis: if own { Basis::ClientOwn } else { Basis::SubjectConsent },
            scopes: if own { vec!["read".into()] } else { vec!["openid".into(), "read".into()] },
            audiences: Vec::new(),
            grant_types: Vec::new(),
            purpose: api::Purpose { id: "report".into(), description: "The monthly report".into() },
            owner: api::Owner { team: "finance".into(), contact: "finance@example.com".into() },
            not_before: None,
            expires_at: api::instant::format(far()),
            suspend: false,
        },
        status: None,
    }
}

pub fn pattern(text: &str) -> Pattern {
    Pattern::parse(text)
}

pub fn patterns(texts: &str) -> Option<Vec<Pattern>> {
    Some(texts.split_whitespace().map(Pattern::parse).collect())
}
