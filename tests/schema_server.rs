//! The custom resource definitions on a real API server: it takes them, its verdict on the table is
//! that of the table and of the validators that run without a server, and what people see of them
//! is there.

use clientgrant::api::{ClientGrant, schema};
use clientgrant_testbed::{ControlPlane, Tools};
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, ObjectMeta, Patch, PatchParams,
        PostParams,
    },
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use schema_cases::{Case, Judge, NAME, NAMESPACE, judges};
use serde_json::{Value, json};

mod schema_cases;

#[tokio::test]
async fn the_schema_on_a_real_server() {
    let plane = ControlPlane::start(&Tools::find().unwrap()).await.unwrap();
    let client = client(&plane).await;
    install(&client).await;
    judge_the_table(&client).await;
    every_field_is_explained(&plane, &client).await;
    people_find_what_they_look_for(&plane, &client).await;
    a_full_status_is_taken(&client).await;
}

async fn client(plane: &ControlPlane) -> Client {
    // An error only says that a provider is installed already.
    _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

/// The server computes the cost of every rule here, and refuses a definition that is too dear.
async fn install(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in schema::crds() {
        api.create(&PostParams::default(), &crd).await.unwrap();
        await_condition(api.clone(), &crd.name_any(), is_crd_established()).await.unwrap();
    }
    let metadata = ObjectMeta { name: Some(NAMESPACE.to_owned()), ..Default::default() };
    let namespace = Namespace { metadata, ..Default::default() };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    // A kind is established a moment before it is served.
    for judge in judges().values() {
        let mut tries = 0;
        while let Err(error) = api_of(client, judge).list(&ListParams::default()).await {
            tries += 1;
            assert!(tries < 100, "{}: {error}", judge.crd.name_any());
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

fn api_of(client: &Client, judge: &Judge) -> Api<DynamicObject> {
    let spec = &judge.crd.spec;
    let gvk = GroupVersionKind::gvk(&spec.group, &spec.versions[0].name, &spec.names.kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, &spec.names.plural);
    if spec.scope == "Namespaced" {
        Api::namespaced_with(client.clone(), NAMESPACE, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    }
}

async fn judge_the_table(client: &Client) {
    let judges = judges();
    let cases = schema_cases::all();
    let mut wrong = Vec::new();
    for case in &cases {
        let judge = &judges[&case.kind];
        let verdict = verdict(&api_of(client, judge), case).await;
        let offline = judge.refusals(&case.new, case.old.as_ref()).is_empty();
        let right = match (&case.refused, &verdict) {
            (None, Ok(())) => true,
            (Some(words), Err(said)) => said.contains(words.as_str()),
            _ => false,
        };
        if !right || offline != verdict.is_ok() {
            wrong.push(format!("{}: expected {:?}, got {verdict:?}", case.name, case.refused));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// What the server says to a dry run of the case.
async fn verdict(api: &Api<DynamicObject>, case: &Case) -> Result<(), String> {
    let object = |value: &Value| {
        serde_json::from_value::<DynamicObject>(value.clone()).unwrap_or_else(|error| panic!("{}: {error}", case.name))
    };
    let dry_run = PostParams { dry_run: true, ..Default::default() };
    let Some(old) = &case.old else {
        let done = api.create(&dry_run, &object(&case.new)).await;
        return done.map(drop).map_err(|error| refusal(case, error));
    };
    let old = api
        .create(&PostParams::default(), &object(old))
        .await
        .unwrap_or_else(|error| panic!("{}: the old object is refused: {error}", case.name));
    let mut new = object(&case.new);
    new.metadata.resource_version = old.resource_version();
    let done = api.replace(NAME, &dry_run, &new).await;
    api.delete(NAME, &DeleteParams::default()).await.unwrap();
    done.map(drop).map_err(|error| refusal(case, error))
}

fn refusal(case: &Case, error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 422 => status.message,
        other => panic!("{}: not a verdict: {other}", case.name),
    }
}

/// What `kubectl explain` prints comes from the server's OpenAPI document.
async fn every_field_is_explained(plane: &ControlPlane, client: &Client) {
    let request = http_get("/openapi/v3/apis/clientgrant.dev/v1alpha1");
    let document: Value = client.request(request).await.unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (kind, judge) in judges() {
        let (_, root) = schemas
            .iter()
            .find(|(name, _)| name.ends_with(&format!(".v1alpha1.{kind}")))
            .unwrap_or_else(|| panic!("{kind} is not in the document"));
        let fields = explained(&kind, root);
        assert_eq!(fields, explained(&kind, &judge.schema), "{kind} has other fields on the server");
    }
    let subject = ["explain", "clientgrants.clientgrant.dev.spec.subject.id"];
    let said = plane.kubectl(&subject).await.unwrap();
    assert!(said.contains("never a pairwise one"), "{said}");
    let kind = plane.kubectl(&["explain", "clientgrants.clientgrant.dev"]).await.unwrap();
    assert!(kind.contains("What one OAuth client may do"), "{kind}");
}

fn http_get(path: &str) -> axum::http::Request<Vec<u8>> {
    axum::http::Request::get(path).body(Vec::new()).unwrap()
}

/// How many fields there are below spec and status; each must have a sentence.
fn explained(path: &str, schema: &Value) -> usize {
    let below = |properties: &serde_json::Map<String, Value>| -> usize {
        let ours = |name: &str| !matches!(name, "apiVersion" | "kind" | "metadata") || path.contains('.');
        properties
            .iter()
            .filter(|(name, _)| ours(name))
            .map(|(name, property)| {
                let path = format!("{path}.{name}");
                let text = property["description"].as_str().unwrap_or_default();
                assert!(text.ends_with('.') && text.len() >= 20, "{path} says {text:?}");
                1 + explained(&path, property)
            })
            .sum()
    };
    schema["properties"].as_object().map_or(0, below)
        + if schema["items"].is_object() { explained(path, &schema["items"]) } else { 0 }
}

fn grant(name: &str) -> ClientGrant {
    let base = schema_cases::all().remove(0);
    let mut grant: ClientGrant = serde_json::from_value(base.new).unwrap();
    grant.metadata.name = Some(name.to_owned());
    grant.spec.client_id = format!("client-of-{name}");
    grant.spec.provider_ref.name = format!("provider-of-{name}");
    grant.spec.purpose.id = format!("purpose-of-{name}");
    grant
}

async fn people_find_what_they_look_for(plane: &ControlPlane, client: &Client) {
    let api: Api<ClientGrant> = Api::namespaced(client.clone(), NAMESPACE);
    for name in ["ann", "bob"] {
        api.create(&PostParams::default(), &grant(name)).await.unwrap();
        let read = api.get(name).await.unwrap();
        assert_eq!(read.status.unwrap().observed_generation, Some(-1), "nobody has looked yet");
    }
    for selector in
        ["spec.clientID=client-of-ann", "spec.providerRef.name=provider-of-ann", "spec.purpose.id=purpose-of-ann"]
    {
        let found = api.list(&ListParams::default().fields(selector)).await.unwrap();
        let names: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["ann"], "{selector}");
    }
    for name in ["clientgrants.clientgrant.dev", "cgrant", "consent"] {
        let table = plane.kubectl(&["get", name, "-n", NAMESPACE, "-o", "wide"]).await.unwrap();
        let head = table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        let columns =
            "NAME CLIENT SUBJECT SCOPES ACTIVE REASON EXPIRES AGE READY BASIS PURPOSE PROVIDER ENFORCED EXCLUSIVE";
        assert_eq!(head, columns, "{name}");
        assert!(table.contains("2027-02-20T00:00:00Z"), "{table}");
    }
    for name in ["cidp", "idp", "cident", "cquar", "cgpr"] {
        plane.kubectl(&["get", name, "-n", NAMESPACE]).await.unwrap();
    }
}

async fn a_full_status_is_taken(client: &Client) {
    let api: Api<ClientGrant> = Api::namespaced(client.clone(), NAMESPACE);
    let status = schema_cases::full_grant_status();
    let body = json!({
        "apiVersion": "clientgrant.dev/v1alpha1", "kind": "ClientGrant",
        "metadata": { "name": "ann" }, "status": status,
    });
    let params = PatchParams::apply("clientgrant").force();
    let first = api.patch_status("ann", &params, &Patch::Apply(&body)).await.unwrap();
    assert_eq!(first.status.as_ref(), Some(&status));
    let again = api.patch_status("ann", &params, &Patch::Apply(&body)).await.unwrap();
    assert_eq!(again.resource_version(), first.resource_version(), "an equal status is no write");
}
