//! What has ended stays ended: re-applying its YAML changes nothing anywhere.

use serde_json::json;

use crate::support::{ahead, bed, pause, until};

const PATH: &str = "namespaces/finance/clientgrants/reporting";

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_grant_that_is_deleted_and_applied_again_is_expired_and_writes_nothing() {
    let mut bed = bed().await;
    bed.client("finance-reporting", json!({"scope": "openid offline_access transactions:read"})).await.unwrap();
    let end = ahead(15);
    bed.grant("finance", "reporting", json!({"expiresAt": end})).await.unwrap();
    bed.reason("finance", "reporting", "AwaitingConsent").await.unwrap();
    until(&end).await;
    let first = bed.reason("finance", "reporting", "Expired").await.unwrap();
    pause(500).await;

    bed.proxy.clear();
    bed.grant("finance", "reporting", json!({"expiresAt": end})).await.unwrap();
    bed.delete(PATH).await.unwrap();
    bed.gone(PATH).await.unwrap();
    bed.grant("finance", "reporting", json!({"expiresAt": end})).await.unwrap();
    let second = bed.reason("finance", "reporting", "Expired").await.unwrap();
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    assert!(second["metadata"]["finalizers"].is_null(), "it gave nothing and holds nothing up");
    bed.operator.kill();
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    pause(3000).await;
    bed.reason("finance", "reporting", "Expired").await.unwrap();
    assert!(bed.written().is_empty(), "{}", bed.proxy.summary());
    bed.delete(PATH).await.unwrap();
    bed.gone(PATH).await.unwrap();
    assert!(bed.written().is_empty(), "{}", bed.proxy.summary());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_grant_of_a_client_that_was_never_adopted_writes_nothing() {
    let bed = bed().await;
    bed.client("untouched", json!({"scope": "openid admin"})).await.unwrap();
    let before = bed.hydra.admin().get_client("untouched").await.unwrap();
    bed.proxy.clear();
    for (name, spec) in [
        ("user", json!({"clientID": "untouched", "expiresAt": "2026-01-01T00:00:00Z"})),
        (
            "own",
            json!({
                "clientID": "untouched", "subject": null, "basis": "ClientOwn", "scopes": ["admin"],
                "expiresAt": "2026-01-01T00:00:00Z",
            }),
        ),
        ("nobody", json!({"clientID": "not-registered", "expiresAt": "2026-01-01T00:00:00Z"})),
    ] {
        bed.grant("finance", name, spec).await.unwrap();
        let grant = bed.reason("finance", name, "Expired").await.unwrap();
        assert!(grant["metadata"]["finalizers"].is_null() && grant["status"]["revocation"].is_null(), "{grant:#}");
    }
    pause(2500).await;
    assert!(bed.written().is_empty(), "{}", bed.proxy.summary());
    assert_eq!(bed.hydra.admin().get_client("untouched").await.unwrap(), before);
    let (status, record) =
        bed.raw(reqwest::Method::GET, "api/v1/namespaces/clientgrant-system/configmaps", None).await.unwrap();
    assert_eq!((status, record["items"].as_array().map(Vec::len)), (200, Some(0)), "nothing is managed");
}
