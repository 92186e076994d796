//! What `ClientIdentity` and `ClientGrant` say about clients.

use k8s_openapi::jiff::Timestamp;

use super::finding::{Object, Place};
use crate::api::{ClientGrant, ClientIdentity, SharingException, WorkloadRef, instant};
use crate::grant::{ClientKey, Subject, parse};

/// What a client authenticates with, as its owner says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
#[derive(Clone, Debug)]
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

/// Reads a `ClientGrant`. What cannot be read in its terms makes it inactive.
#[must_use]
pub fn grant(object: &ClientGrant, place: Place, now: Timestamp) -> Grant {
    let spec = &object.spec;
    let begun = match spec.not_before.as_deref() {
        None => true,
        Some(text) => instant::parse(text).is_some_and(|begin| begin <= now),
    };
    let ends = instant::parse(&spec.expires_at).is_some_and(|end| now < end);
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    Grant {
        object: Object::new("ClientGrant", namespace, object.metadata.name.clone().unwrap_or_default()),
        place,
        client: parse::client_key(object),
        subject: match spec.subject.as_ref() {
            None => Subject::Own,
            Some(subject) => match subject.id.as_ref() {
                None => Subject::Any,
                Some(id) => Subject::User(id.clone()),
            },
        },
        scopes: spec.scopes.clone(),
        team: spec.owner.team.clone(),
        active: begun && ends && !spec.suspend && object.metadata.deletion_timestamp.is_none(),
    }
}
