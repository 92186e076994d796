//! `ClientIdentity`: who a client is.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{Condition, ProviderRef, schema};

/// Who a client is, and whether the operator may take it over.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "clientgrant.dev",
    version = "v1alpha1",
    kind = "ClientIdentity",
    plural = "clientidentities",
    namespaced,
    status = "ClientIdentityStatus",
    derive = "PartialEq",
    shortname = "cident",
    category = "consent",
    doc = "Who an OAuth client is. Alone it changes nothing at the identity provider. Example: the client `workflow-bot` may be taken over although it holds more than its grants.",
    printcolumn(name = "Client", type_ = "string", json_path = ".spec.clientID", description = "The client."),
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = ".spec.providerRef.name",
        description = "The provider that holds the client."
    ),
    printcolumn(
        name = "Adopt",
        type_ = "boolean",
        json_path = ".spec.adopt",
        description = "Whether the operator may take the client over."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the object is taken into account."
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
pub struct ClientIdentitySpec {
    /// The provider object that connects to the identity provider where the client is registered.
    /// Cannot be changed. Example: `{kind: ClusterIdentityProvider, name: corp}`.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("providerRef cannot be changed, because it says whose client this is: make a new ClientIdentity")
        .reason(Reason::FieldValueForbidden))]
    pub provider_ref: ProviderRef,
    /// The client: its OAuth 2.0 `client_id`, 1 to 2048 printable ASCII characters without spaces.
    /// Cannot be changed. Example: `workflow-bot`.
    #[serde(rename = "clientID")]
    #[schemars(schema_with = "schema::client_id")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("clientID cannot be changed, because it says which client this is: make a new ClientIdentity")
        .reason(Reason::FieldValueForbidden))]
    pub client_id: String,
    /// `true` lets the operator take over a client that holds more than its grants: everything
    /// beyond them is taken away, and tokens issued before end.
    #[serde(default)]
    pub adopt: bool,
}

/// What the operator found out about a client identity. Only the operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientIdentityStatus {
    /// The generation of the spec that this status speaks about; -1 while nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub observed_generation: Option<i64>,
    /// What is so, is not so, or is not known: Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
