//! `PendingRevocation`: the duty to revoke, when the grant that asks for it cannot stay.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, ProviderRef, RevocationCause, Subject, schema};

/// What is still to be ended at an identity provider, although its grant is gone.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "clientgrant.dev",
    version = "v1alpha1",
    kind = "PendingRevocation",
    namespaced,
    status = "PendingRevocationStatus",
    derive = "PartialEq",
    shortname = "cgpr",
    category = "consent",
    doc = "What is still to be ended at an identity provider, although the grant that gave it is gone. The operator writes it in its own namespace, where a grant could not wait for its identity provider, and deletes it when the end is read back. Example: the namespace `finance` was deleted while the identity provider was away.",
    printcolumn(
        name = "Client",
        type_ = "string",
        json_path = ".spec.clientID",
        description = "The client whose authority has to end."
    ),
    printcolumn(
        name = "Subject",
        type_ = "string",
        json_path = ".spec.subject.id",
        description = "The user for whom it has to end; empty for any user and for a client of its own."
    ),
    printcolumn(name = "Cause", type_ = "string", json_path = ".spec.cause", description = "Why it has to end."),
    printcolumn(
        name = "Done",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Done\")].status",
        description = "Whether the end is read back."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Done\")].reason",
        description = "Its state in one word."
    ),
    printcolumn(
        name = "Since",
        type_ = "string",
        json_path = ".spec.since",
        description = "Since when it is to end, in UTC."
    ),
    printcolumn(
        name = "Issuer",
        type_ = "string",
        json_path = ".spec.issuer",
        description = "The issuer where the client is registered.",
        priority = 1
    ),
    printcolumn(
        name = "From",
        type_ = "string",
        json_path = ".spec.origin.namespace",
        description = "The namespace of the grant.",
        priority = 1
    ),
    printcolumn(
        name = "Grant",
        type_ = "string",
        json_path = ".spec.origin.name",
        description = "The name of the grant.",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf")
    .message("a duty cannot be changed: the operator deletes the object when the end is read back")
    .reason(Reason::FieldValueForbidden))]
pub struct PendingRevocationSpec {
    /// The issuer where the client is registered, exactly as in the provider object. Example:
    /// `https://login.example.com/`.
    #[schemars(schema_with = "schema::issuer")]
    pub issuer: String,

    /// The client: its OAuth 2.0 `client_id`, 1 to 2048 printable ASCII characters without spaces.
    /// Example: `finance-reporting`.
    #[serde(rename = "clientID")]
    #[schemars(schema_with = "schema::client_id")]
    pub client_id: String,

    /// For whom the client acted. Absent where it acted for itself. Example: `{kind: User, id:
    /// 7f0c1a52}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,

    /// What the grant declared at last, for whoever reads this: everything that the client holds for
    /// the subject ends. Example: `[openid, "transactions:read"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::some_scopes")]
    pub scopes: Vec<String>,

    /// Why it has to end. Example: `Deleted`.
    pub cause: RevocationCause,

    /// Since when it is to end, in UTC. Example: `2027-02-20T00:00:00Z`.
    #[schemars(schema_with = "schema::status_instant")]
    pub since: String,

    /// The grant that is gone.
    pub origin: Origin,
}

/// The grant that asked for the revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Its namespace. Example: `finance`.
    #[schemars(schema_with = "schema::object_name")]
    pub namespace: String,
    /// Its name. Example: `reporting-ann`.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Its UID, which is also the name of this object. Example:
    /// `0f9a31d8-6f1e-4a7c-9d53-5b8c1f4f2a10`.
    #[schemars(schema_with = "schema::object_name")]
    pub uid: String,
    /// The provider object that it named. What was given through a cluster's provider is never ended through
    /// one of a namespace, which may lie. Example: `{kind: ClusterIdentityProvider, name: corp}`.
    pub provider_ref: ProviderRef,
}

/// How far the revocation is. Only the operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingRevocationStatus {
    /// The generation of the spec that this status speaks about; -1 while nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub observed_generation: Option<i64>,
    /// What is so, is not so, or is not known: Done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
