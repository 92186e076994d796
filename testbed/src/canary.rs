//! Canaries: every secret of the bed is random, and nobody may repeat one.
//!
//! Keys, client secrets, private keys, tokens and codes are remembered as they are made. What the operator says
//! (log, status, event, metric, error, panic) is then searched for all of them, also where one stands in base64,
//! as in a Secret's `data`, in a kubeconfig or in an `Authorization` header, and where only its beginning stands.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};

/// So much of a secret is enough to find it, and hardly ever there by chance.
const NEEDLE: usize = 16;
/// Of a private key in PEM (PKCS#8, P-256) this line begins with the key's own bytes: the one before says the
/// kind, and what follows is the public key.
const OF_THE_KEY: usize = 2;

type Needles = HashMap<[u8; NEEDLE], &'static str>;

static WATCHED: LazyLock<Mutex<Needles>> = LazyLock::new(Mutex::default);
static HOOK: LazyLock<String> = LazyLock::new(|| random("the token hook's key"));
static CONSENT: LazyLock<String> = LazyLock::new(|| random("the consent app's key"));
static CLIENT: LazyLock<String> = LazyLock::new(|| random("a client secret"));
static SYSTEM: LazyLock<String> = LazyLock::new(|| random("Hydra's system secret"));

/// The key that Hydra presents at the token hook.
pub fn hook_key() -> &'static str {
    &HOOK
}

/// The key that the consent app presents.
pub fn consent_key() -> &'static str {
    &CONSENT
}

/// The secret of every client that [`Bed::client`](crate::bed::Bed::client) registers.
pub fn client_secret() -> &'static str {
    &CLIENT
}

/// What Hydra encrypts with; the same for all of a process, so that tokens stay valid over a restart.
pub(crate) fn system_secret() -> &'static str {
    &SYSTEM
}

/// A new secret of 32 letters and digits, watched from now on as `what`.
pub fn random(what: &'static str) -> String {
    let mut bytes = [0; NEEDLE];
    // Without randomness nothing here works, certificates included.
    SystemRandom::new().fill(&mut bytes).expect("the system has random numbers");
    let secret = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    watch(what, &secret);
    secret
}

/// Watches a secret that somebody else made: a token, a code. What is too short to be told from chance is not.
pub fn watch(what: &'static str, secret: &str) {
    // Of a JWT the signature alone is secret; Hydra's tokens begin with what they are.
    let own = secret.rsplit('.').next().unwrap_or_default();
    let start = secret.strip_prefix("ory_").and_then(|rest| Some(rest.split_once('_')?.1));
    let mut watched = watched();
    for part in start.into_iter().chain([own]) {
        for form in forms(part.as_bytes()) {
            if let Some(needle) = form.first_chunk() {
                watched.insert(*needle, what);
            }
        }
    }
}

/// Watches a private key in PEM.
pub(crate) fn watch_pem(key: &str) {
    watch("a private key", key.lines().nth(OF_THE_KEY).unwrap_or_default());
}

/// What of everything watched stands in a text: what it is, and the line.
pub fn search(text: &str) -> Vec<String> {
    let watched = watched();
    let found = |line: &str| {
        let mut what: Vec<&str> =
            line.as_bytes().windows(NEEDLE).filter_map(|window| watched.get(window).copied()).collect();
        what.sort_unstable();
        what.dedup();
        what
    };
    let lines = text.lines().enumerate();
    lines.flat_map(|(at, line)| found(line).into_iter().map(move |what| format!("line {}: {what}", at + 1))).collect()
}

/// Panics where a text repeats a secret; without repeating it once more.
///
/// # Panics
/// Where it does, unless this thread panics already.
pub fn untold(what: &str, text: &str) {
    let told = search(text);
    assert!(told.is_empty() || std::thread::panicking(), "{what} tells what is secret: {}", told.join(", "));
}

fn watched() -> MutexGuard<'static, Needles> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How bytes may stand in a text: as they are, and in base64 wherever in the encoded bytes they begin.
fn forms(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let encoded = (0..3).flat_map(|before| {
        let shifted = [&[0; 3][..before], bytes].concat();
        // The letters that what stands before has a part in.
        let shared = [0, 2, 3][before];
        [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)]
            .map(|text| text.as_bytes().get(shared..).unwrap_or_default().to_vec())
    });
    std::iter::once(bytes.to_vec()).chain(encoded)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_secret_is_found_wherever_it_stands() {
        let secret = random("a test");
        for before in ["", "a", "ab", "abc"] {
            let encoded = STANDARD.encode(format!("{before}{secret}:after"));
            assert_eq!(search(&format!("first\nkey={encoded} last")), ["line 2: a test"], "{before:?}");
        }
        assert_eq!(search(&format!("Bearer {secret}")), ["line 1: a test"]);
        assert_eq!(search(&format!("only {}…", &secret[..20])), ["line 1: a test"], "its beginning");
        assert_eq!(search("nothing of it"), <[&str; 0]>::default());
        let panic = std::panic::catch_unwind(|| untold("the log", &secret)).unwrap_err();
        let panic = panic.downcast_ref::<String>().unwrap();
        assert!(panic.contains("line 1: a test") && search(panic).is_empty(), "{panic}");
        assert_ne!(random("another"), secret);
    }

    #[test]
    fn tokens_and_keys_of_others_are_found() {
        watch("an access token", "ory_at_7Vd1lU0pQv2bXcW8hJk4.s5D6f7G8h9J0kLmNpQrS");
        watch("a JWT", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.MEUCIQDs8yKfW1qZbXv0");
        watch_pem("-----BEGIN PRIVATE KEY-----\nthe same for every key of a kind\nbut this line is only of one key\n");
        for (text, what) in [
            ("ory_at_7Vd1lU0pQv2bXcW8hJk4", "an access token"),
            ("s5D6f7G8h9J0kLmNpQrS", "an access token"),
            ("eyJ.eyJ.MEUCIQDs8yKfW1qZbXv0", "a JWT"),
            ("x but this line is only of one key", "a private key"),
        ] {
            assert_eq!(search(text), [format!("line 1: {what}")], "{text}");
        }
        for text in ["eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0", "ory_at_", "the same for every key of a kind"] {
            assert_eq!(search(text), <[&str; 0]>::default(), "{text}");
        }
    }
}
