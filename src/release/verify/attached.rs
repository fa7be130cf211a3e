//! What is attached to an image, in; bundles to judge, out. Whatever form it came in, it is held to the same steps.
//!
//! A cosign signature without a bundle is over a text that names the image. Steps 1 to 9 are over that text; step 10 is
//! that the text names this image.

use super::{Code, Offered, Reason, Verified, Verifier, fits};
use crate::release::artifact::Artifact;
use crate::release::evidence::bundle;
use crate::release::evidence::image::{Attached, Kind};
use crate::release::evidence::key::PublicKey;
use crate::release::evidence::simple_signing;

impl Offered {
    /// Reads what is attached to an image: every bundle, signature or envelope in it; nothing of a document.
    ///
    /// # Errors
    /// The reason why it is refused, naming it.
    pub fn attached(attached: &Attached) -> Result<Vec<Self>, Reason> {
        let name = attached.name.as_str();
        let read = match attached.kind {
            Kind::Sbom | Kind::Vex => Ok(Vec::new()),
            Kind::Bundle => bundle::Bundle::parse(&attached.bytes).map(|bundle| vec![Self::new(name, bundle)]),
            Kind::Envelope => simple_signing::attestation(&attached.bytes, &attached.annotations)
                .map(|bundle| vec![Self::new(name, bundle)]),
            Kind::SimpleSigning => {
                simple_signing::signature(&attached.bytes, &attached.annotations).map(|(payload, bundle)| {
                    let claimed = vec![payload.digest.clone()];
                    let signed = Artifact::from_bytes(name, &attached.bytes);
                    vec![Self { claimed, payload: Some((payload, signed)), ..Self::new(name, bundle) }]
                })
            }
        };
        read.map_err(|reason| reason.evidence(name))
    }

    /// What all of these offer; why one cannot be read joins `reasons`.
    pub fn all_attached(attached: &[Attached], reasons: &mut Vec<Reason>) -> Vec<Self> {
        let mut all = Vec::new();
        for one in attached {
            match Self::attached(one) {
                Ok(offered) => all.extend(offered),
                Err(reason) => reasons.push(reason),
            }
        }
        all
    }
}

impl Verifier<'_> {
    /// Steps 1 to 10 for a signature over a text that names the artifact.
    pub(super) fn payload(&self, artifact: &Artifact, offer: &Offered) -> Result<Verified, Reason> {
        let Some((payload, signed)) = &offer.payload else {
            return Err(Reason::new(Code::InternalError, "a signature over a text was judged without the text"));
        };
        let verified = offer.verified.get_or_init(|| self.verified(offer, Some(signed))).clone()?;
        if artifact.digest(payload.digest.algorithm()) != Some(&payload.digest) {
            let known: Vec<String> = artifact.digests().map(ToString::to_string).collect();
            let message = format!("it signs the image {}, and this is {}", payload.digest, known.join(", "));
            return Err(Reason::new(Code::SubjectMismatch, message).location("critical.image.docker-manifest-digest"));
        }
        Ok(verified)
    }
}

/// Step 8 for a text that names the artifact: the signature is over the text as it stands.
pub(super) fn payload_signature(key: &PublicKey, text: &Artifact, signature: &[u8]) -> Result<(), Reason> {
    if text.bytes.as_deref().is_some_and(|bytes| fits(key, bytes, signature)) {
        return Ok(());
    }
    Err(Reason::new(Code::SignatureInvalid, "the signature does not fit the text that names the image")
        .location("dev.cosignproject.cosign/signature"))
}
