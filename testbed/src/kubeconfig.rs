//! Kubeconfig files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::canary;
use crate::certs::Pair;

/// By what a kubeconfig identifies its user.
pub(crate) enum Credential<'a> {
    Certificate(&'a Pair),
    Token(&'a str),
}

/// A kubeconfig with everything embedded. It is JSON, which is YAML too.
pub(crate) fn kubeconfig(server: &str, ca: &str, user: &str, credential: Credential<'_>) -> String {
    let credential = match credential {
        Credential::Certificate(pair) => json!({
            "client-certificate-data": STANDARD.encode(&pair.cert),
            "client-key-data": STANDARD.encode(&pair.key),
        }),
        Credential::Token(token) => {
            canary::watch("a ServiceAccount's token", token);
            json!({ "token": token })
        }
    };
    let cluster = json!({ "server": server, "certificate-authority-data": STANDARD.encode(ca) });
    let config: Value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "testbed", "cluster": cluster }],
        "users": [{ "name": user, "user": credential }],
        "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": user } }],
        "current-context": "testbed",
    });
    format!("{config:#}\n")
}
