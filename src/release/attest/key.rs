//! Managed private keys: made, kept at rest in cosign's encrypted form, read back, and used to sign.
//!
//! A key file is PEM around JSON: scrypt makes a key of the password, NaCl's secretbox (XSalsa20-Poly1305) seals the
//! PKCS #8 with it (go-securesystemslib, package `encrypted`). cosign reads what is written here and the reverse.
//! Invariant: no file, no terminal, no environment. Callers bring bytes and the password; secrets are wiped on drop.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use crypto_secretbox::aead::Aead as _;
use crypto_secretbox::{Key, KeyInit as _, Nonce, XSalsa20Poly1305};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::release::evidence::json;
use crate::release::evidence::key::{KeyKind, PublicKey};
use crate::types::{Code, Digest, DigestAlgorithm, limits};

/// Why there is no key. None of these carries a byte of the key or of the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// More bytes than any key has.
    #[error("the file is larger than {} bytes", limits::KEY_BYTES)]
    TooLarge,
    /// Not PEM, or PEM with something around it.
    #[error("the file is not one block of PEM: {0}")]
    Pem(String),
    /// PEM of another kind.
    #[error("a `{0}` is not a key that can be used; wanted is PKCS #8 (`PRIVATE KEY`) or cosign's encrypted form")]
    Label(String),
    /// The key is encrypted and no password was given.
    #[error("the key is encrypted and no password was given")]
    PasswordRequired,
    /// The password does not open it, or the file was changed: the two cannot be told apart.
    #[error("the password does not open the key, or the file is damaged")]
    WrongPassword,
    /// The encrypted form is malformed or asks for another algorithm.
    #[error("the encrypted key is malformed: {0}")]
    Malformed(String),
    /// What was sealed is no key of an accepted kind.
    #[error("the key is not ECDSA P-256 or P-384, Ed25519 or RSA of 2048 bits or more in PKCS #8")]
    Unsupported,
    /// The operating system gave no randomness, or the library refused to sign.
    #[error("{0}")]
    Library(&'static str),
}

/// A private key in memory.
pub struct PrivateKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({:?})", self.public)
    }
}

/// A new key pair as the two files that hold it.
#[derive(Debug)]
pub struct KeyFiles {
    /// The encrypted private key in PEM.
    pub private_pem: Zeroizing<String>,
    /// The public key in PEM.
    pub public_pem: String,
    /// The public key itself.
    pub public: PublicKey,
}

/// What new key files are labelled; cosign's current form.
const LABEL_SIGSTORE: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// What cosign wrote before version 2.
const LABEL_COSIGN: &str = "ENCRYPTED COSIGN PRIVATE KEY";
const LABEL_PKCS8: &str = "PRIVATE KEY";

/// Whether a file in PEM claims to be an encrypted private key, so that a caller knows to ask for its password.
pub fn is_encrypted(pem: &[u8]) -> bool {
    pem_rfc7468::decode_label(pem).is_ok_and(|label| label == LABEL_SIGSTORE || label == LABEL_COSIGN)
}

/// Makes a new ECDSA P-256 key and seals it with `password`; an empty password is cosign's "no password".
///
/// # Errors
/// [`KeyError::Library`] where the operating system has no randomness.
pub fn generate(password: &[u8]) -> Result<KeyFiles, KeyError> {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &random)
        .map_err(|_| KeyError::Library("no key could be made"))?;
    let key = PrivateKey::from_pkcs8(pkcs8.as_ref())?;
    let private_pem = seal(pkcs8.as_ref(), password, &random)?;
    Ok(KeyFiles { private_pem, public_pem: key.public.to_pem(), public: key.public })
}

impl PrivateKey {
    /// Reads a key file: cosign's encrypted form under either of its labels, or plain PKCS #8.
    ///
    /// # Errors
    /// A [`KeyError`]; [`KeyError::PasswordRequired`] where the key is encrypted and `password` is none.
    pub fn load(pem: &[u8], password: Option<&[u8]>) -> Result<Self, KeyError> {
        if pem.len() as u64 > limits::KEY_BYTES {
            return Err(KeyError::TooLarge);
        }
        let (label, body) = pem_rfc7468::decode_vec(pem).map_err(|error| KeyError::Pem(error.to_string()))?;
        let body = Zeroizing::new(body);
        match label {
            LABEL_PKCS8 => Self::from_pkcs8(&body),
            LABEL_SIGSTORE | LABEL_COSIGN => {
                let password = password.ok_or(KeyError::PasswordRequired)?;
                Self::from_pkcs8(&open(&body, password)?)
            }
            other => Err(KeyError::Label(other.to_owned())),
        }
    }

    /// A P-256 key for one signature, never written down.
    ///
    /// # Errors
    /// [`KeyError::Library`] where randomness fails.
    pub fn ephemeral() -> Result<Self, KeyError> {
        let refused = |_| KeyError::Library("the library could not make a key");
        let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).map_err(refused)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Reads PKCS #8 in DER.
    ///
    /// # Errors
    /// [`KeyError::Unsupported`] for any key that is not of a kind that DebVisor signs with.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let ecdsa = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der).ok().map(Pair::Ecdsa);
        let pair = ecdsa(&signature::ECDSA_P256_SHA256_ASN1_SIGNING)
            .or_else(|| ecdsa(&signature::ECDSA_P384_SHA384_ASN1_SIGNING))
            .or_else(|| Ed25519KeyPair::from_pkcs8(der).ok().map(Pair::Ed25519))
            .or_else(|| RsaKeyPair::from_pkcs8(der).ok().map(|pair| Pair::Rsa(Box::new(pair))))
            .ok_or(KeyError::Unsupported)?;
        let spki: Result<PublicKeyX509Der<'_>, _> = match &pair {
            Pair::Ecdsa(pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
        };
        let spki = spki.map_err(|_| KeyError::Unsupported)?;
        // The public half is judged like anybody's, so a weak key cannot sign what our own verifier would refuse.
        let public = PublicKey::from_spki(spki.as_ref()).map_err(|_| KeyError::Unsupported)?;
        Ok(Self { pair, public })
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The public half as SubjectPublicKeyInfo in DER.
    pub fn public_key_spki(&self) -> &[u8] {
        self.public.spki()
    }

    /// What kind of key it is.
    pub const fn kind(&self) -> KeyKind {
        self.public.kind()
    }

    /// Signs a message of which only the digest is here.
    ///
    /// # Errors
    /// [`KeyError::Library`] where the digest is not the one that the key goes with, or the key signs whole messages.
    pub fn sign_digest(&self, digest: &Digest) -> Result<Vec<u8>, KeyError> {
        let refused = |_| KeyError::Library("the library refused to sign a digest of this kind");
        let algorithm = match digest.algorithm() {
            DigestAlgorithm::Sha256 => &aws_lc_rs::digest::SHA256,
            DigestAlgorithm::Sha384 => &aws_lc_rs::digest::SHA384,
            DigestAlgorithm::Sha512 => &aws_lc_rs::digest::SHA512,
        };
        let imported = aws_lc_rs::digest::Digest::import_less_safe(digest.as_bytes(), algorithm).map_err(refused)?;
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign_digest(&imported).map(|found| found.as_ref().to_vec()).map_err(refused),
            Pair::Ed25519(_) => Err(KeyError::Library("Ed25519 signs whole messages")),
            Pair::Rsa(pair) => {
                let mut found = vec![0; pair.public_modulus_len()];
                pair.sign_digest(&signature::RSA_PKCS1_SHA256, &imported, &mut found).map_err(refused)?;
                Ok(found)
            }
        }
    }

    /// Signs `message`; the digest follows from the key. ECDSA signatures are in ASN.1 DER.
    ///
    /// # Errors
    /// [`KeyError::Library`] where the library refuses, which randomness that fails can cause.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let refused = |_| KeyError::Library("the library refused to sign");
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, message).map(|found| found.as_ref().to_vec()).map_err(refused),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut found = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut found).map_err(refused)?;
                Ok(found)
            }
        }
    }
}

/// The JSON inside an encrypted key file, members in the order that cosign writes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    name: String,
    params: ScryptParams,
    salt: String,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct ScryptParams {
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cipher {
    name: String,
    nonce: String,
}

const KDF: &str = "scrypt";
const CIPHER: &str = "nacl/secretbox";
const SALT_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// What is written, as cosign does: 64 MiB of memory for each guess.
const STANDARD: ScryptParams = ScryptParams { n: 65_536, r: 8, p: 1 };
/// The cost exponents that are read: from cosign's first keys (2^15) to 2^20, which takes 1 GiB.
/// A file must not be able to ask for all of the memory.
const LOG2_N: std::ops::RangeInclusive<u32> = 15..=20;

fn seal(pkcs8: &[u8], password: &[u8], random: &SystemRandom) -> Result<Zeroizing<String>, KeyError> {
    let mut salt = [0; SALT_BYTES];
    let mut nonce = [0; NONCE_BYTES];
    let no_randomness = |_| KeyError::Library("the operating system gave no randomness");
    random.fill(&mut salt).map_err(no_randomness)?;
    random.fill(&mut nonce).map_err(no_randomness)?;
    let ciphertext = secretbox(password, &salt, STANDARD)?
        .encrypt(Nonce::from_slice(&nonce), pkcs8)
        .map_err(|_| KeyError::Library("the key could not be sealed"))?;
    let sealed = Sealed {
        kdf: Kdf { name: KDF.to_owned(), params: STANDARD, salt: base64(&salt) },
        cipher: Cipher { name: CIPHER.to_owned(), nonce: base64(&nonce) },
        ciphertext: base64(&ciphertext),
    };
    let json = serde_json::to_vec(&sealed).map_err(|error| KeyError::Malformed(error.to_string()))?;
    pem_rfc7468::encode_string(LABEL_SIGSTORE, pem_rfc7468::LineEnding::LF, &json)
        .map(Zeroizing::new)
        .map_err(|error| KeyError::Pem(error.to_string()))
}

fn open(body: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let malformed = |what: &str| KeyError::Malformed(what.to_owned());
    let sealed: Sealed =
        json::parse(body, Code::MalformedJson).map_err(|reason| KeyError::Malformed(reason.message))?;
    if sealed.kdf.name != KDF {
        return Err(malformed("its key derivation is not scrypt"));
    }
    if sealed.cipher.name != CIPHER {
        return Err(malformed("its cipher is not nacl/secretbox"));
    }
    let decode = |text: &str| json::base64_bytes::decode(text).ok_or_else(|| malformed("a value is not base64"));
    let nonce = decode(&sealed.cipher.nonce)?;
    if nonce.len() != NONCE_BYTES {
        return Err(malformed("its nonce has not 24 bytes"));
    }
    let cipher = secretbox(password, &decode(&sealed.kdf.salt)?, sealed.kdf.params)?;
    cipher
        .decrypt(Nonce::from_slice(&nonce), decode(&sealed.ciphertext)?.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| KeyError::WrongPassword)
}

fn secretbox(password: &[u8], salt: &[u8], params: ScryptParams) -> Result<XSalsa20Poly1305, KeyError> {
    let malformed = |what: &str| KeyError::Malformed(what.to_owned());
    if !params.n.is_power_of_two() || !LOG2_N.contains(&params.n.ilog2()) || params.r != 8 || params.p != 1 {
        return Err(malformed("its scrypt parameters are outside what is accepted: N of 2^15 to 2^20, r = 8, p = 1"));
    }
    let log2_n = u8::try_from(params.n.ilog2()).map_err(|_| malformed("its scrypt parameters"))?;
    let settings = scrypt::Params::new(log2_n, params.r, params.p, scrypt::Params::RECOMMENDED_LEN)
        .map_err(|_| malformed("its scrypt parameters"))?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password, salt, &settings, key.as_mut_slice()).map_err(|_| malformed("its scrypt parameters"))?;
    Ok(XSalsa20Poly1305::new(Key::from_slice(key.as_slice())))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(label: &str, body: &[u8]) -> String {
        pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, body).unwrap()
    }

    /// The body of a sealed key with one thing changed.
    fn changed(private_pem: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
        let (label, body) = pem_rfc7468::decode_vec(private_pem.as_bytes()).unwrap();
        let mut value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        change(&mut value);
        pem(label, &serde_json::to_vec(&value).unwrap())
    }

    #[test]
    fn a_generated_key_opens_with_its_password_only_and_signs() {
        let files = generate(b"correct horse").unwrap();
        assert!(is_encrypted(files.private_pem.as_bytes()));
        assert!(!is_encrypted(files.public_pem.as_bytes()));
        let key = PrivateKey::load(files.private_pem.as_bytes(), Some(b"correct horse")).unwrap();
        let public = PublicKey::from_pem(files.public_pem.as_bytes()).unwrap();
        assert_eq!(key.public(), &public);
        let signature = key.sign(b"message").unwrap();
        public.verify(b"message", &signature).unwrap();
        public.verify(b"massage", &signature).unwrap_err();
        let load = |password: Option<&[u8]>| PrivateKey::load(files.private_pem.as_bytes(), password).unwrap_err();
        assert_eq!(load(Some(b"wrong")), KeyError::WrongPassword);
        assert_eq!(load(Some(b"")), KeyError::WrongPassword);
        assert_eq!(load(None), KeyError::PasswordRequired);
    }

    #[test]
    fn the_wire_form_is_cosigns() {
        let files = generate(b"").unwrap();
        assert!(files.private_pem.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"));
        assert!(files.private_pem.lines().all(|line| line.len() <= 64));
        let (_, body) = pem_rfc7468::decode_vec(files.private_pem.as_bytes()).unwrap();
        let text = String::from_utf8(body).unwrap();
        assert!(
            text.starts_with(r#"{"kdf":{"name":"scrypt","params":{"N":65536,"r":8,"p":1},"salt":""#),
            "member order and numbers: {text}"
        );
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["cipher"]["name"], "nacl/secretbox");
        assert_eq!(json::base64_bytes::decode(value["kdf"]["salt"].as_str().unwrap()).unwrap().len(), 32);
        assert_eq!(json::base64_bytes::decode(value["cipher"]["nonce"].as_str().unwrap()).unwrap().len(), 24);
        assert!(files.public_pem.starts_with("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"));
    }

    #[test]
    fn a_changed_key_file_is_refused_whatever_was_changed() {
        let files = generate(b"pw").unwrap();
        let load = |text: &str| PrivateKey::load(text.as_bytes(), Some(b"pw")).unwrap_err();
        let cases: [fn(&mut serde_json::Value); 7] = [
            |value| value["kdf"]["name"] = "pbkdf2".into(),
            |value| value["cipher"]["name"] = "aes-gcm".into(),
            |value| value["cipher"]["nonce"] = "AAAA".into(),
            |value| value["kdf"]["params"]["N"] = 1024.into(),
            |value| value["kdf"]["params"]["N"] = (1_u64 << 31).into(),
            |value| value["kdf"]["params"]["r"] = 4096.into(),
            |value| value["extra"] = 1.into(),
        ];
        for case in cases {
            let error = load(&changed(&files.private_pem, case));
            assert!(matches!(error, KeyError::Malformed(_)), "{error:?}");
        }
        let damaged = changed(&files.private_pem, |value| {
            let mut bytes = json::base64_bytes::decode(value["ciphertext"].as_str().unwrap()).unwrap();
            bytes[20] ^= 1;
            value["ciphertext"] = base64(&bytes).into();
        });
        assert_eq!(load(&damaged), KeyError::WrongPassword);
    }

    #[test]
    fn the_older_label_is_read_and_others_are_not() {
        let files = generate(b"pw").unwrap();
        let (_, body) = pem_rfc7468::decode_vec(files.private_pem.as_bytes()).unwrap();
        PrivateKey::load(pem(LABEL_COSIGN, &body).as_bytes(), Some(b"pw")).unwrap();
        for label in ["EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "PUBLIC KEY"] {
            let error = PrivateKey::load(pem(label, &body).as_bytes(), Some(b"pw")).unwrap_err();
            assert_eq!(error, KeyError::Label(label.to_owned()));
        }
        let large = "-".repeat(usize::try_from(limits::KEY_BYTES).unwrap() + 1);
        assert_eq!(PrivateKey::load(large.as_bytes(), None).unwrap_err(), KeyError::TooLarge);
    }

    #[test]
    fn plain_pkcs8_of_every_accepted_algorithm_signs_and_verifies() {
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
        let random = SystemRandom::new();
        let rsa = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let rsa = AsDer::<Pkcs8V1Der<'_>>::as_der(&rsa).unwrap();
        let p384 = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P384_SHA384_ASN1_SIGNING, &random).unwrap();
        let p256 = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        for (der, kind) in [
            (p256.as_ref(), KeyKind::P256),
            (p384.as_ref(), KeyKind::P384),
            (ed25519.as_ref(), KeyKind::Ed25519),
            (rsa.as_ref(), KeyKind::Rsa),
        ] {
            let key = PrivateKey::load(pem(LABEL_PKCS8, der).as_bytes(), None).unwrap();
            assert_eq!(key.kind(), kind);
            let signature = key.sign(b"message").unwrap();
            let public = PublicKey::from_pem(key.public().to_pem().as_bytes()).unwrap();
            public.verify(b"message", &signature).unwrap();
        }
        let p521 = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P521_SHA512_ASN1_SIGNING, &random).unwrap();
        assert_eq!(PrivateKey::from_pkcs8(p521.as_ref()).unwrap_err(), KeyError::Unsupported);
    }

    /// Sealed by other code: Python's hashlib.scrypt and libsodium's secretbox over a key that OpenSSL made.
    const SEALED_ELSEWHERE: &str = "\
-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----
eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjo2NTUzNiwiciI6
OCwicCI6MX0sInNhbHQiOiJBQUVDQXdRRkJnY0lDUW9MREEwT0R4QVJFaE1VRlJZ
WEdCa2FHeHdkSGg4PSJ9LCJjaXBoZXIiOnsibmFtZSI6Im5hY2wvc2VjcmV0Ym94
Iiwibm9uY2UiOiJaR1ZtWjJocGFtdHNiVzV2Y0hGeWMzUjFkbmQ0ZVhwNyJ9LCJj
aXBoZXJ0ZXh0IjoiWXZhNldmdENGdmVEak9RcUhzWXpCN3IxVGg2UXY1OG11bDJk
MGl3QWJzbUZKbGJ0Rmk1L2VBZWpxaEpqNlhyNVhKNm5aSW9NLzZMSDg3VXBhQjhk
UWVVREVFQjV5RGl4d2Z5Q2NSRmpsa1psTXgvSEN4YmNteVdFcXNpV3BvempBRTRD
bzV0ZHFudlM4TkcwVzRiMFpoMGplS0h0QnN0MjMwbGozUWNiRksxOWJmeW9zdWJB
TG1VRFhub2d2UnZZNXZuSGpxeUpEMUFVV3c9PSJ9
-----END ENCRYPTED SIGSTORE PRIVATE KEY-----
";
    const SEALED_ELSEWHERE_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEorm52Y2OqqwNxRptsSN5cR8S2q9z
d1LFW6IFkxFYzNpdFplZtkHPYHfRjU4Ks43mSVT5DZZg+EB25POvj+H8zQ==
-----END PUBLIC KEY-----
";

    #[test]
    fn a_key_that_other_code_sealed_opens() {
        let key = PrivateKey::load(SEALED_ELSEWHERE.as_bytes(), Some(b"known answer")).unwrap();
        assert_eq!(key.public().to_pem(), SEALED_ELSEWHERE_PUBLIC);
        // The last newline is not everybody's habit, and some write CRLF.
        PrivateKey::load(SEALED_ELSEWHERE.trim_end().as_bytes(), Some(b"known answer")).unwrap();
        PrivateKey::load(SEALED_ELSEWHERE.replace('\n', "\r\n").as_bytes(), Some(b"known answer")).unwrap();
    }

    #[test]
    fn debug_print_shows_no_secret() {
        let files = generate(b"pw").unwrap();
        let key = PrivateKey::load(files.private_pem.as_bytes(), Some(b"pw")).unwrap();
        assert!(format!("{key:?}").starts_with("PrivateKey(P256 sha256:"));
    }
}
