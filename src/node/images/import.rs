//! Import: bytes in, once and in order; an image in the store, or nothing at all, out.

use std::io::Read;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Expected, ImageStore, Imported, UploadState, unfinished};
use crate::types::{Code, Digest, Reason};

impl ImageStore {
    /// Imports everything that the reader has. `seen` is told the bytes copied so far.
    ///
    /// # Errors
    /// `digest-mismatch`, `input-too-large`, `image-kind`, `store-full`, `store-failed`, `subject-unreadable` where the
    /// reader fails, and what the inspection of a disk image says. Nothing is left behind.
    pub fn import(
        &self,
        _reader: impl Read + Send,
        expected: Expected,
        _now: Timestamp,
        _seen: &(dyn Fn(u64) + Sync),
    ) -> Result<Imported, Reason> {
        Err(unfinished(&expected.digest.unwrap_or_else(|| Digest::sha256(b""))))
    }

    /// Begins an upload that comes in pieces, and may go on after either side died.
    ///
    /// # Errors
    /// `store-full`, `store-failed`, `input-too-large`.
    pub fn upload_begin(&self, _expected: Expected) -> Result<UploadState, Reason> {
        Err(unknown(Uuid::nil()))
    }

    /// How far an upload is.
    ///
    /// # Errors
    /// `upload-unknown`.
    pub fn upload_state(&self, id: Uuid) -> Result<UploadState, Reason> {
        Err(unknown(id))
    }

    /// Every upload that has not ended.
    ///
    /// # Errors
    /// `store-failed`.
    pub fn upload_list(&self) -> Result<Vec<UploadState>, Reason> {
        Ok(Vec::new())
    }

    /// Adds the next piece, at most 64 MiB, which must begin where the upload stands.
    ///
    /// # Errors
    /// `upload-unknown`, `upload-offset`, `input-too-large`, `store-full`, `store-failed`. The upload stays.
    pub fn upload_append(&self, id: Uuid, _offset: u64, _piece: &[u8]) -> Result<UploadState, Reason> {
        Err(unknown(id))
    }

    /// Makes an image of the upload.
    ///
    /// # Errors
    /// As [`Self::import`]. A refused upload is gone.
    pub fn upload_finish(&self, id: Uuid, _now: Timestamp) -> Result<Imported, Reason> {
        Err(unknown(id))
    }

    /// Gives an upload up and removes what is here of it.
    ///
    /// # Errors
    /// `upload-unknown`, `store-failed`.
    pub fn upload_abort(&self, id: Uuid) -> Result<(), Reason> {
        Err(unknown(id))
    }
}

fn unknown(id: Uuid) -> Reason {
    Reason::new(Code::UploadUnknown, format!("there is no upload {id}"))
}
