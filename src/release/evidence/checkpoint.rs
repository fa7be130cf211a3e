//! Checkpoints: a log's signed promise of its size and root, as a signed note.
//!
//! Source: C2SP `tlog-checkpoint` and `signed-note`. Whether a signature is the log's own is not decided here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::merkle::Hash;
use crate::types::{Code, Reason, limits};

/// A checkpoint, sound in form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, which is the first line.
    pub origin: String,
    /// Leaves in the tree.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
    /// Signatures by the log and by witnesses.
    pub signatures: Vec<NoteSignature>,
    /// The text that was signed, with its last line feed.
    pub signed_text: String,
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Who claims to have signed.
    pub name: String,
    /// The first four bytes of the key's id.
    pub hint: [u8; 4],
    /// The signature.
    pub signature: Vec<u8>,
}

impl Checkpoint {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// `checkpoint-malformed` or `input-too-large`.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        if text.len() > limits::CHECKPOINT_BYTES {
            return Err(Reason::new(
                Code::InputTooLarge,
                format!("a checkpoint has at most {} bytes", limits::CHECKPOINT_BYTES),
            ));
        }
        let malformed = |what: &str| Reason::new(Code::CheckpointMalformed, format!("the checkpoint {what}"));
        // The signatures follow the last empty line, so that no text can pass for one (C2SP signed-note).
        let split = text.rfind("\n\n").ok_or_else(|| malformed("has no signatures"))?;
        let (body, rest) = text.split_at(split);
        let signed_text = format!("{body}\n");
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or_else(|| malformed("has no origin"))?;
        let size = lines
            .next()
            .filter(|line| line.bytes().all(|byte| byte.is_ascii_digit()) && (*line == "0" || !line.starts_with('0')))
            .and_then(|line| line.parse().ok())
            .ok_or_else(|| malformed("has no tree size on its second line"))?;
        let root = lines
            .next()
            .and_then(|line| STANDARD.decode(line).ok())
            .and_then(|root| Hash::try_from(root.as_slice()).ok())
            .ok_or_else(|| malformed("has no root hash of 32 bytes on its third line"))?;
        let signature_lines: Vec<&str> = rest.trim_start_matches('\n').lines().collect();
        if signature_lines.len() > limits::CHECKPOINT_SIGNATURES {
            return Err(Reason::new(
                Code::InputTooLarge,
                format!("a checkpoint has at most {} signatures", limits::CHECKPOINT_SIGNATURES),
            ));
        }
        let signatures = signature_lines
            .into_iter()
            .map(|line| signature(line).ok_or_else(|| malformed("has a malformed signature line")))
            .collect::<Result<Vec<_>, _>>()?;
        if signatures.is_empty() {
            return Err(malformed("has no signatures"));
        }
        Ok(Self { origin: origin.to_owned(), size, root, signatures, signed_text })
    }
}

fn signature(line: &str) -> Option<NoteSignature> {
    let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (hint, signature) = bytes.split_first_chunk::<4>()?;
    let named = !name.is_empty() && !name.contains(|letter: char| letter.is_whitespace() || letter == '+');
    (named && !signature.is_empty()).then(|| NoteSignature {
        name: name.to_owned(),
        hint: *hint,
        signature: signature.to_vec(),
    })
}
