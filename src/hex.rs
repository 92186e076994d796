//! Bytes as lower-case hexadecimal text.

use ring::rand::{SecureRandom, SystemRandom};

/// Two digits a byte.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of such a text. `None`: it is not one.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

/// The first `bytes` of a text's SHA-256 (at most 32).
#[must_use]
pub fn digest(text: &str, bytes: usize) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    encode(digest.as_ref().get(..bytes).unwrap_or(digest.as_ref()))
}

/// `N` random bytes. `None`: the system gives none.
#[must_use]
pub fn random<const N: usize>() -> Option<String> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(encode(&bytes))
}
