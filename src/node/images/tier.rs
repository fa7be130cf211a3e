//! How reads of an image are proved: what this host offers and what the receipt says in; the best tier that both have,
//! and why no better one, out.
//!
//! The kernel's tiers are tried out once, when the store is opened. An image gets one at import, and only after all of
//! it was read back through it and held against the tree: what the kernel sealed is then what was hashed. Where a tier
//! cannot be used any more (another host, a copy without the seal), the block server's own tree is there and always
//! works; a seal over other bytes is no such case, but a changed image.
//! What each tier gives and what it does not: docs/adr/0011-verified-reads.md.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::source::{Proof, Source};
use super::verify::CHUNK_BYTES;
use super::{CONTENT, ImageRecord, ImageStore, changed, files, verity};
use crate::types::step::TierState;
use crate::types::vm::VerifiedReadTier;
use crate::types::{Digest, Reason};

/// The tiers of this host, the kernel's first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TierReport {
    /// The tier that an image gets that is imported now.
    pub active: VerifiedReadTier,
    /// Every tier.
    pub tiers: Vec<TierState>,
}

const BEFORE: &str = "the image was imported when the host did not offer it; delete and import it again";
const LOST: &str = "the image's file has lost its seal, as a copy does; delete and import it again";

impl ImageStore {
    /// What this host offers for the images of this store.
    pub fn tiers(&self) -> TierReport {
        let kernel = &self.inner.kernel;
        let state = |tier, found: &Result<(), String>| TierState { tier, absent: found.clone().err() };
        let tiers = vec![
            state(VerifiedReadTier::FsVerity, &kernel.files),
            state(VerifiedReadTier::DmVerity, &kernel.devices),
            state(VerifiedReadTier::BlockServer, &Ok(())),
        ];
        let active = tiers.iter().find(|state| state.absent.is_none()).map(|state| state.tier);
        TierReport { active: active.unwrap_or(VerifiedReadTier::BlockServer), tiers }
    }

    /// How an image's reads are proved, and why not by a better tier; nothing for what is not read by block. Nothing is
    /// measured: what is served says it again.
    pub fn tier_of(&self, record: &ImageRecord) -> Option<TierState> {
        if !record.kind.is_block_device() {
            return None;
        }
        let kernel = &self.inner.kernel;
        let folder = self.folder(&record.digest).ok()?;
        let sealed = || files::open(&folder.join(CONTENT)).is_ok_and(|file| verity::is_sealed(&file));
        let state = |tier, absent: Option<&str>| Some(TierState { tier, absent: absent.map(str::to_owned) });
        match (&record.fs_verity, &record.dm_verity) {
            (Some(_), _) if sealed() => state(VerifiedReadTier::FsVerity, None),
            (Some(_), _) => state(VerifiedReadTier::BlockServer, Some(LOST)),
            (_, Some(_)) => match &kernel.devices {
                Ok(()) => state(VerifiedReadTier::DmVerity, kernel.files.as_ref().err().map(String::as_str)),
                Err(why) => state(VerifiedReadTier::BlockServer, Some(why)),
            },
            _ => state(VerifiedReadTier::BlockServer, Some(&self.unsealed(record))),
        }
    }

    /// Measures an image again where the kernel can: a permit is given for what is sealed now.
    ///
    /// # Errors
    /// `image-changed`, and the image is quarantined; `store-failed`.
    pub fn measure(&self, record: &ImageRecord) -> Result<(), Reason> {
        let Some(sealed) = &record.fs_verity else { return Ok(()) };
        let content = self.content(&self.folder(&record.digest)?, record);
        let measured = content.and_then(|content| by_file(&content, sealed, record).map(drop));
        measured.inspect_err(|reason| self.distrust(&record.digest, reason))
    }

    /// Why an image has no seal of the kernel's.
    fn unsealed(&self, record: &ImageRecord) -> String {
        match (&self.inner.kernel.files, &self.inner.kernel.devices) {
            (Ok(()), _) => BEFORE.to_owned(),
            (_, Ok(())) if !record.bytes.is_multiple_of(4096) || record.bytes < 8192 => {
                "dm-verity needs two or more whole blocks of 4 KiB".to_owned()
            }
            (_, Ok(())) => BEFORE.to_owned(),
            (Err(files), Err(devices)) => format!("{files}; {devices}"),
        }
    }

    /// Opens an image by the best tier that it and the host have.
    pub(super) fn source(&self, folder: &Path, record: &ImageRecord) -> Result<Source, Reason> {
        let content = self.content(folder, record)?;
        let mut absent = None;
        if let Some(sealed) = &record.fs_verity {
            match by_file(&content, sealed, record)? {
                Ok(()) => {
                    return Ok(Source { content, proof: Proof::Kernel(VerifiedReadTier::FsVerity, None), absent });
                }
                Err(why) => absent = Some(why),
            }
        } else if let Some(root) = &record.dm_verity {
            let kernel = &self.inner.kernel;
            let mapped = kernel.devices.clone().and_then(|()| {
                let (content, hashes) = (folder.join(CONTENT), folder.join(verity::HASHES));
                let mapping = kernel.map(&content, &hashes, record.bytes, root).map_err(|error| error.to_string())?;
                let device = File::open(mapping.path()).map_err(|error| format!("the mapped device: {error}"))?;
                Ok((device, mapping))
            });
            match mapped {
                Ok((device, mapping)) => {
                    let proof = Proof::Kernel(VerifiedReadTier::DmVerity, Some(mapping));
                    return Ok(Source { content: device, proof, absent: kernel.files.clone().err() });
                }
                Err(why) => absent = Some(format!("dm-verity: {why}")),
            }
        }
        let absent = absent.or_else(|| Some(self.unsealed(record)));
        Ok(Source { content, proof: Proof::Tree(self.tree(folder, record)?), absent })
    }

    /// Has the kernel seal an image that is being imported, where it can. What it then gives is held against the tree
    /// to the last byte: between being hashed and being sealed the file could have been changed.
    pub(super) fn harden(&self, folder: &Path, record: ImageRecord) -> Result<ImageRecord, Reason> {
        let kernel = &self.inner.kernel;
        if !record.kind.is_block_device() || (kernel.files.is_err() && kernel.devices.is_err()) {
            return Ok(record);
        }
        let (content, hashes) = (folder.join(CONTENT), folder.join(verity::HASHES));
        let sealed = if kernel.files.is_ok() {
            verity::seal(&content).map(|digest| ImageRecord { fs_verity: Some(digest), ..record.clone() })
        } else {
            verity::map_format(&content, &hashes, record.bytes).and_then(|root| {
                fs::set_permissions(&hashes, Permissions::from_mode(0o444))?;
                File::open(&hashes)?.sync_all()?;
                Ok(ImageRecord { dm_verity: Some(root), ..record.clone() })
            })
        };
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::warn!("{} is read by its own tree alone: {error}", record.digest);
                let _ = fs::remove_file(&hashes);
                return Ok(record);
            }
        };
        let source = self.source(folder, &sealed)?;
        let tree = self.tree(folder, &record)?;
        let unlike = || changed(&record.digest, "was changed while it was imported").evidence(CONTENT);
        source.read_all(&sealed, CHUNK_BYTES, &mut |first, blocks| tree.prove(first, blocks)).map_err(|_| unlike())?;
        Ok(sealed)
    }
}

/// Whether this file is the one that was sealed; else why the seal cannot be used. A seal over other bytes is an error.
fn by_file(content: &File, sealed: &Digest, record: &ImageRecord) -> Result<Result<(), String>, Reason> {
    match verity::measure(content) {
        Ok(Some(measured)) if measured == *sealed => Ok(Ok(())),
        Ok(Some(measured)) => {
            let what = format!("measures {measured} by fs-verity; it was {sealed} at import");
            Err(changed(&record.digest, &what).evidence(CONTENT))
        }
        Ok(None) => Ok(Err(LOST.to_owned())),
        Err(error) => Ok(Err(format!("fs-verity: {error}"))),
    }
}
