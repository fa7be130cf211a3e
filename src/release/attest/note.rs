//! Signed notes: a log's size and root in, its checkpoint out, signed by the log's own Ed25519 key.
//! Source: C2SP `tlog-checkpoint` and `signed-note`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::{KeyError, PrivateKey};
use crate::release::evidence::merkle::Hash;
use crate::release::evidence::note::NoteKey;
use crate::types::Reason;

/// What signs the checkpoints of one log.
#[derive(Debug, Clone)]
pub struct NoteSigner {
    key: Arc<PrivateKey>,
    verifier: NoteKey,
}

impl NoteSigner {
    /// The signer of the log with this origin.
    ///
    /// # Errors
    /// `unsupported-algorithm` where the key is no Ed25519 key or the origin is no name.
    pub fn new(origin: &str, key: Arc<PrivateKey>) -> Result<Self, Reason> {
        let verifier = NoteKey::new(origin, key.public())?;
        Ok(Self { key, verifier })
    }

    /// By which others check what it signs.
    pub const fn verifier(&self) -> &NoteKey {
        &self.verifier
    }

    /// The checkpoint of the tree of this size and root.
    ///
    /// # Errors
    /// [`KeyError::Library`] where the library refuses to sign.
    pub fn checkpoint(&self, size: u64, root: &Hash) -> Result<String, KeyError> {
        let name = self.verifier.name();
        let text = format!("{name}\n{size}\n{}\n", STANDARD.encode(root));
        let signature = self.key.sign(text.as_bytes())?;
        let signed: Vec<u8> = self.verifier.hint().into_iter().chain(signature).collect();
        Ok(format!("{text}\n\u{2014} {name} {}\n", STANDARD.encode(signed)))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::Ed25519KeyPair;

    use super::*;
    use crate::release::evidence::checkpoint::Checkpoint;
    use crate::types::Code;

    fn signer(origin: &str) -> NoteSigner {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        NoteSigner::new(origin, Arc::new(PrivateKey::from_pkcs8(pkcs8.as_ref()).unwrap())).unwrap()
    }

    #[test]
    fn a_checkpoint_is_believed_by_its_own_key_and_by_no_other() {
        let own = signer("debvisor/here/audit");
        let note = own.checkpoint(7, &[9; 32]).unwrap();
        let checkpoint = Checkpoint::parse(&note).unwrap();
        assert_eq!((checkpoint.size, checkpoint.root), (7, [9; 32]));
        own.verifier().verify(&checkpoint).unwrap();
        // The key as it is printed and read back.
        own.verifier().to_string().parse::<NoteKey>().unwrap().verify(&checkpoint).unwrap();
        for other in [signer("debvisor/here/audit"), signer("debvisor/there/audit")] {
            assert_eq!(other.verifier().verify(&checkpoint).unwrap_err().code, Code::CheckpointInvalid.into());
        }
    }

    #[test]
    fn one_letter_more_or_less_in_a_checkpoint_is_noticed() {
        let own = signer("debvisor/here/audit");
        let note = own.checkpoint(7, &[9; 32]).unwrap();
        for changed in [note.replacen("\n7\n", "\n8\n", 1), note.replacen("\n7\n", "\n70\n", 1)] {
            let checkpoint = Checkpoint::parse(&changed).unwrap();
            assert!(own.verifier().verify(&checkpoint).is_err());
        }
        // Somebody else's signature beside it does no harm.
        let with_a_witness = format!("{note}\u{2014} witness {}\n", STANDARD.encode([1; 68]));
        own.verifier().verify(&Checkpoint::parse(&with_a_witness).unwrap()).unwrap();
    }

    #[test]
    fn only_a_plain_name_and_an_ed25519_key_make_a_signer() {
        assert!(NoteSigner::new("here", Arc::new(PrivateKey::ephemeral().unwrap())).is_err());
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Arc::new(PrivateKey::from_pkcs8(pkcs8.as_ref()).unwrap());
        for name in ["", "two words", "a+b"] {
            assert!(NoteSigner::new(name, key.clone()).is_err(), "{name}");
        }
    }
}
