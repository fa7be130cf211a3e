//! Secrets that must be read again in, sealed bytes out: AES-256-GCM under a key that lies beside the database and not
//! in it. A copy of the database alone opens nothing.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;

/// The key. Clones share it.
#[derive(Clone)]
pub struct SealingKey(Arc<RandomizedNonceKey>);

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(…)")
    }
}

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file of the key.
    #[error("the key file cannot be read or made")]
    File(#[from] std::io::Error),
    /// The file is not a key.
    #[error("the key file does not hold {KEY_BYTES} bytes")]
    Key,
    /// It was sealed with another key or for another purpose, or was changed since; or there is no randomness.
    #[error("what is sealed cannot be opened with this key")]
    Opened,
}

impl SealingKey {
    /// Reads the key file, and makes it where there is none.
    ///
    /// # Errors
    /// Where it can neither be read nor made, or holds something else.
    pub fn open(path: &Path) -> Result<Self, SealError> {
        match fs::read(path) {
            Ok(bytes) => Self::new(&Zeroizing::new(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(error.into()),
        }
    }

    fn make(path: &Path) -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| SealError::Opened)?;
        // Beside it first: who dies in between must not find half a key at the next start.
        let made = path.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&made)?;
        file.write_all(bytes.as_slice())?;
        file.sync_all()?;
        fs::rename(&made, path)?;
        if let Some(folder) = path.parent() {
            fs::File::open(folder)?.sync_all()?;
        }
        Self::new(bytes.as_slice())
    }

    fn new(bytes: &[u8]) -> Result<Self, SealError> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| SealError::Key)?;
        Ok(Self(Arc::new(key)))
    }

    /// Seals for a purpose: what is sealed for one cannot be passed off for another.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut bytes = secret.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(purpose.as_bytes()), &mut bytes);
        let nonce = nonce.map_err(|_| SealError::Opened)?;
        Ok([nonce.as_ref().as_slice(), &bytes].concat())
    }

    /// Opens what was sealed for this purpose.
    ///
    /// # Errors
    /// [`SealError::Opened`].
    pub fn open_sealed(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, bytes) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Opened)?;
        let mut bytes = Zeroizing::new(bytes.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(purpose.as_bytes()), bytes.as_mut_slice());
        let length = opened.map_err(|_| SealError::Opened)?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_for_its_purpose_and_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.key");
        let key = SealingKey::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let sealed = key.seal("totp/a", b"seed").unwrap();
        let again = SealingKey::open(&path).unwrap();
        assert_eq!(again.open_sealed("totp/a", &sealed).unwrap().as_slice(), b"seed");
        assert!(again.open_sealed("totp/b", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(again.open_sealed("totp/a", &changed).is_err());
        }
        let other = SealingKey::open(&dir.path().join("other.key")).unwrap();
        assert!(other.open_sealed("totp/a", &sealed).is_err());
        assert_ne!(key.seal("totp/a", b"seed").unwrap(), sealed, "a nonce is used once");
        fs::write(&path, b"short").unwrap();
        assert!(matches!(SealingKey::open(&path), Err(SealError::Key)));
    }
}
