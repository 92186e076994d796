//! What `ClientIdentity` and `ClientGrant` say about clients.

use k8s_openapi::jiff::Timestamp;

use super::finding::{Object, Place};
use crate::api::{ClientGrant, ClientIdentity, SharingException, WorkloadRef};
use crate::grant::{self, ClientKey, Subject, Terms, parse};

/// What a client authenticates with, as its owner says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Credential {
    /// A key of a Secret in the namespace of the `ClientIdentity`.
    Secret {
        /// The Secret.
        name: String,
        /// Its key.
        key: String,
    },
    /// A federated subject.
    Federated(String),
}

/// One `ClientIdentity`, as far as it counts here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The object.
    pub object: Object,
    /// Where it was read.
    pub place: Place,
    /// Which client it speaks about.
    pub client: ClientKey,
    /// The environment of the client.
    pub environment: Option<String>,
    /// The product the client belongs to.
    pub family: Option<String>,
    /// The ServiceAccount of the client.
    pub service_account: Option<String>,
    /// The workloads of the client.
    pub workloads: Vec<WorkloadRef>,
    /// What the client authenticates with.
    pub credentials: Vec<Credential>,
    /// What was accepted.
    pub exceptions: Vec<SharingException>,
}

/// One `ClientGrant`, as far as it counts here. Ordered so that the same grant read twice stands together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// The object.
    pub object: Object,
    /// The client.
    pub client: ClientKey,
    /// For whom the client acts.
    pub subject: Subject,
    /// The exact scopes.
    pub scopes: Vec<String>,
    /// The team that answers for it.
    pub team: String,
    /// Whether it is in force now, by what it says of itself.
    pub active: bool,
    /// Where it was read.
    pub place: Place,
}

/// Reads a `ClientIdentity`.
#[must_use]
pub fn identity(object: &ClientIdentity, place: Place) -> Identity {
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let spec = &object.spec;
    let provider = parse::provider_key(&spec.provider_ref, &namespace);
    let credentials = spec.credentials.iter().flat_map(|credential| {
        let secret = credential.secret.as_ref();
        let secret = secret.map(|s| Credential::Secret { name: s.name.clone(), key: s.key.clone() });
        let federated = credential.federated.as_ref().map(|f| Credential::Federated(f.subject.clone()));
        secret.into_iter().chain(federated)
    });
    Identity {
        object: Object::new("ClientIdentity", namespace, object.metadata.name.clone().unwrap_or_default()),
        place,
        client: ClientKey { provider, client: spec.client_id.as_str().into() },
        environment: spec.environment.clone(),
        family: spec.family.clone(),
        service_account: spec.service_account_name.clone(),
        workloads: spec.workloads.clone(),
        credentials: credentials.collect(),
        exceptions: spec.sharing.iter().flat_map(|s| s.exceptions.iter().cloned()).collect(),
    }
}

/// Whether a grant is in force by what it says of itself. One whose terms cannot be read is not.
fn in_force(terms: &Result<Terms, String>, deleting: bool, now: Timestamp) -> bool {
    let within = |t: &Terms| !t.suspend && t.not_before.is_none_or(|at| at <= now) && now < t.expires_at;
    !deleting && terms.as_ref().is_ok_and(within)
}

impl Grant {
    fn new(object: Object, client: ClientKey, subject: Subject, terms: &Result<Terms, String>, active: bool) -> Self {
        let scopes = terms.as_ref().map(|t| t.authority.scopes.to_vec()).unwrap_or_default();
        Self { object, client, subject, scopes, active, team: String::new(), place: Place::default() }
    }

    /// A grant as the operator knows it. Its team is left out: only SC-206 asks, which looks where it is asked for.
    #[must_use]
    pub fn of(client: ClientKey, grant: &grant::Grant, now: Timestamp) -> Self {
        let object = Object::new("ClientGrant", &*grant.name.namespace, &*grant.name.name);
        Self::new(object, client, grant.subject.clone(), &grant.terms, Self::is_active(grant, now))
    }

    /// Whether a grant as the operator knows it is in force by what it says of itself.
    #[must_use]
    pub fn is_active(grant: &grant::Grant, now: Timestamp) -> bool {
        in_force(&grant.terms, grant.deleting, now)
    }
}

/// Reads a `ClientGrant`.
#[must_use]
pub fn grant(object: &ClientGrant, place: Place, now: Timestamp) -> Grant {
    let (meta, spec) = (&object.metadata, &object.spec);
    let (subject, terms) = (parse::subject(spec.subject.as_ref()), parse::terms(spec));
    let active = in_force(&terms, meta.deletion_timestamp.is_some(), now);
    let name = parse::name(meta);
    let object_name = Object::new("ClientGrant", name.namespace, name.name);
    let of = Grant::new(object_name, parse::client_key(object), subject, &terms, active);
    Grant { team: spec.owner.team.clone(), place, ..of }
}
