//! One suite for every provider: what the steps of the port mean, on the model and on the real server.
//! Where they differ, the model is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clientgrant::api::MemorySpec;
use clientgrant::grant::fault::Fault;
use clientgrant::grant::observed::{Found, ObservedClient};
use clientgrant::grant::plan::{Step, Warrant};
use clientgrant::grant::{
    Adoption, Authority, GrantType, HookProof, Mode, ProviderKey, ProviderState, ProviderView, Timestamp,
    UnmanagedClients,
};
use clientgrant::idp::hydra::{Hydra, Settings, dialect::Keys};
use clientgrant::idp::memory::Memory;
use clientgrant::idp::{Idp, Urgency, Write};
use clientgrant::world::World;
use clientgrant_testbed::{Action, AuthRequest, ConsentApp, HydraOptions, Iproxy, Tools, UserAgent};
use serde_json::json;

const CLUSTER: &str = "this-cluster";

/// A provider under test, and the other actors at it.
struct Subject {
    idp: Arc<Idp>,
    world: World,
    key: ProviderKey,
    real: Option<(clientgrant_testbed::Hydra, Iproxy)>,
}

impl Subject {
    fn new(idp: Idp, real: Option<(clientgrant_testbed::Hydra, Iproxy)>) -> Self {
        let idp = Arc::new(idp);
        let key = ProviderKey::cluster("corp");
        let view = ProviderView {
            key: key.clone(),
            issuer: "https://issuer.example.com/".into(),
            generation: 1,
            state: ProviderState::Unusable,
            mode: Mode::Enforce,
            take_over: None,
            hook: HookProof::NotDeclared,
            rules: Vec::new(),
            adoption: Adoption::Automatic,
            unmanaged: UnmanagedClients::Deny,
            capabilities: idp.capabilities(),
            drift_check: Duration::from_secs(60),
            consent_sweep: Duration::from_secs(60),
        };
        let world = World::default();
        world.set_provider(view, Some(idp.clone()), Timestamp::UNIX_EPOCH, "uid".into());
        Self { idp, world, key, real }
    }

    fn memory() -> Self {
        Self::new(Idp::Memory(Memory::seeded(&MemorySpec::default())), None)
    }

    async fn hydra() -> Self {
        clientgrant::install_tls();
        let tools = Tools::find().expect("the tools are built");
        let server = clientgrant_testbed::Hydra::start(&tools, HydraOptions::default()).await.expect("Hydra starts");
        let proxy = Iproxy::start(server.admin_url()).expect("the proxy starts");
        let key = || "a key of the conformance suite".to_owned().into();
        let settings = Settings {
            admin: proxy.url().parse().unwrap(),
            issuer: Some(server.issuer().parse().unwrap()),
            fenced: false,
            access_token_lifetime: Duration::from_secs(300),
            per_second: 10_000,
            concurrency: 8,
            keys: Keys { hook: Some(key()), consent: vec![key()] },
            replica: "conformance".into(),
            cluster: CLUSTER.into(),
            calls: Default::default(),
        };
        Self::new(Idp::Hydra(Hydra::new(settings).unwrap()), Some((server, proxy)))
    }

    /// The IdP's owner registers a client that holds more than anybody declared.
    async fn register(&self, id: &str) {
        match (&*self.idp, &self.real) {
            (Idp::Memory(model), _) => {
                let mut client = ObservedClient { authority: wide(), ..ObservedClient::default() };
                client.extra.insert("grant type implicit".into());
                client.settings.push("anything");
                model.state().clients.insert(id.to_owned(), client);
            }
            (Idp::Hydra(_), Some((server, _))) => {
                let client = json!({
                    "client_id": id, "scope": wide().scopes.to_string(), "audience": wide().audiences.to_vec(),
                    "grant_types": ["authorization_code", "refresh_token", "client_credentials", "implicit"],
                    "response_types": ["code", "token"], "token_endpoint_auth_method": "none",
                });
                server.admin().create_client(&client).await.unwrap();
            }
            (Idp::Hydra(_), None) => unreachable!("a real Hydra"),
        }
    }

    async fn observe(&self, id: &str) -> Found {
        self.idp.observe_client(id, Urgency::Ordinary).await.unwrap()
    }

    async fn execute(&self, id: &str, step: &Step, ceiling: &Authority) -> Result<(), Fault> {
        let permit = self.world.permit(&self.key).expect("leave to write");
        let urgency = Urgency::Ordinary;
        self.idp.execute(Write { permit: &permit, client: id, step, ceiling, cluster: CLUSTER, urgency }).await
    }

    async fn set(&self, id: &str, ceiling: &Authority) -> ObservedClient {
        self.execute(id, &Step::SetRegistration, ceiling).await.unwrap();
        match self.observe(id).await {
            Found::Present(client) => client,
            Found::Absent => panic!("{id} is gone"),
        }
    }
}

fn authority(scopes: &[&str], audiences: &[&str], grant_types: &[GrantType]) -> Authority {
    Authority {
        scopes: scopes.iter().copied().collect(),
        audiences: audiences.iter().copied().collect(),
        grant_types: grant_types.iter().copied().collect(),
    }
}

fn wide() -> Authority {
    let flows = [GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::ClientCredentials];
    authority(&["openid", "read", "write", "admin"], &["https://a.example.com", "https://b.example.com"], &flows)
}

/// The suite.
async fn conforms(subject: Subject) {
    assert!(subject.idp.probe().await.unwrap().version.is_some());
    assert_eq!(subject.observe("nobody").await, Found::Absent);
    assert_eq!(subject.idp.observe_consents("nobody", "nobody", Urgency::Ordinary).await.unwrap(), []);

    subject.register("app").await;
    let Found::Present(before) = subject.observe("app").await else { panic!("app is registered") };
    assert_eq!(before.authority, wide());
    assert!(!before.extra.is_empty() && !before.settings.is_empty() && before.mark.is_none());
    let narrow = authority(&["read"], &[], &[GrantType::AuthorizationCode]);
    assert!(before.exceeds(&narrow) && before.exceeds(&wide()), "implicit is beyond every ceiling");

    let mut wider = narrow.clone();
    wider.add_all(&authority(&["write", "openid"], &["https://a.example.com"], &[GrantType::RefreshToken]));
    let nothing = Authority::default();
    for ceiling in [&narrow, &wider, &narrow, &nothing, &nothing, &wider, &narrow, &narrow] {
        let client = subject.set("app", ceiling).await;
        assert!(client.is_exactly(ceiling, CLUSTER), "asked {ceiling:?}, is {client:?}");
        assert!(!client.exceeds(ceiling));
        assert!(!client.is_exactly(ceiling, "another-cluster"), "the mark tells clusters apart");
    }

    let pair = Step::RevokePair { subject: "ann".into(), warrant: Warrant::Asked("uid".into()) };
    let tokens = Step::RevokeClientTokens { warrant: Warrant::Adoption };
    for step in [&pair, &pair, &tokens, &tokens] {
        subject.execute("app", step, &narrow).await.unwrap();
    }
    assert!(matches!(subject.observe("app").await, Found::Present(c) if c.is_exactly(&narrow, CLUSTER)));

    // More than three pages, and the list says the same as single reads.
    let ids: Vec<String> = (0..1_600).map(|n| format!("many-{n:04}")).collect();
    for some in ids.chunks(16) {
        futures::future::join_all(some.iter().map(|id| subject.register(id))).await;
    }
    let listed: BTreeMap<String, ObservedClient> = subject.idp.observe_clients(&|_, _| true).await.unwrap();
    assert_eq!(listed.len(), ids.len() + 1);
    for id in ["app", "many-0000", "many-1599"] {
        assert_eq!(subject.observe(id).await, Found::Present(listed[id].clone()));
    }
    if let Some((server, proxy)) = &subject.real {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let admin = server.admin().clone();
        let runtime = tokio::runtime::Handle::current();
        let second = move |r: &clientgrant_testbed::Recorded| {
            r.path() == "/admin/clients" && count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1
        };
        let delete = move |_: &clientgrant_testbed::Recorded| {
            std::thread::spawn(move || runtime.block_on(admin.delete_client("many-0000")).unwrap()).join().unwrap();
        };
        proxy.before(second, delete);
        let shrunk = subject.idp.observe_clients(&|_, _| true).await;
        assert!(shrunk.is_err(), "a list that shrinks while it is paged is not complete");
        assert_eq!(subject.idp.observe_clients(&|_, _| true).await.unwrap().len(), ids.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_conforms() {
    conforms(Subject::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hydra_conforms() {
    conforms(Subject::hydra().await).await;
}

/// What a broken network or a broken IdP answers is never taken for a fact.
#[tokio::test(flavor = "multi_thread")]
async fn no_broken_answer_is_evidence() {
    let subject = Subject::hydra().await;
    subject.register("app").await;
    let (_, proxy) = subject.real.as_ref().unwrap();
    let html = "<html><h1>Error 404</h1></html>".to_owned();
    let large = format!("[\"{}\"]", "x".repeat(5 << 20));
    let answers = [
        (401, "{}".to_owned()),
        (403, "{}".to_owned()),
        (404, html.clone()),
        (404, String::new()),
        (409, "{}".to_owned()),
        (410, html.clone()),
        (429, "{}".to_owned()),
        (500, "{}".to_owned()),
        (502, html.clone()),
        (503, String::new()),
        (302, String::new()),
        (200, html),
        (200, String::new()),
        (200, "null".to_owned()),
        (200, "{}".to_owned()),
        (200, "[{}]".to_owned()),
        (200, "{\"client_id\":\"other\"}".to_owned()),
        (200, large),
        (204, String::new()),
    ];
    for (status, body) in answers {
        let shown = format!("{status} {}", body.get(..40).unwrap_or(&body));
        proxy.set_rule(move |_| Action::Answer(status, body.clone()));
        let client = subject.idp.observe_client("app", Urgency::Ordinary).await;
        assert!(client.is_err(), "{shown}: {client:?}");
        assert!(subject.idp.observe_clients(&|_, _| true).await.is_err(), "{shown}: a list of clients");
        assert!(
            subject.idp.observe_consents("app", "ann", Urgency::Ordinary).await.is_err(),
            "{shown}: a list of consents"
        );
        if status >= 300 {
            let step = Step::RevokePair { subject: "ann".into(), warrant: Warrant::Asked("uid".into()) };
            assert!(subject.execute("app", &step, &wide()).await.is_err(), "{shown}: a revocation");
        }
    }
    for status in [401, 403] {
        proxy.set_rule(move |_| Action::Answer(status, "{}".into()));
        let fault = subject.idp.observe_client("app", Urgency::Ordinary).await.unwrap_err();
        assert!(matches!(fault, Fault::NeedsPerson { .. }), "{status} needs a person");
    }
    proxy.set_rule(|_| Action::AnswerWith(429, vec![("retry-after".into(), "7".into())], "{}".into()));
    let fault = subject.idp.observe_client("app", Urgency::Ordinary).await.unwrap_err();
    assert!(matches!(fault, Fault::Retry { after: Some(pause), .. } if pause == Duration::from_secs(7)), "{fault:?}");
    for action in [|| Action::DropRequest, || Action::DropResponse] {
        proxy.set_rule(move |_| action());
        assert!(subject.idp.observe_client("app", Urgency::Ordinary).await.is_err());
    }
    // An empty subject would mean everybody's; it is refused before it is sent.
    proxy.clear_rule();
    proxy.clear();
    let step = Step::RevokePair { subject: String::new(), warrant: Warrant::Asked("uid".into()) };
    assert!(subject.execute("app", &step, &wide()).await.is_err());
    assert!(subject.idp.observe_consents("app", "", Urgency::Ordinary).await.is_err());
    assert_eq!(proxy.requests().len(), 0);
    assert!(matches!(subject.observe("app").await, Found::Present(_)), "positive control");
}

/// A list that shrinks, repeats, or does not have as many as it says is not taken for what there is.
#[tokio::test(flavor = "multi_thread")]
async fn no_list_of_clients_that_is_not_whole_is_evidence() {
    let subject = Subject::hydra().await;
    subject.register("app").await;
    let (server, proxy) = subject.real.as_ref().unwrap();
    let app = server.admin().get_client("app").await.unwrap();
    for (what, body, total) in [
        ("empty, and says that there is one", json!([]), "1"),
        ("half of what it says", json!([app]), "2"),
        ("twice the same", json!([app, app]), "2"),
        ("more than it says", json!([app]), "0"),
        ("without a total", json!([app]), ""),
    ] {
        let headers = vec![("X-Total-Count".to_owned(), total.to_owned())];
        let body = body.to_string();
        proxy.set_rule(move |_| Action::AnswerWith(200, headers.clone(), body.clone()));
        let found = subject.idp.observe_clients(&|_, _| true).await;
        assert!(found.is_err(), "{what}: {found:?}");
    }
    proxy.clear_rule();
    assert_eq!(subject.idp.observe_clients(&|_, _| true).await.unwrap().len(), 1, "positive control");
}

/// A subject with more consents than a page holds, of which some were remembered and have lapsed: Hydra
/// drops these after paging, so that a page comes short without being the last.
#[tokio::test(flavor = "multi_thread")]
async fn every_consent_of_a_subject_is_read() {
    let subject = Subject::hydra().await;
    let (server, proxy) = subject.real.as_ref().unwrap();
    let redirect = "http://127.0.0.1:1/callback";
    for id in ["lapsing", "app"] {
        let client = json!({
            "client_id": id, "client_secret": "a-secret-of-the-conformance-suite", "scope": "openid",
            "grant_types": ["authorization_code"], "response_types": ["code"], "redirect_uris": [redirect],
        });
        server.admin().create_client(&client).await.unwrap();
    }
    let consent = async |id: &str, remember_for: u32| {
        let app = ConsentApp::blind(move |asked| {
            let remember = remember_for > 0;
            json!({"grant_scope": asked["requested_scope"], "remember": remember, "remember_for": remember_for})
        });
        let request = AuthRequest::new(id, redirect, "openid", "ann");
        let outcome = UserAgent::new(server).unwrap().authorize(&request, &app).await.unwrap();
        assert!(outcome.code().is_some(), "{outcome:?}");
    };
    consent("lapsing", 1).await;
    for _ in 0..260 {
        consent("app", 0).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let path = "/admin/oauth2/auth/sessions/consent?subject=ann&page_size=1000";
    let answer = server.admin().request(reqwest::Method::GET, path).send().await.unwrap();
    let total = answer.headers()["x-total-count"].to_str().unwrap().to_owned();
    let listed: Vec<serde_json::Value> = answer.json().await.unwrap();
    assert_eq!((&*total, listed.len()), ("261", 260), "the lapsed one is counted and not shown");
    proxy.clear();
    let read = subject.idp.observe_consents("app", "ann", Urgency::Ordinary).await.unwrap();
    assert_eq!((read.len(), proxy.requests().len()), (260, 2));
    assert!(subject.idp.observe_consents("lapsing", "ann", Urgency::Ordinary).await.unwrap().is_empty());
}
