//! How starter and step daemon prove to each other that they belong to the same step, by HMAC-SHA256 (RFC 2104) over
//! nonces of both sides. The key itself never travels between them: each has it from the supervisor of its own node,
//! and the supervisors derive it from the gang's secret.

use std::io::Read;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Who proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The process that the user started, or a daemon that stands for it towards those below.
    Starter,
    /// The daemon of an instance.
    Daemon(u32),
}

/// The key of a step, in hexadecimal digits, from the attempt's secret and a nonce of the step's own.
pub fn step_key(gang_token: &str, step: u32, nonce: &str) -> String {
    to_hex(&mac(gang_token, &format!("muster step {step} {nonce}")).finalize().into_bytes())
}

/// A nonce, in hexadecimal digits.
///
/// # Errors
///
/// Those of `/dev/urandom`.
pub fn nonce() -> std::io::Result<String> {
    let mut random = [0u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(to_hex(&random))
}

/// The proof of a side that it knows the key, over the nonces of starter and daemon.
pub fn proof(key: &str, side: Side, starter: &str, daemon: &str) -> String {
    to_hex(&proof_mac(key, side, starter, daemon).finalize().into_bytes())
}

/// Whether a proof holds; compared in constant time.
pub fn holds(given: &str, key: &str, side: Side, starter: &str, daemon: &str) -> bool {
    from_hex(given).is_some_and(|given| proof_mac(key, side, starter, daemon).verify_slice(&given).is_ok())
}

/// Hides a short secret on its way between two who share `key`: each byte is combined with one of a pad that HMAC-SHA256
/// makes of the nonce, which must serve once only (HMAC as a pseudorandom function in counter mode, NIST SP 800-108).
/// Gives hexadecimal digits.
pub fn veil(key: &str, nonce: &str, secret: &str) -> String {
    to_hex(&padded(key, nonce, secret.as_bytes()))
}

/// The secret again; `None` if that was none.
pub fn unveil(key: &str, nonce: &str, veiled: &str) -> Option<String> {
    String::from_utf8(padded(key, nonce, &from_hex(veiled)?)).ok()
}

fn padded(key: &str, nonce: &str, bytes: &[u8]) -> Vec<u8> {
    let pad = (0u32..)
        .flat_map(|block| mac(key, &format!("muster veil {nonce} {block}")).finalize().into_bytes().to_vec());
    bytes.iter().zip(pad).map(|(byte, pad)| byte ^ pad).collect()
}

fn proof_mac(key: &str, side: Side, starter: &str, daemon: &str) -> Hmac<Sha256> {
    let side = match side {
        Side::Starter => "starter".to_owned(),
        Side::Daemon(instance) => format!("daemon {instance}"),
    };
    mac(key, &format!("muster step {side} {starter} {daemon}"))
}

fn mac(key: &str, text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac
}

/// Hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_veiled_secret_is_seen_by_who_knows_key_and_nonce() {
        let secret = step_key("t", 1, "n").repeat(2);
        let veiled = veil("k", "n", &secret);
        assert_eq!(unveil("k", "n", &veiled), Some(secret.clone()));
        assert_ne!(veiled, to_hex(secret.as_bytes()));
        assert_ne!(veiled[..64], veiled[64..128], "no block of the pad is that of another");
        for (key, nonce) in [("l", "n"), ("k", "m")] {
            assert_ne!(unveil(key, nonce, &veiled), Some(secret.clone()));
        }
        assert_eq!(unveil("k", "n", "zz"), None);
    }

    #[test]
    fn a_proof_depends_on_everything() {
        let right = proof("k", Side::Daemon(1), "a", "b");
        assert!(holds(&right, "k", Side::Daemon(1), "a", "b"));
        for (key, side, starter, daemon) in [
            ("l", Side::Daemon(1), "a", "b"),
            ("k", Side::Daemon(2), "a", "b"),
            ("k", Side::Starter, "a", "b"),
            ("k", Side::Daemon(1), "c", "b"),
            ("k", Side::Daemon(1), "a", "c"),
        ] {
            assert!(!holds(&right, key, side, starter, daemon));
        }
        for wrong in ["", "0", "zz", "é1"] {
            assert!(!holds(wrong, "k", Side::Starter, "a", "b"));
        }
        assert_ne!(step_key("t", 1, "n"), step_key("t", 2, "n"));
    }
}
