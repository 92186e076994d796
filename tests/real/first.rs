//! One grant, from YAML to its end.

use serde_json::json;

use crate::support::{ahead, bed, pause, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_own_grant_comes_into_force_and_ends() {
    let bed = bed().await;
    let client = bed
        .client("night-batch", json!({"grant_types": ["client_credentials"], "scope": "ledger:read ledger:write"}))
        .await
        .unwrap();
    assert_eq!(client.client_credentials("ledger:read", "").await.unwrap().error(), Some("access_denied"));

    let end = ahead(9);
    let spec = json!({
        "clientID": "night-batch", "subject": null, "basis": "ClientOwn",
        "scopes": ["ledger:read"], "expiresAt": end,
    });
    bed.grant("finance", "night-batch", spec).await.unwrap();
    let grant = bed.reason("finance", "night-batch", "Granted").await.unwrap();
    assert_eq!(grant["status"]["effective"]["scopes"], json!(["ledger:read"]));

    let token = client.client_credentials("ledger:read", "").await.unwrap();
    let access = token.access_token().expect("a token").to_owned();
    assert!(bed.hydra.admin().is_active(&access).await.unwrap());
    assert_eq!(client.client_credentials("ledger:write", "").await.unwrap().error(), Some("invalid_scope"));

    until(&end).await;
    pause(2000).await;
    assert!(!bed.hydra.admin().is_active(&access).await.unwrap());
    assert!(client.client_credentials("ledger:read", "").await.unwrap().access_token().is_none());
    let grant = bed.reason("finance", "night-batch", "Expired").await.unwrap();
    assert!(grant["status"]["revocation"]["confirmedAt"].is_string());
    let registered = bed.hydra.admin().get_client("night-batch").await.unwrap();
    assert_eq!(registered["scope"], "clientgrant.dev/none");
    assert_eq!(registered["grant_types"], json!(["urn:clientgrant.dev:none"]));
    println!("{}", bed.operator.log());
    println!("{}", bed.proxy.summary());
}
