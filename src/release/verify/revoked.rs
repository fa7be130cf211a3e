//! What was proved, held against what was revoked since. A revocation is for good: it needs no clock.

use super::facts::{Facts, Signer};
use crate::release::artifact::Artifact;
use crate::release::trust::revocation::Revocations;
use crate::types::Reason;

/// Why an artifact that was proved is refused all the same: its digest, a statement about it or a signer was revoked.
pub fn revoked(artifact: &Artifact, facts: &Facts, revocations: &Revocations) -> Vec<Reason> {
    if revocations.is_empty() {
        return Vec::new();
    }
    let digests = artifact.digests().filter_map(|digest| revocations.check_digest(digest));
    let documents = facts
        .documents()
        .iter()
        .filter_map(|document| document.digest.as_ref()?.parse().ok())
        .filter_map(|digest| revocations.check_digest(&digest));
    let signatures = facts.signatures().iter().flat_map(|signature| {
        let signer = match &signature.signer {
            Signer::Certificate { identity, .. } => vec![revocations.check_identity(identity)],
            Signer::Key { fingerprint } => {
                vec![fingerprint.parse().ok().and_then(|digest| revocations.check_key(&digest))]
            }
            Signer::Openpgp { fingerprint, signing_key, .. } => {
                vec![revocations.check_openpgp(fingerprint), revocations.check_openpgp(signing_key)]
            }
        };
        let statement = signature
            .attestation
            .as_ref()
            .and_then(|attestation| attestation.payload_digest.parse().ok())
            .and_then(|digest| revocations.check_digest(&digest));
        signer.into_iter().flatten().chain(statement)
    });
    digests.chain(documents).chain(signatures).collect()
}
