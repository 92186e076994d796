//! What clients have in common at the identity provider: SC-104, SC-105, SC-106, SC-111, and how a registration is
//! read from Hydra's JSON.

use clientgrant::grant::{ClientKey, ProviderKey};
use clientgrant::idp::hydra::registration::registration;
use clientgrant::sharing::read::Reader;
use clientgrant::sharing::registration::{Registration, thumbprint};
use clientgrant::sharing::{Evaluation, Severity, evaluate, output, sarif};
use serde_json::{Value, json};

use super::support::{deployment, found, grant, identity, now, only, scan};

fn provider(name: &str) -> ProviderKey {
    ProviderKey::cluster(name)
}

/// A client at `corp`, as Hydra lists it.
fn registered(id: &str, fields: Value) -> Registration {
    let mut client =
        json!({"client_id": id, "token_endpoint_auth_method": "private_key_jwt", "created_at": "2026-01-01T00:00:00Z"});
    client.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    registration(&provider("corp"), &client).unwrap()
}

fn evaluated(documents: &[&str], registrations: &[Registration]) -> Evaluation {
    let mut reader = Reader::default();
    reader.add("all.yaml", documents.join("\n---\n").as_bytes());
    let mut input = reader.finish(now());
    input.registrations = registrations.to_vec();
    evaluate(input, now())
}

/// What a rule says of the clients `a` and `b` that are declared, each with these fields at the provider.
fn of(rule: &str, a: Value, b: Value) -> Vec<String> {
    let (x, y) = (identity("a", ""), identity("b", ""));
    let evaluation = evaluated(&[&x, &y], &[registered("a", a), registered("b", b)]);
    found(&evaluation).into_iter().filter(|f| f.starts_with(rule)).collect()
}

/// Elliptic keys that are none: only their form matters.
fn key(letter: char) -> Value {
    let part = |c: char| std::iter::repeat_n(c, 42).collect::<String>() + "A";
    json!({"kty": "EC", "crv": "P-256", "x": part(letter), "y": part('z'), "kid": "any", "use": "sig"})
}

fn keys(keys: &[Value]) -> Value {
    json!({"jwks": {"keys": keys}})
}

/// The example of RFC 7638, section 3.1.
#[test]
fn a_thumbprint_is_that_of_the_standard() {
    let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let key = json!({"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
    assert_eq!(thumbprint(&key).as_deref(), Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    // Of a private key only the public part counts.
    let mut private = key.clone();
    private["d"] = json!("AAAA");
    assert_eq!(thumbprint(&private), thumbprint(&key));
    for (name, value) in
        [("n", json!("**********")), ("n", json!("")), ("n", Value::Null), ("n", json!("AQAB")), ("kty", json!("oct"))]
    {
        let mut odd = key.clone();
        odd[name] = value;
        assert_eq!(thumbprint(&odd), None, "{odd}");
    }
    assert_eq!(thumbprint(&json!({"kty": "oct", "k": modulus})), None, "a symmetric key is a secret");
}

#[test]
fn sc_104_one_public_key() {
    let both = ["SC-104 ClientIdentity/shop/a", "SC-104 ClientIdentity/shop/b"];
    assert_eq!(of("SC-104", keys(&[key('a'), key('b')]), keys(&[key('b')])), both);
    let mut named = key('b');
    named["kid"] = json!("another name");
    assert_eq!(of("SC-104", keys(&[key('b')]), keys(&[named])).len(), 2, "a key is what it is, not its name");
    assert!(of("SC-104", keys(&[key('a')]), keys(&[key('b')])).is_empty());
    // Masked, empty and symmetric ones are equal and say nothing.
    let mut masked = key('a');
    masked["x"] = json!("**********");
    for odd in [masked, json!({"kty": "oct", "k": "c2VjcmV0"}), json!({}), Value::Null] {
        let odd = keys(&[odd]);
        assert!(of("SC-104", odd.clone(), odd.clone()).is_empty(), "{odd}");
    }
    // Whoever authenticates by a secret signs requests with the key at most.
    let mut by_secret = keys(&[key('a')]);
    by_secret["token_endpoint_auth_method"] = json!("client_secret_basic");
    assert!(of("SC-104", by_secret.clone(), keys(&[key('a')])).is_empty());
    let all = [registered("a", keys(&[key('a')])), registered("b", keys(&[key('a')]))];
    let family = |name: &str| identity(name, "family: f");
    assert!(!found(&evaluated(&[&family("a"), &family("b")], &all)).iter().any(|f| f.starts_with("SC-104")));
    // A client that nobody declared is the other half of a finding, and has none of its own.
    let one = evaluated(&[&identity("a", "")], &all);
    let finding = only(&one, "SC-104");
    assert_eq!((finding.severity, finding.subject.name.as_str()), (Severity::Critical, "a"));
    assert_eq!(finding.clients, ["a", "b"]);
    assert!(finding.evidence.iter().all(|e| e.path.starts_with("jwks: thumbprint ")));
    // Of what nobody declared or granted nothing is said.
    assert!(found(&evaluated(&[&deployment("w", "containers: []")], &all)).is_empty());
    assert_eq!(only(&evaluated(&[&grant("b", "ann", "x")], &all), "SC-104").subject.to_string(), "Client/b");
}

#[test]
fn sc_105_one_address_of_keys() {
    let at = |uri: &str| json!({ "jwks_uri": uri });
    assert_eq!(of("SC-105", at("https://keys.example.com/a"), at("https://keys.example.com/a")).len(), 2);
    assert_eq!(of("SC-105", at("https://keys.example.com/a"), at("HTTPS://Keys.example.com:443/b/../a#x")).len(), 2);
    for (a, b) in [
        ("https://keys.example.com/a", "https://keys.example.com/b"),
        ("https://keys.example.com/?a", "https://keys.example.com/?b"),
        ("", ""),
        ("**********", "**********"),
        ("https://***/", "https://***/"),
    ] {
        assert!(of("SC-105", at(a), at(b)).is_empty(), "{a} {b}");
    }
}

#[test]
fn sc_106_one_federated_subject() {
    let subject = "credentials: [{federated: {subject: \"system:serviceaccount:shop:web\"}}]";
    let two = scan(&[&identity("a", subject), &identity("b", subject)]);
    let of_106 = |e: &Evaluation| found(e).into_iter().filter(|f| f.starts_with("SC-106")).collect::<Vec<_>>();
    assert_eq!(of_106(&two), ["SC-106 ClientIdentity/shop/a", "SC-106 ClientIdentity/shop/b"]);
    // Of very many each is told of all, and shows the declarations of ten others.
    let many: Vec<String> = (0..30).map(|n| identity(&format!("c{n}"), subject)).collect();
    let many = scan(&many.iter().map(String::as_str).collect::<Vec<_>>());
    for finding in many.findings.iter().filter(|f| f.rule == "SC-106") {
        assert_eq!((finding.clients.len(), finding.evidence.len()), (30, 11));
        assert!(finding.evidence.iter().any(|e| e.object == finding.subject));
    }
    assert_eq!(of_106(&many).len(), 30);
    // At another provider it is another subject; of another namespace anybody could say it.
    let elsewhere = identity("b", subject).replace("name: corp", "name: partner");
    assert!(of_106(&scan(&[&identity("a", subject), &elsewhere])).is_empty());
    let framing = identity("b", subject).replace("namespace: shop", "namespace: till");
    assert!(of_106(&scan(&[&identity("a", subject), &framing])).is_empty());
    assert!(of_106(&scan(&[&identity("a", subject), &identity("b", &subject.replace("web", "jobs"))])).is_empty());
    // What the provider says counts wherever it is said, and beside what is declared.
    let at_provider = |id: &str, subject: &str| {
        let mut of = registered(id, json!({}));
        of.subjects.insert(subject.to_owned());
        of
    };
    let web = "system:serviceaccount:shop:web";
    let mixed = evaluated(&[&identity("a", subject), &framing], &[at_provider("b", web)]);
    assert_eq!(of_106(&mixed), ["SC-106 ClientIdentity/shop/a", "SC-106 ClientIdentity/till/b"]);
    let (x, y) = (identity("a", ""), identity("b", ""));
    let (a, b) = (at_provider("a", web), at_provider("b", web));
    let registered = evaluated(&[&x, &y], &[a.clone(), b]);
    assert_eq!(of_106(&registered).len(), 2);
    assert_eq!(only(&registered, "SC-202").subject.to_string(), "ServiceAccount/shop/web");
    for mask in ["", "*", "system:serviceaccount:*"] {
        assert!(of_106(&evaluated(&[&x, &y], &[at_provider("a", mask), at_provider("b", mask)])).is_empty(), "{mask}");
    }
    assert!(of_106(&evaluated(&[&x, &y], &[a, at_provider("b", "system:serviceaccount:shop:jobs")])).is_empty());
}

#[test]
fn sc_111_one_redirect_uri() {
    let to = |uris: &[&str]| json!({ "redirect_uris": uris });
    let shared = |a: &[&str], b: &[&str]| of("SC-111", to(a), to(b)).len();
    let uri = "https://app.example.com/callback";
    assert_eq!(shared(&[uri], &["https://other.example.com/", uri]), 2);
    assert_eq!(shared(&["https://app.example.com/*"], &[uri]), 2);
    assert_eq!(
        shared(&[uri, "https://a.example.com/"], &[uri, "https://a.example.com/"]),
        2,
        "two in common are one finding"
    );
    for (a, b) in [
        (&[uri][..], &["https://app.example.com/callback2"][..]),
        (&["https://app.example.com/a/*"], &[uri]),
        (&["http://localhost:8080/callback"], &["http://localhost:8080/callback"]),
        (&["http://127.0.0.1/"], &["http://127.0.0.1/"]),
        (&["http://[::1]/"], &["http://[::1]/"]),
        (&["urn:ietf:wg:oauth:2.0:oob"], &["urn:ietf:wg:oauth:2.0:oob"]),
        (&[""], &[""]),
        (&["**********"], &["**********"]),
        (&[], &[]),
    ] {
        assert_eq!(shared(a, b), 0, "{a:?} {b:?}");
    }
    // Another provider is another user agent's business.
    let mut other = registered("b", to(&[uri]));
    other.client = ClientKey { provider: provider("partner"), ..other.client };
    let documents = [identity("a", ""), identity("b", "").replace("name: corp", "name: partner")];
    let evaluation = evaluated(&[&documents[0], &documents[1]], &[registered("a", to(&[uri])), other]);
    assert!(!found(&evaluation).iter().any(|f| f.starts_with("SC-111")));
}

/// As many URIs as a provider takes do not make as many lines.
#[test]
fn sc_111_shows_some_of_many_redirect_uris() {
    let uris: Vec<String> = (100..400).map(|n| format!("https://app.example.com/{n}")).collect();
    let many = json!({ "redirect_uris": uris });
    let (x, y) = (identity("a", ""), identity("b", ""));
    let of = [registered("a", many.clone()), registered("b", many.clone())];
    let evaluation = evaluated(&[&x, &y], &of);
    let said: Vec<usize> =
        evaluation.findings.iter().filter(|f| f.rule == "SC-111").map(|f| f.evidence.len()).collect();
    assert_eq!(said, [20, 20]);
    // A pattern takes them all.
    let pattern = registered("b", json!({ "redirect_uris": ["https://app.example.com/*"] }));
    let evaluation = evaluated(&[&x, &y], &[registered("a", many), pattern]);
    let of_a = evaluation.findings.iter().find(|f| f.rule == "SC-111" && f.clients.len() == 2).unwrap();
    assert_eq!(of_a.evidence.len(), 11);
}

#[test]
fn without_registrations_it_cannot_be_told() {
    let gaps = |evaluation: &Evaluation| {
        found(evaluation)
            .into_iter()
            .filter(|f| f.starts_with("SC-901") && !f.contains("Rule/SC-3"))
            .collect::<Vec<_>>()
    };
    let named = |name: &str| identity(name, &format!("serviceAccountName: {name}"));
    assert_eq!(gaps(&scan(&[&named("a"), &named("b")])), ["SC-901 Rule/SC-104"]);
    assert!(gaps(&scan(&[&named("a")])).is_empty(), "one client shares with nobody that is known");
    assert!(gaps(&scan(&[&grant("a", "ann", "x"), &grant("b", "ann", "x")])).is_empty());
    let (a, b) = (registered("a", json!({})), registered("b", json!({})));
    assert!(gaps(&evaluated(&[&named("a"), &named("b")], &[a.clone(), b])).is_empty());
    assert_eq!(gaps(&evaluated(&[&named("a"), &named("b")], &[a])), ["SC-901 ClientIdentity/shop/b"]);
}

#[test]
fn a_fingerprint_changes_with_what_a_client_is_known_by() {
    let base =
        json!({"redirect_uris": ["https://a/", "https://b/"], "jwks": {"keys": [key('a')]}, "jwks_uri": "https://k/"});
    let print = |fields: Value| {
        let mut all = base.clone();
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        registered("a", all).fingerprint().to_string()
    };
    let first = print(json!({}));
    assert_eq!(first.len(), 128);
    for same in [
        json!({"redirect_uris": ["https://b/", "https://a/"]}),
        json!({"client_name": "New name", "updated_at": "2027-01-01T00:00:00Z", "scope": "x", "client_secret": "s"}),
    ] {
        assert_eq!(print(same.clone()), first, "{same}");
    }
    for other in [
        json!({"redirect_uris": ["https://a/"]}),
        json!({"token_endpoint_auth_method": "none"}),
        json!({"token_endpoint_auth_method": null}),
        json!({"jwks": {"keys": [key('b')]}}),
        json!({"jwks": {"keys": [key('a'), {"kty": "oct", "k": "c2VjcmV0"}]}}),
        json!({"jwks": {}}),
        json!({"jwks_uri": ""}),
        json!({"created_at": "2026-02-01T00:00:00Z"}),
    ] {
        assert_ne!(print(other.clone()), first, "{other}");
    }
    assert_eq!(registration(&provider("corp"), &json!({"client_id": ""})), None);
}

/// A symmetric key, a secret and the query of an address are in no output.
#[test]
fn no_secret_of_a_registration_is_printed() {
    let canary = "c4n4ry77c4n4ry77";
    let fields = json!({
        "client_secret": canary,
        "registration_access_token": canary,
        "jwks": {"keys": [key('a'), {"kty": "oct", "k": canary}, {"kty": canary, "n": canary}]},
        "jwks_uri": format!("https://{canary}:{canary}@keys.example.com/?token={canary}"),
        "redirect_uris": [format!("https://app.example.com/?token={canary}")],
    });
    let all = [registered("a", fields.clone()), registered("b", fields)];
    let evaluation = evaluated(&[&identity("a", ""), &identity("b", "")], &all);
    for text in [output::json(&evaluation), output::table(&evaluation), sarif::log(&evaluation, "all.yaml")] {
        assert!(["SC-104", "SC-105", "SC-111"].iter().all(|rule| text.contains(rule)), "{text}");
        assert!(!text.contains(canary), "{text}");
    }
}
