//! Where a provider connects, and with which keys: everything that is refused before a byte is sent.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use reqwest::Url;
use secrecy::SecretString;

use super::{Context, Object, Trouble, faulty};
use crate::api::condition::Reason;
use crate::api::{Connection, HydraSpec, IdentityProviderSpec, SecretKeyRef, TokenHook, duration};
use crate::config::Config;
use crate::grant::ProviderKey;
use crate::grant::rules::Pattern;
use crate::idp::Idp;
use crate::idp::hydra::{self, dialect::Keys};
use crate::idp::resolver::reserved;

/// A connection and a digest of all that it was made of.
pub(super) type Connected = (Arc<Idp>, [u8; 32]);

/// Makes the connection; nothing is sent to the IdP yet.
pub(super) async fn connect(
    context: &Context,
    object: &Object,
    model: &Arc<Idp>,
    taken: &Taken,
) -> Result<Connected, Trouble> {
    let spec = match &object.spec.connection {
        Connection::Memory(_) => {
            let own = format!("memory://{}/{}", object.key.namespace, object.key.name);
            if !object.key.namespace.is_empty() && object.spec.issuer != own {
                return Err(Trouble::stalled(
                    Reason::IssuerMismatch,
                    format!("The issuer of this provider is always {own}."),
                ));
            }
            return Ok((model.clone(), [0; 32]));
        }
        Connection::Hydra(spec) => spec,
    };
    let admin = check_url(&spec.admin_url, object, &context.config)?;
    // The operator reads the issuer's discovery document: it is a place like any other.
    let mut issuer = Some(check_url(&object.spec.issuer, object, &context.config)?);
    if !object.key.namespace.is_empty() {
        let rules = &context.config.allow_provider_url;
        if !rules.iter().any(|rule| names(rule, &admin)) {
            let why = "The operator's --allow-provider-url does not name this URL; ask the platform team.";
            return Err(Trouble::stalled(Reason::URLNotAllowed, why));
        }
        issuer = issuer.filter(|issuer| rules.iter().any(|rule| names(rule, issuer)));
        if is_taken(taken, &admin) || issuer.as_ref().is_some_and(|issuer| is_taken(taken, issuer)) {
            let why = "A cluster provider uses this URL; a namespaced one may not.";
            return Err(Trouble::stalled(Reason::URLNotAllowed, why));
        }
    }
    let (keys, print) = keys(context, object, spec).await?;
    let limits = object.spec.limits.clone().unwrap_or_default();
    let settings = hydra::Settings {
        admin,
        issuer,
        fenced: spec.admin_fenced,
        access_token_lifetime: duration::parse(&spec.access_token_lifetime).unwrap_or(Duration::from_secs(300)),
        per_second: limits.requests_per_second.and_then(|n| u32::try_from(n).ok()).unwrap_or(200),
        concurrency: limits.concurrency.and_then(|n| usize::try_from(n).ok()).unwrap_or(8),
        keys,
        replica: context.replica.clone(),
        cluster: context.cluster.clone(),
        calls: context.metrics.calls(),
    };
    let hydra = hydra::Hydra::new(settings).map_err(|fault| faulty(&fault))?;
    Ok((Arc::new(Idp::Hydra(hydra)), print))
}

async fn keys(context: &Context, object: &Object, spec: &HydraSpec) -> Result<(Keys, [u8; 32]), Trouble> {
    let hook = match &spec.token_hook {
        None => None,
        Some(TokenHook { api_key_secret_ref: hook }) => {
            Some(key_text(context, object, &secret(context, object, hook).await?, hook)?)
        }
    };
    let consent = &spec.consent.api_key_secret_ref;
    let data = secret(context, object, consent).await?;
    let previous = SecretKeyRef { key: format!("{}-previous", consent.key), ..consent.clone() };
    let previous = match data.contains_key(&previous.key) {
        true => Some(key_text(context, object, &data, &previous)?),
        false => None,
    };
    let consent = key_text(context, object, &data, consent)?;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for part in [hook.as_ref(), Some(&consent), previous.as_ref()].into_iter().flatten() {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    // An edit of what else makes a connection makes another one.
    digest.update(format!("{spec:?} {:?}", object.spec.limits).as_bytes());
    let mut print = [0; 32];
    print.copy_from_slice(digest.finish().as_ref());
    let consent = [Some(consent), previous].into_iter().flatten().map(SecretString::from).collect();
    Ok((Keys { hook: hook.map(SecretString::from), consent }, print))
}

fn secret_namespace<'a>(context: &'a Context, object: &'a Object) -> &'a str {
    if object.key.namespace.is_empty() { &context.config.operator_namespace } else { &object.key.namespace }
}

fn missing(context: &Context, object: &Object, reference: &SecretKeyRef, why: &str) -> Trouble {
    let SecretKeyRef { name, key } = reference;
    let namespace = secret_namespace(context, object);
    let message = format!("Secret {name}, key {key}, in namespace {namespace}: {why}.");
    Trouble::passing(Reason::SecretNotFound, message)
}

type Data = BTreeMap<String, ByteString>;

async fn secret(context: &Context, object: &Object, reference: &SecretKeyRef) -> Result<Data, Trouble> {
    let missing = |why: &str| missing(context, object, reference, why);
    let api: Api<Secret> = Api::namespaced(context.kube.clone(), secret_namespace(context, object));
    match tokio::time::timeout(Duration::from_secs(5), api.get_opt(&reference.name)).await {
        Ok(Ok(Some(secret))) => Ok(secret.data.unwrap_or_default()),
        Ok(Ok(None)) => Err(missing("it does not exist; create it")),
        Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
            Err(missing("the operator may not read it; bind its role to the Secret"))
        }
        Ok(Err(_)) | Err(_) => Err(missing("it could not be read; it is tried again")),
    }
}

fn key_text(context: &Context, object: &Object, data: &Data, reference: &SecretKeyRef) -> Result<String, Trouble> {
    let missing = |why: &str| missing(context, object, reference, why);
    let bytes = data.get(&reference.key).ok_or_else(|| missing("the key is missing"))?;
    let text = str::from_utf8(&bytes.0).map_err(|_| missing("the key is not text"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.len() < 16 {
        return Err(missing("the key has fewer than 16 characters"));
    }
    Ok(text.to_owned())
}

/// Where a provider may point.
fn check_url(text: &str, object: &Object, config: &Config) -> Result<Url, Trouble> {
    let refuse = |why: &str| Trouble::stalled(Reason::URLNotAllowed, format!("{why}."));
    let url = Url::parse(text).map_err(|_| refuse("The URL cannot be read"))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("The URL may not carry credentials, a query or a fragment"));
    }
    // Each of these spellings is a dot segment to the URL library, and a backslash is a slash.
    let dots = |part: &str| matches!(&*part.to_ascii_lowercase().replace("%2e", "."), "." | "..");
    if text.split(['/', '\\']).any(dots) {
        return Err(refuse("The URL may not have dot segments"));
    }
    let host = host(&url).ok_or_else(|| refuse("The URL has no host"))?;
    let loopback = host == Host::Loopback;
    match url.scheme() {
        "https" => {}
        "http" if !object.spec.insecure_http => return Err(refuse("Plain http needs spec.insecureHTTP: true")),
        "http" if !loopback && !config.allow_insecure_http => {
            return Err(refuse("Plain http beyond loopback needs the operator's flag --allow-insecure-http"));
        }
        "http" => {}
        _ => return Err(refuse("The URL must be https")),
    }
    let refused = match &host {
        Host::Loopback => false,
        Host::Address(address) => reserved(*address),
        Host::Name(name) => name == "metadata.google.internal",
    };
    if refused {
        return Err(refuse("Link-local and metadata addresses are refused"));
    }
    Ok(url)
}

/// Whether a rule of `--allow-provider-url` names a URL as it is sent, however the tenant spelt it.
fn names(rule: &str, url: &Url) -> bool {
    match Pattern::parse(rule) {
        Pattern::Exact(exact) => Url::parse(&exact).is_ok_and(|exact| exact == *url),
        prefix @ Pattern::Prefix(_) => prefix.covers(url.as_str()),
    }
}

/// A host, as far as two spellings of it can be told to be the same.
#[derive(PartialEq, Eq)]
enum Host {
    Loopback,
    Address(IpAddr),
    Name(String),
}

fn host(url: &Url) -> Option<Host> {
    // The library has read other spellings of an IPv4 address, and lower-cased a name.
    let text = url.host_str()?;
    let name = text.trim_end_matches('.');
    Some(match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().map(|a| a.to_canonical()) {
        Ok(address) if address.is_loopback() => Host::Loopback,
        Ok(address) => Host::Address(address),
        Err(_) if name == "localhost" || name.ends_with(".localhost") => Host::Loopback,
        Err(_) => Host::Name(name.to_owned()),
    })
}

/// Whether one of two URLs lies at or below the other, on the same host and port.
fn same_place(a: &Url, b: &Url) -> bool {
    let segments = |url: &Url| -> Vec<String> {
        url.path().split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
    };
    let (above, below) = (segments(a), segments(b));
    host(a) == host(b)
        && a.port_or_known_default() == b.port_or_known_default()
        && (above.starts_with(&below) || below.starts_with(&above))
}

/// Where cluster providers connect: a namespaced one may not go there.
pub(super) type Taken = Arc<Mutex<HashMap<ProviderKey, Url>>>;

/// Whether a cluster provider connects to this place.
pub(super) fn is_taken(taken: &Taken, url: &Url) -> bool {
    taken.lock().unwrap_or_else(PoisonError::into_inner).values().any(|other| same_place(url, other))
}

/// Notes where a cluster provider connects; anybody else connects nowhere.
pub(super) fn note_url(taken: &Taken, key: &ProviderKey, url: Option<Url>) {
    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    match url.filter(|_| key.namespace.is_empty()) {
        Some(url) => _ = taken.insert(key.clone(), url),
        None => _ = taken.remove(key),
    }
}

pub(super) fn admin_url(spec: &IdentityProviderSpec) -> Option<Url> {
    match &spec.connection {
        Connection::Hydra(hydra) => Url::parse(&hydra.admin_url).ok(),
        Connection::Memory(_) => None,
    }
}
