//! Images in registries that somebody asks a node about: a reference in; the image's manifest and what is attached to
//! it, parsed, out.
//!
//! Invariant: no registry is asked that the configuration does not name, so that whoever may ask a question cannot
//! send this host to an address of their choice.

use std::path::PathBuf;
use std::time::Duration;

use crate::clients::registry::credentials;
use crate::clients::registry::{Options, Reference, Repository};
use crate::release::admit::Evidence;
use crate::release::artifact::Artifact;
use crate::release::collect::image;
use crate::release::evidence::document::Document;
use crate::release::verify::Offered;
use crate::types::{Code, Reason};

/// The registries that may be asked.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// As `registry.example` or `registry.example:5000`; `docker.io` is Docker's.
    pub allowed: Vec<String>,
    /// Where `docker login` keeps credentials.
    pub docker_config: Option<PathBuf>,
}

impl Registries {
    /// An image by digest, and what speaks for it.
    ///
    /// # Errors
    /// `image-not-by-digest`, `registry-not-allowed`, or what the registry said.
    pub async fn find(&self, text: &str, within: Duration) -> Result<(Artifact, Evidence), Reason> {
        let reference = self.reference(text)?;
        let options =
            Options { credentials: self.credentials(&reference).await?, timeout: within, ..Options::default() };
        let told = |error| image::reason(&error);
        let repository = Repository::connect(&reference, options).await.map_err(told)?;
        let found = image::resolve(&repository, &reference, text).await?;
        let attached = image::evidence(&repository, &found.digest).await;
        let mut reasons = attached.reasons;
        let mut evidence = Evidence::default();
        for document in attached.documents {
            let offered = Offered::all_attached(&document.signatures, &mut reasons);
            match Document::attached(&document.attached) {
                Ok(parsed) => {
                    let file = Artifact::from_bytes(&document.attached.name, &document.attached.bytes);
                    evidence.attach_document(file, parsed, document.holder, offered);
                }
                Err(reason) => reasons.push(reason),
            }
        }
        let offered = Offered::all_attached(&attached.attached, &mut reasons);
        evidence.attach(offered, reasons);
        Ok((found.artifact, evidence))
    }

    /// The reference, where it is one that is asked about.
    fn reference(&self, text: &str) -> Result<Reference, Reason> {
        let by_tag = |message: String| Reason::new(Code::ImageNotByDigest, message);
        let reference: Reference = text.parse().map_err(|error| by_tag(format!("`{text}` names no image: {error}")))?;
        if reference.digest().is_none() {
            return Err(by_tag(format!("`{text}` names no digest, and a tag may mean another image tomorrow")));
        }
        let registry = reference.registry();
        if self.allowed.iter().any(|allowed| allowed == registry) {
            return Ok(reference);
        }
        let message = format!("`{text}` is in the registry {registry}, which the configuration does not name");
        Err(Reason::new(Code::RegistryNotAllowed, message))
    }

    async fn credentials(&self, reference: &Reference) -> Result<Option<credentials::Credentials>, Reason> {
        let Some(dir) = &self.docker_config else { return Ok(None) };
        let stored = credentials::stored(dir, reference.registry()).await;
        stored.map_err(|error| Reason::new(Code::RegistryRefused, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_image_by_tag_or_in_a_registry_that_nobody_named_is_refused_before_anything_is_asked() {
        let registries = Registries { allowed: vec!["registry.example".to_owned()], docker_config: None };
        let digest = format!("sha256:{}", "0".repeat(64));
        let cases = [
            ("registry.example/app:v1".to_owned(), Code::ImageNotByDigest),
            ("nginx".to_owned(), Code::ImageNotByDigest),
            ("registry.example/UPPER".to_owned(), Code::ImageNotByDigest),
            (format!("169.254.169.254/latest@{digest}"), Code::RegistryNotAllowed),
            (format!("registry.example.attacker.example/app@{digest}"), Code::RegistryNotAllowed),
            (format!("nginx@{digest}"), Code::RegistryNotAllowed),
        ];
        for (text, code) in cases {
            let reason = registries.find(&text, Duration::from_secs(1)).await.unwrap_err();
            assert_eq!(reason.code, code.into(), "{text}: {reason}");
        }
    }
}
