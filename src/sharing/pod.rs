//! The ways in which a pod receives the keys of a Secret or of a ConfigMap, as the kubelet delivers them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};

use super::configmap::Reference;
use super::facts::{Edge, Keys, Literal, Meaning, Template, Token};
use super::finding::Grade;

/// Volumes whose Secret a driver or the kubelet reads; no container has it. The volume's kind, and the way to
/// the name.
const DRIVERS: [(&str, &[&str]); 10] = [
    ("azureFile", &["secretName"]),
    ("cephfs", &["secretRef", "name"]),
    ("cinder", &["secretRef", "name"]),
    ("csi", &["nodePublishSecretRef", "name"]),
    ("flexVolume", &["secretRef", "name"]),
    ("iscsi", &["secretRef", "name"]),
    ("rbd", &["secretRef", "name"]),
    ("scaleIO", &["secretRef", "name"]),
    ("storageos", &["secretRef", "name"]),
    ("glusterfs", &["secretRef", "name"]),
];

const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// What has keys that pods receive: the fields in which a pod names it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Origin {
    /// In a volume, or in a source of one that is projected.
    volume: &'static str,
    /// Its name there, in a volume of its own; in a source it is always `name`.
    name: &'static str,
    /// In a variable.
    variable: &'static str,
    /// In a list of what all keys of become variables.
    all: &'static str,
}

const SECRET: Origin = Origin { volume: "secret", name: "secretName", variable: "secretKeyRef", all: "secretRef" };
const CONFIG_MAP: Origin =
    Origin { volume: "configMap", name: "name", variable: "configMapKeyRef", all: "configMapRef" };
const ORIGINS: [Origin; 2] = [SECRET, CONFIG_MAP];

/// One key that a volume holds, and under which file name.
struct Held {
    origin: Origin,
    of: String,
    /// The key and the path it is written to; `None`: all keys, each under its own name.
    item: Option<(String, String)>,
    grade: Grade,
    path: String,
}

impl Held {
    /// What of it there is without a narrower mount.
    fn keys(&self) -> Keys {
        self.item.as_ref().map_or(Keys::All, |(key, _)| Keys::One(key.as_str().into()))
    }
}

pub(super) fn entries(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value[field].as_str().filter(|t| !t.is_empty())
}

/// A field that is true or false. `kubectl` reads YAML 1.1, where these words are; an API server has no other texts
/// in such a field.
pub(super) fn boolean(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| match value.as_str()?.to_ascii_lowercase().as_str() {
        "yes" | "y" | "on" | "true" => Some(true),
        "no" | "n" | "off" | "false" => Some(false),
        _ => None,
    })
}

/// How sure a reference is.
pub(super) fn grade(optional: &Value) -> Grade {
    // The kubelet starts the pod without it, so that nobody knows whether it is there.
    if boolean(optional) == Some(true) { Grade::Potential } else { Grade::Direct }
}

/// How the admission plugin of the API server names the volume of a pod's token; five random letters follow.
const TOKEN_VOLUME: &str = "kube-api-access-";

/// Reads a pod's spec into `facts`.
pub fn read(spec: &Value, client_ids: &BTreeSet<String>, facts: &mut Template) {
    let account = text(spec, "serviceAccountName").or_else(|| text(spec, "serviceAccount"));
    if let Some(account) = account {
        facts.service_account = account.into();
    }
    facts.automount = boolean(&spec["automountServiceAccountToken"]);
    // Either way each container sees the processes of the others.
    facts.shares_processes =
        ["shareProcessNamespace", "hostPID"].iter().any(|field| boolean(&spec[*field]) == Some(true));
    facts.aside.extend(entries(&spec["imagePullSecrets"]).filter_map(|s| text(s, "name")).map(Into::into));
    let mut volumes = BTreeMap::new();
    for volume in entries(&spec["volumes"]) {
        let name = text(volume, "name").unwrap_or_default();
        // Pods of one template are alike in all that is kept of them.
        let shown = if name.starts_with(TOKEN_VOLUME) { TOKEN_VOLUME.trim_end_matches('-') } else { name };
        volumes.insert(name.to_owned(), self::volume(volume, &format!("spec.volumes[{shown}]"), facts));
    }
    let mut mounted = BTreeSet::new();
    for list in CONTAINERS {
        for container in entries(&spec[list]) {
            let name = text(container, "name").unwrap_or_default();
            let path = format!("spec.{list}[{name}]");
            // It sees the processes of its target, and the target its own: what the one receives the other has.
            let name = text(container, "targetContainerName").unwrap_or(name);
            let variables = variables(container);
            environment(container, &variables, name, &path, facts);
            literals(container, &variables, name, &path, client_ids, facts);
            for mount in entries(&container["volumeMounts"]) {
                let volume = text(mount, "name").unwrap_or_default();
                mounted.insert(volume.to_owned());
                for held in volumes.get(volume).into_iter().flat_map(|(held, _)| held) {
                    if let Some(keys) = through(mount, held) {
                        receive(held.origin, edge(held, keys, held.grade, Some(name)), "", facts);
                    }
                }
            }
        }
    }
    for (name, (held, tokens)) in &volumes {
        if mounted.contains(name) {
            facts.tokens.extend(tokens.iter().cloned());
            continue;
        }
        facts.tokens.extend(tokens.iter().map(|token| Token { grade: Grade::Potential, ..token.clone() }));
        for held in held {
            receive(held.origin, edge(held, held.keys(), Grade::Potential, None), "", facts);
        }
    }
}

/// Notes what reaches a container; the name of a variable has a prefix before that of its key.
fn receive(origin: Origin, edge: Edge, prefix: &str, facts: &mut Template) {
    if origin == SECRET {
        facts.edges.push(edge);
    } else {
        facts.configmaps.extend(Reference::new(edge, prefix));
    }
}

fn edge(held: &Held, keys: Keys, grade: Grade, container: Option<&str>) -> Edge {
    let container = container.map(Into::into);
    Edge {
        secret: held.of.as_str().into(),
        keys,
        grade,
        container,
        variable: false,
        credential: false,
        path: held.path.as_str().into(),
    }
}

/// What of a volume's key a mount lets through.
fn through(mount: &Value, held: &Held) -> Option<Keys> {
    // An expression is expanded in the pod: it may be anything.
    if text(mount, "subPathExpr").is_some() {
        return Some(held.keys());
    }
    let Some(sub) = text(mount, "subPath").map(behind).filter(|s| !s.is_empty()) else { return Some(held.keys()) };
    match &held.item {
        // Without items the file of a key is named like the key, which has no slash.
        None if sub.contains('/') => None,
        None => Some(Keys::One(sub.into())),
        Some((_, file)) => {
            let file = clean(file);
            let inside = file == sub || file.strip_prefix(&sub).is_some_and(|rest| rest.starts_with('/'));
            inside.then(|| held.keys())
        }
    }
}

/// A path in a volume without the directory in which the kubelet writes its files, and to which their names link: of
/// keys and items none may begin with two dots.
fn behind(path: &str) -> String {
    let path = clean(path);
    match path.split_once('/') {
        Some((first, rest)) if first.starts_with("..") => rest.to_owned(),
        None if path.starts_with("..") => String::new(),
        _ => path,
    }
}

/// A relative path without empty and `.` steps.
fn clean(path: &str) -> String {
    path.split('/').filter(|step| !step.is_empty() && *step != ".").collect::<Vec<_>>().join("/")
}

/// What a volume holds of Secrets and ConfigMaps; tokens and what cannot be told go to `facts` at once.
fn volume(volume: &Value, path: &str, facts: &mut Template) -> (Vec<Held>, Vec<Token>) {
    let mut tokens = Vec::new();
    let mut held = Vec::new();
    for origin in ORIGINS {
        hold(origin, &volume[origin.volume], origin.name, path, &mut held);
    }
    for (at, source) in entries(&volume["projected"]["sources"]).enumerate() {
        let path = format!("{path}.projected.sources[{at}]");
        for origin in ORIGINS {
            hold(origin, &source[origin.volume], "name", &path, &mut held);
        }
        if source["serviceAccountToken"].is_object() {
            let audience = text(&source["serviceAccountToken"], "audience").unwrap_or_default().into();
            let path = format_smolstr!("{path}.serviceAccountToken");
            tokens.push(Token { grade: Grade::Identity, audience, path });
        }
    }
    let csi = &volume["csi"];
    if csi["driver"].as_str().is_some_and(|driver| STORES.contains(&driver)) {
        let class = text(&csi["volumeAttributes"], "secretProviderClass").unwrap_or_default();
        facts.opaque.push((format_smolstr!("{path}.csi"), format_smolstr!("SecretProviderClass/{class}")));
    }
    for (kind, way) in DRIVERS {
        let name = way.iter().fold(&volume[kind], |at, step| &at[*step]);
        facts.aside.extend(name.as_str().map(Into::into));
    }
    (held, tokens)
}

fn hold(origin: Origin, source: &Value, name: &str, path: &str, held: &mut Vec<Held>) {
    let Some(name) = text(source, name) else { return };
    let (grade, path) = (grade(&source["optional"]), format!("{path}.{}", origin.volume));
    let one = |item| Held { origin, of: name.to_owned(), item, grade, path: path.clone() };
    match source["items"].as_array().filter(|items| !items.is_empty()) {
        None => held.push(one(None)),
        Some(items) => held.extend(items.iter().filter_map(|item| {
            let key = text(item, "key")?;
            Some(one(Some((key.to_owned(), text(item, "path").unwrap_or(key).to_owned()))))
        })),
    }
}

/// `env[].valueFrom.secretKeyRef` and `envFrom[].secretRef`, and the same of ConfigMaps.
fn environment(container: &Value, variables: &[&Value], name: &str, path: &str, facts: &mut Template) {
    for variable in variables {
        let named = text(variable, "name").unwrap_or_default();
        for origin in ORIGINS {
            let reference = &variable["valueFrom"][origin.variable];
            if let (Some(of), Some(key)) = (text(reference, "name"), text(reference, "key")) {
                let edge = Edge {
                    secret: of.into(),
                    keys: Keys::One(key.into()),
                    grade: grade(&reference["optional"]),
                    container: Some(name.into()),
                    variable: true,
                    credential: is_credential_name(named),
                    path: format_smolstr!("{path}.env[{named}].valueFrom.{}", origin.variable),
                };
                receive(origin, edge, "", facts);
            }
        }
    }
    for (at, source) in entries(&container["envFrom"]).enumerate() {
        for origin in ORIGINS {
            let reference = &source[origin.all];
            if let Some(of) = text(reference, "name") {
                let edge = Edge {
                    secret: of.into(),
                    keys: Keys::All,
                    grade: grade(&reference["optional"]),
                    container: Some(name.into()),
                    variable: true,
                    credential: false,
                    path: format_smolstr!("{path}.envFrom[{at}].{}", origin.all),
                };
                receive(origin, edge, text(source, "prefix").unwrap_or_default(), facts);
            }
        }
    }
}

/// The variables of a container: of those with one name the last counts.
fn variables(container: &Value) -> Vec<&Value> {
    let mut seen = HashSet::new();
    let mut all: Vec<&Value> = entries(&container["env"]).collect();
    all.reverse();
    all.retain(|variable| text(variable, "name").is_none_or(|name| seen.insert(name)));
    all
}

/// Client ids and likely credentials among literal variables and arguments; what is fetched from a vault instead.
fn literals(
    container: &Value,
    variables: &[&Value],
    name: &str,
    path: &str,
    client_ids: &BTreeSet<String>,
    facts: &mut Template,
) {
    let Template { literals, opaque, .. } = facts;
    let mut note = |named: &str, value: &str, path: &dyn Fn() -> SmolStr| {
        let means = meaning(named, value, client_ids);
        let literal = |means| Literal { means, container: name.into(), path: path(), grade: Grade::Direct };
        literals.extend(means.map(literal));
    };
    for variable in variables {
        if let (Some(named), Some(value)) = (text(variable, "name"), text(variable, "value")) {
            if is_credential_name(named) && VAULTS.iter().any(|begin| value.starts_with(begin)) {
                opaque.push((format_smolstr!("{path}.env[{named}].value"), "a reference to a vault".into()));
                continue;
            }
            note(named, value, &|| format_smolstr!("{path}.env[{named}].value"));
        }
    }
    for list in ["command", "args"] {
        let words: Vec<&str> = entries(&container[list]).map(|word| word.as_str().unwrap_or_default()).collect();
        for (at, word) in words.iter().enumerate() {
            let Some(flag) = word.strip_prefix('-') else { continue };
            // `--flag=value`, or `--flag` and the next word.
            match (flag.split_once('='), words.get(at + 1)) {
                (Some((named, value)), _) => note(named, value, &|| format_smolstr!("{path}.{list}[{at}]")),
                (None, Some(value)) if !value.starts_with('-') => {
                    note(flag, value, &|| format_smolstr!("{path}.{list}[{}]", at + 1));
                }
                _ => {}
            }
        }
    }
}

/// What a literal of this name means.
pub(super) fn meaning(named: &str, value: &str, client_ids: &BTreeSet<String>) -> Option<Meaning> {
    // A credential may be what the client is called, and must not be told by that.
    if is_credential_name(named) && is_filled(value) {
        Some(Meaning::Credential)
    } else if client_ids.contains(value) {
        Some(Meaning::ClientId(value.into()))
    } else if !is_filled(value) {
        None
    } else {
        ends_with(named, &["clientid"]).then_some(Meaning::UnknownId)
    }
}

/// Whether a variable or flag is named as a client's credential is.
pub(super) fn is_credential_name(name: &str) -> bool {
    ends_with(name, &["clientsecret", "clientassertion", "clientkey", "oidcsecret", "oauthsecret", "oauth2secret"])
}

/// Whether a name ends in one of these, whatever stands between its letters.
fn ends_with(name: &str, ends: &[&str]) -> bool {
    let letters = || name.bytes().rev().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_lowercase());
    ends.iter().any(|end| {
        let mut letters = letters();
        end.bytes().rev().all(|of_end| letters.next() == Some(of_end))
    })
}

/// Drivers that mount what an object of their own says.
const STORES: [&str; 2] = ["secrets-store.csi.k8s.io", "secrets-store-gke.csi.k8s.io"];

/// Annotations that let an agent deliver what another place says.
const AGENTS: [&str; 3] = [
    "vault.hashicorp.com/agent-configmap",
    "vault.security.banzaicloud.io/vault-env-from-path",
    "vault.security.banzaicloud.io/vault-from-path",
];

/// How variables begin for which a webhook puts what it fetches.
const VAULTS: [&str; 2] = ["vault:", ">>vault:"];

/// How references begin that something in the container follows to a vault, a file or a variable.
const REFERENCES: [&str; 10] =
    ["/", "./", "../", "vault:", ">>vault:", "op://", "ref+", "file:", "env:", "arn:aws:secretsmanager:"];

/// How the names of files end that have a key.
const KEY_FILES: [&str; 5] = [".key", ".pem", ".jwk", ".jwks", ".p8"];

/// Whether a literal can be a credential: not empty, and no reference to a variable, a file or a template.
pub(super) fn is_filled(value: &str) -> bool {
    let value = value.trim();
    let refers = REFERENCES.iter().any(|begin| value.starts_with(begin))
        || KEY_FILES.iter().any(|end| value.ends_with(end) && !value.contains(char::is_whitespace));
    // What is only switched on or off is no credential.
    let switch = value == "true" || value == "false";
    !(value.is_empty() || value.starts_with('$') || value.contains("{{") || refers || switch)
}

/// Injectors that deliver by annotation: what they deliver, another system says.
pub fn annotations(annotations: &Value, facts: &mut Template) {
    let injects = |(name, _): &(&String, &Value)| {
        // The configuration of an agent in a ConfigMap says what it fetches.
        name.starts_with("vault.hashicorp.com/agent-inject-secret-") || AGENTS.contains(&name.as_str())
    };
    if let Some((name, _)) = annotations.as_object().into_iter().flatten().find(injects) {
        facts.opaque.push((format_smolstr!("metadata.annotations[{name}]"), "Vault agent".into()));
    }
}
