//! One-time codes (RFC 6238) and the recovery codes for who has lost what makes them.
//! Invariant: a code is accepted once, and a seed is never shown again after it was confirmed.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use sha2::Digest as _;
use totp_rs::{Builder, Secret as Seed, Totp};
use zeroize::Zeroizing;

use super::seal::{SealError, SealingKey};
use crate::store::{Hidden, TokenHash};
use crate::types::Secret;

/// RFC 4226 section 4, R6: 160 bits are recommended.
const SEED_BYTES: usize = 20;
/// Recovery codes that are handed out at once.
pub(super) const RECOVERY_CODES: usize = 10;
/// Of each: 80 bits, which nobody guesses, so that a plain hash suffices.
const RECOVERY_BYTES: usize = 10;

/// Why codes cannot be made or checked.
#[derive(Debug, thiserror::Error)]
pub(super) enum TotpError {
    /// The seed cannot be sealed or opened.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// It is no seed, or there is no randomness.
    #[error("one-time codes cannot be made")]
    Seed,
}

/// A new seed: what is kept, and what the user's device is told once.
pub(super) struct Begun {
    pub(super) sealed: Hidden<Vec<u8>>,
    /// `otpauth://totp/…`, for a QR code.
    pub(super) uri: Secret,
    /// The seed in base32, for who has to type it.
    pub(super) seed: Secret,
}

pub(super) fn begin(key: &SealingKey, id: &str, name: &str) -> Result<Begun, TotpError> {
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    SystemRandom::new().fill(seed.as_mut_slice()).map_err(|_| TotpError::Seed)?;
    let totp = totp(seed.as_slice(), name)?;
    Ok(Begun {
        sealed: Hidden(key.seal(&purpose(id), seed.as_slice())?),
        uri: Secret::new(totp.to_url().map_err(|_| TotpError::Seed)?),
        seed: Secret::new(base32(seed.as_slice())),
    })
}

/// The step that the code is of, where it is of the present one, the one before or the one after, and later than
/// `last`.
pub(super) fn check(
    key: &SealingKey,
    id: &str,
    sealed: &Hidden<Vec<u8>>,
    last: u64,
    code: &str,
    now: jiff::Timestamp,
) -> Result<Option<u64>, TotpError> {
    let seed = key.open_sealed(&purpose(id), &sealed.0)?;
    let now = u64::try_from(now.as_second()).unwrap_or(0);
    Ok(totp(&seed, id)?.check(code, now).filter(|step| *step > last))
}

/// Whether this could be a one-time code; anything else is tried as a recovery code.
pub(super) fn is_code(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// New recovery codes, and the hashes that are kept of them.
pub(super) fn recovery() -> Result<(Vec<Secret>, Vec<TokenHash>), TotpError> {
    let mut codes = Vec::with_capacity(RECOVERY_CODES);
    let mut hashes = Vec::with_capacity(RECOVERY_CODES);
    for _ in 0..RECOVERY_CODES {
        let mut bytes = Zeroizing::new([0; RECOVERY_BYTES]);
        SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| TotpError::Seed)?;
        let text = Zeroizing::new(base32(bytes.as_slice()).to_lowercase());
        let groups: Vec<&str> = text.as_bytes().chunks(4).filter_map(|group| std::str::from_utf8(group).ok()).collect();
        let code = Secret::new(groups.join("-"));
        hashes.push(recovery_hash(code.reveal()));
        codes.push(code);
    }
    Ok((codes, hashes))
}

/// What is kept of a recovery code, however it was typed.
pub(super) fn recovery_hash(code: &str) -> TokenHash {
    let plain: Zeroizing<String> =
        Zeroizing::new(code.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase());
    sha2::Sha256::new().chain_update(b"debvisor recovery code\0").chain_update(plain.as_bytes()).finalize().into()
}

fn purpose(id: &str) -> String {
    format!("totp/{id}")
}

fn totp(seed: &[u8], account: &str) -> Result<Totp, TotpError> {
    let builder = Builder::new().with_secret(Seed::from(seed.to_vec())).with_skew(1);
    builder.with_issuer(Some("DebVisor")).with_account_name(account).build().map_err(|_| TotpError::Seed)
}

/// RFC 4648 section 6, without padding, as authenticators read it.
fn base32(bytes: &[u8]) -> String {
    Seed::from(bytes.to_vec()).to_base32()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).unwrap()
    }

    fn sealed(key: &SealingKey, seed: &[u8]) -> Hidden<Vec<u8>> {
        Hidden(key.seal(&purpose("id"), seed).unwrap())
    }

    #[test]
    fn codes_are_those_of_rfc_6238_within_a_step_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let key = SealingKey::open(&dir.path().join("key")).unwrap();
        // Appendix B, SHA-1: at 59 s and 1111111109 s; the last six of the eight digits.
        let kept = sealed(&key, b"12345678901234567890");
        let found = |last, code, second| check(&key, "id", &kept, last, code, at(second)).unwrap();
        assert_eq!(found(0, "287082", 59), Some(1));
        assert_eq!(found(0, "081804", 1_111_111_109), Some(37_037_036));
        assert_eq!(found(0, "287082", 59 + 30), Some(1), "one step late");
        assert_eq!(found(0, "287082", 59 - 30), Some(1), "one step early");
        assert_eq!(found(0, "287082", 59 + 61), None, "two steps late");
        assert_eq!(found(1, "287082", 59), None, "it was used");
        assert_eq!(found(0, "287083", 59), None);
    }

    #[test]
    fn a_seed_is_told_once_as_authenticators_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let key = SealingKey::open(&dir.path().join("key")).unwrap();
        let begun = begin(&key, "id", "alice").unwrap();
        let uri = begun.uri.reveal();
        assert!(uri.starts_with("otpauth://totp/DebVisor:alice?"), "{uri}");
        assert!(uri.contains(&format!("secret={}", begun.seed.reveal())), "{uri}");
        assert_eq!(begun.seed.reveal().len(), 32, "160 bits");
        let seed = key.open_sealed("totp/id", &begun.sealed.0).unwrap();
        let code = totp(&seed, "alice").unwrap().generate(1_790_000_000).to_string();
        assert_eq!(check(&key, "id", &begun.sealed, 0, &code, at(1_790_000_000)).unwrap(), Some(1_790_000_000 / 30));
        assert!(
            check(&key, "another", &begun.sealed, 0, &code, at(1_790_000_000)).is_err(),
            "it is sealed for its user"
        );
    }

    #[test]
    fn recovery_codes_differ_and_are_found_however_they_are_typed() {
        let (codes, hashes) = recovery().unwrap();
        assert_eq!(codes.len(), RECOVERY_CODES);
        let distinct: std::collections::HashSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), RECOVERY_CODES);
        let first = codes[0].reveal();
        assert_eq!(first.len(), 19, "{first}");
        assert_eq!(recovery_hash(&first.to_uppercase().replace('-', " ")), hashes[0]);
        assert!(!is_code(first) && is_code("012345") && !is_code("01234５"));
    }
}
