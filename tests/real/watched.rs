//! What the running operator tells of itself: every metric of the catalogue, in a form that promtool has nothing
//! to say against, in as many series for many grants as for few; and that the cluster serves older definitions.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clientgrant::api::schema;
use clientgrant::telemetry::CATALOGUE;
use clientgrant_testbed::Tools;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Real, bed_with, chain, pause};

const SCOPE: &str = "openid offline_access transactions:read";
const CRD: &str = "apis/apiextensions.k8s.io/v1/customresourcedefinitions/clientgrants.clientgrant.dev";

/// Names of metrics that have a sample, as the catalogue spells them.
fn told(text: &str) -> BTreeSet<String> {
    let known = |name: &str| CATALOGUE.iter().any(|metric| metric.name == name);
    let names = series(text).into_iter().map(|head| head.split('{').next().unwrap().to_owned());
    let base = |name: String| {
        let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
        histogram.filter(|base| known(base)).map_or(name.clone(), str::to_owned)
    };
    names.map(base).collect()
}

/// Name and labels of every sample.
fn series(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

/// `n` grants that wait for their subjects, for two clients, from `from` on.
async fn grants(bed: &Real, from: usize, n: usize) {
    for i in from..from + n {
        let client = ["finance-reporting", "intranet"][i % 2];
        let spec = json!({"subject": {"id": format!("subject-{i}")}, "clientID": client});
        bed.grant("finance", &format!("object-{i}"), spec).await.unwrap();
    }
    for i in from..from + n {
        bed.reason("finance", &format!("object-{i}"), "AwaitingConsent").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_told_and_no_more_of_it_with_more_grants() {
    let bed = bed_with(|options| options.provider["driftCheckInterval"] = json!("1s")).await;
    let client = bed.client("finance-reporting", json!({"scope": SCOPE})).await.unwrap();
    bed.client("intranet", json!({"scope": SCOPE})).await.unwrap();
    grants(&bed, 0, 4).await;
    bed.grant("finance", "ann", json!({})).await.unwrap();
    chain(&bed, &client, "ann", SCOPE).await;
    bed.reason("finance", "ann", "Granted").await.unwrap();
    let wide = json!([{"op": "replace", "path": "/scope", "value": format!("{SCOPE} admin")}]);
    bed.hydra.admin().patch_client("finance-reporting", &wide).await.unwrap();
    let start = Instant::now();
    let drifted = r#"clientgrant_drift_detected_total{type="excess"} "#;
    while !bed.operator.metrics().await.unwrap().contains(drifted) {
        assert!(start.elapsed() < Duration::from_secs(10), "{}", bed.operator.metrics().await.unwrap());
        pause(100).await;
    }
    bed.patch("namespaces/finance/clientgrants/ann", json!({"spec": {"suspend": true}})).await.unwrap();
    bed.reason("finance", "ann", "Suspended").await.unwrap();
    pause(1_500).await;

    let few = bed.operator.metrics().await.unwrap();
    let catalogue: BTreeSet<String> = CATALOGUE.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(told(&few), catalogue);
    lint(&few);

    let begun = Instant::now();
    grants(&bed, 4, 60).await;
    pause(1_500).await;
    let many = bed.operator.metrics().await.unwrap();
    println!(
        "{} series with 5 grants, {} with 65; 60 grants took {:?}",
        series(&few).len(),
        series(&many).len(),
        begun.elapsed()
    );
    let more: Vec<_> = series(&many).difference(&series(&few)).cloned().collect();
    assert!(more.is_empty(), "{more:?}");
    assert!(many.contains(r#"clientgrant_grants{reason="AwaitingConsent"} 64"#), "{many}");
    for name in ["subject-", "object-", "finance", "intranet", "corp", "ann"] {
        assert!(!series(&many).iter().any(|head| head.contains(name)), "{name} is in a label");
    }
}

/// promtool has nothing to say against it.
fn lint(metrics: &str) {
    let promtool = Tools::find().unwrap().promtool;
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_are_older_than_the_operator_are_told() {
    let mut bed = bed_with(|_| {}).await;
    let gauge = async |bed: &Real, wanted: &str| {
        let (start, line) = (Instant::now(), format!("clientgrant_crd_schema_outdated {wanted}"));
        while !bed.operator.metrics().await.unwrap().lines().any(|l| l == line) {
            assert!(start.elapsed() < Duration::from_secs(20), "{line}\n{}", bed.operator.log());
            pause(100).await;
        }
    };
    gauge(&bed, "0.0").await;
    assert!(!bed.operator.log().contains("definitions"), "{}", bed.operator.log());

    let (status, mut crd) = bed.raw(Method::GET, CRD, None).await.unwrap();
    assert_eq!(status, 200);
    let whole = crd["spec"]["versions"].clone();
    let schema = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap();
    assert!(schema.as_object_mut().unwrap().remove("suspend").is_some());
    let served = async |bed: &Real, versions: &Value, whole: bool| {
        let patch = json!([{"op": "replace", "path": "/spec/versions", "value": versions}]);
        let (status, answer) = bed.raw(Method::PATCH, CRD, Some((patch, "application/json-patch+json"))).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        // The API server publishes it some time later.
        let start = Instant::now();
        loop {
            let (_, document) = bed.raw(Method::GET, &schema::openapi_path()[1..], None).await.unwrap();
            if schema::lacking(&document).is_empty() == whole {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "not served");
            pause(100).await;
        }
    };
    served(&bed, &crd["spec"]["versions"], false).await;
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    let line = bed.operator.wait_log("older than this operator", Duration::from_secs(20)).await.unwrap();
    assert!(line.contains("ClientGrant.spec.suspend") && line.contains("ERROR"), "{line}");
    gauge(&bed, "1.0").await;

    served(&bed, &whole, true).await;
    bed.operator.restart().unwrap();
    bed.ready().await.unwrap();
    gauge(&bed, "0.0").await;
}
