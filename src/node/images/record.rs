//! What the node knows of an image: the bytes that it saw at import in, a receipt under its own key out, and back.
//!
//! The receipt joins what was decided about (SHA-256 of the whole) to what reading is held against (the root of the
//! tree over the blocks). Without the node's key neither a new image can be slipped in nor the tree of another one put
//! beside this one's bytes. It is a DSSE envelope, written once and never changed.
//! Invariant: what a receipt says is believed only behind its signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::node::key::NodeKey;
use crate::release::evidence::bundle::pre_authentication_encoding;
use crate::release::evidence::json::{self, base64_bytes};
use crate::types::vm::ArtifactKind;
use crate::types::{Code, Digest, Reason, limits};

/// How an image's bytes make what a machine sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// The bytes themselves.
    Raw,
    /// QEMU's copy-on-write format, without any other file behind it.
    Qcow2,
}

impl ImageFormat {
    /// The name of QEMU's block driver for it; always given, so that QEMU never guesses.
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// An image of the store, as it was when it was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageRecord {
    /// SHA-256 of its bytes: its name everywhere.
    pub digest: Digest,
    /// SHA-512 of them, hashed in the same pass: some evidence and some revocations know it by that. Nothing in receipts
    /// of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<Digest>,
    /// What it is to a machine.
    pub kind: ArtifactKind,
    /// How its bytes make what a machine sees.
    pub format: ImageFormat,
    /// Its length in bytes.
    pub bytes: u64,
    /// The size that a machine sees, in bytes; its length but for a qcow2.
    pub virtual_bytes: u64,
    /// Root of the Merkle tree over its blocks.
    pub tree_root: Digest,
    /// Length of a block of that tree, in bytes.
    pub block_bytes: u32,
    /// What its file measures, where the kernel's fs-verity proves each page of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_verity: Option<Digest>,
    /// Root of the tree by which the kernel's dm-verity proves each block of it: version 1, SHA-256 over 4 KiB, no salt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dm_verity: Option<Digest>,
    /// What whoever imported it called it; a file's name mostly. Nothing is decided by it.
    pub name: String,
    /// When it was imported.
    #[schema(value_type = String, format = DateTime)]
    pub imported_at: Timestamp,
}

const PAYLOAD_TYPE: &str = "application/vnd.debvisor.image-receipt.v1+json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    sig: String,
}

impl ImageRecord {
    /// Every digest that it is known by.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(&self.digest).chain(&self.sha512)
    }

    /// The receipt: this record under the node's signature.
    ///
    /// # Errors
    /// `internal-error` where the key refuses to sign.
    pub(super) fn to_receipt(&self, key: &NodeKey) -> Result<Vec<u8>, Reason> {
        let failed = |error: &dyn std::fmt::Display| {
            Reason::new(Code::InternalError, format!("the receipt of {} could not be signed: {error}", self.digest))
        };
        let payload = serde_json::to_vec(self).map_err(|error| failed(&error))?;
        let signature =
            key.sign(&pre_authentication_encoding(PAYLOAD_TYPE, &payload)).map_err(|error| failed(&error))?;
        let envelope = Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(payload),
            signatures: vec![Signature {
                keyid: key.public().fingerprint().to_string(),
                sig: STANDARD.encode(signature),
            }],
        };
        serde_json::to_vec(&envelope).map_err(|error| failed(&error))
    }

    /// Reads the receipt of `digest` back.
    ///
    /// # Errors
    /// `image-receipt-invalid` where it is not this node's, was changed, or is another image's.
    pub(super) fn from_receipt(bytes: &[u8], key: &NodeKey, digest: &Digest) -> Result<Self, Reason> {
        let invalid = |what: &str| {
            Reason::new(Code::ImageReceiptInvalid, format!("the receipt of {digest} {what}")).evidence("receipt.json")
        };
        if bytes.len() as u64 > limits::IMAGE_RECEIPT_BYTES {
            return Err(invalid("is larger than any that this node writes"));
        }
        let envelope: Envelope = json::parse(bytes, Code::ImageReceiptInvalid)
            .map_err(|reason| invalid(&format!("does not parse: {}", reason.message)))?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(invalid("is of another type"));
        }
        let [signature] = envelope.signatures.as_slice() else { return Err(invalid("has not exactly one signature")) };
        // What is not signed is compared, so that no byte of a receipt can be another one.
        if signature.keyid != key.public().fingerprint().to_string() {
            return Err(invalid("names another key"));
        }
        let decoded = (base64_bytes::decode(&envelope.payload), base64_bytes::decode(&signature.sig));
        let (Some(payload), Some(signature)) = decoded else { return Err(invalid("is not base64")) };
        key.public()
            .verify(&pre_authentication_encoding(PAYLOAD_TYPE, &payload), &signature)
            .map_err(|_| invalid("is not signed by this node's key"))?;
        let record: Self = json::parse(&payload, Code::ImageReceiptInvalid)
            .map_err(|reason| invalid(&format!("is signed and does not parse: {}", reason.message)))?;
        if record.digest != *digest {
            return Err(invalid(&format!("is that of {}", record.digest)));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tree::{Form, TreeWriter};
    use super::super::{ImageStore, SocketAt};
    use super::*;

    /// An image as the first version imported it: leaves of SHA-256 over 4 KiB, and a receipt that knows no more.
    fn earlier(root: &std::path::Path, key: &NodeKey, bytes: &[u8]) -> ImageRecord {
        let digest = Digest::sha256(bytes);
        let folder = root.join("sha256").join(&digest.to_hex()[..2]).join(digest.to_hex());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("content"), bytes).unwrap();
        let file = super::super::files::create(&folder.join("tree")).unwrap();
        let mut tree = TreeWriter::new(file, Form::Sha256).unwrap();
        tree.update(bytes).unwrap();
        let root = crate::types::DigestAlgorithm::Sha256;
        let tree_root = Digest::new(root, &tree.finish().unwrap()).unwrap();
        let length = bytes.len() as u64;
        let record = ImageRecord {
            digest,
            sha512: None,
            kind: ArtifactKind::Disk,
            format: ImageFormat::Raw,
            bytes: length,
            virtual_bytes: length,
            tree_root,
            block_bytes: 4096,
            fs_verity: None,
            dm_verity: None,
            name: "disk.raw".to_owned(),
            imported_at: Timestamp::UNIX_EPOCH,
        };
        let receipt = record.to_receipt(key).unwrap();
        let payload = json::parse::<Envelope>(&receipt, Code::ImageReceiptInvalid).unwrap().payload;
        let said: serde_json::Value = serde_json::from_slice(&base64_bytes::decode(&payload).unwrap()).unwrap();
        assert_eq!(said.as_object().unwrap().len(), 9, "it says what the first version said: {said}");
        fs::write(folder.join("receipt.json"), receipt).unwrap();
        record
    }

    #[test]
    fn an_image_of_the_first_version_is_proved_as_before() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("images");
        let key = || NodeKey::open(&place.path().join("node.key")).unwrap();
        let bytes: Vec<u8> = (0..3_000_001_u32).map(|at| (at % 253) as u8).collect();
        let record = earlier(&root, &key(), &bytes);
        let store = ImageStore::open(&root, key()).unwrap();
        assert_eq!(store.verify(&record.digest, &|_| ()).unwrap(), record);
        let mut seen = Vec::new();
        store.read_through(&record, &mut |piece| seen.extend_from_slice(piece)).unwrap();
        assert!(seen == bytes);
        let serve = || {
            let (alarms, _) = tokio::sync::mpsc::channel(1);
            let at = SocketAt { path: place.path().join("socket"), owner: None };
            store.serve(&record.digest, &record.tree_root, &at, alarms)
        };
        assert_eq!(serve().unwrap().tier(), crate::types::vm::VerifiedReadTier::BlockServer);
        // One changed byte is found where it is, in blocks of 4 KiB.
        let folder = root.join("sha256").join(&record.digest.to_hex()[..2]).join(record.digest.to_hex());
        // The store froze it when it was opened; a copy in its place is not frozen.
        let changed: Vec<u8> = bytes.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 1_000_000)).collect();
        if let Ok(file) = fs::File::open(folder.join("content"))
            && let Ok(flags) = rustix::fs::ioctl_getflags(&file)
        {
            let _ = rustix::fs::ioctl_setflags(&file, flags - rustix::fs::IFlags::IMMUTABLE);
        }
        fs::remove_file(folder.join("content")).unwrap();
        fs::write(folder.join("content"), changed).unwrap();
        let reason = store.read_through(&record, &mut |_| ()).unwrap_err();
        assert_eq!(reason.code.known(), Some(Code::ImageChanged));
        assert_eq!(reason.location.as_deref(), Some("block 244 at byte 999424"));
        assert_eq!(serve().unwrap_err().code.known(), Some(Code::ImageQuarantined));
        store.delete(&record.digest).unwrap();
    }
}
