//! The node's own key: a file in its state directory in, what signs the node's statements out.
//!
//! It is made when the node first starts, is readable by its owner alone, and never leaves the node. With it the node
//! signs what it saw when it imported an image; who can write the image store but not this file can forge none of it.
//! Invariant: a key file that others may read, or that is no regular file of ours, is refused and never mended.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use zeroize::Zeroizing;

use crate::release::attest::key::{KeyError, PrivateKey};
use crate::release::evidence::key::PublicKey;
use crate::types::limits;

/// The node's key. Clones share it.
#[derive(Debug, Clone)]
pub struct NodeKey(Arc<PrivateKey>);

/// Why there is no node key.
#[derive(Debug, thiserror::Error)]
pub enum NodeKeyError {
    /// The file could not be read or made.
    #[error("node key {}: {cause}", path.display())]
    Io {
        /// The key file.
        path: PathBuf,
        /// What failed.
        cause: io::Error,
    },
    /// Others than its owner may read or write it, or it belongs to somebody else.
    #[error("node key {}: mode {mode:03o}, owner {owner}: it must be a regular file of the node's own user, mode 600", path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        owner: u32,
    },
    /// It holds no key.
    #[error("node key {}: {cause}", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        cause: KeyError,
    },
}

impl NodeKey {
    /// Reads the key, or makes one where the file is not there yet.
    ///
    /// # Errors
    /// A [`NodeKeyError`]; a file that is there and holds no key is never replaced.
    pub fn open(path: &Path) -> Result<Self, NodeKeyError> {
        let p256 = || {
            let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
            made.map(|pkcs8| Zeroizing::new(pkcs8.as_ref().to_vec()))
        };
        open(path, p256)
    }

    /// The same for a key that signs notes: Ed25519.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_for_notes(path: &Path) -> Result<Self, NodeKeyError> {
        let ed25519 = || {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
            made.map(|pkcs8| Zeroizing::new(pkcs8.as_ref().to_vec()))
        };
        open(path, ed25519)
    }

    /// The key itself, for what signs with it elsewhere in this process.
    pub fn shared(&self) -> Arc<PrivateKey> {
        self.0.clone()
    }

    /// A key for tests and for nodes that keep nothing.
    ///
    /// # Errors
    /// [`KeyError::Library`] where randomness fails.
    pub fn ephemeral() -> Result<Self, KeyError> {
        PrivateKey::ephemeral().map(|key| Self(Arc::new(key)))
    }

    /// The public half, by which others know the node.
    pub fn public(&self) -> &PublicKey {
        self.0.public()
    }

    /// The key itself, for what is signed in this room.
    pub(super) fn private(&self) -> &PrivateKey {
        &self.0
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// [`KeyError::Library`] where randomness fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.0.sign(message)
    }
}

fn open(path: &Path, generate: impl Fn() -> Result<Zeroizing<Vec<u8>>, Unspecified>) -> Result<NodeKey, NodeKeyError> {
    match read(path) {
        Err(NodeKeyError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
            make(path, generate)?;
            read(path)
        }
        other => other,
    }
}

fn read(path: &Path) -> Result<NodeKey, NodeKeyError> {
    let io_error = |cause| NodeKeyError::Io { path: path.to_owned(), cause };
    // No link is followed: what is judged is what is read.
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(no_follow).open(path).map_err(io_error)?;
    let found = file.metadata().map_err(io_error)?;
    let (mode, owner) = (found.mode() & 0o777, found.uid());
    if !found.is_file() || mode & 0o077 != 0 || owner != rustix::process::geteuid().as_raw() {
        return Err(NodeKeyError::Exposed { path: path.to_owned(), mode, owner });
    }
    let mut pem = Zeroizing::new(Vec::new());
    io::Read::read_to_end(&mut io::Read::take(file, limits::KEY_BYTES + 1), &mut pem).map_err(io_error)?;
    PrivateKey::load(&pem, None)
        .map(|key| NodeKey(Arc::new(key)))
        .map_err(|cause| NodeKeyError::Key { path: path.to_owned(), cause })
}

/// Writes a new key beside its name and gives it the name last, so that half a key is never there.
fn make(path: &Path, generate: impl Fn() -> Result<Zeroizing<Vec<u8>>, Unspecified>) -> Result<(), NodeKeyError> {
    let io_error = |cause| NodeKeyError::Io { path: path.to_owned(), cause };
    let failed = |cause| NodeKeyError::Key { path: path.to_owned(), cause };
    let pkcs8 = generate().map_err(|_| failed(KeyError::Library("no key could be made")))?;
    let pem = pem_rfc7468::encode_string("PRIVATE KEY", pem_rfc7468::LineEnding::LF, &pkcs8)
        .map(Zeroizing::new)
        .map_err(|error| failed(KeyError::Pem(error.to_string())))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".node-key-").tempfile_in(directory).map_err(io_error)?;
    file.write_all(pem.as_bytes()).map_err(io_error)?;
    file.as_file().sync_all().map_err(io_error)?;
    match file.persist_noclobber(path) {
        // Another start was quicker; its key is the node's.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_error(error.error)),
        Ok(_) => File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_key_is_made_once_and_signs_the_same_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        let first = NodeKey::open(&path).unwrap();
        let again = NodeKey::open(&path).unwrap();
        assert_eq!(first.public(), again.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        again.public().verify(b"message", &first.sign(b"message").unwrap()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        NodeKey::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(NodeKey::open(&path), Err(NodeKeyError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn a_link_in_place_of_the_key_or_a_damaged_key_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        NodeKey::open(&path).unwrap();
        let link = directory.path().join("link.key");
        symlink(&path, &link).unwrap();
        assert!(matches!(NodeKey::open(&link), Err(NodeKeyError::Io { .. })));
        fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        assert!(matches!(NodeKey::open(&path), Err(NodeKeyError::Key { .. })));
        assert!(fs::read_to_string(&path).unwrap().contains("AAAA"));
    }
}
