//! `ClientQuarantine`: the emergency brake.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{Condition, schema};

/// Which client is put out of force, and why.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "clientgrant.dev",
    version = "v1alpha1",
    kind = "ClientQuarantine",
    status = "ClientQuarantineStatus",
    derive = "PartialEq",
    shortname = "cquar",
    category = "consent",
    doc = "The emergency brake: while it exists, every grant of one client, in every namespace, is out of force. Example: the secret of the client `finance-reporting` was seen in a public repository.",
    printcolumn(
        name = "Client",
        type_ = "string",
        json_path = ".spec.clientID",
        description = "The client that is put out of force."
    ),
    printcolumn(
        name = "Issuer",
        type_ = "string",
        json_path = ".spec.issuer",
        description = "The issuer where the client is registered."
    ),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".spec.reason",
        description = "Why somebody pulled the brake."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether every grant of the client is out of force, read back."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Its state in one word."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when the object exists."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ClientQuarantineSpec {
    /// The issuer where the client is registered, exactly as in the provider object. Cannot be
    /// changed. Example: `https://login.example.com/`.
    #[schemars(schema_with = "schema::issuer")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("the issuer cannot be changed, because that would let the quarantined client go: make a new ClientQuarantine")
        .reason(Reason::FieldValueForbidden))]
    pub issuer: String,
    /// The client: its OAuth 2.0 `client_id`, 1 to 2048 printable ASCII characters without spaces.
    /// Cannot be changed. Example: `finance-reporting`.
    #[serde(rename = "clientID")]
    #[schemars(schema_with = "schema::client_id")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("clientID cannot be changed, because that would let the quarantined client go: make a new ClientQuarantine")
        .reason(Reason::FieldValueForbidden))]
    pub client_id: String,
    /// Why, for whoever finds the client out of force, 1 to 512 characters. Example: `client secret
    /// leaked, ticket SEC-71`.
    #[schemars(length(min = 1, max = 512))]
    pub reason: String,
}

/// What the operator found out about a quarantine. Only the operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientQuarantineStatus {
    /// The generation of the spec that this status speaks about; -1 while nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub observed_generation: Option<i64>,
    /// What is so, is not so, or is not known: Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
